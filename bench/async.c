/*
 * async.c - what the loop half of a loading cache costs: hits, loads, those who
 * wait for one, write-behind to SQLite, expiry, memory.
 *
 *   build/bench-async [--quick] [--only=hit|pending|joined|behind|expiry|memory
 *                     |sqlite] [--tsv=FILE] [--dir=DIRECTORY]
 *
 * A line for each figure: what, value, unit, what is asked of it and what is
 * aimed at ("-": it is there to compare with), and whether that was reached; at
 * the end those that something is asked of once more.  Times of calls are
 * medians of rounds of a million operations, CPU time of the thread, which has
 * the system's part in it; those that are compared stand side by side in one
 * process on the same keys, and take turns.  SQLite's file is in DIRECTORY,
 * default build: there it is time of day that counts.
 *
 * Exit code 1: a number or a value was wrong.  No time is ever a reason to fail.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* getpid, unlink */

#include <unistd.h>

#include "cache_async.h"
#include "codecs/cache_raw.h"
#include "sides.h"
#include "stores/cache_sqlite.h"

#define TTL_MS 3600000u /* nothing ends, but everything has an end */

struct wide { /* a value of 64 bytes */
    uint64_t words[8];
};

static size_t sizes[] = { 10000, 1000000 };
static const char *only = "", *directory = "build";
static uv_loop_t the_loop;

/* --- report --------------------------------------------------------------- */

static struct line {
    char figure[96];
    double value;
    const char *unit, *asked, *aim;
} lines[40]; /* those that something is asked of */
static size_t n_lines;

static void tell(const struct line *line)
{
    printf("%-52s %9.2f %-6s %-8s %-3s %-8s %s\n", line->figure, line->value,
           line->unit, line->asked, verdict(line->value, line->asked),
           line->aim, verdict(line->value, line->aim));
    fflush(stdout);
}

static void report(const char *figure, double value, const char *unit,
                   const char *asked, const char *aim)
{
    struct line line = { "", value, unit, asked, aim };

    snprintf(line.figure, sizeof line.figure, "%s", figure);
    tell(&line);
    if (tsv != NULL)
        fprintf(tsv, "%s\t%.2f\t%s\t%s\t%s\n", figure, value, unit, asked, aim);
    if (asked[0] != '-' && n_lines < sizeof lines / sizeof *lines)
        lines[n_lines++] = line;
}

static void report_of(const char *what, const char *value, size_t entries,
                      double number, const char *unit, const char *asked,
                      const char *aim)
{
    char figure[96];

    snprintf(figure, sizeof figure, "%s, %s, %zu", what, value, entries);
    report(figure, number, unit, asked, aim);
}

/* --- values --------------------------------------------------------------- */

static void narrow_fill(uint64_t *value, uint64_t key)
{
    *value = key * 5 + 1;
}

/* 0 if the value is that of the key. */
static uint64_t narrow_drift(const uint64_t *value, uint64_t key)
{
    return *value ^ (key * 5 + 1);
}

static void wide_fill(struct wide *value, uint64_t key)
{
    memset(value, 0, sizeof *value);
    value->words[0] = value->words[7] = key * 5 + 1;
}

static uint64_t wide_drift(const struct wide *value, uint64_t key)
{
    return (value->words[0] ^ (key * 5 + 1)) |
           (value->words[7] ^ (key * 5 + 1));
}

/* What is timed has the look-up in its own code, as it would have if it were
 * the only one in the program. */
#define FLAT __attribute__((flatten))

/* --- plain caches --------------------------------------------------------- */

/* Their clock is one that somebody else keeps, as that of a loading cache on a
 * loop is. */
static uint64_t plain_now_ms = 1000;

#define PLAIN(name, V, kind, options)                                          \
    CACHE_DEFINE(name, uint64_t, V, cache_hash_u64, cache_equal_u64, options); \
    static void *name##_open(size_t entries)                                   \
    {                                                                          \
        bool expires = ((options)&CACHE_EXPIRY) != 0;                          \
        struct cache_config config = { .capacity = entries,                    \
                                       .now_ms = &plain_now_ms,                \
                                       .ttl_ms = expires ? TTL_MS : 0 };       \
        struct name *cache = (struct name *)must(calloc(1, sizeof *cache));    \
                                                                               \
        if (name##_init(cache, &config) != 0)                                  \
            must(NULL);                                                        \
        return cache;                                                          \
    }                                                                          \
    static void name##_shut(void *cache)                                       \
    {                                                                          \
        must_be(name##_check((struct name *)cache) == NULL, #name);            \
        name##_destroy((struct name *)cache);                                  \
        free(cache);                                                           \
    }                                                                          \
    static void name##_store(void *cache, const uint64_t *keys, size_t n)      \
    {                                                                          \
        size_t i;                                                              \
        V value;                                                               \
                                                                               \
        for (i = 0; i < n; i++) {                                              \
            kind##_fill(&value, keys[i]);                                      \
            if (name##_put((struct name *)cache, keys[i], value) != 0)         \
                must_be(false, #name ": a put was refused");                   \
        }                                                                      \
    }                                                                          \
    FLAT static size_t name##_gets(void *cache, const uint64_t *keys,          \
                                   size_t n)                                   \
    {                                                                          \
        size_t hits = 0, i;                                                    \
        uint64_t wrong = 0;                                                    \
        V value;                                                               \
                                                                               \
        for (i = 0; i < n; i++) {                                              \
            const V *at = name##_get((struct name *)cache, keys[i]);           \
                                                                               \
            if (at != NULL) {                                                  \
                wrong |= kind##_drift(at, keys[i]);                            \
                hits++;                                                        \
            } else {                                                           \
                kind##_fill(&value, keys[i]);                                  \
                (void)name##_put((struct name *)cache, keys[i], value);        \
            }                                                                  \
        }                                                                      \
        must_be(wrong == 0, #name ": a value is not the one of its key");      \
        return hits;                                                           \
    }                                                                          \
    static const struct way name##_by_get = { name##_open, name##_shut,        \
                                              name##_store, name##_gets }

/* --- loading caches on the loop ------------------------------------------- */

#define WINDOW 64u  /* fetches in flight */
#define CROWD 1000u /* fetches of one key */
#define MANY 10000u /* the same, to count what comes of them */

/* Fetches of many keys, WINDOW of them in flight: each callback begins the next
 * one.  One for all types, as one runs at a time. */
static struct flow {
    const uint64_t *keys;
    size_t n, next, n_done, hits;
    uint64_t wrong;
    const struct cache_fetch_options *options; /* NULL = the default */
    struct cache_histogram *waits;             /* or NULL */
} flow;

static size_t n_loads, n_batches; /* that loaders were asked for */

static void run_loop(void)
{
    must_be(uv_run(&the_loop, UV_RUN_DEFAULT) == 0, "the loop does not end");
}

#define LOADING(name, V, kind, policy)                                         \
    CACHE_DEFINE_LOADING(name, uint64_t, V, cache_hash_u64, cache_equal_u64,   \
                         policy);                                              \
    CACHE_ASYNC_DEFINE(name);                                                  \
    struct name##_seat { /* of a fetch in flight */                            \
        struct name##_request request;                                         \
        V value;                                                               \
        uint64_t key, since_ns;                                                \
    };                                                                         \
    struct name##_box {                                                        \
        struct name cache;                                                     \
        struct name##_async async;                                             \
        struct name##_seat seats[MANY];                                        \
    };                                                                         \
    static void name##_load_all(struct name##_async *async,                    \
                                struct name##_batch *batch)                    \
    {                                                                          \
        size_t i, n = batch->n; /* the last ends the batch */                  \
        V value;                                                               \
                                                                               \
        (void)async;                                                           \
        n_loads += n;                                                          \
        n_batches++;                                                           \
        for (i = 0; i < n; i++) {                                              \
            kind##_fill(&value, batch->keys[i]);                               \
            name##_loaded(batch, i, value);                                    \
        }                                                                      \
    }                                                                          \
    /* Without a loader: what loads is the store of the cache. */              \
    static struct name##_box *name##_make(                                     \
        const struct cache_loading_config *config,                             \
        const struct cache_async_config *async,                                \
        const struct name##_loader *loader)                                    \
    {                                                                          \
        struct name##_box *box =                                               \
            (struct name##_box *)must(calloc(1, sizeof *box));                 \
                                                                               \
        if (name##_init(&box->cache, config) != 0 ||                           \
            name##_async_init(&box->async, &the_loop, &box->cache, async,      \
                              loader) != 0)                                    \
            must(NULL);                                                        \
        box->async.base.data = box;                                            \
        return box;                                                            \
    }                                                                          \
    static void name##_closed(struct cache_async *async, uint64_t n_lost)      \
    {                                                                          \
        (void)async;                                                           \
        must_be(n_lost == 0, #name ": writes were lost");                      \
    }                                                                          \
    static void name##_shut(void *at)                                          \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
                                                                               \
        (void)cache_async_close(&box->async.base, name##_closed);              \
        run_loop();                                                            \
        must_be(name##_check(&box->cache) == NULL, #name);                     \
        name##_destroy(&box->cache);                                           \
        free(box);                                                             \
    }                                                                          \
    static void *name##_open(size_t entries)                                   \
    {                                                                          \
        struct cache_loading_config config = {                                 \
            .cache = { .capacity = entries },                                  \
            .freshness = { .ttl_ms = TTL_MS }                                  \
        };                                                                     \
        struct name##_loader loader = { .load_batch = name##_load_all };       \
                                                                               \
        return name##_make(&config, NULL, &loader);                            \
    }                                                                          \
    static void name##_store(void *at, const uint64_t *keys, size_t n)         \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
        size_t i;                                                              \
        V value;                                                               \
                                                                               \
        for (i = 0; i < n; i++) {                                              \
            kind##_fill(&value, keys[i]);                                      \
            if (name##_async_put(&box->async, keys[i], value) != 0)            \
                must_be(false, #name ": a put was refused");                   \
        }                                                                      \
    }                                                                          \
    FLAT static size_t name##_gets(void *at, const uint64_t *keys, size_t n)   \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
        size_t hits = 0, i;                                                    \
        uint64_t wrong = 0;                                                    \
        V *value = &box->seats[0].value; /* where fetch has it, too */         \
                                                                               \
        for (i = 0; i < n; i++)                                                \
            if (name##_get(&box->cache, keys[i], value) == CACHE_FOUND) {      \
                wrong |= kind##_drift(value, keys[i]);                         \
                hits++;                                                        \
            } else {                                                           \
                name##_store(at, &keys[i], 1);                                 \
            }                                                                  \
        must_be(wrong == 0, #name ": a value is not the one of its key");      \
        return hits;                                                           \
    }                                                                          \
    static void name##_arrived(struct name##_request *request, int status)     \
    {                                                                          \
        (void)request;                                                         \
        must_be(status == CACHE_FOUND, #name ": a load has failed");           \
    }                                                                          \
    FLAT static size_t name##_fetches(void *at, const uint64_t *keys,          \
                                      size_t n)                                \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
        struct name##_seat *seat = &box->seats[0];                             \
        size_t hits = 0, i;                                                    \
        uint64_t wrong = 0;                                                    \
                                                                               \
        for (i = 0; i < n; i++) {                                              \
            int rc = name##_fetch(&box->async, &seat->request, keys[i],        \
                                  &seat->value, name##_arrived);               \
                                                                               \
            hits += rc == 1;                                                   \
            if (rc == 0)                                                       \
                run_loop();                                                    \
            wrong |= kind##_drift(&seat->value, keys[i]);                      \
        }                                                                      \
        must_be(wrong == 0, #name ": a value is not the one of its key");      \
        return hits;                                                           \
    }                                                                          \
    static void name##_next(struct name##_box *box, struct name##_seat *seat); \
    static void name##_flowed(struct name##_request *request, int status)      \
    {                                                                          \
        struct name##_seat *seat = (struct name##_seat *)(void *)request;      \
                                                                               \
        must_be(status >= 0, #name ": a load has failed");                     \
        flow.wrong |= kind##_drift(&seat->value, seat->key);                   \
        flow.n_done++;                                                         \
        if (flow.waits != NULL)                                                \
            cache_histogram_add(flow.waits,                                    \
                                clock_ns(CLOCK_MONOTONIC) - seat->since_ns);   \
        name##_next((struct name##_box *)seat->request.data, seat);            \
    }                                                                          \
    /* Begins the next fetch that has to wait. */                              \
    static void name##_next(struct name##_box *box, struct name##_seat *seat)  \
    {                                                                          \
        int rc = 1;                                                            \
                                                                               \
        while (rc != 0 && flow.next < flow.n) {                                \
            seat->key = flow.keys[flow.next++];                                \
            if (flow.waits != NULL)                                            \
                seat->since_ns = clock_ns(CLOCK_MONOTONIC);                    \
            rc = flow.options != NULL                                          \
                     ? name##_fetch_with(&box->async, &seat->request,          \
                                         seat->key, &seat->value,              \
                                         flow.options, name##_flowed)          \
                     : name##_fetch(&box->async, &seat->request, seat->key,    \
                                    &seat->value, name##_flowed);              \
            flow.hits += rc == 1;                                              \
            must_be(rc >= 0, #name ": a fetch was refused");                   \
        }                                                                      \
    }                                                                          \
    static size_t name##_flows(void *at, const uint64_t *keys, size_t n)       \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
        size_t i;                                                              \
                                                                               \
        flow.keys = keys;                                                      \
        flow.n = n;                                                            \
        flow.next = flow.n_done = flow.hits = 0;                               \
        flow.wrong = 0;                                                        \
        for (i = 0; i < WINDOW; i++) {                                         \
            box->seats[i].request.data = box;                                  \
            name##_next(box, &box->seats[i]);                                  \
        }                                                                      \
        run_loop();                                                            \
        must_be(flow.n_done + flow.hits == n && flow.wrong == 0,               \
                #name ": not each fetch has had its value");                   \
        return flow.hits;                                                      \
    }                                                                          \
    /* So many fetches of each key, in one turn of the loop. */                \
    static void name##_joined(struct name##_request *request, int status)      \
    {                                                                          \
        struct name##_seat *seat = (struct name##_seat *)(void *)request;      \
                                                                               \
        flow.n_done += status == CACHE_FOUND;                                  \
        flow.wrong |= kind##_drift(&seat->value, flow.keys[0]);                \
    }                                                                          \
    static size_t name##_crowd(struct name##_box *box, uint64_t key, size_t n) \
    {                                                                          \
        size_t i;                                                              \
                                                                               \
        flow.keys = &key;                                                      \
        flow.n_done = 0;                                                       \
        flow.wrong = 0;                                                        \
        for (i = 0; i < n; i++)                                                \
            must_be(name##_fetch(&box->async, &box->seats[i].request, key,     \
                                 &box->seats[i].value, name##_joined) == 0,    \
                    #name ": a fetch did not wait");                           \
        run_loop();                                                            \
        must_be(flow.n_done == n && flow.wrong == 0,                           \
                #name ": not each fetch has had its value");                   \
        return flow.n_done;                                                    \
    }                                                                          \
    static size_t name##_crowds(void *at, const uint64_t *keys, size_t n)      \
    {                                                                          \
        struct name##_box *box = (struct name##_box *)at;                      \
        size_t i;                                                              \
                                                                               \
        for (i = 0; i < n; i += CROWD)                                         \
            (void)name##_crowd(box, keys[i], CROWD);                           \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static const struct way name##_by_get = {                     \
        name##_open, name##_shut, name##_store, name##_gets                    \
    };                                                                         \
    CACHE_UNUSED static const struct way name##_by_fetch = {                   \
        name##_open, name##_shut, name##_store, name##_fetches                 \
    };                                                                         \
    CACHE_UNUSED static const struct way name##_by_flow = {                    \
        name##_open, name##_shut, name##_store, name##_flows                   \
    };                                                                         \
    CACHE_UNUSED static const struct way name##_by_crowd = {                   \
        name##_open, name##_shut, name##_store, name##_crowds                  \
    }

PLAIN(plain, uint64_t, narrow, CACHE_SIEVE | CACHE_EXPIRY);
PLAIN(bare, uint64_t, narrow, CACHE_SIEVE);
PLAIN(wide_plain, struct wide, wide, CACHE_SIEVE | CACHE_EXPIRY);
PLAIN(wide_bare, struct wide, wide, CACHE_SIEVE);
LOADING(pages, uint64_t, narrow, CACHE_SIEVE);
LOADING(wide_pages, struct wide, wide, CACHE_SIEVE);

/* --- hits ----------------------------------------------------------------- */

enum { PLAIN_GET, AGAIN, BARE, GET, FETCH, HIT_SIDES };

static void compare_hits(const char *value, size_t entries,
                         const struct way *plain, const struct way *bare,
                         const struct way *get, const struct way *fetch)
{
    struct stream stream = { .range = RESIDENT, .n_ids = entries };
    struct side sides[HIT_SIDES];
    size_t i;

    open_side(&sides[PLAIN_GET], plain, entries);
    open_side(&sides[AGAIN], plain, entries);
    open_side(&sides[BARE], bare, entries);
    open_side(&sides[GET], get, entries);
    for (i = 0; i < FETCH; i++)
        settle(&sides[i], entries, entries);
    sides[FETCH] = sides[GET]; /* the same cache, looked at otherwise */
    sides[FETCH].subject = fetch;
    run_rounds(sides, HIT_SIDES, &stream);
    for (i = 0; i < HIT_SIDES; i++)
        must_be(sides[i].hits > n_ops * n_rounds / 100 * 98,
                "resident keys were not found");
    report_of("hit: plain get", value, entries, middle(&sides[PLAIN_GET]), "ns",
              "-", "-");
    report_of("hit: get", value, entries, middle(&sides[GET]), "ns", "-", "-");
    report_of("hit: fetch", value, entries, middle(&sides[FETCH]), "ns", "-",
              "-");
    report_of("hit: plain again / plain", value, entries,
              ratio(&sides[AGAIN], &sides[PLAIN_GET]), "x", "-", "-");
    report_of("hit: fetch / get", value, entries,
              ratio(&sides[FETCH], &sides[GET]), "x", "<= 1.5", "<= 1.15");
    report_of("hit: fetch / plain get", value, entries,
              ratio(&sides[FETCH], &sides[PLAIN_GET]), "x", "<= 1.5",
              "<= 1.15");
    report_of("hit: fetch / plain get without expiry", value, entries,
              ratio(&sides[FETCH], &sides[BARE]), "x", "-", "-");
    for (i = 0; i < FETCH; i++)
        sides[i].subject->close(sides[i].cache);
}

/* --- loads ---------------------------------------------------------------- */

enum { SYNC, FLOW, UNKEPT, CROWDS, LOAD_SIDES };

static size_t unkept_flows(void *at, const uint64_t *keys, size_t n)
{
    static const struct cache_fetch_options options = {
        .reading = { .skip_write = true }
    };
    size_t hits;

    flow.options = &options;
    hits = pages_flows(at, keys, n);
    flow.options = NULL;
    return hits;
}

/* All keys are new, so that each evicts another one. */
static void compare_loads(size_t entries)
{
    static const struct way unkept = { pages_open, pages_shut, pages_store,
                                       unkept_flows };
    struct stream fresh = { .range = FRESH };
    struct side sides[LOAD_SIDES];
    size_t i;

    open_side(&sides[SYNC], &plain_by_get, entries);
    open_side(&sides[FLOW], &pages_by_flow, entries);
    open_side(&sides[UNKEPT], &unkept, entries);
    open_side(&sides[CROWDS], &pages_by_crowd, entries);
    for (i = 0; i < LOAD_SIDES; i++)
        sides[i].subject->store(sides[i].cache, the_keys, 0);
    for (i = 0; i < 3 * entries; i += n_ops) {
        size_t k;

        stream_fill(&fresh, the_keys, n_ops);
        for (k = 0; k < LOAD_SIDES; k++)
            sides[k].subject->store(sides[k].cache, the_keys, n_ops);
    }
    run_rounds(sides, LOAD_SIDES, &fresh);
    report_of("pending: plain get, then put", "8 bytes", entries,
              middle(&sides[SYNC]), "ns", "-", "-");
    report_of("pending: fetch that is not kept", "8 bytes", entries,
              middle(&sides[UNKEPT]), "ns", "-", "-");
    report_of("pending: fetch", "8 bytes", entries, middle(&sides[FLOW]), "ns",
              "<= 120", "<= 50");
    report_of("joined: fetch, 1000 of a key", "8 bytes", entries,
              middle(&sides[CROWDS]), "ns", "<= 60", "<= 25");
    for (i = 0; i < LOAD_SIDES; i++)
        sides[i].subject->close(sides[i].cache);
}

static void count_loads(void)
{
    struct pages_box *box = (struct pages_box *)pages_open(1000);
    size_t n;

    n_loads = 0;
    n = pages_crowd(box, 7, MANY);
    report("joined: loads for 10000 fetches of a key", (double)n_loads, "",
           "= 1", "= 1");
    report("joined: callbacks for 10000 fetches of a key", (double)n, "",
           "= 10000", "= 10000");
    must_be(n_loads == 1 && n == MANY, "one load for all");
    pages_shut(box);
}

/* --- write-behind --------------------------------------------------------- */

static char path[300];
static struct cache_sqlite db;
static struct cache_codec key_codec, value_codec;
static size_t n_hot = 100000, n_puts = 1000000, n_through = 3000;

static void remove_file(void)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    char name[sizeof path + 8];
    size_t i;

    for (i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        (void)unlink(name);
    }
}

static void open_file(void)
{
    struct cache_sqlite_config config = { .path = path };

    if (cache_sqlite_open(&db, &config) != 0) {
        fprintf(stderr, "%s: %s\n", path, db.message);
        exit(2);
    }
}

static struct wide_pages_box *open_on_file(enum cache_strategy writes,
                                           size_t entries, uint32_t max_batch)
{
    struct cache_loading_config config = {
        .cache = { .capacity = entries },
        .freshness = { .ttl_ms = TTL_MS },
        .reads = CACHE_READ_THROUGH,
        .writes = writes,
        .store = &db.store,
        .key_codec = &key_codec,
        .value_codec = &value_codec,
    };
    struct cache_async_config async = { .max_batch = max_batch };

    if (writes == CACHE_WRITE_BEHIND)
        config.write_behind.max_dirty = (uint32_t)n_hot;
    return wide_pages_make(&config, &async, NULL);
}

/* Puts one after the other: each goes through before the next begins. */
static struct wide_pages_write_request writing;
static struct stream hot;

static void put_through(struct wide_pages_write_request *request, int status)
{
    struct wide_pages_box *box = (struct wide_pages_box *)request->data;
    struct wide value;

    must_be(status == 0, "a write has failed");
    if (flow.n_done++ == flow.n)
        return;
    stream_fill(&hot, the_keys, 1);
    wide_fill(&value, the_keys[0]);
    if (wide_pages_async_put_ack(&box->async, request, the_keys[0], value, NULL,
                                 put_through) != 0)
        must_be(false, "a put was refused");
}

/* Returns puts per second. */
static double write_through(void)
{
    struct wide_pages_box *box;
    uint64_t start;

    remove_file();
    open_file();
    box = open_on_file(CACHE_WRITE_THROUGH, n_hot, 1);
    start = clock_ns(CLOCK_MONOTONIC);
    flow.n = n_through;
    flow.n_done = 0;
    writing.data = box;
    put_through(&writing, 0);
    run_loop();
    start = clock_ns(CLOCK_MONOTONIC) - start;
    must_be(box->async.base.stats.n_written == n_through,
            "not each put went through");
    wide_pages_shut(box);
    db.store.close(&db.store);
    return (double)n_through * 1e9 / (double)start;
}

#define PUTS_PER_TURN 1000u

static void put_some(uv_idle_t *idle)
{
    struct wide_pages_box *box = (struct wide_pages_box *)idle->data;

    stream_fill(&hot, the_keys, PUTS_PER_TURN);
    wide_pages_store(box, the_keys, PUTS_PER_TURN);
    flow.n_done += PUTS_PER_TURN;
    if (flow.n_done >= flow.n)
        (void)uv_idle_stop(idle);
}

static void flushed(struct cache_flush *flush, int status)
{
    must_be(status == 0, "a flush has failed");
    *(bool *)flush->data = true;
}

/* Returns puts per second, up to the end of the flush; leaves the file. */
static double write_behind(struct cache_wb_stats *stats)
{
    struct wide_pages_box *box;
    struct cache_flush flush;
    bool is_flushed = false;
    uv_idle_t idle;
    uint64_t start;

    remove_file();
    open_file();
    box = open_on_file(CACHE_WRITE_BEHIND, n_hot, 0);
    (void)uv_idle_init(&the_loop, &idle);
    idle.data = box;
    start = clock_ns(CLOCK_MONOTONIC);
    flow.n = n_puts;
    flow.n_done = 0;
    (void)uv_idle_start(&idle, put_some);
    while (uv_is_active((uv_handle_t *)&idle))
        (void)uv_run(&the_loop, UV_RUN_NOWAIT);
    memset(&flush, 0, sizeof flush);
    flush.data = &is_flushed;
    (void)cache_async_flush(&box->async.base, &flush, flushed);
    run_loop();
    start = clock_ns(CLOCK_MONOTONIC) - start;
    must_be(is_flushed, "a flush has not ended");
    *stats = cache_async_write_stats(&box->async.base);
    must_be(stats->n_accepted == n_puts, "not each put was accepted");
    uv_close((uv_handle_t *)&idle, NULL);
    wide_pages_shut(box);
    db.store.close(&db.store);
    return (double)n_puts * 1e9 / (double)start;
}

/* The keys are uniform over n_hot. */
static void compare_writes(void)
{
    double through[3], behind[3], ratios[3];
    struct cache_wb_stats stats;
    size_t i;

    hot = (struct stream) { .range = RESIDENT, .n_ids = n_hot };
    for (i = 0; i < 3; i++) { /* in turn, for the disk has its moods */
        through[i] = write_through();
        behind[i] = write_behind(&stats);
        ratios[i] = behind[i] / through[i];
    }
    report("behind: writes through, a row at a time", median(through, 3), "/s",
           "-", "-");
    report("behind: writes behind, with the last flush", median(behind, 3),
           "/s", "-", "-");
    report("behind: rows written per 1000 puts",
           (double)stats.n_stored * 1000 / (double)n_puts, "", "-", "-");
    report("behind: behind / through", median(ratios, 3), "x", ">= 15",
           ">= 40");
}

/* --- reads from SQLite ---------------------------------------------------- */

static void read_from_file(void)
{
    struct stream all = { .range = RESIDENT, .n_ids = n_hot };
    struct cache_wb_stats stats;
    struct cache_histogram waits;
    struct wide_pages_box *box;
    size_t n = n_ops / 5, n_sent;
    uint64_t start;

    if (strcmp(only, "sqlite") == 0) {
        hot = all;
        (void)write_behind(&stats);
    }
    open_file();
    box = open_on_file(CACHE_ASIDE, n_hot / 10, 0);
    memset(&waits, 0, sizeof waits);
    stream_fill(&all, the_keys, n);
    flow.waits = &waits;
    start = clock_ns(CLOCK_MONOTONIC);
    (void)wide_pages_flows(box, the_keys, n);
    start = clock_ns(CLOCK_MONOTONIC) - start;
    flow.waits = NULL;
    n_sent = box->async.base.stats.n_batches;
    report("sqlite: fetches that wait, 64 in flight",
           (double)flow.n_done * 1e9 / (double)start, "/s", "-", "-");
    report("sqlite: batches", (double)n_sent * 1e9 / (double)start, "/s", "-",
           "-");
    report("sqlite: keys in a batch", (double)flow.n_done / (double)n_sent, "",
           "-", "-");
    report("sqlite: a fetch that waits, median",
           (double)cache_histogram_quantile(&waits, 0.5) / 1000, "us", "-",
           "-");
    report("sqlite: a fetch that waits, p99",
           (double)cache_histogram_quantile(&waits, 0.99) / 1000, "us", "-",
           "-");
    wide_pages_shut(box);
    db.store.close(&db.store);
}

/* --- expiry --------------------------------------------------------------- */

struct held {
    double most_us, n_turns;
};

static void do_nothing(uv_timer_t *timer)
{
    (void)timer;
}

/* All entries expire at once; then the loop turns, with so many fetches of new
 * keys begun in each turn, until they are gone.  What a turn takes is what the
 * loop is held by all callbacks of the library together. */
static struct held expire(size_t entries, size_t n_fetches)
{
    uint64_t now_ms = 1000;
    struct cache_loading_config config = { .cache = { .capacity = entries,
                                                      .now_ms = &now_ms },
                                           .freshness = { .ttl_ms = 10000 } };
    struct cache_async_config async = { .sweep_ms = 20 };
    struct pages_loader loader = { .load_batch = pages_load_all };
    struct pages_box *box = pages_make(&config, &async, &loader);
    struct stream stream = { .range = RESIDENT }, fresh = { .range = FRESH };
    struct held held = { 0, 0 };
    size_t n, n_new = 0, i;
    uv_timer_t others;

    for (n = 0; n < 2 * entries; n += n_ops) {
        stream_fill(&stream, the_keys, n_ops);
        pages_store(box, the_keys, n_ops);
    }
    (void)uv_timer_init(&the_loop, &others); /* what else a program does */
    (void)uv_timer_start(&others, do_nothing, 1, 1);
    now_ms += 20000;
    flow.keys = the_keys;
    for (n = 0; n < entries && pages_len(&box->cache) > n_new; n++) {
        uint64_t start;
        double us;

        stream_fill(&fresh, the_keys, n_fetches);
        start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (i = 0; i < n_fetches; i++)
            must_be(pages_fetch(&box->async, &box->seats[i].request,
                                the_keys[i], &box->seats[i].value,
                                pages_arrived) == 0,
                    "a fetch did not wait");
        n_new += n_fetches;
        (void)uv_run(&the_loop, UV_RUN_ONCE);
        us = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1000;
        held.most_us = us > held.most_us ? us : held.most_us;
        held.n_turns++;
    }
    must_be(n < entries, "what has expired does not go");
    uv_close((uv_handle_t *)&others, NULL);
    pages_shut(box);
    return held;
}

static void compare_expiry(size_t entries)
{
    double idle[MAX_ROUNDS], busy[MAX_ROUNDS], turns[MAX_ROUNDS];
    unsigned n = n_rounds < 5 ? n_rounds : 5, i;

    for (i = 0; i < n; i++) {
        struct held held = expire(entries, 0);

        idle[i] = held.most_us;
        turns[i] = held.n_turns;
        busy[i] = expire(entries, WINDOW).most_us;
    }
    report_of("expiry: turns of the loop", "8 bytes", entries, median(turns, n),
              "", "-", "-");
    report_of("expiry: longest turn of a run, median", "8 bytes", entries,
              median(idle, n), "us", "<= 2000", "<= 500");
    report_of("expiry: longest turn of all runs", "8 bytes", entries,
              idle[n - 1], "us", "-", "-"); /* median sorts */
    report_of("expiry: the same, and 64 fetches a turn", "8 bytes", entries,
              median(busy, n), "us", "<= 2000", "<= 500");
    report_of("expiry: longest of all runs, and 64 fetches", "8 bytes", entries,
              busy[n - 1], "us", "-", "-");
}

/* --- memory --------------------------------------------------------------- */

static void *counting_alloc(size_t bytes, void *user)
{
    *(size_t *)user += bytes;
    return malloc(bytes);
}

static void counting_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* What a cache and its loop half ask for, with so many claims. */
static size_t bytes_with(uint32_t max_claims)
{
    size_t bytes = 0;
    struct cache_loading_config config = {
        .cache = { .capacity = 16,
                   .alloc = counting_alloc,
                   .free = counting_free,
                   .user = &bytes },
        .max_claims = max_claims,
    };
    struct pages_loader loader = { .load_batch = pages_load_all };

    pages_shut(pages_make(&config, NULL, &loader));
    return bytes;
}

/* What grows with each key that may be under way; a batch has room of its own,
 * max_batch keys each, which does not. */
static void measure_memory(void)
{
    const uint32_t n = 100000;
    size_t more = bytes_with(2 * n) - bytes_with(n);

    report("memory: per pending key, with a copy of 8 bytes", (double)more / n,
           "bytes", "-", "-");
    report("memory: per pending key, beyond the copy",
           (double)more / n - sizeof(uint64_t), "bytes", "<= 96", "<= 48");
    report("memory: a request, the caller's", sizeof(struct pages_request),
           "bytes", "-", "-");
}

/* --- all of it ------------------------------------------------------------ */

static bool wanted(const char *part)
{
    return strstr(part, only) != NULL;
}

static void run_all(void)
{
    size_t i;

    if (wanted("memory"))
        measure_memory();
    if (wanted("joined"))
        count_loads();
    if (wanted("pending") || wanted("joined"))
        compare_loads(sizes[0]);
    for (i = 0; i < 2 && wanted("hit"); i++) {
        compare_hits("8 bytes", sizes[i], &plain_by_get, &bare_by_get,
                     &pages_by_get, &pages_by_fetch);
        compare_hits("64 bytes", sizes[i], &wide_plain_by_get,
                     &wide_bare_by_get, &wide_pages_by_get,
                     &wide_pages_by_fetch);
    }
    if (wanted("expiry"))
        compare_expiry(sizes[1]);
    if (wanted("behind"))
        compare_writes();
    if (wanted("sqlite"))
        read_from_file();
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
            n_hot = 1000;
            n_puts = 10000;
            n_through = 10;
        } else if (strncmp(argv[arg], "--only=", 7) == 0) {
            only = argv[arg] + 7;
        } else if (strncmp(argv[arg], "--tsv=", 6) == 0) {
            tsv = (FILE *)must(fopen(argv[arg] + 6, "w"));
        } else if (strncmp(argv[arg], "--dir=", 6) == 0) {
            directory = argv[arg] + 6;
        } else {
            fputs("usage: bench-async [--quick] [--only=TEXT] [--tsv=FILE] "
                  "[--dir=DIRECTORY]\n",
                  stderr);
            return 2;
        }
    snprintf(path, sizeof path, "%.200s/bench-async.%d", directory,
             (int)getpid());
    if (tsv != NULL)
        fprintf(tsv, "figure\tvalue\tunit\tasked\taim\n");
    the_keys = (uint64_t *)must(calloc(n_ops, sizeof *the_keys));
    key_codec = cache_raw_object(sizeof(uint64_t));
    value_codec = cache_raw_object(sizeof(struct wide));
    (void)uv_loop_init(&the_loop);
    run_all();
    remove_file();
    must_be(uv_loop_close(&the_loop) == 0, "the loop is not empty");
    free(the_keys);
    if (tsv != NULL)
        fclose(tsv);
    printf("\n%-52s %16s asked        aim\n", "", "reached");
    for (i = 0; i < n_lines; i++)
        tell(&lines[i]);
    return failed;
}
