/*
 * test_write_behind.c - the write-behind machine, sentence by sentence.
 *
 * Every step goes through a helper that walks the machine's invariants and
 * does its accounts afterwards.  Time is a number that the test makes up.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "cache_store.h"
#include "tests/test.h"

/* --- the machine under test, and what its hooks have seen ---------------- */

#define MAX_LETTERS 64
#define FOREVER 1000000u /* later than any backoff of these tests */

struct letter {
    enum cache_store_op op;
    char key[16], value[32];
    uint64_t expires_ms, version;
    int status;
};

static struct cache_wb w;
static struct letter letters[MAX_LETTERS];
static unsigned n_letters;
static unsigned n_allocs, n_frees; /* calls of the hooks */
static size_t alloc_bytes;         /* of the last block */
static bool alloc_fails;

static void *counting_alloc(size_t bytes, void *user)
{
    void *memory;

    if (alloc_fails || bytes > 1u << 30)
        return NULL;
    CHECK(user == &w);
    memory = malloc(bytes);
    if (memory != NULL)
        memset(memory, 0xa5, bytes); /* the machine may not rely on zeroes */
    n_allocs++;
    alloc_bytes = bytes;
    return memory;
}

static void counting_free(void *memory, void *user)
{
    CHECK(user == &w);
    n_frees++;
    free(memory);
}

static void text(char *out, size_t room, struct cache_bytes bytes)
{
    size_t n = bytes.len < room - 1 ? bytes.len : room - 1;

    memcpy(out, bytes.data, n);
    out[n] = '\0';
}

static void keep_letter(const struct cache_store_item *item, void *user)
{
    struct letter *l = &letters[n_letters];

    CHECK(user == &w);
    CHECK(n_letters < MAX_LETTERS);
    n_letters++;
    l->op = item->op;
    text(l->key, sizeof l->key, item->key);
    text(l->value, sizeof l->value, item->value);
    l->expires_ms = item->expires_ms;
    l->version = item->version;
    l->status = item->status;
}

/* Small enough that every limit is met; a test changes what it is about. */
static struct cache_wb_config small(void)
{
    struct cache_wb_config config;

    memset(&config, 0, sizeof config);
    config.max_key_bytes = 8;
    config.max_value_bytes = 16;
    config.max_dirty = 8;
    config.max_batch = 4;
    config.max_in_flight = 1;
    config.interval_ms = 100;
    config.retry_base_ms = 10;
    config.retry_cap_ms = 1000;
    config.seed = 7;
    config.on_dead_letter = keep_letter;
    config.alloc = counting_alloc;
    config.free = counting_free;
    config.user = &w;
    return config;
}

static void open_with(const struct cache_wb_config *config)
{
    n_letters = n_allocs = n_frees = 0;
    alloc_fails = false;
    CHECK_EQ(cache_wb_init(&w, config), 0);
    CHECK_SOUND(cache_wb_check(&w));
}

static void open_small(void)
{
    struct cache_wb_config config = small();

    open_with(&config);
}

/* Whatever is at the store is left there: only for the end of a test. */
static void shut(void)
{
    w.n_in_flight = 0;
    cache_wb_destroy(&w);
    CHECK_EQ(n_allocs, n_frees);
}

/* A write that was accepted is counted in one place, and only there. */
static void sound(void)
{
    const struct cache_wb_stats *s = &w.stats;
    uint32_t r, in_use = 0;

    CHECK_SOUND(cache_wb_check(&w));
    for (r = 1; r <= w.n_records; r++)
        in_use += w.records[r].state != CACHE_WB_FREE;
    CHECK_EQ(s->n_accepted,
             s->n_stored + s->n_coalesced + s->n_dead + s->n_lost + in_use);
    CHECK_EQ(s->n_dead + s->n_lost, n_letters);
}

/* --- steps: each ends in sound() ----------------------------------------- */

static struct cache_bytes bytes_of(const char *string)
{
    struct cache_bytes bytes;

    bytes.data = string;
    bytes.len = strlen(string);
    return bytes;
}

static struct cache_store_item item_of(const char *key, const char *value)
{
    struct cache_store_item item;

    memset(&item, 0, sizeof item);
    item.op = value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    item.key = bytes_of(key);
    if (value)
        item.value = bytes_of(value);
    return item;
}

/* Puts, or removes if value is NULL. */
static int put(const char *key, const char *value, uint64_t now_ms)
{
    struct cache_store_item item = item_of(key, value);
    int rc = cache_wb_write(&w, &item, now_ms);

    sound();
    return rc;
}

static struct cache_store_batch *next(uint64_t now_ms)
{
    uint64_t due_ms = cache_wb_due_ms(&w);
    struct cache_store_batch *batch = cache_wb_next_batch(&w, now_ms);
    size_t i;

    CHECK_EQ(batch != NULL, due_ms <= now_ms && due_ms != UINT64_MAX);
    CHECK(batch == NULL || batch->n_items > 0);
    for (i = 0; batch != NULL && i < batch->n_items; i++)
        CHECK_EQ(batch->items[i].status, 0); /* it is the store's to give */
    sound();
    return batch;
}

/* As next, but there must be a batch, and of so many items. */
static struct cache_store_batch *next_of(size_t n_items, uint64_t now_ms)
{
    struct cache_store_batch *batch = next(now_ms);

    CHECK(batch != NULL);
    CHECK_EQ(batch->n_items, n_items);
    return batch;
}

static void finish(struct cache_store_batch *batch, int status, uint64_t now_ms)
{
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = status;
    cache_wb_complete(&w, batch, now_ms);
    sound();
}

/* As finish, one status for each item. */
static void finish_each(struct cache_store_batch *batch, const int *statuses,
                        uint64_t now_ms)
{
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = statuses[i];
    cache_wb_complete(&w, batch, now_ms);
    sound();
}

static uint64_t give_up(void)
{
    uint64_t n = cache_wb_give_up(&w);

    sound();
    CHECK_EQ(n, w.stats.n_lost);
    return n;
}

/* value NULL: a remove. */
static bool is_item(const struct cache_store_item *item, const char *key,
                    const char *value)
{
    struct cache_bytes k = bytes_of(key), v = bytes_of(value ? value : "");

    return item != NULL &&
           item->op == (value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE) &&
           cache_equal_bytes(&item->key, &k) &&
           cache_equal_bytes(&item->value, &v);
}

static const struct cache_store_item *find(const char *key)
{
    return cache_wb_find(&w, bytes_of(key));
}

static bool finds(const char *key, const char *value)
{
    return is_item(find(key), key, value);
}

static enum cache_wb_state state_of(const char *key)
{
    struct cache_bytes bytes = bytes_of(key);
    uint32_t r = *cache__wb_find(&w, bytes, cache__wb_hash(&w, bytes));

    return r == 0 ? CACHE_WB_FREE : w.records[r].state;
}

/* Makes "a" dirty in a state; the newest content is "old".  Returns the batch
 * that the store has, if it has one. */
static struct cache_store_batch *bring_to(enum cache_wb_state state)
{
    struct cache_store_batch *batch = NULL;

    CHECK_EQ(put("a", state == CACHE_WB_BLOCKED ? "older" : "old", 0), 0);
    if (state != CACHE_WB_WAITING)
        batch = next_of(1, 100);
    if (state == CACHE_WB_BLOCKED)
        CHECK_EQ(put("a", "old", 100), 0);
    if (state == CACHE_WB_RETRYING) {
        finish(batch, CACHE_EIO, 100);
        batch = NULL;
    }
    CHECK_EQ(state_of("a"), state);
    return batch;
}

/* --- init and destroy ---------------------------------------------------- */

static void config_errors(void)
{
    static const struct {
        const char *what;
        struct cache_wb_config config;
        int rc;
    } cases[] = {
        { "no keys", { .max_value_bytes = 1 }, CACHE_ELIMIT },
        { "no values", { .max_key_bytes = 1 }, CACHE_ELIMIT },
        { "keys beyond reason",
          { .max_key_bytes = SIZE_MAX, .max_value_bytes = 1 },
          CACHE_ELIMIT },
        { "values beyond reason",
          { .max_key_bytes = 1, .max_value_bytes = SIZE_MAX },
          CACHE_ELIMIT },
        /* rounding these up must not come out as 0 bytes where size_t has 32
         * bits */
        { "keys of 4 GB",
          { .max_key_bytes = UINT32_MAX, .max_value_bytes = 1 },
          CACHE_ELIMIT },
        { "values of 4 GB",
          { .max_key_bytes = 1, .max_value_bytes = UINT32_MAX },
          CACHE_ELIMIT },
        { "max_dirty",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .max_dirty = CACHE_MAX_CAPACITY / 4 + 1 },
          CACHE_ELIMIT },
        { "max_batch above max_dirty",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .max_dirty = 4,
            .max_batch = 5 },
          CACHE_ELIMIT },
        { "max_batch above the default of max_dirty",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .max_batch = CACHE_WB_DEFAULT_MAX_DIRTY + 1 },
          CACHE_ELIMIT },
        { "max_in_flight",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .max_dirty = 1,
            .max_in_flight = UINT32_MAX },
          CACHE_ELIMIT },
        { "max_in_flight x max_batch has more than 32 bits",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .max_dirty = 1u << 17,
            .max_batch = 1u << 17,
            .max_in_flight = 1u << 16 },
          CACHE_ELIMIT },
        { "base above cap",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .retry_base_ms = 2,
            .retry_cap_ms = 1 },
          CACHE_ERETRY },
        { "default base above cap",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .retry_cap_ms = CACHE_WB_DEFAULT_RETRY_BASE_MS - 1 },
          CACHE_ERETRY },
        { "base above the default cap",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .retry_base_ms = CACHE_WB_DEFAULT_RETRY_CAP_MS + 1 },
          CACHE_ERETRY },
        { "cap so high that times overflow",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .retry_cap_ms = UINT64_MAX },
          CACHE_ERETRY },
        { "interval so long that times overflow",
          { .max_key_bytes = 1,
            .max_value_bytes = 1,
            .interval_ms = UINT64_MAX },
          CACHE_ERETRY },
        { "more bytes than addresses",
          { .max_key_bytes = INT32_MAX,
            .max_value_bytes = INT32_MAX,
            .max_dirty = CACHE_MAX_CAPACITY / 4,
            .max_batch = CACHE_MAX_CAPACITY / 4 },
          CACHE_ESIZE },
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cache_wb_config config = cases[i].config;

        n_allocs = 0;
        config.alloc = counting_alloc;
        config.free = counting_free;
        config.user = &w;
        if (cache_wb_init(&w, &config) != cases[i].rc)
            printf("case: %s\n", cases[i].what);
        CHECK_EQ(cache_wb_init(&w, &config), cases[i].rc);
        CHECK_EQ(n_allocs, 0);
    }
}

static void config_other_errors(void)
{
    struct cache_wb_config config = small();

    n_allocs = n_frees = 0;
    alloc_fails = false;
    CHECK_EQ(cache_wb_init(NULL, &config), CACHE_EINVAL);
    CHECK_EQ(cache_wb_init(&w, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_wb_init(NULL, NULL), CACHE_EINVAL);
    config.free = NULL;
    CHECK_EQ(cache_wb_init(&w, &config), CACHE_EALLOCATOR);
    config = small();
    config.alloc = NULL;
    CHECK_EQ(cache_wb_init(&w, &config), CACHE_EALLOCATOR);
    config = small();
    alloc_fails = true;
    CHECK_EQ(cache_wb_init(&w, &config), CACHE_ENOMEM);
    CHECK_EQ(n_allocs, 0);
    CHECK_EQ(n_frees, 0);
}

static void config_defaults(void)
{
    static const struct {
        uint32_t max_dirty, max_batch; /* given */
        uint32_t batch;                /* got */
    } cases[] = {
        { 0, 0, CACHE_WB_DEFAULT_MAX_BATCH },
        { 3, 0, 3 },
        { CACHE_WB_DEFAULT_MAX_BATCH + 1, 0, CACHE_WB_DEFAULT_MAX_BATCH },
        { 0, 5, 5 },
        { 5, 5, 5 },
    };
    struct cache_wb_config config = small();
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(&config, 0, sizeof config);
        config.max_key_bytes = 1;
        config.max_value_bytes = 1;
        config.max_dirty = cases[i].max_dirty;
        config.max_batch = cases[i].max_batch;
        open_with(&config); /* with malloc */
        CHECK_EQ(w.config.max_dirty, cases[i].max_dirty
                                         ? cases[i].max_dirty
                                         : CACHE_WB_DEFAULT_MAX_DIRTY);
        CHECK_EQ(w.config.max_batch, cases[i].batch);
        CHECK_EQ(w.config.max_in_flight, 1);
        CHECK_EQ(w.config.interval_ms, CACHE_WB_DEFAULT_INTERVAL_MS);
        CHECK_EQ(w.config.retry_base_ms, CACHE_WB_DEFAULT_RETRY_BASE_MS);
        CHECK_EQ(w.config.retry_cap_ms, CACHE_WB_DEFAULT_RETRY_CAP_MS);
        CHECK_EQ(w.config.max_attempts, 0);
        CHECK_EQ(n_allocs, 0);
        shut();
    }
}

static void one_allocation(void)
{
    struct cache_wb_config config = small();
    size_t n_records = 1000 + 3 * 10;

    config.max_dirty = 1000;
    config.max_batch = 10;
    config.max_in_flight = 3;
    config.max_key_bytes = 64;
    config.max_value_bytes = 512;
    open_with(&config);
    CHECK_EQ(n_allocs, 1);
    CHECK(alloc_bytes > n_records * (64 + 512 + 100));
    CHECK(alloc_bytes < n_records * (64 + 512 + 160));
    cache_wb_destroy(&w);
    CHECK_EQ(n_frees, 1);
    cache_wb_destroy(&w); /* twice is harmless */
    CHECK_EQ(n_frees, 1);
    memset(&w, 0, sizeof w);
    cache_wb_destroy(&w); /* so are zeroes */
    CHECK_EQ(n_frees, 1);
}

/* A stranger who knows the hash could put all keys into one chain. */
static void seed_0_is_random(void)
{
    struct cache_wb_config config = small();
    uint32_t hashes[2][4];
    unsigned i, key;

    config.seed = 0;
    for (i = 0; i < 2; i++) {
        open_with(&config);
        for (key = 0; key < 4; key++) {
            struct cache_bytes bytes = { &key, sizeof key };
            hashes[i][key] = cache__wb_hash(&w, bytes);
        }
        shut();
    }
    CHECK(memcmp(hashes[0], hashes[1], sizeof hashes[0]) != 0);
}

/* --- writes -------------------------------------------------------------- */

static void write_reaches_the_store(void)
{
    struct cache_store_batch *batch;
    struct cache_store_item item = item_of("a", "one");

    open_small();
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    CHECK(next(FOREVER) == NULL);
    CHECK(next(UINT64_MAX) == NULL);
    item.expires_ms = 12345;
    CHECK_EQ(cache_wb_write(&w, &item, 5), 0);
    sound();
    CHECK_EQ(find("a")->expires_ms, 12345);
    CHECK_EQ(put("b", NULL, 6), 0);
    CHECK_EQ(cache_wb_n_dirty(&w), 2);
    batch = next_of(2, 105);
    CHECK(is_item(&batch->items[0], "a", "one")); /* oldest first */
    CHECK_EQ(batch->items[0].expires_ms, 12345);
    CHECK(is_item(&batch->items[1], "b", NULL));
    CHECK_EQ(batch->items[1].expires_ms, 0);
    CHECK(finds("a", "one")); /* the store does not have it yet */
    CHECK_EQ(cache_wb_n_dirty(&w), 2);
    finish(batch, 0, 106);
    CHECK(find("a") == NULL && find("b") == NULL);
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    CHECK_EQ(w.stats.n_accepted, 2);
    CHECK_EQ(w.stats.n_batches, 1);
    CHECK_EQ(w.stats.n_sent, 2);
    CHECK_EQ(w.stats.n_stored, 2);
    CHECK_EQ(w.stats.n_failed, 0);
    shut();
}

/* Everything of a refused write is as before, but for the count. */
static void refuses(const struct cache_store_item *item, int rc, bool counts)
{
    struct cache_wb before = w;
    unsigned char *block = (unsigned char *)malloc(alloc_bytes);
    bool same;

    CHECK(block != NULL);
    memcpy(block, w.memory, alloc_bytes);
    CHECK_EQ(cache_wb_write(&w, item, 1), rc);
    sound();
    before.stats.n_refused += counts;
    same = memcmp(&before, &w, sizeof w) == 0 &&
           memcmp(block, w.memory, alloc_bytes) == 0;
    free(block);
    CHECK(same);
}

static void bad_writes(void)
{
    struct cache_store_item item;

    open_small();
    CHECK_EQ(put("a", "one", 0), 0);
    item = item_of("123456789", "v");
    refuses(&item, CACHE_ETOOBIG, false);
    item = item_of("123456789", NULL);
    refuses(&item, CACHE_ETOOBIG, false);
    item = item_of("a", "12345678901234567");
    refuses(&item, CACHE_ETOOBIG, false);
    item = item_of("", "v");
    refuses(&item, CACHE_EINVAL, false);
    item = item_of("a", "v");
    item.op = CACHE_STORE_GET;
    refuses(&item, CACHE_EINVAL, false);
    item.op = (enum cache_store_op)3;
    refuses(&item, CACHE_EINVAL, false);
    CHECK(finds("a", "one"));

    /* The longest key and value, an empty value, and a remove whose value is
     * nobody's business. */
    CHECK_EQ(put("12345678", "1234567890123456", 0), 0);
    CHECK(finds("12345678", "1234567890123456"));
    CHECK_EQ(put("b", "", 0), 0);
    CHECK(finds("b", ""));
    item = item_of("c", "12345678901234567");
    item.op = CACHE_STORE_REMOVE;
    CHECK_EQ(cache_wb_write(&w, &item, 0), 0);
    CHECK(finds("c", NULL));
    shut();
}

static void bytes_are_copied(void)
{
    char key[] = "a", value[] = "one";
    struct cache_store_item item = item_of(key, value);
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(cache_wb_write(&w, &item, 0), 0);
    key[0] = 'z';
    memset(value, 'z', 3);
    memset(&item, 0xff, sizeof item);
    CHECK(finds("a", "one"));
    CHECK(find("z") == NULL);
    batch = next_of(1, 100);
    CHECK(is_item(&batch->items[0], "a", "one"));
    shut();
}

static void versions_increase(void)
{
    static const char *const keys[] = { "a", "b", "a", "a", "c", "b" };
    struct cache_store_batch *batch;
    uint64_t version = 0;
    size_t i;

    open_small();
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        CHECK_EQ(put(keys[i], i & 1 ? NULL : "v", 0), 0);
        CHECK(find(keys[i])->version > version);
        version = find(keys[i])->version;
    }
    batch = next_of(3, 100);
    CHECK_EQ(put("a", "w", 100), 0); /* behind the one that is sent */
    CHECK(find("a")->version > version);
    version = find("a")->version;
    finish(batch, CACHE_EIO, 100);
    CHECK_EQ(find("a")->version, version);
    batch = next(FOREVER);
    for (i = 0; i < batch->n_items; i++)
        if (is_item(&batch->items[i], "a", "w"))
            CHECK_EQ(batch->items[i].version, version);
    shut();
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Two keys that have the same hash, all 32 bits of it. */
static void keys_with_equal_hashes(void)
{
    enum { N = 400000 }; /* 18 pairs are expected, and the seed is fixed */
    static uint64_t words[N];
    char one[9], two[9];
    size_t i;

    open_small();
    for (i = 0; i < N; i++) {
        (void)snprintf(one, sizeof one, "%u", (unsigned)i);
        words[i] = (uint64_t)cache__wb_hash(&w, bytes_of(one)) << 32 | i;
    }
    qsort(words, N, sizeof *words, compare_words);
    for (i = 1; i < N && words[i] >> 32 != words[i - 1] >> 32; i++)
        ;
    CHECK(i < N);
    (void)snprintf(one, sizeof one, "%u", (unsigned)(words[i] & UINT32_MAX));
    (void)snprintf(two, sizeof two, "%u",
                   (unsigned)(words[i - 1] & UINT32_MAX));
    CHECK_EQ(put(one, "1", 0), 0);
    CHECK(find(two) == NULL);
    CHECK_EQ(put(two, "2", 0), 0);
    CHECK_EQ(cache_wb_n_dirty(&w), 2);
    CHECK(finds(one, "1") && finds(two, "2"));
    CHECK_EQ(put(one, NULL, 0), 0);
    CHECK(finds(one, NULL) && finds(two, "2"));
    finish(next_of(2, 100), 0, 100);
    CHECK(find(one) == NULL && find(two) == NULL);
    shut();
}

/* --- coalescing and order ------------------------------------------------ */

/* In every state but SENT, a write takes the place of the older one. */
static void coalesces(void)
{
    static const enum cache_wb_state states[] = { CACHE_WB_WAITING,
                                                  CACHE_WB_RETRYING,
                                                  CACHE_WB_BLOCKED };
    static const char *const contents[] = { "new", NULL, "" };
    struct cache_store_batch *batch;
    size_t i, j;

    for (i = 0; i < sizeof states / sizeof *states; i++)
        for (j = 0; j < sizeof contents / sizeof *contents; j++) {
            struct cache_store_item item = item_of("a", contents[j]);
            struct cache_wb_stats before;
            uint64_t due_ms, version;

            open_small();
            batch = bring_to(states[i]);
            due_ms = cache_wb_due_ms(&w);
            version = find("a")->version;
            before = w.stats;
            item.expires_ms = 99;
            CHECK_EQ(cache_wb_write(&w, &item, 100), 0);
            sound();
            CHECK_EQ(w.stats.n_coalesced, before.n_coalesced + 1);
            CHECK_EQ(w.stats.n_accepted, before.n_accepted + 1);
            CHECK_EQ(cache_wb_n_dirty(&w), 1);
            CHECK_EQ(state_of("a"), states[i]);
            CHECK_EQ(cache_wb_due_ms(&w), due_ms); /* it is not put off */
            CHECK(finds("a", contents[j]));
            if (batch) {
                CHECK(is_item(&batch->items[0], "a", "older"));
                finish(batch, 0, 100);
            }
            batch = next_of(1, FOREVER);
            CHECK(is_item(&batch->items[0], "a", contents[j]));
            CHECK_EQ(batch->items[0].expires_ms, 99);
            CHECK(batch->items[0].version > version);
            finish(batch, 0, FOREVER);
            CHECK_EQ(cache_wb_n_dirty(&w), 0);
            shut();
        }
}

/* A put over a remove, which must not keep the remove's nothing. */
static void put_coalesces_with_remove(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(put("a", NULL, 0), 0);
    CHECK(finds("a", NULL));
    CHECK_EQ(put("a", "one", 1), 0);
    CHECK(finds("a", "one"));
    CHECK_EQ(put("a", NULL, 2), 0);
    CHECK_EQ(put("a", "longer value", 3), 0);
    CHECK_EQ(w.stats.n_coalesced, 3);
    batch = next_of(1, 100);
    CHECK(is_item(&batch->items[0], "a", "longer value"));
    shut();
}

static void find_has_the_newest(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK(find("a") == NULL);
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK(finds("a", "1")); /* WAITING */
    batch = next_of(1, 100);
    CHECK(finds("a", "1")); /* SENT */
    CHECK_EQ(put("a", "2", 100), 0);
    CHECK(finds("a", "2")); /* BLOCKED */
    finish(batch, CACHE_EIO, 100);
    CHECK(finds("a", "2")); /* RETRYING, in place of the one that failed */
    CHECK_EQ(put("a", NULL, 100), 0);
    CHECK(finds("a", NULL));
    batch = next_of(1, FOREVER);
    CHECK_EQ(put("a", "4", FOREVER), 0);
    finish(batch, 0, FOREVER);
    CHECK(finds("a", "4")); /* WAITING, unblocked */
    batch = next_of(1, 2 * FOREVER);
    finish(batch, 0, 2 * FOREVER);
    CHECK(find("a") == NULL);
    shut();
}

static void one_write_per_key_at_the_store(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *first, *second;

    config.max_in_flight = 3;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    first = next_of(1, 100);
    CHECK_EQ(put("a", "2", 110), 0);
    CHECK_EQ(cache_wb_n_dirty(&w), 1);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX); /* nothing may be sent */
    CHECK(next(FOREVER) == NULL);
    (void)cache_wb_flush(&w);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    CHECK(next(FOREVER) == NULL);
    CHECK_EQ(put("b", "1", 120), 0);
    second = next_of(1, FOREVER);
    CHECK(is_item(&second->items[0], "b", "1"));
    CHECK_EQ(put("a", "3", 130), 0);
    CHECK_EQ(w.stats.n_coalesced, 1);
    CHECK(is_item(&first->items[0], "a", "1")); /* it did not change */
    finish(second, 0, 140);
    finish(first, 0, 150);
    CHECK(finds("a", "3"));
    first = next_of(1, FOREVER);
    CHECK(is_item(&first->items[0], "a", "3"));
    shut();
}

/* Once it is unblocked, a write waits for company like any other. */
static void unblocked_write_waits_an_interval(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    batch = next_of(1, 100);
    CHECK_EQ(put("b", "1", 130), 0);
    CHECK_EQ(put("a", "2", 140), 0);
    finish(batch, 0, 150);
    CHECK_EQ(cache_wb_due_ms(&w), 230); /* b's */
    CHECK_EQ(put("b", "2", 160), 0);
    batch = next_of(2, 230);
    finish(batch, 0, 230);

    CHECK_EQ(put("a", "3", 300), 0);
    batch = next_of(1, 400);
    CHECK_EQ(put("a", "4", 410), 0);
    finish(batch, 0, 450);
    CHECK_EQ(cache_wb_due_ms(&w), 550);
    CHECK(next(549) == NULL);
    batch = next_of(1, 550);
    CHECK(is_item(&batch->items[0], "a", "4"));
    shut();
}

/* A write that failed is not repeated once there is a newer one. */
static void newer_write_replaces_one_that_failed(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    batch = next_of(1, 100);
    CHECK_EQ(put("a", "2", 100), 0);
    finish(batch, CACHE_EIO, 110);
    CHECK_EQ(state_of("a"), CACHE_WB_RETRYING);
    CHECK_EQ(w.stats.n_failed, 1);
    CHECK_EQ(w.stats.n_coalesced, 1);
    CHECK(cache_wb_due_ms(&w) > 110);
    CHECK(cache_wb_due_ms(&w) <= 110 + 20);
    batch = next_of(1, 130);
    CHECK(is_item(&batch->items[0], "a", "2"));
    finish(batch, 0, 140);
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    CHECK(next(FOREVER) == NULL);
    CHECK_EQ(w.stats.n_sent, 2);
    shut();
}

/* A key that is rewritten every time before its write is confirmed. */
static void hot_key(void)
{
    struct cache_store_batch *batch;
    uint64_t now = 0;
    char value[16];
    unsigned i;

    open_small();
    for (i = 0; i < 50; i++, now += 200) {
        (void)snprintf(value, sizeof value, "%u", i);
        CHECK_EQ(put("a", value, now), 0);
        CHECK(finds("a", value));
        CHECK_EQ(cache_wb_n_dirty(&w), 1);
        if (i % 3 == 0) { /* the next write comes while this one is sent */
            batch = next_of(1, now + 100);
            CHECK(is_item(&batch->items[0], "a", value));
            (void)snprintf(value, sizeof value, "%u+", i);
            CHECK_EQ(put("a", value, now + 100), 0);
            finish(batch, i % 2 ? CACHE_EIO : 0, now + 110);
            CHECK(finds("a", value));
        }
    }
    batch = next_of(1, now + FOREVER);
    CHECK(is_item(&batch->items[0], "a", value));
    finish(batch, 0, now + FOREVER);
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    shut();
}

/* --- batches ------------------------------------------------------------- */

static void batch_by_interval(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(put("a", "1", 1000), 0);
    CHECK_EQ(cache_wb_due_ms(&w), 1100);
    CHECK_EQ(put("b", "1", 1050), 0);
    CHECK_EQ(put("a", "2", 1060), 0); /* waits since 1000 */
    CHECK_EQ(cache_wb_due_ms(&w), 1100);
    CHECK(next(1099) == NULL);
    batch = next_of(2, 1100); /* b is company */
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    finish(batch, 0, 1101);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    shut();
}

static void batch_by_count(void)
{
    static const char *const keys[] = { "a", "b", "c", "d", "e", "f" };
    struct cache_store_batch *batch;
    unsigned i;

    open_small();
    for (i = 0; i < 6; i++) {
        CHECK_EQ(cache_wb_due_ms(&w), i == 0 ? UINT64_MAX : i >= 4 ? 0 : 100);
        CHECK_EQ(put(keys[i], "v", i), 0);
    }
    batch = next_of(4, 5);
    for (i = 0; i < 4; i++)
        CHECK(is_item(&batch->items[i], keys[i], "v"));
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX); /* max_in_flight is 1 */
    CHECK(next(FOREVER) == NULL);
    finish(batch, 0, 50);
    CHECK_EQ(cache_wb_due_ms(&w), 104); /* e's */
    batch = next_of(2, 104);
    CHECK(is_item(&batch->items[0], "e", "v"));
    CHECK(is_item(&batch->items[1], "f", "v"));
    shut();
}

/* With a batch at the store, and the slot of one that came back used again. */
static void batches_in_flight(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *one, *two, *three;

    config.max_batch = 1;
    config.max_in_flight = 2;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(put("b", "2", 0), 0);
    CHECK_EQ(put("c", "3", 0), 0);
    one = next_of(1, 0);
    two = next_of(1, 0);
    CHECK(one != two);
    CHECK(next(FOREVER) == NULL);
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    finish(one, 0, 10);
    three = next_of(1, 10);
    CHECK(three != two);
    CHECK(is_item(&two->items[0], "b", "2"));
    CHECK(is_item(&three->items[0], "c", "3"));
    finish(three, 0, 20); /* later than two was sent, and back before */
    CHECK(find("c") == NULL);
    CHECK(finds("b", "2"));
    finish(two, 0, 30);
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    shut();
}

static void statuses_are_of_items(void)
{
    static const int statuses[] = { 0, CACHE_EIO, CACHE_ECONFLICT, 1 };
    struct cache_store_batch *batch;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(put("b", "1", 0), 0);
    CHECK_EQ(put("c", "1", 0), 0);
    CHECK_EQ(put("d", "1", 0), 0);
    batch = next_of(4, 0);
    finish_each(batch, statuses, 0);
    CHECK_EQ(state_of("a"), CACHE_WB_FREE);
    CHECK_EQ(state_of("b"), CACHE_WB_RETRYING);
    CHECK_EQ(state_of("c"), CACHE_WB_FREE);
    CHECK_EQ(state_of("d"), CACHE_WB_RETRYING); /* 1 is not 0 */
    CHECK_EQ(w.stats.n_stored, 2);
    CHECK_EQ(w.stats.n_failed, 2);
    shut();
}

/* The store has a newer write, so there is nothing to repeat. */
static void conflict_settles(void)
{
    struct cache_store_batch *batch;
    uint64_t barrier;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    barrier = cache_wb_flush(&w);
    batch = next_of(1, 0);
    CHECK_EQ(put("a", "2", 0), 0);
    finish(batch, CACHE_ECONFLICT, 0);
    CHECK(cache_wb_is_stored(&w, barrier));
    CHECK_EQ(state_of("a"), CACHE_WB_WAITING); /* the successor's turn */
    CHECK(finds("a", "2"));
    batch = next_of(1, 100);
    finish(batch, CACHE_ECONFLICT, 100);
    CHECK(find("a") == NULL);
    CHECK_EQ(w.stats.n_failed, 0);
    CHECK_EQ(w.stats.n_stored, 2);
    shut();
}

/* --- flush --------------------------------------------------------------- */

static void flush_of_nothing(void)
{
    struct cache_store_batch *batch;

    open_small();
    CHECK(cache_wb_is_stored(&w, cache_wb_flush(&w)));
    CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(cache_wb_due_ms(&w), 100); /* it was not there to be flushed */
    batch = next_of(1, 100);
    finish(batch, 0, 100);
    CHECK(cache_wb_is_stored(&w, cache_wb_flush(&w)));
    shut();
}

static void flush_makes_all_due(void)
{
    static const char *const keys[] = { "a", "b", "c", "d", "e", "f" };
    struct cache_store_batch *batch;
    uint64_t barrier;
    unsigned i;

    open_small();
    for (i = 0; i < 6; i++)
        CHECK_EQ(put(keys[i], "v", 50), 0);
    batch = next_of(4, 50);
    finish(batch, 0, 50);
    CHECK_EQ(cache_wb_due_ms(&w), 150);
    barrier = cache_wb_flush(&w);
    CHECK_EQ(cache_wb_due_ms(&w), 0);
    CHECK(!cache_wb_is_stored(&w, barrier));
    batch = next_of(2, 50);
    CHECK(!cache_wb_is_stored(&w, barrier)); /* sent is not stored */
    finish(batch, 0, 60);
    CHECK(cache_wb_is_stored(&w, barrier));
    shut();
}

/* Only writes from before the flush count, and only they are hurried. */
static void flush_is_a_barrier(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint64_t first, second;

    config.max_in_flight = 2;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    first = cache_wb_flush(&w);
    batch = next_of(1, 0);
    CHECK_EQ(put("b", "1", 10), 0);
    CHECK_EQ(cache_wb_due_ms(&w), 110); /* in spite of a, which is covered */
    CHECK(next(109) == NULL);
    second = cache_wb_flush(&w);
    CHECK_EQ(cache_wb_due_ms(&w), 0);
    CHECK(second > first);
    finish(batch, 0, 20);
    CHECK(cache_wb_is_stored(&w, first)); /* b does not hold it up */
    CHECK(!cache_wb_is_stored(&w, second));
    batch = next_of(1, 20);
    finish(batch, 0, 20);
    CHECK(cache_wb_is_stored(&w, first));
    CHECK(cache_wb_is_stored(&w, second));
    shut();
}

/* While a covered write backs off, newer ones still wait for company. */
static void flush_in_an_outage(void)
{
    struct cache_store_batch *batch;
    uint64_t barrier;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    barrier = cache_wb_flush(&w);
    batch = next_of(1, 0);
    finish(batch, CACHE_EIO, FOREVER);
    CHECK(!cache_wb_is_stored(&w, barrier));
    CHECK_EQ(put("b", "1", FOREVER), 0);
    CHECK(cache_wb_due_ms(&w) > FOREVER);
    CHECK(cache_wb_due_ms(&w) <= FOREVER + 20); /* a's retry */
    batch = next_of(1, FOREVER + 20);
    CHECK(is_item(&batch->items[0], "a", "1"));
    finish(batch, 0, FOREVER + 20);
    CHECK(cache_wb_is_stored(&w, barrier));
    CHECK_EQ(cache_wb_due_ms(&w), FOREVER + 100); /* b's */
    shut();
}

static void flush_and_coalescing(void)
{
    struct cache_store_batch *batch;
    uint64_t barrier;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(put("a", "2", 0), 0); /* before: 2 stands for 1 */
    barrier = cache_wb_flush(&w);
    CHECK_EQ(put("a", "3", 0), 0); /* after: 3 stands for 1 and 2 */
    CHECK_EQ(cache_wb_due_ms(&w), 0);
    CHECK(!cache_wb_is_stored(&w, barrier));
    batch = next_of(1, 0);
    CHECK(is_item(&batch->items[0], "a", "3"));
    CHECK(!cache_wb_is_stored(&w, barrier));
    CHECK_EQ(put("a", "4", 0), 0); /* stands for itself */
    finish(batch, 0, 10);
    CHECK(cache_wb_is_stored(&w, barrier));
    CHECK_EQ(cache_wb_due_ms(&w), 110);
    shut();
}

/* A key that is always being rewritten cannot keep a flush from its end. */
static void flush_of_a_hot_key(void)
{
    struct cache_store_batch *batch;
    uint64_t barrier;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    batch = next_of(1, 100);
    CHECK_EQ(put("a", "2", 100), 0);
    barrier = cache_wb_flush(&w); /* 1 is sent, 2 is behind it */
    finish(batch, 0, 110);
    CHECK(!cache_wb_is_stored(&w, barrier));
    CHECK_EQ(cache_wb_due_ms(&w), 0); /* 2 is covered, so it is due */
    CHECK_EQ(put("b", "1", 110), 0);
    batch = next_of(2, 110);
    CHECK_EQ(put("a", "3", 110), 0);
    finish(batch, 0, 120);
    CHECK(cache_wb_is_stored(&w, barrier));
    CHECK_EQ(cache_wb_due_ms(&w), 220); /* 3 is not */
    CHECK(finds("a", "3"));
    shut();
}

/* An unblocked write that is covered goes before those that are not. */
static void flush_unblocks_into_the_front(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint64_t barrier;

    config.max_batch = 1;
    config.max_in_flight = 2;
    config.interval_ms = 1000;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    batch = next_of(1, 0);
    CHECK_EQ(put("a", "2", 0), 0);
    barrier = cache_wb_flush(&w);
    CHECK_EQ(put("b", "1", 0), 0);
    CHECK_EQ(put("c", "1", 0), 0);
    finish(batch, 0, 10);
    batch = next_of(1, 10);
    CHECK(is_item(&batch->items[0], "a", "2"));
    finish(batch, 0, 10);
    CHECK(cache_wb_is_stored(&w, barrier));
    batch = next_of(1, 10); /* by count */
    CHECK(is_item(&batch->items[0], "b", "1"));
    batch = next_of(1, 10);
    CHECK(is_item(&batch->items[0], "c", "1"));
    shut();
}

static void flush_waits_for_retries(void)
{
    struct cache_store_batch *batch;
    uint64_t barrier;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    barrier = cache_wb_flush(&w);
    batch = next_of(1, 0);
    finish(batch, CACHE_EIO, 0);
    CHECK(!cache_wb_is_stored(&w, barrier));
    batch = next_of(1, FOREVER);
    CHECK_EQ(put("a", "2", FOREVER), 0);
    finish(batch, CACHE_EIO, FOREVER); /* superseded: 2 stands for 1 now */
    CHECK(!cache_wb_is_stored(&w, barrier));
    batch = next_of(1, 2 * FOREVER);
    CHECK(is_item(&batch->items[0], "a", "2"));
    CHECK(!cache_wb_is_stored(&w, barrier));
    finish(batch, 0, 2 * FOREVER);
    CHECK(cache_wb_is_stored(&w, barrier));
    shut();
}

static void flush_ends_with_dead_letters(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint64_t barrier;

    config.max_attempts = 1;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    barrier = cache_wb_flush(&w);
    batch = next_of(1, 0);
    finish(batch, CACHE_EIO, 0);
    CHECK_EQ(n_letters, 1);
    CHECK(cache_wb_is_stored(&w, barrier));

    CHECK_EQ(put("b", "1", 0), 0);
    barrier = cache_wb_flush(&w);
    CHECK_EQ(give_up(), 1);
    CHECK(cache_wb_is_stored(&w, barrier));
    shut();
}

/* --- retries ------------------------------------------------------------- */

#define N_FAILURES 12

/* Lets one write fail N_FAILURES times; delays[n] is its backoff after n. */
static void measure_delays(uint64_t seed, uint64_t base, uint64_t cap,
                           uint64_t *delays)
{
    struct cache_wb_config config = small();
    uint64_t now = 100;
    unsigned n;

    config.seed = seed;
    config.retry_base_ms = base;
    config.retry_cap_ms = cap;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    for (n = 1; n <= N_FAILURES; n++) {
        struct cache_store_batch *batch = next_of(1, now);

        finish(batch, CACHE_EIO, now);
        delays[n] = cache_wb_due_ms(&w) - now;
        CHECK(next(now + delays[n] - 1) == NULL);
        now += delays[n];
    }
    shut();
}

static void backoff_bounds(void)
{
    static const struct {
        uint64_t base, cap;
    } cases[] = {
        { 10, 1000 },
        { 1, 1 },
        { 7, 7 },
        { 3, UINT64_MAX / 4 },
        { UINT64_MAX / 8, UINT64_MAX / 4 },
        { 100, 101 },
    };
    uint64_t delays[N_FAILURES + 1], limit, longest[N_FAILURES + 1];
    unsigned n, seed;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(longest, 0, sizeof longest);
        for (seed = 1; seed <= 100; seed++) {
            measure_delays(seed, cases[i].base, cases[i].cap, delays);
            limit = cases[i].base;
            for (n = 1; n <= N_FAILURES; n++) {
                limit = limit > cases[i].cap / 2 ? cases[i].cap : 2 * limit;
                CHECK(delays[n] > 0);
                CHECK(delays[n] <= limit);
                if (delays[n] > longest[n])
                    longest[n] = delays[n];
            }
        }
        /* Full jitter: in 100 tries one comes near the limit (0.75 ^ 100 is
         * less than 10 ^ -12), and the seeds are fixed. */
        limit = cases[i].base;
        for (n = 1; n <= N_FAILURES; n++) {
            limit = limit > cases[i].cap / 2 ? cases[i].cap : 2 * limit;
            CHECK(longest[n] >= limit / 4 * 3);
        }
    }
}

static void jitter_is_of_the_seed(void)
{
    uint64_t one[N_FAILURES + 1] = { 0 }, two[N_FAILURES + 1] = { 0 };

    measure_delays(1, 1000, 1000000, one);
    measure_delays(1, 1000, 1000000, two);
    CHECK(memcmp(one, two, sizeof one) == 0);
    measure_delays(2, 1000, 1000000, two);
    CHECK(memcmp(one, two, sizeof one) != 0);
}

/* Different writes of a batch do not come back at the same time. */
static void jitter_spreads(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint32_t a, b;

    config.retry_base_ms = 1000000;
    config.retry_cap_ms = 2000000;
    config.max_batch = 2;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(put("b", "1", 0), 0);
    batch = next_of(2, 0);
    finish(batch, CACHE_EIO, 0);
    a = w.heap[0];
    b = w.heap[1];
    CHECK(w.records[a].due_ms != w.records[b].due_ms);
    CHECK_EQ(cache_wb_due_ms(&w), w.records[a].due_ms);
    batch = next_of(1, w.records[a].due_ms);
    shut();
}

/* Retries come in the order in which they are due. */
static void retries_in_order(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint64_t due_ms = 0;
    unsigned i, n = 64;
    char key[8];

    config.max_dirty = config.max_batch = n;
    config.retry_base_ms = config.retry_cap_ms = FOREVER;
    open_with(&config);
    for (i = 0; i < n; i++) {
        (void)snprintf(key, sizeof key, "%u", i);
        CHECK_EQ(put(key, "v", 0), 0);
    }
    batch = next_of(n, 0);
    finish(batch, CACHE_EIO, 0);
    for (i = 0; i < n; i += (unsigned)batch->n_items) {
        CHECK(cache_wb_due_ms(&w) >= due_ms);
        due_ms = cache_wb_due_ms(&w);
        CHECK(next(due_ms - 1) == NULL);
        batch = next(due_ms);
        finish(batch, 0, due_ms);
    }
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    shut();
}

/* With max_batch 8 and everything due: 8, then 4, 2, 1 and 1 at a time. */
static void companions_are_halved(void)
{
    static const size_t sizes[] = { 8, 4, 2, 1, 1, 1 };
    struct cache_wb_config config = small();
    struct cache_store_batch *batches[8];
    uint64_t now = 0;
    size_t round, i, n;
    char key[] = "a";

    config.max_batch = 8;
    config.max_in_flight = 8;
    open_with(&config);
    for (key[0] = 'a'; key[0] < 'i'; key[0]++)
        CHECK_EQ(put(key, "v", 0), 0);
    for (round = 0; round < 6; round++, now += FOREVER) {
        n = 8 / sizes[round];
        for (i = 0; i < n; i++)
            batches[i] = next_of(sizes[round], now);
        CHECK(next(now) == NULL);
        for (i = 0; i < n; i++)
            finish(batches[i], CACHE_EIO, now);
    }
    shut();
}

/* What failed often does not ride along with what failed once: the promise is
 * each write's, not only that of the one that is due first. */
static void companions_of_every_write(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch, *batches[8];
    uint64_t now = 0, seed;
    unsigned i, n;

    for (seed = 1; seed < 30; seed++) { /* so that each is due first at times */
        config.seed = seed;
        config.max_in_flight = 8;
        open_with(&config);
        CHECK_EQ(put("a", "v", now), 0);
        for (i = 0; i < 3; i++, now += FOREVER) { /* a has failed 3 times */
            batch = next_of(1, now + 100);
            finish(batch, CACHE_EIO, now + 100);
        }
        CHECK_EQ(put("b", "v", now), 0);
        CHECK_EQ(put("c", "v", now), 0);
        CHECK_EQ(put("d", "v", now), 0);
        CHECK_EQ(put("e", "v", now), 0);
        batch = next_of(1, now); /* a, which is not over its backoff later */
        CHECK(is_item(&batch->items[0], "a", "v"));
        finish(next_of(4, now), CACHE_EIO, now);
        finish(batch, CACHE_EIO, now);
        now += FOREVER;
        for (n = 0; (batch = next(now)) != NULL; n++) {
            for (i = 0; i < batch->n_items; i++)
                if (is_item(&batch->items[i], "a", "v"))
                    CHECK_EQ(batch->n_items, 1);
            batches[n] = batch;
        }
        while (n-- > 0)
            finish(batches[n], 0, now);
        CHECK_EQ(cache_wb_n_dirty(&w), 0);
        shut();
    }
}

/* After an outage everything has failed often and would go alone. */
static void batches_grow_again_after_an_outage(void)
{
    struct cache_wb_config config = small();
    uint64_t now = 0;
    unsigned i, n_batches;
    char key[] = "k0";

    config.max_dirty = config.max_batch = 64;
    open_with(&config);
    for (i = 0; i < 64; i++) {
        key[1] = (char)('0' + i);
        CHECK_EQ(put(key, "v", now), 0);
    }
    while (cache_wb_due_ms(&w) != UINT64_MAX && w.stats.n_failed < 64 * 8) {
        now += FOREVER;
        finish(next(now), CACHE_EIO, now);
    }
    for (n_batches = 0; cache_wb_n_dirty(&w) > 0; n_batches++) {
        now += FOREVER;
        finish(next(now), 0, now);
    }
    CHECK(n_batches <= 8); /* 1, 2, 4, 8, 16, 32, 1 */
    shut();
}

/* A store that fails every batch with the key "p" in it, whole. */
static void poisoned_row_ends_up_alone(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;
    uint64_t now = 0, seed;
    unsigned i, n_batches;
    char key[] = "i";

    for (seed = 1; seed < 50; seed++) {
        bool alone = false;

        config.seed = seed;
        config.max_dirty = config.max_batch = 8;
        config.max_attempts = 12;
        open_with(&config);
        for (key[0] = 'i'; key[0] < 'q'; key[0]++)
            CHECK_EQ(put(key, "v", now), 0);
        for (n_batches = 0; cache_wb_n_dirty(&w) > 0; n_batches++) {
            CHECK(n_batches < 100);
            /* Either as soon as possible, or with everything due. */
            now = seed % 2 ? cache_wb_due_ms(&w) : now + FOREVER;
            batch = next(now);
            for (i = 0; i < batch->n_items; i++)
                if (is_item(&batch->items[i], "p", "v"))
                    break;
            alone = alone || (i < batch->n_items && batch->n_items == 1);
            finish(batch, i < batch->n_items ? CACHE_EIO : 0, now);
        }
        CHECK(alone);
        CHECK_EQ(w.stats.n_dead, 1);
        CHECK_EQ(w.stats.n_stored, 7);
        CHECK_STR(letters[0].key, "p");
        shut();
    }
}

static void max_attempts(void)
{
    static const char *const contents[] = { "one", NULL };
    struct cache_wb_config config = small();
    size_t i;

    for (i = 0; i < 2; i++) {
        struct cache_store_item item = item_of("a", contents[i]);
        uint64_t now = 0, version;
        unsigned n;

        config.max_attempts = 3;
        open_with(&config);
        item.expires_ms = 77;
        CHECK_EQ(cache_wb_write(&w, &item, 0), 0);
        version = find("a")->version;
        for (n = 1; n <= 3; n++) {
            struct cache_store_batch *batch = next_of(1, now += FOREVER);

            CHECK_EQ(n_letters, 0);
            CHECK(finds("a", contents[i]));
            finish(batch, n == 3 ? CACHE_ELOCKED : CACHE_EIO, now);
        }
        CHECK_EQ(n_letters, 1);
        CHECK_EQ(letters[0].op, item.op);
        CHECK_STR(letters[0].key, "a");
        CHECK_STR(letters[0].value, contents[i] ? contents[i] : "");
        CHECK_EQ(letters[0].expires_ms, 77);
        CHECK_EQ(letters[0].version, version);
        CHECK_EQ(letters[0].status, CACHE_ELOCKED);
        CHECK_EQ(w.stats.n_dead, 1);
        CHECK_EQ(w.stats.n_failed, 3);
        CHECK_EQ(w.stats.n_lost, 0);
        CHECK(find("a") == NULL);
        CHECK_EQ(cache_wb_n_dirty(&w), 0);
        CHECK(next(now + FOREVER) == NULL);

        /* The key is like new. */
        CHECK_EQ(put("a", "two", now), 0);
        finish(next_of(1, now + 100), CACHE_EIO, now + 100);
        CHECK_EQ(n_letters, 1);
        finish(next_of(1, now + FOREVER), 0, now + FOREVER);
        CHECK_EQ(give_up(), 0);
        CHECK_EQ(n_letters, 1);
        shut();
    }
}

static void max_attempts_0_is_for_ever(void)
{
    struct cache_store_batch *batch;
    unsigned n;

    open_small();
    CHECK_EQ(put("a", "1", 0), 0);
    for (n = 1; n <= 100; n++) {
        batch = next_of(1, n * FOREVER);
        finish(batch, CACHE_EIO, n * FOREVER);
    }
    CHECK_EQ(n_letters, 0);
    CHECK(finds("a", "1"));
    shut();
}

/* A newer write has all its attempts before it, however it came into the
 * record of the one that failed. */
static void newer_write_starts_anew(void)
{
    struct cache_wb_config config = small();
    uint64_t now;
    unsigned sent_meanwhile, n;

    config.max_attempts = 3;
    for (sent_meanwhile = 0; sent_meanwhile < 2; sent_meanwhile++) {
        open_with(&config);
        CHECK_EQ(put("a", "1", 0), 0);
        finish(next_of(1, FOREVER), CACHE_EIO, FOREVER);
        now = 2 * FOREVER;
        if (sent_meanwhile) {
            struct cache_store_batch *batch = next_of(1, now);

            CHECK_EQ(put("a", "2", now), 0);
            finish(batch, CACHE_EIO, now);
        } else {
            finish(next_of(1, now), CACHE_EIO, now);
            CHECK_EQ(put("a", "2", now), 0);
        }
        CHECK(cache_wb_due_ms(&w) <= now + 40); /* the backoff goes on */
        for (n = 1; n <= 3; n++) {
            CHECK_EQ(n_letters, 0);
            now += FOREVER;
            finish(next_of(1, now), CACHE_EIO, now);
        }
        CHECK_EQ(n_letters, 1);
        CHECK_STR(letters[0].value, "2");
        shut();
    }
}

static void no_hook_for_dead_letters(void)
{
    struct cache_wb_config config = small();
    struct cache_store_batch *batch;

    config.on_dead_letter = NULL;
    config.max_attempts = 1;
    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    batch = next_of(1, 100);
    n_letters = 1; /* what sound() expects, in vain */
    finish(batch, CACHE_EIO, 100);
    CHECK_EQ(w.stats.n_dead, 1);
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    shut();

    open_with(&config);
    CHECK_EQ(put("a", "1", 0), 0);
    CHECK_EQ(cache_wb_give_up(&w), 1);
    CHECK_SOUND(cache_wb_check(&w));
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    shut();
}

/* --- a full buffer ------------------------------------------------------- */

static void full(void)
{
    struct cache_store_item item = item_of("i", "v");
    struct cache_store_batch *batch;
    char key[] = "a";

    open_small();
    for (key[0] = 'a'; key[0] < 'i'; key[0]++)
        CHECK_EQ(put(key, "v", 0), 0);
    refuses(&item, CACHE_EFULL, true);
    item.op = CACHE_STORE_REMOVE;
    refuses(&item, CACHE_EFULL, true);
    CHECK_EQ(w.stats.n_refused, 2);
    CHECK(find("i") == NULL);
    CHECK_EQ(put("a", "w", 0), 0); /* dirty already */
    batch = next_of(4, 0);
    refuses(&item, CACHE_EFULL, true); /* sent is dirty still */
    CHECK_EQ(put("a", "x", 0), 0);
    CHECK_EQ(put("h", "x", 0), 0);
    finish(batch, 0, 0);
    CHECK_EQ(cache_wb_n_dirty(&w), 5); /* a again, and e to h */
    CHECK_EQ(put("i", "v", 0), 0);
    CHECK_EQ(w.stats.n_refused, 3);
    shut();
}

/* Every record is in use: all keys at the store, and all written again. */
static void full_and_all_of_it_sent(void)
{
    struct cache_wb_config config = small();
    struct cache_store_item item = item_of("i", "v");
    struct cache_store_batch *batches[4];
    unsigned round, i;
    char key[] = "a";

    config.max_batch = 2;
    config.max_in_flight = 4;
    for (round = 0; round < 3; round++) {
        open_with(&config);
        for (key[0] = 'a'; key[0] < 'i'; key[0]++)
            CHECK_EQ(put(key, "1", 0), 0);
        for (i = 0; i < 4; i++)
            batches[i] = next_of(2, 0);
        for (key[0] = 'a'; key[0] < 'i'; key[0]++) {
            CHECK_EQ(put(key, "2", 0), 0);
            CHECK_EQ(put(key, "3", 0), 0);
            CHECK(finds(key, "3"));
        }
        CHECK_EQ(w.free_records, 0);
        CHECK_EQ(cache_wb_n_dirty(&w), 8);
        refuses(&item, CACHE_EFULL, true);
        for (i = 4; i-- > 0;) {
            CHECK(is_item(&batches[i]->items[0],
                          (const char[]) { (char)('a' + 2 * i), '\0' }, "1"));
            if (round < 2)
                finish(batches[i], round ? CACHE_EIO : 0, 10);
        }
        if (round == 2) {
            CHECK_EQ(give_up(), 8);
            for (i = 0; i < 4; i++)
                finish(batches[i], i % 2 ? CACHE_EIO : 0, 10);
            CHECK_EQ(w.stats.n_lost, 12);
        } else {
            CHECK_EQ(cache_wb_n_dirty(&w), 8);
            refuses(&item, CACHE_EFULL, true);
            while (cache_wb_n_dirty(&w) > 0) {
                struct cache_store_batch *batch = next(FOREVER);

                for (i = 0; i < batch->n_items; i++)
                    CHECK_EQ(batch->items[i].value.len, 1);
                CHECK_EQ(*(const char *)batch->items[0].value.data, '3');
                finish(batch, 0, FOREVER);
            }
        }
        shut();
    }
}

/* --- giving up ----------------------------------------------------------- */

/* What becomes of "a" in each state, with a store that then says `status`. */
static void give_up_in_each_state(void)
{
    static const struct {
        enum cache_wb_state state;
        int status;              /* of what was sent */
        unsigned at_once, later; /* letters */
    } cases[] = {
        { CACHE_WB_WAITING, 0, 1, 1 },
        { CACHE_WB_RETRYING, 0, 1, 1 },
        { CACHE_WB_SENT, 0, 0, 0 },
        { CACHE_WB_SENT, CACHE_ECONFLICT, 0, 0 },
        { CACHE_WB_SENT, CACHE_EIO, 0, 1 },
        { CACHE_WB_BLOCKED, 0, 1, 1 },
        { CACHE_WB_BLOCKED, CACHE_EIO, 1, 2 },
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cache_store_batch *batch;
        uint64_t barrier;

        open_small();
        batch = bring_to(cases[i].state);
        barrier = cache_wb_flush(&w);
        CHECK_EQ(give_up(), cases[i].at_once);
        CHECK_EQ(n_letters, cases[i].at_once);
        CHECK_EQ(cache_wb_n_dirty(&w), batch != NULL);
        CHECK_EQ(cache_wb_is_stored(&w, barrier), batch == NULL);
        CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
        CHECK(next(FOREVER) == NULL);
        CHECK_EQ(put("a", "new", 100), CACHE_ECLOSED);
        CHECK_EQ(put("b", "new", 100), CACHE_ECLOSED);
        CHECK_EQ(put("", "new", 100), CACHE_ECLOSED);
        if (cases[i].at_once) {
            CHECK_STR(letters[0].key, "a");
            CHECK_STR(letters[0].value, "old");
            CHECK_EQ(letters[0].status, CACHE_ECLOSED);
        }
        CHECK_EQ(give_up(), cases[i].at_once); /* again changes nothing */
        if (batch) {
            CHECK(is_item(&batch->items[0], "a",
                          cases[i].state == CACHE_WB_SENT ? "old" : "older"));
            CHECK(find("a") != NULL); /* not confirmed yet */
            finish(batch, cases[i].status, 200);
        }
        CHECK_EQ(n_letters, cases[i].later);
        if (cases[i].later > cases[i].at_once)
            CHECK_EQ(letters[n_letters - 1].status, cases[i].status);
        CHECK_EQ(w.stats.n_lost, cases[i].later);
        CHECK_EQ(w.stats.n_dead, 0);
        CHECK_EQ(cache_wb_n_dirty(&w), 0);
        CHECK(find("a") == NULL);
        CHECK(cache_wb_is_stored(&w, barrier));
        CHECK_EQ(cache_wb_due_ms(&w), UINT64_MAX);
        cache_wb_destroy(&w); /* nothing is at the store */
        CHECK_EQ(n_allocs, n_frees);
    }
}

/* n_lost is of those after max_attempts, too, and of many keys at once. */
static void give_up_of_everything(void)
{
    struct cache_wb_config config = small();
    static const int statuses[] = { 0, CACHE_EIO, CACHE_EIO, 0 };
    struct cache_store_batch *batch;
    char key[] = "a";
    unsigned i;

    config.max_attempts = 1;
    open_with(&config);
    CHECK_EQ(put("z", "v", 0), 0);
    finish(next_of(1, 100), CACHE_EIO, 100);
    CHECK_EQ(w.stats.n_dead, 1);
    for (key[0] = 'a'; key[0] < 'i'; key[0]++)
        CHECK_EQ(put(key, "v", 100), 0);
    batch = next_of(4, 100);         /* a to d */
    CHECK_EQ(put("b", "w", 100), 0); /* behind b */
    CHECK_EQ(put("e", "w", 100), 0); /* over e */
    CHECK_EQ(give_up(), 5);          /* b, and e to h */
    CHECK_EQ(w.n_keys, 4);
    finish_each(batch, statuses, 100); /* b's older, and c */
    CHECK_EQ(w.stats.n_lost, 7);
    CHECK_EQ(w.stats.n_dead, 1);
    CHECK_EQ(n_letters, 8);
    for (i = 0; i < n_letters; i++)
        if (letters[i].key[0] == 'e')
            CHECK_STR(letters[i].value, "w");
    CHECK_EQ(cache_wb_n_dirty(&w), 0);
    CHECK_EQ(give_up(), 7);
    cache_wb_destroy(&w);
}

static void give_up_of_nothing(void)
{
    open_small();
    CHECK_EQ(give_up(), 0);
    CHECK_EQ(put("a", "1", 0), CACHE_ECLOSED);
    CHECK(cache_wb_is_stored(&w, cache_wb_flush(&w)));
    cache_wb_destroy(&w);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(config_errors),
        TEST(config_other_errors),
        TEST(config_defaults),
        TEST(one_allocation),
        TEST(seed_0_is_random),
        TEST(write_reaches_the_store),
        TEST(bad_writes),
        TEST(bytes_are_copied),
        TEST(versions_increase),
        TEST(keys_with_equal_hashes),
        TEST(coalesces),
        TEST(put_coalesces_with_remove),
        TEST(find_has_the_newest),
        TEST(one_write_per_key_at_the_store),
        TEST(unblocked_write_waits_an_interval),
        TEST(newer_write_replaces_one_that_failed),
        TEST(hot_key),
        TEST(batch_by_interval),
        TEST(batch_by_count),
        TEST(batches_in_flight),
        TEST(statuses_are_of_items),
        TEST(conflict_settles),
        TEST(flush_of_nothing),
        TEST(flush_makes_all_due),
        TEST(flush_is_a_barrier),
        TEST(flush_in_an_outage),
        TEST(flush_and_coalescing),
        TEST(flush_of_a_hot_key),
        TEST(flush_unblocks_into_the_front),
        TEST(flush_waits_for_retries),
        TEST(flush_ends_with_dead_letters),
        TEST(backoff_bounds),
        TEST(jitter_is_of_the_seed),
        TEST(jitter_spreads),
        TEST(retries_in_order),
        TEST(companions_are_halved),
        TEST(companions_of_every_write),
        TEST(batches_grow_again_after_an_outage),
        TEST(poisoned_row_ends_up_alone),
        TEST(max_attempts),
        TEST(max_attempts_0_is_for_ever),
        TEST(newer_write_starts_anew),
        TEST(no_hook_for_dead_letters),
        TEST(full),
        TEST(full_and_all_of_it_sent),
        TEST(give_up_in_each_state),
        TEST(give_up_of_everything),
        TEST(give_up_of_nothing),
    };

    return TEST_MAIN(argc, argv, tests);
}
