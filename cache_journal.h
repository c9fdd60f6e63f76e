/*
 * cache_journal.h - a durable journal of writes that the store does not have.
 *
 * WHAT IT DOES
 *   struct cache_journal appends writes to files and says when they are safe:
 *   what it has acknowledged survives kill -9 and a power cut, and is given to
 *   `replay` by the next open until cache_journal_stored says that the store
 *   has it.  It has a thread of its own, which alone writes.
 *
 *   EXAMPLE
 *     struct cache_journal journal;
 *     struct cache_journal_config config = { .path = "users.journal" };
 *     struct cache_journal_ticket ticket;
 *     if (cache_journal_open(&journal, &config, to_the_store, user) != 0)
 *         fprintf(stderr, "%s\n", journal.message);
 *     item.version = cache_journal_last(&journal) + 1;
 *     if (cache_journal_append(&journal, &item, &ticket) == 0 &&
 *         cache_journal_wait(&journal, &ticket, CACHE_NEVER) == 0)
 *         ...                                    // durable
 *     cache_journal_stored(&journal, version);   // once the store has it
 *     cache_journal_close(&journal);
 *
 * HOW IT WORKS
 *   append copies a write into one of two buffers.  While the disk is busy
 *   with one, the other fills, and becomes the next commit: one pwrite and one
 *   fdatasync for all that came meanwhile.  So a slow disk has large commits
 *   and a fast one short waits, without a timer.
 *
 *     append -> [ buffer A, fills ]      wake: those who wait for B
 *               [ buffer B, in flight ] -> pwrite, fdatasync -> durable
 *
 *   A commit is a block of a segment, the file path.00000001 and so on; a new
 *   segment begins when one has segment_bytes, and with each open.
 *
 *     path.00000007           path.00000009         (8 could not be synced)
 *     +-------+-------+---    +-------+-------+----
 *     | block | block | ~~    | block | block | ...
 *     +-------+-------+---    +-------+-------+----
 *                     ^ its durable end         |
 *                     +---- previous segment ---+
 *
 *     block:  header of 88 bytes, then records, all numbers little-endian
 *       0 magic  8 journal's id  16 segment  24 own offset  32 previous
 *       segment  40 its durable end  48 last seq before this block  56 last seq
 *       in it  64 stored mark  72 bytes of records  76 their number  80 CRC of
 *       the records  84 CRC of the header's first 84 bytes
 *     record:  0 seq  8 expires_ms  16 bytes of key  20 bytes of value  24 op
 *       28 key, value
 *     CRC is CRC-32C: polynomial 0x1edc6f41, reflected, as in iSCSI.
 *
 * DAMAGE, OR A TORN TAIL
 *   Only one commit is in flight.  So a block proves that everything before it
 *   in its segment was durable, and that the previous segment was up to the end
 *   that it names.  When a block is not valid,
 *   - and a valid header follows, in this segment or in one that builds on it:
 *     it was durable and is damaged.  open fails with CACHE_ECORRUPT and
 *     changes nothing.
 *   - and none follows: it is the commit that a crash interrupted, which nobody
 *     was told is durable.  It is cut off.
 *   What looks the same as the latter is damage to the last block of all; that
 *   is the one thing that cannot be decided.  close therefore ends with an
 *   empty block, and after it there is no such block of records.  (If somebody
 *   else shortens the newest segment or deletes it, that is a torn tail too.)
 *   A file that has our name and begins with neither our magic nor zeroes is
 *   not ours to cut: CACHE_ECORRUPT.
 *
 * FAILURES
 *   A commit that fails (CACHE_EFULL: disk full, quota or limit of file size;
 *   CACHE_EIO) is told to all who wait and stays in its buffer.  It is tried
 *   again with the next append or wait, and after CACHE_JOURNAL_RETRY_MS.
 *   Nothing overtakes it.  What was written of it is cut off.  After a sync
 *   that failed the segment is given up at its durable end and a new one begun:
 *   a second sync of the same file may succeed without having written anything.
 *   On a full disk the stored mark is noted in path.lock, which has room for
 *   two of them: the next one never writes over the last good one.  So segments
 *   can be deleted that fill the disk.
 *   So an error means "unknown": the write may be replayed all the same, in its
 *   place in the order.
 *   With process_only, a power cut may lose what was acknowledged, and may
 *   leave what open takes for damage.
 *
 * MEMORY
 *   2 x buffer_bytes, 8 KiB of tables and 48 bytes for each segment; while it
 *   opens, the largest block once more.
 *
 * THREADS
 *   - append, wait, stored, last, durable and get_stats: any thread, any time;
 *     also during close and after it, as long as the struct is there.
 *   - open and close: one thread, once each.
 *   - on_commit runs on the journal's thread with no lock held.  It may call
 *     all of them but wait and close, which are CACHE_EBUSY there.
 *   - fork: the child may only forget the journal, and has its lock until it
 *     ends or calls exec.
 *
 * Needs POSIX threads and files, and flock.
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_store.h"

#define CACHE_JOURNAL_DEFAULT_SEGMENT_BYTES (UINT64_C(64) << 20)
#define CACHE_JOURNAL_DEFAULT_BUFFER_BYTES ((size_t)1 << 20)
#define CACHE_JOURNAL_MAX_BUFFER_BYTES ((size_t)1 << 30)
#define CACHE_JOURNAL_RETRY_MS 100u
#define CACHE_JOURNAL_HEADER 88u /* bytes of a block's header */
#define CACHE_JOURNAL_RECORD 28u /* bytes of a record beside key and value */

/* In path.lock the second note begins here, in a sector of its own. */
#define CACHE__JOURNAL_NOTE 512u

/* The system calls: define them before inclusion to have your own. */
#ifndef CACHE_JOURNAL_OPEN
#define CACHE_JOURNAL_OPEN(name, flags, mode) open(name, flags, mode)
#endif
#ifndef CACHE_JOURNAL_CLOSE
#define CACHE_JOURNAL_CLOSE(fd) close(fd)
#endif
#ifndef CACHE_JOURNAL_FLOCK
#define CACHE_JOURNAL_FLOCK(fd, how) flock(fd, how)
#endif
#ifndef CACHE_JOURNAL_PREAD
#define CACHE_JOURNAL_PREAD(fd, to, bytes, at) pread(fd, to, bytes, at)
#endif
#ifndef CACHE_JOURNAL_PWRITE
#define CACHE_JOURNAL_PWRITE(fd, from, bytes, at) pwrite(fd, from, bytes, at)
#endif
#ifndef CACHE_JOURNAL_FDATASYNC
#define CACHE_JOURNAL_FDATASYNC(fd) fdatasync(fd)
#endif
#ifndef CACHE_JOURNAL_FSYNC
#define CACHE_JOURNAL_FSYNC(fd) fsync(fd) /* of the directory, and of a cut */
#endif
#ifndef CACHE_JOURNAL_FTRUNCATE
#define CACHE_JOURNAL_FTRUNCATE(fd, bytes) ftruncate(fd, bytes)
#endif
#ifndef CACHE_JOURNAL_UNLINK
#define CACHE_JOURNAL_UNLINK(name) unlink(name)
#endif

/* --- types --------------------------------------------------------------- */

/* What open needs.  Zero means the default that is named. */
struct cache_journal_config {
    const char *path;       /* what the segments' names begin with; required.
                               The directory must exist.  path.lock is made and
                               stays. */
    uint64_t segment_bytes; /* a segment that has so many is the last one but
                               one; 0 = CACHE_JOURNAL_DEFAULT_SEGMENT_BYTES */
    size_t buffer_bytes;    /* of each of the two buffers, and so the largest
                               record and commit;
                               0 = CACHE_JOURNAL_DEFAULT_BUFFER_BYTES */
    bool process_only;      /* acknowledge what is written and not synced: it
                               survives kill -9, but not a power cut */
    void (*on_commit)(uint64_t durable, int status, void *user);
    /* After each attempt to commit: the last durable seq, and 0 or why the
       attempt failed.  What was appended before then and is above `durable`
       was not acknowledged. */
    void *(*alloc)(size_t bytes, void *user); /* NULL = malloc */
    void (*free)(void *memory, void *user);   /* NULL = free */
    void *user;                               /* for the hooks above */
};

/* What append gives and wait takes. */
struct cache_journal_ticket {
    uint64_t seq;     /* of the write */
    uint64_t attempt; /* the first commit that begins after the append, or
                         after the error that wait has returned */
};

/* Counters since open. */
struct cache_journal_stats {
    uint64_t n_replayed;  /* writes that open has given to replay */
    uint64_t n_appended;  /* writes that were accepted */
    uint64_t n_refused;   /* writes that were refused: CACHE_EFULL */
    uint64_t n_durable;   /* writes that became durable */
    uint64_t n_commits;   /* blocks that became durable, empty ones included */
    uint64_t n_failed;    /* attempts to commit that failed */
    uint64_t n_bytes;     /* bytes of the blocks that became durable */
    uint64_t n_abandoned; /* segments that were given up after a failure */
    uint64_t n_deleted;   /* segments that were deleted: all stored */
    uint64_t n_segments;  /* segments that there are */
};

/* A segment that has a durable block. */
struct cache_journal_segment {
    uint64_t number;         /* in its name */
    uint64_t end;            /* bytes of it that are durable */
    uint64_t last;           /* highest seq in it, or before it */
    uint64_t previous;       /* number of the one before; 0 = none */
    uint64_t previous_bytes; /* where that one ends */
    uint64_t last_block;     /* offset of its last block; open only */
};

/* Records that wait for the disk, behind room for the block's header. */
struct cache_journal_buffer {
    unsigned char *bytes;
    size_t used;        /* of them, without the header */
    uint32_t n_records; /* in it */
    uint64_t last;      /* seq of the last one */
};

/* Tables for the checksum of eight bytes at a time. */
struct cache_journal_crc {
    uint32_t table[8][256];
};

/* The journal.  Members but `message` are private. */
struct cache_journal {
    char message[200];                  /* why open has failed, for people */
    struct cache_journal_config config; /* with the defaults filled in */
    bool is_open;                       /* atomic */
    uint32_t n_inside; /* atomic: threads in append, wait, ... */
    uint64_t appended; /* atomic: the highest seq that was accepted */
    uint64_t durable;  /* atomic: the highest that is durable */
    void *memory;      /* one block for what follows */
    struct cache_journal_crc *crc;
    char *name;      /* room for a segment's name, which begins with path */
    size_t path_len; /* of it */
    char *directory; /* where the segments are */

    /* the thread's own: open's before it runs, close's after it */
    int lock_fd;      /* path.lock */
    int directory_fd; /* to sync it */
    int fd;           /* of the current segment; -1 = the next commit begins
                         a new one */
    struct cache_journal_segment now;       /* the current one; end 0: not in
                                               `segments` yet */
    struct cache_journal_segment *segments; /* oldest first */
    size_t n_segments, n_segments_room;
    uint64_t n_abandoned, n_deleted; /* for stats */
    uint64_t number;                 /* highest one that a segment ever had */
    uint64_t id;       /* of this journal: random, in every header; 0 = not
                          known yet */
    uint64_t written;  /* highest seq in a durable block */
    uint64_t recorded; /* the stored mark in the last durable block or note */
    uint64_t note_at;  /* where in path.lock the next note goes */
    bool ends_empty;   /* the last durable block has no records, or there is no
                          block */
    struct cache_journal_buffer mark; /* with room for a header only */

    pthread_t thread;
    pthread_mutex_t lock;         /* of what follows */
    void (*listener)(void *user); /* cache_journal_listen */
    void *listener_user;
    pthread_cond_t wake;    /* the thread has something to do */
    pthread_cond_t done[2]; /* commits of even and of odd number have ended */
    struct cache_journal_buffer buffers[2];
    uint32_t active;      /* the one that fills */
    uint64_t stored;      /* the store has everything up to here */
    uint64_t oldest_last; /* what `stored` has to reach for a segment to be
                               deleted; UINT64_MAX = there is only one */
    uint64_t n_begun;     /* commits that were begun */
    uint64_t n_ended;     /* and have ended, well or not */
    uint64_t failed;      /* number of the latest one that failed */
    int failed_status;    /* why */
    bool failing;         /* the latest one has failed */
    bool retry;           /* its records are in the buffer that is not active */
    bool hurry;           /* somebody wants it to be tried again at once */
    bool closing;         /* the thread is to end when all is durable */
    bool stopped;         /* it has */
    uint32_t n_last_chance; /* attempts that failed while closing */
    struct cache_journal_stats stats;
};

/* --- bytes and checksums ------------------------------------------------- */

CACHE_INLINE void cache__journal_put32(unsigned char *p, uint32_t x)
{
    p[0] = (unsigned char)x;
    p[1] = (unsigned char)(x >> 8);
    p[2] = (unsigned char)(x >> 16);
    p[3] = (unsigned char)(x >> 24);
}

CACHE_INLINE void cache__journal_put64(unsigned char *p, uint64_t x)
{
    cache__journal_put32(p, (uint32_t)x);
    cache__journal_put32(p + 4, (uint32_t)(x >> 32));
}

CACHE_INLINE uint32_t cache__journal_get32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

CACHE_INLINE uint64_t cache__journal_get64(const unsigned char *p)
{
    uint64_t high = cache__journal_get32(p + 4);

    return high << 32 | cache__journal_get32(p);
}

CACHE_COLD void cache__journal_crc_init(struct cache_journal_crc *crc)
{
    uint32_t i, k, x;

    for (i = 0; i < 256; i++) {
        for (x = i, k = 0; k < 8; k++)
            x = x >> 1 ^ (x & 1 ? 0x82f63b78u : 0); /* 0x1edc6f41, mirrored */
        crc->table[0][i] = x;
    }
    for (i = 0; i < 256; i++)
        for (k = 1; k < 8; k++)
            crc->table[k][i] = crc->table[k - 1][i] >> 8 ^
                               crc->table[0][crc->table[k - 1][i] & 0xff];
}

/* Eight bytes with eight look-ups that do not wait for each other (Kounavis and
 * Berry, 2005: "slicing by 8"). */
CACHE_COLD uint32_t cache__journal_crc(const struct cache_journal_crc *crc,
                                       const unsigned char *p, size_t n)
{
    const uint32_t(*t)[256] = crc->table;
    uint32_t x = 0xffffffffu, low, high;

    for (; n >= 8; p += 8, n -= 8) {
        low = cache__journal_get32(p) ^ x;
        high = cache__journal_get32(p + 4);
        x = t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^
            t[4][low >> 24] ^ t[3][high & 0xff] ^ t[2][high >> 8 & 0xff] ^
            t[1][high >> 16 & 0xff] ^ t[0][high >> 24];
    }
    for (; n > 0; p++, n--)
        x = t[0][(x ^ *p) & 0xff] ^ x >> 8;
    return ~x;
}

/* --- blocks -------------------------------------------------------------- */

#define CACHE__JOURNAL_MAGIC "CACHEJL1" /* the last character is the version */

/* What a block's header says, beside magic, id, segment and offset. */
struct cache__journal_block {
    uint64_t previous, previous_bytes; /* the segment before, its end */
    uint64_t before;                   /* last seq before this block */
    uint64_t last;                     /* and in it */
    uint64_t stored;                   /* the stored mark */
    uint32_t n_bytes, n_records;       /* of it, without the header */
    uint32_t crc;                      /* of them */
};

CACHE_COLD void cache__journal_encode(const struct cache_journal *j,
                                      unsigned char *p, uint64_t segment,
                                      uint64_t offset,
                                      const struct cache__journal_block *block)
{
    memcpy(p, CACHE__JOURNAL_MAGIC, 8);
    cache__journal_put64(p + 8, j->id);
    cache__journal_put64(p + 16, segment);
    cache__journal_put64(p + 24, offset);
    cache__journal_put64(p + 32, block->previous);
    cache__journal_put64(p + 40, block->previous_bytes);
    cache__journal_put64(p + 48, block->before);
    cache__journal_put64(p + 56, block->last);
    cache__journal_put64(p + 64, block->stored);
    cache__journal_put32(p + 72, block->n_bytes);
    cache__journal_put32(p + 76, block->n_records);
    cache__journal_put32(p + 80, block->crc);
    cache__journal_put32(p + 84, cache__journal_crc(j->crc, p, 84));
}

/* Whether this is the header of a block at this place. */
CACHE_COLD bool cache__journal_decode(const struct cache_journal *j,
                                      const unsigned char *p, uint64_t segment,
                                      uint64_t offset,
                                      struct cache__journal_block *block)
{
    if (memcmp(p, CACHE__JOURNAL_MAGIC, 8) != 0 ||
        (j->id != 0 && cache__journal_get64(p + 8) != j->id) ||
        cache__journal_get64(p + 16) != segment ||
        cache__journal_get64(p + 24) != offset ||
        cache__journal_get32(p + 84) != cache__journal_crc(j->crc, p, 84))
        return false;
    block->previous = cache__journal_get64(p + 32);
    block->previous_bytes = cache__journal_get64(p + 40);
    block->before = cache__journal_get64(p + 48);
    block->last = cache__journal_get64(p + 56);
    block->stored = cache__journal_get64(p + 64);
    block->n_bytes = cache__journal_get32(p + 72);
    block->n_records = cache__journal_get32(p + 76);
    block->crc = cache__journal_get32(p + 80);
    return true;
}

/* The record at p as an item, which points into it.  Returns its bytes, or 0 if
 * there is no sound one in `left` bytes. */
CACHE_COLD size_t cache__journal_record(const unsigned char *p, size_t left,
                                        struct cache_store_item *item)
{
    uint32_t op;

    if (left < CACHE_JOURNAL_RECORD)
        return 0;
    left -= CACHE_JOURNAL_RECORD;
    memset(item, 0, sizeof *item);
    item->version = cache__journal_get64(p);
    item->expires_ms = cache__journal_get64(p + 8);
    item->key.len = cache__journal_get32(p + 16);
    item->value.len = cache__journal_get32(p + 20);
    op = cache__journal_get32(p + 24);
    if (item->key.len == 0 || item->key.len > left ||
        item->value.len > left - item->key.len ||
        (op != CACHE_STORE_PUT && op != CACHE_STORE_REMOVE))
        return 0;
    item->op = op == CACHE_STORE_PUT ? CACHE_STORE_PUT : CACHE_STORE_REMOVE;
    item->key.data = p + CACHE_JOURNAL_RECORD;
    item->value.data = p + CACHE_JOURNAL_RECORD + item->key.len;
    return CACHE_JOURNAL_RECORD + item->key.len + item->value.len;
}

/* Whether the records of a block, whose checksum is right, are what its header
 * says. */
CACHE_COLD bool
cache__journal_is_sound(const struct cache__journal_block *block,
                        const unsigned char *p)
{
    struct cache_store_item item;
    uint64_t seq = block->before;
    size_t left = block->n_bytes, bytes;
    uint32_t n = 0;

    for (; left > 0; p += bytes, left -= bytes, n++) {
        bytes = cache__journal_record(p, left, &item);
        if (bytes == 0 || item.version <= seq)
            return false;
        seq = item.version;
    }
    return n == block->n_records && seq == block->last &&
           block->stored <= block->last;
}

/* --- files --------------------------------------------------------------- */

/* The library's code for errno, which is what a system call has left. */
CACHE_COLD int cache__journal_status(void)
{
    switch (errno) {
    case ENOSPC:
#ifdef EDQUOT
    case EDQUOT:
#endif
    case EFBIG: return CACHE_EFULL;
    case ENOMEM: return CACHE_ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS: return CACHE_EACCESS;
    default: return CACHE_EIO;
    }
}

CACHE_COLD void *cache__journal_alloc(const struct cache_journal *j,
                                      size_t bytes)
{
    return j->config.alloc ? j->config.alloc(bytes, j->config.user)
                           : malloc(bytes);
}

CACHE_COLD void cache__journal_free(const struct cache_journal *j, void *memory)
{
    if (j->config.free != NULL && memory != NULL)
        j->config.free(memory, j->config.user);
    else if (j->config.free == NULL)
        free(memory);
}

/* The name of a segment, until the next call. */
CACHE_COLD const char *cache__journal_name(struct cache_journal *j,
                                           uint64_t number)
{
    (void)snprintf(j->name + j->path_len, 24, ".%08llu",
                   (unsigned long long)number);
    return j->name;
}

CACHE_COLD int cache__journal_open_file(const char *name, int flags)
{
    int fd;

    do
        fd = CACHE_JOURNAL_OPEN(name, flags | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    return fd;
}

CACHE_COLD int cache__journal_write(int fd, const unsigned char *from,
                                    size_t bytes, uint64_t at)
{
    while (bytes > 0) {
        ssize_t n = CACHE_JOURNAL_PWRITE(fd, from, bytes, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cache__journal_status();
        if (n == 0)
            return CACHE_EIO;
        from += n;
        bytes -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* Nobody relies on what a file or a directory has before this returns 0. */
CACHE_COLD int cache__journal_sync(int fd, bool data_only)
{
    int rc;

    do
        rc = data_only ? CACHE_JOURNAL_FDATASYNC(fd) : CACHE_JOURNAL_FSYNC(fd);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : cache__journal_status();
}

CACHE_COLD int cache__journal_cut(int fd, uint64_t end)
{
    int rc;

    do
        rc = CACHE_JOURNAL_FTRUNCATE(fd, (off_t)end);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : cache__journal_status();
}

/* Room for one more segment in the list. */
CACHE_COLD int cache__journal_reserve(struct cache_journal *j)
{
    size_t room = j->n_segments_room == 0 ? 16 : 2 * j->n_segments_room;
    struct cache_journal_segment *segments;

    if (j->n_segments < j->n_segments_room)
        return 0;
    if (room > SIZE_MAX / sizeof *segments)
        return CACHE_ENOMEM;
    segments = (struct cache_journal_segment *)cache__journal_alloc(
        j, room * sizeof *segments);
    if (segments == NULL)
        return CACHE_ENOMEM;
    if (j->n_segments > 0)
        memcpy(segments, j->segments, j->n_segments * sizeof *segments);
    cache__journal_free(j, j->segments);
    j->segments = segments;
    j->n_segments_room = room;
    return 0;
}

/* Deletes segments of which the store has everything, oldest first.  The newest
 * stays: it has the mark and the last seq. */
CACHE_COLD void cache__journal_delete_stored(struct cache_journal *j)
{
    size_t n = 0;

    while (n + 1 < j->n_segments && j->segments[n].last <= j->recorded) {
        const char *name = cache__journal_name(j, j->segments[n].number);

        if (CACHE_JOURNAL_UNLINK(name) != 0 && errno != ENOENT)
            break; /* with the next commit */
        n++;
    }
    if (n == 0)
        return;
    j->n_segments -= n;
    memmove(j->segments, j->segments + n, j->n_segments * sizeof *j->segments);
    j->n_deleted += n;
    if (!j->config.process_only) /* one that comes back does no harm */
        (void)cache__journal_sync(j->directory_fd, false);
}

/* --- reading ------------------------------------------------------------- */

/* A segment of which a part is in memory. */
struct cache__journal_reader {
    struct cache_journal *j;
    int fd;
    uint64_t number, size; /* of the segment */
    unsigned char *bytes;  /* what is in memory */
    size_t room, len;      /* of it */
    uint64_t at;           /* where in the segment it begins */
};

CACHE_COLD void cache__journal_leave(struct cache__journal_reader *r)
{
    if (r->fd >= 0)
        (void)CACHE_JOURNAL_CLOSE(r->fd);
    r->fd = -1;
}

/* Says why open fails.  Returns the status. */
CACHE_COLD int cache__journal_fail(struct cache_journal *j, int status,
                                   const char *name, const char *why)
{
    size_t len = strlen(name);

    (void)snprintf(j->message, sizeof j->message, "%s%s: %s",
                   len > 80 ? "..." : "", len > 80 ? name + len - 80 : name,
                   why ? why : cache_strerror(status));
    return status;
}

CACHE_COLD int cache__journal_damaged(struct cache__journal_reader *r,
                                      uint64_t at, const char *why)
{
    char text[100];

    (void)snprintf(text, sizeof text, "byte %llu: %s", (unsigned long long)at,
                   why);
    return cache__journal_fail(r->j, CACHE_ECORRUPT,
                               cache__journal_name(r->j, r->number), text);
}

CACHE_COLD int cache__journal_enter(struct cache__journal_reader *r,
                                    uint64_t number)
{
    const char *name = cache__journal_name(r->j, number);
    struct stat file;

    cache__journal_leave(r);
    r->number = number;
    r->len = 0;
    r->fd = cache__journal_open_file(name, O_RDWR);
    if (r->fd < 0 || fstat(r->fd, &file) != 0)
        return cache__journal_fail(r->j, cache__journal_status(), name,
                                   strerror(errno));
    r->size = (uint64_t)file.st_size;
    return 0;
}

/* Has some bytes of the segment in memory, which are below its size.  *p is
 * where, until the next call. */
CACHE_COLD int cache__journal_see(struct cache__journal_reader *r, uint64_t at,
                                  size_t bytes, const unsigned char **p)
{
    size_t want = bytes > 65536 ? bytes : 65536;
    ssize_t n;

    if (at >= r->at && at - r->at <= r->len && r->len - (at - r->at) >= bytes) {
        *p = r->bytes + (at - r->at);
        return 0;
    }
    if (want > r->room) {
        cache__journal_free(r->j, r->bytes);
        r->room = r->len = 0;
        r->bytes = (unsigned char *)cache__journal_alloc(r->j, want);
        if (r->bytes == NULL)
            return cache__journal_fail(r->j, CACHE_ENOMEM, r->j->name, NULL);
        r->room = want;
    }
    r->at = at;
    r->len = 0;
    while (r->len < bytes) { /* and what comes with it */
        n = CACHE_JOURNAL_PREAD(r->fd, r->bytes + r->len, r->room - r->len,
                                (off_t)(at + r->len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cache__journal_fail(r->j, CACHE_EIO, r->j->name,
                                       n < 0 ? strerror(errno) : "it shrinks");
        r->len += (size_t)n;
    }
    *p = r->bytes;
    return 0;
}

/* The block at an offset: *found is 0 if there is no valid header, 1 if its
 * records are not there or have another checksum, 2 if it is valid; *records is
 * where they are, until the next call. */
CACHE_COLD int cache__journal_block_at(struct cache__journal_reader *r,
                                       uint64_t at,
                                       struct cache__journal_block *block,
                                       int *found,
                                       const unsigned char **records)
{
    const unsigned char *p;
    int rc;

    *found = 0;
    if (at > r->size || r->size - at < CACHE_JOURNAL_HEADER)
        return 0;
    rc = cache__journal_see(r, at, CACHE_JOURNAL_HEADER, &p);
    if (rc != 0 || !cache__journal_decode(r->j, p, r->number, at, block))
        return rc;
    *found = 1;
    at += CACHE_JOURNAL_HEADER;
    if (r->size - at < block->n_bytes)
        return 0;
    rc = cache__journal_see(r, at, block->n_bytes, records);
    if (rc == 0 &&
        cache__journal_crc(r->j->crc, *records, block->n_bytes) == block->crc)
        *found = 2;
    return rc;
}

/* Looks for a valid header at or after `at`.  Where it is, or UINT64_MAX, comes
 * in *found. */
CACHE_COLD int cache__journal_search(struct cache__journal_reader *r,
                                     uint64_t at,
                                     struct cache__journal_block *block,
                                     uint64_t *found)
{
    const unsigned char *p, *hit;
    size_t bytes, i;
    int rc;

    *found = UINT64_MAX;
    while (at < r->size && r->size - at >= CACHE_JOURNAL_HEADER) {
        bytes = r->size - at < 65536 ? (size_t)(r->size - at) : 65536;
        rc = cache__journal_see(r, at, bytes, &p);
        if (rc != 0)
            return rc;
        bytes -= CACHE_JOURNAL_HEADER - 1; /* where a header fits in */
        for (i = 0; i < bytes; i++) {
            hit = (const unsigned char *)memchr(p + i, CACHE__JOURNAL_MAGIC[0],
                                                bytes - i);
            if (hit == NULL)
                break;
            i = (size_t)(hit - p);
            if (cache__journal_decode(r->j, hit, r->number, at + i, block)) {
                *found = at + i;
                return 0;
            }
        }
        at += bytes;
    }
    return 0;
}

/* A file without one valid header: what a crash leaves of the first commit.
 * Anything else is not ours to delete. */
CACHE_COLD int cache__journal_check_torn(struct cache__journal_reader *r)
{
    static const unsigned char zeroes[8] = { 0 };
    size_t bytes = r->size < 8 ? (size_t)r->size : 8;
    const unsigned char *p;
    int rc;

    if (bytes == 0)
        return 0;
    rc = cache__journal_see(r, 0, bytes, &p);
    if (rc == 0 && memcmp(p, zeroes, bytes) != 0 &&
        memcmp(p, CACHE__JOURNAL_MAGIC, bytes) != 0)
        rc = cache__journal_damaged(r, 0, "not a journal of this version");
    return rc;
}

/* --- opening: which segments there are ----------------------------------- */

/* What open learns. */
struct cache__journal_opening {
    struct cache__journal_reader reader;
    uint64_t *numbers; /* all segments' */
    size_t n_numbers, room;
};

CACHE_COLD int cache__journal_by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

CACHE_COLD int cache__journal_add_number(struct cache__journal_opening *o,
                                         uint64_t number)
{
    struct cache_journal *j = o->reader.j;

    if (o->n_numbers == o->room) {
        size_t room = o->room == 0 ? 64 : 2 * o->room;
        uint64_t *numbers = (uint64_t *)cache__journal_alloc(j, room * 8);

        if (numbers == NULL)
            return cache__journal_fail(j, CACHE_ENOMEM, j->directory, NULL);
        if (o->n_numbers > 0)
            memcpy(numbers, o->numbers, o->n_numbers * 8);
        cache__journal_free(j, o->numbers);
        o->numbers = numbers;
        o->room = room;
    }
    o->numbers[o->n_numbers++] = number;
    return 0;
}

/* The number in a segment's name, 0 if it is another file's. */
CACHE_COLD uint64_t cache__journal_number_of(struct cache_journal *j,
                                             const char *name)
{
    const char *base;
    uint64_t number = 0;
    size_t len, i;

    j->name[j->path_len] = '\0';
    base = strrchr(j->name, '/') ? strrchr(j->name, '/') + 1 : j->name;
    len = strlen(base);
    if (strncmp(name, base, len) != 0 || name[len] != '.')
        return 0;
    for (i = len + 1; name[i] >= '0' && name[i] <= '9' && i < len + 20; i++)
        number = 10 * number + (uint64_t)(name[i] - '0');
    /* Only the name that we give it. */
    (void)cache__journal_name(j, number);
    return strcmp(name, base) == 0 ? number : 0;
}

CACHE_COLD int cache__journal_list(struct cache__journal_opening *o)
{
    struct cache_journal *j = o->reader.j;
    DIR *dir = opendir(j->directory);
    struct dirent *entry;
    uint64_t number;
    int rc = 0;

    if (dir == NULL)
        return cache__journal_fail(j, cache__journal_status(), j->directory,
                                   strerror(errno));
    errno = 0;
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        number = cache__journal_number_of(j, entry->d_name);
        if (number != 0)
            rc = cache__journal_add_number(o, number);
        errno = 0;
    }
    if (rc == 0 && errno != 0)
        rc = cache__journal_fail(j, CACHE_EIO, j->directory, strerror(errno));
    (void)closedir(dir);
    if (o->n_numbers > 0) {
        qsort(o->numbers, o->n_numbers, 8, cache__journal_by_number);
        j->number = o->numbers[o->n_numbers - 1];
    }
    return rc;
}

/* The journal's id, from the oldest segment that begins with a valid block: so
 * a value that looks like a header is not taken for one. */
CACHE_COLD int cache__journal_find_id(struct cache__journal_opening *o)
{
    struct cache__journal_reader *r = &o->reader;
    struct cache__journal_block block;
    const unsigned char *p;
    int rc = 0, found;
    size_t i;

    for (i = 0; i < o->n_numbers && rc == 0 && r->j->id == 0; i++) {
        rc = cache__journal_enter(r, o->numbers[i]);
        if (rc == 0)
            rc = cache__journal_block_at(r, 0, &block, &found, &p);
        if (rc == 0 && found == 2 &&
            (rc = cache__journal_see(r, 0, CACHE_JOURNAL_HEADER, &p)) == 0)
            r->j->id = cache__journal_get64(p + 8);
    }
    return rc;
}

CACHE_COLD bool cache__journal_exists(const struct cache__journal_opening *o,
                                      uint64_t number)
{
    return o->n_numbers > 0 && bsearch(&number, o->numbers, o->n_numbers, 8,
                                       cache__journal_by_number) != NULL;
}

/* Follows the segments back from the newest that has a valid header: each names
 * the one before it.  What is not on this way was given up or is torn. */
CACHE_COLD int cache__journal_follow(struct cache__journal_opening *o)
{
    struct cache_journal *j = o->reader.j;
    struct cache__journal_block block;
    struct cache_journal_segment segment;
    uint64_t at = UINT64_MAX, end = UINT64_MAX, number = 0;
    size_t i = o->n_numbers;
    int rc = 0;

    while (i > 0 && at == UINT64_MAX && rc == 0) {
        number = o->numbers[--i];
        rc = cache__journal_enter(&o->reader, number);
        if (rc == 0)
            rc = cache__journal_search(&o->reader, 0, &block, &at);
        if (rc == 0 && at == UINT64_MAX)
            rc = cache__journal_check_torn(&o->reader);
    }
    while (rc == 0 && at != UINT64_MAX) {
        memset(&segment, 0, sizeof segment);
        segment.number = number;
        segment.end = end; /* UINT64_MAX: whatever it turns out to have */
        segment.previous = block.previous;
        segment.previous_bytes = block.previous_bytes;
        rc = cache__journal_reserve(j);
        if (rc != 0)
            return cache__journal_fail(j, rc, j->name, NULL);
        j->segments[j->n_segments++] = segment;
        if (block.previous >= number ||
            !cache__journal_exists(o, block.previous))
            break;
        number = block.previous;
        end = block.previous_bytes;
        rc = cache__journal_enter(&o->reader, number);
        if (rc == 0)
            rc = cache__journal_search(&o->reader, 0, &block, &at);
        if (rc == 0 && at == UINT64_MAX)
            rc = cache__journal_damaged(&o->reader, 0, "no valid block");
    }
    for (i = 0; i < j->n_segments / 2; i++) { /* oldest first */
        segment = j->segments[i];
        j->segments[i] = j->segments[j->n_segments - 1 - i];
        j->segments[j->n_segments - 1 - i] = segment;
    }
    return rc;
}

/* --- opening: what is in them -------------------------------------------- */

/* The block at `at` is not valid: is it damaged, or the end? */
CACHE_COLD int cache__journal_judge(struct cache__journal_reader *r,
                                    uint64_t at, int found,
                                    const struct cache__journal_block *block)
{
    struct cache__journal_block later;
    uint64_t later_at;
    int rc;

    rc = cache__journal_search(
        r, found ? at + CACHE_JOURNAL_HEADER + block->n_bytes : at + 1, &later,
        &later_at);
    if (rc == 0 && later_at != UINT64_MAX)
        rc = cache__journal_damaged(r, at, "damaged, and a valid block after");
    return rc;
}

/* Reads a segment and finds its end.  The newest one's may be torn. */
CACHE_COLD int cache__journal_verify(struct cache__journal_reader *r,
                                     struct cache_journal_segment *s)
{
    struct cache_journal *j = r->j;
    struct cache__journal_block block;
    const unsigned char *records;
    uint64_t at = 0, end = s->end;
    int found, rc = cache__journal_enter(r, s->number);

    while (rc == 0 && at < end) {
        rc = cache__journal_block_at(r, at, &block, &found, &records);
        if (rc == 0 && found != 2) {
            if (end != UINT64_MAX)
                return cache__journal_damaged(
                    r, at, "damaged, and a valid segment after");
            rc = cache__journal_judge(r, at, found, &block);
            break;
        }
        if (rc != 0)
            break;
        if (!cache__journal_is_sound(&block, records) ||
            block.previous != s->previous ||
            block.previous_bytes != s->previous_bytes)
            return cache__journal_damaged(r, at, "not what was written");
        if (s == j->segments && at == 0)
            j->written = block.before; /* what is before it is not there */
        if (block.before != j->written || block.stored < j->recorded)
            return cache__journal_damaged(r, at, "does not follow the last");
        s->last_block = at;
        s->last = j->written = block.last;
        j->recorded = block.stored;
        j->ends_empty = block.n_records == 0;
        at += CACHE_JOURNAL_HEADER + block.n_bytes;
    }
    if (rc == 0 && end != UINT64_MAX && at != end)
        rc = cache__journal_damaged(r, end, "does not end here");
    s->end = at;
    return rc;
}

/* The room in path.lock for two notes. */
CACHE_COLD int cache__journal_reserve_notes(struct cache_journal *j)
{
    struct stat file;
    uint64_t at;
    int rc = 0;

    if (fstat(j->lock_fd, &file) != 0)
        return CACHE_EIO;
    memset(j->mark.bytes, 0, CACHE_JOURNAL_HEADER);
    for (at = 0; at <= CACHE__JOURNAL_NOTE && rc == 0;
         at += CACHE__JOURNAL_NOTE)
        if ((uint64_t)file.st_size < at + CACHE_JOURNAL_HEADER)
            rc = cache__journal_write(j->lock_fd, j->mark.bytes,
                                      CACHE_JOURNAL_HEADER, at);
    return rc;
}

/* The mark that a full disk has left in path.lock, if it is this journal's.  It
 * is made durable, as settle does with a block, and for the same reason. */
CACHE_COLD int cache__journal_noted(struct cache__journal_opening *o)
{
    struct cache__journal_reader *r = &o->reader;
    struct cache_journal *j = r->j;
    struct cache__journal_block block;
    const unsigned char *p, *last = NULL;
    uint64_t at;
    int rc;

    (void)snprintf(j->name + j->path_len, 24, ".lock");
    cache__journal_leave(r);
    rc = cache__journal_reserve_notes(j);
    if (rc != 0)
        return cache__journal_fail(j, rc, j->name, strerror(errno));
    r->fd = j->lock_fd;
    r->len = 0;
    rc = cache__journal_see(r, 0, CACHE__JOURNAL_NOTE + CACHE_JOURNAL_HEADER,
                            &p);
    r->fd = -1;
    for (at = 0; rc == 0 && at <= CACHE__JOURNAL_NOTE;
         at += CACHE__JOURNAL_NOTE)
        if (j->id != 0 && cache__journal_decode(j, p + at, 0, at, &block) &&
            block.stored > j->recorded && block.stored <= j->written) {
            j->recorded = block.stored;
            j->note_at = CACHE__JOURNAL_NOTE - at; /* the other */
            last = p + at;
        }
    if (last != NULL) {
        rc = cache__journal_write(j->lock_fd, last, CACHE_JOURNAL_HEADER,
                                  (uint64_t)(last - p));
        if (rc == 0)
            rc = cache__journal_sync(j->lock_fd, false);
        if (rc != 0)
            (void)cache__journal_fail(j, rc, j->name, strerror(errno));
    }
    return rc;
}

/* Reads all segments.  Nothing has been changed or replayed yet. */
CACHE_COLD int cache__journal_verify_all(struct cache__journal_opening *o)
{
    struct cache_journal *j = o->reader.j;
    struct cache__journal_block block;
    const unsigned char *p;
    int rc = 0, found = 0;
    size_t i;

    j->ends_empty = true;
    for (i = 0; i < j->n_segments && rc == 0; i++)
        rc = cache__journal_verify(&o->reader, &j->segments[i]);
    if (rc == 0)
        rc = cache__journal_noted(o);
    if (rc != 0 || j->n_segments == 0)
        return rc;
    /* Those before the first are gone, because the store has all that is in
     * them; that was recorded before. */
    if (j->segments[0].previous != 0) {
        rc = cache__journal_enter(&o->reader, j->segments[0].number);
        if (rc == 0)
            rc = cache__journal_block_at(&o->reader, 0, &block, &found, &p);
        if (rc == 0 && (found != 2 || block.before > j->recorded))
            rc = cache__journal_damaged(&o->reader, 0,
                                        "the segment before is missing");
    }
    if (rc == 0 && j->segments[j->n_segments - 1].end == 0)
        j->n_segments--; /* torn before it had a block */
    return rc;
}

/* Gives the caller what the store does not have. */
CACHE_COLD int cache__journal_replay(
    struct cache__journal_opening *o,
    int (*replay)(const struct cache_store_item *item, void *user), void *user)
{
    struct cache_journal *j = o->reader.j;
    struct cache__journal_block block;
    struct cache_store_item item;
    const unsigned char *p;
    uint64_t at;
    size_t i, left, bytes;
    int rc = 0, found;

    for (i = 0; i < j->n_segments && rc == 0; i++) {
        if (j->segments[i].last <= j->recorded)
            continue;
        rc = cache__journal_enter(&o->reader, j->segments[i].number);
        for (at = 0; rc == 0 && at < j->segments[i].end;
             at += CACHE_JOURNAL_HEADER + block.n_bytes) {
            rc = cache__journal_block_at(&o->reader, at, &block, &found, &p);
            if (rc == 0 && found != 2)
                rc = cache__journal_damaged(&o->reader, at, "it changes");
            if (rc != 0)
                return rc;
            for (left = block.n_bytes; left > 0; p += bytes, left -= bytes) {
                bytes = cache__journal_record(p, left, &item);
                if (item.version <= j->recorded)
                    continue;
                rc = replay(&item, user);
                if (rc < 0)
                    return cache__journal_fail(j, rc, j->name, NULL);
                rc = 0;
                j->stats.n_replayed++;
            }
        }
    }
    return rc;
}

/* Makes the names durable that there are now, and that there are no others. */
CACHE_COLD int cache__journal_sync_names(struct cache_journal *j)
{
    int rc = cache__journal_sync(j->directory_fd, false);

    return rc == 0 ? 0 : cache__journal_fail(j, rc, j->directory, NULL);
}

/* Makes what was read durable, which it need not be: a process that was killed
 * has not synced it, or has and was told that it failed.  In that case the
 * system may take the pages for clean, so the last block is written again.  The
 * names come last: what is to be deleted may be stored according to a segment
 * that nobody has synced the name of. */
CACHE_COLD int cache__journal_settle(struct cache__journal_opening *o)
{
    struct cache__journal_reader *r = &o->reader;
    struct cache_journal *j = r->j;
    const unsigned char *p;
    size_t i, bytes;
    int rc = 0;

    for (i = 0; i < j->n_segments && rc == 0; i++) {
        struct cache_journal_segment *s = &j->segments[i];
        bool newest = i + 1 == j->n_segments;

        rc = cache__journal_enter(r, s->number);
        if (rc != 0)
            break;
        if (r->size > s->end)
            rc = cache__journal_cut(r->fd, s->end);
        if (rc == 0 && newest) {
            bytes = (size_t)(s->end - s->last_block);
            rc = cache__journal_see(r, s->last_block, bytes, &p);
            if (rc == 0)
                rc = cache__journal_write(r->fd, p, bytes, s->last_block);
        }
        if (rc == 0)
            rc = cache__journal_sync(r->fd, false);
        if (rc != 0 && j->message[0] == '\0')
            (void)cache__journal_fail(j, rc, j->name, NULL);
    }
    return rc != 0 ? rc : cache__journal_sync_names(j);
}

/* Deletes what has no part in the journal.  If it cannot, there is no harm: new
 * segments have higher numbers. */
CACHE_COLD void cache__journal_tidy(struct cache__journal_opening *o)
{
    struct cache_journal *j = o->reader.j;
    size_t i, k = 0;

    for (i = 0; i < o->n_numbers; i++) {
        while (k < j->n_segments && j->segments[k].number < o->numbers[i])
            k++;
        if (k == j->n_segments || j->segments[k].number != o->numbers[i])
            (void)CACHE_JOURNAL_UNLINK(cache__journal_name(j, o->numbers[i]));
    }
}

CACHE_COLD int cache__journal_read(
    struct cache_journal *j,
    int (*replay)(const struct cache_store_item *item, void *user), void *user)
{
    struct cache__journal_opening o;
    int rc;

    memset(&o, 0, sizeof o);
    o.reader.j = j;
    o.reader.fd = -1;
    rc = cache__journal_list(&o);
    if (rc == 0)
        rc = cache__journal_find_id(&o);
    if (rc == 0)
        rc = cache__journal_follow(&o);
    if (rc == 0)
        rc = cache__journal_verify_all(&o);
    /* Durable first: what replay gives to a store must not be lost here, or its
     * seq would be given to another write. */
    if (rc == 0)
        rc = cache__journal_settle(&o);
    if (rc == 0)
        rc = cache__journal_replay(&o, replay, user);
    if (rc == 0) {
        cache__journal_tidy(&o);
        cache__journal_delete_stored(j);
        rc = cache__journal_sync_names(j);
    }
    cache__journal_leave(&o.reader);
    cache__journal_free(j, o.reader.bytes);
    cache__journal_free(j, o.numbers);
    if (j->id == 0)
        j->id = cache__random_seed(j) | 1;
    return rc;
}

/* --- committing ---------------------------------------------------------- */

/* Begins a segment.  Nothing of it is durable before its first commit is. */
CACHE_COLD int cache__journal_create(struct cache_journal *j)
{
    int rc = cache__journal_reserve(j);

    if (rc != 0)
        return rc;
    memset(&j->now, 0, sizeof j->now);
    j->now.number = ++j->number;
    if (j->n_segments > 0) {
        j->now.previous = j->segments[j->n_segments - 1].number;
        j->now.previous_bytes = j->segments[j->n_segments - 1].end;
    }
    j->fd = cache__journal_open_file(cache__journal_name(j, j->now.number),
                                     O_RDWR | O_CREAT | O_EXCL);
    return j->fd >= 0 ? 0 : cache__journal_status();
}

/* Ends with the current segment.  One without a durable block is deleted. */
CACHE_COLD void cache__journal_end_segment(struct cache_journal *j)
{
    if (j->fd < 0)
        return;
    (void)CACHE_JOURNAL_CLOSE(j->fd);
    j->fd = -1;
    if (j->now.end == 0)
        (void)CACHE_JOURNAL_UNLINK(cache__journal_name(j, j->now.number));
}

/* Gives the segment up after a failure: the next one says where it ends, so it
 * does no harm if the rest cannot be cut off. */
CACHE_COLD void cache__journal_abandon(struct cache_journal *j)
{
    (void)cache__journal_cut(j->fd, j->now.end);
    cache__journal_end_segment(j);
    j->n_abandoned++;
}

/* Writes the buffer's records, or none, as one block and has it durable. */
CACHE_COLD int cache__journal_commit(struct cache_journal *j,
                                     const struct cache_journal_buffer *b,
                                     uint64_t stored)
{
    struct cache__journal_block block;
    size_t bytes = CACHE_JOURNAL_HEADER + b->used;
    int rc = 0;

    if (j->fd >= 0 && j->now.end >= j->config.segment_bytes)
        cache__journal_end_segment(j);
    if (j->fd < 0)
        rc = cache__journal_create(j);
    if (rc != 0)
        return rc;
    block.previous = j->now.previous;
    block.previous_bytes = j->now.previous_bytes;
    block.before = j->written;
    block.last = b->used > 0 ? b->last : j->written;
    block.stored = stored < block.last ? stored : block.last;
    block.n_bytes = (uint32_t)b->used;
    block.n_records = b->n_records;
    block.crc =
        cache__journal_crc(j->crc, b->bytes + CACHE_JOURNAL_HEADER, b->used);
    cache__journal_encode(j, b->bytes, j->now.number, j->now.end, &block);

    rc = cache__journal_write(j->fd, b->bytes, bytes, j->now.end);
    if (rc != 0) { /* what cannot be cut off is written over */
        (void)cache__journal_cut(j->fd, j->now.end);
        return rc;
    }
    if (!j->config.process_only) {
        rc = cache__journal_sync(j->fd, true);
        if (rc == 0 && j->now.end == 0) /* the segment's name */
            rc = cache__journal_sync(j->directory_fd, false);
        if (rc != 0) {
            cache__journal_abandon(j);
            return rc;
        }
    }
    if (j->now.end == 0)
        j->segments[j->n_segments++] = j->now;
    j->now.end += bytes;
    j->now.last = j->written = block.last;
    j->segments[j->n_segments - 1] = j->now;
    j->recorded = block.stored;
    j->ends_empty = b->used == 0;
    return 0;
}

/* Notes the mark in path.lock, which has room for it: on a full disk no commit
 * can, and what is stored could not be deleted to make room.  The last note
 * that was durable is left alone: segments may be gone because of it. */
CACHE_COLD int cache__journal_note_stored(struct cache_journal *j,
                                          uint64_t stored)
{
    struct cache__journal_block block;
    int rc;

    memset(&block, 0, sizeof block);
    block.before = block.last = j->written;
    block.stored = stored < j->written ? stored : j->written;
    cache__journal_encode(j, j->mark.bytes, 0, j->note_at, &block);
    rc = cache__journal_write(j->lock_fd, j->mark.bytes, CACHE_JOURNAL_HEADER,
                              j->note_at);
    if (rc == 0 && !j->config.process_only)
        rc = cache__journal_sync(j->lock_fd, true);
    if (rc != 0)
        return rc;
    j->recorded = block.stored;
    j->note_at = CACHE__JOURNAL_NOTE - j->note_at;
    return 0;
}

/* --- the thread ---------------------------------------------------------- */

CACHE_COLD uint64_t cache__journal_oldest_last(const struct cache_journal *j)
{
    return j->n_segments > 1 ? j->segments[0].last : UINT64_MAX;
}

/* Under the lock: what the thread alone knows, for the others. */
CACHE_COLD void cache__journal_publish(struct cache_journal *j)
{
    j->oldest_last = cache__journal_oldest_last(j);
    j->stats.n_segments = j->n_segments;
    j->stats.n_abandoned = j->n_abandoned;
    j->stats.n_deleted = j->n_deleted;
}

/* A time this many milliseconds from now, for a condition. */
CACHE_COLD struct timespec cache__journal_after(uint64_t ms)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* What is to be committed now, or NULL: the buffer that fills, the one that has
 * failed, or an empty block for the sake of its mark. */
CACHE_COLD struct cache_journal_buffer *
cache__journal_work(struct cache_journal *j)
{
    if (j->retry)
        return &j->buffers[!j->active];
    if (j->buffers[j->active].used > 0)
        return &j->buffers[j->active];
    if (j->stored >= j->oldest_last && j->recorded < j->oldest_last)
        return &j->mark;
    if (j->closing && (!j->ends_empty || j->recorded < j->stored))
        return &j->mark;
    return NULL;
}

/* Waits for something to commit.  NULL = it is time to end. */
CACHE_COLD struct cache_journal_buffer *
cache__journal_await_work(struct cache_journal *j)
{
    struct cache_journal_buffer *work;
    struct timespec until;
    int rc = 0;

    if (j->failing && !j->hurry && !j->closing) {
        until = cache__journal_after(CACHE_JOURNAL_RETRY_MS);
        while (rc != ETIMEDOUT && !j->hurry && !j->closing)
            rc = pthread_cond_timedwait(&j->wake, &j->lock, &until);
    }
    while ((work = cache__journal_work(j)) == NULL && !j->closing)
        (void)pthread_cond_wait(&j->wake, &j->lock);
    if (j->closing && j->n_last_chance == 2)
        return NULL;
    if (work == &j->buffers[j->active])
        j->active = !j->active;
    j->hurry = false;
    return work;
}

/* The lock is held again: tells everybody how a commit has ended. */
CACHE_COLD void cache__journal_ended(struct cache_journal *j,
                                     struct cache_journal_buffer *b, int rc)
{
    j->n_ended = j->n_begun;
    j->failing = rc != 0;
    if (rc != 0) {
        j->failed = j->n_ended;
        j->failed_status = rc;
        j->retry = j->retry || b != &j->mark;
        j->n_last_chance += j->closing;
        j->stats.n_failed++;
    } else {
        if (b != &j->mark)
            j->retry = false;
        j->stats.n_commits++;
        j->stats.n_durable += b->n_records;
        j->stats.n_bytes += CACHE_JOURNAL_HEADER + b->used;
        b->used = 0;
        b->n_records = 0;
        j->n_last_chance = 0;
        __atomic_store_n(&j->durable, j->written, __ATOMIC_RELEASE);
    }
    cache__journal_publish(j);
    (void)pthread_cond_broadcast(&j->done[j->n_ended & 1]);
}

CACHE_COLD void *cache__journal_thread(void *user)
{
    struct cache_journal *j = (struct cache_journal *)user;
    struct cache_journal_buffer *b;
    uint64_t stored;
    int rc;

    (void)pthread_mutex_lock(&j->lock);
    while ((b = cache__journal_await_work(j)) != NULL) {
        stored = j->stored;
        j->n_begun++;
        (void)pthread_mutex_unlock(&j->lock);
        rc = cache__journal_commit(j, b, stored);
        if (rc == 0 ||
            (rc == CACHE_EFULL && stored >= cache__journal_oldest_last(j) &&
             cache__journal_note_stored(j, stored) == 0))
            cache__journal_delete_stored(j);
        (void)pthread_mutex_lock(&j->lock);
        cache__journal_ended(j, b, rc);
        if (j->config.on_commit != NULL) {
            (void)pthread_mutex_unlock(&j->lock);
            j->config.on_commit(__atomic_load_n(&j->durable, __ATOMIC_RELAXED),
                                rc, j->config.user);
            (void)pthread_mutex_lock(&j->lock);
        }
        if (j->listener != NULL)
            j->listener(j->listener_user);
    }
    j->stopped = true;
    (void)pthread_cond_broadcast(&j->done[0]);
    (void)pthread_cond_broadcast(&j->done[1]);
    (void)pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* Starts the thread.  Signals are for the program's own threads. */
CACHE_COLD int cache__journal_start(struct cache_journal *j)
{
    pthread_condattr_t monotonic;
    sigset_t all, before;
    int rc;

    if (pthread_condattr_init(&monotonic) != 0)
        return CACHE_ENOMEM;
    rc = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_mutex_init(&j->lock, NULL);
    if (rc == 0)
        rc = pthread_cond_init(&j->wake, &monotonic);
    if (rc == 0)
        rc = pthread_cond_init(&j->done[0], &monotonic);
    if (rc == 0)
        rc = pthread_cond_init(&j->done[1], &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (rc != 0)
        return CACHE_ENOMEM;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&j->thread, NULL, cache__journal_thread, j);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : CACHE_ENOMEM;
}

/* --- opening: the rest --------------------------------------------------- */

/* Fills in the defaults.  Returns 0 or what is wrong. */
CACHE_COLD int cache__journal_config(struct cache_journal_config *c)
{
    if (c->path == NULL || c->path[0] == '\0' ||
        c->path[strlen(c->path) - 1] == '/')
        return CACHE_EPATH;
    if ((c->alloc == NULL) != (c->free == NULL))
        return CACHE_EALLOCATOR;
    if (c->segment_bytes == 0)
        c->segment_bytes = CACHE_JOURNAL_DEFAULT_SEGMENT_BYTES;
    if (c->buffer_bytes == 0)
        c->buffer_bytes = CACHE_JOURNAL_DEFAULT_BUFFER_BYTES;
    if (c->buffer_bytes <= CACHE_JOURNAL_RECORD ||
        c->buffer_bytes > CACHE_JOURNAL_MAX_BUFFER_BYTES ||
        c->segment_bytes > (uint64_t)INT64_MAX / 2)
        return CACHE_ELIMIT;
    return 0;
}

/* The block of memory, and what is in it: tables, header, buffers, names. */
CACHE_COLD int cache__journal_set_up(struct cache_journal *j)
{
    const char *path = j->config.path, *slash = strrchr(path, '/');
    size_t buffer = CACHE_JOURNAL_HEADER + j->config.buffer_bytes;
    size_t len = strlen(path), i;
    unsigned char *p;

    p = (unsigned char *)cache__journal_alloc(
        j, sizeof *j->crc + CACHE_JOURNAL_HEADER + 2 * buffer + 2 * len + 32);
    if (p == NULL)
        return CACHE_ENOMEM;
    j->memory = p;
    j->crc = (struct cache_journal_crc *)j->memory;
    cache__journal_crc_init(j->crc);
    p += sizeof *j->crc;
    j->mark.bytes = p;
    p += CACHE_JOURNAL_HEADER;
    for (i = 0; i < 2; i++, p += buffer)
        j->buffers[i].bytes = p;
    j->name = (char *)p;
    j->path_len = len;
    memcpy(j->name, path, len + 1);
    j->directory = j->name + len + 24;
    /* "x" is in ".", "/x" in "/", "a/x" in "a/" */
    len = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    memcpy(j->directory, slash == NULL ? "." : path, len > 0 ? len : 1);
    j->directory[len > 0 ? len : 1] = '\0';
    return 0;
}

CACHE_COLD int cache__journal_take_lock(struct cache_journal *j)
{
    int rc;

    (void)snprintf(j->name + j->path_len, 24, ".lock");
    j->directory_fd =
        cache__journal_open_file(j->directory, O_RDONLY | O_DIRECTORY);
    if (j->directory_fd >= 0)
        j->lock_fd = cache__journal_open_file(j->name, O_RDWR | O_CREAT);
    if (j->directory_fd < 0 || j->lock_fd < 0) {
        rc = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ||
                     errno == EISDIR || errno == ELOOP
                 ? CACHE_EPATH
                 : cache__journal_status();
        return cache__journal_fail(j, rc,
                                   j->directory_fd < 0 ? j->directory : j->name,
                                   strerror(errno));
    }
    do
        rc = CACHE_JOURNAL_FLOCK(j->lock_fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    rc = errno == EWOULDBLOCK ? CACHE_ELOCKED : cache__journal_status();
    return cache__journal_fail(j, rc, j->name, strerror(errno));
}

CACHE_COLD void cache__journal_release(struct cache_journal *j)
{
    if (j->lock_fd >= 0)
        (void)CACHE_JOURNAL_CLOSE(j->lock_fd); /* with it the lock */
    if (j->directory_fd >= 0)
        (void)CACHE_JOURNAL_CLOSE(j->directory_fd);
    cache__journal_free(j, j->segments);
    cache__journal_free(j, j->memory);
    j->lock_fd = j->directory_fd = -1;
    j->segments = NULL;
    j->memory = NULL;
}

/* Whether the journal is open; if so it stays until leave_open. */
CACHE_COLD bool cache__journal_enter_open(struct cache_journal *j)
{
    (void)__atomic_fetch_add(&j->n_inside, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&j->is_open, __ATOMIC_SEQ_CST))
        return true;
    (void)__atomic_fetch_sub(&j->n_inside, 1, __ATOMIC_SEQ_CST);
    return false;
}

CACHE_COLD void cache__journal_leave_open(struct cache_journal *j)
{
    (void)__atomic_fetch_sub(&j->n_inside, 1, __ATOMIC_SEQ_CST);
}

/* --- public -------------------------------------------------------------- */

/*
 * Opens or makes a journal: takes its lock, reads it, gives every write above
 * the stored mark to `replay`, oldest first, with `version` as its seq; cuts a
 * torn tail off and starts the thread.
 * Returns 0; CACHE_EINVAL (NULL); CACHE_EPATH (no path or no such directory),
 * CACHE_EALLOCATOR, CACHE_ELIMIT; CACHE_EACCESS; CACHE_ELOCKED (open already,
 * here or elsewhere); CACHE_ECORRUPT; CACHE_EFULL, CACHE_EIO, CACHE_ENOMEM; or
 * what replay has returned, if negative.  On error nothing is open, what the
 * files hold is as it was, and j->message has a sentence.
 * Lifetime: config is copied; an item and its bytes live during the call of
 * replay, which must not call the journal.
 */
CACHE_COLD int cache_journal_open(
    struct cache_journal *j, const struct cache_journal_config *config,
    int (*replay)(const struct cache_store_item *item, void *user), void *user)
{
    int rc;

    if (j == NULL)
        return CACHE_EINVAL;
    memset(j, 0, sizeof *j);
    j->fd = j->lock_fd = j->directory_fd = -1;
    if (config != NULL)
        j->config = *config;
    rc = config == NULL || replay == NULL ? CACHE_EINVAL
                                          : cache__journal_config(&j->config);
    if (rc == 0)
        rc = cache__journal_set_up(j);
    if (rc == 0)
        rc = cache__journal_take_lock(j);
    j->config.path = NULL; /* the caller's; used no more */
    if (rc == 0)
        rc = cache__journal_read(j, replay, user);
    if (rc == 0) {
        j->appended = j->durable = j->written;
        j->stored = j->recorded;
        cache__journal_publish(j);
        rc = cache__journal_start(j);
    }
    if (rc != 0) {
        if (j->message[0] == '\0')
            (void)snprintf(j->message, sizeof j->message, "%s",
                           cache_strerror(rc));
        cache__journal_release(j);
        return rc;
    }
    __atomic_store_n(&j->is_open, true, __ATOMIC_SEQ_CST);
    return 0;
}

/*
 * The highest seq that the journal has or had: versions go on from there.
 * Threads: any, without a lock; also after close.
 */
CACHE_COLD uint64_t cache_journal_last(const struct cache_journal *j)
{
    return __atomic_load_n(&j->appended, __ATOMIC_ACQUIRE);
}

/*
 * The last durable seq: every write up to it is safe.
 * Threads: any, without a lock; also after close.
 */
CACHE_COLD uint64_t cache_journal_durable(const struct cache_journal *j)
{
    return __atomic_load_n(&j->durable, __ATOMIC_ACQUIRE);
}

/* What append does, under the lock. */
CACHE_COLD int cache__journal_append(struct cache_journal *j,
                                     const struct cache_store_item *item,
                                     size_t value_len,
                                     struct cache_journal_ticket *ticket)
{
    struct cache_journal_buffer *b = &j->buffers[j->active];
    size_t bytes = CACHE_JOURNAL_RECORD + item->key.len + value_len;
    unsigned char *p = b->bytes + CACHE_JOURNAL_HEADER + b->used;

    if (item->version <= j->appended)
        return CACHE_EINVAL;
    j->hurry = j->failing;
    if (j->hurry || b->used == 0)
        (void)pthread_cond_signal(&j->wake);
    if (bytes > j->config.buffer_bytes - b->used) {
        j->stats.n_refused++;
        return CACHE_EFULL;
    }
    cache__journal_put64(p, item->version);
    cache__journal_put64(p + 8,
                         item->op == CACHE_STORE_PUT ? item->expires_ms : 0);
    cache__journal_put32(p + 16, (uint32_t)item->key.len);
    cache__journal_put32(p + 20, (uint32_t)value_len);
    cache__journal_put32(p + 24, (uint32_t)item->op);
    p += CACHE_JOURNAL_RECORD;
    memcpy(p, item->key.data, item->key.len);
    if (value_len > 0)
        memcpy(p + item->key.len, item->value.data, value_len);
    b->used += bytes;
    b->n_records++;
    b->last = item->version;
    __atomic_store_n(&j->appended, item->version, __ATOMIC_RELEASE);
    j->stats.n_appended++;
    if (ticket != NULL) {
        ticket->seq = item->version;
        ticket->attempt = j->n_begun + 1;
    }
    return 0;
}

/*
 * Takes a write: op PUT or REMOVE, key, value and expires_ms are copied;
 * version is its seq and must be above that of every earlier one.  It is
 * durable when cache_journal_durable or wait says so.  *ticket is for wait;
 * NULL = not needed.
 * Returns 0; CACHE_EINVAL (NULL, another op, an empty key, or a version that is
 * not above cache_journal_last); CACHE_ETOOBIG (key and value do not fit
 * buffer_bytes - CACHE_JOURNAL_RECORD); CACHE_EFULL (no room in the buffer now:
 * after the next commit there is); CACHE_ECLOSED.  On error nothing is taken.
 * Threads: any.  It never waits for the disk.
 */
CACHE_COLD int cache_journal_append(struct cache_journal *j,
                                    const struct cache_store_item *item,
                                    struct cache_journal_ticket *ticket)
{
    size_t max, value_len;
    int rc;

    if (j == NULL || item == NULL || item->key.len == 0 ||
        (item->op != CACHE_STORE_PUT && item->op != CACHE_STORE_REMOVE))
        return CACHE_EINVAL;
    if (!cache__journal_enter_open(j))
        return CACHE_ECLOSED;
    value_len = item->op == CACHE_STORE_PUT ? item->value.len : 0;
    max = j->config.buffer_bytes - CACHE_JOURNAL_RECORD;
    if (item->key.len > max || value_len > max - item->key.len) {
        rc = CACHE_ETOOBIG;
    } else {
        (void)pthread_mutex_lock(&j->lock);
        rc = j->closing ? CACHE_ECLOSED
                        : cache__journal_append(j, item, value_len, ticket);
        (void)pthread_mutex_unlock(&j->lock);
    }
    cache__journal_leave_open(j);
    return rc;
}

/* What wait does, under the lock. */
CACHE_COLD int cache__journal_wait(struct cache_journal *j,
                                   struct cache_journal_ticket *ticket,
                                   uint64_t timeout_ms)
{
    bool forever = timeout_ms > (uint64_t)1000 * 3600 * 24 * 365;
    struct timespec until = cache__journal_after(forever ? 0 : timeout_ms);
    uint64_t next;
    int rc = 0;

    if (ticket->seq > j->appended)
        return CACHE_EINVAL;
    for (;;) {
        if (ticket->seq <= j->durable)
            return 0;
        if (j->failed >= ticket->attempt) {
            ticket->attempt = j->failed + 1;
            return j->failed_status;
        }
        if (j->stopped)
            return CACHE_ECLOSED;
        if (rc == ETIMEDOUT || timeout_ms == 0)
            return CACHE_ETIMEOUT;
        if (j->failing && !j->hurry) {
            j->hurry = true;
            (void)pthread_cond_signal(&j->wake);
        }
        next = j->n_ended + 1;
        next = ticket->attempt > next ? ticket->attempt : next;
        rc = forever
                 ? pthread_cond_wait(&j->done[next & 1], &j->lock)
                 : pthread_cond_timedwait(&j->done[next & 1], &j->lock, &until);
    }
}

/*
 * Blocks until the ticket's write is durable, timeout_ms milliseconds at most:
 * 0 = looks only, CACHE_NEVER = for ever.
 * Returns 0; CACHE_ETIMEOUT; CACHE_EFULL, CACHE_EIO, ... when a commit that
 * began after the append has failed (wait again with the same ticket, and it
 * waits for the next one); CACHE_ECLOSED (closed before it was durable);
 * CACHE_EINVAL (NULL, or no write has this seq yet); CACHE_EBUSY (called by
 * on_commit).
 * Threads: any but the journal's own, each with a ticket of its own.
 */
CACHE_COLD int cache_journal_wait(struct cache_journal *j,
                                  struct cache_journal_ticket *ticket,
                                  uint64_t timeout_ms)
{
    int rc;

    if (j == NULL || ticket == NULL)
        return CACHE_EINVAL;
    if (cache_journal_durable(j) >= ticket->seq)
        return 0;
    if (!cache__journal_enter_open(j))
        return CACHE_ECLOSED;
    if (pthread_equal(pthread_self(), j->thread)) {
        rc = CACHE_EBUSY;
    } else {
        (void)pthread_mutex_lock(&j->lock);
        rc = cache__journal_wait(j, ticket, timeout_ms);
        (void)pthread_mutex_unlock(&j->lock);
    }
    cache__journal_leave_open(j);
    return rc;
}

/*
 * Has listener(user) called after each commit, well or not: a bell, not a
 * message.  NULL = nobody.  It runs on the journal's thread under its lock, so
 * it must not call the journal; when this returns, no other is being called.
 * Threads: any but the journal's.
 */
CACHE_COLD void cache_journal_listen(struct cache_journal *j,
                                     void (*listener)(void *user), void *user)
{
    (void)pthread_mutex_lock(&j->lock);
    j->listener = listener;
    j->listener_user = user;
    (void)pthread_mutex_unlock(&j->lock);
}

/*
 * Says that the store has every write up to seq.  The mark is recorded with the
 * next commit; writes above the recorded one are replayed.  Segments that are
 * all stored are deleted by the journal's thread.
 * Threads: any.
 */
CACHE_COLD void cache_journal_stored(struct cache_journal *j, uint64_t seq)
{
    if (!cache__journal_enter_open(j))
        return;
    (void)pthread_mutex_lock(&j->lock);
    seq = seq < j->appended ? seq : j->appended;
    if (seq > j->stored)
        j->stored = seq;
    if (j->stored >= j->oldest_last)
        (void)pthread_cond_signal(&j->wake);
    (void)pthread_mutex_unlock(&j->lock);
    cache__journal_leave_open(j);
}

/*
 * Fills *stats.
 * Returns 0, CACHE_EINVAL (NULL) or CACHE_ECLOSED.
 * Threads: any.
 */
CACHE_COLD int cache_journal_get_stats(struct cache_journal *j,
                                       struct cache_journal_stats *stats)
{
    if (j == NULL || stats == NULL)
        return CACHE_EINVAL;
    if (!cache__journal_enter_open(j))
        return CACHE_ECLOSED;
    (void)pthread_mutex_lock(&j->lock);
    *stats = j->stats;
    (void)pthread_mutex_unlock(&j->lock);
    cache__journal_leave_open(j);
    return 0;
}

/*
 * Commits what is buffered, then an empty block so that nothing is undecidable,
 * ends the thread and gives the lock back.  A commit that fails is tried once
 * more.  Twice is harmless; so is a struct of zeroes.
 * Returns 0; or why the last commit has failed: what is above
 * cache_journal_durable may be lost, and if nothing is, the empty block is
 * missing; CACHE_EBUSY (called by on_commit: nothing is done).
 * Threads: one.  Calls of others that are under way come back first.
 */
CACHE_COLD int cache_journal_close(struct cache_journal *j)
{
    int rc;

    if (j == NULL || !__atomic_load_n(&j->is_open, __ATOMIC_SEQ_CST))
        return 0;
    if (pthread_equal(pthread_self(), j->thread))
        return CACHE_EBUSY;
    (void)pthread_mutex_lock(&j->lock);
    j->closing = true;
    (void)pthread_cond_signal(&j->wake);
    (void)pthread_mutex_unlock(&j->lock);
    (void)pthread_join(j->thread, NULL);
    __atomic_store_n(&j->is_open, false, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&j->n_inside, __ATOMIC_SEQ_CST) != 0)
        (void)sched_yield();
    rc = j->failing ? j->failed_status : 0;
    cache__journal_end_segment(j);
    (void)pthread_cond_destroy(&j->done[1]);
    (void)pthread_cond_destroy(&j->done[0]);
    (void)pthread_cond_destroy(&j->wake);
    (void)pthread_mutex_destroy(&j->lock);
    cache__journal_release(j);
    return rc;
}

#endif /* CACHE_JOURNAL_H */
