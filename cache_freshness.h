/*
 * cache_freshness.h - how long a value is good, and what a reader is to do.
 *
 * WHAT IT DOES
 *   A value is put, or loaded, with four moments:
 *
 *     put        refresh_at    fresh_until    stale_until       dead_at
 *      |--- fresh ---|--- fresh ----|---- stale ----|-- fallback --|-- gone
 *                     one reader     one reader      loaded first;
 *                     is asked to    is asked to     served only if
 *                     load anew      load anew       that fails
 *
 *   Stale is stale-while-revalidate, fallback is stale-if-error (RFC 5861).
 *   cache_decide is the one function that says what a reader gets.
 *
 *     the entry is     nobody is asked      somebody is       its key is
 *                      yet                  loading it        dirty
 *     fresh            HIT                  HIT               HIT
 *     fresh, refresh   STALE_YOU_REFRESH    HIT               HIT
 *     stale            STALE_YOU_REFRESH    STALE             HIT
 *     fallback         MISS_YOU_LOAD        MISS_WAIT         HIT
 *     failed lately    STALE                STALE             HIT
 *     negative         its error            its error         HIT
 *     gone, or none    MISS_YOU_LOAD        MISS_WAIT         HIT
 *
 *   - "Failed lately": a stale or fallback entry of which a load has failed,
 *     for the time of error_ttl_ms.
 *   - "Negative": the key is known to be absent (CACHE_EKEY), or a load of it
 *     has failed lately and there is no value (what the loader returned).
 *   - "Dirty": a write of the key is on its way to the store, which has an
 *     older value: what was written is served, from the entry or from the buffer.
 *   - Soft invalidation makes what is older than it stale, whatever is left of
 *     its fresh time; hard invalidation makes it gone.
 *   - Gone is gone: a slow reload does not make a dead value last longer.
 *
 * TIME
 *   Moments are ticks of a cache (config.tick_ms); a value may go from one
 *   state to the next up to a tick early, never late.
 *
 * THREADS
 *   Functions of their arguments: any.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_FRESHNESS_H
#define CACHE_FRESHNESS_H

#include "cache.h"

/* --- how long: a configuration ------------------------------------------- */

/* From the moment of a put, or of the end of a load.  What is zero is off. */
struct cache_freshness {
    uint64_t ttl_ms;      /* fresh for so long; 0 = for ever */
    uint32_t refresh_pct; /* one reader is asked to load anew from so many
                                   percent of ttl_ms on; 0 = from its end */
    uint32_t jitter_pct;  /* of ttl_ms, a random part of so many percent is
                                   taken off, so that what came together does
                                   not go together */
    uint64_t stale_ms;    /* beyond ttl_ms: served stale while one reader
                                   loads anew */
    uint64_t stale_if_error_ms; /* beyond ttl_ms: served if a load fails */
    uint64_t idle_ms;           /* gone if it is not read for so long */
    uint64_t negative_ttl_ms;   /* how long it is known that a key is absent */
    uint64_t error_ttl_ms;      /* how long nobody is asked to load what has
                                   just failed */
};

/* --- the life of an entry ------------------------------------------------ */

#define CACHE_LIFE_FOREVER UINT32_MAX /* a moment that does not come */

enum cache_life_state {
    CACHE_LIFE_VALUE = 0, /* there is a value; a negative state: there is none,
                             and that is the error which says why */
    CACHE_LIFE_FAILED = 1 /* there is a value, and its last load has failed:
                             nobody is asked before refresh_at */
};

/* Kept with every value, and behind it: first what a hit looks at. */
struct cache_life {
    uint32_t refresh_at;  /* the ticks of the drawing above */
    uint32_t birth;       /* the epoch in which its put or load began */
    int32_t state;        /* enum cache_life_state, or a negative error */
    uint32_t fresh_until; /* at or after refresh_at, but for a failed one */
    uint32_t stale_until; /* at or after fresh_until */
    uint32_t dead_at;     /* at or after stale_until */
};

/* What a life is looked at with. */
struct cache_moment {
    uint32_t tick;
    uint32_t soft; /* what was born before this epoch is stale at best */
    uint32_t hard; /* and before this one, gone */
};

/* What an entry is to its readers. */
enum cache_verdict {
    CACHE_VERDICT_FRESH,    /* served */
    CACHE_VERDICT_REFRESH,  /* served as fresh; time to load anew */
    CACHE_VERDICT_STALE,    /* served as stale; time to load anew */
    CACHE_VERDICT_FALLBACK, /* served only if a load fails */
    CACHE_VERDICT_FAILED,   /* served as stale; too early to load again */
    CACHE_VERDICT_NEGATIVE, /* there is no value, and that is known */
    CACHE_VERDICT_GONE      /* as if it were not there */
};

/* What a reader gets, and what it is to do.  Negative: the error that is known
 * to be the result. */
enum cache_claim_answer {
    CACHE_CLAIM_HIT,               /* a value */
    CACHE_CLAIM_STALE_YOU_REFRESH, /* a value; load it anew, and commit */
    CACHE_CLAIM_STALE,             /* a value that is past its time */
    CACHE_CLAIM_MISS_YOU_LOAD,     /* load it, and commit */
    CACHE_CLAIM_MISS_WAIT          /* somebody else loads it: ask again */
};

/* What an entry is at a moment.  Threads: any. */
CACHE_INLINE enum cache_verdict
cache_life_verdict(const struct cache_life *life, const struct cache_moment *at)
{
    bool waits = at->tick < life->refresh_at;

    if (at->tick >= life->dead_at || life->birth < at->hard)
        return CACHE_VERDICT_GONE;
    if (life->state < 0)
        return at->tick < life->fresh_until && life->birth >= at->soft
                   ? CACHE_VERDICT_NEGATIVE
                   : CACHE_VERDICT_GONE;
    if (at->tick < life->fresh_until && life->birth >= at->soft)
        return waits ? CACHE_VERDICT_FRESH : CACHE_VERDICT_REFRESH;
    if (life->state == CACHE_LIFE_FAILED && waits)
        return CACHE_VERDICT_FAILED;
    return at->tick < life->stale_until ? CACHE_VERDICT_STALE
                                        : CACHE_VERDICT_FALLBACK;
}

/* There is a value that may be served, if only as a fallback. */
CACHE_INLINE bool cache_life_has_value(const struct cache_life *life,
                                       const struct cache_moment *at)
{
    enum cache_verdict verdict = cache_life_verdict(life, at);

    return verdict != CACHE_VERDICT_GONE && verdict != CACHE_VERDICT_NEGATIVE;
}

/* The verdict is FRESH: the usual case, in few instructions. */
CACHE_INLINE bool cache_life_is_fresh(const struct cache_life *life,
                                      const struct cache_moment *at)
{
    return at->tick < life->refresh_at && life->birth >= at->soft &&
           (life->state == CACHE_LIFE_VALUE ||
            (life->state == CACHE_LIFE_FAILED && at->tick < life->fresh_until));
}

/*
 * What a reader gets, by the table at the head of this file.  life is NULL if
 * there is no entry; `claimed`: somebody is loading or writing it; `dirty`: the
 * store has an older value than what was written here.
 * Returns an enum cache_claim_answer, or the negative error of what is known to
 * be absent or failing.  Threads: any.
 */
CACHE_INLINE int cache_decide(const struct cache_life *life,
                              const struct cache_moment *at, bool dirty,
                              bool claimed)
{
    enum cache_verdict verdict =
        life ? cache_life_verdict(life, at) : CACHE_VERDICT_GONE;

    if (dirty || verdict == CACHE_VERDICT_FRESH)
        return CACHE_CLAIM_HIT;
    if (verdict == CACHE_VERDICT_FAILED)
        return CACHE_CLAIM_STALE;
    if (verdict == CACHE_VERDICT_NEGATIVE)
        return life->state;
    if (verdict == CACHE_VERDICT_REFRESH)
        return claimed ? CACHE_CLAIM_HIT : CACHE_CLAIM_STALE_YOU_REFRESH;
    if (verdict == CACHE_VERDICT_STALE)
        return claimed ? CACHE_CLAIM_STALE : CACHE_CLAIM_STALE_YOU_REFRESH;
    return claimed ? CACHE_CLAIM_MISS_WAIT : CACHE_CLAIM_MISS_YOU_LOAD;
}

/* --- the beginning of a life --------------------------------------------- */

/* The clock of a cache, for those who do not hold its lock. */
struct cache_clock {
    uint64_t (*now)(void *user);
    const uint64_t *now_ms; /* instead of now; or NULL */
    void *user;
    uint64_t start_ms; /* tick 1 begins */
    uint32_t tick_ms;
    uint32_t tick; /* the latest that was seen; never falls */
};

CACHE_INLINE uint64_t cache__clock_ms(const struct cache_clock *clock)
{
    return cache__now(clock->now_ms, clock->now, clock->user);
}

/* The clock has moved to another tick, or back. */
CACHE_COLD uint32_t cache__clock_advance(struct cache_clock *clock,
                                         uint64_t now_ms, uint32_t seen)
{
    uint64_t ticks = (now_ms - clock->start_ms) / clock->tick_ms;
    uint32_t tick =
        ticks >= UINT32_MAX - 2 ? UINT32_MAX - 1 : (uint32_t)ticks + 1;

    if (now_ms < clock->start_ms || tick <= seen)
        return seen;
    CACHE_ATOMIC_STORE(&clock->tick, tick);
    return tick;
}

CACHE_INLINE uint32_t cache__clock_tick_at(struct cache_clock *clock,
                                           uint64_t now_ms)
{
    uint32_t tick = CACHE_ATOMIC_LOAD(&clock->tick);

    if (now_ms - clock->start_ms < (uint64_t)tick * clock->tick_ms)
        return tick;
    return cache__clock_advance(clock, now_ms, tick);
}

CACHE_INLINE uint32_t cache__clock_tick(struct cache_clock *clock)
{
    return cache__clock_tick_at(clock, cache__clock_ms(clock));
}

/* Milliseconds since the first tick began, but never of an earlier tick than
 * was seen. */
CACHE_WARM uint64_t cache__clock_since(struct cache_clock *clock)
{
    uint64_t now_ms = cache__clock_ms(clock);
    uint32_t tick = cache__clock_tick_at(clock, now_ms);
    uint64_t since = (uint64_t)(tick - 1) * clock->tick_ms;

    return now_ms > clock->start_ms && now_ms - clock->start_ms > since
               ? now_ms - clock->start_ms
               : since;
}

CACHE_INLINE uint64_t cache__sum_ms(uint64_t a, uint64_t b)
{
    return a > CACHE_NEVER - b ? CACHE_NEVER : a + b;
}

/* The tick in which so many milliseconds from `since` end, which is early by a
 * part of one.  What is beyond range ends with the ticks: in the last one, in
 * which time stands still, so that nothing lasts for ever that has an end. */
CACHE_INLINE uint32_t cache__clock_then(const struct cache_clock *clock,
                                        uint64_t since, uint64_t ms)
{
    uint64_t ticks;

    if (ms == CACHE_NEVER)
        return CACHE_LIFE_FOREVER;
    ticks = cache__sum_ms(since, ms) / clock->tick_ms;
    return ticks >= UINT32_MAX - 2 ? UINT32_MAX - 1 : (uint32_t)ticks + 1;
}

/* The same from now on. */
CACHE_WARM uint32_t cache__clock_after(struct cache_clock *clock, uint64_t ms)
{
    return cache__clock_then(clock, cache__clock_since(clock), ms);
}

CACHE_INLINE uint64_t cache__percent(uint64_t ms, uint32_t pct)
{
    return ms / 100 * pct + ms % 100 * pct / 100;
}

/* Returns 0, CACHE_EFRESHNESS, or CACHE_ETTL for a time that is not 0 and below
 * one tick.  Threads: any. */
CACHE_COLD int cache_freshness_check(const struct cache_freshness *f,
                                     uint32_t tick_ms)
{
    const uint64_t times[] = { f->ttl_ms, f->idle_ms, f->negative_ttl_ms,
                               f->error_ttl_ms };
    size_t i;

    if (f->refresh_pct > 100 || f->jitter_pct > 100)
        return CACHE_EFRESHNESS;
    for (i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i] != 0 && times[i] < tick_ms)
            return CACHE_ETTL;
    return 0;
}

/*
 * The life of a value that comes now: for ttl_ms (0 = f->ttl_ms, CACHE_NEVER),
 * gone after lifetime_ms whatever f says (0 = no limit).  `random` is for the
 * jitter.  Threads: any.
 */
CACHE_WARM struct cache_life cache_life_of(const struct cache_freshness *f,
                                           struct cache_clock *clock,
                                           uint64_t ttl_ms,
                                           uint64_t lifetime_ms, uint32_t birth,
                                           uint64_t random)
{
    struct cache_life life;
    uint64_t spare =
        f->stale_ms > f->stale_if_error_ms ? f->stale_ms : f->stale_if_error_ms;
    uint32_t end = CACHE_LIFE_FOREVER;
    uint64_t since;

    memset(&life, 0, sizeof life);
    life.birth = birth;
    if (ttl_ms == 0)
        ttl_ms = f->ttl_ms ? f->ttl_ms : CACHE_NEVER;
    since = ttl_ms != CACHE_NEVER || lifetime_ms != 0
                ? cache__clock_since(clock)
                : 0;
    if (lifetime_ms != 0)
        end = cache__clock_then(clock, since, lifetime_ms);
    life.refresh_at = life.fresh_until = life.stale_until = life.dead_at = end;
    if (ttl_ms == CACHE_NEVER)
        return life;
    if (f->jitter_pct != 0)
        ttl_ms -= random % (cache__percent(ttl_ms, f->jitter_pct) + 1);
    life.fresh_until = cache__clock_then(clock, since, ttl_ms);
    life.refresh_at =
        f->refresh_pct
            ? cache__clock_then(clock, since,
                                cache__percent(ttl_ms, f->refresh_pct))
            : life.fresh_until;
    life.stale_until = life.dead_at = life.fresh_until;
    if (f->stale_ms != 0)
        life.stale_until =
            cache__clock_then(clock, since, cache__sum_ms(ttl_ms, f->stale_ms));
    if (spare != 0)
        life.dead_at =
            cache__clock_then(clock, since, cache__sum_ms(ttl_ms, spare));
    if (life.dead_at > end)
        life.dead_at = end;
    if (life.stale_until > end)
        life.stale_until = end;
    if (life.fresh_until > end)
        life.fresh_until = end;
    if (life.refresh_at > life.fresh_until)
        life.refresh_at = life.fresh_until;
    return life;
}

/* The life of the knowledge that there is no value: `error` is CACHE_EKEY, or
 * what a load has failed with.  Threads: any. */
CACHE_COLD struct cache_life cache_life_of_none(struct cache_clock *clock,
                                                uint64_t ttl_ms, uint32_t birth,
                                                int error)
{
    struct cache_life life;

    life.refresh_at = life.fresh_until = life.stale_until = life.dead_at =
        cache__clock_after(clock, ttl_ms);
    life.birth = birth;
    life.state = error;
    return life;
}

#endif /* CACHE_FRESHNESS_H */
