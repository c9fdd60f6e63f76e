/*
 * measure.c - the workloads of one thread, in its CPU time.
 *
 * Operations are independent of each other, except in hit/dependent, so the
 * processor overlaps them: throughput, not latency.
 *
 * SPDX-License-Identifier: MIT
 */
#include "contest.h"

/* One run of one contestant in one round.  Returns hits. */
static uint64_t time_run(struct contest *c, struct contestant *s,
                         enum loop loop, double *ns)
{
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), hits;

    hits = contest_run(c, s, loop, options.n_ops);
    *ns = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) /
          (double)options.n_ops;
    return hits;
}

static void report_one(const struct contest *c, struct contestant *s,
                       const char *suffix)
{
    struct row row = { .workload = c->workload,
                       .entries = c->entries,
                       .threads = 1,
                       .ns = median(s->ns, options.n_rounds),
                       .bytes = s->bytes };

    row.hit_ratio = contest_hit_ratio(c->workload, s->hits,
                                      options.n_ops * options.n_rounds);
    snprintf(row.subject, sizeof row.subject, "%s%s", s->subject->name, suffix);
    report(&row);
}

void measure_one_thread(struct contest *c)
{
    const struct workload *w = c->workload;
    struct stream stream, *from = w->range == FRESH ? &c->fresh : &stream;
    unsigned round;
    size_t i;

    contest_prepare(c);
    stream = contest_stream(c, 2);
    for (i = 0; i < c->n; i++)
        c->list[i].hits = 0;
    for (round = 0; round < options.n_rounds; round++) {
        stream_fill(from, c->items, options.n_ops);
        for (i = 0; i < c->n; i++) {
            struct contestant *s = &c->list[(i + round) % c->n];

            s->hits += time_run(c, s, w->loop, &s->ns[round]);
        }
    }
    for (i = 0; i < c->n; i++) {
        contest_judge(c, &c->list[i], c->list[i].hits,
                      options.n_ops * options.n_rounds);
        report_one(c, &c->list[i], "");
    }
}

/* Bytes only. */
void measure_memory(struct contest *c)
{
    size_t i;

    for (i = 0; i < c->n; i++)
        report_one(c, &c->list[i], "");
}

/* --- does a cache get slower? --------------------------------------------- */

/* One after the other: puts of new keys, and a get-or-insert that misses half
 * the time and mixes up the lists. */
static void evict(struct contest *c, size_t n_evictions)
{
    struct stream popular = { .range = POPULAR,
                              .exponent = 0.8,
                              .n_ids = 10 * c->entries };
    size_t done, i;

    for (done = 0; done < n_evictions; done += options.n_ops * 3 / 2) {
        stream_fill(&c->fresh, c->items, options.n_ops);
        for (i = 0; i < c->n; i++)
            contest_run(c, &c->list[i], STORE, options.n_ops);
        stream_fill(&popular, c->items, options.n_ops);
        for (i = 0; i < c->n; i++)
            contest_run(c, &c->list[i], ADD, options.n_ops);
    }
}

static const struct workload aged_parts[] = {
    { "aged_hit", "uniform", NULL, G_AGED, LOOK, RESIDENT, 0, 1 },
    { "aged_miss", "absent", NULL, G_AGED, LOOK, ABSENT, 0, 0 },
    { "aged_churn", "new", NULL, G_AGED, STORE, FRESH, 0, 0 },
};
#define N_PARTS (sizeof aged_parts / sizeof *aged_parts)

/* One part in one round: each beside its aged twin. */
static void time_part(struct contest *fresh, struct contest *aged,
                      unsigned part, unsigned round,
                      struct contestant results[2][MAX_CONTESTANTS])
{
    struct contest *both[2] = { fresh, aged };
    struct stream stream;
    size_t i;

    fresh->workload = aged->workload = &aged_parts[part];
    stream = contest_stream(aged, round + 2);
    stream.next = round * options.n_ops;
    stream_fill(aged_parts[part].range == FRESH ? &aged->fresh : &stream,
                aged->items, options.n_ops);
    memcpy(fresh->items, aged->items, options.n_ops * sizeof(u64_item));
    for (i = 0; i < 2 * aged->n; i++) {
        size_t old = (i + round) % 2, at = (i / 2 + round) % aged->n;
        struct contest *c = both[old];
        struct contestant *result = &results[old][at];
        uint64_t hits = time_run(c, &c->list[at], aged_parts[part].loop,
                                 &result->ns[round]);

        contest_judge(c, &c->list[at], hits, options.n_ops);
        result->hits += hits;
        result->bytes = c->list[at].bytes;
        result->subject = c->list[at].subject;
    }
}

/* Each cache, and one that was just filled. */
void measure_aged(struct contest *aged)
{
    static struct contestant results[N_PARTS][2][MAX_CONTESTANTS];
    const struct workload *w = aged->workload;
    struct contest fresh;
    unsigned round, part;
    size_t i;

    evict(aged, options.n_evictions);
    for (round = 0; round < options.n_rounds; round++) {
        contest_begin(&fresh, w, aged->entries);
        for (i = 0; i < aged->n; i++)
            contest_settle(aged, &aged->list[i]);
        for (part = 0; part < N_PARTS; part++)
            time_part(&fresh, aged, part, round, results[part]);
        contest_end(&fresh);
    }
    for (part = 0; part < N_PARTS; part++) {
        aged->workload = &aged_parts[part];
        for (i = 0; i < 2 * aged->n; i++)
            report_one(aged, &results[part][i % 2][i / 2],
                       i % 2 == 0 ? "" : "_aged");
    }
}
