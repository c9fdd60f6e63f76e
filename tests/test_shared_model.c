/*
 * test_shared_model.c - random operations on shared caches and on the model of
 * model.h, in one thread and one shard: there a shared cache is a cache.
 *
 * The differences that the model is told of:
 *   - Callbacks come after the whole operation, so they do not look at the
 *     cache in its midst.  Where many entries leave at once, those behind the
 *     third come in the opposite order, and after a value that was replaced.
 *   - LRU leaves entries of the newest quarter where they are, and clear keeps
 *     the order of free slots, on which CLOCK's circle depends.  Of both is
 *     only asked that nobody leaves without need.
 *   - Without the lock a get sees the clock itself: it must not go back.
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cache_shared.h"
#include "tests/model_kinds.h"

/* --- more of the kinds of keys ------------------------------------------- */

/* All in two chains. */
static uint64_t triple_hash(const triple_key *key, uint64_t seed)
{
    (void)seed;
    return triple_number(key) & 1;
}

static bool triple_equal(const triple_key *a, const triple_key *b)
{
    CHECK_EQ(a->c, 7); /* keys are whole */
    return memcmp(a, b, sizeof *a) == 0;
}

/* All are handed in through a few buffers. */
static text_key text_make(unsigned n)
{
    static char buffer[8][48];
    static unsigned i;

    i = (i + 1) % 8;
    snprintf(buffer[i], sizeof buffer[i], "a key that is text: %u", n);
    return buffer[i];
}

/* --- callbacks ----------------------------------------------------------- */

enum { AT_ONCE = 3 }; /* values that leave in their order */

/* Puts the event where an unshared cache would have told of it. */
static void insert_event(struct model *m, const struct model_event *event)
{
    unsigned at = m->n_events;
    bool replaced = at > 0 && m->event[at - 1].cause == CACHE_CAUSE_REPLACED;

    if (event->cause == CACHE_CAUSE_EVICTED ||
        event->cause == CACHE_CAUSE_EXPIRED) {
        at -= replaced;
        at = at < AT_ONCE ? at : AT_ONCE;
    }
    memmove(&m->event[at + 1], &m->event[at],
            (m->n_events - at) * sizeof *event);
    m->event[at] = *event;
    m->n_events++;
}

static void value_left(struct model *m, unsigned key, uint64_t value,
                       enum cache_cause cause)
{
    const struct model_subject *s = m->subject;
    struct model_event event = { key, value, cause, false, 0, false, 0 };
    const uint64_t *found = s->peek(key);

    CHECK(m->n_events < MODEL_ENTRIES);
    insert_event(m, &event);
    /* Only by the operation that made it leave is its key there again. */
    CHECK(found == NULL || *found == m->last_value);
    CHECK(s->memory().used_bytes <= m->config.max_bytes);
    if (value % 4 == 0)
        CHECK_SOUND(s->check());
}

KIND_CALLBACKS(word, value_left);
KIND_CALLBACKS(triple, value_left);
KIND_CALLBACKS(text, value_left);

/* --- subjects: a cache type and its operations with keys as numbers ------ */

/* What a look-up copied out: the model wants pointers. */
static uint64_t copied;

/* The model's cursor: all keys as they were when it began. */
static unsigned walked[MODEL_ENTRIES];
static uint32_t n_walked;

static int not_pinned(unsigned n)
{
    (void)n;
    return CACHE_EINVAL;
}

/* A get, or for half of the values a read, which is a use as well. */
#define LOOKS(name, kind)                                                      \
    static void name##_shows(const kind##_key *key, const uint64_t *value,     \
                             void *user)                                       \
    {                                                                          \
        CHECK_EQ(kind##_number(key), *(unsigned *)user);                       \
        copied = *value;                                                       \
    }                                                                          \
    static const uint64_t *name##_do_get(unsigned n)                           \
    {                                                                          \
        bool found;                                                            \
                                                                               \
        copied = UINT64_MAX - n;                                               \
        if (n % 2 == 0)                                                        \
            found = name##_get(&name##_cache, kind##_make(n), &copied);        \
        else                                                                   \
            found = name##_read(&name##_cache, kind##_make(n), name##_shows,   \
                                &n) == 0;                                      \
        CHECK(found || copied == UINT64_MAX - n);                              \
        return found ? &copied : NULL;                                         \
    }                                                                          \
    static const uint64_t *name##_do_peek(unsigned n)                          \
    {                                                                          \
        static uint64_t seen;                                                  \
                                                                               \
        seen = UINT64_MAX - n;                                                 \
        if (name##_peek(&name##_cache, kind##_make(n), &seen))                 \
            return &seen;                                                      \
        CHECK(seen == UINT64_MAX - n);                                         \
        return NULL;                                                           \
    }                                                                          \
    static bool name##_collects(const kind##_key *key, const uint64_t *value,  \
                                void *user)                                    \
    {                                                                          \
        (void)value, (void)user;                                               \
        CHECK(n_walked < MODEL_ENTRIES);                                       \
        walked[n_walked++] = kind##_number(key);                               \
        return true;                                                           \
    }                                                                          \
    static bool name##_do_next(struct model_cursor *at)                        \
    {                                                                          \
        const uint64_t *value = NULL;                                          \
                                                                               \
        if (at->slot == 0) {                                                   \
            n_walked = 0;                                                      \
            name##_each(&name##_cache, name##_collects, NULL);                 \
        }                                                                      \
        while (value == NULL && at->slot < n_walked) {                         \
            at->key = walked[at->slot++];                                      \
            value = name##_do_peek(at->key);                                   \
            at->value = value != NULL ? *value : 0;                            \
        }                                                                      \
        return value != NULL;                                                  \
    }                                                                          \
    struct cache__swallow_semicolon

#define INSERTS(name, kind)                                                    \
    static const uint64_t *name##_do_get_or_insert(unsigned n, uint64_t value, \
                                                   bool *inserted)             \
    {                                                                          \
        int rc;                                                                \
                                                                               \
        copied = 0;                                                            \
        rc = name##_get_or_insert(&name##_cache, kind##_make(n), value,        \
                                  &copied, inserted);                          \
        return rc == 0 ? &copied : NULL;                                       \
    }                                                                          \
    struct cache__swallow_semicolon

#define MAKES(name)                                                            \
    /* The model wants to know what an entry weighs. */                        \
    static size_t name##_do_memory_needed(const struct cache_config *config)   \
    {                                                                          \
        return cache__memory_needed(&name##__shard__type, config,              \
                                    name##__shard__hooks());                   \
    }                                                                          \
    static int name##_do_init(const struct cache_config *config)               \
    {                                                                          \
        struct cache_config one = *config;                                     \
                                                                               \
        one.shards = 1;                                                        \
        return name##_init(&name##_cache, &one);                               \
    }                                                                          \
    struct cache__swallow_semicolon

#define SUBJECT(name, kind, options_, hash, equal, copies, ...)                \
    CACHE_DEFINE_SHARED_WITH(name, kind##_key, uint64_t, hash, equal,          \
                             (options_) | CACHE_POLICY_DYNAMIC, __VA_ARGS__);  \
    static struct name name##_cache;                                           \
    MODEL_CALLS(name, kind);                                                   \
    MODEL_WHOLES(name);                                                        \
    LOOKS(name, kind);                                                         \
    INSERTS(name, kind);                                                       \
    MAKES(name);                                                               \
    MODEL_SUBJECT(name, (options_) | CACHE_POLICY_DYNAMIC, copies, not_pinned, \
                  not_pinned)

SUBJECT(plain, word, CACHE_PLAIN_DATA, cache_hash_u64, cache_equal_u64, false,
        .on_remove = word_left);
#define META (CACHE_META_TIMES | CACHE_META_COUNT | CACHE_META_VERSION)

SUBJECT(plain_meta, word, CACHE_PLAIN_DATA | META, cache_hash_u64,
        cache_equal_u64, false, .on_remove = word_left);
SUBJECT(plain_all, word,
        CACHE_PLAIN_DATA | CACHE_EXPIRY | CACHE_STATS | CACHE_WEIGHED | META,
        cache_hash_u64, cache_equal_u64, false, .on_remove = word_left,
        .weigh = word_weigh, .cost = word_cost);
SUBJECT(triples, triple,
        CACHE_PLAIN_DATA | CACHE_EXPIRY | CACHE_STATS | CACHE_KEEP_HASH,
        triple_hash, triple_equal, false, .on_remove = triple_left);
SUBJECT(locked, word, CACHE_EXPIRY | CACHE_STATS, cache_hash_u64,
        cache_equal_u64, false, .on_remove = word_left);
SUBJECT(locked_meta, word, META, cache_hash_u64, cache_equal_u64, false,
        .on_remove = word_left);
SUBJECT(texts, text, CACHE_EXPIRY | CACHE_STATS | CACHE_WEIGHED | META,
        cache_hash_str, cache_equal_str, true, .key_copy = text_copy,
        .key_free = text_free, .on_remove = text_left, .weigh = text_weigh,
        .cost = text_cost);

static const struct model_subject *const subjects[] = {
    &plain_subject,  &plain_meta_subject,  &plain_all_subject, &triples_subject,
    &locked_subject, &locked_meta_subject, &texts_subject,
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* --- tests --------------------------------------------------------------- */

/* A check that fails leaves through longjmp; this is where it was. */
static struct model model;
static long step;
static uint32_t model_policy;
static bool running;

static void tell_where_it_failed(void)
{
    if (running)
        printf("failed in %s, %s, capacity %u, step %ld\n", model.subject->name,
               cache_policy_name(model_policy), (unsigned)model.config.capacity,
               step);
}

static void run(const struct model_subject *subject, uint32_t policy,
                uint32_t capacity, uint64_t seed, long steps, long fail_copy,
                bool fail_later)
{
    uint64_t random = seed | 1;

    tell_where_it_failed();
    running = true;
    model_policy = policy;
    model_init(&model, subject, policy, capacity, test_random(&random));
    if (policy != CACHE_FIFO && policy != CACHE_SIEVE)
        model.policy = 0; /* anybody may leave, but not without need */
    model.forwards = (subject->options & CACHE_PLAIN_DATA) != 0;
    model.fail_copy = fail_copy;
    model.fail_later_copies = fail_later;
    for (step = 0; step < steps; step++)
        model_step(&model, test_random(&random));
    model_destroy(&model);
    running = false;
}

static const uint32_t capacities[] = { 1, 2, 3, 5, 8, 20, 40 };

static void random_operations_with_each_policy(void)
{
    uint64_t random = test_seed;
    uint32_t policy;
    long round;
    size_t i, s;

    for (round = 0; round < test_scale(); round++)
        for (policy = 1; policy <= CACHE__POLICY_BITS; policy++)
            for (s = 0; s < COUNT_OF(subjects); s++)
                for (i = 0; i < COUNT_OF(capacities); i++)
                    if (cache_policy_name(policy) != NULL)
                        run(subjects[s], policy, capacities[i],
                            test_random(&random), 1500, 0, false);
}

/* For every k, the k-th copy of a key fails; then all from the k-th on. */
static void each_copy_of_a_key_fails(void)
{
    long k;

    for (k = 1; k <= 60; k++) {
        run(&texts_subject, CACHE_SIEVE, 3, test_seed, 120, k, false);
        run(&texts_subject, CACHE_SIEVE, 3, test_seed, 120, k, true);
    }
}

static const struct test tests[] = {
    TEST(random_operations_with_each_policy),
    TEST(each_copy_of_a_key_fails),
};

int main(int argc, char **argv)
{
    int failed = TEST_MAIN(argc, argv, tests);

    tell_where_it_failed();
    return failed;
}
