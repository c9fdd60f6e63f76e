/*
 * test_codec.c - the raw codecs: what goes in comes out, what makes no sense
 * is refused, and nothing is written beyond what was promised.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../codecs/cache_raw.h"
#include "test.h"

/* Encodes into a block of exactly the promised size, so that AddressSanitizer
 * sees one byte too many.  The caller frees it. */
static void *encoded(const struct cache_codec *codec, const void *object,
                     size_t *bytes)
{
    void *out = malloc(codec->max_bytes);

    CHECK(out != NULL);
    *bytes = 0;
    CHECK_EQ(codec->encode(codec, object, out, bytes), 0);
    CHECK(*bytes <= codec->max_bytes);
    return out;
}

/* --- objects ------------------------------------------------------------- */

struct point {
    int32_t x, y;
    double weight;
};

static const unsigned char a_byte = 0xff;
static const uint64_t a_number = 0x0123456789abcdefu;
static const struct point a_point = { -1, INT32_MAX, 0.5 };
static const unsigned char a_block[4096] = { 1, 0, 2 };

static const struct {
    const void *object;
    size_t bytes;
} objects[] = {
    { &a_byte, sizeof a_byte },
    { &a_number, sizeof a_number },
    { &a_point, sizeof a_point },
    { a_block, sizeof a_block },
};

static void object_round_trip(void)
{
    size_t i;

    for (i = 0; i < sizeof objects / sizeof *objects; i++) {
        struct cache_codec codec = cache_raw_object(objects[i].bytes);
        void *copy = malloc(objects[i].bytes), *out;
        size_t bytes;

        CHECK(copy != NULL);
        CHECK_EQ(codec.object_bytes, objects[i].bytes);
        CHECK_EQ(codec.max_bytes, objects[i].bytes);
        out = encoded(&codec, objects[i].object, &bytes);
        CHECK_EQ(bytes, objects[i].bytes);
        CHECK_EQ(memcmp(out, objects[i].object, bytes), 0);
        memset(copy, 0x55, objects[i].bytes);
        CHECK_EQ(codec.decode(&codec, out, bytes, copy), 0);
        CHECK_EQ(memcmp(copy, objects[i].object, bytes), 0);
        free(out);
        free(copy);
    }
}

/* Stored bytes have no alignment. */
static void object_unaligned(void)
{
    struct cache_codec codec = cache_raw_object(sizeof(uint64_t));
    unsigned char bytes[1 + sizeof a_number];
    uint64_t number = 0;

    memcpy(bytes + 1, &a_number, sizeof a_number);
    CHECK_EQ(codec.decode(&codec, bytes + 1, sizeof a_number, &number), 0);
    CHECK(number == a_number);
}

static void object_of_another_size(void)
{
    static const size_t wrong[] = { 0, 1, 7, 9, 16 };
    struct cache_codec codec = cache_raw_object(sizeof(uint64_t));
    unsigned char bytes[16] = { 0 };
    uint64_t number = 77;
    size_t i;

    for (i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(codec.decode(&codec, bytes, wrong[i], &number), CACHE_ECODEC);
    CHECK_EQ(number, 77); /* unchanged on error */
}

/* --- strings ------------------------------------------------------------- */

static void string_round_trip(void)
{
    static const char *const strings[] = { "", "a", "hello", "\xff\x01\x80",
                                           "exactly 16 bytes" };
    struct cache_codec codec = cache_raw_string(16);
    size_t i;

    CHECK_EQ(codec.object_bytes, sizeof(const char *));
    CHECK_EQ(codec.max_bytes, 17); /* with the zero at the end */
    for (i = 0; i < sizeof strings / sizeof *strings; i++) {
        const char *decoded = NULL;
        size_t bytes;
        void *out = encoded(&codec, &strings[i], &bytes);

        CHECK_EQ(bytes, strlen(strings[i]) + 1);
        CHECK_EQ(codec.decode(&codec, out, bytes, &decoded), 0);
        CHECK_STR(decoded, strings[i]);
        CHECK(decoded == (const char *)out); /* no copy */
        free(out);
    }
}

static void string_too_long(void)
{
    static const struct {
        size_t max_len;
        const char *string;
        int rc;
    } cases[] = {
        { 3, "abc", 0 },
        { 3, "abcd", CACHE_ETOOBIG },
        { 3, "a string that is much longer", CACHE_ETOOBIG },
        { 0, "", 0 },
        { 0, "a", CACHE_ETOOBIG },
    };
    size_t i, j;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cache_codec codec = cache_raw_string(cases[i].max_len);
        unsigned char out[8];
        size_t bytes = 77;

        memset(out, 0x55, sizeof out);
        CHECK_EQ(codec.encode(&codec, &cases[i].string, out, &bytes),
                 cases[i].rc);
        if (cases[i].rc == 0) {
            CHECK_EQ(bytes, strlen(cases[i].string) + 1);
            continue;
        }
        CHECK_EQ(bytes, 77); /* nothing is written on error */
        for (j = 0; j < sizeof out; j++)
            CHECK_EQ(out[j], 0x55);
    }
}

static void string_of_bad_bytes(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        int rc;
    } cases[] = {
        { "", 0, CACHE_ECODEC },     /* not even the zero */
        { "abc", 3, CACHE_ECODEC },  /* no zero */
        { "a\0c", 4, CACHE_ECODEC }, /* a zero inside */
        { "\0\0", 2, CACHE_ECODEC }, /* two of them */
        { "abc", 4, 0 },
        { "", 1, 0 },
    };
    struct cache_codec codec = cache_raw_string(10);
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* A block of its own: reading past the end is seen. */
        char *block = (char *)malloc(cases[i].len + (cases[i].len == 0));
        const char *out = NULL;

        CHECK(block != NULL);
        memcpy(block, cases[i].bytes, cases[i].len);
        CHECK_EQ(codec.decode(&codec, block, cases[i].len, &out), cases[i].rc);
        CHECK(out == (cases[i].rc == 0 ? block : NULL));
        free(block);
    }
}

static const struct test tests[] = {
    TEST(object_round_trip),      TEST(object_unaligned),
    TEST(object_of_another_size), TEST(string_round_trip),
    TEST(string_too_long),        TEST(string_of_bad_bytes),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
