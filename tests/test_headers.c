/*
 * test_headers.c - the headers in every dialect: it must compile without a
 * warning as C11, C17, C23, C++17 and C++20, with and without extensions.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cache.h"
#include "cache.h" /* twice is harmless */
#include "cache_policies.h"
#include "tests/test.h"

/* --- many types in one translation unit ---------------------------------- */

typedef struct {
    int32_t x, y;
} cell;

CACHE_STRUCT_KEY(cell, cell, 2 * sizeof(int32_t));

CACHE_DEFINE(by_number, uint64_t, int, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE);
CACHE_DEFINE(by_byte, int8_t, double, cache_hash_i8, cache_equal_i8,
             CACHE_FIFO | CACHE_STATS);
CACHE_DEFINE(by_text, const char *, const char *, cache_sip_str,
             cache_equal_str, CACHE_LRU | CACHE_EXPIRY | CACHE_KEEP_HASH);
CACHE_DEFINE(by_data, struct cache_bytes, struct cache_bytes, cache_hash_bytes,
             cache_equal_bytes, CACHE_LRU);
CACHE_DEFINE(by_cell, cell, cell, cell_hash, cell_equal,
             CACHE_SIEVE | CACHE_EXPIRY | CACHE_STATS);

static int n_copied, n_freed, n_left;

static int copied(int *key, void *user)
{
    (void)key, (void)user;
    n_copied++;
    return 0;
}

static void freed(int *key, void *user)
{
    (void)key, (void)user;
    n_freed++;
}

static void left(const int *key, float *value, enum cache_cause cause,
                 void *user)
{
    (void)key, (void)value, (void)cause, (void)user;
    n_left++;
}

CACHE_DEFINE_WITH(told, int, float, cache_hash_i32, cache_equal_i32,
                  CACHE_SIEVE | CACHE_EXPIRY, .key_copy = copied,
                  .key_free = freed, .on_remove = left);
/* Some of the callbacks, in their order. */
CACHE_DEFINE_WITH(told_less, int, float, cache_hash_i32, cache_equal_i32,
                  CACHE_FIFO, .on_remove = left);

/* Every feature and callback. */
static int n_weighed, n_priced;

static uint64_t weigh(const int *key, const float *value, void *user)
{
    (void)key, (void)value, (void)user;
    n_weighed++;
    return 10;
}

static uint32_t price(const int *key, const float *value, void *user)
{
    (void)key, (void)value, (void)user;
    n_priced++;
    return 1;
}

CACHE_DEFINE_WITH(limited, int, float, cache_hash_i32, cache_equal_i32,
                  CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS |
                      CACHE_KEEP_HASH | CACHE_WEIGHED | CACHE_PINS |
                      CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION,
                  .key_copy = copied, .key_free = freed, .on_remove = left,
                  .weigh = weigh, .cost = price);
CACHE_DEFINE_WITH(pinned, int, float, cache_hash_i32, cache_equal_i32,
                  CACHE_CLOCK | CACHE_PINS, .cost = price);
CACHE_DEFINE(noted, int, float, cache_hash_i32, cache_equal_i32,
             CACHE_SIEVE | CACHE_META_TIMES | CACHE_META_VERSION);

/* --- the tests ----------------------------------------------------------- */

static uint64_t clock_stands(void *user)
{
    (void)user;
    return 0;
}

static struct cache_config config_of(size_t capacity, uint32_t options)
{
    struct cache_config config;

    memset(&config, 0, sizeof config);
    config.capacity = capacity;
    config.now = clock_stands;
    if (options & CACHE_WEIGHED)
        config.max_bytes = 10000;
    if ((options & CACHE__POLICY_BITS) == CACHE_POLICY_DYNAMIC)
        config.policy = CACHE_LRU;
    return config;
}

/* Every function of a type, once: what is never called is never compiled. */
#define USE_TYPE(name, k, v)                                                   \
    static int name##_fn(const name##_key *key, name##_value *value,           \
                         bool present, void *user)                             \
    {                                                                          \
        (void)key, (void)value, (void)present, (void)user;                     \
        return CACHE_COMPUTE_KEEP;                                             \
    }                                                                          \
    static void name##_works(void)                                             \
    {                                                                          \
        const uint32_t options = name##__options;                              \
        const bool expires = (options & CACHE_EXPIRY) != 0;                    \
        const bool pins = (options & CACHE_PINS) != 0;                         \
        const bool counts = (options & CACHE_STATS) != 0;                      \
        const bool versions = (options & CACHE_META_VERSION) != 0;             \
        struct cache_config config = config_of(3, options);                    \
        struct cache_stats stats;                                              \
        struct cache_entry entry;                                              \
        struct name##_cursor at;                                               \
        struct name c;                                                         \
        bool inserted = true;                                                  \
        name##_key key = k;                                                    \
        name##_value value = v;                                                \
        void *memory = malloc(name##_memory_needed(&config));                  \
        CHECK(memory != NULL);                                                 \
        memset(&at, 0, sizeof at);                                             \
        CHECK_EQ(name##_init_in(&c, &config, memory,                           \
                                name##_memory_needed(&config)),                \
                 0);                                                           \
        name##_destroy(&c);                                                    \
        free(memory);                                                          \
        CHECK_EQ(name##_init(&c, &config), 0);                                 \
        CHECK_EQ(name##_replace(&c, key, value), CACHE_EKEY);                  \
        CHECK_EQ(name##_put(&c, key, value), 0);                               \
        CHECK_EQ(name##_put_if_absent(&c, key, value), CACHE_EKEY);            \
        CHECK(name##_get(&c, key) && name##_peek(&c, key));                    \
        CHECK(name##_contains(&c, key));                                       \
        CHECK(name##_get_or_insert(&c, key, value, &inserted) && !inserted);   \
        CHECK_EQ(name##_compute(&c, key, name##_fn, NULL), 0);                 \
        CHECK_EQ(name##_put_ttl(&c, key, value, 1000),                         \
                 expires ? 0 : CACHE_EINVAL);                                  \
        CHECK_EQ(name##_touch_ttl(&c, key, 1000), expires ? 0 : CACHE_EINVAL); \
        CHECK_EQ(name##_entry(&c, key, &entry), 0);                            \
        CHECK_EQ(name##_put_if_version(&c, key, value, entry.version + 1),     \
                 versions ? CACHE_ECONFLICT : CACHE_EINVAL);                   \
        CHECK_EQ(name##_put_version(&c, key, value, CACHE_NEVER,               \
                                    versions ? entry.version : 1),             \
                 versions ? CACHE_ECONFLICT : CACHE_EINVAL);                   \
        CHECK_EQ(name##_pin(&c, key), pins ? 0 : CACHE_EINVAL);                \
        CHECK_EQ(name##_unpin(&c, key), pins ? 0 : CACHE_EINVAL);              \
        CHECK_EQ(name##_tick(&c, 10), 0);                                      \
        CHECK_EQ(name##_stats(&c, &stats), counts ? 0 : CACHE_EINVAL);         \
        CHECK(name##_memory(&c).total_bytes == name##_memory_needed(&config)); \
        CHECK(name##_next(&c, &at) && !name##_next(&c, &at));                  \
        CHECK_SOUND(name##_check(&c));                                         \
        CHECK_EQ(name##_len(&c), 1);                                           \
        CHECK_EQ(name##_remove(&c, key), 0);                                   \
        CHECK_EQ(name##_clear(&c), 0);                                         \
        name##_destroy(&c);                                                    \
    }                                                                          \
    struct cache__swallow_semicolon

static const cell a_cell = { 1, 2 };
static const struct cache_bytes some_bytes = { "ab", 2 };

USE_TYPE(by_number, 7, 42);
USE_TYPE(by_byte, -7, 0.5);
USE_TYPE(by_text, "a key", "a value");
USE_TYPE(by_data, some_bytes, some_bytes);
USE_TYPE(by_cell, a_cell, a_cell);
USE_TYPE(told, -1, 0.5f);
USE_TYPE(told_less, 1, 0.5f);
USE_TYPE(limited, -1, 0.5f);
USE_TYPE(pinned, -1, 0.5f);
USE_TYPE(noted, -1, 0.5f);

static void callbacks_are_called(void)
{
    n_copied = n_freed = n_left = 0;
    told_works();
    CHECK_EQ(n_copied, 1);
    CHECK_EQ(n_freed, 1);
    CHECK_EQ(n_left, 2); /* put_ttl replaced one, remove took the other */

    n_weighed = n_priced = 0;
    limited_works();
    CHECK_EQ(n_weighed, 2); /* put, put_ttl */
    CHECK_EQ(n_priced, 4);  /* and touch_ttl, unpin */
}

static void options_come_out_as_given(void)
{
    CHECK_EQ(by_number__options, CACHE_SIEVE);
    CHECK_EQ(by_byte__options, CACHE_FIFO | CACHE_STATS);
    CHECK_EQ(by_text__options, CACHE_LRU | CACHE_EXPIRY | CACHE_KEEP_HASH);
    CHECK_EQ(by_data__options, CACHE_LRU | CACHE_KEEP_HASH);
    CHECK_EQ(by_cell__options, CACHE_SIEVE | CACHE_EXPIRY | CACHE_STATS);
    CHECK_EQ(limited__options, CACHE_POLICY_DYNAMIC | CACHE__FEATURE_BITS);
    CHECK(CACHE_VERSION > 0);
}

/* Strict C declares no monotonic clock: an expiring cache has to be given
 * one, and is told so. */
static void clock_of_the_system(void)
{
    struct cache_config config = config_of(3, by_cell__options);
    struct by_cell c;
    struct by_number timeless;
    uint64_t at_ms = 5000;

    config.now_ms = &at_ms;
    CHECK_EQ(by_cell_init(&c, &config), CACHE_ECLOCK);
    config.now = NULL;
    CHECK_EQ(by_cell_init(&c, &config), 0);
    CHECK_EQ(by_cell_put_ttl(&c, a_cell, a_cell, 1000), 0);
    at_ms += 999;
    CHECK(by_cell_contains(&c, a_cell));
    at_ms += 1;
    CHECK(!by_cell_contains(&c, a_cell));
    by_cell_destroy(&c);
    config.now_ms = NULL;
#ifndef CACHE__CLOCK
    CHECK_EQ(by_cell_init(&c, &config), CACHE_ECLOCK);
    CHECK_EQ(by_cell_memory_needed(&config), 0);
#else
    CHECK_EQ(by_cell_init(&c, &config), 0);
    CHECK_EQ(by_cell_put_ttl(&c, a_cell, a_cell, 3600 * 1000), 0);
    CHECK(by_cell_contains(&c, a_cell));
    by_cell_destroy(&c);
#endif
    CHECK_EQ(by_number_init(&timeless, &config), 0); /* needs no clock */
    by_number_destroy(&timeless);
}

static const struct test tests[] = {
    TEST(by_number_works),
    TEST(by_byte_works),
    TEST(by_text_works),
    TEST(by_data_works),
    TEST(by_cell_works),
    TEST(told_works),
    TEST(limited_works),
    TEST(pinned_works),
    TEST(told_less_works),
    TEST(callbacks_are_called),
    TEST(noted_works),
    TEST(clock_of_the_system),
    TEST(options_come_out_as_given),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
