/*
 * test_history.c - threads use a cache and log what they did; then a checker
 * (history.h) says whether every answer was right at some time between the
 * beginning and the end of the call.
 *
 * Half of the runs have room for every key, so that a miss can be judged too;
 * in the others the cache holds a part of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>

#include "cache_shared.h"
#include "tests/history.h"
#include "tests/test.h"

enum { THREADS = 4, KEYS = 8, OPS = 15000 /* of one thread */ };

/* A value that says whether it is whole, and whose it is. */
struct value {
    uint64_t number, key, check;
};

static struct value value_of(uint32_t key, uint64_t number)
{
    struct value v = { number, key, 0 };

    v.check = (number ^ (uint64_t)key << 48) * CACHE__K0;
    return v;
}

static bool value_is_whole(const struct value *v, uint32_t key)
{
    struct value right = value_of(key, v->number);

    return memcmp(v, &right, sizeof right) == 0;
}

/* --- caches as tables of functions --------------------------------------- */

/* What a compute callback is told, and what it is to store. */
struct exchange {
    uint64_t number, old;
    bool torn;
};

struct subject {
    const char *name;
    int (*init)(size_t capacity);
    void (*destroy)(void);
    bool (*get)(uint32_t key, struct value *out);
    int (*put)(uint32_t key, struct value value);
    int (*remove)(uint32_t key);
    int (*compute)(uint32_t key, struct exchange *x);
    int (*insert)(uint32_t key, struct value *value, bool *inserted);
    int (*clear)(void);
    const char *(*check)(void);
};

static int exchange(uint32_t key, struct value *value, bool present,
                    struct exchange *x)
{
    x->torn = present && !value_is_whole(value, key);
    x->old = present ? value->number : 0;
    *value = value_of(key, x->number);
    return CACHE_COMPUTE_STORE;
}

/* The policy of a dynamic type; 0 for the others. */
static uint32_t policy;

#define SUBJECT(name, options)                                                 \
    CACHE_DEFINE_SHARED(name, uint32_t, struct value, cache_hash_u32,          \
                        cache_equal_u32, options);                             \
    static struct name name##_cache;                                           \
    static int name##_do_init(size_t capacity)                                 \
    {                                                                          \
        struct cache_config config = { .capacity = capacity, .shards = 2 };    \
                                                                               \
        config.policy = policy;                                                \
        return name##_init(&name##_cache, &config);                            \
    }                                                                          \
    static void name##_do_destroy(void)                                        \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static bool name##_do_get(uint32_t key, struct value *out)                 \
    {                                                                          \
        return name##_get(&name##_cache, key, out);                            \
    }                                                                          \
    static int name##_do_put(uint32_t key, struct value value)                 \
    {                                                                          \
        return name##_put(&name##_cache, key, value);                          \
    }                                                                          \
    static int name##_do_remove(uint32_t key)                                  \
    {                                                                          \
        return name##_remove(&name##_cache, key);                              \
    }                                                                          \
    static int name##_exchange(const uint32_t *key, struct value *value,       \
                               bool present, void *user)                       \
    {                                                                          \
        return exchange(*key, value, present, (struct exchange *)user);        \
    }                                                                          \
    static int name##_do_compute(uint32_t key, struct exchange *x)             \
    {                                                                          \
        return name##_compute(&name##_cache, key, name##_exchange, x);         \
    }                                                                          \
    static int name##_do_insert(uint32_t key, struct value *value,             \
                                bool *inserted)                                \
    {                                                                          \
        return name##_get_or_insert(&name##_cache, key, *value, value,         \
                                    inserted);                                 \
    }                                                                          \
    static int name##_do_clear(void)                                           \
    {                                                                          \
        return name##_clear(&name##_cache);                                    \
    }                                                                          \
    static const char *name##_do_check(void)                                   \
    {                                                                          \
        return name##_check(&name##_cache);                                    \
    }                                                                          \
    static const struct subject name##_subject = { #name,                      \
                                                   name##_do_init,             \
                                                   name##_do_destroy,          \
                                                   name##_do_get,              \
                                                   name##_do_put,              \
                                                   name##_do_remove,           \
                                                   name##_do_compute,          \
                                                   name##_do_insert,           \
                                                   name##_do_clear,            \
                                                   name##_do_check }

SUBJECT(any, CACHE_POLICY_DYNAMIC | CACHE_PLAIN_DATA);
SUBJECT(locked, CACHE_SIEVE);

/* --- running ------------------------------------------------------------- */

static struct {
    const struct subject *cache;
    struct history_op *log;
    size_t ops; /* of one thread */
    uint64_t time;
    uint64_t seed;
    bool clears, torn;
} run;

static uint64_t tick(void)
{
    return __atomic_add_fetch(&run.time, 1, __ATOMIC_SEQ_CST);
}

static void spoilt(void)
{
    __atomic_store_n(&run.torn, true, __ATOMIC_RELAXED);
}

static void log_value(struct history_op *op, bool hit, const struct value *v)
{
    op->kind = hit ? HISTORY_HIT : HISTORY_MISS;
    op->value = hit ? v->number : 0;
    if (hit && !value_is_whole(v, op->key))
        spoilt();
}

static void one_op(struct history_op *op, uint64_t random, uint64_t number)
{
    const struct subject *c = run.cache;
    struct exchange x = { number, 0, false };
    struct value v = value_of(op->key, number);
    bool inserted = false, hit;
    int rc = 0;

    op->begin = tick();
    op->value = number;
    op->kind = HISTORY_PUT;
    switch (random >> 40 & 15) {
    case 0:
    case 1: rc = c->put(op->key, v); break;
    case 2:
        op->kind = c->remove(op->key) == 0 ? HISTORY_REMOVE : HISTORY_MISS;
        break;
    case 3:
        rc = c->compute(op->key, &x);
        op->old = x.old;
        if (x.torn)
            spoilt();
        break;
    case 4:
        rc = c->insert(op->key, &v, &inserted);
        if (!inserted)
            log_value(op, true, &v);
        break;
    default:
        memset(&v, 0xee, sizeof v);
        hit = c->get(op->key, &v);
        log_value(op, hit, &v);
    }
    if (rc != 0)
        spoilt();
    op->end = tick();
}

/* Clears take all keys away at once: as many operations at one time. */
static size_t one_clear(struct history_op *op, size_t room)
{
    size_t key;
    uint64_t begin;

    if (room < KEYS)
        return 0;
    begin = tick();
    run.cache->clear();
    for (key = 0; key < KEYS; key++) {
        op[key].begin = begin;
        op[key].kind = HISTORY_REMOVE;
        op[key].key = (uint32_t)key;
        op[key].end = tick();
    }
    return KEYS;
}

static void *work(void *arg)
{
    const size_t thread = (size_t)(uintptr_t)arg;
    uint64_t random = run.seed + thread * 1000003;
    size_t i = thread * run.ops;
    const size_t last = i + run.ops;

    random |= 1;
    while (i < last) {
        uint64_t r = test_random(&random);
        size_t cleared = 0;

        if (run.clears && (r >> 20 & 2047) == 0)
            cleared = one_clear(&run.log[i], last - i);
        if (cleared == 0) {
            run.log[i].key = (uint32_t)(r % KEYS);
            one_op(&run.log[i], r, i + 1);
            cleared = 1;
        }
        i += cleared;
    }
    return NULL;
}

/* Runs the threads; the log has THREADS * run.ops operations. */
static void log_a_run(const struct subject *subject, size_t capacity)
{
    pthread_t thread[THREADS];
    size_t i;

    run.cache = subject;
    run.ops = OPS;
    run.time = 0;
    run.torn = false;
    run.log = (struct history_op *)calloc(THREADS * run.ops, sizeof *run.log);
    CHECK(run.log != NULL);
    CHECK_EQ(subject->init(capacity), 0);
    for (i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i),
                 0);
    for (i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_SOUND(subject->check());
    CHECK(!run.torn);
}

static const char *judge(bool keeps)
{
    const struct history_op *wrong = NULL;
    const size_t n = THREADS * run.ops;
    const char *why = history_check(run.log, n, keeps, &wrong);

    if (why != NULL)
        history_show(run.log, n, wrong);
    return why;
}

static void run_ends(void)
{
    run.cache->destroy();
    free(run.log);
}

static void judge_a_run(const struct subject *subject, bool keeps)
{
    run.seed = test_seed + run.time;
    run.clears = true;
    /* A shard has half of the capacity, and may get all the keys. */
    log_a_run(subject, keeps ? 2 * KEYS : KEYS / 2);
    CHECK_SOUND(judge(keeps));
    run_ends();
}

static void with_each_policy(bool keeps)
{
    static const uint32_t codes[] = {
        CACHE_SIEVE, CACHE_CLOCK,  CACHE_ADAPTIVE,
        CACHE_LRU,   CACHE_S3FIFO, CACHE_WTINYLFU
    };
    size_t i, round;

    for (round = 0; round < (size_t)test_scale(); round++)
        for (i = 0; i < sizeof codes / sizeof *codes; i++) {
            policy = codes[i];
            judge_a_run(&any_subject, keeps);
        }
    policy = 0;
}

static void no_get_is_wrong(void)
{
    with_each_policy(true);
}

static void no_get_is_wrong_when_entries_are_evicted(void)
{
    with_each_policy(false);
}

static void no_get_under_the_lock_is_wrong(void)
{
    judge_a_run(&locked_subject, true);
    judge_a_run(&locked_subject, false);
}

/* --- the checker itself -------------------------------------------------- */

#define PUT(b, e, v)                                                           \
    {                                                                          \
        b, e, v, 0, 1, HISTORY_PUT                                             \
    }
#define SWAP(b, e, v, old)                                                     \
    {                                                                          \
        b, e, v, old, 1, HISTORY_PUT                                           \
    }
#define REMOVE(b, e)                                                           \
    {                                                                          \
        b, e, 0, 0, 1, HISTORY_REMOVE                                          \
    }
#define HIT(b, e, v)                                                           \
    {                                                                          \
        b, e, v, 0, 1, HISTORY_HIT                                             \
    }
#define MISS(b, e)                                                             \
    {                                                                          \
        b, e, 0, 0, 1, HISTORY_MISS                                            \
    }

static const struct {
    const char *what;
    struct history_op log[4];
    bool right, right_if_it_may_lose;
} short_logs[] = {
    { "a hit after its put", { PUT(1, 2, 1), HIT(3, 4, 1) }, true, true },
    { "before the put ended", { PUT(1, 4, 1), HIT(2, 3, 1) }, true, true },
    { "while another one is put",
      { PUT(1, 2, 1), PUT(3, 6, 2), HIT(4, 5, 1), HIT(7, 8, 2) },
      true,
      true },
    { "a miss while a remove runs",
      { PUT(1, 2, 1), REMOVE(3, 6), MISS(4, 5) },
      true,
      true },
    { "a remove while the put runs",
      { PUT(1, 4, 1), REMOVE(2, 3), MISS(5, 6) },
      true,
      true },
    { "a miss without a reason", { PUT(1, 2, 1), MISS(3, 4) }, false, true },
    { "a miss after a hit",
      { PUT(1, 8, 1), HIT(2, 3, 1), MISS(4, 5) },
      false,
      true },
    { "a miss after remove and put",
      { PUT(1, 2, 1), REMOVE(3, 4), PUT(5, 6, 3), MISS(7, 8) },
      false,
      true },
    { "a hit with what comes later",
      { HIT(1, 2, 2), PUT(3, 4, 2) },
      false,
      false },
    { "a hit with what nobody put",
      { PUT(1, 2, 1), HIT(3, 4, 2) },
      false,
      false },
    { "a hit with what was replaced",
      { PUT(1, 2, 1), PUT(3, 4, 2), HIT(5, 6, 1) },
      false,
      false },
    { "a hit with what was removed",
      { PUT(1, 2, 1), REMOVE(3, 4), HIT(5, 6, 1) },
      false,
      false },
    { "what was gone comes back",
      { PUT(1, 2, 1), MISS(3, 4), HIT(5, 6, 1) },
      false,
      false },
    { "back in time",
      { PUT(1, 2, 1), PUT(3, 10, 2), HIT(4, 5, 2), HIT(6, 7, 1) },
      false,
      false },
    { "an update is lost",
      { PUT(1, 2, 1), SWAP(3, 6, 2, 1), SWAP(4, 5, 3, 1) },
      false,
      false },
    { "an update of what was removed",
      { PUT(1, 2, 1), REMOVE(3, 4), SWAP(5, 6, 3, 1) },
      false,
      false },
};

static void checker_knows_right_from_wrong(void)
{
    size_t i;

    for (i = 0; i < sizeof short_logs / sizeof *short_logs; i++) {
        struct history_op log[4];
        const struct history_op *wrong;
        int keeps;

        for (keeps = 0; keeps < 2; keeps++) {
            bool right = keeps ? short_logs[i].right
                               : short_logs[i].right_if_it_may_lose;

            memcpy(log, short_logs[i].log, sizeof log);
            if ((history_check(log, 4, keeps, &wrong) == NULL) != right)
                printf("it is wrong about: %s\n", short_logs[i].what);
            CHECK_EQ(history_check(log, 4, keeps, &wrong) == NULL, right);
        }
    }
}

/* Real logs in which one answer is exchanged for an old one. */
static void checker_finds_one_stale_answer(void)
{
    uint64_t random = test_seed;
    size_t n, i, j, spoils = 0;

    policy = CACHE_SIEVE;
    run.seed = test_seed;
    run.clears = false;
    log_a_run(&any_subject, 2 * KEYS);
    policy = 0;
    n = THREADS * run.ops;
    CHECK_SOUND(judge(true));
    while (spoils < 12) {
        const struct history_op *wrong;
        struct history_op saved;
        uint64_t old = 0;

        i = test_random(&random) % n;
        if (run.log[i].kind != HISTORY_HIT)
            continue;
        /* Another value of the key, which was put some time before. */
        for (j = i - i % run.ops; j < i; j++)
            if (run.log[j].kind == HISTORY_PUT &&
                run.log[j].key == run.log[i].key &&
                run.log[j].value != run.log[i].value && i - j > 800)
                old = run.log[j].value;
        if (old == 0)
            continue;
        saved = run.log[i];
        run.log[i].value = old;
        CHECK(history_check(run.log, n, true, &wrong) != NULL);
        run.log[i] = saved;
        spoils++;
    }
    CHECK_SOUND(judge(true));
    run_ends();
}

static const struct test tests[] = {
    TEST(checker_knows_right_from_wrong),
    TEST(checker_finds_one_stale_answer),
    TEST(no_get_is_wrong),
    TEST(no_get_is_wrong_when_entries_are_evicted),
    TEST(no_get_under_the_lock_is_wrong),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
