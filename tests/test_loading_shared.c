/*
 * test_loading_shared.c - what cache_loading_shared.h promises to threads: one
 * load of a key at a time, waiters and their deadlines, claims that lapse, what
 * overtakes a load, counts of references, the order of writes, invalidation
 * under readers.
 *
 * Most tests run twice: with CACHE_PLAIN_DATA, whose hits take no lock, and
 * without.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "cache_loading_shared.h"
#include "codecs/cache_raw.h"
#include "stores/cache_sqlite.h"
#include "tests/fake_store.h"
#include "tests/test.h"

#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, to) __atomic_store_n(&(x), to, __ATOMIC_SEQ_CST)
#define ADD(x, n) __atomic_add_fetch(&(x), n, __ATOMIC_SEQ_CST)

/* --- values -------------------------------------------------------------- */

struct pair {
    uint64_t a, b; /* b = ~a: a value that is torn is none */
};

static struct pair pair_of(uint64_t x)
{
    struct pair v = { x, ~x };

    return v;
}

static bool whole(struct pair v)
{
    return v.b == ~v.a;
}

/* --- time ---------------------------------------------------------------- */

static uint64_t clock_ms;

static uint64_t fake_now(void *user)
{
    (void)user;
    return GET(clock_ms);
}

static void advance(uint64_t ms)
{
    ADD(clock_ms, ms);
}

static void pause_us(long us)
{
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };

    (void)nanosleep(&time, NULL);
}

/* Waits for what another thread does; gives up when it certainly hangs. */
#define UNTIL(condition)                                                       \
    do {                                                                       \
        int tries_ = 0;                                                        \
        while (!(condition)) {                                                 \
            if (++tries_ > 40000)                                              \
                give_up(__LINE__, #condition);                                 \
            pause_us(200);                                                     \
        }                                                                      \
    } while (0)

static void give_up(int line, const char *what)
{
    printf("test_loading_shared.c:%d: never happened: %s\n", line, what);
    abort(); /* threads hang: there is no next test */
}

/* --- a store of callbacks ------------------------------------------------ */

#define KEYS 1024u

/* What write-through writes to.  Rows are read and written without a lock, so
 * two at the same one are a race that ThreadSanitizer sees, too. */
static struct {
    uint64_t rows[KEYS]; /* 0 = none */
    uint32_t inside[KEYS], both;
    uint64_t versions[KEYS];
    uint32_t older;      /* writes with a version below the last one's */
    uint32_t fail_every; /* so many-th write fails; 0 = none */
    uint32_t n_writes;
    uint64_t gate_on; /* this value waits for the gate */
} store;

/* --- loaders ------------------------------------------------------------- */

/* Where a loader waits until the test lets it go on. */
struct gate {
    uint32_t inside, open; /* loaders that came; that may leave */
};
static struct gate gate;

static void gate_pass(struct gate *g)
{
    uint32_t me = ADD(g->inside, 1);

    UNTIL(GET(g->open) >= me);
}

static int store_write(uint64_t key, uint64_t value,
                       const struct cache_storing *storing)
{
    uint32_t n = ADD(store.n_writes, 1);
    bool fails;

    if (ADD(store.inside[key], 1) != 1)
        ADD(store.both, 1);
    if (value != 0 && value == GET(store.gate_on))
        gate_pass(&gate);
    else if (n % 8 == 0)
        sched_yield();
    fails = store.fail_every && n % store.fail_every == 0;
    if (storing->version <= store.versions[key])
        ADD(store.older, 1);
    store.versions[key] = storing->version;
    if (!fails)
        SET(store.rows[key], value);
    ADD(store.inside[key], (uint32_t)-1);
    return fails ? CACHE_EIO : 0;
}

static int put_row(const uint64_t *key, const struct pair *value,
                   const struct cache_storing *storing, void *user)
{
    (void)user;
    return store_write(*key, value->a, storing);
}

static int remove_row(const uint64_t *key, const struct cache_storing *storing,
                      void *user)
{
    (void)user;
    return store_write(*key, 0, storing);
}

/* --- the kinds ----------------------------------------------------------- */

/* One cache for each kind, and its functions. */
struct kind {
    int (*init)(const struct cache_loading_config *config);
    void (*close)(void);
    int (*get)(uint64_t key, struct pair *out);
    int (*load)(uint64_t key, struct pair *out, const struct cache_reading *how,
                int (*load)(const uint64_t *, struct pair *,
                            struct cache_loaded *, void *),
                void *user);
    size_t (*load_many)(const uint64_t *keys, size_t n, struct pair *out,
                        int *found,
                        void (*load)(const uint64_t *, struct pair *,
                                     struct cache_loaded *, size_t, void *),
                        void *user);
    int (*claim)(uint64_t key, struct pair *out, struct cache_claim *claim);
    int (*commit)(struct cache_claim *claim, struct pair value);
    int (*abandon)(struct cache_claim *claim, int error, struct pair *out);
    int (*put)(uint64_t key, struct pair value,
               const struct cache_writing *how);
    int (*put_many)(const uint64_t *keys, const struct pair *values, size_t n,
                    int *status);
    int (*remove)(uint64_t key);
    bool (*peek)(uint64_t key, struct pair *out);
    void (*invalidate)(enum cache_invalidation how);
    void (*invalidate_key)(uint64_t key, enum cache_invalidation how);
    uint32_t (*tick)(uint32_t max_items);
    int (*flush)(uint32_t budget);
    uint32_t (*len)(void);
    const char *(*check)(void);
    struct cache_loading_stats (*stats)(void);
};

typedef int (*loader)(const uint64_t *key, struct pair *value,
                      struct cache_loaded *loaded, void *user);

#define KIND(name, options, ...)                                               \
    CACHE_DEFINE_LOADING_SHARED_WITH(                                          \
        name, uint64_t, struct pair, cache_hash_u64, cache_equal_u64,          \
        (options) | CACHE_SIEVE | CACHE_STATS, __VA_ARGS__);                   \
    static struct name name##_it;                                              \
    static int name##_do_init(const struct cache_loading_config *config)       \
    {                                                                          \
        return name##_init(&name##_it, config);                                \
    }                                                                          \
    static void name##_do_close(void)                                          \
    {                                                                          \
        (void)name##_close(&name##_it, 10000, NULL);                           \
        name##_destroy(&name##_it);                                            \
    }                                                                          \
    static int name##_do_get(uint64_t key, struct pair *out)                   \
    {                                                                          \
        return name##_get(&name##_it, key, out);                               \
    }                                                                          \
    static int name##_do_load(uint64_t key, struct pair *out,                  \
                              const struct cache_reading *how, loader load,    \
                              void *user)                                      \
    {                                                                          \
        return how ? name##_load_with(&name##_it, key, out, how, load, user)   \
                   : name##_load(&name##_it, key, out, load, user);            \
    }                                                                          \
    static size_t name##_do_load_many(const uint64_t *keys, size_t n,          \
                                      struct pair *out, int *found,            \
                                      name##_load_many_fn load, void *user)    \
    {                                                                          \
        return name##_load_many(&name##_it, keys, n, out, found, load, user);  \
    }                                                                          \
    static int name##_do_claim(uint64_t key, struct pair *out,                 \
                               struct cache_claim *claim)                      \
    {                                                                          \
        return name##_claim(&name##_it, key, out, claim);                      \
    }                                                                          \
    static int name##_do_commit(struct cache_claim *claim, struct pair value)  \
    {                                                                          \
        return name##_commit(&name##_it, claim, value);                        \
    }                                                                          \
    static int name##_do_abandon(struct cache_claim *claim, int error,         \
                                 struct pair *out)                             \
    {                                                                          \
        return name##_abandon(&name##_it, claim, error, out);                  \
    }                                                                          \
    static int name##_do_put(uint64_t key, struct pair value,                  \
                             const struct cache_writing *how)                  \
    {                                                                          \
        return how ? name##_put_with(&name##_it, key, value, how)              \
                   : name##_put(&name##_it, key, value);                       \
    }                                                                          \
    static int name##_do_put_many(const uint64_t *keys,                        \
                                  const struct pair *values, size_t n,         \
                                  int *status)                                 \
    {                                                                          \
        return name##_put_many(&name##_it, keys, values, n, status);           \
    }                                                                          \
    static int name##_do_remove(uint64_t key)                                  \
    {                                                                          \
        return name##_remove(&name##_it, key);                                 \
    }                                                                          \
    static bool name##_do_peek(uint64_t key, struct pair *out)                 \
    {                                                                          \
        return name##_peek(&name##_it, key, out);                              \
    }                                                                          \
    static void name##_do_invalidate(enum cache_invalidation how)              \
    {                                                                          \
        name##_invalidate(&name##_it, how);                                    \
    }                                                                          \
    static void name##_do_invalidate_key(uint64_t key,                         \
                                         enum cache_invalidation how)          \
    {                                                                          \
        name##_invalidate_key(&name##_it, key, how);                           \
    }                                                                          \
    static uint32_t name##_do_tick(uint32_t max_items)                         \
    {                                                                          \
        return name##_tick(&name##_it, max_items);                             \
    }                                                                          \
    static int name##_do_flush(uint32_t budget)                                \
    {                                                                          \
        return name##_flush(&name##_it, budget);                               \
    }                                                                          \
    static uint32_t name##_do_len(void)                                        \
    {                                                                          \
        return name##_len(&name##_it);                                         \
    }                                                                          \
    static const char *name##_do_check(void)                                   \
    {                                                                          \
        return name##_check(&name##_it);                                       \
    }                                                                          \
    static struct cache_loading_stats name##_do_stats(void)                    \
    {                                                                          \
        struct cache_loading_stats stats;                                      \
                                                                               \
        if (name##_loading_stats(&name##_it, &stats) != 0)                     \
            abort();                                                           \
        return stats;                                                          \
    }                                                                          \
    static const struct kind name##_kind = {                                   \
        name##_do_init,       name##_do_close,                                 \
        name##_do_get,        name##_do_load,                                  \
        name##_do_load_many,  name##_do_claim,                                 \
        name##_do_commit,     name##_do_abandon,                               \
        name##_do_put,        name##_do_put_many,                              \
        name##_do_remove,     name##_do_peek,                                  \
        name##_do_invalidate, name##_do_invalidate_key,                        \
        name##_do_tick,       name##_do_flush,                                 \
        name##_do_len,        name##_do_check,                                 \
        name##_do_stats                                                        \
    };                                                                         \
    struct cache__swallow_semicolon

KIND(plain, CACHE_PLAIN_DATA, .key_copy = NULL);
KIND(locked, 0, .key_copy = NULL);
KIND(plain_rows, CACHE_PLAIN_DATA, .store = put_row, .remove = remove_row);
KIND(locked_rows, 0, .store = put_row, .remove = remove_row);

static const struct kind *k; /* of the test at work */

/* Runs a test with each of two kinds. */
#define BOTH(name)                                                             \
    static void name(void)                                                     \
    {                                                                          \
        k = &plain_kind;                                                       \
        name##_with();                                                         \
        k = &locked_kind;                                                      \
        name##_with();                                                         \
    }
#define BOTH_ROWS(name)                                                        \
    static void name(void)                                                     \
    {                                                                          \
        k = &plain_rows_kind;                                                  \
        name##_with();                                                         \
        k = &locked_rows_kind;                                                 \
        name##_with();                                                         \
    }

/* Of a cache with a clock of the test's, and no store. */
static struct cache_loading_config config_of(size_t capacity)
{
    struct cache_loading_config config = { 0 };

    config.cache.capacity = capacity;
    config.cache.now = fake_now;
    config.cache.tick_ms = 1;
    config.cache.seed = test_seed;
    SET(clock_ms, 5000);
    memset(&gate, 0, sizeof gate);
    memset(&store, 0, sizeof store);
    return config;
}

static void make(size_t capacity)
{
    struct cache_loading_config config = config_of(capacity);

    CHECK_EQ(k->init(&config), 0);
}

/* Of one that writes through to the rows, and loads by what it is told. */
static void make_rows(size_t capacity)
{
    struct cache_loading_config config = config_of(capacity);

    config.writes = CACHE_WRITE_THROUGH;
    CHECK_EQ(k->init(&config), 0);
}

static void unmake(void)
{
    CHECK_SOUND(k->check());
    k->close();
}

/* --- calls on threads of their own --------------------------------------- */

static uint32_t n_calls; /* of loaders */

/* The value is user's number, or the key times ten. */
static int load_value(const uint64_t *key, struct pair *value,
                      struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    ADD(n_calls, 1);
    *value = pair_of(user ? *(const uint64_t *)user : *key * 10);
    return 0;
}

static int load_behind_gate(const uint64_t *key, struct pair *value,
                            struct cache_loaded *loaded, void *user)
{
    gate_pass(&gate);
    return load_value(key, value, loaded, user);
}

static int fail_behind_gate(const uint64_t *key, struct pair *value,
                            struct cache_loaded *loaded, void *user)
{
    (void)key, (void)loaded, (void)user;
    ADD(n_calls, 1);
    *value = pair_of(666);
    gate_pass(&gate);
    return CACHE_EIO;
}

static int absent_behind_gate(const uint64_t *key, struct pair *value,
                              struct cache_loaded *loaded, void *user)
{
    (void)fail_behind_gate(key, value, loaded, user);
    return CACHE_EKEY;
}

/* A call of load, on a thread. */
struct caller {
    pthread_t thread;
    uint64_t key;
    loader load;
    void *user;
    struct cache_reading how;
    struct pair value;
    int found;
};

static void *call_load(void *user)
{
    struct caller *c = (struct caller *)user;

    c->found = k->load(c->key, &c->value, &c->how, c->load, c->user);
    return NULL;
}

static void start(struct caller *c, uint64_t key, loader load, void *user)
{
    c->key = key;
    c->load = load;
    c->user = user;
    c->value = pair_of(0);
    if (pthread_create(&c->thread, NULL, call_load, c) != 0)
        abort();
}

static void finish(struct caller *c)
{
    (void)pthread_join(c->thread, NULL);
}

/* Starts so many who wait for a key that is being loaded, and sees them wait. */
static void start_waiters(struct caller *waiters, uint32_t n, uint64_t key,
                          loader load, void *user)
{
    uint64_t waits = k->stats().waits;
    uint32_t i;

    for (i = 0; i < n; i++)
        start(&waiters[i], key, load, user);
    UNTIL(k->stats().waits >= waits + n);
}

/* All have this value, found like that. */
static void finish_all(struct caller *c, uint32_t n, int found, uint64_t value)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        finish(&c[i]);
    for (i = 0; i < n; i++) {
        CHECK_EQ(c[i].found, found);
        CHECK_EQ(c[i].value.a, value);
    }
}

static void open_gate(uint32_t n)
{
    SET(gate.open, n);
}

/* Threads that do the same. */
#define MAX_THREADS 8u

struct worker {
    pthread_t thread;
    uint32_t number;
    uint64_t random;
    uint32_t wrong; /* what it has seen and should not */
    void *user;
};

static void run_threads(uint32_t n, void *(*run)(void *), void *user)
{
    struct worker workers[MAX_THREADS];
    uint32_t i, wrong = 0;

    memset(workers, 0, sizeof workers);
    for (i = 0; i < n; i++) {
        workers[i].number = i;
        workers[i].random = test_seed + i * 0x9e3779b97f4a7c15u;
        workers[i].random |= 1;
        workers[i].user = user;
        if (pthread_create(&workers[i].thread, NULL, run, &workers[i]) != 0)
            abort();
    }
    for (i = 0; i < n; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        wrong += workers[i].wrong;
    }
    CHECK_EQ(wrong, 0);
}

/* Lets others run, for a time that is another each time. */
static void dawdle(struct worker *w)
{
    uint64_t r = test_random(&w->random) >> 32;

    if (r % 16 == 0)
        pause_us((long)(r / 16 % 200));
    else if (r % 4 == 0)
        sched_yield();
}

/* --- single flight ------------------------------------------------------- */

static uint32_t loads_of[KEYS], loading_now[KEYS], loaded_twice;

static int load_once(const uint64_t *key, struct pair *value,
                     struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    ADD(loads_of[*key], 1);
    if (ADD(loading_now[*key], 1) != 1)
        ADD(loaded_twice, 1);
    dawdle((struct worker *)user);
    *value = pair_of(*key * 10);
    ADD(loading_now[*key], (uint32_t)-1);
    return 0;
}

static void *load_all_keys(void *user)
{
    struct worker *w = (struct worker *)user;
    uint64_t key;

    for (key = 0; key < KEYS; key++) {
        struct pair v = pair_of(0);

        w->wrong += k->load(key, &v, NULL, load_once, w) != CACHE_FOUND;
        w->wrong += v.a != key * 10 || !whole(v);
        dawdle(w);
    }
    return NULL;
}

static void of_all_who_want_a_key_one_loads_it_with(void)
{
    uint32_t i;

    make(2 * KEYS);
    memset(loads_of, 0, sizeof loads_of);
    loaded_twice = 0;
    run_threads(8, load_all_keys, NULL);
    for (i = 0; i < KEYS; i++)
        CHECK_EQ(loads_of[i], 1);
    CHECK_EQ(loaded_twice, 0);
    CHECK_EQ(k->stats().loads, KEYS);
    unmake();
}
BOTH(of_all_who_want_a_key_one_loads_it)

/* The same where entries leave all the time: not once, but never twice at a
 * time. */
static void *load_keys_that_leave(void *user)
{
    struct worker *w = (struct worker *)user;
    uint32_t i;

    for (i = 0; i < 3000; i++) {
        uint64_t key = test_random(&w->random) >> 32 & 63;
        struct pair v = pair_of(0);

        w->wrong += k->load(key, &v, NULL, load_once, w) < 0;
        w->wrong += v.a != key * 10 || !whole(v);
        if (i % 4 == 0)
            w->wrong += k->remove(key) != 0;
    }
    return NULL;
}

/* A remove overtakes a load, so there it is one more. */
static void *load_without_removing(void *user)
{
    struct worker *w = (struct worker *)user;
    uint32_t i;

    for (i = 0; i < 3000; i++) {
        uint64_t key = test_random(&w->random) >> 32 & 63;
        struct pair v = pair_of(0);

        w->wrong += k->load(key, &v, NULL, load_once, w) < 0;
        w->wrong += v.a != key * 10 || !whole(v);
    }
    return NULL;
}

static void a_key_is_loaded_by_one_at_a_time_with(void)
{
    make(16);
    loaded_twice = 0;
    run_threads(8, load_without_removing, NULL);
    CHECK_EQ(loaded_twice, 0);
    CHECK(k->stats().waits > 0);
    run_threads(8, load_keys_that_leave, NULL);
    unmake();
}
BOTH(a_key_is_loaded_by_one_at_a_time)

static void callers_beside_a_load_get_its_value_with(void)
{
    struct caller first = { 0 }, waiters[6] = { { 0 } };

    make(100);
    n_calls = 0;
    start(&first, 7, load_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(waiters, 6, 7, load_value, NULL);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND, 70);
    finish_all(waiters, 6, CACHE_FOUND, 70);
    CHECK_EQ(n_calls, 1);
    CHECK_EQ(k->stats().loads, 1);
    unmake();
}
BOTH(callers_beside_a_load_get_its_value)

/* --- no lock while loading ----------------------------------------------- */

static void use_other_keys(uint64_t key)
{
    struct cache_claim claim;
    struct pair v;
    uint64_t twenty = 20;

    CHECK_EQ(k->load(key + 1, &v, NULL, load_value, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, (key + 1) * 10);
    CHECK_EQ(k->put(key + 2, pair_of(3), NULL), 0);
    CHECK_EQ(k->get(key + 2, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 3);
    CHECK_EQ(k->claim(key + 3, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(k->commit(&claim, pair_of(4)), 0);
    CHECK(k->peek(key + 3, &v) && v.a == 4);
    CHECK_EQ(k->load(key + 4, &v, NULL, load_value, &twenty), CACHE_FOUND);
    CHECK_EQ(k->remove(key + 4), 0);
    CHECK_EQ(k->get(key + 4, &v), CACHE_EKEY);
    k->invalidate_key(key + 3, CACHE_INVALIDATE_HARD);
    CHECK_EQ(k->get(key + 3, &v), CACHE_EKEY);
    CHECK(k->len() > 0);
    (void)k->tick(100);
    CHECK_SOUND(k->check());
}

/* One shard, so that a lock of the cells would be met, too. */
static void no_lock_is_held_while_a_loader_works_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct caller first = { 0 };

    config.cache.shards = 1;
    CHECK_EQ(k->init(&config), 0);
    start(&first, 7, load_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    use_other_keys(20);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND, 70);
    unmake();
}
BOTH(no_lock_is_held_while_a_loader_works)

static int load_in_a_loader(const uint64_t *key, struct pair *value,
                            struct cache_loaded *loaded, void *user)
{
    (void)loaded, (void)user;
    use_other_keys(*key + 100);
    *value = pair_of(*key * 10);
    return 0;
}

static void a_loader_may_use_other_keys_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct pair v;

    config.cache.shards = 1;
    CHECK_EQ(k->init(&config), 0);
    CHECK_EQ(k->load(7, &v, NULL, load_in_a_loader, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 70);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    unmake();
}
BOTH(a_loader_may_use_other_keys)

static int load_itself(const uint64_t *key, struct pair *value,
                       struct cache_loaded *loaded, void *user)
{
    size_t missing;
    int rc = k->load(*key, value, NULL, load_value, user), found;

    (void)loaded;
    CHECK_EQ(rc, CACHE_EBUSY);
    missing = k->load_many(key, 1, value, &found, NULL, NULL);
    CHECK_EQ(missing, 1);
    CHECK_EQ(found, CACHE_EBUSY);
    *value = pair_of(5);
    return 0;
}

static void a_loader_that_asks_for_its_own_key_is_told_busy_with(void)
{
    struct pair v;

    make(100);
    n_calls = 0;
    CHECK_EQ(k->load(7, &v, NULL, load_itself, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 5);
    CHECK_EQ(n_calls, 0);
    unmake();
}
BOTH(a_loader_that_asks_for_its_own_key_is_told_busy)

static int load_and_put(const uint64_t *key, struct pair *value,
                        struct cache_loaded *loaded, void *user)
{
    (void)loaded, (void)user;
    CHECK_EQ(k->put(*key, pair_of(1), NULL), 0);
    *value = pair_of(2);
    return 0;
}

static void what_a_loader_puts_under_its_key_is_kept_with(void)
{
    struct pair v;

    make(100);
    CHECK_EQ(k->load(7, &v, NULL, load_and_put, NULL), CACHE_FOUND_UNSTORED);
    CHECK_EQ(v.a, 2);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 1);
    unmake();
}
BOTH(what_a_loader_puts_under_its_key_is_kept)

/* Each loads what the other is loading, when both are at it. */
static int load_the_other(const uint64_t *key, struct pair *value,
                          struct cache_loaded *loaded, void *user)
{
    struct cache_reading how = { 0 };
    uint64_t other = *key ^ 1;
    int rc;

    (void)loaded;
    gate_pass(&gate);
    how.wait_ms = *key == 0 ? 50 : 1000;
    rc = k->load(other, value, &how, load_value, NULL);
    *(int *)user = rc;
    *value = pair_of(*key + 40);
    return 0;
}

static void loaders_that_wait_for_each_other_time_out_with(void)
{
    struct caller a = { 0 }, b = { 0 };
    int of_a = 9, of_b = 9;

    make(100);
    start(&a, 0, load_the_other, &of_a);
    start(&b, 1, load_the_other, &of_b);
    UNTIL(GET(gate.inside) == 2);
    open_gate(2);
    UNTIL(k->stats().waits == 2);
    advance(50);
    finish_all(&a, 1, CACHE_FOUND, 40);
    finish_all(&b, 1, CACHE_FOUND, 41);
    CHECK_EQ(of_a, CACHE_ETIMEOUT);
    CHECK_EQ(of_b, CACHE_FOUND);
    unmake();
}
BOTH(loaders_that_wait_for_each_other_time_out)

/* --- deadlines and lapses ------------------------------------------------ */

static void a_waiter_whose_time_is_over_leaves_and_the_load_goes_on_with(void)
{
    struct caller first = { 0 }, hasty[2] = { { 0 } }, patient = { 0 };
    struct pair v;

    make(100);
    n_calls = 0;
    start(&first, 7, load_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    hasty[0].how.wait_ms = 50;
    hasty[1].how.wait_ms = 60;
    start_waiters(&patient, 1, 7, load_value, NULL);
    start_waiters(hasty, 2, 7, load_value, NULL);
    advance(49);
    pause_us(12000); /* they have looked at the clock, and wait */
    advance(1);
    finish_all(hasty, 1, CACHE_ETIMEOUT, 0);
    advance(10);
    finish_all(hasty + 1, 1, CACHE_ETIMEOUT, 0);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND, 70);
    finish_all(&patient, 1, CACHE_FOUND, 70);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 70);
    CHECK_EQ(n_calls, 1);
    unmake();
}
BOTH(a_waiter_whose_time_is_over_leaves_and_the_load_goes_on)

static void make_lapsing(uint64_t claim_ms)
{
    struct cache_loading_config config = config_of(100);

    config.claim_ms = claim_ms;
    config.wait_ms = 1000000;
    CHECK_EQ(k->init(&config), 0);
}

static void when_a_claim_lapses_one_waiter_loads_with(void)
{
    struct caller first = { 0 }, waiters[4] = { { 0 } };
    struct pair v;
    uint64_t one = 1, two = 2;

    make_lapsing(100);
    n_calls = 0;
    start(&first, 7, load_behind_gate, &one);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(waiters, 4, 7, load_behind_gate, &two);
    advance(99);
    pause_us(12000);
    CHECK_EQ(GET(gate.inside), 1);
    advance(1);
    UNTIL(GET(gate.inside) == 2); /* one of them */
    pause_us(12000);
    CHECK_EQ(GET(gate.inside), 2); /* and the others wait for that */
    CHECK_EQ(k->stats().lapsed, 1);
    SET(gate.open, 1);
    finish_all(&first, 1, CACHE_FOUND_UNSTORED, 1); /* is late */
    CHECK_EQ(k->get(7, &v), CACHE_EKEY);
    open_gate(2);
    finish_all(waiters, 4, CACHE_FOUND, 2);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 2);
    CHECK_EQ(n_calls, 2);
    unmake();
}
BOTH(when_a_claim_lapses_one_waiter_loads)

/* Also when nobody has come meanwhile, and when somebody has stored. */
static void a_load_that_comes_late_is_delivered_not_stored_with(void)
{
    struct caller first = { 0 };
    struct pair v;
    uint64_t one = 1;

    make_lapsing(100);
    start(&first, 7, load_behind_gate, &one);
    UNTIL(GET(gate.inside) == 1);
    advance(100);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND_UNSTORED, 1);
    CHECK_EQ(k->get(7, &v), CACHE_EKEY);
    memset(&gate, 0, sizeof gate);
    start(&first, 7, load_behind_gate, &one);
    UNTIL(GET(gate.inside) == 1);
    advance(100);
    CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 70);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND_UNSTORED, 1);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 70);
    unmake();
}
BOTH(a_load_that_comes_late_is_delivered_not_stored)

/* A late failure is nobody's business either. */
static void a_load_that_fails_late_changes_nothing_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct caller first = { 0 };
    struct pair v;

    config.claim_ms = 100;
    config.freshness.error_ttl_ms = 1000;
    CHECK_EQ(k->init(&config), 0);
    start(&first, 7, fail_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    advance(100);
    CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND);
    open_gate(1);
    finish(&first);
    CHECK_EQ(first.found, CACHE_FOUND); /* what is there now */
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    unmake();
}
BOTH(a_load_that_fails_late_changes_nothing)

/* --- what overtakes a load ----------------------------------------------- */

static void do_put(void)
{
    CHECK_EQ(k->put(7, pair_of(5), NULL), 0);
}

static void do_remove(void)
{
    CHECK_EQ(k->remove(7), 0);
}

static void do_invalidate_key(void)
{
    k->invalidate_key(7, CACHE_INVALIDATE_HARD);
}

static void do_age_key(void)
{
    k->invalidate_key(7, CACHE_INVALIDATE_SOFT);
}

static void do_invalidate(void)
{
    k->invalidate(CACHE_INVALIDATE_HARD);
}

static void do_age(void)
{
    k->invalidate(CACHE_INVALIDATE_SOFT);
}

static const struct {
    void (*run)(void);
    uint64_t leaves; /* in the cache */
} overtakers[] = { { do_put, 5 },        { do_remove, 0 },
                   { do_age_key, 0 },    { do_invalidate_key, 0 },
                   { do_invalidate, 0 }, { do_age, 0 } };

/* Those who were there get what is loaded; the cache does not; who comes
 * afterwards does not wait for it, even if it is not in yet. */
static void overtake_with(void (*overtake)(void), uint64_t leaves)
{
    struct caller first = { 0 }, before[2] = { { 0 } }, after = { 0 };
    struct pair v = pair_of(0);
    uint64_t old = 1, new = 2;

    make(100);
    n_calls = 0;
    start(&first, 7, load_behind_gate, &old);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(before, 2, 7, load_value, &new);
    overtake();
    start(&after, 7, load_value, &new);
    finish_all(&after, 1, CACHE_FOUND, leaves ? leaves : new);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND_UNSTORED, old);
    finish_all(before, 2, CACHE_FOUND, old);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, leaves ? leaves : new);
    CHECK_EQ(k->stats().discarded, 1);
    CHECK_EQ(n_calls, leaves ? 1 : 2);
    unmake();
}

static void a_load_that_was_overtaken_is_delivered_not_stored_with(void)
{
    size_t i;

    for (i = 0; i < sizeof overtakers / sizeof *overtakers; i++)
        overtake_with(overtakers[i].run, overtakers[i].leaves);
}
BOTH(a_load_that_was_overtaken_is_delivered_not_stored)

/* The same with nobody after it: nothing is in the cache. */
static void what_was_overtaken_does_not_come_back_with(void)
{
    size_t i;

    for (i = 0; i < sizeof overtakers / sizeof *overtakers; i++) {
        struct caller first = { 0 };
        struct pair v = pair_of(0);
        uint64_t old = 1;

        make(100);
        start(&first, 7, load_behind_gate, &old);
        UNTIL(GET(gate.inside) == 1);
        overtakers[i].run();
        open_gate(1);
        finish_all(&first, 1, CACHE_FOUND_UNSTORED, old);
        CHECK_EQ(k->get(7, &v),
                 overtakers[i].leaves ? CACHE_FOUND : CACHE_EKEY);
        CHECK_EQ(v.a, overtakers[i].leaves);
        unmake();
    }
}
BOTH(what_was_overtaken_does_not_come_back)

/* A refresh that was overtaken leaves neither its value nor its failure. */
static void a_refresh_that_fails_after_a_put_does_not_blame_it_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct caller first = { 0 };
    struct cache_reading how = { 0 };
    struct pair v;

    config.freshness.error_ttl_ms = 1000;
    CHECK_EQ(k->init(&config), 0);
    how.skip_read = true;
    first.how = how;
    CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
    start(&first, 7, fail_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    CHECK_EQ(k->put(7, pair_of(5), NULL), 0);
    open_gate(1);
    finish(&first); /* the new value may be served in its place */
    CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 5);
    unmake();
}
BOTH(a_refresh_that_fails_after_a_put_does_not_blame_it)

/* --- failures ------------------------------------------------------------ */

static void a_load_that_fails_tells_all_who_wait_with(void)
{
    static const loader loaders[] = { fail_behind_gate, absent_behind_gate };
    static const int errors[] = { CACHE_EIO, CACHE_EKEY };
    size_t i;

    for (i = 0; i < 2; i++) {
        struct cache_loading_config config = config_of(100);
        struct caller first = { 0 }, waiters[6] = { { 0 } };
        struct pair v;

        config.freshness.error_ttl_ms = 1000;
        config.freshness.negative_ttl_ms = 1000;
        CHECK_EQ(k->init(&config), 0);
        n_calls = 0;
        start(&first, 7, loaders[i], NULL);
        UNTIL(GET(gate.inside) == 1);
        start_waiters(waiters, 6, 7, load_value, NULL);
        open_gate(1);
        finish_all(&first, 1, errors[i], 0);
        finish_all(waiters, 6, errors[i], 0);
        CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), errors[i]);
        CHECK_EQ(n_calls, 1);
        advance(1000);
        CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND);
        unmake();
    }
}
BOTH(a_load_that_fails_tells_all_who_wait)

/* Without error_ttl_ms, too: no storm of those who waited. */
static void who_has_waited_for_a_failure_does_not_try_again_with(void)
{
    struct caller first = { 0 }, waiters[6] = { { 0 } };

    make(100);
    n_calls = 0;
    start(&first, 7, fail_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(waiters, 6, 7, load_value, NULL);
    open_gate(1);
    finish_all(&first, 1, CACHE_EIO, 0);
    finish_all(waiters, 6, CACHE_EIO, 0);
    CHECK_EQ(n_calls, 1);
    unmake();
}
BOTH(who_has_waited_for_a_failure_does_not_try_again)

static void when_a_load_fails_waiters_get_the_older_value_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct caller first = { 0 }, waiters[4] = { { 0 } };

    config.freshness.ttl_ms = 100;
    config.freshness.stale_if_error_ms = 1000;
    CHECK_EQ(k->init(&config), 0);
    n_calls = 0;
    CHECK_EQ(k->put(7, pair_of(3), NULL), 0);
    advance(500);
    start(&first, 7, fail_behind_gate, NULL);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(waiters, 4, 7, load_value, NULL);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND_STALE, 3);
    finish_all(waiters, 4, CACHE_FOUND_STALE, 3);
    CHECK_EQ(n_calls, 1);
    CHECK_EQ(k->stats().suppressed_errors, 5);
    unmake();
}
BOTH(when_a_load_fails_waiters_get_the_older_value)

/* One revalidates; the others have the stale value at once. */
static void nobody_waits_for_a_refresh_with(void)
{
    struct cache_loading_config config = config_of(100);
    struct caller first = { 0 };
    struct pair v;
    uint64_t two = 2;

    config.freshness.ttl_ms = 100;
    config.freshness.stale_ms = 1000;
    CHECK_EQ(k->init(&config), 0);
    CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
    advance(500);
    start(&first, 7, load_behind_gate, &two);
    UNTIL(GET(gate.inside) == 1);
    CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND_STALE);
    CHECK_EQ(v.a, 1);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND, 2);
    CHECK_EQ(k->load(7, &v, NULL, load_value, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 2);
    unmake();
}
BOTH(nobody_waits_for_a_refresh)

/* --- claims under waiters ------------------------------------------------ */

static void commit_and_abandon_wake_those_who_wait_with(void)
{
    struct caller waiters[4];
    struct cache_claim claim;
    struct pair v;
    uint64_t two = 2;

    make(100);
    memset(waiters, 0, sizeof waiters);
    CHECK_EQ(k->claim(7, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    start_waiters(waiters, 4, 7, load_value, &two);
    CHECK_EQ(k->commit(&claim, pair_of(1)), 0);
    finish_all(waiters, 4, CACHE_FOUND, 1);
    CHECK_EQ(k->claim(8, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    start_waiters(waiters, 4, 8, load_value, &two);
    CHECK_EQ(k->abandon(&claim, CACHE_EIO, &v), CACHE_EIO);
    finish_all(waiters, 4, CACHE_EIO, 0);
    unmake();
}
BOTH(commit_and_abandon_wake_those_who_wait)

static void a_claim_that_is_given_up_goes_to_one_who_waits_with(void)
{
    struct caller waiters[4];
    struct cache_claim claim;
    struct pair v;
    uint64_t two = 2;

    make(100);
    memset(waiters, 0, sizeof waiters);
    n_calls = 0;
    CHECK_EQ(k->claim(7, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    start_waiters(waiters, 4, 7, load_behind_gate, &two);
    CHECK_EQ(k->abandon(&claim, 0, &v), CACHE_EKEY);
    UNTIL(GET(gate.inside) == 1);
    UNTIL(k->stats().waits >= 7);
    open_gate(1);
    finish_all(waiters, 4, CACHE_FOUND, 2);
    CHECK_EQ(n_calls, 1);
    unmake();
}
BOTH(a_claim_that_is_given_up_goes_to_one_who_waits)

/* Two who wait have each their deadline, also while they load in their turn. */
static void a_commit_after_the_lapse_is_a_conflict_with(void)
{
    struct caller waiter = { 0 };
    struct cache_claim claim;
    struct pair v;

    make_lapsing(100);
    CHECK_EQ(k->claim(7, &v, &claim), CACHE_CLAIM_MISS_YOU_LOAD);
    start_waiters(&waiter, 1, 7, load_value, NULL);
    advance(100);
    finish_all(&waiter, 1, CACHE_FOUND, 70);
    CHECK_EQ(k->commit(&claim, pair_of(1)), CACHE_ECONFLICT);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 70);
    unmake();
}
BOTH(a_commit_after_the_lapse_is_a_conflict)

/* --- counts of references ------------------------------------------------ */

struct object {
    uint32_t references;
    uint64_t bytes; /* that it weighs */
};
static uint32_t n_objects;

static struct object *object_make(uint64_t bytes)
{
    struct object *o = (struct object *)malloc(sizeof *o);

    if (o == NULL)
        abort();
    o->references = 1;
    o->bytes = bytes;
    ADD(n_objects, 1);
    return o;
}

static void object_give_back(struct object *o)
{
    uint32_t left = ADD(o->references, (uint32_t)-1);

    if (left > UINT32_MAX / 2)
        abort();
    if (left == 0) {
        free(o);
        ADD(n_objects, (uint32_t)-1);
    }
}

static void object_retain(struct object *const *value, void *user)
{
    (void)user;
    if (ADD((*value)->references, 1) == 1)
        abort(); /* it was freed */
}

static void object_left(const uint64_t *key, struct object **value,
                        enum cache_cause cause, void *user)
{
    (void)key, (void)cause, (void)user;
    object_give_back(*value);
}

static uint64_t object_weigh(const uint64_t *key, struct object *const *value,
                             void *user)
{
    (void)key, (void)user;
    return (*value)->bytes;
}

static int object_store(const uint64_t *key, struct object *const *value,
                        const struct cache_storing *storing, void *user)
{
    (void)user;
    return store_write(*key, (*value)->bytes, storing);
}

static void pair_retain(const struct pair *value, void *user)
{
    (void)value, (void)user;
}

CACHE_DEFINE_LOADING_SHARED_WITH(counted, uint64_t, struct object *,
                                 cache_hash_u64, cache_equal_u64,
                                 CACHE_SIEVE | CACHE_STATS | CACHE_WEIGHED,
                                 .on_remove = object_left,
                                 .weigh = object_weigh, .retain = object_retain,
                                 .store = object_store, .remove = remove_row);
CACHE_DEFINE_LOADING_SHARED_WITH(retains_plain, uint64_t, struct pair,
                                 cache_hash_u64, cache_equal_u64,
                                 CACHE_SIEVE | CACHE_PLAIN_DATA,
                                 .retain = pair_retain);

static struct counted counted_it;
#define TOO_HEAVY ((uint64_t)1 << 40)

static void counted_make(const struct cache_loading_config *given)
{
    struct cache_loading_config config = config_of(0);

    if (given)
        config = *given;
    config.cache.capacity = 64;
    config.cache.shards = 1;
    config.cache.max_bytes = 1 << 20;
    config.claim_ms = 100;
    config.wait_ms = 1000000;
    n_objects = 0;
    CHECK_EQ(counted_init(&counted_it, &config), 0);
}

static void counted_unmake(void)
{
    CHECK_SOUND(counted_check(&counted_it));
    (void)counted_close(&counted_it, 10000, NULL);
    counted_destroy(&counted_it);
    CHECK_EQ(n_objects, 0);
}

/* user: what it weighs, or NULL for 8 bytes. */
static int load_object(const uint64_t *key, struct object **value,
                       struct cache_loaded *loaded, void *user)
{
    (void)key, (void)loaded;
    *value = object_make(user ? *(const uint64_t *)user : 8);
    return 0;
}

static int load_object_behind_gate(const uint64_t *key, struct object **value,
                                   struct cache_loaded *loaded, void *user)
{
    gate_pass(&gate);
    return load_object(key, value, loaded, user);
}

static int fail_object_behind_gate(const uint64_t *key, struct object **value,
                                   struct cache_loaded *loaded, void *user)
{
    (void)key, (void)loaded, (void)user, (void)value;
    gate_pass(&gate);
    return CACHE_EIO;
}

struct object_caller {
    pthread_t thread;
    counted_load_fn load;
    void *user;
    struct cache_reading how;
    int found;
};

/* What comes out is given back: once, however it was found. */
static void *call_object(void *user)
{
    struct object_caller *c = (struct object_caller *)user;
    struct object *o = NULL;

    c->found = counted_load_with(&counted_it, 7, &o, &c->how, c->load, c->user);
    if (c->found >= 0)
        object_give_back(o);
    return NULL;
}

static void start_object(struct object_caller *c, counted_load_fn load,
                         void *user)
{
    c->load = load;
    c->user = user;
    if (pthread_create(&c->thread, NULL, call_object, c) != 0)
        abort();
}

static uint64_t counted_waits(void)
{
    struct cache_loading_stats stats;

    if (counted_loading_stats(&counted_it, &stats) != 0)
        abort();
    return stats.waits;
}

static void overtaken_by_put(void)
{
    CHECK_EQ(counted_put(&counted_it, 7, object_make(8)), 0);
}

static void overtaken_by_invalidation(void)
{
    counted_invalidate(&counted_it, CACHE_INVALIDATE_HARD);
}

static void overtaken_by_lapse(void)
{
    advance(100);
}

static void not_overtaken(void)
{
}

/* A load with three waiters, and what happens meanwhile. */
static void count_a_load(counted_load_fn load, uint64_t *bytes,
                         void (*meanwhile)(void), int found)
{
    struct object_caller callers[4];
    uint64_t waits = counted_waits();
    uint32_t i;

    memset(callers, 0, sizeof callers);
    memset(&gate, 0, sizeof gate);
    start_object(&callers[0], load, bytes);
    UNTIL(GET(gate.inside) == 1);
    for (i = 1; i < 4; i++)
        start_object(&callers[i], load_object, bytes);
    UNTIL(counted_waits() == waits + 3);
    meanwhile();
    if (meanwhile != overtaken_by_lapse)
        open_gate(1);
    for (i = 1; i < 4; i++)
        (void)pthread_join(callers[i].thread, NULL);
    open_gate(1);
    (void)pthread_join(callers[0].thread, NULL);
    CHECK_EQ(callers[0].found, found);
}

static void every_value_that_comes_out_is_counted_once(void)
{
    struct cache_loading_config config = config_of(0);
    uint64_t heavy = TOO_HEAVY;
    struct object *o;

    config.freshness.ttl_ms = 1000;
    config.freshness.stale_if_error_ms = 100000;
    counted_make(&config);
    count_a_load(load_object_behind_gate, NULL, not_overtaken, CACHE_FOUND);
    CHECK_EQ(n_objects, 1);
    CHECK_EQ(counted_get(&counted_it, 7, &o), CACHE_FOUND);
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK(counted_peek(&counted_it, 7, &o));
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    advance(2000); /* from now on it is for errors only */
    count_a_load(fail_object_behind_gate, NULL, not_overtaken,
                 CACHE_FOUND_STALE);
    CHECK_EQ(n_objects, 1);
    CHECK(counted_peek(&counted_it, 7, &o));
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK_EQ(counted_remove(&counted_it, 7), 0);
    CHECK_EQ(n_objects, 0);
    count_a_load(load_object_behind_gate, &heavy, not_overtaken,
                 CACHE_FOUND_UNSTORED);
    CHECK_EQ(n_objects, 0);
    count_a_load(load_object_behind_gate, NULL, overtaken_by_put,
                 CACHE_FOUND_UNSTORED);
    CHECK_EQ(n_objects, 1);
    CHECK_EQ(counted_remove(&counted_it, 7), 0);
    count_a_load(load_object_behind_gate, NULL, overtaken_by_invalidation,
                 CACHE_FOUND_UNSTORED);
    CHECK_EQ(n_objects, 0);
    count_a_load(load_object_behind_gate, NULL, overtaken_by_lapse,
                 CACHE_FOUND_UNSTORED);
    CHECK_EQ(n_objects, 1);
    counted_unmake();
}

/* A put that has returned 0 has taken the value, kept or not. */
static void a_value_that_was_put_belongs_to_the_cache(void)
{
    static const struct cache_writing uncached = { .skip_write = true };
    static const enum cache_strategy strategies[] = { CACHE_ASIDE,
                                                      CACHE_WRITE_THROUGH,
                                                      CACHE_WRITE_AROUND };
    struct object *o;
    size_t i;

    for (i = 0; i < 3; i++) {
        struct cache_loading_config config = config_of(0);
        int rc;

        config.writes = strategies[i];
        counted_make(&config);
        CHECK_EQ(counted_put(&counted_it, 7, object_make(8)), 0);
        CHECK_EQ(counted_put(&counted_it, 7, object_make(8)), 0);
        CHECK_EQ(n_objects, strategies[i] == CACHE_WRITE_AROUND ? 0 : 1);
        CHECK_EQ(counted_put_with(&counted_it, 7, object_make(8), &uncached),
                 0);
        CHECK_EQ(n_objects, 0);
        o = object_make(TOO_HEAVY);
        rc = counted_put(&counted_it, 7, o);
        if (rc != 0)
            object_give_back(o); /* it was refused */
        CHECK_EQ(rc != 0, strategies[i] == CACHE_ASIDE);
        CHECK_EQ(n_objects, 0);
        if (strategies[i] != CACHE_ASIDE) {
            store.fail_every = 1;
            o = object_make(8);
            CHECK_EQ(counted_put(&counted_it, 7, o), CACHE_EIO);
            CHECK_EQ(o->references, 1);
            object_give_back(o);
        }
        counted_unmake();
    }
}

static void claims_count_what_they_give_out(void)
{
    struct cache_loading_config config = config_of(0);
    struct cache_claim claim, other;
    struct object *o;

    config.freshness.ttl_ms = 1000;
    config.freshness.stale_ms = 100000;
    config.max_claims = 1;
    counted_make(&config);
    CHECK_EQ(counted_claim(&counted_it, 7, &o, &claim),
             CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(counted_commit(&counted_it, &claim, object_make(8)), 0);
    CHECK_EQ(counted_claim(&counted_it, 7, &o, &claim), CACHE_CLAIM_HIT);
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK_EQ(counted_claim(&counted_it, 8, &o, &claim),
             CACHE_CLAIM_MISS_YOU_LOAD);
    advance(50000); /* all is stale, and the claim has lapsed */
    CHECK_EQ(counted_claim(&counted_it, 7, &o, &other),
             CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK_EQ(counted_abandon(&counted_it, &other, CACHE_EIO, &o),
             CACHE_FOUND_STALE);
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK_EQ(counted_claim(&counted_it, 8, &o, &claim),
             CACHE_CLAIM_MISS_YOU_LOAD);
    /* There is no room for another claim. */
    CHECK_EQ(counted_claim(&counted_it, 7, &o, &other), CACHE_CLAIM_STALE);
    CHECK_EQ(o->references, 2);
    object_give_back(o);
    CHECK_EQ(counted_claim(&counted_it, 9, &o, &other), CACHE_EFULL);
    counted_invalidate(&counted_it, CACHE_INVALIDATE_HARD);
    o = object_make(8);
    CHECK_EQ(counted_commit(&counted_it, &claim, o), CACHE_ECONFLICT);
    CHECK_EQ(o->references, 1);
    object_give_back(o);
    counted_unmake();
}

static void plain_data_cannot_be_counted(void)
{
    struct cache_loading_config config = config_of(64);
    struct retains_plain cache;

    CHECK_EQ(retains_plain_init(&cache, &config), CACHE_ERETAIN);
}

/* All of that at once. */
static void *count_at_random(void *user)
{
    struct worker *w = (struct worker *)user;
    struct cache_claim claim;
    struct object *o;
    uint32_t i;

    for (i = 0; i < 4000; i++) {
        uint64_t r = test_random(&w->random) >> 24, key = r % 32;
        uint64_t bytes = r / 32 % 8 == 0 ? TOO_HEAVY : 8 + r / 256 % 60000;
        int rc = -1;

        switch (r / 4096 % 16) {
        case 0:
        case 1:
            o = object_make(bytes);
            rc = counted_put(&counted_it, key, o);
            if (rc != 0)
                object_give_back(o);
            rc = -1;
            break;
        case 2: (void)counted_remove(&counted_it, key); break;
        case 3:
            counted_invalidate_key(&counted_it, key, CACHE_INVALIDATE_HARD);
            break;
        case 4:
            counted_invalidate(&counted_it, r / 65536 % 2
                                                ? CACHE_INVALIDATE_HARD
                                                : CACHE_INVALIDATE_SOFT);
            break;
        case 5: (void)counted_tick(&counted_it, 10); break;
        case 6: advance(r / 65536 % 60); break;
        case 7:
        case 8:
            rc = counted_claim(&counted_it, key, &o, &claim);
            if (rc >= 0 && rc <= CACHE_CLAIM_STALE)
                object_give_back(o);
            if (rc == CACHE_CLAIM_STALE_YOU_REFRESH ||
                rc == CACHE_CLAIM_MISS_YOU_LOAD) {
                dawdle(w);
                o = object_make(bytes);
                if (r / 65536 % 4 != 0) {
                    if (counted_commit(&counted_it, &claim, o) != 0)
                        object_give_back(o);
                } else {
                    object_give_back(o);
                    if (counted_abandon(&counted_it, &claim,
                                        r / 65536 % 8 ? CACHE_EIO : 0, &o) >= 0)
                        object_give_back(o);
                }
            }
            rc = -1;
            break;
        case 9: rc = counted_get(&counted_it, key, &o); break;
        default: rc = counted_load(&counted_it, key, &o, load_object, &bytes);
        }
        if (rc >= 0)
            object_give_back(o);
        if (i % 16 == 0)
            dawdle(w);
    }
    return NULL;
}

static void no_count_is_lost_in_a_crowd(void)
{
    static const enum cache_strategy strategies[] = { CACHE_ASIDE,
                                                      CACHE_WRITE_THROUGH };
    size_t i;

    for (i = 0; i < 2; i++) {
        struct cache_loading_config config = config_of(0);

        config.freshness.ttl_ms = 50;
        config.freshness.stale_ms = 100;
        config.freshness.stale_if_error_ms = 200;
        config.writes = strategies[i];
        counted_make(&config);
        store.fail_every = 7;
        run_threads(6, count_at_random, NULL);
        CHECK_EQ(store.both, 0);
        counted_unmake();
    }
}

/* --- write-through ------------------------------------------------------- */

struct putter {
    pthread_t thread;
    uint64_t key, value; /* 0 = remove */
    int rc;
};

static void *call_put(void *user)
{
    struct putter *p = (struct putter *)user;

    p->rc =
        p->value ? k->put(p->key, pair_of(p->value), NULL) : k->remove(p->key);
    return NULL;
}

static void start_put(struct putter *p, uint64_t key, uint64_t value)
{
    p->key = key;
    p->value = value;
    if (pthread_create(&p->thread, NULL, call_put, p) != 0)
        abort();
}

static void *put_the_same_keys(void *user)
{
    struct worker *w = (struct worker *)user;
    uint64_t i;

    for (i = 0; i < 1500; i++) {
        uint64_t key = test_random(&w->random) >> 32 & 3;
        int rc =
            k->put(key, pair_of((uint64_t)(w->number + 1) << 32 | i), NULL);

        w->wrong += rc != 0 && rc != CACHE_EIO;
    }
    return NULL;
}

static void the_cache_has_what_the_store_was_told_last_with(void)
{
    struct pair v;
    uint64_t key;

    make_rows(64);
    store.fail_every = 10;
    run_threads(8, put_the_same_keys, NULL);
    CHECK_EQ(store.both, 0);
    CHECK_EQ(store.older, 0);
    CHECK_EQ(store.n_writes, 8 * 1500);
    for (key = 0; key < 4; key++) {
        CHECK_EQ(k->get(key, &v), CACHE_FOUND);
        CHECK_EQ(v.a, store.rows[key]);
    }
    unmake();
}
BOTH_ROWS(the_cache_has_what_the_store_was_told_last)

/* Other keys go on, and readers of this one have the old value until then. */
static void no_lock_is_held_while_the_store_works_with(void)
{
    struct putter slow = { 0 };
    struct pair v;

    make_rows(64);
    CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
    store.gate_on = 2;
    start_put(&slow, 7, 2);
    UNTIL(GET(gate.inside) == 1);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 1);
    use_other_keys(20);
    open_gate(1);
    (void)pthread_join(slow.thread, NULL);
    CHECK_EQ(slow.rc, 0);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 2);
    unmake();
}
BOTH_ROWS(no_lock_is_held_while_the_store_works)

/* And one who waits behind another leaves what that has written. */
static void a_writer_that_fails_leaves_the_cache_as_it_was_with(void)
{
    struct putter first = { 0 }, second = { 0 };
    struct pair v;

    make_rows(64);
    store.gate_on = 5;
    store.fail_every = 2;
    start_put(&first, 7, 5);
    UNTIL(GET(gate.inside) == 1);
    start_put(&second, 7, 6);
    pause_us(20000); /* it waits */
    open_gate(1);
    (void)pthread_join(first.thread, NULL);
    (void)pthread_join(second.thread, NULL);
    CHECK_EQ(first.rc, 0);
    CHECK_EQ(second.rc, CACHE_EIO);
    CHECK_EQ(store.rows[7], 5);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 5);
    unmake();
}
BOTH_ROWS(a_writer_that_fails_leaves_the_cache_as_it_was)

static void a_writer_has_a_deadline_with(void)
{
    struct cache_loading_config config = config_of(64);
    struct putter first = { 0 }, second = { 0 };
    struct pair v;

    config.writes = CACHE_WRITE_THROUGH;
    config.wait_ms = 50;
    CHECK_EQ(k->init(&config), 0);
    store.gate_on = 5;
    start_put(&first, 7, 5);
    UNTIL(GET(gate.inside) == 1);
    start_put(&second, 7, 6);
    pause_us(20000);
    advance(50);
    (void)pthread_join(second.thread, NULL);
    CHECK_EQ(second.rc, CACHE_ETIMEOUT);
    open_gate(1);
    (void)pthread_join(first.thread, NULL);
    CHECK_EQ(first.rc, 0);
    CHECK_EQ(store.n_writes, 1);
    CHECK_EQ(k->get(7, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 5);
    unmake();
}
BOTH_ROWS(a_writer_has_a_deadline)

/* A reader without a value waits for a write, and then loads what it wrote. */
static int load_row(const uint64_t *key, struct pair *value,
                    struct cache_loaded *loaded, void *user)
{
    uint64_t row = GET(store.rows[*key]);

    (void)loaded;
    ADD(n_calls, 1);
    if (user)
        dawdle((struct worker *)user);
    *value = pair_of(row);
    return row ? 0 : CACHE_EKEY;
}

static void a_reader_waits_for_the_write_of_what_is_not_there_with(void)
{
    struct putter writer = { 0 };
    struct caller reader = { 0 };

    make_rows(64);
    n_calls = 0;
    store.gate_on = 5;
    start_put(&writer, 7, 5);
    UNTIL(GET(gate.inside) == 1);
    start_waiters(&reader, 1, 7, load_row, NULL);
    open_gate(1);
    (void)pthread_join(writer.thread, NULL);
    finish_all(&reader, 1, CACHE_FOUND, 5);
    CHECK_EQ(n_calls, 0);
    unmake();
}
BOTH_ROWS(a_reader_waits_for_the_write_of_what_is_not_there)

/* A load of what was there before comes in after the write. */
static void a_write_through_overtakes_a_load_with(void)
{
    uint64_t old = 1, value;

    for (value = 0; value < 2; value++) {
        struct caller first = { 0 };
        struct putter writer = { 0 };
        struct pair v = pair_of(0);

        make_rows(64);
        start(&first, 7, load_behind_gate, &old);
        UNTIL(GET(gate.inside) == 1);
        start_put(&writer, 7, value ? 5 : 0);
        (void)pthread_join(writer.thread, NULL);
        CHECK_EQ(writer.rc, 0);
        open_gate(1);
        finish_all(&first, 1, CACHE_FOUND_UNSTORED, old);
        CHECK_EQ(k->get(7, &v), value ? CACHE_FOUND : CACHE_EKEY);
        CHECK_EQ(v.a, value ? 5 : 0);
        unmake();
    }
}
BOTH_ROWS(a_write_through_overtakes_a_load)

/* Not even as something that nobody can see. */
static void what_was_invalidated_while_it_was_written_is_not_kept_with(void)
{
    size_t i;

    for (i = 0; i < sizeof overtakers / sizeof *overtakers; i++) {
        struct putter writer = { 0 };
        struct pair v;

        if (overtakers[i].run != do_invalidate &&
            overtakers[i].run != do_invalidate_key)
            continue;
        make_rows(64);
        store.gate_on = 5;
        CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
        start_put(&writer, 7, 5);
        UNTIL(GET(gate.inside) == 1);
        overtakers[i].run();
        while (k->tick(100) > 0)
            ;
        open_gate(1);
        (void)pthread_join(writer.thread, NULL);
        CHECK_EQ(writer.rc, 0);
        CHECK_EQ(store.rows[7], 5);
        CHECK_EQ(k->get(7, &v), CACHE_EKEY);
        CHECK_EQ(k->len(), 0);
        unmake();
    }
}
BOTH_ROWS(what_was_invalidated_while_it_was_written_is_not_kept)

/* Keys in an order of each thread's own. */
static void *put_many_across(void *user)
{
    struct worker *w = (struct worker *)user;
    uint64_t round, i;

    for (round = 0; round < 300; round++) {
        uint64_t keys[8];
        struct pair values[8];
        int status[8];

        for (i = 0; i < 8; i++) {
            keys[i] = w->number % 2 ? i : 7 - i;
            if (w->number == 3)
                keys[i] = test_random(&w->random) >> 40 & 7;
            values[i] =
                pair_of((uint64_t)(w->number + 1) << 32 | round << 8 | i);
        }
        w->wrong += k->put_many(keys, values, 8, status) != 0;
        for (i = 0; i < 8; i++)
            w->wrong += status[i] != 0;
    }
    return NULL;
}

/* The clock stands still, so a deadlock would not end. */
static void writers_of_many_do_not_wait_for_each_other_with(void)
{
    struct pair v;
    uint64_t key;

    make_rows(64);
    run_threads(4, put_many_across, NULL);
    CHECK_EQ(store.both, 0);
    CHECK_EQ(store.older, 0);
    for (key = 0; key < 8; key++) {
        CHECK_EQ(k->get(key, &v), CACHE_FOUND);
        CHECK_EQ(v.a, store.rows[key]);
    }
    unmake();
}
BOTH_ROWS(writers_of_many_do_not_wait_for_each_other)

static void load_many_once(const uint64_t *keys, struct pair *values,
                           struct cache_loaded *loaded, size_t n, void *user)
{
    size_t i;

    for (i = 0; i < n; i++) {
        ADD(loads_of[keys[i]], 1);
        values[i] = pair_of(keys[i] * 10);
        loaded[i].status = 0;
    }
    dawdle((struct worker *)user);
}

static void *load_many_across(void *user)
{
    struct worker *w = (struct worker *)user;
    uint64_t first, i;

    for (first = 0; first < KEYS; first += 64) {
        uint64_t keys[64];
        struct pair values[64];
        int found[64];

        for (i = 0; i < 64; i++)
            keys[i] = first + (w->number % 2 ? i : 63 - i);
        w->wrong +=
            k->load_many(keys, 64, values, found, load_many_once, w) != 0;
        for (i = 0; i < 64; i++)
            w->wrong += found[i] != 0 || values[i].a != keys[i] * 10;
    }
    return NULL;
}

static void loads_of_many_share_with_each_other_with(void)
{
    uint32_t i;

    make(2 * KEYS);
    memset(loads_of, 0, sizeof loads_of);
    run_threads(8, load_many_across, NULL);
    for (i = 0; i < KEYS; i++)
        CHECK_EQ(loads_of[i], 1);
    unmake();
}
BOTH(loads_of_many_share_with_each_other)

/* --- write-behind -------------------------------------------------------- */

/* A pair as the 8 bytes that fake_store knows. */
static int pair_encode(const struct cache_codec *codec, const void *object,
                       void *out, size_t *bytes)
{
    (void)codec;
    memcpy(out, &((const struct pair *)object)->a, 8);
    *bytes = 8;
    return 0;
}

static int pair_decode(const struct cache_codec *codec, const void *data,
                       size_t bytes, void *object)
{
    uint64_t x;

    (void)codec;
    if (bytes != 8)
        return CACHE_ECODEC;
    memcpy(&x, data, 8);
    *(struct pair *)object = pair_of(x);
    return 0;
}

static const struct cache_codec pair_codec = { sizeof(struct pair), 8,
                                               pair_encode, pair_decode };

/* fake_store, for several threads that submit. */
struct safe_store {
    struct cache_store store;
    struct fake_store fake;
    pthread_mutex_t lock;
};
static struct safe_store safe;

static int safe_submit(struct cache_store *s, struct cache_store_batch *batch)
{
    struct safe_store *it = (struct safe_store *)(void *)s;
    int rc;

    (void)pthread_mutex_lock(&it->lock);
    rc = it->fake.store.submit(&it->fake.store, batch);
    (void)pthread_mutex_unlock(&it->lock);
    return rc;
}

static void safe_start(void)
{
    fake_init(&safe.fake);
    fake_start(&safe.fake);
    safe.store = safe.fake.store;
    safe.store.submit = safe_submit;
    (void)pthread_mutex_init(&safe.lock, NULL);
}

static void safe_stop(void)
{
    fake_stop(&safe.fake);
    (void)pthread_mutex_destroy(&safe.lock);
}

static uint32_t n_owners; /* threads that still write */
static uint32_t owner_rounds;

/* Writes keys that nobody else writes, and reads them back. */
static void own_keys(struct worker *w)
{
    uint64_t last[16] = { 0 };
    uint32_t i;

    for (i = 0; i < owner_rounds; i++) {
        uint64_t r = test_random(&w->random) >> 32, mine = r % 16;
        uint64_t key = w->number * 16 + mine;
        struct pair v = pair_of(0);
        int rc;

        if (r / 16 % 4 == 0) {
            last[mine] = i + 1;
            w->wrong += k->put(key, pair_of(i + 1), NULL) != 0;
        } else if (r / 16 % 16 == 1) {
            last[mine] = 0;
            w->wrong += k->remove(key) != 0;
        } else if (r / 16 % 64 == 2) {
            k->invalidate_key(key, CACHE_INVALIDATE_HARD);
        } else if (r / 16 % 256 == 3) {
            k->invalidate(CACHE_INVALIDATE_HARD);
        }
        rc = k->get(key, &v);
        w->wrong += last[mine] ? rc < 0 || v.a != last[mine] : rc != CACHE_EKEY;
        /* Those of others: their loads are overtaken, and their misses wait. */
        if (r / 4096 % 4 == 0)
            w->wrong += k->get(r / 65536 % 64, &v) >= 0 && !whole(v);
    }
}

static void *own_or_flush(void *user)
{
    struct worker *w = (struct worker *)user;

    if (w->number < 4) {
        own_keys(w);
        ADD(n_owners, (uint32_t)-1);
        return NULL;
    }
    while (GET(n_owners) > 0) {
        (void)k->flush(w->number == 4 ? 8 : UINT32_MAX);
        pause_us(w->number == 4 ? 50 : 1000);
    }
    return NULL;
}

/* Four owners and two who flush. */
static void read_own_writes(struct cache_store *behind, uint32_t rounds,
                            enum cache_ack ack)
{
    struct cache_loading_config config = config_of(16);
    struct cache_codec keys = cache_raw_object(sizeof(uint64_t));
    uint64_t lost;

    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_BEHIND;
    config.store = behind;
    config.key_codec = &keys;
    config.value_codec = &pair_codec;
    config.write_behind.max_dirty = 24;
    config.write_behind.max_batch = 8;
    config.when_full = CACHE_FULL_WRITE_THROUGH;
    config.ack = ack;
    config.cache.now = NULL; /* deadlines have to come */
    CHECK_EQ(k->init(&config), 0);
    n_owners = 4;
    owner_rounds = rounds;
    run_threads(6, own_or_flush, NULL);
    CHECK_SOUND(k->check());
    while (k->flush(UINT32_MAX) > 0)
        pause_us(200);
    CHECK_EQ(k->stats().n_dirty, 0);
    CHECK_EQ(k->stats().writes.n_dead, 0);
    lost = k->stats().writes.n_lost;
    CHECK_EQ(lost, 0);
    k->close();
}

static void who_has_written_behind_reads_no_older_value_with(void)
{
    safe_start();
    read_own_writes(&safe.store, 3000, CACHE_ACK_MEMORY);
    safe_stop();
    safe_start();
    read_own_writes(&safe.store, 500, CACHE_ACK_STORE);
    safe_stop();
}
BOTH(who_has_written_behind_reads_no_older_value)

static void the_same_with_sqlite_behind_with(void)
{
    struct cache_sqlite_config config = { 0 };
    static struct cache_sqlite db;

    config.path = ":memory:";
    CHECK_EQ(cache_sqlite_open(&db, &config), 0);
    read_own_writes(&db.store, 2000, CACHE_ACK_MEMORY);
    db.store.close(&db.store);
}
BOTH(the_same_with_sqlite_behind)

/* --- invalidation under readers ------------------------------------------ */

static uint64_t epoch, published; /* begun; and no older value is served */
static uint32_t n_readers;

static int load_epoch(const uint64_t *key, struct pair *value,
                      struct cache_loaded *loaded, void *user)
{
    (void)key, (void)loaded;
    *value = pair_of(GET(epoch));
    dawdle((struct worker *)user);
    return 0;
}

static void read_epochs(struct worker *w)
{
    uint32_t i;

    for (i = 0; i < 6000; i++) {
        uint64_t key = test_random(&w->random) >> 32 & 7;
        struct pair v = pair_of(0);
        uint64_t least = GET(published);
        int rc =
            i % 4 ? k->load(key, &v, NULL, load_epoch, w) : k->get(key, &v);

        w->wrong += rc < 0 ? i % 4 != 0 : v.a < least || !whole(v);
        if (i % 32 == 0)
            dawdle(w);
    }
    ADD(n_readers, (uint32_t)-1);
}

static void *read_or_invalidate(void *user)
{
    struct worker *w = (struct worker *)user;
    const bool all = *(const bool *)w->user;
    uint64_t key, now;

    if (w->number != 0) {
        read_epochs(w);
        return NULL;
    }
    while (GET(n_readers) > 0) {
        now = ADD(epoch, 1);
        if (all)
            k->invalidate(CACHE_INVALIDATE_HARD);
        for (key = 0; key < 8 && !all; key++)
            k->invalidate_key(key, CACHE_INVALIDATE_HARD);
        SET(published, now);
        if (now % 4 == 0)
            (void)k->tick(20);
        dawdle(w);
    }
    return NULL;
}

static void what_is_read_after_an_invalidation_is_not_older_with(void)
{
    bool all;
    int i;

    for (i = 0; i < 2; i++) {
        all = i == 0;
        make(64);
        epoch = published = 0;
        n_readers = 5;
        run_threads(6, read_or_invalidate, &all);
        CHECK(epoch > 0);
        unmake();
    }
}
BOTH(what_is_read_after_an_invalidation_is_not_older)

/* After 2^32 of them, too. */
static void epochs_begin_anew_with(void)
{
    struct cache_front *f =
        k == &plain_kind ? &plain_it.front : &locked_it.front;
    struct caller first = { 0 };
    struct pair v = pair_of(0);
    uint64_t old = 1, i;

    make(1000);
    f->epoch = UINT32_MAX - 1;
    CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
    k->invalidate(CACHE_INVALIDATE_HARD); /* the last of them */
    CHECK_EQ(k->get(7, &v), CACHE_EKEY);
    for (i = 0; i < 100; i++)
        CHECK_EQ(k->put(i, pair_of(i), NULL), 0);
    CHECK(k->tick(10) > 0); /* a sweep is under way */
    start(&first, 200, load_behind_gate, &old);
    UNTIL(GET(gate.inside) == 1);
    k->invalidate(CACHE_INVALIDATE_HARD);
    for (i = 0; i < 100; i++)
        CHECK_EQ(k->get(i, &v), CACHE_EKEY);
    CHECK_EQ(k->load(200, &v, NULL, load_value, NULL), CACHE_FOUND);
    CHECK_EQ(v.a, 2000);
    open_gate(1);
    finish_all(&first, 1, CACHE_FOUND_UNSTORED, 1);
    CHECK_EQ(k->get(200, &v), CACHE_FOUND);
    CHECK_EQ(v.a, 2000);
    for (i = 0; i < 100; i++)
        CHECK_EQ(k->put(i, pair_of(i), NULL), 0);
    while (k->tick(10) > 0)
        ;
    for (i = 0; i < 100; i++)
        CHECK_EQ(k->get(i, &v), CACHE_FOUND);
    CHECK_EQ(k->len(), 101);
    k->invalidate(CACHE_INVALIDATE_HARD);
    CHECK_EQ(k->get(5, &v), CACHE_EKEY);
    while (k->tick(10) > 0)
        ;
    CHECK_EQ(k->len(), 0);
    unmake();
}
BOTH(epochs_begin_anew)

static void *reclaim(void *user)
{
    struct worker *w = (struct worker *)user;

    while (k->tick(1 + (uint32_t)(test_random(&w->random) >> 32) % 50) > 0)
        dawdle(w);
    return NULL;
}

static void *invalidate_and_reclaim(void *user)
{
    struct worker *w = (struct worker *)user;
    uint32_t i;

    for (i = 0; i < 2000; i++) {
        uint64_t key = test_random(&w->random) >> 32 & 1023;
        struct pair v;

        if (i % 200 == 0)
            k->invalidate(CACHE_INVALIDATE_HARD);
        if (i % 8 == 0)
            (void)k->tick(20);
        w->wrong += k->load(key, &v, NULL, load_value, NULL) < 0;
        w->wrong += v.a != key * 10 || !whole(v);
    }
    return NULL;
}

static void several_may_tick_with(void)
{
    struct pair v;

    make(2000);
    run_threads(4, invalidate_and_reclaim, NULL);
    CHECK_SOUND(k->check());
    CHECK_EQ(k->put(7, pair_of(1), NULL), 0);
    k->invalidate(CACHE_INVALIDATE_HARD);
    CHECK_EQ(k->put(8, pair_of(2), NULL), 0);
    CHECK(k->len() > 100);
    run_threads(4, reclaim, NULL);
    CHECK_EQ(k->len(), 1);
    CHECK_EQ(k->get(8, &v), CACHE_FOUND);
    unmake();
}
BOTH(several_may_tick)

/* --- all of it ----------------------------------------------------------- */

static uint64_t n_values;
static bool claims_run_out;

/* A write in the crowd is told no more than that. */
static bool may_be(int rc)
{
    return rc == 0 || rc == CACHE_EIO || (claims_run_out && rc == CACHE_EFULL);
}

static void stress_claim(struct worker *w, uint64_t key, uint64_t r)
{
    struct cache_claim claim;
    struct pair v;
    int rc = k->claim(key, &v, &claim);
    uint64_t row;

    w->wrong += rc >= 0 && rc <= CACHE_CLAIM_STALE && !whole(v);
    if (rc != CACHE_CLAIM_STALE_YOU_REFRESH && rc != CACHE_CLAIM_MISS_YOU_LOAD)
        return;
    row = GET(store.rows[key]);
    dawdle(w);
    if (r % 4 == 0)
        (void)k->abandon(&claim, r % 8 ? CACHE_EIO : 0, &v);
    else if (row != 0)
        (void)k->commit(&claim, pair_of(row));
    else
        (void)k->abandon(&claim, CACHE_EKEY, NULL);
}

static void stress_one(struct worker *w)
{
    uint64_t r = test_random(&w->random) >> 16, key = r % 24;
    static const struct cache_writing short_lived = { .ttl_ms = 20 };
    uint64_t keys[4] = { key, (key + 1) % 24, (key + 5) % 24, key };
    struct pair v = pair_of(0), values[4];
    int status[4], rc;

    switch (r / 32 % 16) {
    case 0:
    case 1:
        rc = k->put(key, pair_of(ADD(n_values, 1)), NULL);
        w->wrong += !may_be(rc);
        break;
    case 2:
        rc = k->put(key, pair_of(ADD(n_values, 1)), &short_lived);
        w->wrong += !may_be(rc);
        break;
    case 3:
        rc = k->remove(key);
        w->wrong += !may_be(rc);
        break;
    case 4:
        for (rc = 0; rc < 4; rc++)
            values[rc] = pair_of(ADD(n_values, 1));
        (void)k->put_many(keys, values, 4, status);
        for (rc = 0; rc < 4; rc++)
            w->wrong += !may_be(status[rc]);
        break;
    case 5:
        k->invalidate_key(key, r / 512 % 2 ? CACHE_INVALIDATE_HARD
                                           : CACHE_INVALIDATE_SOFT);
        break;
    case 6:
        k->invalidate(r / 512 % 2 ? CACHE_INVALIDATE_HARD
                                  : CACHE_INVALIDATE_SOFT);
        break;
    case 7: (void)k->tick((uint32_t)(r / 512 % 64)); break;
    case 8: advance(r / 512 % 8); break;
    case 9:
    case 10: stress_claim(w, key, r / 512); break;
    case 11: w->wrong += k->get(key, &v) >= 0 && !whole(v); break;
    default: (void)k->load(key, &v, NULL, load_row, w); w->wrong += !whole(v);
    }
}

static void *stress(void *user)
{
    struct worker *w = (struct worker *)user;
    uint32_t i;

    for (i = 0; i < 3000 * (uint32_t)test_scale(); i++) {
        stress_one(w);
        if (i % 32 == 0)
            dawdle(w);
    }
    return NULL;
}

/* All writes go through the cache, so at the end it knows nothing but what the
 * store has, also of what is not there. */
static void agree_at_the_end(uint32_t max_claims)
{
    struct cache_loading_config config = config_of(16);
    struct pair v;
    uint64_t key;
    int round, rc;

    config.writes = CACHE_WRITE_THROUGH;
    config.freshness.ttl_ms = 40;
    config.freshness.refresh_pct = 50;
    config.freshness.stale_ms = 20;
    config.freshness.stale_if_error_ms = 40;
    config.freshness.negative_ttl_ms = 30;
    config.freshness.error_ttl_ms = 5;
    config.claim_ms = 15;
    config.wait_ms = 1000000;
    config.max_claims = max_claims;
    CHECK_EQ(k->init(&config), 0);
    claims_run_out = max_claims < 100;
    store.fail_every = 11;
    n_values = 0;
    for (round = 0; round < 4; round++) {
        run_threads(round == 3 ? 8 : 5, stress, NULL);
        CHECK_SOUND(k->check());
        CHECK_EQ(store.both, 0);
        CHECK_EQ(store.older, 0);
        for (key = 0; key < 24; key++)
            if (k->peek(key, &v))
                CHECK_EQ(v.a, store.rows[key]);
        advance(5); /* no failure is remembered */
        for (key = 0; key < 24; key++) {
            rc = k->load(key, &v, NULL, load_row, NULL);
            CHECK_EQ(rc < 0 ? rc : 0, store.rows[key] ? 0 : CACHE_EKEY);
            if (rc >= 0)
                CHECK_EQ(v.a, store.rows[key]);
        }
    }
    unmake();
}

static void at_the_end_the_cache_agrees_with_the_store_with(void)
{
    agree_at_the_end(200);
    agree_at_the_end(12);
}
BOTH_ROWS(at_the_end_the_cache_agrees_with_the_store)

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(of_all_who_want_a_key_one_loads_it),
        TEST(a_key_is_loaded_by_one_at_a_time),
        TEST(callers_beside_a_load_get_its_value),
        TEST(loads_of_many_share_with_each_other),
        TEST(no_lock_is_held_while_a_loader_works),
        TEST(a_loader_may_use_other_keys),
        TEST(a_loader_that_asks_for_its_own_key_is_told_busy),
        TEST(what_a_loader_puts_under_its_key_is_kept),
        TEST(loaders_that_wait_for_each_other_time_out),
        TEST(a_waiter_whose_time_is_over_leaves_and_the_load_goes_on),
        TEST(when_a_claim_lapses_one_waiter_loads),
        TEST(a_load_that_comes_late_is_delivered_not_stored),
        TEST(a_load_that_fails_late_changes_nothing),
        TEST(a_commit_after_the_lapse_is_a_conflict),
        TEST(a_load_that_was_overtaken_is_delivered_not_stored),
        TEST(what_was_overtaken_does_not_come_back),
        TEST(a_refresh_that_fails_after_a_put_does_not_blame_it),
        TEST(a_load_that_fails_tells_all_who_wait),
        TEST(who_has_waited_for_a_failure_does_not_try_again),
        TEST(when_a_load_fails_waiters_get_the_older_value),
        TEST(nobody_waits_for_a_refresh),
        TEST(commit_and_abandon_wake_those_who_wait),
        TEST(a_claim_that_is_given_up_goes_to_one_who_waits),
        TEST(every_value_that_comes_out_is_counted_once),
        TEST(a_value_that_was_put_belongs_to_the_cache),
        TEST(claims_count_what_they_give_out),
        TEST(plain_data_cannot_be_counted),
        TEST(no_count_is_lost_in_a_crowd),
        TEST(the_cache_has_what_the_store_was_told_last),
        TEST(no_lock_is_held_while_the_store_works),
        TEST(a_writer_that_fails_leaves_the_cache_as_it_was),
        TEST(a_writer_has_a_deadline),
        TEST(a_reader_waits_for_the_write_of_what_is_not_there),
        TEST(a_write_through_overtakes_a_load),
        TEST(what_was_invalidated_while_it_was_written_is_not_kept),
        TEST(writers_of_many_do_not_wait_for_each_other),
        TEST(who_has_written_behind_reads_no_older_value),
        TEST(the_same_with_sqlite_behind),
        TEST(what_is_read_after_an_invalidation_is_not_older),
        TEST(epochs_begin_anew),
        TEST(several_may_tick),
        TEST(at_the_end_the_cache_agrees_with_the_store),
    };

    return TEST_MAIN(argc, argv, tests);
}
