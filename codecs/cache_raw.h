/*
 * cache_raw.h - the codec that copies bytes as they are.
 *
 * WHAT IT DOES
 *   cache_raw_object: an object of fixed size is its own encoding.  For
 *   integers and structs without pointers; give structs that are keys no
 *   padding (see CACHE_STRUCT_KEY), and know that the bytes are those of this
 *   machine: other byte orders and other versions of the struct do not read
 *   them.  A stored value of another size is CACHE_ECODEC.
 *   cache_raw_string: for const char * up to a length of yours; the zero byte
 *   at the end is stored, so that decoding needs no copy.
 *
 *   EXAMPLE
 *     struct cache_codec keys = cache_raw_object(sizeof(uint64_t));
 *     struct cache_codec names = cache_raw_string(255);
 *
 * THREADS
 *   A codec is constant once made: any.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CACHE_RAW_H
#define CACHE_RAW_H

#include "../cache_store.h"

CACHE_COLD int cache__raw_encode(const struct cache_codec *codec,
                                 const void *object, void *out, size_t *bytes)
{
    memcpy(out, object, codec->object_bytes);
    *bytes = codec->object_bytes;
    return 0;
}

CACHE_COLD int cache__raw_decode(const struct cache_codec *codec,
                                 const void *data, size_t bytes, void *object)
{
    if (bytes != codec->object_bytes)
        return CACHE_ECODEC;
    memcpy(object, data, bytes);
    return 0;
}

CACHE_COLD int cache__raw_encode_string(const struct cache_codec *codec,
                                        const void *object, void *out,
                                        size_t *bytes)
{
    const char *string = *(const char *const *)object;
    size_t len = strlen(string) + 1;

    if (len > codec->max_bytes)
        return CACHE_ETOOBIG;
    memcpy(out, string, len);
    *bytes = len;
    return 0;
}

CACHE_COLD int cache__raw_decode_string(const struct cache_codec *codec,
                                        const void *data, size_t bytes,
                                        void *object)
{
    (void)codec;
    if (bytes == 0 || memchr(data, 0, bytes) != (const char *)data + bytes - 1)
        return CACHE_ECODEC;
    *(const char **)object = (const char *)data;
    return 0;
}

/* A codec for objects of this size.  Threads: any. */
CACHE_UNUSED static inline struct cache_codec
cache_raw_object(size_t object_bytes)
{
    struct cache_codec codec = { object_bytes, object_bytes, cache__raw_encode,
                                 cache__raw_decode };

    return codec;
}

/* A codec for `const char *` of up to max_len bytes; longer ones are
 * CACHE_ETOOBIG.  What it decodes points into the stored bytes.
 * Threads: any. */
CACHE_UNUSED static inline struct cache_codec cache_raw_string(size_t max_len)
{
    struct cache_codec codec = { sizeof(const char *), max_len + 1,
                                 cache__raw_encode_string,
                                 cache__raw_decode_string };

    return codec;
}

#endif /* CACHE_RAW_H */
