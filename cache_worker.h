/*
 * cache_worker.h - threads of the library's own, for work that blocks: a
 * blocking loader or store must not take libuv's thread pool, which the
 * program's files and names go through.
 *
 * WHAT IT DOES
 *   Jobs are run in the order in which they are posted, by n threads.
 *
 * THREADS
 *   post: any.  start and stop: one, with nobody posting any more.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_WORKER_H
#define CACHE_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "cache.h"

#define CACHE_WORKER_MAX_THREADS 64u

/* Something to be run; part of what it is about. */
struct cache_job {
    struct cache_job *next;
    void (*run)(struct cache_job *job); /* last: *job may be gone afterwards */
};

/* Members are private. */
struct cache_worker {
    uv_mutex_t lock; /* of the queue */
    uv_cond_t work;  /* there is a job, or it is time to end */
    struct cache_job *first, *last;
    bool stopping;
    uint32_t n; /* threads */
    uv_thread_t threads[CACHE_WORKER_MAX_THREADS];
};

CACHE_COLD void cache__worker_thread(void *arg)
{
    struct cache_worker *w = (struct cache_worker *)arg;
    struct cache_job *job;

    uv_mutex_lock(&w->lock);
    for (;;) {
        while (w->first == NULL && !w->stopping)
            uv_cond_wait(&w->work, &w->lock);
        job = w->first;
        if (job == NULL)
            break;
        w->first = job->next;
        uv_mutex_unlock(&w->lock);
        job->run(job);
        uv_mutex_lock(&w->lock);
    }
    uv_mutex_unlock(&w->lock);
}

/*
 * Ends the threads, when every job that was posted has been run.  Harmless if
 * there are none.
 */
CACHE_COLD void cache_worker_stop(struct cache_worker *w)
{
    uint32_t i;

    if (w->n == 0)
        return;
    uv_mutex_lock(&w->lock);
    w->stopping = true;
    uv_cond_broadcast(&w->work);
    uv_mutex_unlock(&w->lock);
    for (i = 0; i < w->n; i++)
        (void)uv_thread_join(&w->threads[i]);
    w->n = 0;
    uv_cond_destroy(&w->work);
    uv_mutex_destroy(&w->lock);
}

/*
 * Starts n threads, 1 to CACHE_WORKER_MAX_THREADS.
 * Returns 0, CACHE_ELIMIT, or libuv's error; then there are none.
 */
CACHE_COLD int cache_worker_start(struct cache_worker *w, uint32_t n)
{
    int rc;

    if (n == 0 || n > CACHE_WORKER_MAX_THREADS)
        return CACHE_ELIMIT;
    memset(w, 0, sizeof *w);
    rc = uv_mutex_init(&w->lock);
    if (rc != 0)
        return rc;
    rc = uv_cond_init(&w->work);
    if (rc != 0) {
        uv_mutex_destroy(&w->lock);
        return rc;
    }
    while (rc == 0 && w->n < n) {
        rc = uv_thread_create(&w->threads[w->n], cache__worker_thread, w);
        w->n += rc == 0;
    }
    if (rc == 0)
        return 0;
    if (w->n > 0) {
        cache_worker_stop(w);
    } else {
        uv_cond_destroy(&w->work);
        uv_mutex_destroy(&w->lock);
    }
    return rc;
}

/* Has a job run, once, by one of the threads; it lives until then. */
CACHE_COLD void cache_worker_post(struct cache_worker *w, struct cache_job *job)
{
    job->next = NULL;
    uv_mutex_lock(&w->lock);
    if (w->first == NULL)
        w->first = job;
    else
        w->last->next = job;
    w->last = job;
    uv_cond_signal(&w->work);
    uv_mutex_unlock(&w->lock);
}

#endif /* CACHE_WORKER_H */
