/* resp_server.c - a cache server on a libuv loop that speaks the protocol of
 * Redis, for redis-cli, redis-benchmark and client libraries.
 *
 *   resp_server [--port=N] [--bind=ADDRESS] [--memory=MIB]
 *
 * Port 0, the default, is a free one; the port is printed.  There is one
 * database, of strings (resp_strings.h), no password and no disk.  What does
 * not fit into the memory is evicted.
 *
 * What one read brings is parsed where it is (resp.h), and the replies to it
 * are sent by one write.  A client that does not take its replies is
 * disconnected.
 *
 * SPDX-License-Identifier: MIT
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#include "resp.h"
#include "resp_strings.h"

#define REDIS_VERSION "7.0.0" /* whose replies these are */
#define EXPIRY_MS 100         /* between two steps that reclaim the expired */
#define EXPIRY_NS 1000000     /* after which such a step ends */
#define SEND_AT 65536         /* bytes of replies that wait for no others */
#define MIN_READ 4096         /* bytes */
#define MIN_ENTRY 128         /* bytes of a small string and its key */

struct client {
    uv_tcp_t tcp;
    uv_write_t write;
    struct resp r;
    struct resp_buffer sending; /* what `write` has */
    uint64_t id;
    char name[64];
};

static struct {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t timer;
    uv_signal_t signals[2];
    struct resp_table table;
    uint64_t start_ms, max_bytes, n_commands, n_connections, n_clients;
    int port;
} server;

/* --- commands of the connection and the server --------------------------- */

static void ping(struct resp *r)
{
    struct cache_bytes text;

    if (r->n_args == 1) {
        resp_line(r, "+PONG");
        return;
    }
    text = resp_arg(r, 1);
    resp_bytes(r, &text);
}

static void quit(struct resp *r)
{
    r->state = RESP_ENDED;
    resp_line(r, "+OK");
}

static void auth(struct resp *r)
{
    resp_error(r, "ERR there is no password to be given");
}

static void select_database(struct resp *r)
{
    if (resp_is(r, 1, "0"))
        resp_line(r, "+OK");
    else
        resp_error(r, "ERR DB index is out of range");
}

/* Argument i becomes the client's name. */
static bool set_name(struct resp *r, size_t i)
{
    struct client *c = (struct client *)r->data;
    struct cache_bytes name = resp_arg(r, i);

    if (name.len >= sizeof c->name)
        return false;
    memcpy(c->name, name.data, name.len);
    c->name[name.len] = '\0';
    return true;
}

static void hello(struct resp *r)
{
    int64_t version = r->resp3 ? 3 : 2;
    size_t i;

    if (r->n_args > 1 && (!resp_to_number(resp_arg(r, 1), &version) ||
                          version < 2 || version > 3)) {
        resp_error(r, "NOPROTO unsupported protocol version");
        return;
    }
    for (i = 2; i < r->n_args; i += 2) {
        if (i + 1 == r->n_args || !resp_is(r, i, "setname") ||
            !set_name(r, i + 1)) {
            resp_error(r, "ERR syntax error in HELLO");
            return;
        }
    }
    r->resp3 = version == 3;
    resp_map(r, 5);
    resp_text(r, "server");
    resp_text(r, "redis"); /* which is what clients expect */
    resp_text(r, "version");
    resp_text(r, REDIS_VERSION);
    resp_text(r, "proto");
    resp_number(r, ':', version);
    resp_text(r, "id");
    resp_number(r, ':', (int64_t)((struct client *)r->data)->id);
    resp_text(r, "mode");
    resp_text(r, "standalone");
}

static void unknown_subcommand(struct resp *r)
{
    resp_error(r, "ERR unknown subcommand or wrong number of arguments for %s",
               r->command->name);
}

static void client(struct resp *r)
{
    struct client *c = (struct client *)r->data;

    if (resp_is(r, 1, "id") && r->n_args == 2)
        resp_number(r, ':', (int64_t)c->id);
    else if (resp_is(r, 1, "getname") && r->n_args == 2)
        resp_bytes(r, *c->name
                          ? &(struct cache_bytes) { c->name, strlen(c->name) }
                          : NULL);
    else if (resp_is(r, 1, "setname") && r->n_args == 3 && !set_name(r, 2))
        resp_error(r, "ERR the name is too long");
    else if ((resp_is(r, 1, "setname") && r->n_args == 3) ||
             (resp_is(r, 1, "setinfo") && r->n_args == 4))
        resp_line(r, "+OK");
    else
        unknown_subcommand(r);
}

static void command(struct resp *r)
{
    if (r->n_args == 2 && resp_is(r, 1, "count"))
        resp_number(r, ':', server.table.n);
    else if (r->n_args > 1 && resp_is(r, 1, "docs"))
        resp_map(r, 0);
    else
        resp_number(r, '*', 0); /* redis-cli then completes no names */
}

static bool config_wants(const struct resp *r, const char *name)
{
    struct cache_bytes text = { name, strlen(name) };
    size_t i;

    for (i = 2; i < r->n_args; i++)
        if (resp_matches(resp_arg(r, i), text))
            return true;
    return false;
}

static void config(struct resp *r)
{
    char max_bytes[32];
    const char *const values[][2] = { { "appendonly", "no" },
                                      { "save", "" },
                                      { "maxmemory", max_bytes } };
    int i, n = 0;

    if (resp_is(r, 1, "set")) {
        resp_error(r, "ERR nothing can be set");
        return;
    }
    if (!resp_is(r, 1, "get") || r->n_args < 3) {
        unknown_subcommand(r);
        return;
    }
    snprintf(max_bytes, sizeof max_bytes, "%" PRIu64, server.max_bytes);
    for (i = 0; i < 3; i++)
        n += config_wants(r, values[i][0]);
    resp_map(r, n);
    for (i = 0; i < 3; i++) {
        if (!config_wants(r, values[i][0]))
            continue;
        resp_text(r, values[i][0]);
        resp_text(r, values[i][1]);
    }
}

static void info(struct resp *r)
{
    struct cache_memory memory = strings_memory(&strings);
    struct cache_stats stats;
    char text[1024];

    strings_stats(&strings, &stats);
    snprintf(text, sizeof text,
             "# Server\r\nredis_version:" REDIS_VERSION "\r\n"
             "redis_mode:standalone\r\nprocess_id:%d\r\ntcp_port:%d\r\n"
             "uptime_in_seconds:%" PRIu64 "\r\n"
             "# Clients\r\nconnected_clients:%" PRIu64 "\r\n"
             "# Memory\r\nused_memory:%" PRIu64 "\r\n"
             "used_memory_human:%.2fM\r\nmaxmemory:%" PRIu64 "\r\n"
             "# Stats\r\ntotal_connections_received:%" PRIu64 "\r\n"
             "total_commands_processed:%" PRIu64 "\r\n"
             "keyspace_hits:%" PRIu64 "\r\nkeyspace_misses:%" PRIu64 "\r\n"
             "expired_keys:%" PRIu64 "\r\nevicted_keys:%" PRIu64 "\r\n"
             "# Keyspace\r\ndb0:keys=%" PRIu32 ",avg_ttl=0\r\n",
             (int)getpid(), server.port,
             (strings_now_ms - server.start_ms) / 1000, server.n_clients,
             memory.used_bytes, (double)memory.used_bytes / 1048576,
             server.max_bytes, server.n_connections, server.n_commands,
             stats.hits, stats.misses, stats.expirations, stats.evictions,
             strings_len(&strings));
    resp_text(r, text);
}

static const struct resp_command server_commands[] = {
    { "ping", -1, ping, 0 },       { "echo", 2, ping, 0 },
    { "quit", -1, quit, 0 },       { "hello", -1, hello, 0 },
    { "auth", -2, auth, 0 },       { "select", 2, select_database, 0 },
    { "client", -2, client, 0 },   { "config", -2, config, 0 },
    { "command", -1, command, 0 }, { "info", -1, info, 0 }
};

/* --- connections --------------------------------------------------------- */

static void free_client(uv_handle_t *handle)
{
    struct client *c = (struct client *)handle->data;

    resp_free(&c->r);
    resp_drop(&c->sending);
    free(c);
    server.n_clients--;
}

static void close_client(struct client *c)
{
    c->r.state = RESP_DROPPED; /* what else it asked for is not done */
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, free_client);
}

static void send_replies(struct client *c);

static void on_sent(uv_write_t *write, int status)
{
    struct client *c = (struct client *)write->data;

    resp_drop(&c->sending);
    c->r.unsent = 0;
    if (status < 0)
        close_client(c);
    else
        send_replies(c);
}

/* What the socket does not take at once waits, and replies that come meanwhile
 * wait behind it.  A connection that has ended is closed when all is sent. */
static void send_replies(struct client *c)
{
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    struct resp_buffer *out = &c->r.out;
    uv_buf_t buf = uv_buf_init(out->data, (unsigned)out->len);
    int n = 0;

    if (uv_is_closing((uv_handle_t *)stream))
        return;
    if (c->r.state == RESP_DROPPED) {
        close_client(c);
        return;
    }
    if (c->r.unsent == 0 && out->len > 0) {
        n = uv_try_write(stream, &buf, 1);
        if (n < 0 && n != UV_EAGAIN) {
            close_client(c);
            return;
        }
        n = n < 0 ? 0 : n;
        if ((size_t)n == out->len) {
            resp_consume(out, out->len);
        } else {
            c->r.unsent = out->len - (size_t)n;
            buf = uv_buf_init(out->data + n, (unsigned)c->r.unsent);
            c->sending = *out;
            *out = (struct resp_buffer) { 0 };
            c->write.data = c;
            if (uv_write(&c->write, stream, &buf, 1, on_sent) != 0)
                close_client(c);
            return;
        }
    }
    if (c->r.state == RESP_ENDED && c->r.unsent == 0)
        close_client(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = (struct client *)handle->data;
    struct resp_buffer *in = &c->r.in;

    (void)suggested;
    if (resp_room(in, MIN_READ) == NULL)
        *buf = uv_buf_init(NULL, 0); /* on_read has UV_ENOBUFS */
    else
        *buf = uv_buf_init(in->data + in->len, (unsigned)(in->size - in->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = (struct client *)stream->data;
    struct resp *r = &c->r;

    (void)buf;
    if (n < 0) {
        close_client(c);
        return;
    }
    resp_received(r, (size_t)n);
    strings_now_ms = uv_now(&server.loop);
    while (resp_next(r) > 0) {
        resp_run(r, &server.table);
        if (r->out.len >= SEND_AT)
            send_replies(c);
    }
    resp_end(r);
    server.n_commands += r->n_commands;
    r->n_commands = 0;
    send_replies(c);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *c =
        status < 0 ? NULL : (struct client *)calloc(1, sizeof *c);

    if (c == NULL)
        return;
    uv_tcp_init(&server.loop, &c->tcp);
    c->tcp.data = c;
    c->r.data = c;
    c->id = ++server.n_connections;
    server.n_clients++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        uv_tcp_nodelay(&c->tcp, 1) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        close_client(c);
}

/* --- the loop ------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    uint64_t start = uv_hrtime();

    (void)timer;
    strings_now_ms = uv_now(&server.loop);
    while (strings_tick(&strings, 256) > 0 && uv_hrtime() - start < EXPIRY_NS)
        ;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, handle->data ? free_client : NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    uv_walk(&server.loop, close_handle, NULL);
}

static int start(const char *address, int port)
{
    struct sockaddr_storage bound = { 0 };
    struct sockaddr *any = (struct sockaddr *)&bound;
    int rc, size = sizeof bound;

    uv_tcp_init(&server.loop, &server.listener);
    uv_timer_init(&server.loop, &server.timer);
    uv_timer_start(&server.timer, on_timer, EXPIRY_MS, EXPIRY_MS);
    uv_signal_init(&server.loop, &server.signals[0]);
    uv_signal_start(&server.signals[0], on_signal, SIGINT);
    uv_signal_init(&server.loop, &server.signals[1]);
    uv_signal_start(&server.signals[1], on_signal, SIGTERM);
    rc = uv_ip4_addr(address, port, (struct sockaddr_in *)any);
    if (rc != 0)
        rc = uv_ip6_addr(address, port, (struct sockaddr_in6 *)any);
    if (rc == 0)
        rc = uv_tcp_bind(&server.listener, any, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&server.listener, 511, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&server.listener, any, &size);
    /* The port stands at the same place in both kinds of address. */
    server.port = ntohs(((struct sockaddr_in *)any)->sin_port);
    return rc;
}

/* A cache of this size, with as many entries as there can be of the smallest. */
static int make_cache(void)
{
    struct cache_config config = { .max_bytes = server.max_bytes,
                                   .tick_ms = TICK_MS,
                                   .now_ms = &strings_now_ms };
    uint64_t n = server.max_bytes / MIN_ENTRY;

    config.capacity = n < CACHE_MAX_CAPACITY ? n : CACHE_MAX_CAPACITY;
    server.start_ms = strings_now_ms = uv_now(&server.loop);
    return strings_init(&strings, &config);
}

static int usage(void)
{
    fprintf(stderr, "resp_server [--port=N] [--bind=ADDRESS] [--memory=MIB]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "port", required_argument, NULL, 'p' },
        { "bind", required_argument, NULL, 'b' },
        { "memory", required_argument, NULL, 'm' },
        { NULL, 0, NULL, 0 }
    };
    const char *address = "127.0.0.1";
    int64_t port = 0, memory = 256;
    int option, rc;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        struct cache_bytes text = { optarg, optarg ? strlen(optarg) : 0 };
        if (option == 'b')
            address = optarg;
        else if ((option != 'p' && option != 'm') ||
                 !resp_to_number(text, option == 'p' ? &port : &memory))
            return usage();
    }
    if (optind < argc || port < 0 || port > 65535 || memory < 1 ||
        memory > INT64_MAX >> 20)
        return usage();
    server.max_bytes = (uint64_t)memory << 20;

    signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&server.loop) != 0)
        return 1;
    rc = make_cache();
    if (rc != 0) {
        fprintf(stderr, "%s\n", cache_strerror(rc));
        return 1;
    }
    resp_add(&server.table, string_commands,
             sizeof string_commands / sizeof *string_commands);
    resp_add(&server.table, server_commands,
             sizeof server_commands / sizeof *server_commands);
    rc = start(address, (int)port);
    if (rc == 0) {
        printf("port %d\n", server.port);
        fflush(stdout);
    } else {
        fprintf(stderr, "%s: %s\n", address, uv_strerror(rc));
        uv_walk(&server.loop, close_handle, NULL);
    }
    uv_run(&server.loop, UV_RUN_DEFAULT);
    strings_destroy(&strings);
    return uv_loop_close(&server.loop) != 0 || rc != 0;
}
