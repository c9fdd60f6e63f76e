/*
 * peer_uthash.c - uthash with a list (uthash_lru.h) as a subject: for integers,
 * for strings, and for integers behind a mutex.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "bench.h"

#pragma GCC diagnostic ignored "-Wconversion" /* uthash is not written for it */
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <uthash.h>
#include <utlist.h>

#define KIND ut
#define ITEM u64
#define KEY uint64_t key
#define KEY_OF(item) (item)
#define LENGTH_OF(item) sizeof *(item)
#include "uthash_lru.h"

#define KIND utt
#define ITEM text
#define KEY char key[32]
#define KEY_OF(item) ((item)->bytes)
#define LENGTH_OF(item) ((item)->length)
#include "uthash_lru.h"

/* --- behind a mutex; values are copied out -------------------------------- */

#define utm_box ut_box
#define utm_box_open ut_box_open
#define utm_box_close ut_box_close

static inline const uint64_t *utm_box_find(struct ut_box *box,
                                           const uint64_t *key, uint64_t *space)
{
    const uint64_t *value;

    pthread_mutex_lock(&box->mutex);
    value = ut_box_find(box, key, NULL);
    if (value != NULL)
        *space = *value;
    pthread_mutex_unlock(&box->mutex);
    return value == NULL ? NULL : space;
}

static inline const uint64_t *utm_box_add(struct ut_box *box,
                                          const uint64_t *key, uint64_t *space,
                                          bool *inserted)
{
    pthread_mutex_lock(&box->mutex);
    *space = *ut_box_add(box, key, NULL, inserted);
    pthread_mutex_unlock(&box->mutex);
    return space;
}

static inline bool utm_box_store(struct ut_box *box, const uint64_t *key)
{
    bool stored;

    pthread_mutex_lock(&box->mutex);
    stored = ut_box_store(box, key);
    pthread_mutex_unlock(&box->mutex);
    return stored;
}

#define KIND utm
#define ITEM u64
#include "loops.h"

const struct subject subjects_uthash[] = {
    SUBJECT(ut, "uthash", G_HIT | G_EVICT | G_MEMORY,
            "uthash 2.3.0 and utlist, LRU, malloc for each entry"),
    SUBJECT(utt, "uthash", G_TEXT, NULL),
    SUBJECT(utm, "uthash_mutex", G_SHARED,
            "the same behind one pthread_mutex, values copied out"),
    { .name = NULL },
};
