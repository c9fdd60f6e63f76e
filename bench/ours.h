/*
 * ours.h - a type that CACHE_DEFINE made, as a subject (bench.h).  Included
 * once for each, after
 *
 *   #define KIND name
 *   #define ITEM u64        or text
 *   #define AS_KEY f        how an item becomes a key; without it, *item
 *   #define CONFIG x = y    a member of the config to set
 *   #define MANY 32         get is name_get_many of so many; items are keys
 *   #define HUGE_PAGES      config.huge_pages, which excludes our allocator
 *   #define SHARED          the type is one of CACHE_DEFINE_SHARED
 *   #define GET_THEN_PUT    instead of get_or_insert
 *
 * The allocator counts: name_memory() has to be what was allocated, and nothing
 * may be allocated after init.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef OURS_H
#define OURS_H

#include "bench.h"

struct meter {
    size_t bytes, calls;
};

static void *meter_alloc(size_t bytes, void *user)
{
    struct meter *meter = (struct meter *)user;

    meter->bytes += bytes;
    meter->calls++;
    return calloc(1, bytes);
}

static void meter_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

#endif

#ifndef AS_KEY
#define AS_KEY(item) (*(item))
#endif

struct BOX {
    struct KIND cache;
    struct meter meter;
    size_t payload; /* bytes of keys and values */
};

static void *THIS(_box_open)(size_t entries)
{
    struct BOX *box = (struct BOX *)must(calloc(1, sizeof(struct BOX)));
    struct cache_config config = { .capacity = entries,
                                   .alloc = meter_alloc,
                                   .free = meter_free,
                                   .user = &box->meter };

#ifdef CONFIG
    config.CONFIG;
#endif
#ifdef HUGE_PAGES
    config.huge_pages = true;
    config.alloc = NULL;
    config.free = NULL;
#endif
    box->payload = entries * (sizeof(THIS(_key)) + sizeof(THIS(_value)));
    if (THIS(_init)(&box->cache, &config) != 0)
        must(NULL);
    return box;
}

static const char *THIS(_box_close)(void *cache)
{
    struct BOX *box = (struct BOX *)cache;
    struct cache_memory memory = THIS(_memory)(&box->cache);
    const char *wrong = THIS(_check)(&box->cache);

#ifndef HUGE_PAGES
    if (wrong == NULL && box->meter.calls != 1)
        wrong = "it allocated after init";
    if (wrong == NULL && memory.total_bytes != box->meter.bytes)
        wrong = "name_memory() is not what was allocated";
#endif
    if (wrong == NULL &&
        memory.total_bytes - box->payload != memory.bookkeeping_bytes)
        wrong = "the bookkeeping is not what is neither key nor value";
    THIS(_destroy)(&box->cache);
    free(box);
    return wrong;
}

static inline bool THIS(_box_store)(struct BOX *box, const ITEM_T *item)
{
    VALUE_T value;

    ITS(_fill)(&value, item);
    return THIS(_put)(&box->cache, AS_KEY(item), value) == 0;
}

#ifdef SHARED

static inline const VALUE_T *THIS(_box_find)(struct BOX *box,
                                             const ITEM_T *item, VALUE_T *space)
{
    return THIS(_get)(&box->cache, AS_KEY(item), space) ? space : NULL;
}

static inline const VALUE_T *THIS(_box_add)(struct BOX *box, const ITEM_T *item,
                                            VALUE_T *space, bool *inserted)
{
    VALUE_T value;

    ITS(_fill)(&value, item);
    return THIS(_get_or_insert)(&box->cache, AS_KEY(item), value, space,
                                inserted) == 0
               ? space
               : NULL;
}

#else

static inline const VALUE_T *THIS(_box_find)(struct BOX *box,
                                             const ITEM_T *item, VALUE_T *space)
{
    (void)space;
    return THIS(_get)(&box->cache, AS_KEY(item));
}

static inline const VALUE_T *THIS(_box_add)(struct BOX *box, const ITEM_T *item,
                                            VALUE_T *space, bool *inserted)
{
#ifdef GET_THEN_PUT
    const VALUE_T *value = THIS(_get)(&box->cache, AS_KEY(item));

    *inserted = value == NULL;
    if (value != NULL)
        return value;
    ITS(_fill)(space, item);
    return THIS(_put)(&box->cache, AS_KEY(item), *space) == 0 ? space : NULL;
#else
    ITS(_fill)(space, item);
    return THIS(_get_or_insert)(&box->cache, AS_KEY(item), *space, inserted);
#endif
}

#endif

#ifdef MANY
static inline size_t THIS(_box_many)(struct BOX *box, const ITEM_T *items,
                                     size_t n, const VALUE_T **values)
{
    return THIS(_get_many)(&box->cache, items, n, values);
}
#endif

#include "loops.h"
#undef AS_KEY
#undef CONFIG
#undef HUGE_PAGES
