/* static_http.c - the files of a directory over HTTP/1.1 (GET and HEAD), out of
 * a loading cache.
 *
 *     static_http directory [port]         on 127.0.0.1; 0 is any free port
 *
 * The cache is in files.h, HTTP in http_server.h and http.h.  Files larger than
 * MAX_FILE are refused (501), and requests with a body (413).  Names that begin
 * with a dot are not there; symbolic links are followed.  Left out: ranges,
 * compression, directories without an index.html. */
#include <signal.h>

#include "files.h"
#include "http_server.h"

static const char *root;
static struct files files;
static struct files_async async;
static uv_signal_t signals[2];

/* A request on its way: it may outlive the entry of its file in the cache. */
struct request {
    struct files_request req;
    struct http_client *client;
    struct file *file;
    char fields[128];
    char path[];
};

/* The client has its answer, or is gone. */
static void request_end(void *data)
{
    struct request *r = data;

    file_drop(r->file);
    free(r);
}

static void found(struct files_request *req, int status)
{
    struct request *r = req->data;
    struct http_answer answer = { .status = "200 OK" };

    if (status < 0) {
        http_refuse(r->client, status == CACHE_EKEY ? "404 Not Found"
                               : status == UV_EFBIG
                                   ? "501 Not Implemented"
                                   : "503 Service Unavailable");
        free(r);
        return;
    }
    r->file->n_users++;
    if (http_is_same(&r->client->request, r->file->etag, r->file->modified))
        answer.status = "304 Not Modified";
    snprintf(r->fields, sizeof r->fields, "ETag: %s\r\nLast-Modified: %s\r\n",
             r->file->etag, r->file->modified);
    answer.type = http_type(r->path);
    answer.fields = r->fields;
    answer.body = r->file->bytes;
    answer.n_bytes = r->file->n_bytes;
    answer.done = request_end;
    answer.data = r;
    http_answer(r->client, &answer);
}

static void on_request(struct http_client *client)
{
    const char *path = client->request.path;
    const char *index = path[strlen(path) - 1] == '/' ? "index.html" : "";
    size_t size = strlen(root) + strlen(path) + strlen(index) + 1;
    struct request *r = calloc(1, sizeof *r + size);
    int rc;

    if (r == NULL) {
        http_refuse(client, "503 Service Unavailable");
        return;
    }
    snprintf(r->path, size, "%s%s%s", root, path, index);
    r->client = client;
    r->req.data = r;
    rc = files_fetch(&async, &r->req, r->path, &r->file, found);
    if (rc != 0) /* it is known at once, and `found` is not called later */
        found(&r->req, rc);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    uv_close((uv_handle_t *)&signals[0], NULL);
    uv_close((uv_handle_t *)&signals[1], NULL);
    http_stop();
    cache_async_close(&async.base, NULL); /* tells those who wait */
}

int main(int argc, char **argv)
{
    uv_loop_t *loop = uv_default_loop();
    int rc, port = argc > 2 ? atoi(argv[2]) : 0;

    if (argc < 2) {
        printf("usage: static_http directory [port]\n");
        return 0;
    }
    root = argv[1];
    signal(SIGPIPE, SIG_IGN); /* a client that is gone is an error of write */
    rc = files_init(&files, &files_config);
    if (rc == 0)
        rc = files_async_init(&async, loop, &files, &files_async_config,
                              &files_loader);
    if (rc == 0)
        rc = http_start(loop, &port, on_request);
    if (rc != 0) {
        fprintf(stderr, "static_http: %s\n",
                rc <= CACHE_EINVAL ? cache_strerror(rc) : uv_strerror(rc));
        return 1;
    }
    uv_signal_init(loop, &signals[0]);
    uv_signal_init(loop, &signals[1]);
    uv_signal_start(&signals[0], on_signal, SIGINT);
    uv_signal_start(&signals[1], on_signal, SIGTERM);
    printf("http://127.0.0.1:%d/\n", port);
    fflush(stdout);
    uv_run(loop, UV_RUN_DEFAULT);
    files_destroy(&files);
    return uv_loop_close(loop) != 0;
}

/* prints:
usage: static_http directory [port]
*/
