/*
 * peer_glib.c - the LRU cache that a GLib programmer makes: a GHashTable of
 * entries that have their link of a GQueue in them, one g_new per entry.
 *
 * Its hash is GLib's for the kind of key.
 *
 * SPDX-License-Identifier: MIT
 */
#include <glib.h>

#include "bench.h"

#define KIND glib
#define ITEM u64
#define KEY guint64 key
#define KEY_OF(item) (item)
#define LENGTH_OF(item) sizeof *(item)
#define HASH g_int64_hash
#define EQUAL g_int64_equal
#include "glib_lru.h"

#define KIND glib_text
#define ITEM text
#define KEY char key[33]
#define KEY_OF(item) ((item)->bytes)
#define LENGTH_OF(item) ((item)->length + 1)
#define HASH g_str_hash
#define EQUAL g_str_equal
#include "glib_lru.h"

const struct subject subjects_glib[] = {
    SUBJECT(glib, "glib", G_HIT | G_EVICT | G_MEMORY,
            "GHashTable and GQueue, LRU, g_new for each entry"),
    SUBJECT(glib_text, "glib", G_TEXT, NULL),
    { .name = NULL },
};
