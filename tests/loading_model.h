/*
 * loading_model.h - a loading cache that is slow and obviously right, and what
 * the caches of cache_loading.h are compared with.
 *
 * An operation is carried out by the cache first.  Whatever it calls, callbacks,
 * loaders, stores, the allocator, writes a line to the journal: who was called,
 * with what, and what he answered.  Then the model does the same operation, says
 * which line comes next, in turn, and takes from it only what it cannot know:
 * what a loader or store answered, who was evicted.  Everything else it
 * predicts: a line that is not the one, or that is left over, is a failure.
 *
 * Keys are numbers below LM_KEYS, values are numbers.  Entries, claims and dirty
 * writes are arrays, there is no hash, and time is a number of milliseconds.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef LOADING_MODEL_H
#define LOADING_MODEL_H

#include "cache_loading.h"
#include "tests/test.h"

enum {
    LM_KEYS = 24,
    LM_MANY = 12,    /* keys of one operation */
    LM_CLAIMS = 16,  /* records at most */
    LM_SLOTS = 6,    /* claims that the test holds */
    LM_LINES = 4096, /* of the journal, for one operation */
    LM_OPS = 64      /* of one step: with those inside of loaders */
};

#define LM_FOREVER UINT64_MAX
#define LM_UNTOUCHED UINT64_C(0xfeedfeedfeedfeed)
#define LM_WALL_MS UINT64_C(1000000) /* the wall clock is ahead by so much */

/* --- the journal --------------------------------------------------------- */

enum lm_what {
    LM_EVENT,  /* .on_event: kind, key, value, cause, status, n */
    LM_LEFT,   /* .on_remove: key, value, cause */
    LM_RETAIN, /* value */
    LM_ALLOC,  /* status: 0 or CACHE_ENOMEM */
    LM_COPY,   /* .key_copy: status */
    LM_SUBMIT, /* a batch of n to config.store: status */
    LM_LOADED, /* a key was loaded: what came */
    LM_STORED, /* a value was written, or none */
    LM_LETTER, /* the hook of dead letters: key */
    LM_TIME,   /* it is so late now: value */
    LM_INSIDE  /* a loader did an operation of its own */
};

struct lm_op;

struct lm_line {
    enum lm_what what;
    enum cache_event_kind kind;
    unsigned key;
    bool has_value;
    uint64_t value;
    enum cache_cause cause;
    int status;
    size_t n;
    struct cache_loaded loaded; /* LOADED */
    uint64_t expires_ms;        /* LOADED by a store, STORED */
    uint64_t version;           /* STORED */
    struct lm_op *op;           /* INSIDE */
};

/* --- operations ---------------------------------------------------------- */

enum lm_kind {
    LM_CLAIM,
    LM_COMMIT,
    LM_COMMIT_NEGATIVE,
    LM_ABANDON,
    LM_GET,
    LM_GET_MANY,
    LM_PEEK,
    LM_LOAD,
    LM_LOAD_MANY,
    LM_PUT,
    LM_PUT_TTL,
    LM_PUT_MANY,
    LM_REMOVE,
    LM_REMOVE_MANY,
    LM_INVALIDATE,
    LM_INVALIDATE_KEY,
    LM_FLUSH,
    LM_TICK,
    LM_PUT_IF_VERSION,
    LM_ENTRY,
    LM_EACH,
    LM_CLOSE,
    LM_KINDS
};

/* What is asked for, and what the cache has answered. */
struct lm_op {
    enum lm_kind kind;
    unsigned keys[LM_MANY];
    uint64_t values[LM_MANY];
    size_t n;
    unsigned slot; /* of the claim */
    bool with;     /* name_.._with, with these: */
    struct cache_reading reading;
    struct cache_writing writing;
    struct cache_freshness freshness; /* writing.freshness, or unused */
    struct cache_loaded loaded;
    bool loader;      /* a function is given; or the strategy's */
    bool want_out;    /* abandon: *out is given */
    bool want_status; /* many: status is given */
    int error;        /* abandon */
    uint64_t ttl_ms;
    enum cache_invalidation how;
    uint32_t budget; /* each: as many values, and one more */
    uint64_t expected;
    bool want_version; /* writing.version points to: */
    uint64_t version;

    int rc;
    struct cache_loading_entry entry;
    uint32_t n_seen; /* by each: */
    unsigned seen[LM_KEYS];
    uint64_t seen_values[LM_KEYS];
    size_t n_missing;
    bool claimed, peeked;
    uint64_t out[LM_MANY];
    int status[LM_MANY];
    size_t missing[LM_MANY];
    uint64_t n_lost;
};

/* --- the model ----------------------------------------------------------- */

enum lm_verdict {
    LM_FRESH,
    LM_REFRESH,
    LM_STALE,
    LM_FALLBACK,
    LM_FAILED,
    LM_NEGATIVE,
    LM_GONE
};

/* Ticks; LM_FOREVER does not come. */
struct lm_life {
    uint64_t refresh, fresh, stale, dead;
    uint64_t birth;
    bool failed;
    int error;  /* 0 = there is a value */
    bool draws; /* the jitter is not known yet: of this */
    struct cache_freshness freshness;
    uint64_t ttl_ms, lifetime_ms, put_ms;
};

struct lm_cell {
    bool there; /* in memory, though it may be over */
    uint64_t value;
    struct lm_life life;
    uint64_t over; /* the tick at which the cells forget it */
    uint64_t version;
};

struct lm_record {
    bool used, linked, writes, overtaken, skip_write;
    unsigned key;
    uint64_t id, lapse_ms, birth;
};

struct lm_dirty {
    bool dirty, removal, retrying;
    uint64_t value, expires_ms;
    uint32_t attempts;
};

/* What the model has to know of a type. */
struct lm_subject {
    const char *name;
    uint32_t options;
    bool shared, copies, events, removes, retains;
    bool load, load_many, store, store_many; /* callbacks */
    const struct cache_codec *key_codec;
    unsigned (*number)(const void *key);
    struct cache_front *front;
    int (*init)(const struct cache_loading_config *config);
    void (*run)(struct lm_op *op);
    void (*destroy)(void);
    int (*stats)(struct cache_loading_stats *out);
    uint32_t (*len)(void);
    struct cache_memory (*memory)(void);
    const char *(*check)(void);
    bool (*contains)(unsigned key); /* of the cells */
    bool (*life)(unsigned key, struct cache_life *out);
    uint64_t (*version)(unsigned key); /* 0 = there is none */
};

struct lm {
    const struct lm_subject *subject;
    struct cache_loading_config config; /* with the defaults filled in */
    bool evicts;                        /* the cells may have no room */
    uint64_t now_ms, start_ms;
    uint64_t epoch, soft, hard;
    uint64_t epochs_left; /* until all begins anew */
    struct lm_cell cells[LM_KEYS];
    struct lm_record records[LM_CLAIMS];
    struct lm_dirty dirty[LM_KEYS];
    uint64_t version[LM_KEYS]; /* the last that the store was told */
    uint64_t latest;           /* the highest that the cells ever had */
    uint64_t held[LM_SLOTS];   /* ids of the claims that the test has */
    uint64_t id;
    uint64_t expired_or_not; /* cells that left for either of two causes */
    struct cache_loading_stats stats;
    bool closed;

    struct lm_line lines[LM_LINES];
    size_t n_lines, at;
};

/* A value that no cache with weights has room for. */
static inline bool lm_is_heavy(uint64_t value)
{
    return value % 64 == 63;
}

static inline uint64_t lm_weigh(uint64_t value)
{
    return lm_is_heavy(value) ? UINT64_C(1) << 40 : value % 50;
}

/* --- the journal: writing and reading ------------------------------------ */

static inline struct lm_line *lm_write(struct lm *m, enum lm_what what)
{
    struct lm_line *line = &m->lines[m->n_lines];

    CHECK(m->n_lines < LM_LINES);
    m->n_lines++;
    memset(line, 0, sizeof *line);
    line->what = what;
    return line;
}

static inline const char *lm_what_name(enum lm_what what)
{
    static const char *const names[] = { "event",  "left",   "retain", "alloc",
                                         "copy",   "submit", "loaded", "stored",
                                         "letter", "time",   "inside" };

    return names[what];
}

static inline void lm_print(const struct lm *m)
{
    size_t i;

    for (i = 0; i < m->n_lines; i++) {
        const struct lm_line *l = &m->lines[i];

        printf("%s %2zu %-7s kind %d key %u value %s%llu cause %d status %d "
               "n %zu\n",
               i == m->at ? "->" : "  ", i, lm_what_name(l->what), (int)l->kind,
               l->key, l->has_value ? "" : "(none) ",
               (unsigned long long)l->value, (int)l->cause, l->status, l->n);
    }
}

static inline bool lm_next_is(const struct lm *m, enum lm_what what)
{
    return m->at < m->n_lines && m->lines[m->at].what == what;
}

static inline void lm_do(struct lm *m, struct lm_op *op);

/* What happened inside of a loader or store before it answered. */
static inline void lm_interlude(struct lm *m)
{
    while (lm_next_is(m, LM_TIME) || lm_next_is(m, LM_INSIDE)) {
        const struct lm_line *line = &m->lines[m->at++];

        if (line->what == LM_TIME)
            m->now_ms = line->value;
        else
            lm_do(m, line->op);
    }
}

/* The next line, which must be one of these. */
static inline const struct lm_line *lm_read(struct lm *m, enum lm_what what)
{
    if (!lm_next_is(m, what)) {
        printf("the model expects: %s\n", lm_what_name(what));
        CHECK_STR(m->at < m->n_lines ? lm_what_name(m->lines[m->at].what)
                                     : "the end",
                  lm_what_name(what));
    }
    return &m->lines[m->at++];
}

static inline void lm_event(struct lm *m, enum cache_event_kind kind,
                            unsigned key, const uint64_t *value,
                            enum cache_cause cause, int status)
{
    const struct lm_line *line;

    if (!m->subject->events)
        return;
    line = lm_read(m, LM_EVENT);
    CHECK_EQ(line->kind, kind);
    CHECK_EQ(line->key, key);
    CHECK_EQ(line->has_value, value != NULL);
    if (value)
        CHECK_EQ(line->value, *value);
    CHECK_EQ(line->cause, cause);
    CHECK_EQ(line->status, status);
}

static inline void lm_retain(struct lm *m, uint64_t value)
{
    if (m->subject->retains)
        CHECK_EQ(lm_read(m, LM_RETAIN)->value, value);
}

/* 0, or that there was no memory. */
static inline int lm_alloc(struct lm *m)
{
    return lm_read(m, LM_ALLOC)->status;
}

static inline int lm_copy(struct lm *m)
{
    return m->subject->copies ? lm_read(m, LM_COPY)->status : 0;
}

/* --- time ---------------------------------------------------------------- */

static inline uint64_t lm_tick(const struct lm *m)
{
    return (m->now_ms - m->start_ms) / m->config.cache.tick_ms;
}

/* The tick in which ms from now end. */
static inline uint64_t lm_after(const struct lm *m, uint64_t ms)
{
    return ms == CACHE_NEVER
               ? LM_FOREVER
               : (m->now_ms - m->start_ms + ms) / m->config.cache.tick_ms;
}

static inline uint64_t lm_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The moments of a value whose fresh time is known; CACHE_NEVER. */
static inline void lm_moments(const struct lm *m, struct lm_life *life,
                              uint64_t ttl_ms)
{
    const struct cache_freshness *f = &life->freshness;
    uint64_t spare =
        f->stale_ms > f->stale_if_error_ms ? f->stale_ms : f->stale_if_error_ms;
    uint64_t end =
        life->lifetime_ms ? lm_after(m, life->lifetime_ms) : LM_FOREVER;

    life->refresh = life->fresh = life->stale = life->dead = end;
    if (ttl_ms == CACHE_NEVER)
        return;
    life->dead = lm_min(lm_after(m, ttl_ms + spare), end);
    life->stale = lm_min(lm_after(m, ttl_ms + f->stale_ms), end);
    life->fresh = lm_min(lm_after(m, ttl_ms), end);
    life->refresh = life->fresh;
    if (f->refresh_pct != 0)
        life->refresh =
            lm_min(lm_after(m, ttl_ms * f->refresh_pct / 100), life->fresh);
}

static inline struct lm_life lm_life_of(const struct lm *m,
                                        const struct cache_freshness *f,
                                        uint64_t ttl_ms, uint64_t lifetime_ms,
                                        uint64_t birth)
{
    struct lm_life life;

    memset(&life, 0, sizeof life);
    life.freshness = f ? *f : m->config.freshness;
    life.ttl_ms = ttl_ms                  ? ttl_ms
                  : life.freshness.ttl_ms ? life.freshness.ttl_ms
                                          : CACHE_NEVER;
    life.lifetime_ms = lifetime_ms;
    life.put_ms = m->now_ms;
    life.birth = birth;
    life.draws = life.freshness.jitter_pct != 0 && life.ttl_ms != CACHE_NEVER;
    lm_moments(m, &life, life.ttl_ms);
    return life;
}

static inline struct lm_life
lm_life_of_none(const struct lm *m, uint64_t ttl_ms, uint64_t birth, int error)
{
    struct lm_life life;

    memset(&life, 0, sizeof life);
    life.refresh = life.fresh = life.stale = life.dead = lm_after(m, ttl_ms);
    life.birth = birth;
    life.error = error;
    return life;
}

/* How long the cells are told to keep it. */
static inline uint64_t lm_cell_ms(const struct lm *m,
                                  const struct lm_life *life)
{
    uint64_t tick_ms = m->config.cache.tick_ms, ms = CACHE_NEVER;
    uint64_t idle_ms = m->config.freshness.idle_ms;

    if (life->dead != LM_FOREVER) {
        uint64_t dead_ms = m->start_ms + life->dead * tick_ms;

        ms = dead_ms > m->now_ms ? dead_ms - m->now_ms : 0;
    }
    if (idle_ms != 0 && idle_ms < ms)
        ms = idle_ms;
    return ms < tick_ms ? tick_ms : ms;
}

static inline bool lm_live(const struct lm *m, unsigned key)
{
    return m->cells[key].there && lm_tick(m) < m->cells[key].over;
}

static inline enum lm_verdict lm_verdict_of(const struct lm *m, unsigned key)
{
    const struct lm_life *life = &m->cells[key].life;
    uint64_t tick = lm_tick(m);
    bool fresh = tick < life->fresh && life->birth >= m->soft;

    CHECK(!m->cells[key].there || !life->draws);
    if (!lm_live(m, key) || tick >= life->dead || life->birth < m->hard)
        return LM_GONE;
    if (life->error)
        return fresh ? LM_NEGATIVE : LM_GONE;
    if (fresh)
        return tick < life->refresh ? LM_FRESH : LM_REFRESH;
    if (life->failed && tick < life->refresh)
        return LM_FAILED;
    return tick < life->stale ? LM_STALE : LM_FALLBACK;
}

static inline bool lm_has_value(enum lm_verdict verdict)
{
    return verdict != LM_GONE && verdict != LM_NEGATIVE;
}

/* --- cells --------------------------------------------------------------- */

static inline uint32_t lm_len(const struct lm *m)
{
    uint32_t n = 0, i;

    for (i = 0; i < LM_KEYS; i++)
        n += m->cells[i].there;
    return n;
}

/* A value leaves the cells: its lines come, and its cause is told. */
static inline enum cache_cause lm_line_of_leaver(struct lm *m, unsigned *key)
{
    const struct lm_line *line = &m->lines[m->at];
    uint64_t value = line->value;
    enum cache_cause cause = line->cause;

    *key = line->key;
    CHECK(*key < LM_KEYS && m->cells[*key].there);
    CHECK(!m->cells[*key].life.error);
    CHECK_EQ(value, m->cells[*key].value);
    if (m->subject->events && cause != CACHE_CAUSE_REPLACED)
        lm_event(m, CACHE_EVENT_REMOVE, *key, &value, cause, 0);
    if (m->subject->removes) {
        line = lm_read(m, LM_LEFT);
        CHECK_EQ(line->key, *key);
        CHECK_EQ(line->value, value);
        CHECK_EQ(line->cause, cause);
    }
    return cause;
}

static inline bool lm_leaver_is_next(const struct lm *m)
{
    return lm_next_is(m, LM_LEFT) ||
           (lm_next_is(m, LM_EVENT) &&
            m->lines[m->at].kind == CACHE_EVENT_REMOVE);
}

/* It is known who leaves, and why. */
static inline void lm_leaves(struct lm *m, unsigned key, enum cache_cause cause)
{
    unsigned told;

    if (!m->cells[key].life.error &&
        (m->subject->removes ||
         (m->subject->events && cause != CACHE_CAUSE_REPLACED))) {
        CHECK_EQ(lm_line_of_leaver(m, &told), cause);
        CHECK_EQ(told, key);
    }
    m->cells[key].there = false;
}

/* Others than `key` leave, for whom there is no room. */
static inline void lm_others_leave(struct lm *m, unsigned key, uint32_t len)
{
    unsigned told;

    while (m->evicts && lm_leaver_is_next(m) && m->lines[m->at].key != key) {
        enum cache_cause cause = lm_line_of_leaver(m, &told);

        CHECK(cause == CACHE_CAUSE_EVICTED || cause == CACHE_CAUSE_EXPIRED);
        CHECK_EQ(cause == CACHE_CAUSE_EVICTED, lm_live(m, told));
        CHECK((m->subject->options & CACHE_WEIGHED) ||
              len >= m->config.cache.capacity);
        *(cause == CACHE_CAUSE_EVICTED ? &m->stats.cells.evictions
                                       : &m->stats.cells.expirations) += 1;
        m->cells[told].there = false;
    }
}

/* There are versions. */
static inline bool lm_versions(const struct lm *m)
{
    return (m->subject->options & CACHE_META_VERSION) != 0;
}

/* value = NULL: that there is none.  version = 0: the next.  Returns what the
 * cells return. */
static inline int lm_put(struct lm *m, unsigned key, const uint64_t *value,
                         const struct lm_life *life, uint64_t version)
{
    struct lm_cell *cell = &m->cells[key];
    bool live = lm_live(m, key), was_there = cell->there, updates;
    uint32_t len = lm_len(m);
    int rc;

    updates = live && !cell->life.error;
    if (value && (m->subject->options & CACHE_WEIGHED) && lm_is_heavy(*value))
        return CACHE_EFULL;
    rc = live ? 0 : lm_copy(m);
    if (rc != 0)
        return rc;
    lm_others_leave(m, key, len);
    if (was_there)
        lm_leaves(m, key, live ? CACHE_CAUSE_REPLACED : CACHE_CAUSE_EXPIRED);
    lm_others_leave(m, key, len);
    m->stats.cells.replaces += live;
    m->stats.cells.inserts += !live;
    m->stats.cells.expirations += was_there && !live;
    cell->there = true;
    cell->value = value ? *value : 0;
    cell->version = !lm_versions(m) ? 0 : version ? version : m->latest + 1;
    m->latest = cell->version > m->latest ? cell->version : m->latest;
    cell->life = *life;
    cell->over = lm_after(m, lm_cell_ms(m, life));
    CHECK(lm_len(m) <= m->config.cache.capacity);
    if (value)
        lm_event(m, updates ? CACHE_EVENT_UPDATE : CACHE_EVENT_INSERT, key,
                 value, CACHE_CAUSE_REPLACED, 0);
    return 0;
}

static inline void lm_remove_cell(struct lm *m, unsigned key)
{
    if (!lm_live(m, key))
        return;
    lm_leaves(m, key, CACHE_CAUSE_REMOVED);
    m->stats.cells.removes++;
}

/* A value that belongs to the cache is not kept. */
static inline void lm_discarded(struct lm *m, unsigned key, uint64_t value)
{
    const struct lm_line *line;

    if (!m->subject->removes)
        return;
    line = lm_read(m, LM_LEFT);
    CHECK_EQ(line->key, key);
    CHECK_EQ(line->value, value);
    CHECK_EQ(line->cause, CACHE_CAUSE_EVICTED);
}

/* A value that came from behind. */
static inline int lm_put_own(struct lm *m, unsigned key, uint64_t value,
                             const struct lm_life *life, uint64_t version,
                             bool retain)
{
    int rc;

    if (retain)
        lm_retain(m, value);
    rc = lm_put(m, key, &value, life, version);
    if (rc != 0 && retain && m->subject->retains)
        lm_discarded(m, key, value);
    return rc;
}

/* --- claims -------------------------------------------------------------- */

/* The record that is found by its key.  One that is out of date is not. */
static inline struct lm_record *lm_find(struct lm *m, unsigned key)
{
    unsigned i;

    for (i = 0; i < m->config.max_claims; i++) {
        struct lm_record *r = &m->records[i];

        if (!r->used || !r->linked || r->key != key)
            continue;
        if (r->writes || (!r->overtaken && r->birth >= m->soft))
            return r;
    }
    return NULL;
}

static inline struct lm_record *lm_holder(struct lm *m, uint64_t id)
{
    unsigned i;

    for (i = 0; i < m->config.max_claims; i++)
        if (m->records[i].used && m->records[i].id == id && id != 0 &&
            m->now_ms < m->records[i].lapse_ms)
            return &m->records[i];
    return NULL;
}

static inline void lm_overtake(struct lm *m, unsigned key)
{
    struct lm_record *r = lm_find(m, key);

    if (r == NULL)
        return;
    r->overtaken = true;
    if (!r->writes)
        r->linked = false;
}

static inline int lm_take(struct lm *m, unsigned key, bool writes,
                          struct lm_record **out)
{
    struct lm_record *free_one = NULL;
    unsigned round, i;
    int rc;

    for (round = 0; round < 2 && free_one == NULL; round++)
        for (i = 0; i < m->config.max_claims; i++) {
            struct lm_record *r = &m->records[i];

            if (round == 1 && !r->writes && r->lapse_ms <= m->now_ms)
                r->used = false;
            if (!r->used)
                free_one = r;
        }
    if (free_one == NULL)
        return CACHE_EFULL;
    rc = lm_copy(m);
    if (rc != 0)
        return rc;
    memset(free_one, 0, sizeof *free_one);
    free_one->used = free_one->linked = true;
    free_one->writes = writes;
    free_one->key = key;
    *out = free_one;
    return 0;
}

static inline void lm_hold(struct lm *m, struct lm_record *r)
{
    r->id = ++m->id;
    r->lapse_ms = m->config.claim_ms > UINT64_MAX - m->now_ms
                      ? UINT64_MAX
                      : m->now_ms + m->config.claim_ms;
    r->birth = m->epoch;
}

/* --- reading ------------------------------------------------------------- */

struct lm_look {
    unsigned key;
    struct cache_reading how;
    bool claims;   /* this reader loads */
    bool keep_old; /* and wants what it loads anew */
    uint64_t id;   /* out: of the claim that it got */
    bool served, fresh, unstored;
    uint64_t value;
};

static inline int lm_table(enum lm_verdict verdict, bool claimed, int error)
{
    static const int answers[][2] = {
        /* nobody is asked yet          somebody is loading it */
        { CACHE_CLAIM_HIT, CACHE_CLAIM_HIT },                 /* fresh */
        { CACHE_CLAIM_STALE_YOU_REFRESH, CACHE_CLAIM_HIT },   /* refresh */
        { CACHE_CLAIM_STALE_YOU_REFRESH, CACHE_CLAIM_STALE }, /* stale */
        { CACHE_CLAIM_MISS_YOU_LOAD, CACHE_CLAIM_MISS_WAIT }, /* fallback */
        { CACHE_CLAIM_STALE, CACHE_CLAIM_STALE },            /* failed lately */
        { 0, 0 },                                            /* negative */
        { CACHE_CLAIM_MISS_YOU_LOAD, CACHE_CLAIM_MISS_WAIT } /* gone */
    };

    return verdict == LM_NEGATIVE ? error : answers[verdict][claimed];
}

/* What the options of a call make of the table. */
static inline int lm_answer(const struct lm *m, const struct lm_look *look,
                            bool claimed)
{
    enum lm_verdict verdict = lm_verdict_of(m, look->key);
    bool past =
        verdict == LM_STALE || verdict == LM_FALLBACK || verdict == LM_FAILED;

    if (m->dirty[look->key].dirty)
        return CACHE_CLAIM_HIT;
    if (m->cells[look->key].version < look->how.min_version)
        verdict = LM_GONE;
    if (look->how.skip_read || (look->how.stale == CACHE_STALE_NEVER && past))
        verdict = LM_GONE;
    if (look->how.stale == CACHE_STALE_ALWAYS && verdict == LM_FALLBACK)
        verdict = LM_STALE;
    return lm_table(verdict, claimed, m->cells[look->key].life.error);
}

static inline void lm_serve(struct lm *m, struct lm_look *look, int answer)
{
    enum lm_verdict verdict = lm_verdict_of(m, look->key);

    look->fresh = verdict == LM_FRESH || verdict == LM_REFRESH;
    look->served =
        lm_has_value(verdict) &&
        (answer == CACHE_CLAIM_HIT || answer == CACHE_CLAIM_STALE ||
         (answer == CACHE_CLAIM_STALE_YOU_REFRESH && look->keep_old));
    if (!look->served)
        return;
    look->value = m->cells[look->key].value;
    lm_retain(m, look->value);
    m->stats.cells.hits++;
}

/* A dirty key that the cells do not have. */
static inline int lm_undirty(struct lm *m, struct lm_look *look)
{
    const struct lm_dirty *d = &m->dirty[look->key];
    uint64_t wall_ms = m->now_ms + LM_WALL_MS;
    struct lm_life life;

    if (d->removal || (d->expires_ms != 0 && d->expires_ms <= wall_ms)) {
        m->stats.negative_hits++;
        return CACHE_EKEY;
    }
    m->stats.dirty_hits++;
    life = lm_life_of(m, NULL, 0, d->expires_ms ? d->expires_ms - wall_ms : 0,
                      m->epoch);
    look->value = d->value;
    look->served = look->fresh = true;
    look->unstored = lm_put_own(m, look->key, d->value, &life, 0, true) != 0;
    return CACHE_CLAIM_HIT;
}

/* What was read is not idle. */
static inline void lm_put_off(struct lm *m, unsigned key)
{
    struct lm_cell *cell = &m->cells[key];

    if (m->config.freshness.idle_ms != 0)
        cell->over = lm_after(m, lm_cell_ms(m, &cell->life));
}

static inline int lm_ask(struct lm *m, struct lm_look *look)
{
    struct lm_record *r = lm_find(m, look->key);
    bool claimed = r && (r->writes || m->now_ms < r->lapse_ms);
    int answer = lm_answer(m, look, claimed), rc = 0;
    bool refreshes = answer == CACHE_CLAIM_STALE_YOU_REFRESH;

    look->served = look->fresh = look->unstored = false;
    look->id = 0;
    lm_serve(m, look, answer);
    if (m->dirty[look->key].dirty && !look->served)
        return lm_undirty(m, look);
    if (answer < 0)
        m->stats.negative_hits++;
    else if (!look->served)
        m->stats.misses++;
    else if (!look->fresh)
        m->stats.stale_hits++;
    m->stats.waits += answer == CACHE_CLAIM_MISS_WAIT;
    if (look->served)
        lm_put_off(m, look->key);
    if (!look->claims || (!refreshes && answer != CACHE_CLAIM_MISS_YOU_LOAD))
        return answer;
    if (r == NULL)
        rc = lm_take(m, look->key, false, &r);
    else
        m->stats.lapsed++;
    if (rc == 0) {
        lm_hold(m, r);
        r->skip_write = look->how.skip_write;
        look->id = r->id;
        m->stats.claims++;
        lm_event(m, CACHE_EVENT_LOAD_START, look->key, NULL,
                 CACHE_CAUSE_REPLACED, 0);
    } else if (refreshes) { /* nobody can load it: as if somebody did */
        rc = 0;
        answer = lm_answer(m, look, true);
        if (!look->served)
            lm_serve(m, look, answer);
        if (look->served)
            lm_put_off(m, look->key);
    }
    return rc ? rc : answer;
}

static inline int lm_found(const struct lm_look *look)
{
    return look->unstored ? CACHE_FOUND_UNSTORED
           : look->fresh  ? CACHE_FOUND
                          : CACHE_FOUND_STALE;
}

static inline struct lm_look lm_look_of(const struct lm_op *op, unsigned key)
{
    struct lm_look look;

    memset(&look, 0, sizeof look);
    look.key = key;
    if (op->with)
        look.how = op->reading;
    look.value = LM_UNTOUCHED;
    return look;
}

/* --- loading ------------------------------------------------------------- */

static inline void lm_put_none(struct lm *m, unsigned key, uint64_t ttl_ms,
                               uint64_t birth, int error)
{
    struct lm_life life;

    if (ttl_ms != 0 || error == CACHE_EKEY)
        lm_remove_cell(m, key);
    if (ttl_ms == 0)
        return;
    life = lm_life_of_none(m, ttl_ms, birth, error);
    (void)lm_put(m, key, NULL, &life, 0);
}

/* Returns 0 if a value is in the cells. */
static inline int lm_land(struct lm *m, struct lm_record *r,
                          const uint64_t *value,
                          const struct cache_loaded *loaded, int status,
                          bool retain)
{
    const struct cache_freshness *f = &m->config.freshness;
    struct lm_cell *cell = &m->cells[r->key];
    struct lm_life life;
    int rc = 0;

    if (r->overtaken || r->birth < m->soft || r->skip_write) {
        m->stats.discarded += !r->skip_write;
        rc = CACHE_ECONFLICT;
    } else if (status == 0 && loaded->version > CACHE_MAX_VERSION) {
        rc = CACHE_EINVAL;
    } else if (status == 0 && loaded->version != 0 &&
               lm_has_value(lm_verdict_of(m, r->key)) &&
               cell->version > loaded->version) {
        rc = CACHE_ECONFLICT;
    } else if (status == 0) {
        life =
            lm_life_of(m, NULL, loaded->ttl_ms, loaded->lifetime_ms, r->birth);
        rc = lm_put_own(m, r->key, *value, &life, loaded->version, retain);
    } else if (status == CACHE_EKEY) {
        lm_put_none(m, r->key, f->negative_ttl_ms, r->birth, status);
    } else if (!lm_has_value(lm_verdict_of(m, r->key))) {
        lm_put_none(m, r->key, f->error_ttl_ms, r->birth, status);
    } else if (f->error_ttl_ms != 0) {
        cell->life.failed = true;
        cell->life.refresh = lm_after(m, f->error_ttl_ms);
    }
    m->stats.loads++;
    m->stats.load_errors += status != 0 && status != CACHE_EKEY;
    lm_event(m,
             status == 0 || status == CACHE_EKEY ? CACHE_EVENT_LOAD_END
                                                 : CACHE_EVENT_LOAD_ERROR,
             r->key, status == 0 ? value : NULL, CACHE_CAUSE_REPLACED, status);
    r->used = false;
    return rc;
}

/* A value that such a reader takes though a load has failed; or the error. */
static inline int lm_fallback(struct lm *m, unsigned key,
                              const struct cache_reading *how, int error,
                              uint64_t *out)
{
    enum lm_verdict verdict = lm_verdict_of(m, key);
    bool fresh = verdict == LM_FRESH || verdict == LM_REFRESH;

    if (!lm_has_value(verdict) || how->skip_read ||
        m->cells[key].version < how->min_version ||
        (!fresh && how->stale == CACHE_STALE_NEVER))
        return error;
    *out = m->cells[key].value;
    lm_retain(m, *out);
    m->stats.cells.hits++;
    lm_put_off(m, key);
    m->stats.suppressed_errors++;
    return fresh ? CACHE_FOUND : CACHE_FOUND_STALE;
}

/* The end of a claim without a value. */
static inline int lm_abandon(struct lm *m, uint64_t id, int error,
                             uint64_t *out)
{
    static const struct cache_reading any;
    struct lm_record *r = lm_holder(m, id);
    int rc = error < 0 ? error : CACHE_EKEY;

    if (r == NULL)
        return rc;
    if (out)
        rc = lm_fallback(m, r->key, &any, rc, out);
    if (error < 0)
        (void)lm_land(m, r, NULL, NULL, error, false);
    else
        r->used = false;
    return rc;
}

static inline int lm_deliver(struct lm *m, uint64_t id,
                             const struct lm_line *came, unsigned key,
                             const struct cache_reading *how, uint64_t *out)
{
    struct lm_record *r = lm_holder(m, id);
    int status = came->status, rc = CACHE_ECONFLICT;
    bool failed = status != 0 && status != CACHE_EKEY;

    if (failed)
        status = lm_fallback(m, key, how, status, out);
    if (r)
        rc = lm_land(m, r, &came->value, &came->loaded, came->status, true);
    if (failed || status != 0)
        return status;
    *out = came->value;
    return rc == 0 ? CACHE_FOUND : CACHE_FOUND_UNSTORED;
}

/* Loads n keys; came[i] is what is to be delivered. */
static inline void lm_load_all(struct lm *m, bool loader, const unsigned *keys,
                               struct lm_line *came, size_t n)
{
    uint64_t wall_ms;
    size_t i;
    int rc = 0;

    memset(came, 0, n * sizeof *came);
    if (!loader && m->config.store) {
        rc = lm_alloc(m);
        if (rc == 0) {
            const struct lm_line *line = lm_read(m, LM_SUBMIT);

            CHECK_EQ(line->n, n);
            rc = line->status;
        }
    }
    for (i = 0; i < n; i++) {
        came[i].status = rc;
        if (rc != 0)
            continue;
        lm_interlude(m);
        came[i] = *lm_read(m, LM_LOADED);
        CHECK_EQ(came[i].key, keys[i]);
        if (came[i].status > 0)
            came[i].status = CACHE_EINVAL;
    }
    if (loader || !m->config.store || rc != 0)
        return;
    wall_ms = m->now_ms + LM_WALL_MS;
    for (i = 0; i < n; i++)
        if (came[i].status == 0 && came[i].expires_ms != 0) {
            came[i].loaded.lifetime_ms = came[i].expires_ms - wall_ms;
            if (came[i].expires_ms <= wall_ms)
                came[i].status = CACHE_EKEY;
        }
}

static inline int lm_load(struct lm *m, const struct lm_op *op, bool loader,
                          unsigned key, uint64_t *out)
{
    struct lm_look look = lm_look_of(op, key);
    struct lm_line came;
    int answer;

    look.claims = true;
    answer = lm_ask(m, &look);
    if (look.served)
        *out = look.value;
    if (answer == CACHE_CLAIM_MISS_WAIT)
        return CACHE_EBUSY; /* nobody else is there who would load it */
    if (answer >= 0 && look.served)
        return lm_found(&look);
    if (look.id == 0)
        return answer;
    lm_load_all(m, loader, &key, &came, 1);
    return lm_deliver(m, look.id, &came, key, &look.how, out);
}

static inline int lm_get(struct lm *m, const struct lm_op *op, unsigned key,
                         bool no_store, uint64_t *out)
{
    struct lm_look look = lm_look_of(op, key);
    int answer;

    if (m->config.reads == CACHE_READ_THROUGH && !no_store &&
        !look.how.skip_store)
        return lm_load(m, op, false, key, out);
    look.keep_old = true;
    answer = lm_ask(m, &look);
    if (look.served)
        *out = look.value;
    return answer < 0 ? answer : look.served ? lm_found(&look) : CACHE_EKEY;
}

static inline size_t lm_load_many(struct lm *m, const struct lm_op *op,
                                  uint64_t *out, int *found)
{
    size_t at = 0, missing = 0, n, i, places[LM_MANY];
    struct lm_line came[LM_MANY];
    unsigned keys[LM_MANY];
    uint64_t ids[LM_MANY];
    int rc = lm_alloc(m);

    for (i = 0; i < op->n; i++)
        found[i] = rc;
    while (rc == 0 && at < op->n) {
        for (n = 0; at < op->n; at++) {
            struct lm_look look = lm_look_of(op, op->keys[at]);
            int answer;

            look.claims = true;
            answer = lm_ask(m, &look);
            if (look.served)
                out[at] = look.value;
            if (look.id != 0) {
                keys[n] = op->keys[at];
                ids[n] = look.id;
                places[n++] = at;
                continue;
            }
            if (n > 0 &&
                (answer == CACHE_CLAIM_MISS_WAIT || answer == CACHE_EFULL))
                break;
            found[at] = answer == CACHE_CLAIM_MISS_WAIT ? CACHE_EBUSY
                        : answer >= 0                   ? lm_found(&look)
                                                        : answer;
        }
        if (n > 0)
            lm_load_all(m, op->loader, keys, came, n);
        for (i = 0; i < n; i++) {
            const struct lm_look look = lm_look_of(op, keys[i]);

            found[places[i]] = lm_deliver(m, ids[i], &came[i], keys[i],
                                          &look.how, &out[places[i]]);
        }
    }
    for (i = 0; i < op->n; i++)
        missing += found[i] < 0;
    return missing;
}

/* --- write-behind -------------------------------------------------------- */

static inline uint32_t lm_n_dirty(const struct lm *m)
{
    uint32_t n = 0, i;

    for (i = 0; i < LM_KEYS; i++)
        n += m->dirty[i].dirty;
    return n;
}

static inline bool lm_some_wait(const struct lm *m)
{
    unsigned i;

    for (i = 0; i < LM_KEYS; i++)
        if (m->dirty[i].dirty && !m->dirty[i].retrying)
            return true;
    return false;
}

/* The store is told a write: it is the newest of its key. */
static inline int lm_stored(struct lm *m, unsigned key, const uint64_t *value,
                            uint64_t expires_ms)
{
    const struct lm_line *line;

    lm_interlude(m);
    line = lm_read(m, LM_STORED);
    CHECK_EQ(line->key, key);
    CHECK_EQ(line->has_value, value != NULL);
    if (value)
        CHECK_EQ(line->value, *value);
    CHECK_EQ(line->expires_ms, expires_ms);
    CHECK(line->version > m->version[key] ||
          (m->config.writes == CACHE_WRITE_BEHIND &&
           line->version == m->version[key]));
    m->version[key] = line->version;
    return line->status > 0 ? CACHE_EINVAL : line->status;
}

static inline void lm_letter(struct lm *m, unsigned key, int status)
{
    if (m->config.write_behind.on_dead_letter)
        CHECK_EQ(lm_read(m, LM_LETTER)->key, key);
    lm_event(m, CACHE_EVENT_DEAD_LETTER, key, NULL, CACHE_CAUSE_REPLACED,
             status);
    m->dirty[key].dirty = false;
}

/* A batch, of which the journal says what was in it. */
static inline void lm_batch(struct lm *m, uint32_t *budget)
{
    const uint32_t max_attempts = m->config.write_behind.max_attempts;
    unsigned keys[LM_KEYS];
    int status[LM_KEYS], first = 0;
    bool retrying = false;
    size_t n = 0, i;

    if (m->config.store) {
        (void)lm_read(m, LM_SUBMIT);
    } else {
        CHECK_EQ(lm_alloc(m), 0);
        if (m->subject->store_many)
            CHECK_EQ(lm_alloc(m), 0);
    }
    while (lm_next_is(m, LM_STORED)) {
        unsigned key = m->lines[m->at].key;
        struct lm_dirty *d = &m->dirty[key];

        CHECK(d->dirty && n < LM_KEYS);
        if (n == 0)
            retrying = d->retrying;
        CHECK_EQ(d->retrying, retrying);
        keys[n] = key;
        status[n] =
            lm_stored(m, key, d->removal ? NULL : &d->value, d->expires_ms);
        first = first ? first : status[n];
        n++;
    }
    CHECK(n > 0 && n <= m->config.write_behind.max_batch);
    m->stats.writes.n_batches++;
    m->stats.writes.n_sent += n;
    for (i = 0; i < n; i++) {
        struct lm_dirty *d = &m->dirty[keys[i]];

        if (status[i] == 0 || status[i] == CACHE_ECONFLICT) {
            d->dirty = false;
            m->stats.writes.n_stored++;
            continue;
        }
        d->retrying = true;
        m->stats.writes.n_failed++;
        if (++d->attempts == max_attempts) {
            m->stats.writes.n_dead++;
            lm_letter(m, keys[i], status[i]);
        }
    }
    if (m->subject->events)
        CHECK_EQ(m->lines[m->at].n, n);
    lm_event(m, CACHE_EVENT_WRITE_BATCH, 0, NULL, CACHE_CAUSE_REPLACED, first);
    *budget -= n < *budget ? (uint32_t)n : *budget;
}

/* Writes whose backoff is over, at a moment that is not known, are sent. */
static inline bool lm_retries_are_next(const struct lm *m)
{
    size_t at = m->at + 1 + (!m->config.store && m->subject->store_many);
    const struct lm_line *line = &m->lines[at];

    return at < m->n_lines && line->what == LM_STORED &&
           m->dirty[line->key].dirty && m->dirty[line->key].retrying;
}

static inline void lm_push(struct lm *m, uint32_t budget)
{
    while (budget > 0 && (lm_some_wait(m) || lm_retries_are_next(m)))
        lm_batch(m, &budget);
}

/* --- writing ------------------------------------------------------------- */

struct lm_write_ {
    unsigned key;
    const uint64_t *value; /* NULL = remove */
    const struct cache_writing *how;
    struct lm_life life;
    uint64_t expires_ms;
    struct lm_record *record;
    const uint64_t *expected; /* or NULL: whatever there is */
    uint64_t version;         /* that it has got */
};

static inline bool lm_keeps(const struct lm *m, const struct cache_writing *how)
{
    return !how->skip_write &&
           (m->config.writes != CACHE_WRITE_AROUND || how->skip_store);
}

static inline bool lm_goes_through(const struct lm *m,
                                   const struct cache_writing *how)
{
    return !how->skip_store && (m->config.writes == CACHE_WRITE_THROUGH ||
                                m->config.writes == CACHE_WRITE_AROUND);
}

static inline int lm_prepare(struct lm *m, struct lm_write_ *w)
{
    uint64_t tick_ms = m->config.cache.tick_ms;
    const struct cache_freshness *f = w->how->freshness;

    if (m->closed)
        return CACHE_ECLOSED;
    if (f && (f->refresh_pct > 100 || f->jitter_pct > 100))
        return CACHE_EFRESHNESS;
    if (f && ((f->ttl_ms != 0 && f->ttl_ms < tick_ms) ||
              (f->idle_ms != 0 && f->idle_ms < tick_ms) ||
              (f->negative_ttl_ms != 0 && f->negative_ttl_ms < tick_ms) ||
              (f->error_ttl_ms != 0 && f->error_ttl_ms < tick_ms)))
        return CACHE_ETTL;
    if ((w->how->ttl_ms != 0 && w->how->ttl_ms < tick_ms) ||
        (w->how->lifetime_ms != 0 && w->how->lifetime_ms < tick_ms))
        return CACHE_ETTL;
    w->life = lm_life_of(m, f, w->how->ttl_ms, w->how->lifetime_ms, m->epoch);
    w->expires_ms = w->how->lifetime_ms && w->how->lifetime_ms != CACHE_NEVER
                        ? m->now_ms + LM_WALL_MS + w->how->lifetime_ms
                        : 0;
    return 0;
}

/* What a write depends on is there. */
static inline bool lm_expects(const struct lm *m, const struct lm_write_ *w)
{
    bool there = lm_has_value(lm_verdict_of(m, w->key));

    return !w->expected ||
           *w->expected == (there ? m->cells[w->key].version : 0);
}

static inline int lm_apply(struct lm *m, struct lm_write_ *w, bool keep)
{
    w->version = 0;
    if (w->value && keep) {
        int rc = lm_put(m, w->key, w->value, &w->life, 0);

        w->version = rc == 0 ? m->cells[w->key].version : 0;
        return rc;
    }
    lm_remove_cell(m, w->key);
    if (w->value) /* accepted, and not kept */
        lm_discarded(m, w->key, *w->value);
    return 0;
}

static inline void lm_accept(struct lm *m, struct lm_write_ *w, bool keep)
{
    if (lm_apply(m, w, keep) != 0)
        (void)lm_apply(m, w, false);
}

static inline int lm_begin_write(struct lm *m, struct lm_write_ *w)
{
    struct lm_record *r;
    int rc;

    r = lm_find(m, w->key);
    if (r != NULL && r->writes)
        return CACHE_EBUSY; /* we are writing it ourselves */
    if (!lm_expects(m, w))
        return CACHE_ECONFLICT;
    lm_overtake(m, w->key);
    rc = lm_take(m, w->key, true, &w->record);
    if (rc == 0)
        lm_hold(m, w->record);
    return rc;
}

static inline void lm_end_write(struct lm *m, struct lm_write_ *w, int status)
{
    if (status == 0)
        lm_accept(m, w,
                  lm_keeps(m, w->how) && w->life.birth >= m->hard &&
                      !w->record->overtaken);
    w->record->used = false;
}

/* Sends writes to the store at once. */
static inline void lm_store_all(struct lm *m, struct lm_write_ *writes,
                                size_t n, int *status)
{
    size_t i;
    int rc = 0;

    if (m->config.store || m->subject->store_many)
        rc = lm_alloc(m);
    if (rc == 0 && m->config.store) {
        const struct lm_line *line = lm_read(m, LM_SUBMIT);

        CHECK_EQ(line->n, n);
        rc = line->status;
    }
    for (i = 0; i < n; i++)
        status[i] = rc ? rc
                       : lm_stored(m, writes[i].key, writes[i].value,
                                   writes[i].expires_ms);
}

static inline int lm_write_behind(struct lm *m, struct lm_write_ *w)
{
    struct lm_dirty *d = &m->dirty[w->key];
    struct cache_wb_stats *stats = &m->stats.writes;

    if (!lm_expects(m, w))
        return CACHE_ECONFLICT;
    while (!d->dirty && lm_n_dirty(m) == m->config.write_behind.max_dirty) {
        if (m->config.when_full != CACHE_FULL_WRITE_THROUGH) {
            stats->n_refused++;
            return CACHE_EFULL;
        }
        lm_push(m, m->config.write_behind.max_batch);
    }
    stats->n_accepted++;
    stats->n_coalesced += d->dirty;
    d->retrying = d->dirty && d->retrying;
    d->dirty = true;
    d->removal = w->value == NULL;
    d->value = w->value ? *w->value : 0;
    d->expires_ms = w->expires_ms;
    d->attempts = 0;
    lm_overtake(m, w->key);
    lm_accept(m, w, lm_keeps(m, w->how));
    return 0;
}

/* The store has all that is dirty; in these runs it does not fail then. */
static inline void lm_settle(struct lm *m, const struct cache_writing *how)
{
    if ((how->ack ? how->ack : m->config.ack) == CACHE_ACK_STORE)
        lm_push(m, UINT32_MAX);
}

/* `waits`: for the store, if that is who acknowledges. */
static inline int lm_write_one(struct lm *m, struct lm_write_ *w, bool waits)
{
    bool keep = lm_keeps(m, w->how);
    int rc = lm_prepare(m, w);

    if (rc != 0)
        return rc;
    if (lm_goes_through(m, w->how)) {
        rc = lm_begin_write(m, w);
        if (rc != 0)
            return rc;
        lm_store_all(m, w, 1, &rc);
        lm_end_write(m, w, rc);
        return rc;
    }
    if (m->config.writes == CACHE_WRITE_BEHIND && !w->how->skip_store) {
        rc = lm_write_behind(m, w);
        if (rc == 0 && waits)
            lm_settle(m, w->how);
        return rc;
    }
    if (!lm_expects(m, w))
        return CACHE_ECONFLICT;
    lm_overtake(m, w->key);
    return lm_apply(m, w, keep);
}

static inline int lm_write_many(struct lm *m, const struct lm_op *op,
                                const struct cache_writing *how, int *status)
{
    struct lm_write_ writes[LM_MANY];
    size_t first = 0, end, i;
    bool some = false; /* was written */
    int rc = lm_alloc(m);

    for (i = 0; i < op->n; i++) {
        status[i] = rc;
        writes[i].key = op->keys[i];
        writes[i].value = op->kind == LM_PUT_MANY ? &op->values[i] : NULL;
        writes[i].how = how;
        writes[i].expected = NULL;
        writes[i].record = NULL;
    }
    if (rc != 0)
        return rc;
    for (i = 0; i < op->n && !lm_goes_through(m, how); i++) {
        status[i] = lm_write_one(m, &writes[i], false);
        some = some || status[i] == 0;
    }
    if (some && m->config.writes == CACHE_WRITE_BEHIND) /* once for all */
        lm_settle(m, how);
    for (first = i; first < op->n; first = end) {
        for (end = first; end < op->n; end++) {
            status[end] = lm_prepare(m, &writes[end]);
            if (status[end] == 0)
                status[end] = lm_begin_write(m, &writes[end]);
            if (status[end] != 0)
                break;
        }
        if (end > first)
            lm_store_all(m, &writes[first], end - first, &status[first]);
        for (i = first; i < end; i++)
            lm_end_write(m, &writes[i], status[i]);
        end += end == first;
    }
    for (i = 0; i < op->n; i++)
        if (status[i] != 0)
            return status[i];
    return 0;
}

/* --- the rest ------------------------------------------------------------ */

static inline void lm_invalidate(struct lm *m, enum cache_invalidation how)
{
    unsigned i, told;

    if (m->epochs_left-- == 0) { /* all begins anew */
        m->epochs_left = UINT32_MAX - 2;
        for (i = 0; i < m->config.max_claims; i++)
            m->records[i].overtaken = true;
        while (lm_leaver_is_next(m)) {
            CHECK_EQ(lm_line_of_leaver(m, &told), CACHE_CAUSE_CLEARED);
            m->cells[told].there = false;
        }
        for (i = 0; i < LM_KEYS; i++) {
            CHECK(!m->cells[i].there || m->cells[i].life.error ||
                  !(m->subject->events || m->subject->removes));
            m->cells[i].there = false;
        }
    }
    m->soft = ++m->epoch;
    if (how == CACHE_INVALIDATE_HARD)
        m->hard = m->epoch;
    m->stats.invalidations++;
}

static inline void lm_invalidate_key(struct lm *m, unsigned key,
                                     enum cache_invalidation how)
{
    struct lm_life *life = &m->cells[key].life;

    lm_overtake(m, key);
    if (how == CACHE_INVALIDATE_HARD) {
        lm_remove_cell(m, key);
    } else if (lm_live(m, key)) {
        life->fresh = lm_min(life->fresh, lm_tick(m));
        life->refresh = lm_min(life->refresh, life->fresh);
        life->failed = false;
    }
}

static inline bool lm_may_leave(const struct lm *m, unsigned key,
                                enum cache_cause cause)
{
    return m->cells[key].there &&
           (cause == CACHE_CAUSE_EXPIRED
                ? !lm_live(m, key)
                : cause == CACHE_CAUSE_INVALIDATED &&
                      m->cells[key].life.birth < m->hard);
}

/* budget = UINT32_MAX: until there is nothing left to do. */
static inline void lm_reclaim(struct lm *m, uint32_t budget)
{
    uint32_t n = 0;
    unsigned key;

    for (; lm_leaver_is_next(m); n++) {
        enum cache_cause cause = lm_line_of_leaver(m, &key);

        CHECK(lm_may_leave(m, key, cause));
        m->stats.cells.expirations += cause == CACHE_CAUSE_EXPIRED;
        m->cells[key].there = false;
    }
    CHECK(n <= budget);
    for (key = 0; key < LM_KEYS && budget == UINT32_MAX; key++) {
        bool over = lm_may_leave(m, key, CACHE_CAUSE_EXPIRED);
        bool invalid = lm_may_leave(m, key, CACHE_CAUSE_INVALIDATED);

        if (!over && !invalid)
            continue;
        CHECK(m->cells[key].life.error ||
              !(m->subject->events || m->subject->removes));
        if (over && invalid) /* one of the two, and nobody is told */
            m->expired_or_not++;
        else
            m->stats.cells.expirations += over;
        m->cells[key].there = false;
    }
}

static inline void lm_close(struct lm *m, const struct lm_op *op)
{
    bool behind = m->config.writes == CACHE_WRITE_BEHIND;
    uint64_t n_lost = 0;

    m->closed = true;
    if (behind && lm_n_dirty(m) > 0)
        lm_push(m, UINT32_MAX);
    while (lm_n_dirty(m) > 0) { /* in any order */
        unsigned i;

        for (i = 0; i < LM_KEYS && !m->dirty[i].dirty; i++)
            ;
        if (lm_next_is(m, LM_LETTER) || lm_next_is(m, LM_EVENT))
            i = m->lines[m->at].key;
        CHECK(m->dirty[i].dirty);
        lm_letter(m, i, CACHE_ECLOSED);
        n_lost++;
    }
    CHECK_EQ(op->n_lost, n_lost);
    CHECK_EQ(op->rc,
             n_lost + m->stats.writes.n_dead > 0 ? CACHE_EDEADLETTER : 0);
    m->stats.writes.n_lost += n_lost;
}

/* --- an operation -------------------------------------------------------- */

static inline void lm_do_claim(struct lm *m, struct lm_op *op)
{
    struct lm_look look = lm_look_of(op, op->keys[0]);

    look.claims = look.keep_old = true;
    CHECK_EQ(op->rc, lm_ask(m, &look));
    CHECK_EQ(op->out[0], look.served ? look.value : LM_UNTOUCHED);
    CHECK_EQ(op->claimed, look.id != 0);
    m->held[op->slot] = look.id;
}

static inline void lm_do_commit(struct lm *m, struct lm_op *op)
{
    struct lm_record *r = lm_holder(m, m->held[op->slot]);
    struct cache_loaded plain;
    int rc = CACHE_ECONFLICT;

    memset(&plain, 0, sizeof plain);
    if (op->kind == LM_COMMIT && r)
        rc = lm_land(m, r, &op->values[0], op->with ? &op->loaded : &plain, 0,
                     false);
    else if (r)
        rc = lm_land(m, r, NULL, &plain, CACHE_EKEY, false);
    CHECK_EQ(op->rc, rc);
    m->held[op->slot] = 0;
}

static inline void lm_do_read(struct lm *m, struct lm_op *op)
{
    uint64_t out[LM_MANY];
    size_t n_missing = 0, i;
    int found[LM_MANY];
    enum lm_verdict verdict;

    for (i = 0; i < LM_MANY; i++)
        out[i] = LM_UNTOUCHED;
    switch (op->kind) {
    case LM_GET:
        CHECK_EQ(op->rc, lm_get(m, op, op->keys[0], false, &out[0]));
        break;
    case LM_LOAD:
        CHECK_EQ(op->rc,
                 op->with && op->reading.skip_store
                     ? lm_get(m, op, op->keys[0], true, &out[0])
                     : lm_load(m, op, op->loader, op->keys[0], &out[0]));
        break;
    case LM_GET_MANY:
        for (i = 0; i < op->n; i++)
            if (lm_get(m, op, op->keys[i], true, &out[i]) < 0) {
                CHECK(n_missing < op->n_missing);
                CHECK_EQ(op->missing[n_missing], i);
                n_missing++;
            }
        CHECK_EQ(op->n_missing, n_missing);
        break;
    case LM_LOAD_MANY:
        n_missing = lm_load_many(m, op, out, found);
        CHECK_EQ(op->n_missing, n_missing);
        for (i = 0; i < op->n; i++)
            CHECK_EQ(op->status[i], found[i]);
        break;
    default:
        verdict = lm_verdict_of(m, op->keys[0]);
        CHECK_EQ(op->peeked, lm_has_value(verdict));
        if (op->peeked) {
            out[0] = m->cells[op->keys[0]].value;
            lm_retain(m, out[0]);
        }
    }
    for (i = 0; i < LM_MANY; i++)
        CHECK_EQ(op->out[i], out[i]);
}

static inline void lm_do_write(struct lm *m, struct lm_op *op)
{
    struct cache_writing how = cache__write_default;
    struct lm_write_ w;
    int status[LM_MANY];
    size_t i;

    if (op->with)
        how = op->writing;
    if (op->kind == LM_PUT_TTL)
        how.ttl_ms = op->ttl_ms;
    if (op->kind == LM_PUT_TTL && op->ttl_ms == 0) {
        CHECK_EQ(op->rc, CACHE_ETTL);
        return;
    }
    if (op->kind == LM_PUT_MANY || op->kind == LM_REMOVE_MANY) {
        CHECK_EQ(op->rc, lm_write_many(m, op, &how, status));
        for (i = 0; i < op->n && op->want_status; i++)
            CHECK_EQ(op->status[i], status[i]);
        return;
    }
    memset(&w, 0, sizeof w);
    w.key = op->keys[0];
    w.value = op->kind == LM_REMOVE ? NULL : &op->values[0];
    w.how = &how;
    if (op->kind == LM_PUT_IF_VERSION)
        w.expected = &op->expected;
    CHECK_EQ(op->rc, w.expected && !lm_versions(m) ? CACHE_EINVAL
                                                   : lm_write_one(m, &w, true));
    CHECK_EQ(op->version, op->with && op->want_version && op->rc == 0
                              ? w.version
                              : LM_UNTOUCHED);
}

static inline uint64_t lm_ms_of(const struct lm *m, uint64_t tick)
{
    return tick == LM_FOREVER ? CACHE_NEVER
                              : m->start_ms + tick * m->config.cache.tick_ms;
}

static inline void lm_do_entry(const struct lm *m, const struct lm_op *op)
{
    static const struct cache_loading_entry untouched;
    static const enum cache_verdict verdicts[] = {
        CACHE_VERDICT_FRESH,    CACHE_VERDICT_REFRESH, CACHE_VERDICT_STALE,
        CACHE_VERDICT_FALLBACK, CACHE_VERDICT_FAILED,  CACHE_VERDICT_NEGATIVE,
    };
    const struct lm_cell *cell = &m->cells[op->keys[0]];
    enum lm_verdict verdict = lm_verdict_of(m, op->keys[0]);
    const struct cache_loading_entry *e = &op->entry;

    CHECK_EQ(op->rc, verdict == LM_GONE ? CACHE_EKEY : 0);
    if (op->rc != 0) {
        CHECK(memcmp(e, &untouched, sizeof *e) == 0);
        return;
    }
    CHECK_EQ(e->verdict, verdicts[verdict]);
    CHECK_EQ(e->error, cell->life.error);
    CHECK_EQ(e->dirty, m->dirty[op->keys[0]].dirty);
    CHECK_EQ(e->refresh_ms, lm_ms_of(m, cell->life.refresh));
    CHECK_EQ(e->fresh_ms, lm_ms_of(m, cell->life.fresh));
    CHECK_EQ(e->stale_ms, lm_ms_of(m, cell->life.stale));
    CHECK_EQ(e->dead_ms, lm_ms_of(m, cell->life.dead));
    CHECK_EQ(e->entry.expires_ms, lm_ms_of(m, cell->over));
    CHECK_EQ(e->entry.version, cell->version);
}

/* Each value once, and no more of them than were asked for. */
static inline void lm_do_each(const struct lm *m, const struct lm_op *op)
{
    bool seen[LM_KEYS] = { false };
    uint32_t n = 0, i;

    for (i = 0; i < LM_KEYS; i++)
        n += lm_has_value(lm_verdict_of(m, i));
    CHECK_EQ(op->n_seen, op->budget < n ? op->budget + 1 : n);
    for (i = 0; i < op->n_seen; i++) {
        unsigned key = op->seen[i];

        CHECK(!seen[key] && lm_has_value(lm_verdict_of(m, key)));
        CHECK_EQ(op->seen_values[i], m->cells[key].value);
        seen[key] = true;
    }
}

static inline void lm_do(struct lm *m, struct lm_op *op)
{
    uint64_t out = LM_UNTOUCHED;

    switch (op->kind) {
    case LM_CLAIM: lm_do_claim(m, op); break;
    case LM_COMMIT:
    case LM_COMMIT_NEGATIVE: lm_do_commit(m, op); break;
    case LM_ABANDON:
        CHECK_EQ(op->rc, lm_abandon(m, m->held[op->slot], op->error,
                                    op->want_out ? &out : NULL));
        CHECK_EQ(op->out[0], out);
        m->held[op->slot] = 0;
        break;
    case LM_PUT:
    case LM_PUT_IF_VERSION:
    case LM_PUT_TTL:
    case LM_PUT_MANY:
    case LM_REMOVE:
    case LM_REMOVE_MANY: lm_do_write(m, op); break;
    case LM_INVALIDATE: lm_invalidate(m, op->how); break;
    case LM_INVALIDATE_KEY: lm_invalidate_key(m, op->keys[0], op->how); break;
    case LM_FLUSH:
        if (m->config.writes == CACHE_WRITE_BEHIND)
            lm_push(m, op->budget);
        CHECK_EQ(op->rc, lm_n_dirty(m));
        break;
    case LM_TICK: lm_reclaim(m, op->budget); break;
    case LM_ENTRY: lm_do_entry(m, op); break;
    case LM_EACH: lm_do_each(m, op); break;
    case LM_CLOSE: lm_close(m, op); break;
    default: lm_do_read(m, op);
    }
}

/* After a failure: a key, here and there. */
static inline void lm_print_key(const struct lm *m, unsigned key)
{
    const struct lm_cell *cell = &m->cells[key];
    const struct lm_life *life = &cell->life;
    struct cache_life real;

    memset(&real, 0, sizeof real);
    (void)m->subject->life(key, &real);
    printf("key %u: there %d, tick %llu, epochs %llu %llu %llu, over %llu\n"
           "  refresh %llu fresh %llu stale %llu dead %llu birth %llu error %d "
           "failed %d\n  is %u %u %u %u %u %d, of %u %u %u\n",
           key, cell->there, (unsigned long long)lm_tick(m),
           (unsigned long long)m->epoch, (unsigned long long)m->soft,
           (unsigned long long)m->hard, (unsigned long long)cell->over,
           (unsigned long long)life->refresh, (unsigned long long)life->fresh,
           (unsigned long long)life->stale, (unsigned long long)life->dead,
           (unsigned long long)life->birth, life->error, life->failed,
           real.refresh_at - 1, real.fresh_until - 1, real.stale_until - 1,
           real.dead_at - 1, real.birth, real.state, m->subject->front->epoch,
           m->subject->front->soft, m->subject->front->hard);
}

/* --- comparing what is left ---------------------------------------------- */

/* A jitter was drawn: the life that is there must be one that it can make. */
static inline void lm_learn_life(struct lm *m, unsigned key)
{
    struct lm_cell *cell = &m->cells[key];
    const struct cache_freshness *f = &cell->life.freshness;
    uint64_t span = cell->life.ttl_ms * f->jitter_pct / 100, cut;
    uint64_t now_ms = m->now_ms;
    struct cache_life real;

    CHECK(m->subject->life(key, &real));
    m->now_ms = cell->life.put_ms;
    for (cut = 0; cut <= span && cell->life.draws; cut++) {
        lm_moments(m, &cell->life, cell->life.ttl_ms - cut);
        cell->life.draws = (uint64_t)real.refresh_at - 1 !=
                               lm_min(cell->life.refresh, UINT32_MAX - 1) ||
                           (uint64_t)real.fresh_until - 1 !=
                               lm_min(cell->life.fresh, UINT32_MAX - 1) ||
                           (uint64_t)real.stale_until - 1 !=
                               lm_min(cell->life.stale, UINT32_MAX - 1) ||
                           (uint64_t)real.dead_at - 1 !=
                               lm_min(cell->life.dead, UINT32_MAX - 1);
    }
    CHECK(!cell->life.draws);
    cell->over = lm_after(m, lm_cell_ms(m, &cell->life));
    m->now_ms = now_ms;
}

static inline void lm_compare_stats(const struct lm *m, uint64_t used_bytes)
{
    const struct cache_loading_stats *e = &m->stats;
    struct cache_loading_stats s;

    if ((m->subject->options & CACHE_STATS) == 0) {
        CHECK_EQ(m->subject->stats(&s), CACHE_EINVAL);
        return;
    }
    CHECK_EQ(m->subject->stats(&s), 0);
    CHECK_EQ(s.cells.hits, e->cells.hits);
    CHECK_EQ(s.cells.misses, e->misses);
    CHECK_EQ(s.cells.inserts, e->cells.inserts);
    CHECK_EQ(s.cells.replaces, e->cells.replaces);
    CHECK_EQ(s.cells.removes, e->cells.removes);
    CHECK_EQ(s.cells.evictions, e->cells.evictions);
    CHECK(s.cells.expirations >= e->cells.expirations &&
          s.cells.expirations <= e->cells.expirations + m->expired_or_not);
    CHECK_EQ(s.stale_hits, e->stale_hits);
    CHECK_EQ(s.negative_hits, e->negative_hits);
    CHECK_EQ(s.dirty_hits, e->dirty_hits);
    CHECK_EQ(s.misses, e->misses);
    CHECK_EQ(s.claims, e->claims);
    CHECK_EQ(s.waits, e->waits);
    CHECK_EQ(s.lapsed, e->lapsed);
    CHECK_EQ(s.loads, e->loads);
    CHECK_EQ(s.load_errors, e->load_errors);
    CHECK_EQ(s.suppressed_errors, e->suppressed_errors);
    CHECK_EQ(s.discarded, e->discarded);
    CHECK_EQ(s.invalidations, e->invalidations);
    CHECK_EQ(s.n_dirty, lm_n_dirty(m));
    CHECK_EQ(s.used_bytes, used_bytes);
    CHECK_EQ(s.writes.n_accepted, e->writes.n_accepted);
    CHECK_EQ(s.writes.n_coalesced, e->writes.n_coalesced);
    CHECK_EQ(s.writes.n_refused, e->writes.n_refused);
    CHECK_EQ(s.writes.n_batches, e->writes.n_batches);
    CHECK_EQ(s.writes.n_sent, e->writes.n_sent);
    CHECK_EQ(s.writes.n_stored, e->writes.n_stored);
    CHECK_EQ(s.writes.n_failed, e->writes.n_failed);
    CHECK_EQ(s.writes.n_dead, e->writes.n_dead);
    CHECK_EQ(s.writes.n_lost, e->writes.n_lost);
}

/* After an operation of the program's: everything that can be seen. */
static inline void lm_compare(struct lm *m, uint32_t n_keys_copied)
{
    const bool weighed = (m->subject->options & CACHE_WEIGHED) != 0;
    struct cache_memory memory = m->subject->memory();
    uint64_t used_bytes = 0;
    uint32_t n_records = 0;
    unsigned i;

    CHECK_EQ(m->at, m->n_lines);
    for (i = 0; i < LM_KEYS; i++) {
        if (m->cells[i].there && m->cells[i].life.draws)
            lm_learn_life(m, i);
        if (m->subject->contains(i) != lm_live(m, i))
            lm_print_key(m, i);
        CHECK_EQ(m->subject->contains(i), lm_live(m, i));
        CHECK_EQ(m->subject->version(i),
                 lm_live(m, i) ? m->cells[i].version : 0);
#ifdef LM_LIVES
        if (lm_live(m, i)) {
            struct cache_life real;
            CHECK(m->subject->life(i, &real));
            if ((uint64_t)real.fresh_until - 1 !=
                lm_min(m->cells[i].life.fresh, UINT32_MAX - 1)) {
                lm_print_key(m, i);
                CHECK(0);
            }
        }
#endif
        if (m->cells[i].there && weighed)
            used_bytes +=
                memory.entry_bytes +
                (m->cells[i].life.error ? 0 : lm_weigh(m->cells[i].value));
    }
    CHECK_EQ(m->subject->len(), lm_len(m));
    CHECK_EQ(memory.used_bytes, used_bytes);
    for (i = 0; i < m->config.max_claims; i++)
        n_records += m->records[i].used;
    if (m->subject->copies)
        CHECK_EQ(n_keys_copied, lm_len(m) + n_records);
    lm_compare_stats(m, used_bytes);
    CHECK_SOUND(m->subject->check());
}

#endif /* LOADING_MODEL_H */
