/*
 * ours.c - caches of this library that one thread owns, as subjects.
 *
 * SPDX-License-Identifier: MIT
 */
#include "bench.h"
#include "cache.h"

#define INTEGERS(name, options)                                                \
    CACHE_DEFINE(name, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,    \
                 options)

INTEGERS(sieve, CACHE_SIEVE);
#define KIND sieve
#define ITEM u64
#include "ours.h"

INTEGERS(clock_, CACHE_CLOCK);
#define KIND clock_
#define ITEM u64
#include "ours.h"

INTEGERS(lru, CACHE_LRU);
#define KIND lru
#define ITEM u64
#include "ours.h"

INTEGERS(fifo, CACHE_FIFO);
#define KIND fifo
#define ITEM u64
#include "ours.h"

INTEGERS(s3fifo, CACHE_S3FIFO);
#define KIND s3fifo
#define ITEM u64
#include "ours.h"

INTEGERS(adaptive, CACHE_ADAPTIVE);
#define KIND adaptive
#define ITEM u64
#include "ours.h"

/* --- expiry: an hour, by the system's coarse clock ------------------------ */

INTEGERS(sieve_ttl, CACHE_SIEVE | CACHE_EXPIRY);
#define KIND sieve_ttl
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000
#include "ours.h"

/* Of a program that knows the time, as one with an event loop does. */
static const uint64_t known_ms = 1;

INTEGERS(sieve_ttl_now, CACHE_SIEVE | CACHE_EXPIRY);
#define KIND sieve_ttl_now
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000, config.now_ms = &known_ms
#include "ours.h"

INTEGERS(clock_ttl, CACHE_CLOCK | CACHE_EXPIRY);
#define KIND clock_ttl
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000
#include "ours.h"

INTEGERS(lru_ttl, CACHE_LRU | CACHE_EXPIRY);
#define KIND lru_ttl
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000
#include "ours.h"

INTEGERS(s3fifo_ttl, CACHE_S3FIFO | CACHE_EXPIRY);
#define KIND s3fifo_ttl
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000
#include "ours.h"

INTEGERS(adaptive_ttl, CACHE_ADAPTIVE | CACHE_EXPIRY);
#define KIND adaptive_ttl
#define ITEM u64
#define CONFIG ttl_ms = 3600 * 1000
#include "ours.h"

/* --- 32 look-ups at a time, and with pages of 2 MiB ----------------------- */

INTEGERS(sieve_many, CACHE_SIEVE);
#define KIND sieve_many
#define ITEM u64
#define MANY 32
#include "ours.h"

INTEGERS(sieve_huge, CACHE_SIEVE);
#define KIND sieve_huge
#define ITEM u64
#define HUGE_PAGES
#include "ours.h"

INTEGERS(sieve_many_huge, CACHE_SIEVE);
#define KIND sieve_many_huge
#define ITEM u64
#define MANY 32
#define HUGE_PAGES
#include "ours.h"

/* --- strings of 16 to 32 bytes, values of 100 ----------------------------- */

/* A value is made when it is needed: after a miss. */
#define GET_THEN_PUT

/* As one writes it who knows how long a key can be: it is in the entry, and the
 * program has it in that shape.  (To bring it into shape for each look-up, with
 * a memcpy of its length over zeroes, takes longer than the look-up: the hash
 * reads words that two stores made, and waits until both have left the store
 * buffer.) */
struct label {
    char bytes[32];
};

static inline struct label as_label(const text_item *item)
{
    struct label key;

    memcpy(key.bytes, item->bytes, sizeof key.bytes);
    return key;
}

CACHE_STRUCT_KEY(label, struct label, sizeof(struct label));

#define LABELS(name, options)                                                  \
    CACHE_DEFINE(name, struct label, text_value, label_hash, label_equal,      \
                 options)

LABELS(text_sieve, CACHE_SIEVE);
#define KIND text_sieve
#define ITEM text
#define AS_KEY as_label
#include "ours.h"

LABELS(text_clock, CACHE_CLOCK);
#define KIND text_clock
#define ITEM text
#define AS_KEY as_label
#include "ours.h"

LABELS(text_lru, CACHE_LRU);
#define KIND text_lru
#define ITEM text
#define AS_KEY as_label
#include "ours.h"

LABELS(text_adaptive, CACHE_ADAPTIVE);
#define KIND text_adaptive
#define ITEM text
#define AS_KEY as_label
#include "ours.h"

/* As one writes it who does not: the cache has a copy of each key. */
static inline struct cache_bytes as_bytes(const text_item *item)
{
    return (struct cache_bytes) { item->bytes, item->length };
}

static int bytes_copy(struct cache_bytes *key, void *user)
{
    void *copy = malloc(key->len);

    (void)user;
    if (copy == NULL)
        return CACHE_ENOMEM;
    key->data = memcpy(copy, key->data, key->len);
    return 0;
}

static void bytes_free(struct cache_bytes *key, void *user)
{
    (void)user;
    free((void *)(uintptr_t)key->data);
}

CACHE_DEFINE_WITH(text_bytes, struct cache_bytes, text_value, cache_hash_bytes,
                  cache_equal_bytes, CACHE_SIEVE, .key_copy = bytes_copy,
                  .key_free = bytes_free);
#define KIND text_bytes
#define ITEM text
#define AS_KEY as_bytes
#include "ours.h"

#define POLICY (G_HIT | G_EVICT | G_MEMORY)

const struct subject subjects_ours[] = {
    SUBJECT(sieve, "sieve", POLICY | G_TTL | G_BATCH | G_AGED | G_ALONE, NULL),
    SUBJECT(sieve, "sieve_again", POLICY | G_TTL | G_BATCH,
            "the same once more: a ratio this far from 1 means nothing"),
    SUBJECT(clock_, "clock", POLICY | G_TTL | G_AGED | G_ALONE, NULL),
    SUBJECT(lru, "lru", POLICY | G_TTL | G_AGED | G_ALONE, NULL),
    SUBJECT(fifo, "fifo", POLICY, NULL),
    SUBJECT(s3fifo, "s3fifo", POLICY, NULL),
    SUBJECT(adaptive, "adaptive", POLICY | G_TTL | G_AGED | G_ALONE, NULL),
    SUBJECT(sieve_ttl, "sieve+ttl", G_TTL | G_MEMORY, "with CACHE_EXPIRY"),
    SUBJECT(sieve_ttl_now, "sieve+ttl+now_ms", G_TTL,
            "and with config.now_ms, the program's own time"),
    SUBJECT(clock_ttl, "clock+ttl", G_TTL | G_MEMORY, NULL),
    SUBJECT(lru_ttl, "lru+ttl", G_TTL | G_MEMORY, NULL),
    SUBJECT(s3fifo_ttl, "s3fifo+ttl", G_MEMORY, NULL),
    SUBJECT(adaptive_ttl, "adaptive+ttl", G_TTL | G_MEMORY, NULL),
    SUBJECT(sieve_many, "sieve_many", G_BATCH, "name_get_many of 32 keys"),
    SUBJECT(sieve_huge, "sieve_huge", G_BATCH, "config.huge_pages"),
    SUBJECT(sieve_many_huge, "sieve_many_huge", G_BATCH, NULL),
    SUBJECT(text_sieve, "sieve", G_TEXT, NULL),
    SUBJECT(text_sieve, "sieve_again", G_TEXT, NULL),
    SUBJECT(text_clock, "clock", G_TEXT, NULL),
    SUBJECT(text_lru, "lru", G_TEXT, NULL),
    SUBJECT(text_adaptive, "adaptive", G_TEXT, NULL),
    SUBJECT(text_bytes, "sieve_bytes", G_TEXT,
            "keys are struct cache_bytes, .key_copy is a malloc"),
    { .name = NULL },
};
