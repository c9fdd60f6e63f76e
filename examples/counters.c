/* counters.c - compute, iteration, statistics, and memory of your own. */
#include <inttypes.h>
#include <stdio.h>

#include "cache.h"

/* Counts words: a struct as key, without padding. */
struct word {
    char text[8];
};

CACHE_STRUCT_KEY(word, struct word, 8);
CACHE_DEFINE(counts, struct word, uint32_t, word_hash, word_equal,
             CACHE_SIEVE | CACHE_STATS);

static int count(const struct word *key, uint32_t *n, bool present, void *user)
{
    (void)key;
    (void)user;
    *n = present ? *n + 1 : 1;
    return CACHE_COMPUTE_STORE;
}

int main(void)
{
    static const char *const text[] = { "the", "cat", "saw", "the", "dog",
                                        "the", "dog", "ran", "the", "cat" };
    static unsigned char memory[2000];
    struct cache_config config = { .capacity = 16 };
    struct counts_cursor at = { 0, NULL, NULL };
    struct cache_stats stats;
    struct counts counts;
    size_t i;

    /* No allocation at all: the cache lives in `memory`. */
    if (counts_init_in(&counts, &config, memory, sizeof memory) != 0)
        return 1;
    for (i = 0; i < sizeof text / sizeof *text; i++) {
        struct word key = { "" };

        memcpy(key.text, text[i], strlen(text[i]));
        counts_compute(&counts, key, count, NULL);
    }
    while (counts_next(&counts, &at)) /* removing while iterating is fine */
        if (*at.value == 1)
            counts_remove(&counts, *at.key);
        else
            printf("%s: %" PRIu32 "\n", at.key->text, *at.value);
    counts_stats(&counts, &stats);
    printf("%" PRIu64 " words, %" PRIu32 " more than once\n", stats.inserts,
           counts_len(&counts));
    counts_destroy(&counts);
    return 0;
}

/* prints:
the: 4
cat: 2
dog: 2
5 words, 3 more than once
*/
