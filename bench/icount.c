/*
 * icount.c - fixed workloads for icount.sh to count instructions of.
 *
 *   icount POLICY WORKLOAD N
 *
 * makes a cache of 1,000 entries, uint64_t -> uint64_t, and lets the workload
 * run N times: hit, absent (a miss), evict (a put of a new key into a full
 * cache), put (over a value), remove (and put again), many (get_many of 32).  Instructions do not depend on
 * the machine's load, and hardly on its caches: what they cannot show is a line
 * that has to be waited for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include "cache.h"

#define ENTRIES 1000u
#define STEP 0x9e3779b97f4a7c15u /* odd: different i, different keys */
#define MANY 32u

static uint64_t the_time;

static uint64_t now(void *user)
{
    return *(uint64_t *)user;
}

/* One cache type and its loop; noinline, or the compiler would fit the code of
 * one to another. */
#define KIND(kind, options, ttl)                                               \
    CACHE_DEFINE(kind, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,    \
                 options);                                                     \
    static __attribute__((noinline))                                           \
    uint64_t kind##_run(char workload, uint64_t n)                             \
    {                                                                          \
        struct cache_config config = {                                         \
            .capacity = ENTRIES, .ttl_ms = ttl, .seed = 1, .user = &the_time   \
        };                                                                     \
        const uint64_t *values[MANY];                                          \
        uint64_t keys[MANY], sum = 0, i;                                       \
        struct kind c;                                                         \
                                                                               \
        if (ttl)                                                               \
            config.now = now;                                                  \
        if (kind##_init(&c, &config) != 0)                                     \
            exit(2);                                                           \
        for (i = 0; i < 4 * ENTRIES; i++)                                      \
            kind##_put(&c, (i % ENTRIES) * STEP, i);                           \
        for (i = 0; i < n; i++) {                                              \
            uint64_t key = (i * 7 % ENTRIES) * STEP, j;                        \
            const uint64_t *value;                                             \
            switch (workload) {                                                \
            case 'h':                                                          \
                value = kind##_get(&c, key);                                   \
                sum += value ? *value : 0;                                     \
                break;                                                         \
            case 'a': sum += kind##_get(&c, key + 1) == NULL; break;           \
            case 'e': kind##_put(&c, (i + 2 * ENTRIES) * STEP, i); break;      \
            case 'r':                                                          \
                kind##_remove(&c, key);                                        \
                kind##_put(&c, key, i);                                        \
                break;                                                         \
            case 'p': kind##_put(&c, key, i); break;                           \
            default:                                                           \
                for (j = 0; j < MANY; j++)                                     \
                    keys[j] = ((i + j) * 7 % ENTRIES) * STEP;                  \
                sum += kind##_get_many(&c, keys, MANY, values);                \
            }                                                                  \
        }                                                                      \
        kind##_destroy(&c);                                                    \
        return sum;                                                            \
    }                                                                          \
    struct cache__swallow_semicolon
KIND(fifo, CACHE_FIFO, 0);
KIND(lru, CACHE_LRU, 0);
KIND(clock_, CACHE_CLOCK, 0);
KIND(sieve, CACHE_SIEVE, 0);
KIND(s3fifo, CACHE_S3FIFO, 0);
KIND(adaptive, CACHE_ADAPTIVE, 0);
KIND(expiring, CACHE_SIEVE | CACHE_EXPIRY, 60000);

static const struct {
    const char *name;
    uint64_t (*run)(char workload, uint64_t n);
} kinds[] = { { "fifo", fifo_run },         { "lru", lru_run },
              { "clock", clock__run },      { "sieve", sieve_run },
              { "s3fifo", s3fifo_run },     { "adaptive", adaptive_run },
              { "sieve+ttl", expiring_run } };

int main(int argc, char **argv)
{
    size_t i;

    for (i = 0; argc == 4 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(argv[1], kinds[i].name) == 0) {
            uint64_t n = strtoull(argv[3], NULL, 10);

            return kinds[i].run(argv[2][0], n) == 1; /* the sum is needed */
        }
    fputs("usage: icount POLICY hit|absent|evict|put|remove|many N\n", stderr);
    return 2;
}
