/*
 * test_strategies.c - loading caches and the store behind them: each strategy,
 * with a byte store and with callbacks for one and for many.
 *
 * All three kinds work on the rows of one fake store.  Time is a number that
 * the tests make up.  After each step the cache's invariants are walked.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <unistd.h>

#include "cache_loading.h"
#include "codecs/cache_raw.h"
#include "stores/cache_sqlite.h"
#include "tests/fake_store.h"
#include "tests/test.h"

#define NOTHING 999999u

static struct fake_store fake;
static uint64_t now_ms, wall_ms, got;
static uint64_t
    poison; /* a value that cannot be encoded or decoded; 0 = none */
static char story[4096];               /* events, in order: see event_seen */
static int (*meanwhile)(uint64_t key); /* what a writer does besides; or NULL */

/* --- callbacks, which do what the fake store does ------------------------ */

static struct cache_store_item item_of(enum cache_store_op op,
                                       const uint64_t *key,
                                       const uint64_t *value,
                                       const struct cache_storing *storing)
{
    struct cache_store_item item;

    memset(&item, 0, sizeof item);
    item.op = op;
    item.key.data = key;
    item.key.len = sizeof *key;
    item.value.data = value;
    item.value.len = value ? sizeof *value : 0;
    if (storing) {
        item.expires_ms = storing->expires_ms;
        item.version = storing->version;
    }
    return item;
}

static int load_row(const uint64_t *key, uint64_t *value,
                    struct cache_loaded *loaded)
{
    struct cache_store_item item = item_of(CACHE_STORE_GET, key, NULL, NULL);

    item.buffer = value;
    item.buffer_bytes = sizeof *value;
    fake.n_loads++;
    item.status = fake__item(&fake, &item);
    if (item.status == 0 && item.expires_ms != 0)
        loaded->lifetime_ms = item.expires_ms - wall_ms;
    if (item.status == 0 && poison && *value == poison)
        item.status = CACHE_ECODEC;
    return item.status;
}

static int store_row(const uint64_t *key, const uint64_t *value,
                     const struct cache_storing *storing)
{
    struct cache_store_item item = item_of(
        value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE, key, value, storing);

    fake.n_writes++;
    if (meanwhile)
        CHECK_EQ(meanwhile(*key), 0);
    if (value && poison && *value == poison)
        return CACHE_ECODEC;
    return fake__item(&fake, &item);
}

static int load_one(const uint64_t *key, uint64_t *value,
                    struct cache_loaded *loaded, void *user)
{
    (void)user;
    fake.n_batches++;
    return load_row(key, value, loaded);
}

static int store_one(const uint64_t *key, const uint64_t *value,
                     const struct cache_storing *storing, void *user)
{
    (void)user;
    fake.n_batches++;
    return store_row(key, value, storing);
}

static int remove_one(const uint64_t *key, const struct cache_storing *storing,
                      void *user)
{
    return store_one(key, NULL, storing, user);
}

static void load_all(const uint64_t *keys, uint64_t *values,
                     struct cache_loaded *loaded, size_t n, void *user)
{
    size_t i;

    (void)user;
    fake.n_batches++;
    for (i = 0; i < n; i++)
        loaded[i].status = load_row(&keys[i], &values[i], &loaded[i]);
}

struct bulk_write;
static void store_all(struct bulk_write *writes, size_t n, void *user);

static void event_seen(enum cache_event_kind kind, const uint64_t *key,
                       size_t n, int status)
{
    size_t at = strlen(story);

    if (sizeof story - at < 80)
        return;
    if (kind == CACHE_EVENT_WRITE_BATCH)
        (void)snprintf(story + at, 40, "%sB%u%s", at ? " " : "", (unsigned)n,
                       status ? "!" : "");
    else if (kind == CACHE_EVENT_DEAD_LETTER)
        (void)snprintf(story + at, 40, "%sD", at ? " " : "");
    else
        (void)snprintf(story + at, 40, "%s%c%u", at ? " " : "", "IURSEX"[kind],
                       (unsigned)*key);
}

#define ON_EVENT(name)                                                         \
    struct name##_event;                                                       \
    static void name##_on_event(const struct name##_event *event, void *user)
#define ON_EVENT_BODY(name)                                                    \
    static void name##_on_event(const struct name##_event *event, void *user)  \
    {                                                                          \
        (void)user;                                                            \
        if (event->kind == CACHE_EVENT_DEAD_LETTER)                            \
            CHECK(event->letter != NULL && event->status < 0);                 \
        event_seen(event->kind, event->key, event->n, event->status);          \
    }                                                                          \
    struct name##_event

ON_EVENT(plain);
ON_EVENT(typed);
ON_EVENT(bulk);

/* With a byte store, or nothing. */
CACHE_DEFINE_LOADING_WITH(plain, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_STATS,
                          .on_event = plain_on_event);
CACHE_DEFINE_LOADING_WITH(typed, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_STATS,
                          .load = load_one, .store = store_one,
                          .remove = remove_one, .on_event = typed_on_event);
CACHE_DEFINE_LOADING_WITH(bulk, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_STATS,
                          .load_many = load_all, .store_many = store_all,
                          .on_event = bulk_on_event);
ON_EVENT_BODY(plain);
ON_EVENT_BODY(typed);
ON_EVENT_BODY(bulk);

static void store_all(struct bulk_write *writes, size_t n, void *user)
{
    size_t i;

    (void)user;
    fake.n_batches++;
    fake.largest = n > fake.largest ? n : fake.largest;
    for (i = 0; i < n; i++)
        writes[i].status =
            store_row(writes[i].key, writes[i].value, &writes[i].storing);
}

/* --- the kinds, by one name ---------------------------------------------- */

struct kind {
    const char *name;
    bool bytes; /* it has a byte store */
    void *cache;
    size_t cache_bytes;
    int (*init)(const struct cache_loading_config *config);
    void (*destroy)(void);
    int (*close)(uint64_t timeout_ms, uint64_t *n_lost);
    const char *(*check)(void);
    int (*get_with)(uint64_t key, uint64_t *out, const struct cache_reading *h);
    int (*get)(uint64_t key, uint64_t *out);
    int (*put_with)(uint64_t key, uint64_t value,
                    const struct cache_writing *how);
    int (*remove_with)(uint64_t key, const struct cache_writing *how);
    int (*put_many)(const uint64_t *keys, const uint64_t *values, size_t n,
                    int *status);
    int (*remove_many)(const uint64_t *keys, size_t n, int *status);
    size_t (*load_many)(const uint64_t *keys, size_t n, uint64_t *values,
                        int *found);
    size_t (*get_many)(const uint64_t *keys, size_t n, uint64_t *values,
                       size_t *missing);
    int (*claim)(uint64_t key, uint64_t *out, struct cache_claim *c);
    int (*commit)(struct cache_claim *c, uint64_t value);
    int (*flush)(uint32_t budget);
    void (*invalidate)(enum cache_invalidation how);
    void (*invalidate_key)(uint64_t key, enum cache_invalidation how);
    int (*stats)(struct cache_loading_stats *out);
    uint32_t (*len)(void);
};

#define KIND(name, bytes)                                                      \
    static struct name name##_it;                                              \
    static int name##_k_init(const struct cache_loading_config *config)        \
    {                                                                          \
        return name##_init(&name##_it, config);                                \
    }                                                                          \
    static void name##_k_destroy(void)                                         \
    {                                                                          \
        name##_destroy(&name##_it);                                            \
    }                                                                          \
    static int name##_k_close(uint64_t timeout_ms, uint64_t *n_lost)           \
    {                                                                          \
        return name##_close(&name##_it, timeout_ms, n_lost);                   \
    }                                                                          \
    static const char *name##_k_check(void)                                    \
    {                                                                          \
        return name##_check(&name##_it);                                       \
    }                                                                          \
    static int name##_k_get_with(uint64_t key, uint64_t *out,                  \
                                 const struct cache_reading *how)              \
    {                                                                          \
        return name##_get_with(&name##_it, key, out, how);                     \
    }                                                                          \
    static int name##_k_get(uint64_t key, uint64_t *out)                       \
    {                                                                          \
        return name##_get(&name##_it, key, out);                               \
    }                                                                          \
    static int name##_k_put_with(uint64_t key, uint64_t value,                 \
                                 const struct cache_writing *how)              \
    {                                                                          \
        return how ? name##_put_with(&name##_it, key, value, how)              \
                   : name##_put(&name##_it, key, value);                       \
    }                                                                          \
    static int name##_k_remove_with(uint64_t key,                              \
                                    const struct cache_writing *how)           \
    {                                                                          \
        return how ? name##_remove_with(&name##_it, key, how)                  \
                   : name##_remove(&name##_it, key);                           \
    }                                                                          \
    static int name##_k_put_many(const uint64_t *keys, const uint64_t *values, \
                                 size_t n, int *status)                        \
    {                                                                          \
        return name##_put_many(&name##_it, keys, values, n, status);           \
    }                                                                          \
    static int name##_k_remove_many(const uint64_t *keys, size_t n,            \
                                    int *status)                               \
    {                                                                          \
        return name##_remove_many(&name##_it, keys, n, status);                \
    }                                                                          \
    static size_t name##_k_load_many(const uint64_t *keys, size_t n,           \
                                     uint64_t *values, int *found)             \
    {                                                                          \
        return name##_load_many(&name##_it, keys, n, values, found, NULL,      \
                                NULL);                                         \
    }                                                                          \
    static size_t name##_k_get_many(const uint64_t *keys, size_t n,            \
                                    uint64_t *values, size_t *missing)         \
    {                                                                          \
        return name##_get_many(&name##_it, keys, n, values, missing);          \
    }                                                                          \
    static int name##_k_claim(uint64_t key, uint64_t *out,                     \
                              struct cache_claim *c)                           \
    {                                                                          \
        return name##_claim(&name##_it, key, out, c);                          \
    }                                                                          \
    static int name##_k_commit(struct cache_claim *c, uint64_t value)          \
    {                                                                          \
        return name##_commit(&name##_it, c, value);                            \
    }                                                                          \
    static int name##_k_flush(uint32_t budget)                                 \
    {                                                                          \
        return name##_flush(&name##_it, budget);                               \
    }                                                                          \
    static void name##_k_invalidate(enum cache_invalidation how)               \
    {                                                                          \
        name##_invalidate(&name##_it, how);                                    \
    }                                                                          \
    static void name##_k_invalidate_key(uint64_t key,                          \
                                        enum cache_invalidation how)           \
    {                                                                          \
        name##_invalidate_key(&name##_it, key, how);                           \
    }                                                                          \
    static int name##_k_stats(struct cache_loading_stats *out)                 \
    {                                                                          \
        return name##_loading_stats(&name##_it, out);                          \
    }                                                                          \
    static uint32_t name##_k_len(void)                                         \
    {                                                                          \
        return name##_len(&name##_it);                                         \
    }                                                                          \
    static const struct kind name##_kind = {                                   \
        #name,                                                                 \
        bytes,                                                                 \
        &name##_it,                                                            \
        sizeof name##_it,                                                      \
        name##_k_init,                                                         \
        name##_k_destroy,                                                      \
        name##_k_close,                                                        \
        name##_k_check,                                                        \
        name##_k_get_with,                                                     \
        name##_k_get,                                                          \
        name##_k_put_with,                                                     \
        name##_k_remove_with,                                                  \
        name##_k_put_many,                                                     \
        name##_k_remove_many,                                                  \
        name##_k_load_many,                                                    \
        name##_k_get_many,                                                     \
        name##_k_claim,                                                        \
        name##_k_commit,                                                       \
        name##_k_flush,                                                        \
        name##_k_invalidate,                                                   \
        name##_k_invalidate_key,                                               \
        name##_k_stats,                                                        \
        name##_k_len,                                                          \
    }

KIND(plain, true);
KIND(typed, false);
KIND(bulk, false);

static const struct kind *const kinds[] = { &plain_kind, &typed_kind,
                                            &bulk_kind };
#define N_KINDS (sizeof kinds / sizeof *kinds)

static const struct kind *k; /* the one under test */

/* --- hooks --------------------------------------------------------------- */

static struct cache_codec number_codec, value_codec;
static long n_allocs, n_frees, fail_at;
static char user_mark;   /* config.cache.user */
static char letter_mark; /* write_behind.user */
static unsigned n_letters;
static int letter_status;
static bool letter_heals; /* the store works from the first letter on */
static bool clock_runs;   /* each look at it takes 5 ms */

static void *alloc_hook(size_t bytes, void *user)
{
    void *memory;

    CHECK(user == &user_mark);
    if (++n_allocs == fail_at)
        return NULL;
    memory = malloc(bytes);
    if (memory)
        memset(memory, 0xa5, bytes);
    return memory;
}

static void free_hook(void *memory, void *user)
{
    CHECK(user == &user_mark);
    n_frees += memory != NULL;
    free(memory);
}

static uint64_t read_now(void *user)
{
    CHECK(user == &user_mark);
    now_ms += clock_runs ? 5 : 0;
    return now_ms;
}

static uint64_t wall_now(void *user)
{
    (void)user;
    return wall_ms;
}

static void on_letter(const struct cache_store_item *item, void *user)
{
    CHECK(user == &letter_mark);
    CHECK(item->status < 0);
    letter_status = item->status;
    n_letters++;
    if (letter_heals)
        fake.fail = 0;
}

static int encode_value(const struct cache_codec *codec, const void *object,
                        void *out, size_t *bytes)
{
    uint64_t value;

    memcpy(&value, object, sizeof value);
    if (poison && value == poison)
        return CACHE_ECODEC;
    return cache__raw_encode(codec, object, out, bytes);
}

static int decode_value(const struct cache_codec *codec, const void *data,
                        size_t bytes, void *object)
{
    uint64_t value;

    memcpy(&value, data, sizeof value);
    if (poison && value == poison)
        return CACHE_ECODEC;
    return cache__raw_decode(codec, data, bytes, object);
}

static struct cache_loading_config config_of(enum cache_strategy reads,
                                             enum cache_strategy writes)
{
    struct cache_loading_config config;

    number_codec = value_codec = cache_raw_object(sizeof(uint64_t));
    number_codec.encode = value_codec.encode = encode_value;
    value_codec.decode = decode_value;
    memset(&config, 0, sizeof config);
    config.cache.capacity = 100;
    config.cache.tick_ms = 10;
    config.cache.now = read_now;
    config.cache.seed = 7;
    config.cache.alloc = alloc_hook;
    config.cache.free = free_hook;
    config.cache.user = &user_mark;
    config.wall_now = wall_now;
    config.freshness.ttl_ms = 1000;
    config.freshness.negative_ttl_ms = 100;
    config.reads = reads;
    config.writes = writes;
    config.key_codec = &number_codec;
    config.value_codec = &value_codec;
    if (k->bytes && (reads != CACHE_ASIDE || writes != CACHE_ASIDE))
        config.store = &fake.store;
    if (writes == CACHE_WRITE_BEHIND) {
        config.write_behind.max_dirty = 64;
        config.write_behind.max_batch = 4;
        config.write_behind.seed = 7;
        config.write_behind.retry_base_ms = 10;
        config.write_behind.retry_cap_ms = 10;
    }
    return config;
}

static void forget(void)
{
    fake_init(&fake);
    now_ms = 1000;
    wall_ms = 1000000;
    n_allocs = n_frees = fail_at = 0;
    n_letters = 0;
    letter_status = 0;
    letter_heals = false;
    clock_runs = false;
    poison = 0;
    meanwhile = NULL;
    story[0] = '\0';
}

static void open_with(struct cache_loading_config config)
{
    forget();
    CHECK_EQ(k->init(&config), 0);
}

static void open_as(enum cache_strategy reads, enum cache_strategy writes)
{
    open_with(config_of(reads, writes));
}

static void shut(void)
{
    k->destroy();
    CHECK_EQ(n_allocs - (fail_at != 0 && n_allocs >= fail_at), n_frees);
}

static int sound(int rc)
{
    CHECK_SOUND(k->check());
    return rc;
}

static int get(uint64_t key)
{
    got = NOTHING;
    return sound(k->get(key, &got));
}

/* What the cache has of it, without the store. */
static int here(uint64_t key)
{
    static const struct cache_reading only_here = { .skip_store = true };

    got = NOTHING;
    return sound(k->get_with(key, &got, &only_here));
}

static int put(uint64_t key, uint64_t value)
{
    return sound(k->put_with(key, value, NULL));
}

static int removes(uint64_t key)
{
    return sound(k->remove_with(key, NULL));
}

static int flush(uint32_t budget)
{
    return sound(k->flush(budget));
}

static struct cache_loading_stats stats(void)
{
    struct cache_loading_stats s;

    CHECK_EQ(k->stats(&s), 0);
    return s;
}

static void stored(uint64_t key, uint64_t value)
{
    fake.rows[key].present = true;
    fake.rows[key].value = value;
}

static void expect_row(uint64_t key, uint64_t value)
{
    CHECK_EQ(fake.rows[key].present, value != NOTHING);
    if (value != NOTHING)
        CHECK_EQ(fake.rows[key].value, value);
}

static void expect_here(uint64_t key, uint64_t value)
{
    CHECK_EQ(here(key), value == NOTHING ? CACHE_EKEY : CACHE_FOUND);
    CHECK_EQ(got, value);
}

#define EACH_KIND                                                              \
    size_t kind_;                                                              \
    for (kind_ = 0; kind_ < N_KINDS && ((k = kinds[kind_]) != NULL); kind_++)

/* --- strategies ---------------------------------------------------------- */

static void aside_the_store_is_the_programs(void)
{
    EACH_KIND
    {
        open_as(CACHE_ASIDE, CACHE_ASIDE);
        stored(1, 10);
        CHECK_EQ(get(1), CACHE_EKEY);
        CHECK_EQ(put(1, 11), 0);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 11);
        CHECK_EQ(removes(1), 0);
        CHECK_EQ(removes(1), 0); /* also if it is not there */
        CHECK_EQ(get(1), CACHE_EKEY);
        expect_row(1, 10);
        CHECK_EQ(fake.n_batches, 0);
        CHECK_EQ(flush(10), 0);
        shut();
    }
}

static void read_through_get_loads_what_is_missing(void)
{
    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_ASIDE);
        stored(1, 10);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 10);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(fake.n_loads, 1);
        CHECK_EQ(get(2), CACHE_EKEY);
        CHECK_EQ(get(2), CACHE_EKEY); /* known to be absent */
        CHECK_EQ(fake.n_loads, 2);
        now_ms += 100;
        stored(2, 20);
        CHECK_EQ(get(2), CACHE_FOUND);
        CHECK_EQ(got, 20);
        fake.fail = CACHE_EIO;
        CHECK_EQ(get(3), CACHE_EIO);
        CHECK_EQ(get(1), CACHE_FOUND);
        fake.fail = 0;
        CHECK_EQ(get(3), CACHE_EKEY);
        poison = 66;
        stored(4, 66);
        CHECK_EQ(get(4), CACHE_ECODEC);
        stored(5, 50);
        CHECK_EQ(here(5), CACHE_EKEY);
        CHECK_EQ(fake.n_writes, 0);
        shut();
    }
}

static void what_leaves_the_cache_stays_in_the_store(void)
{
    EACH_KIND
    {
        uint64_t key;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        for (key = 0; key < 300; key++) /* evicts */
            CHECK_EQ(put(key, key + 1), 0);
        now_ms += 1000; /* expires */
        k->invalidate(CACHE_INVALIDATE_HARD);
        k->invalidate_key(299, CACHE_INVALIDATE_HARD);
        for (key = 0; key < 300; key++) {
            expect_row(key, key + 1);
            CHECK_EQ(get(key), CACHE_FOUND);
            CHECK_EQ(got, key + 1);
        }
        CHECK_EQ(fake.n_loads, 300);
        shut();
    }
}

static void data_that_is_over_in_the_store_is_over_in_the_cache(void)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        stored(1, 10);
        fake.rows[1].expires_ms = wall_ms + 200;
        CHECK_EQ(get(1), CACHE_FOUND);
        now_ms += 189;
        CHECK_EQ(here(1), CACHE_FOUND);
        now_ms += 11;
        CHECK_EQ(here(1), CACHE_EKEY);
        if (k->bytes) {
            wall_ms += 200;
            CHECK_EQ(get(1), CACHE_EKEY);
        }
        how.lifetime_ms = 5000;
        CHECK_EQ(sound(k->put_with(2, 20, &how)), 0);
        CHECK_EQ(fake.rows[2].expires_ms, wall_ms + 5000);
        how.lifetime_ms = CACHE_NEVER;
        CHECK_EQ(sound(k->put_with(2, 21, &how)), 0);
        CHECK_EQ(fake.rows[2].expires_ms, 0);
        shut();
    }
}

static void through_the_store_comes_first_and_then_the_cache(void)
{
    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        CHECK_EQ(put(1, 10), 0);
        expect_row(1, 10);
        expect_here(1, 10);
        CHECK_EQ(put(1, 11), 0);
        expect_row(1, 11);
        expect_here(1, 11);
        CHECK_EQ(fake.n_writes, 2);
        CHECK_EQ(removes(1), 0);
        expect_row(1, NOTHING);
        expect_here(1, NOTHING);
        CHECK_EQ(removes(1), 0);
        CHECK_EQ(fake.n_loads, 0);
        shut();
    }
}

static void around_the_entry_leaves_when_the_store_has_it(void)
{
    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_AROUND);
        stored(1, 10);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(put(1, 11), 0);
        expect_row(1, 11);
        expect_here(1, NOTHING);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 11);
        CHECK_EQ(removes(1), 0);
        expect_row(1, NOTHING);
        CHECK_EQ(get(1), CACHE_EKEY);
        shut();
    }
}

static void a_writer_that_fails_leaves_the_cache_as_it_was(void)
{
    static const enum cache_strategy ways[] = { CACHE_WRITE_THROUGH,
                                                CACHE_WRITE_AROUND };
    size_t way;
    int how;

    for (way = 0; way < 2; way++)
        for (how = 0; how < 3; how++) {
            EACH_KIND
            {
                struct cache_claim claim;
                int want = CACHE_EIO;

                if (how == 1 && !k->bytes)
                    continue;
                open_as(CACHE_READ_THROUGH, ways[way]);
                stored(1, 10);
                CHECK_EQ(get(1), CACHE_FOUND);
                if (how == 0)
                    fake.fail = CACHE_EIO;
                else if (how == 1)
                    fake.refuse = CACHE_EIO;
                else
                    want = CACHE_ECODEC, poison = 66;
                CHECK_EQ(put(1, 66), want);
                CHECK_EQ(put(2, 66), want);
                if (how < 2)
                    CHECK_EQ(removes(1), want);
                expect_row(1, 10);
                expect_here(1, 10);
                expect_here(2, NOTHING);
                fake.fail = fake.refuse = 0;
                CHECK_EQ(put(1, 12), 0); /* the key is nobody's again */
                expect_row(1, 12);
                CHECK_EQ(sound(k->claim(9, &got, &claim)),
                         CACHE_CLAIM_MISS_YOU_LOAD);
                CHECK_EQ(sound(k->commit(&claim, 90)), 0);
                shut();
            }
        }
}

static void versions_grow_with_each_write(void)
{
    static const enum cache_strategy ways[] = { CACHE_WRITE_THROUGH,
                                                CACHE_WRITE_AROUND,
                                                CACHE_WRITE_BEHIND };
    size_t way;

    for (way = 0; way < 3; way++) {
        EACH_KIND
        {
            uint64_t last = 0, i;

            open_as(CACHE_READ_THROUGH, ways[way]);
            for (i = 0; i < 20; i++) {
                uint64_t key = i % 3;

                CHECK_EQ(i % 5 == 4 ? removes(key) : put(key, i), 0);
                CHECK_EQ(flush(100), 0);
                CHECK(fake.rows[key].version > last);
                last = fake.rows[key].version;
            }
            shut();
        }
    }
}

static void options_of_a_write_leave_out_the_store_or_the_cache(void)
{
    static const enum cache_strategy ways[] = { CACHE_WRITE_THROUGH,
                                                CACHE_WRITE_AROUND,
                                                CACHE_WRITE_BEHIND };
    struct cache_writing no_store, no_cache;
    size_t way;

    memset(&no_store, 0, sizeof no_store);
    no_cache = no_store;
    no_store.skip_store = true;
    no_cache.skip_write = true;
    for (way = 0; way < 3; way++) {
        EACH_KIND
        {
            open_as(CACHE_READ_THROUGH, ways[way]);
            CHECK_EQ(sound(k->put_with(1, 10, &no_store)), 0);
            CHECK_EQ(flush(100), 0);
            expect_row(1, NOTHING);
            expect_here(1, 10);
            CHECK_EQ(sound(k->put_with(1, 11, &no_cache)), 0);
            CHECK_EQ(flush(100), 0);
            expect_row(1, 11);
            expect_here(1, NOTHING);
            CHECK_EQ(get(1), CACHE_FOUND);
            CHECK_EQ(got, 11);
            CHECK_EQ(sound(k->remove_with(1, &no_store)), 0);
            expect_here(1, NOTHING);
            expect_row(1, 11);
            shut();
        }
    }
}

/* --- what writers do besides --------------------------------------------- */

static int write_same(uint64_t key)
{
    meanwhile = NULL;
    CHECK_EQ(k->put_with(key, 99, NULL), CACHE_EBUSY);
    CHECK_EQ(k->remove_with(key, NULL), CACHE_EBUSY);
    CHECK_EQ(k->get(key, &got), CACHE_EBUSY);
    return 0;
}

static int write_other(uint64_t key)
{
    meanwhile = NULL;
    return k->put_with(key + 1, 99, NULL);
}

static int invalidate_same(uint64_t key)
{
    meanwhile = NULL;
    k->invalidate_key(key, CACHE_INVALIDATE_HARD);
    return 0;
}

static int invalidate_all(uint64_t key)
{
    (void)key;
    meanwhile = NULL;
    k->invalidate(CACHE_INVALIDATE_HARD);
    return 0;
}

static void one_operation_of_a_key_is_at_the_store_at_a_time(void)
{
    EACH_KIND
    {
        if (k->bytes)
            continue;
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        meanwhile = write_same;
        CHECK_EQ(put(1, 10), 0);
        expect_here(1, 10);
        meanwhile = write_other;
        CHECK_EQ(put(1, 11), 0);
        expect_here(1, 11);
        expect_here(2, 99);
        expect_row(2, 99);
        shut();
    }
}

static void what_is_invalidated_while_it_is_written_does_not_come_back(void)
{
    EACH_KIND
    {
        if (k->bytes)
            continue;
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        meanwhile = invalidate_same;
        CHECK_EQ(put(1, 10), 0);
        expect_here(1, NOTHING);
        meanwhile = invalidate_all;
        CHECK_EQ(put(1, 11), 0);
        expect_here(1, NOTHING);
        CHECK_EQ(k->len(), 0); /* nor as an entry that nobody finds */
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 11);
        shut();
    }
}

static int takes_its_time(uint64_t key)
{
    (void)key;
    now_ms += 6;
    return 0;
}

static void a_slow_store_takes_nothing_off_the_idle_time(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);

        if (k->bytes)
            continue;
        config.cache.tick_ms = 10;
        config.freshness.idle_ms = 45;
        open_with(config);
        now_ms += 3;
        meanwhile = takes_its_time;
        CHECK_EQ(put(1, 10), 0);
        now_ms += 35; /* a tick before it is over */
        expect_here(1, 10);
        shut();
    }
}

/* --- write-behind -------------------------------------------------------- */

static void behind_the_cache_has_it_at_once_and_the_store_later(void)
{
    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        stored(2, 20);
        CHECK_EQ(put(1, 10), 0);
        CHECK_EQ(removes(2), 0);
        expect_row(1, NOTHING);
        expect_row(2, 20);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 10);
        CHECK_EQ(get(2), CACHE_EKEY); /* and not the older one of the store */
        CHECK_EQ(fake.n_batches, 0);
        CHECK_EQ(stats().n_dirty, 2);
        CHECK_EQ(flush(100), 0);
        expect_row(1, 10);
        expect_row(2, NOTHING);
        CHECK_EQ(stats().n_dirty, 0);
        CHECK_EQ(get(2), CACHE_EKEY);
        shut();
    }
}

static void writes_of_one_key_coalesce(void)
{
    EACH_KIND
    {
        uint64_t i;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (i = 0; i < 50; i++) {
            CHECK_EQ(put(1, i), 0);
            CHECK_EQ(i % 2 ? removes(2) : put(2, i), 0);
        }
        CHECK_EQ(stats().n_dirty, 2);
        CHECK_EQ(flush(100), 0);
        CHECK_EQ(fake.n_writes, 2);
        expect_row(1, 49);
        expect_row(2, NOTHING);
        CHECK_EQ(stats().writes.n_coalesced, 98);
        shut();
    }
}

static void dirty_keys_are_read_from_the_buffer_whatever_happens_here(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        struct cache_claim claim;
        uint64_t key, round;

        config.cache.capacity = 3; /* evicts all the time */
        open_with(config);
        for (key = 0; key < 20; key++) {
            stored(key, key); /* an older value */
            CHECK_EQ(key % 4 == 3 ? removes(key) : put(key, key + 100), 0);
        }
        for (round = 0; round < 4; round++) {
            if (round == 1)
                k->invalidate(CACHE_INVALIDATE_HARD);
            if (round == 2)
                now_ms += 1000; /* their time is over */
            for (key = 0; key < 20; key++) {
                bool gone = key % 4 == 3;

                if (round == 3)
                    k->invalidate_key(key, CACHE_INVALIDATE_HARD);
                got = NOTHING;
                CHECK_EQ(sound(k->claim(key, &got, &claim)),
                         gone ? CACHE_EKEY : CACHE_CLAIM_HIT);
                CHECK_EQ(got, gone ? NOTHING : key + 100);
                CHECK_EQ(get(key), gone ? CACHE_EKEY : CACHE_FOUND);
                CHECK_EQ(got, gone ? NOTHING : key + 100);
            }
        }
        CHECK_EQ(fake.n_loads, 0);
        CHECK(stats().dirty_hits > 40);
        CHECK_EQ(flush(100), 0);
        k->invalidate(CACHE_INVALIDATE_HARD);
        for (key = 0; key < 20; key++) {
            CHECK_EQ(get(key), key % 4 == 3 ? CACHE_EKEY : CACHE_FOUND);
            CHECK_EQ(got, key % 4 == 3 ? NOTHING : key + 100);
        }
        CHECK_EQ(fake.n_loads, 20);
        shut();
    }
}

static void a_dirty_key_is_not_loaded_however_it_is_read(void)
{
    static const struct cache_reading hows[] = {
        { .stale = CACHE_STALE_NEVER },
        { .skip_read = true },
        { .stale = CACHE_STALE_ALWAYS },
        { .skip_store = true },
    };
    size_t i;

    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        CHECK_EQ(put(1, 10), 0);
        k->invalidate(CACHE_INVALIDATE_SOFT);
        for (i = 0; i < 4; i++) {
            got = NOTHING;
            CHECK(sound(k->get_with(1, &got, &hows[i])) >= 0);
            CHECK_EQ(got, 10);
        }
        CHECK_EQ(stats().dirty_hits, 0); /* the entry is there */
        CHECK_EQ(fake.n_loads, 0);
        shut();
    }
}

static void dirty_data_that_is_over_is_not_read(void)
{
    EACH_KIND
    {
        struct cache_writing how;

        memset(&how, 0, sizeof how);
        how.lifetime_ms = 500;
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        CHECK_EQ(sound(k->put_with(1, 10, &how)), 0);
        k->invalidate(CACHE_INVALIDATE_HARD);
        wall_ms += 300;
        now_ms += 300;
        CHECK_EQ(get(1), CACHE_FOUND);
        wall_ms += 200;
        now_ms += 200;
        CHECK_EQ(get(1), CACHE_EKEY);
        CHECK_EQ(flush(10), 0);
        CHECK_EQ(fake.rows[1].expires_ms, 1000500);
        shut();
    }
}

static void flush_keeps_to_its_budget_and_fills_batches(void)
{
    EACH_KIND
    {
        uint64_t key;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (key = 0; key < 22; key++)
            CHECK_EQ(put(key, key), 0);
        CHECK_EQ(flush(0), 22);
        CHECK_EQ(fake.n_writes, 0);
        CHECK_EQ(flush(1), 18);
        CHECK_EQ(fake.n_writes, 4);
        CHECK_EQ(flush(4), 14);
        CHECK_EQ(flush(5), 6);
        expect_row(0, 0); /* the oldest first */
        expect_row(15, 15);
        expect_row(16, NOTHING);
        CHECK_EQ(flush(100), 0);
        CHECK_EQ(fake.n_writes, 22);
        CHECK_EQ(stats().writes.n_batches, 6);
        shut();
    }
}

static void a_store_that_fails_for_a_while_loses_nothing(void)
{
    EACH_KIND
    {
        uint64_t key;
        int i;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (key = 0; key < 10; key++)
            CHECK_EQ(put(key, key + 1), 0);
        for (i = 0; i < 5; i++) {
            fake.fail = CACHE_EIO;
            CHECK_EQ(flush(100), 10);
            now_ms += 10;
            CHECK_EQ(get(3), CACHE_FOUND);
            CHECK_EQ(got, 4);
        }
        fake.fail = 0;
        CHECK_EQ(put(3, 33), 0);
        for (i = 0; i < 20 && flush(100) > 0; i++)
            now_ms += 10;
        CHECK_EQ(flush(100), 0);
        for (key = 0; key < 10; key++)
            expect_row(key, key == 3 ? 33 : key + 1);
        shut();
    }
}

static void the_newest_write_wins_while_an_older_one_is_at_the_store(void)
{
    k = &plain_kind;
    open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
    fake.hold = true;
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(flush(100), 1);
    CHECK_EQ(put(1, 11), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(flush(100), 1); /* one operation per key at a time */
    CHECK_EQ(fake.n_writes, 1);
    k->invalidate(CACHE_INVALIDATE_HARD);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    fake.hold = false;
    fake_release(&fake);
    expect_row(1, 10);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(flush(100), 0);
    expect_row(1, 11);
    shut();
}

static void when_full_a_write_is_refused_and_the_cache_is_as_it_was(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);

        config.write_behind.max_dirty = 2;
        config.write_behind.max_batch = 0;
        open_with(config);
        stored(3, 30);
        CHECK_EQ(get(3), CACHE_FOUND);
        CHECK_EQ(put(1, 10), 0);
        CHECK_EQ(put(2, 20), 0);
        CHECK_EQ(put(3, 31), CACHE_EFULL);
        CHECK_EQ(removes(3), CACHE_EFULL);
        CHECK_EQ(put(4, 40), CACHE_EFULL);
        CHECK_EQ(get(3), CACHE_FOUND);
        CHECK_EQ(got, 30);
        expect_here(4, NOTHING);
        CHECK_EQ(put(1, 11), 0); /* dirty already */
        CHECK_EQ(flush(100), 0);
        CHECK_EQ(put(3, 31), 0);
        CHECK(stats().writes.n_refused >= 3);
        shut();
    }
}

static void when_full_a_write_makes_room_by_writing_others(void)
{
    int default_batch;

    for (default_batch = 0; default_batch < 2; default_batch++) {
        EACH_KIND
        {
            struct cache_loading_config config =
                config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
            uint64_t key;

            config.when_full = CACHE_FULL_WRITE_THROUGH;
            config.wait_ms = 200;
            config.write_behind.max_dirty = 4;
            config.write_behind.max_batch = default_batch ? 0 : 2;
            open_with(config);
            clock_runs = true;
            for (key = 0; key < 50; key++)
                CHECK_EQ(put(key, key), 0);
            CHECK(fake.n_writes >= 46);
            CHECK_EQ(flush(100), 0);
            for (key = 0; key < 50; key++)
                expect_row(key, key);
            for (key = 50; key < 54; key++)
                CHECK_EQ(put(key, key), 0);
            fake.fail = CACHE_EIO;
            CHECK_EQ(put(60, 60), CACHE_EFULL); /* wait_ms are over */
            expect_here(60, NOTHING);
            shut();
        }
    }
}

static void acknowledged_by_the_store_it_is_there(void)
{
    int by_config;

    for (by_config = 0; by_config < 2; by_config++) {
        EACH_KIND
        {
            struct cache_loading_config config =
                config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
            struct cache_writing how, memory;

            memset(&how, 0, sizeof how);
            memory = how;
            memory.ack = CACHE_ACK_MEMORY;
            if (by_config)
                config.ack = CACHE_ACK_STORE;
            else
                how.ack = CACHE_ACK_STORE;
            config.wait_ms = 500;
            open_with(config);
            clock_runs = true;
            CHECK_EQ(sound(k->put_with(1, 10, &memory)), 0);
            expect_row(1, NOTHING);
            CHECK_EQ(sound(k->put_with(2, 20, &how)), 0);
            expect_row(1, 10); /* what is older, too */
            expect_row(2, 20);
            CHECK_EQ(sound(k->remove_with(2, &how)), 0);
            expect_row(2, NOTHING);
            fake.fail = CACHE_EIO;
            CHECK_EQ(sound(k->put_with(3, 30, &how)), CACHE_ETIMEOUT);
            CHECK_EQ(stats().n_dirty, 1); /* it may yet get there */
            fake.fail = 0;
            now_ms += 1000;
            CHECK_EQ(flush(100), 0);
            expect_row(3, 30);
            shut();
        }
    }
}

static void what_fails_too_often_is_a_dead_letter(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        struct cache_writing how;
        uint64_t n_lost = 77;
        int i;

        memset(&how, 0, sizeof how);
        how.ack = CACHE_ACK_STORE;
        config.write_behind.max_attempts = 2;
        config.write_behind.on_dead_letter = on_letter;
        config.write_behind.user = &letter_mark;
        open_with(config);
        clock_runs = true;
        fake.fail = CACHE_EIO;
        CHECK_EQ(put(1, 10), 0);
        for (i = 0; i < 100 && flush(100) > 0; i++)
            now_ms += 10;
        CHECK_EQ(n_letters, 1);
        CHECK_EQ(letter_status, CACHE_EIO);
        CHECK(strstr(story, "D") != NULL);
        CHECK(strstr(story, "B1!") != NULL);
        CHECK_EQ(stats().writes.n_dead, 1);
        CHECK_EQ(sound(k->put_with(2, 20, &how)), CACHE_EDEADLETTER);
        CHECK_EQ(n_letters, 2);
        fake.fail = 0;
        CHECK_EQ(sound(k->put_with(2, 21, &how)), 0);
        CHECK_EQ(k->close(1000, &n_lost), CACHE_EDEADLETTER);
        CHECK_EQ(n_lost, 0);
        shut();
    }
}

/* The first is given up to make room for the second. */
static void many_that_the_store_acknowledges_have_no_dead_letter(void)
{
    static const uint64_t keys[] = { 1, 2 }, values[] = { 10, 20 };
    int status[2];

    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);

        config.ack = CACHE_ACK_STORE;
        config.when_full = CACHE_FULL_WRITE_THROUGH;
        config.write_behind.max_dirty = config.write_behind.max_batch = 1;
        config.write_behind.max_attempts = 1;
        config.write_behind.on_dead_letter = on_letter;
        config.write_behind.user = &letter_mark;
        open_with(config);
        clock_runs = true;
        letter_heals = true;
        fake.fail = CACHE_EIO;
        CHECK_EQ(sound(k->put_many(keys, values, 2, status)),
                 CACHE_EDEADLETTER);
        CHECK_EQ(status[0], CACHE_EDEADLETTER);
        CHECK_EQ(n_letters, 1);
        expect_row(1, NOTHING);
        expect_row(2, 20);
        shut();
    }
}

static void a_write_behind_overtakes_a_load(void)
{
    EACH_KIND
    {
        struct cache_claim claim;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        CHECK_EQ(sound(k->claim(1, &got, &claim)), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(put(1, 11), 0);
        CHECK_EQ(flush(10), 0);
        CHECK_EQ(sound(k->commit(&claim, 10)), CACHE_ECONFLICT);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 11);
        shut();
    }
}

static void bytes_that_make_no_sense_fail_alone(void)
{
    static const uint64_t keys[] = { 1, 66, 3 };
    uint64_t values[3];
    int found[3];

    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);

        config.write_behind.max_attempts = 1;
        config.write_behind.on_dead_letter = on_letter;
        config.write_behind.user = &letter_mark;
        open_with(config);
        stored(1, 10);
        stored(3, 30);
        poison = 66;
        if (k->bytes) { /* a key that has no bytes */
            CHECK_EQ(k->load_many(keys, 3, values, found), 1);
            CHECK_EQ(found[1], CACHE_ECODEC);
            CHECK_EQ(found[0] | found[2], CACHE_FOUND);
            CHECK_EQ(values[0], 10);
            CHECK_EQ(values[2], 30);
        } else { /* a dirty value that does not come back from its bytes */
            poison = 0;
            CHECK_EQ(put(4, 40), 0);
            CHECK_EQ(put(5, 66), 0);
            CHECK_EQ(put(6, 60), 0);
            poison = 66;
            CHECK_EQ(flush(100), 0);
            CHECK_EQ(n_letters, 1);
            CHECK_EQ(letter_status, CACHE_ECODEC);
            CHECK_EQ(fake.n_writes, 2);
            expect_row(4, 40);
            expect_row(5, NOTHING);
            expect_row(6, 60);
        }
        shut();
    }
}

static void batches_are_told_with_their_number_and_first_error(void)
{
    EACH_KIND
    {
        uint64_t key;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (key = 0; key < 6; key++)
            CHECK_EQ(put(key, key), 0);
        story[0] = '\0';
        CHECK_EQ(flush(100), 0);
        CHECK_STR(story, "B4 B2");
        shut();
    }
}

/* --- what there is no room for ------------------------------------------- */

static uint64_t value_weight(const uint64_t *key, const uint64_t *value,
                             void *user)
{
    (void)key;
    (void)user;
    return *value;
}

CACHE_DEFINE_LOADING_WITH(weighed, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_WEIGHED,
                          .weigh = value_weight);

static void a_value_without_room_is_stored_and_its_old_one_is_not_served(void)
{
    static const enum cache_strategy ways[] = { CACHE_WRITE_THROUGH,
                                                CACHE_WRITE_BEHIND };
    static const struct cache_reading only_here = { .skip_store = true };
    size_t way;

    k = &plain_kind; /* for its store */
    for (way = 0; way < 2; way++) {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, ways[way]);
        struct weighed c;

        config.cache.capacity = 10;
        config.cache.max_bytes = 10000;
        forget();
        CHECK_EQ(weighed_init(&c, &config), 0);
        CHECK_EQ(weighed_put(&c, 1, 10), 0);
        CHECK_EQ(weighed_flush(&c, 10), 0);
        CHECK_EQ(weighed_get(&c, 1, &got), CACHE_FOUND);
        CHECK_EQ(weighed_put(&c, 1, 20000), 0);
        CHECK_EQ(weighed_len(&c), 0);
        if (way == 1) { /* dirty: from the buffer, each time */
            CHECK_EQ(weighed_get(&c, 1, &got), CACHE_FOUND_UNSTORED);
            CHECK_EQ(got, 20000);
        }
        CHECK_EQ(weighed_flush(&c, 10), 0);
        expect_row(1, 20000);
        CHECK_EQ(weighed_get_with(&c, 1, &got, &only_here), CACHE_EKEY);
        CHECK_EQ(weighed_get(&c, 1, &got), CACHE_FOUND_UNSTORED);
        CHECK_EQ(got, 20000);
        CHECK_SOUND(weighed_check(&c));
        weighed_destroy(&c);
        CHECK_EQ(n_allocs, n_frees);
    }
}

/* --- close --------------------------------------------------------------- */

static void close_writes_what_is_dirty_and_refuses_what_comes(void)
{
    EACH_KIND
    {
        uint64_t key, n_lost = 77;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (key = 0; key < 30; key++)
            CHECK_EQ(put(key, key), 0);
        clock_runs = true;
        CHECK_EQ(sound(k->close(1000, &n_lost)), 0);
        CHECK_EQ(n_lost, 0);
        for (key = 0; key < 30; key++)
            expect_row(key, key);
        CHECK_EQ(put(1, 99), CACHE_ECLOSED);
        CHECK_EQ(removes(1), CACHE_ECLOSED);
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(got, 1);
        CHECK_EQ(sound(k->close(0, NULL)), 0);
        shut();
    }
}

static void close_tells_the_truth_about_what_is_lost(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        uint64_t key, n_lost = 77;

        config.write_behind.on_dead_letter = on_letter;
        config.write_behind.user = &letter_mark;
        open_with(config);
        fake.fail = CACHE_EIO;
        for (key = 0; key < 10; key++)
            CHECK_EQ(put(key, key), 0);
        clock_runs = true;
        CHECK_EQ(sound(k->close(100, &n_lost)), CACHE_EDEADLETTER);
        CHECK_EQ(n_lost, 10);
        CHECK_EQ(n_letters, 10);
        CHECK_EQ(stats().n_dirty, 0);
        n_lost = 77;
        CHECK_EQ(sound(k->close(100, &n_lost)), CACHE_EDEADLETTER);
        CHECK_EQ(n_lost, 10);
        shut();
    }
}

static void destroy_without_close_writes_what_it_can(void)
{
    EACH_KIND
    {
        uint64_t key;

        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        for (key = 0; key < 10; key++)
            CHECK_EQ(put(key, key), 0);
        shut();
        for (key = 0; key < 10; key++)
            expect_row(key, key);
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        fake.fail = CACHE_EIO;
        CHECK_EQ(put(1, 10), 0);
        clock_runs = true;
        shut(); /* and does not hang on what fails */
    }
}

/* --- many at once -------------------------------------------------------- */

static void all_misses_of_a_call_are_one_call_of_the_store(void)
{
    static const uint64_t keys[] = { 1, 2, 3, 4, 5, 6 };
    uint64_t values[6];
    size_t missing[6];
    int found[6];

    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_ASIDE);
        stored(1, 10);
        stored(3, 30);
        stored(5, 50);
        CHECK_EQ(put(2, 20), 0);
        CHECK_EQ(k->get_many(keys, 6, values, missing), 5); /* loads nothing */
        CHECK_EQ(fake.n_batches, 0);
        CHECK_EQ(k->load_many(keys, 6, values, found), 2);
        (void)sound(0);
        CHECK_EQ(fake.n_loads, 5);
        if (k != &typed_kind)
            CHECK_EQ(fake.n_batches, 1);
        CHECK_EQ(found[0] | found[1] | found[2] | found[4], 0);
        CHECK_EQ(found[3], CACHE_EKEY);
        CHECK_EQ(found[5], CACHE_EKEY);
        CHECK_EQ(values[0], 10);
        CHECK_EQ(values[1], 20);
        CHECK_EQ(values[2], 30);
        CHECK_EQ(values[4], 50);
        fake.fail = CACHE_EIO;
        k->invalidate_key(1, CACHE_INVALIDATE_HARD);
        CHECK_EQ(k->load_many(keys, 6, values, found), 3);
        CHECK_EQ(found[0], CACHE_EIO);
        CHECK_EQ(found[2], CACHE_FOUND);
        shut();
    }
}

static void all_writes_of_a_call_are_one_call_of_the_store(void)
{
    static const uint64_t keys[] = { 1, 2, 3, 4, 5 };
    static const uint64_t values[] = { 10, 20, 30, 40, 50 };
    int status[5];
    size_t i;

    EACH_KIND
    {
        open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        CHECK_EQ(sound(k->put_many(keys, values, 5, status)), 0);
        if (k != &typed_kind)
            CHECK_EQ(fake.n_batches, 1);
        for (i = 0; i < 5; i++) {
            CHECK_EQ(status[i], 0);
            expect_row(keys[i], values[i]);
            expect_here(keys[i], values[i]);
        }
        CHECK_EQ(sound(k->remove_many(keys, 4, NULL)), 0);
        if (k != &typed_kind)
            CHECK_EQ(fake.n_batches, 2);
        expect_row(4, NOTHING);
        expect_here(4, NOTHING);
        expect_here(5, 50);
        poison = 30; /* one that fails is alone in that */
        CHECK_EQ(sound(k->put_many(keys, values, 5, status)), CACHE_ECODEC);
        for (i = 0; i < 5; i++) {
            CHECK_EQ(status[i], i == 2 ? CACHE_ECODEC : 0);
            expect_here(keys[i], i == 2 ? NOTHING : values[i]);
        }
        poison = 0;
        fake.fail = CACHE_EIO;
        CHECK_EQ(sound(k->remove_many(keys, 5, status)), CACHE_EIO);
        expect_here(5, 50);
        shut();
    }
}

static void of_a_key_twice_in_one_call_the_last_write_wins(void)
{
    static const uint64_t keys[] = { 1, 2, 1, 1, 2 };
    static const uint64_t values[] = { 10, 20, 11, 12, 21 };
    static const enum cache_strategy ways[] = {
        CACHE_ASIDE, CACHE_WRITE_THROUGH, CACHE_WRITE_BEHIND, CACHE_WRITE_AROUND
    };
    int status[5];
    size_t way, i;

    for (way = 0; way < 4; way++) {
        EACH_KIND
        {
            open_as(CACHE_READ_THROUGH, ways[way]);
            CHECK_EQ(sound(k->put_many(keys, values, 5, status)), 0);
            for (i = 0; i < 5; i++)
                CHECK_EQ(status[i], 0);
            CHECK_EQ(flush(100), 0);
            if (way > 0) {
                expect_row(1, 12);
                expect_row(2, 21);
            }
            if (way < 3) {
                expect_here(1, 12);
                expect_here(2, 21);
            }
            shut();
        }
    }
}

static void more_writes_than_claims_go_in_parts(void)
{
    uint64_t keys[300], values[300];
    int status[300], found[300];
    size_t i;

    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);

        config.max_claims = 7;
        config.cache.capacity = 1000;
        open_with(config);
        for (i = 0; i < 300; i++) {
            keys[i] = i;
            values[i] = i + 1;
        }
        CHECK_EQ(sound(k->put_many(keys, values, 300, status)), 0);
        for (i = 0; i < 300; i++)
            expect_row(i, i + 1);
        CHECK_EQ(fake.n_writes, 300);
        k->invalidate(CACHE_INVALIDATE_HARD);
        memset(values, 0, sizeof values);
        CHECK_EQ(k->load_many(keys, 300, values, found), 0);
        (void)sound(0);
        CHECK_EQ(fake.n_loads, 300);
        for (i = 0; i < 300; i++)
            CHECK_EQ(values[i], i + 1);
        shut();
    }
}

/* --- a store with a thread ----------------------------------------------- */

static void a_store_with_a_thread_of_its_own_does_as_well(void)
{
    static const enum cache_strategy ways[] = { CACHE_WRITE_THROUGH,
                                                CACHE_WRITE_BEHIND,
                                                CACHE_WRITE_AROUND };
    uint64_t model[64], random = test_seed, i, n_lost;
    size_t way;

    k = &plain_kind;
    for (way = 0; way < 3; way++) {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, ways[way]);

        config.cache.capacity = 20;
        config.when_full =
            way == 1 ? CACHE_FULL_WRITE_THROUGH : CACHE_FULL_REFUSE;
        if (way == 1)
            config.write_behind.max_dirty = 16;
        open_with(config);
        fake_start(&fake);
        for (i = 0; i < 64; i++)
            model[i] = NOTHING;
        for (i = 0; i < 1500; i++) {
            uint64_t r = test_random(&random), key = r % 64;

            now_ms += (r >> 8) % 3;
            switch ((r >> 16) % 8) {
            case 0:
            case 1:
            case 2:
                CHECK_EQ(put(key, i), 0);
                model[key] = i;
                break;
            case 3:
                CHECK_EQ(removes(key), 0);
                model[key] = NOTHING;
                break;
            case 4: (void)flush(1); break;
            case 5:
                if ((r >> 24) % 16 == 0)
                    k->invalidate(CACHE_INVALIDATE_HARD);
                break;
            default:
                CHECK_EQ(get(key),
                         model[key] == NOTHING ? CACHE_EKEY : CACHE_FOUND);
                CHECK_EQ(got, model[key]);
            }
        }
        CHECK_EQ(sound(k->close(10000, &n_lost)), 0);
        CHECK_EQ(n_lost, 0);
        shut();
        fake_stop(&fake);
        for (i = 0; i < 64; i++)
            expect_row(i, model[i]);
    }
}

/* --- configs ------------------------------------------------------------- */

static void refused(struct cache_loading_config config, int want)
{
    static unsigned char before[sizeof(struct plain) + sizeof(struct typed) +
                                sizeof(struct bulk)];

    n_allocs = n_frees = 0;
    memset(k->cache, 0xa5, k->cache_bytes);
    memcpy(before, k->cache, k->cache_bytes);
    CHECK_EQ(k->init(&config), want);
    CHECK(memcmp(before, k->cache, k->cache_bytes) == 0);
    CHECK_EQ(n_allocs, n_frees);
    memset(k->cache, 0, k->cache_bytes);
}

static void incoherent_configs_are_refused_and_nothing_is_touched(void)
{
    EACH_KIND
    {
        struct cache_loading_config behind, through, c;
        struct cache_codec wide = cache_raw_object(16);

        forget();
        behind = config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        through = config_of(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
        c = behind, c.reads = CACHE_ASIDE; /* would load what is older */
        refused(c, CACHE_ESTRATEGY);
        c = through, c.reads = CACHE_WRITE_THROUGH;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.writes = CACHE_READ_THROUGH;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.writes = (enum cache_strategy)99;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.ack = CACHE_ACK_MEMORY;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.when_full = CACHE_FULL_WRITE_THROUGH;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.write_behind.max_dirty = 1;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.write_behind.max_batch = 1;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.write_behind.max_in_flight = 1;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.write_behind.max_attempts = 1;
        refused(c, CACHE_ESTRATEGY);
        c = through, c.write_behind.on_dead_letter = on_letter;
        refused(c, CACHE_ESTRATEGY);
        c = config_of(CACHE_ASIDE, CACHE_ASIDE); /* a store for nothing */
        c.store = &fake.store;
        refused(c, CACHE_ESTRATEGY);
        c = behind, c.key_codec = NULL;
        refused(c, CACHE_ENOCODEC);
        c = behind, c.value_codec = NULL;
        refused(c, CACHE_ENOCODEC);
        c = behind, c.key_codec = &wide;
        refused(c, CACHE_ENOCODEC);
        c = behind, c.value_codec = &wide;
        refused(c, CACHE_ENOCODEC);
        c = behind, c.write_behind.max_batch = 65; /* above max_dirty */
        refused(c, CACHE_ELIMIT);
        c = behind, c.write_behind.retry_base_ms = 11;
        refused(c, CACHE_ERETRY);
        c = behind, c.write_behind.alloc = alloc_hook;
        refused(c, CACHE_EALLOCATOR);
        c = behind, c.write_behind.free = free_hook;
        refused(c, CACHE_EALLOCATOR);
        c = behind, c.cache.capacity = 0;
        refused(c, CACHE_ECAPACITY);
        if (k->bytes) {
            c = through, c.store = NULL;
            refused(c, CACHE_ENOSTORE);
            c = config_of(CACHE_READ_THROUGH, CACHE_ASIDE), c.store = NULL;
            refused(c, CACHE_ENOSTORE);
            c = config_of(CACHE_ASIDE, CACHE_WRITE_AROUND), c.store = NULL;
            refused(c, CACHE_ENOSTORE);
            c = through, c.key_codec = NULL;
            refused(c, CACHE_ENOCODEC);
        } else {
            c = through, c.store = &fake.store; /* two of them */
            refused(c, CACHE_ESTRATEGY);
        }
    }
}

/* --- running out of memory ----------------------------------------------- */

static void init_without_memory_changes_nothing(void)
{
    EACH_KIND
    {
        long n;

        for (n = 1;; n++) {
            struct cache_loading_config config =
                config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);

            forget();
            memset(k->cache, 0xa5, k->cache_bytes);
            fail_at = n;
            if (k->init(&config) == 0)
                break;
            CHECK_EQ(n_allocs, n);
            CHECK_EQ(n_frees, n - 1);
            CHECK_EQ(*((unsigned char *)k->cache), 0xa5);
        }
        CHECK(n > 3);
        fail_at = 0;
        shut();
    }
}

/* The hooks of the dirty buffer come from the cache, and with its `user`. */
static void the_buffer_has_the_hooks_of_the_cache_and_their_user(void)
{
    EACH_KIND
    {
        struct cache_loading_config config =
            config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);

        config.write_behind.on_dead_letter = on_letter;
        config.write_behind.user = &letter_mark; /* alloc_hook looks */
        open_with(config);
        CHECK_EQ(put(1, 10), 0);
        CHECK_EQ(flush(10), 0);
        shut();
    }
}

static int call_get(void)
{
    return get(3);
}

static int call_put(void)
{
    return put(1, 11);
}

static int call_remove(void)
{
    return removes(1);
}

static int call_put_many(void)
{
    static const uint64_t keys[] = { 1, 2 }, values[] = { 11, 21 };

    return sound(k->put_many(keys, values, 2, NULL));
}

static int call_load_many(void)
{
    static const uint64_t keys[] = { 3, 4 };
    uint64_t values[2];
    int found[2] = { 0, 0 };

    (void)k->load_many(keys, 2, values, found);
    return sound(found[0]);
}

static void calls_without_memory_fail_and_nothing_changes(void)
{
    static int (*const calls[])(void) = { call_get, call_put, call_remove,
                                          call_put_many, call_load_many };
    size_t i;

    for (i = 0; i < 5; i++) {
        EACH_KIND
        {
            long n;
            int rc = CACHE_ENOMEM;

            for (n = 1; rc != 0; n++) {
                open_as(CACHE_READ_THROUGH, CACHE_WRITE_THROUGH);
                stored(3, 30);
                stored(4, 40);
                CHECK_EQ(put(1, 10), 0);
                fail_at = n_allocs + n;
                rc = calls[i]();
                if (rc != 0) {
                    CHECK_EQ(rc, CACHE_ENOMEM);
                    expect_row(1, 10);
                    expect_here(1, 10);
                    expect_here(2, NOTHING);
                    expect_here(3, NOTHING);
                }
                if (rc == 0 && n_allocs < fail_at)
                    fail_at = 0;
                shut();
                CHECK(n < 20);
            }
        }
    }
}

static void a_flush_without_memory_loses_nothing(void)
{
    EACH_KIND
    {
        long n;

        for (n = 1; n < 8; n++) {
            int i;

            open_as(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
            for (i = 0; i < 10; i++)
                CHECK_EQ(put((uint64_t)i, (uint64_t)i), 0);
            fail_at = n_allocs + n;
            for (i = 0; i < 30 && flush(100) > 0; i++)
                now_ms += 10;
            CHECK_EQ(flush(100), 0);
            for (i = 0; i < 10; i++)
                expect_row((uint64_t)i, (uint64_t)i);
            shut();
        }
    }
}

/* --- a real store -------------------------------------------------------- */

static void through_sqlite_and_back(void)
{
    struct cache_loading_config config;
    struct cache_sqlite_config file;
    static struct cache_sqlite db;
    char path[64], side[80];
    uint64_t key, n_lost;
    int round;

    k = &plain_kind;
    (void)snprintf(path, sizeof path, "/tmp/test_strategies.%ld.db",
                   (long)getpid());
    memset(&file, 0, sizeof file);
    file.path = path;
    for (round = 0; round < 3; round++) {
        config = config_of(CACHE_READ_THROUGH, CACHE_WRITE_BEHIND);
        config.cache.now = NULL;
        config.wall_now = NULL;
        config.freshness.ttl_ms = 0;
        config.store = &db.store;
        config.cache.capacity = 50;
        config.when_full = CACHE_FULL_WRITE_THROUGH;
        forget();
        CHECK_EQ(cache_sqlite_open(&db, &file), 0);
        CHECK_EQ(k->init(&config), 0);
        for (key = 0; key < 200 && round > 0; key++) {
            bool gone = round == 2 && key % 3 == 0;

            CHECK_EQ(get(key), gone ? CACHE_EKEY : CACHE_FOUND);
            CHECK_EQ(got, gone                         ? NOTHING
                          : round == 2 && key % 3 == 1 ? key + 7
                                                       : key * key);
        }
        for (key = 0; key < 200; key++) {
            if (round == 0)
                CHECK_EQ(put(key, key * key), 0);
            else if (round == 1 && key % 3 == 0)
                CHECK_EQ(removes(key), 0);
            else if (round == 1 && key % 3 == 1)
                CHECK_EQ(put(key, key + 7), 0);
        }
        if (round < 2)
            CHECK_EQ(sound(k->close(20000, &n_lost)), 0);
        shut();
        db.store.close(&db.store);
    }
    (void)remove(path);
    (void)snprintf(side, sizeof side, "%s-wal", path);
    (void)remove(side);
    (void)snprintf(side, sizeof side, "%s-shm", path);
    (void)remove(side);
}

/* --- the table ----------------------------------------------------------- */

static const struct test tests[] = {
    TEST(aside_the_store_is_the_programs),
    TEST(read_through_get_loads_what_is_missing),
    TEST(what_leaves_the_cache_stays_in_the_store),
    TEST(data_that_is_over_in_the_store_is_over_in_the_cache),
    TEST(through_the_store_comes_first_and_then_the_cache),
    TEST(around_the_entry_leaves_when_the_store_has_it),
    TEST(a_writer_that_fails_leaves_the_cache_as_it_was),
    TEST(versions_grow_with_each_write),
    TEST(options_of_a_write_leave_out_the_store_or_the_cache),
    TEST(one_operation_of_a_key_is_at_the_store_at_a_time),
    TEST(what_is_invalidated_while_it_is_written_does_not_come_back),
    TEST(a_slow_store_takes_nothing_off_the_idle_time),
    TEST(behind_the_cache_has_it_at_once_and_the_store_later),
    TEST(writes_of_one_key_coalesce),
    TEST(dirty_keys_are_read_from_the_buffer_whatever_happens_here),
    TEST(a_dirty_key_is_not_loaded_however_it_is_read),
    TEST(dirty_data_that_is_over_is_not_read),
    TEST(flush_keeps_to_its_budget_and_fills_batches),
    TEST(a_store_that_fails_for_a_while_loses_nothing),
    TEST(the_newest_write_wins_while_an_older_one_is_at_the_store),
    TEST(when_full_a_write_is_refused_and_the_cache_is_as_it_was),
    TEST(when_full_a_write_makes_room_by_writing_others),
    TEST(acknowledged_by_the_store_it_is_there),
    TEST(what_fails_too_often_is_a_dead_letter),
    TEST(many_that_the_store_acknowledges_have_no_dead_letter),
    TEST(a_write_behind_overtakes_a_load),
    TEST(bytes_that_make_no_sense_fail_alone),
    TEST(batches_are_told_with_their_number_and_first_error),
    TEST(a_value_without_room_is_stored_and_its_old_one_is_not_served),
    TEST(close_writes_what_is_dirty_and_refuses_what_comes),
    TEST(close_tells_the_truth_about_what_is_lost),
    TEST(destroy_without_close_writes_what_it_can),
    TEST(all_misses_of_a_call_are_one_call_of_the_store),
    TEST(all_writes_of_a_call_are_one_call_of_the_store),
    TEST(of_a_key_twice_in_one_call_the_last_write_wins),
    TEST(more_writes_than_claims_go_in_parts),
    TEST(a_store_with_a_thread_of_its_own_does_as_well),
    TEST(incoherent_configs_are_refused_and_nothing_is_touched),
    TEST(init_without_memory_changes_nothing),
    TEST(the_buffer_has_the_hooks_of_the_cache_and_their_user),
    TEST(calls_without_memory_fail_and_nothing_changes),
    TEST(a_flush_without_memory_loses_nothing),
    TEST(through_sqlite_and_back),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
