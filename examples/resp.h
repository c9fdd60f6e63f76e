/*
 * resp.h - the protocol of Redis, RESP2 and RESP3, as a server speaks it on one
 * connection; without input and output.
 *
 * What comes in is put at the end of one buffer and parsed there: resp_next goes
 * on where it was when bytes were missing, and a command's arguments are found
 * by their place in that buffer.  Replies gather in another one.
 *
 *   while (resp_next(r) > 0)      // a command is complete
 *       resp_run(r, &table);      // calls the function of that name
 *   resp_end(r);
 *   // then r->out is to be sent; r->state says if that is the end
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef RESP_H
#define RESP_H

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "cache.h"

#define RESP_MAX_BULK (16u << 20)    /* bytes of an argument */
#define RESP_MAX_REQUEST (64u << 20) /* bytes of a command with its arguments */
#define RESP_MAX_INLINE (64u << 10)  /* bytes of an inline command */
#define RESP_MAX_ARGS (1 << 20)
#define RESP_MAX_OUTPUT (64u << 20) /* bytes of replies that wait to be taken */
#define RESP_BUFFER (16u << 10)     /* what a buffer has at first */
#define RESP_KEEP (64u << 10)       /* a larger buffer is freed once empty */

struct resp_buffer {
    char *data;
    size_t len, size;
};

struct resp_argument {
    uint32_t at, len; /* from the start of its command */
};

enum resp_state {
    RESP_OPEN,
    RESP_ENDED,  /* no command is taken; to be closed once `out` is sent */
    RESP_DROPPED /* to be closed now: there was no room for replies */
};

struct resp;

struct resp_command {
    const char *name; /* in lower case */
    int arity;        /* arguments, the name is one of them; -n = n or more */
    void (*run)(struct resp *r); /* gives one reply */
    int64_t detail; /* what sets it apart from others that `run` does */
};

/* Commands by name: at most half of the places are taken. */
struct resp_table {
    const struct resp_command *commands[256];
    int n;
};

/* The state of one connection; zeroes to begin with. */
struct resp {
    void *data;                         /* the owner's */
    const struct resp_command *command; /* that runs */
    struct resp_buffer in;              /* what came and is not done */
    struct resp_buffer out;             /* replies to be sent */
    size_t start;               /* in `in`: of the command that is parsed */
    size_t at;                  /* from there: what is not parsed yet */
    struct resp_argument *args; /* that are parsed */
    size_t n_args, max_args;    /* of them; for which there is room */
    size_t n_wanted;            /* that the command has; 0 = not yet known */
    size_t unsent;              /* bytes of replies that have left `out` and are
                                   not taken; they count for RESP_MAX_OUTPUT */
    size_t n_commands;          /* that were complete */
    const char *violation;      /* of the protocol; NULL = none */
    bool complete;              /* the command is */
    bool resp3;                 /* replies are in RESP3 */
    enum resp_state state;
};

/* --- buffers ------------------------------------------------------------- */

/* Room for n bytes behind those in the buffer; NULL = out of memory. */
static inline char *resp_room(struct resp_buffer *b, size_t n)
{
    if (b->size - b->len < n) {
        size_t size = b->size ? 2 * b->size : RESP_BUFFER;
        char *data;
        if (size < b->len + n)
            size = b->len + n;
        data = (char *)realloc(b->data, size);
        if (data == NULL)
            return NULL;
        b->data = data;
        b->size = size;
    }
    return b->data + b->len;
}

static inline void resp_drop(struct resp_buffer *b)
{
    free(b->data);
    *b = (struct resp_buffer) { NULL, 0, 0 };
}

/* Takes the first n bytes out. */
static inline void resp_consume(struct resp_buffer *b, size_t n)
{
    b->len -= n;
    if (b->len == 0 && b->size > RESP_KEEP)
        resp_drop(b);
    else if (b->len > 0 && n > 0)
        memmove(b->data, b->data + n, b->len);
}

static inline void resp_free(struct resp *r)
{
    resp_drop(&r->in);
    resp_drop(&r->out);
    free(r->args);
}

/* --- replies ------------------------------------------------------------- */

/* Room for a reply; NULL = none, and the connection is dropped. */
static inline char *resp_reply_room(struct resp *r, size_t n)
{
    char *data = NULL;

    if (r->state != RESP_DROPPED &&
        r->out.len + r->unsent + n <= RESP_MAX_OUTPUT)
        data = resp_room(&r->out, n);
    if (data == NULL) {
        r->state = RESP_DROPPED;
        r->out.len = 0;
    }
    return data;
}

/* A reply of one line, as it is but for its end. */
static inline void resp_line(struct resp *r, const char *line)
{
    size_t n = strlen(line);
    char *to = resp_reply_room(r, n + 2);

    if (to == NULL)
        return;
    memcpy(to, line, n);
    memcpy(to + n, "\r\n", 2);
    r->out.len += n + 2;
}

/* An error; what the client sent may be part of it. */
__attribute__((format(printf, 2, 3))) static inline void
resp_error(struct resp *r, const char *format, ...)
{
    char line[256] = "-", *p;
    va_list args;

    va_start(args, format);
    vsnprintf(line + 1, sizeof line - 1, format, args);
    va_end(args);
    for (p = line; *p != '\0'; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    resp_line(r, line);
}

/* Kind, number and end of line; 23 characters at most.  Returns its end. */
static inline char *resp_put_number(char *to, char kind, int64_t number)
{
    uint64_t n = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char digits[20], *p = digits + sizeof digits;

    *to++ = kind;
    if (number < 0)
        *to++ = '-';
    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    while (p < digits + sizeof digits)
        *to++ = *p++;
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

/* ':' is a number, '*' the head of an array of n. */
static inline void resp_number(struct resp *r, char kind, int64_t n)
{
    char *to = resp_reply_room(r, 32);

    if (to != NULL)
        r->out.len += (size_t)(resp_put_number(to, kind, n) - to);
}

/* The head of a map of n pairs. */
static inline void resp_map(struct resp *r, int64_t n)
{
    resp_number(r, r->resp3 ? '%' : '*', r->resp3 ? n : 2 * n);
}

/* A string of any bytes; NULL = there is none. */
static inline void resp_bytes(struct resp *r, const struct cache_bytes *bytes)
{
    char *to, *p;

    if (bytes == NULL) {
        resp_line(r, r->resp3 ? "_" : "$-1");
        return;
    }
    to = resp_reply_room(r, bytes->len + 32);
    if (to == NULL)
        return;
    p = resp_put_number(to, '$', (int64_t)bytes->len);
    memcpy(p, bytes->data, bytes->len);
    memcpy(p + bytes->len, "\r\n", 2);
    r->out.len += (size_t)(p - to) + bytes->len + 2;
}

static inline void resp_text(struct resp *r, const char *text)
{
    resp_bytes(r, &(struct cache_bytes) { text, strlen(text) });
}

/* --- arguments ----------------------------------------------------------- */

/* Valid until resp_end. */
static inline struct cache_bytes resp_arg(const struct resp *r, size_t i)
{
    return (struct cache_bytes) { r->in.data + r->start + r->args[i].at,
                                  r->args[i].len };
}

/* Whether argument i is this word, in any case. */
static inline bool resp_is(const struct resp *r, size_t i, const char *word)
{
    struct cache_bytes text = resp_arg(r, i);

    return text.len == strlen(word) &&
           strncasecmp((const char *)text.data, word, text.len) == 0;
}

/* Only the shortest way to write a number is one. */
static inline bool resp_to_number(struct cache_bytes text, int64_t *number)
{
    const char *p = (const char *)text.data, *end = p + text.len;
    bool negative = text.len > 1 && *p == '-';
    uint64_t n = 0, limit = (uint64_t)INT64_MAX + negative;

    p += negative;
    if (p == end || (*p == '0' && text.len > 1))
        return false;
    for (; p < end; p++) {
        unsigned digit = (unsigned)*p - '0';
        if (digit > 9 || n > (limit - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *number = (int64_t)(negative ? 0 - n : n);
    return true;
}

/* The part of a pattern that stands for one character: its end if it stands
 * for this one, else NULL. */
static inline const char *resp_match_one(const char *p, const char *end, char c)
{
    bool invert, found = false;

    if (*p == '\\' && p + 1 < end)
        return p[1] == c ? p + 2 : NULL;
    if (*p != '[')
        return *p == '?' || *p == c ? p + 1 : NULL;
    invert = ++p < end && *p == '^';
    for (p += invert; p < end && *p != ']'; p++) {
        unsigned char first, last;
        if (*p == '\\' && p + 1 < end)
            p++;
        first = last = (unsigned char)*p;
        if (end - p > 2 && p[1] == '-')
            last = (unsigned char)*(p += 2);
        found |= (first <= (unsigned char)c && (unsigned char)c <= last) ||
                 (last <= (unsigned char)c && (unsigned char)c <= first);
    }
    return found != invert ? p + (p < end) : NULL;
}

/* Whether a text matches a pattern with * ? [a-z] [^x] and \. */
static inline bool resp_matches(struct cache_bytes pattern,
                                struct cache_bytes text)
{
    const char *p = (const char *)pattern.data, *p_end = p + pattern.len;
    const char *t = (const char *)text.data, *t_end = t + text.len;
    const char *star = NULL, *star_text = NULL, *next;

    while (t < t_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            star_text = t;
        } else if (p < p_end && (next = resp_match_one(p, p_end, *t)) != NULL) {
            p = next;
            t++;
        } else if (star != NULL) { /* the last * takes one more */
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}

/* --- requests ------------------------------------------------------------ */

/* n bytes have come, into the room behind `in`; what nobody will hear is not
 * kept. */
static inline void resp_received(struct resp *r, size_t n)
{
    if (r->state == RESP_OPEN)
        r->in.len += n;
}

static inline int resp_violated(struct resp *r, const char *what)
{
    r->violation = what;
    return -1;
}

static inline int resp_complete(struct resp *r)
{
    r->complete = true;
    r->n_commands++;
    return 1;
}

/* A line of `kind` and a number.  1, 0 = its end is missing, -1 = it is not. */
static inline int resp_parse_number(struct resp *r, char kind, int64_t *number)
{
    const char *line = r->in.data + r->start + r->at, *end;
    size_t n = r->in.len - r->start - r->at;

    if (n == 0)
        return 0;
    if (*line != kind)
        return -1;
    end = (const char *)memchr(line, '\n', n < 24 ? n : 24);
    if (end == NULL)
        return n < 24 ? 0 : -1;
    if (end - line < 3 || end[-1] != '\r' ||
        !resp_to_number(
            (struct cache_bytes) { line + 1, (size_t)(end - line) - 2 },
            number))
        return -1;
    r->at += (size_t)(end + 1 - line);
    return 1;
}

static inline int resp_add_arg(struct resp *r, size_t at, size_t len)
{
    if (r->n_args == r->max_args) {
        size_t max = r->max_args ? 2 * r->max_args : 8;
        void *args = realloc(r->args, max * sizeof *r->args);
        if (args == NULL)
            return resp_violated(r, "out of memory");
        r->args = (struct resp_argument *)args;
        r->max_args = max;
    }
    r->args[r->n_args++] =
        (struct resp_argument) { (uint32_t)at, (uint32_t)len };
    return 1;
}

/* Words between blanks, up to the end of the line. */
static inline int resp_parse_inline(struct resp *r)
{
    const char *line = r->in.data + r->start, *end;
    size_t n = r->in.len - r->start, word = 0, i;

    end = (const char *)memchr(line, '\n', n);
    if (end != NULL)
        n = (size_t)(end + 1 - line);
    if (n > RESP_MAX_INLINE)
        return resp_violated(r, "too big inline request");
    if (end == NULL)
        return 0;
    for (i = 0; i < n; i++) {
        if (memchr(" \t\r\n", line[i], 4) == NULL)
            continue;
        if (i > word && resp_add_arg(r, word, i - word) < 0)
            return -1;
        word = i + 1;
    }
    r->at = n;
    return resp_complete(r);
}

/* The arguments that are missing. */
static inline int resp_parse_args(struct resp *r)
{
    while (r->n_args < r->n_wanted) {
        size_t at = r->at;
        int64_t n = 0;
        int rc = resp_parse_number(r, '$', &n);
        if (rc < 0 || n < 0 || n > RESP_MAX_BULK)
            return resp_violated(r, "invalid bulk length");
        if (rc == 0)
            return 0;
        if (r->at + (size_t)n > RESP_MAX_REQUEST)
            return resp_violated(r, "too big request");
        if (r->in.len - r->start - r->at < (size_t)n + 2) {
            r->at = at;
            return 0;
        }
        if (memcmp(r->in.data + r->start + r->at + n, "\r\n", 2) != 0)
            return resp_violated(r, "string without its end");
        if (resp_add_arg(r, r->at, (size_t)n) < 0)
            return -1;
        r->at += (size_t)n + 2;
    }
    return resp_complete(r);
}

/* Goes on to the next command.  1 = it is complete, with n_args arguments,
 * perhaps none; 0 = bytes are missing, -1 = there is none any more. */
static inline int resp_next(struct resp *r)
{
    int64_t n = 0;
    int rc;

    if (r->state != RESP_OPEN || r->violation)
        return -1;
    if (r->complete) {
        r->start += r->at;
        r->at = r->n_args = r->n_wanted = 0;
        r->complete = false;
    }
    if (r->n_wanted == 0) {
        if (r->in.len == r->start)
            return 0;
        if (r->in.data[r->start] != '*')
            return resp_parse_inline(r);
        rc = resp_parse_number(r, '*', &n);
        if (rc < 0 || n > RESP_MAX_ARGS)
            return resp_violated(r, "invalid multibulk length");
        if (rc == 0)
            return 0;
        r->n_wanted = n > 0 ? (size_t)n : 0;
    }
    return resp_parse_args(r);
}

/* Goes on to the next command only if it is complete and, but for its last
 * argument, byte by byte the same as this one, which has at least two. */
static inline bool resp_next_alike(struct resp *r)
{
    const struct resp_argument *before = &r->args[r->n_args - 2];
    const char *command = r->in.data + r->start;
    size_t head = before->at + before->len + 2;

    if (r->n_wanted == 0 || r->in.len - r->start - r->at < head ||
        memcmp(command, command + r->at, head) != 0)
        return false;
    r->start += r->at;
    r->at = head;
    r->n_args--;
    r->complete = false;
    return resp_parse_args(r) > 0;
}

/* To be called when there is no further command: says what is wrong with it,
 * and makes room for what comes. */
static inline void resp_end(struct resp *r)
{
    if (r->violation && r->state == RESP_OPEN) {
        resp_error(r, "ERR Protocol error: %s", r->violation);
        if (r->state == RESP_OPEN)
            r->state = RESP_ENDED;
    }
    resp_consume(&r->in, r->start);
    r->start = 0;
    if (r->n_args == 0 && r->max_args > 1024) {
        free(r->args);
        r->args = NULL;
        r->max_args = 0;
    }
}

/* --- commands ------------------------------------------------------------ */

/* The place of a name of 1 to 31 characters, in any case, or the one that is
 * free for it. */
static inline const struct resp_command **
resp_place(struct resp_table *table, const char *name, size_t len)
{
    /* What tells most names apart; 5 bits of a letter are without its case. */
    unsigned at = ((unsigned)name[0] & 31) * 37 +
                  ((unsigned)name[len - 1] & 31) * 5 + (unsigned)len;

    for (;; at++) {
        const struct resp_command **place = &table->commands[at % 256];
        if (*place == NULL || (strlen((*place)->name) == len &&
                               strncasecmp((*place)->name, name, len) == 0))
            return place;
    }
}

static inline void resp_add(struct resp_table *table,
                            const struct resp_command *commands, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        *resp_place(table, commands[i].name, strlen(commands[i].name)) =
            &commands[i];
    table->n += (int)n;
}

/* Runs the command that is complete. */
static inline void resp_run(struct resp *r, struct resp_table *table)
{
    struct cache_bytes name =
        r->n_args > 0 ? resp_arg(r, 0) : (struct cache_bytes) { "", 0 };
    int arity;

    r->command = NULL;
    if (name.len > 0 && name.len < 32)
        r->command = *resp_place(table, (const char *)name.data, name.len);
    arity = r->command ? r->command->arity : 0;
    if (r->command == NULL && r->n_args > 0)
        resp_error(r, "ERR unknown command '%.*s'",
                   (int)(name.len < 128 ? name.len : 128),
                   (const char *)name.data);
    else if (arity > 0 ? r->n_args != (size_t)arity
                       : r->n_args < (size_t)-arity)
        resp_error(r, "ERR wrong number of arguments for '%s' command",
                   r->command->name);
    else if (r->command != NULL)
        r->command->run(r);
}

#endif /* RESP_H */
