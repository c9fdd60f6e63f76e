/*
 * fake_store.h - a store in memory that does what a test tells it: hold batches
 * back, fail, refuse, or work on a thread of its own.
 *
 * Keys and values are uint64_t.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

#include <pthread.h>
#include <time.h>

#include "../cache_store.h"

#define FAKE_KEYS 4096 /* keys are below this */

struct fake_row {
    bool present;
    uint64_t value, expires_ms, version;
};

struct fake_store {
    struct cache_store store;
    struct fake_row rows[FAKE_KEYS];
    bool hold;  /* keep batches until fake_release */
    int refuse; /* submit returns this, unless 0 */
    int fail;   /* every item gets this status, unless 0 */
    uint32_t n_batches, n_loads, n_writes; /* submitted, and their items */
    size_t largest;                        /* batch */
    struct cache_store_batch *held[64];
    uint32_t n_held;

    pthread_t thread; /* of fake_start, which works the queue off */
    pthread_mutex_t lock;
    struct cache_store_batch *queue;
    bool threaded, stop;
};

static inline uint64_t fake__number(const void *data)
{
    uint64_t number;

    memcpy(&number, data, sizeof number);
    return number;
}

static inline int fake__item(struct fake_store *s,
                             struct cache_store_item *item)
{
    struct fake_row *row = &s->rows[fake__number(item->key.data) % FAKE_KEYS];

    if (s->fail)
        return s->fail;
    if (item->op == CACHE_STORE_GET) {
        if (!row->present)
            return CACHE_EKEY;
        memcpy(item->buffer, &row->value, sizeof row->value);
        item->value.data = item->buffer;
        item->value.len = sizeof row->value;
        if (row->expires_ms != 0) /* what is 0 already need not be set */
            item->expires_ms = row->expires_ms;
        return 0;
    }
    if (item->version < row->version)
        return CACHE_ECONFLICT;
    row->version = item->version;
    row->present = item->op == CACHE_STORE_PUT;
    row->expires_ms = item->expires_ms;
    if (row->present)
        row->value = fake__number(item->value.data);
    return 0;
}

static inline void fake_execute(struct fake_store *s,
                                struct cache_store_batch *batch)
{
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = fake__item(s, &batch->items[i]);
    batch->done(batch);
}

static inline int fake__submit(struct cache_store *store,
                               struct cache_store_batch *batch)
{
    struct fake_store *s = (struct fake_store *)(void *)store;
    size_t i;

    if (s->refuse)
        return s->refuse;
    s->n_batches++;
    s->largest = batch->n_items > s->largest ? batch->n_items : s->largest;
    for (i = 0; i < batch->n_items; i++)
        *(batch->items[i].op == CACHE_STORE_GET ? &s->n_loads : &s->n_writes) +=
            1;
    if (s->threaded) {
        pthread_mutex_lock(&s->lock);
        batch->next = s->queue;
        s->queue = batch;
        pthread_mutex_unlock(&s->lock);
    } else if (s->hold) {
        s->held[s->n_held++] = batch;
    } else {
        fake_execute(s, batch);
    }
    return 0;
}

/* Executes what was held back, in order. */
static inline void fake_release(struct fake_store *s)
{
    uint32_t n = s->n_held, i;

    s->n_held = 0;
    for (i = 0; i < n; i++)
        fake_execute(s, s->held[i]);
}

static inline void fake_init(struct fake_store *s)
{
    memset(s, 0, sizeof *s);
    s->store.name = "fake";
    s->store.capabilities = CACHE_STORE_EXPIRES | CACHE_STORE_VERSIONS;
    s->store.submit = fake__submit;
}

/* --- on a thread: newest batch first, some time later -------------------- */

static inline void *fake__thread(void *user)
{
    struct fake_store *s = (struct fake_store *)user;
    bool stop = false;

    while (!stop) {
        struct timespec pause = { 0, 50000 };
        struct cache_store_batch *batch;

        pthread_mutex_lock(&s->lock);
        batch = s->queue;
        if (batch)
            s->queue = batch->next;
        stop = s->stop && batch == NULL;
        pthread_mutex_unlock(&s->lock);
        if (batch)
            fake_execute(s, batch);
        else
            nanosleep(&pause, NULL);
    }
    return NULL;
}

static inline void fake_start(struct fake_store *s)
{
    s->threaded = true;
    pthread_mutex_init(&s->lock, NULL);
    pthread_create(&s->thread, NULL, fake__thread, s);
}

static inline void fake_stop(struct fake_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
}

#endif /* FAKE_STORE_H */
