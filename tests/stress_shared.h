/*
 * stress_shared.h - threads do everything at once to shared caches, whose
 * values say whether they are whole and whose they are.
 *
 * What is looked for: a value that is torn or another key's, a callback that is
 * missed or told twice, counts that do not add up, an entry that has no version
 * or was used before it was there, and, by the sanitizers, data races and memory
 * that is used after it was freed.
 *
 * Variants, chosen by macros before inclusion:
 *   USER_LOCK=1   with mutexes of POSIX for the built-in lock
 *   CONTROL=1     nobody looks whether the sequence has moved: must fail
 *   CONTROL=2     what threads without the lock see is plain data: must fail
 *                 under ThreadSanitizer
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STRESS_SHARED_H
#define STRESS_SHARED_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef CONTROL
#define CONTROL 0
#endif
#ifndef USER_LOCK
#define USER_LOCK 0
#endif

#if CONTROL == 1

/* What is loaded with acquire is the sequence: the second look at it sees what
 * the first saw, and it is never odd. */
static _Thread_local const void *sequence_at;
static _Thread_local uint64_t sequence_seen;

static inline uint64_t look_once(const void *at, uint64_t value)
{
    sequence_at = at;
    sequence_seen = value & ~(uint64_t)1;
    return sequence_seen;
}

static inline uint64_t look_again(const void *at, uint64_t value)
{
    return at == sequence_at ? sequence_seen : value;
}

#define CACHE_ATOMIC_LOAD_ACQUIRE(p)                                           \
    ((__typeof__(*(p)))look_once((p), __atomic_load_n(p, __ATOMIC_ACQUIRE)))
#define CACHE_ATOMIC_LOAD(p)                                                   \
    ((__typeof__(*(p)))look_again((p), __atomic_load_n(p, __ATOMIC_RELAXED)))
#define CACHE_ATOMIC_STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#elif CONTROL == 2
#define CACHE_ATOMIC_LOAD_ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define CACHE_ATOMIC_LOAD(p) (*(p))
#define CACHE_ATOMIC_STORE(p, v) ((void)(*(p) = (v)))
#endif
#if CONTROL != 0
#define CACHE_ATOMIC_STORE_RELEASE(p, v)                                       \
    __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define CACHE_ATOMIC_ADD(p, v) __atomic_fetch_add(p, v, __ATOMIC_RELAXED)
#define CACHE_FENCE_ACQUIRE() ((void)0)
#define CACHE_FENCE_RELEASE() ((void)0)
#endif

#if USER_LOCK
#define CACHE_LOCK_T pthread_mutex_t
#define CACHE_LOCK_INIT(lock) pthread_mutex_init(lock, NULL)
#define CACHE_LOCK_DESTROY(lock) pthread_mutex_destroy(lock)
#define CACHE_LOCK(lock) pthread_mutex_lock(lock)
#define CACHE_UNLOCK(lock) pthread_mutex_unlock(lock)
#define CACHE_TRYLOCK(lock) (pthread_mutex_trylock(lock) == 0)
#endif

#include "cache_shared.h"
#include "tests/test.h"

enum {
    MOST_THREADS = 8,
    KEYS = 160,
    HOT_KEYS = 4, /* where threads meet all the time */
    CAPACITY = 96,
    SHARDS = 4,
    TTL = 4 /* milliseconds of a clock that moves while threads work */
};

/* Operations of one thread. */
#if defined(CACHE__TSAN)
enum { OPS = 5000 };
#elif CONTROL == 1
enum { OPS = 4000000 };
#else
enum { OPS = 40000 };
#endif

/* --- what went wrong ----------------------------------------------------- */

static struct {
    uint64_t torn;         /* values that are not whole, or another key's */
    uint64_t refused;      /* calls that returned what they should not */
    uint64_t stored, left; /* values that entered, and that on_remove got */
    uint64_t hits, gets;
    uint64_t now_ms;
} sum;

static uint64_t n_keys; /* that are used */

static void count(uint64_t *counter, bool really)
{
    if (really)
        __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static uint64_t fake_now(void *user)
{
    (void)user;
    return __atomic_load_n(&sum.now_ms, __ATOMIC_RELAXED);
}

/* A value of n words: a number, and what follows from it and the key. */
static void fill(uint32_t *word, size_t n, uint64_t key, uint32_t number)
{
    uint64_t x = (key << 32 | number) * CACHE__K0;
    size_t i;

    word[0] = number;
    for (i = 1; i < n; i++) {
        x = x * CACHE__K1 + i;
        word[i] = (uint32_t)(x >> 32);
    }
}

static void verify(const uint32_t *word, size_t n, uint64_t key)
{
    uint32_t right[32];

    fill(right, n, key, word[0]);
    count(&sum.torn, memcmp(right, word, n * sizeof *word) != 0);
}

/* --- caches as tables of functions --------------------------------------- */

struct subject {
    const char *name;
    bool counts; /* on_remove and stats */
    int (*init)(const struct cache_config *config);
    void (*destroy)(void);
    void (*op)(uint64_t random);
    const char *(*check)(void);
    int (*stats)(struct cache_stats *out);
    uint32_t (*len)(void);
};

#define VALUE_OF(name, words)                                                  \
    struct name##_data {                                                       \
        uint32_t word[words];                                                  \
    };                                                                         \
    static struct name##_data name##_make(uint64_t key, uint32_t number)       \
    {                                                                          \
        struct name##_data v;                                                  \
                                                                               \
        fill(v.word, words, key, number);                                      \
        return v;                                                              \
    }                                                                          \
    CACHE_UNUSED static void name##_left(const uint64_t *key,                  \
                                         struct name##_data *v,                \
                                         enum cache_cause cause, void *user)   \
    {                                                                          \
        (void)cause, (void)user;                                               \
        verify(v->word, words, *key);                                          \
        count(&sum.left, true);                                                \
    }                                                                          \
    static void name##_shows(const uint64_t *key, const struct name##_data *v, \
                             void *user)                                       \
    {                                                                          \
        (void)user;                                                            \
        verify(v->word, words, *key);                                          \
    }                                                                          \
    static bool name##_visits(const uint64_t *key,                             \
                              const struct name##_data *v, void *user)         \
    {                                                                          \
        (void)user;                                                            \
        verify(v->word, words, *key);                                          \
        return true;                                                           \
    }                                                                          \
    static int name##_computes(const uint64_t *key, struct name##_data *v,     \
                               bool present, void *user)                       \
    {                                                                          \
        uint32_t number = *(uint32_t *)user;                                   \
                                                                               \
        if (present)                                                           \
            verify(v->word, words, *key);                                      \
        if (number % 4 == 0)                                                   \
            return CACHE_COMPUTE_REMOVE;                                       \
        count(&sum.stored, !present);                                          \
        fill(v->word, words, *key, number);                                    \
        return CACHE_COMPUTE_STORE;                                            \
    }                                                                          \
    struct cache__swallow_semicolon

/* The op's number is the upper bits of `random`. */
#define OPERATION_OF(name, words)                                              \
    static void name##_get_one(uint64_t key)                                   \
    {                                                                          \
        struct name##_data v;                                                  \
        bool hit = name##_get(&name##_cache, key, &v);                         \
                                                                               \
        if (hit)                                                               \
            verify(v.word, words, key);                                        \
        count(&sum.gets, true);                                                \
        count(&sum.hits, hit);                                                 \
    }                                                                          \
    static void name##_insert_one(uint64_t key, uint32_t number)               \
    {                                                                          \
        struct name##_data v = name##_make(key, number);                       \
        bool inserted = false;                                                 \
        int rc = name##_get_or_insert(&name##_cache, key, v, &v, &inserted);   \
                                                                               \
        count(&sum.refused, rc != 0);                                          \
        count(&sum.stored, inserted);                                          \
        count(&sum.gets, true);                                                \
        count(&sum.hits, !inserted);                                           \
        verify(v.word, words, key);                                            \
    }                                                                          \
    static void name##_rare_op(uint64_t key, uint64_t which)                   \
    {                                                                          \
        struct name##_data v;                                                  \
                                                                               \
        if (which == 0)                                                        \
            name##_clear(&name##_cache);                                       \
        else if (which < 8)                                                    \
            (void)name##_tick(&name##_cache, 20);                              \
        else if (which < 12)                                                   \
            name##_each(&name##_cache, name##_visits, NULL);                   \
        else if (which < 20)                                                   \
            count(&sum.refused, name##_len(&name##_cache) > CAPACITY);         \
        else if (name##_peek(&name##_cache, key, &v))                          \
            verify(v.word, words, key);                                        \
    }                                                                          \
    /* Stores over what was seen, or else somebody came first. */              \
    static int name##_versions(uint64_t key, struct name##_data v,             \
                               uint32_t number)                                \
    {                                                                          \
        const bool on = ((int)name##__shard__options & CACHE_META_VERSION);    \
        struct cache_entry seen = { 0, 0, 0, 0, 0, 0 };                        \
        int rc = name##_entry(&name##_cache, key, &seen);                      \
                                                                               \
        count(&sum.refused, rc != 0 && rc != CACHE_EKEY);                      \
        count(&sum.torn, seen.accessed_ms < seen.created_ms);                  \
        count(&sum.torn, rc == 0 && (seen.version != 0) != on);                \
        rc = number & 1                                                        \
                 ? name##_put_if_version(&name##_cache, key, v, seen.version)  \
                 : name##_put_version(&name##_cache, key, v, CACHE_NEVER,      \
                                      seen.version + 1);                       \
        count(&sum.stored, rc == 0);                                           \
        return rc == CACHE_ECONFLICT || (rc == CACHE_EINVAL && !on) ? 0 : rc;  \
    }                                                                          \
    static void name##_op(uint64_t random)                                     \
    {                                                                          \
        const uint64_t key = random % n_keys;                                  \
        uint32_t number = (uint32_t)(random >> 16);                            \
        struct name##_data v;                                                  \
        int rc = 0;                                                            \
                                                                               \
        switch (random >> 58) {                                                \
        case 0:                                                                \
        case 1:                                                                \
        case 2:                                                                \
        case 3:                                                                \
        case 4:                                                                \
        case 5:                                                                \
        case 6:                                                                \
        case 7:                                                                \
            v = name##_make(key, number);                                      \
            rc = name##_put(&name##_cache, key, v);                            \
            count(&sum.stored, rc == 0);                                       \
            break;                                                             \
        case 8:                                                                \
        case 9:                                                                \
        case 10: name##_insert_one(key, number); break;                        \
        case 11:                                                               \
        case 12: (void)name##_remove(&name##_cache, key); break;               \
        case 13:                                                               \
        case 14:                                                               \
            rc = name##_compute(&name##_cache, key, name##_computes, &number); \
            break;                                                             \
        case 15:                                                               \
            rc = name##_replace(&name##_cache, key, name##_make(key, number)); \
            count(&sum.stored, rc == 0);                                       \
            rc = rc == CACHE_EKEY ? 0 : rc;                                    \
            break;                                                             \
        case 16:                                                               \
            rc = name##_read(&name##_cache, key, name##_shows, NULL);          \
            count(&sum.gets, true);                                            \
            count(&sum.hits, rc == 0);                                         \
            rc = rc == CACHE_EKEY ? 0 : rc;                                    \
            break;                                                             \
        case 17:                                                               \
            rc = name##_touch_ttl(&name##_cache, key, 1 + number % TTL);       \
            rc = rc == CACHE_EKEY || rc == CACHE_EINVAL ? 0 : rc;              \
            break;                                                             \
        case 18: name##_rare_op(key, number & 511); break;                     \
        case 19:                                                               \
            v = name##_make(key, number);                                      \
            rc = name##_versions(key, v, number);                              \
            break;                                                             \
        default: name##_get_one(key);                                          \
        }                                                                      \
        count(&sum.refused, rc != 0);                                          \
    }                                                                          \
    struct cache__swallow_semicolon

#define SUBJECT(name, words, options, ...)                                     \
    VALUE_OF(name, words);                                                     \
    CACHE_DEFINE_SHARED_WITH(name, uint64_t, struct name##_data,               \
                             cache_hash_u64, cache_equal_u64,                  \
                             (options) | POLICY, __VA_ARGS__);                 \
    static struct name name##_cache;                                           \
    OPERATION_OF(name, words);                                                 \
    static int name##_do_init(const struct cache_config *config)               \
    {                                                                          \
        struct cache_config own = *config;                                     \
                                                                               \
        if (((options)&CACHE_EXPIRY) == 0)                                     \
            own.ttl_ms = 0;                                                    \
        if (((options)&CACHE__TIMED) == 0)                                     \
            own.tick_ms = 0;                                                   \
        return name##_init(&name##_cache, &own);                               \
    }                                                                          \
    static void name##_do_destroy(void)                                        \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static const char *name##_do_check(void)                                   \
    {                                                                          \
        return name##_check(&name##_cache);                                    \
    }                                                                          \
    static int name##_do_stats(struct cache_stats *out)                        \
    {                                                                          \
        return name##_stats(&name##_cache, out);                               \
    }                                                                          \
    static uint32_t name##_do_len(void)                                        \
    {                                                                          \
        return name##_len(&name##_cache);                                      \
    }                                                                          \
    static const struct subject name##_subject = {                             \
        #name,           ((options)&CACHE_STATS) != 0,                         \
        name##_do_init,  name##_do_destroy,                                    \
        name##_op,       name##_do_check,                                      \
        name##_do_stats, name##_do_len                                         \
    }

/* The variants are small: they do with one policy, which wants to move entries
 * under the lock after it has looked without. */
#if CONTROL == 0 && !USER_LOCK
#define POLICY CACHE_POLICY_DYNAMIC
#else
#define POLICY CACHE_LRU
#endif
#define META (CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION)
#define EVERYTHING (CACHE_EXPIRY | CACHE_STATS | CACHE_PLAIN_DATA)

SUBJECT(bytes_100, 25, EVERYTHING, .on_remove = bytes_100_left);
#if CONTROL == 0 && !USER_LOCK
SUBJECT(bytes_8, 2, CACHE_PLAIN_DATA | META, .key_copy = NULL);
SUBJECT(bytes_16, 4, EVERYTHING | META, .on_remove = bytes_16_left);
SUBJECT(bytes_64, 16, CACHE_PLAIN_DATA, .key_copy = NULL);
#endif

/* --- values that own memory ---------------------------------------------- */

#if CONTROL == 0

struct object {
    uint32_t references;
    uint32_t alive; /* ALIVE until it is freed */
    unsigned key;
};

enum { ALIVE = 0x600d };

static int64_t live_objects, live_keys;

static struct object *object_new(unsigned key)
{
    struct object *o = (struct object *)malloc(sizeof *o);

    if (o == NULL)
        abort();
    o->references = 1;
    o->alive = ALIVE;
    o->key = key;
    __atomic_fetch_add(&live_objects, 1, __ATOMIC_RELAXED);
    return o;
}

static void object_release(struct object *o)
{
    if (__atomic_fetch_sub(&o->references, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    o->alive = 0;
    __atomic_fetch_sub(&live_objects, 1, __ATOMIC_RELAXED);
    free(o);
}

static void object_retain(struct object *const *o, void *user)
{
    (void)user;
    count(&sum.torn, (*o)->alive != ALIVE);
    __atomic_fetch_add(&(*o)->references, 1, __ATOMIC_RELAXED);
}

static unsigned key_of(const char *text)
{
    return (unsigned)strtoul(text + 4, NULL, 10);
}

static int text_copy(const char **key, void *user)
{
    size_t bytes = strlen(*key) + 1;
    char *copy = (char *)malloc(bytes);

    (void)user;
    if (copy == NULL)
        abort();
    memcpy(copy, *key, bytes);
    *key = copy;
    __atomic_fetch_add(&live_keys, 1, __ATOMIC_RELAXED);
    return 0;
}

static void text_free(const char **key, void *user)
{
    (void)user;
    __atomic_fetch_sub(&live_keys, 1, __ATOMIC_RELAXED);
    free((void *)(uintptr_t)*key);
}

static void object_left(const char *const *key, struct object **o,
                        enum cache_cause cause, void *user)
{
    (void)cause, (void)user;
    count(&sum.torn, (*o)->alive != ALIVE || (*o)->key != key_of(*key));
    count(&sum.left, true);
    object_release(*o);
}

CACHE_DEFINE_SHARED_WITH(objects, const char *, struct object *, cache_hash_str,
                         cache_equal_str, CACHE_STATS | POLICY,
                         .key_copy = text_copy, .key_free = text_free,
                         .on_remove = object_left, .retain = object_retain);

static struct objects objects_cache;

static int objects_do_init(const struct cache_config *config)
{
    struct cache_config own = *config;

    own.tick_ms = 0, own.ttl_ms = 0;
    return objects_init(&objects_cache, &own);
}

static void objects_do_destroy(void)
{
    objects_destroy(&objects_cache);
}

/* An object that a look-up gave; some are held on to for a while. */
static void objects_use(struct object *o, unsigned key, uint64_t random)
{
    if ((random >> 20 & 63) == 0)
        sched_yield();
    count(&sum.torn, o->alive != ALIVE || o->key != key);
    object_release(o);
}

static void objects_op(uint64_t random)
{
    const unsigned key = (unsigned)(random % n_keys);
    struct object *o, *got = NULL;
    bool inserted = false;
    char text[32];
    int rc;

    snprintf(text, sizeof text, "key %u", key);
    switch (random >> 60) {
    case 0:
    case 1:
    case 2:
        o = object_new(key);
        rc = objects_put(&objects_cache, text, o);
        count(&sum.stored, rc == 0);
        count(&sum.refused, rc != 0);
        break;
    case 3: (void)objects_remove(&objects_cache, text); break;
    case 4:
        o = object_new(key);
        rc = objects_get_or_insert(&objects_cache, text, o, &got, &inserted);
        count(&sum.refused, rc != 0);
        count(&sum.stored, inserted);
        count(&sum.gets, true);
        count(&sum.hits, !inserted);
        if (!inserted)
            object_release(o);
        objects_use(got, key, random);
        break;
    case 5:
        if ((random >> 20 & 255) == 0)
            objects_clear(&objects_cache);
        else if (objects_peek(&objects_cache, text, &o))
            objects_use(o, key, random);
        break;
    default:
        count(&sum.gets, true);
        if (objects_get(&objects_cache, text, &o)) {
            count(&sum.hits, true);
            objects_use(o, key, random);
        }
    }
}

static const char *objects_do_check(void)
{
    return objects_check(&objects_cache);
}

static int objects_do_stats(struct cache_stats *out)
{
    return objects_stats(&objects_cache, out);
}

static uint32_t objects_do_len(void)
{
    return objects_len(&objects_cache);
}

static const struct subject objects_subject = {
    "objects",          true,          objects_do_init,
    objects_do_destroy, objects_op,    objects_do_check,
    objects_do_stats,   objects_do_len
};

#endif /* CONTROL == 0 */

/* --- running ------------------------------------------------------------- */

static struct {
    const struct subject *cache;
    long ops;
    pthread_barrier_t start;
} run;

static bool torn(void)
{
    return __atomic_load_n(&sum.torn, __ATOMIC_RELAXED) != 0;
}

static void *work(void *arg)
{
    uint64_t random = test_seed + (uint64_t)(uintptr_t)arg * 1000003;
    long i;

    random |= 1;
    (void)pthread_barrier_wait(&run.start);
    for (i = 0; i < run.ops && !(CONTROL == 1 && torn()); i++) {
        run.cache->op(test_random(&random));
        if (i % 256 == 0)
            __atomic_fetch_add(&sum.now_ms, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* What came in is there or has left, and the counters agree. */
static void balance(const struct subject *subject)
{
    struct cache_stats stats;

    if (!subject->counts)
        return;
    CHECK_EQ(sum.stored, sum.left + subject->len());
    CHECK_EQ(subject->stats(&stats), 0);
    CHECK_EQ(stats.hits, sum.hits);
    CHECK_EQ(stats.hits + stats.misses, sum.gets);
}

static void stress_keys(const struct subject *subject, uint32_t policy,
                        size_t n_threads, uint64_t keys)
{
    struct cache_config config = { 0 };
    pthread_t thread[MOST_THREADS];
    size_t i;

    memset(&sum, 0, sizeof sum);
    n_keys = keys;
    run.cache = subject;
    run.ops = OPS * test_scale();
    config.capacity = CAPACITY;
    config.policy = POLICY == CACHE_POLICY_DYNAMIC ? policy : 0;
    config.shards = SHARDS;
    config.now = fake_now;
    config.tick_ms = 1;
    config.ttl_ms = 2 * TTL;
    CHECK_EQ(subject->init(&config), 0);
    CHECK_EQ(pthread_barrier_init(&run.start, NULL, (unsigned)n_threads), 0);
    for (i = 0; i < n_threads; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)i),
                 0);
    for (i = 0; i < n_threads; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    (void)pthread_barrier_destroy(&run.start);
    if (sum.torn + sum.refused != 0)
        printf("%s, %s:\n", subject->name, cache_policy_name(policy));
    CHECK_EQ(sum.torn, 0);
    CHECK_EQ(sum.refused, 0);
    CHECK_SOUND(subject->check());
    balance(subject);
    subject->destroy();
    if (subject->counts)
        CHECK_EQ(sum.stored, sum.left);
}

static void stress(const struct subject *subject, uint32_t policy,
                   size_t n_threads)
{
    stress_keys(subject, policy, n_threads, HOT_KEYS);
    stress_keys(subject, policy, n_threads, KEYS);
}

static void values_are_whole(void)
{
    stress(&bytes_100_subject, CACHE_LRU, 4);
#if CONTROL == 0 && !USER_LOCK
    stress(&bytes_100_subject, CACHE_SIEVE, 4);
    stress(&bytes_100_subject, CACHE_S3FIFO, MOST_THREADS);
    stress(&bytes_100_subject, CACHE_WTINYLFU, 4);
    stress(&bytes_8_subject, CACHE_ADAPTIVE, 4);
    stress(&bytes_8_subject, CACHE_CLOCK, 4);
    stress(&bytes_16_subject, CACHE_ADAPTIVE, MOST_THREADS);
    stress(&bytes_16_subject, CACHE_S3FIFO, 4);
    stress(&bytes_16_subject, CACHE_LFU, 4);
    stress(&bytes_64_subject, CACHE_SIEVE, MOST_THREADS);
    stress(&bytes_64_subject, CACHE_LRU, 4);
    stress(&bytes_64_subject, CACHE_FIFO, 4);
#endif
}

#if CONTROL == 0
static void objects_left_nothing(uint32_t policy, size_t n_threads)
{
    stress(&objects_subject, policy, n_threads);
    CHECK_EQ(live_objects, 0);
    CHECK_EQ(live_keys, 0);
}

static void nothing_is_freed_while_it_is_held(void)
{
    objects_left_nothing(CACHE_LRU, MOST_THREADS);
#if !USER_LOCK
    objects_left_nothing(CACHE_SIEVE, 4);
    objects_left_nothing(CACHE_ADAPTIVE, 4);
#endif
}
#endif

static const struct test tests[] = {
    TEST(values_are_whole),
#if CONTROL == 0
    TEST(nothing_is_freed_while_it_is_held),
#endif
};

#endif /* STRESS_SHARED_H */
