/*
 * cache_async_write.h - how a write on a loop finds its way to cells, journal
 * and store: the part of the loop half (cache_async.h) that writes.
 *
 * WHAT IT DOES
 *
 *     aside            cells
 *     through, around  the key is claimed; with others of this turn to the
 *                      store; cells; the callback
 *     behind           cache__front_write_behind: journal, dirty buffer, cells;
 *                      batches go out by timer, each when the journal has it
 *     acknowledgement  a list each for what waits for the journal, and for the
 *                      store, in the order of the writes
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_WRITE_H
#define CACHE_ASYNC_WRITE_H

#include "cache_async_load.h"

CACHE_INLINE struct cache_async_write *cache__write_of(struct cache_ring *ring)
{
    return (struct cache_async_write *)(void *)ring;
}

/* The write is answered, and is told before the loop waits. */
CACHE_COLD void cache__write_tell_soon(struct cache_async_write *w, int status)
{
    w->status = status;
    cache__ring_append(&w->async->written, &w->ring);
    cache__async_wake(w->async);
}

/* Calls back what is to be told now; what a callback adds has its turn later,
 * or it could hold the loop for ever. */
CACHE_COLD void cache__async_tell_writes(struct cache_async *a)
{
    struct cache_ring now;

    cache__ring_init(&now);
    cache__ring_move(&now, &a->written);
    while (!cache__ring_empty(&now)) {
        struct cache_async_write *w = cache__write_of(now.next);

        cache__ring_remove(&w->ring);
        w->tell(w);
    }
}

CACHE_COLD void cache__flush_tell(struct cache_async_write *w)
{
    struct cache_flush *flush = (struct cache_flush *)(void *)w;

    flush->cb(flush, w->status);
}

/* Writes that were given up so far. */
CACHE_INLINE uint64_t cache__async_n_dead(const struct cache_async *a)
{
    return a->front->writes.stats.n_dead + a->front->writes.stats.n_lost;
}

/* --- acknowledgements ---------------------------------------------------- */

/* Waits for a version: in the journal, or, by and by, at the store. */
CACHE_COLD void cache__write_wait(struct cache_async_write *w,
                                  struct cache_ring *list, uint64_t version)
{
    w->barrier = version;
    w->n_dead = cache__async_n_dead(w->async);
    cache__ring_append(list, &w->ring);
}

/* The journal has this write, if there is one. */
CACHE_INLINE bool cache__write_is_journaled(const struct cache_async_write *w)
{
#ifdef CACHE__THREADS
    const struct cache_front *f = w->async->front;

    return !f->journals ||
           w->write.ticket.seq <= cache_journal_durable(&f->journal);
#else
    (void)w;
    return true;
#endif
}

/* Whoever waits for the store is told what it has come to.  What the journal
 * lacks is not safe there: after a crash an older write would be replayed over
 * it. */
CACHE_COLD void cache__async_check_stored(struct cache_async *a)
{
    const uint64_t n_dead = cache__async_n_dead(a);

    while (!cache__ring_empty(&a->unstored)) {
        struct cache_async_write *w = cache__write_of(a->unstored.next);

        if (!cache_wb_is_stored(&a->front->writes, w->barrier))
            return;
        cache__ring_remove(&w->ring);
        if (w->n_dead != n_dead)
            cache__write_tell_soon(w, CACHE_EDEADLETTER);
        else if (cache__write_is_journaled(w))
            cache__write_tell_soon(w, 0);
        else
            cache__ring_append(&a->unjournaled, &w->ring);
    }
}

#ifdef CACHE__THREADS
/* The journal's thread has committed, or failed to. */
CACHE_COLD void cache__async_on_commit(void *user)
{
    struct cache_async *a = (struct cache_async *)user;

    uv_mutex_lock(&a->lock);
    (void)uv_async_send(&a->doorbell);
    uv_mutex_unlock(&a->lock);
}

/* Whoever waits for the journal is told what it has come to. */
CACHE_COLD void cache__async_check_journal(struct cache_async *a)
{
    struct cache_ring *at, *next;

    for (at = a->unjournaled.next; at != &a->unjournaled; at = next) {
        struct cache_async_write *w = cache__write_of(at);
        int rc = cache_journal_wait(&a->front->journal, &w->write.ticket, 0);

        next = at->next;
        if (rc == CACHE_ETIMEOUT)
            return;
        cache__ring_remove(&w->ring);
        cache__write_tell_soon(w, rc);
    }
}

/* A flush waits for all that was appended; what has failed before now is not
 * told again. */
CACHE_COLD void cache__async_await_appended(struct cache_async *a,
                                            struct cache_async_write *w)
{
    w->write.ticket = a->front->ticket;
    if (a->front->journals)
        (void)cache_journal_wait(&a->front->journal, &w->write.ticket, 0);
}

/* What the store is to have, the journal has first; if it fails, the store is
 * what there is. */
CACHE_COLD bool cache__async_is_journaled(struct cache_async *a)
{
    struct cache_journal_ticket ticket = a->held_ticket;
    int rc;

    if (!a->front->journals || ticket.seq == 0)
        return true;
    rc = cache_journal_wait(&a->front->journal, &ticket, 0);
    return rc != CACHE_ETIMEOUT;
}
#else
CACHE_COLD void cache__async_check_journal(struct cache_async *a)
{
    (void)a;
}

CACHE_COLD void cache__async_await_appended(struct cache_async *a,
                                            struct cache_async_write *w)
{
    (void)a;
    (void)w;
}

CACHE_COLD bool cache__async_is_journaled(struct cache_async *a)
{
    (void)a;
    return true;
}
#endif

/* --- write-behind -------------------------------------------------------- */

/* A thread calls the blocking callbacks. */
CACHE_COLD void cache__behind_run(struct cache_job *job)
{
    struct cache_async_behind *b = (struct cache_async_behind *)(void *)job;

    cache__front_store_objects(b->job.async->front, b->batch);
    cache__job_done(&b->job);
}

/* A thread waits while the store works. */
CACHE_COLD void cache__behind_submit(struct cache_job *job)
{
    struct cache_async_behind *b = (struct cache_async_behind *)(void *)job;

    cache__job_submit_here(b->job.async, b->batch);
}

/* Others have loaded what the store had before. */
CACHE_COLD void cache__behind_tell_member(struct cache_async *a,
                                          const struct cache_store_batch *batch)
{
    const struct cache_codec *codec = a->front->config.key_codec;
    size_t i;

    if (a->guests[CACHE__GUEST_MEMBER] == NULL)
        return;
    for (i = 0; i < batch->n_items; i++) {
        const struct cache_store_item *item = &batch->items[i];
        int rc =
            codec->decode(codec, item->key.data, item->key.len, a->key_object);

        if (item->status == 0) /* what has no key any more may be any */
            cache__async_changed(a, rc == 0 ? a->key_object : NULL,
                                 CACHE_INVALIDATE_HARD);
    }
}

CACHE_COLD void cache__behind_land(struct cache_async_job *job)
{
    struct cache_async_behind *b = (struct cache_async_behind *)(void *)job;
    struct cache_async *a = b->job.async;

    cache__behind_tell_member(a, b->batch);
    b->batch->next = NULL;
    a->front->returned = b->batch;
    cache__front_collect(a->front);
    b->batch = NULL;
}

/* When a batch is due, on the loop's clock: its writes have the cache's. */
CACHE_COLD uint64_t cache__async_behind_due_ms(const struct cache_async *a)
{
    const struct cache_front *f = a->front;
    uint64_t due_ms = f->behind && a->held == NULL ? cache_wb_due_ms(&f->writes)
                                                   : CACHE_NEVER;
    uint64_t now_ms = due_ms < CACHE_NEVER ? cache__clock_ms(&f->clock) : 0;

    if (due_ms == CACHE_NEVER)
        return CACHE_NEVER;
    return due_ms > now_ms ? cache__sum_ms(uv_now(a->loop), due_ms - now_ms)
                           : 0;
}

/* Sends what is due. */
CACHE_COLD void cache__async_send_behind(struct cache_async *a)
{
    struct cache_front *f = a->front;
    struct cache_async_behind *b = a->held;
    struct cache_store_batch *batch;

    while (f->behind) {
        if (b == NULL) {
            batch = cache_wb_next_batch(&f->writes, cache__clock_ms(&f->clock));
            if (batch == NULL)
                return;
            for (b = a->behinds; b->batch != NULL;)
                b++;
            b->batch = batch;
            a->held = b;
#ifdef CACHE__THREADS
            a->held_ticket = f->ticket;
#endif
        }
        if (!cache__async_is_journaled(a))
            return; /* the journal rings */
        a->held = NULL;
        if (f->config.store != NULL)
            cache__job_submits(a, &b->job, b->batch, cache__behind_submit);
        else
            cache__job_post(a, &b->job, cache__behind_run);
        b = NULL;
    }
}

/* There is room again for who was told that there is not. */
CACHE_COLD void cache__async_check_room(struct cache_async *a)
{
    if (!a->wants_room || a->state != CACHE_ASYNC_OPEN ||
        cache_wb_n_dirty(&a->front->writes) > a->config.low_water)
        return;
    a->wants_room = false;
    if (a->config.on_writable)
        a->config.on_writable(a);
}

/* --- writes that go through ---------------------------------------------- */

CACHE_COLD void cache__through_run(struct cache_job *job)
{
    struct cache_async_through *t = (struct cache_async_through *)(void *)job;

    cache__front_store_all(t->job.async->front, t->writes, t->n);
    cache__job_done(&t->job);
}

CACHE_COLD void cache__through_submit(struct cache_job *job)
{
    struct cache_async_through *t = (struct cache_async_through *)(void *)job;

    cache__job_submit_here(t->job.async, &t->batch);
}

/* The store has answered for one write. */
CACHE_COLD void cache__through_end(struct cache_async *a,
                                   struct cache_async_write *w, int status)
{
    const uint32_t record = w->write.record;
    struct cache_ring waiters;

    cache__ring_init(&waiters);
    cache__ring_move(&waiters, &a->flights[record].waiters);
    a->flights[record].state = CACHE_FLIGHT_NONE;
    a->stats.n_written++;
    w->write.status = status;
    (void)cache__front_end_write(a->front, &w->write, w->keep);
    if (status == 0)
        cache__async_changed(a, w->write.key, CACHE_INVALIDATE_HARD);
    cache__flight_ask_again(a, &waiters, w->write.key, w->write.hash);
    cache__write_tell_soon(w, status);
}

CACHE_COLD void cache__through_land(struct cache_async_job *job)
{
    struct cache_async_through *t = (struct cache_async_through *)(void *)job;
    struct cache_async *a = t->job.async;
    size_t i;

    for (i = 0; i < t->n; i++)
        cache__through_end(a, t->requests[i],
                           a->front->config.store ? t->batch.items[i].status
                                                  : t->writes[i].status);
    t->next_free = a->free_throughs;
    a->free_throughs = t;
}

/* Puts one write into a batch for the store.  Returns 0 or the codec's error.
 */
CACHE_COLD int cache__through_encode(struct cache_async *a,
                                     struct cache_store_item *item,
                                     const struct cache_front_write *w)
{
    const struct cache_loading_config *config = &a->front->config;
    int rc;

    item->op = w->value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    item->expires_ms = w->storing.expires_ms;
    item->version = w->storing.version;
    item->value.data = item->buffer;
    item->value.len = 0;
    item->status = 0;
    rc = cache__front_encode(config->key_codec, w->key, &item->key);
    if (rc == 0 && w->value)
        rc = cache__front_encode(config->value_codec, w->value, &item->value);
    return rc;
}

/* Claims the key of a write and adds it to a batch.  Returns whether it is not
 * waiting any more; false = another write of its key is under way. */
CACHE_COLD bool cache__through_add(struct cache_async *a,
                                   struct cache_async_through *t,
                                   struct cache_async_write *w)
{
    int rc = cache__front_begin_write(a->front, &w->write, 0, false);

    if (rc == CACHE_EBUSY || rc == CACHE_EFULL)
        return false;
    cache__ring_remove(&w->ring);
    if (rc != 0) {
        cache__write_tell_soon(w, rc);
        return true;
    }
    a->flights[w->write.record].state = CACHE_FLIGHT_WRITING;
    if (a->front->config.store != NULL)
        rc = cache__through_encode(a, &t->batch.items[t->n], &w->write);
    else
        t->writes[t->n] = w->write;
    if (rc != 0) {
        cache__through_end(a, w, rc);
        return true;
    }
    t->requests[t->n++] = w;
    return true;
}

/* Sends what waits to go through, max_batch at a time; a key that is being
 * written has its turn when that is done. */
CACHE_COLD void cache__async_send_through(struct cache_async *a)
{
    struct cache_async_through *t;
    struct cache_ring *at, *next;

    while (!cache__ring_empty(&a->to_write) && a->free_throughs != NULL) {
        t = a->free_throughs;
        t->n = 0;
        for (at = a->to_write.next;
             at != &a->to_write && t->n < a->config.max_batch; at = next) {
            next = at->next;
            (void)cache__through_add(a, t, cache__write_of(at));
        }
        if (t->n == 0)
            return;
        a->free_throughs = t->next_free;
        t->batch.n_items = t->n;
        if (a->front->config.store != NULL)
            cache__job_submits(a, &t->job, &t->batch, cache__through_submit);
        else
            cache__job_post(a, &t->job, cache__through_run);
    }
}

/* --- write --------------------------------------------------------------- */

/* A write that goes behind, or aside. */
CACHE_COLD int cache__async_write_now(struct cache_async *a,
                                      struct cache_front_write *fw,
                                      const struct cache_writing *how,
                                      bool keep)
{
    struct cache_front *f = a->front;
    int rc;

    if (f->behind && !how->skip_store) {
        rc = cache__front_write_behind(f, fw, keep, 0);
        if (rc == CACHE_ETIMEOUT)
            rc = CACHE_EFULL; /* the journal's buffer is */
        if (rc == CACHE_EFULL ||
            cache_wb_n_dirty(&f->writes) >= a->config.high_water)
            a->wants_room = true;
        cache__async_wake(a);
    } else {
        rc = cache__front_expects(f, fw);
        if (rc != 0)
            return rc;
        cache__front_overtake(f, fw->key, fw->hash);
        rc = cache__front_apply(f, fw, keep);
    }
    if (rc == 0)
        cache__async_changed(a, fw->key, CACHE_INVALIDATE_HARD);
    return rc;
}

/* Where a write that is accepted waits for what acknowledges it. */
CACHE_COLD void cache__async_acknowledge(struct cache_async *a,
                                         struct cache_async_write *w,
                                         enum cache_ack ack)
{
    const uint64_t version = a->front->writes.version;

    if (ack == CACHE_ACK_STORE) {
        (void)cache_wb_flush(&a->front->writes);
        cache__write_wait(w, &a->unstored, version);
    } else if (ack == CACHE_ACK_JOURNAL) {
        cache__write_wait(w, &a->unjournaled, version);
    } else {
        cache__write_tell_soon(w, 0);
    }
}

/*
 * name_async_put, _put_ack and their removals, without the type: `w` is NULL
 * where nobody is told.  With `w`, w->write has the write, whose key and value
 * live as long.
 */
CACHE_COLD int cache__async_write(struct cache_async *a,
                                  struct cache_async_write *w,
                                  struct cache_front_write *fw,
                                  const struct cache_writing *how)
{
    struct cache_front *f = a->front;
    enum cache_ack ack;
    bool keep, behind;
    int rc;

    if (a->state != CACHE_ASYNC_OPEN)
        return UV_ECANCELED;
    how = how ? how : &cache__write_default;
    ack = how->ack ? how->ack : f->config.ack;
    keep = cache__front_keeps(f, how);
    behind = f->behind && !how->skip_store;
    if (ack == CACHE_ACK_JOURNAL && !cache__front_journals(f))
        return CACHE_EINVAL;
    if (cache__front_goes_through(f, how) && w == NULL)
        return CACHE_ESTRATEGY;
    fw->hash = f->type->hash(f, fw->key);
    rc = cache__front_prepare(f, fw, how);
    if (rc != 0)
        return rc;
    fw->storing.expires_ms = cache__front_expires(f, how);
    if (w != NULL) {
        w->async = a;
        w->keep = keep;
        w->ack = ack;
    }
    if (cache__front_goes_through(f, how)) {
        cache__ring_append(&a->to_write, &w->ring);
        cache__async_wake(a);
        return 0;
    }
    rc = cache__async_write_now(a, fw, how, keep);
    if (rc == 0 && how->version)
        *how->version = fw->version;
    if (rc == 0 && w != NULL)
        cache__async_acknowledge(a, w, behind ? ack : CACHE_ACK_MEMORY);
    return rc;
}

#endif /* CACHE_ASYNC_WRITE_H */
