/*
 * sides.h - caches side by side in one process, and the lines of a report.
 *
 * Times of calls are medians of rounds, CPU time of the thread.  Those that are
 * compared stand side by side on the same keys, and take turns, the first one
 * changing from round to round.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef SIDES_H
#define SIDES_H

#include "stream.h"

#define MAX_ROUNDS 9

static size_t n_ops = 1000000; /* of a round */
static unsigned n_rounds = MAX_ROUNDS;
static uint64_t *the_keys; /* room for n_ops */
static FILE *tsv;
static bool failed;

/* --- figures -------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts them. */
static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return values[n / 2];
}

/* `wanted` is "-", "= x", "<= x", "< x" or ">= x". */
static const char *verdict(double value, const char *wanted)
{
    const char *limit = strpbrk(wanted, "0123456789");
    double x = limit ? strtod(limit, NULL) : 0;

    if (limit == NULL)
        return "";
    return (wanted[0] == '='   ? value == x
            : wanted[0] == '>' ? value >= x
                               : value <= x)
               ? "yes"
               : "NO";
}

static void must_be(bool right, const char *what)
{
    if (!right) {
        fprintf(stderr, "FAILED: %s\n", what);
        failed = true;
    }
}

/* --- subjects ------------------------------------------------------------- */

/* A type of cache, and one way to look into it: the value of a key, which is
 * put or committed if it is not there.  look returns how many were. */
struct way {
    void *(*open)(size_t entries);
    void (*close)(void *cache);
    void (*store)(void *cache, const uint64_t *keys, size_t n);
    size_t (*look)(void *cache, const uint64_t *keys, size_t n);
};

struct side {
    const struct way *subject;
    void *cache;
    size_t hits;
    double ns[MAX_ROUNDS];
};

static double time_look(struct side *s, size_t n)
{
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    s->hits += s->subject->look(s->cache, the_keys, n);
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)n;
}

static void run_rounds(struct side *sides, size_t n_sides, struct stream *from)
{
    unsigned round;
    size_t i;

    for (i = 0; i < n_sides; i++)
        sides[i].hits = 0;
    for (round = 0; round < n_rounds; round++) {
        for (i = 0; i < n_sides; i++) {
            size_t at = (i + round) % n_sides;

            /* New keys for each that changes something; the same for all. */
            if (i == 0 || from->range == FRESH)
                stream_fill(from, the_keys, n_ops);
            sides[at].ns[round] = time_look(&sides[at], n_ops);
        }
    }
}

/* Twice the capacity is put, so that all of it has been evicted; then the
 * residents come, until they stay. */
static void settle(struct side *s, size_t entries, size_t residents)
{
    struct stream fresh = { .range = FRESH };
    uint64_t *all = (uint64_t *)must(calloc(residents, sizeof *all));
    struct stream stream = { .range = RESIDENT };
    size_t n, pass;

    for (n = 0; n < 3 * entries; n += n_ops) {
        stream_fill(&fresh, the_keys, n_ops);
        s->subject->store(s->cache, the_keys, n_ops);
    }
    stream_fill(&stream, all, residents);
    for (pass = 0; pass < 20; pass++)
        if (s->subject->look(s->cache, all, residents) >=
            residents - residents / 100)
            break;
    must_be(pass < 20, "the residents do not stay");
    free(all);
}

static void open_side(struct side *s, const struct way *subject, size_t entries)
{
    memset(s, 0, sizeof *s);
    s->subject = subject;
    s->cache = subject->open(entries);
}

static double middle(struct side *s)
{
    double ns[MAX_ROUNDS];

    memcpy(ns, s->ns, sizeof ns);
    return median(ns, n_rounds);
}

/* The median of the ratios of the rounds. */
static double ratio(const struct side *a, const struct side *b)
{
    double ratios[MAX_ROUNDS];
    unsigned i;

    for (i = 0; i < n_rounds; i++)
        ratios[i] = a->ns[i] / b->ns[i];
    return median(ratios, n_rounds);
}

#endif /* SIDES_H */
