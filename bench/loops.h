/*
 * loops.h - the timed loops, the same for every subject.  Included once for
 * each, after
 *
 *   #define KIND name    struct name_box and the functions below
 *   #define ITEM u64     or text: what its streams consist of
 *   #define MANY 32      if get is to be name_box_many of so many
 *
 *   const ITEM_value *name_box_find(struct name_box *, const ITEM_item *,
 *                                   ITEM_value *space)
 *   const ITEM_value *name_box_add(the same, bool *inserted)
 *   bool name_box_store(struct name_box *, const ITEM_item *)
 *   size_t name_box_many(struct name_box *, const ITEM_item *, size_t n,
 *                    const ITEM_value **out)
 *
 * `space` is room for a value, for caches that copy values out.  All are static
 * and inline.  It makes name_box_run and name_box_time (bench.h).
 *
 * SPDX-License-Identifier: MIT
 */
static struct outcome THIS(_box_look)(struct BOX *box, const ITEM_T *items,
                                      size_t n)
{
    struct outcome o = { 0, 0 };
#ifdef MANY
    const VALUE_T *values[MANY];

    for (size_t i = 0; i + MANY <= n; i += MANY) {
        o.hits += THIS(_box_many)(box, items + i, MANY, values);
        for (size_t j = 0; j < MANY; j++)
            o.wrong +=
                values[j] != NULL && ITS(_drift)(values[j], &items[i + j]) != 0;
    }
#else
    VALUE_T space;

    for (size_t i = 0; i < n; i++) {
        const VALUE_T *value = THIS(_box_find)(box, &items[i], &space);

        o.wrong += value != NULL && ITS(_drift)(value, &items[i]) != 0;
        o.hits += value != NULL;
    }
#endif
    return o;
}

/* The drift is 0, but the processor has to have the value to know, and so which
 * key comes next. */
static struct outcome THIS(_box_depend)(struct BOX *box, const ITEM_T *items,
                                        size_t n)
{
    struct outcome o = { 0, 0 };
    VALUE_T space;
    uint64_t drift = 0;

    for (size_t i = 0; i < n; i++) {
        const ITEM_T *item = &items[i ^ (drift & 1)];
        const VALUE_T *value = THIS(_box_find)(box, item, &space);

        if (value != NULL)
            drift = ITS(_drift)(value, item);
        o.wrong += drift;
        o.hits += value != NULL;
    }
    return o;
}

static struct outcome THIS(_box_get_or_insert)(struct BOX *box,
                                               const ITEM_T *items, size_t n)
{
    struct outcome o = { 0, 0 };
    VALUE_T space;
    bool inserted = false;

    for (size_t i = 0; i < n; i++) {
        const VALUE_T *value =
            THIS(_box_add)(box, &items[i], &space, &inserted);

        o.wrong += value == NULL || ITS(_drift)(value, &items[i]) != 0;
        o.hits += !inserted;
    }
    return o;
}

static inline bool THIS(_box_mixed_one)(struct BOX *box, size_t i,
                                        const ITEM_T *item, struct outcome *o)
{
    VALUE_T space;
    const VALUE_T *value;

    if (i % 20 == 0)
        return THIS(_box_store)(box, item);
    value = THIS(_box_find)(box, item, &space);
    o->hits += value != NULL;
    return value == NULL || ITS(_drift)(value, item) == 0;
}

static struct outcome THIS(_box_run)(void *cache, enum loop loop,
                                     const void *from, size_t n)
{
    struct BOX *box = (struct BOX *)cache;
    const ITEM_T *items = (const ITEM_T *)from;
    struct outcome o = { 0, 0 };

    switch (loop) {
    case LOOK: return THIS(_box_look)(box, items, n);
    case DEPEND: return THIS(_box_depend)(box, items, n);
    case ADD: return THIS(_box_get_or_insert)(box, items, n);
    case STORE:
        for (size_t i = 0; i < n; i++)
            o.wrong += !THIS(_box_store)(box, &items[i]);
        break;
    case MIXED:
        for (size_t i = 0; i < n; i++)
            o.wrong += !THIS(_box_mixed_one)(box, i, &items[i], &o);
        break;
    }
    return o;
}

/* An operation lasts from one reading of the clock to the next. */
static struct outcome THIS(_box_time)(void *cache, const void *from, size_t n,
                                      struct histogram *out)
{
    struct BOX *box = (struct BOX *)cache;
    const ITEM_T *items = (const ITEM_T *)from;
    struct outcome o = { 0, 0 };
    uint64_t then = clock_ns(CLOCK_MONOTONIC), now;

    for (size_t i = 0; i < n; i++) {
        o.wrong += !THIS(_box_mixed_one)(box, i, &items[i], &o);
        now = clock_ns(CLOCK_MONOTONIC);
        histogram_add(out, now - then);
        then = now;
    }
    return o;
}

#undef KIND
#undef ITEM
#undef MANY
