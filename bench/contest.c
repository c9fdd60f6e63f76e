/*
 * contest.c - see contest.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include <malloc.h>

#include "contest.h"

static size_t heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static double payload(bool text)
{
    return text ? 24 + sizeof(text_value) /* 24 is the mean length of a key */
                : sizeof(u64_item) + sizeof(u64_value);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return values[n / 2];
}

uint64_t contest_run(struct contest *c, struct contestant *s, enum loop loop,
                     size_t n)
{
    struct outcome o = s->subject->run(s->cache, loop, c->items, n);

    if (o.wrong != 0)
        fail(c->workload, s->subject->name,
             "a value is not the one of its key");
    return o.hits;
}

/* Calls for the first residents, a buffer at a time.  Returns hits. */
static uint64_t run_residents(struct contest *c, struct contestant *s,
                              enum loop loop, size_t n_residents)
{
    struct stream stream = { .range = RESIDENT, .text = c->text };
    uint64_t hits = 0;

    while (stream.next < n_residents) {
        size_t n = n_residents - stream.next;

        n = n < options.n_ops ? n : options.n_ops;
        stream_fill(&stream, c->items, n);
        hits += contest_run(c, s, loop, n);
    }
    return hits;
}

void contest_open(struct contest *c, struct contestant *s)
{
    size_t before = heap_in_use();

    s->cache = s->subject->open(c->entries);
    run_residents(c, s, STORE, c->entries);
    s->bytes = (double)(heap_in_use() - before) / (double)c->entries -
               payload(c->text);
}

static void join(struct contest *c, const struct subject *subject)
{
    for (; subject->name != NULL; subject++) {
        if ((subject->groups & c->workload->group) == 0)
            continue;
        if (c->n == MAX_CONTESTANTS)
            abort();
        c->list[c->n].subject = subject;
        contest_open(c, &c->list[c->n++]);
    }
}

void contest_begin(struct contest *c, const struct workload *w, size_t entries)
{
    *c = (struct contest) { .workload = w, .entries = entries };
    c->residents = w->group & G_SHARED ? entries - entries / 10 : entries;
    c->text = (w->group & G_TEXT) != 0;
    c->fresh = (struct stream) { .range = FRESH, .text = c->text };
    c->items = stream_room(c->text, options.n_ops);
    join(c, subjects_uthash);
#ifdef BENCH_ALL_PEERS
    join(c, subjects_glib);
    join(c, subjects_cxx);
#endif
    join(c, subjects_ours);
    join(c, subjects_shared);
}

void contest_end(struct contest *c)
{
    size_t i;

    for (i = 0; i < c->n; i++) {
        const struct subject *subject = c->list[i].subject;
        const char *wrong = subject->close(c->list[i].cache);

        if (wrong != NULL)
            fail(c->workload, subject->name, wrong);
    }
    free(c->items);
}

struct stream contest_stream(const struct contest *c, uint64_t seed)
{
    const struct workload *w = c->workload;

    return (struct stream) { .range = w->range,
                             .text = c->text,
                             .exponent = w->exponent,
                             .n_ids = w->range == RESIDENT
                                          ? c->residents
                                          : w->times * c->entries,
                             .random = seed << 32 };
}

static void run_all(struct contest *c, struct stream *stream, enum loop loop)
{
    size_t i;

    stream_fill(stream, c->items, options.n_ops);
    for (i = 0; i < c->n; i++)
        if ((c->list[i].subject->groups & G_FIXED) == 0)
            contest_run(c, &c->list[i], loop, options.n_ops);
}

/* By puts, and by what brings order and chance to the lists. */
static void age(struct contest *c)
{
    struct stream popular = { .range = POPULAR,
                              .text = c->text,
                              .exponent = 0.99,
                              .n_ids = 2 * c->entries };
    size_t n;

    for (n = 0; n < 2 * c->entries; n += options.n_ops) {
        run_all(c, &c->fresh, STORE);
        if (n == 0)
            run_all(c, &popular, ADD);
    }
    c->aged = true;
}

/* Four capacities of get-or-insert: what was there before has to go. */
static void warm_up(struct contest *c)
{
    struct stream stream = contest_stream(c, 1);
    size_t n;

    for (n = 0; n < 4 * c->entries; n += options.n_ops)
        run_all(c, &stream, ADD);
}

/* Some policies take several passes, as a hand has to meet the entries that
 * nobody uses, and some need to see the others used twice; ADAPTIVE may keep an
 * unused one for long. */
void contest_settle(struct contest *c, struct contestant *s)
{
    size_t n = c->residents;
    int pass;

    for (pass = 0; pass < 10; pass++) {
        uint64_t hits = run_residents(c, s, LOOK, n);

        if (hits >= n - n / 100) {
            run_residents(c, s, ADD, n / 100); /* the most popular are in */
            return;
        }
        if (hits > 0)
            run_residents(c, s, LOOK, n);
        run_residents(c, s, ADD, n);
    }
    fail(c->workload, s->subject->name, "the residents do not stay");
}

void contest_prepare(struct contest *c)
{
    size_t i;

    if (!c->aged)
        age(c);
    for (i = 0; i < c->n && c->workload->range == RESIDENT; i++)
        contest_settle(c, &c->list[i]);
    if (c->workload->loop == ADD)
        warm_up(c);
}

double contest_hit_ratio(const struct workload *w, uint64_t hits, size_t n)
{
    return (double)hits / ((double)n * (w->loop == MIXED ? 0.95 : 1));
}

void contest_judge(const struct contest *c, const struct contestant *s,
                   uint64_t hits, size_t n)
{
    const struct workload *w = c->workload;

    if (w->range == ABSENT && hits != 0)
        fail(w, s->subject->name, "a key was found that was never put");
    if (w->range == RESIDENT && contest_hit_ratio(w, hits, n) < 0.95)
        fail(w, s->subject->name, "resident keys were not found");
}
