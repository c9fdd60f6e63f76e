/* bytes.c - a limit in bytes, values that own memory, and pins. */
#include <inttypes.h>
#include <stdio.h>

#include "cache.h"

/* Pages by number: a text that belongs to the cache once it is in there. */
static uint64_t page_weight(const uint32_t *id, char *const *text, void *user)
{
    (void)id;
    (void)user;
    return strlen(*text) + 1;
}

static void page_left(const uint32_t *id, char **text, enum cache_cause cause,
                      void *user)
{
    (void)user;
    if (cause == CACHE_CAUSE_EVICTED)
        printf("page %" PRIu32 " left\n", *id);
    free(*text);
}

CACHE_DEFINE_WITH(pages, uint32_t, char *, cache_hash_u32, cache_equal_u32,
                  CACHE_LRU | CACHE_WEIGHED | CACHE_PINS,
                  .on_remove = page_left, .weigh = page_weight);

/* A page of n characters; what put refuses stays ours. */
static void make_page(struct pages *pages, uint32_t id, size_t n)
{
    char *text = (char *)malloc(n + 1);
    int rc;

    if (text == NULL)
        return;
    memset(text, 'x', n);
    text[n] = '\0';
    rc = pages_put(pages, id, text);
    if (rc != 0) {
        printf("page %" PRIu32 ": %s\n", id, cache_strerror(rc));
        free(text);
    }
}

int main(void)
{
    struct cache_config config = { .capacity = 100, .max_bytes = 10000 };
    struct pages pages;

    if (pages_init(&pages, &config) != 0)
        return 1;
    make_page(&pages, 1, 3000);
    make_page(&pages, 2, 3000);
    make_page(&pages, 3, 3000);
    pages_pin(&pages, 1);        /* being sent: it has to stay */
    make_page(&pages, 4, 6000);  /* so the two others make room */
    make_page(&pages, 5, 20000); /* more than max_bytes: nothing changes */
    pages_unpin(&pages, 1);
    printf("%" PRIu32 " pages, within the limit: %s\n", pages_len(&pages),
           pages_memory(&pages).used_bytes <= config.max_bytes ? "yes" : "no");
    pages_destroy(&pages);
    return 0;
}

/* prints:
page 2 left
page 3 left
page 5: full
2 pages, within the limit: yes
*/
