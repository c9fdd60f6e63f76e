/* first.c - a cache of strings that expire: what the README begins with. */
#include <stdio.h>

#include "cache.h"

static void on_remove(const char *const *host, int *address,
                      enum cache_cause cause, void *user)
{
    (void)user;
    printf("%s (%d) %s\n", *host, *address,
           cause == CACHE_CAUSE_EVICTED ? "was evicted" : "left");
}

CACHE_DEFINE_WITH(hosts, const char *, int, cache_hash_str, cache_equal_str,
                  CACHE_LRU | CACHE_EXPIRY, .on_remove = on_remove);

int main(void)
{
    struct cache_config config = { .capacity = 2, .ttl_ms = 60000 };
    struct hosts cache;
    const int *address;
    int rc = hosts_init(&cache, &config);

    if (rc != 0) {
        fprintf(stderr, "%s\n", cache_strerror(rc));
        return 1;
    }
    hosts_put(&cache, "alpha", 1);
    hosts_put_ttl(&cache, "beta", 2, 5000);
    address = hosts_get(&cache, "alpha"); /* NULL when absent */
    printf("alpha is %d\n", address ? *address : -1);
    hosts_put(&cache, "gamma", 3); /* full: the least recently used leaves */
    printf("beta is %s\n", hosts_contains(&cache, "beta") ? "here" : "gone");
    hosts_destroy(&cache);
    return 0;
}

/* prints:
alpha is 1
beta (2) was evicted
beta is gone
alpha (1) left
gamma (3) left
*/
