/*
 * cache.h - typed, bounded, in-process caches for C and C++.
 *
 * WHAT IT DOES
 *   CACHE_DEFINE makes a cache type for a key type and a value type of your
 *   own.  A cache holds at most `capacity` entries; when it is full, the
 *   policy (cache_policies.h; CACHE_ADAPTIVE if you name none) chooses who
 *   leaves.  A limit in bytes may be added, and entries pinned.  Entries may
 *   expire.  One allocation when it is made, none afterwards.
 *
 *   EXAMPLE
 *     #include "cache.h"
 *
 *     CACHE_DEFINE(ages, uint64_t, int, cache_hash_u64, cache_equal_u64,
 *                  CACHE_EXPIRY);      // and the default policy
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
 *     groups   8 words for 4    the entries of 1/n of all hashes [ 0 3 .. 1 ]
 *     chain    1 or 2 words     the group's, beyond 8 (, hash)     |
 *     policy   by policy        links, marks, ghosts, ...          v
 *     expire   1 word, if on    deadline in ticks, 0 = never     slot 3
 *     weights  1 word, if on    bytes                              :
 *     pins     2 bytes, if on   how often it is pinned             :
 *     times    2 words, if on   ticks: created, last used          :
 *     counts   1 word, if on    uses                               :
 *     versions 2 words, if on   the value's version                :
 *     nodes    key and value    struct name_node                 { key, value }
 *
 *   All arrays but `groups` are indexed by slot and stand in one block of
 *   name_memory_needed() bytes.  Slot 0 means none.  A word is a slot; the bits
 *   that no slot needs hold a tag, bits of the key's hash.  A look-up compares
 *   the tags of a group, half a cache line, at once and without a branch: it
 *   seldom looks at a key that is not the right one.  The last word of a group
 *   that is full begins a chain of those that found no place.
 *   Deleting clears a word: there are no tombstones and no rehash, and a cache
 *   that has evicted fifty million entries is as fast as a fresh one.
 *
 * THREADS
 *   None: a cache belongs to one thread, or to a lock of yours.  cache_shared.h
 *   makes caches of this engine that all threads may use.
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
 *   - A pinned entry's value stays valid, whatever happens to others.
 *   - A call that returns an error has changed nothing, and key and value
 *     stay with the caller.  After an init that failed there is nothing to
 *     destroy.
 *
 * COST
 *   12 bytes per entry beside key and value, + 4 with CACHE_EXPIRY, + 4 with
 *   CACHE_KEEP_HASH, + 4 with CACHE_WEIGHED, + 2 with CACHE_PINS, + 8 with
 *   CACHE_META_TIMES, + 4 with CACHE_META_COUNT, + 8 with CACHE_META_VERSION,
 *   + the policy's (cache_policies.h).  What is off costs no byte and no
 *   instruction.  Without CACHE_EXPIRY and CACHE_META_TIMES the clock is never
 *   read; with the latter each hit and each put reads it.
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
#include <sys/mman.h>
#include <sys/random.h>
#endif
#if defined(__SSE2__)
#include <emmintrin.h>
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
 * The last argument of CACHE_DEFINE: a policy | any features.  Without a policy
 * it is CACHE_ADAPTIVE.
 *
 * A policy code has three of the six low bits set, so two of them combined
 * are never a third one, and the compiler says so.
 */
enum cache_option {
    CACHE_ADAPTIVE = 0x13, /* the default, when no policy is named */
    CACHE_FIFO = 0x07,     /* first in, first out */
    CACHE_LRU = 0x0b,      /* the least recently used leaves */
    CACHE_CLOCK = 0x0e,    /* FIFO with a second chance, in a quarter byte */
    CACHE_SIEVE = 0x0d,    /* LRU's simpler and mostly better successor */
    CACHE_RANDOM = 0x2a,   /* any entry leaves */
    CACHE_TTL = 0x15,      /* the soonest to expire leaves */
    CACHE_LFU = 0x16,      /* the least frequently used, with aging */
    CACHE_GDSF = 0x29,     /* light, dear and popular entries stay */
    CACHE_SLRU = 0x19,     /* LRU in two segments */
    CACHE_2Q = 0x1a,       /* a FIFO for newcomers before an LRU */
    CACHE_ARC = 0x1c,      /* recency and frequency, balanced by ghosts */
    CACHE_LIRS = 0x23,     /* by the distance between uses: loops, scans */
    CACHE_S3FIFO = 0x25,   /* three FIFO queues */
    CACHE_WTINYLFU = 0x26, /* a window before an SLRU that a sketch guards */

    CACHE_POLICY_DYNAMIC = 0x2c, /* config.policy says which */

    CACHE_EXPIRY = 0x100,    /* entries may have a time to live */
    CACHE_STATS = 0x200,     /* count hits, misses, evictions, ... */
    CACHE_KEEP_HASH = 0x400, /* store 32 bits of hash: for keys whose equality
                                is dear; always on for keys that are pointers
                                or struct cache_bytes */
    CACHE_WEIGHED = 0x800, /* a limit in bytes too: config.max_bytes, .weigh */
    CACHE_PINS = 0x1000,   /* name_pin keeps an entry from being evicted */
    CACHE_PLAIN_DATA = 0x2000, /* shared caches: key and value are bytes that
                                  refer to nothing, so they may be copied out
                                  without a lock (cache_shared.h) */

    /* What name_entry says of an entry: */
    CACHE_META_TIMES = 0x8000,    /* when it was created and last used */
    CACHE_META_COUNT = 0x10000,   /* how often it was used */
    CACHE_META_VERSION = 0x20000, /* a version of its value, that puts may
                                     depend on: name_put_if_version */

    CACHE_TIMINGS = 0x40000, /* loading caches: histograms of how long loads,
                                stores, reads and writes take
                                (cache_loading.h) */

    CACHE__SHARD = 0x4000,     /* one of the caches that make a shared one */
    CACHE__OWN_TIME = 0x80000, /* the value says itself until when it is good:
                                  a look without the lock asks no clock */
    CACHE__TIMED = CACHE_EXPIRY | CACHE_META_TIMES, /* either reads the clock */
    CACHE__META = CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION,
    CACHE__POLICY_BITS = 0x3f,
    CACHE__FEATURE_BITS = 0x39f00
};

/* Every policy: X(o, code, table of verbs). */
#define CACHE__POLICIES(X, o)                                                  \
    X(o, CACHE_ADAPTIVE, cache_adaptive)                                       \
    X(o, CACHE_FIFO, cache_fifo)                                               \
    X(o, CACHE_LRU, cache_lru)                                                 \
    X(o, CACHE_CLOCK, cache_clock)                                             \
    X(o, CACHE_SIEVE, cache_sieve)                                             \
    X(o, CACHE_RANDOM, cache_random)                                           \
    X(o, CACHE_TTL, cache_ttl)                                                 \
    X(o, CACHE_LFU, cache_lfu)                                                 \
    X(o, CACHE_GDSF, cache_gdsf)                                               \
    X(o, CACHE_SLRU, cache_slru)                                               \
    X(o, CACHE_2Q, cache_2q)                                                   \
    X(o, CACHE_ARC, cache_arc)                                                 \
    X(o, CACHE_LIRS, cache_lirs)                                               \
    X(o, CACHE_S3FIFO, cache_s3fifo)                                           \
    X(o, CACHE_WTINYLFU, cache_wtinylfu)

/* The policy code in some options. */
#define CACHE__CODE(o) ((int)(o) & (int)CACHE__POLICY_BITS)

/* What is added to options that name no policy. */
#define CACHE__DEFAULT_OF(o) (CACHE__CODE(o) == 0 ? (int)CACHE_ADAPTIVE : 0)

#define CACHE__IS_THIS(o, code, verbs) CACHE__CODE(o) == (code) ||
#define CACHE__IS_POLICY(o)                                                    \
    (CACHE__POLICIES(CACHE__IS_THIS, o) CACHE__CODE(o) == CACHE_POLICY_DYNAMIC)

/* The verbs that the options name; NULL for CACHE_POLICY_DYNAMIC.  Where a hit
 * moves entries or observes, a shard has a variant. */
#define CACHE__CHOICE(o, code, verbs) CACHE__CODE(o) == (code) ? &(verbs):
#define CACHE__IS_SHARD_OF(o, code)                                            \
    (((int)(o) & (int)CACHE__SHARD) != 0 && CACHE__CODE(o) == (code))
#define CACHE__POLICY_OF(o)                                                    \
    (CACHE__IS_SHARD_OF(o, CACHE_LRU) ? &cache_lru_shard                       \
     : CACHE__IS_SHARD_OF(o, CACHE_ADAPTIVE)                                   \
         ? &cache_adaptive_shard                                               \
         : CACHE__POLICIES(CACHE__CHOICE, o) NULL)

/* The function that turns config.policy into verbs, if there is to be one. */
#define CACHE__CHOOSER_OF(o)                                                   \
    (CACHE__CODE(o) != CACHE_POLICY_DYNAMIC ? NULL                             \
     : (int)(o) & (int)CACHE__SHARD         ? cache__shard_policy_by_code      \
                                            : cache__policy_by_code)

/* Why a value left the cache. */
enum cache_cause {
    CACHE_CAUSE_REPLACED,   /* another value was put under its key */
    CACHE_CAUSE_REMOVED,    /* remove, or compute that asked for it */
    CACHE_CAUSE_EXPIRED,    /* its time to live was over */
    CACHE_CAUSE_EVICTED,    /* the cache was full and the policy chose it */
    CACHE_CAUSE_CLEARED,    /* clear or destroy */
    CACHE_CAUSE_INVALIDATED /* everything was invalidated (cache_loading.h) */
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
    CACHE_EWEIGHT = -5034,
    CACHE_EPOLICY = -5035,
    CACHE_ERETAIN = -5036,
    CACHE_ESHARDS = -5037,
    CACHE_ESTRATEGY = -5038,
    CACHE_EFRESHNESS = -5039,

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
    CACHE_ESTORE = -5051,
    CACHE_ETIMEOUT = -5052
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
        return "config: tick_ms is set but the cache reads no clock";
    case CACHE_ENOEXPIRY:
        return "config: ttl_ms is set but the cache does not expire";
    case CACHE_ECLOCK:
        return "config: now and now_ms are both given, or neither where no "
               "monotonic clock is declared";
    case CACHE_EALLOCATOR:
        return "config: alloc and free come together or not at all, and "
               "without huge_pages";
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
    case CACHE_EWEIGHT:
        return "config: max_bytes, CACHE_WEIGHED and .weigh come together, and "
               "max_bytes holds at least one entry";
    case CACHE_EPOLICY:
        return "config: policy is not one, or the type has its own";
    case CACHE_ERETAIN:
        return "retain is for shared caches, and neither it nor key_copy goes "
               "with CACHE_PLAIN_DATA";
    case CACHE_ESHARDS:
        return "config: shards is above the capacity or 65536, or the cache is "
               "not shared";
    case CACHE_ESTRATEGY:
        return "config: the strategies do not go together, or a member is for "
               "another one";
    case CACHE_EFRESHNESS:
        return "config: a percentage is above 100, or a time beyond range";
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
    case CACHE_ECONFLICT: return "a newer value or an invalidation came first";
    case CACHE_ECLOSED: return "closed";
    case CACHE_EDEADLETTER: return "a write was given up and dead-lettered";
    case CACHE_ESTORE: return "the store failed";
    case CACHE_ETIMEOUT: return "the time limit came first";
    default: return "not an error of this library";
    }
}

/* --- configuration ------------------------------------------------------- */

#define CACHE_MAX_CAPACITY 0x7ffffffeu /* a slot is 31 bits, 0 means none */
#define CACHE_DEFAULT_TICK_MS 50u      /* 2^32 of them are 6.8 years */
#define CACHE_NEVER UINT64_MAX         /* a ttl_ms: the entry does not expire */

/* The largest version that may be given.  Those that the cache makes go on
 * behind it, and do not get to the end of 64 bits. */
#define CACHE_MAX_VERSION (UINT64_MAX / 2)

/* What init needs.  A member that is zero has the default that it names. */
struct cache_config {
    size_t capacity;    /* entries, 1 to CACHE_MAX_CAPACITY; required */
    uint64_t max_bytes; /* with CACHE_WEIGHED, required: what all entries may
                           weigh together, each one its own bytes (.weigh) and
                           its share of the block */
    uint32_t policy;    /* with CACHE_POLICY_DYNAMIC: CACHE_LRU, ...;
                           0 = CACHE_ADAPTIVE */
    uint64_t ttl_ms;    /* time to live of a put without one; 0 = forever */
    uint32_t tick_ms;   /* resolution of time; 0 = CACHE_DEFAULT_TICK_MS.  An
                         entry is never returned after its time to live, and
                         may go up to one tick before its end.  2^32 ticks
                         are the longest life of cache and entry. */
    uint32_t shards;    /* of a shared cache: parts with a lock each, rounded up
                           to a power of two; 0 = by cores and capacity */
    uint64_t seed;      /* of the hash; 0 = random, which is what keeps keys
                         chosen by an attacker out of one chain */
    uint64_t (*now)(void *user); /* monotonic milliseconds; NULL = the coarse
                                    system clock.  Read only with CACHE_EXPIRY
                                    or CACHE_META_TIMES. */
    const uint64_t *now_ms; /* or where the program keeps that time up to date,
                               as one with a loop does: a look-up then calls
                               nothing.  It outlives the cache; threads that
                               share one set it atomically. */
    void *(*alloc)(size_t bytes, void *user); /* NULL = calloc.  Alignment as
                                                 malloc; may be uninitialised */
    void (*free)(void *memory, void *user);   /* NULL = free */
    bool huge_pages; /* init asks the system for pages of 2 MiB, which spare a
                        large cache page faults and TLB misses; a block below
                        that size, and a system or a strict C standard without
                        madvise, has normal ones.  Not together with alloc. */
    void *user;      /* for the hooks above and every callback of the cache */
};

/* Counters since init; needs CACHE_STATS. */
struct cache_stats {
    uint64_t hits;        /* get and get_or_insert that found a live entry */
    uint64_t misses;      /* and those that did not */
    uint64_t inserts;     /* keys that entered */
    uint64_t replaces;    /* values put over another one */
    uint64_t removes;     /* entries taken out by remove or compute */
    uint64_t evictions;   /* entries that left because there was no room */
    uint64_t expirations; /* expired entries that were reclaimed */
};

/* Where the memory of a cache goes. */
struct cache_memory {
    size_t total_bytes;       /* the block: what memory_needed said */
    size_t bookkeeping_bytes; /* of these: not a key and not a value */
    uint64_t used_bytes;      /* with CACHE_WEIGHED: of config.max_bytes */
    uint32_t entry_bytes;     /* with CACHE_WEIGHED: what an entry weighs beside
                                 its own bytes */
};

/* What is known of one entry; a member whose option is off is 0.  Times are
 * those of config.now, cut to whole ticks since init. */
struct cache_entry {
    uint64_t created_ms;   /* CACHE_META_TIMES: when its key entered */
    uint64_t accessed_ms;  /* CACHE_META_TIMES: its latest use: look-ups that
                              count as one, and every value it was given */
    uint64_t expires_ms;   /* CACHE_EXPIRY: when it is dead; CACHE_NEVER */
    uint64_t version;      /* CACHE_META_VERSION: of its value; never 0 */
    uint32_t count;        /* CACHE_META_COUNT: look-ups that found it and count
                              as a use; stops at UINT32_MAX */
    uint32_t weight_bytes; /* CACHE_WEIGHED: with its share of the block */
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

/* When an entry came and when it was used last, in ticks from 1. */
struct cache__times {
    uint32_t created;
    uint32_t accessed; /* never falls */
};

/* Where the metadata is.  It stands in the line before the nodes, in caches
 * that have some, so that others are as small as without. */
struct cache__meta {
    struct cache__times *times; /* per slot, with CACHE_META_TIMES */
    uint32_t *counts;           /* per slot: uses, with CACHE_META_COUNT */
    uint64_t *versions; /* per slot: of its value, 0 in every free slot, with
                           CACHE_META_VERSION */
    uint64_t version;   /* the highest that a value of this cache has had */
    uint64_t given;     /* of the value that is being stored; 0 = version + 1 */
};

/* Memory that init asked for. */
struct cache__block {
    void *memory;  /* NULL = the caller's, not ours to free */
    size_t mapped; /* bytes to be unmapped; 0 = it came from alloc */
    void (*free)(void *memory, void *user); /* NULL = free of libc */
    void *user;
};

/* The part of a cache that does not depend on its types.  First what a look-up
 * reads: one line, which nothing else is in; then what is set once; last what
 * each insertion writes. */
struct cache {
    uint32_t *groups;   /* words of the entries, CACHE__GROUP to a group; 0 =
                           none.  The last one is not 0 only in a full group */
    uint32_t *chain;    /* per slot: the word behind it if it stands last in its
                          group or in that chain, else 0; or, marked with
                          CACHE__FREE, the next slot of the free list; then the
                          hash, if it is kept.  [0] is 0 */
    uint32_t *expire;   /* per slot: the tick at which it is dead; 0 = never,
                          and in every free slot.  NULL without CACHE_EXPIRY */
    void *nodes;        /* per slot: struct name_node */
    uint32_t n_groups;  /* see cache__groups_for */
    uint32_t slot_bits; /* a word of the index: a slot below, a tag above */
    uint32_t slot_mask; /* 2^slot_bits - 1, at least the capacity */
    uint32_t sequence;  /* with CACHE_PLAIN_DATA: odd while what threads without
                           the lock may see is written */
    struct cache_policy policy; /* `marks`, `now` and `full` fill the line */
    const struct cache_policy_verbs *verbs; /* of the policy */

    uint32_t *weights;     /* per slot: bytes.  NULL without CACHE_WEIGHED */
    uint16_t *pins;        /* per slot: pins that hold it, 0 in every free slot.
                              NULL without CACHE_PINS */
    uint64_t seed;         /* of the hash */
    uint32_t capacity;     /* entries at most */
    uint32_t n_pinned;     /* entries that the policy does not have */
    uint32_t held;         /* the slot that is given another weight; or 0 */
    uint32_t entry_bytes;  /* an entry's share of the block */
    uint32_t tick_ms;      /* length of a tick */
    uint64_t max_bytes;    /* weight of all entries at most */
    uint64_t used_bytes;   /* weight of all entries now */
    uint64_t pinned_bytes; /* of these: pinned */

    uint64_t start_ms;      /* config.now() at init */
    uint64_t next_tick_ms;  /* when `tick` will be out of date */
    uint64_t ttl_ms;        /* of a put without one, CACHE_NEVER = forever */
    uint32_t tick;          /* the latest tick seen: starts at 1, never falls */
    uint32_t soonest;       /* no entry has an earlier deadline than this */
    uint32_t sweep_at;      /* the slot that the sweep looked at last */
    uint32_t sweep_soonest; /* earliest deadline that this sweep left behind */

    uint64_t (*now)(void *user);
    const uint64_t *now_ms; /* instead of now; or NULL */
    void *user;
    struct cache__block block; /* where all of it is */
    size_t total_bytes;        /* its size */
    struct cache_stats stats;

    uint32_t len;        /* entries now, expired ones included */
    uint32_t fresh;      /* slots 1 to fresh have been used at least once */
    uint32_t free_slots; /* head of the list of slots that were freed */
    uint32_t leaving;    /* of a shard: head of the list of slots whose values
                            callbacks have yet to hear of */
    struct cache__leavers *leavers; /* of a shard: values of which callbacks
                                       will hear when the lock is released */
    uint32_t soon; /* a slot that is likely to leave soon; or 0 */
    bool busy;     /* a callback of this cache is running */
};

/* At the start of a struct of as many keys and values. */
struct cache__leavers {
    uint32_t n;
};

/* What a type is made of, as a constant: the compiler sees through it. */
struct cache_kind {
    uint32_t options;                        /* enum cache_option */
    const struct cache_policy_verbs *policy; /* NULL = chosen by a config */
};

/* What the engine has to know of a type; one constant for each. */
struct cache_type {
    struct cache_kind kind;
    const struct cache_policy_verbs *(*choose)(uint32_t policy); /* by a config;
                           NULL = the policy is fixed */
    size_t node_bytes;  /* sizeof(struct name_node) */
    size_t entry_bytes; /* sizeof(K) + sizeof(V) */
    uint64_t (*slot_hash)(const struct cache *c, uint32_t slot);
    uint32_t (*slot_find)(const struct cache *c, uint32_t slot);
    void (*drop)(struct cache *c, uint32_t slot, enum cache_cause cause);
    void (*collect)(struct cache *c, uint32_t slot); /* of a shard: the value in
                           a slot of the list `leaving` goes to c->leavers */
};

#define CACHE__LINE 64u /* arrays start on a cache line */

/* Of a cache that has metadata. */
CACHE_INLINE struct cache__meta *cache__meta_of(const struct cache *c)
{
    return (struct cache__meta *)(void *)((unsigned char *)c->nodes -
                                          CACHE__LINE);
}

#define CACHE__FREE 0x80000000u /* in `chain`: the slot holds no entry */

/* --- engine: what threads without the lock may see -----------------------
 * They look at a shard with CACHE_PLAIN_DATA while somebody who has its lock
 * writes: groups, chain, expire and nodes, which never move.  A seqlock as in
 * H.-J. Boehm, "Can Seqlocks Get Along with Programming Language Memory
 * Models?", MSPC 2012.  The writer:
 *
 *   sequence + 1;  release fence;  what they may see;  sequence + 1, release
 *
 * A reader who saw any of it sees that the sequence has moved, and looks again.
 * A slot that no chain leads to may be written without moving the sequence: the
 * insertion into the index is what shows it.  But a reader who was led astray
 * may be there since it was freed.  So a fence comes first, and whoever sees
 * what is written sees that the sequence has moved since then.
 */

CACHE_INLINE void cache__set_word(uint32_t options, uint32_t *word,
                                  uint32_t value)
{
    if (options & CACHE__SHARD)
        CACHE_ATOMIC_STORE(word, value);
    else
        *word = value;
}

/* A word that threads without the lock may write, too. */
CACHE_INLINE uint32_t cache__word(uint32_t options, const uint32_t *word)
{
    return options & CACHE__SHARD ? CACHE_ATOMIC_LOAD(word) : *word;
}

/* Before what no chain leads to is written. */
CACHE_INLINE void cache__begin_hidden(uint32_t options)
{
    if (options & CACHE_PLAIN_DATA)
        CACHE_FENCE_RELEASE();
}

CACHE_INLINE void cache__begin_writing(struct cache *c, uint32_t options)
{
    if ((options & CACHE_PLAIN_DATA) == 0)
        return;
    CACHE_ATOMIC_STORE(&c->sequence, c->sequence + 1);
    CACHE_FENCE_RELEASE();
}

CACHE_INLINE void cache__end_writing(struct cache *c, uint32_t options)
{
    if (options & CACHE_PLAIN_DATA)
        CACHE_ATOMIC_STORE_RELEASE(&c->sequence, c->sequence + 1);
}

#if defined(__GNUC__)
#define CACHE__ANY_TYPE __attribute__((may_alias))
#else
#define CACHE__ANY_TYPE
#endif
typedef uint64_t CACHE__ANY_TYPE cache__word64;
typedef uint32_t CACHE__ANY_TYPE cache__word32;
typedef uint16_t CACHE__ANY_TYPE cache__word16;

#if defined(__GNUC__)
#define CACHE__UNROLL _Pragma("GCC unroll 8")
#else
#define CACHE__UNROLL
#endif

/* Copies words of `width` bytes from `at` on; those in the cache do not tear:
 * the ones that are written if `store`, else those that are read.
 * Returns where less than one is left. */
CACHE_INLINE size_t cache__copy_words(unsigned char *to,
                                      const unsigned char *from, size_t at,
                                      size_t bytes, size_t width, bool store)
{
    cache__word64 w64;
    cache__word32 w32;
    cache__word16 w16;

    CACHE__UNROLL
    for (; at + width <= bytes; at += width) {
        void *target = to + at;
        const void *source = from + at;
        if (width == 8 && store) {
            memcpy(&w64, source, 8);
            CACHE_ATOMIC_STORE((cache__word64 *)target, w64);
        } else if (width == 8) {
            w64 = CACHE_ATOMIC_LOAD((const cache__word64 *)source);
            memcpy(target, &w64, 8);
        } else if (width == 4 && store) {
            memcpy(&w32, source, 4);
            CACHE_ATOMIC_STORE((cache__word32 *)target, w32);
        } else if (width == 4) {
            w32 = CACHE_ATOMIC_LOAD((const cache__word32 *)source);
            memcpy(target, &w32, 4);
        } else if (width == 2 && store) {
            memcpy(&w16, source, 2);
            CACHE_ATOMIC_STORE((cache__word16 *)target, w16);
        } else if (width == 2) {
            w16 = CACHE_ATOMIC_LOAD((const cache__word16 *)source);
            memcpy(target, &w16, 2);
        } else if (store) {
            CACHE_ATOMIC_STORE(to + at, from[at]);
        } else {
            to[at] = CACHE_ATOMIC_LOAD(from + at);
        }
    }
    return at;
}

/* How wide the words of a member may be.  `place` is its offset | the size of
 * the struct: the address is a multiple of the powers of two that divide it. */
CACHE_INLINE size_t cache__word_width(size_t place)
{
    return place % 8 == 0 && sizeof(void *) >= 8 ? 8
           : place % 4 == 0                      ? 4
           : place % 2 == 0                      ? 2
                                                 : 1;
}

/* Into the cache if `store`, else out of it. */
CACHE_INLINE void cache__copy_bytes(void *to, const void *from, size_t bytes,
                                    size_t place, bool store)
{
    const size_t width = cache__word_width(place);
    unsigned char *target = (unsigned char *)to;
    const unsigned char *source = (const unsigned char *)from;
    size_t at = 0;

    if (width >= 8)
        at = cache__copy_words(target, source, at, bytes, 8, store);
    if (width >= 4)
        at = cache__copy_words(target, source, at, bytes, 4, store);
    if (width >= 2)
        at = cache__copy_words(target, source, at, bytes, 2, store);
    (void)cache__copy_words(target, source, at, bytes, 1, store);
}

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

CACHE_INLINE uint64_t cache__now(const uint64_t *now_ms,
                                 uint64_t (*now)(void *user), void *user)
{
    return now_ms ? CACHE_ATOMIC_LOAD(now_ms) : now(user);
}

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
    uint64_t now_ms = cache__now(c->now_ms, c->now, c->user);

    if (now_ms >= c->next_tick_ms)
        cache__advance(c, now_ms);
    return c->tick;
}

/* When a tick begins. */
CACHE_INLINE uint64_t cache__ms_of(const struct cache *c, uint32_t tick)
{
    return c->start_ms + (uint64_t)(tick - 1) * c->tick_ms;
}

/* The deadline of an entry that lives ttl_ms from now; 0 = none. */
CACHE_INLINE int cache__deadline(struct cache *c, uint64_t ttl_ms,
                                 uint32_t *deadline)
{
    uint64_t now_ms, ticks;

    *deadline = 0;
    if (ttl_ms == CACHE_NEVER)
        return 0;
    now_ms = cache__now(c->now_ms, c->now, c->user);
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

/* As long as nothing can have expired, `expire` is not looked at: that would be
 * one more line that is far away.  `soonest` does not speak for what is pinned
 * or held. */
CACHE_INLINE bool cache__expired(struct cache *c, uint32_t options,
                                 uint32_t slot)
{
    const bool sure = (options & (CACHE_PINS | CACHE_WEIGHED)) == 0;

    if ((options & CACHE_EXPIRY) == 0 ||
        (sure && (c->soonest == UINT32_MAX || cache__tick(c) < c->soonest)))
        return false;
    return c->expire[slot] != 0 && c->expire[slot] <= cache__tick(c);
}

/* The tick at which the entry in `slot` is dead; 0 = never. */
CACHE_INLINE uint32_t cache__due_at(const struct cache *c, uint32_t options,
                                    uint32_t slot)
{
    return options & CACHE_EXPIRY ? c->expire[slot] : 0;
}

CACHE_INLINE void cache__set_deadline(struct cache *c, uint32_t options,
                                      uint32_t slot, uint32_t deadline)
{
    if ((options & CACHE_EXPIRY) == 0)
        return;
    cache__set_word(options, &c->expire[slot], deadline);
    if (deadline != 0 && deadline < c->soonest)
        c->soonest = deadline;
    if (deadline != 0 && slot <= c->sweep_at && deadline < c->sweep_soonest)
        c->sweep_soonest = deadline; /* the sweep has passed it already */
}

/* --- engine: index ------------------------------------------------------- */

/* Mixes what the user's hash may not have: the upper 32 bits are what the index
 * uses.  Hashes that differ still do. */
CACHE_INLINE uint64_t cache__mixed(uint64_t hash)
{
    return hash * CACHE__K0;
}

CACHE_INLINE uint32_t cache__upper(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

/* 32 well-mixed bits of a hash, whatever it is. */
CACHE_INLINE uint32_t cache__fold(uint64_t hash)
{
    return cache__upper(cache__mixed(hash));
}

#define CACHE__GROUP 8u /* words: two of 128 bits, half a cache line */

/* Half of the words are in use: of the groups 5 % are full, and of the entries
 * one in 200 stands in a chain. */
CACHE_INLINE uint32_t cache__groups_for(uint32_t capacity)
{
    return capacity / (CACHE__GROUP / 2) + 1;
}

/* Multiply and shift: any number of groups, no division. */
CACHE_INLINE uint32_t *cache__group(const struct cache *c, uint64_t hash)
{
    uint64_t group = ((uint64_t)cache__upper(hash) * c->n_groups) >> 32;

    return &c->groups[group * CACHE__GROUP];
}

/* A word of the index, which somebody may be writing. */
CACHE_INLINE uint32_t cache__index_word(const uint32_t *word, bool unlocked)
{
    return unlocked ? CACHE_ATOMIC_LOAD(word) : *word;
}

#if defined(__SSE2__) && defined(CACHE__OWN_ATOMICS) && !defined(CACHE__TSAN)
/* Half of a group.  Without the lock it may tear between its words, no more
 * than single loads of them would. */
CACHE_INLINE __m128i cache__half_group(const uint32_t *half, bool unlocked)
{
    const __m128i *words = (const __m128i *)(const void *)half;

    return unlocked ? *(const volatile __m128i *)words : *words;
}
#endif

/* Two bits for each word of a group, the lower set where `word` is there but
 * for the bits in `but`. */
CACHE_INLINE uint32_t cache__group_match(const uint32_t *group, uint32_t word,
                                         uint32_t but, bool unlocked)
{
#if defined(__SSE2__) && defined(CACHE__OWN_ATOMICS) && !defined(CACHE__TSAN)
    __m128i words = _mm_set1_epi32((int)word), buts = _mm_set1_epi32((int)but);
    __m128i low = cache__half_group(group, unlocked);
    __m128i high = cache__half_group(group + CACHE__GROUP / 2, unlocked);

    low = _mm_cmpeq_epi32(_mm_andnot_si128(buts, low), words);
    high = _mm_cmpeq_epi32(_mm_andnot_si128(buts, high), words);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi32(low, high)) & 0x5555;
#else
    uint32_t bits = 0, i;

    for (i = 0; i < CACHE__GROUP; i++)
        bits |=
            (uint32_t)((cache__index_word(&group[i], unlocked) & ~but) == word)
            << 2 * i;
    return bits;
#endif
}

/* The first word of a group that cache__group_match found. */
CACHE_INLINE uint32_t *cache__group_first(uint32_t *group, uint32_t match)
{
    return &group[cache__lowest_bit(match) / 2];
}

/* The bits of a word that no slot needs hold bits of its hash, so most keys
 * that are not the right one are passed without a look at their node.  The
 * group is chosen by the upper end of the upper half, the tag is its lower. */
CACHE_INLINE uint32_t cache__tag(const struct cache *c, uint64_t hash)
{
    return (cache__upper(hash) << c->slot_bits) & ~CACHE__FREE;
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
                                        uint32_t slot, uint64_t hash)
{
    return !cache__keeps_hash(options) ||
           cache__link(c, options, slot)[1] == cache__upper(hash);
}

#define CACHE__SURE_TAG 7u /* bits of a tag that make a wrong key rare */

/* The key in `slot`, whose word has the tag of the hash, is worth a comparison.
 * A hash that is kept is one more line that is far away, so it is asked only in
 * a cache so large that a tag says little. */
CACHE_INLINE bool cache__promising(const struct cache *c, uint32_t options,
                                   uint32_t slot, uint64_t hash)
{
    return !cache__keeps_hash(options) ||
           c->slot_bits <= 31 - CACHE__SURE_TAG ||
           cache__hash_may_match(c, options, slot, hash);
}

/* A look-up on its way through a group and its chain. */
struct cache__probe {
    uint32_t *group;
    uint32_t tag;
    uint32_t match; /* words of the group that have the tag */
    uint32_t last;  /* the word that the chain goes on from; 0 = its end */
    uint32_t left;  /* without the lock: words that may still be looked at */
};

/* Without the lock, whoever writes may lead a walk astray, even in a circle: a
 * chain is then followed so far.  With it, to its end. */
#define CACHE__UNLOCKED_WALK 64u

CACHE_INLINE struct cache__probe cache__probe_of(const struct cache *c,
                                                 uint64_t hash, bool unlocked)
{
    struct cache__probe p;

    p.group = cache__group(c, hash);
    p.tag = cache__tag(c, hash);
    p.match = cache__group_match(p.group, p.tag, c->slot_mask, unlocked);
    p.last = cache__index_word(&p.group[CACHE__GROUP - 1], unlocked);
    p.left = CACHE__UNLOCKED_WALK;
    return p;
}

/* The next slot of the group whose word has the tag; 0 = there is none.  A tag
 * of 0 finds the empty words, too.  Whatever a word has become meanwhile, it
 * has the number of a slot in it. */
CACHE_INLINE uint32_t cache__in_group(const struct cache *c,
                                      struct cache__probe *p, bool unlocked)
{
    while (p->match != 0) {
        uint32_t word =
            cache__index_word(cache__group_first(p->group, p->match), unlocked);

        p->match &= p->match - 1;
        if ((word & c->slot_mask) != 0)
            return word & c->slot_mask;
    }
    return 0;
}

/* The same for the group and its chain. */
CACHE_INLINE uint32_t cache__candidate(const struct cache *c, uint32_t options,
                                       struct cache__probe *p, bool unlocked)
{
    uint32_t slot = cache__in_group(c, p, unlocked);

    while (slot == 0 && p->last != 0 && (!unlocked || p->left-- != 0)) {
        p->last = cache__index_word(
            cache__link(c, options, p->last & c->slot_mask), unlocked);
        if (cache__tag_matches(c, p->last ^ p->tag))
            slot = p->last ^ p->tag;
    }
    return slot;
}

/* The slot that cache__candidate is likely to return first, or any.  What a hit
 * in it needs of us is sent for. */
CACHE_INLINE uint32_t cache__foresee(const struct cache *c, uint32_t options,
                                     const struct cache__probe *p)
{
    uint32_t slot = p->match ? *cache__group_first(p->group, p->match) : 0;

    slot &= c->slot_mask;
    if (options & CACHE_EXPIRY)
        CACHE__PREFETCH(&c->expire[slot]);
    if (options & CACHE_META_TIMES)
        CACHE__PREFETCH(&cache__meta_of(c)->times[slot]);
    if (options & CACHE_META_COUNT)
        CACHE__PREFETCH(&cache__meta_of(c)->counts[slot]);
    return slot;
}

CACHE_INLINE void cache__index_insert(struct cache *c, uint32_t options,
                                      uint32_t slot, uint64_t hash)
{
    uint32_t *group = cache__group(c, hash);
    uint32_t *link = cache__link(c, options, slot);
    uint32_t empty = cache__group_match(group, 0, 0, false);
    uint32_t *at =
        empty ? cache__group_first(group, empty) : &group[CACHE__GROUP - 1];

    /* 0 but for the last one of a group that is full */
    cache__set_word(options, &link[0], *at);
    if (cache__keeps_hash(options))
        cache__set_word(options, &link[1], cache__upper(hash));
    cache__set_word(options, at, slot | cache__tag(c, hash));
}

/* The first of the chain, if there is one, takes the place that gets free. */
CACHE_INLINE void cache__index_erase(struct cache *c, uint32_t options,
                                     uint32_t slot, uint64_t hash)
{
    uint32_t *group = cache__group(c, hash);
    uint32_t *last = &group[CACHE__GROUP - 1], *at = last, *link;
    uint32_t match =
        cache__group_match(group, slot | cache__tag(c, hash), 0, false);

    if (match == 0) { /* in the chain */
        while ((*at & c->slot_mask) != slot)
            at = cache__link(c, options, *at & c->slot_mask);
        cache__set_word(options, at, *cache__link(c, options, slot));
        return;
    }
    cache__set_word(options, cache__group_first(group, match), *last);
    if (*last == 0)
        return;
    link = cache__link(c, options, *last & c->slot_mask);
    cache__set_word(options, last, *link);
    cache__set_word(options, link, 0);
}

/* --- engine: policy ------------------------------------------------------ */

#define CACHE__NAMED(o, code, verbs)                                           \
    if ((o) == (code))                                                         \
        return &(verbs);

/* The verbs of a policy code; NULL if it is none. */
CACHE_COLD const struct cache_policy_verbs *cache__policy_by_code(uint32_t code)
{
    CACHE__POLICIES(CACHE__NAMED, code)
    return NULL;
}

CACHE_COLD const struct cache_policy_verbs *
cache__shard_policy_by_code(uint32_t code)
{
    return code == CACHE_LRU        ? &cache_lru_shard
           : code == CACHE_ADAPTIVE ? &cache_adaptive_shard
                                    : cache__policy_by_code(code);
}

#define CACHE__SPELT(name, code, verbs)                                        \
    if (strcmp(name, (verbs).name) == 0)                                       \
        return (code);

/* The code of a policy, for config.policy, from its name in lower case: "lru".
 * Returns 0 if there is none.  Threads: any. */
CACHE_COLD uint32_t cache_policy_named(const char *name)
{
    CACHE__POLICIES(CACHE__SPELT, name)
    return 0;
}

/* The name of a policy, in lower case.  Returns a constant string, NULL if the
 * code is not one.  Threads: any. */
CACHE_COLD const char *cache_policy_name(uint32_t code)
{
    const struct cache_policy_verbs *verbs = cache__policy_by_code(code);

    return verbs ? verbs->name : NULL;
}

/* The policy that a config asks for; NULL if it is none. */
CACHE_INLINE const struct cache_policy_verbs *
cache__policy_for(const struct cache_type *type,
                  const struct cache_config *config)
{
    uint32_t code = config->policy ? config->policy : (uint32_t)CACHE_ADAPTIVE;

    return type->choose ? type->choose(code) : type->kind.policy;
}

CACHE_INLINE const struct cache_policy_verbs *
cache__verbs(const struct cache *c, const struct cache_kind *kind)
{
    return kind->policy ? kind->policy : c->verbs;
}

/* The hash of the key in `slot`, if what was kept of it is enough; else 0. */
CACHE_INLINE uint64_t cache__kept_hash(const struct cache *c,
                                       const struct cache_kind *kind,
                                       uint32_t slot)
{
    if (!cache__keeps_hash(kind->options) ||
        cache__verbs(c, kind)->needs_whole_hash)
        return 0;
    return (uint64_t)cache__link(c, kind->options, slot)[1] << 32;
}

/* The policy has this entry: it is neither pinned nor held. */
CACHE_INLINE bool cache__governed(const struct cache *c, uint32_t options,
                                  uint32_t slot)
{
    return ((options & CACHE_PINS) == 0 || c->pins[slot] == 0) &&
           ((options & CACHE_WEIGHED) == 0 || slot != c->held);
}

/* --- engine: making a cache ---------------------------------------------- */

/* Where each array stands in the block. */
struct cache__layout {
    size_t chain, policy, expire, weights, pins; /* offsets; groups are at 0 */
    size_t times, counts, versions, nodes;
    size_t total; /* bytes; 0 = does not fit */
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

/* What an entry weighs beside its own bytes: its share of the block. */
CACHE_INLINE uint64_t cache__entry_bytes(const struct cache__layout *l,
                                         const struct cache_config *config)
{
    return (l->total + config->capacity - 1) / config->capacity;
}

CACHE_COLD struct cache__layout cache__plan(const struct cache_type *type,
                                            const struct cache_config *config)
{
    const struct cache_policy_verbs *policy = cache__policy_for(type, config);
    const uint32_t options = type->kind.options;
    const uint32_t capacity = (uint32_t)config->capacity;
    struct cache__layout l;
    size_t slots = (size_t)capacity + 1;
    size_t at = slots > SIZE_MAX / 256 ? SIZE_MAX : 0; /* 32-bit machines */

    (void)cache__place(&at, cache__groups_for(capacity),
                       CACHE__GROUP * sizeof(uint32_t));
    l.chain = cache__place(&at, slots, cache__keeps_hash(options) ? 8 : 4);
    l.policy =
        cache__place(&at, at == SIZE_MAX ? 0 : policy->layout(capacity), 1);
    l.expire = cache__place(&at, slots, options & CACHE_EXPIRY ? 4 : 0);
    l.weights = cache__place(&at, slots, options & CACHE_WEIGHED ? 4 : 0);
    l.pins = cache__place(&at, slots, options & CACHE_PINS ? 2 : 0);
    l.times = cache__place(&at, slots, options & CACHE_META_TIMES ? 8 : 0);
    l.counts = cache__place(&at, slots, options & CACHE_META_COUNT ? 4 : 0);
    l.versions = cache__place(&at, slots, options & CACHE_META_VERSION ? 8 : 0);
    (void)cache__place(&at, options & CACHE__META ? 1 : 0, CACHE__LINE);
    l.nodes = cache__place(&at, slots, type->node_bytes);
    /* A line more, so that the block may start at any address. */
    l.total = at > CACHE__LAYOUT_LIMIT ? 0 : at + CACHE__LINE - 1;
    return l;
}

/* Returns 0, or the first thing that is wrong with a config. */
CACHE_COLD int cache__config_check(const struct cache_type *type,
                                   const struct cache_config *config)
{
    const uint32_t options = type->kind.options;
    uint32_t tick_ms;

    if (config == NULL)
        return CACHE_EINVAL;
    if (config->capacity == 0 || config->capacity > CACHE_MAX_CAPACITY)
        return CACHE_ECAPACITY;
    if ((config->alloc == NULL) != (config->free == NULL) ||
        (config->alloc != NULL && config->huge_pages))
        return CACHE_EALLOCATOR;
    if (type->choose == NULL ? config->policy != 0
                             : cache__policy_for(type, config) == NULL)
        return CACHE_EPOLICY;
    if (config->shards != 0 && (options & CACHE__SHARD) == 0)
        return CACHE_ESHARDS;
    if ((options & CACHE_WEIGHED) == 0 && config->max_bytes != 0)
        return CACHE_EWEIGHT;
    if ((options & CACHE_EXPIRY) == 0 && config->ttl_ms != 0)
        return CACHE_ENOEXPIRY;
    if ((options & CACHE__TIMED) == 0)
        return config->tick_ms != 0 ? CACHE_ETICK : 0;
    if (config->now != NULL && config->now_ms != NULL)
        return CACHE_ECLOCK;
#ifndef CACHE__CLOCK
    if (config->now == NULL && config->now_ms == NULL)
        return CACHE_ECLOCK;
#endif
    tick_ms = config->tick_ms ? config->tick_ms : CACHE_DEFAULT_TICK_MS;
    if (config->ttl_ms != 0 && config->ttl_ms != CACHE_NEVER &&
        (config->ttl_ms < tick_ms || config->ttl_ms / tick_ms >= UINT32_MAX))
        return CACHE_ETTL;
    return 0;
}

/* The callbacks that a type has, as far as init has to know. */
enum cache__hooks {
    CACHE__WEIGH = 1,
    CACHE__RETAIN = 2,
    CACHE__KEY_COPY = 4 /* or key_free */
};

/* Returns 0 and the bytes of the block, or what is wrong. */
CACHE_COLD int cache__size(const struct cache_type *type,
                           const struct cache_config *config, uint32_t hooks,
                           size_t *bytes)
{
    int rc = cache__config_check(type, config);
    struct cache__layout l;

    if (rc != 0)
        return rc;
    if ((hooks & CACHE__RETAIN) && (type->kind.options & CACHE__SHARD) == 0)
        return CACHE_ERETAIN;
    if ((hooks & (CACHE__RETAIN | CACHE__KEY_COPY)) &&
        (type->kind.options & CACHE_PLAIN_DATA))
        return CACHE_ERETAIN;
    l = cache__plan(type, config);
    *bytes = l.total;
    if (l.total == 0)
        return CACHE_ESIZE;
    if ((type->kind.options & CACHE_WEIGHED) == 0)
        return hooks & CACHE__WEIGH ? CACHE_EWEIGHT : 0;
    if (cache__entry_bytes(&l, config) > UINT32_MAX)
        return CACHE_ESIZE;
    return hooks & CACHE__WEIGH &&
                   config->max_bytes >= cache__entry_bytes(&l, config)
               ? 0
               : CACHE_EWEIGHT;
}

CACHE_COLD size_t cache__memory_needed(const struct cache_type *type,
                                       const struct cache_config *config,
                                       uint32_t hooks)
{
    size_t bytes;

    return cache__size(type, config, hooks, &bytes) == 0 ? bytes : 0;
}

/* Empties the index and the policy, whatever the arrays hold. */
CACHE_COLD void cache__reset(struct cache *c)
{
    memset(c->groups, 0,
           (size_t)c->n_groups * CACHE__GROUP * sizeof *c->groups);
    c->chain[0] = 0;
    if (c->pins != NULL)
        memset(c->pins, 0, ((size_t)c->capacity + 1) * sizeof *c->pins);
    c->policy.zeroed = false;
    c->policy.full = c->capacity;
    c->verbs->init(&c->policy, c->seed);
    c->len = c->fresh = c->free_slots = c->n_pinned = c->soon = 0;
    c->used_bytes = c->pinned_bytes = 0;
    c->sweep_at = 0;
    c->soonest = c->sweep_soonest = UINT32_MAX;
}

/* Sets up *c over a block.  `zeroed` spares a memset, and with it the pages
 * that are not used yet. */
CACHE_COLD void cache__set_up(struct cache *c, const struct cache_type *type,
                              const struct cache_config *config, void *memory,
                              bool zeroed)
{
    struct cache__layout l = cache__plan(type, config);
    const uint32_t options = type->kind.options;
    size_t skew = (CACHE__LINE - (uintptr_t)memory % CACHE__LINE) % CACHE__LINE;
    unsigned char *base = (unsigned char *)memory + skew;

    memset(c, 0, sizeof *c);
    c->capacity = (uint32_t)config->capacity;
    c->n_groups = cache__groups_for(c->capacity);
    while (c->slot_mask < c->capacity)
        c->slot_mask = ((uint32_t)1 << ++c->slot_bits) - 1;
    c->groups = (uint32_t *)(void *)base;
    c->chain = (uint32_t *)(void *)(base + l.chain);
    if (options & CACHE_EXPIRY)
        c->expire = (uint32_t *)(void *)(base + l.expire);
    if (options & CACHE_WEIGHED)
        c->weights = (uint32_t *)(void *)(base + l.weights);
    if (options & CACHE_PINS)
        c->pins = (uint16_t *)(void *)(base + l.pins);
    c->nodes = base + l.nodes;
    if (options & CACHE__META) {
        struct cache__meta *meta = cache__meta_of(c);

        memset(meta, 0, sizeof *meta);
        meta->times = (struct cache__times *)(void *)(base + l.times);
        meta->counts = (uint32_t *)(void *)(base + l.counts);
        meta->versions = (uint64_t *)(void *)(base + l.versions);
    }
    c->total_bytes = l.total;
    c->entry_bytes = (uint32_t)cache__entry_bytes(&l, config);
    c->max_bytes = config->max_bytes;
    c->soonest = c->sweep_soonest = UINT32_MAX;
    c->seed = config->seed ? config->seed : cache__random_seed(c);
    c->user = config->user;
    c->verbs = cache__policy_for(type, config);
    c->policy.memory = base + l.policy;
    c->policy.capacity = c->policy.full = c->capacity;
    c->policy.zeroed = zeroed;
    if (zeroed)
        c->verbs->init(&c->policy, c->seed);
    else
        cache__reset(c);
    if (options & CACHE__TIMED) {
        c->now = config->now ? config->now : cache__system_now;
        c->tick_ms = config->tick_ms ? config->tick_ms : CACHE_DEFAULT_TICK_MS;
        c->ttl_ms = config->ttl_ms ? config->ttl_ms : CACHE_NEVER;
        c->now_ms = config->now_ms;
        c->start_ms = cache__now(c->now_ms, c->now, c->user);
        c->tick = 1;
        c->next_tick_ms = c->start_ms + c->tick_ms;
    }
}

CACHE_COLD int cache__init_in(struct cache *c, const struct cache_type *type,
                              const struct cache_config *config, uint32_t hooks,
                              void *buffer, size_t bytes)
{
    size_t needed;
    int rc =
        c == NULL ? CACHE_EINVAL : cache__size(type, config, hooks, &needed);

    if (rc != 0)
        return rc;
    if (buffer == NULL || bytes < needed)
        return CACHE_EBUFFER;
    cache__set_up(c, type, config, buffer, false);
    return 0;
}

#define CACHE__HUGE_PAGE ((size_t)2 << 20)

/* Zeroes for a block of so many bytes, in huge pages.  Returns NULL if there
 * are to be normal ones; *mapped is what goes to cache__unmap. */
CACHE_COLD void *cache__map(size_t bytes, size_t *mapped)
{
#if defined(MAP_ANONYMOUS) && defined(MADV_HUGEPAGE)
    size_t whole = cache__round_up(bytes, CACHE__HUGE_PAGE), before;
    unsigned char *start;
    void *memory;

    *mapped = 0;
    if (bytes < CACHE__HUGE_PAGE)
        return NULL;
    memory = mmap(NULL, whole + CACHE__HUGE_PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* Of one page too many, what is before and behind the aligned ones goes. */
    before = cache__round_up((uintptr_t)memory, CACHE__HUGE_PAGE) -
             (uintptr_t)memory;
    start = (unsigned char *)memory + before;
    if (before != 0)
        (void)munmap(memory, before);
    (void)munmap(start + whole, CACHE__HUGE_PAGE - before);
    (void)madvise(start, whole, MADV_HUGEPAGE); /* refused: normal pages */
    *mapped = whole;
    return start;
#else
    (void)bytes;
    *mapped = 0;
    return NULL;
#endif
}

CACHE_COLD void cache__unmap(void *memory, size_t mapped)
{
#if defined(MAP_ANONYMOUS) && defined(MADV_HUGEPAGE)
    (void)munmap(memory, mapped);
#else
    (void)memory;
    (void)mapped;
#endif
}

/* Memory for a cache, zeroed unless config.alloc gave it.  Returns 0 or
 * CACHE_ENOMEM. */
CACHE_COLD int cache__block_get(struct cache__block *block, size_t bytes,
                                const struct cache_config *config)
{
    memset(block, 0, sizeof *block);
    block->free = config->free;
    block->user = config->user;
    if (config->huge_pages)
        block->memory = cache__map(bytes, &block->mapped);
    if (block->memory == NULL)
        block->memory = config->alloc ? config->alloc(bytes, config->user)
                                      : calloc(1, bytes);
    return block->memory ? 0 : CACHE_ENOMEM;
}

CACHE_COLD void cache__block_free(const struct cache__block *block)
{
    if (block->mapped != 0)
        cache__unmap(block->memory, block->mapped);
    else if (block->memory != NULL && block->free != NULL)
        block->free(block->memory, block->user);
    else
        free(block->memory);
}

CACHE_COLD int cache__init(struct cache *c, const struct cache_type *type,
                           const struct cache_config *config, uint32_t hooks)
{
    struct cache__block block;
    size_t bytes;
    int rc =
        c == NULL ? CACHE_EINVAL : cache__size(type, config, hooks, &bytes);

    if (rc == 0)
        rc = cache__block_get(&block, bytes, config);
    if (rc != 0)
        return rc;
    cache__set_up(c, type, config, block.memory, config->alloc == NULL);
    c->block = block;
    return 0;
}

/* --- engine: metadata ---------------------------------------------------- */

/* The tick that it is.  `deadline` is the entry's, 0 = none: if there is one,
 * the clock has been read for its sake in this call. */
CACHE_INLINE uint32_t cache__tick_of_use(struct cache *c, uint32_t deadline)
{
    return deadline != 0 ? c->tick : cache__tick(c);
}

/* The entry in `slot` is used. */
CACHE_INLINE void cache__note_use(struct cache *c, uint32_t options,
                                  uint32_t slot)
{
    uint32_t tick;

    if ((options & CACHE_META_TIMES) == 0)
        return;
    tick = cache__tick_of_use(c, cache__due_at(c, options, slot));
    if (cache__word(options, &cache__meta_of(c)->times[slot].accessed) < tick)
        cache__set_word(options, &cache__meta_of(c)->times[slot].accessed,
                        tick);
}

/* A look-up has found the entry in `slot`, which is a use. */
CACHE_INLINE void cache__note_hit(struct cache *c, uint32_t options,
                                  uint32_t slot)
{
    uint32_t n;

    cache__note_use(c, options, slot);
    if ((options & CACHE_META_COUNT) == 0)
        return;
    n = cache__word(options, &cache__meta_of(c)->counts[slot]);
    if (n != UINT32_MAX)
        cache__set_word(options, &cache__meta_of(c)->counts[slot], n + 1);
}

/* An entry comes to `slot`. */
CACHE_INLINE void cache__note_entry(struct cache *c, uint32_t options,
                                    uint32_t slot, uint32_t deadline)
{
    if (options & CACHE_META_TIMES) {
        uint32_t tick = cache__tick_of_use(c, deadline);
        cache__meta_of(c)->times[slot].created = tick;
        cache__set_word(options, &cache__meta_of(c)->times[slot].accessed,
                        tick);
    }
    if (options & CACHE_META_COUNT)
        cache__set_word(options, &cache__meta_of(c)->counts[slot], 0);
}

/* A value comes to `slot`. */
CACHE_INLINE void cache__note_value(struct cache *c, uint32_t options,
                                    uint32_t slot)
{
    struct cache__meta *meta = cache__meta_of(c);
    uint64_t version;

    if ((options & CACHE_META_VERSION) == 0)
        return;
    version = meta->given ? meta->given : meta->version + 1;
    meta->versions[slot] = version;
    if (version > meta->version)
        meta->version = version;
}

/* The next value that is stored gets this version; 0 = the cache's own. */
CACHE_INLINE void cache__give(struct cache *c, uint32_t options,
                              uint64_t version)
{
    if (options & CACHE_META_VERSION)
        cache__meta_of(c)->given = version;
}

/* The version of the value in `slot`; 0 if there is none, or it is off. */
CACHE_INLINE uint64_t cache__version_of(const struct cache *c, uint32_t options,
                                        uint32_t slot)
{
    return (options & CACHE_META_VERSION) && slot != 0
               ? cache__meta_of(c)->versions[slot]
               : 0;
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

/* The policy hears that an entry was used. */
CACHE_INLINE void cache__used(struct cache *c, const struct cache_kind *kind,
                              uint32_t slot, uint64_t hash)
{
    if (cache__governed(c, kind->options, slot))
        cache__verbs(c, kind)->hit(&c->policy, slot, hash);
}

/* A look-up ended at `slot`, 0 = nowhere.  Returns true if that is a hit. */
CACHE_INLINE bool cache__hit(struct cache *c, const struct cache_kind *kind,
                             uint32_t slot, uint64_t hash)
{
    if (!cache__live(c, kind->options, slot)) {
        cache__count(kind->options, &c->stats.misses);
        return false;
    }
    cache__used(c, kind, slot, hash);
    cache__note_hit(c, kind->options, slot);
    cache__count(kind->options, &c->stats.hits);
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

/* A slot for a new entry, for which there is room. */
CACHE_INLINE uint32_t cache__take_slot(struct cache *c, uint32_t options)
{
    uint32_t slot = c->free_slots;

    cache__begin_hidden(options);
    if (slot == 0)
        return ++c->fresh;
    c->free_slots = *cache__link(c, options, slot) & ~CACHE__FREE;
    return slot;
}

CACHE_INLINE void cache__free_slot(struct cache *c, uint32_t options,
                                   uint32_t slot)
{
    cache__set_word(options, cache__link(c, options, slot),
                    c->free_slots | CACHE__FREE);
    c->free_slots = slot;
}

/* The entry that was written to `slot` becomes visible. */
CACHE_INLINE void cache__publish(struct cache *c, const struct cache_kind *kind,
                                 uint32_t slot, const struct cache_item *item)
{
    cache__set_deadline(c, kind->options, slot, item->deadline);
    cache__note_entry(c, kind->options, slot, item->deadline);
    cache__note_value(c, kind->options, slot);
    cache__begin_writing(c, kind->options);
    cache__index_insert(c, kind->options, slot, item->hash);
    cache__end_writing(c, kind->options);
    cache__verbs(c, kind)->add(&c->policy, slot, item);
    if (kind->options & CACHE_WEIGHED) {
        c->weights[slot] = item->weight;
        c->used_bytes += item->weight;
    }
    cache__set_word(kind->options, &c->len, c->len + 1);
    cache__count(kind->options, &c->stats.inserts);
}

/* The policy, or its pin, lets go of an entry that leaves. */
CACHE_INLINE void cache__release(struct cache *c, const struct cache_kind *kind,
                                 uint32_t slot, uint64_t hash,
                                 enum cache_cause cause)
{
    if (!cache__governed(c, kind->options, slot)) {
        c->pins[slot] = 0;
        c->n_pinned--;
        if (kind->options & CACHE_WEIGHED)
            c->pinned_bytes -= c->weights[slot];
    } else if (cause == CACHE_CAUSE_EVICTED) {
        cache__verbs(c, kind)->evict(&c->policy, slot, hash);
    } else {
        cache__verbs(c, kind)->remove(&c->policy, slot);
    }
    if (kind->options & CACHE_WEIGHED)
        c->used_bytes -= c->weights[slot];
}

/* The entry in `slot` is no longer found.  Its node stays whole until the next
 * take_slot, and callbacks cannot get there. */
CACHE_INLINE void cache__withdraw(struct cache *c,
                                  const struct cache_kind *kind, uint32_t slot,
                                  uint64_t hash, enum cache_cause cause)
{
    const uint32_t options = kind->options;

    cache__begin_writing(c, options);
    cache__index_erase(c, options, slot, hash);
    cache__free_slot(c, options, slot);
    if (options & CACHE_EXPIRY)
        cache__set_word(options, &c->expire[slot], 0);
    cache__end_writing(c, options);
    if (options & CACHE_META_VERSION)
        cache__meta_of(c)->versions[slot] = 0;
    cache__release(c, kind, slot, hash, cause);
    cache__set_word(options, &c->len, c->len - 1);
    if (cause == CACHE_CAUSE_EVICTED)
        cache__count(options, &c->stats.evictions);
    else if (cause == CACHE_CAUSE_EXPIRED)
        cache__count(options, &c->stats.expirations);
    else if (cause == CACHE_CAUSE_REMOVED)
        cache__count(options, &c->stats.removes);
}

/* Weight, cost or deadline of an entry are others now: the policy hears it. */
CACHE_INLINE void cache__changed(struct cache *c, const struct cache_kind *kind,
                                 uint32_t slot, const struct cache_item *item)
{
    if (cache__governed(c, kind->options, slot))
        cache__verbs(c, kind)->change(&c->policy, slot, item);
}

/* The entry's deadline is another from now on. */
CACHE_INLINE void cache__redate(struct cache *c, const struct cache_kind *kind,
                                uint32_t slot, const struct cache_item *item)
{
    cache__begin_writing(c, kind->options);
    cache__set_deadline(c, kind->options, slot, item->deadline);
    cache__end_writing(c, kind->options);
    cache__changed(c, kind, slot, item);
}

/* The value in `slot` was exchanged, which is a use. */
CACHE_INLINE void cache__revalued(struct cache *c,
                                  const struct cache_kind *kind, uint32_t slot,
                                  const struct cache_item *item)
{
    cache__changed(c, kind, slot, item);
    cache__used(c, kind, slot, item->hash);
    cache__note_use(c, kind->options, slot);
    cache__note_value(c, kind->options, slot);
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
        if (c->pins != NULL && c->pins[c->sweep_at] != 0)
            continue; /* unpin makes it due again */
        if (c->sweep_at == c->held)
            continue; /* it is about to have another deadline */
        if (deadline != 0 && deadline <= c->tick)
            return c->sweep_at;
        if (deadline != 0 && deadline < c->sweep_soonest)
            c->sweep_soonest = deadline;
    }
}

/* Slots that a full cache looks at for an expired entry before it evicts. */
#define CACHE__SWEEP_BEFORE_EVICTION 8u

/* Who leaves a cache that is full, and why.  There is an entry that is not
 * pinned. */
CACHE_COLD uint32_t cache__victim(struct cache *c,
                                  const struct cache_kind *kind,
                                  enum cache_cause *cause)
{
    uint32_t budget = CACHE__SWEEP_BEFORE_EVICTION, slot = 0;

    *cause = CACHE_CAUSE_EXPIRED;
    if ((kind->options & CACHE_EXPIRY) && cache__due(c))
        slot = cache__sweep_next(c, &budget);
    if (slot == 0) {
        slot = cache__verbs(c, kind)->victim(&c->policy);
        if (!cache__expired(c, kind->options, slot))
            *cause = CACHE_CAUSE_EVICTED;
    }
    return slot;
}

/* --- engine: weights and pins -------------------------------------------- */

#define CACHE__TOO_HEAVY UINT32_MAX /* the weight of what never fits */

/* The weight of an entry whose own bytes are these. */
CACHE_INLINE uint32_t cache__weight(const struct cache *c, uint64_t bytes)
{
    return bytes < CACHE__TOO_HEAVY - c->entry_bytes
               ? (uint32_t)bytes + c->entry_bytes
               : CACHE__TOO_HEAVY;
}

/* What an entry weighs since its value came. */
CACHE_INLINE uint32_t cache__weight_of(const struct cache *c, uint32_t options,
                                       uint32_t slot)
{
    return options & CACHE_WEIGHED ? c->weights[slot] : 1;
}

/* Room can be made for an entry of this weight by evicting others.  `slot`, 0 =
 * none, is an entry that it takes the place of.  Returns 0 or CACHE_EFULL. */
CACHE_INLINE int cache__admissible(const struct cache *c, uint32_t options,
                                   uint32_t slot, uint32_t weight)
{
    bool pinned = slot != 0 && !cache__governed(c, options, slot);

    if ((options & CACHE_PINS) && c->n_pinned - pinned == c->capacity)
        return CACHE_EFULL;
    if (options & CACHE_WEIGHED) {
        uint64_t held = c->pinned_bytes - (pinned ? c->weights[slot] : 0);
        if (weight == CACHE__TOO_HEAVY || held > c->max_bytes ||
            weight > c->max_bytes - held)
            return CACHE_EFULL;
    }
    return 0;
}

/* There is room for so many entries more, and so many bytes. */
CACHE_INLINE bool cache__has_room(const struct cache *c, uint32_t options,
                                  uint32_t entries, uint64_t bytes)
{
    return c->len + entries <= c->capacity &&
           ((options & CACHE_WEIGHED) == 0 ||
            c->used_bytes + bytes <= c->max_bytes);
}

/* What the eviction after the next one is likely to touch is sent for: first
 * the entry and then, when it is there, the group that its hash says. */
CACHE_INLINE void cache__look_ahead(struct cache *c,
                                    const struct cache_type *type)
{
    const uint32_t options = type->kind.options, soon = c->soon;
    size_t slot = cache__verbs(c, &type->kind)->ahead(&c->policy);

    c->soon = (uint32_t)slot;
    CACHE__PREFETCH(cache__link(c, options, (uint32_t)slot));
    CACHE__PREFETCH((unsigned char *)c->nodes + slot * type->node_bytes);
    if (soon != 0 && (*cache__link(c, options, soon) & CACHE__FREE) == 0)
        CACHE__PREFETCH(cache__group(
            c, cache__keeps_hash(options)
                   ? (uint64_t)cache__link(c, options, soon)[1] << 32
                   : type->slot_hash(c, soon)));
}

/* Evicts until there is room; cache__admissible says that there can be.  The
 * policy learns how many entries it has in a cache that is full now.  Inline,
 * so that the compiler knows which drop it is: that is a tenth of an eviction.
 */
CACHE_INLINE void cache__make_room(struct cache *c,
                                   const struct cache_type *type,
                                   uint32_t entries, uint64_t bytes)
{
    const uint32_t options = type->kind.options;
    uint32_t governed = c->len - c->n_pinned - (c->held != 0);
    enum cache_cause cause;
    uint32_t slot;

    if (options & (CACHE_WEIGHED | CACHE_PINS))
        CACHE_ATOMIC_STORE(&c->policy.full, governed > 0 ? governed : 1);
    do {
        slot = cache__victim(c, &type->kind, &cause);
        type->drop(c, slot, cause);
    } while (!cache__has_room(c, options, entries, bytes));
    cache__look_ahead(c, type);
}

/* With weights, more values may leave a shard at once than its caller has room
 * for.  The slot that has just been freed is kept from use until a callback has
 * heard of its value. */
CACHE_COLD void cache__hold_back(struct cache *c, uint32_t options,
                                 enum cache_cause cause)
{
    uint32_t slot = c->free_slots, *link = cache__link(c, options, slot);

    c->free_slots = *link & ~CACHE__FREE;
    cache__set_word(options, link, c->leaving | CACHE__FREE);
    c->weights[slot] = (uint32_t)cause;
    cache__set_word(options, &c->leaving, slot);
}

/* The first slot of those goes to the free list, its value to c->leavers. */
CACHE_COLD void cache__collect(struct cache *c, const struct cache_type *type)
{
    const uint32_t options = type->kind.options, slot = c->leaving;
    uint32_t next = *cache__link(c, options, slot) & ~CACHE__FREE;

    cache__begin_hidden(options);
    type->collect(c, slot);
    cache__set_word(options, &c->leaving, next);
    cache__free_slot(c, options, slot);
}

/* A slot for a newcomer, for which others leave if they have to. */
CACHE_INLINE uint32_t cache__enter(struct cache *c,
                                   const struct cache_type *type,
                                   const struct cache_item *item)
{
    const uint32_t options = type->kind.options;

    cache__verbs(c, &type->kind)->admit(&c->policy, item);
    if (!cache__has_room(c, options, 1, item->weight))
        cache__make_room(c, type, 1, item->weight);
    if ((options & CACHE__SHARD) && (options & CACHE_WEIGHED) &&
        c->free_slots == 0 && c->fresh == c->capacity)
        cache__collect(c, type); /* all that is free is held back */
    return cache__take_slot(c, options);
}

/* The entry in `slot` is to weigh item->weight, and cache__admissible says that
 * it can.  Where others have to leave for it, the policy must not choose the
 * entry itself: it is taken out meanwhile, and comes back as a new one. */
CACHE_COLD void cache__reweigh(struct cache *c, const struct cache_type *type,
                               uint32_t slot, const struct cache_item *item)
{
    const struct cache_policy_verbs *policy = cache__verbs(c, &type->kind);
    const uint32_t options = type->kind.options, old = c->weights[slot];
    const uint64_t more = item->weight > old ? item->weight - old : 0;
    const bool governed = cache__governed(c, options, slot);

    if (!cache__has_room(c, options, 0, more)) {
        if (governed) {
            policy->remove(&c->policy, slot);
            c->held = slot;
        }
        cache__make_room(c, type, 0, more);
        if (governed) {
            c->held = 0;
            policy->add(&c->policy, slot, item);
        }
    }
    c->used_bytes += (uint64_t)item->weight - old;
    if (!governed)
        c->pinned_bytes += (uint64_t)item->weight - old;
    c->weights[slot] = item->weight;
}

/* The value in `slot` is to be exchanged for one of another weight.  Returns 0,
 * or CACHE_EFULL with nothing changed. */
CACHE_INLINE int cache__settle(struct cache *c, const struct cache_type *type,
                               uint32_t slot, const struct cache_item *item)
{
    int rc;

    if ((type->kind.options & CACHE_WEIGHED) == 0)
        return 0;
    rc = cache__admissible(c, type->kind.options, slot, item->weight);
    if (rc == 0)
        cache__reweigh(c, type, slot, item);
    return rc;
}

CACHE_COLD int cache__pin(struct cache *c, const struct cache_kind *kind,
                          uint32_t slot)
{
    if (!cache__live(c, kind->options, slot))
        return CACHE_EKEY;
    if (c->pins[slot] == UINT16_MAX)
        return CACHE_EFULL;
    if (c->pins[slot]++ != 0)
        return 0;
    cache__verbs(c, kind)->remove(&c->policy, slot);
    c->n_pinned++;
    if (kind->options & CACHE_WEIGHED)
        c->pinned_bytes += c->weights[slot];
    return 0;
}

/* `slot` may have expired meanwhile. */
CACHE_COLD int cache__unpin(struct cache *c, const struct cache_kind *kind,
                            uint32_t slot, struct cache_item *item)
{
    if (c->pins[slot] == 0)
        return CACHE_EKEY;
    if (--c->pins[slot] != 0)
        return 0;
    c->n_pinned--;
    if (kind->options & CACHE_WEIGHED)
        c->pinned_bytes -= c->weights[slot];
    if (kind->options & CACHE_EXPIRY)
        item->deadline = c->expire[slot];
    cache__verbs(c, kind)->add(&c->policy, slot, item);
    cache__set_deadline(c, kind->options, slot, item->deadline);
    return 0;
}

/* --- engine: many entries ------------------------------------------------ */

/* Reclaims what has expired; *budget slots are looked at, and what of it is not
 * used stays.  Returns how many are still to be looked at. */
CACHE_COLD uint32_t cache__sweep(struct cache *c, const struct cache_type *type,
                                 uint32_t *budget)
{
    uint32_t slot;

    if ((type->kind.options & CACHE_EXPIRY) == 0 || cache__begin(c) != 0 ||
        !cache__due(c))
        return 0;
    while ((slot = cache__sweep_next(c, budget)) != 0)
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
        if ((*cache__link(c, type->kind.options, slot) & CACHE__FREE) == 0)
            type->drop(c, slot, CACHE_CAUSE_CLEARED);
    cache__reset(c);
    return 0;
}

CACHE_COLD void cache__destroy(struct cache *c, const struct cache_type *type,
                               bool one_by_one)
{
    if (c->groups == NULL || cache__clear(c, type, one_by_one) != 0)
        return;
    cache__block_free(&c->block);
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

/* The entry in `slot`, 0 = none, which is looked at and not used. */
CACHE_COLD int cache__entry(struct cache *c, uint32_t options, uint32_t slot,
                            struct cache_entry *out)
{
    if (!cache__live(c, options, slot))
        return CACHE_EKEY;
    memset(out, 0, sizeof *out);
    if (options & CACHE_META_TIMES) {
        uint32_t created = cache__meta_of(c)->times[slot].created;
        uint32_t accessed =
            cache__word(options, &cache__meta_of(c)->times[slot].accessed);
        out->created_ms = cache__ms_of(c, created);
        out->accessed_ms =
            cache__ms_of(c, accessed < created ? created : accessed);
    }
    if (options & CACHE_EXPIRY)
        out->expires_ms =
            c->expire[slot] ? cache__ms_of(c, c->expire[slot]) : CACHE_NEVER;
    if (options & CACHE_META_COUNT)
        out->count = cache__word(options, &cache__meta_of(c)->counts[slot]);
    if (options & CACHE_WEIGHED)
        out->weight_bytes = c->weights[slot];
    out->version = cache__version_of(c, options, slot);
    return 0;
}

CACHE_COLD struct cache_memory cache__memory(const struct cache *c,
                                             const struct cache_type *type)
{
    struct cache_memory m;

    m.total_bytes = c->total_bytes;
    m.bookkeeping_bytes =
        c->total_bytes - (size_t)c->capacity * type->entry_bytes;
    m.used_bytes = c->used_bytes;
    m.entry_bytes = type->kind.options & CACHE_WEIGHED ? c->entry_bytes : 0;
    return m;
}

/* --- engine: check ------------------------------------------------------- */

/* Every word: its slot is live and belongs there.  Returns the number of words,
 * or capacity + 1 if something is wrong. */
CACHE_COLD uint32_t cache__index_check(const struct cache *c,
                                       const struct cache_type *type)
{
    const uint32_t options = type->kind.options;
    uint32_t n = 0, i;

    for (i = 0; i < c->n_groups * CACHE__GROUP; i++) {
        uint32_t *group = &c->groups[i / CACHE__GROUP * CACHE__GROUP];
        bool last = i % CACHE__GROUP == CACHE__GROUP - 1;
        uint32_t word = c->groups[i], slot;

        if (last && word != 0 && cache__group_match(group, 0, 0, false) != 0)
            return c->capacity + 1;
        for (; word != 0; word = *cache__link(c, options, slot)) {
            slot = word & c->slot_mask;
            if (slot == 0 || slot > c->fresh || ++n > c->capacity ||
                (*cache__link(c, options, slot) & CACHE__FREE) != 0 ||
                (!last && *cache__link(c, options, slot) != 0) ||
                cache__group(c, type->slot_hash(c, slot)) != group ||
                cache__tag(c, type->slot_hash(c, slot)) != (word ^ slot) ||
                !cache__hash_may_match(c, options, slot,
                                       type->slot_hash(c, slot)))
                return c->capacity + 1;
        }
    }
    return n;
}

/* Threads without the lock may note a use of an entry that has left: in a cache
 * where there are such, nothing is asked of it. */
CACHE_COLD const char *cache__meta_check(const struct cache *c,
                                         uint32_t options, uint32_t slot,
                                         bool live)
{
    const struct cache__meta *meta = cache__meta_of(c);
    const struct cache__times *times;

    if (options & CACHE_META_VERSION) {
        if (!live && meta->versions[slot] != 0)
            return "versions: a free slot has one";
        if (live && meta->versions[slot] == 0)
            return "versions: an entry has none";
        if (meta->versions[slot] > meta->version)
            return "versions: one is above the highest";
    }
    if ((options & CACHE_META_TIMES) == 0 || !live)
        return NULL;
    times = &meta->times[slot];
    if (times->created == 0 || times->created > c->tick)
        return "times: an entry was created before init or after now";
    if ((options & CACHE_PLAIN_DATA) == 0 &&
        (times->accessed < times->created || times->accessed > c->tick))
        return "times: an entry was used before it was there or after now";
    return NULL;
}

CACHE_COLD const char *cache__check(const struct cache *c,
                                    const struct cache_type *type)
{
    uint64_t used_bytes = 0, pinned_bytes = 0;
    uint32_t slot, n_free = 0, n_pinned = 0;

    if (c->len > c->capacity || c->fresh > c->capacity)
        return "len or fresh is above the capacity";
    if (cache__index_check(c, type) != c->len)
        return "index: a group holds a wrong slot, or not every entry";
    for (slot = c->free_slots; slot != 0; n_free++) {
        uint32_t link = slot > c->fresh || n_free > c->fresh
                            ? 0
                            : *cache__link(c, type->kind.options, slot);
        if ((link & CACHE__FREE) == 0)
            return "free list: it holds a slot that is not free";
        slot = link & ~CACHE__FREE;
    }
    for (slot = c->leaving; slot != 0 && n_free <= c->fresh; n_free++)
        slot = *cache__link(c, type->kind.options, slot) & ~CACHE__FREE;
    if (c->len + n_free != c->fresh)
        return "a slot is neither live nor free";
    for (slot = 1; slot <= c->fresh; slot++) {
        bool live =
            (*cache__link(c, type->kind.options, slot) & CACHE__FREE) == 0;
        uint32_t deadline = c->expire ? c->expire[slot] : 0;
        const char *broken =
            cache__meta_check(c, type->kind.options, slot, live);

        if (broken != NULL)
            return broken;
        if (live && type->slot_find(c, slot) != slot)
            return "a key is in the cache twice";
        if (!live && deadline != 0)
            return "expiry: a free slot has a deadline";
        if (!live && c->pins != NULL && c->pins[slot] != 0)
            return "pins: a free slot is pinned";
        if (live && c->weights != NULL)
            used_bytes += c->weights[slot];
        if (c->pins != NULL && c->pins[slot] != 0) {
            n_pinned++;
            pinned_bytes += c->weights ? c->weights[slot] : 0;
            continue; /* the sweep passes it by */
        }
        if (slot == c->held)
            continue; /* so it does */
        if (deadline != 0 && deadline < c->soonest)
            return "expiry: an entry is dead before the soonest deadline";
        if (deadline != 0 && slot <= c->sweep_at && deadline < c->sweep_soonest)
            return "expiry: the sweep left an earlier deadline behind";
    }
    if (n_pinned != c->n_pinned || pinned_bytes != c->pinned_bytes)
        return "pins: what is pinned was not counted";
    if (used_bytes != c->used_bytes)
        return "weights: their sum is not used_bytes";
    if (c->weights != NULL && used_bytes > c->max_bytes)
        return "weights: more than max_bytes is used";
    return c->verbs->check(&c->policy, c->len - c->n_pinned - (c->held != 0));
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
#define CACHE__DEFINE_TYPES(name, K, V, opts, members, ...)                    \
    typedef K name##_key;                                                      \
    typedef V name##_value;                                                    \
    struct name##_node {                                                       \
        name##_key key;                                                        \
        name##_value value;                                                    \
    };                                                                         \
    struct name {                                                              \
        struct cache base;                                                     \
        struct name##_node *nodes; /* by slot; [0] is never an entry */        \
        members                                                                \
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
        uint64_t (*weigh)(const name##_key *key, const name##_value *value,    \
                          void *user) CACHE__NULL_DEFAULT;                     \
        uint32_t (*cost)(const name##_key *key, const name##_value *value,     \
                         void *user) CACHE__NULL_DEFAULT;                      \
        void (*retain)(const name##_value *value,                              \
                       void *user) CACHE__NULL_DEFAULT;                        \
    };                                                                         \
    CACHE__STATIC_ASSERT(                                                      \
        CACHE__IS_POLICY((opts) | CACHE__DEFAULT_OF(opts)),                    \
        "CACHE_DEFINE: the options name two policies, or what "                \
        "is none");                                                            \
    CACHE__STATIC_ASSERT(                                                      \
        ((opts) & ~(CACHE__POLICY_BITS | CACHE__FEATURE_BITS | CACHE__SHARD |  \
                    CACHE__OWN_TIME | CACHE_PLAIN_DATA)) == 0,                 \
        "CACHE_DEFINE: the options have an unknown bit");                      \
    enum {                                                                     \
        name##__options = (opts) | CACHE__DEFAULT_OF(opts) |                   \
                          CACHE__DEAR_KEY(name##_key) * CACHE_KEEP_HASH        \
    };                                                                         \
    CACHE_UNUSED static const struct cache_kind name##__kind = {               \
        name##__options, CACHE__POLICY_OF(name##__options)                     \
    };                                                                         \
    CACHE_INLINE struct name##_callbacks name##__callbacks(void)               \
    {                                                                          \
        return __extension__(struct name##_callbacks) { __VA_ARGS__ };         \
    }                                                                          \
    CACHE_INLINE uint32_t name##__hooks(void)                                  \
    {                                                                          \
        struct name##_callbacks has_ = name##__callbacks();                    \
        uint32_t hooks_ = 0;                                                   \
        if (has_.weigh)                                                        \
            hooks_ |= CACHE__WEIGH;                                            \
        if (has_.retain)                                                       \
            hooks_ |= CACHE__RETAIN;                                           \
        if (has_.key_copy || has_.key_free)                                    \
            hooks_ |= CACHE__KEY_COPY;                                         \
        return hooks_;                                                         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Hashing and the probe. */
#define CACHE__DEFINE_PROBE(name, hash_fn, equal_fn)                           \
    CACHE_INLINE uint64_t name##__hash(const struct cache *c,                  \
                                       const name##_key *key)                  \
    {                                                                          \
        return cache__mixed((hash_fn)(key, c->seed));                          \
    }                                                                          \
    CACHE_INLINE uint32_t name##__pick(const struct name *c,                   \
                                       const name##_key *key, uint64_t hash_,  \
                                       struct cache__probe probe_)             \
    {                                                                          \
        uint32_t slot_;                                                        \
        while ((slot_ = cache__candidate(&c->base, name##__options, &probe_,   \
                                         false)) != 0)                         \
            if (cache__promising(&c->base, name##__options, slot_, hash_) &&   \
                (equal_fn)(&c->nodes[slot_].key, key))                         \
                break;                                                         \
        return slot_;                                                          \
    }                                                                          \
    CACHE_INLINE uint32_t name##__find(const struct name *c,                   \
                                       const name##_key *key, uint64_t hash_)  \
    {                                                                          \
        return name##__pick(c, key, hash_,                                     \
                            cache__probe_of(&c->base, hash_, false));          \
    }                                                                          \
    /* The same out of line, for calls whose time is not all in the probe. */  \
    CACHE_COLD uint32_t name##__seek(const struct name *c,                     \
                                     const name##_key *key, uint64_t hash_)    \
    {                                                                          \
        return name##__find(c, key, hash_);                                    \
    }                                                                          \
    struct cache__swallow_semicolon

/* Who is told that a value has left. */
#define CACHE__DEFINE_TELL(name)                                               \
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
    struct cache__swallow_semicolon

/* An entry's way out. */
#define CACHE__DEFINE_CORE(name, collect)                                      \
    CACHE_UNUSED static uint64_t name##__slot_hash(const struct cache *c,      \
                                                   uint32_t slot_)             \
    {                                                                          \
        const struct name##_node *nodes_ = (struct name##_node *)c->nodes;     \
        return name##__hash(c, &nodes_[slot_].key);                            \
    }                                                                          \
    CACHE_UNUSED static uint32_t name##__slot_find(const struct cache *c,      \
                                                   uint32_t slot_)             \
    {                                                                          \
        const struct name *self_ = (const struct name *)(const void *)c;       \
        return name##__seek(self_, &self_->nodes[slot_].key,                   \
                            name##__slot_hash(c, slot_));                      \
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
        uint64_t hash_ = cache__kept_hash(c, &name##__kind, slot_);            \
        if (hash_ == 0)                                                        \
            hash_ = name##__hash(c, &node_->key);                              \
        cache__withdraw(c, &name##__kind, slot_, hash_, cause);                \
        name##__tell(c, &node_->key, &node_->value, cause);                    \
        name##__key_free(c, &node_->key);                                      \
    }                                                                          \
    CACHE_INLINE bool name##__one_by_one(void)                                 \
    {                                                                          \
        return name##__callbacks().on_remove || name##__callbacks().key_free;  \
    }                                                                          \
    CACHE_UNUSED static const struct cache_type name##__type = {               \
        { name##__options, CACHE__POLICY_OF(name##__options) },                \
        CACHE__CHOOSER_OF(name##__options),                                    \
        sizeof(struct name##_node),                                            \
        sizeof(name##_key) + sizeof(name##_value),                             \
        name##__slot_hash,                                                     \
        name##__slot_find,                                                     \
        name##__drop,                                                          \
        collect,                                                               \
    };                                                                         \
    struct cache__swallow_semicolon

/* Writes a member of a node, for threads without the lock if need be. */
#define CACHE__SET(name, node, member, from)                                   \
    if ((int)name##__options & (int)CACHE_PLAIN_DATA)                          \
        cache__copy_bytes(&(node).member, from, sizeof *(from),                \
                          offsetof(struct name##_node, member) |               \
                              sizeof(struct name##_node),                      \
                          true);                                               \
    else                                                                       \
        (node).member = *(from)

/* An entry's way in.  *slot_ is an expired entry of the same key, 0 = none.
 * It leaves when nothing can fail any more: `key` may point into it. */
#define CACHE__DEFINE_STORE(name)                                              \
    CACHE_INLINE void name##__set_key(struct name *c, uint32_t slot_,          \
                                      const name##_key *key)                   \
    {                                                                          \
        CACHE__SET(name, c->nodes[slot_], key, key);                           \
    }                                                                          \
    CACHE_INLINE void name##__set_value(struct name *c, uint32_t slot_,        \
                                        const name##_value *value)             \
    {                                                                          \
        CACHE__SET(name, c->nodes[slot_], value, value);                       \
    }                                                                          \
    /* weight_ is 0 if the value is new, and has to be weighed. */             \
    CACHE_INLINE struct cache_item name##__item(                               \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint32_t deadline_, uint32_t weight_)                  \
    {                                                                          \
        struct cache_item item_ = { hash_, weight_ ? weight_ : 1, 1,           \
                                    deadline_ };                               \
        if (name##__callbacks().weigh || name##__callbacks().cost)             \
            c->base.busy = true;                                               \
        if (name##__callbacks().weigh && weight_ == 0)                         \
            item_.weight = cache__weight(                                      \
                &c->base,                                                      \
                name##__callbacks().weigh(key, value, c->base.user));          \
        if (name##__callbacks().cost)                                          \
            item_.cost = name##__callbacks().cost(key, value, c->base.user);   \
        if (name##__callbacks().weigh || name##__callbacks().cost)             \
            c->base.busy = false;                                              \
        return item_;                                                          \
    }                                                                          \
    CACHE_UNUSED static int name##__insert(                                    \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint32_t deadline_, uint32_t *slot_)                   \
    {                                                                          \
        struct cache_item item_ =                                              \
            name##__item(c, key, value, hash_, deadline_, 0);                  \
        name##_key own_ = *key;                                                \
        int rc_ = cache__admissible(&c->base, name##__options, *slot_,         \
                                    item_.weight);                             \
        if (rc_ == 0)                                                          \
            rc_ = name##__key_copy(&c->base, &own_);                           \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        if (*slot_ != 0)                                                       \
            name##__drop(&c->base, *slot_, CACHE_CAUSE_EXPIRED);               \
        *slot_ = cache__enter(&c->base, &name##__type, &item_);                \
        name##__set_key(c, *slot_, &own_);                                     \
        name##__set_value(c, *slot_, value);                                   \
        cache__publish(&c->base, &name##__kind, *slot_, &item_);               \
        return 0;                                                              \
    }                                                                          \
    CACHE_INLINE int name##__assign(struct name *c, uint32_t slot_,            \
                                    const name##_value *value, uint64_t hash_, \
                                    uint32_t deadline_)                        \
    {                                                                          \
        name##_value old_ = c->nodes[slot_].value;                             \
        struct cache_item item_ =                                              \
            name##__item(c, &c->nodes[slot_].key, value, hash_, deadline_, 0); \
        int rc_ = cache__settle(&c->base, &name##__type, slot_, &item_);       \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        cache__begin_writing(&c->base, name##__options);                       \
        name##__set_value(c, slot_, value);                                    \
        cache__set_deadline(&c->base, name##__options, slot_, deadline_);      \
        cache__end_writing(&c->base, name##__options);                         \
        cache__revalued(&c->base, &name##__kind, slot_, &item_);               \
        cache__count(name##__options, &c->base.stats.replaces);                \
        name##__tell(&c->base, &c->nodes[slot_].key, &old_,                    \
                     CACHE_CAUSE_REPLACED);                                    \
        return 0;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

/* Making and unmaking. */
#define CACHE__DEFINE_LIFE(name)                                               \
    CACHE_UNUSED static inline size_t name##_memory_needed(                    \
        const struct cache_config *config)                                     \
    {                                                                          \
        return cache__memory_needed(&name##__type, config, name##__hooks());   \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init(                                \
        struct name *c, const struct cache_config *config)                     \
    {                                                                          \
        int rc_ = cache__init(c ? &c->base : NULL, &name##__type, config,      \
                              name##__hooks());                                \
        if (rc_ == 0)                                                          \
            c->nodes = (struct name##_node *)c->base.nodes;                    \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init_in(                             \
        struct name *c, const struct cache_config *config, void *buffer,       \
        size_t bytes)                                                          \
    {                                                                          \
        int rc_ = cache__init_in(c ? &c->base : NULL, &name##__type, config,   \
                                 name##__hooks(), buffer, bytes);              \
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
    CACHE_INLINE const name##_value *name##__get(                              \
        struct name *c, const name##_key *key, uint64_t hash_)                 \
    {                                                                          \
        uint32_t slot_ = name##__find(c, key, hash_);                          \
        return cache__hit(&c->base, &name##__kind, slot_, hash_)               \
                   ? &c->nodes[slot_].value                                    \
                   : NULL;                                                     \
    }                                                                          \
    CACHE_INLINE const name##_value *name##__peek(                             \
        struct name *c, const name##_key *key, uint64_t hash_)                 \
    {                                                                          \
        uint32_t slot_ = name##__find(c, key, hash_);                          \
        return cache__live(&c->base, name##__options, slot_)                   \
                   ? &c->nodes[slot_].value                                    \
                   : NULL;                                                     \
    }                                                                          \
    struct cache__swallow_semicolon

#define CACHE__DEFINE_LOOKUP_CALLS(name)                                       \
    CACHE_UNUSED static inline const name##_value *name##_get(struct name *c,  \
                                                              name##_key key)  \
    {                                                                          \
        return name##__get(c, &key, name##__hash(&c->base, &key));             \
    }                                                                          \
    CACHE_UNUSED static inline const name##_value *name##_peek(struct name *c, \
                                                               name##_key key) \
    {                                                                          \
        return name##__peek(c, &key, name##__hash(&c->base, &key));            \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_contains(struct name *c,            \
                                                    name##_key key)            \
    {                                                                          \
        return name##_peek(c, key) != NULL;                                    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_entry(                               \
        struct name *c, name##_key key, struct cache_entry *out)               \
    {                                                                          \
        return cache__entry(                                                   \
            &c->base, name##__options,                                         \
            name##__seek(c, &key, name##__hash(&c->base, &key)), out);         \
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

/* Looking for many.  What a look-up waits for is sent for in three steps, each
 * for all keys of a block: the groups, the nodes of those that seem to be the
 * right ones, and then the look-ups themselves. */
#define CACHE__BLOCK 32u /* keys */
#define CACHE__FEW 8u    /* keys, below which a plain loop is as fast */
#define CACHE__DEFINE_MANY(name)                                               \
    CACHE_UNUSED static size_t name##__get_block(                              \
        struct name *c, const name##_key *keys_, size_t n_,                    \
        const name##_value **values_)                                          \
    {                                                                          \
        struct cache__probe probes_[CACHE__BLOCK];                             \
        uint64_t hashes_[CACHE__BLOCK];                                        \
        size_t hits_ = 0, i_;                                                  \
        for (i_ = 0; i_ < n_; i_++) {                                          \
            hashes_[i_] = name##__hash(&c->base, &keys_[i_]);                  \
            CACHE__PREFETCH(cache__group(&c->base, hashes_[i_]));              \
        }                                                                      \
        for (i_ = 0; i_ < n_; i_++) {                                          \
            uint32_t slot_;                                                    \
            probes_[i_] = cache__probe_of(&c->base, hashes_[i_], false);       \
            slot_ = cache__foresee(&c->base, name##__options, &probes_[i_]);   \
            CACHE__PREFETCH(&c->nodes[slot_]);                                 \
        }                                                                      \
        for (i_ = 0; i_ < n_; i_++) {                                          \
            uint32_t slot_ =                                                   \
                name##__pick(c, &keys_[i_], hashes_[i_], probes_[i_]);         \
            bool hit_ =                                                        \
                cache__hit(&c->base, &name##__kind, slot_, hashes_[i_]);       \
            values_[i_] = hit_ ? &c->nodes[slot_].value : NULL;                \
            hits_ += hit_;                                                     \
        }                                                                      \
        return hits_;                                                          \
    }                                                                          \
    CACHE_UNUSED static inline size_t name##_get_many(                         \
        struct name *c, const name##_key *keys_, size_t n_,                    \
        const name##_value **values_)                                          \
    {                                                                          \
        size_t hits_ = 0, at_ = 0;                                             \
        while (n_ - at_ >= CACHE__FEW) {                                       \
            size_t part_ = n_ - at_ < CACHE__BLOCK ? n_ - at_ : CACHE__BLOCK;  \
            hits_ += name##__get_block(c, keys_ + at_, part_, values_ + at_);  \
            at_ += part_;                                                      \
        }                                                                      \
        for (; at_ < n_; at_++)                                                \
            hits_ += (values_[at_] = name##_get(c, keys_[at_])) != NULL;       \
        return hits_;                                                          \
    }                                                                          \
    struct cache__swallow_semicolon

/* What the store calls differ in: which live entry, or none, they accept. */
enum cache__accept {
    CACHE__ANY,
    CACHE__ABSENT,
    CACHE__PRESENT,
    CACHE__SAME,  /* of this version; of none if it is 0 */
    CACHE__OLDER, /* of an older version than this, or none; the value gets it */
    CACHE__GIVEN  /* any; the value gets this version */
};

/* What a put says to the live entry in `slot`, 0 = none. */
CACHE_INLINE int cache__accepts(const struct cache *c, uint32_t options,
                                uint32_t slot, enum cache__accept accept,
                                uint64_t version)
{
    uint64_t has = cache__version_of(c, options, slot);

    if (accept == CACHE__SAME)
        return has == version ? 0 : CACHE_ECONFLICT;
    if (accept == CACHE__OLDER)
        return has < version ? 0 : CACHE_ECONFLICT;
    return accept == (slot ? CACHE__ABSENT : CACHE__PRESENT) ? CACHE_EKEY : 0;
}

/* The arguments of name_put_version make sense. */
CACHE_INLINE int cache__version_check(uint32_t options, uint64_t ttl_ms,
                                      uint64_t version)
{
    if ((options & CACHE_META_VERSION) == 0 || version == 0 ||
        version > CACHE_MAX_VERSION)
        return CACHE_EINVAL;
    return ttl_ms == CACHE_NEVER ? 0 : cache__needs(options, CACHE_EXPIRY);
}

/* Storing. */
#define CACHE__DEFINE_PUT(name)                                                \
    CACHE_UNUSED static inline int name##__put(                                \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint64_t ttl_ms, enum cache__accept accept_)           \
    {                                                                          \
        uint32_t deadline_, slot_;                                             \
        bool live_;                                                            \
        int rc_ =                                                              \
            cache__begin_put(&c->base, name##__options, ttl_ms, &deadline_);   \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        slot_ = name##__find(c, key, hash_);                                   \
        live_ = cache__live(&c->base, name##__options, slot_);                 \
        if (accept_ == (live_ ? CACHE__ABSENT : CACHE__PRESENT))               \
            return CACHE_EKEY;                                                 \
        return live_                                                           \
                   ? name##__assign(c, slot_, value, hash_, deadline_)         \
                   : name##__insert(c, key, value, hash_, deadline_, &slot_);  \
    }                                                                          \
    /* The same with a version: what it asks for, then what the value got. */  \
    CACHE_UNUSED static inline int name##__put_version(                        \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint64_t ttl_ms, enum cache__accept accept_,           \
        uint64_t *version)                                                     \
    {                                                                          \
        uint32_t deadline_, slot_;                                             \
        bool live_;                                                            \
        int rc_ =                                                              \
            cache__begin_put(&c->base, name##__options, ttl_ms, &deadline_);   \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        slot_ = name##__find(c, key, hash_);                                   \
        live_ = cache__live(&c->base, name##__options, slot_);                 \
        rc_ = cache__accepts(&c->base, name##__options, live_ ? slot_ : 0,     \
                             accept_, *version);                               \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        cache__give(&c->base, name##__options,                                 \
                    accept_ == CACHE__OLDER || accept_ == CACHE__GIVEN         \
                        ? *version                                             \
                        : 0);                                                  \
        rc_ = live_ ? name##__assign(c, slot_, value, hash_, deadline_)        \
                    : name##__insert(c, key, value, hash_, deadline_, &slot_); \
        cache__give(&c->base, name##__options, 0);                             \
        if (rc_ == 0)                                                          \
            *version = cache__version_of(&c->base, name##__options, slot_);    \
        return rc_;                                                            \
    }                                                                          \
    CACHE_INLINE int name##__get_or_insert(                                    \
        struct name *c, const name##_key *key, const name##_value *initial,    \
        uint64_t hash_, uint32_t *slot_, bool *inserted)                       \
    {                                                                          \
        uint32_t deadline_;                                                    \
        int rc_;                                                               \
        *slot_ = name##__find(c, key, hash_);                                  \
        *inserted = false;                                                     \
        if (cache__hit(&c->base, &name##__kind, *slot_, hash_))                \
            return 0;                                                          \
        rc_ = cache__begin_put(&c->base, name##__options, c->base.ttl_ms,      \
                               &deadline_);                                    \
        if (rc_ == 0)                                                          \
            rc_ = name##__insert(c, key, initial, hash_, deadline_, slot_);    \
        *inserted = rc_ == 0;                                                  \
        return rc_;                                                            \
    }                                                                          \
    struct cache__swallow_semicolon

#define CACHE__DEFINE_PUT_CALLS(name)                                          \
    CACHE_UNUSED static inline int name##_put(struct name *c, name##_key key,  \
                                              name##_value value)              \
    {                                                                          \
        return name##__put(c, &key, &value, name##__hash(&c->base, &key),      \
                           c->base.ttl_ms, CACHE__ANY);                        \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_ttl(                             \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms)   \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_EXPIRY);                 \
        return rc_ ? rc_                                                       \
                   : name##__put(c, &key, &value,                              \
                                 name##__hash(&c->base, &key), ttl_ms,         \
                                 CACHE__ANY);                                  \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_if_absent(                       \
        struct name *c, name##_key key, name##_value value)                    \
    {                                                                          \
        return name##__put(c, &key, &value, name##__hash(&c->base, &key),      \
                           c->base.ttl_ms, CACHE__ABSENT);                     \
    }                                                                          \
    CACHE_UNUSED static inline int name##_replace(                             \
        struct name *c, name##_key key, name##_value value)                    \
    {                                                                          \
        return name##__put(c, &key, &value, name##__hash(&c->base, &key),      \
                           c->base.ttl_ms, CACHE__PRESENT);                    \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_if_version(                      \
        struct name *c, name##_key key, name##_value value, uint64_t version)  \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_META_VERSION);           \
        return rc_ ? rc_                                                       \
                   : name##__put_version(                                      \
                         c, &key, &value, name##__hash(&c->base, &key),        \
                         c->base.ttl_ms, CACHE__SAME, &version);               \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_version(                         \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms,   \
        uint64_t version)                                                      \
    {                                                                          \
        int rc_ = cache__version_check(name##__options, ttl_ms, version);      \
        return rc_ ? rc_                                                       \
                   : name##__put_version(c, &key, &value,                      \
                                         name##__hash(&c->base, &key), ttl_ms, \
                                         CACHE__OLDER, &version);              \
    }                                                                          \
    CACHE_UNUSED static inline const name##_value *name##_get_or_insert(       \
        struct name *c, name##_key key, name##_value initial, bool *inserted)  \
    {                                                                          \
        uint32_t slot_;                                                        \
        bool new_;                                                             \
        int rc_ = name##__get_or_insert(                                       \
            c, &key, &initial, name##__hash(&c->base, &key), &slot_, &new_);   \
        if (inserted)                                                          \
            *inserted = new_;                                                  \
        return rc_ == 0 ? &c->nodes[slot_].value : NULL;                       \
    }                                                                          \
    struct cache__swallow_semicolon

/* Changing in place. */
#define CACHE__DEFINE_COMPUTE(name)                                            \
    CACHE_UNUSED static inline int name##__apply(                              \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint32_t slot_, bool live_, uint32_t deadline_,        \
        int action_)                                                           \
    {                                                                          \
        struct cache_item item_;                                               \
        int rc_;                                                               \
        if (action_ == CACHE_COMPUTE_REMOVE && live_)                          \
            name##__drop(&c->base, slot_, CACHE_CAUSE_REMOVED);                \
        if (action_ != CACHE_COMPUTE_STORE)                                    \
            return action_ > CACHE_COMPUTE_REMOVE ? CACHE_EINVAL : 0;          \
        if (!live_)                                                            \
            return name##__insert(c, key, value, hash_, deadline_, &slot_);    \
        item_ =                                                                \
            name##__item(c, key, value, hash_,                                 \
                         cache__due_at(&c->base, name##__options, slot_), 0);  \
        rc_ = cache__settle(&c->base, &name##__type, slot_, &item_);           \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        cache__begin_writing(&c->base, name##__options);                       \
        name##__set_value(c, slot_, value);                                    \
        cache__set_deadline(&c->base, name##__options, slot_, item_.deadline); \
        cache__end_writing(&c->base, name##__options);                         \
        cache__revalued(&c->base, &name##__kind, slot_, &item_);               \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##__compute(                            \
        struct name *c, const name##_key *key, uint64_t hash_,                 \
        name##_compute_fn fn, void *user)                                      \
    {                                                                          \
        uint32_t deadline_, slot_;                                             \
        bool live_;                                                            \
        name##_value value_;                                                   \
        int rc_ = cache__begin_put(&c->base, name##__options, c->base.ttl_ms,  \
                                   &deadline_);                                \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        slot_ = name##__find(c, key, hash_);                                   \
        live_ = cache__live(&c->base, name##__options, slot_);                 \
        memset(&value_, 0, sizeof value_);                                     \
        if (live_)                                                             \
            value_ = c->nodes[slot_].value;                                    \
        c->base.busy = true;                                                   \
        rc_ = fn(key, &value_, live_, user);                                   \
        c->base.busy = false;                                                  \
        return rc_ < 0 ? rc_                                                   \
                       : name##__apply(c, key, &value_, hash_, slot_, live_,   \
                                       deadline_, rc_);                        \
    }                                                                          \
    struct cache__swallow_semicolon

/* Removing, redating. */
#define CACHE__DEFINE_CHANGE(name)                                             \
    CACHE_UNUSED static inline int name##__remove(                             \
        struct name *c, const name##_key *key, uint64_t hash_)                 \
    {                                                                          \
        uint32_t slot_;                                                        \
        if (cache__begin(&c->base) != 0)                                       \
            return CACHE_EBUSY;                                                \
        slot_ = name##__seek(c, key, hash_);                                   \
        if (!cache__live(&c->base, name##__options, slot_))                    \
            return CACHE_EKEY;                                                 \
        name##__drop(&c->base, slot_, CACHE_CAUSE_REMOVED);                    \
        return 0;                                                              \
    }                                                                          \
    CACHE_UNUSED static inline int name##__touch_ttl(                          \
        struct name *c, const name##_key *key, uint64_t hash_,                 \
        uint64_t ttl_ms)                                                       \
    {                                                                          \
        struct cache_item item_;                                               \
        uint32_t deadline_, slot_;                                             \
        int rc_ = cache__needs(name##__options, CACHE_EXPIRY);                 \
        if (rc_ == 0)                                                          \
            rc_ = cache__begin_put(&c->base, name##__options, ttl_ms,          \
                                   &deadline_);                                \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        slot_ = name##__find(c, key, hash_);                                   \
        if (!cache__live(&c->base, name##__options, slot_))                    \
            return CACHE_EKEY;                                                 \
        item_ = name##__item(                                                  \
            c, &c->nodes[slot_].key, &c->nodes[slot_].value, hash_, deadline_, \
            cache__weight_of(&c->base, name##__options, slot_));               \
        cache__redate(&c->base, &name##__kind, slot_, &item_);                 \
        return 0;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

#define CACHE__DEFINE_CHANGE_CALLS(name)                                       \
    CACHE_UNUSED static inline int name##_compute(                             \
        struct name *c, name##_key key, name##_compute_fn fn, void *user)      \
    {                                                                          \
        return name##__compute(c, &key, name##__hash(&c->base, &key), fn,      \
                               user);                                          \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove(struct name *c,               \
                                                 name##_key key)               \
    {                                                                          \
        return name##__remove(c, &key, name##__hash(&c->base, &key));          \
    }                                                                          \
    CACHE_UNUSED static inline int name##_touch_ttl(                           \
        struct name *c, name##_key key, uint64_t ttl_ms)                       \
    {                                                                          \
        return name##__touch_ttl(c, &key, name##__hash(&c->base, &key),        \
                                 ttl_ms);                                      \
    }                                                                          \
    CACHE_UNUSED static inline int name##_pin(struct name *c, name##_key key)  \
    {                                                                          \
        int rc_ = cache__needs(name##__options, CACHE_PINS);                   \
        if (rc_ == 0)                                                          \
            rc_ = cache__begin(&c->base);                                      \
        return rc_ ? rc_                                                       \
                   : cache__pin(                                               \
                         &c->base, &name##__kind,                              \
                         name##__seek(c, &key, name##__hash(&c->base, &key))); \
    }                                                                          \
    CACHE_UNUSED static inline int name##_unpin(struct name *c,                \
                                                name##_key key)                \
    {                                                                          \
        struct cache_item item_;                                               \
        uint64_t hash_;                                                        \
        uint32_t slot_;                                                        \
        int rc_ = cache__needs(name##__options, CACHE_PINS);                   \
        if (rc_ == 0)                                                          \
            rc_ = cache__begin(&c->base);                                      \
        if (rc_ != 0)                                                          \
            return rc_;                                                        \
        hash_ = name##__hash(&c->base, &key);                                  \
        slot_ = name##__find(c, &key, hash_);                                  \
        if (slot_ == 0)                                                        \
            return CACHE_EKEY;                                                 \
        item_ = name##__item(                                                  \
            c, &c->nodes[slot_].key, &c->nodes[slot_].value, hash_, 0,         \
            cache__weight_of(&c->base, name##__options, slot_));               \
        return cache__unpin(&c->base, &name##__kind, slot_, &item_);           \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        return cache__sweep(&c->base, &name##__type, &max_items);              \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_DEFINE(name, K, V, hash, equal, options)
 * CACHE_DEFINE_WITH(name, K, V, hash, equal, options, callbacks...)
 *
 * K and V are types that assignment copies.  hash and equal are functions (see
 * "hashing").  options is an integer constant: a policy | any features,
 * 0 = CACHE_ADAPTIVE.
 * Callbacks are designated initialisers in this order, each optional:
 *
 *   .key_copy  int (K *key, void *user): *key enters the cache; make it the
 *              cache's own.  An error refuses the put and is its result.
 *   .key_free  void (K *key, void *user): a key that key_copy made leaves.
 *   .on_remove void (const K *key, V *value, enum cache_cause, void *user):
 *              a value leaves, for the reason given; exactly once for each.
 *   .weigh     uint64_t (const K *key, const V *value, void *user): bytes that
 *              key and value own outside of the cache.  With CACHE_WEIGHED, and
 *              only with it: an entry weighs this and its share of the block
 *              (struct cache_memory, entry_bytes).  Called when a value enters
 *              or is exchanged; what it says then counts as long as that stays.
 *              An entry of 4 GiB and more does not fit any cache.
 *   .cost      uint32_t (const K *key, const V *value, void *user): what it
 *              takes to get the value again, in a unit of yours (microseconds
 *              of the load, say).  CACHE_GDSF keeps what is dear and light.
 *
 * Callbacks may look (get, peek, contains, entry, len, next, stats, memory) at
 * their cache; what left is no longer found.  A call that would change it is
 * refused with CACHE_EBUSY and fails CACHE_ASSERT.
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
 * size_t name_get_many(c, const K *keys, size_t n, const V **values)
 *   As get for each key in turn: values[i] is the value of keys[i], or NULL.
 *   Returns how many are there.  Above 8 keys it is faster than n calls in a
 *   large cache: the memory that 32 of them need is sent for at once.
 * const V *name_peek(c, K key)
 *   The same without counting: neither the policy nor stats learn of it.
 * bool name_contains(c, K key)
 *   Whether peek would return a value.
 * int name_entry(c, K key, struct cache_entry *out)
 *   What is known of a live entry: its times, uses, version and weight, as far
 *   as their options are on.  0, or CACHE_EKEY and *out is as it was.  Counts
 *   as nothing, like peek.
 * const V *name_get_or_insert(c, K key, V initial, bool *inserted)
 *   The value if there is one, otherwise stores `initial`; one hash and one
 *   probe.  *inserted (may be NULL) says which.  NULL if the put was refused.
 *
 * int name_put(c, K key, V value)
 *   Stores, for config.ttl_ms.  Returns 0, CACHE_ETTL, key_copy's error, or
 *   CACHE_EFULL: it weighs more than config.max_bytes, or what is pinned leaves
 *   no room.  A weighed put may evict several entries.
 * int name_put_ttl(c, K key, V value, uint64_t ttl_ms)
 *   Stores for ttl_ms milliseconds or CACHE_NEVER.  CACHE_ETTL if ttl_ms is
 *   under one tick or beyond range, CACHE_EINVAL without CACHE_EXPIRY.
 * int name_put_if_absent(c, K key, V value)
 *   Stores unless there is a live entry: then CACHE_EKEY.
 * int name_replace(c, K key, V value)
 *   Stores only over a live entry; otherwise CACHE_EKEY.
 * int name_put_if_version(c, K key, V value, uint64_t version)
 *   Stores, for config.ttl_ms, only over a live entry of this version, 0 = only
 *   if there is none; otherwise CACHE_ECONFLICT, and it is not even a use.
 *   Whatever call stores a value gives it a version above all that values of
 *   this cache have had, those that left included.  CACHE_EINVAL without
 *   CACHE_META_VERSION.
 * int name_put_version(c, K key, V value, uint64_t ttl_ms, uint64_t version)
 *   Stores with a version of the caller's (a database's, say), 1 to
 *   CACHE_MAX_VERSION, unless there is a live entry with the same or a newer
 *   one: then CACHE_ECONFLICT.  The cache's own go on above it.  What has left
 *   is not remembered.  ttl_ms is CACHE_NEVER without CACHE_EXPIRY.
 *   CACHE_EINVAL for another version or without CACHE_META_VERSION.
 * int name_compute(c, K key, name_compute_fn fn, void *user)
 *   Calls fn(&key, &value, present, user) with a copy of the value, zeroes if
 *   there is none, and does what it returns (enum cache_compute).  A stored
 *   value counts as changed in place: on_remove is not called, the deadline
 *   stays; a new entry has config.ttl_ms.  Returns 0, fn's negative result,
 *   CACHE_EINVAL for an unknown one, or put's errors: then what fn made is
 *   dropped without on_remove.
 * int name_touch_ttl(c, K key, uint64_t ttl_ms)
 *   Sets a live entry's time to live, from now.  0, CACHE_EKEY, CACHE_ETTL, or
 *   CACHE_EINVAL without CACHE_EXPIRY.  Does not count as a use.
 * int name_pin(c, K key)
 *   Keeps a live entry from being evicted or reclaimed until as many unpins;
 *   O(1).  Its value stays where it is: a pointer that get returned is valid
 *   until the key itself is put, computed, removed or cleared, which pins do
 *   not prevent, or unpinned.  Expired, it is not found, but stays until then.
 *   0, CACHE_EKEY, CACHE_EFULL at 65,535 pins, CACHE_EINVAL without CACHE_PINS.
 * int name_unpin(c, K key)
 *   Takes one pin back; with the last, the entry is to the policy as one that
 *   has just come.  0, CACHE_EKEY if it is not pinned, CACHE_EINVAL without
 *   CACHE_PINS.
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
    CACHE__STATIC_ASSERT(((options)&CACHE_PLAIN_DATA) == 0,                    \
                         "CACHE_DEFINE: CACHE_PLAIN_DATA is for shared "       \
                         "caches, CACHE_DEFINE_SHARED");                       \
    CACHE__DEFINE_TYPES(name, K, V, options, CACHE__NO_MEMBERS, __VA_ARGS__);  \
    CACHE__DEFINE_PROBE(name, hash, equal);                                    \
    CACHE__DEFINE_TELL(name);                                                  \
    CACHE__DEFINE_ENGINE(name, NULL);                                          \
    CACHE__DEFINE_LIFE(name);                                                  \
    CACHE__DEFINE_LOOKUP_CALLS(name);                                          \
    CACHE__DEFINE_MANY(name);                                                  \
    CACHE__DEFINE_PUT_CALLS(name);                                             \
    CACHE__DEFINE_CHANGE_CALLS(name)

/* What takes the hash of the key from its caller, and is what a shard has. */
#define CACHE__DEFINE_ENGINE(name, collect)                                    \
    CACHE__DEFINE_CORE(name, collect);                                         \
    CACHE__DEFINE_STORE(name);                                                 \
    CACHE__DEFINE_LOOKUP(name);                                                \
    CACHE__DEFINE_PUT(name);                                                   \
    CACHE__DEFINE_COMPUTE(name);                                               \
    CACHE__DEFINE_CHANGE(name)

#define CACHE__NO_MEMBERS

#define CACHE_DEFINE(name, K, V, hash, equal, options)                         \
    CACHE_DEFINE_WITH(name, K, V, hash, equal, options, .key_copy = NULL)

#endif /* CACHE_H */
