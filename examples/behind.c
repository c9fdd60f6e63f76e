/* behind.c - counters that are written to a slow service in the background, and
 * survive a crash before the service has them. */
#include <inttypes.h>
#include <stdio.h>

#include "cache_loading.h"
#include "codecs/cache_raw.h"

/* The service: a table that some other program owns. */
static uint64_t table[100];
static int n_calls;
static bool down;

static int load(const uint64_t *id, uint64_t *count,
                struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    (void)user;
    *count = table[*id];
    return *count ? 0 : CACHE_EKEY;
}

struct counters_write;
static void store_many(struct counters_write *writes, size_t n, void *user);

CACHE_DEFINE_LOADING_WITH(counters, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, 0, .load = load,
                          .store_many = store_many);

/* One call for many: the newest value of each. */
static void store_many(struct counters_write *writes, size_t n, void *user)
{
    size_t i;

    (void)user;
    n_calls++;
    for (i = 0; i < n; i++) {
        writes[i].status = down ? CACHE_EIO : 0;
        if (!down)
            table[*writes[i].key] = writes[i].value ? *writes[i].value : 0;
    }
}

static int start(struct counters *counters)
{
    static struct cache_codec codec;
    struct cache_loading_config config = { 0 };

    codec = cache_raw_object(sizeof(uint64_t));
    config.cache.capacity = 1000;
    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_BEHIND;
    config.key_codec = &codec; /* what is dirty is kept as bytes */
    config.value_codec = &codec;
    config.journal.path = "counters.journal"; /* put returns when it is there */
    return counters_init(counters, &config);
}

static void count(struct counters *counters, uint64_t id)
{
    uint64_t n = 0;
    int rc = counters_get(counters, id, &n);

    if (rc >= 0 || rc == CACHE_EKEY)
        rc = counters_put(counters, id, n + 1);
    if (rc < 0)
        printf("%s\n", cache_strerror(rc));
}

int main(void)
{
    struct counters counters;
    uint64_t n_lost;
    int i;

    if (start(&counters) != 0)
        return 1;
    for (i = 0; i < 1000; i++)
        count(&counters, (uint64_t)i % 10);
    printf("%d calls, %d keys are dirty\n", n_calls,
           counters_flush(&counters, 0));
    counters_flush(&counters, 100); /* a program does so now and then */
    printf("%d call, and the table has %" PRIu64 "\n", n_calls, table[3]);

    down = true;
    for (i = 0; i < 50; i++)
        count(&counters, 3);
    /* 10 ms to write what is left.  It cannot be, but it is in the journal. */
    i = counters_close(&counters, 10, &n_lost);
    printf("closed: %d, %" PRIu64 " writes lost, the table has %" PRIu64 "\n",
           i, n_lost, table[3]);
    counters_destroy(&counters);

    down = false;
    if (start(&counters) != 0) /* the same after a crash */
        return 1;
    counters_close(&counters, 1000, &n_lost);
    counters_destroy(&counters);
    printf("after the next start it has %" PRIu64 "\n", table[3]);
    return 0;
}

/* prints:
0 calls, 10 keys are dirty
1 call, and the table has 100
closed: 0, 0 writes lost, the table has 100
after the next start it has 150
*/
