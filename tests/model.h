/*
 * model.h - a cache that is slow and obvious, and an interpreter that runs
 * the same operations on it and on a cache of cache.h.
 *
 * WHAT IT DOES
 *   model_step() turns one 64-bit number into one operation, so a random
 *   generator or a fuzzer can drive it.  After every operation the result,
 *   the calls of on_remove in their order (key, value, cause), of weigh and of
 *   key_copy, len, the bytes in use, stats and check() have to agree, and what
 *   is pinned must stand where it stood.
 *
 * THE MODEL
 *   An array in the order of the policy, searched from end to end; in front of
 *   it what is pinned.  Keys are small numbers; a subject makes keys of its
 *   type of them.  Each value is used once, so that a value names the put that
 *   it came from.  What weigh says of it is another number at each step: what
 *   counts is what it said when the value came.  Of a version that the cache
 *   makes is asked that it is above all that were seen.
 *
 * WHAT IT LEAVES OPEN
 *   Which expired entry is reclaimed first, and in which order next() and
 *   clear() go.  There the model takes what the cache says and verifies that
 *   it was allowed.  A capacity up to MODEL_SWEPT is looked through before
 *   each eviction: there nobody may be evicted while an expired entry stands.
 *
 *   Who is evicted, where the order is not known: with other policies than
 *   FIFO, LRU, SIEVE and CLOCK, and with the last two if entries expire and the
 *   capacity is above MODEL_SWEPT: whether the hand moved cannot be told from
 *   outside when the victim had expired.  Then it may be anybody who is neither
 *   pinned nor expired, but only when room is needed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MODEL_H
#define MODEL_H

#include "cache.h"
#include "tests/test.h"

enum {
    MODEL_ENTRIES = 40,    /* capacity at most */
    MODEL_KEYS = 96,       /* keys are 0 to MODEL_KEYS - 1 */
    MODEL_SWEPT = 8,       /* slots looked at before an eviction */
    MODEL_START = 1000000, /* the clock at init */
    MODEL_PINS = 3,        /* of an entry, at most */
    MODEL_UNKNOWN = 99     /* a compute result that does not exist */
};

struct model;

struct model_cursor {
    uint32_t slot;
    unsigned key;
    uint64_t value;
};

/* One cache type, with keys as numbers. */
struct model_subject {
    const char *name;
    uint32_t options;
    bool copies_keys; /* key_copy and key_free call model_key_* */
    size_t (*memory_needed)(const struct cache_config *config);
    int (*init)(const struct cache_config *config);
    void (*destroy)(void);
    const uint64_t *(*get)(unsigned key);
    const uint64_t *(*peek)(unsigned key);
    bool (*contains)(unsigned key);
    int (*put)(unsigned key, uint64_t value);
    int (*put_ttl)(unsigned key, uint64_t value, uint64_t ttl_ms);
    int (*put_if_absent)(unsigned key, uint64_t value);
    int (*replace)(unsigned key, uint64_t value);
    int (*put_if_version)(unsigned key, uint64_t value, uint64_t version);
    int (*put_version)(unsigned key, uint64_t value, uint64_t ttl_ms,
                       uint64_t version);
    int (*entry)(unsigned key, struct cache_entry *out);
    const uint64_t *(*get_or_insert)(unsigned key, uint64_t value,
                                     bool *inserted);
    int (*compute)(unsigned key, struct model *m);
    int (*touch_ttl)(unsigned key, uint64_t ttl_ms);
    int (*remove)(unsigned key);
    int (*pin)(unsigned key);
    int (*unpin)(unsigned key);
    int (*clear)(void);
    uint32_t (*tick)(uint32_t max_items);
    bool (*next)(struct model_cursor *at);
    uint32_t (*len)(void);
    int (*stats)(struct cache_stats *out);
    struct cache_memory (*memory)(void);
    const char *(*check)(void);
};

struct model_entry {
    unsigned key;
    uint64_t value;
    uint64_t deadline; /* tick at which it is dead; 0 = never */
    uint64_t weight;   /* with its share of the block; 0 if not weighed */
    unsigned pins;
    const uint64_t *at;         /* if pinned: where its value stands */
    bool visited;               /* SIEVE's and CLOCK's mark */
    unsigned slot;              /* its place in CLOCK's circle */
    uint64_t created, accessed; /* ticks */
    uint64_t version;           /* 0 = it is off */
    uint32_t count;             /* hits */
};

struct model_event {
    unsigned key;
    uint64_t value;
    enum cache_cause cause;
    bool looked;  /* on_remove called get ... */
    unsigned got; /* ... with this key ... */
    bool found;   /* ... and there was this value */
    uint64_t found_value;
};

struct model {
    const struct model_subject *subject;
    struct cache_config config;
    unsigned n_keys; /* that operations use */
    uint32_t policy;
    uint64_t share;     /* what an entry weighs beside its own bytes */
    uint64_t own_bytes; /* most entries have fewer */

    /* First what is pinned, in no order, then the oldest in policy order. */
    struct model_entry entry[MODEL_ENTRIES];
    unsigned n_pinned, len;
    int hand; /* SIEVE: index; -1 = at the oldest */
    struct cache_stats stats;
    uint64_t last_value; /* that was given out */
    uint64_t newest;     /* the highest version there was */
    uint64_t given;      /* the version that the current put brings; 0 = none */
    uint64_t n_steps;

    unsigned clock_hand;               /* CLOCK: a slot */
    unsigned freed[MODEL_ENTRIES + 1]; /* slots: the last one is taken first */
    unsigned n_freed, fresh;           /* slots 1 to fresh were in use */

    uint64_t now_ms;  /* the clock */
    bool forwards;    /* which does not go back */
    uint64_t seen_ms; /* the latest time that the cache has read */

    struct model_event event[MODEL_ENTRIES]; /* of the current operation */
    unsigned n_events, n_accounted;          /* told; and understood */
    long copies, live_keys;     /* key_copy calls; keys copied and not freed */
    long copies_before;         /* the current operation */
    long fail_copy;             /* this call of key_copy fails ... */
    bool fail_later_copies;     /* ... and those behind it; 0 = none */
    bool copy_failed;           /* in the current operation */
    long weighs, weighs_before; /* weigh calls */

    int compute_action; /* what the compute callback is to return */
    uint64_t compute_value;
};

/* --- hooks: what the cache calls ----------------------------------------- */

static inline uint64_t model_now(void *user)
{
    struct model *m = (struct model *)user;

    if (m->now_ms > m->seen_ms)
        m->seen_ms = m->now_ms;
    return m->now_ms;
}

/* Memory that is not zeroed. */
static inline void *model_alloc(size_t bytes, void *user)
{
    void *memory = malloc(bytes);

    (void)user;
    if (memory != NULL)
        memset(memory, 0xa5, bytes);
    return memory;
}

static inline void model_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* Returns what key_copy has to return. */
static inline int model_key_copied(struct model *m)
{
    m->copies++;
    m->copy_failed = m->fail_copy != 0 &&
                     (m->copies == m->fail_copy ||
                      (m->fail_later_copies && m->copies > m->fail_copy));
    if (m->copy_failed)
        return CACHE_ENOMEM;
    m->live_keys++;
    return 0;
}

static inline void model_key_freed(struct model *m)
{
    m->live_keys--;
}

static inline bool model_has(const struct model *m, uint32_t option)
{
    return (m->subject->options & option) != 0;
}

static inline uint64_t model_mix(const struct model *m, unsigned key,
                                 uint64_t value)
{
    uint64_t random = (value << 8 | key) * CACHE__K0 + m->n_steps;

    return test_random(&random);
}

/* The bytes that an entry owns, if it is asked now: seldom as much as the
 * cache holds, one more, or about 2^32. */
static inline uint64_t model_own_bytes(const struct model *m, unsigned key,
                                       uint64_t value)
{
    uint64_t r = model_mix(m, key, value);

    switch (r >> 32 & 63) {
    case 0: return m->config.max_bytes - m->share;
    case 1: return m->config.max_bytes - m->share + 1;
    case 2: return UINT32_MAX - m->share - 1 + (r & 1);
    case 3: return UINT32_MAX - (r & 1);
    case 4: return UINT64_MAX - (r & 1);
    case 5: return 0;
    default: return r % m->own_bytes;
    }
}

static inline uint64_t model_weigh(struct model *m, unsigned key,
                                   uint64_t value)
{
    m->weighs++;
    return model_own_bytes(m, key, value);
}

static inline uint32_t model_cost(struct model *m, unsigned key, uint64_t value)
{
    uint64_t r = model_mix(m, key, value);

    return (uint32_t)(r & 7 ? r >> 40 & 0xfff : r >> 32);
}

/* Looks at the cache from inside a callback: what left must be gone. */
static inline void model_value_left(struct model *m, unsigned key,
                                    uint64_t value, enum cache_cause cause)
{
    const struct model_subject *s = m->subject;
    struct model_cursor at = { 0, 0, 0 };
    const uint64_t *found = s->peek(key);
    struct model_event *event = &m->event[m->n_events++];

    CHECK(m->n_events <= MODEL_ENTRIES);
    event->key = key;
    event->value = value;
    event->cause = cause;
    event->looked = value % 4 == 1;
    event->got = (unsigned)(value / 4 % m->n_keys);
    CHECK(found == NULL ||
          (cause == CACHE_CAUSE_REPLACED && *found == m->last_value));
    CHECK(s->memory().used_bytes <= m->config.max_bytes);
    if (value % 4 == 0) {
        while (s->next(&at))
            CHECK(at.value != value);
        CHECK_SOUND(s->check());
    }
    if (event->looked) {
        found = s->get(event->got);
        event->found = found != NULL;
        event->found_value = found != NULL ? *found : 0;
    }
}

/* --- time ---------------------------------------------------------------- */

/* The tick that the cache is in, if it looks now: it never falls. */
static inline uint64_t model_tick_now(const struct model *m)
{
    uint64_t ms = m->now_ms > m->seen_ms ? m->now_ms : m->seen_ms;

    return (ms - MODEL_START) / m->config.tick_ms;
}

static inline bool model_expired(const struct model *m,
                                 const struct model_entry *e)
{
    return e->deadline != 0 && e->deadline <= model_tick_now(m);
}

/* A life that ends inside a tick ends at the start of it. */
static inline int model_deadline(const struct model *m, uint64_t ttl_ms,
                                 uint64_t *deadline)
{
    uint64_t tick_ms = m->config.tick_ms;
    uint64_t now, tick_start;

    *deadline = 0;
    if (!model_has(m, CACHE_EXPIRY) || ttl_ms == CACHE_NEVER)
        return 0;
    tick_start = MODEL_START + model_tick_now(m) * tick_ms;
    now = m->now_ms > tick_start ? m->now_ms : tick_start;
    if (ttl_ms < tick_ms || ttl_ms > UINT32_MAX * tick_ms)
        return CACHE_ETTL;
    *deadline = (now - MODEL_START + ttl_ms) / tick_ms;
    return *deadline > UINT32_MAX - 2 ? CACHE_ETTL : 0;
}

static inline uint64_t model_default_ttl(const struct model *m)
{
    return m->config.ttl_ms ? m->config.ttl_ms : CACHE_NEVER;
}

/* --- entries and policy -------------------------------------------------- */

static inline bool model_is(const struct model *m, uint32_t policy)
{
    return m->policy == policy;
}

static inline bool model_knows_order(const struct model *m)
{
    if (model_is(m, CACHE_FIFO) || model_is(m, CACHE_LRU))
        return true;
    return (model_is(m, CACHE_SIEVE) || model_is(m, CACHE_CLOCK)) &&
           (!model_has(m, CACHE_EXPIRY) || m->config.capacity <= MODEL_SWEPT);
}

static inline struct model_entry *model_find(struct model *m, unsigned key)
{
    unsigned i;

    for (i = 0; i < m->len; i++)
        if (m->entry[i].key == key)
            return &m->entry[i];
    return NULL;
}

static inline struct model_entry *model_find_live(struct model *m, unsigned key)
{
    struct model_entry *e = model_find(m, key);

    return e != NULL && !model_expired(m, e) ? e : NULL;
}

static inline void model_take_out(struct model *m, struct model_entry *e)
{
    int at = (int)(e - m->entry);

    m->n_pinned -= e->pins != 0;
    m->len--;
    memmove(e, e + 1, (m->len - (unsigned)at) * sizeof *e);
    if (m->hand > at)
        m->hand--;
    if (m->hand == (int)m->len)
        m->hand = -1;
}

/* The entry becomes the newest. */
static inline struct model_entry *model_append(struct model *m,
                                               const struct model_entry *e)
{
    m->entry[m->len] = *e;
    return &m->entry[m->len++];
}

static inline struct model_entry *model_used(struct model *m,
                                             struct model_entry *e)
{
    struct model_entry copy;

    e->accessed = model_tick_now(m);
    copy = *e;
    if (e->pins != 0)
        return e;
    e->visited = true;
    if (!model_is(m, CACHE_LRU))
        return e;
    model_take_out(m, e);
    return model_append(m, &copy);
}

static inline struct model_entry *model_pin(struct model *m,
                                            struct model_entry *e)
{
    struct model_entry copy = *e;

    if (e->pins++ != 0)
        return e;
    copy.pins = 1;
    e->pins = 0;
    model_take_out(m, e);
    memmove(m->entry + 1, m->entry, m->len * sizeof *e);
    if (m->hand >= 0)
        m->hand++;
    m->n_pinned++;
    m->len++;
    m->entry[0] = copy;
    return &m->entry[0];
}

/* With its last pin taken back it is one that has just come. */
static inline struct model_entry *model_unpin(struct model *m,
                                              struct model_entry *e)
{
    struct model_entry copy = *e;

    if (e->pins > 1) {
        e->pins--;
        return e;
    }
    copy.pins = 0;
    copy.visited = false;
    model_take_out(m, e);
    return model_append(m, &copy);
}

static inline struct model_entry *model_sieve_victim(struct model *m)
{
    unsigned at = m->hand < 0 ? m->n_pinned : (unsigned)m->hand;

    while (m->entry[at].visited) {
        m->entry[at].visited = false;
        at = at + 1 < m->len ? at + 1 : m->n_pinned;
    }
    m->hand = (int)at;
    return &m->entry[at];
}

static inline unsigned model_next_slot(const struct model *m, unsigned slot)
{
    return slot % (unsigned)m->config.capacity + 1;
}

static inline struct model_entry *model_clock_victim(struct model *m)
{
    unsigned i;

    for (;; m->clock_hand = model_next_slot(m, m->clock_hand))
        for (i = m->n_pinned; i < m->len; i++)
            if (m->entry[i].slot == m->clock_hand) {
                if (!m->entry[i].visited)
                    return &m->entry[i];
                m->entry[i].visited = false;
            }
}

/* Who has to leave.  `told` is who left. */
static inline struct model_entry *model_victim(struct model *m,
                                               struct model_entry *told)
{
    CHECK(m->n_pinned < m->len);
    if (!model_knows_order(m))
        return told;
    return model_is(m, CACHE_SIEVE)   ? model_sieve_victim(m)
           : model_is(m, CACHE_CLOCK) ? model_clock_victim(m)
                                      : &m->entry[m->n_pinned];
}

/* What may be reclaimed: not what is pinned. */
static inline bool model_any_expired(const struct model *m)
{
    unsigned i;

    for (i = m->n_pinned; i < m->len; i++)
        if (model_expired(m, &m->entry[i]))
            return true;
    return false;
}

/* --- weights ------------------------------------------------------------- */

static inline uint64_t model_used_bytes(const struct model *m)
{
    uint64_t bytes = 0;
    unsigned i;

    for (i = 0; i < m->len; i++)
        bytes += m->entry[i].weight;
    return bytes;
}

/* The cache has asked once what this value weighs, and was told this. */
static inline uint64_t model_weight(struct model *m, unsigned key,
                                    uint64_t value)
{
    uint64_t own;

    if (!model_has(m, CACHE_WEIGHED))
        return 0;
    m->weighs_before++;
    own = model_own_bytes(m, key, value);
    return own < UINT32_MAX ? own + m->share : UINT32_MAX;
}

/* There is room, or can be made, for a weight in place of `e` (or of none). */
static inline bool model_fits(const struct model *m,
                              const struct model_entry *e, uint64_t weight)
{
    uint64_t n = 0, bytes = 0;
    unsigned i;

    for (i = 0; i < m->n_pinned; i++)
        if (&m->entry[i] != e) {
            bytes += m->entry[i].weight;
            n++;
        }
    return n < m->config.capacity &&
           (!model_has(m, CACHE_WEIGHED) ||
            (weight < UINT32_MAX && bytes + weight <= m->config.max_bytes));
}

/* --- what the callbacks told --------------------------------------------- */

/* The next event is that a value left for this cause. */
static inline const struct model_event *
model_next_event(struct model *m, const struct model_entry *e,
                 enum cache_cause cause)
{
    const struct model_event *event = &m->event[m->n_accounted++];

    CHECK(m->n_accounted <= m->n_events);
    CHECK_EQ(event->cause, cause);
    CHECK_EQ(event->key, e->key);
    CHECK_EQ(event->value, e->value);
    return event;
}

/* --- metadata ------------------------------------------------------------ */

/* The entry has a value that was just stored. */
static inline void model_versioned(struct model *m, struct model_entry *e)
{
    struct cache_entry seen;

    if (!model_has(m, CACHE_META_VERSION))
        return;
    CHECK_EQ(m->subject->entry(e->key, &seen), 0);
    CHECK(m->given != 0 ? seen.version == m->given : seen.version > m->newest);
    e->version = seen.version;
    if (e->version > m->newest)
        m->newest = e->version;
}

static inline uint64_t model_ms(const struct model *m, uint64_t tick)
{
    return MODEL_START + tick * m->config.tick_ms;
}

/* All that is known of an entry.  What is off is 0. */
static inline void model_knows(struct model *m, unsigned key)
{
    struct cache_entry expected, seen;
    struct model_entry *e;
    int rc;

    memset(&seen, 0xa5, sizeof seen);
    expected = seen;
    rc = m->subject->entry(key, &seen);
    e = model_find_live(m, key);
    CHECK_EQ(rc, e != NULL ? 0 : CACHE_EKEY);
    if (e != NULL)
        memset(&expected, 0, sizeof expected);
    if (e != NULL && model_has(m, CACHE_META_TIMES)) {
        expected.created_ms = model_ms(m, e->created);
        expected.accessed_ms = model_ms(m, e->accessed);
    }
    if (e != NULL && model_has(m, CACHE_EXPIRY))
        expected.expires_ms =
            e->deadline ? model_ms(m, e->deadline) : CACHE_NEVER;
    if (e != NULL && model_has(m, CACHE_META_COUNT))
        expected.count = e->count;
    if (e != NULL) {
        expected.version = e->version;
        expected.weight_bytes = (uint32_t)e->weight;
    }
    CHECK_EQ(seen.created_ms, expected.created_ms);
    CHECK_EQ(seen.accessed_ms, expected.accessed_ms);
    CHECK_EQ(seen.expires_ms, expected.expires_ms);
    CHECK_EQ(seen.version, expected.version);
    CHECK_EQ(seen.count, expected.count);
    CHECK_EQ(seen.weight_bytes, expected.weight_bytes);
}

/* A look-up's result is this entry's value; NULL = nothing was to be found. */
static inline void model_same(const uint64_t *found,
                              const struct model_entry *e)
{
    CHECK_EQ(found != NULL, e != NULL);
    if (e != NULL)
        CHECK_EQ(*found, e->value);
}

static inline void model_got(struct model *m, unsigned key,
                             const uint64_t *found)
{
    struct model_entry *e = model_find_live(m, key);

    model_same(found, e);
    m->stats.hits += e != NULL;
    m->stats.misses += e == NULL;
    if (e != NULL)
        model_used(m, e)->count++;
}

/* on_remove may have called get. */
static inline void model_looked(struct model *m,
                                const struct model_event *event)
{
    if (event->looked)
        model_got(m, event->got, event->found ? &event->found_value : NULL);
}

/* The entry leaves. */
static inline void model_leaves(struct model *m, struct model_entry *e,
                                enum cache_cause cause)
{
    const struct model_event *event = model_next_event(m, e, cause);

    m->stats.evictions += cause == CACHE_CAUSE_EVICTED;
    m->stats.expirations += cause == CACHE_CAUSE_EXPIRED;
    m->stats.removes += cause == CACHE_CAUSE_REMOVED;
    if (cause == CACHE_CAUSE_EVICTED)
        m->clock_hand = model_next_slot(m, e->slot);
    m->freed[m->n_freed++] = e->slot;
    model_take_out(m, e);
    model_looked(m, event);
}

/* The next event is that an expired entry was reclaimed, whichever it is. */
static inline void model_reclaimed(struct model *m)
{
    struct model_entry *e = model_find(m, m->event[m->n_accounted].key);

    CHECK(e != NULL && model_expired(m, e) && e->pins == 0);
    model_leaves(m, e, CACHE_CAUSE_EXPIRED);
}

/* There is no room: somebody has left. */
static inline void model_one_leaves(struct model *m)
{
    struct model_entry *e;

    CHECK(m->n_accounted < m->n_events);
    if (m->event[m->n_accounted].cause == CACHE_CAUSE_EXPIRED) {
        model_reclaimed(m);
        return;
    }
    CHECK(m->config.capacity > MODEL_SWEPT || !model_any_expired(m));
    e = model_victim(m, model_find(m, m->event[m->n_accounted].key));
    CHECK(e != NULL && !model_expired(m, e) && e->pins == 0);
    model_leaves(m, e, CACHE_CAUSE_EVICTED);
}

static inline int model_insert(struct model *m, unsigned key, uint64_t value,
                               uint64_t deadline)
{
    struct model_entry *dead = model_find(m, key);
    struct model_entry e;

    memset(&e, 0, sizeof e);
    e.key = key;
    e.value = value;
    e.deadline = deadline;
    e.weight = model_weight(m, key, value);
    if (!model_fits(m, dead, e.weight))
        return CACHE_EFULL;
    if (m->subject->copies_keys)
        CHECK_EQ(m->copies, ++m->copies_before);
    if (m->copy_failed)
        return CACHE_ENOMEM;
    if (dead != NULL)
        model_leaves(m, dead, CACHE_CAUSE_EXPIRED);
    while (m->len == m->config.capacity ||
           model_used_bytes(m) + e.weight > m->config.max_bytes)
        model_one_leaves(m);
    e.slot = m->n_freed > 0 ? m->freed[--m->n_freed] : ++m->fresh;
    e.created = e.accessed = model_tick_now(m);
    model_versioned(m, model_append(m, &e));
    m->stats.inserts++;
    return 0;
}

/* The entry is to have a value of another weight.  Others leave where they
 * must, never itself: meanwhile it is as if pinned. */
static inline int model_settle(struct model *m, struct model_entry **e,
                               uint64_t value)
{
    uint64_t weight = model_weight(m, (*e)->key, value);
    const uint64_t limit = m->config.max_bytes;

    if (!model_fits(m, *e, weight))
        return CACHE_EFULL;
    if (model_used_bytes(m) - (*e)->weight + weight > limit) {
        *e = model_pin(m, *e);
        while (model_used_bytes(m) - (*e)->weight + weight > limit)
            model_one_leaves(m);
        *e = model_unpin(m, *e);
    }
    (*e)->weight = weight;
    return 0;
}

/* The entry has another value, which counts as a use. */
static inline void model_has_value(struct model *m, struct model_entry *e,
                                   uint64_t value)
{
    e->value = value;
    if (e->pins != 0)
        e->at = m->subject->peek(e->key);
    model_versioned(m, model_used(m, e));
}

static inline int model_replaced(struct model *m, struct model_entry *e,
                                 uint64_t value, uint64_t deadline)
{
    const struct model_event *event;
    int rc = model_settle(m, &e, value);

    if (rc != 0)
        return rc;
    event = model_next_event(m, e, CACHE_CAUSE_REPLACED);
    e->deadline = deadline;
    model_has_value(m, e, value);
    m->stats.replaces++;
    model_looked(m, event);
    return 0;
}

/* --- around each operation ----------------------------------------------- */

static inline void model_begin(struct model *m)
{
    m->n_events = m->n_accounted = 0;
    m->copies_before = m->copies;
    m->copy_failed = false;
    m->weighs_before = m->weighs;
    m->n_steps++;
}

static inline void model_end(struct model *m)
{
    const struct model_subject *s = m->subject;
    struct cache_memory memory = s->memory();
    struct cache_stats stats;
    unsigned i;

    CHECK_EQ(m->n_accounted, m->n_events);
    CHECK_EQ(m->copies, m->copies_before);
    CHECK_EQ(m->weighs, m->weighs_before);
    CHECK_EQ(s->len(), m->len);
    CHECK_EQ(memory.used_bytes, model_used_bytes(m));
    CHECK(memory.used_bytes <= m->config.max_bytes);
    CHECK_SOUND(s->check());
    for (i = 0; i < m->n_pinned; i++)
        CHECK_EQ(*m->entry[i].at, m->entry[i].value);
    if (s->copies_keys)
        CHECK_EQ(m->live_keys, m->len);
    CHECK_EQ(s->stats(&stats), model_has(m, CACHE_STATS) ? 0 : CACHE_EINVAL);
    if (model_has(m, CACHE_STATS))
        CHECK(memcmp(&stats, &m->stats, sizeof stats) == 0);
}

/* --- operations: each takes its arguments from the bits of r ------------- */

static inline unsigned model_key(const struct model *m, uint64_t r)
{
    return (unsigned)((r >> 32) % m->n_keys);
}

/* Mostly a few ticks; sometimes one that is refused, or no end. */
static inline uint64_t model_ttl(const struct model *m, uint64_t r)
{
    uint64_t tick_ms = m->config.tick_ms;

    switch ((r >> 16) % 16) {
    case 0: return CACHE_NEVER;
    case 1: return CACHE_NEVER - 1;
    case 2: return 0;
    case 3: return tick_ms - 1;
    case 4: return UINT32_MAX * tick_ms;
    case 5: return tick_ms;
    default: return tick_ms + (r >> 20) % (6 * tick_ms);
    }
}

static inline void model_op_get(struct model *m, uint64_t r)
{
    model_got(m, model_key(m, r), m->subject->get(model_key(m, r)));
}

static inline void model_op_peek(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);

    model_same(m->subject->peek(key), model_find_live(m, key));
    CHECK_EQ(m->subject->contains(key), model_find_live(m, key) != NULL);
}

static inline void model_op_peek_at_all(struct model *m, uint64_t r)
{
    unsigned key;

    (void)r;
    for (key = 0; key < m->n_keys; key++) {
        model_same(m->subject->peek(key), model_find_live(m, key));
        model_knows(m, key);
    }
}

static inline void model_op_entry(struct model *m, uint64_t r)
{
    model_knows(m, model_key(m, r));
}

/* What all kinds of put have in common.  `if_present` and `if_absent` say
 * where they store. */
static inline int model_put(struct model *m, unsigned key, uint64_t ttl_ms,
                            bool if_present, bool if_absent)
{
    struct model_entry *e;
    uint64_t deadline;
    int rc = model_deadline(m, ttl_ms, &deadline);

    if (rc != 0)
        return rc;
    e = model_find_live(m, key);
    if (!(e != NULL ? if_present : if_absent))
        return CACHE_EKEY;
    if (e == NULL)
        return model_insert(m, key, m->last_value, deadline);
    return model_replaced(m, e, m->last_value, deadline);
}

static inline void model_op_put(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    int rc = m->subject->put(key, ++m->last_value);

    CHECK_EQ(rc, model_put(m, key, model_default_ttl(m), true, true));
}

static inline void model_op_put_ttl(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    int rc = m->subject->put_ttl(key, ++m->last_value, model_ttl(m, r));

    CHECK_EQ(rc, model_has(m, CACHE_EXPIRY)
                     ? model_put(m, key, model_ttl(m, r), true, true)
                     : CACHE_EINVAL);
}

static inline void model_op_put_if_absent(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    int rc = m->subject->put_if_absent(key, ++m->last_value);

    CHECK_EQ(rc, model_put(m, key, model_default_ttl(m), false, true));
}

static inline void model_op_replace(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    int rc = m->subject->replace(key, ++m->last_value);

    CHECK_EQ(rc, model_put(m, key, model_default_ttl(m), true, false));
}

/* Mostly that of the entry, or near it; or none, or one of any value. */
static inline uint64_t model_version(struct model *m, unsigned key, uint64_t r)
{
    struct model_entry *e = model_find(m, key); /* expired or not */
    uint64_t has = e != NULL ? e->version : m->newest / 2;

    switch ((r >> 24) % 16) {
    case 0: return 0;
    case 1: return has + 1;
    case 2: return has - 1;
    case 3: return m->newest + (r >> 40) % 5;
    case 4: return (r >> 40) % (m->newest + 1);
    case 5: return r & 0x700000 ? has : UINT64_MAX;
    case 6: return r & 0xff00000 ? has + 7 : CACHE_MAX_VERSION;
    case 7: return r & 0x700000 ? has : CACHE_MAX_VERSION + 1;
    default: return has;
    }
}

static inline void model_op_put_if_version(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    uint64_t version = model_version(m, key, r), deadline;
    int rc = m->subject->put_if_version(key, ++m->last_value, version);
    struct model_entry *e = model_find_live(m, key);
    int expected = model_deadline(m, model_default_ttl(m), &deadline);

    if (!model_has(m, CACHE_META_VERSION))
        expected = CACHE_EINVAL;
    else if (expected == 0 && version != (e != NULL ? e->version : 0))
        expected = CACHE_ECONFLICT;
    if (expected == 0)
        expected = model_put(m, key, model_default_ttl(m), true, true);
    CHECK_EQ(rc, expected);
    model_knows(m, key);
}

static inline void model_op_put_version(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    uint64_t version = model_version(m, key, r >> 2), deadline;
    uint64_t ttl_ms = model_has(m, CACHE_EXPIRY) || r >> 16 & 7
                          ? model_ttl(m, r)
                          : CACHE_NEVER;
    int rc = m->subject->put_version(key, ++m->last_value, ttl_ms, version);
    struct model_entry *e = model_find_live(m, key);
    int expected = model_deadline(m, ttl_ms, &deadline);

    if (!model_has(m, CACHE_META_VERSION) || version == 0 ||
        version > CACHE_MAX_VERSION ||
        (!model_has(m, CACHE_EXPIRY) && ttl_ms != CACHE_NEVER))
        expected = CACHE_EINVAL;
    else if (expected == 0 && e != NULL && e->version >= version)
        expected = CACHE_ECONFLICT;
    m->given = version;
    if (expected == 0)
        expected = model_put(m, key, ttl_ms, true, true);
    m->given = 0;
    CHECK_EQ(rc, expected);
    model_knows(m, key);
}

static inline void model_op_get_or_insert(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    struct model_entry *e = model_find_live(m, key);
    bool inserted = r & 1;
    const uint64_t *found =
        m->subject->get_or_insert(key, ++m->last_value, &inserted);
    int rc = 0;

    m->stats.hits += e != NULL;
    m->stats.misses += e == NULL;
    if (e != NULL)
        model_used(m, e)->count++;
    else
        rc = model_put(m, key, model_default_ttl(m), false, true);
    CHECK_EQ(inserted, e == NULL && rc == 0);
    model_same(found, rc == 0 ? model_find(m, key) : NULL);
}

/* The callback of compute; returns what it has to return. */
static inline int model_computes(struct model *m, unsigned key, uint64_t *value,
                                 bool present)
{
    struct model_entry *e = model_find_live(m, key);

    CHECK_EQ(present, e != NULL);
    CHECK_EQ(*value, e != NULL ? e->value : 0);
    *value = m->compute_value;
    return m->compute_action;
}

static inline void model_op_compute(struct model *m, uint64_t r)
{
    static const int actions[] = {
        CACHE_COMPUTE_KEEP,
        CACHE_COMPUTE_STORE,
        CACHE_COMPUTE_STORE,
        CACHE_COMPUTE_STORE,
        CACHE_COMPUTE_REMOVE,
        MODEL_UNKNOWN,
        -7,
    };
    unsigned key = model_key(m, r);
    struct model_entry *e = model_find_live(m, key);
    uint64_t deadline;
    int expected, rc, action;

    action = actions[(r >> 16) % (sizeof actions / sizeof *actions)];
    m->compute_action = action;
    m->compute_value = ++m->last_value;
    rc = m->subject->compute(key, m);
    expected = model_deadline(m, model_default_ttl(m), &deadline);
    if (expected != 0) {
        CHECK_EQ(rc, expected);
        return;
    }
    expected = action < 0 ? action : action > 2 ? CACHE_EINVAL : 0;
    if (action == CACHE_COMPUTE_REMOVE && e != NULL)
        model_leaves(m, e, CACHE_CAUSE_REMOVED);
    if (action == CACHE_COMPUTE_STORE && e != NULL) {
        expected = model_settle(m, &e, m->compute_value);
        if (expected == 0)
            model_has_value(m, e, m->compute_value);
        CHECK_EQ(rc, expected);
        return;
    }
    if (action == CACHE_COMPUTE_STORE && e == NULL)
        expected = model_insert(m, key, m->compute_value, deadline);
    CHECK_EQ(rc, expected);
}

static inline void model_op_touch_ttl(struct model *m, uint64_t r)
{
    struct model_entry *e = model_find_live(m, model_key(m, r));
    uint64_t deadline;
    int rc = m->subject->touch_ttl(model_key(m, r), model_ttl(m, r));
    int expected = model_deadline(m, model_ttl(m, r), &deadline);

    if (!model_has(m, CACHE_EXPIRY))
        expected = CACHE_EINVAL;
    else if (expected == 0 && e == NULL)
        expected = CACHE_EKEY;
    CHECK_EQ(rc, expected);
    if (expected == 0)
        e->deadline = deadline;
}

static inline void model_op_remove(struct model *m, uint64_t r)
{
    struct model_entry *e = model_find_live(m, model_key(m, r));

    CHECK_EQ(m->subject->remove(model_key(m, r)), e ? 0 : CACHE_EKEY);
    if (e != NULL)
        model_leaves(m, e, CACHE_CAUSE_REMOVED);
}

static inline void model_op_pin(struct model *m, uint64_t r)
{
    unsigned key = model_key(m, r);
    struct model_entry *e = model_find_live(m, key);

    if (e != NULL && e->pins == MODEL_PINS)
        return;
    CHECK_EQ(m->subject->pin(key), !model_has(m, CACHE_PINS) ? CACHE_EINVAL
                                   : e == NULL               ? CACHE_EKEY
                                                             : 0);
    if (model_has(m, CACHE_PINS) && e != NULL)
        model_pin(m, e)->at = m->subject->peek(key);
}

/* Mostly of what is pinned, so that pins do not pile up. */
static inline void model_op_unpin(struct model *m, uint64_t r)
{
    unsigned key = m->n_pinned > 0 && r >> 16 & 3
                       ? m->entry[(r >> 32) % m->n_pinned].key
                       : model_key(m, r);
    struct model_entry *e = model_find(m, key); /* expired or not */
    bool pinned = e != NULL && e->pins != 0;

    CHECK_EQ(m->subject->unpin(key), !model_has(m, CACHE_PINS) ? CACHE_EINVAL
                                     : !pinned                 ? CACHE_EKEY
                                                               : 0);
    if (pinned)
        model_unpin(m, e);
}

static inline void model_cleared(struct model *m)
{
    struct model_entry *e;

    while (m->len > 0) {
        CHECK(m->n_accounted < m->n_events);
        e = model_find(m, m->event[m->n_accounted].key);
        CHECK(e != NULL);
        model_leaves(m, e, CACHE_CAUSE_CLEARED);
    }
    m->hand = -1;
    m->clock_hand = 1;
    m->n_freed = m->fresh = 0;
}

static inline void model_op_clear(struct model *m, uint64_t r)
{
    if (r >> 16 & 7) /* seldom, or the cache is never full */
        return;
    CHECK_EQ(m->subject->clear(), 0);
    model_cleared(m);
}

static inline void model_op_tick(struct model *m, uint64_t r)
{
    uint32_t max_items = (uint32_t)(r >> 16) % 7;
    uint32_t backlog = m->subject->tick(max_items);

    CHECK(m->n_events <= max_items);
    CHECK(backlog <= m->config.capacity);
    while (m->n_accounted < m->n_events)
        model_reclaimed(m);
    CHECK(backlog > 0 || !model_any_expired(m));
}

/* A few calls must get to the end, however far the sweep was. */
static inline void model_op_tick_all(struct model *m, uint64_t r)
{
    uint32_t max_items = 1 + (uint32_t)(r >> 16) % 7, rounds = 0;

    while (m->subject->tick(max_items) != 0)
        CHECK(++rounds <= 2 * m->config.capacity / max_items + 2);
    while (m->n_accounted < m->n_events)
        model_reclaimed(m);
    CHECK(!model_any_expired(m));
}

static inline void model_op_clock(struct model *m, uint64_t r)
{
    uint64_t tick_ms = m->config.tick_ms, by = (r >> 16) % (2 * tick_ms);

    if (m->forwards && ((r >> 8) % 16) - 1 < 3)
        return;
    switch ((r >> 8) % 16) {
    case 0: m->now_ms += 20 * tick_ms; break;
    case 1: m->now_ms -= by < m->now_ms / 2 ? by : 0; break;
    case 2: m->now_ms = MODEL_START - by; break; /* to before the beginning */
    case 3: m->now_ms = m->seen_ms; break;
    default: m->now_ms += by; break;
    }
}

/* Iterates; meanwhile the current or any other entry may go, or expire. */
static inline void model_op_iterate(struct model *m, uint64_t r)
{
    struct model_cursor at = { 0, 0, 0 };
    bool seen[MODEL_KEYS] = { false };
    uint64_t random = r | 1;
    unsigned i;

    while (m->subject->next(&at)) {
        struct model_entry *e = model_find_live(m, at.key);
        CHECK(e != NULL && !seen[at.key]);
        CHECK_EQ(at.value, e->value);
        seen[at.key] = true;
        switch (test_random(&random) >> 32 & 15) {
        case 0: model_op_remove(m, (uint64_t)at.key << 32); break;
        case 1: model_op_remove(m, test_random(&random)); break;
        case 2: model_op_clock(m, test_random(&random)); break;
        }
    }
    for (i = 0; i < m->len; i++)
        CHECK(seen[m->entry[i].key] || model_expired(m, &m->entry[i]));
}

/* --- the interpreter ----------------------------------------------------- */

static const struct {
    unsigned weight;
    void (*run)(struct model *m, uint64_t r);
} model_ops[] = {
    { 16, model_op_put },
    { 12, model_op_get },
    { 8, model_op_put_ttl },
    { 8, model_op_get_or_insert },
    { 6, model_op_compute },
    { 6, model_op_clock },
    { 4, model_op_put_if_absent },
    { 4, model_op_replace },
    { 4, model_op_touch_ttl },
    { 4, model_op_remove },
    { 4, model_op_pin },
    { 5, model_op_unpin },
    { 4, model_op_tick },
    { 3, model_op_peek },
    { 2, model_op_peek_at_all },
    { 1, model_op_tick_all },
    { 1, model_op_iterate },
    { 1, model_op_clear },
    { 4, model_op_put_if_version },
    { 4, model_op_put_version },
    { 4, model_op_entry },
};

static inline void model_step(struct model *m, uint64_t r)
{
    const size_t n_ops = sizeof model_ops / sizeof *model_ops;
    unsigned weights = 0, choice;
    size_t i;

    for (i = 0; i < n_ops; i++)
        weights += model_ops[i].weight;
    choice = (unsigned)(r & 0xffff) % weights;
    for (i = 0; choice >= model_ops[i].weight; i++)
        choice -= model_ops[i].weight;
    model_begin(m);
    model_ops[i].run(m, r);
    model_end(m);
}

/* A limit of one to twice as many entries as most are, in a cache of small
 * entries or of ones that weigh about 2^32. */
static inline void model_init_weights(struct model *m, uint64_t r)
{
    struct cache_config *config = &m->config;
    size_t capacity = config->capacity;

    config->max_bytes = UINT64_MAX;
    m->share = (m->subject->memory_needed(config) + capacity - 1) / capacity;
    m->own_bytes = (r & 0x70) == 0 ? UINT32_MAX : 2 * m->share;
    config->max_bytes = m->share + (r >> 24) % (m->own_bytes * capacity);
}

/* The rest of the config comes from the bits of r.  `policy` is 0 where the
 * type says which. */
static inline void model_init(struct model *m,
                              const struct model_subject *subject,
                              uint32_t policy, uint32_t capacity, uint64_t r)
{
    static const uint32_t tick_ms[] = { 1, 7, 50, 1000 };
    struct cache_config *config = &m->config;

    memset(m, 0, sizeof *m);
    m->subject = subject;
    m->policy = policy ? policy : subject->options & CACHE__POLICY_BITS;
    m->hand = -1;
    m->clock_hand = 1;
    m->now_ms = m->seen_ms = MODEL_START;
    m->n_keys = capacity + 1 + (unsigned)(r >> 8) % (capacity + 2);
    config->capacity = capacity;
    config->policy = policy;
    config->seed = r;
    config->user = m;
    config->now = model_now;
    if (r & 1) {
        config->alloc = model_alloc;
        config->free = model_free;
    }
    if (model_has(m, CACHE_EXPIRY) || model_has(m, CACHE_META_TIMES)) {
        config->tick_ms = tick_ms[r >> 1 & 3];
        if ((r & 8) && model_has(m, CACHE_EXPIRY))
            config->ttl_ms = config->tick_ms * (1 + (r >> 16) % 8);
    }
    if (model_has(m, CACHE_WEIGHED))
        model_init_weights(m, r);
    CHECK_EQ(subject->init(config), 0);
    CHECK_EQ(subject->memory().entry_bytes, m->share);
    if (config->tick_ms == 0) /* no time: any will do to make a ttl of */
        config->tick_ms = CACHE_DEFAULT_TICK_MS;
}

static inline void model_destroy(struct model *m)
{
    model_begin(m);
    m->subject->destroy();
    model_cleared(m);
    CHECK_EQ(m->n_accounted, m->n_events);
    CHECK_EQ(m->live_keys, 0);
}

#endif /* MODEL_H */
