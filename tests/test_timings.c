/*
 * test_timings.c - CACHE_TIMINGS: what loading caches measure of loads, stores,
 * reads and writes, of both kinds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../cache_loading_shared.h"
#include "test.h"

/* Each look at the clock takes as long as the test says, and so does what the
 * store does. */
static uint64_t now_ns, look_ns, store_ns;

static uint64_t clock_ns(void *user)
{
    (void)user;
    return now_ns += look_ns;
}

static int load(const uint64_t *key, uint64_t *value,
                struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    (void)user;
    now_ns += store_ns;
    *value = *key * 10;
    return *key == 404 ? CACHE_EKEY : 0;
}

static int put(const uint64_t *key, const uint64_t *value,
               const struct cache_storing *storing, void *user)
{
    (void)key;
    (void)value;
    (void)storing;
    (void)user;
    now_ns += store_ns;
    return 0;
}

static int erase(const uint64_t *key, const struct cache_storing *storing,
                 void *user)
{
    return put(key, NULL, storing, user);
}

CACHE_DEFINE_LOADING_WITH(plain, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_TIMINGS, .load = load,
                          .store = put, .remove = erase);
CACHE_DEFINE_LOADING_SHARED_WITH(shared, uint64_t, uint64_t, cache_hash_u64,
                                 cache_equal_u64,
                                 CACHE_TIMINGS | CACHE_PLAIN_DATA, .load = load,
                                 .store = put, .remove = erase);
CACHE_DEFINE_LOADING(untimed, uint64_t, uint64_t, cache_hash_u64,
                     cache_equal_u64, 0);

static struct cache_loading_config config_of_through(void)
{
    struct cache_loading_config config;

    memset(&config, 0, sizeof config);
    config.cache.capacity = 100;
    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_THROUGH;
    config.now_ns = clock_ns;
    now_ns = 0;
    look_ns = 0;
    store_ns = 1000;
    return config;
}

/* So many were measured, and the longest took so long. */
#define CHECK_TIMING(name, c, what, n, longest_ns)                             \
    do {                                                                       \
        struct cache_histogram h_;                                             \
        CHECK_EQ(name##_timing(c, what, &h_), 0);                              \
        CHECK_EQ(cache_histogram_count(&h_), n);                               \
        CHECK_EQ(cache_histogram_quantile(&h_, 1), longest_ns);                \
    } while (0)

#define MEASURES_EACH_CALL(name)                                               \
    static void name##_measures_each_call(void)                                \
    {                                                                          \
        struct cache_loading_config config = config_of_through();              \
        struct cache_claim claim;                                              \
        struct name c;                                                         \
        uint64_t v, keys[3] = { 1, 50, 51 }, values[3];                        \
        int found[3];                                                          \
                                                                               \
        CHECK_EQ(name##_init(&c, &config), 0);                                 \
        CHECK_TIMING(name, &c, CACHE_TIMING_READ, 0, 0);                       \
        CHECK_EQ(name##_get(&c, 1, &v), CACHE_FOUND);                          \
        CHECK_TIMING(name, &c, CACHE_TIMING_LOAD, 1, 1000);                    \
        CHECK_TIMING(name, &c, CACHE_TIMING_READ, 1, 1000);                    \
        CHECK_EQ(name##_get(&c, 1, &v), CACHE_FOUND); /* in no time */         \
        CHECK_EQ(name##_load(&c, 404, &v, NULL, NULL), CACHE_EKEY);            \
        CHECK_EQ(name##_claim(&c, 2, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);  \
        CHECK_EQ(name##_commit(&c, &claim, 3), 0);                             \
        CHECK_TIMING(name, &c, CACHE_TIMING_READ, 4, 1000);                    \
        CHECK_TIMING(name, &c, CACHE_TIMING_LOAD, 2, 1000);                    \
        store_ns = 3000;                                                       \
        CHECK_EQ(name##_put(&c, 1, 5), 0);                                     \
        CHECK_EQ(name##_remove(&c, 1), 0);                                     \
        CHECK_TIMING(name, &c, CACHE_TIMING_STORE, 2, 3000);                   \
        CHECK_TIMING(name, &c, CACHE_TIMING_WRITE, 2, 3000);                   \
        CHECK_EQ(name##_load_many(&c, keys, 3, values, found, NULL, NULL), 0); \
        CHECK_TIMING(name, &c, CACHE_TIMING_LOAD, 3, 9000); /* one call */     \
        CHECK_TIMING(name, &c, CACHE_TIMING_STORE, 2, 3000);                   \
        name##_destroy(&c);                                                    \
    }

MEASURES_EACH_CALL(plain)
MEASURES_EACH_CALL(shared)

static void a_clock_that_goes_back_measures_nothing_long(void)
{
    struct cache_loading_config config = config_of_through();
    struct plain c;
    uint64_t v;

    CHECK_EQ(plain_init(&c, &config), 0);
    now_ns = 1000000;
    store_ns = (uint64_t)-500;
    CHECK_EQ(plain_get(&c, 1, &v), CACHE_FOUND);
    CHECK_TIMING(plain, &c, CACHE_TIMING_LOAD, 1, 0);
    plain_destroy(&c);
}

static void the_system_has_a_clock_too(void)
{
    struct cache_loading_config config = config_of_through();
    struct cache_histogram h;
    struct plain c;
    uint64_t v;

    config.now_ns = NULL;
    CHECK_EQ(plain_init(&c, &config), 0);
    CHECK_EQ(plain_get(&c, 1, &v), CACHE_FOUND);
    CHECK_EQ(plain_timing(&c, CACHE_TIMING_READ, &h), 0);
    CHECK_EQ(cache_histogram_count(&h), 1);
    CHECK(cache_histogram_quantile(&h, 1) < UINT64_C(60000000000));
    plain_destroy(&c);
}

static void what_is_off_is_not_measured(void)
{
    struct cache_loading_config config;
    struct cache_histogram h;
    struct untimed c;
    struct plain p;

    memset(&config, 0, sizeof config);
    config.cache.capacity = 10;
    memset(&h, 7, sizeof h);
    CHECK_EQ(untimed_init(&c, &config), 0);
    CHECK_EQ(untimed_timing(&c, CACHE_TIMING_READ, &h), CACHE_EINVAL);
    CHECK_EQ(h.max_ns, UINT64_C(0x0707070707070707));
    untimed_destroy(&c);
    CHECK_EQ(plain_init(&p, &config), 0);
    CHECK_EQ(plain_timing(&p, (enum cache_timing)4, &h), CACHE_EINVAL);
    CHECK_EQ(plain_timing(&p, (enum cache_timing) - 1, &h), CACHE_EINVAL);
    plain_destroy(&p);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(plain_measures_each_call),
        TEST(shared_measures_each_call),
        TEST(a_clock_that_goes_back_measures_nothing_long),
        TEST(the_system_has_a_clock_too),
        TEST(what_is_off_is_not_measured),
    };

    return TEST_MAIN(argc, argv, tests);
}
