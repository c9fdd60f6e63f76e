/* files.h - files in a loading cache, for static_http.c: each is read once
 * however many ask for it, good for a second, and then served stale while it is
 * read anew; that a file is not there is remembered, too.
 *
 * A value is a pointer to a file with a count of its users: the cache is one,
 * and whoever sends it another, so that eviction cuts nobody off.  Files up to
 * MAX_KEPT are kept; larger ones up to MAX_FILE are read for those who ask. */
#ifndef FILES_H
#define FILES_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cache_async.h"
#include "http.h"

enum {
    MAX_KEPT = 1 << 20, /* bytes of a file in the cache, */
    MAX_CACHE = 64 << 20,
    MAX_FILE = 32 << 20, /* of any file, */
    MAX_HELD = 256 << 20 /* of all there are, sent or cached */
};

struct file {
    uint32_t n_users;
    size_t n_bytes;
    char etag[64], modified[32]; /* as HTTP wants them */
    char bytes[];
};

static size_t files_held; /* bytes of all files there are */

static void file_drop(struct file *file)
{
    if (file == NULL || --file->n_users > 0)
        return;
    files_held -= file->n_bytes;
    free(file);
}

/* Room for a file; its bytes are to be read.  Returns 0, or why not. */
static int file_make(struct file **out, const uv_stat_t *st)
{
    const size_t n = (size_t)st->st_size;
    struct file *file;

    if (!S_ISREG(st->st_mode))
        return CACHE_EKEY;
    if (st->st_size > MAX_FILE)
        return UV_EFBIG;
    file = n > MAX_HELD - files_held ? NULL : malloc(sizeof *file + n);
    if (file == NULL)
        return UV_ENOMEM;
    files_held += n;
    file->n_users = 1;
    file->n_bytes = n;
    snprintf(file->etag, sizeof file->etag, "\"%zx-%lx-%lx\"", n,
             (unsigned long)st->st_mtim.tv_sec,
             (unsigned long)st->st_mtim.tv_nsec);
    http_date(file->modified, sizeof file->modified, st->st_mtim.tv_sec);
    *out = file;
    return 0;
}

static int path_copy(const char **path, void *user)
{
    (void)user;
    *path = strdup(*path);
    return *path ? 0 : CACHE_ENOMEM;
}

static void path_free(const char **path, void *user)
{
    (void)user;
    free((void *)(uintptr_t)*path);
}

static uint64_t file_weigh(const char *const *path, struct file *const *file,
                           void *user)
{
    (void)user;
    return (*file)->n_bytes > MAX_KEPT /* too heavy: it is not kept */
               ? CACHE_NEVER
               : sizeof **file + (*file)->n_bytes + strlen(*path) + 1;
}

static void file_left(const char *const *path, struct file **file,
                      enum cache_cause cause, void *user)
{
    (void)path;
    (void)cause;
    (void)user;
    file_drop(*file);
}

CACHE_DEFINE_LOADING_WITH(files, const char *, struct file *, cache_hash_str,
                          cache_equal_str, CACHE_WEIGHED, .key_copy = path_copy,
                          .key_free = path_free, .on_remove = file_left,
                          .weigh = file_weigh);
CACHE_ASYNC_DEFINE(files);

/* --- loading: open, fstat, read, close ----------------------------------- */

struct file_load {
    uv_fs_t fs; /* first */
    struct files_batch *batch;
    size_t i; /* in the batch */
    size_t n_read;
    struct file *file;
    uv_file fd;
    int status;
};

static void file_load_end(struct file_load *load)
{
    if (load->status == UV_ENOENT || load->status == UV_ENOTDIR ||
        load->status == UV_EACCES || load->status == UV_ENAMETOOLONG)
        load->status = CACHE_EKEY; /* all else may pass */
    if (load->status == 0) {
        files_loaded(load->batch, load->i, load->file);
    } else {
        file_drop(load->file);
        files_load_failed(load->batch, load->i, load->status);
    }
    free(load);
}

/* A step is done: begins the next. */
static void file_load_step(uv_fs_t *fs)
{
    struct file_load *load = (struct file_load *)fs;
    int result = (int)fs->result;
    uv_buf_t rest;

    uv_fs_req_cleanup(fs);
    if (result < 0 && load->status == 0)
        load->status = result;
    switch (fs->fs_type) {
    case UV_FS_OPEN:
        load->fd = result;
        if (result < 0)
            file_load_end(load);
        else
            uv_fs_fstat(fs->loop, fs, load->fd, file_load_step);
        return;
    case UV_FS_FSTAT:
        if (result == 0)
            load->status = file_make(&load->file, &fs->statbuf);
        break;
    case UV_FS_READ:
        if (result == 0)
            load->status = UV_EAGAIN; /* it became shorter meanwhile */
        load->n_read += result > 0 ? (size_t)result : 0;
        break;
    default: /* it is closed */ file_load_end(load); return;
    }
    if (load->status == 0 && load->n_read < load->file->n_bytes) {
        rest = uv_buf_init(load->file->bytes + load->n_read,
                           (unsigned)(load->file->n_bytes - load->n_read));
        uv_fs_read(fs->loop, fs, load->fd, &rest, 1, -1, file_load_step);
    } else {
        uv_fs_close(fs->loop, fs, load->fd, file_load_step);
    }
}

static void file_load(struct files_async *a, struct files_batch *b, size_t i)
{
    struct file_load *load = calloc(1, sizeof *load);
    int rc = UV_ENOMEM;

    if (load != NULL) {
        load->batch = b;
        load->i = i;
        rc = uv_fs_open(a->base.loop, &load->fs, b->keys[i],
                        O_RDONLY | O_NONBLOCK, 0, file_load_step);
    }
    if (rc != 0) {
        free(load);
        files_load_failed(b, i, rc);
    }
}

static const struct files_loader files_loader = { .load_one = file_load };

static const struct cache_loading_config files_config = {
    .cache = { .capacity = 10000, .max_bytes = MAX_CACHE },
    .freshness = { .ttl_ms = 1000,
                   .stale_ms = 10000,
                   .stale_if_error_ms = 60000,
                   .negative_ttl_ms = 1000,
                   .error_ttl_ms = 1000 }
};

static const struct cache_async_config files_async_config = {
    .max_batch = 8, /* 8 files in each of 8 batches are open at most */
    .max_batches = 8,
    .timeout_ms = 10000,            /* of a client */
    .close_timeout_ms = CACHE_NEVER /* what is being read cannot be cancelled */
};

#endif /* FILES_H */
