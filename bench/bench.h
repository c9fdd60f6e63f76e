/*
 * bench.h - what the benchmark's files agree on: keys and values, the loops
 * that are timed, and the table of functions that each subject is.
 *
 * A subject is a cache of ours or of a peer.  Its loops (loops.h) are compiled
 * in its own file, so everything it can inline is inlined, and the driver calls
 * it once for a million operations.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- keys and values ------------------------------------------------------ */

/* Integers: the key itself is what a stream consists of. */
typedef uint64_t u64_item;
typedef uint64_t u64_value;

/* Strings: 16 to 32 characters, then zeroes, and their length. */
typedef struct text_item {
    uint64_t id; /* what its value has to say */
    uint64_t length;
    char bytes[40];
} text_item;

typedef struct text_value {
    char bytes[100]; /* the id at both ends */
} text_value;

static inline void u64_fill(u64_value *value, const u64_item *item)
{
    *value = *item * 5 + 1;
}

/* 0 if the value is that of the key. */
static inline uint64_t u64_drift(const u64_value *value, const u64_item *item)
{
    return *value - (*item * 5 + 1);
}

static inline void text_fill(text_value *value, const text_item *item)
{
    memset(value, 'v', sizeof *value);
    memcpy(value->bytes, &item->id, sizeof item->id);
    memcpy(value->bytes + sizeof *value - sizeof item->id, &item->id,
           sizeof item->id);
}

static inline uint64_t text_drift(const text_value *value,
                                  const text_item *item)
{
    uint64_t first, last;

    memcpy(&first, value->bytes, sizeof first);
    memcpy(&last, value->bytes + sizeof *value - sizeof last, sizeof last);
    return (first ^ item->id) | (last ^ item->id);
}

/* --- subjects ------------------------------------------------------------- */

/* What is timed. */
enum loop {
    LOOK,   /* get */
    DEPEND, /* get; which key comes next depends on the value */
    ADD,    /* get or insert */
    STORE,  /* put */
    MIXED,  /* 19 gets, 1 put */
};

struct outcome {
    uint64_t hits, wrong; /* wrong: values that are not those of their keys */
};

/* Numbers of nanoseconds, 32 buckets to each power of two. */
#define HISTOGRAM_STEPS 32
struct histogram {
    uint64_t counts[40 * HISTOGRAM_STEPS];
};

/* Which workloads a subject takes part in. */
enum group {
    G_HIT = 1,      /* look-ups */
    G_EVICT = 2,    /* get-or-insert, churn, bytes */
    G_MEMORY = 4,   /* bytes */
    G_TTL = 8,      /* expiry on and off */
    G_BATCH = 16,   /* one by one and 32 at a time */
    G_TEXT = 32,    /* strings */
    G_AGED = 64,    /* after 50 million evictions */
    G_SHARED = 128, /* what threads may share */
    G_ALONE = 256,  /* beside them, on one thread only */
    G_FIXED = 512   /* a table without eviction: holds the residents only */
};

struct subject {
    const char *name;
    const char *what; /* in words; NULL = as in README.md */
    int groups;
    void *(*open)(size_t entries);
    /* NULL, or what was wrong with its memory. */
    const char *(*close)(void *cache);
    struct outcome (*run)(void *cache, enum loop loop, const void *items,
                          size_t n);
    /* MIXED, each operation on its own. */
    struct outcome (*time)(void *cache, const void *items, size_t n,
                           struct histogram *out);
};

#define SUBJECT(kind, name, groups, what)                                      \
    {                                                                          \
        name, what, groups, kind##_box_open, kind##_box_close, kind##_box_run, \
            kind##_box_time                                                    \
    }

/* Each ends with a name of NULL.  Those of GLib and C++ are there if
 * BENCH_ALL_PEERS is defined. */
#ifdef __cplusplus
extern "C" {
#endif
extern const struct subject subjects_uthash[], subjects_ours[],
    subjects_shared[], subjects_glib[], subjects_cxx[];
#ifdef __cplusplus
}
#endif

/* In the files that are included once for each subject: KIND is its name, ITEM
 * u64 or text. */
#define BENCH_PASTE(a, b) a##b
#define BENCH_JOIN(a, b) BENCH_PASTE(a, b)
#define THIS(what) BENCH_JOIN(KIND, what)
#define ITS(what) BENCH_JOIN(ITEM, what)
#define BOX BENCH_JOIN(KIND, _box)
#define ENTRY BENCH_JOIN(KIND, _entry)
#define ITEM_T BENCH_JOIN(ITEM, _item)
#define VALUE_T BENCH_JOIN(ITEM, _value)

/* --- helpers -------------------------------------------------------------- */

static inline void *must(void *pointer)
{
    if (pointer == NULL) {
        perror("bench");
        exit(2);
    }
    return pointer;
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    unsigned exponent = 63u - (unsigned)__builtin_clzll(ns | HISTOGRAM_STEPS);
    uint64_t at = (exponent - 5) * HISTOGRAM_STEPS + (ns >> (exponent - 5));

    h->counts[at]++;
}

#endif /* BENCH_H */
