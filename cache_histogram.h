/*
 * cache_histogram.h - how long things take, in a few kilobytes.
 *
 * WHAT IT DOES
 *   Counts durations in nanoseconds, any from 0 to UINT64_MAX, and gives their
 *   mean and their quantiles: how long half of them took at most, or 99 in 100.
 *   A quantile is never too short, and too long by an eighth at most; below
 *   16 ns, and for the longest of all, it is exact.
 *
 *   EXAMPLE
 *     #include "cache_histogram.h"
 *
 *     struct cache_histogram loads = { 0 };       // zeroes: an empty one
 *     cache_histogram_add(&loads, end_ns - start_ns);
 *     printf("median %" PRIu64 " ns, the worst of 1000: %" PRIu64 " ns\n",
 *            cache_histogram_quantile(&loads, 0.5),
 *            cache_histogram_quantile(&loads, 0.999));
 *
 * MEMORY LAYOUT
 *   One struct of 3984 bytes, that points nowhere: copy it, write it to a file.
 *   Each power of two has eight buckets of the same width:
 *
 *     counts:  | 0| 1| ...|15|16,17|18,19| ... |30,31|32..35| ... |60..63| ...
 *     width:   |     1 ns    |       2 ns            |       4 ns        | ...
 *
 *   From 16 on, a bucket is that of the numbers with the same upper four bits.
 *
 * THREADS
 *   Whoever owns a histogram calls everything.  Or several threads call
 *   cache_histogram_add_shared, and nothing else that writes to it; then
 *   those that read it may do so meanwhile, and see some of the additions that
 *   are under way, of one of them perhaps the maximum but not yet the count.
 *   None gets lost.  add_shared is there with gcc and clang only.
 *
 * COST
 *   An addition: 14 instructions, no branch.  A shared one: two atomic
 *   additions, for which threads that do little else wait: give each a
 *   histogram of its own and merge.  All else walks the buckets: a microsecond
 *   or less.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_HISTOGRAM_H
#define CACHE_HISTOGRAM_H

#include "cache_policies.h" /* CACHE_INLINE, CACHE_COLD, CACHE_ATOMIC_* */

#define CACHE_HISTOGRAM_BUCKETS 496 /* the last is that of UINT64_MAX */

/* All zeroes: nothing has been added. */
struct cache_histogram {
    uint64_t counts[CACHE_HISTOGRAM_BUCKETS]; /* durations, by bucket */
    uint64_t sum_ns; /* of all; begins anew after 584 years */
    uint64_t max_ns; /* the longest */
};

/* --- buckets ------------------------------------------------------------- */

/* How many bits a duration has more than the four that its bucket is about;
 * 0 for those of four bits and less. */
CACHE_INLINE uint32_t cache__histogram_shift(uint64_t ns)
{
#if defined(__GNUC__)
    return 60 - (uint32_t)__builtin_clzll(ns | 8);
#else
    uint32_t shift = 0;

    while (ns >> shift > 15)
        shift++;
    return shift;
#endif
}

/* The upper four bits are 8 to 15, so each shift adds eight to the number. */
CACHE_INLINE uint32_t cache__histogram_bucket(uint64_t ns)
{
    uint32_t shift = cache__histogram_shift(ns);

    return shift * 8 + (uint32_t)(ns >> shift);
}

/* The longest duration of a bucket. */
CACHE_INLINE uint64_t cache__histogram_longest(uint32_t bucket)
{
    uint32_t shift = bucket < 16 ? 0 : bucket / 8 - 1;

    /* 16 << 60 is 0, one less is UINT64_MAX. */
    return ((uint64_t)(bucket - shift * 8 + 1) << shift) - 1;
}

/* --- adding -------------------------------------------------------------- */

/* Counts one duration.  Threads: the owner. */
CACHE_INLINE void cache_histogram_add(struct cache_histogram *h, uint64_t ns)
{
    h->counts[cache__histogram_bucket(ns)]++;
    h->sum_ns += ns;
    h->max_ns = ns > h->max_ns ? ns : h->max_ns;
}

#if defined(CACHE_ATOMIC_ADD) && defined(__GNUC__)
/* The same.  Threads: any, while nobody but this function writes. */
CACHE_INLINE void cache_histogram_add_shared(struct cache_histogram *h,
                                             uint64_t ns)
{
    uint64_t max = CACHE_ATOMIC_LOAD(&h->max_ns);

    /* Whoever fails knows a longer one now, and it may be long enough. */
    while (ns > max &&
           !__atomic_compare_exchange_n(&h->max_ns, &max, ns, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    CACHE_ATOMIC_ADD(&h->sum_ns, ns);
    CACHE_ATOMIC_ADD(&h->counts[cache__histogram_bucket(ns)], (uint64_t)1);
}
#endif

/* Adds all that `from` has counted; both may be the same one.
 * Threads: the owner of `to`; any for `from`. */
CACHE_COLD void cache_histogram_merge(struct cache_histogram *to,
                                      const struct cache_histogram *from)
{
    uint64_t max = CACHE_ATOMIC_LOAD(&from->max_ns);
    uint32_t i;

    for (i = 0; i < CACHE_HISTOGRAM_BUCKETS; i++)
        to->counts[i] += CACHE_ATOMIC_LOAD(&from->counts[i]);
    to->sum_ns += CACHE_ATOMIC_LOAD(&from->sum_ns);
    to->max_ns = max > to->max_ns ? max : to->max_ns;
}

/* --- reading ------------------------------------------------------------- */

/* Returns how many durations were added.  Threads: any. */
CACHE_COLD uint64_t cache_histogram_count(const struct cache_histogram *h)
{
    uint64_t n = 0;
    uint32_t i;

    for (i = 0; i < CACHE_HISTOGRAM_BUCKETS; i++)
        n += CACHE_ATOMIC_LOAD(&h->counts[i]);
    return n;
}

/* Returns the mean, not rounded; 0 if nothing was added.  Threads: any. */
CACHE_COLD double cache_histogram_mean(const struct cache_histogram *h)
{
    uint64_t n = cache_histogram_count(h);

    return n ? (double)CACHE_ATOMIC_LOAD(&h->sum_ns) / (double)n : 0;
}

/* The shortest duration that a share q of all, 0 to 1, were not longer than:
 * 0.5 is the median, 0 the shortest, 1 the longest; less is taken for 0, more
 * for 1.  Returns the longest of its bucket, or the longest of all if that is
 * less; 0 if nothing was added.  Threads: any. */
CACHE_COLD uint64_t cache_histogram_quantile(const struct cache_histogram *h,
                                             double q)
{
    uint64_t max = CACHE_ATOMIC_LOAD(&h->max_ns);
    uint64_t rank = 1, seen = 0, longest;
    uint32_t i;

    if (q >= 1)
        return max;
    if (q > 0) {
        double share = q * (double)cache_histogram_count(h);

        rank = (uint64_t)share;
        if ((double)rank < share)
            rank++;
    }
    /* Counts only grow, so the rank is reached, at the last bucket at last. */
    for (i = 0; i < CACHE_HISTOGRAM_BUCKETS - 1; i++) {
        seen += CACHE_ATOMIC_LOAD(&h->counts[i]);
        if (seen >= rank)
            break;
    }
    longest = cache__histogram_longest(i);
    return longest < max ? longest : max;
}

#endif /* CACHE_HISTOGRAM_H */
