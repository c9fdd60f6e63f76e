/*
 * test_async_load.c - loaders on a loop: those of a program, which end each key
 * now or later or never, blocking ones on threads, and stores that block.  Each
 * test ends with uv_loop_close() == 0: nothing was left open.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../cache_async.h"
#include "test.h"

/* --- types --------------------------------------------------------------- */

/* Where blocking loaders wait until the test lets them go on. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int n_inside; /* that wait */
    int n_passed;
    pthread_t last; /* thread that has passed */
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER,
           .changed = PTHREAD_COND_INITIALIZER };

static void gate_pass(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.n_inside++;
    pthread_cond_broadcast(&gate.changed);
    while (!gate.open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    gate.n_inside--;
    gate.n_passed++;
    gate.last = pthread_self();
    pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool open)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = open;
    if (!open)
        gate.n_passed = 0;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

/* Waits until so many are inside. */
static void gate_await(int n)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.n_inside < n)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static int gate_passed(void)
{
    int n;

    pthread_mutex_lock(&gate.lock);
    n = gate.n_passed;
    pthread_mutex_unlock(&gate.lock);
    return n;
}

static int n_texts; /* keys and values that are allocated; of all threads */

static char *text_of(const char *prefix, const char *rest)
{
    char *text = malloc(strlen(prefix) + strlen(rest) + 1);

    if (text == NULL)
        abort();
    (void)__atomic_add_fetch(&n_texts, 1, __ATOMIC_RELAXED);
    return strcat(strcpy(text, prefix), rest);
}

static void text_free(const char *text)
{
    (void)__atomic_sub_fetch(&n_texts, 1, __ATOMIC_RELAXED);
    free((void *)(uintptr_t)text);
}

static int name_copy(const char **key, void *user)
{
    (void)user;
    *key = text_of("", *key);
    return 0;
}

static void name_free(const char **key, void *user)
{
    (void)user;
    text_free(*key);
}

static void text_left(const char *const *key, char **value,
                      enum cache_cause cause, void *user)
{
    (void)cause;
    (void)user;
    CHECK_EQ(strncmp(*value, "the ", 4), 0); /* neither is gone already */
    CHECK_STR(*value + 4, *key);
    text_free(*value);
}

/* Blocks; the value of "x" is "the x", but "no.." is absent. */
static int text_load(const char *const *key, char **value,
                     struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    (void)user;
    gate_pass();
    if (strncmp(*key, "no", 2) == 0)
        return CACHE_EKEY;
    *value = text_of("the ", *key);
    return 0;
}

/* Keys and values that own memory, and a blocking loader. */
CACHE_DEFINE_LOADING_WITH(texts, const char *, char *, cache_hash_str,
                          cache_equal_str, CACHE_LRU, .key_copy = name_copy,
                          .key_free = name_free, .on_remove = text_left,
                          .load = text_load);
CACHE_ASYNC_DEFINE(texts);

static int n_bulk_calls;

static void load_in_bulk(const uint64_t *keys, uint64_t *values,
                         struct cache_loaded *loaded, size_t n, void *user)
{
    size_t i;

    (void)user;
    gate_pass();
    (void)__atomic_add_fetch(&n_bulk_calls, 1, __ATOMIC_RELAXED);
    for (i = 0; i < n; i++) {
        values[i] = keys[i] * 10;
        loaded[i].ttl_ms = keys[i] == 3 ? 100 : 0;
        loaded[i].status = keys[i] == 9 ? CACHE_EKEY : keys[i] == 8 ? 5 : 0;
    }
}

CACHE_DEFINE_LOADING_WITH(bulk, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU,
                          .load_many = load_in_bulk);
CACHE_ASYNC_DEFINE(bulk);

#include "async.h"

/* --- loaders of the program ---------------------------------------------- */

static void ask_range(uint64_t first, uint64_t end)
{
    for (; first < end; first++)
        CHECK_EQ(ask(&asks[first], first), 0);
}

static void keys_end_in_any_order(void)
{
    static const size_t order[] = { 2, 0, 3, 1 };
    size_t i;

    prepare(10);
    load_with(load_later);
    begin();
    ask_range(0, 4);
    CHECK_EQ(n_batches, 0); /* not inside fetch */
    turn(1);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(batches[0]->n, 4);
    CHECK(batches[0]->data == NULL);
    batches[0]->data = &n_batches;
    for (i = 0; i < 4; i++) {
        turn(1);
        CHECK(batches[0]->data == &n_batches); /* it is the program's */
        CHECK_EQ(batches[0]->keys[order[i]], order[i]);
        plain_loaded(batches[0], order[i], order[i] + 100);
        CHECK_EQ(asks[order[i]].n_calls, 1); /* in that call */
        CHECK_EQ(asks[order[i]].out, order[i] + 100);
    }
    CHECK_EQ(half.base.stats.n_batches, 1);
    CHECK_EQ(half.base.stats.n_loads, 4);
    ask_range(4, 5);
    turn(1);
    CHECK(batches[1]->data == NULL); /* of a batch, not of its memory */
    plain_loaded(batches[1], 0, 4);
    tear_down();
}

static void keys_end_inside_the_loader(void)
{
    prepare(10);
    load_with(load_at_once);
    begin();
    ask_range(1, 5);
    CHECK_EQ(asks[1].n_calls, 0);
    run();
    CHECK_EQ(asks[1].n_calls, 1);
    CHECK_EQ(asks[4].out, 40);
    CHECK_EQ(half.base.stats.n_batches, 1);
    tear_down();
}

static void *one_datas[8];

/* Even keys at once, odd ones later. */
static void load_one(struct plain_async *a, struct plain_batch *b, size_t i)
{
    (void)a;
    one_datas[b->keys[i]] = b->data;
    b->data = b;
    if (b->keys[i] % 2 == 0)
        plain_loaded(b, i, b->keys[i] * 10);
    else
        batches[n_batches++] = b;
}

static void one_at_a_time(void)
{
    prepare(10);
    load_with(NULL);
    loader.load_one = load_one;
    begin();
    ask_range(1, 5);
    turn(1);
    CHECK_EQ(asks[2].out, 20);
    CHECK_EQ(asks[4].out, 40);
    CHECK_EQ(n_batches, 2);
    CHECK(batches[0] == batches[1]);
    CHECK(one_datas[1] == NULL);
    CHECK(one_datas[4] == batches[0]);
    plain_loaded(batches[0], 2, 30);
    CHECK_EQ(asks[3].out, 30);
    CHECK_EQ(asks[1].n_calls, 0);
    plain_load_failed(batches[0], 0, CACHE_EIO);
    CHECK_EQ(asks[1].status, CACHE_EIO);
    ask_range(5, 6);
    turn(1);
    CHECK(one_datas[5] == NULL); /* of a batch, not of its memory */
    plain_loaded(batches[2], 0, 50);
    tear_down();
}

static void the_rest_of_a_batch_fails(void)
{
    prepare(10);
    load_with(load_later);
    begin();
    ask_range(0, 4);
    turn(1);
    plain_loaded(batches[0], 2, 20);
    plain_batch_failed(batches[0], CACHE_ESTORE);
    CHECK_EQ(asks[0].status, CACHE_ESTORE);
    CHECK_EQ(asks[1].status, CACHE_ESTORE);
    CHECK_EQ(asks[2].status, CACHE_FOUND);
    CHECK_EQ(asks[3].status, CACHE_ESTORE);
    CHECK_EQ(ask(&asks[3], 3), 0); /* no error throttle: it is asked again */
    turn(1);
    plain_loaded(batches[1], 0, 30);
    CHECK_EQ(asks[3].out, 30);
    tear_down();
}

/* Ends the other key of its batch. */
static void ends_the_other(struct plain_request *req, int status)
{
    answered(req, status);
    plain_loaded(batches[0], 1, 11);
}

static void a_callback_ends_the_rest(void)
{
    prepare(10);
    load_with(load_later);
    begin();
    CHECK_EQ(ask_with(&asks[0], 0, 0, ends_the_other), 0);
    CHECK_EQ(ask(&asks[1], 1), 0);
    turn(1);
    plain_loaded(batches[0], 0, 10);
    CHECK_EQ(asks[1].out, 11);
    CHECK_EQ(asks[0].out, 10);
    tear_down();
}

static void fails_the_rest(struct plain_request *req, int status)
{
    answered(req, status);
    plain_batch_failed(batches[0], CACHE_EIO);
}

static void a_callback_fails_the_rest(void)
{
    prepare(10);
    load_with(load_later);
    begin();
    CHECK_EQ(ask_with(&asks[0], 0, 0, fails_the_rest), 0);
    ask_range(1, 4);
    turn(1);
    plain_batch_failed(batches[0], CACHE_ESTORE);
    CHECK_EQ(asks[0].status, CACHE_ESTORE);
    CHECK_EQ(asks[1].status, CACHE_EIO);
    CHECK_EQ(asks[3].n_calls, 1);
    tear_down();
}

static void a_loader_says_how_long(void)
{
    struct cache_loaded brief = { .ttl_ms = 50 };
    struct cache_loaded lasting = { .ttl_ms = CACHE_NEVER };
    struct cache_loaded mortal = { .ttl_ms = 50, .lifetime_ms = 60 };
    struct cache_loaded wrong = { .version = UINT64_MAX };

    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_ms = 1000;
    begin();
    ask_range(0, 5);
    turn(1);
    plain_loaded_with(batches[0], 0, 10, NULL);
    plain_loaded_with(batches[0], 1, 11, &brief);
    plain_loaded_with(batches[0], 2, 12, &lasting);
    plain_loaded_with(batches[0], 3, 13, &mortal);
    plain_loaded_with(batches[0], 4, 14, &wrong);
    CHECK_EQ(asks[4].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(held(4), 0);
    cache_ms += 70;
    CHECK_EQ(ask(&asks[0], 0), 1);
    CHECK_EQ(asks[0].req.base.status, CACHE_FOUND);
    CHECK_EQ(ask(&asks[1], 1), 1);
    CHECK_EQ(asks[1].req.base.status, CACHE_FOUND_STALE);
    CHECK_EQ(ask(&asks[3], 3), 0); /* gone */
    cache_ms += 1000000;
    CHECK_EQ(ask(&asks[2], 2), 1);
    CHECK_EQ(asks[2].req.base.status, CACHE_FOUND);
    turn(1);
    plain_batch_failed(batches[1], CACHE_EIO);
    tear_down();
}

/* A load that began before its key was written, removed or invalidated is
 * delivered to who waited for it, and never kept. */
static void overtaken_loads(void)
{
    uint64_t i;

    prepare(10);
    load_with(load_later);
    begin();
    ask_range(0, 4);
    turn(1);
    CHECK_EQ(plain_async_put(&half, 0, 99), 0);
    CHECK_EQ(plain_async_remove(&half, 1), 0);
    plain_async_invalidate_key(&half, 2, CACHE_INVALIDATE_HARD);
    CHECK_EQ(ask(&asks[12], 2), 0); /* begins anew */
    plain_async_invalidate(&half, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(ask(&asks[13], 3), 0);
    turn(1);
    CHECK_EQ(n_batches, 2);
    CHECK_EQ(batches[1]->n, 2);
    for (i = 0; i < 4; i++) {
        plain_loaded(batches[0], i, i + 10);
        CHECK_EQ(asks[i].status, CACHE_FOUND_UNSTORED);
        CHECK_EQ(asks[i].out, i + 10);
    }
    CHECK_EQ(asks[12].n_calls + asks[13].n_calls, 0);
    CHECK_EQ(held(0), 99);
    CHECK_EQ(held(1) + held(2) + held(3), 0);
    /* The second load of 2 began before everything was invalidated. */
    plain_batch_failed(batches[1], CACHE_EIO);
    CHECK_EQ(asks[12].status, CACHE_EIO);
    tear_down();
}

/* --- when a batch goes --------------------------------------------------- */

static uint32_t group_of(const uint64_t *key, void *user)
{
    CHECK(user == &store); /* config.cache.user */
    return (uint32_t)(*key / 10);
}

static void a_batch_is_of_one_group(void)
{
    uint64_t key;
    size_t b, i, n = 0;

    prepare(100);
    load_with(load_later);
    loader.group_by = group_of;
    caching.cache.user = &store;
    config.n_groups = 3;
    config.max_batch = 4;
    config.max_batches = 20;
    begin();
    for (key = 0; key < 60; key += 2)
        CHECK_EQ(ask(&asks[key], key), 0);
    turn(1);
    CHECK_EQ(n_batches, 9); /* 10 keys of each of 3 groups: 4, 4 and 2 */
    for (b = 0; b < n_batches; b++) {
        n += batches[b]->n;
        for (i = 0; i < batches[b]->n; i++)
            CHECK_EQ(batches[b]->keys[i] / 10 % 3,
                     batches[b]->keys[0] / 10 % 3);
    }
    CHECK_EQ(n, 30);
    for (b = 0; b < n_batches; b++)
        for (i = batches[b]->n; i-- > 0;)
            plain_loaded(batches[b], i, 1);
    for (key = 0; key < 60; key += 2)
        CHECK_EQ(asks[key].n_calls, 1);
    tear_down();
}

static void keys_wait_for_company(void)
{
    prepare(100);
    load_with(load_later);
    config.max_wait_ms = 20;
    config.max_batch = 4;
    begin();
    ask_range(0, 2);
    turn(1);
    CHECK_EQ(n_batches, 0);
    ask_range(2, 4); /* it is full */
    turn(1);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(batches[0]->n, 4);
    ask_range(4, 5);
    turn(1);
    CHECK_EQ(n_batches, 1);
    UNTIL(n_batches == 2); /* its time is over */
    CHECK_EQ(batches[1]->n, 1);
    plain_batch_failed(batches[0], CACHE_EIO);
    plain_batch_failed(batches[1], CACHE_EIO);
    tear_down();
}

static void so_many_batches_at_once(void)
{
    prepare(100);
    load_with(load_later);
    config.max_batch = 2;
    config.max_batches = 2;
    begin();
    ask_range(0, 7);
    turn(2);
    CHECK_EQ(n_batches, 2);
    plain_loaded(batches[1], 0, 1);
    turn(2);
    CHECK_EQ(n_batches, 2); /* one key of it is still to come */
    plain_loaded(batches[1], 1, 1);
    turn(2);
    CHECK_EQ(n_batches, 3);
    CHECK_EQ(batches[2]->keys[0], 4);
    plain_batch_failed(batches[0], CACHE_EIO);
    plain_batch_failed(batches[2], CACHE_EIO);
    turn(2);
    CHECK_EQ(n_batches, 4);
    CHECK_EQ(batches[3]->n, 1);
    plain_batch_failed(batches[3], CACHE_EIO);
    tear_down();
}

static uint64_t n_chained;

static void asks_the_next(struct plain_request *req, int status)
{
    struct ask *a = (struct ask *)(void *)req;

    CHECK_EQ(status, CACHE_FOUND);
    if (++n_chained < 1000)
        CHECK_EQ(plain_fetch(&half, req, n_chained, &a->out, asks_the_next), 0);
}

/* A loader that is done at once, and callbacks that ask for more, must let the
 * loop turn. */
static void a_chain_of_loads_lets_the_loop_turn(void)
{
    prepare(10);
    load_with(load_at_once);
    begin();
    n_chained = 0;
    CHECK_EQ(ask_with(&asks[0], 0, 0, asks_the_next), 0);
    turn(1);
    CHECK(n_chained >= 1 && n_chained <= 10);
    run();
    CHECK_EQ(n_chained, 1000);
    tear_down();
}

/* --- loads that take too long -------------------------------------------- */

static void overdue_loads(void)
{
    prepare(10);
    load_with(load_later);
    own_clock();
    caching.freshness.ttl_ms = 100;
    caching.freshness.stale_if_error_ms = 1000;
    caching.freshness.error_ttl_ms = 50;
    config.load_timeout_ms = 5;
    config.max_batches = 1;
    begin();
    CHECK_EQ(plain_async_put(&half, 1, 10), 0);
    cache_ms += 200;
    ask_range(0, 3);
    turn(1);
    CHECK_EQ(n_batches, 1);
    plain_loaded(batches[0], 2, 20);
    UNTIL(asks[0].n_calls != 0);
    CHECK_EQ(asks[0].status, CACHE_ETIMEOUT);
    CHECK_EQ(asks[1].status, CACHE_FOUND_STALE); /* it has failed */
    CHECK_EQ(asks[1].out, 10);
    CHECK_EQ(asks[2].out, 20);
    CHECK_EQ(half.base.stats.n_overdue, 1);
    CHECK_EQ(ask(&asks[0], 0), CACHE_ETIMEOUT); /* error_ttl_ms */
    ask_range(3, 4);                            /* the others go on */
    turn(1);
    CHECK_EQ(n_batches, 2);
    plain_loaded(batches[0], 0, 5); /* too late */
    CHECK_EQ(half.base.stats.n_late, 1);
    CHECK_EQ(held(0), 0);
    plain_loaded(batches[1], 0, 30);
    CHECK_EQ(asks[3].out, 30);
    plain_load_failed(batches[0], 1, CACHE_EKEY);
    CHECK_EQ(half.base.stats.n_late, 2);
    CHECK_EQ(held(1), 10);
    tear_down();
}

/* When every batch is with a loader that does not end it, nobody waits for
 * ever: not those who are queued, nor those who come later. */
static void every_batch_is_overdue(void)
{
    prepare(10);
    load_with(load_later);
    config.load_timeout_ms = 3;
    config.max_batches = 1;
    config.max_batch = 1;
    begin();
    ask_range(0, 3);
    UNTIL(asks[0].n_calls + asks[1].n_calls + asks[2].n_calls == 3);
    CHECK_EQ(n_batches, 2);
    CHECK_EQ(asks[0].status, CACHE_ETIMEOUT);
    CHECK_EQ(asks[1].status, CACHE_ETIMEOUT);
    CHECK_EQ(asks[2].status, CACHE_ETIMEOUT);
    ask_range(3, 4);
    run();
    CHECK_EQ(asks[3].status, CACHE_ETIMEOUT);
    plain_loaded(batches[1], 0, 10);
    ask_range(4, 5); /* one is back */
    turn(1);
    CHECK_EQ(n_batches, 3);
    plain_loaded(batches[2], 0, 40);
    CHECK_EQ(asks[4].out, 40);
    plain_loaded(batches[0], 0, 1);
    CHECK_EQ(half.base.stats.n_late, 2);
    tear_down();
}

/* A key whose load is overdue is loaded anew, and what the first one brings
 * then is not taken for the second's. */
static void a_late_value_is_nobodys(void)
{
    prepare(10);
    load_with(load_later);
    config.load_timeout_ms = 3;
    begin();
    ask_range(5, 6);
    UNTIL(asks[5].n_calls == 1);
    CHECK_EQ(ask_with(&asks[6], 5, 0, answered), 0);
    turn(1);
    CHECK_EQ(n_batches, 2);
    plain_loaded(batches[0], 0, 50);
    CHECK_EQ(asks[6].n_calls, 0);
    CHECK_EQ(held(5), 0);
    plain_loaded(batches[1], 0, 51);
    CHECK_EQ(asks[6].out, 51);
    tear_down();
}

static void store_answers_too_late(void)
{
    prepare(10);
    config.load_timeout_ms = 3;
    begin();
    stored(5, 50);
    store.hold = true;
    ask_range(5, 6);
    UNTIL(asks[5].n_calls == 1);
    CHECK_EQ(asks[5].status, CACHE_ETIMEOUT);
    fake_release(&store);
    run();
    CHECK_EQ(half.base.stats.n_late, 1);
    CHECK_EQ(held(5), 0);
    tear_down();
}

/* --- closing ------------------------------------------------------------- */

static void close_waits_for_a_loader(void)
{
    prepare(10);
    load_with(load_later);
    begin();
    ask_range(0, 2);
    turn(1);
    CHECK_EQ(ask(&asks[2], 2), 0); /* will not be sent */
    CHECK_EQ(cache_async_close(&half.base, on_close), 0);
    turn(3);
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(asks[2].status, UV_ECANCELED);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(n_closed, 0);
    plain_loaded(batches[0], 1, 11);
    turn(3);
    CHECK_EQ(n_closed, 0);
    plain_loaded(batches[0], 0, 10);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(held(0), 10); /* what came fills the cache */
    tear_down();
}

static void close_gives_a_loader_up(void)
{
    prepare(10);
    load_with(load_later);
    config.close_timeout_ms = 5;
    begin();
    ask_range(0, 2);
    turn(1);
    tear_down();
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(asks[1].n_calls, 1);
}

static void close_with_overdue_loads(void)
{
    prepare(10);
    load_with(load_later);
    config.load_timeout_ms = 2;
    begin();
    ask_range(0, 2);
    UNTIL(asks[0].n_calls == 1);
    tear_down();
    CHECK_EQ(asks[0].status, CACHE_ETIMEOUT);
}

static void ends_while_closing(uv_check_t *check)
{
    if (half.base.n_open_handles == 0)
        return;
    plain_loaded(batches[0], 0, 10); /* before the handles are closed */
    uv_close((uv_handle_t *)check, NULL);
}

static void a_loader_ends_while_the_handles_close(void)
{
    uv_check_t check;

    prepare(10);
    load_with(load_later);
    config.close_timeout_ms = 5;
    begin();
    ask_range(0, 1);
    turn(1);
    CHECK_EQ(uv_check_init(&loop, &check), 0);
    CHECK_EQ(uv_check_start(&check, ends_while_closing), 0);
    tear_down();
    CHECK(uv_is_closing((uv_handle_t *)&check));
}

static void load_and_close(struct plain_async *a, struct plain_batch *b)
{
    load_later(a, b);
    CHECK_EQ(cache_async_close(&a->base, on_close),
             n_batches == 1 ? 0 : UV_EALREADY);
}

static void a_loader_closes(void)
{
    prepare(10);
    load_with(load_and_close);
    config.max_batch = 1;
    begin();
    ask_range(0, 2);
    turn(3);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(asks[0].status, UV_ECANCELED);
    CHECK_EQ(asks[1].status, UV_ECANCELED);
    plain_loaded(batches[0], 0, 10);
    tear_down();
}

/* --- blocking loaders ---------------------------------------------------- */

struct text_ask {
    struct texts_request req; /* first */
    char *out;
    int status, n_calls;
};

static struct text_ask text_asks[8];
static struct texts strings;
static struct texts_async strings_half;

static void text_answered(struct texts_request *req, int status)
{
    struct text_ask *a = (struct text_ask *)(void *)req;

    a->n_calls++;
    a->status = status;
    if (status >= 0) /* it is there while this runs */
        CHECK_EQ(strncmp(a->out, "the ", 4), 0);
}

static int text_ask(size_t i, const char *key)
{
    memset(&text_asks[i], 0, sizeof text_asks[i]);
    return texts_fetch(&strings_half, &text_asks[i].req, key, &text_asks[i].out,
                       text_answered);
}

static void begin_texts(void)
{
    caching.reads = CACHE_READ_THROUGH;
    gate_set(false);
    n_texts = 0;
    CHECK_EQ(texts_init(&strings, &caching), 0);
    CHECK_EQ(texts_async_init(&strings_half, &loop, &strings, &config, NULL),
             0);
}

static void end_texts(void)
{
    if (strings_half.base.state == CACHE_ASYNC_OPEN)
        CHECK_EQ(cache_async_close(&strings_half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_SOUND(texts_check(&strings));
    CHECK_EQ(strings.front.claims.n_used, 0);
    texts_destroy(&strings);
    CHECK_EQ(n_texts, 0);
}

static void blocking_loaders_have_threads(void)
{
    prepare(10);
    load_with(NULL);
    begin_texts();
    CHECK_EQ(text_ask(0, "cat"), 0);
    CHECK_EQ(text_ask(1, "cat"), 0);
    CHECK_EQ(text_ask(2, "nothing"), 0);
    turn(1);
    gate_await(1);
    turn(10); /* the loop does not wait */
    CHECK_EQ(text_asks[0].n_calls, 0);
    gate_set(true);
    run(); /* and lives until it is back */
    CHECK(!pthread_equal(gate.last, pthread_self()));
    CHECK_EQ(text_asks[0].status, CACHE_FOUND);
    CHECK_STR(text_asks[1].out, "the cat");
    CHECK_EQ(text_asks[2].status, CACHE_EKEY);
    CHECK_EQ(gate_passed(), 2);
    CHECK_EQ(text_ask(3, "cat"), 1);
    CHECK_STR(text_asks[3].out, "the cat");
    end_texts();
}

static void two_workers(void)
{
    prepare(10);
    load_with(NULL);
    config.max_batch = 1;
    config.n_workers = 2;
    begin_texts();
    CHECK_EQ(text_ask(0, "cat"), 0);
    CHECK_EQ(text_ask(1, "dog"), 0);
    CHECK_EQ(text_ask(2, "cow"), 0);
    turn(1);
    gate_await(2); /* both are at work */
    gate_set(true);
    run();
    CHECK_STR(text_asks[0].out, "the cat");
    CHECK_STR(text_asks[1].out, "the dog");
    CHECK_STR(text_asks[2].out, "the cow");
    end_texts();
}

static uv_sem_t pool_sem;

static void occupy(uv_work_t *work)
{
    (void)work;
    uv_sem_wait(&pool_sem);
}

/* libuv's own pool may be as busy as it likes. */
static void the_pool_is_not_used(void)
{
    static uv_work_t works[64];
    size_t i;

    prepare(10);
    load_with(NULL);
    begin_texts();
    CHECK_EQ(uv_sem_init(&pool_sem, 0), 0);
    for (i = 0; i < 64; i++)
        CHECK_EQ(uv_queue_work(&loop, &works[i], occupy, NULL), 0);
    gate_set(true);
    CHECK_EQ(text_ask(0, "cat"), 0);
    UNTIL(text_asks[0].n_calls == 1);
    for (i = 0; i < 64; i++)
        uv_sem_post(&pool_sem);
    run();
    uv_sem_destroy(&pool_sem);
    end_texts();
}

static void close_waits_for_a_thread(void)
{
    prepare(10);
    load_with(NULL);
    config.close_timeout_ms = 2;
    begin_texts();
    CHECK_EQ(text_ask(0, "cat"), 0);
    turn(1);
    gate_await(1);
    CHECK_EQ(cache_async_close(&strings_half.base, on_close), 0);
    turn_for(10);
    CHECK_EQ(text_asks[0].status, UV_ECANCELED);
    CHECK_EQ(n_closed, 0);
    gate_set(true);
    end_texts();
}

/* The key and the value of a load that is overdue live until it has ended, and
 * then no longer. */
static void what_is_late_is_freed(void)
{
    prepare(10);
    load_with(NULL);
    config.load_timeout_ms = 3;
    begin_texts();
    CHECK_EQ(text_ask(0, "cat"), 0);
    turn(1);
    gate_await(1);
    UNTIL(text_asks[0].n_calls == 1);
    CHECK_EQ(text_asks[0].status, CACHE_ETIMEOUT);
    gate_set(true);
    run();
    CHECK_EQ(strings_half.base.stats.n_late, 1);
    CHECK_EQ(n_texts, 0);
    end_texts();
}

static struct texts_batch *strings_batch;

static void text_load_later(struct texts_async *a, struct texts_batch *b)
{
    (void)a;
    strings_batch = b;
}

static void begin_text_loader(void)
{
    struct texts_loader later = { .load_batch = text_load_later };

    strings_batch = NULL;
    n_texts = 0;
    CHECK_EQ(texts_init(&strings, &caching), 0);
    CHECK_EQ(texts_async_init(&strings_half, &loop, &strings, &config, &later),
             0);
}

/* The same with a loader of the program's: of three keys one comes late, one
 * fails late, and one never ends. */
static void what_a_loader_brings_late_is_freed(void)
{
    prepare(10);
    load_with(NULL);
    config.load_timeout_ms = 3;
    begin_text_loader();
    CHECK_EQ(text_ask(0, "cat"), 0);
    CHECK_EQ(text_ask(1, "dog"), 0);
    CHECK_EQ(text_ask(2, "cow"), 0);
    UNTIL(text_asks[0].n_calls == 1);
    CHECK_EQ(text_asks[2].status, CACHE_ETIMEOUT);
    CHECK_STR(strings_batch->keys[0], "cat");
    CHECK_STR(strings_batch->keys[2], "cow");
    texts_loaded(strings_batch, 0, text_of("the ", strings_batch->keys[0]));
    texts_load_failed(strings_batch, 1, CACHE_EIO);
    CHECK_EQ(strings_half.base.stats.n_late, 2);
    end_texts();
}

static void gives_up(struct texts_request *req, int status)
{
    text_answered(req, status);
    CHECK_EQ(status, CACHE_ETIMEOUT);
    texts_batch_failed(strings_batch, CACHE_EIO);
}

/* Who learns that a load is overdue has the loader give the batch up. */
static void a_callback_gives_an_overdue_batch_up(void)
{
    prepare(10);
    load_with(NULL);
    config.load_timeout_ms = 3;
    begin_text_loader();
    CHECK_EQ(text_ask(0, "cat"), 0);
    CHECK_EQ(text_ask(1, "dog"), 0);
    text_asks[0].req.cb = gives_up;
    UNTIL(text_asks[1].n_calls == 1);
    CHECK_EQ(text_asks[0].n_calls, 1);
    CHECK_EQ(text_asks[1].status, CACHE_EIO);
    CHECK_EQ(strings_half.base.stats.n_late, 1);
    CHECK_SOUND(texts_check(&strings));
    end_texts();
}

static void what_close_gives_up_is_freed(void)
{
    prepare(10);
    load_with(NULL);
    config.close_timeout_ms = 3;
    begin_text_loader();
    CHECK_EQ(text_ask(0, "cat"), 0);
    turn(1);
    end_texts();
}

/* A value that is not kept lives until all are told. */
static void what_is_not_kept_is_freed(void)
{
    prepare(10);
    load_with(NULL);
    begin_text_loader();
    CHECK_EQ(text_ask(0, "cat"), 0);
    CHECK_EQ(text_ask(1, "cat"), 0);
    turn(1);
    texts_async_invalidate_key(&strings_half, "cat", CACHE_INVALIDATE_HARD);
    texts_loaded(strings_batch, 0, text_of("the ", "cat"));
    CHECK_EQ(text_asks[0].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(text_asks[1].status, CACHE_FOUND_UNSTORED);
    CHECK_EQ(n_texts, 0);
    end_texts();
}

static struct bulk lots;
static struct bulk_async lots_half;

struct bulk_ask {
    struct bulk_request req; /* first */
    uint64_t out;
    int status, n_calls;
};

static struct bulk_ask bulk_asks[16];

static void bulk_answered(struct bulk_request *req, int status)
{
    struct bulk_ask *a = (struct bulk_ask *)(void *)req;

    a->n_calls++;
    a->status = status;
}

static void bulk_ask_range(uint64_t first, uint64_t end)
{
    for (; first < end; first++) {
        memset(&bulk_asks[first], 0, sizeof bulk_asks[first]);
        CHECK_EQ(bulk_fetch(&lots_half, &bulk_asks[first].req, first,
                            &bulk_asks[first].out, bulk_answered),
                 0);
    }
}

static void end_bulk(void)
{
    CHECK_EQ(cache_async_close(&lots_half.base, on_close), 0);
    run();
    CHECK_EQ(n_closed, 1);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_SOUND(bulk_check(&lots));
    bulk_destroy(&lots);
}

static void one_call_for_many(void)
{
    prepare(20);
    load_with(NULL);
    own_clock();
    caching.reads = CACHE_READ_THROUGH;
    n_bulk_calls = 0;
    gate_set(true);
    CHECK_EQ(bulk_init(&lots, &caching), 0);
    CHECK_EQ(bulk_async_init(&lots_half, &loop, &lots, NULL, NULL), 0);
    bulk_ask_range(1, 10);
    run();
    CHECK_EQ(n_bulk_calls, 1);
    CHECK_EQ(bulk_asks[7].out, 70);
    CHECK_EQ(bulk_asks[8].status, CACHE_EINVAL);
    CHECK_EQ(bulk_asks[9].status, CACHE_EKEY);
    cache_ms += 100;
    bulk_ask_range(3, 4); /* was good for so long */
    run();
    CHECK_EQ(n_bulk_calls, 2);
    end_bulk();
}

/* A type's own loader may be one that blocks, where the program has another. */
static struct bulk_batch *bulk_batch;

static void bulk_later(struct bulk_async *a, struct bulk_batch *b)
{
    (void)a;
    bulk_batch = b;
}

static void the_programs_loader_comes_first(void)
{
    struct bulk_loader later = { .load_batch = bulk_later };

    prepare(20);
    load_with(NULL);
    caching.reads = CACHE_READ_THROUGH;
    n_bulk_calls = 0;
    CHECK_EQ(bulk_init(&lots, &caching), 0);
    CHECK_EQ(bulk_async_init(&lots_half, &loop, &lots, NULL, &later), 0);
    CHECK_EQ(lots_half.base.worker.n, 0); /* nothing blocks: no threads */
    bulk_ask_range(1, 2);
    turn(1);
    bulk_loaded(bulk_batch, 0, 5);
    CHECK_EQ(bulk_asks[1].out, 5);
    CHECK_EQ(n_bulk_calls, 0);
    end_bulk();
}

/* --- stores that block --------------------------------------------------- */

static int slow_submit(struct cache_store *s, struct cache_store_batch *batch)
{
    gate_pass();
    return fake__submit(s, batch);
}

static void a_store_that_blocks_has_a_thread(void)
{
    prepare(10);
    store.store.capabilities |= CACHE_STORE_BLOCKS;
    store.store.submit = slow_submit;
    gate_set(false);
    begin();
    stored(5, 50);
    ask_range(5, 6);
    turn(1);
    gate_await(1);
    turn(5); /* the loop does not wait */
    CHECK_EQ(asks[5].n_calls, 0);
    CHECK_EQ(plain_async_put(&half, 6, 60), 0);
    gate_set(true);
    run();
    CHECK(!pthread_equal(gate.last, pthread_self()));
    CHECK_EQ(asks[5].out, 50);
    CHECK_EQ(store.rows[6].value, 60);
    store.refuse = CACHE_ECLOSED;
    ask_range(7, 8);
    run();
    CHECK_EQ(asks[7].status, CACHE_ECLOSED);
    tear_down();
}

static const struct test tests[] = {
    TEST(keys_end_in_any_order),
    TEST(keys_end_inside_the_loader),
    TEST(one_at_a_time),
    TEST(the_rest_of_a_batch_fails),
    TEST(a_callback_ends_the_rest),
    TEST(a_callback_fails_the_rest),
    TEST(a_loader_says_how_long),
    TEST(overtaken_loads),
    TEST(a_batch_is_of_one_group),
    TEST(keys_wait_for_company),
    TEST(so_many_batches_at_once),
    TEST(a_chain_of_loads_lets_the_loop_turn),
    TEST(overdue_loads),
    TEST(every_batch_is_overdue),
    TEST(a_late_value_is_nobodys),
    TEST(store_answers_too_late),
    TEST(close_waits_for_a_loader),
    TEST(close_gives_a_loader_up),
    TEST(close_with_overdue_loads),
    TEST(a_loader_ends_while_the_handles_close),
    TEST(a_loader_closes),
    TEST(blocking_loaders_have_threads),
    TEST(two_workers),
    TEST(the_pool_is_not_used),
    TEST(close_waits_for_a_thread),
    TEST(what_is_late_is_freed),
    TEST(what_a_loader_brings_late_is_freed),
    TEST(a_callback_gives_an_overdue_batch_up),
    TEST(what_close_gives_up_is_freed),
    TEST(what_is_not_kept_is_freed),
    TEST(one_call_for_many),
    TEST(the_programs_loader_comes_first),
    TEST(a_store_that_blocks_has_a_thread),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
