/* freshness.c - a page that is rendered once for all who want it, served stale
 * while it is rendered anew, and kept when rendering fails. */
#include <stdio.h>

#include "cache_loading.h"

struct page {
    char text[32];
};

CACHE_DEFINE_LOADING(pages, uint64_t, struct page, cache_hash_u64,
                     cache_equal_u64, CACHE_STATS);

static struct pages pages;
static uint64_t now_ms; /* a program has the system's clock instead */
static int n_rendered;
static bool broken;

static uint64_t now(void *user)
{
    (void)user;
    return now_ms;
}

/* What is dear: a loader has whatever signature the type says. */
static int render(const uint64_t *id, struct page *page,
                  struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    (void)user;
    if (broken)
        return CACHE_ESTORE;
    if (*id == 404)
        return CACHE_EKEY;
    n_rendered++;
    snprintf(page->text, sizeof page->text, "page %d, version %d", (int)*id,
             n_rendered);
    return 0;
}

static void show(uint64_t id)
{
    struct page page;
    int rc = pages_load(&pages, id, &page, render, NULL);

    printf("%5d ms: %s%s\n", (int)now_ms,
           rc < 0 ? cache_strerror(rc) : page.text,
           rc == CACHE_FOUND_STALE ? " (stale)" : "");
}

/* The same without a callback: for programs that load in their own time. */
static void claim(uint64_t id)
{
    static const char *const answers[] = { "hit", "stale, you refresh", "stale",
                                           "miss, you load", "miss, wait" };
    struct cache_claim first, second;
    struct page page;

    printf("first asks: %s\n", answers[pages_claim(&pages, id, &page, &first)]);
    printf("second asks: %s\n",
           answers[pages_claim(&pages, id, &page, &second)]);
    snprintf(page.text, sizeof page.text, "page %d, by hand", (int)id);
    pages_commit(&pages, &first, page);
    printf("both ask again: %s\n",
           answers[pages_claim(&pages, id, &page, &second)]);
}

int main(void)
{
    struct cache_loading_config config = { 0 };

    config.cache.capacity = 1000;
    config.cache.now = now;
    config.freshness.ttl_ms = 1000;            /* fresh for a second, */
    config.freshness.stale_ms = 500;           /* stale for a half, */
    config.freshness.stale_if_error_ms = 9000; /* a makeshift after that */
    config.freshness.negative_ttl_ms = 300;    /* what is not there */
    config.freshness.error_ttl_ms = 200;       /* when to try again */
    if (pages_init(&pages, &config) != 0)
        return 1;
    show(7);
    show(7);
    now_ms = 1200; /* stale: one of all readers, this one, renders it */
    show(7);
    now_ms = 5000; /* gone, but for the case of need */
    broken = true;
    show(7);
    show(404);
    broken = false;
    now_ms = 5100; /* nobody tries so soon */
    show(7);
    now_ms = 5300;
    show(7);
    show(404);
    pages_invalidate(&pages, CACHE_INVALIDATE_HARD); /* all of them, at once */
    claim(7);
    pages_destroy(&pages);
    return 0;
}

/* prints:
    0 ms: page 7, version 1
    0 ms: page 7, version 1
 1200 ms: page 7, version 2
 5000 ms: page 7, version 2 (stale)
 5000 ms: the store failed
 5100 ms: page 7, version 2 (stale)
 5300 ms: page 7, version 3
 5300 ms: the key is absent, or present where it must not be
first asks: miss, you load
second asks: miss, wait
both ask again: hit
*/
