/*
 * test_async_write.c - writes on a loop: aside, through, around and behind, what
 * acknowledges them, a journal, callbacks and stores that block, and closing.
 * Each test ends with uv_loop_close() == 0: nothing was left open.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include "journal_disk.h"

#include "../cache_async.h"

/* --- types with blocking callbacks --------------------------------------- */

/* A store in memory, for callbacks on threads. */
static struct {
    pthread_mutex_t lock;
    uint64_t values[64]; /* 0 = absent */
    int n_calls, fail;
    bool at_loop; /* a callback ran on the thread of the loop */
    pthread_t loop;
} rows = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void rows_begin(void)
{
    pthread_mutex_lock(&rows.lock);
    rows.n_calls++;
    rows.at_loop |= pthread_equal(rows.loop, pthread_self()) != 0;
}

static int rows_set(uint64_t key, uint64_t value)
{
    if (rows.fail == 0)
        rows.values[key] = value;
    return rows.fail;
}

static void rows_reset(void)
{
    memset(rows.values, 0, sizeof rows.values);
    rows.n_calls = rows.fail = 0;
    rows.at_loop = false;
    rows.loop = pthread_self();
}

/* Callbacks wait meanwhile. */
static void rows_hold(void)
{
    pthread_mutex_lock(&rows.lock);
}

static void rows_release(void)
{
    pthread_mutex_unlock(&rows.lock);
}

static uint64_t row(uint64_t key)
{
    uint64_t value;

    pthread_mutex_lock(&rows.lock);
    value = rows.values[key];
    pthread_mutex_unlock(&rows.lock);
    return value;
}

/* Values that own memory: a number each. */
static int n_numbers;

static uint64_t *number(uint64_t value)
{
    uint64_t *at = malloc(sizeof *at);

    if (at == NULL)
        abort();
    *at = value;
    (void)__atomic_add_fetch(&n_numbers, 1, __ATOMIC_RELAXED);
    return at;
}

static void number_left(const uint64_t *key, uint64_t **value,
                        enum cache_cause cause, void *user)
{
    (void)key;
    (void)cause;
    (void)user;
    (void)__atomic_sub_fetch(&n_numbers, 1, __ATOMIC_RELAXED);
    free(*value);
}

static int number_load(const uint64_t *key, uint64_t **value,
                       struct cache_loaded *loaded, void *user)
{
    uint64_t found;

    (void)loaded;
    (void)user;
    rows_begin();
    found = rows.values[*key];
    pthread_mutex_unlock(&rows.lock);
    if (found != 0)
        *value = number(found);
    return found != 0 ? 0 : CACHE_EKEY;
}

static int number_store(const uint64_t *key, uint64_t *const *value,
                        const struct cache_storing *storing, void *user)
{
    int rc;

    (void)storing;
    (void)user;
    rows_begin();
    rc = rows_set(*key, **value);
    pthread_mutex_unlock(&rows.lock);
    return rc;
}

static int number_remove(const uint64_t *key,
                         const struct cache_storing *storing, void *user)
{
    int rc;

    (void)storing;
    (void)user;
    rows_begin();
    rc = rows_set(*key, 0);
    pthread_mutex_unlock(&rows.lock);
    return rc;
}

CACHE_DEFINE_LOADING_WITH(numbers, uint64_t, uint64_t *, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU, .on_remove = number_left,
                          .load = number_load, .store = number_store,
                          .remove = number_remove);
CACHE_ASYNC_DEFINE(numbers);

static void get_in_bulk(const uint64_t *keys, uint64_t *values,
                        struct cache_loaded *loaded, size_t n, void *user)
{
    size_t i;

    (void)user;
    rows_begin();
    for (i = 0; i < n; i++) {
        values[i] = rows.values[keys[i]];
        loaded[i].status = values[i] != 0 ? 0 : CACHE_EKEY;
    }
    pthread_mutex_unlock(&rows.lock);
}

struct bulk_write;
static void set_in_bulk(struct bulk_write *writes, size_t n, void *user);

CACHE_DEFINE_LOADING_WITH(bulk, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU, .load_many = get_in_bulk,
                          .store_many = set_in_bulk);
CACHE_ASYNC_DEFINE(bulk);

static void set_in_bulk(struct bulk_write *writes, size_t n, void *user)
{
    size_t i;

    (void)user;
    rows_begin();
    for (i = 0; i < n; i++)
        writes[i].status =
            rows_set(*writes[i].key, writes[i].value ? *writes[i].value : 0);
    pthread_mutex_unlock(&rows.lock);
}

#include "async.h"

/* --- one write and what came of it --------------------------------------- */

struct put {
    struct plain_write_request req; /* first */
    int rc, status, n_calls;
    bool in_call; /* the starting function has not returned */
};

static struct put writes[64];
static uint64_t put_order[64]; /* keys, as they were told */
static size_t n_told;

static void written(struct plain_write_request *req, int status)
{
    struct put *put = (struct put *)(void *)req;

    CHECK(!put->in_call);
    put->n_calls++;
    put->status = status;
    put_order[n_told++ % COUNT(put_order)] = req->key;
}

static int put_with(struct put *put, uint64_t key, uint64_t value,
                    const struct cache_writing *how)
{
    memset(put, 0, sizeof *put);
    put->in_call = true;
    put->rc = plain_async_put_ack(&half, &put->req, key, value, how, written);
    put->in_call = false;
    return put->rc;
}

static int put(struct put *p, uint64_t key, uint64_t value)
{
    return put_with(p, key, value, NULL);
}

static int put_until(struct put *p, uint64_t key, uint64_t value,
                     enum cache_ack ack)
{
    struct cache_writing how = { .ack = ack };

    return put_with(p, key, value, &how);
}

static int take_out(struct put *put, uint64_t key)
{
    memset(put, 0, sizeof *put);
    put->in_call = true;
    put->rc = plain_async_remove_ack(&half, &put->req, key, NULL, written);
    put->in_call = false;
    return put->rc;
}

static int n_flushed, flush_status;

static void flushed(struct cache_flush *flush, int status)
{
    (void)flush;
    n_flushed++;
    flush_status = status;
}

/* Between prepare() and begin(). */
static void write_by(enum cache_strategy strategy)
{
    caching.writes = strategy;
    memset(&caching.write_behind, 0, sizeof caching.write_behind);
    n_told = 0;
}

static void set_up_through(void)
{
    prepare(10);
    write_by(CACHE_WRITE_THROUGH);
    begin();
}

/* --- aside --------------------------------------------------------------- */

static void aside(void)
{
    struct cache_writing how = { .ack = CACHE_ACK_STORE };
    uint64_t first = 0, second = 0;

    prepare(10);
    load_with(load_later);
    own_clock();
    begin();
    how.version = &first;
    CHECK_EQ(plain_async_put_with(&half, 1, 10, &how), 0);
    CHECK_EQ(held(1), 10);
    how.version = &second;
    CHECK_EQ(put_with(&writes[0], 1, 11, &how), 0);
    CHECK(second > first && first > 0);
    CHECK_EQ(writes[0].n_calls, 0); /* not inside the call */
    run();
    CHECK_EQ(writes[0].n_calls, 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(put_until(&writes[0], 1, 12, CACHE_ACK_JOURNAL), CACHE_EINVAL);
    CHECK_EQ(plain_async_put_ttl(&half, 2, 20, 100), 0);
    CHECK_EQ(plain_async_put_ttl(&half, 3, 30, 0), CACHE_ETTL);
    cache_ms += 101;
    CHECK_EQ(held(2), 0);
    CHECK_EQ(take_out(&writes[1], 1), 0);
    CHECK_EQ(held(1), 0);
    CHECK_EQ(plain_async_remove(&half, 9), 0); /* also if it is not there */
    how.skip_write = true;
    CHECK_EQ(plain_async_put(&half, 4, 40), 0);
    CHECK_EQ(plain_async_put_with(&half, 4, 41, &how), 0);
    CHECK_EQ(held(4), 0); /* whatever it has leaves */
    CHECK_EQ(second, 0);
    tear_down();
    CHECK_EQ(writes[1].n_calls, 1);
}

/* --- through ------------------------------------------------------------- */

static void through(void)
{
    set_up_through();
    CHECK_EQ(plain_async_put(&half, 1, 10), CACHE_ESTRATEGY);
    CHECK_EQ(plain_async_remove(&half, 1), CACHE_ESTRATEGY);
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put(&writes[1], 2, 20), 0);
    turn(3);
    CHECK_EQ(store.n_held, 1); /* one batch */
    CHECK_EQ(store.n_writes, 2);
    CHECK_EQ(held(1), 0); /* the store first */
    CHECK_EQ(writes[0].n_calls, 0);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(writes[0].n_calls, 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(store.rows[1].value, 10);
    CHECK_EQ(held(1), 10);
    CHECK_EQ(held(2), 20);
    CHECK_EQ(take_out(&writes[0], 1), 0);
    CHECK_EQ(held(1), 10);
    run();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(held(1), 0);
    CHECK(!store.rows[1].present);
    CHECK_EQ(half.base.stats.n_written, 3);
    tear_down();
}

static void a_key_that_is_being_written_is_waited_for(void)
{
    set_up_through();
    stored(1, 9);
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    turn(1);
    CHECK_EQ(ask(&asks[0], 1), 0);
    CHECK_EQ(ask_with(&asks[1], 1, 3, answered), 0);
    CHECK_EQ(ask(&asks[2], 1), 0);
    CHECK_EQ(plain_fetch_cancel(&asks[2].req), 0);
    CHECK_EQ(plain_async_refresh(&half, 1), 0);
    UNTIL(asks[1].n_calls == 1);
    CHECK_EQ(asks[1].status, UV_ETIMEDOUT);
    CHECK_EQ(asks[2].status, UV_ECANCELED);
    CHECK_EQ(asks[0].n_calls, 0);
    CHECK_EQ(store.n_loads, 0);
    fake_release(&store);
    run();
    CHECK_EQ(asks[0].status, CACHE_FOUND);
    CHECK_EQ(asks[0].out, 10);
    CHECK_EQ(store.n_loads, 0);
    tear_down();
}

/* A hit has the old value until the store has the new one. */
static void hits_while_a_key_is_written(void)
{
    set_up_through();
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    run();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 11), 0);
    turn(1);
    CHECK_EQ(ask(&asks[0], 1), 1);
    CHECK_EQ(asks[0].out, 10);
    fake_release(&store);
    run();
    CHECK_EQ(ask(&asks[0], 1), 1);
    CHECK_EQ(asks[0].out, 11);
    tear_down();
}

static void a_write_that_fails_changes_nothing(void)
{
    set_up_through();
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    stored(2, 20);
    run();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 11), 0);
    CHECK_EQ(put(&writes[1], 2, 21), 0);
    CHECK_EQ(take_out(&writes[2], 3), 0);
    turn(1);
    CHECK_EQ(ask(&asks[2], 2), 0);
    store.fail = CACHE_EIO;
    store.hold = false;
    fake_release(&store);
    store.fail = 0;
    run();
    CHECK_EQ(writes[0].status, CACHE_EIO);
    CHECK_EQ(writes[1].status, CACHE_EIO);
    CHECK_EQ(writes[2].status, CACHE_EIO);
    CHECK_EQ(held(1), 10);
    CHECK_EQ(asks[2].out, 20); /* it has been loaded then */
    CHECK_EQ(store.n_loads, 1);
    store.refuse = CACHE_ELOCKED;
    CHECK_EQ(put(&writes[0], 1, 11), 0);
    run();
    CHECK_EQ(writes[0].status, CACHE_ELOCKED);
    CHECK_EQ(held(1), 10);
    tear_down();
}

/* Of one key in the order in which they were accepted. */
static void writes_of_one_key(void)
{
    set_up_through();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    turn(1);
    CHECK_EQ(put(&writes[1], 1, 11), 0);
    CHECK_EQ(put(&writes[2], 2, 20), 0);
    CHECK_EQ(take_out(&writes[3], 1), 0);
    CHECK_EQ(put(&writes[4], 1, 12), 0);
    turn(2);
    CHECK_EQ(store.n_writes, 2); /* the other key need not wait */
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(n_told, 5);
    CHECK_EQ(store.n_writes, 5); /* through means each of them */
    CHECK_EQ(store.rows[1].value, 12);
    CHECK_EQ(held(1), 12);
    CHECK_EQ(held(2), 20);
    tear_down();
}

static void two_writes_of_a_key_in_one_turn(void)
{
    set_up_through();
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put(&writes[1], 1, 11), 0);
    CHECK_EQ(take_out(&writes[2], 1), 0);
    run();
    CHECK_EQ(store.n_batches, 3);
    CHECK(!store.rows[1].present);
    CHECK_EQ(held(1), 0);
    tear_down();
}

static void so_many_writes_at_once(void)
{
    uint64_t i;

    prepare(100);
    write_by(CACHE_WRITE_THROUGH);
    config.max_batch = 4;
    config.max_batches = 2;
    begin();
    store.hold = true;
    for (i = 0; i < 11; i++)
        CHECK_EQ(put(&writes[i], i, i), 0);
    turn(3);
    CHECK_EQ(store.n_held, 2);
    CHECK_EQ(store.n_writes, 8);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(store.n_batches, 3);
    CHECK_EQ(store.largest, 4);
    for (i = 0; i < 11; i++)
        CHECK_EQ(writes[i].n_calls, 1);
    tear_down();
}

/* A load that is under way is delivered, and not kept. */
static void a_write_overtakes_a_load(void)
{
    set_up_through();
    stored(1, 9);
    store.hold = true;
    CHECK_EQ(ask(&asks[0], 1), 0);
    turn(1);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    turn(1);
    CHECK_EQ(store.n_held, 2);
    CHECK_EQ(ask(&asks[1], 1), 0);
    fake_execute(&store, store.held[0]);
    turn(2);
    CHECK_EQ(asks[0].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(asks[0].out, 9);
    CHECK_EQ(asks[1].n_calls, 0);
    CHECK_EQ(held(1), 0);
    fake_execute(&store, store.held[1]);
    store.n_held = 0;
    run();
    CHECK_EQ(asks[1].out, 10);
    tear_down();
}

static void what_is_invalidated_does_not_come_back(void)
{
    set_up_through();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put(&writes[1], 2, 20), 0);
    CHECK_EQ(put(&writes[2], 3, 30), 0);
    turn(1);
    plain_async_invalidate_key(&half, 1, CACHE_INVALIDATE_HARD);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(held(1), 0);
    CHECK_EQ(held(2), 20);
    store.hold = true;
    CHECK_EQ(put(&writes[2], 3, 31), 0);
    turn(1);
    plain_async_invalidate(&half, CACHE_INVALIDATE_HARD);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(held(3), 0);
    CHECK_EQ(store.rows[3].value, 31);
    tear_down();
}

static void options_of_what_goes_through(void)
{
    uint64_t version = 7;
    struct cache_writing here = { .skip_store = true, .version = &version };
    struct cache_writing there = { .skip_write = true, .lifetime_ms = 100 };
    struct cache_writing brief = { .ttl_ms = 50, .version = &version };

    prepare(10);
    write_by(CACHE_WRITE_THROUGH);
    own_clock();
    begin();
    CHECK_EQ(plain_async_put_with(&half, 1, 10, &here), 0); /* aside */
    CHECK_EQ(held(1), 10);
    CHECK(version > 0 && version != 7);
    CHECK_EQ(store.n_writes, 0);
    CHECK_EQ(put_with(&writes[0], 1, 11, &there), 0);
    run();
    CHECK_EQ(held(1), 0);
    CHECK_EQ(store.rows[1].value, 11);
    CHECK_EQ(store.rows[1].expires_ms, wall_ms + 100);
    version = 7;
    CHECK_EQ(put_with(&writes[0], 2, 20, &brief), 0);
    memset(&brief, 0xff, sizeof brief); /* it was copied */
    run();
    CHECK_EQ(version, 7); /* not filled in by what goes through */
    CHECK_EQ(held(2), 20);
    cache_ms += 51;
    CHECK_EQ(held(2), 0);
    CHECK_EQ(put_until(&writes[0], 2, 20, CACHE_ACK_JOURNAL), CACHE_EINVAL);
    tear_down();
}

static int picky_encode(const struct cache_codec *self, const void *object,
                        void *out, size_t *bytes)
{
    uint64_t value;

    (void)self;
    memcpy(&value, object, sizeof value);
    memcpy(out, object, sizeof value);
    *bytes = sizeof value;
    return value == 666 ? CACHE_ETOOBIG : 0;
}

static void what_cannot_be_encoded(void)
{
    prepare(10);
    write_by(CACHE_WRITE_THROUGH);
    codec.encode = picky_encode;
    begin();
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put(&writes[1], 2, 666), 0);
    CHECK_EQ(put(&writes[2], 666, 30), 0);
    CHECK_EQ(put(&writes[3], 4, 40), 0);
    CHECK_EQ(ask(&asks[0], 666), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    stored(5, 50);
    run();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(writes[1].status, CACHE_ETOOBIG);
    CHECK_EQ(writes[2].status, CACHE_ETOOBIG);
    CHECK_EQ(writes[3].status, 0);
    CHECK_EQ(store.n_writes, 2);
    CHECK_EQ(asks[0].status, CACHE_ETOOBIG);
    CHECK_EQ(asks[1].out, 50);
    CHECK_EQ(held(2), 0);
    CHECK_EQ(held(4), 40);
    tear_down();
}

/* A write that goes through needs a claim, and waits for one. */
static void writes_wait_for_claims(void)
{
    prepare(10);
    write_by(CACHE_WRITE_THROUGH);
    caching.max_claims = 2;
    loader.load_batch = load_later;
    n_batches = 0;
    begin();
    CHECK_EQ(ask(&asks[1], 1), 0);
    CHECK_EQ(ask(&asks[2], 2), 0);
    turn(1);
    CHECK_EQ(put(&writes[0], 3, 30), 0);
    CHECK_EQ(put(&writes[1], 4, 40), 0);
    turn(3);
    CHECK_EQ(store.n_writes, 0);
    plain_loaded(batches[0], 0, 10); /* one claim is free */
    UNTIL(writes[0].n_calls == 1);
    CHECK_EQ(held(3), 30);
    UNTIL(writes[1].n_calls == 1);
    plain_loaded(batches[0], 1, 20);
    tear_down();
}

/* --- around -------------------------------------------------------------- */

static void around(void)
{
    prepare(10);
    write_by(CACHE_WRITE_AROUND);
    begin();
    stored(1, 9);
    CHECK_EQ(ask(&asks[0], 1), 0);
    run();
    CHECK_EQ(held(1), 9);
    CHECK_EQ(plain_async_put(&half, 1, 10), CACHE_ESTRATEGY);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put(&writes[1], 2, 20), 0);
    CHECK_EQ(held(1), 9);
    run();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(held(1), 0);
    CHECK_EQ(held(2), 0);
    CHECK_EQ(ask(&asks[0], 1), 0);
    run();
    CHECK_EQ(asks[0].out, 10);
    store.fail = CACHE_EIO;
    CHECK_EQ(put(&writes[0], 1, 11), 0);
    run();
    CHECK_EQ(writes[0].status, CACHE_EIO);
    CHECK_EQ(held(1), 10); /* as it was */
    store.fail = 0;
    CHECK_EQ(take_out(&writes[0], 1), 0);
    run();
    CHECK_EQ(held(1), 0);
    CHECK(!store.rows[1].present);
    tear_down();
}

/* --- behind: what acknowledges a write ----------------------------------- */

static void acknowledged_by_memory(void)
{
    set_up(10);
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(writes[0].n_calls, 0);
    CHECK_EQ(held(1), 10);
    turn(1);
    CHECK_EQ(writes[0].n_calls, 1); /* the store need not have it */
    CHECK_EQ(take_out(&writes[1], 1), 0);
    turn(1);
    CHECK_EQ(writes[1].status, 0);
    UNTIL(store.n_held == 1);
    store.hold = false;
    fake_release(&store);
    tear_down();
}

static void acknowledged_by_the_store(void)
{
    prepare(10);
    caching.write_behind.interval_ms = 1000000; /* it is sent at once */
    begin();
    store.hold = true;
    CHECK_EQ(plain_async_put(&half, 2, 20), 0);
    CHECK_EQ(put_until(&writes[0], 1, 10, CACHE_ACK_STORE), 0);
    turn(2);
    CHECK_EQ(store.n_writes, 2);
    CHECK_EQ(writes[0].n_calls, 0);
    CHECK_EQ(put_until(&writes[1], 1, 11, CACHE_ACK_STORE), 0);
    fake_release(&store);
    turn(3);
    CHECK_EQ(writes[0].n_calls, 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(writes[1].n_calls, 0); /* that one was not in it */
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(writes[1].n_calls, 1);
    CHECK_EQ(store.rows[1].value, 11);
    CHECK_EQ(put_until(&writes[1], 1, 11, CACHE_ACK_JOURNAL), CACHE_EINVAL);
    tear_down();
}

static void acknowledged_by_config(void)
{
    prepare(10);
    caching.ack = CACHE_ACK_STORE;
    begin();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put_until(&writes[1], 2, 20, CACHE_ACK_MEMORY), 0);
    turn(2);
    CHECK_EQ(writes[0].n_calls, 0);
    CHECK_EQ(writes[1].n_calls, 1);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(writes[0].n_calls, 1);
    tear_down();
}

static void dead_letters_are_no_acknowledgement(void)
{
    prepare(10);
    caching.write_behind.max_attempts = 2;
    begin();
    store.fail = CACHE_EIO;
    CHECK_EQ(put_until(&writes[0], 1, 10, CACHE_ACK_STORE), 0);
    run();
    CHECK_EQ(writes[0].status, CACHE_EDEADLETTER);
    CHECK_EQ(n_dead, 1);
    store.fail = 0;
    CHECK_EQ(put_until(&writes[0], 1, 10, CACHE_ACK_STORE), 0);
    run();
    CHECK_EQ(writes[0].status, 0); /* what was given up before does not count */
    tear_down();
}

static void options_of_what_goes_behind(void)
{
    uint64_t version = 0;
    struct cache_writing here = { .skip_store = true, .version = &version };
    struct cache_writing there = { .skip_write = true };
    struct cache_freshness brief = { .ttl_ms = 50, .stale_ms = 50 };
    struct cache_writing short_lived = { .freshness = &brief };

    prepare(10);
    own_clock();
    begin();
    CHECK_EQ(plain_async_put_with(&half, 1, 10, &here), 0);
    CHECK_EQ(held(1), 10);
    CHECK(version > 0);
    CHECK_EQ(cache_wb_n_dirty(&cache.front.writes), 0);
    CHECK_EQ(plain_async_put_with(&half, 1, 11, &there), 0);
    CHECK_EQ(held(1), 0);
    CHECK_EQ(ask(&asks[0], 1), 1); /* a read sees the write all the same */
    CHECK_EQ(asks[0].out, 11);
    CHECK_EQ(plain_async_put_with(&half, 2, 20, &short_lived), 0);
    cache_ms += 60;
    run();
    CHECK_EQ(store.rows[1].value, 11);
    CHECK_EQ(ask(&asks[0], 2), 1);
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND_STALE);
    run();
    brief.ttl_ms = 0;
    brief.refresh_pct = 101;
    CHECK_EQ(plain_async_put_with(&half, 2, 21, &short_lived),
             CACHE_EFRESHNESS);
    CHECK_EQ(store.rows[2].value, 20);
    tear_down();
}

/* The pace of write-behind does not depend on what clock the cache has. */
static uint64_t clock_of_2026(void *user)
{
    (void)user;
    return UINT64_C(1790000000000) + uv_hrtime() / 1000000;
}

static void any_clock_will_do(void)
{
    prepare(10);
    caching.cache.now = clock_of_2026;
    begin();
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    UNTIL(store.n_writes == 1);
    store.fail = CACHE_EIO;
    CHECK_EQ(plain_async_put(&half, 1, 11), 0);
    UNTIL(store.n_writes == 3); /* nor does that of retries */
    store.fail = 0;
    run();
    CHECK_EQ(store.rows[1].value, 11);
    tear_down();
}

/* --- room ---------------------------------------------------------------- */

static int n_writable;

static void writable(struct cache_async *a)
{
    CHECK(cache_async_is_writable(a));
    n_writable++;
}

static void set_up_water(uint32_t high, uint32_t low)
{
    prepare(20);
    caching.write_behind.max_dirty = 10;
    caching.write_behind.max_batch = 1;
    caching.write_behind.max_in_flight = 1;
    caching.when_full = CACHE_FULL_PAUSE; /* a loop does not */
    config.high_water = high;
    config.low_water = low;
    config.on_writable = writable;
    n_writable = 0;
    begin();
    store.hold = true;
}

static void water_marks(void)
{
    uint64_t i;

    set_up_water(6, 3);
    for (i = 0; i < 5; i++)
        CHECK_EQ(plain_async_put(&half, i, i), 0);
    CHECK(cache_async_is_writable(&half.base));
    CHECK_EQ(plain_async_put(&half, 5, 5), 0);
    CHECK(!cache_async_is_writable(&half.base));
    for (i = 6; i > 4; i--) { /* one is stored: 5 are dirty, and 4 */
        UNTIL(store.n_held == 1);
        fake_release(&store);
        turn(2);
        CHECK(!cache_async_is_writable(&half.base));
    }
    CHECK_EQ(n_writable, 0);
    UNTIL(store.n_held == 1);
    fake_release(&store);
    UNTIL(n_writable == 1); /* 3 */
    CHECK_EQ(cache_wb_n_dirty(&cache.front.writes), 3);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(n_writable, 1);
    tear_down();
}

static void full_to_the_brim(void)
{
    uint64_t i;

    set_up_water(0, 0); /* 10 and 5 */
    for (i = 0; i < 10; i++)
        CHECK_EQ(plain_async_put(&half, i, i), 0);
    CHECK(!cache_async_is_writable(&half.base));
    CHECK_EQ(plain_async_put(&half, 10, 10), CACHE_EFULL);
    CHECK_EQ(held(10), 0);
    CHECK_EQ(put(&writes[0], 11, 11), CACHE_EFULL);
    CHECK_EQ(plain_async_put(&half, 3, 33), 0); /* is dirty already */
    CHECK_EQ(cache_async_write_stats(&half.base).n_refused, 2);
    store.hold = false;
    fake_release(&store);
    run();
    CHECK_EQ(n_writable, 1);
    CHECK_EQ(writes[0].n_calls, 0);
    CHECK_EQ(store.rows[3].value, 33);
    tear_down();
}

static void fill_up(struct cache_async *a)
{
    uint64_t key = 100;

    n_writable++;
    while (n_writable < 5 && cache_async_is_writable(a))
        CHECK_EQ(plain_async_put(&half, key++, 1), 0);
}

static void writing_from_on_writable(void)
{
    set_up_water(4, 2);
    half.base.config.on_writable = fill_up;
    store.hold = false;
    fill_up(&half.base);
    run();
    CHECK_EQ(n_writable, 5);
    CHECK(cache_async_is_writable(&half.base));
    tear_down();
}

/* --- inside callbacks ---------------------------------------------------- */

static int n_rounds;

static void writes_again(struct plain_write_request *req, int status)
{
    CHECK_EQ(status, 0);
    CHECK_EQ(req->key, n_rounds);
    if (++n_rounds < 100)
        CHECK_EQ(plain_async_put_ack(&half, req, (uint64_t)n_rounds, 1, NULL,
                                     writes_again),
                 0);
}

static void a_request_is_used_again_in_its_callback(void)
{
    static const enum cache_strategy strategies[] = { CACHE_WRITE_BEHIND,
                                                      CACHE_WRITE_THROUGH };
    size_t i;

    for (i = 0; i < COUNT(strategies); i++) {
        prepare(10);
        write_by(strategies[i]);
        caching.write_behind.interval_ms = i == 0;
        begin();
        n_rounds = 0;
        CHECK_EQ(plain_async_put_ack(&half, &writes[0].req, 0, 1, NULL,
                                     writes_again),
                 0);
        turn(1);
        CHECK(n_rounds <= 2); /* the loop turns */
        run();
        CHECK_EQ(n_rounds, 100);
        CHECK(store.rows[99].present);
        tear_down();
    }
}

/* Writes, removes, invalidates and asks while others wait to be told. */
static void meddles(struct plain_request *req, int status)
{
    answered(req, status);
    CHECK_EQ(plain_async_put(&half, 5, 55), 0);
    CHECK_EQ(plain_async_remove(&half, 6), 0);
    plain_async_invalidate_key(&half, 7, CACHE_INVALIDATE_HARD);
    CHECK_EQ(ask(&asks[10], 5), 1);
    CHECK_EQ(asks[10].out, 55);
    CHECK_EQ(ask(&asks[11], 6), CACHE_EKEY);
    CHECK_EQ(ask(&asks[12], 7), 0);
    plain_async_invalidate(&half, CACHE_INVALIDATE_SOFT);
}

static void a_callback_may_do_anything(void)
{
    set_up(10);
    stored(5, 50);
    stored(6, 60);
    stored(7, 70);
    CHECK_EQ(ask_with(&asks[0], 5, 0, meddles), 0);
    CHECK_EQ(ask(&asks[1], 5), 0);
    CHECK_EQ(ask(&asks[2], 6), 0);
    CHECK_EQ(ask(&asks[3], 7), 0);
    run();
    CHECK_EQ(asks[0].out, 50);
    CHECK_EQ(asks[1].out, 50); /* what was loaded */
    CHECK_EQ(asks[2].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(asks[2].out, 60);
    CHECK_EQ(asks[3].n_calls, 1);
    CHECK_EQ(asks[12].out, 70);
    CHECK_EQ(store.rows[5].value, 55);
    CHECK(!store.rows[6].present);
    tear_down();
}

static void closes_now(struct plain_write_request *req, int status)
{
    written(req, status);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
}

static void close_inside_a_writes_callback(void)
{
    set_up_through();
    CHECK_EQ(
        plain_async_put_ack(&half, &writes[0].req, 1, 10, NULL, closes_now), 0);
    CHECK_EQ(put(&writes[1], 2, 20), 0);
    run();
    CHECK_EQ(writes[1].n_calls, 1);
    CHECK_EQ(writes[1].status, 0);
    tear_down();
}

/* --- flush --------------------------------------------------------------- */

/* Without write-behind each write has its own callback. */
static void nothing_to_flush(void)
{
    static struct cache_flush flush;

    set_up_through();
    n_flushed = 0;
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), 0);
    CHECK_EQ(n_flushed, 0);
    run();
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, 0);
    CHECK_EQ(cache_async_write_stats(&half.base).n_accepted, 0);
    CHECK(cache_async_is_writable(&half.base));
    tear_down();
}

/* --- blocking callbacks -------------------------------------------------- */

static struct numbers figures;
static struct numbers_async figures_half;

struct figure_put {
    struct numbers_write_request req; /* first */
    int status, n_calls;
};

struct figure_ask {
    struct numbers_request req; /* first */
    uint64_t *out;
    uint64_t seen; /* inside the callback */
    int status, n_calls;
};

static struct figure_put figure_puts[8];
static struct figure_ask figure_asks[8];

static void figure_written(struct numbers_write_request *req, int status)
{
    struct figure_put *p = (struct figure_put *)(void *)req;

    p->n_calls++;
    p->status = status;
}

static void figure_answered(struct numbers_request *req, int status)
{
    struct figure_ask *a = (struct figure_ask *)(void *)req;

    a->n_calls++;
    a->status = status;
    a->seen = status >= 0 ? *a->out : 0;
}

static int figure_put(size_t i, uint64_t key, uint64_t value)
{
    uint64_t *at = number(value);
    int rc;

    memset(&figure_puts[i], 0, sizeof figure_puts[i]);
    rc = numbers_async_put_ack(&figures_half, &figure_puts[i].req, key, at,
                               NULL, figure_written);
    if (rc != 0)
        number_left(NULL, &at, CACHE_CAUSE_REMOVED, NULL);
    return rc;
}

static int figure_ask(size_t i, uint64_t key)
{
    memset(&figure_asks[i], 0, sizeof figure_asks[i]);
    return numbers_fetch(&figures_half, &figure_asks[i].req, key,
                         &figure_asks[i].out, figure_answered);
}

static void set_up_figures(size_t capacity)
{
    prepare(capacity);
    write_by(CACHE_WRITE_THROUGH);
    caching.store = NULL;
    caching.key_codec = caching.value_codec = NULL;
    rows_reset();
    n_numbers = 0;
    CHECK_EQ(numbers_init(&figures, &caching), 0);
    CHECK_EQ(numbers_async_init(&figures_half, &loop, &figures, &config, NULL),
             0);
}

static void tear_down_figures(void)
{
    CHECK_EQ(cache_async_close(&figures_half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_SOUND(numbers_check(&figures));
    numbers_destroy(&figures);
    CHECK_EQ(n_numbers, 0);
}

static void callbacks_that_block(void)
{
    set_up_figures(10);
    rows_hold();
    CHECK_EQ(figure_put(0, 1, 10), 0);
    CHECK_EQ(figure_put(1, 2, 20), 0);
    turn(3); /* the loop does not wait */
    CHECK_EQ(figure_puts[0].n_calls, 0);
    CHECK_EQ(figure_ask(0, 1), 0);
    rows_release();
    run();
    CHECK_EQ(rows.n_calls, 2);
    CHECK(!rows.at_loop);
    CHECK_EQ(row(2), 20);
    CHECK_EQ(figure_puts[0].status, 0);
    CHECK_EQ(figure_asks[0].seen, 10);
    CHECK_EQ(numbers_async_remove_ack(&figures_half, &figure_puts[0].req, 1,
                                      NULL, figure_written),
             0);
    run();
    CHECK_EQ(row(1), 0);
    CHECK_EQ(figure_ask(0, 1), 0);
    run();
    CHECK_EQ(figure_asks[0].status, CACHE_EKEY);
    CHECK_EQ(figure_ask(1, 2), 1);
    CHECK_EQ(*figure_asks[1].out, 20);
    tear_down_figures();
}

/* What waits for a write is told as soon as it sees it: the next write's end
 * may have evicted it. */
static void what_is_waited_for_is_there(void)
{
    uint64_t i;

    set_up_figures(1);
    for (i = 0; i < 4; i++)
        CHECK_EQ(figure_put(i, i, i + 10), 0);
    rows_hold();
    turn(1);
    for (i = 0; i < 4; i++)
        CHECK_EQ(figure_ask(i, i), 0);
    rows_release();
    run();
    for (i = 0; i < 4; i++) {
        CHECK_EQ(figure_asks[i].n_calls, 1);
        CHECK_EQ(figure_asks[i].seen, i + 10);
    }
    tear_down_figures();
}

/* A write that fails gives its value back. */
static void a_value_that_was_not_written(void)
{
    uint64_t *value;

    set_up_figures(10);
    rows.fail = CACHE_EIO;
    CHECK_EQ(figure_put(0, 1, 10), 0);
    run();
    CHECK_EQ(figure_puts[0].status, CACHE_EIO);
    value = figure_puts[0].req.value; /* it is the caller's */
    CHECK_EQ(*value, 10);
    number_left(NULL, &value, CACHE_CAUSE_REMOVED, NULL);
    rows.fail = 3; /* no error */
    CHECK_EQ(figure_put(0, 1, 10), 0);
    run();
    CHECK_EQ(figure_puts[0].status, CACHE_EINVAL);
    value = figure_puts[0].req.value;
    number_left(NULL, &value, CACHE_CAUSE_REMOVED, NULL);
    tear_down_figures();
}

static struct bulk lots;
static struct bulk_async lots_half;
static int n_bulk_told, bulk_status;

static void bulk_told(struct bulk_write_request *req, int status)
{
    (void)req;
    n_bulk_told++;
    bulk_status = status;
}

static void set_up_bulk(enum cache_strategy strategy)
{
    prepare(20);
    write_by(strategy);
    caching.store = NULL;
    caching.write_behind.interval_ms = strategy == CACHE_WRITE_BEHIND;
    rows_reset();
    n_bulk_told = 0;
    CHECK_EQ(bulk_init(&lots, &caching), 0);
    CHECK_EQ(bulk_async_init(&lots_half, &loop, &lots, &config, NULL), 0);
}

static void tear_down_bulk(void)
{
    CHECK_EQ(cache_async_close(&lots_half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(n_lost, 0);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_SOUND(bulk_check(&lots));
    bulk_destroy(&lots);
}

static void one_call_for_many(void)
{
    static struct bulk_write_request requests[10];
    uint64_t i;

    set_up_bulk(CACHE_WRITE_THROUGH);
    for (i = 0; i < 9; i++)
        CHECK_EQ(bulk_async_put_ack(&lots_half, &requests[i], i, i + 1, NULL,
                                    bulk_told),
                 0);
    CHECK_EQ(
        bulk_async_remove_ack(&lots_half, &requests[9], 9, NULL, bulk_told), 0);
    run();
    CHECK_EQ(rows.n_calls, 1);
    CHECK(!rows.at_loop);
    CHECK_EQ(n_bulk_told, 10);
    CHECK_EQ(bulk_status, 0);
    CHECK_EQ(row(8), 9);
    tear_down_bulk();
}

static void bulk_found(struct bulk_request *req, int status)
{
    (void)req;
    CHECK(status >= 0);
}

static void callbacks_behind(void)
{
    static struct bulk_request req;
    uint64_t i, out;

    set_up_bulk(CACHE_WRITE_BEHIND);
    rows.fail = CACHE_EIO;
    for (i = 0; i < 9; i++)
        CHECK_EQ(bulk_async_put(&lots_half, i, i + 1), 0);
    CHECK_EQ(bulk_async_remove(&lots_half, 9), 0);
    turn_for(20); /* it is retried */
    pthread_mutex_lock(&rows.lock);
    CHECK(rows.n_calls >= 1);
    rows.fail = 0;
    pthread_mutex_unlock(&rows.lock);
    bulk_async_invalidate(&lots_half, CACHE_INVALIDATE_HARD);
    if (cache_wb_n_dirty(&lots.front.writes) == 10) {
        CHECK_EQ(bulk_fetch(&lots_half, &req, 3, &out, bulk_found), 1);
        CHECK_EQ(out, 4);
    }
    run();
    CHECK(!rows.at_loop);
    CHECK_EQ(row(8), 9);
    CHECK_EQ(cache_async_write_stats(&lots_half.base).n_stored, 10);
    tear_down_bulk();
}

/* --- stores that block --------------------------------------------------- */

static int slow_submit(struct cache_store *s, struct cache_store_batch *batch)
{
    rows_begin();
    pthread_mutex_unlock(&rows.lock);
    return fake__submit(s, batch);
}

static void stores_that_block(void)
{
    static const enum cache_strategy strategies[] = { CACHE_WRITE_BEHIND,
                                                      CACHE_WRITE_THROUGH };
    uint64_t i, j;

    for (i = 0; i < COUNT(strategies); i++) {
        prepare(10);
        write_by(strategies[i]);
        store.store.capabilities |= CACHE_STORE_BLOCKS;
        store.store.submit = slow_submit;
        rows_reset();
        rows_hold();
        begin();
        for (j = 0; j < 10; j++)
            CHECK_EQ(put_until(&writes[j], j, j + 10, CACHE_ACK_STORE), 0);
        turn(3); /* the loop does not wait */
        CHECK_EQ(writes[0].n_calls, 0);
        rows_release();
        run();
        CHECK_EQ(writes[9].n_calls, 1);
        CHECK(!rows.at_loop);
        CHECK(rows.n_calls <= 2);
        CHECK_EQ(store.rows[9].value, 19);
        tear_down();
    }
}

/* --- journal ------------------------------------------------------------- */

static char path[300];

/* The journal's thread waits meanwhile. */
static void disk_hold(void)
{
    pthread_mutex_lock(&disk.lock);
}

static void disk_release(void)
{
    pthread_mutex_unlock(&disk.lock);
}

static void set_up_journal(const char *name)
{
    prepare(10);
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    caching.journal.path = path;
    disk_reset();
    begin();
}

static void acknowledged_by_the_journal(void)
{
    set_up_journal("acknowledged");
    disk_hold();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0); /* the default of a cache with one */
    CHECK_EQ(put_until(&writes[1], 2, 20, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(held(1), 10);
    turn_for(5); /* the loop does not wait for the disk */
    CHECK_EQ(writes[0].n_calls, 0);
    CHECK_EQ(writes[1].n_calls, 1);
    disk_release();
    UNTIL(writes[0].n_calls == 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK(cache_journal_durable(&cache.front.journal) >= 1);
    CHECK(!store.rows[1].present);
    store.hold = false;
    fake_release(&store);
    tear_down();
}

/* What the store is to have, the journal has first. */
static void the_journal_has_it_first(void)
{
    set_up_journal("first");
    disk_hold();
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    turn_for(5);
    CHECK_EQ(store.n_writes, 0);
    CHECK_EQ(put_until(&writes[0], 2, 20, CACHE_ACK_STORE), 0);
    turn_for(5);
    CHECK_EQ(store.n_writes, 0);
    disk_release();
    run(); /* lives until the store has it */
    CHECK_EQ(store.rows[1].value, 10);
    CHECK_EQ(writes[0].status, 0);
    CHECK(cache_journal_durable(&cache.front.journal) >= 2);
    tear_down();
}

static void the_loop_lives_for_the_journal(void)
{
    prepare(10);
    (void)snprintf(path, sizeof path, "%s/lives", directory);
    caching.journal.path = path;
    caching.write_behind.interval_ms = 100000;
    disk_reset();
    begin();
    disk_is_slow(10000);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    while (writes[0].n_calls == 0)
        CHECK(uv_run(&loop, UV_RUN_ONCE) != 0 || writes[0].n_calls == 1);
    CHECK_EQ(writes[0].status, 0);
    disk_is_slow(0);
    tear_down();
}

static void a_journal_that_fails(void)
{
    set_up_journal("fails");
    disk_fail(CALL_FDATASYNC, 0, 1000, EIO);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    UNTIL(writes[0].n_calls == 1);
    CHECK_EQ(writes[0].status, CACHE_EIO); /* accepted all the same */
    CHECK_EQ(held(1), 10);
    UNTIL(store.rows[1].present); /* then the store is what there is */
    disk_heal();
    CHECK_EQ(put(&writes[0], 1, 11), 0);
    UNTIL(writes[0].n_calls == 1);
    CHECK_EQ(writes[0].status, 0);
    tear_down();
    CHECK_EQ(n_lost, 0);
    CHECK_EQ(store.rows[1].value, 11);
}

static void the_journals_buffer_is_full(void)
{
    uint64_t i;
    int rc = 0;

    prepare(100);
    (void)snprintf(path, sizeof path, "%s/buffer", directory);
    caching.journal.path = path;
    caching.journal.buffer_bytes = 100; /* two writes */
    caching.when_full = CACHE_FULL_PAUSE;
    config.on_writable = writable;
    n_writable = 0;
    disk_reset();
    begin();
    disk_hold();
    for (i = 0; i < 10 && rc == 0; i++)
        rc = plain_async_put(&half, i, 1);
    disk_release();
    CHECK_EQ(rc, CACHE_EFULL);
    CHECK(i >= 3 && i < 10);
    CHECK_EQ(held(i - 1), 0);
    UNTIL(n_writable > 0);
    UNTIL(plain_async_put(&half, i, 1) == 0);
    tear_down();
    CHECK(store.rows[i].present);
    CHECK(!store.rows[i - 1].present);
}

/* Close leaves to the journal what the store does not take, and the next init
 * goes on with it. */
static void the_journal_keeps_what_is_not_stored(void)
{
    static struct cache_flush flush;

    prepare(10);
    (void)snprintf(path, sizeof path, "%s/keeps", directory);
    caching.journal.path = path;
    config.close_timeout_ms = 10;
    disk_reset();
    begin();
    store.fail = CACHE_EIO;
    n_flushed = 0;
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(put_until(&writes[0], 2, 20, CACHE_ACK_STORE), 0);
    CHECK_EQ(plain_async_remove(&half, 3), 0);
    CHECK_EQ(cache_async_flush(&half.base, &flush, flushed), 0);
    CHECK_EQ(put(&writes[1], 4, 40), 0);
    tear_down();
    CHECK_EQ(n_lost, 0);
    CHECK_EQ(n_dead, 0);
    CHECK_EQ(n_flushed, 1);
    CHECK_EQ(flush_status, CACHE_ECLOSED); /* the journal has them */
    CHECK_EQ(writes[0].status, CACHE_ECLOSED);
    CHECK_EQ(writes[1].status, 0);

    set_up_journal("keeps");
    stored(3, 30);
    CHECK_EQ(ask(&asks[0], 2), 1);
    CHECK_EQ(asks[0].out, 20);
    CHECK_EQ(ask(&asks[0], 3), CACHE_EKEY);
    run(); /* by itself */
    CHECK_EQ(store.rows[1].value, 10);
    CHECK_EQ(store.rows[2].value, 20);
    CHECK(!store.rows[3].present);
    CHECK_EQ(store.rows[4].value, 40);
    tear_down();
    set_up_journal("keeps"); /* nothing is left of it */
    CHECK_EQ(cache_wb_n_dirty(&cache.front.writes), 0);
    tear_down();
}

/* Those who wait for the journal are told what has become of it. */
static void close_waits_for_the_journal(void)
{
    set_up_journal("close");
    disk_is_slow(10000);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    CHECK_EQ(writes[0].n_calls, 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(store.rows[1].value, 10);
    disk_is_slow(0);
    tear_down();
    CHECK_EQ(n_lost, 0);
}

/* Neither journal nor store: then it is lost, and that is said. */
static void close_without_journal_and_store(void)
{
    prepare(10);
    (void)snprintf(path, sizeof path, "%s/neither", directory);
    caching.journal.path = path;
    config.close_timeout_ms = 10;
    disk_reset();
    begin();
    store.fail = CACHE_EIO;
    disk_fail(CALL_FDATASYNC, 0, 1000, EIO);
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    CHECK_EQ(put_until(&writes[1], 2, 20, CACHE_ACK_STORE), 0);
    tear_down();
    CHECK_EQ(writes[0].status, CACHE_EIO);
    CHECK(writes[1].status < 0);
    CHECK_EQ(n_lost, 2);
    CHECK_EQ(n_dead, 2);
    disk_heal();
}

/* --- closing ------------------------------------------------------------- */

static void close_sends_what_goes_through(void)
{
    set_up_through();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    turn(1);
    CHECK_EQ(put(&writes[1], 1, 11), 0);
    CHECK_EQ(put(&writes[2], 2, 20), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    CHECK_EQ(put(&writes[3], 3, 30), UV_ECANCELED);
    CHECK_EQ(take_out(&writes[3], 3), UV_ECANCELED);
    turn(3);
    CHECK_EQ(n_closed, 0);
    store.hold = false;
    fake_release(&store);
    tear_down();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(writes[1].status, 0);
    CHECK_EQ(writes[2].status, 0);
    CHECK_EQ(writes[3].n_calls, 0);
    CHECK_EQ(store.rows[1].value, 11);
}

static void close_gives_up_what_was_not_sent(void)
{
    prepare(10);
    write_by(CACHE_WRITE_THROUGH);
    config.close_timeout_ms = 5;
    begin();
    store.hold = true;
    CHECK_EQ(put(&writes[0], 1, 10), 0);
    turn(1);
    CHECK_EQ(put(&writes[1], 1, 11), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    UNTIL(writes[1].n_calls == 1);
    CHECK_EQ(writes[1].status, UV_ECANCELED);
    turn_for(5);
    CHECK_EQ(n_closed, 0); /* the store has a batch */
    fake_release(&store);
    tear_down();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(n_lost, 0);
}

/* When its time is over, close sends nothing more, however much is dirty. */
static void close_stops_sending(void)
{
    prepare(10);
    caching.write_behind.max_batch = 1;
    config.close_timeout_ms = 5;
    begin();
    store.hold = true;
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    CHECK_EQ(plain_async_put(&half, 2, 20), 0);
    CHECK_EQ(plain_async_put(&half, 3, 30), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    turn_for(10);
    CHECK_EQ(store.n_batches, 1);
    store.hold = false;
    fake_release(&store);
    tear_down();
    CHECK_EQ(store.n_batches, 1);
    CHECK_EQ(n_lost, 2);
    CHECK_EQ(n_dead, 2);
}

static void close_retries(void)
{
    set_up(10);
    store.fail = CACHE_ELOCKED;
    CHECK_EQ(put_until(&writes[0], 1, 10, CACHE_ACK_STORE), 0);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    UNTIL(store.n_writes >= 3);
    CHECK_EQ(n_closed, 0);
    store.fail = 0;
    tear_down();
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(n_lost, 0);
}

static const struct test tests[] = {
    TEST(aside),
    TEST(through),
    TEST(a_key_that_is_being_written_is_waited_for),
    TEST(hits_while_a_key_is_written),
    TEST(a_write_that_fails_changes_nothing),
    TEST(writes_of_one_key),
    TEST(two_writes_of_a_key_in_one_turn),
    TEST(so_many_writes_at_once),
    TEST(a_write_overtakes_a_load),
    TEST(what_is_invalidated_does_not_come_back),
    TEST(options_of_what_goes_through),
    TEST(what_cannot_be_encoded),
    TEST(writes_wait_for_claims),
    TEST(around),
    TEST(acknowledged_by_memory),
    TEST(acknowledged_by_the_store),
    TEST(acknowledged_by_config),
    TEST(dead_letters_are_no_acknowledgement),
    TEST(options_of_what_goes_behind),
    TEST(any_clock_will_do),
    TEST(water_marks),
    TEST(full_to_the_brim),
    TEST(writing_from_on_writable),
    TEST(a_request_is_used_again_in_its_callback),
    TEST(a_callback_may_do_anything),
    TEST(close_inside_a_writes_callback),
    TEST(nothing_to_flush),
    TEST(callbacks_that_block),
    TEST(what_is_waited_for_is_there),
    TEST(a_value_that_was_not_written),
    TEST(one_call_for_many),
    TEST(callbacks_behind),
    TEST(stores_that_block),
    TEST(acknowledged_by_the_journal),
    TEST(the_journal_has_it_first),
    TEST(the_loop_lives_for_the_journal),
    TEST(a_journal_that_fails),
    TEST(the_journals_buffer_is_full),
    TEST(the_journal_keeps_what_is_not_stored),
    TEST(close_waits_for_the_journal),
    TEST(close_without_journal_and_store),
    TEST(close_sends_what_goes_through),
    TEST(close_gives_up_what_was_not_sent),
    TEST(close_stops_sending),
    TEST(close_retries),
};

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    int rc;

    (void)snprintf(directory, sizeof directory, "%s/async-write-XXXXXX",
                   tmp ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL)
        return 1;
    rc = TEST_MAIN(argc, argv, tests);
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
