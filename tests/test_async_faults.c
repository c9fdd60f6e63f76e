/*
 * test_async_faults.c - the loop half among what is slow, stuck or short of
 * memory: a full thread pool of libuv's, loaders that never end, stores that
 * answer late or fail for long, allocations that fail.  Other keys go on,
 * deadlines are kept, close ends and nothing is left over.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw */

#include "../cache_async.h"
#include "../stores/cache_sqlite.h"
#include "no_sync.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

/* What is behind the blocking callbacks of `blocking`. */
static struct {
    uv_mutex_t lock;
    uint64_t rows[64];     /* 0 = absent */
    int n_loads, n_writes; /* that have ended */
    int fail;              /* writes get this */
    uv_sem_t *waits_for;   /* each load does, or NULL */
} ground;

static int ground_load(const uint64_t *key, uint64_t *value,
                       struct cache_loaded *loaded, void *user)
{
    (void)loaded, (void)user;
    if (ground.waits_for)
        uv_sem_wait(ground.waits_for);
    uv_mutex_lock(&ground.lock);
    *value = ground.rows[*key];
    ground.n_loads++;
    uv_mutex_unlock(&ground.lock);
    return *value ? 0 : CACHE_EKEY;
}

static int ground_write(const uint64_t *key, uint64_t value)
{
    int rc;

    uv_mutex_lock(&ground.lock);
    rc = ground.fail;
    if (rc == 0)
        ground.rows[*key] = value;
    ground.n_writes++;
    uv_mutex_unlock(&ground.lock);
    return rc;
}

static int ground_store(const uint64_t *key, const uint64_t *value,
                        const struct cache_storing *storing, void *user)
{
    (void)storing, (void)user;
    return ground_write(key, *value);
}

static int ground_remove(const uint64_t *key,
                         const struct cache_storing *storing, void *user)
{
    (void)storing, (void)user;
    return ground_write(key, 0);
}

CACHE_DEFINE_LOADING_WITH(blocking, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU, .load = ground_load,
                          .store = ground_store, .remove = ground_remove);
CACHE_ASYNC_DEFINE(blocking);

#include "async.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char directory[256]; /* of this run */
static int n_paths;

static const char *new_path(const char *kind)
{
    static char path[300];

    (void)snprintf(path, sizeof path, "%s/%d.%s", directory, ++n_paths, kind);
    return path;
}

/* --- a write and what came of it ----------------------------------------- */

enum { PENDING = 1 };

struct write {
    struct plain_write_request request; /* first */
    int status;                         /* PENDING */
};

static struct write writes[64];

static void on_written(struct plain_write_request *request, int status)
{
    struct write *w = (struct write *)(void *)request;

    CHECK_EQ(w->status, PENDING);
    w->status = status;
}

static int put(struct write *w, uint64_t key, uint64_t value,
               enum cache_ack ack)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    how.ack = ack;
    w->status = PENDING;
    return plain_async_put_ack(&half, &w->request, key, value, &how,
                               on_written);
}

/* --- a thread pool that is full ------------------------------------------ */

enum { POOL = 4 };

static struct pool {
    char fifo[300];
    uv_fs_t open;
    uv_work_t sleepers[POOL - 1];
    uv_getaddrinfo_t name;
    uv_sem_t wake;
    int n_done;
} pool;

static void on_open(uv_fs_t *request)
{
    CHECK(request->result >= 0);
    CHECK_EQ(close((int)request->result), 0);
    uv_fs_req_cleanup(request);
    pool.n_done++;
}

static void sleep_in_pool(uv_work_t *work)
{
    (void)work;
    uv_sem_wait(&pool.wake);
}

static void on_awake(uv_work_t *work, int status)
{
    (void)work;
    CHECK_EQ(status, 0);
    pool.n_done++;
}

static void on_name(uv_getaddrinfo_t *request, int status,
                    struct addrinfo *result)
{
    (void)request, (void)status;
    uv_freeaddrinfo(result);
    pool.n_done++;
}

/* All threads of libuv's pool have something to do that does not end, and a
 * name waits for one of them. */
static void fill_pool(void)
{
    size_t i;

    memset(&pool, 0, sizeof pool);
    (void)snprintf(pool.fifo, sizeof pool.fifo, "%s", new_path("fifo"));
    CHECK_EQ(mkfifo(pool.fifo, 0600), 0);
    CHECK_EQ(uv_sem_init(&pool.wake, 0), 0);
    CHECK_EQ(uv_fs_open(&loop, &pool.open, pool.fifo, O_RDONLY, 0, on_open), 0);
    for (i = 0; i < COUNT(pool.sleepers); i++)
        CHECK_EQ(
            uv_queue_work(&loop, &pool.sleepers[i], sleep_in_pool, on_awake),
            0);
    CHECK_EQ(
        uv_getaddrinfo(&loop, &pool.name, on_name, "localhost", NULL, NULL), 0);
}

static void empty_pool(void)
{
    size_t i;
    int fd = open(pool.fifo, O_WRONLY);

    CHECK(fd >= 0);
    for (i = 0; i < COUNT(pool.sleepers); i++)
        uv_sem_post(&pool.wake);
    UNTIL(pool.n_done == POOL + 1);
    CHECK_EQ(close(fd), 0);
    uv_sem_destroy(&pool.wake);
}

/* Loads and writes go on, and the pool does not. */
static void use_half(void)
{
    size_t i;

    for (i = 0; i < 20; i++)
        CHECK_EQ(put(&writes[i], i, 100 + i, CACHE_ACK_STORE), 0);
    for (i = 0; i < 20; i++)
        UNTIL(writes[i].status != PENDING);
    for (i = 0; i < 40; i++)
        (void)ask(&asks[i], i);
    for (i = 0; i < 40; i++) {
        if (asks[i].rc == 0)
            UNTIL(asks[i].n_calls == 1);
        CHECK_EQ(asks[i].rc == 0 ? asks[i].status : asks[i].rc - 1,
                 i < 20 ? 0 : CACHE_EKEY);
    }
    CHECK_EQ(pool.n_done, 0);
}

static void full_pool_and_sqlite(void)
{
    struct cache_sqlite_config db_config = { .path = NULL };
    static struct cache_sqlite db;
    char path[300];

    (void)snprintf(path, sizeof path, "%s", new_path("db"));
    db_config.path = path;
    CHECK_EQ(cache_sqlite_open(&db, &db_config), 0);
    prepare(10);
    caching.store = &db.store;
    begin();
    fill_pool();
    use_half();
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    UNTIL(n_closed == 1);
    CHECK_EQ(pool.n_done, 0);
    empty_pool();
    tear_down();
    db.store.close(&db.store);
}

static void full_pool_and_a_store_that_blocks(void)
{
    prepare(10);
    store.store.capabilities |= CACHE_STORE_BLOCKS;
    begin();
    fill_pool();
    use_half();
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    UNTIL(n_closed == 1);
    CHECK_EQ(pool.n_done, 0);
    empty_pool();
    tear_down();
}

/* --- blocking callbacks -------------------------------------------------- */

static struct blocking slow_cache;
static struct blocking_async slow_half;

static struct slow_ask {
    struct blocking_request request; /* first */
    uint64_t out;
    int status; /* PENDING */
} slow_asks[64];

static struct slow_write_ack {
    struct blocking_write_request request; /* first */
    int status;
} slow_writes[64];

static int n_answered;

static void slow_prepare(void)
{
    memset(&ground, 0, sizeof ground);
    CHECK_EQ(uv_mutex_init(&ground.lock), 0);
    set_up_config(10);
    caching.store = NULL;
    CHECK_EQ(uv_loop_init(&loop), 0);
    n_answered = 0;
}

static int slow_begin(void)
{
    int rc = blocking_init(&slow_cache, &caching);

    if (rc != 0)
        return rc;
    rc = blocking_async_init(&slow_half, &loop, &slow_cache, &config, NULL);
    if (rc != 0)
        blocking_destroy(&slow_cache);
    return rc;
}

/* Closes what slow_begin has opened. */
static void slow_end(void)
{
    CHECK_EQ(cache_async_close(&slow_half.base, on_close), 0);
    run();
    CHECK_SOUND(blocking_check(&slow_cache));
    CHECK_EQ(slow_cache.front.claims.n_used, 0);
    blocking_destroy(&slow_cache);
}

static void slow_tear_down(void)
{
    CHECK_EQ(uv_loop_close(&loop), 0);
    uv_mutex_destroy(&ground.lock);
}

static void slow_answered(struct blocking_request *request, int status)
{
    struct slow_ask *a = (struct slow_ask *)(void *)request;

    CHECK_EQ(a->status, PENDING);
    a->status = status;
    n_answered++;
}

static int slow_ask_for(struct slow_ask *a, uint64_t key)
{
    memset(a, 0, sizeof *a);
    a->status = PENDING;
    return blocking_fetch(&slow_half, &a->request, key, &a->out, slow_answered);
}

static void slow_written(struct blocking_write_request *request, int status)
{
    struct slow_write_ack *w = (struct slow_write_ack *)(void *)request;

    CHECK_EQ(w->status, PENDING);
    w->status = status;
}

static int slow_put(struct slow_write_ack *w, uint64_t key, uint64_t value)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    how.ack = CACHE_ACK_STORE;
    w->status = PENDING;
    return blocking_async_put_ack(&slow_half, &w->request, key, value, &how,
                                  slow_written);
}

static void full_pool_and_blocking_callbacks(void)
{
    size_t i;

    slow_prepare();
    CHECK_EQ(slow_begin(), 0);
    fill_pool();
    for (i = 0; i < 20; i++)
        CHECK_EQ(slow_put(&slow_writes[i], i, 100 + i), 0);
    for (i = 0; i < 20; i++)
        UNTIL(slow_writes[i].status == 0);
    for (i = 0; i < 5; i++) {
        CHECK_EQ(slow_ask_for(&slow_asks[i], i), 0);
        UNTIL(n_answered == (int)i + 1);
        CHECK_EQ(slow_asks[i].out, 100 + i);
    }
    CHECK_EQ(pool.n_done, 0);
    CHECK_EQ(cache_async_close(&slow_half.base, on_close), 0);
    UNTIL(n_closed == 1);
    empty_pool();
    run();
    blocking_destroy(&slow_cache);
    slow_tear_down();
}

static bool stat_done;
static int answered_before_stat;
static uv_sem_t loads_may_end;

static void on_stat(uv_fs_t *request)
{
    size_t i;

    CHECK_EQ(request->result, 0);
    uv_fs_req_cleanup(request);
    stat_done = true;
    answered_before_stat = n_answered;
    for (i = 0; i < 8; i++)
        uv_sem_post(&loads_may_end);
}

/* Eight loads that block are on their way; a file is looked at, and has not to
 * wait for one of them.  (If it had to, that would be for ever.) */
static void blocking_loads_leave_the_pool_alone(void)
{
    uv_fs_t request;
    uint32_t workers;
    size_t i;

    for (workers = 1; workers <= 8; workers += 7) {
        slow_prepare();
        config.n_workers = workers;
        config.max_batch = 1;
        config.max_batches = 8;
        CHECK_EQ(uv_sem_init(&loads_may_end, 0), 0);
        ground.waits_for = &loads_may_end;
        ground.rows[3] = 30;
        CHECK_EQ(slow_begin(), 0);
        stat_done = false;
        for (i = 0; i < 8; i++)
            CHECK_EQ(slow_ask_for(&slow_asks[i], i), 0);
        turn(2);
        CHECK_EQ(slow_half.base.n_out, 8);
        CHECK_EQ(uv_fs_stat(&loop, &request, "/", on_stat), 0);
        UNTIL(n_answered == 8);
        CHECK(stat_done);
        CHECK_EQ(answered_before_stat, 0);
        for (i = 0; i < 8; i++)
            CHECK_EQ(slow_asks[i].status, i == 3 ? 0 : CACHE_EKEY);
        slow_end();
        slow_tear_down();
        uv_sem_destroy(&loads_may_end);
    }
}

/* --- loaders and stores that do not answer ------------------------------- */

static struct {
    struct plain_batch *batch;
    size_t i;
} stuck[256];
static size_t n_stuck;

/* Every tenth key never ends, unless the test ends it. */
static void load_most(struct plain_async *a, struct plain_batch *b, size_t i)
{
    (void)a;
    if (b->keys[i] % 10 == 9) {
        stuck[n_stuck].batch = b;
        stuck[n_stuck++].i = i;
        return;
    }
    plain_loaded(b, i, b->keys[i] * 10);
}

static uint64_t closed_after_ms(void)
{
    uint64_t begun_ms;

    uv_update_time(&loop);
    begun_ms = uv_now(&loop);
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    run();
    uv_update_time(&loop);
    return uv_now(&loop) - begun_ms;
}

static void keys_that_are_never_loaded(void)
{
    uint64_t key;

    n_stuck = 0;
    prepare(200);
    loader.load_one = load_most;
    config.max_batch = 20;
    config.load_timeout_ms = 30;
    config.close_timeout_ms = 40;
    begin();
    for (key = 0; key < 40; key++) /* two batches, each with two of them */
        CHECK_EQ(ask_with(&asks[key], key, key == 9 ? 5 : 0, answered), 0);
    for (key = 0; key < 40; key++)
        UNTIL(asks[key].n_calls == 1);
    for (key = 0; key < 40; key++)
        CHECK_EQ(asks[key].status, key == 9        ? UV_ETIMEDOUT
                                   : key % 10 == 9 ? CACHE_ETIMEOUT
                                                   : 0);
    CHECK_EQ(n_stuck, 4);
    CHECK_EQ(half.base.stats.n_overdue, 2);
    for (key = 50; key < 59; key++) { /* others go on */
        CHECK_EQ(ask(&asks[key], key), 0);
        UNTIL(asks[key].n_calls == 1);
        CHECK_EQ(asks[key].status, 0);
    }
    plain_loaded(stuck[0].batch, stuck[0].i, 7); /* too late: nobody has it */
    CHECK_EQ(half.base.stats.n_late, 1);
    CHECK_EQ(held(9), 0);
    CHECK_EQ(put(&writes[0], 9, 90, CACHE_ACK_MEMORY), 0);
    plain_load_failed(stuck[1].batch, stuck[1].i, CACHE_EIO);
    CHECK_EQ(held(9), 90);
    CHECK_EQ(ask(&asks[60], 69), 0); /* and this one never does, either */
    turn(3);
    CHECK_EQ(n_stuck, 5);
    CHECK(closed_after_ms() < 20000);
    CHECK_EQ(asks[60].status, UV_ECANCELED);
    CHECK_EQ(n_lost, 0);
    tear_down();
}

/* When no batch is left to load with, nobody waits: neither who has asked
 * before, nor who asks then.  One key that ends, and it goes on. */
static void batches_that_are_all_stuck(void)
{
    uint64_t key;
    int i;

    n_stuck = 0;
    prepare(200);
    loader.load_one = load_most;
    config.max_batch = 1;
    config.max_batches = 2;
    config.load_timeout_ms = 10;
    config.close_timeout_ms = 20;
    begin();
    for (i = 0, key = 9; i < 8; i++, key += 10)
        CHECK_EQ(ask(&asks[i], key), 0);
    for (i = 0; i < 8; i++)
        UNTIL(asks[i].n_calls == 1);
    for (i = 0; i < 8; i++)
        CHECK_EQ(asks[i].status, CACHE_ETIMEOUT);
    CHECK_EQ(n_stuck, 4);
    CHECK_EQ(ask(&asks[8], 1), 0);
    UNTIL(asks[8].n_calls == 1);
    CHECK_EQ(asks[8].status, CACHE_ETIMEOUT);
    plain_loaded(stuck[0].batch, stuck[0].i, 7);
    CHECK_EQ(ask(&asks[9], 2), 0);
    UNTIL(asks[9].n_calls == 1);
    CHECK_EQ(asks[9].status, 0);
    CHECK(closed_after_ms() < 20000);
    tear_down();
}

static uv_timer_t later;

static void on_later(uv_timer_t *timer)
{
    store.hold = false;
    fake_release(&store);
    uv_close((uv_handle_t *)timer, NULL);
}

/* A store that answers when nobody waits any more. */
static void store_answers_late(void)
{
    uint64_t key;

    prepare(100);
    config.load_timeout_ms = 10;
    config.max_batch = 4;
    config.max_batches = 2;
    config.close_timeout_ms = 10;
    caching.write_behind.max_in_flight = 2;
    begin();
    for (key = 0; key < 20; key++)
        stored(key, key + 1);
    store.hold = true;
    for (key = 0; key < 20; key++)
        CHECK_EQ(ask_with(&asks[key], key, 1 + key % 3 * 10000, answered), 0);
    CHECK_EQ(put(&writes[0], 3, 33, CACHE_ACK_STORE), 0);
    for (key = 0; key < 20; key++)
        UNTIL(asks[key].n_calls == 1);
    for (key = 0; key < 20; key++)
        CHECK_EQ(asks[key].status,
                 key % 3 == 0 ? UV_ETIMEDOUT : CACHE_ETIMEOUT);
    CHECK_EQ(ask(&asks[30], 3), 1); /* what is dirty is here */
    CHECK_EQ(asks[30].out, 33);
    CHECK_EQ(ask(&asks[31], 5), 0);
    UNTIL(asks[31].n_calls == 1);
    CHECK_EQ(asks[31].status, CACHE_ETIMEOUT);
    store.hold = false;
    fake_release(&store);
    UNTIL(writes[0].status != PENDING);
    CHECK_EQ(writes[0].status, 0);
    CHECK(half.base.stats.n_late > 0);
    for (key = 0; key < 20; key++) { /* nothing of what came late is here */
        CHECK_EQ(held(key), key == 3 ? 33 : 0);
        CHECK_EQ(ask(&asks[key], key), key == 3);
        if (key != 3)
            UNTIL(asks[key].n_calls == 1);
        CHECK_EQ(asks[key].out, key == 3 ? 33 : key + 1);
    }
    store.hold = true; /* again, and for longer than close has */
    CHECK_EQ(ask(&asks[32], 50), 0);
    CHECK_EQ(put(&writes[1], 51, 510, CACHE_ACK_STORE), 0);
    CHECK_EQ(put(&writes[2], 52, 520, CACHE_ACK_STORE), 0);
    turn(3);
    CHECK_EQ(put(&writes[3], 52, 521, CACHE_ACK_STORE), 0);
    CHECK_EQ(uv_timer_init(&loop, &later), 0);
    CHECK_EQ(uv_timer_start(&later, on_later, 60, 0), 0);
    CHECK(closed_after_ms() >= 50);
    CHECK_EQ(asks[32].status, UV_ECANCELED);
    CHECK_EQ(writes[1].status, 0); /* it has been stored after all */
    CHECK_EQ(writes[2].status, 0);
    CHECK_EQ(writes[3].status, CACHE_EDEADLETTER);
    CHECK_EQ(n_lost, 1);
    tear_down();
}

/* A store that fails for long: what is written is here, is tried again and
 * again, and gets there. */
static void store_fails_for_long(void)
{
    uint64_t until_ms, key;

    prepare(100);
    caching.freshness.error_ttl_ms = 50;
    begin();
    store.fail = CACHE_EIO;
    for (key = 0; key < 20; key++)
        CHECK_EQ(put(&writes[key], key, key + 1, CACHE_ACK_STORE), 0);
    CHECK_EQ(ask(&asks[50], 50), 0);
    until_ms = uv_hrtime() / 1000000 + 100;
    while (uv_hrtime() / 1000000 < until_ms) {
        turn(1);
        uv_sleep(1);
    }
    CHECK_EQ(asks[50].status, CACHE_EIO);
    for (key = 0; key < 20; key++) {
        CHECK_EQ(writes[key].status, PENDING);
        CHECK_EQ(ask(&asks[key], key), 1);
        CHECK_EQ(asks[key].out, key + 1);
    }
    CHECK(cache_async_write_stats(&half.base).n_failed >= 60);
    store.fail = 0;
    for (key = 0; key < 20; key++)
        UNTIL(writes[key].status != PENDING);
    for (key = 0; key < 20; key++) {
        CHECK_EQ(writes[key].status, 0);
        CHECK_EQ(store.rows[key].value, key + 1);
    }
    UNTIL(ask(&asks[50], 50) != CACHE_EIO); /* the throttle opens again */
    tear_down();
    CHECK_EQ(n_lost, 0);
}

/* Closing with a store that fails, for each level and with a full buffer. */
static void close_with_a_store_that_fails(void)
{
    uint64_t key;

    prepare(100);
    config.close_timeout_ms = 20;
    caching.write_behind.max_batch = 3;
    begin();
    store.fail = CACHE_EIO;
    for (key = 0; key < 40; key++)
        CHECK_EQ(put(&writes[key], key, key + 1,
                     key % 2 ? CACHE_ACK_STORE : CACHE_ACK_MEMORY),
                 0);
    CHECK(closed_after_ms() < 20000);
    CHECK_EQ(n_lost, 40);
    CHECK_EQ(n_dead, 40);
    for (key = 0; key < 40; key++)
        CHECK_EQ(writes[key].status, key % 2 ? CACHE_EDEADLETTER : 0);
    tear_down();
}

/* --- allocations that fail ----------------------------------------------- */

static int allocations_left; /* atomic: the next one fails at 0 */
static int allocations_live; /* atomic */

static bool allowed(void)
{
    return __atomic_fetch_sub(&allocations_left, 1, __ATOMIC_SEQ_CST) > 0;
}

static void *scarce(size_t bytes, void *user)
{
    void *memory = allowed() ? malloc(bytes) : NULL;

    (void)user;
    (void)__atomic_fetch_add(&allocations_live, memory != NULL,
                             __ATOMIC_SEQ_CST);
    return memory;
}

static void give_back(void *memory, void *user)
{
    (void)user;
    (void)__atomic_fetch_sub(&allocations_live, memory != NULL,
                             __ATOMIC_SEQ_CST);
    free(memory);
}

static int open_files(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Writes and reads, with a memory that may be short: each is answered, some
 * with CACHE_ENOMEM. */
static void use_slow(void)
{
    size_t i;
    int rc, n_asked = 0;

    n_answered = 0;
    for (i = 0; i < 8; i++)
        CHECK_EQ(slow_put(&slow_writes[i], i, 100 + i), 0);
    for (i = 0; i < 16; i++) {
        rc = slow_ask_for(&slow_asks[i], i);
        CHECK(rc == 0 || rc == 1);
        n_asked += rc == 0;
    }
    UNTIL(n_answered == n_asked);
    for (i = 0; i < 8; i++)
        UNTIL(slow_writes[i].status != PENDING);
    for (i = 0; i < 8; i++)
        CHECK_EQ(slow_writes[i].status, 0); /* it is tried again */
    for (i = 8; i < 16; i++)
        CHECK(slow_asks[i].status == CACHE_EKEY ||
              slow_asks[i].status == CACHE_ENOMEM);
}

/* Only one allocation fails, the k-th; or all from then on, while init goes on. */
static int begin_short_of_memory(int k)
{
    int rc;

    __atomic_store_n(&allocations_left, k, __ATOMIC_SEQ_CST);
    rc = slow_begin();
    __atomic_store_n(&allocations_left, 1000000, __ATOMIC_SEQ_CST);
    return rc;
}

static void init_short_of_memory(void)
{
    char path[300];
    int k, rc = CACHE_ENOMEM, files;

    for (k = 0; rc != 0; k++) {
        CHECK(k < 20);
        (void)snprintf(path, sizeof path, "%s", new_path("journal"));
        slow_prepare();
        caching.cache.alloc = scarce;
        caching.cache.free = give_back;
        caching.journal.path = path;
        files = open_files();
        rc = begin_short_of_memory(k);
        CHECK(rc == 0 || rc == CACHE_ENOMEM);
        if (rc != 0) {
            CHECK_EQ(allocations_live, 0);
            CHECK_EQ(open_files(), files);
        } else {
            use_slow();
            slow_end();
            CHECK_EQ(n_lost, 0);
        }
        CHECK_EQ(allocations_live, 0);
        slow_tear_down();
    }
    CHECK(k >= 6); /* cells, front, buffer, journal, loop half */
}

/* The same of what is allocated while it is in use, and while it closes. */
static int fails_at; /* this allocation, of those in use */

static void *scarce_once(size_t bytes, void *user)
{
    void *memory = __atomic_sub_fetch(&fails_at, 1, __ATOMIC_SEQ_CST) == 0
                       ? NULL
                       : malloc(bytes);

    (void)user;
    (void)__atomic_fetch_add(&allocations_live, memory != NULL,
                             __ATOMIC_SEQ_CST);
    return memory;
}

static void use_short_of_memory(void)
{
    int k = 0, left;

    do {
        slow_prepare();
        caching.cache.alloc = scarce_once;
        caching.cache.free = give_back;
        caching.write_behind.max_batch = 3;
        __atomic_store_n(&fails_at, 0, __ATOMIC_SEQ_CST);
        CHECK_EQ(slow_begin(), 0);
        __atomic_store_n(&fails_at, ++k, __ATOMIC_SEQ_CST);
        use_slow();
        slow_end();
        left = __atomic_load_n(&fails_at, __ATOMIC_SEQ_CST);
        CHECK_EQ(n_lost, 0);
        CHECK_EQ(allocations_live, 0);
        slow_tear_down();
    } while (left <= 0 && k < 100);
    CHECK(k > 2); /* there were some */
    CHECK(k < 100);
}

/* libuv's own. */
static int uv_left = 1000000; /* atomic */
static int uv_live, n_uv;     /* atomic */

static void *uv_memory(void *memory)
{
    (void)__atomic_fetch_add(&uv_live, memory != NULL, __ATOMIC_SEQ_CST);
    return memory;
}

static bool uv_allowed(void)
{
    (void)__atomic_fetch_add(&n_uv, 1, __ATOMIC_SEQ_CST);
    return __atomic_fetch_sub(&uv_left, 1, __ATOMIC_SEQ_CST) > 0;
}

static void *uv_scarce_malloc(size_t bytes)
{
    return uv_allowed() ? uv_memory(malloc(bytes)) : NULL;
}

static void *uv_scarce_calloc(size_t n, size_t bytes)
{
    return uv_allowed() ? uv_memory(calloc(n, bytes)) : NULL;
}

static void *uv_scarce_realloc(void *memory, size_t bytes)
{
    if (!uv_allowed())
        return NULL;
    return memory ? realloc(memory, bytes) : uv_memory(malloc(bytes));
}

static void uv_give_back(void *memory)
{
    (void)__atomic_fetch_sub(&uv_live, memory != NULL, __ATOMIC_SEQ_CST);
    free(memory);
}

/* A loop that is there: from init to close, libuv is out of memory, from each
 * of its allocations on. */
static void libuv_short_of_memory(void)
{
    int k, rc = UV_ENOMEM, before, asked = 0;

    for (k = 0; rc != 0 || asked > 0; k++) {
        CHECK(k < 20);
        slow_prepare();
        before = __atomic_load_n(&uv_live, __ATOMIC_SEQ_CST);
        __atomic_store_n(&n_uv, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&uv_left, k, __ATOMIC_SEQ_CST);
        rc = slow_begin();
        CHECK(rc == 0 || rc == UV_ENOMEM);
        if (rc == 0) {
            use_slow();
            slow_end();
            CHECK_EQ(n_lost, 0);
        }
        asked = __atomic_load_n(&n_uv, __ATOMIC_SEQ_CST) - k;
        __atomic_store_n(&uv_left, 1000000, __ATOMIC_SEQ_CST);
        CHECK_EQ(__atomic_load_n(&uv_live, __ATOMIC_SEQ_CST), before);
        slow_tear_down();
    }
    printf("libuv asked for memory %d times\n", k - 1);
}

/* ------------------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(libuv_short_of_memory),
    TEST(full_pool_and_sqlite),
    TEST(full_pool_and_a_store_that_blocks),
    TEST(full_pool_and_blocking_callbacks),
    TEST(blocking_loads_leave_the_pool_alone),
    TEST(keys_that_are_never_loaded),
    TEST(batches_that_are_all_stuck),
    TEST(store_answers_late),
    TEST(store_fails_for_long),
    TEST(close_with_a_store_that_fails),
    TEST(init_short_of_memory),
    TEST(use_short_of_memory),
};

static int remove_entry(const char *name, const struct stat *status, int type,
                        struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(name);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    int rc;

    (void)snprintf(directory, sizeof directory, "%s/test_async_faults.XXXXXX",
                   tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL ||
        setenv("UV_THREADPOOL_SIZE", "4", 1) != 0 ||
        uv_replace_allocator(uv_scarce_malloc, uv_scarce_realloc,
                             uv_scarce_calloc, uv_give_back) != 0) {
        printf("no directory\n0 passed, 1 failed\n");
        return 1;
    }
    rc = TEST_MAIN(argc, argv, tests);
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
