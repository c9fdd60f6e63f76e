/*
 * policy_driver.h - what those who drive a policy and its model are made of:
 * slots, given out as cache.h does, and queues of keys.
 *
 * Keys are small numbers.  All is plain bytes, so that a copy is a snapshot.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef POLICY_DRIVER_H
#define POLICY_DRIVER_H

#include <string.h>

#include "cache_policies.h"
#include "tests/test.h"

enum { DRIVER_KEYS = 2600, DRIVER_SLOTS = 1300, QUEUE_KEYS = 4096 };

/* --- slots --------------------------------------------------------------- */

struct slots {
    uint32_t len;           /* keys that are here */
    uint32_t fresh, n_free; /* slots that ever were used; and now are free */
    short of[DRIVER_KEYS];  /* by key; 0 = absent */
    short key[DRIVER_SLOTS + 1]; /* by slot; -1 = free */
    short free[DRIVER_SLOTS];    /* the last one is used next */
};

static inline void slots_clear(struct slots *s)
{
    memset(s, 0, sizeof *s);
    memset(s->key, -1, sizeof s->key);
}

/* Gives a key a slot, of as many as the policy has. */
static inline uint32_t slots_take(struct slots *s, uint32_t capacity, int key)
{
    uint32_t slot = s->n_free > 0 ? (uint32_t)s->free[--s->n_free] : ++s->fresh;

    CHECK(slot >= 1 && slot <= capacity && s->key[slot] < 0);
    s->key[slot] = (short)key;
    s->of[key] = (short)slot;
    s->len++;
    return slot;
}

static inline void slots_free(struct slots *s, uint32_t slot)
{
    s->of[s->key[slot]] = 0;
    s->key[slot] = -1;
    s->free[s->n_free++] = (short)slot;
    s->len--;
}

/* --- queues -------------------------------------------------------------- */

/* Keys in an order: [0] is the oldest, [n - 1] the newest. */
struct queue {
    int n;
    short key[QUEUE_KEYS];
};

static inline int queue_find(const struct queue *q, int key)
{
    int i;

    for (i = 0; i < q->n; i++)
        if (q->key[i] == key)
            return i;
    return -1;
}

static inline void queue_push(struct queue *q, int key)
{
    q->key[q->n++] = (short)key;
}

/* Takes out the key at an index, and returns it. */
static inline int queue_take(struct queue *q, int at)
{
    int key = q->key[at];

    q->n--;
    memmove(&q->key[at], &q->key[at + 1],
            (size_t)(q->n - at) * sizeof q->key[0]);
    return key;
}

/* Takes a key out, if it is there.  Returns whether it was. */
static inline int queue_drop(struct queue *q, int key)
{
    int at = queue_find(q, key);

    if (at >= 0)
        queue_take(q, at);
    return at >= 0;
}

#endif /* POLICY_DRIVER_H */
