/*
 * model_kinds.h - kinds of keys for caches that are compared with model.h's: a
 * type, how to make key number n, its number, and what a cache calls.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MODEL_KINDS_H
#define MODEL_KINDS_H

#include "tests/model.h"

/* --- kinds --------------------------------------------------------------- */

typedef uint64_t word_key;

static inline word_key word_make(unsigned n)
{
    return (word_key)n << 40 | n;
}

static inline unsigned word_number(const word_key *key)
{
    return (unsigned)(*key & 0xff);
}

/* Twelve bytes, so that nodes have padding. */
typedef struct {
    uint32_t a, b, c;
} triple_key;

static inline triple_key triple_make(unsigned n)
{
    triple_key key;

    key.a = n / 3;
    key.b = n % 3;
    key.c = 7;
    return key;
}

static inline unsigned triple_number(const triple_key *key)
{
    return key->a * 3 + key->b;
}

/* Strings that the cache copies.  Each test has its text_make, that says through
 * how many buffers they come. */
typedef const char *text_key;

static inline unsigned text_number(const text_key *key)
{
    return (unsigned)strtoul(strchr(*key, ':') + 1, NULL, 10);
}

static inline int text_copy(text_key *key, void *user)
{
    size_t bytes = strlen(*key) + 1;
    char *copy;
    int rc = model_key_copied((struct model *)user);

    if (rc != 0)
        return rc;
    copy = (char *)malloc(bytes);
    if (copy == NULL)
        abort();
    memcpy(copy, *key, bytes);
    *key = copy;
    return 0;
}

static inline void text_free(text_key *key, void *user)
{
    model_key_freed((struct model *)user);
    free((void *)(uintptr_t)*key);
}

/* --- what a cache calls -------------------------------------------------- */

/* value_left_ is told who left, by the number of the key. */
#define KIND_CALLBACKS(kind, value_left_)                                      \
    static void kind##_left(const kind##_key *key, uint64_t *value,            \
                            enum cache_cause cause, void *user)                \
    {                                                                          \
        value_left_((struct model *)user, kind##_number(key), *value, cause);  \
    }                                                                          \
    static int kind##_computes(const kind##_key *key, uint64_t *value,         \
                               bool present, void *user)                       \
    {                                                                          \
        return model_computes((struct model *)user, kind##_number(key), value, \
                              present);                                        \
    }                                                                          \
    CACHE_UNUSED static uint64_t kind##_weigh(                                 \
        const kind##_key *key, const uint64_t *value, void *user)              \
    {                                                                          \
        return model_weigh((struct model *)user, kind##_number(key), *value);  \
    }                                                                          \
    CACHE_UNUSED static uint32_t kind##_cost(                                  \
        const kind##_key *key, const uint64_t *value, void *user)              \
    {                                                                          \
        return model_cost((struct model *)user, kind##_number(key), *value);   \
    }                                                                          \
    struct cache__swallow_semicolon

/* --- a subject: a cache type and its operations with keys as numbers ----- */

/* What both kinds of caches do in the same words, name##_cache being one. */
#define MODEL_CALLS(name, kind)                                                \
    static bool name##_do_contains(unsigned n)                                 \
    {                                                                          \
        return name##_contains(&name##_cache, kind##_make(n));                 \
    }                                                                          \
    static int name##_do_put(unsigned n, uint64_t v)                           \
    {                                                                          \
        return name##_put(&name##_cache, kind##_make(n), v);                   \
    }                                                                          \
    static int name##_do_put_ttl(unsigned n, uint64_t v, uint64_t ttl_ms)      \
    {                                                                          \
        return name##_put_ttl(&name##_cache, kind##_make(n), v, ttl_ms);       \
    }                                                                          \
    static int name##_do_put_if_absent(unsigned n, uint64_t v)                 \
    {                                                                          \
        return name##_put_if_absent(&name##_cache, kind##_make(n), v);         \
    }                                                                          \
    static int name##_do_replace(unsigned n, uint64_t v)                       \
    {                                                                          \
        return name##_replace(&name##_cache, kind##_make(n), v);               \
    }                                                                          \
    static int name##_do_put_if_version(unsigned n, uint64_t v,                \
                                        uint64_t version)                      \
    {                                                                          \
        return name##_put_if_version(&name##_cache, kind##_make(n), v,         \
                                     version);                                 \
    }                                                                          \
    static int name##_do_put_version(unsigned n, uint64_t v, uint64_t ttl_ms,  \
                                     uint64_t version)                         \
    {                                                                          \
        return name##_put_version(&name##_cache, kind##_make(n), v, ttl_ms,    \
                                  version);                                    \
    }                                                                          \
    static int name##_do_entry(unsigned n, struct cache_entry *out)            \
    {                                                                          \
        return name##_entry(&name##_cache, kind##_make(n), out);               \
    }                                                                          \
    static int name##_do_compute(unsigned n, struct model *m)                  \
    {                                                                          \
        return name##_compute(&name##_cache, kind##_make(n), kind##_computes,  \
                              m);                                              \
    }                                                                          \
    static int name##_do_touch_ttl(unsigned n, uint64_t ttl_ms)                \
    {                                                                          \
        return name##_touch_ttl(&name##_cache, kind##_make(n), ttl_ms);        \
    }                                                                          \
    static int name##_do_remove(unsigned n)                                    \
    {                                                                          \
        return name##_remove(&name##_cache, kind##_make(n));                   \
    }                                                                          \
    struct cache__swallow_semicolon

#define MODEL_WHOLES(name)                                                     \
    static void name##_do_destroy(void)                                        \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static int name##_do_clear(void)                                           \
    {                                                                          \
        return name##_clear(&name##_cache);                                    \
    }                                                                          \
    static uint32_t name##_do_tick(uint32_t max_items)                         \
    {                                                                          \
        return name##_tick(&name##_cache, max_items);                          \
    }                                                                          \
    static uint32_t name##_do_len(void)                                        \
    {                                                                          \
        return name##_len(&name##_cache);                                      \
    }                                                                          \
    static int name##_do_stats(struct cache_stats *out)                        \
    {                                                                          \
        return name##_stats(&name##_cache, out);                               \
    }                                                                          \
    static struct cache_memory name##_do_memory(void)                          \
    {                                                                          \
        return name##_memory(&name##_cache);                                   \
    }                                                                          \
    static const char *name##_do_check(void)                                   \
    {                                                                          \
        return name##_check(&name##_cache);                                    \
    }                                                                          \
    struct cache__swallow_semicolon

/* The table of them: beside those above it has memory_needed, init, get, peek,
 * get_or_insert and next of the test's own. */
#define MODEL_SUBJECT(name, options, copies, pin, unpin)                       \
    static const struct model_subject name##_subject = {                       \
        #name,                                                                 \
        options,                                                               \
        copies,                                                                \
        name##_do_memory_needed,                                               \
        name##_do_init,                                                        \
        name##_do_destroy,                                                     \
        name##_do_get,                                                         \
        name##_do_peek,                                                        \
        name##_do_contains,                                                    \
        name##_do_put,                                                         \
        name##_do_put_ttl,                                                     \
        name##_do_put_if_absent,                                               \
        name##_do_replace,                                                     \
        name##_do_put_if_version,                                              \
        name##_do_put_version,                                                 \
        name##_do_entry,                                                       \
        name##_do_get_or_insert,                                               \
        name##_do_compute,                                                     \
        name##_do_touch_ttl,                                                   \
        name##_do_remove,                                                      \
        pin,                                                                   \
        unpin,                                                                 \
        name##_do_clear,                                                       \
        name##_do_tick,                                                        \
        name##_do_next,                                                        \
        name##_do_len,                                                         \
        name##_do_stats,                                                       \
        name##_do_memory,                                                      \
        name##_do_check,                                                       \
    }

#endif /* MODEL_KINDS_H */
