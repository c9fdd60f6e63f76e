/*
 * test_cache.c - what cache.h documents, sentence by sentence.
 *
 * SPDX-License-Identifier: MIT
 */
static int n_asserts; /* failed CACHE_ASSERTs: calls that were refused */
#define CACHE_ASSERT(condition) ((condition) ? (void)0 : (void)n_asserts++)

#include "cache.h"
#include "tests/test.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* --- the world around a cache: clock, allocator, callbacks --------------- */

static int the_user; /* config.user: every hook and callback must get it */

static uint64_t now_ms;
static int n_clock_reads;

static uint64_t clock_now(void *user)
{
    CHECK(user == &the_user);
    n_clock_reads++;
    return now_ms;
}

static struct {
    int allocs, frees;
    size_t bytes;   /* of the latest allocation */
    void *memory;   /* its result */
    bool exhausted; /* return NULL */
} heap;

/* Memory with the worst content there is. */
static void *heap_alloc(size_t bytes, void *user)
{
    CHECK(user == &the_user);
    heap.allocs++;
    heap.bytes = bytes;
    heap.memory = heap.exhausted ? NULL : malloc(bytes);
    if (heap.memory != NULL)
        memset(heap.memory, 0xa5, bytes);
    return heap.memory;
}

static void heap_free(void *memory, void *user)
{
    CHECK(user == &the_user);
    CHECK(memory == heap.memory);
    heap.frees++;
    free(memory);
}

/* What on_remove told, in order. */
static struct event {
    uint64_t key, value;
    enum cache_cause cause;
} events[128];
static int n_events;

static void (*in_callback)(void); /* called by every callback if not NULL */

static void callback_runs(void *user)
{
    CHECK(user == &the_user);
    if (in_callback != NULL)
        in_callback();
}

static void note_event(uint64_t key, uint64_t value, enum cache_cause cause)
{
    CHECK(n_events < (int)COUNT_OF(events));
    events[n_events].key = key;
    events[n_events].value = value;
    events[n_events].cause = cause;
    n_events++;
}

/* Exactly one event since the last call, and this one. */
static void check_event(uint64_t key, uint64_t value, enum cache_cause cause)
{
    CHECK_EQ(n_events, 1);
    CHECK_EQ(events[0].key, key);
    CHECK_EQ(events[0].value, value);
    CHECK_EQ(events[0].cause, cause);
    n_events = 0;
}

/* Each test starts here. */
static struct cache_config fresh_config(size_t capacity)
{
    struct cache_config config;

    memset(&config, 0, sizeof config);
    memset(&heap, 0, sizeof heap);
    n_asserts = n_events = n_clock_reads = 0;
    in_callback = NULL;
    now_ms = 1000;
    config.capacity = capacity;
    config.seed = test_seed;
    config.now = clock_now;
    config.user = &the_user;
    return config;
}

/* --- the types under test ------------------------------------------------ */

static void nums_left(const uint64_t *key, uint64_t *value,
                      enum cache_cause cause, void *user)
{
    note_event(*key, *value, cause);
    callback_runs(user);
}

/* Everything but keys of its own. */
CACHE_DEFINE_WITH(nums, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_LRU | CACHE_EXPIRY | CACHE_STATS,
                  .on_remove = nums_left);

/* Nothing: no feature, no callback. */
CACHE_DEFINE(plain, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE);

/* Keys of its own.  Copies and frees are counted: their difference lives. */
static struct {
    int copies, frees;
    int fail; /* what key_copy returns, if not 0 */
} keys;

static int names_key_copy(const char **key, void *user)
{
    char *copy;

    callback_runs(user);
    if (keys.fail != 0)
        return keys.fail;
    copy = (char *)malloc(strlen(*key) + 1);
    CHECK(copy != NULL);
    strcpy(copy, *key);
    *key = copy;
    keys.copies++;
    return 0;
}

static void names_key_free(const char **key, void *user)
{
    callback_runs(user);
    keys.frees++;
    free((void *)(uintptr_t)*key);
}

static void names_left(const char *const *key, int *value,
                       enum cache_cause cause, void *user)
{
    note_event((uint64_t)(*key)[0], (uint64_t)*value, cause);
    callback_runs(user);
}

CACHE_DEFINE_WITH(names, const char *, int, cache_hash_str, cache_equal_str,
                  CACHE_LRU | CACHE_EXPIRY, .key_copy = names_key_copy,
                  .key_free = names_key_free, .on_remove = names_left);

/* The same without on_remove: key_free must still hear of each key. */
CACHE_DEFINE_WITH(owned, const char *, int, cache_hash_str, cache_equal_str,
                  CACHE_FIFO, .key_copy = names_key_copy,
                  .key_free = names_key_free);

static void check_keys_alive(uint32_t n)
{
    CHECK_EQ(keys.copies - keys.frees, n);
}

static struct names names_open(struct cache_config *config)
{
    struct names c;

    memset(&keys, 0, sizeof keys);
    CHECK_EQ(names_init(&c, config), 0);
    return c;
}

static struct nums nums_open(const struct cache_config *config)
{
    struct nums c;

    CHECK_EQ(nums_init(&c, config), 0);
    return c;
}

static struct plain plain_open(const struct cache_config *config)
{
    struct plain c;

    CHECK_EQ(plain_init(&c, config), 0);
    return c;
}

static void check_value(const uint64_t *found, uint64_t value)
{
    CHECK(found != NULL);
    CHECK_EQ(*found, value);
}

/* --- storing and looking ------------------------------------------------- */

static void put_then_get_peek_contains(void)
{
    struct cache_config config = fresh_config(4);
    struct plain c = plain_open(&config);
    const uint64_t *at;

    CHECK(plain_get(&c, 7) == NULL);
    CHECK(plain_peek(&c, 7) == NULL);
    CHECK(!plain_contains(&c, 7));
    CHECK_EQ(plain_len(&c), 0);
    CHECK_EQ(plain_put(&c, 7, 42), 0);
    check_value(plain_get(&c, 7), 42);
    check_value(plain_peek(&c, 7), 42);
    CHECK(plain_contains(&c, 7));
    CHECK(!plain_contains(&c, 8));
    CHECK_EQ(plain_put(&c, 7, 43), 0); /* replaces */
    check_value(plain_get(&c, 7), 43);
    CHECK_EQ(plain_len(&c), 1);

    at = plain_get(&c, 7); /* valid until something is changed */
    CHECK(plain_get(&c, 8) == NULL);
    CHECK(plain_peek(&c, 7) == at);
    CHECK_EQ(*at, 43);
    CHECK_EQ(plain_put(&c, UINT64_MAX, 1), 0); /* no key is special */
    CHECK_EQ(plain_put(&c, 0, 2), 0);
    check_value(plain_get(&c, UINT64_MAX), 1);
    check_value(plain_get(&c, 0), 2);
    plain_destroy(&c);
}

static void put_of_what_get_returned(void)
{
    struct cache_config config = fresh_config(1);
    struct nums c = nums_open(&config);

    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_put(&c, 1, *nums_get(&c, 1)), 0);
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    check_value(nums_get(&c, 1), 10);
    /* and under another key, whose slot it is going to be */
    CHECK_EQ(nums_put(&c, 2, *nums_get(&c, 1)), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    check_value(nums_get(&c, 2), 10);
    nums_destroy(&c);
}

/* The argument may be the stored key of an entry that has expired. */
static void put_with_a_key_that_the_cache_owns(void)
{
    struct cache_config config = fresh_config(2);
    struct names c = names_open(&config);
    struct names_cursor at = { 0, NULL, NULL };
    int round;

    for (round = 0; round < 2; round++) {
        CHECK_EQ(names_put_ttl(&c, "key", 1, 100), 0);
        n_events = 0;
        CHECK(names_next(&c, &at));
        now_ms += round ? 100 : 0; /* in the second round it expires */
        CHECK_EQ(names_put(&c, *at.key, 2), 0);
        check_event('k', 1, round ? CACHE_CAUSE_EXPIRED : CACHE_CAUSE_REPLACED);
        CHECK(names_peek(&c, "key") && *names_peek(&c, "key") == 2);
        CHECK_SOUND(names_check(&c));
        at.slot = 0;
    }
    CHECK(names_next(&c, &at));
    CHECK_EQ(names_remove(&c, *at.key), 0);
    names_destroy(&c);
    check_keys_alive(0);
}

static void get_counts_as_a_use_and_peek_does_not(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_put(&c, 2, 20), 0);
    CHECK(nums_peek(&c, 1) && nums_contains(&c, 1));
    CHECK_EQ(nums_touch_ttl(&c, 1, CACHE_NEVER), 0); /* no use either */
    CHECK_EQ(nums_put(&c, 3, 30), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    CHECK(nums_get(&c, 2));
    CHECK_EQ(nums_put(&c, 4, 40), 0);
    check_event(3, 30, CACHE_CAUSE_EVICTED);
    CHECK_EQ(nums_put(&c, 2, 21), 0); /* a put is a use as well */
    check_event(2, 20, CACHE_CAUSE_REPLACED);
    CHECK_EQ(nums_put(&c, 5, 50), 0);
    check_event(4, 40, CACHE_CAUSE_EVICTED);
    nums_destroy(&c);
}

static void put_if_absent_and_replace(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c = nums_open(&config);

    CHECK_EQ(nums_replace(&c, 1, 10), CACHE_EKEY);
    CHECK_EQ(nums_len(&c), 0);
    CHECK_EQ(nums_put_if_absent(&c, 1, 11), 0);
    CHECK_EQ(nums_put_if_absent(&c, 1, 12), CACHE_EKEY);
    check_value(nums_peek(&c, 1), 11);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(nums_replace(&c, 1, 13), 0);
    check_event(1, 11, CACHE_CAUSE_REPLACED);
    check_value(nums_peek(&c, 1), 13);

    /* an entry that has expired is absent for both */
    CHECK_EQ(nums_touch_ttl(&c, 1, 100), 0);
    now_ms += 100;
    CHECK_EQ(nums_replace(&c, 1, 14), CACHE_EKEY);
    CHECK_EQ(n_events, 0); /* an error has changed nothing */
    CHECK_EQ(nums_put_if_absent(&c, 1, 15), 0);
    check_event(1, 13, CACHE_CAUSE_EXPIRED);
    check_value(nums_peek(&c, 1), 15);
    nums_destroy(&c);
}

static void get_or_insert(void)
{
    struct cache_config config = fresh_config(1);
    struct nums c;
    bool inserted = false;

    config.ttl_ms = 100;
    c = nums_open(&config);
    check_value(nums_get_or_insert(&c, 1, 10, &inserted), 10);
    CHECK(inserted);
    check_value(nums_get_or_insert(&c, 1, 11, &inserted), 10);
    CHECK(!inserted);
    check_value(nums_get_or_insert(&c, 1, 12, NULL), 10);
    CHECK_EQ(n_events, 0);
    check_value(nums_get_or_insert(&c, 2, 20, &inserted), 20);
    CHECK(inserted);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    now_ms += 100;
    check_value(nums_get_or_insert(&c, 2, 21, &inserted), 21);
    CHECK(inserted);
    check_event(2, 20, CACHE_CAUSE_EXPIRED);
    now_ms += 100; /* what it stored has config.ttl_ms */
    CHECK(nums_get(&c, 2) == NULL);
    nums_destroy(&c);
}

CACHE_DEFINE(texts_plain, const char *, int, cache_hash_str, cache_equal_str,
             CACHE_LRU);
CACHE_DEFINE_WITH(many, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS,
                  .on_remove = nums_left);

/* Of two caches one is asked for each key, the other for all of them. */
static void check_many(struct many *one, struct many *all, uint64_t *random,
                       size_t n)
{
    const uint64_t *values[100];
    struct cache_stats stats_one, stats_all;
    uint64_t wanted[100];
    size_t i, found, hits = 0;

    CHECK(n <= COUNT_OF(wanted));
    for (i = 0; i < n; i++) {
        wanted[i] = test_random(random) % 150;
        values[i] = &wanted[i];
    }
    found = many_get_many(all, wanted, n, values);
    for (i = 0; i < n; i++) {
        const uint64_t *value = many_get(one, wanted[i]);

        hits += value != NULL;
        CHECK((value != NULL) == (values[i] != NULL));
        if (value != NULL)
            CHECK_EQ(*value, *values[i]);
    }
    CHECK_EQ(found, hits);
    CHECK_EQ(many_stats(one, &stats_one), 0);
    CHECK_EQ(many_stats(all, &stats_all), 0);
    CHECK(memcmp(&stats_one, &stats_all, sizeof stats_one) == 0);
}

static void get_many_is_many_gets(void)
{
    static const size_t sizes[] = { 0, 1, 7, 8, 9, 31, 32, 33, 39, 64, 100 };
    struct cache_config config = fresh_config(100);

    for (config.policy = 1; config.policy <= CACHE__POLICY_BITS;
         config.policy++) {
        struct many one, all;
        uint64_t random = test_seed;
        int step;

        if (cache_policy_name(config.policy) == NULL)
            continue;
        CHECK_EQ(many_init(&one, &config), 0);
        CHECK_EQ(many_init(&all, &config), 0);
        for (step = 0; step < 300; step++) {
            uint64_t key = test_random(&random) % 150;
            uint64_t ttl = step % 3 ? CACHE_NEVER : 200 + 100 * (key % 7);
            int i;

            check_many(&one, &all, &random,
                       sizes[test_random(&random) % COUNT_OF(sizes)]);
            n_events = 0;
            CHECK_EQ(many_put_ttl(&one, key, (uint64_t)step, ttl), 0);
            i = n_events;
            CHECK_EQ(many_put_ttl(&all, key, (uint64_t)step, ttl), 0);
            CHECK_EQ(n_events, 2 * i); /* the same have left */
            for (i = 0; i < n_events / 2; i++)
                CHECK_EQ(events[i].key, events[n_events / 2 + i].key);
            now_ms += 10;
        }
        CHECK_SOUND(many_check(&all));
        many_destroy(&one);
        n_events = 0;
        many_destroy(&all);
        n_events = 0;
    }
}

static void get_many_of_strings(void)
{
    struct cache_config config = fresh_config(64);
    struct texts_plain c;
    const char *wanted[40];
    const int *values[40];
    char text[40][16];
    int i;

    CHECK_EQ(texts_plain_init(&c, &config), 0);
    for (i = 0; i < 40; i++) {
        snprintf(text[i], sizeof text[i], "t%d", i);
        wanted[i] = text[i];
        if (i % 3 != 0)
            CHECK_EQ(texts_plain_put(&c, text[i], i), 0);
    }
    CHECK_EQ(texts_plain_get_many(&c, wanted, 40, values), 26);
    for (i = 0; i < 40; i++) {
        CHECK((values[i] != NULL) == (i % 3 != 0));
        if (values[i] != NULL)
            CHECK_EQ(*values[i], i);
    }
    texts_plain_destroy(&c);
}

static void remove_and_clear(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c = nums_open(&config);
    uint64_t key;

    CHECK_EQ(nums_remove(&c, 1), CACHE_EKEY);
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_remove(&c, 1), 0);
    check_event(1, 10, CACHE_CAUSE_REMOVED);
    CHECK_EQ(nums_remove(&c, 1), CACHE_EKEY);
    CHECK_EQ(nums_put_ttl(&c, 1, 11, 100), 0);
    now_ms += 100;
    CHECK_EQ(nums_remove(&c, 1), CACHE_EKEY); /* not a live one */
    CHECK_EQ(n_events, 0);

    for (key = 2; key <= 4; key++)
        CHECK_EQ(nums_put(&c, key, key * 10), 0);
    CHECK_EQ(nums_clear(&c), 0);
    CHECK_EQ(n_events, 4);
    for (key = 0; key < 4; key++)
        CHECK_EQ(events[key].cause, CACHE_CAUSE_CLEARED);
    CHECK_EQ(nums_len(&c), 0);
    CHECK_SOUND(nums_check(&c));
    for (key = 1; key <= 4; key++)
        CHECK(nums_get(&c, key) == NULL);
    n_events = 0;
    CHECK_EQ(nums_clear(&c), 0); /* an empty one */
    CHECK_EQ(n_events, 0);
    for (key = 1; key <= 5; key++) /* and it goes on as new */
        CHECK_EQ(nums_put(&c, key, key), 0);
    check_event(1, 1, CACHE_CAUSE_EVICTED);
    nums_destroy(&c);
    CHECK_EQ(n_events, 4);
}

/* Without callbacks clear does not visit the entries. */
static void clear_without_callbacks(void)
{
    struct cache_config config = fresh_config(100);
    struct plain c = plain_open(&config);
    uint64_t key, round;

    for (round = 0; round < 5; round++) {
        for (key = 0; key < 150; key++) {
            CHECK_EQ(plain_put(&c, key, key + round), 0);
            if (key % 3 == 0)
                CHECK_EQ(plain_remove(&c, key), 0);
            if (key % 7 == 0)
                (void)plain_get(&c, key / 2);
        }
        CHECK_SOUND(plain_check(&c));
        CHECK_EQ(plain_clear(&c), 0);
        CHECK_SOUND(plain_check(&c));
        CHECK_EQ(plain_len(&c), 0);
        for (key = 0; key < 150; key++)
            CHECK(!plain_contains(&c, key));
    }
    plain_destroy(&c);
}

/* --- compute ------------------------------------------------------------- */

static struct {
    int action;
    uint64_t store, seen_value;
    bool seen_present;
    int calls;
} computing;

static int compute_fn(const uint64_t *key, uint64_t *value, bool present,
                      void *user)
{
    CHECK(user == &computing); /* its own user, not the config's */
    CHECK_EQ(*key, 1);
    computing.calls++;
    computing.seen_value = *value;
    computing.seen_present = present;
    *value = computing.store;
    if (in_callback != NULL)
        in_callback();
    return computing.action;
}

static int compute(struct nums *c, int action, uint64_t store)
{
    computing.action = action;
    computing.store = store;
    return nums_compute(c, 1, compute_fn, &computing);
}

static void compute_does_what_the_callback_returns(void)
{
    static const struct {
        int action, rc_absent, rc_present;
    } cases[] = {
        { CACHE_COMPUTE_KEEP, 0, 0 },
        { CACHE_COMPUTE_REMOVE, 0, 0 },
        { CACHE_COMPUTE_STORE, 0, 0 },
        { 3, CACHE_EINVAL, CACHE_EINVAL },
        { 1000, CACHE_EINVAL, CACHE_EINVAL },
        { -1, -1, -1 },
        { CACHE_ESTORE, CACHE_ESTORE, CACHE_ESTORE },
    };
    size_t i;

    for (i = 0; i < COUNT_OF(cases); i++) {
        struct cache_config config = fresh_config(2);
        struct nums c = nums_open(&config);
        bool stores = cases[i].action == CACHE_COMPUTE_STORE;
        bool removes = cases[i].action == CACHE_COMPUTE_REMOVE;

        CHECK_EQ(compute(&c, cases[i].action, 5), cases[i].rc_absent);
        CHECK(!computing.seen_present);
        CHECK_EQ(computing.seen_value, 0);
        CHECK_EQ(nums_len(&c), stores);
        CHECK_EQ(n_events, 0);
        if (stores)
            check_value(nums_peek(&c, 1), 5);

        CHECK_EQ(nums_put(&c, 1, 10), 0);
        n_events = 0;
        CHECK_EQ(compute(&c, cases[i].action, 20), cases[i].rc_present);
        CHECK(computing.seen_present);
        CHECK_EQ(computing.seen_value, 10);
        if (removes) {
            check_event(1, 10, CACHE_CAUSE_REMOVED);
            CHECK_EQ(nums_len(&c), 0);
        } else { /* a value that is stored is changed in place: no event */
            check_value(nums_peek(&c, 1), stores ? 20 : 10);
            CHECK_EQ(n_events, 0);
        }
        CHECK_SOUND(nums_check(&c));
        nums_destroy(&c);
    }
}

static void compute_and_deadlines(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c;

    config.ttl_ms = 1000;
    c = nums_open(&config);
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 5), 0); /* new: config.ttl_ms */
    now_ms += 900;
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 6), 0); /* the deadline stays */
    check_value(nums_peek(&c, 1), 6);
    now_ms += 100;
    CHECK(nums_peek(&c, 1) == NULL);
    CHECK_EQ(compute(&c, CACHE_COMPUTE_KEEP, 0), 0);
    CHECK(!computing.seen_present); /* what has expired is absent */
    CHECK_EQ(computing.seen_value, 0);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(compute(&c, CACHE_COMPUTE_REMOVE, 0), 0);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 7), 0);
    check_event(1, 6, CACHE_CAUSE_EXPIRED);
    check_value(nums_peek(&c, 1), 7);
    nums_destroy(&c);
}

/* A stored value counts as a use. */
static void compute_is_a_use(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_put(&c, 2, 20), 0);
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 11), 0);
    CHECK_EQ(nums_put(&c, 3, 30), 0);
    check_event(2, 20, CACHE_CAUSE_EVICTED);
    nums_destroy(&c);
}

/* --- keys that the cache owns -------------------------------------------- */

static void keys_enter_and_leave(void)
{
    struct cache_config config = fresh_config(2);
    struct names c = names_open(&config);
    struct names_cursor at = { 0, NULL, NULL };
    char mine[] = "a";
    const char *stored;

    CHECK_EQ(names_put(&c, mine, 1), 0);
    CHECK(names_next(&c, &at));
    stored = *at.key;
    CHECK(stored != mine);
    mine[0] = 'x'; /* is ours, and means nothing to the cache */
    CHECK_STR(stored, "a");
    CHECK(names_contains(&c, "a"));

    mine[0] = 'a'; /* a replace keeps the stored key */
    CHECK_EQ(names_put(&c, mine, 2), 0);
    CHECK_EQ(names_replace(&c, mine, 3), 0);
    CHECK_EQ(keys.copies, 1);
    CHECK_EQ(keys.frees, 0);
    CHECK(*at.key == stored);
    CHECK_EQ(names_put_if_absent(&c, "a", 4), CACHE_EKEY);
    CHECK_EQ(keys.copies, 1);

    CHECK_EQ(names_remove(&c, "a"), 0);
    check_keys_alive(0);
    CHECK_EQ(names_put_ttl(&c, "b", 1, 100), 0);
    now_ms += 100;
    CHECK_EQ(names_put(&c, "b", 2), 0); /* expired: leaves and enters */
    CHECK_EQ(keys.copies, 3);
    check_keys_alive(1);
    CHECK_EQ(names_put(&c, "c", 3), 0);
    CHECK_EQ(names_put(&c, "d", 4), 0); /* evicts b */
    check_keys_alive(2);
    CHECK(names_get_or_insert(&c, "e", 5, NULL) != NULL);
    check_keys_alive(2);
    CHECK_EQ(names_clear(&c), 0);
    check_keys_alive(0);
    CHECK_EQ(names_put(&c, "f", 6), 0);
    names_destroy(&c);
    check_keys_alive(0);
}

static void keys_leave_without_on_remove(void)
{
    struct cache_config config = fresh_config(2);
    struct owned c;

    memset(&keys, 0, sizeof keys);
    CHECK_EQ(owned_init(&c, &config), 0);
    CHECK_EQ(owned_put(&c, "a", 1), 0);
    CHECK_EQ(owned_put(&c, "b", 1), 0);
    CHECK_EQ(owned_put(&c, "c", 1), 0);
    check_keys_alive(2);
    CHECK_EQ(owned_clear(&c), 0);
    check_keys_alive(0);
    CHECK_EQ(owned_put(&c, "d", 1), 0);
    owned_destroy(&c);
    check_keys_alive(0);
}

static int store_9(const char *const *key, int *value, bool present, void *user)
{
    (void)key, (void)present, (void)user;
    *value = 9;
    return CACHE_COMPUTE_STORE;
}

/* A put that is refused changes nothing: nobody is evicted, not even what has
 * expired under the same key goes. */
static void key_copy_refuses(void)
{
    struct cache_config config = fresh_config(2);
    struct names c = names_open(&config);
    bool inserted = true;

    CHECK_EQ(names_put(&c, "a", 1), 0);
    CHECK_EQ(names_put_ttl(&c, "b", 2, 100), 0);
    now_ms += 100;
    keys.fail = -77;
    CHECK_EQ(names_put(&c, "new", 3), -77);
    CHECK_EQ(names_put(&c, "b", 3), -77);
    CHECK_EQ(names_put_ttl(&c, "new", 3, 100), -77);
    CHECK_EQ(names_put_if_absent(&c, "b", 3), -77);
    CHECK_EQ(names_compute(&c, "new", store_9, NULL), -77);
    CHECK(names_get_or_insert(&c, "b", 3, &inserted) == NULL);
    CHECK(!inserted);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(names_len(&c), 2);
    CHECK_EQ(keys.copies, 2);
    CHECK_EQ(keys.frees, 0);
    CHECK_SOUND(names_check(&c));
    CHECK_EQ(names_put(&c, "a", 4), 0); /* no key enters: works */
    check_event('a', 1, CACHE_CAUSE_REPLACED);
    keys.fail = 0;
    CHECK_EQ(names_put(&c, "new", 3), 0);
    check_event('b', 2, CACHE_CAUSE_EXPIRED);
    names_destroy(&c);
    check_keys_alive(0);
}

/* --- callbacks may look, not change -------------------------------------- */

static struct nums *looked_at;
static uint64_t left_key;
static int n_looks;

static void look(void)
{
    struct nums_cursor at = { 0, NULL, NULL };
    struct cache_stats stats;
    uint32_t n = 0;

    n_looks++;
    CHECK(nums_get(looked_at, left_key) == NULL);
    CHECK(nums_peek(looked_at, left_key) == NULL);
    CHECK(!nums_contains(looked_at, left_key));
    CHECK(nums_get(looked_at, 100) != NULL); /* who stays is found */
    while (nums_next(looked_at, &at)) {
        CHECK(*at.key != left_key);
        n++;
    }
    CHECK(n <= nums_len(looked_at));
    CHECK_EQ(nums_stats(looked_at, &stats), 0);
    CHECK(nums_memory(looked_at).total_bytes > 0);
    CHECK_SOUND(nums_check(looked_at));
}

static void callbacks_look(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    looked_at = &c;
    n_looks = 0;
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_put(&c, 100, 1000), 0);
    in_callback = look;
    left_key = 1;
    CHECK_EQ(nums_put(&c, 2, 20), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    left_key = 2;
    CHECK_EQ(nums_remove(&c, 2), 0);
    check_event(2, 20, CACHE_CAUSE_REMOVED);
    CHECK_EQ(nums_put_ttl(&c, 3, 30, 100), 0);
    now_ms += 100;
    left_key = 3;
    CHECK_EQ(nums_tick(&c, 10), 0);
    check_event(3, 30, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(n_looks, 3);
    CHECK_EQ(n_asserts, 0); /* none of it was refused */
    in_callback = NULL;
    nums_destroy(&c);
}

/* In a replace the key stays, with the new value. */
static void look_replaced(void)
{
    n_looks++;
    check_value(nums_peek(looked_at, 1), 11);
    CHECK_EQ(nums_len(looked_at), 1);
}

static void callback_of_a_replace_sees_the_new_value(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    looked_at = &c;
    n_looks = 0;
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    in_callback = look_replaced;
    CHECK_EQ(nums_put(&c, 1, 11), 0);
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    CHECK_EQ(n_looks, 1);
    in_callback = NULL;
    nums_destroy(&c);
}

/* Every call that would change a cache, from inside of its callback. */
#define CHECK_REFUSES_CHANGES(name, c, absent)                                 \
    do {                                                                       \
        uint32_t len_ = name##_len(c);                                         \
        n_asserts = 0;                                                         \
        CHECK_EQ(name##_put(c, absent, 1), CACHE_EBUSY);                       \
        CHECK_EQ(name##_put_ttl(c, absent, 1, 1000), CACHE_EBUSY);             \
        CHECK_EQ(name##_put_if_absent(c, absent, 1), CACHE_EBUSY);             \
        CHECK_EQ(name##_replace(c, absent, 1), CACHE_EBUSY);                   \
        CHECK_EQ(name##_compute(c, absent, NULL, NULL), CACHE_EBUSY);          \
        CHECK_EQ(name##_touch_ttl(c, absent, 1000), CACHE_EBUSY);              \
        CHECK_EQ(name##_remove(c, absent), CACHE_EBUSY);                       \
        CHECK_EQ(name##_clear(c), CACHE_EBUSY);                                \
        CHECK(name##_get_or_insert(c, absent, 1, NULL) == NULL);               \
        CHECK_EQ(name##_tick(c, 10), 0);                                       \
        name##_destroy(c);                                                     \
        CHECK_EQ(n_asserts, 11);                                               \
        CHECK_EQ(name##_len(c), len_);                                         \
        n_looks++;                                                             \
    } while (0)

static void try_to_change_nums(void)
{
    CHECK_REFUSES_CHANGES(nums, looked_at, 999);
}

static void callbacks_may_not_change(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    looked_at = &c;
    n_looks = 0;
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    in_callback = try_to_change_nums;
    CHECK_EQ(nums_put(&c, 1, 11), 0); /* REPLACED */
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 12), 0);
    CHECK_EQ(nums_remove(&c, 1), 0); /* REMOVED */
    CHECK_EQ(n_looks, 3);
    CHECK_EQ(nums_put(&c, 1, 13), 0); /* and it is over */
    CHECK_EQ(nums_clear(&c), 0);
    CHECK_EQ(n_looks, 4);
    CHECK_SOUND(nums_check(&c));
    in_callback = NULL;
    nums_destroy(&c);
}

static struct names *names_busy;

static void try_to_change_names(void)
{
    CHECK_REFUSES_CHANGES(names, names_busy, "absent");
}

static void key_callbacks_may_not_change(void)
{
    struct cache_config config = fresh_config(1);
    struct names c = names_open(&config);

    names_busy = &c;
    n_looks = 0;
    in_callback = try_to_change_names;
    CHECK_EQ(names_put(&c, "a", 1), 0); /* key_copy */
    CHECK_EQ(n_looks, 1);
    CHECK_EQ(names_put(&c, "b", 2), 0); /* key_copy, on_remove, key_free */
    CHECK_EQ(n_looks, 4);
    keys.fail = -1;
    CHECK_EQ(names_put(&c, "c", 3), -1);
    keys.fail = 0;
    CHECK_EQ(n_looks, 5);
    in_callback = NULL;
    CHECK_EQ(names_put(&c, "c", 3), 0);
    CHECK_SOUND(names_check(&c));
    names_destroy(&c);
    check_keys_alive(0);
}

/* get_or_insert of what is there is a look. */
static void get_or_insert_of_2(void)
{
    n_looks++;
    check_value(nums_get_or_insert(looked_at, 2, 0, NULL), 20);
}

static void callback_may_get_or_insert_what_is_there(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    looked_at = &c;
    n_looks = 0;
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_put(&c, 2, 20), 0);
    in_callback = get_or_insert_of_2;
    CHECK_EQ(nums_remove(&c, 1), 0);
    CHECK_EQ(n_looks, 1);
    CHECK_EQ(n_asserts, 0);
    in_callback = NULL;
    nums_destroy(&c);
}

/* --- time to live -------------------------------------------------------- */

/* Never returned after its ttl, at most one tick early. */
static void ttl_is_exact_to_a_tick(void)
{
    const uint64_t tick_ms = 10;
    uint64_t at, ttl, t;

    for (at = 0; at < 2 * tick_ms; at++)
        for (ttl = tick_ms; ttl < 4 * tick_ms; ttl++) {
            struct cache_config config = fresh_config(1);
            struct nums c;

            config.tick_ms = (uint32_t)tick_ms;
            config.ttl_ms = ttl % 2 ? ttl : 0; /* of the cache, or the entry */
            c = nums_open(&config);
            now_ms += at;
            CHECK_EQ(ttl % 2 ? nums_put(&c, 1, 10)
                             : nums_put_ttl(&c, 1, 10, ttl),
                     0);
            for (t = 0; t < ttl + tick_ms; t++, now_ms++) {
                bool found = nums_get(&c, 1) != NULL;
                CHECK(!found || t < ttl);
                CHECK(found || t + tick_ms > ttl);
                CHECK_EQ(found, nums_peek(&c, 1) != NULL);
                CHECK_EQ(found, nums_contains(&c, 1));
            }
            CHECK_EQ(nums_len(&c), 1); /* looking does not reclaim */
            CHECK_EQ(n_events, 0);
            nums_destroy(&c);
        }
}

static void ttl_by_default(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    CHECK_EQ(nums_put(&c, 1, 10), 0); /* ttl_ms = 0: for ever */
    now_ms += UINT64_C(1) << 35;
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(nums_put_ttl(&c, 2, 20, 49), CACHE_ETTL); /* the default tick */
    CHECK_EQ(nums_put_ttl(&c, 2, 20, CACHE_DEFAULT_TICK_MS), 0);
    nums_destroy(&c);

    config.ttl_ms = CACHE_NEVER;
    c = nums_open(&config);
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    now_ms += UINT64_C(1) << 35;
    check_value(nums_get(&c, 1), 10);
    nums_destroy(&c);

    config.ttl_ms = 100; /* a put without a ttl takes back the cache's */
    c = nums_open(&config);
    CHECK_EQ(nums_put_ttl(&c, 1, 10, CACHE_NEVER), 0);
    now_ms += 1000;
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(nums_put(&c, 1, 11), 0);
    now_ms += 100;
    CHECK(nums_get(&c, 1) == NULL);
    nums_destroy(&c);
}

static void clock_that_goes_back(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c;

    config.tick_ms = 10;
    c = nums_open(&config);
    CHECK_EQ(nums_put_ttl(&c, 1, 10, 100), 0);
    now_ms += 100;
    CHECK(nums_get(&c, 1) == NULL);
    now_ms -= 90; /* never revives */
    CHECK(nums_get(&c, 1) == NULL);
    now_ms = 5; /* to before init */
    CHECK(nums_get(&c, 1) == NULL);
    CHECK_EQ(nums_put_ttl(&c, 2, 20, 50), 0); /* lives from the latest tick */
    check_value(nums_get(&c, 2), 20);
    now_ms = 1149;
    check_value(nums_get(&c, 2), 20);
    now_ms = 1150;
    CHECK(nums_get(&c, 2) == NULL);
    CHECK_SOUND(nums_check(&c));
    nums_destroy(&c);
}

static void ttl_out_of_range(void)
{
    static const uint32_t ticks_ms[] = { 1, 7, 50, 1u << 31, UINT32_MAX };
    static const uint64_t elapsed_ticks[] = { 0, 1, 5, 1000 };
    size_t i, k;

    for (i = 0; i < COUNT_OF(ticks_ms); i++)
        for (k = 0; k < COUNT_OF(elapsed_ticks); k++) {
            const uint64_t tick_ms = ticks_ms[i],
                           left = UINT32_MAX - 2 - elapsed_ticks[k];
            const struct {
                uint64_t ttl_ms;
                int rc;
            } cases[] = {
                { 0, CACHE_ETTL },
                { tick_ms - 1, CACHE_ETTL },
                { tick_ms, 0 },
                { left * tick_ms, 0 }, /* the last deadline there is */
                { (left + 1) * tick_ms, CACHE_ETTL },
                { (UINT32_MAX - UINT64_C(1)) * tick_ms, CACHE_ETTL },
                { UINT32_MAX * tick_ms, CACHE_ETTL },
                { CACHE_NEVER - elapsed_ticks[k] * tick_ms - 1, CACHE_ETTL },
                { CACHE_NEVER - 2, CACHE_ETTL },
                { CACHE_NEVER - 1, CACHE_ETTL },
                { CACHE_NEVER, 0 },
            };
            struct cache_config config = fresh_config(1);
            struct nums c;
            size_t n;

            config.tick_ms = ticks_ms[i];
            c = nums_open(&config);
            CHECK_EQ(nums_put(&c, 1, 10), 0);
            now_ms += elapsed_ticks[k] * tick_ms;
            for (n = 0; n < COUNT_OF(cases); n++) {
                CHECK_EQ(nums_touch_ttl(&c, 1, cases[n].ttl_ms), cases[n].rc);
                check_value(nums_peek(&c, 1), 10);
                CHECK_EQ(nums_put_ttl(&c, 1, 10, cases[n].ttl_ms), cases[n].rc);
                check_value(nums_peek(&c, 1), 10);
                n_events = 0;
            }
            nums_destroy(&c);
        }
}

/* After 2^32 ticks what has a deadline is dead and stays so. */
static void end_of_time(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c;

    config.tick_ms = 1;
    config.ttl_ms = 100;
    c = nums_open(&config);
    CHECK_EQ(nums_put_ttl(&c, 1, 10, UINT32_MAX - 2), 0);
    CHECK_EQ(nums_put_ttl(&c, 2, 20, CACHE_NEVER), 0);
    now_ms += UINT32_MAX - 3;
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(nums_put(&c, 3, 30), CACHE_ETTL); /* would outlive the clock */
    now_ms += 1;
    CHECK(nums_get(&c, 1) == NULL);
    for (;;) {
        check_value(nums_get(&c, 2), 20);
        CHECK_EQ(nums_put(&c, 3, 30), CACHE_ETTL);
        CHECK_EQ(nums_touch_ttl(&c, 2, 100), CACHE_ETTL);
        CHECK_EQ(nums_put_ttl(&c, 2, 20, CACHE_NEVER), 0);
        CHECK_EQ(nums_remove(&c, 2), 0);
        CHECK_EQ(nums_put_ttl(&c, 2, 20, CACHE_NEVER), 0);
        CHECK_EQ(nums_tick(&c, 100), 0);
        CHECK_SOUND(nums_check(&c));
        CHECK(nums_get(&c, 1) == NULL);
        if (now_ms == UINT64_MAX)
            break;
        now_ms = now_ms > UINT64_MAX / 2 ? UINT64_MAX : now_ms * 2;
        n_events = 0;
    }
    CHECK_EQ(nums_len(&c), 1);
    now_ms = 1000; /* and back: time stands still */
    CHECK_EQ(nums_put(&c, 3, 30), CACHE_ETTL);
    n_events = 0;
    nums_destroy(&c);
}

static void touch_ttl(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c;

    config.tick_ms = 10;
    c = nums_open(&config);
    CHECK_EQ(nums_touch_ttl(&c, 1, 100), CACHE_EKEY);
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    CHECK_EQ(nums_touch_ttl(&c, 1, 9), CACHE_ETTL);
    CHECK_EQ(nums_touch_ttl(&c, 1, 100), 0);
    now_ms += 50;
    CHECK_EQ(nums_touch_ttl(&c, 1, 100), 0); /* from now */
    now_ms += 99;
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(nums_touch_ttl(&c, 1, CACHE_NEVER), 0);
    now_ms += 1000;
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(nums_touch_ttl(&c, 1, 20), 0);
    now_ms += 20;
    CHECK_EQ(nums_touch_ttl(&c, 1, 100), CACHE_EKEY); /* it is too late */
    CHECK_EQ(n_events, 0);
    nums_destroy(&c);
}

static void what_needs_a_feature_that_is_off(void)
{
    static const uint64_t ttls[] = { 0, 1, 1000, CACHE_NEVER - 1, CACHE_NEVER };
    struct cache_config config = fresh_config(2);
    struct plain c = plain_open(&config);
    struct cache_stats stats;
    size_t i;

    CHECK_EQ(plain_put(&c, 1, 10), 0);
    for (i = 0; i < COUNT_OF(ttls); i++) {
        CHECK_EQ(plain_put_ttl(&c, 1, 11, ttls[i]), CACHE_EINVAL);
        CHECK_EQ(plain_put_ttl(&c, 2, 11, ttls[i]), CACHE_EINVAL);
        CHECK_EQ(plain_touch_ttl(&c, 1, ttls[i]), CACHE_EINVAL);
    }
    check_value(plain_get(&c, 1), 10);
    CHECK_EQ(plain_len(&c), 1);
    CHECK_EQ(plain_tick(&c, 100), 0);
    CHECK_EQ(plain_stats(&c, &stats), CACHE_EINVAL);
    CHECK_EQ(n_clock_reads, 0); /* the clock is never read */
    plain_destroy(&c);
}

/* Without a clock of its own a cache takes the system's. */
static void system_clock(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c;

    config.now = NULL;
    config.ttl_ms = 3600 * 1000;
    c = nums_open(&config);
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    check_value(nums_get(&c, 1), 10);
    CHECK_EQ(n_clock_reads, 0);
    nums_destroy(&c);
}

/* --- reclaiming ---------------------------------------------------------- */

#define EXPIRING_TYPE(name, policy)                                            \
    CACHE_DEFINE_WITH(name, uint64_t, uint64_t, cache_hash_u64,                \
                      cache_equal_u64, policy | CACHE_EXPIRY,                  \
                      .on_remove = nums_left);                                 \
    /* Who has expired leaves first, however much the policy likes it. */      \
    static void name##_reclaims_before_it_evicts(void)                         \
    {                                                                          \
        uint64_t dead, key, hit;                                               \
        for (dead = 1; dead <= 8; dead++) {                                    \
            struct cache_config config = fresh_config(8);                      \
            struct name c;                                                     \
            CHECK_EQ(name##_init(&c, &config), 0);                             \
            for (key = 1; key <= 8; key++)                                     \
                CHECK_EQ(                                                      \
                    name##_put_ttl(&c, key, key, key == dead ? 100 : 900), 0); \
            for (hit = 0; hit < 3; hit++)                                      \
                CHECK(name##_get(&c, dead) != NULL);                           \
            now_ms += 100;                                                     \
            CHECK(name##_get(&c, dead) == NULL);                               \
            CHECK_EQ(name##_put(&c, 9, 9), 0);                                 \
            check_event(dead, dead, CACHE_CAUSE_EXPIRED);                      \
            CHECK_EQ(name##_put(&c, 10, 10), 0);                               \
            CHECK_EQ(events[0].cause, CACHE_CAUSE_EVICTED);                    \
            CHECK_SOUND(name##_check(&c));                                     \
            /* the sweep stands somewhere: it still sees all the others */     \
            now_ms += 800;                                                     \
            for (n_events = 0, key = 11; key < 17; key++)                      \
                CHECK_EQ(name##_put(&c, key, key), 0);                         \
            CHECK_EQ(n_events, 6);                                             \
            for (key = 0; key < 6; key++)                                      \
                CHECK_EQ(events[key].cause, CACHE_CAUSE_EXPIRED);              \
            CHECK_SOUND(name##_check(&c));                                     \
            name##_destroy(&c);                                                \
        }                                                                      \
    }                                                                          \
    struct cache__swallow_semicolon

EXPIRING_TYPE(fifo, CACHE_FIFO);
EXPIRING_TYPE(lru, CACHE_LRU);
EXPIRING_TYPE(sieve, CACHE_SIEVE);
EXPIRING_TYPE(clock, CACHE_CLOCK);

static void tick_is_bounded_and_gets_to_the_end(void)
{
    struct cache_config config = fresh_config(50);
    struct nums c = nums_open(&config);
    uint64_t key;
    uint32_t backlog, before = 50;

    CHECK_EQ(nums_tick(&c, 10), 0); /* nothing there */
    for (key = 0; key < 50; key++)
        CHECK_EQ(nums_put_ttl(&c, key, key, key % 2 ? 100 : 1000), 0);
    CHECK_EQ(nums_tick(&c, 10), 0); /* nothing due */
    CHECK_EQ(n_events, 0);
    now_ms += 100;
    CHECK(nums_tick(&c, 0) > 0); /* no budget, no work */
    CHECK_EQ(n_events, 0);
    do { /* looks at 7 in each round, of which half are reclaimed */
        backlog = nums_tick(&c, 7);
        CHECK(n_events <= 4);
        n_events = 0;
        CHECK_EQ(backlog, before > 7 ? before - 7 : 0);
        CHECK_SOUND(nums_check(&c));
        before = backlog;
    } while (backlog > 0);
    CHECK_EQ(nums_len(&c), 25);
    now_ms += 900;
    CHECK_EQ(nums_tick(&c, UINT32_MAX), 0); /* all at once */
    CHECK_EQ(n_events, 25);
    CHECK_EQ(nums_len(&c), 0);
    CHECK_EQ(nums_tick(&c, 10), 0);
    CHECK_SOUND(nums_check(&c));
    nums_destroy(&c);
}

/* Entries that get a deadline behind the sweep are not forgotten. */
static void tick_while_entries_come(void)
{
    struct cache_config config = fresh_config(40);
    struct nums c = nums_open(&config);
    uint64_t key;
    int rounds = 0;

    for (key = 0; key < 20; key++)
        CHECK_EQ(nums_put_ttl(&c, key, key, 100), 0);
    now_ms += 100;
    CHECK_EQ(nums_tick(&c, 10), 10); /* in the middle */
    for (key = 20; key < 40; key++)
        CHECK_EQ(nums_put_ttl(&c, key, key, 50), 0);
    CHECK_EQ(nums_touch_ttl(&c, 39, CACHE_NEVER), 0);
    CHECK_SOUND(nums_check(&c));
    now_ms += 50;
    n_events = 0;
    while (nums_tick(&c, 3) != 0) {
        CHECK(++rounds < 40);
        CHECK_SOUND(nums_check(&c));
    }
    CHECK_EQ(nums_len(&c), 1);
    CHECK(nums_contains(&c, 39));
    nums_destroy(&c);
}

/* --- init ---------------------------------------------------------------- */

enum { ALLOC_ONLY = 1, FREE_ONLY = 2, NO_CONFIG = 4 };

static const struct {
    uint64_t capacity, ttl_ms;
    uint32_t tick_ms;
    int flags;
    int rc_plain, rc_expiring; /* of a type without and with CACHE_EXPIRY */
} wrong_configs[] = {
    { 1, 0, 0, NO_CONFIG, CACHE_EINVAL, CACHE_EINVAL },
    { 0, 0, 0, 0, CACHE_ECAPACITY, CACHE_ECAPACITY },
    { 0x7fffffff, 0, 0, 0, CACHE_ECAPACITY, CACHE_ECAPACITY },
    { 0x80000000, 0, 0, 0, CACHE_ECAPACITY, CACHE_ECAPACITY },
    { 0x80000001, 0, 0, 0, CACHE_ECAPACITY, CACHE_ECAPACITY },
    { SIZE_MAX, 0, 0, 0, CACHE_ECAPACITY, CACHE_ECAPACITY },
    { 1, 0, 0, ALLOC_ONLY, CACHE_EALLOCATOR, CACHE_EALLOCATOR },
    { 1, 0, 0, FREE_ONLY, CACHE_EALLOCATOR, CACHE_EALLOCATOR },
    { 1, 1000, 0, 0, CACHE_ENOEXPIRY, 0 },
    { 1, CACHE_NEVER, 0, 0, CACHE_ENOEXPIRY, 0 },
    { 1, 0, 10, 0, CACHE_ETICK, 0 },
    { 1, 49, 0, 0, CACHE_ENOEXPIRY, CACHE_ETTL },
    { 1, 50, 0, 0, CACHE_ENOEXPIRY, 0 },
    { 1, 9, 10, 0, CACHE_ENOEXPIRY, CACHE_ETTL },
    { 1, 10, 10, 0, CACHE_ENOEXPIRY, 0 },
    { 1, UINT32_MAX, 1, 0, CACHE_ENOEXPIRY, CACHE_ETTL },
    { 1, CACHE_NEVER - 1, 0, 0, CACHE_ENOEXPIRY, CACHE_ETTL },
};

static void init_validates_the_config(void)
{
    size_t i;

    for (i = 0; i < COUNT_OF(wrong_configs); i++) {
        struct cache_config config = fresh_config(1);
        const struct cache_config *given = &config;
        const int flags = wrong_configs[i].flags;
        unsigned char buffer[2048];
        struct plain p, p_before;
        struct nums n;
        int rc;

        if (sizeof(size_t) < 8 && wrong_configs[i].capacity > SIZE_MAX)
            continue;
        config.capacity = (size_t)wrong_configs[i].capacity;
        config.ttl_ms = wrong_configs[i].ttl_ms;
        config.tick_ms = wrong_configs[i].tick_ms;
        config.alloc = flags & FREE_ONLY ? NULL : heap_alloc;
        config.free = flags & ALLOC_ONLY ? NULL : heap_free;
        if (flags & NO_CONFIG)
            given = NULL;

        rc = wrong_configs[i].rc_plain;
        memset(&p, 0x5a, sizeof p);
        p_before = p;
        CHECK_EQ(plain_init(&p, given), rc);
        CHECK_EQ(plain_init_in(&p, given, buffer, sizeof buffer), rc);
        CHECK_EQ(plain_memory_needed(given), 0);
        CHECK(memcmp(&p, &p_before, sizeof p) == 0);
        CHECK_EQ(heap.allocs, 0);

        rc = wrong_configs[i].rc_expiring;
        CHECK_EQ(nums_init(&n, given), rc);
        CHECK_EQ(heap.allocs, rc == 0);
        CHECK_EQ(nums_memory_needed(given) != 0, rc == 0);
        if (rc == 0)
            nums_destroy(&n);
        CHECK_EQ(heap.allocs, heap.frees);
        CHECK_EQ(nums_init_in(&n, given, buffer, sizeof buffer), rc);
    }
}

static void init_of_nothing(void)
{
    struct cache_config config = fresh_config(1);
    unsigned char buffer[2048];

    config.alloc = heap_alloc;
    config.free = heap_free;
    CHECK_EQ(plain_init(NULL, &config), CACHE_EINVAL);
    CHECK_EQ(plain_init_in(NULL, &config, buffer, sizeof buffer), CACHE_EINVAL);
    CHECK_EQ(heap.allocs, 0);
}

static void init_without_memory(void)
{
    struct cache_config config = fresh_config(10);
    struct plain c;

    config.alloc = heap_alloc;
    config.free = heap_free;
    heap.exhausted = true;
    CHECK_EQ(plain_init(&c, &config), CACHE_ENOMEM);
    CHECK_EQ(heap.allocs, 1);
    CHECK_EQ(heap.frees, 0);
}

/* A node so large that no address space holds them all: only the engine can
 * be told of one. */
static void init_beyond_the_address_space(void)
{
    struct cache_config config = fresh_config(1000);
    struct cache_type huge = plain__type;
    unsigned char buffer[64];
    struct cache c;

    huge.node_bytes = SIZE_MAX / 1000;
    CHECK_EQ(cache__memory_needed(&huge, &config, false), 0);
    CHECK_EQ(cache__init(&c, &huge, &config, false), CACHE_ESIZE);
    CHECK_EQ(cache__init_in(&c, &huge, &config, false, buffer, sizeof buffer),
             CACHE_ESIZE);
    huge.node_bytes = SIZE_MAX;
    CHECK_EQ(cache__init(&c, &huge, &config, false), CACHE_ESIZE);
}

static void one_allocation_and_none_afterwards(void)
{
    struct cache_config config = fresh_config(100);
    struct nums c;
    uint64_t key;

    config.alloc = heap_alloc; /* gives memory full of 0xa5 */
    config.free = heap_free;
    c = nums_open(&config);
    CHECK_EQ(heap.bytes, nums_memory_needed(&config));
    CHECK_SOUND(nums_check(&c));
    for (key = 0; key < 1000; key++) {
        CHECK(nums_get(&c, key) == NULL);
        CHECK_EQ(nums_put(&c, key, key), 0);
        check_value(nums_get(&c, key), key);
        if (key % 3 == 0)
            CHECK_EQ(nums_remove(&c, key), 0);
        if (key % 5 == 0)
            CHECK_EQ(nums_put_ttl(&c, key, key, 100), 0);
        now_ms += 10;
        if (key % 7 == 0)
            (void)nums_tick(&c, 10);
        n_events = 0;
    }
    CHECK_SOUND(nums_check(&c));
    CHECK_EQ(nums_clear(&c), 0);
    CHECK_EQ(heap.allocs, 1);
    CHECK_EQ(heap.frees, 0);
    nums_destroy(&c);
    CHECK_EQ(heap.frees, 1);
}

static void capacity_is_kept(void)
{
    static const uint32_t capacities[] = { 1, 2, 3, 7, 31, 32, 33, 1000 };
    size_t i;
    uint64_t key;

    for (i = 0; i < COUNT_OF(capacities); i++) {
        struct cache_config config = fresh_config(capacities[i]);
        struct plain c = plain_open(&config);

        for (key = 0; key < 3 * capacities[i]; key++) {
            CHECK_EQ(plain_put(&c, key, key), 0);
            CHECK_EQ(plain_len(&c),
                     key < capacities[i] ? key + 1 : capacities[i]);
            check_value(plain_peek(&c, key), key); /* the newest is there */
        }
        CHECK_SOUND(plain_check(&c));
        plain_destroy(&c);
    }
}

static void memory_needed_for_the_largest(void)
{
    struct cache_config config = fresh_config(CACHE_MAX_CAPACITY);
    size_t bytes = plain_memory_needed(&config);

    if (sizeof(size_t) < 8) {
        CHECK_EQ(bytes, 0);
        return;
    }
    CHECK(bytes / CACHE_MAX_CAPACITY >= 36); /* 16 + 20 + an eighth */
    CHECK(bytes / CACHE_MAX_CAPACITY < 37);
}

/* Any alignment, and not a byte behind the end: the heap watches. */
static void init_in_memory_of_the_caller(void)
{
    struct cache_config config = fresh_config(33);
    const size_t needed = nums_memory_needed(&config);
    size_t skew;

    for (skew = 0; skew < 65; skew++) {
        unsigned char *memory = (unsigned char *)malloc(needed + skew);
        struct nums c;
        uint64_t key;

        CHECK(memory != NULL);
        memset(memory, 0xa5, needed + skew);
        CHECK_EQ(nums_init_in(&c, &config, memory + skew, needed), 0);
        CHECK_EQ((uintptr_t)c.base.groups % 64, 0); /* on a cache line */
        CHECK_EQ((uintptr_t)c.nodes % 64, 0);
        for (key = 0; key < 40; key++)
            CHECK_EQ(nums_put(&c, key, key), 0);
        CHECK_EQ(n_events, 7);
        CHECK_SOUND(nums_check(&c));
        check_value(nums_get(&c, 39), 39);
        CHECK_EQ(nums_memory(&c).total_bytes, needed);
        n_events = 0;
        nums_destroy(&c); /* clears, and frees nothing */
        CHECK_EQ(n_events, 33);
        n_events = 0;
        memory[needed + skew - 1] = 0;
        free(memory);
    }
}

static void init_in_too_little_memory(void)
{
    struct cache_config config = fresh_config(2);
    const size_t needed = nums_memory_needed(&config);
    unsigned char buffer[2048];
    struct nums c;

    CHECK(needed <= sizeof buffer);
    CHECK_EQ(nums_init_in(&c, &config, buffer, needed - 1), CACHE_EBUFFER);
    CHECK_EQ(nums_init_in(&c, &config, buffer, 0), CACHE_EBUFFER);
    CHECK_EQ(nums_init_in(&c, &config, NULL, needed), CACHE_EBUFFER);
    CHECK_EQ(nums_init_in(&c, &config, buffer, needed), 0);
    nums_destroy(&c);
}

static void destroy_twice_and_of_zeroes(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c;

    config.alloc = heap_alloc;
    config.free = heap_free;
    memset(&c, 0, sizeof c);
    nums_destroy(&c);
    CHECK_EQ(nums_init(&c, &config), 0);
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    nums_destroy(&c);
    check_event(1, 10, CACHE_CAUSE_CLEARED);
    nums_destroy(&c);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(heap.frees, 1);
    CHECK_EQ(nums_init(&c, &config), 0); /* and it may be used again */
    nums_destroy(&c);
    CHECK_EQ(heap.frees, 2);
}

static void config_is_not_kept(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);

    memset(&config, 0xff, sizeof config);
    CHECK_EQ(nums_put_ttl(&c, 1, 10, 100), 0);
    check_value(nums_get(&c, 1), 10);
    nums_destroy(&c);
}

/* --- iteration ----------------------------------------------------------- */

/* Removes none, the current, the one before or the one behind; each entry
 * that is still there is seen once. */
static void iteration_survives_removals(void)
{
    enum { N = 20 };
    int step;

    for (step = -2; step <= 2; step++) {
        struct cache_config config = fresh_config(N);
        struct nums c = nums_open(&config);
        struct nums_cursor at = { 0, NULL, NULL };
        int seen[N] = { 0 }, gone[N] = { 0 };
        uint64_t key;

        for (key = 0; key < N; key++)
            CHECK_EQ(nums_put(&c, key, key * 10), 0);
        while (nums_next(&c, &at)) {
            uint64_t current = *at.key, other = current + (uint64_t)step;
            CHECK_EQ(*at.value, current * 10);
            CHECK(!gone[current]);
            seen[current]++;
            if (step != -2 && other < N && current % 3 == 0)
                gone[other] = nums_remove(&c, other) == 0 || gone[other];
        }
        CHECK(at.slot == 0 && at.key == NULL && at.value == NULL);
        for (key = 0; key < N; key++)
            CHECK(seen[key] == 1 || (gone[key] && seen[key] == 0));
        CHECK_SOUND(nums_check(&c));
        n_events = 0;
        nums_destroy(&c);
    }
}

static void iteration_skips_what_has_expired(void)
{
    struct cache_config config = fresh_config(10);
    struct nums c = nums_open(&config);
    struct nums_cursor at = { 0, NULL, NULL };
    uint64_t key, sum = 0;

    CHECK(!nums_next(&c, &at)); /* nothing there */
    for (key = 0; key < 10; key++)
        CHECK_EQ(nums_put_ttl(&c, key, key, key < 5 ? 100 : 200), 0);
    now_ms += 100;
    while (nums_next(&c, &at))
        sum += *at.key;
    CHECK_EQ(sum, 5 + 6 + 7 + 8 + 9);
    CHECK_EQ(nums_len(&c), 10); /* expired ones included */
    CHECK_EQ(n_events, 0);
    now_ms += 100;
    CHECK(!nums_next(&c, &at));
    nums_destroy(&c);
}

static void iteration_while_entries_are_put(void)
{
    struct cache_config config = fresh_config(8);
    struct nums c = nums_open(&config);
    struct nums_cursor at = { 0, NULL, NULL };
    uint64_t key, seen = 0;

    for (key = 0; key < 8; key++)
        CHECK_EQ(nums_put(&c, key, key), 0);
    while (nums_next(&c, &at)) { /* replaces: every entry still once */
        CHECK_EQ(nums_put(&c, *at.key, 100), 0);
        seen++;
    }
    CHECK_EQ(seen, 8);
    n_events = 0;
    nums_destroy(&c);
}

/* --- counters and sizes -------------------------------------------------- */

static void check_stats(struct nums *c, struct cache_stats expected)
{
    struct cache_stats stats;

    CHECK_EQ(nums_stats(c, &stats), 0);
    CHECK_EQ(stats.hits, expected.hits);
    CHECK_EQ(stats.misses, expected.misses);
    CHECK_EQ(stats.inserts, expected.inserts);
    CHECK_EQ(stats.replaces, expected.replaces);
    CHECK_EQ(stats.removes, expected.removes);
    CHECK_EQ(stats.evictions, expected.evictions);
    CHECK_EQ(stats.expirations, expected.expirations);
}

static void stats(void)
{
    struct cache_config config = fresh_config(2);
    struct nums c = nums_open(&config);
    struct cache_stats expected;

    memset(&expected, 0, sizeof expected);
    check_stats(&c, expected);
    CHECK(nums_get(&c, 1) == NULL);
    expected.misses++;
    CHECK_EQ(nums_put(&c, 1, 10), 0);
    expected.inserts++;
    CHECK(nums_get(&c, 1));
    expected.hits++;
    CHECK(nums_get_or_insert(&c, 1, 11, NULL));
    expected.hits++;
    CHECK(nums_get_or_insert(&c, 2, 20, NULL));
    expected.misses++, expected.inserts++;
    CHECK_EQ(nums_put(&c, 2, 21), 0);
    expected.replaces++;
    CHECK_EQ(nums_put(&c, 3, 30), 0);
    expected.inserts++, expected.evictions++;
    CHECK_EQ(nums_remove(&c, 3), 0);
    CHECK_EQ(nums_remove(&c, 3), CACHE_EKEY);
    expected.removes++;
    check_stats(&c, expected);

    /* peek, contains and next do not count */
    CHECK(nums_peek(&c, 2) && nums_contains(&c, 2));
    CHECK(!nums_peek(&c, 9) && !nums_contains(&c, 9));
    CHECK_EQ(nums_put_if_absent(&c, 2, 0), CACHE_EKEY);
    check_stats(&c, expected);

    CHECK_EQ(nums_touch_ttl(&c, 2, 100), 0);
    now_ms += 100;
    CHECK(nums_get(&c, 2) == NULL); /* expired: a miss, not yet reclaimed */
    expected.misses++;
    check_stats(&c, expected);
    CHECK_EQ(nums_tick(&c, 10), 0);
    expected.expirations++;
    check_stats(&c, expected);

    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 1), 0);
    expected.inserts++;
    CHECK_EQ(compute(&c, CACHE_COMPUTE_STORE, 2), 0); /* in place */
    CHECK_EQ(compute(&c, CACHE_COMPUTE_REMOVE, 0), 0);
    expected.removes++;
    check_stats(&c, expected);

    CHECK_EQ(nums_put(&c, 1, 10), 0);
    expected.inserts++;
    CHECK_EQ(nums_clear(&c), 0); /* since init: they stay */
    check_stats(&c, expected);
    nums_destroy(&c);
}

CACHE_DEFINE(lru_words, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_LRU);

/* 12 bytes per entry and the policy's 8 or 8 1/8; the rest is alignment. */
static void memory_per_entry(void)
{
    struct cache_config config = fresh_config(100000);
    struct lru_words l;
    struct plain s;
    struct cache_memory m;

    config.alloc = heap_alloc;
    config.free = heap_free;
    CHECK_EQ(lru_words_init(&l, &config), 0);
    m = lru_words_memory(&l);
    CHECK_EQ(m.total_bytes, heap.bytes);
    CHECK_EQ(m.total_bytes, lru_words_memory_needed(&config));
    CHECK_EQ(m.bookkeeping_bytes, m.total_bytes - 100000 * 16);
    CHECK(m.bookkeeping_bytes >= 20 * 100000);
    CHECK(m.bookkeeping_bytes <= 20 * 100000 + 1000);
    lru_words_destroy(&l);

    CHECK_EQ(plain_init(&s, &config), 0);
    m = plain_memory(&s);
    CHECK_EQ(m.total_bytes, heap.bytes);
    CHECK(m.bookkeeping_bytes <= 21 * 100000);
    plain_destroy(&s);
}

CACHE_DEFINE(hashed, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_KEEP_HASH);
CACHE_DEFINE(expiring, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_EXPIRY);
CACHE_DEFINE(counted, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_STATS);

static void memory_of_features(void)
{
    struct cache_config config = fresh_config(64000);
    const size_t base = plain_memory_needed(&config);

    CHECK(hashed_memory_needed(&config) - base <= 4 * 64000 + 128);
    CHECK(hashed_memory_needed(&config) - base >= 4 * 64000);
    CHECK(expiring_memory_needed(&config) - base <= 4 * 64000 + 128);
    CHECK(expiring_memory_needed(&config) - base >= 4 * 64000);
    CHECK_EQ(counted_memory_needed(&config), base);
}

/* --- an error has changed nothing ---------------------------------------- */

/* A cache to the last bit: the struct and, with heap_alloc, its block. */
static struct {
    struct cache base;
    unsigned char *block;
    int n_events, copies, frees;
} remembered;

static void remember(const struct cache *c)
{
    CHECK(heap.memory != NULL);
    free(remembered.block);
    remembered.block = (unsigned char *)malloc(heap.bytes);
    CHECK(remembered.block != NULL);
    memcpy(remembered.block, heap.memory, heap.bytes);
    memcpy(&remembered.base, c, sizeof *c);
    remembered.n_events = n_events;
    remembered.copies = keys.copies;
    remembered.frees = keys.frees;
}

/* But for a miss that get_or_insert has counted, and the time it is. */
static void check_unchanged(const struct cache *c)
{
    remembered.base.stats.misses = c->stats.misses;
    remembered.base.tick = c->tick;
    remembered.base.next_tick_ms = c->next_tick_ms;
    CHECK(memcmp(&remembered.base, c, sizeof *c) == 0);
    CHECK(memcmp(remembered.block, heap.memory, heap.bytes) == 0);
    CHECK_EQ(n_events, remembered.n_events);
    CHECK_EQ(keys.copies, remembered.copies);
    CHECK_EQ(keys.frees, remembered.frees);
}

/* --- a limit in bytes ---------------------------------------------------- */

static int n_weighs;

/* A value weighs what it is. */
static uint64_t heavy_weigh(const uint64_t *key, const uint64_t *value,
                            void *user)
{
    (void)key;
    n_weighs++;
    callback_runs(user);
    return *value;
}

static uint32_t heavy_cost(const uint64_t *key, const uint64_t *value,
                           void *user)
{
    callback_runs(user);
    return (uint32_t)(*key + *value);
}

CACHE_DEFINE_WITH(heavy, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_LRU | CACHE_EXPIRY | CACHE_STATS | CACHE_WEIGHED |
                      CACHE_PINS,
                  .on_remove = nums_left, .weigh = heavy_weigh,
                  .cost = heavy_cost);

/* Room for the shares of so many entries, and so many bytes of their own.
 * Returns an entry's share, as it is documented. */
static uint64_t heavy_config(struct cache_config *config, uint64_t n,
                             uint64_t own)
{
    uint64_t share;

    config->alloc = heap_alloc;
    config->free = heap_free;
    config->max_bytes = UINT64_MAX;
    share =
        (heavy_memory_needed(config) + config->capacity - 1) / config->capacity;
    config->max_bytes = n * share + own;
    n_weighs = 0;
    return share;
}

static struct heavy heavy_open(const struct cache_config *config)
{
    struct heavy c;

    CHECK_EQ(heavy_init(&c, config), 0);
    return c;
}

/* What is there is exactly this, from the least recently used to the most. */
static void check_order(struct heavy *c, const char *keys_in_order)
{
    uint32_t slot = c->base.policy.links[0].newer;

    for (; *keys_in_order;
         keys_in_order++, slot = c->base.policy.links[slot].newer)
        CHECK_EQ(slot ? c->nodes[slot].key : 0, *keys_in_order - '0');
    CHECK_EQ(slot, 0);
}

/* So many events, all evictions, of these keys in this order. */
static void check_evicted(const char *evicted)
{
    int i;

    CHECK_EQ(n_events, strlen(evicted));
    for (i = 0; i < n_events; i++) {
        CHECK_EQ(events[i].key, evicted[i] - '0');
        CHECK_EQ(events[i].cause, CACHE_CAUSE_EVICTED);
    }
    n_events = 0;
}

static void a_put_evicts_several(void)
{
    uint64_t more;

    for (more = 0; more < 2; more++) { /* the last byte makes the difference */
        struct cache_config config = fresh_config(10);
        const uint64_t share = heavy_config(&config, 4, 400);
        struct heavy c = heavy_open(&config);
        uint64_t key;

        for (key = 1; key <= 4; key++)
            CHECK_EQ(heavy_put(&c, key, 100), 0);
        CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes);
        CHECK_EQ(n_events, 0);
        CHECK(heavy_get(&c, 2) != NULL);
        CHECK_EQ(heavy_put(&c, 5, 200 + share + more), 0);
        check_evicted(more ? "134" : "13");
        check_order(&c, more ? "25" : "425");
        CHECK_EQ(heavy_memory(&c).used_bytes,
                 config.max_bytes - more * (100 + share - 1));
        CHECK_SOUND(heavy_check(&c));
        CHECK_EQ(heavy_put(&c, 6, config.max_bytes - share), 0);
        check_evicted(more ? "25" : "425"); /* everybody */
        check_order(&c, "6");
        heavy_destroy(&c);
    }
}

/* The capacity limits as well, when bytes do not. */
static void weighed_and_full(void)
{
    struct cache_config config = fresh_config(2);
    struct heavy c;

    heavy_config(&config, 2, 100);
    c = heavy_open(&config);
    CHECK_EQ(heavy_put(&c, 1, 10), 0);
    CHECK_EQ(heavy_put(&c, 2, 10), 0);
    CHECK_EQ(heavy_put(&c, 3, 10), 0);
    check_evicted("1");
    CHECK_EQ(heavy_put(&c, 4, 100), 0); /* both at once */
    check_evicted("23");
    heavy_destroy(&c);
}

static void weighed_and_expired(void)
{
    struct cache_config config = fresh_config(8);
    struct heavy c;

    heavy_config(&config, 3, 300);
    c = heavy_open(&config);
    CHECK_EQ(heavy_put(&c, 1, 100), 0);
    CHECK_EQ(heavy_put_ttl(&c, 2, 100, 100), 0);
    CHECK_EQ(heavy_put_ttl(&c, 3, 100, 500), 0);
    now_ms += 100;
    CHECK_EQ(heavy_put(&c, 4, 100), 0); /* who has expired goes first */
    check_event(2, 100, CACHE_CAUSE_EXPIRED);
    now_ms += 400;
    CHECK_EQ(heavy_put(&c, 4, 200), 0); /* for one that grows, too */
    CHECK_EQ(n_events, 2);
    CHECK_EQ(events[0].key, 3);
    CHECK_EQ(events[0].cause, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(events[1].cause, CACHE_CAUSE_REPLACED);
    n_events = 0;
    check_order(&c, "14");

    /* an expired entry of the same key counts no more */
    CHECK_EQ(heavy_put_ttl(&c, 1, 100, 100), 0);
    now_ms += 100;
    n_events = 0;
    CHECK_EQ(heavy_put(&c, 1, 100), 0);
    check_event(1, 100, CACHE_CAUSE_EXPIRED);
    check_order(&c, "41");
    heavy_destroy(&c);
}

static void a_replace_of_another_weight(void)
{
    struct cache_config config = fresh_config(10);
    const uint64_t share = heavy_config(&config, 4, 400);
    struct heavy c = heavy_open(&config);
    uint64_t key;

    for (key = 1; key <= 4; key++)
        CHECK_EQ(heavy_put(&c, key, 100), 0);
    CHECK_EQ(heavy_put(&c, 2, 0), 0); /* shrinks */
    check_event(2, 100, CACHE_CAUSE_REPLACED);
    CHECK_EQ(heavy_memory(&c).used_bytes, 4 * share + 300);
    CHECK_EQ(heavy_replace(&c, 1, 200), 0); /* grows into what is free */
    check_event(1, 100, CACHE_CAUSE_REPLACED);
    CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes);
    check_order(&c, "3421");

    CHECK_EQ(heavy_put(&c, 3, 101), 0); /* the oldest grows, and stays */
    CHECK_EQ(n_events, 2);
    CHECK_EQ(events[0].key, 4);
    CHECK_EQ(events[0].cause, CACHE_CAUSE_EVICTED);
    CHECK_EQ(events[1].key, 3); /* the old value last */
    CHECK_EQ(events[1].value, 100);
    CHECK_EQ(events[1].cause, CACHE_CAUSE_REPLACED);
    check_order(&c, "213");
    check_value(heavy_peek(&c, 3), 101);
    n_events = 0;
    CHECK_EQ(heavy_put(&c, 2, config.max_bytes - share), 0);
    CHECK_EQ(n_events, 3);
    check_order(&c, "2");
    CHECK_SOUND(heavy_check(&c));
    CHECK_EQ(heavy_put(&c, 2, 0), 0);
    CHECK_EQ(heavy_memory(&c).used_bytes, share);
    heavy_destroy(&c);
}

static struct {
    int action;
    uint64_t store;
} heavy_computing;

static int heavy_stores(const uint64_t *key, uint64_t *value, bool present,
                        void *user)
{
    (void)key, (void)present, (void)user;
    *value = heavy_computing.store;
    return heavy_computing.action;
}

static int heavy_computes(struct heavy *c, uint64_t key, int action,
                          uint64_t store)
{
    heavy_computing.action = action;
    heavy_computing.store = store;
    return heavy_compute(c, key, heavy_stores, NULL);
}

static void compute_of_another_weight(void)
{
    struct cache_config config = fresh_config(10);
    const uint64_t share = heavy_config(&config, 3, 300);
    struct heavy c = heavy_open(&config);

    CHECK_EQ(heavy_computes(&c, 1, CACHE_COMPUTE_STORE, 100), 0);
    CHECK_EQ(heavy_computes(&c, 2, CACHE_COMPUTE_STORE, 100), 0);
    CHECK_EQ(heavy_computes(&c, 3, CACHE_COMPUTE_STORE, 100), 0);
    CHECK_EQ(n_weighs, 3);
    CHECK_EQ(heavy_computes(&c, 1, CACHE_COMPUTE_KEEP, 5000), 0);
    CHECK_EQ(n_weighs, 3); /* nothing was exchanged */
    CHECK_EQ(heavy_computes(&c, 1, CACHE_COMPUTE_STORE, 101), 0);
    check_evicted("2"); /* itself, the oldest, is not; no REPLACED either */
    check_order(&c, "31");
    CHECK_EQ(heavy_memory(&c).used_bytes, 2 * share + 201);
    CHECK_EQ(heavy_computes(&c, 3, CACHE_COMPUTE_STORE, 1), 0);
    CHECK_EQ(heavy_memory(&c).used_bytes, 2 * share + 102);
    CHECK_EQ(heavy_computes(&c, 3, CACHE_COMPUTE_REMOVE, 0), 0);
    CHECK_EQ(heavy_memory(&c).used_bytes, share + 101);
    CHECK_SOUND(heavy_check(&c));
    n_events = 0;
    heavy_destroy(&c);
}

/* Below 2^32 - 1, the share included; sums go beyond. */
static void weights_near_the_largest(void)
{
    struct cache_config config = fresh_config(4);
    uint64_t share = heavy_config(&config, 0, UINT64_MAX), key, i;
    struct heavy c = heavy_open(&config);
    const uint64_t most = UINT32_MAX - UINT64_C(1) - share;
    const uint64_t too_heavy[] = {
        most + 1,
        UINT32_MAX - UINT64_C(1),
        UINT32_MAX,
        UINT32_MAX + UINT64_C(1),
        UINT32_MAX + UINT64_C(2), /* 1, if cut to 32 bits */
        UINT64_MAX - share,
        UINT64_MAX - share + 2, /* 1, if the sum wraps */
        UINT64_MAX,
    };

    for (key = 1; key <= 4; key++)
        CHECK_EQ(heavy_put(&c, key, most), 0);
    CHECK_EQ(heavy_memory(&c).used_bytes, 4 * (most + share));
    remember(&c.base);
    for (i = 0; i < COUNT_OF(too_heavy); i++) {
        CHECK_EQ(heavy_put(&c, 5, too_heavy[i]), CACHE_EFULL);
        CHECK_EQ(heavy_put(&c, 2, too_heavy[i]), CACHE_EFULL);
        check_unchanged(&c.base);
    }
    CHECK_EQ(heavy_put(&c, 1, 0), 0);
    CHECK_EQ(heavy_memory(&c).used_bytes, 3 * (most + share) + share);
    heavy_destroy(&c);

    config = fresh_config(4);
    share = heavy_config(&config, 0, 2 * (uint64_t)UINT32_MAX);
    c = heavy_open(&config);
    n_events = 0;
    for (key = 1; key <= 9; key++) /* two fit, and not by a wrapped sum */
        CHECK_EQ(heavy_put(&c, key, most), 0);
    check_order(&c, "89");
    heavy_destroy(&c);
}

static void entry_bytes_is_the_share_of_the_block(void)
{
    static const size_t capacities[] = { 1, 2, 3, 100 };
    struct cache_config config = fresh_config(1);
    struct plain p = plain_open(&config);
    size_t i;

    CHECK_EQ(plain_memory(&p).entry_bytes, 0);
    CHECK_EQ(plain_memory(&p).used_bytes, 0);
    plain_destroy(&p);
    for (i = 0; i < COUNT_OF(capacities); i++) {
        struct heavy c;
        struct cache_memory m;
        uint64_t share, key;

        config = fresh_config(capacities[i]);
        share = heavy_config(&config, capacities[i], 0);
        c = heavy_open(&config);
        m = heavy_memory(&c);
        CHECK_EQ(m.entry_bytes, share);
        CHECK(share * capacities[i] >= m.total_bytes); /* overhead included */
        CHECK(share * capacities[i] < m.total_bytes + capacities[i]);
        CHECK_EQ(m.used_bytes, 0);
        for (key = 1; key <= capacities[i]; key++) /* a weight of 0 will do */
            CHECK_EQ(heavy_put(&c, key, 0), 0);
        CHECK_EQ(n_events, 0);
        CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes);
        CHECK_EQ(heavy_remove(&c, 1), 0);
        CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes - share);
        n_events = 0;
        CHECK_EQ(heavy_clear(&c), 0);
        CHECK_EQ(heavy_memory(&c).used_bytes, 0);
        heavy_destroy(&c);
    }
}

/* Once for each value that comes; what it said then counts. */
static void weigh_is_called_when_a_value_comes(void)
{
    struct cache_config config = fresh_config(4);
    struct heavy c;

    heavy_config(&config, 4, 400);
    c = heavy_open(&config);
    CHECK_EQ(heavy_put(&c, 1, 100), 0);
    CHECK_EQ(n_weighs, 1);
    CHECK_EQ(heavy_put(&c, 1, 50), 0);
    CHECK_EQ(n_weighs, 2);
    CHECK(heavy_get(&c, 1) && heavy_get_or_insert(&c, 1, 10, NULL));
    CHECK_EQ(heavy_touch_ttl(&c, 1, 1000), 0);
    CHECK_EQ(heavy_pin(&c, 1), 0);
    CHECK_EQ(heavy_unpin(&c, 1), 0);
    CHECK_EQ(heavy_replace(&c, 9, 10), CACHE_EKEY);
    CHECK_EQ(heavy_put_if_absent(&c, 1, 10), CACHE_EKEY);
    CHECK_EQ(heavy_put_ttl(&c, 1, 10, 1), CACHE_ETTL);
    CHECK_EQ(heavy_remove(&c, 1), 0);
    CHECK_EQ(n_weighs, 2);
    heavy_destroy(&c);
}

CACHE_DEFINE_WITH(weigh_only, uint64_t, uint64_t, cache_hash_u64,
                  cache_equal_u64, CACHE_LRU, .weigh = heavy_weigh);
CACHE_DEFINE(weighed_only, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_LRU | CACHE_WEIGHED);

#define CHECK_CONFIG(name, max_bytes_, rc)                                     \
    do {                                                                       \
        struct cache_config config_ = fresh_config(2);                         \
        unsigned char buffer_[2048];                                           \
        struct name c_;                                                        \
        config_.alloc = heap_alloc;                                            \
        config_.free = heap_free;                                              \
        config_.max_bytes = max_bytes_;                                        \
        CHECK_EQ(name##_memory_needed(&config_) != 0, (rc) == 0);              \
        CHECK_EQ(name##_init_in(&c_, &config_, buffer_, sizeof buffer_), rc);  \
        CHECK_EQ(name##_init(&c_, &config_), rc);                              \
        CHECK_EQ(heap.allocs, (rc) == 0);                                      \
        if ((rc) == 0)                                                         \
            name##_destroy(&c_);                                               \
    } while (0)

static void weights_come_together(void)
{
    struct cache_config config = fresh_config(2);
    const uint64_t share = heavy_config(&config, 0, 0);

    CHECK_CONFIG(plain, 0, 0);
    CHECK_CONFIG(plain, 1, CACHE_EWEIGHT);
    CHECK_CONFIG(plain, UINT64_MAX, CACHE_EWEIGHT);
    CHECK_CONFIG(weigh_only, 0, CACHE_EWEIGHT);
    CHECK_CONFIG(weigh_only, 1000, CACHE_EWEIGHT);
    CHECK_CONFIG(weighed_only, 0, CACHE_EWEIGHT);
    CHECK_CONFIG(weighed_only, 1000, CACHE_EWEIGHT);
    CHECK_CONFIG(heavy, 0, CACHE_EWEIGHT);
    CHECK_CONFIG(heavy, 1, CACHE_EWEIGHT);
    CHECK_CONFIG(heavy, share - 1, CACHE_EWEIGHT);
    CHECK_CONFIG(heavy, share, 0);
    CHECK_CONFIG(heavy, UINT64_MAX, 0);
}

/* --- a put that is refused ----------------------------------------------- */

/* Every way to store a value, each refused. */
static void heavy_is_refused(struct heavy *c, uint64_t key, uint64_t value,
                             bool live, int rc)
{
    bool inserted = true;

    remember(&c->base);
    CHECK_EQ(heavy_put(c, key, value), rc);
    CHECK_EQ(heavy_put_ttl(c, key, value, 1000), rc);
    CHECK_EQ(heavy_put_if_absent(c, key, value), live ? CACHE_EKEY : rc);
    CHECK_EQ(heavy_replace(c, key, value), live ? rc : CACHE_EKEY);
    CHECK_EQ(heavy_computes(c, key, CACHE_COMPUTE_STORE, value), rc);
    if (!live) {
        CHECK(heavy_get_or_insert(c, key, value, &inserted) == NULL);
        CHECK(!inserted);
        CHECK(heavy_get_or_insert(c, key, value, NULL) == NULL);
    }
    check_unchanged(&c->base);
    CHECK_SOUND(heavy_check(c));
}

/* Keys 1 to 4: the oldest, one that has expired, two that are pinned, of which
 * the second has expired; then what is absent. */
static void too_heavy_changes_nothing(void)
{
    struct cache_config config = fresh_config(6);
    const uint64_t share = heavy_config(&config, 6, 600);
    struct heavy c = heavy_open(&config);
    uint64_t room;

    CHECK_EQ(heavy_put(&c, 1, 10), 0);
    CHECK_EQ(heavy_put_ttl(&c, 2, 20, 100), 0);
    CHECK_EQ(heavy_put(&c, 3, 30), 0);
    CHECK_EQ(heavy_put_ttl(&c, 4, 40, 100), 0);
    CHECK_EQ(heavy_put(&c, 5, 50), 0);
    CHECK_EQ(heavy_pin(&c, 3), 0);
    CHECK_EQ(heavy_pin(&c, 4), 0);
    now_ms += 100;
    CHECK(heavy_get(&c, 1) != NULL);

    room = config.max_bytes - 2 * share - 70; /* what is pinned stays */
    heavy_is_refused(&c, 1, room - share + 1, true, CACHE_EFULL);
    heavy_is_refused(&c, 2, room - share + 1, false, CACHE_EFULL);
    heavy_is_refused(&c, 9, room - share + 1, false, CACHE_EFULL);
    heavy_is_refused(&c, 3, room + 31, true, CACHE_EFULL); /* its own: not */
    heavy_is_refused(&c, 4, room + 41, false, CACHE_EFULL);
    heavy_is_refused(&c, 9, UINT64_MAX, false, CACHE_EFULL);
    check_order(&c, "251");
    CHECK_EQ(n_events, 0);

    /* and with a byte less each is stored */
    CHECK_EQ(heavy_put(&c, 1, room - share), 0);
    check_order(&c, "1");
    CHECK_EQ(heavy_put(&c, 9, room - share), 0);
    check_order(&c, "9");
    n_events = 0;
    CHECK_EQ(heavy_put(&c, 3, room + 30), 0);
    CHECK_EQ(n_events, 2);
    check_order(&c, "");
    CHECK_EQ(heavy_put(&c, 3, 30), 0);
    n_events = 0;
    CHECK_EQ(heavy_put(&c, 4, room + 40), 0);
    check_event(4, 40, CACHE_CAUSE_EXPIRED);
    check_order(&c, "4"); /* a new entry: not pinned */
    CHECK_EQ(heavy_unpin(&c, 4), CACHE_EKEY);
    CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes);
    CHECK_SOUND(heavy_check(&c));
    heavy_destroy(&c);
}

CACHE_DEFINE_WITH(sieve_weighed, uint64_t, uint64_t, cache_hash_u64,
                  cache_equal_u64, CACHE_SIEVE | CACHE_WEIGHED,
                  .weigh = heavy_weigh);
CACHE_DEFINE(pinnable, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_PINS);

static void memory_of_limits(void)
{
    struct cache_config config = fresh_config(64000);
    const size_t base = plain_memory_needed(&config);

    CHECK(pinnable_memory_needed(&config) - base >= 2 * 64000);
    CHECK(pinnable_memory_needed(&config) - base <= 2 * 64000 + 128);
    config.max_bytes = UINT64_MAX;
    CHECK(sieve_weighed_memory_needed(&config) - base >= 4 * 64000);
    CHECK(sieve_weighed_memory_needed(&config) - base <= 4 * 64000 + 128);
}

/* Where clear does not visit the entries. */
static void weights_and_clear_without_callbacks(void)
{
    struct cache_config config = fresh_config(10);
    struct sieve_weighed c;
    uint64_t key;

    config.max_bytes = 2000;
    CHECK_EQ(sieve_weighed_init(&c, &config), 0);
    for (key = 1; key < 50; key++)
        CHECK_EQ(sieve_weighed_put(&c, key, key), 0);
    CHECK(sieve_weighed_memory(&c).used_bytes > 1000);
    CHECK_EQ(sieve_weighed_clear(&c), 0);
    CHECK_EQ(sieve_weighed_memory(&c).used_bytes, 0);
    CHECK_SOUND(sieve_weighed_check(&c));
    CHECK_EQ(sieve_weighed_put(&c, 1, 1000), 0);
    CHECK_SOUND(sieve_weighed_check(&c));
    sieve_weighed_destroy(&c);
}

static void all_pinned_is_full(void)
{
    struct cache_config config = fresh_config(3);
    struct heavy c;

    heavy_config(&config, 10, 1000);
    c = heavy_open(&config);
    CHECK_EQ(heavy_put(&c, 1, 10), 0);
    CHECK_EQ(heavy_put(&c, 2, 20), 0);
    CHECK_EQ(heavy_put_ttl(&c, 3, 30, 100), 0);
    CHECK_EQ(heavy_pin(&c, 1), 0);
    CHECK_EQ(heavy_pin(&c, 2), 0);
    CHECK_EQ(heavy_put_ttl(&c, 4, 40, 100), 0);
    check_evicted("3");
    CHECK_EQ(heavy_pin(&c, 4), 0);
    heavy_is_refused(&c, 5, 1, false, CACHE_EFULL);
    now_ms += 100; /* expired, and still pinned */
    heavy_is_refused(&c, 5, 1, false, CACHE_EFULL);

    CHECK_EQ(heavy_put(&c, 1, 11), 0); /* what is there may be exchanged */
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    CHECK_EQ(heavy_put(&c, 4, 41), 0); /* or taken the place of */
    check_event(4, 40, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(heavy_put(&c, 5, 50), 0);
    check_evicted("4");
    CHECK_EQ(heavy_unpin(&c, 1), 0);
    CHECK_EQ(heavy_put(&c, 6, 60), 0);
    check_evicted("5");
    CHECK_EQ(heavy_put(&c, 7, 70), 0);
    check_evicted("1");
    CHECK_SOUND(heavy_check(&c));
    heavy_destroy(&c);
}

static uint64_t text_weigh(const char *const *key, const int *value, void *user)
{
    (void)key;
    callback_runs(user);
    return (uint64_t)*value;
}

CACHE_DEFINE_WITH(texts, const char *, int, cache_hash_str, cache_equal_str,
                  CACHE_SIEVE | CACHE_EXPIRY | CACHE_WEIGHED | CACHE_PINS,
                  .key_copy = names_key_copy, .key_free = names_key_free,
                  .on_remove = names_left, .weigh = text_weigh);

/* Neither key_copy nor weigh: nobody has left when they refuse. */
static void refused_with_keys_of_its_own(void)
{
    struct cache_config config = fresh_config(2);
    struct texts c;
    int refusal;

    config.alloc = heap_alloc;
    config.free = heap_free;
    config.max_bytes = 2000;
    memset(&keys, 0, sizeof keys);
    CHECK_EQ(texts_init(&c, &config), 0);
    CHECK_EQ(texts_put_ttl(&c, "a", 1, 100), 0);
    CHECK_EQ(texts_put(&c, "b", 2), 0);
    CHECK(texts_get(&c, "b") != NULL);
    CHECK_EQ(texts_pin(&c, "b"), 0);
    now_ms += 100;
    remember(&c.base);
    for (refusal = 0; refusal < 2; refusal++) {
        const int rc = refusal ? CACHE_EFULL : -77, value = refusal ? 2001 : 9;

        keys.fail = refusal ? 0 : -77;
        CHECK_EQ(texts_put(&c, "new", value), rc);
        CHECK_EQ(texts_put(&c, "a", value), rc);
        CHECK_EQ(texts_put_if_absent(&c, "a", value), rc);
        CHECK(texts_get_or_insert(&c, "new", value, NULL) == NULL);
        CHECK(texts_get_or_insert(&c, "a", value, NULL) == NULL);
        check_unchanged(&c.base);
    }
    CHECK_EQ(texts_put(&c, "new", 9), 0);
    check_event('a', 1, CACHE_CAUSE_EXPIRED);
    texts_destroy(&c);
    check_keys_alive(0);
}

/* --- weigh, cost and what they do to others: callbacks look --------------- */

static struct heavy *heavy_looked_at;

static void try_to_change_heavy(void)
{
    n_looks++;
    n_asserts = 0;
    CHECK_EQ(heavy_put(heavy_looked_at, 9, 1), CACHE_EBUSY);
    CHECK_EQ(heavy_compute(heavy_looked_at, 9, NULL, NULL), CACHE_EBUSY);
    CHECK_EQ(heavy_touch_ttl(heavy_looked_at, 1, 1000), CACHE_EBUSY);
    CHECK_EQ(heavy_remove(heavy_looked_at, 1), CACHE_EBUSY);
    CHECK_EQ(heavy_clear(heavy_looked_at), CACHE_EBUSY);
    CHECK_EQ(heavy_pin(heavy_looked_at, 1), CACHE_EBUSY);
    CHECK_EQ(heavy_unpin(heavy_looked_at, 1), CACHE_EBUSY);
    CHECK(heavy_get_or_insert(heavy_looked_at, 9, 1, NULL) == NULL);
    CHECK_EQ(heavy_tick(heavy_looked_at, 10), 0);
    heavy_destroy(heavy_looked_at);
    CHECK_EQ(n_asserts, 10);
    CHECK_SOUND(heavy_check(heavy_looked_at));
}

static void weigh_and_cost_may_not_change(void)
{
    struct cache_config config = fresh_config(2);
    struct heavy c;

    heavy_config(&config, 2, 100);
    c = heavy_open(&config);
    heavy_looked_at = &c;
    n_looks = 0;
    CHECK_EQ(heavy_put(&c, 1, 10), 0);
    in_callback = try_to_change_heavy;
    CHECK_EQ(heavy_put(&c, 2, 10), 0); /* weigh, cost */
    CHECK_EQ(n_looks, 2);
    CHECK_EQ(heavy_put(&c, 1, 100), 0); /* and on_remove, twice */
    CHECK_EQ(n_looks, 6);
    CHECK_EQ(heavy_put(&c, 1, 1000), CACHE_EFULL);
    CHECK_EQ(n_looks, 8);
    CHECK_EQ(heavy_touch_ttl(&c, 1, 1000), 0); /* cost */
    CHECK_EQ(n_looks, 9);
    in_callback = NULL;
    CHECK_EQ(heavy_put(&c, 3, 0), 0); /* and it is over */
    CHECK_SOUND(heavy_check(&c));
    heavy_destroy(&c);
}

/* Entry 1 grows, 2 and 3 leave for it: at no time is the limit exceeded, and
 * a get of 1 is harmless, though its place is not the policy's to choose. */
static void look_while_1_grows(void)
{
    struct heavy_cursor at = { 0, NULL, NULL };
    uint32_t n = 0;

    n_looks++;
    CHECK(heavy_get(heavy_looked_at, 1) != NULL);
    CHECK(heavy_get(heavy_looked_at, 4) != NULL);
    CHECK(heavy_memory(heavy_looked_at).used_bytes <=
          heavy_looked_at->base.max_bytes);
    while (heavy_next(heavy_looked_at, &at))
        n++;
    CHECK_EQ(n, heavy_len(heavy_looked_at));
    CHECK_SOUND(heavy_check(heavy_looked_at));
}

static void callbacks_look_while_an_entry_grows(void)
{
    int computes, pinned;
    uint64_t key;

    for (computes = 0; computes < 2; computes++)
        for (pinned = 0; pinned < 2; pinned++) {
            struct cache_config config = fresh_config(8);
            const uint64_t share = heavy_config(&config, 4, 400);
            struct heavy c = heavy_open(&config);

            heavy_looked_at = &c;
            for (key = 1; key <= 4; key++)
                CHECK_EQ(heavy_put_ttl(&c, key, 100, 1000), 0);
            if (pinned)
                CHECK_EQ(heavy_pin(&c, 1), 0);
            n_looks = 0;
            in_callback = look_while_1_grows;
            if (computes)
                CHECK_EQ(
                    heavy_computes(&c, 1, CACHE_COMPUTE_STORE, 300 + 2 * share),
                    0);
            else
                CHECK_EQ(heavy_put(&c, 1, 300 + 2 * share), 0);
            CHECK(n_looks >= 4);
            in_callback = NULL;
            CHECK_EQ(heavy_len(&c), 2);
            CHECK_EQ(heavy_memory(&c).used_bytes, config.max_bytes);
            check_order(&c, pinned ? "4" : computes ? "41" : "14");
            CHECK_SOUND(heavy_check(&c));
            now_ms += 1000; /* compute: the deadline stays, and is not lost */
            n_events = 0;
            CHECK_EQ(heavy_tick(&c, 100), 0);
            CHECK_EQ(n_events, 1 + (computes && !pinned));
            n_events = 0;
            heavy_destroy(&c);
        }
}

/* Time goes on while an entry grows: it is found, so it is not over. */
static void time_goes_on(void)
{
    now_ms += 100;
}

static void an_entry_expires_while_it_grows(void)
{
    int computes;
    uint64_t key;

    for (computes = 0; computes < 2; computes++) {
        struct cache_config config = fresh_config(8);
        struct heavy c;

        heavy_config(&config, 4, 400);
        c = heavy_open(&config);
        for (key = 1; key <= 4; key++)
            CHECK_EQ(heavy_put_ttl(&c, key, 100, key == 1 ? 100 : 9000), 0);
        in_callback = time_goes_on;
        if (computes)
            CHECK_EQ(heavy_computes(&c, 1, CACHE_COMPUTE_STORE, 101), 0);
        else
            CHECK_EQ(heavy_put_ttl(&c, 1, 101, 1000), 0);
        in_callback = NULL;
        CHECK_EQ(events[0].key, 2);
        CHECK_EQ(events[0].cause, CACHE_CAUSE_EVICTED);
        CHECK_EQ(heavy_len(&c), 3);
        CHECK_SOUND(heavy_check(&c));
        n_events = 0;
        CHECK_EQ(heavy_tick(&c, 100), 0);
        CHECK_EQ(n_events, computes); /* its deadline stayed */
        n_events = 0;
        heavy_destroy(&c);
    }
}

static void look_while_others_leave(void)
{
    if (n_events == 0) /* weigh and cost: nobody has left */
        return;
    n_looks++;
    CHECK(heavy_get(heavy_looked_at, 5) == NULL); /* it is not there yet */
    CHECK(heavy_get(heavy_looked_at, events[n_events - 1].key) == NULL);
    CHECK(heavy_get(heavy_looked_at, 2) != NULL); /* a use: it stays */
    CHECK_SOUND(heavy_check(heavy_looked_at));
}

static void callbacks_look_while_others_leave(void)
{
    struct cache_config config = fresh_config(8);
    const uint64_t share = heavy_config(&config, 4, 400);
    struct heavy c = heavy_open(&config);
    uint64_t key;

    heavy_looked_at = &c;
    for (key = 1; key <= 4; key++)
        CHECK_EQ(heavy_put(&c, key, 100), 0);
    n_looks = 0;
    in_callback = look_while_others_leave;
    CHECK_EQ(heavy_put(&c, 5, 300 + 2 * share), 0);
    in_callback = NULL;
    check_evicted("134");
    CHECK_EQ(n_looks, 3);
    check_order(&c, "25");
    heavy_destroy(&c);
}

/* --- pins ---------------------------------------------------------------- */

CACHE_DEFINE_WITH(held, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_LRU | CACHE_EXPIRY | CACHE_PINS,
                  .on_remove = nums_left);

static struct held held_open(const struct cache_config *config)
{
    struct held c;

    CHECK_EQ(held_init(&c, config), 0);
    return c;
}

static void pins_nest(void)
{
    struct cache_config config = fresh_config(2);
    struct held c = held_open(&config);
    uint64_t key;
    int n;

    CHECK_EQ(held_put(&c, 1, 10), 0);
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY);
    for (n = 0; n < 3; n++)
        CHECK_EQ(held_pin(&c, 1), 0);
    for (n = 3; n > 0; n--) {
        for (key = 2; key < 10; key++)
            CHECK_EQ(held_put(&c, key, key), 0);
        CHECK_SOUND(held_check(&c));
        check_value(held_get(&c, 1), 10);
        CHECK_EQ(held_unpin(&c, 1), 0);
    }
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY);
    n_events = 0;
    CHECK_EQ(held_put(&c, 2, 20),
             0); /* 1 is one that has just come: 9 leaves */
    check_event(9, 9, CACHE_CAUSE_EVICTED);
    CHECK_EQ(held_put(&c, 3, 30), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    held_destroy(&c);
}

static void pins_have_a_largest_number(void)
{
    struct cache_config config = fresh_config(2);
    struct held c = held_open(&config);
    long n;

    CHECK_EQ(held_put(&c, 1, 10), 0);
    CHECK_EQ(held_put(&c, 2, 20), 0);
    for (n = 0; n < 65535; n++)
        CHECK_EQ(held_pin(&c, 1), 0);
    CHECK_EQ(held_pin(&c, 1), CACHE_EFULL);
    CHECK_EQ(held_pin(&c, 2), 0);
    CHECK_SOUND(held_check(&c));
    CHECK_EQ(held_put(&c, 3, 30), CACHE_EFULL);
    for (n = 0; n < 65535; n++)
        CHECK_EQ(held_unpin(&c, 1), 0);
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_put(&c, 3, 30), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    held_destroy(&c);
}

static void pins_of_what_is_not_there(void)
{
    struct cache_config config = fresh_config(2);
    struct held c = held_open(&config);
    struct plain p = plain_open(&config);

    CHECK_EQ(held_pin(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_put_ttl(&c, 1, 10, 100), 0);
    now_ms += 100;
    CHECK_EQ(held_pin(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY);
    held_destroy(&c);

    CHECK_EQ(plain_put(&p, 1, 10), 0);
    CHECK_EQ(plain_pin(&p, 1), CACHE_EINVAL);
    CHECK_EQ(plain_unpin(&p, 1), CACHE_EINVAL);
    CHECK_EQ(plain_pin(&p, 2), CACHE_EINVAL);
    plain_destroy(&p);
}

/* A pointer to it is valid whatever happens to others. */
static void what_is_pinned_stays_where_it_is(void)
{
    struct cache_config config = fresh_config(20);
    struct held c = held_open(&config);
    const uint64_t *at[10];
    uint64_t random = test_seed, key;
    int step;

    for (key = 0; key < 20; key++)
        CHECK_EQ(held_put(&c, key, key * 10), 0);
    for (key = 0; key < 10; key++) {
        CHECK_EQ(held_pin(&c, key), 0);
        at[key] = held_get(&c, key);
    }
    for (step = 0; step < 5000; step++) {
        uint64_t r = test_random(&random), other = 10 + (r >> 32) % 40;

        n_events = 0;
        now_ms += r >> 60;
        if (r >> 20 & 7)
            CHECK_EQ(held_put_ttl(&c, other, r, 100), 0);
        else if (r >> 23 & 1)
            (void)held_remove(&c, other);
        else
            (void)held_tick(&c, 5);
        key = r % 10;
        CHECK(held_peek(&c, key) == at[key] && *at[key] == key * 10);
        if (r >> 24 & 1)
            CHECK(held_get(&c, key) == at[key]);
    }
    CHECK_SOUND(held_check(&c));
    n_events = 0;
    held_destroy(&c);
    CHECK(n_events >= 10);
}

static void pinned_and_expired(void)
{
    struct cache_config config = fresh_config(4);
    struct held c = held_open(&config);
    const uint64_t *at;
    uint64_t key;
    int rounds;

    for (key = 1; key <= 4; key++)
        CHECK_EQ(held_put_ttl(&c, key, key * 10, key <= 2 ? 100 : 200), 0);
    CHECK_EQ(held_pin(&c, 1), 0);
    CHECK_EQ(held_pin(&c, 3), 0);
    at = held_peek(&c, 1);
    now_ms += 100;
    CHECK(held_get(&c, 1) == NULL); /* not found, but there */
    CHECK_EQ(held_pin(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_remove(&c, 1), CACHE_EKEY);
    CHECK_EQ(held_touch_ttl(&c, 1, 1000), CACHE_EKEY);
    for (rounds = 0; held_tick(&c, 1) != 0; rounds++)
        CHECK(rounds < 8);
    check_event(2, 20, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(held_tick(&c, 100), 0); /* nothing is due */
    CHECK_EQ(*at, 10);
    CHECK_EQ(held_len(&c), 3);
    CHECK_SOUND(held_check(&c));

    now_ms += 100;
    CHECK_EQ(held_tick(&c, 100), 0);
    check_event(4, 40, CACHE_CAUSE_EXPIRED);
    for (key = 5; key <= 20; key++) /* nor is it found before an eviction */
        CHECK_EQ(held_put(&c, key, key), 0);
    CHECK_EQ(n_events, 14);
    n_events = 0;
    CHECK_EQ(*at, 10);

    CHECK_EQ(held_unpin(&c, 3), 0); /* now it is due */
    CHECK_SOUND(held_check(&c));
    CHECK(held_get(&c, 3) == NULL);
    CHECK_EQ(held_tick(&c, 100), 0);
    check_event(3, 30, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(held_unpin(&c, 1), 0);
    CHECK_EQ(held_put(&c, 21, 210), 0); /* there is room: 3 has left */
    CHECK_EQ(n_events, 0);
    CHECK_EQ(held_put(&c, 22, 220), 0);
    check_event(1, 10, CACHE_CAUSE_EXPIRED);
    CHECK_SOUND(held_check(&c));
    held_destroy(&c);
}

/* The sweep passed it while it was pinned; unpinned, it is not forgotten. */
static void unpinned_behind_the_sweep(void)
{
    struct cache_config config = fresh_config(10);
    struct held c = held_open(&config);
    uint64_t key, at;

    for (key = 1; key <= 10; key++)
        CHECK_EQ(held_put_ttl(&c, key, key, 100), 0);
    for (key = 1; key <= 10; key += 3)
        CHECK_EQ(held_pin(&c, key), 0);
    now_ms += 100;
    for (at = 0; at < 5; at++)
        (void)held_tick(&c, 1); /* in the middle */
    CHECK_EQ(held_unpin(&c, 1), 0);
    CHECK_EQ(held_unpin(&c, 10), 0);
    CHECK_SOUND(held_check(&c));
    for (at = 0; held_tick(&c, 1) != 0; at++)
        CHECK(at < 30);
    CHECK_EQ(held_len(&c), 2);
    CHECK_EQ(held_unpin(&c, 4), 0);
    CHECK_EQ(held_unpin(&c, 7), 0);
    CHECK_EQ(held_tick(&c, 100), 0);
    CHECK_EQ(held_len(&c), 0);
    CHECK_EQ(n_events, 10);
    n_events = 0;
    held_destroy(&c);
}

static void pins_do_not_prevent_changes_of_the_key(void)
{
    struct cache_config config = fresh_config(2);
    struct held c = held_open(&config);
    uint64_t key;

    CHECK_EQ(held_put(&c, 1, 10), 0);
    CHECK_EQ(held_put(&c, 2, 20), 0);
    CHECK_EQ(held_pin(&c, 1), 0);
    CHECK_EQ(held_pin(&c, 1), 0);
    CHECK_EQ(held_put(&c, 1, 11), 0);
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    CHECK_EQ(held_put(&c, 3, 30), 0); /* still pinned */
    check_event(2, 20, CACHE_CAUSE_EVICTED);
    CHECK_EQ(held_touch_ttl(&c, 1, 100), 0);
    CHECK_EQ(held_remove(&c, 1), 0);
    check_event(1, 11, CACHE_CAUSE_REMOVED);
    CHECK_EQ(held_unpin(&c, 1), CACHE_EKEY); /* its pins went with it */
    CHECK_EQ(held_put(&c, 4, 40), 0);        /* not to the next in its slot */
    CHECK_EQ(held_unpin(&c, 4), CACHE_EKEY);
    CHECK_SOUND(held_check(&c));

    CHECK_EQ(held_pin(&c, 3), 0);
    CHECK_EQ(held_pin(&c, 4), 0);
    CHECK_EQ(held_put(&c, 5, 50), CACHE_EFULL);
    CHECK_EQ(held_clear(&c), 0);
    CHECK_EQ(n_events, 2);
    CHECK_SOUND(held_check(&c));
    n_events = 0;
    for (key = 6; key <= 8; key++) /* all slots serve again */
        CHECK_EQ(held_put(&c, key, key), 0);
    check_event(6, 6, CACHE_CAUSE_EVICTED);
    held_destroy(&c);
}

/* Where clear does not visit the entries. */
static void pins_and_clear_without_callbacks(void)
{
    struct cache_config config = fresh_config(3);
    struct pinnable c;
    uint64_t key, round;

    CHECK_EQ(pinnable_init(&c, &config), 0);
    for (round = 0; round < 3; round++) {
        for (key = 0; key < 3; key++) {
            CHECK_EQ(pinnable_put(&c, key, key), 0);
            CHECK_EQ(pinnable_pin(&c, key), 0);
        }
        CHECK_EQ(pinnable_put(&c, 3, 3), CACHE_EFULL);
        CHECK_EQ(pinnable_clear(&c), 0);
        CHECK_SOUND(pinnable_check(&c));
        for (key = 0; key < 9; key++)
            CHECK_EQ(pinnable_put(&c, key, key), 0);
        CHECK_EQ(pinnable_unpin(&c, 8), CACHE_EKEY);
        CHECK_EQ(pinnable_clear(&c), 0);
    }
    pinnable_destroy(&c);
}

/* --- what is known of an entry -------------------------------------------- */

#define META (CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION)

CACHE_DEFINE_WITH(noted, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_LRU | CACHE_EXPIRY | CACHE_STATS | CACHE_WEIGHED |
                      CACHE_PINS | META,
                  .on_remove = nums_left, .weigh = heavy_weigh);
CACHE_DEFINE(timed, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_META_TIMES);
CACHE_DEFINE(tallied, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_META_COUNT);
CACHE_DEFINE(versioned, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_LRU | CACHE_META_VERSION);

/* A clock that begins at 1000, ticks of 50 ms, weights without a limit. */
static struct noted noted_open(struct cache_config *config, size_t capacity)
{
    struct noted c;

    *config = fresh_config(capacity);
    config->max_bytes = UINT64_MAX;
    config->alloc = heap_alloc;
    config->free = heap_free;
    CHECK_EQ(noted_init(&c, config), 0);
    return c;
}

static struct cache_entry entry_of(struct noted *c, uint64_t key)
{
    struct cache_entry e;

    memset(&e, 0xa5, sizeof e);
    CHECK_EQ(noted_entry(c, key, &e), 0);
    return e;
}

static uint64_t version_of(struct noted *c, uint64_t key)
{
    return entry_of(c, key).version;
}

static void entry_says_all_that_is_known(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 4);
    struct cache_entry e;

    now_ms = 1149; /* in the third tick */
    CHECK_EQ(noted_put_ttl(&c, 1, 77, 200), 0);
    now_ms = 1210;
    CHECK(noted_get(&c, 1) && noted_get(&c, 1));
    e = entry_of(&c, 1);
    CHECK_EQ(e.created_ms, 1100);
    CHECK_EQ(e.accessed_ms, 1200);
    CHECK_EQ(e.expires_ms, 1300); /* 1349 lies in the tick of 1300 */
    CHECK_EQ(e.count, 2);
    CHECK(e.version != 0);
    CHECK_EQ(e.weight_bytes, 77 + noted_memory(&c).entry_bytes);
    CHECK_EQ(noted_touch_ttl(&c, 1, CACHE_NEVER), 0);
    CHECK(entry_of(&c, 1).expires_ms == CACHE_NEVER);
    noted_destroy(&c);
}

static void what_is_off_is_0(void)
{
    static const struct cache_entry nothing;
    struct cache_config config = fresh_config(4);
    struct cache_entry e;
    struct plain p = plain_open(&config);
    struct nums n = nums_open(&config);

    memset(&e, 0xa5, sizeof e);
    CHECK_EQ(plain_put(&p, 1, 10), 0);
    CHECK_EQ(plain_entry(&p, 1, &e), 0);
    CHECK(memcmp(&e, &nothing, sizeof e) == 0);
    CHECK_EQ(plain_put_if_version(&p, 1, 11, 0), CACHE_EINVAL);
    CHECK_EQ(plain_put_if_version(&p, 2, 11, 0), CACHE_EINVAL);
    CHECK_EQ(plain_put_version(&p, 1, 11, CACHE_NEVER, 5), CACHE_EINVAL);
    check_value(plain_peek(&p, 1), 10);
    CHECK_EQ(plain_len(&p), 1);
    CHECK_EQ(n_clock_reads, 1); /* by the init of nums */
    CHECK_EQ(nums_put_ttl(&n, 1, 10, 100), 0);
    CHECK_EQ(nums_entry(&n, 1, &e), 0);
    CHECK_EQ(e.expires_ms, 1100);
    e.expires_ms = 0;
    CHECK(memcmp(&e, &nothing, sizeof e) == 0);
    plain_destroy(&p);
    n_events = 0;
    nums_destroy(&n);
}

/* The policy does not hear of it, nor do stats, times and count. */
static void entry_counts_as_nothing(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);
    struct cache_entry e, before;
    struct cache_stats stats;

    CHECK_EQ(noted_put(&c, 1, 10), 0);
    CHECK_EQ(noted_put(&c, 2, 20), 0);
    before = entry_of(&c, 1);
    now_ms += 500;
    CHECK(noted_peek(&c, 1) && noted_contains(&c, 1));
    e = entry_of(&c, 1);
    e = entry_of(&c, 1);
    CHECK(memcmp(&e, &before, sizeof e) == 0);
    CHECK_EQ(noted_entry(&c, 3, &e), CACHE_EKEY);
    CHECK(memcmp(&e, &before, sizeof e) == 0); /* left alone */
    CHECK_EQ(noted_stats(&c, &stats), 0);
    CHECK_EQ(stats.hits + stats.misses, 0);
    CHECK_EQ(noted_put(&c, 3, 30), 0);
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    noted_destroy(&c);
}

static void entry_of_what_has_expired(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);
    struct cache_entry e;

    CHECK_EQ(noted_put_ttl(&c, 1, 10, 100), 0);
    now_ms += 99;
    CHECK_EQ(noted_entry(&c, 1, &e), 0);
    now_ms += 1;
    CHECK_EQ(noted_entry(&c, 1, &e), CACHE_EKEY);
    CHECK_EQ(noted_put(&c, 1, 11), 0); /* is another entry */
    check_event(1, 10, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(entry_of(&c, 1).created_ms, 1100);
    CHECK_EQ(entry_of(&c, 1).count, 0);
    noted_destroy(&c);
}

/* Time is that of config.now, cut to the start of a tick. */
static void times_are_whole_ticks(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 200);
    uint64_t i;

    for (i = 0; i < 160; i++) {
        now_ms = 1000 + i;
        CHECK_EQ(noted_put(&c, i, i), 0);
        CHECK_EQ(entry_of(&c, i).created_ms, 1000 + i / 50 * 50);
        CHECK_EQ(entry_of(&c, i).accessed_ms, 1000 + i / 50 * 50);
        CHECK(noted_get(&c, 0) != NULL);
        CHECK_EQ(entry_of(&c, 0).accessed_ms, 1000 + i / 50 * 50);
        CHECK_EQ(entry_of(&c, 0).created_ms, 1000);
    }
    now_ms = 0; /* a clock that goes back is not followed */
    CHECK(noted_get(&c, 0) != NULL);
    CHECK_EQ(entry_of(&c, 0).accessed_ms, 1150);
    CHECK_SOUND(noted_check(&c));
    while (noted_len(&c) > 0) {
        CHECK_EQ(noted_remove(&c, --i), 0);
        n_events = 0; /* there is no place for all */
    }
    noted_destroy(&c);
}

static int keep_or_store(const uint64_t *key, uint64_t *value, bool present,
                         void *user)
{
    (void)key, (void)present;
    *value += 1;
    return *(int *)user;
}

/* What counts as a use sets accessed_ms; a look-up that does is in count. */
static void uses_are_noted(void)
{
    static const struct {
        int op;
        bool used, counted;
    } cases[] = { { 0, true, true },    { 1, true, true },
                  { 2, true, true },    { 3, true, false },
                  { 4, true, false },   { 5, true, false },
                  { 6, true, false },   { 7, true, false },
                  { 8, false, false },  { 9, false, false },
                  { 10, false, false }, { 11, false, false },
                  { 12, false, false } };
    struct cache_config config;
    struct noted c = noted_open(&config, 40);
    const uint64_t keys_[9] = { 1, 100, 101, 102, 103, 104, 105, 106, 107 };
    const uint64_t *values[9];
    size_t i;

    CHECK_EQ(noted_put(&c, 1, 10), 0);
    for (i = 0; i < COUNT_OF(cases); i++) {
        const struct cache_entry before = entry_of(&c, 1);
        int action = CACHE_COMPUTE_STORE;
        struct cache_entry e;

        now_ms += 50;
        switch (cases[i].op) {
        case 0: CHECK(noted_get(&c, 1) != NULL); break;
        case 1: CHECK(noted_get_or_insert(&c, 1, 99, NULL) != NULL); break;
        case 2: CHECK_EQ(noted_get_many(&c, keys_, 9, values), 1); break;
        case 3: CHECK_EQ(noted_put(&c, 1, 11), 0); break;
        case 4: CHECK_EQ(noted_replace(&c, 1, 12), 0); break;
        case 5:
            CHECK_EQ(noted_compute(&c, 1, keep_or_store, &action), 0);
            break;
        case 6:
            CHECK_EQ(noted_put_if_version(&c, 1, 13, before.version), 0);
            break;
        case 7:
            CHECK_EQ(noted_put_version(&c, 1, 14, 400, before.version + 1), 0);
            break;
        case 8: CHECK_EQ(noted_put_if_absent(&c, 1, 15), CACHE_EKEY); break;
        case 9:
            action = CACHE_COMPUTE_KEEP;
            CHECK_EQ(noted_compute(&c, 1, keep_or_store, &action), 0);
            break;
        case 10: CHECK_EQ(noted_touch_ttl(&c, 1, 500), 0); break;
        case 11:
            CHECK_EQ(noted_pin(&c, 1), 0);
            CHECK_EQ(noted_unpin(&c, 1), 0);
            break;
        default:
            CHECK_EQ(noted_put_if_version(&c, 1, 16, before.version + 1),
                     CACHE_ECONFLICT);
        }
        e = entry_of(&c, 1);
        CHECK_EQ(e.created_ms, before.created_ms);
        CHECK_EQ(e.accessed_ms, cases[i].used ? now_ms : before.accessed_ms);
        CHECK_EQ(e.count, before.count + cases[i].counted);
        CHECK_EQ(e.version != before.version,
                 cases[i].used && !cases[i].counted);
    }
    n_events = 0;
    noted_destroy(&c);
}

static void a_use_of_what_is_pinned_is_noted(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);

    CHECK_EQ(noted_put(&c, 1, 10), 0);
    CHECK_EQ(noted_pin(&c, 1), 0);
    now_ms += 100;
    CHECK(noted_get(&c, 1) != NULL);
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 1100);
    CHECK_EQ(entry_of(&c, 1).count, 1);
    noted_destroy(&c);
}

static void count_stops_at_its_end(void)
{
    struct cache_config config = fresh_config(2);
    struct cache_entry e;
    struct tallied c;

    CHECK_EQ(tallied_init(&c, &config), 0);
    CHECK_EQ(tallied_put(&c, 1, 10), 0);
    cache__meta_of(&c.base)->counts[1] = UINT32_MAX - 1;
    CHECK(tallied_get(&c, 1) && tallied_get(&c, 1) && tallied_get(&c, 1));
    CHECK_EQ(tallied_entry(&c, 1, &e), 0);
    CHECK_EQ(e.count, UINT32_MAX);
    CHECK_EQ(tallied_remove(&c, 1), 0);
    CHECK_EQ(tallied_put(&c, 2, 10), 0); /* in the same slot, begins anew */
    CHECK_EQ(tallied_entry(&c, 2, &e), 0);
    CHECK_EQ(e.count, 0);
    CHECK_EQ(n_clock_reads, 0);
    tallied_destroy(&c);
}

/* A cache that does not expire may have times: it reads the clock then, and
 * has ticks but no time to live. */
static void times_without_expiry(void)
{
    struct cache_config config = fresh_config(2);
    const uint64_t at_ms = 5;
    struct cache_entry e;
    struct timed c;

    config.ttl_ms = 1000;
    CHECK_EQ(timed_init(&c, &config), CACHE_ENOEXPIRY);
    config.ttl_ms = 0;
    config.now_ms = &at_ms;
    CHECK_EQ(timed_init(&c, &config), CACHE_ECLOCK);
    config.now_ms = NULL;
    config.tick_ms = 7;
    CHECK_EQ(timed_init(&c, &config), 0);
    CHECK_EQ(n_clock_reads, 1);
    now_ms += 13;
    CHECK_EQ(timed_put(&c, 1, 10), 0);
    CHECK_EQ(timed_put_ttl(&c, 1, 10, 100), CACHE_EINVAL);
    now_ms += 1;
    n_clock_reads = 0;
    CHECK(timed_get(&c, 1) != NULL);
    CHECK_EQ(n_clock_reads, 1); /* each hit reads it */
    CHECK(timed_get(&c, 2) == NULL && timed_peek(&c, 1) != NULL);
    CHECK_EQ(n_clock_reads, 1); /* and nothing else that looks */
    CHECK_EQ(timed_entry(&c, 1, &e), 0);
    CHECK_EQ(e.created_ms, 1007);
    CHECK_EQ(e.accessed_ms, 1014);
    CHECK_EQ(e.expires_ms, 0);
    CHECK_EQ(timed_tick(&c, 10), 0);
    CHECK_SOUND(timed_check(&c));
    timed_destroy(&c);
    config.now = NULL; /* the system's clock */
#ifdef CACHE__CLOCK
    CHECK_EQ(timed_init(&c, &config), 0);
    CHECK_EQ(timed_put(&c, 1, 10), 0);
    CHECK_EQ(timed_entry(&c, 1, &e), 0);
    CHECK(e.created_ms >= c.base.start_ms);
    timed_destroy(&c);
#endif
}

/* Where an entry has a deadline, the clock was read for that already. */
static void times_read_the_clock_no_oftener_than_expiry(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);

    CHECK_EQ(noted_put_ttl(&c, 1, 10, 1000), 0);
    now_ms += 60;
    n_clock_reads = 0;
    CHECK(noted_get(&c, 1) != NULL);
    CHECK_EQ(n_clock_reads, 1);
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 1050);
    noted_destroy(&c);
}

static void times_at_the_end_of_time(void)
{
    struct cache_config config = fresh_config(2);
    struct cache_entry e;
    struct timed c;

    config.tick_ms = 1;
    CHECK_EQ(timed_init(&c, &config), 0);
    CHECK_EQ(timed_put(&c, 1, 10), 0);
    now_ms = UINT64_MAX;
    CHECK(timed_get(&c, 1) != NULL);
    CHECK_EQ(timed_put(&c, 2, 20), 0);
    CHECK_SOUND(timed_check(&c));
    CHECK_EQ(timed_entry(&c, 1, &e), 0);
    CHECK_EQ(e.created_ms, 1000);
    CHECK_EQ(e.accessed_ms, 1000 + (uint64_t)UINT32_MAX - 1);
    CHECK_EQ(timed_entry(&c, 2, &e), 0);
    CHECK_EQ(e.created_ms, 1000 + (uint64_t)UINT32_MAX - 1);
    timed_destroy(&c);
}

/* --- versions ------------------------------------------------------------ */

/* The version of a key is above all that there were. */
static void check_newest(struct noted *c, uint64_t key, uint64_t *newest)
{
    const uint64_t version = version_of(c, key);

    CHECK(version > *newest);
    *newest = version;
}

static void each_stored_value_has_a_higher_version(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);
    int store = CACHE_COMPUTE_STORE, drop = CACHE_COMPUTE_REMOVE;
    uint64_t newest = 0;

    CHECK_EQ(noted_put(&c, 1, 10), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_put(&c, 2, 10), 0);
    check_newest(&c, 2, &newest);
    CHECK_EQ(noted_put(&c, 1, 11), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_replace(&c, 1, 11), 0); /* also of the same value */
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_put_ttl(&c, 1, 11, 100), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_compute(&c, 1, keep_or_store, &store), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_put_if_version(&c, 1, 13, newest), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_remove(&c, 1), 0);
    CHECK_EQ(noted_put_if_absent(&c, 1, 14), 0); /* what left is remembered */
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_compute(&c, 1, keep_or_store, &drop), 0);
    CHECK_EQ(noted_compute(&c, 1, keep_or_store, &store), 0);
    check_newest(&c, 1, &newest);
    CHECK_EQ(noted_put(&c, 3, 10), 0); /* 2 is evicted */
    check_newest(&c, 3, &newest);
    CHECK(noted_get_or_insert(&c, 2, 10, NULL) != NULL);
    check_newest(&c, 2, &newest);
    CHECK_EQ(noted_put_ttl(&c, 2, 10, 50), 0);
    check_newest(&c, 2, &newest);
    now_ms += 50; /* it expires */
    CHECK_EQ(noted_put(&c, 2, 10), 0);
    check_newest(&c, 2, &newest);
    CHECK_EQ(noted_clear(&c), 0);
    CHECK_EQ(noted_put(&c, 1, 10), 0);
    check_newest(&c, 1, &newest);
    CHECK(noted_get_or_insert(&c, 1, 11, NULL) && noted_get(&c, 1));
    CHECK_EQ(noted_touch_ttl(&c, 1, 1000), 0);
    CHECK_EQ(version_of(&c, 1), newest); /* no value, no version */
    n_events = 0;
    noted_destroy(&c);
}

static void put_if_version_stores_over_that_version(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 4);
    uint64_t version;

    CHECK_EQ(noted_put_if_version(&c, 1, 10, 5), CACHE_ECONFLICT);
    CHECK_EQ(noted_len(&c), 0);
    CHECK_EQ(noted_put_if_version(&c, 1, 10, 0), 0); /* there is none */
    version = version_of(&c, 1);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, 0), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, version - 1), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, version + 1), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, UINT64_MAX), CACHE_ECONFLICT);
    check_value(noted_peek(&c, 1), 10);
    CHECK_EQ(n_events, 0);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, version), 0);
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    check_value(noted_peek(&c, 1), 11);
    CHECK_EQ(noted_put_if_version(&c, 1, 12, version), CACHE_ECONFLICT);

    /* an entry that has expired is none */
    version = version_of(&c, 1);
    CHECK_EQ(noted_touch_ttl(&c, 1, 100), 0);
    now_ms += 100;
    CHECK_EQ(noted_put_if_version(&c, 1, 13, version), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 1, 13, 0), 0);
    check_event(1, 11, CACHE_CAUSE_EXPIRED);
    CHECK_EQ(noted_remove(&c, 1), 0);
    CHECK_EQ(noted_put_if_version(&c, 1, 14, version), CACHE_ECONFLICT);
    noted_destroy(&c);
}

/* To the last bit. */
static void a_conflict_changes_nothing(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);
    uint64_t one;

    CHECK_EQ(noted_put(&c, 1, 10), 0);
    CHECK_EQ(noted_put(&c, 2, 20), 0);
    one = version_of(&c, 1);
    now_ms += 100;
    remember(&c.base);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, one + 7), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, 0), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_if_version(&c, 3, 11, one), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, one), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, 0), CACHE_EINVAL);
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, CACHE_MAX_VERSION + 1),
             CACHE_EINVAL);
    CHECK_EQ(noted_put_version(&c, 1, 11, 49, one + 7), CACHE_ETTL);
    check_unchanged(&c.base);
    CHECK_EQ(noted_put(&c, 3, 30), 0); /* 1 was not used */
    check_event(1, 10, CACHE_CAUSE_EVICTED);
    noted_destroy(&c);
}

/* What is refused for another reason has no version either. */
static void a_put_that_is_refused_has_no_version(void)
{
    struct cache_config config = fresh_config(4);
    uint64_t version;
    struct noted c;

    config.alloc = heap_alloc;
    config.free = heap_free;
    config.max_bytes = UINT64_MAX;
    config.max_bytes = noted_memory_needed(&config);
    CHECK_EQ(noted_init(&c, &config), 0);
    CHECK_EQ(noted_put(&c, 1, 10), 0);
    version = version_of(&c, 1);
    remember(&c.base);
    CHECK_EQ(noted_put_if_version(&c, 1, UINT32_MAX, version), CACHE_EFULL);
    CHECK_EQ(noted_put_if_version(&c, 2, UINT32_MAX, 0), CACHE_EFULL);
    CHECK_EQ(noted_put_version(&c, 1, UINT32_MAX, CACHE_NEVER, version + 9),
             CACHE_EFULL);
    CHECK_EQ(noted_put_version(&c, 2, UINT32_MAX, CACHE_NEVER, 1), CACHE_EFULL);
    check_unchanged(&c.base);
    CHECK_EQ(noted_put_if_version(&c, 1, 11, version), 0);
    CHECK_EQ(version_of(&c, 1), version + 1);
    n_events = 0;
    noted_destroy(&c);
}

static void put_if_version_has_the_ttl_of_the_config(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);

    noted_destroy(&c);
    config.ttl_ms = 100;
    CHECK_EQ(noted_init(&c, &config), 0);
    CHECK_EQ(noted_put_if_version(&c, 1, 10, 0), 0);
    CHECK_EQ(entry_of(&c, 1).expires_ms, 1100);
    now_ms += 50;
    CHECK_EQ(noted_put_if_version(&c, 1, 10, version_of(&c, 1)), 0);
    CHECK_EQ(entry_of(&c, 1).expires_ms, 1150);
    n_events = 0;
    noted_destroy(&c);
}

static void put_version_stores_over_an_older_one(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 4);
    uint64_t version;

    CHECK_EQ(noted_put_version(&c, 1, 10, CACHE_NEVER, 500), 0);
    CHECK_EQ(version_of(&c, 1), 500);
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, 499), CACHE_ECONFLICT);
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, 500), CACHE_ECONFLICT);
    check_value(noted_peek(&c, 1), 10);
    CHECK_EQ(noted_put_version(&c, 1, 11, 100, 501), 0);
    check_event(1, 10, CACHE_CAUSE_REPLACED);
    CHECK_EQ(version_of(&c, 1), 501);
    CHECK_EQ(entry_of(&c, 1).expires_ms, 1100);
    /* another key's is its own affair, but the cache goes on above all */
    CHECK_EQ(noted_put_version(&c, 2, 20, CACHE_NEVER, 3), 0);
    CHECK_EQ(version_of(&c, 2), 3);
    CHECK_EQ(noted_put(&c, 2, 21), 0);
    version = version_of(&c, 2);
    CHECK(version > 501);
    CHECK_EQ(noted_put_version(&c, 2, 22, CACHE_NEVER, version),
             CACHE_ECONFLICT);
    CHECK_EQ(noted_put_version(&c, 2, 22, CACHE_NEVER, version + 1), 0);
    /* what has expired or left is not remembered */
    now_ms += 100;
    CHECK_EQ(noted_put_version(&c, 1, 12, CACHE_NEVER, 7), 0);
    CHECK_EQ(version_of(&c, 1), 7);
    CHECK_EQ(noted_remove(&c, 1), 0);
    CHECK_EQ(noted_put_version(&c, 1, 13, CACHE_NEVER, 6), 0);
    CHECK_SOUND(noted_check(&c));
    /* beyond the largest that may be given */
    CHECK_EQ(noted_put_version(&c, 1, 14, CACHE_NEVER, CACHE_MAX_VERSION), 0);
    CHECK_EQ(version_of(&c, 1), CACHE_MAX_VERSION);
    CHECK_EQ(noted_put(&c, 1, 15), 0);
    CHECK(version_of(&c, 1) > CACHE_MAX_VERSION);
    CHECK_EQ(noted_put_if_version(&c, 1, 16, version_of(&c, 1)), 0);
    CHECK_SOUND(noted_check(&c));
    n_events = 0;
    noted_destroy(&c);
}

static void put_version_without_expiry(void)
{
    struct cache_config config = fresh_config(2);
    struct cache_entry e;
    struct versioned c;

    CHECK_EQ(versioned_init(&c, &config), 0);
    CHECK_EQ(versioned_put_version(&c, 1, 10, 1000, 5), CACHE_EINVAL);
    CHECK_EQ(versioned_put_version(&c, 1, 10, 0, 5), CACHE_EINVAL);
    CHECK_EQ(versioned_put_version(&c, 1, 10, CACHE_NEVER, 5), 0);
    CHECK_EQ(versioned_put_if_version(&c, 1, 11, 5), 0);
    CHECK_EQ(versioned_entry(&c, 1, &e), 0);
    CHECK_EQ(e.version, 6);
    CHECK_EQ(n_clock_reads, 0);
    versioned_destroy(&c);
}

/* on_remove of a replaced value finds the new one with its version. */
static struct noted *noted_looked_at;
static uint64_t noted_seen;

static void look_at_version(void)
{
    struct cache_entry e;

    noted_seen = noted_entry(noted_looked_at, 1, &e) == 0 ? e.version : 0;
}

static void a_callback_sees_the_new_version(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);

    noted_looked_at = &c;
    CHECK_EQ(noted_put(&c, 1, 10), 0);
    in_callback = look_at_version;
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, 500), 0);
    CHECK_EQ(noted_seen, 500);
    CHECK_EQ(noted_put(&c, 1, 12), 0);
    CHECK_EQ(noted_seen, 501);
    CHECK_EQ(noted_remove(&c, 1), 0);
    CHECK_EQ(noted_seen, 0);
    in_callback = NULL;
    noted_destroy(&c);
}

static void try_to_change_noted(void)
{
    const int before = n_asserts;

    CHECK_EQ(noted_put_if_version(noted_looked_at, 9, 1, 0), CACHE_EBUSY);
    CHECK_EQ(noted_put_version(noted_looked_at, 9, 1, CACHE_NEVER, 1000),
             CACHE_EBUSY);
    CHECK_EQ(n_asserts, before + 2);
    noted_seen++;
}

static void callbacks_may_not_put_versions(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);

    noted_looked_at = &c;
    noted_seen = 0;
    CHECK_EQ(noted_put(&c, 1, 10), 0);
    in_callback = try_to_change_noted;
    CHECK_EQ(noted_put_version(&c, 1, 11, CACHE_NEVER, 500), 0);
    in_callback = NULL;
    CHECK_EQ(noted_seen, 2); /* weigh, on_remove */
    CHECK_EQ(version_of(&c, 1), 500);
    n_events = 0;
    noted_destroy(&c);
}

/* What the layers above have: the version that a put has given. */
static void the_inner_put_says_the_version(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 2);
    const uint64_t key = 1, value = 10, hash = noted__hash(&c.base, &key);
    uint64_t version = 77, first;

    CHECK_EQ(noted__put_version(&c, &key, &value, hash, CACHE_NEVER,
                                CACHE__PRESENT, &version),
             CACHE_EKEY);
    CHECK_EQ(version, 77); /* left alone */
    CHECK_EQ(noted__put_version(&c, &key, &value, hash, CACHE_NEVER,
                                CACHE__ABSENT, &version),
             0);
    CHECK_EQ(version, version_of(&c, 1));
    CHECK_EQ(version, cache__meta_of(&c.base)->version);
    first = version;
    CHECK_EQ(noted__put_version(&c, &key, &value, hash, CACHE_NEVER,
                                CACHE__ABSENT, &version),
             CACHE_EKEY);
    CHECK_EQ(noted__put_version(&c, &key, &value, hash, CACHE_NEVER,
                                CACHE__SAME, &version),
             0);
    CHECK(version > first);
    version = 500;
    CHECK_EQ(noted__put_version(&c, &key, &value, hash, CACHE_NEVER,
                                CACHE__OLDER, &version),
             0);
    CHECK_EQ(version, 500);
    n_events = 0;
    noted_destroy(&c);
}

static void memory_of_metadata(void)
{
    struct cache_config config = fresh_config(64000);
    const size_t base = plain_memory_needed(&config);

    CHECK(timed_memory_needed(&config) - base >= 8 * 64000);
    CHECK(timed_memory_needed(&config) - base <= 8 * 64000 + 128);
    CHECK(tallied_memory_needed(&config) - base >= 4 * 64000);
    CHECK(tallied_memory_needed(&config) - base <= 4 * 64000 + 128);
    /* LRU has its links and no marks */
    CHECK(versioned_memory_needed(&config) - base >=
          8 * 64000 - 64000 / 8 - 64);
    CHECK(versioned_memory_needed(&config) - base <= 8 * 64000 + 128);
}

static void check_finds_what_metadata_is_wrong(void)
{
    struct cache_config config;
    struct noted c = noted_open(&config, 4);
    struct cache__meta *meta = cache__meta_of(&c.base);
    uint64_t version, highest;

    now_ms += 100;
    CHECK_EQ(noted_put(&c, 1, 10), 0);
    CHECK_EQ(noted_put(&c, 2, 20), 0);
    CHECK_EQ(noted_remove(&c, 2), 0);

#define CHECK_WRONG(change, back)                                              \
    do {                                                                       \
        CHECK_SOUND(noted_check(&c));                                          \
        change;                                                                \
        CHECK(noted_check(&c) != NULL);                                        \
        back;                                                                  \
    } while (0)

    version = meta->versions[1];
    highest = meta->version;
    CHECK_WRONG(meta->versions[2] = 1, meta->versions[2] = 0);
    CHECK_WRONG(meta->versions[1] = 0, meta->versions[1] = version);
    CHECK_WRONG(meta->version = version - 1, meta->version = highest);
    CHECK_WRONG(meta->times[1].created = 0, meta->times[1].created = 3);
    CHECK_WRONG(meta->times[1].created = 4, meta->times[1].created = 3);
    CHECK_WRONG(meta->times[1].accessed = 2, meta->times[1].accessed = 3);
    CHECK_WRONG(meta->times[1].accessed = 4, meta->times[1].accessed = 3);
    CHECK_SOUND(noted_check(&c));
    n_events = 0;
    noted_destroy(&c);
}

/* --- a policy that a config names ---------------------------------------- */

CACHE_DEFINE_WITH(chosen, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_POLICY_DYNAMIC, .on_remove = nums_left);

static void policies_have_names(void)
{
    uint32_t code, n = 0;

    for (code = 0; code <= 0x1fff; code++) {
        const char *name = cache_policy_name(code);
        if (name == NULL)
            continue;
        n++;
        CHECK(code <= CACHE__POLICY_BITS);
        CHECK_EQ(__builtin_popcount(code), 3);
        CHECK_EQ(cache_policy_named(name), code);
    }
    CHECK(n >= 4);
    CHECK_STR(cache_policy_name(CACHE_FIFO), "fifo");
    CHECK_STR(cache_policy_name(CACHE_LRU), "lru");
    CHECK_STR(cache_policy_name(CACHE_SIEVE), "sieve");
    CHECK_STR(cache_policy_name(CACHE_CLOCK), "clock");
    CHECK(cache_policy_name(CACHE_POLICY_DYNAMIC) == NULL);
    CHECK_EQ(cache_policy_named("LRU"), 0);
    CHECK_EQ(cache_policy_named("lr"), 0);
    CHECK_EQ(cache_policy_named("lru "), 0);
    CHECK_EQ(cache_policy_named(""), 0);
}

CACHE_DEFINE(unnamed, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64, 0);
CACHE_DEFINE(unnamed_expiring, uint64_t, uint64_t, cache_hash_u64,
             cache_equal_u64, CACHE_EXPIRY | CACHE_STATS);

/* A policy that is not named, in the type or the config, is CACHE_ADAPTIVE. */
static void the_default_policy(void)
{
    struct cache_config config = fresh_config(4);
    struct chosen c;

    CHECK(unnamed__kind.policy == &cache_adaptive);
    CHECK(unnamed_expiring__kind.policy == &cache_adaptive);
    CHECK_EQ(unnamed_expiring__kind.options,
             CACHE_ADAPTIVE | CACHE_EXPIRY | CACHE_STATS);
    config.policy = 0;
    CHECK_EQ(chosen_init(&c, &config), 0);
    CHECK(c.base.verbs == &cache_adaptive);
    chosen_destroy(&c);
}

static void policies_that_are_not_one(void)
{
    struct cache_config config = fresh_config(4);
    unsigned char buffer[8192];
    struct chosen c;
    uint32_t code;

    config.alloc = heap_alloc;
    config.free = heap_free;
    for (code = 1; code <= 0x1fff; code++) {
        if (cache_policy_name(code) != NULL)
            continue;
        config.policy = code;
        CHECK_EQ(chosen_init(&c, &config), CACHE_EPOLICY);
        CHECK_EQ(chosen_init_in(&c, &config, buffer, sizeof buffer),
                 CACHE_EPOLICY);
        CHECK_EQ(chosen_memory_needed(&config), 0);
    }
    CHECK_EQ(heap.allocs, 0);
}

static void each_policy_without_memory(void)
{
    struct cache_config config = fresh_config(4);
    struct chosen c, before;
    int n = 0;

    config.alloc = heap_alloc;
    config.free = heap_free;
    heap.exhausted = true;
    memset(&c, 0x5a, sizeof c);
    before = c;
    for (config.policy = 1; config.policy <= CACHE__POLICY_BITS;
         config.policy++) {
        if (cache_policy_name(config.policy) == NULL)
            continue;
        CHECK_EQ(chosen_init(&c, &config), CACHE_ENOMEM);
        CHECK(memcmp(&c, &before, sizeof c) == 0);
        CHECK_EQ(heap.allocs, ++n);
        CHECK_EQ(heap.bytes, chosen_memory_needed(&config));
    }
    CHECK_EQ(heap.frees, 0);
}

static void a_type_with_a_policy_of_its_own(void)
{
    static const uint32_t given[] = { CACHE_SIEVE, CACHE_LRU, 1,
                                      CACHE_POLICY_DYNAMIC };
    struct cache_config config = fresh_config(4);
    unsigned char buffer[8192];
    struct plain c;
    size_t i;

    for (i = 0; i < COUNT_OF(given); i++) {
        config.policy = given[i];
        CHECK_EQ(plain_init(&c, &config), CACHE_EPOLICY);
        CHECK_EQ(plain_init_in(&c, &config, buffer, sizeof buffer),
                 CACHE_EPOLICY);
        CHECK_EQ(plain_memory_needed(&config), 0);
    }
}

/* The policy that was named is the one that decides; 1 was used. */
static void the_policy_that_was_named(void)
{
    static const struct {
        uint32_t policy;
        uint64_t first, second;
    } cases[] = {
        { CACHE_FIFO, 1, 2 },
        { CACHE_LRU, 2, 3 },
        { CACHE_SIEVE, 2, 3 },
        { CACHE_CLOCK, 2, 3 },
    };
    size_t i;

    for (i = 0; i < COUNT_OF(cases); i++) {
        struct cache_config config = fresh_config(3);
        struct chosen c;
        uint64_t key;

        config.policy = cases[i].policy;
        CHECK_EQ(chosen_init(&c, &config), 0);
        for (key = 1; key <= 3; key++)
            CHECK_EQ(chosen_put(&c, key, key), 0);
        CHECK(chosen_get(&c, 1) != NULL);
        CHECK_EQ(chosen_put(&c, 4, 4), 0);
        check_event(cases[i].first, cases[i].first, CACHE_CAUSE_EVICTED);
        CHECK_EQ(chosen_put(&c, 5, 5), 0);
        check_event(cases[i].second, cases[i].second, CACHE_CAUSE_EVICTED);
        CHECK_SOUND(chosen_check(&c));
        CHECK_EQ(chosen_clear(&c), 0); /* the policy stays */
        CHECK_SOUND(chosen_check(&c));
        n_events = 0;
        chosen_destroy(&c);
    }
}

/*
 * The same operations on three caches: of a type that names its policy, of one
 * that is told, and of that one in memory that is not zeroed.  All have the
 * same seed, and must find the same and lose the same in the same order.
 */

/* A type, and one operation on it; returns what came of it. */
#define STREAM_TYPE(name, policy)                                              \
    CACHE_DEFINE_WITH(name, uint64_t, uint64_t, cache_hash_u64,                \
                      cache_equal_u64, (policy) | CACHE__FEATURE_BITS,         \
                      .on_remove = nums_left, .weigh = heavy_weigh,            \
                      .cost = heavy_cost);                                     \
    static uint64_t name##_stream(struct name *c, uint64_t r)                  \
    {                                                                          \
        const uint64_t a = r >> 32 & 0xff, b = r >> 40 & 0xff;                 \
        const uint64_t key = a < b ? a : b; /* a small one mostly */           \
        const uint64_t value = r >> 48 & 0x3ff;                                \
        const uint64_t *found;                                                 \
        bool inserted = false;                                                 \
        switch (r % 16) {                                                      \
        case 0: return (uint64_t)name##_remove(c, key);                        \
        case 1: return (uint64_t)name##_put_ttl(c, key, value, 500);           \
        case 2: return (uint64_t)name##_put(c, key, value);                    \
        case 3: return (uint64_t)name##_touch_ttl(c, key, 1000);               \
        case 4: return (uint64_t)name##_pin(c, key % 8);                       \
        case 5: return (uint64_t)name##_unpin(c, key % 8);                     \
        case 6: return name##_tick(c, 5);                                      \
        case 7: return name##_get(c, key) != NULL;                             \
        default: break;                                                        \
        }                                                                      \
        found = name##_get_or_insert(c, key, value, &inserted);                \
        return found ? *found * 2 + inserted : UINT64_MAX;                     \
    }                                                                          \
    struct cache__swallow_semicolon

STREAM_TYPE(dynamic, CACHE_POLICY_DYNAMIC);

static struct cache_config stream_config(uint32_t policy)
{
    struct cache_config config = fresh_config(40);

    config.policy = policy;
    config.max_bytes = UINT64_MAX;
    config.max_bytes = (dynamic_memory_needed(&config) / 40 + 400) * 30;
    return config;
}

static struct dynamic dynamic_open(const struct cache_config *config)
{
    struct dynamic c;

    CHECK_EQ(dynamic_init(&c, config), 0);
    return c;
}

/* The operation has the same result and the same events as on the first. */
static void check_stream(struct dynamic *c, uint64_t r, uint64_t result)
{
    struct event first[COUNT_OF(events)];
    const int n_first = n_events;
    int i;

    memcpy(first, events, sizeof first);
    n_events = 0;
    CHECK_EQ(dynamic_stream(c, r), result);
    CHECK_EQ(n_events, n_first);
    for (i = 0; i < n_events; i++) {
        CHECK_EQ(events[i].key, first[i].key);
        CHECK_EQ(events[i].value, first[i].value);
        CHECK_EQ(events[i].cause, first[i].cause);
    }
}

#define STREAM_TEST(name, policy_)                                             \
    STREAM_TYPE(fixed_##name, policy_);                                        \
    static void in_the_type_or_the_config_##name(void)                         \
    {                                                                          \
        struct cache_config config = stream_config(policy_);                   \
        const size_t bytes = dynamic_memory_needed(&config);                   \
        void *memory = malloc(bytes);                                          \
        struct dynamic d = dynamic_open(&config), dirty;                       \
        struct fixed_##name f;                                                 \
        uint64_t random = test_seed, r;                                        \
        int step;                                                              \
        CHECK(memory != NULL);                                                 \
        memset(memory, 0xa5, bytes);                                           \
        CHECK_EQ(dynamic_init_in(&dirty, &config, memory, bytes), 0);          \
        config.policy = 0;                                                     \
        CHECK_EQ(fixed_##name##_memory_needed(&config), bytes);                \
        CHECK_EQ(fixed_##name##_init(&f, &config), 0);                         \
        for (step = 0; step < 20000; step++) {                                 \
            uint64_t result;                                                   \
            r = test_random(&random);                                          \
            now_ms += r >> 62;                                                 \
            n_events = 0;                                                      \
            result = fixed_##name##_stream(&f, r);                             \
            check_stream(&d, r, result);                                       \
            check_stream(&dirty, r, result);                                   \
        }                                                                      \
        CHECK(f.base.stats.evictions > 1000 && f.base.stats.hits > 1000);      \
        CHECK(memcmp(&f.base.stats, &d.base.stats, sizeof d.base.stats) == 0); \
        CHECK_SOUND(fixed_##name##_check(&f));                                 \
        CHECK_SOUND(dynamic_check(&d));                                        \
        CHECK_SOUND(dynamic_check(&dirty));                                    \
        n_events = 0;                                                          \
        fixed_##name##_destroy(&f);                                            \
        n_events = 0;                                                          \
        dynamic_destroy(&d);                                                   \
        n_events = 0;                                                          \
        dynamic_destroy(&dirty);                                               \
        free(memory);                                                          \
    }                                                                          \
    struct cache__swallow_semicolon;

/* A new policy is a line here. */
#define EACH_POLICY(X)                                                         \
    X(adaptive, CACHE_ADAPTIVE)                                                \
    X(fifo, CACHE_FIFO)                                                        \
    X(lru, CACHE_LRU)                                                          \
    X(clock, CACHE_CLOCK)                                                      \
    X(sieve, CACHE_SIEVE)                                                      \
    X(random, CACHE_RANDOM)                                                    \
    X(ttl, CACHE_TTL)                                                          \
    X(lfu, CACHE_LFU)                                                          \
    X(gdsf, CACHE_GDSF)                                                        \
    X(slru, CACHE_SLRU)                                                        \
    X(2q, CACHE_2Q)                                                            \
    X(arc, CACHE_ARC)                                                          \
    X(lirs, CACHE_LIRS)                                                        \
    X(s3fifo, CACHE_S3FIFO)                                                    \
    X(wtinylfu, CACHE_WTINYLFU)

EACH_POLICY(STREAM_TEST)

#define COUNT_POLICY(name, policy) +1
#define TEST_POLICY(name, policy) TEST(in_the_type_or_the_config_##name),

static void every_policy_is_in_the_list(void)
{
    int n = 0;
    uint32_t code;

    for (code = 1; code <= CACHE__POLICY_BITS; code++)
        n += cache_policy_name(code) != NULL;
    CHECK_EQ(n, EACH_POLICY(COUNT_POLICY)); /* a line is missing there */
}

/* No callback: clear does not visit the entries. */
CACHE_DEFINE(quiet, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_POLICY_DYNAMIC);

static bool quiet_has(struct quiet *c, uint64_t r)
{
    const uint64_t a = r >> 32 & 0xff, b = r >> 40 & 0xff;
    bool inserted;

    CHECK(quiet_get_or_insert(c, a < b ? a : b, r, &inserted) != NULL);
    return !inserted;
}

/* A cache that was cleared decides as a fresh one does. */
static void cleared_is_as_new(void)
{
    struct cache_config config = fresh_config(40);

    for (config.policy = 1; config.policy <= CACHE__POLICY_BITS;
         config.policy++) {
        struct quiet fresh, cleared;
        uint64_t random = test_seed, r;
        int step;

        if (cache_policy_name(config.policy) == NULL)
            continue;
        CHECK_EQ(quiet_init(&fresh, &config), 0);
        CHECK_EQ(quiet_init(&cleared, &config), 0);
        for (step = 0; step < 3000; step++)
            (void)quiet_has(&cleared, test_random(&random));
        CHECK_EQ(quiet_clear(&cleared), 0);
        CHECK_SOUND(quiet_check(&cleared));
        for (step = 0; step < 3000; step++) {
            r = test_random(&random);
            CHECK_EQ(quiet_has(&cleared, r), quiet_has(&fresh, r));
        }
        CHECK_SOUND(quiet_check(&cleared));
        quiet_destroy(&fresh);
        quiet_destroy(&cleared);
    }
}

/* --- what a policy hears ------------------------------------------------- */

/* LRU that listens: a letter for each verb, and what came with the last. */
static struct {
    char verbs[64];
    struct cache_item item;
    uint64_t evicted; /* a hash */
    uint32_t full;    /* when it was asked for a victim */
} heard;

static void hear(char verb)
{
    size_t n = strlen(heard.verbs);

    CHECK(n + 1 < sizeof heard.verbs);
    heard.verbs[n] = verb;
}

static void spy_admit(struct cache_policy *p, const struct cache_item *item)
{
    (void)p;
    hear('A');
    heard.item = *item;
}

static void spy_add(struct cache_policy *p, uint32_t slot,
                    const struct cache_item *item)
{
    hear('a');
    if (strchr(heard.verbs, 'A'))
        CHECK(memcmp(&heard.item, item, sizeof *item) == 0);
    heard.item = *item;
    cache_lru.add(p, slot, item);
}

static void spy_hit(struct cache_policy *p, uint32_t slot, uint64_t hash)
{
    hear('h');
    cache_lru.hit(p, slot, hash);
}

static void spy_change(struct cache_policy *p, uint32_t slot,
                       const struct cache_item *item)
{
    (void)p, (void)slot;
    hear('c');
    heard.item = *item;
}

static void spy_remove(struct cache_policy *p, uint32_t slot)
{
    hear('r');
    cache_lru.remove(p, slot);
}

static uint32_t spy_victim(struct cache_policy *p)
{
    hear('v');
    heard.full = p->full;
    return cache_lru.victim(p);
}

static void spy_evict(struct cache_policy *p, uint32_t slot, uint64_t hash)
{
    hear('e');
    heard.evicted = hash;
    cache_lru.evict(p, slot, hash);
}

static void check_heard(const char *verbs)
{
    CHECK_STR(heard.verbs, verbs);
    memset(heard.verbs, 0, sizeof heard.verbs);
}

/* The item of key 1 with this value, its own bytes, and this deadline. */
static void check_item(const struct dynamic *c, uint64_t value,
                       uint32_t deadline)
{
    const uint64_t key = 1;

    CHECK(heard.item.hash == dynamic__hash(&c->base, &key));
    CHECK_EQ(heard.item.weight, c->base.entry_bytes + value);
    CHECK_EQ(heard.item.cost, key + value);
    CHECK_EQ(heard.item.deadline, deadline);
}

/* `whole`: it says that it needs the whole hash of what it evicts. */
static void what_a_policy_hears(bool whole)
{
    struct cache_config config = fresh_config(4);
    struct cache_policy_verbs spy = cache_lru;
    struct dynamic c;
    uint64_t key;

    spy.admit = spy_admit;
    spy.add = spy_add;
    spy.hit = spy_hit;
    spy.change = spy_change;
    spy.remove = spy_remove;
    spy.victim = spy_victim;
    spy.evict = spy_evict;
    spy.needs_whole_hash = whole;
    config.policy = CACHE_LRU;
    config.max_bytes = UINT64_MAX;
    config.max_bytes = (dynamic_memory_needed(&config) + 3) / 4 * 4 + 400;
    c = dynamic_open(&config);
    c.base.verbs = &spy;
    memset(&heard, 0, sizeof heard);

    CHECK_EQ(dynamic_put_ttl(&c, 1, 100, 1000), 0);
    check_heard("Aa");
    check_item(&c, 100, 1 + 1000 / CACHE_DEFAULT_TICK_MS);
    for (key = 2; key <= 4; key++)
        CHECK_EQ(dynamic_put(&c, key, 100), 0);
    check_heard("AaAaAa");
    CHECK(dynamic_get(&c, 1) && !dynamic_get(&c, 9) && dynamic_peek(&c, 1));
    check_heard("h");
    CHECK_EQ(dynamic_put(&c, 1, 50), 0);
    check_heard("ch");
    check_item(&c, 50, 0);
    CHECK_EQ(dynamic_touch_ttl(&c, 1, 500), 0);
    check_heard("c");
    check_item(&c, 50, 1 + 500 / CACHE_DEFAULT_TICK_MS);

    CHECK_EQ(dynamic_pin(&c, 1), 0);
    check_heard("r");
    CHECK_EQ(dynamic_pin(&c, 1), 0);
    CHECK(dynamic_get(&c, 1) != NULL);
    CHECK_EQ(dynamic_put(&c, 1, 40), 0);
    CHECK_EQ(dynamic_touch_ttl(&c, 1, 1000), 0);
    CHECK_EQ(dynamic_unpin(&c, 1), 0);
    check_heard("");
    CHECK_EQ(dynamic_unpin(&c, 1), 0);
    check_heard("a");
    check_item(&c, 40, 1 + 1000 / CACHE_DEFAULT_TICK_MS);

    CHECK_EQ(dynamic_put(&c, 5, 100), 0); /* full: 2 leaves */
    check_heard("Avea");
    CHECK_EQ(heard.full, 4);
    key = 2;
    CHECK((heard.evicted ^ dynamic__hash(&c.base, &key)) >> 32 == 0);
    CHECK(!whole || heard.evicted == dynamic__hash(&c.base, &key));
    CHECK_EQ(dynamic_pin(&c, 3), 0);
    check_heard("r");
    CHECK_EQ(dynamic_put(&c, 6, 100), 0); /* 4 leaves, 3 does not */
    check_heard("Avea");
    CHECK_EQ(heard.full, 3);
    CHECK_EQ(dynamic_put(&c, 1, 150), 0); /* grows: 5 leaves */
    check_heard("rveach");
    CHECK_EQ(heard.full, 2);
    check_item(&c, 150, 0);
    CHECK_EQ(dynamic_put(&c, 7, config.max_bytes), CACHE_EFULL);
    check_heard("");
    CHECK_EQ(dynamic_remove(&c, 3), 0); /* it is not the policy's */
    check_heard("");
    CHECK_EQ(dynamic_remove(&c, 6), 0);
    check_heard("r");
    CHECK_EQ(dynamic_put_ttl(&c, 1, 100, 100), 0);
    check_heard("ch");
    now_ms += 100;
    CHECK_EQ(dynamic_put(&c, 1, 100), 0); /* it left, and comes anew */
    check_heard("rAa");
    CHECK_SOUND(dynamic_check(&c));
    n_events = 0;
    dynamic_destroy(&c);
}

static void a_policy_hears(void)
{
    what_a_policy_hears(false);
}

static void a_policy_hears_whole_hashes(void)
{
    what_a_policy_hears(true);
}

/* --- errors and hints ---------------------------------------------------- */

static void every_error_has_its_sentence(void)
{
    static const int codes[] = {
        0,
        CACHE_EINVAL,
        CACHE_ENOMEM,
        CACHE_EFULL,
        CACHE_EKEY,
        CACHE_EBUSY,
        CACHE_ETTL,
        CACHE_ECAPACITY,
        CACHE_ETICK,
        CACHE_ENOEXPIRY,
        CACHE_ECLOCK,
        CACHE_EALLOCATOR,
        CACHE_ESIZE,
        CACHE_EBUFFER,
        CACHE_ELIMIT,
        CACHE_ERETRY,
        CACHE_ENOSTORE,
        CACHE_ENOCODEC,
        CACHE_EPATH,
        CACHE_EOWNER,
        CACHE_EWEIGHT,
        CACHE_EPOLICY,
        CACHE_ERETAIN,
        CACHE_ESHARDS,
        CACHE_ESTRATEGY,
        CACHE_EFRESHNESS,
        CACHE_ECODEC,
        CACHE_ETOOBIG,
        CACHE_EACCESS,
        CACHE_ECORRUPT,
        CACHE_EIO,
        CACHE_ELOCKED,
        CACHE_ESCHEMA,
        CACHE_ECONFLICT,
        CACHE_ECLOSED,
        CACHE_EDEADLETTER,
        CACHE_ESTORE,
        CACHE_ETIMEOUT,
    };
    size_t i, k;

    for (i = 0; i < COUNT_OF(codes); i++) {
        CHECK(cache_strerror(codes[i])[0] != '\0');
        CHECK(strcmp(cache_strerror(codes[i]), cache_strerror(1)) != 0);
        CHECK(codes[i] == 0 || (codes[i] <= -5001 && codes[i] >= -5099));
        for (k = 0; k < i; k++)
            CHECK(strcmp(cache_strerror(codes[i]), cache_strerror(codes[k])));
    }
    CHECK_STR(cache_strerror(-1), cache_strerror(1));
    CHECK_STR(cache_strerror(-5099), cache_strerror(1));
    /* no code without a sentence slipped in between */
    for (i = 0, k = 0; i < 100; i++)
        k += strcmp(cache_strerror(-5000 - (int)i), cache_strerror(1)) != 0;
    CHECK_EQ(k, COUNT_OF(codes) - 1);
}

static void hints(void)
{
    static const struct {
        size_t capacity;
        uint64_t ttl_ms, seed;
        uint32_t tick_ms;
        const char *word; /* of the hint; NULL = no hint */
    } cases[] = {
        { 1000, 0, 0, 0, NULL },     { 1000, CACHE_NEVER, 0, 0, NULL },
        { 1000, 0, 1, 0, "seed" },   { 1000, 499, 0, 0, "ttl_ms" },
        { 1000, 500, 0, 0, NULL },   { 1000, 99, 0, 10, "ttl_ms" },
        { 1000, 100, 0, 10, NULL },  { 1000, 100, 0, 9, "tick_ms" },
        { 15, 0, 0, 0, "capacity" }, { 16, 0, 0, 0, NULL },
    };
    size_t i;

    CHECK(strstr(cache_config_hint(NULL), "NULL") != NULL);
    for (i = 0; i < COUNT_OF(cases); i++) {
        struct cache_config config;
        const char *hint;

        memset(&config, 0, sizeof config);
        config.capacity = cases[i].capacity;
        config.ttl_ms = cases[i].ttl_ms;
        config.seed = cases[i].seed;
        config.tick_ms = cases[i].tick_ms;
        hint = cache_config_hint(&config);
        CHECK_EQ(hint != NULL, cases[i].word != NULL);
        if (hint != NULL) /* it begins with the setting's name */
            CHECK(strncmp(hint, cases[i].word, strlen(cases[i].word)) == 0);
    }
}

/* --- hashes -------------------------------------------------------------- */

#define INTEGER_KEYS(suffix, T)                                                \
    static void suffix##_keys(void)                                            \
    {                                                                          \
        const T a = (T)-1, b = 1, c = (T)-1;                                   \
        CHECK(cache_equal_##suffix(&a, &c));                                   \
        CHECK(!cache_equal_##suffix(&a, &b));                                  \
        CHECK(cache_hash_##suffix(&a, 5) == cache_hash_##suffix(&c, 5));       \
        CHECK(cache_hash_##suffix(&a, 5) != cache_hash_##suffix(&b, 5));       \
        CHECK(cache_hash_##suffix(&a, 5) != cache_hash_##suffix(&a, 6));       \
        CHECK(cache_sip_##suffix(&a, 5) == cache_sip_##suffix(&c, 5));         \
        CHECK(cache_sip_##suffix(&a, 5) != cache_sip_##suffix(&b, 5));         \
        CHECK(cache_sip_##suffix(&a, 5) != cache_sip_##suffix(&a, 6));         \
    }                                                                          \
    struct cache__swallow_semicolon

INTEGER_KEYS(u8, uint8_t);
INTEGER_KEYS(u16, uint16_t);
INTEGER_KEYS(u32, uint32_t);
INTEGER_KEYS(u64, uint64_t);
INTEGER_KEYS(i8, int8_t);
INTEGER_KEYS(i16, int16_t);
INTEGER_KEYS(i32, int32_t);
INTEGER_KEYS(i64, int64_t);

/* The product by hand: a compiler without 128 bits must find the same. */
static void fold_mul_is_exact(void)
{
    CHECK(cache__fold_mul(0, UINT64_MAX) == 0);
    CHECK(cache__fold_mul(3, 5) == 15);
    CHECK(cache__fold_mul(UINT64_C(1) << 32, UINT64_C(1) << 32) == 1);
    /* (2^64 - 1)^2 = (2^64 - 2) 2^64 + 1 */
    CHECK(cache__fold_mul(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    /* (2^64 - 1) (2^32 + 1) = 2^32 2^64 + (2^64 - 2^32 - 1) */
    CHECK(cache__fold_mul(UINT64_MAX, (UINT64_C(1) << 32) + 1) ==
          ((UINT64_MAX - (UINT64_C(1) << 32)) ^ (UINT64_C(1) << 32)));
}

typedef uint64_t (*bytes_hash)(const struct cache_bytes *key, uint64_t seed);

static const bytes_hash bytes_hashes[] = { cache_hash_bytes, cache_sip_bytes };

static struct cache_bytes bytes_of(const void *data, size_t len)
{
    struct cache_bytes bytes;

    bytes.data = data;
    bytes.len = len;
    return bytes;
}

/* Every length, wherever the bytes stand, and every byte counts. */
static void bytes_of_every_length(void)
{
    enum { MAX = 40 };
    unsigned char one[MAX], two[MAX + 8], zeroes[MAX] = { 0 };
    uint64_t of_zeroes[MAX + 1], random = test_seed;
    size_t h, len, i;

    for (i = 0; i < MAX; i++)
        one[i] = (unsigned char)test_random(&random);
    for (h = 0; h < COUNT_OF(bytes_hashes); h++)
        for (len = 0; len <= MAX; len++) {
            const bytes_hash hash = bytes_hashes[h];
            struct cache_bytes a = bytes_of(one, len), b;
            unsigned char *exact = (unsigned char *)malloc(len ? len : 1);
            size_t shift = 1 + len % 7;

            CHECK(exact != NULL);
            memcpy(exact, one, len); /* reading behind the end is noticed */
            memcpy(two + shift, one, len);
            b = bytes_of(two + shift, len);
            CHECK(cache_equal_bytes(&a, &b));
            CHECK(hash(&a, 1) == hash(&b, 1));
            b = bytes_of(exact, len);
            CHECK(hash(&a, 1) == hash(&b, 1));
            CHECK(hash(&a, 1) != hash(&a, 2));
            for (i = 0; i < len; i++) {
                exact[i] ^= (unsigned char)(1 << i % 8);
                CHECK(!cache_equal_bytes(&a, &b));
                CHECK(hash(&a, 1) != hash(&b, 1));
                exact[i] = one[i];
            }
            free(exact);

            /* bytes of zero differ by their number alone */
            a = bytes_of(zeroes, len);
            of_zeroes[len] = hash(&a, 1);
            for (i = 0; i < len; i++) {
                b = bytes_of(zeroes, i);
                CHECK(!cache_equal_bytes(&a, &b));
                CHECK(of_zeroes[i] != of_zeroes[len]);
            }
        }
}

static void bytes_of_nothing(void)
{
    const struct cache_bytes null = bytes_of(NULL, 0), empty = bytes_of("", 0);
    size_t h;

    CHECK(cache_equal_bytes(&null, &empty));
    for (h = 0; h < COUNT_OF(bytes_hashes); h++)
        CHECK(bytes_hashes[h](&null, 7) == bytes_hashes[h](&empty, 7));
}

static void strings(void)
{
    char other[] = "a string";
    const char *a = "a string", *b = other, *c = "a strinG";

    CHECK(cache_equal_str(&a, &b));
    CHECK(!cache_equal_str(&a, &c));
    CHECK(cache_hash_str(&a, 1) == cache_hash_str(&b, 1));
    CHECK(cache_hash_str(&a, 1) != cache_hash_str(&c, 1));
    CHECK(cache_hash_str(&a, 1) != cache_hash_str(&a, 2));
    CHECK(cache_sip_str(&a, 1) == cache_sip_str(&b, 1));
    CHECK(cache_sip_str(&a, 1) != cache_sip_str(&c, 1));
    CHECK(cache_sip_str(&a, 1) != cache_sip_str(&a, 2));
}

struct point {
    int32_t x, y, z;
};

CACHE_STRUCT_KEY(point, struct point, 3 * sizeof(int32_t));
CACHE_DEFINE(points, struct point, char, point_sip, point_equal, CACHE_FIFO);

static void struct_keys(void)
{
    const struct point a = { 1, 2, 3 }, b = { 1, 2, 3 }, other = { 1, 2, 4 };
    struct cache_config config = fresh_config(2);
    struct points c;

    CHECK(point_equal(&a, &b) && !point_equal(&a, &other));
    CHECK(point_hash(&a, 1) == point_hash(&b, 1));
    CHECK(point_hash(&a, 1) != point_hash(&other, 1));
    CHECK(point_hash(&a, 1) != point_hash(&a, 2));
    CHECK(point_sip(&a, 1) == point_sip(&b, 1));
    CHECK(point_sip(&a, 1) != point_sip(&other, 1));
    CHECK_EQ(points_init(&c, &config), 0);
    CHECK_EQ(points_put(&c, a, 'a'), 0);
    CHECK(points_get(&c, b) && *points_get(&c, b) == 'a');
    CHECK(points_get(&c, other) == NULL);
    points_destroy(&c);
}

/* The vectors of the paper's authors: key 00 01 .. 0f, input 00 01 02 .. */
static void siphash_2_4_vectors(void)
{
    static const uint64_t expected[] = {
        UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd),
        UINT64_C(0x0d6c8009d9a94f5a), UINT64_C(0x85676696d7fb7e2d),
        UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
        UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137),
        UINT64_C(0x93f5f5799a932462), UINT64_C(0x9e0082df0ba9e4b0),
        UINT64_C(0x7a5dbbc594ddb9f3), UINT64_C(0xf4b32f46226bada7),
        UINT64_C(0x751e8fbc860ee5fb), UINT64_C(0x14ea5627c0843d90),
        UINT64_C(0xf723ca908e7af2ee), UINT64_C(0xa129ca6149be45e5),
    };
    unsigned char input[16];
    size_t i;

    for (i = 0; i < COUNT_OF(expected); i++) {
        input[i] = (unsigned char)i;
        CHECK(cache__siphash(input, i, UINT64_C(0x0706050403020100),
                             UINT64_C(0x0f0e0d0c0b0a0908), 2,
                             4) == expected[i]);
    }
}

static uint64_t keys_sequential(uint64_t i)
{
    return i;
}
static uint64_t keys_by_16(uint64_t i)
{
    return i * 16;
}
static uint64_t keys_by_65536(uint64_t i)
{
    return i << 16;
}
static uint64_t keys_high_bits(uint64_t i)
{
    return i << 47;
}
static uint64_t keys_down(uint64_t i)
{
    return UINT64_MAX - i;
}

/* Entries of the fullest group and its chain. */
static int fullest_group(const struct plain *c)
{
    int fullest = 0;
    uint32_t i, word;

    for (i = 0; i < c->base.n_groups; i++) {
        const uint32_t *group = &c->base.groups[i * CACHE__GROUP];
        int n = 0;

        for (word = 0; word < CACHE__GROUP; word++)
            n += group[word] != 0;
        word = group[CACHE__GROUP - 1] & c->base.slot_mask;
        while ((word = *cache__link(&c->base, plain__options, word) &
                       c->base.slot_mask) != 0)
            n++;
        fullest = n > fullest ? n : fullest;
    }
    return fullest;
}

/* Random keys would have 4 on average and some 15 in the fullest group. */
static void patterns_of_keys_spread(void)
{
    static uint64_t (*const patterns[])(uint64_t i) = {
        keys_sequential, keys_by_16, keys_by_65536, keys_high_bits, keys_down,
    };
    size_t i;
    uint64_t n;

    for (i = 0; i < 2 * COUNT_OF(patterns); i++) {
        struct cache_config config = fresh_config(100000);
        struct plain c;

        config.seed = i % 2 ? 1 : 0; /* a poor one, and a random one */
        c = plain_open(&config);
        for (n = 0; n < 100000; n++)
            CHECK_EQ(plain_put(&c, patterns[i / 2](n), n), 0);
        CHECK(fullest_group(&c) < 25);
        for (n = 0; n < 100000; n += 1000)
            check_value(plain_get(&c, patterns[i / 2](n)), n);
        plain_destroy(&c);
    }
}

static void seeds_are_random(void)
{
    struct cache_config config = fresh_config(1);
    struct plain a, b;

    config.seed = 0;
    a = plain_open(&config);
    b = plain_open(&config);
    CHECK(a.base.seed != b.base.seed);
    CHECK(a.base.seed != 0);
    plain_destroy(&a);
    plain_destroy(&b);
    config.seed = 77;
    a = plain_open(&config);
    CHECK_EQ(a.base.seed, 77);
    plain_destroy(&a);
}

CACHE_DEFINE(by_bytes, struct cache_bytes, int, cache_hash_bytes,
             cache_equal_bytes, CACHE_LRU);

static uint64_t pointed_hash(struct point *const *key, uint64_t seed)
{
    return point_hash(*key, seed);
}

static bool pointed_equal(struct point *const *a, struct point *const *b)
{
    return point_equal(*a, *b);
}

CACHE_DEFINE(by_pointer, struct point *, int, pointed_hash, pointed_equal,
             CACHE_LRU);

/* Kept where equality is dear: pointers and bytes. */
static void hash_is_kept_where_equality_is_dear(void)
{
    CHECK(names__options & CACHE_KEEP_HASH);
    CHECK(by_bytes__options & CACHE_KEEP_HASH);
    CHECK(by_pointer__options & CACHE_KEEP_HASH);
    CHECK(hashed__options & CACHE_KEEP_HASH);
    CHECK(!(plain__options & CACHE_KEEP_HASH));
    CHECK(!(points__options & CACHE_KEEP_HASH));
}

/* --- check --------------------------------------------------------------- */

/* It must find what is broken: break one thing at a time. */
static void check_finds_what_is_broken(void)
{
    struct cache_config config = fresh_config(4);
    struct nums c = nums_open(&config);
    struct cache before;
    uint32_t link, word, kept;

    CHECK_EQ(nums_put_ttl(&c, 1, 10, 100), 0);
    CHECK_EQ(nums_put_ttl(&c, 2, 20, 100), 0);
    CHECK_EQ(nums_put(&c, 3, 30), 0);
    CHECK_EQ(nums_remove(&c, 2), 0);
    CHECK_SOUND(nums_check(&c));
    before = c.base;

#define CHECK_BROKEN(change)                                                   \
    do {                                                                       \
        change;                                                                \
        CHECK(nums_check(&c) != NULL);                                         \
        c.base = before;                                                       \
        CHECK_SOUND(nums_check(&c));                                           \
    } while (0)

    CHECK_BROKEN(c.base.len++);
    CHECK_BROKEN(c.base.len--);
    CHECK_BROKEN(c.base.len = 5);
    CHECK_BROKEN(c.base.fresh++);
    CHECK_BROKEN(c.base.fresh = 5);
    CHECK_BROKEN(c.base.free_slots = 0);
    CHECK_BROKEN(c.base.free_slots = 1);
    CHECK_BROKEN(c.base.free_slots = 4);
    CHECK_BROKEN(c.base.soonest = UINT32_MAX);
    CHECK_BROKEN((c.base.sweep_at = 3, c.base.sweep_soonest = UINT32_MAX));
    CHECK_BROKEN(c.base.seed++);

    c.base.expire[2] = 9; /* a free slot */
    CHECK(nums_check(&c) != NULL);
    c.base.expire[2] = 0;
    link = c.base.chain[1]; /* a chain that ends in itself */
    c.base.chain[1] = 1;
    CHECK(nums_check(&c) != NULL);
    c.base.chain[1] = link | CACHE__FREE;
    CHECK(nums_check(&c) != NULL);
    c.base.chain[1] = link;
    c.base.chain[2] = 2 | CACHE__FREE; /* a free list that does not end */
    CHECK(nums_check(&c) != NULL);
    c.base.chain[2] = CACHE__FREE;
    c.nodes[1].key = 3; /* a key twice, or in a wrong chain */
    CHECK(nums_check(&c) != NULL);
    c.nodes[1].key = 1;
    for (word = 0; c.base.groups[word] != 0; word++)
        ;
    c.base.groups[word] = 1; /* twice */
    CHECK(nums_check(&c) != NULL);
    c.base.groups[word] = 0;
    for (word = 0; c.base.groups[word] == 0; word++)
        ;
    kept = c.base.groups[word]; /* with another tag */
    c.base.groups[word] ^= c.base.slot_mask + 1;
    CHECK(nums_check(&c) != NULL);
    c.base.groups[word] = 0; /* not at all */
    CHECK(nums_check(&c) != NULL);
    c.base.groups[word | (CACHE__GROUP - 1)] = kept; /* last, and not full */
    CHECK(nums_check(&c) != NULL);
    c.base.groups[word | (CACHE__GROUP - 1)] = 0;
    c.base.groups[(word ^ CACHE__GROUP) | 4] = kept; /* in another group */
    CHECK(nums_check(&c) != NULL);
    c.base.groups[(word ^ CACHE__GROUP) | 4] = 0;
    c.base.groups[word] = kept;
    CHECK_SOUND(nums_check(&c));
    n_events = 0;
    nums_destroy(&c);
}

static void check_finds_what_limits_lose(void)
{
    struct cache_config config = fresh_config(4);
    struct heavy c;
    struct cache before;

    heavy_config(&config, 4, 400);
    c = heavy_open(&config);
    CHECK_EQ(heavy_put(&c, 1, 10), 0);
    CHECK_EQ(heavy_put(&c, 2, 20), 0);
    CHECK_EQ(heavy_put(&c, 3, 30), 0);
    CHECK_EQ(heavy_remove(&c, 3), 0);
    CHECK_EQ(heavy_pin(&c, 1), 0);
    before = c.base;

#define CHECK_LOST(change)                                                     \
    do {                                                                       \
        CHECK_SOUND(heavy_check(&c));                                          \
        change;                                                                \
        CHECK(heavy_check(&c) != NULL);                                        \
        c.base = before;                                                       \
    } while (0)

    CHECK_LOST(c.base.used_bytes++);
    CHECK_LOST(c.base.used_bytes--);
    CHECK_LOST(c.base.pinned_bytes++);
    CHECK_LOST(c.base.n_pinned = 0);
    CHECK_LOST(c.base.n_pinned = 2);
    CHECK_LOST(c.base.max_bytes = c.base.used_bytes - 1);
    CHECK_LOST(c.base.held = 2);
    c.base.pins[3] = 1; /* a free slot */
    CHECK(heavy_check(&c) != NULL);
    c.base.pins[3] = 0;
    c.base.pins[2] = 1; /* the policy has it as well */
    CHECK(heavy_check(&c) != NULL);
    c.base.pins[2] = 0;
    c.base.weights[2]++;
    CHECK(heavy_check(&c) != NULL);
    c.base.weights[2]--;
    CHECK_SOUND(heavy_check(&c));
    n_events = 0;
    heavy_destroy(&c);
}

/* --- huge pages ---------------------------------------------------------- */

static void huge_pages_for_large_blocks(void)
{
    struct cache_config config = fresh_config(100000);
    struct plain c;
    uint64_t key;

    config.huge_pages = true;
    CHECK_EQ(plain_init(&c, &config), 0);
#if defined(MAP_ANONYMOUS) && defined(MADV_HUGEPAGE)
    {
        const size_t page = (size_t)2 << 20;
        unsigned char resident[4096];
        size_t n = 0, i;

        CHECK_EQ(c.base.block.mapped % page, 0);
        CHECK(c.base.block.mapped >= plain_memory_needed(&config));
        CHECK(c.base.block.mapped < plain_memory_needed(&config) + page);
        CHECK_EQ((uintptr_t)c.base.block.memory % page, 0);
        CHECK(c.base.block.mapped / 4096 <= sizeof resident);
        memset(resident, 0, sizeof resident);
        CHECK_EQ(mincore(c.base.block.memory, c.base.block.mapped, resident),
                 0);
        for (i = 0; i < c.base.block.mapped / 4096; i++)
            n += resident[i] & 1; /* init has touched the policy's ring */
        CHECK(n <= page / 4096);
    }
#endif
    CHECK_EQ(plain_memory(&c).total_bytes, plain_memory_needed(&config));
    for (key = 0; key < 150000; key++)
        CHECK_EQ(plain_put(&c, key, key * 3), 0);
    CHECK_EQ(plain_len(&c), 100000);
    check_value(plain_get(&c, 149999), 149999 * 3);
    CHECK_SOUND(plain_check(&c));
    CHECK_EQ(plain_clear(&c), 0);
    CHECK_EQ(plain_put(&c, 1, 2), 0);
    plain_destroy(&c);
    plain_destroy(&c); /* twice is harmless */
}

static void huge_pages_that_are_not_used(void)
{
    struct cache_config config = fresh_config(100);
    unsigned char buffer[8192];
    struct plain c;

    config.huge_pages = true; /* a block below one page: from calloc */
    CHECK_EQ(plain_init(&c, &config), 0);
    CHECK_EQ(c.base.block.mapped, 0);
    CHECK_EQ(plain_put(&c, 1, 2), 0);
    plain_destroy(&c);
    CHECK_EQ(plain_init_in(&c, &config, buffer, sizeof buffer), 0);
    CHECK_EQ(c.base.block.mapped, 0);
    plain_destroy(&c);
    config.alloc = heap_alloc; /* who allocates decides on the pages */
    config.free = heap_free;
    CHECK_EQ(plain_init(&c, &config), CACHE_EALLOCATOR);
    CHECK_EQ(plain_memory_needed(&config), 0);
    CHECK_EQ(heap.allocs, 0);
}

static const struct test tests[] = {
    TEST(put_then_get_peek_contains),
    TEST(put_of_what_get_returned),
    TEST(put_with_a_key_that_the_cache_owns),
    TEST(get_counts_as_a_use_and_peek_does_not),
    TEST(put_if_absent_and_replace),
    TEST(get_or_insert),
    TEST(get_many_is_many_gets),
    TEST(get_many_of_strings),
    TEST(remove_and_clear),
    TEST(clear_without_callbacks),
    TEST(compute_does_what_the_callback_returns),
    TEST(compute_and_deadlines),
    TEST(compute_is_a_use),
    TEST(keys_enter_and_leave),
    TEST(keys_leave_without_on_remove),
    TEST(key_copy_refuses),
    TEST(callbacks_look),
    TEST(callback_of_a_replace_sees_the_new_value),
    TEST(callbacks_may_not_change),
    TEST(key_callbacks_may_not_change),
    TEST(callback_may_get_or_insert_what_is_there),
    TEST(ttl_is_exact_to_a_tick),
    TEST(ttl_by_default),
    TEST(clock_that_goes_back),
    TEST(ttl_out_of_range),
    TEST(end_of_time),
    TEST(touch_ttl),
    TEST(what_needs_a_feature_that_is_off),
    TEST(system_clock),
    TEST(fifo_reclaims_before_it_evicts),
    TEST(lru_reclaims_before_it_evicts),
    TEST(sieve_reclaims_before_it_evicts),
    TEST(clock_reclaims_before_it_evicts),
    TEST(tick_is_bounded_and_gets_to_the_end),
    TEST(tick_while_entries_come),
    TEST(init_validates_the_config),
    TEST(init_of_nothing),
    TEST(init_without_memory),
    TEST(init_beyond_the_address_space),
    TEST(one_allocation_and_none_afterwards),
    TEST(capacity_is_kept),
    TEST(memory_needed_for_the_largest),
    TEST(init_in_memory_of_the_caller),
    TEST(init_in_too_little_memory),
    TEST(destroy_twice_and_of_zeroes),
    TEST(config_is_not_kept),
    TEST(iteration_survives_removals),
    TEST(iteration_skips_what_has_expired),
    TEST(iteration_while_entries_are_put),
    TEST(stats),
    TEST(memory_per_entry),
    TEST(memory_of_features),
    TEST(a_put_evicts_several),
    TEST(weighed_and_full),
    TEST(weighed_and_expired),
    TEST(a_replace_of_another_weight),
    TEST(compute_of_another_weight),
    TEST(weights_near_the_largest),
    TEST(entry_bytes_is_the_share_of_the_block),
    TEST(weigh_is_called_when_a_value_comes),
    TEST(weights_come_together),
    TEST(too_heavy_changes_nothing),
    TEST(memory_of_limits),
    TEST(weights_and_clear_without_callbacks),
    TEST(all_pinned_is_full),
    TEST(refused_with_keys_of_its_own),
    TEST(weigh_and_cost_may_not_change),
    TEST(callbacks_look_while_an_entry_grows),
    TEST(an_entry_expires_while_it_grows),
    TEST(callbacks_look_while_others_leave),
    TEST(pins_nest),
    TEST(pins_have_a_largest_number),
    TEST(pins_of_what_is_not_there),
    TEST(what_is_pinned_stays_where_it_is),
    TEST(pinned_and_expired),
    TEST(unpinned_behind_the_sweep),
    TEST(pins_do_not_prevent_changes_of_the_key),
    TEST(pins_and_clear_without_callbacks),
    TEST(entry_says_all_that_is_known),
    TEST(what_is_off_is_0),
    TEST(entry_counts_as_nothing),
    TEST(entry_of_what_has_expired),
    TEST(times_are_whole_ticks),
    TEST(uses_are_noted),
    TEST(a_use_of_what_is_pinned_is_noted),
    TEST(count_stops_at_its_end),
    TEST(times_without_expiry),
    TEST(times_read_the_clock_no_oftener_than_expiry),
    TEST(times_at_the_end_of_time),
    TEST(each_stored_value_has_a_higher_version),
    TEST(put_if_version_stores_over_that_version),
    TEST(a_conflict_changes_nothing),
    TEST(a_put_that_is_refused_has_no_version),
    TEST(put_if_version_has_the_ttl_of_the_config),
    TEST(put_version_stores_over_an_older_one),
    TEST(put_version_without_expiry),
    TEST(a_callback_sees_the_new_version),
    TEST(callbacks_may_not_put_versions),
    TEST(the_inner_put_says_the_version),
    TEST(memory_of_metadata),
    TEST(check_finds_what_metadata_is_wrong),
    TEST(policies_have_names),
    TEST(the_default_policy),
    TEST(policies_that_are_not_one),
    TEST(each_policy_without_memory),
    TEST(huge_pages_for_large_blocks),
    TEST(huge_pages_that_are_not_used),
    TEST(a_type_with_a_policy_of_its_own),
    TEST(the_policy_that_was_named),
    TEST(every_policy_is_in_the_list),
    TEST(cleared_is_as_new),
    TEST(a_policy_hears),
    TEST(a_policy_hears_whole_hashes),
    TEST(every_error_has_its_sentence),
    TEST(hints),
    TEST(u8_keys),
    TEST(u16_keys),
    TEST(u32_keys),
    TEST(u64_keys),
    TEST(i8_keys),
    TEST(i16_keys),
    TEST(i32_keys),
    TEST(i64_keys),
    TEST(fold_mul_is_exact),
    TEST(bytes_of_every_length),
    TEST(bytes_of_nothing),
    TEST(strings),
    TEST(struct_keys),
    TEST(siphash_2_4_vectors),
    TEST(patterns_of_keys_spread),
    TEST(seeds_are_random),
    TEST(hash_is_kept_where_equality_is_dear),
    TEST(check_finds_what_is_broken),
    TEST(check_finds_what_limits_lose),
    EACH_POLICY(TEST_POLICY)
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
