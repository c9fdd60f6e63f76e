/*
 * test_histogram.c - cache_histogram.h: every bucket's two ends, how far its
 * quantiles are from exact ones, merging, and threads that add at once.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdint.h>

/* What another thread does once somebody has looked at a word. */
static void (*meanwhile)(void);

static inline uint64_t looked(uint64_t value)
{
    void (*act)(void) = meanwhile;

    if (act != NULL) {
        meanwhile = NULL;
        act();
    }
    return value;
}

#define CACHE_ATOMIC_LOAD(at)                                                  \
    ((__typeof__(*(at)))looked(__atomic_load_n(at, __ATOMIC_RELAXED)))
#define CACHE_ATOMIC_STORE(at, x) __atomic_store_n(at, x, __ATOMIC_RELAXED)
#define CACHE_ATOMIC_ADD(at, x) __atomic_fetch_add(at, x, __ATOMIC_RELAXED)

#include "cache_histogram.h"
#include "tests/test.h"

/* Unlike CHECK_EQ's, all of its 64 bits are shown without a sign. */
#define CHECK_NS(a, b) check_ns(__LINE__, (a), (b))

static void check_ns(int line, uint64_t a, uint64_t b)
{
    if (a == b)
        return;
    printf("%llu is not %llu\n", (unsigned long long)a, (unsigned long long)b);
    test__fail(__FILE__, line, "the same nanoseconds");
}

/* Random durations of every size, as many of each. */
static uint64_t any_ns(uint64_t *seed)
{
    uint64_t bits = test_random(seed);

    return bits >> (test_random(seed) >> 32) % 64;
}

/* The bucket of a duration as a reader would find it, without tricks: eight
 * for each power of two, one for each number below the first of them. */
static uint32_t bucket_of(uint64_t ns)
{
    uint32_t power = 63;

    if (ns < 8)
        return (uint32_t)ns;
    while (ns >> power == 0)
        power--;
    return 8 + (power - 3) * 8 +
           (uint32_t)((ns - ((uint64_t)1 << power)) /
                      ((uint64_t)1 << power >> 3));
}

/* --- buckets ------------------------------------------------------------- */

static void powers_of_two(void)
{
    int power, off;

    for (power = 0; power < 64; power++)
        for (off = -1; off <= 1; off++) {
            uint64_t ns = ((uint64_t)1 << power) + (uint64_t)(int64_t)off;
            uint32_t bucket = cache__histogram_bucket(ns);

            CHECK_EQ(bucket, bucket_of(ns));
            CHECK(bucket < CACHE_HISTOGRAM_BUCKETS);
            if (power >= 3 && off >= 0) /* it begins a power's eight */
                CHECK_EQ(bucket, (power - 2) * 8 + (off > 0 && power == 3));
        }
    CHECK_EQ(cache__histogram_bucket(0), 0);
    CHECK_EQ(cache__histogram_bucket(UINT64_MAX), CACHE_HISTOGRAM_BUCKETS - 1);
    CHECK(sizeof(struct cache_histogram) < 4096);
}

/* Each ends where the next begins, so none is empty and nothing is between. */
static void both_ends(void)
{
    uint64_t first = 0, longest;
    uint32_t i;

    for (i = 0; i < CACHE_HISTOGRAM_BUCKETS; i++) {
        longest = cache__histogram_longest(i);
        CHECK(longest >= first);
        CHECK_EQ(cache__histogram_bucket(first), i);
        CHECK_EQ(cache__histogram_bucket(longest), i);
        CHECK_EQ(bucket_of(longest), i);
        CHECK(longest - first <= first / 8);
        if (i < 16)
            CHECK_NS(longest, i);
        first = longest + 1;
    }
    CHECK_NS(longest, UINT64_MAX);
}

static void monotone(void)
{
    uint64_t seed = test_seed, a, b, n;
    uint32_t bucket, before = 0;

    for (a = 0; a < 100000; a++) {
        bucket = cache__histogram_bucket(a);
        CHECK(bucket == before || bucket == before + 1 || a == 0);
        before = bucket;
    }
    for (n = 0; n < 200000; n++) {
        a = any_ns(&seed), b = any_ns(&seed);
        CHECK(a > b ||
              cache__histogram_bucket(a) <= cache__histogram_bucket(b));
        CHECK_EQ(cache__histogram_bucket(a), bucket_of(a));
    }
}

/* What the only duration of its bucket is taken for, with a longer one there. */
static void error_of_an_eighth(void)
{
    uint64_t seed = test_seed, n;

    for (n = 0; n < 20000; n++) {
        struct cache_histogram h = { { 0 }, 0, 0 };
        uint64_t ns = any_ns(&seed), says;

        cache_histogram_add(&h, ns);
        CHECK_NS(cache_histogram_quantile(&h, 0.5), ns); /* the longest */
        cache_histogram_add(&h, UINT64_MAX);
        says = cache_histogram_quantile(&h, 0.5);
        CHECK(says >= ns);
        CHECK(says - ns <= ns / 8);
        CHECK_NS(cache_histogram_quantile(&h, 1), UINT64_MAX);
    }
}

/* --- quantiles ----------------------------------------------------------- */

static const double shares[] = { 0,       1e-9, 0.001, 0.01, 0.1,    0.25,
                                 0.5,     0.75, 0.9,   0.99, 0.999,  0.9999,
                                 1.0 / 3, 1,    -1,    2,    -1e300, 1e300 };

static int by_length(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* The first of the sorted that at least a share q are not longer than. */
static uint64_t exact(const uint64_t *sorted, size_t n, double q)
{
    size_t i = 0;

    while (i < n - 1 && (double)(i + 1) < q * (double)n)
        i++;
    return sorted[i];
}

/* Adds n durations, none longer than most, and asks for every share. */
static void compare(size_t n, uint64_t most, uint64_t *seed)
{
    static uint64_t ns[5000];
    struct cache_histogram h = { { 0 }, 0, 0 };
    uint64_t is, says;
    double sum = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        ns[i] = any_ns(seed) & most;
        cache_histogram_add(&h, ns[i]);
        sum += (double)ns[i];
    }
    qsort(ns, n, sizeof *ns, by_length);
    CHECK_NS(cache_histogram_count(&h), n);
    CHECK_NS(h.max_ns, ns[n - 1]);
    if (most <= UINT32_MAX) /* the sum has not begun anew, nor lost a bit */
        CHECK(cache_histogram_mean(&h) == sum / (double)n);
    for (i = 0; i < sizeof shares / sizeof *shares; i++) {
        is = exact(ns, n, shares[i]);
        says = cache_histogram_quantile(&h, shares[i]);
        CHECK(says >= is);
        CHECK(says - is <= is / 8);
        CHECK(says <= ns[n - 1]);
        if (is < 16)
            CHECK_NS(says, is);
    }
    CHECK_NS(cache_histogram_quantile(&h, 1), ns[n - 1]);
}

static void quantiles(void)
{
    static const uint64_t most[] = { 0, 15, 1023, UINT32_MAX, UINT64_MAX };
    uint64_t seed = test_seed;
    size_t i, n;

    for (i = 0; i < sizeof most / sizeof *most; i++) {
        for (n = 1; n <= 40; n++)
            compare(n, most[i], &seed);
        for (n = 999; n <= 1001; n++)
            compare(n, most[i], &seed);
        compare(5000, most[i], &seed);
    }
}

/* 1 to 10 are exact, and each of the ten is a tenth. */
static void every_tenth(void)
{
    struct cache_histogram h = { { 0 }, 0, 0 };
    uint64_t ns;

    for (ns = 10; ns > 0; ns--)
        cache_histogram_add(&h, ns);
    CHECK(cache_histogram_mean(&h) == 5.5);
    CHECK_NS(cache_histogram_quantile(&h, 0), 1);
    for (ns = 1; ns <= 10; ns++) {
        CHECK_NS(cache_histogram_quantile(&h, (double)ns / 10 - 0.01), ns);
        CHECK_NS(cache_histogram_quantile(&h, (double)ns / 10 + 0.01),
                 ns < 10 ? ns + 1 : 10);
    }
    CHECK_NS(cache_histogram_quantile(&h, 0.5), 5); /* and no half more */
}

static void not_a_number(void)
{
    struct cache_histogram h = { { 0 }, 0, 0 };
    double zero = 0;

    cache_histogram_add(&h, 3);
    cache_histogram_add(&h, 5);
    CHECK_NS(cache_histogram_quantile(&h, zero / zero), 3);
}

/* --- extremes ------------------------------------------------------------ */

static void empty(void)
{
    struct cache_histogram h = { { 0 }, 0, 0 };
    size_t i;

    CHECK_NS(cache_histogram_count(&h), 0);
    CHECK(cache_histogram_mean(&h) == 0);
    for (i = 0; i < sizeof shares / sizeof *shares; i++)
        CHECK_NS(cache_histogram_quantile(&h, shares[i]), 0);
}

static void shortest_and_longest(void)
{
    struct cache_histogram h = { { 0 }, 0, 0 };

    cache_histogram_add(&h, 0);
    CHECK_NS(cache_histogram_count(&h), 1);
    CHECK_NS(cache_histogram_quantile(&h, 1), 0);
    cache_histogram_add(&h, UINT64_MAX);
    CHECK_NS(cache_histogram_count(&h), 2);
    CHECK_NS(cache_histogram_quantile(&h, 0), 0);
    CHECK_NS(cache_histogram_quantile(&h, 0.5), 0);
    CHECK_NS(cache_histogram_quantile(&h, 0.51), UINT64_MAX);
    CHECK_NS(cache_histogram_quantile(&h, 1), UINT64_MAX);
    CHECK(cache_histogram_mean(&h) == (double)UINT64_MAX / 2);
    CHECK_NS(h.counts[0], 1);
    CHECK_NS(h.counts[CACHE_HISTOGRAM_BUCKETS - 1], 1);
}

/* --- merging ------------------------------------------------------------- */

static void merge_is_the_sum(void)
{
    struct cache_histogram part[3] = { 0 }, all = { { 0 }, 0, 0 };
    struct cache_histogram sum = { { 0 }, 0, 0 }, twice;
    uint64_t seed = test_seed, n, ns;
    size_t i;

    for (n = 0; n < 10000; n++) {
        ns = any_ns(&seed);
        i = (size_t)(test_random(&seed) >> 32) % 3;
        cache_histogram_add(&part[i], ns);
        cache_histogram_add(&all, ns);
    }
    for (i = 0; i < 3; i++)
        cache_histogram_merge(&sum, &part[i]);
    CHECK_EQ(memcmp(&sum, &all, sizeof all), 0);

    /* An empty one adds nothing, and one can be merged with itself. */
    memset(part, 0, sizeof part);
    cache_histogram_merge(&sum, &part[0]);
    CHECK_EQ(memcmp(&sum, &all, sizeof all), 0);
    cache_histogram_merge(&part[0], &all);
    CHECK_EQ(memcmp(&part[0], &all, sizeof all), 0);
    twice = all;
    cache_histogram_merge(&twice, &twice);
    cache_histogram_merge(&all, &sum);
    CHECK_EQ(memcmp(&twice, &all, sizeof all), 0);
    CHECK_NS(cache_histogram_count(&twice), 20000);
}

/* --- threads ------------------------------------------------------------- */

enum { THREADS = 4, ADDS = 20000 };

static struct cache_histogram shared;
static bool reads;

static uint64_t seed_of(uintptr_t thread)
{
    return test_seed + 0x9e3779b97f4a7c15u * (thread + 1);
}

static void *adds(void *thread)
{
    uint64_t seed = seed_of((uintptr_t)thread);
    long n;

    for (n = 0; n < ADDS; n++)
        cache_histogram_add_shared(&shared, any_ns(&seed));
    return NULL;
}

/* Meanwhile nothing goes back, and nothing is beyond what will be there. */
static void *looks(void *arg)
{
    uint64_t n, median, before = 0, max, max_before = 0;
    struct cache_histogram copy = { { 0 }, 0, 0 };
    const char *broken = NULL;

    (void)arg;
    do {
        n = cache_histogram_count(&shared);
        median = cache_histogram_quantile(&shared, 0.5);
        max = cache_histogram_quantile(&shared, 1);
        memset(&copy, 0, sizeof copy);
        cache_histogram_merge(&copy, &shared);
        if (n < before || n > (uint64_t)THREADS * ADDS)
            broken = "count";
        if (max < max_before)
            broken = "max";
        if (n > 1000 && (median == 0 || median > max))
            broken = "median";
        if (cache_histogram_count(&copy) < n || copy.max_ns < max)
            broken = "merge";
        if (cache_histogram_mean(&shared) < 0)
            broken = "mean";
        before = n, max_before = max;
    } while (broken == NULL && __atomic_load_n(&reads, __ATOMIC_RELAXED));
    return (void *)(uintptr_t)broken;
}

static void shared_loses_nothing(void)
{
    struct cache_histogram expected = { { 0 }, 0, 0 };
    pthread_t thread[THREADS], reader;
    void *broken;
    uintptr_t i;
    long n;

    memset(&shared, 0, sizeof shared);
    reads = true;
    CHECK_EQ(pthread_create(&reader, NULL, looks, NULL), 0);
    for (i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, adds, (void *)i), 0);
    for (i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    __atomic_store_n(&reads, false, __ATOMIC_RELAXED);
    CHECK_EQ(pthread_join(reader, &broken), 0);
    CHECK_STR((const char *)broken, NULL);
    for (i = 0; i < THREADS; i++) {
        uint64_t seed = seed_of(i);
        for (n = 0; n < ADDS; n++)
            cache_histogram_add(&expected, any_ns(&seed));
    }
    CHECK_NS(cache_histogram_count(&shared), (uint64_t)THREADS * ADDS);
    CHECK_EQ(memcmp(&shared, &expected, sizeof shared), 0);
}

static void raises_to_30(void)
{
    cache_histogram_add_shared(&shared, 30);
}

static void raises_to_70(void)
{
    cache_histogram_add_shared(&shared, 70);
}

/* Another thread raises the maximum at the worst moment. */
static void shared_maximum(void)
{
    memset(&shared, 0, sizeof shared);
    cache_histogram_add_shared(&shared, 10);
    meanwhile = raises_to_30;
    cache_histogram_add_shared(&shared, 50);
    CHECK_NS(shared.max_ns, 50);
    meanwhile = raises_to_70;
    cache_histogram_add_shared(&shared, 60);
    CHECK_NS(shared.max_ns, 70);
    CHECK_NS(shared.sum_ns, 10 + 30 + 50 + 70 + 60);
    CHECK_NS(cache_histogram_count(&shared), 5);
}

static const struct test tests[] = {
    TEST(powers_of_two),
    TEST(both_ends),
    TEST(monotone),
    TEST(error_of_an_eighth),
    TEST(quantiles),
    TEST(every_tenth),
    TEST(not_a_number),
    TEST(empty),
    TEST(shortest_and_longest),
    TEST(merge_is_the_sum),
    TEST(shared_loses_nothing),
    TEST(shared_maximum),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
