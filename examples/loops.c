/* loops.c - a server with two loops: each has a cache of its own, that
 * it reads without a lock; what one of them changes, the other forgets.  The
 * main thread, which has no loop, asks them. */
#include <inttypes.h>
#include <stdio.h>

#include "cache_async_remote.h"

static _Atomic uint64_t prices[] = { 100, 200, 300 }; /* the database */

/* Blocks: so it is called on threads of the library's, one for each loop. */
static int load(const uint64_t *id, uint64_t *price,
                struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    *price = prices[*id];
    printf("loop %d loads %" PRIu64 "\n", *(int *)user, *id);
    return 0;
}

CACHE_DEFINE_LOADING_WITH(shop, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, 0, .load = load);
CACHE_ASYNC_DEFINE(shop);
CACHE_ASYNC_REMOTE_DEFINE(shop);

static struct cache_group group;

static struct server {
    struct shop_async async;
    struct shop cache;
    struct shop_remote remote;
    struct cache_member member;
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t stop;
    int number;
} servers[2];

static void on_stop(uv_async_t *handle)
{
    struct server *s = (struct server *)handle->data;

    cache_async_close(&s->async.base, NULL);
    uv_close((uv_handle_t *)handle, NULL);
}

static void run(void *arg)
{
    uv_run(&((struct server *)arg)->loop, UV_RUN_DEFAULT);
}

static int start(struct server *s)
{
    struct cache_loading_config config = { .cache = { .capacity = 1000,
                                                      .user = &s->number },
                                           .reads = CACHE_READ_THROUGH };

    s->number = (int)(s - servers) + 1;
    s->stop.data = s;
    return uv_loop_init(&s->loop) || shop_init(&s->cache, &config) ||
           shop_async_init(&s->async, &s->loop, &s->cache, NULL, NULL) ||
           cache_group_join(&group, &s->member, &s->async.base, 0) ||
           shop_remote_init(&s->remote, &s->async, 0, NULL) ||
           uv_async_init(&s->loop, &s->stop, on_stop) ||
           uv_thread_create(&s->thread, run, s);
}

static void ask(struct server *s, uint64_t id)
{
    uint64_t price = 0;
    int rc = shop_remote_fetch(&s->remote, id, &price, 1000);

    printf("loop %d says %" PRIu64 " (%d)\n", s->number, price, rc);
}

int main(void)
{
    int i;

    cache_group_init(&group);
    if (start(&servers[0]) != 0 || start(&servers[1]) != 0)
        return 1;
    for (i = 0; i < 4; i++)
        ask(&servers[i % 2], 1); /* each loads it once */
    prices[1] = 250;
    if (shop_remote_remove(&servers[0].remote, 1) != 0)
        return 1;
    for (i = 0; i < 2; i++)
        ask(&servers[i], 1); /* both have forgotten it */
    for (i = 0; i < 2; i++) {
        uv_async_send(&servers[i].stop);
        uv_thread_join(&servers[i].thread);
        uv_loop_close(&servers[i].loop);
        cache_remote_destroy(&servers[i].remote.base);
        shop_destroy(&servers[i].cache);
    }
    cache_group_destroy(&group);
    return 0;
}

/* prints:
loop 1 loads 1
loop 1 says 200 (0)
loop 2 loads 1
loop 2 says 200 (0)
loop 1 says 200 (0)
loop 2 says 200 (0)
loop 1 loads 1
loop 1 says 250 (0)
loop 2 loads 1
loop 2 says 250 (0)
*/
