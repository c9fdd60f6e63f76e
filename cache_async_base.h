/*
 * cache_async_base.h - the types of the loop half (cache_async.h), and what
 * its reading and its writing part have in common.
 *
 * WHAT IT DOES
 *   Configuration, requests, deadlines, and the way of a job to a store or a
 *   thread and back to the loop:
 *
 *     loop:     make a job --> submit to the store, or post to a worker
 *     anywhere: done --> a->returned, under the lock, and ring the doorbell
 *     loop:     doorbell --> job->land
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_ASYNC_BASE_H
#define CACHE_ASYNC_BASE_H

#include <uv.h>

#include "cache_loading.h"
#include "cache_worker.h"

/* --- configuration ------------------------------------------------------- */

#define CACHE_ASYNC_DEFAULT_MAX_BATCH 256u
#define CACHE_ASYNC_DEFAULT_MAX_BATCHES 4u
#define CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS 5000u
#define CACHE_ASYNC_DEFAULT_BUDGET_US 200u
#define CACHE_ASYNC_DEFAULT_SWEEP_MS 1000u

struct cache_async;

/* What init needs.  A member that is zero has the default that it names. */
struct cache_async_config {
    uint32_t max_batch;   /* keys in one load, and writes that go through in one
                             batch; 0 = CACHE_ASYNC_DEFAULT_MAX_BATCH */
    uint32_t max_batches; /* of either, under way at once;
                             0 = CACHE_ASYNC_DEFAULT_MAX_BATCHES */
    uint64_t max_wait_ms; /* how long a key waits for company; 0 = for the
                             end of this turn of the loop */
    uint32_t n_groups;    /* with .group_by; 0 = 1 */
    uint32_t n_workers;   /* threads, for loaders and stores that block; 0 = 1,
                             none where nothing blocks */
    uint64_t timeout_ms;  /* of a fetch that names none; 0 = no limit */
    uint64_t soft_timeout_ms;  /* after so long a value past its time is
                                 better than to wait on; 0 = it is not */
    uint64_t load_timeout_ms;  /* of a batch: what it has not brought until then
                                 has failed with CACHE_ETIMEOUT; 0 = claim_ms of
                                 the cache */
    uint64_t close_timeout_ms; /* how long close tries to get writes stored;
                                  0 = CACHE_ASYNC_DEFAULT_CLOSE_TIMEOUT_MS */
    uint32_t loop_budget_us; /* how long expiry and reclaiming hold the loop at
                                a time; 0 = CACHE_ASYNC_DEFAULT_BUDGET_US */
    uint64_t sweep_ms;       /* how often they look when there is nothing to do;
                                0 = CACHE_ASYNC_DEFAULT_SWEEP_MS */
    uint32_t high_water; /* dirty keys from which on nothing should be written;
                            0 = max_dirty */
    uint32_t low_water; /* and at which on_writable is called; 0 = half of it */
    void (*on_writable)(struct cache_async *async); /* or NULL */
};

/* Counters since init. */
struct cache_async_stats {
    uint64_t n_batches;   /* loads sent */
    uint64_t n_loads;     /* keys in them */
    uint64_t n_joined;    /* fetches that waited for a load under way */
    uint64_t n_late;      /* of the keys: what came after load_timeout_ms */
    uint64_t n_overdue;   /* batches that took longer */
    uint64_t n_timeouts;  /* fetches whose deadline passed */
    uint64_t n_softened;  /* fetches that took a value past its time instead */
    uint64_t n_cancelled; /* fetches that were cancelled */
    uint64_t n_written;   /* writes that went through */
};

/* Options of one fetch; zeroes are the default. */
struct cache_fetch_options {
    struct cache_reading reading; /* which values will do, and whether what is
                                     loaded is kept; wait_ms is not used */
    uint64_t timeout_ms;          /* 0 = config.timeout_ms; CACHE_NEVER */
    uint64_t soft_timeout_ms;     /* 0 = config.soft_timeout_ms; CACHE_NEVER */
    bool always_async;            /* a hit comes by the callback, too */
};

/* --- requests ------------------------------------------------------------ */

/* A place in a circular list. */
struct cache_ring {
    struct cache_ring *next, *prev;
};

/* Fetches that are answered together: the caller's memory. */
struct cache_fetch_many {
    size_t n_left; /* private */
    void (*cb)(struct cache_fetch_many *many);
    void *data; /* yours */
};

/* The part of a fetch that does not depend on the types.  Members but `status`
 * are private; `ring` is first, so that a place in a list is a request. */
struct cache_fetch {
    struct cache_ring ring; /* among the waiters of a flight, or those to be
                               told; next = NULL: not under way */
    struct cache_async *async;
    void *out; /* where the value goes */
    struct cache_reading how;
    uint64_t due_ms;      /* on the loop's clock: its place in the heap;
                        CACHE_NEVER = it is not there */
    uint64_t deadline_ms; /* CACHE_NEVER = none; after due_ms if that is soft */
    struct cache_fetch *child, *sibling, **heap_link; /* deadline heap */
    struct cache_fetch_many *many; /* that it is one of; NULL = none */
    uint32_t record;               /* of the claim that it waits for; 0: it
                                      waits to be told */
    int status; /* once it is answered: enum cache_found, or an error */
};

/* --- jobs and what they carry -------------------------------------------- */

/* Something that leaves the loop and comes back.  A thread or a store may only
 * touch what it carries. */
struct cache_async_job {
    struct cache_job job; /* first: what a worker runs */
    struct cache_async *async;
    struct cache_async_job *returned;          /* next of those that are back */
    void (*land)(struct cache_async_job *job); /* on the loop */
};

/* Those who wait for a claim; by the claim's record. */
enum cache_flight_state {
    CACHE_FLIGHT_NONE,
    CACHE_FLIGHT_QUEUED, /* until it is part of a batch */
    CACHE_FLIGHT_LOADING,
    CACHE_FLIGHT_WRITING /* the key is being written */
};

struct cache_flight {
    struct cache_ring waiters;
    uint32_t next; /* in the queue */
    enum cache_flight_state state;
};

/* Keys that wait to be part of a batch, of one group. */
struct cache_load_queue {
    uint64_t since_ms; /* when the first came */
    uint32_t first, last, n;
    uint32_t next; /* queue that is not empty */
};

/* Keys that are loaded together.  Begins each struct name_batch. */
struct cache_load {
    struct cache_async_job job;     /* first */
    struct cache_store_batch batch; /* with a store */
    struct cache_ring ring;         /* among those under way, or overdue */
    struct cache_load *next_free;
    struct cache_claim *claims; /* record 0: it has landed */
    unsigned char *keys, *values;
    struct cache_loaded *loaded; /* with a blocking loader */
    size_t n, n_left;
    uint64_t due_ms; /* when it is overdue */
    bool overdue;
};

/* A write that waits for its acknowledgement, or to go through: the caller's
 * memory.  Members are private. */
struct cache_async_write {
    struct cache_ring ring;
    struct cache_async *async;
    struct cache_front_write write;
    uint64_t barrier; /* version that has to be stored, or in the journal */
    uint64_t n_dead;  /* dead letters when it began */
    enum cache_ack ack;
    bool keep;  /* the cells are to have it */
    int status; /* when it is to be told, by: */
    void (*tell)(struct cache_async_write *write);
};

/* A flush under way: the caller's memory, like a request. */
struct cache_flush {
    struct cache_async_write write; /* private */
    void (*cb)(struct cache_flush *flush, int status);
    void *data; /* yours */
};

/* Writes that go through together. */
struct cache_async_through {
    struct cache_async_job job; /* first */
    struct cache_store_batch batch;
    struct cache_front_write *writes; /* without a store */
    struct cache_async_write **requests;
    size_t n;
    struct cache_async_through *next_free;
};

/* A batch of write-behind on its way. */
struct cache_async_behind {
    struct cache_async_job job; /* first */
    struct cache_store_batch *batch;
};

typedef void (*cache_flush_cb)(struct cache_flush *flush, int status);
typedef void (*cache_close_cb)(struct cache_async *async, uint64_t n_lost);

/* What the engine has to know of a type. */
struct cache_async_type {
    size_t batch_bytes;                    /* of struct name_batch */
    void (*load)(struct cache_load *load); /* or NULL */
    void (*load_one)(struct cache_load *load, size_t i); /* or NULL */
    uint32_t (*group_by)(const struct cache_async *a,
                         const void *key); /* or NULL */
    void (*tell)(struct cache_fetch *fetch);
    uint32_t (*tick)(struct cache_front *f, uint32_t max_items);
};

enum cache_async_state {
    CACHE_ASYNC_CLOSED, /* also before init: all is zero */
    CACHE_ASYNC_OPEN,
    CACHE_ASYNC_CLOSING
};

/* What another header adds to the loop half (cache_async_remote.h).  What is
 * NULL is not called.  All on the loop's thread. */
struct cache_async_guest {
    /* Does what there is to do; true = keep the loop alive. */
    bool (*turn)(struct cache_async_guest *guest);
    /* Close was called: what is begun now is the last. */
    void (*closing)(struct cache_async_guest *guest);
    /* Nothing will come any more; then the doorbell is closed. */
    void (*closed)(struct cache_async_guest *guest);
    /* The program, or the store on its behalf, has another value of this key
     * (NULL = of all), for which `how` is what others may do with theirs. */
    void (*changed)(struct cache_async_guest *guest, const void *key,
                    enum cache_invalidation how);
};

enum cache__async_guests {
    CACHE__GUEST_MEMBER, /* of a group: first, for it forgets what is old */
    CACHE__GUEST_REMOTE,
    CACHE__N_GUESTS
};

/* The loop half of one cache.  Members but `data`, `loop` and `stats` are
 * private. */
struct cache_async {
    void *data; /* yours */
    enum cache_async_state state;
    uv_loop_t *loop;
    struct cache_front *front;
    struct cache *cells; /* for their clock */
    struct cache_async_type type;
    struct cache_async_config config; /* with the defaults filled in */
    struct cache_async_stats stats;
    struct cache_async_guest *guests[CACHE__N_GUESTS]; /* each may be NULL */

    struct cache_flight *flights;     /* by record of the claims */
    struct cache_load_queue *queues;  /* [n_groups] */
    uint32_t n_queued;                /* keys in them */
    uint32_t first_queue, last_queue; /* those that are not empty: 1 + place */
    struct cache_load *free_loads;
    struct cache_ring loading; /* in the order of their due_ms */
    struct cache_ring overdue;
    uint32_t n_loading;

    struct cache_ring to_write;    /* struct cache_async_write, to go through */
    struct cache_ring unjournaled; /* waiting for the journal */
    struct cache_ring unstored;    /* in the order of their barriers */
    struct cache_ring written;     /* to be told */
    struct cache_async_through *free_throughs;
    struct cache_async_behind *behinds; /* [max_in_flight] */
    struct cache_async_behind *held;    /* until the journal has it */
#ifdef CACHE__THREADS
    struct cache_journal_ticket held_ticket; /* of the last write in it */
#endif
    bool wants_room; /* on_writable is to be called */

    struct cache_ring to_tell;     /* fetches that are answered */
    struct cache_fetch *deadlines; /* pairing heap */

    uv_mutex_t lock;                  /* of the following, and the bell */
    struct cache_async_job *returned; /* newest first */
    uv_async_t doorbell;
    uv_prepare_cb on_prepare; /* the turn of the loop */
    uv_timer_cb on_timer;
    uv_prepare_t prepare; /* active while something is to be sent or told */
    uv_timer_t timer;     /* active while something is due at a known time */
    uv_timer_t sweep;     /* expiry; keeps no loop alive */
    uint32_t n_out;       /* jobs that have left the loop */
    struct cache_worker worker;

    cache_close_cb close_cb;
    uint64_t close_deadline_ms, n_lost;
    bool waiters_told;        /* closing: all have had UV_ECANCELED */
    int n_open_handles;       /* while they are being closed */
    bool settled;             /* closing: nothing of it is on its way */
    uint64_t claim_ms_before; /* of the cache, without this half */
    bool threads_before;

    void *key_object, *value_object; /* room for one that is on its way */
    void *unread_object; /* and for the value that a refresh finds */
    void *memory;
};

/* --- lists --------------------------------------------------------------- */

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

/* --- deadlines ----------------------------------------------------------- */

/* A pairing heap (Fredman, Sedgewick, Sleator, Tarjan, 1986) through the
 * requests, so that it needs no memory of its own. */
CACHE_COLD struct cache_fetch *cache__heap_meld(struct cache_fetch *a,
                                                struct cache_fetch *b)
{
    struct cache_fetch *t;

    if (a == NULL || b == NULL)
        return a ? a : b;
    if (b->due_ms < a->due_ms)
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

/* --- the loop ------------------------------------------------------------ */

/* Sees to it that the prepare callback runs before the loop waits again.  What
 * is begun in a prepare callback, ours or one of the program's, comes too late
 * for this iteration: the timer keeps the loop from waiting then. */
CACHE_INLINE void cache__async_wake(struct cache_async *a)
{
    const uv_handle_t *handle = (const uv_handle_t *)&a->prepare;

    if (uv_is_active(handle) || uv_is_closing(handle))
        return;
    (void)uv_prepare_start(&a->prepare, a->on_prepare);
    (void)uv_timer_start(&a->timer, a->on_timer, 0, 0);
}

/* The cells or the store have changed, and others may have to hear of it. */
CACHE_INLINE void cache__async_changed(struct cache_async *a, const void *key,
                                       enum cache_invalidation how)
{
    struct cache_async_guest *member = a->guests[CACHE__GUEST_MEMBER];

    if (member != NULL)
        member->changed(member, key, how);
}

/* --- jobs ---------------------------------------------------------------- */

/* A job is done: from any thread.  The doorbell is rung under the lock: so the
 * loop cannot close it between the two. */
CACHE_COLD void cache__job_done(struct cache_async_job *job)
{
    struct cache_async *a = job->async;

    uv_mutex_lock(&a->lock);
    job->returned = a->returned;
    a->returned = job;
    (void)uv_async_send(&a->doorbell);
    uv_mutex_unlock(&a->lock);
}

/* `done` of a batch whose `user` is its job. */
CACHE_COLD void cache__job_batch_done(struct cache_store_batch *batch)
{
    cache__job_done((struct cache_async_job *)batch->user);
}

/* The program has a loader for the loop. */
CACHE_INLINE bool cache__async_loads(const struct cache_async_type *type)
{
    return type->load != NULL || type->load_one != NULL;
}

/* Has a job run by a thread; `run` calls cache__job_done at its end. */
CACHE_COLD void cache__job_post(struct cache_async *a,
                                struct cache_async_job *job,
                                void (*run)(struct cache_job *job))
{
    a->n_out++;
    job->job.run = run;
    cache_worker_post(&a->worker, &job->job);
}

/* What a store has refused is as if it had come back. */
CACHE_COLD void cache__job_submit_here(struct cache_async *a,
                                       struct cache_store_batch *batch)
{
    struct cache_store *store = a->front->config.store;
    int rc = store->submit(store, batch);
    size_t i;

    if (rc == 0)
        return;
    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = rc;
    cache__job_batch_done(batch);
}

/* A job of which all that a thread has to do is to submit its batch. */
CACHE_COLD void cache__job_submits(struct cache_async *a,
                                   struct cache_async_job *job,
                                   struct cache_store_batch *batch,
                                   void (*run)(struct cache_job *job))
{
    batch->done = cache__job_batch_done;
    batch->user = job;
    if ((a->front->config.store->capabilities & CACHE_STORE_BLOCKS) != 0) {
        cache__job_post(a, job, run);
        return;
    }
    a->n_out++;
    cache__job_submit_here(a, batch);
}

#endif /* CACHE_ASYNC_BASE_H */
