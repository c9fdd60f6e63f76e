/*
 * test_loading_crash.c - write-behind end to end through crashes: what a put
 * has acknowledged is there after kill -9 and power cuts, whatever the journal,
 * the store and the threads were doing.
 *
 * TEST_SCALE multiplies the rounds.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw */

#include "crash.h"

#include "../cache_loading_shared.h"
#include "../codecs/cache_raw.h"
#include "../stores/cache_sqlite.h"

#include <limits.h>

/* --- the caches ---------------------------------------------------------- */

CACHE_DEFINE_LOADING_SHARED_WITH(shared_db, uint64_t, struct record,
                                 cache_hash_u64, cache_equal_u64,
                                 CACHE_PLAIN_DATA | CACHE_STATS,
                                 .key_copy = NULL);
CACHE_DEFINE_LOADING_SHARED_WITH(shared_file, uint64_t, struct record,
                                 cache_hash_u64, cache_equal_u64,
                                 CACHE_PLAIN_DATA | CACHE_STATS,
                                 .load = medium_load, .store = medium_store,
                                 .remove = medium_remove);
CACHE_DEFINE_LOADING_WITH(plain_db, uint64_t, struct record, cache_hash_u64,
                          cache_equal_u64, CACHE_STATS, .key_copy = NULL);
CACHE_DEFINE_LOADING_WITH(plain_file, uint64_t, struct record, cache_hash_u64,
                          cache_equal_u64, CACHE_STATS, .load = medium_load,
                          .store = medium_store, .remove = medium_remove);

static union {
    struct shared_db shared_db;
    struct shared_file shared_file;
    struct plain_db plain_db;
    struct plain_file plain_file;
} cache;

/* What the tests call, of whatever type. */
struct kind {
    const char *name;
    bool shared, db;
    int (*init)(const struct cache_loading_config *config);
    int (*get)(uint64_t key, struct record *out);
    int (*put)(uint64_t key, struct record value,
               const struct cache_writing *how);
    int (*remove)(uint64_t key, const struct cache_writing *how);
    int (*flush)(uint32_t budget);
    int (*close)(uint64_t timeout_ms, uint64_t *n_lost);
    void (*destroy)(void);
    const char *(*check)(void);
    bool (*dirty)(uint64_t key);
    struct cache_loading_stats (*stats)(void);
    size_t size;
};

#define KIND_FUNCTIONS(name)                                                   \
    static int name##_init_(const struct cache_loading_config *config)         \
    {                                                                          \
        return name##_init(&cache.name, config);                               \
    }                                                                          \
    static int name##_get_(uint64_t key, struct record *out)                   \
    {                                                                          \
        return name##_get(&cache.name, key, out);                              \
    }                                                                          \
    static int name##_put_(uint64_t key, struct record value,                  \
                           const struct cache_writing *how)                    \
    {                                                                          \
        return how ? name##_put_with(&cache.name, key, value, how)             \
                   : name##_put(&cache.name, key, value);                      \
    }                                                                          \
    static int name##_remove_(uint64_t key, const struct cache_writing *how)   \
    {                                                                          \
        return how ? name##_remove_with(&cache.name, key, how)                 \
                   : name##_remove(&cache.name, key);                          \
    }                                                                          \
    static int name##_flush_(uint32_t budget)                                  \
    {                                                                          \
        return name##_flush(&cache.name, budget);                              \
    }                                                                          \
    static int name##_close_(uint64_t timeout_ms, uint64_t *n_lost)            \
    {                                                                          \
        return name##_close(&cache.name, timeout_ms, n_lost);                  \
    }                                                                          \
    static void name##_destroy_(void)                                          \
    {                                                                          \
        name##_destroy(&cache.name);                                           \
    }                                                                          \
    static const char *name##_check_(void)                                     \
    {                                                                          \
        return name##_check(&cache.name);                                      \
    }                                                                          \
    static bool name##_dirty_(uint64_t key)                                    \
    {                                                                          \
        struct cache_loading_entry entry;                                      \
        return name##_entry(&cache.name, key, &entry) == 0 && entry.dirty;     \
    }                                                                          \
    static struct cache_loading_stats name##_stats_(void)                      \
    {                                                                          \
        struct cache_loading_stats stats;                                      \
        memset(&stats, 0, sizeof stats);                                       \
        (void)name##_loading_stats(&cache.name, &stats);                       \
        return stats;                                                          \
    }                                                                          \
    struct cache__swallow_semicolon

#define KIND(name, shared, db)                                                 \
    {                                                                          \
#name, shared, db, name##_init_, name##_get_, name##_put_,             \
            name##_remove_, name##_flush_, name##_close_, name##_destroy_,     \
            name##_check_, name##_dirty_, name##_stats_, sizeof(struct name)   \
    }

KIND_FUNCTIONS(shared_db);
KIND_FUNCTIONS(shared_file);
KIND_FUNCTIONS(plain_db);
KIND_FUNCTIONS(plain_file);

enum { SHARED_DB, SHARED_FILE, PLAIN_DB, PLAIN_FILE, KINDS };

static const struct kind kinds[KINDS] = {
    KIND(shared_db, true, true),
    KIND(shared_file, true, false),
    KIND(plain_db, false, true),
    KIND(plain_file, false, false),
};

static const struct kind *kind = &kinds[PLAIN_FILE];

/* --- a cache with its journal and its store ------------------------------ */

static struct cache_codec key_codec, value_codec;
static struct cache_loading_config config;
static struct cache_sqlite db;
static bool db_open, cache_open;
static char journal_path[300], store_path[300];
static int n_paths;

static void on_letter(const struct cache_store_item *item, void *user)
{
    (void)item, (void)user;
    medium.n_letters++;
}

static void store_open(void)
{
    struct cache_sqlite_config sqlite = { .path = store_path };

    if (kind->db) {
        CHECK_EQ(cache_sqlite_open(&db, &sqlite), 0);
        db_open = true;
    } else if (store_path[0] != '\0') {
        medium.fd = open(store_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CHECK(medium.fd >= 0);
    }
    config.store = kind->db ? &db.store : NULL;
}

static void store_close(void)
{
    if (db_open)
        db.store.close(&db.store);
    db_open = false;
    if (medium.fd >= 0)
        (void)close(medium.fd);
    medium.fd = -1;
}

/* Ends what a test has left, also one that has failed. */
static void tidy(void)
{
    disk_reset();
    medium.fail = CACHE_EIO;
    if (cache_open)
        kind->destroy();
    cache_open = false;
    store_close();
    memset(&cache, 0, sizeof cache);
    memset(&medium, 0, sizeof medium);
    medium.fd = -1;
}

/* New files, and the usual configuration, which the test may change. */
static void prepare(int which, bool journal, bool file)
{
    tidy();
    kind = &kinds[which];
    key_codec = cache_raw_object(sizeof(uint64_t));
    value_codec = cache_raw_object(sizeof(struct record));
    (void)snprintf(journal_path, sizeof journal_path, "%s/%d.journal",
                   directory, ++n_paths);
    (void)snprintf(store_path, sizeof store_path, "%s/%d.store", directory,
                   n_paths);
    if (!file && !kind->db)
        store_path[0] = '\0';
    memset(&config, 0, sizeof config);
    config.cache.capacity = 64;
    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_BEHIND;
    config.key_codec = &key_codec;
    config.value_codec = &value_codec;
    config.write_behind.on_dead_letter = on_letter;
    config.write_behind.retry_base_ms = 1;
    config.write_behind.retry_cap_ms = 4;
    config.journal.path = journal ? journal_path : NULL;
    config.journal.buffer_bytes = 4096;
    config.wait_ms = 20000;
}

static void cache_start(void)
{
    int rc = kind->init(&config);

    CHECK_EQ(rc, 0);
    cache_open = true;
}

static void set_up(int which, bool journal)
{
    prepare(which, journal, false);
    store_open();
    cache_start();
}

/* The end of a process: what is not in files is gone.  The file's store takes
 * nothing any more, nor does the journal. */
static void crash(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.dead = true;
    pthread_mutex_unlock(&disk.lock);
    medium.fail = CACHE_EIO;
    kind->destroy();
    cache_open = false;
    pthread_mutex_lock(&disk.lock);
    disk.dead = false;
    disk.die_at = 0;
    pthread_mutex_unlock(&disk.lock);
    medium.fail = 0;
}

static int put_with(uint64_t key, uint64_t number, enum cache_ack ack)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    how.ack = ack;
    return kind->put(key, record_of(key, number), ack ? &how : NULL);
}

static int remove_with(uint64_t key, enum cache_ack ack)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    how.ack = ack;
    return kind->remove(key, ack ? &how : NULL);
}

static int put(uint64_t key, uint64_t number)
{
    return put_with(key, number, CACHE_ACK_DEFAULT);
}

/* What name_get finds: the number, 0 = absent. */
static uint64_t got(uint64_t key)
{
    struct record record;
    int rc = kind->get(key, &record);

    if (rc == CACHE_EKEY)
        return 0;
    CHECK_EQ(rc, CACHE_FOUND);
    CHECK_EQ(record.check, record_of(key, record.number).check);
    return record.number;
}

/* --- notes of what was written ------------------------------------------- */

/* Reads all keys, and returns how many are wrong. */
static int judge_all(uint64_t *found, bool says)
{
    int n_wrong = 0;
    uint32_t key;

    for (key = 0; key < KEYS; key++) {
        const char *what;

        found[key] = got(key);
        what = notes_judge(key, found[key]);
        n_wrong += what != NULL;
        if (what && says)
            printf("key %u, number %llu: %s\n", key,
                   (unsigned long long)found[key], what);
    }
    return n_wrong;
}

/* One write of a writer: 0 or why it was refused. */
static int write_one(uint32_t writer, uint64_t *random)
{
    static const enum cache_ack acks[] = { CACHE_ACK_DEFAULT, CACHE_ACK_MEMORY,
                                           CACHE_ACK_MEMORY, CACHE_ACK_STORE,
                                           CACHE_ACK_JOURNAL };
    uint32_t dice = (uint32_t)(test_random(random) >> 20);
    bool journal = config.journal.path != NULL;
    enum cache_ack ack = acks[dice % (journal ? 5 : 4)];
    uint32_t key = dice / 8 % KEYS;
    bool removes = dice / 64 % 4 == 0;
    struct note *note = note_begin(writer, key, removes);
    int rc;

    if (note == NULL)
        return CACHE_ELIMIT;
    rc = removes ? remove_with(key, ack) : put_with(key, note->number, ack);
    if (rc == 0)
        note_end(note, ack == CACHE_ACK_STORE ||
                           (journal && ack != CACHE_ACK_MEMORY));
    return rc;
}

/* --- kill -9 ------------------------------------------------------------- */

static void *write_until_killed(void *user)
{
    uint32_t writer = (uint32_t)(uintptr_t)user;
    uint64_t random = (notes_now() * 2654435761u + writer) | 1;
    struct record record;
    int rc;

    for (;;) {
        rc = write_one(writer, &random);
        if (rc != 0) {
            if (rc != CACHE_ELIMIT)
                child_wrong(rc);
            for (;;)
                (void)pause();
        }
        if (test_random(&random) % 4 == 0) {
            uint64_t key = test_random(&random) % KEYS;

            rc = kind->get(key, &record);
            if (rc < 0 && rc != CACHE_EKEY)
                child_wrong(rc);
            if (rc >= 0 && record.check != record_of(key, record.number).check)
                child_wrong(1);
        }
        if (!kind->shared && test_random(&random) % 3 == 0)
            (void)kind->flush(1 + (uint32_t)test_random(&random) % 4);
    }
    return NULL;
}

static void *flush_until_killed(void *user)
{
    uint64_t random = notes_now() | 1;

    (void)user;
    for (;;) {
        (void)kind->flush(1 + (uint32_t)(test_random(&random) >> 40) % 8);
        if (test_random(&random) % 2)
            sleep_ms((uint32_t)(test_random(&random) >> 40) % 3);
    }
    return NULL;
}

static void child_main(void)
{
    pthread_t thread;
    uintptr_t i;
    int rc;

    store_open();
    rc = kind->init(&config);
    if (rc != 0) {
        child_wrong(rc);
        _exit(1);
    }
    __atomic_store_n(&notes->ready, 1u, __ATOMIC_SEQ_CST);
    for (i = 1; i < WRITERS && kind->shared; i++)
        if (pthread_create(&thread, NULL, write_until_killed, (void *)i) != 0)
            _exit(2);
    if (kind->shared &&
        pthread_create(&thread, NULL, flush_until_killed, NULL) != 0)
        _exit(2);
    (void)write_until_killed(NULL);
}

/* After a crash: the cache with its journal has all, and then the store. */
static void check_survivors(uint64_t *found, bool looks)
{
    uint64_t n_lost = 99, again[KEYS];
    const char *path = config.journal.path;
    uint32_t key;

    if (looks && path != NULL)
        (void)journalled(&config.journal);
    store_open();
    cache_start();
    CHECK_EQ(judge_all(found, true), 0);
    for (key = 0; key < KEYS && looks && path != NULL; key++)
        if (has_newest[key]) /* in the order of their versions */
            CHECK_EQ(found[key], newest[key]);
    CHECK_SOUND(kind->check());
    CHECK_EQ(kind->close(20000, &n_lost), 0);
    CHECK_EQ(n_lost, 0);
    kind->destroy();
    cache_open = false;
    if (path != NULL)
        CHECK_EQ(journalled(&config.journal), 0);
    config.journal.path = NULL;
    cache_start();
    for (key = 0; key < KEYS; key++) {
        again[key] = got(key);
        CHECK_EQ(again[key], found[key]);
    }
    kind->destroy();
    cache_open = false;
    config.journal.path = path;
    store_close();
}

static void kill_9(int which, bool journal, long rounds)
{
    uint64_t random = test_seed + (uint64_t)which, found[KEYS];
    long round, lives = 0;
    int i;

    prepare(which, journal, true);
    notes_begin(NULL);
    memset(notes->base, 0, sizeof notes->base);
    config.cache.capacity = 16;
    config.write_behind.max_dirty = 5;
    config.write_behind.max_batch = 3;
    config.when_full = CACHE_FULL_WRITE_THROUGH;
    config.journal.segment_bytes = 3000;
    for (round = 0; round < rounds; round++) {
        config.write_behind.max_in_flight = 1 + (uint32_t)(round % 2);
        config.journal.process_only = round % 4 == 3;
        disk.sync_us = (int)(test_random(&random) % 3) * 1000;
        for (i = (int)(test_random(&random) % 3); i >= 0; i--, lives++)
            child_life(child_main, test_random(&random) % 8 != 0,
                       (long)(test_random(&random) >> 33) %
                           (kind->db ? 100000 : 20000));
        disk.sync_us = 0;
        check_survivors(found, round % 2 == 1);
        notes_begin(found);
    }
    printf("kill -9, %s%s: %ld rounds, %ld kills, %llu writes, of which %llu "
           "had to survive: none lost\n",
           kind->name, journal ? " with a journal" : "", rounds, lives,
           (unsigned long long)notes->n_all, (unsigned long long)notes->n_safe);
    CHECK(notes->n_safe > 0);
    tidy();
}

static void kill_9_shared_sqlite_journal(void)
{
    kill_9(SHARED_DB, true, 3 * test_scale());
}

static void kill_9_shared_file_journal(void)
{
    kill_9(SHARED_FILE, true, 5 * test_scale());
}

static void kill_9_plain_sqlite_journal(void)
{
    kill_9(PLAIN_DB, true, 2 * test_scale());
}

static void kill_9_plain_file_journal(void)
{
    kill_9(PLAIN_FILE, true, 3 * test_scale());
}

static void kill_9_no_journal(void)
{
    kill_9(SHARED_DB, false, 2 * test_scale());
    kill_9(SHARED_FILE, false, 2 * test_scale());
    kill_9(PLAIN_FILE, false, 2 * test_scale());
}

/* --- power cuts ---------------------------------------------------------- */

struct cuts {
    int n_rounds, n_opened, n_lost;
};

/* Writes until the power is cut. */
static void live(uint64_t *random)
{
    int step;

    for (step = 0; step < 80 && !disk_is_dead(); step++) {
        (void)write_one(0, random);
        if (test_random(random) % 6 == 0)
            (void)kind->flush(1 + (uint32_t)(test_random(random) >> 40) % 4);
    }
}

static void power_round(struct cuts *cuts, uint64_t *random, bool says)
{
    uint64_t found[KEYS];
    int rc;

    cuts->n_rounds++;
    pthread_mutex_lock(&disk.lock);
    disk.die_at = disk.n_ops + 1 + (test_random(random) >> 40) % 200;
    pthread_mutex_unlock(&disk.lock);
    rc = kind->init(&config);
    cache_open = rc == 0;
    if (rc == 0) {
        cuts->n_opened++;
        cuts->n_lost += judge_all(found, says) > 0;
        notes_begin(found);
        live(random);
        crash();
        notes_crash();
    } else {
        cuts->n_lost += rc == CACHE_ECORRUPT;
        CHECK(rc == CACHE_ECORRUPT || disk_is_dead());
    }
    disk.dead = false;
    disk.die_at = 0;
    cut_power();
}

/* Journals, and what power cuts in them have cost. */
static struct cuts power_cuts(int n_journals, int n_rounds, bool process_only)
{
    uint64_t random = test_seed;
    struct cuts all = { 0, 0, 0 }, cuts;
    int n;

    for (n = 0; n < n_journals; n++) {
        prepare(PLAIN_FILE, true, false);
        disk_model(test_seed + (uint64_t)n);
        notes_begin(NULL);
        memset(&cuts, 0, sizeof cuts);
        medium.dies_with_disk = true;
        config.wait_ms = 20;
        config.journal.segment_bytes = 2000;
        config.journal.process_only = process_only;
        config.write_behind.max_dirty = n % 2 ? 4 : 0;
        config.when_full = CACHE_FULL_WRITE_THROUGH;
        while (cuts.n_rounds < n_rounds && cuts.n_lost == 0)
            power_round(&cuts, &random, !process_only);
        all.n_rounds += cuts.n_rounds;
        all.n_opened += cuts.n_opened;
        all.n_lost += cuts.n_lost;
        tidy();
        if (!process_only)
            CHECK_EQ(cuts.n_lost, 0);
    }
    return all;
}

static void power_cuts_lose_nothing(void)
{
    struct cuts cuts = power_cuts((int)(2 * test_scale()), 20, false);

    printf("power cuts: %d, %d openings, %llu writes, %llu had to survive, "
           "%d losses\n",
           cuts.n_rounds, cuts.n_opened, (unsigned long long)notes->n_all,
           (unsigned long long)notes->n_safe, cuts.n_lost);
    CHECK(cuts.n_opened > cuts.n_rounds / 3);
}

/* The checker sees losses where there are some. */
static void power_cuts_of_unsynced_journals_do(void)
{
    struct cuts cuts = power_cuts(10, 20, true);

    printf("power cuts, process_only: %d of 10 journals have losses\n",
           cuts.n_lost);
    CHECK(cuts.n_lost > 3);
}

/* --- a journal that fails ------------------------------------------------ */

static const struct fault {
    enum call call;
    int code, status;
} faults[] = {
    { CALL_PWRITE, ENOSPC, CACHE_EFULL },
    { CALL_PWRITE, EIO, CACHE_EIO },
    { CALL_FDATASYNC, EIO, CACHE_EIO },
    { CALL_FDATASYNC, ENOSPC, CACHE_EFULL },
};

static void journal_error_is_returned_and_passes(void)
{
    size_t f;
    int which;

    for (f = 0; f < COUNT(faults); f++) {
        for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
            set_up(which, true);
            CHECK_EQ(put(1, 10), 0);
            CHECK_EQ(put(2, 20), 0);
            disk_fail(faults[f].call, 0, INT_MAX, faults[f].code);
            CHECK_EQ(put(1, 11), faults[f].status);
            CHECK_EQ(got(1), 11); /* readable, and dirty */
            CHECK(kind->dirty(1));
            CHECK_EQ(remove_with(2, CACHE_ACK_JOURNAL), faults[f].status);
            CHECK_EQ(got(2), 0);
            CHECK_EQ(put_with(3, 30, CACHE_ACK_MEMORY), 0);
            CHECK_EQ(got(3), 30);
            disk_heal();
            CHECK_EQ(put(4, 40), 0); /* and so are all before it */
            crash();
            cache_start();
            CHECK_EQ(got(1), 11);
            CHECK_EQ(got(2), 0);
            CHECK_EQ(got(3), 30);
            CHECK_EQ(got(4), 40);
            CHECK_SOUND(kind->check());
            tidy();
        }
    }
}

static void crash_while_the_journal_fails(void)
{
    uint64_t one;
    size_t f;

    for (f = 0; f < COUNT(faults); f++) {
        set_up(PLAIN_FILE, true);
        CHECK_EQ(put(1, 10), 0);
        CHECK_EQ(put(2, 20), 0);
        disk_fail(faults[f].call, 0, INT_MAX, faults[f].code);
        CHECK_EQ(put(1, 11), faults[f].status);
        crash();
        disk_heal();
        cache_start();
        one = got(1);
        CHECK(one == 10 || one == 11); /* an error means "unknown" */
        CHECK_EQ(got(2), 20);
        tidy();
    }
}

/* On a machine that is busy, the wait may be too short. */
static void put_at_last(uint64_t key, uint64_t number)
{
    int rc = 0, i;

    for (i = 0; i < 100 && (i == 0 || rc == CACHE_ETIMEOUT); i++)
        rc = put(key, number);
    CHECK_EQ(rc, 0);
}

/* When its buffer is full too, a write is refused: it is nowhere. */
static void full_journal_refuses(void)
{
    uint64_t n = 100, refused;
    int rc = 0, when;

    for (when = CACHE_FULL_REFUSE; when <= (int)CACHE_FULL_PAUSE; when++) {
        prepare(PLAIN_FILE, true, false);
        config.wait_ms = 150;
        config.when_full = (enum cache_when_full)when;
        cache_start();
        put_at_last(1, n);
        disk_fail(CALL_PWRITE, 0, INT_MAX, ENOSPC);
        while (n < 1000 && (rc = put_with(1, n + 1, CACHE_ACK_MEMORY)) == 0)
            n++;
        CHECK_EQ(rc, CACHE_EFULL);
        CHECK(n > 130);
        refused = n + 1;
        CHECK_EQ(got(1), n);
        CHECK(kind->stats().writes.n_refused > 0);
        CHECK_EQ(kind->flush(100), 0);
        CHECK_EQ(medium.rows[1].number, n);
        disk_heal();
        put_at_last(2, 20);
        put_at_last(1, refused + 1);
        crash();
        cache_start();
        CHECK_EQ(got(1), refused + 1);
        CHECK_EQ(got(2), 20);
        tidy();
    }
}

static void store_has_what_it_acknowledges(void)
{
    int journal, which;

    for (journal = 0; journal < 2; journal++)
        for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
            set_up(which, journal != 0);
            CHECK_EQ(put_with(1, 10, CACHE_ACK_STORE), 0);
            CHECK_EQ(medium.rows[1].number, 10);
            CHECK_EQ(put_with(2, 20, CACHE_ACK_MEMORY), 0);
            CHECK_EQ(remove_with(1, CACHE_ACK_STORE), 0);
            CHECK_EQ(medium.rows[1].number, 0);
            CHECK_EQ(medium.rows[2].number, 20); /* all before it */
            tidy();
        }
}

/* The store has a write before the journal has: what is replayed then must not
 * take its place. */
static void replay_does_not_overtake_the_store(void)
{
    int removes, rc;

    for (removes = 0; removes < 2; removes++) {
        set_up(PLAIN_FILE, true);
        CHECK_EQ(put(1, 10), 0);
        disk_fail(CALL_PWRITE, 0, INT_MAX, EIO);
        rc = removes ? remove_with(1, CACHE_ACK_STORE)
                     : put_with(1, 11, CACHE_ACK_STORE);
        CHECK(rc == 0 || rc == CACHE_EIO);
        CHECK_EQ(medium.rows[1].number, removes ? 0 : 11);
        crash();
        disk_heal();
        cache_start();
        if (rc == 0)
            CHECK_EQ(got(1), removes ? 0 : 11);
        tidy();
    }
    set_up(PLAIN_FILE, true);
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put_with(1, 11, CACHE_ACK_STORE), 0);
    crash();
    cache_start();
    CHECK_EQ(got(1), 11);
    tidy();
}

/* However slow the disk is: what the store has been told, the journal has.  So
 * a crash brings back neither an older write nor a version that was used. */
static void the_store_gets_what_the_journal_has(void)
{
    uint64_t version;
    int removes;

    for (removes = 0; removes < 2; removes++) {
        set_up(PLAIN_FILE, true);
        CHECK_EQ(put(1, 10), 0);
        disk_is_slow(20000);
        CHECK_EQ(removes ? remove_with(1, CACHE_ACK_MEMORY)
                         : put_with(1, 11, CACHE_ACK_MEMORY),
                 0);
        CHECK_EQ(kind->flush(100), 0);
        CHECK_EQ(medium.rows[1].number, removes ? 0 : 11);
        version = medium.versions[1];
        crash();
        disk_is_slow(0);
        cache_start();
        CHECK_EQ(got(1), removes ? 0 : 11);
        CHECK_EQ(put_with(1, 12, CACHE_ACK_STORE), 0);
        CHECK(medium.versions[1] > version);
        tidy();
    }
}

/* The same for many at once. */
static void replay_does_not_overtake_put_many(void)
{
    const uint64_t keys[] = { 1, 2 };
    const struct record values[] = { record_of(1, 11), record_of(2, 21) };
    int rc;

    prepare(PLAIN_FILE, true, false);
    config.ack = CACHE_ACK_STORE;
    cache_start();
    CHECK_EQ(put_with(1, 10, CACHE_ACK_JOURNAL), 0);
    CHECK_EQ(put_with(2, 20, CACHE_ACK_JOURNAL), 0);
    disk_fail(CALL_PWRITE, 0, INT_MAX, EIO);
    rc = plain_file_put_many(&cache.plain_file, keys, values, 2, NULL);
    CHECK(rc == 0 || rc == CACHE_EIO);
    crash();
    disk_heal();
    cache_start();
    if (rc == 0) {
        CHECK_EQ(got(1), 11);
        CHECK_EQ(got(2), 21);
    }
    tidy();
}

/* --- init ---------------------------------------------------------------- */

static int entries_of(const char *name)
{
    DIR *d = opendir(name);
    int n = 0;

    CHECK(d != NULL);
    while (readdir(d) != NULL)
        n++;
    CHECK_EQ(closedir(d), 0);
    return n;
}

/* What the journal's segments hold. */
static uint64_t journal_sum(void)
{
    static unsigned char bytes[65536];
    uint64_t sum = 0;
    char name[340];
    unsigned i;
    size_t n;
    FILE *f;

    for (i = 1; i < 100; i++) {
        (void)snprintf(name, sizeof name, "%s.%08u", journal_path, i);
        f = fopen(name, "rb");
        if (f == NULL)
            continue;
        n = fread(bytes, 1, sizeof bytes, f);
        CHECK_EQ(fclose(f), 0);
        while (n-- > 0)
            sum = cache__mix(sum + bytes[n] + i, CACHE__K1);
    }
    return sum;
}

/* init fails with this, and has left nothing. */
static void check_init_fails(int want)
{
    static unsigned char before[sizeof cache];
    uint64_t sum = journal_sum();
    int fds = entries_of("/proc/self/fd"), rc;

    memset(&cache, 0x5a, sizeof cache);
    memcpy(before, &cache, sizeof cache);
    rc = kind->init(&config);
    CHECK_EQ(rc, want);
    CHECK(memcmp(before, &cache, kind->size) == 0);
    CHECK_EQ(entries_of("/proc/self/fd"), fds);
    CHECK_EQ(journal_sum(), sum);
}

/* A journal of all keys, twice each, of which the last is removed. */
static void leave_writes(void)
{
    uint64_t key;

    medium.fail = CACHE_EIO;
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(put(key, 100 + key), 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(put_with(key, 200 + key, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(remove_with(KEYS - 1, CACHE_ACK_DEFAULT), 0);
    crash();
}

static void check_written(void)
{
    uint64_t key;

    for (key = 0; key < KEYS - 1; key++)
        CHECK_EQ(got(key), 200 + key);
    CHECK_EQ(got(KEYS - 1), 0);
}

static void init_makes_writes_dirty_again(void)
{
    int which;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        set_up(which, true);
        leave_writes();
        cache_start();
        CHECK_EQ(kind->stats().n_dirty, KEYS);
        CHECK(kind->dirty(3) || got(3) == 203);
        CHECK_EQ(medium.n_writes, 0);
        check_written();
        while (kind->flush(100) > 0)
            ;
        CHECK_EQ(medium.rows[2].number, 202);
        CHECK_EQ(medium.rows[KEYS - 1].number, 0);
        check_written();
        CHECK_EQ(kind->close(1000, NULL), 0);
        kind->destroy();
        cache_open = false;
        CHECK_EQ(journalled(&config.journal), 0);
        tidy();
    }
}

static void init_stores_more_than_max_dirty(void)
{
    int which;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        set_up(which, true);
        leave_writes();
        config.write_behind.max_dirty = 2;
        config.write_behind.max_batch = 1;
        config.when_full = CACHE_FULL_WRITE_THROUGH;
        cache_start();
        CHECK(medium.n_writes >= KEYS - 2);
        CHECK(kind->stats().n_dirty <= 2);
        check_written();
        CHECK_SOUND(kind->check());
        CHECK_EQ(put(1, 300), 0);
        crash();
        cache_start();
        CHECK_EQ(got(1), 300);
        CHECK_EQ(got(2), 202);
        CHECK_EQ(kind->close(1000, NULL), 0);
        kind->destroy();
        cache_open = false;
        CHECK_EQ(journalled(&config.journal), 0);
        CHECK_EQ(medium.rows[1].number, 300);
        CHECK_EQ(medium.rows[KEYS - 1].number, 0);
        tidy();
    }
}

static uint64_t ms_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void init_with_a_dead_store(void)
{
    uint64_t before;
    int which;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        set_up(which, true);
        leave_writes();
        medium.fail = CACHE_EIO;
        config.write_behind.max_dirty = 3;
        config.wait_ms = 60;
        before = ms_now();
        check_init_fails(CACHE_EFULL);
        CHECK(ms_now() - before >= 55);
        CHECK(ms_now() - before < 10000);
        CHECK_EQ(medium.n_letters, 0); /* the journal has them still */
        medium.fail = 0;
        config.wait_ms = 20000;
        cache_start();
        check_written();
        tidy();
    }
}

/* The same with a store that answers later, from its own thread. */
static void init_with_a_dead_sqlite(void)
{
    struct cache_sqlite_config sqlite = { .path = store_path };
    int which;

    for (which = SHARED_DB; which <= PLAIN_DB; which += 2) {
        prepare(which, true, true);
        store_open(); /* so that there is a file */
        cache_start();
        CHECK_EQ(put(1, 10), 0);
        CHECK_EQ(kind->close(10000, NULL), 0);
        kind->destroy();
        cache_open = false;
        store_close();
        sqlite.path = store_path;
        sqlite.read_only = true;
        CHECK_EQ(cache_sqlite_open(&db, &sqlite), 0);
        db_open = true;
        cache_start();
        leave_writes();
        config.write_behind.max_dirty = 3;
        config.wait_ms = 60;
        check_init_fails(CACHE_EFULL);
        store_close();
        store_open();
        config.wait_ms = 20000;
        cache_start();
        check_written();
        CHECK_EQ(kind->close(10000, NULL), 0);
        kind->destroy();
        cache_open = false;
        CHECK_EQ(journalled(&config.journal), 0);
        tidy();
    }
}

/* A store that fails late, each batch on a thread of its own. */
static int n_late; /* atomic: batches that are there */

static void *fail_late(void *user)
{
    struct cache_store_batch *batch = (struct cache_store_batch *)user;
    size_t i;

    sleep_ms(50);
    for (i = 0; i < batch->n_items; i++)
        batch->items[i].status = CACHE_EIO;
    batch->done(batch);
    (void)__atomic_fetch_sub(&n_late, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static int late_submit(struct cache_store *store,
                       struct cache_store_batch *batch)
{
    pthread_t thread;

    (void)store;
    (void)__atomic_fetch_add(&n_late, 1, __ATOMIC_SEQ_CST);
    if (pthread_create(&thread, NULL, fail_late, batch) != 0)
        abort();
    (void)pthread_detach(thread);
    return 0;
}

/* What is at the store when init gives up comes back first. */
static void init_with_a_store_that_fails_late(void)
{
    static struct cache_store late = { "late", CACHE_STORE_BLOCKS, late_submit,
                                       NULL };
    int which;

    for (which = SHARED_DB; which <= PLAIN_DB; which += 2) {
        prepare(which, true, false);
        config.store = &late;
        cache_start();
        leave_writes();
        config.write_behind.max_dirty = 3;
        config.wait_ms = 30;
        check_init_fails(CACHE_EFULL);
        while (__atomic_load_n(&n_late, __ATOMIC_SEQ_CST) > 0)
            sleep_ms(1);
        config.write_behind.max_dirty = 0;
        cache_start();
        check_written();
        CHECK_EQ(kind->close(0, NULL), 0);
        tidy();
    }
}

static void journal_in_use(void)
{
    static struct plain_file other;
    static unsigned char before[sizeof other];
    int fds;

    set_up(PLAIN_FILE, true);
    CHECK_EQ(put(1, 10), 0);
    fds = entries_of("/proc/self/fd");
    memset(&other, 0x5a, sizeof other);
    memcpy(before, &other, sizeof other);
    CHECK_EQ(plain_file_init(&other, &config), CACHE_ELOCKED);
    CHECK(memcmp(&other, before, sizeof other) == 0);
    CHECK_EQ(entries_of("/proc/self/fd"), fds);
    CHECK_EQ(put(1, 11), 0);
    crash();
    cache_start();
    CHECK_EQ(got(1), 11);
    tidy();
}

static void damaged_journal(void)
{
    char name[340], byte = 'x';
    int fd;

    set_up(PLAIN_FILE, true);
    medium.fail = CACHE_EIO;
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    crash();
    (void)snprintf(name, sizeof name, "%s.00000001", journal_path);
    fd = open(name, O_RDWR);
    CHECK(fd >= 0);
    CHECK_EQ(pwrite(fd, &byte, 1, CACHE_JOURNAL_HEADER + 30), 1);
    CHECK_EQ(close(fd), 0);
    check_init_fails(CACHE_ECORRUPT);
    memset(&cache, 0, sizeof cache);
    tidy();
}

static void missing_directory(void)
{
    prepare(PLAIN_FILE, true, false);
    (void)snprintf(journal_path, sizeof journal_path, "%s/none/j", directory);
    check_init_fails(CACHE_EPATH);
    tidy();
}

static void acknowledgements_need_their_journal(void)
{
    prepare(PLAIN_FILE, false, false);
    config.ack = CACHE_ACK_JOURNAL;
    check_init_fails(CACHE_ESTRATEGY);
    config.ack = CACHE_ACK_DEFAULT;
    cache_start();
    CHECK_EQ(put_with(1, 10, CACHE_ACK_JOURNAL), CACHE_EINVAL);
    CHECK_EQ(got(1), 0);
    tidy();
    prepare(PLAIN_FILE, true, false);
    config.writes = CACHE_WRITE_THROUGH;
    memset(&config.write_behind, 0, sizeof config.write_behind);
    check_init_fails(CACHE_ESTRATEGY);
    tidy();
}

static int allocs_left, n_allocs, n_frees;

static void *scarce_alloc(size_t bytes, void *user)
{
    void *memory;

    (void)user;
    if (__atomic_fetch_sub(&allocs_left, 1, __ATOMIC_SEQ_CST) <= 0)
        return NULL;
    memory = malloc(bytes);
    (void)__atomic_fetch_add(&n_allocs, memory != NULL, __ATOMIC_SEQ_CST);
    return memory;
}

static void scarce_free(void *memory, void *user)
{
    (void)user;
    (void)__atomic_fetch_add(&n_frees, memory != NULL, __ATOMIC_SEQ_CST);
    free(memory);
}

static void init_without_memory(void)
{
    int which, k;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        for (k = 0;; k++) {
            prepare(which, true, false);
            cache_start();
            leave_writes();
            config.cache.alloc = scarce_alloc;
            config.cache.free = scarce_free;
            config.write_behind.max_dirty = 5;
            config.wait_ms = 30; /* for a store that has no memory, either */
            n_allocs = n_frees = 0;
            allocs_left = k;
            if (k < 6) { /* cells, front, buffer, journal: its block .. */
                check_init_fails(CACHE_ENOMEM);
                CHECK_EQ(n_allocs, n_frees);
                allocs_left = INT_MAX;
                cache_start();
            } else {
                int rc = kind->init(&config);

                CHECK(rc == 0 || rc == CACHE_ENOMEM || rc == CACHE_EFULL);
                cache_open = rc == 0;
                if (rc != 0) {
                    CHECK_EQ(n_allocs, n_frees);
                    CHECK(k < 1000);
                    continue;
                }
                allocs_left = INT_MAX;
            }
            check_written();
            CHECK_EQ(kind->close(1000, NULL), 0);
            kind->destroy();
            cache_open = false;
            CHECK_EQ(n_allocs, n_frees);
            if (k >= 6)
                break;
        }
        tidy();
    }
}

/* --- versions ------------------------------------------------------------ */

/* What is written after a crash is newer than what is replayed, and so on. */
static void versions_go_on(void)
{
    uint64_t life;

    set_up(PLAIN_FILE, true);
    for (life = 1; life <= 6; life++) {
        medium.fail = life % 2 ? CACHE_EIO : 0;
        CHECK_EQ(put(1, 10 * life), 0);
        CHECK_EQ(put(2, 10 * life), 0);
        if (life % 3 == 0)
            CHECK_EQ(remove_with(2, CACHE_ACK_DEFAULT), 0);
        if (life % 2 == 0)
            (void)kind->flush(1);
        crash();
        cache_start();
        CHECK_EQ(got(1), 10 * life);
        CHECK_EQ(got(2), life % 3 ? 10 * life : 0);
    }
    while (kind->flush(100) > 0)
        ;
    CHECK_EQ(medium.rows[1].number, 60);
    CHECK_EQ(medium.rows[2].number, 0);
    tidy();
}

/* The store is told the versions that the writes had before the crash. */
static void versions_survive(void)
{
    uint64_t key;

    set_up(PLAIN_FILE, true);
    for (key = 1; key <= 3; key++)
        CHECK_EQ(put(key, key), 0);
    CHECK_EQ(kind->flush(100), 0);
    CHECK_EQ(medium.versions[2], 2);
    CHECK_EQ(put(4, 4), 0); /* which records the mark */
    CHECK_EQ(put(5, 5), 0);
    CHECK_EQ(put(4, 6), 0);
    crash();
    CHECK_EQ(journalled(&config.journal), 3);
    cache_start();
    CHECK_EQ(put(6, 7), 0);
    CHECK_EQ(kind->flush(100), 0);
    CHECK_EQ(medium.versions[3], 3);
    CHECK_EQ(medium.versions[4], 6);
    CHECK_EQ(medium.versions[5], 5);
    CHECK_EQ(medium.versions[6], 7);
    tidy();
}

/* Nothing newer that the store has lets the journal forget what it lacks. */
static void mark_stops_at_what_the_store_lacks(void)
{
    int i;

    set_up(PLAIN_FILE, true);
    medium.poisoned = true;
    medium.poison = 1;
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    for (i = 0; i < 50 && medium.rows[2].number != 20; i++) {
        (void)kind->flush(100);
        sleep_ms(1);
    }
    CHECK_EQ(medium.rows[2].number, 20);
    CHECK_EQ(put(3, 30), 0); /* which records the mark */
    CHECK_EQ(put(2, 21), 0);
    medium.poisoned = false;
    crash();
    cache_start();
    CHECK_EQ(got(1), 10);
    CHECK_EQ(got(2), 21);
    CHECK_EQ(got(3), 30);
    tidy();
}

/* A key that is overwritten while its older write fails: what is replayed is
 * what the newest was. */
static void coalesced_writes_survive(void)
{
    set_up(PLAIN_FILE, true);
    medium.fail = CACHE_EIO;
    CHECK_EQ(put(1, 10), 0);
    (void)kind->flush(100);
    CHECK_EQ(put(2, 20), 0);
    CHECK_EQ(put(1, 11), 0);
    (void)kind->flush(100);
    CHECK_EQ(remove_with(1, CACHE_ACK_DEFAULT), 0);
    crash();
    cache_start();
    CHECK_EQ(got(1), 0);
    CHECK_EQ(got(2), 20);
    tidy();
}

static void journal_does_not_grow(void)
{
    uint64_t n;
    int before;

    prepare(PLAIN_FILE, true, false);
    config.journal.segment_bytes = 1000;
    cache_start();
    before = entries_of(directory);
    for (n = 1; n <= 600; n++) {
        CHECK_EQ(put(n % KEYS, n), 0);
        if (n % 8 == 0)
            CHECK_EQ(kind->flush(100), 0);
    }
    CHECK(entries_of(directory) < before + 6);
    tidy();
}

/* --- close --------------------------------------------------------------- */

static void close_of_a_dead_store_with_a_journal(void)
{
    uint64_t n_lost = 99, key;
    int which;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        set_up(which, true);
        medium.fail = CACHE_EIO;
        for (key = 0; key < KEYS; key++)
            CHECK_EQ(put_with(key, 10 + key,
                              key % 2 ? CACHE_ACK_MEMORY : CACHE_ACK_JOURNAL),
                     0);
        CHECK_EQ(kind->close(20, &n_lost), 0);
        CHECK_EQ(n_lost, 0);
        CHECK_EQ(medium.n_letters, 0);
        CHECK_EQ(put(1, 99), CACHE_ECLOSED);
        CHECK_EQ(put_with(1, 99, CACHE_ACK_JOURNAL), CACHE_ECLOSED);
        CHECK_EQ(put_with(1, 99, CACHE_ACK_MEMORY), CACHE_ECLOSED);
        CHECK_EQ(remove_with(1, CACHE_ACK_DEFAULT), CACHE_ECLOSED);
        CHECK_EQ(kind->close(20, &n_lost), 0); /* twice is harmless */
        CHECK_EQ(n_lost, 0);
        kind->destroy();
        cache_open = false;
        CHECK_EQ(medium.n_letters, 0);
        CHECK_EQ(journalled(&config.journal), KEYS);
        medium.fail = 0;
        cache_start();
        for (key = 0; key < KEYS; key++)
            CHECK_EQ(got(key), 10 + key);
        CHECK_EQ(kind->close(1000, &n_lost), 0);
        CHECK_EQ(medium.rows[5].number, 15);
        tidy();
    }
}

/* destroy alone does not lose what a journal has, either. */
static void destroy_without_close(void)
{
    set_up(PLAIN_FILE, true);
    medium.fail = CACHE_EIO;
    CHECK_EQ(put_with(1, 10, CACHE_ACK_MEMORY), 0);
    kind->destroy();
    cache_open = false;
    CHECK_EQ(medium.n_letters, 0);
    medium.fail = 0;
    cache_start();
    CHECK_EQ(got(1), 10);
    tidy();
}

static void close_of_a_dead_store_without_a_journal(void)
{
    uint64_t n_lost = 99, key;
    int which;

    for (which = SHARED_FILE; which <= PLAIN_FILE; which += 2) {
        set_up(which, false);
        for (key = 0; key < KEYS; key++)
            CHECK_EQ(put(key, 10 + key), 0);
        CHECK_EQ(kind->flush(100), 0);
        medium.fail = CACHE_EIO;
        for (key = 0; key < 5; key++)
            CHECK_EQ(put(key, 20 + key), 0);
        CHECK_EQ(put(1, 31), 0); /* one key, one loss */
        CHECK_EQ(kind->close(20, &n_lost), CACHE_EDEADLETTER);
        CHECK_EQ(n_lost, 5);
        CHECK_EQ(medium.n_letters, 5);
        tidy();
    }
}

/* Store and journal are dead: what is in neither is lost, and only that. */
static void close_of_a_dead_store_and_journal(void)
{
    uint64_t n_lost = 99, key;

    set_up(PLAIN_FILE, true);
    medium.fail = CACHE_EIO;
    for (key = 1; key <= 3; key++)
        CHECK_EQ(put(key, 10 + key), 0);
    disk_fail(CALL_PWRITE, 0, INT_MAX, ENOSPC);
    CHECK_EQ(put_with(4, 14, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(put_with(5, 15, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(put_with(1, 21, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(kind->close(20, &n_lost), CACHE_EDEADLETTER);
    CHECK_EQ(n_lost, 3);
    CHECK_EQ(medium.n_letters, 3);
    kind->destroy();
    cache_open = false;
    disk_heal();
    medium.fail = 0;
    cache_start();
    for (key = 1; key <= 5; key++)
        CHECK_EQ(got(key), key <= 3 ? 10 + key : 0);
    tidy();
}

/* The journal is dead and the store is not: nothing is lost. */
static void close_of_a_dead_journal(void)
{
    uint64_t n_lost = 99;

    set_up(PLAIN_FILE, true);
    CHECK_EQ(put(1, 10), 0);
    disk_fail(CALL_PWRITE, 0, INT_MAX, ENOSPC);
    CHECK_EQ(put_with(1, 11, CACHE_ACK_MEMORY), 0);
    CHECK_EQ(kind->close(1000, &n_lost), CACHE_EFULL);
    CHECK_EQ(n_lost, 0);
    CHECK_EQ(medium.n_letters, 0);
    CHECK_EQ(medium.rows[1].number, 11);
    tidy();
}

static void dead_letters_are_not_replayed(void)
{
    uint64_t n_lost = 99;
    int crashes;

    for (crashes = 0; crashes < 2; crashes++) {
        prepare(PLAIN_FILE, true, false);
        config.write_behind.max_attempts = 2;
        cache_start();
        medium.poisoned = true;
        medium.poison = 3;
        CHECK_EQ(put(3, 30), 0);
        while (kind->flush(100) > 0)
            sleep_ms(1);
        CHECK_EQ(medium.n_letters, 1);
        CHECK_EQ(put(4, 40), 0);
        if (crashes) {
            medium.poisoned = false;
            crash();
        } else {
            CHECK_EQ(kind->close(1000, &n_lost), CACHE_EDEADLETTER);
            CHECK_EQ(n_lost, 0);
            kind->destroy();
            cache_open = false;
            CHECK_EQ(medium.n_letters, 1);
            CHECK_EQ(journalled(&config.journal), 0);
            medium.poisoned = false;
        }
        cache_start();
        CHECK_EQ(got(3), 0);
        CHECK_EQ(got(4), 40);
        tidy();
    }
}

/* ------------------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(journal_error_is_returned_and_passes),
    TEST(crash_while_the_journal_fails),
    TEST(full_journal_refuses),
    TEST(store_has_what_it_acknowledges),
    TEST(replay_does_not_overtake_the_store),
    TEST(replay_does_not_overtake_put_many),
    TEST(the_store_gets_what_the_journal_has),
    TEST(init_makes_writes_dirty_again),
    TEST(init_stores_more_than_max_dirty),
    TEST(init_with_a_dead_store),
    TEST(init_with_a_dead_sqlite),
    TEST(init_with_a_store_that_fails_late),
    TEST(journal_in_use),
    TEST(damaged_journal),
    TEST(missing_directory),
    TEST(acknowledgements_need_their_journal),
    TEST(init_without_memory),
    TEST(versions_go_on),
    TEST(versions_survive),
    TEST(mark_stops_at_what_the_store_lacks),
    TEST(coalesced_writes_survive),
    TEST(journal_does_not_grow),
    TEST(close_of_a_dead_store_with_a_journal),
    TEST(destroy_without_close),
    TEST(close_of_a_dead_store_without_a_journal),
    TEST(close_of_a_dead_store_and_journal),
    TEST(close_of_a_dead_journal),
    TEST(dead_letters_are_not_replayed),
    TEST(power_cuts_lose_nothing),
    TEST(power_cuts_of_unsynced_journals_do),
    TEST(kill_9_shared_sqlite_journal),
    TEST(kill_9_shared_file_journal),
    TEST(kill_9_plain_sqlite_journal),
    TEST(kill_9_plain_file_journal),
    TEST(kill_9_no_journal),
};

#ifdef __SANITIZE_THREAD__
/* A race in a child has to be seen before it is killed. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void)
{
    return "halt_on_error=1";
}
#endif

int main(int argc, char **argv)
{
    int rc;

    if (!crash_begin("test_crash"))
        return 1;
    rc = TEST_MAIN(argc, argv, tests);
    tidy();
    crash_end();
    return rc;
}
