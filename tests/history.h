/*
 * history.h - a log of what threads did with a cache, and a checker that says
 * whether a cache that obeys its promises could have answered so.
 *
 * WHAT IT DOES
 *   Every operation has a time when it began and one when it had ended; it took
 *   effect somewhere between.  Times are numbers from one counter, so that an
 *   operation that began after another one had ended has seen what that did.
 *   Values are unique: the value of a put is its place in the log, plus 1.
 *
 * WHAT IS WRONG
 *   - A hit with a value that nobody put under this key, or only later.
 *   - A hit with a value that was no longer there: between the end of its put
 *     and the beginning of the hit, something else was put or seen.  That is
 *     also how a value that was evicted must not come back.
 *   - A value that two operations say they took the place of.
 *   - With `keeps`, a cache that never evicts: a miss of a key that was put or
 *     seen, and that nobody can have removed since.
 *
 * The checker needs n log n steps.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef HISTORY_H
#define HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum history_kind {
    HISTORY_NOTHING, /* an operation that is not to be judged */
    HISTORY_PUT,
    HISTORY_REMOVE, /* by remove, clear or the clock */
    HISTORY_HIT,
    HISTORY_MISS
};

struct history_op {
    uint64_t begin, end; /* times */
    uint64_t value;      /* put: its own.  Hit: what was seen. */
    uint64_t old;        /* put: what compute was given; 0 = not known */
    uint32_t key;
    uint8_t kind;
};

/* What began last among operations that had ended by some time: the last one,
 * and the last one with another value. */
struct history_seen {
    uint64_t begin, value, other_begin;
};

static inline int history_by_key_and_end(const void *a, const void *b)
{
    const struct history_op *x = *(const struct history_op *const *)a;
    const struct history_op *y = *(const struct history_op *const *)b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static inline int history_by_begin(const void *a, const void *b)
{
    const struct history_op *x = *(const struct history_op *const *)a;
    const struct history_op *y = *(const struct history_op *const *)b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* What an operation shows to be current at some time of it; 0 = nothing. */
static inline uint64_t history_state(const struct history_op *op)
{
    return op->kind == HISTORY_PUT || op->kind == HISTORY_HIT ? op->value : 0;
}

static inline struct history_seen history_also(struct history_seen seen,
                                               const struct history_op *op)
{
    const uint64_t value = history_state(op);

    if (op->begin > seen.begin) {
        if (value != seen.value)
            seen.other_begin = seen.begin;
        seen.begin = op->begin;
        seen.value = value;
    } else if (value != seen.value && op->begin > seen.other_begin) {
        seen.other_begin = op->begin;
    }
    return seen;
}

/* How many of the operations, which are sorted by their end, had ended before
 * this time. */
static inline size_t history_ended(struct history_op *const *op, size_t n,
                                   uint64_t time)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (op[middle]->end < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline const char *history_judge_hit(const struct history_op *log,
                                            size_t n_log,
                                            const struct history_op *hit,
                                            const struct history_seen *before)
{
    const struct history_op *put;
    uint64_t other;

    if (hit->value == 0 || hit->value > n_log)
        return "a hit with a value that was never put";
    put = &log[hit->value - 1];
    if (put->kind != HISTORY_PUT || put->key != hit->key)
        return "a hit with a value that was not put under this key";
    if (put->begin > hit->end)
        return "a hit with a value that was put later";
    other = before->value != hit->value ? before->begin : before->other_begin;
    return other > put->end ? "a hit with a value that was no longer there"
                            : NULL;
}

/* `latest_end`: of the removes that had begun before the miss ended. */
static inline const char *history_judge_miss(uint64_t latest_present,
                                             uint64_t latest_end)
{
    return latest_present != 0 && latest_end <= latest_present
               ? "a miss of a key that was there all the time"
               : NULL;
}

/* One key's operations, sorted by their end.  `scratch` has room for n + 1 of
 * each; *wrong is the operation at fault. */
static inline const char *
history_check_key(const struct history_op *log, size_t n_log,
                  struct history_op **op, size_t n, bool keeps,
                  struct history_seen *seen, uint64_t *present,
                  struct history_op **removes, const struct history_op **wrong)
{
    size_t i, n_removes = 0, begun = 0;
    uint64_t latest_end = 0;
    const char *why = NULL;

    memset(&seen[0], 0, sizeof seen[0]);
    present[0] = 0;
    for (i = 0; i < n; i++) {
        bool there = history_state(op[i]) != 0;

        seen[i + 1] = history_also(seen[i], op[i]);
        present[i + 1] =
            there && op[i]->begin > present[i] ? op[i]->begin : present[i];
        if (op[i]->kind == HISTORY_REMOVE)
            removes[n_removes++] = op[i];
    }
    qsort(removes, n_removes, sizeof(struct history_op *), history_by_begin);
    for (i = 0; i < n && why == NULL; i++) {
        size_t before = history_ended(op, n, op[i]->begin);
        struct history_op hit = *op[i];

        while (begun < n_removes && removes[begun]->begin < op[i]->end) {
            if (removes[begun]->end > latest_end)
                latest_end = removes[begun]->end;
            begun++;
        }
        if (hit.kind == HISTORY_PUT)
            hit.value = hit.old;
        if (hit.kind == HISTORY_HIT || (hit.kind == HISTORY_PUT && hit.old))
            why = history_judge_hit(log, n_log, &hit, &seen[before]);
        else if (op[i]->kind == HISTORY_MISS && keeps)
            why = history_judge_miss(present[before], latest_end);
        *wrong = op[i];
    }
    return why;
}

/* Each value goes once. */
static inline const char *history_check_old(const struct history_op *log,
                                            size_t n,
                                            const struct history_op **wrong)
{
    bool *gone = (bool *)calloc(n + 1, sizeof *gone);
    const char *why = NULL;
    size_t i;

    for (i = 0; i < n && why == NULL; i++) {
        if (log[i].kind != HISTORY_PUT || log[i].old == 0)
            continue;
        if (log[i].old > n || gone[log[i].old])
            why = "a value that was replaced twice";
        else
            gone[log[i].old] = true;
        *wrong = &log[i];
    }
    free(gone);
    return why;
}

/* NULL, or what is wrong; then *wrong is the operation that shows it. */
static inline const char *history_check(struct history_op *log, size_t n,
                                        bool keeps,
                                        const struct history_op **wrong)
{
    struct history_op **op =
        (struct history_op **)calloc(2 * n + 2, sizeof *op);
    struct history_seen *seen =
        (struct history_seen *)calloc(n + 1, sizeof *seen);
    uint64_t *present = (uint64_t *)calloc(n + 1, sizeof *present);
    const char *why = history_check_old(log, n, wrong);
    size_t i, from, n_ops = 0;

    for (i = 0; i < n; i++)
        if (log[i].kind != HISTORY_NOTHING)
            op[n_ops++] = &log[i];
    qsort(op, n_ops, sizeof *op, history_by_key_and_end);
    for (from = 0; from < n_ops && why == NULL; from = i) {
        for (i = from; i < n_ops && op[i]->key == op[from]->key; i++)
            continue;
        why = history_check_key(log, n, op + from, i - from, keeps, seen,
                                present, op + n + 1, wrong);
    }
    free(op);
    free(seen);
    free(present);
    return why;
}

/* Prints the operation at fault and the others with its key around its time. */
static inline void history_show(const struct history_op *log, size_t n,
                                const struct history_op *wrong)
{
    static const char *const name[] = { "nothing", "put", "remove", "hit",
                                        "miss" };
    const struct history_op *put = NULL;
    size_t i, shown = 0;

    if (wrong->value > 0 && wrong->value <= n)
        put = &log[wrong->value - 1];
    for (i = 0; i < n && shown < 40; i++) {
        const struct history_op *o = &log[i];
        bool about =
            o->key == wrong->key && o->kind != HISTORY_NOTHING &&
            ((o->end + 30 > wrong->begin && o->begin < wrong->end) || o == put);

        if (about) {
            printf("  %s%llu to %llu: %s key %u value %llu\n",
                   o == wrong ? "=> " : "   ", (unsigned long long)o->begin,
                   (unsigned long long)o->end, name[o->kind], o->key,
                   (unsigned long long)o->value);
            shown++;
        }
    }
}

#endif /* HISTORY_H */
