/*
 * journal_disk.h - the disk under a journal: the system calls of cache_journal.h
 * come here.  They do what is asked, fail on demand, and keep account of what a
 * power cut would leave.  No test waits for a real disk: nothing is really
 * synced.
 *
 * Include it before anything of the cache, and define _GNU_SOURCE before that.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef JOURNAL_DISK_H
#define JOURNAL_DISK_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

static inline int disk_open(const char *name, int flags, int mode);
static inline int disk_close(int fd);
static inline int disk_flock(int fd, int how);
static inline ssize_t disk_pread(int fd, void *to, size_t bytes, off_t at);
static inline ssize_t disk_pwrite(int fd, const void *from, size_t bytes,
                                  off_t at);
static inline int disk_fdatasync(int fd);
static inline int disk_fsync(int fd);
static inline int disk_ftruncate(int fd, off_t bytes);
static inline int disk_unlink(const char *name);

#define CACHE_JOURNAL_OPEN disk_open
#define CACHE_JOURNAL_CLOSE disk_close
#define CACHE_JOURNAL_FLOCK disk_flock
#define CACHE_JOURNAL_PREAD disk_pread
#define CACHE_JOURNAL_PWRITE disk_pwrite
#define CACHE_JOURNAL_FDATASYNC disk_fdatasync
#define CACHE_JOURNAL_FSYNC disk_fsync
#define CACHE_JOURNAL_FTRUNCATE disk_ftruncate
#define CACHE_JOURNAL_UNLINK disk_unlink

#include "../cache_journal.h"
#include "test.h"

#include <ftw.h>
#include <stdarg.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char directory[256]; /* of this run */

static inline void sleep_ms(unsigned ms)
{
    struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&pause, NULL);
}

/* --- the disk ------------------------------------------------------------ */

enum call {
    CALL_OPEN,
    CALL_FLOCK,
    CALL_PREAD,
    CALL_PWRITE,
    CALL_FDATASYNC,
    CALL_FSYNC,
    CALL_FTRUNCATE,
    CALL_UNLINK,
    CALLS
};

/* What the model of the disk knows about a segment. */
enum { SECTOR = 512, MODEL_BYTES = 64 * 1024, MODEL_FILES = 64 };

struct model_file {
    char name[40];                    /* "" = free */
    bool exists, kept_exists;         /* now, and after a power cut */
    size_t size, kept_size;           /* the same of its size */
    unsigned char now[MODEL_BYTES];   /* what a read finds */
    unsigned char kept[MODEL_BYTES];  /* what is on the platter */
    bool dirty[MODEL_BYTES / SECTOR]; /* a sync would write it */
};

static struct {
    pthread_mutex_t lock;
    uint64_t n_calls[CALLS];

    /* faults on demand */
    enum call what; /* what fails */
    int after;      /* so many of them succeed first */
    int times;      /* then so many fail */
    int code;       /* with this errno */
    bool no_cut;    /* no file can be shortened */
    bool clumsy;    /* calls are interrupted, and transfers short */
    int sync_us;    /* how long a sync takes */

    /* the simulation */
    bool modelled;      /* files are accounted for */
    bool lies;          /* a sync does nothing */
    uint64_t n_ops;     /* calls so far */
    uint64_t die_at;    /* at this one everything ends; 0 = never */
    bool dead;          /* it has: calls have no effect */
    uint32_t per_mille; /* of calls that fail by chance */
    uint64_t random;
    uint64_t n_faults; /* that happened */
    int slots[1024];   /* by descriptor: 1 + file */
    struct model_file files[MODEL_FILES];
} disk = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The latest that happened to the disk of the model.  What a simulation finds
 * seldom happens twice: this tells how it came about. */
enum { STORY_LINES = 500 };

static char story[STORY_LINES][120];
static unsigned n_story;

/* Under the lock, or with no journal open. */
static inline void disk_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(story[n_story++ % STORY_LINES], sizeof story[0], format,
                    args);
    va_end(args);
}

static inline void disk_tell(void)
{
    unsigned i = n_story > STORY_LINES ? n_story - STORY_LINES : 0;

    for (; i < n_story; i++)
        printf("  %s\n", story[i % STORY_LINES]);
}

static inline uint32_t chance(uint32_t below)
{
    return (uint32_t)(test_random(&disk.random) >> 33) % below;
}

/* The same for the test's own choices, while the journal's thread runs. */
static uint64_t choices;

static inline uint32_t choose(uint32_t below)
{
    return (uint32_t)(test_random(&choices) >> 33) % below;
}

static inline void disk_is_slow(int us)
{
    pthread_mutex_lock(&disk.lock);
    disk.sync_us = us;
    pthread_mutex_unlock(&disk.lock);
}

static inline bool disk_is_dead(void)
{
    bool dead;

    pthread_mutex_lock(&disk.lock);
    dead = disk.dead;
    pthread_mutex_unlock(&disk.lock);
    return dead;
}

static inline void disk_fail(enum call what, int after, int times, int code)
{
    pthread_mutex_lock(&disk.lock);
    disk.what = what;
    disk.after = after;
    disk.times = times;
    disk.code = code;
    disk.n_faults = 0;
    pthread_mutex_unlock(&disk.lock);
}

static inline void disk_heal(void)
{
    disk_fail(CALLS, 0, 0, 0);
}

static inline uint64_t disk_calls(enum call what)
{
    uint64_t n;

    pthread_mutex_lock(&disk.lock);
    n = disk.n_calls[what];
    pthread_mutex_unlock(&disk.lock);
    return n;
}

/* Under the lock: 0, or the errno with which this call fails. */
static inline int disk_fault(enum call what)
{
    disk.n_calls[what]++;
    disk.n_ops++;
    if (disk.die_at != 0 && disk.n_ops >= disk.die_at)
        disk.dead = true;
    if (disk.dead)
        return EIO;
    if (disk.clumsy && disk.n_ops % 3 == 0)
        return EINTR;
    if (disk.what == what && disk.after-- <= 0 && disk.times > 0) {
        disk.times--;
        disk.n_faults++;
        return disk.code;
    }
    if (disk.per_mille != 0 && chance(1000) < disk.per_mille) {
        disk.n_faults++;
        return what == CALL_PWRITE && chance(2) ? ENOSPC : EIO;
    }
    return 0;
}

/* The model's file of this name, a new one if there is none.  One that was
 * unlinked keeps its place, as its name may be on the platter still. */
static inline int model_slot(const char *name)
{
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    int i, unused = -1;

    for (i = 0; i < MODEL_FILES; i++) {
        if (strcmp(disk.files[i].name, base) == 0)
            return i;
        if (!disk.files[i].exists && !disk.files[i].kept_exists)
            unused = i;
    }
    if (unused < 0 || strlen(base) >= sizeof disk.files[0].name)
        abort();
    memset(&disk.files[unused], 0, sizeof disk.files[0]);
    strcpy(disk.files[unused].name, base);
    return unused;
}

/* A file is opened.  One that is made has nothing of an earlier one of its
 * name. */
static inline int model_open(const char *name)
{
    int slot = model_slot(name);
    struct model_file *f = &disk.files[slot];

    if (!f->exists) {
        memset(f->now, 0, sizeof f->now);
        memset(f->kept, 0, sizeof f->kept);
        memset(f->dirty, 0, sizeof f->dirty);
        f->size = f->kept_size = 0;
    }
    f->exists = true;
    return slot;
}

static inline struct model_file *model_of(int fd)
{
    return disk.modelled && fd < (int)COUNT(disk.slots) && disk.slots[fd] > 0
               ? &disk.files[disk.slots[fd] - 1]
               : NULL;
}

static inline void model_touch(struct model_file *f, size_t from, size_t to)
{
    if (to > MODEL_BYTES)
        abort();
    for (from /= SECTOR; from * SECTOR < to; from++)
        f->dirty[from] = true;
}

/* A sync, of which a failed one writes what it likes and forgets the rest. */
static inline void model_sync(struct model_file *f, bool fails)
{
    size_t i;

    for (i = 0; i < MODEL_BYTES / SECTOR; i++) {
        if (!f->dirty[i])
            continue;
        f->dirty[i] = false;
        if (!fails || chance(2))
            memcpy(f->kept + i * SECTOR, f->now + i * SECTOR, SECTOR);
    }
    if (!fails || chance(2))
        f->kept_size = f->size;
}

static inline void model_sync_directory(void)
{
    int i;

    for (i = 0; i < MODEL_FILES; i++)
        disk.files[i].kept_exists = disk.files[i].exists;
}

static inline int failed(int code)
{
    pthread_mutex_unlock(&disk.lock);
    errno = code;
    return -1;
}

static inline int disk_open(const char *name, int flags, int mode)
{
    int fault, fd;

    pthread_mutex_lock(&disk.lock);
    fault = disk_fault(CALL_OPEN);
    if (fault != 0)
        return failed(fault);
    fd = open(name, flags, mode);
    if (fd < 0)
        return failed(errno);
    if (disk.modelled && fd < (int)COUNT(disk.slots)) {
        disk.slots[fd] = 0;
        if (!(flags & O_DIRECTORY)) {
            disk.slots[fd] = 1 + model_open(name);
            disk_note("open %s", model_of(fd)->name);
        }
    }
    pthread_mutex_unlock(&disk.lock);
    return fd;
}

static inline int disk_close(int fd)
{
    return close(fd);
}

static inline int disk_flock(int fd, int how)
{
    int fault;

    pthread_mutex_lock(&disk.lock);
    fault = disk_fault(CALL_FLOCK);
    if (fault != 0)
        return failed(fault);
    pthread_mutex_unlock(&disk.lock);
    return flock(fd, how);
}

static inline ssize_t disk_pread(int fd, void *to, size_t bytes, off_t at)
{
    int fault;

    pthread_mutex_lock(&disk.lock);
    fault = disk_fault(CALL_PREAD);
    if (fault != 0)
        return failed(fault);
    if (disk.clumsy && bytes > 100)
        bytes = 100;
    pthread_mutex_unlock(&disk.lock);
    return pread(fd, to, bytes, at);
}

static inline ssize_t disk_pwrite(int fd, const void *from, size_t bytes,
                                  off_t at)
{
    struct model_file *f;
    int fault;
    ssize_t n;

    pthread_mutex_lock(&disk.lock);
    f = model_of(fd);
    fault = disk.dead ? EIO : disk_fault(CALL_PWRITE);
    if (fault != 0 && fault != EINTR && bytes > 0 && disk.n_ops != disk.die_at)
        bytes = disk.dead ? 0 : bytes - bytes / 8; /* the end is not */
    else if (disk.dead && bytes > 0)
        bytes = disk.n_ops % (bytes + 1);
    else if (fault == EINTR)
        bytes = 0;
    if (disk.clumsy && bytes > 7)
        bytes = 7;
    n = bytes > 0 ? pwrite(fd, from, bytes, at) : 0;
    if (n > 0 && f != NULL) {
        if ((size_t)at + (size_t)n > MODEL_BYTES)
            abort();
        memcpy(f->now + at, from, (size_t)n);
        if ((size_t)at + (size_t)n > f->size)
            f->size = (size_t)at + (size_t)n;
        model_touch(f, (size_t)at, (size_t)at + (size_t)n);
        disk_note("write %s from %zu to %zu: %d", f->name, (size_t)at,
                  (size_t)at + (size_t)n, fault);
    }
    if (fault != 0)
        return failed(fault);
    pthread_mutex_unlock(&disk.lock);
    return n;
}

static inline int disk_any_sync(enum call what, int fd)
{
    struct model_file *f;
    int fault;

    pthread_mutex_lock(&disk.lock);
    f = model_of(fd);
    fault = disk_fault(what);
    if (disk.sync_us > 0) {
        struct timespec pause = { 0, disk.sync_us * 1000L };

        pthread_mutex_unlock(&disk.lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&disk.lock);
        if (disk.dead)
            fault = EIO;
    }
    if (disk.modelled && !disk.dead && !disk.lies && fault != EINTR) {
        disk_note("sync %s: %d", f != NULL ? f->name : "names", fault);
        if (f != NULL)
            model_sync(f, fault != 0);
        else if (fault == 0)
            model_sync_directory();
    }
    if (fault != 0)
        return failed(fault);
    pthread_mutex_unlock(&disk.lock);
    return 0;
}

static inline int disk_fdatasync(int fd)
{
    return disk_any_sync(CALL_FDATASYNC, fd);
}

static inline int disk_fsync(int fd)
{
    return disk_any_sync(CALL_FSYNC, fd);
}

static inline int disk_ftruncate(int fd, off_t bytes)
{
    struct model_file *f;
    int fault, rc;

    pthread_mutex_lock(&disk.lock);
    fault = disk_fault(CALL_FTRUNCATE);
    if (fault == 0 && disk.no_cut)
        fault = EIO;
    if (fault != 0)
        return failed(fault);
    f = model_of(fd);
    if (f != NULL && (size_t)bytes < f->size) {
        memset(f->now + bytes, 0, f->size - (size_t)bytes);
        model_touch(f, (size_t)bytes, f->size);
        f->size = (size_t)bytes;
        disk_note("shorten %s to %zu", f->name, f->size);
    }
    rc = ftruncate(fd, bytes);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static inline int disk_unlink(const char *name)
{
    struct model_file *f;
    int fault, rc;

    pthread_mutex_lock(&disk.lock);
    fault = disk_fault(CALL_UNLINK);
    if (fault != 0)
        return failed(fault);
    if (disk.modelled) {
        f = &disk.files[model_slot(name)];
        f->exists = false;
        disk_note("delete %s", f->name);
    }
    rc = unlink(name);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static inline void disk_reset(void)
{
    disk_heal();
    pthread_mutex_lock(&disk.lock);
    disk.no_cut = disk.clumsy = disk.modelled = disk.lies = disk.dead = false;
    disk.die_at = disk.per_mille = 0;
    disk.sync_us = 0;
    disk.random = choices = test_seed;
    pthread_mutex_unlock(&disk.lock);
}

/* From now on the disk is accounted for, and empty. */
static inline void disk_model(uint64_t seed)
{
    memset(disk.files, 0, sizeof disk.files);
    memset(disk.slots, 0, sizeof disk.slots);
    disk.random = seed;
    disk.modelled = true;
    n_story = 0;
}

/* What the platter has after a power cut becomes what the files have.  Of what
 * was not synced, any sector or page may be there, any size, any name. */
static inline void cut_power(void)
{
    static unsigned char after[MODEL_BYTES];
    char name[340];
    size_t i, s, step, size;
    bool take = false;
    int fd;

    for (i = 0; i < MODEL_FILES; i++) {
        struct model_file *f = &disk.files[i];

        if (f->name[0] == '\0' || (!f->exists && !f->kept_exists))
            continue;
        (void)snprintf(name, sizeof name, "%s/%s", directory, f->name);
        step = chance(2) ? 1 : 4096 / SECTOR;
        memset(after, 0, sizeof after);
        for (s = 0; s < MODEL_BYTES / SECTOR; s++) {
            if (s % step == 0)
                take = chance(2);
            memcpy(after + s * SECTOR,
                   (f->dirty[s] && take ? f->now : f->kept) + s * SECTOR,
                   SECTOR);
        }
        size = chance(2) ? f->size : f->kept_size;
        if (f->size > f->kept_size && chance(2))
            size = f->kept_size +
                   chance((uint32_t)(f->size - f->kept_size)) / SECTOR * SECTOR;
        memset(after + size, 0, sizeof after - size);
        if (f->exists != f->kept_exists)
            f->exists = chance(2);
        f->kept_exists = f->exists;
        f->size = f->kept_size = size;
        memcpy(f->now, after, sizeof after);
        memcpy(f->kept, after, sizeof after);
        memset(f->dirty, 0, sizeof f->dirty);
        disk_note("power cut: %s %s, %zu bytes", f->name,
                  f->exists ? "is there" : "is not", size);
        if (!f->exists) {
            (void)unlink(name);
            continue;
        }
        fd = open(name, O_WRONLY | O_CREAT, 0600);
        CHECK(fd >= 0);
        CHECK_EQ(write(fd, after, size), size);
        CHECK_EQ(ftruncate(fd, (off_t)size), 0);
        CHECK_EQ(close(fd), 0);
    }
}

static inline int remove_entry(const char *name, const struct stat *status,
                               int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(name);
}

#endif /* JOURNAL_DISK_H */
