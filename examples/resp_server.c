/* resp_server.c - a cache server for clients of Redis: resp_server [PORT [MIB]].
 *
 * It speaks RESP2 and RESP3 on 127.0.0.1; port 0 is a free one, and is printed.
 * It has one database, of strings, and no disk: what does not fit is evicted.
 * A time to live ends up to TICK_MS early.
 *
 * What one read brings is parsed where it is; replies gather in one buffer.
 * While a client does not take them, nothing is run or read for it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <uv.h>

#include "cache.h"

enum {
    TICK_MS = 20,
    MAX_BUFFER = 128 << 20, /* bytes, for a command as for replies */
    MAX_BULK = 16 << 20,    /* bytes of an argument */
    MAX_ARGS = 4096,        /* and characters of a command that is a line */
    MAX_SCAN = 100,         /* entries that one SCAN looks at */
    MAX_GETS = 32,          /* of a pipeline, that are looked up together */
    SEND_AT = 64 << 10      /* bytes of replies that do not wait for others */
};

/* --- the cache: strings to strings, both its own ------------------------- */

static int copy(struct cache_bytes *bytes, void *user)
{
    char *data = malloc(bytes->len + 1); /* a zero behind it, for fnmatch */

    (void)user;
    if (data != NULL) {
        memcpy(data, bytes->data, bytes->len);
        data[bytes->len] = '\0';
    }
    bytes->data = data;
    return data ? 0 : CACHE_ENOMEM;
}

static void free_key(struct cache_bytes *key, void *user)
{
    (void)user;
    free((void *)key->data);
}

static void free_value(const struct cache_bytes *key, struct cache_bytes *value,
                       enum cache_cause cause, void *user)
{
    (void)key, (void)cause, (void)user;
    free((void *)value->data);
}

static uint64_t weigh(const struct cache_bytes *key,
                      const struct cache_bytes *value, void *user)
{
    (void)user;
    return key->len + value->len + 48; /* what malloc takes for both */
}

CACHE_DEFINE_WITH(strings, struct cache_bytes, struct cache_bytes,
                  cache_hash_bytes, cache_equal_bytes,
                  CACHE_EXPIRY | CACHE_WEIGHED | CACHE_STATS, .key_copy = copy,
                  .key_free = free_key, .on_remove = free_value,
                  .weigh = weigh);

static struct strings strings;
static uint64_t now_ms; /* its time */

/* --- clients and replies ------------------------------------------------- */

struct buffer {
    char *data;
    size_t len, size;
};

struct client {
    uv_tcp_t tcp;
    uv_write_t write; /* of all that is in `out` */
    struct buffer in, out;
    size_t at; /* in `in`: of the first command that was not run */
    bool resp3;
    bool failed; /* closed once `out` is sent */
};

static uv_loop_t loop;

/* The command that is run: its arguments are where they were read. */
static struct cache_bytes args[MAX_GETS + MAX_ARGS];
static size_t n_args;
static int64_t detail; /* what the table of commands says of it */

/* Adds n bytes to a buffer of a client, which fails if there is no room. */
static void append(struct client *c, struct buffer *b, const void *p, size_t n)
{
    if (b->len + n > b->size) {
        size_t size = 2 * (b->len + n) + 4096;
        char *data = size < MAX_BUFFER ? realloc(b->data, size) : NULL;
        c->failed |= data == NULL;
        if (data != NULL)
            *b = (struct buffer) { data, b->len, size };
    }
    if (!c->failed) {
        memcpy(b->data + b->len, p, n);
        b->len += n;
    }
}

static void empty(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer) { NULL, 0, 0 };
}

/* These return NULL, as a command does that has replied. */
static const char *line(struct client *c, const char *text)
{
    append(c, &c->out, text, strlen(text));
    append(c, &c->out, "\r\n", 2);
    return NULL;
}

/* A number (:), or how long a string ($) or an array (*) is. */
static const char *number(struct client *c, char kind, int64_t value)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%c%" PRId64, kind, value);
    return line(c, text);
}

/* Any bytes; NULL = there are none. */
static const char *string(struct client *c, const struct cache_bytes *bytes)
{
    if (bytes == NULL)
        return line(c, c->resp3 ? "_" : "$-1");
    (void)number(c, '$', (int64_t)bytes->len);
    append(c, &c->out, bytes->data, bytes->len);
    return line(c, "");
}

/* --- requests ------------------------------------------------------------ */

static bool is(struct cache_bytes bytes, const char *word)
{
    return bytes.len == strlen(word) &&
           strncasecmp(bytes.data, word, bytes.len) == 0;
}

static bool to_number(struct cache_bytes bytes, int64_t *value)
{
    const char *p = bytes.data, *end = p + bytes.len;
    int sign = bytes.len > 1 && *p == '-' ? -1 : 1;

    *value = 0;
    for (p += sign < 0; p < end; p++)
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, sign * (*p - '0'), value))
            return false;
    return bytes.len > 0;
}

enum { INCOMPLETE = -1, BROKEN = -2 }; /* instead of a number */

/* Takes out a line of `kind` and a number up to max. */
static int64_t parse_head(struct cache_bytes *in, char kind, int64_t max)
{
    size_t n = in->len < 16 ? in->len : 16;
    const char *p = in->data, *lf = memchr(p, '\n', n);
    struct cache_bytes digits;
    int64_t value;

    if (lf == NULL)
        return n < 16 ? INCOMPLETE : BROKEN;
    digits = (struct cache_bytes) { p + 1, (size_t)(lf - p) - 2 };
    if (*p != kind || lf[-1] != '\r' || !to_number(digits, &value) ||
        value < 0 || value > max)
        return BROKEN;
    *in = (struct cache_bytes) { lf + 1, in->len - (size_t)(lf + 1 - p) };
    return value;
}

/* Finds the arguments of the next command, and returns how many they are. */
static int64_t parse(struct client *c, struct cache_bytes *to)
{
    struct cache_bytes in = { c->in.data + c->at, c->in.len - c->at };
    const char *p = in.data, *word = p, *lf;
    int64_t i, len, n = 0;

    if (in.len == 0)
        return INCOMPLETE;
    if (*p != '*') { /* words between blanks, up to the end of the line */
        lf = memchr(p, '\n', in.len < MAX_ARGS ? in.len : MAX_ARGS);
        if (lf == NULL)
            return in.len < MAX_ARGS ? INCOMPLETE : BROKEN;
        for (; p <= lf; p++)
            if (memchr(" \t\r\n", *p, 4) != NULL) {
                if (p > word)
                    to[n++] = (struct cache_bytes) { word, (size_t)(p - word) };
                word = p + 1;
            }
        c->at += (size_t)(p - (const char *)in.data);
        return n;
    }
    n = parse_head(&in, '*', MAX_ARGS);
    for (i = 0; i < n; i++) {
        len = parse_head(&in, '$', MAX_BULK);
        if (len < 0 || (int64_t)in.len < len + 2)
            return len < 0 ? len : INCOMPLETE;
        to[i] = (struct cache_bytes) { in.data, (size_t)len };
        p = (const char *)in.data + len;
        if (memcmp(p, "\r\n", 2) != 0)
            return BROKEN;
        in = (struct cache_bytes) { p + 2, in.len - (size_t)len - 2 };
    }
    c->at = n < 0 ? c->at : c->in.len - in.len;
    return n;
}

/* --- commands: they return a line to be replied; NULL = they have replied -- */

static const char bad_number[] = "-ERR value is not an integer or out of range";

/* GET and MGET.  In a pipeline, the keys of the GETs that follow are looked up
 * with the first one's: the memory that they need is sent for together. */
static const char *get(struct client *c)
{
    const struct cache_bytes *values[MAX_ARGS];
    size_t i, n = n_args - 1, ends[MAX_GETS] = { c->at };
    bool many = detail != 0;

    if (many)
        (void)number(c, '*', (int64_t)n);
    while (!many && n < MAX_GETS && parse(c, args + n + 1) == 2 &&
           is(args[n + 1], "get")) {
        args[n + 1] = args[n + 2];
        ends[n++] = c->at;
    }
    (void)strings_get_many(&strings, args + 1, n, values);
    for (i = 0; i < n; i++)
        if (values[i] != NULL)
            __builtin_prefetch(values[i]->data);
    for (i = 0; i < n && (many || c->out.len < SEND_AT); i++)
        (void)string(c, values[i]);
    if (!many)
        c->at = ends[i - 1]; /* the others are run when these are sent */
    return NULL;
}

static const char *store(struct cache_bytes key, struct cache_bytes value,
                         uint64_t ttl_ms)
{
    if (copy(&value, NULL) == 0 &&
        strings_put_ttl(&strings, key, value,
                        ttl_ms < TICK_MS ? TICK_MS : ttl_ms) == 0)
        return "+OK";
    free((void *)value.data);
    return "-OOM too large, or for too long";
}

static const char *set(struct client *c)
{
    bool absent = false, present = false;
    int64_t ms = 0, unit;
    size_t i;

    for (i = 3; i < n_args; i++) {
        unit = is(args[i], "ex") ? 1000 : is(args[i], "px");
        if (is(args[i], "nx") && !present)
            absent = true;
        else if (is(args[i], "xx") && !absent)
            present = true;
        else if (unit == 0 || ms != 0 || ++i == n_args)
            return "-ERR syntax error";
        else if (!to_number(args[i], &ms) || ms <= 0 ||
                 __builtin_mul_overflow(ms, unit, &ms))
            return bad_number;
    }
    if ((absent || present) && strings_contains(&strings, args[1]) != present)
        return string(c, NULL);
    return store(args[1], args[2], ms ? (uint64_t)ms : CACHE_NEVER);
}

static const char *mset(struct client *c)
{
    const char *answer = n_args % 2 ? "+OK" : "-ERR wrong number of arguments";
    size_t i;

    (void)c;
    for (i = 1; i < n_args && *answer == '+'; i += 2)
        answer = store(args[i], args[i + 1], CACHE_NEVER);
    return answer;
}

/* INCR, INCRBY, DECR and DECRBY: the time to live stays. */
static const char *add(struct client *c)
{
    const struct cache_bytes *old = strings_peek(&strings, args[1]);
    struct cache_entry e = { .expires_ms = CACHE_NEVER };
    const char *answer;
    char text[24];
    int64_t n = 0, by = 1;

    if ((old != NULL && !to_number(*old, &n)) ||
        (n_args > 2 && !to_number(args[2], &by)) ||
        __builtin_mul_overflow(by, detail, &by) ||
        __builtin_add_overflow(n, by, &n))
        return bad_number;
    if (strings_entry(&strings, args[1], &e) == 0 &&
        e.expires_ms != CACHE_NEVER)
        e.expires_ms -= now_ms;
    (void)snprintf(text, sizeof text, "%" PRId64, n);
    answer = store(args[1], (struct cache_bytes) { text, strlen(text) },
                   e.expires_ms);
    return *answer == '+' ? number(c, ':', n) : answer;
}

/* DEL and EXISTS. */
static const char *count(struct client *c)
{
    int64_t n = 0;
    size_t i;

    for (i = 1; i < n_args; i++)
        n += detail ? strings_remove(&strings, args[i]) == 0
                    : strings_contains(&strings, args[i]);
    return number(c, ':', n);
}

static const char *expire(struct client *c)
{
    int64_t ms;
    int rc;

    if (!to_number(args[2], &ms) || __builtin_mul_overflow(ms, detail, &ms))
        return bad_number;
    rc = ms < TICK_MS ? strings_remove(&strings, args[1])
                      : strings_touch_ttl(&strings, args[1], (uint64_t)ms);
    return rc == CACHE_ETTL ? bad_number : number(c, ':', rc == 0);
}

static const char *ttl(struct client *c)
{
    struct cache_entry e;

    if (strings_entry(&strings, args[1], &e) != 0)
        return ":-2";
    if (e.expires_ms == CACHE_NEVER)
        return ":-1";
    return number(c, ':',
                  ((int64_t)(e.expires_ms - now_ms) + detail / 2) / detail);
}

/* An entry's slot stays while the entry does, so a scan, whose cursor is the
 * last slot that was looked at, does not miss what is there all the time. */
static const char *scan(struct client *c)
{
    struct strings_cursor at = { 0 };
    struct cache_bytes keys[MAX_SCAN];
    char text[256] = "*"; /* the pattern */
    size_t i, n = 0;
    int64_t cursor;

    if (!to_number(args[1], &cursor))
        return bad_number;
    for (i = 2; i + 1 < n_args; i += 2) /* COUNT is a hint that is not taken */
        if (is(args[i], "match"))
            (void)snprintf(text, sizeof text, "%.*s", (int)args[i + 1].len,
                           (const char *)args[i + 1].data);
    at.slot = (uint32_t)cursor;
    for (i = 0; i < MAX_SCAN && strings_next(&strings, &at); i++)
        if (fnmatch(text, at.key->data, 0) == 0)
            keys[n++] = *at.key;
    (void)snprintf(text, sizeof text, "%" PRIu32, at.slot);
    (void)line(c, "*2");
    (void)string(c, &(struct cache_bytes) { text, strlen(text) });
    (void)number(c, '*', (int64_t)n);
    for (i = 0; i < n; i++)
        (void)string(c, &keys[i]);
    return NULL;
}

static const char *info(struct client *c)
{
    struct cache_stats s;
    char text[256];

    (void)strings_stats(&strings, &s);
    (void)snprintf(text, sizeof text,
                   "redis_version:7.0.0\r\nkeyspace_hits:%" PRIu64
                   "\r\nkeyspace_misses:%" PRIu64 "\r\nevicted_keys:%" PRIu64
                   "\r\nexpired_keys:%" PRIu64 "\r\ndb0:keys=%" PRIu32 "\r\n",
                   s.hits, s.misses, s.evictions, s.expirations,
                   strings_len(&strings));
    return string(c, &(struct cache_bytes) { text, strlen(text) });
}

static const char *hello(struct client *c)
{
    int64_t version = c->resp3 ? 3 : 2;

    if (n_args > 1 && (!to_number(args[1], &version) || version / 2 != 1))
        return "-NOPROTO unsupported protocol version";
    c->resp3 = version == 3;
    (void)line(c, c->resp3 ? "%2" : "*4");
    (void)line(c, "$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto");
    return number(c, ':', version);
}

/* What clients send, and is nothing to do for here. */
static const char *nothing(struct client *c)
{
    (void)c;
    return detail == 0 ? "+PONG" : detail == 1 ? "+OK" : "*0";
}

/* How many arguments a command has, its name is one of them; -n = n or more. */
static const struct {
    const char *name;
    int arity;
    const char *(*run)(struct client *c);
    int64_t detail;
} commands[] = { { "get", 2, get, 0 },          { "set", -3, set, 0 },
                 { "mget", -2, get, 1 },        { "mset", -3, mset, 0 },
                 { "incr", 2, add, 1 },         { "decr", 2, add, -1 },
                 { "incrby", 3, add, 1 },       { "decrby", 3, add, -1 },
                 { "del", -2, count, 1 },       { "exists", -2, count, 0 },
                 { "expire", 3, expire, 1000 }, { "pexpire", 3, expire, 1 },
                 { "ttl", 2, ttl, 1000 },       { "pttl", 2, ttl, 1 },
                 { "scan", -2, scan, 0 },       { "info", -1, info, 0 },
                 { "hello", -1, hello, 0 },     { "ping", 1, nothing, 0 },
                 { "select", 2, nothing, 1 },   { "client", -2, nothing, 1 },
                 { "config", -2, nothing, 2 },  { "command", -1, nothing, 2 } };

static const char *run(struct client *c)
{
    size_t i = 0, n = sizeof commands / sizeof *commands;

    while (i < n && !is(args[0], commands[i].name))
        i++;
    if (i == n)
        return "-ERR unknown command";
    if (commands[i].arity > 0 ? n_args != (size_t)commands[i].arity
                              : n_args < (size_t)-commands[i].arity)
        return "-ERR wrong number of arguments";
    detail = commands[i].detail;
    return commands[i].run(c);
}

/* --- the loop ------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;

    empty(&c->in);
    empty(&c->out);
    free(c);
}

/* Only clients have data. */
static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, handle->data ? on_closed : NULL);
}

static void on_sent(uv_write_t *write, int status);

/* Runs what has come, until there is something to be sent. */
static void serve(struct client *c)
{
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    const char *answer;
    uv_buf_t buf;
    int64_t n = 0;

    now_ms = uv_now(&loop);
    (void)strings_tick(&strings, 16); /* takes out what has expired */
    while (n >= 0 && !c->failed && c->out.len < SEND_AT) {
        n = parse(c, args);
        n_args = n < 0 ? 0 : (size_t)n;
        answer = n > 0 ? run(c) : n == BROKEN ? "-ERR Protocol error" : NULL;
        if (answer != NULL)
            (void)line(c, answer);
        c->failed |= n == BROKEN;
    }
    if (n < 0 && c->at > 0) {
        c->in.len -= c->at;
        memmove(c->in.data, c->in.data + c->at, c->in.len);
        c->at = 0;
    }
    if (c->in.len == 0)
        empty(&c->in);
    buf = uv_buf_init(c->out.data, (unsigned)c->out.len);
    if (buf.len == 0 ? c->failed
                     : uv_write(&c->write, stream, &buf, 1, on_sent) != 0)
        close_handle((uv_handle_t *)stream, NULL);
    else if (n >= 0 || stream->write_queue_size > 0)
        (void)uv_read_stop(stream);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char bytes[64 << 10];

    (void)handle, (void)suggested;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

/* While replies are being sent, no more is read than what has just come. */
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;

    if (n > 0)
        append(c, &c->in, buf->base, (size_t)n);
    if (n < 0)
        close_handle((uv_handle_t *)stream, NULL);
    else if (c->out.len > 0)
        (void)uv_read_stop(stream);
    else
        serve(c);
}

static void on_sent(uv_write_t *write, int status)
{
    struct client *c = write->handle->data;

    empty(&c->out);
    (void)uv_read_start(write->handle, on_alloc, on_read);
    if (status == 0)
        serve(c);
    else
        close_handle((uv_handle_t *)write->handle, NULL);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *c = status < 0 ? NULL : calloc(1, sizeof *c);

    if (c == NULL)
        return;
    (void)uv_tcp_init(&loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        uv_tcp_nodelay(&c->tcp, 1) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        close_handle((uv_handle_t *)&c->tcp, NULL);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)handle, (void)signum;
    uv_walk(&loop, close_handle, NULL);
}

int main(int argc, char **argv)
{
    static uv_signal_t signals[2];
    static uv_tcp_t listener;
    unsigned long port = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned long mib = argc > 2 ? strtoul(argv[2], NULL, 10) : 256;
    struct cache_config config = { .capacity = mib << 13, /* of 128 bytes */
                                   .max_bytes = mib << 20,
                                   .tick_ms = TICK_MS,
                                   .now_ms = &now_ms };
    struct sockaddr_in in;
    struct sockaddr *address = (struct sockaddr *)&in;
    int rc, size = sizeof in;

    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 3 || port > 65535 || mib > 1 << 17 || uv_loop_init(&loop) != 0 ||
        strings_init(&strings, &config) != 0)
        return 2;
    (void)uv_signal_init(&loop, &signals[0]);
    (void)uv_signal_init(&loop, &signals[1]);
    (void)uv_signal_start(&signals[0], on_signal, SIGINT);
    (void)uv_signal_start(&signals[1], on_signal, SIGTERM);
    (void)uv_tcp_init(&loop, &listener);
    (void)uv_ip4_addr("127.0.0.1", (int)port, &in);
    rc = uv_tcp_bind(&listener, address, 0) != 0 ||
         uv_listen((uv_stream_t *)&listener, 511, on_connection) != 0 ||
         uv_tcp_getsockname(&listener, address, &size) != 0;
    if (rc != 0)
        uv_walk(&loop, close_handle, NULL);
    printf(rc ? "no port\n" : "port %d\n", ntohs(in.sin_port));
    (void)fflush(stdout);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    strings_destroy(&strings);
    return uv_loop_close(&loop) != 0 || rc != 0;
}
