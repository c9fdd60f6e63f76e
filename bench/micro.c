/*
 * micro.c - what one operation costs: our caches against uthash.
 *
 * Caches for uint64_t -> uint64_t stand side by side in one process: ours, and
 * the LRU that a C programmer makes of uthash and utlist, one malloc per entry.
 * In each round all run each workload on the same keys; their order rotates.
 * The result is the median of the rounds, in CPU time of the thread.
 *
 *   get_or_insert  Zipf 0.99 over twice as many keys as there are entries
 *   churn          each put is of a new key and evicts
 *   hit            uniform over the resident keys, the same for everybody
 *   miss           keys that are nowhere
 *
 * Each cache evicts twice its capacity before anything is measured, and goes on
 * with get_or_insert for four capacities before that is.  Operations
 * are independent, so the processor overlaps them: this is throughput.
 *
 *   gcc -O2 -std=gnu11 -I. bench/micro.c -o build/micro -lm
 *   build/micro [--quick] [--tsv=FILE]
 *
 * Exit code 1: a value was not the one of its key, or the bytes are not what
 * name_memory() says.  No time is ever a reason to fail.
 *
 * SPDX-License-Identifier: MIT
 */
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache.h"

#pragma GCC diagnostic ignored "-Wconversion" /* uthash is not written for it */
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <uthash.h>
#include <utlist.h>
#pragma GCC diagnostic warning "-Wconversion"
#pragma GCC diagnostic warning "-Wsign-conversion"

#define PAYLOAD (2 * sizeof(uint64_t)) /* bytes of a key and its value */
#define MAX_ROUNDS 9

static struct {
    size_t entries[4]; /* ascending; 0 = not in use */
    size_t n_ops;      /* operations of a timed run */
    size_t n_ageing;   /* evictions of the ageing run */
    unsigned n_rounds;
    FILE *tsv;
    bool failed;
} run = { { 400, 10000, 50000, 1000000 }, 1000000, 10000000, 5, NULL, false };

static void fail(const char *subject, const char *what)
{
    fprintf(stderr, "micro: FAILED: %s: %s\n", subject, what);
    run.failed = true;
}

static void *must(void *pointer)
{
    if (pointer == NULL) {
        perror("micro");
        exit(2);
    }
    return pointer;
}

static double cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return values[n / 2];
}

/* --- keys ---------------------------------------------------------------- */

enum range { ZIPF, RESIDENT, ABSENT, FRESH };

/* The finaliser of splitmix64: a permutation, so ids of different ranges or
 * numbers are different keys, and the keys have no pattern. */
static uint64_t key_of(enum range range, uint64_t id)
{
    uint64_t x = ((uint64_t)range << 40) + id + 1;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t value_of(uint64_t key)
{
    return key * 5 + 1;
}

/* The integral of x^-0.99; its inverse is (area / 100)^100. */
static double zipf_area(double x)
{
    return pow(x, 0.01) * 100;
}

/* Zipf 0.99 over 1 to n: W. Hoermann, G. Derflinger: "Rejection-Inversion to
 * Generate Variates from Monotone Discrete Distributions", 1996. */
static uint64_t zipf_next(size_t n)
{
    double low = zipf_area(1.5) - 1, high = zipf_area((double)n + 0.5);
    double area, k;

    do {
        area = low + drand48() * (high - low);
        k = floor(pow(area / 100, 100) + 0.5);
    } while (area < zipf_area(k + 0.5) - pow(k, -0.99));
    return (uint64_t)k;
}

/* --- uthash, as a competent user writes an LRU cache with it ------------- */

struct ut_entry {
    uint64_t key, value;
    struct ut_entry *prev, *next; /* the least recently used is first */
    UT_hash_handle hh;
};

struct ut {
    struct ut_entry *table, *list;
    size_t capacity, heap_before;
};

static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static int ut_init(struct ut *c, const struct cache_config *config)
{
    *c = (struct ut) { NULL, NULL, config->capacity, heap_in_use() };
    return 0;
}

/* Right as long as nobody else allocates. */
static struct cache_memory ut_memory(const struct ut *c)
{
    size_t total = heap_in_use() - c->heap_before;

    return (struct cache_memory) { total, total - c->capacity * PAYLOAD, 0, 0 };
}

#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
static void ut_evict(struct ut *c)
{
    struct ut_entry *oldest = c->list;

    DL_DELETE(c->list, oldest);
    HASH_DELETE(hh, c->table, oldest);
    free(oldest);
}

static inline struct ut_entry *ut_find(struct ut *c, uint64_t key,
                                       unsigned *hash)
{
    struct ut_entry *e;

    HASH_VALUE(&key, sizeof key, *hash);
    HASH_FIND_BYHASHVALUE(hh, c->table, &key, sizeof key, *hash, e);
    if (e != NULL && e->next != NULL) { /* not the latest already */
        DL_DELETE(c->list, e);
        DL_APPEND(c->list, e);
    }
    return e;
}

/* One hash for look-up and insertion. */
static inline uint64_t *ut_get_or_insert(struct ut *c, uint64_t key,
                                         uint64_t initial, bool *inserted)
{
    unsigned hash;
    struct ut_entry *e = ut_find(c, key, &hash);

    *inserted = e == NULL;
    if (e == NULL) {
        if (HASH_COUNT(c->table) >= c->capacity)
            ut_evict(c);
        e = must(malloc(sizeof *e));
        e->key = key;
        e->value = initial;
        HASH_ADD_BYHASHVALUE(hh, c->table, key, sizeof key, hash, e);
        DL_APPEND(c->list, e);
    }
    return &e->value;
}
#pragma GCC diagnostic warning "-Wconversion"
#pragma GCC diagnostic warning "-Wsign-conversion"

static inline const uint64_t *ut_get(struct ut *c, uint64_t key)
{
    unsigned hash;
    struct ut_entry *e = ut_find(c, key, &hash);

    return e ? &e->value : NULL;
}

static inline int ut_put(struct ut *c, uint64_t key, uint64_t value)
{
    bool inserted;

    *ut_get_or_insert(c, key, value, &inserted) = value;
    return 0;
}

static void ut_destroy(struct ut *c)
{
    while (c->list != NULL)
        ut_evict(c); /* the last one takes the table with it */
}

/* --- subjects and workloads ---------------------------------------------- */

CACHE_DEFINE(adaptive, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_ADAPTIVE);
CACHE_DEFINE(clock_, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_CLOCK);
CACHE_DEFINE(lru, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_LRU);
CACHE_DEFINE(sieve, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE);
CACHE_DEFINE(fifo, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_FIFO);

enum workload { GET_OR_INSERT, CHURN, HIT, MISS, N_WORKLOADS };

static const char *const workload_names[N_WORKLOADS] = { "get_or_insert",
                                                         "churn", "hit",
                                                         "miss" };
union any_cache {
    struct ut ut;
    struct lru lru;
    struct sieve sieve;
    struct fifo fifo;
    struct clock_ clock_;
    struct adaptive adaptive;
};

struct outcome {
    size_t hits, wrong;
};

/* One kind of cache, and the results of the one that is measured. */
struct subject {
    const char *name;
    /* init, or destroy if the config is NULL */
    int (*life)(union any_cache *c, const struct cache_config *config);
    struct cache_memory (*memory)(const union any_cache *c);
    struct outcome (*work)(union any_cache *c, enum workload w,
                           const uint64_t *keys, size_t n);
    bool ours;
    union any_cache c;
    double ns[N_WORKLOADS][MAX_ROUNDS];
    size_t hits;                /* of get_or_insert, all rounds */
    double overhead;            /* bytes per entry, neither key nor value */
    size_t allocated, n_allocs; /* what config.alloc was asked for */
};

/* The same loops around each kind, compiled for it. */
#define SUBJECT(kind)                                                          \
    static struct cache_memory kind##_memory_of(const union any_cache *c)      \
    {                                                                          \
        return kind##_memory(&c->kind);                                        \
    }                                                                          \
    static int kind##_life(union any_cache *c, const struct cache_config *f)   \
    {                                                                          \
        if (f != NULL)                                                         \
            return kind##_init(&c->kind, f);                                   \
        kind##_destroy(&c->kind);                                              \
        return 0;                                                              \
    }                                                                          \
    static struct outcome kind##_work(union any_cache *any, enum workload w,   \
                                      const uint64_t *keys, size_t n)          \
    {                                                                          \
        struct kind *c = &any->kind;                                           \
        struct outcome o = { 0, 0 };                                           \
        bool inserted = false;                                                 \
        for (size_t i = 0; w == GET_OR_INSERT && i < n; i++) {                 \
            uint64_t value = value_of(keys[i]);                                \
            o.wrong +=                                                         \
                *kind##_get_or_insert(c, keys[i], value, &inserted) != value;  \
            o.hits += !inserted;                                               \
        }                                                                      \
        for (size_t i = 0; w == CHURN && i < n; i++)                           \
            o.wrong += kind##_put(c, keys[i], value_of(keys[i])) != 0;         \
        for (size_t i = 0; w >= HIT && i < n; i++) {                           \
            const uint64_t *value = kind##_get(c, keys[i]);                    \
            o.wrong += value != NULL && *value != value_of(keys[i]);           \
            o.hits += value != NULL;                                           \
        }                                                                      \
        return o;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon
SUBJECT(ut);
SUBJECT(lru);
SUBJECT(sieve);
SUBJECT(fifo);
SUBJECT(clock_);
SUBJECT(adaptive);

/* The first is what the others are compared with. */
static struct subject subjects[] = {
    { "uthash", ut_life, ut_memory_of, ut_work, .ours = false },
    { "lru", lru_life, lru_memory_of, lru_work, .ours = true },
    { "sieve", sieve_life, sieve_memory_of, sieve_work, .ours = true },
    { "fifo", fifo_life, fifo_memory_of, fifo_work, .ours = true },
    { "clock", clock__life, clock__memory_of, clock__work, .ours = true },
    { "adaptive", adaptive_life, adaptive_memory_of, adaptive_work,
      .ours = true },
};
#define N_SUBJECTS (sizeof subjects / sizeof *subjects)

static size_t work(struct subject *s, enum workload w, const uint64_t *keys,
                   size_t n)
{
    struct outcome o = s->work(&s->c, w, keys, n);

    if (o.wrong != 0)
        fail(s->name, "a value is not the one of its key");
    if (w == MISS && o.hits != 0)
        fail(s->name, "a key was found that was never put");
    return o.hits;
}

static void make_keys(enum workload w, size_t entries, uint64_t *keys, size_t n)
{
    static uint64_t fresh, absent;

    for (; n-- > 0; keys++)
        *keys = w == GET_OR_INSERT ? key_of(ZIPF, zipf_next(2 * entries))
                : w == CHURN       ? key_of(FRESH, fresh++)
                : w == MISS
                    ? key_of(ABSENT, absent++)
                    : key_of(RESIDENT, (uint64_t)(drand48() * (double)entries));
}

static void *count_alloc(size_t bytes, void *user)
{
    struct subject *s = (struct subject *)user;

    s->allocated += bytes;
    s->n_allocs++;
    return calloc(1, bytes);
}

static void count_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* Fills a cache, and compares name_memory() with what was allocated. */
static void begin(struct subject *s, const uint64_t *keys, size_t entries)
{
    struct cache_config config = {
        .capacity = entries, .alloc = count_alloc, .free = count_free, .user = s
    };
    struct cache_memory m;

    s->allocated = s->n_allocs = 0;
    if (s->life(&s->c, &config) != 0)
        must(NULL);
    work(s, CHURN, keys, entries);
    m = s->memory(&s->c);
    s->overhead = (double)m.bookkeeping_bytes / (double)entries;
    if (s->ours && (s->allocated != m.total_bytes || s->n_allocs != 1 ||
                    s->allocated - entries * PAYLOAD != m.bookkeeping_bytes))
        fail(s->name, "name_memory() is not what was allocated");
}

/* Goes on until the resident keys, and no others, are in the cache.  SIEVE
 * takes some passes, as its hand has to meet the entries nobody uses.  ADAPTIVE
 * may keep one of them for long: then it begins anew. */
static void settle(struct subject *s, const uint64_t *residents, size_t n)
{
    int pass;

    for (pass = 0; pass < 10; pass++) {
        if (work(s, HIT, residents, n) == n)
            return;
        work(s, GET_OR_INSERT, residents, n);
    }
    s->life(&s->c, NULL);
    begin(s, residents, n);
}

static void end(struct subject *s)
{
    s->life(&s->c, NULL);
    if (s->ours && s->n_allocs != 1)
        fail(s->name, "it allocated after init");
}

static void report(const char *workload, size_t entries, const char *subject,
                   double ns, double ratio, double hits, double overhead)
{
    printf("%-14s%9zu  %-8s%9.1f%9.2f%8.1f%%%9.2f\n", workload, entries,
           subject, ns, ratio, hits * 100, overhead);
    if (run.tsv != NULL)
        fprintf(run.tsv, "%s\t%zu\t%s\t%.2f\t%.3f\t%.5f\t%.3f\n", workload,
                entries, subject, ns, ratio, hits, overhead);
}

/* One workload of one round. */
static void measure_one(struct subject *s, enum workload w, unsigned round,
                        const uint64_t *keys)
{
    double start = cpu_ns();
    size_t hits = work(s, w, keys, run.n_ops);

    s->ns[w][round] = (cpu_ns() - start) / (double)run.n_ops;
    if (w == GET_OR_INSERT)
        s->hits += hits;
    if (w == HIT && hits != run.n_ops)
        fail(s->name, "a resident key was not found");
}

/* So much of get_or_insert, in capacities, goes before it is measured: what was
 * in the caches before, for other workloads, has to go. */
#define WARM_UP 4

static void warm_up(size_t entries, uint64_t *keys)
{
    size_t n, i;

    for (n = 0; n < WARM_UP * entries; n += run.n_ops) {
        make_keys(GET_OR_INSERT, entries, keys, run.n_ops);
        for (i = 0; i < N_SUBJECTS; i++)
            work(&subjects[i], GET_OR_INSERT, keys, run.n_ops);
    }
}

static void measure(size_t entries, uint64_t *keys, uint64_t *residents)
{
    double total = (double)run.n_ops * run.n_rounds;
    enum workload w;
    unsigned round;
    size_t i, n;

    for (i = 0; i < entries; i++)
        residents[i] = key_of(RESIDENT, i);
    for (i = 0; i < N_SUBJECTS; i++) {
        subjects[i].hits = 0;
        begin(&subjects[i], residents, entries);
    }
    for (n = 0; n < 2 * entries; n += run.n_ops) /* to the steady state */
        for (w = GET_OR_INSERT; w <= CHURN; w++) {
            make_keys(w, entries, keys, run.n_ops);
            for (i = 0; i < N_SUBJECTS; i++)
                work(&subjects[i], w, keys, run.n_ops);
        }
    for (round = 0; round < run.n_rounds; round++)
        for (w = 0; w < N_WORKLOADS; w++) {
            if (w == GET_OR_INSERT)
                warm_up(entries, keys);
            make_keys(w, entries, keys, run.n_ops);
            for (i = 0; i < N_SUBJECTS; i++) {
                struct subject *s = &subjects[(i + round) % N_SUBJECTS];

                if (w == HIT)
                    settle(s, residents, entries);
                measure_one(s, w, round, keys);
            }
        }
    for (w = 0; w < N_WORKLOADS; w++)
        for (i = 0; i < N_SUBJECTS; i++) {
            struct subject *s = &subjects[i];
            double ns = median(s->ns[w], run.n_rounds);

            report(workload_names[w], entries, s->name, ns,
                   median(subjects[0].ns[w], run.n_rounds) / ns,
                   w == GET_OR_INSERT ? (double)s->hits / total : w == HIT,
                   s->overhead);
        }
    for (i = 0; i < N_SUBJECTS; i++)
        end(&subjects[i]);
}

/* Is a cache that has evicted millions of entries as fast as a fresh one?
 * Each tenth of the run is a median of ten parts. */
static void measure_ageing(struct subject *s, size_t entries, uint64_t *keys)
{
    size_t n = run.n_ageing / 100, part;
    double ns[10], first = 0, last = 0;

    make_keys(CHURN, entries, keys, entries);
    begin(s, keys, entries);
    for (part = 0; part < 100; part++) {
        make_keys(CHURN, entries, keys, n);
        ns[part % 10] = cpu_ns();
        work(s, CHURN, keys, n);
        ns[part % 10] = (cpu_ns() - ns[part % 10]) / (double)n;
        if (part == 9)
            first = median(ns, 10);
        if (part == 99)
            last = median(ns, 10);
    }
    end(s);
    report("ageing first", entries, s->name, first, 1, 0, s->overhead);
    report("ageing last", entries, s->name, last, first / last, 0, s->overhead);
}

#ifndef BENCH_FLAGS /* for example -DBENCH_FLAGS='"-O2 -march=native"' */
#define BENCH_FLAGS "not given"
#endif

static void print_header(void)
{
    FILE *cpus = fopen("/proc/cpuinfo", "r");
    char line[256], cpu[256] = "unknown";

    while (cpus != NULL && fgets(line, sizeof line, cpus) != NULL)
        sscanf(line, "model name : %255[^\n]", cpu);
    if (cpus != NULL)
        fclose(cpus);
#ifdef __OPTIMIZE__
    printf("%s; compiler %s, flags %s\n", cpu, __VERSION__, BENCH_FLAGS);
#else
    printf("%s; NOT OPTIMISED: the times mean nothing\n", cpu);
#endif
    printf("CPU time, median of %u rounds of %zu operations; speed is relative "
           "to uthash,\nthat of ageing to the first tenth of %zu evictions\n\n",
           run.n_rounds, run.n_ops, run.n_ageing);
    printf("%-14s%9s  %-8s%9s%9s%9s%9s\n", "workload", "entries", "subject",
           "ns/op", "speed", "hits", "B/entry");
}

int main(int argc, char **argv)
{
    uint64_t *keys, *residents;
    size_t most = 0, s;
    int i;

    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            run.entries[1] = 1000;
            run.entries[2] = 50000;
            run.entries[3] = 0;
            run.n_ops = run.n_ageing = 100000;
            run.n_rounds = 3;
        } else if (strncmp(argv[i], "--tsv=", 6) == 0) {
            run.tsv = (FILE *)must(fopen(argv[i] + 6, "w"));
        } else {
            fputs("usage: micro [--quick] [--tsv=FILE]\n", stderr);
            return 2;
        }
    }
    keys = (uint64_t *)must(calloc(run.n_ops, sizeof *keys));
    for (i = 0; i < 4 && run.entries[i] != 0; i++)
        most = run.entries[i];
    residents = (uint64_t *)must(calloc(most, sizeof *residents));
    if (run.tsv != NULL)
        fputs("workload\tentries\tsubject\tns\tspeed\thits\toverhead_bytes\n",
              run.tsv);
    print_header();
    for (i = 0; i < 4 && run.entries[i] != 0; i++)
        measure(run.entries[i], keys, residents);
    for (s = 1; s < N_SUBJECTS; s++)
        measure_ageing(&subjects[s], most, keys);
    free(keys);
    free(residents);
    if (run.tsv != NULL && fclose(run.tsv) != 0)
        fail("--tsv", "the file could not be written");
    return run.failed;
}
