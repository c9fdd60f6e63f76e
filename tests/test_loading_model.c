/*
 * test_loading_model.c - random operations on loading caches, for one thread
 * and for all, and on the model of loading_model.h.
 *
 * Each run draws a configuration: freshness, strategies, a store that fails now
 * and then, capacity, claims, policy.  A loader may do operations of its own,
 * and take its time.
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cache_loading_shared.h"
#include "codecs/cache_raw.h"
#include "tests/loading_model.h"
#include "tests/model_kinds.h"

#if defined(__SANITIZE_ADDRESS__)
enum { STEPS = 2000 };
#else
enum { STEPS = 8000 };
#endif

/* --- the world: what the cache calls ------------------------------------- */

static struct lm model;

static struct {
    uint64_t random;
    uint64_t now_ms;
    uint64_t value; /* the latest that there was */
    bool present[LM_KEYS];
    uint64_t truth[LM_KEYS], expires_ms[LM_KEYS]; /* what the store has */
    unsigned failing; /* one in so many calls of the store; 0 = none */
    bool inside;      /* loaders may do something else */
    unsigned depth;
    bool recording;     /* the journal is written */
    unsigned no_memory; /* the n-th allocation from now fails; 0 = none */
    unsigned no_copy;   /* the same of key_copy */
    long n_blocks;      /* that the cache has */
    uint32_t n_copies;  /* of keys */
    struct lm_op ops[LM_OPS];
    unsigned n_ops;
    struct cache_claim claims[LM_SLOTS];
    bool behind, jitters, partial;
    bool pauses;  /* CACHE_FULL_PAUSE: in vain, there is no other thread */
    bool passing; /* each look at the clock takes a millisecond */
} world;

static unsigned draw(unsigned n)
{
    return (unsigned)(test_random(&world.random) >> 33) % n;
}

static bool one_in(unsigned n)
{
    return n != 0 && draw(n) == 0;
}

static void act(bool writing);

static uint64_t new_value(void)
{
    return ++world.value;
}

static void pass_time(uint64_t ms)
{
    world.now_ms += ms;
    if (world.recording)
        lm_write(&model, LM_TIME)->value = world.now_ms;
}

/* Of a key: about the latest, or the same again. */
static uint64_t draw_version(unsigned key)
{
    uint64_t version = model.latest + draw(8);

    if (one_in(40))
        return CACHE_MAX_VERSION + 1;
    if (one_in(3))
        return model.cells[key].version;
    return version > 6 ? version - 6 : 1;
}

static int world_load(unsigned key, uint64_t *value,
                      struct cache_loaded *loaded)
{
    struct lm_line *line;
    int status = 0;

    CHECK_EQ(loaded->ttl_ms, 0);
    CHECK_EQ(loaded->lifetime_ms, 0);
    CHECK_EQ(loaded->version, 0);
    CHECK_EQ(loaded->status, 0);
    act(false);
    if (one_in(6)) { /* somebody else has written to the store */
        world.present[key] = !one_in(4);
        world.truth[key] = new_value();
    }
    if (one_in(6))
        status = CACHE_ESTORE;
    else if (one_in(60))
        status = 7;
    else if (!world.present[key])
        status = CACHE_EKEY;
    if (status == 0)
        *value = world.truth[key];
    if (one_in(6))
        loaded->ttl_ms = one_in(5) ? CACHE_NEVER : 1 + draw(200);
    if (one_in(6))
        loaded->lifetime_ms = one_in(5) ? CACHE_NEVER : 1 + draw(200);
    if (lm_versions(&model) && !model.config.store && one_in(4))
        loaded->version = draw_version(key);
    line = lm_write(&model, LM_LOADED);
    line->key = key;
    line->value = *value;
    line->has_value = status == 0;
    line->status = status;
    line->loaded = *loaded;
    return status;
}

static int world_store(unsigned key, const uint64_t *value,
                       const struct cache_storing *storing)
{
    struct lm_line *line;
    int status = 0;

    act(true);
    if (one_in(world.failing))
        status = one_in(5) ? 3 : CACHE_ESTORE;
    if (status == 0) {
        world.present[key] = value != NULL;
        world.truth[key] = value ? *value : 0;
        world.expires_ms[key] = storing->expires_ms;
    }
    line = lm_write(&model, LM_STORED);
    line->key = key;
    line->has_value = value != NULL;
    line->value = value ? *value : 0;
    line->status = status;
    line->expires_ms = storing->expires_ms;
    line->version = storing->version;
    return status;
}

static void world_left(unsigned key, uint64_t value, enum cache_cause cause)
{
    struct lm_line *line;

    if (!world.recording)
        return;
    line = lm_write(&model, LM_LEFT);
    line->key = key;
    line->has_value = true;
    line->value = value;
    line->cause = cause;
}

CACHE_UNUSED static void world_retain(const uint64_t *value, void *user)
{
    (void)user;
    lm_write(&model, LM_RETAIN)->value = *value;
}

static void *world_alloc(size_t bytes, void *user)
{
    bool fails = world.no_memory != 0 && --world.no_memory == 0;

    (void)user;
    if (world.recording)
        lm_write(&model, LM_ALLOC)->status = fails ? CACHE_ENOMEM : 0;
    if (fails)
        return NULL;
    world.n_blocks++;
    return malloc(bytes);
}

static void world_free(void *memory, void *user)
{
    (void)user;
    world.n_blocks--;
    free(memory);
}

static uint64_t world_now(void *user)
{
    (void)user;
    world.now_ms += world.passing;
    return world.now_ms;
}

static uint64_t world_wall_now(void *user)
{
    (void)user;
    return world.now_ms + LM_WALL_MS;
}

static unsigned number_of_bytes(struct cache_bytes bytes)
{
    const struct cache_codec *codec = model.subject->key_codec;
    uint64_t key[2];

    CHECK_EQ(codec->decode(codec, bytes.data, bytes.len, key), 0);
    return model.subject->number(key);
}

static void world_letter(const struct cache_store_item *item, void *user)
{
    (void)user;
    if (world.recording)
        lm_write(&model, LM_LETTER)->key = number_of_bytes(item->key);
}

static void world_event(const struct cache_event *event, unsigned key)
{
    struct lm_line *line;

    if (!world.recording)
        return;
    line = lm_write(&model, LM_EVENT);
    line->kind = event->kind;
    line->key = event->letter ? number_of_bytes(event->letter->key) : key;
    line->has_value = event->value != NULL;
    if (event->value)
        line->value = *(const uint64_t *)event->value;
    line->cause = event->cause;
    line->status = event->status;
    line->n = event->n;
}

/* --- a store over bytes -------------------------------------------------- */

static void execute(struct cache_store_item *item)
{
    struct cache_storing storing = { item->expires_ms, item->version };
    struct cache_loaded loaded;
    unsigned key = number_of_bytes(item->key);
    uint64_t value = 0;
    bool puts = item->op == CACHE_STORE_PUT;

    memset(&loaded, 0, sizeof loaded);
    if (item->op != CACHE_STORE_GET) {
        if (puts) {
            CHECK_EQ(item->value.len, sizeof value);
            memcpy(&value, item->value.data, sizeof value);
        }
        item->status = world_store(key, puts ? &value : NULL, &storing);
        if (item->status > 0) { /* which is not for stores to say */
            item->status = CACHE_EIO;
            model.lines[model.n_lines - 1].status = CACHE_EIO;
        }
        return;
    }
    item->status = world_load(key, &value, &loaded);
    item->status = item->status > 0 ? CACHE_EIO : item->status;
    if (item->status == 0) {
        memcpy(item->buffer, &value, sizeof value);
        item->value.data = item->buffer;
        item->value.len = sizeof value;
        item->expires_ms = world.expires_ms[key];
    }
    model.lines[model.n_lines - 1].status = item->status;
    model.lines[model.n_lines - 1].loaded.ttl_ms = 0;
    model.lines[model.n_lines - 1].loaded.lifetime_ms = 0;
    model.lines[model.n_lines - 1].loaded.version = 0;
    model.lines[model.n_lines - 1].expires_ms = item->expires_ms;
}

static int submit(struct cache_store *store, struct cache_store_batch *batch)
{
    struct lm_line *line = lm_write(&model, LM_SUBMIT);
    size_t i;

    (void)store;
    line->n = batch->n_items;
    line->status = !world.behind && one_in(20) ? CACHE_EIO : 0;
    if (line->status != 0)
        return line->status;
    for (i = 0; i < batch->n_items; i++)
        execute(&batch->items[i]);
    batch->done(batch);
    return 0;
}

static struct cache_store store = { "world", CACHE_STORE_BLOCKS, submit, NULL };
static struct cache_codec value_codec, word_codec, triple_codec, text_codec;

/* --- kinds of keys: more of model_kinds.h -------------------------------- */

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

/* The bytes are those of another key some steps later, but not before the end of
 * the operation: a key that was not copied changes under the cache. */
static text_key text_make(unsigned n)
{
    static char buffer[LM_OPS * LM_MANY][48];
    static unsigned i;

    i = (i + 1) % (LM_OPS * LM_MANY);
    snprintf(buffer[i], sizeof buffer[i], "a key that is text: %u", n);
    return buffer[i];
}

static int copy_text(text_key *key, void *user)
{
    size_t bytes = strlen(*key) + 1;
    char *copy;
    bool fails;

    (void)user;
    fails = world.no_copy != 0 && --world.no_copy == 0;
    lm_write(&model, LM_COPY)->status = fails ? -77 : 0;
    if (fails)
        return -77;
    copy = (char *)malloc(bytes);
    if (copy == NULL)
        abort();
    memcpy(copy, *key, bytes);
    *key = copy;
    world.n_copies++;
    return 0;
}

static void free_text(text_key *key, void *user)
{
    (void)user;
    world.n_copies--;
    free((void *)(uintptr_t)*key);
}

#define KIND(kind)                                                             \
    static unsigned kind##_number_of(const void *key)                          \
    {                                                                          \
        return kind##_number((const kind##_key *)key);                         \
    }                                                                          \
    CACHE_UNUSED static void kind##_left(const kind##_key *key,                \
                                         uint64_t *value,                      \
                                         enum cache_cause cause, void *user)   \
    {                                                                          \
        (void)user;                                                            \
        world_left(kind##_number(key), *value, cause);                         \
    }                                                                          \
    CACHE_UNUSED static uint64_t kind##_weigh(                                 \
        const kind##_key *key, const uint64_t *value, void *user)              \
    {                                                                          \
        (void)key, (void)user;                                                 \
        return lm_weigh(*value);                                               \
    }                                                                          \
    static int kind##_load(const kind##_key *key, uint64_t *value,             \
                           struct cache_loaded *loaded, void *user)            \
    {                                                                          \
        (void)user;                                                            \
        return world_load(kind##_number(key), value, loaded);                  \
    }                                                                          \
    static void kind##_load_many(const kind##_key *keys, uint64_t *values,     \
                                 struct cache_loaded *loaded, size_t n,        \
                                 void *user)                                   \
    {                                                                          \
        size_t i;                                                              \
                                                                               \
        (void)user;                                                            \
        for (i = 0; i < n; i++)                                                \
            loaded[i].status =                                                 \
                world_load(kind##_number(&keys[i]), &values[i], &loaded[i]);   \
    }                                                                          \
    CACHE_UNUSED static int kind##_store(                                      \
        const kind##_key *key, const uint64_t *value,                          \
        const struct cache_storing *storing, void *user)                       \
    {                                                                          \
        (void)user;                                                            \
        return world_store(kind##_number(key), value, storing);                \
    }                                                                          \
    CACHE_UNUSED static int kind##_remove(const kind##_key *key,               \
                                          const struct cache_storing *storing, \
                                          void *user)                          \
    {                                                                          \
        (void)user;                                                            \
        return world_store(kind##_number(key), NULL, storing);                 \
    }                                                                          \
    struct cache__swallow_semicolon

KIND(word);
KIND(triple);
KIND(text);

/* What name_each shows. */
static bool sees(struct lm_op *op, unsigned key, uint64_t value)
{
    CHECK(op->n_seen < LM_KEYS);
    op->seen[op->n_seen] = key;
    op->seen_values[op->n_seen] = value;
    return op->n_seen++ < op->budget;
}

/* --- subjects: a type and its operations with keys as numbers ------------ */

#define CALLS(name, of)                                                        \
    static void name##_run_claims(struct lm_op *op)                            \
    {                                                                          \
        struct cache_claim *claim = &world.claims[op->slot];                   \
        of##_key key = of##_make(op->keys[0]);                                 \
                                                                               \
        switch (op->kind) {                                                    \
        case LM_CLAIM:                                                         \
            memset(claim, 0, sizeof *claim);                                   \
            op->rc =                                                           \
                op->with                                                       \
                    ? name##_claim_with(&name##_cache, key, &op->out[0],       \
                                        claim, &op->reading)                   \
                    : name##_claim(&name##_cache, key, &op->out[0], claim);    \
            op->claimed = claim->ticket != 0;                                  \
            break;                                                             \
        case LM_COMMIT:                                                        \
            op->rc = op->with                                                  \
                         ? name##_commit_with(&name##_cache, claim,            \
                                              op->values[0], &op->loaded)      \
                         : name##_commit(&name##_cache, claim, op->values[0]); \
            break;                                                             \
        case LM_COMMIT_NEGATIVE:                                               \
            op->rc = name##_commit_negative(&name##_cache, claim);             \
            break;                                                             \
        default:                                                               \
            op->rc = name##_abandon(&name##_cache, claim, op->error,           \
                                    op->want_out ? &op->out[0] : NULL);        \
        }                                                                      \
    }                                                                          \
    static void name##_run_reads(struct lm_op *op)                             \
    {                                                                          \
        of##_key keys[LM_MANY];                                                \
        size_t i;                                                              \
                                                                               \
        for (i = 0; i < op->n; i++)                                            \
            keys[i] = of##_make(op->keys[i]);                                  \
        switch (op->kind) {                                                    \
        case LM_GET:                                                           \
            op->rc = op->with                                                  \
                         ? name##_get_with(&name##_cache, keys[0],             \
                                           &op->out[0], &op->reading)          \
                         : name##_get(&name##_cache, keys[0], &op->out[0]);    \
            break;                                                             \
        case LM_LOAD:                                                          \
            op->rc =                                                           \
                op->with                                                       \
                    ? name##_load_with(&name##_cache, keys[0], &op->out[0],    \
                                       &op->reading,                           \
                                       op->loader ? of##_load : NULL, NULL)    \
                    : name##_load(&name##_cache, keys[0], &op->out[0],         \
                                  op->loader ? of##_load : NULL, NULL);        \
            break;                                                             \
        case LM_GET_MANY:                                                      \
            op->n_missing = name##_get_many(&name##_cache, keys, op->n,        \
                                            op->out, op->missing);             \
            break;                                                             \
        case LM_LOAD_MANY:                                                     \
            op->n_missing = name##_load_many(                                  \
                &name##_cache, keys, op->n, op->out, op->status,               \
                op->loader ? of##_load_many : NULL, NULL);                     \
            break;                                                             \
        default:                                                               \
            op->peeked = name##_peek(&name##_cache, keys[0], &op->out[0]);     \
        }                                                                      \
    }                                                                          \
    static void name##_run_writes(struct lm_op *op)                            \
    {                                                                          \
        int *status = op->want_status ? op->status : NULL;                     \
        of##_key keys[LM_MANY];                                                \
        size_t i;                                                              \
                                                                               \
        for (i = 0; i < op->n; i++)                                            \
            keys[i] = of##_make(op->keys[i]);                                  \
        switch (op->kind) {                                                    \
        case LM_PUT:                                                           \
            op->rc = op->with                                                  \
                         ? name##_put_with(&name##_cache, keys[0],             \
                                           op->values[0], &op->writing)        \
                         : name##_put(&name##_cache, keys[0], op->values[0]);  \
            break;                                                             \
        case LM_PUT_TTL:                                                       \
            op->rc = name##_put_ttl(&name##_cache, keys[0], op->values[0],     \
                                    op->ttl_ms);                               \
            break;                                                             \
        case LM_PUT_MANY:                                                      \
            op->rc = name##_put_many(&name##_cache, keys, op->values, op->n,   \
                                     status);                                  \
            break;                                                             \
        case LM_PUT_IF_VERSION:                                                \
            op->rc = name##_put_if_version(&name##_cache, keys[0],             \
                                           op->values[0], op->expected);       \
            break;                                                             \
        case LM_REMOVE:                                                        \
            op->rc = op->with ? name##_remove_with(&name##_cache, keys[0],     \
                                                   &op->writing)               \
                              : name##_remove(&name##_cache, keys[0]);         \
            break;                                                             \
        default:                                                               \
            op->rc = name##_remove_many(&name##_cache, keys, op->n, status);   \
        }                                                                      \
    }                                                                          \
    static bool name##_sees(const of##_key *key, const uint64_t *value,        \
                            void *user)                                        \
    {                                                                          \
        return sees((struct lm_op *)user, of##_number(key), *value);           \
    }                                                                          \
    static void name##_run(struct lm_op *op)                                   \
    {                                                                          \
        uint32_t rounds = 0;                                                   \
                                                                               \
        switch (op->kind) {                                                    \
        case LM_CLAIM:                                                         \
        case LM_COMMIT:                                                        \
        case LM_COMMIT_NEGATIVE:                                               \
        case LM_ABANDON: name##_run_claims(op); break;                         \
        case LM_PUT:                                                           \
        case LM_PUT_IF_VERSION:                                                \
        case LM_PUT_TTL:                                                       \
        case LM_PUT_MANY:                                                      \
        case LM_REMOVE:                                                        \
        case LM_REMOVE_MANY: name##_run_writes(op); break;                     \
        case LM_INVALIDATE: name##_invalidate(&name##_cache, op->how); break;  \
        case LM_INVALIDATE_KEY:                                                \
            name##_invalidate_key(&name##_cache, of##_make(op->keys[0]),       \
                                  op->how);                                    \
            break;                                                             \
        case LM_FLUSH: op->rc = name##_flush(&name##_cache, op->budget);       \
            break;                                                             \
        case LM_TICK:                                                          \
            while (name##_tick(&name##_cache, op->budget) > 0 &&               \
                   op->budget == UINT32_MAX)                                   \
                CHECK(++rounds < 4);                                           \
            break;                                                             \
        case LM_ENTRY:                                                         \
            op->rc = name##_entry(&name##_cache, of##_make(op->keys[0]),       \
                                  &op->entry);                                 \
            break;                                                             \
        case LM_EACH: name##_each(&name##_cache, name##_sees, op); break;      \
        case LM_CLOSE:                                                         \
            op->rc = name##_close(&name##_cache, 0, &op->n_lost);              \
            break;                                                             \
        default: name##_run_reads(op);                                         \
        }                                                                      \
    }                                                                          \
    struct cache__swallow_semicolon

#define WHOLES(name, of)                                                       \
    static int name##_do_init(const struct cache_loading_config *config)       \
    {                                                                          \
        return name##_init(&name##_cache, config);                             \
    }                                                                          \
    static void name##_do_destroy(void)                                        \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static int name##_do_stats(struct cache_loading_stats *out)                \
    {                                                                          \
        return name##_loading_stats(&name##_cache, out);                       \
    }                                                                          \
    static uint32_t name##_do_len(void)                                        \
    {                                                                          \
        return name##_len(&name##_cache);                                      \
    }                                                                          \
    static struct cache_memory name##_do_memory(void)                          \
    {                                                                          \
        return name##_memory(&name##_cache);                                   \
    }                                                                          \
    static const char *name##_do_check(void)                                   \
    {                                                                          \
        return name##_check(&name##_cache);                                    \
    }                                                                          \
    static bool name##_do_life(unsigned n, struct cache_life *out)             \
    {                                                                          \
        of##_key key = of##_make(n);                                           \
                                                                               \
        return name##__front_visit(                                            \
            &name##_cache.front, &key,                                         \
            name##__front_hash(&name##_cache.front, &key), see_life, out);     \
    }                                                                          \
    static uint64_t name##_do_version(unsigned n)                              \
    {                                                                          \
        of##_key key = of##_make(n);                                           \
        uint64_t version = 0;                                                  \
                                                                               \
        (void)name##__front_visit(                                             \
            &name##_cache.front, &key,                                         \
            name##__front_hash(&name##_cache.front, &key), see_version,        \
            &version);                                                         \
        return version;                                                        \
    }                                                                          \
    static bool name##_do_contains(unsigned n)                                 \
    {                                                                          \
        struct cache_life life;                                                \
                                                                               \
        return name##_do_life(n, &life);                                       \
    }                                                                          \
    struct cache__swallow_semicolon

static uint32_t see_life(struct cache_life *life, const void *value,
                         uint64_t version, void *arg)
{
    (void)value, (void)version;
    *(struct cache_life *)arg = *life;
    return 0;
}

static uint32_t see_version(struct cache_life *life, const void *value,
                            uint64_t version, void *arg)
{
    (void)life, (void)value;
    *(uint64_t *)arg = version;
    return 0;
}

#define SUBJECT(DEFINE, name, of, options_, hash, equal, ...)                  \
    struct name##_event;                                                       \
    struct name##_write;                                                       \
    CACHE_UNUSED static void name##_happens(const struct name##_event *event,  \
                                            void *user);                       \
    CACHE_UNUSED static void name##_store_many(struct name##_write *writes,    \
                                               size_t n, void *user);          \
    DEFINE(name, of##_key, uint64_t, hash, equal, options_, __VA_ARGS__);      \
    static void name##_happens(const struct name##_event *event, void *user)   \
    {                                                                          \
        struct cache_event same = { event->kind,  event->key,    event->value, \
                                    event->cause, event->status, event->n,     \
                                    event->letter };                           \
                                                                               \
        (void)user;                                                            \
        world_event(&same, event->key ? of##_number(event->key) : 0);          \
    }                                                                          \
    static void name##_store_many(struct name##_write *writes, size_t n,       \
                                  void *user)                                  \
    {                                                                          \
        size_t i;                                                              \
                                                                               \
        (void)user;                                                            \
        for (i = 0; i < n; i++)                                                \
            writes[i].status =                                                 \
                world_store(of##_number(writes[i].key), writes[i].value,       \
                            &writes[i].storing);                               \
    }                                                                          \
    static struct name name##_cache;                                           \
    CALLS(name, of);                                                           \
    WHOLES(name, of);                                                          \
    static struct lm_subject name##_subject(void)                              \
    {                                                                          \
        const struct name##_callbacks has = name##__callbacks();               \
        const struct lm_subject s = {                                          \
            #name,                                                             \
            options_,                                                          \
            name##__front_type.shared,                                         \
            has.key_copy != NULL,                                              \
            has.on_event != NULL,                                              \
            has.on_remove != NULL,                                             \
            has.retain != NULL,                                                \
            has.load != NULL,                                                  \
            has.load_many != NULL,                                             \
            has.store != NULL,                                                 \
            has.store_many != NULL,                                            \
            &of##_codec,                                                       \
            of##_number_of,                                                    \
            &name##_cache.front,                                               \
            name##_do_init,                                                    \
            name##_run,                                                        \
            name##_do_destroy,                                                 \
            name##_do_stats,                                                   \
            name##_do_len,                                                     \
            name##_do_memory,                                                  \
            name##_do_check,                                                   \
            name##_do_contains,                                                \
            name##_do_life,                                                    \
            name##_do_version,                                                 \
        };                                                                     \
                                                                               \
        return s;                                                              \
    }                                                                          \
    struct cache__swallow_semicolon

#define ONE CACHE_DEFINE_LOADING_WITH
#define ALL CACHE_DEFINE_LOADING_SHARED_WITH
#define TEXT_KEYS .key_copy = copy_text, .key_free = free_text

SUBJECT(ONE, bare, word, 0, cache_hash_u64, cache_equal_u64, .on_event = NULL);
SUBJECT(ONE, words, word,
        CACHE_STATS | CACHE_POLICY_DYNAMIC | CACHE_META_VERSION, cache_hash_u64,
        cache_equal_u64, .on_remove = word_left, .on_event = words_happens);
SUBJECT(ONE, calls, word,
        CACHE_STATS | CACHE_POLICY_DYNAMIC | CACHE_META_VERSION, cache_hash_u64,
        cache_equal_u64, .on_remove = word_left, .load = word_load,
        .store = word_store, .remove = word_remove, .on_event = calls_happens);
SUBJECT(ONE, triples, triple,
        CACHE_STATS | CACHE_WEIGHED | CACHE_KEEP_HASH | CACHE_POLICY_DYNAMIC,
        triple_hash, triple_equal, .on_remove = triple_left,
        .weigh = triple_weigh, .load_many = triple_load_many,
        .store_many = triples_store_many, .on_event = triples_happens);
SUBJECT(ONE, texts, text, CACHE_STATS | CACHE_POLICY_DYNAMIC, cache_hash_str,
        cache_equal_str, TEXT_KEYS, .on_remove = text_left,
        .on_event = texts_happens);
SUBJECT(ONE, text_calls, text, CACHE_STATS | CACHE_SIEVE | CACHE_META_VERSION,
        cache_hash_str, cache_equal_str, TEXT_KEYS, .on_remove = text_left,
        .load = text_load, .store = text_store, .remove = text_remove);
SUBJECT(ALL, shared_bare, word, CACHE_PLAIN_DATA, cache_hash_u64,
        cache_equal_u64, .on_event = NULL);
SUBJECT(ALL, shared_words, word,
        CACHE_PLAIN_DATA | CACHE_STATS | CACHE_POLICY_DYNAMIC |
            CACHE_META_VERSION,
        cache_hash_u64, cache_equal_u64, .on_remove = word_left,
        .on_event = shared_words_happens);
SUBJECT(ALL, shared_calls, word,
        CACHE_STATS | CACHE_POLICY_DYNAMIC | CACHE_META_VERSION, cache_hash_u64,
        cache_equal_u64, .on_remove = word_left, .load = word_load,
        .load_many = word_load_many, .store_many = shared_calls_store_many,
        .on_event = shared_calls_happens);
SUBJECT(ALL, shared_triples, triple,
        CACHE_PLAIN_DATA | CACHE_STATS | CACHE_WEIGHED | CACHE_POLICY_DYNAMIC,
        triple_hash, triple_equal, .on_remove = triple_left,
        .weigh = triple_weigh, .load = triple_load, .store = triple_store,
        .remove = triple_remove, .on_event = shared_triples_happens);
SUBJECT(ALL, counted, text, CACHE_STATS | CACHE_POLICY_DYNAMIC, cache_hash_str,
        cache_equal_str, TEXT_KEYS, .on_remove = text_left,
        .retain = world_retain, .on_event = counted_happens);
SUBJECT(ALL, counted_calls, text,
        CACHE_STATS | CACHE_WEIGHED | CACHE_POLICY_DYNAMIC | CACHE_META_VERSION,
        cache_hash_str, cache_equal_str, TEXT_KEYS, .on_remove = text_left,
        .weigh = text_weigh, .retain = world_retain, .load = text_load,
        .store = text_store, .remove = text_remove,
        .on_event = counted_calls_happens);

typedef struct lm_subject (*subject_fn)(void);

/* --- drawing operations -------------------------------------------------- */

static uint64_t draw_ms(void)
{
    uint32_t tick_ms = model.config.cache.tick_ms;

    return tick_ms + draw(one_in(3) ? 60 * tick_ms : 8 * tick_ms);
}

static uint64_t maybe_ms(void)
{
    return one_in(2) ? 0 : draw_ms();
}

static struct cache_freshness draw_freshness(void)
{
    struct cache_freshness f;

    memset(&f, 0, sizeof f);
    f.ttl_ms = one_in(4) ? 0 : draw_ms();
    f.refresh_pct = one_in(2) ? 0 : draw(101);
    f.jitter_pct = world.jitters ? draw(101) : 0;
    f.stale_ms = maybe_ms();
    f.stale_if_error_ms = maybe_ms();
    if (!model.evicts) { /* that none is known to leave is not told */
        f.negative_ttl_ms = maybe_ms();
        f.error_ttl_ms = maybe_ms();
    }
    return f;
}

static unsigned draw_key(void)
{
    return one_in(3) ? draw(4) : draw(LM_KEYS);
}

static void draw_reading(struct lm_op *op)
{
    op->with = one_in(3);
    if (!op->with)
        return;
    op->reading.stale = (enum cache_stale)draw(3);
    op->reading.skip_read = one_in(4);
    op->reading.skip_write = one_in(4);
    op->reading.skip_store = op->kind != LM_CLAIM && one_in(4);
    if (lm_versions(&model) && one_in(3))
        op->reading.min_version = draw_version(op->keys[0]);
}

static void draw_writing(struct lm_op *op)
{
    struct cache_writing *w = &op->writing;

    op->with = one_in(3);
    if (!op->with)
        return;
    if (one_in(3)) {
        op->freshness = draw_freshness();
        if (one_in(8))
            op->freshness.refresh_pct = 101;
        if (one_in(8) && model.config.cache.tick_ms > 1)
            op->freshness.error_ttl_ms = 1;
        w->freshness = &op->freshness;
    }
    if (one_in(3))
        w->ttl_ms = one_in(6)   ? 1 + draw(10)
                    : one_in(8) ? CACHE_NEVER
                                : draw_ms();
    if (one_in(3))
        w->lifetime_ms = one_in(6)   ? 1 + draw(10)
                         : one_in(8) ? CACHE_NEVER
                                     : draw_ms();
    op->want_version = one_in(2);
    if (op->want_version)
        w->version = &op->version;
    w->skip_write = one_in(6);
    w->skip_store = one_in(6);
    if (world.behind && world.failing == 0 && one_in(4))
        w->ack = CACHE_ACK_STORE;
}

static enum lm_kind draw_kind(void)
{
    static const unsigned char weights[LM_KINDS] = {
        [LM_CLAIM] = 12,
        [LM_COMMIT] = 6,
        [LM_COMMIT_NEGATIVE] = 2,
        [LM_ABANDON] = 4,
        [LM_GET] = 12,
        [LM_GET_MANY] = 2,
        [LM_PEEK] = 3,
        [LM_LOAD] = 12,
        [LM_LOAD_MANY] = 3,
        [LM_PUT] = 8,
        [LM_PUT_TTL] = 2,
        [LM_PUT_MANY] = 2,
        [LM_REMOVE] = 2,
        [LM_REMOVE_MANY] = 1,
        [LM_INVALIDATE] = 1,
        [LM_INVALIDATE_KEY] = 3,
        [LM_FLUSH] = 2,
        [LM_TICK] = 2,
        [LM_PUT_IF_VERSION] = 4,
        [LM_ENTRY] = 2,
        [LM_EACH] = 1,
    };
    unsigned sum = 0, at, k;

    for (k = 0; k < LM_KINDS; k++)
        sum += weights[k];
    at = draw(sum);
    for (k = 0; at >= weights[k]; k++)
        at -= weights[k];
    return (enum lm_kind)k;
}

static bool is_many(enum lm_kind kind)
{
    return kind == LM_GET_MANY || kind == LM_LOAD_MANY || kind == LM_PUT_MANY ||
           kind == LM_REMOVE_MANY;
}

/* Whether the strategy of this run, or the type, can load. */
static bool strategy_loads(void)
{
    return model.config.store ? model.config.reads == CACHE_READ_THROUGH
                              : model.subject->load || model.subject->load_many;
}

static struct lm_op *draw_op(void)
{
    struct lm_op *op = &world.ops[world.n_ops++];
    size_t i, j;

    CHECK(world.n_ops <= LM_OPS);
    memset(op, 0, sizeof *op);
    op->kind = draw_kind();
    if (world.pauses &&
        (op->kind == LM_PUT_MANY || op->kind == LM_REMOVE_MANY ||
         op->kind == LM_PUT_IF_VERSION)) /* see waits_in_vain */
        op->kind = LM_ENTRY;
    op->n = is_many(op->kind) ? draw(LM_MANY + 1) : 1;
    for (i = 0; i < LM_MANY; i++) {
        op->keys[i] = draw_key();
        for (j = 0; j < i && world.jitters; j++)
            if (op->keys[j] == op->keys[i]) { /* see lm_learn_life */
                op->keys[i] = (op->keys[i] + 1) % LM_KEYS;
                j = (size_t)-1;
            }
        op->values[i] = new_value();
        op->out[i] = LM_UNTOUCHED;
    }
    op->slot = draw(LM_SLOTS);
    if (op->kind == LM_CLAIM || op->kind == LM_GET || op->kind == LM_LOAD)
        draw_reading(op);
    else if (op->kind == LM_PUT || op->kind == LM_REMOVE)
        draw_writing(op);
    else if (op->kind == LM_COMMIT && one_in(3)) {
        op->with = true;
        op->loaded.ttl_ms = one_in(5) ? CACHE_NEVER : draw(200);
        op->loaded.lifetime_ms = one_in(5) ? CACHE_NEVER : draw(200);
        if (lm_versions(&model) && one_in(2))
            op->loaded.version = draw_version(op->keys[0]);
    }
    op->version = LM_UNTOUCHED;
    op->expected = one_in(3)   ? 0
                   : one_in(4) ? draw_version(op->keys[0])
                               : model.cells[op->keys[0]].version;
    op->loader = !strategy_loads() || one_in(2);
    op->want_out = one_in(2);
    op->want_status = !one_in(4);
    op->error = one_in(4)   ? 0
                : one_in(8) ? 5
                : one_in(5) ? CACHE_EKEY
                            : CACHE_ESTORE;
    op->ttl_ms = one_in(8) ? draw(3) : one_in(8) ? CACHE_NEVER : draw_ms();
    op->how = one_in(2) ? CACHE_INVALIDATE_HARD : CACHE_INVALIDATE_SOFT;
    op->budget = op->kind == LM_TICK && !world.partial ? UINT32_MAX
                 : one_in(2)                           ? UINT32_MAX
                                                       : draw(12);
    return op;
}

/* What a loader, or a store, does before it answers. */
static void act(bool writing)
{
    struct lm_op *op;

    if (world.jitters || (writing && world.behind))
        return;
    if (one_in(12))
        pass_time(draw(3 * model.config.cache.tick_ms));
    if (!world.inside || world.depth > 1 || !one_in(12))
        return;
    op = draw_op();
    if (op->kind == LM_CLAIM) /* whose slot the outer one may have */
        op->kind = LM_PEEK, op->with = false;
    lm_write(&model, LM_INSIDE)->op = op;
    world.depth++;
    model.subject->run(op);
    world.depth--;
}

/* --- a run --------------------------------------------------------------- */

static long step;
static uint64_t run_seed;
static bool running;

static void tell_where_it_failed(void)
{
    const struct cache_loading_config *c = &model.config;

    if (!running)
        return;
    lm_print(&model);
    lm_print_key(&model, world.ops[0].keys[0]);
    printf("failed in %s, seed %llu, step %ld, op %d: key %u, with %d, reads "
           "%d, writes %d, store %d, capacity %u, claims %u, evicts %d, idle "
           "%d, jitters %d\n",
           model.subject->name, (unsigned long long)run_seed, step,
           (int)world.ops[0].kind, world.ops[0].keys[0], world.ops[0].with,
           (int)c->reads, (int)c->writes, c->store != NULL,
           (unsigned)c->cache.capacity, (unsigned)c->max_claims, model.evicts,
           c->freshness.idle_ms != 0, world.jitters);
}

static void draw_strategies(struct cache_loading_config *c)
{
    const struct lm_subject *s = model.subject;
    bool loads = s->load || s->load_many, stores = s->store || s->store_many;
    bool with_store = !loads && !stores;

    c->reads =
        (loads || with_store) && !one_in(4) ? CACHE_READ_THROUGH : CACHE_ASIDE;
    if (with_store || stores)
        c->writes = one_in(4)   ? CACHE_ASIDE
                    : one_in(3) ? CACHE_WRITE_AROUND
                    : one_in(2) && c->reads == CACHE_READ_THROUGH
                        ? CACHE_WRITE_BEHIND
                        : CACHE_WRITE_THROUGH;
    if (with_store && (c->reads != CACHE_ASIDE || c->writes != CACHE_ASIDE))
        c->store = &store;
    c->key_codec = s->key_codec;
    c->value_codec = &value_codec;
    world.behind = c->writes == CACHE_WRITE_BEHIND;
    world.failing = one_in(3) ? 0 : 3 + draw(10);
    if (!world.behind)
        return;
    c->write_behind.max_dirty = 1 + draw(2 * LM_KEYS);
    c->write_behind.max_batch = 1 + draw(c->write_behind.max_dirty);
    c->write_behind.max_attempts = draw(4);
    if (one_in(2))
        c->write_behind.on_dead_letter = world_letter;
    c->write_behind.retry_base_ms = 10;
    c->write_behind.retry_cap_ms = 100;
    if (world.failing == 0 && one_in(2))
        c->when_full = CACHE_FULL_WRITE_THROUGH;
    if (world.failing == 0 && one_in(3))
        c->ack = CACHE_ACK_STORE;
    world.pauses = one_in(12);
    if (!world.pauses)
        return;
    world.inside = false;
    c->when_full = CACHE_FULL_PAUSE;
    c->wait_ms = 2;
    c->cache.now_ms = NULL;
    c->cache.now = world_now;
}

static void draw_config(struct cache_loading_config *c)
{
    static const uint32_t tick_ms[] = { 1, 7, 10, 100 };
    static const uint32_t policies[] = { CACHE_LRU, CACHE_SIEVE, CACHE_ADAPTIVE,
                                         CACHE_TTL, CACHE_CLOCK };
    const struct lm_subject *s = model.subject;
    bool weighed = (s->options & CACHE_WEIGHED) != 0;

    c->cache.tick_ms = model.config.cache.tick_ms = tick_ms[draw(4)];
    c->cache.seed = test_random(&world.random);
    if (one_in(2))
        c->cache.now_ms = &world.now_ms;
    else
        c->cache.now = world_now;
    c->cache.alloc = world_alloc;
    c->cache.free = world_free;
    c->wall_now = world_wall_now;
    model.evicts = s->removes && s->events && one_in(2);
    world.jitters = one_in(4);
    world.inside = one_in(2);
    c->freshness = draw_freshness();
    c->freshness.idle_ms = one_in(4) ? draw_ms() : 0;
    world.partial = c->freshness.negative_ttl_ms == 0 &&
                    c->freshness.error_ttl_ms == 0 && s->removes;
    c->cache.capacity = model.evicts && !weighed ? 1 + draw(16) : 2 * LM_KEYS;
    if (s->shared) { /* where all may be in one shard */
        c->cache.shards =
            model.evicts || lm_versions(&model) || one_in(2) ? 1 : 4;
        c->cache.capacity *= c->cache.shards;
    }
    if (weighed)
        c->cache.max_bytes = model.evicts ? 2000 + draw(3000) : 1 << 24;
    if ((s->options & CACHE_POLICY_DYNAMIC) == CACHE_POLICY_DYNAMIC)
        c->cache.policy = policies[draw(5)];
    c->max_claims = one_in(2) ? LM_CLAIMS : 1 + draw(LM_CLAIMS);
    c->claim_ms = one_in(3) ? 0 : one_in(12) ? CACHE_NEVER : 1 + draw(500);
    draw_strategies(c);
}

static void begin(const struct lm_subject *subject)
{
    struct cache_loading_config config;

    memset(&model, 0, sizeof model);
    memset(&world, 0, sizeof world);
    world.random = run_seed | 1;
    world.now_ms = one_in(2) ? 0 : 12345;
    memset(&config, 0, sizeof config);
    model.subject = subject;
    draw_config(&config);
    if (one_in(8)) { /* there is no memory: as if nobody had called */
        const struct cache_front before = *subject->front;
        int rc;

        world.no_memory = 1 + draw(3);
        rc = subject->init(&config);
        CHECK(rc == 0 || rc == CACHE_ENOMEM);
        CHECK_EQ(rc == 0, world.no_memory != 0);
        if (rc == 0)
            subject->destroy();
        else
            CHECK_EQ(memcmp(&before, subject->front, sizeof before), 0);
        CHECK_EQ(world.n_blocks, 0);
        world.no_memory = 0;
    }
    CHECK_EQ(subject->init(&config), 0);
    if (config.claim_ms == 0)
        config.claim_ms = CACHE_LOADING_DEFAULT_CLAIM_MS;
    if (config.ack == CACHE_ACK_DEFAULT)
        config.ack = world.behind ? CACHE_ACK_MEMORY : CACHE_ACK_STORE;
    model.config = config;
    model.now_ms = model.start_ms = world.now_ms;
    model.epoch = 1;
    model.epochs_left = UINT32_MAX - 1;
    if (one_in(3)) { /* the epochs are used up soon */
        model.epochs_left = draw(20);
        subject->front->epoch = UINT32_MAX - (uint32_t)model.epochs_left;
    }
    world.recording = true;
}

/* A write that nobody will make room for. */
static bool waits_in_vain(const struct lm_op *op)
{
    return world.pauses && !model.closed &&
           (op->kind == LM_PUT || op->kind == LM_PUT_TTL ||
            op->kind == LM_REMOVE) &&
           !(op->with && op->writing.skip_store) &&
           !model.dirty[op->keys[0]].dirty &&
           lm_n_dirty(&model) == model.config.write_behind.max_dirty;
}

static void one_step(struct lm_op *op)
{
    bool safe = world.behind && model.config.store == NULL;

    world.passing = waits_in_vain(op);
    world.no_memory = !safe && one_in(10) ? 1 + draw(3) : 0;
    world.no_copy = one_in(10) ? 1 + draw(3) : 0;
    model.subject->run(op);
    if (world.passing) {
        CHECK(op->rc != CACHE_EFULL ||
              world.now_ms >= model.now_ms + model.config.wait_ms);
        model.now_ms = world.now_ms;
        world.passing = false;
    }
    lm_do(&model, op);
    lm_compare(&model, world.n_copies);
    CHECK_EQ(model.now_ms, world.now_ms);
}

static void run(const struct lm_subject *subject, uint64_t seed, long steps)
{
    run_seed = seed;
    running = true;
    begin(subject);
    for (step = 0; step < steps; step++) {
        world.n_ops = 0;
        model.n_lines = model.at = 0;
        if (one_in(4))
            world.now_ms += one_in(40) ? draw(100 * model.config.cache.tick_ms)
                                       : draw(3 * model.config.cache.tick_ms);
        model.now_ms = world.now_ms;
        one_step(draw_op());
    }
    for (; step < steps + 30; step++) { /* closed: what is read is still here */
        world.n_ops = 0;
        model.n_lines = model.at = 0;
        one_step(draw_op());
        if (step != steps)
            continue;
        world.n_ops = 0;
        model.n_lines = model.at = 0;
        draw_op()->kind = LM_CLOSE;
        one_step(&world.ops[0]);
    }
    world.recording = false;
    subject->destroy();
    CHECK_EQ(world.n_copies, 0);
    CHECK_EQ(world.n_blocks, 0);
    running = false;
}

static void run_all(const subject_fn *subjects, size_t n)
{
    uint64_t random = test_seed;
    long round;
    size_t i;

    tell_where_it_failed();
    running = false;
    value_codec = cache_raw_object(sizeof(uint64_t));
    word_codec = cache_raw_object(sizeof(word_key));
    triple_codec = cache_raw_object(sizeof(triple_key));
    text_codec = cache_raw_string(47);
    for (round = 0; round < 40 * test_scale(); round++)
        for (i = 0; i < n; i++) {
            static struct lm_subject subject;

            subject = subjects[i]();
            run(&subject, test_random(&random), STEPS / 8);
        }
}

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void a_cache_for_one_thread_does_what_the_model_does(void)
{
    static const subject_fn subjects[] = { bare_subject,  words_subject,
                                           calls_subject, triples_subject,
                                           texts_subject, text_calls_subject };

    run_all(subjects, COUNT_OF(subjects));
}

static void a_cache_for_all_threads_does_what_the_model_does(void)
{
    static const subject_fn subjects[] = {
        shared_bare_subject,    shared_words_subject, shared_calls_subject,
        shared_triples_subject, counted_subject,      counted_calls_subject
    };

    run_all(subjects, COUNT_OF(subjects));
}

static const struct test tests[] = {
    TEST(a_cache_for_one_thread_does_what_the_model_does),
    TEST(a_cache_for_all_threads_does_what_the_model_does),
};

int main(int argc, char **argv)
{
    int rc = TEST_MAIN(argc, argv, tests);

    tell_where_it_failed();
    return rc;
}
