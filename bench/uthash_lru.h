/*
 * uthash_lru.h - the LRU cache that a C programmer makes of uthash and utlist:
 * one malloc per entry, with the hash handle and the links in it.  Included
 * once for each, after KIND, ITEM, KEY (the member), KEY_OF(item) and
 * LENGTH_OF(item).
 *
 * One hash serves look-up and insertion.  A hit that is the latest already
 * stays where it is.
 *
 * SPDX-License-Identifier: MIT
 */
struct ENTRY {
    KEY;
    VALUE_T value;
    struct ENTRY *prev, *next; /* the least recently used is first */
    UT_hash_handle hh;
};

struct BOX {
    struct ENTRY *table, *list;
    size_t capacity;
    pthread_mutex_t mutex; /* for who shares it */
};

static void *THIS(_box_open)(size_t entries)
{
    struct BOX *box = (struct BOX *)must(calloc(1, sizeof(struct BOX)));

    box->capacity = entries;
    pthread_mutex_init(&box->mutex, NULL);
    return box;
}

static void THIS(_box_evict)(struct BOX *box)
{
    struct ENTRY *oldest = box->list;

    DL_DELETE(box->list, oldest);
    HASH_DELETE(hh, box->table, oldest);
    free(oldest);
}

static const char *THIS(_box_close)(void *cache)
{
    struct BOX *box = (struct BOX *)cache;

    while (box->list != NULL)
        THIS(_box_evict)(box); /* the last one takes the table with it */
    pthread_mutex_destroy(&box->mutex);
    free(box);
    return NULL;
}

static inline struct ENTRY *THIS(_box_use)(struct BOX *box, const ITEM_T *item,
                                           unsigned *hash)
{
    struct ENTRY *e;

    HASH_VALUE(KEY_OF(item), LENGTH_OF(item), *hash);
    HASH_FIND_BYHASHVALUE(hh, box->table, KEY_OF(item), LENGTH_OF(item), *hash,
                          e);
    if (e != NULL && e->next != NULL) {
        DL_DELETE(box->list, e);
        DL_APPEND(box->list, e);
    }
    return e;
}

static inline const VALUE_T *THIS(_box_find)(struct BOX *box,
                                             const ITEM_T *item, VALUE_T *space)
{
    unsigned hash;
    struct ENTRY *e = THIS(_box_use)(box, item, &hash);

    (void)space;
    return e ? &e->value : NULL;
}

static inline const VALUE_T *THIS(_box_add)(struct BOX *box, const ITEM_T *item,
                                            VALUE_T *space, bool *inserted)
{
    unsigned hash;
    struct ENTRY *e = THIS(_box_use)(box, item, &hash);

    (void)space;
    *inserted = e == NULL;
    if (e == NULL) {
        if (HASH_COUNT(box->table) >= box->capacity)
            THIS(_box_evict)(box);
        e = (struct ENTRY *)must(malloc(sizeof *e));
        memcpy(&e->key, KEY_OF(item), LENGTH_OF(item));
        ITS(_fill)(&e->value, item);
        HASH_ADD_BYHASHVALUE(hh, box->table, key, LENGTH_OF(item), hash, e);
        DL_APPEND(box->list, e);
    }
    return &e->value;
}

static inline bool THIS(_box_store)(struct BOX *box, const ITEM_T *item)
{
    bool inserted;
    VALUE_T *value =
        (VALUE_T *)(uintptr_t)THIS(_box_add)(box, item, NULL, &inserted);

    if (!inserted)
        ITS(_fill)(value, item);
    return true;
}

#include "loops.h"
#undef KEY
#undef KEY_OF
#undef LENGTH_OF
