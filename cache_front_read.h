/*
 * cache_front_read.h - how a reader of a loading cache gets a value, loads it,
 * or learns that it is out of date: the part of the front (cache_front.h) that
 * reads.
 *
 * WHAT IT DOES
 *
 *     ask --> visit the cell --> cache_decide, and the options of the call
 *      |         served: *out is filled in            CACHE_CLAIM_HIT, STALE ..
 *      |         to be loaded: a claim is given out   CACHE_CLAIM_.._YOU_..
 *      |         somebody else loads it: await        CACHE_CLAIM_MISS_WAIT
 *      v
 *     load_all --> deliver --> keep: into the cells, unless it was overtaken
 *                          `-> release: who waits gets it
 *
 *   Invalidation and the reclaiming of what it has made useless are here, too.
 *
 * THREADS
 *   As cache_front.h.  Functions without a lock of their own are called under
 *   the front's; the others say so with cache__front_lock.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_FRONT_READ_H
#define CACHE_FRONT_READ_H

#include "cache_front.h"

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
CACHE_WARM void cache__front_put_off(struct cache_front *f,
                                     const struct cache__reader *look)
{
    if (look->served && f->idles)
        (void)f->type->extend(f, look->key,
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
CACHE_WARM int cache__front_put_own(struct cache_front *f, const void *key,
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
CACHE_WARM const struct cache_store_item *
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
    /* Where others write, too, this may be at the store already, and theirs
     * after it: the cells would have the older one, and nobody to say so. */
    look->unstored =
        f->contested || cache__front_put_own(f, look->key, look->hash,
                                             look->out, &life, 0, true) != 0;
    look->served = look->fresh = true;
    return CACHE_CLAIM_HIT;
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

/* Gives the key to this reader, or says why not. */
CACHE_WARM int cache__front_give(struct cache_front *f,
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

CACHE_WARM void cache__front_count_look(struct cache_front *f,
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
    if (f->type->options & CACHE_STATS)
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
        (void)f->type->remove(f, key);
    if (ttl_ms == 0)
        return;
    life = cache_life_of_none(&f->clock, ttl_ms, birth, error);
    cache__front_timed(f, &life);
    (void)f->type->put(f, key, NULL, &life, hash,
                       cache__front_cell_ttl(f, &life), &version);
}

/* There is a newer value than this version of a load's. */
CACHE_WARM bool cache__front_has_newer(struct cache_front *f, const void *key,
                                       uint64_t hash, uint64_t version)
{
    struct cache__reader look;

    if (version == 0)
        return false;
    look = cache__reader_of(key, hash, NULL, NULL);
    look.at = cache__front_moment(f);
    return f->type->visit(f, key, hash, cache__front_see_entry, &look) &&
           cache_life_has_value(&look.life, &look.at) && look.version > version;
}

/* A load has failed: its cell is told, or made. */
CACHE_COLD void cache__front_keep_error(struct cache_front *f, uint32_t r,
                                        int error)
{
    const struct cache_pending *p = &f->claims.records[r];
    const void *key = cache__claims_key(&f->claims, r);
    struct cache__reader look = cache__reader_of(key, p->hash, NULL, NULL);

    look.f = f;
    look.at = cache__front_moment(f);
    (void)f->type->visit(f, key, p->hash, cache__front_blame, &look);
    if (!look.served)
        cache__front_put_none(f, key, p->hash, f->config.freshness.error_ttl_ms,
                              p->birth, error);
}

/* What a load has brought goes to the cells: a value, that there is none, or an
 * error.  Returns 0, or why a value is not there. */
CACHE_WARM int cache__front_keep(struct cache_front *f, uint32_t r,
                                 const void *value,
                                 const struct cache_loaded *loaded, int status,
                                 bool retain)
{
    const struct cache_pending *p = &f->claims.records[r];
    const void *key = cache__claims_key(&f->claims, r);
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
    cache__front_keep_error(f, r, status);
    return 0;
}

/* The load of a record has ended: it is kept, and told.  The record is still
 * there.  Returns 0 if a value is in the cells. */
CACHE_WARM int cache__front_arrive(struct cache_front *f, uint32_t r,
                                   const void *value,
                                   const struct cache_loaded *loaded,
                                   int status, bool retain)
{
    int rc = cache__front_keep(f, r, value, loaded, status, retain);

    cache__front_count(f, &f->stats.loads);
    if (status != 0 && status != CACHE_EKEY)
        cache__front_count(f, &f->stats.load_errors);
    cache__front_tell(
        f,
        status == 0 || status == CACHE_EKEY ? CACHE_EVENT_LOAD_END
                                            : CACHE_EVENT_LOAD_ERROR,
        cache__claims_key(&f->claims, r), status == 0 ? value : NULL, status);
    return rc;
}

/* The same, and those who wait get it. */
CACHE_COLD int cache__front_land(struct cache_front *f, uint32_t r,
                                 const void *value,
                                 const struct cache_loaded *loaded, int status,
                                 bool retain)
{
    struct cache_pending *p = &f->claims.records[r];
    uint32_t i;
    int rc;

    if (status == 0 && p->n_waiters > 0) {
        memcpy(cache__claims_value(&f->claims, r), value, f->type->value_bytes);
        for (i = 0; i < p->n_waiters; i++)
            cache__front_retain(f, value);
    }
    rc = cache__front_arrive(f, r, value, loaded, status, retain);
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
 * result (error = 0).  Returns how a value that may be served all the same was
 * found, and copied to *out; or the error, CACHE_EKEY if that is 0.
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
    if (cache__claims_held(&f->claims, claim, cache__clock_ms(&f->clock)))
        rc = cache__front_land(f, claim->record, value, loaded, loaded->status,
                               true);
    cache__front_unlock(f);
    if (failed || status != 0)
        return status;
    memcpy(look->out, value, f->type->value_bytes);
    return rc == 0 ? CACHE_FOUND : CACHE_FOUND_UNSTORED;
}

/* Waits, under the lock, for whoever holds look->record.  Returns an enum
 * cache_found, an error, or CACHE__ASK_AGAIN. */

CACHE_COLD int cache__front_await(struct cache_front *f,
                                  struct cache__reader *look, uint64_t until_ms)
{
    const uint32_t r = look->record;
    struct cache_pending *p = &f->claims.records[r];
    int rc = CACHE__ASK_AGAIN;

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
    else if (rc != CACHE_EKEY && rc != CACHE__ASK_AGAIN)
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
            answer = CACHE__ASK_AGAIN;
    } while (answer == CACHE__ASK_AGAIN);
    cache__front_unlock(f);
    if (claim.ticket == 0)
        return answer == CACHE_CLAIM_MISS_YOU_LOAD ? CACHE_ENOSTORE : answer;
    memset(&loaded, 0, sizeof loaded);
    cache__front_load_all(f, loader, (const unsigned char *)key,
                          (unsigned char *)value, &loaded, 1);
    return cache__front_deliver(f, &claim, &look, value, &loaded);
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
        (void)f->type->remove(f, key);
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
        if (answer == CACHE__ASK_AGAIN)
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

/* What was invalidated leaves: looks at up to *budget slots behind *at.
 * Returns how many have left. */
CACHE_COLD uint32_t cache__reclaim(struct cache *c,
                                   const struct cache_type *type,
                                   size_t life_at, uint32_t hard, uint32_t *at,
                                   uint32_t *budget)
{
    const unsigned char *nodes = (const unsigned char *)c->nodes;
    const uint32_t options = type->kind.options;
    uint32_t n = 0;

    while (*budget > 0 && *at < c->fresh) {
        uint32_t slot = ++*at, soon = slot + CACHE__RECLAIM_AHEAD;
        const struct cache_life *life =
            (const struct cache_life *)(const void *)(nodes +
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

#endif /* CACHE_FRONT_READ_H */
