/*
 * test_async_files.c - the loop half in front of files that fail: SQLite that
 * is locked by another process, read-only, damaged or another program's, disks
 * that are full under SQLite and under the journal.
 *
 * After each: what was acknowledged is there, errors are told, other keys go
 * on, close comes to its end and says how many writes were lost.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw */

#include "../cache_async.h"
#include "../codecs/cache_raw.h"
#include "../stores/cache_sqlite.h"
#include "locker.h"
#include "no_sync.h"
#include "test.h"

#include <ftw.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* A value that fills a disk soon. */
struct page {
    uint64_t number;
    unsigned char bytes[1000];
};

CACHE_DEFINE_LOADING(pages, uint64_t, struct page, cache_hash_u64,
                     cache_equal_u64, CACHE_LRU | CACHE_STATS);
CACHE_ASYNC_DEFINE(pages);

enum { WRITES = 400, CAPACITY = 8, PENDING = 1 };

static struct write {
    struct pages_write_request request; /* first */
    int status;                         /* PENDING */
} writes[WRITES];

static char directory[256], db_path[300], journal_path[300];
static int n_paths;
static uv_loop_t loop;
static struct cache_sqlite db;
static struct pages cache;
static struct pages_async async;
static struct cache_codec keys, values;
static struct cache_sqlite_config db_config;
static struct cache_loading_config config;
static struct cache_async_config async_config;
static bool is_open;
static uint64_t n_lost, n_letters;
static struct rlimit no_limit; /* of the size of a file */

/* --- a cache on a loop in front of a file -------------------------------- */

static void on_dead_letter(const struct cache_store_item *item, void *user)
{
    (void)item, (void)user;
    n_letters++;
}

static void tidy(void);

/* New files in `where`, and the usual configuration. */
static void prepare(const char *where)
{
    tidy();
    (void)snprintf(db_path, sizeof db_path, "%s/%d.db", where, ++n_paths);
    (void)snprintf(journal_path, sizeof journal_path, "%s/%d.journal", where,
                   n_paths);
    keys = cache_raw_object(sizeof(uint64_t));
    values = cache_raw_object(sizeof(struct page));
    memset(writes, 0, sizeof writes);
    memset(&db_config, 0, sizeof db_config);
    memset(&config, 0, sizeof config);
    memset(&async_config, 0, sizeof async_config);
    db_config.path = db_path;
    db_config.busy_timeout_ms = 1;
    config.cache.capacity = CAPACITY;
    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_BEHIND;
    config.key_codec = &keys;
    config.value_codec = &values;
    config.write_behind.max_dirty = WRITES;
    config.write_behind.max_batch = 4;
    config.write_behind.interval_ms = 1;
    config.write_behind.retry_base_ms = 1;
    config.write_behind.retry_cap_ms = 4;
    config.write_behind.on_dead_letter = on_dead_letter;
    async_config.close_timeout_ms = 30000;
    n_letters = 0;
}

static void begin(void)
{
    CHECK_EQ(cache_sqlite_open(&db, &db_config), 0);
    config.store = &db.store;
    CHECK_EQ(pages_init(&cache, &config), 0);
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(pages_async_init(&async, &loop, &cache, &async_config, NULL), 0);
    is_open = true;
}

static void set_up(void)
{
    prepare(directory);
    begin();
}

static void on_close(struct cache_async *a, uint64_t lost)
{
    (void)a;
    n_lost = lost;
}

/* Closes all.  Nothing is left open, and everybody has been told something. */
static void finish(void)
{
    int i;

    n_lost = 99999;
    n_letters = 0;
    CHECK_EQ(cache_async_close(&async.base, on_close), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(uv_loop_close(&loop), 0);
    is_open = false;
    for (i = 0; i < WRITES; i++)
        CHECK(writes[i].status != PENDING);
    CHECK_SOUND(pages_check(&cache));
    CHECK_EQ(cache.front.claims.n_used, 0);
    pages_destroy(&cache);
    db.store.close(&db.store);
    CHECK_EQ(n_letters, n_lost);
}

/* Ends what a failed test has left. */
static void tidy(void)
{
    if (is_open) {
        (void)cache_async_close(&async.base, NULL);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&loop);
        pages_destroy(&cache);
        db.store.close(&db.store);
    }
    is_open = false;
    end_locker();
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &no_limit), 0);
}

/* Turns the loop for so long. */
static void run_for(unsigned ms)
{
    uint64_t until_ms = uv_hrtime() / 1000000 + ms;

    while (uv_hrtime() / 1000000 < until_ms) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        sleep_ms(1);
    }
}

static struct page page_of(uint64_t key, uint64_t number)
{
    struct page page;

    page.number = number;
    memset(page.bytes, (int)(key * 7 + number) & 0xff, sizeof page.bytes);
    return page;
}

static void on_put(struct pages_write_request *request, int status)
{
    struct write *w = (struct write *)(void *)request;

    CHECK_EQ(w->status, PENDING);
    w->status = status;
}

static struct cache_writing how_acknowledged(enum cache_ack ack)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    how.ack = ack;
    return how;
}

static void put(int i, uint64_t key, uint64_t number, enum cache_ack ack)
{
    struct cache_writing how = how_acknowledged(ack);

    writes[i].status = PENDING;
    CHECK_EQ(pages_async_put_ack(&async, &writes[i].request, key,
                                 page_of(key, number), &how, on_put),
             0);
}

/* Keys from..to-1, of this number. */
static void put_all(int from, int to, uint64_t number, enum cache_ack ack)
{
    for (; from < to; from++)
        put(from, (uint64_t)from, number, ack);
}

/* Turns the loop until these are acknowledged. */
static void await_writes(int from, int to)
{
    for (; from < to; from++)
        while (writes[from].status == PENDING)
            (void)uv_run(&loop, UV_RUN_ONCE);
}

static int put_now(int i, uint64_t key, uint64_t number, enum cache_ack ack)
{
    put(i, key, number, ack);
    await_writes(i, i + 1);
    return writes[i].status;
}

static void check_writes(int from, int to, int status)
{
    for (; from < to; from++)
        CHECK_EQ(writes[from].status, status);
}

static struct page found;
static int read_status;

static void on_read(struct pages_request *request, int status)
{
    (void)request;
    read_status = status;
}

/* Reads a key into `found`. */
static int read_now(uint64_t key)
{
    static struct pages_request request;
    int rc;

    read_status = PENDING + 10;
    rc = pages_fetch(&async, &request, key, &found, on_read);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    while (read_status == PENDING + 10)
        (void)uv_run(&loop, UV_RUN_ONCE);
    return read_status;
}

static void check_read(uint64_t key, uint64_t number)
{
    struct page page = page_of(key, number);

    CHECK_EQ(read_now(key), 0);
    CHECK_EQ(found.number, number);
    CHECK(memcmp(found.bytes, page.bytes, sizeof page.bytes) == 0);
}

static void sql(const char *text)
{
    sqlite3 *c = NULL;

    CHECK_EQ(sqlite3_open(db_path, &c), SQLITE_OK);
    (void)sqlite3_busy_timeout(c, 5000);
    CHECK_EQ(sqlite3_exec(c, text, NULL, NULL, NULL), SQLITE_OK);
    CHECK_EQ(sqlite3_close(c), SQLITE_OK);
}

static uint64_t n_failed(void)
{
    return cache_async_write_stats(&async.base).n_failed;
}

/* --- locked by another process ------------------------------------------- */

/* Writes come late, and all of them do; reads need no lock. */
static void locked_for_a_while(void)
{
    int i;

    prepare(directory);
    start_locker(db_path); /* before there are threads */
    begin();
    put_all(0, 20, 1, CACHE_ACK_STORE);
    await_writes(0, 20);
    check_writes(0, 20, 0);
    tell_locker('x');
    put_all(0, 20, 2, CACHE_ACK_STORE);
    put_all(20, 40, 2, CACHE_ACK_STORE);
    while (n_failed() < 40)
        (void)uv_run(&loop, UV_RUN_ONCE);
    check_writes(0, 40, PENDING);
    for (i = 0; i < 40; i++)
        check_read((uint64_t)i, 2); /* of what is dirty */
    CHECK_EQ(read_now(100), CACHE_EKEY);
    put(40, 1, 3, CACHE_ACK_MEMORY);
    put(41, 2, 3, CACHE_ACK_STORE);
    tell_locker('u');
    await_writes(0, 42);
    check_writes(0, 42, 0);
    finish();
    CHECK_EQ(n_lost, 0);
    begin();
    for (i = 0; i < 40; i++)
        check_read((uint64_t)i, i == 1 || i == 2 ? 3 : 2);
    finish();
    end_locker();
}

/* A write that goes through is refused, and the cache stays as it was. */
static void locked_for_what_goes_through(void)
{
    prepare(directory);
    start_locker(db_path);
    memset(&config.write_behind, 0, sizeof config.write_behind);
    config.writes = CACHE_WRITE_THROUGH;
    begin();
    CHECK_EQ(put_now(0, 1, 10, CACHE_ACK_DEFAULT), 0);
    tell_locker('x');
    put(1, 1, 11, CACHE_ACK_DEFAULT);
    put(2, 2, 20, CACHE_ACK_DEFAULT);
    await_writes(1, 3);
    check_writes(1, 3, CACHE_ELOCKED);
    check_read(1, 10);
    CHECK_EQ(read_now(2), CACHE_EKEY);
    tell_locker('u');
    CHECK_EQ(put_now(1, 1, 12, CACHE_ACK_DEFAULT), 0);
    check_read(1, 12);
    finish();
    end_locker();
}

/* Closes while the file is locked; it has to come to an end. */
static void close_locked(bool journal)
{
    int i;

    prepare(directory);
    start_locker(db_path);
    config.journal.path = journal ? journal_path : NULL;
    async_config.close_timeout_ms = 50;
    begin();
    put_all(0, 20, 1, CACHE_ACK_STORE);
    await_writes(0, 20);
    tell_locker('x');
    put_all(20, 30, 1, CACHE_ACK_STORE);
    put_all(10, 20, 2, CACHE_ACK_MEMORY);
    put(30, 10, 3, CACHE_ACK_STORE); /* one key, one loss */
    run_for(10);
    finish();
    CHECK_EQ(n_lost, journal ? 0 : 20);
    check_writes(10, 20, 0);
    check_writes(20, 31, journal ? CACHE_ECLOSED : CACHE_EDEADLETTER);
    tell_locker('u');
    async_config.close_timeout_ms = 30000;
    begin();
    for (i = 0; i < 30; i++) {
        if (!journal && i >= 20)
            CHECK_EQ(read_now((uint64_t)i), CACHE_EKEY);
        else
            check_read((uint64_t)i, !journal || i < 10 || i >= 20 ? 1
                                    : i == 10                     ? 3
                                                                  : 2);
    }
    finish();
    CHECK_EQ(n_lost, 0);
    end_locker();
}

static void locked_for_ever(void)
{
    close_locked(false);
}

static void locked_for_ever_with_a_journal(void)
{
    close_locked(true);
}

/* --- read-only, damaged, another program's ------------------------------- */

static void read_only(void)
{
    set_up();
    CHECK_EQ(put_now(0, 1, 10, CACHE_ACK_STORE), 0);
    finish();
    db_config.read_only = true;
    config.write_behind.max_attempts = 3;
    begin();
    check_read(1, 10);
    put(0, 1, 11, CACHE_ACK_STORE);
    put(1, 2, 20, CACHE_ACK_MEMORY);
    check_read(1, 11); /* until it is given up, and a while after */
    await_writes(0, 2);
    CHECK_EQ(writes[0].status, CACHE_EDEADLETTER);
    CHECK_EQ(writes[1].status, 0);
    while (n_letters < 2)
        (void)uv_run(&loop, UV_RUN_ONCE);
    finish();
    CHECK_EQ(n_lost, 0);
    CHECK(db.message[0] != '\0');
    config.write_behind.max_attempts = 0;
    async_config.close_timeout_ms = 20;
    begin();
    put(0, 1, 12, CACHE_ACK_STORE);
    put(1, 3, 30, CACHE_ACK_MEMORY);
    finish();
    CHECK_EQ(n_lost, 2);
    CHECK_EQ(writes[0].status, CACHE_EDEADLETTER);
    memset(&config.write_behind, 0, sizeof config.write_behind);
    config.writes = CACHE_WRITE_THROUGH;
    begin();
    CHECK_EQ(put_now(0, 1, 12, CACHE_ACK_DEFAULT), CACHE_EACCESS);
    check_read(1, 10);
    finish();
}

/* Overwrites a third of the file, which nobody has open. */
static void damage_file(void)
{
    FILE *f = fopen(db_path, "r+b");
    long at, pages;

    CHECK(f != NULL);
    CHECK_EQ(fseek(f, 0, SEEK_END), 0);
    pages = ftell(f) / 4096;
    CHECK_EQ(fseek(f, pages / 3 * 4096, SEEK_SET), 0);
    for (at = pages / 3 * 4096; at < pages * 2 / 3 * 4096; at++)
        CHECK_EQ(fputc(0xa5, f), 0xa5);
    CHECK_EQ(fclose(f), 0);
}

static void damaged_file(void)
{
    int i, rc, n_right = 0, n_damaged = 0;

    set_up();
    put_all(0, 100, 1, CACHE_ACK_STORE);
    finish();
    damage_file();
    async_config.close_timeout_ms = 20;
    begin();
    for (i = 0; i < 100; i++) {
        rc = read_now((uint64_t)i);
        CHECK(rc == 0 || rc == CACHE_ECORRUPT);
        n_right += rc == 0;
        n_damaged += rc != 0;
    }
    CHECK(n_right > 0);
    CHECK(n_damaged > 0);
    put_all(0, 100, 2, CACHE_ACK_STORE);
    run_for(20);
    finish();
    check_writes(0, 100,
                 CACHE_EDEADLETTER); /* for all before have to be there */
    CHECK(n_lost > 0 && n_lost <= 100);
}

/* The table goes while the cache is open. */
static void table_of_another_schema(void)
{
    uint64_t i;

    set_up();
    put_all(0, 20, 1, CACHE_ACK_STORE);
    await_writes(0, 20);
    sql("DROP TABLE cache; CREATE TABLE cache(k TEXT, other TEXT)");
    for (i = 0; i < 20 - CAPACITY; i++)
        CHECK_EQ(read_now(i), CACHE_ESTORE);
    for (i = 20 - CAPACITY; i < 20; i++)
        check_read(i, 1);
    put(0, 30, 1, CACHE_ACK_STORE);
    while (n_failed() < 3)
        (void)uv_run(&loop, UV_RUN_ONCE);
    CHECK_EQ(writes[0].status, PENDING);
    sql("DROP TABLE cache; CREATE TABLE cache(k BLOB PRIMARY KEY NOT NULL,"
        " v BLOB NOT NULL, exp INTEGER NOT NULL, ver INTEGER NOT NULL)");
    await_writes(0, 1);
    CHECK_EQ(writes[0].status, 0);
    CHECK_EQ(read_now(0), CACHE_EKEY);
    sql("DROP TABLE cache");
    put(1, 31, 1, CACHE_ACK_STORE);
    async_config.close_timeout_ms = 20;
    async.base.config.close_timeout_ms = 20;
    finish();
    CHECK_EQ(n_lost, 1);
    CHECK_EQ(writes[1].status, CACHE_EDEADLETTER);
}

/* --- full disks ---------------------------------------------------------- */

static char full[280]; /* a small disk, or a directory */
static bool mounted;

/* A disk of half a megabyte. */
static bool mount_disk(const char *test)
{
    (void)snprintf(full, sizeof full, "%s/full%d", directory, ++n_paths);
    CHECK_EQ(mkdir(full, 0700), 0);
    mounted = mount("tmpfs", full, "tmpfs", 0, "size=512k") == 0;
    if (!mounted)
        printf("skipped: %s: mount: %s\n", test, strerror(errno));
    return mounted;
}

static void unmount_disk(void)
{
    if (mounted)
        CHECK_EQ(umount(full), 0);
    mounted = false;
}

static void more_disk(void)
{
    CHECK_EQ(mount("tmpfs", full, "tmpfs", MS_REMOUNT, "size=16m"), 0);
}

/* No file may become larger than this. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit = no_limit;

    limit.rlim_cur = bytes;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void more_files(void)
{
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &no_limit), 0);
}

/* Writes until there is no room, and on when there is.  What was acknowledged
 * is there all the time. */
static void fill_and_go_on(void (*more)(void))
{
    int n = 0, i, n_stored = 0;

    while (n < WRITES && n_failed() == 0) {
        put(n, (uint64_t)n, 1, CACHE_ACK_STORE);
        n++;
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        if (n % 8 == 0)
            run_for(1);
    }
    CHECK(n > 20 && n < WRITES);
    run_for(20);
    for (i = 0; i < n; i++) {
        CHECK(writes[i].status == 0 || writes[i].status == PENDING);
        n_stored += writes[i].status == 0;
        check_read((uint64_t)i, 1);
    }
    CHECK(n_stored > 0 && n_stored < n);
    more();
    await_writes(0, n);
    check_writes(0, n, 0);
    finish();
    CHECK_EQ(n_lost, 0);
    begin();
    for (i = 0; i < n; i++)
        check_read((uint64_t)i, 1);
    finish();
}

/* Closes while there is no room: what is there, and what is not, is known. */
static void fill_and_close(void (*more)(void))
{
    int n, i, n_stored = 0;

    for (n = 0; n < WRITES && n_failed() == 0; n++) {
        put(n, (uint64_t)n, 1, CACHE_ACK_STORE);
        run_for(1);
    }
    async.base.config.close_timeout_ms = 20;
    finish();
    for (i = 0; i < n; i++) {
        CHECK(writes[i].status == 0 || writes[i].status == CACHE_EDEADLETTER);
        n_stored += writes[i].status == 0;
    }
    CHECK(n_stored > 0 && n_stored < n);
    CHECK(n_lost > 0 && n_lost <= (uint64_t)(n - n_stored));
    more();
    begin();
    for (i = 0; i < n; i++)
        if (writes[i].status == 0)
            check_read((uint64_t)i, 1);
    finish();
}

static void full_disk_under_sqlite(void)
{
    if (!mount_disk("full_disk_under_sqlite"))
        return;
    prepare(full);
    begin();
    fill_and_go_on(more_disk);
    unmount_disk();
    CHECK(mount_disk("full_disk_under_sqlite"));
    prepare(full);
    begin();
    fill_and_close(more_disk);
    unmount_disk();
}

static void limited_file_under_sqlite(void)
{
    prepare(directory);
    begin();
    limit_files(200000);
    fill_and_go_on(more_files);
    prepare(directory);
    begin();
    limit_files(200000);
    fill_and_close(more_files);
}

/* Writes key after key until the journal has no room, as the last page of its
 * file may have some.  Returns which one it did not take. */
static int write_until_full(int i)
{
    while (i < WRITES && put_now(i, (uint64_t)i, 1, CACHE_ACK_JOURNAL) == 0)
        i++;
    CHECK(i < WRITES);
    CHECK_EQ(writes[i].status, CACHE_EFULL);
    return i;
}

/* The journal has no room: who waits for it is told, what it had it has still,
 * and the store goes on. */
static void journal_without_room(void (*less)(void), void (*more)(void))
{
    int from, i;

    CHECK_EQ(put_now(0, 0, 1, CACHE_ACK_JOURNAL), 0);
    less();
    from = write_until_full(1);
    for (i = from + 1; i < from + 10; i++) {
        CHECK_EQ(put_now(i, (uint64_t)i, 1, CACHE_ACK_JOURNAL), CACHE_EFULL);
        check_read((uint64_t)i, 1);
    }
    CHECK_EQ(put_now(i, (uint64_t)i, 1, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(put_now(i, (uint64_t)i, 2, CACHE_ACK_STORE), CACHE_EFULL);
    more();
    CHECK_EQ(put_now(i, (uint64_t)i, 3, CACHE_ACK_JOURNAL), 0);
    CHECK_EQ(put_now(0, 0, 3, CACHE_ACK_STORE), 0);
    finish();
    CHECK_EQ(n_lost, 0);
    begin();
    check_read(0, 3);
    check_read((uint64_t)i, 3);
    while (--i > 0)
        check_read((uint64_t)i, 1);
    finish();
}

/* The same, with a store that takes nothing: what close loses is what the
 * journal lacks. */
static void close_without_room(void (*less)(void), void (*more)(void))
{
    int from, i;

    put_all(0, 10, 1, CACHE_ACK_JOURNAL);
    await_writes(0, 10);
    check_writes(0, 10, 0);
    less();
    from = write_until_full(10);
    put_all(from + 1, from + 6, 1, CACHE_ACK_MEMORY);
    put(from + 6, 3, 2, CACHE_ACK_STORE);
    finish();
    CHECK_EQ(n_lost, 7);
    check_writes(from + 1, from + 6, 0);
    CHECK_EQ(writes[from + 6].status, CACHE_EDEADLETTER);
    more();
    db_config.read_only = false;
    async_config.close_timeout_ms = 30000;
    begin();
    for (i = 0; i < from; i++)
        check_read((uint64_t)i, 1);
    for (; i < from + 6; i++)
        CHECK_EQ(read_now((uint64_t)i), CACHE_EKEY);
    finish();
    CHECK_EQ(n_lost, 0);
}

static void prepare_journal(void)
{
    prepare(directory);
    config.journal.path = journal_path;
    config.journal.buffer_bytes = 65536;
}

static void less_files(void)
{
    limit_files(20000);
}

static void fill_disk(void)
{
    static const char zeroes[4096];
    char name[300];
    int fd;

    (void)snprintf(name, sizeof name, "%s/junk", full);
    fd = open(name, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0);
    while (write(fd, zeroes, sizeof zeroes) > 0)
        ;
    CHECK_EQ(close(fd), 0);
}

static void make_room(void)
{
    char name[300];

    (void)snprintf(name, sizeof name, "%s/junk", full);
    CHECK_EQ(unlink(name), 0);
}

static void full_disk_under_the_journal(void)
{
    if (!mount_disk("full_disk_under_the_journal"))
        return;
    prepare_journal();
    (void)snprintf(journal_path, sizeof journal_path, "%s/j", full);
    begin();
    journal_without_room(fill_disk, make_room);
    prepare_journal();
    begin(); /* makes the database */
    finish();
    (void)snprintf(journal_path, sizeof journal_path, "%s/k", full);
    db_config.read_only = true;
    async_config.close_timeout_ms = 20;
    begin();
    close_without_room(fill_disk, make_room);
    unmount_disk();
}

/* SQLite's files are not to grow, either, but nothing of them is written. */
static void limited_file_under_the_journal(void)
{
    prepare_journal();
    begin();
    finish();
    db_config.read_only = true;
    async_config.close_timeout_ms = 20;
    begin();
    close_without_room(less_files, more_files);
}

/* ------------------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(locked_for_a_while),
    TEST(locked_for_what_goes_through),
    TEST(locked_for_ever),
    TEST(locked_for_ever_with_a_journal),
    TEST(read_only),
    TEST(damaged_file),
    TEST(table_of_another_schema),
    TEST(full_disk_under_sqlite),
    TEST(limited_file_under_sqlite),
    TEST(full_disk_under_the_journal),
    TEST(limited_file_under_the_journal),
};

static int remove_entry(const char *name, const struct stat *status, int type,
                        struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(name);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    int rc;

    (void)snprintf(directory, sizeof directory, "%s/test_async_files.XXXXXX",
                   tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL || getrlimit(RLIMIT_FSIZE, &no_limit) != 0) {
        printf("no directory\n0 passed, 1 failed\n");
        return 1;
    }
    (void)signal(SIGXFSZ, SIG_IGN);
    rc = TEST_MAIN(argc, argv, tests);
    more_files();
    tidy();
    if (mounted)
        (void)umount2(full, MNT_DETACH);
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
