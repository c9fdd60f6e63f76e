/*
 * resp_strings.h - the strings of resp_server.c: a cache of them, and the
 * commands on it.
 *
 * A time to live ends up to TICK_MS early, and one that is longer than the
 * cache's time, 2^32 ticks, does not end.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef RESP_STRINGS_H
#define RESP_STRINGS_H

#include <inttypes.h>
#include <uv.h>

#include "resp.h"

#define TICK_MS 20                 /* 2^32 of them are 2.7 years */
#define KEEP_TTL (CACHE_NEVER - 1) /* a time to live: the old value's */
#define MAX_BATCH 32               /* keys that are looked up at once */
#define MAX_SCAN 1000              /* entries that one SCAN looks at */

/* --- the cache: strings to strings, both its own ------------------------- */

static bool copy(struct cache_bytes *bytes)
{
    void *data = malloc(bytes->len + 1); /* never of 0 bytes */

    if (data == NULL)
        return false;
    memcpy(data, bytes->data, bytes->len);
    bytes->data = data;
    return true;
}

static int copy_key(struct cache_bytes *key, void *user)
{
    (void)user;
    return copy(key) ? 0 : CACHE_ENOMEM;
}

static void free_key(struct cache_bytes *key, void *user)
{
    (void)user;
    free((void *)key->data);
}

static void free_value(const struct cache_bytes *key, struct cache_bytes *value,
                       enum cache_cause cause, void *user)
{
    (void)key;
    (void)cause;
    (void)user;
    free((void *)value->data);
}

/* What malloc takes for a copy of n bytes. */
static uint64_t heap_bytes(size_t n)
{
    return n < 24 ? 32 : (n + 24) / 16 * 16;
}

static uint64_t weigh(const struct cache_bytes *key,
                      const struct cache_bytes *value, void *user)
{
    (void)user;
    return heap_bytes(key->len) + heap_bytes(value->len);
}

CACHE_DEFINE_WITH(strings, struct cache_bytes, struct cache_bytes,
                  cache_hash_bytes, cache_equal_bytes,
                  CACHE_EXPIRY | CACHE_WEIGHED | CACHE_STATS,
                  .key_copy = copy_key, .key_free = free_key,
                  .on_remove = free_value, .weigh = weigh);

static struct strings strings;
static uint64_t strings_now_ms; /* its time */

/* A new value for an entry that keeps its deadline. */
struct exchange {
    struct cache_bytes value;
    const void *old;
};

static int exchange(const struct cache_bytes *key, struct cache_bytes *value,
                    bool present, void *user)
{
    struct exchange *x = (struct exchange *)user;

    (void)key;
    x->old = present ? value->data : NULL;
    *value = x->value;
    return CACHE_COMPUTE_STORE;
}

/* Stores a copy of the value. */
static int store(struct cache_bytes key, struct cache_bytes value,
                 uint64_t ttl_ms)
{
    struct exchange x = { value, NULL };
    int rc;

    if (ttl_ms < TICK_MS) {
        strings_remove(&strings, key);
        return 0;
    }
    if (!copy(&x.value))
        return CACHE_ENOMEM;
    if (ttl_ms == KEEP_TTL)
        rc = strings_compute(&strings, key, exchange, &x);
    else
        rc = strings_put_ttl(&strings, key, x.value, ttl_ms);
    if (rc == CACHE_ETTL) /* its end is beyond that of the cache's time */
        rc = strings_put(&strings, key, x.value);
    free((void *)(rc == 0 ? x.old : x.value.data));
    return rc;
}

/* Answers only when the cache has refused. */
static bool accepted(struct resp *r, int rc)
{
    if (rc == CACHE_EFULL)
        resp_error(r, "OOM the value does not fit into the cache");
    else if (rc != 0)
        resp_error(r, "ERR %s", cache_strerror(rc));
    return rc == 0;
}

static bool number_arg(struct resp *r, size_t i, int64_t *number)
{
    bool ok = resp_to_number(resp_arg(r, i), number);

    if (!ok)
        resp_error(r, "ERR value is not an integer or out of range");
    return ok;
}

/* Argument i, in units of so many ms from now or from 1970, as a time to live;
 * 0 if that is over. */
static bool ttl_arg(struct resp *r, size_t i, int64_t unit, bool from_1970,
                    bool positive, uint64_t *ttl_ms)
{
    uv_timeval64_t now = { 0, 0 };
    int64_t n, ms;

    if (!number_arg(r, i, &n))
        return false;
    if (from_1970)
        uv_gettimeofday(&now);
    if ((positive && n <= 0) || __builtin_mul_overflow(n, unit, &ms)) {
        resp_error(r, "ERR invalid expire time in '%s' command",
                   r->command->name);
        return false;
    }
    ms -= ms > 0 ? now.tv_sec * 1000 + now.tv_usec / 1000 : 0;
    *ttl_ms = ms > 0 ? (uint64_t)ms : 0;
    return true;
}

/* --- commands: values ---------------------------------------------------- */

static struct cache_bytes key_of(const struct resp *r)
{
    return resp_arg(r, 1);
}

static void get_one(struct resp *r)
{
    resp_bytes(r, strings_get(&strings, key_of(r)));
}

/* Looks up many at once, whose memory is sent for together. */
static void get_many(struct resp *r, const struct cache_bytes *keys, size_t n)
{
    const struct cache_bytes *values[MAX_BATCH];
    size_t i;

    strings_get_many(&strings, keys, n, values);
    for (i = 0; i < n; i++)
        if (values[i] != NULL)
            __builtin_prefetch(values[i]->data);
    for (i = 0; i < n; i++)
        resp_bytes(r, values[i]);
}

/* And those that follow in a pipeline. */
static void get(struct resp *r)
{
    struct cache_bytes keys[MAX_BATCH];
    size_t n = 0;

    do
        keys[n++] = key_of(r);
    while (n < MAX_BATCH && resp_next_alike(r));
    get_many(r, keys, n);
}

static void mget(struct resp *r)
{
    struct cache_bytes keys[MAX_BATCH];
    size_t i = 1, n;

    resp_number(r, '*', (int64_t)r->n_args - 1);
    while (i < r->n_args) {
        for (n = 0; n < MAX_BATCH && i < r->n_args; n++)
            keys[n] = resp_arg(r, i++);
        get_many(r, keys, n);
    }
}

static void getdel(struct resp *r)
{
    get_one(r);
    strings_remove(&strings, key_of(r));
}

/* Stores argument 2; answers with the old value if `get_old`. */
static void set_value(struct resp *r, uint64_t ttl_ms, bool get_old)
{
    size_t n_replies = r->out.len;
    int rc;

    if (get_old)
        get_one(r);
    rc = store(key_of(r), resp_arg(r, 2), ttl_ms);
    if (rc != 0)
        r->out.len = n_replies;
    if (accepted(r, rc) && !get_old)
        resp_line(r, "+OK");
}

static void getset(struct resp *r)
{
    set_value(r, CACHE_NEVER, true);
}

static void set(struct resp *r)
{
    static const struct {
        const char *name;
        int64_t unit;
        bool from_1970;
    } times[] = { { "ex", 1000, false },
                  { "px", 1, false },
                  { "exat", 1000, true },
                  { "pxat", 1, true } };
    bool absent = false, present = false, get_old = false, timed = false;
    uint64_t ttl_ms = CACHE_NEVER;
    size_t i, t;

    for (i = 3; i < r->n_args; i++) {
        for (t = 0; t < 4 && !resp_is(r, i, times[t].name); t++)
            ;
        if (t < 4 && i + 1 < r->n_args && !timed) {
            if (!ttl_arg(r, ++i, times[t].unit, times[t].from_1970, true,
                         &ttl_ms))
                return;
            timed = true;
        } else if (resp_is(r, i, "keepttl") && (!timed || ttl_ms == KEEP_TTL)) {
            ttl_ms = KEEP_TTL;
            timed = true;
        } else if (resp_is(r, i, "nx") && !present) {
            absent = true;
        } else if (resp_is(r, i, "xx") && !absent) {
            present = true;
        } else if (resp_is(r, i, "get")) {
            get_old = true;
        } else {
            resp_error(r, "ERR syntax error");
            return;
        }
    }
    if ((absent || present) &&
        strings_contains(&strings, key_of(r)) != present) {
        if (get_old)
            get_one(r);
        else
            resp_bytes(r, NULL);
    } else {
        set_value(r, ttl_ms, get_old);
    }
}

static void mset(struct resp *r)
{
    size_t i;

    if (r->n_args % 2 == 0) {
        resp_error(r, "ERR wrong number of arguments for 'mset' command");
        return;
    }
    for (i = 1; i < r->n_args; i += 2)
        if (!accepted(r,
                      store(resp_arg(r, i), resp_arg(r, i + 1), CACHE_NEVER)))
            return;
    resp_line(r, "+OK");
}

static void append(struct resp *r)
{
    const struct cache_bytes *old = strings_peek(&strings, key_of(r));
    struct cache_bytes more = resp_arg(r, 2), all = { NULL, more.len };
    char *data;

    if (old != NULL)
        all.len += old->len;
    if (all.len > RESP_MAX_BULK) {
        resp_error(r, "ERR string exceeds maximum allowed size");
        return;
    }
    all.data = data = (char *)malloc(all.len + 1);
    if (data != NULL && old != NULL)
        memcpy(data, old->data, old->len);
    if (data != NULL)
        memcpy(data + all.len - more.len, more.data, more.len);
    if (accepted(r, data ? store(key_of(r), all, KEEP_TTL) : CACHE_ENOMEM))
        resp_number(r, ':', (int64_t)all.len);
    free(data);
}

/* INCR, DECR, INCRBY, DECRBY: `detail` is the sign. */
static void increase(struct resp *r)
{
    const struct cache_bytes *old = strings_peek(&strings, key_of(r));
    int64_t n = 0, by = 1, sign = r->command->detail;
    char text[32];
    int len;

    if (r->command->arity == 3 && !number_arg(r, 2, &by))
        return;
    if (old != NULL && !resp_to_number(*old, &n)) {
        resp_error(r, "ERR value is not an integer or out of range");
    } else if (sign > 0 ? __builtin_add_overflow(n, by, &n)
                        : __builtin_sub_overflow(n, by, &n)) {
        resp_error(r, "ERR increment or decrement would overflow");
    } else {
        len = snprintf(text, sizeof text, "%" PRId64, n);
        if (accepted(r, store(key_of(r),
                              (struct cache_bytes) { text, (size_t)len },
                              KEEP_TTL)))
            resp_number(r, ':', n);
    }
}

static void length(struct resp *r)
{
    const struct cache_bytes *value = strings_peek(&strings, key_of(r));

    resp_number(r, ':', value ? (int64_t)value->len : 0);
}

/* --- commands: keys ------------------------------------------------------ */

/* DEL and UNLINK; EXISTS without `detail`. */
static void count(struct resp *r)
{
    int64_t n = 0;
    size_t i;

    for (i = 1; i < r->n_args; i++)
        n += r->command->detail ? strings_remove(&strings, resp_arg(r, i)) == 0
                                : strings_contains(&strings, resp_arg(r, i));
    resp_number(r, ':', n);
}

static void type(struct resp *r)
{
    resp_line(r, strings_contains(&strings, key_of(r)) ? "+string" : "+none");
}

/* EXPIRE and PEXPIRE: `detail` is the unit. */
static void expire(struct resp *r)
{
    uint64_t ttl_ms;
    int rc;

    if (!ttl_arg(r, 2, r->command->detail, false, false, &ttl_ms))
        return;
    rc = ttl_ms < TICK_MS ? strings_remove(&strings, key_of(r))
                          : strings_touch_ttl(&strings, key_of(r), ttl_ms);
    if (rc == CACHE_ETTL)
        rc = strings_touch_ttl(&strings, key_of(r), CACHE_NEVER);
    resp_number(r, ':', rc == 0);
}

static void persist(struct resp *r)
{
    struct cache_entry entry;
    bool timed = strings_entry(&strings, key_of(r), &entry) == 0 &&
                 entry.expires_ms != CACHE_NEVER;

    if (timed)
        strings_touch_ttl(&strings, key_of(r), CACHE_NEVER);
    resp_number(r, ':', timed);
}

/* TTL and PTTL: `detail` is the unit. */
static void ttl(struct resp *r)
{
    int64_t unit = r->command->detail;
    struct cache_entry entry;

    if (strings_entry(&strings, key_of(r), &entry) != 0)
        resp_number(r, ':', -2);
    else if (entry.expires_ms == CACHE_NEVER)
        resp_number(r, ':', -1);
    else
        resp_number(r, ':',
                    ((int64_t)(entry.expires_ms - strings_now_ms) + unit / 2) /
                        unit);
}

/* An entry's slot stays while the entry does, so a scan, whose cursor is the
 * last slot that was looked at, does not miss what is there all the time. */
static void scan(struct resp *r)
{
    struct strings_cursor at = { 0 };
    struct cache_bytes pattern = { "*", 1 }, keys[MAX_SCAN];
    int64_t cursor, left = 10;
    size_t i, n = 0;
    char text[32];

    if (!resp_to_number(key_of(r), &cursor) || cursor < 0 ||
        cursor > UINT32_MAX) {
        resp_error(r, "ERR invalid cursor");
        return;
    }
    for (i = 2; i + 1 < r->n_args; i += 2) {
        if (resp_is(r, i, "match"))
            pattern = resp_arg(r, i + 1);
        else if (!resp_is(r, i, "count"))
            break;
        else if (!number_arg(r, i + 1, &left))
            return;
    }
    if (i < r->n_args || left < 1) {
        resp_error(r, "ERR syntax error");
        return;
    }
    at.slot = (uint32_t)cursor;
    left = left < MAX_SCAN ? left : MAX_SCAN;
    while (left-- > 0 && strings_next(&strings, &at))
        if (resp_matches(pattern, *at.key))
            keys[n++] = *at.key;
    snprintf(text, sizeof text, "%" PRIu32, at.slot);
    resp_line(r, "*2");
    resp_text(r, text);
    resp_number(r, '*', (int64_t)n);
    for (i = 0; i < n; i++)
        resp_bytes(r, &keys[i]);
}

static void flush(struct resp *r)
{
    if (r->n_args > 2 ||
        (r->n_args == 2 && !resp_is(r, 1, "async") && !resp_is(r, 1, "sync"))) {
        resp_error(r, "ERR syntax error");
        return;
    }
    strings_clear(&strings);
    resp_line(r, "+OK");
}

static void dbsize(struct resp *r)
{
    resp_number(r, ':', strings_len(&strings));
}

/* The table, to the end of the file. */
static const struct resp_command string_commands[] = {
    { "get", 2, get, 0 },          { "set", -3, set, 0 },
    { "append", 3, append, 0 },    { "decr", 2, increase, -1 },
    { "decrby", 3, increase, -1 }, { "del", -2, count, 1 },
    { "exists", -2, count, 0 },    { "expire", 3, expire, 1000 },
    { "dbsize", 1, dbsize, 0 },    { "flushall", -1, flush, 0 },
    { "flushdb", -1, flush, 0 },   { "getdel", 2, getdel, 0 },
    { "getset", 3, getset, 0 },    { "incr", 2, increase, 1 },
    { "incrby", 3, increase, 1 },  { "mget", -2, mget, 0 },
    { "mset", -3, mset, 0 },       { "persist", 2, persist, 0 },
    { "pexpire", 3, expire, 1 },   { "pttl", 2, ttl, 1 },
    { "scan", -2, scan, 0 },       { "strlen", 2, length, 0 },
    { "ttl", 2, ttl, 1000 },       { "type", 2, type, 0 },
    { "unlink", -2, count, 1 }
};

#endif /* RESP_STRINGS_H */
