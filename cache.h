/*
 * cache.h - typed, bounded, in-process caches for C and C++.
 *
 * WHAT IT DOES
 *   CACHE_DEFINE makes a cache type for a key type and a value type of your
 *   own.  A cache holds at most `capacity` entries; when it is full, the
 *   policy that you named (cache_policies.h) chooses who leaves.  Entries may
 *   expire.  One allocation when it is made, none afterwards.
 *
 *   EXAMPLE
 *     #include "cache.h"
 *
 *     CACHE_DEFINE(ages, uint64_t, int, cache_hash_u64, cache_equal_u64,
 *                  CACHE_SIEVE | CACHE_EXPIRY);
 *
 *     struct ages cache;
 *     struct cache_config config = { .capacity = 1000, .ttl_ms = 60000 };
 *     if (ages_init(&cache, &config) != 0) ...
 *     ages_put(&cache, 7, 42);
 *     const int *age = ages_get(&cache, 7);      // NULL when absent
 *     ages_destroy(&cache);
 *
 * MEMORY LAYOUT
 *   A slot is a 32-bit number that stays with its entry for life.
 *
 *     heads    2 x capacity     first word of each chain        [ 0 3 0 1 .. ]
 *     chain    1 or 2 words     next word of the chain (, hash)    |
 *     policy   by policy        links, marks                       v
 *     expire   1 word, if on    deadline in ticks, 0 = never     slot 3
 *     nodes    key and value    struct name_node                 { key, value }
 *
 *   All arrays but `heads` are indexed by slot and stand in one block of
 *   name_memory_needed() bytes.  Slot 0 means none.  A word of a chain is a
 *   slot; the bits that no slot needs hold a tag, bits of the key's hash, so
 *   most keys that are not the right one are passed without a look at them.
 *   Deleting is one line: there are no tombstones and no rehash, and a cache
 *   that has evicted fifty million entries is as fast as a fresh one.
 *
 * THREADS
 *   None: a cache belongs to one thread, or to a lock of yours.
 *
 * OWNERSHIP AND LIFETIME
 *   - get, peek and get_or_insert return `const V *`.  It is valid until the
 *     next put, remove, clear, compute or tick of that cache; look-ups never
 *     remove anything.  Change a value through put or compute.
 *   - put(k, *get(k)) works: arguments are copied before anything is moved.
 *     (For plain values; what the old value owns, on_remove is about to get.)
 *   - Key and value are copied by assignment.  What they point to is borrowed,
 *     unless .key_copy and .key_free are given; they run when a key enters
 *     and leaves.  A replace keeps the stored key.
 *   - Each value that leaves is given to .on_remove exactly once.
 *   - A call that returns an error has changed nothing, and key and value
 *     stay with the caller.  After an init that failed there is nothing to
 *     destroy.
 *
 * COST
 *   12 bytes per entry beside key and value, + 4 with CACHE_EXPIRY, + 4 with
 *   CACHE_KEEP_HASH, + the policy's (cache_policies.h).  What is off costs
 *   no byte and no instruction; without CACHE_EXPIRY the clock is never read.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__linux__)
#include <sys/random.h>
#endif

#include "cache_policies.h"

#define CACHE_VERSION_MAJOR 0
#define CACHE_VERSION_MINOR 1
#define CACHE_VERSION_PATCH 0
#define CACHE_VERSION                                                          \
    (CACHE_VERSION_MAJOR * 10000 + CACHE_VERSION_MINOR * 100 +                 \
     CACHE_VERSION_PATCH)

/* Called with 0 for a mistake of the caller; define it before inclusion to
 * have your own.  Without NDEBUG it is assert(). */
#ifndef CACHE_ASSERT
#include <assert.h>
#define CACHE_ASSERT(condition) assert(condition)
#endif

#ifdef __cplusplus
#define CACHE__STATIC_ASSERT static_assert
#define CACHE__NULL_DEFAULT = nullptr
#else
#define CACHE__STATIC_ASSERT _Static_assert
#define CACHE__NULL_DEFAULT
#endif

/* --- options ------------------------------------------------------------- */

/*
 * The last argument of CACHE_DEFINE: one policy | any features.
 *
 * A policy code has three of the six low bits set, so two of them combined
 * are never a third one, and the compiler says so.
 */
enum cache_option {
    CACHE_FIFO = 0x07,  /* first in, first out */
    CACHE_LRU = 0x0b,   /* least recently used leaves */
    CACHE_SIEVE = 0x0d, /* LRU's simpler and mostly better successor */

    CACHE_EXPIRY = 0x100,    /* entries may have a time to live */
    CACHE_STATS = 0x200,     /* count hits, misses, evictions, ... */
    CACHE_KEEP_HASH = 0x400, /* store 32 bits of hash: for keys whose equality
                                is dear; always on for keys that are pointers
                                or struct cache_bytes */

    CACHE__POLICY_BITS = 0x3f,
    CACHE__FEATURE_BITS = 0x700
};

#define CACHE__IS_POLICY(options)                                              \
    (((options)&CACHE__POLICY_BITS) == CACHE_FIFO ||                           \
     ((options)&CACHE__POLICY_BITS) == CACHE_LRU ||                            \
     ((options)&CACHE__POLICY_BITS) == CACHE_SIEVE)

/* Why a value left the cache. */
enum cache_cause {
    CACHE_CAUSE_REPLACED, /* another value was put under its key */
    CACHE_CAUSE_REMOVED,  /* remove, or compute that asked for it */
    CACHE_CAUSE_EXPIRED,  /* its time to live was over */
    CACHE_CAUSE_EVICTED,  /* the cache was full and the policy chose it */
    CACHE_CAUSE_CLEARED   /* clear or destroy */
};

/* What a compute callback wants; a negative number is an error and comes
 * back from compute. */
enum cache_compute {
    CACHE_COMPUTE_KEEP = 0,   /* leave everything as it was */
    CACHE_COMPUTE_STORE = 1,  /* *value is the value from now on */
    CACHE_COMPUTE_REMOVE = 2, /* remove the entry, if there is one */
};

/* --- errors -------------------------------------------------------------- */

/* Every function that can fail returns 0 or one of these. */
enum cache_error {
    CACHE_EINVAL = -5001,
    CACHE_ENOMEM = -5002,
    CACHE_EFULL = -5003,
    CACHE_EKEY = -5004,
    CACHE_EBUSY = -5005,
    CACHE_ETTL = -5006,

    /* from init: one for each thing that can be wrong with a config */
    CACHE_ECAPACITY = -5021,
    CACHE_ETICK = -5022,
    CACHE_ENOEXPIRY = -5023,
    CACHE_ECLOCK = -5024,
    CACHE_EALLOCATOR = -5025,
    CACHE_ESIZE = -5026,
    CACHE_EBUFFER = -5027,
    CACHE_ELIMIT = -5028,
    CACHE_ERETRY = -5029,
    CACHE_ENOSTORE = -5030,
    CACHE_ENOCODEC = -5031,
    CACHE_EPATH = -5032,
    CACHE_EOWNER = -5033,

    /* from stores, codecs and the write-behind machine */
    CACHE_ECODEC = -5041,
    CACHE_ETOOBIG = -5042,
    CACHE_EACCESS = -5043,
    CACHE_ECORRUPT = -5044,
    CACHE_EIO = -5045,
    CACHE_ELOCKED = -5046,
    CACHE_ESCHEMA = -5047,
    CACHE_ECONFLICT = -5048,
    CACHE_ECLOSED = -5049,
    CACHE_EDEADLETTER = -5050,
    CACHE_ESTORE = -5051
};

/* A sentence for an error code of this library.  Returns a constant string,
 * never NULL.  Threads: any. */
CACHE_COLD const char *cache_strerror(int code)
{
    switch (code) {
    case 0: return "no error";
    case CACHE_EINVAL: return "invalid argument, or a feature that is off";
    case CACHE_ENOMEM: return "out of memory";
    case CACHE_EFULL: return "full";
    case CACHE_EKEY:
        return "the key is absent, or present where it must not be";
    case CACHE_EBUSY: return "called from a callback of the same cache";
    case CACHE_ETTL: return "time to live below one tick or beyond range";
    case CACHE_ECAPACITY: return "config: capacity is 0 or above 2^31 - 2";
    case CACHE_ETICK:
        return "config: tick_ms is set but the cache does not expire";
    case CACHE_ENOEXPIRY:
        return "config: ttl_ms is set but the cache does not expire";
    case CACHE_ECLOCK:
        return "config: no monotonic clock is declared here, give now";
    case CACHE_EALLOCATOR:
        return "config: alloc and free come together or not at all";
    case CACHE_ESIZE:
        return "config: the cache would not fit the address space";
    case CACHE_EBUFFER:
        return "the buffer is NULL or smaller than memory_needed";
    case CACHE_ELIMIT:
        return "config: a limit is 0, out of range or above another";
    case CACHE_ERETRY:
        return "config: retry_base_ms is 0 or above retry_cap_ms";
    case CACHE_ENOSTORE: return "config: a store is needed";
    case CACHE_ENOCODEC:
        return "config: a codec is missing or for another type";
    case CACHE_EOWNER: return "keys that are pointers need .key_copy here";
    case CACHE_EPATH:
        return "config: path or table name is missing or not valid";
    case CACHE_ECODEC: return "stored bytes do not decode to a value";
    case CACHE_ETOOBIG: return "key or value is larger than the limit";
    case CACHE_EACCESS: return "the store cannot be opened or written: access";
    case CACHE_ECORRUPT: return "the store is damaged";
    case CACHE_EIO: return "the store had an input/output error";
    case CACHE_ELOCKED: return "the store is locked by somebody else";
    case CACHE_ESCHEMA: return "the store has another schema or owner";
    case CACHE_ECONFLICT: return "a newer value is there already";
    case CACHE_ECLOSED: return "closed";
    case CACHE_EDEADLETTER: return "a write was given up and dead-lettered";
    case CACHE_ESTORE: return "the store failed";
    default: return "not an error of this library";
    }
}

/* --- configuration ------------------------------------------------------- */

#define CACHE_MAX_CAPACITY 0x7ffffffeu /* a slot is 31 bits, 0 means none */
#define CACHE_DEFAULT_TICK_MS 50u      /* 2^32 of them are 6.8 years */
#define CACHE_NEVER UINT64_MAX         /* a ttl_ms: the entry does not expire */

/* What init needs.  A member that is zero has the default that it names. */
struct cache_config {
    size_t capacity;  /* entries, 1 to CACHE_MAX_CAPACITY; required */
    uint64_t ttl_ms;  /* time to live of a put without one; 0 = forever */
    uint32_t tick_ms; /* resolution of expiry; 0 = CACHE_DEFAULT_TICK_MS.  An
                         entry is never returned after its time to live, and
                         may go up to one tick before its end.  2^32 ticks
                         are the longest life of cache and entry. */
    uint64_t seed;    /* of the hash; 0 = random, which is what keeps keys
                         chosen by an attacker out of one chain */
    uint64_t (*now)(void *user); /* monotonic milliseconds; NULL = the coarse
                                    system clock.  Read by caches that expire
                                    only. */
    void *(*alloc)(size_t bytes, void *user); /* NULL = calloc.  Alignment as
                                                 malloc; may be uninitialised */
    void (*free)(void *memory, void *user);   /* NULL = free */
    void *user; /* for the hooks above and every callback of the cache */
};

/* Counters since init; needs CACHE_STATS. */
struct cache_stats {
    uint64_t hits;        /* get and get_or_insert that found a live entry */
    uint64_t misses;      /* and those that did not */
    uint64_t inserts;     /* keys that entered */
    uint64_t replaces;    /* values put over another one */
    uint64_t removes;     /* entries taken out by remove or compute */
    uint64_t evictions;   /* entries that left because the cache was full */
    uint64_t expirations; /* expired entries that were reclaimed */
};

/* Where the memory of a cache goes. */
struct cache_memory {
    size_t total_bytes;       /* the block: what memory_needed said */
    size_t bookkeeping_bytes; /* of these: not a key and not a value */
};

/* A key or value of any length.  The bytes belong to whoever made it. */
struct cache_bytes {
    const void *data;
    size_t len;
};

/* --- hashing ------------------------------------------------------------- */

/*
 * A hash is `uint64_t hash(const K *key, uint64_t seed)`, equality is
 * `bool equal(const K *a, const K *b)`.  The ready pairs fold 64 x 64 -> 128
 * bit products as wyhash and foldhash do; with the random seed that is a
 * fair defence.  Against an attacker who can time you, put cache_sip_ where
 * cache_hash_ stands.
 */

CACHE_INLINE uint64_t cache__fold_mul(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 cache__u128;
    cache__u128 product = (cache__u128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t al = a & 0xffffffffu, ah = a >> 32;
    uint64_t bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t low = al * bl, mid = ah * bl + (low >> 32);
    uint64_t mid2 = al * bh + (mid & 0xffffffffu);

    return ((mid2 << 32) | (low & 0xffffffffu)) ^
           (ah * bh + (mid >> 32) + (mid2 >> 32));
#endif
}

CACHE_INLINE uint64_t cache__rotl(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

#define CACHE__K0 0x9e3779b97f4a7c15u /* 2^64 / golden ratio */
#define CACHE__K1 0xd6e8feb86659fd93u

CACHE_INLINE uint64_t cache__mix(uint64_t x, uint64_t seed)
{
    return cache__fold_mul(x ^ seed, cache__rotl(seed, 32) ^ CACHE__K0);
}

CACHE_INLINE uint64_t cache__read64(const unsigned char *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof x);
    return x;
}

/* The last 1 to 7 bytes, each where it belongs whatever their number. */
CACHE_INLINE uint64_t cache__read_tail(const unsigned char *p, size_t n)
{
    uint64_t x = 0;

    while (n-- > 0)
        x = x << 8 | p[n];
    return x;
}

CACHE_UNUSED static inline uint64_t cache__hash_data(const void *data,
                                                     size_t len, uint64_t seed)
{
    const unsigned char *p = (const unsigned char *)data;
    uint64_t h = cache__mix(len ^ CACHE__K1, seed), a = 0, b = 0;

    for (; len > 16; p += 16, len -= 16)
        h = cache__fold_mul(cache__read64(p) ^ CACHE__K1,
                            cache__read64(p + 8) ^ h);
    if (len >= 8) { /* two words that may overlap cover 8 to 16 bytes */
        a = cache__read64(p);
        b = cache__read64(p + len - 8);
    } else {
        a = cache__read_tail(p, len);
    }
    h = cache__fold_mul(a ^ CACHE__K1, b ^ h);
    return cache__mix(h, seed ^ CACHE__K1);
}

/* SipHash-c-d (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * INDOCRYPT 2012) with the key (k0, k1). */
CACHE_UNUSED static uint64_t cache__siphash(const void *data, size_t len,
                                            uint64_t k0, uint64_t k1, int c,
                                            int d)
{
    const unsigned char *p = (const unsigned char *)data;
    uint64_t v0 = k0 ^ 0x736f6d6570736575u, v1 = k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = k0 ^ 0x6c7967656e657261u, v3 = k1 ^ 0x7465646279746573u;
    size_t n_words = len / 8 + 1, word;

    for (word = 0; word < n_words + 1; word++) {
        bool finish = word == n_words;
        uint64_t m = 0;
        int round;

        if (word + 1 < n_words)
            m = cache__read_tail(p, 8), p += 8;
        else if (!finish)
            m = cache__read_tail(p, len & 7) | (uint64_t)len << 56;
        v3 ^= m;
        v2 ^= finish ? 0xff : 0;
        for (round = 0; round < (finish ? d : c); round++) {
            v0 += v1, v1 = cache__rotl(v1, 13) ^ v0, v0 = cache__rotl(v0, 32);
            v2 += v3, v3 = cache__rotl(v3, 16) ^ v2;
            v0 += v3, v3 = cache__rotl(v3, 21) ^ v0;
            v2 += v1, v1 = cache__rotl(v1, 17) ^ v2, v2 = cache__rotl(v2, 32);
        }
        v0 ^= m;
    }
    return v0 ^ v1 ^ v2 ^ v3;
}

CACHE_UNUSED static inline uint64_t cache__sip13(const void *data, size_t len,
                                                 uint64_t seed)
{
    return cache__siphash(data, len, seed, cache__mix(CACHE__K1, seed), 1, 3);
}

/* cache_hash_X, cache_sip_X and cache_equal_X for a type that is one word. */
#define CACHE__INTEGER_KEY(suffix, T)                                          \
    CACHE_UNUSED static inline uint64_t cache_hash_##suffix(const T *key,      \
                                                            uint64_t seed)     \
    {                                                                          \
        return cache__mix((uint64_t)*key, seed);                               \
    }                                                                          \
    CACHE_UNUSED static inline uint64_t cache_sip_##suffix(const T *key,       \
                                                           uint64_t seed)      \
    {                                                                          \
        return cache__sip13(key, sizeof *key, seed);                           \
    }                                                                          \
    CACHE_UNUSED static inline bool cache_equal_##suffix(const T *a,           \
                                                         const T *b)           \
    {                                                                          \
        return *a == *b;                                                       \
    }                                                                          \
    struct cache__swallow_semicolon

CACHE__INTEGER_KEY(u8, uint8_t);
CACHE__INTEGER_KEY(u16, uint16_t);
CACHE__INTEGER_KEY(u32, uint32_t);
CACHE__INTEGER_KEY(u64, uint64_t);
CACHE__INTEGER_KEY(i8, int8_t);
CACHE__INTEGER_KEY(i16, int16_t);
CACHE__INTEGER_KEY(i32, int32_t);
CACHE__INTEGER_KEY(i64, int64_t);

/* For K = const char *: a string that ends with a zero byte. */
CACHE_UNUSED static inline uint64_t cache_hash_str(const char *const *key,
                                                   uint64_t seed)
{
    return cache__hash_data(*key, strlen(*key), seed);
}

CACHE_UNUSED static inline uint64_t cache_sip_str(const char *const *key,
                                                  uint64_t seed)
{
    return cache__sip13(*key, strlen(*key), seed);
}

CACHE_UNUSED static inline bool cache_equal_str(const char *const *a,
                                                const char *const *b)
{
    return strcmp(*a, *b) == 0;
}

/* For K = struct cache_bytes: (pointer, length). */
CACHE_UNUSED static inline uint64_t
cache_hash_bytes(const struct cache_bytes *key, uint64_t seed)
{
    return cache__hash_data(key->data, key->len, seed);
}

CACHE_UNUSED static inline uint64_t
cache_sip_bytes(const struct cache_bytes *key, uint64_t seed)
{
    return cache__sip13(key->data, key->len, seed);
}

CACHE_UNUSED static inline bool cache_equal_bytes(const struct cache_bytes *a,
                                                  const struct cache_bytes *b)
{
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/*
 * Makes tag_hash, tag_sip and tag_equal for a struct that is compared byte by
 * byte.  Padding between members has no defined content, so give the sum of
 * the members' sizes: the compiler checks that it is the whole struct.
 *
 *   struct point { int32_t x, y; };
 *   CACHE_STRUCT_KEY(point, struct point, 2 * sizeof(int32_t));
 */
#define CACHE_STRUCT_KEY(tag, T, members_bytes)                                \
    CACHE__STATIC_ASSERT(sizeof(T) == (members_bytes),                         \
                         "CACHE_STRUCT_KEY: the struct has padding, or the "   \
                         "sum of its members' sizes is not right");            \
    CACHE_UNUSED static inline uint64_t tag##_hash(const T *key,               \
                                                   uint64_t seed)              \
    {                                                                          \
        return cache__hash_data(key, sizeof *key, seed);                       \
    }                                                                          \
    CACHE_UNUSED static inline uint64_t tag##_sip(const T *key, uint64_t seed) \
    {                                                                          \
        return cache__sip13(key, sizeof *key, seed);                           \
    }                                                                          \
    CACHE_UNUSED static inline bool tag##_equal(const T *a, const T *b)        \
    {                                                                          \
        return memcmp(a, b, sizeof *a) == 0;                                   \
    }                                                                          \
    struct cache__swallow_semicolon

/* A seed that a stranger cannot guess; at worst one that differs. */
CACHE_COLD uint64_t cache__random_seed(const void *salt)
{
    uint64_t seed = 0;

#if defined(__linux__)
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (long)sizeof seed)
        seed = 0;
#endif
    if (seed == 0)
        seed = cache__mix((uint64_t)(uintptr_t)salt,
                          (uint64_t)time(NULL) ^ (uint64_t)clock() << 32);
    return seed;
}

/* --- the engine: slots and hashes, no keys and no values ----------------- */

/* The part of a cache that does not depend on its types. */
struct cache {
    uint32_t *heads;  /* first word of each chain; 0 = the chain is empty */
    uint32_t *chain;  /* per slot: the next word of its chain or, marked with
                         CACHE__FREE, the next slot of the free list; then the
                         hash, if it is kept.  [0] is 0 */
    uint32_t *expire; /* per slot: the tick at which it is dead; 0 = never,
                         and in every free slot.  NULL without CACHE_EXPIRY */
    void *nodes;      /* per slot: struct name_node */
    struct cache_policy policy;

    uint64_t seed;       /* of the hash */
    uint32_t n_heads;    /* 2 x capacity */
    uint32_t slot_bits;  /* a word of a chain: a slot below, a tag above */
    uint32_t slot_mask;  /* 2^slot_bits - 1, at least the capacity */
    uint32_t capacity;   /* entries at most */
    uint32_t len;        /* entries now, expired ones included */
    uint32_t fresh;      /* slots 1 to fresh have been used at least once */
    uint32_t free_slots; /* head of the list of slots that were freed */
    bool busy;           /* a callback of this cache is running */

    uint32_t tick;          /* the latest tick seen: starts at 1, never falls */
    uint32_t tick_ms;       /* length of a tick */
    uint64_t start_ms;      /* config.now() at init */
    uint64_t next_tick_ms;  /* when `tick` will be out of date */
    uint64_t ttl_ms;        /* of a put without one, CACHE_NEVER = forever */
    uint32_t soonest;       /* no entry has an earlier deadline than this */
    uint32_t sweep_at;      /* the slot that the sweep looked at last */
    uint32_t sweep_soonest; /* earliest deadline that this sweep left behind */

    struct cache_stats stats;
    uint64_t (*now)(void *user);
    void (*free)(void *memory, void *user);
    void *user;
    void *memory;       /* the block, if it is ours to free */
    size_t total_bytes; /* size of the block */
};

/* What the engine has to know of a type; one constant for each. */
struct cache_type {
    uint32_t options;   /* enum cache_option */
    size_t node_bytes;  /* sizeof(struct name_node) */
    size_t entry_bytes; /* sizeof(K) + sizeof(V) */
    uint32_t (*slot_hash)(const struct cache *c, uint32_t slot);
    uint32_t (*slot_find)(const struct cache *c, uint32_t slot);
    void (*drop)(struct cache *c, uint32_t slot, enum cache_cause cause);
};

#define CACHE__FREE 0x80000000u /* in `chain`: the slot holds no entry */

/* --- engine: time -------------------------------------------------------- */

#if defined(CLOCK_MONOTONIC_COARSE)
#define CACHE__CLOCK CLOCK_MONOTONIC_COARSE
#elif defined(CLOCK_MONOTONIC)
#define CACHE__CLOCK CLOCK_MONOTONIC
#endif

#if defined(CACHE__CLOCK)
CACHE_COLD uint64_t cache__system_now(void *user)
{
    struct timespec now;

    (void)user;
    if (clock_gettime(CACHE__CLOCK, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
#else
#define cache__system_now NULL
#endif

/* Moves to the tick of now_ms.  At the end of 2^32 ticks time stands still:
 * what has a deadline is dead, and a put with one is refused. */
CACHE_COLD void cache__advance(struct cache *c, uint64_t now_ms)
{
    uint64_t ticks = (now_ms - c->start_ms) / c->tick_ms;

    if (ticks >= UINT32_MAX - 1) {
        c->tick = UINT32_MAX;
        c->next_tick_ms = UINT64_MAX;
        return;
    }
    c->tick = (uint32_t)ticks + 1;
    c->next_tick_ms = c->start_ms + (ticks + 1) * c->tick_ms;
}

CACHE_INLINE uint32_t cache__tick(struct cache *c)
{
    uint64_t now_ms = c->now(c->user);

    if (now_ms >= c->next_tick_ms)
        cache__advance(c, now_ms);
    return c->tick;
}

/* The deadline of an entry that lives ttl_ms from now; 0 = none. */
CACHE_INLINE int cache__deadline(struct cache *c, uint64_t ttl_ms,
                                 uint32_t *deadline)
{
    uint64_t now_ms, ticks;

    *deadline = 0;
    if (ttl_ms == CACHE_NEVER)
        return 0;
    now_ms = c->now(c->user);
    if (now_ms >= c->next_tick_ms)
        cache__advance(c, now_ms);
    if (c->tick == UINT32_MAX || ttl_ms < c->tick_ms)
        return CACHE_ETTL;
    if (now_ms < c->next_tick_ms - c->tick_ms) /* the clock went back */
        now_ms = c->next_tick_ms - c->tick_ms;
    if (ttl_ms > UINT64_MAX - (now_ms - c->start_ms))
        return CACHE_ETTL;
    ticks = (now_ms - c->start_ms + ttl_ms) / c->tick_ms;
    if (ticks >= UINT32_MAX - 1)
        return CACHE_ETTL;
    *deadline = (uint32_t)ticks + 1;
    return 0;
}

CACHE_INLINE bool cache__expired(struct cache *c, uint32_t options,
                                 uint32_t slot)
{
    return (options & CACHE_EXPIRY) != 0 && c->expire[slot] != 0 &&
           c->expire[slot] <= cache__tick(c);
}

CACHE_INLINE void cache__set_deadline(struct cache *c, uint32_t options,
                                      uint32_t slot, uint32_t deadline)
{
    if ((options & CACHE_EXPIRY) == 0)
        return;
    c->expire[slot] = deadline;
    if (deadline != 0 && deadline < c->soonest)
        c->soonest = deadline;
    if (deadline != 0 && slot <= c->sweep_at && deadline < c->sweep_soonest)
        c->sweep_soonest = deadline; /* the sweep has passed it already */
}

/* --- engine: index ------------------------------------------------------- */

/* The engine keeps 32 well-mixed bits of a hash, whatever the user's is. */
CACHE_INLINE uint32_t cache__fold(uint64_t hash)
{
    return (uint32_t)((hash * CACHE__K0) >> 32);
}

/* Multiply and shift: any number of heads, no division. */
CACHE_INLINE uint32_t *cache__head(const struct cache *c, uint32_t hash)
{
    return &c->heads[((uint64_t)hash * c->n_heads) >> 32];
}

/* The bits of a word that no slot needs hold bits of its hash, so most keys
 * that are not the right one are passed without a look at their node.  The
 * head is chosen by the upper end of the hash, the tag is the lower. */
CACHE_INLINE uint32_t cache__tag(const struct cache *c, uint32_t hash)
{
    return (hash << c->slot_bits) & ~CACHE__FREE;
}

/* The slot of a word that has this tag; else a number beyond slot_mask, or 0
 * for the word 0.  0 - 1 wraps, so `< slot_mask` says which. */
CACHE_INLINE bool cache__tag_matches(const struct cache *c, uint32_t slot)
{
    return slot - 1 < c->slot_mask;
}

CACHE_INLINE bool cache__keeps_hash(uint32_t options)
{
    return (options & CACHE_KEEP_HASH) != 0;
}

CACHE_INLINE uint32_t *cache__link(const struct cache *c, uint32_t options,
                                   uint32_t slot)
{
    return &c->chain[cache__keeps_hash(options) ? (size_t)slot * 2 : slot];
}

/* The hash that is kept for a slot is this one; true if none is kept. */
CACHE_INLINE bool cache__hash_may_match(const struct cache *c, uint32_t options,
                                        uint32_t slot, uint32_t hash)
{
    return !cache__keeps_hash(options) ||
           cache__link(c, options, slot)[1] == hash;
}

CACHE_INLINE void cache__index_insert(struct cache *c, uint32_t options,
                                      uint32_t slot, uint32_t hash)
{
    uint32_t *head = cache__head(c, hash);
    uint32_t *link = cache__link(c, options, slot);

    link[0] = *head;
    if (cache__keeps_hash(options))
        link[1] = hash;
    *head = slot | cache__tag(c, hash);
}

CACHE_INLINE void cache__index_erase(struct cache *c, uint32_t options,
                                     uint32_t slot, uint32_t hash)
{
    uint32_t *at = cache__head(c, hash);

    while ((*at & c->slot_mask) != slot)
        at = cache__link(c, options, *at & c->slot_mask);
    *at = *cache__link(c, options, slot);
}

/* --- engine: policy ------------------------------------------------------ */

CACHE_INLINE size_t cache__policy_layout(uint32_t options, uint32_t capacity)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: return cache_fifo_layout(capacity);
    case CACHE_LRU: return cache_lru_layout(capacity);
    default: return cache_sieve_layout(capacity);
    }
}

CACHE_INLINE void cache__policy_init(struct cache *c, uint32_t options,
                                     void *memory)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: cache_fifo_init(&c->policy, memory, c->capacity); break;
    case CACHE_LRU: cache_lru_init(&c->policy, memory, c->capacity); break;
    default: cache_sieve_init(&c->policy, memory, c->capacity); break;
    }
}

CACHE_INLINE void cache__policy_add(struct cache *c, uint32_t options,
                                    uint32_t slot)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: cache_fifo_add(&c->policy, slot); break;
    case CACHE_LRU: cache_lru_add(&c->policy, slot); break;
    default: cache_sieve_add(&c->policy, slot); break;
    }
}

CACHE_INLINE void cache__policy_hit(struct cache *c, uint32_t options,
                                    uint32_t slot)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: cache_fifo_hit(&c->policy, slot); break;
    case CACHE_LRU: cache_lru_hit(&c->policy, slot); break;
    default: cache_sieve_hit(&c->policy, slot); break;
    }
}

CACHE_INLINE void cache__policy_remove(struct cache *c, uint32_t options,
                                       uint32_t slot)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: cache_fifo_remove(&c->policy, slot); break;
    case CACHE_LRU: cache_lru_remove(&c->policy, slot); break;
    default: cache_sieve_remove(&c->policy, slot); break;
    }
}

CACHE_INLINE uint32_t cache__policy_victim(struct cache *c, uint32_t options)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: return cache_fifo_victim(&c->policy);
    case CACHE_LRU: return cache_lru_victim(&c->policy);
    default: return cache_sieve_victim(&c->policy);
    }
}

CACHE_INLINE uint32_t cache__policy_likely(const struct cache *c,
                                           uint32_t options)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: return cache_fifo_likely(&c->policy);
    case CACHE_LRU: return cache_lru_likely(&c->policy);
    default: return cache_sieve_likely(&c->policy);
    }
}

CACHE_INLINE const char *cache__policy_check(const struct cache *c,
                                             uint32_t options)
{
    switch (options & CACHE__POLICY_BITS) {
    case CACHE_FIFO: return cache_fifo_check(&c->policy, c->capacity, c->len);
    case CACHE_LRU: return cache_lru_check(&c->policy, c->capacity, c->len);
    default: return cache_sieve_check(&c->policy, c->capacity, c->len);
    }
}

/* --- engine: making a cache ---------------------------------------------- */

#define CACHE__LINE 64u /* arrays start on a cache line */

/* Where each array stands in the block. */
struct cache__layout {
    size_t chain, policy, expire, nodes; /* offsets; heads are at 0 */
    size_t total;                        /* bytes; 0 = does not fit */
};

#define CACHE__LAYOUT_LIMIT (SIZE_MAX / 4) /* far from where sums overflow */

/* Adds an array to a layout that ends at *at.  Returns the array's offset;
 * *at = SIZE_MAX once anything did not fit. */
CACHE_INLINE size_t cache__place(size_t *at, size_t count, size_t bytes)
{
    size_t start;

    if (*at > CACHE__LAYOUT_LIMIT)
        return 0;
    start = cache__round_up(*at, CACHE__LINE);
    if (bytes != 0 && count > CACHE__LAYOUT_LIMIT / bytes) {
        *at = SIZE_MAX;
        return 0;
    }
    *at = start + count * bytes;
    return start;
}

CACHE_COLD struct cache__layout cache__plan(const struct cache_type *type,
                                            uint32_t capacity)
{
    struct cache__layout l;
    size_t slots = (size_t)capacity + 1;
    size_t at = slots > SIZE_MAX / 64 ? SIZE_MAX : 0; /* 32-bit machines */

    (void)cache__place(&at, 2 * slots, sizeof(uint32_t));
    l.chain =
        cache__place(&at, slots, cache__keeps_hash(type->options) ? 8 : 4);
    l.policy =
        cache__place(&at, cache__policy_layout(type->options, capacity), 1);
    l.expire = cache__place(&at, slots, (type->options & CACHE_EXPIRY) ? 4 : 0);
    l.nodes = cache__place(&at, slots, type->node_bytes);
    /* A line more, so that the block may start at any address. */
    l.total = at > CACHE__LAYOUT_LIMIT ? 0 : at + CACHE__LINE - 1;
    return l;
}

/* Returns 0, or the first thing that is wrong with a config. */
CACHE_COLD int cache__config_check(const struct cache_type *type,
                                   const struct cache_config *config)
{
    uint32_t tick_ms;

    if (config == NULL)
        return CACHE_EINVAL;
    if (config->capacity == 0 || config->capacity > CACHE_MAX_CAPACITY)
        return CACHE_ECAPACITY;
    if ((config->alloc == NULL) != (config->free == NULL))
        return CACHE_EALLOCATOR;
    if ((type->options & CACHE_EXPIRY) == 0) {
        if (config->ttl_ms != 0)
            return CACHE_ENOEXPIRY;
        return config->tick_ms != 0 ? CACHE_ETICK : 0;
    }
#ifndef CACHE__CLOCK
    if (config->now == NULL)
        return CACHE_ECLOCK;
#endif
    tick_ms = config->tick_ms ? config->tick_ms : CACHE_DEFAULT_TICK_MS;
    if (config->ttl_ms != 0 && config->ttl_ms != CACHE_NEVER &&
        (config->ttl_ms < tick_ms || config->ttl_ms / tick_ms >= UINT32_MAX))
        return CACHE_ETTL;
    return 0;
}

CACHE_COLD size_t cache__memory_needed(const struct cache_type *type,
                                       const struct cache_config *config)
{
    if (cache__config_check(type, config) != 0)
        return 0;
    return cache__plan(type, (uint32_t)config->capacity).total;
}

/* Empties the index and the policy, whatever the arrays hold. */
CACHE_COLD void cache__reset(struct cache *c, const struct cache_type *type)
{
    memset(c->heads, 0, (size_t)c->n_heads * sizeof *c->heads);
    c->chain[0] = 0;
    cache__policy_init(c, type->options, c->policy.links);
    c->len = c->fresh = c->free_slots = 0;
    c->sweep_at = 0;
    c->soonest = c->sweep_soonest = UINT32_MAX;
}

/* Sets up *c over a block.  `zeroed` spares a memset, and with it the pages
 * that are not used yet. */
CACHE_COLD void cache__set_up(struct cache *c, const struct cache_type *type,
                              const struct cache_config *config, void *memory,
                              bool zeroed)
{
    struct cache__layout l = cache__plan(type, (uint32_t)config->capacity);
    size_t skew = (CACHE__LINE - (uintptr_t)memory % CACHE__LINE) % CACHE__LINE;
    unsigned char *base = (unsigned char *)memory + skew;

    memset(c, 0, sizeof *c);
    c->capacity = (uint32_t)config->capacity;
    c->n_heads = c->capacity * 2;
    while (c->slot_mask < c->capacity)
        c->slot_mask = ((uint32_t)1 << ++c->slot_bits) - 1;
    c->heads = (uint32_t *)(void *)base;
    c->chain = (uint32_t *)(void *)(base + l.chain);
    if (type->options & CACHE_EXPIRY)
        c->expire = (uint32_t *)(void *)(base + l.expire);
    c->nodes = base + l.nodes;
    c->total_bytes = l.total;
    c->soonest = c->sweep_soonest = UINT32_MAX;
    c->policy.links = (struct cache_link *)(void *)(base + l.policy);
    if (zeroed)
        cache__policy_init(c, type->options, base + l.policy);
    else
        cache__reset(c, type);

    c->seed = config->seed ? config->seed : cache__random_seed(c);
    c->user = config->user;
    c->free = config->free;
    if (type->options & CACHE_EXPIRY) {
        c->now = config->now ? config->now : cache__system_now;
        c->tick_ms = config->tick_ms ? config->tick_ms : CACHE_DEFAULT_TICK_MS;
        c->ttl_ms = config->ttl_ms ? config->ttl_ms : CACHE_NEVER;
        c->start_ms = c->now(c->user);
        c->tick = 1;
        c->next_tick_ms = c->start_ms + c->tick_ms;
    }
}

CACHE_COLD int cache__init_in(struct cache *c, const struct cache_type *type,
                              const struct cache_config *config, void *buffer,
                              size_t bytes)
{
    int rc = c == NULL ? CACHE_EINVAL : cache__config_check(type, config);
    size_t needed;

    if (rc != 0)
        return rc;
    needed = cache__memory_needed(type, config);
    if (needed == 0)
        return CACHE_ESIZE;
    if (buffer == NULL || bytes < needed)
        return CACHE_EBUFFER;
    cache__set_up(c, type, config, buffer, false);
    return 0;
}

CACHE_COLD int cache__init(struct cache *c, const struct cache_type *type,
                           const struct cache_config *config)
{
    int rc = c == NULL ? CACHE_EINVAL : cache__config_check(type, config);
    size_t bytes;
    void *memory;

    if (rc != 0)
        return rc;
    bytes = cache__memory_needed(type, config);
    if (bytes == 0)
        return CACHE_ESIZE;
    memory =
        config->alloc ? config->alloc(bytes, config->user) : calloc(1, bytes);
    if (memory == NULL)
        return CACHE_ENOMEM;
    cache__set_up(c, type, config, memory, config->alloc == NULL);
    c->memory = memory;
    return 0;
}

/* --- engine: entries ----------------------------------------------------- */

CACHE_INLINE void cache__count(uint32_t options, uint64_t *counter)
{
    if (options & CACHE_STATS)
        ++*counter;
}

CACHE_INLINE int cache__needs(uint32_t options, uint32_t feature)
{
    return options & feature ? 0 : CACHE_EINVAL;
}

/* There is an entry in `slot`, 0 = none, and it has not expired. */
CACHE_INLINE bool cache__live(struct cache *c, uint32_t options, uint32_t slot)
{
    return slot != 0 && !cache__expired(c, options, slot);
}

/* A look-up ended at `slot`, 0 = nowhere.  Returns true if that is a hit. */
CACHE_INLINE bool cache__hit(struct cache *c, uint32_t options, uint32_t slot)
{
    if (!cache__live(c, options, slot)) {
        cache__count(options, &c->stats.misses);
        return false;
    }
    cache__policy_hit(c, options, slot);
    cache__count(options, &c->stats.hits);
    return true;
}

/* The first lines of every call that changes entries. */
CACHE_INLINE int cache__begin(const struct cache *c)
{
    CACHE_ASSERT(!c->busy && "a cache is changed from its own callback");
    return c->busy ? CACHE_EBUSY : 0;
}

CACHE_INLINE int cache__begin_put(struct cache *c, uint32_t options,
                                  uint64_t ttl_ms, uint32_t *deadline)
{
    *deadline = 0;
    if (c->busy)
        return cache__begin(c);
    return options & CACHE_EXPIRY ? cache__deadline(c, ttl_ms, deadline) : 0;
}

#if defined(__GNUC__)
#define CACHE__PREFETCH(address) __builtin_prefetch(address, 1)
#else
#define CACHE__PREFETCH(address) ((void)(address))
#endif

/* The eviction after the next one is likely to take the slot that is returned.
 * What it will touch of it has been sent for, except the node. */
CACHE_INLINE uint32_t cache__look_ahead(struct cache *c, uint32_t options)
{
    uint32_t slot = c->policy.links[cache__policy_likely(c, options)].newer;

    CACHE__PREFETCH(&c->policy.links[slot]);
    CACHE__PREFETCH(cache__link(c, options, slot));
    return slot;
}

/* A slot for a new entry; 0 = all are taken. */
CACHE_INLINE uint32_t cache__take_slot(struct cache *c, uint32_t options)
{
    uint32_t slot = c->free_slots;

    if (slot != 0) {
        c->free_slots = *cache__link(c, options, slot) & ~CACHE__FREE;
        return slot;
    }
    return c->fresh < c->capacity ? ++c->fresh : 0;
}

CACHE_INLINE void cache__free_slot(struct cache *c, uint32_t options,
                                   uint32_t slot)
{
    *cache__link(c, options, slot) = c->free_slots | CACHE__FREE;
    c->free_slots = slot;
}

/* The entry that was written to `slot` becomes visible. */
CACHE_INLINE void cache__publish(struct cache *c, uint32_t options,
                                 uint32_t slot, uint32_t hash,
                                 uint32_t deadline)
{
    cache__index_insert(c, options, slot, hash);
    cache__policy_add(c, options, slot);
    cache__set_deadline(c, options, slot, deadline);
    c->len++;
    cache__count(options, &c->stats.inserts);
}

/* The entry in `slot` is no longer found.  Its node stays whole until the next
 * take_slot, and callbacks cannot get there. */
CACHE_INLINE void cache__withdraw(struct cache *c, uint32_t options,
                                  uint32_t slot, uint32_t hash,
                                  enum cache_cause cause)
{
    cache__index_erase(c, options, slot, hash);
    cache__policy_remove(c, options, slot);
    if (options & CACHE_EXPIRY)
        c->expire[slot] = 0;
    cache__free_slot(c, options, slot);
    c->len--;
    if (cause == CACHE_CAUSE_EVICTED)
        cache__count(options, &c->stats.evictions);
    else if (cause == CACHE_CAUSE_EXPIRED)
        cache__count(options, &c->stats.expirations);
    else if (cause == CACHE_CAUSE_REMOVED)
        cache__count(options, &c->stats.removes);
}

/* The value in `slot` was exchanged. */
CACHE_INLINE void cache__replaced(struct cache *c, uint32_t options,
                                  uint32_t slot, uint32_t deadline)
{
    cache__policy_hit(c, options, slot);
    cache__set_deadline(c, options, slot, deadline);
    cache__count(options, &c->stats.replaces);
}

/* An entry may have expired: it is worth a sweep. */
CACHE_INLINE bool cache__due(struct cache *c)
{
    return c->soonest != UINT32_MAX && c->soonest <= cache__tick(c);
}

/* Moves a sweep that is due by at most *budget slots.  Returns the first
 * expired slot that it meets; 0 = the budget is used up, or nothing is due. */
CACHE_COLD uint32_t cache__sweep_next(struct cache *c, uint32_t *budget)
{
    for (;;) {
        uint32_t deadline;

        if (c->sweep_at == c->fresh) { /* through: another one, if it is due */
            c->soonest = c->sweep_soonest;
            c->sweep_soonest = UINT32_MAX;
            c->sweep_at = 0;
            if (!cache__due(c))
                return 0;
        }
        if (*budget == 0)
            return 0;
        --*budget;
        deadline = c->expire[++c->sweep_at];
        if (deadline != 0 && deadline <= c->tick)
            return c->sweep_at;
        if (deadline != 0 && deadline < c->sweep_soonest)
            c->sweep_soonest = deadline;
    }
}

/* Slots that a full cache looks at for an expired entry before it evicts. */
#define CACHE__SWEEP_BEFORE_EVICTION 8u

/* Who leaves a cache that is full, and why. */
CACHE_COLD uint32_t cache__victim(struct cache *c, uint32_t options,
                                  enum cache_cause *cause)
{
    uint32_t budget = CACHE__SWEEP_BEFORE_EVICTION, slot = 0;

    *cause = CACHE_CAUSE_EXPIRED;
    if ((options & CACHE_EXPIRY) && cache__due(c))
        slot = cache__sweep_next(c, &budget);
    if (slot == 0) {
        slot = cache__policy_victim(c, options);
        if (!cache__expired(c, options, slot))
            *cause = CACHE_CAUSE_EVICTED;
    }
    return slot;
}

CACHE_COLD uint32_t cache__sweep(struct cache *c, const struct cache_type *type,
                                 uint32_t max_items)
{
    uint32_t slot;

    if ((type->options & CACHE_EXPIRY) == 0 || cache__begin(c) != 0 ||
        !cache__due(c))
        return 0;
    while ((slot = cache__sweep_next(c, &max_items)) != 0)
        type->drop(c, slot, CACHE_CAUSE_EXPIRED);
    return cache__due(c) ? c->fresh - c->sweep_at : 0;
}

/* `one_by_one`: there are callbacks that must hear of each entry. */
CACHE_COLD int cache__clear(struct cache *c, const struct cache_type *type,
                            bool one_by_one)
{
    uint32_t slot;

    if (cache__begin(c) != 0)
        return CACHE_EBUSY;
    for (slot = 1; one_by_one && slot <= c->fresh; slot++)
        if ((*cache__link(c, type->options, slot) & CACHE__FREE) == 0)
            type->drop(c, slot, CACHE_CAUSE_CLEARED);
    cache__reset(c, type);
    return 0;
}

CACHE_COLD void cache__destroy(struct cache *c, const struct cache_type *type,
                               bool one_by_one)
{
    if (c->heads == NULL || cache__clear(c, type, one_by_one) != 0)
        return;
    if (c->memory != NULL && c->free != NULL)
        c->free(c->memory, c->user);
    else
        free(c->memory);
    memset(c, 0, sizeof *c);
}

/* The first live slot behind `slot`; 0 = there is none. */
CACHE_COLD uint32_t cache__next_live(struct cache *c, uint32_t options,
                                     uint32_t slot)
{
    while (++slot <= c->fresh)
        if ((*cache__link(c, options, slot) & CACHE__FREE) == 0 &&
            !cache__expired(c, options, slot))
            return slot;
    return 0;
}

CACHE_COLD int cache__stats(const struct cache *c, uint32_t options,
                            struct cache_stats *out)
{
    if ((options & CACHE_STATS) == 0)
        return CACHE_EINVAL;
    *out = c->stats;
    return 0;
}

CACHE_COLD struct cache_memory cache__memory(const struct cache *c,
                                             const struct cache_type *type)
{
    struct cache_memory m;

    m.total_bytes = c->total_bytes;
    m.bookkeeping_bytes =
        c->total_bytes - (size_t)c->capacity * type->entry_bytes;
    return m;
}

/* --- engine: check ------------------------------------------------------- */

/* Every chain: its slots are live and belong there.  Returns the number of
 * slots in all chains, or capacity + 1 if something is wrong. */
CACHE_COLD uint32_t cache__index_check(const struct cache *c,
                                       const struct cache_type *type)
{
    uint32_t n = 0, i;

    for (i = 0; i < c->n_heads; i++) {
        uint32_t word = c->heads[i], slot;

        for (; word != 0; word = *cache__link(c, type->options, slot)) {
            slot = word & c->slot_mask;
            if (slot == 0 || slot > c->fresh || ++n > c->capacity ||
                (*cache__link(c, type->options, slot) & CACHE__FREE) != 0 ||
                cache__head(c, type->slot_hash(c, slot)) != &c->heads[i] ||
                cache__tag(c, type->slot_hash(c, slot)) != (word ^ slot) ||
                !cache__hash_may_match(c, type->options, slot,
                                       type->slot_hash(c, slot)))
                return c->capacity + 1;
        }
    }
    return n;
}

CACHE_COLD const char *cache__check(const struct cache *c,
                                    const struct cache_type *type)
{
    uint32_t slot, n_free = 0;

    if (c->len > c->capacity || c->fresh > c->capacity)
        return "len or fresh is above the capacity";
    if (cache__index_check(c, type) != c->len)
        return "index: a chain holds a wrong slot, or not every entry";
    for (slot = c->free_slots; slot != 0; n_free++) {
        uint32_t link = slot > c->fresh || n_free > c->fresh
                            ? 0
                            : *cache__link(c, type->options, slot);
        if ((link & CACHE__FREE) == 0)
            return "free list: it holds a slot that is not free";
        slot = link & ~CACHE__FREE;
    }
    if (c->len + n_free != c->fresh)
        return "a slot is neither live nor free";
    for (slot = 1; slot <= c->fresh; slot++) {
        bool live = (*cache__link(c, type->options, slot) & CACHE__FREE) == 0;
        uint32_t deadline = c->expire ? c->expire[slot] : 0;

        if (live && type->slot_find(c, slot) != slot)
            return "a key is in the cache twice";
        if (!live && deadline != 0)
            return "expiry: a free slot has a deadline";
        if (deadline != 0 && deadline < c->soonest)
            return "expiry: an entry is dead before the soonest deadline";
        if (deadline != 0 && slot <= c->sweep_at && deadline < c->sweep_soonest)
            return "expiry: the sweep left an earlier deadline behind";
    }
    return cache__policy_check(c, type->options);
}

/* --- advice -------------------------------------------------------------- */

/*
 * Names a setting that is legal but unwise.
 * Returns a constant sentence, or NULL if there is nothing to say.
 * Threads: any.
 */
CACHE_COLD const char *cache_config_hint(const struct cache_config *config)
{
    uint32_t tick_ms;

    if (config == NULL)
        return "the config is NULL: init will refuse it";
    tick_ms = config->tick_ms ? config->tick_ms : CACHE_DEFAULT_TICK_MS;
    if (config->seed != 0)
        return "seed is fixed: fine for tests, but whoever knows it can choose "
               "keys that all fall into one chain";
    if (config->ttl_ms != 0 && config->ttl_ms / 10 < tick_ms)
        return "ttl_ms is under ten ticks: entries may go more than a tenth of "
               "their life early; a smaller tick_ms is finer";
    if (tick_ms < 10)
        return "tick_ms is under 10: the cache's life is below 500 days, after "
               "which every put with a time to live is refused";
    if (config->capacity > 0 && config->capacity < 16)
        return "capacity is under 16: no policy can show what it is worth";
    return NULL;
}

/* --- making a type ------------------------------------------------------- */

/* Is the key's equality dear?  Then its hash is kept. */
#if defined(__cplusplus)
template <typename T> struct cache__dear {
    enum { value = 0 };
};
template <typename T> struct cache__dear<T *> {
    enum { value = 1 };
};
template <> struct cache__dear<cache_bytes> {
    enum { value = 1 };
};
#define CACHE__DEAR_KEY(K) (int(cache__dear<K>::value) != 0)
#elif defined(__GNUC__)
#define CACHE__DEAR_KEY(K)                                                     \
    (__builtin_classify_type(*(K *)0) == 5 /* a pointer */ ||                  \
     _Generic(*(K *)0, struct cache_bytes : 1, default : 0))
#else
#define CACHE__DEAR_KEY(K)                                                     \
    _Generic(*(K *)0, struct cache_bytes : 1, const char * : 1, char * : 1,    \
             default : 0)
#endif

/* Types, callbacks and the constant that describes them to the engine. */
#define CACHE__DEFINE_TYPES(name, K, V, opts, ...)                             \
    typedef K name##_key;                                                      \
    typedef V name##_value;                                                    \
    struct name##_node {                                                       \
        name##_key key;                                                        \
        name##_value value;                                                    \
    };                                                                         \
    struct name {                                                              \
        struct cache base;                                                     \
        struct name##_node *nodes; /* by slot; [0] is never an entry */        \
    };                                                                         \
    struct name##_cursor {                                                     \
        uint32_t slot; /* 0 = before the first entry */                        \
        const name##_key *key;                                                 \
        const name##_value *value;                                             \
    };                                                                         \
    typedef int (*name##_compute_fn)(                                          \
        const name##_key *key, name##_value *value, bool present, void *user); \
    struct name##_callbacks {                                                  \
        int (*key_copy)(name##_key * key, void *user) CACHE__NULL_DEFAULT;     \
        void (*key_free)(name##_key * key, void *user) CACHE__NULL_DEFAULT;    \
        void (*on_remove)(const name##_key *key, name##_value *value,          \
                          enum cache_cause cause,                              \
                          void *user) CACHE__NULL_DEFAULT;                     \
    };                                                                         \
    CACHE__STATIC_ASSERT(CACHE__IS_POLICY(opts),                               \
                         "CACHE_DEFINE: the options need exactly one policy, " \
                         "such as CACHE_SIEVE");                               \
    CACHE__STATIC_ASSERT(                                                      \
        ((opts) & ~(CACHE__POLICY_BITS | CACHE__FEATURE_BITS)) == 0,           \
        "CACHE_DEFINE: the options have an unknown bit");                      \
    enum {                                                                     \
        name##__options =                                                      \
            (opts) | CACHE__DEAR_KEY(name##_key) * CACHE_KEEP_HASH             \
    };                                                                         \
    CACHE_INLINE struct name##_callbacks name##__callbacks(void)               \
    {                                                                          \
        return __extension__(struct name##_callbacks) { __VA_ARGS__ };         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Hashing and the probe.  The word is judged before it is asked whether it is
 * the end: a miss in a chain of one or none is then one path, and that path is
 * predicted.  An empty head is followed by chain[0], which is 0. */
#define CACHE__DEFINE_PROBE(name, hash_fn, equal_fn)                           \
    CACHE_INLINE uint32_t name##__hash(const struct cache *c,                  \
                                       const name##_key *key)                  \
    {                                                                          \
        return cache__fold((hash_fn)(key, c->seed));                           \
    }                                                                          \
    CACHE_INLINE uint32_t name##__find(const struct name *c,                   \
                                       const name##_key *key, uint32_t hash_)  \
    {                                                                          \
        const uint32_t tag_ = cache__tag(&c->base, hash_);                     \
        uint32_t word_ = *cache__head(&c->base, hash_);                        \
        do {                                                                   \
            uint32_t slot_ = word_ ^ tag_;                                     \
            if (cache__tag_matches(&c->base, slot_) &&                         \
                cache__hash_may_match(&c->base, name##__options, slot_,        \
                                      hash_) &&                                \
                (equal_fn)(&c->nodes[slot_].key, key))                         \
                return slot_;                                                  \
            word_ = *cache__link(&c->base, name##__options,                    \
                                 word_ & c->base.slot_mask);                   \
        } while (word_ != 0);                                                  \
        return 0;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

/* An entry's way out. */
#define CACHE__DEFINE_CORE(name)                                               \
    CACHE_UNUSED static uint32_t name##__slot_hash(const struct cache *c,      \
                                                   uint32_t slot_)             \
    {                                                                          \
        const struct name##_node *nodes_ = (struct name##_node *)c->nodes;     \
        return name##__hash(c, &nodes_[slot_].key);                            \
    }                                                                          \
    CACHE_UNUSED static uint32_t name##__slot_find(const struct cache *c,      \
                                                   uint32_t slot_)             \
    {                                                                          \
        const struct name *self_ = (const struct name *)(const void *)c;       \
        return name##__find(self_, &self_->nodes[slot_].key,                   \
                            name##__slot_hash(c, slot_));                      \
    }                                                                          \
    CACHE_INLINE void name##__tell(struct cache *c, const name##_key *key,     \
                                   name##_value *value,                        \
                                   enum cache_cause cause)                     \
    {                                                                          \
        if (!name##__callbacks().on_remove)                                    \
            return;                                                            \
        c->busy = true;                                                        \
        name##__callbacks().on_remove(key, value, cause, c->user);             \
        c->busy = false;                                                       \
    }                                                                          \
    CACHE_INLINE void name##__key_free(struct cache *c, name##_key *key)       \
    {                                                                          \
        if (!name##__callbacks().key_free)                                     \
            return;                                                            \
        c->busy = true;                                                        \
        name##__callbacks().key_free(key, c->user);                            \
        c->busy = false;                                                       \
    }                                                                          \
    CACHE_INLINE int name##__key_copy(struct cache *c, name##_key *key)        \
    {                                                                          \
        int rc_;                                                               \
        if (!name##__callbacks().key_copy)                                     \
            return 0;                                                          \
        c->busy = true;                                                        \
        rc_ = name##__callbacks().key_copy(key, c->user);                      \
        c->busy = false;                                                       \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static void name##__drop(struct cache *c, uint32_t slot_,     \
                                          enum cache_cause cause)              \
    {                                                                          \
        struct name##_node *node_ = (struct name##_node *)c->nodes + slot_;    \
        uint32_t hash_ = cache__keeps_hash(name##__options)                    \
                             ? cache__link(c, name##__options, slot_)[1]       \
                             : name##__hash(c, &node_->key);                   \
        cache__withdraw(c, name##__options, slot_, hash_, cause);              \
        name##__tell(c, &node_->key, &node_->value, cause);                    \
        name##__key_free(c, &node_->key);                                      \
    }                                                                          \
    CACHE_INLINE bool name##__one_by_one(void)                                 \
    {                                                                          \
        return name##__callbacks().on_remove || name##__callbacks().key_free;  \
    }                                                                          \
    CACHE_UNUSED static const struct cache_type name##__type = {               \
        name##__options,                                                       \
        sizeof(struct name##_node),                                            \
        sizeof(name##_key) + sizeof(name##_value),                             \
        name##__slot_hash,                                                     \
        name##__slot_find,                                                     \
        name##__drop,                                                          \
    };                                                                         \
    struct cache__swallow_semicolon

/* An entry's way in.  *slot_ is an expired entry of the same key, 0 = none.
 * It leaves when nothing can fail any more: `key` may point into it. */
#define CACHE__DEFINE_STORE(name)                                              \
    CACHE_INLINE uint32_t name##__room(struct name *c)                         \
    {                                                                          \
        uint32_t slot_ = cache__take_slot(&c->base, name##__options);          \
        enum cache_cause cause_;                                               \
        if (slot_ != 0)                                                        \
            return slot_;                                                      \
        slot_ = cache__victim(&c->base, name##__options, &cause_);             \
        name##__drop(&c->base, slot_, cause_);                                 \
        slot_ = cache__look_ahead(&c->base, name##__options);                  \
        CACHE__PREFETCH(&c->nodes[slot_]);                                     \
        return cache__take_slot(&c->base, name##__options);                    \
    }                                                                          \
    CACHE_UNUSED static int name##__insert(                                    \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint32_t hash_, uint32_t deadline_, uint32_t *slot_)                   \
    {                                                                          \
        name##_key own_ = *key;                                                \
        int rc_ = name##__key_copy(&c->base, &own_);                           \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        if (*slot_ != 0)                                                       \
            name##__drop(&c->base, *slot_, CACHE_CAUSE_EXPIRED);               \
        *slot_ = name##__room(c);                                              \
        c->nodes[*slot_].key = own_;                                           \
        c->nodes[*slot_].value = *value;                                       \
        cache__publish(&c->base, name##__options, *slot_, hash_, deadline_);   \
        return 0;                                                              \
    }                                                                          \
    CACHE_INLINE void name##__assign(struct name *c, uint32_t slot_,           \
                                     const name##_value *value,                \
                                     uint32_t deadline_)                       \
    {                                                                          \
        name##_value old_ = c->nodes[slot_].value;                             \
        c->nodes[slot_].value = *value;                                        \
        cache__replaced(&c->base, name##__options, slot_, deadline_);          \
        name##__tell(&c->base, &c->nodes[slot_].key, &old_,                    \
                     CACHE_CAUSE_REPLACED);                                    \
    }                                                                          \
    struct cache__swallow_semicolon

/* Making and unmaking. */
#define CACHE__DEFINE_LIFE(name)                                               \
    CACHE_UNUSED static inline size_t name##_memory_needed(                    \
        const struct cache_config *config)                                     \
    {                                                                          \
        return cache__memory_needed(&name##__type, config);                    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init(                                \
        struct name *c, const struct cache_config *config)                     \
    {                                                                          \
        int rc_ = cache__init(c ? &c->base : NULL, &name##__type, config);     \
        if (rc_ == 0)                                                          \
            c->nodes = (struct name##_node *)c->base.nodes;                    \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init_in(                             \
        struct name *c, const struct cache_config *config, void *buffer,       \
        size_t bytes)                                                          \
    {                                                                          \
        int rc_ = cache__init_in(c ? &c->base : NULL, &name##__type, config,   \
                                 buffer, bytes);                               \
        if (rc_ == 0)                                                          \
            c->nodes = (struct name##_node *)c->base.nodes;                    \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_clear(struct name *c)                \
    {                                                                          \
        return cache__clear(&c->base, &name##__type, name##__one_by_one());    \
    }                                                                          \
    CACHE_UNUSED static inline void name##_destroy(struct name *c)             \
    {                                                                          \
        cache__destroy(&c->base, &name##__type, name##__one_by_one());         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking. */
#define CACHE__DEFINE_LOOKUP(name)                                             \
    CACHE_UNUSED static inline const name##_value *name##_get(struct name *c,  \
                                                              name##_key key)  \
    {                                                                          \
        uint32_t slot_ = name##__find(c, &key, name##__hash(&c->base, &key));  \
        return cache__hit(&c->base, name##__options, slot_)                    \
                   ? &c->nodes[slot_].value                                    \
                   : NULL;                                                     \
    }                                                                          \
    CACHE_UNUSED static inline const name##_value *name##_peek(struct name *c, \
                                                               name##_key key) \
    {                                                                          \
        uint32_t slot_ = name##__find(c, &key, name##__hash(&c->base, &key));  \
        return cache__live(&c->base, name##__options, slot_)                   \
                   ? &c->nodes[slot_].value                                    \
                   : NULL;                                                     \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_contains(struct name *c,            \
                                                    name##_key key)            \
    {                                                                          \
        return name##_peek(c, key) != NULL;                                    \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_len(const struct name *c)       \
    {                                                                          \
        return c->base.len;                                                    \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_next(struct name *c,                \
                                                struct name##_cursor *at)      \
    {                                                                          \
        at->slot = cache__next_live(&c->base, name##__options, at->slot);      \
        at->key = at->slot ? &c->nodes[at->slot].key : NULL;                   \
        at->value = at->slot ? &c->nodes[at->slot].value : NULL;               \
        return at->slot != 0;                                                  \
    }                                                                          \
    CACHE_UNUSED static inline int name##_stats(const struct name *c,          \
                                                struct cache_stats *out)       \
    {                                                                          \
        return cache__stats(&c->base, name##__options, out);                   \
    }                                                                          \
    CACHE_UNUSED static inline struct cache_memory name##_memory(              \
        const struct name *c)                                                  \
    {                                                                          \
        return cache__memory(&c->base, &name##__type);                         \
    }                                                                          \
    CACHE_UNUSED static inline const char *name##_check(const struct name *c)  \
    {                                                                          \
        return cache__check(&c->base, &name##__type);                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* What the store calls differ in: which presence of the key they accept. */
enum cache__accept { CACHE__ANY, CACHE__ABSENT, CACHE__PRESENT };

/* Storing. */
#define CACHE__DEFINE_PUT(name)                                                \
    CACHE_UNUSED static inline int name##__put(                                \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t ttl_ms, enum cache__accept accept_)                           \
    {                                                                          \
        uint32_t deadline_, hash_, slot_;                                      \
        bool live_;                                                            \
        int rc_ =                                                              \
            cache__begin_put(&c->base, name##__options, ttl_ms, &deadline_);   \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        hash_ = name##__hash(&c->base, key);                                   \
        slot_ = name##__find(c, key, hash_);                                   \
        live_ = cache__live(&c->base, name##__options, slot_);                 \
        if (accept_ == (live_ ? CACHE__ABSENT : CACHE__PRESENT))               \
            return CACHE_EKEY;                                                 \
        if (!live_)                                                            \
            return name##__insert(c, key, value, hash_, deadline_, &slot_);    \
        name##__assign(c, slot_, value, deadline_);                            \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put(struct name *c, name##_key key,  \
                                              name##_value value)              \
    {                                                                          \
        return name##__put(c, &key, &value, c->base.ttl_ms, CACHE__ANY);       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_ttl(                             \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms)   \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_EXPIRY);                 \
        return rc_ ? rc_ : name##__put(c, &key, &value, ttl_ms, CACHE__ANY);   \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_if_absent(                       \
        struct name *c, name##_key key, name##_value value)                    \
    {                                                                          \
        return name##__put(c, &key, &value, c->base.ttl_ms, CACHE__ABSENT);    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_replace(                             \
        struct name *c, name##_key key, name##_value value)                    \
    {                                                                          \
        return name##__put(c, &key, &value, c->base.ttl_ms, CACHE__PRESENT);   \
    }                                                                          \
    CACHE_UNUSED static inline const name##_value *name##_get_or_insert(       \
        struct name *c, name##_key key, name##_value initial, bool *inserted)  \
    {                                                                          \
        uint32_t deadline_, hash_ = name##__hash(&c->base, &key);              \
        uint32_t slot_ = name##__find(c, &key, hash_);                         \
        bool hit_ = cache__hit(&c->base, name##__options, slot_);              \
        if (inserted)                                                          \
            *inserted = false;                                                 \
        if (hit_)                                                              \
            return &c->nodes[slot_].value;                                     \
        if (cache__begin_put(&c->base, name##__options, c->base.ttl_ms,        \
                             &deadline_) != 0)                                 \
            return NULL;                                                       \
        if (name##__insert(c, &key, &initial, hash_, deadline_, &slot_) != 0)  \
            return NULL;                                                       \
        if (inserted)                                                          \
            *inserted = true;                                                  \
        return &c->nodes[slot_].value;                                         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Changing and removing. */
#define CACHE__DEFINE_CHANGE(name)                                             \
    CACHE_UNUSED static inline int name##__apply(                              \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint32_t hash_, uint32_t slot_, bool live_, uint32_t deadline_,        \
        int action_)                                                           \
    {                                                                          \
        if (action_ == CACHE_COMPUTE_REMOVE && live_)                          \
            name##__drop(&c->base, slot_, CACHE_CAUSE_REMOVED);                \
        if (action_ != CACHE_COMPUTE_STORE)                                    \
            return action_ > CACHE_COMPUTE_REMOVE ? CACHE_EINVAL : 0;          \
        if (!live_)                                                            \
            return name##__insert(c, key, value, hash_, deadline_, &slot_);    \
        c->nodes[slot_].value = *value;                                        \
        cache__policy_hit(&c->base, name##__options, slot_);                   \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_compute(                             \
        struct name *c, name##_key key, name##_compute_fn fn, void *user)      \
    {                                                                          \
        uint32_t deadline_, hash_, slot_;                                      \
        bool live_;                                                            \
        name##_value value_;                                                   \
        int rc_ = cache__begin_put(&c->base, name##__options, c->base.ttl_ms,  \
                                   &deadline_);                                \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        hash_ = name##__hash(&c->base, &key);                                  \
        slot_ = name##__find(c, &key, hash_);                                  \
        live_ = cache__live(&c->base, name##__options, slot_);                 \
        memset(&value_, 0, sizeof value_);                                     \
        if (live_)                                                             \
            value_ = c->nodes[slot_].value;                                    \
        c->base.busy = true;                                                   \
        rc_ = fn(&key, &value_, live_, user);                                  \
        c->base.busy = false;                                                  \
        return rc_ < 0 ? rc_                                                   \
                       : name##__apply(c, &key, &value_, hash_, slot_, live_,  \
                                       deadline_, rc_);                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove(struct name *c,               \
                                                 name##_key key)               \
    {                                                                          \
        uint32_t slot_;                                                        \
        if (cache__begin(&c->base) != 0)                                       \
            return CACHE_EBUSY;                                                \
        slot_ = name##__find(c, &key, name##__hash(&c->base, &key));           \
        if (!cache__live(&c->base, name##__options, slot_))                    \
            return CACHE_EKEY;                                                 \
        name##__drop(&c->base, slot_, CACHE_CAUSE_REMOVED);                    \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_touch_ttl(                           \
        struct name *c, name##_key key, uint64_t ttl_ms)                       \
    {                                                                          \
        uint32_t deadline_, slot_;                                             \
        int rc_ = cache__needs(name##__options, CACHE_EXPIRY);                 \
        if (rc_ == 0)                                                          \
            rc_ = cache__begin_put(&c->base, name##__options, ttl_ms,          \
                                   &deadline_);                                \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        slot_ = name##__find(c, &key, name##__hash(&c->base, &key));           \
        if (!cache__live(&c->base, name##__options, slot_))                    \
            return CACHE_EKEY;                                                 \
        cache__set_deadline(&c->base, name##__options, slot_, deadline_);      \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        return cache__sweep(&c->base, &name##__type, max_items);               \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_DEFINE(name, K, V, hash, equal, options)
 * CACHE_DEFINE_WITH(name, K, V, hash, equal, options, callbacks...)
 *
 * K and V are types that assignment copies.  hash and equal are functions (see
 * "hashing").  options is an integer constant: one policy | any features.
 * Callbacks are designated initialisers in this order, each optional:
 *
 *   .key_copy  int (K *key, void *user): *key enters the cache; make it the
 *              cache's own.  An error refuses the put and is its result.
 *   .key_free  void (K *key, void *user): a key that key_copy made leaves.
 *   .on_remove void (const K *key, V *value, enum cache_cause, void *user):
 *              a value leaves, for the reason given; exactly once for each.
 *
 * Callbacks may look (get, peek, contains, len, next, stats, memory) at their
 * cache; what left is no longer found.  A call that would change it is refused
 * with CACHE_EBUSY and fails CACHE_ASSERT.
 *
 * What it makes, `c` being a struct name *:
 *
 * int name_init(c, const struct cache_config *config)
 *   Makes an empty cache; config is not kept.  Returns 0, CACHE_ENOMEM or the
 *   error of a member that is wrong; then nothing is allocated and *c is as it
 *   was.
 * int name_init_in(c, config, void *buffer, size_t bytes)
 *   The same in memory of the caller, of any alignment, which must outlive the
 *   cache.  CACHE_EBUFFER if bytes is below name_memory_needed(config).
 * size_t name_memory_needed(config)
 *   Bytes that a cache of this config takes; 0 if init would refuse it.
 * void name_destroy(c)
 *   Clears, and frees what init allocated.  Twice is harmless; so is a struct
 *   of zeroes.
 *
 * const V *name_get(c, K key)
 *   The value, or NULL if there is none or it has expired.  Counts as a use.
 *   Lifetime: until the next put, remove, clear, compute or tick.
 * const V *name_peek(c, K key)
 *   The same without counting: neither the policy nor stats learn of it.
 * bool name_contains(c, K key)
 *   Whether peek would return a value.
 * const V *name_get_or_insert(c, K key, V initial, bool *inserted)
 *   The value if there is one, otherwise stores `initial`; one hash and one
 *   probe.  *inserted (may be NULL) says which.  NULL if the put was refused.
 *
 * int name_put(c, K key, V value)
 *   Stores, for config.ttl_ms.  Returns 0, CACHE_ETTL or key_copy's error.
 * int name_put_ttl(c, K key, V value, uint64_t ttl_ms)
 *   Stores for ttl_ms milliseconds or CACHE_NEVER.  CACHE_ETTL if ttl_ms is
 *   under one tick or beyond range, CACHE_EINVAL without CACHE_EXPIRY.
 * int name_put_if_absent(c, K key, V value)
 *   Stores unless there is a live entry: then CACHE_EKEY.
 * int name_replace(c, K key, V value)
 *   Stores only over a live entry; otherwise CACHE_EKEY.
 * int name_compute(c, K key, name_compute_fn fn, void *user)
 *   Calls fn(&key, &value, present, user) with a copy of the value, zeroes if
 *   there is none, and does what it returns (enum cache_compute).  A stored
 *   value counts as changed in place: on_remove is not called, the deadline
 *   stays; a new entry has config.ttl_ms.  Returns 0, fn's negative result,
 *   CACHE_EINVAL for an unknown one, or put's errors; if key_copy refuses a new
 *   key, what fn made is dropped without on_remove.
 * int name_touch_ttl(c, K key, uint64_t ttl_ms)
 *   Sets a live entry's time to live, from now.  0, CACHE_EKEY, CACHE_ETTL, or
 *   CACHE_EINVAL without CACHE_EXPIRY.  Does not count as a use.
 * int name_remove(c, K key)
 *   Takes the entry out.  0, or CACHE_EKEY if there is no live one.
 * int name_clear(c)
 *   Takes all entries out, with CACHE_CAUSE_CLEARED, expired ones too.  0, or
 *   CACHE_EBUSY from a callback.
 *
 * uint32_t name_len(c)
 *   Entries, including expired ones that are not yet reclaimed.
 * bool name_next(c, struct name_cursor *at)
 *   Moves to the next live entry, in no particular order; false at the end.
 *   Begin with a cursor of zeroes.  at->key and at->value live as long as a
 *   get's result.  The current entry, or any other, may be removed meanwhile;
 *   entries that are put meanwhile may or may not be seen.
 * uint32_t name_tick(c, uint32_t max_items)
 *   Looks at up to max_items entries and reclaims the expired.  Returns how
 *   many are still to be looked at; 0 = nothing is due.  A cache that is never
 *   ticked still returns nothing expired, and before it evicts it looks at
 *   eight entries for an expired one.
 * int name_stats(c, struct cache_stats *out)
 *   The counters.  CACHE_EINVAL without CACHE_STATS.
 * struct cache_memory name_memory(c)
 *   The block's size, and how much of it is neither key nor value.
 * const char *name_check(c)
 *   For tests: walks every invariant.  NULL, or a sentence on what is broken.
 */
#define CACHE_DEFINE_WITH(name, K, V, hash, equal, options, ...)               \
    CACHE__DEFINE_TYPES(name, K, V, options, __VA_ARGS__);                     \
    CACHE__DEFINE_PROBE(name, hash, equal);                                    \
    CACHE__DEFINE_CORE(name);                                                  \
    CACHE__DEFINE_STORE(name);                                                 \
    CACHE__DEFINE_LIFE(name);                                                  \
    CACHE__DEFINE_LOOKUP(name);                                                \
    CACHE__DEFINE_PUT(name);                                                   \
    CACHE__DEFINE_CHANGE(name)

#define CACHE_DEFINE(name, K, V, hash, equal, options)                         \
    CACHE_DEFINE_WITH(name, K, V, hash, equal, options, .key_copy = NULL)

#endif /* CACHE_H */
