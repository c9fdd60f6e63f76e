/*
 * cache_async.h - a loading cache in a libuv program.
 *
 * WHAT IT DOES
 *   CACHE_ASYNC_DEFINE(name) adds the loop half to a cache type made by
 *   CACHE_DEFINE_LOADING(name, ...) of cache_loading.h:
 *   - A hit is a function's result, never a callback.
 *   - One load per key however many ask; the misses of one turn of the loop go
 *     out as one batch, to a loader of yours that completes each key now or
 *     later, to a store, or to a thread with a blocking loader.
 *   - Every waiter has a deadline of its own and can be cancelled; the load
 *     goes on and fills the cache.  After a soft deadline a waiter takes a
 *     value past its time instead.
 *   - Refresh ahead, stale while revalidating, stale if error, negative entries
 *     and error throttle are those of cache_freshness.h; what has expired is
 *     reclaimed in steps that never hold the loop for long.
 *   - Writes go aside, through, around or behind; behind they are in the cache
 *     at once, in the journal soon and at the store later, and a read of a key
 *     whose write is under way sees that write.
 *
 *   EXAMPLE
 *     CACHE_DEFINE_LOADING(users, uint64_t, struct user, cache_hash_u64,
 *                          cache_equal_u64, 0);
 *     CACHE_ASYNC_DEFINE(users);
 *
 *     static void loaded(struct users_request *req, int status) { ... }
 *
 *     int rc = users_fetch(&async, &req, 42, &user, loaded);
 *     if (rc == 1)      ... user is filled in, `loaded` is not called
 *     else if (rc == 0) ... `loaded` is called later, exactly once
 *     else              ... an error; `loaded` is not called
 *
 *   A LOADER OF YOURS
 *     static void load(struct names_async *a, struct names_batch *b, size_t i)
 *     {
 *         ... begin something for b->keys[i]; when it is done, or at once:
 *         names_loaded(b, i, address);   or   names_load_failed(b, i, status);
 *     }
 *     struct names_loader loader = { .load_one = load };   // for init
 *
 * PARTS
 *   cache_async_base.h   types, deadlines, jobs
 *   cache_async_load.h   fetch, flights, batches
 *   cache_async_write.h  writes and what acknowledges them
 *   this file            the turn of the loop, init, close, the macros
 *
 * THREADS
 *   Everything is called on the loop's thread; cache_async_remote.h is for the
 *   others.  Blocking loaders and stores run on threads of the library's own,
 *   never on libuv's pool: the hooks and codecs that they use are called there.
 *
 * OWNERSHIP AND LIFETIME
 *   - A request is the caller's memory, like a uv_req_t.  It and *out are the
 *     library's from a fetch that returned 0 until its callback, in which it
 *     may be used again.
 *   - No memory is allocated after init, but by blocking callbacks' batches.
 *   - The cache, its store and codecs must outlive the close callback; they are
 *     the caller's to destroy.
 *   - While the loop half is open, the cache is read and written through it.
 *     name_peek, name_invalidate, name_entry, name_each and the counters may be
 *     used directly; what waits for others (name_load, name_flush, a name_put
 *     that goes to the store) would wait for ever.
 *   - Values that own memory: what *out points to is sure to be there until the
 *     callback returns, unless something is written first, which may evict it:
 *     in it, in that of another who waited for the key, or, where a hit is told
 *     later (always_async, fetch_many), since the fetch.  To keep it, count its
 *     users (examples/static_http.c).
 *
 * ERRORS
 *   CACHE_E* of the library, unchanged from where they arose, and of libuv
 *   UV_ECANCELED (cancelled, or closing), UV_ETIMEDOUT, UV_ENOBUFS (max_claims
 *   keys are being loaded or written), UV_EBUSY and UV_EALREADY.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_H
#define CACHE_ASYNC_H

#include "cache_async_write.h"

/* --- closing ------------------------------------------------------------- */

CACHE_COLD void *cache__async_alloc(const struct cache_async *a, size_t bytes)
{
    return cache__front_alloc(a->front, bytes);
}

/* Keys that loads have which will not end any more. */
CACHE_COLD void cache__async_free_keys(struct cache_ring *loads)
{
    struct cache_ring *at;
    size_t i;

    for (at = loads->next; at != loads; at = at->next) {
        const struct cache_load *load = cache__load_of(at);

        for (i = 0; i < load->n; i++)
            if (load->claims[i].record != 0)
                cache__load_free_key(load, i);
    }
}

/* The cache is as it was before init, but for writes: it takes no more. */
CACHE_COLD void cache__async_let_go(struct cache_async *a)
{
    struct cache_front *f = a->front;

    cache_worker_stop(&a->worker);
    f->threads = a->threads_before;
    f->config.claim_ms = a->claim_ms_before;
    if (f->clock.now_ms == &a->loop->time)
        f->clock.now_ms = a->cells->now_ms = NULL;
    f->offloads = false;
    cache__async_free_keys(&a->loading);
    cache__async_free_keys(&a->overdue);
    cache__front_free(f, a->memory);
    a->memory = NULL;
}

CACHE_COLD void cache__async_closed(uv_handle_t *handle)
{
    struct cache_async *a = (struct cache_async *)handle->data;

    if (--a->n_open_handles > 0)
        return;
    cache__async_let_go(a);
    uv_mutex_destroy(&a->lock);
    a->state = CACHE_ASYNC_CLOSED;
    if (a->close_cb)
        a->close_cb(a, a->n_lost); /* last: *a may be freed in it */
}

CACHE_COLD void cache__async_close_handles(struct cache_async *a)
{
    uv_mutex_lock(&a->lock); /* whoever rings the doorbell has done so */
    uv_mutex_unlock(&a->lock);
    a->n_open_handles = 4;
    uv_close((uv_handle_t *)&a->doorbell, cache__async_closed);
    uv_close((uv_handle_t *)&a->prepare, cache__async_closed);
    uv_close((uv_handle_t *)&a->timer, cache__async_closed);
    uv_close((uv_handle_t *)&a->sweep, cache__async_closed);
}

/* Loads that a loader of the program's never ended: nobody waits for them. */
CACHE_COLD void cache__async_drop_loads(struct cache_async *a)
{
    struct cache_claims *t = &a->front->claims;
    uint32_t r;

    for (r = 1; r <= t->n; r++)
        if (a->flights[r].state == CACHE_FLIGHT_LOADING &&
            t->records[r].state == CACHE_PENDING_LOAD) {
            cache__load_lend_key(a, r);
            cache__front_release(a->front, r, CACHE__ASK_AGAIN);
        }
}

/* Time is over: what waits to go through does not. */
CACHE_COLD void cache__async_drop_writes(struct cache_async *a)
{
    while (!cache__ring_empty(&a->to_write)) {
        struct cache_async_write *w = cache__write_of(a->to_write.next);

        cache__ring_remove(&w->ring);
        cache__write_tell_soon(w, UV_ECANCELED);
    }
}

/* Writes are given up; also those of a batch that has waited for the journal,
 * and was never sent.  By now it is known which of them the journal has. */
CACHE_COLD void cache__async_give_up(struct cache_async *a)
{
    struct cache_store_batch *batch = a->held ? a->held->batch : NULL;
    size_t i;

    for (i = 0; batch != NULL && i < batch->n_items; i++)
        batch->items[i].status = CACHE_ECLOSED;
    if (batch != NULL) {
        cache_wb_complete(&a->front->writes, batch,
                          cache__clock_ms(&a->front->clock));
        a->held->batch = NULL;
        a->held = NULL;
    }
    (void)cache_wb_give_up(&a->front->writes);
}

/* Those who wait for the journal or the store are told what has become of it:
 * the journal is closed, what it has is not lost. */
CACHE_COLD void cache__async_settle(struct cache_async *a)
{
    struct cache_front *f = a->front;
    bool journals = cache__front_journals(f);
    int rc;

#ifdef CACHE__THREADS
    if (journals)
        cache_journal_listen(&f->journal, NULL, NULL);
#endif
    cache__async_check_stored(a);
    rc = cache__front_close_journal(f);
    while (!cache__ring_empty(&a->unjournaled)) {
        struct cache_async_write *w = cache__write_of(a->unjournaled.next);

        cache__ring_remove(&w->ring);
        cache__write_tell_soon(w, rc);
    }
    while (!cache__ring_empty(&a->unstored)) {
        struct cache_async_write *w = cache__write_of(a->unstored.next);

        cache__ring_remove(&w->ring);
        cache__write_tell_soon(w, journals && rc == 0 ? CACHE_ECLOSED
                                                      : CACHE_EDEADLETTER);
    }
    if (f->behind)
        cache__async_give_up(a);
    a->n_lost = f->n_lost;
    f->open = false;
}

/* Closing has taken all the time that it may. */
CACHE_COLD bool cache__async_is_late(const struct cache_async *a)
{
    return a->state == CACHE_ASYNC_CLOSING &&
           uv_now(a->loop) >= a->close_deadline_ms;
}

/* Goes on with closing.  Returns whether there is nothing more to wait for. */
CACHE_COLD bool cache__async_is_done(struct cache_async *a)
{
    struct cache_front *f = a->front;
    bool late = cache__async_is_late(a);

    if (!a->waiters_told) {
        a->waiters_told = true;
        cache__async_cancel_all(a);
    }
    if (late)
        cache__async_drop_writes(a);
    if (a->n_out > 0 || !cache__ring_empty(&a->to_write) ||
        (!late && (!cache__ring_empty(&a->loading) ||
                   (f->behind && cache_wb_n_dirty(&f->writes) > 0))))
        return false;
    if (!a->settled) {
        a->settled = true;
        cache__async_drop_loads(a);
        cache__async_settle(a);
    }
    return cache__ring_empty(&a->to_tell) && cache__ring_empty(&a->written);
}

/* --- the loop ------------------------------------------------------------ */

CACHE_INLINE uint64_t cache__earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Starts the timer for whatever is due first, and keeps the loop alive while
 * something is on its way back. */
CACHE_COLD void cache__async_arm(struct cache_async *a, bool guest_works)
{
    uint64_t now_ms = uv_now(a->loop), due_ms = cache__async_load_due_ms(a);
    bool late = cache__async_is_late(a);

    if (!late)
        due_ms = cache__earlier(due_ms, cache__async_behind_due_ms(a));
    if (a->deadlines)
        due_ms = cache__earlier(due_ms, a->deadlines->due_ms);
    if (!cache__ring_empty(&a->loading))
        due_ms =
            cache__earlier(due_ms, cache__load_of(a->loading.next)->due_ms);
    if (a->state == CACHE_ASYNC_CLOSING && !a->settled && !late)
        due_ms = cache__earlier(due_ms, a->close_deadline_ms);
    if (uv_is_active((uv_handle_t *)&a->prepare))
        due_ms = now_ms; /* a callback has just begun something */
    if (due_ms == UINT64_MAX)
        (void)uv_timer_stop(&a->timer);
    else
        (void)uv_timer_start(&a->timer, a->on_timer,
                             due_ms > now_ms ? due_ms - now_ms : 0, 0);
    if (a->n_out > 0 || a->held || guest_works ||
        !cache__ring_empty(&a->unjournaled))
        uv_ref((uv_handle_t *)&a->doorbell);
    else
        uv_unref((uv_handle_t *)&a->doorbell);
}

/* Does all there is to do now: before the loop waits, and after anything came
 * back or became due. */
CACHE_COLD void cache__async_turn(struct cache_async *a)
{
    struct cache_ring to_tell;
    bool guest_works = false;
    int i;

    for (i = 0; i < CACHE__N_GUESTS; i++)
        if (a->guests[i] != NULL)
            guest_works |= a->guests[i]->turn(a->guests[i]);
    cache__ring_init(&to_tell);
    cache__ring_move(&to_tell, &a->to_tell);
    cache__fetch_tell_all(&to_tell);
    cache__async_send_loads(a);
    if (!cache__async_is_late(a)) {
        cache__async_send_through(a);
        cache__async_send_behind(a);
    }
    cache__async_check_stored(a);
    cache__async_check_journal(a);
    cache__async_check_room(a);
    cache__async_tell_writes(a);
    if (a->state == CACHE_ASYNC_CLOSING && cache__async_is_done(a)) {
        for (i = 0; i < CACHE__N_GUESTS; i++)
            if (a->guests[i] != NULL && a->guests[i]->closed != NULL)
                a->guests[i]->closed(a->guests[i]);
        cache__async_close_handles(a);
        return;
    }
    cache__async_arm(a, guest_works);
}

CACHE_COLD void cache__async_prepare(uv_prepare_t *handle)
{
    struct cache_async *a = (struct cache_async *)handle->data;

    (void)uv_prepare_stop(handle);
    cache__async_turn(a);
}

CACHE_COLD void cache__async_on_timer(uv_timer_t *timer)
{
    struct cache_async *a = (struct cache_async *)timer->data;

    cache__async_check_deadlines(a);
    cache__async_check_loads(a);
    /* Not a turn: libuv calls a timer that is due at once again before it looks
     * at anything else. */
    (void)uv_prepare_start(&a->prepare, a->on_prepare);
}

/* Takes back what has left the loop. */
CACHE_COLD void cache__async_on_doorbell(uv_async_t *doorbell)
{
    struct cache_async *a = (struct cache_async *)doorbell->data;
    struct cache_async_job *job, *oldest = NULL;

    uv_mutex_lock(&a->lock);
    job = a->returned;
    a->returned = NULL;
    uv_mutex_unlock(&a->lock);
    while (job != NULL) { /* turn the stack into the order of arrival */
        struct cache_async_job *next = job->returned;

        job->returned = oldest;
        oldest = job;
        job = next;
    }
    while (oldest != NULL) {
        job = oldest;
        oldest = job->returned;
        a->n_out--;
        job->land(job);
    }
    cache__async_turn(a);
}

#define CACHE__SWEEP_ITEMS 64u /* between two looks at the clock */

/* Takes out what has expired or was invalidated, for as long as the budget
 * allows; soon again while there is more. */
CACHE_COLD void cache__async_on_sweep(uv_timer_t *timer)
{
    struct cache_async *a = (struct cache_async *)timer->data;
    uint64_t until_ns =
        uv_hrtime() + (uint64_t)a->config.loop_budget_us * 1000u;
    uint32_t left;

    do
        left = a->type.tick(a->front, CACHE__SWEEP_ITEMS);
    while (left > 0 && uv_hrtime() < until_ns);
    (void)uv_timer_start(timer, cache__async_on_sweep,
                         left > 0 ? 1 : a->config.sweep_ms, 0);
}

/* --- init ---------------------------------------------------------------- */

CACHE_COLD bool cache__async_blocks(const struct cache_front *f)
{
    return f->config.store == NULL ||
           (f->config.store->capabilities & CACHE_STORE_BLOCKS) != 0;
}

/* Fills in the defaults.  Returns 0, or the first thing that is wrong. */
CACHE_COLD int cache__async_config(struct cache_async_config *out,
                                   const struct cache_async_config *config,
                                   const struct cache_front *f,
                                   const struct cache_async_type *type)
{
    uint32_t max_dirty = f->behind ? f->writes.config.max_dirty : 0;

    memset(out, 0, sizeof *out);
    if (config != NULL)
        *out = *config;
    if (!cache__async_loads(type) && f->config.store == NULL &&
        !cache__front_has(f, CACHE__HAS_LOAD | CACHE__HAS_LOAD_MANY))
        return CACHE_ENOSTORE;
    if (out->n_groups > 1 && type->group_by == NULL)
        return CACHE_EINVAL;
    if (out->max_batch == 0)
        out->max_batch = CACHE_ASYNC_DEFAULT_MAX_BATCH;
    if (out->max_batch > f->config.max_claims)
        out->max_batch = f->config.max_claims;
    if (out->max_batches == 0)
        out->max_batches = CACHE_ASYNC_DEFAULT_MAX_BATCHES;
    if (out->n_groups == 0)
        out->n_groups = 1;
    if (out->n_workers == 0)
        out->n_workers = 1;
    if (out->load_timeout_ms == 0)
        out->load_timeout_ms = f->config.claim_ms;
    if (out->close_timeout_ms == 0)
        out->close_timeout_ms = CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS;
    if (out->loop_budget_us == 0)
        out->loop_budget_us = CACHE_ASYNC_DEFAULT_BUDGET_US;
    if (out->sweep_ms == 0)
        out->sweep_ms = CACHE_ASYNC_DEFAULT_SWEEP_MS;
    if (out->high_water == 0)
        out->high_water = max_dirty;
    if (out->low_water == 0)
        out->low_water = out->high_water / 2;
    if (out->max_batches > CACHE_MAX_CAPACITY / 4 / out->max_batch ||
        out->n_groups > CACHE_MAX_CAPACITY || out->high_water > max_dirty ||
        out->low_water > out->high_water ||
        out->n_workers > CACHE_WORKER_MAX_THREADS)
        return CACHE_ELIMIT;
    return 0;
}

/* Room for the items of a batch, each with a key and a value. */
struct cache__async_room {
    size_t items, keys, values;
};

CACHE_COLD struct cache__async_room
cache__async_place_items(const struct cache_async *a, size_t *at, size_t n)
{
    struct cache__async_room room;

    n = a->front->config.store ? n : 0;
    room.items = cache__place(at, n, sizeof(struct cache_store_item));
    room.keys = cache__place(at, n, a->front->key_max);
    room.values = cache__place(at, n, a->front->value_max);
    return room;
}

/* The items from `first` on. */
CACHE_COLD struct cache_store_item *
cache__async_items(const struct cache_async *a, unsigned char *base,
                   const struct cache__async_room *room, size_t first, size_t n)
{
    const struct cache_front *f = a->front;
    struct cache_store_item *items =
        (struct cache_store_item *)(void *)(base + room->items) + first;
    size_t i;

    if (f->config.store == NULL)
        return NULL;
    for (i = 0; i < n; i++) {
        items[i].op = CACHE_STORE_GET;
        items[i].key.data = base + room->keys + (first + i) * f->key_max;
        items[i].buffer = base + room->values + (first + i) * f->value_max;
        items[i].buffer_bytes = f->config.value_codec->max_bytes;
        items[i].value.data = items[i].buffer;
    }
    return items;
}

/* Lays the batches out that load. */
CACHE_COLD void cache__async_place_loads(struct cache_async *a,
                                         unsigned char *base, size_t *at)
{
    const struct cache_front_type *type = a->front->type;
    const bool ours =
        !cache__async_loads(&a->type); /* the store, or a thread */
    const bool blocking = ours && a->front->config.store == NULL;
    /* Those that a loader never ends have no part in what goes on. */
    size_t n_loads = (size_t)a->config.max_batches * (ours ? 1 : 2), i;
    size_t n = a->config.max_batch, n_keys = n_loads * n;
    size_t stride = cache__round_up(a->type.batch_bytes, 16);
    size_t loads = cache__place(at, n_loads, stride);
    size_t claims = cache__place(at, n_keys, sizeof(struct cache_claim));
    size_t keys = cache__place(at, n_keys, type->key_bytes);
    size_t values = cache__place(at, blocking ? n_keys : 0, type->value_bytes);
    size_t loaded =
        cache__place(at, blocking ? n_keys : 0, sizeof(struct cache_loaded));
    struct cache__async_room room =
        cache__async_place_items(a, at, ours ? n_keys : 0);

    for (i = 0; i < n_loads && base != NULL; i++) {
        struct cache_load *load =
            (struct cache_load *)(void *)(base + loads + i * stride);

        load->job.async = a;
        load->claims = (struct cache_claim *)(void *)(base + claims) + i * n;
        load->keys = base + keys + i * n * type->key_bytes;
        load->values = base + values + i * n * type->value_bytes;
        load->loaded = (struct cache_loaded *)(void *)(base + loaded) + i * n;
        if (ours)
            load->batch.items = cache__async_items(a, base, &room, i * n, n);
        load->next_free = a->free_loads;
        a->free_loads = load;
    }
}

/* Lays the batches out that write. */
CACHE_COLD void cache__async_place_writes(struct cache_async *a,
                                          unsigned char *base, size_t *at)
{
    const struct cache_front *f = a->front;
    bool through = cache__front_goes_through(f, &cache__write_default);
    size_t n_batches = through ? a->config.max_batches : 0, i;
    size_t n = a->config.max_batch, n_writes = n_batches * n;
    size_t n_behind = f->behind ? f->writes.config.max_in_flight : 0;
    size_t behinds =
        cache__place(at, n_behind, sizeof(struct cache_async_behind));
    size_t throughs =
        cache__place(at, n_batches, sizeof(struct cache_async_through));
    size_t requests =
        cache__place(at, n_writes, sizeof(struct cache_async_write *));
    size_t writes = cache__place(at, f->config.store ? 0 : n_writes,
                                 sizeof(struct cache_front_write));
    struct cache__async_room room = cache__async_place_items(a, at, n_writes);

    if (base == NULL)
        return;
    a->behinds = (struct cache_async_behind *)(void *)(base + behinds);
    for (i = 0; i < n_behind; i++) {
        a->behinds[i].job.async = a;
        a->behinds[i].job.land = cache__behind_land;
    }
    for (i = 0; i < n_batches; i++) {
        struct cache_async_through *t =
            (struct cache_async_through *)(void *)(base + throughs) + i;

        t->job.async = a;
        t->job.land = cache__through_land;
        t->requests =
            (struct cache_async_write **)(void *)(base + requests) + i * n;
        t->writes = (struct cache_front_write *)(void *)(base + writes) + i * n;
        t->batch.items = cache__async_items(a, base, &room, i * n, n);
        t->next_free = a->free_throughs;
        a->free_throughs = t;
    }
}

/* Lays the block out; with base = NULL it only says how large it is, 0 if it
 * does not fit the address space. */
CACHE_COLD size_t cache__async_place(struct cache_async *a, unsigned char *base)
{
    const struct cache_front_type *type = a->front->type;
    size_t n = (size_t)a->front->config.max_claims + 1, at = 0, i;
    size_t flights = cache__place(&at, n, sizeof(struct cache_flight));
    size_t queues =
        cache__place(&at, a->config.n_groups, sizeof(struct cache_load_queue));
    size_t key = cache__place(&at, 1, type->key_bytes);
    size_t value = cache__place(&at, 1, type->value_bytes);
    size_t unread = cache__place(&at, 1, type->value_bytes);

    if (base != NULL) {
        a->flights = (struct cache_flight *)(void *)(base + flights);
        for (i = 0; i < n; i++)
            cache__ring_init(&a->flights[i].waiters);
        a->queues = (struct cache_load_queue *)(void *)(base + queues);
        a->key_object = base + key;
        a->value_object = base + value;
        a->unread_object = base + unread;
    }
    cache__async_place_loads(a, base, &at);
    cache__async_place_writes(a, base, &at);
    return at > CACHE__LAYOUT_LIMIT ? 0 : at;
}

/* Opens the handles, or none. */
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
    (void)uv_prepare_init(loop, &a->prepare); /* these always return 0 */
    (void)uv_timer_init(loop, &a->timer);
    (void)uv_timer_init(loop, &a->sweep);
    a->doorbell.data = a->prepare.data = a->timer.data = a->sweep.data = a;
    uv_unref((uv_handle_t *)&a->doorbell); /* referenced while work is out */
    uv_unref((uv_handle_t *)&a->sweep);
    (void)uv_timer_start(&a->sweep, cache__async_on_sweep, a->config.sweep_ms,
                         0);
    return 0;
}

/* From now on the cache belongs to the loop: no locks, no claim that lapses,
 * and, unless the program has one, the loop's clock, which costs nothing. */
CACHE_COLD void cache__async_take_over(struct cache_async *a)
{
    struct cache_front *f = a->front;
    uint64_t now_ms = cache__clock_ms(&f->clock);

#ifdef CACHE__THREADS
    cache__front_recall(f); /* what init has sent is not of this half */
#endif
    a->threads_before = f->threads;
    a->claim_ms_before = f->config.claim_ms;
    f->threads = false;
    f->config.claim_ms = CACHE_NEVER;
    uv_update_time(a->loop);
    if (f->config.cache.now == NULL && f->config.cache.now_ms == NULL &&
        uv_now(a->loop) + 1000 > now_ms && uv_now(a->loop) < now_ms + 1000)
        f->clock.now_ms = a->cells->now_ms = &a->loop->time;
#ifdef CACHE__THREADS
    if (f->journals)
        cache_journal_listen(&f->journal, cache__async_on_commit, a);
#endif
}

CACHE_COLD int cache__async_init(struct cache_async *a, uv_loop_t *loop,
                                 struct cache_front *front, struct cache *cells,
                                 const struct cache_async_type *type,
                                 const struct cache_async_config *config)
{
    struct cache_async_config full;
    size_t bytes;
    int rc;

    if (a == NULL || loop == NULL || front == NULL || !front->open ||
        front->type->shared || front->config.claim_ms == CACHE_NEVER)
        return CACHE_EINVAL;
    rc = cache__async_config(&full, config, front, type);
    if (rc != 0)
        return rc;
    memset(a, 0, sizeof *a);
    a->config = full;
    a->loop = loop;
    a->front = front;
    a->cells = cells;
    a->type = *type;
    a->on_prepare = cache__async_prepare;
    a->on_timer = cache__async_on_timer;
    bytes = cache__async_place(a, NULL);
    if (bytes == 0)
        return CACHE_ESIZE;
    a->memory = cache__async_alloc(a, bytes);
    if (a->memory == NULL)
        return CACHE_ENOMEM;
    memset(a->memory, 0, bytes);
    (void)cache__async_place(a, (unsigned char *)a->memory);
    if ((!cache__async_loads(type) || front->config.writes != CACHE_ASIDE) &&
        cache__async_blocks(front)) {
        rc = cache_worker_start(&a->worker, full.n_workers);
        front->offloads = rc == 0;
    }
    if (rc == 0)
        rc = cache__async_open(a, loop);
    if (rc != 0) {
        cache_worker_stop(&a->worker);
        front->offloads = false;
        cache__front_free(front, a->memory);
        return rc;
    }
    cache__ring_init(&a->loading);
    cache__ring_init(&a->overdue);
    cache__ring_init(&a->to_tell);
    cache__ring_init(&a->to_write);
    cache__ring_init(&a->unjournaled);
    cache__ring_init(&a->unstored);
    cache__ring_init(&a->written);
    cache__async_take_over(a);
    a->state = CACHE_ASYNC_OPEN;
    if (front->behind && cache_wb_n_dirty(&front->writes) > 0)
        cache__async_wake(a); /* what the journal had */
    return 0;
}

/* --- public: what needs no type ------------------------------------------ */

/*
 * Calls back when every write that was accepted before is at the store; they
 * are sent at once.  cb's status is 0; CACHE_EDEADLETTER if a write was given up
 * meanwhile; CACHE_ECLOSED if close came first, and the journal has them; or the
 * journal's error: the store has them, but not for sure after a crash.  Without
 * write-behind it calls back at once: each write has a callback of its own.
 * Returns 0; CACHE_EINVAL; UV_ECANCELED after close: then cb is never called.
 * *flush is the library's until cb, in which it may be used again.
 */
CACHE_COLD int cache_async_flush(struct cache_async *a,
                                 struct cache_flush *flush, cache_flush_cb cb)
{
    if (flush == NULL || cb == NULL)
        return CACHE_EINVAL;
    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    flush->cb = cb;
    flush->write.async = a;
    flush->write.tell = cache__flush_tell;
    cache__async_await_appended(a, &flush->write);
    if (a->front->behind)
        cache__write_wait(&flush->write, &a->unstored,
                          cache_wb_flush(&a->front->writes));
    else
        cache__write_tell_soon(&flush->write, 0);
    cache__async_wake(a);
    return 0;
}

/* The figures of write-behind; zeroes without.  Threads: the loop's. */
CACHE_COLD struct cache_wb_stats
cache_async_write_stats(const struct cache_async *a)
{
    struct cache_wb_stats none;

    memset(&none, 0, sizeof none);
    return a->front->behind ? a->front->writes.stats : none;
}

/*
 * There is room to write: fewer keys than high_water wait for the store.  When
 * it has been false, or a put has returned CACHE_EFULL, on_writable says that
 * it is true again.
 */
CACHE_COLD bool cache_async_is_writable(const struct cache_async *a)
{
    return !a->wants_room;
}

/*
 * Closes: from now on fetch, put, remove and flush return UV_ECANCELED; every
 * fetch that waits is called back with it; writes are sent and retried until
 * all are stored or close_timeout_ms is over.  What is not stored then is in
 * the journal, for the next init; or lost: given to on_dead_letter.  Flushes and
 * writes that wait are called back.  When store and threads have returned their
 * last batch (one that never does holds close for ever; a loader of the
 * program's is waited for until close_timeout_ms, and must not end a key after
 * cb) and the handles are closed, cb (may be NULL) says how many writes were
 * lost.
 * The journal's last commit is made on the loop, which waits for the disk.
 * Returns 0; UV_EALREADY if it is closing or closed, and then cb is never
 * called.  *a must live until cb, and may be freed in it.
 */
CACHE_COLD int cache_async_close(struct cache_async *a, cache_close_cb cb)
{
    int i;

    if (a->state != CACHE_ASYNC_OPEN)
        return UV_EALREADY;
    for (i = 0; i < CACHE__N_GUESTS; i++)
        if (a->guests[i] != NULL && a->guests[i]->closing != NULL)
            a->guests[i]->closing(a->guests[i]);
    if (a->state != CACHE_ASYNC_OPEN)
        return UV_EALREADY; /* a callback was faster */
    a->state = CACHE_ASYNC_CLOSING;
    a->close_cb = cb;
    a->close_deadline_ms =
        cache__sum_ms(uv_now(a->loop), a->config.close_timeout_ms);
    if (a->front->behind)
        (void)cache_wb_flush(&a->front->writes);
    cache__async_wake(a);
    return 0;
}

/* --- making a type ------------------------------------------------------- */

/* What the types are. */
#define CACHE__ASYNC_DEFINE_TYPES(name)                                        \
    struct name##_async;                                                       \
    struct name##_batch;                                                       \
    struct name##_loader {                                                     \
        void (*load_batch)(struct name##_async * a, struct name##_batch *b);   \
        void (*load_one)(struct name##_async * a, struct name##_batch *b,      \
                         size_t i);                                            \
        uint32_t (*group_by)(const name##_key *key, void *user);               \
    };                                                                         \
    struct name##_async {                                                      \
        struct cache_async base;                                               \
        struct name *cache;                                                    \
        struct name##_loader loader;                                           \
    };                                                                         \
    struct name##_request;                                                     \
    typedef void (*name##_fetch_cb)(struct name##_request * req, int status);  \
    struct name##_request {                                                    \
        struct cache_fetch base;                                               \
        name##_fetch_cb cb;                                                    \
        void *data; /* yours */                                                \
    };                                                                         \
    struct name##_write_request;                                               \
    typedef void (*name##_write_cb)(struct name##_write_request * req,         \
                                    int status);                               \
    struct name##_write_request {                                              \
        struct cache_async_write base;                                         \
        name##_write_cb cb;                                                    \
        void *data; /* yours */                                                \
        name##_key key;                                                        \
        name##_value value;                                                    \
    };                                                                         \
    struct name##_batch {                                                      \
        struct cache_load load;                                                \
        const name##_key *keys; /* [n] */                                      \
        size_t n;                                                              \
        void *data; /* yours */                                                \
    };                                                                         \
    struct cache__swallow_semicolon

/* What the engine calls the program with. */
#define CACHE__ASYNC_DEFINE_HOOKS(name)                                        \
    CACHE_UNUSED static void name##__async_load(struct cache_load *load)       \
    {                                                                          \
        struct name##_async *a_ =                                              \
            (struct name##_async *)(void *)load->job.async;                    \
        struct name##_batch *b_ = (struct name##_batch *)(void *)load;         \
        b_->keys = (const name##_key *)(const void *)load->keys;               \
        b_->n = load->n;                                                       \
        b_->data = NULL;                                                       \
        a_->loader.load_batch(a_, b_);                                         \
    }                                                                          \
    CACHE_UNUSED static void name##__async_load_one(struct cache_load *load,   \
                                                    size_t i)                  \
    {                                                                          \
        struct name##_async *a_ =                                              \
            (struct name##_async *)(void *)load->job.async;                    \
        struct name##_batch *b_ = (struct name##_batch *)(void *)load;         \
        b_->keys = (const name##_key *)(const void *)load->keys;               \
        b_->n = load->n;                                                       \
        if (i == 0)                                                            \
            b_->data = NULL;                                                   \
        a_->loader.load_one(a_, b_, i);                                        \
    }                                                                          \
    CACHE_UNUSED static uint32_t name##__async_group(                          \
        const struct cache_async *a, const void *key)                          \
    {                                                                          \
        return ((const struct name##_async *)(const void *)a)                  \
            ->loader.group_by((const name##_key *)key,                         \
                              a->front->config.cache.user);                    \
    }                                                                          \
    CACHE_UNUSED static void name##__async_tell(struct cache_fetch *fetch)     \
    {                                                                          \
        struct name##_request *req_ = (struct name##_request *)(void *)fetch;  \
        req_->cb(req_, fetch->status);                                         \
    }                                                                          \
    CACHE_UNUSED static void name##__async_tell_write(                         \
        struct cache_async_write *write)                                       \
    {                                                                          \
        struct name##_write_request *req_ =                                    \
            (struct name##_write_request *)(void *)write;                      \
        req_->cb(req_, write->status);                                         \
    }                                                                          \
    CACHE_UNUSED static uint32_t name##__async_tick(struct cache_front *f,     \
                                                    uint32_t max_items)        \
    {                                                                          \
        return name##_tick((struct name *)(void *)f, max_items);               \
    }                                                                          \
    CACHE_INLINE struct cache_async_type name##__async_describe(               \
        const struct name##_loader *loader)                                    \
    {                                                                          \
        bool load_ = loader && loader->load_batch;                             \
        bool load_one_ = loader && loader->load_one;                           \
        bool group_by_ = loader && loader->group_by;                           \
        struct cache_async_type type_ = {                                      \
            sizeof(struct name##_batch),                                       \
            load_ ? name##__async_load : NULL,                                 \
            load_one_ ? name##__async_load_one : NULL,                         \
            group_by_ ? name##__async_group : NULL,                            \
            name##__async_tell,                                                \
            name##__async_tick,                                                \
        };                                                                     \
        return type_;                                                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* Making. */
#define CACHE__ASYNC_DEFINE_INIT(name)                                         \
    CACHE_UNUSED static inline int name##_async_init(                          \
        struct name##_async *a, uv_loop_t *loop, struct name *c,               \
        const struct cache_async_config *config,                               \
        const struct name##_loader *loader)                                    \
    {                                                                          \
        struct cache_async_type type_ = name##__async_describe(loader);        \
        bool borrows_ =                                                        \
            CACHE__DEAR_KEY(name##_key) && !name##__callbacks().key_copy;      \
        int rc_ = borrows_ ? CACHE_EOWNER                                      \
                           : cache__async_init(a ? &a->base : NULL, loop,      \
                                               c ? &c->front : NULL,           \
                                               c ? &c->cells.base : NULL,      \
                                               &type_, config);                \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        a->cache = c;                                                          \
        memset(&a->loader, 0, sizeof a->loader);                               \
        if (loader)                                                            \
            a->loader = *loader;                                               \
        return 0;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

/* Reading. */
#define CACHE__ASYNC_DEFINE_FETCH(name)                                        \
    CACHE_UNUSED static inline int name##_fetch_with(                          \
        struct name##_async *a, struct name##_request *req, name##_key key,    \
        name##_value *out, const struct cache_fetch_options *options,          \
        name##_fetch_cb cb)                                                    \
    {                                                                          \
        if (a->base.state != CACHE_ASYNC_OPEN)                                 \
            return UV_ECANCELED;                                               \
        CACHE_ASSERT(cb != NULL);                                              \
        req->cb = cb;                                                          \
        req->base.many = NULL;                                                 \
        return cache__async_fetch(                                             \
            &a->base, &req->base, &key,                                        \
            name##__cells__hash(&a->cache->cells.base, &key), out, options,    \
            false);                                                            \
    }                                                                          \
    /* With a key of its own, so that a hit's stays in registers. */           \
    CACHE_COLD int name##__fetch_slowly(                                       \
        struct name##_async *a, struct name##_request *req, name##_key key,    \
        name##_value *out, name##_fetch_cb cb, bool absent_)                   \
    {                                                                          \
        CACHE_ASSERT(cb != NULL);                                              \
        req->cb = cb;                                                          \
        req->base.many = NULL;                                                 \
        return cache__async_fetch(                                             \
            &a->base, &req->base, &key,                                        \
            name##__cells__hash(&a->cache->cells.base, &key), out, NULL,       \
            absent_);                                                          \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch(                               \
        struct name##_async *a, struct name##_request *req, name##_key key,    \
        name##_value *out, name##_fetch_cb cb)                                 \
    {                                                                          \
        uint64_t hash_;                                                        \
        uint32_t slot_;                                                        \
        if (a->base.state != CACHE_ASYNC_OPEN)                                 \
            return UV_ECANCELED;                                               \
        hash_ = name##__cells__hash(&a->cache->cells.base, &key);              \
        slot_ = name##__cells__find(&a->cache->cells, &key, hash_);            \
        if (!name##__hit_at(a->cache, slot_, hash_, out))                      \
            return name##__fetch_slowly(a, req, key, out, cb, slot_ == 0);     \
        req->base.status = CACHE_FOUND;                                        \
        return 1;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch_many(                          \
        struct name##_async *a, struct cache_fetch_many *many,                 \
        struct name##_request *reqs, const name##_key *keys, size_t n_,        \
        name##_value *out, const struct cache_fetch_options *options,          \
        void (*cb)(struct cache_fetch_many * many))                            \
    {                                                                          \
        many->cb = cb;                                                         \
        return cache__async_fetch_many(&a->base, many, reqs, sizeof *reqs,     \
                                       keys, n_, out, options);                \
    }                                                                          \
    CACHE_UNUSED static inline int name##_fetch_cancel(                        \
        struct name##_request *req)                                            \
    {                                                                          \
        return cache__async_cancel(&req->base);                                \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_refresh(                       \
        struct name##_async *a, name##_key key)                                \
    {                                                                          \
        return cache__async_refresh(&a->base, &key);                           \
    }                                                                          \
    struct cache__swallow_semicolon

/* What a loader says. */
#define CACHE__ASYNC_DEFINE_LOADED(name)                                       \
    CACHE_UNUSED static inline void name##_loaded_with(                        \
        struct name##_batch *b, size_t i, name##_value value,                  \
        const struct cache_loaded *loaded)                                     \
    {                                                                          \
        cache__load_end(&b->load, i, &value, loaded, 0);                       \
    }                                                                          \
    CACHE_UNUSED static inline void name##_loaded(                             \
        struct name##_batch *b, size_t i, name##_value value)                  \
    {                                                                          \
        cache__load_end(&b->load, i, &value, NULL, 0);                         \
    }                                                                          \
    CACHE_UNUSED static inline void name##_load_failed(struct name##_batch *b, \
                                                       size_t i, int status)   \
    {                                                                          \
        cache__load_end(&b->load, i, NULL, NULL,                               \
                        status < 0 ? status : CACHE_EINVAL);                   \
    }                                                                          \
    CACHE_UNUSED static inline void name##_batch_failed(                       \
        struct name##_batch *b, int status)                                    \
    {                                                                          \
        cache__load_fail(&b->load, status < 0 ? status : CACHE_EINVAL);        \
    }                                                                          \
    struct cache__swallow_semicolon

/* Writing. */
#define CACHE__ASYNC_DEFINE_WRITE(name)                                        \
    CACHE_UNUSED static inline int name##__async_send(                         \
        struct name##_async *a, const name##_key *key,                         \
        const name##_value *value, const struct cache_writing *how)            \
    {                                                                          \
        struct cache_front_write w_;                                           \
        memset(&w_, 0, sizeof w_);                                             \
        w_.key = key;                                                          \
        w_.value = value;                                                      \
        return cache__async_write(&a->base, NULL, &w_, how);                   \
    }                                                                          \
    CACHE_UNUSED static inline int name##__async_send_ack(                     \
        struct name##_async *a, struct name##_write_request *req, bool puts,   \
        const struct cache_writing *how, name##_write_cb cb)                   \
    {                                                                          \
        CACHE_ASSERT(cb != NULL);                                              \
        req->base.tell = name##__async_tell_write;                             \
        memset(&req->base.write, 0, sizeof req->base.write);                   \
        req->base.write.key = &req->key;                                       \
        req->base.write.value = puts ? &req->value : NULL;                     \
        req->cb = cb;                                                          \
        return cache__async_write(&a->base, &req->base, &req->base.write,      \
                                  how);                                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put_with(                      \
        struct name##_async *a, name##_key key, name##_value value,            \
        const struct cache_writing *how)                                       \
    {                                                                          \
        return name##__async_send(a, &key, &value, how);                       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put(                           \
        struct name##_async *a, name##_key key, name##_value value)            \
    {                                                                          \
        return name##__async_send(a, &key, &value, NULL);                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put_ttl(                       \
        struct name##_async *a, name##_key key, name##_value value,            \
        uint64_t ttl_ms)                                                       \
    {                                                                          \
        struct cache_writing how_ = cache__write_default;                      \
        how_.ttl_ms = ttl_ms;                                                  \
        return ttl_ms == 0 ? CACHE_ETTL                                        \
                           : name##__async_send(a, &key, &value, &how_);       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_put_ack(                       \
        struct name##_async *a, struct name##_write_request *req,              \
        name##_key key, name##_value value, const struct cache_writing *how,   \
        name##_write_cb cb)                                                    \
    {                                                                          \
        req->key = key;                                                        \
        req->value = value;                                                    \
        return name##__async_send_ack(a, req, true, how, cb);                  \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_remove(struct name##_async *a, \
                                                       name##_key key)         \
    {                                                                          \
        return name##__async_send(a, &key, NULL, NULL);                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_async_remove_ack(                    \
        struct name##_async *a, struct name##_write_request *req,              \
        name##_key key, const struct cache_writing *how, name##_write_cb cb)   \
    {                                                                          \
        req->key = key;                                                        \
        return name##__async_send_ack(a, req, false, how, cb);                 \
    }                                                                          \
    CACHE_UNUSED static inline void name##_async_invalidate(                   \
        struct name##_async *a, enum cache_invalidation how)                   \
    {                                                                          \
        name##_invalidate(a->cache, how);                                      \
        cache__async_changed(&a->base, NULL, how);                             \
    }                                                                          \
    CACHE_UNUSED static inline void name##_async_invalidate_key(               \
        struct name##_async *a, name##_key key, enum cache_invalidation how)   \
    {                                                                          \
        name##_invalidate_key(a->cache, key, how);                             \
        cache__async_changed(&a->base, &key, how);                             \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_ASYNC_DEFINE(name), behind CACHE_DEFINE_LOADING(name, ...), makes:
 *
 * struct name_async         { struct cache_async base; ... }
 * struct name_request       { ...; void *data; }        data is yours
 * struct name_write_request { ...; void *data; }
 * struct name_batch         { ...; const K *keys; size_t n; void *data; }
 * struct name_loader        functions of yours, each optional:
 *   .load_batch  void (struct name_async *a, struct name_batch *b): has
 *                b->keys[0 .. b->n - 1] loaded.  Each has to end once, now or
 *                later, in any order, on the loop's thread: name_loaded,
 *                name_load_failed.  *b lives until the last has, and what
 *                b->keys[i] points to until that one has; b->data is yours.
 *                A key that was written while it waited may be there twice.
 *   .load_one    void (a, b, size_t i): the same for one key, b->keys[i].
 *   .group_by    uint32_t (const K *key, void *user): keys of a batch agree in
 *                this, modulo config.n_groups: a shard, a slot.  `user` is
 *                config.cache.user.
 *
 * int name_async_init(struct name_async *a, uv_loop_t *loop, struct name *c,
 *                     const struct cache_async_config *config,
 *                     const struct name_loader *loader)
 *   Gives a cache that is initialised to a loop.  config may be NULL.  Without
 *   a loader, or one that loads, config.store of the cache is what loads; or
 *   .load or .load_many of its type, on a thread.  Unless config.cache of *c
 *   has a clock, its time is uv_now from now on.  Waits for writes that *c has
 *   sent to the store before.
 *   Returns 0; CACHE_EINVAL (NULL, not open, on a loop already, groups without
 *   .group_by), CACHE_ENOSTORE (nothing loads), CACHE_ELIMIT, CACHE_EOWNER (its
 *   keys are pointers, and it has no .key_copy), CACHE_ENOMEM, CACHE_ESIZE, or
 *   libuv's error; then nothing is open or allocated.
 *
 * int name_fetch(a, struct name_request *req, K key, V *out, name_fetch_cb cb)
 *   1: the value is in *out, req->base.status says how it was found
 *      (enum cache_found), cb is not called.
 *   0: cb(req, status) is called later, exactly once and never from inside this
 *      call.  With status >= 0 the value is in *out, otherwise *out is not to
 *      be used: CACHE_EKEY (absent), UV_ETIMEDOUT, UV_ECANCELED, CACHE_ETIMEOUT
 *      (the loader's time was over), or what the load has failed with.
 *   negative: an error; cb is never called.  CACHE_EKEY (known to be absent),
 *      what a load has failed with lately, UV_ENOBUFS, UV_ECANCELED,
 *      CACHE_EBUSY (the key was claimed by name_claim), the codec's error.
 * int name_fetch_with(a, req, key, out, const struct cache_fetch_options *, cb)
 *   The same with options for this call.
 * int name_fetch_many(a, struct cache_fetch_many *many, struct name_request
 *                     *reqs, const K *keys, size_t n, V *out, options, void
 *                     (*cb)(struct cache_fetch_many *))
 *   The same for each; reqs[i].base.status is how it went, out[i] the value if
 *   that is not negative.  1: all are answered; 0: cb is called when the last
 *   one is.  UV_ECANCELED after close.
 * int name_fetch_cancel(struct name_request *req)
 *   0: cb is called with UV_ECANCELED in this turn of the loop; the load goes
 *   on.  UV_EBUSY: the request is not pending, or its answer is on its way.
 *   *req must have been zeroed before it was first used.
 * int name_async_refresh(a, K key)
 *   Has a key loaded anew, unless it is being loaded.  0, or fetch's errors.
 *
 * void name_loaded(b, size_t i, V value)
 * void name_loaded_with(b, i, value, const struct cache_loaded *loaded)
 *   A key of a batch has this value, which is the cache's from now on: what it
 *   does not keep, or what comes too late, .on_remove has.
 * void name_load_failed(b, i, int status), name_batch_failed(b, status)
 *   It has none (CACHE_EKEY), or the load has failed with another negative
 *   status; the second for all that have not ended.  Waiters are told in these
 *   calls.
 *
 * int name_async_put(a, K key, V value), name_async_put_ttl(.., ttl_ms),
 * int name_async_put_with(a, key, value, const struct cache_writing *how)
 *   Accepts the value: it is in the cache now and, behind, at the store later.
 *   Returns 0; CACHE_EFULL if too many keys are dirty, or the cache has no room
 *   (aside); CACHE_ETTL, CACHE_ETOOBIG, the codec's error; CACHE_ESTRATEGY: it
 *   goes through or around, which takes a request; UV_ECANCELED after close.
 *   Then neither the cache nor the store has it.
 * int name_async_put_ack(a, struct name_write_request *req, key, value, how, cb)
 *   The same; and cb(req, status) is called when the write is where how->ack, or
 *   config.ack, says.  Through and around: when the store has it, and the cache
 *   accordingly, or status is the store's error and the cache is as it was.
 *   Behind: status 0 at the level of memory, once the journal has it, or once
 *   the store has it and all that was written before; CACHE_EDEADLETTER if a
 *   write was given up meanwhile; or the journal's error: then the write is
 *   accepted and may yet get there.  how (may be NULL) is copied; how->version
 *   is not filled in by what goes through.
 * int name_async_remove(a, K key), name_async_remove_ack(a, req, key, how, cb)
 *   The same for its removal; 0 also if it is not there.
 * void name_async_invalidate(a, how), name_async_invalidate_key(a, key, how)
 *   As name_invalidate and name_invalidate_key, also for the caches that are in
 *   a group with this one.
 *
 * cache_async_flush(&a.base, ...), cache_async_close, cache_async_is_writable
 * and cache_async_write_stats need no type.  All of it on the loop's thread.
 */
#define CACHE_ASYNC_DEFINE(name)                                               \
    CACHE__ASYNC_DEFINE_TYPES(name);                                           \
    CACHE__ASYNC_DEFINE_HOOKS(name);                                           \
    CACHE__ASYNC_DEFINE_INIT(name);                                            \
    CACHE__ASYNC_DEFINE_FETCH(name);                                           \
    CACHE__ASYNC_DEFINE_LOADED(name);                                          \
    CACHE__ASYNC_DEFINE_WRITE(name)

#endif /* CACHE_ASYNC_H */
