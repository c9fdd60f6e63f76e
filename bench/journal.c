/*
 * journal.c - what an acknowledged write costs with cache_journal.h, beside one
 * pwrite and one fdatasync for each.
 *
 *   build/bench-journal [directory]       where the files are; default build
 *
 * Each writer has one put outstanding: a key of 16 bytes, a value of 100.
 * "writers" are logical ones of one program thread, which sleeps until a commit
 * has ended and then gives each acknowledged one its next put; "threads" are
 * real ones that wait.  A line is the median of three runs, by acked/s.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE

#include "../cache_journal.h"

enum { KEY = 16, VALUE = 100, MAX_WRITERS = 1000, RUNS = 3, RUN_MS = 900 };

static char path[300];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", path, what);
    exit(1);
}

/* --- latencies ----------------------------------------------------------- */

/* In ns; a thread's own part or everything. */
static uint32_t *latencies;
static size_t n_latencies;
enum { MAX_LATENCIES = 4000000 };

static void note(uint64_t ns)
{
    if (n_latencies < MAX_LATENCIES)
        latencies[n_latencies++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

struct result {
    double acked, commits; /* per second */
    double p50, p99;       /* us */
};

static struct result result_of(uint64_t n_acked, uint64_t n_commits,
                               uint64_t ns)
{
    struct result r = { (double)n_acked * 1e9 / (double)ns,
                        (double)n_commits * 1e9 / (double)ns, 0, 0 };

    qsort(latencies, n_latencies, sizeof *latencies, by_size);
    if (n_latencies > 0) {
        r.p50 = latencies[n_latencies / 2] / 1e3;
        r.p99 = latencies[n_latencies * 99 / 100] / 1e3;
    }
    n_latencies = 0;
    return r;
}

/* --- one fdatasync for each put ------------------------------------------ */

static struct result run_alone(int n_writers)
{
    unsigned char
        record[CACHE_JOURNAL_HEADER + CACHE_JOURNAL_RECORD + KEY + VALUE];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    uint64_t start = now_ns(), now = start, then, n = 0;

    (void)n_writers;
    if (fd < 0)
        fail(strerror(errno));
    memset(record, 'v', sizeof record);
    while (now - start < RUN_MS * UINT64_C(1000000)) {
        then = now;
        if (pwrite(fd, record, sizeof record, (off_t)(n++ * sizeof record)) !=
                (ssize_t)sizeof record ||
            fdatasync(fd) != 0)
            fail(strerror(errno));
        now = now_ns();
        note(now - then);
    }
    close(fd);
    unlink(path);
    return result_of(n, n, now - start);
}

/* --- the journal --------------------------------------------------------- */

static struct cache_journal journal;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* order of seqs */
static pthread_cond_t committed = PTHREAD_COND_INITIALIZER;
static uint64_t durable;            /* as on_commit has told */
static uint64_t begun[MAX_WRITERS]; /* ns, by seq modulo their number */

static void on_commit(uint64_t seq, int status, void *user)
{
    (void)user;
    if (status != 0)
        fail(cache_strerror(status));
    pthread_mutex_lock(&lock);
    durable = seq;
    pthread_cond_signal(&committed);
    pthread_mutex_unlock(&lock);
}

static int on_replay(const struct cache_store_item *item, void *user)
{
    (void)item, (void)user;
    return 0;
}

static void open_journal(bool tells)
{
    struct cache_journal_config config;

    memset(&config, 0, sizeof config);
    config.path = path;
    config.on_commit = tells ? on_commit : NULL;
    durable = 0;
    if (cache_journal_open(&journal, &config, on_replay, NULL) != 0)
        fail(journal.message);
}

static void close_journal(void)
{
    char name[340];
    unsigned i;

    if (cache_journal_close(&journal) != 0)
        fail("close");
    for (i = 1; i < 1000; i++) {
        snprintf(name, sizeof name, "%s.%08u", path, i);
        unlink(name);
    }
    snprintf(name, sizeof name, "%s.lock", path);
    unlink(name);
}

static void append(uint64_t seq, struct cache_journal_ticket *ticket)
{
    static char value[VALUE];
    char key[KEY + 8];
    struct cache_store_item item;

    memset(&item, 0, sizeof item);
    memset(key, 'k', sizeof key);
    memcpy(key, &seq, sizeof seq);
    item.op = CACHE_STORE_PUT;
    item.key.data = key;
    item.key.len = KEY;
    item.value.data = value;
    item.value.len = VALUE;
    item.version = seq;
    if (cache_journal_append(&journal, &item, ticket) != 0)
        fail("append");
}

static uint64_t n_commits_now(void)
{
    struct cache_journal_stats stats;

    if (cache_journal_get_stats(&journal, &stats) != 0)
        fail("stats");
    return stats.n_commits;
}

static struct result run_writers(int n_writers)
{
    const uint64_t n = (uint64_t)n_writers;
    uint64_t start, now, seq = 0, acked = 0, until, n_commits;

    open_journal(true);
    start = now = now_ns();
    while (seq < n) {
        begun[++seq % n] = now;
        append(seq, NULL);
    }
    while (now - start < RUN_MS * UINT64_C(1000000)) {
        pthread_mutex_lock(&lock);
        while (durable == acked)
            pthread_cond_wait(&committed, &lock);
        until = durable;
        pthread_mutex_unlock(&lock);
        now = now_ns();
        while (acked < until) {
            note(now - begun[++acked % n]);
            begun[++seq % n] = now;
            append(seq, NULL);
        }
    }
    n_commits = n_commits_now();
    close_journal();
    return result_of(acked, n_commits, now - start);
}

static uint64_t next_seq;
static bool over;

static void *write_and_wait(void *user)
{
    struct cache_journal_ticket ticket;
    uint64_t start, n = 0;

    (void)user;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        start = now_ns();
        pthread_mutex_lock(&lock);
        append(++next_seq, &ticket);
        pthread_mutex_unlock(&lock);
        if (cache_journal_wait(&journal, &ticket, CACHE_NEVER) != 0)
            fail("wait");
        if (n++ % 4 == 0) { /* a sample, so that this lock does not matter */
            start = now_ns() - start;
            pthread_mutex_lock(&lock);
            note(start);
            pthread_mutex_unlock(&lock);
        }
    }
    return (void *)(uintptr_t)n;
}

static struct result run_threads(int n_writers)
{
    pthread_t threads[MAX_WRITERS];
    struct timespec pause = { 0, RUN_MS * 1000000L };
    uint64_t start, n = 0, n_commits;
    void *out;
    int i;

    open_journal(false);
    next_seq = 0;
    over = false;
    start = now_ns();
    for (i = 0; i < n_writers; i++)
        if (pthread_create(&threads[i], NULL, write_and_wait, NULL) != 0)
            fail("no thread");
    nanosleep(&pause, NULL);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (i = 0; i < n_writers; i++) {
        pthread_join(threads[i], &out);
        n += (uintptr_t)out;
    }
    start = now_ns() - start;
    n_commits = n_commits_now();
    close_journal();
    return result_of(n, n_commits, start);
}

/* --- the table ----------------------------------------------------------- */

static const struct subject {
    const char *name;
    struct result (*run)(int n_writers);
    int n_writers;
} subjects[] = {
    { "one fdatasync per put", run_alone, 1 },
    { "journal, 1 writer", run_writers, 1 },
    { "journal, 10 writers", run_writers, 10 },
    { "journal, 100 writers", run_writers, 100 },
    { "journal, 1000 writers", run_writers, 1000 },
    { "journal, 100 threads", run_threads, 100 },
};

enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static int by_acked(const void *a, const void *b)
{
    double x = ((const struct result *)a)->acked;
    double y = ((const struct result *)b)->acked;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static struct result results[SUBJECTS][RUNS];
    const char *directory = argc > 1 ? argv[1] : "build";
    double first = 0;
    int run, i;

    snprintf(path, sizeof path, "%.200s/bench-journal.%d", directory,
             (int)getpid());
    latencies = malloc(MAX_LATENCIES * sizeof *latencies);
    if (latencies == NULL)
        fail("memory");
    memset(latencies, 0, MAX_LATENCIES * sizeof *latencies);
    for (run = 0; run < RUNS; run++) /* in turn, for the disk has its moods */
        for (i = 0; i < SUBJECTS; i++)
            results[i][run] = subjects[i].run(subjects[i].n_writers);
    printf("%-24s %10s %10s %8s %8s %7s\n", "", "acked/s", "commits/s",
           "p50 us", "p99 us", "ratio");
    for (i = 0; i < SUBJECTS; i++) {
        struct result *r = &results[i][RUNS / 2];

        qsort(results[i], RUNS, sizeof *results[i], by_acked);
        if (i == 0)
            first = r->acked;
        printf("%-24s %10.0f %10.0f %8.0f %8.0f %7.1f\n", subjects[i].name,
               r->acked, r->commits, r->p50, r->p99, r->acked / first);
    }
    free(latencies);
    return 0;
}
