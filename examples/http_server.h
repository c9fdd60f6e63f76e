/* http_server.h - connections of a small HTTP/1.1 server on a libuv loop, for
 * static_http.c: one request of a client at a time, the next when it has its
 * answer; limits to what a client may send, how many there are and how long they
 * may do nothing.  No memory is allocated. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <uv.h>

#include "http.h"

enum {
    HTTP_MAX_HEAD = 8192,   /* bytes of a request */
    HTTP_MAX_CLIENTS = 500, /* more wait in the kernel */
    HTTP_IDLE_MS = 30000    /* for a request; for progress of an answer */
};

/* A connection.  Members but `request` are private. */
struct http_client {
    struct http_request request;
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct http_answer answer;
    uint64_t since_ms;   /* when it has last got on */
    size_t n_unsent;     /* then */
    size_t n_in, n_head; /* bytes in `in`; of these, the request's */
    bool is_open;
    bool waits;  /* for its answer */
    bool drains; /* what it sends is read, and that is all */
    char in[HTTP_MAX_HEAD + 1], head[512];
};

static struct {
    uv_tcp_t tcp;
    uv_timer_t ticker;
    bool is_full; /* somebody is to be accepted when there is room */
    /* Called for each request, which is to be answered once. */
    void (*on_request)(struct http_client *c);
    struct http_client clients[HTTP_MAX_CLIENTS];
} http_server;

static void http_next(struct http_client *c);
static void http_on_connection(uv_stream_t *server, int status);

static void http_on_closed(uv_handle_t *tcp)
{
    ((struct http_client *)tcp->data)->is_open = false;
    if (http_server.is_full && !uv_is_closing((uv_handle_t *)&http_server.tcp))
        http_on_connection((uv_stream_t *)&http_server.tcp, 0);
}

static void http_close(struct http_client *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, http_on_closed);
}

static void http_on_alloc(uv_handle_t *tcp, size_t size, uv_buf_t *buf)
{
    struct http_client *c = tcp->data;

    (void)size;
    *buf = uv_buf_init(c->in + c->n_in, (unsigned)(HTTP_MAX_HEAD - c->n_in));
}

static void http_on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    struct http_client *c = tcp->data;

    (void)buf;
    if (n < 0) {
        http_close(c);
    } else if (!c->drains) {
        c->n_in += (size_t)n;
        http_next(c);
    }
}

static void http_on_written(uv_write_t *write, int status)
{
    struct http_client *c = write->handle->data;

    if (c->answer.done)
        c->answer.done(c->answer.data);
    c->since_ms = uv_now(c->tcp.loop);
    c->n_in -= c->n_head;
    memmove(c->in, c->in + c->n_head, c->n_in);
    if (status != 0) {
        http_close(c);
    } else if (c->request.keep) {
        http_next(c);
    } else { /* closed at once, what it still sends would undo our answer */
        c->drains = true;
        uv_shutdown(&c->shutdown, write->handle, NULL);
        uv_read_start(write->handle, http_on_alloc, http_on_read);
    }
}

/* Answers a request. */
static void http_answer(struct http_client *c, const struct http_answer *answer)
{
    uv_buf_t bufs[2];

    c->answer = *answer;
    c->waits = false;
    c->since_ms = uv_now(c->tcp.loop);
    bufs[0] = uv_buf_init(c->head, (unsigned)http_print(c->head, sizeof c->head,
                                                        &c->request, answer));
    bufs[1] =
        uv_buf_init((char *)(uintptr_t)answer->body, (unsigned)answer->n_bytes);
    if (uv_is_closing((uv_handle_t *)&http_server.tcp) ||
        uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs,
                 http_has_body(&c->request, answer) ? 2 : 1,
                 http_on_written) != 0) {
        if (answer->done)
            answer->done(answer->data);
        http_close(c);
    }
}

/* Answers with nothing but a status. */
static void http_refuse(struct http_client *c, const char *status)
{
    const struct http_answer answer = { .status = status,
                                        .type = "text/plain",
                                        .fields = "Allow: GET, HEAD\r\n",
                                        .body = status,
                                        .n_bytes = strlen(status) };

    http_answer(c, &answer);
}

/* Begins with the next request when all of it is there. */
static void http_next(struct http_client *c)
{
    const char *refused = "400 Bad Request", *end;

    c->in[c->n_in] = '\0';
    c->n_head = c->n_in;
    end = strstr(c->in, "\r\n\r\n");
    if (end == NULL && c->n_in == strlen(c->in) && c->n_in < HTTP_MAX_HEAD) {
        uv_read_start((uv_stream_t *)&c->tcp, http_on_alloc, http_on_read);
        return;
    }
    uv_read_stop((uv_stream_t *)&c->tcp);
    memset(&c->request, 0, sizeof c->request);
    if (end != NULL) {
        c->n_head = (size_t)(end + 4 - c->in);
        c->in[c->n_head - 2] = '\0';
        refused = http_parse(&c->request, c->in);
    } else if (c->n_in == HTTP_MAX_HEAD) {
        refused = "431 Request Header Fields Too Large";
    }
    c->waits = true;
    if (refused)
        http_refuse(c, refused);
    else
        http_server.on_request(c);
}

static void http_on_connection(uv_stream_t *server, int status)
{
    struct http_client *c = http_server.clients;

    while (c < http_server.clients + HTTP_MAX_CLIENTS && c->is_open)
        c++;
    http_server.is_full = c == http_server.clients + HTTP_MAX_CLIENTS;
    if (status != 0 || http_server.is_full)
        return;
    memset(c, 0, sizeof *c);
    c->is_open = true;
    c->since_ms = uv_now(server->loop);
    uv_tcp_init(server->loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept(server, (uv_stream_t *)&c->tcp) == 0 &&
        uv_tcp_nodelay(&c->tcp, 1) == 0)
        http_next(c);
    else
        http_close(c);
}

static void http_on_tick(uv_timer_t *ticker)
{
    struct http_client *c = http_server.clients;

    for (; c < http_server.clients + HTTP_MAX_CLIENTS; c++) {
        size_t n = c->is_open ? c->tcp.write_queue_size : 0;

        if (n < c->n_unsent)
            c->since_ms = uv_now(ticker->loop);
        c->n_unsent = n;
        if (c->is_open && !c->waits &&
            uv_now(ticker->loop) - c->since_ms > HTTP_IDLE_MS)
            http_close(c);
    }
}

/* Listens on 127.0.0.1; *port = 0 becomes one that is free.  Returns 0 or
 * libuv's error. */
static int http_start(uv_loop_t *loop, int *port,
                      void (*on_request)(struct http_client *c))
{
    struct sockaddr_in address;
    int rc, size = sizeof address;

    http_server.on_request = on_request;
    uv_timer_init(loop, &http_server.ticker);
    uv_timer_start(&http_server.ticker, http_on_tick, 1000, 1000);
    uv_tcp_init(loop, &http_server.tcp);
    rc = uv_ip4_addr("127.0.0.1", *port, &address);
    if (rc == 0)
        rc = uv_tcp_bind(&http_server.tcp, (struct sockaddr *)&address, 0);
    if (rc == 0)
        rc =
            uv_listen((uv_stream_t *)&http_server.tcp, 128, http_on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&http_server.tcp, (struct sockaddr *)&address,
                                &size);
    *port = ntohs(address.sin_port);
    return rc;
}

/* Closes everything; who waits for an answer, when it is there. */
static void http_stop(void)
{
    struct http_client *c = http_server.clients;

    uv_close((uv_handle_t *)&http_server.ticker, NULL);
    uv_close((uv_handle_t *)&http_server.tcp, NULL);
    for (; c < http_server.clients + HTTP_MAX_CLIENTS; c++)
        if (c->is_open && !c->waits)
            http_close(c);
}

#endif /* HTTP_SERVER_H */
