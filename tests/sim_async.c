/*
 * sim_async.c - the loop half in a simulated world.
 *
 * Thousands of short programs, each from one seed: strategies, times, sizes,
 * loader and store are drawn, then some hundred operations at random moments:
 * in I/O callbacks, in the callbacks of requests, in loaders, in a prepare
 * handle of the program's, and between two calls of uv_run.  libuv is the one of
 * tests/fake_uv: its clock is a number, its threads are events.  Loads and
 * writes end in any order, at once or later; they fail, are refused, come too
 * late, or, where the program loads, never.
 *
 * Beside the cache goes an oracle that was written from the comments of
 * cache_async.h.  What it holds to be true:
 *   - A request that was accepted is answered once, later, by the loop; one that
 *     was not is not.  A deadline is told in the turn in which it passes.
 *   - A value was written or loaded for its key.  It is not older than the
 *     newest write that was acknowledged before its fetch began, or, if that
 *     has been given up since, the newest of the others; nor than what the
 *     store had when it was invalidated before then - of a soft invalidation,
 *     if it is not called stale.
 *   - One load of a key is under way, but for those that are overtaken or
 *     overdue, and these do not fill the cells.
 *   - The loop never sleeps while there is something to do, and ends only if
 *     there is nothing to wait for.
 *
 * A failure prints its seed; --seed=N runs just that one, and with --trace it
 * says what happens.  TEST_SCALE multiplies the number of seeds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <time.h>

static int sim_clock(clockid_t clock, struct timespec *now);
#define clock_gettime sim_clock

#include <uv.h> /* with -Itests/fake_uv */

#include "cache_async.h"
#include "codecs/cache_raw.h"
#include "tests/test.h"

#ifdef __SANITIZE_ADDRESS__
#define N_SEEDS 1000
#else
#define N_SEEDS 4000
#endif
#define MAX_KEYS 8
#define MAX_STAMPS 2048
#define MAX_LOADS 64
#define MAX_FLIGHTS 32
#define MAX_ITEMS 16
#define MAX_LATE 16
#define N_FETCHES 24
#define N_WRITES 16
#define N_FLUSHES 3
#define MANY 4
#define WALL 1700000000000u

/* A value is named by a stamp, its place in the order of all writes of a seed;
 * 0 is "none". */
typedef uint32_t stamp;

struct value {
    uint32_t key;
    stamp stamp;
    uint64_t sum;
};

static uint64_t sum_of(uint32_t key, stamp number)
{
    return (uint64_t)key * 1000003u + (uint64_t)number * 0x9e3779b97f4a7c15u;
}

/* --- the types ----------------------------------------------------------- */

static void happened(enum cache_event_kind kind, const uint64_t *key,
                     const struct value *value, int status,
                     const struct cache_store_item *letter);
static int call_load(const uint64_t *key, struct value *value,
                     struct cache_loaded *loaded, void *user);
static void call_load_many(const uint64_t *keys, struct value *values,
                           struct cache_loaded *loaded, size_t n, void *user);
static int call_write(const uint64_t *key, const struct value *value,
                      const struct cache_storing *storing);

static int call_store(const uint64_t *key, const struct value *value,
                      const struct cache_storing *storing, void *user)
{
    (void)user;
    return call_write(key, value, storing);
}

static int call_remove(const uint64_t *key, const struct cache_storing *storing,
                       void *user)
{
    (void)user;
    return call_write(key, NULL, storing);
}

struct bytes_event;
struct calls_event;
struct manys_event;
struct manys_write;
static void bytes_happened(const struct bytes_event *e, void *user);
static void calls_happened(const struct calls_event *e, void *user);
static void manys_happened(const struct manys_event *e, void *user);
static void call_store_many(struct manys_write *writes, size_t n, void *user);

CACHE_DEFINE_LOADING_WITH(bytes, uint64_t, struct value, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_STATS,
                          .on_event = bytes_happened);
CACHE_DEFINE_LOADING_WITH(calls, uint64_t, struct value, cache_hash_u64,
                          cache_equal_u64, CACHE_FIFO | CACHE_STATS,
                          .load = call_load, .store = call_store,
                          .remove = call_remove, .on_event = calls_happened);
CACHE_DEFINE_LOADING_WITH(manys, uint64_t, struct value, cache_hash_u64,
                          cache_equal_u64, CACHE_SIEVE | CACHE_STATS,
                          .load_many = call_load_many,
                          .store_many = call_store_many,
                          .on_event = manys_happened);
CACHE_ASYNC_DEFINE(bytes);
CACHE_ASYNC_DEFINE(calls);
CACHE_ASYNC_DEFINE(manys);

/* --- the world ----------------------------------------------------------- */

enum tri { NO, YES, MAYBE };

#define NOT_SAID 1 /* by the store, of a write that goes through */

struct write {
    uint32_t key;
    bool remove, bad; /* bad: it has no encoding */
    bool through, behind, accepted, buried;
    uint64_t version; /* 0 = not known yet */
    int said;
    bool sent, overtaken; /* goes through: it is not kept */
};

/* When a load has failed, by what it has failed with. */
struct failure {
    uint64_t ms, step;
};

static const int failures[] = { CACHE_ESTORE,   CACHE_EIO,    CACHE_ELOCKED,
                                CACHE_ETIMEOUT, CACHE_ECODEC, CACHE_ENOMEM };
#define N_FAILURES (sizeof failures / sizeof *failures)

struct key {
    stamp stored;          /* what the store has */
    uint64_t version;      /* of it */
    stamp newest;          /* accepted behind, and not given up */
    stamp floor, soft;     /* acknowledged or invalidated otherwise */
    stamp sent, confirmed; /* behind: at the store last, and there for sure */
    uint32_t at_store;     /* writes */

    bool there; /* the cells have a value, as the events say */
    stamp stamp;
    uint64_t came;               /* the iteration in which it came */
    uint64_t fresh_ms, dead_ms;  /* not later */
    uint64_t rested_ms;          /* no load begins before; 0 = one may */
    uint64_t absent_ms;          /* it is known to be absent, not longer */
    struct failure failures[N_FAILURES];
    uint64_t landed; /* the step in which a load ended */
    stamp landed_stamp;
};

enum load_state { LOAD_NONE, LOAD_QUEUED, LOAD_STARTED, LOAD_ANSWERED };

/* From a claim to the end of its load. */
struct load {
    enum load_state state;
    uint64_t born; /* in the order of the claims */
    uint32_t key, index;
    bool ours; /* the program loads, and ends it */
    bool never;
    uint64_t due_ms;  /* it is overdue */
    uint64_t end_ms;  /* the program ends it */
    uint64_t read_ms; /* and looks into the store */
    enum tri overtaken, overdue;
    uint32_t batch; /* number of */
    void *handle;
    stamp stamp; /* found; then status is 0 */
    int status;
    bool has_read, ended;
};

enum fate { STORES, FAILS, STORES_AND_FAILS, FAILS_AND_STORES_LATER };

struct parcel {
    uint32_t key;
    stamp stamp; /* of a write */
    struct load *load;
    uint64_t version, at_ms;
    enum fate fate;
    int status;
};

/* A batch at the store. */
struct flight {
    struct cache_store_batch *batch; /* NULL = not in use */
    struct parcel parcels[MAX_ITEMS];
    uint64_t apply_ms, reply_ms;
    bool applied;
};

struct many;

struct fetch {
    union {
        struct bytes_request bytes;
        struct calls_request calls;
        struct manys_request manys;
    } u;
    bool busy, calling, cancelled, known;
    uint64_t softened; /* the iteration in which that was due */
    uint32_t key;
    stamp floor, soft;
    uint64_t step, at_ms, deadline_ms, soft_ms;
    struct cache_reading how;
    struct value out;
    struct many *many;
};

struct many {
    struct cache_fetch_many base;
    bool busy, calling;
    size_t n;
    union {
        struct bytes_request bytes[MANY];
        struct calls_request calls[MANY];
        struct manys_request manys[MANY];
    } u;
    struct fetch each[MANY]; /* what is known of them */
    struct value out[MANY];
    uint64_t keys[MANY];
};

struct put {
    union {
        struct bytes_write_request bytes;
        struct calls_write_request calls;
        struct manys_write_request manys;
    } u;
    bool busy, calling;
    uint32_t key;
    stamp stamp, all; /* all: the latest write then */
    uint64_t n_letters, barrier;
    enum cache_ack ack;
    bool through;
};

struct barrier {
    struct cache_flush base;
    bool busy, calling;
    stamp all;
    uint64_t n_letters, barrier;
};

enum loads { BY_NOBODY, BY_BATCH, BY_ONE };

struct ops;

static struct {
    uint64_t seed, random, step, iteration;
    uint32_t n_keys, capacity, tick, depth, acts;
    uint64_t act_ms; /* the next act of the program */
    stamp n_stamps, writing;
    struct key keys[MAX_KEYS];
    struct write writes[MAX_STAMPS];
    struct load loads[MAX_LOADS];
    struct flight flights[MAX_FLIGHTS];
    struct parcel late[MAX_LATE];
    uint32_t n_late, n_batches;
    uint64_t n_claims;
    struct fetch fetches[N_FETCHES];
    struct many many;
    struct put puts[N_WRITES];
    struct barrier barriers[N_FLUSHES];
    uint64_t n_letters, n_closed_letters, letters_at_close;
    uint64_t slice_ms; /* when a thread goes on */

    struct cache_loading_config config;
    struct cache_async_config async;
    struct cache_store store;
    struct cache_codec key_codec, value_codec;
    const struct ops *ops;
    uv_loop_t loop;
    uv_prepare_t prepare; /* of the program's */
    struct load *ending;  /* the program is ending it */
    uint64_t close_ms;    /* when it is to be over */
    bool closing, closed, awaits_room;

    /* How this world is. */
    enum loads by;
    bool byte_store, skips, prepares, holds_clock;
    uint32_t latency, fail, time_out, refuse, never, at_once, in_callbacks;
    const char *doing;
} s;

/* Over all seeds: a simulation in which nothing happens proves nothing. */
static struct {
    uint64_t steps, hits, stale, told, unstored, absent, errors, timeouts,
        softened, cancelled, joined, loads, overtaken, overdue, late, through,
        behind, letters, lost, flushed, full, writable, nested, queued;
} total;

static bool tracing; /* --trace */

static void broken(const char *rule)
{
    printf("seed %llu, step %llu (%s), at %llu ms: broken: %s\n"
           "run it alone with --seed=%llu\n",
           (unsigned long long)s.seed, (unsigned long long)s.step,
           s.doing ? s.doing : "", (unsigned long long)fake_uv.now_ms, rule,
           (unsigned long long)s.seed);
    test__fail(__FILE__, __LINE__, rule);
}

static void fake_uv_broken(const char *rule)
{
    broken(rule);
}

#define RULE(condition, rule) ((condition) ? (void)0 : broken(rule))

static void trace(const char *what, uint32_t key, stamp number, int rc)
{
    if (tracing)
        printf("%7llu ms, loop %llu, step %3llu, %.*s%s: key %u, stamp %u: %d\n",
               (unsigned long long)fake_uv.now_ms,
               (unsigned long long)s.loop.time, (unsigned long long)s.step,
               2 * (int)s.depth, "                ", what, key, number, rc);
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(test_random(&s.random) >> 33) % n;
}

static bool percent(uint32_t n)
{
    return below(100) < n;
}

static int sim_clock(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)(fake_uv.now_ms / 1000);
    now->tv_nsec = (long)(fake_uv.now_ms % 1000) * 1000000;
    return 0;
}

static uint64_t clock_now(void *user)
{
    (void)user;
    return fake_uv.now_ms;
}

static uint64_t wall_now(void *user)
{
    (void)user;
    return WALL + fake_uv.now_ms;
}

/* Loads wait for a thread. */
static bool on_threads(void)
{
    return s.by == BY_NOBODY &&
           (!s.byte_store || (s.store.capabilities & CACHE_STORE_BLOCKS));
}

static bool is_behind(void)
{
    return s.config.writes == CACHE_WRITE_BEHIND;
}

static bool is_through(void)
{
    return s.config.writes == CACHE_WRITE_THROUGH ||
           s.config.writes == CACHE_WRITE_AROUND;
}

/* Nothing is evicted. */
static bool is_roomy(void)
{
    return s.capacity >= s.n_keys;
}

static stamp max_stamp(stamp a, stamp b)
{
    return a > b ? a : b;
}

static uint64_t max_ms(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t sum_ms(uint64_t a, uint64_t b)
{
    return a > CACHE_NEVER - b ? CACHE_NEVER : a + b;
}

/* --- what a type is able to do ------------------------------------------- */

struct ops {
    bool bytes;
    int (*init)(const struct cache_loading_config *config);
    int (*open)(void);
    void (*destroy)(void);
    const char *(*check)(void);
    struct cache_front *(*front)(void);
    struct cache_async *(*base)(void);
    int (*fetch)(struct fetch *f, const struct cache_fetch_options *options);
    int (*many)(struct many *m, const struct cache_fetch_options *options);
    int (*cancel)(struct fetch *f);
    int (*refresh)(uint64_t key);
    bool (*peek)(uint64_t key, struct value *out);
    int (*put)(uint64_t key, const struct value *value,
               const struct cache_writing *how);
    int (*put_ack)(struct put *p, const struct value *value,
                   const struct cache_writing *how);
    void (*invalidate)(enum cache_invalidation how);
    void (*invalidate_key)(uint64_t key, enum cache_invalidation how);
    void (*loaded)(struct load *l, const struct value *value,
                   const struct cache_loaded *loaded);
    void (*load_failed)(struct load *l, int status);
    void (*batch_failed)(struct load *l, int status);
    int *(*many_status)(struct many *m, size_t i);
};

static void fetch_told(struct fetch *f, int status);
static void many_told(struct cache_fetch_many *m);
static void put_told(struct put *p, int status);
static uint32_t group_of(const uint64_t *key, void *user);
static void load_begins(void *batch, const uint64_t *keys, size_t n,
                        size_t from, size_t to);

#define OPS(name, is_bytes)                                                    \
    static struct name name##_cache;                                           \
    static struct name##_async name##_half;                                    \
    static void name##_happened(const struct name##_event *e, void *user)      \
    {                                                                          \
        (void)user;                                                            \
        happened(e->kind, e->key, e->value, e->status, e->letter);             \
    }                                                                          \
    static void name##_o_told(struct name##_request *req, int status)          \
    {                                                                          \
        fetch_told((struct fetch *)req->data, status);                         \
    }                                                                          \
    static void name##_o_put_told(struct name##_write_request *req,            \
                                  int status)                                  \
    {                                                                          \
        put_told((struct put *)req->data, status);                             \
    }                                                                          \
    static void name##_o_load_batch(struct name##_async *a,                    \
                                    struct name##_batch *b)                    \
    {                                                                          \
        RULE(a == &name##_half, "a loader is given its loop half");            \
        load_begins(b, b->keys, b->n, 0, b->n);                                \
    }                                                                          \
    static void name##_o_load_one(struct name##_async *a,                      \
                                  struct name##_batch *b, size_t i)            \
    {                                                                          \
        RULE(a == &name##_half, "a loader is given its loop half");            \
        load_begins(b, b->keys, b->n, i, i + 1);                               \
    }                                                                          \
    static int name##_o_init(const struct cache_loading_config *config)        \
    {                                                                          \
        memset(&name##_cache, 0, sizeof name##_cache);                         \
        return name##_init(&name##_cache, config);                             \
    }                                                                          \
    static int name##_o_open(void)                                             \
    {                                                                          \
        struct name##_loader loader = { NULL, NULL, group_of };                \
        if (s.by == BY_BATCH)                                                  \
            loader.load_batch = name##_o_load_batch;                           \
        if (s.by == BY_ONE)                                                    \
            loader.load_one = name##_o_load_one;                               \
        memset(&name##_half, 0xa5, sizeof name##_half);                        \
        return name##_async_init(&name##_half, &s.loop, &name##_cache,         \
                                 &s.async, &loader);                           \
    }                                                                          \
    static void name##_o_destroy(void)                                         \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static const char *name##_o_check(void)                                    \
    {                                                                          \
        return name##_check(&name##_cache);                                    \
    }                                                                          \
    static struct cache_front *name##_o_front(void)                            \
    {                                                                          \
        return &name##_cache.front;                                            \
    }                                                                          \
    static struct cache_async *name##_o_base(void)                             \
    {                                                                          \
        return &name##_half.base;                                              \
    }                                                                          \
    static int name##_o_fetch(struct fetch *f,                                 \
                              const struct cache_fetch_options *options)       \
    {                                                                          \
        f->u.name.data = f;                                                    \
        if (options == NULL)                                                   \
            return name##_fetch(&name##_half, &f->u.name, f->key, &f->out,     \
                                name##_o_told);                                \
        return name##_fetch_with(&name##_half, &f->u.name, f->key, &f->out,    \
                                 options, name##_o_told);                      \
    }                                                                          \
    static int name##_o_many(struct many *m,                                   \
                             const struct cache_fetch_options *options)        \
    {                                                                          \
        return name##_fetch_many(&name##_half, &m->base, m->u.name, m->keys,   \
                                 m->n, m->out, options, many_told);            \
    }                                                                          \
    static int *name##_o_many_status(struct many *m, size_t i)                 \
    {                                                                          \
        return &m->u.name[i].base.status;                                      \
    }                                                                          \
    static int name##_o_cancel(struct fetch *f)                                \
    {                                                                          \
        if (f->many)                                                           \
            return name##_fetch_cancel(&f->many->u.name[f - f->many->each]);   \
        return name##_fetch_cancel(&f->u.name);                                \
    }                                                                          \
    static int name##_o_refresh(uint64_t key)                                  \
    {                                                                          \
        return name##_async_refresh(&name##_half, key);                        \
    }                                                                          \
    static bool name##_o_peek(uint64_t key, struct value *out)                 \
    {                                                                          \
        return name##_peek(&name##_cache, key, out);                           \
    }                                                                          \
    static int name##_o_put(uint64_t key, const struct value *value,           \
                            const struct cache_writing *how)                   \
    {                                                                          \
        if (value == NULL)                                                     \
            return name##_async_remove(&name##_half, key);                     \
        return name##_async_put_with(&name##_half, key, *value, how);          \
    }                                                                          \
    static int name##_o_put_ack(struct put *p, const struct value *value,      \
                                const struct cache_writing *how)               \
    {                                                                          \
        p->u.name.data = p;                                                    \
        if (value == NULL)                                                     \
            return name##_async_remove_ack(&name##_half, &p->u.name, p->key,   \
                                           how, name##_o_put_told);            \
        return name##_async_put_ack(&name##_half, &p->u.name, p->key, *value,  \
                                    how, name##_o_put_told);                   \
    }                                                                          \
    static void name##_o_invalidate(enum cache_invalidation how)               \
    {                                                                          \
        name##_async_invalidate(&name##_half, how);                            \
    }                                                                          \
    static void name##_o_invalidate_key(uint64_t key,                          \
                                        enum cache_invalidation how)           \
    {                                                                          \
        name##_async_invalidate_key(&name##_half, key, how);                   \
    }                                                                          \
    static void name##_o_loaded(struct load *l, const struct value *value,     \
                                const struct cache_loaded *loaded)             \
    {                                                                          \
        struct name##_batch *b = (struct name##_batch *)l->handle;             \
        if (loaded)                                                            \
            name##_loaded_with(b, l->index, *value, loaded);                   \
        else                                                                   \
            name##_loaded(b, l->index, *value);                                \
    }                                                                          \
    static void name##_o_load_failed(struct load *l, int status)               \
    {                                                                          \
        name##_load_failed((struct name##_batch *)l->handle, l->index,         \
                           status);                                            \
    }                                                                          \
    static void name##_o_batch_failed(struct load *l, int status)              \
    {                                                                          \
        name##_batch_failed((struct name##_batch *)l->handle, status);         \
    }                                                                          \
    static const struct ops name##_ops = {                                     \
        is_bytes,                                                              \
        name##_o_init,                                                         \
        name##_o_open,                                                         \
        name##_o_destroy,                                                      \
        name##_o_check,                                                        \
        name##_o_front,                                                        \
        name##_o_base,                                                         \
        name##_o_fetch,                                                        \
        name##_o_many,                                                         \
        name##_o_cancel,                                                       \
        name##_o_refresh,                                                      \
        name##_o_peek,                                                         \
        name##_o_put,                                                          \
        name##_o_put_ack,                                                      \
        name##_o_invalidate,                                                   \
        name##_o_invalidate_key,                                               \
        name##_o_loaded,                                                       \
        name##_o_load_failed,                                                  \
        name##_o_batch_failed,                                                 \
        name##_o_many_status,                                                  \
    }

OPS(bytes, true);
OPS(calls, false);
OPS(manys, false);

static const struct ops *const all_ops[] = { &bytes_ops, &calls_ops,
                                             &manys_ops };

static uint32_t group_of(const uint64_t *key, void *user)
{
    RULE(user == &s, "a hook is given its user");
    return (uint32_t)*key * 7;
}

/* The clock of the cells. */
static uint64_t cell_ms(void)
{
    return cache__clock_ms(&s.ops->front()->clock);
}

static bool is_open(void)
{
    return !s.closing;
}

/* --- the oracle: values -------------------------------------------------- */

static stamp hard_bound(const struct key *k)
{
    return max_stamp(k->floor, k->newest);
}

static stamp soft_bound(const struct key *k)
{
    return max_stamp(k->soft, hard_bound(k));
}

static void raise_floor(struct key *k, stamp to, bool soft)
{
    if (!soft)
        k->floor = max_stamp(k->floor, to);
    k->soft = max_stamp(k->soft, to);
}

static stamp stamp_of(uint64_t key, const struct value *value)
{
    RULE(key < s.n_keys, "a key is one of ours");
    RULE(value->key == key && value->stamp > 0 && value->stamp <= s.n_stamps &&
             value->sum == sum_of(value->key, value->stamp) &&
             s.writes[value->stamp].key == key &&
             !s.writes[value->stamp].remove,
         "a value is one that was written or loaded for its key");
    return value->stamp;
}

static struct value value_of(uint32_t key, stamp number)
{
    struct value v = { key, number, sum_of(key, number) };

    return v;
}

/* Loads of this key are out of date, and what is on its way through. */
static void overtake(uint32_t key, enum tri how, bool writes)
{
    stamp i;
    uint32_t l;

    for (l = 0; l < MAX_LOADS; l++)
        if (s.loads[l].state != LOAD_NONE && s.loads[l].key == key &&
            s.loads[l].overtaken != YES) {
            s.loads[l].overtaken = how;
            total.overtaken += how == YES;
        }
    for (i = 1; i <= s.n_stamps && how == YES && writes; i++)
        if (s.writes[i].key == key && s.writes[i].sent)
            s.writes[i].overtaken = true;
    s.keys[key].rested_ms = 0;
}

static size_t failure_of(int status)
{
    size_t i = 0;

    while (i < N_FAILURES && failures[i] != status)
        i++;
    RULE(i < N_FAILURES, "an error is one of those that there are");
    return i;
}

/* What a request is told is what may be told. */
static void check_answer(const struct fetch *f, int status)
{
    const struct key *k = &s.keys[f->key];
    stamp low = f->soft < soft_bound(k) ? f->soft : soft_bound(k), i;
    const struct failure *failure;
    bool may = false;

    if (status == CACHE_FOUND_STALE)
        low = f->floor < hard_bound(k) ? f->floor : hard_bound(k);
    if (status >= 0) {
        RULE(status <= CACHE_FOUND_UNSTORED, "a value is found somehow");
        RULE(stamp_of(f->key, &f->out) >= low,
             "a value is not older than what was acknowledged before");
        RULE(status != CACHE_FOUND_STALE || f->many ||
                 (is_behind() && k->newest != 0) ||
                 f->how.stale != CACHE_STALE_NEVER,
             "who takes nothing stale is given nothing stale");
        total.stale += status == CACHE_FOUND_STALE;
        total.unstored += status == CACHE_FOUND_UNSTORED;
        return;
    }
    if (status == CACHE_EKEY) {
        total.absent++;
        may = low == 0 || f->how.skip_store;
        for (i = low; i > 0 && i <= s.n_stamps && !may; i++)
            may = s.writes[i].key == f->key && s.writes[i].remove;
        RULE(may, "what is absent was removed, or never written");
        return;
    }
    total.errors++;
    if (f->many) /* it may have been answered long ago */
        return;
    failure = &k->failures[failure_of(status)];
    RULE(failure->step >= f->step ||
             (s.config.freshness.error_ttl_ms != 0 && failure->step != 0 &&
              f->at_ms <=
                  failure->ms + s.config.freshness.error_ttl_ms + s.tick),
         "an error is that of a load, or of one lately");
}

/* --- the oracle: loads --------------------------------------------------- */

static struct load *new_load(uint32_t key)
{
    struct load *l = s.loads;
    stamp i;

    while (l < s.loads + MAX_LOADS && l->state != LOAD_NONE)
        l++;
    for (i = 0; i < MAX_LOADS && l == s.loads + MAX_LOADS; i++)
        if (s.loads[i].state == LOAD_QUEUED && s.loads[i].overdue == YES)
            l = &s.loads[i]; /* no thread has got to it */
    RULE(l < s.loads + MAX_LOADS, "(the test has room for loads)");
    memset(l, 0, sizeof *l);
    l->state = LOAD_QUEUED;
    l->key = key;
    l->born = ++s.n_claims;
    for (i = 1; i <= s.n_stamps; i++)
        if (s.writes[i].key == key && s.writes[i].through &&
            s.writes[i].said == NOT_SAID)
            l->overtaken = MAYBE; /* it has its turn some time */
    return l;
}

static struct load *older(struct load *a, struct load *b)
{
    return a && a->born < b->born ? a : b;
}

/* A key is on its way to a loader: the claim that was given out first. */
static struct load *start_load(uint64_t key)
{
    struct load *l, *queued = NULL;
    struct key *k = &s.keys[key];
    uint32_t n = 0;

    RULE(key < s.n_keys, "a key is one of ours");
    for (l = s.loads; l < s.loads + MAX_LOADS; l++) {
        if (l->state == LOAD_NONE || l->key != key)
            continue;
        if (l->state == LOAD_QUEUED) {
            n++;
            queued = older(queued, l);
        }
        RULE(l->state != LOAD_STARTED || l->overtaken != NO ||
                 l->overdue != NO || l->due_ms <= s.loop.time,
             "one load of a key is under way");
    }
    RULE(queued != NULL, "what is loaded was claimed");
    for (l = s.loads; l < s.loads + MAX_LOADS && n > 1 && on_threads(); l++)
        if (l->state == LOAD_QUEUED && l->key == key) {
            l->overtaken = MAYBE; /* which is which depends on threads */
            l->overdue = MAYBE;
        }
    RULE(!is_behind() || k->newest <= k->confirmed || queued->overtaken != NO,
         "a dirty key is not loaded");
    queued->state = LOAD_STARTED;
    queued->due_ms = sum_ms(s.loop.time, s.async.load_timeout_ms
                                             ? s.async.load_timeout_ms
                                             : s.config.claim_ms);
    total.loads++;
    return queued;
}

/* What a look into the store finds. */
static void read_store(struct load *l, bool fails)
{
    const struct key *k = &s.keys[l->key];

    RULE(k->stored >= k->confirmed, "(the store keeps what it has)");
    l->has_read = true;
    l->stamp = 0;
    l->status = CACHE_EKEY;
    if (fails)
        l->status = percent(50) ? CACHE_ESTORE : CACHE_EIO;
    else if (k->stored != 0 && !s.writes[k->stored].remove) {
        l->status = 0;
        l->stamp = k->stored;
    }
}

/* --- what the cache tells ------------------------------------------------ */

/* A load that may have brought this value now. */
static const struct load *source_of(uint32_t key, stamp number)
{
    const struct load *l;

    for (l = s.loads; l < s.loads + MAX_LOADS; l++)
        if (l->state == LOAD_ANSWERED && l->key == key && l->stamp == number &&
            l->overtaken != YES && l->overdue != YES)
            return l;
    return NULL;
}

static void value_came(uint32_t key, stamp number)
{
    const struct cache_freshness *fresh = &s.config.freshness;
    const struct write *w = &s.writes[number];
    struct key *k = &s.keys[key];
    uint64_t now_ms = cell_ms(), ttl_ms = fresh->ttl_ms, spare_ms;
    bool loaded = source_of(key, number) != NULL;

    trace("  came", key, number, 0);
    RULE(number == s.writing || loaded ||
             (w->through && w->said == 0 && !w->overtaken) ||
             (w->behind && number == k->newest),
         "what comes was put, or loaded by a load that nothing overtook");
    RULE(!loaded || !is_behind() || k->newest <= k->confirmed,
         "a load does not replace what is dirty");
    spare_ms = max_ms(fresh->stale_ms, fresh->stale_if_error_ms);
    k->there = true;
    k->stamp = number;
    k->came = s.iteration;
    k->fresh_ms = ttl_ms ? now_ms + ttl_ms : CACHE_NEVER;
    k->dead_ms = sum_ms(k->fresh_ms, spare_ms);
    k->absent_ms = 0;
    k->rested_ms = CACHE_NEVER;
    if (ttl_ms != 0) {
        uint64_t ms = ttl_ms - ttl_ms * fresh->jitter_pct / 100;

        if (fresh->refresh_pct)
            ms = ms * fresh->refresh_pct / 100;
        k->rested_ms = now_ms + (ms > 2 * s.tick ? ms - 2 * s.tick : 0);
    }
    if (w->through) /* its life began with the call */
        k->rested_ms = 0;
}

static void load_ended(uint32_t key, const struct value *value, int status)
{
    struct key *k = &s.keys[key];
    const struct cache_freshness *fresh = &s.config.freshness;
    bool doubtful = false;
    struct load *l, *queued = NULL, *sent = NULL, *answered = NULL;
    uint64_t ttl_ms;

    trace("  load ended", key, value ? value->stamp : 0, status);
    for (l = s.loads; l < s.loads + MAX_LOADS; l++) {
        if (l->state == LOAD_NONE || l->key != key)
            continue;
        doubtful = doubtful || l->overtaken != NO;
        if (l->state == LOAD_ANSWERED && !l->ended && l->overdue != YES)
            answered = older(answered, l);
        if (l->state == LOAD_QUEUED && l->overdue != YES)
            queued = older(queued, l);
        if ((l->state == LOAD_STARTED ||
             (l->state == LOAD_ANSWERED && !l->ours)) && l->overdue != YES &&
            (on_threads() || l->due_ms <= s.loop.time))
            sent = older(sent, l);
    }
    if (status == CACHE_ETIMEOUT && (sent || queued)) {
        total.overdue += sent != NULL;
        total.queued += sent == NULL;
        if (sent != NULL || on_threads()) /* a thread may get to it yet */
            (sent ? sent : queued)->overdue = YES;
        else
            queued->state = LOAD_NONE;
    }
    if (status != CACHE_ETIMEOUT && answered)
        answered->ended = true;
    else if (status != CACHE_ETIMEOUT && queued != NULL)
        queued->state = LOAD_NONE; /* it has failed before it was begun */
    k->landed = s.step;
    k->landed_stamp = value ? value->stamp : 0;
    if (value != NULL) {
        RULE(doubtful || !is_roomy() || s.skips ||
                 (k->there && k->stamp == stamp_of(key, value)),
             "what was loaded in time is kept");
        return;
    }
    if (status != CACHE_EKEY) {
        struct failure *f = &k->failures[failure_of(status)];

        f->step = s.step;
        f->ms = cell_ms();
    }
    if (doubtful || s.skips)
        return;
    ttl_ms = status == CACHE_EKEY ? fresh->negative_ttl_ms : fresh->error_ttl_ms;
    if (status == CACHE_EKEY)
        k->absent_ms = cell_ms() + ttl_ms;
    if (k->there && k->dead_ms != CACHE_NEVER)
        k->rested_ms = 0; /* it may be gone before */
    else if (ttl_ms > 2 * s.tick)
        k->rested_ms = cell_ms() + ttl_ms - 2 * s.tick;
    else
        k->rested_ms = 0;
}

static void bury(const struct cache_store_item *item)
{
    uint32_t key, i;
    uint64_t number;
    stamp letter = 0;

    memcpy(&number, item->key.data, sizeof number);
    RULE(number < s.n_keys, "a key is one of ours");
    key = (uint32_t)number;
    for (i = 1; i <= s.n_stamps; i++)
        if (s.writes[i].behind && s.writes[i].version == item->version)
            letter = i;
    trace("  letter", key, letter, item->status);
    RULE(letter != 0 && s.writes[letter].key == key &&
             s.writes[letter].accepted && !s.writes[letter].buried,
         "a letter is a write that was accepted, once");
    RULE(s.closing || s.config.write_behind.max_attempts,
         "nothing is given up while it may be tried");
    s.n_letters++;
    s.n_closed_letters += item->status == CACHE_ECLOSED;
    total.letters++;
    s.keys[key].newest = s.keys[key].confirmed;
    for (i = 1; i <= s.n_stamps; i++) {
        struct write *w = &s.writes[i];

        if (w->key != key || !w->behind || !w->accepted)
            continue;
        if (i <= letter && i > s.keys[key].confirmed)
            w->buried = true;
        else if (!w->buried)
            s.keys[key].newest = i;
    }
}

static void happened(enum cache_event_kind kind, const uint64_t *key,
                     const struct value *value, int status,
                     const struct cache_store_item *letter)
{
    struct key *k = key ? &s.keys[*key] : NULL;

    switch (kind) {
    case CACHE_EVENT_INSERT:
    case CACHE_EVENT_UPDATE:
        value_came((uint32_t)*key, stamp_of(*key, value));
        break;
    case CACHE_EVENT_REMOVE:
        trace("  left", (uint32_t)*key, value->stamp, 0);
        k->there = false;
        k->rested_ms = 0;
        break;
    case CACHE_EVENT_LOAD_START:
        trace("  claimed", (uint32_t)*key, 0, 0);
        RULE(k->rested_ms == 0 || !is_roomy() || cell_ms() >= k->rested_ms,
             "what is fresh, absent or failing is not loaded");
        (void)new_load((uint32_t)*key);
        break;
    case CACHE_EVENT_LOAD_END:
    case CACHE_EVENT_LOAD_ERROR:
        load_ended((uint32_t)*key, value, status);
        break;
    case CACHE_EVENT_DEAD_LETTER: bury(letter); break;
    default: break;
    }
}

/* --- the store ----------------------------------------------------------- */

/* Returns the status that the store would give. */
static int store_apply(const struct parcel *p)
{
    struct key *k = &s.keys[p->key];

    if (p->stamp < k->stored)
        return CACHE_ECONFLICT; /* by the version */
    k->stored = p->stamp;
    return 0;
}

static enum fate draw_fate(void)
{
    uint32_t dice = below(100);

    if (dice >= s.fail + s.time_out)
        return STORES;
    if (dice < s.fail)
        return FAILS;
    return (enum fate)(STORES_AND_FAILS + below(s.n_late < MAX_LATE ? 2 : 1));
}

/* One write, as its fate is; returns what the store says. */
static int store_write(struct parcel *p)
{
    if (p->fate == STORES)
        return store_apply(p);
    if (p->fate == STORES_AND_FAILS)
        (void)store_apply(p);
    else if (p->fate == FAILS_AND_STORES_LATER && s.n_late < MAX_LATE) {
        p->at_ms = fake_uv.now_ms + 1 + below(percent(50) ? 50 : 500);
        s.late[s.n_late++] = *p;
    }
    return percent(50) ? CACHE_ESTORE : CACHE_EIO;
}

/* The write that goes through, and has its turn. */
static stamp next_through(uint32_t key)
{
    stamp i;

    for (i = 1; i <= s.n_stamps; i++)
        if (s.writes[i].key == key && s.writes[i].through &&
            s.writes[i].said == NOT_SAID && !s.writes[i].bad)
            return i;
    return 0;
}

/* Which write this is, that comes to the store. */
static stamp store_stamp(uint32_t key, const struct value *value,
                         uint64_t version)
{
    struct key *k = &s.keys[key];
    stamp number = 0, i;

    if (is_behind()) {
        for (i = 1; i <= s.n_stamps; i++)
            if (s.writes[i].behind && s.writes[i].version == version)
                number = i;
        RULE(number != 0 && s.writes[number].accepted &&
                 !s.writes[number].buried,
             "what goes behind was accepted");
        RULE(number >= k->sent, "writes of a key go in order");
        k->sent = number;
        total.behind++;
    } else {
        number = next_through(key);
        RULE(number != 0, "what goes through is waited for");
        overtake(key, YES, true);
        s.writes[number].sent = true;
        total.through++;
    }
    RULE(s.writes[number].key == key &&
             s.writes[number].remove == (value == NULL) &&
             (value == NULL || stamp_of(key, value) == number),
         "writes of a key go in order, each as it is");
    RULE(k->at_store == 0, "one write of a key is at the store at a time");
    RULE(version > k->version || is_behind(), "versions of a key increase");
    k->version = version;
    k->at_store++;
    trace("  to the store", key, number, (int)version);
    return number;
}

/* The store has said how a write went, and the cache will know. */
static void store_said(const struct parcel *p, int status)
{
    struct key *k = &s.keys[p->key];

    trace("  stored", p->key, p->stamp, status);
    k->at_store--;
    s.writes[p->stamp].said = status;
    if (is_behind() && (status == 0 || status == CACHE_ECONFLICT))
        k->confirmed = max_stamp(k->confirmed, p->stamp);
}

static void flight_apply(struct flight *f)
{
    size_t i;

    for (i = 0; i < f->batch->n_items; i++) {
        struct parcel *p = &f->parcels[i];

        if (f->batch->items[i].op == CACHE_STORE_GET)
            read_store(p->load, p->fate != STORES);
        else
            p->status = store_write(p);
    }
    f->applied = true;
}

static void flight_reply(struct flight *f)
{
    struct cache_store_batch *batch = f->batch;
    size_t i;

    f->batch = NULL;
    for (i = 0; i < batch->n_items; i++) {
        struct cache_store_item *item = &batch->items[i];
        struct parcel *p = &f->parcels[i];
        struct value v;

        if (item->op != CACHE_STORE_GET) {
            item->status = p->status;
            store_said(p, p->status);
            continue;
        }
        item->status = p->load->status;
        p->load->state = LOAD_ANSWERED;
        trace("  answered", p->key, p->load->stamp, item->status);
        if (item->status != 0)
            continue;
        v = value_of(p->key, p->load->stamp);
        RULE(item->buffer_bytes >= sizeof v, "there is room for a value");
        memcpy(item->buffer, &v, sizeof v);
        item->value.data = item->buffer;
        item->value.len = sizeof v;
    }
    batch->done(batch);
}

static uint64_t number_of(struct cache_bytes bytes)
{
    uint64_t number = 0;

    RULE(bytes.len == sizeof number, "a key is encoded");
    memcpy(&number, bytes.data, sizeof number);
    RULE(number < s.n_keys, "a key is one of ours");
    return number;
}

/* Loads of the library's that are under way, as batches. */
static uint32_t n_loading(bool ours)
{
    uint32_t n = 0;
    const struct load *l, *m;

    for (l = s.loads; l < s.loads + MAX_LOADS; l++) {
        if (l->state != LOAD_STARTED || l->ours != ours || l->overdue != NO ||
            l->due_ms <= s.loop.time)
            continue;
        for (m = s.loads; m < l; m++)
            if (m->state == LOAD_STARTED && m->batch == l->batch)
                break;
        n += m == l;
    }
    return n;
}

static void begin_batch(uint32_t n)
{
    RULE(n >= 1 && n <= s.async.max_batch, "a batch has up to max_batch keys");
    s.n_batches++;
    RULE(n_loading(s.by != BY_NOBODY) <= s.async.max_batches,
         "no more than max_batches are under way");
}

static int sim_submit(struct cache_store *store,
                      struct cache_store_batch *batch)
{
    struct flight *f = s.flights;
    enum fate all = draw_fate();
    bool refuse = percent(s.refuse);
    uint32_t group = 0, n_gets = 0, n_groups = s.async.n_groups;
    size_t i;

    RULE(store == &s.store && batch->n_items >= 1 &&
             batch->n_items <= MAX_ITEMS,
         "a batch has items");
    RULE((fake_uv.thread != NULL) ==
             ((store->capabilities & CACHE_STORE_BLOCKS) != 0),
         "a store that blocks has a thread, and no other");
    RULE(!s.closed, "nothing is sent after close");
    while (f->batch)
        f++;
    memset(f, 0, sizeof *f);
    f->apply_ms = fake_uv.now_ms + below(s.latency);
    f->reply_ms = f->apply_ms + below(s.latency);
    for (i = 0; i < batch->n_items; i++) {
        const struct cache_store_item *item = &batch->items[i];
        struct parcel *p = &f->parcels[i];
        struct value v;
        uint64_t key = number_of(item->key);

        p->key = (uint32_t)key;
        p->fate = percent(50) ? all : draw_fate();
        p->version = item->version;
        if (item->op == CACHE_STORE_GET) {
            n_gets++;
            RULE(n_groups < 2 || i == 0 || group_of(&key, &s) % n_groups == group,
                 "a batch is of one group");
            group = n_groups < 2 ? 0 : group_of(&key, &s) % n_groups;
            p->load = start_load(key);
            p->load->batch = s.n_batches + 1;
            if (refuse)
                p->load->state = LOAD_ANSWERED;
            continue;
        }
        if (item->op == CACHE_STORE_PUT) {
            RULE(item->value.len == sizeof v, "a value is encoded");
            memcpy(&v, item->value.data, sizeof v);
        }
        p->stamp = store_stamp(p->key, item->op == CACHE_STORE_PUT ? &v : NULL,
                               item->version);
        if (refuse)
            store_said(p, CACHE_ELOCKED);
    }
    RULE(!s.closing || s.close_ms > s.loop.time || n_gets > 0 ||
             fake_uv.thread != NULL,
         "nothing is written after the time of close");
    if (n_gets > 0)
        begin_batch(n_gets);
    RULE(n_gets == 0 || n_gets == batch->n_items, "loads go with loads");
    if (refuse)
        return CACHE_ELOCKED;
    f->batch = batch;
    if (percent(s.at_once)) {
        flight_apply(f);
        flight_reply(f);
    }
    return 0;
}

/* --- blocking callbacks -------------------------------------------------- */

static void dawdle(void)
{
    RULE(fake_uv.thread != NULL, "what blocks has a thread");
    if (percent(20))
        fake_uv.now_ms += below(s.latency);
}

static int one_load(uint64_t key, struct value *value, uint32_t batch)
{
    struct load *l = start_load(key);

    l->batch = batch;
    dawdle();
    read_store(l, percent(s.fail));
    l->state = LOAD_ANSWERED;
    trace("  answered", l->key, l->stamp, l->status);
    if (l->status == 0)
        *value = value_of(l->key, l->stamp);
    return l->status;
}

static int call_load(const uint64_t *key, struct value *value,
                     struct cache_loaded *loaded, void *user)
{
    (void)loaded;
    RULE(user == &s, "a callback is given its user");
    return one_load(*key, value, 0);
}

static void call_load_many(const uint64_t *keys, struct value *values,
                           struct cache_loaded *loaded, size_t n, void *user)
{
    size_t i;

    RULE(user == &s, "a callback is given its user");
    RULE(n >= 1 && n <= s.async.max_batch, "a batch has up to max_batch keys");
    for (i = 0; i < n; i++)
        loaded[i].status = one_load(keys[i], &values[i], 0);
}

static int call_write(const uint64_t *key, const struct value *value,
                      const struct cache_storing *storing)
{
    struct parcel p;
    int rc;

    memset(&p, 0, sizeof p);
    RULE(*key < s.n_keys, "a key is one of ours");
    p.key = (uint32_t)*key;
    p.version = storing->version;
    p.stamp = store_stamp(p.key, value, p.version);
    p.fate = draw_fate();
    dawdle();
    rc = store_write(&p);
    store_said(&p, rc);
    return rc;
}

static void call_store_many(struct manys_write *writes, size_t n, void *user)
{
    size_t i;

    RULE(user == &s, "a callback is given its user");
    RULE(n >= 1 && (is_behind() || n <= s.async.max_batch),
         "a batch has up to max_batch writes");
    for (i = 0; i < n; i++)
        writes[i].status =
            call_write(writes[i].key, writes[i].value, &writes[i].storing);
}

/* --- the program's loader ------------------------------------------------ */

static void act(void);

/* A callback: the program does this or that. */
static void in_callback(void)
{
    if (s.depth >= 3 || !percent(s.in_callbacks))
        return;
    s.depth++;
    total.nested++;
    act();
    s.depth--;
}

static void end_load(struct load *l)
{
    static const struct cache_loaded plain = { 0, 0, 0, 0 };
    struct value v = value_of(l->key, l->stamp);
    uint32_t key = l->key, batch = l->batch, i;
    struct load *before = s.ending;

    if (l->state != LOAD_STARTED)
        return;
    if (!l->has_read)
        read_store(l, percent(s.fail));
    v = value_of(l->key, l->stamp);
    trace("end load", key, l->stamp, l->status);
    total.late += l->overdue == YES;
    s.ending = l;
    l->state = LOAD_ANSWERED;
    if (l->status == 0)
        s.ops->loaded(l, &v, percent(50) ? &plain : NULL);
    else if (l->status == CACHE_EKEY || percent(50))
        s.ops->load_failed(l, l->status);
    else { /* all of them */
        for (i = 0; i < MAX_LOADS; i++)
            if (s.loads[i].state == LOAD_STARTED && s.loads[i].batch == batch)
                s.loads[i].state = LOAD_ANSWERED;
        s.ops->batch_failed(l, l->status);
        for (i = 0; i < MAX_LOADS; i++)
            if (s.loads[i].state == LOAD_ANSWERED && s.loads[i].batch == batch)
                s.loads[i].state = LOAD_NONE;
    }
    l->state = LOAD_NONE;
    s.ending = before;
}

static void load_begins(void *batch, const uint64_t *keys, size_t n,
                        size_t from, size_t to)
{
    struct load *mine[MAX_ITEMS];
    uint32_t n_groups = s.async.n_groups;
    size_t i;

    RULE(from < to && to <= n, "a batch has keys");
    if (from == 0) {
        begin_batch((uint32_t)n);
        for (i = 1; i < n && n_groups > 1; i++)
            RULE(group_of(&keys[i], &s) % n_groups ==
                     group_of(&keys[0], &s) % n_groups,
                 "a batch is of one group");
    }
    for (i = from; i < to; i++) {
        struct load *l = mine[i] = start_load(keys[i]);

        trace("load", l->key, 0, (int)i);
        l->ours = true;
        l->handle = batch;
        l->index = (uint32_t)i;
        l->batch = s.n_batches;
        l->never = percent(s.never);
        l->end_ms = fake_uv.now_ms + below(s.latency);
        if (percent(50))
            read_store(l, percent(s.fail));
    }
    in_callback();
    for (i = from; i < to; i++)
        if (percent(s.at_once) && mine[i]->handle == batch &&
            mine[i]->index == i)
            end_load(mine[i]);
}

/* --- requests ------------------------------------------------------------ */

static struct fetch *free_fetch(void)
{
    struct fetch *f = s.fetches;

    while (f < s.fetches + N_FETCHES && f->busy)
        f++;
    return f < s.fetches + N_FETCHES ? f : NULL;
}

static void fetch_begins(struct fetch *f, uint32_t key,
                         const struct cache_fetch_options *options)
{
    static const struct cache_fetch_options plain;
    uint64_t ms, soft_ms;

    options = options ? options : &plain;
    f->busy = f->calling = true;
    f->cancelled = f->known = false;
    f->softened = 0;
    f->key = key;
    f->step = s.step;
    f->at_ms = cell_ms();
    f->floor = hard_bound(&s.keys[key]);
    f->soft = soft_bound(&s.keys[key]);
    f->how = options->reading;
    ms = options->timeout_ms ? options->timeout_ms : s.async.timeout_ms;
    soft_ms = options->soft_timeout_ms ? options->soft_timeout_ms
                                       : s.async.soft_timeout_ms;
    f->deadline_ms = ms ? sum_ms(s.loop.time, ms) : CACHE_NEVER;
    f->soft_ms = soft_ms ? sum_ms(s.loop.time, soft_ms) : CACHE_NEVER;
    memset(&f->out, 0xee, sizeof f->out);
    if (f->how.skip_read || f->how.stale == CACHE_STALE_NEVER)
        s.keys[key].rested_ms = 0;
}

/* What a call has returned at once. */
static void fetch_returned(struct fetch *f, int status)
{
    struct key *k = &s.keys[f->key];

    f->busy = false;
    if (!is_open()) {
        RULE(status == UV_ECANCELED, "after close fetch is cancelled");
        return;
    }
    total.hits += status >= 0;
    if (status == UV_ENOBUFS) {
        RULE(s.ops->front()->claims.free_records == 0,
             "there is room while there are records");
        return;
    }
    check_answer(f, status);
    if (status == CACHE_FOUND && k->there && k->stamp == f->out.stamp &&
        !(is_behind() && k->newest != 0))
        RULE(cell_ms() <= sum_ms(k->fresh_ms, s.tick) && !f->how.skip_read,
             "what is found is fresh");
    if (status == CACHE_FOUND_STALE && k->there && k->stamp == f->out.stamp &&
        !(is_behind() && k->newest != 0))
        RULE(cell_ms() <= sum_ms(k->dead_ms, s.tick), "what is dead is gone");
}

static void do_fetch(uint32_t key, const struct cache_fetch_options *options)
{
    struct fetch *f = free_fetch();
    int rc, *status;

    if (f == NULL)
        return;
    s.doing = "fetch";
    fetch_begins(f, key, options);
    f->many = NULL;
    rc = s.ops->fetch(f, options);
    trace("fetch", key, rc == 1 ? f->out.stamp : 0, rc);
    f->calling = false;
    status = &f->u.bytes.base.status;
    if (rc == 0) {
        total.joined++;
        f->known = options && options->always_async;
        return;
    }
    RULE(rc < 0 || rc == 1, "fetch returns 1, 0 or an error");
    fetch_returned(f, rc < 0 ? rc : *status);
}

static void many_answered(struct many *m)
{
    size_t i;

    for (i = 0; i < m->n; i++)
        if (m->each[i].busy) {
            struct fetch *f = &m->each[i];
            int status = *s.ops->many_status(m, i);

            f->busy = false;
            f->out = m->out[i];
            if (f->cancelled)
                RULE(status == UV_ECANCELED, "who cancels is cancelled");
            else if (status == UV_ETIMEDOUT)
                RULE(s.loop.time >= f->deadline_ms, "a deadline has passed");
            else if (status == UV_ECANCELED)
                RULE(s.closing, "nobody is cancelled unasked");
            else if (status == UV_ENOBUFS)
                continue;
            else
                check_answer(f, status);
        }
}

static void many_told(struct cache_fetch_many *base)
{
    struct many *m = (struct many *)(void *)base;

    s.doing = "told of many";
    RULE(m->busy && !m->calling, "an answer comes once, and later");
    m->busy = false;
    many_answered(m);
    s.step++;
    in_callback();
}

static void do_many(const struct cache_fetch_options *options)
{
    struct many *m = &s.many;
    size_t i;
    int rc;

    if (m->busy)
        return;
    s.doing = "fetch_many";
    m->n = below(MANY + 1);
    m->busy = m->calling = true;
    for (i = 0; i < m->n; i++) {
        m->keys[i] = below(s.n_keys);
        fetch_begins(&m->each[i], (uint32_t)m->keys[i], options);
        m->each[i].many = m;
    }
    rc = s.ops->many(m, options);
    trace("fetch_many", 0, (stamp)m->n, rc);
    m->calling = false;
    for (i = 0; i < m->n; i++)
        m->each[i].calling = false;
    if (rc == 0)
        return;
    m->busy = false;
    RULE(rc == (is_open() ? 1 : UV_ECANCELED), "fetch_many returns 1 or 0");
    if (rc == 1)
        many_answered(m);
    for (i = 0; i < m->n; i++)
        m->each[i].busy = false;
}

static void fetch_told(struct fetch *f, int status)
{
    const struct key *k;

    trace("told", f->key, status >= 0 ? f->out.stamp : 0, status);
    s.doing = "told";
    RULE(f->busy && !f->calling, "an answer comes once, and later");
    RULE(fake_uv.thread == NULL, "answers come on the loop");
    f->busy = false;
    total.told++;
    if (f->cancelled)
        RULE(status == UV_ECANCELED, "who cancels is cancelled");
    else if (status == UV_ETIMEDOUT) {
        RULE(s.loop.time >= f->deadline_ms, "a deadline has passed");
        total.timeouts++;
    } else if (status == UV_ECANCELED)
        RULE(s.closing, "nobody is cancelled unasked");
    else if (status == UV_ENOBUFS)
        ;
    else
        check_answer(f, status);
    k = &s.keys[f->key];
    if (status == CACHE_FOUND && is_roomy() && k->landed == s.step &&
        k->landed_stamp == f->out.stamp && !f->known)
        RULE(k->there && k->stamp == f->out.stamp,
             "what is unstored is called so");
    s.step++;
    in_callback();
}

static void do_cancel(void)
{
    struct fetch *f = &s.fetches[below(N_FETCHES)];
    int rc;

    if (s.many.busy && s.many.n > 0 && percent(20))
        f = &s.many.each[below((uint32_t)s.many.n)];
    if (f->u.bytes.base.async == NULL && f->many == NULL)
        return;
    s.doing = "cancel";
    rc = s.ops->cancel(f);
    trace("cancel", f->key, 0, rc);
    if (rc == 0) {
        RULE(f->busy && !f->cancelled, "what waits is cancelled once");
        f->cancelled = true;
        total.cancelled++;
        return;
    }
    RULE(rc == UV_EBUSY, "cancel returns 0 or UV_EBUSY");
}

/* --- writes -------------------------------------------------------------- */

static bool all_stored(stamp all)
{
    stamp i;

    for (i = 1; i <= all; i++)
        if (s.writes[i].behind && s.writes[i].accepted &&
            !s.writes[i].buried &&
            s.keys[s.writes[i].key].stored < i)
            return false;
    return true;
}

static void put_told(struct put *p, int status)
{
    struct write *w = &s.writes[p->stamp];
    struct key *k = &s.keys[p->key];

    s.doing = "told of a write";
    trace("written", p->key, p->stamp, status);
    RULE(p->busy && !p->calling, "an answer comes once, and later");
    RULE(fake_uv.thread == NULL, "answers come on the loop");
    p->busy = false;
    if (p->through) {
        RULE(status == w->said || (w->bad && status == CACHE_ECODEC) ||
                 (status == UV_ECANCELED && s.closing && w->said == NOT_SAID),
             "a write through is told what the store has said");
        w->said = status; /* also of what never was there */
        RULE(status != 0 || k->stored >= p->stamp,
             "what is acknowledged is stored");
        if (status == 0)
            raise_floor(k, p->stamp, false);
    } else if (p->ack == CACHE_ACK_STORE && w->behind) {
        RULE(status != 0 || all_stored(p->all),
             "what the store acknowledges it has");
        RULE(status == 0 || (status == CACHE_EDEADLETTER &&
                             (s.n_letters > p->n_letters || s.closing)),
             "a write behind is stored, or given up");
    } else {
        RULE(status == 0, "memory acknowledges at once");
    }
    s.step++;
    in_callback();
}

static bool is_dirty(const struct key *k)
{
    return k->newest > k->confirmed;
}

/* What a write that was accepted, and goes no way that takes time, means. */
static void accepted(stamp number, const struct cache_writing *how)
{
    struct write *w = &s.writes[number];
    struct key *k = &s.keys[w->key];

    overtake(w->key, YES, true);
    if (is_behind() && !how->skip_store) {
        w->behind = w->accepted = true;
        w->version = s.ops->front()->writes.version;
        k->newest = number;
    } else if (!how->skip_store && s.config.writes == CACHE_ASIDE &&
               k->stored == number)
        raise_floor(k, number, false);
}

static void write_returned(struct put *p, stamp number, int rc,
                           const struct cache_writing *how, bool was_full)
{
    struct write *w = &s.writes[number];
    bool through = is_through() && !how->skip_store;
    bool encodes = is_behind() && !how->skip_store;

    if (rc != 0)
        w->said = rc;
    if (!is_open())
        RULE(rc == UV_ECANCELED, "after close nothing is written");
    else if (how->ack == CACHE_ACK_JOURNAL)
        RULE(rc == CACHE_EINVAL, "there is no journal");
    else if (through && p == NULL)
        RULE(rc == CACHE_ESTRATEGY, "what goes through takes a request");
    else if (w->bad && encodes)
        RULE(rc == CACHE_ECODEC, "what has no encoding is refused");
    else if (was_full && encodes && !is_dirty(&s.keys[w->key])) {
        RULE(rc == CACHE_EFULL || rc == 0, "nothing is refused but for room");
        total.full += rc != 0;
    } else
        RULE(rc == 0, "what may be written is");
    if (is_open())
        s.awaits_room |= !cache_async_is_writable(s.ops->base());
    RULE(rc != CACHE_EFULL || s.awaits_room,
         "where there is no room nothing is writable");
    RULE(rc != 0 || !encodes || s.awaits_room ||
             cache_wb_n_dirty(&s.ops->front()->writes) <
                 s.ops->base()->config.high_water,
         "from high water on nothing is writable");
    if (rc != 0)
        return;
    if (!through) {
        accepted(number, how);
        return;
    }
    w->through = true;
    w->said = NOT_SAID;
    overtake(w->key, MAYBE, false);
}

static void do_write(void)
{
    uint32_t key = below(s.n_keys), i = 0;
    struct cache_writing how = cache__write_default;
    struct put *p = percent(50) ? s.puts : NULL;
    const struct cache_front *front = s.ops->front();
    struct write *w;
    struct value v;
    bool was_full;
    stamp number;
    int rc;

    if (s.n_stamps + 1 >= MAX_STAMPS)
        return;
    for (; p && i < N_WRITES && p->busy; i++)
        p++;
    if (p == s.puts + N_WRITES)
        return;
    s.doing = "write";
    number = ++s.n_stamps;
    w = &s.writes[number];
    memset(w, 0, sizeof *w);
    w->key = key;
    w->remove = percent(20);
    w->bad = !w->remove && s.ops->front()->config.value_codec && percent(3);
    v = value_of(key, number);
    if (percent(10) && !(w->remove && p == NULL))
        how.skip_store = true;
    if (percent(10) && !(w->remove && p == NULL))
        how.skip_write = true;
    if (percent(3) && !(w->remove && p == NULL))
        how.ack = CACHE_ACK_JOURNAL;
    else if (percent(30))
        how.ack = percent(50) ? CACHE_ACK_STORE : CACHE_ACK_MEMORY;
    if (w->remove && p == NULL)
        memset(&how, 0, sizeof how);
    if (s.config.writes == CACHE_ASIDE && is_open() && !how.skip_store &&
        how.ack != CACHE_ACK_JOURNAL && percent(80))
        s.keys[key].stored = number; /* the program's own part */
    was_full = is_behind() && cache_wb_n_dirty(&front->writes) ==
                                  front->writes.config.max_dirty;
    if (p != NULL) {
        p->busy = p->calling = true;
        p->key = key;
        p->stamp = number;
        p->all = number;
        p->n_letters = s.n_letters;
        p->ack = how.ack ? how.ack : front->config.ack;
        p->through = is_through() && !how.skip_store;
    }
    s.writing = number;
    rc = p ? s.ops->put_ack(p, w->remove ? NULL : &v, &how)
           : s.ops->put(key, w->remove ? NULL : &v, &how);
    s.writing = 0;
    trace(w->remove ? "remove" : "put", key, number, rc);
    if (p != NULL) {
        p->calling = false;
        p->busy = rc == 0;
        p->barrier = front->writes.version;
    }
    write_returned(p, number, rc, &how, was_full);
}

static void do_invalidate(bool all)
{
    enum cache_invalidation how =
        percent(50) ? CACHE_INVALIDATE_HARD : CACHE_INVALIDATE_SOFT;
    uint32_t key = below(s.n_keys), i;

    s.doing = "invalidate";
    trace(how == CACHE_INVALIDATE_HARD ? "invalidate hard" : "invalidate soft",
          all ? 999 : key, 0, 0);
    if (all)
        s.ops->invalidate(how);
    else
        s.ops->invalidate_key(key, how);
    for (i = all ? 0 : key; i < (all ? s.n_keys : key + 1); i++) {
        overtake(i, YES, !all || how == CACHE_INVALIDATE_HARD);
        raise_floor(&s.keys[i], s.keys[i].stored,
                    how == CACHE_INVALIDATE_SOFT);
    }
}

static void flush_told(struct cache_flush *flush, int status)
{
    struct barrier *b = (struct barrier *)(void *)flush;

    s.doing = "told of a flush";
    trace("flushed", 0, b->all, status);
    RULE(b->busy && !b->calling, "an answer comes once, and later");
    b->busy = false;
    RULE(status != 0 || all_stored(b->all), "what is flushed is stored");
    RULE(status == 0 || (status == CACHE_EDEADLETTER &&
                         (s.n_letters > b->n_letters || s.closing)),
         "a flush ends with all stored, or given up");
    total.flushed++;
    s.step++;
    in_callback();
}

static void do_flush(void)
{
    struct barrier *b = &s.barriers[below(N_FLUSHES)];
    int rc;

    if (b->busy)
        return;
    s.doing = "flush";
    b->busy = b->calling = true;
    b->all = s.n_stamps;
    b->n_letters = s.n_letters;
    b->barrier = s.ops->front()->writes.version;
    rc = cache_async_flush(s.ops->base(), &b->base, flush_told);
    trace("flush", 0, b->all, rc);
    b->calling = false;
    RULE(rc == (is_open() ? 0 : UV_ECANCELED), "flush is accepted until close");
    b->busy = rc == 0;
}

static void on_writable(struct cache_async *a)
{
    s.doing = "writable";
    RULE(a == s.ops->base() && is_open() && cache_async_is_writable(a) &&
             s.awaits_room,
         "on_writable says what was not so");
    RULE(cache_wb_n_dirty(&a->front->writes) <= a->config.low_water,
         "on_writable waits for low water");
    total.writable++;
    s.awaits_room = false;
    in_callback();
}

/* --- close --------------------------------------------------------------- */

static void on_closed(struct cache_async *a, uint64_t n_lost)
{
    uint32_t i;

    s.doing = "closed";
    trace("closed", 0, 0, (int)n_lost);
    RULE(a == s.ops->base() && s.closing && !s.closed, "close is told once");
    s.closed = true;
    RULE(n_lost == s.n_closed_letters, "close says how many writes were lost");
    total.lost += n_lost;
    for (i = 0; i < N_FETCHES; i++)
        RULE(!s.fetches[i].busy, "after close no fetch waits");
    for (i = 0; i < N_WRITES; i++)
        RULE(!s.puts[i].busy, "after close no write waits");
    for (i = 0; i < N_FLUSHES; i++)
        RULE(!s.barriers[i].busy, "after close no flush waits");
    RULE(!s.many.busy, "after close no fetch_many waits");
    RULE(all_stored(s.n_stamps),
         "what was accepted is stored, or was given up");
    for (i = 0; i < MAX_FLIGHTS; i++)
        RULE(s.flights[i].batch == NULL, "after close the store has nothing");
    memset(s.loads, 0, sizeof s.loads);
    memset(a, 0xa5, sizeof *a); /* it may be freed */
}

static void do_close(void)
{
    int rc;

    s.doing = "close";
    rc = cache_async_close(s.ops->base(), on_closed);
    trace("close", 0, 0, rc);
    RULE(rc == (s.closing ? UV_EALREADY : 0), "close is accepted once");
    if (rc == 0) {
        s.closing = true;
        s.close_ms = s.loop.time + s.async.close_timeout_ms;
    }
}

/* --- what the program does ----------------------------------------------- */

static struct cache_fetch_options draw_options(void)
{
    struct cache_fetch_options o;

    memset(&o, 0, sizeof o);
    if (percent(30))
        o.reading.stale = (enum cache_stale)below(3);
    o.reading.skip_read = percent(10);
    o.reading.skip_write = s.skips && percent(10);
    o.reading.skip_store = percent(5);
    if (percent(40))
        o.timeout_ms = percent(20) ? CACHE_NEVER : 1 + below(2 * s.latency);
    if (percent(30))
        o.soft_timeout_ms = percent(20) ? CACHE_NEVER : 1 + below(s.latency);
    o.always_async = percent(15);
    return o;
}

static void do_end_some_load(void)
{
    struct load *l = &s.loads[below(MAX_LOADS)];
    uint32_t i;

    for (i = 0; i < MAX_LOADS; i++, l++) {
        if (l == s.loads + MAX_LOADS)
            l = s.loads;
        if (l->state == LOAD_STARTED && l->ours) {
            s.doing = "end a load";
            end_load(l);
            return;
        }
    }
}

static void act(void)
{
    struct cache_fetch_options options = draw_options();
    uint32_t key = below(s.n_keys), dice = below(1000);
    int rc;

    s.step++;
    total.steps++;
    if (s.closed)
        return;
    if (dice < 280)
        do_fetch(key, NULL);
    else if (dice < 480)
        do_fetch(key, &options);
    else if (dice < 540)
        do_many(percent(50) ? &options : NULL);
    else if (dice < 610)
        do_cancel();
    else if (dice < 640) {
        s.doing = "refresh";
        s.keys[key].rested_ms = 0;
        rc = s.ops->refresh(key);
        trace("refresh", key, 0, rc);
        RULE(rc <= 0, "refresh returns 0 or an error");
    } else if (dice < 840)
        do_write();
    else if (dice < 890)
        do_invalidate(false);
    else if (dice < 900)
        do_invalidate(true);
    else if (dice < 925)
        do_flush();
    else if (dice < 960)
        do_end_some_load();
    else if (dice < 985) /* a callback that takes its time */
        fake_uv.now_ms += below(percent(90) ? 5 : 300);
    else if (dice < 986)
        do_close();
    else
        RULE(s.ops->check() == NULL, s.ops->check());
}

/* --- the loop waits ------------------------------------------------------ */

static void check_fetch(struct fetch *f, bool waits, bool sleeps)
{
    struct value v;

    if (!f->busy)
        return;
    RULE(!waits || f->deadline_ms > s.loop.time || f->known,
         "a deadline is told in its turn");
    RULE(!sleeps || !f->cancelled, "who cancels is told before the loop waits");
    if (f->soft_ms > s.loop.time || f->soft_ms >= f->deadline_ms)
        return;
    f->softened = f->softened ? f->softened : s.iteration;
    if (!waits)
        return;
    RULE(f->known || f->cancelled || f->how.stale == CACHE_STALE_NEVER ||
             f->how.skip_read || s.keys[f->key].came + 3 >= f->softened ||
             !s.keys[f->key].there || !s.ops->peek(f->key, &v),
         "after a soft deadline any value will do");
}

/* Something that goes through could go. */
static bool write_is_stuck(void)
{
    struct cache_async *a = s.ops->base();
    struct cache_claims *t = &a->front->claims;
    struct cache_ring *at;

    if (a->free_throughs == NULL)
        return false;
    for (at = a->to_write.next; at != &a->to_write; at = at->next) {
        const struct cache_front_write *w = &cache__write_of(at)->write;
        uint32_t r = cache__claims_find(t, w->key, w->hash);

        if (t->free_records != 0 &&
            (r == 0 || t->records[r].state == CACHE_PENDING_LOAD))
            return true;
    }
    return false;
}

/* There is something to wait for. */
static bool something_is_on(void)
{
    const struct cache_async *a = s.ops->base();
    bool on = s.many.busy || a->n_out > 0 || a->n_loading > 0 ||
              a->first_queue != 0 ||
              (is_behind() && cache_wb_n_dirty(&a->front->writes) > 0);
    uint32_t i;

    for (i = 0; i < N_FETCHES; i++)
        on = on || s.fetches[i].busy;
    for (i = 0; i < N_WRITES; i++)
        on = on || s.puts[i].busy;
    return on;
}

/* The loop is about to wait: for nothing that could be done now. */
static void check_wait(bool waits, bool sleeps)
{
    struct cache_async *a = s.ops->base();
    uint32_t i;

    s.doing = "the loop waits";
    if (s.closed)
        return;
    RULE(s.ops->check() == NULL, s.ops->check());
    for (i = 0; i < N_FETCHES; i++)
        check_fetch(&s.fetches[i], waits, sleeps);
    for (i = 0; i < s.many.n && s.many.busy; i++)
        if (*s.ops->many_status(&s.many, i) == CACHE__PENDING)
            check_fetch(&s.many.each[i], waits, sleeps);
    if (!sleeps)
        return;
    RULE(s.closing || something_is_on(),
         "an idle cache does not keep the loop alive");
    for (i = 0; i < N_WRITES; i++)
        RULE(!s.puts[i].busy || s.puts[i].through ||
                 (s.puts[i].ack == CACHE_ACK_STORE &&
                  s.writes[s.puts[i].stamp].behind),
             "a write is acknowledged by memory before the loop waits");
    for (i = 0; i < N_WRITES && is_behind(); i++)
        RULE(!s.puts[i].busy || !cache_wb_is_stored(&a->front->writes,
                                                    s.puts[i].barrier),
             "what is stored is acknowledged before the loop waits");
    for (i = 0; i < N_FLUSHES && is_behind(); i++)
        RULE(!s.barriers[i].busy ||
                 !cache_wb_is_stored(&a->front->writes, s.barriers[i].barrier),
             "what is flushed is told before the loop waits");
    RULE(cache__async_load_due_ms(a) > s.loop.time,
         "what is to be loaded is, before the loop waits");
    RULE(!write_is_stuck(), "what may go through does, before the loop waits");
    RULE(a->free_loads != NULL || a->n_loading > 0 || a->first_queue == 0,
         "what nobody can load does not wait");
    if (is_behind() && is_open()) {
        RULE(cache_wb_due_ms(&a->front->writes) > s.loop.time,
             "what is due is written before the loop waits");
        RULE(s.awaits_room == !cache_async_is_writable(a),
             "on_writable says that it is so again");
        RULE(!s.awaits_room ||
                 cache_wb_n_dirty(&a->front->writes) > a->config.low_water,
             "on_writable is called before the loop waits");
    }
}

/* What the store's threads do; and the program. */
enum who { NOTHING, STORE, LATE, SLICE, LOADER, PROGRAM };

struct next {
    enum who who;
    uint64_t at;
    struct flight *flight;
    struct load *load;
    uint32_t late;
};

static void sooner(struct next *next, enum who who, uint64_t at)
{
    if (at >= next->at)
        return;
    next->who = who;
    next->at = at;
}

static struct next next_event(void)
{
    struct next next = { NOTHING, UINT64_MAX, NULL, NULL, 0 };
    uint32_t i;

    for (i = 0; i < MAX_FLIGHTS; i++) {
        struct flight *f = &s.flights[i];
        uint64_t at = f->applied ? f->reply_ms : f->apply_ms;

        if (f->batch == NULL || at >= next.at)
            continue;
        sooner(&next, STORE, at);
        next.flight = f;
    }
    for (i = 0; i < s.n_late; i++)
        if (s.late[i].at_ms < next.at) {
            sooner(&next, LATE, s.late[i].at_ms);
            next.late = i;
        }
    for (i = 0; i < MAX_LOADS && !s.closed; i++) {
        struct load *l = &s.loads[i];

        if (l->state != LOAD_STARTED || !l->ours || l->never ||
            l->end_ms >= next.at)
            continue;
        sooner(&next, LOADER, l->end_ms);
        next.load = l;
    }
    if (fake_uv_busy_thread(0))
        sooner(&next, SLICE, s.slice_ms);
    if (!s.closed)
        sooner(&next, PROGRAM, s.act_ms);
    return next;
}

/* The program's turn: an operation, or the end. */
static void program(void)
{
    s.act_ms = fake_uv.now_ms + below(percent(80) ? 8 : 3 * s.latency);
    if (s.acts > 0) {
        s.acts--;
        act();
        return;
    }
    if (!s.closing)
        do_close();
    else
        act();
}

static void event_happens(const struct next *next)
{
    fake_uv.now_ms = max_ms(fake_uv.now_ms, next->at);
    switch (next->who) {
    case STORE:
        if (next->flight->applied)
            flight_reply(next->flight);
        else
            flight_apply(next->flight);
        break;
    case LATE: {
        struct parcel p = s.late[next->late];

        s.late[next->late] = s.late[--s.n_late];
        (void)store_apply(&p);
        break;
    }
    case SLICE:
        s.slice_ms = fake_uv.now_ms + below(s.latency);
        fake_uv_run_thread(fake_uv_busy_thread(below(FAKE_UV_THREADS)));
        break;
    case LOADER:
        s.doing = "a load ends";
        s.step++;
        end_load(next->load);
        break;
    case PROGRAM: program(); break;
    default: break;
    }
}

static bool bell_rings(const uv_loop_t *loop)
{
    const uv_handle_t *h;

    for (h = loop->handles; h != NULL; h = h->next)
        if (h->kind == FAKE_UV_ASYNC && h->sent)
            return true;
    return false;
}

/* What the library has landed is over. */
static void forget_loads(bool waits, bool rings)
{
    bool idle = !s.closed && on_threads() && s.ops->base()->n_out == 0 &&
                s.ops->front()->claims.n_used == 0;
    uint32_t i;

    for (i = 0; i < MAX_LOADS; i++) {
        struct load *l = &s.loads[i];

        if (l->state == LOAD_STARTED && l->due_ms <= s.loop.time)
            l->overdue = waits ? YES : l->overdue == NO ? MAYBE : l->overdue;
        if ((l->state == LOAD_ANSWERED && !rings) || idle)
            l->state = LOAD_NONE;
    }
}

static bool fake_uv_wait(uv_loop_t *loop, uint64_t until_ms)
{
    uint32_t n = 1 + below(3);
    bool any = bell_rings(loop);

    s.iteration++;
    RULE(s.iteration < 200000, "a program comes to an end");
    forget_loads(until_ms > fake_uv.now_ms, any);
    check_wait(until_ms > fake_uv.now_ms, until_ms > fake_uv.now_ms && !any);
    while (n > 0) {
        struct next next = next_event();

        if (next.who == NOTHING || next.at > (any ? fake_uv.now_ms : until_ms))
            break;
        fake_uv.now_ms = max_ms(fake_uv.now_ms, next.at);
        if (next.who == LOADER || next.who == PROGRAM) {
            uv_update_time(loop);
            any = true;
            n--;
        }
        event_happens(&next);
        if (bell_rings(loop)) {
            any = true;
            n -= n > 0;
        }
    }
    if (!any && until_ms == UINT64_MAX)
        return false;
    if (!any && until_ms > fake_uv.now_ms)
        fake_uv.now_ms = until_ms;
    return true;
}

/* --- a world ------------------------------------------------------------- */

static void on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    s.doing = "prepare";
    if (percent(20) && s.acts > 0)
        act();
}

static int encode_value(const struct cache_codec *codec, const void *object,
                        void *out, size_t *bytes)
{
    const struct value *v = (const struct value *)object;

    if (s.writes[v->stamp].bad)
        return CACHE_ECODEC;
    return cache__raw_encode(codec, object, out, bytes);
}

static uint64_t draw_ms(uint32_t likely, uint32_t range)
{
    return percent(likely) ? s.tick + below(range) : 0;
}

static void draw_freshness(struct cache_freshness *f)
{
    f->ttl_ms = draw_ms(70, 200);
    f->refresh_pct = percent(40) ? below(101) : 0;
    f->jitter_pct = percent(20) ? below(30) : 0;
    f->stale_ms = draw_ms(50, 200);
    f->stale_if_error_ms = draw_ms(50, 400);
    f->negative_ttl_ms = draw_ms(50, 100);
    f->error_ttl_ms = draw_ms(50, 60);
}

static void draw_behind(struct cache_loading_config *c)
{
    struct cache_wb_config *wb = &c->write_behind;

    wb->max_dirty = 1 + below(MAX_KEYS);
    wb->max_batch = 1 + below(wb->max_dirty);
    wb->max_in_flight = 1 + below(3);
    wb->interval_ms = 1 + below(100);
    wb->retry_base_ms = 1 + below(20);
    wb->retry_cap_ms = wb->retry_base_ms + below(100);
    wb->max_attempts = percent(50) ? 0 : 1 + below(3);
    wb->seed = test_random(&s.random) | 1;
    c->ack = percent(20) ? CACHE_ACK_STORE : CACHE_ACK_DEFAULT;
}

static void draw_cache(void)
{
    static const enum cache_strategy writes[] = {
        CACHE_ASIDE, CACHE_WRITE_THROUGH, CACHE_WRITE_BEHIND,
        CACHE_WRITE_AROUND
    };
    struct cache_loading_config *c = &s.config;

    s.ops = all_ops[percent(60) ? 0 : 1 + below(2)];
    s.n_keys = 1 + below(MAX_KEYS);
    s.capacity = percent(50) ? s.n_keys : 1 + below(MAX_KEYS);
    s.tick = 1 + below(percent(50) ? 1 : 20);
    c->writes = writes[below(4)];
    c->reads = c->writes == CACHE_WRITE_BEHIND || percent(50)
                   ? CACHE_READ_THROUGH
                   : CACHE_ASIDE;
    c->cache.capacity = s.capacity;
    c->cache.tick_ms = s.tick;
    c->cache.seed = test_random(&s.random) | 1;
    c->cache.user = &s;
    if (percent(30))
        c->cache.now = clock_now;
    else if (percent(30))
        c->cache.now_ms = &s.loop.time;
    c->wall_now = wall_now;
    draw_freshness(&c->freshness);
    c->max_claims = 1 + below(percent(30) ? 3 : 20);
    c->claim_ms = 20 + below(300);
    s.key_codec = cache_raw_object(sizeof(uint64_t));
    s.value_codec = cache_raw_object(sizeof(struct value));
    s.value_codec.encode = encode_value;
    s.byte_store = s.ops->bytes &&
                   (c->writes != CACHE_ASIDE || c->reads != CACHE_ASIDE);
    if (s.byte_store) {
        s.store.name = "simulated";
        s.store.capabilities = percent(40) ? CACHE_STORE_BLOCKS : 0;
        s.store.submit = sim_submit;
        c->store = &s.store;
    }
    if (s.byte_store || c->writes == CACHE_WRITE_BEHIND) {
        c->key_codec = &s.key_codec;
        c->value_codec = &s.value_codec;
    }
    if (c->writes == CACHE_WRITE_BEHIND)
        draw_behind(c);
}

static void draw_half(void)
{
    struct cache_async_config *a = &s.async;

    s.by = percent(50) ? BY_NOBODY : percent(50) ? BY_BATCH : BY_ONE;
    if (s.ops->bytes && !s.byte_store && s.by == BY_NOBODY)
        s.by = BY_BATCH;
    a->max_batch = 1 + below(MAX_KEYS);
    if (a->max_batch > s.config.max_claims)
        a->max_batch = s.config.max_claims;
    a->max_batches = 1 + below(3);
    a->max_wait_ms = percent(40) ? below(20) : 0;
    a->n_groups = percent(40) ? 1 + below(4) : 0;
    a->n_workers = 1 + below(2);
    a->timeout_ms = percent(30) ? 1 + below(200) : 0;
    a->soft_timeout_ms = percent(30) ? 1 + below(50) : 0;
    a->load_timeout_ms = percent(60) ? 1 + below(100) : 0;
    a->close_timeout_ms = 1 + below(percent(50) ? 50 : 3000);
    a->sweep_ms = 1 + below(200);
    if (is_behind() && percent(60)) {
        a->high_water = 1 + below(s.config.write_behind.max_dirty);
        a->low_water = below(a->high_water + 1);
    }
    a->on_writable = on_writable;
    s.latency = 2 + below(percent(60) ? 20 : 150);
    s.fail = percent(60) ? below(40) : 0;
    s.time_out = percent(50) ? below(30) : 0;
    s.refuse = percent(30) ? below(30) : 0;
    s.never = percent(30) ? below(60) : 0;
    s.at_once = percent(50) ? below(60) : 0;
    s.in_callbacks = percent(70) ? below(80) : 0;
    s.skips = percent(50);
    s.prepares = percent(20);
}

/* What is not running has nothing to wait for. */
static void check_idle(void)
{
    uint32_t i;

    s.doing = "the loop has ended";
    for (i = 0; i < N_FETCHES; i++)
        RULE(!s.fetches[i].busy, "the loop runs while a fetch waits");
    for (i = 0; i < N_WRITES; i++)
        RULE(!s.puts[i].busy, "the loop runs while a write waits");
    for (i = 0; i < N_FLUSHES; i++)
        RULE(!s.barriers[i].busy, "the loop runs while a flush waits");
    RULE(!s.many.busy, "the loop runs while a fetch_many waits");
    RULE(s.closed || !s.closing, "the loop runs until it is closed");
    RULE(!is_behind() || s.closed ||
             cache_wb_n_dirty(&s.ops->front()->writes) == 0,
         "the loop runs while something is dirty");
}

/* The program beside the loop: it has ended, or was left alone. */
static void between_runs(void)
{
    struct next next = next_event();

    if (next.who == NOTHING)
        return;
    event_happens(&next);
}

static void close_prepare(uv_handle_t *handle)
{
    (void)handle;
}

static void live(void)
{
    uv_run_mode mode;

    while (!s.closed) {
        mode = percent(70) ? UV_RUN_DEFAULT
                           : percent(50) ? UV_RUN_ONCE : UV_RUN_NOWAIT;
        RULE(++s.iteration < 200000, "a program comes to an end");
        if (uv_run(&s.loop, mode) == 0)
            check_idle();
        if (!s.closed)
            between_runs();
    }
    if (s.prepares)
        uv_close((uv_handle_t *)&s.prepare, close_prepare);
    (void)uv_run(&s.loop, UV_RUN_DEFAULT);
    RULE(uv_loop_close(&s.loop) == 0, "after close nothing is open");
}

static void run(uint64_t seed)
{
    uint32_t n;

    memset(&s, 0, sizeof s);
    fake_uv_reset();
    s.seed = seed;
    s.random = seed * 0x9e3779b97f4a7c15u | 1;
    for (n = 0; n < 8; n++)
        (void)below(2); /* seeds that are close become strangers */
    fake_uv.now_ms = 1000 + below(100000);
    fake_uv.newer = percent(50);
    uv_loop_init(&s.loop);
    draw_cache();
    draw_half();
    s.acts = 20 + below(150);
    s.doing = "init";
    n = below(2);
    if (s.prepares) {
        (void)uv_prepare_init(&s.loop, &s.prepare);
        (void)uv_prepare_start(&s.prepare, on_prepare);
        uv_unref((uv_handle_t *)&s.prepare);
    }
    RULE(s.ops->init(&s.config) == 0, "init succeeds");
    RULE(s.ops->open() == 0, "init of the loop half succeeds");
    live();
    s.doing = "destroy";
    RULE(s.ops->check() == NULL, s.ops->check());
    RULE(s.ops->front()->claims.n_used == 0, "after close nothing is claimed");
    for (n = 0; n < s.n_keys; n++) {
        struct value v;

        (void)s.ops->peek(n, &v);
    }
    s.ops->destroy();
}

static bool just_one; /* --seed=N */

static void worlds(void)
{
    uint64_t n = just_one ? 1 : N_SEEDS * (uint64_t)test_scale(), i;

    for (i = 0; i < n; i++)
        run(test_seed + 2 * i); /* odd, as the harness makes a seed */
    printf("%llu seeds: %llu steps, %llu hits, %llu waited, %llu told, "
           "%llu stale, %llu unstored, %llu absent, %llu errors, "
           "%llu timeouts, %llu cancelled; %llu loads, %llu overtaken, "
           "%llu overdue, %llu late, %llu without a loader; %llu through, "
           "%llu behind, %llu letters, %llu lost, %llu flushed, %llu refused, "
           "%llu writable, %llu nested\n",
           (unsigned long long)n, (unsigned long long)total.steps,
           (unsigned long long)total.hits, (unsigned long long)total.joined,
           (unsigned long long)total.told, (unsigned long long)total.stale,
           (unsigned long long)total.unstored,
           (unsigned long long)total.absent, (unsigned long long)total.errors,
           (unsigned long long)total.timeouts,
           (unsigned long long)total.cancelled,
           (unsigned long long)total.loads,
           (unsigned long long)total.overtaken,
           (unsigned long long)total.overdue, (unsigned long long)total.late,
           (unsigned long long)total.queued, (unsigned long long)total.through,
           (unsigned long long)total.behind, (unsigned long long)total.letters,
           (unsigned long long)total.lost, (unsigned long long)total.flushed,
           (unsigned long long)total.full, (unsigned long long)total.writable,
           (unsigned long long)total.nested);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { TEST(worlds) };
    int i;

    for (i = 1; i < argc; i++) {
        just_one |= strncmp(argv[i], "--seed=", 7) == 0;
        tracing |= strcmp(argv[i], "--trace") == 0;
    }
    return TEST_MAIN(argc, argv, tests);
}
