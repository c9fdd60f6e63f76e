/*
 * cache_loading.h - caches that know how fresh their values are, who is loading
 * what, and how to write to the store behind them.
 *
 * WHAT IT DOES
 *   CACHE_DEFINE_LOADING makes a cache type as CACHE_DEFINE of cache.h does,
 *   CACHE_DEFINE_LOADING_SHARED one for all threads, with
 *   - freshness: each value has the four moments of cache_freshness.h;
 *   - claims: of all who miss a key, one is told to load it.  No callback, no
 *     thread, no waiting: claim, load as you please, commit.
 *   - load: the same with a callback, one call for all who ask;
 *   - strategies: reads through, writes through, behind or around, to a store
 *     of yours (callbacks) or a ready one (cache_store.h) with codecs;
 *   - invalidation of everything at once in no time, hard or soft;
 *   - events, counters and histograms.
 *
 *   EXAMPLE
 *     #include "cache_loading.h"
 *
 *     CACHE_DEFINE_LOADING(pages, uint64_t, struct page, cache_hash_u64,
 *                          cache_equal_u64, 0);
 *
 *     struct cache_loading_config config = {
 *         .cache = { .capacity = 10000 },
 *         .freshness = { .ttl_ms = 60000, .stale_ms = 10000 },
 *     };
 *     if (pages_init(&cache, &config) != 0) ...
 *
 *     switch (pages_claim(&cache, id, &page, &claim)) {
 *     case CACHE_CLAIM_HIT:
 *     case CACHE_CLAIM_STALE:             // page is filled in
 *         break;
 *     case CACHE_CLAIM_STALE_YOU_REFRESH: // page is filled in, and
 *     case CACHE_CLAIM_MISS_YOU_LOAD:     // the load is yours
 *         if (render(id, &page) == 0)
 *             pages_commit(&cache, &claim, page);
 *         else
 *             pages_abandon(&cache, &claim, CACHE_ESTORE, &page);
 *         break;
 *     case CACHE_CLAIM_MISS_WAIT:         // somebody has it: ask again later
 *         break;
 *     }
 *
 * MEMORY LAYOUT
 *
 *     struct name      front: clock, claims, dirty writes, journal
 *                      cells: a cache of K and
 *                             struct name_cell { V value; struct cache_life }
 *
 *   The cells are a plain cache (cache.h or cache_shared.h) with CACHE_EXPIRY:
 *   24 bytes of life beside each value, in the same cache line as a rule.  Keys
 *   that are being loaded or written stand in a table of max_claims records,
 *   not among the entries; dirty ones in the write-behind machine.
 *   After init, only calls for many keys, and those that go to config.store,
 *   ask for memory: room for their batch.  Where there is none they fail with
 *   CACHE_ENOMEM and have changed nothing.
 *
 * READS
 *   The table at the head of cache_freshness.h says what a reader gets.
 *
 * WRITES
 *                     the store         the cache        put returns
 *     aside           is yours          new value        at once
 *     write-through   first             then new value   when it is stored
 *     write-behind    later, batched    new value        by config.ack
 *     write-around    first             entry leaves     when it is stored
 *
 *   - A writer that fails leaves the cache as it was.
 *   - One operation per key is at the store at a time, and the newest wins.
 *   - A key is dirty until the store has its newest write; reads of it get
 *     that, and nobody is asked to load it.  If its entry was evicted
 *     meanwhile, the value comes back from the buffer, with the freshness of
 *     the config.
 *   - Expiry, eviction and invalidation never delete from the store.
 *   - A load that began before its key was written, removed or invalidated is
 *     delivered to who waited for it, and never stored.
 *
 * THREADS
 *   CACHE_DEFINE_LOADING: none, but the store may have some.
 *   CACHE_DEFINE_LOADING_SHARED: all functions but init, close and destroy, any
 *   thread.  A hit takes the way of cache_shared.h; what else happens takes one
 *   lock, never while the store or a loader works.
 *   Callbacks must not call the cache, but for load, load_many, store, remove
 *   and store_many, which may use other keys.
 *
 * OWNERSHIP AND LIFETIME
 *   Values are copied out.  What they point to belongs to the cache while it is
 *   there: CACHE_FOUND_UNSTORED says that a value was never there, and is the
 *   caller's.  With .retain (shared) every value that comes out counts.
 *   Keys that are pointers need .key_copy, or must live as long as the claim.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_LOADING_H
#define CACHE_LOADING_H

#include "cache_front_write.h"

/* --- the front: making and unmaking -------------------------------------- */

/* Which strategies go together, and what they need. */
CACHE_COLD int cache__front_strategies(const struct cache_loading_config *c,
                                       uint32_t hooks)
{
    const bool reads = c->reads == CACHE_READ_THROUGH;
    const bool writes = c->writes != CACHE_ASIDE;
    const bool behind = c->writes == CACHE_WRITE_BEHIND;
    const struct cache_wb_config *wb = &c->write_behind;
    const uint32_t loads = hooks & (CACHE__HAS_LOAD | CACHE__HAS_LOAD_MANY);
    const bool stores =
        (hooks & CACHE__HAS_STORE_MANY) ||
        ((hooks & CACHE__HAS_STORE) && (hooks & CACHE__HAS_REMOVE));

    if ((c->reads != CACHE_ASIDE && !reads) ||
        c->writes == CACHE_READ_THROUGH || (int)c->writes < 0 ||
        c->writes > CACHE_WRITE_AROUND)
        return CACHE_ESTRATEGY;
    if (behind && !reads) /* the program would load what is older */
        return CACHE_ESTRATEGY;
    if (c->store != NULL && ((!reads && !writes) || loads || stores))
        return CACHE_ESTRATEGY;
    if (!behind && (c->ack == CACHE_ACK_MEMORY || c->when_full ||
                    wb->max_dirty || wb->max_batch || wb->max_in_flight ||
                    wb->max_attempts || wb->on_dead_letter))
        return CACHE_ESTRATEGY;
#ifdef CACHE__THREADS
    if (c->journal.path ? !behind : c->ack == CACHE_ACK_JOURNAL)
        return CACHE_ESTRATEGY;
#else
    if (c->ack == CACHE_ACK_JOURNAL)
        return CACHE_ESTRATEGY;
#endif
    if (c->store == NULL && ((reads && !loads) || (writes && !stores)))
        return CACHE_ENOSTORE;
#ifndef CACHE__THREADS
    if (c->store != NULL && !(c->store->capabilities & CACHE_STORE_BLOCKS))
        return CACHE_ENOSTORE;
#endif
    return 0;
}

/* Fills in the defaults.  Returns 0, or the first thing that is wrong. */
CACHE_COLD int cache__front_config(struct cache_loading_config *out,
                                   const struct cache_loading_config *config,
                                   const struct cache_front_type *type,
                                   uint32_t hooks)
{
    struct cache_wb_config *wb = &out->write_behind;
    uint32_t tick_ms;
    int rc;

    if (config == NULL)
        return CACHE_EINVAL;
    *out = *config;
    rc = cache__front_strategies(out, hooks);
    if (rc != 0)
        return rc;
    if ((out->store != NULL || out->writes == CACHE_WRITE_BEHIND) &&
        (out->key_codec == NULL || out->value_codec == NULL ||
         out->key_codec->object_bytes != type->key_bytes ||
         out->value_codec->object_bytes != type->value_bytes))
        return CACHE_ENOCODEC;
    if ((hooks & CACHE__HAS_RETAIN) && (type->options & CACHE_PLAIN_DATA))
        return CACHE_ERETAIN; /* a hit copies without the lock */
    if ((hooks & CACHE__HAS_RETAIN) && !type->shared)
        return CACHE_ERETAIN;
    if (out->cache.ttl_ms != 0) /* it is freshness.ttl_ms */
        return CACHE_EFRESHNESS;
    tick_ms = out->cache.tick_ms ? out->cache.tick_ms : CACHE_DEFAULT_TICK_MS;
    rc = cache_freshness_check(&out->freshness, tick_ms);
    if (rc != 0)
        return rc;
    if (out->max_claims == 0)
        out->max_claims = CACHE_LOADING_DEFAULT_MAX_CLAIMS;
    if (out->max_claims > CACHE_MAX_CAPACITY / 4)
        return CACHE_ELIMIT;
    if (out->claim_ms == 0)
        out->claim_ms = CACHE_LOADING_DEFAULT_CLAIM_MS;
    if (out->wait_ms == 0)
        out->wait_ms = CACHE_LOADING_DEFAULT_WAIT_MS;
    if (out->ack == CACHE_ACK_DEFAULT)
        out->ack = out->writes == CACHE_WRITE_BEHIND ? CACHE_ACK_MEMORY
                                                     : CACHE_ACK_STORE;
#ifdef CACHE__THREADS
    if (config->ack == CACHE_ACK_DEFAULT && out->journal.path)
        out->ack = CACHE_ACK_JOURNAL;
    if (out->journal.alloc == NULL && out->journal.free == NULL) {
        out->journal.alloc = out->cache.alloc;
        out->journal.free = out->cache.free;
    }
    if (out->journal.user == NULL)
        out->journal.user = out->cache.user;
#endif
    if (out->writes != CACHE_WRITE_BEHIND)
        return 0;
    wb->max_key_bytes = out->key_codec->max_bytes;
    wb->max_value_bytes = out->value_codec->max_bytes;
    if ((wb->alloc == NULL) != (wb->free == NULL))
        return CACHE_EALLOCATOR;
    if (wb->user == NULL)
        wb->user = out->cache.user;
    return 0;
}

/* Lays the block out; with base = NULL it only says how large it is, 0 if it
 * does not fit the address space. */
CACHE_COLD size_t cache__front_place(struct cache_front *f, unsigned char *base)
{
    struct cache_claims *t = &f->claims;
    const struct cache_codec *key_codec = f->config.key_codec;
    const struct cache_codec *value_codec = f->config.value_codec;
    size_t n = (size_t)f->config.max_claims + 1, at = 0;
    size_t key_bytes = f->type->key_bytes;
    size_t value_bytes = f->type->shared ? f->type->value_bytes : 0;
    size_t key_max =
        key_codec ? cache__round_up(key_codec->max_bytes, CACHE__LINE) : 0;
    size_t value_max =
        value_codec ? cache__round_up(value_codec->max_bytes, 16) : 0;
    size_t records = cache__place(&at, n, sizeof *t->records);
#ifdef CACHE__THREADS
    size_t owners =
        cache__place(&at, f->type->shared ? n : 0, sizeof *t->owners);
#endif
    size_t heads = cache__place(&at, 2 * n, sizeof *t->heads);
    bool times = (f->type->options & CACHE_TIMINGS) != 0;
    size_t timings =
        cache__place(&at, times ? CACHE__N_TIMINGS : 0, sizeof *f->timings);
    size_t keys = cache__place(&at, n, key_bytes);
    size_t values = cache__place(&at, n, value_bytes);
    size_t scratch = cache__place(&at, 1, key_max);
    uint32_t r;

    (void)cache__place(&at, 1, value_max); /* behind the key */
    if (at > CACHE__LAYOUT_LIMIT || base == NULL)
        return at > CACHE__LAYOUT_LIMIT ? 0 : at;
    memset(base, 0, keys); /* the rest is written before it is read */
    t->records = (struct cache_pending *)(void *)(base + records);
#ifdef CACHE__THREADS
    t->owners = (pthread_t *)(void *)(base + owners);
#endif
    t->heads = (uint32_t *)(void *)(base + heads);
    t->keys = base + keys;
    t->values = base + values;
    t->key_bytes = key_bytes;
    t->value_bytes = value_bytes;
    t->n = f->config.max_claims;
    t->lapse_ms = CACHE_NEVER;
    t->n_heads = 2 * t->n;
    t->equal = f->type->equal;
    for (r = t->n; r > 0; r--) {
        t->records[r].chain = t->free_records;
        t->free_records = r;
    }
    if (times)
        f->timings = (struct cache_histogram *)(void *)(base + timings);
    f->scratch = base + scratch;
    f->key_max = key_max;
    f->value_max = value_max;
    return at;
}

CACHE_COLD void *cache__front_wb_alloc(size_t bytes, void *user)
{
    const struct cache_front *f = (const struct cache_front *)user;
    const struct cache_wb_config *wb = &f->config.write_behind;

    return wb->alloc ? wb->alloc(bytes, wb->user)
                     : cache__front_alloc(f, bytes);
}

CACHE_COLD void cache__front_wb_free(void *memory, void *user)
{
    const struct cache_front *f = (const struct cache_front *)user;
    const struct cache_wb_config *wb = &f->config.write_behind;

    if (wb->free)
        wb->free(memory, wb->user);
    else
        cache__front_free(f, memory);
}

#ifdef CACHE__THREADS
/* A write of the journal becomes dirty again.  Where there are more of them
 * than may be, the store gets some. */
CACHE_COLD int cache__front_replay(const struct cache_store_item *item,
                                   void *user)
{
    struct cache_front *f = (struct cache_front *)user;
    uint64_t until_ms = cache__front_deadline(f, 0);
    int rc;

    cache__front_lock(f);
    while ((rc = cache_wb_accepts(&f->writes, item)) == CACHE_EFULL &&
           cache__clock_ms(&f->clock) < until_ms) {
        cache__front_push(f, f->writes.config.max_batch, until_ms);
        if (cache_wb_n_dirty(&f->writes) == f->writes.config.max_dirty)
            cache__front_wait(f, CACHE__POLL_MS);
    }
    f->writes.version = item->version - 1;
    if (rc == 0)
        rc = cache_wb_write(&f->writes, item, cache__clock_ms(&f->clock));
    cache__front_unlock(f);
    return rc;
}

/* What was sent to the store while init went on has to come back. */
CACHE_COLD void cache__front_recall(struct cache_front *f)
{
    cache__front_lock(f);
    cache__front_collect(f);
    while (f->behind && f->writes.n_in_flight > 0) {
        cache__front_wait(f, CACHE__POLL_MS);
        cache__front_collect(f);
    }
    cache__front_unlock(f);
}

CACHE_COLD int cache__front_open_journal(struct cache_front *f)
{
    int rc;

    if (f->config.journal.path == NULL)
        return 0;
    rc = cache_journal_open(&f->journal, &f->config.journal,
                            cache__front_replay, f);
    f->config.journal.path = NULL; /* the caller's; used no more */
    if (rc != 0) {
        cache__front_recall(f);
        return rc;
    }
    f->journals = true;
    f->writes.version = cache_journal_last(&f->journal);
    return 0;
}
#endif

/* Makes the front of cells that are there: their clock is this one. */
CACHE_COLD int cache__front_init(struct cache_front *f,
                                 const struct cache_front_type *type,
                                 uint32_t hooks,
                                 const struct cache_loading_config *full,
                                 const struct cache_clock *clock, uint64_t seed)
{
    struct cache_front before = *f;
    size_t bytes;
    int rc = 0;

    memset(f, 0, sizeof *f);
    f->type = type;
    f->hooks = hooks;
    f->config = *full;
    f->clock = *clock;
    f->clock.tick = 1;
    f->epoch = 1;
    f->random = seed;
    f->idles = full->freshness.idle_ms != 0;
    f->behind = full->writes == CACHE_WRITE_BEHIND;
    f->threads = type->shared || full->store != NULL;
    bytes = cache__front_place(f, NULL);
    if (bytes == 0)
        rc = CACHE_ESIZE;
    else if ((f->memory = cache__front_alloc(f, bytes)) == NULL)
        rc = CACHE_ENOMEM;
    else
        (void)cache__front_place(f, (unsigned char *)f->memory);
    if (rc == 0 && f->behind) {
        struct cache_wb_config wb = full->write_behind;

        wb.on_dead_letter = cache__front_letter;
        wb.alloc = cache__front_wb_alloc;
        wb.free = cache__front_wb_free;
        wb.user = f;
        rc = cache_wb_init(&f->writes, &wb);
    }
#ifdef CACHE__THREADS
    if (rc == 0)
        rc = cache__front_make_locks(f);
    if (rc == 0) {
        rc = cache__front_open_journal(f);
        if (rc != 0)
            cache__front_break_locks(f);
    }
#endif
    if (rc != 0) {
        if (f->behind)
            cache_wb_destroy(&f->writes);
        cache__front_free(f, f->memory);
        *f = before;
        return rc;
    }
    f->open = true;
    return 0;
}

/* What is dirty and in the journal is not lost.  Returns 0, or why the journal
 * does not have it. */
CACHE_COLD int cache__front_close_journal(struct cache_front *f)
{
#ifdef CACHE__THREADS
    if (!f->journals)
        return 0;
    f->journals = false;
    f->safe = true;
    return cache_journal_close(&f->journal);
#else
    (void)f;
    return 0;
#endif
}

/* name_close, without the type: from now on nothing is written. */
CACHE_COLD int cache__front_close(struct cache_front *f, uint64_t timeout_ms,
                                  uint64_t *n_lost)
{
    uint64_t until_ms;
    bool in_time = true;
    int rc;

    if (n_lost)
        *n_lost = 0;
    if (f->type == NULL)
        return 0;
    cache__front_lock(f);
    f->open = false;
    until_ms = cache__sum_ms(cache__clock_ms(&f->clock), timeout_ms);
    while (f->behind && cache_wb_n_dirty(&f->writes) > 0 && in_time) {
        /* Without time, everything is tried once. */
        cache__front_push(f, UINT32_MAX, timeout_ms ? until_ms : CACHE_NEVER);
        in_time = cache__clock_ms(&f->clock) < until_ms;
        if (cache_wb_n_dirty(&f->writes) > 0 && in_time)
            cache__front_wait(f, CACHE__POLL_MS);
    }
    while (f->behind && f->writes.n_in_flight > 0) {
        cache__front_wait(f, CACHE__POLL_MS);
        cache__front_collect(f);
    }
    rc = cache__front_close_journal(f);
    if (f->behind)
        (void)cache_wb_give_up(&f->writes);
    if (n_lost)
        *n_lost = f->n_lost;
    if (f->n_lost + f->writes.stats.n_dead > 0)
        rc = CACHE_EDEADLETTER;
    cache__front_unlock(f);
    return rc;
}

CACHE_COLD void cache__front_destroy(struct cache_front *f)
{
    uint32_t r;

    if (f->type == NULL)
        return;
    (void)cache__front_close(f, 0, NULL);
    for (r = 1; r <= f->claims.n; r++)
        if (f->claims.records[r].state == CACHE_PENDING_LOAD)
            cache__front_release(f, r, CACHE__ASK_AGAIN);
    CACHE_ASSERT(f->claims.n_used == 0 && "a loading cache is destroyed while "
                                          "it is in use");
    if (f->behind)
        cache_wb_destroy(&f->writes);
#ifdef CACHE__THREADS
    cache__front_break_locks(f);
#endif
    cache__front_free(f, f->memory);
    memset(f, 0, sizeof *f);
}

/* What the front has to say; the cells' part is the caller's. */
CACHE_COLD int cache__front_stats(struct cache_front *f,
                                  struct cache_loading_stats *out)
{
    if ((f->type->options & CACHE_STATS) == 0)
        return CACHE_EINVAL;
    cache__front_lock(f);
    *out = f->stats;
    if (f->behind) {
        out->n_dirty = cache_wb_n_dirty(&f->writes);
        out->writes = f->writes.stats;
    }
    cache__front_unlock(f);
    return 0;
}

/* name_timing, without the type. */
CACHE_COLD int cache__front_timing(struct cache_front *f,
                                   enum cache_timing what,
                                   struct cache_histogram *out)
{
    if (f->timings == NULL || (uint32_t)what > (uint32_t)CACHE_TIMING_WRITE)
        return CACHE_EINVAL;
    memset(out, 0, sizeof *out);
    cache_histogram_merge(out, &f->timings[what]);
    return 0;
}

CACHE_COLD const char *cache__front_check(struct cache_front *f)
{
    const char *broken;

    cache__front_lock(f);
    broken = cache__claims_check(&f->claims);
    if (!broken && f->behind)
        broken = cache_wb_check(&f->writes);
    if (!broken && (f->hard > f->soft || f->soft > f->epoch))
        broken = "epochs: out of order";
    cache__front_unlock(f);
    return broken;
}

/* --- making a type ------------------------------------------------------- */

/* Types and callbacks. */
#define CACHE__DEFINE_LOADING_TYPES(name, K, V, ...)                           \
    typedef K name##_key;                                                      \
    typedef V name##_value;                                                    \
    struct name##_cell {                                                       \
        name##_value value;                                                    \
        struct cache_life life;                                                \
    };                                                                         \
    struct name##_write {                                                      \
        const name##_key *key;                                                 \
        const name##_value *value; /* NULL = remove */                         \
        struct cache_storing storing;                                          \
        int status; /* out */                                                  \
    };                                                                         \
    struct name##_event {                                                      \
        enum cache_event_kind kind;                                            \
        const name##_key *key;                                                 \
        const name##_value *value;                                             \
        enum cache_cause cause;                                                \
        int status;                                                            \
        size_t n;                                                              \
        const struct cache_store_item *letter;                                 \
    };                                                                         \
    typedef int (*name##_load_fn)(const name##_key *key, name##_value *value,  \
                                  struct cache_loaded *loaded, void *user);    \
    typedef void (*name##_load_many_fn)(                                       \
        const name##_key *keys, name##_value *values,                          \
        struct cache_loaded *loaded, size_t n, void *user);                    \
    typedef bool (*name##_each_fn)(const name##_key *key,                      \
                                   const name##_value *value, void *user);     \
    struct name##__each {                                                      \
        struct cache_moment at;                                                \
        name##_each_fn fn;                                                     \
        void *user;                                                            \
    };                                                                         \
    struct name##_callbacks {                                                  \
        int (*key_copy)(name##_key * key, void *user) CACHE__NULL_DEFAULT;     \
        void (*key_free)(name##_key * key, void *user) CACHE__NULL_DEFAULT;    \
        void (*on_remove)(const name##_key *key, name##_value *value,          \
                          enum cache_cause cause,                              \
                          void *user) CACHE__NULL_DEFAULT;                     \
        uint64_t (*weigh)(const name##_key *key, const name##_value *value,    \
                          void *user) CACHE__NULL_DEFAULT;                     \
        uint32_t (*cost)(const name##_key *key, const name##_value *value,     \
                         void *user) CACHE__NULL_DEFAULT;                      \
        void (*retain)(const name##_value *value,                              \
                       void *user) CACHE__NULL_DEFAULT;                        \
        name##_load_fn load CACHE__NULL_DEFAULT;                               \
        name##_load_many_fn load_many CACHE__NULL_DEFAULT;                     \
        int (*store)(const name##_key *key, const name##_value *value,         \
                     const struct cache_storing *storing,                      \
                     void *user) CACHE__NULL_DEFAULT;                          \
        int (*remove)(const name##_key *key,                                   \
                      const struct cache_storing *storing,                     \
                      void *user) CACHE__NULL_DEFAULT;                         \
        void (*store_many)(struct name##_write * writes, size_t n,             \
                           void *user) CACHE__NULL_DEFAULT;                    \
        void (*on_event)(const struct name##_event *event,                     \
                         void *user) CACHE__NULL_DEFAULT;                      \
    };                                                                         \
    CACHE_INLINE struct name##_callbacks name##__callbacks(void)               \
    {                                                                          \
        return __extension__(struct name##_callbacks) { __VA_ARGS__ };         \
    }                                                                          \
    struct cache__swallow_semicolon

/* What the cells tell us, we tell the program, of values only. */
#define CACHE__DEFINE_LOADING_TELL(name)                                       \
    CACHE_INLINE uint32_t name##__front_hooks(void)                            \
    {                                                                          \
        struct name##_callbacks has_ = name##__callbacks();                    \
        uint32_t hooks_ = 0;                                                   \
        if (has_.key_copy)                                                     \
            hooks_ |= CACHE__HAS_KEY_COPY;                                     \
        if (has_.key_free)                                                     \
            hooks_ |= CACHE__HAS_KEY_FREE;                                     \
        if (has_.load)                                                         \
            hooks_ |= CACHE__HAS_LOAD;                                         \
        if (has_.load_many)                                                    \
            hooks_ |= CACHE__HAS_LOAD_MANY;                                    \
        if (has_.store)                                                        \
            hooks_ |= CACHE__HAS_STORE;                                        \
        if (has_.remove)                                                       \
            hooks_ |= CACHE__HAS_REMOVE;                                       \
        if (has_.store_many)                                                   \
            hooks_ |= CACHE__HAS_STORE_MANY;                                   \
        if (has_.on_event)                                                     \
            hooks_ |= CACHE__HAS_EVENT;                                        \
        if (has_.retain)                                                       \
            hooks_ |= CACHE__HAS_RETAIN;                                       \
        return hooks_;                                                         \
    }                                                                          \
    CACHE_UNUSED static void name##__front_tell(                               \
        const struct cache_event *event, void *user)                           \
    {                                                                          \
        struct name##_event typed_ = { event->kind,                            \
                                       (const name##_key *)event->key,         \
                                       (const name##_value *)event->value,     \
                                       event->cause,                           \
                                       event->status,                          \
                                       event->n,                               \
                                       event->letter };                        \
        if (name##__callbacks().on_event)                                      \
            name##__callbacks().on_event(&typed_, user);                       \
    }                                                                          \
    CACHE_UNUSED static void name##__cell_left(                                \
        const name##_key *key, struct name##_cell *cell,                       \
        enum cache_cause cause, void *user)                                    \
    {                                                                          \
        struct name##_event event_ = {                                         \
            CACHE_EVENT_REMOVE, key, &cell->value, cause, 0, 0, NULL           \
        };                                                                     \
        if (cell->life.state < 0)                                              \
            return;                                                            \
        if (name##__callbacks().on_event && cause != CACHE_CAUSE_REPLACED)     \
            name##__callbacks().on_event(&event_, user);                       \
        if (name##__callbacks().on_remove)                                     \
            name##__callbacks().on_remove(key, &cell->value, cause, user);     \
    }                                                                          \
    CACHE_UNUSED static uint64_t name##__cell_weigh(                           \
        const name##_key *key, const struct name##_cell *cell, void *user)     \
    {                                                                          \
        return cell->life.state < 0                                            \
                   ? 0                                                         \
                   : name##__callbacks().weigh(key, &cell->value, user);       \
    }                                                                          \
    CACHE_UNUSED static uint32_t name##__cell_cost(                            \
        const name##_key *key, const struct name##_cell *cell, void *user)     \
    {                                                                          \
        return cell->life.state < 0                                            \
                   ? 1                                                         \
                   : name##__callbacks().cost(key, &cell->value, user);        \
    }                                                                          \
    struct cache__swallow_semicolon

/* The callbacks of the cells. */
#define CACHE__CELL_CALLBACKS(name)                                            \
    .key_copy = name##__callbacks().key_copy,                                  \
    .key_free = name##__callbacks().key_free,                                  \
    .on_remove = name##__callbacks().on_remove || name##__callbacks().on_event \
                     ? name##__cell_left                                       \
                     : NULL,                                                   \
    .weigh = name##__callbacks().weigh ? name##__cell_weigh : NULL,            \
    .cost = name##__callbacks().cost ? name##__cell_cost : NULL

/* What the front calls the program with. */
#define CACHE__DEFINE_LOADING_STORE(name, equal_fn)                            \
    CACHE_UNUSED static bool name##__front_equal(const void *a, const void *b) \
    {                                                                          \
        return (equal_fn)((const name##_key *)a, (const name##_key *)b);       \
    }                                                                          \
    CACHE_UNUSED static int name##__front_key_copy(void *key, void *user)      \
    {                                                                          \
        return name##__callbacks().key_copy((name##_key *)key, user);          \
    }                                                                          \
    CACHE_UNUSED static void name##__front_key_free(void *key, void *user)     \
    {                                                                          \
        name##__callbacks().key_free((name##_key *)key, user);                 \
    }                                                                          \
    CACHE_UNUSED static void name##__front_retain(const void *value,           \
                                                  void *user)                  \
    {                                                                          \
        if (name##__callbacks().retain)                                        \
            name##__callbacks().retain((const name##_value *)value, user);     \
    }                                                                          \
    CACHE_UNUSED static void name##__front_discard(                            \
        const void *key, const void *value, void *user)                        \
    {                                                                          \
        name##_value value_ = *(const name##_value *)value;                    \
        if (name##__callbacks().on_remove)                                     \
            name##__callbacks().on_remove((const name##_key *)key, &value_,    \
                                          CACHE_CAUSE_EVICTED, user);          \
    }                                                                          \
    CACHE_UNUSED static int name##__front_call(                                \
        const void *fn, const void *key, void *value,                          \
        struct cache_loaded *loaded, void *user)                               \
    {                                                                          \
        return (*(const name##_load_fn *)fn)(                                  \
            (const name##_key *)key, (name##_value *)value, loaded, user);     \
    }                                                                          \
    CACHE_UNUSED static int name##__front_load(                                \
        const void *key, void *value, struct cache_loaded *loaded, void *user) \
    {                                                                          \
        return name##__callbacks().load((const name##_key *)key,               \
                                        (name##_value *)value, loaded, user);  \
    }                                                                          \
    CACHE_UNUSED static void name##__front_load_many(                          \
        const void *fn, const void *keys, void *values,                        \
        struct cache_loaded *loaded, size_t n_, void *user)                    \
    {                                                                          \
        name##_load_many_fn load_ = fn ? *(const name##_load_many_fn *)fn      \
                                       : name##__callbacks().load_many;        \
        load_((const name##_key *)keys, (name##_value *)values, loaded, n_,    \
              user);                                                           \
    }                                                                          \
    CACHE_UNUSED static int name##__front_store(                               \
        const struct cache_front_write *write, void *user)                     \
    {                                                                          \
        const name##_key *key_ = (const name##_key *)write->key;               \
        const name##_value *value_ = (const name##_value *)write->value;       \
        return value_                                                          \
                   ? name##__callbacks().store(key_, value_, &write->storing,  \
                                               user)                           \
                   : name##__callbacks().remove(key_, &write->storing, user);  \
    }                                                                          \
    CACHE__DEFINE_LOADING_STORE_MANY(name)

#define CACHE__DEFINE_LOADING_STORE_MANY(name)                                 \
    CACHE_UNUSED static void name##__front_describe(                           \
        void *typed, const struct cache_front_write *write)                    \
    {                                                                          \
        struct name##_write *write_ = (struct name##_write *)typed;            \
        write_->key = (const name##_key *)write->key;                          \
        write_->value = (const name##_value *)write->value;                    \
        write_->storing = write->storing;                                      \
        write_->status = 0;                                                    \
    }                                                                          \
    CACHE_UNUSED static void name##__front_store_many(void *typed, size_t n_,  \
                                                      void *user)              \
    {                                                                          \
        name##__callbacks().store_many((struct name##_write *)typed, n_,       \
                                       user);                                  \
    }                                                                          \
    struct cache__swallow_semicolon

/* The constant that describes a type to the front. */
#define CACHE__DEFINE_FRONT_TYPE(name, shared, all_options)                    \
    enum { name##__options = (all_options) };                                  \
    CACHE_UNUSED static const struct cache_front_type name##__front_type = {   \
        name##__options,                                                       \
        shared,                                                                \
        sizeof(name##_key),                                                    \
        sizeof(name##_value),                                                  \
        name##__front_equal,                                                   \
        name##__front_hash,                                                    \
        name##__front_key_copy,                                                \
        name##__front_key_free,                                                \
        name##__front_retain,                                                  \
        name##__front_discard,                                                 \
        name##__front_visit,                                                   \
        name##__front_put,                                                     \
        name##__front_entry,                                                   \
        name##__front_remove,                                                  \
        name##__front_extend,                                                  \
        name##__front_clear,                                                   \
        name##__front_call,                                                    \
        name##__front_load,                                                    \
        name##__front_load_many,                                               \
        name##__front_store,                                                   \
        sizeof(struct name##_write),                                           \
        offsetof(struct name##_write, status),                                 \
        name##__front_describe,                                                \
        name##__front_store_many,                                              \
        name##__front_tell,                                                    \
    };                                                                         \
    struct cache__swallow_semicolon

/* How the front looks at the cells of a cache for one thread. */
#define CACHE__DEFINE_LOADING_VISIT(name)                                      \
    CACHE_UNUSED static uint64_t name##__front_hash(                           \
        const struct cache_front *f, const void *key)                          \
    {                                                                          \
        const struct name *c_ = (const struct name *)(const void *)f;          \
        return name##__cells__hash(&c_->cells.base, (const name##_key *)key);  \
    }                                                                          \
    CACHE_UNUSED static bool name##__front_visit(                              \
        struct cache_front *f, const void *key, uint64_t hash_,                \
        cache__visitor visitor, void *arg)                                     \
    {                                                                          \
        struct name##__cells *cells_ = &((struct name *)(void *)f)->cells;     \
        uint32_t slot_ =                                                       \
            name##__cells__seek(cells_, (const name##_key *)key, hash_);       \
        struct name##_cell *cell_ = &cells_->nodes[slot_].value;               \
        if (!cache__live(&cells_->base, name##__cells__options, slot_))        \
            return false;                                                      \
        if (visitor(&cell_->life, &cell_->value,                               \
                    cache__version_of(&cells_->base, name##__cells__options,   \
                                      slot_),                                  \
                    arg) &                                                     \
            CACHE__VISIT_USED)                                                 \
            (void)cache__hit(&cells_->base, &name##__cells__kind, slot_,       \
                             hash_);                                           \
        return true;                                                           \
    }                                                                          \
    struct cache__swallow_semicolon

/* What else it wants of them, of either kind. */
#define CACHE__DEFINE_LOADING_CELLS(name)                                      \
    CACHE_UNUSED static int name##__front_put(                                 \
        struct cache_front *f, const void *key, const void *value,             \
        const struct cache_life *life, uint64_t hash_, uint64_t ttl_ms,        \
        uint64_t *version)                                                     \
    {                                                                          \
        struct name##__cells *cells_ = &((struct name *)(void *)f)->cells;     \
        const name##_key *key_ = (const name##_key *)key;                      \
        bool there_ = name##__callbacks().on_event && value &&                 \
                      cache__front_holds(f, key, hash_);                       \
        struct name##_cell cell_;                                              \
        int rc_;                                                               \
        memset(&cell_, 0, sizeof cell_);                                       \
        if (value)                                                             \
            cell_.value = *(const name##_value *)value;                        \
        cell_.life = *life;                                                    \
        rc_ = name##__cells__put_version(cells_, key_, &cell_, hash_, ttl_ms,  \
                                         *version ? CACHE__GIVEN : CACHE__ANY, \
                                         version);                             \
        if (rc_ == 0 && value)                                                 \
            cache__front_tell(                                                 \
                f, there_ ? CACHE_EVENT_UPDATE : CACHE_EVENT_INSERT, key,      \
                value, 0);                                                     \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static int name##__front_entry(                               \
        struct cache_front *f, const void *key, struct cache_entry *out)       \
    {                                                                          \
        return name##__cells_entry(&((struct name *)(void *)f)->cells,         \
                                   *(const name##_key *)key, out);             \
    }                                                                          \
    CACHE_UNUSED static int name##__front_remove(struct cache_front *f,        \
                                                 const void *key)              \
    {                                                                          \
        return name##__cells_remove(&((struct name *)(void *)f)->cells,        \
                                    *(const name##_key *)key);                 \
    }                                                                          \
    CACHE_UNUSED static int name##__front_extend(                              \
        struct cache_front *f, const void *key, uint64_t ttl_ms)               \
    {                                                                          \
        return name##__cells_touch_ttl(&((struct name *)(void *)f)->cells,     \
                                       *(const name##_key *)key, ttl_ms);      \
    }                                                                          \
    CACHE_UNUSED static void name##__front_clear(struct cache_front *f)        \
    {                                                                          \
        (void)name##__cells_clear(&((struct name *)(void *)f)->cells);         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking: what is fresh is found here; for all else there is the front. */
#define CACHE__DEFINE_LOADING_HIT(name)                                        \
    CACHE_INLINE void name##__send_for(const struct name *c, uint64_t hash_)   \
    {                                                                          \
        CACHE__PREFETCH(cache__group(&c->cells.base, hash_));                  \
    }                                                                          \
    CACHE_INLINE bool name##__hit(struct name *c, const name##_key *key,       \
                                  uint64_t hash_, name##_value *out)           \
    {                                                                          \
        uint32_t slot_ = name##__cells__find(&c->cells, key, hash_);           \
        const struct name##_cell *cell_ = &c->cells.nodes[slot_].value;        \
        struct cache_moment at_;                                               \
        if (slot_ == 0 || c->front.idles)                                      \
            return false;                                                      \
        at_ = cache__front_moment(&c->front);                                  \
        if (!cache_life_is_fresh(&cell_->life, &at_))                          \
            return false;                                                      \
        cache__note_hit(&c->cells.base, name##__cells__options, slot_);        \
        cache__used(&c->cells.base, &name##__cells__kind, slot_, hash_);       \
        cache__count(name##__cells__options, &c->cells.base.stats.hits);       \
        *out = cell_->value;                                                   \
        return true;                                                           \
    }                                                                          \
    struct cache__swallow_semicolon

/* Making and unmaking. */
#define CACHE__DEFINE_LOADING_LIFE(name)                                       \
    CACHE_UNUSED static inline int name##_init(                                \
        struct name *c, const struct cache_loading_config *config)             \
    {                                                                          \
        struct cache_loading_config full_;                                     \
        struct cache_clock clock_;                                             \
        int rc_ = c ? cache__front_config(&full_, config, &name##__front_type, \
                                          name##__front_hooks())               \
                    : CACHE_EINVAL;                                            \
        struct name##__cells cells_;                                           \
        if (rc_ == 0)                                                          \
            rc_ = name##__cells_init(&cells_, &full_.cache);                   \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        memset(&clock_, 0, sizeof clock_);                                     \
        clock_.now = cells_.base.now;                                          \
        clock_.now_ms = cells_.base.now_ms;                                    \
        clock_.user = cells_.base.user;                                        \
        clock_.start_ms = cells_.base.start_ms;                                \
        clock_.tick_ms = cells_.base.tick_ms;                                  \
        rc_ = cache__front_init(&c->front, &name##__front_type,                \
                                name##__front_hooks(), &full_, &clock_,        \
                                cells_.base.seed);                             \
        if (rc_ != 0)                                                          \
            name##__cells_destroy(&cells_);                                    \
        else                                                                   \
            c->cells = cells_;                                                 \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_close(                               \
        struct name *c, uint64_t timeout_ms, uint64_t *n_lost)                 \
    {                                                                          \
        return cache__front_close(&c->front, timeout_ms, n_lost);              \
    }                                                                          \
    CACHE_UNUSED static inline void name##_destroy(struct name *c)             \
    {                                                                          \
        cache__front_destroy(&c->front);                                       \
        name##__cells_destroy(&c->cells);                                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_loading_stats(                       \
        struct name *c, struct cache_loading_stats *out)                       \
    {                                                                          \
        int rc_ = cache__front_stats(&c->front, out);                          \
        if (rc_ == 0)                                                          \
            rc_ = name##__cells_stats(&c->cells, &out->cells);                 \
        out->cells.misses += rc_ == 0 ? out->misses : 0;                       \
        if (rc_ == 0)                                                          \
            out->used_bytes = name##__cells_memory(&c->cells).used_bytes;      \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_timing(                              \
        struct name *c, enum cache_timing what, struct cache_histogram *out)   \
    {                                                                          \
        return cache__front_timing(&c->front, what, out);                      \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_len(const struct name *c)       \
    {                                                                          \
        return name##__cells_len(&c->cells);                                   \
    }                                                                          \
    CACHE_UNUSED static inline struct cache_memory name##_memory(              \
        const struct name *c)                                                  \
    {                                                                          \
        return name##__cells_memory(&c->cells);                                \
    }                                                                          \
    CACHE_UNUSED static inline const char *name##_check(struct name *c)        \
    {                                                                          \
        const char *broken_ = cache__front_check(&c->front);                   \
        return broken_ ? broken_ : name##__cells_check(&c->cells);             \
    }                                                                          \
    struct cache__swallow_semicolon

/* Reading. */
#define CACHE__DEFINE_LOADING_READ(name)                                       \
    CACHE_INLINE uint64_t name##__hash(const struct name *c,                   \
                                       const name##_key *key)                  \
    {                                                                          \
        return name##__front_hash(&c->front, key);                             \
    }                                                                          \
    CACHE_COLD int name##__load(struct name *c, const name##_key *key,         \
                                uint64_t hash_, name##_value *out,             \
                                const struct cache_reading *how,               \
                                name##_load_fn fn, void *user)                 \
    {                                                                          \
        struct cache__loader loader_ = { fn ? &fn : NULL, user, false };       \
        name##_value value_;                                                   \
        memset(&value_, 0, sizeof value_);                                     \
        return cache__front_load(&c->front, key, hash_, out, &value_, how,     \
                                 &loader_);                                    \
    }                                                                          \
    CACHE_COLD int name##__get_slowly(struct name *c, name##_key key,          \
                                      name##_value *out,                       \
                                      const struct cache_reading *how)         \
    {                                                                          \
        uint64_t hash_ = name##__hash(c, &key);                                \
        return c->front.config.reads == CACHE_READ_THROUGH &&                  \
                       !(how && how->skip_store)                               \
                   ? name##__load(c, &key, hash_, out, how, NULL, NULL)        \
                   : cache__front_get(&c->front, &key, hash_, out, how);       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_get(struct name *c, name##_key key,  \
                                              name##_value *out)               \
    {                                                                          \
        uint64_t begun_ = cache__front_begin(&c->front, name##__options);      \
        int found_ = name##__hit(c, &key, name##__hash(c, &key), out)          \
                         ? CACHE_FOUND                                         \
                         : name##__get_slowly(c, key, out, NULL);              \
        cache__front_end(&c->front, name##__options, CACHE_TIMING_READ,        \
                         begun_);                                              \
        return found_;                                                         \
    }                                                                          \
    CACHE_UNUSED static inline int name##_get_with(                            \
        struct name *c, name##_key key, name##_value *out,                     \
        const struct cache_reading *how)                                       \
    {                                                                          \
        return name##__get_slowly(c, key, out, how);                           \
    }                                                                          \
    /* What the look-ups of a block wait for is sent for at once. */           \
    CACHE_UNUSED static size_t name##__get_block(                              \
        struct name *c, const name##_key *keys, size_t n_,                     \
        name##_value *values, size_t first_, size_t *missing)                  \
    {                                                                          \
        static const struct cache_reading here_ = {                            \
            CACHE_STALE_DEFAULT, false, false, true, 0, 0                      \
        };                                                                     \
        uint64_t hashes_[CACHE__BLOCK];                                        \
        size_t n_missing_ = 0, i_;                                             \
        for (i_ = 0; i_ < n_; i_++) {                                          \
            hashes_[i_] = name##__hash(c, &keys[i_]);                          \
            name##__send_for(c, hashes_[i_]);                                  \
        }                                                                      \
        for (i_ = 0; i_ < n_; i_++)                                            \
            if (!name##__hit(c, &keys[i_], hashes_[i_], &values[i_]) &&        \
                name##__get_slowly(c, keys[i_], &values[i_], &here_) < 0)      \
                missing[n_missing_++] = first_ + i_;                           \
        return n_missing_;                                                     \
    }                                                                          \
    CACHE_UNUSED static inline size_t name##_get_many(                         \
        struct name *c, const name##_key *keys, size_t n_,                     \
        name##_value *values, size_t *missing)                                 \
    {                                                                          \
        size_t n_missing_ = 0, at_, part_;                                     \
        for (at_ = 0; at_ < n_; at_ += part_) {                                \
            part_ = n_ - at_ < CACHE__BLOCK ? n_ - at_ : CACHE__BLOCK;         \
            n_missing_ +=                                                      \
                name##__get_block(c, keys + at_, part_, values + at_, at_,     \
                                  missing + n_missing_);                       \
        }                                                                      \
        return n_missing_;                                                     \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking without a trace. */
#define CACHE__DEFINE_LOADING_PEEK(name)                                       \
    CACHE_UNUSED static inline int name##_entry(                               \
        struct name *c, name##_key key, struct cache_loading_entry *out)       \
    {                                                                          \
        return cache__front_entry(&c->front, &key, name##__hash(c, &key),      \
                                  out);                                        \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_peek(                               \
        struct name *c, name##_key key, name##_value *out)                     \
    {                                                                          \
        return cache__front_peek(&c->front, &key, name##__hash(c, &key), out); \
    }                                                                          \
    struct cache__swallow_semicolon

/* Claims and loads. */
#define CACHE__DEFINE_LOADING_CLAIM(name)                                      \
    CACHE_COLD int name##__claim_slowly(struct name *c, name##_key key,        \
                                        name##_value *out,                     \
                                        struct cache_claim *claim)             \
    {                                                                          \
        return cache__front_claim(&c->front, &key, name##__hash(c, &key), out, \
                                  NULL, claim);                                \
    }                                                                          \
    CACHE_UNUSED static inline int name##_claim(                               \
        struct name *c, name##_key key, name##_value *out,                     \
        struct cache_claim *claim)                                             \
    {                                                                          \
        uint64_t begun_ = cache__front_begin(&c->front, name##__options);      \
        int answer_ = name##__hit(c, &key, name##__hash(c, &key), out)         \
                          ? CACHE_CLAIM_HIT                                    \
                          : name##__claim_slowly(c, key, out, claim);          \
        cache__front_end(&c->front, name##__options, CACHE_TIMING_READ,        \
                         begun_);                                              \
        return answer_;                                                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_claim_with(                          \
        struct name *c, name##_key key, name##_value *out,                     \
        struct cache_claim *claim, const struct cache_reading *how)            \
    {                                                                          \
        return cache__front_claim(&c->front, &key, name##__hash(c, &key), out, \
                                  how, claim);                                 \
    }                                                                          \
    CACHE_UNUSED static inline int name##_commit_with(                         \
        struct name *c, struct cache_claim *claim, name##_value value,         \
        const struct cache_loaded *loaded)                                     \
    {                                                                          \
        return cache__front_commit(&c->front, claim, &value, loaded);          \
    }                                                                          \
    CACHE_UNUSED static inline int name##_commit(                              \
        struct name *c, struct cache_claim *claim, name##_value value)         \
    {                                                                          \
        return cache__front_commit(&c->front, claim, &value, NULL);            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_commit_negative(                     \
        struct name *c, struct cache_claim *claim)                             \
    {                                                                          \
        return cache__front_commit(&c->front, claim, NULL, NULL);              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_abandon(                             \
        struct name *c, struct cache_claim *claim, int error,                  \
        name##_value *out)                                                     \
    {                                                                          \
        return cache__front_abandon(&c->front, claim, error, out);             \
    }                                                                          \
    CACHE_UNUSED static inline int name##_load_with(                           \
        struct name *c, name##_key key, name##_value *out,                     \
        const struct cache_reading *how, name##_load_fn fn, void *user)        \
    {                                                                          \
        return name##__load(c, &key, name##__hash(c, &key), out, how, fn,      \
                            user);                                             \
    }                                                                          \
    CACHE_UNUSED static inline int name##_load(struct name *c, name##_key key, \
                                               name##_value *out,              \
                                               name##_load_fn fn, void *user)  \
    {                                                                          \
        uint64_t begun_ = cache__front_begin(&c->front, name##__options);      \
        uint64_t hash_ = name##__hash(c, &key);                                \
        int found_ = name##__hit(c, &key, hash_, out)                          \
                         ? CACHE_FOUND                                         \
                         : name##__load(c, &key, hash_, out, NULL, fn, user);  \
        cache__front_end(&c->front, name##__options, CACHE_TIMING_READ,        \
                         begun_);                                              \
        return found_;                                                         \
    }                                                                          \
    CACHE_UNUSED static inline size_t name##_load_many(                        \
        struct name *c, const name##_key *keys, size_t n_,                     \
        name##_value *values, int *found, name##_load_many_fn fn, void *user)  \
    {                                                                          \
        struct cache__loader loader_ = { fn ? &fn : NULL, user, true };        \
        return cache__front_load_many(                                         \
            &c->front, (const unsigned char *)(const void *)keys, n_,          \
            (unsigned char *)(void *)values, found, NULL, &loader_);           \
    }                                                                          \
    struct cache__swallow_semicolon

/* Writing. */
#define CACHE__DEFINE_LOADING_WRITE(name)                                      \
    CACHE_COLD int name##__write(                                              \
        struct name *c, const name##_key *key, const name##_value *value,      \
        const struct cache_writing *how, const uint64_t *expected)             \
    {                                                                          \
        struct cache_front_write write_;                                       \
        uint64_t begun_ = cache__front_begin(&c->front, name##__options);      \
        int rc_;                                                               \
        memset(&write_, 0, sizeof write_);                                     \
        write_.key = key;                                                      \
        write_.value = value;                                                  \
        write_.hash = name##__hash(c, key);                                    \
        write_.conditional = expected != NULL;                                 \
        write_.expected = expected ? *expected : 0;                            \
        rc_ = cache__front_write(&c->front, &write_, how);                     \
        cache__front_end(&c->front, name##__options, CACHE_TIMING_WRITE,       \
                         begun_);                                              \
        return rc_;                                                            \
    }                                                                          \
    CACHE_COLD int name##__write_many(                                         \
        struct name *c, const name##_key *keys, const name##_value *values,    \
        size_t n_, int *status, const struct cache_writing *how)               \
    {                                                                          \
        return cache__front_write_keys(                                        \
            &c->front, (const unsigned char *)(const void *)keys,              \
            (const unsigned char *)(const void *)values, n_, status, how);     \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put(struct name *c, name##_key key,  \
                                              name##_value value)              \
    {                                                                          \
        return name##__write(c, &key, &value, NULL, NULL);                     \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_ttl(                             \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms)   \
    {                                                                          \
        struct cache_writing how_ = cache__write_default;                      \
        how_.ttl_ms = ttl_ms;                                                  \
        return ttl_ms ? name##__write(c, &key, &value, &how_, NULL)            \
                      : CACHE_ETTL;                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_with(                            \
        struct name *c, name##_key key, name##_value value,                    \
        const struct cache_writing *how)                                       \
    {                                                                          \
        return name##__write(c, &key, &value, how, NULL);                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_if_version(                      \
        struct name *c, name##_key key, name##_value value, uint64_t version)  \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_META_VERSION);           \
        return rc_ ? rc_ : name##__write(c, &key, &value, NULL, &version);     \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_many(                            \
        struct name *c, const name##_key *keys, const name##_value *values,    \
        size_t n_, int *status)                                                \
    {                                                                          \
        return name##__write_many(c, keys, values, n_, status, NULL);          \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove(struct name *c,               \
                                                 name##_key key)               \
    {                                                                          \
        return name##__write(c, &key, NULL, NULL, NULL);                       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove_with(                         \
        struct name *c, name##_key key, const struct cache_writing *how)       \
    {                                                                          \
        return name##__write(c, &key, NULL, how, NULL);                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove_many(                         \
        struct name *c, const name##_key *keys, size_t n_, int *status)        \
    {                                                                          \
        return name##__write_many(c, keys, NULL, n_, status, NULL);            \
    }                                                                          \
    struct cache__swallow_semicolon

/* Invalidating, flushing. */
#define CACHE__DEFINE_LOADING_CHANGE(name)                                     \
    CACHE_UNUSED static inline void name##_invalidate(                         \
        struct name *c, enum cache_invalidation how)                           \
    {                                                                          \
        cache__front_invalidate(&c->front, how);                               \
    }                                                                          \
    CACHE_UNUSED static inline void name##_invalidate_key(                     \
        struct name *c, name##_key key, enum cache_invalidation how)           \
    {                                                                          \
        cache__front_invalidate_key(&c->front, &key, name##__hash(c, &key),    \
                                    how);                                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_flush(struct name *c,                \
                                                uint32_t budget)               \
    {                                                                          \
        return cache__front_flush(&c->front, budget);                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* Reclaiming and looking at all, for one thread. */
#define CACHE__DEFINE_LOADING_TICK(name)                                       \
    CACHE_UNUSED static bool name##__each_slot(const struct cache *c,          \
                                               uint32_t slot_, void *at_)      \
    {                                                                          \
        const struct name##__cells_node *node_ =                               \
            (const struct name##__cells_node *)c->nodes + slot_;               \
        const struct name##__each *each_ = (const struct name##__each *)at_;   \
        return !cache_life_has_value(&node_->value.life, &each_->at) ||        \
               each_->fn(&node_->key, &node_->value.value, each_->user);       \
    }                                                                          \
    CACHE_UNUSED static inline void name##_each(struct name *c,                \
                                                name##_each_fn fn, void *user) \
    {                                                                          \
        struct name##__each each_ = { cache__front_moment(&c->front), fn,      \
                                      user };                                  \
        cache__front_each(&c->cells.base, name##__cells__options,              \
                          name##__each_slot, &each_);                          \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        struct cache *cells_ = &c->cells.base;                                 \
        uint32_t left_ =                                                       \
            cache__sweep(cells_, &name##__cells__type, &max_items);            \
        if (!cache__front_sweeps(&c->front))                                   \
            return left_;                                                      \
        c->front.stats.reclaimed += cache__reclaim(                            \
            cells_, &name##__cells__type,                                      \
            offsetof(struct name##__cells_node, value) +                       \
                offsetof(struct name##_cell, life),                            \
            c->front.sweep_for, &c->front.sweep_at, &max_items);               \
        if (c->front.sweep_at >= cells_->fresh)                                \
            cache__front_swept(&c->front);                                     \
        return left_ + (cache__front_sweeps(&c->front)                         \
                            ? cells_->fresh - c->front.sweep_at                \
                            : 0);                                              \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_DEFINE_LOADING(name, K, V, hash, equal, options)
 * CACHE_DEFINE_LOADING_WITH(name, K, V, hash, equal, options, callbacks...)
 *
 * The arguments are those of CACHE_DEFINE_WITH (cache.h), without CACHE_PINS;
 * CACHE_EXPIRY goes without saying.  CACHE_STATS has name_loading_stats count,
 * CACHE_TIMINGS keeps the histograms of name_timing.
 *
 * Callbacks are designated initialisers in this order, each optional:
 *
 *   .key_copy, .key_free, .on_remove, .weigh, .cost
 *              As in cache.h.  .key_copy also runs for a key that is being
 *              loaded or written.  A value that leaves because all was
 *              invalidated has CACHE_CAUSE_INVALIDATED.
 *   .retain    As in cache_shared.h, for every value that comes out; only of the
 *              shared kind without CACHE_PLAIN_DATA (else CACHE_ERETAIN).  The
 *              first count of what a loader or codec has made is the cache's:
 *              what is not kept for want of room, on_remove has at once.
 *   .load      int (const K *key, V *value, struct cache_loaded *loaded, void
 *              *user): gets what the store has: 0, CACHE_EKEY, or what failed.
 *   .load_many void (const K *keys, V *values, struct cache_loaded *loaded,
 *              size_t n, void *user): the same for n of them; loaded[i].status
 *              is what load would return.
 *   .store     int (const K *key, const V *value, const struct cache_storing *,
 *              void *user): writes.  0, or what failed: then it may be there.
 *   .remove    int (const K *key, const struct cache_storing *, void *user):
 *              makes it absent; 0 also if it was.
 *   .store_many void (struct name_write *writes, size_t n, void *user): the
 *              same for n writes of different keys, .value NULL = remove;
 *              .status is what store or remove would return.
 *   .on_event  void (const struct name_event *event, void *user): enum
 *              cache_event_kind.  Must not call the cache.
 *   `user` is config.cache.user, but for a loader that is given to load.
 *
 * What it makes, `c` being a struct name *:
 *
 * int name_init(c, const struct cache_loading_config *config)
 *   Makes an empty cache; config is not kept, what it points to must outlive
 *   the cache.  With a journal, writes that the store does not have yet are
 *   dirty again; where there are more than max_dirty, they are stored now.
 *   Returns 0, CACHE_ENOMEM, CACHE_ESTRATEGY, CACHE_ENOSTORE, CACHE_ENOCODEC,
 *   CACHE_EFRESHNESS, CACHE_ETTL, the error of a member of config.cache or
 *   write_behind that is wrong, or cache_journal_open's; then nothing is
 *   allocated and *c is as it was.
 * int name_close(c, uint64_t timeout_ms, uint64_t *n_lost)
 *   From now on writes are refused with CACHE_ECLOSED.  Writes what is dirty to
 *   the store, for so long.  What is not there then is in the journal, if there
 *   is one, for the next init; or lost, which *n_lost (may be NULL) counts and
 *   on_dead_letter hears with CACHE_ECLOSED.  Waits for batches that are at the
 *   store.  0; CACHE_EDEADLETTER if a write was lost now or dead-lettered
 *   before; the journal's error.
 * void name_destroy(c)
 *   Closes without waiting for failures to pass, takes all entries out and
 *   frees everything.  Twice is harmless; so is a struct of zeroes.
 *
 * int name_get(c, K key, V *out)
 *   CACHE_FOUND, and the value in *out; CACHE_FOUND_STALE: past its time.  With
 *   CACHE_READ_THROUGH a value that is not there, or that it is time to load
 *   anew, is loaded as by name_load; otherwise nobody is asked to load, and a
 *   fallback is not served.  CACHE_EKEY: there is none, or what is known of it;
 *   with read-through also name_load's errors.  *out is filled in if the result
 *   is not negative, and as it was otherwise.
 * int name_get_with(c, key, out, const struct cache_reading *how)
 *   The same with options for this call.
 * size_t name_get_many(c, const K *keys, size_t n, V *values, size_t *missing)
 *   As get for each key, but that nothing is loaded.  missing[0 ..] are the
 *   places of those that have no value.  Returns how many.
 * bool name_peek(c, K key, V *out)
 *   Any value that is there, a fallback too.  Counts as nothing.
 *
 * int name_claim(c, K key, V *out, struct cache_claim *claim)
 *   Returns an enum cache_claim_answer; *out is filled in for HIT, STALE and
 *   STALE_YOU_REFRESH.  For STALE_YOU_REFRESH and MISS_YOU_LOAD, and else not
 *   to be looked at, *claim is the
 *   caller's to commit or abandon before config.claim_ms are over: then the
 *   next who asks has it.  Negative: the key is known to be absent (CACHE_EKEY)
 *   or failing (that error); CACHE_EFULL: max_claims keys are claimed.
 * int name_claim_with(c, key, out, claim, const struct cache_reading *how)
 * int name_commit(c, struct cache_claim *claim, V value)
 * int name_commit_with(c, claim, value, const struct cache_loaded *loaded)
 *   Stores what was loaded.  0; CACHE_ECONFLICT: the claim has lapsed, the key
 *   was written, removed or invalidated since, or there is a newer version: the
 *   value is the caller's; put's errors; CACHE_EINVAL: no such version.
 * int name_commit_negative(c, claim)
 *   There is no such key: that is known for freshness.negative_ttl_ms.  0 or
 *   CACHE_ECONFLICT.
 * int name_abandon(c, claim, int error, V *out)
 *   The load has failed with this error, which is known for error_ttl_ms; or
 *   was given up (0), and the next who asks has it.  If an older value may be
 *   served all the same it is in *out (may be NULL), and the result CACHE_FOUND
 *   or CACHE_FOUND_STALE; otherwise error, or CACHE_EKEY.
 *
 * int name_load(c, K key, V *out, name_load_fn load, void *user)
 *   The value; if there is none, or it is this reader's turn, what load (NULL =
 *   the strategy's) brings.  CACHE_FOUND, CACHE_FOUND_STALE (another loads it,
 *   or the load has failed), CACHE_FOUND_UNSTORED; or CACHE_EKEY, what load has
 *   failed with, CACHE_EBUSY: this thread, or where there is one only somebody,
 *   is loading or writing the key; CACHE_ETIMEOUT: another did so for longer
 *   than wait_ms; CACHE_EFULL: max_claims (where there are other threads, for
 *   longer than wait_ms).
 * int name_load_with(c, key, out, const struct cache_reading *how, load, user)
 * size_t name_load_many(c, const K *keys, size_t n, V *values, int *found,
 *                       name_load_many_fn load, void *user)
 *   As name_load for each key, with one call of load (NULL = the strategy's)
 *   for all that this call has to load, 256 at most.  found[i] is what
 *   name_load would return.  Returns how many are negative.
 *
 * int name_put(c, K key, V value), name_put_ttl(c, key, value, ttl_ms),
 * int name_put_with(c, key, value, const struct cache_writing *how)
 *   Writes as config.writes says.  0: it survives what config.ack promises.
 *   CACHE_ETTL; the store's error, and the cache is as it was; CACHE_EFULL:
 *   max_dirty, max_claims, or no room in a cache aside; CACHE_ETOOBIG,
 *   CACHE_ECODEC; CACHE_EBUSY, CACHE_ETIMEOUT: another write of the key;
 *   CACHE_ECLOSED. After an error of the journal or of an acknowledgement by
 *   the store, the write is accepted and may yet get there: put again to know.
 * int name_put_if_version(c, K key, V value, uint64_t version)
 *   Only over a value of this version, 0 = only if there is none; otherwise
 *   CACHE_ECONFLICT, and the entry is left alone.  Looks at the cache, not at
 *   the store.  CACHE_EINVAL without CACHE_META_VERSION.
 * int name_remove(c, K key), name_remove_with(c, key, how)
 *   The same for its removal; 0 also if it is not there.
 * int name_put_many(c, const K *keys, const V *values, size_t n, int *status),
 * int name_remove_many(c, keys, n, status)
 *   The same for each, what goes through in one call of the store.  status[i]
 *   (status may be NULL) is how it went; returns 0 or the first error.
 *
 * void name_invalidate(c, enum cache_invalidation how)
 *   Every value is gone, or past its fresh time, at once and whatever their
 *   number.  What is being loaded is not kept.  Dirty writes stay, and are
 *   served from their buffer; what has failed lately is asked for no sooner.
 *   Memory comes back with name_tick, or as others take the places.
 * void name_invalidate_key(c, K key, how)
 *   The same for one key.  The store is not told: see name_remove.
 *
 * int name_flush(c, uint32_t budget)
 *   Write-behind: writes so many to the store now, the oldest first, and what
 *   else fills a batch.  To be called now and then, by anybody.  Returns how
 *   many keys are dirty still.
 * uint32_t name_tick(c, uint32_t max_items)
 *   Looks at up to max_items entries and reclaims what has expired or was
 *   invalidated.  Returns how many are still to be looked at.
 *
 * int name_entry(c, K key, struct cache_loading_entry *out)
 *   What is known of a key.  0, or CACHE_EKEY.  Counts as nothing.
 * void name_each(c, bool (*fn)(const K *, const V *, void *user), void *user)
 *   Calls fn for every value that is there, until it returns false.
 * uint32_t name_len(c)
 *   Entries, with those that are gone and not yet reclaimed.
 * int name_loading_stats(c, struct cache_loading_stats *out)
 *   The counters.  CACHE_EINVAL without CACHE_STATS.
 * int name_timing(c, enum cache_timing what, struct cache_histogram *out)
 *   A histogram (cache_histogram.h).  CACHE_EINVAL without CACHE_TIMINGS.
 * struct cache_memory name_memory(c)
 *   Of the cells.
 * const char *name_check(c)
 *   For tests: walks every invariant.  NULL, or a sentence on what is broken.
 */
#define CACHE_DEFINE_LOADING_WITH(name, K, V, hash, equal, options, ...)       \
    CACHE__STATIC_ASSERT(((options)&CACHE_PINS) == 0,                          \
                         "CACHE_DEFINE_LOADING: pins keep pointers valid, "    \
                         "and a loading cache gives none out");                \
    CACHE__DEFINE_LOADING_TYPES(name, K, V, __VA_ARGS__);                      \
    CACHE__DEFINE_LOADING_TELL(name);                                          \
    CACHE_DEFINE_WITH(name##__cells, name##_key, struct name##_cell, hash,     \
                      equal, ((options) & ~CACHE_TIMINGS) | CACHE_EXPIRY,      \
                      CACHE__CELL_CALLBACKS(name));                            \
    struct name {                                                              \
        struct cache_front front;                                              \
        struct name##__cells cells;                                            \
    };                                                                         \
    CACHE__DEFINE_LOADING_STORE(name, equal);                                  \
    CACHE__DEFINE_LOADING_VISIT(name);                                         \
    CACHE__DEFINE_LOADING_CELLS(name);                                         \
    CACHE__DEFINE_FRONT_TYPE(name, false,                                      \
                             (int)name##__cells__options |                     \
                                 ((options) & (int)CACHE_TIMINGS));            \
    CACHE__DEFINE_LOADING_HIT(name);                                           \
    CACHE__DEFINE_LOADING_LIFE(name);                                          \
    CACHE__DEFINE_LOADING_READ(name);                                          \
    CACHE__DEFINE_LOADING_PEEK(name);                                          \
    CACHE__DEFINE_LOADING_CLAIM(name);                                         \
    CACHE__DEFINE_LOADING_WRITE(name);                                         \
    CACHE__DEFINE_LOADING_CHANGE(name);                                        \
    CACHE__DEFINE_LOADING_TICK(name)

#define CACHE_DEFINE_LOADING(name, K, V, hash, equal, options)                 \
    CACHE_DEFINE_LOADING_WITH(name, K, V, hash, equal, options,                \
                              .key_copy = NULL)

#endif /* CACHE_LOADING_H */
