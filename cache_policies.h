/*
 * cache_policies.h - who has to leave when a bounded cache is full.
 *
 * WHAT IT DOES
 *   A policy orders the entries of one cache.  It sees slot numbers only:
 *   it knows nothing of keys, values, hashing or time, so every policy is
 *   plain C that a debugger can step through and a test can drive alone.
 *   cache.h includes this file; a program has no need to.
 *
 * THE VERBS
 *   Every policy has the same eight, in the same order:
 *     layout   bytes of state for a capacity
 *     init     lays an empty policy out in memory of any content
 *     add      a new entry stands in this slot
 *     hit      the entry in this slot was used
 *     remove   the entry in this slot leaves, for whatever reason
 *     victim   which slot should leave; the caller removes it afterwards
 *     likely   which slot victim would probably say, for prefetching: no cost
 *     check    walks every invariant; NULL, or what is broken
 *   A slot is 1-based and stays with its entry for life.  0 means none.
 *
 * MEMORY LAYOUT
 *   The lists are circular and run through slot 0, which is never an entry,
 *   so no operation has to ask whether it is at an end:
 *
 *          +--------------------------------------------------------+
 *          |   older->                                              |
 *        [ 0 ] ---> [newest] ---> [ 7 ] ---> [ 2 ] ---> [oldest] ---+
 *          ^                                  <-newer
 *
 *   links[0].older is the newest entry, links[0].newer the oldest.
 *
 * COST (per entry)          bytes     a hit writes
 *   FIFO                      8       nothing
 *   LRU                       8       up to 6 links, nothing when newest
 *   SIEVE                     8 1/8   one bit, nothing when already set
 *
 * THREADS
 *   None of its own: whoever owns the cache calls.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_POLICIES_H
#define CACHE_POLICIES_H

#include <stddef.h>
#include <stdint.h>

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

/* What only slow paths call: one copy for each translation unit. */
#if defined(__GNUC__)
#define CACHE_COLD static __attribute__((noinline, unused))
#else
#define CACHE_COLD static
#endif

/* One entry's place in a list. */
struct cache_link {
    uint32_t newer; /* neighbour towards the newest entry; 0 = there is none */
    uint32_t older; /* neighbour towards the oldest entry; 0 = there is none */
};

/* The state of any policy; each uses the fields that it needs. */
struct cache_policy {
    struct cache_link *links; /* capacity + 1 of them; [0] closes the circle */
    uint32_t *visited;        /* SIEVE: one bit per slot, set by a hit */
    uint32_t hand;            /* SIEVE: next slot to judge; 0 = the oldest */
};

/* --- lists --------------------------------------------------------------- */

CACHE_INLINE void cache__list_push(struct cache_link *links, uint32_t slot)
{
    uint32_t newest = links[0].older;

    links[slot].newer = 0;
    links[slot].older = newest;
    links[newest].newer = slot;
    links[0].older = slot;
}

CACHE_INLINE void cache__list_unlink(struct cache_link *links, uint32_t slot)
{
    struct cache_link gone = links[slot];

    links[gone.newer].older = gone.older;
    links[gone.older].newer = gone.newer;
}

/* Walks the circle once. Returns NULL, or what is broken. */
CACHE_COLD const char *cache__list_check(const struct cache_link *links,
                                         uint32_t capacity, uint32_t len)
{
    uint32_t n = 0, slot = 0;

    do {
        uint32_t older = links[slot].older;
        if (older > capacity)
            return "policy list: a link leads outside the cache";
        if (links[older].newer != slot)
            return "policy list: two neighbours disagree";
        slot = older;
    } while (slot != 0 && ++n <= len);
    return n == len ? NULL : "policy list: its length is not the cache's";
}

/* Rounds up, so that what follows in the same block stays aligned. */
CACHE_INLINE size_t cache__round_up(size_t bytes, size_t to)
{
    return (bytes + (to - 1)) / to * to;
}

CACHE_INLINE size_t cache__list_bytes(uint32_t capacity)
{
    return ((size_t)capacity + 1) * sizeof(struct cache_link);
}

/* --- FIFO: first in, first out ------------------------------------------- */

CACHE_INLINE size_t cache_fifo_layout(uint32_t capacity)
{
    return cache__list_bytes(capacity);
}

CACHE_INLINE void cache_fifo_init(struct cache_policy *p, void *memory,
                                  uint32_t capacity)
{
    (void)capacity;
    p->links = (struct cache_link *)memory;
    p->links[0].newer = p->links[0].older = 0;
}

CACHE_INLINE void cache_fifo_add(struct cache_policy *p, uint32_t slot)
{
    cache__list_push(p->links, slot);
}

CACHE_INLINE void cache_fifo_hit(struct cache_policy *p, uint32_t slot)
{
    (void)p;
    (void)slot;
}

CACHE_INLINE void cache_fifo_remove(struct cache_policy *p, uint32_t slot)
{
    cache__list_unlink(p->links, slot);
}

CACHE_INLINE uint32_t cache_fifo_victim(struct cache_policy *p)
{
    return p->links[0].newer;
}

CACHE_INLINE uint32_t cache_fifo_likely(const struct cache_policy *p)
{
    return p->links[0].newer;
}

CACHE_INLINE const char *cache_fifo_check(const struct cache_policy *p,
                                          uint32_t capacity, uint32_t len)
{
    return cache__list_check(p->links, capacity, len);
}

/* --- LRU: least recently used -------------------------------------------- */

CACHE_INLINE size_t cache_lru_layout(uint32_t capacity)
{
    return cache__list_bytes(capacity);
}

CACHE_INLINE void cache_lru_init(struct cache_policy *p, void *memory,
                                 uint32_t capacity)
{
    cache_fifo_init(p, memory, capacity);
}

CACHE_INLINE void cache_lru_add(struct cache_policy *p, uint32_t slot)
{
    cache__list_push(p->links, slot);
}

CACHE_INLINE void cache_lru_hit(struct cache_policy *p, uint32_t slot)
{
    if (p->links[0].older == slot)
        return;
    cache__list_unlink(p->links, slot);
    cache__list_push(p->links, slot);
}

CACHE_INLINE void cache_lru_remove(struct cache_policy *p, uint32_t slot)
{
    cache__list_unlink(p->links, slot);
}

CACHE_INLINE uint32_t cache_lru_victim(struct cache_policy *p)
{
    return p->links[0].newer;
}

CACHE_INLINE uint32_t cache_lru_likely(const struct cache_policy *p)
{
    return p->links[0].newer;
}

CACHE_INLINE const char *cache_lru_check(const struct cache_policy *p,
                                         uint32_t capacity, uint32_t len)
{
    return cache__list_check(p->links, capacity, len);
}

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

CACHE_INLINE size_t cache_sieve_layout(uint32_t capacity)
{
    return cache__list_bytes(capacity) +
           ((size_t)capacity / 32 + 1) * sizeof(uint32_t);
}

CACHE_INLINE void cache_sieve_init(struct cache_policy *p, void *memory,
                                   uint32_t capacity)
{
    unsigned char *bytes = (unsigned char *)memory;

    cache_fifo_init(p, memory, capacity);
    p->hand = 0;
    p->visited = (uint32_t *)(void *)(bytes + cache__list_bytes(capacity));
}

CACHE_INLINE uint32_t cache__sieve_bit(uint32_t slot)
{
    return (uint32_t)1 << (slot & 31);
}

CACHE_INLINE void cache_sieve_add(struct cache_policy *p, uint32_t slot)
{
    p->visited[slot >> 5] &= ~cache__sieve_bit(slot);
    cache__list_push(p->links, slot);
}

CACHE_INLINE void cache_sieve_hit(struct cache_policy *p, uint32_t slot)
{
    uint32_t *word = &p->visited[slot >> 5];

    if ((*word & cache__sieve_bit(slot)) == 0)
        *word |= cache__sieve_bit(slot);
}

CACHE_INLINE void cache_sieve_remove(struct cache_policy *p, uint32_t slot)
{
    if (p->hand == slot)
        p->hand = p->links[slot].newer;
    cache__list_unlink(p->links, slot);
}

/* The walk ends: each step takes a mark, and nothing sets one meanwhile. */
CACHE_INLINE uint32_t cache_sieve_victim(struct cache_policy *p)
{
    uint32_t slot = p->hand ? p->hand : p->links[0].newer;

    while (p->visited[slot >> 5] & cache__sieve_bit(slot)) {
        p->visited[slot >> 5] &= ~cache__sieve_bit(slot);
        slot = p->links[slot].newer;
        if (slot == 0) /* past the newest entry: begin again at the oldest */
            slot = p->links[0].newer;
    }
    p->hand = slot;
    return slot;
}

CACHE_INLINE uint32_t cache_sieve_likely(const struct cache_policy *p)
{
    return p->hand ? p->hand : p->links[0].newer;
}

CACHE_COLD const char *cache_sieve_check(const struct cache_policy *p,
                                         uint32_t capacity, uint32_t len)
{
    const char *broken = cache__list_check(p->links, capacity, len);
    uint32_t slot;

    if (broken || p->hand == 0)
        return broken;
    for (slot = p->links[0].older; slot != 0; slot = p->links[slot].older)
        if (slot == p->hand)
            return NULL;
    return "SIEVE: the hand stands on a slot that is not in the list";
}

#endif /* CACHE_POLICIES_H */
