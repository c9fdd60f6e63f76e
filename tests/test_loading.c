/*
 * test_loading.c - loading caches for one thread: claims, loads, options of
 * reads, freshness, generations, events, counters, and running out of memory.
 * What goes to a store is in test_strategies.c.
 *
 * Time is a number that the tests make up.  After each step the cache's
 * invariants are walked.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "cache_loading.h"
#include "tests/test.h"

/* --- what the callbacks have seen ---------------------------------------- */

#define VALUES 4096u /* values of these tests are below */
#define NOTHING 999999u

static char story[4096]; /* events, in order: see on_event */
static unsigned entered[VALUES], left[VALUES];
static int causes[VALUES]; /* why a value left last */
static long n_key_copies, n_key_frees;
static int key_copy_fails;
static long n_allocs, n_frees,
    fail_at; /* the allocation that fails; 0 = none */

static int key_copy(uint64_t *key, void *user)
{
    (void)key;
    (void)user;
    if (key_copy_fails)
        return key_copy_fails;
    n_key_copies++;
    return 0;
}

static void key_free(uint64_t *key, void *user)
{
    (void)key;
    (void)user;
    n_key_frees++;
}

static void on_remove(const uint64_t *key, uint64_t *value,
                      enum cache_cause cause, void *user)
{
    (void)key;
    (void)user;
    CHECK(*value < VALUES);
    left[*value]++;
    causes[*value] = (int)cause;
}

static void tell(char kind, const uint64_t *key, const uint64_t *value)
{
    size_t at = strlen(story), room = sizeof story - at;

    if (room < 80)
        return;
    (void)snprintf(story + at, room, "%s%c", at ? " " : "", kind);
    at = strlen(story);
    if (key)
        (void)snprintf(story + at, room - 10, "%u", (unsigned)*key);
    at = strlen(story);
    if (value)
        (void)snprintf(story + at, room - 30, "=%u", (unsigned)*value);
}

static void *alloc_hook(size_t bytes, void *user)
{
    void *memory;

    (void)user;
    if (++n_allocs == fail_at)
        return NULL;
    memory = malloc(bytes);
    if (memory)
        memset(memory, 0xa5, bytes); /* nobody may rely on zeroes */
    return memory;
}

static void free_hook(void *memory, void *user)
{
    (void)user;
    n_frees += memory != NULL;
    free(memory);
}

/* --- the cache of most tests --------------------------------------------- */

struct box_event;
static void on_event(const struct box_event *event, void *user);

CACHE_DEFINE_LOADING_WITH(box, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_LRU | CACHE_STATS,
                          .key_copy = key_copy, .key_free = key_free,
                          .on_remove = on_remove, .on_event = on_event);

/* I3=30 insert, U update, R remove, S3 load starts, E3=30 ends, E3 ends without
 * a value, X3 load error. */
static void on_event(const struct box_event *event, void *user)
{
    static const char kinds[] = { 'I', 'U', 'R', 'S', 'E', 'X', 'B', 'D' };

    (void)user;
    if (event->kind == CACHE_EVENT_INSERT || event->kind == CACHE_EVENT_UPDATE)
        entered[*event->value]++;
    if (event->kind == CACHE_EVENT_LOAD_ERROR)
        CHECK(event->status < 0 && event->status != CACHE_EKEY);
    if (event->kind == CACHE_EVENT_LOAD_END)
        CHECK_EQ(event->status, event->value ? 0 : CACHE_EKEY);
    tell(kinds[event->kind], event->key, event->value);
}

static struct box the_box;
static uint64_t now_ms, wall_ms, got;
static struct cache_claim held;

static uint64_t wall_now(void *user)
{
    (void)user;
    return wall_ms;
}

/* Ticks of 10 ms; what a test is about it changes. */
static struct cache_loading_config basic(void)
{
    struct cache_loading_config config;

    memset(&config, 0, sizeof config);
    config.cache.capacity = 100;
    config.cache.tick_ms = 10;
    config.cache.now_ms = &now_ms;
    config.cache.seed = 7;
    config.cache.alloc = alloc_hook;
    config.cache.free = free_hook;
    config.wall_now = wall_now;
    return config;
}

/* Fresh for 100 ms, stale for 100 more, fallback for 200 after that. */
static struct cache_loading_config aging(void)
{
    struct cache_loading_config config = basic();

    config.freshness.ttl_ms = 100;
    config.freshness.stale_ms = 100;
    config.freshness.stale_if_error_ms = 300;
    config.freshness.negative_ttl_ms = 50;
    config.freshness.error_ttl_ms = 40;
    return config;
}

static void forget(void)
{
    memset(entered, 0, sizeof entered);
    memset(left, 0, sizeof left);
    memset(causes, 0xff, sizeof causes);
    n_key_copies = n_key_frees = n_allocs = n_frees = fail_at = 0;
    key_copy_fails = 0;
    story[0] = '\0';
    now_ms = 1000;
    wall_ms = 1000000;
    memset(&held, 0, sizeof held);
}

static void open_with(struct cache_loading_config config)
{
    forget();
    CHECK_EQ(box_init(&the_box, &config), 0);
}

/* Every value that came has left once, every key that was copied is freed. */
static void shut(void)
{
    unsigned i;

    box_destroy(&the_box);
    for (i = 0; i < VALUES; i++)
        CHECK_EQ(left[i], entered[i]);
    CHECK_EQ(n_key_copies, n_key_frees);
    CHECK_EQ(n_allocs - (fail_at != 0 && n_allocs >= fail_at), n_frees);
}

static int sound(int rc)
{
    CHECK_SOUND(box_check(&the_box));
    return rc;
}

static void expect_story(const char *want)
{
    CHECK_STR(story, want);
    story[0] = '\0';
}

static int get(uint64_t key)
{
    got = NOTHING;
    return sound(box_get(&the_box, key, &got));
}

static int put(uint64_t key, uint64_t value)
{
    return sound(box_put(&the_box, key, value));
}

static int claims(uint64_t key, struct cache_claim *c)
{
    got = NOTHING;
    return sound(box_claim(&the_box, key, &got, c));
}

static int commit(struct cache_claim *c, uint64_t value)
{
    return sound(box_commit(&the_box, c, value));
}

static int abandon(struct cache_claim *c, int error)
{
    got = NOTHING;
    return sound(box_abandon(&the_box, c, error, &got));
}

static struct cache_loading_stats stats(void)
{
    struct cache_loading_stats s;

    CHECK_EQ(box_loading_stats(&the_box, &s), 0);
    return s;
}

/* --- loaders ------------------------------------------------------------- */

/* What a loader does and has seen. */
struct source {
    unsigned n_calls;
    int status;
    uint64_t value;
    struct cache_loaded loaded;
    uint64_t takes_ms;
    int (*meanwhile)(uint64_t key); /* what happens while it loads; or NULL */
};

static struct source source;

static void source_of(uint64_t value)
{
    memset(&source, 0, sizeof source);
    source.value = value;
}

static int loader(const uint64_t *key, uint64_t *value,
                  struct cache_loaded *loaded, void *user)
{
    struct source *s = (struct source *)user;

    CHECK(s == &source);
    CHECK_EQ(loaded->ttl_ms, 0);
    CHECK_EQ(loaded->lifetime_ms, 0);
    CHECK_EQ(loaded->status, 0);
    s->n_calls++;
    now_ms += s->takes_ms;
    if (s->meanwhile)
        CHECK_EQ(s->meanwhile(*key), 0);
    *loaded = s->loaded;
    if (s->status == 0)
        *value = s->value;
    return s->status;
}

static int loads(uint64_t key)
{
    got = NOTHING;
    return sound(box_load(&the_box, key, &got, loader, &source));
}

static int load_with(uint64_t key, const struct cache_reading *how)
{
    got = NOTHING;
    return sound(box_load_with(&the_box, key, &got, how, loader, &source));
}

/* --- claims -------------------------------------------------------------- */

static void one_who_misses_loads_and_the_others_wait(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(claims(2, &other), CACHE_CLAIM_MISS_YOU_LOAD); /* another key */
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(commit(&held, 10), 0);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_HIT);
    CHECK_EQ(got, 10);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(commit(&other, 20), 0);
    CHECK_EQ(get(2), CACHE_FOUND);
    CHECK_EQ(got, 20);
    shut();
}

static void of_those_who_see_a_stale_value_one_refreshes_it(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 99 - 10;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_HIT);
    now_ms += 11;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(got, 10);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_HIT);
    CHECK_EQ(got, 11);
    shut();
}

static void a_fallback_value_is_loaded_first_and_served_if_that_fails(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 200;
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_FOUND_STALE);
    CHECK_EQ(got, 10);
    /* Failed lately: nobody is asked for error_ttl_ms. */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    now_ms += 29;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE);
    now_ms += 11;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_HIT);
    CHECK_EQ(stats().suppressed_errors, 1);
    CHECK_EQ(stats().load_errors, 1);
    shut();
}

static void a_dead_value_does_not_come_back_when_its_load_fails(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 390;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 10; /* gone is gone, however slow the load is */
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(get(1), CACHE_EIO);
    shut();
}

static void hard_expiry_wins_over_a_slow_load(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 150;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    now_ms += 50;
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_MISS_WAIT);
    now_ms += 200;
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    shut();
}

static void failing_loads_do_not_make_a_value_live_longer(void)
{
    int i;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    for (i = 0; i < 60; i++) {
        int answer = claims(1, &held);

        if (held.ticket != 0)
            (void)abandon(&held, CACHE_EIO);
        if (i >= 40)
            CHECK(answer == CACHE_CLAIM_MISS_YOU_LOAD || answer == CACHE_EIO);
        now_ms += 10;
    }
    shut();
}

static void an_error_is_known_for_its_time_if_there_is_no_value(void)
{
    open_with(aging());
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(claims(1, &held), CACHE_EIO);
    CHECK_EQ(held.ticket, 0);
    CHECK_EQ(get(1), CACHE_EIO);
    source_of(5);
    CHECK_EQ(loads(1), CACHE_EIO);
    CHECK_EQ(source.n_calls, 0);
    now_ms += 40;
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 10), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    shut();
}

static void without_an_error_ttl_the_next_one_loads_at_once(void)
{
    struct cache_loading_config config = aging();

    config.freshness.error_ttl_ms = 0;
    open_with(config);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 10), 0);
    now_ms += 100;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_FOUND_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(box_abandon(&the_box, &held, CACHE_EIO, NULL), CACHE_EIO);
    shut();
}

static void a_load_given_up_without_a_result_leaves_all_as_it_was(void)
{
    open_with(aging());
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(abandon(&held, 0), CACHE_EKEY);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 10), 0);
    now_ms += 100;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(abandon(&held, 0), CACHE_FOUND_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(stats().load_errors, 0);
    shut();
}

static void an_absent_key_is_known_for_its_time(void)
{
    open_with(aging());
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(sound(box_commit_negative(&the_box, &held)), 0);
    CHECK_EQ(claims(1, &held), CACHE_EKEY);
    CHECK_EQ(held.ticket, 0);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(stats().negative_hits, 2);
    CHECK(!box_peek(&the_box, 1, &got));
    now_ms += 39;
    CHECK_EQ(claims(1, &held), CACHE_EKEY);
    now_ms += 11;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(abandon(&held, 0), CACHE_EKEY);
    CHECK_EQ(put(1, 10), 0); /* a write ends it */
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 10);
    shut();
}

static void an_absent_key_takes_the_place_of_its_old_value(void)
{
    struct cache_loading_config config = aging();
    int negative;

    for (negative = 0; negative < 2; negative++) {
        config.freshness.negative_ttl_ms = negative ? 50 : 0;
        open_with(config);
        CHECK_EQ(put(1, 10), 0);
        now_ms += 100;
        CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
        story[0] = '\0';
        CHECK_EQ(sound(box_commit_negative(&the_box, &held)), 0);
        expect_story("R1=10 E1"); /* a value left */
        CHECK_EQ(left[10], 1);
        CHECK_EQ(get(1), CACHE_EKEY);
        CHECK_EQ(claims(1, &held),
                 negative ? CACHE_EKEY : CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(put(1, 11), 0);
        CHECK(strstr(story, "I1=11") != NULL); /* there was no value */
        shut();
    }
}

static void a_claim_lapses_and_the_next_who_asks_has_it(void)
{
    struct cache_loading_config config = aging();
    struct cache_claim next, third;

    config.claim_ms = 500;
    open_with(config);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 499;
    CHECK_EQ(claims(1, &next), CACHE_CLAIM_MISS_WAIT);
    now_ms += 1;
    CHECK_EQ(claims(1, &next), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(stats().lapsed, 1);
    CHECK_EQ(claims(1, &third), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(commit(&held, 10), CACHE_ECONFLICT);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(claims(1, &third), CACHE_CLAIM_MISS_WAIT); /* it holds on */
    now_ms += 499;
    CHECK_EQ(commit(&next, 11), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    shut();
}

static void what_is_committed_after_the_lapse_is_a_conflict(void)
{
    struct cache_loading_config config = aging();

    config.claim_ms = 500;
    open_with(config);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 500;
    CHECK_EQ(commit(&held, 10), CACHE_ECONFLICT);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 500;
    CHECK_EQ(sound(box_commit_negative(&the_box, &held)), CACHE_ECONFLICT);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 500;
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO); /* which does no harm */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 11), 0);
    shut();
}

static void a_claim_is_good_for_one_commit(void)
{
    struct cache_claim copy;

    open_with(aging());
    CHECK_EQ(commit(&held, 10), CACHE_ECONFLICT); /* none was given */
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    copy = held;
    CHECK_EQ(commit(&held, 10), 0);
    CHECK_EQ(commit(&held, 11), CACHE_ECONFLICT);
    CHECK_EQ(commit(&copy, 12), CACHE_ECONFLICT);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_YOU_LOAD); /* same record */
    CHECK_EQ(commit(&copy, 13), CACHE_ECONFLICT);
    CHECK_EQ(abandon(&copy, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(commit(&held, 20), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 10);
    CHECK_EQ(get(2), CACHE_FOUND);
    CHECK_EQ(got, 20);
    copy.record = 4000000000u;
    CHECK_EQ(commit(&copy, 14), CACHE_ECONFLICT);
    shut();
}

/* --- what overtakes a load ----------------------------------------------- */

static int overtake_put(uint64_t key)
{
    return box_put(&the_box, key, 77);
}

static int overtake_remove(uint64_t key)
{
    return box_remove(&the_box, key);
}

static int overtake_hard_key(uint64_t key)
{
    box_invalidate_key(&the_box, key, CACHE_INVALIDATE_HARD);
    return 0;
}

static int overtake_soft_key(uint64_t key)
{
    box_invalidate_key(&the_box, key, CACHE_INVALIDATE_SOFT);
    return 0;
}

static int overtake_hard(uint64_t key)
{
    (void)key;
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    return 0;
}

static int overtake_soft(uint64_t key)
{
    (void)key;
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    return 0;
}

static int overtake_put_many(uint64_t key)
{
    uint64_t value = 77;

    return box_put_many(&the_box, &key, &value, 1, NULL);
}

static int (*const overtakers[])(uint64_t key) = {
    overtake_put,  overtake_remove, overtake_hard_key, overtake_soft_key,
    overtake_hard, overtake_soft,   overtake_put_many,
};
#define N_OVERTAKERS (sizeof overtakers / sizeof *overtakers)

static bool overtaker_puts(size_t i)
{
    return overtakers[i] == overtake_put || overtakers[i] == overtake_put_many;
}

/* With an old value there or none, by value, absence or error. */
static void what_overtakes_a_load_makes_its_commit_a_conflict(void)
{
    size_t i;
    int old, how;

    for (i = 0; i < N_OVERTAKERS; i++)
        for (old = 0; old < 2; old++)
            for (how = 0; how < 3; how++) {
                open_with(aging());
                if (old)
                    CHECK_EQ(put(1, 10), 0);
                now_ms += 100;
                CHECK_EQ(claims(1, &held), old ? CACHE_CLAIM_STALE_YOU_REFRESH
                                               : CACHE_CLAIM_MISS_YOU_LOAD);
                CHECK_EQ(sound(overtakers[i](1)), 0);
                if (how == 0)
                    CHECK_EQ(commit(&held, 20), CACHE_ECONFLICT);
                else if (how == 1)
                    CHECK_EQ(sound(box_commit_negative(&the_box, &held)),
                             CACHE_ECONFLICT);
                else
                    (void)sound(box_abandon(&the_box, &held, CACHE_EIO, NULL));
                CHECK_EQ(stats().discarded, 1);
                CHECK_EQ(left[20], 0); /* it never was there */
                if (overtaker_puts(i)) {
                    CHECK_EQ(get(1), CACHE_FOUND);
                    CHECK_EQ(got, 77);
                } else if (old && (overtakers[i] == overtake_soft ||
                                   overtakers[i] == overtake_soft_key)) {
                    CHECK_EQ(get(1), CACHE_FOUND_STALE);
                    CHECK_EQ(got, 10);
                    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
                } else {
                    CHECK_EQ(get(1), CACHE_EKEY);
                    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
                }
                shut();
            }
}

static void who_asks_after_an_invalidation_or_a_write_begins_anew(void)
{
    struct cache_claim next;
    size_t i;

    for (i = 0; i < N_OVERTAKERS; i++) {
        open_with(aging());
        CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(sound(overtakers[i](1)), 0);
        CHECK_EQ(claims(1, &next), overtaker_puts(i)
                                       ? CACHE_CLAIM_HIT
                                       : CACHE_CLAIM_MISS_YOU_LOAD);
        if (!overtaker_puts(i)) {
            struct cache_claim third;

            CHECK_EQ(claims(1, &third), CACHE_CLAIM_MISS_WAIT);
            CHECK_EQ(commit(&held, 20), CACHE_ECONFLICT); /* in any order */
            CHECK_EQ(claims(1, &third), CACHE_CLAIM_MISS_WAIT);
            CHECK_EQ(commit(&next, 21), 0);
            CHECK_EQ(get(1), CACHE_FOUND);
            CHECK_EQ(got, 21);
        }
        shut();
    }
}

static void what_is_written_under_other_keys_overtakes_nothing(void)
{
    open_with(aging());
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(put(2, 20), 0);
    CHECK_EQ(sound(box_remove(&the_box, 3)), 0);
    box_invalidate_key(&the_box, 4, CACHE_INVALIDATE_HARD);
    CHECK_EQ(commit(&held, 10), 0);
    CHECK_EQ(stats().discarded, 0);
    shut();
}

static void a_load_that_is_overtaken_is_delivered_and_not_kept(void)
{
    size_t i;

    for (i = 0; i < N_OVERTAKERS; i++) {
        open_with(aging());
        source_of(20);
        source.meanwhile = overtakers[i];
        CHECK_EQ(loads(1), CACHE_FOUND_UNSTORED);
        CHECK_EQ(got, 20);
        CHECK_EQ(get(1), overtaker_puts(i) ? CACHE_FOUND : CACHE_EKEY);
        CHECK_EQ(stats().discarded, 1);
        CHECK_EQ(entered[20] + left[20], 0);
        shut();
    }
}

/* --- the table of claims ------------------------------------------------- */

static void when_all_claims_are_given_out_who_misses_is_refused(void)
{
    struct cache_loading_config config = aging();
    struct cache_claim other, third;

    config.max_claims = 2;
    config.claim_ms = 500;
    open_with(config);
    CHECK_EQ(put(3, 30), 0);
    CHECK_EQ(put(4, 40), 0);
    now_ms += 50;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    now_ms += 50;
    CHECK_EQ(claims(2, &other), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(5, &third), CACHE_EFULL);
    CHECK_EQ(third.ticket, 0);
    CHECK_EQ(claims(1, &third), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(claims(3, &third), CACHE_CLAIM_STALE); /* as if somebody had it */
    CHECK_EQ(got, 30);
    CHECK_EQ(third.ticket, 0);
    source_of(3);
    CHECK_EQ(loads(3), CACHE_FOUND_STALE);
    CHECK_EQ(got, 30);
    CHECK_EQ(loads(5), CACHE_EFULL);
    CHECK_EQ(source.n_calls, 0);
    now_ms += 450; /* the first one lapses, and makes room */
    CHECK_EQ(claims(5, &third), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 10), CACHE_ECONFLICT);
    CHECK_EQ(commit(&other, 20), 0);
    CHECK_EQ(commit(&third, 50), 0);
    CHECK_EQ(claims(6, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(7, &other), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(8, &third), CACHE_EFULL);
    shut();
}

static void overtaken_claims_make_room_when_they_are_over(void)
{
    struct cache_loading_config config = aging();
    uint64_t key;

    config.max_claims = 3;
    config.claim_ms = 500;
    open_with(config);
    for (key = 0; key < 3; key++) {
        CHECK_EQ(claims(key, &held), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(put(key, key), 0);
    }
    CHECK_EQ(claims(9, &held), CACHE_EFULL);
    now_ms += 500;
    CHECK_EQ(claims(9, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(10, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(11, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(claims(12, &held), CACHE_EFULL);
    shut();
}

static void a_hundred_callers_make_one_load(void)
{
    struct cache_claim callers[100];
    unsigned n_loads = 0, n_waits = 0, i, round;

    open_with(aging());
    for (round = 0; round < 3; round++) {
        n_loads = n_waits = 0;
        for (i = 0; i < 100; i++) {
            int answer = claims(1, &callers[i]);

            n_loads += callers[i].ticket != 0;
            n_waits += answer == CACHE_CLAIM_MISS_WAIT;
            now_ms += i % 10 == 0;
        }
        CHECK_EQ(n_loads, 1);
        CHECK_EQ(n_waits, 99);
        CHECK_EQ(commit(&callers[0], round), 0);
        for (i = 0; i < 100; i++)
            CHECK_EQ(claims(1, &callers[i]), CACHE_CLAIM_HIT);
        now_ms += 250; /* and again when it is too old */
    }
    CHECK_EQ(stats().loads, 3);
    CHECK_EQ(stats().claims, 3);
    CHECK_EQ(stats().waits, 297);
    shut();
}

static void keys_in_one_chain_are_told_apart(void)
{
    struct cache_loading_config config = aging();
    struct cache_claim c[64];
    uint64_t key;

    config.max_claims = 64;
    open_with(config);
    for (key = 0; key < 64; key++)
        CHECK_EQ(claims(key, &c[key]), CACHE_CLAIM_MISS_YOU_LOAD);
    for (key = 63; key < 64; key -= 2)
        CHECK_EQ(commit(&c[key], key), 0);
    for (key = 0; key < 64; key += 2)
        CHECK_EQ(claims(key, &held), CACHE_CLAIM_MISS_WAIT);
    for (key = 0; key < 64; key += 2)
        CHECK_EQ(commit(&c[key], key), 0);
    for (key = 0; key < 64; key++) {
        CHECK_EQ(get(key), CACHE_FOUND);
        CHECK_EQ(got, key);
    }
    shut();
}

/* --- options of a read --------------------------------------------------- */

static const struct cache_reading never = { .stale = CACHE_STALE_NEVER };
static const struct cache_reading always = { .stale = CACHE_STALE_ALWAYS };
static const struct cache_reading skip_read = { .skip_read = true };
static const struct cache_reading skip_write = { .skip_write = true };
static const struct cache_reading skip_store = { .skip_store = true };

static int claim_with(uint64_t key, struct cache_claim *c,
                      const struct cache_reading *how)
{
    got = NOTHING;
    return sound(box_claim_with(&the_box, key, &got, c, how));
}

static int get_with(uint64_t key, const struct cache_reading *how)
{
    got = NOTHING;
    return sound(box_get_with(&the_box, key, &got, how));
}

static void who_takes_no_stale_value_gets_none(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(get_with(1, &never), CACHE_FOUND);
    CHECK_EQ(claim_with(1, &held, &never), CACHE_CLAIM_HIT);
    now_ms += 100;
    CHECK_EQ(get_with(1, &never), CACHE_EKEY);
    CHECK_EQ(claim_with(1, &held, &never), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(claim_with(1, &other, &never), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_STALE);
    CHECK_EQ(box_abandon(&the_box, &held, CACHE_EIO, NULL), CACHE_EIO);
    CHECK_EQ(get_with(1, &never), CACHE_EKEY); /* failed lately is stale, too */
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    source_of(0);
    source.status = CACHE_EIO;
    CHECK_EQ(load_with(1, &never), CACHE_EIO); /* none, not even then */
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(source.n_calls, 1);
    shut();
}

static void who_takes_any_stale_value_does_not_wait(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(claim_with(1, &held, &always), CACHE_CLAIM_HIT);
    now_ms += 250;
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(get_with(1, &always), CACHE_FOUND_STALE);
    CHECK_EQ(got, 10);
    CHECK_EQ(claim_with(1, &held, &always), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(got, 10);
    CHECK_EQ(claim_with(1, &other, &always), CACHE_CLAIM_STALE);
    CHECK_EQ(got, 10);
    now_ms += 150; /* but not what is gone */
    CHECK_EQ(claim_with(1, &other, &always), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(get_with(1, &always), CACHE_EKEY);
    shut();
}

static void a_read_can_be_as_if_there_were_no_entry(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(get_with(1, &skip_read), CACHE_EKEY);
    source_of(11);
    CHECK_EQ(load_with(1, &skip_read), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(source.n_calls, 1);
    CHECK_EQ(get(1), CACHE_FOUND); /* what was loaded is kept */
    CHECK_EQ(got, 11);
    CHECK_EQ(claim_with(1, &held, &skip_read), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(claim_with(1, &other, &skip_read), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(commit(&held, 12), 0);
    source.status = CACHE_EIO; /* and there is nothing to fall back to */
    CHECK_EQ(load_with(1, &skip_read), CACHE_EIO);
    CHECK_EQ(got, NOTHING);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 12);
    shut();
}

static void a_read_can_leave_what_it_loads_out_of_the_cache(void)
{
    open_with(aging());
    source_of(10);
    CHECK_EQ(load_with(1, &skip_write), CACHE_FOUND_UNSTORED);
    CHECK_EQ(got, 10);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(stats().discarded, 0);
    CHECK_EQ(claim_with(1, &held, &skip_write), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 11), CACHE_ECONFLICT);
    CHECK_EQ(get(1), CACHE_EKEY);
    /* The record is used again, by one who does keep it. */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 12), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    source.status = CACHE_EKEY;
    CHECK_EQ(load_with(2, &skip_write), CACHE_EKEY);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    shut();
}

static void a_read_can_do_without_a_load(void)
{
    open_with(aging());
    source_of(10);
    CHECK_EQ(get_with(1, &skip_store), CACHE_EKEY);
    CHECK_EQ(load_with(1, &skip_store), CACHE_EKEY);
    CHECK_EQ(source.n_calls, 0);
    CHECK_EQ(put(1, 11), 0);
    now_ms += 100;
    CHECK_EQ(load_with(1, &skip_store), CACHE_FOUND_STALE);
    CHECK_EQ(got, 11);
    CHECK_EQ(source.n_calls, 0);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH); /* still free */
    shut();
}

static void peek_finds_what_may_be_served_and_is_no_use(void)
{
    uint64_t key;

    open_with(aging());
    for (key = 0; key < 100; key++)
        CHECK_EQ(put(key, key), 0);
    CHECK(box_peek(&the_box, 0, &got));
    CHECK_EQ(got, 0);
    CHECK_EQ(put(100, 100), 0); /* the least recently used is still 0 */
    CHECK(!box_peek(&the_box, 0, &got));
    now_ms += 350;
    CHECK(box_peek(&the_box, 1, &got)); /* a fallback */
    now_ms += 50;
    CHECK(!box_peek(&the_box, 1, &got));
    CHECK_EQ(stats().cells.hits, 0);
    shut();
}

/* --- options of a write -------------------------------------------------- */

static void a_put_has_its_own_freshness_if_it_brings_one(void)
{
    struct cache_writing how;
    struct cache_freshness f;

    open_with(aging());
    memset(&how, 0, sizeof how);
    memset(&f, 0, sizeof f);
    f.ttl_ms = 1000;
    how.freshness = &f;
    CHECK_EQ(sound(box_put_with(&the_box, 1, 10, &how)), 0);
    now_ms += 989;
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(get(1), CACHE_EKEY); /* it has no stale time */
    f.jitter_pct = 101;
    CHECK_EQ(sound(box_put_with(&the_box, 2, 20, &how)), CACHE_EFRESHNESS);
    f.jitter_pct = 0;
    f.ttl_ms = 9;
    CHECK_EQ(sound(box_put_with(&the_box, 2, 20, &how)), CACHE_ETTL);
    CHECK_EQ(get(2), CACHE_EKEY);
    shut();
}

static void a_put_has_its_own_times_if_it_names_them(void)
{
    struct cache_writing how;

    open_with(aging());
    memset(&how, 0, sizeof how);
    how.ttl_ms = 500;
    CHECK_EQ(sound(box_put_with(&the_box, 1, 10, &how)), 0);
    how.ttl_ms = CACHE_NEVER;
    CHECK_EQ(sound(box_put_with(&the_box, 2, 20, &how)), 0);
    how.lifetime_ms = 300;
    CHECK_EQ(sound(box_put_with(&the_box, 3, 30, &how)), 0);
    how.ttl_ms = 0;
    how.lifetime_ms = 150; /* cuts its stale time */
    CHECK_EQ(sound(box_put_with(&the_box, 4, 40, &how)), 0);
    how.lifetime_ms = CACHE_NEVER;
    CHECK_EQ(sound(box_put_with(&the_box, 5, 50, &how)), 0);
    CHECK_EQ(sound(box_put_ttl(&the_box, 6, 60, 200)), 0);
    now_ms += 139;
    CHECK_EQ(get(4), CACHE_FOUND_STALE);
    CHECK_EQ(get(5), CACHE_FOUND_STALE);
    CHECK_EQ(get(6), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(claims(4, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    now_ms += 139;
    CHECK_EQ(get(3), CACHE_FOUND);
    CHECK_EQ(get(6), CACHE_FOUND_STALE);
    now_ms += 11;
    CHECK_EQ(get(3), CACHE_EKEY);
    now_ms += 189;
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    now_ms += 1000000;
    CHECK_EQ(get(2), CACHE_FOUND);
    how.lifetime_ms = 9;
    CHECK_EQ(sound(box_put_with(&the_box, 2, 21, &how)), CACHE_ETTL);
    how.lifetime_ms = 0;
    how.ttl_ms = 9;
    CHECK_EQ(sound(box_put_with(&the_box, 2, 21, &how)), CACHE_ETTL);
    CHECK_EQ(sound(box_put_ttl(&the_box, 2, 21, 0)), CACHE_ETTL);
    CHECK_EQ(get(2), CACHE_FOUND);
    CHECK_EQ(got, 20);
    shut();
}

static void a_put_can_leave_the_cache_out(void)
{
    struct cache_writing how;

    open_with(aging());
    memset(&how, 0, sizeof how);
    how.skip_write = true;
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(sound(box_put_with(&the_box, 1, 11, &how)), 0);
    CHECK_EQ(get(1), CACHE_EKEY); /* whatever it has leaves */
    CHECK_EQ(left[10], 1);
    CHECK_EQ(left[11], 1); /* it was the cache's all the same */
    entered[11]++;
    shut();
}

/* --- loads --------------------------------------------------------------- */

static void what_is_loaded_is_found_without_a_load_from_then_on(void)
{
    int i;

    open_with(aging());
    source_of(10);
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(got, 10);
    for (i = 0; i < 10; i++) {
        CHECK_EQ(loads(1), CACHE_FOUND);
        CHECK_EQ(got, 10);
    }
    CHECK_EQ(source.n_calls, 1);
    now_ms += 100; /* one call loads it anew */
    source.value = 11;
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(source.n_calls, 2);
    shut();
}

static void a_loader_says_how_long_its_value_lives(void)
{
    open_with(aging());
    source_of(10);
    source.loaded.ttl_ms = 1000;
    CHECK_EQ(loads(1), CACHE_FOUND);
    now_ms += 989;
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    source_of(20);
    source.loaded.lifetime_ms = 50;
    CHECK_EQ(loads(2), CACHE_FOUND);
    CHECK_EQ(get(2), CACHE_FOUND);
    now_ms += 50;
    CHECK_EQ(get(2), CACHE_EKEY);
    CHECK_EQ(loads(2), CACHE_FOUND);
    source_of(30);
    source.loaded.ttl_ms = CACHE_NEVER;
    CHECK_EQ(loads(3), CACHE_FOUND);
    now_ms += 10000000;
    CHECK_EQ(get(3), CACHE_FOUND);
    CHECK_EQ(claims(4, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    source.loaded.ttl_ms = 500;
    CHECK_EQ(sound(box_commit_with(&the_box, &held, 40, &source.loaded)), 0);
    now_ms += 489;
    CHECK_EQ(get(4), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(get(4), CACHE_FOUND_STALE);
    shut();
}

static void the_times_of_a_load_begin_at_its_end(void)
{
    open_with(aging());
    source_of(10);
    source.takes_ms = 1000;
    CHECK_EQ(loads(1), CACHE_FOUND);
    now_ms += 89;
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 11;
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    shut();
}

static int load_same_again(uint64_t key)
{
    uint64_t value;
    struct cache_claim c;

    CHECK_EQ(sound(box_load(&the_box, key, &value, loader, &source)),
             CACHE_EBUSY);
    CHECK_EQ(sound(box_claim(&the_box, key, &value, &c)),
             CACHE_CLAIM_MISS_WAIT);
    return 0;
}

static int load_next(uint64_t key)
{
    uint64_t value;

    if (key == 1 + 50)
        return load_same_again(1);
    CHECK_EQ(sound(box_load(&the_box, key + 1, &value, loader, &source)),
             CACHE_FOUND);
    return 0;
}

static void a_key_inside_its_own_loader_is_busy_and_others_are_fine(void)
{
    open_with(aging());
    source_of(10);
    source.meanwhile = load_same_again;
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(source.n_calls, 1);
    now_ms += 1000;
    source.n_calls = 0;
    source.meanwhile = load_next;
    CHECK_EQ(loads(1), CACHE_FOUND); /* 51 deep, and 1 is busy all the time */
    CHECK_EQ(source.n_calls, 51);
    CHECK_EQ(box_len(&the_box), 51);
    shut();
}

static void what_is_claimed_cannot_be_loaded_by_who_would_wait_for_himself(void)
{
    open_with(aging());
    source_of(10);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(loads(1), CACHE_EBUSY);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(source.n_calls, 0);
    shut();
}

static void a_load_that_fails_gives_its_error_or_an_older_value(void)
{
    open_with(aging());
    source_of(10);
    source.status = CACHE_EIO;
    CHECK_EQ(loads(1), CACHE_EIO);
    CHECK_EQ(got, NOTHING);
    source.status = 0;
    now_ms += 40;
    CHECK_EQ(loads(1), CACHE_FOUND);
    source.status = CACHE_ESTORE;
    now_ms += 100;
    CHECK_EQ(loads(1), CACHE_FOUND_STALE); /* stale */
    CHECK_EQ(got, 10);
    CHECK_EQ(source.n_calls, 3);
    CHECK_EQ(loads(1), CACHE_FOUND_STALE); /* failed lately */
    CHECK_EQ(source.n_calls, 3);
    now_ms += 200;
    CHECK_EQ(loads(1), CACHE_FOUND_STALE); /* a fallback */
    CHECK_EQ(source.n_calls, 4);
    now_ms += 100;
    CHECK_EQ(loads(1), CACHE_ESTORE); /* gone */
    CHECK_EQ(source.n_calls, 5);
    CHECK_EQ(stats().suppressed_errors, 2);
    CHECK_EQ(stats().load_errors, 4);
    CHECK_EQ(stats().loads, 5);
    shut();
}

static void a_fresh_value_that_cannot_be_refreshed_stays_fresh(void)
{
    struct cache_loading_config config = aging();

    config.freshness.refresh_pct = 50;
    open_with(config);
    source_of(10);
    CHECK_EQ(put(1, 9), 0);
    now_ms += 50;
    source.status = CACHE_EIO;
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(got, 9);
    CHECK_EQ(source.n_calls, 1);
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(source.n_calls, 1); /* it failed lately */
    now_ms += 40;
    CHECK_EQ(loads(1), CACHE_FOUND);
    CHECK_EQ(source.n_calls, 2);
    now_ms += 10; /* stale now, and still too early */
    CHECK_EQ(loads(1), CACHE_FOUND_STALE);
    CHECK_EQ(source.n_calls, 2);
    shut();
}

static void a_loader_that_finds_nothing_makes_the_key_absent(void)
{
    open_with(aging());
    source_of(10);
    source.status = CACHE_EKEY;
    CHECK_EQ(loads(1), CACHE_EKEY);
    CHECK_EQ(loads(1), CACHE_EKEY);
    CHECK_EQ(source.n_calls, 1);
    CHECK_EQ(stats().load_errors, 0);
    CHECK_EQ(put(2, 20), 0);
    now_ms += 100;
    CHECK_EQ(loads(2), CACHE_EKEY); /* an old value is no help then */
    CHECK_EQ(get(2), CACHE_EKEY);
    CHECK_EQ(left[20], 1);
    shut();
}

static void a_loader_that_returns_nonsense_has_failed(void)
{
    open_with(basic());
    source_of(10);
    source.status = 5;
    CHECK_EQ(loads(1), CACHE_EINVAL);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(box_len(&the_box), 0);
    shut();
}

static void a_load_beyond_its_claim_is_delivered_and_not_kept(void)
{
    struct cache_loading_config config = aging();

    config.claim_ms = 500;
    open_with(config);
    source_of(10);
    source.takes_ms = 500;
    CHECK_EQ(loads(1), CACHE_FOUND_UNSTORED);
    CHECK_EQ(got, 10);
    CHECK_EQ(get(1), CACHE_EKEY);
    source.takes_ms = 499;
    CHECK_EQ(loads(1), CACHE_FOUND);
    shut();
}

static void without_a_loader_there_is_no_load(void)
{
    uint64_t key = 1, value;
    int found;

    open_with(aging());
    CHECK_EQ(sound(box_load(&the_box, 1, &value, NULL, NULL)), CACHE_ENOSTORE);
    CHECK_EQ(box_load_many(&the_box, &key, 1, &value, &found, NULL, NULL), 1);
    CHECK_EQ(found, CACHE_ENOSTORE);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_MISS_YOU_LOAD); /* not an error
                                                               of a load */
    CHECK_EQ(sound(box_load(&the_box, 1, &value, NULL, NULL)), CACHE_EBUSY);
    CHECK_EQ(commit(&held, 10), 0);
    CHECK_EQ(sound(box_load(&the_box, 1, &value, NULL, NULL)), CACHE_FOUND);
    now_ms += 100; /* what is here is all there is */
    CHECK_EQ(sound(box_load(&the_box, 1, &value, NULL, NULL)),
             CACHE_FOUND_STALE);
    CHECK_EQ(value, 10);
    CHECK_EQ(box_load_many(&the_box, &key, 1, &value, &found, NULL, NULL), 0);
    CHECK_EQ(found, CACHE_FOUND_STALE);
    shut();
}

/* --- many at once -------------------------------------------------------- */

struct many {
    unsigned n_calls;
    size_t most, n_keys;
    uint64_t fail_from; /* keys from here on fail */
};

static void many_loader(const uint64_t *keys, uint64_t *values,
                        struct cache_loaded *loaded, size_t n, void *user)
{
    struct many *m = (struct many *)user;
    size_t i;

    m->n_calls++;
    m->n_keys += n;
    m->most = n > m->most ? n : m->most;
    for (i = 0; i < n; i++) {
        values[i] = keys[i] % 1000 + 1000;
        loaded[i].status = m->fail_from && keys[i] >= m->fail_from ? CACHE_EIO
                           : keys[i] % 10 == 9                     ? CACHE_EKEY
                                                                   : 0;
    }
}

static void many_keys_are_loaded_in_one_call(void)
{
    uint64_t keys[20], values[20];
    struct many m = { 0, 0, 0, 18 };
    int found[20];
    size_t i;

    open_with(aging());
    CHECK_EQ(put(0, 0), 0);
    CHECK_EQ(put(1, 1), 0);
    now_ms += 100;
    CHECK_EQ(put(0, 2), 0); /* fresh; 1 is stale */
    for (i = 0; i < 20; i++)
        keys[i] = i;
    CHECK_EQ(box_load_many(&the_box, keys, 20, values, found, many_loader, &m),
             3);
    (void)sound(0);
    CHECK_EQ(m.n_calls, 1);
    CHECK_EQ(m.n_keys, 19);
    for (i = 0; i < 20; i++) {
        int want = i == 9 ? CACHE_EKEY : i >= 18 ? CACHE_EIO : CACHE_FOUND;

        CHECK_EQ(found[i], want);
        if (want == CACHE_FOUND)
            CHECK_EQ(values[i], i == 0 ? 2 : i + 1000);
    }
    CHECK_EQ(box_load_many(&the_box, keys, 20, values, found, many_loader, &m),
             3);
    CHECK_EQ(m.n_calls, 1); /* all is known now */
    CHECK_EQ(stats().loads, 19);
    CHECK_EQ(box_load_many(&the_box, keys, 0, values, found, many_loader, &m),
             0);
    CHECK_EQ(m.n_calls, 1);
    shut();
}

static void a_key_twice_in_one_call_is_loaded_once(void)
{
    static const uint64_t keys[] = { 1, 2, 1, 3, 3, 9, 2, 9, 1 };
    uint64_t values[9];
    struct many m = { 0, 0, 0, 0 };
    int found[9];
    size_t i;

    open_with(aging());
    CHECK_EQ(box_load_many(&the_box, keys, 9, values, found, many_loader, &m),
             2);
    (void)sound(0);
    CHECK_EQ(m.n_keys, 4);
    for (i = 0; i < 9; i++) {
        CHECK_EQ(found[i], keys[i] == 9 ? CACHE_EKEY : CACHE_FOUND);
        if (keys[i] != 9)
            CHECK_EQ(values[i], keys[i] + 1000);
    }
    shut();
}

static void more_keys_than_claims_are_loaded_in_parts(void)
{
    struct cache_loading_config config = aging();
    uint64_t keys[700], values[700];
    struct many m = { 0, 0, 0, 0 };
    int found[700];
    size_t i, max_claims;

    for (max_claims = 1; max_claims < 2000; max_claims = max_claims * 7 + 3) {
        config.max_claims = (uint32_t)max_claims;
        config.cache.capacity = 1000;
        open_with(config);
        memset(&m, 0, sizeof m);
        for (i = 0; i < 700; i++)
            keys[i] = i * 10;
        CHECK_EQ(
            box_load_many(&the_box, keys, 700, values, found, many_loader, &m),
            0);
        (void)sound(0);
        CHECK_EQ(m.n_keys, 700);
        CHECK(m.most <= max_claims);
        for (i = 0; i < 700; i++) {
            CHECK_EQ(found[i], CACHE_FOUND);
            CHECK_EQ(values[i], keys[i] % 1000 + 1000);
        }
        shut();
    }
}

static void of_many_keys_those_that_others_hold_are_busy(void)
{
    static const uint64_t keys[] = { 1, 2, 3 };
    struct cache_loading_config config = aging();
    uint64_t values[3];
    struct many m = { 0, 0, 0, 0 };
    int found[3];

    config.max_claims = 1;
    open_with(config);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(box_load_many(&the_box, keys, 3, values, found, many_loader, &m),
             3);
    CHECK_EQ(found[0], CACHE_EFULL);
    CHECK_EQ(found[1], CACHE_EBUSY);
    CHECK_EQ(found[2], CACHE_EFULL);
    CHECK_EQ(m.n_calls, 0);
    CHECK_EQ(commit(&held, 22), 0);
    CHECK_EQ(box_load_many(&the_box, keys, 3, values, found, many_loader, &m),
             0);
    CHECK_EQ(values[1], 22);
    CHECK_EQ(values[2], 1003);
    shut();
}

static void get_many_finds_what_is_there_and_says_what_is_not(void)
{
    static const uint64_t keys[] = { 1, 2, 3, 4, 1 };
    uint64_t values[5];
    size_t missing[5];

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 100; /* stale */
    CHECK_EQ(put(3, 30), 0);
    CHECK_EQ(box_get_many(&the_box, keys, 5, values, missing), 2);
    CHECK_EQ(missing[0], 1);
    CHECK_EQ(missing[1], 3);
    CHECK_EQ(values[0], 10);
    CHECK_EQ(values[2], 30);
    CHECK_EQ(values[4], 10);
    CHECK_EQ(box_get_many(&the_box, keys, 0, values, missing), 0);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    shut();
}

static void many_are_put_and_removed(void)
{
    static const uint64_t keys[] = { 1, 2, 1 }, values[] = { 10, 20, 11 };
    int status[3] = { 1, 1, 1 };

    open_with(aging());
    CHECK_EQ(sound(box_put_many(&the_box, keys, values, 3, status)), 0);
    CHECK_EQ(status[0] | status[1] | status[2], 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(sound(box_remove_many(&the_box, keys, 3, status)), 0);
    CHECK_EQ(status[0] | status[1] | status[2], 0);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(box_len(&the_box), 0);
    CHECK_EQ(sound(box_put_many(&the_box, keys, values, 0, NULL)), 0);
    shut();
}

/* --- freshness of a cache ------------------------------------------------ */

static void one_reader_is_asked_to_refresh_ahead(void)
{
    struct cache_loading_config config = aging();
    struct cache_claim other;

    config.freshness.refresh_pct = 80;
    open_with(config);
    CHECK_EQ(put(1, 10), 0);
    now_ms += 69;
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_HIT);
    now_ms += 11;
    CHECK_EQ(get(1), CACHE_FOUND); /* served as fresh */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(got, 10);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_HIT);
    CHECK_EQ(claim_with(1, &other, &never), CACHE_CLAIM_HIT);
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 20;
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_STALE);
    CHECK_EQ(commit(&held, 11), 0);
    now_ms += 69;
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_HIT);
    CHECK_EQ(got, 11);
    shut();
}

static void what_is_not_read_for_its_idle_time_is_gone(void)
{
    struct cache_loading_config config = basic();
    struct cache_claim other;
    int i;

    config.freshness.idle_ms = 100;
    open_with(config);
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    CHECK_EQ(put(3, 30), 0);
    CHECK_EQ(put(4, 40), 0);
    for (i = 0; i < 10; i++) {
        now_ms += 50;
        CHECK_EQ(get(1), CACHE_FOUND); /* each read puts the end off */
        CHECK_EQ(claims(3, &other), CACHE_CLAIM_HIT);
        CHECK_EQ(loads(4), CACHE_FOUND);
        if (i == 0)
            CHECK(box_peek(&the_box, 2, &got)); /* which is no read */
        else
            CHECK(!box_peek(&the_box, 2, &got));
    }
    CHECK_EQ(get(2), CACHE_EKEY);
    now_ms += 89;
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 100;
    CHECK_EQ(get(1), CACHE_EKEY);
    shut();
}

static void reads_do_not_put_off_the_end_of_a_life(void)
{
    struct cache_loading_config config = aging();
    int i;

    config.freshness.idle_ms = 60;
    open_with(config);
    CHECK_EQ(put(1, 10), 0);
    for (i = 1; i < 40; i++) {
        now_ms += 10;
        CHECK_EQ(get_with(1, &always),
                 i < 10 ? CACHE_FOUND : CACHE_FOUND_STALE);
    }
    now_ms += 10;
    CHECK_EQ(get_with(1, &always), CACHE_EKEY);
    shut();
}

static void an_idle_time_beyond_the_range_of_ticks_is_for_ever(void)
{
    static const uint64_t idles[] = { CACHE_NEVER, UINT64_MAX - 1,
                                      10ull * UINT32_MAX, 10ull << 33,
                                      10ull * (UINT32_MAX - 3ull) };
    size_t i;

    for (i = 0; i < sizeof idles / sizeof *idles; i++) {
        struct cache_loading_config config = basic();

        config.freshness.idle_ms = idles[i];
        open_with(config);
        CHECK_EQ(put(1, 10), 0);
        now_ms += 1000000;
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(put(2, 20), 0);
        shut();
    }
}

static void times_beyond_the_range_of_ticks_are_taken(void)
{
    static const uint64_t times[] = { CACHE_NEVER,
                                      UINT64_MAX - 1,
                                      10ull * UINT32_MAX,
                                      10ull * (UINT32_MAX - 1ull),
                                      10ull * (UINT32_MAX - 2ull),
                                      10ull * (UINT32_MAX - 3ull) };
    size_t i;

    for (i = 0; i < sizeof times / sizeof *times; i++) {
        struct cache_loading_config config = basic();

        config.freshness.ttl_ms = config.freshness.stale_ms = times[i];
        config.freshness.negative_ttl_ms = times[i];
        config.freshness.error_ttl_ms = times[i];
        open_with(config);
        CHECK_EQ(put(1, 10), 0);
        now_ms += 1000000;
        CHECK_EQ(get(1), CACHE_FOUND);
        CHECK_EQ(put(2, 20), 0);
        CHECK_EQ(claims(3, &held), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(sound(box_commit_negative(&the_box, &held)), 0);
        CHECK_EQ(claims(3, &held), CACHE_EKEY);
        CHECK_EQ(claims(4, &held), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
        now_ms += 1000000;
        CHECK_EQ(claims(4, &held), CACHE_EIO);
        shut();
    }
}

static void at_the_end_of_the_ticks_nothing_new_is_fresh_for_ever(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 10ull * UINT32_MAX;
    CHECK_EQ(get(1), CACHE_EKEY);
    (void)put(2, 20);
    (void)sound(box_put_ttl(&the_box, 3, 30, CACHE_NEVER));
    now_ms += 10000;
    CHECK_EQ(get(2), CACHE_EKEY);
    CHECK_EQ(get(3), CACHE_FOUND);
    source_of(40);
    CHECK(loads(4) >= 0); /* it is delivered all the same */
    CHECK_EQ(got, 40);
    now_ms += 10000;
    CHECK_EQ(get(4), CACHE_EKEY);
    shut();
}

static void a_clock_that_goes_back_revives_nothing(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    now_ms += 500;
    CHECK_EQ(get(1), CACHE_EKEY);
    now_ms -= 500;
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(put(2, 20), 0);
    now_ms = 0;
    CHECK_EQ(get(2), CACHE_FOUND);
    CHECK_EQ(put(3, 30), 0);
    CHECK_EQ(get(3), CACHE_FOUND);
    now_ms = 1000 + 500 + 110; /* both were put at the latest time seen */
    CHECK_EQ(get(2), CACHE_FOUND_STALE);
    CHECK_EQ(get(3), CACHE_FOUND_STALE);
    shut();
}

static void jitter_parts_what_came_together(void)
{
    struct cache_loading_config config = basic();
    unsigned fresh[11] = { 0 }, step;
    uint64_t key;

    config.freshness.ttl_ms = 1000;
    config.freshness.jitter_pct = 50;
    open_with(config);
    for (key = 0; key < 100; key++)
        CHECK_EQ(put(key, key), 0);
    for (step = 0; step <= 10; step++, now_ms += 100)
        for (key = 0; key < 100; key++)
            fresh[step] += get(key) == CACHE_FOUND;
    CHECK_EQ(fresh[4], 100); /* no earlier than its percentage */
    CHECK(fresh[7] > 20 && fresh[7] < 95);
    CHECK_EQ(fresh[10], 0);
    shut();
}

/* --- invalidation -------------------------------------------------------- */

static void a_hard_invalidation_makes_everything_gone_at_once(void)
{
    uint64_t key;

    open_with(aging());
    for (key = 0; key < 50; key++)
        CHECK_EQ(put(key, key), 0);
    CHECK_EQ(claims(90, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(sound(box_commit_negative(&the_box, &held)), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    CHECK_EQ(claims(90, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    for (key = 0; key < 50; key++) {
        CHECK_EQ(get(key), CACHE_EKEY);
        CHECK_EQ(get_with(key, &always), CACHE_EKEY);
        CHECK(!box_peek(&the_box, key, &got));
    }
    CHECK_EQ(box_len(&the_box), 51); /* until tick comes by */
    CHECK_EQ(put(1, 101), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(stats().invalidations, 1);
    shut();
}

static void a_soft_invalidation_makes_everything_stale(void)
{
    struct cache_claim other;

    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    now_ms += 10;
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_STALE);
    CHECK_EQ(claim_with(2, &other, &never), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    CHECK_EQ(got, 11);
    CHECK_EQ(sound((int)box_tick(&the_box, 1000)), 0);
    CHECK_EQ(box_len(&the_box), 2); /* there is nothing to reclaim */
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(stats().invalidations, 4);
    shut();
}

static void without_any_times_invalidation_works_too(void)
{
    open_with(basic());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    CHECK_EQ(put(1, 11), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    now_ms += 100000;
    box_invalidate_key(&the_box, 1, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    CHECK_EQ(put(1, 12), 0);
    CHECK_EQ(get(1), CACHE_FOUND);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(get(2), CACHE_EKEY);
    shut();
}

static void one_key_is_invalidated_hard_or_soft(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    CHECK_EQ(put(3, 30), 0);
    box_invalidate_key(&the_box, 1, CACHE_INVALIDATE_HARD);
    box_invalidate_key(&the_box, 2, CACHE_INVALIDATE_SOFT);
    box_invalidate_key(&the_box, 9, CACHE_INVALIDATE_HARD);
    box_invalidate_key(&the_box, 9, CACHE_INVALIDATE_SOFT);
    (void)sound(0);
    CHECK_EQ(get(1), CACHE_EKEY);
    CHECK_EQ(get(2), CACHE_FOUND_STALE);
    CHECK_EQ(get(3), CACHE_FOUND);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_FOUND_STALE);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_STALE); /* failed lately */
    box_invalidate_key(&the_box, 2, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
    CHECK_EQ(abandon(&held, 0), CACHE_FOUND_STALE);
    now_ms += 200; /* its stale time is what it was */
    CHECK_EQ(get(2), CACHE_EKEY);
    CHECK_EQ(claims(4, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(sound(box_commit_negative(&the_box, &held)), 0);
    box_invalidate_key(&the_box, 4, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(claims(4, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    shut();
}

static void what_is_about_to_be_stale_is_so_at_once_when_invalidated(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(put(2, 20), 0);
    now_ms += 99 - 10;
    now_ms += 6; /* in the last tick in which they are fresh */
    CHECK_EQ(get(1), CACHE_FOUND);
    box_invalidate_key(&the_box, 1, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(1), CACHE_FOUND_STALE);
    CHECK_EQ(get(2), CACHE_FOUND);
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    CHECK_EQ(get(2), CACHE_FOUND_STALE);
    shut();
}

static void what_was_invalidated_is_reclaimed_by_tick_within_its_budget(void)
{
    uint64_t key;
    uint32_t left_over, len, steps = 0;

    open_with(basic());
    for (key = 0; key < 100; key++)
        CHECK_EQ(put(key, key), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    for (key = 0; key < 10; key++)
        CHECK_EQ(put(key, 200 + key), 0);
    CHECK_EQ(box_len(&the_box), 100);
    CHECK_EQ(box_tick(&the_box, 0), 100);
    do {
        len = box_len(&the_box);
        left_over = box_tick(&the_box, 7);
        (void)sound(0);
        CHECK(len - box_len(&the_box) <= 7);
        steps++;
    } while (left_over > 0 && steps < 1000);
    CHECK_EQ(steps, 15);
    CHECK_EQ(box_len(&the_box), 10);
    for (key = 0; key < 100; key++) {
        CHECK_EQ(get(key), key < 10 ? CACHE_FOUND : CACHE_EKEY);
        CHECK_EQ(left[key], 1);
        if (key >= 10)
            CHECK_EQ(causes[key], CACHE_CAUSE_INVALIDATED);
    }
    CHECK_EQ(box_tick(&the_box, 1000), 0);
    shut();
}

static void what_is_only_stale_is_not_reclaimed(void)
{
    open_with(aging());
    CHECK_EQ(put(1, 10), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    CHECK_EQ(put(2, 20), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
    (void)sound((int)box_tick(&the_box, 1000));
    CHECK_EQ(box_len(&the_box), 1);
    CHECK_EQ(get(2), CACHE_FOUND_STALE);
    shut();
}

static void an_invalidation_during_a_sweep_has_its_own(void)
{
    uint64_t key;
    int i;

    open_with(basic());
    for (key = 0; key < 100; key++)
        CHECK_EQ(put(key, key), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    CHECK_EQ(box_tick(&the_box, 50), 50);
    for (key = 0; key < 30; key++)
        CHECK_EQ(put(key, 200 + key), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    for (key = 0; key < 5; key++)
        CHECK_EQ(put(key, 300 + key), 0);
    for (i = 0; i < 10; i++) {
        (void)box_tick(&the_box, 50);
        (void)sound(0);
    }
    CHECK_EQ(box_tick(&the_box, 50), 0);
    CHECK_EQ(box_len(&the_box), 5);
    shut();
}

static void tick_reclaims_what_has_expired_too(void)
{
    uint64_t key;

    open_with(aging());
    for (key = 0; key < 60; key++)
        CHECK_EQ(put(key, key), 0);
    now_ms += 400;
    CHECK_EQ(put(70, 70), 0);
    box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
    CHECK_EQ(put(71, 71), 0);
    (void)sound((int)box_tick(&the_box, 1000));
    (void)sound((int)box_tick(&the_box, 1000));
    CHECK_EQ(box_len(&the_box), 1);
    CHECK_EQ(causes[0], CACHE_CAUSE_EXPIRED);
    CHECK_EQ(causes[70], CACHE_CAUSE_INVALIDATED);
    shut();
}

static void the_last_epoch_clears_and_they_begin_anew(void)
{
    struct cache_claim next;
    int soft;
    uint64_t key;

    for (soft = 0; soft < 2; soft++) {
        open_with(aging());
        the_box.front.epoch =
            UINT32_MAX - 1; /* as after so many invalidations */
        the_box.front.soft = the_box.front.hard = UINT32_MAX - 1;
        for (key = 0; key < 50; key++)
            CHECK_EQ(put(key, key), 0);
        box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
        CHECK_EQ(get(1), CACHE_EKEY);
        for (key = 0; key < 50; key++)
            CHECK_EQ(put(key, 100 + key), 0);
        (void)box_tick(&the_box, 20); /* a sweep is under way */
        CHECK_EQ(claims(90, &held), CACHE_CLAIM_MISS_YOU_LOAD);
        box_invalidate(&the_box,
                       soft ? CACHE_INVALIDATE_SOFT : CACHE_INVALIDATE_HARD);
        (void)sound(0);
        CHECK_EQ(box_len(&the_box), 0);
        CHECK_EQ(causes[100], CACHE_CAUSE_CLEARED);
        CHECK_EQ(get(1), CACHE_EKEY);
        CHECK_EQ(claims(90, &next), CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(commit(&held, 9), CACHE_ECONFLICT);
        CHECK_EQ(commit(&next, 90), 0);
        CHECK_EQ(get(90), CACHE_FOUND);
        for (key = 0; key < 50; key++)
            CHECK_EQ(put(key, 200 + key), 0);
        (void)sound((int)box_tick(&the_box, 1000));
        (void)sound((int)box_tick(&the_box, 1000));
        for (key = 0; key < 50; key++)
            CHECK_EQ(get(key), CACHE_FOUND); /* nothing live was reclaimed */
        box_invalidate(&the_box, CACHE_INVALIDATE_SOFT);
        CHECK_EQ(get(1), CACHE_FOUND_STALE);
        box_invalidate(&the_box, CACHE_INVALIDATE_HARD);
        CHECK_EQ(get(1), CACHE_EKEY);
        (void)sound((int)box_tick(&the_box, 1000));
        (void)sound((int)box_tick(&the_box, 1000));
        CHECK_EQ(box_len(&the_box), 0); /* and what is dead is */
        shut();
    }
}

/* --- events and counters ------------------------------------------------- */

static void events_come_in_order(void)
{
    struct cache_loading_config config = aging();
    uint64_t key;

    config.cache.capacity = 3;
    open_with(config);
    CHECK_EQ(put(1, 10), 0);
    expect_story("I1=10");
    CHECK_EQ(put(1, 11), 0);
    expect_story("U1=11");
    CHECK_EQ(left[10], 1);
    CHECK_EQ(causes[10], CACHE_CAUSE_REPLACED);
    CHECK_EQ(sound(box_remove(&the_box, 1)), 0);
    expect_story("R1=11");
    CHECK_EQ(causes[11], CACHE_CAUSE_REMOVED);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_YOU_LOAD);
    expect_story("S2");
    CHECK_EQ(commit(&held, 20), 0);
    expect_story("I2=20 E2=20");
    now_ms += 100;
    source_of(21);
    CHECK_EQ(loads(2), CACHE_FOUND);
    expect_story("S2 U2=21 E2=21");
    source.status = CACHE_EIO;
    CHECK_EQ(loads(3), CACHE_EIO);
    expect_story("S3 X3"); /* a known error is no value */
    source.status = CACHE_EKEY;
    CHECK_EQ(loads(4), CACHE_EKEY);
    expect_story("S4 E4");
    CHECK_EQ(put(4, 40), 0);
    expect_story("I4=40"); /* there was none before */
    now_ms += 400;
    CHECK_EQ(get(2), CACHE_EKEY);
    story[0] = '\0';
    CHECK_EQ(put(2, 22), 0);
    CHECK(strstr(story, "I2=22") != NULL || strstr(story, "U2=22") != NULL);
    CHECK_EQ(left[21], 1);
    for (key = 5; key < 8; key++)
        CHECK_EQ(put(key, key * 10), 0);
    CHECK(strstr(story, "R2=22") != NULL);
    CHECK_EQ(causes[22], CACHE_CAUSE_EVICTED);
    story[0] = '\0';
    CHECK_EQ(get(5), CACHE_FOUND);
    CHECK_EQ(sound(box_remove(&the_box, 99)), 0);
    expect_story("");
    box_invalidate_key(&the_box, 5, CACHE_INVALIDATE_HARD);
    expect_story("R5=50");
    shut();
}

static void each_counter_counts_what_it_says(void)
{
    struct cache_claim other;
    struct cache_loading_stats s;

    open_with(aging());
    CHECK_EQ(get(1), CACHE_EKEY); /* a miss */
    CHECK_EQ(put(1, 10), 0);
    CHECK_EQ(get(1), CACHE_FOUND);               /* a hit */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_HIT); /* a hit */
    now_ms += 100;
    CHECK_EQ(get(1), CACHE_FOUND_STALE);                       /* a stale hit */
    CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH); /* a held */
    CHECK_EQ(claims(1, &other), CACHE_CLAIM_STALE);
    s = stats();
    CHECK_EQ(s.cells.hits, 5);
    CHECK_EQ(s.stale_hits, 3);
    CHECK_EQ(s.misses, 1);
    CHECK_EQ(s.claims, 1);
    CHECK_EQ(s.loads, 0);
    CHECK_EQ(commit(&held, 11), 0);
    CHECK_EQ(claims(2, &held), CACHE_CLAIM_MISS_YOU_LOAD); /* held, miss */
    CHECK_EQ(claims(2, &other), CACHE_CLAIM_MISS_WAIT);    /* wait, miss */
    CHECK_EQ(abandon(&held, CACHE_EIO), CACHE_EIO);
    CHECK_EQ(claims(2, &held), CACHE_EIO); /* a negative hit */
    CHECK_EQ(get(2), CACHE_EIO);
    s = stats();
    CHECK_EQ(s.negative_hits, 2);
    CHECK_EQ(s.misses, 3);
    CHECK_EQ(s.claims, 2);
    CHECK_EQ(s.waits, 1);
    CHECK_EQ(s.loads, 2);
    CHECK_EQ(s.load_errors, 1);
    CHECK_EQ(s.cells.hits, 5);
    CHECK_EQ(s.lapsed + s.discarded + s.invalidations + s.n_dirty +
                 s.dirty_hits + s.suppressed_errors,
             0);
    shut();
}

CACHE_DEFINE_LOADING(bare, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                     0);

static void without_counters_there_are_none(void)
{
    struct cache_loading_config config = basic();
    struct cache_loading_stats s;
    struct bare c;
    uint64_t value;

    forget();
    CHECK_EQ(bare_init(&c, &config), 0);
    CHECK_EQ(bare_loading_stats(&c, &s), CACHE_EINVAL);
    CHECK_EQ(bare_put(&c, 1, 10), 0);
    CHECK_EQ(bare_get(&c, 1, &value), CACHE_FOUND);
    CHECK_EQ(value, 10);
    CHECK_SOUND(bare_check(&c));
    CHECK(bare_memory(&c).total_bytes > 0);
    CHECK_EQ(bare_close(&c, 0, NULL), 0);
    CHECK_EQ(bare_put(&c, 1, 10), CACHE_ECLOSED);
    CHECK_EQ(bare_remove(&c, 1), CACHE_ECLOSED);
    CHECK_EQ(bare_get(&c, 1, &value), CACHE_FOUND);
    bare_destroy(&c);
    bare_destroy(&c); /* twice is harmless */
    CHECK_EQ(n_allocs, n_frees);
}

/* --- values that own, weigh and do not fit ------------------------------- */

struct text {
    char *string; /* the cache's while it is there */
};

static long n_strings;

static char *string_of(size_t length)
{
    char *s = (char *)malloc(length + 1);

    if (s == NULL)
        abort();
    memset(s, 'x', length);
    s[length] = '\0';
    n_strings++;
    return s;
}

static void string_free(char *s)
{
    n_strings--;
    free(s);
}

static int name_copy(const char **key, void *user)
{
    char *copy;

    (void)user;
    if (key_copy_fails)
        return key_copy_fails;
    copy = string_of(strlen(*key));
    memcpy(copy, *key, strlen(*key));
    *key = copy;
    return 0;
}

static void name_free(const char **key, void *user)
{
    (void)user;
    string_free((char *)(uintptr_t)*key);
}

static void text_left(const char *const *key, struct text *value,
                      enum cache_cause cause, void *user)
{
    (void)user;
    CHECK((*key)[0] != '\0');
    CHECK(cause <= CACHE_CAUSE_INVALIDATED);
    string_free(value->string);
}

static uint64_t text_weight(const char *const *key, const struct text *value,
                            void *user)
{
    (void)user;
    return strlen(*key) + strlen(value->string) + 2;
}

CACHE_DEFINE_LOADING_WITH(heavy, const char *, struct text, cache_hash_str,
                          cache_equal_str,
                          CACHE_LRU | CACHE_WEIGHED | CACHE_STATS,
                          .key_copy = name_copy, .key_free = name_free,
                          .on_remove = text_left, .weigh = text_weight);

static struct heavy h;

static int text_loader(const char *const *key, struct text *value,
                       struct cache_loaded *loaded, void *user)
{
    size_t length = *(size_t *)user;

    (void)loaded;
    CHECK((*key)[0] != '\0');
    if (length == 0)
        return CACHE_EIO;
    value->string = string_of(length);
    return 0;
}

static int heavy_sound(int rc)
{
    CHECK_SOUND(heavy_check(&h));
    return rc;
}

static void heavy_open(void)
{
    struct cache_loading_config config = aging();

    forget();
    n_strings = 0;
    config.cache.capacity = 8;
    config.cache.max_bytes = 8 * 400;
    CHECK_EQ(heavy_init(&h, &config), 0);
}

static int heavy_loads(const char *key, size_t length, struct text *out)
{
    out->string = NULL;
    return heavy_sound(
        heavy_load_with(&h, key, out, NULL, text_loader, &length));
}

static void what_does_not_fit_is_delivered_and_the_callers(void)
{
    char name[16];
    struct text t;
    struct cache_loading_stats s;
    int i;

    heavy_open();
    CHECK_EQ(heavy_loads("a", 20, &t), CACHE_FOUND);
    CHECK_EQ(heavy_loads("b", 5000, &t), CACHE_FOUND_UNSTORED);
    CHECK_EQ(strlen(t.string), 5000);
    string_free(t.string);
    CHECK_EQ(heavy_sound(heavy_get(&h, "b", &t)), CACHE_EKEY);
    CHECK_EQ(heavy_sound(heavy_get(&h, "a", &t)), CACHE_FOUND);
    t.string = string_of(5000);
    CHECK(heavy_sound(heavy_put(&h, "a", t)) < 0);
    string_free(t.string); /* still the caller's */
    CHECK_EQ(heavy_sound(heavy_get(&h, "a", &t)), CACHE_FOUND);
    CHECK_EQ(strlen(t.string), 20); /* as it was */
    CHECK_EQ(heavy_loading_stats(&h, &s), 0);
    CHECK(s.used_bytes > 20 && s.used_bytes < 800);
    for (i = 0; i < 100; i++) { /* evicts all the time */
        (void)snprintf(name, sizeof name, "%d", i);
        CHECK_EQ(heavy_loads(name, 100 + (size_t)i, &t), CACHE_FOUND);
        (void)snprintf(name, sizeof name, "%d", i / 2);
        if (i % 3 == 0)
            CHECK_EQ(heavy_sound(heavy_remove(&h, name)), 0);
        if (i % 17 == 0)
            heavy_invalidate(&h, CACHE_INVALIDATE_HARD);
        if (i % 5 == 0)
            (void)heavy_sound((int)heavy_tick(&h, 3));
        now_ms += 7;
    }
    heavy_destroy(&h);
    CHECK_EQ(n_strings, 0);
}

static void keys_of_claims_are_the_caches_own(void)
{
    struct cache_claim a, c;
    struct text t;
    char name[8] = "one";

    heavy_open();
    CHECK_EQ(heavy_sound(heavy_claim(&h, name, &t, &a)),
             CACHE_CLAIM_MISS_YOU_LOAD);
    memcpy(name, "two", 4); /* the caller's is another now */
    CHECK_EQ(heavy_sound(heavy_claim(&h, name, &t, &c)),
             CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(heavy_sound(heavy_claim(&h, "one", &t, &c)),
             CACHE_CLAIM_MISS_WAIT);
    t.string = string_of(3);
    CHECK_EQ(heavy_sound(heavy_commit(&h, &a, t)), 0);
    CHECK_EQ(heavy_sound(heavy_get(&h, "one", &t)), CACHE_FOUND);
    heavy_destroy(&h); /* "two" is still claimed */
    CHECK_EQ(n_strings, 0);
}

static void a_key_that_cannot_be_copied_is_refused_and_nothing_changes(void)
{
    struct cache_claim c;
    struct text t, mine;

    heavy_open();
    CHECK_EQ(heavy_loads("a", 20, &t), CACHE_FOUND);
    now_ms += 100;
    key_copy_fails = CACHE_ENOMEM;
    CHECK_EQ(heavy_sound(heavy_claim(&h, "b", &t, &c)), CACHE_ENOMEM);
    CHECK_EQ(c.ticket, 0);
    CHECK_EQ(heavy_loads("b", 20, &t), CACHE_ENOMEM);
    CHECK(t.string == NULL);
    mine.string = string_of(4);
    CHECK_EQ(heavy_sound(heavy_put(&h, "b", mine)), CACHE_ENOMEM);
    string_free(mine.string);
    key_copy_fails = 0;
    CHECK_EQ(heavy_sound(heavy_get(&h, "a", &t)), CACHE_FOUND_STALE);
    CHECK_EQ(heavy_sound(heavy_claim(&h, "b", &t, &c)),
             CACHE_CLAIM_MISS_YOU_LOAD);
    mine.string = string_of(4);
    key_copy_fails = CACHE_ENOMEM; /* now that of the cells */
    CHECK_EQ(heavy_sound(heavy_commit(&h, &c, mine)), CACHE_ENOMEM);
    string_free(mine.string);
    key_copy_fails = 0;
    CHECK_EQ(heavy_sound(heavy_get(&h, "b", &t)), CACHE_EKEY);
    CHECK_EQ(heavy_loads("b", 20, &t), CACHE_FOUND);
    heavy_destroy(&h);
    CHECK_EQ(n_strings, 0);
}

static void a_failing_load_of_a_heavy_key_weighs_nothing(void)
{
    struct text t;

    heavy_open();
    CHECK_EQ(heavy_loads("a", 0, &t), CACHE_EIO);
    CHECK_EQ(heavy_loads("a", 10, &t), CACHE_EIO); /* known */
    now_ms += 40;
    CHECK_EQ(heavy_loads("a", 10, &t), CACHE_FOUND);
    heavy_destroy(&h);
    CHECK_EQ(n_strings, 0);
}

/* --- running out of memory ----------------------------------------------- */

static void init_without_memory_changes_nothing(void)
{
    struct cache_loading_config config = aging();
    struct box before;
    long k, n;

    for (k = 1;; k++) {
        forget();
        memset(&the_box, 0xa5, sizeof the_box);
        before = the_box;
        fail_at = k;
        if (box_init(&the_box, &config) == 0)
            break;
        n = n_allocs;
        CHECK_EQ(n, k);
        CHECK_EQ(n_frees, k - 1);
        CHECK(memcmp(&the_box, &before, sizeof the_box) == 0);
    }
    CHECK(k > 2);
    fail_at = 0;
    shut();
}

static void a_wrong_config_is_refused_and_nothing_is_touched(void)
{
    struct cache_loading_config config;
    struct box before;
    int i;

    memset(&the_box, 0xa5, sizeof the_box);
    before = the_box;
    forget();
    CHECK_EQ(box_init(NULL, &config), CACHE_EINVAL);
    CHECK_EQ(box_init(&the_box, NULL), CACHE_EINVAL);
    for (i = 0; i < 12; i++) {
        static const int want[] = {
            CACHE_EFRESHNESS, CACHE_EFRESHNESS, CACHE_EFRESHNESS, CACHE_ETTL,
            CACHE_ETTL,       CACHE_ETTL,       CACHE_ETTL,       CACHE_ELIMIT,
            CACHE_ECAPACITY,  CACHE_EALLOCATOR, CACHE_ECLOCK,     CACHE_ETICK
        };

        config = basic();
        switch (i) {
        case 0: config.cache.ttl_ms = 1000; break; /* it is freshness.ttl_ms */
        case 1: config.freshness.refresh_pct = 101; break;
        case 2: config.freshness.jitter_pct = 101; break;
        case 3: config.freshness.ttl_ms = 9; break;
        case 4: config.freshness.idle_ms = 9; break;
        case 5: config.freshness.negative_ttl_ms = 9; break;
        case 6: config.freshness.error_ttl_ms = 9; break;
        case 7: config.max_claims = CACHE_MAX_CAPACITY / 4 + 1; break;
        case 8: config.cache.capacity = 0; break;
        case 9: config.cache.free = NULL; break;
        case 10: config.cache.now = wall_now; break;
        default: config.cache.tick_ms = UINT32_MAX; break;
        }
        if (i == 11) {
            int rc = box_init(&the_box, &config);

            if (rc == 0) { /* a long tick is fine */
                box_destroy(&the_box);
                memset(&the_box, 0xa5, sizeof the_box);
                continue;
            }
        }
        CHECK_EQ(box_init(&the_box, &config), want[i]);
        CHECK(memcmp(&the_box, &before, sizeof the_box) == 0);
        CHECK_EQ(n_allocs, n_frees);
    }
}

/* Calls that allocate, with the k-th allocation failing, for every k. */
static int load_three(void)
{
    static const uint64_t keys[] = { 1, 2, 3 };
    struct many m = { 0, 0, 0, 0 };
    uint64_t values[3];
    int found[3];

    return box_load_many(&the_box, keys, 3, values, found, many_loader, &m) == 0
               ? 0
               : found[0];
}

static int put_three(void)
{
    static const uint64_t keys[] = { 1, 2, 3 }, values[] = { 1, 2, 3 };

    return box_put_many(&the_box, keys, values, 3, NULL);
}

static int remove_three(void)
{
    static const uint64_t keys[] = { 1, 2, 3 };

    return box_remove_many(&the_box, keys, 3, NULL);
}

static void calls_without_memory_fail_and_nothing_changes(void)
{
    static int (*const calls[])(void) = { load_three, put_three, remove_three };
    size_t i;
    long k;

    for (i = 0; i < 3; i++)
        for (k = 1;; k++) {
            int rc;

            open_with(aging());
            CHECK_EQ(put(1, 50), 0);
            CHECK_EQ(put(9, 90), 0);
            now_ms += 100;
            fail_at = n_allocs + k;
            rc = sound(calls[i]());
            if (rc == 0) {
                fail_at = 0;
                shut();
                CHECK(k > 1);
                break;
            }
            CHECK_EQ(rc, CACHE_ENOMEM);
            CHECK_EQ(box_len(&the_box), 2);
            CHECK_EQ(get(1), CACHE_FOUND_STALE);
            CHECK_EQ(got, 50);
            CHECK_EQ(claims(1, &held), CACHE_CLAIM_STALE_YOU_REFRESH);
            CHECK_EQ(commit(&held, 51), 0);
            shut();
        }
}

/* --- the table ----------------------------------------------------------- */

/* --- versions ------------------------------------------------------------ */

static int write_edition(const uint64_t *key, const uint64_t *value,
                         const struct cache_storing *storing, void *user)
{
    (void)key, (void)value, (void)storing, (void)user;
    return 0;
}

static int remove_edition(const uint64_t *key,
                          const struct cache_storing *storing, void *user)
{
    return write_edition(key, NULL, storing, user);
}

CACHE_DEFINE_LOADING_WITH(editions, uint64_t, uint64_t, cache_hash_u64,
                          cache_equal_u64, CACHE_META_VERSION,
                          .store = write_edition, .remove = remove_edition);

static struct editions the_editions;

/* Loads key 1 anew, whatever is there: a value of this version. */
static int reload(uint64_t value, uint64_t version)
{
    static const struct cache_reading anew = { .skip_read = true };
    const struct cache_loaded loaded = { .version = version };
    struct cache_claim claim;

    CHECK_EQ(editions_claim_with(&the_editions, 1, &got, &claim, &anew),
             CACHE_CLAIM_MISS_YOU_LOAD);
    return editions_commit_with(&the_editions, &claim, value, &loaded);
}

static void a_load_of_the_same_version_is_fresh_again_an_older_is_not_kept(void)
{
    struct cache_loading_config config = aging();

    CHECK_EQ(editions_init(&the_editions, &config), 0);
    CHECK_EQ(reload(10, 5), 0);
    now_ms += 120; /* stale */
    CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND_STALE);
    CHECK_EQ(reload(9, 4), CACHE_ECONFLICT);
    CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND_STALE);
    CHECK_EQ(reload(10, 5), 0);
    CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND);
    CHECK_EQ(got, 10);
    editions_destroy(&the_editions);
}

static void what_is_gone_or_none_is_newer_than_no_load(void)
{
    struct cache_loading_config config = basic();
    struct cache_claim claim;

    config.freshness.negative_ttl_ms = 1000;
    CHECK_EQ(editions_init(&the_editions, &config), 0);
    CHECK_EQ(reload(10, 5), 0);
    editions_invalidate(&the_editions, CACHE_INVALIDATE_HARD);
    CHECK_EQ(reload(9, 4), 0);
    CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND);
    CHECK_EQ(got, 9);
    CHECK_EQ(editions_claim(&the_editions, 2, &got, &claim),
             CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(editions_remove(&the_editions, 1), 0);
    CHECK_EQ(editions_commit_negative(&the_editions, &claim), 0);
    CHECK_EQ(editions_claim(&the_editions, 1, &got, &claim),
             CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(editions_commit_negative(&the_editions, &claim), 0);
    CHECK_EQ(reload(8, 1), 0);
    CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND);
    CHECK_EQ(got, 8);
    editions_destroy(&the_editions);
}

static void a_write_that_is_refused_for_its_version_leaves_a_load_alone(void)
{
    static const enum cache_strategy strategies[] = { CACHE_ASIDE,
                                                      CACHE_WRITE_THROUGH,
                                                      CACHE_WRITE_AROUND };
    size_t i;

    for (i = 0; i < sizeof strategies / sizeof *strategies; i++) {
        struct cache_loading_config config = basic();
        struct cache_claim claim;

        config.writes = strategies[i];
        CHECK_EQ(editions_init(&the_editions, &config), 0);
        CHECK_EQ(editions_claim(&the_editions, 1, &got, &claim),
                 CACHE_CLAIM_MISS_YOU_LOAD);
        CHECK_EQ(editions_put_if_version(&the_editions, 1, 10, 7),
                 CACHE_ECONFLICT);
        CHECK_EQ(editions_commit(&the_editions, &claim, 11), 0);
        CHECK_EQ(editions_get(&the_editions, 1, &got), CACHE_FOUND);
        CHECK_EQ(got, 11);
        editions_destroy(&the_editions);
    }
}

static const struct test tests[] = {
    TEST(one_who_misses_loads_and_the_others_wait),
    TEST(of_those_who_see_a_stale_value_one_refreshes_it),
    TEST(a_fallback_value_is_loaded_first_and_served_if_that_fails),
    TEST(a_dead_value_does_not_come_back_when_its_load_fails),
    TEST(hard_expiry_wins_over_a_slow_load),
    TEST(failing_loads_do_not_make_a_value_live_longer),
    TEST(an_error_is_known_for_its_time_if_there_is_no_value),
    TEST(without_an_error_ttl_the_next_one_loads_at_once),
    TEST(a_load_given_up_without_a_result_leaves_all_as_it_was),
    TEST(an_absent_key_is_known_for_its_time),
    TEST(an_absent_key_takes_the_place_of_its_old_value),
    TEST(a_claim_lapses_and_the_next_who_asks_has_it),
    TEST(what_is_committed_after_the_lapse_is_a_conflict),
    TEST(a_claim_is_good_for_one_commit),
    TEST(what_overtakes_a_load_makes_its_commit_a_conflict),
    TEST(who_asks_after_an_invalidation_or_a_write_begins_anew),
    TEST(what_is_written_under_other_keys_overtakes_nothing),
    TEST(a_load_that_is_overtaken_is_delivered_and_not_kept),
    TEST(when_all_claims_are_given_out_who_misses_is_refused),
    TEST(overtaken_claims_make_room_when_they_are_over),
    TEST(a_hundred_callers_make_one_load),
    TEST(keys_in_one_chain_are_told_apart),
    TEST(who_takes_no_stale_value_gets_none),
    TEST(who_takes_any_stale_value_does_not_wait),
    TEST(a_read_can_be_as_if_there_were_no_entry),
    TEST(a_read_can_leave_what_it_loads_out_of_the_cache),
    TEST(a_read_can_do_without_a_load),
    TEST(peek_finds_what_may_be_served_and_is_no_use),
    TEST(a_put_has_its_own_freshness_if_it_brings_one),
    TEST(a_put_has_its_own_times_if_it_names_them),
    TEST(a_put_can_leave_the_cache_out),
    TEST(what_is_loaded_is_found_without_a_load_from_then_on),
    TEST(a_loader_says_how_long_its_value_lives),
    TEST(the_times_of_a_load_begin_at_its_end),
    TEST(a_key_inside_its_own_loader_is_busy_and_others_are_fine),
    TEST(what_is_claimed_cannot_be_loaded_by_who_would_wait_for_himself),
    TEST(a_load_that_fails_gives_its_error_or_an_older_value),
    TEST(a_fresh_value_that_cannot_be_refreshed_stays_fresh),
    TEST(a_loader_that_finds_nothing_makes_the_key_absent),
    TEST(a_loader_that_returns_nonsense_has_failed),
    TEST(a_load_beyond_its_claim_is_delivered_and_not_kept),
    TEST(without_a_loader_there_is_no_load),
    TEST(many_keys_are_loaded_in_one_call),
    TEST(a_key_twice_in_one_call_is_loaded_once),
    TEST(more_keys_than_claims_are_loaded_in_parts),
    TEST(of_many_keys_those_that_others_hold_are_busy),
    TEST(get_many_finds_what_is_there_and_says_what_is_not),
    TEST(many_are_put_and_removed),
    TEST(one_reader_is_asked_to_refresh_ahead),
    TEST(what_is_not_read_for_its_idle_time_is_gone),
    TEST(reads_do_not_put_off_the_end_of_a_life),
    TEST(an_idle_time_beyond_the_range_of_ticks_is_for_ever),
    TEST(times_beyond_the_range_of_ticks_are_taken),
    TEST(at_the_end_of_the_ticks_nothing_new_is_fresh_for_ever),
    TEST(a_clock_that_goes_back_revives_nothing),
    TEST(jitter_parts_what_came_together),
    TEST(a_hard_invalidation_makes_everything_gone_at_once),
    TEST(a_soft_invalidation_makes_everything_stale),
    TEST(without_any_times_invalidation_works_too),
    TEST(one_key_is_invalidated_hard_or_soft),
    TEST(what_is_about_to_be_stale_is_so_at_once_when_invalidated),
    TEST(what_was_invalidated_is_reclaimed_by_tick_within_its_budget),
    TEST(what_is_only_stale_is_not_reclaimed),
    TEST(an_invalidation_during_a_sweep_has_its_own),
    TEST(tick_reclaims_what_has_expired_too),
    TEST(the_last_epoch_clears_and_they_begin_anew),
    TEST(events_come_in_order),
    TEST(each_counter_counts_what_it_says),
    TEST(without_counters_there_are_none),
    TEST(what_does_not_fit_is_delivered_and_the_callers),
    TEST(keys_of_claims_are_the_caches_own),
    TEST(a_key_that_cannot_be_copied_is_refused_and_nothing_changes),
    TEST(a_failing_load_of_a_heavy_key_weighs_nothing),
    TEST(a_load_of_the_same_version_is_fresh_again_an_older_is_not_kept),
    TEST(what_is_gone_or_none_is_newer_than_no_load),
    TEST(a_write_that_is_refused_for_its_version_leaves_a_load_alone),
    TEST(init_without_memory_changes_nothing),
    TEST(a_wrong_config_is_refused_and_nothing_is_touched),
    TEST(calls_without_memory_fail_and_nothing_changes),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
