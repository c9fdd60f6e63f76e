/*
 * test_shared_locks.c - stress_shared.h with locks of the user's: the mutexes
 * of POSIX.
 *
 * SPDX-License-Identifier: MIT
 */
#define USER_LOCK 1
#include "tests/stress_shared.h"

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
