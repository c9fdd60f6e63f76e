/*
 * fake_journal.h - cache_journal.h as the front and the loop half know it,
 * without a thread or a file: its commits are events of a simulation.  To be
 * included before anything that includes cache_journal.h.
 *
 *   fake_journal_commit(fails)   one attempt to commit begins and ends
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef FAKE_JOURNAL_H
#define FAKE_JOURNAL_H
#define CACHE_JOURNAL_H

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "cache_store.h"

struct cache_journal_config {
    const char *path;
    void *(*alloc)(size_t bytes, void *user);
    void (*free)(void *memory, void *user);
    void *user;
};

struct cache_journal_ticket {
    uint64_t seq, attempt;
};

struct cache_journal {
    uint64_t appended, durable, stored;
    uint64_t n_ended, failed; /* attempts; the last one that failed */
    uint64_t n_failed;
    uint64_t room; /* writes that wait for a commit at most */
    int status;    /* of that one */
    bool open, fails_at_close;
    void (*listener)(void *user);
    void *listener_user;
};

static struct cache_journal *fake_journal; /* the one that is open */

static inline int cache_journal_open(
    struct cache_journal *j, const struct cache_journal_config *config,
    int (*replay)(const struct cache_store_item *item, void *user), void *user)
{
    (void)config;
    (void)replay;
    (void)user;
    memset(j, 0, sizeof *j);
    j->room = UINT64_MAX;
    j->open = true;
    fake_journal = j;
    return 0;
}

static inline uint64_t cache_journal_last(const struct cache_journal *j)
{
    return j->appended;
}

static inline uint64_t cache_journal_durable(const struct cache_journal *j)
{
    return j->durable;
}

static inline int cache_journal_append(struct cache_journal *j,
                                       const struct cache_store_item *item,
                                       struct cache_journal_ticket *ticket)
{
    if (!j->open)
        return CACHE_ECLOSED;
    if (item->version <= j->appended)
        return CACHE_EINVAL;
    if (j->appended - j->durable >= j->room)
        return CACHE_EFULL;
    j->appended = item->version;
    ticket->seq = item->version;
    ticket->attempt = j->n_ended + 1;
    return 0;
}

/* It never waits here. */
static inline int cache_journal_wait(struct cache_journal *j,
                                     struct cache_journal_ticket *ticket,
                                     uint64_t timeout_ms)
{
    (void)timeout_ms;
    if (ticket->seq > j->appended)
        return CACHE_EINVAL;
    if (ticket->seq <= j->durable)
        return 0;
    if (j->failed >= ticket->attempt) {
        ticket->attempt = j->failed + 1;
        return j->status;
    }
    return j->open ? CACHE_ETIMEOUT : CACHE_ECLOSED;
}

static inline void cache_journal_listen(struct cache_journal *j,
                                        void (*listener)(void *user),
                                        void *user)
{
    j->listener = listener;
    j->listener_user = user;
}

static inline void cache_journal_stored(struct cache_journal *j, uint64_t seq)
{
    seq = seq < j->appended ? seq : j->appended;
    if (j->open && seq > j->stored)
        j->stored = seq;
}

static inline void fake_journal_commit(struct cache_journal *j, bool fails)
{
    j->n_ended++;
    if (fails) {
        j->failed = j->n_ended;
        j->n_failed++;
        j->status = CACHE_EIO;
    } else {
        j->durable = j->appended;
    }
    if (j->listener)
        j->listener(j->listener_user);
}

static inline int cache_journal_close(struct cache_journal *j)
{
    if (!j->open)
        return 0;
    fake_journal_commit(j, j->fails_at_close);
    j->open = false;
    fake_journal = NULL;
    return j->fails_at_close ? CACHE_EIO : 0;
}

#endif /* FAKE_JOURNAL_H */
