/* dns.c - addresses of host names: looked up once for all who ask, remembered
 * for a while, and kept for longer when no name server answers.
 *
 * The loader is ours: it starts a uv_getaddrinfo and ends the key when that
 * calls back.  getaddrinfo does not say how long an answer is good, so here it
 * is a minute for all.  It blocks a thread of libuv's pool; a program with many
 * slow look-ups sets UV_THREADPOOL_SIZE. */
#include <ctype.h>
#include <stdio.h>

#include "cache_async.h"

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct host {
    size_t n;
    union address addresses[8]; /* what is beyond is left out */
};

/* A name in the cache is its own: a client's may be gone by then. */
static int name_copy(const char **name, void *user)
{
    (void)user;
    *name = strdup(*name);
    return *name ? 0 : CACHE_ENOMEM;
}

static void name_free(const char **name, void *user)
{
    (void)user;
    free((void *)(uintptr_t)*name);
}

CACHE_DEFINE_LOADING_WITH(hosts, const char *, struct host, cache_hash_str,
                          cache_equal_str, 0, .key_copy = name_copy,
                          .key_free = name_free);
CACHE_ASYNC_DEFINE(hosts);

static struct hosts hosts;
static struct hosts_async async;

/* One load, on its way through libuv. */
struct lookup {
    uv_getaddrinfo_t req; /* first */
    struct hosts_batch *batch;
    size_t i; /* in the batch */
};

static void looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct lookup *lookup = (struct lookup *)req;
    struct host host = { 0 };
    struct addrinfo *at;

    for (at = list; status == 0 && at != NULL; at = at->ai_next)
        if (host.n < sizeof host.addresses / sizeof *host.addresses &&
            at->ai_addrlen <= sizeof *host.addresses)
            memcpy(&host.addresses[host.n++], at->ai_addr, at->ai_addrlen);
    if (status == UV_EAI_NONAME || status == UV_EAI_NODATA)
        status =
            CACHE_EKEY; /* of all else nobody knows: an old answer may do */
    if (status == 0)
        hosts_loaded(lookup->batch, lookup->i, host);
    else
        hosts_load_failed(lookup->batch, lookup->i, status);
    uv_freeaddrinfo(list);
    free(lookup);
}

/* Names below "invalid" need no asking (RFC 6761). */
static bool is_invalid(const char *name)
{
    const char *last = strrchr(name, '.');

    return strcmp(last ? last + 1 : name, "invalid") == 0;
}

static void look_up(struct hosts_async *a, struct hosts_batch *batch, size_t i)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct lookup *lookup;
    int rc = UV_ENOMEM;

    if (is_invalid(batch->keys[i])) {
        hosts_load_failed(batch, i, CACHE_EKEY);
        return;
    }
    lookup = malloc(sizeof *lookup);
    if (lookup != NULL) {
        lookup->batch = batch;
        lookup->i = i;
        rc = uv_getaddrinfo(a->base.loop, &lookup->req, looked_up,
                            batch->keys[i], NULL, &hints);
    }
    if (rc != 0) {
        free(lookup);
        hosts_load_failed(batch, i, rc);
    }
}

static const struct hosts_loader loader = { .load_one = look_up };

static const struct cache_loading_config config = {
    .cache = { .capacity = 10000 },
    .freshness = { .ttl_ms = 60000,
                   .refresh_pct = 90, /* what is in use is never missed */
                   .stale_if_error_ms = 3600000,
                   .negative_ttl_ms = 10000, /* there is no such name */
                   .error_ttl_ms = 1000 }    /* until we try again */
};

static const struct cache_async_config async_config = {
    .timeout_ms = 5000,             /* of a client; its look-up goes on */
    .close_timeout_ms = CACHE_NEVER /* look-ups cannot be cancelled */
};

struct client {
    struct hosts_request req;
    char name[254];
    struct host host;
    int status;
};

static void found(struct hosts_request *req, int status)
{
    ((struct client *)req->data)->status = status;
}

/* Names differ in more than case. */
static void ask(struct client *client, const char *name)
{
    size_t i, n = strlen(name);
    int rc = CACHE_EKEY;

    client->req.data = client;
    for (i = 0; i <= n && n < sizeof client->name; i++)
        client->name[i] = (char)tolower((unsigned char)name[i]);
    if (n < sizeof client->name) /* else it is too long for a name */
        rc = hosts_fetch(&async, &client->req, client->name, &client->host,
                         found);
    if (rc != 0) /* it is known at once, and `found` is not called later */
        found(&client->req, rc < 0 ? rc : client->req.base.status);
}

static void show(const struct client *client)
{
    char text[INET6_ADDRSTRLEN] = "unknown";

    if (client->status >= 0)
        uv_ip_name(&client->host.addresses[0].any, text, sizeof text);
    if (strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0)
        strcpy(text, "this machine");
    printf("%s: %s\n", client->name,
           client->status == CACHE_EKEY ? "there is no such name" : text);
}

int main(void)
{
    static const char *const names[] = { "localhost", "LocalHost",
                                         "192.0.2.7", "localhost",
                                         "::2",       "nobody.invalid" };
    static struct client clients[6];
    uv_loop_t *loop = uv_default_loop();
    int i;

    if (hosts_init(&hosts, &config) != 0 ||
        hosts_async_init(&async, loop, &hosts, &async_config, &loader) != 0)
        return 1;
    for (i = 0; i < 6; i++)
        ask(&clients[i], names[i]);
    uv_run(loop, UV_RUN_DEFAULT);
    for (i = 0; i < 6; i++)
        show(&clients[i]);
    printf("%d look-ups, joined by %d more\n", (int)async.base.stats.n_loads,
           (int)async.base.stats.n_joined);
    for (i = 0; i < 6; i++) /* all are known, or known not to be */
        ask(&clients[i], names[i]);
    printf("%d look-ups after as many questions again\n",
           (int)async.base.stats.n_loads);
    cache_async_close(&async.base, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    hosts_destroy(&hosts);
    return uv_loop_close(loop);
}

/* prints:
localhost: this machine
localhost: this machine
192.0.2.7: 192.0.2.7
localhost: this machine
::2: ::2
nobody.invalid: there is no such name
4 look-ups, joined by 2 more
4 look-ups after as many questions again
*/
