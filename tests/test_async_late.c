/*
 * test_async_late.c - loads on a loop that end after nobody waits for them any
 * more, of keys and values that own memory: both are there for as long as they
 * are needed, and gone in the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cache_async.h"
#include "test.h"

static int n_keys, n_values; /* that were made and not freed */

static int key_copy(const char **key, void *user)
{
    (void)user;
    *key = strdup(*key);
    n_keys++;
    return 0;
}

static void key_free(const char **key, void *user)
{
    (void)user;
    free((void *)(uintptr_t)*key);
    n_keys--;
}

static char *value_make(const char *key)
{
    n_values++;
    return strdup(key);
}

static void left(const char *const *key, char **value, enum cache_cause cause,
                 void *user)
{
    (void)cause;
    (void)user;
    CHECK_STR(*value, *key);
    free(*value);
    n_values--;
}

static int take_long(const char *const *key, char **value,
                     struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    (void)user;
    uv_sleep(60);
    *value = strdup(*key); /* n_values is the loop's */
    return 0;
}

CACHE_DEFINE_LOADING_WITH(texts, const char *, char *, cache_hash_str,
                          cache_equal_str, 0, .key_copy = key_copy,
                          .key_free = key_free, .on_remove = left);
CACHE_ASYNC_DEFINE(texts);

CACHE_DEFINE_LOADING_WITH(slow, const char *, char *, cache_hash_str,
                          cache_equal_str, 0, .key_copy = key_copy,
                          .key_free = key_free, .on_remove = left,
                          .load = take_long);
CACHE_ASYNC_DEFINE(slow);

static uv_loop_t loop;
static struct texts cache;
static struct texts_async async;
static struct texts_batch *batch; /* the latest */
static uv_timer_t timer;
static int n_called, last_status;
static void (*on_callback)(void);

static void load(struct texts_async *a, struct texts_batch *b)
{
    (void)a;
    batch = b;
}

static void called(struct texts_request *req, int status)
{
    (void)req;
    n_called++;
    last_status = status;
    if (on_callback)
        on_callback();
}

static void start(uint64_t load_timeout_ms, uint64_t close_timeout_ms)
{
    const struct texts_loader loader = { .load_batch = load };
    struct cache_loading_config config = { .cache = { .capacity = 100 } };
    struct cache_async_config async_config = { 0 };

    async_config.load_timeout_ms = load_timeout_ms;
    async_config.close_timeout_ms = close_timeout_ms;
    n_keys = n_values = n_called = 0;
    on_callback = NULL;
    batch = NULL;
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(texts_init(&cache, &config), 0);
    CHECK_EQ(texts_async_init(&async, &loop, &cache, &async_config, &loader),
             0);
}

static void finish(void)
{
    (void)cache_async_close(&async.base, NULL);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_SOUND(texts_check(&cache));
    texts_destroy(&cache);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(n_keys, 0);
    CHECK_EQ(n_values, 0);
}

static void fetch(struct texts_request *req, const char *key, char **out)
{
    char *own = strdup(key);

    CHECK_EQ(texts_fetch(&async, req, own, out, called), 0);
    free(own); /* the cache has a copy */
}

static void end_with_values(uv_timer_t *handle)
{
    size_t i;

    for (i = 0; i < batch->n; i++)
        texts_loaded(batch, i, value_make(batch->keys[i]));
    uv_close((uv_handle_t *)handle, NULL);
}

static void end_with_failure(uv_timer_t *handle)
{
    CHECK_STR(batch->keys[1], "two");
    texts_batch_failed(batch, CACHE_ESTORE);
    uv_close((uv_handle_t *)handle, NULL);
}

static void after(uint64_t ms, uv_timer_cb cb)
{
    CHECK_EQ(uv_timer_init(&loop, &timer), 0);
    CHECK_EQ(uv_timer_start(&timer, cb, ms, 0), 0);
}

static void comes_late(uv_timer_cb end)
{
    struct texts_request reqs[2];
    char *out[2];

    start(20, 0);
    fetch(&reqs[0], "one", &out[0]);
    fetch(&reqs[1], "two", &out[1]);
    after(60, end);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(n_called, 2);
    CHECK_EQ(last_status, CACHE_ETIMEOUT);
    CHECK_EQ(async.base.stats.n_late, 2);
    CHECK_EQ(n_keys + n_values, 0);
    finish();
}

static void late_values(void)
{
    comes_late(end_with_values);
}

static void late_failures(void)
{
    comes_late(end_with_failure);
}

/* The same key has been loaded anew meanwhile: that value stays. */
static void loaded_anew(void)
{
    struct texts_request req;
    struct texts_batch *first;
    char *out;

    start(20, 0);
    fetch(&req, "one", &out);
    while (n_called == 0)
        uv_run(&loop, UV_RUN_ONCE);
    first = batch;
    fetch(&req, "one", &out);
    while (batch == first)
        uv_run(&loop, UV_RUN_NOWAIT);
    texts_loaded(batch, 0, value_make("one"));
    CHECK_EQ(n_called, 2);
    CHECK_EQ(last_status, CACHE_FOUND);
    texts_loaded(first, 0, value_make(first->keys[0]));
    CHECK_EQ(n_values, 1);
    CHECK_EQ(n_keys, 1);
    finish();
}

/* Closing does not wait for ever, and the loader may be in the middle. */
static void never_ends(void)
{
    struct texts_request req;
    char *out;

    start(0, 20);
    fetch(&req, "one", &out);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(batch != NULL);
    finish();
    CHECK_EQ(last_status, UV_ECANCELED);
    start(10, 40); /* and when it is overdue */
    fetch(&req, "one", &out);
    while (n_called == 0)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_STR(batch->keys[0], "one");
    finish();
}

static void end_it(void)
{
    on_callback = NULL;
    CHECK_STR(batch->keys[0], "one");
    texts_loaded(batch, 0, value_make(batch->keys[0]));
}

static void fail_all(void)
{
    on_callback = NULL;
    texts_batch_failed(batch, CACHE_ESTORE);
}

/* Who hears that it took too long stops the load, which ends it. */
static void ends_in_the_callback(void)
{
    struct texts_request reqs[2];
    char *out[2];
    int i;

    for (i = 0; i < 2; i++) {
        start(20, 0);
        fetch(&reqs[0], "one", &out[0]);
        fetch(&reqs[1], "two", &out[1]);
        on_callback = i == 0 ? end_it : fail_all;
        while (n_called < 2)
            uv_run(&loop, UV_RUN_ONCE);
        if (i == 0)
            texts_load_failed(batch, 1, CACHE_EKEY);
        finish();
    }
}

static void slow_called(struct slow_request *req, int status)
{
    (void)req;
    n_called++;
    last_status = status;
}

/* A thread of the library's reads the key for as long as it likes. */
static void on_a_thread(void)
{
    struct cache_loading_config config = { .cache = { .capacity = 100 } };
    struct cache_async_config async_config = { .load_timeout_ms = 20 };
    struct slow_request req;
    struct slow_async a;
    struct slow c;
    char *out, *own = strdup("one");

    n_called = n_keys = 0;
    n_values = 1; /* of take_long, once */
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(slow_init(&c, &config), 0);
    CHECK_EQ(slow_async_init(&a, &loop, &c, &async_config, NULL), 0);
    CHECK_EQ(slow_fetch(&a, &req, own, &out, slow_called), 0);
    free(own);
    while (n_called == 0)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_EQ(last_status, CACHE_ETIMEOUT);
    CHECK_EQ(cache_async_close(&a.base, NULL), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    slow_destroy(&c);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(n_keys, 0);
    CHECK_EQ(n_values, 0);
}

static const struct test tests[] = {
    TEST(late_values), TEST(late_failures),        TEST(loaded_anew),
    TEST(never_ends),  TEST(ends_in_the_callback), TEST(on_a_thread)
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
