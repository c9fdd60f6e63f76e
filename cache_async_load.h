/*
 * cache_async_load.h - how a fetch on a loop is answered: the part of the loop
 * half (cache_async.h) that reads.
 *
 * WHAT IT DOES
 *
 *     fetch --> cache__front_ask: hit, stale hit, known to be absent: a result
 *                 | the claim is ours            | it was ours already
 *                 v                              v
 *               a flight is queued  <--------  the request joins the flight
 *                 | prepare: a batch of each group
 *                 v
 *               loader of the type, store, or a thread with blocking callbacks
 *                 | each key when it is there
 *                 v
 *               cache__flight_land: into the cells, unless it was overtaken;
 *               all who wait are told, each with its own fallback
 *
 *   A claim of this half does not lapse: a batch that is overdue fails for all
 *   who wait, and what it still brings comes too late.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_LOAD_H
#define CACHE_ASYNC_LOAD_H

#include "cache_async_base.h"

#define CACHE__PENDING 10 /* no enum cache_found: the request waits */

/* --- waiters ------------------------------------------------------------- */

CACHE_INLINE struct cache_fetch *cache__fetch_of(struct cache_ring *ring)
{
    return (struct cache_fetch *)(void *)ring;
}

/* Takes a request out of wherever it waits. */
CACHE_WARM void cache__fetch_detach(struct cache_fetch *f)
{
    cache__ring_remove(&f->ring);
    if (f->due_ms != CACHE_NEVER)
        cache__heap_remove(f->async, f);
    f->due_ms = f->deadline_ms = CACHE_NEVER;
    f->record = 0;
}

/* Calls back a request that waits nowhere any more. */
CACHE_WARM void cache__fetch_tell(struct cache_fetch *f, int status)
{
    struct cache_fetch_many *many = f->many;

    f->status = status;
    if (many == NULL)
        f->async->type.tell(f);
    else if (--many->n_left == 0)
        many->cb(many);
}

/* Calls back each request of a ring with its own status.  A callback may
 * cancel others of it. */
CACHE_COLD void cache__fetch_tell_all(struct cache_ring *ring)
{
    while (!cache__ring_empty(ring)) {
        struct cache_fetch *f = cache__fetch_of(ring->next);

        cache__fetch_detach(f);
        cache__fetch_tell(f, f->status);
    }
}

/* The request is answered, and is told before the loop waits. */
CACHE_WARM void cache__fetch_tell_soon(struct cache_fetch *f, int status)
{
    f->record = 0;
    f->status = status;
    cache__ring_append(&f->async->to_tell, &f->ring);
    cache__async_wake(f->async);
}

/* Joins a flight.  due_ms and deadline_ms are set. */
CACHE_WARM void cache__fetch_wait(struct cache_fetch *f, uint32_t record)
{
    f->record = record;
    cache__ring_append(&f->async->flights[record].waiters, &f->ring);
    if (f->due_ms == CACHE_NEVER)
        return;
    cache__heap_add(f->async, f);
    cache__async_wake(f->async); /* the timer may have to ring sooner */
}

CACHE_WARM uint64_t cache__async_after(const struct cache_async *a,
                                       uint64_t timeout_ms, uint64_t otherwise)
{
    uint64_t ms = timeout_ms ? timeout_ms : otherwise;

    return ms ? cache__sum_ms(uv_now(a->loop), ms) : CACHE_NEVER;
}

/* --- flights: the queues ------------------------------------------------- */

/* A claim is ours: its key is loaded with others of its group. */
CACHE_WARM void cache__flight_start(struct cache_async *a, uint32_t record)
{
    const void *key = cache__claims_key(&a->front->claims, record);
    struct cache_flight *flight = &a->flights[record];
    uint32_t group = 0;
    struct cache_load_queue *q;

    if (a->config.n_groups > 1)
        group = a->type.group_by(a, key) % a->config.n_groups;
    q = &a->queues[group];
    CACHE_ASSERT(flight->state == CACHE_FLIGHT_NONE);
    flight->state = CACHE_FLIGHT_QUEUED;
    flight->next = 0;
    if (q->n++ == 0) {
        q->first = record;
        q->since_ms = uv_now(a->loop);
        q->next = 0;
        if (a->last_queue == 0)
            a->first_queue = group + 1;
        else
            a->queues[a->last_queue - 1].next = group + 1;
        a->last_queue = group + 1;
    } else {
        a->flights[q->last].next = record;
    }
    q->last = record;
    a->n_queued++;
    cache__async_wake(a);
}

/* When this queue is to be loaded. */
CACHE_INLINE uint64_t cache__queue_due_ms(const struct cache_async *a,
                                          const struct cache_load_queue *q)
{
    return q->n >= a->config.max_batch
               ? 0
               : cache__sum_ms(q->since_ms, a->config.max_wait_ms);
}

/* When the first queue is to be loaded; CACHE_NEVER = there is none, or there
 * is nobody to do it. */
CACHE_COLD uint64_t cache__async_load_due_ms(const struct cache_async *a)
{
    uint64_t due_ms = CACHE_NEVER;
    uint32_t q;

    if (a->free_loads == NULL || a->n_loading == a->config.max_batches)
        return CACHE_NEVER;
    for (q = a->first_queue; q != 0 && due_ms != 0; q = a->queues[q - 1].next) {
        uint64_t ms = cache__queue_due_ms(a, &a->queues[q - 1]);

        due_ms = ms < due_ms ? ms : due_ms;
    }
    return due_ms;
}

/* Takes the first queue out of the list, or, if keys are left in it, puts it
 * at the end. */
CACHE_COLD void cache__queue_rotate(struct cache_async *a)
{
    uint32_t q = a->first_queue;

    a->first_queue = a->queues[q - 1].next;
    if (a->first_queue == 0)
        a->last_queue = 0;
    if (a->queues[q - 1].n == 0)
        return;
    a->queues[q - 1].next = 0;
    if (a->last_queue == 0)
        a->first_queue = q;
    else
        a->queues[a->last_queue - 1].next = q;
    a->last_queue = q;
}

/* Takes the first flight out of a queue. */
CACHE_WARM uint32_t cache__queue_take(struct cache_async *a,
                                      struct cache_load_queue *q)
{
    uint32_t record = q->first;

    q->first = a->flights[record].next;
    q->n--;
    a->n_queued--;
    return record;
}

/* Takes the first flight of all. */
CACHE_COLD uint32_t cache__queue_pop(struct cache_async *a)
{
    struct cache_load_queue *q = &a->queues[a->first_queue - 1];
    uint32_t record = cache__queue_take(a, q);

    if (q->n == 0)
        cache__queue_rotate(a);
    return record;
}

/* --- flights: landing ---------------------------------------------------- */

/* Who waits for a load that has failed gets what it may have instead; that
 * there is no value is no failure. */
CACHE_COLD void cache__flight_fall_back(struct cache_async *a, uint32_t record,
                                        struct cache_ring *waiters, int error)
{
    const struct cache_pending *p = &a->front->claims.records[record];
    const void *key = cache__claims_key(&a->front->claims, record);
    struct cache_ring *at;

    for (at = waiters->next; at != waiters; at = at->next) {
        struct cache_fetch *f = cache__fetch_of(at);

        f->status = error == CACHE_EKEY
                        ? error
                        : cache__front_fallback(a->front, key, p->hash, f->out,
                                                &f->how, error);
    }
}

/* A load has ended: fills the cells and tells those who wait.  What the cells
 * do not keep lives until all are told. */
CACHE_WARM void cache__flight_land(struct cache_async *a, uint32_t record,
                                   const void *value,
                                   const struct cache_loaded *loaded,
                                   int status)
{
    struct cache_front *f = a->front;
    void *key = cache__claims_key(&f->claims, record);
    struct cache_ring waiters, *at;
    int rc, found;

    cache__ring_init(&waiters);
    cache__ring_move(&waiters, &a->flights[record].waiters);
    a->flights[record].state = CACHE_FLIGHT_NONE;
    if (status != 0)
        cache__flight_fall_back(a, record, &waiters, status);
    cache__claims_unlink(&f->claims, record); /* who asks now, asks anew */
    f->claims.records[record].ticket = ++f->claims.ticket; /* it ends once */
    rc = cache__front_arrive(f, record, value, loaded, status, false);
    found = rc == 0 ? CACHE_FOUND : CACHE_FOUND_UNSTORED;
    for (at = waiters.next; at != &waiters && status == 0; at = at->next) {
        cache__fetch_of(at)->status = found;
        memcpy(cache__fetch_of(at)->out, value, f->type->value_bytes);
    }
    cache__fetch_tell_all(&waiters);
    if (status == 0 && rc != 0)
        f->type->discard(key, value, f->config.cache.user);
    cache__front_release(f, record, CACHE__ASK_AGAIN);
    if (!cache__ring_empty(&a->to_write))
        cache__async_wake(a); /* one may have waited for the record */
}

/* --- batches ------------------------------------------------------------- */

CACHE_INLINE struct cache_load *cache__load_of(struct cache_ring *ring)
{
    return (struct cache_load *)(void *)((char *)ring -
                                         offsetof(struct cache_load, ring));
}

CACHE_INLINE void *cache__load_value(const struct cache_load *load, size_t i)
{
    return load->values + i * load->job.async->front->type->value_bytes;
}

CACHE_INLINE void *cache__load_key(const struct cache_load *load, size_t i)
{
    return load->keys + i * load->job.async->front->type->key_bytes;
}

/* The record of a key is nobody's while its load goes on: the loader may still
 * look at the key, which is the load's from now on. */
CACHE_COLD void cache__load_lend_key(struct cache_async *a, uint32_t record)
{
    a->front->claims.records[record].lent = true;
}

CACHE_COLD void cache__load_free_key(const struct cache_load *load, size_t i)
{
    const struct cache_front *f = load->job.async->front;

    if (cache__front_has(f, CACHE__HAS_KEY_FREE))
        f->type->key_free(cache__load_key(load, i), f->config.cache.user);
}

/* What comes when nobody waits for it any more. */
CACHE_COLD void cache__load_late(const struct cache_load *load, size_t i,
                                 const void *value, int status)
{
    struct cache_async *a = load->job.async;

    a->stats.n_late++;
    if (status == 0)
        a->front->type->discard(cache__load_key(load, i), value,
                                a->front->config.cache.user);
    cache__load_free_key(load, i);
}

/* A batch has nothing to bring any more. */
CACHE_COLD void cache__load_free(struct cache_load *load)
{
    struct cache_async *a = load->job.async;

    cache__ring_remove(&load->ring);
    if (!load->overdue)
        a->n_loading--;
    load->next_free = a->free_loads;
    a->free_loads = load;
    cache__async_wake(a);
}

/* One key of a batch has its result, which lives during the call. */
CACHE_WARM void cache__load_end(struct cache_load *load, size_t i,
                                const void *value,
                                const struct cache_loaded *loaded, int status)
{
    static const struct cache_loaded plain = { 0, 0, 0, 0 };
    struct cache_claim claim = load->claims[i];
    struct cache_async *a = load->job.async;

    CACHE_ASSERT(i < load->n && claim.record != 0 &&
                 "a key of a batch has its result twice");
    if (i >= load->n || claim.record == 0)
        return;
    load->claims[i].record = 0;
    if (cache__claims_held(&a->front->claims, &claim, 0) != NULL)
        cache__flight_land(a, claim.record, value, loaded ? loaded : &plain,
                           status);
    else
        cache__load_late(load, i, value, status);
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* All that a batch has not brought yet has failed. */
CACHE_COLD void cache__load_fail(struct cache_load *load, int status)
{
    size_t i, n = load->n;

    load->n_left++; /* it stays until the end */
    for (i = 0; i < n; i++)
        if (load->claims[i].record != 0)
            cache__load_end(load, i, NULL, NULL, status);
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* A batch has taken too long: nobody waits for it any more. */
CACHE_COLD void cache__load_overdue(struct cache_load *load)
{
    struct cache_async *a = load->job.async;
    size_t i, n = load->n;

    a->stats.n_overdue++;
    a->n_loading--;
    load->overdue = true;
    cache__ring_remove(&load->ring);
    cache__ring_append(&a->overdue, &load->ring);
    load->n_left++;
    for (i = 0; i < n; i++) {
        struct cache_claim claim = load->claims[i];

        if (claim.record != 0 &&
            cache__claims_held(&a->front->claims, &claim, 0) != NULL) {
            cache__load_lend_key(a, claim.record);
            cache__flight_land(a, claim.record, NULL, NULL, CACHE_ETIMEOUT);
        }
    }
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* --- batches: where they go ---------------------------------------------- */

/* A thread calls the blocking callbacks. */
CACHE_COLD void cache__load_run(struct cache_job *job)
{
    struct cache_load *load = (struct cache_load *)(void *)job;
    const struct cache__loader strategy = { NULL, NULL, false };

    cache__front_load_all(load->job.async->front, &strategy, load->keys,
                          load->values, load->loaded, load->n);
    cache__job_done(&load->job);
}

CACHE_COLD void cache__load_came_back(struct cache_async_job *job)
{
    struct cache_load *load = (struct cache_load *)(void *)job;
    size_t i, n = load->n;

    load->n_left++;
    for (i = 0; i < n; i++)
        cache__load_end(load, i, cache__load_value(load, i), &load->loaded[i],
                        load->loaded[i].status);
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* A thread waits while the store works. */
CACHE_COLD void cache__load_submit(struct cache_job *job)
{
    struct cache_load *load = (struct cache_load *)(void *)job;

    cache__job_submit_here(load->job.async, &load->batch);
}

/* The store has answered. */
CACHE_COLD void cache__load_answered(struct cache_async_job *job)
{
    struct cache_load *load = (struct cache_load *)(void *)job;
    struct cache_async *a = load->job.async;
    size_t i, n = load->n;

    load->n_left++;
    for (i = 0; i < n; i++) {
        struct cache_loaded loaded = { 0, 0, 0, 0 };
        int rc = cache__front_found(a->front, &load->batch.items[i],
                                    a->value_object, &loaded);

        cache__load_end(load, i, a->value_object, &loaded, rc);
    }
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* Sends the keys of a batch to the store; what has no encoding fails. */
CACHE_COLD void cache__load_encode(struct cache_load *load)
{
    struct cache_async *a = load->job.async;
    struct cache_front *f = a->front;
    size_t i, n = load->n;

    load->n = load->batch.n_items = 0;
    for (i = 0; i < n; i++) {
        struct cache_store_item *item = &load->batch.items[load->n];
        struct cache_claim claim = load->claims[i];
        int rc;

        item->value.data = item->buffer;
        item->value.len = 0;
        item->expires_ms = 0;
        item->status = 0;
        rc = cache__front_encode(f->config.key_codec, cache__load_key(load, i),
                                 &item->key);
        if (rc != 0) {
            cache__flight_land(a, claim.record, NULL, NULL, rc);
            continue;
        }
        memmove(cache__load_key(load, load->n), cache__load_key(load, i),
                f->type->key_bytes);
        load->claims[load->n++] = claim;
    }
    load->n_left -= n - load->n;
    load->batch.n_items = load->n;
    load->job.land = cache__load_answered;
    if (load->n > 0)
        cache__job_submits(a, &load->job, &load->batch, cache__load_submit);
}

/* Has the keys of a batch loaded, by whatever loads. */
CACHE_COLD void cache__load_start(struct cache_load *load)
{
    struct cache_async *a = load->job.async;
    size_t i, n = load->n;

    a->stats.n_batches++;
    a->stats.n_loads += n;
    load->n_left = n + 1; /* it stays while this function works */
    if (a->type.load_one) {
        for (i = 0; i < n; i++)
            if (load->claims[i].record != 0) /* name_batch_failed meanwhile */
                a->type.load_one(load, i);
    } else if (a->type.load) {
        a->type.load(load);
    } else if (a->front->config.store != NULL) {
        cache__load_encode(load);
    } else {
        memset(load->loaded, 0, n * sizeof *load->loaded);
        load->job.land = cache__load_came_back;
        cache__job_post(a, &load->job, cache__load_run);
    }
    if (--load->n_left == 0)
        cache__load_free(load);
}

/* The next batch: keys of the first queue that is due.  NULL = there is none,
 * or no room. */
CACHE_COLD struct cache_load *cache__load_next(struct cache_async *a)
{
    struct cache_load *load = a->free_loads;
    struct cache_load_queue *q;
    uint32_t n = 0, first = a->first_queue;

    if (load == NULL || first == 0 || a->n_loading == a->config.max_batches)
        return NULL;
    while (cache__queue_due_ms(a, &a->queues[a->first_queue - 1]) >
           uv_now(a->loop)) {
        cache__queue_rotate(a);
        if (a->first_queue == first)
            return NULL;
    }
    q = &a->queues[a->first_queue - 1];
    a->free_loads = load->next_free;
    while (q->n > 0 && n < a->config.max_batch) {
        uint32_t record = cache__queue_take(a, q);

        a->flights[record].state = CACHE_FLIGHT_LOADING;
        load->claims[n].record = record;
        load->claims[n].ticket = a->front->claims.records[record].ticket;
        memcpy(load->keys + n * a->front->type->key_bytes,
               cache__claims_key(&a->front->claims, record),
               a->front->type->key_bytes);
        n++;
    }
    cache__queue_rotate(a);
    load->n = n;
    load->overdue = false;
    load->due_ms = cache__sum_ms(uv_now(a->loop), a->config.load_timeout_ms);
    cache__ring_append(&a->loading, &load->ring);
    a->n_loading++;
    return load;
}

/* Flights that are queued end with this error; those that callbacks begin
 * meanwhile do not. */
CACHE_COLD void cache__async_fail_queued(struct cache_async *a, int status)
{
    uint32_t n;

    for (n = a->n_queued; n > 0; n--)
        cache__flight_land(a, cache__queue_pop(a), NULL, NULL, status);
}

/* Sends what is due; what callbacks of a loader that answers at once add has
 * its turn later, or they could hold the loop for ever.  When every batch is
 * overdue, and none is left to load with, those who are queued do not wait. */
CACHE_COLD void cache__async_send_loads(struct cache_async *a)
{
    size_t n = a->n_queued;
    struct cache_load *load;

    while (n > 0 && a->state == CACHE_ASYNC_OPEN &&
           (load = cache__load_next(a)) != NULL) {
        n -= load->n < n ? load->n : n;
        cache__load_start(load);
    }
    if (a->free_loads == NULL && a->n_loading == 0)
        cache__async_fail_queued(a, CACHE_ETIMEOUT);
}

/* Deals with batches that are overdue. */
CACHE_COLD void cache__async_check_loads(struct cache_async *a)
{
    struct cache_load *load;

    while (!cache__ring_empty(&a->loading)) {
        load = cache__load_of(a->loading.next);
        if (load->due_ms > uv_now(a->loop))
            break;
        cache__load_overdue(load);
    }
}

/* --- fetch --------------------------------------------------------------- */

/* Asks the front.  Returns an enum cache_found, an error, or CACHE__PENDING:
 * then *record is the claim to wait for. */
CACHE_WARM int cache__async_ask(struct cache_async *a, struct cache_fetch *f,
                                const void *key, uint64_t hash,
                                uint32_t *record)
{
    struct cache__reader look = cache__reader_of(key, hash, f->out, &f->how);
    struct cache_claim claim = { 0, 0 };
    int answer;

    look.keep_old = true;
    look.claim = f->how.skip_store ? NULL : &claim;
    answer = cache__front_ask(a->front, &look);
    if (claim.ticket != 0)
        cache__flight_start(a, claim.record);
    if (answer >= 0 && look.served)
        return cache__reader_found(&look);
    if (answer < 0)
        return answer == CACHE_EFULL ? UV_ENOBUFS : answer;
    if (f->how.skip_store)
        return CACHE_EKEY;
    if (a->flights[look.record].state == CACHE_FLIGHT_NONE)
        return CACHE_EBUSY; /* who has claimed it is not of this half */
    a->stats.n_joined += claim.ticket == 0;
    *record = look.record;
    return CACHE__PENDING;
}

static const struct cache_fetch_options cache__fetch_default CACHE_UNUSED = {
    { CACHE_STALE_DEFAULT, false, false, false, 0, 0 }, 0, 0, false
};

/* What the cells do not have at once: name_fetch, without the type. */
CACHE_COLD int cache__async_fetch(struct cache_async *a, struct cache_fetch *f,
                                  const void *key, uint64_t hash, void *out,
                                  const struct cache_fetch_options *options)
{
    uint64_t soft_ms;
    uint32_t record = 0;
    int rc;

    options = options ? options : &cache__fetch_default;
    f->async = a;
    f->out = out;
    f->how = options->reading;
    rc = cache__async_ask(a, f, key, hash, &record);
    f->due_ms = f->deadline_ms = CACHE_NEVER;
    f->status = rc;
    f->ring.next = NULL;
    if (rc != CACHE__PENDING && !options->always_async)
        return rc < 0 ? rc : 1;
    if (rc != CACHE__PENDING) {
        cache__fetch_tell_soon(f, rc);
        return 0;
    }
    f->deadline_ms =
        cache__async_after(a, options->timeout_ms, a->config.timeout_ms);
    soft_ms = cache__async_after(a, options->soft_timeout_ms,
                                 a->config.soft_timeout_ms);
    f->due_ms = soft_ms < f->deadline_ms ? soft_ms : f->deadline_ms;
    cache__fetch_wait(f, record);
    return 0;
}

/* name_async_refresh, without the type: nobody waits. */
CACHE_COLD int cache__async_refresh(struct cache_async *a, const void *key)
{
    struct cache_fetch f;
    uint32_t record;
    int rc;

    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    memset(&f, 0, sizeof f);
    f.out = a->value_object;
    f.how.skip_read = true;
    rc = cache__async_ask(a, &f, key, a->front->type->hash(a->front, key),
                          &record);
    return rc < 0 ? rc : 0;
}

/* name_fetch_many, without the type. */
CACHE_COLD int
cache__async_fetch_many(struct cache_async *a, struct cache_fetch_many *many,
                        void *requests, size_t request_bytes, const void *keys,
                        size_t n, void *out,
                        const struct cache_fetch_options *options)
{
    const struct cache_front_type *type = a->front->type;
    size_t i;

    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    many->n_left = 0;
    for (i = 0; i < n; i++) {
        struct cache_fetch *f =
            (struct cache_fetch *)(void *)((char *)requests +
                                           i * request_bytes);
        const void *key = (const char *)keys + i * type->key_bytes;

        f->many = many;
        many->n_left += cache__async_fetch(a, f, key, type->hash(a->front, key),
                                           (char *)out + i * type->value_bytes,
                                           options) == 0;
    }
    return many->n_left == 0;
}

/* name_fetch_cancel, without the type. */
CACHE_COLD int cache__async_cancel(struct cache_fetch *f)
{
    if (f->ring.next == NULL || f->record == 0)
        return UV_EBUSY;
    cache__fetch_detach(f);
    f->async->stats.n_cancelled++;
    cache__fetch_tell_soon(f, UV_ECANCELED);
    return 0;
}

/* The write of a key has ended: who waited for it asks again. */
CACHE_COLD void cache__flight_ask_again(struct cache_async *a,
                                        struct cache_ring *waiters,
                                        const void *key, uint64_t hash)
{
    while (!cache__ring_empty(waiters)) {
        struct cache_fetch *f = cache__fetch_of(waiters->next);
        uint32_t record = 0;
        int rc = cache__async_ask(a, f, key, hash, &record);

        if (rc == CACHE__PENDING) {
            cache__ring_remove(&f->ring);
            f->record = record;
            cache__ring_append(&a->flights[record].waiters, &f->ring);
            continue;
        }
        cache__fetch_detach(f);
        cache__fetch_tell(f, rc); /* now: the next write may evict the value */
    }
}

/* --- deadlines ----------------------------------------------------------- */

/* A soft deadline: any value that is there will do. */
CACHE_COLD bool cache__fetch_soften(struct cache_async *a,
                                    struct cache_fetch *f)
{
    const struct cache_pending *p = &a->front->claims.records[f->record];
    struct cache_reading how = f->how;
    int rc;

    how.stale = how.stale == CACHE_STALE_NEVER ? how.stale : CACHE_STALE_ALWAYS;
    rc = cache__front_fallback(a->front,
                               cache__claims_key(&a->front->claims, f->record),
                               p->hash, f->out, &how, CACHE_EKEY);
    if (rc < 0)
        return false;
    cache__fetch_detach(f);
    a->stats.n_softened++;
    cache__fetch_tell(f, rc);
    return true;
}

CACHE_COLD void cache__async_check_deadlines(struct cache_async *a)
{
    struct cache_fetch *f;

    while ((f = a->deadlines) != NULL && f->due_ms <= uv_now(a->loop)) {
        if (f->due_ms < f->deadline_ms) {
            if (cache__fetch_soften(a, f))
                continue;
            cache__heap_remove(a, f);
            f->due_ms = f->deadline_ms;
            if (f->due_ms != CACHE_NEVER)
                cache__heap_add(a, f);
            continue;
        }
        cache__fetch_detach(f);
        a->stats.n_timeouts++;
        cache__fetch_tell(f, UV_ETIMEDOUT);
    }
}

/* Every fetch that waits has UV_ECANCELED; what was not sent yet is not sent
 * at all.  A load under way fills the cells when it comes. */
CACHE_COLD void cache__async_cancel_all(struct cache_async *a)
{
    struct cache_ring all;
    uint32_t r;

    cache__ring_init(&all);
    for (r = 1; r <= a->front->claims.n; r++) {
        struct cache_ring *waiters = &a->flights[r].waiters;

        while (!cache__ring_empty(waiters)) {
            struct cache_fetch *f = cache__fetch_of(waiters->next);

            cache__fetch_detach(f);
            f->status = UV_ECANCELED;
            cache__ring_append(&all, &f->ring);
        }
    }
    cache__fetch_tell_all(&all);
    while (a->first_queue != 0) {
        r = cache__queue_pop(a);
        a->flights[r].state = CACHE_FLIGHT_NONE;
        cache__front_release(a->front, r, CACHE__ASK_AGAIN);
    }
    if (!cache__ring_empty(&a->to_write))
        cache__async_wake(a); /* there are records again */
}

#endif /* CACHE_ASYNC_LOAD_H */
