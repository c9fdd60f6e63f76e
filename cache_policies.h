/*
 * cache_policies.h - who has to leave when a bounded cache is full.
 *
 * WHAT IT DOES
 *   A policy orders the entries of one cache.  It sees slot numbers, hashes
 *   and weights only: it knows nothing of keys, values or time, so every
 *   policy is plain C that a debugger can step through and a test can drive
 *   alone.  cache.h includes this file; a program has no need to.
 *
 * THE VERBS
 *   Every policy has the same, in the same order, and one table of them
 *   (struct cache_policy_verbs): cache_fifo, cache_lru, ...
 *
 *     a key that is absent enters               an entry is used or leaves
 *
 *     admit(item)       who is coming            hit(slot, hash)
 *     victim() -> slot  \ while there is         touch(slot), without a lock
 *     evict(slot, hash) / no room                change(slot, item)
 *     add(slot, item)   it stands here           remove(slot)
 *
 *   A slot is 1-based and stays with its entry for life.  0 means none.
 *
 * MEMORY LAYOUT
 *   The lists are circular and run through a slot that is never an entry, the
 *   ring, so no operation has to ask whether it is at an end:
 *
 *          +--------------------------------------------------------+
 *          |   older->                                              |
 *       [ring] ---> [newest] ---> [ 7 ] ---> [ 2 ] ---> [oldest] ---+
 *          ^                                  <-newer
 *
 *   links[ring].older is the newest entry, links[ring].newer the oldest.  The
 *   first ring is slot 0; a policy with more lists has rings behind the last
 *   slot of an entry: capacity + 1, ...
 *
 * CONTENTS, AND COST
 *   shared: memory, lists, bits, marks, ghosts, heap, two lists, directory of
 *   ghosts; then the policies, LRU and ADAPTIVE with a variant for shards:
 *
 *               bytes per entry   a hit writes
 *   FIFO             8            nothing
 *   LRU              8            up to 6 links, nothing when newest
 *   CLOCK              1/4        one bit, nothing when already set
 *   SIEVE            8 1/8        one bit, nothing when already set
 *   ADAPTIVE    20 1/8 + 53 KB    one word; for a sampled key the mini-caches
 *   RANDOM             1/8        nothing
 *   TTL             20            nothing
 *   LFU             10            links
 *   GDSF            32            a heap
 *   SLRU             8 1/4        links
 *   2Q              20 1/4        links, nothing for a newcomer
 *   ARC             32 1/4        links
 *   LIRS            60 3/8        links
 *   S3-FIFO         12 3/8        two bits, nothing when both are set
 *   W-TinyLFU       20 1/4        links and counters
 *
 * THREADS
 *   Whoever owns the cache, or has its lock, calls; only `touch` may be called by
 *   threads without the lock while somebody who has it calls the others.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_POLICIES_H
#define CACHE_POLICIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define CACHE_UNUSED __attribute__((unused))
#else
#define CACHE_UNUSED
#endif

/* What hot paths call. Forced inline only when optimising: an unoptimised
 * build stays small and can be stepped through. */
#if defined(__GNUC__) && defined(__OPTIMIZE__)
#define CACHE_INLINE static inline __attribute__((always_inline, unused))
#else
#define CACHE_INLINE static inline CACHE_UNUSED
#endif

/* What misses and loads call: inlined where the compiler finds that it pays. */
#define CACHE_WARM static inline CACHE_UNUSED

/* What only slow paths call: one copy for each translation unit. */
#if defined(__GNUC__)
#define CACHE_COLD static __attribute__((noinline, unused))
#else
#define CACHE_COLD static
#endif

/* A policy's verbs stand in a table, so they are not forced inline: the
 * compiler sees through a constant table by itself. */
#define CACHE_VERB CACHE_UNUSED static inline

#if defined(__GNUC__)
#define CACHE__PREFETCH(address) __builtin_prefetch(address, 1)
#else
#define CACHE__PREFETCH(address) ((void)(address))
#endif

/*
 * What threads that hold no lock may see of a cache (cache_shared.h) is read
 * and written by these; everything else in the library is a plain access.  On
 * the machines of today an ATOMIC_LOAD or ATOMIC_STORE is one too, of which the
 * compiler makes neither two nor none.  A test may define them all.
 *
 * ThreadSanitizer does not know fences: for it each access is as strong as the
 * fence would make it.
 */
#if !defined(CACHE_ATOMIC_LOAD) && defined(__GNUC__)
#if defined(__SANITIZE_THREAD__)
#define CACHE__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CACHE__TSAN 1
#endif
#endif
#if defined(CACHE__TSAN)
#define CACHE_ATOMIC_LOAD(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#define CACHE_ATOMIC_STORE(at, x) __atomic_store_n(at, x, __ATOMIC_RELEASE)
#define CACHE_FENCE_ACQUIRE() ((void)0)
#define CACHE_FENCE_RELEASE() ((void)0)
#else
#define CACHE_ATOMIC_LOAD(at) __atomic_load_n(at, __ATOMIC_RELAXED)
#define CACHE_ATOMIC_STORE(at, x) __atomic_store_n(at, x, __ATOMIC_RELAXED)
#define CACHE_FENCE_ACQUIRE() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define CACHE_FENCE_RELEASE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif
#define CACHE_ATOMIC_LOAD_ACQUIRE(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#define CACHE_ATOMIC_STORE_RELEASE(at, x)                                      \
    __atomic_store_n(at, x, __ATOMIC_RELEASE)
#define CACHE__OWN_ATOMICS 1
#define CACHE_ATOMIC_ADD(at, x) __atomic_fetch_add(at, x, __ATOMIC_RELAXED)
#elif !defined(CACHE_ATOMIC_LOAD) /* no shared caches there: all is plain */
#define CACHE_ATOMIC_LOAD(at) (*(at))
#define CACHE_ATOMIC_STORE(at, x) ((void)(*(at) = (x)))
#define CACHE_ATOMIC_STORE_RELEASE(at, x) ((void)(*(at) = (x)))
#define CACHE_FENCE_RELEASE() ((void)0)
#endif

/* What a policy may know of an entry. */
struct cache_item {
    uint64_t hash;     /* of the key; the upper 32 bits are well mixed, all 64
                          differ for keys whose own hashes differ */
    uint32_t weight;   /* bytes; 1 in a cache that counts entries */
    uint32_t cost;     /* of getting the value again, in any unit; 1 unless the
                          cache has .cost */
    uint32_t deadline; /* tick at which it is dead; 0 = never */
};

/* One entry's place in a list. */
struct cache_link {
    uint32_t newer; /* neighbour towards the newest entry, or the ring */
    uint32_t older; /* neighbour towards the oldest entry, or the ring */
};

/* The state of any policy.  What is looked at on a hit stands here, first what
 * `touch` looks at; the rest of a larger policy is a struct of its own at the
 * start of `memory`. */
struct cache_policy {
    uint32_t *marks;          /* bits, counters or times that a hit sets, by
                                 slot */
    uint32_t now;             /* ADAPTIVE: a coarse clock, driven by misses;
                                 LRU of a shard: counts its moves */
    uint32_t full;            /* entries that the policy has when the cache is
                                 full: capacity, or less where bytes or pinned
                                 entries leave no more room.  Segments are
                                 shares of it.  It may change at any time. */
    void *memory;             /* layout() bytes, aligned to 64 */
    struct cache_link *links; /* lists, by slot */
    uint32_t capacity;        /* slots are 1 to capacity */
    uint32_t hand;            /* SIEVE, CLOCK: where the next search begins */
    uint32_t choice;          /* ADAPTIVE: which window it has, of
                                 cache__adaptive_choices; in a shard it is set
                                 from outside, at any time */
    uint32_t sample_limit;    /* ADAPTIVE: a key is in the sample if its number
                                 is not above */
    bool zeroed;              /* memory is zeroes already: init may rely on it
                                 and leave pages untouched */
};

struct cache_policy_verbs {
    const char *name; /* in lower case */

    /* Bytes of state for a capacity; at most 64 for each slot and 64 KiB. */
    size_t (*layout)(uint32_t capacity);

    /* Lays an empty policy out in p->memory, whatever that holds. memory,
     * capacity and full are set, and nothing else. The same seed gives the same
     * decisions. */
    void (*init)(struct cache_policy *p, uint64_t seed);

    /* A key that is absent is about to enter; what has to leave first, leaves
     * after this. Nothing of it is known yet but the item. */
    void (*admit)(struct cache_policy *p, const struct cache_item *item);

    /* The entry stands in this slot.  Without an admit before: it was here,
     * and comes back under the policy (unpinned, or grown heavier). */
    void (*add)(struct cache_policy *p, uint32_t slot,
                const struct cache_item *item);

    /* The entry in this slot was used. */
    void (*hit)(struct cache_policy *p, uint32_t slot, uint64_t hash);

    /* The same, said by a thread that holds no lock.  At most a mark is set, and
     * it may get lost; nothing is written that is there already.  Returns false
     * if somebody with the lock has to call hit for it.  NULL = always. */
    bool (*touch)(const struct cache_policy *p, uint32_t slot);

    /* Weight, cost or deadline of the entry in this slot are now these. */
    void (*change)(struct cache_policy *p, uint32_t slot,
                   const struct cache_item *item);

    /* The entry in this slot leaves, and not because the policy said so. */
    void (*remove)(struct cache_policy *p, uint32_t slot);

    /* Which slot should leave; there is at least one entry.  The caller evicts
     * it, or removes it, or asks again. */
    uint32_t (*victim)(struct cache_policy *p);

    /* The victim leaves for lack of room: remove, and remember it. */
    void (*evict)(struct cache_policy *p, uint32_t slot, uint64_t hash);

    /* A slot that is likely to leave soon, not the very next one; 0 = no idea.
     * What victim and evict will touch of it has been sent for. */
    uint32_t (*ahead)(const struct cache_policy *p);

    /* Walks every invariant. NULL, or what is broken. `len` entries are here.
     */
    const char *(*check)(const struct cache_policy *p, uint32_t len);

    /* evict uses more of a hash than its upper 32 bits. */
    bool needs_whole_hash;
};

/* --- shared: what does nothing ------------------------------------------- */

CACHE_VERB void cache__no_admit(struct cache_policy *p,
                                const struct cache_item *item)
{
    (void)p;
    (void)item;
}

CACHE_VERB void cache__no_hit(struct cache_policy *p, uint32_t slot,
                              uint64_t hash)
{
    (void)p;
    (void)slot;
    (void)hash;
}

/* A hit that changes nothing needs no lock. */
CACHE_VERB bool cache__no_touch(const struct cache_policy *p, uint32_t slot)
{
    (void)p;
    (void)slot;
    return true;
}

CACHE_VERB void cache__no_change(struct cache_policy *p, uint32_t slot,
                                 const struct cache_item *item)
{
    (void)p;
    (void)slot;
    (void)item;
}

CACHE_VERB uint32_t cache__no_ahead(const struct cache_policy *p)
{
    (void)p;
    return 0;
}

/* --- shared: memory ------------------------------------------------------ */

/* Rounds up, so that what follows in the same block stays aligned. */
CACHE_INLINE size_t cache__round_up(size_t bytes, size_t to)
{
    return (bytes + (to - 1)) / to * to;
}

/* Cuts the next array out of a policy's memory, aligned to 8; *at is where
 * the last one ended.  With memory NULL it only counts, so that layout and
 * init can be one walk. */
CACHE_INLINE void *cache__cut(void *memory, size_t *at, size_t count,
                              size_t bytes)
{
    size_t start = cache__round_up(*at, 8);

    *at = start + count * bytes;
    return memory ? (unsigned char *)memory + start : NULL;
}

/* Zeroes an array, unless the whole memory is zeroes already. */
CACHE_INLINE void cache__zero(const struct cache_policy *p, void *array,
                              size_t bytes)
{
    if (!p->zeroed)
        memset(array, 0, bytes);
}

/* --- shared: lists ------------------------------------------------------- */

CACHE_INLINE void cache__list_init(struct cache_link *links, uint32_t ring)
{
    links[ring].newer = links[ring].older = ring;
}

CACHE_INLINE uint32_t cache__list_oldest(const struct cache_link *links,
                                         uint32_t ring)
{
    return links[ring].newer; /* the ring itself if the list is empty */
}

CACHE_INLINE uint32_t cache__list_newest(const struct cache_link *links,
                                         uint32_t ring)
{
    return links[ring].older;
}

/* The slot becomes the newest. */
CACHE_INLINE void cache__list_push(struct cache_link *links, uint32_t ring,
                                   uint32_t slot)
{
    uint32_t newest = links[ring].older;

    links[slot].newer = ring;
    links[slot].older = newest;
    links[newest].newer = slot;
    links[ring].older = slot;
}

CACHE_INLINE void cache__list_unlink(struct cache_link *links, uint32_t slot)
{
    struct cache_link gone = links[slot];

    links[gone.newer].older = gone.older;
    links[gone.older].newer = gone.newer;
}

/* Walks the circle once; slots up to `last` are legal.  Returns NULL, or what
 * is broken. */
CACHE_COLD const char *cache__list_check(const struct cache_link *links,
                                         uint32_t ring, uint32_t last,
                                         uint32_t len)
{
    uint32_t n = 0, slot = ring;

    do {
        uint32_t older = links[slot].older;
        if (older > last && older != ring)
            return "policy list: a link leads outside the cache";
        if (links[older].newer != slot)
            return "policy list: two neighbours disagree";
        slot = older;
    } while (slot != ring && ++n <= len);
    return n == len ? NULL : "policy list: its length is not the cache's";
}

/* --- shared: one bit for each slot --------------------------------------- */

CACHE_INLINE size_t cache__bit_words(uint32_t capacity)
{
    return (size_t)capacity / 32 + 1;
}

CACHE_INLINE bool cache__bit(const uint32_t *bits, uint32_t slot)
{
    return (bits[slot >> 5] >> (slot & 31) & 1) != 0;
}

CACHE_INLINE void cache__bit_set(uint32_t *bits, uint32_t slot)
{
    bits[slot >> 5] |= (uint32_t)1 << (slot & 31);
}

CACHE_INLINE void cache__bit_clear(uint32_t *bits, uint32_t slot)
{
    bits[slot >> 5] &= ~((uint32_t)1 << (slot & 31));
}

/* --- shared: marks -------------------------------------------------------
 * One or two bits for each slot that a hit sets.  Threads without a lock do so
 * too: then one of two marks that are set at once, in one word, may get lost,
 * or one come back that was just taken.
 */

CACHE_INLINE bool cache__mark(const uint32_t *marks, uint32_t slot)
{
    return (CACHE_ATOMIC_LOAD(&marks[slot >> 5]) >> (slot & 31) & 1) != 0;
}

CACHE_INLINE void cache__mark_set(uint32_t *marks, uint32_t slot)
{
    uint32_t word = CACHE_ATOMIC_LOAD(&marks[slot >> 5]);

    if ((word >> (slot & 31) & 1) == 0) /* one instruction, as it stands */
        CACHE_ATOMIC_STORE(&marks[slot >> 5],
                           word | (uint32_t)1 << (slot & 31));
}

CACHE_INLINE void cache__mark_clear(uint32_t *marks, uint32_t slot)
{
    uint32_t word = CACHE_ATOMIC_LOAD(&marks[slot >> 5]);

    CACHE_ATOMIC_STORE(&marks[slot >> 5], word & ~((uint32_t)1 << (slot & 31)));
}

CACHE_INLINE uint32_t cache__two_marks(const uint32_t *marks, uint32_t slot)
{
    return CACHE_ATOMIC_LOAD(&marks[slot >> 4]) >> (slot & 15) * 2 & 3;
}

CACHE_INLINE void cache__two_marks_set(uint32_t *marks, uint32_t slot,
                                       uint32_t value)
{
    uint32_t word = CACHE_ATOMIC_LOAD(&marks[slot >> 4]);
    uint32_t shift = (slot & 15) * 2;

    CACHE_ATOMIC_STORE(&marks[slot >> 4],
                       (word & ~((uint32_t)3 << shift)) | value << shift);
}

/* --- shared: the lowest bit ---------------------------------------------- */

/* The number of the lowest bit that is set; at least one is. */
CACHE_INLINE uint32_t cache__lowest_bit(uint64_t bits)
{
#if defined(__GNUC__)
    return (uint32_t)__builtin_ctzll(bits);
#else
    uint32_t n = 0;

    while ((bits >> n & 1) == 0)
        n++;
    return n;
#endif
}

/* --- shared: two bits for each slot -------------------------------------- */

CACHE_INLINE size_t cache__twobit_words(uint32_t capacity)
{
    return (size_t)capacity / 16 + 1;
}

CACHE_INLINE uint32_t cache__twobit(const uint32_t *bits, uint32_t slot)
{
    return bits[slot >> 4] >> (slot & 15) * 2 & 3;
}

CACHE_INLINE void cache__twobit_set(uint32_t *bits, uint32_t slot,
                                    uint32_t value)
{
    uint32_t shift = (slot & 15) * 2;

    bits[slot >> 4] =
        (bits[slot >> 4] & ~((uint32_t)3 << shift)) | value << shift;
}

/* --- shared: ghosts ------------------------------------------------------
 *
 * A table of keys that have left: 4 bytes for each, sets of four.
 *
 *   set    [ fp16 | stamp16 ] [ fp16 | stamp16 ] [ 0 = free ] [ ... ]
 *
 * A full set forgets the ghost with the oldest stamp.  A stamp is any clock of
 * the policy's that goes round in 16 bits; ages are compared, never stamps.
 * One look-up in 16,000 finds a key that was never there.
 */

struct cache_ghosts {
    uint32_t *slots; /* 4 x n_sets; 0 = free, else fingerprint, stamp */
    uint32_t n_sets;
};

#define CACHE__GHOST_WAYS 4u

CACHE_INLINE uint32_t cache__ghost_sets(uint64_t n_ghosts)
{
    return (uint32_t)((n_ghosts + CACHE__GHOST_WAYS - 1) / CACHE__GHOST_WAYS);
}

/* The set is chosen by the upper end of the hash, the fingerprint is lower. */
CACHE_INLINE uint32_t *cache__ghost_set(const struct cache_ghosts *g,
                                        uint64_t hash)
{
    uint64_t set = ((hash >> 32) * g->n_sets) >> 32;

    return &g->slots[set * CACHE__GHOST_WAYS];
}

CACHE_INLINE uint32_t cache__fingerprint(uint64_t hash)
{
    return (uint32_t)(hash >> 32) << 16 | 0x10000u; /* never 0 */
}

/* Remembers a key that leaves, with the lower 16 bits of a stamp.  It takes the
 * first way that is free, else that of the oldest, of equals the last.  Which
 * one that is cannot be predicted, so the ways are ranked and nothing branches.
 */
CACHE_INLINE void cache__ghost_put(struct cache_ghosts *g, uint64_t hash,
                                   uint32_t stamp, uint32_t now)
{
    const uint32_t ways = CACHE__GHOST_WAYS, is_free = 0x10000;
    uint32_t *set = cache__ghost_set(g, hash), way, best = 0;

    for (way = 0; way < ways; way++) {
        uint32_t age = (now - set[way]) & 0xffff;
        uint32_t rank = set[way] == 0 ? is_free * ways + (ways - 1 - way)
                                      : age * ways + way;
        best = rank > best ? rank : best;
    }
    way = best < is_free * ways ? best % ways : ways - 1 - best % ways;
    set[way] = cache__fingerprint(hash) | (stamp & 0xffff);
}

/* Forgets a key that comes back.  Returns false if it was not remembered;
 * *age is how long ago its stamp is, 0 to 65535. */
CACHE_INLINE bool cache__ghost_take(struct cache_ghosts *g, uint64_t hash,
                                    uint32_t now, uint32_t *age)
{
    uint32_t *set = cache__ghost_set(g, hash);
    uint32_t fingerprint = cache__fingerprint(hash), way;

    for (way = 0; way < CACHE__GHOST_WAYS; way++)
        if ((set[way] & 0xffff0000u) == fingerprint) {
            *age = (now - set[way]) & 0xffff;
            set[way] = 0;
            return true;
        }
    return false;
}

/* --- shared: a heap of slots ---------------------------------------------
 * J. W. J. Williams: "Algorithm 232: Heapsort", CACM 7(6), 1964; four to a
 * node and aligned: A. LaMarca, R. E. Ladner: "The Influence of Caches on the
 * Performance of Heaps", ACM Journal of Experimental Algorithmics 1, 1996.
 *
 *   nodes   -  -  -  root |  4  5  6  7 |  8  9 10 11 | 12 ...
 *                     3   |  below 3    |  below 4    | below 5
 *
 * The lowest key is on top.  The root is the fourth node, so that the four
 * below any node fill one line of 64 bytes.  Of equal keys, the one that took
 * its turn first is the lower: the heap is a queue where keys do not differ.
 *
 * A turn is a number of 32 bits.  Before they run out, 2^31 is taken from all:
 * what has waited through that many other turns without taking a new one gets
 * turn 0, and of several such with equal keys any may be first.
 */

struct cache_heap4_node {
    uint64_t key;
    uint32_t turn; /* decides between equal keys */
    uint32_t slot;
};

struct cache_heap4 {
    struct cache_heap4_node *nodes; /* from CACHE__HEAP4_ROOT on */
    uint32_t *places;               /* by slot: where its node is */
    uint32_t len;                   /* nodes in all */
    uint32_t turn;                  /* the next to be given away */
};

#define CACHE__HEAP4_ROOT 3u
#define CACHE__HEAP4_HALF 0x80000000u /* of all turns */

/* Cuts the arrays out of a policy's memory, or only counts (cache__cut). */
CACHE_INLINE void cache__heap4_cut(struct cache_heap4 *h, void *memory,
                                   size_t *at, uint32_t capacity)
{
    *at = cache__round_up(*at, sizeof *h->nodes * 4);
    h->nodes = (struct cache_heap4_node *)cache__cut(
        memory, at, (size_t)capacity + CACHE__HEAP4_ROOT, sizeof *h->nodes);
    h->places = (uint32_t *)cache__cut(memory, at, (size_t)capacity + 1,
                                       sizeof *h->places);
}

/* After cache__heap4_cut. */
CACHE_INLINE void cache__heap4_init(struct cache_heap4 *h)
{
    h->len = 0;
    h->turn = 0;
}

CACHE_INLINE const struct cache_heap4_node *
cache__heap4_top(const struct cache_heap4 *h)
{
    return &h->nodes[CACHE__HEAP4_ROOT];
}

CACHE_INLINE size_t cache__heap4_parent(size_t at)
{
    return at / 4 + 2;
}

CACHE_INLINE size_t cache__heap4_first_child(size_t at)
{
    return (at - 2) * 4;
}

CACHE_INLINE bool cache__heap4_before(const struct cache_heap4_node *a,
                                      const struct cache_heap4_node *b)
{
    return a->key != b->key ? a->key < b->key : a->turn < b->turn;
}

CACHE_INLINE void cache__heap4_put(struct cache_heap4 *h, size_t at,
                                   struct cache_heap4_node node)
{
    h->nodes[at] = node;
    h->places[node.slot] = (uint32_t)at;
}

/* The lowest child of a node; `at` itself if it has none. */
CACHE_INLINE size_t cache__heap4_lowest_child(const struct cache_heap4 *h,
                                              size_t at)
{
    size_t child = cache__heap4_first_child(at);
    size_t end = (size_t)CACHE__HEAP4_ROOT + h->len, lowest = at, i;

    for (i = child; i < child + 4 && i < end; i++)
        if (lowest == at ||
            cache__heap4_before(&h->nodes[i], &h->nodes[lowest]))
            lowest = i;
    return lowest;
}

/* A node looks for its place, from the hole at `at`: up, or else down. */
CACHE_VERB void cache__heap4_settle(struct cache_heap4 *h, size_t at,
                                    struct cache_heap4_node node)
{
    while (at > CACHE__HEAP4_ROOT) {
        size_t parent = cache__heap4_parent(at);
        if (!cache__heap4_before(&node, &h->nodes[parent]))
            break;
        cache__heap4_put(h, at, h->nodes[parent]);
        at = parent;
    }
    for (;;) {
        size_t child = cache__heap4_lowest_child(h, at);
        if (child == at || !cache__heap4_before(&h->nodes[child], &node))
            break;
        cache__heap4_put(h, at, h->nodes[child]);
        at = child;
    }
    cache__heap4_put(h, at, node);
}

/* Turns run out.  What is before another stays so, or becomes its equal, and
 * the heap stays one. */
CACHE_COLD void cache__heap4_lower_turns(struct cache_heap4 *h)
{
    size_t at, end = (size_t)CACHE__HEAP4_ROOT + h->len;

    for (at = CACHE__HEAP4_ROOT; at < end; at++)
        h->nodes[at].turn = h->nodes[at].turn > CACHE__HEAP4_HALF
                                ? h->nodes[at].turn - CACHE__HEAP4_HALF
                                : 0;
    h->turn -= CACHE__HEAP4_HALF;
}

CACHE_INLINE uint32_t cache__heap4_take_turn(struct cache_heap4 *h)
{
    if (h->turn == UINT32_MAX)
        cache__heap4_lower_turns(h);
    return h->turn++;
}

/* Takes a number off all keys; none is less. */
CACHE_COLD void cache__heap4_lower_keys(struct cache_heap4 *h, uint64_t by)
{
    size_t at, end = (size_t)CACHE__HEAP4_ROOT + h->len;

    for (at = CACHE__HEAP4_ROOT; at < end; at++)
        h->nodes[at].key -= by;
}

/* A slot comes in, the last of those with its key. */
CACHE_INLINE void cache__heap4_insert(struct cache_heap4 *h, uint32_t slot,
                                      uint64_t key)
{
    struct cache_heap4_node node;

    node.key = key;
    node.turn = cache__heap4_take_turn(h);
    node.slot = slot;
    cache__heap4_settle(h, (size_t)CACHE__HEAP4_ROOT + h->len++, node);
}

/* Another key, the same turn. */
CACHE_INLINE void cache__heap4_change(struct cache_heap4 *h, uint32_t slot,
                                      uint64_t key)
{
    size_t at = h->places[slot];
    struct cache_heap4_node node = h->nodes[at];

    node.key = key;
    cache__heap4_settle(h, at, node);
}

/* Another key, and a new turn: the last of those with that key. */
CACHE_INLINE void cache__heap4_renew(struct cache_heap4 *h, uint32_t slot,
                                     uint64_t key)
{
    struct cache_heap4_node node;

    node.key = key;
    node.turn = cache__heap4_take_turn(h);
    node.slot = slot;
    cache__heap4_settle(h, h->places[slot], node);
}

/* The last node fills the hole. */
CACHE_INLINE void cache__heap4_remove(struct cache_heap4 *h, uint32_t slot)
{
    size_t at = h->places[slot], last = CACHE__HEAP4_ROOT + --h->len;

    if (at != last)
        cache__heap4_settle(h, at, h->nodes[last]);
}

/* The second lowest slot, with its place sent for; 0 = there is none. */
CACHE_INLINE uint32_t cache__heap4_ahead(const struct cache_heap4 *h)
{
    size_t second = cache__heap4_lowest_child(h, CACHE__HEAP4_ROOT);

    if (second == CACHE__HEAP4_ROOT)
        return 0;
    CACHE__PREFETCH(&h->places[h->nodes[second].slot]);
    return h->nodes[second].slot;
}

CACHE_COLD const char *cache__heap4_check(const struct cache_heap4 *h,
                                          uint32_t capacity, uint32_t len)
{
    size_t at, end = (size_t)CACHE__HEAP4_ROOT + h->len;

    if (h->len != len || len > capacity)
        return "policy heap: its length is not the cache's";
    for (at = CACHE__HEAP4_ROOT; at < end; at++) {
        const struct cache_heap4_node *node = &h->nodes[at];
        if (node->slot == 0 || node->slot > capacity)
            return "policy heap: a slot outside the cache";
        if (h->places[node->slot] != at)
            return "policy heap: a slot's place is not where it is";
        if (node->turn >= h->turn)
            return "policy heap: a turn that was not given away yet";
        if (at > CACHE__HEAP4_ROOT &&
            cache__heap4_before(node, &h->nodes[cache__heap4_parent(at)]))
            return "policy heap: a node is lower than the one above it";
    }
    return NULL;
}

/* --- shared: two lists ---------------------------------------------------
 *
 * Nodes 1 to n, each in one of two lists or in none; a bit says in which.  The
 * rings are 0 and n + 1.  8 1/8 bytes for each node.
 *
 *   list 0   [ring 0    ] ---> [ newest ] ---> ... ---> [ oldest ]
 *   list 1   [ring n + 1] ---> [ newest ] ---> ... ---> [ oldest ]
 */

struct cache_twin {
    struct cache_link *links; /* by node, and both rings */
    uint32_t *in_one;         /* a bit for each node: it is in list 1 */
    uint32_t n;               /* the last node */
    uint32_t len[2];          /* of each list */
};

/* Cuts it out of a policy's memory; with memory NULL it only counts. */
CACHE_COLD void cache__twin_cut(struct cache_twin *twin, void *memory,
                                size_t *at, uint32_t n)
{
    twin->n = n;
    twin->links = (struct cache_link *)cache__cut(memory, at, (size_t)n + 2,
                                                  sizeof(struct cache_link));
    twin->in_one = (uint32_t *)cache__cut(memory, at, cache__bit_words(n),
                                          sizeof(uint32_t));
}

CACHE_INLINE uint32_t cache__twin_ring(const struct cache_twin *twin,
                                       uint32_t list)
{
    return list == 0 ? 0 : twin->n + 1;
}

/* Empties both lists; the nodes are not touched. */
CACHE_VERB void cache__twin_init(struct cache_twin *twin)
{
    cache__list_init(twin->links, cache__twin_ring(twin, 0));
    cache__list_init(twin->links, cache__twin_ring(twin, 1));
    twin->len[0] = twin->len[1] = 0;
}

/* 0 or 1: the list of a node, or the last one that it was in. */
CACHE_INLINE uint32_t cache__twin_list(const struct cache_twin *twin,
                                       uint32_t node)
{
    return cache__bit(twin->in_one, node);
}

/* The list is not empty. */
CACHE_INLINE uint32_t cache__twin_oldest(const struct cache_twin *twin,
                                         uint32_t list)
{
    return cache__list_oldest(twin->links, cache__twin_ring(twin, list));
}

/* The one after the oldest, sent for; 0 = there is none. */
CACHE_VERB uint32_t cache__twin_ahead(const struct cache_twin *twin,
                                      uint32_t list)
{
    uint32_t ring = cache__twin_ring(twin, list);
    uint32_t node = twin->links[cache__list_oldest(twin->links, ring)].newer;

    CACHE__PREFETCH(&twin->links[node]);
    return node == ring ? 0 : node;
}

/* A node that is in no list becomes the newest of one. */
CACHE_VERB void cache__twin_push(struct cache_twin *twin, uint32_t list,
                                 uint32_t node)
{
    if (list == 0)
        cache__bit_clear(twin->in_one, node);
    else
        cache__bit_set(twin->in_one, node);
    cache__list_push(twin->links, cache__twin_ring(twin, list), node);
    twin->len[list]++;
}

CACHE_VERB void cache__twin_take(struct cache_twin *twin, uint32_t node)
{
    cache__list_unlink(twin->links, node);
    twin->len[cache__twin_list(twin, node)]--;
}

/* A node that was used becomes the newest of a list, its own or the other. */
CACHE_VERB void cache__twin_renew(struct cache_twin *twin, uint32_t list,
                                  uint32_t node)
{
    uint32_t ring = cache__twin_ring(twin, list);

    if (cache__list_newest(twin->links, ring) == node)
        return;
    cache__twin_take(twin, node);
    cache__twin_push(twin, list, node);
}

/* `len` nodes are in the lists. */
CACHE_COLD const char *cache__twin_check(const struct cache_twin *twin,
                                         uint32_t len)
{
    uint32_t list, ring, node;
    const char *broken;

    for (list = 0; list < 2; list++) {
        ring = cache__twin_ring(twin, list);
        broken = cache__list_check(twin->links, ring, twin->n, twin->len[list]);
        if (broken)
            return broken;
        for (node = twin->links[ring].older; node != ring;
             node = twin->links[node].older)
            if (node == 0 || cache__twin_list(twin, node) != list)
                return "policy lists: a node is in the other list";
    }
    return (uint64_t)twin->len[0] + twin->len[1] == len
               ? NULL
               : "policy lists: their lengths do not add up";
}

/* --- shared: a directory of keys that have left --------------------------
 *
 * For policies that must not take one key for another: a ghost is found by all
 * 64 bits of its hash.  Each is in one of two lists, by age.
 *
 *   heads    [ 0 ] [ 3 ] [ 0 ] [ 5 ] ...           chosen by the hash
 *                    |           |
 *                    v           v
 *   entries        [ 3 ]       [ 5 ]               hash, next of its chain
 *                    |
 *                    v
 *                  [ 1 ]
 *
 * Ghosts are numbered from 1; 0 = none.  24 1/8 bytes for each.
 */

struct cache_directory_entry {
    uint32_t high; /* the hash in two halves, so that an entry is 12 bytes */
    uint32_t low;
    uint32_t next; /* of the same chain, or of the free ones; 0 = the last */
};

struct cache_directory {
    struct cache_twin lists;               /* by ghost */
    struct cache_directory_entry *entries; /* by ghost */
    uint32_t *heads; /* the first of each chain, 0 = none; lists.n of them */
    uint32_t fresh;  /* 1 to fresh have been in use at some time */
    uint32_t free;   /* the first of those that are free again */
};

/* Cuts it out of a policy's memory; with memory NULL it only counts. */
CACHE_COLD void cache__dir_cut(struct cache_directory *d, void *memory,
                               size_t *at, uint32_t n)
{
    cache__twin_cut(&d->lists, memory, at, n);
    d->entries = (struct cache_directory_entry *)cache__cut(
        memory, at, (size_t)n + 1, sizeof(struct cache_directory_entry));
    d->heads = (uint32_t *)cache__cut(memory, at, n, sizeof(uint32_t));
}

CACHE_COLD void cache__dir_init(struct cache_directory *d)
{
    cache__twin_init(&d->lists);
    memset(d->heads, 0, d->lists.n * sizeof *d->heads);
    d->fresh = d->free = 0;
}

CACHE_INLINE uint32_t cache__dir_len(const struct cache_directory *d)
{
    return d->lists.len[0] + d->lists.len[1];
}

CACHE_INLINE uint32_t *cache__dir_head(const struct cache_directory *d,
                                       uint32_t high)
{
    return &d->heads[((uint64_t)high * d->lists.n) >> 32];
}

/* Returns 0 if the key is not remembered. */
CACHE_VERB uint32_t cache__dir_find(const struct cache_directory *d,
                                    uint64_t hash)
{
    uint32_t high = (uint32_t)(hash >> 32), low = (uint32_t)hash;
    uint32_t ghost = *cache__dir_head(d, high);

    while (ghost != 0 &&
           (d->entries[ghost].low != low || d->entries[ghost].high != high))
        ghost = d->entries[ghost].next;
    return ghost;
}

/* Remembers a key as the newest of a list.  There is room.  Different keys of
 * one hash are as many ghosts, and a look-up finds one of them. */
CACHE_VERB uint32_t cache__dir_put(struct cache_directory *d, uint32_t list,
                                   uint64_t hash)
{
    uint32_t high = (uint32_t)(hash >> 32), ghost = d->free;
    uint32_t *head = cache__dir_head(d, high);

    if (ghost != 0)
        d->free = d->entries[ghost].next;
    else
        ghost = ++d->fresh;
    d->entries[ghost].high = high;
    d->entries[ghost].low = (uint32_t)hash;
    d->entries[ghost].next = *head;
    *head = ghost;
    cache__twin_push(&d->lists, list, ghost);
    return ghost;
}

CACHE_VERB void cache__dir_drop(struct cache_directory *d, uint32_t ghost)
{
    uint32_t *link = cache__dir_head(d, d->entries[ghost].high);

    while (*link != ghost)
        link = &d->entries[*link].next;
    *link = d->entries[ghost].next;
    d->entries[ghost].next = d->free;
    d->free = ghost;
    cache__twin_take(&d->lists, ghost);
}

/* Forgets the oldest of a list until it has no more than `len`. */
CACHE_VERB void cache__dir_trim(struct cache_directory *d, uint32_t list,
                                uint32_t len)
{
    while (d->lists.len[list] > len)
        cache__dir_drop(d, cache__twin_oldest(&d->lists, list));
}

/* The ghost is in the chain of its hash. */
CACHE_COLD bool cache__dir_chained(const struct cache_directory *d,
                                   uint32_t ghost)
{
    uint32_t at;

    if (ghost == 0 || ghost > d->fresh)
        return false;
    at = *cache__dir_head(d, d->entries[ghost].high);
    while (at != 0 && at != ghost)
        at = d->entries[at].next;
    return at == ghost;
}

/* There are as many ghosts in the chains as in the lists, so it is enough that
 * those of the lists are in their chains. */
CACHE_COLD const char *cache__dir_check(const struct cache_directory *d)
{
    const char *broken = cache__twin_check(&d->lists, cache__dir_len(d));
    uint32_t chain, list, ring, ghost, n = 0;

    if (broken)
        return broken;
    if (d->fresh > d->lists.n || cache__dir_len(d) > d->fresh)
        return "directory: more ghosts than it has room for";
    for (chain = 0; chain < d->lists.n; chain++)
        for (ghost = d->heads[chain]; ghost != 0; n++) {
            if (ghost > d->fresh || n == cache__dir_len(d))
                return "directory: a chain leads to what is not a ghost";
            ghost = d->entries[ghost].next;
        }
    if (n != cache__dir_len(d))
        return "directory: a ghost is in no chain";
    for (list = 0; list < 2; list++) {
        ring = cache__twin_ring(&d->lists, list);
        for (ghost = d->lists.links[ring].older; ghost != ring;
             ghost = d->lists.links[ghost].older)
            if (!cache__dir_chained(d, ghost))
                return "directory: a ghost is not in the chain of its hash";
    }
    for (ghost = d->free; ghost != 0; n++) {
        if (n == d->fresh || ghost > d->fresh || cache__dir_chained(d, ghost))
            return "directory: what is free leads to what is not";
        ghost = d->entries[ghost].next;
    }
    return n == d->fresh ? NULL : "directory: a ghost is lost";
}

/* --- FIFO: first in, first out ------------------------------------------- */

CACHE_VERB size_t cache_fifo_layout(uint32_t capacity)
{
    return ((size_t)capacity + 1) * sizeof(struct cache_link);
}

CACHE_VERB void cache_fifo_init(struct cache_policy *p, uint64_t seed)
{
    (void)seed;
    p->links = (struct cache_link *)p->memory;
    cache__list_init(p->links, 0);
}

CACHE_VERB void cache_fifo_add(struct cache_policy *p, uint32_t slot,
                               const struct cache_item *item)
{
    (void)item;
    cache__list_push(p->links, 0, slot);
}

CACHE_VERB void cache_fifo_remove(struct cache_policy *p, uint32_t slot)
{
    cache__list_unlink(p->links, slot);
}

CACHE_VERB uint32_t cache_fifo_victim(struct cache_policy *p)
{
    return cache__list_oldest(p->links, 0);
}

CACHE_VERB void cache_fifo_evict(struct cache_policy *p, uint32_t slot,
                                 uint64_t hash)
{
    (void)hash;
    cache__list_unlink(p->links, slot);
}

CACHE_VERB uint32_t cache_fifo_ahead(const struct cache_policy *p)
{
    uint32_t slot = p->links[cache__list_oldest(p->links, 0)].newer;

    CACHE__PREFETCH(&p->links[slot]);
    return slot;
}

CACHE_VERB const char *cache_fifo_check(const struct cache_policy *p,
                                        uint32_t len)
{
    return cache__list_check(p->links, 0, p->capacity, len);
}

static const struct cache_policy_verbs cache_fifo CACHE_UNUSED = {
    "fifo",
    cache_fifo_layout,
    cache_fifo_init,
    cache__no_admit,
    cache_fifo_add,
    cache__no_hit,
    cache__no_touch,
    cache__no_change,
    cache_fifo_remove,
    cache_fifo_victim,
    cache_fifo_evict,
    cache_fifo_ahead,
    cache_fifo_check,
    false,
};

/* --- LRU: least recently used -------------------------------------------- */

CACHE_VERB void cache_lru_hit(struct cache_policy *p, uint32_t slot,
                              uint64_t hash)
{
    (void)hash;
    if (cache__list_newest(p->links, 0) == slot)
        return;
    cache__list_unlink(p->links, slot);
    cache__list_push(p->links, 0, slot);
}

static const struct cache_policy_verbs cache_lru CACHE_UNUSED = {
    "lru",
    cache_fifo_layout,
    cache_fifo_init,
    cache__no_admit,
    cache_fifo_add,
    cache_lru_hit,
    NULL,
    cache__no_change,
    cache_fifo_remove,
    cache_fifo_victim,
    cache_fifo_evict,
    cache_fifo_ahead,
    cache_fifo_check,
    false,
};

/* --- LRU of a shard ------------------------------------------------------
 * What CACHE_LRU is where several threads look up without a lock.  An entry
 * moves only when it has left the newest quarter, which most that are used
 * often have not:
 *
 *   [ newest ] ... [ ] | [ ] ... [ ] ... [ oldest ]
 *     stays when used  |  becomes the newest
 *
 * Each move and each newcomer counts `now` on, and an entry keeps the count of
 * its own: so it is known without a look at the list.  On Zipf requests, OLTP
 * and P6 that costs at most 0.1 points of hits, and 47 to 80 % of hits move
 * nothing (of P6's, 13 %).
 */

CACHE_VERB size_t cache_lru_shard_layout(uint32_t capacity)
{
    return cache_fifo_layout(capacity) +
           ((size_t)capacity + 1) * sizeof(uint32_t);
}

CACHE_VERB void cache_lru_shard_init(struct cache_policy *p, uint64_t seed)
{
    unsigned char *bytes = (unsigned char *)p->memory;

    cache_fifo_init(p, seed);
    p->now = 0;
    p->marks = (uint32_t *)(void *)(bytes + cache_fifo_layout(p->capacity));
}

CACHE_VERB void cache_lru_shard_add(struct cache_policy *p, uint32_t slot,
                                    const struct cache_item *item)
{
    (void)item;
    CACHE_ATOMIC_STORE(&p->now, p->now + 1);
    CACHE_ATOMIC_STORE(&p->marks[slot], p->now);
    cache__list_push(p->links, 0, slot);
}

CACHE_VERB bool cache_lru_shard_touch(const struct cache_policy *p,
                                      uint32_t slot)
{
    return CACHE_ATOMIC_LOAD(&p->now) - CACHE_ATOMIC_LOAD(&p->marks[slot]) <=
           CACHE_ATOMIC_LOAD(&p->full) / 4;
}

CACHE_VERB void cache_lru_shard_hit(struct cache_policy *p, uint32_t slot,
                                    uint64_t hash)
{
    (void)hash;
    if (cache_lru_shard_touch(p, slot))
        return;
    cache__list_unlink(p->links, slot);
    cache_lru_shard_add(p, slot, NULL);
}

static const struct cache_policy_verbs cache_lru_shard CACHE_UNUSED = {
    "lru",
    cache_lru_shard_layout,
    cache_lru_shard_init,
    cache__no_admit,
    cache_lru_shard_add,
    cache_lru_shard_hit,
    cache_lru_shard_touch,
    cache__no_change,
    cache_fifo_remove,
    cache_fifo_victim,
    cache_fifo_evict,
    cache_fifo_ahead,
    cache_fifo_check,
    false,
};

/* --- CLOCK ---------------------------------------------------------------
 * F. J. Corbato: "A Paging Experiment with the Multics System", MIT 1968.
 *
 *          +--> [ 1 ] [ 2*] [ 3 ] [ 4*] ... [ n ] --+
 *          |                  ^ hand                |
 *          +----------------------------------------+
 *
 * The slots themselves are the circle, so there are no links.  A hit marks the
 * entry (*).  The hand passes over marked entries and takes their mark; the
 * first unmarked one leaves, and the newcomer takes its slot, just behind the
 * hand: the same as a FIFO that puts a marked entry back at its end.  An entry
 * that fills a hole left by a removal stands where the hole was.
 */

/* The bits of `marks`: first those of the entries that were used, then those
 * of the slots that hold an entry of ours. */
CACHE_INLINE uint32_t *cache__clock_here(const struct cache_policy *p)
{
    return p->marks + cache__bit_words(p->capacity);
}

CACHE_VERB size_t cache_clock_layout(uint32_t capacity)
{
    return 2 * cache__bit_words(capacity) * sizeof(uint32_t);
}

CACHE_VERB void cache_clock_init(struct cache_policy *p, uint64_t seed)
{
    (void)seed;
    p->marks = (uint32_t *)p->memory;
    p->hand = 1;
    cache__zero(p, p->memory, cache_clock_layout(p->capacity));
}

CACHE_VERB void cache_clock_add(struct cache_policy *p, uint32_t slot,
                                const struct cache_item *item)
{
    (void)item;
    cache__mark_clear(p->marks, slot);
    cache__bit_set(cache__clock_here(p), slot);
}

CACHE_VERB bool cache_clock_touch(const struct cache_policy *p, uint32_t slot)
{
    cache__mark_set(p->marks, slot);
    return true;
}

CACHE_VERB void cache_clock_hit(struct cache_policy *p, uint32_t slot,
                                uint64_t hash)
{
    (void)hash;
    cache__mark_set(p->marks, slot);
}

CACHE_VERB void cache_clock_remove(struct cache_policy *p, uint32_t slot)
{
    cache__mark_clear(p->marks, slot);
    cache__bit_clear(cache__clock_here(p), slot);
}

CACHE_INLINE uint32_t cache__clock_next(const struct cache_policy *p,
                                        uint32_t slot)
{
    return slot < p->capacity ? slot + 1 : 1;
}

/* Ends within two rounds: the first takes every mark.  (Readers without a lock
 * may set them again meanwhile, but not all of them for long.) */
CACHE_VERB uint32_t cache_clock_victim(struct cache_policy *p)
{
    uint32_t slot = p->hand;

    while (!cache__bit(cache__clock_here(p), slot) ||
           cache__mark(p->marks, slot)) {
        cache__mark_clear(p->marks, slot);
        slot = cache__clock_next(p, slot);
    }
    p->hand = slot;
    return slot;
}

CACHE_VERB void cache_clock_evict(struct cache_policy *p, uint32_t slot,
                                  uint64_t hash)
{
    (void)hash;
    cache_clock_remove(p, slot);
    if (slot == p->hand)
        p->hand = cache__clock_next(p, slot);
}

CACHE_VERB uint32_t cache_clock_ahead(const struct cache_policy *p)
{
    return cache__clock_next(p, p->hand);
}

CACHE_VERB const char *cache_clock_check(const struct cache_policy *p,
                                         uint32_t len)
{
    uint32_t slot, n = 0;

    if (p->hand < 1 || p->hand > p->capacity)
        return "CLOCK: the hand stands outside the cache";
    for (slot = 1; slot <= p->capacity; slot++)
        n += cache__bit(cache__clock_here(p), slot);
    return n == len ? NULL : "CLOCK: its entries are not the cache's";
}

static const struct cache_policy_verbs cache_clock CACHE_UNUSED = {
    "clock",
    cache_clock_layout,
    cache_clock_init,
    cache__no_admit,
    cache_clock_add,
    cache_clock_hit,
    cache_clock_touch,
    cache__no_change,
    cache_clock_remove,
    cache_clock_victim,
    cache_clock_evict,
    cache_clock_ahead,
    cache_clock_check,
    false,
};

/* --- SIEVE ---------------------------------------------------------------
 * Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi: "SIEVE is Simpler
 * than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches",
 * NSDI 2024.
 *
 *   newest                                                  oldest
 *   [ a ] ---> [ b* ] ---> [ c ] ---> [ d* ] ---> [ e ] ---> [ f ]
 *                            ^ hand: moves towards the newest entry
 *
 * A hit marks the entry (*).  The hand passes over marked entries and takes
 * their mark; the first unmarked one leaves.  Nothing is ever moved, so an
 * entry that is never used again is sifted out where it stands.
 */

CACHE_VERB size_t cache_sieve_layout(uint32_t capacity)
{
    return cache_fifo_layout(capacity) +
           cache__bit_words(capacity) * sizeof(uint32_t);
}

CACHE_VERB void cache_sieve_init(struct cache_policy *p, uint64_t seed)
{
    unsigned char *bytes = (unsigned char *)p->memory;

    cache_fifo_init(p, seed);
    p->hand = 0; /* = at the oldest */
    p->marks = (uint32_t *)(void *)(bytes + cache_fifo_layout(p->capacity));
}

CACHE_VERB void cache_sieve_add(struct cache_policy *p, uint32_t slot,
                                const struct cache_item *item)
{
    (void)item;
    cache__mark_clear(p->marks, slot);
    cache__list_push(p->links, 0, slot);
}

CACHE_VERB void cache_sieve_remove(struct cache_policy *p, uint32_t slot)
{
    if (p->hand == slot)
        p->hand = p->links[slot].newer;
    cache__list_unlink(p->links, slot);
}

/* The walk ends: each step takes a mark.  (Readers without a lock may set them
 * again meanwhile, but not all of them for long.) */
CACHE_VERB uint32_t cache_sieve_victim(struct cache_policy *p)
{
    uint32_t slot = p->hand ? p->hand : cache__list_oldest(p->links, 0);

    while (cache__mark(p->marks, slot)) {
        cache__mark_clear(p->marks, slot);
        slot = p->links[slot].newer;
        if (slot == 0) /* past the newest entry: begin again at the oldest */
            slot = cache__list_oldest(p->links, 0);
    }
    p->hand = slot;
    return slot;
}

CACHE_VERB void cache_sieve_evict(struct cache_policy *p, uint32_t slot,
                                  uint64_t hash)
{
    (void)hash;
    cache_sieve_remove(p, slot);
}

CACHE_VERB uint32_t cache_sieve_ahead(const struct cache_policy *p)
{
    uint32_t next = p->hand ? p->hand : cache__list_oldest(p->links, 0);
    uint32_t slot = p->links[next].newer;

    CACHE__PREFETCH(&p->links[slot]);
    return slot;
}

CACHE_COLD const char *cache_sieve_check(const struct cache_policy *p,
                                         uint32_t len)
{
    const char *broken = cache_fifo_check(p, len);
    uint32_t slot;

    if (broken || p->hand == 0)
        return broken;
    for (slot = p->links[0].older; slot != 0; slot = p->links[slot].older)
        if (slot == p->hand)
            return NULL;
    return "SIEVE: the hand stands on a slot that is not in the list";
}

static const struct cache_policy_verbs cache_sieve CACHE_UNUSED = {
    "sieve",
    cache_sieve_layout,
    cache_sieve_init,
    cache__no_admit,
    cache_sieve_add,
    cache_clock_hit,
    cache_clock_touch,
    cache__no_change,
    cache_sieve_remove,
    cache_sieve_victim,
    cache_sieve_evict,
    cache_sieve_ahead,
    cache_sieve_check,
    false,
};

/* --- ADAPTIVE: mini-caches -----------------------------------------------
 * Four tiny caches that run side by side on a sample of the keys: each is the
 * cache of the next section with another share of window.  They hold no values
 * and say what such a cache would have hit.
 *
 * They share one table of nodes, so an access costs one look-up for all four:
 *
 *   node   [ hash | time of last access | lane 3 | lane 2 | lane 1 | lane 0 ]
 *
 *   lane   2 bits: in no queue, in the window, in main;  2 bits: uses, 0 to 3
 *
 * A queue leads from its oldest node to the newest.  A node that is in no queue
 * of any mini-cache is a ghost, and the ghost of all four: the time of its last
 * access is the same for each.
 */

enum {
    CACHE__MINIS = 4,           /* mini-caches */
    CACHE__MINI_MAX = 511,      /* entries of one at most */
    CACHE__MINI_POOL = 5,       /* nodes in all / entries of one: four for what
                                   they hold if they share nothing, and some */
    CACHE__MINI_GHOSTS = 2,     /* ghosts / entries of one: where there are so
                                   many, no node is taken that was never used */
    CACHE__MINI_HEADS = 1024,   /* chains of the table, at most */
    CACHE__ADAPTIVE_SWEEP = 16, /* entries with uses that a search passes */
    CACHE__ADAPTIVE_USES = 3    /* uses that count */
};

enum { CACHE__MINI_NOWHERE, CACHE__MINI_WINDOW, CACHE__MINI_MAIN };

/* Nodes are numbered from 1; 0 = none. */
struct cache_mini_node {
    uint32_t hash;               /* 32 bits of it are the key */
    uint32_t time;               /* of the last access */
    uint16_t next;               /* of the same chain */
    uint16_t lanes;              /* 4 bits for each mini-cache; 0 = a ghost */
    uint16_t link[CACHE__MINIS]; /* by mini-cache: the next newer one of its
                                    queue; of a ghost: the next newer and the
                                    next older one */
};

struct cache_mini_queue {
    uint16_t oldest;
    uint16_t newest;
    uint16_t len;
};

struct cache_minis {
    struct cache_mini_node *nodes; /* room for those of the largest size */
    uint16_t *heads;               /* CACHE__MINI_HEADS chains at most */
    uint32_t time;                 /* accesses so far */
    uint16_t capacity;             /* entries of each mini-cache */
    uint16_t head_mask;            /* chains in use - 1 */
    uint16_t n_used;               /* nodes 1 to n_used have been in use */
    uint16_t newest_ghost;
    uint16_t oldest_ghost;
    uint16_t n_ghosts;
    uint16_t window[CACHE__MINIS]; /* entries of the window at most */
    uint16_t proof[CACHE__MINIS];  /* what a ghost has to show for main */
    struct cache_mini_queue queues[CACHE__MINIS][3]; /* [0] is not used */
};

CACHE_INLINE uint32_t cache__mini_queue(const struct cache_mini_node *node,
                                        uint32_t mini)
{
    return (uint32_t)node->lanes >> (4 * mini) & 3;
}

CACHE_INLINE uint32_t cache__mini_uses(const struct cache_mini_node *node,
                                       uint32_t mini)
{
    return (uint32_t)node->lanes >> (4 * mini + 2) & 3;
}

CACHE_INLINE void cache__mini_lane(struct cache_mini_node *node, uint32_t mini,
                                   uint32_t queue, uint32_t uses)
{
    uint32_t others = node->lanes & ~((uint32_t)15 << (4 * mini));

    node->lanes = (uint16_t)(others | (queue | uses << 2) << (4 * mini));
}

/* The node becomes the newest of a queue. */
CACHE_INLINE void cache__mini_push(struct cache_minis *m, uint32_t mini,
                                   uint32_t queue, uint16_t id, uint32_t uses)
{
    struct cache_mini_queue *q = &m->queues[mini][queue];

    if (q->len++ != 0)
        m->nodes[q->newest].link[mini] = id;
    else
        q->oldest = id;
    q->newest = id;
    cache__mini_lane(&m->nodes[id], mini, queue, uses);
}

/* Takes the oldest of a queue that is not empty; its lane stays. */
CACHE_INLINE uint16_t cache__mini_pop(struct cache_minis *m, uint32_t mini,
                                      uint32_t queue)
{
    struct cache_mini_queue *q = &m->queues[mini][queue];
    uint16_t id = q->oldest;

    q->oldest = m->nodes[id].link[mini];
    q->len--;
    return id;
}

CACHE_INLINE void cache__mini_ghost_push(struct cache_minis *m, uint16_t id)
{
    m->nodes[id].link[0] = 0;
    m->nodes[id].link[1] = m->newest_ghost;
    if (m->n_ghosts++ != 0)
        m->nodes[m->newest_ghost].link[0] = id;
    else
        m->oldest_ghost = id;
    m->newest_ghost = id;
}

CACHE_INLINE void cache__mini_ghost_take(struct cache_minis *m, uint16_t id)
{
    uint16_t newer = m->nodes[id].link[0], older = m->nodes[id].link[1];

    if (newer != 0)
        m->nodes[newer].link[1] = older;
    else
        m->newest_ghost = older;
    if (older != 0)
        m->nodes[older].link[0] = newer;
    else
        m->oldest_ghost = newer;
    m->n_ghosts--;
}

/* `except` is the key of this access: it is seen to when all are through. */
CACHE_INLINE void cache__mini_evict(struct cache_minis *m, uint32_t mini,
                                    uint32_t queue, uint16_t except)
{
    uint16_t id = cache__mini_pop(m, mini, queue);

    cache__mini_lane(&m->nodes[id], mini, CACHE__MINI_NOWHERE, 0);
    if (m->nodes[id].lanes == 0 && id != except)
        cache__mini_ghost_push(m, id);
}

/* Who would leave main, which is not empty. */
CACHE_INLINE uint16_t cache__mini_main_victim(struct cache_minis *m,
                                              uint32_t mini)
{
    const struct cache_mini_queue *q = &m->queues[mini][CACHE__MINI_MAIN];
    int steps = CACHE__ADAPTIVE_SWEEP;
    uint32_t uses;

    while (steps-- > 0 &&
           (uses = cache__mini_uses(&m->nodes[q->oldest], mini)) != 0)
        cache__mini_push(m, mini, CACHE__MINI_MAIN,
                         cache__mini_pop(m, mini, CACHE__MINI_MAIN), uses - 1);
    return q->oldest;
}

/* One mini-cache does not have a key: it enters.  What is done here and why is
 * explained at the verbs of the real cache.  `age`: accesses since its last
 * one, if `known`. */
CACHE_COLD void cache__mini_miss(struct cache_minis *m, uint32_t mini,
                                 uint16_t id, bool known, uint32_t age)
{
    const struct cache_mini_queue *window =
        &m->queues[mini][CACHE__MINI_WINDOW];
    const struct cache_mini_queue *main_ = &m->queues[mini][CACHE__MINI_MAIN];
    int steps = CACHE__ADAPTIVE_SWEEP;
    uint32_t queue = CACHE__MINI_WINDOW;
    bool over;

    while (steps-- > 0 && window->len != 0 &&
           cache__mini_uses(&m->nodes[window->oldest], mini) != 0)
        cache__mini_push(m, mini, CACHE__MINI_WINDOW,
                         cache__mini_pop(m, mini, CACHE__MINI_WINDOW), 0);
    if (known && main_->len != 0) {
        uint16_t victim = cache__mini_main_victim(m, mini);
        if ((uint64_t)age * m->proof[mini] < m->time - m->nodes[victim].time)
            queue = CACHE__MINI_MAIN;
    }
    cache__mini_push(m, mini, queue, id, 0);
    over = window->len + main_->len > m->capacity;
    if (window->len > m->window[mini] && !over) {
        uint16_t oldest = window->oldest;
        uint32_t uses = cache__mini_uses(&m->nodes[oldest], mini);
        cache__mini_push(m, mini, CACHE__MINI_MAIN,
                         cache__mini_pop(m, mini, CACHE__MINI_WINDOW), uses);
    } else if (window->len > m->window[mini]) {
        cache__mini_evict(m, mini, CACHE__MINI_WINDOW, id);
    } else if (over) {
        (void)cache__mini_main_victim(m, mini);
        cache__mini_evict(m, mini, CACHE__MINI_MAIN, id);
    }
}

CACHE_INLINE uint16_t *cache__mini_head(const struct cache_minis *m,
                                        uint32_t hash)
{
    return &m->heads[hash & m->head_mask];
}

/* A node for a key that has none: one that was never in use while there are
 * few ghosts, else the oldest ghost.  There is one of them: what four full
 * mini-caches hold is less than the pool. */
CACHE_INLINE uint16_t cache__mini_new_node(struct cache_minis *m, uint32_t hash)
{
    uint16_t id = m->oldest_ghost, *at = cache__mini_head(m, hash);

    if (m->n_used < CACHE__MINI_POOL * m->capacity &&
        m->n_ghosts < CACHE__MINI_GHOSTS * m->capacity) {
        id = ++m->n_used;
    } else {
        uint16_t *from = cache__mini_head(m, m->nodes[id].hash);
        cache__mini_ghost_take(m, id);
        while (*from != id)
            from = &m->nodes[*from].next;
        *from = m->nodes[id].next;
    }
    m->nodes[id].hash = hash;
    m->nodes[id].lanes = 0;
    m->nodes[id].next = *at;
    *at = id;
    return id;
}

/* A key is asked for. Bit k of the result: mini-cache k had it. */
CACHE_COLD uint32_t cache__minis_access(struct cache_minis *m, uint32_t hash)
{
    const uint32_t each = 0x1111; /* the lowest bit of each lane */
    uint32_t lanes, hits = 0, mini, age = 0;
    uint16_t id = *cache__mini_head(m, hash);
    bool known;

    while (id != 0 && m->nodes[id].hash != hash)
        id = m->nodes[id].next;
    known = id != 0;
    m->time++;
    if (known) {
        age = m->time - m->nodes[id].time;
        lanes = m->nodes[id].lanes;
        if (lanes == 0)
            cache__mini_ghost_take(m, id);
        hits = (lanes | lanes >> 1) & each;
        lanes += (hits & ~(lanes >> 2 & lanes >> 3)) << 2; /* uses below 3 */
        m->nodes[id].lanes = (uint16_t)lanes;
    } else {
        id = cache__mini_new_node(m, hash);
    }
    m->nodes[id].time = m->time;
    for (mini = 0; hits != each && mini < CACHE__MINIS; mini++)
        if ((hits >> (4 * mini) & 1) == 0)
            cache__mini_miss(m, mini, id, known, age);
    if (m->nodes[id].lanes == 0)
        cache__mini_ghost_push(m, id);
    return (hits | hits >> 3 | hits >> 6 | hits >> 9) & 15;
}

/* Cuts the tables out of a policy's memory; with memory NULL it only counts. */
CACHE_COLD void cache__minis_cut(struct cache_minis *m, void *memory,
                                 size_t *at, uint32_t capacity)
{
    size_t most = CACHE__MINI_MAX;

    if (capacity < most)
        most = capacity;
    m->nodes = (struct cache_mini_node *)cache__cut(
        memory, at, CACHE__MINI_POOL * most + 1, sizeof *m->nodes);
    m->heads =
        (uint16_t *)cache__cut(memory, at, CACHE__MINI_HEADS, sizeof *m->heads);
}

/* Empties them, for `capacity` entries each. */
CACHE_COLD void cache__minis_reset(struct cache_minis *m, uint32_t capacity)
{
    struct cache_mini_node *nodes = m->nodes;
    uint16_t *heads = m->heads;
    uint32_t n_heads = 64;

    while (n_heads < CACHE__MINI_HEADS && n_heads < 2 * capacity)
        n_heads *= 2;
    memset(m, 0, sizeof *m);
    m->nodes = nodes;
    m->heads = heads;
    m->capacity = (uint16_t)capacity;
    m->head_mask = (uint16_t)(n_heads - 1);
    memset(heads, 0, n_heads * sizeof *heads);
}

/* One mini-cache: its queues hold the nodes whose lanes say so. */
CACHE_COLD const char *cache__mini_check(const struct cache_minis *m,
                                         uint32_t mini)
{
    uint32_t n[3] = { 0, 0, 0 }, queue, id, len;

    for (id = 1; id <= m->n_used; id++)
        n[cache__mini_queue(&m->nodes[id], mini) % 3]++;
    for (queue = CACHE__MINI_WINDOW; queue <= CACHE__MINI_MAIN; queue++) {
        const struct cache_mini_queue *q = &m->queues[mini][queue];

        if (n[queue] != q->len)
            return "ADAPTIVE: a mini-cache's queue has lost an entry";
        for (len = 0, id = q->oldest; len < q->len; len++) {
            if (id == 0 || id > m->n_used ||
                cache__mini_queue(&m->nodes[id], mini) != queue)
                return "ADAPTIVE: a mini-cache's queue leads elsewhere";
            if ((len + 1u == q->len) != (id == q->newest))
                return "ADAPTIVE: a mini-cache's queue ends elsewhere";
            id = m->nodes[id].link[mini];
        }
    }
    return n[CACHE__MINI_WINDOW] + n[CACHE__MINI_MAIN] <= m->capacity
               ? NULL
               : "ADAPTIVE: a mini-cache has too many entries";
}

CACHE_COLD const char *cache__minis_check(const struct cache_minis *m)
{
    uint32_t mini, id, newer = 0, n = 0, chain;
    const char *broken = NULL;

    if (m->n_used > CACHE__MINI_POOL * m->capacity)
        return "ADAPTIVE: more nodes than there are";
    for (mini = 0; !broken && mini < CACHE__MINIS; mini++)
        broken = cache__mini_check(m, mini);
    for (id = m->newest_ghost; !broken && id != 0; id = m->nodes[id].link[1]) {
        if (id > m->n_used || ++n > m->n_ghosts || m->nodes[id].lanes != 0 ||
            m->nodes[id].link[0] != newer)
            broken = "ADAPTIVE: a list of ghosts that is none";
        newer = id;
    }
    if (!broken && (n != m->n_ghosts || newer != m->oldest_ghost))
        broken = "ADAPTIVE: a ghost was lost";
    for (n = 0, chain = 0; !broken && chain <= m->head_mask; chain++)
        for (id = m->heads[chain]; !broken && id != 0; id = m->nodes[id].next)
            if (id > m->n_used || ++n > m->n_used ||
                (m->nodes[id].hash & m->head_mask) != chain)
                broken = "ADAPTIVE: a node is in a wrong chain";
    return broken || n == m->n_used ? broken
                                    : "ADAPTIVE: a node is in no chain";
}

/* --- ADAPTIVE: the default -----------------------------------------------
 * Ours.  A FIFO for newcomers, a CLOCK for what is proven (as in S3-FIFO), one
 * rule of admission (that of LIRS, without its stack), and one number that is
 * adapted: the window's share of the cache.
 *
 *   a new key
 *      |          used: once more, with no uses
 *      |        +-------------------+
 *      v        v                   |
 *     [ newest ]  window  [ oldest ]+---> leaves ---> ( ghosts )
 *                                                        |
 *      comes back sooner than main's oldest was used     |
 *      +-------------------------------------------------+
 *      v
 *     [ newest ]   main   [ oldest ]+---> leaves ---> ( ghosts )
 *               ^                   |
 *               +-------------------+
 *                 used: once more, with one use less
 *
 * A hit counts a use, up to 3, and notes the time, which is a coarse clock that
 * misses drive; it moves nothing.  A ghost is a key that left and the time of
 * its last use.  When it comes back, that is how long ago it was used: less
 * than for main's oldest, and it is worth more than that one.  A tie is not
 * enough, or a loop longer than the cache would turn main over.
 *
 * With a window of 1 % this is a LIRS, good for loops and scans; with 20 % much
 * like S3-FIFO and 2Q; with 100 % a CLOCK, near to LRU.  With 5 % a ghost has
 * to come back three times as soon as main's oldest was used: then main changes
 * little, and what is asked for again and again, but not soon, stays in it.
 * Which is best, the mini-caches say: each has one of the shares and sees the
 * keys of which a hash is in a sample.  Another share is taken
 *   - when it has hit more than the present one by two standard deviations of
 *     what the keys on which both differ would give by chance, D > 2 sqrt(n),
 *     where what was long ago counts less, by half after some 6 capacities;
 *   - and, if its window is larger, when the hits that were forgone without it
 *     are what main loses by it: each of its entries counts a quarter.
 * Nothing is moved then: the window shrinks by up to 4 entries for each
 * newcomer, which go to main, or grows by what main gives up, by one share at
 * a time.
 */

enum {
    CACHE__ADAPTIVE_GHOSTS = 2,   /* ghosts / capacity */
    CACHE__ADAPTIVE_DRAIN = 4,    /* entries moved to main for a newcomer */
    CACHE__ADAPTIVE_TICKS = 256,  /* of the clock for one capacity of misses */
    CACHE__ADAPTIVE_SAMPLE = 256, /* entries that make a good mini-cache, */
    CACHE__ADAPTIVE_CHEAP = 64,   /* and one where samples would cost most */
    CACHE__ADAPTIVE_UNIT = 256,   /* what a sample counts when it is new */
    CACHE__ADAPTIVE_DECAY = 5,    /* 1/32 of it is lost at each judgement */
    CACHE__ADAPTIVE_FORGONE = 1 << 20, /* more than any price: no overflow */
    CACHE__ADAPTIVE_MIN_CHECK = 16 /* samples between judgements, at least */
};

/* A slot's word: the clock at its last use, uses. */
#define CACHE__ADAPTIVE_USED 3u
#define CACHE__ADAPTIVE_CLOCK_SHIFT 2

/* What chooses the window's share.  A cache has one; all shards of a shared
 * cache have one together. */
struct cache_chooser {
    uint32_t choice;        /* which of cache__adaptive_choices is best */
    uint32_t sample_limit;  /* a key is in the sample if its number is not
                               above */
    uint32_t sized_for;     /* entries of a full cache when the mini-caches were
                               made */
    uint32_t n_samples;     /* since the last judgement */
    uint32_t check_samples; /* that a judgement takes */
    uint32_t history[1 << CACHE__MINIS]; /* by mask of hits: samples, those of
                                            long ago for less */
    int32_t forgone[CACHE__MINIS]; /* by choice: hits in the sample that the
                                      present one did not have, less those that
                                      only it had, since the last change; from 0
                                      again where it is below at a judgement */
    struct cache_minis minis;
};

struct cache_adaptive {
    uint32_t n_window;    /* entries in the window */
    uint32_t n_main;      /* entries in main */
    uint64_t misses;      /* keys that have entered */
    uint32_t shift;       /* misses >> shift is the clock */
    uint64_t coming_hash; /* of the key that admit saw last */
    bool coming;          /* its add has not come yet */
    bool to_main;         /* and it will go there */
    uint32_t *in_main;    /* bits, by slot: it is in main */
    struct cache_ghosts ghosts;
    struct cache_chooser *chooser; /* NULL in a shard */
};

/* What is chosen from, one for each mini-cache. */
static const struct cache_adaptive_choice {
    uint8_t percent; /* the window's share of the cache */
    uint8_t proof;   /* a ghost enters main if it comes back so many times as
                        soon as main's oldest was used */
} cache__adaptive_choices[CACHE__MINIS] CACHE_UNUSED = {
    { 1, 1 }, { 5, 3 }, { 20, 1 }, { 100, 1 }
};

CACHE_INLINE uint32_t cache__adaptive_window(uint32_t full, uint32_t share)
{
    uint64_t window =
        ((uint64_t)full * cache__adaptive_choices[share].percent + 50) / 100;

    return window > 0 ? (uint32_t)window : 1;
}

/* The chooser for a cache of this capacity, behind what ends at *at. */
CACHE_COLD struct cache_chooser *cache__chooser_cut(void *memory, size_t *at,
                                                    uint32_t capacity)
{
    struct cache_chooser *chooser =
        (struct cache_chooser *)cache__cut(memory, at, 1, sizeof *chooser);
    struct cache_minis minis;

    cache__minis_cut(&minis, memory, at, capacity);
    if (chooser) {
        memset(chooser, 0, sizeof *chooser);
        chooser->minis = minis;
    }
    return chooser;
}

CACHE_COLD size_t cache__adaptive_cut(struct cache_policy *p,
                                      struct cache_adaptive *s, void *memory,
                                      uint32_t capacity, bool chooses)
{
    size_t at = sizeof *s;

    s->ghosts.n_sets =
        cache__ghost_sets((uint64_t)capacity * CACHE__ADAPTIVE_GHOSTS);
    s->chooser = chooses ? cache__chooser_cut(memory, &at, capacity) : NULL;
    s->in_main = (uint32_t *)cache__cut(memory, &at, cache__bit_words(capacity),
                                        sizeof(uint32_t));
    p->links = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + 2, sizeof *p->links);
    p->marks = (uint32_t *)cache__cut(memory, &at, (size_t)capacity + 1,
                                      sizeof *p->marks);
    s->ghosts.slots = (uint32_t *)cache__cut(
        memory, &at, s->ghosts.n_sets, CACHE__GHOST_WAYS * sizeof(uint32_t));
    return at;
}

/* ADAPTIVE: the choice of the window's share. */

/* Makes the mini-caches anew, in proportion to a cache of `full` entries: one
 * entry of theirs for each R of its.  Large enough to judge by (256 and more),
 * but below a thousand entries smaller ones, or they would cost more than the
 * cache. */
CACHE_COLD void cache__chooser_scale(struct cache_chooser *s, uint32_t full)
{
    uint32_t ratio = 1, capacity, choice;

    while (full / (2 * ratio) >= CACHE__ADAPTIVE_SAMPLE ||
           (2 * ratio <= 4 && full / (2 * ratio) >= CACHE__ADAPTIVE_CHEAP))
        ratio *= 2;
    capacity = full / ratio;
    s->sized_for = full;
    CACHE_ATOMIC_STORE(&s->sample_limit, UINT32_MAX / ratio);
    s->n_samples = 0;
    s->check_samples = capacity / 4 > CACHE__ADAPTIVE_MIN_CHECK
                           ? capacity / 4
                           : (uint32_t)CACHE__ADAPTIVE_MIN_CHECK;
    memset(s->history, 0, sizeof s->history);
    memset(s->forgone, 0, sizeof s->forgone);
    cache__minis_reset(&s->minis, capacity);
    for (choice = 0; choice < CACHE__MINIS; choice++) {
        s->minis.window[choice] =
            (uint16_t)cache__adaptive_window(capacity, choice);
        s->minis.proof[choice] = cache__adaptive_choices[choice].proof;
    }
}

/* A full cache has so many entries now: the mini-caches follow it where that is
 * another size.  Returns true if they are made anew. */
CACHE_INLINE bool cache__chooser_fit(struct cache_chooser *s, uint32_t full)
{
    if (full <= 2 * (uint64_t)s->sized_for && full >= s->sized_for / 2)
        return false;
    cache__chooser_scale(s, full);
    return true;
}

/* What a choice has hit more than the present one; 0 if that may be chance. */
CACHE_COLD uint64_t cache__chooser_gain(const struct cache_chooser *s,
                                        uint32_t choice)
{
    uint64_t only_this = 0, only_that = 0, gain;
    uint32_t mask;

    for (mask = 0; mask < 1u << CACHE__MINIS; mask++) {
        bool here = (mask >> choice & 1) != 0;
        bool there = (mask >> s->choice & 1) != 0;

        if (here && !there)
            only_this += s->history[mask];
        if (there && !here)
            only_that += s->history[mask];
    }
    if (only_this <= only_that)
        return 0;
    gain = only_this - only_that;
    return gain * gain > (only_this + only_that) * 4 * CACHE__ADAPTIVE_UNIT
               ? gain
               : 0;
}

/* What it takes to go over to a choice: growing pushes out of main as many
 * entries as the next window is larger, of which one in four would have been
 * hit; shrinking loses none. */
CACHE_COLD int32_t cache__chooser_price(const struct cache_chooser *s,
                                        uint32_t choice)
{
    if (choice <= s->choice)
        return 0;
    return (s->minis.window[s->choice + 1] - s->minis.window[s->choice]) / 4;
}

CACHE_COLD void cache__chooser_judge(struct cache_chooser *s)
{
    uint32_t best = s->choice, choice, mask;
    uint64_t best_gain = 0;

    for (choice = 0; choice < CACHE__MINIS; choice++) {
        uint64_t gain = cache__chooser_gain(s, choice);

        if (s->forgone[choice] < 0)
            s->forgone[choice] = 0;
        if (s->forgone[choice] > CACHE__ADAPTIVE_FORGONE)
            s->forgone[choice] = CACHE__ADAPTIVE_FORGONE;
        if (gain > best_gain &&
            s->forgone[choice] > cache__chooser_price(s, choice)) {
            best_gain = gain;
            best = choice;
        }
    }
    if (best != s->choice) /* the next change takes evidence of its own */
        memset(s->forgone, 0, sizeof s->forgone);
    CACHE_ATOMIC_STORE(&s->choice, best > s->choice ? s->choice + 1 : best);
    for (mask = 0; mask < 1u << CACHE__MINIS; mask++)
        s->history[mask] -= s->history[mask] >> CACHE__ADAPTIVE_DECAY;
}

/* A key of the sample was asked for. */
CACHE_COLD void cache__chooser_observe(struct cache_chooser *s, uint64_t hash)
{
    uint32_t mask = cache__minis_access(&s->minis, (uint32_t)(hash >> 32));
    uint32_t choice;

    s->history[mask] += CACHE__ADAPTIVE_UNIT;
    for (choice = 0; choice < CACHE__MINIS; choice++)
        s->forgone[choice] +=
            (int32_t)(mask >> choice & 1) - (int32_t)(mask >> s->choice & 1);
    if (++s->n_samples >= s->check_samples) {
        s->n_samples = 0;
        cache__chooser_judge(s);
    }
}

/* A number that has nothing to do with the ghost's set and fingerprint. */
CACHE_INLINE bool cache__in_sample(uint64_t hash, uint32_t sample_limit)
{
    return (uint32_t)(hash >> 32) * 0x85ebca6bu <= sample_limit;
}

CACHE_COLD void cache__adaptive_sample(struct cache_policy *p, uint64_t hash)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    cache__chooser_observe(s->chooser, hash);
    p->choice = s->chooser->choice;
}

/* ADAPTIVE: the verbs and what they are made of. */

CACHE_INLINE uint32_t cache__adaptive_main(const struct cache_policy *p)
{
    return p->capacity + 1; /* the ring; that of the window is 0 */
}

CACHE_INLINE uint32_t cache__adaptive_age(const struct cache_policy *p,
                                          uint32_t slot)
{
    uint32_t used_at =
        CACHE_ATOMIC_LOAD(&p->marks[slot]) >> CACHE__ADAPTIVE_CLOCK_SHIFT;

    return (p->now - used_at) & (UINT32_MAX >> CACHE__ADAPTIVE_CLOCK_SHIFT);
}

/* The entry, in no queue, becomes the newest of one. */
CACHE_INLINE void cache__adaptive_push(struct cache_policy *p, uint32_t slot,
                                       bool to_main)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    if (to_main) {
        cache__bit_set(s->in_main, slot);
        cache__list_push(p->links, cache__adaptive_main(p), slot);
        s->n_main++;
    } else {
        cache__bit_clear(s->in_main, slot);
        cache__list_push(p->links, 0, slot);
        s->n_window++;
    }
}

CACHE_VERB void cache_adaptive_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    cache__list_unlink(p->links, slot);
    if (cache__bit(s->in_main, slot))
        s->n_main--;
    else
        s->n_window--;
}

CACHE_INLINE uint32_t cache__adaptive_uses(const struct cache_policy *p,
                                           uint32_t slot)
{
    return CACHE_ATOMIC_LOAD(&p->marks[slot]) & CACHE__ADAPTIVE_USED;
}

/* Takes uses back, as many as there are at most. */
CACHE_INLINE void cache__adaptive_unuse(struct cache_policy *p, uint32_t slot,
                                        uint32_t uses)
{
    uint32_t word = CACHE_ATOMIC_LOAD(&p->marks[slot]);
    uint32_t has = word & CACHE__ADAPTIVE_USED;

    CACHE_ATOMIC_STORE(&p->marks[slot], word - (has < uses ? has : uses));
}

/* The window's oldest entries that were used go round. */
CACHE_INLINE void cache__adaptive_sweep_window(struct cache_policy *p)
{
    uint32_t slot, steps;

    for (steps = 0; steps < CACHE__ADAPTIVE_SWEEP; steps++) {
        slot = cache__list_oldest(p->links, 0);
        if (slot == 0 || cache__adaptive_uses(p, slot) == 0)
            return;
        cache__adaptive_unuse(p, slot, CACHE__ADAPTIVE_USED);
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, 0, slot);
    }
}

/* Who would leave main, which is not empty. */
CACHE_INLINE uint32_t cache__adaptive_main_victim(struct cache_policy *p)
{
    uint32_t ring = cache__adaptive_main(p), slot, steps;

    for (steps = 0; steps < CACHE__ADAPTIVE_SWEEP; steps++) {
        slot = cache__list_oldest(p->links, ring);
        if (cache__adaptive_uses(p, slot) == 0)
            return slot;
        cache__adaptive_unuse(p, slot, 1);
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, ring, slot);
    }
    return cache__list_oldest(p->links, ring);
}

CACHE_COLD size_t cache_adaptive_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_adaptive s;

    return cache__adaptive_cut(&p, &s, NULL, capacity, true);
}

/* All but the chooser. */
CACHE_COLD void cache__adaptive_init(struct cache_policy *p, bool chooses)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    memset(s, 0, sizeof *s);
    p->now = p->choice = 0;
    cache__adaptive_cut(p, s, p->memory, p->capacity, chooses);
    cache__zero(p, s->ghosts.slots,
                (size_t)s->ghosts.n_sets * CACHE__GHOST_WAYS *
                    sizeof(uint32_t));
    while (p->capacity >> s->shift > CACHE__ADAPTIVE_TICKS)
        s->shift++;
    cache__list_init(p->links, 0);
    cache__list_init(p->links, cache__adaptive_main(p));
}

CACHE_COLD void cache_adaptive_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    (void)seed;
    cache__adaptive_init(p, true);
    cache__chooser_scale(s->chooser, p->full);
    p->sample_limit = s->chooser->sample_limit;
}

/* Where the newcomer will go is decided before anybody leaves for it. */
CACHE_INLINE void cache__adaptive_place(struct cache_policy *p,
                                        const struct cache_item *item)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;
    uint32_t age = 0;
    bool known;

    cache__adaptive_sweep_window(p);
    known = cache__ghost_take(&s->ghosts, item->hash, p->now, &age);
    s->coming = true;
    s->coming_hash = item->hash;
    s->to_main = known && s->n_main != 0 &&
                 cache__adaptive_window(p->full, p->choice) < p->full &&
                 (uint64_t)age * cache__adaptive_choices[p->choice].proof <
                     cache__adaptive_age(p, cache__adaptive_main_victim(p));
}

/* A miss drives the clock; its ghost's line is sent for. */
CACHE_INLINE void cache__adaptive_count(struct cache_policy *p, uint64_t hash)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;
    uint32_t now = (uint32_t)(++s->misses >> s->shift);

    if (now != p->now)
        CACHE_ATOMIC_STORE(&p->now, now);
    CACHE__PREFETCH(cache__ghost_set(&s->ghosts, hash));
}

CACHE_COLD void cache_adaptive_admit(struct cache_policy *p,
                                     const struct cache_item *item)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    if (cache__chooser_fit(s->chooser, p->full))
        p->sample_limit = s->chooser->sample_limit;
    cache__adaptive_count(p, item->hash);
    if (cache__in_sample(item->hash, p->sample_limit))
        cache__adaptive_sample(p, item->hash);
    cache__adaptive_place(p, item);
}

CACHE_VERB void cache_adaptive_add(struct cache_policy *p, uint32_t slot,
                                   const struct cache_item *item)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;
    uint32_t window = cache__adaptive_window(p->full, p->choice), moves;

    CACHE_ATOMIC_STORE(&p->marks[slot], p->now << CACHE__ADAPTIVE_CLOCK_SHIFT);
    cache__adaptive_push(p, slot, s->to_main && s->coming_hash == item->hash);
    s->coming = s->to_main = false;
    /* Main has room, or the window is to shrink. */
    for (moves = 0; moves < CACHE__ADAPTIVE_DRAIN && s->n_window > window;
         moves++) {
        uint32_t oldest = cache__list_oldest(p->links, 0);
        cache_adaptive_remove(p, oldest);
        cache__adaptive_push(p, oldest, true);
    }
}

/* What a slot's word becomes by a use. */
CACHE_INLINE uint32_t cache__adaptive_used(uint32_t word, uint32_t now)
{
    uint32_t uses = word & CACHE__ADAPTIVE_USED;

    return now << CACHE__ADAPTIVE_CLOCK_SHIFT |
           (uses + (uses < CACHE__ADAPTIVE_USES));
}

/* The word is written even when it stays the same: whether it does cannot be
 * predicted, and a wrong guess costs more than the write. */
CACHE_VERB void cache_adaptive_hit(struct cache_policy *p, uint32_t slot,
                                   uint64_t hash)
{
    p->marks[slot] = cache__adaptive_used(p->marks[slot], p->now);
    if (cache__in_sample(hash, p->sample_limit))
        cache__adaptive_sample(p, hash);
}

/* The window gives while it is above its share, counting the newcomer; while it
 * is below, main gives its oldest to it, and what was not used leaves. */
CACHE_COLD uint32_t cache_adaptive_victim(struct cache_policy *p)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;
    uint32_t window = cache__adaptive_window(p->full, p->choice), steps;
    uint32_t newcomer = s->coming && !s->to_main;

    for (steps = 0; steps < CACHE__ADAPTIVE_SWEEP; steps++) {
        uint32_t oldest = cache__list_oldest(p->links, cache__adaptive_main(p));

        if (s->n_main == 0 || s->n_window + newcomer >= window)
            break;
        if (cache__adaptive_uses(p, oldest) == 0)
            return oldest;
        cache_adaptive_remove(p, oldest);
        cache__adaptive_unuse(p, oldest, CACHE__ADAPTIVE_USED);
        cache__adaptive_push(p, oldest, false);
    }
    if (s->n_main == 0 || s->n_window + newcomer > window)
        return cache__list_oldest(p->links, 0);
    return cache__adaptive_main_victim(p);
}

CACHE_VERB void cache_adaptive_evict(struct cache_policy *p, uint32_t slot,
                                     uint64_t hash)
{
    struct cache_adaptive *s = (struct cache_adaptive *)p->memory;

    cache__ghost_put(&s->ghosts, hash,
                     CACHE_ATOMIC_LOAD(&p->marks[slot]) >>
                         CACHE__ADAPTIVE_CLOCK_SHIFT,
                     p->now);
    cache_adaptive_remove(p, slot);
}

/* The second oldest of the queue that is likely to give. */
CACHE_VERB uint32_t cache_adaptive_ahead(const struct cache_policy *p)
{
    const struct cache_adaptive *s = (const struct cache_adaptive *)p->memory;
    uint32_t window = cache__adaptive_window(p->full, p->choice);
    uint32_t ring = s->n_window >= window ? 0 : cache__adaptive_main(p);
    uint32_t slot = p->links[cache__list_oldest(p->links, ring)].newer;

    CACHE__PREFETCH(&p->links[slot]);
    return slot == ring ? 0 : slot;
}

CACHE_COLD const char *cache_adaptive_check(const struct cache_policy *p,
                                            uint32_t len)
{
    const struct cache_adaptive *s = (const struct cache_adaptive *)p->memory;
    uint32_t ring = cache__adaptive_main(p), slot;
    const char *broken;

    if (s->n_window > len || s->n_main != len - s->n_window)
        return "ADAPTIVE: its entries are not the cache's";
    broken = cache__list_check(p->links, 0, p->capacity, s->n_window);
    if (!broken)
        broken = cache__list_check(p->links, ring, p->capacity, s->n_main);
    if (broken)
        return broken;
    for (slot = p->links[0].older; slot != 0; slot = p->links[slot].older)
        if (cache__bit(s->in_main, slot))
            return "ADAPTIVE: an entry of the window is marked as of main";
    for (slot = p->links[ring].older; slot != ring; slot = p->links[slot].older)
        if (!cache__bit(s->in_main, slot))
            return "ADAPTIVE: an entry of main is not marked so";
    if (p->choice >= CACHE__MINIS)
        return "ADAPTIVE: its window has no share";
    if (s->chooser == NULL)
        return NULL;
    if (s->chooser->choice != p->choice)
        return "ADAPTIVE: its window is not the one that was chosen";
    return cache__minis_check(&s->chooser->minis);
}

static const struct cache_policy_verbs cache_adaptive CACHE_UNUSED = {
    "adaptive",
    cache_adaptive_layout,
    cache_adaptive_init,
    cache_adaptive_admit,
    cache_adaptive_add,
    cache_adaptive_hit,
    NULL,
    cache__no_change,
    cache_adaptive_remove,
    cache_adaptive_victim,
    cache_adaptive_evict,
    cache_adaptive_ahead,
    cache_adaptive_check,
    false,
};

/* --- ADAPTIVE of a shard -------------------------------------------------
 * What CACHE_ADAPTIVE is where several threads look up without a lock: the same
 * rule, but a word is written only when it changes, and one chooser, which is
 * not here, sees the samples of all shards and sets p->choice.
 */

CACHE_COLD size_t cache_adaptive_shard_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_adaptive s;

    return cache__adaptive_cut(&p, &s, NULL, capacity, false);
}

CACHE_COLD void cache_adaptive_shard_init(struct cache_policy *p, uint64_t seed)
{
    (void)seed;
    cache__adaptive_init(p, false);
}

CACHE_COLD void cache_adaptive_shard_admit(struct cache_policy *p,
                                           const struct cache_item *item)
{
    cache__adaptive_count(p, item->hash);
    cache__adaptive_place(p, item);
}

CACHE_VERB bool cache_adaptive_shard_touch(const struct cache_policy *p,
                                           uint32_t slot)
{
    uint32_t word = CACHE_ATOMIC_LOAD(&p->marks[slot]);
    uint32_t used = cache__adaptive_used(word, CACHE_ATOMIC_LOAD(&p->now));

    if (used != word)
        CACHE_ATOMIC_STORE(&p->marks[slot], used);
    return true;
}

CACHE_VERB void cache_adaptive_shard_hit(struct cache_policy *p, uint32_t slot,
                                         uint64_t hash)
{
    (void)hash;
    cache_adaptive_shard_touch(p, slot);
}

static const struct cache_policy_verbs cache_adaptive_shard CACHE_UNUSED = {
    "adaptive",
    cache_adaptive_shard_layout,
    cache_adaptive_shard_init,
    cache_adaptive_shard_admit,
    cache_adaptive_add,
    cache_adaptive_shard_hit,
    cache_adaptive_shard_touch,
    cache__no_change,
    cache_adaptive_remove,
    cache_adaptive_victim,
    cache_adaptive_evict,
    cache_adaptive_ahead,
    cache_adaptive_check,
    false,
};

/* --- RANDOM: any entry ---------------------------------------------------
 * L. A. Belady: "A Study of Replacement Algorithms for a Virtual-Storage
 * Computer", IBM Systems Journal 5(2), 1966.
 *
 *   here    0 1 1 0 1 1 1 1 ... | 1 1 0 1 ...        | ...
 *   counts          498         |        507         | ...
 *
 * A slot is drawn from all that ever held an entry, and leaves if it holds
 * one.  In a full cache the first draw does; where eight in a row do not, most
 * slots are empty: then the n-th entry leaves, for an n that is drawn, and the
 * counts of blocks of 512 slots say where it is.  Either way every entry is
 * as likely as every other, however they lie.
 *
 * The numbers are SplitMix64's (G. L. Steele, D. Lea, C. H. Flood: "Fast
 * Splittable Pseudorandom Number Generators", OOPSLA 2014).  Their state only
 * counts, so what the draw after the next one will be is known already.
 */

#define CACHE__RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15)
#define CACHE__RANDOM_DRAWS 8
#define CACHE__RANDOM_BLOCK_BITS 9

struct cache_random {
    uint64_t state;   /* of the generator */
    uint32_t *here;   /* a bit for each slot: it holds an entry of ours */
    uint16_t *counts; /* entries in each block of slots */
    uint32_t len;     /* entries in all */
    uint32_t top;     /* the highest slot that ever held one */
};

/* Cuts the arrays out of `memory`, or only counts.  Returns the bytes. */
CACHE_INLINE size_t cache__random_cut(struct cache_random *s, void *memory,
                                      uint32_t capacity)
{
    size_t at = sizeof *s, blocks = (capacity >> CACHE__RANDOM_BLOCK_BITS) + 1;

    s->here = (uint32_t *)cache__cut(memory, &at, cache__bit_words(capacity),
                                     sizeof *s->here);
    s->counts = (uint16_t *)cache__cut(memory, &at, blocks, sizeof *s->counts);
    return at;
}

/* What the generator makes of a state: 1 to n. */
CACHE_INLINE uint32_t cache__random_draw(uint64_t state, uint32_t n)
{
    state = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ state >> 27) * UINT64_C(0x94d049bb133111eb);
    state ^= state >> 31;
    return (uint32_t)((state >> 32) * n >> 32) + 1;
}

/* The slot of the n-th entry; n is 1 to len. */
CACHE_COLD uint32_t cache__random_nth(const struct cache_random *s, uint32_t n)
{
    uint32_t block = 0, word, bits;

    while (n > s->counts[block])
        n -= s->counts[block++];
    word = block << (CACHE__RANDOM_BLOCK_BITS - 5);
    for (;; word++)
        for (bits = s->here[word]; bits != 0; bits &= bits - 1)
            if (--n == 0)
                return (word << 5) + cache__lowest_bit(bits);
}

CACHE_VERB size_t cache_random_layout(uint32_t capacity)
{
    struct cache_random s;

    return cache__random_cut(&s, NULL, capacity);
}

CACHE_VERB void cache_random_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_random *s = (struct cache_random *)p->memory;

    cache__zero(p, p->memory, cache_random_layout(p->capacity));
    cache__random_cut(s, p->memory, p->capacity);
    s->state = seed;
}

CACHE_VERB void cache_random_add(struct cache_policy *p, uint32_t slot,
                                 const struct cache_item *item)
{
    struct cache_random *s = (struct cache_random *)p->memory;

    (void)item;
    cache__bit_set(s->here, slot);
    s->counts[slot >> CACHE__RANDOM_BLOCK_BITS]++;
    s->len++;
    if (slot > s->top)
        s->top = slot;
}

CACHE_VERB void cache_random_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_random *s = (struct cache_random *)p->memory;

    cache__bit_clear(s->here, slot);
    s->counts[slot >> CACHE__RANDOM_BLOCK_BITS]--;
    s->len--;
}

CACHE_VERB uint32_t cache_random_victim(struct cache_policy *p)
{
    struct cache_random *s = (struct cache_random *)p->memory;
    int draws;

    for (draws = 0; draws < CACHE__RANDOM_DRAWS; draws++) {
        uint32_t slot;
        s->state += CACHE__RANDOM_STEP;
        slot = cache__random_draw(s->state, s->top);
        if (cache__bit(s->here, slot))
            return slot;
    }
    s->state += CACHE__RANDOM_STEP;
    return cache__random_nth(s, cache__random_draw(s->state, s->len));
}

CACHE_VERB void cache_random_evict(struct cache_policy *p, uint32_t slot,
                                   uint64_t hash)
{
    (void)hash;
    cache_random_remove(p, slot);
}

/* The draw after the next one: no guess, in a full cache. */
CACHE_VERB uint32_t cache_random_ahead(const struct cache_policy *p)
{
    const struct cache_random *s = (const struct cache_random *)p->memory;
    uint32_t slot;

    if (s->top == 0)
        return 0;
    slot = cache__random_draw(s->state + 2 * CACHE__RANDOM_STEP, s->top);
    CACHE__PREFETCH(&s->here[slot >> 5]);
    return slot;
}

CACHE_COLD const char *cache_random_check(const struct cache_policy *p,
                                          uint32_t len)
{
    const struct cache_random *s = (const struct cache_random *)p->memory;
    size_t bits = cache__bit_words(p->capacity) * 32, at;
    uint32_t n = 0, in_block = 0;

    if (s->top > p->capacity)
        return "RANDOM: its highest slot is outside the cache";
    for (at = 0; at < bits; at++) {
        bool here = cache__bit(s->here, (uint32_t)at);
        if (here && (at == 0 || at > s->top))
            return "RANDOM: an entry in a slot that never held one";
        in_block += here;
        if (at + 1 < bits && (at + 1) >> CACHE__RANDOM_BLOCK_BITS ==
                                 at >> CACHE__RANDOM_BLOCK_BITS)
            continue;
        if (s->counts[at >> CACHE__RANDOM_BLOCK_BITS] != in_block)
            return "RANDOM: a block's count is not its entries";
        n += in_block;
        in_block = 0;
    }
    return n == len && n == s->len ? NULL
                                   : "RANDOM: its entries are not the cache's";
}

static const struct cache_policy_verbs cache_random CACHE_UNUSED = {
    "random",
    cache_random_layout,
    cache_random_init,
    cache__no_admit,
    cache_random_add,
    cache__no_hit,
    cache__no_touch,
    cache__no_change,
    cache_random_remove,
    cache_random_victim,
    cache_random_evict,
    cache_random_ahead,
    cache_random_check,
    false,
};

/* --- TTL: the soonest to expire ------------------------------------------
 * Redis 2.0 (2010) has it as volatile-ttl, there for a few entries sampled at
 * random; here the order is exact.  Without CACHE_EXPIRY it is a FIFO.
 *
 *   [ 7 | a ]  [ 7 | d ]  [ 12 | b ]  ...  [ never | c ]  [ never | e ]
 *     leaves next                                            leaves last
 *
 * Equal deadlines leave in order of arrival, and so do entries without one,
 * which are a FIFO behind all others.  A use changes nothing.  An entry whose
 * deadline is moved keeps its age among its new equals.
 */

struct cache_ttl {
    struct cache_heap4 heap; /* key: cache__ttl_key of the deadline */
};

CACHE_INLINE size_t cache__ttl_cut(struct cache_ttl *s, void *memory,
                                   uint32_t capacity)
{
    size_t at = sizeof *s;

    cache__heap4_cut(&s->heap, memory, &at, capacity);
    return at;
}

/* 0, which is never, comes after all others. */
CACHE_INLINE uint64_t cache__ttl_key(uint32_t deadline)
{
    return (uint32_t)(deadline - 1);
}

CACHE_VERB size_t cache_ttl_layout(uint32_t capacity)
{
    struct cache_ttl s;

    return cache__ttl_cut(&s, NULL, capacity);
}

CACHE_VERB void cache_ttl_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_ttl *s = (struct cache_ttl *)p->memory;

    (void)seed;
    cache__ttl_cut(s, p->memory, p->capacity);
    cache__heap4_init(&s->heap);
}

CACHE_VERB void cache_ttl_add(struct cache_policy *p, uint32_t slot,
                              const struct cache_item *item)
{
    struct cache_ttl *s = (struct cache_ttl *)p->memory;

    cache__heap4_insert(&s->heap, slot, cache__ttl_key(item->deadline));
}

CACHE_VERB void cache_ttl_change(struct cache_policy *p, uint32_t slot,
                                 const struct cache_item *item)
{
    struct cache_ttl *s = (struct cache_ttl *)p->memory;

    cache__heap4_change(&s->heap, slot, cache__ttl_key(item->deadline));
}

CACHE_VERB void cache_ttl_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_ttl *s = (struct cache_ttl *)p->memory;

    cache__heap4_remove(&s->heap, slot);
}

CACHE_VERB uint32_t cache_ttl_victim(struct cache_policy *p)
{
    const struct cache_ttl *s = (const struct cache_ttl *)p->memory;

    return cache__heap4_top(&s->heap)->slot;
}

CACHE_VERB void cache_ttl_evict(struct cache_policy *p, uint32_t slot,
                                uint64_t hash)
{
    (void)hash;
    cache_ttl_remove(p, slot);
}

CACHE_VERB uint32_t cache_ttl_ahead(const struct cache_policy *p)
{
    const struct cache_ttl *s = (const struct cache_ttl *)p->memory;

    return cache__heap4_ahead(&s->heap);
}

CACHE_COLD const char *cache_ttl_check(const struct cache_policy *p,
                                       uint32_t len)
{
    const struct cache_ttl *s = (const struct cache_ttl *)p->memory;
    const char *broken = cache__heap4_check(&s->heap, p->capacity, len);
    uint32_t i;

    for (i = 0; !broken && i < len; i++)
        if (s->heap.nodes[CACHE__HEAP4_ROOT + i].key > UINT32_MAX)
            broken = "TTL: a key that is no deadline";
    return broken;
}

static const struct cache_policy_verbs cache_ttl CACHE_UNUSED = {
    "ttl",
    cache_ttl_layout,
    cache_ttl_init,
    cache__no_admit,
    cache_ttl_add,
    cache__no_hit,
    cache__no_touch,
    cache_ttl_change,
    cache_ttl_remove,
    cache_ttl_victim,
    cache_ttl_evict,
    cache_ttl_ahead,
    cache_ttl_check,
    false,
};

/* --- LFU: least frequently used, with dynamic aging ----------------------
 * M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich, T. Jin: "Evaluating
 * Content Management Techniques for Web Proxy Caches", ACM SIGMETRICS
 * Performance Evaluation Review 27(4), 2000 (there LFU-DA).  In constant time
 * after K. Shah, A. Mitra, D. Matani: "An O(1) algorithm for implementing the
 * LFU cache eviction scheme", 2010.
 *
 *   key of an entry = age of the cache at its last use + uses up to then
 *   age of the cache = key of the last victim
 *
 * The lowest key leaves; of equal ones, the least recently used.  What was
 * once popular is overtaken by newer entries as the cache grows older, which
 * plain LFU never lets happen.
 *
 *        age 61                                        list = key mod 64
 *          v
 *   ... [ 61 ] --- [ 62 ] --- [ 63 ] --- [ 0 ] --- [ 1 ] --- ... [ 60 ]
 *         |                     |                    |             |
 *         f, c                  b                    a, e          d
 *         key 61                63                   65            124
 *
 * At most 63 uses count, so every key is from age to age + 63: each has a list
 * of its own in a ring of 64, in order of last use, and one word tells which
 * lists are not empty.  Keys are never compared and so may go round for ever.
 * An entry with 63 uses stays 63 ages after its last, unless it is used again.
 */

#define CACHE__LFU_LISTS 64u
#define CACHE__LFU_USES 63u

struct cache_lfu_entry {
    uint8_t list; /* its key mod 64 */
    uint8_t uses; /* 1 when it entered, to 63 */
};

struct cache_lfu {
    uint64_t filled;                 /* bit k: list k is not empty */
    struct cache_lfu_entry *entries; /* by slot */
    uint32_t age;                    /* of the cache, mod 64 */
};

/* Cuts the arrays out of `memory`, or only counts.  Returns the bytes. */
CACHE_INLINE size_t cache__lfu_cut(struct cache_policy *p, struct cache_lfu *s,
                                   void *memory, uint32_t capacity)
{
    size_t at = sizeof *s, slots = (size_t)capacity + 1;

    p->links = (struct cache_link *)cache__cut(
        memory, &at, slots + CACHE__LFU_LISTS, sizeof *p->links);
    s->entries = (struct cache_lfu_entry *)cache__cut(memory, &at, slots,
                                                      sizeof *s->entries);
    return at;
}

CACHE_INLINE uint32_t cache__lfu_ring(const struct cache_policy *p,
                                      uint32_t list)
{
    return p->capacity + 1 + list;
}

/* Which lists are not empty: bit 0 is that of the lowest key there can be. */
CACHE_INLINE uint64_t cache__lfu_from_age(const struct cache_lfu *s)
{
    return s->filled >> s->age |
           s->filled << ((CACHE__LFU_LISTS - s->age) % CACHE__LFU_LISTS);
}

/* The list of the lowest key among some of those. */
CACHE_INLINE uint32_t cache__lfu_lowest(const struct cache_lfu *s,
                                        uint64_t from_age)
{
    return (s->age + cache__lowest_bit(from_age)) % CACHE__LFU_LISTS;
}

/* An entry that is in no list was used now. */
CACHE_INLINE void cache__lfu_push(struct cache_policy *p, uint32_t slot,
                                  uint32_t uses)
{
    struct cache_lfu *s = (struct cache_lfu *)p->memory;
    uint32_t list = (s->age + uses) % CACHE__LFU_LISTS;

    s->entries[slot].list = (uint8_t)list;
    s->entries[slot].uses = (uint8_t)uses;
    s->filled |= (uint64_t)1 << list;
    cache__list_push(p->links, cache__lfu_ring(p, list), slot);
}

CACHE_VERB size_t cache_lfu_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_lfu s;

    return cache__lfu_cut(&p, &s, NULL, capacity);
}

CACHE_VERB void cache_lfu_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_lfu *s = (struct cache_lfu *)p->memory;
    uint32_t list;

    (void)seed;
    cache__lfu_cut(p, s, p->memory, p->capacity);
    s->filled = 0;
    s->age = 0;
    for (list = 0; list < CACHE__LFU_LISTS; list++)
        cache__list_init(p->links, cache__lfu_ring(p, list));
}

CACHE_VERB void cache_lfu_add(struct cache_policy *p, uint32_t slot,
                              const struct cache_item *item)
{
    (void)item;
    cache__lfu_push(p, slot, 1);
}

CACHE_VERB void cache_lfu_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_lfu *s = (struct cache_lfu *)p->memory;
    uint32_t list = s->entries[slot].list, ring = cache__lfu_ring(p, list);

    cache__list_unlink(p->links, slot);
    if (cache__list_oldest(p->links, ring) == ring)
        s->filled &= ~((uint64_t)1 << list);
}

CACHE_VERB void cache_lfu_hit(struct cache_policy *p, uint32_t slot,
                              uint64_t hash)
{
    struct cache_lfu *s = (struct cache_lfu *)p->memory;
    uint32_t uses = s->entries[slot].uses;

    (void)hash;
    cache_lfu_remove(p, slot);
    cache__lfu_push(p, slot, uses < CACHE__LFU_USES ? uses + 1 : uses);
}

CACHE_VERB uint32_t cache_lfu_victim(struct cache_policy *p)
{
    const struct cache_lfu *s = (const struct cache_lfu *)p->memory;
    uint32_t list = cache__lfu_lowest(s, cache__lfu_from_age(s));

    return cache__list_oldest(p->links, cache__lfu_ring(p, list));
}

/* The age becomes the lowest key, which is the victim's: no key may be less
 * than the age, whoever is evicted. */
CACHE_VERB void cache_lfu_evict(struct cache_policy *p, uint32_t slot,
                                uint64_t hash)
{
    struct cache_lfu *s = (struct cache_lfu *)p->memory;

    (void)hash;
    s->age = cache__lfu_lowest(s, cache__lfu_from_age(s));
    cache_lfu_remove(p, slot);
}

/* The second to leave, if nothing is used meanwhile. */
CACHE_VERB uint32_t cache_lfu_ahead(const struct cache_policy *p)
{
    const struct cache_lfu *s = (const struct cache_lfu *)p->memory;
    uint64_t from_age = cache__lfu_from_age(s);
    uint32_t ring, slot;

    if (from_age == 0)
        return 0;
    ring = cache__lfu_ring(p, cache__lfu_lowest(s, from_age));
    slot = p->links[cache__list_oldest(p->links, ring)].newer;
    if (slot == ring) { /* the list has one entry: on to the next */
        from_age &= from_age - 1;
        if (from_age == 0)
            return 0;
        ring = cache__lfu_ring(p, cache__lfu_lowest(s, from_age));
        slot = cache__list_oldest(p->links, ring);
    }
    CACHE__PREFETCH(&p->links[slot]);
    CACHE__PREFETCH(&s->entries[slot]);
    return slot;
}

/* One list: its entries are counted in *n, which ends at `len`. */
CACHE_COLD const char *cache__lfu_check_list(const struct cache_policy *p,
                                             uint32_t list, uint32_t len,
                                             uint32_t *n)
{
    const struct cache_lfu *s = (const struct cache_lfu *)p->memory;
    uint32_t ring = cache__lfu_ring(p, list), before = *n, slot;

    for (slot = p->links[ring].older; slot != ring;
         slot = p->links[slot].older) {
        if (slot == 0 || slot > p->capacity)
            return "LFU: a list leads outside the cache";
        if (++*n > len)
            return "LFU: more entries than the cache has";
        if (s->entries[slot].list != list)
            return "LFU: an entry is in the list of another key";
        if (s->entries[slot].uses < 1 ||
            s->entries[slot].uses > CACHE__LFU_USES)
            return "LFU: an entry's uses are out of range";
        if ((list - s->age) % CACHE__LFU_LISTS > s->entries[slot].uses)
            return "LFU: an entry's key is above age + uses";
    }
    if ((s->filled >> list & 1) != (*n > before))
        return "LFU: the word of filled lists is wrong";
    return cache__list_check(p->links, ring, p->capacity, *n - before);
}

CACHE_COLD const char *cache_lfu_check(const struct cache_policy *p,
                                       uint32_t len)
{
    const struct cache_lfu *s = (const struct cache_lfu *)p->memory;
    const char *broken = NULL;
    uint32_t list, n = 0;

    if (s->age >= CACHE__LFU_LISTS)
        return "LFU: the age is out of range";
    for (list = 0; !broken && list < CACHE__LFU_LISTS; list++)
        broken = cache__lfu_check_list(p, list, len, &n);
    if (!broken && n != len)
        broken = "LFU: its entries are not the cache's";
    return broken;
}

static const struct cache_policy_verbs cache_lfu CACHE_UNUSED = {
    "lfu",
    cache_lfu_layout,
    cache_lfu_init,
    cache__no_admit,
    cache_lfu_add,
    cache_lfu_hit,
    NULL,
    cache__no_change,
    cache_lfu_remove,
    cache_lfu_victim,
    cache_lfu_evict,
    cache_lfu_ahead,
    cache_lfu_check,
    false,
};

/* --- GDSF: greedy dual, with size and frequency --------------------------
 * L. Cherkasova: "Improving WWW Proxies Performance with Greedy-Dual-Size-
 * Frequency Caching Policy", HP Laboratories report HPL-98-69R1, 1998.
 *
 *                                           uses x cost
 *   key of an entry = age at its last use + -----------
 *                                             weight
 *   age of the cache = key of the last victim
 *
 * The lowest key leaves; of equal ones, the least recently used.  So what is
 * dear to get again, small or much used stays longer, and what is not used any
 * more is overtaken as the cache grows older.  With weight 1 and cost 1 it is
 * LFU with dynamic aging, without that policy's limit of 63 uses.
 *
 * Weight 0 counts as 1.  What costs 0 has the age itself as its key and leaves
 * before all that costs something and was used then or later.
 *
 * Keys are fixed point numbers in units of 2^-28, the quotient rounded up:
 *
 *   - cost 1 tells weights up to 2^28 bytes (256 MiB) apart; where entries are
 *     heavier, costs should be given in a smaller unit, in larger numbers
 *   - a quotient stops below 2^35, so that no key overflows: a cost of 10^9
 *     for an entry of one byte gets there at its 35th use
 *
 * When the age has passed half of the range, it is taken from all keys and
 * becomes 0.  By then every entry has been used since the last time, or has
 * entered, so this is less than one step of a loop for each use.
 *
 * The paper may refuse a newcomer whose own key is the lowest, and reckons it
 * with the age before the victims leave; here, as in the paper of LFU above,
 * every newcomer enters, with the age after.
 */

#define CACHE__GDSF_POINT 28u /* bits of a key behind the point */
#define CACHE__GDSF_HALF ((uint64_t)1 << 63)

struct cache_gdsf_entry {
    uint32_t weight; /* as it was last said, and may be 0 */
    uint32_t cost;
    uint32_t uses; /* 1 when it entered; stops at UINT32_MAX */
};

struct cache_gdsf {
    struct cache_heap4 heap;          /* key: see above */
    struct cache_gdsf_entry *entries; /* by slot */
    uint64_t age;                     /* less than CACHE__GDSF_HALF */
};

/* Cuts the arrays out of `memory`, or only counts.  Returns the bytes. */
CACHE_INLINE size_t cache__gdsf_cut(struct cache_gdsf *s, void *memory,
                                    uint32_t capacity)
{
    size_t at = sizeof *s;

    cache__heap4_cut(&s->heap, memory, &at, capacity);
    s->entries = (struct cache_gdsf_entry *)cache__cut(
        memory, &at, (size_t)capacity + 1, sizeof *s->entries);
    return at;
}

/* uses x cost / weight, as part of a key: less than CACHE__GDSF_HALF. */
CACHE_INLINE uint64_t cache__gdsf_worth(const struct cache_gdsf_entry *entry)
{
    uint64_t product = (uint64_t)entry->uses * entry->cost;
    uint32_t weight = entry->weight ? entry->weight : 1;
    uint64_t whole = product / weight, rest = product % weight;

    if (whole >= (CACHE__GDSF_HALF >> CACHE__GDSF_POINT) - 1)
        return CACHE__GDSF_HALF - 1;
    return (whole << CACHE__GDSF_POINT) +
           ((rest << CACHE__GDSF_POINT) + (weight - 1)) / weight;
}

CACHE_VERB size_t cache_gdsf_layout(uint32_t capacity)
{
    struct cache_gdsf s;

    return cache__gdsf_cut(&s, NULL, capacity);
}

CACHE_VERB void cache_gdsf_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;

    (void)seed;
    cache__gdsf_cut(s, p->memory, p->capacity);
    cache__heap4_init(&s->heap);
    s->age = 0;
}

CACHE_VERB void cache_gdsf_add(struct cache_policy *p, uint32_t slot,
                               const struct cache_item *item)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;
    struct cache_gdsf_entry *entry = &s->entries[slot];

    entry->weight = item->weight;
    entry->cost = item->cost;
    entry->uses = 1;
    cache__heap4_insert(&s->heap, slot, s->age + cache__gdsf_worth(entry));
}

CACHE_VERB void cache_gdsf_hit(struct cache_policy *p, uint32_t slot,
                               uint64_t hash)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;
    struct cache_gdsf_entry *entry = &s->entries[slot];

    (void)hash;
    if (entry->uses < UINT32_MAX)
        entry->uses++;
    cache__heap4_renew(&s->heap, slot, s->age + cache__gdsf_worth(entry));
}

/* Its key is reckoned anew, with the age of today: it was got again.  That is
 * no use of it, so its turn stays.  Another deadline is nothing. */
CACHE_VERB void cache_gdsf_change(struct cache_policy *p, uint32_t slot,
                                  const struct cache_item *item)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;
    struct cache_gdsf_entry *entry = &s->entries[slot];

    if (entry->weight == item->weight && entry->cost == item->cost)
        return;
    entry->weight = item->weight;
    entry->cost = item->cost;
    cache__heap4_change(&s->heap, slot, s->age + cache__gdsf_worth(entry));
}

CACHE_VERB void cache_gdsf_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;

    cache__heap4_remove(&s->heap, slot);
}

CACHE_VERB uint32_t cache_gdsf_victim(struct cache_policy *p)
{
    const struct cache_gdsf *s = (const struct cache_gdsf *)p->memory;

    return cache__heap4_top(&s->heap)->slot;
}

/* The age becomes the lowest key, which is the victim's: no key may be less
 * than the age, whoever is evicted. */
CACHE_VERB void cache_gdsf_evict(struct cache_policy *p, uint32_t slot,
                                 uint64_t hash)
{
    struct cache_gdsf *s = (struct cache_gdsf *)p->memory;

    (void)hash;
    s->age = cache__heap4_top(&s->heap)->key;
    cache__heap4_remove(&s->heap, slot);
    if (s->age >= CACHE__GDSF_HALF) {
        cache__heap4_lower_keys(&s->heap, s->age);
        s->age = 0;
    }
}

CACHE_VERB uint32_t cache_gdsf_ahead(const struct cache_policy *p)
{
    const struct cache_gdsf *s = (const struct cache_gdsf *)p->memory;

    return cache__heap4_ahead(&s->heap);
}

CACHE_COLD const char *cache_gdsf_check(const struct cache_policy *p,
                                        uint32_t len)
{
    const struct cache_gdsf *s = (const struct cache_gdsf *)p->memory;
    const char *broken = cache__heap4_check(&s->heap, p->capacity, len);
    uint32_t i;

    if (s->age >= CACHE__GDSF_HALF)
        return "GDSF: the age is out of range";
    for (i = 0; !broken && i < len; i++) {
        const struct cache_heap4_node *node =
            &s->heap.nodes[CACHE__HEAP4_ROOT + i];
        if (s->entries[node->slot].uses == 0)
            broken = "GDSF: an entry without uses";
        else if (node->key < s->age)
            broken = "GDSF: a key below the age";
    }
    return broken;
}

static const struct cache_policy_verbs cache_gdsf CACHE_UNUSED = {
    "gdsf",
    cache_gdsf_layout,
    cache_gdsf_init,
    cache__no_admit,
    cache_gdsf_add,
    cache_gdsf_hit,
    NULL,
    cache_gdsf_change,
    cache_gdsf_remove,
    cache_gdsf_victim,
    cache_gdsf_evict,
    cache_gdsf_ahead,
    cache_gdsf_check,
    false,
};

/* --- SLRU: segmented LRU -------------------------------------------------
 * R. Karedla, J. S. Love, B. G. Wherry: "Caching Strategies to Improve Disk
 * System Performance", IEEE Computer 27(3), 1994.  In four segments: Q. Huang,
 * K. Birman, R. van Renesse, W. Lloyd, S. Kumar, H. C. Li: "An Analysis of
 * Facebook Photo Caching", SOSP 2013 (S4LRU).
 *
 *                                     newest             oldest
 *                              +-----> [   ] ---> ... ---> [   ] --+
 *                              | hit        segment 3, a quarter   |
 *                              |                                   |
 *                              +-----> [   ] ---> ... ---> [   ] <-+ one too
 *                              | hit        segment 2, a quarter   | many
 *                              |                                   |
 *                              +-----> [   ] ---> ... ---> [   ] <-+
 *                              | hit        segment 1, a quarter   |
 *                              |                                   |
 *                    a new key +-----> [   ] ---> ... ---> [   ] <-+
 *                                           segment 0, a quarter   |
 *                                                                  +--> leaves
 *
 * A hit lifts an entry to the newest end of the next higher segment, and in
 * the highest to the newest end of that.  What becomes one too many there
 * falls back by one segment, to the newest end.  So a key that is used once
 * passes through segment 0 alone, and one that was used often has four times
 * to be forgotten.
 *
 * While the cache is not full there is room in some segment, and a new key
 * takes it in the lowest that has any: the first entries of a loop or a scan
 * stay in the higher segments instead of being pushed out by the rest of it.
 *
 * The quarters of `full` sum to it exactly; what does not divide by 4 goes to
 * the lower segments, so that segment 0 has at least one entry and 1 entry is
 * a FIFO of one.  When `full` falls, segments that are too long lose one entry
 * downwards at each victim.
 */

enum { CACHE__SLRU_SEGMENTS = 4 };

struct cache_slru {
    uint32_t n[CACHE__SLRU_SEGMENTS]; /* entries of each segment */
};

/* Also says how many bytes there are, for which memory may be NULL. */
CACHE_INLINE size_t cache__slru_cut(struct cache_policy *p, void *memory,
                                    uint32_t capacity)
{
    size_t at = sizeof(struct cache_slru);

    p->links = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + CACHE__SLRU_SEGMENTS,
        sizeof(struct cache_link));
    p->marks =
        (uint32_t *)cache__cut(memory, &at, cache__twobit_words(capacity),
                               sizeof(uint32_t)); /* its segment */
    return at;
}

CACHE_INLINE uint32_t cache__slru_ring(const struct cache_policy *p,
                                       uint32_t segment)
{
    return segment == 0 ? 0 : p->capacity + segment;
}

/* How many entries the segment may have.  Never falls when `full` rises. */
CACHE_INLINE uint32_t cache__slru_limit(uint32_t full, uint32_t segment)
{
    return full / CACHE__SLRU_SEGMENTS +
           (full % CACHE__SLRU_SEGMENTS > segment);
}

CACHE_INLINE void cache__slru_push(struct cache_policy *p, uint32_t segment,
                                   uint32_t slot)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;

    s->n[segment]++;
    cache__twobit_set(p->marks, slot, segment);
    cache__list_push(p->links, cache__slru_ring(p, segment), slot);
}

/* Makes the oldest of a higher segment fall by one, if it is too long. */
CACHE_INLINE void cache__slru_demote(struct cache_policy *p, uint32_t segment)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;
    uint32_t slot;

    if (s->n[segment] <= cache__slru_limit(p->full, segment))
        return;
    slot = cache__list_oldest(p->links, cache__slru_ring(p, segment));
    cache__list_unlink(p->links, slot);
    s->n[segment]--;
    cache__slru_push(p, segment - 1, slot);
}

CACHE_VERB size_t cache_slru_layout(uint32_t capacity)
{
    struct cache_policy p;

    return cache__slru_cut(&p, NULL, capacity);
}

CACHE_VERB void cache_slru_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;
    uint32_t segment;

    (void)seed;
    cache__slru_cut(p, p->memory, p->capacity);
    for (segment = 0; segment < CACHE__SLRU_SEGMENTS; segment++) {
        s->n[segment] = 0;
        cache__list_init(p->links, cache__slru_ring(p, segment));
    }
}

CACHE_VERB void cache_slru_add(struct cache_policy *p, uint32_t slot,
                               const struct cache_item *item)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;
    uint32_t segment;

    (void)item;
    for (segment = 0; segment < CACHE__SLRU_SEGMENTS; segment++)
        if (s->n[segment] < cache__slru_limit(p->full, segment))
            break;
    cache__slru_push(p, segment % CACHE__SLRU_SEGMENTS, slot);
}

/* The entry that has to make room falls into the place that this one left;
 * where the higher segment may have none at all, it is this one itself. */
CACHE_VERB void cache_slru_hit(struct cache_policy *p, uint32_t slot,
                               uint64_t hash)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;
    uint32_t segment = cache__twobit(p->marks, slot);
    uint32_t top = CACHE__SLRU_SEGMENTS - 1;

    (void)hash;
    if (segment < top) {
        cache__list_unlink(p->links, slot);
        s->n[segment]--;
        cache__slru_push(p, segment + 1, slot);
        cache__slru_demote(p, segment + 1);
    } else if (cache__list_newest(p->links, cache__slru_ring(p, top)) != slot) {
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, cache__slru_ring(p, top), slot);
    }
}

CACHE_VERB void cache_slru_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_slru *s = (struct cache_slru *)p->memory;

    cache__list_unlink(p->links, slot);
    s->n[cache__twobit(p->marks, slot)]--;
}

/* The oldest of the lowest segment that has one. */
CACHE_VERB uint32_t cache_slru_victim(struct cache_policy *p)
{
    const struct cache_slru *s = (const struct cache_slru *)p->memory;
    uint32_t segment;

    for (segment = CACHE__SLRU_SEGMENTS - 1; segment > 0; segment--)
        cache__slru_demote(p, segment);
    while (segment < CACHE__SLRU_SEGMENTS - 1 && s->n[segment] == 0)
        segment++;
    return cache__list_oldest(p->links, cache__slru_ring(p, segment));
}

CACHE_VERB void cache_slru_evict(struct cache_policy *p, uint32_t slot,
                                 uint64_t hash)
{
    (void)hash;
    cache_slru_remove(p, slot);
}

/* The second oldest of segment 0, whose ring leads to 0 if there is none. */
CACHE_VERB uint32_t cache_slru_ahead(const struct cache_policy *p)
{
    uint32_t slot = p->links[cache__list_oldest(p->links, 0)].newer;

    CACHE__PREFETCH(&p->links[slot]);
    return slot;
}

CACHE_COLD const char *cache_slru_check(const struct cache_policy *p,
                                        uint32_t len)
{
    const struct cache_slru *s = (const struct cache_slru *)p->memory;
    uint32_t segment, slot, n = 0;

    for (segment = 0; segment < CACHE__SLRU_SEGMENTS; segment++) {
        uint32_t ring = cache__slru_ring(p, segment);
        const char *broken =
            cache__list_check(p->links, ring, p->capacity, s->n[segment]);
        if (broken)
            return broken;
        if (segment > 0 &&
            s->n[segment] > cache__slru_limit(p->capacity, segment))
            return "SLRU: a segment is longer than it can be";
        for (slot = p->links[ring].older; slot != ring;
             slot = p->links[slot].older)
            if (cache__twobit(p->marks, slot) != segment)
                return "SLRU: an entry is marked as of another segment";
        n += s->n[segment];
    }
    return n == len ? NULL : "SLRU: its entries are not the cache's";
}

static const struct cache_policy_verbs cache_slru CACHE_UNUSED = {
    "slru",
    cache_slru_layout,
    cache_slru_init,
    cache__no_admit,
    cache_slru_add,
    cache_slru_hit,
    NULL,
    cache__no_change,
    cache_slru_remove,
    cache_slru_victim,
    cache_slru_evict,
    cache_slru_ahead,
    cache_slru_check,
    false,
};

/* --- 2Q: two queues ------------------------------------------------------
 * T. Johnson, D. Shasha: "2Q: A Low Overhead High Performance Buffer
 * Management Replacement Algorithm", VLDB 1994: the full version.
 *
 *   new --------> A1in [ newest ... oldest ] ---> leaves, remembered in A1out
 *   remembered -> Am   [ newest ... oldest ] ---> leaves, forgotten
 *
 *   A1in    first in, first out; a quarter of the entries
 *   Am      least recently used
 *   A1out   keys only; first in, first out; half as many as entries
 *
 * A hit in A1in moves nothing: what is used a few times in a row and then never
 * again goes no further.  A key that comes back while A1out remembers it is
 * wanted for longer.
 *
 * As in the paper, A1in gives when it is larger than its share, so that with
 * the newcomer it may be larger by one.  Shares are rounded down, but are 1 at
 * least.  Where Am is empty, A1in gives.
 */

struct cache_2q {
    struct cache_twin here;      /* list 0 is A1in, list 1 is Am */
    struct cache_directory gone; /* list 0 is A1out */
    uint64_t hash;               /* of the key that admit() saw last */
    bool back;                   /* it was in A1out; until add() */
};

CACHE_INLINE uint32_t cache__2q_share_in(uint32_t full)
{
    return full < 4 ? 1 : full / 4;
}

CACHE_INLINE uint32_t cache__2q_share_out(uint32_t full)
{
    return full < 2 ? 1 : full / 2;
}

/* Lays everything out behind the state; with memory NULL it only counts. */
CACHE_COLD size_t cache__2q_cut(struct cache_2q *s, void *memory,
                                uint32_t capacity)
{
    size_t at = sizeof *s;

    cache__twin_cut(&s->here, memory, &at, capacity);
    cache__dir_cut(&s->gone, memory, &at, cache__2q_share_out(capacity));
    return at;
}

CACHE_COLD size_t cache_2q_layout(uint32_t capacity)
{
    struct cache_2q s;

    return cache__2q_cut(&s, NULL, capacity);
}

CACHE_COLD void cache_2q_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;

    (void)seed;
    cache__2q_cut(s, p->memory, p->capacity);
    cache__twin_init(&s->here);
    cache__dir_init(&s->gone);
    p->links = s->here.links;
    p->marks = s->here.in_one;
    s->hash = 0;
    s->back = false;
}

CACHE_COLD void cache_2q_admit(struct cache_policy *p,
                               const struct cache_item *item)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;
    uint32_t ghost = cache__dir_find(&s->gone, item->hash);

    s->hash = item->hash;
    s->back = ghost != 0;
    if (ghost != 0)
        cache__dir_drop(&s->gone, ghost);
}

CACHE_VERB void cache_2q_add(struct cache_policy *p, uint32_t slot,
                             const struct cache_item *item)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;
    bool back = s->back && s->hash == item->hash;

    s->back = false;
    cache__twin_push(&s->here, back, slot);
}

CACHE_VERB void cache_2q_hit(struct cache_policy *p, uint32_t slot,
                             uint64_t hash)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;

    (void)hash;
    if (cache__twin_list(&s->here, slot) == 1)
        cache__twin_renew(&s->here, 1, slot);
}

CACHE_VERB void cache_2q_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;

    cache__twin_take(&s->here, slot);
}

/* The list that gives: 0 or 1. */
CACHE_VERB uint32_t cache__2q_gives(const struct cache_policy *p)
{
    const struct cache_2q *s = (const struct cache_2q *)p->memory;

    if (s->here.len[0] > cache__2q_share_in(p->full) || s->here.len[1] == 0)
        return 0;
    return 1;
}

CACHE_VERB uint32_t cache_2q_victim(struct cache_policy *p)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;

    return cache__twin_oldest(&s->here, cache__2q_gives(p));
}

CACHE_COLD void cache_2q_evict(struct cache_policy *p, uint32_t slot,
                               uint64_t hash)
{
    struct cache_2q *s = (struct cache_2q *)p->memory;

    if (cache__twin_list(&s->here, slot) == 0) {
        cache__dir_trim(&s->gone, 0, cache__2q_share_out(p->full) - 1);
        cache__dir_put(&s->gone, 0, hash);
    }
    cache__twin_take(&s->here, slot);
}

CACHE_VERB uint32_t cache_2q_ahead(const struct cache_policy *p)
{
    const struct cache_2q *s = (const struct cache_2q *)p->memory;

    return cache__twin_ahead(&s->here, cache__2q_gives(p));
}

CACHE_COLD const char *cache_2q_check(const struct cache_policy *p,
                                      uint32_t len)
{
    const struct cache_2q *s = (const struct cache_2q *)p->memory;
    const char *broken = cache__twin_check(&s->here, len);

    if (!broken)
        broken = cache__dir_check(&s->gone);
    if (!broken && s->gone.lists.len[1] != 0)
        broken = "2Q: a ghost is in a list that A1out has no use for";
    return broken;
}

static const struct cache_policy_verbs cache_2q CACHE_UNUSED = {
    "2q",
    cache_2q_layout,
    cache_2q_init,
    cache_2q_admit,
    cache_2q_add,
    cache_2q_hit,
    NULL,
    cache__no_change,
    cache_2q_remove,
    cache_2q_victim,
    cache_2q_evict,
    cache_2q_ahead,
    cache_2q_check,
    true,
};

/* --- ARC: adaptive replacement cache -------------------------------------
 * N. Megiddo, D. S. Modha: "ARC: A Self-Tuning, Low Overhead Replacement
 * Cache", FAST 2003.
 *
 *       used once                              used more than once
 *   T1  [ newest ... oldest ] --> leaves   T2  [ newest ... oldest ] --> leaves
 *   B1  [ keys that left T1 ]              B2  [ keys that left T2 ]
 *
 *       T1 + B1 <= full                        T1 + B1 + T2 + B2 <= 2 x full
 *
 * A hit moves an entry to the newest end of T2.  T1's oldest leaves while T1
 * is larger than its target, else T2's.  A key that comes back from B1 shows
 * that T1 is too small and raises the target, one from B2 lowers it: by 1, or
 * by the ratio of the two ghost lists where the other one is the longer.
 *
 * The paper makes room among the ghosts before the newcomer enters.  Here the
 * two limits are restored after it has entered, which drops the same ghosts
 * and also holds where `full` changes or entries are removed; for a moment
 * there may be full + 1 ghosts.
 */

enum cache_arc_from { CACHE__ARC_NEW, CACHE__ARC_B1, CACHE__ARC_B2 };

struct cache_arc {
    struct cache_twin here;      /* list 0 is T1, list 1 is T2 */
    struct cache_directory gone; /* list 0 is B1, list 1 is B2 */
    double target;               /* how many T1 should have: the paper's p */
    uint64_t hash;               /* of the key that admit() saw last */
    enum cache_arc_from from;    /* where it was, until add() */
};

/* Lays everything out behind the state; with memory NULL it only counts. */
CACHE_COLD size_t cache__arc_cut(struct cache_arc *s, void *memory,
                                 uint32_t capacity)
{
    size_t at = sizeof *s;

    cache__twin_cut(&s->here, memory, &at, capacity);
    cache__dir_cut(&s->gone, memory, &at, capacity + 1);
    return at;
}

CACHE_COLD size_t cache_arc_layout(uint32_t capacity)
{
    struct cache_arc s;

    return cache__arc_cut(&s, NULL, capacity);
}

CACHE_COLD void cache_arc_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;

    (void)seed;
    cache__arc_cut(s, p->memory, p->capacity);
    cache__twin_init(&s->here);
    cache__dir_init(&s->gone);
    p->links = s->here.links;
    p->marks = s->here.in_one;
    s->target = 0;
    s->hash = 0;
    s->from = CACHE__ARC_NEW;
}

/* Learns from a ghost, and forgets it. */
CACHE_COLD void cache_arc_admit(struct cache_policy *p,
                                const struct cache_item *item)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;
    uint32_t ghost = cache__dir_find(&s->gone, item->hash);
    double b1 = s->gone.lists.len[0], b2 = s->gone.lists.len[1];

    s->hash = item->hash;
    s->from = CACHE__ARC_NEW;
    if (ghost == 0)
        return;
    if (cache__twin_list(&s->gone.lists, ghost) == 0) {
        s->from = CACHE__ARC_B1;
        s->target += b1 >= b2 ? 1 : b2 / b1;
        if (s->target > p->full)
            s->target = p->full;
    } else {
        s->from = CACHE__ARC_B2;
        s->target -= b2 >= b1 ? 1 : b1 / b2;
        if (s->target < 0)
            s->target = 0;
    }
    cache__dir_drop(&s->gone, ghost);
}

/* The ghosts that there may be beside so many other nodes. */
CACHE_INLINE uint32_t cache__arc_left(uint64_t limit, uint64_t others)
{
    return (uint32_t)(limit > others ? limit - others : 0);
}

CACHE_COLD void cache_arc_add(struct cache_policy *p, uint32_t slot,
                              const struct cache_item *item)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;
    const uint32_t *t = s->here.len, *b = s->gone.lists.len;
    bool back = s->from != CACHE__ARC_NEW && s->hash == item->hash;
    uint64_t full = p->full;

    s->from = CACHE__ARC_NEW;
    cache__twin_push(&s->here, back, slot);
    cache__dir_trim(&s->gone, 0, cache__arc_left(full, t[0]));
    cache__dir_trim(&s->gone, 1,
                    cache__arc_left(2 * full, (uint64_t)t[0] + b[0] + t[1]));
}

CACHE_VERB void cache_arc_hit(struct cache_policy *p, uint32_t slot,
                              uint64_t hash)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;

    (void)hash;
    cache__twin_renew(&s->here, 1, slot);
}

CACHE_VERB void cache_arc_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;

    cache__twin_take(&s->here, slot);
}

/* The list that gives, 0 or 1: the paper's REPLACE.  At its target T1 gives for
 * a key from B2 only.  The target may be from a time when `full` was more. */
CACHE_VERB uint32_t cache__arc_gives(const struct cache_policy *p)
{
    const struct cache_arc *s = (const struct cache_arc *)p->memory;
    double target = s->target < p->full ? s->target : p->full;
    double t1 = s->here.len[0];

    if (s->here.len[0] == 0 || s->here.len[1] == 0)
        return s->here.len[0] == 0;
    if (t1 > target || (t1 >= target && s->from == CACHE__ARC_B2))
        return 0;
    return 1;
}

CACHE_VERB uint32_t cache_arc_victim(struct cache_policy *p)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;

    return cache__twin_oldest(&s->here, cache__arc_gives(p));
}

/* Where several leave for one newcomer, the ghosts have to be limited here:
 * the longer list forgets one. */
CACHE_COLD void cache_arc_evict(struct cache_policy *p, uint32_t slot,
                                uint64_t hash)
{
    struct cache_arc *s = (struct cache_arc *)p->memory;
    const uint32_t *b = s->gone.lists.len;
    uint32_t list = cache__twin_list(&s->here, slot);
    uint32_t longer = b[1] > b[0];

    if (cache__dir_len(&s->gone) > p->full)
        cache__dir_trim(&s->gone, longer, b[longer] - 1);
    cache__twin_take(&s->here, slot);
    cache__dir_put(&s->gone, list, hash);
}

CACHE_VERB uint32_t cache_arc_ahead(const struct cache_policy *p)
{
    const struct cache_arc *s = (const struct cache_arc *)p->memory;

    return cache__twin_ahead(&s->here, cache__arc_gives(p));
}

CACHE_COLD const char *cache_arc_check(const struct cache_policy *p,
                                       uint32_t len)
{
    const struct cache_arc *s = (const struct cache_arc *)p->memory;
    const char *broken = cache__twin_check(&s->here, len);

    if (!broken)
        broken = cache__dir_check(&s->gone);
    if (!broken && !(s->target >= 0 && s->target <= p->capacity))
        broken = "ARC: the target is larger than the cache";
    return broken;
}

static const struct cache_policy_verbs cache_arc CACHE_UNUSED = {
    "arc",
    cache_arc_layout,
    cache_arc_init,
    cache_arc_admit,
    cache_arc_add,
    cache_arc_hit,
    NULL,
    cache__no_change,
    cache_arc_remove,
    cache_arc_victim,
    cache_arc_evict,
    cache_arc_ahead,
    cache_arc_check,
    true,
};

/* --- LIRS: low inter-reference recency set -------------------------------
 * S. Jiang, X. Zhang: "LIRS: An Efficient Low Inter-reference Recency Set
 * Replacement Policy to Improve Buffer Cache Performance", SIGMETRICS 2002.
 *
 *      newest                                             oldest
 *   S  [ L ] [ h ] [ L ] [ g ] [ h ] [ L ] [ g ] [ g ] [ L ]
 *              |                 |
 *   Q        [ h ]    [ H ]    [ h ]    [ H ] ---> leaves
 *
 *   L   LIR: all entries but 1 %; do not leave
 *   h H HIR: the others, the oldest of which leaves; h is in S, H is not
 *   g   a ghost: an h that has left
 *
 * S is in the order of use, down to the L that was not used for the longest
 * time.  So a key that is used while it is in S comes back sooner than that L:
 * it becomes an L, and that L the newest of Q.  An H that is used remains HIR;
 * it becomes the newest of S and of Q.
 *
 * What is below the last L is pruned: an h becomes an H, a ghost is forgotten.
 * So the bottom of S is always an L, and without an L, S is empty.
 *
 * The paper lets S grow without limit.  Here there are at most 11/8 x full
 * ghosts; the one that left first is forgotten first.
 *
 * At first newcomers become L, as many as there may be.  Where L are removed
 * after that, or `full` rises a little, as it does all the time in a cache
 * bounded by bytes, newcomers have to prove themselves nevertheless; only when
 * half of the L are missing it begins anew.
 */

struct cache_lirs {
    struct cache_directory gone; /* list 0: the ghosts, by when they left */
    struct cache_link *queue;    /* Q: by slot; the ring is 0 */
    uint64_t hash;               /* of the key that admit() saw last */
    bool back;                   /* it was in S; until add() */
    bool settled;                /* there have been as many L as may be */
    uint32_t n_lir;              /* L; all other entries are in Q */
};

/* S runs through `links`: the ring is 0, an entry has its slot, a ghost stands
 * that far behind the last slot.  `marks` has two bits for each slot: first
 * those that tell the L, then those that tell who is in S. */
CACHE_INLINE uint32_t *cache__lirs_in_s(const struct cache_policy *p)
{
    return p->marks + cache__bit_words(p->capacity);
}

/* How many L there may be: all but 1 %, but that is at least 2 entries, or 1
 * of up to 4.  A cache of one entry has no L. */
CACHE_INLINE uint32_t cache__lirs_share(uint32_t full)
{
    uint32_t hir = full / 100;

    if (hir < 2)
        hir = full > 4 ? 2 : 1;
    return full - hir;
}

/* How many ghosts there may be; slots and ghosts together have 32 bits. */
CACHE_INLINE uint32_t cache__lirs_ghosts(uint32_t full)
{
    uint64_t n = (uint64_t)full * 11 / 8, last = UINT32_MAX - full;

    return (uint32_t)(n < last ? n : last);
}

/* Lays everything out behind the state; with memory NULL it only counts. */
CACHE_COLD size_t cache__lirs_cut(struct cache_policy *p, struct cache_lirs *s,
                                  void *memory, uint32_t capacity)
{
    uint32_t ghosts = cache__lirs_ghosts(capacity);
    size_t at = sizeof *s;

    p->links = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + ghosts + 1, sizeof(struct cache_link));
    s->queue = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + 1, sizeof(struct cache_link));
    p->marks = (uint32_t *)cache__cut(
        memory, &at, 2 * cache__bit_words(capacity), sizeof(uint32_t));
    cache__dir_cut(&s->gone, memory, &at, ghosts);
    return at;
}

CACHE_COLD size_t cache_lirs_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_lirs s;

    return cache__lirs_cut(&p, &s, NULL, capacity);
}

CACHE_COLD void cache_lirs_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;

    (void)seed;
    cache__lirs_cut(p, s, p->memory, p->capacity);
    cache__dir_init(&s->gone);
    cache__list_init(p->links, 0);
    cache__list_init(s->queue, 0);
    s->hash = 0;
    s->back = s->settled = false;
    s->n_lir = 0;
}

/* A ghost is never the bottom of S, except while S is pruned. */
CACHE_COLD void cache__lirs_forget(struct cache_policy *p, uint32_t ghost)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;

    cache__list_unlink(p->links, p->capacity + ghost);
    cache__dir_drop(&s->gone, ghost);
}

/* Whatever is below the last L leaves S. */
CACHE_COLD void cache__lirs_prune(struct cache_policy *p)
{
    uint32_t node;

    while ((node = cache__list_oldest(p->links, 0)) != 0) {
        if (node > p->capacity) {
            cache__lirs_forget(p, node - p->capacity);
        } else if (!cache__bit(p->marks, node)) {
            cache__list_unlink(p->links, node);
            cache__bit_clear(cache__lirs_in_s(p), node);
        } else {
            break;
        }
    }
}

/* The L at the bottom of S becomes the newest of Q. */
CACHE_COLD void cache__lirs_demote(struct cache_policy *p)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    uint32_t slot = cache__list_oldest(p->links, 0);

    s->n_lir--;
    cache__bit_clear(p->marks, slot);
    cache__list_push(s->queue, 0, slot);
    cache__lirs_prune(p); /* begins with the slot itself */
}

/* A slot that is in neither list becomes an L, and the newest of S. */
CACHE_COLD void cache__lirs_push_lir(struct cache_policy *p, uint32_t slot)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    uint32_t share = cache__lirs_share(p->full);

    cache__bit_set(p->marks, slot);
    cache__bit_set(cache__lirs_in_s(p), slot);
    cache__list_push(p->links, 0, slot);
    if (++s->n_lir >= share)
        s->settled = true;
    if (s->n_lir > share)
        cache__lirs_demote(p);
}

/* A slot that is in neither list becomes HIR: the newest of Q, and of S unless
 * that would make it the bottom. */
CACHE_COLD void cache__lirs_push_hir(struct cache_policy *p, uint32_t slot)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;

    cache__bit_clear(p->marks, slot);
    cache__bit_clear(cache__lirs_in_s(p), slot);
    cache__list_push(s->queue, 0, slot);
    if (s->n_lir == 0)
        return;
    cache__bit_set(cache__lirs_in_s(p), slot);
    cache__list_push(p->links, 0, slot);
}

/* A slot that is in neither list was used; `again`: when it was in S. */
CACHE_COLD void cache__lirs_push(struct cache_policy *p, uint32_t slot,
                                 bool again)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    uint32_t share = cache__lirs_share(p->full);

    if (s->n_lir <= share / 2)
        s->settled = false;
    if (again || (s->n_lir < share && !s->settled))
        cache__lirs_push_lir(p, slot);
    else
        cache__lirs_push_hir(p, slot);
}

CACHE_COLD void cache_lirs_admit(struct cache_policy *p,
                                 const struct cache_item *item)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    uint32_t ghost = cache__dir_find(&s->gone, item->hash);

    s->hash = item->hash;
    s->back = ghost != 0;
    if (ghost != 0)
        cache__lirs_forget(p, ghost);
}

CACHE_VERB void cache_lirs_add(struct cache_policy *p, uint32_t slot,
                               const struct cache_item *item)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    bool again = s->back && s->hash == item->hash;

    s->back = false;
    cache__lirs_push(p, slot, again);
}

CACHE_COLD void cache__lirs_hit_hir(struct cache_policy *p, uint32_t slot)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    bool again = cache__bit(cache__lirs_in_s(p), slot);

    cache__list_unlink(s->queue, slot);
    if (again)
        cache__list_unlink(p->links, slot);
    cache__lirs_push(p, slot, again);
}

CACHE_VERB void cache_lirs_hit(struct cache_policy *p, uint32_t slot,
                               uint64_t hash)
{
    (void)hash;
    if (!cache__bit(p->marks, slot)) {
        cache__lirs_hit_hir(p, slot);
    } else if (cache__list_newest(p->links, 0) != slot) {
        bool bottom = cache__list_oldest(p->links, 0) == slot;
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, 0, slot);
        if (bottom)
            cache__lirs_prune(p);
    }
}

CACHE_COLD void cache_lirs_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;

    if (cache__bit(cache__lirs_in_s(p), slot))
        cache__list_unlink(p->links, slot);
    if (cache__bit(p->marks, slot)) {
        s->n_lir--;
        cache__lirs_prune(p);
    } else {
        cache__list_unlink(s->queue, slot);
    }
}

/* Where `full` has fallen there are too many L: each victim takes one of them
 * to Q.  After removals Q may be empty. */
CACHE_VERB uint32_t cache_lirs_victim(struct cache_policy *p)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;

    if (s->n_lir > cache__lirs_share(p->full) ||
        cache__list_oldest(s->queue, 0) == 0)
        cache__lirs_demote(p);
    return cache__list_oldest(s->queue, 0);
}

/* The ghost takes the place of an h in S. */
CACHE_COLD void cache_lirs_evict(struct cache_policy *p, uint32_t slot,
                                 uint64_t hash)
{
    struct cache_lirs *s = (struct cache_lirs *)p->memory;
    uint32_t limit = cache__lirs_ghosts(p->full), node;
    struct cache_link place;

    if (cache__bit(p->marks, slot) || !cache__bit(cache__lirs_in_s(p), slot)) {
        cache_lirs_remove(p, slot);
        return;
    }
    while (cache__dir_len(&s->gone) >= limit)
        cache__lirs_forget(p, cache__twin_oldest(&s->gone.lists, 0));
    node = p->capacity + cache__dir_put(&s->gone, 0, hash);
    place = p->links[slot];
    p->links[node] = place;
    p->links[place.newer].older = p->links[place.older].newer = node;
    cache__list_unlink(s->queue, slot);
}

CACHE_VERB uint32_t cache_lirs_ahead(const struct cache_policy *p)
{
    const struct cache_lirs *s = (const struct cache_lirs *)p->memory;
    uint32_t slot = s->queue[cache__list_oldest(s->queue, 0)].newer;

    CACHE__PREFETCH(&s->queue[slot]);
    CACHE__PREFETCH(&p->links[slot]);
    return slot;
}

/* Q has the entries that are no L; *in_s is how many of them are in S. */
CACHE_COLD const char *cache__lirs_check_queue(const struct cache_policy *p,
                                               uint32_t len, uint32_t *in_s)
{
    const struct cache_lirs *s = (const struct cache_lirs *)p->memory;
    const char *broken = cache__list_check(s->queue, 0, p->capacity, len);
    uint32_t slot;

    *in_s = 0;
    if (broken)
        return broken;
    for (slot = s->queue[0].older; slot != 0; slot = s->queue[slot].older) {
        if (cache__bit(p->marks, slot))
            return "LIRS: a LIR entry is in the queue";
        *in_s += cache__bit(cache__lirs_in_s(p), slot);
    }
    return NULL;
}

/* In S are all L, all ghosts and so many h. */
CACHE_COLD const char *cache__lirs_check_stack(const struct cache_policy *p,
                                               uint32_t n_h)
{
    const struct cache_lirs *s = (const struct cache_lirs *)p->memory;
    uint32_t ghosts = cache__dir_len(&s->gone), n_lir = s->n_lir, node;
    uint32_t last = p->capacity + s->gone.lists.n;
    const char *broken =
        cache__list_check(p->links, 0, last, n_lir + ghosts + n_h);

    if (broken)
        return broken;
    for (node = p->links[0].older; node != 0; node = p->links[node].older) {
        if (node > p->capacity) {
            ghosts--;
            if (!cache__dir_chained(&s->gone, node - p->capacity))
                return "LIRS: a ghost that was forgotten is in the stack";
        } else {
            n_lir -= cache__bit(p->marks, node);
            if (!cache__bit(cache__lirs_in_s(p), node))
                return "LIRS: an entry does not know that it is in the stack";
        }
    }
    if (n_lir != 0 || ghosts != 0)
        return "LIRS: a LIR entry or a ghost is not in the stack";
    node = cache__list_oldest(p->links, 0);
    if (node != 0 && (node > p->capacity || !cache__bit(p->marks, node)))
        return "LIRS: the bottom of the stack is not a LIR entry";
    return NULL;
}

CACHE_COLD const char *cache_lirs_check(const struct cache_policy *p,
                                        uint32_t len)
{
    const struct cache_lirs *s = (const struct cache_lirs *)p->memory;
    const char *broken = cache__dir_check(&s->gone);
    uint32_t n_h;

    if (broken)
        return broken;
    if (s->gone.lists.len[1] != 0)
        return "LIRS: a ghost is in a list that LIRS has no use for";
    if (s->n_lir > len || s->n_lir > cache__lirs_share(p->capacity))
        return "LIRS: more LIR entries than there may be";
    broken = cache__lirs_check_queue(p, len - s->n_lir, &n_h);
    return broken ? broken : cache__lirs_check_stack(p, n_h);
}

static const struct cache_policy_verbs cache_lirs CACHE_UNUSED = {
    "lirs",
    cache_lirs_layout,
    cache_lirs_init,
    cache_lirs_admit,
    cache_lirs_add,
    cache_lirs_hit,
    NULL,
    cache__no_change,
    cache_lirs_remove,
    cache_lirs_victim,
    cache_lirs_evict,
    cache_lirs_ahead,
    cache_lirs_check,
    true,
};

/* --- S3-FIFO: simple, scalable, three static FIFO queues -----------------
 * J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi: "FIFO Queues are All You
 * Need for Cache Eviction", SOSP 2023.
 *
 *     a new key                  two hits or more
 *        |               +------------------------------+
 *        v               |                              v
 *     [newest] --> ... [oldest]      +-----------> [newest] --> ... [oldest]
 *          small, 10 %   |           |               ^  main, 90 %    |   |
 *                        | leaves    | in ghosts     | hit: one mark  |   |
 *                        v           |               | less, again    |   v
 *                    ( ghosts ) ---> a key that      +----------------+  leaves
 *                    as many as main comes back
 *
 * A hit adds a mark to the entry, up to three, and moves nothing.  Small
 * leaves quickly: what was not used twice in it goes, and only its ghost
 * stays.  Main is a FIFO in which each mark is one more round.
 *
 * Small gives the victims as long as it has its tenth of `full`, rounded down
 * but at least one entry, and main gives them otherwise.  So main has the
 * rest, and small has all the room that main does not fill yet; and when
 * `full` falls, both get shorter by the same rule.
 *
 * Ghosts are counted by the clock of their stamps: it ticks once for each, and
 * a ghost older than main is long is forgotten.  In a large cache it ticks for
 * 2, 4, 8 ... of them, so that 16 bits are enough for 16 capacities; a set of
 * the table is long overwritten then.
 */

enum {
    CACHE__S3FIFO_MARKS = 3,   /* at most; they are two bits */
    CACHE__S3FIFO_PROMOTE = 2, /* marks that lead from small to main */
    CACHE__S3FIFO_TICKS = 4096 /* of the clock, at most, for one capacity */
};

struct cache_s3fifo {
    uint32_t n_small, n_main;   /* entries in each queue */
    uint64_t n_left;            /* ghosts made so far */
    uint32_t shift;             /* 2 to the power of it are one tick */
    uint32_t *in_main;          /* bits, by slot: it is in the main queue */
    struct cache_ghosts ghosts; /* about capacity of them */
};

/* Also says how many bytes there are, for which memory may be NULL. */
CACHE_INLINE size_t cache__s3fifo_cut(struct cache_policy *p,
                                      struct cache_s3fifo *s, void *memory,
                                      uint32_t capacity)
{
    size_t at = sizeof(struct cache_s3fifo);

    p->links = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + 2, sizeof(struct cache_link));
    p->marks = (uint32_t *)cache__cut(
        memory, &at, cache__twobit_words(capacity), sizeof(uint32_t));
    s->in_main = (uint32_t *)cache__cut(memory, &at, cache__bit_words(capacity),
                                        sizeof(uint32_t));
    s->ghosts.n_sets = cache__ghost_sets(capacity);
    s->ghosts.slots = (uint32_t *)cache__cut(
        memory, &at, s->ghosts.n_sets, CACHE__GHOST_WAYS * sizeof(uint32_t));
    return at;
}

/* The ring of the main queue; that of the small one is 0. */
CACHE_INLINE uint32_t cache__s3fifo_main(const struct cache_policy *p)
{
    return p->capacity + 1;
}

CACHE_INLINE uint32_t cache__s3fifo_small_share(const struct cache_policy *p)
{
    return p->full < 10 ? 1 : p->full / 10;
}

/* Returns whether the key is a ghost that is young enough; it is none then. */
CACHE_INLINE bool cache__s3fifo_returns(struct cache_policy *p, uint64_t hash)
{
    struct cache_s3fifo *s = (struct cache_s3fifo *)p->memory;
    uint32_t n_ghosts = p->full - cache__s3fifo_small_share(p), age;

    return cache__ghost_take(&s->ghosts, hash,
                             (uint32_t)(s->n_left >> s->shift), &age) &&
           age <= n_ghosts >> s->shift;
}

CACHE_INLINE void cache__s3fifo_push(struct cache_policy *p, uint32_t slot,
                                     bool in_main)
{
    struct cache_s3fifo *s = (struct cache_s3fifo *)p->memory;

    cache__two_marks_set(p->marks, slot, 0);
    if (in_main) {
        cache__bit_set(s->in_main, slot);
        cache__list_push(p->links, cache__s3fifo_main(p), slot);
        s->n_main++;
    } else {
        cache__bit_clear(s->in_main, slot);
        cache__list_push(p->links, 0, slot);
        s->n_small++;
    }
}

CACHE_VERB size_t cache_s3fifo_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_s3fifo s;

    return cache__s3fifo_cut(&p, &s, NULL, capacity);
}

CACHE_VERB void cache_s3fifo_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_s3fifo *s = (struct cache_s3fifo *)p->memory;

    (void)seed;
    memset(s, 0, sizeof *s);
    cache__s3fifo_cut(p, s, p->memory, p->capacity);
    cache__zero(p, s->ghosts.slots,
                (size_t)s->ghosts.n_sets * CACHE__GHOST_WAYS *
                    sizeof(uint32_t));
    while (p->capacity >> s->shift > CACHE__S3FIFO_TICKS)
        s->shift++;
    cache__list_init(p->links, 0);
    cache__list_init(p->links, cache__s3fifo_main(p));
}

/* The set of ghosts is looked at by add, after the victim has left. */
CACHE_VERB void cache_s3fifo_admit(struct cache_policy *p,
                                   const struct cache_item *item)
{
    const struct cache_s3fifo *s = (const struct cache_s3fifo *)p->memory;

    CACHE__PREFETCH(cache__ghost_set(&s->ghosts, item->hash));
}

CACHE_VERB void cache_s3fifo_add(struct cache_policy *p, uint32_t slot,
                                 const struct cache_item *item)
{
    cache__s3fifo_push(p, slot, cache__s3fifo_returns(p, item->hash));
}

CACHE_VERB bool cache_s3fifo_touch(const struct cache_policy *p, uint32_t slot)
{
    uint32_t marks = cache__two_marks(p->marks, slot);

    if (marks < CACHE__S3FIFO_MARKS)
        cache__two_marks_set(p->marks, slot, marks + 1);
    return true;
}

CACHE_VERB void cache_s3fifo_hit(struct cache_policy *p, uint32_t slot,
                                 uint64_t hash)
{
    (void)hash;
    cache_s3fifo_touch(p, slot);
}

CACHE_VERB void cache_s3fifo_remove(struct cache_policy *p, uint32_t slot)
{
    struct cache_s3fifo *s = (struct cache_s3fifo *)p->memory;

    cache__list_unlink(p->links, slot);
    if (cache__bit(s->in_main, slot))
        s->n_main--;
    else
        s->n_small--;
}

/* Ends: small gets shorter at each step, and main loses a mark. */
CACHE_VERB uint32_t cache_s3fifo_victim(struct cache_policy *p)
{
    const struct cache_s3fifo *s = (const struct cache_s3fifo *)p->memory;
    uint32_t ring = cache__s3fifo_main(p), slot, marks;

    while (s->n_small >= cache__s3fifo_small_share(p) || s->n_main == 0) {
        slot = cache__list_oldest(p->links, 0);
        if (cache__two_marks(p->marks, slot) < CACHE__S3FIFO_PROMOTE)
            return slot;
        cache_s3fifo_remove(p, slot);
        cache__s3fifo_push(p, slot, true);
    }
    for (;;) {
        slot = cache__list_oldest(p->links, ring);
        marks = cache__two_marks(p->marks, slot);
        if (marks == 0)
            return slot;
        cache__two_marks_set(p->marks, slot, marks - 1);
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, ring, slot);
    }
}

CACHE_VERB void cache_s3fifo_evict(struct cache_policy *p, uint32_t slot,
                                   uint64_t hash)
{
    struct cache_s3fifo *s = (struct cache_s3fifo *)p->memory;

    if (!cache__bit(s->in_main, slot)) {
        uint32_t now = (uint32_t)(s->n_left >> s->shift);
        cache__ghost_put(&s->ghosts, hash, now, now);
        s->n_left++;
    }
    cache_s3fifo_remove(p, slot);
}

/* The second oldest of the queue that gives the next victim. */
CACHE_VERB uint32_t cache_s3fifo_ahead(const struct cache_policy *p)
{
    const struct cache_s3fifo *s = (const struct cache_s3fifo *)p->memory;
    uint32_t ring =
        s->n_small >= cache__s3fifo_small_share(p) ? 0 : cache__s3fifo_main(p);
    uint32_t slot = p->links[cache__list_oldest(p->links, ring)].newer;

    CACHE__PREFETCH(&p->links[slot]);
    return slot == ring ? 0 : slot;
}

CACHE_COLD const char *cache_s3fifo_check(const struct cache_policy *p,
                                          uint32_t len)
{
    const struct cache_s3fifo *s = (const struct cache_s3fifo *)p->memory;
    uint32_t ring = cache__s3fifo_main(p), slot;
    size_t ghost, n_ghosts = (size_t)s->ghosts.n_sets * CACHE__GHOST_WAYS;
    const char *broken;

    if (s->n_small > len || s->n_main != len - s->n_small)
        return "S3-FIFO: its entries are not the cache's";
    broken = cache__list_check(p->links, 0, p->capacity, s->n_small);
    if (!broken)
        broken = cache__list_check(p->links, ring, p->capacity, s->n_main);
    if (broken)
        return broken;
    for (slot = p->links[0].older; slot != 0; slot = p->links[slot].older)
        if (cache__bit(s->in_main, slot))
            return "S3-FIFO: an entry of the small queue is marked as of main";
    for (slot = p->links[ring].older; slot != ring; slot = p->links[slot].older)
        if (!cache__bit(s->in_main, slot))
            return "S3-FIFO: an entry of the main queue is not marked so";
    for (ghost = 0; ghost < n_ghosts; ghost++)
        if (s->ghosts.slots[ghost] && !(s->ghosts.slots[ghost] & 0x10000u))
            return "S3-FIFO: a ghost has no fingerprint";
    return NULL;
}

static const struct cache_policy_verbs cache_s3fifo CACHE_UNUSED = {
    "s3fifo",
    cache_s3fifo_layout,
    cache_s3fifo_init,
    cache_s3fifo_admit,
    cache_s3fifo_add,
    cache_s3fifo_hit,
    cache_s3fifo_touch,
    cache__no_change,
    cache_s3fifo_remove,
    cache_s3fifo_victim,
    cache_s3fifo_evict,
    cache_s3fifo_ahead,
    cache_s3fifo_check,
    false,
};

/* --- W-TinyLFU -----------------------------------------------------------
 * G. Einziger, R. Friedman, B. Manes: "TinyLFU: A Highly Efficient Cache
 * Admission Policy", ACM Transactions on Storage 13(4), 2017.  The size of the
 * window: G. Einziger, O. Eytan, R. Friedman, B. Manes: "Adaptive Software
 * Cache Management", Middleware 2018, the hill climber.
 *
 *  a new key                                            hit
 *      |                    the one used         +----------------+
 *      v                    more often           |                v
 *   WINDOW ---- oldest ----> CONTEST ----> PROBATION         PROTECTED
 *   an LRU of the            |    ^        20 % of main      80 % of main
 *   newest entries           |    |              |  ^             |
 *                            v    +--- oldest ---+  +-- oldest ---+
 *                         leaves                     if it is too long
 *
 * Main is a segmented LRU, and nobody enters a full one who was not used more
 * often than its next victim.  At a tie the victim stays: so a part of a loop
 * that is longer than the cache remains, where an LRU would lose all of it.
 *
 * How often a key was used is asked of a sketch (a count-min sketch of 4-bit
 * counters), which counts the keys that are not here as well.
 *
 *   one block of 64 bytes for 8 entries, chosen by the key's hash
 *   +----------------+----------------+----------------+----------------+
 *   | row 0: 32      | row 1: 32      | row 2: 32      | row 3: 32      |
 *   | counters       | counters  ^    |   ^            |              ^ |
 *   +---^------------+-----------|----+---|------------+--------------|-+
 *       +------------------------+--- the key's four, the least counts
 *
 * All four are in one line of the processor's cache.  To forget what was long
 * ago, the paper halves all counters from time to time.  Here one block after
 * the other is halved, so that no operation has to wait for all of them; each
 * has its turn once in 7 uses of as many keys as the cache has entries.
 *
 * The window's share of `full` climbs: it moves on by a step after each 10
 * uses for each entry, and turns round when the hit rate fell meanwhile.  The
 * steps get smaller, until the hit rate changes by 5 % and they are as large as
 * at first.
 *
 * Window and main sum to `full` exactly, and have at least one entry each
 * where `full` is 2 or more; at 1 there is a window alone.  Where the lengths
 * are not what they should be (the window has just climbed, `full` is new), a
 * new key moves up to four entries over, and takes room from main for a window
 * that is too short.
 */

enum {
    CACHE__TINY_WINDOW, /* the three lists */
    CACHE__TINY_PROBATION,
    CACHE__TINY_PROTECTED,
    CACHE__TINY_LISTS,

    CACHE__TINY_ROWS = 4,    /* counters of a key */
    CACHE__TINY_BLOCK = 8,   /* words of a block, and entries for each */
    CACHE__TINY_HALVING = 7, /* uses for each entry between two halvings */
    CACHE__TINY_SAMPLE = 10, /* uses for each entry between two steps */
    CACHE__TINY_MOVES = 4,   /* from list to list, for each new key */

    CACHE__TINY_ALL = 1 << 16,                /* shares are parts of this */
    CACHE__TINY_FIRST = CACHE__TINY_ALL / 10, /* the window at first */
    CACHE__TINY_MOST = CACHE__TINY_ALL / 100 * 99, /* it may have */
    CACHE__TINY_STEP = CACHE__TINY_ALL / 16, /* of the climber, the longest */
    CACHE__TINY_DECAY = 50, /* the next step is shorter by a 50th */

    CACHE__TINY_RATE = 1 << 20, /* hit rates are parts of this */
    CACHE__TINY_RESTART = CACHE__TINY_RATE / 20 /* a change that is large */
};

struct cache_wtinylfu {
    uint32_t n[CACHE__TINY_LISTS]; /* entries of each list */
    uint32_t n_blocks;             /* of the sketch */
    uint32_t next_block;           /* that will be halved */
    uint64_t due;                  /* it is, when this is large enough */
    uint64_t *blocks;              /* CACHE__TINY_BLOCK words each */
    uint32_t *hashes;              /* by slot: the upper half of the hash */

    uint64_t uses, hits; /* of this sample */
    int64_t rate;        /* hits of the last sample */
    int32_t share;       /* of the window */
    int32_t step;        /* of the window; negative while it shrinks */
};

/* Also says how many bytes there are, for which memory may be NULL. */
CACHE_INLINE size_t cache__tiny_cut(struct cache_policy *p,
                                    struct cache_wtinylfu *s, void *memory,
                                    uint32_t capacity)
{
    size_t at = cache__round_up(sizeof(struct cache_wtinylfu), 64);

    s->n_blocks = capacity / CACHE__TINY_BLOCK + 1;
    s->blocks = (uint64_t *)cache__cut(memory, &at, s->n_blocks,
                                       CACHE__TINY_BLOCK * sizeof(uint64_t));
    p->links = (struct cache_link *)cache__cut(
        memory, &at, (size_t)capacity + CACHE__TINY_LISTS,
        sizeof(struct cache_link));
    s->hashes = (uint32_t *)cache__cut(memory, &at, (size_t)capacity + 1,
                                       sizeof(uint32_t));
    /* the list that a slot is in */
    p->marks = (uint32_t *)cache__cut(
        memory, &at, cache__twobit_words(capacity), sizeof(uint32_t));
    return at;
}

/* --- W-TinyLFU: its sketch */

CACHE_INLINE uint64_t *cache__tiny_block(const struct cache_wtinylfu *s,
                                         uint32_t hash)
{
    uint64_t block = ((uint64_t)hash * s->n_blocks) >> 32;

    return &s->blocks[block * CACHE__TINY_BLOCK];
}

/* Where the counters of a key are in the rows: 5 bits for each, row 0 lowest.
 */
CACHE_INLINE uint32_t cache__tiny_places(uint32_t hash)
{
    return (uint32_t)((hash * UINT64_C(0x9e3779b97f4a7c15)) >> 44);
}

/* Finds the counter of a row: a word, and how far it has to be shifted. */
CACHE_INLINE uint64_t *cache__tiny_counter(uint64_t *block, uint32_t places,
                                           uint32_t row, uint32_t *shift)
{
    uint32_t place = places >> row * 5 & 31;

    *shift = (place & 15) * 4;
    return &block[row * 2 + (place >> 4)];
}

/* How often the key was used lately, 0 to 15. */
CACHE_INLINE uint32_t cache__tiny_count(const struct cache_wtinylfu *s,
                                        uint32_t hash)
{
    uint64_t *block = cache__tiny_block(s, hash);
    uint32_t places = cache__tiny_places(hash), row, shift, least = 15;

    for (row = 0; row < CACHE__TINY_ROWS; row++) {
        uint64_t *word = cache__tiny_counter(block, places, row, &shift);
        uint32_t count = (uint32_t)(*word >> shift) & 15;
        if (count < least)
            least = count;
    }
    return least;
}

/* Halves the next block, if it is due: in CACHE__TINY_HALVING uses for each
 * entry they all are once.  Where `full` is much below the capacity, it is one
 * for each use. */
CACHE_INLINE void cache__tiny_age(struct cache_policy *p)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    uint64_t *block = &s->blocks[(size_t)s->next_block * CACHE__TINY_BLOCK];
    uint64_t round = (uint64_t)CACHE__TINY_HALVING * p->full;
    uint32_t i;

    s->due += s->n_blocks;
    if (s->due < round)
        return;
    s->due = s->n_blocks < round ? s->due - round : 0;
    for (i = 0; i < CACHE__TINY_BLOCK; i++)
        block[i] = block[i] >> 1 & UINT64_C(0x7777777777777777);
    s->next_block = (s->next_block + 1) % s->n_blocks;
}

/* Counts a use; one that changes nothing, as all four are at 15, makes nothing
 * older either. */
CACHE_INLINE void cache__tiny_use(struct cache_policy *p, uint32_t hash)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    uint64_t *block = cache__tiny_block(s, hash);
    uint32_t places = cache__tiny_places(hash), row, shift;
    bool counted = false;

    for (row = 0; row < CACHE__TINY_ROWS; row++) {
        uint64_t *word = cache__tiny_counter(block, places, row, &shift);
        if ((*word >> shift & 15) < 15) {
            *word += (uint64_t)1 << shift;
            counted = true;
        }
    }
    if (counted)
        cache__tiny_age(p);
}

/* --- W-TinyLFU: its lists */

CACHE_INLINE uint32_t cache__tiny_ring(const struct cache_policy *p,
                                       uint32_t list)
{
    return list == CACHE__TINY_WINDOW ? 0 : p->capacity + list;
}

CACHE_INLINE uint32_t cache__tiny_oldest(const struct cache_policy *p,
                                         uint32_t list)
{
    return cache__list_oldest(p->links, cache__tiny_ring(p, list));
}

CACHE_INLINE void cache__tiny_push(struct cache_policy *p, uint32_t list,
                                   uint32_t slot)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;

    s->n[list]++;
    cache__twobit_set(p->marks, slot, list);
    cache__list_push(p->links, cache__tiny_ring(p, list), slot);
}

CACHE_INLINE void cache__tiny_unlink(struct cache_policy *p, uint32_t slot)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;

    s->n[cache__twobit(p->marks, slot)]--;
    cache__list_unlink(p->links, slot);
}

/* The oldest of a list becomes the newest of another. */
CACHE_INLINE void cache__tiny_move(struct cache_policy *p, uint32_t from,
                                   uint32_t to)
{
    uint32_t slot = cache__tiny_oldest(p, from);

    cache__tiny_unlink(p, slot);
    cache__tiny_push(p, to, slot);
}

/* --- W-TinyLFU: how long they should be */

CACHE_INLINE uint32_t cache__tiny_window(const struct cache_policy *p)
{
    const struct cache_wtinylfu *s = (const struct cache_wtinylfu *)p->memory;
    uint64_t part = (uint64_t)s->share * p->full + CACHE__TINY_ALL / 2;
    uint32_t window = (uint32_t)(part / CACHE__TINY_ALL);

    if (window >= p->full)
        window = p->full - 1;
    return window ? window : 1;
}

CACHE_INLINE uint32_t cache__tiny_protected(const struct cache_policy *p)
{
    return (uint32_t)((uint64_t)(p->full - cache__tiny_window(p)) * 4 / 5);
}

CACHE_INLINE uint32_t cache__tiny_main(const struct cache_wtinylfu *s)
{
    return s->n[CACHE__TINY_PROBATION] + s->n[CACHE__TINY_PROTECTED];
}

/* One move that brings the lists nearer to their lengths.  What the window
 * gets back from main is older than all it has.  Returns whether there was
 * one. */
CACHE_INLINE bool cache__tiny_settle(struct cache_policy *p)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    uint32_t window = cache__tiny_window(p), slot;

    if (s->n[CACHE__TINY_WINDOW] > window) {
        cache__tiny_move(p, CACHE__TINY_WINDOW, CACHE__TINY_PROBATION);
    } else if (s->n[CACHE__TINY_PROTECTED] > cache__tiny_protected(p)) {
        cache__tiny_move(p, CACHE__TINY_PROTECTED, CACHE__TINY_PROBATION);
    } else if (s->n[CACHE__TINY_WINDOW] < window &&
               s->n[CACHE__TINY_PROBATION] > 0 &&
               cache__tiny_main(s) > p->full - window) {
        slot = cache__tiny_oldest(p, CACHE__TINY_PROBATION);
        cache__tiny_unlink(p, slot);
        s->n[CACHE__TINY_WINDOW]++;
        cache__twobit_set(p->marks, slot, CACHE__TINY_WINDOW);
        /* the oldest in the place of the ring: next to it, on its older side */
        cache__list_push(p->links, cache__tiny_oldest(p, CACHE__TINY_WINDOW),
                         slot);
    } else {
        return false;
    }
    return true;
}

/* --- W-TinyLFU: the climber */

/* Ends a sample. */
CACHE_COLD void cache__tiny_climb(struct cache_policy *p)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    int64_t rate = (int64_t)(s->hits * CACHE__TINY_RATE / s->uses);
    int64_t change = rate - s->rate;

    if (change < 0)
        s->step = -s->step;
    s->share += s->step;
    if (s->share < 0)
        s->share = 0;
    if (s->share > CACHE__TINY_MOST)
        s->share = CACHE__TINY_MOST;

    if (change >= CACHE__TINY_RESTART || change <= -CACHE__TINY_RESTART)
        s->step = s->step < 0 ? -CACHE__TINY_STEP : CACHE__TINY_STEP;
    else
        s->step -= s->step / CACHE__TINY_DECAY;
    s->rate = rate;
    s->uses = s->hits = 0;
}

CACHE_INLINE void cache__tiny_sample(struct cache_policy *p, bool hit)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;

    s->hits += hit;
    s->uses++;
    if (s->uses >= (uint64_t)CACHE__TINY_SAMPLE * p->full)
        cache__tiny_climb(p);
}

/* --- W-TinyLFU: the verbs */

CACHE_VERB size_t cache_wtinylfu_layout(uint32_t capacity)
{
    struct cache_policy p;
    struct cache_wtinylfu s;

    return cache__tiny_cut(&p, &s, NULL, capacity);
}

CACHE_VERB void cache_wtinylfu_init(struct cache_policy *p, uint64_t seed)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    uint32_t list;

    (void)seed;
    memset(s, 0, sizeof *s);
    cache__tiny_cut(p, s, p->memory, p->capacity);
    memset(s->blocks, 0,
           (size_t)s->n_blocks * CACHE__TINY_BLOCK * sizeof(uint64_t));
    for (list = 0; list < CACHE__TINY_LISTS; list++)
        cache__list_init(p->links, cache__tiny_ring(p, list));
    s->share = CACHE__TINY_FIRST;
    s->step = CACHE__TINY_STEP;
}

CACHE_VERB void cache_wtinylfu_admit(struct cache_policy *p,
                                     const struct cache_item *item)
{
    uint32_t moves;

    cache__tiny_use(p, (uint32_t)(item->hash >> 32));
    cache__tiny_sample(p, false);
    for (moves = 0; moves < CACHE__TINY_MOVES; moves++)
        if (!cache__tiny_settle(p))
            break;
}

/* Main gets what the window has one too many of: who has won the contest, or,
 * while the cache fills up, without one. */
CACHE_VERB void cache_wtinylfu_add(struct cache_policy *p, uint32_t slot,
                                   const struct cache_item *item)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;

    s->hashes[slot] = (uint32_t)(item->hash >> 32);
    cache__tiny_push(p, CACHE__TINY_WINDOW, slot);
    if (s->n[CACHE__TINY_WINDOW] > cache__tiny_window(p))
        cache__tiny_move(p, CACHE__TINY_WINDOW, CACHE__TINY_PROBATION);
}

CACHE_VERB void cache_wtinylfu_hit(struct cache_policy *p, uint32_t slot,
                                   uint64_t hash)
{
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)p->memory;
    uint32_t list = cache__twobit(p->marks, slot);

    cache__tiny_use(p, (uint32_t)(hash >> 32));
    if (list == CACHE__TINY_PROBATION) {
        cache__tiny_unlink(p, slot);
        cache__tiny_push(p, CACHE__TINY_PROTECTED, slot);
        if (s->n[CACHE__TINY_PROTECTED] > cache__tiny_protected(p))
            cache__tiny_move(p, CACHE__TINY_PROTECTED, CACHE__TINY_PROBATION);
    } else if (cache__list_newest(p->links, cache__tiny_ring(p, list)) !=
               slot) {
        cache__list_unlink(p->links, slot);
        cache__list_push(p->links, cache__tiny_ring(p, list), slot);
    }
    cache__tiny_sample(p, true);
}

CACHE_VERB void cache_wtinylfu_remove(struct cache_policy *p, uint32_t slot)
{
    cache__tiny_unlink(p, slot);
}

/* The contest.  A main that is too long gives the victim without one.  The
 * candidate that wins is moved by add, which makes the window too long. */
CACHE_VERB uint32_t cache_wtinylfu_victim(struct cache_policy *p)
{
    const struct cache_wtinylfu *s = (const struct cache_wtinylfu *)p->memory;
    uint32_t candidate = cache__tiny_oldest(p, CACHE__TINY_WINDOW), victim;

    if (cache__tiny_main(s) == 0)
        return candidate;
    victim = cache__tiny_oldest(p, s->n[CACHE__TINY_PROBATION] > 0
                                       ? CACHE__TINY_PROBATION
                                       : CACHE__TINY_PROTECTED);
    if (s->n[CACHE__TINY_WINDOW] == 0 ||
        cache__tiny_main(s) > p->full - cache__tiny_window(p))
        return victim;
    return cache__tiny_count(s, s->hashes[candidate]) >
                   cache__tiny_count(s, s->hashes[victim])
               ? victim
               : candidate;
}

CACHE_VERB void cache_wtinylfu_evict(struct cache_policy *p, uint32_t slot,
                                     uint64_t hash)
{
    (void)hash;
    cache__tiny_unlink(p, slot);
}

/* The next candidate but one: most lose. */
CACHE_VERB uint32_t cache_wtinylfu_ahead(const struct cache_policy *p)
{
    const struct cache_wtinylfu *s = (const struct cache_wtinylfu *)p->memory;
    uint32_t slot = p->links[cache__tiny_oldest(p, CACHE__TINY_WINDOW)].newer;

    CACHE__PREFETCH(&p->links[slot]);
    CACHE__PREFETCH(&s->hashes[slot]);
    return slot;
}

CACHE_COLD const char *cache_wtinylfu_check(const struct cache_policy *p,
                                            uint32_t len)
{
    const struct cache_wtinylfu *s = (const struct cache_wtinylfu *)p->memory;
    uint32_t list, slot, n = 0;

    for (list = 0; list < CACHE__TINY_LISTS; list++) {
        uint32_t ring = cache__tiny_ring(p, list);
        const char *broken =
            cache__list_check(p->links, ring, p->capacity, s->n[list]);
        if (broken)
            return broken;
        for (slot = p->links[ring].older; slot != ring;
             slot = p->links[slot].older)
            if (cache__twobit(p->marks, slot) != list)
                return "W-TinyLFU: an entry is marked as of another list";
        n += s->n[list];
    }
    if (n != len)
        return "W-TinyLFU: its entries are not the cache's";
    if (s->next_block >= s->n_blocks ||
        s->due >= (uint64_t)CACHE__TINY_HALVING * p->capacity)
        return "W-TinyLFU: the sketch is not halved in time";
    if (s->share < 0 || s->share > CACHE__TINY_MOST ||
        s->step > CACHE__TINY_STEP || s->step < -CACHE__TINY_STEP)
        return "W-TinyLFU: the window has climbed too far";
    if (s->hits > s->uses || s->rate < 0 || s->rate > CACHE__TINY_RATE)
        return "W-TinyLFU: more hits than uses";
    return NULL;
}

static const struct cache_policy_verbs cache_wtinylfu CACHE_UNUSED = {
    "wtinylfu",
    cache_wtinylfu_layout,
    cache_wtinylfu_init,
    cache_wtinylfu_admit,
    cache_wtinylfu_add,
    cache_wtinylfu_hit,
    NULL,
    cache__no_change,
    cache_wtinylfu_remove,
    cache_wtinylfu_victim,
    cache_wtinylfu_evict,
    cache_wtinylfu_ahead,
    cache_wtinylfu_check,
    false,
};

#endif /* CACHE_POLICIES_H */
