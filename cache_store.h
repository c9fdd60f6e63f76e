/*
 * cache_store.h - what lies behind a cache: stores, codecs and write-behind.
 *
 * WHAT IT DOES
 *   - struct cache_store is the one interface of every backing store: batches
 *     of get, put and remove over bytes, with a status for each item.
 *   - struct cache_codec turns a key or a value into bytes and back.
 *   - struct cache_wb is the write-behind machine: it takes writes now and
 *     says which batches to send when.  It does no I/O, has no thread and
 *     reads no clock; whoever drives it (cache_async.h, your own thread, a
 *     simulator) passes the time in and carries the batches.
 *
 * THE LIFE OF A WRITE
 *
 *              put                    next_batch              complete: stored
 *     --------------> WAITING -------------------> SENT -----------------> gone
 *       same key:     (oldest first,              |    \
 *       coalesced     by count or interval)       |     \ complete: failed
 *       in place                                  |      v
 *                                        put while|    RETRYING --> SENT ..
 *                                          SENT   v    (backoff)     | max_
 *                                            BLOCKED                 | attempts
 *                                            (WAITING once the       v
 *                                            sent one is stored)  dead letter
 *
 *   Promises, each with a test:
 *   - A write that was accepted is in the buffer until the store has it, it is
 *     superseded by a newer write of its key, or on_dead_letter was given it.
 *   - One write per key is at the store at a time, and the newest wins.  Each
 *     has a version, so a store can refuse an old one that arrives late.
 *   - A batch that fails is retried after min(cap, base x 2^attempts) with full
 *     jitter, in batches of at most max_batch >> attempts, so that what poisons
 *     a batch ends up alone; the limit doubles with each that is stored.
 *   - When max_dirty keys are waiting, a write of a further key is refused with
 *     CACHE_EFULL and stays with the caller.  A key that is dirty already is
 *     always accepted.
 *   - An error of the store means "unknown": the write is repeated.
 *
 * MEMORY
 *   One allocation at init: max_dirty + max_in_flight x max_batch records of
 *   max_key_bytes + max_value_bytes + about 150 bytes.
 *
 * THREADS
 *   The machine belongs to one thread.  A store may call `done` from any.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include "cache.h"

/* --- the store interface ------------------------------------------------- */

enum cache_store_op {
    CACHE_STORE_GET,   /* read the value of the key */
    CACHE_STORE_PUT,   /* write it */
    CACHE_STORE_REMOVE /* make it absent; not an error if it is */
};

/* One operation of a batch. */
struct cache_store_item {
    enum cache_store_op op;
    struct cache_bytes key;   /* what it is about */
    struct cache_bytes value; /* PUT: what to write.  GET: what was found, in
                                 `buffer` */
    void *buffer;             /* GET: room for the value */
    size_t buffer_bytes;      /* GET: how much room */
    uint64_t expires_ms;      /* PUT: in, GET: out: absolute time to live, unix
                                 milliseconds; 0 = never */
    uint64_t version;         /* PUT, REMOVE: of two writes of one key by one
                                 writer, the newer has the higher */
    int status; /* out: 0, CACHE_EKEY (GET: absent), CACHE_ECONFLICT (a newer
                   version is there already), or what failed */
};

/*
 * Operations that go to a store together, executed in order.  It belongs to
 * the store from a successful submit until `done` is called.
 */
struct cache_store_batch {
    struct cache_store_item *items;
    size_t n_items;
    void (*done)(struct cache_store_batch *batch); /* exactly once; from any
                                                      thread */
    void *user;                                    /* for `done` */
    struct cache_store_batch *next; /* for whoever holds the batch: a queue */
};

/* What a store is able to promise. */
enum cache_store_capability {
    CACHE_STORE_EXPIRES = 1,  /* keeps expires_ms and finds nothing after it */
    CACHE_STORE_VERSIONS = 2, /* refuses an older version of the same writer;
                                 versions of a writer begin anew with each
                                 process, so the store tells writers apart */
    CACHE_STORE_ATOMIC = 4,   /* stores all writes of a batch, or none */
    CACHE_STORE_BLOCKS = 8    /* submit may block the calling thread */
};

/*
 * A backing store.  Stores embed it as their first member.
 *
 * submit(store, batch): starts the batch.  Returns 0, and `done` is called
 *   once, when every item has its status; or a negative code, and `done` is
 *   never called.  Keys, values and buffers must live until then.
 * close(store): completes what was submitted, then releases everything.
 *   Nothing may be submitted from then on.
 */
struct cache_store {
    const char *name;
    uint32_t capabilities; /* enum cache_store_capability */
    int (*submit)(struct cache_store *store, struct cache_store_batch *batch);
    void (*close)(struct cache_store *store);
};

/* --- codecs -------------------------------------------------------------- */

/*
 * Between a C object and bytes.  Codecs that need parameters embed it as their
 * first member.
 *
 * encode(codec, object, out, &bytes): writes at most max_bytes to out.
 * decode(codec, data, bytes, object): fills *object, which may point into data
 *   and lives no longer than that.
 * Both return 0 or a negative code, CACHE_ECODEC if the bytes make no sense.
 */
struct cache_codec {
    size_t object_bytes; /* sizeof the object; checked where a codec is used */
    size_t max_bytes;    /* longest encoding; longer objects: CACHE_ETOOBIG */
    int (*encode)(const struct cache_codec *codec, const void *object,
                  void *out, size_t *bytes);
    int (*decode)(const struct cache_codec *codec, const void *data,
                  size_t bytes, void *object);
};

/* --- write-behind: types ------------------------------------------------- */

#define CACHE_WB_DEFAULT_MAX_DIRTY 16384u
#define CACHE_WB_DEFAULT_MAX_BATCH 1024u
#define CACHE_WB_DEFAULT_INTERVAL_MS 100u
#define CACHE_WB_DEFAULT_RETRY_BASE_MS 50u
#define CACHE_WB_DEFAULT_RETRY_CAP_MS 30000u

/* What cache_wb_init needs.  Zero means the default that is named. */
struct cache_wb_config {
    size_t max_key_bytes;   /* longest key; required */
    size_t max_value_bytes; /* longest value; required */
    uint32_t max_dirty;     /* keys that wait for the store at most;
                               0 = CACHE_WB_DEFAULT_MAX_DIRTY */
    uint32_t max_batch;     /* writes in one batch at most;
                               0 = CACHE_WB_DEFAULT_MAX_BATCH, or max_dirty */
    uint32_t max_in_flight; /* batches at the store at once; 0 = 1 */
    uint64_t interval_ms;   /* how long a write waits for company at most;
                               0 = CACHE_WB_DEFAULT_INTERVAL_MS */
    uint64_t retry_base_ms; /* 0 = CACHE_WB_DEFAULT_RETRY_BASE_MS */
    uint64_t retry_cap_ms;  /* 0 = CACHE_WB_DEFAULT_RETRY_CAP_MS */
    uint32_t max_attempts;  /* failures after which a write is given to
                               on_dead_letter; 0 = it is retried for ever.  One
                               bad write in a batch that is stored whole or not
                               at all makes its companions fail too: they are
                               safe from log2(max_batch) + 2 on. */
    uint64_t seed;          /* of jitter and hash; 0 = random */
    void (*on_dead_letter)(const struct cache_store_item *item, void *user);
    /* A write that will not reach the store, item->status says why.  Its bytes
       live during the call, which must not call the machine. */
    void *(*alloc)(size_t bytes, void *user); /* NULL = malloc */
    void (*free)(void *memory, void *user);   /* NULL = free */
    void *user;                               /* for the hooks above */
};

/* Counters since init. */
struct cache_wb_stats {
    uint64_t n_accepted;  /* writes that were accepted */
    uint64_t n_coalesced; /* of these: replaced by a newer one before they
                              were stored */
    uint64_t n_refused;   /* writes that were refused: full */
    uint64_t n_batches;   /* batches sent */
    uint64_t n_sent;      /* writes in them */
    uint64_t n_stored;    /* writes that the store has confirmed, or had a
                              newer version of (CACHE_ECONFLICT) */
    uint64_t n_failed;    /* writes that the store has failed, each time */
    uint64_t n_dead;      /* given to on_dead_letter after max_attempts */
    uint64_t n_lost;      /* given up by close before they were stored */
};

enum cache_wb_state {
    CACHE_WB_FREE,
    CACHE_WB_WAITING,  /* in the queue */
    CACHE_WB_RETRYING, /* in the heap, until its backoff is over */
    CACHE_WB_BLOCKED,  /* behind a record of the same key that is SENT */
    CACHE_WB_SENT      /* in a batch that the store has */
};

/* A write that the store does not have yet. */
struct cache_wb_record {
    struct cache_store_item item; /* with its own copy of key and value */
    uint64_t first_version;       /* of the oldest write that it stands for */
    uint64_t due_ms;    /* WAITING, RETRYING: when it should be sent */
    uint32_t hash;      /* of the key */
    uint32_t chain;     /* next record of the hash chain */
    uint32_t next;      /* WAITING: next in the queue; FREE: next free */
    uint32_t successor; /* SENT: the BLOCKED record of this key, 0 = none */
    uint32_t attempts;  /* how often it has failed */
    enum cache_wb_state state;
};

/* A batch and the records that its items are copied from. */
struct cache_wb_batch {
    struct cache_store_batch batch; /* first: the store returns this */
    uint32_t *records;              /* one for each item */
    bool at_store;
};

/* The machine.  Members are private. */
struct cache_wb {
    struct cache_wb_config config;   /* with the defaults filled in */
    struct cache_wb_record *records; /* [1..n_records] */
    uint32_t n_records;
    uint32_t free_records;   /* list of FREE ones */
    uint32_t *heads;         /* hash chains of the newest record of each key */
    uint32_t n_heads;        /* 2 x n_records */
    struct cache_link *ages; /* all records in use, by first_version */
    uint32_t *heap;          /* RETRYING: smallest due_ms first */
    uint32_t n_retrying;     /* its length */
    uint32_t first_waiting;  /* queue of WAITING records */
    uint32_t last_waiting;   /* its end */
    uint32_t n_waiting;      /* its length */
    uint32_t n_keys;         /* dirty keys: records that are in a chain */
    struct cache_wb_batch *batches; /* max_in_flight of them */
    uint32_t n_in_flight;
    uint64_t version;     /* of the latest write */
    uint64_t flush_to;    /* writes up to this version are due at once */
    uint32_t n_recovered; /* batches of retries that were stored since the
                                 last failure, 31 at most */
    uint64_t seed;
    bool closed;
    struct cache_wb_stats stats;
    void *memory;
};

/* --- write-behind: records ----------------------------------------------- */

CACHE_INLINE uint32_t *cache__wb_head(const struct cache_wb *w, uint32_t hash)
{
    return &w->heads[((uint64_t)hash * w->n_heads) >> 32];
}

/* The link that leads to the record of this key, or to 0. */
CACHE_COLD uint32_t *cache__wb_find(const struct cache_wb *w,
                                    struct cache_bytes key, uint32_t hash)
{
    uint32_t *at = cache__wb_head(w, hash);

    while (*at != 0 && !(w->records[*at].hash == hash &&
                         cache_equal_bytes(&w->records[*at].item.key, &key)))
        at = &w->records[*at].chain;
    return at;
}

/* The link that leads to this record, which must be in its chain. */
CACHE_COLD uint32_t *cache__wb_link(const struct cache_wb *w, uint32_t r)
{
    uint32_t *at = cache__wb_head(w, w->records[r].hash);

    while (*at != r)
        at = &w->records[*at].chain;
    return at;
}

CACHE_COLD void cache__wb_unchain(struct cache_wb *w, uint32_t r)
{
    *cache__wb_link(w, r) = w->records[r].chain;
    w->n_keys--;
}

/* A sent record is its key's newest again.  Returns the record that was. */
CACHE_COLD uint32_t cache__wb_take_back(struct cache_wb *w, uint32_t r)
{
    uint32_t successor = w->records[r].successor;

    *cache__wb_link(w, successor) = r;
    w->records[r].chain = w->records[successor].chain;
    w->records[r].successor = 0;
    return successor;
}

/* Copies into bytes that the machine owns. */
CACHE_INLINE void cache__wb_copy(struct cache_bytes *to,
                                 struct cache_bytes from)
{
    to->len = from.len;
    if (from.len != 0)
        memcpy((void *)(uintptr_t)to->data, from.data, from.len);
}

/* A new record for a key.  There is always one: see n_records in init. */
CACHE_COLD uint32_t cache__wb_take(struct cache_wb *w, struct cache_bytes key,
                                   uint32_t hash)
{
    uint32_t r = w->free_records;
    struct cache_wb_record *record = &w->records[r];

    w->free_records = record->next;
    record->hash = hash;
    cache__wb_copy(&record->item.key, key);
    record->first_version = w->version;
    record->successor = 0;
    record->attempts = 0;
    cache__list_push(w->ages, 0, r);
    return r;
}

CACHE_COLD void cache__wb_release(struct cache_wb *w, uint32_t r)
{
    cache__list_unlink(w->ages, r);
    w->records[r].state = CACHE_WB_FREE;
    w->records[r].next = w->free_records;
    w->free_records = r;
}

/* Puts the content of a write into a record that has its key. */
CACHE_COLD void cache__wb_fill(struct cache_wb *w, uint32_t r,
                               const struct cache_store_item *from)
{
    struct cache_store_item *item = &w->records[r].item;

    item->op = from->op;
    cache__wb_copy(&item->value, from->value);
    item->expires_ms = from->expires_ms;
    item->version = from->version;
    item->status = 0;
}

CACHE_COLD void cache__wb_enqueue(struct cache_wb *w, uint32_t r,
                                  uint64_t now_ms)
{
    w->records[r].state = CACHE_WB_WAITING;
    w->records[r].due_ms = now_ms + w->config.interval_ms;
    w->records[r].next = 0;
    if (w->n_waiting++ == 0)
        w->first_waiting = r;
    else
        w->records[w->last_waiting].next = r;
    w->last_waiting = r;
}

/* For what a flush is waiting for: so it is always at the front. */
CACHE_COLD void cache__wb_enqueue_first(struct cache_wb *w, uint32_t r,
                                        uint64_t now_ms)
{
    w->records[r].state = CACHE_WB_WAITING;
    w->records[r].due_ms = now_ms;
    w->records[r].next = w->first_waiting;
    if (w->n_waiting++ == 0) {
        w->records[r].next = 0;
        w->last_waiting = r;
    }
    w->first_waiting = r;
}

CACHE_COLD uint32_t cache__wb_dequeue(struct cache_wb *w)
{
    uint32_t r = w->first_waiting;

    w->first_waiting = w->records[r].next;
    w->n_waiting--;
    return r;
}

/* --- write-behind: the heap of retries ----------------------------------- */

CACHE_COLD void cache__wb_heap_push(struct cache_wb *w, uint32_t r)
{
    uint32_t at = w->n_retrying++;

    w->records[r].state = CACHE_WB_RETRYING;
    while (at > 0 &&
           w->records[w->heap[(at - 1) / 2]].due_ms > w->records[r].due_ms) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = r;
}

CACHE_COLD uint32_t cache__wb_heap_pop(struct cache_wb *w)
{
    uint32_t top = w->heap[0], last = w->heap[--w->n_retrying];
    uint32_t at = 0, child;

    while ((child = 2 * at + 1) < w->n_retrying) {
        if (child + 1 < w->n_retrying && w->records[w->heap[child + 1]].due_ms <
                                             w->records[w->heap[child]].due_ms)
            child++;
        if (w->records[w->heap[child]].due_ms >= w->records[last].due_ms)
            break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = last;
    return top;
}

/* Full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015): anything
 * from 1 ms to min(cap, base x 2^attempts). */
CACHE_COLD uint64_t cache__wb_backoff(struct cache_wb *w, uint32_t attempts)
{
    uint64_t limit = w->config.retry_base_ms;

    while (attempts-- > 0 && limit < w->config.retry_cap_ms)
        limit *= 2;
    if (limit > w->config.retry_cap_ms)
        limit = w->config.retry_cap_ms;
    w->seed = cache__mix(w->seed + 1, CACHE__K1);
    return 1 + w->seed % limit;
}

/* --- write-behind: public ------------------------------------------------ */

/* Fills in the defaults.  Returns 0, or the first thing that is wrong. */
CACHE_COLD int cache__wb_config(struct cache_wb_config *out,
                                const struct cache_wb_config *config)
{
    *out = *config;
    if (out->max_dirty == 0)
        out->max_dirty = CACHE_WB_DEFAULT_MAX_DIRTY;
    if (out->max_batch == 0)
        out->max_batch = out->max_dirty < CACHE_WB_DEFAULT_MAX_BATCH
                             ? out->max_dirty
                             : CACHE_WB_DEFAULT_MAX_BATCH;
    if (out->max_in_flight == 0)
        out->max_in_flight = 1;
    if (out->interval_ms == 0)
        out->interval_ms = CACHE_WB_DEFAULT_INTERVAL_MS;
    if (out->retry_base_ms == 0)
        out->retry_base_ms = CACHE_WB_DEFAULT_RETRY_BASE_MS;
    if (out->retry_cap_ms == 0)
        out->retry_cap_ms = CACHE_WB_DEFAULT_RETRY_CAP_MS;

    /* INT32_MAX: where size_t has 32 bits, rounding up must not overflow. */
    if (out->max_key_bytes == 0 || out->max_key_bytes > INT32_MAX ||
        out->max_value_bytes == 0 || out->max_value_bytes > INT32_MAX ||
        out->max_dirty > CACHE_MAX_CAPACITY / 4 ||
        out->max_batch > out->max_dirty ||
        out->max_in_flight > CACHE_MAX_CAPACITY / 4 / out->max_batch)
        return CACHE_ELIMIT;
    if (out->retry_base_ms > out->retry_cap_ms ||
        out->retry_cap_ms > UINT64_MAX / 4 || out->interval_ms > UINT64_MAX / 4)
        return CACHE_ERETRY;
    if ((out->alloc == NULL) != (out->free == NULL))
        return CACHE_EALLOCATOR;
    return 0;
}

/* Where each array of the machine stands in its block. */
struct cache__wb_layout {
    size_t records, heads, ages, heap, batches, items, sent, keys, values;
    size_t key_bytes, value_bytes; /* of one record, rounded up */
    size_t total;                  /* 0 = does not fit */
};

CACHE_COLD struct cache__wb_layout
cache__wb_plan(const struct cache_wb_config *config, uint32_t n_records)
{
    struct cache__wb_layout l;
    size_t n = (size_t)n_records + 1, at = 0;
    size_t n_items = (size_t)config->max_in_flight * config->max_batch;

    l.key_bytes = cache__round_up(config->max_key_bytes, 8);
    l.value_bytes = cache__round_up(config->max_value_bytes, 8);
    l.records = cache__place(&at, n, sizeof(struct cache_wb_record));
    l.heads = cache__place(&at, 2 * n, sizeof(uint32_t));
    l.ages = cache__place(&at, n, sizeof(struct cache_link));
    l.heap = cache__place(&at, n, sizeof(uint32_t));
    l.batches =
        cache__place(&at, config->max_in_flight, sizeof(struct cache_wb_batch));
    l.items = cache__place(&at, n_items, sizeof(struct cache_store_item));
    l.sent = cache__place(&at, n_items, sizeof(uint32_t));
    l.keys = cache__place(&at, n, l.key_bytes);
    l.values = cache__place(&at, n, l.value_bytes);
    l.total = at > CACHE__LAYOUT_LIMIT ? 0 : at;
    return l;
}

/* Points every array into the zeroed block, and every record at its bytes. */
CACHE_COLD void cache__wb_set_up(struct cache_wb *w, unsigned char *base,
                                 const struct cache__wb_layout *l)
{
    uint32_t i, max_batch = w->config.max_batch;

    w->memory = base;
    w->records = (struct cache_wb_record *)(void *)(base + l->records);
    w->heads = (uint32_t *)(void *)(base + l->heads);
    w->n_heads = 2 * w->n_records;
    w->ages = (struct cache_link *)(void *)(base + l->ages);
    w->heap = (uint32_t *)(void *)(base + l->heap);
    w->batches = (struct cache_wb_batch *)(void *)(base + l->batches);
    for (i = 0; i < w->config.max_in_flight; i++) {
        struct cache_wb_batch *b = &w->batches[i];

        b->batch.items = (struct cache_store_item *)(void *)(base + l->items) +
                         (size_t)i * max_batch;
        b->records =
            (uint32_t *)(void *)(base + l->sent) + (size_t)i * max_batch;
    }
    for (i = w->n_records; i > 0; i--) {
        w->records[i].item.key.data = base + l->keys + i * l->key_bytes;
        w->records[i].item.value.data = base + l->values + i * l->value_bytes;
        w->records[i].next = w->free_records;
        w->free_records = i;
    }
}

/*
 * Makes a machine with an empty buffer.
 * Returns 0, CACHE_EINVAL (NULL), CACHE_ELIMIT, CACHE_ERETRY,
 * CACHE_EALLOCATOR, CACHE_ESIZE or CACHE_ENOMEM; on error nothing is
 * allocated.
 */
CACHE_COLD int cache_wb_init(struct cache_wb *w,
                             const struct cache_wb_config *config)
{
    struct cache_wb_config full;
    struct cache__wb_layout l;
    uint32_t n_records;
    void *memory;
    int rc;

    if (w == NULL || config == NULL)
        return CACHE_EINVAL;
    rc = cache__wb_config(&full, config);
    if (rc != 0)
        return rc;
    /* A dirty key has one record, and one more while a write is at the store:
     * so a key that is dirty already never lacks a record. */
    n_records = full.max_dirty + full.max_in_flight * full.max_batch;
    l = cache__wb_plan(&full, n_records);
    if (l.total == 0)
        return CACHE_ESIZE;
    memory = full.alloc ? full.alloc(l.total, full.user) : malloc(l.total);
    if (memory == NULL)
        return CACHE_ENOMEM;
    memset(memory, 0, l.keys); /* all but the bytes of keys and values */
    memset(w, 0, sizeof *w);
    if (full.seed == 0) /* the hash takes its seed from the config, too */
        full.seed = cache__random_seed(w);
    w->config = full;
    w->n_records = n_records;
    w->seed = full.seed;
    cache__wb_set_up(w, (unsigned char *)memory, &l);
    return 0;
}

/*
 * Frees the machine.  What is still dirty is gone: see cache_wb_give_up.
 * Nothing may be at the store.  Twice is harmless; so is a struct of zeroes.
 */
CACHE_COLD void cache_wb_destroy(struct cache_wb *w)
{
    CACHE_ASSERT(w->n_in_flight == 0 && "a batch is still at the store");
    if (w->memory != NULL && w->config.free != NULL)
        w->config.free(w->memory, w->config.user);
    else
        free(w->memory);
    memset(w, 0, sizeof *w);
}

CACHE_COLD uint32_t cache__wb_hash(const struct cache_wb *w,
                                   struct cache_bytes key)
{
    return cache__fold(cache_hash_bytes(&key, w->config.seed ^ CACHE__K0));
}

/*
 * What cache_wb_write would say to a write, which changes nothing.
 * Returns 0, CACHE_EFULL, CACHE_ETOOBIG, CACHE_EINVAL or CACHE_ECLOSED.
 */
CACHE_COLD int cache_wb_accepts(const struct cache_wb *w,
                                const struct cache_store_item *item)
{
    if (w->closed)
        return CACHE_ECLOSED;
    if ((item->op != CACHE_STORE_PUT && item->op != CACHE_STORE_REMOVE) ||
        item->key.len == 0)
        return CACHE_EINVAL;
    if (item->key.len > w->config.max_key_bytes ||
        (item->op == CACHE_STORE_PUT &&
         item->value.len > w->config.max_value_bytes))
        return CACHE_ETOOBIG;
    return w->n_keys == w->config.max_dirty &&
                   *cache__wb_find(w, item->key,
                                   cache__wb_hash(w, item->key)) == 0
               ? CACHE_EFULL
               : 0;
}

/*
 * Accepts a write (item->op PUT or REMOVE; key, value and expires_ms are read,
 * copied and not kept).
 * Returns 0; CACHE_EFULL if max_dirty other keys are dirty; CACHE_ETOOBIG;
 * CACHE_EINVAL for another op or an empty key; CACHE_ECLOSED after give_up.
 */
CACHE_COLD int cache_wb_write(struct cache_wb *w,
                              const struct cache_store_item *item,
                              uint64_t now_ms)
{
    struct cache_store_item write = *item;
    uint32_t hash, r, *at;
    int rc = cache_wb_accepts(w, item);

    if (rc == CACHE_EFULL)
        w->stats.n_refused++;
    if (rc != 0)
        return rc;
    if (write.op == CACHE_STORE_REMOVE)
        write.value.len = 0;
    hash = cache__wb_hash(w, write.key);
    at = cache__wb_find(w, write.key, hash);
    write.version = ++w->version;
    w->stats.n_accepted++;
    if (*at != 0 && w->records[*at].state != CACHE_WB_SENT) {
        w->stats.n_coalesced++; /* it stands for the older one from now on */
        w->records[*at].attempts = 0;
        cache__wb_fill(w, *at, &write);
        return 0;
    }
    r = cache__wb_take(w, write.key, hash);
    cache__wb_fill(w, r, &write);
    if (*at == 0) {
        w->records[r].chain = 0;
        w->n_keys++;
        cache__wb_enqueue(w, r, now_ms);
    } else { /* what is at the store must not change under it */
        w->records[r].state = CACHE_WB_BLOCKED;
        w->records[r].chain = w->records[*at].chain;
        w->records[*at].successor = r;
    }
    *at = r;
    return 0;
}

/*
 * The newest write of a key that the store does not have yet, or NULL.  A read
 * must be answered from it: the store has an older value.
 * Lifetime: until the next write, complete or give_up.
 */
CACHE_COLD const struct cache_store_item *
cache_wb_find(const struct cache_wb *w, struct cache_bytes key)
{
    uint32_t r = *cache__wb_find(w, key, cache__wb_hash(w, key));

    return r == 0 ? NULL : &w->records[r].item;
}

/* Whether a flush was asked for this record. */
CACHE_INLINE bool cache__wb_flushing(const struct cache_wb *w, uint32_t r)
{
    return w->records[r].first_version <= w->flush_to;
}

/*
 * When cache_wb_next_batch will have something to send: 0 = now, UINT64_MAX =
 * not before the next write or complete.
 */
CACHE_COLD uint64_t cache_wb_due_ms(const struct cache_wb *w)
{
    uint64_t due_ms = UINT64_MAX;

    if (w->n_in_flight == w->config.max_in_flight)
        return UINT64_MAX;
    if (w->n_waiting > 0) {
        if (w->n_waiting >= w->config.max_batch ||
            cache__wb_flushing(w, w->first_waiting))
            return 0;
        due_ms = w->records[w->first_waiting].due_ms;
    }
    if (w->n_retrying > 0 && w->records[w->heap[0]].due_ms < due_ms)
        due_ms = w->records[w->heap[0]].due_ms;
    return due_ms;
}

/* The most items that a batch with this record may have: half as many with
 * each of its failures, twice as many with each batch of retries that was
 * stored since the last failure.  So what poisons a batch ends up alone, and
 * after an outage batches are soon full again. */
CACHE_INLINE uint32_t cache__wb_company(const struct cache_wb *w, uint32_t r)
{
    uint32_t attempts = w->records[r].attempts, max = w->config.max_batch;
    uint64_t n = attempts < 31 ? max >> attempts : 0;

    n = (n > 0 ? n : 1) << w->n_recovered;
    return n < max ? (uint32_t)n : max;
}

CACHE_COLD void cache__wb_add(struct cache_wb *w, struct cache_wb_batch *b,
                              uint32_t r)
{
    w->records[r].state = CACHE_WB_SENT;
    b->records[b->batch.n_items] = r;
    b->batch.items[b->batch.n_items++] = w->records[r].item;
}

/*
 * The next batch to send at now_ms, or NULL.  Set its `done` and `user`, submit
 * it, and give it to cache_wb_complete when the items have their status; also
 * if the submit was refused, with that status in each item.
 */
CACHE_COLD struct cache_store_batch *cache_wb_next_batch(struct cache_wb *w,
                                                         uint64_t now_ms)
{
    struct cache_wb_batch *b = w->batches;
    uint32_t limit = w->config.max_batch, company;
    uint64_t due_ms = cache_wb_due_ms(w);

    if (due_ms > now_ms || due_ms == UINT64_MAX)
        return NULL;
    while (b->at_store)
        b++;
    b->batch.n_items = 0;
    if (w->n_retrying > 0 && w->records[w->heap[0]].due_ms <= now_ms) {
        /* Each limits its company: what failed often must not ride along with
         * what failed once. */
        do {
            company = cache__wb_company(w, w->heap[0]);
            if (b->batch.n_items >= company)
                break;
            limit = company < limit ? company : limit;
            cache__wb_add(w, b, cache__wb_heap_pop(w));
        } while (b->batch.n_items < limit && w->n_retrying > 0 &&
                 w->records[w->heap[0]].due_ms <= now_ms);
    } else {
        do
            cache__wb_add(w, b, cache__wb_dequeue(w));
        while (b->batch.n_items < limit && w->n_waiting > 0);
    }
    b->at_store = true;
    w->n_in_flight++;
    w->stats.n_batches++;
    w->stats.n_sent += b->batch.n_items;
    return &b->batch;
}

/* The write of a record that is in no chain will not be stored. */
CACHE_COLD void cache__wb_bury(struct cache_wb *w, uint32_t r, int status)
{
    if (w->closed)
        w->stats.n_lost++;
    else
        w->stats.n_dead++;
    w->records[r].item.status = status;
    if (w->config.on_dead_letter)
        w->config.on_dead_letter(&w->records[r].item, w->config.user);
    cache__wb_release(w, r);
}

CACHE_COLD void cache__wb_stored(struct cache_wb *w, uint32_t r,
                                 uint64_t now_ms)
{
    uint32_t successor = w->records[r].successor;

    w->stats.n_stored++;
    if (successor == 0)
        cache__wb_unchain(w, r);
    else if (cache__wb_flushing(w, successor))
        cache__wb_enqueue_first(w, successor, now_ms);
    else
        cache__wb_enqueue(w, successor, now_ms);
    cache__wb_release(w, r);
}

CACHE_COLD void cache__wb_failed(struct cache_wb *w, uint32_t r, int status,
                                 uint64_t now_ms)
{
    struct cache_wb_record *record = &w->records[r];

    w->stats.n_failed++;
    record->attempts++;
    record->due_ms = now_ms + cache__wb_backoff(w, record->attempts);
    if (record->successor != 0) {
        /* The newer write takes this one's place: it stands for both, and as
         * in cache_wb_write has not failed yet. */
        uint32_t successor = cache__wb_take_back(w, r);

        cache__wb_fill(w, r, &w->records[successor].item);
        cache__wb_release(w, successor);
        record->attempts = 0;
        w->stats.n_coalesced++;
    } else if (w->closed || (w->config.max_attempts != 0 &&
                             record->attempts >= w->config.max_attempts)) {
        cache__wb_unchain(w, r);
        cache__wb_bury(w, r, status);
        return;
    }
    cache__wb_heap_push(w, r);
}

/*
 * Takes a batch back whose items have their status.  0 and CACHE_ECONFLICT (the
 * store has a newer write) settle a write; anything else has it repeated.
 */
CACHE_COLD void cache_wb_complete(struct cache_wb *w,
                                  struct cache_store_batch *batch,
                                  uint64_t now_ms)
{
    struct cache_wb_batch *b = (struct cache_wb_batch *)(void *)batch;
    bool retried = false, failed = false;
    size_t i;

    CACHE_ASSERT(b->at_store && "a batch is completed twice");
    b->at_store = false;
    w->n_in_flight--;
    for (i = 0; i < batch->n_items; i++) {
        int status = batch->items[i].status;

        retried = retried || w->records[b->records[i]].attempts > 0;
        if (status == 0 || status == CACHE_ECONFLICT) {
            cache__wb_stored(w, b->records[i], now_ms);
        } else {
            failed = true;
            cache__wb_failed(w, b->records[i], status, now_ms);
        }
    }
    if (failed)
        w->n_recovered = 0;
    else if (retried && w->n_recovered < 31)
        w->n_recovered++;
}

/*
 * Makes everything that is dirty due at once, but for what failed and still
 * backs off.  Returns a barrier for cache_wb_is_stored.
 */
CACHE_COLD uint64_t cache_wb_flush(struct cache_wb *w)
{
    return w->flush_to = w->version;
}

/* Whether every write from before the flush that returned this barrier is at
 * the store, or was given to on_dead_letter. */
CACHE_COLD bool cache_wb_is_stored(const struct cache_wb *w, uint64_t barrier)
{
    uint32_t oldest = w->ages[0].newer;

    return oldest == 0 || w->records[oldest].first_version > barrier;
}

/* The store has every write up to this version, or it was given to
 * on_dead_letter. */
CACHE_COLD uint64_t cache_wb_stored(const struct cache_wb *w)
{
    uint32_t oldest = w->ages[0].newer;

    return oldest ? w->records[oldest].first_version - 1 : w->version;
}

/* Keys whose newest write the store does not have yet. */
CACHE_COLD uint32_t cache_wb_n_dirty(const struct cache_wb *w)
{
    return w->n_keys;
}

/*
 * Closes the machine: what is not at the store is given to on_dead_letter with
 * CACHE_ECLOSED and counted in n_lost; what is there and fails will be, too.
 * Of two letters of one key the higher item->version is the newer write.
 * Returns n_lost so far.
 */
CACHE_COLD uint64_t cache_wb_give_up(struct cache_wb *w)
{
    uint32_t r, newer;

    w->closed = true;
    for (r = w->ages[0].newer; r != 0; r = newer) {
        if (w->records[r].state != CACHE_WB_SENT) {
            newer = w->ages[r].newer;
            cache__wb_unchain(w, r);
            cache__wb_bury(w, r, CACHE_ECLOSED);
            continue;
        }
        /* A successor is younger, so it is met here before it is met itself. */
        if (w->records[r].successor != 0)
            cache__wb_bury(w, cache__wb_take_back(w, r), CACHE_ECLOSED);
        newer = w->ages[r].newer;
    }
    w->n_waiting = w->n_retrying = 0;
    return w->stats.n_lost;
}

/* Counts the records of the hash chains; n_records + 1 if one is wrong. */
CACHE_COLD uint32_t cache__wb_check_chains(const struct cache_wb *w)
{
    uint32_t n = 0, i, r;

    for (i = 0; i < w->n_heads; i++)
        for (r = w->heads[i]; r != 0; r = w->records[r].chain)
            if (r > w->n_records || ++n > w->n_records ||
                w->records[r].state == CACHE_WB_FREE ||
                w->records[r].successor != 0 ||
                *cache__wb_find(w, w->records[r].item.key,
                                w->records[r].hash) != r)
                return w->n_records + 1;
    return n;
}

/* For tests: walks every invariant.  NULL, or a sentence on what is broken. */
CACHE_COLD const char *cache_wb_check(const struct cache_wb *w)
{
    uint32_t n[CACHE_WB_SENT + 1] = { 0, 0, 0, 0, 0 }, n_items = 0, i, r;
    uint64_t version = 0;

    for (r = 1; r <= w->n_records; r++)
        n[w->records[r].state]++;
    for (r = w->free_records, i = 0; r != 0; r = w->records[r].next, i++)
        if (w->records[r].state != CACHE_WB_FREE || i > w->n_records)
            return "free list: a record is in use";
    if (i != n[CACHE_WB_FREE])
        return "free list: a free record is missing";
    for (i = 0, r = w->first_waiting; i < w->n_waiting; i++) {
        if (r == 0 || w->records[r].state != CACHE_WB_WAITING)
            return "queue: a record is not waiting";
        r = w->records[r].next;
    }
    if (w->n_waiting != n[CACHE_WB_WAITING])
        return "queue: a waiting record is missing";
    for (i = 0; i < w->n_retrying; i++)
        if (w->records[w->heap[i]].state != CACHE_WB_RETRYING ||
            w->records[w->heap[i]].due_ms <
                w->records[w->heap[(i - (i > 0)) / 2]].due_ms)
            return "heap: out of order, or a record is not retrying";
    if (w->n_retrying != n[CACHE_WB_RETRYING])
        return "heap: a retrying record is missing";
    for (i = 0; i < w->config.max_in_flight; i++)
        if (w->batches[i].at_store)
            n_items += (uint32_t)w->batches[i].batch.n_items;
    if (n_items != n[CACHE_WB_SENT])
        return "batches: a sent record is in none, or in two";
    if (cache__wb_check_chains(w) != w->n_keys ||
        w->n_keys != w->n_records - n[CACHE_WB_FREE] - n[CACHE_WB_BLOCKED])
        return "chains: not exactly one record for each dirty key";
    if (w->n_keys > w->config.max_dirty)
        return "more keys are dirty than max_dirty";
    for (r = w->ages[0].newer; r != 0; r = w->ages[r].newer) {
        if (w->records[r].first_version < version)
            return "ages: out of order";
        version = w->records[r].first_version;
    }
    return cache__list_check(w->ages, 0, w->n_records,
                             w->n_records - n[CACHE_WB_FREE]);
}

#endif /* CACHE_STORE_H */
