/*
 * ours_shared.c - caches of this library that threads share, as subjects.
 *
 * SPDX-License-Identifier: MIT
 */
#include "bench.h"
#include "cache_shared.h"

#define SHARED_INTEGERS(name, options)                                         \
    CACHE_DEFINE_SHARED(name, uint64_t, uint64_t, cache_hash_u64,              \
                        cache_equal_u64, (options) | CACHE_PLAIN_DATA)
#define SHARED

SHARED_INTEGERS(shared_sieve, CACHE_SIEVE);
#define KIND shared_sieve
#define ITEM u64
#include "ours.h"

SHARED_INTEGERS(shared_clock, CACHE_CLOCK);
#define KIND shared_clock
#define ITEM u64
#include "ours.h"

SHARED_INTEGERS(shared_lru, CACHE_LRU);
#define KIND shared_lru
#define ITEM u64
#include "ours.h"

SHARED_INTEGERS(shared_s3fifo, CACHE_S3FIFO);
#define KIND shared_s3fifo
#define ITEM u64
#include "ours.h"

SHARED_INTEGERS(shared_adaptive, CACHE_ADAPTIVE);
#define KIND shared_adaptive
#define ITEM u64
#include "ours.h"

const struct subject subjects_shared[] = {
    SUBJECT(shared_sieve, "shared_sieve", G_SHARED, "with CACHE_PLAIN_DATA"),
    SUBJECT(shared_sieve, "shared_sieve_again", G_SHARED, NULL),
    SUBJECT(shared_clock, "shared_clock", G_SHARED, NULL),
    SUBJECT(shared_lru, "shared_lru", G_SHARED, NULL),
    SUBJECT(shared_s3fifo, "shared_s3fifo", G_SHARED, NULL),
    SUBJECT(shared_adaptive, "shared_adaptive", G_SHARED, NULL),
    { .name = NULL },
};
