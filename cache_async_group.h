/*
 * cache_async_group.h - caches of one type on several libuv loops, of which one
 * forgets what another has changed.
 *
 * WHAT IT DOES
 *   Each loop has a loop half (cache_async.h) with a cache of its own, which is
 *   read without a lock.  Those that join a group tell each other which keys
 *   have another value:
 *
 *     cache_group_init(&group);
 *     cache_group_join(&group, &member, &async.base, 0);      // on each loop
 *
 * HOW
 *
 *      loop 1                       loop 2                       loop 3
 *      put, remove, invalidate
 *         |  changed: key ------> to forget | doorbell
 *         |  --------------------------------------------> to forget | doorbell
 *         v                           v next turn                v next turn
 *      its own cell               invalidate_key             invalidate_key
 *
 *   The others hear of a key when a write of it is in the cells here, and of
 *   writes behind once more when the store has it: for what they have loaded in
 *   between is the store's old value.  A load under way meanwhile is delivered
 *   to who waits for it, and not kept.  Each member's list is bounded; if it is
 *   full, or a key cannot be copied, the member forgets everything (which costs
 *   the same microsecond, whatever there is): it never misses a change.
 *   Invalidations go the same way, soft ones as soft ones.
 *
 *   What that gives:
 *   - When all is quiet (no write under way, each loop has had its turn), every
 *     member has the store's newest value of a key, or none.
 *   - Staleness has a bound: another member's value is gone at its loop's next
 *     turn after a write through was called back, or a write behind was stored.
 *     Until then its readers may get the older value.  (A loop on which
 *     nothing is open has no turns; a remote keeps it going.)
 *   - A loop reads its own writes: after a put it gets that value, or one that
 *     the store has from a later write of anybody.
 *   - Two members that write one key at once: the store decides who is last,
 *     and both end up with that.  Without a store of the cache's (aside) nobody
 *     decides: write to yours, then name_async_remove or _invalidate_key; two
 *     that put could keep a value each.
 *   - Nothing is promised between processes, nor of what changes the store
 *     behind the caches' back, nor after a write became a dead letter; and what
 *     name_init stores from a journal, before it can be in a group, nobody
 *     hears of.
 *   - A member that joins has missed what came before: it forgets what it has.
 *   - A dirty value that has left the cells (evicted, or forgotten) is served
 *     from the buffer until it is stored, and not put back: by then the store
 *     may have a newer one.
 *   Members have stores of their own where the store tells versions of a writer
 *   apart (CACHE_STORE_VERSIONS): two writers with one number would be refused.
 *
 * MEMORY
 *   A member has 2 x max_forgets x (a key and a byte).  Nothing is allocated
 *   after join, but by .key_copy.
 *
 * THREADS
 *   cache_group_init, _destroy: one, with nobody in the group.  All else is
 *   called on the loop's thread, or while the loop does not run.
 *   .key_copy and .key_free of the type are called on any of these threads.
 *   Locks are held for the length of a copy, never while the program is called,
 *   but for .key_copy, which must not come back here.
 *
 * OWNERSHIP AND LIFETIME
 *   Group and member are the caller's memory.  A member is the library's from
 *   join until leave, or until the close callback.  A key that is a pointer is
 *   copied with .key_copy for each member.
 *
 * COST
 *   A write: a lock for each other member.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_GROUP_H
#define CACHE_ASYNC_GROUP_H

#include "cache_async.h"

#define CACHE_GROUP_DEFAULT_MAX_FORGETS 1024u

/* --- a group: types ------------------------------------------------------ */

/* Loop halves of one type.  Members are private. */
struct cache_group {
    uv_rwlock_t lock; /* of the list: whoever tells the others reads it */
    struct cache_ring members;
};

/* What a member of a group has heard, since it joined. */
struct cache_member_stats {
    uint64_t n_forgotten; /* keys */
    uint64_t n_all;       /* times that it has forgotten everything */
    uint64_t n_overflows; /* of these: because it was told too much at once */
};

/* A loop half in a group.  Members are private. */
struct cache_member {
    struct cache_async_guest guest; /* first */
    struct cache_ring ring;         /* in the group */
    struct cache_group *group;      /* NULL = in none */
    struct cache_async *async;
    unsigned char *draining_keys, *draining_hows; /* the loop's */

    uv_mutex_t lock;            /* of the following; inside the group's */
    unsigned char *keys, *hows; /* [max] to forget: enum cache_invalidation */
    uint32_t n, max;
    bool all_soft, all_hard; /* everything is to be invalidated */
    struct cache_member_stats stats;
    void *memory;
};

CACHE_INLINE struct cache_member *cache__member_of(struct cache_ring *ring)
{
    return (struct cache_member *)(void *)((char *)ring -
                                           offsetof(struct cache_member, ring));
}

/* --- a group: telling ---------------------------------------------------- */

/* Another member has changed a key; NULL = all. */
CACHE_COLD void cache__member_hear(struct cache_member *m, const void *key,
                                   enum cache_invalidation how)
{
    const struct cache_front *f = m->async->front;
    void *copy;

    uv_mutex_lock(&m->lock);
    copy = m->keys + m->n * f->type->key_bytes; /* if there is room */
    if (key == NULL) {
        m->all_hard |= how == CACHE_INVALIDATE_HARD;
        m->all_soft = true;
    } else if (m->n < m->max && !m->all_hard) {
        memcpy(copy, key, f->type->key_bytes);
        if (cache__front_has(f, CACHE__HAS_KEY_COPY) &&
            f->type->key_copy(copy, f->config.cache.user) != 0)
            m->all_hard = true;
        else
            m->hows[m->n++] = (unsigned char)how;
    } else if (!m->all_hard) {
        m->all_hard = true;
        m->stats.n_overflows++;
    }
    (void)uv_async_send(&m->async->doorbell);
    uv_mutex_unlock(&m->lock);
}

CACHE_COLD void cache__member_changed(struct cache_async_guest *guest,
                                      const void *key,
                                      enum cache_invalidation how)
{
    struct cache_member *m = (struct cache_member *)(void *)guest;
    struct cache_group *g = m->group;
    struct cache_ring *at;

    uv_rwlock_rdlock(&g->lock); /* nobody leaves: their doorbells are open */
    for (at = m->ring.next; at != &m->ring; at = at->next)
        if (at != &g->members)
            cache__member_hear(cache__member_of(at), key, how);
    uv_rwlock_rdunlock(&g->lock);
}

/* --- a group: forgetting ------------------------------------------------- */

/* Forgets what others have changed. */
CACHE_COLD void cache__member_forget(struct cache_member *m)
{
    struct cache_front *f = m->async->front;
    unsigned char *keys, *hows;
    bool all_soft, all_hard;
    uint32_t n, i;

    uv_mutex_lock(&m->lock);
    keys = m->keys;
    hows = m->hows;
    n = m->n;
    all_soft = m->all_soft;
    all_hard = m->all_hard;
    m->keys = m->draining_keys;
    m->hows = m->draining_hows;
    m->n = 0;
    m->all_soft = m->all_hard = false;
    m->stats.n_forgotten += n;
    m->stats.n_all += all_soft || all_hard;
    uv_mutex_unlock(&m->lock);
    m->draining_keys = keys;
    m->draining_hows = hows;
    if (all_soft || all_hard)
        cache__front_invalidate(f, all_hard ? CACHE_INVALIDATE_HARD
                                            : CACHE_INVALIDATE_SOFT);
    for (i = 0; i < n; i++) {
        void *key = keys + i * f->type->key_bytes;

        if (!all_hard)
            cache__front_invalidate_key(f, key, f->type->hash(f, key),
                                        (enum cache_invalidation)hows[i]);
        cache__front_free_key(f, key);
    }
}

CACHE_COLD bool cache__member_turn(struct cache_async_guest *guest)
{
    cache__member_forget((struct cache_member *)(void *)guest);
    return false;
}

/* --- a group: public ----------------------------------------------------- */

/* Makes an empty group.  Returns 0 or libuv's error. */
CACHE_COLD int cache_group_init(struct cache_group *g)
{
    cache__ring_init(&g->members);
    return uv_rwlock_init(&g->lock);
}

/* Nobody is in it any more. */
CACHE_COLD void cache_group_destroy(struct cache_group *g)
{
    CACHE_ASSERT(cache__ring_empty(&g->members) &&
                 "a group is destroyed while it has members");
    uv_rwlock_destroy(&g->lock);
}

/*
 * Leaves the group, after forgetting what the others have changed until now;
 * close does so by itself, when all is stored.  Harmless for who is in none.
 */
CACHE_COLD void cache_group_leave(struct cache_member *m)
{
    struct cache_group *g = m->group;

    if (g == NULL)
        return;
    uv_rwlock_wrlock(&g->lock);
    cache__ring_remove(&m->ring);
    uv_rwlock_wrunlock(&g->lock);
    m->async->guests[CACHE__GUEST_MEMBER] = NULL;
    m->async->front->contested = false;
    cache__member_forget(m);
    uv_mutex_destroy(&m->lock);
    cache__front_free(m->async->front, m->memory);
    m->group = NULL;
}

CACHE_COLD void cache__member_closed(struct cache_async_guest *guest)
{
    cache_group_leave((struct cache_member *)(void *)guest);
}

/* These two can be in a group.  Returns 0, CACHE_EINVAL or CACHE_ESTRATEGY. */
CACHE_COLD int cache__group_fits(const struct cache_front *a,
                                 const struct cache_front *b)
{
    const struct cache_store *store = a->config.store;

    if (a->type->key_bytes != b->type->key_bytes || a->hooks != b->hooks)
        return CACHE_EINVAL;
    return store != NULL && store == b->config.store &&
                   (store->capabilities & CACHE_STORE_VERSIONS) != 0 &&
                   (a->config.writes != CACHE_ASIDE ||
                    b->config.writes != CACHE_ASIDE)
               ? CACHE_ESTRATEGY
               : 0;
}

/* Under the group's lock. */
CACHE_COLD int cache__group_add(struct cache_group *g, struct cache_member *m)
{
    struct cache_ring *at;
    int rc = 0;

    for (at = g->members.next; at != &g->members && rc == 0; at = at->next)
        rc = cache__group_fits(cache__member_of(at)->async->front,
                               m->async->front);
    if (rc == 0)
        cache__ring_append(&g->members, &m->ring);
    return rc;
}

CACHE_COLD int cache__member_make(struct cache_member *m, uint32_t max)
{
    const struct cache_front *f = m->async->front;
    size_t at = 0, keys = cache__place(&at, max, f->type->key_bytes);
    size_t more_keys = cache__place(&at, max, f->type->key_bytes);
    size_t hows = cache__place(&at, max, 1);
    size_t more_hows = cache__place(&at, max, 1);
    unsigned char *base;

    if (at > CACHE__LAYOUT_LIMIT)
        return CACHE_ESIZE;
    base = (unsigned char *)cache__front_alloc(f, at);
    if (base == NULL)
        return CACHE_ENOMEM;
    m->memory = base;
    m->max = max;
    m->keys = base + keys;
    m->hows = base + hows;
    m->draining_keys = base + more_keys;
    m->draining_hows = base + more_hows;
    return 0;
}

/*
 * Adds a loop half to a group: it forgets what it has, and from then on what
 * the others change; and they what it does.  max_forgets keys are remembered
 * until its loop's next turn, 0 = CACHE_GROUP_DEFAULT_MAX_FORGETS; more, and it
 * forgets everything: so as many as all others write meanwhile, and of writes
 * behind twice as many.
 * Returns 0; CACHE_EINVAL: not open, or of another type than the others;
 * CACHE_EBUSY: it is in a group; CACHE_ESTRATEGY: it shares a store with a
 * member that needs one of its own (see A GROUP); CACHE_ENOMEM, CACHE_ESIZE, or
 * libuv's error.  Then it is in none.
 */
CACHE_COLD int cache_group_join(struct cache_group *g, struct cache_member *m,
                                struct cache_async *a, uint32_t max_forgets)
{
    int rc;

    if (g == NULL || m == NULL || a == NULL || a->state != CACHE_ASYNC_OPEN)
        return CACHE_EINVAL;
    if (a->guests[CACHE__GUEST_MEMBER] != NULL)
        return CACHE_EBUSY;
    memset(m, 0, sizeof *m);
    m->guest.turn = cache__member_turn;
    m->guest.closed = cache__member_closed;
    m->guest.changed = cache__member_changed;
    m->async = a;
    rc = cache__member_make(m, max_forgets ? max_forgets
                                           : CACHE_GROUP_DEFAULT_MAX_FORGETS);
    if (rc != 0)
        return rc;
    rc = uv_mutex_init(&m->lock);
    if (rc == 0) {
        uv_rwlock_wrlock(&g->lock);
        rc = cache__group_add(g, m);
        uv_rwlock_wrunlock(&g->lock);
        if (rc != 0)
            uv_mutex_destroy(&m->lock);
    }
    if (rc != 0) {
        cache__front_free(a->front, m->memory);
        return rc;
    }
    m->group = g;
    a->guests[CACHE__GUEST_MEMBER] = &m->guest;
    a->front->contested = true;
    cache__front_invalidate(a->front, CACHE_INVALIDATE_HARD);
    return 0;
}

/* What it has heard.  Threads: any, while it is in a group. */
CACHE_COLD struct cache_member_stats
cache_member_get_stats(struct cache_member *m)
{
    struct cache_member_stats stats;

    uv_mutex_lock(&m->lock);
    stats = m->stats;
    uv_mutex_unlock(&m->lock);
    return stats;
}

#endif /* CACHE_ASYNC_GROUP_H */
