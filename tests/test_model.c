/*
 * test_model.c - random operations on many cache types and on the model.
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tests/model_kinds.h"

/* --- more kinds of keys -------------------------------------------------- */

/* As `word`, but with two chains for all keys. */
typedef uint64_t clash_key;

static clash_key clash_make(unsigned n)
{
    return n;
}

static unsigned clash_number(const clash_key *key)
{
    return (unsigned)*key;
}

static uint64_t clash_hash(const clash_key *key, uint64_t seed)
{
    (void)seed;
    return *key & 1;
}

CACHE_STRUCT_KEY(triple, triple_key, 3 * sizeof(uint32_t));

/* Bytes that the cache borrows: zero bytes inside, one a prefix of another. */
typedef struct cache_bytes bytes_key;

static unsigned char all_bytes[MODEL_KEYS];

static bytes_key bytes_make(unsigned n)
{
    bytes_key key;

    key.data = all_bytes;
    key.len = n;
    return key;
}

static unsigned bytes_number(const bytes_key *key)
{
    return (unsigned)key->len;
}

/* All are handed in through one buffer, so a key that was not copied changes
 * under the cache. */
static text_key text_make(unsigned n)
{
    static char buffer[48];

    snprintf(buffer, sizeof buffer, "a key that is text: %u", n);
    return buffer;
}

/* --- callbacks ----------------------------------------------------------- */

KIND_CALLBACKS(word, model_value_left);
KIND_CALLBACKS(clash, model_value_left);
KIND_CALLBACKS(triple, model_value_left);
KIND_CALLBACKS(bytes, model_value_left);
KIND_CALLBACKS(text, model_value_left);

/* --- subjects: a cache type and its operations with keys as numbers ------ */

#define SUBJECT(name, kind, options_, hash, equal, copies, ...)                \
    CACHE_DEFINE_WITH(name, kind##_key, uint64_t, hash, equal, options_,       \
                      __VA_ARGS__);                                            \
    static struct name name##_cache;                                           \
    MODEL_CALLS(name, kind);                                                   \
    MODEL_WHOLES(name);                                                        \
    static size_t name##_do_memory_needed(const struct cache_config *config)   \
    {                                                                          \
        return name##_memory_needed(config);                                   \
    }                                                                          \
    static int name##_do_init(const struct cache_config *config)               \
    {                                                                          \
        return name##_init(&name##_cache, config);                             \
    }                                                                          \
    static const uint64_t *name##_do_get(unsigned n)                           \
    {                                                                          \
        return name##_get(&name##_cache, kind##_make(n));                      \
    }                                                                          \
    static const uint64_t *name##_do_peek(unsigned n)                          \
    {                                                                          \
        return name##_peek(&name##_cache, kind##_make(n));                     \
    }                                                                          \
    static const uint64_t *name##_do_get_or_insert(unsigned n, uint64_t v,     \
                                                   bool *inserted)             \
    {                                                                          \
        return name##_get_or_insert(&name##_cache, kind##_make(n), v,          \
                                    inserted);                                 \
    }                                                                          \
    static int name##_do_pin(unsigned n)                                       \
    {                                                                          \
        return name##_pin(&name##_cache, kind##_make(n));                      \
    }                                                                          \
    static int name##_do_unpin(unsigned n)                                     \
    {                                                                          \
        return name##_unpin(&name##_cache, kind##_make(n));                    \
    }                                                                          \
    static bool name##_do_next(struct model_cursor *at)                        \
    {                                                                          \
        struct name##_cursor cursor = { at->slot, NULL, NULL };                \
        bool more = name##_next(&name##_cache, &cursor);                       \
        at->slot = cursor.slot;                                                \
        if (more) {                                                            \
            at->key = kind##_number(cursor.key);                               \
            at->value = *cursor.value;                                         \
        }                                                                      \
        return more;                                                           \
    }                                                                          \
    MODEL_SUBJECT(name, name##__options, copies, name##_do_pin, name##_do_unpin)

#define WORD_SUBJECT(name, opts)                                               \
    SUBJECT(name##_word, word, opts, cache_hash_u64, cache_equal_u64, false,   \
            .on_remove = word_left)
#define CLASH_SUBJECT(name, opts)                                              \
    SUBJECT(name##_clash, clash, opts, clash_hash, cache_equal_u64, false,     \
            .on_remove = clash_left)
#define TRIPLE_SUBJECT(name, opts)                                             \
    SUBJECT(name##_triple, triple, opts, triple_hash, triple_equal, false,     \
            .on_remove = triple_left)
#define BYTES_SUBJECT(name, opts)                                              \
    SUBJECT(name##_bytes, bytes, opts, cache_sip_bytes, cache_equal_bytes,     \
            false, .on_remove = bytes_left)
#define TEXT_SUBJECT(name, opts)                                               \
    SUBJECT(name##_text, text, opts, cache_hash_str, cache_equal_str, true,    \
            .key_copy = text_copy, .key_free = text_free,                      \
            .on_remove = text_left)

#define HEAVY_WORD_SUBJECT(name, opts)                                         \
    SUBJECT(name##_word, word, opts, cache_hash_u64, cache_equal_u64, false,   \
            .on_remove = word_left, .weigh = word_weigh, .cost = word_cost)
#define HEAVY_TEXT_SUBJECT(name, opts)                                         \
    SUBJECT(name##_text, text, opts, cache_hash_str, cache_equal_str, true,    \
            .key_copy = text_copy, .key_free = text_free,                      \
            .on_remove = text_left, .weigh = text_weigh, .cost = text_cost)

#define EACH_KIND(name, opts)                                                  \
    WORD_SUBJECT(name, opts);                                                  \
    CLASH_SUBJECT(name, opts);                                                 \
    TRIPLE_SUBJECT(name, opts);                                                \
    BYTES_SUBJECT(name, opts);                                                 \
    TEXT_SUBJECT(name, opts)

/* Every kind of key with every feature of one policy; with the others, which
 * know nothing of keys, a few. */
#define EACH_FEATURE(name, policy)                                             \
    EACH_KIND(name, policy);                                                   \
    EACH_KIND(name##_expiry, policy | CACHE_EXPIRY);                           \
    EACH_KIND(name##_stats, policy | CACHE_EXPIRY | CACHE_STATS);              \
    EACH_KIND(name##_hashes, policy | CACHE_KEEP_HASH)

#define SOME_FEATURES(name, policy)                                            \
    WORD_SUBJECT(name, policy);                                                \
    TEXT_SUBJECT(name, policy);                                                \
    WORD_SUBJECT(name##_expiry, policy | CACHE_EXPIRY);                        \
    WORD_SUBJECT(name##_stats, policy | CACHE_EXPIRY | CACHE_STATS)

#define EACH_LIMIT(name, policy)                                               \
    WORD_SUBJECT(name##_pins, policy | CACHE_PINS);                            \
    HEAVY_WORD_SUBJECT(name##_weighed, policy | CACHE_WEIGHED | CACHE_STATS);  \
    HEAVY_WORD_SUBJECT(name##_both, policy | CACHE_WEIGHED | CACHE_PINS);      \
    HEAVY_WORD_SUBJECT(name##_all, policy | CACHE__FEATURE_BITS);              \
    HEAVY_TEXT_SUBJECT(name##_all, policy | CACHE__FEATURE_BITS)

EACH_FEATURE(lru, CACHE_LRU);
SOME_FEATURES(fifo, CACHE_FIFO);
SOME_FEATURES(sieve, CACHE_SIEVE);
SOME_FEATURES(clock, CACHE_CLOCK);
EACH_LIMIT(fifo, CACHE_FIFO);
EACH_LIMIT(lru, CACHE_LRU);
EACH_LIMIT(sieve, CACHE_SIEVE);
EACH_LIMIT(clock, CACHE_CLOCK);
EACH_LIMIT(dynamic, CACHE_POLICY_DYNAMIC);

/* Metadata, all and each alone, with and without the clock of expiry. */
#define META (CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION)
WORD_SUBJECT(meta, CACHE_LRU | META);
TEXT_SUBJECT(meta, CACHE_LRU | META | CACHE_EXPIRY);
WORD_SUBJECT(times, CACHE_LRU | CACHE_META_TIMES | CACHE_EXPIRY);
WORD_SUBJECT(count, CACHE_SIEVE | CACHE_META_COUNT | CACHE_PINS);
WORD_SUBJECT(version, CACHE_SIEVE | CACHE_META_VERSION | CACHE_STATS);

WORD_SUBJECT(dynamic, CACHE_POLICY_DYNAMIC);
WORD_SUBJECT(dynamic_stats, CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | CACHE_STATS);
WORD_SUBJECT(dynamic_meta, CACHE_POLICY_DYNAMIC | CACHE_EXPIRY | META);

#define LIST_KINDS(name)                                                       \
    &name##_word_subject, &name##_clash_subject, &name##_triple_subject,       \
        &name##_bytes_subject, &name##_text_subject
#define LIST_FEATURES(name)                                                    \
    LIST_KINDS(name), LIST_KINDS(name##_expiry), LIST_KINDS(name##_stats),     \
        LIST_KINDS(name##_hashes)
#define LIST_SOME(name)                                                        \
    &name##_word_subject, &name##_text_subject, &name##_expiry_word_subject,   \
        &name##_stats_word_subject
#define LIST_LIMITS(name)                                                      \
    &name##_pins_word_subject, &name##_weighed_word_subject,                   \
        &name##_both_word_subject, &name##_all_word_subject,                   \
        &name##_all_text_subject

/* Of types that name their policy. */
static const struct model_subject *const subjects[] = {
    LIST_FEATURES(lru),    LIST_SOME(fifo),     LIST_SOME(sieve),
    LIST_SOME(clock),      LIST_LIMITS(fifo),   LIST_LIMITS(lru),
    LIST_LIMITS(sieve),    LIST_LIMITS(clock),  &meta_word_subject,
    &meta_text_subject,    &times_word_subject, &count_word_subject,
    &version_word_subject,
};

/* Of types whose policy a config names. */
static const struct model_subject *const dynamic_subjects[] = {
    LIST_LIMITS(dynamic),
    &dynamic_word_subject,
    &dynamic_stats_word_subject,
    &dynamic_meta_word_subject,
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* --- tests --------------------------------------------------------------- */

/* A check that fails leaves through longjmp; this is where it was. */
static struct model model;
static long step;
static bool running;

static void tell_where_it_failed(void)
{
    if (running)
        printf("failed in %s, %s, capacity %u, step %ld\n", model.subject->name,
               cache_policy_name(model.policy), (unsigned)model.config.capacity,
               step);
}

static void run(const struct model_subject *subject, uint32_t policy,
                uint32_t capacity, uint64_t seed, long steps, long fail_copy,
                bool fail_later)
{
    uint64_t random = seed | 1;

    tell_where_it_failed();
    running = true;
    model_init(&model, subject, policy, capacity, test_random(&random));
    model.fail_copy = fail_copy;
    model.fail_later_copies = fail_later;
    for (step = 0; step < steps; step++)
        model_step(&model, test_random(&random));
    model_destroy(&model);
    running = false;
}

/* The sanitizers' build is not optimised: it takes an eighth of the steps. */
#if defined(__OPTIMIZE__)
#define STEPS(n) (n)
#else
#define STEPS(n) ((n) / 16)
#endif

static const uint32_t capacities[] = { 1, 2, 3, 5, 8, 20, 40 };

static void random_operations(void)
{
    uint64_t random = test_seed;
    long round;
    size_t i, s;

    for (round = 0; round < test_scale(); round++)
        for (s = 0; s < COUNT_OF(subjects); s++)
            for (i = 0; i < COUNT_OF(capacities); i++)
                run(subjects[s], 0, capacities[i], test_random(&random),
                    STEPS(15000), 0, false);
}

/* All policies there are, through a type that has none of its own. */
static void random_operations_with_each_policy(void)
{
    uint64_t random = test_seed;
    uint32_t policy;
    long round;
    size_t i, s;

    for (round = 0; round < test_scale(); round++)
        for (policy = 1; policy <= CACHE__POLICY_BITS; policy++)
            for (s = 0; s < COUNT_OF(dynamic_subjects); s++)
                for (i = 0; i < COUNT_OF(capacities); i++)
                    if (cache_policy_name(policy) != NULL)
                        run(dynamic_subjects[s], policy, capacities[i],
                            test_random(&random), STEPS(5000), 0, false);
}

/* For every k, the k-th copy of a key fails; then all from the k-th on. */
static void each_copy_of_a_key_fails(void)
{
    long k, round;
    size_t s;

    for (round = 0; round < test_scale(); round++)
        for (s = 0; s < COUNT_OF(subjects); s++)
            for (k = 1; subjects[s]->copies_keys && k <= 60; k++) {
                const uint64_t seed = test_seed + (uint64_t)round;
                run(subjects[s], 0, 3, seed, 120, k, false);
                run(subjects[s], 0, 3, seed, 120, k, true);
            }
}

static const struct test tests[] = {
    TEST(random_operations),
    TEST(random_operations_with_each_policy),
    TEST(each_copy_of_a_key_fails),
};

int main(int argc, char **argv)
{
    int failed = TEST_MAIN(argc, argv, tests);

    tell_where_it_failed();
    return failed;
}
