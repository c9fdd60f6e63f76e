/*
 * test_async_crash.c - the loop half through crashes: what it has acknowledged
 * at the level of journal or store is there after kill -9 and power cuts,
 * whatever the loop, the journal, the store and their threads were doing.
 *
 * How losses are seen: crash.h.  A put on a loop is accepted when it returns,
 * and safe when its callback has said so.
 *
 * TEST_SCALE multiplies the rounds.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE /* nftw */

#include "crash.h"

#include "../cache_async.h"
#include "../codecs/cache_raw.h"
#include "../stores/cache_sqlite.h"
#include "no_sync.h"

#include <limits.h>

CACHE_DEFINE_LOADING(records, uint64_t, struct record, cache_hash_u64,
                     cache_equal_u64, CACHE_STATS);
CACHE_ASYNC_DEFINE(records);

/* The medium of crash.h as a store that blocks. */
static int medium_submit(struct cache_store *store,
                         struct cache_store_batch *batch)
{
    struct record record;
    struct cache_storing storing = { 0, 0 };
    uint64_t key;
    size_t i;

    (void)store;
    for (i = 0; i < batch->n_items; i++) {
        struct cache_store_item *item = &batch->items[i];

        memcpy(&key, item->key.data, sizeof key);
        storing.version = item->version;
        if (item->op == CACHE_STORE_GET) {
            item->status = medium_load(&key, &record, NULL, NULL);
            memcpy(item->buffer, &record, sizeof record);
            item->value.len = sizeof record;
        } else if (item->op == CACHE_STORE_PUT) {
            memcpy(&record, item->value.data, sizeof record);
            item->status = medium_store(&key, &record, &storing, NULL);
        } else {
            item->status = medium_remove(&key, &storing, NULL);
        }
    }
    batch->done(batch);
    return 0;
}

static struct cache_store medium_as_store = { "medium", CACHE_STORE_BLOCKS,
                                              medium_submit, NULL };

/* The same, which answers a while later, each batch on a thread of its own. */
static void *medium_later(void *user)
{
    sleep_ms(30);
    (void)medium_submit(NULL, (struct cache_store_batch *)user);
    return NULL;
}

static int medium_submit_later(struct cache_store *store,
                               struct cache_store_batch *batch)
{
    pthread_t thread;

    (void)store;
    if (pthread_create(&thread, NULL, medium_later, batch) != 0)
        return CACHE_ENOMEM;
    (void)pthread_detach(thread);
    return 0;
}

static struct cache_store late_medium = { "late", 0, medium_submit_later,
                                          NULL };

/* --- a cache on a loop, with its journal and its store ------------------- */

static struct cache_codec key_codec, value_codec;
static struct cache_loading_config config;
static struct cache_async_config async_config;
static struct cache_sqlite db;
static struct records cache;
static struct records_async async;
static uv_loop_t loop;
static bool db_open, cache_open, loop_open;
static char journal_path[300], store_path[300];
static int n_paths;

static void store_open(void)
{
    struct cache_sqlite_config sqlite = { .path = store_path };

    if (store_path[0] != '\0') {
        CHECK_EQ(cache_sqlite_open(&db, &sqlite), 0);
        db_open = true;
    }
    config.store = db_open ? &db.store : &medium_as_store;
}

static void store_close(void)
{
    if (db_open)
        db.store.close(&db.store);
    db_open = false;
}

/* Opens the cache and gives it to a loop.  Returns what that says. */
static int start(void)
{
    int rc = records_init(&cache, &config);

    if (rc != 0)
        return rc;
    cache_open = true;
    rc = uv_loop_init(&loop);
    if (rc != 0)
        return rc;
    loop_open = true;
    return records_async_init(&async, &loop, &cache, &async_config, NULL);
}

static uint64_t n_lost;

static void on_close(struct cache_async *a, uint64_t lost)
{
    (void)a;
    n_lost = lost;
}

/* The opposite of start. */
static void stop(void)
{
    n_lost = 99;
    CHECK_EQ(cache_async_close(&async.base, on_close), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(uv_loop_close(&loop), 0);
    loop_open = false;
    CHECK_SOUND(records_check(&cache));
    records_destroy(&cache);
    cache_open = false;
}

/* Ends what a test has left, also one that has failed. */
static void tidy(void)
{
    disk_reset();
    if (loop_open) {
        (void)cache_async_close(&async.base, NULL);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&loop);
    }
    if (cache_open)
        records_destroy(&cache);
    loop_open = cache_open = false;
    store_close();
    memset(&async, 0, sizeof async);
    memset(&medium, 0, sizeof medium);
    medium.fd = -1;
}

/* New files, and the usual configuration, which the test may change. */
static void prepare(bool sqlite, bool journal)
{
    tidy();
    key_codec = cache_raw_object(sizeof(uint64_t));
    value_codec = cache_raw_object(sizeof(struct record));
    (void)snprintf(journal_path, sizeof journal_path, "%s/%d.journal",
                   directory, ++n_paths);
    (void)snprintf(store_path, sizeof store_path, "%s/%d.store", directory,
                   n_paths);
    if (!sqlite)
        store_path[0] = '\0';
    memset(&config, 0, sizeof config);
    memset(&async_config, 0, sizeof async_config);
    config.cache.capacity = 6; /* of KEYS: some have to be loaded */
    config.reads = CACHE_READ_THROUGH;
    config.writes = CACHE_WRITE_BEHIND;
    config.key_codec = &key_codec;
    config.value_codec = &value_codec;
    config.write_behind.retry_base_ms = 1;
    config.write_behind.retry_cap_ms = 4;
    config.write_behind.interval_ms = 2;
    config.journal.path = journal ? journal_path : NULL;
    config.journal.buffer_bytes = 4096;
    async_config.close_timeout_ms = 20000;
    async_config.n_workers = 1; /* so that a key's writes are in order */
}

/* --- what goes on on the loop -------------------------------------------- */

enum { WRITES = 24, READS = 8 };

static struct write {
    struct records_write_request request; /* first */
    struct note *note;
    bool safe; /* if it is acknowledged */
    bool under_way;
} writes[WRITES];

static struct read {
    struct records_request request; /* first */
    struct record record;
    uint32_t key, n_changes;
    bool under_way;
} reads[READS];

static struct cache_flush flush;
static bool flushing;

/* What is known of a key in this life. */
static struct known {
    uint64_t number;
    bool known;
    uint32_t n_changes, n_under_way;
} known[KEYS];

static struct note *last_accepted;
static bool faults_expected;
static uint64_t random_state;

static uint32_t dice(uint32_t below)
{
    return (uint32_t)(test_random(&random_state) >> 33) % below;
}

static void expect_no_fault(int status)
{
    if (status != 0 && !faults_expected)
        child_wrong(status);
}

static bool goes_through(void)
{
    return config.writes == CACHE_WRITE_THROUGH;
}

static void on_acknowledged(struct records_write_request *request, int status)
{
    struct write *w = (struct write *)(void *)request;
    struct known *k = &known[w->note->key];

    w->under_way = false;
    expect_no_fault(status);
    if (goes_through()) {
        k->n_changes++;
        k->n_under_way--;
        k->known = status == 0;
        k->number = w->note->number;
    }
    if (status == 0) {
        __atomic_store_n(&w->note->safe, w->safe, __ATOMIC_SEQ_CST);
        __atomic_store_n(&w->note->accepted, true, __ATOMIC_SEQ_CST);
    }
}

/* A write has been accepted: it is in the cache, or waits to go through. */
static void on_accepted(struct note *note)
{
    struct known *k = &known[note->key];

    __atomic_store_n(&note->end, notes_now(), __ATOMIC_SEQ_CST);
    k->n_changes++;
    if (goes_through()) {
        k->n_under_way++;
        return;
    }
    __atomic_store_n(&note->accepted, true, __ATOMIC_SEQ_CST);
    k->known = true;
    k->number = note->number;
    last_accepted = note;
}

static int send_write(struct write *w, enum cache_ack ack, bool asks)
{
    struct cache_writing how;
    struct note *note = w->note;
    struct record record = record_of(note->key, note->number);

    memset(&how, 0, sizeof how);
    how.ack = ack;
    if (asks && note->number != 0)
        return records_async_put_ack(&async, &w->request, note->key, record,
                                     &how, on_acknowledged);
    if (asks)
        return records_async_remove_ack(&async, &w->request, note->key, &how,
                                        on_acknowledged);
    return note->number != 0 ? records_async_put(&async, note->key, record)
                             : records_async_remove(&async, note->key);
}

static void begin_write(void)
{
    static const enum cache_ack acks[] = {
        CACHE_ACK_DEFAULT, CACHE_ACK_MEMORY,  CACHE_ACK_MEMORY,
        CACHE_ACK_STORE,   CACHE_ACK_JOURNAL, CACHE_ACK_JOURNAL
    };
    bool journal = config.journal.path != NULL;
    enum cache_ack ack = acks[dice(journal ? 6 : 4)];
    bool asks = goes_through() || dice(4) != 0;
    struct write *w = writes;
    int rc;

    while (w < writes + WRITES && w->under_way)
        w++;
    if (w == writes + WRITES)
        return;
    w->note = note_begin(0, dice(KEYS), dice(4) == 0);
    if (w->note == NULL)
        return;
    w->safe = goes_through() || ack == CACHE_ACK_STORE ||
              (journal && ack != CACHE_ACK_MEMORY);
    w->under_way = asks;
    rc = send_write(w, ack, asks);
    if (rc == 0) {
        on_accepted(w->note);
        return;
    }
    w->under_way = false;
    notes->n[0]--; /* it must be nowhere */
    if (rc != CACHE_EFULL)
        expect_no_fault(rc);
}

/* What a read has found is the last that was written, unless it changed
 * meanwhile. */
static void check_read(const struct read *r, int status)
{
    const struct known *k = &known[r->key];

    if (status < 0 && status != CACHE_EKEY) {
        expect_no_fault(status);
        return;
    }
    if (status >= 0 &&
        r->record.check != record_of(r->key, r->record.number).check)
        child_wrong(1);
    if (k->known && k->n_under_way == 0 && k->n_changes == r->n_changes &&
        k->number != (status < 0 ? 0 : r->record.number))
        child_wrong(2);
}

static void on_read(struct records_request *request, int status)
{
    struct read *r = (struct read *)(void *)request;

    r->under_way = false;
    check_read(r, status);
}

static void begin_read(void)
{
    struct read *r = reads;
    int rc;

    while (r < reads + READS && r->under_way)
        r++;
    if (r == reads + READS)
        return;
    r->key = dice(KEYS);
    r->n_changes = known[r->key].n_changes;
    rc = records_fetch(&async, &r->request, r->key, &r->record, on_read);
    r->under_way = rc == 0;
    if (rc != 0)
        check_read(r, rc == 1 ? 0 : rc);
}

static void on_flush(struct cache_flush *f, int status)
{
    struct note *note = (struct note *)f->data;

    flushing = false;
    expect_no_fault(status);
    if (status == 0 && note != NULL) /* and all before it */
        __atomic_store_n(&note->safe, true, __ATOMIC_SEQ_CST);
}

static void begin_flush(void)
{
    if (flushing || goes_through())
        return;
    flush.data = last_accepted;
    flushing = cache_async_flush(&async.base, &flush, on_flush) == 0;
}

static void begin_something(void)
{
    uint32_t what = dice(16);

    if (what == 0)
        begin_flush();
    else if (what < 5)
        begin_read();
    else
        begin_write();
}

static void begin_life(uint64_t seed)
{
    random_state = seed | 1;
    memset(writes, 0, sizeof writes);
    memset(reads, 0, sizeof reads);
    memset(known, 0, sizeof known);
    memset(&flush, 0, sizeof flush);
    flushing = false;
    last_accepted = NULL;
}

/* Reads a key.  Returns its number, 0 = absent. */
static uint64_t got(uint32_t key)
{
    struct read *r = &reads[0];
    int rc;

    memset(r, 0, sizeof *r);
    r->key = key;
    r->n_changes = known[key].n_changes + 1; /* anything will do */
    r->under_way = true;
    rc = records_fetch(&async, &r->request, key, &r->record, on_read);
    if (rc == 0) {
        while (r->under_way)
            (void)uv_run(&loop, UV_RUN_ONCE);
        rc = r->request.base.status;
    }
    CHECK(rc >= 0 || rc == CACHE_EKEY);
    return rc < 0 ? 0 : r->record.number;
}

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

/* --- kill -9 ------------------------------------------------------------- */

static uv_timer_t pulse;

static void on_pulse(uv_timer_t *timer)
{
    uint32_t n = 1 + dice(8);

    while (n-- > 0)
        begin_something();
    (void)uv_timer_start(timer, on_pulse, dice(3), 0);
}

static void child_main(void)
{
    int rc;

    store_open();
    rc = start();
    if (rc != 0) {
        child_wrong(rc);
        _exit(1);
    }
    begin_life(notes_now() * 2654435761u);
    (void)uv_timer_init(&loop, &pulse);
    (void)uv_timer_start(&pulse, on_pulse, 0, 0);
    __atomic_store_n(&notes->ready, 1u, __ATOMIC_SEQ_CST);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    child_wrong(3); /* it never ends */
    _exit(1);
}

/* After a crash: the cache with its journal has all, and then the store. */
static void check_survivors(uint64_t *found, bool looks)
{
    const char *path = config.journal.path;
    uint32_t key;

    if (looks && path != NULL)
        (void)journalled(&config.journal);
    store_open();
    CHECK_EQ(start(), 0);
    begin_life(1);
    CHECK_EQ(judge_all(found, true), 0);
    for (key = 0; key < KEYS && looks && path != NULL; key++)
        if (has_newest[key]) /* in the order of their versions */
            CHECK_EQ(found[key], newest[key]);
    stop();
    CHECK_EQ(n_lost, 0);
    if (path != NULL)
        CHECK_EQ(journalled(&config.journal), 0);
    config.journal.path = NULL;
    CHECK_EQ(start(), 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(got(key), found[key]);
    stop();
    config.journal.path = path;
    store_close();
}

static void kill_9(enum cache_strategy strategy, bool journal, long rounds)
{
    uint64_t random = test_seed + strategy * 2 + journal, found[KEYS];
    long round, lives = 0;
    int i;

    prepare(true, journal);
    notes_begin(NULL);
    config.writes = strategy;
    if (strategy == CACHE_WRITE_BEHIND) {
        config.write_behind.max_dirty = 5;
        config.write_behind.max_batch = 3;
    } else {
        memset(&config.write_behind, 0, sizeof config.write_behind);
    }
    config.journal.segment_bytes = 3000;
    for (round = 0; round < rounds; round++) {
        if (strategy == CACHE_WRITE_BEHIND)
            config.write_behind.max_in_flight = 1 + (uint32_t)(round % 2);
        async_config.max_batch = round % 3 == 0 ? 2 : 0;
        disk.sync_us = (int)(test_random(&random) % 3) * 1000;
        for (i = (int)(test_random(&random) % 2); i >= 0; i--, lives++)
            child_life(child_main, test_random(&random) % 8 != 0,
                       (long)(test_random(&random) >> 33) % 40000);
        disk.sync_us = 0;
        check_survivors(found, round % 2 == 1);
        notes_begin(found);
    }
    printf("kill -9, %s%s: %ld rounds, %ld kills, %llu writes, of which %llu "
           "had to survive: none lost\n",
           strategy == CACHE_WRITE_BEHIND ? "behind" : "through",
           journal ? " with a journal" : "", rounds, lives,
           (unsigned long long)notes->n_all, (unsigned long long)notes->n_safe);
    CHECK(notes->n_safe > 0);
    tidy();
}

static void kill_9_with_a_journal(void)
{
    kill_9(CACHE_WRITE_BEHIND, true, 6 * test_scale());
}

static void kill_9_without_a_journal(void)
{
    kill_9(CACHE_WRITE_BEHIND, false, 3 * test_scale());
}

static void kill_9_of_what_goes_through(void)
{
    kill_9(CACHE_WRITE_THROUGH, false, 3 * test_scale());
}

/* --- power cuts ---------------------------------------------------------- */

struct cuts {
    int n_rounds, n_opened, n_lost;
};

static bool under_way(void)
{
    size_t i;

    for (i = 0; i < WRITES; i++)
        if (writes[i].under_way)
            return true;
    return flushing;
}

/* Writes until the power is cut.  Sometimes it waits for what it has begun. */
static void live(void)
{
    int step, i;

    for (step = 0; step < 60 && !disk_is_dead(); step++) {
        begin_something();
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        for (i = 0; step % 4 == 3 && i < 20 && under_way() && !disk_is_dead();
             i++) {
            sleep_ms(1);
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    }
}

/* The disk is dead, and with it the store: what is under way fails. */
static void crash(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.dead = true;
    pthread_mutex_unlock(&disk.lock);
    stop();
    disk.dead = false;
    disk.die_at = 0;
}

static void power_round(struct cuts *cuts, uint64_t *random, bool says,
                        uint32_t faults_per_mille)
{
    uint64_t found[KEYS];
    int rc;

    cuts->n_rounds++;
    rc = start();
    CHECK(rc == 0 || rc == CACHE_ECORRUPT);
    if (rc == CACHE_ECORRUPT) {
        cuts->n_lost++;
        return;
    }
    cuts->n_opened++;
    begin_life(test_random(random));
    cuts->n_lost += judge_all(found, says) > 0;
    notes_begin(found);
    pthread_mutex_lock(&disk.lock);
    disk.die_at = disk.n_ops + 1 + (test_random(random) >> 40) % 60;
    disk.per_mille = faults_per_mille;
    pthread_mutex_unlock(&disk.lock);
    live();
    crash();
    disk.per_mille = 0;
    notes_crash();
    cut_power();
}

/* Journals, and what power cuts in them have cost. */
static struct cuts power_cuts(int n_journals, int n_rounds, bool process_only,
                              uint32_t faults_per_mille)
{
    uint64_t random = test_seed;
    struct cuts all = { 0, 0, 0 }, cuts;
    int n;

    for (n = 0; n < n_journals; n++) {
        prepare(false, true);
        store_open();
        disk_model(test_seed + (uint64_t)n);
        notes_begin(NULL);
        memset(&cuts, 0, sizeof cuts);
        medium.dies_with_disk = true;
        faults_expected = true;
        async_config.close_timeout_ms = 1;
        config.journal.segment_bytes = 2000;
        config.journal.process_only = process_only;
        config.write_behind.max_dirty = n % 2 ? 4 : 0;
        while (cuts.n_rounds < n_rounds && cuts.n_lost == 0)
            power_round(&cuts, &random, !process_only, faults_per_mille);
        all.n_rounds += cuts.n_rounds;
        all.n_opened += cuts.n_opened;
        all.n_lost += cuts.n_lost;
        faults_expected = false;
        tidy();
        if (!process_only)
            CHECK_EQ(cuts.n_lost, 0);
    }
    CHECK_EQ(notes->wrong, 0);
    return all;
}

static void check_cuts(uint32_t faults_per_mille)
{
    struct cuts cuts =
        power_cuts((int)(2 * test_scale()), 15, false, faults_per_mille);

    printf("power cuts, %u of 1000 calls of the disk fail: %d, %d openings, "
           "%llu writes, %llu had to survive, %d losses\n",
           faults_per_mille, cuts.n_rounds, cuts.n_opened,
           (unsigned long long)notes->n_all, (unsigned long long)notes->n_safe,
           cuts.n_lost);
    CHECK(notes->n_safe > 0);
}

static void power_cuts_lose_nothing(void)
{
    check_cuts(0);
}

/* Nor do they after errors: what the journal could not take, nobody was told is
 * safe. */
static void power_cuts_of_a_shaky_disk_lose_nothing(void)
{
    check_cuts(100);
}

/* The checker sees losses where there are some. */
static void power_cuts_of_unsynced_journals_do(void)
{
    struct cuts cuts = power_cuts(10, 20, true, 0);

    printf("power cuts, process_only: %d of 10 journals have losses\n",
           cuts.n_lost);
    CHECK(cuts.n_lost > 3);
}

/* --- a journal that fails ------------------------------------------------ */

/* Writes a key (number 0 = removes it) and waits for the acknowledgement. */
static int put_now(uint32_t key, uint64_t number, enum cache_ack ack)
{
    struct write *w = &writes[0];
    struct note note = { .key = key, .number = number };

    memset(w, 0, sizeof *w);
    w->note = &note;
    w->under_way = true;
    CHECK_EQ(send_write(w, ack, true), 0);
    while (w->under_way)
        (void)uv_run(&loop, UV_RUN_ONCE);
    return w->request.base.status;
}

static void on_flush_now(struct cache_flush *f, int status)
{
    *(int *)f->data = status;
}

static int flush_now(void)
{
    int status = 1;

    flush.data = &status;
    CHECK_EQ(cache_async_flush(&async.base, &flush, on_flush_now), 0);
    while (status == 1)
        (void)uv_run(&loop, UV_RUN_ONCE);
    return status;
}

/* The store has a write that the journal could not take.  Nobody is told that
 * it is safe, for an older one of its key would be replayed over it. */
static void what_the_store_has_is_safe_once_the_journal_has_it(void)
{
    int flushes, removes;

    for (flushes = 0; flushes < 2; flushes++)
        for (removes = 0; removes < 2; removes++) {
            uint64_t number = removes ? 0 : 11;

            prepare(false, true);
            faults_expected = true;
            store_open();
            CHECK_EQ(start(), 0);
            CHECK_EQ(put_now(1, 10, CACHE_ACK_JOURNAL), 0);
            disk_fail(CALL_PWRITE, 0, INT_MAX, EIO);
            if (flushes) {
                CHECK_EQ(put_now(1, number, CACHE_ACK_MEMORY), 0);
                CHECK_EQ(flush_now(), CACHE_EIO);
            } else {
                CHECK_EQ(put_now(1, number, CACHE_ACK_STORE), CACHE_EIO);
            }
            CHECK_EQ(medium.rows[1].number, number);
            disk_heal();
            CHECK_EQ(flush_now(), 0);
            async_config.close_timeout_ms = 1;
            crash();
            CHECK_EQ(start(), 0);
            CHECK_EQ(got(1), number);
            stop();
            faults_expected = false;
            tidy();
        }
}

/* However slow the disk is: what the store has been told, the journal has.  So
 * a crash brings back neither an older write nor a version that was used. */
static void the_store_gets_what_the_journal_has(void)
{
    uint64_t version;
    int removes;

    for (removes = 0; removes < 2; removes++) {
        uint64_t number = removes ? 0 : 11;

        prepare(false, true);
        faults_expected = true;
        async_config.close_timeout_ms = 1;
        store_open();
        CHECK_EQ(start(), 0);
        CHECK_EQ(put_now(1, 10, CACHE_ACK_JOURNAL), 0);
        CHECK_EQ(flush_now(), 0);
        disk_is_slow(20000);
        CHECK_EQ(put_now(1, number, CACHE_ACK_MEMORY), 0);
        while (__atomic_load_n(&medium.n_writes, __ATOMIC_SEQ_CST) < 2)
            (void)uv_run(&loop, UV_RUN_ONCE);
        crash();
        version = medium.versions[1];
        disk_is_slow(0);
        CHECK_EQ(start(), 0);
        CHECK_EQ(got(1), number);
        CHECK_EQ(put_now(1, 12, CACHE_ACK_STORE), 0);
        CHECK(medium.versions[1] > version);
        stop();
        faults_expected = false;
        tidy();
    }
}

/* What the journal had is sent without being asked for. */
static void replayed_writes_are_sent(void)
{
    uint32_t key;

    prepare(false, true);
    faults_expected = true;
    async_config.close_timeout_ms = 1;
    medium.fail = CACHE_EIO;
    store_open();
    CHECK_EQ(start(), 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(put_now(key, 10 + key, CACHE_ACK_JOURNAL), 0);
    stop();
    CHECK_EQ(n_lost, 0);
    medium.fail = 0;
    CHECK_EQ(start(), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(cache_wb_n_dirty(&cache.front.writes), 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(medium.rows[key].number, 10 + key);
    stop();
    faults_expected = false;
    tidy();
}

/* What init has sent to the store, for there was more than max_dirty, is there
 * still when the loop half begins. */
static void replayed_writes_that_are_at_the_store(void)
{
    uint32_t key;

    prepare(false, true);
    faults_expected = true;
    async_config.close_timeout_ms = 1;
    medium.fail = CACHE_EIO;
    store_open();
    CHECK_EQ(start(), 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(put_now(key, 10 + key, CACHE_ACK_JOURNAL), 0);
    stop();
    medium.fail = 0;
    config.store = &late_medium;
    config.write_behind.max_dirty = 3;
    config.write_behind.max_batch = 1;
    config.write_behind.max_in_flight = 2;
    config.when_full = CACHE_FULL_WRITE_THROUGH;
    async_config.close_timeout_ms = 20000;
    CHECK_EQ(start(), 0);
    CHECK_EQ(put_now(0, 20, CACHE_ACK_STORE), 0);
    stop();
    CHECK_EQ(n_lost, 0);
    for (key = 0; key < KEYS; key++)
        CHECK_EQ(medium.rows[key].number, key == 0 ? 20 : 10 + key);
    faults_expected = false;
    tidy();
}

/* ------------------------------------------------------------------------- */

static const struct test tests[] = {
    TEST(what_the_store_has_is_safe_once_the_journal_has_it),
    TEST(the_store_gets_what_the_journal_has),
    TEST(replayed_writes_are_sent),
    TEST(replayed_writes_that_are_at_the_store),
    TEST(power_cuts_lose_nothing),
    TEST(power_cuts_of_a_shaky_disk_lose_nothing),
    TEST(power_cuts_of_unsynced_journals_do),
    TEST(kill_9_with_a_journal),
    TEST(kill_9_without_a_journal),
    TEST(kill_9_of_what_goes_through),
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

    if (!crash_begin("test_async_crash"))
        return 1;
    rc = TEST_MAIN(argc, argv, tests);
    tidy();
    crash_end();
    return rc;
}
