/*
 * glib_lru.h - the cache of peer_glib.c.  Included once for each, after KIND,
 * ITEM, KEY (the member), KEY_OF(item), LENGTH_OF(item), HASH and EQUAL.
 *
 * SPDX-License-Identifier: MIT
 */
struct ENTRY {
    KEY;
    VALUE_T value;
    GList link; /* its data is the entry */
};

struct BOX {
    GHashTable *table;
    GQueue list; /* the least recently used is last */
    size_t capacity;
};

static void *THIS(_box_open)(size_t entries)
{
    struct BOX *box = g_new0(struct BOX, 1);

    box->table = g_hash_table_new(HASH, EQUAL);
    g_queue_init(&box->list);
    box->capacity = entries;
    return box;
}

static void THIS(_box_evict)(struct BOX *box)
{
    struct ENTRY *oldest = (struct ENTRY *)box->list.tail->data;

    g_queue_unlink(&box->list, &oldest->link);
    g_hash_table_remove(box->table, &oldest->key);
    g_free(oldest);
}

static const char *THIS(_box_close)(void *cache)
{
    struct BOX *box = (struct BOX *)cache;

    while (box->list.tail != NULL)
        THIS(_box_evict)(box);
    g_hash_table_destroy(box->table);
    g_free(box);
    return NULL;
}

static inline struct ENTRY *THIS(_box_use)(struct BOX *box, const ITEM_T *item)
{
    struct ENTRY *e =
        (struct ENTRY *)g_hash_table_lookup(box->table, KEY_OF(item));

    if (e != NULL && e->link.prev != NULL) {
        g_queue_unlink(&box->list, &e->link);
        g_queue_push_head_link(&box->list, &e->link);
    }
    return e;
}

static inline const VALUE_T *THIS(_box_find)(struct BOX *box,
                                             const ITEM_T *item, VALUE_T *space)
{
    struct ENTRY *e = THIS(_box_use)(box, item);

    (void)space;
    return e ? &e->value : NULL;
}

static inline const VALUE_T *THIS(_box_add)(struct BOX *box, const ITEM_T *item,
                                            VALUE_T *space, bool *inserted)
{
    struct ENTRY *e = THIS(_box_use)(box, item);

    (void)space;
    *inserted = e == NULL;
    if (e == NULL) {
        if (box->list.length >= box->capacity)
            THIS(_box_evict)(box);
        e = g_new(struct ENTRY, 1);
        memcpy(&e->key, KEY_OF(item), LENGTH_OF(item));
        ITS(_fill)(&e->value, item);
        e->link = (GList) { e, NULL, NULL };
        g_hash_table_insert(box->table, &e->key, e);
        g_queue_push_head_link(&box->list, &e->link);
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
#undef HASH
#undef EQUAL
