/* users.c - a cache in front of SQLite on a libuv loop: read-through with
 * fetch, write-behind with put. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cache_async.h"
#include "codecs/cache_raw.h"
#include "stores/cache_sqlite.h"

struct user {
    char name[24];
    uint64_t visits;
};

CACHE_DEFINE_LOADING(users, uint64_t, struct user, cache_hash_u64,
                     cache_equal_u64, 0);
CACHE_ASYNC_DEFINE(users);

/* One look-up: the request, and room for what it finds. */
struct lookup {
    struct users_request req;
    struct user user;
};

static struct users_async async;

static void show(const struct lookup *lookup, const char *how)
{
    printf("%s %s, visit %" PRIu64 "\n", how, lookup->user.name,
           lookup->user.visits);
}

static void loaded(struct users_request *req, int status)
{
    struct lookup *lookup = req->data;

    if (status < 0)
        printf("not found: %s\n", cache_strerror(status));
    else
        show(lookup, "loaded");
}

static void look_up(struct lookup *lookup, uint64_t id)
{
    int rc;

    lookup->req.data = lookup;
    rc = users_fetch(&async, &lookup->req, id, &lookup->user, loaded);
    if (rc == 1) /* a hit: the value is there, no callback comes */
        show(lookup, "cached");
    else if (rc < 0) /* an error: no callback comes */
        printf("failed: %s\n", cache_strerror(rc));
}

static void closed(struct cache_async *a, uint64_t n_lost)
{
    (void)a;
    printf("closed, %" PRIu64 " writes lost\n", n_lost);
}

static void flushed(struct cache_flush *flush, int status)
{
    (void)flush;
    printf("stored: %s\n", cache_strerror(status));
    /* so that the next look-ups go to SQLite */
    users_async_invalidate(&async, CACHE_INVALIDATE_HARD);
}

int main(void)
{
    static struct lookup lookups[4];
    static struct cache_flush flush;
    struct user ann = { .name = "Ann", .visits = 1 };
    char path[] = "users-XXXXXX";
    struct cache_sqlite_config db_config = { .path = path };
    struct cache_codec ids = cache_raw_object(sizeof(uint64_t));
    struct cache_codec values = cache_raw_object(sizeof(struct user));
    struct cache_sqlite db;
    struct cache_loading_config config = { .cache = { .capacity = 1000 },
                                           .reads = CACHE_READ_THROUGH,
                                           .writes = CACHE_WRITE_BEHIND,
                                           .store = &db.store,
                                           .key_codec = &ids,
                                           .value_codec = &values };
    struct users cache;
    int file = mkstemp(path);

    if (file < 0 || close(file) != 0)
        return 1;
    if (cache_sqlite_open(&db, &db_config) != 0) {
        fprintf(stderr, "%s\n", db.message);
        return 1;
    }
    if (users_init(&cache, &config) != 0 ||
        users_async_init(&async, uv_default_loop(), &cache, NULL, NULL) != 0)
        return 1;

    users_async_put(&async, 1, ann); /* in the cache now, in SQLite soon */
    look_up(&lookups[0], 1);
    cache_async_flush(&async.base, &flush, flushed);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);

    look_up(&lookups[1], 1); /* three misses, two keys: one batch */
    look_up(&lookups[2], 1);
    look_up(&lookups[3], 2);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    printf("%" PRIu64 " loads in %" PRIu64 " batch\n", async.base.stats.n_loads,
           async.base.stats.n_batches);

    cache_async_close(&async.base, closed);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    db.store.close(&db.store);
    users_destroy(&cache);
    unlink(path);
    return uv_loop_close(uv_default_loop());
}

/* prints:
cached Ann, visit 1
stored: no error
loaded Ann, visit 1
loaded Ann, visit 1
not found: the key is absent, or present where it must not be
2 loads in 1 batch
closed, 0 writes lost
*/
