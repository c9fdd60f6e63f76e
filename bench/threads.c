/*
 * threads.c - the workloads of several threads, in wall time.
 *
 * Each thread has a core of its own, or a share of one if there are more
 * threads than cores, and keys of its own.  The time of a run is from the first
 * thread's start to the last one's end, over all operations of all threads.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "contest.h"

#define N_CROWD 8 /* threads of the latency workload */

struct worker {
    pthread_t thread;
    const struct subject *subject;
    void *cache, *items;
    enum loop loop;
    size_t n;
    unsigned cpu;
    uint64_t start, end; /* ns */
    struct outcome outcome;
    struct histogram *latencies; /* NULL = not asked for */
};

static pthread_barrier_t gate;

/* The i-th of the processors we may use, over and over. */
static unsigned nth_cpu(unsigned i)
{
    cpu_set_t set;
    unsigned cpu;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) == 0)
        return 0;
    i %= (unsigned)CPU_COUNT(&set);
    for (cpu = 0;; cpu++)
        if (CPU_ISSET(cpu, &set) && i-- == 0)
            return cpu;
}

/* A processor that was idle takes a while to be one again, above all a virtual
 * one, and another one has written the keys: reads them for 5 ms. */
static void wake_up(const struct worker *w)
{
    const uint64_t start = clock_ns(CLOCK_MONOTONIC);
    const volatile uint64_t *keys = (const uint64_t *)w->items;
    size_t i;

    do {
        for (i = 0; i < w->n; i += 8)
            (void)keys[i];
    } while (clock_ns(CLOCK_MONOTONIC) - start < 5000000);
}

static void *work(void *argument)
{
    struct worker *w = (struct worker *)argument;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(w->cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    wake_up(w);
    pthread_barrier_wait(&gate);
    w->start = clock_ns(CLOCK_MONOTONIC);
    if (w->latencies != NULL)
        w->outcome = w->subject->time(w->cache, w->items, w->n, w->latencies);
    else
        w->outcome = w->subject->run(w->cache, w->loop, w->items, w->n);
    w->end = clock_ns(CLOCK_MONOTONIC);
    return NULL;
}

/* All workers at once.  Returns wall ns. */
static uint64_t run_workers(const struct contest *c, struct contestant *s,
                            struct worker *workers, unsigned n_threads)
{
    uint64_t start = UINT64_MAX, end = 0;
    unsigned i;

    pthread_barrier_init(&gate, NULL, n_threads);
    for (i = 0; i < n_threads; i++) {
        workers[i].subject = s->subject;
        workers[i].cache = s->cache;
        workers[i].loop = c->workload->loop;
        workers[i].cpu = nth_cpu(i);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            must(NULL);
    }
    for (i = 0; i < n_threads; i++) {
        pthread_join(workers[i].thread, NULL);
        start = workers[i].start < start ? workers[i].start : start;
        end = workers[i].end > end ? workers[i].end : end;
        s->hits += workers[i].outcome.hits;
        if (workers[i].outcome.wrong != 0)
            fail(c->workload, s->subject->name,
                 "a value is not the one of its key");
    }
    pthread_barrier_destroy(&gate);
    return end - start;
}

/* Keys for each. */
static void begin_workers(const struct contest *c, struct worker *workers,
                          struct stream *streams, unsigned n_threads)
{
    unsigned i;

    for (i = 0; i < n_threads; i++) {
        streams[i] = contest_stream(c, i + 2);
        workers[i].items = stream_room(false, options.n_ops);
        workers[i].n = options.n_ops;
    }
}

static void end_workers(struct worker *workers, unsigned n_threads)
{
    unsigned i;

    for (i = 0; i < n_threads; i++)
        free(workers[i].items);
}

static void report_threads(const struct contest *c, struct contestant *s,
                           unsigned n_threads, const char *variant)
{
    struct row row = { .workload = c->workload,
                       .entries = c->entries,
                       .threads = n_threads,
                       .ns = median(s->ns, options.n_rounds),
                       .bytes = s->bytes };

    row.hit_ratio = contest_hit_ratio(
        c->workload, s->hits, options.n_ops * n_threads * options.n_rounds);
    snprintf(row.subject, sizeof row.subject, "%s", s->subject->name);
    snprintf(row.variant, sizeof row.variant, "%s", variant);
    report(&row);
}

/* One thread and two, in turn, on the same cache. */
void measure_threads(struct contest *c)
{
    struct contestant results[2][MAX_CONTESTANTS] = { 0 };
    struct worker workers[2] = { 0 };
    struct stream streams[2];
    unsigned round, n_threads;
    size_t i;

    contest_prepare(c);
    begin_workers(c, workers, streams, 2);
    for (round = 0; round < options.n_rounds; round++)
        for (n_threads = 1; n_threads <= 2; n_threads++) {
            for (i = 0; i < n_threads; i++)
                stream_fill(&streams[i], workers[i].items, options.n_ops);
            for (i = 0; i < c->n; i++) {
                size_t at = (i + round) % c->n;
                struct contestant *s = &results[n_threads - 1][at];

                if (n_threads > 1 && (c->list[at].subject->groups & G_ALONE))
                    continue;
                s->subject = c->list[at].subject;
                s->cache = c->list[at].cache;
                s->bytes = c->list[at].bytes;
                s->ns[round] = (double)run_workers(c, s, workers, n_threads) /
                               (double)(n_threads * options.n_ops);
            }
        }
    for (n_threads = 1; n_threads <= 2; n_threads++)
        for (i = 0; i < c->n; i++)
            if (results[n_threads - 1][i].subject != NULL) {
                struct contestant *s = &results[n_threads - 1][i];

                contest_judge(c, s, s->hits,
                              n_threads * options.n_ops * options.n_rounds);
                report_threads(c, s, n_threads, "");
            }
    end_workers(workers, 2);
}

/* --- latency -------------------------------------------------------------- */

static const struct percentile {
    const char *name;
    double share;
} percentiles[] = { { "_p50", 0.5 },
                    { "_p99", 0.99 },
                    { "_p99.9", 0.999 },
                    { "_p99.99", 0.9999 } };
#define N_PERCENTILES (sizeof percentiles / sizeof *percentiles)

/* The middle of the bucket in which the share of all is reached. */
static double histogram_at(const struct histogram *h, double share)
{
    const size_t n = sizeof h->counts / sizeof *h->counts;
    uint64_t all = 0, seen = 0;
    size_t at;

    for (at = 0; at < n; at++)
        all += h->counts[at];
    for (at = 0; at + 1 < n; at++) {
        seen += h->counts[at];
        if ((double)seen >= share * (double)all)
            break;
    }
    if (at < 2 * HISTOGRAM_STEPS)
        return (double)at;
    return ((double)(at % HISTOGRAM_STEPS) + HISTOGRAM_STEPS + 0.5) *
           (double)((uint64_t)1 << (at / HISTOGRAM_STEPS - 1));
}

/* Adds those of all threads up into the first one's. */
static void add_up(struct histogram *latencies, unsigned n_threads)
{
    unsigned i;
    size_t at;

    for (i = 1; i < n_threads; i++)
        for (at = 0; at < sizeof latencies->counts / sizeof *latencies->counts;
             at++)
            latencies->counts[at] += latencies[i].counts[at];
}

/* More threads than cores: who holds a lock may lose the processor. */
void measure_latency(struct contest *c)
{
    static double ns[N_PERCENTILES][MAX_CONTESTANTS][MAX_ROUNDS];
    static struct histogram latencies[N_CROWD];
    struct worker workers[N_CROWD] = { 0 };
    struct stream streams[N_CROWD];
    unsigned round, p;
    size_t i;

    contest_prepare(c);
    begin_workers(c, workers, streams, N_CROWD);
    for (i = 0; i < N_CROWD; i++)
        workers[i].latencies = &latencies[i];
    for (i = 0; i < c->n; i++)
        c->list[i].hits = 0;
    for (round = 0; round < options.n_rounds; round++) {
        for (i = 0; i < N_CROWD; i++)
            stream_fill(&streams[i], workers[i].items, options.n_ops);
        for (i = 0; i < c->n; i++) {
            size_t at = (i + round) % c->n;

            if (c->list[at].subject->groups & G_ALONE)
                continue;
            memset(latencies, 0, sizeof latencies);
            run_workers(c, &c->list[at], workers, N_CROWD);
            add_up(latencies, N_CROWD);
            for (p = 0; p < N_PERCENTILES; p++)
                ns[p][at][round] =
                    histogram_at(latencies, percentiles[p].share);
        }
    }
    for (p = 0; p < N_PERCENTILES; p++)
        for (i = 0; i < c->n; i++) {
            struct contestant *s = &c->list[i];

            if (s->subject->groups & G_ALONE)
                continue;
            memcpy(s->ns, ns[p][i], sizeof s->ns);
            report_threads(c, s, N_CROWD, percentiles[p].name);
        }
    end_workers(workers, N_CROWD);
}
