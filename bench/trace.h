/*
 * trace.h - reads a trace: which keys were asked for, in order.
 *
 *   .K8        u64 key per request, little-endian, no head
 *   .K8S4      u64 key and u32 size per request; the size is ignored
 *   .filelog   a recording (workload.md); its look-ups, the changes are ignored
 *   any other  text, one key per line.  A line that is an unsigned decimal
 *              number below 2^64 is that number; any other line, the empty one
 *              too, is hashed to 64 bits (FNV-1a).  Lines may end with CR LF.
 *              A zero byte is taken as a sign that the file is not text.
 *
 * All but .filelog may be compressed: name.zst.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TRACE_H
#define TRACE_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "filelog.h"

struct trace {
    char name[128];    /* of the file, up to its first dot */
    uint64_t *keys;    /* one for each request */
    size_t n_requests; /* at least 1 */
};

/* A trace that is being read. */
struct trace__reader {
    struct trace *trace;      /* where the keys go */
    size_t max_requests;      /* what trace->keys has room for */
    FILE *file;               /* the compressed or plain bytes */
    uint64_t file_at;         /* bytes of the file that were taken */
    ZSTD_DStream *zstd;       /* NULL = the file is plain */
    unsigned char *packed;    /* compressed bytes that were read */
    ZSTD_inBuffer input;      /* of these: what zstd has not taken yet */
    bool in_frame;            /* a zstd frame has begun and not ended */
    bool out_full;            /* zstd may have more without more input */
    size_t record_bytes;      /* of one request; 0 = text */
    unsigned char *bytes;     /* content not yet parsed */
    size_t n_bytes;           /* of these there are */
    size_t max_bytes;         /* and there is room for */
    uint64_t content_at;      /* offset of bytes[0] in the content */
    const char *problem;      /* NULL, or what is wrong */
    const char *problem_unit; /* what its offset counts; NULL = it has none */
    uint64_t problem_at;      /* its offset */
};

/* Something is wrong with the file as a whole, or at what was read last. */
static inline bool trace__file_problem(struct trace__reader *r,
                                       const char *what, const char *unit)
{
    r->problem = what;
    r->problem_unit = unit;
    r->problem_at = r->file_at - (r->input.size - r->input.pos);
    return false;
}

/* Something is wrong in the content, this far behind bytes[0]. */
static inline bool trace__problem(struct trace__reader *r, const char *what,
                                  size_t at)
{
    r->problem = what;
    r->problem_unit = r->zstd ? "unpacked byte" : "byte";
    r->problem_at = r->content_at + at;
    return false;
}

/* --- bytes out of the file ----------------------------------------------- */

static inline size_t trace__read_file(struct trace__reader *r, void *to,
                                      size_t room)
{
    size_t n = fread(to, 1, room, r->file);

    if (n == 0 && ferror(r->file))
        (void)trace__file_problem(r, strerror(errno), "byte");
    r->file_at += n;
    return n;
}

/* More compressed bytes; false at the end of the file. */
static inline bool trace__refill(struct trace__reader *r)
{
    r->input.pos = r->input.size = 0;
    r->input.size = trace__read_file(r, r->packed, ZSTD_DStreamInSize());
    if (r->input.size == 0 && r->in_frame && r->problem == NULL)
        (void)trace__file_problem(r, "ends inside a zstd frame", "byte");
    return r->input.size > 0;
}

static inline size_t trace__unpack(struct trace__reader *r, void *to,
                                   size_t room)
{
    ZSTD_outBuffer output = { to, room, 0 };

    while (output.pos == 0) {
        size_t rc;

        if (r->input.pos == r->input.size && !r->out_full && !trace__refill(r))
            return 0;
        rc = ZSTD_decompressStream(r->zstd, &output, &r->input);
        if (ZSTD_isError(rc)) {
            (void)trace__file_problem(r, ZSTD_getErrorName(rc), "byte");
            return 0;
        }
        r->in_frame = rc != 0;
        r->out_full = r->in_frame && output.pos == room;
    }
    return output.pos;
}

/* Puts more content behind what is not parsed yet.  False at the end, or if
 * there is a problem. */
static inline bool trace__pull(struct trace__reader *r)
{
    size_t n;

    if (r->n_bytes == r->max_bytes) { /* a line longer than the buffer */
        size_t max = r->max_bytes ? 2 * r->max_bytes : 1 << 17;
        void *bytes = realloc(r->bytes, max);

        if (bytes == NULL)
            return trace__problem(r, "out of memory", 0);
        r->bytes = (unsigned char *)bytes;
        r->max_bytes = max;
    }
    n = (r->zstd ? trace__unpack : trace__read_file)(r, r->bytes + r->n_bytes,
                                                     r->max_bytes - r->n_bytes);
    r->n_bytes += n;
    return n > 0;
}

/* --- keys out of the bytes ----------------------------------------------- */

static inline bool trace__push(struct trace__reader *r, uint64_t key)
{
    struct trace *trace = r->trace;

    if (trace->n_requests == r->max_requests) {
        size_t max = r->max_requests ? 2 * r->max_requests : 4096;
        void *keys = max > SIZE_MAX / sizeof key
                         ? NULL
                         : realloc(trace->keys, max * sizeof key);

        if (keys == NULL)
            return trace__problem(r, "out of memory", 0);
        trace->keys = (uint64_t *)keys;
        r->max_requests = max;
    }
    trace->keys[trace->n_requests++] = key;
    return true;
}

static inline uint64_t trace__little_endian(const unsigned char *p)
{
    uint64_t key = 0;
    int i;

    for (i = 7; i >= 0; i--)
        key = key << 8 | p[i];
    return key;
}

/* Parses whole records; returns how many bytes they are. */
static inline size_t trace__take_records(struct trace__reader *r)
{
    size_t at = 0;

    for (; r->n_bytes - at >= r->record_bytes; at += r->record_bytes)
        if (!trace__push(r, trace__little_endian(r->bytes + at)))
            break;
    return at;
}

/* The key that a line of text stands for. */
static inline uint64_t trace__line_key(const unsigned char *line, size_t len)
{
    uint64_t number = 0, hash = 0xcbf29ce484222325u; /* FNV-1a */
    bool is_number = len > 0;
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned digit = line[i] - (unsigned)'0';

        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            is_number = false;
        if (is_number)
            number = number * 10 + digit;
        hash = (hash ^ line[i]) * 0x100000001b3u;
    }
    return is_number ? number : hash;
}

static inline bool trace__take_line(struct trace__reader *r, size_t at,
                                    size_t len)
{
    const unsigned char *line = r->bytes + at;
    const void *zero = memchr(line, 0, len);

    if (zero != NULL)
        return trace__problem(
            r, "a zero byte: is not text; binary traces are named .K8 or .K8S4",
            (size_t)((const unsigned char *)zero - r->bytes));
    if (len > 0 && line[len - 1] == '\r')
        len--;
    return trace__push(r, trace__line_key(line, len));
}

/* Parses whole lines, at the end of the file also one without an end. */
static inline size_t trace__take_lines(struct trace__reader *r, bool at_end)
{
    size_t at = 0;

    if (r->content_at == 0 && r->n_bytes > 1 &&
        memcmp(r->bytes, "\x1f\x8b", 2) == 0) {
        (void)trace__problem(r, "is compressed by gzip; unpack it first", 0);
        return 0;
    }
    while (at < r->n_bytes) {
        const unsigned char *end =
            (const unsigned char *)memchr(r->bytes + at, '\n', r->n_bytes - at);
        size_t len = end ? (size_t)(end - r->bytes) - at : r->n_bytes - at;

        if ((end == NULL && !at_end) || !trace__take_line(r, at, len))
            break;
        at += len + (end != NULL);
    }
    return at;
}

/* Parses all there is; what is not whole stays. */
static inline void trace__take(struct trace__reader *r, bool at_end)
{
    size_t n =
        r->record_bytes ? trace__take_records(r) : trace__take_lines(r, at_end);

    if (n > 0)
        memmove(r->bytes, r->bytes + n, r->n_bytes - n);
    r->n_bytes -= n;
    r->content_at += n;
}

/* --- a whole file -------------------------------------------------------- */

/* The length of `name` without this ending; 0 if it has another one. */
static inline size_t trace__stem(const char *name, size_t len,
                                 const char *ending)
{
    size_t n = strlen(ending);

    return len > n && memcmp(name + len - n, ending, n) == 0 ? len - n : 0;
}

static inline bool trace__open(struct trace__reader *r, const char *path)
{
    size_t stem = trace__stem(path, strlen(path), ".zst");
    size_t len = stem ? stem : strlen(path);

    r->record_bytes = trace__stem(path, len, ".K8")     ? 8
                      : trace__stem(path, len, ".K8S4") ? 12
                                                        : 0;
    r->file = fopen(path, "rb");
    if (r->file == NULL)
        return trace__file_problem(r, strerror(errno), NULL);
    if (stem == 0)
        return true;
    r->zstd = ZSTD_createDStream();
    r->packed = (unsigned char *)malloc(ZSTD_DStreamInSize());
    if (r->zstd == NULL || r->packed == NULL)
        return trace__file_problem(r, "out of memory", NULL);
    r->input.src = r->packed;
    /* Whatever zstd --long made. */
    (void)ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax,
                                 sizeof(size_t) == 4 ? 30 : 31);
    return true;
}

static inline void trace__close(struct trace__reader *r)
{
    if (r->file != NULL)
        (void)fclose(r->file);
    (void)ZSTD_freeDStream(r->zstd);
    free(r->packed);
    free(r->bytes);
}

static inline bool trace__parse(struct trace__reader *r, const char *path)
{
    if (!trace__open(r, path))
        return false;
    while (r->problem == NULL && trace__pull(r))
        trace__take(r, false);
    if (r->problem == NULL)
        trace__take(r, true);
    if (r->problem == NULL && r->n_bytes > 0)
        return trace__problem(r, "ends inside a request", r->n_bytes);
    if (r->problem == NULL && r->trace->n_requests == 0)
        return trace__problem(r, "is empty", 0);
    return r->problem == NULL;
}

static inline bool trace__parse_filelog(struct trace__reader *r,
                                        const char *path)
{
    struct filelog log;
    uint32_t i;

    r->file = fopen(path, "rb");
    if (r->file == NULL)
        return trace__file_problem(r, strerror(errno), NULL);
    if (!filelog_read(&log, path)) {
        (void)fseek(r->file, 0, SEEK_END);
        r->file_at = (uint64_t)ftell(r->file);
        return trace__file_problem(
            r, "ends and is not a whole recording (workload.md)", "byte");
    }
    for (i = 0; i < log.n_events && r->problem == NULL; i++)
        if (filelog_op(&log, i) == FILELOG_LOOKUP)
            (void)trace__push(r, filelog_key(&log, i));
    filelog_free(&log);
    if (r->problem == NULL && r->trace->n_requests == 0)
        return trace__file_problem(r, "has no look-up", NULL);
    return r->problem == NULL;
}

static inline void trace_free(struct trace *trace)
{
    free(trace->keys);
    memset(trace, 0, sizeof *trace);
}

/* Reads a file.  False if that fails or it has no request; then *trace is
 * empty and `error` a sentence that names the file and the offset. */
static inline bool trace_read(struct trace *trace, const char *path,
                              char *error, size_t error_bytes)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n_name = strcspn(base, ".") ? strcspn(base, ".") : strlen(base);
    struct trace__reader r;
    char where[64] = "";
    bool ok;

    memset(trace, 0, sizeof *trace);
    memset(&r, 0, sizeof r);
    r.trace = trace;
    (void)snprintf(trace->name, sizeof trace->name, "%.*s", (int)n_name, base);
    ok = trace__stem(path, strlen(path), ".filelog")
             ? trace__parse_filelog(&r, path)
             : trace__parse(&r, path);
    if (!ok) {
        if (r.problem_unit != NULL)
            (void)snprintf(where, sizeof where, "at %s %" PRIu64 ": ",
                           r.problem_unit, r.problem_at);
        (void)snprintf(error, error_bytes, "%s: %s%s", path, where, r.problem);
        trace_free(trace);
    }
    trace__close(&r);
    return ok;
}

static inline int trace__by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* How many keys there are in a trace; 0 = no memory to count them. */
static inline size_t trace_distinct(const struct trace *trace)
{
    size_t bytes = trace->n_requests * sizeof(uint64_t), i, n = 1;
    uint64_t *sorted = (uint64_t *)malloc(bytes);

    if (sorted == NULL)
        return 0;
    memcpy(sorted, trace->keys, bytes);
    qsort(sorted, trace->n_requests, sizeof *sorted, trace__by_key);
    for (i = 1; i < trace->n_requests; i++)
        n += sorted[i] != sorted[i - 1];
    free(sorted);
    return n;
}

#endif /* TRACE_H */
