/*
 * test_explore.c - two or three threads on a tiny shared cache, in every order
 * and with every old value that C11 lets a load return (weak_memory.h).
 *
 * What runs is cache_shared.h itself.  A program is a few operations for each
 * thread; after each execution the answers must be those of a cache
 * (history.h), no value may be torn or belong to another key, what is there all
 * the time must be found, and name_check must be content.
 *
 * Then the same with macros that are too weak, one way at a time: each of these
 * bugs has to be found.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tests/weak_memory.h"
#include "cache_shared.h"
#include "tests/history.h"
#include "tests/test.h"

enum {
    KEYS = 14,      /* keys are 1 to KEYS - 1 */
    HEAVY = 13,     /* a key whose values weigh as much as four others */
    UNIT = 1 << 24, /* what the others weigh */
    LOG = 64,       /* operations of an execution */
    NEAR = 100,     /* milliseconds: who lives so long is dead ... */
    MOVED = 150,    /* ... when the clock has moved here ... */
    FAR = 1000,     /* ... and who lives so long is not */
    SPAN = 80 << 10 /* bytes of a cache at most */
};

struct pair {
    uint64_t number, check;
};

/* --- the caches ---------------------------------------------------------- */

static bool one_chain; /* all keys have the same hash */

static uint64_t key_hash(const uint64_t *key, uint64_t seed)
{
    return one_chain ? seed : cache_hash_u64(key, seed);
}

static void pair_left(const uint64_t *key, struct pair *value,
                      enum cache_cause cause, void *user);

/* In units that an entry's share of the block is nothing beside: one, but
 * HEAVY as much as three. */
static uint64_t pair_weigh(const uint64_t *key, const struct pair *value,
                           void *user)
{
    (void)value, (void)user;
    return (uint64_t)(*key == HEAVY ? 4 : 1) * UNIT;
}

/* With all that makes a look-up longer, and bare. */
CACHE_DEFINE_SHARED_WITH(full, uint64_t, struct pair, key_hash, cache_equal_u64,
                         CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS |
                             CACHE_KEEP_HASH | CACHE_WEIGHED | CACHE_PLAIN_DATA,
                         .on_remove = pair_left, .weigh = pair_weigh);
CACHE_DEFINE_SHARED(bare, uint64_t, struct pair, key_hash, cache_equal_u64,
                    CACHE_POLICY_DYNAMIC | CACHE_PLAIN_DATA);

/* All that an execution changes. */
struct state {
    struct full full;
    struct bare bare;
    uint64_t now_ms;
    struct history_op log[LOG];
    uint32_t n_log, n_stored, n_left, n_hits, n_gets;
    _Alignas(64) unsigned char memory[SPAN];
};

static struct state at, before; /* now; and before the threads begin */
static size_t memory_used;      /* of `memory` */
static bool is_bare;
static bool loses; /* entries are evicted */

/* --- operations, which log ----------------------------------------------- */

static struct pair pair_of(uint64_t key, uint64_t number)
{
    struct pair v;

    v.number = number;
    v.check = (number + key * 1000) * CACHE__K0;
    return v;
}

static void verify(uint64_t key, const struct pair *v)
{
    if (v->check != pair_of(key, v->number).check)
        wm_violation("a value is torn or another key's");
}

static void pair_left(const uint64_t *key, struct pair *value,
                      enum cache_cause cause, void *user)
{
    (void)cause, (void)user;
    verify(*key, value);
    at.n_left++;
}

static struct history_op *begin(uint64_t key, enum history_kind kind)
{
    struct history_op *op = &at.log[at.n_log++];

    if (at.n_log > LOG)
        abort();
    memset(op, 0, sizeof *op);
    op->key = (uint32_t)key;
    op->kind = (uint8_t)kind;
    op->value = kind == HISTORY_PUT ? at.n_log : 0;
    op->end = UINT64_MAX;
    op->begin = wm_tick();
    return op;
}

static void end(struct history_op *op)
{
    op->end = wm_tick();
}

static void refused(int rc)
{
    if (rc != 0)
        wm_violation("an operation returned an error");
}

static void put(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_PUT);
    struct pair v = pair_of(key, op->value);

    at.n_stored++;
    refused(is_bare ? bare_put(&at.bare, key, v) : full_put(&at.full, key, v));
    end(op);
}

static void put_near(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_PUT);
    struct pair v = pair_of(key, op->value);

    at.n_stored++;
    refused(full_put_ttl(&at.full, key, v, NEAR));
    end(op);
}

static void get(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_MISS);
    struct pair v = { 0, 0 };

    at.n_gets++;
    if (is_bare ? bare_get(&at.bare, key, &v) : full_get(&at.full, key, &v)) {
        at.n_hits++;
        verify(key, &v);
        op->kind = HISTORY_HIT;
        op->value = v.number;
    } else if (v.number != 0 || v.check != 0) {
        wm_violation("a miss wrote a value");
    }
    end(op);
}

static void peek(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_MISS);
    struct pair v = { 0, 0 };

    if (is_bare ? bare_peek(&at.bare, key, &v) : full_peek(&at.full, key, &v)) {
        verify(key, &v);
        op->kind = HISTORY_HIT;
        op->value = v.number;
    }
    end(op);
}

static void remove_it(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_REMOVE);

    if ((is_bare ? bare_remove(&at.bare, key) : full_remove(&at.full, key)))
        op->kind = HISTORY_MISS;
    end(op);
}

static int add_one(const uint64_t *key, struct pair *value, bool present,
                   void *user)
{
    struct history_op *op = (struct history_op *)user;

    if (present) {
        verify(*key, value);
        op->old = value->number;
    } else {
        at.n_stored++;
    }
    *value = pair_of(*key, op->value);
    return CACHE_COMPUTE_STORE;
}

static void compute(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_PUT);

    refused(is_bare ? bare_compute(&at.bare, key, add_one, op)
                    : full_compute(&at.full, key, add_one, op));
    end(op);
}

static void insert(uint64_t key)
{
    struct history_op *op = begin(key, HISTORY_PUT);
    struct pair v = pair_of(key, op->value);
    bool inserted = false;

    at.n_gets++;
    refused(is_bare ? bare_get_or_insert(&at.bare, key, v, &v, &inserted)
                    : full_get_or_insert(&at.full, key, v, &v, &inserted));
    if (inserted) {
        at.n_stored++;
    } else {
        at.n_hits++;
        verify(key, &v);
        op->kind = HISTORY_HIT;
        op->value = v.number;
    }
    end(op);
}

/* What takes several keys away, as one operation for each of them. */
static void take_away(void (*how)(void))
{
    struct history_op *first = begin(1, HISTORY_REMOVE), *op;
    uint64_t key;

    how();
    end(first);
    for (key = 2; key < KEYS; key++) {
        op = &at.log[at.n_log++];
        if (at.n_log > LOG)
            abort();
        *op = *first;
        op->key = (uint32_t)key;
    }
}

static void do_clear(void)
{
    refused(is_bare ? bare_clear(&at.bare) : full_clear(&at.full));
}

static void clear(void)
{
    take_away(do_clear);
}

static void touch_far(uint64_t key)
{
    refused(full_touch_ttl(&at.full, key, FAR));
}

static void move_clock(void)
{
    at.now_ms = MOVED;
}

/* The clock moves, and the entries with a near end are dead. */
static void expire(void)
{
    take_away(move_clock);
}

/* The same where there are none. */
static void expire_nobody(void)
{
    (void)wm_tick();
    move_clock();
}

static void sweep(void)
{
    (void)full_tick(&at.full, 10);
}

static void len_is(uint32_t least, uint32_t most)
{
    uint32_t len = is_bare ? bare_len(&at.bare) : full_len(&at.full);

    if (len < least || len > most)
        wm_violation("len is not what it was at any time");
}

static uint64_t fake_now(void *user)
{
    (void)user;
    wm_see_time();
    return at.now_ms;
}

/* --- programs ------------------------------------------------------------ */

/* Keys 1 and 2 are in the cache, or as many as it holds. */

static void puts_1(void)
{
    put(1);
    put(1);
}

static void gets_1(void)
{
    get(1);
    get(1);
}

static void puts_3(void)
{
    put(3);
}

static void gets_1_and_3(void)
{
    get(1);
    get(3);
}

static void puts_3_and_1(void)
{
    put(3);
    put(1);
}

static void removes_1_and_puts_it(void)
{
    remove_it(1);
    put(1);
}

static void removes_1_and_puts_3(void)
{
    remove_it(1);
    put(3);
}

static void removes_1_and_puts_4_and_1(void)
{
    remove_it(1);
    put(4);
    put(1);
}

static void gets_2(void)
{
    get(2);
}

static void clears_and_puts_1(void)
{
    clear();
    put(1);
}

static void puts_once(void)
{
    put(1);
}

static void removes_once(void)
{
    remove_it(1);
}

static void computes_1(void)
{
    compute(1);
}

static void inserts_3(void)
{
    insert(3);
}

static void puts_3_and_looks(void)
{
    put(3);
    len_is(3, 3);
}

static void asks_len(void)
{
    len_is(2, 3);
    len_is(2, 3);
}

static void gets_once(void)
{
    get(1);
}

static void peeks_once(void)
{
    peek(1);
}

static void touches_and_lets_expire(void)
{
    touch_far(1);
    expire_nobody();
}

static void lets_expire_and_puts_1(void)
{
    expire();
    put(1);
}

static void lets_expire_and_sweeps(void)
{
    expire();
    sweep();
    put(3);
}

static void replaces_near_by_far(void)
{
    put(1); /* for ever */
    expire_nobody();
}

static void near_1(void)
{
    put_near(1);
    put(2);
}

static void both(void)
{
    put(1);
    put(2);
}

/* More than a group of the index holds: 9 and 10 are in its chain. */
static void ten(void)
{
    uint64_t key;

    for (key = 1; key <= 10; key++)
        put(key);
}

static void removes_2_and_puts_11(void)
{
    remove_it(2);
    put(11);
}

static void removes_9_and_puts_it(void)
{
    remove_it(9);
    put(9);
}

static void gets_9_and_10(void)
{
    get(9);
    get(10);
}

static void gets_10_and_11(void)
{
    get(10);
    get(11);
}

static void removes_10(void)
{
    remove_it(10);
}

static void four(void)
{
    put(1);
    put(2);
    put(4);
    put(5);
}

struct scenario {
    struct wm_program program;
    void (*setup)(void);
    uint32_t capacity;
    bool evicts, one_chain, needs_full;
};

static void puts_heavy(void)
{
    put(HEAVY);
}

static void puts_6_and_gets_1(void)
{
    put(6);
    get(1);
}

static void gets_1_and_heavy(void)
{
    get(1);
    get(HEAVY);
}

static void restore(void);
static void judge(void);

#define PROGRAM(name, ...)                                                     \
    {                                                                          \
        name, restore, { __VA_ARGS__ }, judge                                  \
    }

static const struct scenario scenarios[] = {
    { PROGRAM("get, replace", puts_1, gets_1), both, 4, false, false, false },
    { PROGRAM("get, evict", puts_3_and_1, gets_1_and_3), both, 2, true, false,
      false },
    { PROGRAM("get, evict in one chain", puts_3_and_1, gets_1_and_3), both, 2,
      true, true, false },
    { PROGRAM("get, remove, put", removes_1_and_puts_it, gets_1), both, 3,
      false, false, false },
    { PROGRAM("get, remove, another in its slot", removes_1_and_puts_3,
              gets_1_and_3),
      both, 3, false, false, false },
    { PROGRAM("get what stays in a chain that changes",
              removes_1_and_puts_4_and_1, gets_2),
      both, 4, false, true, false },
    { PROGRAM("get what stays while others go", removes_once, gets_2, puts_3),
      four, 6, false, true, false },
    { PROGRAM("get, clear, put", clears_and_puts_1, gets_1), both, 3, false,
      false, false },
    { PROGRAM("two writers and a reader", puts_once, gets_1, puts_once), both,
      3, false, false, false },
    { PROGRAM("put, remove, get", puts_once, gets_1, removes_once), both, 3,
      false, false, false },
    { PROGRAM("two readers, eviction", gets_once, puts_3, gets_1_and_3), both,
      2, true, false, false },
    { PROGRAM("compute, compute, peek", computes_1, peeks_once, computes_1),
      both, 3, false, false, false },
    { PROGRAM("insert, insert, get", inserts_3, gets_1_and_3, inserts_3), both,
      3, false, false, false },
    { PROGRAM("len", puts_3_and_looks, asks_len), both, 3, false, false,
      false },
    { PROGRAM("get, longer life", touches_and_lets_expire, gets_once), near_1,
      3, false, false, true },
    { PROGRAM("get, put for ever", replaces_near_by_far, gets_once), near_1, 3,
      false, false, true },
    { PROGRAM("get, expiry, put", lets_expire_and_puts_1, gets_1), near_1, 3,
      false, false, true },
    { PROGRAM("get, expiry, sweep, put", lets_expire_and_sweeps, gets_1_and_3),
      near_1, 3, false, false, true },
    { PROGRAM("get in a chain, remove before it", removes_2_and_puts_11,
              gets_9_and_10),
      ten, 12, false, true, false },
    { PROGRAM("get in a chain, remove in it", removes_9_and_puts_it,
              gets_10_and_11),
      ten, 12, false, true, false },
    { PROGRAM("get in a chain, two remove", removes_2_and_puts_11,
              gets_9_and_10, removes_10),
      ten, 12, false, true, false },
    { PROGRAM("get, one for many, put", puts_heavy, gets_1_and_heavy,
              puts_6_and_gets_1),
      four, 4, true, true, true },
};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* Makes the cache that the executions begin with. */
static void prepare(const struct scenario *s, uint32_t policy, bool bare_one)
{
    struct cache_config config = { 0 };

    memset(&at, 0, sizeof at);
    is_bare = bare_one;
    one_chain = s->one_chain;
    loses = s->evicts;
    config.capacity = s->capacity;
    config.policy = policy;
    config.shards = 1;
    config.seed = 1;
    if (!is_bare) {
        config.now = fake_now;
        config.tick_ms = 1;
        config.max_bytes = (uint64_t)(s->capacity + 1) * UNIT - 1;
    }
    memory_used =
        is_bare ? bare_memory_needed(&config) : full_memory_needed(&config);
    CHECK(memory_used != 0 && memory_used <= sizeof at.memory);
    CHECK_EQ(is_bare ? bare_init_in(&at.bare, &config, at.memory, memory_used)
                     : full_init_in(&at.full, &config, at.memory, memory_used),
             0);
    wm.current = WM_NOBODY;
    wm.tick = 0;
    wm.thread_local = &cache__inside;
    s->setup();
    memcpy(&before, &at, offsetof(struct state, memory) + memory_used);
}

static void restore(void)
{
    memcpy(&at, &before, offsetof(struct state, memory) + memory_used);
    wm.tick = 1000; /* behind what the setup logged */
}

static void judge(void)
{
    const struct history_op *wrong = NULL;
    const uint32_t len = is_bare ? bare_len(&at.bare) : full_len(&at.full);
    struct cache_stats stats;
    const char *why = history_check(at.log, at.n_log, !loses, &wrong);

    if (why == NULL)
        why = is_bare ? bare_check(&at.bare) : full_check(&at.full);
    if (why == NULL && !is_bare) {
        CHECK_EQ(full_stats(&at.full, &stats), 0);
        if (stats.hits != at.n_hits || stats.hits + stats.misses != at.n_gets)
            why = "stats: hits and misses are not the gets";
        if (len + at.n_left != at.n_stored)
            why = "on_remove was not told of each value once";
    }
    if (why != NULL) {
        wm_violation(why);
        if (wm.trace && wrong != NULL)
            history_show(at.log, at.n_log, wrong);
    }
}

/* --- searching ----------------------------------------------------------- */

#ifdef WM_ASAN
enum { SLOWER = 20 };
#else
enum { SLOWER = 1 };
#endif

static struct wm_result search(const struct scenario *s, uint32_t policy,
                               bool bare_one, unsigned bound,
                               unsigned long executions, uint64_t seed)
{
    struct wm_limits limits = { bound, bound, 0, seed };

    limits.executions = executions;
    prepare(s, policy, bare_one);
    return wm_search(&s->program, &limits);
}

static void must_be_right(const struct scenario *s, uint32_t policy,
                          bool bare_one, unsigned bound,
                          unsigned long executions, uint64_t seed)
{
    struct wm_result r =
        search(s, policy, bare_one, bound,
               executions * (unsigned long)test_scale() / SLOWER, seed);

    if (getenv("EXPLORE_VERBOSE") != NULL || r.why != NULL)
        printf("%-44s %-10s %s %s %7lu executions%s\n", s->program.name,
               cache_policy_name(policy), bare_one ? "bare" : "full",
               seed ? "random" : "ordered", r.executions,
               r.complete ? ", all" : "");
    if (r.why != NULL)
        printf("violation, seed %#llx\n", (unsigned long long)r.seed);
    CHECK_SOUND(r.why);
}

/* Every execution with at most so many switches and old values. */
static void every_order(void)
{
    unsigned bare_one, i, bound;

    for (bare_one = 0; bare_one < 2; bare_one++)
        for (i = 0; i < SCENARIOS; i++)
            for (bound = 1;
                 bound <= 2 && !(bare_one && scenarios[i].needs_full); bound++)
                must_be_right(&scenarios[i], CACHE_SIEVE, bare_one, bound,
                              12000, 0);
}

static void random_orders(void)
{
    unsigned bare_one, i;

    for (bare_one = 0; bare_one < 2; bare_one++)
        for (i = 0; i < SCENARIOS; i++)
            if (!bare_one || !scenarios[i].needs_full)
                must_be_right(&scenarios[i], CACHE_CLOCK, bare_one, 0, 3000,
                              test_seed);
}

/* What hits write without the lock harms no policy. */
static void random_orders_with_each_policy(void)
{
    uint32_t policy;
    unsigned i;

    for (policy = 1; policy <= CACHE__POLICY_BITS; policy++)
        for (i = 0; i < SCENARIOS && cache_policy_name(policy) != NULL; i++)
            must_be_right(&scenarios[i], policy, false, 0, 400, test_seed);
}

/* --- are bugs found? ----------------------------------------------------- */

static bool is_found(enum wm_bug bug)
{
    struct wm_result r;
    unsigned i;

    for (i = 0; i < SCENARIOS; i++) {
        wm_bug = bug;
        r = search(&scenarios[i], CACHE_SIEVE, false, 0, 20000, test_seed);
        wm_bug = WM_NO_BUG;
        if (r.why != NULL) {
            printf("%-36s found as \"%s\" in \"%s\", execution %lu\n",
                   wm_bug_name[bug], r.why, scenarios[i].program.name,
                   r.executions);
            return true;
        }
    }
    printf("%s: NOT FOUND\n", wm_bug_name[bug]);
    return false;
}

static void every_planted_bug_is_found(void)
{
    int bug, missed = 0;

    for (bug = WM_NO_BUG + 1; bug < WM_BUGS; bug++)
        missed += !is_found((enum wm_bug)bug);
    CHECK_EQ(missed, 0);
}

/* --- the machine itself: litmus tests ------------------------------------ */

static uint64_t x, y;
static uint64_t seen_a, seen_b;
static wm_lock_t a_lock;

static void zero(void)
{
    x = y = seen_a = seen_b = 0;
}

static void x_then_y(void)
{
    CACHE_ATOMIC_STORE(&x, 1);
    CACHE_ATOMIC_STORE(&y, 1);
}

static void x_then_y_release(void)
{
    CACHE_ATOMIC_STORE(&x, 1);
    CACHE_ATOMIC_STORE_RELEASE(&y, 1);
}

static void x_fence_y(void)
{
    CACHE_ATOMIC_STORE(&x, 1);
    CACHE_FENCE_RELEASE();
    CACHE_ATOMIC_STORE(&y, 1);
}

static void sees_y_without_x(void)
{
    uint64_t b = CACHE_ATOMIC_LOAD(&y);

    if (b == 1 && CACHE_ATOMIC_LOAD(&x) == 0)
        wm_violation("y without x");
}

static void sees_y_acquire_without_x(void)
{
    uint64_t b = CACHE_ATOMIC_LOAD_ACQUIRE(&y);

    if (b == 1 && CACHE_ATOMIC_LOAD(&x) == 0)
        wm_violation("y without x");
}

static void sees_y_fence_without_x(void)
{
    uint64_t b = CACHE_ATOMIC_LOAD(&y);

    CACHE_FENCE_ACQUIRE();
    if (b == 1 && CACHE_ATOMIC_LOAD(&x) == 0)
        wm_violation("y without x");
}

static void x_release_sees_y(void)
{
    CACHE_ATOMIC_STORE_RELEASE(&x, 1);
    seen_a = CACHE_ATOMIC_LOAD_ACQUIRE(&y) + 1;
}

static void y_release_sees_x(void)
{
    CACHE_ATOMIC_STORE_RELEASE(&y, 1);
    seen_b = CACHE_ATOMIC_LOAD_ACQUIRE(&x) + 1;
}

static void neither_saw(void)
{
    if (seen_a == 1 && seen_b == 1)
        wm_violation("neither saw the other's store");
}

static void x_1_then_2(void)
{
    CACHE_ATOMIC_STORE(&x, 1);
    CACHE_ATOMIC_STORE(&x, 2);
}

static void x_goes_back(void)
{
    uint64_t a = CACHE_ATOMIC_LOAD(&x);

    if (CACHE_ATOMIC_LOAD(&x) < a)
        wm_violation("a location goes back in time");
}

static void adds(void)
{
    (void)CACHE_ATOMIC_ADD(&x, 1);
}

static void x_is_not_2(void)
{
    if (x != 2)
        wm_violation("an addition is lost");
}

static void adds_apart(void)
{
    CACHE_ATOMIC_STORE(&x, CACHE_ATOMIC_LOAD(&x) + 1);
}

static void adds_locked(void)
{
    CACHE_LOCK(&a_lock);
    adds_apart();
    CACHE_UNLOCK(&a_lock);
}

static void writes_plainly(void)
{
    CACHE_ATOMIC_STORE(&y, 1);
    x = 1;
}

static void loads_x(void)
{
    (void)CACHE_ATOMIC_LOAD(&x);
}

static const struct {
    struct wm_program program;
    bool right;
} litmus[] = {
    { { "message, relaxed", zero, { x_then_y, sees_y_without_x }, NULL },
      false },
    { { "message, release only",
        zero,
        { x_then_y_release, sees_y_without_x },
        NULL },
      false },
    { { "message, acquire only",
        zero,
        { x_then_y, sees_y_acquire_without_x },
        NULL },
      false },
    { { "message, release and acquire",
        zero,
        { x_then_y_release, sees_y_acquire_without_x },
        NULL },
      true },
    { { "message, fences", zero, { x_fence_y, sees_y_fence_without_x }, NULL },
      true },
    { { "message, fence and acquire",
        zero,
        { x_fence_y, sees_y_acquire_without_x },
        NULL },
      true },
    { { "message, release and fence",
        zero,
        { x_then_y_release, sees_y_fence_without_x },
        NULL },
      true },
    { { "message, one fence", zero, { x_fence_y, sees_y_without_x }, NULL },
      false },
    { { "store buffers",
        zero,
        { x_release_sees_y, y_release_sees_x },
        neither_saw },
      false },
    { { "coherence", zero, { x_1_then_2, x_goes_back }, NULL }, true },
    { { "additions", zero, { adds, adds }, x_is_not_2 }, true },
    { { "loads and stores", zero, { adds_apart, adds_apart }, x_is_not_2 },
      false },
    { { "under a lock", zero, { adds_locked, adds_locked }, x_is_not_2 },
      true },
    { { "a plain store", zero, { writes_plainly, loads_x }, NULL }, false },
};

static void machine_is_that_of_c11(void)
{
    static const struct wm_limits ordered = { 4, 4, 100000, 0 };
    struct wm_limits random = { 0, 0, 2000, 0 };
    size_t i;

    random.seed = test_seed;
    for (i = 0; i < sizeof litmus / sizeof *litmus; i++) {
        struct wm_result r = wm_search(&litmus[i].program, &ordered);

        if ((r.why == NULL) != litmus[i].right)
            printf("it is wrong about: %s\n", litmus[i].program.name);
        CHECK_EQ(r.why == NULL, litmus[i].right);
        CHECK_EQ(r.complete, litmus[i].right);
        r = wm_search(&litmus[i].program, &random);
        CHECK_EQ(r.why == NULL, litmus[i].right);
    }
}

static const struct test tests[] = {
    TEST(machine_is_that_of_c11),
    TEST(every_order),
    TEST(random_orders),
    TEST(random_orders_with_each_policy),
    TEST(every_planted_bug_is_found),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
