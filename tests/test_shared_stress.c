/*
 * test_shared_stress.c - stress_shared.h with the locks of cache_shared.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tests/stress_shared.h"

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
