/* nested.c - a nested query over SQLite: each post asks for its author, each
 * author for its team, one by one; a view makes one batch of every level. */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>

#include "util/cache_dataloader.h"

enum { MAX_BATCH = 100 };

/* A row of any of the tables: what it is called, and the row above it. */
struct row {
    char name[24];
    uint64_t above;
};

/* The loader of a cache: `user` is its table.  It runs on a thread. */
struct table {
    sqlite3 *db;
    const char *name;
    int n_batches;
};

static void load_rows(const uint64_t *ids, struct row *rows,
                      struct cache_loaded *loaded, size_t n, void *user)
{
    struct table *table = user;
    sqlite3_stmt *stmt = NULL;
    char sql[100 + 21 * MAX_BATCH];
    int len;
    size_t i;

    len = snprintf(sql, sizeof sql,
                   "SELECT id, name, above FROM %s WHERE id IN (", table->name);
    for (i = 0; i < n; i++)
        len += snprintf(sql + len, sizeof sql - (size_t)len, "%s%" PRIu64,
                        i ? "," : "", ids[i]);
    (void)snprintf(sql + len, sizeof sql - (size_t)len, ")");
    table->n_batches++;
    len = sqlite3_prepare_v2(table->db, sql, -1, &stmt, NULL);
    for (i = 0; i < n; i++)
        loaded[i].status = len == SQLITE_OK ? CACHE_EKEY : CACHE_ESTORE;
    while (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW)
        for (i = 0; i < n; i++) {
            if (ids[i] != (uint64_t)sqlite3_column_int64(stmt, 0))
                continue;
            (void)snprintf(rows[i].name, sizeof rows[i].name, "%s",
                           (const char *)sqlite3_column_text(stmt, 1));
            rows[i].above = (uint64_t)sqlite3_column_int64(stmt, 2);
            loaded[i].status = 0;
        }
    (void)sqlite3_finalize(stmt);
}

CACHE_DEFINE_LOADING_WITH(rows, uint64_t, struct row, cache_hash_u64,
                          cache_equal_u64, 0, .load_many = load_rows);
CACHE_ASYNC_DEFINE(rows);
CACHE_DATALOADER_DEFINE(view, rows);

enum { POSTS, AUTHORS, TEAMS, LEVELS };

static struct table tables[LEVELS] = { { NULL, "posts", 0 },
                                       { NULL, "authors", 0 },
                                       { NULL, "teams", 0 } };
static struct rows caches[LEVELS];
static struct rows_async halves[LEVELS];

/* One request of a client: "these posts, their authors, their teams". */
enum { N_POSTS = 6 };

struct query {
    struct view views[LEVELS];
    struct field {
        struct view_request req;
        struct query *query;
        int level;
        const struct row *path[LEVELS];
    } fields[N_POSTS];
    int n_left;
};

static void resolve(struct field *field, uint64_t id);

static void resolved(struct field *field, const struct row *row)
{
    struct query *query = field->query;

    field->path[field->level++] = row;
    if (row != NULL && field->level < LEVELS) {
        resolve(field, row->above);
        return;
    }
    if (--query->n_left == 0) /* the last one: answer, and forget */
        for (int i = 0; i < N_POSTS; i++) {
            const struct row **path = query->fields[i].path;

            printf("%s, by %s of %s\n", path[POSTS] ? path[POSTS]->name : "?",
                   path[AUTHORS] ? path[AUTHORS]->name : "?",
                   path[TEAMS] ? path[TEAMS]->name : "?");
        }
}

static void loaded(struct view_request *req, int status, const struct row *row)
{
    (void)status;
    resolved(req->data, row);
}

static void resolve(struct field *field, uint64_t id)
{
    const struct row *row = NULL;
    int rc = view_load(&field->query->views[field->level], &field->req, id,
                       &row, loaded);

    if (rc != 0)
        resolved(field, rc == 1 ? row : NULL);
}

static void run_query(struct query *query)
{
    int i;

    query->n_left = N_POSTS;
    for (i = 0; i < LEVELS; i++)
        view_init(&query->views[i], &halves[i], NULL);
    for (i = 0; i < N_POSTS; i++) {
        query->fields[i] = (struct field) { .query = query };
        query->fields[i].req.data = &query->fields[i];
        resolve(&query->fields[i], (uint64_t)i + 1);
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    for (i = 0; i < LEVELS; i++) {
        cache_dataloader_end(&query->views[i].base, NULL);
        printf("%s: %" PRIu64 " loads, batches so far: %d\n", tables[i].name,
               query->views[i].base.stats.n_fetched, tables[i].n_batches);
    }
}

int main(void)
{
    static struct query query;
    struct cache_loading_config config = { .cache = { .capacity = 1000 },
                                           .reads = CACHE_READ_THROUGH };
    struct cache_async_config async_config = { .max_batch = MAX_BATCH };
    sqlite3 *db;
    int i;

    if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
        sqlite3_exec(
            db,
            "CREATE TABLE teams(id INTEGER PRIMARY KEY, name, above);"
            "CREATE TABLE authors(id INTEGER PRIMARY KEY, name, above);"
            "CREATE TABLE posts(id INTEGER PRIMARY KEY, name, above);"
            "INSERT INTO teams VALUES(1,'Kernel',0),(2,'Tools',0);"
            "INSERT INTO authors VALUES(1,'Ann',1),(2,'Bob',2),(3,'Cy',1);"
            "INSERT INTO posts VALUES(1,'Pipes',1),(2,'Locks',3),"
            "(3,'Make',2),(4,'Caches',1),(5,'Lint',2)",
            NULL, NULL, NULL) != SQLITE_OK)
        return 1;
    for (i = 0; i < LEVELS; i++) {
        tables[i].db = db;
        config.cache.user = &tables[i];
        if (rows_init(&caches[i], &config) != 0 ||
            rows_async_init(&halves[i], uv_default_loop(), &caches[i],
                            &async_config, NULL) != 0)
            return 1;
    }
    run_query(&query); /* six posts, three authors, two teams: three batches */
    run_query(&query); /* all but the missing post are in the shared caches */
    for (i = 0; i < LEVELS; i++)
        cache_async_close(&halves[i].base, NULL);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    for (i = 0; i < LEVELS; i++)
        rows_destroy(&caches[i]);
    sqlite3_close(db);
    return uv_loop_close(uv_default_loop());
}

/* prints:
Pipes, by Ann of Kernel
Locks, by Cy of Kernel
Make, by Bob of Tools
Caches, by Ann of Kernel
Lint, by Bob of Tools
?, by ? of ?
posts: 6 loads, batches so far: 1
authors: 3 loads, batches so far: 1
teams: 2 loads, batches so far: 1
Pipes, by Ann of Kernel
Locks, by Cy of Kernel
Make, by Bob of Tools
Caches, by Ann of Kernel
Lint, by Bob of Tools
?, by ? of ?
posts: 6 loads, batches so far: 2
authors: 3 loads, batches so far: 1
teams: 2 loads, batches so far: 1
*/
