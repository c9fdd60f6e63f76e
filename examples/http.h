/* http.h - what static_http.c has to know of HTTP/1.1: requests without a body,
 * taken apart strictly, so that nobody in front of it can read them in another
 * way, and the heads of answers.  Left out: targets with a host (http://..),
 * connections of HTTP/1.0 that stay open, lists in Connection. */
#ifndef HTTP_H
#define HTTP_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* What was asked; its strings are in the text that was parsed. */
struct http_request {
    bool is_head; /* not GET */
    bool keep;    /* the connection is to stay open */
    char *path;   /* decoded; begins with a slash, no part of it with a dot */
    const char *if_none_match, *if_modified_since; /* "" = there is none */
};

/* What it points to stays as it is until `done`. */
struct http_answer {
    const char *status, *type; /* "200 OK", "text/plain" */
    const char *fields;        /* more lines of the head */
    const char *body;
    size_t n_bytes;
    void (*done)(void *data); /* it is sent, or never will be; or NULL */
    void *data;
};

/* Decodes a target in place, up to its query.  Returns NULL, or what is wrong. */
static inline const char *http_decode(char *target)
{
    char *in, *out = target, hex[3] = "";
    bool escaped;

    for (in = target; *in != '\0' && *in != '?'; in += escaped ? 3 : 1) {
        escaped = *in == '%';
        if (escaped &&
            !(isxdigit((unsigned char)in[1]) && isxdigit((unsigned char)in[2])))
            return "400 Bad Request";
        if (escaped)
            memcpy(hex, in + 1, 2);
        *out = escaped ? (char)strtoul(hex, NULL, 16) : *in;
        if (*out++ == '\0')
            return "400 Bad Request";
    }
    *out = '\0';
    if (*target != '/')
        return "400 Bad Request";
    /* "..", too, and what is hidden; after the decoding, not before. */
    return strstr(target, "/.") ? "404 Not Found" : NULL;
}

/* Takes the lines of a head apart: each ends with CR LF, and the empty one is
 * cut off.  Returns NULL, or the status to refuse the request with. */
static inline const char *http_parse(struct http_request *r, char *text)
{
    char *end = strstr(text, "\r\n"), *line, *value, *target, *version;
    bool has_host, closes;

    memset(r, 0, sizeof *r);
    r->if_none_match = r->if_modified_since = "";
    *end = '\0';
    target = strchr(text, ' ');
    version = target ? strchr(target + 1, ' ') : NULL;
    if (version == NULL || strncmp(version, " HTTP/1.", 8) != 0 ||
        !isdigit((unsigned char)version[8]) || version[9] != '\0' ||
        strpbrk(text, "\r\n") != NULL)
        return "400 Bad Request";
    has_host = closes = version[8] == '0';
    *target++ = *version = '\0';
    for (line = end + 2; *line != '\0'; line = end + 2) {
        end = strstr(line, "\r\n");
        *end = '\0';
        value = line + strcspn(line, ": \t");
        if (value == line || *value != ':' || strpbrk(line, "\r\n") != NULL)
            return "400 Bad Request";
        *value++ = '\0';
        value += strspn(value, " \t");
        if (strcasecmp(line, "Content-Length") == 0 ||
            strcasecmp(line, "Transfer-Encoding") == 0)
            return "413 Content Too Large";
        if (strcasecmp(line, "Host") == 0)
            has_host = true;
        else if (strcasecmp(line, "Connection") == 0)
            closes = closes || strcasecmp(value, "close") == 0;
        else if (strcasecmp(line, "If-None-Match") == 0)
            r->if_none_match = value;
        else if (strcasecmp(line, "If-Modified-Since") == 0)
            r->if_modified_since = value;
    }
    if (!has_host)
        return "400 Bad Request";
    r->keep = !closes;
    r->path = target;
    r->is_head = strcmp(text, "HEAD") == 0;
    if (!r->is_head && strcmp(text, "GET") != 0)
        return "405 Method Not Allowed";
    return http_decode(target);
}

/* The client has this already. */
static inline bool http_is_same(const struct http_request *r, const char *etag,
                                const char *modified)
{
    if (*r->if_none_match == '\0')
        return strcmp(r->if_modified_since, modified) == 0;
    return strcmp(r->if_none_match, "*") == 0 ||
           strstr(r->if_none_match, etag) != NULL;
}

static inline void http_date(char *out, size_t size, time_t seconds)
{
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        *out = '\0'; /* a year beyond all calendars */
}

static inline bool http_has_body(const struct http_request *r,
                                 const struct http_answer *answer)
{
    return !r->is_head && strncmp(answer->status, "304", 3) != 0;
}

/* The head of an answer.  Returns its bytes. */
static inline int http_print(char *out, size_t size,
                             const struct http_request *r,
                             const struct http_answer *answer)
{
    char date[32];

    http_date(date, sizeof date, time(NULL));
    return snprintf(out, size,
                    "HTTP/1.1 %s\r\nDate: %s\r\n%s%sContent-Type: %s\r\n"
                    "Content-Length: %zu\r\n\r\n",
                    answer->status, date, answer->fields,
                    r->keep ? "" : "Connection: close\r\n", answer->type,
                    answer->n_bytes);
}

static inline const char *http_type(const char *path)
{
    static const char *const types[][2] = {
        { ".html", "text/html; charset=utf-8" },
        { ".css", "text/css; charset=utf-8" },
        { ".js", "text/javascript; charset=utf-8" },
        { ".json", "application/json" },
        { ".txt", "text/plain; charset=utf-8" },
        { ".svg", "image/svg+xml" },
        { ".png", "image/png" },
        { ".jpg", "image/jpeg" },
        { ".ico", "image/x-icon" },
        { ".wasm", "application/wasm" },
    };
    const char *dot = strrchr(path, '.');
    size_t i;

    for (i = 0; dot != NULL && i < sizeof types / sizeof *types; i++)
        if (strcasecmp(dot, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

#endif /* HTTP_H */
