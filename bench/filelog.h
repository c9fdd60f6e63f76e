/*
 * filelog.h - reads a recording of file look-ups (workload.md has the format).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef FILELOG_H
#define FILELOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a look-up finds out of a file; all zero = there is no such file. */
struct file_meta {
    uint64_t size;
    uint64_t mtime_ns;
    uint32_t mode;
    uint32_t links;
};

#define FILELOG_LOOKUP 0u
#define FILELOG_PUT 1u
#define FILELOG_REMOVE 2u
#define FILELOG_ABSENT UINT32_MAX

struct filelog {
    uint32_t n_keys, n_metas, n_initial, n_events;
    uint64_t *keys;          /* hashes of paths */
    struct file_meta *metas; /* distinct metadata */
    uint32_t (*initial)[2];  /* (key, meta): files that existed before */
    uint32_t *event_key;     /* top 2 bits: what happened; index into keys */
    uint32_t *event_meta;    /* index into metas, or FILELOG_ABSENT */
};

static inline uint32_t filelog_op(const struct filelog *log, uint32_t event)
{
    return log->event_key[event] >> 30;
}

static inline uint32_t filelog_key(const struct filelog *log, uint32_t event)
{
    return log->event_key[event] & 0x3fffffffu;
}

/* The metadata with this index. */
static inline struct file_meta filelog_meta(const struct filelog *log,
                                            uint32_t meta)
{
    static const struct file_meta absent;

    return meta == FILELOG_ABSENT ? absent : log->metas[meta];
}

/* Reads `count` elements; NULL if the file ends before. */
static inline void *filelog__array(FILE *file, size_t count, size_t bytes)
{
    void *array = calloc(count ? count : 1, bytes);

    if (array != NULL && fread(array, bytes, count, file) != count) {
        free(array);
        array = NULL;
    }
    return array;
}

static inline bool filelog__in_range(const struct filelog *log)
{
    uint32_t i;

    for (i = 0; i < log->n_initial; i++)
        if (log->initial[i][0] >= log->n_keys ||
            log->initial[i][1] >= log->n_metas)
            return false;
    for (i = 0; i < log->n_events; i++)
        if (filelog_key(log, i) >= log->n_keys ||
            filelog_op(log, i) > FILELOG_REMOVE ||
            (log->event_meta[i] >= log->n_metas &&
             log->event_meta[i] != FILELOG_ABSENT))
            return false;
    return true;
}

static inline void filelog_free(struct filelog *log)
{
    free(log->keys);
    free(log->metas);
    free(log->initial);
    free(log->event_key);
    free(log->event_meta);
    memset(log, 0, sizeof *log);
}

/* Reads an unpacked recording.  Returns false if it is not a whole one. */
static inline bool filelog_read(struct filelog *log, const char *path)
{
    FILE *file = fopen(path, "rb");
    char magic[8];
    bool ok;

    memset(log, 0, sizeof *log);
    if (file == NULL)
        return false;
    ok =
        fread(magic, 1, 8, file) == 8 && memcmp(magic, "FILELOG1", 8) == 0 &&
        fread(&log->n_keys, 4, 4, file) == 4 &&
        (log->keys = (uint64_t *)filelog__array(file, log->n_keys, 8)) &&
        (log->metas = (struct file_meta *)filelog__array(
             file, log->n_metas, sizeof(struct file_meta))) &&
        (log->initial =
             (uint32_t(*)[2])filelog__array(file, log->n_initial, 8)) &&
        (log->event_key = (uint32_t *)filelog__array(file, log->n_events, 4)) &&
        (log->event_meta =
             (uint32_t *)filelog__array(file, log->n_events, 4)) &&
        filelog__in_range(log);
    fclose(file);
    if (!ok)
        filelog_free(log);
    return ok;
}

#endif /* FILELOG_H */
