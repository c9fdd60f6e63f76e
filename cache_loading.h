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

#include "cache_front.h"

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
    CACHE_UNUSED static void name##__front_store_many(                         \
        struct cache_front *f, struct cache_front_write *writes, size_t n_)    \
    {                                                                          \
        size_t i_;                                                             \
        struct name##_write *typed_ =                                          \
            (struct name##_write *)cache__front_alloc(                         \
                f, (n_ + 1) * sizeof(struct name##_write));                    \
        for (i_ = 0; i_ < n_; i_++) {                                          \
            writes[i_].status = CACHE_ENOMEM;                                  \
            if (typed_ == NULL)                                                \
                continue;                                                      \
            typed_[i_].key = (const name##_key *)writes[i_].key;               \
            typed_[i_].value = (const name##_value *)writes[i_].value;         \
            typed_[i_].storing = writes[i_].storing;                           \
            typed_[i_].status = 0;                                             \
        }                                                                      \
        if (typed_ == NULL)                                                    \
            return;                                                            \
        name##__callbacks().store_many(typed_, n_, f->config.cache.user);      \
        for (i_ = 0; i_ < n_; i_++)                                            \
            writes[i_].status = typed_[i_].status;                             \
        cache__front_free(f, typed_);                                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* The constant that describes a type to the front. */
#define CACHE__DEFINE_FRONT_TYPE(name, shared, all_options)                    \
    CACHE_UNUSED static const struct cache_front_type name##__front_type = {   \
        all_options,                                                           \
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
        name##__front_remove,                                                  \
        name##__front_keep,                                                    \
        name##__front_clear,                                                   \
        name##__front_call,                                                    \
        name##__front_load,                                                    \
        name##__front_load_many,                                               \
        name##__front_store,                                                   \
        name##__front_store_many,                                              \
        name##__front_tell,                                                    \
    };                                                                         \
    struct cache__swallow_semicolon

/* What the front wants of the cells of a cache for one thread. */
#define CACHE__DEFINE_LOADING_CELLS(name)                                      \
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
        if (visitor(&cell_->life, &cell_->value, arg) & CACHE__VISIT_USED)     \
            (void)cache__hit(&cells_->base, &name##__cells__kind, slot_,       \
                             hash_);                                           \
        return true;                                                           \
    }                                                                          \
    CACHE_UNUSED static int name##__front_put(                                 \
        struct cache_front *f, const void *key, const void *value,             \
        const struct cache_life *life, uint64_t hash_, uint64_t ttl_ms)        \
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
        rc_ = name##__cells__put(cells_, key_, &cell_, hash_, ttl_ms,          \
                                 CACHE__ANY);                                  \
        if (rc_ == 0 && value)                                                 \
            cache__front_tell(                                                 \
                f, there_ ? CACHE_EVENT_UPDATE : CACHE_EVENT_INSERT, key,      \
                value, 0);                                                     \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static int name##__front_remove(                              \
        struct cache_front *f, const void *key, uint64_t hash_)                \
    {                                                                          \
        return name##__cells__remove(&((struct name *)(void *)f)->cells,       \
                                     (const name##_key *)key, hash_);          \
    }                                                                          \
    CACHE_UNUSED static int name##__front_keep(                                \
        struct cache_front *f, const void *key, uint64_t hash_,                \
        uint64_t ttl_ms)                                                       \
    {                                                                          \
        return name##__cells__touch_ttl(&((struct name *)(void *)f)->cells,    \
                                        (const name##_key *)key, hash_,        \
                                        ttl_ms);                               \
    }                                                                          \
    CACHE_UNUSED static void name##__front_clear(struct cache_front *f)        \
    {                                                                          \
        (void)name##__cells_clear(&((struct name *)(void *)f)->cells);         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking: what is fresh is found here; for all else there is the front. */
#define CACHE__DEFINE_LOADING_HIT(name)                                        \
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
        if (rc_ == 0)                                                          \
            out->used_bytes = name##__cells_memory(&c->cells).used_bytes;      \
        return rc_;                                                            \
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
                                name##_load_fn load, void *user)               \
    {                                                                          \
        struct cache__loader loader_ = { load ? &load : NULL, user, false };   \
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
        return name##__hit(c, &key, name##__hash(c, &key), out)                \
                   ? CACHE_FOUND                                               \
                   : name##__get_slowly(c, key, out, NULL);                    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_get_with(                            \
        struct name *c, name##_key key, name##_value *out,                     \
        const struct cache_reading *how)                                       \
    {                                                                          \
        return name##__get_slowly(c, key, out, how);                           \
    }                                                                          \
    CACHE_UNUSED static inline size_t name##_get_many(                         \
        struct name *c, const name##_key *keys, size_t n_,                     \
        name##_value *values, size_t *missing)                                 \
    {                                                                          \
        static const struct cache_reading here_ = { CACHE_STALE_DEFAULT,       \
                                                    false, false, true, 0 };   \
        size_t n_missing_ = 0, i_;                                             \
        for (i_ = 0; i_ < n_; i_++)                                            \
            if (!name##__hit(c, &keys[i_], name##__hash(c, &keys[i_]),         \
                             &values[i_]) &&                                   \
                name##__get_slowly(c, keys[i_], &values[i_], &here_) < 0)      \
                missing[n_missing_++] = i_;                                    \
        return n_missing_;                                                     \
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
        return name##__hit(c, &key, name##__hash(c, &key), out)                \
                   ? CACHE_CLAIM_HIT                                           \
                   : name##__claim_slowly(c, key, out, claim);                 \
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
        const struct cache_reading *how, name##_load_fn load, void *user)      \
    {                                                                          \
        return name##__load(c, &key, name##__hash(c, &key), out, how, load,    \
                            user);                                             \
    }                                                                          \
    CACHE_UNUSED static inline int name##_load(                                \
        struct name *c, name##_key key, name##_value *out,                     \
        name##_load_fn load, void *user)                                       \
    {                                                                          \
        uint64_t hash_ = name##__hash(c, &key);                                \
        return name##__hit(c, &key, hash_, out)                                \
                   ? CACHE_FOUND                                               \
                   : name##__load(c, &key, hash_, out, NULL, load, user);      \
    }                                                                          \
    CACHE_UNUSED static inline size_t name##_load_many(                        \
        struct name *c, const name##_key *keys, size_t n_,                     \
        name##_value *values, int *found, name##_load_many_fn load,            \
        void *user)                                                            \
    {                                                                          \
        struct cache__loader loader_ = { load ? &load : NULL, user, true };    \
        return cache__front_load_many(                                         \
            &c->front, (const unsigned char *)(const void *)keys, n_,          \
            (unsigned char *)(void *)values, found, NULL, &loader_);           \
    }                                                                          \
    struct cache__swallow_semicolon

/* Writing. */
#define CACHE__DEFINE_LOADING_WRITE(name)                                      \
    CACHE_COLD int name##__write(struct name *c, const name##_key *key,        \
                                 const name##_value *value,                    \
                                 const struct cache_writing *how)              \
    {                                                                          \
        struct cache_front_write write_;                                       \
        memset(&write_, 0, sizeof write_);                                     \
        write_.key = key;                                                      \
        write_.value = value;                                                  \
        write_.hash = name##__hash(c, key);                                    \
        return cache__front_write(&c->front, &write_, how);                    \
    }                                                                          \
    CACHE_COLD int name##__write_many(                                         \
        struct name *c, const name##_key *keys, const name##_value *values,    \
        size_t n_, int *status, const struct cache_writing *how)               \
    {                                                                          \
        size_t bytes_ = n_ * sizeof(struct cache_front_write), i_;             \
        struct cache_front_write *writes_ =                                    \
            n_ > SIZE_MAX / sizeof *writes_                                    \
                ? NULL                                                         \
                : (struct cache_front_write *)cache__front_alloc(&c->front,    \
                                                                 bytes_ + 1);  \
        int rc_ = CACHE_ENOMEM;                                                \
        for (i_ = 0; i_ < n_ && writes_; i_++) {                               \
            memset(&writes_[i_], 0, sizeof writes_[i_]);                       \
            writes_[i_].key = &keys[i_];                                       \
            writes_[i_].value = values ? &values[i_] : NULL;                   \
            writes_[i_].hash = name##__hash(c, &keys[i_]);                     \
        }                                                                      \
        if (writes_)                                                           \
            rc_ = cache__front_write_many(&c->front, writes_, n_, how);        \
        for (i_ = 0; i_ < n_ && status; i_++)                                  \
            status[i_] = writes_ ? writes_[i_].status : CACHE_ENOMEM;          \
        cache__front_free(&c->front, writes_);                                 \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put(struct name *c, name##_key key,  \
                                              name##_value value)              \
    {                                                                          \
        return name##__write(c, &key, &value, NULL);                           \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_ttl(                             \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms)   \
    {                                                                          \
        struct cache_writing how_ = cache__write_default;                      \
        how_.ttl_ms = ttl_ms;                                                  \
        return ttl_ms ? name##__write(c, &key, &value, &how_) : CACHE_ETTL;    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_with(                            \
        struct name *c, name##_key key, name##_value value,                    \
        const struct cache_writing *how)                                       \
    {                                                                          \
        return name##__write(c, &key, &value, how);                            \
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
        return name##__write(c, &key, NULL, NULL);                             \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove_with(                         \
        struct name *c, name##_key key, const struct cache_writing *how)       \
    {                                                                          \
        return name##__write(c, &key, NULL, how);                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove_many(                         \
        struct name *c, const name##_key *keys, size_t n_, int *status)        \
    {                                                                          \
        return name##__write_many(c, keys, NULL, n_, status, NULL);            \
    }                                                                          \
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

/* Reclaiming, for one thread. */
#define CACHE__DEFINE_LOADING_TICK(name)                                       \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        struct cache *cells_ = &c->cells.base;                                 \
        uint32_t left_ =                                                       \
            cache__sweep(cells_, &name##__cells__type, &max_items);            \
        if (!cache__front_sweeps(&c->front))                                   \
            return left_;                                                      \
        cache__reclaim(cells_, &name##__cells__type,                           \
                       offsetof(struct name##__cells_node, value) +            \
                           offsetof(struct name##_cell, life),                 \
                       c->front.sweep_for, &c->front.sweep_at, &max_items);    \
        if (c->front.sweep_at >= cells_->fresh)                                \
            cache__front_swept(&c->front);                                     \
        return left_ + (cache__front_sweeps(&c->front)                         \
                            ? cells_->fresh - c->front.sweep_at                \
                            : 0);                                              \
    }                                                                          \
    struct cache__swallow_semicolon

#define CACHE_DEFINE_LOADING_WITH(name, K, V, hash, equal, options, ...)       \
    CACHE__STATIC_ASSERT(((options)&CACHE_PINS) == 0,                          \
                         "CACHE_DEFINE_LOADING: pins keep pointers valid, "    \
                         "and a loading cache gives none out");                \
    CACHE__DEFINE_LOADING_TYPES(name, K, V, __VA_ARGS__);                      \
    CACHE__DEFINE_LOADING_TELL(name);                                          \
    CACHE_DEFINE_WITH(name##__cells, name##_key, struct name##_cell, hash,     \
                      equal, (options) | CACHE_EXPIRY,                         \
                      CACHE__CELL_CALLBACKS(name));                            \
    struct name {                                                              \
        struct cache_front front;                                              \
        struct name##__cells cells;                                            \
    };                                                                         \
    CACHE__DEFINE_LOADING_STORE(name, equal);                                  \
    CACHE__DEFINE_LOADING_CELLS(name);                                         \
    CACHE__DEFINE_FRONT_TYPE(name, false, name##__cells__options);             \
    CACHE__DEFINE_LOADING_HIT(name);                                           \
    CACHE__DEFINE_LOADING_LIFE(name);                                          \
    CACHE__DEFINE_LOADING_READ(name);                                          \
    CACHE__DEFINE_LOADING_CLAIM(name);                                         \
    CACHE__DEFINE_LOADING_WRITE(name);                                         \
    CACHE__DEFINE_LOADING_TICK(name)

#define CACHE_DEFINE_LOADING(name, K, V, hash, equal, options)                 \
    CACHE_DEFINE_LOADING_WITH(name, K, V, hash, equal, options,                \
                              .key_copy = NULL)

#endif /* CACHE_LOADING_H */
