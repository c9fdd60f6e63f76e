/*
 * loading.c - what a loading cache costs beside a plain one, and what its
 * promises of time and number come to.
 *
 *   build/bench-loading [--quick] [--only=claims|hit|miss|invalidate]
 *                       [--tsv=FILE]
 *
 * A line for each figure: what, value, unit, what is wanted of it ("-": it is
 * there to compare with), and whether that was reached.  Times of calls are
 * medians of rounds of a million operations, CPU time of the thread; those that
 * are compared stand side by side in one process on the same keys, and take
 * turns, the first one changing from round to round.  "again" is the plain cache
 * once more: a second one of the same type, which shows the noise.
 *
 * Exit code 1: a number or a value was wrong.  No time is ever a reason to fail.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "cache_loading_shared.h"
#include "sides.h"

#define TTL_MS 3600000u /* nothing ends, but everything has an end */

static size_t sizes[] = { 10000, 1000000 };
static const char *only = "";

/* `wanted` is as in sides.h. */
static void report(const char *figure, double value, const char *unit,
                   const char *wanted)
{
    printf("%-48s %10.2f %-5s %-9s %s\n", figure, value, unit, wanted,
           verdict(value, wanted));
    fflush(stdout);
    if (tsv != NULL)
        fprintf(tsv, "%s\t%.2f\t%s\t%s\n", figure, value, unit, wanted);
}

/* --- subjects ------------------------------------------------------------- */

static uint64_t value_of(uint64_t key)
{
    return key * 5 + 1;
}

static int make(const uint64_t *key, uint64_t *value,
                struct cache_loaded *loaded, void *user)
{
    (void)loaded, (void)user;
    *value = value_of(*key);
    return 0;
}

/* get of a cache of CACHE_DEFINE gives a pointer, of CACHE_DEFINE_SHARED a
 * copy. */
#define POINTS(name, cache, key, out)                                          \
    const uint64_t *at = name##_get(cache, key);                               \
    bool there = at != NULL;                                                   \
    if (there)                                                                 \
    *(out) = *at
#define COPIES(name, cache, key, out) bool there = name##_get(cache, key, out)

#define STORE(name)                                                            \
    static void name##_store(void *cache, const uint64_t *keys, size_t n)      \
    {                                                                          \
        size_t i;                                                              \
                                                                               \
        for (i = 0; i < n; i++)                                                \
            if (name##_put((struct name *)cache, keys[i],                      \
                           value_of(keys[i])) != 0)                            \
                must_be(false, #name ": a put was refused");                   \
    }                                                                          \
    static void name##_close_it(void *cache)                                   \
    {                                                                          \
        must_be(name##_check((struct name *)cache) == NULL, #name);            \
        name##_destroy((struct name *)cache);                                  \
        free(cache);                                                           \
    }                                                                          \
    struct cache__swallow_semicolon

/* A loop that looks: FIND sets `there`, and fills in `value`. */
#define LOOK(function, name, FIND, MISS)                                       \
    static size_t function(void *at_, const uint64_t *keys, size_t n)          \
    {                                                                          \
        struct name *cache = (struct name *)at_;                               \
        size_t hits = 0, i;                                                    \
        uint64_t wrong = 0;                                                    \
                                                                               \
        for (i = 0; i < n; i++) {                                              \
            uint64_t value = 0;                                                \
            FIND;                                                              \
            if (there)                                                         \
                wrong |= value ^ value_of(keys[i]);                            \
            else                                                               \
                MISS;                                                          \
            hits += there;                                                     \
        }                                                                      \
        must_be(wrong == 0, #name ": a value is not the one of its key");      \
        return hits;                                                           \
    }                                                                          \
    struct cache__swallow_semicolon

#define PLAIN(name, DEFINE, GET, options)                                      \
    DEFINE(name, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,          \
           (options) | CACHE_EXPIRY);                                          \
    static void *name##_open(size_t entries)                                   \
    {                                                                          \
        struct cache_config config = { .capacity = entries,                    \
                                       .ttl_ms = TTL_MS };                     \
        void *cache = must(calloc(1, sizeof(struct name)));                    \
                                                                               \
        if (name##_init((struct name *)cache, &config) != 0)                   \
            must(NULL);                                                        \
        return cache;                                                          \
    }                                                                          \
    STORE(name);                                                               \
    LOOK(name##_look, name, GET(name, cache, keys[i], &value),                 \
         (void)name##_put(cache, keys[i], value_of(keys[i])));                 \
    static const struct way name##_by_get = { name##_open, name##_close_it,    \
                                              name##_store, name##_look }

#define LOADING(name, DEFINE, options)                                         \
    DEFINE(name, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,          \
           options);                                                           \
    static void *name##_open(size_t entries)                                   \
    {                                                                          \
        struct cache_loading_config config = {                                 \
            .cache = { .capacity = entries },                                  \
            .freshness = { .ttl_ms = TTL_MS }                                  \
        };                                                                     \
        void *cache = must(calloc(1, sizeof(struct name)));                    \
                                                                               \
        if (name##_init((struct name *)cache, &config) != 0)                   \
            must(NULL);                                                        \
        return cache;                                                          \
    }                                                                          \
    STORE(name);                                                               \
    LOOK(name##_claims, name, struct cache_claim claim;                        \
         bool there =                                                          \
             name##_claim(cache, keys[i], &value, &claim) == CACHE_CLAIM_HIT,  \
         (void)name##_commit(cache, &claim, value_of(keys[i])));               \
    LOOK(name##_gets, name,                                                    \
         bool there = name##_get(cache, keys[i], &value) == CACHE_FOUND,       \
         (void)name##_put(cache, keys[i], value_of(keys[i])));                 \
    LOOK(name##_loads, name,                                                   \
         bool there =                                                          \
             name##_load(cache, keys[i], &value, make, NULL) == CACHE_FOUND,   \
         must_be(false, "a load has failed"));                                 \
    static const struct way name##_by_claim = { name##_open, name##_close_it,  \
                                                name##_store, name##_claims }; \
    static const struct way name##_by_get = { name##_open, name##_close_it,    \
                                              name##_store, name##_gets };     \
    CACHE_UNUSED static const struct way name##_by_load = {                    \
        name##_open, name##_close_it, name##_store, name##_loads               \
    }

PLAIN(sieve, CACHE_DEFINE, POINTS, CACHE_SIEVE);
PLAIN(adaptive, CACHE_DEFINE, POINTS, CACHE_ADAPTIVE);
PLAIN(shared_sieve, CACHE_DEFINE_SHARED, COPIES,
      CACHE_SIEVE | CACHE_PLAIN_DATA);
PLAIN(shared_adaptive, CACHE_DEFINE_SHARED, COPIES,
      CACHE_ADAPTIVE | CACHE_PLAIN_DATA);
LOADING(sieve_pages, CACHE_DEFINE_LOADING, CACHE_SIEVE);
LOADING(adaptive_pages, CACHE_DEFINE_LOADING, CACHE_ADAPTIVE);
LOADING(shared_sieve_pages, CACHE_DEFINE_LOADING_SHARED,
        CACHE_SIEVE | CACHE_PLAIN_DATA);
LOADING(shared_adaptive_pages, CACHE_DEFINE_LOADING_SHARED,
        CACHE_ADAPTIVE | CACHE_PLAIN_DATA);

/* --- side by side --------------------------------------------------------- */

enum { PLAIN_GET, AGAIN, CLAIM, GET, LOAD, MAX_SIDES };

static void tell(const char *what, const char *policy, size_t entries,
                 double value, const char *unit, const char *wanted)
{
    char figure[96];

    snprintf(figure, sizeof figure, "%s, %s, %zu", what, policy, entries);
    report(figure, value, unit, wanted);
}

static void compare_hits(const char *policy, size_t entries, bool shared,
                         const struct way *plain, const struct way *by_claim,
                         const struct way *by_get)
{
    /* Shards do not fill evenly. */
    size_t residents = shared ? entries - entries / 5 : entries, i;
    struct stream stream = { .range = RESIDENT, .n_ids = residents };
    struct side sides[4];

    open_side(&sides[PLAIN_GET], plain, entries);
    open_side(&sides[AGAIN], plain, entries);
    open_side(&sides[CLAIM], by_claim, entries);
    for (i = 0; i < 3; i++)
        settle(&sides[i], entries, residents);
    sides[GET] = sides[CLAIM]; /* the same cache, looked at otherwise */
    sides[GET].subject = by_get;
    run_rounds(sides, 4, &stream);
    for (i = 0; i < 4; i++)
        must_be(sides[i].hits > n_ops * n_rounds / 100 * 98,
                "resident keys were not found");
    tell("hit: plain get", policy, entries, middle(&sides[PLAIN_GET]), "ns",
         "-");
    tell("hit: claim", policy, entries, middle(&sides[CLAIM]), "ns", "-");
    tell("hit: get", policy, entries, middle(&sides[GET]), "ns", "-");
    tell("hit: plain again / plain", policy, entries,
         ratio(&sides[AGAIN], &sides[PLAIN_GET]), "x", "-");
    tell("hit: claim / plain get", policy, entries,
         ratio(&sides[CLAIM], &sides[PLAIN_GET]), "x", "<= 1.3");
    tell("hit: get / plain get", policy, entries,
         ratio(&sides[GET], &sides[PLAIN_GET]), "x", "<= 1.3");
    for (i = 0; i < 3; i++)
        sides[i].subject->close(sides[i].cache);
}

static void compare_all_hits(size_t entries)
{
    compare_hits("sieve", entries, false, &sieve_by_get, &sieve_pages_by_claim,
                 &sieve_pages_by_get);
    compare_hits("adaptive", entries, false, &adaptive_by_get,
                 &adaptive_pages_by_claim, &adaptive_pages_by_get);
    compare_hits("shared sieve", entries, true, &shared_sieve_by_get,
                 &shared_sieve_pages_by_claim, &shared_sieve_pages_by_get);
    compare_hits("shared adaptive", entries, true, &shared_adaptive_by_get,
                 &shared_adaptive_pages_by_claim,
                 &shared_adaptive_pages_by_get);
}

static void compare_misses(size_t entries)
{
    struct stream fresh = { .range = FRESH };
    struct side sides[MAX_SIDES];
    size_t i;

    open_side(&sides[PLAIN_GET], &sieve_by_get, entries);
    open_side(&sides[AGAIN], &sieve_by_get, entries);
    open_side(&sides[CLAIM], &sieve_pages_by_claim, entries);
    open_side(&sides[GET], &sieve_pages_by_get, entries);
    open_side(&sides[LOAD], &sieve_pages_by_load, entries);
    for (i = 0; i < MAX_SIDES; i++)
        settle(&sides[i], entries, entries);
    fresh.next = 3 * entries + n_ops;
    run_rounds(sides, MAX_SIDES, &fresh);
    tell("miss: plain get and put", "sieve", entries, middle(&sides[PLAIN_GET]),
         "ns", "-");
    tell("miss: claim and commit", "sieve", entries, middle(&sides[CLAIM]),
         "ns", "-");
    tell("miss: get and put", "sieve", entries, middle(&sides[GET]), "ns", "-");
    tell("miss: load", "sieve", entries, middle(&sides[LOAD]), "ns", "-");
    tell("miss: plain again / plain", "sieve", entries,
         ratio(&sides[AGAIN], &sides[PLAIN_GET]), "x", "-");
    tell("miss: load / plain get and put", "sieve", entries,
         ratio(&sides[LOAD], &sides[PLAIN_GET]), "x", "-");
    for (i = 0; i < MAX_SIDES; i++)
        sides[i].subject->close(sides[i].cache);
}

/* --- invalidation --------------------------------------------------------- */

#define TICK_ITEMS 1000u

struct reclaimed {
    double call_us[MAX_ROUNDS], tick_us[MAX_ROUNDS], most_us[MAX_ROUNDS];
};

/* One run: fill, invalidate, tick until nothing is left. */
#define RECLAIM(name)                                                          \
    static void name##_reclaim(size_t entries, unsigned round,                 \
                               struct reclaimed *out)                          \
    {                                                                          \
        struct name *cache = (struct name *)name##_open(entries);              \
        struct stream stream = { .range = RESIDENT };                          \
        double *us = (double *)must(calloc(entries, sizeof *us));              \
        size_t n = 0;                                                          \
        uint64_t start;                                                        \
        uint32_t left;                                                         \
                                                                               \
        for (n = 0; n < 2 * entries; n += n_ops) {                             \
            stream_fill(&stream, the_keys, n_ops);                             \
            name##_store(cache, the_keys, n_ops);                              \
        }                                                                      \
        start = clock_ns(CLOCK_MONOTONIC);                                     \
        name##_invalidate(cache, CACHE_INVALIDATE_HARD);                       \
        out->call_us[round] =                                                  \
            (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1000;                \
        n = 0;                                                                 \
        do {                                                                   \
            start = clock_ns(CLOCK_THREAD_CPUTIME_ID);                         \
            left = name##_tick(cache, TICK_ITEMS);                             \
            us[n++] =                                                          \
                (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1000;    \
        } while (left > 0 && n < entries);                                     \
        must_be(name##_len(cache) == 0, #name ": not all was reclaimed");      \
        out->tick_us[round] = median(us, n);                                   \
        out->most_us[round] = us[n - 1]; /* median sorts */                    \
        free(us);                                                              \
        name##_close_it(cache);                                                \
    }                                                                          \
    struct cache__swallow_semicolon
RECLAIM(sieve_pages);
RECLAIM(shared_sieve_pages);

static void invalidate(const char *policy, size_t entries,
                       void (*run)(size_t, unsigned, struct reclaimed *))
{
    struct reclaimed r;
    unsigned round;

    for (round = 0; round < n_rounds; round++)
        run(entries, round, &r);
    tell("invalidate: the call", policy, entries, median(r.call_us, n_rounds),
         "us", "< 2");
    tell("invalidate: longest call", policy, entries, r.call_us[n_rounds - 1],
         "us", "-");
    tell("tick of 1000: median", policy, entries, median(r.tick_us, n_rounds),
         "us", "-");
    tell("tick of 1000: longest of a run, median", policy, entries,
         median(r.most_us, n_rounds), "us", "<= 200");
    tell("tick of 1000: longest of all runs", policy, entries,
         r.most_us[n_rounds - 1], "us", "<= 200");
}

/* --- one load for all ----------------------------------------------------- */

#define CALLERS 100
#define THREADS 8

static void count_claims(void)
{
    struct sieve_pages *cache = (struct sieve_pages *)sieve_pages_open(1000);
    struct cache_claim claims[CALLERS];
    uint64_t value;
    unsigned n = 0, i;

    for (i = 0; i < CALLERS; i++)
        if (sieve_pages_claim(cache, 7, &value, &claims[n]) ==
            CACHE_CLAIM_MISS_YOU_LOAD)
            n++;
    for (i = 0; i < n; i++)
        (void)sieve_pages_commit(cache, &claims[i], 8);
    for (i = 0; i < CALLERS; i++)
        n += sieve_pages_claim(cache, 7, &value, &claims[0]) != CACHE_CLAIM_HIT;
    report("100 callers claim one key: loads", n, "", "= 1");
    must_be(n == 1, "more than one had the claim");
    sieve_pages_close_it(cache);
}

static struct shared_sieve_pages *crowded;
static uint32_t n_loads, n_ready;

static int load_slowly(const uint64_t *key, uint64_t *value,
                       struct cache_loaded *loaded, void *user)
{
    struct timespec time = { 0, 20000000 };

    CACHE_ATOMIC_ADD(&n_loads, 1u);
    (void)nanosleep(&time, NULL);
    return make(key, value, loaded, user);
}

static void *load_one(void *user)
{
    uint64_t value = 0;

    CACHE_ATOMIC_ADD(&n_ready, 1u);
    while (CACHE_ATOMIC_LOAD(&n_ready) < THREADS)
        sched_yield();
    *(bool *)user = shared_sieve_pages_load(crowded, 7, &value, load_slowly,
                                            NULL) == CACHE_FOUND &&
                    value == value_of(7);
    return NULL;
}

static void count_loads(void)
{
    pthread_t threads[THREADS];
    bool right[THREADS];
    unsigned i;

    crowded = (struct shared_sieve_pages *)shared_sieve_pages_open(1000);
    for (i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, load_one, &right[i]) != 0)
            must(NULL);
    for (i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        must_be(right[i], "a thread has not got the value");
    }
    report("8 threads load one key: loads", n_loads, "", "= 1");
    must_be(n_loads == 1, "more than one has loaded");
    shared_sieve_pages_close_it(crowded);
}

static bool wanted(const char *part)
{
    return strstr(part, only) != NULL;
}

int main(int argc, char **argv)
{
    size_t i;
    int arg;

    for (arg = 1; arg < argc; arg++)
        if (strcmp(argv[arg], "--quick") == 0) {
            n_ops = 20000;
            n_rounds = 3;
            sizes[0] = 1000;
            sizes[1] = 10000;
        } else if (strncmp(argv[arg], "--only=", 7) == 0) {
            only = argv[arg] + 7;
        } else if (strncmp(argv[arg], "--tsv=", 6) == 0) {
            tsv = (FILE *)must(fopen(argv[arg] + 6, "w"));
        } else {
            fputs("usage: bench-loading [--quick] [--only=TEXT] [--tsv=FILE]\n",
                  stderr);
            return 2;
        }
    if (tsv != NULL)
        fprintf(tsv, "figure\tvalue\tunit\twanted\n");
    the_keys = (uint64_t *)must(calloc(n_ops, sizeof *the_keys));
    if (wanted("claims")) {
        count_claims();
        count_loads();
    }
    for (i = 0; i < 2; i++) {
        if (wanted("hit"))
            compare_all_hits(sizes[i]);
        if (wanted("miss"))
            compare_misses(sizes[i]);
    }
    if (wanted("invalidate")) {
        invalidate("sieve", sizes[1], sieve_pages_reclaim);
        invalidate("shared sieve", sizes[1], shared_sieve_pages_reclaim);
    }
    free(the_keys);
    if (tsv != NULL)
        fclose(tsv);
    return failed;
}
