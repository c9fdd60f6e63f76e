/*
 * test_files.c - examples/files.h over calls of libuv's that fail, and that
 * read less than they were asked for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <unistd.h>
#include <uv.h>

#include "test.h"

static int open_file(uv_loop_t *loop, uv_fs_t *req, const char *path, int flags,
                     int mode, uv_fs_cb cb);
static int stat_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd, uv_fs_cb cb);
static int read_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd,
                     const uv_buf_t *bufs, unsigned n, int64_t at, uv_fs_cb cb);
static int close_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd, uv_fs_cb cb);

#define uv_fs_open open_file
#define uv_fs_fstat stat_file
#define uv_fs_read read_file
#define uv_fs_close close_file
#include "../examples/files.h"
#undef uv_fs_open
#undef uv_fs_fstat
#undef uv_fs_read
#undef uv_fs_close

static uv_fs_type fails; /* this one, UV_FS_UNKNOWN = none */
static int n_reads;
static unsigned most = 1u << 30; /* bytes that a read brings */

static void step(uv_fs_t *req)
{
    if (req->fs_type == fails) {
        if (fails == UV_FS_OPEN && req->result >= 0)
            (void)close((int)req->result);
        req->result = UV_EIO;
    }
    file_load_step(req);
}

static int open_file(uv_loop_t *loop, uv_fs_t *req, const char *path, int flags,
                     int mode, uv_fs_cb cb)
{
    CHECK(cb == file_load_step);
    return fails == UV_FS_CUSTOM
               ? UV_ENOMEM
               : uv_fs_open(loop, req, path, flags, mode, step);
}

static int stat_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd, uv_fs_cb cb)
{
    CHECK(cb == file_load_step);
    return uv_fs_fstat(loop, req, fd, step);
}

static int read_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd,
                     const uv_buf_t *bufs, unsigned n, int64_t at, uv_fs_cb cb)
{
    uv_buf_t less = *bufs;

    CHECK(cb == file_load_step && n == 1 && at == -1);
    n_reads++;
    if (less.len > most)
        less.len = most;
    return uv_fs_read(loop, req, fd, &less, 1, -1, step);
}

static int close_file(uv_loop_t *loop, uv_fs_t *req, uv_file fd, uv_fs_cb cb)
{
    CHECK(cb == file_load_step);
    return uv_fs_close(loop, req, fd, step);
}

static uv_loop_t loop;
static struct files files;
static struct files_async async;
static uint64_t now_ms;
static char path[] = "/tmp/test_files_XXXXXX";
static int last_status;

static uint64_t now(void *user)
{
    (void)user;
    return now_ms;
}

static void found(struct files_request *req, int status)
{
    (void)req;
    last_status = status;
}

/* Loads, or takes what is there.  *file is the cache's. */
static int get(const char *name, struct file **file)
{
    static struct files_request req;
    int rc = files_fetch(&async, &req, name, file, found);

    if (rc != 0)
        return rc < 0 ? rc : req.base.status;
    last_status = 77;
    while (last_status == 77)
        CHECK(uv_run(&loop, UV_RUN_ONCE) >= 0);
    return last_status;
}

static void start(const char *content)
{
    struct cache_loading_config config = files_config;
    FILE *file = fopen(path, "w");

    CHECK(file != NULL && fputs(content, file) >= 0 && fclose(file) == 0);
    fails = UV_FS_UNKNOWN;
    most = 1u << 30;
    n_reads = 0;
    now_ms = 1;
    config.cache.now = now;
    CHECK_EQ(uv_loop_init(&loop), 0);
    CHECK_EQ(files_init(&files, &config), 0);
    CHECK_EQ(files_async_init(&async, &loop, &files, &files_async_config,
                              &files_loader),
             0);
}

static void finish(void)
{
    CHECK_EQ(cache_async_close(&async.base, NULL), 0);
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK_SOUND(files_check(&files));
    files_destroy(&files);
    CHECK_EQ(uv_loop_close(&loop), 0);
    CHECK_EQ(files_held, 0);
}

static void reads_in_pieces(void)
{
    static const char text[] = "it is a long way to the end of this file";
    struct file *file;

    for (most = 1; most < sizeof text; most += 3) {
        unsigned bytes = most;

        start(text);
        most = bytes;
        CHECK_EQ(get(path, &file), CACHE_FOUND);
        CHECK_EQ(file->n_bytes, sizeof text - 1);
        CHECK(memcmp(file->bytes, text, file->n_bytes) == 0);
        CHECK_EQ(n_reads, (sizeof text - 2 + bytes) / bytes);
        finish();
    }
}

static void every_step_fails(void)
{
    static const uv_fs_type steps[] = { UV_FS_CUSTOM, UV_FS_OPEN, UV_FS_FSTAT,
                                        UV_FS_READ, UV_FS_CLOSE };
    struct file *file;
    size_t i;

    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        start("text");
        fails = steps[i];
        CHECK_EQ(get(path, &file), i == 0 ? UV_ENOMEM : UV_EIO);
        CHECK_EQ(files_held, 0);
        fails = UV_FS_UNKNOWN;
        CHECK(get(path, &file) < 0); /* nobody tries at once */
        now_ms += 1000;
        CHECK_EQ(get(path, &file), CACHE_FOUND);
        now_ms += 20000; /* older than stale, but better than nothing */
        fails = steps[i];
        CHECK_EQ(get(path, &file), CACHE_FOUND_STALE);
        CHECK_EQ(file->n_bytes, 4);
        CHECK_EQ(files_held, 4);
        finish();
    }
}

static void is_there_or_not(void)
{
    struct file *file, *held;

    start("text");
    CHECK_EQ(get("/tmp", &file), CACHE_EKEY);
    CHECK_EQ(get("/dev/null", &file), CACHE_EKEY);
    CHECK_EQ(get(path, &held), CACHE_FOUND);
    held->n_users++;
    CHECK_EQ(unlink(path), 0);
    now_ms += 1000;
    CHECK_EQ(get(path, &file), CACHE_FOUND_STALE);
    CHECK(file == held);
    while (uv_loop_alive(&loop)) /* it is looked for meanwhile */
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_EQ(get(path, &file), CACHE_EKEY);
    CHECK(memcmp(held->bytes, "text", 4) == 0); /* ours is left */
    file_drop(held);
    finish();
}

static const struct test tests[] = { TEST(reads_in_pieces),
                                     TEST(every_step_fails),
                                     TEST(is_there_or_not) };

int main(int argc, char **argv)
{
    int fd = mkstemp(path), rc;

    if (fd < 0 || close(fd) != 0)
        return 1;
    rc = TEST_MAIN(argc, argv, tests);
    (void)unlink(path);
    return rc;
}
