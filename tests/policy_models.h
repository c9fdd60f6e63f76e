/*
 * policy_models.h - the policies once more, slow and obvious.
 *
 * WHAT IT DOES
 *   The models know keys (small numbers), not slots, and keep them in plain
 *   arrays that are searched from end to end, written from the papers and not
 *   from cache_policies.h.  test_policies.c runs both side by side: who has to
 *   leave must be the same.  RANDOM has no model, and ADAPTIVE has its own in
 *   test_adaptive.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef POLICY_MODELS_H
#define POLICY_MODELS_H

#include <string.h>

#include "cache_policies.h"
#include "tests/policy_driver.h"

enum {
    MODEL_KEYS = 2048,
    MODEL_BLOCKS = MODEL_KEYS / 8 + 1 /* of a sketch */
};

/* A sketch that counts uses, and a window that climbs: W-TinyLFU's. */
struct model_tiny {
    long long uses, hits;  /* of this sample */
    long long rate;        /* of the last one, in parts of 2^20 */
    long long share, step; /* of the window, and how it moves: of 2^16 */
    long long due;         /* uses x blocks since a block was halved */
    int next;              /* the block that is halved next */
};

/* The state of any model; plain bytes, so that a copy is a snapshot. */
struct model {
    int capacity;
    int room;   /* for so many it is laid out; `capacity` may be less */
    bool again; /* who comes now was here a moment ago: that is no use */
    int a, b;   /* whatever else a policy keeps */
    double x;
    long long now;
    struct model_tiny tiny;
    struct queue q[4];                 /* what each is for, the policy says */
    int count[MODEL_KEYS];             /* by key: marks, frequencies, ... */
    long long when[MODEL_KEYS];        /* by key: times, priorities, ... */
    unsigned char changes[MODEL_KEYS]; /* by key: of its item, see below */
    unsigned char counter[MODEL_BLOCKS][4][32]; /* by block, row and place */
};

struct policy_model {
    /* Of a model of zeroes with a capacity and room. */
    void (*init)(struct model *m);
    /* A key that is present is used. */
    void (*hit)(struct model *m, int key);
    /* A key that is absent enters.  Returns who had to leave, -1 = nobody:
     * there are fewer than `capacity` before. */
    int (*miss)(struct model *m, int key);
    /* A key that is present is removed. */
    void (*remove)(struct model *m, int key);
    /* The item of a key that is present is another now. */
    void (*change)(struct model *m, int key);
};

/* --- items ---------------------------------------------------------------
 * What is known of a key: the driver tells the policy what the models look up.
 * Weight, cost and deadline are those of one of eight letters; each change of
 * them makes the key the next letter.  Where cost is a quotient with weight, it
 * is a whole number of quarters: nothing is rounded. */

static const struct {
    unsigned char weight, cost, deadline;
} model_letters[8] = {
    { 2, 2, 30 }, /* H */
    { 1, 1, 20 }, /* A */
    { 2, 1, 10 }, /* B */
    { 1, 2, 0 },  /* C */
    { 4, 1, 10 }, /* D */
    { 1, 0, 0 },  /* E */
    { 0, 1, 5 },  /* F */
    { 4, 6, 40 }, /* G */
};

static uint64_t model_seed; /* makes other hashes of the same keys */
static uint64_t model_mask; /* the bits of a hash that are not always zero */

static inline uint64_t model_hash(int key)
{
    uint64_t h = model_seed + ((uint64_t)key + 1) * 0x9e3779b97f4a7c15u;

    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u; /* splitmix64 */
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return (h ^ h >> 31) & model_mask;
}

static inline struct cache_item model_item(const struct model *m, int key)
{
    int letter = (key + m->changes[key]) % 8;
    struct cache_item item;

    item.hash = model_hash(key);
    item.weight = model_letters[letter].weight;
    item.cost = model_letters[letter].cost;
    item.deadline = model_letters[letter].deadline;
    return item;
}

/* --- what most models have in common: nothing ---------------------------- */

static inline void m_no_init(struct model *m)
{
    (void)m; /* empty queues */
}

static inline void m_no_hit(struct model *m, int key)
{
    (void)m;
    (void)key;
}

static inline void m_no_change(struct model *m, int key)
{
    (void)m;
    (void)key;
}

/* --- FIFO: q[0] is the order of arrival ---------------------------------- */

static int m_fifo_miss(struct model *m, int key)
{
    int out = -1;

    if (m->q[0].n == m->capacity)
        out = queue_take(&m->q[0], 0);
    queue_push(&m->q[0], key);
    return out;
}

static void m_fifo_remove(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
}

/* --- LRU: q[0] is the order of last use; the rest is FIFO's -------------- */

static void m_lru_hit(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
    queue_push(&m->q[0], key);
}

/* --- CLOCK ---------------------------------------------------------------
 * A FIFO that puts a key with a mark back at its end, without the mark.
 * count[] is the mark.  A removal leaves a hole in the queue, and whoever comes
 * next stands there: the holes are -1, -2, ..., a of them, and the last that
 * was made is filled first. */

static void m_mark(struct model *m, int key)
{
    m->count[key] = 1;
}

static int m_clock_miss(struct model *m, int key)
{
    int out = -1;

    m->count[key] = 0;
    if (m->a > 0) {
        m->q[0].key[queue_find(&m->q[0], -m->a)] = (short)key;
        m->a--;
        return -1;
    }
    if (m->q[0].n == m->capacity) {
        while (m->count[m->q[0].key[0]]) {
            out = queue_take(&m->q[0], 0);
            m->count[out] = 0;
            queue_push(&m->q[0], out);
        }
        out = queue_take(&m->q[0], 0);
    }
    queue_push(&m->q[0], key);
    return out;
}

static void m_clock_remove(struct model *m, int key)
{
    m->a++;
    m->q[0].key[queue_find(&m->q[0], key)] = (short)-m->a;
}

/* --- SIEVE ---------------------------------------------------------------
 * q[0] is the order of arrival, count[] is `visited`.  The hand stands at an
 * index, which is a; past the newest it begins again at the oldest. */

/* Those behind who leaves move up: the hand then stands on the next one. */
static void m_sieve_remove(struct model *m, int key)
{
    if (queue_find(&m->q[0], key) < m->a)
        m->a--;
    queue_drop(&m->q[0], key);
    if (m->a == m->q[0].n)
        m->a = 0;
}

static int m_sieve_miss(struct model *m, int key)
{
    int out = -1;

    m->count[key] = 0;
    if (m->q[0].n == m->capacity) {
        while (m->count[m->q[0].key[m->a]]) {
            m->count[m->q[0].key[m->a]] = 0;
            m->a = (m->a + 1) % m->q[0].n;
        }
        out = m->q[0].key[m->a];
        m_sieve_remove(m, out);
    }
    queue_push(&m->q[0], key);
    return out;
}

/* --- LFU with dynamic aging ----------------------------------------------
 * q[0] is the order of last use, count[] the uses, when[] the keys of the
 * paper, `now` is the age of the cache.  Only 63 uses count. */

/* Who has the lowest when[], the first in q[0] of them, goes. */
static int m_lowest_leaves(struct model *m)
{
    int i, at = 0;

    for (i = 1; i < m->q[0].n; i++)
        if (m->when[m->q[0].key[i]] < m->when[m->q[0].key[at]])
            at = i;
    return queue_take(&m->q[0], at);
}

static void m_lfu_hit(struct model *m, int key)
{
    if (m->count[key] < 63)
        m->count[key]++;
    m->when[key] = m->now + m->count[key];
    queue_drop(&m->q[0], key);
    queue_push(&m->q[0], key);
}

static int m_lfu_miss(struct model *m, int key)
{
    int out = -1;

    if (m->q[0].n == m->capacity) {
        out = m_lowest_leaves(m);
        m->now = m->when[out];
    }
    m->count[key] = 0;
    m_lfu_hit(m, key);
    return out;
}

/* --- TTL -----------------------------------------------------------------
 * q[0] is the order of arrival, when[] the deadline. */

static void m_ttl_change(struct model *m, int key)
{
    m->when[key] = model_item(m, key).deadline;
    if (m->when[key] == 0)
        m->when[key] = 1000000; /* never */
}

static int m_ttl_miss(struct model *m, int key)
{
    int out = -1;

    if (m->q[0].n == m->capacity)
        out = m_lowest_leaves(m);
    queue_push(&m->q[0], key);
    m_ttl_change(m, key);
    return out;
}

/* --- GDSF ----------------------------------------------------------------
 * As LFU; when[] and the age `now` are in quarters. */

static void m_gdsf_change(struct model *m, int key)
{
    int weight = (int)model_item(m, key).weight;
    int cost = (int)model_item(m, key).cost;

    m->when[key] = m->now + 4 * m->count[key] * cost / (weight ? weight : 1);
}

static void m_gdsf_hit(struct model *m, int key)
{
    m->count[key]++;
    m_gdsf_change(m, key);
    queue_drop(&m->q[0], key);
    queue_push(&m->q[0], key);
}

static int m_gdsf_miss(struct model *m, int key)
{
    int out = -1;

    if (m->q[0].n == m->capacity) {
        out = m_lowest_leaves(m);
        m->now = m->when[out];
    }
    m->count[key] = 0;
    m_gdsf_hit(m, key);
    return out;
}

/* --- SLRU ----------------------------------------------------------------
 * q[0] to q[3] are the segments, q[0] the lowest. */

/* Places are dealt out one by one, from the lowest segment on. */
static int m_slru_places(const struct model *m, int segment)
{
    int places = 0, i;

    for (i = 0; i < m->capacity; i++)
        if (i % 4 == segment)
            places++;
    return places;
}

static void m_slru_hit(struct model *m, int key)
{
    int from = 0, to;

    while (!queue_drop(&m->q[from], key))
        from++;
    to = from == 3 ? 3 : from + 1;
    queue_push(&m->q[to], key);
    if (m->q[to].n > m_slru_places(m, to))
        queue_push(&m->q[to - 1], queue_take(&m->q[to], 0));
}

static int m_slru_miss(struct model *m, int key)
{
    int out = -1, i;

    if (m->q[0].n + m->q[1].n + m->q[2].n + m->q[3].n == m->capacity) {
        for (i = 0; m->q[i].n == 0; i++)
            ;
        out = queue_take(&m->q[i], 0);
    }
    for (i = 0; m->q[i].n >= m_slru_places(m, i); i++)
        ;
    queue_push(&m->q[i], key);
    return out;
}

static void m_slru_remove(struct model *m, int key)
{
    int i;

    for (i = 0; i < 4; i++)
        queue_drop(&m->q[i], key);
}

/* --- 2Q ------------------------------------------------------------------
 * q[0] is A1in, q[1] Am, q[2] A1out. */

static void m_2q_init(struct model *m)
{
    m->a = m->capacity / 4 < 1 ? 1 : m->capacity / 4; /* Kin */
    m->b = m->capacity / 2 < 1 ? 1 : m->capacity / 2; /* Kout */
}

static void m_2q_hit(struct model *m, int key)
{
    if (queue_drop(&m->q[1], key))
        queue_push(&m->q[1], key);
}

static int m_2q_miss(struct model *m, int key)
{
    bool remembered = queue_drop(&m->q[2], key);
    int out = -1;

    if (m->q[0].n + m->q[1].n == m->capacity) { /* "reclaimfor" */
        if (m->q[0].n > m->a || m->q[1].n == 0) {
            out = queue_take(&m->q[0], 0);
            queue_push(&m->q[2], out);
            if (m->q[2].n > m->b)
                queue_take(&m->q[2], 0);
        } else {
            out = queue_take(&m->q[1], 0);
        }
    }
    queue_push(&m->q[remembered ? 1 : 0], key);
    return out;
}

static void m_2q_remove(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
    queue_drop(&m->q[1], key);
}

/* --- ARC -----------------------------------------------------------------
 * The cases of the paper's figure 4.  q[T1], q[T2], q[B1], q[B2]; x is p. */

enum { M_ARC_T1, M_ARC_T2, M_ARC_B1, M_ARC_B2 };

static void m_arc_init(struct model *m)
{
    m->x = 0;
}

static void m_arc_hit(struct model *m, int key) /* case I */
{
    if (!queue_drop(&m->q[M_ARC_T1], key))
        queue_drop(&m->q[M_ARC_T2], key);
    queue_push(&m->q[M_ARC_T2], key);
}

/* "REPLACE"; nobody has to leave where removals have left room. */
static int m_arc_replace(struct model *m, bool in_b2)
{
    int t1 = m->q[M_ARC_T1].n, t2 = m->q[M_ARC_T2].n;
    bool from_t1 = t1 > 0 && (t1 > m->x || (in_b2 && t1 == m->x));
    int out;

    if (t1 + t2 < m->capacity)
        return -1;
    if (t2 == 0) /* the paper has no word for this */
        from_t1 = true;
    out = queue_take(&m->q[from_t1 ? M_ARC_T1 : M_ARC_T2], 0);
    queue_push(&m->q[from_t1 ? M_ARC_B1 : M_ARC_B2], out);
    return out;
}

static int m_arc_miss(struct model *m, int key)
{
    struct queue *t1 = &m->q[M_ARC_T1], *t2 = &m->q[M_ARC_T2];
    struct queue *b1 = &m->q[M_ARC_B1], *b2 = &m->q[M_ARC_B2];
    int c = m->capacity, out = -1, all;

    if (queue_find(b1, key) >= 0) { /* case II */
        m->x += b1->n >= b2->n ? 1 : (double)b2->n / b1->n;
        if (m->x > c)
            m->x = c;
        out = m_arc_replace(m, false);
        queue_drop(b1, key);
        queue_push(t2, key);
        return out;
    }
    if (queue_find(b2, key) >= 0) { /* case III */
        m->x -= b2->n >= b1->n ? 1 : (double)b1->n / b2->n;
        if (m->x < 0)
            m->x = 0;
        out = m_arc_replace(m, true);
        queue_drop(b2, key);
        queue_push(t2, key);
        return out;
    }
    all = t1->n + t2->n + b1->n + b2->n;
    if (t1->n + b1->n == c) { /* case IV A */
        if (t1->n < c) {
            queue_take(b1, 0);
            out = m_arc_replace(m, false);
        } else {
            out = queue_take(t1, 0); /* and it is not remembered */
        }
    } else if (all >= c) { /* case IV B */
        if (all == 2 * c)
            queue_take(b2, 0);
        out = m_arc_replace(m, false);
    }
    queue_push(t1, key);
    return out;
}

static void m_arc_remove(struct model *m, int key)
{
    queue_drop(&m->q[M_ARC_T1], key);
    queue_drop(&m->q[M_ARC_T2], key);
}

/* --- LIRS ----------------------------------------------------------------
 * q[0] is the stack S with its bottom at [0], q[1] the queue Q, q[2] who left
 * and is still in S, in that order.  count[] is what a key is; a: the LIR set
 * has been full. */

enum { M_LIRS_GONE, M_LIRS_LIR, M_LIRS_HIR };

static void m_lirs_init(struct model *m)
{
    m->a = false;
}

static int m_lirs_most_lir(const struct model *m)
{
    int hir = m->capacity > 4 ? 2 : 1;

    return m->capacity - (m->capacity / 100 > hir ? m->capacity / 100 : hir);
}

static int m_lirs_n_lir(const struct model *m)
{
    int i, n = 0;

    for (i = 0; i < m->q[0].n; i++) /* all of them are in S */
        n += m->count[m->q[0].key[i]] == M_LIRS_LIR;
    return n;
}

static void m_lirs_prune(struct model *m)
{
    while (m->q[0].n > 0 && m->count[m->q[0].key[0]] != M_LIRS_LIR)
        queue_drop(&m->q[2], queue_take(&m->q[0], 0));
}

static void m_lirs_demote(struct model *m)
{
    int key = queue_take(&m->q[0], 0);

    m->count[key] = M_LIRS_HIR;
    queue_push(&m->q[1], key);
    m_lirs_prune(m);
}

/* A key that is in cache, and in neither S nor Q, has been used. */
static void m_lirs_used(struct model *m, int key, bool was_in_s)
{
    int n = m_lirs_n_lir(m), most = m_lirs_most_lir(m);

    if (n <= most / 2)
        m->a = false;
    if (was_in_s || (n < most && !m->a)) {
        m->count[key] = M_LIRS_LIR;
        queue_push(&m->q[0], key);
        if (n + 1 >= most)
            m->a = true;
        if (n + 1 > most)
            m_lirs_demote(m);
    } else {
        m->count[key] = M_LIRS_HIR;
        queue_push(&m->q[0], key);
        queue_push(&m->q[1], key);
        m_lirs_prune(m); /* if it is all that S has */
    }
}

static void m_lirs_hit(struct model *m, int key)
{
    bool was_in_s = queue_drop(&m->q[0], key);

    if (m->count[key] == M_LIRS_LIR) {
        queue_push(&m->q[0], key);
        m_lirs_prune(m);
    } else {
        queue_drop(&m->q[1], key);
        m_lirs_used(m, key, was_in_s);
    }
}

static int m_lirs_miss(struct model *m, int key)
{
    bool was_in_s = queue_drop(&m->q[0], key);
    int out = -1;

    queue_drop(&m->q[2], key);
    if (m_lirs_n_lir(m) + m->q[1].n == m->capacity) {
        if (m->q[1].n == 0)
            m_lirs_demote(m);
        out = queue_take(&m->q[1], 0);
        m->count[out] = M_LIRS_GONE;
        if (queue_find(&m->q[0], out) >= 0)
            queue_push(&m->q[2], out);
        if (m->q[2].n > m->capacity * 11 / 8)
            queue_drop(&m->q[0], queue_take(&m->q[2], 0));
    }
    m_lirs_used(m, key, was_in_s);
    return out;
}

static void m_lirs_remove(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
    queue_drop(&m->q[1], key);
    m->count[key] = M_LIRS_GONE;
    m_lirs_prune(m);
}

/* --- S3-FIFO -------------------------------------------------------------
 * q[0] is the small queue, q[1] main, q[2] the ghosts, all of them, in the
 * order in which they left.  They are in sets of four, as few sets as hold
 * `room` of them; a fifth one in a set pushes out the oldest. */

static int m_s3fifo_small_share(const struct model *m)
{
    return m->capacity / 10 > 1 ? m->capacity / 10 : 1;
}

static uint64_t m_s3fifo_set(const struct model *m, int key)
{
    uint64_t upper = model_hash(key) >> 32;
    uint64_t sets = ((uint64_t)m->room + 3) / 4;

    return upper * sets / 0x100000000u;
}

/* A table keeps 16 bits of a key; the lowest is taken for "there is one". */
static uint64_t m_s3fifo_print(int key)
{
    return (model_hash(key) >> 32 & 0xffff) | 1;
}

static void m_s3fifo_leave(struct model *m, int key)
{
    int i, oldest = -1, in_set = 0;

    for (i = m->q[2].n - 1; i >= 0; i--)
        if (m_s3fifo_set(m, m->q[2].key[i]) == m_s3fifo_set(m, key)) {
            in_set++;
            oldest = i;
        }
    if (in_set == 4)
        queue_take(&m->q[2], oldest);
    queue_push(&m->q[2], key);
    m->when[key] = m->now++;
}

/* Is it a ghost, and not older than main is long?  It is no ghost any more. */
static int m_s3fifo_return(struct model *m, int key)
{
    int i, ghost;

    for (i = 0; i < m->q[2].n; i++) {
        ghost = m->q[2].key[i];
        if (m_s3fifo_set(m, ghost) == m_s3fifo_set(m, key) &&
            m_s3fifo_print(ghost) == m_s3fifo_print(key)) {
            queue_take(&m->q[2], i);
            return m->now - m->when[ghost] <=
                   m->capacity - m_s3fifo_small_share(m);
        }
    }
    return 0;
}

static void m_s3fifo_hit(struct model *m, int key)
{
    if (m->count[key] < 3)
        m->count[key]++;
}

static int m_s3fifo_miss(struct model *m, int key)
{
    int out = -1, first;

    if (m->q[0].n + m->q[1].n == m->capacity)
        while (out < 0) {
            if (m->q[0].n >= m_s3fifo_small_share(m)) {
                first = queue_take(&m->q[0], 0);
                if (m->count[first] >= 2) {
                    m->count[first] = 0;
                    queue_push(&m->q[1], first);
                } else {
                    out = first;
                    m_s3fifo_leave(m, out);
                }
            } else {
                first = queue_take(&m->q[1], 0);
                if (m->count[first] > 0) {
                    m->count[first]--;
                    queue_push(&m->q[1], first);
                } else {
                    out = first;
                }
            }
        }
    m->count[key] = 0;
    queue_push(&m->q[m_s3fifo_return(m, key)], key);
    return out;
}

static void m_s3fifo_remove(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
    queue_drop(&m->q[1], key);
}

/* --- W-TinyLFU -----------------------------------------------------------
 * q[0] is the window, q[1] probation, q[2] protected.  counter[] is the sketch.
 */

static int m_tiny_window(const struct model *m)
{
    int window = (int)((double)m->tiny.share / 65536 * m->capacity + 0.5);

    if (window > m->capacity - 1)
        window = m->capacity - 1;
    return window > 1 ? window : 1;
}

static int m_tiny_protected(const struct model *m)
{
    return (m->capacity - m_tiny_window(m)) * 80 / 100;
}

static int m_tiny_blocks(const struct model *m)
{
    return m->room / 8 + 1;
}

static unsigned char *m_tiny_counter(struct model *m, int key, int row)
{
    uint64_t hash = model_hash(key) >> 32;
    uint64_t block = hash * (uint64_t)m_tiny_blocks(m) / 0x100000000u;
    uint64_t places = hash * 0x9e3779b97f4a7c15u;

    return &m->counter[block][row][(places >> (44 + 5 * row)) % 32];
}

static int m_tiny_count(struct model *m, int key)
{
    int row, least = 15;

    for (row = 0; row < 4; row++)
        if (*m_tiny_counter(m, key, row) < least)
            least = *m_tiny_counter(m, key, row);
    return least;
}

static void m_tiny_use(struct model *m, int key)
{
    int row, place, round = 7 * m->capacity, counted = 0;

    for (row = 0; row < 4; row++)
        if (*m_tiny_counter(m, key, row) < 15) {
            ++*m_tiny_counter(m, key, row);
            counted = 1;
        }
    if (!counted)
        return;
    m->tiny.due += m_tiny_blocks(m);
    if (m->tiny.due >= round) {
        m->tiny.due -= round;
        if (m_tiny_blocks(m) >= round)
            m->tiny.due = 0; /* one for each use is enough */
        for (row = 0; row < 4; row++)
            for (place = 0; place < 32; place++)
                m->counter[m->tiny.next][row][place] /= 2;
        m->tiny.next++;
        if (m->tiny.next == m_tiny_blocks(m))
            m->tiny.next = 0;
    }
}

/* The window climbs after 10 uses for each entry. */
static void m_tiny_sample(struct model *m, int hit)
{
    struct model_tiny *t = &m->tiny;
    long long rate, change, all = 1 << 20;

    t->hits += hit;
    t->uses++;
    if (t->uses < 10 * m->capacity)
        return;
    rate = t->hits * all / t->uses;
    change = rate - t->rate;
    if (change < 0)
        t->step *= -1;
    t->share += t->step;
    if (t->share < 0)
        t->share = 0;
    if (t->share > 65536 / 100 * 99)
        t->share = 65536 / 100 * 99;
    if (change >= all / 20 || -change >= all / 20)
        t->step = t->step < 0 ? -4096 : 4096;
    else
        t->step -= t->step / 50;
    t->rate = rate;
    t->uses = t->hits = 0;
}

static void m_tiny_move(struct model *m, int from, int to)
{
    queue_push(&m->q[to], queue_take(&m->q[from], 0));
}

/* One entry of a list that is too long goes over. */
static void m_tiny_settle(struct model *m)
{
    int window = m_tiny_window(m), i;

    if (m->q[0].n > window) {
        m_tiny_move(m, 0, 1);
    } else if (m->q[2].n > m_tiny_protected(m)) {
        m_tiny_move(m, 2, 1);
    } else if (m->q[0].n < window && m->q[1].n > 0 &&
               m->q[1].n + m->q[2].n > m->capacity - window) {
        m_tiny_move(m, 1, 0); /* and to the other end */
        for (i = 1; i < m->q[0].n; i++)
            m_tiny_move(m, 0, 0);
    }
}

static void m_wtinylfu_init(struct model *m)
{
    m->tiny.share = 65536 / 10;
    m->tiny.step = 65536 / 16;
}

static void m_wtinylfu_hit(struct model *m, int key)
{
    m_tiny_use(m, key);
    if (queue_drop(&m->q[0], key)) {
        queue_push(&m->q[0], key);
    } else if (queue_drop(&m->q[2], key)) {
        queue_push(&m->q[2], key);
    } else {
        queue_drop(&m->q[1], key);
        queue_push(&m->q[2], key);
        if (m->q[2].n > m_tiny_protected(m))
            m_tiny_move(m, 2, 1);
    }
    m_tiny_sample(m, 1);
}

static int m_wtinylfu_miss(struct model *m, int key)
{
    struct queue *window = &m->q[0], *main;
    int out = -1, i;

    if (!m->again) {
        m_tiny_use(m, key);
        m_tiny_sample(m, 0);
        for (i = 0; i < 4; i++)
            m_tiny_settle(m);
    }
    main = m->q[1].n > 0 ? &m->q[1] : &m->q[2];
    if (window->n + m->q[1].n + m->q[2].n == m->capacity) {
        bool contest = main->n > 0 && window->n >= m_tiny_window(m);
        bool used_more = contest && m_tiny_count(m, window->key[0]) >
                                        m_tiny_count(m, main->key[0]);
        if (main->n == 0 || (contest && !used_more))
            out = queue_take(window, 0);
        else
            out = queue_take(main, 0);
    }
    queue_push(window, key);
    if (window->n > m_tiny_window(m))
        m_tiny_move(m, 0, 1);
    return out;
}

static void m_wtinylfu_remove(struct model *m, int key)
{
    queue_drop(&m->q[0], key);
    queue_drop(&m->q[1], key);
    queue_drop(&m->q[2], key);
}

#endif /* POLICY_MODELS_H */
