/*
 * test_journal.c - every promise of cache_journal.h, on a disk that fails, is
 * full, loses its power or rots, and in processes that are killed.
 *
 * The disk is that of journal_disk.h.
 *
 * TEST_SCALE multiplies the rounds of kill -9, power cuts and random faults.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw */

#include "journal_disk.h"

#include <limits.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>

static int scale(void)
{
    const char *text = getenv("TEST_SCALE");

    return text && atoi(text) > 0 ? atoi(text) : 1;
}

/* --- journals and files -------------------------------------------------- */

static char path[300]; /* of this test's journal */
static int n_paths;
static struct cache_journal journals[2];
static struct cache_journal *const journal = journals;
static struct cache_journal_config config;

static const char *file_name(const char *base, unsigned long long number)
{
    static char name[340];

    (void)snprintf(name, sizeof name, "%s.%08llu", base, number);
    return name;
}

static bool file_exists(unsigned long long number)
{
    return access(file_name(path, number), F_OK) == 0;
}

static long file_size(unsigned long long number)
{
    struct stat file;

    return stat(file_name(path, number), &file) == 0 ? (long)file.st_size : -1;
}

/* Ends whatever the test before this one has left, also if it failed. */
static void tidy(void)
{
    size_t i;

    disk_reset();
    for (i = 0; i < COUNT(journals); i++)
        (void)cache_journal_close(&journals[i]);
}

/* A new path and the usual configuration; the test may change it. */
static void prepare(void)
{
    tidy();
    (void)snprintf(path, sizeof path, "%s/%d", directory, ++n_paths);
    memset(&config, 0, sizeof config);
    config.path = path;
    config.buffer_bytes = 4096;
}

static void delete_files(void)
{
    unsigned i;

    for (i = 1; i < 3000; i++)
        if (unlink(file_name(path, i)) != 0 && i > 200)
            break;
}

static void tear_down(void)
{
    tidy();
    delete_files();
}

/* What replay was given. */
enum { MAX_REPLAYED = 20000 };

static struct {
    uint64_t seqs[MAX_REPLAYED];
    char values[64][120]; /* of the first ones, as "put key=value@expires" */
    int n;
    int n_wrong; /* with bytes that nobody wrote */
    int stop_at; /* fails at this one */
    int rc;      /* with this */
    bool (*is_right)(const struct cache_store_item *item);
} replayed;

static int on_replay(const struct cache_store_item *item, void *user)
{
    (void)user;
    if (replayed.stop_at != 0 && replayed.n + 1 == replayed.stop_at)
        return replayed.rc;
    if (replayed.n < (int)COUNT(replayed.values))
        (void)snprintf(replayed.values[replayed.n], sizeof replayed.values[0],
                       "%s %.*s=%.*s@%llu",
                       item->op == CACHE_STORE_PUT ? "put" : "remove",
                       (int)item->key.len, (const char *)item->key.data,
                       (int)item->value.len, (const char *)item->value.data,
                       (unsigned long long)item->expires_ms);
    if (replayed.is_right != NULL && !replayed.is_right(item))
        replayed.n_wrong++;
    if (replayed.n < MAX_REPLAYED)
        replayed.seqs[replayed.n++] = item->version;
    return 1; /* not negative: fine */
}

static int try_open(void)
{
    replayed.n = replayed.n_wrong = 0;
    return cache_journal_open(journal, &config, on_replay, NULL);
}

static void open_journal(void)
{
    int rc = try_open();

    if (rc != 0)
        printf("open: %d %s\n", rc, journal->message);
    CHECK_EQ(rc, 0);
}

static void reopen(void)
{
    CHECK_EQ(cache_journal_close(journal), 0);
    open_journal();
}

/* As kill -9 would leave it. */
static void kill_journal(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.dead = true;
    pthread_mutex_unlock(&disk.lock);
    (void)cache_journal_close(journal);
    pthread_mutex_lock(&disk.lock);
    disk.dead = false;
    disk.die_at = 0;
    pthread_mutex_unlock(&disk.lock);
}

static void set_up(void)
{
    prepare();
    open_journal();
}

static struct cache_store_item item_of(uint64_t seq, const char *key,
                                       const char *value)
{
    struct cache_store_item item;

    memset(&item, 0, sizeof item);
    item.op = value ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    item.key.data = key;
    item.key.len = strlen(key);
    item.value.data = value;
    item.value.len = value ? strlen(value) : 0;
    item.version = seq;
    return item;
}

static struct cache_journal_ticket ticket; /* of the last append */

/* The next seq, with a value that says which it is. */
static int append_next(void)
{
    char value[40];
    struct cache_store_item item;

    (void)snprintf(value, sizeof value, "value %llu",
                   (unsigned long long)cache_journal_last(journal) + 1);
    item = item_of(cache_journal_last(journal) + 1, "key", value);
    return cache_journal_append(journal, &item, &ticket);
}

static int wait_ms(uint64_t ms)
{
    return cache_journal_wait(journal, &ticket, ms);
}

/* A commit of its own for each. */
static void commit_n(int n)
{
    while (n-- > 0) {
        CHECK_EQ(append_next(), 0);
        CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    }
}

static void check_replayed(uint64_t first, uint64_t last)
{
    char want[60];
    uint64_t i;

    if (first > last) {
        CHECK_EQ(replayed.n, 0);
        return;
    }
    CHECK_EQ(replayed.n, last - first + 1);
    for (i = 0; i <= last - first; i++) {
        CHECK_EQ(replayed.seqs[i], first + i);
        (void)snprintf(want, sizeof want, "put key=value %llu@0",
                       (unsigned long long)(first + i));
        if (i < COUNT(replayed.values))
            CHECK_STR(replayed.values[i], want);
    }
}

static struct cache_journal_stats stats_now(void)
{
    struct cache_journal_stats stats;

    CHECK_EQ(cache_journal_get_stats(journal, &stats), 0);
    return stats;
}

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

/* --- what it is for ------------------------------------------------------ */

static void checksum(void)
{
    struct cache_journal_crc crc;

    cache__journal_crc_init(&crc);
    CHECK_EQ(cache__journal_crc(&crc, (const unsigned char *)"123456789", 9),
             0xe3069283u);
    CHECK_EQ(cache__journal_crc(&crc, (const unsigned char *)"", 0), 0);
}

static void round_trip(void)
{
    struct cache_store_item item;
    char binary[] = { 'k', 0, 'y' };

    set_up();
    CHECK_EQ(cache_journal_last(journal), 0);
    item = item_of(3, "a", "one");
    item.expires_ms = UINT64_MAX;
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    CHECK_EQ(cache_journal_last(journal), 3);
    CHECK_EQ(ticket.seq, 3);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    CHECK_EQ(cache_journal_durable(journal), 3);
    item = item_of(4, "b", "");
    CHECK_EQ(cache_journal_append(journal, &item, NULL), 0);
    item.version = 10; /* gaps are fine */
    item.key.data = binary;
    item.key.len = sizeof binary;
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    kill_journal();
    open_journal();
    /* The last two were not waited for: they are there, or are not. */
    CHECK(replayed.n >= 1 && replayed.n <= 3);
    CHECK_STR(replayed.values[0], "put a=one@18446744073709551615");
    CHECK_EQ(replayed.seqs[0], 3);
    item = item_of(20, "c", NULL);
    item.expires_ms = 5;
    item.value.len = 7; /* a remove has neither */
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    reopen();
    CHECK_STR(replayed.values[replayed.n - 1], "remove c=@0");
    CHECK_EQ(replayed.seqs[replayed.n - 1], 20);
    CHECK_EQ(cache_journal_last(journal), 20);
    CHECK_EQ(cache_journal_durable(journal), 20);
    tear_down();
}

static void bytes_are_copied(void)
{
    char key[] = "key", value[] = "value 1";
    struct cache_store_item item = item_of(1, key, value);

    set_up();
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    memset(key, 'x', 3);
    memset(value, 'x', 5);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    reopen();
    check_replayed(1, 1);
    tear_down();
}

static void close_commits_what_is_buffered(void)
{
    int i;

    set_up();
    for (i = 0; i < 20; i++)
        CHECK_EQ(append_next(), 0);
    reopen();
    check_replayed(1, 20);
    CHECK_EQ(stats_now().n_replayed, 20);
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(cache_journal_close(journal), 0); /* twice is harmless */
    CHECK_EQ(cache_journal_last(journal), 20);
    CHECK_EQ(cache_journal_durable(journal), 20);
    memset(journal, 0, sizeof *journal);
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(cache_journal_close(NULL), 0);
    tear_down();
}

static void closed_and_wrong_arguments(void)
{
    struct cache_store_item item = item_of(1, "a", "b");
    struct cache_journal_stats stats;
    struct cache_journal_ticket t = { 1, 1 };

    set_up();
    CHECK_EQ(cache_journal_append(NULL, &item, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_append(journal, NULL, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_wait(journal, NULL, 0), CACHE_EINVAL);
    CHECK_EQ(cache_journal_wait(NULL, &t, 0), CACHE_EINVAL);
    CHECK_EQ(cache_journal_wait(journal, &t, 0),
             CACHE_EINVAL); /* no such seq */
    CHECK_EQ(cache_journal_get_stats(journal, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_get_stats(NULL, &stats), CACHE_EINVAL);
    item.op = CACHE_STORE_GET;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_EINVAL);
    item = item_of(1, "", "b");
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_EINVAL);
    item = item_of(0, "a", "b");
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_EINVAL);
    item = item_of(7, "a", "b");
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_EINVAL);
    item.version = 6;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_close(journal), 0);
    item.version = 8;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_ECLOSED);
    CHECK_EQ(wait_ms(0), 0); /* it is durable */
    ticket.seq = 8;
    CHECK_EQ(wait_ms(0), CACHE_ECLOSED);
    CHECK_EQ(cache_journal_get_stats(journal, &stats), CACHE_ECLOSED);
    cache_journal_stored(journal, 7);
    open_journal();
    CHECK_EQ(replayed.n, 1);
    tear_down();
}

static void too_big(void)
{
    static char big[5000];
    struct cache_store_item item = item_of(1, "key", "");

    set_up();
    item.value.data = big;
    item.value.len = config.buffer_bytes - CACHE_JOURNAL_RECORD - 3 + 1;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_ETOOBIG);
    item.value.len = SIZE_MAX; /* sums that overflow */
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_ETOOBIG);
    item.value.len = SIZE_MAX - 2;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_ETOOBIG);
    item.value.len = 0;
    item.key.len = SIZE_MAX;
    CHECK_EQ(cache_journal_append(journal, &item, NULL), CACHE_ETOOBIG);
    item = item_of(1, "key", "");
    item.value.data = big;
    item.value.len = config.buffer_bytes - CACHE_JOURNAL_RECORD - 3;
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    reopen();
    CHECK_EQ(replayed.n, 1);
    tear_down();
}

static void full_buffer_is_refused(void)
{
    int rc, n = 0;

    set_up();
    disk_fail(CALL_FDATASYNC, 0, INT_MAX, EIO); /* so that nothing drains */
    while ((rc = append_next()) == 0 && n < 10000)
        n++;
    CHECK_EQ(rc, CACHE_EFULL);
    CHECK(n > 50);                            /* two buffers */
    CHECK_EQ(cache_journal_last(journal), n); /* on error nothing is taken */
    CHECK(stats_now().n_refused > 0);
    disk_heal();
    ticket.seq = (uint64_t)n;
    while ((rc = wait_ms(CACHE_NEVER)) == CACHE_EIO)
        continue;
    CHECK_EQ(rc, 0);
    CHECK_EQ(append_next(), 0); /* after the commit there is room */
    reopen();
    check_replayed(1, (uint64_t)n + 1);
    tear_down();
}

static void wait_has_a_time_limit(void)
{
    set_up();
    disk_is_slow(300000);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(wait_ms(0), CACHE_ETIMEOUT);
    CHECK_EQ(wait_ms(1), CACHE_ETIMEOUT);
    CHECK_EQ(cache_journal_durable(journal), 0);
    CHECK_EQ(wait_ms(100000), 0);
    CHECK_EQ(cache_journal_durable(journal), 1);
    tear_down();
}

/* What comes while a commit is in flight waits for the next one. */
static void durable_is_not_ahead(void)
{
    struct cache_journal_ticket first;
    uint64_t n_syncs;

    set_up();
    disk_is_slow(100000);
    n_syncs = disk_calls(CALL_FDATASYNC);
    CHECK_EQ(append_next(), 0);
    first = ticket;
    while (disk_calls(CALL_FDATASYNC) == n_syncs)
        sleep_ms(1);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(cache_journal_durable(journal), 0);
    CHECK_EQ(cache_journal_wait(journal, &first, CACHE_NEVER), 0);
    CHECK_EQ(cache_journal_durable(journal), 1);
    CHECK_EQ(wait_ms(0), CACHE_ETIMEOUT);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    CHECK_EQ(cache_journal_durable(journal), 3);
    tear_down();
}

/* --- on_commit ----------------------------------------------------------- */

static struct {
    atomic_int n, n_failed, rc_wait, rc_close, rc_append;
    atomic_bool signals_blocked;
    _Atomic uint64_t durable;
} commits;

static void on_commit(uint64_t durable, int status, void *user)
{
    struct cache_journal_ticket t = { 1000, 1 };
    struct cache_store_item item;
    sigset_t mask;

    (void)user;
    atomic_fetch_add(status == 0 ? &commits.n : &commits.n_failed, 1);
    atomic_store(&commits.durable, durable);
    atomic_store(&commits.rc_wait, cache_journal_wait(journal, &t, 0));
    atomic_store(&commits.rc_close, cache_journal_close(journal));
    if (durable == 1) {
        item = item_of(2, "key", "value 2");
        atomic_store(&commits.rc_append,
                     cache_journal_append(journal, &item, NULL));
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    atomic_store(&commits.signals_blocked,
                 sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT));
}

static void on_commit_is_told(void)
{
    int i;

    prepare();
    config.on_commit = on_commit;
    memset(&commits, 0, sizeof commits);
    atomic_store(&commits.rc_append, 77);
    open_journal();
    CHECK_EQ(append_next(), 0);
    for (i = 0; i < 2000 && cache_journal_durable(journal) < 2; i++)
        sleep_ms(1);
    CHECK_EQ(atomic_load(&commits.rc_append), 0);
    CHECK_EQ(atomic_load(&commits.rc_wait), CACHE_EBUSY);
    CHECK_EQ(atomic_load(&commits.rc_close), CACHE_EBUSY);
    CHECK(atomic_load(&commits.signals_blocked));
    disk_fail(CALL_FDATASYNC, 0, 1, EIO);
    CHECK_EQ(append_next(), 0);
    for (i = 0; i < 2000 && cache_journal_durable(journal) < 3; i++)
        sleep_ms(1);
    CHECK_EQ(atomic_load(&commits.n_failed), 1);
    reopen();
    CHECK(atomic_load(&commits.n) >= 4); /* with the empty one of close */
    CHECK_EQ(atomic_load(&commits.durable), 3);
    check_replayed(1, 3);
    tear_down();
}

/* --- opening ------------------------------------------------------------- */

static void check_refused(int rc)
{
    int fds = entries_of("/proc/self/fd");

    memset(journal, 0x55, sizeof *journal); /* what was there is no matter */
    CHECK_EQ(try_open(), rc);
    CHECK(memchr(journal->message, '\0', sizeof journal->message) != NULL);
    CHECK(journal->message[0] != '\0');
    CHECK_EQ(entries_of("/proc/self/fd"), fds);
    CHECK_EQ(cache_journal_close(journal), 0);
}

static void *never_alloc(size_t bytes, void *user)
{
    (void)bytes, (void)user;
    return NULL;
}

static void open_wants_sense(void)
{
    char long_name[300], text[340];

    prepare();
    CHECK_EQ(cache_journal_open(NULL, &config, on_replay, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_open(journal, NULL, on_replay, NULL), CACHE_EINVAL);
    CHECK_EQ(cache_journal_open(journal, &config, NULL, NULL), CACHE_EINVAL);
    CHECK(journal->message[0] != '\0');
    config.path = NULL;
    check_refused(CACHE_EPATH);
    config.path = "";
    check_refused(CACHE_EPATH);
    config.path = "/tmp/";
    check_refused(CACHE_EPATH);
    config.path = "/no/such/directory/journal";
    check_refused(CACHE_EPATH);
    config.path = "/dev/null/journal";
    check_refused(CACHE_EPATH);
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    (void)snprintf(text, sizeof text, "/tmp/%s", long_name);
    config.path = text;
    check_refused(CACHE_EPATH);
    config.path = path;
    config.alloc = never_alloc;
    check_refused(CACHE_EALLOCATOR);
    config.alloc = NULL;
    config.buffer_bytes = CACHE_JOURNAL_RECORD;
    check_refused(CACHE_ELIMIT);
    config.buffer_bytes = CACHE_JOURNAL_MAX_BUFFER_BYTES + 1;
    check_refused(CACHE_ELIMIT);
    config.buffer_bytes = 0;
    config.segment_bytes = UINT64_MAX;
    check_refused(CACHE_ELIMIT);
    config.segment_bytes = 0;
    open_journal();
    CHECK_EQ(journal->config.buffer_bytes, CACHE_JOURNAL_DEFAULT_BUFFER_BYTES);
    CHECK(journal->config.segment_bytes == CACHE_JOURNAL_DEFAULT_SEGMENT_BYTES);
    tear_down();
}

static void path_without_directory(void)
{
    char before[300];

    set_up();
    CHECK(getcwd(before, sizeof before) != NULL);
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(chdir(directory), 0);
    config.path = strrchr(path, '/') + 1;
    open_journal();
    commit_n(3);
    reopen();
    check_replayed(1, 3);
    CHECK_EQ(chdir(before), 0);
    tear_down();
}

static void one_at_a_time(void)
{
    pid_t pid;
    int exit_status;

    set_up();
    commit_n(1);
    CHECK_EQ(cache_journal_open(&journals[1], &config, on_replay, NULL),
             CACHE_ELOCKED);
    CHECK(journals[1].message[0] != '\0');
    fflush(stdout);
    CHECK_EQ(cache_journal_close(journal), 0);
    pid = fork(); /* another process, while there is one thread */
    CHECK(pid >= 0);
    if (pid == 0) {
        if (cache_journal_open(journal, &config, on_replay, NULL) != 0)
            _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &exit_status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(exit_status));
    check_refused(CACHE_ELOCKED);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, &exit_status, 0), pid);
    open_journal(); /* the dead hold no lock */
    check_replayed(1, 1);
    commit_n(1); /* and the loser has not broken anything */
    reopen();
    check_replayed(1, 2);
    tear_down();
}

static void open_and_close_leave_nothing(void)
{
    int fds, threads, i;

    prepare();
    fds = entries_of("/proc/self/fd");
    threads = entries_of("/proc/self/task");
    for (i = 0; i < 20; i++) {
        open_journal();
        commit_n(i % 3);
        CHECK_EQ(cache_journal_close(journal), 0);
    }
    CHECK_EQ(entries_of("/proc/self/fd"), fds);
    for (i = 0; i < 1000 && entries_of("/proc/self/task") > threads; i++)
        sleep_ms(1);
    CHECK_EQ(entries_of("/proc/self/task"), threads);
    tear_down();
}

static void open_without_writes_changes_nothing(void)
{
    set_up();
    commit_n(3);
    CHECK_EQ(cache_journal_close(journal), 0);
    open_journal();
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK(file_exists(1));
    CHECK(!file_exists(2));
    tear_down();
}

static void replay_may_fail(void)
{
    set_up();
    commit_n(5);
    CHECK_EQ(cache_journal_close(journal), 0);
    replayed.stop_at = 3;
    replayed.rc = -12345;
    check_refused(-12345);
    CHECK_EQ(replayed.n, 2);
    replayed.stop_at = 0;
    open_journal();
    check_replayed(1, 5);
    tear_down();
}

static int allocs_left;
static int n_allocs, n_frees;

static void *scarce_alloc(size_t bytes, void *user)
{
    void *memory;

    CHECK(user == &allocs_left);
    if (allocs_left-- == 0)
        return NULL;
    memory = malloc(bytes);
    n_allocs += memory != NULL;
    return memory;
}

static void scarce_free(void *memory, void *user)
{
    (void)user;
    CHECK(memory != NULL);
    n_frees++;
    free(memory);
}

static void out_of_memory(void)
{
    int k, rc = 1;

    set_up();
    config.segment_bytes = 100;
    reopen();
    commit_n(40); /* so that lists grow */
    CHECK_EQ(cache_journal_close(journal), 0);
    config.alloc = scarce_alloc;
    config.free = scarce_free;
    config.user = &allocs_left;
    for (k = 0; rc != 0; k++) {
        n_allocs = n_frees = 0;
        allocs_left = k;
        rc = try_open();
        CHECK(rc == 0 || rc == CACHE_ENOMEM);
        if (rc != 0)
            CHECK_EQ(n_allocs, n_frees);
        CHECK(k < 100);
    }
    CHECK(k > 3);
    check_replayed(1, 40);
    /* A segment more than the list has room for: told, and tried again. */
    allocs_left = 0;
    for (k = 0; rc == 0 && k < 1000; k++) {
        CHECK_EQ(append_next(), 0);
        rc = wait_ms(CACHE_NEVER);
    }
    CHECK_EQ(rc, CACHE_ENOMEM);
    allocs_left = 1000000;
    while ((rc = wait_ms(CACHE_NEVER)) == CACHE_ENOMEM)
        continue;
    CHECK_EQ(rc, 0);
    reopen();
    check_replayed(1, cache_journal_last(journal));
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(n_allocs, n_frees);
    tear_down();
}

static void other_files_are_left_alone(void)
{
    static const char *const names[] = {
        "%s.1",         "%s.0000001x",
        "%s.000000001", "%s.99999999999999999999999",
        "%sx.00000001", "%s.00000000"
    };
    char name[400];
    size_t i;
    FILE *f;

    prepare();
    for (i = 0; i < COUNT(names); i++) {
        (void)snprintf(name, sizeof name, names[i], path);
        f = fopen(name, "w");
        CHECK(f != NULL);
        CHECK_EQ(fclose(f), 0);
    }
    open_journal();
    commit_n(2);
    reopen();
    check_replayed(1, 2);
    CHECK_EQ(cache_journal_close(journal), 0);
    for (i = 0; i < COUNT(names); i++) {
        (void)snprintf(name, sizeof name, names[i], path);
        CHECK_EQ(unlink(name), 0);
    }
    f = fopen(file_name(path, 9), "w"); /* ours by name only */
    CHECK(f != NULL);
    CHECK(fprintf(f, "my thesis") > 0);
    CHECK_EQ(fclose(f), 0);
    check_refused(CACHE_ECORRUPT);
    CHECK_EQ(file_size(9), 9);
    CHECK_EQ(unlink(file_name(path, 9)), 0);
    tear_down();
}

/* --- segments and the stored mark ---------------------------------------- */

static void segments_rotate(void)
{
    int i;

    prepare();
    config.segment_bytes = 300;
    open_journal();
    commit_n(20);
    CHECK(stats_now().n_segments > 4);
    for (i = 1; i < (int)stats_now().n_segments; i++)
        CHECK(file_size((unsigned)i) >= 300 && file_size((unsigned)i) < 600);
    reopen();
    check_replayed(1, 20);
    tear_down();
}

static void stored_deletes_segments(void)
{
    uint64_t n, i;

    prepare();
    config.segment_bytes = 300;
    open_journal();
    commit_n(20);
    n = stats_now().n_segments;
    cache_journal_stored(journal, 0);
    CHECK_EQ(stats_now().n_segments, n);
    cache_journal_stored(journal, 10);
    /* Without a write: the mark is worth a commit if it frees a segment. */
    for (i = 0; i < 2000 && stats_now().n_segments == n; i++)
        sleep_ms(1);
    CHECK(!file_exists(1));
    CHECK_EQ(stats_now().n_segments + stats_now().n_deleted, n);
    cache_journal_stored(journal, 5); /* it never goes back */
    kill_journal();
    open_journal();
    check_replayed(11, 20);
    cache_journal_stored(journal, 20);
    reopen();
    check_replayed(1, 0);
    CHECK_EQ(cache_journal_last(journal), 20); /* versions go on */
    commit_n(1);
    CHECK_EQ(stats_now().n_segments, 1); /* all others are deleted */
    reopen();
    check_replayed(21, 21);
    tear_down();
}

static void stored_goes_with_the_next_commit(void)
{
    set_up();
    commit_n(5);
    cache_journal_stored(journal, 3);
    kill_journal(); /* before it was recorded */
    open_journal();
    check_replayed(1, 5);
    cache_journal_stored(journal, 3);
    commit_n(1);
    kill_journal();
    open_journal();
    check_replayed(4, 6);
    cache_journal_stored(journal, 1000); /* more than there is */
    commit_n(2);
    kill_journal();
    open_journal();
    check_replayed(7, 8);
    cache_journal_stored(journal, 8); /* or with close */
    reopen();
    check_replayed(1, 0);
    tear_down();
}

static void missing_segment_is_corruption(void)
{
    prepare();
    config.segment_bytes = 300;
    open_journal();
    commit_n(20);
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(rename(file_name(path, 3), path), 0);
    check_refused(CACHE_ECORRUPT);
    CHECK_EQ(rename(path, file_name(path, 3)), 0);
    CHECK_EQ(rename(file_name(path, 1), path), 0);
    check_refused(CACHE_ECORRUPT);
    CHECK_EQ(rename(path, file_name(path, 1)), 0);
    open_journal();
    check_replayed(1, 20);
    tear_down();
}

/* --- group commit -------------------------------------------------------- */

enum { WRITERS = 16, WRITES = 40 };

static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int n_wrong;

static void *write_and_wait(void *user)
{
    struct cache_journal_ticket t;
    int i, rc;

    (void)user;
    for (i = 0; i < WRITES; i++) {
        pthread_mutex_lock(&order_lock); /* whoever numbers, in order */
        rc = append_next();
        t = ticket;
        pthread_mutex_unlock(&order_lock);
        if (rc == 0)
            rc = cache_journal_wait(journal, &t, CACHE_NEVER);
        if (rc != 0 || cache_journal_durable(journal) < t.seq)
            atomic_fetch_add(&n_wrong, 1);
    }
    return NULL;
}

static void many_writers_share_a_commit(void)
{
    pthread_t threads[WRITERS];
    uint64_t n_syncs;
    int i;

    set_up();
    disk_is_slow(500);
    n_syncs = disk_calls(CALL_FDATASYNC);
    for (i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_and_wait, NULL), 0);
    for (i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(atomic_load(&n_wrong), 0);
    n_syncs = disk_calls(CALL_FDATASYNC) - n_syncs;
    printf("group commit: %d writes of %d threads in %d syncs\n",
           WRITERS * WRITES, WRITERS, (int)n_syncs);
    CHECK(n_syncs < WRITERS * WRITES / 4);
    CHECK_EQ(stats_now().n_commits, n_syncs);
    CHECK_EQ(stats_now().n_durable, WRITERS * WRITES);
    reopen();
    check_replayed(1, WRITERS * WRITES);
    tear_down();
}

static void *write_until_closed(void *user)
{
    struct cache_journal_ticket t;
    uint64_t *acknowledged = (uint64_t *)user;
    int rc;

    for (;;) {
        pthread_mutex_lock(&order_lock);
        rc = append_next();
        t = ticket;
        pthread_mutex_unlock(&order_lock);
        if (rc == 0)
            rc = cache_journal_wait(journal, &t, CACHE_NEVER);
        if (rc == CACHE_ECLOSED)
            return NULL;
        if (rc != 0)
            atomic_fetch_add(&n_wrong, 1);
        *acknowledged = t.seq;
    }
}

static void close_among_writers(void)
{
    uint64_t acknowledged[4], max;
    pthread_t threads[4];
    int round, i;

    for (round = 0; round < 10; round++) {
        set_up();
        for (i = 0; i < 4; i++) {
            acknowledged[i] = 0;
            CHECK_EQ(pthread_create(&threads[i], NULL, write_until_closed,
                                    &acknowledged[i]),
                     0);
        }
        sleep_ms(2);
        CHECK_EQ(cache_journal_close(journal), 0);
        for (i = 0, max = 0; i < 4; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
            max = acknowledged[i] > max ? acknowledged[i] : max;
        }
        CHECK_EQ(atomic_load(&n_wrong), 0);
        open_journal();
        CHECK(cache_journal_last(journal) >= max);
        check_replayed(1, cache_journal_last(journal));
        tear_down();
    }
}

/* --- damage -------------------------------------------------------------- */

/* All segments of a small journal, and where each block is. */
enum { MAX_BLOCKS = 40, MAX_SEGMENT = 2048, MAX_SEGMENTS = 8 };

static struct {
    unsigned char bytes[MAX_SEGMENT];
    size_t size;
} saved[MAX_SEGMENTS]; /* [0] is path.00000001 */
static struct {
    unsigned segment;
    size_t from, to;
    uint64_t last; /* seq */
} blocks[MAX_BLOCKS];
static unsigned n_saved, n_blocks;

static void write_segment(unsigned i, const unsigned char *bytes, size_t size)
{
    int fd = open(file_name(path, i + 1), O_WRONLY | O_CREAT, 0600);

    /* No O_TRUNC: after that, close waits for the disk. */
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, size), size);
    CHECK_EQ(ftruncate(fd, (off_t)size), 0);
    CHECK_EQ(close(fd), 0);
}

static void restore(void)
{
    unsigned i;

    for (i = 0; i < n_saved; i++)
        write_segment(i, saved[i].bytes, saved[i].size);
    while (i < MAX_SEGMENTS)
        (void)unlink(file_name(path, ++i));
}

/* Whether a segment has these bytes. */
static bool segment_is(unsigned i, const unsigned char *bytes, size_t size)
{
    static unsigned char now[MAX_SEGMENT];
    int fd = open(file_name(path, i + 1), O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, now, sizeof now);
    (void)close(fd);
    return n == (ssize_t)size && memcmp(now, bytes, size) == 0;
}

static void save(void)
{
    unsigned i;
    size_t at;
    int fd;

    n_blocks = n_saved = 0;
    for (i = 0; file_exists(i + 1); i++) {
        CHECK(i < MAX_SEGMENTS);
        fd = open(file_name(path, i + 1), O_RDONLY);
        CHECK(fd >= 0);
        saved[i].size = (size_t)read(fd, saved[i].bytes, MAX_SEGMENT);
        CHECK(saved[i].size < MAX_SEGMENT);
        CHECK_EQ(close(fd), 0);
        for (at = 0; at < saved[i].size; n_blocks++) {
            CHECK(n_blocks < MAX_BLOCKS);
            blocks[n_blocks].segment = i;
            blocks[n_blocks].from = at;
            blocks[n_blocks].last =
                cache__journal_get64(saved[i].bytes + at + 56);
            at += CACHE_JOURNAL_HEADER +
                  cache__journal_get32(saved[i].bytes + at + 72);
            blocks[n_blocks].to = at;
        }
        CHECK_EQ(at, saved[i].size);
        n_saved++;
    }
}

/* The block that has this byte. */
static unsigned block_of(unsigned segment, size_t at)
{
    unsigned b;

    for (b = 0; b < n_blocks; b++)
        if (blocks[b].segment == segment && at < blocks[b].to)
            return b;
    return n_blocks;
}

/* Opens with one segment damaged in block b.  If `decidable` it has to be said,
 * otherwise everything before the block has to be there, and nothing of it. */
static void check_damaged(unsigned i, const unsigned char *bytes, size_t size,
                          unsigned b, bool decidable)
{
    unsigned k;
    int rc;

    write_segment(i, bytes, size);
    rc = try_open();
    if (rc == 0) {
        if (decidable)
            printf("segment %u block %u size %zu: not noticed\n", i + 1, b,
                   size);
        CHECK(!decidable);
        check_replayed(1, b == 0 ? 0 : blocks[b - 1].last);
        /* It goes on from there. */
        if (b % 3 == 0) {
            commit_n(1);
            reopen();
            check_replayed(1, (b == 0 ? 0 : blocks[b - 1].last) + 1);
        }
        CHECK_EQ(cache_journal_close(journal), 0);
        restore();
        return;
    }
    CHECK_EQ(rc, CACHE_ECORRUPT);
    CHECK_EQ(replayed.n, 0); /* it changes nothing */
    CHECK(segment_is(i, bytes, size));
    for (k = 0; k < n_saved; k++)
        CHECK(k == i || segment_is(k, saved[k].bytes, saved[k].size));
    CHECK(!file_exists(n_saved + 1));
    if (!decidable) /* only where it cannot be told from a file of others */
        CHECK(blocks[b].from == 0 && memcmp(bytes, CACHE__JOURNAL_MAGIC, 8));
    write_segment(i, saved[i].bytes, saved[i].size);
}

static void damage_everywhere(void)
{
    static unsigned char bytes[MAX_SEGMENT];
    unsigned i, b;
    size_t at;

    restore();
    for (i = 0; i < n_saved; i++) {
        for (at = 0; at < saved[i].size; at++) {
            b = block_of(i, at);
            memcpy(bytes, saved[i].bytes, saved[i].size);
            bytes[at] ^= (unsigned char)(1u << chance(8));
            check_damaged(i, bytes, saved[i].size, b, b + 1 < n_blocks);
            memcpy(bytes, saved[i].bytes, saved[i].size); /* a hole */
            memset(bytes + at, 0,
                   blocks[b].to - at < 24 ? blocks[b].to - at : 24);
            if (memcmp(bytes, saved[i].bytes, saved[i].size) != 0)
                check_damaged(i, bytes, saved[i].size, b, b + 1 < n_blocks);
            check_damaged(i, saved[i].bytes, at, b, i + 1 < n_saved);
        }
        memcpy(bytes, saved[i].bytes, saved[i].size); /* something after */
        memset(bytes + at, 'C', 50);
        if (i + 1 == n_saved)
            check_damaged(i, bytes, at + 50, n_blocks, false);
    }
}

/* Numbers them from 1 on as damage_everywhere wants it: no gap. */
static bool saved_whole(void)
{
    uint64_t number = journal->number, n = stats_now().n_segments;

    return number == n;
}

static void damage_after_a_crash(void)
{
    prepare();
    config.segment_bytes = 330;
    open_journal();
    commit_n(5);
    CHECK(saved_whole());
    kill_journal();
    open_journal();
    commit_n(1);
    kill_journal();
    save();
    CHECK(n_saved >= 3);
    CHECK(blocks[n_blocks - 1].last > blocks[n_blocks - 2].last);
    damage_everywhere();
    tear_down();
}

static void damage_after_close(void)
{
    int i;

    prepare();
    config.segment_bytes = 400;
    open_journal();
    disk_is_slow(20000);
    for (i = 0; i < 5; i++) /* the first alone, then several in a block */
        CHECK_EQ(append_next(), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    disk_is_slow(0);
    commit_n(3);
    CHECK_EQ(cache_journal_close(journal), 0);
    save();
    CHECK(n_saved >= 2);
    /* The last block has no records: no damage to one is undecidable. */
    CHECK_EQ(blocks[n_blocks - 1].last, blocks[n_blocks - 2].last);
    CHECK_EQ(blocks[n_blocks - 1].to - blocks[n_blocks - 1].from,
             CACHE_JOURNAL_HEADER);
    damage_everywhere();
    tear_down();
}

static void torn_tail_is_cut(void)
{
    long size;
    FILE *f;

    set_up();
    commit_n(3);
    kill_journal();
    size = file_size(1);
    f = fopen(file_name(path, 1), "ab");
    CHECK(f != NULL);
    CHECK(fprintf(f, "CACHEJL1 and what a crash leaves") > 0);
    CHECK_EQ(fclose(f), 0);
    open_journal();
    check_replayed(1, 3);
    CHECK_EQ(file_size(1), size);
    commit_n(1);
    kill_journal();
    open_journal();
    check_replayed(1, 4);
    tear_down();
}

/* A value that is a copy of a block is not taken for one. */
static void value_that_looks_like_a_block(void)
{
    static unsigned char bytes[MAX_SEGMENT];
    struct cache_store_item item;
    struct cache_journal forger;
    struct cache__journal_block block;
    size_t at;

    prepare();
    open_journal();
    commit_n(2);
    item = item_of(3, "key", "value 3");
    /* The right place and the right checksum, but another id. */
    memset(&block, 0, sizeof block);
    forger = *journal;
    forger.id ^= 1;
    at = journal->now.end + CACHE_JOURNAL_HEADER + CACHE_JOURNAL_RECORD + 3;
    cache__journal_encode(&forger, bytes, 1, at, &block);
    item.value.data = bytes;
    item.value.len = CACHE_JOURNAL_HEADER;
    CHECK_EQ(cache_journal_append(journal, &item, &ticket), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    kill_journal();
    save();
    CHECK_EQ(memcmp(saved[0].bytes + at, bytes, CACHE_JOURNAL_HEADER), 0);
    saved[0].bytes[at - 40] ^= 1; /* a torn block around it */
    write_segment(0, saved[0].bytes, saved[0].size);
    open_journal();
    check_replayed(1, 2);
    tear_down();
}

/* A new path on a disk that is accounted for. */
static void sim_disk(int seed)
{
    prepare();
    disk_model(test_seed + (uint64_t)seed);
}

/* Blocks whose checksums are right and that cannot have been written. */
static void nonsense_is_corruption(void)
{
    static const unsigned fields[] = { 32, 40, 48, 56, 64, 76 };
    unsigned char *p;
    uint32_t crc;
    size_t i, end;

    set_up();
    commit_n(3);
    CHECK_EQ(cache_journal_close(journal), 0);
    save();
    for (i = 0; i < COUNT(fields) + 2; i++) {
        struct cache_journal_crc tables;
        unsigned char old[MAX_SEGMENT];

        memcpy(old, saved[0].bytes, sizeof old);
        cache__journal_crc_init(&tables);
        p = saved[0].bytes + blocks[1].from;
        end = blocks[1].to - blocks[1].from - CACHE_JOURNAL_HEADER;
        if (i < COUNT(fields))
            p[fields[i]] =
                (unsigned char)(p[fields[i]] + (fields[i] == 48 ? 255 : 5));
        else
            p[CACHE_JOURNAL_HEADER + (i == COUNT(fields) ? 17 : 24)] = 99;
        crc = cache__journal_crc(&tables, p + CACHE_JOURNAL_HEADER, end);
        cache__journal_put32(p + 80, crc);
        cache__journal_put32(p + 84, cache__journal_crc(&tables, p, 84));
        write_segment(0, saved[0].bytes, saved[0].size);
        check_refused(CACHE_ECORRUPT);
        memcpy(saved[0].bytes, old, sizeof old);
    }
    write_segment(0, saved[0].bytes, saved[0].size);
    open_journal();
    check_replayed(1, 3);
    tear_down();
}

/* --- faults -------------------------------------------------------------- */

/* A failed sync: nothing is acknowledged, the same file is never trusted again,
 * and the write is tried again unasked. */
static void failed_sync_gives_the_segment_up(void)
{
    uint64_t i;

    set_up();
    commit_n(2);
    disk_fail(CALL_FDATASYNC, 0, 1, EIO);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EIO);
    CHECK_EQ(wait_ms(CACHE_NEVER), 0); /* the next attempt */
    CHECK(file_exists(2));
    CHECK_EQ(stats_now().n_abandoned, 1);
    disk_fail(CALL_FDATASYNC, 0, 1, EIO);
    CHECK_EQ(append_next(), 0);
    for (i = 0; i < 3000 && cache_journal_durable(journal) < 4; i++)
        sleep_ms(1);
    CHECK_EQ(cache_journal_durable(journal), 4); /* after RETRY_MS */
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);           /* an error that is past */
    disk_fail(CALL_FDATASYNC, 0, 1, EIO);
    CHECK_EQ(append_next(), 0);
    while (stats_now().n_failed < 3)
        sleep_ms(1);
    CHECK_EQ(append_next(), 0); /* tried again with the next append */
    CHECK_EQ(wait_ms(CACHE_NEVER), 0);
    reopen();
    check_replayed(1, 6);
    tear_down();
}

static void close_tells_the_truth(void)
{
    set_up();
    commit_n(2);
    disk_fail(CALL_FDATASYNC, 0, INT_MAX, EIO);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(cache_journal_close(journal), CACHE_EIO);
    CHECK_EQ(cache_journal_durable(journal), 2);
    CHECK_EQ(cache_journal_last(journal), 3);
    CHECK_EQ(wait_ms(0), CACHE_ECLOSED);
    disk_heal();
    open_journal();
    CHECK(replayed.n == 2 || replayed.n == 3); /* unknown */
    check_replayed(1, (uint64_t)replayed.n);
    disk_fail(CALL_FDATASYNC, 0, 1, EIO); /* once: close tries again */
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(cache_journal_close(journal), 0);
    disk_heal();
    open_journal();
    check_replayed(1, cache_journal_last(journal));
    tear_down();
}

/* Writes, rotates, marks; whatever fails, waits until it is durable.  Returns
 * the errors seen. */
static int run_a_while(int code)
{
    int i, rc, n = 0;

    for (i = 0; i < 12; i++) {
        rc = append_next();
        CHECK_EQ(rc, 0);
        while ((rc = wait_ms(CACHE_NEVER)) != 0) {
            CHECK_EQ(rc, code);
            CHECK(cache_journal_durable(journal) < ticket.seq);
            CHECK(++n < 100);
        }
        if (i == 6)
            cache_journal_stored(journal, cache_journal_durable(journal) - 3);
    }
    return n;
}

static const struct fault {
    enum call call;
    int code, status;
} faults[] = {
    { CALL_OPEN, EIO, CACHE_EIO },           { CALL_OPEN, ENOSPC, CACHE_EFULL },
    { CALL_PWRITE, ENOSPC, CACHE_EFULL },    { CALL_PWRITE, EIO, CACHE_EIO },
    { CALL_PWRITE, EFBIG, CACHE_EFULL },     { CALL_FDATASYNC, EIO, CACHE_EIO },
    { CALL_FDATASYNC, ENOSPC, CACHE_EFULL }, { CALL_FSYNC, EIO, CACHE_EIO },
    { CALL_UNLINK, EIO, CACHE_EIO },
};

/* Each k-th call fails, once or several times in a row. */
static void faults_while_running(void)
{
    uint64_t first;
    size_t f;
    int k, n, times, n_errors;

    for (f = 0; f < COUNT(faults); f++) {
        for (times = 1; times <= 3; times += 2) {
            for (k = 0, n_errors = 0;; k++) {
                prepare();
                config.segment_bytes = 300;
                open_journal();
                disk_fail(faults[f].call, k, times, faults[f].code);
                n = run_a_while(faults[f].status);
                n_errors += n;
                pthread_mutex_lock(&disk.lock);
                n = (int)disk.n_faults;
                pthread_mutex_unlock(&disk.lock);
                disk_heal();
                kill_journal();
                open_journal();
                first = replayed.seqs[0];
                CHECK(first <= 5);
                check_replayed(first, 12);
                CHECK_EQ(cache_journal_last(journal), 12);
                tear_down();
                if (n == 0)
                    break;
            }
            CHECK(k > 0);
            if (faults[f].call != CALL_UNLINK && faults[f].call != CALL_FSYNC)
                CHECK(n_errors > 0);
        }
    }
}

/* A disk that is full, and what was written cannot be cut off; it can later. */
static void faults_and_no_cut(void)
{
    static const struct fault both[] = {
        { CALL_PWRITE, ENOSPC, CACHE_EFULL },
        { CALL_FDATASYNC, EIO, CACHE_EIO },
    };
    long end;
    size_t f;
    int k;

    for (f = 0; f < COUNT(both); f++) {
        for (k = 0; k < 8; k++) {
            prepare();
            config.segment_bytes = 500;
            open_journal();
            disk.no_cut = k % 2;
            commit_n(1);
            disk_fail(both[f].call, k, 1, both[f].code);
            while (cache_journal_last(journal) < 8) {
                CHECK_EQ(append_next(), 0);
                if (wait_ms(CACHE_NEVER) == 0)
                    continue;
                CHECK_EQ(wait_ms(CACHE_NEVER), 0);
            }
            CHECK_EQ(stats_now().n_failed, k < 7);
            disk_heal();
            kill_journal();
            disk.no_cut = false;
            open_journal();
            check_replayed(1, 8);
            tear_down();
        }
    }
    set_up();
    commit_n(2);
    end = file_size(1);
    disk_fail(CALL_PWRITE, 0, INT_MAX, ENOSPC);
    CHECK_EQ(append_next(), 0);
    CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
    kill_journal();              /* no further attempt */
    CHECK_EQ(file_size(1), end); /* half a block was cut off */
    tear_down();
}

/* A mark that comes while a commit is in flight is not recorded by it, so it
 * deletes nothing yet. */
static void segments_outlive_their_mark(void)
{
    uint64_t n_syncs;
    int round;

    for (round = 0; round < 10; round++) {
        sim_disk(round);
        config.segment_bytes = 300;
        open_journal();
        commit_n(20);
        disk_is_slow(10000);
        n_syncs = disk_calls(CALL_FDATASYNC);
        CHECK_EQ(append_next(), 0);
        while (disk_calls(CALL_FDATASYNC) == n_syncs)
            sleep_ms(1);
        cache_journal_stored(journal, 20);
        CHECK_EQ(wait_ms(CACHE_NEVER), 0);
        kill_journal(); /* while the mark is being synced */
        disk_is_slow(0);
        cut_power();
        open_journal();
        check_replayed(replayed.n == 1 ? 21 : 1, 21);
        tear_down();
    }
}

/* A block that a killed process has written is replayed, so open makes it
 * durable; also if the process was told that its sync had failed, after which
 * the system takes the pages for clean. */
static void open_syncs_what_it_replays(void)
{
    uint64_t n_syncs;
    int round;

    for (round = 0; round < 24; round++) {
        sim_disk(round);
        disk.no_cut = true;
        open_journal();
        commit_n(2);
        n_syncs = disk_calls(CALL_FDATASYNC);
        if (round % 2) {
            disk_fail(CALL_FDATASYNC, 0, 1, EIO);
            CHECK_EQ(append_next(), 0);
            CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EIO);
        } else {
            disk_is_slow(5000);
            CHECK_EQ(append_next(), 0);
            while (disk_calls(CALL_FDATASYNC) == n_syncs)
                sleep_ms(1);
        }
        kill_journal();
        disk_is_slow(0);
        open_journal();
        check_replayed(1, 3);
        CHECK_EQ(cache_journal_durable(journal), 3);
        kill_journal();
        cut_power();
        open_journal();
        check_replayed(1, 3);
        tear_down();
    }
}

static bool dies_at_3(const struct cache_store_item *item)
{
    pthread_mutex_lock(&disk.lock);
    disk.dead = item->version == 3;
    pthread_mutex_unlock(&disk.lock);
    return true;
}

/* What replay was given may be at the store: its seq is never another write's,
 * also if a process that was killed had not synced it, and the next one dies. */
static void what_replay_was_given_stays(void)
{
    uint64_t n_syncs;
    int round;

    for (round = 0; round < 12; round++) {
        sim_disk(round);
        open_journal();
        commit_n(2);
        n_syncs = disk_calls(CALL_FDATASYNC);
        disk_is_slow(5000);
        CHECK_EQ(append_next(), 0);
        while (disk_calls(CALL_FDATASYNC) == n_syncs)
            sleep_ms(1);
        kill_journal();
        disk_is_slow(0);
        replayed.is_right = dies_at_3;
        CHECK_EQ(try_open(), CACHE_EIO);
        replayed.is_right = NULL;
        CHECK_EQ(replayed.n, 3);
        disk.dead = false;
        cut_power();
        open_journal();
        check_replayed(1, 3);
        tear_down();
    }
}

/* A process dies while it begins a segment with the mark of all before it, the
 * next one while it opens, and then the power is cut: nothing is deleted because
 * of a mark that goes with its segment's name. */
static void open_keeps_what_it_may_need(void)
{
    uint64_t commit, call;
    int round, rc;

    for (commit = 3; commit <= 4; commit++) { /* it is written, synced */
        for (round = 0; round < 2; round++) {
            for (call = 1, rc = -1; rc != 0; call++) {
                sim_disk((int)(commit * 100000 + call * 100) + round);
                config.segment_bytes = 300;
                open_journal();
                commit_n(9);
                pthread_mutex_lock(&disk.lock);
                disk.die_at = disk.n_ops + commit;
                pthread_mutex_unlock(&disk.lock);
                cache_journal_stored(journal, 9);
                while (!disk_is_dead())
                    sleep_ms(0);
                kill_journal();
                disk.die_at = disk.n_ops + call;
                rc = try_open();
                kill_journal();
                cut_power();
                open_journal();
                check_replayed(replayed.n == 0 ? 10 : 1, 9);
                CHECK_EQ(cache_journal_last(journal), 9);
                tear_down();
            }
            CHECK(call > 10);
        }
    }
}

/* A block that was synced in a segment whose name could not be, and which was
 * given up: what one open does not find, the next one does not find either. */
static void what_is_gone_stays_gone(void)
{
    uint64_t commit, last;
    int round;

    for (commit = 5; commit <= 7; commit++) { /* cut, deleted, tried again */
        for (round = 0; round < 80; round++) {
            sim_disk((int)commit * 1000 + round);
            config.segment_bytes = 300;
            open_journal();
            commit_n(3);
            disk_fail(CALL_FSYNC, 0, 1, EIO);
            pthread_mutex_lock(&disk.lock);
            disk.die_at = disk.n_ops + commit;
            pthread_mutex_unlock(&disk.lock);
            CHECK_EQ(append_next(), 0);
            CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EIO);
            kill_journal();
            disk_heal();
            open_journal();
            last = cache_journal_last(journal);
            kill_journal();
            cut_power();
            open_journal();
            check_replayed(1, last);
            tear_down();
        }
    }
}

/* The mark on a full disk is durable before what it frees is deleted. */
static void full_disk_and_a_power_cut(void)
{
    uint64_t mark, n_deleted;
    int round;

    for (round = 0; round < 10; round++) {
        sim_disk(round);
        config.segment_bytes = 300;
        open_journal();
        commit_n(9);
        disk_fail(CALL_OPEN, 0, INT_MAX, ENOSPC); /* of another segment */
        CHECK_EQ(append_next(), 0);
        for (mark = 4; mark <= 7; mark += 3) {
            n_deleted = stats_now().n_deleted;
            cache_journal_stored(journal, mark);
            while (stats_now().n_deleted == n_deleted)
                CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
        }
        kill_journal();
        cut_power();
        disk_heal();
        open_journal();
        check_replayed(8, 9);
        tear_down();
    }
}

/* A note that was not synced is, before segments are deleted because of it; also
 * if its sync has failed. */
static void full_disk_and_an_unsynced_note(void)
{
    int round;

    for (round = 0; round < 10; round++) {
        sim_disk(round);
        config.segment_bytes = 300;
        open_journal();
        commit_n(9);
        disk_fail(CALL_FDATASYNC, 0, INT_MAX, ENOSPC);
        cache_journal_stored(journal, 7);
        CHECK_EQ(append_next(), 0);
        CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
        CHECK_EQ(stats_now().n_deleted, 0);
        kill_journal();
        disk_heal();
        open_journal();
        check_replayed(8, 9);
        kill_journal();
        cut_power();
        open_journal();
        check_replayed(8, 9);
        tear_down();
    }
}

/* A note of more than there is means that acknowledged writes are missing. */
static void full_disk_and_a_lost_end(void)
{
    prepare();
    config.segment_bytes = 300;
    open_journal();
    commit_n(9);
    disk_fail(CALL_OPEN, 0, INT_MAX, ENOSPC);
    cache_journal_stored(journal, 8);
    CHECK_EQ(append_next(), 0);
    while (stats_now().n_deleted == 0)
        CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
    kill_journal();
    disk_heal();
    CHECK_EQ(truncate(file_name(path, 3), file_size(3) / 3), 0); /* 7 */
    check_refused(CACHE_ECORRUPT);
    tear_down();
}

/* What was deleted because of a note is not missed when the next one is torn:
 * by the disk, and by the end of the process. */
static void full_disk_and_a_torn_note(void)
{
    int round, life;

    for (round = 0; round < 10; round++) {
        sim_disk(round);
        config.segment_bytes = 300;
        open_journal();
        commit_n(9);
        disk_fail(CALL_OPEN, 0, INT_MAX, ENOSPC); /* of another segment */
        cache_journal_stored(journal, 5);
        CHECK_EQ(append_next(), 0);
        while (stats_now().n_deleted == 0)
            CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
        for (life = 0; life < 2; life++) { /* the second has read the note */
            disk_fail(CALL_PWRITE, 0, INT_MAX, ENOSPC); /* most is written */
            cache_journal_stored(journal, 8);
            CHECK_EQ(append_next(), 0);
            CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
            kill_journal();
            if (round % 2)
                cut_power();
            disk_heal();
            open_journal();
            check_replayed(6, 9);
        }
        tear_down();
    }
}

static void faults_in_open(void)
{
    static const enum call calls[] = {
        CALL_OPEN,  CALL_FLOCK,     CALL_PREAD,
        CALL_FSYNC, CALL_FTRUNCATE, CALL_PWRITE
    };
    size_t c;
    int k, fds, rc, newest;
    FILE *f;

    for (c = 0; c < COUNT(calls); c++) {
        prepare();
        config.segment_bytes = 300;
        open_journal();
        commit_n(9);
        kill_journal();
        fds = entries_of("/proc/self/fd");
        for (newest = 1; file_exists((unsigned)newest + 1);)
            newest++;
        for (k = 0;; k++) {
            f = fopen(file_name(path, (unsigned)newest), "ab"); /* torn */
            CHECK(f != NULL);
            CHECK(fprintf(f, "torn") > 0);
            CHECK_EQ(fclose(f), 0);
            disk_fail(calls[c], k, 1, EIO);
            rc = try_open();
            if (rc == 0)
                break;
            CHECK_EQ(rc, CACHE_EIO);
            CHECK(journal->message[0] != '\0');
            CHECK_EQ(entries_of("/proc/self/fd"), fds);
            CHECK(k < 100);
        }
        CHECK(k > 0);
        CHECK_EQ(disk.n_faults, 0); /* none is passed over */
        disk_heal();
        check_replayed(1, 9);
        tear_down();
    }
}

static void interrupted_and_short_calls(void)
{
    set_up();
    CHECK_EQ(cache_journal_close(journal), 0);
    disk.clumsy = true;
    config.segment_bytes = 300;
    open_journal();
    commit_n(10);
    cache_journal_stored(journal, 4);
    reopen();
    check_replayed(5, 10);
    tear_down();
}

/* A file system that is full, where we are allowed to mount one. */
static void full_disk_and(bool kills)
{
    char mounted[280], file[300];
    uint64_t n;
    int rc = 0;

    prepare();
    (void)snprintf(mounted, sizeof mounted, "%s/full", directory);
    CHECK_EQ(mkdir(mounted, 0700), 0);
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=256k") != 0) {
        printf("skipped: full_disk: mount: %s\n", strerror(errno));
        (void)rmdir(mounted);
        return;
    }
    (void)snprintf(file, sizeof file, "%s/j", mounted);
    config.path = file;
    config.segment_bytes = 16384;
    open_journal();
    while (rc == 0) {
        CHECK_EQ(append_next(), 0);
        rc = wait_ms(CACHE_NEVER);
    }
    CHECK_EQ(rc, CACHE_EFULL);
    n = cache_journal_durable(journal);
    CHECK_EQ(n, ticket.seq - 1);
    CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL);
    /* The store makes room: the mark has its place, so segments can go. */
    cache_journal_stored(journal, n - 10);
    CHECK_EQ(wait_ms(CACHE_NEVER), CACHE_EFULL); /* but then they are deleted */
    CHECK(stats_now().n_deleted > 10);
    if (kills) {
        kill_journal();
        open_journal();
        check_replayed(n - 9, cache_journal_last(journal));
        CHECK(cache_journal_last(journal) >= n);
    } else {
        CHECK_EQ(wait_ms(CACHE_NEVER), 0);
        reopen();
        CHECK_EQ(replayed.n, 11);
        check_replayed(n - 9, n + 1);
    }
    CHECK_EQ(cache_journal_close(journal), 0);
    CHECK_EQ(umount(mounted), 0);
    CHECK_EQ(rmdir(mounted), 0);
    tear_down();
}

static void full_disk(void)
{
    full_disk_and(false);
    full_disk_and(true);
}

/* --- simulated crashes: power cuts, kills, faults by chance -------------- */

enum { MAX_SEQ = 200000, MAX_PAD = 700 };

static uint32_t incarnation[MAX_SEQ]; /* of the newest append of each seq */
static uint64_t sim_last;             /* highest seq ever appended */

static size_t sim_value(uint64_t seq, uint32_t number, char *to)
{
    size_t pad = (size_t)((seq * 2654435761u ^ number * 40503u) % MAX_PAD);
    int n = snprintf(to, 60, "%llu/%u ", (unsigned long long)seq, number);

    memset(to + n, 'a' + (int)(seq % 26), pad);
    return (size_t)n + pad;
}

static bool sim_is_right(const struct cache_store_item *item)
{
    static char want[MAX_PAD + 60];
    size_t len;

    if (item->version == 0 || item->version > sim_last ||
        item->version >= MAX_SEQ || item->op != CACHE_STORE_PUT ||
        item->expires_ms != item->version * 3 || item->key.len != 3)
        return false;
    len = sim_value(item->version, incarnation[item->version], want);
    return item->value.len == len && memcmp(item->value.data, want, len) == 0;
}

static int sim_append(uint32_t number)
{
    static char value[MAX_PAD + 60];
    uint64_t seq = cache_journal_last(journal) + 1;
    struct cache_store_item item = item_of(seq, "key", "");
    int rc;

    CHECK(seq < MAX_SEQ);
    item.value.data = value;
    item.value.len = sim_value(seq, number, value);
    item.expires_ms = seq * 3;
    incarnation[seq] = number; /* before anybody can be told */
    sim_last = seq > sim_last ? seq : sim_last;
    rc = cache_journal_append(journal, &item, &ticket);
    return rc;
}

enum crash { CRASH_KILL = 1, CRASH_POWER = 2 };

struct sim {
    uint64_t acknowledged; /* every seq up to here was */
    uint64_t stored;       /* what the journal was told last */
    int n_rounds, n_opened, n_lost;
    uint64_t n_acknowledged, n_faults;
    const char *missing; /* why n_lost is not 0 */
};

/* The journal is open: what is not there that has to be?  NULL = nothing. */
static const char *sim_missing(struct sim *sim)
{
    uint64_t last = cache_journal_last(journal), i;

    if (replayed.n_wrong > 0)
        return "a record is not what was appended";
    if (last < sim->acknowledged)
        return "the last acknowledged";
    if (last > sim_last)
        return "more is there than was appended";
    for (i = 1; i < (uint64_t)replayed.n; i++)
        if (replayed.seqs[i] != replayed.seqs[i - 1] + 1)
            return "one in between";
    if (replayed.n > 0 && replayed.seqs[replayed.n - 1] != last)
        return "the last replayed";
    if (replayed.n > 0 && replayed.seqs[0] > sim->stored + 1)
        return "the first that is not stored";
    return replayed.n > 0 || last <= sim->stored ? NULL : "all";
}

/* Writes until the end of this life. */
static void sim_live(struct sim *sim)
{
    uint64_t last;
    int step, i;

    for (step = 0; step < 60 && !disk_is_dead(); step++) {
        for (i = (int)choose(4); i >= 0; i--)
            (void)sim_append((uint32_t)sim->n_rounds);
        if (ticket.seq <= cache_journal_last(journal) && choose(4) != 0)
            (void)wait_ms(1000);
        if (choose(4) == 0) {
            last = cache_journal_durable(journal);
            if (last > sim->stored)
                sim->stored += choose((uint32_t)(last - sim->stored) + 1);
            cache_journal_stored(journal, sim->stored);
        }
    }
}

static void sim_round(struct sim *sim, int crashes)
{
    uint64_t before = sim->acknowledged;
    int rc;

    sim->n_rounds++;
    pthread_mutex_lock(&disk.lock);
    disk.n_faults = 0;
    disk.die_at = disk.n_ops + 1 + choose(choose(4) == 0 ? 60 : 500);
    pthread_mutex_unlock(&disk.lock);
    disk_note("process %d", sim->n_rounds);
    rc = try_open();
    pthread_mutex_lock(&disk.lock);
    disk_note("opened: %d, last %llu, first replayed %llu of %d", rc,
              (unsigned long long)cache_journal_last(journal),
              (unsigned long long)(replayed.n > 0 ? replayed.seqs[0] : 0),
              replayed.n);
    pthread_mutex_unlock(&disk.lock);
    if (rc == 0) {
        sim->n_opened++;
        sim->missing = sim_missing(sim);
        sim->n_lost += sim->missing != NULL;
        sim->acknowledged = cache_journal_durable(journal);
        ticket.seq = UINT64_MAX;
        sim_live(sim);
        if (choose(4) == 0) /* the rest of the commits goes through */
            sleep_ms(1);
        rc = cache_journal_close(journal);
        if (rc == 0)
            CHECK_EQ(cache_journal_durable(journal),
                     cache_journal_last(journal));
        sim->acknowledged = cache_journal_durable(journal);
        if (sim->acknowledged > before)
            sim->n_acknowledged += sim->acknowledged - before;
    } else if (rc == CACHE_ECORRUPT) {
        sim->missing = journal->message; /* nothing was damaged */
        sim->n_lost++;
    } else {
        CHECK(disk.dead || disk.n_faults > 0);
    }
    sim->n_faults += disk.n_faults;
    disk.dead = false;
    disk.die_at = 0;
    if (crashes == CRASH_POWER || (crashes & CRASH_POWER && choose(2)))
        cut_power();
}

static void sim_begin(struct sim *sim)
{
    sim_disk(0);
    memset(sim, 0, sizeof *sim);
    sim_last = 0;
    config.segment_bytes = 6000;
    replayed.is_right = sim_is_right;
}

static void sim_report(const char *what, const struct sim *sim)
{
    printf("%s: %d crashes, %d openings, %llu writes acknowledged, %llu faults"
           ", %d losses\n",
           what, sim->n_rounds, sim->n_opened,
           (unsigned long long)sim->n_acknowledged,
           (unsigned long long)sim->n_faults, sim->n_lost);
}

/* Several journals, of which each lives through many crashes. */
static void simulate(const char *what, int crashes, uint32_t per_mille)
{
    struct sim sim, all;
    int n, i;

    memset(&all, 0, sizeof all);
    for (n = 0; n < 3 * scale(); n++) {
        sim_begin(&sim);
        disk.random = choices = test_seed + (uint64_t)n * 1000003u + per_mille;
        disk.per_mille = per_mille;
        for (i = 0; i < 60 && sim.n_lost == 0; i++)
            sim_round(&sim, crashes);
        replayed.is_right = NULL;
        if (sim.n_lost > 0) {
            disk_tell();
            printf("journal %d, crash %d: %s\n", n, i, sim.missing);
        }
        all.n_rounds += sim.n_rounds;
        all.n_opened += sim.n_opened;
        all.n_acknowledged += sim.n_acknowledged;
        all.n_faults += sim.n_faults;
        all.n_lost += sim.n_lost;
        tear_down();
        CHECK_EQ(sim.n_lost, 0);
    }
    sim_report(what, &all);
    CHECK(all.n_acknowledged > (uint64_t)all.n_rounds);
    CHECK(all.n_opened > all.n_rounds / 3);
}

static void simulated_kills(void)
{
    simulate("kills", CRASH_KILL, 0);
}

static void simulated_power_cuts(void)
{
    simulate("power cuts", CRASH_POWER, 0);
}

static void simulated_crashes_and_faults(void)
{
    simulate("kills, power cuts and faults", CRASH_KILL | CRASH_POWER, 8);
}

/* The checker sees what is lost: without a sync before the acknowledgement. */
static void power_cut_control(void)
{
    struct sim sim;
    uint64_t n_syncs;
    int kind, n_lost = 0, n;

    for (kind = 0; kind < 2; kind++) {
        for (n = 0; n < 10; n++) {
            sim_begin(&sim);
            disk.random = choices = test_seed + (uint64_t)n;
            config.process_only = kind == 0;
            disk.lies = kind == 1;
            while (sim.n_rounds < 20 && sim.n_lost == 0)
                sim_round(&sim, CRASH_POWER);
            n_lost += sim.n_lost;
            replayed.is_right = NULL;
            tear_down();
        }
        printf("power cuts without syncs: %d of 10 journals have losses\n",
               n_lost);
        CHECK(n_lost > 5);
        n_lost = 0;
    }
    sim_begin(&sim); /* but it does survive kill -9 */
    config.process_only = true;
    n_syncs = disk_calls(CALL_FDATASYNC);
    while (sim.n_rounds < 30)
        sim_round(&sim, CRASH_KILL);
    CHECK_EQ(sim.n_lost, 0);
    CHECK(sim.n_acknowledged > 30);
    CHECK_EQ(disk_calls(CALL_FDATASYNC), n_syncs); /* unsynced */
    replayed.is_right = NULL;
    tear_down();
}

/* --- kill -9 ------------------------------------------------------------- */

enum { KILL_WRITERS = 4 };

static int kill_pipe;
static uint32_t kill_round;

static void *write_until_killed(void *user)
{
    struct cache_journal_ticket t;
    uint64_t message[2] = { 0, 0 };
    int rc;

    for (;;) {
        pthread_mutex_lock(&order_lock);
        rc = sim_append(kill_round);
        t = ticket;
        pthread_mutex_unlock(&order_lock);
        if (rc == CACHE_EFULL) {
            sleep_ms(1);
            continue;
        }
        if (rc != 0 || cache_journal_wait(journal, &t, CACHE_NEVER) != 0)
            _exit(2);
        message[0] = t.seq;
        message[1] = 0;
        if (user == NULL && t.seq % 64 == 0) { /* the store has some of it */
            message[1] = t.seq - 40;
            if (write(kill_pipe, message, sizeof message) != sizeof message)
                _exit(3);
            cache_journal_stored(journal, message[1]);
            continue;
        }
        if (write(kill_pipe, message, sizeof message) != sizeof message)
            _exit(3);
    }
}

static void kill_child_main(uint32_t round)
{
    pthread_t thread;
    uint64_t message[2] = { 0, 0 };
    int i;

    kill_round = round;
    if (cache_journal_open(journal, &config, on_replay, NULL) != 0 ||
        write(kill_pipe, message, sizeof message) != sizeof message)
        _exit(1);
    for (i = 1; i < KILL_WRITERS; i++)
        if (pthread_create(&thread, NULL, write_until_killed, &config) != 0)
            _exit(4);
    (void)write_until_killed(NULL);
}

/* Which round's write a seq has; fixed when it was first replayed. */
static bool kill_is_right(const struct cache_store_item *item)
{
    uint64_t seq = item->version;

    if (seq == 0 || seq >= MAX_SEQ)
        return false;
    sim_last = seq > sim_last ? seq : sim_last;
    if (incarnation[seq] == 0)
        incarnation[seq] = kill_round;
    return sim_is_right(item);
}

static void kill_9(void)
{
    uint64_t random = test_seed, message[2], n = 0;
    struct sim sim;
    int fds[2], exit_status;
    pid_t pid;

    prepare();
    memset(&sim, 0, sizeof sim);
    memset(incarnation, 0, sizeof incarnation);
    sim_last = 0;
    config.segment_bytes = 50000;
    config.buffer_bytes = 20000;
    for (kill_round = 1; kill_round <= (uint32_t)(12 * scale()); kill_round++) {
        CHECK_EQ(pipe(fds), 0);
        fflush(stdout);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            kill_pipe = fds[1];
            kill_child_main(kill_round);
        }
        close(fds[1]);
        if (read(fds[0], message, sizeof message) == sizeof message)
            sleep_ms(1 + (unsigned)(test_random(&random) % 15));
        /* The pipe is emptied first: a full one would hold the writers up. */
        (void)kill(pid, SIGKILL);
        while (read(fds[0], message, sizeof message) == sizeof message) {
            n++;
            if (message[0] > sim.acknowledged)
                sim.acknowledged = message[0];
            if (message[1] > sim.stored)
                sim.stored = message[1];
        }
        close(fds[0]);
        CHECK_EQ(waitpid(pid, &exit_status, 0), pid);
        CHECK(WIFSIGNALED(exit_status));
        replayed.is_right = kill_is_right;
        open_journal();
        replayed.is_right = NULL;
        CHECK_EQ(replayed.n_wrong, 0);
        sim_last = cache_journal_last(journal);
        CHECK_STR(sim_missing(&sim), NULL);
        sim.acknowledged = cache_journal_last(journal);
        kill_journal(); /* the child finds it as it was left */
    }
    printf("kill -9: %llu writes acknowledged in %u rounds, none lost\n",
           (unsigned long long)n, kill_round - 1);
    CHECK(n > 100);
    tear_down();
}

/* ------------------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(checksum),
    TEST(round_trip),
    TEST(bytes_are_copied),
    TEST(close_commits_what_is_buffered),
    TEST(closed_and_wrong_arguments),
    TEST(too_big),
    TEST(full_buffer_is_refused),
    TEST(wait_has_a_time_limit),
    TEST(durable_is_not_ahead),
    TEST(on_commit_is_told),
    TEST(open_wants_sense),
    TEST(path_without_directory),
    TEST(one_at_a_time),
    TEST(open_and_close_leave_nothing),
    TEST(open_without_writes_changes_nothing),
    TEST(replay_may_fail),
    TEST(out_of_memory),
    TEST(other_files_are_left_alone),
    TEST(segments_rotate),
    TEST(stored_deletes_segments),
    TEST(stored_goes_with_the_next_commit),
    TEST(missing_segment_is_corruption),
    TEST(many_writers_share_a_commit),
    TEST(close_among_writers),
    TEST(damage_after_a_crash),
    TEST(damage_after_close),
    TEST(torn_tail_is_cut),
    TEST(value_that_looks_like_a_block),
    TEST(nonsense_is_corruption),
    TEST(failed_sync_gives_the_segment_up),
    TEST(close_tells_the_truth),
    TEST(faults_while_running),
    TEST(faults_and_no_cut),
    TEST(faults_in_open),
    TEST(interrupted_and_short_calls),
    TEST(full_disk),
    TEST(segments_outlive_their_mark),
    TEST(open_syncs_what_it_replays),
    TEST(what_replay_was_given_stays),
    TEST(open_keeps_what_it_may_need),
    TEST(what_is_gone_stays_gone),
    TEST(full_disk_and_a_power_cut),
    TEST(full_disk_and_an_unsynced_note),
    TEST(full_disk_and_a_lost_end),
    TEST(full_disk_and_a_torn_note),
    TEST(simulated_kills),
    TEST(simulated_power_cuts),
    TEST(simulated_crashes_and_faults),
    TEST(power_cut_control),
    TEST(kill_9),
};

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    char mounted[280];
    int rc;

    /* Nothing here is synced, so memory is as good as a disk, and faster. */
    if (tmp == NULL && access("/dev/shm", W_OK) == 0)
        tmp = "/dev/shm";
    (void)snprintf(directory, sizeof directory, "%s/test_journal.XXXXXX",
                   tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (mkdtemp(directory) == NULL) {
        printf("no directory\n0 passed, 1 failed\n");
        return 1;
    }
    rc = TEST_MAIN(argc, argv, tests);
    tidy();
    (void)snprintf(mounted, sizeof mounted, "%s/full", directory);
    (void)umount2(mounted, MNT_DETACH); /* if a test has failed in it */
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
