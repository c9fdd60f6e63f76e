/*
 * codegen_probe.c - functions for codegen.sh to look at: one call each, so
 * that what the compiler made of the call is all there is to see.
 *
 * The name says how it is judged: probe_int_ may call no function that moves
 * or compares memory, probe_str_ may call strlen and strcmp, and probe_clock_
 * is only reported: it asks config.now, which is an indirect call by design;
 * probe_shared_ may call its slow path, which is not looked at.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cache_shared.h"

struct pair {
    uint64_t a, b;
};
CACHE_STRUCT_KEY(pair, struct pair, 2 * sizeof(uint64_t));

CACHE_DEFINE(lru, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_LRU);
CACHE_DEFINE(sieve, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE);
CACHE_DEFINE(fifo, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_FIFO);
CACHE_DEFINE(expiring, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_EXPIRY);
CACHE_DEFINE(pairs, struct pair, uint64_t, pair_hash, pair_equal, CACHE_SIEVE);
CACHE_DEFINE_SHARED(shared, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                    CACHE_SIEVE | CACHE_PLAIN_DATA);
CACHE_DEFINE(noted, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_SIEVE | CACHE_META_COUNT | CACHE_META_VERSION);
CACHE_DEFINE_SHARED(shared_noted, uint64_t, uint64_t, cache_hash_u64,
                    cache_equal_u64,
                    CACHE_SIEVE | CACHE_PLAIN_DATA | CACHE_META_COUNT |
                        CACHE_META_VERSION);
CACHE_DEFINE(names, const char *, uint64_t, cache_hash_str, cache_equal_str,
             CACHE_SIEVE);

#define PROBE_GET(probe, cache, K)                                             \
    const uint64_t *probe(struct cache *c, K key);                             \
    const uint64_t *probe(struct cache *c, K key)                              \
    {                                                                          \
        return cache##_get(c, key);                                            \
    }                                                                          \
    struct cache__swallow_semicolon
#define PROBE_CHANGE(cache)                                                    \
    int probe_int_put_##cache(struct cache *c, uint64_t key, uint64_t value);  \
    int probe_int_put_##cache(struct cache *c, uint64_t key, uint64_t value)   \
    {                                                                          \
        return cache##_put(c, key, value);                                     \
    }                                                                          \
    int probe_int_remove_##cache(struct cache *c, uint64_t key);               \
    int probe_int_remove_##cache(struct cache *c, uint64_t key)                \
    {                                                                          \
        return cache##_remove(c, key);                                         \
    }                                                                          \
    struct cache__swallow_semicolon

PROBE_GET(probe_int_get_lru, lru, uint64_t);
PROBE_GET(probe_int_get_sieve, sieve, uint64_t);
PROBE_GET(probe_int_get_fifo, fifo, uint64_t);
PROBE_GET(probe_int_get_noted, noted, uint64_t);
PROBE_GET(probe_int_get_pair, pairs, struct pair);
PROBE_GET(probe_str_get, names, const char *);
PROBE_GET(probe_clock_get, expiring, uint64_t);
PROBE_CHANGE(lru);
PROBE_CHANGE(sieve);

bool probe_shared_get(struct shared *c, uint64_t key, uint64_t *value);
bool probe_shared_get(struct shared *c, uint64_t key, uint64_t *value)
{
    return shared_get(c, key, value);
}

bool probe_shared_get_noted(struct shared_noted *c, uint64_t key,
                            uint64_t *value);
bool probe_shared_get_noted(struct shared_noted *c, uint64_t key,
                            uint64_t *value)
{
    return shared_noted_get(c, key, value);
}
