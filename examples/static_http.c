/* static_http.c - a directory over HTTP/1.1, out of a cache limited in bytes:
 *     static_http directory [port]         on 127.0.0.1; 0 is any free port
 * A file is read once for all who ask, on a thread, is good for a second, and
 * then served stale while it is read anew.  It counts who uses it, the cache and
 * those who send it: a slow client gets all of what the cache has let go.
 * Left out: all but one GET for a connection (400), %-escapes, types, dates,
 * conditions, ranges, limits to how many clients there are and for how long. */
#include <fcntl.h>
#include <unistd.h>
#include "cache_async.h"

#define HEAD "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n"
#pragma GCC diagnostic ignored "-Wunused-parameter" /* of callbacks */

struct path {
    char name[256]; /* zeroes to the end: it is compared as bytes */
};
struct file {
    size_t n_users, n_bytes; /* users are counted on the loop's thread */
    char bytes[];
};

/* Called on a thread. */
static int file_load(const struct path *path, struct file **file,
                     struct cache_loaded *loaded, void *user)
{
    int fd = open(path->name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc = UV_EIO;
    struct stat st;
    *file = NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        rc = CACHE_EKEY; /* which is remembered, too */
    else if (st.st_size <= 8 << 20)
        *file = malloc(sizeof **file + (size_t)st.st_size);
    if (*file && read(fd, (*file)->bytes, (size_t)st.st_size) == st.st_size) {
        **file = (struct file) { .n_users = 1, .n_bytes = (size_t)st.st_size };
        rc = 0;
    }
    close(fd);
    if (rc != 0)
        free(*file);
    return rc;
}

static void file_drop(const struct path *path, struct file **file,
                      enum cache_cause cause, void *user)
{
    if (*file != NULL && --(*file)->n_users == 0)
        free(*file);
}

static uint64_t file_weigh(const struct path *path, struct file *const *file,
                           void *user)
{
    return sizeof **file + (*file)->n_bytes;
}

CACHE_STRUCT_KEY(path, struct path, 256);
CACHE_DEFINE_LOADING_WITH(files, struct path, struct file *, path_hash,
                          path_equal, CACHE_WEIGHED, .on_remove = file_drop,
                          .weigh = file_weigh, .load = file_load);
CACHE_ASYNC_DEFINE(files);
static struct files files;
static struct files_async async;

struct client {
    uv_tcp_t tcp;
    uv_write_t write;
    struct files_request req;
    struct file *file; /* that is sent, or NULL */
    size_t n_in;
    char in[8192], head[128];
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data); /* a client */
}

static void hang_up(uv_handle_t *handle, void *user)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void on_sent(uv_write_t *write, int status)
{
    struct client *c = write->data;
    file_drop(NULL, &c->file, CACHE_CAUSE_REMOVED, NULL);
    hang_up((uv_handle_t *)&c->tcp, NULL);
}

/* Sends a file, or what is wrong. */
static void answer(struct files_request *req, int status)
{
    struct client *c = req->data;
    uv_buf_t bufs[2] = { { c->head, 0 }, { NULL, 0 } };
    if (status >= 0) {
        c->file->n_users++;
        bufs[1] = uv_buf_init(c->file->bytes, (unsigned)c->file->n_bytes);
    } else {
        c->file = NULL;
    }
    bufs[0].len =
        (size_t)sprintf(c->head, HEAD,
                        status >= 0            ? "200 OK"
                        : status == CACHE_EKEY ? "404 Not Found"
                        : status == UV_EINVAL  ? "400 Bad Request"
                                               : "503 Service Unavailable",
                        bufs[1].len);
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs, 2, on_sent) != 0)
        on_sent(&c->write, UV_EIO);
}

static void on_alloc(uv_handle_t *tcp, size_t size, uv_buf_t *buf)
{
    struct client *c = tcp->data;
    *buf = uv_buf_init(c->in + c->n_in, (unsigned)(sizeof c->in - 1 - c->n_in));
}

/* Answers a request when all of it is there. */
static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = tcp->data;
    struct path path = { "." };
    char *in = c->in;
    int rc = UV_EINVAL;
    c->n_in += n > 0 ? (size_t)n : 0; /* what is behind are zeroes */
    if (!strstr(in, "\r\n\r\n") && n >= 0 && c->n_in < sizeof c->in - 1) {
        uv_read_start(tcp, on_alloc, on_read);
        return;
    }
    uv_read_stop(tcp);
    if (strstr(in, "\r\n\r\n") && strncmp(in, "GET /", 5) == 0 &&
        strcspn(in + 4, " ?\r") < 255) {
        memcpy(path.name + 1, in + 4, strcspn(in + 4, " ?\r"));
        rc = strstr(path.name, "/.") ? CACHE_EKEY : 0;
    }
    if (rc == 0)
        rc = files_fetch(&async, &c->req, path, &c->file, answer);
    if (rc != 0) /* it is known at once, and no callback comes */
        answer(&c->req, rc);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return;
    c->tcp.data = c->write.data = c->req.data = c;
    uv_tcp_init(server->loop, &c->tcp);
    on_read((uv_stream_t *)&c->tcp, uv_accept(server, (uv_stream_t *)&c->tcp),
            NULL);
}

static void on_cache_closed(struct cache_async *a, uint64_t n_lost)
{
    uv_walk(a->loop, hang_up, NULL); /* clients, too: none waits any more */
}

static void on_signal(uv_signal_t *handle, int number)
{
    cache_async_close(&async.base, on_cache_closed);
}

int main(int argc, char **argv)
{
    struct cache_loading_config config = {
        .cache = { .capacity = 10000, .max_bytes = 64 << 20 },
        .freshness = { .ttl_ms = 999, .stale_ms = 9999, .negative_ttl_ms = 999 }
    };
    struct cache_async_config threads = { .max_batch = 1, .n_workers = 4 };
    uv_loop_t *loop = uv_default_loop();
    static uv_signal_t signals[2];
    static uv_tcp_t server;
    struct sockaddr_in at;
    if (argc < 2)
        return puts("usage: static_http directory [port]") < 0;
    signal(SIGPIPE, SIG_IGN);
    uv_signal_init(loop, &signals[0]);
    uv_signal_start(&signals[0], on_signal, SIGINT);
    uv_signal_init(loop, &signals[1]);
    uv_signal_start(&signals[1], on_signal, SIGTERM);
    uv_tcp_init(loop, &server);
    uv_ip4_addr("127.0.0.1", argc > 2 ? atoi(argv[2]) : 0, &at);
    if (chdir(argv[1]) != 0 || files_init(&files, &config) != 0 ||
        files_async_init(&async, loop, &files, &threads, NULL) != 0 ||
        uv_tcp_bind(&server, (struct sockaddr *)&at, 0) != 0 ||
        uv_listen((uv_stream_t *)&server, 128, on_connection) != 0 ||
        uv_tcp_getsockname(&server, (struct sockaddr *)&at,
                           &(int) { sizeof at }))
        return 1;
    dprintf(1, "http://127.0.0.1:%d/\n", ntohs(at.sin_port));
    uv_run(loop, UV_RUN_DEFAULT);
    files_destroy(&files);
    return uv_loop_close(loop) != 0;
}
/* prints:
usage: static_http directory [port]
*/
