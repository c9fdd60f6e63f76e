/*
 * no_sync.h - nothing is synced: a test that cuts no power need not wait for a
 * disk.  SQLite calls these, too.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef NO_SYNC_H
#define NO_SYNC_H

int fdatasync(int fd);
int fsync(int fd);

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int fsync(int fd)
{
    (void)fd;
    return 0;
}

#endif /* NO_SYNC_H */
