/*
 * test_dataloader.c - every sentence of util/cache_dataloader.h, on a real loop
 * with a loader that the test holds back.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../util/cache_dataloader.h"
#include "test.h"

static int n_strings; /* that key_copy made and key_free did not free */
static bool copy_fails;

static int string_copy(const char **key, void *user)
{
    char *copy = copy_fails ? NULL : malloc(strlen(*key) + 1);

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

CACHE_DEFINE_LOADING_WITH(words, const char *, uint64_t, cache_hash_str,
                          cache_equal_str, CACHE_LRU, .key_copy = string_copy,
                          .key_free = string_free);
CACHE_ASYNC_DEFINE(words);
CACHE_DATALOADER_DEFINE(word_view, words);

CACHE_DEFINE_LOADING(numbers, uint64_t, uint64_t, cache_hash_u64,
                     cache_equal_u64, CACHE_LRU);
CACHE_ASYNC_DEFINE(numbers);
CACHE_DATALOADER_DEFINE(view, numbers);

/* --- a loop, a cache, and what loads ------------------------------------- */

static uv_loop_t loop;
static struct numbers cache;
static struct numbers_async half;
static struct view all;
static struct numbers_batch *held[16]; /* batches that were not answered */
static int n_held, n_batches;
static uint64_t answer;       /* what is added to a key */
static int n_allocs, fail_at; /* allocation that fails; 0 = none */
static bool hold;

static void *test_alloc(size_t bytes, void *user)
{
    (void)user;
    return ++n_allocs == fail_at ? NULL : malloc(bytes);
}

static void test_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* Keys up to 1000 have a value, to 2000 there is none, others fail. */
static void give(struct numbers_batch *b)
{
    size_t i, n = b->n;

    for (i = 0; i < n; i++) {
        uint64_t key = b->keys[i];

        if (key <= 1000)
            numbers_loaded(b, i, key + answer);
        else
            numbers_load_failed(b, i, key <= 2000 ? CACHE_EKEY : CACHE_EIO);
    }
}

static void load(struct numbers_async *a, struct numbers_batch *b)
{
    (void)a;
    n_batches++;
    if (hold)
        held[n_held++] = b;
    else
        give(b);
}

static void release(void)
{
    hold = false;
    while (n_held > 0)
        give(held[--n_held]);
}

static void set_up(size_t capacity)
{
    struct numbers_loader loader = { .load_batch = load };
    struct cache_loading_config config = { .cache = { .capacity = capacity,
                                                      .alloc = test_alloc,
                                                      .free = test_free } };

    n_held = n_batches = n_allocs = fail_at = 0;
    answer = 10000;
    hold = false;
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(numbers_init(&cache, &config), 0);
    CHECK_EQ(numbers_async_init(&half, &loop, &cache, NULL, &loader), 0);
    view_init(&all, &half, NULL);
}

static void run(void)
{
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

static void tear_down(void)
{
    if (!all.base.ending)
        CHECK_EQ(cache_dataloader_end(&all.base, NULL), 1);
    CHECK_EQ(cache_async_close(&half.base, NULL), 0);
    run();
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_SOUND(numbers_check(&cache));
    numbers_destroy(&cache);
}

/* One load and what came of it. */
struct ask {
    struct view_request req; /* first */
    const uint64_t *value;
    int rc, status, n_calls;
    bool in_call;
};

static void answered(struct view_request *req, int status,
                     const uint64_t *value)
{
    struct ask *ask = (struct ask *)(void *)req;

    CHECK(!ask->in_call);
    CHECK_EQ(value != NULL, status >= 0);
    ask->status = status;
    ask->value = value;
    ask->n_calls++;
}

static int ask(struct ask *a, uint64_t key)
{
    memset(a, 0, sizeof *a);
    a->in_call = true;
    a->rc = view_load(&all, &a->req, key, &a->value, answered);
    a->in_call = false;
    return a->rc;
}

/* --- answers ------------------------------------------------------------- */

static void one_batch_and_one_answer(void)
{
    struct ask asks[100], again[100];
    uint64_t i;

    set_up(1000);
    for (i = 0; i < 100; i++)
        CHECK_EQ(ask(&asks[i], i % 50), 0);
    run();
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(all.base.stats.n_fetched, 50);
    CHECK_EQ(all.base.stats.n_joined, 50);
    for (i = 0; i < 100; i++) {
        CHECK_EQ(asks[i].n_calls, 1);
        CHECK_EQ(asks[i].status, CACHE_FOUND);
        CHECK_EQ(*asks[i].value, 10000 + i % 50);
        CHECK_EQ(ask(&again[i], i % 50), 1);
        CHECK(again[i].value == asks[i % 50].value); /* it stays where it is */
    }
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(all.base.stats.n_remembered, 100);
    tear_down();
}

/* The answer stays, whatever becomes of the shared cache. */
static void an_answer_does_not_change(void)
{
    struct ask first, later, other;
    struct view next;

    set_up(2);
    CHECK_EQ(ask(&first, 1), 0);
    run();
    CHECK_EQ(numbers_async_put(&half, 1, 5), 0);
    numbers_async_invalidate(&half, CACHE_INVALIDATE_HARD);
    CHECK_EQ(ask(&later, 1), 1);
    CHECK_EQ(*later.value, 10001);
    view_init(&next, &half, NULL); /* another request has a view of its own */
    memset(&other, 0, sizeof other);
    answer = 20000;
    CHECK_EQ(view_load(&next, &other.req, 1, &other.value, answered), 0);
    run();
    CHECK_EQ(*other.value, 20001);
    CHECK_EQ(*first.value, 10001);
    CHECK_EQ(cache_dataloader_end(&next.base, NULL), 1);
    tear_down();
}

static void a_hit_of_the_shared_cache(void)
{
    struct ask a;

    set_up(10);
    CHECK_EQ(numbers_async_put(&half, 1, 5), 0);
    CHECK_EQ(ask(&a, 1), 1);
    CHECK_EQ(*a.value, 5);
    CHECK_EQ(n_batches, 0);
    tear_down();
}

static void absence_is_an_answer_and_failure_is_not(void)
{
    struct ask a, b;

    set_up(10);
    CHECK_EQ(ask(&a, 1500), 0);
    CHECK_EQ(ask(&b, 2500), 0);
    run();
    CHECK_EQ(a.status, CACHE_EKEY);
    CHECK_EQ(b.status, CACHE_EIO);
    CHECK_EQ(n_batches, 1);
    CHECK_EQ(ask(&a, 1500), CACHE_EKEY);
    CHECK_EQ(ask(&b, 2500), 0);
    run();
    CHECK_EQ(b.status, CACHE_EIO);
    CHECK_EQ(n_batches, 2);
    CHECK_EQ(all.base.stats.n_fetched, 3);
    tear_down();
}

static void prime(void)
{
    struct ask a;

    set_up(10);
    CHECK_EQ(view_prime(&all, 1, 7), 0);
    CHECK_EQ(view_prime(&all, 1, 8), CACHE_EKEY);
    CHECK_EQ(ask(&a, 1), 1);
    CHECK_EQ(*a.value, 7);
    CHECK_EQ(ask(&a, 2), 0);
    CHECK_EQ(view_prime(&all, 2, 8), CACHE_EKEY); /* it is under way */
    run();
    CHECK_EQ(*a.value, 10002);
    CHECK_EQ(numbers_peek(&cache, 1, &(uint64_t) { 0 }), false);
    tear_down();
}

static void clear(void)
{
    struct ask a, b, c, d;

    set_up(10);
    CHECK_EQ(ask(&a, 1), 0);
    CHECK_EQ(ask(&b, 2), 0);
    run();
    view_clear(&all, 1);
    view_clear(&all, 77); /* is not there */
    numbers_async_invalidate(&half, CACHE_INVALIDATE_HARD);
    answer = 20000;
    CHECK_EQ(ask(&c, 1), 0);
    CHECK_EQ(ask(&d, 2), 1);
    run();
    CHECK_EQ(*a.value, 10001); /* the pointer is good until the end */
    CHECK_EQ(*c.value, 20001);
    CHECK_EQ(*d.value, 10002);
    cache_dataloader_clear(&all.base);
    CHECK_EQ(ask(&d, 2), 0);
    run();
    CHECK_EQ(*d.value, 20002);
    tear_down();
}

/* Who waits gets what it waited for; who asks afterwards asks anew. */
static void clear_while_it_is_loaded(void)
{
    struct ask a, b;

    set_up(10);
    hold = true;
    CHECK_EQ(ask(&a, 1), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_EQ(n_held, 1);
    view_clear(&all, 1);
    CHECK_EQ(ask(&b, 1), 0);
    CHECK_EQ(all.base.stats.n_fetched, 2);
    release();
    run();
    CHECK_EQ(*a.value, 10001);
    CHECK_EQ(*b.value, 10001);
    CHECK(a.value != b.value);
    tear_down();
}

/* --- callbacks ----------------------------------------------------------- */

static struct ask deeper[4];

static void go_deeper(struct view_request *req, int status,
                      const uint64_t *value)
{
    struct ask *a = (struct ask *)(void *)req;
    int level = (int)(a - deeper);

    answered(req, status, value);
    if (level < 3)
        CHECK_EQ(view_load(&all, &deeper[level + 1].req, (uint64_t)level + 2,
                           &deeper[level + 1].value, go_deeper),
                 0);
}

static void loads_within_callbacks(void)
{
    set_up(10);
    memset(deeper, 0, sizeof deeper);
    CHECK_EQ(view_load(&all, &deeper[0].req, 1, &deeper[0].value, go_deeper),
             0);
    run();
    CHECK_EQ(*deeper[3].value, 10004);
    CHECK_EQ(n_batches, 4);
    tear_down();
}

static int n_again;

static void ask_again(struct view_request *req, int status,
                      const uint64_t *value)
{
    const uint64_t *out;

    (void)value;
    CHECK_EQ(status, CACHE_EIO);
    if (++n_again < 5)
        CHECK_EQ(view_load(&all, req, 3000, &out, ask_again), 0);
}

static void a_request_is_used_again_in_its_callback(void)
{
    struct view_request req;
    const uint64_t *out;

    set_up(10);
    memset(&req, 0, sizeof req);
    n_again = 0;
    CHECK_EQ(view_load(&all, &req, 3000, &out, ask_again), 0);
    run();
    CHECK_EQ(n_again, 5);
    CHECK_EQ(n_batches, 5);
    tear_down();
}

/* --- the end ------------------------------------------------------------- */

static int n_ended;

static void ended(struct cache_dataloader *v)
{
    CHECK(v == &all.base);
    n_ended++;
}

static void end_while_it_loads(void)
{
    struct ask asks[40];
    uint64_t i;

    set_up(100);
    n_ended = 0;
    hold = true;
    for (i = 0; i < 40; i++)
        CHECK_EQ(ask(&asks[i], i % 35), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_EQ(cache_dataloader_end(&all.base, ended), 0);
    CHECK_EQ(cache_dataloader_end(&all.base, ended), UV_EALREADY);
    CHECK_EQ(n_ended, 0);
    CHECK_EQ(view_prime(&all, 1, 1), UV_ECANCELED);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_EQ(n_ended, 1);
    for (i = 0; i < 40; i++) {
        CHECK_EQ(asks[i].n_calls, 1);
        CHECK_EQ(asks[i].status, UV_ECANCELED);
    }
    release();
    run();
    CHECK_EQ(numbers_len(&cache), 35); /* the loads went on */
    CHECK_EQ(n_ended, 1);
    tear_down();
}

static void end_in_a_callback(struct view_request *req, int status,
                              const uint64_t *value)
{
    answered(req, status, value);
    CHECK_EQ(cache_dataloader_end(&all.base, ended), 0);
}

static void end_within_a_callback(void)
{
    struct ask a, b, c;

    set_up(10);
    n_ended = 0;
    memset(&a, 0, sizeof a);
    CHECK_EQ(view_load(&all, &a.req, 1, &a.value, end_in_a_callback), 0);
    CHECK_EQ(ask(&b, 1), 0);
    CHECK_EQ(ask(&c, 2), 0);
    run();
    CHECK_EQ(n_ended, 1);
    CHECK_EQ(a.n_calls + b.n_calls + c.n_calls, 3);
    CHECK_EQ(b.status, CACHE_FOUND); /* the same load: it was there */
    CHECK_EQ(view_load(&all, &a.req, 1, &a.value, answered), UV_ECANCELED);
    tear_down();
}

/* --- keys and memory ----------------------------------------------------- */

static void load_words(struct words_async *a, struct words_batch *b, size_t i)
{
    (void)a;
    words_loaded(b, i, strlen(b->keys[i]));
}

static uint64_t word_length;

static void word_came(struct word_view_request *req, int status,
                      const uint64_t *value)
{
    (void)req;
    CHECK_EQ(status, 0);
    word_length = *value;
}

static void keys_that_are_pointers(void)
{
    struct words_loader loader = { .load_one = load_words };
    struct cache_loading_config config = { .cache = { .capacity = 10 } };
    struct word_view_request req;
    struct words_async on_loop;
    struct words shared;
    struct word_view v;
    char key[] = "hello";
    const uint64_t *out;

    n_strings = 0;
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(words_init(&shared, &config), 0);
    CHECK_EQ(words_async_init(&on_loop, &loop, &shared, NULL, &loader), 0);
    word_view_init(&v, &on_loop, NULL);
    memset(&req, 0, sizeof req);
    CHECK_EQ(word_view_load(&v, &req, key, &out, word_came), 0);
    strcpy(key, "gone");
    run();
    CHECK_EQ(word_length, 5);
    CHECK_EQ(word_view_load(&v, &req, "hello", &out, word_came), 1);
    copy_fails = true;
    CHECK_EQ(word_view_load(&v, &req, "other", &out, word_came), CACHE_ENOMEM);
    copy_fails = false;
    CHECK_EQ(cache_dataloader_end(&v.base, NULL), 1);
    CHECK_EQ(cache_async_close(&on_loop.base, NULL), 0);
    run();
    CHECK_EQ(uv_loop_close(&loop), 0);
    words_destroy(&shared);
    CHECK_EQ(n_strings, 0);
}

static void many_keys_and_no_memory(void)
{
    static struct ask asks[2000];
    int k, n_failed;
    uint64_t i;

    for (k = 1; k < 30; k++) {
        set_up(1000);
        fail_at = n_allocs + k;
        n_failed = 0;
        for (i = 0; i < 1000; i++)
            n_failed += ask(&asks[i], i) == CACHE_ENOMEM;
        CHECK(n_failed <= 1);
        run();
        for (i = 0; i < 1000; i++)
            CHECK(asks[i].rc == CACHE_ENOMEM || *asks[i].value == 10000 + i);
        for (i = 0; i < 1000; i++)
            CHECK(ask(&asks[1000 + i], i) >= 0);
        run();
        for (i = 0; i < 1000; i++)
            CHECK(asks[i].rc == CACHE_ENOMEM ||
                  asks[1000 + i].value == asks[i].value);
        tear_down();
    }
}

static const struct test tests[] = {
    TEST(one_batch_and_one_answer),
    TEST(an_answer_does_not_change),
    TEST(a_hit_of_the_shared_cache),
    TEST(absence_is_an_answer_and_failure_is_not),
    TEST(prime),
    TEST(clear),
    TEST(clear_while_it_is_loaded),
    TEST(loads_within_callbacks),
    TEST(a_request_is_used_again_in_its_callback),
    TEST(end_while_it_loads),
    TEST(end_within_a_callback),
    TEST(keys_that_are_pointers),
    TEST(many_keys_and_no_memory),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
