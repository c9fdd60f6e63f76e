/*
 * cache_dataloader.h - what one request of a server has loaded: a view of a
 * loading cache on a loop (cache_async.h) that remembers every answer until
 * the request ends.
 *
 * WHAT IT DOES
 *   The pattern of graphql/dataloader: resolvers ask for keys one by one, in
 *   whatever order; the keys of a turn of the loop become one batch of the
 *   loader; and a key that was asked for before has the same answer again, also
 *   if the shared cache has changed or forgotten it meanwhile.
 *
 *     resolvers --load--> view: memo of answers, and of loads under way
 *                           | not there
 *                           v
 *                         shared cache: fetch --> batch --> loader or store
 *
 *   As there: loads of a key that is under way join it; prime does not replace
 *   an answer; clear forgets one, also while it is under way.  Unlike there, a
 *   failed load is not remembered: who asks next asks the shared cache, whose
 *   error_ttl_ms and negative_ttl_ms are the place for that.  That a key is
 *   absent is an answer.
 *
 *   EXAMPLE
 *     CACHE_DEFINE_LOADING(users, uint64_t, struct user, ...);
 *     CACHE_ASYNC_DEFINE(users);
 *     CACHE_DATALOADER_DEFINE(user_view, users);
 *
 *     user_view_init(&view, &users_on_loop, NULL);
 *     rc = user_view_load(&view, &req, id, &user, loaded);
 *     if (rc == 1)      ... user points to the value, `loaded` is not called
 *     else if (rc == 0) ... `loaded` is called later, exactly once
 *     else              ... an error; `loaded` is not called
 *
 * MEMORY
 *   Entries of key, value and about 250 bytes, in blocks of 32; a table of
 *   pointers.  All of it goes at the end.
 *
 * THREADS
 *   The loop's.
 *
 * OWNERSHIP AND LIFETIME
 *   Values are copied into the view and stay where they are until it ends: the
 *   pointers that it gives out are good until then.  What a value points to is
 *   not copied, so it must live as long.  Keys that are pointers are copied by
 *   .key_copy of the cache's type.  The loop half must be open until the end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_DATALOADER_H
#define CACHE_DATALOADER_H

#include "../cache_async.h"

#define CACHE__DATALOADER_BLOCK 32u /* entries that are made at a time */

struct cache_dataloader;

/* An answer, or the wait for one.  Begins each struct view__entry. */
struct cache_dataloader_entry {
    struct cache_dataloader *view;
    struct cache_dataloader_entry *chain; /* next of the hash chain */
    struct cache_ring waiters;
    uint64_t hash; /* of the key */
    int status;    /* enum cache_found, CACHE_EKEY, or CACHE__PENDING */
    bool known;    /* it is found by its key */
    bool has_key;  /* and owns it */
};

/* One load that waits: the caller's memory.  Members are private. */
struct cache_dataloader_wait {
    struct cache_ring ring;
};

/* What the view has to know of a type; one constant for each. */
struct cache_dataloader_type {
    size_t entry_bytes, key_at, value_at;
    int (*fetch)(struct cache_async *a, struct cache_dataloader_entry *e,
                 const struct cache_fetch_options *options);
    int (*cancel)(struct cache_dataloader_entry *e);
    void (*tell)(struct cache_dataloader_wait *wait, int status,
                 const void *value);
};

typedef void (*cache_dataloader_end_cb)(struct cache_dataloader *view);

/* Counters since init. */
struct cache_dataloader_stats {
    uint64_t n_remembered; /* loads that were answered by the view */
    uint64_t n_joined;     /* loads that waited for one under way */
    uint64_t n_fetched;    /* loads that asked the shared cache */
};

/* The view of one request.  Members but `data` and `stats` are private. */
struct cache_dataloader {
    void *data; /* yours */
    struct cache_dataloader_stats stats;
    struct cache_async *async;
    const struct cache_dataloader_type *type;
    struct cache_fetch_options options;
    struct cache_dataloader_entry **heads; /* 2^n hash chains */
    size_t n_heads, n_known, n_pending;
    void *blocks;   /* all of them; each begins with a pointer to the next */
    size_t n_fresh; /* entries of the first that were not used yet */
    cache_dataloader_end_cb end_cb;
    bool ending;
};

CACHE_INLINE void *cache__view_key(const struct cache_dataloader *v,
                                   struct cache_dataloader_entry *e)
{
    return (char *)e + v->type->key_at;
}

CACHE_INLINE void *cache__view_value(const struct cache_dataloader *v,
                                     struct cache_dataloader_entry *e)
{
    return (char *)e + v->type->value_at;
}

CACHE_INLINE struct cache_dataloader_entry **
cache__view_head(const struct cache_dataloader *v, uint64_t hash)
{
    return &v->heads[cache__upper(hash) & (v->n_heads - 1)];
}

CACHE_COLD struct cache_dataloader_entry *
cache__view_find(const struct cache_dataloader *v, const void *key,
                 uint64_t hash)
{
    struct cache_dataloader_entry *e;

    for (e = v->n_heads ? *cache__view_head(v, hash) : NULL; e; e = e->chain)
        if (e->hash == hash &&
            v->async->front->type->equal(cache__view_key(v, e), key))
            break;
    return e;
}

/* Doubles the table. */
CACHE_COLD int cache__view_grow(struct cache_dataloader *v)
{
    size_t n = v->n_heads ? 2 * v->n_heads : 64, i;
    struct cache_dataloader_entry **old = v->heads, *e, *next;
    size_t n_old = v->n_heads;

    if (n > SIZE_MAX / sizeof *old)
        return CACHE_ENOMEM;
    v->heads = (struct cache_dataloader_entry **)cache__front_alloc(
        v->async->front, n * sizeof *old);
    if (v->heads == NULL) {
        v->heads = old;
        return CACHE_ENOMEM;
    }
    memset((void *)v->heads, 0, n * sizeof *old);
    v->n_heads = n;
    for (i = 0; i < n_old; i++)
        for (e = old[i]; e != NULL; e = next) {
            struct cache_dataloader_entry **head = cache__view_head(v, e->hash);

            next = e->chain;
            e->chain = *head;
            *head = e;
        }
    cache__front_free(v->async->front, (void *)old);
    return 0;
}

/* The entry at a place of a block. */
CACHE_INLINE struct cache_dataloader_entry *
cache__view_entry(const struct cache_dataloader *v, void *block, size_t i)
{
    return (struct cache_dataloader_entry *)(void *)((char *)block + 16 +
                                                     i * v->type->entry_bytes);
}

/* A new entry of this key.  Returns 0, CACHE_ENOMEM or key_copy's error. */
CACHE_COLD int cache__view_add(struct cache_dataloader *v, const void *key,
                               uint64_t hash,
                               struct cache_dataloader_entry **out)
{
    const struct cache_front *f = v->async->front;
    const size_t bytes = v->type->entry_bytes;
    struct cache_dataloader_entry *e;
    int rc = v->n_known == v->n_heads ? cache__view_grow(v) : 0;

    if (rc != 0)
        return rc;
    if (v->n_fresh == 0) {
        void *block =
            cache__front_alloc(f, 16 + CACHE__DATALOADER_BLOCK * bytes);

        if (block == NULL)
            return CACHE_ENOMEM;
        memset(block, 0, 16 + CACHE__DATALOADER_BLOCK * bytes);
        *(void **)block = v->blocks;
        v->blocks = block;
        v->n_fresh = CACHE__DATALOADER_BLOCK;
    }
    e = cache__view_entry(v, v->blocks, v->n_fresh - 1);
    memcpy(cache__view_key(v, e), key, f->type->key_bytes);
    if (cache__front_has(f, CACHE__HAS_KEY_COPY)) {
        rc = f->type->key_copy(cache__view_key(v, e), f->config.cache.user);
        if (rc != 0)
            return rc;
    }
    v->n_fresh--;
    cache__ring_init(&e->waiters);
    e->view = v;
    e->hash = hash;
    e->has_key = e->known = true;
    e->chain = *cache__view_head(v, hash);
    *cache__view_head(v, hash) = e;
    v->n_known++;
    *out = e;
    return 0;
}

/* Nobody finds the entry any more; who has a pointer into it keeps it. */
CACHE_COLD void cache__view_forget(struct cache_dataloader *v,
                                   struct cache_dataloader_entry *e)
{
    struct cache_dataloader_entry **at = cache__view_head(v, e->hash);

    if (!e->known)
        return;
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    e->known = false;
    v->n_known--;
}

/* Calls visit for every entry, also those that nobody finds. */
CACHE_COLD void cache__view_each(
    struct cache_dataloader *v,
    void (*visit)(struct cache_dataloader *v, struct cache_dataloader_entry *e))
{
    size_t i = v->n_fresh;
    void *block;

    for (block = v->blocks; block != NULL; block = *(void **)block, i = 0)
        for (; i < CACHE__DATALOADER_BLOCK; i++)
            visit(v, cache__view_entry(v, block, i));
}

CACHE_COLD void cache__view_free_key(struct cache_dataloader *v,
                                     struct cache_dataloader_entry *e)
{
    const struct cache_front *f = v->async->front;

    if (e->has_key && cache__front_has(f, CACHE__HAS_KEY_FREE))
        f->type->key_free(cache__view_key(v, e), f->config.cache.user);
}

CACHE_COLD void cache__view_free(struct cache_dataloader *v)
{
    const struct cache_front *f = v->async->front;
    void *next;

    cache__view_each(v, cache__view_free_key);
    for (; v->blocks != NULL; v->blocks = next) {
        next = *(void **)v->blocks;
        cache__front_free(f, v->blocks);
    }
    cache__front_free(f, (void *)v->heads);
    v->heads = NULL;
    v->n_heads = v->n_known = v->n_fresh = 0;
}

/* A load under way is cancelled, unless its answer is on its way. */
CACHE_COLD void cache__view_cancel(struct cache_dataloader *v,
                                   struct cache_dataloader_entry *e)
{
    if (e->status == CACHE__PENDING)
        (void)v->type->cancel(e);
}

/* A load has ended: whoever waits is told.  The last of a view that ends frees
 * it. */
CACHE_COLD void cache__view_resolved(struct cache_dataloader_entry *e,
                                     int status)
{
    struct cache_dataloader *v = e->view;
    struct cache_ring waiters;

    e->status = status;
    if (status < 0 && status != CACHE_EKEY)
        cache__view_forget(v, e);
    cache__ring_init(&waiters);
    cache__ring_move(&waiters, &e->waiters);
    while (!cache__ring_empty(&waiters)) {
        struct cache_dataloader_wait *wait =
            (struct cache_dataloader_wait *)(void *)waiters.next;

        cache__ring_remove(&wait->ring);
        v->type->tell(wait, status,
                      status >= 0 ? cache__view_value(v, e) : NULL);
    }
    if (--v->n_pending > 0 || !v->ending)
        return;
    cache__view_free(v);
    if (v->end_cb)
        v->end_cb(v); /* last: *v may be gone afterwards */
}

/* view_load, without the type. */
CACHE_COLD int cache__view_load(struct cache_dataloader *v,
                                struct cache_dataloader_wait *wait,
                                const void *key, const void **out)
{
    uint64_t hash;
    struct cache_dataloader_entry *e;
    int rc;

    if (v->ending)
        return UV_ECANCELED;
    hash = v->async->front->type->hash(v->async->front, key);
    e = cache__view_find(v, key, hash);
    if (e == NULL) {
        rc = cache__view_add(v, key, hash, &e);
        if (rc != 0)
            return rc;
        v->stats.n_fetched++;
        e->status = CACHE__PENDING;
        rc = v->type->fetch(v->async, e, &v->options);
        v->n_pending += rc == 0;
        if (rc < 0)
            e->status = rc;
        if (rc < 0 && rc != CACHE_EKEY)
            cache__view_forget(v, e);
        else if (rc == 1)
            e->status = CACHE_FOUND;
    } else if (e->status == CACHE__PENDING) {
        v->stats.n_joined++;
    } else {
        v->stats.n_remembered++;
    }
    if (e->status == CACHE__PENDING) {
        cache__ring_append(&e->waiters, &wait->ring);
        return 0;
    }
    if (e->status < 0)
        return e->status;
    *out = cache__view_value(v, e);
    return 1;
}

/* view_prime, without the type. */
CACHE_COLD int cache__view_prime(struct cache_dataloader *v, const void *key,
                                 const void *value)
{
    const struct cache_front_type *type = v->async->front->type;
    uint64_t hash = type->hash(v->async->front, key);
    struct cache_dataloader_entry *e;
    int rc;

    if (v->ending)
        return UV_ECANCELED;
    if (cache__view_find(v, key, hash) != NULL)
        return CACHE_EKEY;
    rc = cache__view_add(v, key, hash, &e);
    if (rc != 0)
        return rc;
    e->status = CACHE_FOUND;
    memcpy(cache__view_value(v, e), value, type->value_bytes);
    return 0;
}

/* view_clear, without the type. */
CACHE_COLD void cache__view_clear(struct cache_dataloader *v, const void *key)
{
    struct cache_dataloader_entry *e = cache__view_find(
        v, key, v->async->front->type->hash(v->async->front, key));

    if (e != NULL)
        cache__view_forget(v, e);
}

/*
 * Forgets every answer, and every load under way: who waits for one gets what
 * it brings, who asks now asks anew.  Pointers stay good.
 */
CACHE_COLD void cache_dataloader_clear(struct cache_dataloader *v)
{
    size_t i;

    for (i = 0; i < v->n_heads; i++)
        while (v->heads[i] != NULL)
            cache__view_forget(v, v->heads[i]);
}

/*
 * Ends the view: loads under way are cancelled, which tells who waits for them
 * UV_ECANCELED; all memory goes, and with it the values.
 * Returns 1 if that is done, and then cb is not called; 0 if cb (may be NULL)
 * is called when it is: *view must live until then.  UV_EALREADY: it is ending.
 */
CACHE_COLD int cache_dataloader_end(struct cache_dataloader *v,
                                    cache_dataloader_end_cb cb)
{
    if (v->ending)
        return UV_EALREADY;
    v->ending = true;
    v->end_cb = cb;
    if (v->n_pending == 0) {
        cache__view_free(v);
        return 1;
    }
    cache__view_each(v, cache__view_cancel);
    return 0;
}

/*
 * CACHE_DATALOADER_DEFINE(view, name), behind CACHE_ASYNC_DEFINE(name), makes:
 *
 * struct view          { struct cache_dataloader base; ... }
 * struct view_request  { ...; void *data; }        data is yours
 *
 * void view_init(struct view *v, struct name_async *a,
 *                const struct cache_fetch_options *options)
 *   A view without answers.  options (may be NULL) are those of every fetch.
 *   It has to be ended by cache_dataloader_end(&v->base, cb), before a is
 *   closed.
 * int view_load(v, struct view_request *req, K key, const V **out, cb)
 *   1: *out points to the value, until the end; cb is not called.
 *   0: cb(req, status, const V *value) is called later, exactly once and never
 *      from inside this call; value is NULL if status is negative, which is as
 *      name_fetch's callback has it.
 *   negative: an error; cb is never called.  CACHE_EKEY: the key is absent;
 *      name_fetch's errors, CACHE_ENOMEM, UV_ECANCELED after the end.
 * int view_prime(v, K key, V value)
 *   Answers a key that was not asked for yet.  0; CACHE_EKEY: it was; ENOMEM.
 * void view_clear(v, K key)
 *   Forgets one answer, as cache_dataloader_clear does all.
 */
#define CACHE_DATALOADER_DEFINE(view, name)                                    \
    struct view {                                                              \
        struct cache_dataloader base;                                          \
        struct name##_async *async;                                            \
    };                                                                         \
    struct view##_request;                                                     \
    typedef void (*view##_cb)(struct view##_request * req, int status,         \
                              const name##_value *value);                      \
    struct view##_request {                                                    \
        struct cache_dataloader_wait base;                                     \
        view##_cb cb;                                                          \
        void *data; /* yours */                                                \
    };                                                                         \
    struct view##__entry {                                                     \
        struct cache_dataloader_entry base;                                    \
        struct name##_request req;                                             \
        name##_key key;                                                        \
        name##_value value;                                                    \
    };                                                                         \
    CACHE_UNUSED static void view##__resolved(struct name##_request *req,      \
                                              int status)                      \
    {                                                                          \
        struct view##__entry *e_ = (struct view##__entry *)req->data;          \
        cache__view_resolved(&e_->base, status);                               \
    }                                                                          \
    CACHE__DATALOADER_DEFINE_HOOKS(view, name);                                \
    CACHE__DATALOADER_DEFINE_CALLS(view, name)

#define CACHE__DATALOADER_DEFINE_HOOKS(view, name)                             \
    CACHE_UNUSED static int view##__fetch(                                     \
        struct cache_async *a, struct cache_dataloader_entry *e,               \
        const struct cache_fetch_options *options)                             \
    {                                                                          \
        struct view##__entry *e_ = (struct view##__entry *)(void *)e;          \
        e_->req.data = e_;                                                     \
        return name##_fetch_with((struct name##_async *)(void *)a, &e_->req,   \
                                 e_->key, &e_->value, options,                 \
                                 view##__resolved);                            \
    }                                                                          \
    CACHE_UNUSED static int view##__cancel(struct cache_dataloader_entry *e)   \
    {                                                                          \
        return name##_fetch_cancel(&((struct view##__entry *)(void *)e)->req); \
    }                                                                          \
    CACHE_UNUSED static void view##__tell(struct cache_dataloader_wait *wait,  \
                                          int status, const void *value)       \
    {                                                                          \
        struct view##_request *req_ = (struct view##_request *)(void *)wait;   \
        req_->cb(req_, status, (const name##_value *)value);                   \
    }                                                                          \
    CACHE_UNUSED static const struct cache_dataloader_type view##__type = {    \
        sizeof(struct view##__entry),                                          \
        offsetof(struct view##__entry, key),                                   \
        offsetof(struct view##__entry, value),                                 \
        view##__fetch,                                                         \
        view##__cancel,                                                        \
        view##__tell,                                                          \
    };                                                                         \
    struct cache__swallow_semicolon

#define CACHE__DATALOADER_DEFINE_CALLS(view, name)                             \
    CACHE_UNUSED static inline void view##_init(                               \
        struct view *v, struct name##_async *a,                                \
        const struct cache_fetch_options *options)                             \
    {                                                                          \
        memset(&v->base, 0, sizeof v->base);                                   \
        v->base.async = &a->base;                                              \
        v->base.type = &view##__type;                                          \
        v->base.options = options ? *options : cache__fetch_default;           \
        v->async = a;                                                          \
    }                                                                          \
    CACHE_UNUSED static inline int view##_load(                                \
        struct view *v, struct view##_request *req, name##_key key,            \
        const name##_value **out, view##_cb cb)                                \
    {                                                                          \
        const void *value_ = NULL;                                             \
        int rc_;                                                               \
        CACHE_ASSERT(cb != NULL);                                              \
        req->cb = cb;                                                          \
        rc_ = cache__view_load(&v->base, &req->base, &key, &value_);           \
        if (rc_ == 1)                                                          \
            *out = (const name##_value *)value_;                               \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int view##_prime(                               \
        struct view *v, name##_key key, name##_value value)                    \
    {                                                                          \
        return cache__view_prime(&v->base, &key, &value);                      \
    }                                                                          \
    CACHE_UNUSED static inline void view##_clear(struct view *v,               \
                                                 name##_key key)               \
    {                                                                          \
        cache__view_clear(&v->base, &key);                                     \
    }                                                                          \
    struct cache__swallow_semicolon

#endif /* CACHE_DATALOADER_H */
