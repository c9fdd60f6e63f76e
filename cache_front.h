/*
 * cache_front.h - what stands between a program, a cache and a store: the part
 * of loading caches (cache_loading.h) that knows neither keys nor values.
 *
 * WHAT IT DOES
 *   Who is loading or writing which key, what a reader gets, how a write finds
 *   its way, what an invalidation makes of all that.  Real functions over
 *   `const void *key` and `void *value`, and a table of what differs from type
 *   to type.  A hit on a fresh value does not come here.
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
 *   longer found, so the next reader begins anew; what it brings is delivered to
 *   those who wait for it, and not kept.
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

#define CACHE__ASK_AGAIN 1 /* the status of a load without a result */

/* A key that is being loaded or written. */
struct cache_pending {
    uint64_t ticket;   /* of the claim that holds it */
    uint64_t hash;     /* of the key */
    uint64_t lapse_ms; /* when the claim is over */
#ifdef CACHE__THREADS
    pthread_t owner; /* the thread that claimed it */
#endif
    uint32_t birth;     /* the epoch in which it began */
    uint32_t chain;     /* next record of the hash chain; FREE: of the list */
    uint32_t n_waiters; /* threads that wait for it */
    int status;         /* DONE: what they get; 0 = the value */
    enum cache_pending_state state;
    bool linked;     /* it is found by its key */
    bool overtaken;  /* the key was written or invalidated meanwhile */
    bool skip_write; /* what is loaded is not kept */
};

/* All of them.  Keys, and the values that waiters get, by record. */
struct cache_claims {
    struct cache_pending *records; /* [1..n] */
    struct cache_link *ages;       /* those in use, by lapse_ms */
    uint32_t *heads;               /* hash chains */
    unsigned char *keys, *values;
    size_t key_bytes, value_bytes; /* of one; no values where no thread waits */
    uint32_t n, n_heads;
    uint32_t free_records;
    uint32_t n_used;
    uint64_t ticket; /* the latest */
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
CACHE_COLD uint32_t cache__claims_find(const struct cache_claims *t,
                                       const void *key, uint64_t hash)
{
    uint32_t r = *cache__claims_head(t, hash);

    while (r != 0 && !(t->records[r].hash == hash &&
                       t->equal(cache__claims_key(t, r), key)))
        r = t->records[r].chain;
    return r;
}

/* Nobody finds the record any more. */
CACHE_COLD void cache__claims_unlink(struct cache_claims *t, uint32_t r)
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
CACHE_COLD uint32_t cache__claims_take(struct cache_claims *t, uint64_t hash,
                                       enum cache_pending_state state)
{
    uint32_t r = t->free_records;
    struct cache_pending *p = &t->records[r];

    if (r == 0)
        return 0;
    t->free_records = p->chain;
    t->n_used++;
    memset(p, 0, sizeof *p);
    p->ticket = ++t->ticket;
    p->hash = hash;
    p->state = state;
    p->linked = true;
    p->chain = *cache__claims_head(t, hash);
    *cache__claims_head(t, hash) = r;
    cache__list_push(t->ages, 0, r);
    return r;
}

/* The holder of a claim; NULL if it is over, or never was. */
CACHE_COLD struct cache_pending *
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
    }
    if (n != 0 || n_used != t->n_used)
        return "claims: a record was not counted";
    for (r = t->free_records; r != 0 && n_used <= t->n; n_used++)
        r = t->records[r].chain;
    if (n_used != t->n)
        return "claims: a record is neither in use nor free";
    return cache__list_check(t->ages, 0, t->n, t->n_used);
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
    int (*remove)(struct cache_front *f, const void *key, uint64_t hash);
    int (*keep)(struct cache_front *f, const void *key, uint64_t hash,
                uint64_t ttl_ms); /* until so much later */
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
        return pthread_equal(f->claims.records[r].owner, pthread_self()) != 0;
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
CACHE_COLD uint64_t cache__front_ms(const struct cache_front *f, uint32_t tick)
{
    return tick == CACHE_LIFE_FOREVER
               ? CACHE_NEVER
               : f->clock.start_ms + (uint64_t)(tick - 1) * f->clock.tick_ms;
}

/* Milliseconds from now to the beginning of a tick; CACHE_NEVER. */
CACHE_COLD uint64_t cache__front_until(struct cache_front *f, uint32_t tick)
{
    uint64_t at_ms = cache__front_ms(f, tick);
    uint64_t now_ms = cache__clock_ms(&f->clock);

    if (at_ms == CACHE_NEVER)
        return CACHE_NEVER;
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

/* How long the cells keep an entry: never shorter than its life, which is what
 * counts. */
CACHE_COLD uint64_t cache__front_cell_ttl(struct cache_front *f,
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

CACHE_COLD void cache__front_timed(struct cache_front *f,
                                   const struct cache_life *life)
{
    if (!f->timed && (life->dead_at != CACHE_LIFE_FOREVER ||
                      life->refresh_at != CACHE_LIFE_FOREVER || f->idles))
        CACHE_ATOMIC_STORE(&f->timed, true);
}

CACHE_COLD struct cache_life
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
    if (f->type->shared) {
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

/* The data is over at this unix time, which is now or was before. */
CACHE_INLINE bool cache__front_over(const struct cache_front *f,
                                    uint64_t expires_ms)
{
    return expires_ms != 0 && expires_ms <= cache__front_wall_now(f);
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

/* Writes to config.store or to the callbacks, in one call if there is one for
 * many.  Each write has its status then. */
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

/* The same for a callback that wants writes of its type. */
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
CACHE_COLD void cache__front_release(struct cache_front *f, uint32_t r,
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
    if (cache__front_has(f, CACHE__HAS_KEY_FREE))
        f->type->key_free(cache__claims_key(t, r), f->config.cache.user);
    cache__list_unlink(t->ages, r);
    p->state = CACHE_PENDING_FREE;
    p->chain = t->free_records;
    t->free_records = r;
    t->n_used--;
}

/* Claims that have lapsed, and that nobody took over, make room. */
CACHE_COLD void cache__front_reap(struct cache_front *f)
{
    struct cache_claims *t = &f->claims;
    uint64_t now_ms = cache__clock_ms(&f->clock);
    uint32_t r = cache__list_oldest(t->ages, 0), newer;

    for (; r != 0 && t->records[r].lapse_ms <= now_ms; r = newer) {
        newer = t->ages[r].newer;
        if (t->records[r].state == CACHE_PENDING_LOAD &&
            t->records[r].n_waiters == 0)
            cache__front_release(f, r, CACHE__ASK_AGAIN);
    }
}

/* Gives the record to this thread, for so long as a claim lasts. */
CACHE_COLD void cache__front_hold(struct cache_front *f, uint32_t r)
{
    struct cache_pending *p = &f->claims.records[r];
    uint64_t now_ms = cache__clock_ms(&f->clock);

    p->ticket = ++f->claims.ticket;
    p->lapse_ms = cache__sum_ms(now_ms, f->config.claim_ms);
    p->birth = f->epoch;
#ifdef CACHE__THREADS
    p->owner = pthread_self();
#endif
    cache__list_unlink(f->claims.ages, r);
    cache__list_push(f->claims.ages, 0, r);
}

/* Takes a record for a key that has none.  Returns 0, CACHE_EFULL or
 * key_copy's error. */
CACHE_COLD int cache__front_take(struct cache_front *f, const void *key,
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
CACHE_COLD uint32_t cache__front_find(struct cache_front *f, const void *key,
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
CACHE_COLD bool cache__front_claimed(struct cache_front *f, uint32_t r)
{
    const struct cache_pending *p = &f->claims.records[r];

    return r != 0 && (p->state == CACHE_PENDING_WRITE ||
                      cache__clock_ms(&f->clock) < p->lapse_ms);
}

/* --- the front: reading -------------------------------------------------- */

static const struct cache_reading cache__read_default CACHE_UNUSED = {
    CACHE_STALE_DEFAULT, false, false, false, 0, 0
};

/* A look-up on its way through the front. */
struct cache__reader {
    const void *key;
    uint64_t hash;
    void *out;
    const struct cache_reading *how;
    struct cache_claim *claim; /* NULL = this reader does not load */
    bool keep_old; /* a value that this reader loads anew is copied, too */
    bool fallback; /* anything that may be served is */
    bool quiet;    /* and that does not count as a use */

    struct cache_front *f;
    struct cache_moment at;
    bool dirty, claimed;
    uint32_t record;        /* that holds the key; 0 = none */
    bool served;            /* *out is filled in */
    bool fresh;             /* with a value that is fresh */
    bool unstored;          /* with one that the cells have no room for */
    uint64_t version;       /* of the value that was seen */
    struct cache_life life; /* and its own */
    int answer;
};

CACHE_INLINE struct cache__reader
cache__reader_of(const void *key, uint64_t hash, void *out,
                 const struct cache_reading *how)
{
    struct cache__reader look;

    memset(&look, 0, sizeof look);
    look.key = key;
    look.hash = hash;
    look.out = out;
    look.how = how ? how : &cache__read_default;
    return look;
}

/* What the options of a call make of an answer. */
CACHE_COLD int cache__front_bend(const struct cache__reader *look, int answer,
                                 enum cache_verdict verdict)
{
    const enum cache_stale stale = look->how->stale;
    bool past =
        verdict != CACHE_VERDICT_FRESH && verdict != CACHE_VERDICT_REFRESH;

    if (look->dirty)
        return answer;
    if (look->how->skip_read || (stale == CACHE_STALE_NEVER && past &&
                                 verdict != CACHE_VERDICT_NEGATIVE))
        return look->claimed ? CACHE_CLAIM_MISS_WAIT
                             : CACHE_CLAIM_MISS_YOU_LOAD;
    if (stale == CACHE_STALE_ALWAYS && verdict == CACHE_VERDICT_FALLBACK)
        return look->claimed ? CACHE_CLAIM_STALE
                             : CACHE_CLAIM_STALE_YOU_REFRESH;
    return answer;
}

CACHE_COLD uint32_t cache__front_see(struct cache_life *life, const void *value,
                                     uint64_t version, void *arg)
{
    struct cache__reader *look = (struct cache__reader *)arg;
    enum cache_verdict verdict = cache_life_verdict(life, &look->at);

    look->version = version;
    look->life = *life;
    if (version < look->how->min_version && !look->dirty) {
        look->answer =
            look->claimed ? CACHE_CLAIM_MISS_WAIT : CACHE_CLAIM_MISS_YOU_LOAD;
        return 0;
    }
    look->answer = cache__front_bend(
        look, cache_decide(life, &look->at, look->dirty, look->claimed),
        verdict);
    if (!cache_life_has_value(life, &look->at))
        return 0;
    look->fresh =
        verdict == CACHE_VERDICT_FRESH || verdict == CACHE_VERDICT_REFRESH;
    look->served =
        (look->fallback && !look->how->skip_read &&
         (look->fresh || look->how->stale != CACHE_STALE_NEVER)) ||
        look->answer == CACHE_CLAIM_HIT || look->answer == CACHE_CLAIM_STALE ||
        (look->answer == CACHE_CLAIM_STALE_YOU_REFRESH && look->keep_old);
    if (!look->served)
        return 0;
    memcpy(look->out, value, look->f->type->value_bytes);
    cache__front_retain(look->f, value);
    return look->quiet ? 0 : CACHE__VISIT_USED;
}

/* The value of an answer that is known. */
CACHE_COLD uint32_t cache__front_see_old(struct cache_life *life,
                                         const void *value, uint64_t version,
                                         void *arg)
{
    struct cache__reader *look = (struct cache__reader *)arg;

    (void)life;
    (void)version;
    look->served = true;
    memcpy(look->out, value, look->f->type->value_bytes);
    cache__front_retain(look->f, value);
    return CACHE__VISIT_USED;
}

/* How a value that was served was found. */
CACHE_INLINE int cache__reader_found(const struct cache__reader *look)
{
    return look->unstored ? CACHE_FOUND_UNSTORED
           : look->fresh  ? CACHE_FOUND
                          : CACHE_FOUND_STALE;
}

/* A value that was read is not idle. */
CACHE_COLD void cache__front_put_off(struct cache_front *f,
                                     const struct cache__reader *look)
{
    if (look->served && f->idles)
        (void)f->type->keep(f, look->key, look->hash,
                            cache__front_cell_ttl(f, &look->life));
}

/* A value that this reader takes though a load has failed with `error` is
 * copied to *out: returns how it was found, or the error. */
CACHE_COLD int cache__front_fallback(struct cache_front *f, const void *key,
                                     uint64_t hash, void *out,
                                     const struct cache_reading *how, int error)
{
    struct cache__reader look = cache__reader_of(key, hash, out, how);

    look.f = f;
    look.at = cache__front_moment(f);
    look.fallback = true;
    if (!f->type->visit(f, key, hash, cache__front_see, &look) || !look.served)
        return error;
    cache__front_put_off(f, &look);
    cache__front_count(f, &f->stats.suppressed_errors);
    return cache__reader_found(&look);
}

/* name_peek, without the type. */
CACHE_COLD bool cache__front_peek(struct cache_front *f, const void *key,
                                  uint64_t hash, void *out)
{
    struct cache__reader look = cache__reader_of(key, hash, out, NULL);

    look.f = f;
    look.at = cache__front_moment(f);
    look.fallback = look.quiet = true;
    return f->type->visit(f, key, hash, cache__front_see, &look) && look.served;
}

CACHE_COLD uint32_t cache__front_see_value(struct cache_life *life,
                                           const void *value, uint64_t version,
                                           void *arg)
{
    (void)version;
    (void)value;
    *(bool *)arg = life->state >= 0;
    return 0;
}

/* There is a value in the cells, and not the knowledge that there is none. */
CACHE_COLD bool cache__front_holds(struct cache_front *f, const void *key,
                                   uint64_t hash)
{
    bool holds = false;

    (void)f->type->visit(f, key, hash, cache__front_see_value, &holds);
    return holds;
}

/* Puts a value that came from behind.  With .retain the caller has a count of
 * its own then, and what the cells have no room for gives its first one back.
 */
CACHE_COLD int cache__front_put_own(struct cache_front *f, const void *key,
                                    uint64_t hash, const void *value,
                                    const struct cache_life *life,
                                    uint64_t version, bool retain)
{
    int rc;

    retain = retain && cache__front_has(f, CACHE__HAS_RETAIN);
    if (retain)
        cache__front_retain(f, value);
    rc = f->type->put(f, key, value, life, hash, cache__front_cell_ttl(f, life),
                      &version);
    if (rc != 0 && retain)
        f->type->discard(key, value, f->config.cache.user);
    return rc;
}

/* The write of a key that the store does not have yet; NULL = there is none.
 * *rc is the codec's error. */
CACHE_COLD const struct cache_store_item *
cache__front_dirty(struct cache_front *f, const void *key, int *rc)
{
    struct cache_bytes bytes = { f->scratch, 0 };

    *rc = 0;
    if (!f->behind || cache_wb_n_dirty(&f->writes) == 0)
        return NULL;
    *rc = cache__front_encode(f->config.key_codec, key, &bytes);
    return *rc ? NULL : cache_wb_find(&f->writes, bytes);
}

/* The answer to who asks for a dirty key that the cells do not have: from the
 * dirty buffer. */
CACHE_COLD int cache__front_undirty(struct cache_front *f,
                                    struct cache__reader *look,
                                    const struct cache_store_item *item)
{
    const struct cache_codec *codec = f->config.value_codec;
    uint64_t now_ms = item->expires_ms ? cache__front_wall_now(f) : 0;
    struct cache_life life;
    int rc;

    if (item->op == CACHE_STORE_REMOVE ||
        (item->expires_ms != 0 && item->expires_ms <= now_ms)) {
        cache__front_count(f, &f->stats.negative_hits);
        return CACHE_EKEY;
    }
    rc = codec->decode(codec, item->value.data, item->value.len, look->out);
    if (rc != 0)
        return rc;
    cache__front_count(f, &f->stats.dirty_hits);
    life = cache__front_life(
        f, NULL, 0, item->expires_ms ? item->expires_ms - now_ms : 0, f->epoch);
    look->unstored = cache__front_put_own(f, look->key, look->hash, look->out,
                                          &life, 0, true) != 0;
    look->served = look->fresh = true;
    return CACHE_CLAIM_HIT;
}

/* Gives the key to this reader, or says why not. */
CACHE_COLD int cache__front_give(struct cache_front *f,
                                 struct cache__reader *look)
{
    struct cache_pending *p;
    int rc;

    if (look->record != 0) { /* it has lapsed */
        cache__front_hold(f, look->record);
        cache__front_count(f, &f->stats.lapsed);
    } else {
        rc = cache__front_take(f, look->key, look->hash, CACHE_PENDING_LOAD,
                               &look->record);
        if (rc != 0)
            return rc;
    }
    p = &f->claims.records[look->record];
    p->skip_write = look->how->skip_write;
    look->claim->record = look->record;
    look->claim->ticket = p->ticket;
    cache__front_count(f, &f->stats.claims);
    cache__front_tell(f, CACHE_EVENT_LOAD_START, look->key, NULL, 0);
    return 0;
}

CACHE_COLD void cache__front_count_look(struct cache_front *f,
                                        const struct cache__reader *look)
{
    if (look->answer < 0)
        cache__front_count(f, &f->stats.negative_hits);
    else if (!look->served)
        cache__front_count(f, &f->stats.misses);
    else if (!look->fresh)
        cache__front_count(f, &f->stats.stale_hits);
    if (look->answer == CACHE_CLAIM_MISS_WAIT)
        cache__front_count(f, &f->stats.waits);
}

/* What a reader of a key gets, and is to do, under the lock. */
CACHE_COLD int cache__front_ask(struct cache_front *f,
                                struct cache__reader *look)
{
    const struct cache_store_item *dirty;
    int rc = 0;

    look->f = f;
    look->served = look->fresh = look->unstored = false;
    dirty = cache__front_dirty(f, look->key, &rc);
    if (rc != 0)
        return rc;
    look->record = cache__front_find(f, look->key, look->hash);
    look->at = cache__front_moment(f);
    look->dirty = dirty != NULL;
    look->claimed = cache__front_claimed(f, look->record);
    if (!f->type->visit(f, look->key, look->hash, cache__front_see, look))
        look->answer =
            cache_decide(NULL, &look->at, look->dirty, look->claimed);
    if (look->dirty && !look->served)
        return cache__front_undirty(f, look, dirty);
    cache__front_count_look(f, look);
    if (look->claim != NULL && (look->answer == CACHE_CLAIM_MISS_YOU_LOAD ||
                                look->answer == CACHE_CLAIM_STALE_YOU_REFRESH))
        rc = cache__front_give(f, look);
    if (rc != 0 && look->answer == CACHE_CLAIM_STALE_YOU_REFRESH) {
        /* Nobody can load it now: as if somebody did. */
        look->answer = look->fresh ? CACHE_CLAIM_HIT : CACHE_CLAIM_STALE;
        if (look->served || f->type->visit(f, look->key, look->hash,
                                           cache__front_see_old, look))
            rc = 0;
    }
    cache__front_put_off(f, look);
    return rc ? rc : look->answer;
}

/* name_claim, without the type. */
CACHE_COLD int cache__front_claim(struct cache_front *f, const void *key,
                                  uint64_t hash, void *out,
                                  const struct cache_reading *how,
                                  struct cache_claim *claim)
{
    struct cache__reader look = cache__reader_of(key, hash, out, how);
    int answer;

    claim->ticket = 0;
    claim->record = 0;
    look.claim = claim;
    look.keep_old = true;
    cache__front_lock(f);
    answer = cache__front_ask(f, &look);
    cache__front_unlock(f);
    return answer;
}

/* name_get where nothing is loaded, without the type. */
CACHE_COLD int cache__front_get(struct cache_front *f, const void *key,
                                uint64_t hash, void *out,
                                const struct cache_reading *how)
{
    struct cache__reader look = cache__reader_of(key, hash, out, how);
    int answer;

    look.keep_old = true;
    cache__front_lock(f);
    answer = cache__front_ask(f, &look);
    cache__front_unlock(f);
    return answer < 0    ? answer
           : look.served ? cache__reader_found(&look)
                         : CACHE_EKEY;
}

/* --- the front: loading -------------------------------------------------- */

/* A load has failed: what is there lives on, and nobody asks for a while. */
CACHE_COLD uint32_t cache__front_blame(struct cache_life *life,
                                       const void *value, uint64_t version,
                                       void *arg)
{
    struct cache__reader *look = (struct cache__reader *)arg;
    struct cache_front *f = look->f;

    (void)value;
    (void)version;
    look->served = life->state >= 0 &&
                   cache_life_verdict(life, &look->at) != CACHE_VERDICT_GONE;
    if (!look->served || f->config.freshness.error_ttl_ms == 0)
        return 0;
    life->state = CACHE_LIFE_FAILED;
    life->refresh_at =
        cache__clock_after(&f->clock, f->config.freshness.error_ttl_ms);
    cache__front_timed(f, life);
    return CACHE__VISIT_CHANGED;
}

/* There is no value for so long, and that is known. */
CACHE_COLD void cache__front_put_none(struct cache_front *f, const void *key,
                                      uint64_t hash, uint64_t ttl_ms,
                                      uint32_t birth, int error)
{
    struct cache_life life;
    uint64_t version = 0;

    if (ttl_ms != 0 || error == CACHE_EKEY) /* the value is told to leave */
        (void)f->type->remove(f, key, hash);
    if (ttl_ms == 0)
        return;
    life = cache_life_of_none(&f->clock, ttl_ms, birth, error);
    cache__front_timed(f, &life);
    (void)f->type->put(f, key, NULL, &life, hash,
                       cache__front_cell_ttl(f, &life), &version);
}

CACHE_COLD uint32_t cache__front_see_entry(struct cache_life *life,
                                           const void *value, uint64_t version,
                                           void *arg)
{
    struct cache__reader *look = (struct cache__reader *)arg;

    (void)value;
    look->life = *life;
    look->version = version;
    return 0;
}

/* There is a newer value than this version of a load's. */
CACHE_COLD bool cache__front_has_newer(struct cache_front *f, const void *key,
                                       uint64_t hash, uint64_t version)
{
    struct cache__reader look = cache__reader_of(key, hash, NULL, NULL);

    look.at = cache__front_moment(f);
    return version != 0 &&
           f->type->visit(f, key, hash, cache__front_see_entry, &look) &&
           cache_life_has_value(&look.life, &look.at) && look.version > version;
}

/* What a load has brought goes to the cells: a value, that there is none, or an
 * error.  Returns 0, or why a value is not there. */
CACHE_COLD int cache__front_keep(struct cache_front *f, uint32_t r,
                                 const void *value,
                                 const struct cache_loaded *loaded, int status,
                                 bool retain)
{
    const struct cache_pending *p = &f->claims.records[r];
    const void *key = cache__claims_key(&f->claims, r);
    struct cache__reader look = cache__reader_of(key, p->hash, NULL, NULL);
    struct cache_life life;

    if (p->overtaken || p->birth < f->soft || p->skip_write) {
        if (!p->skip_write)
            cache__front_count(f, &f->stats.discarded);
        return CACHE_ECONFLICT;
    }
    if (status == CACHE_EKEY) {
        cache__front_put_none(f, key, p->hash,
                              f->config.freshness.negative_ttl_ms, p->birth,
                              status);
        return 0;
    }
    if (status == 0) {
        if (loaded->version > CACHE_MAX_VERSION)
            return CACHE_EINVAL;
        if (cache__front_has_newer(f, key, p->hash, loaded->version))
            return CACHE_ECONFLICT;
        life = cache__front_life(f, NULL, loaded->ttl_ms, loaded->lifetime_ms,
                                 p->birth);
        return cache__front_put_own(f, key, p->hash, value, &life,
                                    loaded->version, retain);
    }
    look.f = f;
    look.at = cache__front_moment(f);
    (void)f->type->visit(f, key, p->hash, cache__front_blame, &look);
    if (!look.served)
        cache__front_put_none(f, key, p->hash, f->config.freshness.error_ttl_ms,
                              p->birth, status);
    return 0;
}

/* The load of a record has ended: it is kept, and those who wait get it.
 * Returns 0 if a value is in the cells. */
CACHE_COLD int cache__front_land(struct cache_front *f, uint32_t r,
                                 const void *value,
                                 const struct cache_loaded *loaded, int status,
                                 bool retain)
{
    struct cache_pending *p = &f->claims.records[r];
    const void *key = cache__claims_key(&f->claims, r);
    uint32_t i;
    int rc;

    if (status == 0 && p->n_waiters > 0) {
        memcpy(cache__claims_value(&f->claims, r), value, f->type->value_bytes);
        for (i = 0; i < p->n_waiters; i++)
            cache__front_retain(f, value);
    }
    rc = cache__front_keep(f, r, value, loaded, status, retain);
    cache__front_count(f, &f->stats.loads);
    if (status != 0 && status != CACHE_EKEY)
        cache__front_count(f, &f->stats.load_errors);
    cache__front_tell(f,
                      status == 0 || status == CACHE_EKEY
                          ? CACHE_EVENT_LOAD_END
                          : CACHE_EVENT_LOAD_ERROR,
                      key, status == 0 ? value : NULL, status);
    cache__front_release(f, r, status);
    return rc;
}

/* name_commit and name_commit_negative, without the type: 0 = it is in the
 * cache. */
CACHE_COLD int cache__front_commit(struct cache_front *f,
                                   struct cache_claim *claim, const void *value,
                                   const struct cache_loaded *loaded)
{
    static const struct cache_loaded plain = { 0, 0, 0, 0 };
    int rc = CACHE_ECONFLICT;

    cache__front_lock(f);
    if (cache__claims_held(&f->claims, claim, cache__clock_ms(&f->clock)))
        rc =
            cache__front_land(f, claim->record, value, loaded ? loaded : &plain,
                              value ? 0 : CACHE_EKEY, false);
    cache__front_unlock(f);
    claim->ticket = 0;
    return rc;
}

/*
 * name_abandon, without the type: a load has failed, or is given up without a
 * result (error = 0).  Returns how a value that may be served all the same (by
 * `how`; NULL = the default) was found, and copied to *out; or the error,
 * CACHE_EKEY if that is 0.
 */
CACHE_COLD int cache__front_abandon(struct cache_front *f,
                                    struct cache_claim *claim, int error,
                                    void *out)
{
    const struct cache_pending *p;
    const void *key;
    int rc = error < 0 ? error : CACHE_EKEY;

    cache__front_lock(f);
    p = cache__claims_held(&f->claims, claim, cache__clock_ms(&f->clock));
    if (p != NULL) {
        key = cache__claims_key(&f->claims, claim->record);
        if (out != NULL)
            rc = cache__front_fallback(f, key, p->hash, out, NULL, rc);
        if (error < 0)
            (void)cache__front_land(f, claim->record, NULL, NULL, error, false);
        else
            cache__front_release(f, claim->record, CACHE__ASK_AGAIN);
    }
    cache__front_unlock(f);
    claim->ticket = 0;
    return rc;
}

/* The end of a load that this call has made for a reader: *out is filled in. */
CACHE_COLD int cache__front_deliver(struct cache_front *f,
                                    struct cache_claim *claim,
                                    const struct cache__reader *look,
                                    const void *value,
                                    const struct cache_loaded *loaded)
{
    int rc = CACHE_ECONFLICT, status = loaded->status;
    bool failed = status != 0 && status != CACHE_EKEY;

    cache__front_lock(f);
    if (failed)
        status = cache__front_fallback(f, look->key, look->hash, look->out,
                                       look->how, status);
    if (cache__claims_held(&f->claims, claim, cache__clock_ms(&f->clock))) {
        rc = cache__front_land(f, claim->record, value, loaded, loaded->status,
                               true);
    }
    cache__front_unlock(f);
    if (failed || status != 0)
        return status;
    memcpy(look->out, value, f->type->value_bytes);
    return rc == 0 ? CACHE_FOUND : CACHE_FOUND_UNSTORED;
}

/* Waits, under the lock, for whoever holds look->record.  Returns an enum
 * cache_found, an error, or CACHE__ASK_ANEW. */
#define CACHE__ASK_ANEW 9

CACHE_COLD int cache__front_await(struct cache_front *f,
                                  struct cache__reader *look, uint64_t until_ms)
{
    const uint32_t r = look->record;
    struct cache_pending *p = &f->claims.records[r];
    int rc = CACHE__ASK_ANEW;

    if (cache__front_is_mine(f, r))
        return CACHE_EBUSY;
    p->n_waiters++;
    while (p->state != CACHE_PENDING_DONE && cache__front_claimed(f, r)) {
        uint64_t now_ms = cache__clock_ms(&f->clock);

        if (now_ms >= until_ms) {
            rc = CACHE_ETIMEOUT;
            break;
        }
        cache__front_wait(f, (p->lapse_ms < until_ms && p->lapse_ms > now_ms
                                  ? p->lapse_ms
                                  : until_ms) -
                                 now_ms);
    }
    p->n_waiters--;
    if (p->state != CACHE_PENDING_DONE)
        return rc;
    rc = p->status;
    if (rc == 0)
        memcpy(look->out, cache__claims_value(&f->claims, r),
               f->type->value_bytes);
    else if (rc == CACHE__ASK_AGAIN)
        rc = CACHE__ASK_ANEW;
    else if (rc != CACHE_EKEY)
        rc = cache__front_fallback(f, look->key, look->hash, look->out,
                                   look->how, rc);
    if (p->n_waiters == 0)
        cache__front_release(f, r, p->status);
    return rc;
}

/* Waits, under the lock, for another thread to give a record back.  Returns
 * false if there is no time, or no such thread. */
CACHE_COLD bool cache__front_await_record(struct cache_front *f,
                                          uint64_t until_ms)
{
    uint32_t r = 1;

    while (r <= f->claims.n && cache__front_is_mine(f, r))
        r++;
    if (r > f->claims.n || cache__clock_ms(&f->clock) >= until_ms)
        return false;
    cache__front_wait(f, CACHE__POLL_MS);
    return true;
}

/* There is something that loads. */
CACHE_COLD bool cache__front_loads(const struct cache_front *f,
                                   const struct cache__loader *loader)
{
    return loader->fn || f->config.store ||
           cache__front_has(f, CACHE__HAS_LOAD | CACHE__HAS_LOAD_MANY);
}

CACHE_COLD uint64_t cache__front_deadline(struct cache_front *f,
                                          uint64_t wait_ms)
{
    return cache__sum_ms(cache__clock_ms(&f->clock),
                         wait_ms ? wait_ms : f->config.wait_ms);
}

/* name_load, without the type.  `value` is room for one. */
CACHE_COLD int cache__front_load(struct cache_front *f, const void *key,
                                 uint64_t hash, void *out, void *value,
                                 const struct cache_reading *how,
                                 const struct cache__loader *loader)
{
    struct cache__reader look = cache__reader_of(key, hash, out, how);
    uint64_t until_ms = cache__front_deadline(f, look.how->wait_ms);
    const bool loads = cache__front_loads(f, loader);
    struct cache_claim claim = { 0, 0 };
    struct cache_loaded loaded;
    int answer;

    if (look.how->skip_store)
        return cache__front_get(f, key, hash, out, how);
    look.keep_old = !loads; /* what is here is all there is */
    look.claim = loads ? &claim : NULL;
    cache__front_lock(f);
    do {
        answer = cache__front_ask(f, &look);
        if (answer == CACHE_CLAIM_MISS_WAIT)
            answer = cache__front_await(f, &look, until_ms);
        else if (answer >= 0 && look.served)
            answer = cache__reader_found(&look);
        else if (answer == CACHE_EFULL && look.answer != CACHE_EFULL &&
                 cache__front_await_record(f, until_ms))
            answer = CACHE__ASK_ANEW;
    } while (answer == CACHE__ASK_ANEW);
    cache__front_unlock(f);
    if (claim.ticket == 0)
        return answer == CACHE_CLAIM_MISS_YOU_LOAD ? CACHE_ENOSTORE : answer;
    memset(&loaded, 0, sizeof loaded);
    cache__front_load_all(f, loader, (const unsigned char *)key,
                          (unsigned char *)value, &loaded, 1);
    return cache__front_deliver(f, &claim, &look, value, &loaded);
}

/* --- the front: the journal ---------------------------------------------- */

/* A journal is between a put and the dirty buffer: what it has survives, and
 * the next init finds it there.  Without threads there is none. */

/* Appends a write, which is accepted: with the version that it will have.
 * Returns 0 or the journal's error. */
CACHE_COLD int cache__front_append(struct cache_front *f,
                                   struct cache_store_item *item,
                                   struct cache_front_write *w)
{
#ifdef CACHE__THREADS
    int rc;

    item->version = f->writes.version + 1;
    if (!f->journals)
        return 0;
    rc = cache_journal_append(&f->journal, item, &w->ticket);
    if (rc == 0)
        f->ticket = w->ticket;
    return rc;
#else
    (void)f;
    (void)item;
    (void)w;
    return 0;
#endif
}

/* Waits, without the lock, until a write is in the journal. */
CACHE_COLD int cache__front_await_journal(struct cache_front *f,
                                          struct cache_front_write *w,
                                          uint64_t until_ms)
{
#ifdef CACHE__THREADS
    uint64_t now_ms = cache__clock_ms(&f->clock);

    return cache_journal_wait(&f->journal, &w->ticket,
                              until_ms > now_ms ? until_ms - now_ms : 0);
#else
    (void)f;
    (void)w;
    (void)until_ms;
    return 0;
#endif
}

/* Waits, under the lock that is given away meanwhile, until all that was
 * appended is in the journal.  Returns 0 or why it is not. */
CACHE_COLD int cache__front_await_appended(struct cache_front *f,
                                           uint64_t until_ms)
{
    int rc = 0;
#ifdef CACHE__THREADS
    struct cache_journal_ticket ticket = f->ticket;
    uint64_t now_ms = cache__clock_ms(&f->clock);

    if (!f->journals || ticket.seq == 0)
        return 0;
    cache__front_unlock(f);
    /* A look, so that what has failed before now is not told again. */
    (void)cache_journal_wait(&f->journal, &ticket, 0);
    rc = cache_journal_wait(&f->journal, &ticket,
                            until_ms > now_ms ? until_ms - now_ms : 0);
    cache__front_lock(f);
#else
    (void)f;
    (void)until_ms;
#endif
    return rc;
}

/* The journal may forget what the store has. */
CACHE_COLD void cache__front_note_stored(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (f->journals)
        cache_journal_stored(&f->journal, cache_wb_stored(&f->writes));
#else
    (void)f;
#endif
}

/* Closing: this write is not lost, for the journal has it. */
CACHE_COLD bool cache__front_in_journal(const struct cache_front *f,
                                        uint64_t version)
{
#ifdef CACHE__THREADS
    return f->safe && version <= cache_journal_durable(&f->journal);
#else
    (void)f;
    (void)version;
    return false;
#endif
}

/* --- the front: write-behind --------------------------------------------- */

CACHE_COLD void cache__front_letter(const struct cache_store_item *item,
                                    void *user)
{
    struct cache_front *f = (struct cache_front *)user;
    struct cache_event event;

    if (cache__front_in_journal(f, item->version))
        return; /* the next init has it */
    f->n_lost += item->status == CACHE_ECLOSED;
    if (f->config.write_behind.on_dead_letter)
        f->config.write_behind.on_dead_letter(item,
                                              f->config.write_behind.user);
    memset(&event, 0, sizeof event);
    event.kind = CACHE_EVENT_DEAD_LETTER;
    event.letter = item;
    event.status = item->status;
    if (cache__front_has(f, CACHE__HAS_EVENT))
        f->type->tell(&event, f->config.cache.user);
}

/* Takes what the store has returned into account. */
CACHE_COLD void cache__front_collect(struct cache_front *f)
{
    struct cache_store_batch *batch;
    struct cache_event event;
    size_t i;

    while ((batch = f->returned) != NULL) {
        f->returned = batch->next;
        memset(&event, 0, sizeof event);
        event.kind = CACHE_EVENT_WRITE_BATCH;
        event.n = batch->n_items;
        for (i = 0; i < batch->n_items && event.status == 0; i++)
            event.status = batch->items[i].status;
        cache_wb_complete(&f->writes, batch, cache__clock_ms(&f->clock));
        cache__front_note_stored(f);
        if (cache__front_has(f, CACHE__HAS_EVENT))
            f->type->tell(&event, f->config.cache.user);
    }
}

/* `done` of a batch of write-behind, on whatever thread the store has. */
CACHE_COLD void cache__front_returned(struct cache_store_batch *batch)
{
    struct cache_front *f = (struct cache_front *)batch->user;

    cache__front_lock(f);
    batch->next = f->returned;
    f->returned = batch;
    cache__front_changed(f);
    cache__front_unlock(f);
}

/* A batch becomes writes of keys and values for the callbacks. */
CACHE_COLD void cache__front_store_objects(struct cache_front *f,
                                           struct cache_store_batch *batch)
{
    const size_t stride = sizeof(struct cache_front_write) +
                          cache__round_up(f->type->key_bytes, 16) +
                          cache__round_up(f->type->value_bytes, 16);
    size_t n = batch->n_items, i, sent = 0;
    struct cache_front_write *writes =
        (struct cache_front_write *)cache__front_alloc(f, n * stride + 16);
    unsigned char *room;

    if (writes == NULL) {
        for (i = 0; i < n; i++)
            batch->items[i].status = CACHE_ENOMEM;
        return;
    }
    memset(writes, 0, n * sizeof *writes);
    room = (unsigned char *)writes +
           cache__round_up(n * sizeof(struct cache_front_write), 16);
    for (i = 0; i < n; i++) {
        struct cache_store_item *item = &batch->items[i];
        struct cache_front_write *w = &writes[sent];
        void *key = room;
        void *value = room + cache__round_up(f->type->key_bytes, 16);

        item->status = f->config.key_codec->decode(
            f->config.key_codec, item->key.data, item->key.len, key);
        if (item->status == 0 && item->op == CACHE_STORE_PUT)
            item->status = f->config.value_codec->decode(
                f->config.value_codec, item->value.data, item->value.len,
                value);
        if (item->status != 0)
            continue;
        w->key = key;
        w->value = item->op == CACHE_STORE_PUT ? value : NULL;
        w->storing.expires_ms = item->expires_ms;
        w->storing.version = item->version;
        room += stride - sizeof(struct cache_front_write);
        sent++;
    }
    cache__front_store_all(f, writes, sent);
    for (i = 0, sent = 0; i < n; i++)
        if (batch->items[i].status == 0)
            batch->items[i].status = writes[sent++].status;
    cache__front_free(f, writes);
}

/* Carries a batch to the store, without the lock. */
CACHE_COLD void cache__front_send(struct cache_front *f,
                                  struct cache_store_batch *batch)
{
    size_t i;
    int rc = 0;

    batch->done = cache__front_returned;
    batch->user = f;
    if (f->config.store != NULL)
        rc = f->config.store->submit(f->config.store, batch);
    else
        cache__front_store_objects(f, batch);
    if (f->config.store != NULL && rc == 0)
        return; /* it will come back */
    for (i = 0; rc != 0 && i < batch->n_items; i++)
        batch->items[i].status = rc;
    cache__front_returned(batch);
}

/* Sends what is due, `budget` writes and what fills a batch, until until_ms; all
 * that is dirty is due, but what fails is sent once.  Under the lock, but for
 * the sending.  What the store is to have, the journal has first: a crash would
 * replay an older write over it, and give its version to another.  If the
 * journal fails, the store is what there is. */
CACHE_COLD void cache__front_push(struct cache_front *f, uint32_t budget,
                                  uint64_t until_ms)
{
    const uint64_t now_ms = cache__clock_ms(&f->clock);
    struct cache_store_batch *batch;
    size_t n;

    cache__front_collect(f);
    (void)cache_wb_flush(&f->writes);
    while (budget > 0 &&
           (batch = cache_wb_next_batch(&f->writes, now_ms)) != NULL) {
        n = batch->n_items;
        budget -= n < budget ? (uint32_t)n : budget;
        (void)cache__front_await_appended(f, until_ms);
        cache__front_unlock(f);
        cache__front_send(f, batch);
        cache__front_lock(f);
        cache__front_collect(f);
        if (cache__clock_ms(&f->clock) >= until_ms)
            break;
    }
}

/* name_flush, without the type. */
CACHE_COLD int cache__front_flush(struct cache_front *f, uint32_t budget)
{
    int n;

    if (!f->behind)
        return 0;
    cache__front_lock(f);
    cache__front_push(f, budget, cache__front_deadline(f, 0));
    n = (int)cache_wb_n_dirty(&f->writes);
    cache__front_unlock(f);
    return n;
}

/* Sends and waits, under the lock, until all writes before the barrier are at
 * the store (0), or have been given up (CACHE_EDEADLETTER), or time is over
 * (CACHE_ETIMEOUT). */
CACHE_COLD int cache__front_settle(struct cache_front *f, uint64_t barrier,
                                   uint64_t until_ms)
{
    uint64_t n_dead = f->writes.stats.n_dead;

    while (!cache_wb_is_stored(&f->writes, barrier)) {
        if (cache__clock_ms(&f->clock) >= until_ms)
            return CACHE_ETIMEOUT;
        cache__front_push(f, UINT32_MAX, until_ms);
        if (!cache_wb_is_stored(&f->writes, barrier))
            cache__front_wait(f, CACHE__POLL_MS);
    }
    return f->writes.stats.n_dead == n_dead ? 0 : CACHE_EDEADLETTER;
}

/* --- the front: writing -------------------------------------------------- */

static const struct cache_writing cache__write_default CACHE_UNUSED = {
    NULL, 0, 0, false, false, CACHE_ACK_DEFAULT, NULL
};

/* Who keeps data is told when it is over. */
CACHE_COLD uint64_t cache__front_expires(const struct cache_front *f,
                                         const struct cache_writing *how)
{
    return how->lifetime_ms && how->lifetime_ms != CACHE_NEVER
               ? cache__sum_ms(cache__front_wall_now(f), how->lifetime_ms)
               : 0;
}

/* The write is one that goes to the store before the cells. */
CACHE_INLINE bool cache__front_goes_through(const struct cache_front *f,
                                            const struct cache_writing *how)
{
    return !how->skip_store && (f->config.writes == CACHE_WRITE_THROUGH ||
                                f->config.writes == CACHE_WRITE_AROUND);
}

/* The value of this write is to be in the cells afterwards. */
CACHE_INLINE bool cache__front_keeps(const struct cache_front *f,
                                     const struct cache_writing *how)
{
    return !how->skip_write &&
           (f->config.writes != CACHE_WRITE_AROUND || how->skip_store);
}

/* The cells hear of a write.  Returns 0, or why they refuse it.  What they are
 * not to keep leaves at once.  How long they keep it is known only now: the
 * store may have taken its time. */
CACHE_COLD int cache__front_apply(struct cache_front *f,
                                  struct cache_front_write *w, bool keep)
{
    w->version = 0;
    if (w->value != NULL && keep)
        return f->type->put(f, w->key, w->value, &w->life, w->hash,
                            cache__front_cell_ttl(f, &w->life), &w->version);
    (void)f->type->remove(f, w->key, w->hash);
    if (w->value != NULL)
        f->type->discard(w->key, w->value, f->config.cache.user);
    return 0;
}

/* The same for a write that is accepted: where the cells have no room for the
 * new value, they keep no old one. */
CACHE_COLD void cache__front_accept(struct cache_front *f,
                                    struct cache_front_write *w, bool keep)
{
    if (cache__front_apply(f, w, keep) != 0)
        (void)cache__front_apply(f, w, false);
}

/* What is to be known of a write before anything is done. */
CACHE_COLD int cache__front_prepare(struct cache_front *f,
                                    struct cache_front_write *w,
                                    const struct cache_writing *how)
{
    int rc = how->freshness
                 ? cache_freshness_check(how->freshness, f->clock.tick_ms)
                 : 0;

    if (rc == 0 &&
        ((how->ttl_ms != 0 && how->ttl_ms < f->clock.tick_ms) ||
         (how->lifetime_ms != 0 && how->lifetime_ms < f->clock.tick_ms)))
        rc = CACHE_ETTL;
    if (rc != 0)
        return rc;
    w->life = cache__front_life(
        f, how->freshness, how->ttl_ms,
        how->lifetime_ms == CACHE_NEVER ? 0 : how->lifetime_ms, f->epoch);
    return 0;
}

/* A write that depends on a version finds it.  Under the lock: so nothing but
 * an eviction happens until it is done. */
CACHE_COLD int cache__front_expects(struct cache_front *f,
                                    const struct cache_front_write *w)
{
    struct cache__reader look = cache__reader_of(w->key, w->hash, NULL, NULL);

    if (!w->conditional)
        return 0;
    look.at = cache__front_moment(f);
    if (!f->type->visit(f, w->key, w->hash, cache__front_see_entry, &look) ||
        !cache_life_has_value(&look.life, &look.at))
        look.version = 0;
    return look.version == w->expected ? 0 : CACHE_ECONFLICT;
}

/* Takes the key of a write that goes through, under the lock: waits for another
 * write of it, or has CACHE_EBUSY, and overtakes a load. */
CACHE_COLD int cache__front_begin_write(struct cache_front *f,
                                        struct cache_front_write *w,
                                        uint64_t until_ms, bool waits)
{
    struct cache__reader look = cache__reader_of(w->key, w->hash, NULL, NULL);
    int rc;

    do {
        while ((look.record =
                    cache__claims_find(&f->claims, w->key, w->hash)) != 0 &&
               f->claims.records[look.record].state != CACHE_PENDING_LOAD) {
            rc = waits ? cache__front_await(f, &look, until_ms) : CACHE_EBUSY;
            if (rc != CACHE__ASK_ANEW)
                return rc;
        }
        rc = cache__front_expects(f, w);
        if (rc != 0)
            break; /* nothing is written: a load is as good as it was */
        cache__front_overtake(f, w->key, w->hash);
        rc = cache__front_take(f, w->key, w->hash, CACHE_PENDING_WRITE,
                               &w->record);
    } while (rc == CACHE_EFULL && waits &&
             cache__front_await_record(f, until_ms));
    if (rc == 0) {
        w->storing.version = f->behind ? ++f->writes.version : ++f->version;
        w->life.birth = f->epoch;
    }
    return rc;
}

/* The store has answered a write that goes through, under the lock.  What was
 * invalidated meanwhile does not come back. */
CACHE_COLD int cache__front_end_write(struct cache_front *f,
                                      struct cache_front_write *w, bool keep)
{
    if (w->status == 0)
        cache__front_accept(f, w,
                            keep && w->life.birth >= f->hard &&
                                !f->claims.records[w->record].overtaken);
    cache__front_release(f, w->record, CACHE__ASK_AGAIN);
    w->record = 0;
    return w->status;
}

/* A write that goes behind, under the lock. */
CACHE_COLD int cache__front_write_behind(struct cache_front *f,
                                         struct cache_front_write *w, bool keep,
                                         uint64_t until_ms)
{
    struct cache_store_item item;
    int rc;

    memset(&item, 0, sizeof item);
    item.op = w->value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    item.expires_ms = w->storing.expires_ms;
    for (;;) {
        /* The scratch is anybody's while the lock is given away. */
        item.key.data = f->scratch;
        item.value.data = f->scratch + f->key_max;
        rc = cache__front_encode(f->config.key_codec, w->key, &item.key);
        if (rc == 0 && w->value)
            rc = cache__front_encode(f->config.value_codec, w->value,
                                     &item.value);
        if (rc == 0)
            rc = cache__front_expects(f, w);
        if (rc == 0)
            rc = cache_wb_accepts(&f->writes, &item);
        if (rc == 0 && (rc = cache__front_append(f, &item, w)) == CACHE_EFULL) {
            rc = cache__front_await_appended(f, until_ms);
            if (rc == 0)
                continue; /* there is room */
            break;
        }
        if (rc != CACHE_EFULL || f->config.when_full == CACHE_FULL_REFUSE ||
            cache__clock_ms(&f->clock) >= until_ms)
            break;
        if (f->config.when_full == CACHE_FULL_WRITE_THROUGH)
            cache__front_push(f, f->writes.config.max_batch, until_ms);
        if (cache_wb_n_dirty(&f->writes) == f->writes.config.max_dirty)
            cache__front_wait(f, CACHE__POLL_MS);
    }
    if (rc == CACHE_EFULL)
        f->writes.stats.n_refused++;
    if (rc == 0)
        rc = cache_wb_write(&f->writes, &item, cache__clock_ms(&f->clock));
    if (rc != 0)
        return rc;
    w->storing.version = f->writes.version;
    w->life.birth = f->epoch;
    cache__front_overtake(f, w->key, w->hash);
    cache__front_accept(f, w, keep);
    return 0;
}

/* name_put and name_remove (w->value = NULL), without the type. */
CACHE_COLD int cache__front_write(struct cache_front *f,
                                  struct cache_front_write *w,
                                  const struct cache_writing *how)
{
    uint64_t until_ms = cache__front_deadline(f, 0);
    enum cache_ack ack;
    bool keep;
    int rc;

    how = how ? how : &cache__write_default;
    keep = cache__front_keeps(f, how);
    ack = how->ack ? how->ack : f->config.ack;
    cache__front_lock(f);
    if (!f->open)
        rc = CACHE_ECLOSED;
    else if (ack == CACHE_ACK_JOURNAL && !cache__front_journals(f))
        rc = CACHE_EINVAL;
    else
        rc = cache__front_prepare(f, w, how);
    w->storing.expires_ms = cache__front_expires(f, how);
    if (rc == 0 && cache__front_goes_through(f, how)) {
        rc = cache__front_begin_write(f, w, until_ms, true);
        if (rc == 0) {
            cache__front_unlock(f);
            cache__front_store_all(f, w, 1);
            cache__front_lock(f);
            rc = cache__front_end_write(f, w, keep);
        }
    } else if (rc == 0 && f->behind && !how->skip_store) {
        rc = cache__front_write_behind(f, w, keep, until_ms);
        if (rc == 0 && ack == CACHE_ACK_STORE)
            rc = cache__front_settle(f, cache_wb_flush(&f->writes), until_ms);
    } else if (rc == 0 && (rc = cache__front_expects(f, w)) == 0) {
        cache__front_overtake(f, w->key, w->hash);
        rc = cache__front_apply(f, w, keep);
    }
    cache__front_unlock(f);
    if (rc == 0 && how->version)
        *how->version = w->version;
    /* Of what the store has, too: an older write of the key that the journal
     * has would be replayed over it. */
    if (rc == 0 && f->behind && !how->skip_store && ack != CACHE_ACK_MEMORY &&
        cache__front_journals(f))
        rc = cache__front_await_journal(f, w, until_ms);
    return rc;
}

/* name_entry, without the type: 0, or CACHE_EKEY if nothing is known. */
CACHE_COLD int cache__front_entry(struct cache_front *f, const void *key,
                                  uint64_t hash,
                                  struct cache_loading_entry *out)
{
    struct cache__reader look = cache__reader_of(key, hash, NULL, NULL);
    struct cache_loading_entry e;
    int rc = CACHE_EKEY;

    memset(&e, 0, sizeof e);
    cache__front_lock(f);
    look.at = cache__front_moment(f);
    if (f->type->visit(f, key, hash, cache__front_see_entry, &look) &&
        (e.verdict = cache_life_verdict(&look.life, &look.at)) !=
            CACHE_VERDICT_GONE)
        rc = f->type->entry(f, key, &e.entry);
    if (rc == 0) {
        e.refresh_ms = cache__front_ms(f, look.life.refresh_at);
        e.fresh_ms = cache__front_ms(f, look.life.fresh_until);
        e.stale_ms = cache__front_ms(f, look.life.stale_until);
        e.dead_ms = cache__front_ms(f, look.life.dead_at);
        e.error = look.life.state < 0 ? look.life.state : 0;
        e.dirty = cache__front_dirty(f, key, &rc) != NULL;
    }
    cache__front_unlock(f);
    if (rc == 0)
        *out = e;
    return rc;
}

/* Writes one after the other, and waits for what acknowledges them once: what
 * the last one survives they all do. */
CACHE_COLD void cache__front_write_each(struct cache_front *f,
                                        struct cache_front_write *writes,
                                        size_t n,
                                        const struct cache_writing *how,
                                        uint64_t until_ms)
{
    struct cache_writing each = *how;
    enum cache_ack ack = how->ack ? how->ack : f->config.ack;
    size_t i, last = n;
    int rc = 0;

    if (f->behind && (ack != CACHE_ACK_JOURNAL || cache__front_journals(f)))
        each.ack = CACHE_ACK_MEMORY;
    for (i = 0; i < n; i++) {
        writes[i].status = cache__front_write(f, &writes[i], &each);
        last = writes[i].status == 0 ? i : last;
    }
    if (last == n || !f->behind || how->skip_store)
        return;
    if (ack == CACHE_ACK_STORE) {
        cache__front_lock(f);
        rc = cache__front_settle(f, cache_wb_flush(&f->writes), until_ms);
        cache__front_unlock(f);
    }
    if (rc == 0 && ack != CACHE_ACK_MEMORY && cache__front_journals(f))
        rc = cache__front_await_journal(f, &writes[last], until_ms);
    for (i = 0; i < n && rc != 0; i++)
        if (writes[i].status == 0)
            writes[i].status = rc;
}

/* name_put_many and name_remove_many, without the type: writes[i].status is how
 * it went.  As many at once go to the store as there are records for.  Returns
 * 0, or the status of the first that failed. */
CACHE_COLD int cache__front_write_many(struct cache_front *f,
                                       struct cache_front_write *writes,
                                       size_t n,
                                       const struct cache_writing *how)
{
    uint64_t until_ms = cache__front_deadline(f, 0);
    size_t first, end, i;
    int rc = 0;
    bool keep;

    how = how ? how : &cache__write_default;
    keep = cache__front_keeps(f, how);
    first = cache__front_goes_through(f, how) ? 0 : n;
    if (first == n)
        cache__front_write_each(f, writes, n, how, until_ms);
    for (; first < n; first = end) {
        cache__front_lock(f);
        for (end = first; end < n; end++) {
            struct cache_front_write *w = &writes[end];

            w->record = 0;
            w->status =
                f->open ? cache__front_prepare(f, w, how) : CACHE_ECLOSED;
            w->storing.expires_ms = cache__front_expires(f, how);
            if (w->status == 0)
                w->status =
                    cache__front_begin_write(f, w, until_ms, end == first);
            if (w->status != 0)
                break; /* the key is being written, also by this call, or no
                          record is left */
        }
        cache__front_unlock(f);
        if (end > first)
            cache__front_store_all(f, &writes[first], end - first);
        cache__front_lock(f);
        for (i = first; i < end; i++)
            writes[i].status = cache__front_end_write(f, &writes[i], keep);
        cache__front_unlock(f);
        if (end == first)
            end++; /* it has failed for itself */
    }
    for (i = 0; i < n && rc == 0; i++)
        rc = writes[i].status;
    return rc;
}

/* The same with keys and values side by side; no values = remove. */
CACHE_COLD int cache__front_write_keys(struct cache_front *f,
                                       const unsigned char *keys,
                                       const unsigned char *values, size_t n,
                                       int *status,
                                       const struct cache_writing *how)
{
    struct cache_front_write *writes =
        n > SIZE_MAX / 2 / sizeof *writes
            ? NULL
            : (struct cache_front_write *)cache__front_alloc(
                  f, n * sizeof *writes + 1);
    int rc = CACHE_ENOMEM;
    size_t i;

    for (i = 0; i < n && writes != NULL; i++) {
        memset(&writes[i], 0, sizeof writes[i]);
        writes[i].key = keys + i * f->type->key_bytes;
        writes[i].value = values ? values + i * f->type->value_bytes : NULL;
        writes[i].hash = f->type->hash(f, writes[i].key);
    }
    if (writes != NULL)
        rc = cache__front_write_many(f, writes, n, how);
    for (i = 0; i < n && status != NULL; i++)
        status[i] = writes ? writes[i].status : CACHE_ENOMEM;
    cache__front_free(f, writes);
    return rc;
}

/* --- the front: invalidation --------------------------------------------- */

/* name_invalidate, without the type.  The 2^32nd clears at once, and the epochs
 * begin anew. */
CACHE_COLD void cache__front_invalidate(struct cache_front *f,
                                        enum cache_invalidation how)
{
    uint32_t r;

    cache__front_lock(f);
    if (f->epoch == UINT32_MAX) {
        for (r = 1; r <= f->claims.n; r++)
            f->claims.records[r].overtaken = true;
        f->type->clear(f);
        f->epoch = f->reclaimed = f->sweep_for = 0;
        CACHE_ATOMIC_STORE(&f->hard, 0u);
    }
    f->epoch++;
    CACHE_ATOMIC_STORE(&f->soft, f->epoch);
    if (how == CACHE_INVALIDATE_HARD)
        CACHE_ATOMIC_STORE(&f->hard, f->epoch);
    cache__front_count(f, &f->stats.invalidations);
    cache__front_unlock(f);
}

CACHE_COLD uint32_t cache__front_age(struct cache_life *life, const void *value,
                                     uint64_t version, void *arg)
{
    const struct cache__reader *look = (const struct cache__reader *)arg;

    (void)value;
    (void)version;
    if (life->fresh_until > look->at.tick)
        life->fresh_until = look->at.tick;
    if (life->refresh_at > life->fresh_until)
        life->refresh_at = life->fresh_until;
    if (life->state == CACHE_LIFE_FAILED)
        life->state = CACHE_LIFE_VALUE;
    cache__front_timed(look->f, life);
    return CACHE__VISIT_CHANGED;
}

/* name_invalidate_key, without the type. */
CACHE_COLD void cache__front_invalidate_key(struct cache_front *f,
                                            const void *key, uint64_t hash,
                                            enum cache_invalidation how)
{
    struct cache__reader look = cache__reader_of(key, hash, NULL, NULL);

    cache__front_lock(f);
    cache__front_overtake(f, key, hash);
    look.f = f;
    if (how == CACHE_INVALIDATE_HARD) {
        (void)f->type->remove(f, key, hash);
    } else {
        CACHE_ATOMIC_STORE(&f->timed, true);
        look.at = cache__front_moment(f);
        (void)f->type->visit(f, key, hash, cache__front_age, &look);
    }
    cache__front_unlock(f);
}

/* --- the front: many at once --------------------------------------------- */

#define CACHE__MANY 256u /* keys that one call loads at most */

/* Room for the keys of one call, those that are to be loaded side by side. */
struct cache__many {
    unsigned char *keys, *values;
    struct cache_loaded *loaded;
    struct cache_claim *claims;
    size_t *places; /* of each among the keys of the caller */
    size_t n;
};

CACHE_COLD void *cache__many_make(const struct cache_front *f,
                                  struct cache__many *m, size_t n)
{
    size_t at = 0, keys = cache__place(&at, n, f->type->key_bytes);
    size_t values = cache__place(&at, n, f->type->value_bytes);
    size_t loaded = cache__place(&at, n, sizeof *m->loaded);
    size_t claims = cache__place(&at, n, sizeof *m->claims);
    size_t places = cache__place(&at, n, sizeof *m->places);
    unsigned char *base = (unsigned char *)cache__front_alloc(f, at);

    if (base == NULL)
        return NULL;
    m->keys = base + keys;
    m->values = base + values;
    m->loaded = (struct cache_loaded *)(void *)(base + loaded);
    m->claims = (struct cache_claim *)(void *)(base + claims);
    m->places = (size_t *)(void *)(base + places);
    return base;
}

/* Asks for keys from *at on, until `m` is full or one must wait for those that
 * are in it.  found[i] is how they were found; *at is the first not asked. */
CACHE_COLD void cache__many_ask(struct cache_front *f, struct cache__many *m,
                                const unsigned char *keys, size_t n,
                                unsigned char *out, int *found,
                                const struct cache_reading *how,
                                uint64_t until_ms, size_t *at)
{
    cache__front_lock(f);
    for (m->n = 0; *at < n && m->n < CACHE__MANY; ++*at) {
        const unsigned char *key = keys + *at * f->type->key_bytes;
        struct cache__reader look = cache__reader_of(
            key, f->type->hash(f, key), out + *at * f->type->value_bytes, how);
        int answer;

        look.claim = &m->claims[m->n];
        look.claim->ticket = 0;
        answer = cache__front_ask(f, &look);
        if (look.claim->ticket != 0) {
            memcpy(m->keys + m->n * f->type->key_bytes, key,
                   f->type->key_bytes);
            m->places[m->n++] = *at;
            continue;
        }
        if (m->n > 0 &&
            (answer == CACHE_CLAIM_MISS_WAIT || answer == CACHE_EFULL))
            break;
        if (answer == CACHE_CLAIM_MISS_WAIT)
            answer = cache__front_await(f, &look, until_ms);
        else if (answer >= 0)
            answer = cache__reader_found(&look);
        if (answer == CACHE__ASK_ANEW)
            --*at; /* which the loop takes back */
        else
            found[*at] = answer;
    }
    cache__front_unlock(f);
}

/* name_load_many, without the type.  found[i] is as name_load returns it.
 * Returns how many have no value. */
CACHE_COLD size_t cache__front_load_many(struct cache_front *f,
                                         const unsigned char *keys, size_t n,
                                         unsigned char *out, int *found,
                                         const struct cache_reading *how,
                                         const struct cache__loader *loader)
{
    uint64_t until_ms = cache__front_deadline(f, how ? how->wait_ms : 0);
    bool loads = cache__front_loads(f, loader);
    size_t at = 0, missing = 0, i;
    struct cache__many m;
    void *room = cache__many_make(f, &m, n < CACHE__MANY ? n : CACHE__MANY);

    for (i = 0; i < n; i++)
        found[i] = loads
                       ? CACHE_ENOMEM
                       : cache__front_load(
                             f, keys + i * f->type->key_bytes,
                             f->type->hash(f, keys + i * f->type->key_bytes),
                             out + i * f->type->value_bytes, NULL, how, loader);
    while (loads && room != NULL && at < n) {
        cache__many_ask(f, &m, keys, n, out, found, how, until_ms, &at);
        if (m.n == 0)
            continue;
        memset(m.loaded, 0, m.n * sizeof *m.loaded);
        cache__front_load_all(f, loader, m.keys, m.values, m.loaded, m.n);
        for (i = 0; i < m.n; i++) {
            const unsigned char *key = m.keys + i * f->type->key_bytes;
            const struct cache__reader look =
                cache__reader_of(key, f->type->hash(f, key),
                                 out + m.places[i] * f->type->value_bytes, how);

            found[m.places[i]] = cache__front_deliver(
                f, &m.claims[i], &look, m.values + i * f->type->value_bytes,
                &m.loaded[i]);
        }
    }
    cache__front_free(f, room);
    for (i = 0; i < n; i++)
        missing += found[i] < 0;
    return missing;
}

/* Calls visit for each live slot of the cells, until it returns false. */
CACHE_COLD void cache__front_each(struct cache *cells, uint32_t options,
                                  bool (*visit)(const struct cache *cells,
                                                uint32_t slot, void *at),
                                  void *at)
{
    uint32_t slot = cache__next_live(cells, options, 0);

    while (slot != 0 && visit(cells, slot, at))
        slot = cache__next_live(cells, options, slot);
}

/* --- the front: reclaiming ----------------------------------------------- */

#define CACHE__RECLAIM_AHEAD 8u /* slots whose groups are sent for */

/* What was invalidated leaves: looks at up to *budget slots behind *at.  Returns
 * how many have left. */
CACHE_COLD uint32_t cache__reclaim(struct cache *c,
                                   const struct cache_type *type,
                                   size_t life_at, uint32_t hard, uint32_t *at,
                                   uint32_t *budget)
{
    const uint32_t options = type->kind.options;
    uint32_t n = 0;

    while (*at<c->fresh && * budget> 0) {
        uint32_t slot = ++*at, soon = slot + CACHE__RECLAIM_AHEAD;
        const struct cache_life *life =
            (const struct cache_life *)(const void *)((unsigned char *)
                                                          c->nodes +
                                                      slot * type->node_bytes +
                                                      life_at);

        --*budget;
        if (soon <= c->fresh &&
            (*cache__link(c, options, soon) & CACHE__FREE) == 0)
            CACHE__PREFETCH(cache__group(
                c, cache__keeps_hash(options)
                       ? (uint64_t)cache__link(c, options, soon)[1] << 32
                       : type->slot_hash(c, soon)));
        if ((*cache__link(c, options, slot) & CACHE__FREE) != 0 ||
            life->birth >= hard)
            continue;
        type->drop(c, slot, CACHE_CAUSE_INVALIDATED);
        n++;
    }
    return n;
}

/* There may be entries that were invalidated.  Without the lock. */
CACHE_COLD bool cache__front_is_due(const struct cache_front *f)
{
    return CACHE_ATOMIC_LOAD(&f->reclaimed) < CACHE_ATOMIC_LOAD(&f->hard);
}

/* A sweep for what was invalidated is under way, or begins. */
CACHE_COLD bool cache__front_sweeps(struct cache_front *f)
{
    if (f->reclaimed >= f->hard)
        return false;
    if (f->sweep_for == 0) {
        f->sweep_for = f->hard;
        f->sweep_at = f->sweep_shard = 0;
    }
    return true;
}

CACHE_COLD void cache__front_swept(struct cache_front *f)
{
    CACHE_ATOMIC_STORE(&f->reclaimed, f->sweep_for);
    f->sweep_for = 0;
}

/* --- the front: making and unmaking -------------------------------------- */

/* Which strategies go together, and what they need. */
CACHE_COLD int cache__front_strategies(const struct cache_loading_config *c,
                                       uint32_t hooks)
{
    const bool reads = c->reads == CACHE_READ_THROUGH;
    const bool writes = c->writes != CACHE_ASIDE;
    const bool behind = c->writes == CACHE_WRITE_BEHIND;
    const struct cache_wb_config *wb = &c->write_behind;
    const uint32_t loads = hooks & (CACHE__HAS_LOAD | CACHE__HAS_LOAD_MANY);
    const bool stores =
        (hooks & CACHE__HAS_STORE_MANY) ||
        ((hooks & CACHE__HAS_STORE) && (hooks & CACHE__HAS_REMOVE));

    if ((c->reads != CACHE_ASIDE && !reads) ||
        c->writes == CACHE_READ_THROUGH || (int)c->writes < 0 ||
        c->writes > CACHE_WRITE_AROUND)
        return CACHE_ESTRATEGY;
    if (behind && !reads) /* the program would load what is older */
        return CACHE_ESTRATEGY;
    if (c->store != NULL && ((!reads && !writes) || loads || stores))
        return CACHE_ESTRATEGY;
    if (!behind && (c->ack == CACHE_ACK_MEMORY || c->when_full ||
                    wb->max_dirty || wb->max_batch || wb->max_in_flight ||
                    wb->max_attempts || wb->on_dead_letter))
        return CACHE_ESTRATEGY;
#ifdef CACHE__THREADS
    if (c->journal.path ? !behind : c->ack == CACHE_ACK_JOURNAL)
        return CACHE_ESTRATEGY;
#else
    if (c->ack == CACHE_ACK_JOURNAL)
        return CACHE_ESTRATEGY;
#endif
    if (c->store == NULL && ((reads && !loads) || (writes && !stores)))
        return CACHE_ENOSTORE;
#ifndef CACHE__THREADS
    if (c->store != NULL && !(c->store->capabilities & CACHE_STORE_BLOCKS))
        return CACHE_ENOSTORE;
#endif
    return 0;
}

/* Fills in the defaults.  Returns 0, or the first thing that is wrong. */
CACHE_COLD int cache__front_config(struct cache_loading_config *out,
                                   const struct cache_loading_config *config,
                                   const struct cache_front_type *type,
                                   uint32_t hooks)
{
    struct cache_wb_config *wb = &out->write_behind;
    uint32_t tick_ms;
    int rc;

    if (config == NULL)
        return CACHE_EINVAL;
    *out = *config;
    rc = cache__front_strategies(out, hooks);
    if (rc != 0)
        return rc;
    if ((out->store != NULL || out->writes == CACHE_WRITE_BEHIND) &&
        (out->key_codec == NULL || out->value_codec == NULL ||
         out->key_codec->object_bytes != type->key_bytes ||
         out->value_codec->object_bytes != type->value_bytes))
        return CACHE_ENOCODEC;
    if ((hooks & CACHE__HAS_RETAIN) && (type->options & CACHE_PLAIN_DATA))
        return CACHE_ERETAIN; /* a hit copies without the lock */
    if ((hooks & CACHE__HAS_RETAIN) && !type->shared)
        return CACHE_ERETAIN;
    if (out->cache.ttl_ms != 0) /* it is freshness.ttl_ms */
        return CACHE_EFRESHNESS;
    tick_ms = out->cache.tick_ms ? out->cache.tick_ms : CACHE_DEFAULT_TICK_MS;
    rc = cache_freshness_check(&out->freshness, tick_ms);
    if (rc != 0)
        return rc;
    if (out->max_claims == 0)
        out->max_claims = CACHE_LOADING_DEFAULT_MAX_CLAIMS;
    if (out->max_claims > CACHE_MAX_CAPACITY / 4)
        return CACHE_ELIMIT;
    if (out->claim_ms == 0)
        out->claim_ms = CACHE_LOADING_DEFAULT_CLAIM_MS;
    if (out->wait_ms == 0)
        out->wait_ms = CACHE_LOADING_DEFAULT_WAIT_MS;
    if (out->ack == CACHE_ACK_DEFAULT)
        out->ack = out->writes == CACHE_WRITE_BEHIND ? CACHE_ACK_MEMORY
                                                     : CACHE_ACK_STORE;
#ifdef CACHE__THREADS
    if (config->ack == CACHE_ACK_DEFAULT && out->journal.path)
        out->ack = CACHE_ACK_JOURNAL;
    if (out->journal.alloc == NULL && out->journal.free == NULL) {
        out->journal.alloc = out->cache.alloc;
        out->journal.free = out->cache.free;
    }
    if (out->journal.user == NULL)
        out->journal.user = out->cache.user;
#endif
    if (out->writes != CACHE_WRITE_BEHIND)
        return 0;
    wb->max_key_bytes = out->key_codec->max_bytes;
    wb->max_value_bytes = out->value_codec->max_bytes;
    if ((wb->alloc == NULL) != (wb->free == NULL))
        return CACHE_EALLOCATOR;
    if (wb->user == NULL)
        wb->user = out->cache.user;
    return 0;
}

/* Lays the block out; with base = NULL it only says how large it is, 0 if it
 * does not fit the address space. */
CACHE_COLD size_t cache__front_place(struct cache_front *f, unsigned char *base)
{
    struct cache_claims *t = &f->claims;
    const struct cache_codec *key_codec = f->config.key_codec;
    const struct cache_codec *value_codec = f->config.value_codec;
    size_t n = (size_t)f->config.max_claims + 1, at = 0;
    size_t key_bytes = cache__round_up(f->type->key_bytes, 16);
    size_t value_bytes =
        f->type->shared ? cache__round_up(f->type->value_bytes, 16) : 0;
    size_t key_max =
        key_codec ? cache__round_up(key_codec->max_bytes, CACHE__LINE) : 0;
    size_t value_max =
        value_codec ? cache__round_up(value_codec->max_bytes, 16) : 0;
    size_t records = cache__place(&at, n, sizeof *t->records);
    size_t ages = cache__place(&at, n, sizeof *t->ages);
    size_t heads = cache__place(&at, 2 * n, sizeof *t->heads);
    bool times = (f->type->options & CACHE_TIMINGS) != 0;
    size_t timings =
        cache__place(&at, times ? CACHE__N_TIMINGS : 0, sizeof *f->timings);
    size_t keys = cache__place(&at, n, key_bytes);
    size_t values = cache__place(&at, n, value_bytes);
    size_t scratch = cache__place(&at, 1, key_max);
    uint32_t r;

    (void)cache__place(&at, 1, value_max); /* behind the key */
    if (at > CACHE__LAYOUT_LIMIT || base == NULL)
        return at > CACHE__LAYOUT_LIMIT ? 0 : at;
    memset(base, 0, keys); /* the rest is written before it is read */
    t->records = (struct cache_pending *)(void *)(base + records);
    t->ages = (struct cache_link *)(void *)(base + ages);
    t->heads = (uint32_t *)(void *)(base + heads);
    t->keys = base + keys;
    t->values = base + values;
    t->key_bytes = key_bytes;
    t->value_bytes = value_bytes;
    t->n = f->config.max_claims;
    t->n_heads = 2 * t->n;
    t->equal = f->type->equal;
    for (r = t->n; r > 0; r--) {
        t->records[r].chain = t->free_records;
        t->free_records = r;
    }
    if (times)
        f->timings = (struct cache_histogram *)(void *)(base + timings);
    f->scratch = base + scratch;
    f->key_max = key_max;
    f->value_max = value_max;
    return at;
}

CACHE_COLD void *cache__front_wb_alloc(size_t bytes, void *user)
{
    const struct cache_front *f = (const struct cache_front *)user;
    const struct cache_wb_config *wb = &f->config.write_behind;

    return wb->alloc ? wb->alloc(bytes, wb->user)
                     : cache__front_alloc(f, bytes);
}

CACHE_COLD void cache__front_wb_free(void *memory, void *user)
{
    const struct cache_front *f = (const struct cache_front *)user;
    const struct cache_wb_config *wb = &f->config.write_behind;

    if (wb->free)
        wb->free(memory, wb->user);
    else
        cache__front_free(f, memory);
}

#ifdef CACHE__THREADS
/* A write of the journal becomes dirty again.  Where there are more of them
 * than may be, the store gets some. */
CACHE_COLD int cache__front_replay(const struct cache_store_item *item,
                                   void *user)
{
    struct cache_front *f = (struct cache_front *)user;
    uint64_t until_ms = cache__front_deadline(f, 0);
    int rc;

    cache__front_lock(f);
    while ((rc = cache_wb_accepts(&f->writes, item)) == CACHE_EFULL &&
           cache__clock_ms(&f->clock) < until_ms) {
        cache__front_push(f, f->writes.config.max_batch, until_ms);
        if (cache_wb_n_dirty(&f->writes) == f->writes.config.max_dirty)
            cache__front_wait(f, CACHE__POLL_MS);
    }
    f->writes.version = item->version - 1;
    if (rc == 0)
        rc = cache_wb_write(&f->writes, item, cache__clock_ms(&f->clock));
    cache__front_unlock(f);
    return rc;
}

/* What was sent to the store while init went on has to come back. */
CACHE_COLD void cache__front_recall(struct cache_front *f)
{
    cache__front_lock(f);
    cache__front_collect(f);
    while (f->behind && f->writes.n_in_flight > 0) {
        cache__front_wait(f, CACHE__POLL_MS);
        cache__front_collect(f);
    }
    cache__front_unlock(f);
}

CACHE_COLD int cache__front_open_journal(struct cache_front *f)
{
    int rc;

    if (f->config.journal.path == NULL)
        return 0;
    rc = cache_journal_open(&f->journal, &f->config.journal,
                            cache__front_replay, f);
    f->config.journal.path = NULL; /* the caller's; used no more */
    if (rc != 0) {
        cache__front_recall(f);
        return rc;
    }
    f->journals = true;
    f->writes.version = cache_journal_last(&f->journal);
    return 0;
}
#endif

/* Makes the front of cells that are there: their clock is this one. */
CACHE_COLD int cache__front_init(struct cache_front *f,
                                 const struct cache_front_type *type,
                                 uint32_t hooks,
                                 const struct cache_loading_config *full,
                                 const struct cache_clock *clock, uint64_t seed)
{
    struct cache_front before = *f;
    size_t bytes;
    int rc = 0;

    memset(f, 0, sizeof *f);
    f->type = type;
    f->hooks = hooks;
    f->config = *full;
    f->clock = *clock;
    f->clock.tick = 1;
    f->epoch = 1;
    f->random = seed;
    f->idles = full->freshness.idle_ms != 0;
    f->behind = full->writes == CACHE_WRITE_BEHIND;
    f->threads = type->shared || full->store != NULL;
    bytes = cache__front_place(f, NULL);
    if (bytes == 0)
        rc = CACHE_ESIZE;
    else if ((f->memory = cache__front_alloc(f, bytes)) == NULL)
        rc = CACHE_ENOMEM;
    else
        (void)cache__front_place(f, (unsigned char *)f->memory);
    if (rc == 0 && f->behind) {
        struct cache_wb_config wb = full->write_behind;

        wb.on_dead_letter = cache__front_letter;
        wb.alloc = cache__front_wb_alloc;
        wb.free = cache__front_wb_free;
        wb.user = f;
        rc = cache_wb_init(&f->writes, &wb);
    }
#ifdef CACHE__THREADS
    if (rc == 0)
        rc = cache__front_make_locks(f);
    if (rc == 0) {
        rc = cache__front_open_journal(f);
        if (rc != 0)
            cache__front_break_locks(f);
    }
#endif
    if (rc != 0) {
        if (f->behind)
            cache_wb_destroy(&f->writes);
        cache__front_free(f, f->memory);
        *f = before;
        return rc;
    }
    f->open = true;
    return 0;
}

/* What is dirty and in the journal is not lost.  Returns 0, or why the journal
 * does not have it. */
CACHE_COLD int cache__front_close_journal(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (!f->journals)
        return 0;
    f->journals = false;
    f->safe = true;
    return cache_journal_close(&f->journal);
#else
    (void)f;
    return 0;
#endif
}

/* name_close, without the type: from now on nothing is written. */
CACHE_COLD int cache__front_close(struct cache_front *f, uint64_t timeout_ms,
                                  uint64_t *n_lost)
{
    uint64_t until_ms;
    bool in_time = true;
    int rc;

    if (n_lost)
        *n_lost = 0;
    if (f->type == NULL)
        return 0;
    cache__front_lock(f);
    f->open = false;
    until_ms = cache__sum_ms(cache__clock_ms(&f->clock), timeout_ms);
    while (f->behind && cache_wb_n_dirty(&f->writes) > 0 && in_time) {
        /* Without time, everything is tried once. */
        cache__front_push(f, UINT32_MAX, timeout_ms ? until_ms : CACHE_NEVER);
        in_time = cache__clock_ms(&f->clock) < until_ms;
        if (cache_wb_n_dirty(&f->writes) > 0 && in_time)
            cache__front_wait(f, CACHE__POLL_MS);
    }
    while (f->behind && f->writes.n_in_flight > 0) {
        cache__front_wait(f, CACHE__POLL_MS);
        cache__front_collect(f);
    }
    rc = cache__front_close_journal(f);
    if (f->behind)
        (void)cache_wb_give_up(&f->writes);
    if (n_lost)
        *n_lost = f->n_lost;
    if (f->n_lost + f->writes.stats.n_dead > 0)
        rc = CACHE_EDEADLETTER;
    cache__front_unlock(f);
    return rc;
}

CACHE_COLD void cache__front_destroy(struct cache_front *f)
{
    uint32_t r;

    if (f->type == NULL)
        return;
    (void)cache__front_close(f, 0, NULL);
    for (r = 1; r <= f->claims.n; r++)
        if (f->claims.records[r].state == CACHE_PENDING_LOAD)
            cache__front_release(f, r, CACHE__ASK_AGAIN);
    CACHE_ASSERT(f->claims.n_used == 0 && "a loading cache is destroyed while "
                                          "it is in use");
    if (f->behind)
        cache_wb_destroy(&f->writes);
#ifdef CACHE__THREADS
    cache__front_break_locks(f);
#endif
    cache__front_free(f, f->memory);
    memset(f, 0, sizeof *f);
}

/* What the front has to say; the cells' part is the caller's. */
CACHE_COLD int cache__front_stats(struct cache_front *f,
                                  struct cache_loading_stats *out)
{
    if ((f->type->options & CACHE_STATS) == 0)
        return CACHE_EINVAL;
    cache__front_lock(f);
    *out = f->stats;
    if (f->behind) {
        out->n_dirty = cache_wb_n_dirty(&f->writes);
        out->writes = f->writes.stats;
    }
    cache__front_unlock(f);
    return 0;
}

/* name_timing, without the type. */
CACHE_COLD int cache__front_timing(struct cache_front *f,
                                   enum cache_timing what,
                                   struct cache_histogram *out)
{
    if (f->timings == NULL || (uint32_t)what > (uint32_t)CACHE_TIMING_WRITE)
        return CACHE_EINVAL;
    memset(out, 0, sizeof *out);
    cache_histogram_merge(out, &f->timings[what]);
    return 0;
}

CACHE_COLD const char *cache__front_check(struct cache_front *f)
{
    const char *broken;

    cache__front_lock(f);
    broken = cache__claims_check(&f->claims);
    if (!broken && f->behind)
        broken = cache_wb_check(&f->writes);
    if (!broken && (f->hard > f->soft || f->soft > f->epoch))
        broken = "epochs: out of order";
    cache__front_unlock(f);
    return broken;
}

#endif /* CACHE_FRONT_H */
