/*
 * contest.h - the subjects of one workload, side by side in one process.
 *
 * All do the same on the same keys, in turn, in an order that rotates from
 * round to round; what counts is each one's median.  Before anything is measured each
 * has evicted at least twice its capacity.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CONTEST_H
#define CONTEST_H

#include "bench.h"
#include "stream.h"

#define MAX_ROUNDS 9
#define MAX_SIZES 8
#define MAX_CONTESTANTS 32

/* What the command line says. */
struct options {
    size_t sizes[MAX_SIZES + 1]; /* entries; 0 = not in use */
    size_t batch_sizes[MAX_SIZES + 1];
    size_t n_ops;       /* operations of a timed run */
    size_t n_evictions; /* that age a cache */
    unsigned n_rounds;
};
extern struct options options;

struct contest;

/* What is measured: a line of the table.  Neighbours of one group share a
 * process. */
struct workload {
    const char *name, *keys;
    void (*measure)(struct contest *c);
    int group; /* who takes part */
    enum loop loop;
    enum range range;
    double exponent; /* of Zipf's law */
    unsigned times;  /* so many times the entries are the keys */
};

struct row {
    const struct workload *workload;
    size_t entries;
    unsigned threads;
    char subject[24], variant[16]; /* of the workload's name: "_p99" */
    double ns, bytes, hit_ratio;   /* bytes: per entry, not key nor value */
};

struct contestant {
    const struct subject *subject;
    void *cache;
    double bytes; /* per entry, not key nor value */
    double ns[MAX_ROUNDS];
    uint64_t hits; /* of all rounds */
};

struct contest {
    const struct workload *workload; /* at the moment */
    size_t entries;
    size_t residents; /* keys that everybody can have at once: a shared cache,
                         whose shards do not fill evenly, needs some room */
    bool text;
    bool aged; /* everybody has evicted twice its capacity */
    size_t n;
    struct contestant list[MAX_CONTESTANTS];
    struct stream fresh; /* keys that were never there */
    void *items;         /* room for options.n_ops */
};

/* Hands a row to the process that prints.  (bench.c) */
void report(const struct row *row);
/* Says what is wrong; the exit code will be 1.  (bench.c) */
void fail(const struct workload *w, const char *subject, const char *what);

/* Opens and fills everybody of the workload's group. */
void contest_begin(struct contest *c, const struct workload *w, size_t entries);
void contest_end(struct contest *c);

/* Opens a cache and fills it with the residents. */
void contest_open(struct contest *c, struct contestant *s);

/* Brings everybody to where the workload starts: twice the capacity was
 * evicted, and then the residents are in, or get-or-insert is in its steady
 * state. */
void contest_prepare(struct contest *c);

/* Goes on until the residents, and hardly anybody else, are in. */
void contest_settle(struct contest *c, struct contestant *s);

/* A run over c->items whose values are verified.  Returns hits. */
uint64_t contest_run(struct contest *c, struct contestant *s, enum loop loop,
                     size_t n);

/* Judges the hits of n look-ups of the workload's keys. */
void contest_judge(const struct contest *c, const struct contestant *s,
                   uint64_t hits, size_t n);

/* The keys of the workload; another seed, another order. */
struct stream contest_stream(const struct contest *c, uint64_t seed);

/* Of n operations of the workload, puts left out. */
double contest_hit_ratio(const struct workload *w, uint64_t hits, size_t n);

double median(double *values, size_t n);

/* The kinds of workload.  (measure.c, threads.c) */
void measure_one_thread(struct contest *c);
void measure_memory(struct contest *c);
void measure_aged(struct contest *c);
void measure_threads(struct contest *c);
void measure_latency(struct contest *c);

#endif /* CONTEST_H */
