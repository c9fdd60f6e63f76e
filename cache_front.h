/*
 * cache_front.h - what stands between a program, a cache and a store: the part
 * of loading caches (cache_loading.h) that knows neither keys nor values.
 *
 * WHAT IT DOES
 *   The configuration; who is loading or writing which key; the way to the
 *   store.  What a reader gets, and what an invalidation makes of it, is in
 *   cache_front_read.h, how a write finds its way in cache_front_write.h.  All
 *   are real functions over `const void *key` and `void *value`, with a table
 *   of what differs from type to type.  A hit on a fresh value does not come
 *   here.
 *
 *     program --> name_get, name_claim, name_load, name_put ..   cache_loading.h
 *                    |  fresh: the cell                 all else
 *                    v                                     v
 *                  cells  <--- visit, put, remove ---    front
 *                                                       /  |   \
 *                                  claims: keys that   /   |    \ write-behind
 *                                  are on their way   /  store   \ (cache_store.h)
 *
 * CLAIMS
 *
 *              claim                commit, abandon
 *     FREE ------------> LOAD ------------------------> FREE
 *       ^  \              |  \ lapsed: the next who asks has it
 *       |   \  write       |   \
 *       |    '-----> WRITE  |    `--> LOAD, with another ticket
 *       |              |    |
 *       `--------------+----+--> DONE, while threads wait for what it brought
 *
 *   A write or an invalidation of the key overtakes a LOAD: its record is no
 *   longer found, so the next reader begins anew; what it brings is delivered
 *   to those who wait for it, and not kept.
 *
 * THREADS
 *   One lock over all of it where there are several, never held while a loader
 *   or the store works.  Cells have locks of their own, taken inside this one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_FRONT_H
#define CACHE_FRONT_H

#include "cache_freshness.h"
#include "cache_histogram.h"
#include "cache_store.h"

#if defined(__unix__) || defined(__APPLE__)
#include "cache_journal.h"
#define CACHE__THREADS 1
#if defined(CLOCK_MONOTONIC) && !defined(__APPLE__)
#define CACHE__COND_CLOCK CLOCK_MONOTONIC
#endif
#endif

/* --- configuration ------------------------------------------------------- */

enum cache_strategy {
    CACHE_ASIDE,         /* reads and writes: the program asks the store */
    CACHE_READ_THROUGH,  /* reads: get loads what is missing */
    CACHE_WRITE_THROUGH, /* writes: see the head of this file */
    CACHE_WRITE_BEHIND,
    CACHE_WRITE_AROUND
};

/* What a put survives that has returned 0. */
enum cache_ack {
    CACHE_ACK_DEFAULT, /* config.ack; of that: STORE, or with write-behind
                                                    JOURNAL if there is one, else MEMORY */
    CACHE_ACK_MEMORY,  /* nothing: it is in the cache and the dirty buffer */
    CACHE_ACK_JOURNAL, /* kill -9 and a power cut: it is in the journal */
    CACHE_ACK_STORE    /* what the store survives: it has been written there */
};

/* What becomes of a write when max_dirty keys wait for the store. */
enum cache_when_full {
    CACHE_FULL_REFUSE,        /* it is refused with CACHE_EFULL */
    CACHE_FULL_WRITE_THROUGH, /* the call writes others to the store until there
                                 is room, or wait_ms is over: CACHE_EFULL */
    CACHE_FULL_PAUSE          /* the call waits for a flush by another thread
                                 until then */
};

#define CACHE_LOADING_DEFAULT_MAX_CLAIMS 1024u
#define CACHE_LOADING_DEFAULT_CLAIM_MS 30000u
#define CACHE_LOADING_DEFAULT_WAIT_MS 30000u

/* What init needs.  A member that is zero has the default that it names. */
struct cache_loading_config {
    struct cache_config cache; /* its ttl_ms stays 0: see freshness */
    struct cache_freshness freshness;
    enum cache_strategy reads;  /* CACHE_ASIDE or CACHE_READ_THROUGH */
    enum cache_strategy writes; /* CACHE_ASIDE or CACHE_WRITE_... */
    struct cache_store *store;  /* for strategies other than CACHE_ASIDE; NULL =
                                   the callbacks of the type */
    const struct cache_codec *key_codec;   /* with a store, or write-behind */
    const struct cache_codec *value_codec; /* the same */
    uint32_t max_claims; /* keys that are being loaded or written at once;
                            0 = CACHE_LOADING_DEFAULT_MAX_CLAIMS */
    uint64_t claim_ms;   /* until a claim lapses, and another may have it;
                            0 = CACHE_LOADING_DEFAULT_CLAIM_MS */
    uint64_t wait_ms;    /* until a call that waits for another thread, or for
                            room, gives up; 0 = CACHE_LOADING_DEFAULT_WAIT_MS */
    struct cache_wb_config write_behind; /* sizes come from the codecs, and the
                                            hooks from `cache` if it has none;
                                            interval_ms is not used: flush has
                                            the pace of its caller */
    enum cache_when_full when_full;
    enum cache_ack ack;
#ifdef CACHE__THREADS
    struct cache_journal_config journal; /* of write-behind: with journal.path
                                            what is dirty survives the process,
                                            and init goes on with it.  Its hooks
                                            come from `cache` if it has none */
#endif
    uint64_t (*wall_now)(void *user); /* unix ms; NULL = the system's */
    uint64_t (*now_ns)(void *user);   /* of CACHE_TIMINGS; NULL = the system's
                                         monotonic clock */
};

/* What CACHE_TIMINGS measures, in nanoseconds. */
enum cache_timing {
    CACHE_TIMING_LOAD,  /* a call of a loader, or of the store's */
    CACHE_TIMING_STORE, /* a call that writes to the store */
    CACHE_TIMING_READ,  /* get, claim and load, from call to return */
    CACHE_TIMING_WRITE  /* put and remove, from call to return */
};
#define CACHE__N_TIMINGS ((size_t)CACHE_TIMING_WRITE + 1)

/* Counters since init; needs CACHE_STATS. */
struct cache_loading_stats {
    struct cache_stats cells; /* of the cache: its hits are look-ups that found
                                 something, of which the following were not
                                 fresh */
    uint64_t stale_hits;      /* values served past their time */
    uint64_t negative_hits;   /* keys known to be absent, or failing */
    uint64_t dirty_hits;      /* values served from the dirty buffer */
    uint64_t misses;          /* look-ups that found nothing of use */
    uint64_t claims;          /* given out */
    uint64_t waits;           /* look-ups that met another's claim */
    uint64_t lapsed;          /* claims that another one took over */
    uint64_t loads;           /* that have ended */
    uint64_t load_errors;     /* of these: failed */
    uint64_t
        suppressed_errors;  /* of these: an older value was served instead */
    uint64_t discarded;     /* loads that a write or an invalidation overtook:
                                   delivered, not stored */
    uint64_t invalidations; /* of everything */
    uint64_t reclaimed;     /* entries that tick took out because of one */
    uint64_t n_dirty;       /* now: keys whose newest write the store does
                                   not have */
    uint64_t used_bytes;    /* now: with CACHE_WEIGHED */
    struct cache_wb_stats writes; /* of write-behind */
};

/* What a loader may say about what it has loaded.  Zeroes when it is called. */
struct cache_loaded {
    uint64_t ttl_ms;      /* fresh for so long; 0 = freshness.ttl_ms,
                             CACHE_NEVER */
    uint64_t lifetime_ms; /* gone after so long, whatever freshness says;
                                                          0 = no limit */
    uint64_t version;     /* with CACHE_META_VERSION: the store's, 1 to
                             CACHE_MAX_VERSION; not kept over a newer one.
                             0 = the cache gives one */
    int status;           /* load_many: of this key, as load returns it */
};

/* Which values past their time a reader takes. */
enum cache_stale {
    CACHE_STALE_DEFAULT, /* as cache_freshness.h says */
    CACHE_STALE_NEVER,   /* none: what is not fresh is loaded first */
    CACHE_STALE_ALWAYS   /* any that is there, rather than wait for a load */
};

/* Options of one read; zeroes are the default. */
struct cache_reading {
    enum cache_stale stale;
    bool skip_read;       /* as if there were no entry: load anew */
    bool skip_write;      /* what is loaded is not kept */
    bool skip_store;      /* only what is here: no load */
    uint64_t wait_ms;     /* for another thread's load; 0 = config.wait_ms */
    uint64_t min_version; /* with CACHE_META_VERSION: what is older is as if it
                             were not there, so that who has written reads its
                             own writes, wherever they went */
};

/* Options of one write; zeroes are the default. */
struct cache_writing {
    const struct cache_freshness *freshness; /* NULL = the config's.  Its times
                                               of idleness, negative entries and
                                               errors are the cache's, always */
    uint64_t ttl_ms;      /* fresh for so long; 0 = freshness->ttl_ms */
    uint64_t lifetime_ms; /* of the data itself, in the store too, if it keeps
                             such times; 0 = no end */
    bool skip_write;      /* not to the cache: whatever it has leaves */
    bool skip_store;      /* not to the store */
    enum cache_ack ack;   /* write-behind: when the call returns */
    uint64_t *version; /* gets the version that the value has in the cache; 0 =
                          it has none there */
};

/* How a value was found.  Every call that reads returns one of these, or an
 * error, of which CACHE_EKEY means that there is no value. */
enum cache_found {
    CACHE_FOUND = 0,
    CACHE_FOUND_STALE = 1,   /* a value past its time */
    CACHE_FOUND_UNSTORED = 2 /* what was loaded, and is not in the cache: there
                                is no room, or it was overtaken */
};

enum cache_invalidation {
    CACHE_INVALIDATE_HARD, /* gone */
    CACHE_INVALIDATE_SOFT  /* past its fresh time */
};

/* The right to load a key, and the duty to commit or abandon.  Private. */
struct cache_claim {
    uint64_t ticket; /* 0 = none */
    uint32_t record;
};

/* --- claims: the table --------------------------------------------------- */

enum cache_pending_state {
    CACHE_PENDING_FREE,
    CACHE_PENDING_LOAD,  /* somebody has claimed the key */
    CACHE_PENDING_WRITE, /* somebody writes it to the store */
    CACHE_PENDING_DONE   /* only its waiters keep it */
};

#define CACHE__ASK_AGAIN 9 /* no enum cache_found: there is no result */

/* A key that is being loaded or written. */
struct cache_pending {
    uint64_t ticket;    /* of the claim that holds it */
    uint64_t hash;      /* of the key */
    uint64_t lapse_ms;  /* when the claim is over */
    uint32_t birth;     /* the epoch in which it began */
    uint32_t chain;     /* next record of the hash chain; FREE: of the list */
    uint32_t n_waiters; /* threads that wait for it */
    int status;         /* DONE: what they get; 0 = the value */
    enum cache_pending_state state;
    bool linked;     /* it is found by its key */
    bool overtaken;  /* the key was written or invalidated meanwhile */
    bool skip_write; /* what is loaded is not kept */
    bool lent;       /* a load that goes on without it has its key */
};

/* All of them.  Keys, and the values that waiters get, by record. */
struct cache_claims {
    struct cache_pending *records; /* [1..n] */
#ifdef CACHE__THREADS
    pthread_t *owners; /* who has claimed it: of a shared cache */
#endif
    uint32_t *heads; /* hash chains */
    unsigned char *keys, *values;
    size_t key_bytes, value_bytes; /* of one; no values where no thread waits */
    uint32_t n, n_heads;
    uint32_t free_records;
    uint32_t n_used;
    uint64_t ticket;   /* the latest */
    uint64_t lapse_ms; /* no claim lapses before */
    bool (*equal)(const void *a, const void *b);
};

CACHE_INLINE void *cache__claims_key(const struct cache_claims *t, uint32_t r)
{
    return t->keys + r * t->key_bytes;
}

CACHE_INLINE void *cache__claims_value(const struct cache_claims *t, uint32_t r)
{
    return t->values + r * t->value_bytes;
}

CACHE_INLINE uint32_t *cache__claims_head(const struct cache_claims *t,
                                          uint64_t hash)
{
    return &t->heads[((uint64_t)cache__upper(hash) * t->n_heads) >> 32];
}

/* The record of this key; 0 = there is none. */
CACHE_WARM uint32_t cache__claims_find(const struct cache_claims *t,
                                       const void *key, uint64_t hash)
{
    uint32_t r = *cache__claims_head(t, hash);

    while (r != 0 && !(t->records[r].hash == hash &&
                       t->equal(cache__claims_key(t, r), key)))
        r = t->records[r].chain;
    return r;
}

/* Nobody finds the record any more. */
CACHE_WARM void cache__claims_unlink(struct cache_claims *t, uint32_t r)
{
    uint32_t *at = cache__claims_head(t, t->records[r].hash);

    if (!t->records[r].linked)
        return;
    while (*at != r)
        at = &t->records[*at].chain;
    *at = t->records[r].chain;
    t->records[r].linked = false;
}

/* A new record of this key, of which there is none.  0 = all are in use.  Its
 * key is for the caller to fill in. */
CACHE_WARM uint32_t cache__claims_take(struct cache_claims *t, uint64_t hash,
                                       enum cache_pending_state state)
{
    uint32_t r = t->free_records;
    struct cache_pending *p = &t->records[r];

    if (r == 0)
        return 0;
    t->free_records = p->chain;
    t->n_used++;
    memset(p, 0, sizeof *p);
    p->hash = hash;
    p->state = state;
    p->linked = true;
    p->chain = *cache__claims_head(t, hash);
    *cache__claims_head(t, hash) = r;
    return r;
}

/* The holder of a claim; NULL if it is over, or never was. */
CACHE_WARM struct cache_pending *
cache__claims_held(const struct cache_claims *t,
                   const struct cache_claim *claim, uint64_t now_ms)
{
    struct cache_pending *p;

    if (claim->record == 0 || claim->record > t->n)
        return NULL;
    p = &t->records[claim->record];
    return p->ticket == claim->ticket && p->state == CACHE_PENDING_LOAD &&
                   now_ms < p->lapse_ms
               ? p
               : NULL;
}

CACHE_COLD const char *cache__claims_check(const struct cache_claims *t)
{
    uint32_t n = 0, n_used = 0, i, r;

    for (i = 0; i < t->n_heads; i++)
        for (r = t->heads[i]; r != 0; r = t->records[r].chain)
            if (r > t->n || ++n > t->n || !t->records[r].linked ||
                cache__claims_find(t, cache__claims_key(t, r),
                                   t->records[r].hash) != r)
                return "claims: a chain has a wrong record";
    for (r = 1; r <= t->n; r++) {
        const struct cache_pending *p = &t->records[r];

        n_used += p->state != CACHE_PENDING_FREE;
        n -= p->linked;
        if (p->state == CACHE_PENDING_DONE && (p->linked || p->n_waiters == 0))
            return "claims: a record is done, and nobody waits for it";
        if (p->state == CACHE_PENDING_FREE && p->linked)
            return "claims: a free record is in a chain";
        if (p->state == CACHE_PENDING_LOAD && p->lapse_ms < t->lapse_ms)
            return "claims: one lapses before the first does";
    }
    if (n != 0 || n_used != t->n_used)
        return "claims: a record was not counted";
    for (r = t->free_records; r != 0 && n_used <= t->n; n_used++)
        r = t->records[r].chain;
    return n_used == t->n ? NULL
                          : "claims: a record is neither in use nor free";
}

/* --- the front: types ---------------------------------------------------- */

/* What happens, for .on_event. */
enum cache_event_kind {
    CACHE_EVENT_INSERT,      /* a value came: key, value */
    CACHE_EVENT_UPDATE,      /* it took the place of another: key, value */
    CACHE_EVENT_REMOVE,      /* a value left: key, value, cause */
    CACHE_EVENT_LOAD_START,  /* a claim was given out: key */
    CACHE_EVENT_LOAD_END,    /* value, or none and status CACHE_EKEY: key */
    CACHE_EVENT_LOAD_ERROR,  /* key, status */
    CACHE_EVENT_WRITE_BATCH, /* a batch of write-behind came back: n writes, and
                                the status of the first that failed */
    CACHE_EVENT_DEAD_LETTER  /* a write was given up: bytes, status */
};

struct cache_event {
    enum cache_event_kind kind;
    const void *key;        /* K *, or NULL */
    const void *value;      /* V *, or NULL */
    enum cache_cause cause; /* REMOVE */
    int status;
    size_t n;
    const struct cache_store_item *letter; /* DEAD_LETTER */
};

/* What a store is told with a write. */
struct cache_storing {
    uint64_t expires_ms; /* when the data is over, unix ms; 0 = never */
    uint64_t version; /* of two writes of one key, the newer has the higher */
};

/* A write on its way through the front. */
struct cache_front_write {
    const void *key;
    const void *value; /* NULL = remove */
    uint64_t hash;
    struct cache_life life;
    struct cache_storing storing;
    uint32_t record;   /* that holds its key; 0 = none */
    bool conditional;  /* only over a value of this version: */
    uint64_t expected; /* 0 = only if there is none */
    uint64_t version;  /* what the value has got */
#ifdef CACHE__THREADS
    struct cache_journal_ticket ticket; /* of write-behind with a journal */
#endif
    int status;
};

/* What is known of an entry: struct cache_entry as far as options are on, and
 * its moments, in ms of config.now's clock; CACHE_NEVER = they do not come. */
struct cache_loading_entry {
    struct cache_entry entry;
    uint64_t refresh_ms, fresh_ms, stale_ms, dead_ms;
    enum cache_verdict verdict; /* now; NEGATIVE: there is no value */
    int error;  /* NEGATIVE: CACHE_EKEY, or what the load has failed with */
    bool dirty; /* a write of it is on its way to the store */
};

/* What a visitor wants of the cell that it has seen. */
enum cache__visit {
    CACHE__VISIT_USED = 1,   /* it was read: the policy hears of it */
    CACHE__VISIT_CHANGED = 2 /* its life is another now */
};

/* `version` is 0 without CACHE_META_VERSION. */
typedef uint32_t (*cache__visitor)(struct cache_life *life, const void *value,
                                   uint64_t version, void *arg);

/* A function of a type's that loads: `fn` points to the pointer to it. */
struct cache__loader {
    const void *fn; /* NULL = the strategy's */
    void *user;
    bool many; /* it is a name_load_many_fn */
};

struct cache_front;

/* What a type's callbacks are, as far as the front has to know. */
enum cache__front_hooks {
    CACHE__HAS_KEY_COPY = 1,
    CACHE__HAS_KEY_FREE = 2,
    CACHE__HAS_LOAD = 4,
    CACHE__HAS_LOAD_MANY = 8,
    CACHE__HAS_STORE = 16,
    CACHE__HAS_REMOVE = 32,
    CACHE__HAS_STORE_MANY = 64,
    CACHE__HAS_EVENT = 128,
    CACHE__HAS_RETAIN = 256
};

/* What the front has to know of a type; one constant for each.  `f` is the
 * first member of the type's struct. */
struct cache_front_type {
    uint32_t options;
    bool shared;
    size_t key_bytes, value_bytes;
    bool (*equal)(const void *a, const void *b);
    uint64_t (*hash)(const struct cache_front *f, const void *key);
    int (*key_copy)(void *key, void *user);
    void (*key_free)(void *key, void *user);
    void (*retain)(const void *value, void *user);
    void (*discard)(const void *key, const void *value, void *user);
    /* Shows the live cell of a key, under its lock; false if there is none. */
    bool (*visit)(struct cache_front *f, const void *key, uint64_t hash,
                  cache__visitor visitor, void *arg);
    /* *version is the caller's, or 0; then what it has got */
    int (*put)(struct cache_front *f, const void *key, const void *value,
               const struct cache_life *life, uint64_t hash, uint64_t ttl_ms,
               uint64_t *version);
    int (*entry)(struct cache_front *f, const void *key,
                 struct cache_entry *out);
    int (*remove)(struct cache_front *f, const void *key);
    /* Keeps it for so long from now. */
    int (*extend)(struct cache_front *f, const void *key, uint64_t ttl_ms);
    void (*clear)(struct cache_front *f);
    int (*call)(const void *fn, const void *key, void *value,
                struct cache_loaded *loaded, void *user);
    int (*load)(const void *key, void *value, struct cache_loaded *loaded,
                void *user);
    void (*load_many)(const void *fn, const void *keys, void *values,
                      struct cache_loaded *loaded, size_t n, void *user);
    int (*store)(const struct cache_front_write *write, void *user);
    size_t write_bytes, status_at; /* of struct name_write, and in it */
    void (*describe)(void *typed, const struct cache_front_write *write);
    void (*store_many)(void *typed, size_t n, void *user);
    void (*tell)(const struct cache_event *event, void *user);
};

/* The part of a loading cache that does not depend on its types.  First what
 * a hit reads.  Members are private. */
struct cache_front {
    struct cache_clock clock;
    uint32_t soft, hard; /* struct cache_moment */
    bool timed;          /* there may be a moment that comes: ask the clock */
    bool idles;          /* there is an idle time: reads put the end off */

    uint32_t epoch;       /* grows with each invalidation; never 0 */
    uint32_t reclaimed;   /* no cell was born before this epoch */
    uint32_t sweep_for;   /* the epoch that a sweep under way makes true */
    uint32_t sweep_at;    /* the slot that it looked at last */
    uint32_t sweep_shard; /* of a shared cache: where that is */
    bool open, threads, behind;
    bool offloads;  /* loaders and stores run on threads of the loop half's */
    bool contested; /* other caches of the program write to the same store */
    uint32_t hooks; /* enum cache__front_hooks */
    const struct cache_front_type *type;
    struct cache_loading_config config; /* with the defaults filled in */
    struct cache_loading_stats stats;
    struct cache_claims claims;
    struct cache_wb writes;
    struct cache_store_batch *returned; /* by the store, not looked at yet */
    uint64_t random;                    /* of the jitter */
    uint64_t version;                   /* of the latest write */
    uint64_t n_lost;                    /* writes that close gave up */
    struct cache_histogram *timings;    /* by enum cache_timing; NULL = off */
    unsigned char *scratch; /* a key and a value as bytes, and as objects */
    size_t key_max, value_max;
    void *memory;
#ifdef CACHE__THREADS
    struct cache_journal journal;
    struct cache_journal_ticket ticket; /* of the latest write in it */
    bool journals;                      /* there is one */
    bool safe;              /* closing: what the journal has is not lost */
    pthread_mutex_t lock;   /* of all below the first members */
    pthread_cond_t changed; /* a claim is over, a batch has come back */
#endif
};

/* --- the front: small parts ---------------------------------------------- */

CACHE_INLINE void cache__front_lock(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (f->threads)
        (void)pthread_mutex_lock(&f->lock);
#else
    (void)f;
#endif
}

CACHE_INLINE void cache__front_unlock(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (f->threads)
        (void)pthread_mutex_unlock(&f->lock);
#else
    (void)f;
#endif
}

CACHE_INLINE bool cache__front_journals(const struct cache_front *f)
{
#ifdef CACHE__THREADS
    return f->journals;
#else
    (void)f;
    return false;
#endif
}

CACHE_INLINE void cache__front_changed(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (f->threads)
        (void)pthread_cond_broadcast(&f->changed);
#else
    (void)f;
#endif
}

#define CACHE__POLL_MS 5u /* where nobody says that something has changed */

/* Waits, without the lock meanwhile, until something has changed, or for so
 * long; a clock of the program's may run as it likes, so it is looked at often.
 */
CACHE_COLD void cache__front_wait(struct cache_front *f, uint64_t ms)
{
#ifdef CACHE__THREADS
    struct timespec until;

    if (ms > CACHE__POLL_MS && (f->config.cache.now || f->config.cache.now_ms))
        ms = CACHE__POLL_MS;
    ms = ms < 1 ? 1 : ms > 1000 ? 1000 : ms;
#if defined(CACHE__COND_CLOCK)
    (void)clock_gettime(CACHE__COND_CLOCK, &until);
#else
    (void)timespec_get(&until, TIME_UTC);
#endif
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    if (!f->threads)
        (void)pthread_mutex_lock(&f->lock);
    (void)pthread_cond_timedwait(&f->changed, &f->lock, &until);
    if (!f->threads)
        (void)pthread_mutex_unlock(&f->lock);
#else
    (void)f;
    (void)ms;
#endif
}

#ifdef CACHE__THREADS
/* Returns 0 or CACHE_ENOMEM. */
CACHE_COLD int cache__front_make_locks(struct cache_front *f)
{
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);

    if (rc != 0)
        return CACHE_ENOMEM;
#if defined(CACHE__COND_CLOCK)
    rc = pthread_condattr_setclock(&attributes, CACHE__COND_CLOCK);
#endif
    if (rc == 0)
        rc = pthread_cond_init(&f->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (rc != 0)
        return CACHE_ENOMEM;
    if (pthread_mutex_init(&f->lock, NULL) != 0) {
        (void)pthread_cond_destroy(&f->changed);
        return CACHE_ENOMEM;
    }
    return 0;
}

CACHE_COLD void cache__front_break_locks(struct cache_front *f)
{
    (void)pthread_mutex_destroy(&f->lock);
    (void)pthread_cond_destroy(&f->changed);
}
#endif

/* This thread holds the record: to wait for it would be to wait for oneself. */
CACHE_INLINE bool cache__front_is_mine(const struct cache_front *f, uint32_t r)
{
#ifdef CACHE__THREADS
    if (f->type->shared)
        return pthread_equal(f->claims.owners[r], pthread_self()) != 0;
#endif
    (void)f;
    (void)r;
    return true;
}

CACHE_INLINE bool cache__front_has(const struct cache_front *f, uint32_t hook)
{
    return (f->hooks & hook) != 0;
}

/* A copy of the value is given out. */
CACHE_INLINE void cache__front_retain(const struct cache_front *f,
                                      const void *value)
{
    if (cache__front_has(f, CACHE__HAS_RETAIN))
        f->type->retain(value, f->config.cache.user);
}

CACHE_INLINE void cache__front_count(struct cache_front *f, uint64_t *counter)
{
    cache__count(f->type->options, counter);
}

CACHE_INLINE void cache__front_tell(struct cache_front *f,
                                    enum cache_event_kind kind, const void *key,
                                    const void *value, int status)
{
    struct cache_event event;

    if (!cache__front_has(f, CACHE__HAS_EVENT))
        return;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.key = key;
    event.value = value;
    event.status = status;
    f->type->tell(&event, f->config.cache.user);
}

CACHE_INLINE struct cache_moment cache__front_moment(struct cache_front *f)
{
    struct cache_moment at;

    at.tick = CACHE_ATOMIC_LOAD(&f->timed) ? cache__clock_tick(&f->clock) : 1;
    at.soft = CACHE_ATOMIC_LOAD(&f->soft);
    at.hard = CACHE_ATOMIC_LOAD(&f->hard);
    return at;
}

CACHE_COLD uint64_t cache__front_wall_now(const struct cache_front *f)
{
    struct timespec now;

    if (f->config.wall_now)
        return f->config.wall_now(f->config.cache.user);
    if (timespec_get(&now, TIME_UTC) != TIME_UTC)
        return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* When a tick begins; CACHE_NEVER. */
CACHE_WARM uint64_t cache__front_ms(const struct cache_front *f, uint32_t tick)
{
    return tick == CACHE_LIFE_FOREVER
               ? CACHE_NEVER
               : f->clock.start_ms + (uint64_t)(tick - 1) * f->clock.tick_ms;
}

/* Milliseconds from now to the beginning of a tick; CACHE_NEVER. */
CACHE_WARM uint64_t cache__front_until(struct cache_front *f, uint32_t tick)
{
    uint64_t at_ms = cache__front_ms(f, tick);
    uint64_t now_ms = cache__clock_ms(&f->clock);

    if (at_ms == CACHE_NEVER)
        return CACHE_NEVER;
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

/* How long the cells keep an entry: never shorter than its life, which is what
 * counts. */
CACHE_WARM uint64_t cache__front_cell_ttl(struct cache_front *f,
                                          const struct cache_life *life)
{
    uint64_t ttl_ms = cache__front_until(f, life->dead_at);

    if (f->idles) { /* what is beyond range is as far as there are ticks */
        uint64_t idle_ms = cache__front_until(
            f, cache__clock_after(&f->clock, f->config.freshness.idle_ms));

        ttl_ms = idle_ms < ttl_ms ? idle_ms : ttl_ms;
    }
    return ttl_ms < f->clock.tick_ms ? f->clock.tick_ms : ttl_ms;
}

CACHE_WARM void cache__front_timed(struct cache_front *f,
                                   const struct cache_life *life)
{
    if (!f->timed && (life->dead_at != CACHE_LIFE_FOREVER ||
                      life->refresh_at != CACHE_LIFE_FOREVER || f->idles))
        CACHE_ATOMIC_STORE(&f->timed, true);
}

CACHE_WARM struct cache_life
cache__front_life(struct cache_front *f,
                  const struct cache_freshness *freshness, uint64_t ttl_ms,
                  uint64_t lifetime_ms, uint32_t birth)
{
    struct cache_life life;

    if (freshness == NULL)
        freshness = &f->config.freshness;
    f->random = cache__mix(f->random + 1, CACHE__K1);
    life = cache_life_of(freshness, &f->clock, ttl_ms, lifetime_ms, birth,
                         f->random);
    cache__front_timed(f, &life);
    return life;
}

/* --- the front: timings -------------------------------------------------- */

CACHE_COLD uint64_t cache__front_now_ns(const struct cache_front *f)
{
    struct timespec now;

    if (f->config.now_ns)
        return f->config.now_ns(f->config.cache.user);
#if defined(CLOCK_MONOTONIC)
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return 0;
#else
    if (timespec_get(&now, TIME_UTC) != TIME_UTC)
        return 0;
#endif
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Something begins that is measured.  `options` is a constant of the caller's
 * where it matters. */
CACHE_INLINE uint64_t cache__front_begin(const struct cache_front *f,
                                         uint32_t options)
{
    return options & CACHE_TIMINGS ? cache__front_now_ns(f) : 0;
}

CACHE_COLD void cache__front_took(struct cache_front *f, enum cache_timing what,
                                  uint64_t begun_ns)
{
    uint64_t now_ns = cache__front_now_ns(f);
    uint64_t ns = now_ns > begun_ns ? now_ns - begun_ns : 0;

#ifdef CACHE__THREADS
    if (f->type->shared || f->offloads) {
        cache_histogram_add_shared(&f->timings[what], ns);
        return;
    }
#endif
    cache_histogram_add(&f->timings[what], ns);
}

CACHE_INLINE void cache__front_end(struct cache_front *f, uint32_t options,
                                   enum cache_timing what, uint64_t begun_ns)
{
    if (options & CACHE_TIMINGS)
        cache__front_took(f, what, begun_ns);
}

/* --- the front: the store ------------------------------------------------ */

/* Operations of one call that go to config.store together, and back. */
struct cache__call {
    struct cache_store_batch batch; /* first: the store returns this */
    struct cache_front *f;
    bool done;
};

CACHE_COLD void cache__call_done(struct cache_store_batch *batch)
{
    struct cache__call *call = (struct cache__call *)(void *)batch;
    struct cache_front *f = call->f;

    cache__front_lock(f);
    call->done = true;
    cache__front_changed(f);
    cache__front_unlock(f);
}

/* Has the store work off a call.  Returns 0 when each item has its status, or
 * what submit returned. */
CACHE_COLD int cache__call_store(struct cache_front *f,
                                 struct cache__call *call)
{
    int rc;

    call->f = f;
    call->done = false;
    call->batch.done = cache__call_done;
    call->batch.user = f;
    rc = f->config.store->submit(f->config.store, &call->batch);
    if (rc != 0)
        return rc;
    cache__front_lock(f);
    while (!call->done)
        cache__front_wait(f, 1000);
    cache__front_unlock(f);
    return 0;
}

CACHE_COLD void *cache__front_alloc(const struct cache_front *f, size_t bytes)
{
    const struct cache_config *config = &f->config.cache;

    return config->alloc ? config->alloc(bytes, config->user) : malloc(bytes);
}

CACHE_COLD void cache__front_free(const struct cache_front *f, void *memory)
{
    const struct cache_config *config = &f->config.cache;

    if (config->free && memory)
        config->free(memory, config->user);
    else
        free(memory);
}

/* Room for the items of a call, their keys and their values. */
CACHE_COLD struct cache_store_item *
cache__front_items(const struct cache_front *f, size_t n)
{
    size_t bytes = sizeof(struct cache_store_item) + f->key_max + f->value_max;
    struct cache_store_item *items;
    unsigned char *room;
    size_t i;

    if (n > SIZE_MAX / 2 / bytes)
        return NULL;
    items = (struct cache_store_item *)cache__front_alloc(f, n * bytes);
    if (items == NULL)
        return NULL;
    memset(items, 0, n * sizeof *items);
    room = (unsigned char *)(void *)(items + n);
    for (i = 0; i < n; i++) {
        items[i].key.data = room + i * f->key_max;
        items[i].buffer = room + n * f->key_max + i * f->value_max;
        items[i].buffer_bytes = f->config.value_codec->max_bytes;
        items[i].value.data = items[i].buffer;
    }
    return items;
}

/* Encodes into bytes that *to points to already. */
CACHE_COLD int cache__front_encode(const struct cache_codec *codec,
                                   const void *object, struct cache_bytes *to)
{
    return codec->encode(codec, object, (void *)(uintptr_t)to->data, &to->len);
}

/* What a store has found becomes a value, and what the loader would say. */
CACHE_COLD int cache__front_found(const struct cache_front *f,
                                  const struct cache_store_item *item,
                                  void *value, struct cache_loaded *loaded)
{
    uint64_t now_ms;

    if (item->status != 0)
        return item->status;
    if (item->expires_ms != 0) {
        now_ms = cache__front_wall_now(f);
        if (item->expires_ms <= now_ms)
            return CACHE_EKEY;
        loaded->lifetime_ms = item->expires_ms - now_ms;
    }
    return f->config.value_codec->decode(
        f->config.value_codec, item->value.data, item->value.len, value);
}

/* Loads n keys from config.store, in one batch. */
CACHE_COLD void cache__front_load_bytes(struct cache_front *f,
                                        const unsigned char *keys,
                                        unsigned char *values,
                                        struct cache_loaded *loaded, size_t n)
{
    struct cache_store_item *items = cache__front_items(f, n);
    struct cache__call call;
    size_t i, sent = 0;
    int rc = items ? 0 : CACHE_ENOMEM;

    memset(&call, 0, sizeof call);
    for (i = 0; i < n; i++) {
        loaded[i].status = rc;
        if (rc != 0)
            continue;
        loaded[i].status = cache__front_encode(f->config.key_codec,
                                               keys + i * f->type->key_bytes,
                                               &items[sent].key);
        items[sent].op = CACHE_STORE_GET;
        if (loaded[i].status == 0)
            sent++;
    }
    call.batch.items = items;
    call.batch.n_items = sent;
    if (sent > 0)
        rc = cache__call_store(f, &call);
    for (i = 0, sent = 0; i < n; i++)
        if (loaded[i].status == 0)
            loaded[i].status =
                rc ? rc
                   : cache__front_found(f, &items[sent++],
                                        values + i * f->type->value_bytes,
                                        &loaded[i]);
    cache__front_free(f, items);
}

/* Loads n keys by whatever loads: loader, store or callbacks.  Each has its
 * status then: 0, CACHE_EKEY or another error. */
CACHE_COLD void cache__front_load_all(struct cache_front *f,
                                      const struct cache__loader *loader,
                                      const unsigned char *keys,
                                      unsigned char *values,
                                      struct cache_loaded *loaded, size_t n)
{
    const struct cache_front_type *type = f->type;
    void *user = loader->fn ? loader->user : f->config.cache.user;
    bool many =
        loader->fn ? loader->many : cache__front_has(f, CACHE__HAS_LOAD_MANY);
    uint64_t begun_ns = cache__front_begin(f, type->options);
    size_t i;

    if (loader->fn == NULL && f->config.store != NULL) {
        cache__front_load_bytes(f, keys, values, loaded, n);
        cache__front_end(f, type->options, CACHE_TIMING_LOAD, begun_ns);
        return;
    }
    if (many)
        type->load_many(loader->fn, keys, values, loaded, n, user);
    for (i = 0; i < n; i++) {
        const void *key = keys + i * type->key_bytes;
        void *value = values + i * type->value_bytes;

        if (!many)
            loaded[i].status =
                loader->fn
                    ? type->call(loader->fn, key, value, &loaded[i], user)
                    : type->load(key, value, &loaded[i], user);
        if (loaded[i].status > 0)
            loaded[i].status = CACHE_EINVAL;
    }
    cache__front_end(f, type->options, CACHE_TIMING_LOAD, begun_ns);
}

/* Writes to config.store, in one batch. */
CACHE_COLD void cache__front_store_bytes(struct cache_front *f,
                                         struct cache_front_write *writes,
                                         size_t n)
{
    struct cache_store_item *items = cache__front_items(f, n);
    struct cache__call call;
    size_t i, sent = 0;
    int rc = items ? 0 : CACHE_ENOMEM;

    memset(&call, 0, sizeof call);
    for (i = 0; i < n; i++) {
        struct cache_store_item *item = &items[sent];

        writes[i].status = rc;
        if (rc != 0)
            continue;
        item->op = writes[i].value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
        item->expires_ms = writes[i].storing.expires_ms;
        item->version = writes[i].storing.version;
        item->value.len = 0;
        rc =
            cache__front_encode(f->config.key_codec, writes[i].key, &item->key);
        if (rc == 0 && writes[i].value)
            rc = cache__front_encode(f->config.value_codec, writes[i].value,
                                     &item->value);
        writes[i].status = rc;
        sent += rc == 0;
        rc = 0;
    }
    call.batch.items = items;
    call.batch.n_items = sent;
    if (sent > 0)
        rc = cache__call_store(f, &call);
    for (i = 0, sent = 0; i < n; i++)
        if (writes[i].status == 0)
            writes[i].status = rc ? rc : items[sent++].status;
    cache__front_free(f, items);
}

/* Writes to a callback that wants many of its type. */
CACHE_COLD void cache__front_store_typed(struct cache_front *f,
                                         struct cache_front_write *writes,
                                         size_t n)
{
    const struct cache_front_type *type = f->type;
    unsigned char *typed =
        n > SIZE_MAX / 2 / type->write_bytes
            ? NULL
            : (unsigned char *)cache__front_alloc(f, n * type->write_bytes);
    size_t i;

    for (i = 0; i < n; i++) {
        writes[i].status = CACHE_ENOMEM;
        if (typed != NULL)
            type->describe(typed + i * type->write_bytes, &writes[i]);
    }
    if (typed == NULL)
        return;
    type->store_many(typed, n, f->config.cache.user);
    for (i = 0; i < n; i++)
        memcpy(&writes[i].status,
               typed + i * type->write_bytes + type->status_at, sizeof(int));
    cache__front_free(f, typed);
}

/* Writes to whatever stores, in one call if there is one for many.  Each write
 * has its status then. */
CACHE_COLD void cache__front_store_all(struct cache_front *f,
                                       struct cache_front_write *writes,
                                       size_t n)
{
    uint64_t begun_ns = cache__front_begin(f, f->type->options);
    void *user = f->config.cache.user;
    size_t i;

    if (f->config.store != NULL) {
        cache__front_store_bytes(f, writes, n);
        cache__front_end(f, f->type->options, CACHE_TIMING_STORE, begun_ns);
        return;
    }
    if (cache__front_has(f, CACHE__HAS_STORE_MANY))
        cache__front_store_typed(f, writes, n);
    for (i = 0; i < n; i++) {
        if (!cache__front_has(f, CACHE__HAS_STORE_MANY))
            writes[i].status = f->type->store(&writes[i], user);
        if (writes[i].status > 0)
            writes[i].status = CACHE_EINVAL;
    }
    cache__front_end(f, f->type->options, CACHE_TIMING_STORE, begun_ns);
}

/* --- the front: claims --------------------------------------------------- */

/* The record is nobody's any more, but for those who wait for it: they get
 * `status`. */
CACHE_WARM void cache__front_release(struct cache_front *f, uint32_t r,
                                     int status)
{
    struct cache_claims *t = &f->claims;
    struct cache_pending *p = &t->records[r];

    cache__claims_unlink(t, r);
    p->state = CACHE_PENDING_DONE;
    p->status = status;
    if (p->n_waiters > 0) {
        cache__front_changed(f);
        return;
    }
    if (cache__front_has(f, CACHE__HAS_KEY_FREE) && !p->lent)
        f->type->key_free(cache__claims_key(t, r), f->config.cache.user);
    p->state = CACHE_PENDING_FREE;
    p->chain = t->free_records;
    t->free_records = r;
    t->n_used--;
}

/* Claims that have lapsed, and that nobody took over, make room.  They are
 * looked for when one may have. */
CACHE_COLD void cache__front_reap(struct cache_front *f)
{
    struct cache_claims *t = &f->claims;
    uint64_t now_ms = cache__clock_ms(&f->clock);
    uint32_t r;

    if (now_ms < t->lapse_ms)
        return;
    t->lapse_ms = CACHE_NEVER;
    for (r = 1; r <= t->n; r++) {
        const struct cache_pending *p = &t->records[r];

        if (p->state != CACHE_PENDING_LOAD)
            continue;
        if (p->lapse_ms <= now_ms && p->n_waiters == 0)
            cache__front_release(f, r, CACHE__ASK_AGAIN);
        else if (p->lapse_ms < t->lapse_ms)
            t->lapse_ms = p->lapse_ms;
    }
}

/* Gives the record to this thread, for so long as a claim lasts. */
CACHE_WARM void cache__front_hold(struct cache_front *f, uint32_t r)
{
    struct cache_claims *t = &f->claims;
    struct cache_pending *p = &t->records[r];

    p->ticket = ++t->ticket;
    p->lapse_ms = cache__sum_ms(cache__clock_ms(&f->clock), f->config.claim_ms);
    p->birth = f->epoch;
    if (p->lapse_ms < t->lapse_ms)
        t->lapse_ms = p->lapse_ms;
#ifdef CACHE__THREADS
    if (f->type->shared)
        t->owners[r] = pthread_self();
#endif
}

/* Takes a record for a key that has none.  Returns 0, CACHE_EFULL or
 * key_copy's error. */
CACHE_WARM int cache__front_take(struct cache_front *f, const void *key,
                                 uint64_t hash, enum cache_pending_state state,
                                 uint32_t *record)
{
    struct cache_claims *t = &f->claims;
    uint32_t r;
    int rc;

    if (t->free_records == 0)
        cache__front_reap(f);
    r = t->free_records;
    if (r == 0)
        return CACHE_EFULL;
    memcpy(cache__claims_key(t, r), key, f->type->key_bytes);
    rc = cache__front_has(f, CACHE__HAS_KEY_COPY)
             ? f->type->key_copy(cache__claims_key(t, r), f->config.cache.user)
             : 0;
    if (rc != 0)
        return rc;
    *record = cache__claims_take(t, hash, state);
    cache__front_hold(f, r);
    return 0;
}

/* The key is written or invalidated: what a load of it brings is out of date,
 * and the next reader begins anew. */
CACHE_COLD void cache__front_overtake(struct cache_front *f, const void *key,
                                      uint64_t hash)
{
    uint32_t r = cache__claims_find(&f->claims, key, hash);

    if (r == 0)
        return;
    f->claims.records[r].overtaken = true;
    if (f->claims.records[r].state == CACHE_PENDING_LOAD)
        cache__claims_unlink(&f->claims, r);
}

/* The record of this key; 0 = there is none.  A load that is out of date since
 * everything was invalidated is overtaken here, when somebody asks. */
CACHE_WARM uint32_t cache__front_find(struct cache_front *f, const void *key,
                                      uint64_t hash)
{
    uint32_t r = cache__claims_find(&f->claims, key, hash);
    struct cache_pending *p = &f->claims.records[r];

    if (r == 0 || p->state != CACHE_PENDING_LOAD ||
        (p->birth >= f->soft && !p->overtaken))
        return r;
    p->overtaken = true;
    cache__claims_unlink(&f->claims, r);
    return 0;
}

/* Somebody holds this record, and it has not lapsed. */
CACHE_WARM bool cache__front_claimed(struct cache_front *f, uint32_t r)
{
    const struct cache_pending *p = &f->claims.records[r];

    return r != 0 && (p->state == CACHE_PENDING_WRITE ||
                      cache__clock_ms(&f->clock) < p->lapse_ms);
}

#endif /* CACHE_FRONT_H */
