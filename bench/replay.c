/*
 * replay.c - the main job: a recorded workload through an asynchronous cache
 * in front of a real SQLite file.
 *
 * The recording (workload.md) is what a software build asked the file system.
 * The SQLite file holds the state of every path, absence included.  64 clients
 * look paths up in the order of the recording: a look-up is a fetch that reads
 * through to SQLite, a change is a put that is written behind.  Each result is
 * compared with the recorded one, and at the end SQLite is read afresh: every
 * put must be there.
 *
 *   replay RECORDING [ENTRIES]
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <unistd.h>

#include "../cache_async.h"
#include "../codecs/cache_raw.h"
#include "../stores/cache_sqlite.h"
#include "filelog.h"

#define CLIENTS 64 /* look-ups under way at most */
#define STEP 256   /* events between two turns of the loop */
#define PRELOAD_BATCH 1000
#define DEFAULT_ENTRIES 1500 /* of 7,914 paths in the recording */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "\nreplay: %s: %s\n", what, why);
    exit(1);
}

static void check(int rc, const char *what)
{
    if (rc != 0)
        die(what, rc <= -5000 ? cache_strerror(rc) : uv_strerror(rc));
}

/* --- one policy's cache, behind functions that are the same for all ------ */

struct replay;
static void looked_up(struct replay *r, uint32_t client, int status);

struct subject {
    const char *policy;
    int (*open)(struct replay *r, const struct cache_loading_config *);
    int (*fetch)(uint32_t client, uint64_t key, struct file_meta *out);
    int (*put)(uint64_t key, struct file_meta meta);
    struct cache_async *(*async)(void);
    struct cache_memory (*memory)(struct cache_loading_stats *stats);
    void (*destroy)(void);
};

#define SUBJECT(name, POLICY)                                                  \
    CACHE_DEFINE_LOADING(name, uint64_t, struct file_meta, cache_hash_u64,     \
                         cache_equal_u64, POLICY | CACHE_STATS);               \
    CACHE_ASYNC_DEFINE(name);                                                  \
    static struct name name##_cache;                                           \
    static struct name##_async name##_half;                                    \
    static struct name##_request name##_requests[CLIENTS];                     \
    static void name##_looked_up(struct name##_request *req, int status)       \
    {                                                                          \
        looked_up((struct replay *)req->data,                                  \
                  (uint32_t)(req - name##_requests), status);                  \
    }                                                                          \
    static int name##_open(struct replay *r,                                   \
                           const struct cache_loading_config *config)          \
    {                                                                          \
        int rc = name##_init(&name##_cache, config), i;                        \
        for (i = 0; i < CLIENTS; i++)                                          \
            name##_requests[i].data = r;                                       \
        return rc ? rc                                                         \
                  : name##_async_init(&name##_half, uv_default_loop(),         \
                                      &name##_cache, NULL, NULL);              \
    }                                                                          \
    static int name##_look_up(uint32_t client, uint64_t key,                   \
                              struct file_meta *out)                           \
    {                                                                          \
        return name##_fetch(&name##_half, &name##_requests[client], key, out,  \
                            name##_looked_up);                                 \
    }                                                                          \
    static int name##_change(uint64_t key, struct file_meta meta)              \
    {                                                                          \
        return name##_async_put(&name##_half, key, meta);                      \
    }                                                                          \
    static struct cache_async *name##_base(void)                               \
    {                                                                          \
        return &name##_half.base;                                              \
    }                                                                          \
    static struct cache_memory name##_figures(                                 \
        struct cache_loading_stats *stats)                                     \
    {                                                                          \
        (void)name##_loading_stats(&name##_cache, stats);                      \
        return name##_memory(&name##_cache);                                   \
    }                                                                          \
    static void name##_end(void)                                               \
    {                                                                          \
        name##_destroy(&name##_cache);                                         \
    }                                                                          \
    static const struct subject name##_subject = {                             \
        #name,       name##_open,    name##_look_up, name##_change,            \
        name##_base, name##_figures, name##_end,                               \
    }

SUBJECT(fifo, CACHE_FIFO);
SUBJECT(lru, CACHE_LRU);
SUBJECT(sieve, CACHE_SIEVE);
SUBJECT(adaptive, CACHE_ADAPTIVE);

/* --- the replay ---------------------------------------------------------- */

/* One look-up under way. */
struct client {
    struct file_meta found; /* filled in by the cache */
    uint32_t event;
    uint64_t began_ns;
};

struct replay {
    const struct filelog *log;
    const struct subject *subject;
    uint32_t next_event;
    uint32_t waiting; /* look-ups that are loading */
    uint32_t idle[CLIENTS], n_idle;
    struct client clients[CLIENTS];
    uint32_t *state; /* per key: the metadata after the events so far */
    uint64_t *hit_ns, *miss_ns;
    uint32_t n_hits, n_misses;
    uint64_t n_lost;
    uv_idle_t stepper; /* active while there is something to ask */
};

static void verify_lookup(const struct replay *r, const struct client *client)
{
    struct file_meta expected =
        filelog_meta(r->log, r->log->event_meta[client->event]);

    if (memcmp(&expected, &client->found, sizeof expected) != 0)
        die("verification", "a look-up returned what was not recorded");
}

static void show_progress(const struct replay *r)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%-8s %3u %%", r->subject->policy,
                (uint32_t)(100.0 * r->next_event / r->log->n_events));
}

static void look_up(struct replay *r)
{
    uint32_t client = r->idle[--r->n_idle];
    struct client *c = &r->clients[client];
    int rc;

    c->event = r->next_event;
    c->began_ns = uv_hrtime();
    rc = r->subject->fetch(client, r->log->keys[filelog_key(r->log, c->event)],
                           &c->found);
    if (rc == 0) {
        r->waiting++;
        return;
    }
    if (rc != 1)
        check(rc, "fetch");
    r->hit_ns[r->n_hits++] = uv_hrtime() - c->began_ns;
    verify_lookup(r, c);
    r->idle[r->n_idle++] = client;
}

static void change(struct replay *r)
{
    uint32_t key = filelog_key(r->log, r->next_event);
    uint32_t meta = r->log->event_meta[r->next_event];

    r->state[key] = meta;
    check(r->subject->put(r->log->keys[key], filelog_meta(r->log, meta)),
          "put");
}

static void closed(struct cache_async *async, uint64_t n_lost)
{
    struct replay *r = (struct replay *)async->data;

    r->n_lost = n_lost;
    uv_close((uv_handle_t *)&r->stepper, NULL);
}

/* Replays events until all clients wait. */
static void step(uv_idle_t *handle)
{
    struct replay *r = (struct replay *)handle->data;
    uint32_t end = r->next_event + STEP;

    if (end > r->log->n_events)
        end = r->log->n_events;
    while (r->next_event < end) {
        bool is_lookup = filelog_op(r->log, r->next_event) == FILELOG_LOOKUP;

        /* A change waits until all look-ups before it are answered: only then
         * is it certain what those must find. */
        if (is_lookup ? r->n_idle == 0 : r->waiting > 0) {
            (void)uv_idle_stop(handle);
            return;
        }
        if (is_lookup)
            look_up(r);
        else
            change(r);
        r->next_event++;
        if (r->next_event % 65536 == 0)
            show_progress(r);
    }
    if (r->next_event < r->log->n_events)
        return;
    (void)uv_idle_stop(handle);
    if (r->waiting == 0)
        check(cache_async_close(r->subject->async(), closed), "close");
}

static void looked_up(struct replay *r, uint32_t client, int status)
{
    struct client *c = &r->clients[client];

    check(status, "look-up");
    r->miss_ns[r->n_misses++] = uv_hrtime() - c->began_ns;
    verify_lookup(r, c);
    r->idle[r->n_idle++] = client;
    r->waiting--;
    (void)uv_idle_start(&r->stepper, step);
}

/* --- the SQLite file before and after ------------------------------------ */

static void preloaded(struct cache_store_batch *batch)
{
    uv_sem_post((uv_sem_t *)batch->user);
}

/* Writes the state of every path before the first event. */
static void preload(struct cache_sqlite *db, struct replay *r)
{
    static struct cache_store_item items[PRELOAD_BATCH];
    static struct file_meta metas[PRELOAD_BATCH];
    struct cache_store_batch batch = { items, 0, preloaded, NULL, NULL };
    uint32_t i, first;
    uv_sem_t sem;

    for (i = 0; i < r->log->n_keys; i++)
        r->state[i] = FILELOG_ABSENT;
    for (i = 0; i < r->log->n_initial; i++)
        r->state[r->log->initial[i][0]] = r->log->initial[i][1];
    check(uv_sem_init(&sem, 0), "semaphore");
    batch.user = &sem;
    for (first = 0; first < r->log->n_keys; first += PRELOAD_BATCH) {
        for (i = 0; i < PRELOAD_BATCH && first + i < r->log->n_keys; i++) {
            memset(&items[i], 0, sizeof items[i]);
            metas[i] = filelog_meta(r->log, r->state[first + i]);
            items[i].op = CACHE_STORE_PUT;
            items[i].key.data = &r->log->keys[first + i];
            items[i].key.len = sizeof(uint64_t);
            items[i].value.data = &metas[i];
            items[i].value.len = sizeof metas[i];
            items[i].version = 1;
        }
        batch.n_items = i;
        check(db->store.submit(&db->store, &batch), "preload");
        uv_sem_wait(&sem);
        while (i-- > 0)
            check(items[i].status, "preload");
    }
    uv_sem_destroy(&sem);
}

/* Reads the file with a connection of its own and compares every path. */
static void verify_store(const struct replay *r, const char *path)
{
    sqlite3_stmt *get = NULL;
    sqlite3 *db = NULL;
    uint32_t key;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "SELECT v FROM cache WHERE k = ?", -1, &get,
                           NULL) != SQLITE_OK)
        die("verification", db ? sqlite3_errmsg(db) : "no memory");
    for (key = 0; key < r->log->n_keys; key++) {
        struct file_meta expected = filelog_meta(r->log, r->state[key]);

        (void)sqlite3_bind_blob(get, 1, &r->log->keys[key], 8, SQLITE_STATIC);
        if (sqlite3_step(get) != SQLITE_ROW ||
            sqlite3_column_bytes(get, 0) != (int)sizeof expected ||
            memcmp(sqlite3_column_blob(get, 0), &expected, sizeof expected) !=
                0)
            die("verification", "SQLite has not what was put last");
        (void)sqlite3_reset(get);
    }
    (void)sqlite3_finalize(get);
    (void)sqlite3_close(db);
}

/* --- the table ----------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The smallest time that this share of all is not above. */
static double percentile(uint64_t *ns, uint32_t n, double share)
{
    if (n == 0)
        return 0;
    qsort(ns, n, sizeof *ns, by_size);
    return (double)ns[(uint32_t)((n - 1) * share)];
}

static void print_head(const struct filelog *log, uint32_t n_lookups,
                       uint32_t entries)
{
    printf("%" PRIu32 " look-ups and %" PRIu32 " changes of %" PRIu32
           " paths; cache of %" PRIu32 " entries; %d clients\n\n",
           n_lookups, log->n_events - n_lookups, log->n_keys, entries, CLIENTS);
    printf("policy    hit ratio    loads  coalesced  batches    puts  rows   "
           "hit p50/p99 ns  miss p50/p99 us  bytes  seconds\n");
}

static void print_row(struct replay *r, uint32_t entries, uint64_t began_ns)
{
    const struct cache_async_stats *async = &r->subject->async()->stats;
    struct cache_wb_stats writes = cache_async_write_stats(r->subject->async());
    struct cache_loading_stats stats;
    struct cache_memory memory = r->subject->memory(&stats);
    double elapsed = (double)(uv_hrtime() - began_ns) / 1e9;

    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r               \r");
    printf("%-8s  %7.2f %%  %7" PRIu64 "  %9" PRIu64 "  %7" PRIu64 "  %6" PRIu64
           " %5" PRIu64 "    %5.0f / %5.0f   %6.1f / %6.1f"
           "  %5.1f  %7.2f\n",
           r->subject->policy,
           100.0 * (double)stats.cells.hits /
               (double)(stats.cells.hits + stats.misses),
           async->n_loads, async->n_joined, async->n_batches, writes.n_accepted,
           writes.n_stored, percentile(r->hit_ns, r->n_hits, 0.5),
           percentile(r->hit_ns, r->n_hits, 0.99),
           percentile(r->miss_ns, r->n_misses, 0.5) / 1e3,
           percentile(r->miss_ns, r->n_misses, 0.99) / 1e3,
           (double)memory.bookkeeping_bytes / entries, elapsed);
}

static void run(const struct filelog *log, const struct subject *subject,
                const char *directory, uint32_t entries)
{
    static struct cache_sqlite db;
    struct cache_sqlite_config db_config = { .path = NULL };
    struct cache_codec keys = cache_raw_object(sizeof(uint64_t));
    struct cache_codec values = cache_raw_object(sizeof(struct file_meta));
    struct cache_loading_config config = { .cache = { .capacity = entries },
                                           .reads = CACHE_READ_THROUGH,
                                           .writes = CACHE_WRITE_BEHIND,
                                           .store = &db.store,
                                           .key_codec = &keys,
                                           .value_codec = &values };
    struct replay *r = (struct replay *)calloc(1, sizeof *r);
    char path[512];
    uint64_t began_ns;

    if (r == NULL)
        die("memory", "none left");
    r->log = log;
    r->subject = subject;
    r->state = (uint32_t *)calloc(log->n_keys, sizeof *r->state);
    r->hit_ns = (uint64_t *)calloc(log->n_events, sizeof *r->hit_ns);
    r->miss_ns = (uint64_t *)calloc(log->n_events, sizeof *r->miss_ns);
    if (!r->state || !r->hit_ns || !r->miss_ns)
        die("memory", "none left");
    for (r->n_idle = 0; r->n_idle < CLIENTS; r->n_idle++)
        r->idle[r->n_idle] = r->n_idle;

    (void)snprintf(path, sizeof path, "%s/%s.db", directory, subject->policy);
    db_config.path = path;
    if (cache_sqlite_open(&db, &db_config) != 0)
        die(path, db.message);
    preload(&db, r);
    check(subject->open(r, &config), "init");
    subject->async()->data = r;
    (void)uv_idle_init(uv_default_loop(), &r->stepper);
    r->stepper.data = r;
    (void)uv_idle_start(&r->stepper, step);
    began_ns = uv_hrtime();
    (void)uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    if (r->n_lost != 0 || r->n_hits + r->n_misses == 0)
        die("close", "writes were lost");
    db.store.close(&db.store);
    verify_store(r, path);
    print_row(r, entries, began_ns);
    subject->destroy();
    free(r->state);
    free(r->hit_ns);
    free(r->miss_ns);
    free(r);
    (void)unlink(path);
}

int main(int argc, char **argv)
{
    static const struct subject *const subjects[] = {
        &fifo_subject, &lru_subject, &sieve_subject, &adaptive_subject
    };
    long entries = argc > 2 ? strtol(argv[2], NULL, 10) : DEFAULT_ENTRIES;
    const char *tmp = getenv("TMPDIR");
    char directory[400];
    struct filelog log;
    uint32_t n_lookups = 0, i;

    if (argc < 2 || entries < 1 || entries > 100000000) {
        fprintf(stderr, "usage: replay RECORDING [ENTRIES]\n");
        return 2;
    }
    if (!filelog_read(&log, argv[1]))
        die(argv[1], "not a whole recording");
    for (i = 0; i < log.n_events; i++)
        n_lookups += filelog_op(&log, i) == FILELOG_LOOKUP;
    (void)snprintf(directory, sizeof directory, "%s/cache-replay-XXXXXX",
                   tmp ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL)
        die(directory, "cannot be made");
    print_head(&log, n_lookups, (uint32_t)entries);
    for (i = 0; i < sizeof subjects / sizeof *subjects; i++)
        run(&log, subjects[i], directory, (uint32_t)entries);
    (void)rmdir(directory);
    check(uv_loop_close(uv_default_loop()), "loop");
    printf(
        "\nEvery look-up returned what was recorded. SQLite was read afresh: "
        "all %" PRIu32 " paths have\nthe value that was put last.\n",
        log.n_keys);
    printf("hit ratio: fetches answered at once; coalesced: misses that joined "
           "a load under way;\nbatches: load batches; puts: values written; "
           "rows: of these, written to SQLite;\nbytes: bookkeeping per entry, "
           "beside key and value.\n");
    filelog_free(&log);
    return 0;
}
