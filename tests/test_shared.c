/*
 * test_shared.c - what cache_shared.h promises, sentence by sentence: configs,
 * shards, who writes what, callbacks, locks, counters, threads that come and
 * go.  Its operations are compared with a model in test_shared_model.c, and run
 * against each other in test_shared_stress.c, test_history.c, test_explore.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A mistake of the caller that is expected jumps out of the cache. */
static _Thread_local jmp_buf mistake;
static _Thread_local bool expects_mistake;

static void cache_assert_failed(const char *what);

#define CACHE_ASSERT(condition)                                                \
    ((condition) ? (void)0 : cache_assert_failed(#condition))

#include "cache_shared.h"
#include "tests/test.h"

static void cache_assert_failed(const char *what)
{
    if (expects_mistake)
        longjmp(mistake, 1);
    printf("CACHE_ASSERT: %s\n", what);
    abort();
}

/* --- caches -------------------------------------------------------------- */

struct pair {
    uint64_t a, b;
};

static struct pair pair_of(uint64_t x)
{
    struct pair v = { x, ~x };

    return v;
}

/* What a test wants to happen when a value leaves. */
static void (*when_left)(uint64_t key, uint64_t value, enum cache_cause cause);
static uint64_t n_left[CACHE_CAUSE_CLEARED + 1]; /* by cause */

static void pair_left(const uint64_t *key, struct pair *value,
                      enum cache_cause cause, void *user)
{
    (void)user;
    if (value->b != ~value->a)
        abort(); /* any thread may be here */
    __atomic_fetch_add(&n_left[cause], 1, __ATOMIC_RELAXED);
    if (when_left != NULL)
        when_left(*key, value->a, cause);
}

static uint64_t all_left(void)
{
    uint64_t n = 0;
    int cause;

    for (cause = 0; cause <= CACHE_CAUSE_CLEARED; cause++)
        n += n_left[cause];
    return n;
}

/* A value weighs its first word. */
static uint64_t pair_weigh(const uint64_t *key, const struct pair *value,
                           void *user)
{
    (void)key, (void)user;
    return value->a;
}

/* No callbacks and no statistics; all features with and without the lock; and
 * a policy of its own. */
CACHE_DEFINE_SHARED(bare, uint64_t, struct pair, cache_hash_u64,
                    cache_equal_u64, CACHE_POLICY_DYNAMIC | CACHE_PLAIN_DATA);
CACHE_DEFINE_SHARED_WITH(plain, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64,
                         CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS |
                             CACHE_PLAIN_DATA,
                         .on_remove = pair_left);
CACHE_DEFINE_SHARED_WITH(heavy, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64,
                         CACHE_SIEVE | CACHE_WEIGHED | CACHE_STATS |
                             CACHE_PLAIN_DATA,
                         .on_remove = pair_left, .weigh = pair_weigh);

/* All metadata, with and without the lock. */
#define META (CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION)
CACHE_DEFINE_SHARED_WITH(noted, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64,
                         CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS |
                             CACHE_PLAIN_DATA | META,
                         .on_remove = pair_left);
CACHE_DEFINE_SHARED(noted_locked, uint64_t, struct pair, cache_hash_u64,
                    cache_equal_u64, CACHE_LRU | META);

static uint64_t clock_ms;

static uint64_t fake_now(void *user)
{
    (void)user;
    return __atomic_load_n(&clock_ms, __ATOMIC_RELAXED);
}

static struct cache_config config_of(size_t capacity, uint32_t shards)
{
    struct cache_config config = { 0 };

    config.capacity = capacity;
    config.shards = shards;
    return config;
}

static struct cache_config plain_config(size_t capacity, uint32_t shards)
{
    struct cache_config config = config_of(capacity, shards);

    config.now = fake_now;
    config.tick_ms = 1;
    clock_ms = 5000;
    when_left = NULL;
    memset(n_left, 0, sizeof n_left);
    return config;
}

/* --- configs ------------------------------------------------------------- */

/* Only for what init says of them. */
static void pair_retain(const struct pair *value, void *user)
{
    (void)value, (void)user;
}

static int key_copy(uint64_t *key, void *user)
{
    (void)key, (void)user;
    return 0;
}

CACHE_DEFINE_SHARED_WITH(retains, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64, CACHE_FIFO | CACHE_PLAIN_DATA,
                         .retain = pair_retain);
CACHE_DEFINE_SHARED_WITH(copies, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64, CACHE_FIFO | CACHE_PLAIN_DATA,
                         .key_copy = key_copy);
CACHE_DEFINE(alone, uint64_t, struct pair, cache_hash_u64, cache_equal_u64,
             CACHE_FIFO);

/* Init refuses with this error, and has touched nothing. */
#define REFUSES(name, config, error)                                           \
    do {                                                                       \
        struct name cache_, before_;                                           \
        const struct cache_config config_ = (config);                          \
        static unsigned char buffer_[1 << 20];                                 \
        memset(&cache_, 0x5a, sizeof cache_);                                  \
        before_ = cache_;                                                      \
        CHECK_EQ(name##_init(&cache_, &config_), error);                       \
        CHECK_EQ(name##_init_in(&cache_, &config_, buffer_, sizeof buffer_),   \
                 error);                                                       \
        CHECK_EQ(name##_memory_needed(&config_), 0);                           \
        CHECK(memcmp(&cache_, &before_, sizeof cache_) == 0);                  \
    } while (0)

static void *no_memory(size_t bytes, void *user)
{
    (void)bytes, (void)user;
    return NULL;
}

static void never_called(void *memory, void *user)
{
    (void)memory, (void)user;
    abort();
}

static void bad_configs_are_refused(void)
{
    const struct cache_config good = config_of(100, 4);
    struct cache_config c;
    struct bare cache;

    REFUSES(bare, (c = good, c.capacity = 0, c), CACHE_ECAPACITY);
    REFUSES(bare, (c = good, c.capacity = (size_t)CACHE_MAX_CAPACITY + 1, c),
            CACHE_ECAPACITY);
    REFUSES(bare, (c = good, c.shards = 101, c), CACHE_ESHARDS);
    REFUSES(bare, (c = good, c.shards = 65, c), CACHE_ESHARDS); /* 128 */
    REFUSES(
        bare,
        (c = good, c.capacity = 1000000, c.shards = CACHE__MAX_SHARDS + 1, c),
        CACHE_ESHARDS);
    REFUSES(bare, (c = good, c.alloc = no_memory, c), CACHE_EALLOCATOR);
    REFUSES(bare, (c = good, c.policy = 77, c), CACHE_EPOLICY);
    REFUSES(bare, (c = good, c.ttl_ms = 1000, c), CACHE_ENOEXPIRY);
    REFUSES(bare, (c = good, c.tick_ms = 10, c), CACHE_ETICK);
    REFUSES(bare, (c = good, c.max_bytes = 1000000, c), CACHE_EWEIGHT);
    REFUSES(plain, (c = good, c.ttl_ms = 10, c.tick_ms = 100, c), CACHE_ETTL);
    REFUSES(heavy, (c = good, c), CACHE_EWEIGHT);
    /* A shard's part must hold an entry. */
    REFUSES(heavy, (c = good, c.max_bytes = 40, c), CACHE_EWEIGHT);
    REFUSES(heavy, (c = good, c.policy = CACHE_LRU, c), CACHE_EPOLICY);
    REFUSES(retains, (c = good, c), CACHE_ERETAIN);
    REFUSES(copies, (c = good, c), CACHE_ERETAIN);
    REFUSES(alone, (c = good, c), CACHE_ESHARDS);
    CHECK_EQ(bare_init(&cache, NULL), CACHE_EINVAL);
    CHECK_EQ(bare_init(NULL, &good), CACHE_EINVAL);
    c = good;
    c.alloc = no_memory;
    c.free = never_called;
    CHECK_EQ(bare_init(&cache, &c), CACHE_ENOMEM);
    CHECK(strcmp(cache_strerror(CACHE_ESHARDS), cache_strerror(-1)) != 0);
    CHECK(strcmp(cache_strerror(CACHE_ERETAIN), cache_strerror(-1)) != 0);
}

/* --- memory -------------------------------------------------------------- */

static size_t allocated;

static void *counting_alloc(size_t bytes, void *user)
{
    void *memory = malloc(bytes);

    CHECK(user == &allocated && memory != NULL);
    memset(memory, 0xa5, bytes);
    allocated += bytes;
    return memory;
}

static void counting_free(void *memory, void *user)
{
    CHECK(user == &allocated);
    allocated = 0;
    free(memory);
}

static void one_block_is_allocated_and_freed(void)
{
    struct cache_config c = config_of(1000, 8);
    struct bare cache;
    struct pair v;

    c.alloc = counting_alloc;
    c.free = counting_free;
    c.user = &allocated;
    CHECK_EQ(bare_init(&cache, &c), 0);
    CHECK_EQ(allocated, bare_memory_needed(&c));
    CHECK_EQ(bare_memory(&cache).total_bytes, allocated);
    CHECK_EQ(bare_memory(&cache).bookkeeping_bytes,
             allocated - 1000 * (sizeof(uint64_t) + sizeof(struct pair)));
    CHECK_EQ(bare_put(&cache, 1, pair_of(2)), 0);
    CHECK(bare_get(&cache, 1, &v) && v.a == 2);
    CHECK_SOUND(bare_check(&cache));
    bare_destroy(&cache);
    CHECK_EQ(allocated, 0);
    bare_destroy(&cache); /* harmless; so is a struct of zeroes */
}

/* At any address, and not a byte behind its end is touched. */
static void a_buffer_of_the_callers_is_enough(void)
{
    const struct cache_config c = config_of(37, 4);
    const size_t bytes = bare_memory_needed(&c);
    unsigned char *buffer = (unsigned char *)malloc(bytes + 300);
    uint32_t policy;
    size_t skew, i;

    CHECK(buffer != NULL && bytes != 0);
    for (skew = 0; skew < 200; skew += 13) {
        struct bare cache;
        struct pair v;

        memset(buffer, 0x77, bytes + 300);
        CHECK_EQ(bare_init_in(&cache, &c, buffer + skew, bytes - 1),
                 CACHE_EBUFFER);
        CHECK_EQ(bare_init_in(&cache, &c, NULL, bytes), CACHE_EBUFFER);
        CHECK_EQ(bare_init_in(&cache, &c, buffer + skew, bytes), 0);
        for (i = 0; i < 200; i++)
            CHECK_EQ(bare_put(&cache, i, pair_of(i)), 0);
        CHECK_EQ(bare_put(&cache, 7, pair_of(70)), 0);
        CHECK(bare_get(&cache, 7, &v) && v.a == 70);
        CHECK_SOUND(bare_check(&cache));
        bare_destroy(&cache);
        for (i = 0; i < skew; i++)
            CHECK_EQ(buffer[i], 0x77);
        for (i = skew + bytes; i < bytes + 300; i++)
            CHECK_EQ(buffer[i], 0x77);
    }
    free(buffer);
    for (policy = 1; policy <= CACHE__POLICY_BITS; policy++) {
        struct cache_config with = config_of(1000, 0);
        struct bare cache;

        with.policy = policy;
        if (cache_policy_name(policy) == NULL)
            continue;
        CHECK_EQ(bare_init(&cache, &with), 0);
        CHECK_SOUND(bare_check(&cache));
        bare_destroy(&cache);
    }
}

/* --- shards -------------------------------------------------------------- */

/* However odd the numbers, the shards hold as many entries as the cache has to,
 * and no more. */
static void shards_share_the_capacity_out(void)
{
    static const struct {
        uint32_t capacity, shards, becomes;
    } cases[] = { { 1, 1, 1 },     { 3, 2, 2 },       { 7, 4, 4 },
                  { 64, 64, 64 },  { 100, 3, 4 },     { 101, 16, 16 },
                  { 255, 0, 1 },   { 512, 0, 2 },     { 1023, 0, 2 },
                  { 1024, 0, 4 },  { 10007, 5, 8 },   { 4099, 0, 16 },
                  { 65537, 7, 8 }, { 5000, 128, 128 } };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cache_config c = config_of(cases[i].capacity, cases[i].shards);
        struct bare cache;
        uint64_t key;

        c.policy = CACHE_SIEVE;
        CHECK_EQ(bare_init(&cache, &c), 0);
        CHECK_EQ(cache.base.n_shards, cases[i].becomes);
        for (key = 0; key < 12 * (uint64_t)c.capacity + 2000; key++) {
            CHECK_EQ(bare_put(&cache, key, pair_of(key)), 0);
            if (key % 4096 == 0)
                CHECK(bare_len(&cache) <= c.capacity);
        }
        CHECK_EQ(bare_len(&cache), c.capacity);
        CHECK_SOUND(bare_check(&cache));
        CHECK_EQ(bare_clear(&cache), 0);
        CHECK_EQ(bare_len(&cache), 0);
        CHECK_SOUND(bare_check(&cache));
        bare_destroy(&cache);
    }
}

/* Keys whose hashes differ in the lower bits only still go everywhere. */
static void shards_get_about_as_many_keys(void)
{
    struct cache_config c = config_of(100000, 16);
    struct bare cache;
    uint32_t n[16] = { 0 };
    uint64_t key;
    size_t i;

    CHECK_EQ(bare_init(&cache, &c), 0);
    for (key = 0; key < 16000; key++)
        n[cache__shard_number(&cache.base, bare__hash(&cache, &key))]++;
    for (i = 0; i < 16; i++)
        CHECK(n[i] > 800 && n[i] < 1200);
    bare_destroy(&cache);
}

/* --- operations ---------------------------------------------------------- */

static void show(const uint64_t *key, const struct pair *value, void *user)
{
    *(uint64_t *)user = *key * 1000 + value->a;
}

static bool visit(const uint64_t *key, const struct pair *value, void *user)
{
    uint64_t *seen = (uint64_t *)user;

    CHECK_EQ(value->a, *key + 1);
    *seen |= (uint64_t)1 << *key;
    return *key != 63;
}

static void operations_do_what_they_say(void)
{
    struct cache_config c = plain_config(1000, 4);
    struct plain cache;
    struct cache_stats stats;
    struct pair v = pair_of(9);
    uint64_t x = 0, seen = 0, key;
    bool inserted = true;

    CHECK_EQ(plain_init(&cache, &c), 0);
    CHECK(!plain_get(&cache, 1, &v) && v.a == 9);
    CHECK(!plain_peek(&cache, 1, &v) && v.a == 9);
    CHECK(!plain_contains(&cache, 1));
    CHECK_EQ(plain_read(&cache, 1, show, &x), CACHE_EKEY);
    CHECK_EQ(plain_replace(&cache, 1, pair_of(5)), CACHE_EKEY);
    CHECK_EQ(plain_remove(&cache, 1), CACHE_EKEY);
    CHECK_EQ(plain_touch_ttl(&cache, 1, 10), CACHE_EKEY);
    CHECK_EQ(plain_put(&cache, 1, pair_of(5)), 0);
    CHECK(plain_get(&cache, 1, &v) && v.a == 5);
    CHECK(plain_peek(&cache, 1, &v) && plain_contains(&cache, 1));
    CHECK_EQ(plain_read(&cache, 1, show, &x), 0);
    CHECK_EQ(x, 1005);
    CHECK_EQ(plain_put_if_absent(&cache, 1, pair_of(6)), CACHE_EKEY);
    CHECK_EQ(plain_replace(&cache, 1, pair_of(7)), 0);
    CHECK_EQ(plain_get_or_insert(&cache, 1, pair_of(8), NULL, NULL), 0);
    CHECK_EQ(plain_get_or_insert(&cache, 1, pair_of(8), &v, &inserted), 0);
    CHECK(v.a == 7 && !inserted);
    CHECK_EQ(plain_get_or_insert(&cache, 2, pair_of(8), &v, &inserted), 0);
    CHECK(v.a == 8 && inserted);
    CHECK_EQ(plain_get_or_insert(&cache, 3, pair_of(8), NULL, NULL), 0);
    CHECK_EQ(plain_len(&cache), 3);
    CHECK_EQ(plain_stats(&cache, &stats), 0);
    CHECK_EQ(stats.hits, 1 + 1 + 2);
    CHECK_EQ(stats.misses, 1 + 1 + 2);
    CHECK_EQ(stats.inserts, 3);
    CHECK_EQ(stats.replaces, 1);
    CHECK_EQ(plain_remove(&cache, 2), 0);
    CHECK_EQ(n_left[CACHE_CAUSE_REMOVED], 1);
    CHECK_EQ(plain_clear(&cache), 0);
    CHECK_EQ(n_left[CACHE_CAUSE_CLEARED], 2);
    for (key = 0; key < 63; key++)
        CHECK_EQ(plain_put(&cache, key, pair_of(key + 1)), 0);
    plain_each(&cache, visit, &seen);
    CHECK_EQ(seen, UINT64_MAX >> 1);
    CHECK_EQ(plain_put(&cache, 63, pair_of(64)), 0);
    seen = 0;
    plain_each(&cache, visit, &seen); /* ends at 63 */
    CHECK(seen >> 63 == 1);
    plain_destroy(&cache);
    CHECK_EQ(all_left(), 4 + 64);
}

static void features_that_are_off_say_so(void)
{
    struct cache_config c = config_of(10, 1);
    struct cache_stats stats;
    struct bare cache;

    CHECK_EQ(bare_init(&cache, &c), 0);
    CHECK_EQ(bare_put_ttl(&cache, 1, pair_of(1), 100), CACHE_EINVAL);
    CHECK_EQ(bare_touch_ttl(&cache, 1, 100), CACHE_EINVAL);
    CHECK_EQ(bare_stats(&cache, &stats), CACHE_EINVAL);
    CHECK_EQ(bare_tick(&cache, 100), 0);
    CHECK_EQ(bare_len(&cache), 0);
    bare_destroy(&cache);
}

/* --- time ---------------------------------------------------------------- */

static void expired_entries_are_not_found(void)
{
    struct cache_config c = plain_config(64, 4);
    struct plain cache;
    struct pair v;
    uint64_t key;

    c.ttl_ms = 100;
    CHECK_EQ(plain_init(&cache, &c), 0);
    for (key = 0; key < 8; key++)
        CHECK_EQ(plain_put(&cache, key, pair_of(key)), 0);
    CHECK_EQ(plain_put_ttl(&cache, 8, pair_of(8), 50), 0);
    CHECK_EQ(plain_put_ttl(&cache, 9, pair_of(9), CACHE_NEVER), 0);
    CHECK_EQ(plain_put_ttl(&cache, 9, pair_of(9), 0), CACHE_ETTL);
    CHECK_EQ(plain_touch_ttl(&cache, 7, 200), 0);
    clock_ms += 50;
    CHECK(!plain_get(&cache, 8, &v) && !plain_contains(&cache, 8));
    CHECK(plain_get(&cache, 6, &v));
    clock_ms += 50;
    CHECK(!plain_get(&cache, 6, &v) && !plain_peek(&cache, 6, &v));
    CHECK(plain_get(&cache, 7, &v) && plain_get(&cache, 9, &v));
    CHECK_EQ(plain_replace(&cache, 6, pair_of(1)), CACHE_EKEY);
    CHECK_EQ(plain_put_if_absent(&cache, 6, pair_of(66)), 0);
    CHECK_EQ(n_left[CACHE_CAUSE_EXPIRED], 1);
    while (plain_tick(&cache, 3) != 0)
        continue;
    CHECK_EQ(n_left[CACHE_CAUSE_EXPIRED], 8);
    CHECK_EQ(plain_len(&cache), 3);
    CHECK_SOUND(plain_check(&cache));
    plain_destroy(&cache);
    CHECK_EQ(all_left(), 11);
}

/* A small budget gets round all shards. */
static void ticks_go_on_where_the_last_one_ended(void)
{
    struct cache_config c = plain_config(4096, 64);
    struct plain cache;
    uint64_t key;
    int calls = 0;

    c.ttl_ms = 10;
    CHECK_EQ(plain_init(&cache, &c), 0);
    for (key = 0; key < 2000; key++)
        CHECK_EQ(plain_put(&cache, key, pair_of(key)), 0);
    clock_ms += 20;
    while (plain_tick(&cache, 5) != 0) {
        CHECK(++calls < 2000);
        CHECK(n_left[CACHE_CAUSE_EXPIRED] <= 5 * (uint64_t)calls);
    }
    CHECK_EQ(plain_len(&cache), 0);
    CHECK_EQ(n_left[CACHE_CAUSE_EXPIRED], 2000);
    plain_destroy(&cache);
}

/* One shard where new entries expire all the time does not keep the ticks from
 * the others. */
static struct plain *ticked;
static uint64_t left_elsewhere;

static uint32_t shard_of(uint64_t key)
{
    return (uint32_t)cache__shard_number(&ticked->base,
                                         plain__hash(ticked, &key));
}

static void count_elsewhere(uint64_t key, uint64_t value,
                            enum cache_cause cause)
{
    (void)value, (void)cause;
    left_elsewhere += shard_of(key) != 0;
}

static void ticks_get_to_every_shard(void)
{
    struct cache_config c = plain_config(4000, 4);
    struct plain cache;
    uint64_t key, elsewhere = 0, next = 1000;
    int round, i;

    c.ttl_ms = 10;
    ticked = &cache;
    left_elsewhere = 0;
    CHECK_EQ(plain_init(&cache, &c), 0);
    when_left = count_elsewhere;
    for (key = 0; key < 200; key++) {
        CHECK_EQ(plain_put(&cache, key, pair_of(key)), 0);
        elsewhere += shard_of(key) != 0;
    }
    clock_ms += 20;
    for (round = 0; round < 300; round++) {
        for (i = 0; i < 6; next++) {
            if (shard_of(next) != 0)
                continue;
            CHECK_EQ(plain_put_ttl(&cache, next, pair_of(next), 1), 0);
            i++;
        }
        clock_ms++;
        (void)plain_tick(&cache, 5);
    }
    CHECK_EQ(left_elsewhere, elsewhere);
    when_left = NULL;
    plain_destroy(&cache);
}

/* --- what a hit writes --------------------------------------------------- */

/* A cache in pages of its own, which may be made unwritable: then a store, even
 * of what is there already, is a fault. */
static struct {
    struct bare cache;
    unsigned char *block;
    size_t bytes;
} page;

static sigjmp_buf faulted;

static void fault(int signal_number)
{
    (void)signal_number;
    siglongjmp(faulted, 1);
}

static void page_init(uint32_t policy, size_t capacity, uint32_t shards)
{
    struct cache_config c = config_of(capacity, shards);

    c.policy = policy;
    page.bytes = bare_memory_needed(&c);
    page.block = (unsigned char *)mmap(NULL, page.bytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page.block != MAP_FAILED);
    CHECK_EQ(bare_init_in(&page.cache, &c, page.block, page.bytes), 0);
}

static void page_destroy(void)
{
    bare_destroy(&page.cache);
    CHECK_EQ(munmap(page.block, page.bytes), 0);
}

/* What this does to the cache is to look, and it stores nothing. */
static bool writes_nothing(void (*look)(void))
{
    void (*before)(int) = signal(SIGSEGV, fault);
    volatile bool nothing = true;

    CHECK_EQ(mprotect(page.block, page.bytes, PROT_READ), 0);
    if (sigsetjmp(faulted, 1) == 0)
        look();
    else
        nothing = false;
    CHECK_EQ(mprotect(page.block, page.bytes, PROT_READ | PROT_WRITE), 0);
    (void)signal(SIGSEGV, before);
    return nothing;
}

static uint64_t first_key, last_key, n_found;

static void get_all(void)
{
    struct pair v;
    uint64_t key;

    for (key = first_key; key <= last_key; key++) {
        uint64_t hash = bare__hash(&page.cache, &key);

        /* ADAPTIVE keeps count of a few keys. */
        if (page.cache.base.chooser != NULL &&
            cache__in_sample(hash, page.cache.base.chooser->sample_limit))
            continue;
        n_found += bare_get(&page.cache, key, &v);
    }
}

static void peek_all(void)
{
    struct pair v;
    uint64_t key;

    for (key = first_key; key <= last_key; key++) {
        (void)bare_peek(&page.cache, key, &v);
        (void)bare_contains(&page.cache, key);
    }
}

CACHE_UNUSED static void put_one(void)
{
    (void)bare_put(&page.cache, 7, pair_of(7));
}

/* In the steady state, nothing. */
static void hits_write_nothing(void)
{
    static const uint32_t policies[] = { CACHE_SIEVE,   CACHE_CLOCK,
                                         CACHE_FIFO,    CACHE_S3FIFO,
                                         CACHE_TTL,     CACHE_RANDOM,
                                         CACHE_ADAPTIVE };
    size_t i;

    first_key = 0;
    last_key = 2999;
    for (i = 0; i < sizeof policies / sizeof *policies; i++) {
        uint64_t key;
        int round;

        page_init(policies[i], 1000, 4);
        for (key = first_key; key <= last_key; key++)
            CHECK_EQ(bare_put(&page.cache, key, pair_of(key)), 0);
        CHECK(writes_nothing(peek_all)); /* that needs no use before */
        for (round = 0; round < 4; round++)
            get_all();
        n_found = 0;
        CHECK(writes_nothing(get_all));
        CHECK(n_found > 500);
#if !defined(CACHE__TSAN) /* which does not like faults in its functions */
        CHECK(!writes_nothing(put_one));
#endif
        page_destroy();
    }
}

/* LRU writes nothing for the newest quarter of a shard, and moves others. */
static void lru_moves_what_has_left_the_newest_quarter(void)
{
    uint64_t key;

    page_init(CACHE_LRU, 100, 1);
    for (key = 0; key < 100; key++)
        CHECK_EQ(bare_put(&page.cache, key, pair_of(key)), 0);
    first_key = 80;
    last_key = 99;
    CHECK(writes_nothing(get_all));
    first_key = last_key = 0;
    get_all(); /* the oldest is the newest now */
    CHECK(writes_nothing(get_all));
    CHECK_EQ(bare_put(&page.cache, 100, pair_of(100)), 0);
    CHECK(bare_contains(&page.cache, 0) && !bare_contains(&page.cache, 1));
    CHECK_SOUND(bare_check(&page.cache));
    page_destroy();
}

/* --- what is known of an entry ------------------------------------------- */

static struct cache_entry entry_of(struct noted *c, uint64_t key)
{
    struct cache_entry e;

    memset(&e, 0xa5, sizeof e);
    CHECK_EQ(noted_entry(c, key, &e), 0);
    return e;
}

/* The lock of a shard is held: what comes to an end took none. */
static bool get_without_the_lock(struct noted *c, uint64_t key)
{
    struct noted__shard *shard = noted__shard_of(c, noted__hash(c, &key));
    struct pair v;
    bool found;

    CHECK(CACHE_TRYLOCK(&shard->lock));
    found = noted_get(c, key, &v);
    CACHE_UNLOCK(&shard->lock);
    return found;
}

static void hits_without_the_lock_are_noted(void)
{
    struct cache_config config = plain_config(1000, 4);
    struct noted c;
    struct cache_entry e, before;
    struct pair v;
    uint64_t i;

    config.tick_ms = 50;
    config.policy = CACHE_SIEVE;
    CHECK_EQ(noted_init(&c, &config), 0);
    clock_ms = 5049;
    CHECK_EQ(noted_put_ttl(&c, 1, pair_of(7), 1000), 0);
    CHECK_EQ(entry_of(&c, 1).created_ms, 5000);
    for (i = 5040; i < 5210; i++) {
        clock_ms = i < 5049 ? 5049 : i;
        CHECK(get_without_the_lock(&c, 1));
        e = entry_of(&c, 1);
        CHECK_EQ(e.accessed_ms, clock_ms / 50 * 50);
        CHECK_EQ(e.created_ms, 5000);
        CHECK_EQ(e.count, i - 5040 + 1);
        CHECK_EQ(e.expires_ms, 6000);
    }
    before = e;
    clock_ms = 5500; /* these are no uses */
    CHECK(noted_peek(&c, 1, &v) && noted_contains(&c, 1));
    e = entry_of(&c, 1);
    CHECK(memcmp(&e, &before, sizeof e) == 0);
    CHECK_EQ(noted_get_or_insert(&c, 1, v, NULL, NULL), 0);
    CHECK_EQ(noted_read(&c, 1, show, &i), 0);
    CHECK_EQ(entry_of(&c, 1).count, before.count + 2);
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 5500);
    clock_ms = 5100; /* a clock that goes back is not followed */
    CHECK(get_without_the_lock(&c, 1));
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 5500);
    clock_ms = 4000;
    CHECK(get_without_the_lock(&c, 1));
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 5500);
    clock_ms = 6000;
    CHECK(!noted_get(&c, 1, &v));
    CHECK_EQ(noted_entry(&c, 1, &e), CACHE_EKEY);
    CHECK_SOUND(noted_check(&c));
    noted_destroy(&c);
}

/* At the end of 2^32 ticks time stands still, with the lock or without. */
static void hits_at_the_end_of_time(void)
{
    struct cache_config config = plain_config(10, 1);
    struct noted c;

    CHECK_EQ(noted_init(&c, &config), 0);
    CHECK_EQ(noted_put(&c, 1, pair_of(7)), 0);
    clock_ms = UINT64_MAX;
    CHECK(get_without_the_lock(&c, 1));
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 5000 + (uint64_t)UINT32_MAX - 1);
    CHECK_EQ(noted_put(&c, 1, pair_of(8)), 0);
    CHECK_EQ(entry_of(&c, 1).accessed_ms, 5000 + (uint64_t)UINT32_MAX - 1);
    cache__meta_of(&noted__shard_of(&c, 0)->base)->counts[1] = UINT32_MAX - 1;
    CHECK(get_without_the_lock(&c, 1) && get_without_the_lock(&c, 1));
    CHECK_EQ(entry_of(&c, 1).count, UINT32_MAX);
    CHECK_SOUND(noted_check(&c));
    noted_destroy(&c);
}

/* A thread that found an entry comes to note it when the slot is free, or has
 * another entry: check finds nothing wrong, and nothing falls. */
static void a_late_note_does_no_harm(void)
{
    struct cache_config config = plain_config(1, 1);
    struct noted c;
    struct noted__shard *shard;

    config.policy = CACHE_SIEVE;
    CHECK_EQ(noted_init(&c, &config), 0);
    shard = noted__shard_of(&c, 0);
    CHECK_EQ(noted_put(&c, 1, pair_of(7)), 0);
    CHECK_EQ(noted_remove(&c, 1), 0);
    clock_ms += 10;
    cache__note_look(&c.base, &shard->base, noted__shard__options, 1);
    CHECK_SOUND(noted_check(&c));
    CHECK_EQ(noted_len(&c), 0);
    clock_ms += 10;
    CHECK_EQ(noted_put(&c, 2, pair_of(8)), 0); /* in the same slot */
    CHECK_EQ(entry_of(&c, 2).count, 0);
    cache__meta_of(&shard->base)->times[1].accessed -=
        10; /* as the other thread saw it */
    CHECK_SOUND(noted_check(&c));
    CHECK_EQ(entry_of(&c, 2).accessed_ms, 5020);
    noted_destroy(&c);
}

static void hits_with_the_lock_are_noted(void)
{
    struct cache_config config = plain_config(1000, 4);
    struct noted_locked c;
    struct cache_entry e;
    struct pair v;

    CHECK_EQ(noted_locked_init(&c, &config), 0);
    CHECK_EQ(noted_locked_put(&c, 1, pair_of(7)), 0);
    clock_ms += 100;
    CHECK(noted_locked_get(&c, 1, &v) && noted_locked_get(&c, 1, &v));
    CHECK(noted_locked_peek(&c, 1, &v));
    CHECK_EQ(noted_locked_entry(&c, 1, &e), 0);
    CHECK_EQ(e.created_ms, 5000);
    CHECK_EQ(e.accessed_ms, 5100);
    CHECK_EQ(e.expires_ms, 0);
    CHECK_EQ(e.count, 2);
    CHECK_EQ(noted_locked_entry(&c, 2, &e), CACHE_EKEY);
    noted_locked_destroy(&c);
}

static void versions_are_compared(void)
{
    struct cache_config config = plain_config(1000, 4);
    struct noted c;
    struct bare off;
    uint64_t version, inner = 0, key;
    const struct pair v = pair_of(9);

    CHECK_EQ(noted_init(&c, &config), 0);
    for (key = 0; key < 100; key++) {
        CHECK_EQ(noted_put_if_version(&c, key, pair_of(1), 5), CACHE_ECONFLICT);
        CHECK_EQ(noted_put_if_version(&c, key, pair_of(1), 0), 0);
        version = entry_of(&c, key).version;
        CHECK(version != 0);
        CHECK_EQ(noted_put_if_version(&c, key, pair_of(2), 0), CACHE_ECONFLICT);
        CHECK_EQ(noted_put_if_version(&c, key, pair_of(2), version), 0);
        CHECK(entry_of(&c, key).version > version);
        version = entry_of(&c, key).version;
        CHECK_EQ(noted_remove(&c, key), 0);
        CHECK_EQ(noted_put(&c, key, pair_of(3)), 0);
        CHECK(entry_of(&c, key).version > version); /* though it had left */
        version = entry_of(&c, key).version;
        CHECK_EQ(noted_put_version(&c, key, v, 1000, version), CACHE_ECONFLICT);
        CHECK_EQ(noted_put_version(&c, key, v, 1000, version + 7), 0);
        CHECK_EQ(entry_of(&c, key).version, version + 7);
        CHECK_EQ(entry_of(&c, key).expires_ms, 6000);
        CHECK_EQ(noted_put_version(&c, key, v, 1000, 0), CACHE_EINVAL);
        CHECK_EQ(noted__put_version(&c, &key, &v, noted__hash(&c, &key),
                                    CACHE_NEVER, CACHE__PRESENT, &inner),
                 0);
        CHECK_EQ(entry_of(&c, key).version, inner);
    }
    CHECK_EQ(n_left[CACHE_CAUSE_REPLACED], 300);
    CHECK_EQ(n_left[CACHE_CAUSE_REMOVED], 100);
    CHECK_SOUND(noted_check(&c));
    noted_destroy(&c);
    config = config_of(100, 1);
    CHECK_EQ(bare_init(&off, &config), 0);
    CHECK_EQ(bare_put_if_version(&off, 1, v, 0), CACHE_EINVAL);
    CHECK_EQ(bare_put_version(&off, 1, v, CACHE_NEVER, 1), CACHE_EINVAL);
    CHECK_EQ(bare_len(&off), 0);
    bare_destroy(&off);
}

/* --- callbacks ----------------------------------------------------------- */

static struct plain *callback_cache;
static int depth;

/* Uses the cache that the value left, and makes others leave. */
static void use_the_cache(uint64_t key, uint64_t value, enum cache_cause cause)
{
    struct pair v;

    (void)cause;
    if (depth >= 3)
        return;
    depth++;
    (void)plain_get(callback_cache, key, &v);
    (void)plain_remove(callback_cache, key + 1);
    CHECK_EQ(plain_put(callback_cache, key + 1000 + value, pair_of(value)), 0);
    (void)plain_tick(callback_cache, 2);
    CHECK_SOUND(plain_check(callback_cache));
    if (value % 64 == 0)
        CHECK_EQ(plain_clear(callback_cache), 0);
    depth--;
}

static int compute_removes(const uint64_t *key, struct pair *value,
                           bool present, void *user)
{
    (void)key, (void)value, (void)present, (void)user;
    return CACHE_COMPUTE_REMOVE;
}

static void callbacks_may_use_the_cache(void)
{
    struct cache_config c = plain_config(20, 2);
    struct cache_stats stats;
    struct plain cache;
    uint64_t i;

    c.ttl_ms = 30;
    callback_cache = &cache;
    depth = 0;
    CHECK_EQ(plain_init(&cache, &c), 0);
    when_left = use_the_cache;
    for (i = 0; i < 600; i++) {
        CHECK_EQ(plain_put(&cache, i % 50, pair_of(i)), 0);
        if (i % 7 == 0)
            (void)plain_remove(&cache, i % 50);
        if (i % 11 == 0)
            (void)plain_compute(&cache, i % 50, compute_removes, NULL);
        if (i % 100 == 99)
            CHECK_EQ(plain_clear(&cache), 0);
        clock_ms++;
        CHECK_SOUND(plain_check(&cache));
        CHECK_EQ(depth, 0);
    }
    when_left = NULL;
    CHECK_EQ(plain_stats(&cache, &stats), 0);
    CHECK_EQ(stats.inserts + stats.replaces, all_left() + plain_len(&cache));
    CHECK_EQ(stats.evictions, n_left[CACHE_CAUSE_EVICTED]);
    CHECK_EQ(stats.expirations, n_left[CACHE_CAUSE_EXPIRED]);
    CHECK_EQ(stats.removes, n_left[CACHE_CAUSE_REMOVED]);
    plain_destroy(&cache);
    CHECK_EQ(stats.inserts + stats.replaces, all_left());
}

/* One that is as heavy as many makes as many leave, each once; what is heavier
 * than a shard's part is refused. */
static void heavy_entries_make_many_leave(void)
{
    struct cache_config c = plain_config(200, 2);
    const uint64_t part = 100000;
    struct heavy cache;
    uint64_t key, share, len;

    c.now = NULL;
    c.tick_ms = 0;
    c.max_bytes = 2 * part;
    CHECK_EQ(heavy_init(&cache, &c), 0);
    share = heavy_memory(&cache).entry_bytes;
    for (key = 0; key < 400; key++)
        CHECK_EQ(heavy_put(&cache, key, pair_of(1500)), 0);
    len = heavy_len(&cache);
    CHECK(len >= 2 * (part / (1500 + share)) - 2);
    CHECK_EQ(heavy_memory(&cache).used_bytes, len * (1500 + share));
    CHECK_EQ(all_left(), 400 - len);
    CHECK_EQ(heavy_put(&cache, 1000, pair_of(part - share + 1)), CACHE_EFULL);
    CHECK_EQ(heavy_len(&cache), len);
    CHECK_EQ(heavy_put(&cache, 1000, pair_of(part - share)), 0);
    CHECK(heavy_len(&cache) < len - 30);
    CHECK_EQ(all_left(), 401 - heavy_len(&cache));
    CHECK_SOUND(heavy_check(&cache));
    /* As a value that takes another's place: the others in its shard go. */
    for (key = 0; key < 400; key++)
        CHECK_EQ(heavy_put(&cache, key, pair_of(1500)), 0);
    for (key = 0; !heavy_contains(&cache, key); key++)
        continue;
    CHECK_EQ(heavy_put(&cache, key, pair_of(part - share)), 0);
    CHECK_SOUND(heavy_check(&cache));
    CHECK_EQ(all_left(), 802 - heavy_len(&cache));
    heavy_destroy(&cache);
    CHECK_EQ(all_left(), 802);
}

/* --- who may call what where --------------------------------------------- */

static struct bare *inside_cache;

static void read_that_puts(const uint64_t *key, const struct pair *value,
                           void *user)
{
    (void)user;
    (void)bare_put(inside_cache, *key, *value);
}

static int compute_that_clears(const uint64_t *key, struct pair *value,
                               bool present, void *user)
{
    (void)key, (void)value, (void)present, (void)user;
    (void)bare_remove(inside_cache, 1);
    return CACHE_COMPUTE_KEEP;
}

static bool each_that_removes(const uint64_t *key, const struct pair *value,
                              void *user)
{
    (void)value, (void)user;
    (void)bare_remove(inside_cache, *key);
    return true;
}

/* The lock of a shard is held: to call the same cache is to wait for ever, and
 * CACHE_ASSERT says so before. */
static void mistakes_are_told(void)
{
    static int i; /* survives the jump */

    for (i = 0; i < 3; i++) {
        struct cache_config c = config_of(10, 1);
        static struct bare cache;
        static volatile bool told;
        static unsigned char buffer[1 << 17]; /* it is never destroyed */

        CHECK_EQ(bare_init_in(&cache, &c, buffer, sizeof buffer), 0);
        CHECK_EQ(bare_put(&cache, 1, pair_of(1)), 0);
        inside_cache = &cache;
        told = false;
        expects_mistake = true;
        if (setjmp(mistake) != 0)
            told = true;
        else if (i == 0)
            (void)bare_read(&cache, 1, read_that_puts, NULL);
        else if (i == 1)
            (void)bare_compute(&cache, 1, compute_that_clears, NULL);
        else
            bare_each(&cache, each_that_removes, NULL);
        expects_mistake = false;
        CHECK(told);
        cache__inside = NULL; /* it was jumped out of */
    }
}

/* len takes no lock, so it may be asked there. */
static void read_that_asks_len(const uint64_t *key, const struct pair *value,
                               void *user)
{
    (void)key, (void)value;
    *(uint32_t *)user = bare_len(inside_cache);
}

static void len_takes_no_lock(void)
{
    struct cache_config c = config_of(10, 1);
    struct bare cache;
    uint32_t len = 0;

    CHECK_EQ(bare_init(&cache, &c), 0);
    CHECK_EQ(bare_put(&cache, 1, pair_of(1)), 0);
    CHECK_EQ(bare_put(&cache, 2, pair_of(2)), 0);
    inside_cache = &cache;
    CHECK_EQ(bare_read(&cache, 1, read_that_asks_len, &len), 0);
    CHECK_EQ(len, 2);
    bare_destroy(&cache);
}

/* Other caches may be used there. */
static void read_of_another(const uint64_t *key, const struct pair *value,
                            void *user)
{
    (void)bare_put((struct bare *)user, *key, *value);
}

static void other_caches_may_be_used_under_a_lock(void)
{
    struct cache_config c = config_of(10, 1);
    struct bare one, two;
    struct pair v;

    CHECK_EQ(bare_init(&one, &c), 0);
    CHECK_EQ(bare_init(&two, &c), 0);
    CHECK_EQ(bare_put(&one, 1, pair_of(5)), 0);
    CHECK_EQ(bare_read(&one, 1, read_of_another, &two), 0);
    CHECK(bare_get(&two, 1, &v) && v.a == 5);
    bare_destroy(&one);
    bare_destroy(&two);
}

/* --- threads ------------------------------------------------------------- */

enum { THREADS = 4 };

static struct plain shared;
static pthread_barrier_t start;

static void run_threads(void *(*work)(void *), size_t n)
{
    pthread_t thread[THREADS];
    size_t i;

    CHECK_EQ(pthread_barrier_init(&start, NULL, (unsigned)n), 0);
    for (i = 0; i < n; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i),
                 0);
    for (i = 0; i < n; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    (void)pthread_barrier_destroy(&start);
}

static int add_one(const uint64_t *key, struct pair *value, bool present,
                   void *user)
{
    (void)key, (void)user;
    *value = pair_of(present ? value->a + 1 : 1);
    return CACHE_COMPUTE_STORE;
}

enum { ADDITIONS = 5000 };

static void *adds(void *arg)
{
    uint64_t i;

    (void)arg;
    (void)pthread_barrier_wait(&start);
    for (i = 0; i < ADDITIONS; i++)
        if (plain_compute(&shared, i % 3, add_one, NULL) != 0)
            abort();
    return NULL;
}

static void compute_loses_no_update(void)
{
    struct cache_config c = plain_config(10, 2);
    uint64_t key, total = 0;
    struct pair v;

    CHECK_EQ(plain_init(&shared, &c), 0);
    run_threads(adds, THREADS);
    for (key = 0; key < 3; key++) {
        CHECK(plain_get(&shared, key, &v));
        total += v.a;
    }
    CHECK_EQ(total, THREADS * ADDITIONS);
    plain_destroy(&shared);
}

/* The same by put_if_version, again and again until nobody came between. */
static struct noted shared_noted;

static void *adds_by_version(void *arg)
{
    uint64_t i;

    (void)arg;
    (void)pthread_barrier_wait(&start);
    for (i = 0; i < ADDITIONS; i++) {
        int rc;

        do {
            struct cache_entry e = { 0, 0, 0, 0, 0, 0 };
            struct pair v = pair_of(0);

            (void)noted_entry(&shared_noted, i % 3, &e);
            if (e.version != 0)
                (void)noted_get(&shared_noted, i % 3, &v);
            rc = noted_put_if_version(&shared_noted, i % 3, pair_of(v.a + 1),
                                      e.version);
        } while (rc == CACHE_ECONFLICT);
        if (rc != 0)
            abort();
    }
    return NULL;
}

static void put_if_version_loses_no_update(void)
{
    struct cache_config c = plain_config(10, 2);
    uint64_t key, total = 0;
    struct pair v;

    CHECK_EQ(noted_init(&shared_noted, &c), 0);
    run_threads(adds_by_version, THREADS);
    for (key = 0; key < 3; key++) {
        CHECK(noted_get(&shared_noted, key, &v));
        total += v.a;
    }
    CHECK_EQ(total, THREADS * ADDITIONS);
    CHECK_SOUND(noted_check(&shared_noted));
    noted_destroy(&shared_noted);
}

static uint64_t n_inserted;

static void *inserts(void *arg)
{
    uint64_t i, mine = 0;

    (void)arg;
    (void)pthread_barrier_wait(&start);
    for (i = 0; i < 3000; i++) {
        bool inserted;
        struct pair v;

        if (plain_get_or_insert(&shared, i, pair_of(i * 2), &v, &inserted) != 0)
            abort();
        if (v.a != i * 2)
            abort();
        mine += inserted;
    }
    __atomic_fetch_add(&n_inserted, mine, __ATOMIC_RELAXED);
    return NULL;
}

static void one_thread_inserts_and_the_others_get(void)
{
    struct cache_config c = plain_config(10000, 4);
    struct cache_stats stats;

    n_inserted = 0;
    CHECK_EQ(plain_init(&shared, &c), 0);
    run_threads(inserts, THREADS);
    CHECK_EQ(n_inserted, 3000);
    CHECK_EQ(plain_len(&shared), 3000);
    CHECK_EQ(plain_stats(&shared, &stats), 0);
    CHECK_EQ(stats.misses, 3000);
    CHECK_EQ(stats.hits, 3000 * (THREADS - 1));
    plain_destroy(&shared);
    CHECK_EQ(all_left(), 3000);
}

/* Threads come and go, more than there are stripes: no count is lost, and there
 * is nothing to say goodbye to. */
static void *looks_a_little(void *arg)
{
    struct pair v;
    uint64_t key;

    (void)arg;
    for (key = 0; key < 100; key++)
        (void)plain_get(&shared, key, &v);
    return NULL;
}

static void threads_come_and_go(void)
{
    struct cache_config c = plain_config(1000, 4);
    struct cache_stats stats;
    pthread_t thread[2];
    uint64_t key;
    int i;

    CHECK_EQ(plain_init(&shared, &c), 0);
    for (key = 0; key < 50; key++)
        CHECK_EQ(plain_put(&shared, key, pair_of(key)), 0);
    for (i = 0; i < 100; i++) {
        CHECK_EQ(pthread_create(&thread[0], NULL, looks_a_little, NULL), 0);
        CHECK_EQ(pthread_create(&thread[1], NULL, looks_a_little, NULL), 0);
        CHECK_EQ(pthread_join(thread[0], NULL), 0);
        CHECK_EQ(pthread_join(thread[1], NULL), 0);
    }
    CHECK_EQ(plain_stats(&shared, &stats), 0);
    CHECK_EQ(stats.hits, 200 * 50);
    CHECK_EQ(stats.misses, 200 * 50);
    plain_destroy(&shared);
}

/* One thread clears and ticks, and the callbacks use the cache; others look. */
static void *clears(void *arg)
{
    const bool clearing = arg == NULL;
    struct pair v;
    uint64_t i;

    (void)pthread_barrier_wait(&start);
    for (i = 0; i < 4000; i++) {
        if (!clearing) {
            if (plain_get(&shared, i % 40, &v) && v.b != ~v.a)
                abort();
            (void)plain_put(&shared, i % 40, pair_of(i));
        } else if (i % 20 == 0) {
            (void)plain_clear(&shared);
        } else {
            __atomic_fetch_add(&clock_ms, 1, __ATOMIC_RELAXED);
            (void)plain_tick(&shared, 10);
        }
    }
    return NULL;
}

static void look_at_the_shared_cache(uint64_t key, uint64_t value,
                                     enum cache_cause cause)
{
    struct pair v;

    (void)value, (void)cause;
    if (plain_get(&shared, key, &v) && v.b != ~v.a)
        abort();
}

static void clear_and_tick_while_others_use_it(void)
{
    struct cache_config c = plain_config(30, 2);
    struct cache_stats stats;

    c.ttl_ms = 3;
    CHECK_EQ(plain_init(&shared, &c), 0);
    when_left = look_at_the_shared_cache;
    run_threads(clears, 3);
    CHECK_SOUND(plain_check(&shared));
    CHECK_EQ(plain_stats(&shared, &stats), 0);
    CHECK_EQ(stats.inserts + stats.replaces, all_left() + plain_len(&shared));
    when_left = NULL;
    plain_destroy(&shared);
    CHECK_EQ(stats.inserts + stats.replaces, all_left());
}

/* While retain, read's or compute's function looks at a value, nobody changes
 * it: who wants to has to wait. */
static bool looks, changed;

static void wait_for_a_change(void)
{
    struct timespec time = { 0, 5000000 };

    __atomic_store_n(&looks, true, __ATOMIC_RELEASE);
    (void)nanosleep(&time, NULL);
    if (__atomic_load_n(&changed, __ATOMIC_ACQUIRE))
        abort();
}

static void held_retain(const struct pair *value, void *user)
{
    (void)value, (void)user;
    wait_for_a_change();
}

CACHE_DEFINE_SHARED_WITH(held, uint64_t, struct pair, cache_hash_u64,
                         cache_equal_u64, CACHE_FIFO, .retain = held_retain);

static struct held held_cache;

static void held_shows(const uint64_t *key, const struct pair *value,
                       void *user)
{
    (void)key, (void)value, (void)user;
    wait_for_a_change();
}

static int held_computes(const uint64_t *key, struct pair *value, bool present,
                         void *user)
{
    (void)key, (void)value, (void)present, (void)user;
    wait_for_a_change();
    return CACHE_COMPUTE_KEEP;
}

static void *changes(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&looks, __ATOMIC_ACQUIRE))
        sched_yield();
    (void)held_remove(&held_cache, 1);
    __atomic_store_n(&changed, true, __ATOMIC_RELEASE);
    return NULL;
}

static void nobody_changes_what_a_callback_looks_at(void)
{
    struct cache_config c = config_of(10, 1);
    pthread_t thread;
    struct pair v = pair_of(2);
    int i;

    CHECK_EQ(held_init(&held_cache, &c), 0);
    for (i = 0; i < 5; i++) {
        CHECK_EQ(held_put(&held_cache, 1, pair_of(1)), 0);
        looks = changed = false;
        CHECK_EQ(pthread_create(&thread, NULL, changes, NULL), 0);
        switch (i) {
        case 0: CHECK(held_get(&held_cache, 1, &v)); break;
        case 1: CHECK(held_peek(&held_cache, 1, &v)); break;
        case 2:
            CHECK_EQ(held_get_or_insert(&held_cache, 1, v, &v, NULL), 0);
            break;
        case 3: CHECK_EQ(held_read(&held_cache, 1, held_shows, NULL), 0); break;
        default: CHECK_EQ(held_compute(&held_cache, 1, held_computes, NULL), 0);
        }
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(changed && !held_contains(&held_cache, 1));
    }
    held_destroy(&held_cache);
}

/* Of a cache that no other thread used at the time of the fork, parent and
 * child have one each. */
static void a_child_has_a_copy(void)
{
    struct cache_config c = config_of(100, 4);
    struct bare cache;
    struct pair v;
    int status = 0;
    pid_t child;

    CHECK_EQ(bare_init(&cache, &c), 0);
    CHECK_EQ(bare_put(&cache, 1, pair_of(1)), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        bool good = bare_get(&cache, 1, &v) && v.a == 1 &&
                    bare_put(&cache, 1, pair_of(2)) == 0 &&
                    bare_get(&cache, 1, &v) && v.a == 2;

        _exit(good ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(bare_get(&cache, 1, &v) && v.a == 1);
    bare_destroy(&cache);
}

static const struct test tests[] = {
    TEST(bad_configs_are_refused),
    TEST(one_block_is_allocated_and_freed),
    TEST(a_buffer_of_the_callers_is_enough),
    TEST(shards_share_the_capacity_out),
    TEST(shards_get_about_as_many_keys),
    TEST(operations_do_what_they_say),
    TEST(features_that_are_off_say_so),
    TEST(expired_entries_are_not_found),
    TEST(ticks_go_on_where_the_last_one_ended),
    TEST(ticks_get_to_every_shard),
    TEST(hits_write_nothing),
    TEST(lru_moves_what_has_left_the_newest_quarter),
    TEST(hits_without_the_lock_are_noted),
    TEST(hits_at_the_end_of_time),
    TEST(a_late_note_does_no_harm),
    TEST(hits_with_the_lock_are_noted),
    TEST(versions_are_compared),
    TEST(callbacks_may_use_the_cache),
    TEST(heavy_entries_make_many_leave),
    TEST(mistakes_are_told),
    TEST(len_takes_no_lock),
    TEST(other_caches_may_be_used_under_a_lock),
    TEST(compute_loses_no_update),
    TEST(put_if_version_loses_no_update),
    TEST(one_thread_inserts_and_the_others_get),
    TEST(threads_come_and_go),
    TEST(clear_and_tick_while_others_use_it),
    TEST(nobody_changes_what_a_callback_looks_at),
    TEST(a_child_has_a_copy),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
