/*
 * cache_front_write.h - how a write of a loading cache finds its way to cells,
 * journal and store: the part of the front (cache_front.h) that writes.
 *
 * WHAT IT DOES
 *
 *     aside          cells
 *     through        claim the key, store, cells
 *     around         claim the key, store, remove from the cells
 *     behind         journal, dirty buffer (cache_store.h), cells; then, whenever
 *                    somebody calls flush:  await the journal, send a batch,
 *                    collect what came back, tell the journal what is stored
 *
 *   A version that a store is told is in the journal first: after a crash it is
 *   never given to another write.
 *
 * THREADS
 *   As cache_front_read.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_FRONT_WRITE_H
#define CACHE_FRONT_WRITE_H

#include "cache_front_read.h"

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

/* Sends what is due, `budget` writes and what fills a batch, until until_ms;
 * all that is dirty is due, but what fails is sent once.  Under the lock, but
 * for the sending.  What the store is to have, the journal has first: a crash
 * would replay an older write over it, and give its version to another.  If the
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
 * (CACHE_ETIMEOUT).  n_dead is how many had been given up before the first of
 * them. */
CACHE_COLD int cache__front_settle(struct cache_front *f, uint64_t barrier,
                                   uint64_t n_dead, uint64_t until_ms)
{
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
    (void)f->type->remove(f, w->key);
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
            if (rc != CACHE__ASK_AGAIN)
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
            rc = cache__front_settle(f, cache_wb_flush(&f->writes),
                                     f->writes.stats.n_dead, until_ms);
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
    uint64_t n_dead;
    size_t i, last = n;
    int rc = 0;

    /* One may be given up already while there is made room for the next. */
    cache__front_lock(f);
    n_dead = f->behind ? f->writes.stats.n_dead : 0;
    cache__front_unlock(f);
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
        rc = cache__front_settle(f, cache_wb_flush(&f->writes), n_dead,
                                 until_ms);
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

#endif /* CACHE_FRONT_WRITE_H */
