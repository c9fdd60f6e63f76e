/*
 * cache_async.h - a cache and its store in a libuv program.
 *
 * WHAT IT DOES
 *   CACHE_ASYNC_DEFINE(name) adds the asynchronous half to a cache type made
 *   by CACHE_DEFINE(name, ...): fetch reads through to a store, put and remove
 *   write behind to it.
 *   - A hit is a function's result, never a callback.
 *   - One load per key however many ask; the misses of one turn of the loop
 *     go to the store as one batch.
 *   - Every waiter has a deadline of its own and can be cancelled; the load
 *     goes on and fills the cache.
 *   - A write is in the cache at once and at the store later; a read of a key
 *     whose write is under way sees that write.
 *
 *   EXAMPLE
 *     CACHE_DEFINE(users, uint64_t, struct user, cache_hash_u64,
 *                  cache_equal_u64, 0);
 *     CACHE_ASYNC_DEFINE(users);
 *
 *     static void loaded(struct users_request *req, int status) { ... }
 *
 *     int rc = users_fetch(&async, &req, 42, &user, loaded);
 *     if (rc == 1)      ... user is filled in, `loaded` is not called
 *     else if (rc == 0) ... `loaded` is called later, exactly once
 *     else              ... an error; `loaded` is not called
 *
 * A LOAD
 *
 *     fetch, no flight yet         prepare           store's thread, async
 *     ---------------------> QUEUED --------> LOADING ---------> delivered
 *        fetch of the same key joins     ^       |
 *                                        |       | put or remove of the key:
 *                                        +-------+ the flight is killed: its
 *        waiters get what was loaded, the cache does not, nobody joins it
 *
 * THREADS
 *   Everything is called on the loop's thread.  The store may have threads of
 *   its own; they hand batches back under one lock and one uv_async_send.
 *
 * OWNERSHIP AND LIFETIME
 *   - A request is the caller's memory, like a uv_req_t.  It and *out are the
 *     library's from a fetch that returned 0 until its callback, in which it
 *     may be used again.  No memory is allocated after init.
 *   - The cache, the store and the codecs must outlive the close callback; they
 *     are the caller's to destroy.
 *   - The cache may be used directly too (name_get, name_peek, ...) but is
 *     changed through name_async_put and name_async_remove, or the store would
 *     not hear of it.
 *
 * ERRORS
 *   CACHE_E* of the library, unchanged from where they arose, and of libuv
 *   UV_ECANCELED (cancelled, or closing), UV_ETIMEDOUT, UV_ENOBUFS (max_loads
 *   keys are being loaded), UV_EBUSY and UV_EALREADY.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_H
#define CACHE_ASYNC_H

#include <uv.h>

#include "cache_store.h"

/* --- types --------------------------------------------------------------- */

#define CACHE_ASYNC_DEFAULT_MAX_LOADS 4096u
#define CACHE_ASYNC_DEFAULT_MAX_BATCH 256u
#define CACHE_ASYNC_DEFAULT_LOAD_BATCHES 4u
#define CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS 5000u

/* What init needs.  Zero means the default that is named. */
struct cache_async_config {
    struct cache_store *store;             /* required; must not block */
    const struct cache_codec *key_codec;   /* required */
    const struct cache_codec *value_codec; /* required */
    uint32_t max_loads;                    /* keys being loaded at once;
                                  0 = CACHE_ASYNC_DEFAULT_MAX_LOADS */
    uint32_t max_batch;                    /* keys in one load;
                                  0 = CACHE_ASYNC_DEFAULT_MAX_BATCH */
    uint32_t max_load_batches;             /* loads at the store at once;
                                  0 = CACHE_ASYNC_DEFAULT_LOAD_BATCHES */
    uint64_t timeout_ms;       /* of a fetch that names none; 0 = no limit */
    uint64_t close_timeout_ms; /* how long close tries to get writes stored;
                                  0 = CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS */
    struct cache_wb_config write_behind; /* its sizes come from the codecs, its
                                            hooks from here if it has none */
    uint64_t (*wall_now)(void *user);    /* unix ms; NULL = the system's */
    void *(*alloc)(size_t bytes, void *user); /* NULL = malloc */
    void (*free)(void *memory, void *user);   /* NULL = free */
    void *user;                               /* for the hooks above */
};

/* Counters since init.  Hits are the cache's own to count. */
struct cache_async_stats {
    uint64_t n_loads;       /* keys asked of the store */
    uint64_t n_batches;     /* in so many batches */
    uint64_t n_joined;      /* fetches that waited for a load under way */
    uint64_t n_dirty_hits;  /* fetches answered from a write under way */
    uint64_t n_absent;      /* loads that found nothing */
    uint64_t n_load_errors; /* loads that failed */
    uint64_t n_killed;      /* loads overtaken by a write of their key */
    uint64_t n_timeouts;    /* waiters whose deadline passed */
    uint64_t n_cancelled;   /* waiters that were cancelled */
};

struct cache_async;

/* A place in a circular list. */
struct cache_ring {
    struct cache_ring *next, *prev;
};

/* The part of a fetch that does not depend on the types.  Members are private;
 * `ring` is first, so that a place in a list is a request. */
struct cache_fetch {
    struct cache_ring ring; /* among the waiters of a flight, or those to be
                               told; next = NULL: not under way */
    struct cache_async *async;
    void *out;            /* where the value goes */
    bool cancelled;       /* waits to be told so */
    uint64_t deadline_ms; /* on the loop's clock; UINT64_MAX = none */
    struct cache_fetch *child, *sibling, **heap_link; /* deadline heap */
};

/* A key that is being loaded. */
struct cache_flight {
    struct cache_bytes key; /* its own copy, encoded */
    struct cache_ring waiters;
    uint32_t hash;  /* of the key */
    uint32_t chain; /* next flight of the hash chain */
    uint32_t next;  /* next in the queue, or next free */
    bool killed;    /* a write overtook it; it is in no chain */
};

/* Where the store returns a kind of batch to. */
struct cache_async_port {
    struct cache_async *async;
    void (*land)(struct cache_async *a, struct cache_store_batch *batch);
};

/* A batch of flights. */
struct cache_load {
    struct cache_store_batch batch; /* first: the store returns this */
    uint32_t *flights;              /* one for each item */
    struct cache_load *next_free;
};

/* A flush under way: the caller's memory, like a request. */
struct cache_flush {
    struct cache_ring ring; /* private from here */
    uint64_t barrier;
    uint64_t n_dead; /* dead letters when it began */
    void (*cb)(struct cache_flush *flush, int status);
    void *data; /* yours */
};

typedef void (*cache_flush_cb)(struct cache_flush *flush, int status);
typedef void (*cache_close_cb)(struct cache_async *async, uint64_t n_lost);

/* Per-fetch options; zero means the default. */
struct cache_fetch_options {
    uint64_t timeout_ms; /* 0 = config.timeout_ms */
};

/* What the engine has to know of a type; one constant for each. */
struct cache_async_type {
    uint32_t options; /* of the cache */
    size_t key_bytes, value_bytes;
    int (*put)(struct cache *c, const void *key, const void *value,
               uint64_t ttl_ms);
    void (*remove)(struct cache *c, const void *key);
    void (*tell)(struct cache_fetch *fetch, int status);
};

enum cache_async_state {
    CACHE_ASYNC_CLOSED, /* also before init: all is zero */
    CACHE_ASYNC_OPEN,
    CACHE_ASYNC_CLOSING
};

/* The asynchronous half of one cache.  Members but `data` are private. */
struct cache_async {
    void *data; /* yours */
    enum cache_async_state state;
    uv_loop_t *loop;
    struct cache *cache;
    const struct cache_async_type *type;
    struct cache_async_config config; /* with the defaults filled in */
    struct cache_async_stats stats;
    struct cache_wb writes;
    struct cache_wb_stats write_stats; /* of `writes`, once it is closed */

    struct cache_flight *flights; /* [1..max_loads] */
    uint32_t free_flights;        /* list of unused ones */
    uint32_t *heads;              /* hash chains of those that can be joined */
    uint32_t n_heads;
    uint32_t first_queued, last_queued; /* flights not sent yet; 0 = none */
    struct cache_load *free_loads;
    uint32_t n_at_store; /* batches there, loads and writes */
    struct cache_async_port load_port, write_port;
    uint64_t seed; /* of the hash */

    struct cache_ring to_tell;     /* cancelled waiters, told by prepare */
    struct cache_ring flushes;     /* in the order of their barriers */
    struct cache_fetch *deadlines; /* pairing heap */

    uv_mutex_t lock;                    /* of `returned`, and of the doorbell */
    struct cache_store_batch *returned; /* by the store, newest first */
    uv_async_t doorbell;
    uv_prepare_t prepare; /* active while something is to be sent or told */
    uv_timer_t timer;     /* active while something is due at a known time */

    cache_close_cb close_cb;
    uint64_t close_deadline_ms;
    bool waiters_told;  /* closing: all have had UV_ECANCELED */
    int n_open_handles; /* of the three, while they are being closed */

    /* Room for one key and one value, as bytes and as objects. */
    void *key_bytes, *value_bytes, *key_object, *value_object;
    void *loaded_object; /* what is being delivered: callbacks may fetch */
    void *memory;
};

/* --- small parts --------------------------------------------------------- */

CACHE_INLINE void cache__ring_init(struct cache_ring *ring)
{
    ring->next = ring->prev = ring;
}

CACHE_INLINE bool cache__ring_empty(const struct cache_ring *ring)
{
    return ring->next == ring;
}

CACHE_INLINE void cache__ring_append(struct cache_ring *ring,
                                     struct cache_ring *node)
{
    node->next = ring;
    node->prev = ring->prev;
    ring->prev->next = node;
    ring->prev = node;
}

CACHE_INLINE void cache__ring_remove(struct cache_ring *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = NULL;
}

/* Moves all of `from` behind `to`. */
CACHE_INLINE void cache__ring_move(struct cache_ring *to,
                                   struct cache_ring *from)
{
    if (cache__ring_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    cache__ring_init(from);
}

/* Deadlines: a pairing heap (Fredman, Sedgewick, Sleator, Tarjan, 1986)
 * through the requests, so that it needs no memory of its own. */
CACHE_COLD struct cache_fetch *cache__heap_meld(struct cache_fetch *a,
                                                struct cache_fetch *b)
{
    struct cache_fetch *t;

    if (a == NULL || b == NULL)
        return a ? a : b;
    if (b->deadline_ms < a->deadline_ms)
        t = a, a = b, b = t;
    b->sibling = a->child;
    if (b->sibling)
        b->sibling->heap_link = &b->sibling;
    a->child = b;
    b->heap_link = &a->child;
    return a;
}

CACHE_COLD void cache__heap_set_root(struct cache_async *a,
                                     struct cache_fetch *root)
{
    a->deadlines = root;
    if (root) {
        root->sibling = NULL;
        root->heap_link = &a->deadlines;
    }
}

CACHE_COLD void cache__heap_add(struct cache_async *a, struct cache_fetch *f)
{
    f->child = f->sibling = NULL;
    cache__heap_set_root(a, cache__heap_meld(a->deadlines, f));
}

CACHE_COLD void cache__heap_remove(struct cache_async *a, struct cache_fetch *f)
{
    struct cache_fetch *pairs = NULL, *rest = f->child, *one, *two;

    *f->heap_link = f->sibling;
    if (f->sibling)
        f->sibling->heap_link = f->heap_link;
    while (rest != NULL) { /* meld the children two by two .. */
        one = rest;
        two = one->sibling;
        rest = two ? two->sibling : NULL;
        one->sibling = NULL;
        if (two)
            two->sibling = NULL;
        one = cache__heap_meld(one, two);
        one->sibling = pairs;
        pairs = one;
    }
    for (rest = NULL; pairs != NULL; pairs = one) { /* .. then all into one */
        one = pairs->sibling;
        pairs->sibling = NULL;
        rest = cache__heap_meld(rest, pairs);
    }
    cache__heap_set_root(a, cache__heap_meld(a->deadlines, rest));
}

CACHE_COLD uint64_t cache__async_wall_now(const struct cache_async *a)
{
    uv_timeval64_t now;

    if (a->config.wall_now)
        return a->config.wall_now(a->config.user);
    if (uv_gettimeofday(&now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000;
}

/* Sees to it that the prepare callback runs before the loop waits again. */
CACHE_COLD void cache__async_prepare(uv_prepare_t *handle);

CACHE_INLINE void cache__async_wake(struct cache_async *a)
{
    if (!uv_is_active((uv_handle_t *)&a->prepare))
        (void)uv_prepare_start(&a->prepare, cache__async_prepare);
}

/* --- waiters ------------------------------------------------------------- */

/* Takes a waiter out of wherever it waits. */
CACHE_COLD void cache__async_detach(struct cache_fetch *f)
{
    cache__ring_remove(&f->ring);
    if (f->deadline_ms != UINT64_MAX)
        cache__heap_remove(f->async, f);
    f->deadline_ms = UINT64_MAX;
}

/* Calls back every waiter of a ring.  A callback may cancel others of it. */
CACHE_COLD void cache__async_tell(struct cache_async *a,
                                  struct cache_ring *ring, int status,
                                  const void *value)
{
    while (!cache__ring_empty(ring)) {
        struct cache_fetch *f = (struct cache_fetch *)(void *)ring->next;

        cache__async_detach(f);
        if (status == 0)
            memcpy(f->out, value, a->type->value_bytes);
        a->type->tell(f, status);
    }
}

CACHE_COLD void cache__async_add_waiter(struct cache_async *a,
                                        struct cache_flight *flight,
                                        struct cache_fetch *f, void *out,
                                        uint64_t timeout_ms)
{
    uint64_t now_ms = uv_now(a->loop);

    f->async = a;
    f->out = out;
    f->cancelled = false;
    f->deadline_ms = UINT64_MAX;
    cache__ring_append(&flight->waiters, &f->ring);
    if (timeout_ms != 0 && timeout_ms < UINT64_MAX - now_ms) {
        f->deadline_ms = now_ms + timeout_ms;
        cache__heap_add(a, f);
    }
}

/* --- flights ------------------------------------------------------------- */

/* The link that leads to the flight of this key, or to 0. */
CACHE_COLD uint32_t *cache__flight_find(const struct cache_async *a,
                                        struct cache_bytes key, uint32_t hash)
{
    uint32_t *at = &a->heads[((uint64_t)hash * a->n_heads) >> 32];

    while (*at != 0 && !(a->flights[*at].hash == hash &&
                         cache_equal_bytes(&a->flights[*at].key, &key)))
        at = &a->flights[*at].chain;
    return at;
}

CACHE_COLD uint32_t cache__flight_hash(const struct cache_async *a,
                                       struct cache_bytes key)
{
    return cache__fold(cache_hash_bytes(&key, a->seed));
}

CACHE_COLD uint32_t cache__flight_start(struct cache_async *a,
                                        struct cache_bytes key, uint32_t hash,
                                        uint32_t *link)
{
    uint32_t n = a->free_flights;
    struct cache_flight *flight = &a->flights[n];

    a->free_flights = flight->next;
    cache__wb_copy(&flight->key, key);
    cache__ring_init(&flight->waiters);
    flight->hash = hash;
    flight->killed = false;
    flight->chain = 0;
    *link = n;
    flight->next = 0;
    if (a->first_queued == 0)
        a->first_queued = n;
    else
        a->flights[a->last_queued].next = n;
    a->last_queued = n;
    return n;
}

/* From now on nobody joins the flight. */
CACHE_COLD void cache__flight_unchain(struct cache_async *a, uint32_t n)
{
    uint32_t *at = cache__flight_find(a, a->flights[n].key, a->flights[n].hash);

    CACHE_ASSERT(*at == n);
    *at = a->flights[n].chain;
}

CACHE_COLD void cache__flight_free(struct cache_async *a, uint32_t n)
{
    a->flights[n].next = a->free_flights;
    a->free_flights = n;
}

/* A write of this key: what a load of it brings is out of date. */
CACHE_COLD void cache__flight_kill(struct cache_async *a,
                                   struct cache_bytes key)
{
    uint32_t *at = cache__flight_find(a, key, cache__flight_hash(a, key));

    if (*at == 0)
        return;
    a->stats.n_killed++;
    a->flights[*at].killed = true;
    *at = a->flights[*at].chain;
}

CACHE_COLD bool cache__async_dead(const struct cache_async *a,
                                  uint64_t expires_ms)
{
    return expires_ms != 0 && expires_ms <= cache__async_wall_now(a);
}

/* Puts a value that came from behind into the cache; that it does not fit
 * there is no error of the fetch. */
CACHE_COLD void cache__async_fill(struct cache_async *a, struct cache_bytes key,
                                  const void *value, uint64_t expires_ms)
{
    const struct cache_codec *codec = a->config.key_codec;
    uint64_t now_ms, ttl_ms = a->cache->ttl_ms;

    if (expires_ms != 0) {
        if ((a->type->options & CACHE_EXPIRY) == 0)
            return; /* the cache could not let go of it in time */
        now_ms = cache__async_wall_now(a);
        if (expires_ms < now_ms || expires_ms - now_ms < ttl_ms)
            ttl_ms = expires_ms < now_ms ? 0 : expires_ms - now_ms;
    }
    if (codec->decode(codec, key.data, key.len, a->key_object) == 0)
        (void)a->type->put(a->cache, a->key_object, value, ttl_ms);
}

/* A flight has landed: fills the cache and tells the waiters. */
CACHE_COLD void cache__flight_land(struct cache_async *a, uint32_t n,
                                   const struct cache_store_item *item)
{
    const struct cache_codec *codec = a->config.value_codec;
    struct cache_flight *flight = &a->flights[n];
    struct cache_ring waiters;
    int status = item->status;

    if (status == 0 && cache__async_dead(a, item->expires_ms))
        status = CACHE_EKEY;
    if (status == 0)
        status = codec->decode(codec, item->value.data, item->value.len,
                               a->loaded_object);
    if (status == CACHE_EKEY)
        a->stats.n_absent++;
    else if (status != 0)
        a->stats.n_load_errors++;
    if (!flight->killed) {
        cache__flight_unchain(a, n);
        if (status == 0)
            cache__async_fill(a, flight->key, a->loaded_object,
                              item->expires_ms);
    }
    cache__ring_init(&waiters);
    cache__ring_move(&waiters, &flight->waiters);
    cache__flight_free(a, n);
    cache__async_tell(a, &waiters, status, a->loaded_object);
}

CACHE_COLD void cache__load_land(struct cache_async *a,
                                 struct cache_store_batch *batch)
{
    struct cache_load *load = (struct cache_load *)(void *)batch;
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        cache__flight_land(a, load->flights[i], &batch->items[i]);
    load->next_free = a->free_loads;
    a->free_loads = load;
}

/* --- batches to the store, and back -------------------------------------- */

CACHE_COLD void cache__write_land(struct cache_async *a,
                                  struct cache_store_batch *batch)
{
    cache_wb_complete(&a->writes, batch, uv_now(a->loop));
}

/* `done` of every batch, on whatever thread the store has.  The doorbell is
 * rung under the lock: so the loop cannot close it between the two. */
CACHE_COLD void cache__async_done(struct cache_store_batch *batch)
{
    struct cache_async *a = ((struct cache_async_port *)batch->user)->async;

    uv_mutex_lock(&a->lock);
    batch->next = a->returned;
    a->returned = batch;
    (void)uv_async_send(&a->doorbell);
    uv_mutex_unlock(&a->lock);
}

CACHE_COLD void cache__async_submit(struct cache_async *a,
                                    struct cache_store_batch *batch,
                                    struct cache_async_port *port)
{
    size_t i;
    int rc;

    batch->done = cache__async_done;
    batch->user = port;
    if (a->n_at_store++ == 0)
        uv_ref((uv_handle_t *)&a->doorbell);
    rc = a->config.store->submit(a->config.store, batch);
    if (rc == 0)
        return;
    for (i = 0; i < batch->n_items; i++) /* refused: as if it had come back */
        batch->items[i].status = rc;
    cache__async_done(batch);
}

/* Sends queued flights, max_batch at a time. */
CACHE_COLD void cache__async_send_loads(struct cache_async *a)
{
    while (a->first_queued != 0 && a->free_loads != NULL) {
        struct cache_load *load = a->free_loads;
        struct cache_store_batch *batch = &load->batch;

        a->free_loads = load->next_free;
        for (batch->n_items = 0;
             a->first_queued != 0 && batch->n_items < a->config.max_batch;
             batch->n_items++) {
            struct cache_flight *flight = &a->flights[a->first_queued];
            struct cache_store_item *item = &batch->items[batch->n_items];

            load->flights[batch->n_items] = a->first_queued;
            item->key = flight->key;
            item->value.data = item->buffer;
            item->value.len = 0;
            item->expires_ms = 0;
            item->status = 0;
            a->first_queued = flight->next;
        }
        a->stats.n_batches++;
        a->stats.n_loads += batch->n_items;
        cache__async_submit(a, batch, &a->load_port);
    }
}

CACHE_COLD void cache__async_send_writes(struct cache_async *a)
{
    struct cache_store_batch *batch;

    while ((batch = cache_wb_next_batch(&a->writes, uv_now(a->loop))) != NULL)
        cache__async_submit(a, batch, &a->write_port);
}

/* --- closing ------------------------------------------------------------- */

CACHE_COLD void cache__async_closed(uv_handle_t *handle)
{
    struct cache_async *a = (struct cache_async *)handle->data;
    cache_close_cb cb = a->close_cb;

    if (--a->n_open_handles > 0)
        return;
    uv_mutex_destroy(&a->lock);
    a->write_stats = a->writes.stats;
    cache_wb_destroy(&a->writes);
    if (a->config.free)
        a->config.free(a->memory, a->config.user);
    else
        free(a->memory);
    a->memory = NULL;
    a->state = CACHE_ASYNC_CLOSED;
    if (cb)
        cb(a, a->write_stats.n_lost); /* last: *a may be freed in it */
}

CACHE_COLD void cache__async_close_handles(struct cache_async *a)
{
    uv_mutex_lock(&a->lock); /* whoever rings the doorbell has done so */
    uv_mutex_unlock(&a->lock);
    a->n_open_handles = 3;
    uv_close((uv_handle_t *)&a->doorbell, cache__async_closed);
    uv_close((uv_handle_t *)&a->prepare, cache__async_closed);
    uv_close((uv_handle_t *)&a->timer, cache__async_closed);
}

/* Every fetch that waits has UV_ECANCELED; loads that were not sent yet are
 * not sent at all. */
CACHE_COLD void cache__async_cancel_all(struct cache_async *a)
{
    uint32_t n;

    for (n = 1; n <= a->config.max_loads; n++)
        cache__async_tell(a, &a->flights[n].waiters, UV_ECANCELED, NULL);
    while ((n = a->first_queued) != 0) {
        a->first_queued = a->flights[n].next;
        if (!a->flights[n].killed)
            cache__flight_unchain(a, n);
        cache__flight_free(a, n);
    }
    a->waiters_told = true;
}

/* Writes that were given up so far. */
CACHE_INLINE uint64_t cache__async_n_dead(const struct cache_async *a)
{
    return a->writes.stats.n_dead + a->writes.stats.n_lost;
}

/* Calls back the flushes whose barrier is reached.  One that a callback begins
 * has its turn later, or it could hold the loop for ever. */
CACHE_COLD void cache__async_tell_flushes(struct cache_async *a)
{
    struct cache_ring waiting;

    cache__ring_init(&waiting);
    cache__ring_move(&waiting, &a->flushes);
    while (!cache__ring_empty(&waiting)) {
        struct cache_flush *f = (struct cache_flush *)(void *)waiting.next;
        bool dead = f->n_dead != cache__async_n_dead(a);

        if (!cache_wb_is_stored(&a->writes, f->barrier))
            break;
        cache__ring_remove(&f->ring);
        f->cb(f, dead ? CACHE_EDEADLETTER : 0);
    }
    cache__ring_move(&waiting, &a->flushes); /* barriers stay in order */
    cache__ring_move(&a->flushes, &waiting);
}

/* --- the loop ------------------------------------------------------------ */

CACHE_COLD void cache__async_on_timer(uv_timer_t *timer);

/* Starts the timer for whatever is due first. */
CACHE_COLD void cache__async_arm(struct cache_async *a)
{
    uint64_t now_ms = uv_now(a->loop), due_ms = cache_wb_due_ms(&a->writes);

    if (a->deadlines && a->deadlines->deadline_ms < due_ms)
        due_ms = a->deadlines->deadline_ms;
    if (a->state == CACHE_ASYNC_CLOSING && !a->writes.closed &&
        a->close_deadline_ms < due_ms)
        due_ms = a->close_deadline_ms;
    if (due_ms == UINT64_MAX)
        (void)uv_timer_stop(&a->timer);
    else
        (void)uv_timer_start(&a->timer, cache__async_on_timer,
                             due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* Does all there is to do now: before the loop waits, and after anything came
 * back or became due. */
CACHE_COLD void cache__async_turn(struct cache_async *a)
{
    struct cache_ring to_tell;

    cache__ring_init(&to_tell);
    cache__ring_move(&to_tell, &a->to_tell);
    cache__async_tell(a, &to_tell, UV_ECANCELED, NULL);
    if (a->state == CACHE_ASYNC_CLOSING && !a->waiters_told)
        cache__async_cancel_all(a);
    cache__async_send_loads(a);
    cache__async_send_writes(a);
    cache__async_tell_flushes(a);
    if (a->state == CACHE_ASYNC_CLOSING && a->waiters_told) {
        if (uv_now(a->loop) >= a->close_deadline_ms && !a->writes.closed)
            (void)cache_wb_give_up(&a->writes);
        if (a->n_at_store == 0 && cache_wb_n_dirty(&a->writes) == 0 &&
            cache__ring_empty(&a->to_tell)) {
            cache__async_tell_flushes(a);
            cache__async_close_handles(a);
            return;
        }
    }
    cache__async_arm(a);
}

CACHE_COLD void cache__async_prepare(uv_prepare_t *handle)
{
    struct cache_async *a = (struct cache_async *)handle->data;

    (void)uv_prepare_stop(handle);
    cache__async_turn(a);
    /* What a callback has just begun: this handle will not run again before
     * the loop waits, so the loop must not wait. */
    if (uv_is_active((uv_handle_t *)handle))
        (void)uv_timer_start(&a->timer, cache__async_on_timer, 0, 0);
}

CACHE_COLD void cache__async_on_timer(uv_timer_t *timer)
{
    struct cache_async *a = (struct cache_async *)timer->data;
    struct cache_fetch *late;

    while ((late = a->deadlines) != NULL &&
           late->deadline_ms <= uv_now(a->loop)) {
        cache__async_detach(late);
        a->stats.n_timeouts++;
        a->type->tell(late, UV_ETIMEDOUT);
    }
    cache__async_turn(a);
}

CACHE_COLD void cache__async_on_doorbell(uv_async_t *doorbell)
{
    struct cache_async *a = (struct cache_async *)doorbell->data;
    struct cache_store_batch *batch, *oldest = NULL;

    uv_mutex_lock(&a->lock);
    batch = a->returned;
    a->returned = NULL;
    uv_mutex_unlock(&a->lock);
    while (batch != NULL) { /* turn the stack into the order of arrival */
        struct cache_store_batch *next = batch->next;

        batch->next = oldest;
        oldest = batch;
        batch = next;
    }
    while (oldest != NULL) {
        batch = oldest;
        oldest = oldest->next;
        if (--a->n_at_store == 0)
            uv_unref((uv_handle_t *)&a->doorbell);
        ((struct cache_async_port *)batch->user)->land(a, batch);
    }
    cache__async_turn(a);
}

/* --- engine: init, fetch, write ------------------------------------------ */

/* Fills in the defaults.  Returns 0, or the first thing that is wrong. */
CACHE_COLD int cache__async_config(struct cache_async_config *out,
                                   const struct cache_async_config *config,
                                   const struct cache_async_type *type)
{
    struct cache_wb_config *wb = &out->write_behind;

    *out = *config;
    if (out->store == NULL || out->store->submit == NULL ||
        (out->store->capabilities & CACHE_STORE_BLOCKS) != 0)
        return CACHE_ENOSTORE;
    if (out->key_codec == NULL || out->value_codec == NULL ||
        out->key_codec->object_bytes != type->key_bytes ||
        out->value_codec->object_bytes != type->value_bytes)
        return CACHE_ENOCODEC;
    if ((out->alloc == NULL) != (out->free == NULL))
        return CACHE_EALLOCATOR;
    if (out->max_loads == 0)
        out->max_loads = CACHE_ASYNC_DEFAULT_MAX_LOADS;
    if (out->max_batch == 0)
        out->max_batch = out->max_loads < CACHE_ASYNC_DEFAULT_MAX_BATCH
                             ? out->max_loads
                             : CACHE_ASYNC_DEFAULT_MAX_BATCH;
    if (out->max_load_batches == 0)
        out->max_load_batches = CACHE_ASYNC_DEFAULT_LOAD_BATCHES;
    if (out->close_timeout_ms == 0)
        out->close_timeout_ms = CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS;
    if (out->max_loads > CACHE_MAX_CAPACITY / 4 ||
        out->max_batch > out->max_loads ||
        out->max_load_batches > CACHE_MAX_CAPACITY / out->max_batch)
        return CACHE_ELIMIT;
    wb->max_key_bytes = out->key_codec->max_bytes;
    wb->max_value_bytes = out->value_codec->max_bytes;
    if (wb->alloc == NULL && wb->free == NULL && out->alloc != NULL) {
        wb->alloc = out->alloc;
        wb->free = out->free;
    }
    if (wb->user == NULL)
        wb->user = out->user;
    return 0;
}

/* Lays the block out; with base = NULL it only says how large it is, 0 if it
 * does not fit the address space. */
CACHE_COLD size_t cache__async_place(struct cache_async *a, unsigned char *base)
{
    const struct cache_async_config *config = &a->config;
    struct cache_load *load;
    size_t n = (size_t)config->max_loads + 1, at = 0, i, j;
    size_t n_loads = config->max_load_batches;
    size_t n_items = n_loads * config->max_batch;
    size_t key_bytes = cache__round_up(config->key_codec->max_bytes, 8);
    size_t value_bytes = cache__round_up(config->value_codec->max_bytes, 8);
    size_t flights = cache__place(&at, n, sizeof(struct cache_flight));
    size_t heads = cache__place(&at, 2 * n, sizeof(uint32_t));
    size_t loads = cache__place(&at, n_loads, sizeof(struct cache_load));
    size_t items = cache__place(&at, n_items, sizeof(struct cache_store_item));
    size_t sent = cache__place(&at, n_items, sizeof(uint32_t));
    size_t key = cache__place(&at, 1, key_bytes);
    size_t value = cache__place(&at, 1, value_bytes);
    size_t key_object = cache__place(&at, 1, a->type->key_bytes);
    size_t value_object = cache__place(&at, 1, a->type->value_bytes);
    size_t loaded_object = cache__place(&at, 1, a->type->value_bytes);
    size_t keys = cache__place(&at, n, key_bytes);
    size_t buffers = cache__place(&at, n_items, value_bytes);

    if (at > CACHE__LAYOUT_LIMIT || base == NULL)
        return at > CACHE__LAYOUT_LIMIT ? 0 : at;
    memset(base, 0, keys); /* the rest is written before it is read */
    a->flights = (struct cache_flight *)(void *)(base + flights);
    a->heads = (uint32_t *)(void *)(base + heads);
    a->n_heads = 2 * config->max_loads;
    for (i = config->max_loads; i > 0; i--) {
        a->flights[i].key.data = base + keys + i * key_bytes;
        cache__ring_init(&a->flights[i].waiters);
        cache__flight_free(a, (uint32_t)i);
    }
    load = (struct cache_load *)(void *)(base + loads);
    for (i = 0; i < n_loads; i++, load++) {
        size_t first = i * config->max_batch;

        load->batch.items =
            (struct cache_store_item *)(void *)(base + items) + first;
        load->flights = (uint32_t *)(void *)(base + sent) + first;
        for (j = 0; j < config->max_batch; j++) {
            load->batch.items[j].op = CACHE_STORE_GET;
            load->batch.items[j].buffer =
                base + buffers + (first + j) * value_bytes;
            load->batch.items[j].buffer_bytes = value_bytes;
        }
        load->next_free = a->free_loads;
        a->free_loads = load;
    }
    a->key_bytes = base + key;
    a->value_bytes = base + value;
    a->key_object = base + key_object;
    a->value_object = base + value_object;
    a->loaded_object = base + loaded_object;
    return at;
}

/* Opens the three handles, or none. */
CACHE_COLD int cache__async_open(struct cache_async *a, uv_loop_t *loop)
{
    int rc = uv_mutex_init(&a->lock);

    if (rc != 0)
        return rc;
    /* The one call that can fail comes first: what is open must be closed
     * through the loop, and that needs the caller's patience. */
    rc = uv_async_init(loop, &a->doorbell, cache__async_on_doorbell);
    if (rc != 0) {
        uv_mutex_destroy(&a->lock);
        return rc;
    }
    (void)uv_prepare_init(loop, &a->prepare); /* both always return 0 */
    (void)uv_timer_init(loop, &a->timer);
    a->doorbell.data = a->prepare.data = a->timer.data = a;
    uv_unref((uv_handle_t *)&a->doorbell); /* referenced while work is out */
    return 0;
}

CACHE_COLD int cache__async_init(struct cache_async *a, uv_loop_t *loop,
                                 struct cache *cache,
                                 const struct cache_async_type *type,
                                 const struct cache_async_config *config)
{
    struct cache_async_config full;
    size_t bytes;
    int rc;

    if (a == NULL || loop == NULL || cache == NULL || cache->groups == NULL ||
        config == NULL)
        return CACHE_EINVAL;
    rc = cache__async_config(&full, config, type);
    if (rc != 0)
        return rc;
    memset(a, 0, sizeof *a);
    a->config = full;
    a->loop = loop;
    a->cache = cache;
    a->type = type;
    bytes = cache__async_place(a, NULL);
    if (bytes == 0)
        return CACHE_ESIZE;
    rc = cache_wb_init(&a->writes, &a->config.write_behind);
    if (rc != 0)
        return rc;
    a->memory = full.alloc ? full.alloc(bytes, full.user) : malloc(bytes);
    rc = a->memory == NULL ? CACHE_ENOMEM : cache__async_open(a, loop);
    if (rc != 0) {
        cache_wb_destroy(&a->writes);
        if (full.free && a->memory)
            full.free(a->memory, full.user);
        else
            free(a->memory);
        return rc;
    }
    (void)cache__async_place(a, (unsigned char *)a->memory);
    cache__ring_init(&a->to_tell);
    cache__ring_init(&a->flushes);
    a->load_port.async = a->write_port.async = a;
    a->load_port.land = cache__load_land;
    a->write_port.land = cache__write_land;
    a->seed = cache__random_seed(a);
    a->state = CACHE_ASYNC_OPEN;
    return 0;
}

CACHE_COLD int cache__async_encode(const struct cache_codec *codec,
                                   const void *object, void *out,
                                   struct cache_bytes *bytes)
{
    bytes->data = out;
    bytes->len = 0;
    return codec->encode(codec, object, out, &bytes->len);
}

/* A miss in the cache: answers it from a write under way, or has it loaded. */
CACHE_COLD int cache__async_fetch(struct cache_async *a, struct cache_fetch *f,
                                  const void *key, void *out,
                                  uint64_t timeout_ms)
{
    const struct cache_codec *codec = a->config.value_codec;
    const struct cache_store_item *dirty;
    struct cache_bytes bytes;
    uint32_t hash, *link, n;
    int rc;

    rc = cache__async_encode(a->config.key_codec, key, a->key_bytes, &bytes);
    if (rc != 0)
        return rc;
    dirty = cache_wb_find(&a->writes, bytes);
    if (dirty != NULL) {
        if (dirty->op == CACHE_STORE_REMOVE ||
            cache__async_dead(a, dirty->expires_ms))
            return CACHE_EKEY;
        rc = codec->decode(codec, dirty->value.data, dirty->value.len,
                           a->value_object);
        if (rc != 0)
            return rc;
        a->stats.n_dirty_hits++;
        memcpy(out, a->value_object, a->type->value_bytes);
        cache__async_fill(a, bytes, a->value_object, dirty->expires_ms);
        return 1;
    }
    hash = cache__flight_hash(a, bytes);
    link = cache__flight_find(a, bytes, hash);
    n = *link;
    if (n != 0)
        a->stats.n_joined++;
    else if (a->free_flights == 0)
        return UV_ENOBUFS;
    else
        n = cache__flight_start(a, bytes, hash, link);
    cache__async_add_waiter(a, &a->flights[n], f, out,
                            timeout_ms ? timeout_ms : a->config.timeout_ms);
    cache__async_wake(a);
    return 0;
}

/* A put (value != NULL) or a remove. */
CACHE_COLD int cache__async_write(struct cache_async *a, const void *key,
                                  const void *value, uint64_t ttl_ms)
{
    struct cache_store_item item;
    uint32_t deadline;
    int rc;

    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    rc = cache__begin_put(a->cache, a->type->options, ttl_ms, &deadline);
    if (rc != 0)
        return rc;
    memset(&item, 0, sizeof item);
    item.op = value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    rc = cache__async_encode(a->config.key_codec, key, a->key_bytes, &item.key);
    if (rc == 0 && value)
        rc = cache__async_encode(a->config.value_codec, value, a->value_bytes,
                                 &item.value);
    if (rc != 0)
        return rc;
    if (value && deadline != 0)
        item.expires_ms = cache__async_wall_now(a) + ttl_ms;
    rc = cache_wb_write(&a->writes, &item, uv_now(a->loop));
    if (rc != 0)
        return rc;
    cache__flight_kill(a, item.key);
    /* The write is accepted.  Only a key that is not in the cache can be
     * refused by it now, so it keeps no older value. */
    if (value)
        (void)a->type->put(a->cache, key, value, ttl_ms);
    else
        a->type->remove(a->cache, key);
    cache__async_wake(a);
    return 0;
}

/* --- public: what needs no type ------------------------------------------ */

/* name_fetch_cancel, without the type. */
CACHE_COLD int cache__async_cancel(struct cache_fetch *f)
{
    if (f->ring.next == NULL || f->cancelled)
        return UV_EBUSY;
    cache__async_detach(f);
    f->cancelled = true;
    f->async->stats.n_cancelled++;
    cache__ring_append(&f->async->to_tell, &f->ring);
    cache__async_wake(f->async);
    return 0;
}

/*
 * Calls back when every write that was accepted before is at the store; they
 * are sent at once.  cb's status is 0, or CACHE_EDEADLETTER if a write was
 * given up meanwhile.
 * Returns 0; UV_ECANCELED after close, and then cb is never called.
 * *flush is the library's until cb, in which it may be used again.
 */
CACHE_COLD int cache_async_flush(struct cache_async *a,
                                 struct cache_flush *flush, cache_flush_cb cb)
{
    if (flush == NULL || cb == NULL)
        return CACHE_EINVAL;
    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    flush->barrier = cache_wb_flush(&a->writes);
    flush->n_dead = cache__async_n_dead(a);
    flush->cb = cb;
    cache__ring_append(&a->flushes, &flush->ring);
    cache__async_wake(a);
    return 0;
}

/* The figures of write-behind, also after close.  Threads: the loop's. */
CACHE_COLD struct cache_wb_stats
cache_async_write_stats(const struct cache_async *a)
{
    return a->state == CACHE_ASYNC_CLOSED ? a->write_stats : a->writes.stats;
}

/*
 * Closes: from now on fetch, put, remove and flush return UV_ECANCELED; every
 * fetch that waits is called back with it; writes are sent and retried until
 * all are stored or close_timeout_ms is over, then given to on_dead_letter;
 * flushes are called back; and when the store has returned its last batch and
 * the handles are closed, cb (may be NULL) says how many writes were lost.
 * Returns 0; UV_EALREADY if it is closing or closed, and then cb is never
 * called.  *a must live until cb, and may be freed in it.
 */
CACHE_COLD int cache_async_close(struct cache_async *a, cache_close_cb cb)
{
    if (a->state != CACHE_ASYNC_OPEN)
        return UV_EALREADY;
    a->state = CACHE_ASYNC_CLOSING;
    a->close_cb = cb;
    a->close_deadline_ms = uv_now(a->loop) + a->config.close_timeout_ms;
    (void)cache_wb_flush(&a->writes);
    cache__async_wake(a);
    return 0;
}

/* --- making a type ------------------------------------------------------- */

/*
 * CACHE_ASYNC_DEFINE(name), behind CACHE_DEFINE(name, ...), makes:
 *
 * struct name_async    { struct cache_async base; ... }
 * struct name_request  { ...; void *data; }        data is yours
 *
 * int name_async_init(struct name_async *a, uv_loop_t *loop, struct name *c,
 *                     const struct cache_async_config *config)
 *   Puts a cache that is initialised in front of config->store.
 *   Returns 0, the error of a member that is wrong, CACHE_EOWNER (its keys are
 *   pointers, and it has no .key_copy: they would point into a load that is
 *   over), CACHE_ENOMEM, or libuv's error; then nothing is open or allocated.
 * int name_fetch(a, struct name_request *req, K key, V *out, name_fetch_cb cb)
 *   1: the value is in *out, cb is not called.
 *   0: cb(req, status) is called later, exactly once and never from inside this
 *      call.  With status 0 the value is in *out, otherwise *out is untouched:
 *      CACHE_EKEY (absent), UV_ETIMEDOUT, UV_ECANCELED, the store's error.
 *   negative: an error; cb is never called.  CACHE_EKEY if a remove of the key
 *      is on its way to the store, UV_ENOBUFS, UV_ECANCELED, CACHE_ETOOBIG.
 * int name_fetch_with(a, req, key, out, const struct cache_fetch_options *, cb)
 *   The same with options for this call.
 * int name_fetch_cancel(struct name_request *req)
 *   0: cb is called with UV_ECANCELED in this turn of the loop; the load goes
 *   on.  UV_EBUSY: the request is not pending, or already cancelled.  *req must
 *   have been zeroed before it was first used.
 * int name_async_put(a, K key, V value)
 * int name_async_put_ttl(a, K key, V value, uint64_t ttl_ms)
 *   Accepts the value: it is in the cache now and at the store later.
 *   Returns 0; CACHE_EFULL if too many keys are dirty, CACHE_ETTL, CACHE_EINVAL
 *   (a ttl_ms, but the cache does not expire), the codec's error, UV_ECANCELED
 *   after close: then neither the cache nor the store has it.
 *   A value that the cache itself has no room for is still stored.
 * int name_async_remove(a, K key)
 *   The same for its removal; 0 also if it is not there.
 *
 * cache_async_flush(&a.base, ...) and cache_async_close(&a.base, ...) need no
 * type.  All of it on the loop's thread.
 */
#define CACHE_ASYNC_DEFINE(name)                                               \
    struct name##_request;                                                     \
    typedef void (*name##_fetch_cb)(struct name##_request * req, int status);  \
    struct name##_request {                                                    \
        struct cache_fetch base;                                               \
        name##_fetch_cb cb;                                                    \
        void *data; /* yours */                                                \
    };                                                                         \
    struct name##_async {                                                      \
        struct cache_async base;                                               \
        struct name *cache;                                                    \
    };                                                                         \
    CACHE_UNUSED static int name##__async_put(                                 \
        struct cache *c, const void *key, const void *value, uint64_t ttl_ms)  \
    {                                                                          \
        return name##__put((struct name *)(void *)c, (const name##_key *)key,  \
                           (const name##_value *)value,                        \
                           name##__hash(c, (const name##_key *)key), ttl_ms,   \
                           CACHE__ANY);                                        \
    }                                                                          \
    CACHE_UNUSED static void name##__async_remove(struct cache *c,             \
                                                  const void *key)             \
    {                                                                          \
        (void)name##_remove((struct name *)(void *)c,                          \
                            *(const name##_key *)key);                         \
    }                                                                          \
    CACHE_UNUSED static void name##__async_tell(struct cache_fetch *fetch,     \
                                                int status)                    \
    {                                                                          \
        struct name##_request *req_ = (struct name##_request *)(void *)fetch;  \
        req_->cb(req_, status);                                                \
    }                                                                          \
    CACHE_UNUSED static const struct cache_async_type name##__async_type = {   \
        name##__options,   sizeof(name##_key),   sizeof(name##_value),         \
        name##__async_put, name##__async_remove, name##__async_tell,           \
    };                                                                         \
    CACHE__ASYNC_DEFINE_CALLS(name)

#define CACHE__ASYNC_DEFINE_CALLS(name)                                        \
    CACHE_UNUSED static inline int name##_async_init(                          \
        struct name##_async *a, uv_loop_t *loop, struct name *c,               \
        const struct cache_async_config *config)                               \
    {                                                                          \
        bool borrows_ =                                                        \
            CACHE__DEAR_KEY(name##_key) && !name##__callbacks().key_copy;      \
        int rc_ = borrows_ ? CACHE_EOWNER                                      \
                           : cache__async_init(a ? &a->base : NULL, loop,      \
                                               c ? &c->base : NULL,            \
                                               &name##__async_type, config);   \
        if (rc_ == 0)                                                          \
            a->cache = c;                                                      \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch_with(                          \
        struct name##_async *a, struct name##_request *req, name##_key key,    \
        name##_value *out, const struct cache_fetch_options *options,          \
        name##_fetch_cb cb)                                                    \
    {                                                                          \
        const name##_value *hit_;                                              \
        if (a->base.state != CACHE_ASYNC_OPEN)                                 \
            return UV_ECANCELED;                                               \
        hit_ = name##_get(a->cache, key);                                      \
        if (hit_ == NULL) {                                                    \
            CACHE_ASSERT(cb != NULL);                                          \
            req->cb = cb;                                                      \
            return cache__async_fetch(&a->base, &req->base, &key, out,         \
                                      options ? options->timeout_ms : 0);      \
        }                                                                      \
        *out = *hit_;                                                          \
        return 1;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch(                               \
        struct name##_async *a, struct name##_request *req, name##_key key,    \
        name##_value *out, name##_fetch_cb cb)                                 \
    {                                                                          \
        return name##_fetch_with(a, req, key, out, NULL, cb);                  \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch_cancel(                        \
        struct name##_request *req)                                            \
    {                                                                          \
        return cache__async_cancel(&req->base);                                \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put_ttl(                       \
        struct name##_async *a, name##_key key, name##_value value,            \
        uint64_t ttl_ms)                                                       \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_EXPIRY);                 \
        return rc_ ? rc_ : cache__async_write(&a->base, &key, &value, ttl_ms); \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put(                           \
        struct name##_async *a, name##_key key, name##_value value)            \
    {                                                                          \
        return cache__async_write(&a->base, &key, &value,                      \
                                  a->cache->base.ttl_ms);                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_remove(struct name##_async *a, \
                                                       name##_key key)         \
    {                                                                          \
        return cache__async_write(&a->base, &key, NULL, CACHE_NEVER);          \
    }                                                                          \
    struct cache__swallow_semicolon

#endif /* CACHE_ASYNC_H */
