/*
 * cache_shared.h - typed, bounded caches that several threads use at once.
 *
 * WHAT IT DOES
 *   CACHE_DEFINE_SHARED makes a cache type like CACHE_DEFINE of cache.h, with
 *   the same policies, expiry, weights and statistics, whose functions any
 *   thread may call at any time.  Nothing returns a pointer into the cache:
 *   `get` copies the value out, `read` shows it in place under a lock.
 *
 *   EXAMPLE
 *     #include "cache_shared.h"
 *
 *     CACHE_DEFINE_SHARED(ages, uint64_t, int, cache_hash_u64,
 *                         cache_equal_u64, CACHE_SIEVE | CACHE_PLAIN_DATA);
 *
 *     struct ages cache;                          // one for all threads
 *     struct cache_config config = { .capacity = 100000 };
 *     if (ages_init(&cache, &config) != 0) ...
 *     ages_put(&cache, 7, 42);
 *     int age;
 *     if (ages_get(&cache, 7, &age)) ...
 *     ages_destroy(&cache);                       // when no thread uses it
 *
 * HOW IT WORKS
 *   A key's hash chooses one of the shards; each is a cache of its own, with a
 *   lock and its part of the capacity.
 *
 *            hash:  [ group, tag | shard ]
 *                                    |
 *     +-----------+-----v-----+-----------+-----------+
 *     |  shard 0  |  shard 1  |    ...    | shard n-1 |
 *     +-----------+-----------+-----------+-----------+
 *                   sequence   a line that look-ups read
 *                   groups, nodes, marks
 *                   lock, counters: a line that insertions write
 *
 *   With CACHE_PLAIN_DATA (key and value are bytes that refer to nothing) a get
 *   takes no lock: it copies the value and looks afterwards whether somebody
 *   wrote meanwhile (a seqlock); after some lost races it waits for the lock.
 *   With FIFO, CLOCK, SIEVE, S3FIFO, RANDOM, TTL and ADAPTIVE such a hit
 *   writes nothing that is there already, so in the steady state two threads
 *   are twice as fast as one.  LRU moves an entry only when it has left the
 *   newest quarter of its shard, and the other policies tell each hit, if the
 *   lock is free at once.  Without CACHE_PLAIN_DATA every call takes the lock
 *   of one shard.
 *
 *   With CACHE_META_COUNT each hit writes a word of its entry, with
 *   CACHE_META_TIMES the first one in a tick.  Without the lock these are
 *   statistics: hits of one entry at the same moment may count as one, and a
 *   hit of an entry that is just leaving may be noted for the next in its slot.
 *
 *   ADAPTIVE has one chooser for all shards: sampled uses wait in a buffer of
 *   the thread's own, and are dropped when the chooser is busy.
 *
 * SHARDS
 *   Shards share the capacity out, exactly.  With 256 entries in each, which is
 *   the least unless config.shards says otherwise, that costs no hits, but a
 *   set of keys that just fits the whole cache does not quite fit every shard:
 *   give a twentieth more where everything must stay.  With CACHE_WEIGHED each
 *   has its part of max_bytes too, and no entry may weigh more than that.
 *
 * CALLBACKS
 *   on_remove and key_free run after the lock is released, by the thread whose
 *   call made the value leave, so they may use the cache.  After a replace
 *   on_remove gets the key that the caller gave, which equals the stored one.
 *   hash, equal, weigh, cost, key_copy, retain and the functions given to read,
 *   compute and each run under the lock of one shard: they must not call the
 *   same cache, which would wait for itself.  (Without NDEBUG, CACHE_ASSERT says
 *   so for the last three.)  With CACHE_PLAIN_DATA, hash and equal see whole
 *   keys only.
 *
 * VALUES THAT OWN MEMORY
 *   Have a count of references in them: .retain adds one, under the lock, to
 *   each value that get copies out, and the caller gives it back; .on_remove
 *   gives back the cache's own.
 *
 * THREADS
 *   - init and destroy: one thread, while no other uses the cache.
 *   - A thread that ends has nothing to say goodbye to.
 *   - config.now is called by any of them, and has to be monotonic for all.
 *   - fork: in the child, a shared cache may only be forgotten: another thread
 *     may have held a lock at that moment.
 *   - A thread that is killed or jumps (longjmp, an exception) out of a callback
 *     leaves a lock behind.
 *
 * LOCKS
 *   The built-in one has 4 bytes and spins, then yields, then sleeps.  Define
 *   all five before inclusion to have another:
 *
 *     #define CACHE_LOCK_T pthread_mutex_t
 *     #define CACHE_LOCK_INIT(lock) pthread_mutex_init(lock, NULL)
 *     #define CACHE_LOCK_DESTROY(lock) pthread_mutex_destroy(lock)
 *     #define CACHE_LOCK(lock) pthread_mutex_lock(lock)
 *     #define CACHE_UNLOCK(lock) pthread_mutex_unlock(lock)
 *     #define CACHE_TRYLOCK(lock) (pthread_mutex_trylock(lock) == 0) // optional
 *
 * COST
 *   Beside what the entries of cache.h cost, one to two KB for each shard, and
 *   for LRU 4 bytes per entry.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_SHARED_H
#define CACHE_SHARED_H

#include "cache.h"

#if !defined(CACHE_ATOMIC_ADD)
#error "cache_shared.h needs the atomics of gcc or clang, or CACHE_ATOMIC_*"
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

/* --- locks --------------------------------------------------------------- */

#if defined(__x86_64__) || defined(__i386__)
#define CACHE__RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CACHE__RELAX() __asm__ __volatile__("yield")
#else
#define CACHE__RELAX() ((void)0)
#endif

#if defined(__cplusplus)
#define CACHE__THREAD_LOCAL static thread_local
#else
#define CACHE__THREAD_LOCAL static _Thread_local
#endif

#ifndef CACHE_LOCK_T
#define CACHE_LOCK_T uint32_t /* 0 = free, 1 = taken */
#define CACHE_LOCK_INIT(lock) ((void)(*(lock) = 0))
#define CACHE_LOCK_DESTROY(lock) ((void)(lock))
#define CACHE_LOCK(lock) cache__lock(lock)
#define CACHE_UNLOCK(lock) CACHE_ATOMIC_STORE_RELEASE(lock, 0u)
#define CACHE_TRYLOCK(lock) cache__trylock(lock)

#if defined(__APPLE__) ||                                                      \
    (defined(_POSIX_C_SOURCE) && _POSIX_C_SOURCE >= 199309L)
#include <sched.h>
#define CACHE__YIELD() ((void)sched_yield())
#define CACHE__SLEEP(time) ((void)nanosleep(time, NULL))
#elif !defined(__STDC_NO_THREADS__) && !defined(__cplusplus)
#include <threads.h>
#define CACHE__YIELD() thrd_yield()
#define CACHE__SLEEP(time) ((void)thrd_sleep(time, NULL))
#else
#define CACHE__YIELD() CACHE__RELAX()
#define CACHE__SLEEP(time) CACHE__RELAX()
#endif

enum { CACHE__SPINS = 64, CACHE__YIELDS = 32, CACHE__SLEEP_NS = 50000 };

CACHE_INLINE bool cache__trylock(uint32_t *lock)
{
    return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0;
}

/* The one who has the lock needs it for less than a microsecond, unless the
 * system has taken its processor away. */
CACHE_COLD void cache__lock_wait(uint32_t *lock)
{
    struct timespec time = { 0, CACHE__SLEEP_NS };
    unsigned n;

    for (n = 0;; n++) {
        if (CACHE_ATOMIC_LOAD(lock) == 0 && cache__trylock(lock))
            return;
        if (n < CACHE__SPINS)
            CACHE__RELAX();
        else if (n < CACHE__SPINS + CACHE__YIELDS)
            CACHE__YIELD();
        else
            CACHE__SLEEP(&time);
    }
}

CACHE_INLINE void cache__lock(uint32_t *lock)
{
    if (!cache__trylock(lock))
        cache__lock_wait(lock);
}

#elif !defined(CACHE_LOCK_INIT) || !defined(CACHE_LOCK_DESTROY) ||             \
    !defined(CACHE_LOCK) || !defined(CACHE_UNLOCK)
#error "CACHE_LOCK_T, _INIT, _DESTROY, CACHE_LOCK and CACHE_UNLOCK: all or none"
#endif

#ifndef CACHE_TRYLOCK
#define CACHE_TRYLOCK(lock) (CACHE_LOCK(lock), true)
#endif

/* --- the parts of a shared cache ----------------------------------------- */

/* Samples that a thread keeps for the chooser; two lines with the counters. */
#define CACHE__MAX_SAMPLES 25u

/* What a thread, or a few, may write on any look-up. */
struct cache_stripe {
    uint64_t hits, misses;
    uint32_t n_samples;
    uint32_t samples[CACHE__MAX_SAMPLES]; /* upper halves of hashes */
    uint32_t unused[2];
};

/* What is seldom written. */
struct cache__shared_state {
    CACHE_LOCK_T lock; /* of the chooser */
    uint32_t tick_at;  /* the shard where the next tick begins */
};

/* The part of a shared cache that does not depend on its types.  Nothing in it
 * changes after init. */
struct cache_shared {
    unsigned char *shards; /* each begins with a struct cache */
    struct cache_stripe *stripes;
    struct cache_chooser *chooser; /* ADAPTIVE; else NULL */
    struct cache__shared_state *state;
    uint64_t seed;        /* of the hash */
    uint32_t n_shards;    /* a power of two */
    uint32_t shard_mask;  /* n_shards - 1 */
    uint32_t stripe_mask; /* stripes - 1 */
    uint32_t tick_ms;     /* as in every shard */
    uint64_t start_ms;
    uint64_t ttl_ms;
    uint64_t (*now)(void *user);
    const uint64_t *now_ms;
    void *user;
    uint32_t capacity;         /* of all shards */
    struct cache__block block; /* where all of it is */
    size_t total_bytes;        /* its size */
};

/* What the engine has to know of a type; one constant for each. */
struct cache_shared_type {
    const struct cache_type *shard; /* what each shard is */
    size_t shard_bytes;             /* size of its struct, in whole lines */
    size_t nodes_at, lock_at;       /* members of it behind struct cache */
    void (*see_off)(const struct cache *c, const struct cache__leavers *leavers,
                    uint32_t i, const void *key);
};

#define CACHE__SHARD_LINE 128u /* two lines, for processors that fetch pairs */
#define CACHE__MAX_SHARDS 65536u
#define CACHE__SHARD_ENTRIES 256u /* fewer would cost hits */
#define CACHE__LEAVERS                                                         \
    4u /* values that may leave under one lock, but one is
                             for a value that was replaced */

CACHE_INLINE struct cache *cache__shard_at(const struct cache_shared *c,
                                           const struct cache_shared_type *type,
                                           uint32_t i)
{
    return (struct cache *)(void *)(c->shards + i * type->shard_bytes);
}

CACHE_INLINE CACHE_LOCK_T *
cache__shard_lock(struct cache *shard, const struct cache_shared_type *type)
{
    return (CACHE_LOCK_T *)(void *)((unsigned char *)shard + type->lock_at);
}

/* The number of a hash's shard.  Inside the shard the upper half of the same
 * hash chooses the group, by its upper end, and gives the tag, its lower end:
 * with the lower half over that, the shard says nothing about either. */
CACHE_INLINE size_t cache__shard_number(const struct cache_shared *c,
                                        uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32) & c->shard_mask;
}

/* A number for this thread, from 1. */
static uint32_t cache__n_threads CACHE_UNUSED;
CACHE__THREAD_LOCAL uint32_t cache__thread CACHE_UNUSED;

CACHE_COLD uint32_t cache__number_thread(void)
{
    return cache__thread = CACHE_ATOMIC_ADD(&cache__n_threads, 1u) + 1;
}

CACHE_INLINE struct cache_stripe *cache__stripe(const struct cache_shared *c)
{
    uint32_t thread = cache__thread ? cache__thread : cache__number_thread();

    return &c->stripes[thread & c->stripe_mask];
}

/* The cache of which a function of the user's runs under a lock. */
CACHE__THREAD_LOCAL const void *cache__inside CACHE_UNUSED;

/* --- making one ---------------------------------------------------------- */

CACHE_COLD uint32_t cache__cores(void)
{
    long n = 0;

#if defined(_SC_NPROCESSORS_ONLN)
    n = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return n < 1 ? 16 : n > 4096 ? 4096 : (uint32_t)n;
}

/* Four for each core and 64 at least, so that two threads seldom want the same,
 * but each has entries enough. */
CACHE_COLD uint32_t cache__count_shards(const struct cache_config *config)
{
    uint64_t most = config->capacity / CACHE__SHARD_ENTRIES;
    uint64_t want = 4 * (uint64_t)cache__cores();
    uint32_t shards = 1;

    if (config->shards != 0) {
        most = CACHE__MAX_SHARDS;
        want = config->shards;
    } else if (want < 64) {
        want = 64;
    }
    while (shards < want && (uint64_t)shards * 2 <= most)
        shards *= 2;
    return shards;
}

/* The config of a shard: of `shards` equal parts, and what is left over goes to
 * the first. */
CACHE_COLD struct cache_config
cache__shard_config(const struct cache_config *config, uint32_t shards,
                    uint32_t i)
{
    struct cache_config part = *config;

    part.capacity = config->capacity / shards + (i < config->capacity % shards);
    part.max_bytes =
        config->max_bytes / shards + (i < config->max_bytes % shards);
    return part;
}

struct cache__shared_layout {
    size_t state, stripes, chooser, shards, blocks; /* offsets */
    size_t total;
    uint32_t n_shards, n_stripes;
};

/* Bytes of the block of one shard, in whole lines. */
CACHE_COLD size_t cache__shard_block(const struct cache_shared_type *type,
                                     const struct cache_config *config,
                                     uint32_t shards, uint32_t i)
{
    struct cache_config part = cache__shard_config(config, shards, i);

    return cache__round_up(cache__plan(type->shard, &part).total, CACHE__LINE);
}

CACHE_COLD bool cache__is_adaptive(const struct cache_shared_type *type,
                                   const struct cache_config *config)
{
    return cache__policy_for(type->shard, config)->init ==
           cache_adaptive_shard.init;
}

CACHE_COLD struct cache__shared_layout
cache__shared_plan(const struct cache_shared_type *type,
                   const struct cache_config *config)
{
    struct cache__shared_layout l;
    size_t at = 0, chooser_bytes = 0;
    uint32_t larger;

    l.n_shards = cache__count_shards(config);
    l.n_stripes = 16;
    while (l.n_stripes < 2 * cache__cores())
        l.n_stripes *= 2;
    if (cache__is_adaptive(type, config))
        cache__chooser_cut(NULL, &chooser_bytes, (uint32_t)config->capacity);
    l.state = cache__place(&at, 1, sizeof(struct cache__shared_state));
    at = cache__round_up(at, CACHE__SHARD_LINE);
    l.stripes = cache__place(&at, l.n_stripes, sizeof(struct cache_stripe));
    l.chooser = cache__place(&at, chooser_bytes, 1);
    at = cache__round_up(at, CACHE__SHARD_LINE);
    l.shards = cache__place(&at, l.n_shards, type->shard_bytes);
    larger = (uint32_t)(config->capacity % l.n_shards);
    l.blocks = cache__place(&at, larger,
                            cache__shard_block(type, config, l.n_shards, 0));
    (void)cache__place(
        &at, l.n_shards - larger,
        cache__shard_block(type, config, l.n_shards, l.n_shards - 1));
    l.total = at > CACHE__LAYOUT_LIMIT ? 0 : at + CACHE__SHARD_LINE;
    return l;
}

/* Returns 0 and the bytes of the block, or what is wrong. */
CACHE_COLD int cache__shared_size(const struct cache_shared_type *type,
                                  const struct cache_config *config,
                                  uint32_t hooks, size_t *bytes)
{
    int rc = cache__config_check(type->shard, config);
    struct cache_config least;
    uint32_t shards;

    if (rc != 0)
        return rc;
    shards = cache__count_shards(config);
    if (config->shards > CACHE__MAX_SHARDS || shards > config->capacity)
        return CACHE_ESHARDS;
    least = cache__shard_config(config, shards, shards - 1);
    rc = cache__size(type->shard, &least, hooks, bytes);
    if (rc != 0)
        return rc;
    *bytes = cache__shared_plan(type, config).total;
    return *bytes == 0 ? CACHE_ESIZE : 0;
}

CACHE_COLD size_t
cache__shared_memory_needed(const struct cache_shared_type *type,
                            const struct cache_config *config, uint32_t hooks)
{
    size_t bytes;

    return cache__shared_size(type, config, hooks, &bytes) == 0 ? bytes : 0;
}

CACHE_COLD void cache__shared_set_up(struct cache_shared *c,
                                     const struct cache_shared_type *type,
                                     const struct cache_config *config,
                                     void *memory, bool zeroed)
{
    struct cache__shared_layout l = cache__shared_plan(type, config);
    unsigned char *base = (unsigned char *)memory, *block;
    uint32_t i;

    base += (CACHE__SHARD_LINE - (uintptr_t)memory % CACHE__SHARD_LINE) %
            CACHE__SHARD_LINE;
    if (!zeroed)
        memset(base, 0, l.blocks);
    memset(c, 0, sizeof *c);
    c->state = (struct cache__shared_state *)(void *)(base + l.state);
    c->stripes = (struct cache_stripe *)(void *)(base + l.stripes);
    c->shards = base + l.shards;
    c->stripe_mask = l.n_stripes - 1;
    c->n_shards = l.n_shards;
    c->shard_mask = l.n_shards - 1;
    c->capacity = (uint32_t)config->capacity;
    c->seed = config->seed ? config->seed : cache__random_seed(c);
    c->user = config->user;
    c->total_bytes = l.total;
    CACHE_LOCK_INIT(&c->state->lock);
    if (cache__is_adaptive(type, config)) {
        size_t at = 0;
        c->chooser = cache__chooser_cut(base + l.chooser, &at, c->capacity);
        cache__chooser_scale(c->chooser, c->capacity);
    }
    for (i = 0, block = base + l.blocks; i < c->n_shards; i++) {
        struct cache_config part = cache__shard_config(config, c->n_shards, i);
        struct cache *shard = cache__shard_at(c, type, i);

        part.seed = c->seed;
        cache__set_up(shard, type->shard, &part, block, zeroed);
        memcpy((unsigned char *)shard + type->nodes_at, &shard->nodes,
               sizeof shard->nodes);
        CACHE_LOCK_INIT(cache__shard_lock(shard, type));
        if (i == 0) {
            c->now = shard->now;
            c->now_ms = shard->now_ms;
            c->tick_ms = shard->tick_ms;
            c->ttl_ms = shard->ttl_ms;
            c->start_ms = shard->start_ms;
        }
        shard->start_ms = c->start_ms;
        shard->next_tick_ms = c->start_ms + c->tick_ms;
        block += cache__shard_block(type, config, c->n_shards, i);
    }
}

CACHE_COLD int cache__shared_init_in(struct cache_shared *c,
                                     const struct cache_shared_type *type,
                                     const struct cache_config *config,
                                     uint32_t hooks, void *buffer, size_t bytes)
{
    size_t needed;
    int rc = c == NULL ? CACHE_EINVAL
                       : cache__shared_size(type, config, hooks, &needed);

    if (rc != 0)
        return rc;
    if (buffer == NULL || bytes < needed)
        return CACHE_EBUFFER;
    cache__shared_set_up(c, type, config, buffer, false);
    return 0;
}

CACHE_COLD int cache__shared_init(struct cache_shared *c,
                                  const struct cache_shared_type *type,
                                  const struct cache_config *config,
                                  uint32_t hooks)
{
    struct cache__block block;
    size_t bytes;
    int rc = c == NULL ? CACHE_EINVAL
                       : cache__shared_size(type, config, hooks, &bytes);

    if (rc == 0)
        rc = cache__block_get(&block, bytes, config);
    if (rc != 0)
        return rc;
    cache__shared_set_up(c, type, config, block.memory, config->alloc == NULL);
    c->block = block;
    return 0;
}

/* --- looking without the lock -------------------------------------------- */

/* How a look without the lock ended. */
enum cache__look {
    CACHE__LOOK_ABSENT, /* there is no such key */
    CACHE__LOOK_PRESENT,
    CACHE__LOOK_LOST /* somebody wrote meanwhile: nothing is known */
};

#define CACHE__LOOKS 8 /* before a reader waits for the lock */

/* What the shard's sequence is if nobody writes while we look. */
CACHE_INLINE uint32_t cache__begin_look(const struct cache *c)
{
    return CACHE_ATOMIC_LOAD_ACQUIRE(&c->sequence) & ~1u;
}

/* Nobody has written since the look began: what was read was there, all of it
 * at once. */
CACHE_INLINE bool cache__unchanged(const struct cache *c, uint32_t sequence)
{
    CACHE_FENCE_ACQUIRE();
    return CACHE_ATOMIC_LOAD(&c->sequence) == sequence;
}

/* As cache__hash_may_match, without the lock. */
CACHE_INLINE bool cache__hash_looks_right(const struct cache *c,
                                          uint32_t options, uint32_t slot,
                                          uint64_t hash)
{
    return !cache__keeps_hash(options) ||
           CACHE_ATOMIC_LOAD(&cache__link(c, options, slot)[1]) ==
               cache__upper(hash);
}

/* The tick at which an entry is dead, as somebody without the lock sees it. */
CACHE_INLINE uint32_t cache__look_at_deadline(const struct cache *c,
                                              uint32_t options, uint32_t slot)
{
    return (options & (CACHE_EXPIRY | CACHE__OWN_TIME)) == CACHE_EXPIRY
               ? CACHE_ATOMIC_LOAD(&c->expire[slot])
               : 0;
}

/* The same as cache__expired, without the shard's own time. */
CACHE_INLINE bool cache__is_over(const struct cache_shared *c,
                                 uint32_t deadline)
{
    uint64_t now_ms;

    if (deadline == 0)
        return false;
    now_ms = cache__now(c->now_ms, c->now, c->user);
    return now_ms >= c->start_ms &&
           now_ms - c->start_ms >= (uint64_t)(deadline - 1) * c->tick_ms;
}

/* --- what a look-up leaves behind ---------------------------------------- */

CACHE_INLINE void cache__tally(const struct cache_shared *c, uint32_t options,
                               bool hit)
{
    if (options & CACHE_STATS) {
        struct cache_stripe *stripe = cache__stripe(c);
        CACHE_ATOMIC_ADD(hit ? &stripe->hits : &stripe->misses, (uint64_t)1);
    }
}

/* The tick of a time that is not before init. */
CACHE_COLD uint32_t cache__shared_tick_of(const struct cache_shared *c,
                                          uint64_t now_ms)
{
    uint64_t ticks = (now_ms - c->start_ms) / c->tick_ms;

    return ticks >= UINT32_MAX - 1 ? UINT32_MAX : (uint32_t)ticks + 1;
}

/* As cache__note_hit, without the lock.  The slot may be another entry's by
 * now, or free: it writes nothing that matters there. */
CACHE_INLINE void cache__note_look(const struct cache_shared *c,
                                   const struct cache *shard, uint32_t options,
                                   uint32_t slot)
{
    if (options & CACHE_META_TIMES) {
        uint32_t *accessed = &cache__meta_of(shard)->times[slot].accessed;
        uint32_t tick = CACHE_ATOMIC_LOAD(accessed);
        uint64_t now_ms = cache__now(c->now_ms, c->now, c->user);
        if (now_ms >= c->start_ms &&
            now_ms - c->start_ms >= (uint64_t)tick * c->tick_ms)
            CACHE_ATOMIC_STORE(accessed, cache__shared_tick_of(c, now_ms));
    }
    if (options & CACHE_META_COUNT) {
        uint32_t n = CACHE_ATOMIC_LOAD(&cache__meta_of(shard)->counts[slot]);
        if (n != UINT32_MAX)
            CACHE_ATOMIC_STORE(&cache__meta_of(shard)->counts[slot], n + 1);
    }
}

/* Entries that the policies of all shards have when the cache is full. */
CACHE_COLD uint32_t cache__shared_full(const struct cache_shared *c,
                                       const struct cache_shared_type *type)
{
    uint64_t full = 0;
    uint32_t i;

    for (i = 0; i < c->n_shards; i++)
        full += CACHE_ATOMIC_LOAD(&cache__shard_at(c, type, i)->policy.full);
    return (uint32_t)full;
}

/* A stripe's buffer is full: its samples go to the chooser or, when another
 * thread is there, nowhere. */
CACHE_COLD void cache__give_samples(const struct cache_shared *c,
                                    const struct cache_shared_type *type,
                                    struct cache_stripe *stripe)
{
    uint32_t i;

    if (CACHE_TRYLOCK(&c->state->lock)) {
        if (type->shard->kind.options & CACHE_WEIGHED)
            cache__chooser_fit(c->chooser, cache__shared_full(c, type));
        for (i = 0; i < CACHE__MAX_SAMPLES; i++)
            cache__chooser_observe(
                c->chooser, (uint64_t)CACHE_ATOMIC_LOAD(&stripe->samples[i])
                                << 32);
        CACHE_UNLOCK(&c->state->lock);
    }
    CACHE_ATOMIC_STORE(&stripe->n_samples, 0u);
}

/* Two threads with one stripe may overwrite each other's samples: no harm. */
CACHE_COLD void cache__keep_sample(const struct cache_shared *c,
                                   const struct cache_shared_type *type,
                                   uint64_t hash)
{
    struct cache_stripe *stripe = cache__stripe(c);
    uint32_t n = CACHE_ATOMIC_LOAD(&stripe->n_samples);

    if (n < CACHE__MAX_SAMPLES) {
        CACHE_ATOMIC_STORE(&stripe->samples[n], cache__upper(hash));
        CACHE_ATOMIC_STORE(&stripe->n_samples, n + 1);
    }
    if (n + 1 >= CACHE__MAX_SAMPLES)
        cache__give_samples(c, type, stripe);
}

/* The type may have the policy that samples. */
CACHE_INLINE bool cache__may_sample(uint32_t options)
{
    return CACHE__CODE(options) == CACHE_ADAPTIVE ||
           CACHE__CODE(options) == CACHE_POLICY_DYNAMIC;
}

/* A key was used, or has entered. */
CACHE_INLINE void cache__sample(const struct cache_shared *c,
                                const struct cache_shared_type *type,
                                uint64_t hash)
{
    if (cache__may_sample(type->shard->kind.options) && c->chooser != NULL &&
        cache__in_sample(hash, CACHE_ATOMIC_LOAD(&c->chooser->sample_limit)))
        cache__keep_sample(c, type, hash);
}

/* --- under the lock ------------------------------------------------------ */

/* The lock was taken; what leaves now goes to `leavers`. */
CACHE_INLINE void cache__entered(const struct cache_shared *c,
                                 struct cache *shard, uint32_t options,
                                 struct cache__leavers *leavers)
{
    leavers->n = 0;
    shard->leavers = leavers;
    if (cache__may_sample(options) && c->chooser != NULL) {
        uint32_t choice = CACHE_ATOMIC_LOAD(&c->chooser->choice);

        if (shard->policy.choice != choice)
            shard->policy.choice = choice;
    }
}

/* The lock was released: callbacks hear of what has left.  `key` is the one
 * that the caller gave. */
CACHE_COLD void cache__see_off(struct cache *shard,
                               const struct cache_shared_type *type,
                               struct cache__leavers *leavers, const void *key)
{
    CACHE_LOCK_T *lock = cache__shard_lock(shard, type);
    uint32_t i;

    for (;;) {
        for (i = 0; i < leavers->n; i++)
            type->see_off(shard, leavers, i, key);
        if (CACHE_ATOMIC_LOAD(&shard->leaving) == 0)
            return;
        CACHE_LOCK(lock);
        leavers->n = 0;
        shard->leavers = leavers;
        while (leavers->n < CACHE__LEAVERS && shard->leaving != 0)
            cache__collect(shard, type->shard);
        CACHE_UNLOCK(lock);
    }
}

/* --- all shards ---------------------------------------------------------- */

/* Live entries, expired ones included, without a lock. */
CACHE_COLD uint32_t cache__shared_len(const struct cache_shared *c,
                                      const struct cache_shared_type *type)
{
    uint32_t len = 0, i;

    for (i = 0; i < c->n_shards; i++)
        len += CACHE_ATOMIC_LOAD(&cache__shard_at(c, type, i)->len);
    return len;
}

/* Takes all entries out of a shard that are there now, a few under each lock.
 */
CACHE_COLD void cache__clear_shard(const struct cache_shared *c,
                                   const struct cache_shared_type *type,
                                   struct cache *shard, bool one_by_one,
                                   struct cache__leavers *leavers)
{
    const uint32_t options = type->shard->kind.options;
    const uint32_t at_once = one_by_one ? CACHE__LEAVERS - 1 : 64;
    CACHE_LOCK_T *lock = cache__shard_lock(shard, type);
    uint32_t slot = 0, fresh, n;

    do {
        CACHE_LOCK(lock);
        cache__entered(c, shard, options, leavers);
        fresh = shard->fresh;
        for (n = 0; slot < fresh && n < at_once; n++)
            if ((*cache__link(shard, options, ++slot) & CACHE__FREE) == 0)
                type->shard->drop(shard, slot, CACHE_CAUSE_CLEARED);
        CACHE_UNLOCK(lock);
        if (one_by_one)
            cache__see_off(shard, type, leavers, NULL);
    } while (slot < fresh);
}

CACHE_COLD int cache__shared_clear(const struct cache_shared *c,
                                   const struct cache_shared_type *type,
                                   bool one_by_one,
                                   struct cache__leavers *leavers)
{
    uint32_t i;

    for (i = 0; i < c->n_shards; i++)
        cache__clear_shard(c, type, cache__shard_at(c, type, i), one_by_one,
                           leavers);
    return 0;
}

/* Nobody uses what is destroyed. */
CACHE_COLD void cache__unlock_for_good(CACHE_LOCK_T *lock)
{
    bool idle = CACHE_TRYLOCK(lock);

    CACHE_ASSERT(idle && "a shared cache is destroyed while it is in use");
    if (idle)
        CACHE_UNLOCK(lock);
    CACHE_LOCK_DESTROY(lock);
}

CACHE_COLD void cache__shared_destroy(struct cache_shared *c,
                                      const struct cache_shared_type *type,
                                      bool one_by_one,
                                      struct cache__leavers *leavers)
{
    uint32_t i;

    if (c->shards == NULL)
        return;
    if (one_by_one)
        cache__shared_clear(c, type, one_by_one, leavers);
    for (i = 0; i < c->n_shards; i++)
        cache__unlock_for_good(
            cache__shard_lock(cache__shard_at(c, type, i), type));
    cache__unlock_for_good(&c->state->lock);
    cache__block_free(&c->block);
    memset(c, 0, sizeof *c);
}

/* Reclaims in one shard.  Returns what is still to be looked at there. */
CACHE_COLD uint32_t cache__tick_shard(const struct cache_shared *c,
                                      const struct cache_shared_type *type,
                                      struct cache *shard, bool one_by_one,
                                      struct cache__leavers *leavers,
                                      uint32_t *budget)
{
    const uint32_t at_once = one_by_one ? CACHE__LEAVERS - 1 : 64;
    CACHE_LOCK_T *lock = cache__shard_lock(shard, type);
    uint32_t part, left, backlog;

    do {
        left = part = *budget < at_once ? *budget : at_once;
        CACHE_LOCK(lock);
        cache__entered(c, shard, type->shard->kind.options, leavers);
        backlog = cache__sweep(shard, type->shard, &left);
        CACHE_UNLOCK(lock);
        *budget -= part - left;
        if (one_by_one)
            cache__see_off(shard, type, leavers, NULL);
    } while (backlog > 0 && *budget > 0);
    return backlog;
}

/* Each call begins behind the shard where the last one used its budget up, so
 * that a shard where there is always something due does not keep it from the
 * others. */
CACHE_COLD uint32_t cache__shared_tick(const struct cache_shared *c,
                                       const struct cache_shared_type *type,
                                       bool one_by_one,
                                       struct cache__leavers *leavers,
                                       uint32_t budget)
{
    uint32_t first = CACHE_ATOMIC_LOAD(&c->state->tick_at), backlog = 0, n;

    if ((type->shard->kind.options & CACHE_EXPIRY) == 0)
        return 0;
    for (n = 0; n < c->n_shards; n++) {
        uint32_t i = (first + n) & c->shard_mask;
        uint32_t before = budget;
        backlog += cache__tick_shard(c, type, cache__shard_at(c, type, i),
                                     one_by_one, leavers, &budget);
        if (before > 0 && budget == 0)
            CACHE_ATOMIC_STORE(&c->state->tick_at, i + 1);
    }
    return backlog;
}

CACHE_COLD int cache__shared_stats(const struct cache_shared *c,
                                   const struct cache_shared_type *type,
                                   struct cache_stats *out)
{
    struct cache_stats sum;
    uint32_t i;

    if ((type->shard->kind.options & CACHE_STATS) == 0)
        return CACHE_EINVAL;
    memset(&sum, 0, sizeof sum);
    for (i = 0; i <= c->stripe_mask; i++) {
        sum.hits += CACHE_ATOMIC_LOAD(&c->stripes[i].hits);
        sum.misses += CACHE_ATOMIC_LOAD(&c->stripes[i].misses);
    }
    for (i = 0; i < c->n_shards; i++) {
        struct cache *shard = cache__shard_at(c, type, i);
        struct cache_stats part;

        CACHE_LOCK(cache__shard_lock(shard, type));
        part = shard->stats;
        CACHE_UNLOCK(cache__shard_lock(shard, type));
        sum.hits += part.hits;
        sum.misses += part.misses;
        sum.inserts += part.inserts;
        sum.replaces += part.replaces;
        sum.removes += part.removes;
        sum.evictions += part.evictions;
        sum.expirations += part.expirations;
    }
    *out = sum;
    return 0;
}

CACHE_COLD struct cache_memory
cache__shared_memory(const struct cache_shared *c,
                     const struct cache_shared_type *type)
{
    struct cache_memory m;
    uint32_t i;

    memset(&m, 0, sizeof m);
    m.total_bytes = c->total_bytes;
    m.bookkeeping_bytes =
        c->total_bytes - (size_t)c->capacity * type->shard->entry_bytes;
    for (i = 0; i < c->n_shards; i++) {
        struct cache *shard = cache__shard_at(c, type, i);

        CACHE_LOCK(cache__shard_lock(shard, type));
        m.used_bytes += shard->used_bytes;
        if (type->shard->kind.options & CACHE_WEIGHED)
            m.entry_bytes = shard->entry_bytes;
        CACHE_UNLOCK(cache__shard_lock(shard, type));
    }
    return m;
}

/* Calls visit for each live entry, under its shard's lock, until that returns
 * false. */
CACHE_COLD void cache__shared_each(
    const struct cache_shared *c, const struct cache_shared_type *type,
    bool (*visit)(const struct cache *shard, uint32_t slot, void *at), void *at)
{
    uint32_t i, slot;
    bool more = true;

    for (i = 0; i < c->n_shards && more; i++) {
        struct cache *shard = cache__shard_at(c, type, i);
        const uint32_t options = type->shard->kind.options;
        const void *outer;

        CACHE_LOCK(cache__shard_lock(shard, type));
        outer = cache__inside;
        cache__inside = c;
        slot = cache__next_live(shard, options, 0);
        for (; slot != 0 && more; slot = cache__next_live(shard, options, slot))
            more = visit(shard, slot, at);
        cache__inside = outer;
        CACHE_UNLOCK(cache__shard_lock(shard, type));
    }
}

CACHE_COLD const char *cache__shared_check(const struct cache_shared *c,
                                           const struct cache_shared_type *type)
{
    uint64_t capacity = 0;
    uint32_t i;

    for (i = 0; i < c->n_shards; i++) {
        struct cache *shard = cache__shard_at(c, type, i);
        const char *broken;

        CACHE_LOCK(cache__shard_lock(shard, type));
        broken = cache__check(shard, type->shard);
        if (!broken && (shard->sequence & 1) != 0)
            broken = "shard: nobody writes, and its sequence is odd";
        CACHE_UNLOCK(cache__shard_lock(shard, type));
        if (broken)
            return broken;
        capacity += shard->capacity;
    }
    return capacity == c->capacity
               ? NULL
               : "shards: their capacities are not the cache's";
}

/* --- making a type ------------------------------------------------------- */

/* The types: that of the whole, and that of a shard, an unshared cache under
 * the name name__shard. */
#define CACHE__LOCK_MEMBER CACHE_LOCK_T lock;
#define CACHE__DEFINE_SHARED_TYPES(name, K, V, options, ...)                   \
    CACHE__STATIC_ASSERT(((options)&CACHE_PINS) == 0,                          \
                         "CACHE_DEFINE_SHARED: pins keep pointers valid, and " \
                         "a shared cache gives none out");                     \
    CACHE__DEFINE_TYPES(name##__shard, K, V, (options) | CACHE__SHARD,         \
                        CACHE__LOCK_MEMBER, __VA_ARGS__);                      \
    CACHE__STATIC_ASSERT(                                                      \
        ((int)name##__shard__options & (int)CACHE_PLAIN_DATA) == 0 ||          \
            CACHE__DEAR_KEY(name##__shard_key) == 0,                           \
        "CACHE_PLAIN_DATA: a key that is a pointer is not plain data");        \
    typedef name##__shard_key name##_key;                                      \
    typedef name##__shard_value name##_value;                                  \
    typedef name##__shard_compute_fn name##_compute_fn;                        \
    typedef void (*name##_read_fn)(const name##_key *key,                      \
                                   const name##_value *value, void *user);     \
    typedef bool (*name##_each_fn)(const name##_key *key,                      \
                                   const name##_value *value, void *user);     \
    struct name {                                                              \
        struct cache_shared base;                                              \
    };                                                                         \
    struct name##__visitor {                                                   \
        name##_each_fn fn;                                                     \
        void *user;                                                            \
    };                                                                         \
    struct name##__leavers {                                                   \
        struct cache__leavers base;                                            \
        struct {                                                               \
            name##_key key;                                                    \
            name##_value value;                                                \
            enum cache_cause cause;                                            \
        } at[CACHE__LEAVERS];                                                  \
    };                                                                         \
    struct cache__swallow_semicolon

/* A value that leaves a shard waits for the end of the lock.  What has been
 * replaced finds the last place free; what is evicted beyond the others stays
 * in its slot. */
#define CACHE__DEFINE_LEAVING(name)                                            \
    CACHE_INLINE void name##__leave(struct cache * c, const name##_key *key,   \
                                    const name##_value *value,                 \
                                    enum cache_cause cause)                    \
    {                                                                          \
        struct name##__leavers *all_ = (struct name##__leavers *)c->leavers;   \
        uint32_t n_ = all_->base.n++;                                          \
        all_->at[n_].key = *key;                                               \
        all_->at[n_].value = *value;                                           \
        all_->at[n_].cause = cause;                                            \
    }                                                                          \
    CACHE_INLINE void name##__shard__tell(                                     \
        struct cache *c, const name##_key *key, name##_value *value,           \
        enum cache_cause cause)                                                \
    {                                                                          \
        if (!name##__shard__callbacks().on_remove &&                           \
            !name##__shard__callbacks().key_free)                              \
            return;                                                            \
        if (((int)name##__shard__options & (int)CACHE_WEIGHED) &&              \
            cause != CACHE_CAUSE_REPLACED &&                                   \
            c->leavers->n == CACHE__LEAVERS - 1)                               \
            cache__hold_back(c, name##__shard__options, cause);                \
        else                                                                   \
            name##__leave(c, key, value, cause);                               \
    }                                                                          \
    CACHE_INLINE void name##__shard__key_free(struct cache *c,                 \
                                              name##_key *key)                 \
    {                                                                          \
        (void)c; /* see_off does it */                                         \
        (void)key;                                                             \
    }                                                                          \
    CACHE_UNUSED static void name##__collect(struct cache *c, uint32_t slot_)  \
    {                                                                          \
        struct name##__shard_node *node_ =                                     \
            (struct name##__shard_node *)c->nodes + slot_;                     \
        name##__leave(c, &node_->key, &node_->value,                           \
                      (enum cache_cause)c->weights[slot_]);                    \
    }                                                                          \
    CACHE_UNUSED static void name##__see_off(                                  \
        const struct cache *c, const struct cache__leavers *leavers,           \
        uint32_t i_, const void *key)                                          \
    {                                                                          \
        struct name##__leavers *all_ = (struct name##__leavers *)leavers;      \
        bool replaced_ = all_->at[i_].cause == CACHE_CAUSE_REPLACED;           \
        const name##_key *key_ =                                               \
            replaced_ ? (const name##_key *)key : &all_->at[i_].key;           \
        if (name##__shard__callbacks().on_remove)                              \
            name##__shard__callbacks().on_remove(key_, &all_->at[i_].value,    \
                                                 all_->at[i_].cause, c->user); \
        if (name##__shard__callbacks().key_free && !replaced_)                 \
            name##__shard__callbacks().key_free(&all_->at[i_].key, c->user);   \
    }                                                                          \
    struct cache__swallow_semicolon

/* The way to a shard and out of it. */
#define CACHE__DEFINE_SHARDS(name, hash_fn)                                    \
    CACHE_UNUSED static const struct cache_shared_type name##__type = {        \
        &name##__shard__type,                                                  \
        (sizeof(struct name##__shard) + CACHE__SHARD_LINE - 1) /               \
            CACHE__SHARD_LINE * CACHE__SHARD_LINE,                             \
        offsetof(struct name##__shard, nodes),                                 \
        offsetof(struct name##__shard, lock),                                  \
        name##__see_off,                                                       \
    };                                                                         \
    CACHE_INLINE uint64_t name##__hash(const struct name *c,                   \
                                       const name##_key *key)                  \
    {                                                                          \
        return cache__mixed((hash_fn)(key, c->base.seed));                     \
    }                                                                          \
    CACHE_INLINE struct name##__shard *name##__shard_of(const struct name *c,  \
                                                        uint64_t hash_)        \
    {                                                                          \
        return (struct name##__shard *)(void *)(c->base.shards +               \
                                                cache__shard_number(&c->base,  \
                                                                    hash_) *   \
                                                    name##__type.shard_bytes); \
    }                                                                          \
    CACHE_INLINE struct name##__shard *name##__enter(                          \
        const struct name *c, uint64_t hash_, struct name##__leavers *leavers) \
    {                                                                          \
        struct name##__shard *shard_ = name##__shard_of(c, hash_);             \
        CACHE_ASSERT(cache__inside != c && "a shared cache is changed from a " \
                                           "function that runs in its lock");  \
        CACHE_LOCK(&shard_->lock);                                             \
        cache__entered(&c->base, &shard_->base, name##__shard__options,        \
                       &leavers->base);                                        \
        return shard_;                                                         \
    }                                                                          \
    CACHE_INLINE void name##__exit(struct name##__shard *shard_,               \
                                   struct name##__leavers *leavers,            \
                                   const name##_key *key)                      \
    {                                                                          \
        CACHE_UNLOCK(&shard_->lock);                                           \
        if (name##__shard__one_by_one() && leavers->base.n != 0)               \
            cache__see_off(&shard_->base, &name##__type, &leavers->base, key); \
    }                                                                          \
    struct cache__swallow_semicolon

/* Reads a member of a node, in the words that CACHE__SET wrote. */
#define CACHE__COPY(name, to, node, member)                                    \
    cache__copy_bytes(&(to).member, &(node).member, sizeof(to).member,         \
                      offsetof(struct name##__shard_node, member) |            \
                          sizeof(struct name##__shard_node),                   \
                      false)

/* The look without the lock.  The value is copied with its key, and neither is
 * looked at before both are known to be whole.  At first it leaves the chain of
 * a group that is full alone, which keeps it short: that is lost, too. */
#define CACHE__DEFINE_LOOK(name, equal_fn)                                     \
    CACHE_INLINE enum cache__look name##__look(                                \
        const struct name *c, const struct name##__shard *shard_,              \
        const name##_key *key, uint64_t hash_, name##_value *out,              \
        uint32_t *slot_, bool chain_)                                          \
    {                                                                          \
        const uint32_t options_ = name##__shard__options;                      \
        const struct name##__shard_node *nodes_ =                              \
            (const struct name##__shard_node *)shard_->base.nodes;             \
        const uint32_t sequence_ = cache__begin_look(&shard_->base);           \
        struct cache__probe probe_ =                                           \
            cache__probe_of(&shard_->base, hash_, true);                       \
        while ((*slot_ = chain_ ? cache__candidate(&shard_->base, options_,    \
                                                   &probe_, true)              \
                                : cache__in_group(&shard_->base, &probe_,      \
                                                  true)) != 0) {               \
            struct name##__shard_node node_;                                   \
            uint32_t deadline_ =                                               \
                cache__look_at_deadline(&shard_->base, options_, *slot_);      \
            if (!cache__hash_looks_right(&shard_->base, options_, *slot_,      \
                                         hash_))                               \
                continue;                                                      \
            CACHE__COPY(name, node_, nodes_[*slot_], key);                     \
            CACHE__COPY(name, node_, nodes_[*slot_], value);                   \
            if (!cache__unchanged(&shard_->base, sequence_))                   \
                return CACHE__LOOK_LOST;                                       \
            if (!(equal_fn)(&node_.key, key))                                  \
                continue;                                                      \
            if (cache__is_over(&c->base, deadline_))                           \
                return cache__unchanged(&shard_->base, sequence_)              \
                           ? CACHE__LOOK_ABSENT                                \
                           : CACHE__LOOK_LOST; /* it was put off meanwhile */  \
            *out = node_.value;                                                \
            return CACHE__LOOK_PRESENT;                                        \
        }                                                                      \
        return probe_.last == 0 && cache__unchanged(&shard_->base, sequence_)  \
                   ? CACHE__LOOK_ABSENT                                        \
                   : CACHE__LOOK_LOST;                                         \
    }                                                                          \
    /* A few times, before a reader waits for the lock. */                     \
    CACHE_COLD enum cache__look name##__look_again(                            \
        const struct name *c, const struct name##__shard *shard_,              \
        const name##_key *key, uint64_t hash_, name##_value *out,              \
        uint32_t *slot_, int times_)                                           \
    {                                                                          \
        enum cache__look found_ =                                              \
            name##__look(c, shard_, key, hash_, out, slot_, true);             \
        if (found_ != CACHE__LOOK_LOST || times_ == 1)                         \
            return found_;                                                     \
        CACHE__RELAX();                                                        \
        return name##__look_again(c, shard_, key, hash_, out, slot_,           \
                                  times_ - 1);                                 \
    }                                                                          \
    struct cache__swallow_semicolon

/* Looking. */
#define CACHE__DEFINE_SHARED_LOOKUP(name)                                      \
    CACHE_INLINE void name##__copy_out(const struct name##__shard *shard_,     \
                                       const name##_value *value,              \
                                       name##_value *out)                      \
    {                                                                          \
        *out = *value;                                                         \
        if (name##__shard__callbacks().retain)                                 \
            name##__shard__callbacks().retain(out, shard_->base.user);         \
    }                                                                          \
    CACHE_COLD bool name##__get_locked(struct name *c, const name##_key *key,  \
                                       uint64_t hash_, name##_value *out,      \
                                       bool peek_)                             \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        const name##_value *value_ =                                           \
            peek_ ? name##__shard__peek(shard_, key, hash_)                    \
                  : name##__shard__get(shard_, key, hash_);                    \
        if (value_ && out)                                                     \
            name##__copy_out(shard_, value_, out);                             \
        CACHE_UNLOCK(&shard_->lock);                                           \
        if (value_ && !peek_)                                                  \
            cache__sample(&c->base, &name##__type, hash_);                     \
        return value_ != NULL;                                                 \
    }                                                                          \
    /* The policy hears of a hit under the lock, if that is free. */           \
    CACHE_COLD void name##__use_locked(struct name##__shard *shard_,           \
                                       name##_key key, uint64_t hash_)         \
    {                                                                          \
        uint32_t slot_;                                                        \
        if (!CACHE_TRYLOCK(&shard_->lock))                                     \
            return;                                                            \
        slot_ = name##__shard__find(shard_, &key, hash_);                      \
        if (slot_ != 0)                                                        \
            cache__used(&shard_->base, &name##__shard__kind, slot_, hash_);    \
        CACHE_UNLOCK(&shard_->lock);                                           \
    }                                                                          \
    CACHE_INLINE void name##__used(                                            \
        struct name *c, struct name##__shard *shard_, const name##_key *key,   \
        uint64_t hash_, uint32_t slot_)                                        \
    {                                                                          \
        const struct cache_policy_verbs *verbs_ =                              \
            cache__verbs(&shard_->base, &name##__shard__kind);                 \
        cache__note_look(&c->base, &shard_->base, name##__shard__options,      \
                         slot_);                                               \
        if (!verbs_->touch || !verbs_->touch(&shard_->base.policy, slot_))     \
            name##__use_locked(shard_, *key, hash_);                           \
        cache__sample(&c->base, &name##__type, hash_);                         \
    }                                                                          \
    struct cache__swallow_semicolon

/* Out of line, and with the key by value, so that what is common needs no
 * stack: for a look that was lost, or without CACHE_PLAIN_DATA. */
#define CACHE__DEFINE_SHARED_GET(name)                                         \
    CACHE_INLINE bool name##__looked(                                          \
        struct name *c, struct name##__shard *shard_, const name##_key *key,   \
        uint64_t hash_, uint32_t slot_, enum cache__look found_, bool peek_)   \
    {                                                                          \
        if (!peek_)                                                            \
            cache__tally(&c->base, name##__shard__options,                     \
                         found_ == CACHE__LOOK_PRESENT);                       \
        if (!peek_ && found_ == CACHE__LOOK_PRESENT)                           \
            name##__used(c, shard_, key, hash_, slot_);                        \
        return found_ == CACHE__LOOK_PRESENT;                                  \
    }                                                                          \
    CACHE_COLD bool name##__get_slowly(struct name *c, name##_key key,         \
                                       name##_value *out, bool peek_)          \
    {                                                                          \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__shard_of(c, hash_);             \
        uint32_t slot_ = 0;                                                    \
        enum cache__look found_ = CACHE__LOOK_LOST;                            \
        if ((int)name##__shard__options & (int)CACHE_PLAIN_DATA)               \
            found_ = name##__look_again(c, shard_, &key, hash_, out, &slot_,   \
                                        CACHE__LOOKS - 1);                     \
        return found_ == CACHE__LOOK_LOST                                      \
                   ? name##__get_locked(c, &key, hash_, out, peek_)            \
                   : name##__looked(c, shard_, &key, hash_, slot_, found_,     \
                                    peek_);                                    \
    }                                                                          \
    CACHE_INLINE bool name##__get(struct name *c, name##_key key,              \
                                  name##_value *out, bool peek_)               \
    {                                                                          \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__shard_of(c, hash_);             \
        uint32_t slot_ = 0;                                                    \
        enum cache__look found_ = CACHE__LOOK_LOST;                            \
        if ((int)name##__shard__options & (int)CACHE_PLAIN_DATA)               \
            found_ = name##__look(c, shard_, &key, hash_, out, &slot_, false); \
        return found_ == CACHE__LOOK_LOST                                      \
                   ? name##__get_slowly(c, key, out, peek_)                    \
                   : name##__looked(c, shard_, &key, hash_, slot_, found_,     \
                                    peek_);                                    \
    }                                                                          \
    struct cache__swallow_semicolon

#define CACHE__DEFINE_SHARED_LOOKUP_CALLS(name)                                \
    CACHE_INLINE bool name##_get(struct name *c, name##_key key,               \
                                 name##_value *out)                            \
    {                                                                          \
        return name##__get(c, key, out, false);                                \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_peek(                               \
        struct name *c, name##_key key, name##_value *out)                     \
    {                                                                          \
        return name##__get(c, key, out, true);                                 \
    }                                                                          \
    CACHE_UNUSED static inline bool name##_contains(struct name *c,            \
                                                    name##_key key)            \
    {                                                                          \
        name##_value value_;                                                   \
        return (int)name##__shard__options & (int)CACHE_PLAIN_DATA             \
                   ? name##_peek(c, key, &value_)                              \
                   : name##__get_locked(c, &key, name##__hash(c, &key), NULL,  \
                                        true);                                 \
    }                                                                          \
    CACHE_UNUSED static inline int name##_read(struct name *c, name##_key key, \
                                               name##_read_fn fn, void *user)  \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        const name##_value *value_ = name##__shard__get(shard_, &key, hash_);  \
        const void *outer_ = cache__inside;                                    \
        cache__inside = c;                                                     \
        if (value_)                                                            \
            fn(&key, value_, user);                                            \
        cache__inside = outer_;                                                \
        CACHE_UNLOCK(&shard_->lock);                                           \
        if (value_)                                                            \
            cache__sample(&c->base, &name##__type, hash_);                     \
        return value_ ? 0 : CACHE_EKEY;                                        \
    }                                                                          \
    struct cache__swallow_semicolon

/* Storing. */
#define CACHE__DEFINE_SHARED_PUT(name)                                         \
    CACHE_UNUSED static int name##__put(                                       \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t ttl_ms, enum cache__accept accept_)                           \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, key);                                 \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_ =                                                              \
            name##__shard__put(shard_, key, value, hash_, ttl_ms, accept_);    \
        name##__exit(shard_, &leavers_, key);                                  \
        if (rc_ == 0)                                                          \
            cache__sample(&c->base, &name##__type, hash_);                     \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put(struct name *c, name##_key key,  \
                                              name##_value value)              \
    {                                                                          \
        return name##__put(c, &key, &value, c->base.ttl_ms, CACHE__ANY);       \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_ttl(                             \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms)   \
    {                                                                          \
        int rc_ = cache__needs(name##__shard__options, CACHE_EXPIRY);          \
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
    CACHE_UNUSED static int name##__get_or_insert_locked(                      \
        struct name *c, name##_key key, name##_value initial,                  \
        name##_value *out, bool *inserted)                                     \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        uint32_t slot_;                                                        \
        bool new_;                                                             \
        int rc_ = name##__shard__get_or_insert(shard_, &key, &initial, hash_,  \
                                               &slot_, &new_);                 \
        if (inserted)                                                          \
            *inserted = new_;                                                  \
        if (rc_ == 0 && out)                                                   \
            name##__copy_out(shard_, &shard_->nodes[slot_].value, out);        \
        name##__exit(shard_, &leavers_, &key);                                 \
        if (rc_ == 0)                                                          \
            cache__sample(&c->base, &name##__type, hash_);                     \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_get_or_insert(                       \
        struct name *c, name##_key key, name##_value initial,                  \
        name##_value *out, bool *inserted)                                     \
    {                                                                          \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__shard_of(c, hash_);             \
        uint32_t slot_ = 0;                                                    \
        name##_value value_;                                                   \
        enum cache__look found_ = CACHE__LOOK_LOST;                            \
        if ((int)name##__shard__options & (int)CACHE_PLAIN_DATA)               \
            found_ = name##__look(c, shard_, &key, hash_, out ? out : &value_, \
                                  &slot_, false);                              \
        if (found_ != CACHE__LOOK_PRESENT)                                     \
            return name##__get_or_insert_locked(c, key, initial, out,          \
                                                inserted);                     \
        if (inserted)                                                          \
            *inserted = false;                                                 \
        name##__looked(c, shard_, &key, hash_, slot_, found_, false);          \
        return 0;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

/* What depends on metadata, or shows it. */
#define CACHE__DEFINE_SHARED_META(name)                                        \
    CACHE_UNUSED static int name##__put_version(                               \
        struct name *c, const name##_key *key, const name##_value *value,      \
        uint64_t hash_, uint64_t ttl_ms, enum cache__accept accept_,           \
        uint64_t *version)                                                     \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_ = name##__shard__put_version(shard_, key, value, hash_,        \
                                             ttl_ms, accept_, version);        \
        name##__exit(shard_, &leavers_, key);                                  \
        if (rc_ == 0)                                                          \
            cache__sample(&c->base, &name##__type, hash_);                     \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_if_version(                      \
        struct name *c, name##_key key, name##_value value, uint64_t version)  \
    {                                                                          \
        int rc_ = cache__needs(name##__shard__options, CACHE_META_VERSION);    \
        return rc_ ? rc_                                                       \
                   : name##__put_version(                                      \
                         c, &key, &value, name##__hash(c, &key),               \
                         c->base.ttl_ms, CACHE__SAME, &version);               \
    }                                                                          \
    CACHE_UNUSED static inline int name##_put_version(                         \
        struct name *c, name##_key key, name##_value value, uint64_t ttl_ms,   \
        uint64_t version)                                                      \
    {                                                                          \
        int rc_ =                                                              \
            cache__version_check(name##__shard__options, ttl_ms, version);     \
        return rc_ ? rc_                                                       \
                   : name##__put_version(c, &key, &value,                      \
                                         name##__hash(c, &key), ttl_ms,        \
                                         CACHE__OLDER, &version);              \
    }                                                                          \
    CACHE_UNUSED static inline int name##_entry(                               \
        struct name *c, name##_key key, struct cache_entry *out)               \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_ = cache__entry(&shard_->base, name##__shard__options,          \
                               name##__shard__seek(shard_, &key, hash_), out); \
        CACHE_UNLOCK(&shard_->lock);                                           \
        return rc_;                                                            \
    }                                                                          \
    struct cache__swallow_semicolon

/* Changing. */
#define CACHE__DEFINE_SHARED_CHANGE(name)                                      \
    CACHE_UNUSED static inline int name##_compute(                             \
        struct name *c, name##_key key, name##_compute_fn fn, void *user)      \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_;                                                               \
        const void *outer_ = cache__inside;                                    \
        cache__inside = c;                                                     \
        rc_ = name##__shard__compute(shard_, &key, hash_, fn, user);           \
        cache__inside = outer_;                                                \
        name##__exit(shard_, &leavers_, &key);                                 \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_remove(struct name *c,               \
                                                 name##_key key)               \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_ = name##__shard__remove(shard_, &key, hash_);                  \
        name##__exit(shard_, &leavers_, &key);                                 \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_touch_ttl(                           \
        struct name *c, name##_key key, uint64_t ttl_ms)                       \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        uint64_t hash_ = name##__hash(c, &key);                                \
        struct name##__shard *shard_ = name##__enter(c, hash_, &leavers_);     \
        int rc_ = name##__shard__touch_ttl(shard_, &key, hash_, ttl_ms);       \
        name##__exit(shard_, &leavers_, &key);                                 \
        return rc_;                                                            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_clear(struct name *c)                \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        return cache__shared_clear(&c->base, &name##__type,                    \
                                   name##__shard__one_by_one(),                \
                                   &leavers_.base);                            \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_tick(struct name *c,            \
                                                    uint32_t max_items)        \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        return cache__shared_tick(&c->base, &name##__type,                     \
                                  name##__shard__one_by_one(), &leavers_.base, \
                                  max_items);                                  \
    }                                                                          \
    struct cache__swallow_semicolon

/* Making and unmaking, and what concerns all shards. */
#define CACHE__DEFINE_SHARED_LIFE(name)                                        \
    CACHE_UNUSED static inline size_t name##_memory_needed(                    \
        const struct cache_config *config)                                     \
    {                                                                          \
        return cache__shared_memory_needed(&name##__type, config,              \
                                           name##__shard__hooks());            \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init(                                \
        struct name *c, const struct cache_config *config)                     \
    {                                                                          \
        return cache__shared_init(c ? &c->base : NULL, &name##__type, config,  \
                                  name##__shard__hooks());                     \
    }                                                                          \
    CACHE_UNUSED static inline int name##_init_in(                             \
        struct name *c, const struct cache_config *config, void *buffer,       \
        size_t bytes)                                                          \
    {                                                                          \
        return cache__shared_init_in(c ? &c->base : NULL, &name##__type,       \
                                     config, name##__shard__hooks(), buffer,   \
                                     bytes);                                   \
    }                                                                          \
    CACHE_UNUSED static inline void name##_destroy(struct name *c)             \
    {                                                                          \
        struct name##__leavers leavers_;                                       \
        cache__shared_destroy(&c->base, &name##__type,                         \
                              name##__shard__one_by_one(), &leavers_.base);    \
    }                                                                          \
    CACHE_UNUSED static inline uint32_t name##_len(const struct name *c)       \
    {                                                                          \
        return cache__shared_len(&c->base, &name##__type);                     \
    }                                                                          \
    CACHE_UNUSED static bool name##__visit(const struct cache *shard,          \
                                           uint32_t slot_, void *at_)          \
    {                                                                          \
        const struct name##__shard_node *node_ =                               \
            (const struct name##__shard_node *)shard->nodes + slot_;           \
        const struct name##__visitor *visit_ =                                 \
            (const struct name##__visitor *)at_;                               \
        return visit_->fn(&node_->key, &node_->value, visit_->user);           \
    }                                                                          \
    CACHE_UNUSED static inline void name##_each(struct name *c,                \
                                                name##_each_fn fn, void *user) \
    {                                                                          \
        struct name##__visitor visit_ = { fn, user };                          \
        cache__shared_each(&c->base, &name##__type, name##__visit, &visit_);   \
    }                                                                          \
    CACHE_UNUSED static inline int name##_stats(const struct name *c,          \
                                                struct cache_stats *out)       \
    {                                                                          \
        return cache__shared_stats(&c->base, &name##__type, out);              \
    }                                                                          \
    CACHE_UNUSED static inline struct cache_memory name##_memory(              \
        const struct name *c)                                                  \
    {                                                                          \
        return cache__shared_memory(&c->base, &name##__type);                  \
    }                                                                          \
    CACHE_UNUSED static inline const char *name##_check(const struct name *c)  \
    {                                                                          \
        return cache__shared_check(&c->base, &name##__type);                   \
    }                                                                          \
    struct cache__swallow_semicolon

/*
 * CACHE_DEFINE_SHARED(name, K, V, hash, equal, options)
 * CACHE_DEFINE_SHARED_WITH(name, K, V, hash, equal, options, callbacks...)
 *
 * The arguments are those of CACHE_DEFINE_WITH (cache.h), without CACHE_PINS,
 * and with CACHE_PLAIN_DATA if key and value are bytes that refer to nothing.
 * One callback more, the last:
 *
 *   .retain    void (const V *value, void *user): a copy of the value is given
 *              out by get, peek or get_or_insert.
 *
 * What it makes, `c` being a struct name *.  Every function but init and
 * destroy may be called by any thread at any time.
 *
 * int name_init(c, config), name_init_in(c, config, buffer, bytes),
 * size_t name_memory_needed(config), void name_destroy(c)
 *   As in cache.h, for one thread.  Also CACHE_ESHARDS: config.shards is above
 *   the capacity or 65536; CACHE_ERETAIN: retain or key_copy with
 *   CACHE_PLAIN_DATA.
 *
 * bool name_get(c, K key, V *out)
 *   Copies the value to *out, or returns false and leaves *out alone.  Counts
 *   as a use.
 * bool name_peek(c, K key, V *out), bool name_contains(c, K key)
 *   The same without counting: neither the policy nor stats learn of it.
 * int name_read(c, K key, name_read_fn fn, void *user)
 *   Calls fn(&key, &value, user) in place, under the lock of a shard.  Counts as
 *   a use.  0, or CACHE_EKEY.
 * int name_get_or_insert(c, K key, V initial, V *out, bool *inserted)
 *   Copies the value out if there is one, otherwise stores `initial` and copies
 *   that; out and inserted may be NULL.  0, or put's errors.
 *
 * int name_put(c, K key, V value), name_put_ttl(c, key, value, ttl_ms),
 * name_put_if_absent(c, key, value), name_replace(c, key, value),
 * name_touch_ttl(c, key, ttl_ms), name_remove(c, key)
 *   As in cache.h, each at once for all threads.  CACHE_EFULL with weights: it
 *   weighs more than its shard's part of max_bytes.
 * int name_put_if_version(c, K key, V value, uint64_t version),
 * int name_put_version(c, K key, V value, uint64_t ttl_ms, uint64_t version)
 *   As in cache.h, each at once for all threads.  A version is above all the
 *   earlier ones of its shard, so above all that its key has had.
 * int name_entry(c, K key, struct cache_entry *out)
 *   As in cache.h, under the lock of a shard.  With CACHE_PLAIN_DATA times and
 *   count may miss a hit that was at the same moment as another one.
 * int name_compute(c, K key, name_compute_fn fn, void *user)
 *   As in cache.h; fn runs under the lock, so between what it sees and what it
 *   stores nobody changes the entry.
 * int name_clear(c)
 *   Takes out all entries that are there when it comes to their shard, a few
 *   under each lock.
 * uint32_t name_tick(c, uint32_t max_items)
 *   As in cache.h, going on where the last one ended.
 *
 * uint32_t name_len(c)
 *   Entries, without a lock: those of a moment of its own in each shard.
 * void name_each(c, name_each_fn fn, void *user)
 *   Calls fn(&key, &value, user) for every live entry, a whole shard under its
 *   lock, until fn returns false.  Entries that come or go meanwhile may or may
 *   not be seen.
 * int name_stats(c, struct cache_stats *out)
 *   The counters; no hit, and nothing that happened before, is missing.
 *   CACHE_EINVAL without CACHE_STATS.
 * struct cache_memory name_memory(c), const char *name_check(c)
 *   As in cache.h, shard by shard.
 */
#define CACHE_DEFINE_SHARED_WITH(name, K, V, hash, equal, options, ...)        \
    CACHE__DEFINE_SHARED_TYPES(name, K, V, options, __VA_ARGS__);              \
    CACHE__DEFINE_PROBE(name##__shard, hash, equal);                           \
    CACHE__DEFINE_LEAVING(name);                                               \
    CACHE__DEFINE_ENGINE(name##__shard, name##__collect);                      \
    CACHE__DEFINE_SHARDS(name, hash);                                          \
    CACHE__DEFINE_LOOK(name, equal);                                           \
    CACHE__DEFINE_SHARED_LIFE(name);                                           \
    CACHE__DEFINE_SHARED_LOOKUP(name);                                         \
    CACHE__DEFINE_SHARED_GET(name);                                            \
    CACHE__DEFINE_SHARED_LOOKUP_CALLS(name);                                   \
    CACHE__DEFINE_SHARED_PUT(name);                                            \
    CACHE__DEFINE_SHARED_META(name);                                           \
    CACHE__DEFINE_SHARED_CHANGE(name)

#define CACHE_DEFINE_SHARED(name, K, V, hash, equal, options)                  \
    CACHE_DEFINE_SHARED_WITH(name, K, V, hash, equal, options, .key_copy = NULL)

#endif /* CACHE_SHARED_H */
