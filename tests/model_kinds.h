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

#endif /* MODEL_KINDS_H */
