/*
 * test_dns.c - examples/dns.c with a resolver of the test's: names that are
 * asked for at once, that do not exist, that nobody can tell, that take long.
 *
 * SPDX-License-Identifier: MIT
 */
#include <uv.h>

#include "test.h"

static int ask_resolver(uv_loop_t *loop, uv_getaddrinfo_t *req,
                        uv_getaddrinfo_cb cb, const char *node,
                        const char *service, const struct addrinfo *hints);
static void free_answer(struct addrinfo *list);

#define uv_getaddrinfo ask_resolver
#define uv_freeaddrinfo free_answer
#define main example_main
#include "../examples/dns.c"
#undef main

/* What the resolver does: it answers when the test says so. */
static struct {
    uv_getaddrinfo_t *req[16];
    uv_getaddrinfo_cb cb[16];
    char name[16][256];
    int n_asked, n_answers, rc;
} resolver;

static uint64_t now_ms;
static uv_loop_t loop;
static struct client clients[16];

static uint64_t now(void *user)
{
    (void)user;
    return now_ms;
}

static int ask_resolver(uv_loop_t *l, uv_getaddrinfo_t *req,
                        uv_getaddrinfo_cb cb, const char *node,
                        const char *service, const struct addrinfo *hints)
{
    int i = resolver.n_asked;

    CHECK(l == &loop && service == NULL && hints->ai_protocol == 0);
    if (resolver.rc != 0)
        return resolver.rc;
    CHECK(i < 16);
    resolver.req[i] = req;
    resolver.cb[i] = cb;
    strcpy(resolver.name[i], node);
    resolver.n_asked++;
    return 0;
}

static void free_answer(struct addrinfo *list)
{
    resolver.n_answers -= list != NULL;
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;

        free(list);
        list = next;
    }
}

/* Ends the i-th question: n addresses 10.0.0.1 .., or an error. */
static void resolve(int i, int status, int n)
{
    struct addrinfo *list = NULL;

    resolver.n_answers += n > 0;
    while (n-- > 0) {
        struct {
            struct addrinfo info;
            struct sockaddr_in address;
        } *one = calloc(1, sizeof *one);

        CHECK(one != NULL);
        one->address.sin_family = AF_INET;
        one->address.sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)n);
        one->info.ai_addr = (struct sockaddr *)&one->address;
        one->info.ai_addrlen = sizeof one->address;
        one->info.ai_next = list;
        list = &one->info;
    }
    resolver.cb[i](resolver.req[i], status, list);
}

static void turn(void)
{
    int i;

    for (i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

static void start(void)
{
    struct cache_loading_config own = config;
    struct cache_async_config own_async = async_config;

    memset(&resolver, 0, sizeof resolver);
    memset(clients, 0x55, sizeof clients);
    now_ms = 1000;
    own.cache.now = now;
    own_async.timeout_ms = 30; /* of the loop's clock, which is the system's */
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(hosts_init(&hosts, &own), 0);
    CHECK_EQ(hosts_async_init(&async, &loop, &hosts, &own_async, &loader), 0);
}

static void finish(void)
{
    CHECK_EQ(cache_async_close(&async.base, NULL), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_SOUND(hosts_check(&hosts));
    hosts_destroy(&hosts);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(resolver.n_answers, 0);
}

/* Asks, and the status is what is known at once, or 77. */
static int asks(int i, const char *name)
{
    clients[i].status = 77;
    ask(&clients[i], name);
    turn();
    return clients[i].status;
}

static void one_lookup_for_all(void)
{
    int i;

    start();
    for (i = 0; i < 10; i++)
        CHECK_EQ(asks(i, i % 2 ? "Example.ORG" : "example.org"), 77);
    CHECK_EQ(resolver.n_asked, 1);
    CHECK_STR(resolver.name[0], "example.org");
    resolve(0, 0, 3);
    turn();
    for (i = 0; i < 10; i++) {
        CHECK_EQ(clients[i].status, CACHE_FOUND);
        CHECK_EQ(clients[i].host.n, 3);
        CHECK_EQ(ntohl(clients[i].host.addresses[2].v4.sin_addr.s_addr),
                 0x0a000003);
    }
    now_ms += 50000;
    CHECK_EQ(asks(0, "example.org"), CACHE_FOUND);
    CHECK_EQ(resolver.n_asked, 1);
    finish();
}

static void more_addresses_than_room(void)
{
    start();
    CHECK_EQ(asks(0, "many"), 77);
    resolve(0, 0, 9);
    CHECK_EQ(clients[0].status, CACHE_FOUND);
    CHECK_EQ(clients[0].host.n, 8);
    finish();
}

static void names_that_do_not_exist(void)
{
    static const int statuses[] = { UV_EAI_NONAME, UV_EAI_NODATA };
    char name[300];
    int i;

    start();
    for (i = 0; i < 2; i++) {
        CHECK_EQ(asks(0, i ? "a" : "b"), 77);
        resolve(2 * i, statuses[i], 0);
        CHECK_EQ(clients[0].status, CACHE_EKEY);
        now_ms += 9000;
        CHECK_EQ(asks(0, i ? "a" : "b"), CACHE_EKEY);
        now_ms += 1000; /* it may exist by now */
        CHECK_EQ(asks(0, i ? "a" : "b"), 77);
        resolve(2 * i + 1, 0, 1);
        CHECK_EQ(clients[0].status, CACHE_FOUND);
    }
    CHECK_EQ(asks(0, "x.invalid"), CACHE_EKEY);
    CHECK_EQ(asks(0, "INVALID"), CACHE_EKEY);
    CHECK_EQ(asks(0, "xinvalid"), 77);
    resolve(4, 0, 1);
    memset(name, 'n', sizeof name);
    name[254] = '\0';
    CHECK_EQ(asks(0, name), CACHE_EKEY);
    name[253] = '\0';
    CHECK_EQ(asks(0, name), 77);
    CHECK_STR(resolver.name[5], name);
    resolve(5, UV_EAI_NONAME, 0);
    finish();
}

/* An old answer serves for an hour while no server answers. */
static void nobody_answers(void)
{
    start();
    CHECK_EQ(asks(0, "a"), 77);
    resolve(0, UV_EAI_AGAIN, 0);
    CHECK_EQ(clients[0].status, UV_EAI_AGAIN);
    CHECK_EQ(asks(0, "a"), UV_EAI_AGAIN); /* for a second, nobody asks */
    now_ms += 1000;
    CHECK_EQ(asks(0, "a"), 77);
    resolve(1, 0, 2);
    CHECK_EQ(clients[0].status, CACHE_FOUND);
    now_ms += 60000;
    CHECK_EQ(asks(0, "a"), 77);
    resolve(2, UV_EAI_AGAIN, 0);
    CHECK_EQ(clients[0].status, CACHE_FOUND_STALE);
    CHECK_EQ(clients[0].host.n, 2);
    CHECK_EQ(asks(0, "a"), CACHE_FOUND_STALE);
    CHECK_EQ(resolver.n_asked, 3);
    now_ms += 3600000;
    CHECK_EQ(asks(0, "a"), 77);
    resolve(3, UV_EAI_FAIL, 0);
    CHECK_EQ(clients[0].status, UV_EAI_FAIL);
    now_ms += 1000;
    CHECK_EQ(asks(0, "a"), 77);
    resolve(4, UV_EAI_NONAME, 0); /* that is an answer */
    CHECK_EQ(clients[0].status, CACHE_EKEY);
    finish();
}

/* What is in use is looked up before it is too old. */
static void refreshed_ahead(void)
{
    start();
    CHECK_EQ(asks(0, "a"), 77);
    resolve(0, 0, 1);
    now_ms += 55000;
    CHECK_EQ(asks(0, "a"), CACHE_FOUND);
    CHECK_EQ(asks(1, "a"), CACHE_FOUND);
    CHECK_EQ(resolver.n_asked, 2);
    resolve(1, 0, 2);
    now_ms += 50000;
    CHECK_EQ(asks(0, "a"), CACHE_FOUND);
    CHECK_EQ(clients[0].host.n, 2);
    CHECK_EQ(resolver.n_asked, 2);
    finish();
}

/* A client gives up, its look-up fills the cache. */
static void deadlines(void)
{
    start();
    CHECK_EQ(asks(0, "a"), 77);
    while (clients[0].status == 77)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_EQ(clients[0].status, UV_ETIMEDOUT);
    resolve(0, 0, 1);
    CHECK_EQ(asks(0, "a"), CACHE_FOUND);
    finish();
}

static void cannot_be_started(void)
{
    start();
    resolver.rc = UV_ENOMEM;
    CHECK_EQ(asks(0, "a"), UV_ENOMEM);
    CHECK_EQ(resolver.n_asked, 0);
    finish();
}

static void answer_at_last(uv_timer_t *timer)
{
    resolve(0, 0, 1);
    uv_close((uv_handle_t *)timer, NULL);
}

/* Closing tells the clients at once, and waits for the resolver. */
static void closed_meanwhile(void)
{
    uv_timer_t timer;

    start();
    CHECK_EQ(asks(0, "a"), 77);
    CHECK_EQ(uv_timer_init(&loop, &timer), 0);
    CHECK_EQ(uv_timer_start(&timer, answer_at_last, 50, 0), 0);
    CHECK_EQ(cache_async_close(&async.base, NULL), 0);
    turn();
    CHECK_EQ(clients[0].status, UV_ECANCELED);
    CHECK_EQ(asks(1, "a"), UV_ECANCELED);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    hosts_destroy(&hosts);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(resolver.n_answers, 0);
}

static const struct test tests[] = {
    TEST(one_lookup_for_all),      TEST(more_addresses_than_room),
    TEST(names_that_do_not_exist), TEST(nobody_answers),
    TEST(refreshed_ahead),         TEST(deadlines),
    TEST(cannot_be_started),       TEST(closed_meanwhile)
};

int main(int argc, char **argv)
{
    (void)example_main;
    return TEST_MAIN(argc, argv, tests);
}
