/*
 * cache_async_remote.h - other threads, and other loops, for a cache on a libuv
 * loop.
 *
 * WHAT IT DOES
 *   The loop half (cache_async.h) belongs to its loop's thread.  This header is
 *   for those that are not on it:
 *   - A remote, which CACHE_ASYNC_REMOTE_DEFINE(name) makes: any thread puts
 *     and removes without waiting, and fetches by waiting for the loop.
 *   - A group: loop halves of one type on different loops, each with a cache of
 *     its own that is read without a lock; what one of them changes, the others
 *     forget.
 *
 *   EXAMPLE
 *     CACHE_DEFINE_LOADING(users, uint64_t, struct user, cache_hash_u64,
 *                          cache_equal_u64, 0);
 *     CACHE_ASYNC_DEFINE(users);
 *     CACHE_ASYNC_REMOTE_DEFINE(users);
 *
 *     users_remote_init(&remote, &async, 0, NULL);     // on the loop's thread
 *
 *     int rc = users_remote_fetch(&remote, 42, &user, 1000);  // on any other
 *     if (rc >= 0)      ... user is filled in
 *     rc = users_remote_put(&remote, 42, user);
 *     if (rc == UV_EAGAIN) ... the loop does not keep up: later
 *
 *     cache_group_join(&group, &member, &async.base, 0);      // on each loop
 *
 * A REMOTE
 *
 *     thread:  a free slot <-- key, value --> queue, ring the doorbell
 *     loop:    next turn: all that is queued, in order --> put, remove, fetch
 *              answered --> the slot; wake who waits, or, if it has gone, free
 *     thread:  the value out of the slot --> free
 *
 *   - What a thread queues is begun in its order.  A fetch comes after the
 *     thread's own puts (which count, through and around, when they are
 *     stored), and joins the load of a key that is under way.
 *   - Slots are one block, made by init: one for each operation that is queued
 *     or under way.  A put that finds none free is refused, a fetch waits.
 *   - A caller whose time is over returns at once.  Its slot is the loop's
 *     until the load has ended, or the same deadline has passed there.
 *   - A put that has returned 0 is carried out by the loop as its own put would
 *     be, also when close comes right after it; what that refuses is counted
 *     and told to on_error.
 *   - The loop is kept alive by its remote until it is closed, as by a socket
 *     that listens.
 *   - Close first carries out what is queued, then refuses.  Callers that wait
 *     get UV_ECANCELED, or a value that is there; none is left waiting, and the
 *     doorbell is not rung any more.  The remote itself stays until it is
 *     destroyed: its functions may be called all that time, so threads need
 *     not be stopped before close.  They end when they see UV_ECANCELED.
 *
 * A GROUP
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
 *     behind the cache's back, nor after a write became a dead letter.
 *   - A member that joins has missed what came before: it forgets what it has.
 *   - A dirty value that has left the cells (evicted, or forgotten) is served
 *     from the buffer until it is stored, and not put back: by then the store
 *     may have a newer one.
 *   Members have stores of their own where the store tells versions of a writer
 *   apart (CACHE_STORE_VERSIONS): two writers with one number would be refused.
 *
 * MEMORY
 *   Nothing is allocated after init and join, but by .key_copy.
 *     a remote   max_pending x (about 400 bytes, a key and a value)
 *     a member   2 x max_forgets x (a key and a byte)
 *
 * THREADS
 *   name_remote_put, _put_ttl, _remove, _fetch, cache_remote_get_stats: any.
 *   cache_group_init, _destroy: one, with nobody in the group.  All else is
 *   called on the loop's thread, or while the loop does not run.
 *   .key_copy and .key_free of the type are called on any of these threads.
 *   Locks are held for the length of a copy, never while the program is called,
 *   but for .key_copy, which must not come back here.
 *
 * OWNERSHIP AND LIFETIME
 *   - Remote, group and member are the caller's memory.  A member is the
 *     library's from join until leave, or until the close callback; a remote
 *     until cache_remote_destroy, which comes after the loop half's close (in
 *     its callback, or later), when no thread will call any more, and before
 *     the cache is destroyed.  It waits for callers on their way out.
 *   - Values are copied, as by assignment, from thread to thread: what they
 *     point to must be there for as long as anybody may have a copy.  Values
 *     that are freed when they leave the cache are for loops only.
 *   - A key that is a pointer is copied with .key_copy before put or fetch
 *     returns.
 *
 * COST
 *   A put: one lock and, if the loop sleeps, a write to wake it up.  A fetch:
 *   that, and the caller sleeps for at least a turn of the loop, also for a
 *   hit: threads that read often have a cache of cache_loading_shared.h, or a
 *   loop and a group.  A write in a group: a lock for each other member.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_REMOTE_H
#define CACHE_ASYNC_REMOTE_H

#include "cache_async.h"

#define CACHE_REMOTE_DEFAULT_MAX_PENDING 1024u
#define CACHE_GROUP_DEFAULT_MAX_FORGETS 1024u

/* --- a remote: types ----------------------------------------------------- */

enum cache__remote_op {
    CACHE__REMOTE_PUT,
    CACHE__REMOTE_REMOVE,
    CACHE__REMOTE_FETCH
};

struct cache_remote;

/* An operation of another thread's.  It is that thread's until it is queued;
 * then the loop's, but for the members that the lock protects. */
struct cache__remote_slot {
    struct cache__remote_slot *next; /* free, or queued */
    struct cache_remote *remote;
    void *key, *value; /* room for one */
    enum cache__remote_op op;
    uint64_t ttl_ms;   /* PUT; 0 = the cache's */
    uint64_t until_ns; /* FETCH: by uv_hrtime; CACHE_NEVER */
    uv_cond_t *waiter; /* FETCH: who waits, on its stack; NULL = it has gone.
                          Under the lock, as the next two */
    bool done;
    int status;
    struct cache_fetch fetch;
    struct cache_fetch_many many; /* of this one fetch: tells it */
    struct cache_async_write write;
};

struct cache__remote_fifo {
    struct cache__remote_slot *first, *last;
};

/* Counters since init. */
struct cache_remote_stats {
    uint64_t n_writes;   /* puts and removals that were queued */
    uint64_t n_fetches;  /* fetches that were queued */
    uint64_t n_full;     /* puts and removals refused with UV_EAGAIN */
    uint64_t n_failed;   /* of n_writes: told to on_error */
    uint64_t n_timeouts; /* fetches that returned UV_ETIMEDOUT */
    uint32_t n_pending;  /* now: slots in use */
};

/* The part of struct name_remote that does not depend on the types.  Members
 * are private. */
struct cache_remote {
    struct cache_async_guest guest; /* first */
    struct cache_async *async;      /* while it is open */
    struct cache_front *front;
    uint64_t timeout_ms; /* of a fetch that names none; 0 = no limit */
    void (*failed)(struct cache_remote *r, const void *key, const void *value,
                   int status);
    struct cache__remote_fifo taken; /* by the loop, and not begun yet */

    uv_mutex_t lock; /* of the following, and of the slots in part */
    uv_cond_t freed; /* a slot, or what close and destroy wait for */
    struct cache__remote_slot *free_slots;
    struct cache__remote_fifo queue;
    bool open;         /* the doorbell may be rung */
    bool thread_known; /* the loop has run: its thread is: */
    uv_thread_t thread;
    uint32_t n_inside; /* callers in a fetch */
    struct cache_remote_stats stats;
    void *memory;
};

/* --- a remote: slots ----------------------------------------------------- */

/* The slot of which this is the part at that place. */
CACHE_INLINE struct cache__remote_slot *cache__remote_slot_of(void *part,
                                                              size_t at)
{
    return (struct cache__remote_slot *)(void *)((char *)part - at);
}

CACHE_INLINE void cache__remote_append(struct cache__remote_fifo *q,
                                       struct cache__remote_slot *slot)
{
    slot->next = NULL;
    if (q->first == NULL)
        q->first = slot;
    else
        q->last->next = slot;
    q->last = slot;
}

CACHE_COLD void cache__remote_free_key(const struct cache_front *f, void *key)
{
    if (cache__front_has(f, CACHE__HAS_KEY_FREE))
        f->type->key_free(key, f->config.cache.user);
}

/* Waits under the lock.  Returns false if time is over. */
CACHE_COLD bool cache__remote_wait(struct cache_remote *r, uv_cond_t *cond,
                                   uint64_t until_ns)
{
    uint64_t now_ns;

    if (until_ns == CACHE_NEVER) {
        uv_cond_wait(cond, &r->lock);
        return true;
    }
    now_ns = uv_hrtime();
    if (now_ns >= until_ns)
        return false;
    (void)uv_cond_timedwait(cond, &r->lock, until_ns - now_ns);
    return true;
}

/* Takes a slot, under the lock; waits for one if `waits`.  Returns 0,
 * UV_EAGAIN, UV_ETIMEDOUT or UV_ECANCELED. */
CACHE_COLD int cache__remote_take(struct cache_remote *r, bool waits,
                                  uint64_t until_ns,
                                  struct cache__remote_slot **slot)
{
    while (r->open && r->free_slots == NULL) {
        if (!waits)
            return UV_EAGAIN;
        if (!cache__remote_wait(r, &r->freed, until_ns))
            return UV_ETIMEDOUT;
    }
    if (!r->open)
        return UV_ECANCELED;
    *slot = r->free_slots;
    r->free_slots = (*slot)->next;
    r->stats.n_pending++;
    return 0;
}

/* Under the lock. */
CACHE_COLD void cache__remote_give_back(struct cache__remote_slot *slot)
{
    struct cache_remote *r = slot->remote;

    slot->next = r->free_slots;
    r->free_slots = slot;
    r->stats.n_pending--;
    uv_cond_signal(&r->freed);
}

/* Under the lock: so close does not come between the look and the ring. */
CACHE_COLD void cache__remote_queue(struct cache__remote_slot *slot,
                                    const void *key)
{
    struct cache_remote *r = slot->remote;

    memcpy(slot->key, key, r->front->type->key_bytes);
    cache__remote_append(&r->queue, slot);
    (void)uv_async_send(&r->async->doorbell);
}

/* --- a remote: other threads --------------------------------------------- */

/* name_remote_put, _put_ttl and _remove, without the type.  *key is the
 * caller's copy. */
CACHE_COLD int cache__remote_write(struct cache_remote *r,
                                   enum cache__remote_op op, void *key,
                                   const void *value, uint64_t ttl_ms)
{
    const struct cache_front *f = r->front;
    struct cache__remote_slot *slot;
    int rc = 0;

    if (cache__front_has(f, CACHE__HAS_KEY_COPY))
        rc = f->type->key_copy(key, f->config.cache.user);
    if (rc != 0)
        return rc;
    uv_mutex_lock(&r->lock);
    rc = cache__remote_take(r, false, 0, &slot);
    if (rc == 0) {
        slot->op = op;
        slot->ttl_ms = ttl_ms;
        if (value != NULL)
            memcpy(slot->value, value, f->type->value_bytes);
        cache__remote_queue(slot, key);
        r->stats.n_writes++;
    }
    r->stats.n_full += rc == UV_EAGAIN;
    uv_mutex_unlock(&r->lock);
    if (rc != 0)
        cache__remote_free_key(f, key);
    return rc;
}

/* Waits, under the lock, for the answer to a fetch that is queued. */
CACHE_COLD int cache__remote_await(struct cache__remote_slot *slot, void *out)
{
    struct cache_remote *r = slot->remote;
    int rc;

    while (!slot->done)
        if (!cache__remote_wait(r, slot->waiter, slot->until_ns)) {
            slot->waiter = NULL; /* the slot is the loop's to free */
            return UV_ETIMEDOUT;
        }
    rc = slot->status;
    if (rc >= 0)
        memcpy(out, slot->value, r->front->type->value_bytes);
    cache__remote_give_back(slot);
    return rc;
}

/* The part of a fetch that is under the lock. */
CACHE_COLD int cache__remote_ask(struct cache_remote *r, void *key, void *out,
                                 uint64_t until_ns, uv_cond_t *told)
{
    uv_thread_t self = uv_thread_self();
    struct cache__remote_slot *slot;
    int rc;

    if (r->thread_known && uv_thread_equal(&self, &r->thread))
        rc = UV_EBUSY;
    else
        rc = cache__remote_take(r, true, until_ns, &slot);
    if (rc != 0) {
        cache__remote_free_key(r->front, key);
        return rc;
    }
    slot->op = CACHE__REMOTE_FETCH;
    slot->until_ns = until_ns;
    slot->waiter = told;
    slot->done = false;
    cache__remote_queue(slot, key);
    r->stats.n_fetches++;
    return cache__remote_await(slot, out);
}

/* A time of uv_hrtime. */
CACHE_COLD uint64_t cache__remote_until(const struct cache_remote *r,
                                        uint64_t timeout_ms)
{
    if (timeout_ms == 0)
        timeout_ms = r->timeout_ms ? r->timeout_ms : CACHE_NEVER;
    return timeout_ms > UINT64_MAX / 2 / 1000000
               ? CACHE_NEVER
               : uv_hrtime() + timeout_ms * 1000000;
}

/* name_remote_fetch, without the type.  *key is the caller's copy. */
CACHE_COLD int cache__remote_fetch(struct cache_remote *r, void *key, void *out,
                                   uint64_t timeout_ms)
{
    uint64_t until_ns = cache__remote_until(r, timeout_ms);
    const struct cache_front *f = r->front;
    uv_cond_t told;
    int rc = uv_cond_init(&told);

    if (rc != 0)
        return rc;
    if (cache__front_has(f, CACHE__HAS_KEY_COPY))
        rc = f->type->key_copy(key, f->config.cache.user);
    if (rc == 0) {
        uv_mutex_lock(&r->lock);
        r->n_inside++;
        rc = cache__remote_ask(r, key, out, until_ns, &told);
        r->stats.n_timeouts += rc == UV_ETIMEDOUT;
        if (--r->n_inside == 0 && !r->open)
            uv_cond_broadcast(&r->freed); /* destroy may wait */
        uv_mutex_unlock(&r->lock);
    }
    uv_cond_destroy(&told);
    return rc;
}

/* --- a remote: the loop -------------------------------------------------- */

/* A fetch has ended. */
CACHE_COLD void cache__remote_answer(struct cache__remote_slot *slot,
                                     int status)
{
    struct cache_remote *r = slot->remote;

    uv_mutex_lock(&r->lock);
    if (slot->waiter != NULL) {
        slot->status = status;
        slot->done = true;
        uv_cond_signal(slot->waiter);
    } else {
        cache__remote_give_back(slot);
    }
    uv_mutex_unlock(&r->lock);
}

CACHE_COLD void cache__remote_fetched(struct cache_fetch_many *many)
{
    struct cache__remote_slot *slot =
        cache__remote_slot_of(many, offsetof(struct cache__remote_slot, many));

    cache__remote_answer(slot, slot->fetch.status);
}

CACHE_COLD void cache__remote_begin_fetch(struct cache__remote_slot *slot)
{
    struct cache_remote *r = slot->remote;
    struct cache_fetch_options options = cache__fetch_default;
    int rc = UV_ETIMEDOUT;

    options.timeout_ms = CACHE_NEVER;
    if (slot->until_ns != CACHE_NEVER) /* uv_now may be a while ago */
        options.timeout_ms =
            slot->until_ns / 1000000 + 1 - uv_now(r->async->loop);
    slot->many.n_left = 1;
    slot->many.cb = cache__remote_fetched;
    slot->fetch.many = &slot->many;
    if (slot->until_ns == CACHE_NEVER || uv_hrtime() < slot->until_ns)
        rc = cache__async_fetch(r->async, &slot->fetch, slot->key,
                                r->front->type->hash(r->front, slot->key),
                                slot->value, &options);
    cache__remote_free_key(r->front, slot->key);
    if (rc != 0)
        cache__remote_answer(slot, rc < 0 ? rc : slot->fetch.status);
}

/* A write has ended. */
CACHE_COLD void cache__remote_end_write(struct cache__remote_slot *slot,
                                        int status)
{
    struct cache_remote *r = slot->remote;

    if (status != 0)
        r->failed(r, slot->key,
                  slot->op == CACHE__REMOTE_PUT ? slot->value : NULL, status);
    cache__remote_free_key(r->front, slot->key);
    uv_mutex_lock(&r->lock);
    r->stats.n_failed += status != 0;
    cache__remote_give_back(slot);
    uv_mutex_unlock(&r->lock);
}

CACHE_COLD void cache__remote_written(struct cache_async_write *write)
{
    struct cache__remote_slot *slot = cache__remote_slot_of(
        write, offsetof(struct cache__remote_slot, write));

    cache__remote_end_write(slot, write->status);
}

/* What goes through or around has ended when the store has it; all else at
 * once. */
CACHE_COLD void cache__remote_begin_write(struct cache__remote_slot *slot)
{
    struct cache_remote *r = slot->remote;
    struct cache_writing how = cache__write_default;
    bool waits = cache__front_goes_through(r->front, &how);
    int rc;

    how.ttl_ms = slot->ttl_ms;
    memset(&slot->write, 0, sizeof slot->write);
    slot->write.tell = cache__remote_written;
    slot->write.write.key = slot->key;
    slot->write.write.value =
        slot->op == CACHE__REMOTE_PUT ? slot->value : NULL;
    rc = cache__async_write(r->async, waits ? &slot->write : NULL,
                            &slot->write.write, &how);
    if (rc != 0 || !waits)
        cache__remote_end_write(slot, rc);
}

/* Begins what is queued.  on_error may close the loop half, which comes here
 * again: so what was taken is the remote's, in its order. */
CACHE_COLD void cache__remote_work(struct cache_remote *r, bool last)
{
    struct cache__remote_slot *slot;

    uv_mutex_lock(&r->lock);
    r->thread = uv_thread_self();
    r->thread_known = true;
    if (last) {
        r->open = false;
        uv_cond_broadcast(&r->freed);
    }
    while ((slot = r->queue.first) != NULL) {
        r->queue.first = slot->next;
        cache__remote_append(&r->taken, slot);
    }
    uv_mutex_unlock(&r->lock);
    while ((slot = r->taken.first) != NULL) {
        r->taken.first = slot->next;
        if (slot->op == CACHE__REMOTE_FETCH)
            cache__remote_begin_fetch(slot);
        else
            cache__remote_begin_write(slot);
    }
}

CACHE_COLD bool cache__remote_turn(struct cache_async_guest *guest)
{
    cache__remote_work((struct cache_remote *)(void *)guest, false);
    return true; /* somebody may come */
}

CACHE_COLD void cache__remote_closing(struct cache_async_guest *guest)
{
    cache__remote_work((struct cache_remote *)(void *)guest, true);
}

/* --- a remote: init, destroy --------------------------------------------- */

/* Lays the slots out; with base = NULL it only says how large they are, 0 if
 * they do not fit the address space. */
CACHE_COLD size_t cache__remote_place(struct cache_remote *r,
                                      unsigned char *base, uint32_t n)
{
    const struct cache_front_type *type = r->front->type;
    size_t at = 0;
    size_t slots = cache__place(&at, n, sizeof(struct cache__remote_slot));
    size_t key_bytes = cache__round_up(type->key_bytes, 16);
    size_t value_bytes = cache__round_up(type->value_bytes, 16);
    size_t keys = cache__place(&at, n, key_bytes);
    size_t values = cache__place(&at, n, value_bytes);
    size_t i;

    for (i = n; i-- > 0 && base != NULL;) {
        struct cache__remote_slot *slot =
            (struct cache__remote_slot *)(void *)(base + slots) + i;

        slot->remote = r;
        slot->key = base + keys + i * key_bytes;
        slot->value = base + values + i * value_bytes;
        slot->next = r->free_slots;
        r->free_slots = slot;
    }
    return at > CACHE__LAYOUT_LIMIT ? 0 : at;
}

CACHE_COLD int cache__remote_open(struct cache_remote *r)
{
    int rc = uv_mutex_init(&r->lock);

    if (rc != 0)
        return rc;
    rc = uv_cond_init(&r->freed);
    if (rc != 0)
        uv_mutex_destroy(&r->lock);
    return rc;
}

/* name_remote_init, without the type. */
CACHE_COLD int cache__remote_init(struct cache_remote *r, struct cache_async *a,
                                  uint32_t max_pending,
                                  void (*failed)(struct cache_remote *r,
                                                 const void *key,
                                                 const void *value, int status))
{
    uint32_t n = max_pending ? max_pending : CACHE_REMOTE_DEFAULT_MAX_PENDING;
    size_t bytes;
    int rc;

    if (r == NULL || a == NULL || a->state != CACHE_ASYNC_OPEN)
        return CACHE_EINVAL;
    if (a->guests[CACHE__GUEST_REMOTE] != NULL)
        return CACHE_EBUSY;
    memset(r, 0, sizeof *r);
    r->guest.turn = cache__remote_turn;
    r->guest.closing = cache__remote_closing;
    r->async = a;
    r->front = a->front;
    r->timeout_ms = a->config.timeout_ms;
    r->failed = failed;
    bytes = cache__remote_place(r, NULL, n);
    if (bytes == 0)
        return CACHE_ESIZE;
    r->memory = cache__front_alloc(r->front, bytes);
    if (r->memory == NULL)
        return CACHE_ENOMEM;
    memset(r->memory, 0, bytes);
    (void)cache__remote_place(r, (unsigned char *)r->memory, n);
    rc = cache__remote_open(r);
    if (rc != 0) {
        cache__front_free(r->front, r->memory);
        r->memory = NULL;
        return rc;
    }
    r->open = true;
    a->guests[CACHE__GUEST_REMOTE] = &r->guest;
    cache__async_wake(a); /* the loop is to be kept alive */
    return 0;
}

/*
 * Frees everything, when callers that are in a fetch have left it.  Comes after
 * cache_async_close: in its callback, or later; no other call may begin any
 * more.  Twice is harmless; so is a struct of zeroes.
 * Threads: any one.
 */
CACHE_COLD void cache_remote_destroy(struct cache_remote *r)
{
    if (r->memory == NULL)
        return;
    uv_mutex_lock(&r->lock);
    CACHE_ASSERT(!r->open && "a remote is destroyed before close");
    while (r->n_inside > 0)
        uv_cond_wait(&r->freed, &r->lock);
    CACHE_ASSERT(r->stats.n_pending == 0 &&
                 "a remote is destroyed before the close callback");
    uv_mutex_unlock(&r->lock);
    uv_cond_destroy(&r->freed);
    uv_mutex_destroy(&r->lock);
    cache__front_free(r->front, r->memory);
    memset(r, 0, sizeof *r);
}

/* The counters.  Threads: any. */
CACHE_COLD struct cache_remote_stats
cache_remote_get_stats(struct cache_remote *r)
{
    struct cache_remote_stats stats;

    uv_mutex_lock(&r->lock);
    stats = r->stats;
    uv_mutex_unlock(&r->lock);
    return stats;
}

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
        cache__remote_free_key(f, key);
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

/* --- making a type ------------------------------------------------------- */

/*
 * CACHE_ASYNC_REMOTE_DEFINE(name), behind CACHE_ASYNC_DEFINE(name), makes:
 *
 * struct name_remote { struct cache_remote base; ...; void *data; }
 *
 * int name_remote_init(struct name_remote *r, struct name_async *a,
 *                      uint32_t max_pending, name_remote_error_cb cb)
 *   Opens a loop half to other threads, one remote for each.  max_pending is
 *   how many operations are queued or under way at once, 0 =
 *   CACHE_REMOTE_DEFAULT_MAX_PENDING.  On the loop's thread, or before it runs.
 *   cb is on_error above, or NULL: void (struct name_remote *r, const K *key,
 *   const V *value, int status), on the loop's thread: this put (value = NULL:
 *   removal) was queued, and has failed as name_async_put or its request would
 *   have; of what *value owns it is the last to hear.  It may be called in
 *   cache_async_close, and may call that.
 *   Returns 0; CACHE_EINVAL: not open; CACHE_EBUSY: there is a remote;
 *   CACHE_ENOMEM, CACHE_ESIZE, or libuv's error: then *r is not open.
 *
 * int name_remote_put(r, K key, V value)
 * int name_remote_put_ttl(r, key, value, uint64_t ttl_ms)
 * int name_remote_remove(r, K key)
 *   Has the loop put or remove, in the order of this thread's calls.  Never
 *   waits.  0: it is queued.  UV_EAGAIN: max_pending are, or are under way;
 *   CACHE_ETTL: ttl_ms is 0; key_copy's error; UV_ECANCELED after close.  Then
 *   key and value are the caller's.
 *
 * int name_remote_fetch(r, K key, V *out, uint64_t timeout_ms)
 *   Waits for the value, as name_fetch gets it.  timeout_ms: 0 = timeout_ms of
 *   the loop half's config, and if that is 0, too, no limit; CACHE_NEVER.
 *   enum cache_found: the value is in *out.  Negative: *out is as it was:
 *   CACHE_EKEY (absent), what the load has failed with, UV_ETIMEDOUT (the load
 *   goes on), UV_ENOBUFS, key_copy's error, UV_ECANCELED (closing or closed);
 *   UV_EBUSY: this thread is the loop's, which is known once it has run.  Not
 *   for the loader or store of that loop half: it would wait for itself.
 *
 * cache_remote_get_stats(&r.base), cache_remote_destroy(&r.base): need no type.
 */
#define CACHE_ASYNC_REMOTE_DEFINE(name)                                        \
    struct name##_remote;                                                      \
    typedef void (*name##_remote_error_cb)(                                    \
        struct name##_remote * r, const name##_key *key,                       \
        const name##_value *value, int status);                                \
    struct name##_remote {                                                     \
        struct cache_remote base;                                              \
        name##_remote_error_cb on_error;                                       \
        void *data; /* yours */                                                \
    };                                                                         \
    CACHE_UNUSED static void name##__remote_failed(                            \
        struct cache_remote *r, const void *key, const void *value,            \
        int status)                                                            \
    {                                                                          \
        struct name##_remote *r_ = (struct name##_remote *)(void *)r;          \
        if (r_->on_error)                                                      \
            r_->on_error(r_, (const name##_key *)key,                          \
                         (const name##_value *)value, status);                 \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remote_init(                         \
        struct name##_remote *r, struct name##_async *a, uint32_t max_pending, \
        name##_remote_error_cb cb)                                             \
    {                                                                          \
        int rc_ = cache__remote_init(r ? &r->base : NULL, a ? &a->base : NULL, \
                                     max_pending, name##__remote_failed);      \
        if (rc_ == 0)                                                          \
            r->on_error = cb;                                                  \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remote_put(                          \
        struct name##_remote *r, name##_key key, name##_value value)           \
    {                                                                          \
        return cache__remote_write(&r->base, CACHE__REMOTE_PUT, &key, &value,  \
                                   0);                                         \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remote_put_ttl(                      \
        struct name##_remote *r, name##_key key, name##_value value,           \
        uint64_t ttl_ms)                                                       \
    {                                                                          \
        return ttl_ms == 0 ? CACHE_ETTL                                        \
                           : cache__remote_write(&r->base, CACHE__REMOTE_PUT,  \
                                                 &key, &value, ttl_ms);        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remote_remove(                       \
        struct name##_remote *r, name##_key key)                               \
    {                                                                          \
        return cache__remote_write(&r->base, CACHE__REMOTE_REMOVE, &key, NULL, \
                                   0);                                         \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remote_fetch(                        \
        struct name##_remote *r, name##_key key, name##_value *out,            \
        uint64_t timeout_ms)                                                   \
    {                                                                          \
        return cache__remote_fetch(&r->base, &key, out, timeout_ms);           \
    }                                                                          \
    struct cache__swallow_semicolon

#endif /* CACHE_ASYNC_REMOTE_H */
