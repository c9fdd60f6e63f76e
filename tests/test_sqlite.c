/*
 * test_sqlite.c - every documented sentence of cache_sqlite.h, and what the
 * world does to a file: other processes lock it, disks fill up or fail, memory
 * runs out, bytes rot, and processes are killed.
 *
 * Faults come from below: a VFS that fails on demand, an allocator that fails
 * on demand, a child that holds the lock.  After each, the same question: is
 * what was acknowledged there, and of what failed nothing?
 *
 * TEST_SCALE multiplies the rounds of kill -9 and of simultaneous opening.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw, setgroups */

#include "../stores/cache_sqlite.h"
#include "locker.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* SQLite is not built with ThreadSanitizer, which therefore does not see the
 * barriers between two connections to one file, but does see the memcpy. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:libsqlite3.so\n";
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- a disk that fails on demand ----------------------------------------- */

/* It is every test's disk but for those that say use_real_disk().  It does not
 * sync: no test cuts the power, and there are thousands of commits. */

enum fault { FAULT_NONE, FAULT_READ, FAULT_WRITE, FAULT_SYNC };

static atomic_int fault;       /* what fails */
static atomic_int fault_after; /* so many of them succeed first */
static atomic_bool fault_once; /* and afterwards all succeed again */
static atomic_int n_faults;    /* since it was set */

static void fail(enum fault what, int after, bool once)
{
    atomic_store(&fault, FAULT_NONE);
    atomic_store(&n_faults, 0);
    atomic_store(&fault_after, after);
    atomic_store(&fault_once, once);
    atomic_store(&fault, (int)what);
}

static bool fails(enum fault what)
{
    if (atomic_load(&fault) != (int)what ||
        atomic_fetch_sub(&fault_after, 1) > 0)
        return false;
    if (atomic_fetch_add(&n_faults, 1) == 0 && atomic_load(&fault_once))
        atomic_store(&fault, FAULT_NONE);
    return true;
}

/* SQLite's file, and behind it the system's. */
struct disk_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_vfs *real_vfs;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct disk_file *)(void *)file)->real;
}

static int disk_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int disk_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    if (fails(FAULT_READ))
        return SQLITE_IOERR_READ;
    return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
}

static int disk_write(sqlite3_file *f, const void *from, int n,
                      sqlite3_int64 at)
{
    if (fails(FAULT_WRITE))
        return SQLITE_IOERR_WRITE;
    return real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
}

static int disk_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int disk_sync(sqlite3_file *f, int flags)
{
    if (fails(FAULT_SYNC))
        return SQLITE_IOERR_FSYNC;
    (void)f;
    (void)flags;
    return SQLITE_OK;
}

static int disk_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int disk_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int disk_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int disk_reserved(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int disk_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int disk_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int disk_characteristics(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int disk_shm_map(sqlite3_file *f, int page, int bytes, int extend,
                        void volatile **out)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, bytes, extend, out);
}

static int disk_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), at, n, flags);
}

static void disk_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int disk_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods disk_methods = {
    .iVersion = 2, /* no xFetch: all reads come here */
    .xClose = disk_close,
    .xRead = disk_read,
    .xWrite = disk_write,
    .xTruncate = disk_truncate,
    .xSync = disk_sync,
    .xFileSize = disk_size,
    .xLock = disk_lock,
    .xUnlock = disk_unlock,
    .xCheckReservedLock = disk_reserved,
    .xFileControl = disk_control,
    .xSectorSize = disk_sector,
    .xDeviceCharacteristics = disk_characteristics,
    .xShmMap = disk_shm_map,
    .xShmLock = disk_shm_lock,
    .xShmBarrier = disk_shm_barrier,
    .xShmUnmap = disk_shm_unmap,
};

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file,
                     int flags, int *out_flags)
{
    struct disk_file *f = (struct disk_file *)(void *)file;
    int rc;

    (void)vfs;
    f->real = (sqlite3_file *)(void *)(f + 1);
    rc = real_vfs->xOpen(real_vfs, name, f->real, flags, out_flags);
    f->base.pMethods = f->real->pMethods ? &disk_methods : NULL;
    return rc;
}

static sqlite3_vfs disk; /* what a file is opened with by default */

static void use_failing_disk(void)
{
    if (real_vfs == NULL) {
        real_vfs = sqlite3_vfs_find("unix");
        CHECK(real_vfs != NULL);
        disk = *real_vfs; /* for all but files as such */
    }
    disk.zName = "disk";
    disk.pNext = NULL;
    disk.szOsFile = (int)sizeof(struct disk_file) + real_vfs->szOsFile;
    disk.xOpen = disk_open;
    CHECK_EQ(sqlite3_vfs_register(&disk, 1), SQLITE_OK);
}

/* Until the next prepare(). */
static void use_real_disk(void)
{
    CHECK_EQ(sqlite3_vfs_register(real_vfs, 1), SQLITE_OK);
}

/* --- memory that runs out on demand -------------------------------------- */

static sqlite3_mem_methods real_memory;
static atomic_int memory_left = -1; /* allocations until one fails; -1 = none */
static atomic_int n_refused;

static bool out_of_memory_now(void)
{
    if (atomic_load(&memory_left) < 0 || atomic_fetch_sub(&memory_left, 1) != 0)
        return false;
    atomic_fetch_add(&n_refused, 1);
    return true;
}

static void *scarce_malloc(int bytes)
{
    return out_of_memory_now() ? NULL : real_memory.xMalloc(bytes);
}

static void *scarce_realloc(void *memory, int bytes)
{
    return out_of_memory_now() ? NULL : real_memory.xRealloc(memory, bytes);
}

/* Before SQLite is used for the first time. */
static bool use_scarce_memory(void)
{
    sqlite3_mem_methods methods;

    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory) != SQLITE_OK)
        return false;
    methods = real_memory;
    methods.xMalloc = scarce_malloc;
    methods.xRealloc = scarce_realloc;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK;
}

/* --- stores and files ---------------------------------------------------- */

static char directory[256]; /* of this run */
static char path[300];      /* of this test's file */
static int n_paths;
static struct cache_sqlite stores[4];
static bool is_open[COUNT(stores)];
static struct cache_sqlite *const db = stores;
static struct cache_sqlite_config config;
static _Atomic uint64_t wall_ms; /* what wall_now shows */

static uint64_t wall_now(void *user)
{
    (void)user;
    return atomic_load(&wall_ms);
}

static void close_store(int i)
{
    is_open[i] = false;
    stores[i].store.close(&stores[i].store);
}

static int try_open(int i)
{
    int rc = cache_sqlite_open(&stores[i], &config);

    is_open[i] = rc == 0;
    return rc;
}

static void open_store(int i)
{
    if (try_open(i) != 0)
        printf("open: %s\n", stores[i].message);
    CHECK(is_open[i]);
}

static void reopen(void)
{
    close_store(0);
    open_store(0);
}

/* Ends whatever the test before this one has left, also if it failed. */
static void tidy(void)
{
    int i;

    fail(FAULT_NONE, 0, false);
    atomic_store(&memory_left, -1);
    end_locker();
    for (i = 0; i < (int)COUNT(stores); i++)
        if (is_open[i])
            close_store(i);
}

/* A new path and the usual configuration; the test may change it. */
static void prepare(void)
{
    tidy();
    use_failing_disk();
    (void)snprintf(path, sizeof path, "%s/%d.db", directory, ++n_paths);
    memset(&config, 0, sizeof config);
    config.path = path;
    atomic_store(&wall_ms, 1000000);
}

static void set_up(void)
{
    prepare();
    open_store(0);
}

static void tear_down(void)
{
    static const char *const endings[] = { "", "-wal", "-shm", "-journal" };
    char name[320];
    size_t i;

    tidy();
    for (i = 0; i < COUNT(endings); i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, endings[i]);
        (void)unlink(name);
    }
}

/* Runs SQL on a connection of its own. */
static void sql_on_file(const char *file, const char *sql)
{
    sqlite3 *c = NULL;

    CHECK_EQ(sqlite3_open(file, &c), SQLITE_OK);
    CHECK_EQ(sqlite3_exec(c, sql, NULL, NULL, NULL), SQLITE_OK);
    CHECK_EQ(sqlite3_close(c), SQLITE_OK);
}

/* Runs SQL on the store's connection, which is idle. */
static void sql(const char *text)
{
    CHECK_EQ(sqlite3_exec(db->db, text, NULL, NULL, NULL), SQLITE_OK);
}

/* The first column of the first row as text; until the next call. */
static const char *sql_text_on(sqlite3 *c, const char *text)
{
    static char out[100];
    sqlite3_stmt *statement = NULL;

    CHECK_EQ(sqlite3_prepare_v2(c, text, -1, &statement, NULL), SQLITE_OK);
    CHECK_EQ(sqlite3_step(statement), SQLITE_ROW);
    (void)snprintf(out, sizeof out, "%s",
                   (const char *)sqlite3_column_text(statement, 0));
    CHECK_EQ(sqlite3_finalize(statement), SQLITE_OK);
    return out;
}

static const char *sql_text(const char *text)
{
    return sql_text_on(db->db, text);
}

/* --- batches, synchronously ---------------------------------------------- */

static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_wake = PTHREAD_COND_INITIALIZER;

static void on_done(struct cache_store_batch *batch)
{
    pthread_mutex_lock(&done_lock);
    ++*(int *)batch->user;
    pthread_cond_broadcast(&done_wake);
    pthread_mutex_unlock(&done_lock);
}

/* Waits until the count is n; false if it is not after 10 seconds. */
static bool wait_for(const int *n_done, int n)
{
    struct timespec until;
    bool yes;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&done_lock);
    while (*n_done < n &&
           pthread_cond_timedwait(&done_wake, &done_lock, &until) == 0)
        ;
    yes = *n_done == n;
    pthread_mutex_unlock(&done_lock);
    return yes;
}

/* Submits and waits.  False if that was refused or never done.  For threads and
 * children, which must not CHECK. */
static bool try_run(struct cache_sqlite *s, struct cache_store_batch *batch,
                    int *n_done)
{
    batch->done = on_done;
    batch->user = n_done;
    *n_done = 0;
    return s->store.submit(&s->store, batch) == 0 && wait_for(n_done, 1);
}

static void run_on(struct cache_sqlite *s, struct cache_store_item *items,
                   size_t n)
{
    static struct cache_store_batch batch; /* not the stack's: a batch that is
                                              never done outlives the test */
    static int n_done;

    batch.items = items;
    batch.n_items = n;
    CHECK(try_run(s, &batch, &n_done));
}

static void run(struct cache_store_item *items, size_t n)
{
    run_on(db, items, n);
}

static struct cache_bytes bytes_of(const char *text)
{
    struct cache_bytes bytes = { text, strlen(text) };

    return bytes;
}

static uint64_t version; /* of the latest write */

static struct cache_store_item put(const char *key, const char *value)
{
    struct cache_store_item item = { .op = CACHE_STORE_PUT,
                                     .key = bytes_of(key),
                                     .value = bytes_of(value),
                                     .version = ++version,
                                     .status = 77 };

    return item;
}

static struct cache_store_item erase(const char *key)
{
    struct cache_store_item item = put(key, "");

    item.op = CACHE_STORE_REMOVE;
    return item;
}

#define ROOM 6000 /* bytes of the buffers that get() gives */

static struct cache_store_item get(const char *key)
{
    static char rooms[64][ROOM]; /* the last 64 have a buffer of their own */
    static unsigned next;
    struct cache_store_item item = { .op = CACHE_STORE_GET,
                                     .key = bytes_of(key),
                                     .buffer = rooms[next++ % COUNT(rooms)],
                                     .buffer_bytes = ROOM,
                                     .status = 77 };

    return item;
}

static int run_one(struct cache_sqlite *s, struct cache_store_item *item)
{
    run_on(s, item, 1);
    return item->status;
}

static int put_on(struct cache_sqlite *s, const char *key, const char *value,
                  uint64_t at_version)
{
    struct cache_store_item item = put(key, value);

    item.version = at_version;
    return run_one(s, &item);
}

static int store_one(const char *key, const char *value)
{
    return put_on(db, key, value, ++version);
}

static int erase_on(struct cache_sqlite *s, const char *key,
                    uint64_t at_version)
{
    struct cache_store_item item = erase(key);

    item.version = at_version;
    return run_one(s, &item);
}

/* What was read, as text; "(absent)" if there is nothing. */
static const char *text_of(const struct cache_store_item *item)
{
    static char out[ROOM + 1];

    if (item->status == CACHE_EKEY)
        return "(absent)";
    CHECK_EQ(item->status, 0);
    CHECK(item->value.len < sizeof out);
    CHECK(item->value.data == item->buffer);
    if (item->value.len != 0)
        memcpy(out, item->value.data, item->value.len);
    out[item->value.len] = '\0';
    return out;
}

static const char *value_on(struct cache_sqlite *s, const char *key)
{
    struct cache_store_item item = get(key);

    (void)run_one(s, &item);
    return text_of(&item);
}

static const char *value(const char *key)
{
    return value_on(db, key);
}

/* Many rows: keys "k0000"...; values tell key, generation and length. */
#define MANY 1000

static struct cache_store_item many[MANY];
static char many_keys[MANY][8], many_values[MANY][ROOM];

static void many_puts(size_t n, const char *generation, size_t value_bytes)
{
    size_t i;

    for (i = 0; i < n; i++) {
        (void)snprintf(many_keys[i], sizeof *many_keys, "k%04u", (unsigned)i);
        memset(many_values[i], '.', value_bytes);
        (void)snprintf(many_values[i], ROOM, "%s-%s", many_keys[i], generation);
        many_values[i][strlen(many_values[i])] = '.';
        many[i] = put(many_keys[i], "");
        many[i].value.data = many_values[i];
        many[i].value.len = value_bytes;
    }
}

static void check_statuses(const struct cache_store_item *items, size_t n,
                           int status)
{
    size_t i;

    for (i = 0; i < n; i++)
        CHECK_EQ(items[i].status, status);
}

/* Whether the file has the values that many_puts has made. */
static void check_many(size_t n, bool present)
{
    size_t i;

    for (i = 0; i < n; i++) {
        struct cache_store_item item = get(many_keys[i]);

        CHECK_EQ(run_one(db, &item), present ? 0 : CACHE_EKEY);
        if (present) {
            CHECK_EQ(item.value.len, many[i].value.len);
            CHECK_EQ(memcmp(item.buffer, many_values[i], item.value.len), 0);
        }
    }
}

/* --- opening ------------------------------------------------------------- */

static int entries_of(const char *name)
{
    DIR *d = opendir(name);
    int n = 0;

    CHECK(d != NULL);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void write_file(const char *name, const char *content, size_t bytes)
{
    FILE *f = fopen(name, "wb");

    CHECK(f != NULL);
    CHECK_EQ(fwrite(content, 1, bytes, f), bytes);
    CHECK_EQ(fclose(f), 0);
}

/* Descriptors, threads and SQLite's memory. */
static struct open_things {
    int fds, threads;
    long long bytes;
} before;

static void count_open(struct open_things *n)
{
    n->fds = entries_of("/proc/self/fd");
    n->threads = entries_of("/proc/self/task");
    n->bytes = sqlite3_memory_used();
}

/* A thread that was joined leaves /proc a moment later. */
static void check_nothing_left(void)
{
    struct open_things now;
    int i;

    count_open(&now);
    for (i = 0; i < 1000 && now.threads > before.threads; i++) {
        sleep_ms(1);
        count_open(&now);
    }
    CHECK_EQ(now.fds, before.fds);
    CHECK_EQ(now.threads, before.threads);
    CHECK_EQ(now.bytes, before.bytes);
}

static void check_refused(int rc)
{
    count_open(&before);
    memset(db, 0x55, sizeof *db); /* nothing may depend on what was there */
    CHECK_EQ(try_open(0), rc);
    CHECK(memchr(db->message, '\0', sizeof db->message) != NULL);
    CHECK(db->message[0] != '\0');
    check_nothing_left();
}

static void open_wants_sense(void)
{
    static const struct {
        const char *path, *table;
        int busy_timeout_ms, cache_kib;
        int rc;
    } cases[] = {
        { NULL, NULL, 0, 0, CACHE_EPATH },
        { "", NULL, 0, 0, CACHE_EPATH }, /* SQLite: a temporary file */
        { path, "", 0, 0, CACHE_EPATH },
        { path, "1a", 0, 0, CACHE_EPATH },
        { path, "a b", 0, 0, CACHE_EPATH },
        { path, "a;DROP TABLE b", 0, 0, CACHE_EPATH },
        { path, "a\"", 0, 0, CACHE_EPATH },
        { path, "a'--", 0, 0, CACHE_EPATH },
        { path, "main.a", 0, 0, CACHE_EPATH },
        { path, "a(b)", 0, 0, CACHE_EPATH },
        { path, "a\n", 0, 0, CACHE_EPATH },
        { path, "%s", 0, 0, CACHE_EPATH },
        { path, "caf\xc3\xa9", 0, 0, CACHE_EPATH },
        { path, "sqlite_schema", 0, 0, CACHE_EPATH },
        { path, "SQLite_a", 0, 0, CACHE_EPATH },
        { path, "cache_writers", 0, 0, CACHE_EPATH },
        { path, "Cache_Writers", 0, 0, CACHE_EPATH },
        { path, /* 65 letters */
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          0, 0, CACHE_EPATH },
        { path, NULL, -1, 0, CACHE_ELIMIT },
        { path, NULL, 0, -1, CACHE_ELIMIT },
    };
    size_t i;

    prepare();
    for (i = 0; i < COUNT(cases); i++) {
        config.path = cases[i].path;
        config.table = cases[i].table;
        config.busy_timeout_ms = cases[i].busy_timeout_ms;
        config.cache_kib = cases[i].cache_kib;
        check_refused(cases[i].rc);
        CHECK(access(path, F_OK) != 0); /* and no file was made */
    }
    CHECK_EQ(cache_sqlite_open(NULL, &config), CACHE_EINVAL);
    memset(db, 0x55, sizeof *db);
    CHECK_EQ(cache_sqlite_open(db, NULL), CACHE_EINVAL);
    CHECK_STR(db->message, cache_strerror(CACHE_EINVAL));
    tear_down();
}

/* Also those that are words of SQL. */
static void table_names(void)
{
    static const char *const names[] = {
        "a",
        "_",
        "Users_2",
        "order",
        "values",
        "index",
        "TABLE",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    char text[100];
    size_t i;

    prepare();
    for (i = 0; i < COUNT(names); i++) { /* all in one file */
        (void)snprintf(text, sizeof text, "%s", names[i]);
        config.table = text;
        open_store(0);
        memset(text, 'z', sizeof text - 1); /* the name is not needed later */
        CHECK_STR(value("name"), "(absent)");
        CHECK_EQ(store_one("name", names[i]), 0);
        CHECK_EQ(store_one("other", names[i]), 0);
        CHECK_EQ(erase_on(db, "other", ++version), 0);
        (void)snprintf(text, sizeof text, "%s", names[i]);
        reopen();
        CHECK_STR(value("name"), names[i]);
        CHECK_STR(value("other"), "(absent)");
        close_store(0);
    }
    tear_down();
}

static void open_of_no_file(void)
{
    char name[320];

    prepare();
    (void)snprintf(name, sizeof name, "%s/no/such.db", directory);
    config.path = name;
    check_refused(CACHE_EACCESS);
    config.path = directory;
    check_refused(CACHE_EACCESS);
    config.read_only = true;
    config.path = path;
    check_refused(CACHE_EACCESS); /* missing: it is not made */
    CHECK(access(path, F_OK) != 0);
    write_file(path, "", 0);
    check_refused(CACHE_ESCHEMA); /* empty */
    config.read_only = false;
    open_store(0); /* empty is as good as none */
    CHECK_EQ(store_one("a", "1"), 0);
    tear_down();
}

static void open_of_rubbish(void)
{
    static const size_t sizes[] = { 2, 99, 512, 4096, 20000 };
    static char rubbish[20000], after[sizeof rubbish + 1];
    size_t i, n;

    for (i = 0; i < sizeof rubbish; i++)
        rubbish[i] = (char)('a' + i % 26);
    for (i = 0; i < 2 * COUNT(sizes); i++) {
        FILE *f;

        prepare();
        config.read_only = i % 2;
        write_file(path, rubbish, sizes[i / 2]);
        check_refused(CACHE_ECORRUPT);
        f = fopen(path, "rb"); /* and it is as it was */
        CHECK(f != NULL);
        n = fread(after, 1, sizeof after, f);
        fclose(f);
        CHECK_EQ(n, sizes[i / 2]);
        CHECK_EQ(memcmp(after, rubbish, n), 0);
        tear_down();
    }
}

/* Files of other programs are refused and stay as they are. */
static void open_of_another_schema(void)
{
    static const char *const foreign[] = {
        "CREATE TABLE users(name TEXT)",
        "PRAGMA application_id = 77; CREATE TABLE users(name TEXT)",
        "PRAGMA application_id = 77", /* nothing in it yet */
        "PRAGMA user_version = 1; CREATE TABLE users(name TEXT)",
        "PRAGMA user_version = 5",
        /* ours, but of a version to come */
        ("PRAGMA application_id = 1667326824; PRAGMA user_version = 2;"
         "CREATE TABLE cache(k, v, later)"),
        /* of no version */
        "PRAGMA application_id = 1667326824; CREATE TABLE cache(k, v)",
    };
    struct stat old, new;
    sqlite3 *c = NULL;
    size_t i;

    for (i = 0; i < 2 * COUNT(foreign); i++) {
        prepare();
        config.read_only = i % 2;
        sql_on_file(path, foreign[i / 2]);
        CHECK_EQ(stat(path, &old), 0);
        check_refused(CACHE_ESCHEMA);
        CHECK_EQ(stat(path, &new), 0);
        CHECK_EQ(old.st_size, new.st_size);
        CHECK(old.st_mtim.tv_nsec == new.st_mtim.tv_nsec);
        CHECK_EQ(sqlite3_open(path, &c), SQLITE_OK);
        CHECK_STR(sql_text_on(c, "PRAGMA journal_mode"), "delete");
        CHECK_STR(sql_text_on(c, "SELECT count(*) FROM sqlite_schema"
                                 " WHERE name = 'cache_writers'"),
                  "0");
        CHECK_EQ(sqlite3_close(c), SQLITE_OK);
        tear_down();
    }
    set_up(); /* and a file of ours whose number was changed */
    close_store(0);
    sql_on_file(path, "PRAGMA user_version = 2");
    check_refused(CACHE_ESCHEMA);
    config.read_only = true;
    check_refused(CACHE_ESCHEMA);
    tear_down();
}

static void open_and_close_leave_nothing(void)
{
    int i;

    prepare();
    for (i = 0; i < 5; i++) {
        count_open(&before);
        open_store(0);
        CHECK_EQ(store_one("a", "1"), 0);
        close_store(0);
        check_nothing_left();
    }
    CHECK(access(path, F_OK) == 0);
    tear_down();
}

static struct cache_sqlite openers[4];
static int opener_rcs[COUNT(openers)];
static pthread_barrier_t start;

static void *open_at_once(void *user)
{
    size_t i = (size_t)((struct cache_sqlite *)user - openers);

    pthread_barrier_wait(&start);
    opener_rcs[i] = cache_sqlite_open(&openers[i], &config);
    return NULL;
}

/* A new file, opened by several at once: each finds it made, or makes it. */
static void open_by_many_at_once(void)
{
    pthread_t threads[COUNT(openers)];
    int round;
    size_t i;

    for (round = 0; round < 30 * test_scale(); round++) {
        prepare();
        CHECK_EQ(pthread_barrier_init(&start, NULL, COUNT(openers)), 0);
        for (i = 0; i < COUNT(openers); i++)
            CHECK_EQ(
                pthread_create(&threads[i], NULL, open_at_once, &openers[i]),
                0);
        for (i = 0; i < COUNT(openers); i++)
            (void)pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&start);
        for (i = 0; i < COUNT(openers); i++)
            if (opener_rcs[i] == 0)
                openers[i].store.close(&openers[i].store);
        for (i = 0; i < COUNT(openers); i++) {
            if (opener_rcs[i] != 0)
                printf("open: %s\n", openers[i].message);
            CHECK_EQ(opener_rcs[i], 0);
        }
        CHECK(openers[0].writer != openers[1].writer);
        tear_down();
    }
}

/* The file is there, made by something that is not through with it. */
static void open_waits_for_a_lock(void)
{
    prepare();
    start_locker(path);
    tell_locker('i');
    config.busy_timeout_ms = 5000;
    open_store(0);
    CHECK_EQ(store_one("a", "1"), 0);
    close_store(0);
    tell_locker('x');
    config.busy_timeout_ms = 5;
    check_refused(CACHE_ELOCKED);
    tell_locker('u');
    open_store(0);
    CHECK_STR(value("a"), "1");
    tear_down();
}

/* --- get, put, remove ---------------------------------------------------- */

static void round_trip(void)
{
    int i;

    for (i = 0; i < 2; i++) {
        prepare();
        use_real_disk();
        config.large_values = i;
        open_store(0);
        CHECK_STR(db->store.name, "sqlite");
        CHECK_EQ(db->store.capabilities, CACHE_STORE_EXPIRES |
                                             CACHE_STORE_VERSIONS |
                                             CACHE_STORE_ATOMIC);
        CHECK_STR(value("a"), "(absent)");
        CHECK_EQ(store_one("a", "1"), 0);
        CHECK_EQ(store_one("b", "2"), 0);
        CHECK_STR(value("a"), "1");
        CHECK_EQ(store_one("a", "a longer one"), 0);
        CHECK_STR(value("a"), "a longer one");
        CHECK_EQ(store_one("a", ""), 0); /* empty is not absent */
        CHECK_STR(value("a"), "");
        CHECK_EQ(erase_on(db, "a", ++version), 0);
        CHECK_STR(value("a"), "(absent)");
        CHECK_EQ(erase_on(db, "a", ++version), 0); /* no error */
        CHECK_EQ(store_one("a", "again"), 0);
        reopen();
        CHECK_STR(value("a"), "again");
        CHECK_STR(value("b"), "2");
        run(NULL, 0); /* a batch of nothing is done, too */
        tear_down();
    }
}

static void empty_value_has_no_pointer(void)
{
    struct cache_store_item item = put("a", "");

    set_up();
    item.value.data = NULL;
    CHECK_EQ(run_one(db, &item), 0);
    item = get("a");
    item.buffer = NULL;
    item.buffer_bytes = 0;
    CHECK_EQ(run_one(db, &item), 0);
    CHECK_EQ(item.value.len, 0);
    tear_down();
}

/* Keys are bytes: zeroes, prefixes, none at all. */
static void binary_keys(void)
{
    static const struct cache_bytes keys[] = {
        { "", 0 },         { "\0", 1 },   { "\0\0", 2 },          { "a", 1 },
        { "a\0", 2 },      { "a\0b", 3 }, { "a\0c", 3 },          { "A", 1 },
        { "\xff", 1 },     { "1", 1 },    { "1.0", 3 },           { " 1", 2 },
        { "\xff\xff", 2 }, { "NULL", 4 }, { "x' OR 1=1 --", 12 },
    };
    struct cache_store_item items[COUNT(keys)];
    char values[COUNT(keys)][8];
    size_t i, j;

    for (j = 0; j < 2; j++) {
        prepare();
        config.large_values = j;
        open_store(0);
        for (i = 0; i < COUNT(keys); i++) {
            (void)snprintf(values[i], sizeof *values, "%u", (unsigned)i);
            items[i] = put("", values[i]);
            items[i].key = keys[i];
        }
        run(items, COUNT(keys));
        check_statuses(items, COUNT(keys), 0);
        for (i = 0; i < COUNT(keys); i++) {
            items[i] = get("");
            items[i].key = keys[i];
        }
        run(items, COUNT(keys));
        for (i = 0; i < COUNT(keys); i++)
            CHECK_STR(text_of(&items[i]), values[i]);
        CHECK_STR(sql_text("SELECT count(*) FROM cache"), "15");
        tear_down();
    }
}

static void large_value(void)
{
    enum { BYTES = 1 << 20 };
    unsigned char *in = (unsigned char *)malloc(BYTES);
    unsigned char *out = (unsigned char *)malloc(BYTES);
    struct cache_store_item item;
    int i, j;

    CHECK(in != NULL && out != NULL);
    for (j = 0; j < 2; j++) {
        prepare();
        config.large_values = j;
        open_store(0);
        for (i = 0; i < BYTES; i++)
            in[i] = (unsigned char)(i * 7 + i / 251);
        item = put("large", "");
        item.value.data = in;
        item.value.len = BYTES;
        CHECK_EQ(run_one(db, &item), 0);
        reopen();
        memset(out, 0, BYTES);
        item = get("large");
        item.buffer = out;
        item.buffer_bytes = BYTES;
        CHECK_EQ(run_one(db, &item), 0);
        CHECK_EQ(item.value.len, BYTES);
        CHECK_EQ(memcmp(in, out, BYTES), 0);
        tear_down();
    }
    free(in);
    free(out);
}

/* A value that does not fit concerns its item and nobody else. */
static void buffer_too_small(void)
{
    static const struct {
        size_t room;
        int status;
    } cases[] = { { 0, CACHE_ETOOBIG },
                  { 1, CACHE_ETOOBIG },
                  { 9, CACHE_ETOOBIG },
                  { 10, 0 },
                  { 11, 0 } };
    size_t i;

    set_up();
    CHECK_EQ(store_one("a", "0123456789"), 0);
    CHECK_EQ(store_one("b", "b"), 0);
    for (i = 0; i < COUNT(cases); i++) {
        struct cache_store_item items[] = { get("b"), get("a"), put("c", "c"),
                                            get("c"), get("b") };
        char *room = (char *)malloc(cases[i].room + 1); /* ASan guards it */

        CHECK(room != NULL);
        memset(room, 'x', cases[i].room + 1);
        items[1].buffer = room;
        items[1].buffer_bytes = cases[i].room;
        run(items, COUNT(items));
        CHECK_EQ(items[1].status, cases[i].status);
        if (cases[i].status == 0) {
            CHECK_EQ(items[1].value.len, 10);
            CHECK_EQ(memcmp(room, "0123456789", 10), 0);
        }
        CHECK_EQ(room[cases[i].room], 'x');
        CHECK_STR(text_of(&items[0]), "b");
        CHECK_EQ(items[2].status, 0);
        CHECK_STR(text_of(&items[3]), "c");
        CHECK_STR(text_of(&items[4]), "b");
        free(room);
    }
    tear_down();
}

/* What SQLite does not take, neither as key nor as value. */
static void too_big_for_sqlite(void)
{
    static char big[3000];
    size_t i;

    memset(big, 'x', sizeof big - 1);
    for (i = 0; i < 2; i++) {
        struct cache_store_item items[] = {
            put("a", "1"), put("b", big), put(big, "2"), get(big),
            erase(big),    put("c", "3"), put("d", big),
        };

        prepare();
        config.large_values = i;
        open_store(0);
        CHECK_EQ(store_one("b", "old"), 0);
        (void)sqlite3_limit(db->db, SQLITE_LIMIT_LENGTH, 2000);
        items[6].value.len = 1999; /* by itself it would do, but not as a row */
        run(items, COUNT(items));
        CHECK_EQ(items[0].status, 0);
        CHECK_EQ(items[1].status, CACHE_ETOOBIG);
        CHECK_EQ(items[2].status, CACHE_ETOOBIG);
        CHECK_EQ(items[3].status, CACHE_ETOOBIG);
        CHECK_EQ(items[4].status, CACHE_ETOOBIG);
        CHECK_EQ(items[5].status, 0);
        CHECK_EQ(items[6].status, CACHE_ETOOBIG);
        CHECK_STR(value("a"), "1");
        CHECK_STR(value("b"), "old");
        CHECK_STR(value("c"), "3");
        CHECK_STR(value("d"), "(absent)");
        CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
        tear_down();
    }
}

/* Items see what those before them have done. */
static void batch_is_in_order(void)
{
    struct cache_store_item items[] = {
        get("a"),      put("a", "1"), get("a"), put("a", "2"),
        get("a"),      erase("a"),    get("a"), put("a", "3"),
        put("b", "4"), erase("a"),    get("a"), get("b"),
    };

    set_up();
    run(items, COUNT(items));
    CHECK_EQ(items[0].status, CACHE_EKEY);
    CHECK_STR(text_of(&items[2]), "1");
    CHECK_STR(text_of(&items[4]), "2");
    CHECK_EQ(items[6].status, CACHE_EKEY);
    CHECK_EQ(items[10].status, CACHE_EKEY);
    CHECK_STR(text_of(&items[11]), "4");
    CHECK_EQ(items[1].status | items[3].status | items[5].status |
                 items[7].status | items[8].status | items[9].status,
             0);
    CHECK_STR(value("a"), "(absent)");
    CHECK_STR(value("b"), "4");
    tear_down();
}

/* --- expiry -------------------------------------------------------------- */

static void put_expiring(const char *key, uint64_t expires_ms)
{
    struct cache_store_item item = put(key, "v");

    item.expires_ms = expires_ms;
    CHECK_EQ(run_one(db, &item), 0);
}

static void expired_is_not_found(void)
{
    static const struct {
        uint64_t expires_ms, now_ms;
        uint64_t found_ms; /* what a get gives back */
        int status;
    } cases[] = {
        { 0, 2000000, 0, 0 },             /* never */
        { 2000000, 1999999, 2000000, 0 }, /* the last moment */
        { 2000000, 2000000, 0, CACHE_EKEY },
        { 2000000, 2000001, 0, CACHE_EKEY },
        { 1, 1000000, 0, CACHE_EKEY }, /* dead when it was written */
        { INT64_MAX, 2000000, INT64_MAX, 0 },
        { UINT64_MAX, 2000000, 0, 0 }, /* beyond SQLite: never */
        { (uint64_t)INT64_MAX + 1, 2000000, 0, 0 },
    };
    struct cache_store_item item;
    size_t i;

    prepare();
    config.wall_now = wall_now;
    open_store(0);
    for (i = 0; i < COUNT(cases); i++) {
        atomic_store(&wall_ms, 1000000);
        put_expiring("a", cases[i].expires_ms);
        atomic_store(&wall_ms, cases[i].now_ms);
        item = get("a");
        CHECK_EQ(run_one(db, &item), cases[i].status);
        if (cases[i].status == 0)
            CHECK(item.expires_ms == cases[i].found_ms);
    }
    /* A put without a time to live takes it away. */
    put_expiring("a", 2000000);
    put_expiring("a", 0);
    atomic_store(&wall_ms, 3000000);
    CHECK_STR(value("a"), "v");
    tear_down();
}

/* Without a clock of the test's: the system's, in unix milliseconds. */
static void system_clock(void)
{
    uint64_t now_ms = (uint64_t)time(NULL) * 1000;

    set_up();
    put_expiring("later", now_ms + 60000);
    put_expiring("past", now_ms - 1000);
    CHECK_STR(value("later"), "v");
    CHECK_STR(value("past"), "(absent)");
    tear_down();
}

/* A batch may wait for a lock: what expires meanwhile is not found. */
static void expires_while_waiting(void)
{
    static struct cache_store_batch batch;
    static struct cache_store_item items[2];
    static int n_done;

    prepare();
    config.wall_now = wall_now;
    start_locker(path);
    open_store(0);
    put_expiring("a", 2000000);
    tell_locker('x');
    items[0] = put("b", "1");
    items[1] = get("a");
    batch.items = items;
    batch.n_items = 2;
    batch.done = on_done;
    batch.user = &n_done;
    n_done = 0;
    CHECK_EQ(db->store.submit(&db->store, &batch), 0);
    sleep_ms(50); /* it is waiting by now */
    atomic_store(&wall_ms, 2000000);
    tell_locker('u');
    CHECK(wait_for(&n_done, 1));
    CHECK_EQ(items[0].status, 0);
    CHECK_EQ(items[1].status, CACHE_EKEY);
    tear_down();
}

/* Rows in the table, found or not. */
static int n_rows(void)
{
    return atoi(sql_text("SELECT count(*) FROM cache"));
}

/* A sweep goes with each batch of writes, over so many rows. */
static void sweep(int n_rows_to_pass)
{
    int i;

    for (i = 0; i < n_rows_to_pass / CACHE_SQLITE_SWEEP_ROWS + 2; i++)
        CHECK_EQ(store_one("k0001", "v"), 0);
}

static void expired_rows_are_deleted(void)
{
    static char long_key[3000], longer_key[3000];
    struct cache_store_item item;
    size_t i, j;

    memset(long_key, 'k', sizeof long_key - 1);
    memset(longer_key, 'l', sizeof longer_key - 1);
    for (j = 0; j < 2; j++) {
        prepare();
        config.wall_now = wall_now;
        config.large_values = j;
        open_store(0);
        many_puts(MANY, "sweep", 30);
        for (i = 0; i < MANY; i++) /* a third never, a third early, late */
            many[i].expires_ms = i % 3 ? (i % 3 + 1) * 1000000 : 0;
        run(many, MANY);
        check_statuses(many, MANY, 0);
        put_expiring(long_key, 2000000);
        put_expiring(longer_key, 0);
        put_expiring("", 2000000); /* the least of all keys */
        sweep(MANY);               /* nothing has expired: nothing goes */
        CHECK_EQ(n_rows(), MANY + 3);
        atomic_store(&wall_ms, 1999999);
        sweep(MANY);
        CHECK_EQ(n_rows(), MANY + 3);
        atomic_store(&wall_ms, 2000000);
        sweep(MANY);
        sweep(MANY);
        /* k0001 was among the first, but has been put again for ever. */
        CHECK_EQ(n_rows(), MANY + 3 - 2 - MANY / 3 + 1);
        CHECK_STR(sql_text("SELECT count(*) FROM cache WHERE exp = 2000000"),
                  "0");
        put_expiring("a", 2500000); /* where the cursor has been already */
        put_expiring("zz", 2500000);
        atomic_store(&wall_ms, 3000000);
        sweep(MANY);
        sweep(MANY);
        CHECK_EQ(n_rows(), MANY / 3 + 1 + 1 + 1);
        CHECK_STR(sql_text("SELECT count(*) FROM cache WHERE exp <> 0"), "0");
        item = get(longer_key);
        CHECK_EQ(run_one(db, &item), 0);
        for (i = 0; i < MANY; i += 3) { /* what was to live, lives */
            item = get(many_keys[i]);
            CHECK_EQ(run_one(db, &item), 0);
        }
        tear_down();
    }
}

/* One batch looks at so many rows and no more. */
static void sweep_is_bounded(void)
{
    size_t i;

    prepare();
    config.wall_now = wall_now;
    open_store(0);
    many_puts(MANY, "sweep", 30);
    for (i = 0; i < MANY; i++)
        many[i].expires_ms = 1500000;
    run(many, MANY);
    sweep(MANY);
    put_expiring("zz", 0);
    while (db->swept_to != NULL) /* to the end, then all are dead at once */
        put_expiring("zz", 0);
    atomic_store(&wall_ms, 2000000);
    put_expiring("zz", 0);
    CHECK_EQ(n_rows(), 2 + MANY - 1 - CACHE_SQLITE_SWEEP_ROWS + 1);
    CHECK_EQ(store_one("zz", "v"), 0);
    CHECK_EQ(n_rows(), 2 + MANY - 1 - 2 * CACHE_SQLITE_SWEEP_ROWS + 1);
    (void)value("zz"); /* reads do not sweep */
    CHECK_EQ(n_rows(), 2 + MANY - 1 - 2 * CACHE_SQLITE_SWEEP_ROWS + 1);
    tear_down();
}

/* --- versions ------------------------------------------------------------ */

static void older_versions_are_refused(void)
{
    set_up();
    CHECK_EQ(put_on(db, "a", "new", 10), 0);
    CHECK_EQ(put_on(db, "a", "old", 9), CACHE_ECONFLICT);
    CHECK_STR(value("a"), "new");
    CHECK_EQ(put_on(db, "a", "again", 10), 0); /* a repetition */
    CHECK_STR(value("a"), "again");
    CHECK_EQ(erase_on(db, "a", 9), 0);
    CHECK_STR(value("a"), "again");
    CHECK_EQ(put_on(db, "a", "newer", 11), 0);
    CHECK_EQ(erase_on(db, "a", 11), 0);
    CHECK_STR(value("a"), "(absent)");
    CHECK_EQ(put_on(db, "b", "zero", 0), 0); /* without versions: all equal */
    CHECK_EQ(put_on(db, "b", "zero again", 0), 0);
    CHECK_STR(value("b"), "zero again");
    tear_down();
}

static void conflict_concerns_its_item(void)
{
    struct cache_store_item items[] = { put("b", "1"), put("a", "old"),
                                        put("c", "2"), get("a") };

    set_up();
    CHECK_EQ(put_on(db, "a", "new", ++version), 0);
    run(items, COUNT(items));
    CHECK_EQ(items[0].status, 0);
    CHECK_EQ(items[1].status, CACHE_ECONFLICT);
    CHECK_EQ(items[2].status, 0);
    CHECK_STR(text_of(&items[3]), "new");
    CHECK_STR(value("b"), "1");
    CHECK_STR(value("c"), "2");
    tear_down();
}

/* Of two writers the last one wins, whatever its versions. */
static void another_writer_overwrites(void)
{
    struct cache_sqlite *other = &stores[1];

    set_up();
    open_store(1);
    CHECK_EQ(put_on(db, "a", "first", 1000), 0);
    CHECK_EQ(put_on(other, "a", "second", 1), 0);
    CHECK_STR(value("a"), "second");
    CHECK_EQ(put_on(db, "a", "third", 1001), 0);
    CHECK_STR(value_on(other, "a"), "third");
    CHECK_EQ(erase_on(other, "a", 2), 0);
    CHECK_STR(value("a"), "(absent)");
    CHECK_EQ(put_on(other, "a", "fourth", 1000), 0);
    CHECK_EQ(erase_on(db, "a", 1), 0); /* either way */
    CHECK_STR(value("a"), "(absent)");
    /* The next open is another writer, too. */
    CHECK_EQ(put_on(db, "a", "before", 5000), 0);
    reopen();
    CHECK_EQ(put_on(db, "a", "after", 1), 0);
    CHECK_STR(value("a"), "after");
    tear_down();
}

/* `ver` has 40 bits for it: beyond them a write is not refused, only no longer
 * protected, and it is never taken for another writer's. */
static void versions_without_end(void)
{
    static const uint64_t versions[] = {
        (1ull << 40) - 2, (1ull << 40) - 1, 1ull << 40, (1ull << 40) + 1,
        1ull << 41,       1ull << 63,       UINT64_MAX,
    };
    char text[32], ver[32];
    size_t i;

    set_up();
    for (i = 0; i < COUNT(versions); i++) {
        (void)snprintf(text, sizeof text, "%u", (unsigned)i);
        CHECK_EQ(put_on(db, "a", text, versions[i]), 0);
        CHECK_STR(value("a"), text);
        (void)snprintf(ver, sizeof ver, "%lld", (long long)(db->writer >> 40));
        CHECK_STR(sql_text("SELECT ver >> 40 FROM cache"), ver);
    }
    CHECK_EQ(put_on(db, "a", "old", 5), CACHE_ECONFLICT);
    CHECK_EQ(erase_on(db, "a", UINT64_MAX), 0);
    CHECK_STR(value("a"), "(absent)");
    tear_down();
}

/* --- durability and atomicity -------------------------------------------- */

static void settings_are_in_force(void)
{
    static const struct {
        const char *pragma, *shows;
    } cases[] = {
        { "PRAGMA journal_mode", "wal" },
        { "PRAGMA synchronous", "2" }, /* FULL */
        { "PRAGMA application_id", "1667326824" },
        { "PRAGMA user_version", "1" },
        { "PRAGMA wal_autocheckpoint", "16384" },
        { "PRAGMA cache_size", "-1234" },
        { "PRAGMA busy_timeout", "4321" },
        { "PRAGMA locking_mode", "normal" },
    };
    size_t i, j;

    prepare();
    use_real_disk();
    config.cache_kib = 1234;
    config.busy_timeout_ms = 4321;
    for (j = 0; j < 2; j++) { /* of a new file and of one that is there */
        open_store(0);
        for (i = 0; i < COUNT(cases); i++)
            CHECK_STR(sql_text(cases[i].pragma), cases[i].shows);
        close_store(0);
    }
    /* Also of one that somebody has switched back. */
    sql_on_file(path, "PRAGMA journal_mode = DELETE");
    config.cache_kib = config.busy_timeout_ms = 0;
    open_store(0);
    CHECK_STR(sql_text("PRAGMA journal_mode"), "wal");
    CHECK_STR(sql_text("PRAGMA busy_timeout"), "5000");
    CHECK_STR(sql_text("PRAGMA cache_size"), "-65536");
    CHECK_STR(sql_text("SELECT sql LIKE '%WITHOUT ROWID' FROM sqlite_schema"
                       " WHERE name = 'cache'"),
              "1");
    tear_down();
    prepare();
    config.large_values = true;
    open_store(0);
    CHECK_STR(sql_text("SELECT sql LIKE '%WITHOUT ROWID' FROM sqlite_schema"
                       " WHERE name = 'cache'"),
              "0");
    tear_down();
}

/* What a batch of writes syncs is the disk's last word before `done`. */
static void done_comes_after_the_sync(void)
{
    prepare();
    open_store(0);
    CHECK_EQ(store_one("a", "1"), 0);
    fail(FAULT_SYNC, 1000000, false); /* fails nothing, but counts */
    CHECK_EQ(store_one("a", "2"), 0);
    CHECK(atomic_load(&fault_after) < 1000000);
    tear_down();
}

/* A file that has no room for the whole batch takes nothing of it. */
static void full_file_takes_all_or_nothing(void)
{
    char limit[64];

    set_up();
    CHECK_EQ(store_one("before", "1"), 0);
    CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
    (void)snprintf(limit, sizeof limit, "PRAGMA max_page_count = %d",
                   atoi(sql_text("PRAGMA page_count")) + 20);
    sql(limit);
    many_puts(100, "full", 2000);
    run(many, 100);
    check_statuses(many, 100, CACHE_EFULL);
    CHECK(db->message[0] != '\0');
    CHECK_EQ(n_rows(), 1);
    check_many(100, false);
    CHECK_EQ(store_one("small", "2"), 0); /* there is room for this */
    run(many, 100);
    check_statuses(many, 100, CACHE_EFULL);
    sql("PRAGMA max_page_count = 1000000");
    run(many, 100); /* the same versions: a repetition */
    check_statuses(many, 100, 0);
    check_many(100, true);
    CHECK_STR(value("before"), "1");
    CHECK_STR(value("small"), "2");
    tear_down();
}

/* A file system that is full, where we are allowed to mount one. */
static void full_disk(void)
{
    char mounted[280], file[300], generation[8];
    unsigned n;
    int rc = 0;

    prepare();
    use_real_disk();
    (void)snprintf(mounted, sizeof mounted, "%s/full", directory);
    CHECK_EQ(mkdir(mounted, 0700), 0);
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=512k") != 0) {
        printf("skipped: full_disk: mount: %s\n", strerror(errno));
        (void)rmdir(mounted);
        return;
    }
    (void)snprintf(file, sizeof file, "%s/a.db", mounted);
    config.path = file;
    open_store(0);
    for (n = 0; n < 100 && rc == 0; n++) { /* the same keys: the WAL grows */
        (void)snprintf(generation, sizeof generation, "%u", n);
        many_puts(20, generation, 1000);
        run(many, 20);
        rc = many[0].status;
        check_statuses(many, 20, rc);
    }
    CHECK_EQ(rc, CACHE_EFULL);
    CHECK(n > 2);
    (void)snprintf(generation, sizeof generation, "%u", n - 2);
    many_puts(20, generation, 1000); /* what was acknowledged last */
    check_many(20, true);
    CHECK_EQ(mount("tmpfs", mounted, "tmpfs", MS_REMOUNT, "size=8m"), 0);
    many_puts(20, "more", 2000);
    run(many, 20);
    check_statuses(many, 20, 0);
    check_many(20, true);
    reopen();
    check_many(20, true);
    CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
    close_store(0);
    CHECK_EQ(umount(mounted), 0);
    CHECK_EQ(rmdir(mounted), 0);
    tear_down();
}

/* --- faults below: every operation of the disk, every allocation --------- */

/* Writes far apart and a read between: each goes to the disk by itself. */
static struct cache_store_item trial[5];
static char trial_text[24];

static void set_trial(int number)
{
    (void)snprintf(trial_text, sizeof trial_text, "trial %d", number);
    trial[0] = put("k0000", trial_text);
    trial[1] = get("k0500");
    trial[2] = put("k0999", trial_text);
    trial[3] = erase("victim");
    trial[4] = get("k0250");
}

/* How many of the trial's three writes are in the file. */
static int n_trial_writes(void)
{
    return (strcmp(value("k0000"), trial_text) == 0) +
           (strcmp(value("k0999"), trial_text) == 0) +
           (strcmp(value("victim"), "(absent)") == 0);
}

static void check_trial_done(void)
{
    CHECK_EQ(trial[0].status | trial[2].status | trial[3].status, 0);
    CHECK_EQ(n_trial_writes(), 3);
}

/* A batch in which something failed, after the fault has gone. */
static void check_trial(int status, bool unknown)
{
    int n = n_trial_writes();

    if (trial[0].status == 0) {
        check_trial_done();
    } else {
        check_statuses(trial, COUNT(trial), status);
        /* A sync that fails may have been one that did. */
        CHECK(n == 0 || (unknown && n == 3));
        CHECK(db->message[0] != '\0');
    }
    run(trial, COUNT(trial)); /* repeated: the same versions, no harm */
    check_trial_done();
    check_statuses(trial, COUNT(trial), 0);
    CHECK_EQ(memcmp(trial[1].value.data, "k0500", 5), 0);
}

static void fill_for_trials(void)
{
    many_puts(MANY, "old", 100);
    run(many, MANY);
    check_statuses(many, MANY, 0);
}

static void failing_disk(void)
{
    static const enum fault faults[] = { FAULT_READ, FAULT_WRITE, FAULT_SYNC };
    int after, number = 0, n_failed;
    size_t i;

    for (i = 0; i < 4 * COUNT(faults); i++) {
        enum fault what = faults[i / 4];

        prepare();
        config.large_values = i / 2 % 2;
        open_store(0);
        fill_for_trials();
        for (after = n_failed = 0;; after++) {
            bool hit;

            CHECK_EQ(store_one("victim", "1"), 0);
            set_trial(++number);
            (void)sqlite3_db_release_memory(db->db); /* no page is cached */
            fail(what, after, i % 2);
            run(trial, COUNT(trial));
            hit = atomic_load(&n_faults) > 0;
            fail(FAULT_NONE, 0, false);
            if (trial[0].status != 0)
                n_failed++;
            check_trial(CACHE_EIO, what == FAULT_SYNC);
            if (!hit)
                break;
        }
        CHECK(n_failed > 0);
        CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
        reopen();
        CHECK_EQ(n_trial_writes(), 3);
        tear_down();
    }
}

/* Reads that fail say so; those of other rows are right. */
static void failing_reads(void)
{
    int after, n_failed = 0;
    bool hit = true;
    size_t i;

    prepare();
    open_store(0);
    fill_for_trials();
    for (after = 0; hit; after++) {
        struct cache_store_item items[] = { get("k0000"), get("k0500"),
                                            get("none"), get("k0999") };

        (void)sqlite3_db_release_memory(db->db);
        fail(FAULT_READ, after, false);
        run(items, COUNT(items));
        hit = atomic_load(&n_faults) > 0;
        fail(FAULT_NONE, 0, false);
        for (i = 0; i < COUNT(items); i++) {
            int status = items[i].status;

            CHECK(status == (i == 2 ? CACHE_EKEY : 0) ||
                  (hit && status == CACHE_EIO));
            if (status == 0)
                CHECK_EQ(memcmp(items[i].value.data, items[i].key.data, 5), 0);
            n_failed += status == CACHE_EIO;
        }
    }
    CHECK(n_failed > 0);
    check_many(MANY, true);
    tear_down();
}

/* A checkpoint that fails loses nothing: the WAL has it all. */
static void failing_close(void)
{
    enum fault what;

    for (what = FAULT_READ; what <= FAULT_SYNC; what++) {
        prepare();
        open_store(0);
        fill_for_trials();
        fail(what, 0, false);
        count_open(&before);
        close_store(0);
        CHECK(entries_of("/proc/self/fd") < before.fds);
        CHECK(atomic_load(&n_faults) > 0);
        fail(FAULT_NONE, 0, false);
        open_store(0);
        check_many(MANY, true);
        CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
        tear_down();
    }
}

/* Opening on a disk that fails: an error and nothing open, or a WAL store. */
static void failing_open(void)
{
    enum fault what;
    int after, rc;
    bool hit;

    for (what = FAULT_READ; what <= FAULT_SYNC; what++) {
        for (after = 0, hit = true; hit; after++) {
            prepare();
            fail(what, after, after % 2);
            count_open(&before);
            rc = try_open(0);
            hit = atomic_load(&n_faults) > 0;
            fail(FAULT_NONE, 0, false);
            if (rc != 0) {
                CHECK(hit);
                CHECK_EQ(rc, CACHE_EIO);
                CHECK(db->message[0] != '\0');
                check_nothing_left();
                open_store(0);
            }
            CHECK_STR(sql_text("PRAGMA journal_mode"), "wal");
            CHECK_EQ(store_one("a", "1"), 0);
            reopen();
            CHECK_STR(value("a"), "1");
            tear_down();
        }
        CHECK(after > 1);
    }
}

static void out_of_memory(void)
{
    int left, number = 0, n_failed = 0;
    bool hit = true;

    set_up();
    fill_for_trials();
    for (left = 0; hit; left++) {
        CHECK_EQ(store_one("victim", "1"), 0);
        set_trial(++number);
        (void)sqlite3_db_release_memory(db->db);
        atomic_store(&n_refused, 0);
        atomic_store(&memory_left, left);
        run(trial, COUNT(trial));
        atomic_store(&memory_left, -1);
        hit = atomic_load(&n_refused) > 0;
        n_failed += trial[0].status != 0;
        check_trial(CACHE_ENOMEM, false);
    }
    CHECK(n_failed > 0);
    CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
    tear_down();
}

static void out_of_memory_in_open(void)
{
    int left, rc, n_failed = 0;
    bool hit = true;

    set_up();
    CHECK_EQ(store_one("a", "1"), 0);
    close_store(0);
    for (left = 0; hit; left++) {
        atomic_store(&n_refused, 0);
        count_open(&before);
        atomic_store(&memory_left, left);
        rc = try_open(0);
        atomic_store(&memory_left, -1);
        hit = atomic_load(&n_refused) > 0;
        if (rc != 0) {
            CHECK_EQ(rc, CACHE_ENOMEM);
            CHECK(db->message[0] != '\0');
            check_nothing_left();
            n_failed++;
            continue;
        }
        CHECK_STR(sql_text("PRAGMA journal_mode"), "wal");
        CHECK_STR(value("a"), "1");
        close_store(0);
    }
    CHECK(n_failed > 0);
    tear_down();
}

/* --- locks, rights, damage ----------------------------------------------- */

static void locked_by_another_process(void)
{
    struct cache_store_item items[3];

    prepare();
    config.busy_timeout_ms = 20;
    start_locker(path);
    open_store(0);
    CHECK_EQ(store_one("a", "1"), 0);
    CHECK_EQ(store_one("b", "1"), 0);
    items[0] = put("a", "2");
    items[1] = get("a");
    items[2] = erase("b");
    tell_locker('x');
    run(items, COUNT(items));
    check_statuses(items, COUNT(items), CACHE_ELOCKED);
    CHECK_STR(db->message, "database is locked");
    CHECK_STR(value("a"), "1"); /* readers need no lock */
    CHECK_STR(value("b"), "1");
    tell_locker('u');
    run(items, COUNT(items));
    check_statuses(items, COUNT(items), 0);
    CHECK_STR(text_of(&items[1]), "2");
    CHECK_STR(value("a"), "2");
    CHECK_STR(value("b"), "(absent)");
    tear_down();
}

static void waits_for_a_lock(void)
{
    set_up();
    close_store(0);
    start_locker(path);
    open_store(0); /* with the default of five seconds */
    tell_locker('i');
    CHECK_EQ(store_one("a", "1"), 0);
    CHECK_STR(value("a"), "1");
    tear_down();
}

static void read_only_store(void)
{
    struct cache_store_item items[] = { get("a"), put("a", "2"), get("a") };
    struct cache_sqlite *reader = &stores[1];

    set_up();
    CHECK_EQ(store_one("a", "1"), 0);
    config.read_only = true;
    open_store(1);
    CHECK_STR(value_on(reader, "a"), "1");
    CHECK_STR(value_on(reader, "b"), "(absent)");
    CHECK_EQ(put_on(reader, "a", "2", ++version), CACHE_EACCESS);
    CHECK(reader->message[0] != '\0');
    CHECK_EQ(erase_on(reader, "a", ++version), CACHE_EACCESS);
    CHECK_EQ(erase_on(reader, "none", ++version), CACHE_EACCESS);
    run_on(reader, items, COUNT(items));
    check_statuses(items, COUNT(items), CACHE_EACCESS);
    CHECK_STR(value_on(reader, "a"), "1");
    CHECK_EQ(store_one("a", "3"), 0); /* what others write, it sees */
    CHECK_STR(value_on(reader, "a"), "3");
    close_store(1);
    reopen(); /* alone with the file */
    CHECK_STR(value("a"), "3");
    CHECK_EQ(store_one("a", "4"), CACHE_EACCESS);
    config.table = "missing";
    CHECK(try_open(1) < 0);
    CHECK(stores[1].message[0] != '\0');
    tear_down();
}

/* In a child without rights; there is no thread but this one. */
static int open_without_rights(bool read_only)
{
    int exit_status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 ||
                               setuid(65534) != 0))
            _exit(1);
        config.read_only = read_only;
        _exit(cache_sqlite_open(db, &config) == CACHE_EACCESS &&
                      db->message[0] != '\0'
                  ? 0
                  : 2);
    }
    CHECK_EQ(waitpid(pid, &exit_status, 0), pid);
    CHECK(WIFEXITED(exit_status));
    return WEXITSTATUS(exit_status);
}

static void file_without_rights(void)
{
    set_up();
    CHECK_EQ(store_one("a", "1"), 0);
    close_store(0);
    CHECK_EQ(chmod(path, 0444), 0);
    CHECK_EQ(chmod(directory, 0555), 0); /* to be read, not written */
    CHECK_EQ(open_without_rights(false), 0);
    CHECK_EQ(chmod(path, 0), 0);
    CHECK_EQ(open_without_rights(false), 0);
    CHECK_EQ(open_without_rights(true), 0);
    CHECK_EQ(chmod(directory, 0700), 0);
    CHECK_EQ(chmod(path, 0600), 0);
    open_store(0);
    CHECK_STR(value("a"), "1");
    tear_down();
}

/* Overwrites a part of the file, which nobody has open. */
static void damage(const char *file, long from, long to)
{
    FILE *f = fopen(file, "r+b");

    CHECK(f != NULL);
    CHECK_EQ(fseek(f, from, SEEK_SET), 0);
    for (; from < to; from++)
        CHECK_EQ(fputc(0xa5, f), 0xa5);
    CHECK_EQ(fclose(f), 0);
}

static void damaged_file(void)
{
    struct stat file;
    int i, j, n_right, n_damaged;
    long pages;

    for (j = 0; j < 2; j++) {
        prepare();
        config.large_values = j;
        open_store(0);
        fill_for_trials();
        close_store(0); /* all is in the file now, nothing in a WAL */
        CHECK_EQ(stat(path, &file), 0);
        pages = file.st_size / 4096;
        damage(path, pages / 3 * 4096, pages * 2 / 3 * 4096);
        open_store(0);
        n_right = n_damaged = 0;
        for (i = 0; i < MANY; i += 4) { /* each batch on its own page or two */
            struct cache_store_item items[] = { get(many_keys[i]),
                                                get(many_keys[i + 1]),
                                                get(many_keys[i + 2]),
                                                get(many_keys[i + 3]) };
            int k;

            run(items, COUNT(items));
            for (k = 0; k < 4; k++) {
                if (items[k].status == CACHE_ECORRUPT) {
                    n_damaged++;
                    continue;
                }
                n_right++; /* neither another value nor an absent one */
                CHECK_EQ(items[k].status, 0);
                CHECK_EQ(items[k].value.len, 100);
                CHECK_EQ(memcmp(items[k].buffer, many_values[i + k], 100), 0);
            }
        }
        CHECK(n_right > 0);
        CHECK(n_damaged > 0);
        CHECK(db->message[0] != '\0');
        many_puts(MANY, "new", 100); /* not stored, and no harm is done */
        run(many, MANY);
        check_statuses(many, MANY, CACHE_ECORRUPT);
        tear_down();
    }
    set_up(); /* the first page */
    fill_for_trials();
    close_store(0);
    damage(path, 0, 100);
    check_refused(CACHE_ECORRUPT);
    tear_down();
}

/* --- closing ------------------------------------------------------------- */

#define QUEUE 100

static struct cache_store_batch queue[QUEUE];
static struct cache_store_item queue_items[QUEUE];
static int order[QUEUE], n_done_in_order;

static void on_done_in_order(struct cache_store_batch *batch)
{
    pthread_mutex_lock(&done_lock);
    order[n_done_in_order++ % QUEUE] = (int)(batch - queue);
    pthread_cond_broadcast(&done_wake);
    pthread_mutex_unlock(&done_lock);
}

static int enqueue(int i, void (*done)(struct cache_store_batch *))
{
    static char texts[QUEUE][8];

    (void)snprintf(texts[i], sizeof *texts, "%d", i);
    queue_items[i] = put("a", texts[i]);
    memset(&queue[i], 0, sizeof queue[i]);
    queue[i].items = &queue_items[i];
    queue[i].n_items = 1;
    queue[i].done = done;
    return db->store.submit(&db->store, &queue[i]);
}

static void close_completes_what_was_submitted(void)
{
    int i;

    set_up();
    n_done_in_order = 0;
    for (i = 0; i < QUEUE; i++)
        CHECK_EQ(enqueue(i, on_done_in_order), 0);
    close_store(0);
    CHECK_EQ(n_done_in_order, QUEUE);
    for (i = 0; i < QUEUE; i++) {
        CHECK_EQ(order[i], i);
        CHECK_EQ(queue_items[i].status, 0);
    }
    open_store(0);
    CHECK_STR(value("a"), "99");
    tear_down();
}

/* The queue runs empty and is filled again: nothing stays behind. */
static void queue_runs_empty(void)
{
    int i, round;

    set_up();
    for (round = 0; round < 30; round++) {
        n_done_in_order = 0;
        for (i = 0; i < 1 + round % 5; i++)
            CHECK_EQ(enqueue(i, on_done_in_order), 0);
        CHECK(wait_for(&n_done_in_order, i));
        while (i-- > 0)
            CHECK_EQ(order[i], i);
    }
    tear_down();
}

static bool held, let_go;

static void on_done_hold(struct cache_store_batch *batch)
{
    pthread_mutex_lock(&done_lock);
    held = true;
    pthread_cond_broadcast(&done_wake);
    while (!let_go)
        pthread_cond_wait(&done_wake, &done_lock);
    pthread_mutex_unlock(&done_lock);
    on_done_in_order(batch);
}

static void *close_in_thread(void *user)
{
    (void)user;
    db->store.close(&db->store);
    return NULL;
}

/* From when it is closing, a submit is refused; what came before is done. */
static void submit_while_closing(void)
{
    pthread_t closer;
    int i, rc = 0;

    set_up();
    n_done_in_order = 0;
    held = let_go = false;
    CHECK_EQ(enqueue(0, on_done_hold), 0);
    CHECK_EQ(enqueue(1, on_done_in_order), 0);
    pthread_mutex_lock(&done_lock); /* its thread is in `done`: */
    while (!held)
        pthread_cond_wait(&done_wake, &done_lock);
    pthread_mutex_unlock(&done_lock);
    is_open[0] = false;
    CHECK_EQ(pthread_create(&closer, NULL, close_in_thread, NULL), 0);
    for (i = 2; i < QUEUE && rc == 0; i++) { /* so it is not closed yet */
        sleep_ms(1);
        rc = enqueue(i, on_done_in_order);
    }
    pthread_mutex_lock(&done_lock);
    let_go = true;
    pthread_cond_broadcast(&done_wake);
    pthread_mutex_unlock(&done_lock);
    (void)pthread_join(closer, NULL);
    CHECK_EQ(rc, CACHE_ECLOSED);
    CHECK_EQ(n_done_in_order, i - 1); /* all but the one that was refused */
    tear_down();
}

/* --- several threads and processes --------------------------------------- */

enum { N_WRITERS = 3, N_WRITER_BATCHES = 60, N_WRITER_ROWS = 8 };

struct writer {
    struct cache_sqlite *s;
    int number;
    bool failed;
};

/* Rows of its own, and one that all write. */
static void *write_much(void *user)
{
    struct writer *w = (struct writer *)user;
    struct cache_store_item items[N_WRITER_ROWS + 1];
    struct cache_store_batch batch = { .items = items, .n_items = 0 };
    char keys[N_WRITER_ROWS + 1][24], text[24];
    int i, j, n_done;

    for (i = 0; i < N_WRITER_BATCHES; i++) {
        (void)snprintf(text, sizeof text, "%d-%d", w->number, i);
        memset(items, 0, sizeof items);
        for (j = 0; j <= N_WRITER_ROWS; j++) {
            (void)snprintf(keys[j], sizeof *keys, "%d-%d", w->number, j);
            items[j].op = CACHE_STORE_PUT;
            items[j].key = bytes_of(j == 0 ? "shared" : keys[j]);
            items[j].value = bytes_of(text);
            items[j].version = (uint64_t)i + 1;
        }
        batch.n_items = N_WRITER_ROWS + 1;
        if (!try_run(w->s, &batch, &n_done))
            w->failed = true;
        for (j = 0; j <= N_WRITER_ROWS; j++)
            w->failed = w->failed || items[j].status != 0;
    }
    return NULL;
}

static void many_stores_on_one_file(void)
{
    pthread_t threads[N_WRITERS];
    struct writer writers[N_WRITERS];
    char key[24], text[24];
    int i, j;

    prepare();
    use_real_disk();
    for (i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer) { &stores[i], i, false };
        open_store(i);
    }
    for (i = 0; i < N_WRITERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_much, &writers[i]), 0);
    for (i = 0; i < N_WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    for (i = 0; i < N_WRITERS; i++) {
        CHECK(!writers[i].failed);
        (void)snprintf(text, sizeof text, "%d-%d", i, N_WRITER_BATCHES - 1);
        for (j = 1; j <= N_WRITER_ROWS; j++) {
            (void)snprintf(key, sizeof key, "%d-%d", i, j);
            CHECK_STR(value_on(&stores[(i + 1) % N_WRITERS], key), text);
        }
    }
    CHECK(strstr(value("shared"), "-59") != NULL); /* the last of somebody's */
    CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
    tear_down();
}

/* Several threads, one store. */
static void many_threads_on_one_store(void)
{
    pthread_t threads[N_WRITERS];
    struct writer writers[N_WRITERS];
    int i;

    set_up();
    for (i = 0; i < N_WRITERS; i++) {
        writers[i] = (struct writer) { db, i, false };
        CHECK_EQ(pthread_create(&threads[i], NULL, write_much, &writers[i]), 0);
    }
    for (i = 0; i < N_WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    CHECK_STR(value("0-1"), "0-59");
    CHECK_STR(value("1-8"), "1-59");
    CHECK_STR(value("2-4"), "2-59");
    tear_down();
}

/* --- kill -9 ------------------------------------------------------------- */

enum { KILL_ROWS = 8 };

static const char *kill_key(int round, int batch, int row)
{
    static char keys[KILL_ROWS][40];

    (void)snprintf(keys[row], sizeof *keys, "%d.%d.%d", round, batch, row);
    return keys[row];
}

/* In the child: writes batch after batch and tells which are acknowledged. */
static void write_until_killed(int round, int to)
{
    struct cache_store_item items[KILL_ROWS + 1];
    struct cache_store_batch batch = { .items = items,
                                       .n_items = KILL_ROWS + 1 };
    int i, row, n_done;
    char text[300];

    if (cache_sqlite_open(db, &config) != 0)
        _exit(1);
    memset(text, '.', sizeof text);
    for (i = -1;; i++) {
        if (write(to, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(1);
        (void)snprintf(text, sizeof text, "%d", i + 1);
        for (row = 0; row < KILL_ROWS; row++) {
            items[row] = put(kill_key(round, i + 1, row), "");
            items[row].value.data = text;
            items[row].value.len = sizeof text;
        }
        items[KILL_ROWS] = put("latest", text);
        if (!try_run(db, &batch, &n_done))
            _exit(2);
        for (row = 0; row <= KILL_ROWS; row++)
            if (items[row].status != 0)
                _exit(3);
    }
}

/* How many rows of a batch are in the file, each with its value. */
static int n_kill_rows(int round, int batch)
{
    struct cache_store_item items[KILL_ROWS];
    int row, n = 0;

    for (row = 0; row < KILL_ROWS; row++)
        items[row] = get(kill_key(round, batch, row));
    run(items, KILL_ROWS);
    for (row = 0; row < KILL_ROWS; row++) {
        if (items[row].status == CACHE_EKEY)
            continue;
        CHECK_EQ(items[row].status, 0);
        CHECK_EQ(items[row].value.len, 300);
        CHECK_EQ(atoi((const char *)items[row].buffer), batch);
        n++;
    }
    return n;
}

/* Returns the last batch that was acknowledged. */
static int kill_after(int round, unsigned ms)
{
    int fds[2], acknowledged = -2, i, exit_status;
    pid_t pid;

    CHECK_EQ(pipe(fds), 0);
    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        write_until_killed(round, fds[1]);
    }
    close(fds[1]);
    if (read(fds[0], &i, sizeof i) == (ssize_t)sizeof i) { /* it is open */
        acknowledged = i;
        sleep_ms(ms);
    }
    (void)kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, &exit_status, 0), pid);
    while (read(fds[0], &i, sizeof i) == (ssize_t)sizeof i)
        acknowledged = i;
    close(fds[0]);
    CHECK(WIFSIGNALED(exit_status));
    CHECK(acknowledged >= -1);
    return acknowledged;
}

static void kill_9(void)
{
    uint64_t random = test_seed;
    int round, i, n, latest, n_acknowledged = 0;

    prepare();
    use_real_disk();
    for (round = 0; round < 30 * test_scale(); round++) {
        int last = kill_after(round, 3 + (unsigned)(test_random(&random) % 23));

        open_store(0);
        for (i = 0; i <= last; i++)
            CHECK_EQ(n_kill_rows(round, i), KILL_ROWS);
        n = n_kill_rows(round, last + 1); /* the one that was under way */
        CHECK(n == 0 || n == KILL_ROWS);
        CHECK_EQ(n_kill_rows(round, last + 2), 0);
        if (last >= 0) {
            latest = atoi(value("latest"));
            CHECK_EQ(latest, n == 0 ? last : last + 1);
        }
        CHECK_STR(sql_text("PRAGMA integrity_check"), "ok");
        n_acknowledged += last + 1;
        close_store(0);
    }
    printf("kill -9: %d batches acknowledged in %d rounds, none lost\n",
           n_acknowledged, round);
    CHECK(n_acknowledged > 0);
    tear_down();
}

/* --- with the write-behind machine --------------------------------------- */

enum { WB_KEYS = 60, WB_VALUE = 5000 }; /* more than a page: never fits */

static struct cache_wb wb;
static uint64_t wb_now;
static char wb_keys[WB_KEYS][8];
static char wb_values[WB_KEYS][WB_VALUE]; /* the newest of each key */
static bool wb_removed[WB_KEYS];
static int n_letters[WB_KEYS], letter_status;

/* No CHECK here: it would jump out of the middle of the machine. */
static void on_dead_letter(const struct cache_store_item *item, void *user)
{
    char key[8] = "";
    int i;

    (void)user;
    memcpy(key, item->key.data, 4); /* "w123", with no zero at the end */
    i = atoi(key + 1);
    letter_status = item->status;
    if (item->value.len == WB_VALUE &&
        memcmp(item->value.data, wb_values[i], WB_VALUE) == 0)
        n_letters[i]++;
}

static void wb_set_up(uint32_t max_attempts)
{
    struct cache_wb_config c = { .max_key_bytes = 8,
                                 .max_value_bytes = WB_VALUE,
                                 .max_dirty = WB_KEYS,
                                 .max_batch = 16,
                                 .interval_ms = 10,
                                 .retry_base_ms = 2,
                                 .retry_cap_ms = 8,
                                 .max_attempts = max_attempts,
                                 .seed = test_seed,
                                 .on_dead_letter = on_dead_letter };

    wb_now = 1000;
    memset(wb_removed, 0, sizeof wb_removed);
    memset(n_letters, 0, sizeof n_letters);
    letter_status = 0;
    CHECK_EQ(cache_wb_init(&wb, &c), 0);
}

static void wb_write(int i, const char *text, bool removes)
{
    struct cache_store_item item;

    (void)snprintf(wb_keys[i], sizeof *wb_keys, "w%03u", (unsigned)i % 1000);
    memset(wb_values[i], '.', WB_VALUE);
    memcpy(wb_values[i], text, strlen(text));
    memcpy(wb_values[i] + 10, wb_keys[i], 4);
    wb_removed[i] = removes;
    item = removes ? erase(wb_keys[i]) : put(wb_keys[i], "");
    item.value.data = wb_values[i];
    item.value.len = removes ? 0 : WB_VALUE;
    CHECK_EQ(cache_wb_write(&wb, &item, wb_now), 0);
}

/* Lets time pass, and the store have what is due. */
static void wb_drive(int steps)
{
    static int n_done;

    for (; steps > 0 && cache_wb_n_dirty(&wb) > 0; steps--) {
        struct cache_store_batch *batch;

        wb_now += 10;
        while ((batch = cache_wb_next_batch(&wb, wb_now)) != NULL) {
            CHECK(try_run(db, batch, &n_done));
            cache_wb_complete(&wb, batch, wb_now);
            CHECK_SOUND(cache_wb_check(&wb));
        }
    }
}

/* Every write is in the buffer, so that a read of its key is answered.  But for
 * removes: what is not there is removed also by a store that cannot write. */
static void wb_check_dirty(void)
{
    int i;

    for (i = 0; i < WB_KEYS; i++) {
        const struct cache_store_item *item =
            cache_wb_find(&wb, bytes_of(wb_keys[i]));

        if (item == NULL && wb_removed[i])
            continue;
        CHECK(item != NULL);
        CHECK_EQ(item->op,
                 wb_removed[i] ? CACHE_STORE_REMOVE : CACHE_STORE_PUT);
        if (!wb_removed[i])
            CHECK_EQ(memcmp(item->value.data, wb_values[i], WB_VALUE), 0);
    }
}

static void wb_check_stored(void)
{
    int i;

    CHECK_EQ(cache_wb_n_dirty(&wb), 0);
    for (i = 0; i < WB_KEYS; i++) {
        struct cache_store_item item = get(wb_keys[i]);

        CHECK_EQ(run_one(db, &item), wb_removed[i] ? CACHE_EKEY : 0);
        if (!wb_removed[i])
            CHECK_EQ(memcmp(item.buffer, wb_values[i], WB_VALUE), 0);
    }
}

/* What may be wrong with a store for as long as somebody wants. */
static void fault_locked(bool on)
{
    tell_locker(on ? 'x' : 'u');
}

static void fault_read_only(bool on)
{
    sql(on ? "PRAGMA query_only = 1" : "PRAGMA query_only = 0");
}

static void fault_full(bool on)
{
    sql(on ? "PRAGMA max_page_count = 1" : "PRAGMA max_page_count = 100000");
}

static void fault_sync(bool on)
{
    fail(on ? FAULT_SYNC : FAULT_NONE, 0, false);
}

static const struct {
    void (*set)(bool on);
    int status;
} wb_faults[] = {
    { fault_locked, CACHE_ELOCKED },
    { fault_read_only, CACHE_EACCESS },
    { fault_full, CACHE_EFULL },
    { fault_sync, CACHE_EIO },
};

static void wb_begin(size_t i, uint32_t max_attempts)
{
    int key;

    prepare();
    start_locker(path);
    config.busy_timeout_ms = 1;
    config.large_values = true;
    open_store(0);
    wb_set_up(max_attempts);
    wb_faults[i].set(true);
    for (key = 0; key < WB_KEYS; key++)
        wb_write(key, "first", false);
}

static void wb_keeps_what_is_not_stored(void)
{
    size_t i;
    int key;

    for (i = 0; i < COUNT(wb_faults); i++) {
        wb_begin(i, 0);
        wb_drive(10);
        CHECK(wb.stats.n_failed >= WB_KEYS);
        CHECK_EQ(wb.stats.n_stored, 0);
        wb_check_dirty();
        for (key = 0; key < WB_KEYS; key += 3) { /* newer ones meanwhile */
            wb_write(key, "second", false);
            wb_write(key + 1, "gone", true);
        }
        wb_drive(10);
        wb_check_dirty();
        CHECK_STR(sql_text("SELECT count(*) FROM cache"), "0");
        wb_faults[i].set(false);
        wb_drive(1000);
        wb_check_stored();
        CHECK_EQ(wb.stats.n_stored, WB_KEYS);
        CHECK_EQ(wb.stats.n_dead + wb.stats.n_lost, 0);
        cache_wb_destroy(&wb);
        tear_down();
    }
}

static void wb_gives_up_with_a_letter(void)
{
    size_t i;
    int key;

    for (i = 0; i < COUNT(wb_faults); i++) {
        wb_begin(i, 3);
        wb_drive(1000);
        CHECK_EQ(cache_wb_n_dirty(&wb), 0);
        CHECK_EQ(wb.stats.n_dead, WB_KEYS);
        CHECK_EQ(wb.stats.n_failed, 3 * WB_KEYS);
        CHECK_EQ(letter_status, wb_faults[i].status);
        for (key = 0; key < WB_KEYS; key++) /* each once, as it was written */
            CHECK_EQ(n_letters[key], 1);
        wb_faults[i].set(false);
        CHECK_STR(sql_text("SELECT count(*) FROM cache"), "0");
        for (key = 0; key < WB_KEYS; key++)
            wb_write(key, "third", false);
        wb_drive(1000);
        wb_check_stored();
        cache_wb_destroy(&wb);
        tear_down();
    }
}

/* The fault comes and goes: each write is stored, or is a letter; one or the
 * other, none neither. */
static void wb_with_a_shaky_store(void)
{
    uint64_t random = test_seed;
    int round, key;
    bool shaky = false;

    prepare();
    open_store(0);
    wb_set_up(4);
    for (key = 0; key < WB_KEYS; key++)
        wb_write(key, "shaky", false);
    for (round = 0; round < 1000 && cache_wb_n_dirty(&wb) > 0; round++) {
        shaky = test_random(&random) % 4 != 0;
        fail(shaky ? FAULT_WRITE : FAULT_NONE, (int)(random % 7), false);
        wb_drive(1);
    }
    fail(FAULT_NONE, 0, false);
    CHECK_EQ(cache_wb_n_dirty(&wb), 0);
    CHECK_EQ(wb.stats.n_stored + wb.stats.n_dead, WB_KEYS);
    for (key = 0; key < WB_KEYS; key++) {
        struct cache_store_item item = get(wb_keys[key]);

        (void)run_one(db, &item);
        CHECK_EQ((item.status == 0) + n_letters[key], 1);
    }
    cache_wb_destroy(&wb);
    tear_down();
}

/* A row that no attempt can store does not keep its companions back. */
static void wb_with_a_poisoned_row(void)
{
    int key;

    set_up();
    wb_set_up(2);
    (void)sqlite3_limit(db->db, SQLITE_LIMIT_LENGTH, 1000);
    for (key = 0; key < WB_KEYS; key++)
        wb_write(key, "shorter", key != 7); /* removes, but for one */
    wb_drive(1000);
    CHECK_EQ(wb.stats.n_dead, 1);
    CHECK_EQ(n_letters[7], 1);
    CHECK_EQ(letter_status, CACHE_ETOOBIG);
    CHECK_EQ(wb.stats.n_stored, WB_KEYS - 1);
    CHECK_EQ(cache_wb_n_dirty(&wb), 0);
    cache_wb_destroy(&wb);
    tear_down();
}

/* --- main ---------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(open_wants_sense),
    TEST(table_names),
    TEST(open_of_no_file),
    TEST(open_of_rubbish),
    TEST(open_of_another_schema),
    TEST(open_and_close_leave_nothing),
    TEST(open_by_many_at_once),
    TEST(open_waits_for_a_lock),
    TEST(round_trip),
    TEST(empty_value_has_no_pointer),
    TEST(binary_keys),
    TEST(large_value),
    TEST(buffer_too_small),
    TEST(too_big_for_sqlite),
    TEST(batch_is_in_order),
    TEST(expired_is_not_found),
    TEST(system_clock),
    TEST(expires_while_waiting),
    TEST(expired_rows_are_deleted),
    TEST(sweep_is_bounded),
    TEST(older_versions_are_refused),
    TEST(conflict_concerns_its_item),
    TEST(another_writer_overwrites),
    TEST(versions_without_end),
    TEST(settings_are_in_force),
    TEST(done_comes_after_the_sync),
    TEST(full_file_takes_all_or_nothing),
    TEST(full_disk),
    TEST(failing_disk),
    TEST(failing_reads),
    TEST(failing_close),
    TEST(failing_open),
    TEST(out_of_memory),
    TEST(out_of_memory_in_open),
    TEST(locked_by_another_process),
    TEST(waits_for_a_lock),
    TEST(read_only_store),
    TEST(file_without_rights),
    TEST(damaged_file),
    TEST(close_completes_what_was_submitted),
    TEST(queue_runs_empty),
    TEST(submit_while_closing),
    TEST(many_stores_on_one_file),
    TEST(many_threads_on_one_store),
    TEST(kill_9),
    TEST(wb_keeps_what_is_not_stored),
    TEST(wb_gives_up_with_a_letter),
    TEST(wb_with_a_shaky_store),
    TEST(wb_with_a_poisoned_row),
};

static int remove_entry(const char *name, const struct stat *file, int kind,
                        struct FTW *place)
{
    (void)file;
    (void)kind;
    (void)place;
    return remove(name);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    char mounted[280];
    int rc;

    (void)snprintf(directory, sizeof directory, "%s/test_sqlite.XXXXXX",
                   tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!use_scarce_memory() || mkdtemp(directory) == NULL) {
        printf("no directory, or no SQLite\n0 passed, 1 failed\n");
        return 1;
    }
    rc = TEST_MAIN(argc, argv, tests);
    tidy();
    (void)snprintf(mounted, sizeof mounted, "%s/full", directory);
    (void)umount2(mounted, MNT_DETACH); /* if a test has failed in it */
    (void)chmod(directory, 0700);
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
