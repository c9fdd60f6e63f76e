/*
 * test.h - the test harness: a table of tests, checks that print both sides,
 * a seed that is printed and can be given.
 *
 *   static void adds(void) { CHECK_EQ(1 + 1, 2); }
 *   static const struct test tests[] = { TEST(adds) };
 *   int main(int argc, char **argv) { return TEST_MAIN(argc, argv, tests); }
 *
 * Options: --filter=TEXT (tests whose name has TEXT), --seed=N.
 * A failed check ends its test.  Ends with the line "N passed, N failed".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TEST_H
#define TEST_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(function)                                                         \
    {                                                                          \
#function, function                                                    \
    }
#define TEST_MAIN(argc, argv, tests)                                           \
    test_main(argc, argv, tests, sizeof(tests) / sizeof *(tests))

static jmp_buf test__failed;
static uint64_t test_seed; /* of this run */
static const char *test__filter = "";
static int test__n_passed, test__n_failed;

#define CHECK(condition)                                                       \
    ((condition) ? (void)0 : test__fail(__FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b)                                                         \
    test__eq(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))
#define CHECK_STR(a, b) test__str(__FILE__, __LINE__, #a, (a), (b))
/* For check() walkers: NULL is fine, a sentence is what is broken. */
#define CHECK_SOUND(sentence)                                                  \
    test__str(__FILE__, __LINE__, #sentence, (sentence), NULL)

static inline void test__fail(const char *file, int line, const char *what)
{
    printf("%s:%d: FAILED: %s\n", file, line, what);
    longjmp(test__failed, 1);
}

static inline void test__eq(const char *file, int line, const char *what,
                            long long a, long long b)
{
    if (a == b)
        return;
    printf("%s:%d: %lld is not %lld\n", file, line, a, b);
    test__fail(file, line, what);
}

static inline void test__str(const char *file, int line, const char *what,
                             const char *a, const char *b)
{
    if (a == b || (a && b && strcmp(a, b) == 0))
        return;
    printf("%s:%d: \"%s\" is not \"%s\"\n", file, line, a ? a : "(null)",
           b ? b : "(null)");
    test__fail(file, line, what);
}

/* xorshift64*: the same numbers for the same seed, everywhere. */
static inline uint64_t test_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* TEST_SCALE of the environment, by which long tests multiply their work; 1. */
static inline long test_scale(void)
{
    const char *text = getenv("TEST_SCALE");
    long value = text ? strtol(text, NULL, 10) : 1;

    return value > 0 ? value : 1;
}

static inline int test_main(int argc, char **argv, const struct test *tests,
                            size_t n_tests)
{
    const char *env = getenv("SEED");
    static size_t i; /* survives the longjmp */
    int arg;

    test_seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
    for (arg = 1; arg < argc; arg++) {
        if (strncmp(argv[arg], "--filter=", 9) == 0)
            test__filter = argv[arg] + 9;
        else if (strncmp(argv[arg], "--seed=", 7) == 0)
            test_seed = strtoull(argv[arg] + 7, NULL, 0);
    }
    test_seed |= 1; /* xorshift needs a bit */
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s --seed=%llu\n", argv[0], (unsigned long long)test_seed);
    for (i = 0; i < n_tests; i++) {
        if (strstr(tests[i].name, test__filter) == NULL)
            continue;
        if (setjmp(test__failed) == 0) {
            tests[i].run();
            test__n_passed++;
        } else {
            printf("FAILED: %s\n", tests[i].name);
            test__n_failed++;
        }
    }
    printf("%d passed, %d failed\n", test__n_passed, test__n_failed);
    return test__n_failed != 0;
}

#endif /* TEST_H */
