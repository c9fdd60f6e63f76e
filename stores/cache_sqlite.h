/*
 * cache_sqlite.h - a SQLite file as the store behind a cache.
 *
 * WHAT IT DOES
 *   struct cache_sqlite is a struct cache_store over one table of one file.
 *   It has a thread of its own, which owns the only connection: a batch is one
 *   transaction, and a commit that takes long delays nobody but the store.
 *   What is acknowledged has been committed with WAL and synchronous = FULL:
 *   it survives kill -9 and a power cut.
 *
 *   EXAMPLE
 *     struct cache_sqlite db;
 *     struct cache_sqlite_config config = { .path = "cache.db" };
 *     if (cache_sqlite_open(&db, &config) != 0)
 *         fprintf(stderr, "%s\n", db.message);
 *     async_config.store = &db.store;
 *     ...
 *     db.store.close(&db.store);
 *
 * THE TABLE
 *   k BLOB PRIMARY KEY, v BLOB, exp INTEGER (unix ms, 0 = never), ver INTEGER
 *   `ver` is the writer's number << 40 | the write's version.  Each open takes
 *   a new writer's number; an older version of the same writer is refused, so a
 *   write that is repeated does no harm.  (A remove leaves no version behind;
 *   it needs none, as batches are executed in the order of submit.)  Several
 *   processes may use one file: the last to write a key wins.
 *   Expired rows are not found, and are deleted in passing: each batch of
 *   writes looks at the next CACHE_SQLITE_SWEEP_ROWS rows of the table.
 *
 * ERRORS
 *   Of an item: CACHE_EKEY (GET: absent), CACHE_ECONFLICT (a newer version is
 *   there), CACHE_ETOOBIG (the value does not fit the buffer or SQLite), and
 *   what else goes wrong with a GET.
 *   Of a whole batch: CACHE_ELOCKED (another process held the file longer than
 *   busy_timeout_ms), CACHE_EACCESS (read-only or not to be opened),
 *   CACHE_EFULL (disk or file full), CACHE_ECORRUPT, CACHE_EIO, CACHE_ENOMEM,
 *   CACHE_ESTORE.  Nothing of it can be read then; after a crash some of it may
 *   be there, so it is repeated.
 *   SQLite has no checksums: damage to its structure is CACHE_ECORRUPT, damage
 *   inside a value is not noticed.  ":memory:" works, and is not durable.
 *
 * THREADS
 *   submit from any thread; `done` is called on the store's.  open and close on
 *   one thread, with nothing else under way.
 *
 * Needs -lsqlite3 and POSIX threads.
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_SQLITE_H
#define CACHE_SQLITE_H

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>

#include "../cache_store.h"

#define CACHE_SQLITE_DEFAULT_TABLE "cache"
#define CACHE_SQLITE_DEFAULT_BUSY_TIMEOUT_MS 5000
#define CACHE_SQLITE_DEFAULT_CACHE_KIB 65536
#define CACHE_SQLITE_CHECKPOINT_PAGES 16384 /* of the WAL: 64 MiB */
#define CACHE_SQLITE_SWEEP_ROWS 256
#define CACHE_SQLITE_APPLICATION_ID                                            \
    0x63616368                /* "cach", in the file's header */
#define CACHE_SQLITE_SCHEMA 1 /* PRAGMA user_version */
#define CACHE_SQLITE_MAX_VERSION ((UINT64_C(1) << 40) - 1) /* in `ver` */

/* What open needs.  Zero means the default that is named. */
struct cache_sqlite_config {
    const char *path;    /* of the file; required; made if it is not there */
    const char *table;   /* letters, digits and _;
                          NULL = CACHE_SQLITE_DEFAULT_TABLE */
    int busy_timeout_ms; /* how long to wait for another process's lock;
                            0 = CACHE_SQLITE_DEFAULT_BUSY_TIMEOUT_MS */
    int cache_kib;       /* SQLite's page cache;
                            0 = CACHE_SQLITE_DEFAULT_CACHE_KIB */
    bool large_values;   /* values are mostly above 200 bytes: a table with
                            row ids is faster then.  Fixed when it is made. */
    bool read_only;      /* writes fail with CACHE_EACCESS */
    uint64_t (*wall_now)(void *user); /* unix ms; NULL = the system's */
    void *user;                       /* for wall_now */
};

enum cache_sqlite_statement {
    CACHE_SQLITE_BEGIN_READ,
    CACHE_SQLITE_BEGIN_WRITE,
    CACHE_SQLITE_COMMIT,
    CACHE_SQLITE_ROLLBACK,
    CACHE_SQLITE_GET,
    CACHE_SQLITE_PUT,
    CACHE_SQLITE_REMOVE,
    CACHE_SQLITE_SWEEP_TO,
    CACHE_SQLITE_SWEEP,
    CACHE_SQLITE_STATEMENTS
};

/* The store.  Members but `store` and `message` are private. */
struct cache_sqlite {
    struct cache_store store; /* first: this is what a cache is given */
    char message[160]; /* of the last error, in SQLite's words.  To be read
                          after open, or when nothing is under way. */
    struct cache_sqlite_config config;
    sqlite3 *db;
    sqlite3_stmt *statements[CACHE_SQLITE_STATEMENTS];
    int64_t writer; /* this open's number, shifted */
    void *swept_to; /* key at which the sweep goes on; NULL = the first */
    size_t swept_to_bytes;

    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;  /* the queue is no longer empty, or closing */
    struct cache_store_batch *first, *last; /* queue */
    bool closing;
};

/* --- errors and time ----------------------------------------------------- */

CACHE_COLD int cache__sqlite_status(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_BUSY:
    case SQLITE_PROTOCOL: /* lost the race for the lock too often */
    case SQLITE_LOCKED: return CACHE_ELOCKED;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN: return CACHE_EACCESS;
    case SQLITE_FULL: return CACHE_EFULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return CACHE_ECORRUPT;
    case SQLITE_IOERR: return CACHE_EIO;
    case SQLITE_NOMEM: return CACHE_ENOMEM;
    case SQLITE_TOOBIG: return CACHE_ETOOBIG;
    default: return CACHE_ESTORE;
    }
}

/* Remembers SQLite's words if rc is an error.  Returns the status for it. */
CACHE_COLD int cache__sqlite_note(struct cache_sqlite *s, int rc)
{
    if (cache__sqlite_status(rc) != 0)
        (void)snprintf(s->message, sizeof s->message, "%s",
                       s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
    return cache__sqlite_status(rc);
}

CACHE_COLD int64_t cache__sqlite_now(const struct cache_sqlite *s)
{
    struct timespec now;

    if (s->config.wall_now)
        return (int64_t)s->config.wall_now(s->config.user);
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return 0;
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- opening ------------------------------------------------------------- */

/* Runs SQL of which nothing but success is of interest. */
CACHE_COLD int cache__sqlite_run(struct cache_sqlite *s, const char *sql)
{
    return cache__sqlite_note(s, sqlite3_exec(s->db, sql, NULL, NULL, NULL));
}

/* Runs SQL that gives one number. */
CACHE_COLD int cache__sqlite_number(struct cache_sqlite *s, const char *sql,
                                    int64_t *number)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        *number = sqlite3_column_int64(statement, 0);
    rc = cache__sqlite_note(s, rc);
    (void)sqlite3_finalize(statement);
    return rc;
}

CACHE_COLD int cache__sqlite_prepare(struct cache_sqlite *s)
{
    static const char *const sql[CACHE_SQLITE_STATEMENTS] = {
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "ROLLBACK",
        "SELECT v, exp FROM \"%s\" WHERE k = ?1",
        "INSERT INTO \"%s\" AS t(k, v, exp, ver) VALUES(?1, ?2, ?3, ?4)"
        " ON CONFLICT(k) DO UPDATE SET v = excluded.v, exp = excluded.exp,"
        " ver = excluded.ver"
        " WHERE excluded.ver >= t.ver OR excluded.ver >> 40 <> t.ver >> 40",
        "DELETE FROM \"%s\" WHERE k = ?1"
        " AND (ver <= ?4 OR ver >> 40 <> ?4 >> 40)",
        "SELECT max(k) FROM"
        " (SELECT k FROM \"%s\" WHERE k > ?1 ORDER BY k LIMIT ?2)",
        /* >=, for at the beginning ?1 is the empty key, which may be one. */
        "DELETE FROM \"%s\""
        " WHERE k >= ?1 AND k <= ?2 AND exp <> 0 AND exp <= ?3",
    };
    int i, rc = SQLITE_OK;

    for (i = 0; i < CACHE_SQLITE_STATEMENTS && rc == SQLITE_OK; i++) {
        char *text = sqlite3_mprintf(sql[i], s->config.table);

        rc = text ? sqlite3_prepare_v3(s->db, text, -1,
                                       SQLITE_PREPARE_PERSISTENT,
                                       &s->statements[i], NULL)
                  : SQLITE_NOMEM;
        sqlite3_free(text);
    }
    return cache__sqlite_note(s, rc);
}

/* Makes the table if the file is new; refuses a file that is not ours.  In one
 * transaction, so that two processes may open a new file at once. */
CACHE_COLD int cache__sqlite_schema(struct cache_sqlite *s)
{
    int64_t application = 0, schema = 0, n_tables = 0;
    char sql[512];
    int rc;

    rc =
        cache__sqlite_run(s, s->config.read_only ? "BEGIN" : "BEGIN IMMEDIATE");
    if (rc == 0)
        rc = cache__sqlite_number(s, "PRAGMA application_id", &application);
    if (rc == 0)
        rc = cache__sqlite_number(s, "PRAGMA user_version", &schema);
    if (rc == 0)
        rc = cache__sqlite_number(s, "SELECT count(*) FROM sqlite_schema",
                                  &n_tables);
    if (rc == 0 && (n_tables == 0 && application == 0 && schema == 0
                        ? s->config.read_only
                        : application != CACHE_SQLITE_APPLICATION_ID ||
                              schema != CACHE_SQLITE_SCHEMA)) {
        (void)snprintf(s->message, sizeof s->message,
                       "not a cache file of schema %d", CACHE_SQLITE_SCHEMA);
        rc = CACHE_ESCHEMA;
    }
    if (rc == 0 && !s->config.read_only) {
        (void)snprintf(
            sql, sizeof sql,
            "PRAGMA application_id = %d; PRAGMA user_version = %d;"
            "CREATE TABLE IF NOT EXISTS \"%s\"(k BLOB PRIMARY KEY NOT NULL,"
            " v BLOB NOT NULL, exp INTEGER NOT NULL, ver INTEGER NOT NULL)%s;"
            "CREATE TABLE IF NOT EXISTS cache_writers(n INTEGER NOT NULL)",
            CACHE_SQLITE_APPLICATION_ID, CACHE_SQLITE_SCHEMA, s->config.table,
            s->config.large_values ? "" : " WITHOUT ROWID");
        rc = cache__sqlite_run(s, sql);
        if (rc == 0)
            rc = cache__sqlite_run(s, "INSERT INTO cache_writers SELECT 0"
                                      " WHERE NOT EXISTS"
                                      " (SELECT 1 FROM cache_writers)");
        if (rc == 0)
            rc = cache__sqlite_run(s, "UPDATE cache_writers SET n = n + 1");
        if (rc == 0)
            rc = cache__sqlite_number(s, "SELECT n FROM cache_writers",
                                      &s->writer);
        s->writer = (s->writer & 0x7fffff) << 40;
    }
    if (rc == 0)
        rc = cache__sqlite_run(s, "COMMIT");
    if (rc != 0 && !sqlite3_get_autocommit(s->db))
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

CACHE_COLD int cache__sqlite_connect(struct cache_sqlite *s)
{
    char sql[256];
    int waited_ms;
    int rc = sqlite3_open_v2(
        s->config.path, &s->db,
        SQLITE_OPEN_NOMUTEX |
            (s->config.read_only ? SQLITE_OPEN_READONLY
                                 : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE),
        NULL);

    rc = cache__sqlite_note(s, rc);
    if (rc != 0)
        return rc;
    (void)sqlite3_busy_timeout(s->db, s->config.busy_timeout_ms);
    (void)snprintf(sql, sizeof sql,
                   "PRAGMA cache_size = -%d; PRAGMA synchronous = FULL;"
                   "PRAGMA wal_autocheckpoint = %d",
                   s->config.cache_kib, CACHE_SQLITE_CHECKPOINT_PAGES);
    rc = cache__sqlite_run(s, sql);
    if (rc == 0)
        rc = cache__sqlite_schema(s);
    /* Only now: it changes the file, which must be ours.  SQLite does not wait
     * for the lock of somebody who is at the same, so it is done here. */
    (void)sqlite3_busy_timeout(s->db, 0);
    for (waited_ms = 0; rc == 0 && !s->config.read_only; waited_ms++) {
        rc = cache__sqlite_run(s, "PRAGMA journal_mode = WAL");
        if (rc != CACHE_ELOCKED || waited_ms >= s->config.busy_timeout_ms)
            break;
        (void)sqlite3_sleep(1);
        rc = 0;
    }
    (void)sqlite3_busy_timeout(s->db, s->config.busy_timeout_ms);
    return rc == 0 ? cache__sqlite_prepare(s) : rc;
}

CACHE_COLD void cache__sqlite_disconnect(struct cache_sqlite *s)
{
    int i;

    for (i = 0; i < CACHE_SQLITE_STATEMENTS; i++)
        (void)sqlite3_finalize(s->statements[i]);
    (void)sqlite3_close(s->db);
    free(s->swept_to);
}

/* --- a batch ------------------------------------------------------------- */

/* Runs a statement that gives no row. */
CACHE_COLD int cache__sqlite_step(struct cache_sqlite *s,
                                  enum cache_sqlite_statement which)
{
    sqlite3_stmt *statement = s->statements[which];
    int rc = sqlite3_step(statement);

    rc = cache__sqlite_note(s, rc);
    (void)sqlite3_reset(statement);
    return rc;
}

CACHE_COLD int cache__sqlite_bind(sqlite3_stmt *statement, int at,
                                  struct cache_bytes bytes)
{
    /* A NULL pointer would be SQL's NULL, also if the length is 0. */
    return sqlite3_bind_blob64(statement, at, bytes.len ? bytes.data : "",
                               bytes.len, SQLITE_STATIC);
}

CACHE_COLD int cache__sqlite_get(struct cache_sqlite *s,
                                 struct cache_store_item *item, int64_t now_ms)
{
    sqlite3_stmt *get = s->statements[CACHE_SQLITE_GET];
    int rc = cache__sqlite_bind(get, 1, item->key), status = CACHE_EKEY;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(get);
    if (rc == SQLITE_ROW) {
        int64_t expires_ms = sqlite3_column_int64(get, 1);
        size_t bytes = (size_t)sqlite3_column_bytes(get, 0);

        if (expires_ms != 0 && expires_ms <= now_ms) {
            status = CACHE_EKEY;
        } else if (bytes > item->buffer_bytes) {
            status = CACHE_ETOOBIG;
        } else {
            if (bytes != 0)
                memcpy(item->buffer, sqlite3_column_blob(get, 0), bytes);
            item->value.data = item->buffer;
            item->value.len = bytes;
            item->expires_ms = (uint64_t)expires_ms;
            status = 0;
        }
    } else if (rc != SQLITE_DONE) {
        status = cache__sqlite_note(s, rc);
    }
    (void)sqlite3_reset(get);
    return status;
}

CACHE_COLD int cache__sqlite_write(struct cache_sqlite *s,
                                   const struct cache_store_item *item)
{
    bool put = item->op == CACHE_STORE_PUT;
    enum cache_sqlite_statement which =
        put ? CACHE_SQLITE_PUT : CACHE_SQLITE_REMOVE;
    sqlite3_stmt *statement = s->statements[which];
    /* Beyond 40 bits all are equal, so that none is refused as older. */
    int64_t version =
        s->writer | (int64_t)(item->version < CACHE_SQLITE_MAX_VERSION
                                  ? item->version
                                  : CACHE_SQLITE_MAX_VERSION);
    int64_t expires_ms =
        item->expires_ms > INT64_MAX ? 0 : (int64_t)item->expires_ms;
    int rc = cache__sqlite_bind(statement, 1, item->key);

    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(statement, 4, version);
    if (rc == SQLITE_OK && put)
        rc = cache__sqlite_bind(statement, 2, item->value);
    if (rc == SQLITE_OK && put)
        rc = sqlite3_bind_int64(statement, 3, expires_ms);
    if (rc != SQLITE_OK)
        return cache__sqlite_note(s, rc);
    rc = cache__sqlite_step(s, which);
    if (rc == 0 && put && sqlite3_changes(s->db) == 0)
        return CACHE_ECONFLICT;
    return rc;
}

/* Deletes the expired among the next rows of the table. */
CACHE_COLD int cache__sqlite_sweep(struct cache_sqlite *s, int64_t now_ms)
{
    sqlite3_stmt *to = s->statements[CACHE_SQLITE_SWEEP_TO];
    sqlite3_stmt *sweep = s->statements[CACHE_SQLITE_SWEEP];
    struct cache_bytes from, last;
    void *copy = NULL;
    int rc;

    from.data = s->swept_to;
    from.len = s->swept_to_bytes;
    last.data = NULL;
    last.len = 0;
    rc = cache__sqlite_bind(to, 1, from);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int(to, 2, CACHE_SQLITE_SWEEP_ROWS);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(to);
    if (rc == SQLITE_ROW && sqlite3_column_type(to, 0) != SQLITE_NULL) {
        last.len = (size_t)sqlite3_column_bytes(to, 0);
        copy = malloc(last.len + 1);
        last.data = copy;
        if (copy != NULL && last.len != 0)
            memcpy(copy, sqlite3_column_blob(to, 0), last.len);
    }
    rc = cache__sqlite_note(s, rc);
    (void)sqlite3_reset(to);
    if (rc == 0 && copy != NULL) {
        (void)cache__sqlite_bind(sweep, 1, from);
        (void)cache__sqlite_bind(sweep, 2, last);
        (void)sqlite3_bind_int64(sweep, 3, now_ms);
        rc = cache__sqlite_step(s, CACHE_SQLITE_SWEEP);
    }
    free(s->swept_to); /* at the end of the table, begin again */
    s->swept_to = copy;
    s->swept_to_bytes = last.len;
    return rc;
}

/* All items of a batch have the same fate. */
CACHE_COLD void cache__sqlite_fail(struct cache_store_batch *batch, int status)
{
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = status;
}

CACHE_COLD void cache__sqlite_execute(struct cache_sqlite *s,
                                      struct cache_store_batch *batch)
{
    bool writes = false;
    int64_t now_ms;
    size_t i;
    int rc;

    for (i = 0; i < batch->n_items; i++)
        writes = writes || batch->items[i].op != CACHE_STORE_GET;
    rc = cache__sqlite_step(s, writes ? CACHE_SQLITE_BEGIN_WRITE
                                      : CACHE_SQLITE_BEGIN_READ);
    now_ms = cache__sqlite_now(s); /* after the wait for the lock */
    for (i = 0; i < batch->n_items && rc == 0; i++) {
        struct cache_store_item *item = &batch->items[i];

        if (item->op == CACHE_STORE_GET) {
            item->status = cache__sqlite_get(s, item, now_ms);
            /* After some errors SQLite rolls back by itself; what came next
             * would be committed alone. */
            if (sqlite3_get_autocommit(s->db))
                rc = item->status;
            continue;
        }
        item->status = cache__sqlite_write(s, item);
        /* Only these concern one item; after others nothing is certain. */
        if (item->status != CACHE_ECONFLICT && item->status != CACHE_ETOOBIG)
            rc = item->status;
    }
    if (rc == 0 && writes)
        rc = cache__sqlite_sweep(s, now_ms);
    if (rc == 0)
        rc = cache__sqlite_step(s, CACHE_SQLITE_COMMIT);
    if (rc != 0)
        cache__sqlite_fail(batch, rc);
    if (!sqlite3_get_autocommit(s->db))
        (void)cache__sqlite_step(s, CACHE_SQLITE_ROLLBACK);
}

/* --- the thread ---------------------------------------------------------- */

CACHE_COLD void *cache__sqlite_thread(void *user)
{
    struct cache_sqlite *s = (struct cache_sqlite *)user;
    struct cache_store_batch *batch;

    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        while (s->first == NULL && !s->closing)
            (void)pthread_cond_wait(&s->wake, &s->lock);
        batch = s->first;
        if (batch != NULL)
            s->first = batch->next;
        (void)pthread_mutex_unlock(&s->lock);
        if (batch == NULL)
            return NULL;
        cache__sqlite_execute(s, batch);
        batch->done(batch); /* it may be gone from here on */
    }
}

CACHE_COLD int cache__sqlite_submit(struct cache_store *store,
                                    struct cache_store_batch *batch)
{
    struct cache_sqlite *s = (struct cache_sqlite *)(void *)store;
    int rc = 0;

    (void)pthread_mutex_lock(&s->lock);
    batch->next = NULL;
    if (s->closing)
        rc = CACHE_ECLOSED;
    else if (s->first == NULL)
        s->first = s->last = batch;
    else
        s->last = s->last->next = batch;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

CACHE_COLD void cache__sqlite_close(struct cache_store *store)
{
    struct cache_sqlite *s = (struct cache_sqlite *)(void *)store;

    (void)pthread_mutex_lock(&s->lock);
    s->closing = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL); /* it empties the queue first */
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    cache__sqlite_disconnect(s);
}

CACHE_COLD bool cache__sqlite_is_identifier(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

    return len > 0 && len <= 64 && name[len] == '\0' &&
           (name[0] < '0' || name[0] > '9') &&
           sqlite3_strnicmp(name, "sqlite_", 7) != 0 &&
           sqlite3_stricmp(name, "cache_writers") != 0;
}

/* Starts the thread.  Signals are for the program's own threads. */
CACHE_COLD int cache__sqlite_start(struct cache_sqlite *s)
{
    sigset_t all, before;
    int rc;

    if (pthread_mutex_init(&s->lock, NULL) != 0 ||
        pthread_cond_init(&s->wake, NULL) != 0)
        return CACHE_ENOMEM;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&s->thread, NULL, cache__sqlite_thread, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : CACHE_ENOMEM;
}

/* --- public -------------------------------------------------------------- */

/*
 * Opens or makes the file and starts the thread.
 * Returns 0; CACHE_EINVAL (NULL); CACHE_EPATH (no path, or a table name that is
 * not one); CACHE_ELIMIT (a negative number); CACHE_ESCHEMA (the file is
 * another program's, or read_only and empty); CACHE_EACCESS, CACHE_ECORRUPT,
 * CACHE_ELOCKED, CACHE_EFULL, CACHE_EIO, CACHE_ENOMEM or CACHE_ESTORE.  On
 * error nothing is open, and s->message has SQLite's words.
 * Close with s->store.close(&s->store): it completes what was submitted.
 */
CACHE_COLD int cache_sqlite_open(struct cache_sqlite *s,
                                 const struct cache_sqlite_config *config)
{
    int rc;

    if (s == NULL)
        return CACHE_EINVAL;
    memset(s, 0, sizeof *s);
    if (config != NULL)
        s->config = *config;
    if (s->config.table == NULL)
        s->config.table = CACHE_SQLITE_DEFAULT_TABLE;
    if (s->config.busy_timeout_ms == 0)
        s->config.busy_timeout_ms = CACHE_SQLITE_DEFAULT_BUSY_TIMEOUT_MS;
    if (s->config.cache_kib == 0)
        s->config.cache_kib = CACHE_SQLITE_DEFAULT_CACHE_KIB;
    if (config == NULL)
        rc = CACHE_EINVAL;
    else if (s->config.path == NULL || s->config.path[0] == '\0' ||
             !cache__sqlite_is_identifier(s->config.table))
        rc = CACHE_EPATH;
    else if (s->config.busy_timeout_ms < 0 || s->config.cache_kib < 0)
        rc = CACHE_ELIMIT;
    else
        rc = 0;
    if (rc != 0) {
        (void)snprintf(s->message, sizeof s->message, "%s", cache_strerror(rc));
        return rc;
    }
    s->store.name = "sqlite";
    s->store.capabilities =
        CACHE_STORE_EXPIRES | CACHE_STORE_VERSIONS | CACHE_STORE_ATOMIC;
    s->store.submit = cache__sqlite_submit;
    s->store.close = cache__sqlite_close;
    rc = cache__sqlite_connect(s);
    s->config.path = s->config.table = NULL; /* the caller's; used no more */
    if (rc == 0 && (rc = cache__sqlite_start(s)) != 0)
        (void)snprintf(s->message, sizeof s->message, "no thread to be had");
    if (rc != 0)
        cache__sqlite_disconnect(s);
    return rc;
}

#endif /* CACHE_SQLITE_H */
