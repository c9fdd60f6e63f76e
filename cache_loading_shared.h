/*
 * cache_loading_shared.h - the caches of cache_loading.h for all threads.
 *
 * WHAT IT DOES
 *   CACHE_DEFINE_LOADING_SHARED makes what CACHE_DEFINE_LOADING does, whose
 *   functions any thread may call at any time.
 *
 *   EXAMPLE
 *     #include "cache_loading_shared.h"
 *
 *     CACHE_DEFINE_LOADING_SHARED(pages, uint64_t, struct page, cache_hash_u64,
 *                                 cache_equal_u64, CACHE_PLAIN_DATA);
 *
 *     // Any thread.  Of all who miss a page, one renders it, the others wait.
 *     int rc = pages_load(&cache, id, &page, render, &templates);
 *
 * HOW IT WORKS
 *   The cells are a shared cache (cache_shared.h): with CACHE_PLAIN_DATA a hit
 *   on a fresh value copies it out without a lock.  Whatever else happens, a
 *   miss, a stale value, a write, goes through the one lock of the front, which
 *   is never held while a loader or the store works.  A load has one thread;
 *   the others who want the key sleep until it is there, until their time is
 *   over (CACHE_ETIMEOUT), or until the claim lapses: then one of them loads.
 *
 *   A loader that asks for the key that it is loading gets CACHE_EBUSY.
 *
 * THREADS
 *   init, close and destroy: one thread, while no other uses the cache.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_LOADING_SHARED_H
#define CACHE_LOADING_SHARED_H

#include "cache_loading.h"
#include "cache_shared.h"

#ifndef CACHE__THREADS
#error "cache_loading_shared.h needs POSIX threads"
#endif

/* A look-up of a value that is fresh, under the lock of its shard. */
struct cache__fresh_look {
    struct cache_front *f;
    struct cache_moment at;
    void *out;
    bool found;
};

CACHE_COLD uint32_t cache__front_see_fresh(struct cache_life *life,
                                           const void *value, uint64_t version,
                                           void *arg)
{
    struct cache__fresh_look *look = (struct cache__fresh_look *)arg;

    (void)version;
    look->found = cache_life_is_fresh(life, &look->at);
    if (!look->found)
        return 0;
    memcpy(look->out, value, look->f->type->value_bytes);
    cache__front_retain(look->f, value);
    return CACHE__VISIT_USED;
}

/* Reclaims in the shard where the sweep is.  Returns true at its end. */
CACHE_COLD bool cache__reclaim_shard(struct cache_front *f,
                                     const struct cache_shared *c,
                                     const struct cache_shared_type *type,
                                     size_t life_at, bool one_by_one,
                                     struct cache__leavers *leavers,
                                     uint32_t *budget)
{
    const uint32_t at_once = one_by_one ? CACHE__LEAVERS - 1 : 64;
    struct cache *shard = cache__shard_at(c, type, f->sweep_shard);
    CACHE_LOCK_T *lock = cache__shard_lock(shard, type);
    uint32_t left, part;
    bool end;

    do {
        left = part = *budget < at_once ? *budget : at_once;
        CACHE_LOCK(lock);
        cache__entered(c, shard, type->shard->kind.options, leavers);
        f->stats.reclaimed += cache__reclaim(shard, type->shard, life_at,
                                             f->sweep_for, &f->sweep_at, &left);
        end = f->sweep_at >= shard->fresh;
        CACHE_UNLOCK(lock);
        *budget -= part - left;
        if (one_by_one)
            cache__see_off(shard, type, leavers, NULL);
    } while (!end && *budget > 0);
    return end;
}

/* Reclaims what was invalidated.  Returns how many slots are still to be looked
 * at, of which there are as many as the cache holds. */
CACHE_COLD uint32_t cache__shared_reclaim(struct cache_front *f,
                                          const struct cache_shared *c,
                                          const struct cache_shared_type *type,
                                          size_t life_at, bool one_by_one,
                                          struct cache__leavers *leavers,
                                          uint32_t budget)
{
    uint32_t backlog = 0;

    cache__front_lock(f);
    while (cache__front_sweeps(f) && budget > 0)
        if (cache__reclaim_shard(f, c, type, life_at, one_by_one, leavers,
                                 &budget)) {
            f->sweep_at = 0;
            if (++f->sweep_shard == c->n_shards)
                cache__front_swept(f);
        }
    if (cache__front_sweeps(f))
        backlog =
            (c->n_shards - f->sweep_shard) * (c->capacity / c->n_shards + 1);
    cache__front_unlock(f);
    return backlog;
}

/* How the front looks at the cells of a cache for all threads. */
#define CACHE__DEFINE_SHARED_VISIT(name)                                       \
    CACHE_UNUSED static uint64_t name##__front_hash(                           \
        const struct cache_front *f, const void *key)                          \
    {                                                                          \
        const struct name *c_ = (const struct name *)(const void *)f;          \
        return name##__cells__hash(&c_->cells, (const name##_key *)key);       \
    }                                                                          \
    CACHE_INLINE void name##__set_life(struct name##__cells__shard *shard_,    \
                                       uint32_t slot_,                         \
                                       const struct cache_life *life)          \
    {                                                                          \
        cache__begin_writing(&shard_->base, name##__cells__shard__options);    \
        if ((int)name##__cells__shard__options & (int)CACHE_PLAIN_DATA)        \
            cache__copy_bytes(                                                 \
                &shard_->nodes[slot_].value.life, life, sizeof *life,          \
                (offsetof(struct name##__cells__shard_node, value) +           \
                 offsetof(struct name##_cell, life)) |                         \
                    sizeof(struct name##__cells__shard_node),                  \
                true);                                                         \
        else                                                                   \
            shard_->nodes[slot_].value.life = *life;                           \
        cache__end_writing(&shard_->base, name##__cells__shard__options);      \
    }                                                                          \
    CACHE_UNUSED static bool name##__front_visit(                              \
        struct cache_front *f, const void *key, uint64_t hash_,                \
        cache__visitor visitor, void *arg)                                     \
    {                                                                          \
        struct name##__cells *cells_ = &((struct name *)(void *)f)->cells;     \
        struct name##__cells__leavers leavers_;                                \
        struct name##__cells__shard *shard_ =                                  \
            name##__cells__enter(cells_, hash_, &leavers_);                    \
        uint32_t slot_ = name##__cells__shard__seek(                           \
            shard_, (const name##_key *)key, hash_);                           \
        bool live_ =                                                           \
            cache__live(&shard_->base, name##__cells__shard__options, slot_);  \
        const void *outer_ = cache__inside;                                    \
        struct cache_life life_ = shard_->nodes[slot_].value.life;             \
        uint32_t what_ = 0;                                                    \
        cache__inside = cells_;                                                \
        if (live_)                                                             \
            what_ = visitor(&life_, &shard_->nodes[slot_].value.value,         \
                            cache__version_of(&shard_->base,                   \
                                              name##__cells__shard__options,   \
                                              slot_),                          \
                            arg);                                              \
        cache__inside = outer_;                                                \
        if (what_ & CACHE__VISIT_CHANGED)                                      \
            name##__set_life(shard_, slot_, &life_);                           \
        if (what_ & CACHE__VISIT_USED)                                         \
            (void)cache__hit(&shard_->base, &name##__cells__shard__kind,       \
                             slot_, hash_);                                    \
        CACHE_UNLOCK(&shard_->lock);                                           \
        if (what_ & CACHE__VISIT_USED)                                         \
            cache__sample(&cells_->base, &name##__cells__type, hash_);         \
        return live_;                                                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking: without a lock if the data is plain and nobody writes meanwhile. */
#define CACHE__DEFINE_SHARED_HIT(name)                                         \
    CACHE_INLINE void name##__send_for(const struct name *c, uint64_t hash_)   \
    {                                                                          \
        const struct name##__cells__shard *shard_ =                            \
            name##__cells__shard_of(&c->cells, hash_);                         \
        CACHE__PREFETCH(cache__group(&shard_->base, hash_));                   \
    }                                                                          \
    CACHE_COLD bool name##__hit_locked(struct name *c, const name##_key *key,  \
                                       uint64_t hash_, name##_value *out)      \
    {                                                                          \
        struct cache__fresh_look look_;                                        \
        look_.f = &c->front;                                                   \
        look_.at = cache__front_moment(&c->front);                             \
        look_.out = out;                                                       \
        look_.found = false;                                                   \
        return name##__front_visit(&c->front, key, hash_,                      \
                                   cache__front_see_fresh, &look_) &&          \
               look_.found;                                                    \
    }                                                                          \
    /* What a look has found, if it is fresh. */                               \
    CACHE_INLINE bool name##__hit_found(                                       \
        struct name *c, struct name##__cells__shard *shard_,                   \
        const name##_key *key, uint64_t hash_, uint32_t slot_,                 \
        enum cache__look found_, const struct name##_cell *cell_,              \
        name##_value *out)                                                     \
    {                                                                          \
        struct cache_moment at_;                                               \
        if (found_ != CACHE__LOOK_PRESENT)                                     \
            return false;                                                      \
        at_ = cache__front_moment(&c->front);                                  \
        if (!cache_life_is_fresh(&cell_->life, &at_))                          \
            return false;                                                      \
        *out = cell_->value;                                                   \
        return name##__cells__looked(&c->cells, shard_, key, hash_, slot_,     \
                                     found_, false);                           \
    }                                                                          \
    /* A look that was lost, or without CACHE_PLAIN_DATA. */                   \
    CACHE_COLD bool name##__hit_slowly(struct name *c, name##_key key,         \
                                       name##_value *out)                      \
    {                                                                          \
        uint64_t hash_ = name##__cells__hash(&c->cells, &key);                 \
        struct name##__cells__shard *shard_ =                                  \
            name##__cells__shard_of(&c->cells, hash_);                         \
        struct name##_cell cell_;                                              \
        uint32_t slot_ = 0;                                                    \
        enum cache__look found_ = CACHE__LOOK_LOST;                            \
        if ((int)name##__cells__shard__options & (int)CACHE_PLAIN_DATA)        \
            found_ =                                                           \
                name##__cells__look_again(&c->cells, shard_, &key, hash_,      \
                                          &cell_, &slot_, CACHE__LOOKS - 1);   \
        return found_ == CACHE__LOOK_LOST                                      \
                   ? name##__hit_locked(c, &key, hash_, out)                   \
                   : name##__hit_found(c, shard_, &key, hash_, slot_, found_,  \
                                       &cell_, out);                           \
    }                                                                          \
    CACHE_INLINE bool name##__hit(struct name *c, const name##_key *key,       \
                                  uint64_t hash_, name##_value *out)           \
    {                                                                          \
        struct name##__cells__shard *shard_ =                                  \
            name##__cells__shard_of(&c->cells, hash_);                         \
        struct name##_cell cell_;                                              \
        uint32_t slot_ = 0;                                                    \
        enum cache__look found_ = CACHE__LOOK_LOST;                            \
        if (c->front.idles)                                                    \
            return false;                                                      \
        if ((int)name##__cells__shard__options & (int)CACHE_PLAIN_DATA)        \
            found_ = name##__cells__look(&c->cells, shard_, key, hash_,        \
                                         &cell_, &slot_, false);               \
        return found_ == CACHE__LOOK_LOST                                      \
                   ? name##__hit_slowly(c, *key, out)                          \
                   : name##__hit_found(c, shard_, key, hash_, slot_, found_,   \
                                       &cell_, out);                           \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking at all, reclaiming. */
#define CACHE__DEFINE_SHARED_EACH(name)                                        \
    CACHE_UNUSED static bool name##__each_cell(                                \
        const name##_key *key, const struct name##_cell *cell, void *user)     \
    {                                                                          \
        const struct name##__each *each_ = (const struct name##__each *)user;  \
        return !cache_life_has_value(&cell->life, &each_->at) ||               \
               each_->fn(key, &cell->value, each_->user);                      \
    }                                                                          \
    CACHE_UNUSED static inline void name##_each(struct name *c,                \
                                                name##_each_fn fn, void *user) \
    {                                                                          \
        struct name##__each each_;                                             \
        each_.at = cache__front_moment(&c->front);                             \
        each_.fn = fn;                                                         \
        each_.user = user;                                                     \
        name##__cells_each(&c->cells, name##__each_cell, &each_);              \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        struct name##__cells__leavers leavers_;                                \
        uint32_t part_ =                                                       \
            cache__front_is_due(&c->front) ? max_items - max_items / 2 : 0;    \
        uint32_t left_ = cache__shared_reclaim(                                \
            &c->front, &c->cells.base, &name##__cells__type,                   \
            offsetof(struct name##__cells__shard_node, value) +                \
                offsetof(struct name##_cell, life),                            \
            name##__cells__shard__one_by_one(), &leavers_.base, part_);        \
        return left_ + name##__cells_tick(&c->cells, max_items - part_);       \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_DEFINE_LOADING_SHARED(name, K, V, hash, equal, options)
 * CACHE_DEFINE_LOADING_SHARED_WITH(name, K, V, hash, equal, options,
 *                                  callbacks...)
 *
 * The arguments, the callbacks and what they make are those of
 * CACHE_DEFINE_LOADING_WITH (cache_loading.h), and of the options
 * CACHE_PLAIN_DATA as in cache_shared.h.  Every function but init, close and
 * destroy may be called by any thread at any time.
 */
#define CACHE_DEFINE_LOADING_SHARED_WITH(name, K, V, hash, equal, options,     \
                                         ...)                                  \
    CACHE__DEFINE_LOADING_TYPES(name, K, V, __VA_ARGS__);                      \
    CACHE__DEFINE_LOADING_TELL(name);                                          \
    CACHE_DEFINE_SHARED_WITH(                                                  \
        name##__cells, name##_key, struct name##_cell, hash, equal,            \
        ((options) & ~CACHE_TIMINGS) | CACHE_EXPIRY | CACHE__OWN_TIME,         \
        CACHE__CELL_CALLBACKS(name));                                          \
    struct name {                                                              \
        struct cache_front front;                                              \
        struct name##__cells cells;                                            \
    };                                                                         \
    CACHE__DEFINE_LOADING_STORE(name, equal);                                  \
    CACHE__DEFINE_SHARED_VISIT(name);                                          \
    CACHE__DEFINE_LOADING_CELLS(name);                                         \
    CACHE__DEFINE_FRONT_TYPE(name, true,                                       \
                             (int)name##__cells__shard__options |              \
                                 ((options) & (int)CACHE_TIMINGS));            \
    CACHE__DEFINE_SHARED_HIT(name);                                            \
    CACHE__DEFINE_SHARED_EACH(name);                                           \
    CACHE__DEFINE_LOADING_LIFE(name);                                          \
    CACHE__DEFINE_LOADING_READ(name);                                          \
    CACHE__DEFINE_LOADING_PEEK(name);                                          \
    CACHE__DEFINE_LOADING_CLAIM(name);                                         \
    CACHE__DEFINE_LOADING_WRITE(name);                                         \
    CACHE__DEFINE_LOADING_CHANGE(name)

#define CACHE_DEFINE_LOADING_SHARED(name, K, V, hash, equal, options)          \
    CACHE_DEFINE_LOADING_SHARED_WITH(name, K, V, hash, equal, options,         \
                                     .key_copy = NULL)

#endif /* CACHE_LOADING_SHARED_H */
