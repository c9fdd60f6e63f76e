/*
 * stream.h - the keys of a workload, made in advance, the same for everybody.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_H
#define STREAM_H

#include <math.h>

#include "bench.h"

/* Keys of different ranges are different. */
enum range { RESIDENT, POPULAR, ABSENT, FRESH };

struct stream {
    enum range range;
    bool text;       /* text_item, not u64_item */
    double exponent; /* of Zipf's law; 0 = uniform */
    uint64_t n_ids;  /* ids are below; 0 = one after the other, for ever */
    uint64_t next;   /* id, of those that come one after the other */
    uint64_t random;
};

/* The finaliser of splitmix64: a permutation, so different ids are different
 * keys, and the keys have no pattern. */
static inline uint64_t stream_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Evenly from [0, 1). */
static inline double stream_random(struct stream *s)
{
    s->random += 0x9e3779b97f4a7c15u;
    return (double)(stream_mix(s->random) >> 11) * 0x1p-53;
}

/* The integral of x^-exponent. */
static inline double stream_area(const struct stream *s, double x)
{
    return pow(x, 1 - s->exponent) / (1 - s->exponent);
}

/* Zipf's law over 0 to n_ids - 1: W. Hoermann, G. Derflinger:
 * "Rejection-Inversion to Generate Variates from Monotone Discrete
 * Distributions", 1996. */
static inline uint64_t stream_zipf(struct stream *s)
{
    double low = stream_area(s, 1.5) - 1;
    double high = stream_area(s, (double)s->n_ids + 0.5);
    double area, k;

    do {
        area = low + stream_random(s) * (high - low);
        k = floor(pow(area * (1 - s->exponent), 1 / (1 - s->exponent)) + 0.5);
    } while (area < stream_area(s, k + 0.5) - pow(k, -s->exponent));
    return (uint64_t)k - 1;
}

static inline uint64_t stream_id(struct stream *s)
{
    if (s->n_ids == 0)
        return s->next++;
    if (s->exponent == 0)
        return (uint64_t)(stream_random(s) * (double)s->n_ids);
    return stream_zipf(s);
}

/* 16 to 32 hexadecimal digits. */
static inline void stream_text(text_item *item, uint64_t key)
{
    uint64_t bits = key;
    unsigned i;

    *item = (text_item) { .id = key, .length = 16 + key % 17 };
    for (i = 0; i < item->length; i++) {
        if (i == 16)
            bits = stream_mix(key);
        item->bytes[i] = "0123456789abcdef"[bits & 15];
        bits >>= 4;
    }
}

static inline void stream_fill(struct stream *s, void *items, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        uint64_t id = stream_id(s);
        uint64_t key = stream_mix(((uint64_t)s->range << 40) + id + 1);

        if (s->text)
            stream_text((text_item *)items + i, key);
        else
            ((u64_item *)items)[i] = key;
    }
}

static inline void *stream_room(bool text, size_t n)
{
    return must(calloc(n, text ? sizeof(text_item) : sizeof(u64_item)));
}

#endif /* STREAM_H */
