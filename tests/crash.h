/*
 * crash.h - what the tests of crashes have in common: notes of what was written,
 * which outlive the process that writes, a store that ends with the power, and
 * children that are killed.
 *
 * HOW LOSSES ARE SEEN
 *   Every write is noted before it begins, after it has returned 0, and when it
 *   was acknowledged, with the time of a common clock, in memory that parent and
 *   child share.  A value that is found afterwards is wrong if nobody wrote it,
 *   or if it ended before a write of its key began that has to be there.  That
 *   is each write that was acknowledged by journal or store, and each that
 *   returned 0 in the same life before such a one began: writes are lost from
 *   the end only.
 *
 * Include it before anything of the cache, and define _GNU_SOURCE before that.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CRASH_H
#define CRASH_H

#include "journal_disk.h"

#include "../cache_loading.h"

#include <sys/mman.h>
#include <sys/wait.h>

/* --- keys, values and stores --------------------------------------------- */

enum { KEYS = 8 };

struct record {
    uint64_t number; /* of the write, never 0 */
    uint64_t check;  /* of key and number */
};

static inline struct record record_of(uint64_t key, uint64_t number)
{
    struct record record = { number, cache__mix(key + 1, number) };

    return record;
}

/* A store that is a file with a place for each key, or memory. */
static struct medium {
    int fd;                   /* -1 = memory: */
    struct record rows[KEYS]; /* number 0 = absent */
    int fail;                 /* every write gets this status, unless 0 */
    uint64_t poison;          /* this key's writes fail, if `poisoned` */
    bool poisoned;
    uint64_t versions[KEYS]; /* that it was told last */
    int n_writes;            /* atomic: that there were */
    int n_letters;           /* and of these */
    bool dies_with_disk;     /* when the power is cut, here too */
} medium = { .fd = -1 };

static inline int medium_load(const uint64_t *key, struct record *value,
                              struct cache_loaded *loaded, void *user)
{
    struct medium *m = &medium;

    (void)loaded, (void)user;
    *value = m->rows[*key];
    if (m->fd >= 0 && pread(m->fd, value, sizeof *value,
                            (off_t)(*key * sizeof *value)) != sizeof *value)
        return CACHE_EKEY;
    return value->number ? 0 : CACHE_EKEY;
}

static inline int medium_write(const uint64_t *key, const struct record *value,
                               const struct cache_storing *storing)
{
    struct medium *m = &medium;

    if (m->dies_with_disk && disk_is_dead())
        return CACHE_EIO;
    if (m->fail != 0 || (m->poisoned && m->poison == *key))
        return m->fail ? m->fail : CACHE_ESTORE;
    m->versions[*key] = storing->version;
    m->rows[*key] = *value;
    (void)__atomic_add_fetch(&m->n_writes, 1, __ATOMIC_SEQ_CST);
    return m->fd < 0 || pwrite(m->fd, value, sizeof *value,
                               (off_t)(*key * sizeof *value)) == sizeof *value
               ? 0
               : CACHE_EIO;
}

static inline int medium_store(const uint64_t *key, const struct record *value,
                               const struct cache_storing *storing, void *user)
{
    (void)user;
    return medium_write(key, value, storing);
}

static inline int medium_remove(const uint64_t *key,
                                const struct cache_storing *storing, void *user)
{
    static const struct record none = { 0, 0 };

    (void)user;
    return medium_write(key, &none, storing);
}

/* --- notes of what was written ------------------------------------------- */

enum { WRITERS = 4, NOTES = 20000 };

struct note {
    uint64_t begin, end; /* end: UINT64_MAX = it has not returned */
    uint64_t number;     /* 0 = remove */
    uint32_t key;
    bool accepted; /* it has returned 0 */
    bool safe;     /* and that means that it is in a file */
};

static struct notes {
    uint64_t time;               /* atomic */
    uint32_t n[WRITERS];         /* atomic */
    uint32_t n_settled[WRITERS]; /* of earlier lives; the parent's */
    uint32_t ready;              /* atomic: the cache is open */
    uint32_t wrong;              /* atomic: errors that no child should see */
    int wrong_rc;
    struct note notes[WRITERS][NOTES];
    /* the parent's */
    struct note base[KEYS]; /* what was found last time */
    uint64_t n_safe, n_all, n_lost_tail;
} * notes;

static inline uint64_t notes_now(void)
{
    return __atomic_add_fetch(&notes->time, 1, __ATOMIC_SEQ_CST);
}

static inline struct note *note_begin(uint32_t writer, uint32_t key,
                                      bool remove)
{
    uint32_t n = notes->n[writer];
    struct note *note;

    if (n == NOTES)
        return NULL;
    note = &notes->notes[writer][n];
    memset(note, 0, sizeof *note);
    note->key = key;
    note->end = UINT64_MAX;
    note->begin = notes_now();
    note->number = remove ? 0 : note->begin;
    __atomic_store_n(&notes->n[writer], n + 1, __ATOMIC_SEQ_CST);
    return note;
}

static inline void note_end(struct note *note, bool safe)
{
    note->safe = safe;
    __atomic_store_n(&note->end, notes_now(), __ATOMIC_SEQ_CST);
    __atomic_store_n(&note->accepted, true, __ATOMIC_SEQ_CST);
}

/* Nothing is being written any more.  What was accepted before the last write
 * began that is in a file is there, too; the rest of this life may be lost, and
 * what the next one writes says nothing about it. */
static inline void notes_crash(void)
{
    uint64_t now = notes_now(), safe = 0;
    struct note *note;
    uint32_t w, i;

    for (w = 0; w < WRITERS; w++)
        for (i = notes->n_settled[w]; i < notes->n[w]; i++) {
            note = &notes->notes[w][i];
            if (note->end == UINT64_MAX)
                note->end = now;
            note->safe = note->safe && note->accepted;
            if (note->safe && note->begin > safe)
                safe = note->begin;
        }
    for (w = 0; w < WRITERS; w++) {
        for (i = notes->n_settled[w]; i < notes->n[w]; i++) {
            note = &notes->notes[w][i];
            note->safe = note->safe || (note->accepted && note->end < safe);
        }
        notes->n_settled[w] = notes->n[w];
    }
}

/* A sentence if this is not what a key may have. */
static inline const char *notes_judge(uint32_t key, uint64_t number)
{
    const struct note *base = &notes->base[key], *note;
    uint64_t end = 0;
    bool known = base->number == number;
    uint32_t w, i;

    /* Of removes there may be several: the last counts. */
    for (w = 0; w < WRITERS; w++)
        for (i = 0; i < notes->n[w]; i++) {
            note = &notes->notes[w][i];
            if (note->key != key || note->number != number)
                continue;
            known = true;
            end = note->end > end ? note->end : end;
        }
    if (!known)
        return "nobody wrote it";
    for (w = 0; w < WRITERS; w++)
        for (i = 0; i < notes->n[w]; i++) {
            note = &notes->notes[w][i];
            if (note->key == key && note->safe && end < note->begin)
                return note->number ? "a newer put is lost"
                                    : "a remove is lost";
        }
    return NULL;
}

/* What was found is where the next round begins. */
static inline void notes_begin(const uint64_t *found)
{
    uint32_t w, i;

    for (w = 0; w < WRITERS; w++) {
        notes->n_all += notes->n[w];
        for (i = 0; i < notes->n[w]; i++)
            notes->n_safe += notes->notes[w][i].safe;
        notes->n[w] = notes->n_settled[w] = 0;
    }
    for (i = 0; i < KEYS; i++) {
        notes->base[i].key = i;
        notes->base[i].number = found ? found[i] : 0;
    }
    if (found == NULL)
        notes->n_all = notes->n_safe = 0;
}

/* --- children that are killed --------------------------------------------- */

static inline void child_wrong(int rc)
{
    notes->wrong_rc = rc;
    __atomic_store_n(&notes->wrong, 1u, __ATOMIC_SEQ_CST);
}

/* One life of a child, which ends after so many microseconds. */
static inline void child_life(void (*child_main)(void), bool waits, long us)
{
    struct timespec pause = { 0, us * 1000 };
    int status, i;
    pid_t pid;

    notes->ready = 0;
    (void)fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        child_main();
    for (i = 0; waits && i < 20000 &&
                !__atomic_load_n(&notes->ready, __ATOMIC_SEQ_CST);
         i++)
        sleep_ms(1);
    (void)nanosleep(&pause, NULL);
    (void)kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (notes->wrong)
        printf("the child had an error: %d %s\n", notes->wrong_rc,
               cache_strerror(notes->wrong_rc));
    CHECK_EQ(notes->wrong, 0);
    CHECK(WIFSIGNALED(status));
    notes_crash();
}

/* --- what a journal has --------------------------------------------------- */

static int n_replayed;
static uint64_t newest[KEYS]; /* number of each key's last write */
static bool has_newest[KEYS];

static inline int count_replay(const struct cache_store_item *item, void *user)
{
    struct record record = { 0, 0 };
    uint64_t key;

    (void)user;
    n_replayed++;
    memcpy(&key, item->key.data, sizeof key);
    if (item->op == CACHE_STORE_PUT)
        memcpy(&record, item->value.data, sizeof record);
    newest[key % KEYS] = record.number;
    has_newest[key % KEYS] = true;
    return 0;
}

/* How many writes the next init would find; changes nothing. */
static inline int journalled(const struct cache_journal_config *config)
{
    static struct cache_journal journal;

    n_replayed = 0;
    memset(has_newest, 0, sizeof has_newest);
    CHECK_EQ(cache_journal_open(&journal, config, count_replay, NULL), 0);
    CHECK_EQ(cache_journal_close(&journal), 0);
    return n_replayed;
}
/* --- a run --------------------------------------------------------------- */

/* Makes what the tests need.  Returns whether it is there. */
static inline bool crash_begin(const char *name)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(directory, sizeof directory, "%s/%s.XXXXXX",
                   tmp && *tmp && strlen(tmp) < 200 ? tmp : "/tmp", name);
    notes = (struct notes *)mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mkdtemp(directory) != NULL && notes != MAP_FAILED)
        return true;
    printf("no directory\n0 passed, 1 failed\n");
    return false;
}

static inline void crash_end(void)
{
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

#endif /* CRASH_H */
