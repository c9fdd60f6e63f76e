/*
 * test_async.c - every documented sentence of cache_async.h about reading, on a
 * real loop and a store that does what the test says.  Each test ends with
 * uv_loop_close() == 0: nothing was left open.
 *
 * SPDX-License-Identifier: MIT
 */
#include <unistd.h>

#include "../cache_async.h"
#include "../stores/cache_sqlite.h"

static bool key_copy_fails;

static int key_copy(uint64_t *key, void *user)
{
    (void)key;
    (void)user;
    return key_copy_fails ? CACHE_ENOMEM : 0;
}

CACHE_DEFINE_LOADING_WITH(copying, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_FIFO, .key_copy = key_copy);
CACHE_ASYNC_DEFINE(copying);

static int n_strings; /* that key_copy made and key_free did not free */

static int string_copy(const char **key, void *user)
{
    char *copy = malloc(strlen(*key) + 1);

    (void)user;
    if (copy == NULL)
        return CACHE_ENOMEM;
    *key = strcpy(copy, *key);
    n_strings++;
    return 0;
}

static void string_free(const char **key, void *user)
{
    (void)user;
    free((void *)(uintptr_t)*key);
    n_strings--;
}

CACHE_DEFINE_LOADING_WITH(named, const char *, uint64_t, cache_hash_str,
                          cache_equal_str, CACHE_SIEVE, .key_copy = string_copy,
                          .key_free = string_free);
CACHE_ASYNC_DEFINE(named);
CACHE_DEFINE_LOADING(borrowing, const char *, uint64_t, cache_hash_str,
                     cache_equal_str, CACHE_SIEVE);
CACHE_ASYNC_DEFINE(borrowing);

#include "async.h"

/* --- fetch --------------------------------------------------------------- */

static void hit_is_a_result(void)
{
    set_up(10);
    stored(5, 50);
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(asks[0].out, 77); /* untouched until the callback */
    run();
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK_EQ(asks[0].status, 0);
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(ask(&asks[1], 5), 1);
    CHECK_EQ(asks[1].out, 50);
    run();
    CHECK_EQ(asks[1].n_calls, 0);
    CHECK_EQ(store.n_loads, 1);
    tear_down();
}

static void absent_key(void)
{
    set_up(10);
    CHECK_EQ(ask(&asks[0], 5), 0);
    run();
    CHECK_EQ(asks[0].status, CACHE_EKEY);
    CHECK_EQ(asks[0].out, 77);
    CHECK_EQ(plain_len(&cache), 0);
    CHECK_EQ(ask(&asks[0], 5), 0); /* and asks each time */
    run();
    CHECK_EQ(store.n_loads, 2);
    tear_down();
}

static void one_load_per_key(void)
{
    int i;

    set_up(10);
    stored(5, 50);
    for (i = 0; i < 1000; i++)
        CHECK_EQ(ask(&asks[i], 5), 0);
    turn(1);
    for (i = 1000; i < 1100; i++) /* the load may be on its way already */
        CHECK(ask(&asks[i], 5) >= 0);
    run();
    CHECK_EQ(store.n_loads, 1);
    for (i = 0; i < 1000; i++) {
        CHECK_EQ(asks[i].n_calls, 1);
        CHECK_EQ(asks[i].out, 50);
    }
    CHECK(half.base.stats.n_joined >= 999);
    tear_down();
}

static void joins_a_load_at_the_store(void)
{
    set_up(10);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(2);
    CHECK_EQ(store.n_held, 1);
    CHECK_EQ(ask(&asks[1], 5), 0);
    turn(2);
    fake_release(&store);
    run();
    CHECK_EQ(store.n_loads, 1);
    CHECK_EQ(asks[0].out + asks[1].out, 100);
    tear_down();
}

static void one_batch_per_turn(void)
{
    uint64_t i;

    prepare(100);
    caching.max_claims = 100;
    config.max_batch = 40;
    config.max_batches = 2;
    begin();
    store.hold = true;
    for (i = 0; i < 30; i++) {
        stored(i, i);
        CHECK_EQ(ask(&asks[i], i), 0);
    }
    turn(1);
    CHECK_EQ(store.n_batches, 1);
    CHECK_EQ(store.largest, 30);
    for (i = 30; i < 100; i++)
        CHECK_EQ(ask(&asks[i], i), 0);
    CHECK_EQ(ask(&asks[100], 100), UV_ENOBUFS);
    turn(3);
    CHECK_EQ(store.n_batches, 2); /* max_batches */
    CHECK_EQ(store.largest, 40);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(store.n_batches, 3);
    for (i = 0; i < 100; i++)
        CHECK_EQ(asks[i].n_calls, 1);
    CHECK_EQ(asks[100].n_calls, 0);
    tear_down();
}

static void errors_pass_unchanged(void)
{
    set_up(10);
    stored(5, 50);
    store.fail = CACHE_EIO;
    CHECK_EQ(ask(&asks[0], 5), 0);
    run();
    CHECK_EQ(asks[0].status, CACHE_EIO);
    store.fail = 0;
    store.refuse = CACHE_ECLOSED;
    CHECK_EQ(ask(&asks[0], 5), 0);
    run();
    CHECK_EQ(asks[0].status, CACHE_ECLOSED);
    CHECK_EQ(plain_len(&cache), 0);
    store.refuse = 0;
    CHECK_EQ(ask(&asks[0], 5), 0);
    run();
    CHECK_EQ(asks[0].out, 50);
    tear_down();
}

/* --- cancel and deadline ------------------------------------------------- */

static void cancel_detaches_one(void)
{
    set_up(10);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    turn(1);
    CHECK_EQ(plain_fetch_cancel(&asks[0].req), 0);
    CHECK_EQ(asks[0].n_calls, 0); /* later */
    CHECK_EQ(plain_fetch_cancel(&asks[0].req), UV_EBUSY);
    turn(1);
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(asks[0].out, 77);
    CHECK_EQ(plain_fetch_cancel(&asks[0].req), UV_EBUSY);
    fake_release(&store);
    run();
    CHECK_EQ(asks[1].out, 50);
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK_EQ(plain_fetch_cancel(&asks[1].req), UV_EBUSY);
    tear_down();
}

static void cancelled_load_fills_the_cache(void)
{
    set_up(10);
    stored(5, 50);
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(plain_fetch_cancel(&asks[0].req), 0);
    run();
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(held(5), 50);
    memset(&asks[1], 0, sizeof asks[1]);
    CHECK_EQ(plain_fetch_cancel(&asks[1].req), UV_EBUSY); /* never fetched */
    tear_down();
}

static void cancels_the_next(struct plain_request *req, int status)
{
    answered(req, status);
    CHECK_EQ(plain_fetch_cancel(&asks[1].req), 0);
}

static void cancel_inside_a_callback(void)
{
    set_up(10);
    stored(5, 50);
    CHECK_EQ(ask_with(&asks[0], 5, 0, cancels_the_next), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    CHECK_EQ(ask(&asks[2], 5), 0);
    run();
    CHECK_EQ(asks[0].status, 0);
    CHECK_EQ(asks[1].status, UV_ECANCELED);
    CHECK_EQ(asks[1].n_calls, 1);
    CHECK_EQ(asks[2].status, 0);
    tear_down();
}

static void every_waiter_has_its_deadline(void)
{
    set_up(10);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask_with(&asks[0], 5, 10, answered), 0);
    CHECK_EQ(ask_with(&asks[1], 5, 0, answered), 0);
    CHECK_EQ(ask_with(&asks[2], 5, UINT64_MAX, answered), 0);
    UNTIL(asks[0].n_calls != 0);
    CHECK_EQ(asks[0].status, UV_ETIMEDOUT);
    CHECK_EQ(asks[0].out, 77);
    CHECK_EQ(asks[1].n_calls, 0);
    fake_release(&store);
    run();
    CHECK_EQ(asks[1].out, 50);
    CHECK_EQ(asks[2].out, 50);
    CHECK_EQ(half.base.stats.n_timeouts, 1);
    tear_down();
}

static uint64_t last_deadline;

static void in_order(struct plain_request *req, int status)
{
    answered(req, status);
    if (status == UV_ETIMEDOUT) {
        uint64_t due = (uint64_t)(uintptr_t)req->data;

        CHECK(due >= last_deadline);
        CHECK(uv_now(&loop) >= due);
        last_deadline = due;
    }
}

/* The heap: random deadlines, some cancelled, fire in their order. */
static void deadlines_fire_in_order(void)
{
    uint64_t random = test_seed;
    int i, n = 500;

    set_up(10);
    last_deadline = 0;
    store.hold = true;
    for (i = 0; i < n; i++) {
        uint64_t timeout_ms = 1 + test_random(&random) % 40;

        CHECK_EQ(ask_with(&asks[i], (uint64_t)i % 7, timeout_ms, in_order), 0);
        asks[i].req.data = (void *)(uintptr_t)(uv_now(&loop) + timeout_ms);
        if (i % 3 == 0)
            CHECK_EQ(plain_fetch_cancel(
                         &asks[test_random(&random) % (uint64_t)(i + 1)].req) &
                         ~UV_EBUSY,
                     0);
    }
    UNTIL(half.base.deadlines == NULL);
    for (i = 0; i < n; i++)
        CHECK_EQ(asks[i].n_calls, 1);
    fake_release(&store);
    tear_down();
}

static void default_timeout(void)
{
    prepare(10);
    config.timeout_ms = 5;
    begin();
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    UNTIL(asks[0].n_calls != 0);
    CHECK_EQ(asks[0].status, UV_ETIMEDOUT);
    turn(1);
    fake_release(&store);
    tear_down();
}

/* A fetch that joins a load under way has its deadline all the same: nothing
 * else has the loop turn. */
static void who_joins_later_has_a_deadline(void)
{
    set_up(10);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(3);
    CHECK_EQ(ask_with(&asks[1], 5, 5, answered), 0);
    UNTIL(asks[1].n_calls != 0);
    CHECK_EQ(asks[1].status, UV_ETIMEDOUT);
    CHECK_EQ(asks[0].n_calls, 0);
    fake_release(&store);
    tear_down();
    CHECK_EQ(half.base.stats.n_joined, 1);
}

static void config_timeout_can_be_switched_off(void)
{
    prepare(10);
    config.timeout_ms = 5;
    begin();
    store.hold = true;
    CHECK_EQ(ask_with(&asks[0], 5, CACHE_NEVER, answered), 0);
    CHECK_EQ(ask_with(&asks[1], 5, 10, answered), 0);
    CHECK_EQ(ask(&asks[2], 5), 0);
    UNTIL(asks[1].n_calls != 0);
    CHECK_EQ(asks[2].n_calls, 1);
    CHECK_EQ(asks[0].n_calls, 0);
    fake_release(&store);
    tear_down();
    CHECK_EQ(asks[0].status, UV_ECANCELED); /* closing came before the load */
}

/* --- soft deadlines ------------------------------------------------------ */

/* A cache of which key 5 has a value that only a failure, or a soft deadline,
 * makes good enough. */
static void set_up_fallback(void)
{
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_if_error_ms = 1000;
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    cache_ms += 500;
}

static int ask_soft(struct ask *a, uint64_t key, uint64_t soft_ms,
                    uint64_t timeout_ms, enum cache_stale stale)
{
    struct cache_fetch_options options = { .timeout_ms = timeout_ms,
                                           .soft_timeout_ms = soft_ms };

    options.reading.stale = stale;
    return ask_for(a, key, &options, answered);
}

static void soft_deadlines(void)
{
    prepare(10);
    load_with(load_later);
    set_up_fallback();
    CHECK_EQ(ask_soft(&asks[0], 5, 3, 0, CACHE_STALE_DEFAULT), 0);
    CHECK_EQ(ask_soft(&asks[1], 5, 3, 0, CACHE_STALE_NEVER), 0);
    CHECK_EQ(ask_soft(&asks[2], 5, 3, 12, CACHE_STALE_NEVER), 0);
    CHECK_EQ(ask_soft(&asks[3], 5, 0, 0, CACHE_STALE_DEFAULT), 0);
    CHECK_EQ(ask_soft(&asks[4], 5, 12, 3, CACHE_STALE_DEFAULT), 0);
    CHECK_EQ(ask_soft(&asks[5], 6, 3, 12, CACHE_STALE_DEFAULT), 0);
    UNTIL(asks[0].n_calls == 1 && asks[2].n_calls == 1 && asks[5].n_calls == 1);
    CHECK_EQ(asks[0].status, CACHE_FOUND_STALE);
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(asks[1].n_calls, 0); /* takes no old value, has no deadline */
    CHECK_EQ(asks[2].status, UV_ETIMEDOUT);
    CHECK_EQ(asks[3].n_calls, 0);
    CHECK_EQ(asks[4].status, UV_ETIMEDOUT); /* the hard one came first */
    CHECK_EQ(asks[5].status, UV_ETIMEDOUT); /* there is no old value */
    CHECK_EQ(half.base.stats.n_softened, 1);
    CHECK_EQ(half.base.stats.n_timeouts, 3);
    CHECK_EQ(batches[0]->n, 2);
    plain_loaded(batches[0], 0, 51); /* 5 goes on, and fills the cache */
    CHECK_EQ(asks[1].out, 51);
    CHECK_EQ(asks[3].out, 51);
    CHECK_EQ(held(5), 51);
    plain_loaded(batches[0], 1, 60);
    CHECK_EQ(held(6), 60);
    tear_down();
}

static void config_soft_timeout(void)
{
    prepare(10);
    load_with(load_later);
    config.soft_timeout_ms = 2;
    set_up_fallback();
    CHECK_EQ(ask_soft(&asks[0], 5, CACHE_NEVER, 0, CACHE_STALE_DEFAULT), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    UNTIL(asks[1].n_calls != 0);
    CHECK_EQ(asks[1].status, CACHE_FOUND_STALE);
    CHECK_EQ(asks[0].n_calls, 0);
    plain_load_failed(batches[0], 0, CACHE_EIO);
    CHECK_EQ(asks[0].status, CACHE_FOUND_STALE);
    tear_down();
}

/* --- options of a fetch -------------------------------------------------- */

static void stale_values(void)
{
    struct cache_fetch_options never = { .reading.stale = CACHE_STALE_NEVER };
    struct cache_fetch_options always = { .reading.stale = CACHE_STALE_ALWAYS };

    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_ms = 100;
    caching.freshness.stale_if_error_ms = 300;
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    CHECK_EQ(ask(&asks[0], 5), 1);
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND);
    cache_ms += 150; /* stale while one loads it anew */
    CHECK_EQ(ask(&asks[0], 5), 1);
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND_STALE);
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(plain_fetch(&half, &asks[1].req, 5, &asks[1].out, answered), 1);
    CHECK_EQ(asks[1].req.base.status, CACHE_FOUND_STALE);
    turn(1);
    CHECK_EQ(n_batches, 1); /* nobody waits for it */
    CHECK_EQ(ask_for(&asks[2], 5, &never, answered), 0);
    turn(1);
    CHECK_EQ(n_batches, 1);
    plain_loaded(batches[0], 0, 51);
    CHECK_EQ(asks[2].status, CACHE_FOUND);
    CHECK_EQ(asks[2].out, 51);
    cache_ms += 250; /* a fallback by now */
    CHECK_EQ(ask_for(&asks[3], 5, &always, answered), 1);
    CHECK_EQ(asks[3].req.base.status, CACHE_FOUND_STALE);
    CHECK_EQ(ask(&asks[4], 5), 0);
    turn(1);
    CHECK_EQ(n_batches, 2);
    plain_loaded(batches[1], 0, 52);
    CHECK_EQ(asks[4].out, 52);
    tear_down();
}

static void skipping(void)
{
    struct cache_fetch_options anew = { .reading.skip_read = true };
    struct cache_fetch_options unkept = { .reading.skip_write = true };
    struct cache_fetch_options here = { .reading.skip_store = true };

    prepare(10);
    load_with(load_later);
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    CHECK_EQ(ask_for(&asks[0], 5, &anew, answered), 0);
    turn(1);
    plain_loaded(batches[0], 0, 51);
    CHECK_EQ(asks[0].out, 51);
    CHECK_EQ(held(5), 51);
    CHECK_EQ(ask_for(&asks[0], 5, &here, answered), 1);
    CHECK_EQ(ask_for(&asks[0], 6, &here, answered), CACHE_EKEY);
    CHECK_EQ(asks[0].req.base.status, CACHE_EKEY);
    n_left = 0;
    CHECK_EQ(ask_for(&asks[1], 6, &unkept, answered), 0);
    CHECK_EQ(ask(&asks[2], 6), 0);
    turn(1);
    plain_loaded(batches[1], 0, 60);
    CHECK_EQ(asks[1].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(asks[2].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(asks[2].out, 60);
    CHECK_EQ(held(6), 0);
    CHECK_EQ(n_left, 1); /* what is not kept, on_remove has */
    CHECK_EQ(n_batches, 2);
    tear_down();
}

static void hits_by_callback(void)
{
    struct cache_fetch_options options = { .always_async = true };

    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.negative_ttl_ms = 100;
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    CHECK_EQ(ask_for(&asks[0], 5, &options, answered), 0);
    CHECK_EQ(plain_fetch_cancel(&asks[0].req), UV_EBUSY); /* it is answered */
    CHECK_EQ(asks[0].n_calls, 0);
    run();
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK_EQ(asks[0].status, CACHE_FOUND);
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(ask_for(&asks[1], 6, &options, answered), 0);
    turn(1);
    plain_load_failed(batches[0], 0, CACHE_EKEY);
    CHECK_EQ(asks[1].n_calls, 1);
    CHECK_EQ(asks[1].status, CACHE_EKEY);
    CHECK_EQ(ask_for(&asks[1], 6, &options, answered), 0); /* known, too */
    run();
    CHECK_EQ(asks[1].status, CACHE_EKEY);
    CHECK_EQ(n_batches, 1);
    tear_down();
}

/* Who has written reads its own writes. */
static void least_version(void)
{
    struct cache_fetch_options options = { 0 };
    struct cache_loaded loaded = { .version = 7 };

    prepare(10);
    load_with(load_later);
    begin();
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(1);
    plain_loaded_with(batches[0], 0, 50, &loaded);
    options.reading.min_version = 7;
    CHECK_EQ(ask_for(&asks[0], 5, &options, answered), 1);
    options.reading.min_version = 8;
    CHECK_EQ(ask_for(&asks[1], 5, &options, answered), 0);
    CHECK_EQ(ask(&asks[2], 5), 1); /* others need not wait */
    turn(1);
    loaded.version = 6; /* the store is behind: delivered, not kept */
    plain_loaded_with(batches[1], 0, 40, &loaded);
    CHECK_EQ(asks[1].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(held(5), 50);
    CHECK_EQ(ask_for(&asks[1], 5, &options, answered), 0);
    turn(1);
    loaded.version = 8;
    plain_loaded_with(batches[2], 0, 51, &loaded);
    CHECK_EQ(asks[1].out, 51);
    CHECK_EQ(ask_for(&asks[1], 5, &options, answered), 1);
    tear_down();
}

/* --- what is known of a failure ------------------------------------------ */

/* Each waiter has the fallback of its own options. */
static void stale_if_error_for_each(void)
{
    struct cache_fetch_options never = { .reading.stale = CACHE_STALE_NEVER };
    struct cache_fetch_options anew = { .reading.skip_read = true };

    prepare(10);
    load_with(load_later);
    caching.freshness.error_ttl_ms = 50;
    set_up_fallback();
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(ask_for(&asks[1], 5, &never, answered), 0);
    CHECK_EQ(ask_for(&asks[2], 5, &anew, answered), 0);
    turn(1);
    plain_load_failed(batches[0], 0, CACHE_EIO);
    CHECK_EQ(asks[0].status, CACHE_FOUND_STALE);
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(asks[1].status, CACHE_EIO);
    CHECK_EQ(asks[1].out, 77);
    CHECK_EQ(asks[2].status, CACHE_EIO);
    CHECK_EQ(ask(&asks[0], 5), 1); /* nobody asks again for a while */
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND_STALE);
    turn(1);
    CHECK_EQ(n_batches, 1);
    cache_ms += 60;
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(1);
    plain_load_failed(batches[1], 0, CACHE_EKEY); /* no failure: it is gone */
    CHECK_EQ(asks[0].status, CACHE_EKEY);
    CHECK_EQ(held(5), 0);
    tear_down();
}

static void absent_and_failing_keys_are_known(void)
{
    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.negative_ttl_ms = 100;
    caching.freshness.error_ttl_ms = 50;
    begin();
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(ask(&asks[1], 6), 0);
    turn(1);
    plain_load_failed(batches[0], 0, CACHE_EKEY);
    plain_load_failed(batches[0], 1, CACHE_EIO);
    CHECK_EQ(asks[0].status, CACHE_EKEY);
    CHECK_EQ(asks[1].status, CACHE_EIO);
    CHECK_EQ(ask(&asks[0], 5), CACHE_EKEY);
    CHECK_EQ(ask(&asks[1], 6), CACHE_EIO);
    cache_ms += 60;
    CHECK_EQ(ask(&asks[0], 5), CACHE_EKEY);
    CHECK_EQ(ask(&asks[1], 6), 0);
    CHECK_EQ(plain_async_refresh(&half, 5), 0); /* not even then */
    turn(1);
    CHECK_EQ(n_batches, 2);
    plain_loaded(batches[1], 0, 60);
    plain_loaded(batches[1], 1, 50);
    CHECK_EQ(asks[1].out, 60);
    CHECK_EQ(held(5), 50);
    tear_down();
}

static void positive_statuses_are_no_errors(void)
{
    prepare(10);
    load_with(load_later);
    begin();
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(ask(&asks[1], 6), 0);
    turn(1);
    plain_load_failed(batches[0], 0, 5);
    plain_batch_failed(batches[0], 0);
    CHECK_EQ(asks[0].status, CACHE_EINVAL);
    CHECK_EQ(asks[1].status, CACHE_EINVAL);
    tear_down();
}

/* --- refreshing ---------------------------------------------------------- */

static void refresh_ahead(void)
{
    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.refresh_pct = 80;
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    cache_ms += 50;
    CHECK_EQ(ask(&asks[0], 5), 1);
    turn(1);
    CHECK_EQ(n_batches, 0);
    cache_ms += 40;
    CHECK_EQ(ask(&asks[0], 5), 1);
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND); /* fresh all the same */
    CHECK_EQ(ask(&asks[1], 5), 1);
    turn(1);
    CHECK_EQ(n_batches, 1); /* one for both */
    plain_loaded(batches[0], 0, 51);
    CHECK_EQ(ask(&asks[0], 5), 1);
    CHECK_EQ(asks[0].out, 51);
    tear_down();
}

static void refresh_on_demand(void)
{
    prepare(10);
    load_with(load_later);
    caching.max_claims = 2;
    begin();
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    CHECK_EQ(plain_async_refresh(&half, 5), 0);
    CHECK_EQ(plain_async_refresh(&half, 5), 0); /* it is being loaded */
    CHECK_EQ(plain_async_refresh(&half, 6), 0); /* one that is not there */
    CHECK_EQ(plain_async_refresh(&half, 7), UV_ENOBUFS);
    CHECK_EQ(ask(&asks[0], 5), 1); /* served meanwhile */
    turn(1);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(batches[0]->n, 2);
    plain_loaded(batches[0], 1, 60);
    plain_loaded(batches[0], 0, 51);
    CHECK_EQ(held(5), 51);
    CHECK_EQ(held(6), 60);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    CHECK_EQ(plain_async_refresh(&half, 5), UV_ECANCELED);
    tear_down();
}

/* What is dirty is newer than what the store has. */
static void dirty_keys_are_not_refreshed(void)
{
    set_up(10);
    store.hold = true;
    CHECK_EQ(plain_async_put(&half, 5, 50), 0);
    CHECK_EQ(plain_async_refresh(&half, 5), 0);
    UNTIL(store.n_held != 0);
    CHECK_EQ(store.n_loads, 0);
    store.hold = false;
    fake_release(&store);
    tear_down();
}

/* --- claims -------------------------------------------------------------- */

static void claims_of_the_program(void)
{
    struct cache_claim claim;
    uint64_t out;

    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_ms = 100;
    begin();
    CHECK_EQ(plain_claim(&cache, 5, &out, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(ask(&asks[0], 5), CACHE_EBUSY);
    CHECK_EQ(plain_async_refresh(&half, 5), CACHE_EBUSY);
    cache_ms += 1000000; /* it does not lapse on a loop */
    CHECK_EQ(ask(&asks[0], 5), CACHE_EBUSY);
    CHECK_EQ(plain_commit(&cache, &claim, 50), 0);
    CHECK_EQ(ask(&asks[0], 5), 1);
    cache_ms += 150;
    CHECK_EQ(plain_claim(&cache, 5, &out, &claim),
             CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(ask(&asks[0], 5), 1); /* what is stale is served */
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND_STALE);
    CHECK_EQ(plain_abandon(&cache, &claim, 0, &out), CACHE_FOUND_STALE);
    CHECK_EQ(ask(&asks[0], 5), 1);
    turn(1);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(plain_claim(&cache, 6, &out, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(plain_abandon(&cache, &claim, 0, NULL), CACHE_EKEY);
    CHECK_EQ(plain_claim(&cache, 5, &out, &claim), CACHE_CLAIM_STALE);
    plain_loaded(batches[0], 0, 51);
    tear_down();
}

static void claims_exhausted(void)
{
    prepare(10);
    load_with(load_later);
    own_clock();
    caching.max_claims = 2;
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_ms = 100;
    begin();
    CHECK_EQ(plain_async_put(&half, 9, 90), 0);
    cache_ms += 150;
    CHECK_EQ(ask(&asks[0], 1), 0);
    CHECK_EQ(ask(&asks[1], 2), 0);
    CHECK_EQ(ask(&asks[2], 3), UV_ENOBUFS);
    CHECK_EQ(ask(&asks[3], 2), 0); /* joins */
    CHECK_EQ(ask(&asks[4], 9), 1); /* nobody can load it: it is served */
    CHECK_EQ(asks[4].req.base.status, CACHE_FOUND_STALE);
    turn(1);
    plain_loaded(batches[0], 0, 10);
    CHECK_EQ(ask(&asks[2], 3), 0);
    turn(1);
    plain_loaded(batches[0], 1, 20);
    plain_loaded(batches[1], 0, 30);
    CHECK_EQ(asks[2].out, 30);
    CHECK_EQ(asks[3].out, 20);
    tear_down();
}

/* --- many ---------------------------------------------------------------- */

static struct cache_fetch_many many;
static struct plain_request reqs[8];
static uint64_t outs[8];
static int n_many;

static void many_answered(struct cache_fetch_many *m)
{
    CHECK(m == &many);
    n_many++;
}

static int fetch_all(const uint64_t *keys, size_t n)
{
    memset(reqs, 0, sizeof reqs);
    memset(outs, 0, sizeof outs);
    n_many = 0;
    return plain_fetch_many(&half, &many, reqs, keys, n, outs, NULL,
                            many_answered);
}

static void many_at_once(void)
{
    static const uint64_t keys[] = { 1, 2, 3, 2, 4, 5, 1, 6 };
    struct cache_claim claim;
    uint64_t out;

    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.negative_ttl_ms = 100;
    begin();
    CHECK_EQ(fetch_all(keys, 0), 1);
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(ask(&asks[0], 3), 0);
    CHECK_EQ(ask(&asks[1], 4), 0);
    turn(1);
    plain_load_failed(batches[0], 0, CACHE_EKEY); /* 3 is known to be absent */
    CHECK_EQ(plain_claim(&cache, 5, &out, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(fetch_all(keys, 8), 0);
    CHECK_EQ(reqs[0].base.status, CACHE_FOUND);
    CHECK_EQ(reqs[2].base.status, CACHE_EKEY);
    CHECK_EQ(reqs[5].base.status, CACHE_EBUSY);
    turn(1);
    CHECK_EQ(n_batches, 2);
    CHECK_EQ(batches[1]->n, 2); /* 2, once, and 6 */
    plain_loaded(batches[1], 0, 20);
    plain_load_failed(batches[1], 1, CACHE_EIO);
    CHECK_EQ(n_many, 0); /* 4 was being loaded already */
    plain_loaded(batches[0], 1, 40);
    CHECK_EQ(n_many, 1);
    CHECK_EQ(outs[0], 10);
    CHECK_EQ(outs[1], 20);
    CHECK_EQ(outs[3], 20);
    CHECK_EQ(outs[4], 40);
    CHECK_EQ(outs[6], 10);
    CHECK_EQ(reqs[1].base.status, CACHE_FOUND);
    CHECK_EQ(reqs[3].base.status, CACHE_FOUND);
    CHECK_EQ(reqs[7].base.status, CACHE_EIO);
    CHECK_EQ(plain_abandon(&cache, &claim, 0, NULL), CACHE_EKEY);
    CHECK_EQ(fetch_all(keys, 4), 1); /* all are answered */
    CHECK_EQ(outs[3], 20);
    CHECK_EQ(fetch_all(keys + 7, 1), 0);
    CHECK_EQ(plain_fetch_cancel(&reqs[0]), 0); /* one of them */
    turn(1);
    CHECK_EQ(n_many, 1);
    CHECK_EQ(reqs[0].base.status, UV_ECANCELED);
    CHECK_EQ(fetch_all(keys + 7, 1), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    CHECK_EQ(plain_fetch_many(&half, &many, reqs, keys, 1, outs, NULL,
                              many_answered),
             UV_ECANCELED);
    plain_loaded(batches[2], 0, 60);
    tear_down();
    CHECK_EQ(n_many, 1);
}

/* --- put, remove, flush -------------------------------------------------- */

static int n_flushed, flush_status;

static void flushed(struct cache_flush *flush, int status)
{
    (void)flush;
    n_flushed++;
    flush_status = status;
}

static void put_is_seen_at_once_and_stored_later(void)
{
    set_up(10);
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 1, 11), 0);
    CHECK_EQ(ask(&asks[0], 1), 1);
    CHECK_EQ(asks[0].out, 11);
    CHECK(!store.rows[1].present);
    run(); /* the loop lives until it is stored */
    CHECK_EQ(store.rows[1].value, 11);
    CHECK_EQ(store.n_writes, 1);
    tear_down();
}

static void a_write_under_way_is_read(void)
{
    set_up(1);
    store.hold = true;
    stored(2, 20);
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 2, 21), 0); /* evicts 1 */
    CHECK(held(1) == 0);
    CHECK_EQ(ask(&asks[0], 1), 1);
    CHECK_EQ(asks[0].out, 10);
    CHECK_EQ(stats().dirty_hits, 1);
    CHECK(held(1) != 0);
    CHECK_EQ(plain_async_remove(&half, 1), 0);
    CHECK_EQ(ask(&asks[0], 1), CACHE_EKEY); /* known: no callback */
    UNTIL(store.n_held != 0);
    CHECK_EQ(ask(&asks[1], 2), 1); /* also while it is at the store */
    CHECK_EQ(asks[1].out, 21);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK(!store.rows[1].present);
    CHECK_EQ(ask(&asks[0], 1), 0);
    run();
    CHECK_EQ(asks[0].status, CACHE_EKEY);
    tear_down();
}

/* A load that a write overtakes is delivered, not stored, and not joined. */
static void write_kills_the_load(void)
{
    set_up(1);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(1);
    CHECK_EQ(plain_async_put(&half, 5, 51), 0);
    UNTIL(store.n_held >= 2);
    fake_execute(&store, store.held[1]); /* the write overtakes the load .. */
    stored(5, 50);                       /* .. which has read before */
    turn(1);
    CHECK_EQ(plain_async_put(&half, 6, 60), 0); /* evicts 5 */
    stored(5, 51);
    CHECK_EQ(ask(&asks[1], 5), 0); /* a load of its own */
    turn(1);
    CHECK_EQ(store.n_held, 3);
    stored(5, 50);
    fake_execute(&store, store.held[0]);
    stored(5, 51);
    turn(1);
    CHECK_EQ(asks[0].out, 50);
    CHECK(held(5) == 0);
    fake_execute(&store, store.held[2]);
    store.n_held = 0;
    store.hold = false;
    run();
    CHECK_EQ(asks[1].out, 51);
    CHECK_EQ(held(5), 51);
    CHECK_EQ(stats().discarded, 1);
    tear_down();
}

static void remove_kills_the_load(void)
{
    set_up(10);
    stored(5, 50);
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(plain_async_remove(&half, 5), 0);
    run();
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK(held(5) == 0);
    CHECK(!store.rows[5].present);
    tear_down();
}

static void flush_is_a_barrier(void)
{
    static struct cache_flush one, two;

    prepare(10);
    caching.write_behind.interval_ms = 1000000; /* only flush sends */
    begin();
    n_flushed = 0;
    store.hold = true;
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 2, 20), 0);
    turn(2);
    CHECK_EQ(store.n_batches, 0);
    CHECK_EQ(cache_async_flush(&half.base, &one, flushed), 0);
    turn(2);
    CHECK_EQ(n_flushed, 0);
    CHECK_EQ(store.n_writes, 2);
    CHECK_EQ(plain_async_put(&half, 3, 30), 0); /* behind the barrier */
    fake_release(&store);
    turn(2);
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, 0);
    CHECK(!store.rows[3].present);
    store.hold = false;
    CHECK_EQ(cache_async_flush(&half.base, &one, flushed), 0);
    CHECK_EQ(cache_async_flush(&half.base, &two, flushed), 0);
    run();
    CHECK_EQ(n_flushed, 3);
    CHECK_EQ(store.rows[3].value, 30);
    CHECK_EQ(cache_async_flush(&half.base, &one, flushed), 0); /* clean */
    CHECK_EQ(n_flushed, 3); /* never inside the call */
    run();
    CHECK_EQ(n_flushed, 4);
    CHECK_EQ(cache_async_flush(&half.base, NULL, flushed), CACHE_EINVAL);
    CHECK_EQ(cache_async_flush(&half.base, &one, NULL), CACHE_EINVAL);
    tear_down();
}

static void flushes_again(struct cache_flush *flush, int status)
{
    flushed(flush, status);
    if (n_flushed < 1000)
        CHECK_EQ(cache_async_flush(&half.base, flush, flushes_again), 0);
}

/* A flush of a clean buffer is done at once: begun again and again by its own
 * callback it must still let the loop turn. */
static void flush_inside_its_callback(void)
{
    static struct cache_flush flush;

    set_up(10);
    n_flushed = 0;
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushes_again), 0);
    turn(1);
    CHECK(n_flushed >= 1 && n_flushed <= 2);
    run();
    CHECK_EQ(n_flushed, 1000);
    tear_down();
}

static void flush_hears_of_dead_letters(void)
{
    static struct cache_flush flush;

    prepare(10);
    caching.write_behind.max_attempts = 3;
    begin();
    n_flushed = 0;
    store.fail = CACHE_EACCESS;
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), 0);
    run();
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, CACHE_EDEADLETTER);
    CHECK_EQ(n_dead, 1);
    CHECK_EQ(store.n_writes, 3);
    tear_down();
    CHECK_EQ(n_lost, 0); /* it was dead-lettered, not lost at close */
}

static void full_buffer_refuses(void)
{
    prepare(10);
    caching.write_behind.max_dirty = 2;
    begin();
    stored(3, 30);
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 2, 20), 0);
    CHECK_EQ(plain_async_put(&half, 3, 31), CACHE_EFULL);
    CHECK(held(3) == 0); /* neither cache nor store has it */
    CHECK_EQ(plain_async_put(&half, 1, 11), 0); /* dirty already */
    CHECK_EQ(plain_async_remove(&half, 3), CACHE_EFULL);
    run();
    CHECK_EQ(store.rows[3].value, 30);
    CHECK_EQ(plain_async_put(&half, 3, 31), 0);
    run();
    CHECK_EQ(store.rows[3].value, 31);
    tear_down();
}

static int named_status;

static void named_answered(struct named_request *req, int status)
{
    (void)req;
    named_status = status;
}

/* Keys that are pointers, with SQLite behind them: nothing may point into a
 * load that is over.  ASan sees to it. */
static void keys_that_are_strings(void)
{
    struct cache_codec names = cache_raw_string(20);
    struct cache_sqlite_config db_config = { .path = ":memory:" };
    static struct borrowing_async b;
    static struct cache_sqlite db;
    static struct named_async a;
    static struct named_request req;
    struct borrowing borrows;
    struct named strings;
    char name[32];
    uint64_t i, out;

    set_up_config(2);
    caching.store = &db.store;
    caching.key_codec = &names;
    CHECK_EQ(cache_sqlite_open(&db, &db_config), 0);
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(borrowing_init(&borrows, &caching), 0);
    CHECK_EQ(borrowing_async_init(&b, &loop, &borrows, NULL, NULL),
             CACHE_EOWNER);
    borrowing_destroy(&borrows);
    CHECK_EQ(named_init(&strings, &caching), 0);
    CHECK_EQ(named_async_init(&a, &loop, &strings, NULL, NULL), 0);
    for (i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "name %u", (unsigned)i);
        CHECK_EQ(named_async_put(&a, name, i), 0);
    }
    run();
    for (i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "name %u", (unsigned)i % 40);
        if (named_fetch(&a, &req, name, &out, named_answered) == 0) {
            memset(name, 'x', sizeof name); /* it was copied */
            run();
            CHECK_EQ(named_status, 0);
        }
        CHECK_EQ(out, i % 40);
        CHECK_SOUND(named_check(&strings));
    }
    CHECK_EQ(
        named_fetch(&a, &req, "a name of more than 20", &out, named_answered),
        0);
    run();
    CHECK_EQ(named_status, CACHE_ETOOBIG);
    CHECK_EQ(named_async_put(&a, "a name of more than 20", 1), CACHE_ETOOBIG);
    CHECK_EQ(cache_async_close(&a.base, NULL), 0);
    run();
    CHECK_EQ(uv_loop_close(&loop), 0);
    db.store.close(&db.store);
    named_destroy(&strings);
    CHECK_EQ(n_strings, 0);
}

/* The cache has no room for a key, but the write was accepted: it is stored,
 * and the cache does not keep an older value. */
static void value_without_room_in_the_cache(void)
{
    static struct copying_async a;
    struct copying copies;

    prepare(10);
    CHECK_EQ(copying_init(&copies, &caching), 0);
    CHECK_EQ(copying_async_init(&a, &loop, &copies, &config, NULL), 0);
    key_copy_fails = true;
    CHECK_EQ(copying_async_put(&a, 1, 10), 0);
    key_copy_fails = false;
    CHECK_EQ(copying_len(&copies), 0);
    run();
    CHECK_EQ(store.rows[1].value, 10);
    CHECK_EQ(cache_async_close(&a.base, NULL), 0);
    run();
    CHECK_EQ(uv_loop_close(&loop), 0);
    copying_destroy(&copies);
}

static void failing_store_is_retried(void)
{
    set_up(10);
    store.fail = CACHE_ELOCKED;
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    UNTIL(store.n_writes >= 3);
    CHECK(!store.rows[1].present);
    CHECK_EQ(cache_wb_n_dirty(&cache.front.writes), 1);
    store.fail = 0;
    run();
    CHECK_EQ(store.rows[1].value, 10);
    CHECK_EQ(n_dead, 0);
    tear_down();
}

/* --- expiry -------------------------------------------------------------- */

/* How long a value is fresh is the cache's affair; how long the data lasts,
 * the store's too. */
static void expiry_goes_to_the_store_and_back(void)
{
    struct cache_writing for_100_ms = { .lifetime_ms = 100 };

    prepare(10);
    own_clock();
    caching.freshness.ttl_ms = 5000;
    begin();
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put_with(&half, 2, 20, &for_100_ms), 0);
    CHECK_EQ(plain_async_put_ttl(&half, 3, 30, CACHE_NEVER), 0);
    CHECK_EQ(plain_async_put_ttl(&half, 4, 40, 0), CACHE_ETTL);
    CHECK_EQ(held(4), 0);
    run();
    CHECK_EQ(store.rows[1].expires_ms, 0);
    CHECK_EQ(store.rows[2].expires_ms, wall_ms + 100);
    CHECK_EQ(store.rows[3].expires_ms, 0);
    CHECK(!store.rows[4].present);
    cache_ms += 6000;
    CHECK_EQ(held(1), 0);
    CHECK_EQ(held(3), 30);

    plain_async_invalidate(&half, CACHE_INVALIDATE_HARD);
    wall_ms += 60;
    CHECK_EQ(ask(&asks[0], 2), 0);
    run();
    CHECK_EQ(asks[0].out, 20);
    CHECK_EQ(held(2), 20);
    cache_ms += 40; /* what was left of 100 ms */
    wall_ms += 40;
    CHECK_EQ(held(2), 0);
    CHECK_EQ(ask(&asks[0], 2), 0);
    run();
    CHECK_EQ(asks[0].status, CACHE_EKEY);

    CHECK_EQ(ask(&asks[0], 3), 0);
    run(); /* nothing is left of the loads before it */
    CHECK_EQ(asks[0].out, 30);
    tear_down();
}

/* --- close --------------------------------------------------------------- */

static void close_cancels_drains_and_is_final(void)
{
    static struct cache_flush flush;
    uint64_t i;

    set_up(100);
    n_flushed = 0;
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 1), 0); /* will be at the store */
    turn(1);
    CHECK_EQ(ask(&asks[1], 2), 0); /* will never be sent */
    for (i = 10; i < 50; i++)
        CHECK_EQ(plain_async_put(&half, i, i), 0);
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), UV_EALREADY);
    CHECK_EQ(asks[0].n_calls + asks[1].n_calls, 0); /* not inside close */
    CHECK_EQ(ask(&asks[2], 1), UV_ECANCELED);
    CHECK_EQ(plain_async_put(&half, 1, 1), UV_ECANCELED);
    CHECK_EQ(plain_async_remove(&half, 1), UV_ECANCELED);
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), UV_ECANCELED);
    turn(3);
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(asks[1].status, UV_ECANCELED);
    CHECK_EQ(n_closed, 0); /* the store has batches of ours */
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(n_lost, 0);
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, 0);
    CHECK_EQ(store.n_loads, 1);
    for (i = 10; i < 50; i++)
        CHECK_EQ(store.rows[i].value, i);
    CHECK_EQ(cache_async_close(&half.base, on_close), UV_EALREADY);
    CHECK_EQ(asks[0].n_calls + asks[1].n_calls, 2);
    CHECK_EQ(cache_async_write_stats(&half.base).n_stored, 40);
    tear_down();
}

static void close_waits_for_the_store(void)
{
    set_up(10);
    stored(5, 50);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 5), 0);
    turn(1);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    turn(5);
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(n_closed, 0); /* the load's memory is with the store */
    fake_release(&store);
    tear_down();
}

static void close_gives_up_and_says_so(void)
{
    static struct cache_flush flush;

    prepare(10);
    config.close_timeout_ms = 20;
    begin();
    n_flushed = 0;
    store.fail = CACHE_EIO; /* for ever */
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 2, 20), 0);
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(n_lost, 2);
    CHECK_EQ(n_dead, 2);
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, CACHE_EDEADLETTER);
    CHECK(store.n_writes >= 2); /* it has tried: both, once at least */
    tear_down();
}

static void closes_everything(struct plain_request *req, int status)
{
    answered(req, status);
    (void)plain_async_put(&half, 9, 90);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
}

static void close_inside_a_callback(void)
{
    set_up(10);
    stored(5, 50);
    CHECK_EQ(ask_with(&asks[0], 5, 0, closes_everything), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    CHECK_EQ(ask(&asks[2], 6), 0);
    run();
    CHECK_EQ(asks[1].n_calls, 1);
    CHECK_EQ(asks[2].n_calls, 1);
    CHECK_EQ(store.rows[9].value, 90);
    tear_down();
}

static void cancels_too_late(struct plain_request *req, int status)
{
    answered(req, status);
    CHECK_EQ(plain_fetch_cancel(&asks[1].req), UV_EBUSY);
}

/* Cancels a request while close is telling the others: it is told the same. */
static void cancel_while_closing(void)
{
    set_up(10);
    store.hold = true;
    CHECK_EQ(ask_with(&asks[0], 5, 0, cancels_too_late), 0);
    CHECK_EQ(ask(&asks[1], 6), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    CHECK_EQ(asks[0].n_calls, 1);
    CHECK_EQ(asks[1].n_calls, 1);
    CHECK_EQ(asks[1].status, UV_ECANCELED);
    tear_down();
}

static void close_without_a_callback(void)
{
    set_up(10);
    CHECK_EQ(cache_async_close(&half.base, NULL), 0);
    run();
    n_closed = 1;
    tear_down();
}

static void flush_asks(struct cache_flush *flush, int status)
{
    (void)flush;
    CHECK_EQ(status, 0);
    CHECK_EQ(ask(&asks[1], 6), 0);
}

static void cancelled_asks(struct plain_request *req, int status)
{
    answered(req, status);
    CHECK_EQ(ask(&asks[3], 8), 0);
}

/* Flushes and cancelled waiters are told just before the loop waits: what is
 * begun there must not wait for something else to wake the loop. */
static void work_begun_in_a_callback_does_not_wait(void)
{
    static struct cache_flush flush;
    uint64_t began;

    prepare(10);
    config.timeout_ms = 5000; /* would wake a loop that waits */
    begin();
    stored(6, 60);
    stored(8, 80);
    began = uv_hrtime();
    CHECK_EQ(cache_async_flush(&half.base, &flush, flush_asks), 0);
    run();
    CHECK_EQ(ask_with(&asks[2], 5, 0, cancelled_asks), 0);
    CHECK_EQ(plain_fetch_cancel(&asks[2].req), 0);
    run();
    CHECK_EQ(asks[1].out, 60);
    CHECK_EQ(asks[3].out, 80);
    CHECK(uv_hrtime() - began < UINT64_C(4000000000));
    tear_down();
}

static int n_rounds;

static void asks_again(struct plain_request *req, int status)
{
    struct ask *a = (struct ask *)(void *)req;

    CHECK_EQ(status, 0);
    CHECK_EQ(a->out, (uint64_t)n_rounds * 3);
    if (++n_rounds < 100)
        CHECK_EQ(
            plain_fetch(&half, req, (uint64_t)n_rounds, &a->out, asks_again),
            0);
}

static void request_is_used_again_in_its_callback(void)
{
    uint64_t i;

    set_up(10);
    n_rounds = 0;
    for (i = 0; i < 100; i++)
        stored(i, i * 3);
    CHECK_EQ(plain_fetch(&half, &asks[0].req, 0, &asks[0].out, asks_again), 0);
    run();
    CHECK_EQ(n_rounds, 100);
    tear_down();
}

/* --- init ---------------------------------------------------------------- */

static uint32_t group_of(const uint64_t *key, void *user)
{
    (void)user;
    return (uint32_t)*key;
}

static void load_batch_never(struct plain_async *a, struct plain_batch *b)
{
    (void)a;
    (void)b;
}

/* A config that init refuses: nothing is open then. */
static void refused(int error)
{
    CHECK_EQ(plain_async_init(&half, &loop, &cache, &config, &loader), error);
    memset(&config, 0, sizeof config);
    memset(&loader, 0, sizeof loader);
}

static void wrong_configs(void)
{
    struct plain_async *volatile nobody = NULL; /* gcc would see through it */
    static struct plain_async other;
    struct plain empty, aside;

    prepare(10);
    caching.write_behind.max_dirty = 100;
    memset(&empty, 0, sizeof empty);
    CHECK_EQ(plain_init(&cache, &caching), 0);
    CHECK_EQ(plain_async_init(nobody, &loop, &cache, NULL, NULL), CACHE_EINVAL);
    CHECK_EQ(plain_async_init(&half, NULL, &cache, NULL, NULL), CACHE_EINVAL);
    CHECK_EQ(plain_async_init(&half, &loop, NULL, NULL, NULL), CACHE_EINVAL);
    CHECK_EQ(plain_async_init(&half, &loop, &empty, NULL, NULL), CACHE_EINVAL);
    config.n_groups = 2;
    refused(CACHE_EINVAL);
    config.n_groups = UINT32_MAX;
    loader.load_batch = load_batch_never;
    loader.group_by = group_of;
    refused(CACHE_ELIMIT);
    config.max_batches = UINT32_MAX;
    refused(CACHE_ELIMIT);
    config.n_workers = CACHE_WORKER_MAX_THREADS + 1;
    refused(CACHE_ELIMIT);
    config.high_water = 101;
    refused(CACHE_ELIMIT);
    config.high_water = 10;
    config.low_water = 11;
    refused(CACHE_ELIMIT);

    memset(&caching, 0, sizeof caching);
    caching.cache.capacity = 10;
    CHECK_EQ(plain_init(&aside, &caching), 0);
    CHECK_EQ(plain_async_init(&half, &loop, &aside, NULL, NULL),
             CACHE_ENOSTORE); /* nothing loads */
    loader.group_by = group_of;
    CHECK_EQ(plain_async_init(&half, &loop, &aside, NULL, &loader),
             CACHE_ENOSTORE);
    plain_destroy(&aside);
    CHECK_EQ(uv_loop_close(&loop), 0); /* nothing is open */

    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(plain_async_init(&half, &loop, &cache, NULL, NULL), 0);
    CHECK_EQ(plain_async_init(&other, &loop, &cache, NULL, NULL),
             CACHE_EINVAL); /* it is on a loop already */
    tear_down();
}

static int allocations_left, allocations_live;

static void *scarce(size_t bytes, void *user)
{
    void *memory = NULL;

    (void)user;
    if (allocations_left-- > 0 && (memory = malloc(bytes)) != NULL)
        allocations_live++;
    return memory;
}

static void give_back(void *memory, void *user)
{
    (void)user;
    free(memory);
    allocations_live--;
}

static void every_failed_allocation(void)
{
    int k, rc = CACHE_ENOMEM;

    prepare(10);
    caching.cache.alloc = scarce;
    caching.cache.free = give_back;
    allocations_left = 1000;
    CHECK_EQ(plain_init(&cache, &caching), 0);
    for (k = 0; rc != 0; k++) {
        int before = allocations_live;

        allocations_left = k;
        rc = plain_async_init(&half, &loop, &cache, &config, &loader);
        if (rc != 0) {
            CHECK_EQ(rc, CACHE_ENOMEM);
            CHECK_EQ(allocations_live, before);
            CHECK_EQ(uv_loop_close(&loop), 0);
            CHECK_EQ(uv_loop_init(&loop), 0);
        }
    }
    CHECK_EQ(k, 2);
    allocations_left = 0; /* none is made after init */
    stored(5, 50);
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(plain_async_put(&half, 6, 60), 0);
    run();
    CHECK_EQ(asks[0].out, 50);
    tear_down();
    CHECK_EQ(allocations_live, 0);
}

/* Two caches on one loop, and one on a loop of its own. */
static void several_at_once(void)
{
    static struct plain_async second, third;
    static struct fake_store stores[2];
    struct plain caches[2];
    uv_loop_t other;
    static struct ask cancelled;

    set_up(10);
    CHECK_EQ(uv_loop_init(&other), 0);
    fake_init(&stores[0]);
    fake_init(&stores[1]);
    caching.store = &stores[0].store;
    CHECK_EQ(plain_init(&caches[0], &caching), 0);
    CHECK_EQ(plain_async_init(&second, &loop, &caches[0], NULL, NULL), 0);
    caching.store = &stores[1].store;
    CHECK_EQ(plain_init(&caches[1], &caching), 0);
    CHECK_EQ(plain_async_init(&third, &other, &caches[1], NULL, NULL), 0);
    stored(5, 50);
    CHECK_EQ(plain_async_put(&second, 5, 51), 0);
    CHECK_EQ(plain_async_put(&third, 5, 52), 0);
    CHECK_EQ(ask(&asks[0], 5), 0);
    CHECK_EQ(plain_fetch(&second, &cancelled.req, 6, &cancelled.out, answered),
             0);
    CHECK_EQ(plain_fetch_cancel(&cancelled.req), 0);
    CHECK_EQ(cache_async_close(&third.base, NULL), 0);
    (void)uv_run(&other, UV_RUN_DEFAULT);
    CHECK_EQ(stores[1].rows[5].value, 52);
    CHECK_EQ(uv_loop_close(&other), 0);
    run();
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(stores[0].rows[5].value, 51);
    CHECK_EQ(cache_async_close(&second.base, NULL), 0);
    tear_down();
    plain_destroy(&caches[0]);
    plain_destroy(&caches[1]);
}

/* --- everything at random, with a store on a thread, and with SQLite ----- */

#define RANDOM_KEYS 200
#define RANDOM_ASKS 256

/* The value of a key is key << 32 | how often it was written. */
static uint32_t written[RANDOM_KEYS];
static bool removed_now[RANDOM_KEYS];
static struct random_ask {
    struct plain_request req; /* first */
    uint64_t key, out, n_started, n_calls;
    uint32_t at_least; /* count of writes when it was asked */
    bool pending, was_removed;
} random_asks[RANDOM_ASKS];

static void check_value(const struct random_ask *a, int status)
{
    uint32_t count = (uint32_t)a->out;

    if (status >= 0) {
        CHECK_EQ(a->out >> 32, a->key);
        CHECK(count <= written[a->key]);
        /* Never older than what had been written when it was asked. */
        CHECK(count >= a->at_least);
    } else if (status == CACHE_EKEY) {
        /* Absent is right only if a remove, or nothing, came last. */
        CHECK(a->was_removed || a->at_least == 0 || removed_now[a->key] ||
              written[a->key] != a->at_least);
    } else {
        CHECK(status == UV_ECANCELED || status == UV_ETIMEDOUT);
    }
}

static void random_answered(struct plain_request *req, int status)
{
    struct random_ask *a = (struct random_ask *)(void *)req;

    CHECK(a->pending);
    a->pending = false;
    a->n_calls++;
    check_value(a, status);
}

static void random_fetch(struct random_ask *a, uint64_t key, uint64_t *random)
{
    struct cache_fetch_options options = { 0 };
    int rc;

    if (a->pending)
        return;
    if (test_random(random) % 4 == 0)
        options.timeout_ms = 1 + test_random(random) % 3;
    a->key = key;
    a->at_least = written[key];
    a->was_removed = removed_now[key];
    a->pending = true;
    a->n_started++;
    rc = plain_fetch_with(&half, &a->req, key, &a->out, &options,
                          random_answered);
    if (rc == 0)
        return;
    a->pending = false;
    a->n_calls++;
    if (rc != UV_ENOBUFS)
        check_value(a, rc == 1 ? CACHE_FOUND : rc);
}

static void random_operations(uint64_t seed, int n_operations)
{
    uint64_t random = seed;
    int i;

    memset(written, 0, sizeof written);
    memset(removed_now, 0, sizeof removed_now);
    memset(random_asks, 0, sizeof random_asks);
    for (i = 0; i < n_operations; i++) {
        uint64_t key = test_random(&random) % RANDOM_KEYS;
        struct random_ask *a = &random_asks[test_random(&random) % RANDOM_ASKS];

        switch (test_random(&random) % 16) {
        case 0:
        case 1:
        case 2:
            if (plain_async_put(&half, key, key << 32 | (written[key] + 1u)) ==
                0) {
                written[key]++;
                removed_now[key] = false;
            }
            break;
        case 3:
            if (plain_async_remove(&half, key) == 0) {
                written[key]++; /* a remove has a number of its own */
                removed_now[key] = true;
            }
            break;
        case 4:
            if (a->pending)
                CHECK_EQ(plain_fetch_cancel(&a->req) & ~UV_EBUSY, 0);
            break;
        case 5: turn(1); break;
        default: random_fetch(a, key, &random); break;
        }
        CHECK_SOUND(cache_wb_check(&cache.front.writes));
        if (i % 64 == 0)
            CHECK_SOUND(plain_check(&cache));
    }
}

static void check_every_ask(void)
{
    int i;

    for (i = 0; i < RANDOM_ASKS; i++) {
        CHECK(!random_asks[i].pending);
        CHECK_EQ(random_asks[i].n_calls, random_asks[i].n_started);
    }
}

static void random_with_a_thread(void)
{
    int round;
    uint64_t key;

    for (round = 0; round < 5 * test_scale(); round++) {
        prepare(30);
        caching.max_claims = 64;
        config.max_batch = 8;
        caching.write_behind.max_dirty = 100;
        caching.write_behind.max_in_flight = 2;
        caching.write_behind.max_batch = 16;
        begin();
        fake_start(&store);
        random_operations(test_seed + (uint64_t)round * 2, 3000);
        CHECK_EQ(cache_async_close(&half.base, on_close), 0);
        run();
        fake_stop(&store);
        CHECK_EQ(n_lost, 0);
        check_every_ask();
        for (key = 0; key < RANDOM_KEYS; key++) {
            CHECK_EQ(store.rows[key].present,
                     written[key] != 0 && !removed_now[key]);
            if (store.rows[key].present)
                CHECK_EQ(store.rows[key].value, key << 32 | written[key]);
        }
        tear_down();
    }
}

static void random_with_sqlite(void)
{
    const char *tmp = getenv("TMPDIR");
    char directory[300], path[320], command[340];
    struct cache_sqlite_config db_config = { .path = path };
    static struct cache_sqlite db;
    sqlite3_stmt *all = NULL;
    sqlite3 *check = NULL;
    uint64_t key, n_present = 0, n_rows = 0;

    (void)snprintf(directory, sizeof directory, "%s/test-async-XXXXXX",
                   tmp ? tmp : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    (void)snprintf(path, sizeof path, "%s/db", directory);
    CHECK_EQ(cache_sqlite_open(&db, &db_config), 0);
    prepare(30);
    caching.store = &db.store;
    caching.write_behind.max_dirty = RANDOM_KEYS; /* which check() walks */
    begin();
    random_operations(test_seed, 20000);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    CHECK_EQ(n_lost, 0);
    check_every_ask();
    tear_down();
    db.store.close(&db.store);

    CHECK_EQ(sqlite3_open(path, &check), SQLITE_OK);
    CHECK_EQ(
        sqlite3_prepare_v2(check, "SELECT k, v FROM cache", -1, &all, NULL),
        SQLITE_OK);
    while (sqlite3_step(all) == SQLITE_ROW) {
        key = fake__number(sqlite3_column_blob(all, 0));
        CHECK_EQ(fake__number(sqlite3_column_blob(all, 1)),
                 key << 32 | written[key]);
        n_rows++;
    }
    for (key = 0; key < RANDOM_KEYS; key++)
        n_present += written[key] != 0 && !removed_now[key];
    CHECK_EQ(n_rows, n_present);
    (void)sqlite3_finalize(all);
    (void)sqlite3_close(check);
    (void)snprintf(command, sizeof command, "rm -r '%s'", directory);
    CHECK_EQ(system(command), 0);
}

static const struct test tests[] = {
    TEST(hit_is_a_result),
    TEST(absent_key),
    TEST(one_load_per_key),
    TEST(joins_a_load_at_the_store),
    TEST(one_batch_per_turn),
    TEST(errors_pass_unchanged),
    TEST(cancel_detaches_one),
    TEST(cancelled_load_fills_the_cache),
    TEST(cancel_inside_a_callback),
    TEST(every_waiter_has_its_deadline),
    TEST(deadlines_fire_in_order),
    TEST(default_timeout),
    TEST(who_joins_later_has_a_deadline),
    TEST(config_timeout_can_be_switched_off),
    TEST(soft_deadlines),
    TEST(config_soft_timeout),
    TEST(stale_values),
    TEST(skipping),
    TEST(hits_by_callback),
    TEST(least_version),
    TEST(stale_if_error_for_each),
    TEST(absent_and_failing_keys_are_known),
    TEST(positive_statuses_are_no_errors),
    TEST(refresh_ahead),
    TEST(refresh_on_demand),
    TEST(dirty_keys_are_not_refreshed),
    TEST(claims_of_the_program),
    TEST(claims_exhausted),
    TEST(many_at_once),
    TEST(put_is_seen_at_once_and_stored_later),
    TEST(a_write_under_way_is_read),
    TEST(write_kills_the_load),
    TEST(remove_kills_the_load),
    TEST(flush_is_a_barrier),
    TEST(flush_inside_its_callback),
    TEST(flush_hears_of_dead_letters),
    TEST(full_buffer_refuses),
    TEST(keys_that_are_strings),
    TEST(value_without_room_in_the_cache),
    TEST(failing_store_is_retried),
    TEST(expiry_goes_to_the_store_and_back),
    TEST(close_cancels_drains_and_is_final),
    TEST(close_waits_for_the_store),
    TEST(close_gives_up_and_says_so),
    TEST(close_inside_a_callback),
    TEST(cancel_while_closing),
    TEST(close_without_a_callback),
    TEST(work_begun_in_a_callback_does_not_wait),
    TEST(request_is_used_again_in_its_callback),
    TEST(wrong_configs),
    TEST(every_failed_allocation),
    TEST(several_at_once),
    TEST(random_with_a_thread),
    TEST(random_with_sqlite),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
