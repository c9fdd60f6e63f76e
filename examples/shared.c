/* shared.c - one cache for several threads: plain values, and values that own
 * memory. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "cache_shared.h"

/* Squares are bytes that refer to nothing: a get takes no lock. */
CACHE_DEFINE_SHARED(squares, uint64_t, uint64_t, cache_hash_u64,
                    cache_equal_u64, CACHE_STATS | CACHE_PLAIN_DATA);

/* A text is behind a pointer, and has a count of those who use it. */
struct text {
    uint32_t users;
    char line[32];
};

static void give_back(struct text *text)
{
    if (__atomic_sub_fetch(&text->users, 1, __ATOMIC_ACQ_REL) == 0)
        free(text);
}

/* Under the lock: get gives a copy of the pointer to one user more. */
static void retain(struct text *const *text, void *user)
{
    (void)user;
    __atomic_add_fetch(&(*text)->users, 1, __ATOMIC_RELAXED);
}

/* After it: the cache is not one of its users any more. */
static void removed(const uint64_t *key, struct text **text,
                    enum cache_cause cause, void *user)
{
    (void)key;
    (void)cause;
    (void)user;
    give_back(*text);
}

CACHE_DEFINE_SHARED_WITH(texts, uint64_t, struct text *, cache_hash_u64,
                         cache_equal_u64, CACHE_SIEVE, .on_remove = removed,
                         .retain = retain);

static struct squares squares;
static struct texts texts;

static void *work(void *first)
{
    uint64_t n, key;

    for (n = 0; n < 100000; n++) {
        struct text *text;
        uint64_t square;

        key = (*(const uint64_t *)first + n) % 1000;
        if (!squares_get(&squares, key, &square))
            squares_put(&squares, key, key * key);
        else if (square != key * key)
            abort();

        if (texts_get(&texts, key, &text)) {
            if (strtoull(text->line, NULL, 10) != key)
                abort();
            give_back(text);
        } else if ((text = calloc(1, sizeof *text)) != NULL) {
            text->users = 1;
            snprintf(text->line, sizeof text->line, "%" PRIu64, key);
            if (texts_put(&texts, key, text) != 0)
                give_back(text);
        }
    }
    return NULL;
}

int main(void)
{
    static const uint64_t first[] = { 0, 250, 500, 750 };
    struct cache_config large = { .capacity = 2000 };
    struct cache_config small = { .capacity = 500 };
    struct cache_stats stats;
    pthread_t threads[4];
    int i;

    if (squares_init(&squares, &large) != 0 || texts_init(&texts, &small) != 0)
        return 1;
    for (i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)&first[i]) != 0)
            return 1;
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    squares_stats(&squares, &stats);
    printf("%" PRIu64 " look-ups, %" PRIu32 " squares, %" PRIu32 " texts\n",
           stats.hits + stats.misses, squares_len(&squares), texts_len(&texts));
    squares_destroy(&squares);
    texts_destroy(&texts);
    return 0;
}

/* prints:
400000 look-ups, 1000 squares, 500 texts
*/
