/*
 * locker.h - another process that locks a SQLite file, as long as a test wants.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef LOCKER_H
#define LOCKER_H

#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

static inline void sleep_ms(unsigned ms)
{
    struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&pause, NULL);
}

static struct {
    pid_t pid; /* 0 = there is none */
    int to, from;
} locker;

/* In the child: executes SQL that comes as one letter, answers when it is
 * done.  Ends with the pipe. */
static inline void locker_main(const char *path, int from, int to)
{
    sqlite3 *other = NULL;
    char c;

    while (read(from, &c, 1) == 1) {
        const char *sql = c == 'x'   ? "BEGIN EXCLUSIVE"
                          : c == 'i' ? "BEGIN IMMEDIATE"
                                     : "COMMIT";

        if (other == NULL && sqlite3_open(path, &other) != SQLITE_OK)
            _exit(1);
        (void)sqlite3_busy_timeout(other, 5000);
        if (sqlite3_exec(other, sql, NULL, NULL, NULL) != SQLITE_OK)
            _exit(1);
        if (write(to, &c, 1) != 1)
            _exit(1);
        if (c == 'i') { /* gives it back soon, unasked */
            sleep_ms(100);
            (void)sqlite3_exec(other, "COMMIT", NULL, NULL, NULL);
        }
    }
    (void)sqlite3_close(other);
    _exit(0);
}

/* While there is no thread but this one: a child has only one. */
static inline void start_locker(const char *path)
{
    int to[2], from[2];

    CHECK_EQ(pipe(to), 0);
    CHECK_EQ(pipe(from), 0);
    fflush(stdout);
    locker.pid = fork();
    CHECK(locker.pid >= 0);
    if (locker.pid == 0) {
        close(to[1]);
        close(from[0]);
        locker_main(path, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    locker.to = to[1];
    locker.from = from[0];
}

/* 'x': locks the file; 'u': unlocks it; 'i': locks it for 100 ms. */
static inline void tell_locker(char c)
{
    char answer = 0;

    CHECK_EQ(write(locker.to, &c, 1), 1);
    CHECK_EQ(read(locker.from, &answer, 1), 1);
    CHECK_EQ(answer, c);
}

static inline void end_locker(void)
{
    if (locker.pid == 0)
        return;
    close(locker.to);
    close(locker.from);
    (void)waitpid(locker.pid, NULL, 0);
    locker.pid = 0;
}

#endif /* LOCKER_H */
