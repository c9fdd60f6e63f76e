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

static int store_9(const char *const *key, int *value, bool present,
                   void *user)
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
                             : nums_put_ttl(&c, 1, 10, ttl), 0);
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
            const uint64_t tick_ms = ticks_ms[i], left = UINT32_MAX - 2 -
                                                         elapsed_ticks[k];
            const struct { uint64_t ttl_ms; int rc; } cases[] = {
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
                CHECK_EQ(nums_put_ttl(&c, 1, 10, cases[n].ttl_ms),
                         cases[n].rc);
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
    static const uint64_t ttls[] = { 0,           1, 1000, CACHE_NEVER - 1,
                                     CACHE_NEVER };
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
                CHECK_EQ(name##_put_ttl(&c, key, key, key == dead ? 100        \
                                                                  : 900), 0);  \
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
    CHECK_EQ(plain_init_in(NULL, &config, buffer, sizeof buffer),
             CACHE_EINVAL);
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
    CHECK_EQ(cache__memory_needed(&huge, &config), 0);
    CHECK_EQ(cache__init(&c, &huge, &config), CACHE_ESIZE);
    CHECK_EQ(cache__init_in(&c, &huge, &config, buffer, sizeof buffer),
             CACHE_ESIZE);
    huge.node_bytes = SIZE_MAX;
    CHECK_EQ(cache__init(&c, &huge, &config), CACHE_ESIZE);
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
        CHECK_EQ((uintptr_t)c.base.heads % 64, 0); /* on a cache line */
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

/* --- errors and hints ---------------------------------------------------- */

static void every_error_has_its_sentence(void)
{
    static const int codes[] = {
        0,
        CACHE_EINVAL, CACHE_ENOMEM, CACHE_EFULL, CACHE_EKEY, CACHE_EBUSY,
        CACHE_ETTL, CACHE_ECAPACITY, CACHE_ETICK, CACHE_ENOEXPIRY,
        CACHE_ECLOCK, CACHE_EALLOCATOR, CACHE_ESIZE, CACHE_EBUFFER,
        CACHE_ELIMIT, CACHE_ERETRY, CACHE_ENOSTORE, CACHE_ENOCODEC,
        CACHE_EPATH, CACHE_EOWNER, CACHE_ECODEC, CACHE_ETOOBIG, CACHE_EACCESS,
        CACHE_ECORRUPT, CACHE_EIO, CACHE_ELOCKED, CACHE_ESCHEMA,
        CACHE_ECONFLICT, CACHE_ECLOSED, CACHE_EDEADLETTER, CACHE_ESTORE,
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
        { 1000, 0, 0, 0, NULL },
        { 1000, CACHE_NEVER, 0, 0, NULL },
        { 1000, 0, 1, 0, "seed" },
        { 1000, 499, 0, 0, "ttl_ms" },
        { 1000, 500, 0, 0, NULL },
        { 1000, 99, 0, 10, "ttl_ms" },
        { 1000, 100, 0, 10, NULL },
        { 1000, 100, 0, 9, "tick_ms" },
        { 15, 0, 0, 0, "capacity" },
        { 16, 0, 0, 0, NULL },
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
                             UINT64_C(0x0f0e0d0c0b0a0908), 2, 4) ==
              expected[i]);
    }
}

static uint64_t keys_sequential(uint64_t i) { return i; }
static uint64_t keys_by_16(uint64_t i) { return i * 16; }
static uint64_t keys_by_65536(uint64_t i) { return i << 16; }
static uint64_t keys_high_bits(uint64_t i) { return i << 47; }
static uint64_t keys_down(uint64_t i) { return UINT64_MAX - i; }

static int longest_chain(const struct plain *c)
{
    int longest = 0;
    uint32_t i, slot;

    for (i = 0; i < c->base.n_heads; i++) {
        int n = 0;
        for (slot = c->base.heads[i] & c->base.slot_mask; slot != 0;
             slot = *cache__link(&c->base, plain__options, slot) &
                    c->base.slot_mask)
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Random keys would have a longest chain of 7 or 8. */
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
        CHECK(longest_chain(&c) < 16);
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
    uint32_t link, head;

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
    for (head = 0; c.base.heads[head] != 0; head++)
        ;
    c.base.heads[head] = 1; /* in two chains */
    CHECK(nums_check(&c) != NULL);
    c.base.heads[head] = 0;
    CHECK_SOUND(nums_check(&c));
    n_events = 0;
    nums_destroy(&c);
}

static const struct test tests[] = {
    TEST(put_then_get_peek_contains),
    TEST(put_of_what_get_returned),
    TEST(put_with_a_key_that_the_cache_owns),
    TEST(get_counts_as_a_use_and_peek_does_not),
    TEST(put_if_absent_and_replace),
    TEST(get_or_insert),
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
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
