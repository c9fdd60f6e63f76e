/*
 * async.h - what the tests of cache_async.h have in common: a loop, a store
 * that does what the test says, a loading cache in front of it and its loop
 * half, and fetches that remember what came of them.  Include it behind the
 * types of a test: its names would shadow what their macros declare.
 *
 *   prepare(capacity);       then the test may change caching, config, loader
 *   begin();                 or set_up(capacity) for both
 *   ..
 *   tear_down();             closes, and checks that nothing is left over
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef ASYNC_H
#define ASYNC_H

#include "../cache_async.h"
#include "../codecs/cache_raw.h"
#include "fake_store.h"
#include "test.h"

static uint32_t n_left; /* values that have left the cache */

static inline void on_leave(const uint64_t *key, uint64_t *value,
                            enum cache_cause cause, void *user)
{
    (void)key;
    (void)value;
    (void)cause;
    (void)user;
    n_left++;
}

CACHE_DEFINE_LOADING_WITH(plain, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64,
                          CACHE_LRU | CACHE_STATS | CACHE_META_VERSION,
                          .on_remove = on_leave);
CACHE_ASYNC_DEFINE(plain);

static uv_loop_t loop;
static struct fake_store store;
static struct plain cache;
static struct plain_async half;
static struct cache_codec codec; /* of keys and of values */
static struct cache_loading_config caching;
static struct cache_async_config config;
static struct plain_loader loader;
static uint64_t wall_ms;  /* what the system clock shows */
static uint64_t cache_ms; /* what the cache's clock shows, if it is cache_now */
static uint32_t n_dead, n_closed;
static uint64_t n_lost;

static inline uint64_t wall_now(void *user)
{
    (void)user;
    return wall_ms;
}

static inline uint64_t cache_now(void *user)
{
    (void)user;
    return cache_ms;
}

static inline void on_dead_letter(const struct cache_store_item *item,
                                  void *user)
{
    (void)item;
    (void)user;
    n_dead++;
}

/* Reads through and writes behind, to the store. */
static inline void set_up_config(size_t capacity)
{
    codec = cache_raw_object(sizeof(uint64_t));
    memset(&config, 0, sizeof config);
    memset(&loader, 0, sizeof loader);
    memset(&caching, 0, sizeof caching);
    caching.cache.capacity = capacity;
    caching.reads = CACHE_READ_THROUGH;
    caching.writes = CACHE_WRITE_BEHIND;
    caching.store = &store.store;
    caching.key_codec = caching.value_codec = &codec;
    caching.wall_now = wall_now;
    caching.write_behind.interval_ms = 1;
    caching.write_behind.retry_base_ms = 1;
    caching.write_behind.retry_cap_ms = 4;
    caching.write_behind.on_dead_letter = on_dead_letter;
    wall_ms = 1000000;
    cache_ms = 0;
    n_left = 0;
    n_dead = n_closed = 0;
    n_lost = 0;
}

static inline void prepare(size_t capacity)
{
    fake_init(&store);
    set_up_config(capacity);
    CHECK_EQ(uv_loop_init(&loop), 0);
}

static inline void begin(void)
{
    CHECK_EQ(plain_init(&cache, &caching), 0);
    CHECK_EQ(plain_async_init(&half, &loop, &cache, &config, &loader), 0);
}

static inline void set_up(size_t capacity)
{
    prepare(capacity);
    begin();
}

static inline void on_close(struct cache_async *a, uint64_t lost)
{
    (void)a;
    n_closed++;
    n_lost = lost;
}

static inline void run(void)
{
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

/* Before begin(): the cache's time is cache_ms, in ticks of 1 ms. */
static inline void own_clock(void)
{
    caching.cache.now = cache_now;
    caching.cache.tick_ms = 1;
}

/* Nothing is claimed any more, and all is sound. */
static inline void check_cache(void)
{
    CHECK_SOUND(plain_check(&cache));
    CHECK_EQ(cache.front.claims.n_used, 0);
}

static inline void tear_down(void)
{
    if (half.base.state == CACHE_ASYNC_OPEN)
        CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(uv_loop_close(&loop), 0);
    check_cache();
    plain_destroy(&cache);
}

/* Turns the loop n times without waiting. */
static inline void turn(int n)
{
    while (n-- > 0)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
}

/* Turns the loop until something is so, five seconds at most. */
#define UNTIL(condition)                                                       \
    do {                                                                       \
        int n_turns_ = 0;                                                      \
        do {                                                                   \
            CHECK(n_turns_++ < 5000 && "until " #condition);                   \
            turn(1);                                                           \
            uv_sleep(1);                                                       \
        } while (!(condition));                                                \
    } while (0)

/* Turns the loop for so long, and does not wait in it. */
static inline void turn_for(unsigned ms)
{
    uint64_t until_ns = uv_hrtime() + (uint64_t)ms * 1000000;

    while (uv_hrtime() < until_ns) {
        turn(1);
        uv_sleep(1);
    }
}

/* --- one fetch and what came of it --------------------------------------- */

struct ask {
    struct plain_request req; /* first */
    uint64_t out;
    int rc, status, n_calls;
    bool in_call; /* the starting function has not returned */
};

static struct ask asks[4096];

static inline void answered(struct plain_request *req, int status)
{
    struct ask *ask = (struct ask *)(void *)req;

    CHECK(!ask->in_call);
    CHECK_EQ(req->base.status, status);
    ask->n_calls++;
    ask->status = status;
}

static inline int ask_for(struct ask *ask, uint64_t key,
                          const struct cache_fetch_options *options,
                          plain_fetch_cb cb)
{
    memset(ask, 0, sizeof *ask);
    ask->out = 77;
    ask->in_call = true;
    ask->rc = plain_fetch_with(&half, &ask->req, key, &ask->out, options, cb);
    ask->in_call = false;
    return ask->rc;
}

static inline int ask_with(struct ask *ask, uint64_t key, uint64_t timeout_ms,
                           plain_fetch_cb cb)
{
    struct cache_fetch_options options = { .timeout_ms = timeout_ms };

    return ask_for(ask, key, &options, cb);
}

static inline int ask(struct ask *a, uint64_t key)
{
    return ask_with(a, key, 0, answered);
}

/* --- a loader that ends keys when the test says so ------------------------ */

static struct plain_batch *batches[64]; /* that it was given */
static size_t n_batches;

static inline void load_later(struct plain_async *a, struct plain_batch *b)
{
    (void)a;
    CHECK(n_batches < sizeof batches / sizeof *batches);
    batches[n_batches++] = b;
}

/* The value of a key is ten times the key. */
static inline void load_at_once(struct plain_async *a, struct plain_batch *b)
{
    size_t i, n = b->n; /* *b is gone when the last key has ended */

    (void)a;
    for (i = 0; i < n; i++)
        plain_loaded(b, i, b->keys[i] * 10);
}

/* Between prepare() and begin(): aside, with this loader and no store. */
static inline void load_with(void (*load_batch)(struct plain_async *a,
                                                struct plain_batch *b))
{
    caching.reads = caching.writes = CACHE_ASIDE;
    caching.store = NULL;
    caching.key_codec = caching.value_codec = NULL;
    memset(&caching.write_behind, 0, sizeof caching.write_behind);
    loader.load_batch = load_batch;
    n_batches = 0;
}

/* --- what there is ------------------------------------------------------- */

static inline void stored(uint64_t key, uint64_t value)
{
    store.rows[key].present = true;
    store.rows[key].value = value;
}

/* The value in the cache, 0 if there is none. */
static inline uint64_t held(uint64_t key)
{
    uint64_t value = 0;

    (void)plain_peek(&cache, key, &value);
    return value;
}

static inline struct cache_loading_stats stats(void)
{
    struct cache_loading_stats now;

    CHECK_EQ(plain_loading_stats(&cache, &now), 0);
    return now;
}

#endif /* ASYNC_H */
