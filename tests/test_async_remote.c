/*
 * test_async_remote.c - every documented sentence of cache_async_remote.h: a
 * loop that other threads put to and fetch from, and groups of loops.  Groups
 * are simulated, too: several loops on one thread, turned in a random order,
 * with a store that answers when the test says so.  Each test ends with
 * uv_loop_close() == 0.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../cache_async_remote.h"
#include "../codecs/cache_raw.h"
#include "test.h"

#include <unistd.h>

/* --- a database, and blocking callbacks to it ---------------------------- */

#define N_ROWS 256 /* keys are below this */

struct row {
    uint64_t value;
    bool present;
};

static struct {
    uv_mutex_t lock;
    uv_cond_t changed;
    struct row rows[N_ROWS];
    bool hold;     /* loads wait */
    int fail;      /* every call fails with this, unless 0 */
    int n_loads;   /* that have begun */
    int n_holding; /* of these: waiting */
} db;

static void db_set_up(void)
{
    memset(db.rows, 0, sizeof db.rows);
    db.hold = false;
    db.fail = db.n_loads = db.n_holding = 0;
}

static int db_load(const uint64_t *key, uint64_t *value,
                   struct cache_loaded *loaded, void *user)
{
    int rc;

    (void)loaded;
    (void)user;
    uv_mutex_lock(&db.lock);
    db.n_loads++;
    db.n_holding++;
    uv_cond_broadcast(&db.changed);
    while (db.hold)
        uv_cond_wait(&db.changed, &db.lock);
    db.n_holding--;
    rc = db.fail ? db.fail : db.rows[*key].present ? 0 : CACHE_EKEY;
    *value = db.rows[*key].value;
    uv_mutex_unlock(&db.lock);
    return rc;
}

static int db_write(uint64_t key, const uint64_t *value)
{
    int rc;

    uv_mutex_lock(&db.lock);
    rc = db.fail;
    if (rc == 0) {
        db.rows[key].present = value != NULL;
        db.rows[key].value = value ? *value : 0;
    }
    uv_mutex_unlock(&db.lock);
    return rc;
}

static int db_store(const uint64_t *key, const uint64_t *value,
                    const struct cache_storing *storing, void *user)
{
    (void)storing;
    (void)user;
    return db_write(*key, value);
}

static int db_remove(const uint64_t *key, const struct cache_storing *storing,
                     void *user)
{
    (void)storing;
    (void)user;
    return db_write(*key, NULL);
}

static void db_hold(bool hold)
{
    uv_mutex_lock(&db.lock);
    db.hold = hold;
    uv_cond_broadcast(&db.changed);
    uv_mutex_unlock(&db.lock);
}

static void db_fail(int rc)
{
    uv_mutex_lock(&db.lock);
    db.fail = rc;
    uv_mutex_unlock(&db.lock);
}

/* Waits until n loads wait. */
static void db_await_holding(int n)
{
    uv_mutex_lock(&db.lock);
    while (db.n_holding < n)
        uv_cond_wait(&db.changed, &db.lock);
    uv_mutex_unlock(&db.lock);
}

static int db_loads(void)
{
    int n;

    uv_mutex_lock(&db.lock);
    n = db.n_loads;
    uv_mutex_unlock(&db.lock);
    return n;
}

static struct row db_row(uint64_t key)
{
    struct row row;

    uv_mutex_lock(&db.lock);
    row = db.rows[key];
    uv_mutex_unlock(&db.lock);
    return row;
}

CACHE_DEFINE_LOADING_WITH(nums, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_SIEVE | CACHE_STATS,
                          .load = db_load, .store = db_store,
                          .remove = db_remove);
CACHE_ASYNC_DEFINE(nums);
CACHE_ASYNC_REMOTE_DEFINE(nums);

/* --- a loop on a thread of its own --------------------------------------- */

struct side;
typedef void (*side_fn)(struct side *s, void *arg);

struct side {
    struct nums_async half; /* first */
    struct side *before;    /* see `one` */
    struct nums cache;
    struct nums_remote remote;
    struct cache_member member;
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t control; /* has the loop call `fn` */
    uv_sem_t called, paused, go;
    side_fn fn;
    void *arg;
    uint64_t n_lost;
    int n_closed;
    bool runs;     /* its thread does */
    bool destroys; /* the remote, in the close callback */

    int n_errors; /* on_error's calls, and what the last one was told */
    int status;
    uint64_t key, value;
    bool removal, closes; /* on_error does */
    struct nums_request req;
    int n_fetched, fetched;
    uint64_t out;
};

static uv_mutex_t control_lock; /* libuv's own is not seen by sanitizers */

static void side_control(uv_async_t *control)
{
    struct side *s = (struct side *)control->data;
    side_fn fn;

    uv_mutex_lock(&control_lock);
    fn = s->fn;
    s->fn = NULL;
    uv_mutex_unlock(&control_lock);
    if (fn == NULL)
        return;
    fn(s, s->arg);
    uv_sem_post(&s->called);
}

static void side_run(void *arg)
{
    struct side *s = (struct side *)arg;

    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
}

/* Has the loop's thread call fn. */
static void side_begin(struct side *s, side_fn fn, void *arg)
{
    uv_mutex_lock(&control_lock);
    s->fn = fn;
    s->arg = arg;
    uv_mutex_unlock(&control_lock);
    uv_async_send(&s->control);
}

static void side_call(struct side *s, side_fn fn, void *arg)
{
    side_begin(s, fn, arg);
    uv_sem_wait(&s->called);
}

static void on_close(struct cache_async *a, uint64_t n_lost)
{
    struct side *s = (struct side *)(void *)a;

    s->n_closed++;
    s->n_lost = n_lost;
    if (s->destroys)
        cache_remote_destroy(&s->remote.base);
    uv_close((uv_handle_t *)&s->control, NULL);
}

static void side_close(struct side *s, void *arg)
{
    (void)arg;
    (void)cache_async_close(&s->half.base, on_close);
}

static void on_error(struct nums_remote *r, const uint64_t *key,
                     const uint64_t *value, int status)
{
    struct side *s = (struct side *)r->data;

    s->n_errors++;
    s->status = status;
    s->key = *key;
    s->removal = value == NULL;
    s->value = value ? *value : 0;
    if (s->closes)
        side_close(s, NULL);
}

static struct cache_codec number_codec;

static struct cache_loading_config side_config(enum cache_strategy writes)
{
    struct cache_loading_config config;

    number_codec = cache_raw_object(sizeof(uint64_t));
    memset(&config, 0, sizeof config);
    config.cache.capacity = 2 * N_ROWS;
    config.reads = CACHE_READ_THROUGH;
    config.writes = writes;
    if (writes == CACHE_WRITE_BEHIND) {
        config.key_codec = config.value_codec = &number_codec;
        config.write_behind.interval_ms = 1;
        config.write_behind.retry_base_ms = 1;
    }
    return config;
}

/* Makes it of zeroes, on this thread; the loop does not run yet. */
static void side_make(struct side *s, enum cache_strategy writes,
                      uint32_t max_pending, uint64_t timeout_ms)
{
    struct cache_loading_config config = side_config(writes);
    struct cache_async_config async = { .timeout_ms = timeout_ms,
                                        .n_workers = 2,
                                        .max_wait_ms = 0 };

    CHECK_EQ(uv_loop_init(&s->loop), 0);
    CHECK_EQ(nums_init(&s->cache, &config), 0);
    CHECK_EQ(nums_async_init(&s->half, &s->loop, &s->cache, &async, NULL), 0);
    CHECK_EQ(nums_remote_init(&s->remote, &s->half, max_pending, on_error), 0);
    s->remote.data = s;
    CHECK_EQ(uv_async_init(&s->loop, &s->control, side_control), 0);
    s->control.data = s;
    CHECK_EQ(uv_sem_init(&s->called, 0), 0);
    CHECK_EQ(uv_sem_init(&s->paused, 0), 0);
    CHECK_EQ(uv_sem_init(&s->go, 0), 0);
}

static void side_start(struct side *s)
{
    CHECK_EQ(uv_thread_create(&s->thread, side_run, s), 0);
    s->runs = true;
}

/* It ends when it is closed. */
static void side_join(struct side *s)
{
    if (s->runs)
        CHECK_EQ(uv_thread_join(&s->thread), 0);
    s->runs = false;
}

static void side_end(struct side *s)
{
    side_join(s);
    CHECK_EQ(s->n_closed, 1);
    CHECK_EQ(uv_loop_close(&s->loop), 0);
    cache_remote_destroy(&s->remote.base);
    cache_remote_destroy(&s->remote.base); /* twice is harmless */
    uv_sem_destroy(&s->called);
    uv_sem_destroy(&s->paused);
    uv_sem_destroy(&s->go);
    CHECK_SOUND(nums_check(&s->cache));
    nums_destroy(&s->cache);
}

static void side_stop(struct side *s)
{
    side_call(s, side_close, NULL);
    side_end(s);
}

/* Holds the loop until side_resume. */
static void side_wait(struct side *s, void *arg)
{
    (void)arg;
    uv_sem_post(&s->paused);
    uv_sem_wait(&s->go);
}

static void side_pause(struct side *s)
{
    side_begin(s, side_wait, NULL);
    uv_sem_wait(&s->paused);
}

static void side_resume(struct side *s)
{
    uv_sem_post(&s->go);
    uv_sem_wait(&s->called);
}

/* --- callers: threads that fetch ----------------------------------------- */

struct caller {
    uv_thread_t thread;
    struct side *s;
    uint64_t key, timeout_ms, out, took_ms;
    int rc;
};

static void caller_run(void *arg)
{
    struct caller *c = (struct caller *)arg;
    uint64_t since_ns = uv_hrtime();

    c->out = 77;
    c->rc = nums_remote_fetch(&c->s->remote, c->key, &c->out, c->timeout_ms);
    c->took_ms = (uv_hrtime() - since_ns) / 1000000;
}

static void caller_start(struct caller *c, struct side *s, uint64_t key,
                         uint64_t timeout_ms)
{
    c->s = s;
    c->key = key;
    c->timeout_ms = timeout_ms;
    CHECK_EQ(uv_thread_create(&c->thread, caller_run, c), 0);
}

static int caller_join(struct caller *c)
{
    CHECK_EQ(uv_thread_join(&c->thread), 0);
    return c->rc;
}

static uint32_t n_pending(struct side *s)
{
    return cache_remote_get_stats(&s->remote.base).n_pending;
}

/* Until n callers are in a fetch, and those that have a slot are queued. */
static void await_inside(struct side *s, uint32_t n)
{
    uint32_t n_inside;

    do {
        uv_sleep(1);
        uv_mutex_lock(&s->remote.base.lock);
        n_inside = s->remote.base.n_inside;
        uv_mutex_unlock(&s->remote.base.lock);
    } while (n_inside < n);
}

/* --- a remote: tests ----------------------------------------------------- */

/* The side of this test.  Those before stay: a failed check leaves its threads
 * behind. */
static struct side *one;

static void new_one(void)
{
    struct side *s = (struct side *)calloc(1, sizeof *s);

    CHECK(s != NULL);
    s->before = one;
    one = s;
}

static void make_one(enum cache_strategy writes, uint32_t max_pending,
                     uint64_t timeout_ms)
{
    new_one();
    side_make(one, writes, max_pending, timeout_ms);
}

static void puts_and_removes_are_carried_out_in_order(void)
{
    uint64_t out = 77;

    db_set_up();
    make_one(CACHE_ASIDE, 0, 0);
    side_start(one);
    CHECK_EQ(nums_remote_put(&one->remote, 1, 10), 0);
    CHECK_EQ(nums_remote_put(&one->remote, 1, 11), 0);
    CHECK_EQ(nums_remote_fetch(&one->remote, 1, &out, CACHE_NEVER),
             CACHE_FOUND);
    CHECK_EQ(out, 11);
    CHECK_EQ(nums_remote_remove(&one->remote, 1), 0);
    CHECK_EQ(nums_remote_fetch(&one->remote, 1, &out, CACHE_NEVER), CACHE_EKEY);
    CHECK_EQ(out, 11); /* as it was */
    CHECK_EQ(nums_remote_put_ttl(&one->remote, 2, 20, 0), CACHE_ETTL);
    CHECK_EQ(nums_remote_put_ttl(&one->remote, 2, 20, 100), 0);
    CHECK_EQ(nums_remote_fetch(&one->remote, 2, &out, CACHE_NEVER),
             CACHE_FOUND);
    CHECK_EQ(out, 20);
    uv_sleep(120);
    CHECK_EQ(nums_remote_fetch(&one->remote, 2, &out, CACHE_NEVER), CACHE_EKEY);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_writes, 4);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_fetches, 4);
    CHECK_EQ(n_pending(one), 0);
    CHECK_EQ(one->n_errors, 0);
    side_stop(one);
}

static void a_fetch_loads_what_is_missing(void)
{
    uint64_t out = 77;

    db_set_up();
    db_write(3, &(uint64_t) { 33 });
    make_one(CACHE_ASIDE, 1, 0);
    side_start(one);
    CHECK_EQ(nums_remote_fetch(&one->remote, 4, &out, 1000), CACHE_EKEY);
    db_fail(CACHE_EIO);
    CHECK_EQ(nums_remote_fetch(&one->remote, 3, &out, 1000), CACHE_EIO);
    CHECK_EQ(out, 77);
    db_fail(0);
    CHECK_EQ(nums_remote_fetch(&one->remote, 3, &out, 1000), CACHE_FOUND);
    CHECK_EQ(out, 33);
    CHECK_EQ(db_loads(), 3);
    CHECK_EQ(nums_remote_fetch(&one->remote, 3, &out, 0), CACHE_FOUND);
    CHECK_EQ(db_loads(), 3);
    side_stop(one);
}

static void on_fetched(struct nums_request *req, int status)
{
    struct side *s = (struct side *)req->data;

    s->fetched = status;
    s->n_fetched++;
}

static void side_fetch(struct side *s, void *arg)
{
    s->req.data = s;
    s->fetched =
        nums_fetch(&s->half, &s->req, *(uint64_t *)arg, &s->out, on_fetched);
}

static void all_who_ask_share_one_load(void)
{
    struct caller callers[6];
    uint64_t key = 5;
    int i;

    db_set_up();
    db_write(5, &(uint64_t) { 55 });
    db_hold(true);
    make_one(CACHE_ASIDE, 0, 0);
    side_start(one);
    for (i = 0; i < 3; i++)
        caller_start(&callers[i], one, 5, 0);
    db_await_holding(1);
    side_call(one, side_fetch, &key);
    CHECK_EQ(one->fetched, 0);
    for (i = 3; i < 6; i++)
        caller_start(&callers[i], one, 5, CACHE_NEVER);
    await_inside(one, 6);
    db_hold(false);
    for (i = 0; i < 6; i++) {
        CHECK_EQ(caller_join(&callers[i]), CACHE_FOUND);
        CHECK_EQ(callers[i].out, 55);
    }
    CHECK_EQ(db_loads(), 1);
    side_stop(one);
    CHECK_EQ(one->n_fetched, 1);
    CHECK_EQ(one->out, 55);
}

static void a_full_queue_refuses_puts_and_keeps_fetches_waiting(void)
{
    struct caller patient;
    uint64_t out = 77, i;

    db_set_up();
    make_one(CACHE_ASIDE, 4, 0);
    side_start(one);
    side_pause(one);
    for (i = 0; i < 4; i++)
        CHECK_EQ(nums_remote_put(&one->remote, i, 100 + i), 0);
    CHECK_EQ(nums_remote_put(&one->remote, 4, 104), UV_EAGAIN);
    CHECK_EQ(nums_remote_remove(&one->remote, 0), UV_EAGAIN);
    CHECK_EQ(nums_remote_fetch(&one->remote, 0, &out, 5), UV_ETIMEDOUT);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_full, 2);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_timeouts, 1);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_fetches, 0);
    CHECK_EQ(n_pending(one), 4);
    caller_start(&patient, one, 3, CACHE_NEVER);
    await_inside(one, 1);
    side_resume(one);
    CHECK_EQ(caller_join(&patient), CACHE_FOUND);
    CHECK_EQ(patient.out, 103);
    for (i = 0; i < 4; i++) {
        CHECK_EQ(nums_remote_fetch(&one->remote, i, &out, 0), CACHE_FOUND);
        CHECK_EQ(out, 100 + i);
    }
    CHECK_EQ(nums_remote_put(&one->remote, 4, 104), 0);
    side_stop(one);
}

static void a_caller_whose_time_is_over_leaves_the_load_behind(void)
{
    struct caller c;
    uint64_t out = 77;

    db_set_up();
    db_write(6, &(uint64_t) { 66 });
    db_hold(true);
    make_one(CACHE_ASIDE, 2, 20);
    side_start(one);
    caller_start(&c, one, 6, 30);
    CHECK_EQ(caller_join(&c), UV_ETIMEDOUT);
    CHECK(c.took_ms >= 30);
    CHECK_EQ(c.out, 77);
    CHECK_EQ(db_loads(), 1);
    caller_start(&c, one, 6, 0); /* 20 ms, by the config */
    CHECK_EQ(caller_join(&c), UV_ETIMEDOUT);
    CHECK(c.took_ms >= 20);
    while (n_pending(one) > 0) /* the same deadline has passed on the loop */
        uv_sleep(1);
    db_hold(false);
    CHECK_EQ(nums_remote_fetch(&one->remote, 6, &out, CACHE_NEVER),
             CACHE_FOUND);
    CHECK_EQ(out, 66);
    CHECK_EQ(db_loads(), 1);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_timeouts, 2);
    side_stop(one);
}

static void a_caller_that_left_before_the_loop_came_is_forgotten(void)
{
    uint64_t out = 77;
    int i;

    db_set_up();
    make_one(CACHE_ASIDE, 2, 0);
    side_start(one);
    side_pause(one);
    for (i = 0; i < 2; i++)
        CHECK_EQ(nums_remote_fetch(&one->remote, 7, &out, 3), UV_ETIMEDOUT);
    CHECK_EQ(n_pending(one), 2);
    side_resume(one);
    while (n_pending(one) > 0)
        uv_sleep(1);
    CHECK_EQ(db_loads(), 0); /* nobody waits for it */
    CHECK_EQ(nums_remote_fetch(&one->remote, 7, &out, 0), CACHE_EKEY);
    CHECK_EQ(db_loads(), 1);
    side_stop(one);
}

static void side_calls_itself(struct side *s, void *arg)
{
    uint64_t out = 77;

    *(int *)arg = nums_remote_fetch(&s->remote, 8, &out, CACHE_NEVER);
    CHECK_EQ(nums_remote_put(&s->remote, 8, 88), 0);
}

static void the_loop_does_not_wait_for_itself(void)
{
    uint64_t out = 77;
    int rc = 0;

    db_set_up();
    make_one(CACHE_ASIDE, 0, 0);
    side_start(one);
    side_call(one, side_calls_itself, &rc);
    CHECK_EQ(rc, UV_EBUSY);
    CHECK_EQ(nums_remote_fetch(&one->remote, 8, &out, 0), CACHE_FOUND);
    CHECK_EQ(out, 88);
    side_stop(one);
}

static void close_leaves_no_caller_waiting(void)
{
    struct caller callers[6];
    uint64_t out = 77;
    int i;

    db_set_up();
    db_hold(true);
    make_one(CACHE_ASIDE, 2, 0);
    one->destroys = true;
    side_start(one);
    for (i = 0; i < 6; i++) /* two load, four wait for a slot */
        caller_start(&callers[i], one, (uint64_t)i, CACHE_NEVER);
    await_inside(one, 6);
    db_await_holding(1);
    side_pause(one);
    side_begin(one, side_close, NULL);
    uv_sem_post(&one->go);
    for (i = 0; i < 6; i++) {
        CHECK_EQ(caller_join(&callers[i]), UV_ECANCELED);
        CHECK_EQ(callers[i].out, 77);
    }
    CHECK_EQ(nums_remote_put(&one->remote, 1, 1), UV_ECANCELED);
    CHECK_EQ(nums_remote_remove(&one->remote, 1), UV_ECANCELED);
    CHECK_EQ(nums_remote_fetch(&one->remote, 1, &out, CACHE_NEVER),
             UV_ECANCELED);
    CHECK_EQ(one->n_closed, 0); /* the load holds it */
    db_hold(false);
    side_end(one);
}

static void a_remote_outlives_its_loop(void)
{
    uint64_t out = 77;

    db_set_up();
    make_one(CACHE_ASIDE, 0, 0);
    side_start(one);
    side_call(one, side_close, NULL);
    side_join(one);
    CHECK_EQ(one->n_closed, 1);
    CHECK_EQ(uv_loop_close(&one->loop), 0);
    memset(&one->half, 0xa5, sizeof one->half); /* it is gone */
    CHECK_EQ(nums_remote_put(&one->remote, 1, 1), UV_ECANCELED);
    CHECK_EQ(nums_remote_fetch(&one->remote, 1, &out, 0), UV_ECANCELED);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_writes, 0);
    cache_remote_destroy(&one->remote.base);
    uv_sem_destroy(&one->called);
    uv_sem_destroy(&one->paused);
    uv_sem_destroy(&one->go);
    nums_destroy(&one->cache);
}

/* Holds the loop until all is queued; then closes. */
static void side_wait_and_close(struct side *s, void *arg)
{
    side_wait(s, arg);
    side_close(s, arg);
}

static void what_is_queued_before_close_is_carried_out(enum cache_strategy how)
{
    struct caller hit, miss;
    uint64_t i;

    db_set_up();
    make_one(how, 0, 0);
    side_start(one);
    side_begin(one, side_wait_and_close, NULL);
    uv_sem_wait(&one->paused);
    for (i = 0; i < 20; i++)
        CHECK_EQ(nums_remote_put(&one->remote, i, 100 + i), 0);
    CHECK_EQ(nums_remote_remove(&one->remote, 3), 0);
    caller_start(&hit, one, 1, CACHE_NEVER);
    caller_start(&miss, one, 100, CACHE_NEVER);
    await_inside(one, 2);
    uv_sem_post(&one->go);
    CHECK_EQ(caller_join(&miss), UV_ECANCELED);
    (void)caller_join(&hit); /* what goes through may not be there yet */
    if (how == CACHE_WRITE_BEHIND)
        CHECK_EQ(hit.rc, CACHE_FOUND);
    if (hit.rc == CACHE_FOUND)
        CHECK_EQ(hit.out, 101);
    side_end(one);
    CHECK_EQ(one->n_errors, 0);
    CHECK_EQ(one->n_lost, 0);
    for (i = 0; i < 20; i++) {
        CHECK_EQ(db_row(i).present, i != 3);
        CHECK_EQ(db_row(i).value, i == 3 ? 0 : 100 + i);
    }
}

static void what_is_queued_before_close_goes_through(void)
{
    what_is_queued_before_close_is_carried_out(CACHE_WRITE_THROUGH);
}

static void what_is_queued_before_close_goes_behind(void)
{
    what_is_queued_before_close_is_carried_out(CACHE_WRITE_BEHIND);
}

static void writes_that_fail_are_told_and_counted(void)
{
    uint64_t out = 77;

    db_set_up();
    make_one(CACHE_WRITE_THROUGH, 2, 0);
    side_start(one);
    db_fail(CACHE_EIO);
    CHECK_EQ(nums_remote_put(&one->remote, 9, 99), 0);
    while (n_pending(one) > 0)
        uv_sleep(1);
    CHECK_EQ(one->n_errors, 1);
    CHECK_EQ(one->status, CACHE_EIO);
    CHECK_EQ(one->key, 9);
    CHECK_EQ(one->value, 99);
    CHECK(!one->removal);
    CHECK_EQ(nums_remote_remove(&one->remote, 10), 0);
    while (n_pending(one) > 0)
        uv_sleep(1);
    CHECK_EQ(one->n_errors, 2);
    CHECK_EQ(one->key, 10);
    CHECK(one->removal);
    CHECK_EQ(nums_remote_put_ttl(&one->remote, 9, 99, 1), 0); /* below a tick */
    while (n_pending(one) > 0)
        uv_sleep(1);
    CHECK_EQ(one->status, CACHE_ETTL);
    db_fail(0);
    CHECK_EQ(nums_remote_put(&one->remote, 9, 98), 0);
    while (n_pending(one) > 0)
        uv_sleep(1);
    CHECK_EQ(nums_remote_fetch(&one->remote, 9, &out, 0), CACHE_FOUND);
    CHECK_EQ(out, 98);
    CHECK_EQ(db_row(9).value, 98);
    CHECK_EQ(one->n_errors, 3);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_failed, 3);
    CHECK_EQ(cache_remote_get_stats(&one->remote.base).n_writes, 4);
    side_stop(one);
}

static void on_error_may_close(void)
{
    uint64_t i;

    db_set_up();
    make_one(CACHE_WRITE_THROUGH, 0, 0);
    one->closes = true;
    side_start(one);
    side_pause(one);
    CHECK_EQ(nums_remote_put_ttl(&one->remote, 50, 1, 1), 0); /* fails */
    for (i = 0; i < 10; i++)
        CHECK_EQ(nums_remote_put(&one->remote, i, 100 + i), 0);
    side_resume(one);
    side_end(one);
    CHECK_EQ(one->n_errors, 1);
    for (i = 0; i < 10; i++)
        CHECK_EQ(db_row(i).value, 100 + i);
}

static void a_remote_keeps_its_loop_alive(void)
{
    struct cache_loading_config config = side_config(CACHE_ASIDE);

    db_set_up();
    new_one();
    CHECK_EQ(uv_loop_init(&one->loop), 0);
    CHECK_EQ(nums_init(&one->cache, &config), 0);
    CHECK_EQ(nums_async_init(&one->half, &one->loop, &one->cache, NULL, NULL),
             0);
    CHECK_EQ(uv_run(&one->loop, UV_RUN_DEFAULT), 0);
    CHECK(!uv_loop_alive(&one->loop));
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), 0);
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), CACHE_EBUSY);
    CHECK(uv_loop_alive(&one->loop));
    CHECK(uv_run(&one->loop, UV_RUN_NOWAIT) != 0);
    CHECK(uv_run(&one->loop, UV_RUN_NOWAIT) != 0);
    CHECK_EQ(nums_remote_put_ttl(&one->remote, 1, 1, 1), 0); /* nobody hears */
    CHECK(uv_run(&one->loop, UV_RUN_NOWAIT) != 0);
    CHECK_EQ(n_pending(one), 0);
    CHECK_EQ(cache_async_close(&one->half.base, NULL), 0);
    CHECK_EQ(uv_run(&one->loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(uv_loop_close(&one->loop), 0);
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), CACHE_EINVAL);
    cache_remote_destroy(&one->remote.base);
    nums_destroy(&one->cache);
}

/* --- strings, and memory that runs out ----------------------------------- */

static uv_mutex_t strings_lock;
static int n_strings; /* that key_copy made and key_free did not free */
static bool copy_fails;

static int string_copy(const char **key, void *user)
{
    char *copy = copy_fails ? NULL : (char *)malloc(strlen(*key) + 1);

    (void)user;
    if (copy == NULL)
        return CACHE_ENOMEM;
    *key = strcpy(copy, *key);
    uv_mutex_lock(&strings_lock);
    n_strings++;
    uv_mutex_unlock(&strings_lock);
    return 0;
}

static void string_free(const char **key, void *user)
{
    (void)user;
    free((void *)(uintptr_t)*key);
    uv_mutex_lock(&strings_lock);
    n_strings--;
    uv_mutex_unlock(&strings_lock);
}

CACHE_DEFINE_LOADING_WITH(named, const char *, uint64_t, cache_hash_str,
                          cache_equal_str, CACHE_SIEVE, .key_copy = string_copy,
                          .key_free = string_free);
CACHE_ASYNC_DEFINE(named);
CACHE_ASYNC_REMOTE_DEFINE(named);

/* Its length is what a name has. */
static void measure(struct named_async *a, struct named_batch *b, size_t i)
{
    (void)a;
    if (b->keys[i][0] == '-')
        named_load_failed(b, i, CACHE_EKEY);
    else
        named_loaded(b, i, strlen(b->keys[i]));
}

static const struct named_loader measures = { .load_one = measure };

static struct {
    struct named_async half;
    struct named cache;
    struct named_remote remote;
    struct cache_member member;
    uv_loop_t loop;
    uv_thread_t thread;
    uv_sem_t go;
} texts[2];

static void texts_make(int i, size_t capacity)
{
    struct cache_loading_config config;

    memset(&texts[i], 0, sizeof texts[i]);
    memset(&config, 0, sizeof config);
    config.cache.capacity = capacity;
    CHECK_EQ(uv_loop_init(&texts[i].loop), 0);
    CHECK_EQ(named_init(&texts[i].cache, &config), 0);
    CHECK_EQ(named_async_init(&texts[i].half, &texts[i].loop, &texts[i].cache,
                              NULL, &measures),
             0);
}

static void texts_end(int i)
{
    CHECK_EQ(cache_async_close(&texts[i].half.base, NULL), 0);
    CHECK_EQ(uv_run(&texts[i].loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(uv_loop_close(&texts[i].loop), 0);
    cache_remote_destroy(&texts[i].remote.base);
    CHECK_SOUND(named_check(&texts[i].cache));
    named_destroy(&texts[i].cache);
}

static void ask_for_texts(void *arg)
{
    char name[16] = "four";
    uint64_t out = 77;
    int *rc = (int *)arg;

    rc[0] = named_remote_fetch(&texts[0].remote, name, &out, CACHE_NEVER) !=
                CACHE_FOUND ||
            out != 4;
    rc[1] = named_remote_put(&texts[0].remote, name, 44);
    strcpy(name, "-");
    rc[2] = named_remote_fetch(&texts[0].remote, name, &out, CACHE_NEVER);
    strcpy(name, "four");
    rc[3] =
        named_remote_fetch(&texts[0].remote, name, &out, 1000) != CACHE_FOUND ||
        out != 44;
    rc[4] = named_remote_remove(&texts[0].remote, name);
    strcpy(name, "xxxx");
    uv_sem_wait(&texts[0].go); /* the loop stands: see what is pending */
    rc[5] = named_remote_fetch(&texts[0].remote, "gone", &out, 2);
    rc[6] = named_remote_put(&texts[0].remote, "a", 1);
    rc[7] = named_remote_put(&texts[0].remote, "b", 1);
    rc[8] = named_remote_put(&texts[0].remote, "c", 1);
    rc[9] = named_remote_fetch(&texts[0].remote, "d", &out, 2);
    copy_fails = true;
    rc[10] = named_remote_fetch(&texts[0].remote, "four", &out, 0);
    rc[11] = named_remote_put(&texts[0].remote, "four", 1);
    copy_fails = false;
    uv_sem_post(&texts[0].go);
}

static void keys_that_are_pointers_are_copied(void)
{
    int rc[12], i;

    n_strings = 0;
    texts_make(0, 100);
    CHECK_EQ(named_remote_init(&texts[0].remote, &texts[0].half, 3, NULL), 0);
    CHECK_EQ(uv_sem_init(&texts[0].go, 0), 0);
    for (i = 0; i < 12; i++)
        rc[i] = 77;
    CHECK_EQ(uv_thread_create(&texts[0].thread, ask_for_texts, rc), 0);
    while (cache_remote_get_stats(&texts[0].remote.base).n_writes < 2)
        (void)uv_run(&texts[0].loop, UV_RUN_NOWAIT);
    while (n_strings > 0 || named_len(&texts[0].cache) > 0 ||
           cache_remote_get_stats(&texts[0].remote.base).n_pending > 0)
        (void)uv_run(&texts[0].loop, UV_RUN_NOWAIT);
    uv_sem_post(&texts[0].go);
    uv_sleep(2);
    uv_sem_wait(&texts[0].go);
    CHECK_EQ(uv_thread_join(&texts[0].thread), 0);
    uv_sem_destroy(&texts[0].go);
    CHECK_EQ(rc[0], 0);
    CHECK_EQ(rc[1], 0);
    CHECK_EQ(rc[2], CACHE_EKEY);
    CHECK_EQ(rc[3], 0);
    CHECK_EQ(rc[4], 0);
    CHECK_EQ(rc[5], UV_ETIMEDOUT);
    CHECK_EQ(rc[6], 0);
    CHECK_EQ(rc[7], 0);
    CHECK_EQ(rc[8], UV_EAGAIN);
    CHECK_EQ(rc[9], UV_ETIMEDOUT);
    CHECK_EQ(rc[10], CACHE_ENOMEM);
    CHECK_EQ(rc[11], CACHE_ENOMEM);
    CHECK_EQ(n_strings, 3); /* what is queued */
    texts_end(0);           /* .. and executed by close */
    CHECK_EQ(n_strings, 0);
}

static int n_allocations, failing_allocation;

static void *failing_alloc(size_t bytes, void *user)
{
    (void)user;
    return ++n_allocations == failing_allocation ? NULL : malloc(bytes);
}

static void failing_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

static void without_memory_nothing_is_open(void)
{
    struct cache_loading_config config = side_config(CACHE_ASIDE);
    struct cache_group group;

    db_set_up();
    new_one();
    config.cache.alloc = failing_alloc;
    config.cache.free = failing_free;
    failing_allocation = 0;
    CHECK_EQ(uv_loop_init(&one->loop), 0);
    CHECK_EQ(cache_group_init(&group), 0);
    CHECK_EQ(nums_init(&one->cache, &config), 0);
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_group_join(&group, &one->member, &one->half.base, 0),
             CACHE_EINVAL);
    CHECK_EQ(nums_async_init(&one->half, &one->loop, &one->cache, NULL, NULL),
             0);
    failing_allocation = n_allocations + 1;
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), CACHE_ENOMEM);
    cache_remote_destroy(&one->remote.base); /* harmless */
    failing_allocation = n_allocations + 1;
    CHECK_EQ(cache_group_join(&group, &one->member, &one->half.base, 0),
             CACHE_ENOMEM);
    cache_group_leave(&one->member); /* harmless */
    CHECK_EQ(nums_remote_init(NULL, &one->half, 0, NULL), CACHE_EINVAL);
    CHECK_EQ(nums_remote_init(&one->remote, NULL, 0, NULL), CACHE_EINVAL);
    CHECK_EQ(nums_remote_init(&one->remote, &one->half, 0, NULL), 0);
    CHECK_EQ(cache_group_join(&group, &one->member, &one->half.base, 0), 0);
    CHECK_EQ(cache_group_join(&group, &one->member, &one->half.base, 0),
             CACHE_EBUSY);
    CHECK_EQ(cache_async_close(&one->half.base, NULL), 0);
    CHECK_EQ(uv_run(&one->loop, UV_RUN_DEFAULT), 0);
    cache_group_destroy(&group); /* close has left it */
    CHECK_EQ(uv_loop_close(&one->loop), 0);
    cache_remote_destroy(&one->remote.base);
    nums_destroy(&one->cache);
}

/* --- groups: several loops on one thread, and a store that waits --------- */

CACHE_DEFINE_LOADING(plain, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                     CACHE_LRU);
CACHE_ASYNC_DEFINE(plain);

#define SIM_SIDES 4
#define SIM_KEYS 6
#define SIM_BATCHES 128
#define SIM_WRITES 4096
#define SIM_READS 32 /* at once, of each side */

/* A loop, its cache, and its way to the store. */
struct sim_side {
    struct plain_async half; /* first */
    struct cache_store store;
    struct plain cache;
    struct cache_member member;
    uv_loop_t loop;
    uv_async_t awake; /* a loop that has nothing to do has no turns */
    int place;

    uint64_t id_of[SIM_WRITES];    /* of write-behind: by version */
    uint64_t version_of[SIM_KEYS]; /* of the newest own write of a key */
    uint64_t newest[SIM_KEYS];     /* its id; 0 = none */
    bool landed[SIM_KEYS];         /* and it is known to be at the store */
    uint64_t removal[SIM_KEYS];    /* the newest own removal */
    uint64_t floor[SIM_KEYS];      /* no read that begins now may get what
                                        was at the store before this commit */
    uint64_t told[SIM_KEYS];       /* .. once this loop has had its turn */
};

/* A read, and what was so when it began. */
struct sim_read {
    struct plain_request req; /* first */
    struct sim_side *s;
    uint64_t key, out, floor, newest;
    bool busy, landed;
};

struct sim_write {
    struct plain_write_request req; /* first */
    struct sim_side *s;
    uint64_t id;
    bool busy;
};

static struct {
    struct sim_side sides[SIM_SIDES];
    int n_sides;
    struct cache_group group;
    bool behind;
    uint64_t seed, random;

    struct row rows[SIM_KEYS];
    uint64_t commits;           /* so far */
    uint64_t removed[SIM_KEYS]; /* the last commit that removed it */
    struct {
        struct cache_store_batch *batch;
        struct sim_side *s;
        bool executed;
    } batches[SIM_BATCHES];
    int n_batches;

    uint64_t n_ids; /* a value is the id of its write */
    uint64_t commit[SIM_WRITES], key_of[SIM_WRITES];
    int writer[SIM_WRITES];
    struct sim_read reads[SIM_SIDES][SIM_READS];
    struct sim_write writes[SIM_SIDES][SIM_READS];
    uint64_t n_reads, n_hits;
    const char *broken;
} sim;

static struct cache_codec sim_codec;

static uint64_t sim_random(uint64_t n)
{
    return test_random(&sim.random) % n;
}

static void sim_break(const char *what, const struct sim_read *r)
{
    if (sim.broken == NULL)
        printf("side %d, key %d, read %d (commit %d), floor %d, newest %d\n",
               r->s->place, (int)r->key, (int)r->out,
               (int)(r->out < SIM_WRITES ? sim.commit[r->out] : 0),
               (int)r->floor, (int)r->newest);
    sim.broken = what;
}

/* --- the store */

static int sim_submit(struct cache_store *store,
                      struct cache_store_batch *batch)
{
    int i;

    for (i = 0; i < sim.n_sides; i++)
        if (store == &sim.sides[i].store)
            sim.batches[sim.n_batches].s = &sim.sides[i];
    CHECK(sim.n_batches < SIM_BATCHES);
    sim.batches[sim.n_batches].batch = batch;
    sim.batches[sim.n_batches++].executed = false;
    return 0;
}

static void sim_commit(uint64_t key, uint64_t id, bool present)
{
    sim.commits++;
    sim.rows[key].present = present;
    sim.rows[key].value = id;
    sim.commit[id] = sim.commits;
    if (!present)
        sim.removed[key] = sim.commits;
}

static void sim_execute(int place)
{
    struct cache_store_batch *batch = sim.batches[place].batch;
    /* Of what failed it is not known whether it is there. */
    bool fails = sim.behind && sim_random(40) == 0;
    bool works = !fails || sim_random(2) == 0;
    size_t i;

    sim.batches[place].executed = true;
    for (i = 0; i < batch->n_items; i++) {
        struct cache_store_item *item = &batch->items[i];
        uint64_t key, id;

        memcpy(&key, item->key.data, sizeof key);
        item->status = fails ? CACHE_EIO : 0;
        if (item->op == CACHE_STORE_GET) {
            if (!fails && !sim.rows[key].present)
                item->status = CACHE_EKEY;
            memcpy(item->buffer, &sim.rows[key].value, sizeof(uint64_t));
            item->value.data = item->buffer;
            item->value.len = sizeof(uint64_t);
        } else if (works) {
            if (item->op == CACHE_STORE_PUT)
                memcpy(&id, item->value.data, sizeof id);
            else
                id = sim.batches[place].s->id_of[item->version];
            sim_commit(key, id, item->op == CACHE_STORE_PUT);
        }
    }
}

static void sim_done(int place)
{
    struct cache_store_batch *batch = sim.batches[place].batch;

    sim.batches[place] = sim.batches[--sim.n_batches];
    batch->done(batch);
}

/* --- what a read may get */

static bool sim_allows(const struct sim_read *r, bool present)
{
    const struct sim_side *s = r->s;
    const uint64_t id = r->out;
    const bool dirty = r->newest != 0 && !r->landed;
    const uint64_t from = dirty ? r->newest : r->newest + 1;
    uint64_t floor = r->floor;

    if (present && (id >= SIM_WRITES || sim.key_of[id] != r->key))
        return false;
    if (present ? sim.writer[id] == s->place && id >= from
                : s->removal[r->key] >= from)
        return true; /* an own write: until it is stored it is served .. */
    if (dirty && sim.commit[r->newest] == 0)
        return false; /* .. and nothing else */
    if (dirty)
        floor = sim.commit[r->newest];
    if (!present)
        return floor == 0 || sim.removed[r->key] >= floor;
    return sim.commit[id] != 0 && sim.commit[id] >= floor;
}

static void sim_check_read(struct sim_read *r, int status)
{
    r->busy = false;
    sim.n_reads++;
    if (status == CACHE_EIO || status == UV_ECANCELED)
        return;
    if (status < 0 && status != CACHE_EKEY)
        sim_break("a read has failed", r);
    else if (!sim_allows(r, status >= 0))
        sim_break("a read got what is too old", r);
}

static void sim_on_read(struct plain_request *req, int status)
{
    sim_check_read((struct sim_read *)(void *)req, status);
}

static void sim_fetch(struct sim_side *s, uint64_t key)
{
    struct sim_read *r = sim.reads[s->place];
    int i, rc;

    for (i = 0; i < SIM_READS && r->busy; i++)
        r++;
    if (i == SIM_READS)
        return;
    memset(r, 0, sizeof *r);
    r->s = s;
    r->key = key;
    r->busy = true;
    r->floor = s->floor[key];
    r->newest = s->newest[key];
    r->landed = s->landed[key];
    rc = plain_fetch(&s->half, &r->req, key, &r->out, sim_on_read);
    sim.n_hits += rc == 1;
    if (rc != 0)
        sim_check_read(r, rc == 1 ? 0 : rc);
}

/* --- writes */

static uint64_t sim_new_id(struct sim_side *s, uint64_t key)
{
    uint64_t id = ++sim.n_ids;

    sim.key_of[id] = key;
    sim.writer[id] = s->place;
    sim.commit[id] = 0;
    return id;
}

/* An own write is at the store, and the others have been told. */
static void sim_land(struct sim_side *s, uint64_t key, uint64_t id)
{
    int i;

    if (sim.commit[id] > s->floor[key])
        s->floor[key] = sim.commit[id];
    for (i = 0; i < sim.n_sides; i++)
        if (sim.commit[id] > sim.sides[i].told[key])
            sim.sides[i].told[key] = sim.commit[id];
}

static void sim_on_written(struct plain_write_request *req, int status)
{
    struct sim_write *w = (struct sim_write *)(void *)req;

    w->busy = false;
    if (status == 0)
        sim_land(w->s, sim.key_of[w->id], w->id);
    else
        sim.broken = "a write through has failed";
}

static void sim_put_through(struct sim_side *s, uint64_t key)
{
    struct sim_write *w = sim.writes[s->place];
    int i;

    for (i = 0; i < SIM_READS && w->busy; i++)
        w++;
    if (i == SIM_READS)
        return;
    w->s = s;
    w->id = sim_new_id(s, key);
    w->busy = true;
    CHECK_EQ(plain_async_put_ack(&s->half, &w->req, key, w->id, NULL,
                                 sim_on_written),
             0);
}

static void sim_put_behind(struct sim_side *s, uint64_t key, bool removes)
{
    uint64_t id = sim_new_id(s, key), version;
    int rc = removes ? plain_async_remove(&s->half, key)
                     : plain_async_put(&s->half, key, id);

    CHECK_EQ(rc, 0);
    version = s->cache.front.writes.version;
    s->id_of[version] = id;
    s->version_of[key] = version;
    s->newest[key] = id;
    s->landed[key] = false;
    if (removes)
        s->removal[key] = id;
}

/* --- turns */

static void sim_turn(struct sim_side *s)
{
    uint64_t told[SIM_KEYS], key;

    memcpy(told, s->told, sizeof told);
    (void)uv_run(&s->loop, UV_RUN_NOWAIT);
    for (key = 0; key < SIM_KEYS; key++) {
        if (told[key] > s->floor[key])
            s->floor[key] = told[key];
        if (s->newest[key] != 0 && !s->landed[key] &&
            cache_wb_is_stored(&s->cache.front.writes, s->version_of[key])) {
            s->landed[key] = true;
            sim_land(s, key, s->newest[key]);
        }
    }
}

static void sim_rejoin(struct sim_side *s)
{
    cache_group_leave(&s->member);
    CHECK_EQ(cache_group_join(&sim.group, &s->member, &s->half.base, 3), 0);
}

static void sim_step(void)
{
    struct sim_side *s = &sim.sides[sim_random((uint64_t)sim.n_sides)];
    uint64_t what = sim_random(100), key = sim_random(SIM_KEYS);
    int place = sim.n_batches ? (int)sim_random((uint64_t)sim.n_batches) : -1;
    enum cache_invalidation how =
        sim_random(2) ? CACHE_INVALIDATE_SOFT : CACHE_INVALIDATE_HARD;

    if (what < 25)
        sim_fetch(s, key);
    else if (what < 40 && sim.behind)
        sim_put_behind(s, key, sim_random(6) == 0);
    else if (what < 40)
        sim_put_through(s, key);
    else if (what < 65)
        sim_turn(s);
    else if (what < 92 && place >= 0 && sim.batches[place].executed)
        sim_done(place);
    else if (what < 92 && place >= 0)
        sim_execute(place);
    else if (what < 95)
        (void)cache_wb_flush(&s->cache.front.writes);
    else if (what == 95)
        plain_async_invalidate(&s->half, how);
    else if (what == 96)
        plain_async_invalidate_key(&s->half, key, how);
    else if (what == 97)
        sim_rejoin(s);
}

/* --- a run */

static void sim_make_side(int place)
{
    struct sim_side *s = &sim.sides[place];
    struct cache_loading_config config;

    sim_codec = cache_raw_object(sizeof(uint64_t));
    s->place = place;
    s->store.name = "sim";
    s->store.submit = sim_submit;
    memset(&config, 0, sizeof config);
    config.cache.capacity = SIM_KEYS - 2;
    config.reads = CACHE_READ_THROUGH;
    config.writes = sim.behind ? CACHE_WRITE_BEHIND : CACHE_WRITE_THROUGH;
    config.store = &s->store;
    config.key_codec = config.value_codec = &sim_codec;
    if (sim.behind) {
        config.write_behind.interval_ms = 1;
        config.write_behind.retry_base_ms = 1;
        config.write_behind.retry_cap_ms = 1;
        config.write_behind.max_in_flight = 2;
        config.write_behind.max_batch = 2;
        config.write_behind.seed = sim.seed;
    }
    CHECK_EQ(uv_loop_init(&s->loop), 0);
    CHECK_EQ(uv_async_init(&s->loop, &s->awake, NULL), 0);
    CHECK_EQ(plain_init(&s->cache, &config), 0);
    CHECK_EQ(plain_async_init(&s->half, &s->loop, &s->cache, NULL, NULL), 0);
    CHECK_EQ(cache_group_join(&sim.group, &s->member, &s->half.base, 3), 0);
}

/* Until nothing is under way any more. */
static void sim_settle(void)
{
    int quiet = 0, rounds = 0, i, j;

    while (quiet < 3) {
        bool busy = sim.n_batches > 0;

        while (sim.n_batches > 0) {
            if (!sim.batches[0].executed)
                sim_execute(0);
            sim_done(0);
        }
        for (i = 0; i < sim.n_sides; i++) {
            struct sim_side *s = &sim.sides[i];

            if (sim.behind) {
                (void)cache_wb_flush(&s->cache.front.writes);
                busy |= cache_wb_n_dirty(&s->cache.front.writes) > 0;
            }
            sim_turn(s);
            for (j = 0; j < SIM_READS; j++)
                busy |= sim.reads[i][j].busy || sim.writes[i][j].busy;
        }
        quiet = busy ? 0 : quiet + 1;
        if (busy && ++rounds % 8 == 0)
            uv_sleep(1); /* a timer */
        CHECK(rounds < 4000);
    }
}

static void sim_check_end(void)
{
    uint64_t key, out;
    int i;

    for (i = 0; i < sim.n_sides; i++)
        for (key = 0; key < SIM_KEYS; key++) {
            if (!plain_peek(&sim.sides[i].cache, key, &out))
                continue;
            if (!sim.rows[key].present || out != sim.rows[key].value)
                printf("seed %llu: side %d, key %d: %d, the store has %d\n",
                       (unsigned long long)sim.seed, i, (int)key, (int)out,
                       sim.rows[key].present ? (int)sim.rows[key].value : -1);
            CHECK(sim.rows[key].present);
            CHECK_EQ(out, sim.rows[key].value);
        }
}

static void sim_end(void)
{
    int i;

    for (i = 0; i < sim.n_sides; i++) {
        CHECK_EQ(cache_async_close(&sim.sides[i].half.base, NULL), 0);
        uv_close((uv_handle_t *)&sim.sides[i].awake, NULL);
    }
    for (i = 0; i < sim.n_sides; i++)
        CHECK_EQ(uv_run(&sim.sides[i].loop, UV_RUN_DEFAULT), 0);
    for (i = 0; i < sim.n_sides; i++) {
        CHECK_EQ(uv_loop_close(&sim.sides[i].loop), 0);
        CHECK_SOUND(plain_check(&sim.sides[i].cache));
        plain_destroy(&sim.sides[i].cache);
    }
    cache_group_destroy(&sim.group);
}

static void sim_make(int n_sides, bool behind)
{
    int i;

    sim.n_sides = n_sides;
    sim.behind = behind;
    CHECK_EQ(cache_group_init(&sim.group), 0);
    for (i = 0; i < n_sides; i++)
        sim_make_side(i);
}

static void sim_run(uint64_t seed)
{
    int steps;

    memset(&sim, 0, sizeof sim);
    sim.seed = sim.random = seed;
    sim_make(2 + (int)(seed % 3), seed / 3 % 2 == 0);
    for (steps = 0; steps < 400 && sim.broken == NULL; steps++)
        sim_step();
    if (sim.broken == NULL)
        sim_settle();
    if (sim.broken != NULL)
        printf("seed %llu: %s\n", (unsigned long long)seed, sim.broken);
    CHECK(sim.broken == NULL);
    sim_check_end();
    sim_end();
}

static void any_order_of_turns_and_answers(void)
{
    const char *only = getenv("SIM_SEED"); /* of one run that has failed */
    long n = 60 * test_scale() * test_scale(), i;

#ifdef __SANITIZE_THREAD__
    n /= test_scale(); /* there is one */
#endif
    for (i = 0; i < n && only == NULL; i++)
        sim_run(cache__mix(test_seed + (uint64_t)i, 1) | 1);
    if (only != NULL)
        sim_run(strtoull(only, NULL, 0));
}

/* --- groups: one after the other ----------------------------------------- */

/* What the cells of a side have; 0 = nothing. */
static uint64_t sim_seen(int place, uint64_t key)
{
    uint64_t out = 0;

    return plain_peek(&sim.sides[place].cache, key, &out) ? out : 0;
}

static void sim_answer_all(void)
{
    while (sim.n_batches > 0) {
        if (!sim.batches[0].executed)
            sim_execute(0);
        sim_done(0);
    }
}

/* Loads a key, of which nobody else is to hear. */
static void sim_load(int place, uint64_t key)
{
    sim_fetch(&sim.sides[place], key);
    sim_turn(&sim.sides[place]);
    sim_answer_all();
    sim_turn(&sim.sides[place]);
    CHECK_EQ(sim_seen(place, key), sim.rows[key].value);
}

/* Two sides, that have both loaded key 1: value 1. */
static void sim_begin(bool behind)
{
    memset(&sim, 0, sizeof sim);
    sim.seed = sim.random = 1;
    sim_make(2, behind);
    sim_commit(1, sim_new_id(&sim.sides[0], 1), true);
    sim_load(0, 1);
    sim_load(1, 1);
}

static void sim_finish(void)
{
    sim_settle();
    CHECK(sim.broken == NULL);
    sim_check_end();
    sim_end();
}

static void a_write_through_is_heard_of_when_it_is_stored(void)
{
    sim_begin(false);
    sim_put_through(&sim.sides[0], 1);
    sim_turn(&sim.sides[0]);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 1); /* the store has nothing else yet */
    sim_answer_all();
    sim_turn(&sim.sides[0]);
    CHECK_EQ(sim_seen(0, 1), 2);
    CHECK_EQ(sim_seen(1, 1), 1); /* until its turn */
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 0);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 2);
    CHECK_EQ(cache_member_get_stats(&sim.sides[1].member).n_forgotten, 1);
    CHECK_EQ(cache_member_get_stats(&sim.sides[0].member).n_forgotten, 0);
    sim_put_through(&sim.sides[0], 1);
    sim_turn(&sim.sides[0]);
    sim.batches[0].batch->items[0].status = CACHE_EIO;
    sim_done(0);
    sim_turn(&sim.sides[0]);
    CHECK(sim.broken != NULL); /* the write has failed */
    sim.broken = NULL;
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(0, 1), 2);
    CHECK_EQ(sim_seen(1, 1), 2); /* .. and nobody hears of it */
    sim_finish();
}

static void a_write_behind_is_heard_of_twice(void)
{
    sim_begin(true);
    sim_put_behind(&sim.sides[0], 1, false);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 0);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 1); /* the store's old value */
    (void)cache_wb_flush(&sim.sides[0].cache.front.writes);
    sim_turn(&sim.sides[0]);
    sim_answer_all();
    sim_turn(&sim.sides[0]);
    CHECK_EQ(sim_seen(0, 1), 2);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 0);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 2);
    sim_put_behind(&sim.sides[1], 1, true); /* a removal, the other way */
    sim_turn(&sim.sides[0]);
    CHECK_EQ(sim_seen(0, 1), 0);
    sim_finish();
}

static void a_loop_that_closes_tells_what_it_still_stores(void)
{
    int i;

    sim_begin(true);
    sim_put_behind(&sim.sides[0], 1, false);
    sim_turn(&sim.sides[1]);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 1);
    CHECK_EQ(cache_async_close(&sim.sides[0].half.base, NULL), 0);
    for (i = 0; i < 4; i++) {
        sim_turn(&sim.sides[0]);
        sim_answer_all();
    }
    CHECK(sim.sides[0].half.base.state == CACHE_ASYNC_CLOSED);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 0);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 2);
    CHECK_EQ(cache_async_close(&sim.sides[1].half.base, NULL), 0);
    for (i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&sim.sides[i].awake, NULL);
        CHECK_EQ(uv_run(&sim.sides[i].loop, UV_RUN_DEFAULT), 0);
        CHECK_EQ(uv_loop_close(&sim.sides[i].loop), 0);
        plain_destroy(&sim.sides[i].cache);
    }
    cache_group_destroy(&sim.group);
}

static void an_invalidation_goes_to_all_as_what_it_is(void)
{
    struct cache_loading_entry entry;
    struct sim_side *a, *b;

    sim_begin(false);
    a = &sim.sides[0];
    b = &sim.sides[1];
    sim_commit(2, sim_new_id(a, 2), true);
    sim_load(1, 2);
    plain_async_invalidate_key(&a->half, 1, CACHE_INVALIDATE_SOFT);
    sim_turn(b);
    CHECK_EQ(plain_entry(&b->cache, 1, &entry), 0);
    CHECK(entry.verdict != CACHE_VERDICT_FRESH);
    CHECK_EQ(sim_seen(1, 2), 2);
    sim_load(1, 1);
    plain_async_invalidate_key(&a->half, 1, CACHE_INVALIDATE_HARD);
    sim_turn(b);
    CHECK_EQ(sim_seen(1, 1), 0);
    CHECK_EQ(sim_seen(1, 2), 2);
    sim_load(1, 1);
    CHECK_EQ(cache_member_get_stats(&b->member).n_all, 0);
    plain_async_invalidate(&a->half, CACHE_INVALIDATE_SOFT);
    sim_turn(b);
    CHECK_EQ(cache_member_get_stats(&b->member).n_all, 1);
    CHECK_EQ(b->cache.front.soft, b->cache.front.epoch);
    CHECK(b->cache.front.hard < b->cache.front.epoch);
    sim_load(1, 1);
    plain_async_invalidate(&a->half, CACHE_INVALIDATE_HARD);
    plain_async_invalidate(&a->half, CACHE_INVALIDATE_SOFT);
    sim_turn(b);
    CHECK_EQ(b->cache.front.hard, b->cache.front.epoch);
    CHECK_EQ(sim_seen(1, 1), 0);
    CHECK_EQ(cache_member_get_stats(&b->member).n_overflows, 0);
    sim_finish();
}

static void who_is_told_too_much_forgets_everything(void)
{
    uint64_t key;
    int i;

    sim_begin(true);
    for (key = 0; key < 4; key++) {
        if (key != 1)
            sim_commit(key, sim_new_id(&sim.sides[0], key), true);
        sim_load(1, key);
    }
    for (i = 0; i < 3; i++)
        sim_put_behind(&sim.sides[0], 5, false);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(cache_member_get_stats(&sim.sides[1].member).n_forgotten, 3);
    for (key = 0; key < 4; key++)
        CHECK(sim_seen(1, key) != 0);
    for (i = 0; i < 6; i++)
        sim_put_behind(&sim.sides[0], 5, false);
    CHECK_EQ(cache_member_get_stats(&sim.sides[1].member).n_overflows, 1);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(cache_member_get_stats(&sim.sides[1].member).n_all, 1);
    for (key = 0; key < 4; key++)
        CHECK_EQ(sim_seen(1, key), 0);
    sim_load(1, 1); /* and goes on */
    sim_put_behind(&sim.sides[0], 1, false);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 0);
    CHECK_EQ(cache_member_get_stats(&sim.sides[1].member).n_overflows, 1);
    sim_finish();
}

static void a_load_under_way_is_overtaken(void)
{
    struct sim_read *r = &sim.reads[1][0];

    sim_begin(false);
    plain_invalidate(&sim.sides[1].cache, CACHE_INVALIDATE_HARD);
    sim_fetch(&sim.sides[1], 1);
    sim_turn(&sim.sides[1]);
    sim_execute(0); /* it has the old value .. */
    sim_put_through(&sim.sides[0], 1);
    sim_turn(&sim.sides[0]);
    sim_execute(1);
    sim_done(1);
    sim_turn(&sim.sides[0]);
    sim_turn(&sim.sides[1]); /* .. when this one hears of the new one */
    sim_done(0);
    sim_turn(&sim.sides[1]);
    CHECK(!r->busy);
    CHECK_EQ(r->out, 1); /* delivered */
    CHECK_EQ(sim_seen(1, 1), 0);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 2);
    sim_finish();
}

/* The store has b's write, then a's; a's is heard of before b knows that its
 * own is stored. */
static void a_dirty_value_that_was_forgotten_does_not_come_back(void)
{
    struct sim_side *a, *b;

    sim_begin(true);
    a = &sim.sides[0];
    b = &sim.sides[1];
    sim_put_behind(b, 1, false);
    (void)cache_wb_flush(&b->cache.front.writes);
    sim_turn(b);
    sim_execute(0);
    sim_put_behind(a, 1, false);
    (void)cache_wb_flush(&a->cache.front.writes);
    sim_turn(a);
    sim_execute(1);
    sim_done(1);
    sim_turn(a);
    sim_turn(b);
    sim_fetch(b, 1);
    CHECK_EQ(sim.reads[1][0].out, 2); /* what it has written, it reads */
    CHECK_EQ(sim_seen(1, 1), 0);      /* and does not keep */
    sim_done(0);
    sim_turn(b);
    sim_load(1, 1);
    CHECK_EQ(sim_seen(1, 1), 3);
    sim_finish();
}

static void who_leaves_hears_no_more(void)
{
    sim_begin(false);
    sim_put_through(&sim.sides[0], 1);
    sim_turn(&sim.sides[0]);
    sim_answer_all();
    sim_turn(&sim.sides[0]);
    CHECK_EQ(sim_seen(1, 1), 1);
    cache_group_leave(&sim.sides[1].member); /* has heard it until now */
    CHECK_EQ(sim_seen(1, 1), 0);
    cache_group_leave(&sim.sides[1].member); /* harmless */
    sim_load(1, 1);
    sim_put_through(&sim.sides[0], 1);
    sim_turn(&sim.sides[0]);
    sim_answer_all();
    sim_turn(&sim.sides[0]);
    sim_turn(&sim.sides[1]);
    CHECK_EQ(sim_seen(1, 1), 2);
    CHECK_EQ(cache_group_join(&sim.group, &sim.sides[1].member,
                              &sim.sides[1].half.base, 3),
             0);
    CHECK_EQ(sim_seen(1, 1), 0); /* it has missed something */
    sim_finish();
}

static void only_what_fits_is_in_a_group(void)
{
    struct cache_member member;

    sim_begin(false);
    cache_group_leave(&sim.sides[1].member);
    sim.sides[1].cache.front.config.store = &sim.sides[0].store;
    CHECK_EQ(cache_group_join(&sim.group, &member, &sim.sides[1].half.base, 0),
             0);
    cache_group_leave(&member);
    sim.sides[0].store.capabilities = CACHE_STORE_VERSIONS;
    CHECK_EQ(cache_group_join(&sim.group, &member, &sim.sides[1].half.base, 0),
             CACHE_ESTRATEGY);
    sim.sides[0].store.capabilities = 0;
    sim.sides[1].cache.front.config.store = &sim.sides[1].store;
    CHECK_EQ(cache_group_join(&sim.group, &sim.sides[1].member,
                              &sim.sides[1].half.base, 3),
             0);
    texts_make(0, 10);
    CHECK_EQ(cache_group_join(&sim.group, &member, &texts[0].half.base, 0),
             CACHE_EINVAL);
    CHECK_EQ(cache_group_join(NULL, &member, &texts[0].half.base, 0),
             CACHE_EINVAL);
    texts_end(0);
    sim_finish();
}

static void keys_that_are_pointers_go_round_a_group(void)
{
    struct cache_group group;
    char name[8];
    uint64_t out;
    int i, n;

    n_strings = 0;
    CHECK_EQ(cache_group_init(&group), 0);
    for (i = 0; i < 2; i++) {
        texts_make(i, 100);
        CHECK_EQ(
            cache_group_join(&group, &texts[i].member, &texts[i].half.base, 4),
            0);
    }
    CHECK_EQ(named_async_put(&texts[1].half, "a", 1), 0);
    CHECK_EQ(named_async_put(&texts[1].half, "b", 1), 0);
    strcpy(name, "a");
    CHECK_EQ(named_async_put(&texts[0].half, name, 2), 0);
    strcpy(name, "x");
    CHECK_EQ(named_remote_init(&texts[1].remote, &texts[1].half, 1, NULL), 0);
    (void)uv_run(&texts[1].loop, UV_RUN_NOWAIT);
    CHECK(!named_peek(&texts[1].cache, "a", &out));
    CHECK(named_peek(&texts[1].cache, "b", &out));
    CHECK_EQ(n_strings,
             2 + 2); /* two cells; for the other two, not looked at */
    for (i = 0; i < 6; i++)
        CHECK_EQ(named_async_put(&texts[0].half, "c", 2), 0);
    CHECK_EQ(n_strings, 3 + 2 + 4); /* four are remembered, and the rest */
    cache_group_leave(&texts[1].member);
    CHECK_EQ(cache_group_join(&group, &texts[1].member, &texts[1].half.base, 4),
             0);
    CHECK_EQ(named_async_put(&texts[1].half, "b", 1), 0);
    n = n_strings;
    CHECK_EQ(named_async_put(&texts[0].half, "c", 2), 0);
    CHECK_EQ(n_strings, n + 1);
    copy_fails = true; /* it replaces a value, but cannot be remembered */
    CHECK_EQ(named_async_put(&texts[0].half, "c", 3), 0);
    copy_fails = false;
    CHECK_EQ(n_strings, n + 1);
    texts_end(1);
    CHECK_EQ(named_len(&texts[0].cache), 2);
    texts_end(0);
    CHECK_EQ(n_strings, 0);
    cache_group_destroy(&group);
}

/* --- many threads -------------------------------------------------------- */

#define N_HAMMERS 4
#define HAMMER_KEYS 8 /* each thread's own */

struct hammer {
    uv_thread_t thread;
    struct side *s;
    uint64_t random;
    int place, n;                 /* operations; 0 = until it is closed */
    struct row rows[HAMMER_KEYS]; /* what its keys must have */
    const char *broken;
    int n_full, n_timeouts, n_read;
};

/* A fetch gets what this thread has put. */
static int hammer_fetch(struct hammer *h, uint64_t i)
{
    uint64_t out = 0, timeout_ms = test_random(&h->random) % 8 == 0 ? 1 : 0;
    int rc = nums_remote_fetch(
        &h->s->remote, (uint64_t)h->place * HAMMER_KEYS + i, &out, timeout_ms);

    if (rc == UV_ETIMEDOUT && timeout_ms != 0) {
        h->n_timeouts++;
        return 0;
    }
    h->n_read++;
    if (rc != UV_ECANCELED &&
        (h->rows[i].present ? rc != CACHE_FOUND || out != h->rows[i].value
                            : rc != CACHE_EKEY))
        h->broken = "a fetch has not got what its thread has put";
    return rc;
}

static int hammer_write(struct hammer *h, uint64_t i, uint64_t value)
{
    const uint64_t key = (uint64_t)h->place * HAMMER_KEYS + i;
    int rc = value ? nums_remote_put(&h->s->remote, key, value)
                   : nums_remote_remove(&h->s->remote, key);

    if (rc == 0) {
        h->rows[i].present = value != 0;
        h->rows[i].value = value;
    } else if (rc == UV_EAGAIN) {
        h->n_full++;
        uv_sleep(0);
    } else if (rc != UV_ECANCELED) {
        h->broken = "a write has failed";
    }
    return rc;
}

static void hammer_run(void *arg)
{
    struct hammer *h = (struct hammer *)arg;
    int i, rc = 0;

    for (i = 0;
         (h->n == 0 || i < h->n) && h->broken == NULL && rc != UV_ECANCELED;
         i++) {
        const uint64_t what = test_random(&h->random) % 10;
        const uint64_t key = test_random(&h->random) % HAMMER_KEYS;

        rc = what < 2 ? hammer_fetch(h, key)
                      : hammer_write(h, key, what == 2 ? 0 : (uint64_t)i + 1);
    }
}

/* Threads that put, remove and fetch keys of their own, with a queue that is
 * too short for them; if they do not end by themselves, close ends them.  What
 * was accepted is in the cache. */
static void hammer(enum cache_strategy writes, int n)
{
    struct hammer *hammers =
        (struct hammer *)calloc(N_HAMMERS, sizeof *hammers);
    struct hammer *h;
    uint64_t out;
    int i, k;

    db_set_up();
    make_one(writes, 6, 0);
    side_start(one);
    CHECK(hammers != NULL);
    for (i = 0; i < N_HAMMERS; i++) {
        hammers[i].s = one;
        hammers[i].place = i;
        hammers[i].random = test_seed + (uint64_t)i;
        hammers[i].n = n;
        CHECK_EQ(uv_thread_create(&hammers[i].thread, hammer_run, &hammers[i]),
                 0);
    }
    if (n == 0) {
        uv_sleep(20);
        side_call(one, side_close, NULL);
    }
    for (i = 0; i < N_HAMMERS; i++)
        CHECK_EQ(uv_thread_join(&hammers[i].thread), 0);
    if (n != 0)
        side_call(one, side_close, NULL);
    side_join(one);
    for (h = hammers; h < hammers + N_HAMMERS; h++) {
        if (h->broken != NULL)
            printf("%s\n", h->broken);
        CHECK(h->broken == NULL);
        for (k = 0; k < HAMMER_KEYS; k++) {
            const uint64_t key = (uint64_t)h->place * HAMMER_KEYS + (uint64_t)k;

            out = 0;
            CHECK_EQ(nums_peek(&one->cache, key, &out), h->rows[k].present);
            CHECK_EQ(out, h->rows[k].value);
            if (writes == CACHE_WRITE_BEHIND)
                CHECK_EQ(db_row(key).value, h->rows[k].value);
        }
    }
    CHECK_EQ(one->n_errors, 0);
    side_end(one);
    free(hammers);
}

static void many_threads_use_one_loop(void)
{
    hammer(CACHE_ASIDE, 500 * (int)test_scale());
    hammer(CACHE_WRITE_BEHIND, 500 * (int)test_scale());
}

static void close_comes_among_many_threads(void)
{
    long i;

    for (i = 0; i < 2 * test_scale(); i++)
        hammer(i % 2 ? CACHE_ASIDE : CACHE_WRITE_BEHIND, 0);
}

/* --- a group of threads -------------------------------------------------- */

#define GROUP_KEYS 32
#define GROUP_READS 16

struct looper;

struct group_read {
    struct nums_request req; /* first */
    struct looper *l;
    uint64_t key, out;
    uint64_t least; /* of an own key: what this loop has put */
    bool busy;
};

struct group_write {
    struct nums_write_request req; /* first */
    struct looper *l;
    bool busy;
};

/* A side that reads and writes at random, on its loop.  Value: the loop that
 * has written it, and the how manieth write of it this is. */
struct looper {
    struct side side; /* first */
    int place, n_loops, n_left;
    bool through;
    uint64_t random, n_written;
    uint64_t put[GROUP_KEYS];  /* own keys: what is acknowledged */
    uint64_t read[GROUP_KEYS]; /* others' keys: what was read */
    struct group_read reads[GROUP_READS];
    struct group_write writes[GROUP_READS];
    uv_timer_t timer;
    const char *broken;
};

static struct looper *loopers; /* not static: as `one` */

static int owner_of(uint64_t value)
{
    return (int)(value >> 48);
}

static void group_check(struct group_read *r, int status)
{
    struct looper *l = r->l;
    /* A key of the first half has one writer: what is read never ages. */
    bool owned = r->key < GROUP_KEYS / 2;
    bool own = (int)(r->key % (uint64_t)l->n_loops) == l->place;

    r->busy = false;
    if (status == CACHE_EKEY && r->least == 0)
        return;
    if (status < 0) {
        if (status != UV_ECANCELED)
            l->broken = "a read has failed";
        return;
    }
    if (!owned)
        return;
    if (owner_of(r->out) != (int)(r->key % (uint64_t)l->n_loops))
        l->broken = "a value is another key's";
    else if (own && r->out < r->least)
        l->broken = "a loop has not read what it has written";
    else if (!own && r->out < r->least)
        l->broken = "a value has become older";
    else if (!own && r->out > l->read[r->key])
        l->read[r->key] = r->out;
}

static void on_group_read(struct nums_request *req, int status)
{
    group_check((struct group_read *)(void *)req, status);
}

static void on_group_written(struct nums_write_request *req, int status)
{
    struct group_write *w = (struct group_write *)(void *)req;

    w->busy = false;
    if (status != 0)
        w->l->broken = "a write has failed";
    else if (req->value > w->l->put[req->key])
        w->l->put[req->key] = req->value;
}

static void group_fetch(struct looper *l, uint64_t key)
{
    struct group_read *r = l->reads;
    bool own = (int)(key % (uint64_t)l->n_loops) == l->place;
    int i, rc;

    for (i = 0; i < GROUP_READS && r->busy; i++)
        r++;
    if (i == GROUP_READS)
        return;
    memset(r, 0, sizeof *r);
    r->l = l;
    r->key = key;
    r->busy = true;
    r->least = own ? l->put[key] : l->read[key];
    rc = nums_fetch(&l->side.half, &r->req, key, &r->out, on_group_read);
    if (rc != 0)
        group_check(r, rc == 1 ? 0 : rc);
}

static void group_put(struct looper *l, uint64_t key)
{
    struct group_write *w = l->writes;
    uint64_t value = (uint64_t)l->place << 48 | ++l->n_written;
    int i;

    if (key < GROUP_KEYS / 2 && (int)(key % (uint64_t)l->n_loops) != l->place)
        return;
    for (i = 0; i < GROUP_READS && w->busy; i++)
        w++;
    if (i == GROUP_READS)
        return;
    if (!l->through) {
        if (nums_async_put(&l->side.half, key, value) != 0)
            l->broken = "a put was refused";
        l->put[key] = value;
        return;
    }
    w->l = l;
    w->busy = true;
    if (nums_async_put_ack(&l->side.half, &w->req, key, value, NULL,
                           on_group_written) != 0)
        l->broken = "a put was refused";
}

static bool looper_is_quiet(const struct looper *l)
{
    int i;

    for (i = 0; i < GROUP_READS; i++)
        if (l->reads[i].busy || l->writes[i].busy)
            return false;
    return l->through || cache_wb_n_dirty(&l->side.cache.front.writes) == 0;
}

static void on_looper_timer(uv_timer_t *timer)
{
    struct looper *l = (struct looper *)timer->data;
    int i;

    for (i = 0; i < 20 && l->n_left > 0; i++, l->n_left--) {
        uint64_t what = test_random(&l->random) % 100;
        uint64_t key = test_random(&l->random) % GROUP_KEYS;

        if (what < 70)
            group_fetch(l, key);
        else if (what < 97)
            group_put(l, key);
        else if (what < 99)
            nums_async_invalidate_key(&l->side.half, key,
                                      CACHE_INVALIDATE_HARD);
        else
            nums_async_invalidate(&l->side.half, CACHE_INVALIDATE_SOFT);
    }
    if (l->n_left > 0 || !looper_is_quiet(l))
        return;
    (void)uv_timer_stop(timer);
    uv_close((uv_handle_t *)timer, NULL);
    uv_sem_post(&l->side.paused);
}

static void side_nothing(struct side *s, void *arg)
{
    (void)s;
    (void)arg;
}

/* All loops are quiet, and have heard it all: each has the store's newest
 * values, or none. */
static void check_loopers(int n)
{
    uint64_t key, out;
    int i;

    for (i = 0; i < n; i++)
        side_call(&loopers[i].side, side_nothing, NULL); /* a turn */
    for (i = 0; i < n; i++)
        side_call(&loopers[i].side, side_close, NULL);
    for (i = 0; i < n; i++) {
        side_join(&loopers[i].side);
        if (loopers[i].broken != NULL)
            printf("loop %d: %s\n", i, loopers[i].broken);
        CHECK(loopers[i].broken == NULL);
        for (key = 0; key < GROUP_KEYS; key++)
            if (nums_peek(&loopers[i].side.cache, key, &out)) {
                CHECK(db_row(key).present);
                CHECK_EQ(out, db_row(key).value);
            }
    }
}

static void group_of(int n_loops, bool through, int n)
{
    struct cache_group group;
    int i;

    db_set_up();
    CHECK_EQ(cache_group_init(&group), 0);
    loopers = (struct looper *)calloc((size_t)n_loops, sizeof *loopers);
    CHECK(loopers != NULL);
    for (i = 0; i < n_loops; i++) {
        struct looper *l = &loopers[i];

        side_make(&l->side, through ? CACHE_WRITE_THROUGH : CACHE_WRITE_BEHIND,
                  0, 0);
        l->place = i;
        l->n_loops = n_loops;
        l->n_left = n;
        l->through = through;
        l->random = test_seed + 1000u * (uint64_t)i;
        CHECK_EQ(uv_timer_init(&l->side.loop, &l->timer), 0);
        l->timer.data = l;
        CHECK_EQ(uv_timer_start(&l->timer, on_looper_timer, 0, 1), 0);
        CHECK_EQ(
            cache_group_join(&group, &l->side.member, &l->side.half.base, 8),
            0);
    }
    for (i = 0; i < n_loops; i++)
        side_start(&loopers[i].side);
    for (i = 0; i < n_loops; i++)
        uv_sem_wait(&loopers[i].side.paused);
    check_loopers(n_loops);
    for (i = 0; i < n_loops; i++)
        side_end(&loopers[i].side);
    free(loopers);
    cache_group_destroy(&group);
}

static void two_loops_in_a_group(void)
{
    group_of(2, true, 1000 * (int)test_scale());
    group_of(2, false, 1000 * (int)test_scale());
}

static void four_loops_in_a_group(void)
{
    group_of(4, true, 500 * (int)test_scale());
    group_of(4, false, 500 * (int)test_scale());
}

static const struct test tests[] = {
    TEST(puts_and_removes_are_carried_out_in_order),
    TEST(a_fetch_loads_what_is_missing),
    TEST(all_who_ask_share_one_load),
    TEST(a_full_queue_refuses_puts_and_keeps_fetches_waiting),
    TEST(a_caller_whose_time_is_over_leaves_the_load_behind),
    TEST(a_caller_that_left_before_the_loop_came_is_forgotten),
    TEST(the_loop_does_not_wait_for_itself),
    TEST(close_leaves_no_caller_waiting),
    TEST(a_remote_outlives_its_loop),
    TEST(what_is_queued_before_close_goes_through),
    TEST(what_is_queued_before_close_goes_behind),
    TEST(writes_that_fail_are_told_and_counted),
    TEST(on_error_may_close),
    TEST(a_remote_keeps_its_loop_alive),
    TEST(keys_that_are_pointers_are_copied),
    TEST(without_memory_nothing_is_open),
    TEST(a_write_through_is_heard_of_when_it_is_stored),
    TEST(a_write_behind_is_heard_of_twice),
    TEST(a_loop_that_closes_tells_what_it_still_stores),
    TEST(an_invalidation_goes_to_all_as_what_it_is),
    TEST(who_is_told_too_much_forgets_everything),
    TEST(a_load_under_way_is_overtaken),
    TEST(a_dirty_value_that_was_forgotten_does_not_come_back),
    TEST(who_leaves_hears_no_more),
    TEST(only_what_fits_is_in_a_group),
    TEST(keys_that_are_pointers_go_round_a_group),
    TEST(any_order_of_turns_and_answers),
    TEST(many_threads_use_one_loop),
    TEST(close_comes_among_many_threads),
    TEST(two_loops_in_a_group),
    TEST(four_loops_in_a_group),
};

int main(int argc, char **argv)
{
    uv_mutex_init(&db.lock);
    uv_cond_init(&db.changed);
    uv_mutex_init(&strings_lock);
    uv_mutex_init(&control_lock);
    alarm((unsigned)(60 * test_scale())); /* a caller that waits for ever */
    return TEST_MAIN(argc, argv, tests);
}
