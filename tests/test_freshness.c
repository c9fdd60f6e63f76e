/*
 * test_freshness.c - how long a value is good: the table at the head of
 * cache_freshness.h in all its cases, lives, and the clock.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "cache_freshness.h"
#include "tests/test.h"

/* --- the table of the essay, once more and slowly ------------------------ */

enum row { FRESH, REFRESH, STALE, FALLBACK, FAILED, NEGATIVE, GONE };

#define ITS_ERROR 99

/* Nobody is asked yet; somebody is loading it; its key is dirty. */
static const int table[][3] = {
    { CACHE_CLAIM_HIT, CACHE_CLAIM_HIT, CACHE_CLAIM_HIT },
    { CACHE_CLAIM_STALE_YOU_REFRESH, CACHE_CLAIM_HIT, CACHE_CLAIM_HIT },
    { CACHE_CLAIM_STALE_YOU_REFRESH, CACHE_CLAIM_STALE, CACHE_CLAIM_HIT },
    { CACHE_CLAIM_MISS_YOU_LOAD, CACHE_CLAIM_MISS_WAIT, CACHE_CLAIM_HIT },
    { CACHE_CLAIM_STALE, CACHE_CLAIM_STALE, CACHE_CLAIM_HIT },
    { ITS_ERROR, ITS_ERROR, CACHE_CLAIM_HIT },
    { CACHE_CLAIM_MISS_YOU_LOAD, CACHE_CLAIM_MISS_WAIT, CACHE_CLAIM_HIT },
};

static const enum cache_verdict verdict_of_row[] = {
    CACHE_VERDICT_FRESH,    CACHE_VERDICT_REFRESH, CACHE_VERDICT_STALE,
    CACHE_VERDICT_FALLBACK, CACHE_VERDICT_FAILED,  CACHE_VERDICT_NEGATIVE,
    CACHE_VERDICT_GONE,
};

static enum row row_of(const struct cache_life *life,
                       const struct cache_moment *at)
{
    bool softly = life->birth < at->soft; /* "stale, whatever is left" */
    bool fresh_time = at->tick < life->fresh_until && !softly;

    if (life->birth < at->hard) /* "hard invalidation makes it gone" */
        return GONE;
    if (at->tick >= life->dead_at) /* "gone is gone" */
        return GONE;
    if (life->state != CACHE_LIFE_VALUE && life->state != CACHE_LIFE_FAILED)
        return fresh_time ? NEGATIVE : GONE;
    if (fresh_time && at->tick < life->refresh_at)
        return FRESH;
    if (fresh_time)
        return REFRESH;
    if (life->state == CACHE_LIFE_FAILED && at->tick < life->refresh_at)
        return FAILED;
    if (at->tick < life->stale_until)
        return STALE;
    return FALLBACK;
}

static long n_cases;

static void check_case(const struct cache_life *life,
                       const struct cache_moment *at)
{
    enum row row = row_of(life, at);
    int dirty, claimed;

    CHECK_EQ(cache_life_verdict(life, at), verdict_of_row[row]);
    CHECK_EQ(cache_life_is_fresh(life, at), row == FRESH);
    for (dirty = 0; dirty < 2; dirty++)
        for (claimed = 0; claimed < 2; claimed++) {
            int want = table[row][dirty ? 2 : claimed];

            n_cases++;
            CHECK_EQ(cache_decide(life, at, dirty != 0, claimed != 0),
                     want == ITS_ERROR ? life->state : want);
        }
}

/* Moments in an order that a life may have, which `ticks` are drawn from. */
static void check_orders(struct cache_life *life, struct cache_moment *at,
                         const uint32_t *ticks, int n)
{
    int r, f, s, d, now;

    for (d = 0; d < n; d++)
        for (s = 0; s <= d; s++)
            for (f = 0; f <= s; f++)
                for (r = 0; r < n; r++) {
                    if (r > f && life->state != CACHE_LIFE_FAILED)
                        break;
                    life->refresh_at = ticks[r];
                    life->fresh_until = ticks[f];
                    life->stale_until = ticks[s];
                    life->dead_at = ticks[d];
                    for (now = 0; now < n && ticks[now] < UINT32_MAX; now++) {
                        at->tick = ticks[now];
                        check_case(life, at);
                    }
                }
}

static void every_case_of_the_table_is_as_it_says(void)
{
    /* Nine let four moments and now be all different, with others between. */
    static const uint32_t ticks[][9] = {
        { 1, 2, 3, 4, 5, 6, 7, 8, 9 },
        { 1, 2, 3, 0x7fffffff, 0x80000000u, 0x80000001u, UINT32_MAX - 2,
          UINT32_MAX - 1, CACHE_LIFE_FOREVER },
    };
    static const int32_t states[] = {
        CACHE_LIFE_VALUE, CACHE_LIFE_FAILED, CACHE_EKEY, CACHE_ESTORE, -1,
        INT32_MIN
    };
    struct cache_life life;
    struct cache_moment at;
    size_t i, j;

    memset(&life, 0, sizeof life);
    n_cases = 0;
    for (i = 0; i < sizeof ticks / sizeof *ticks; i++)
        for (j = 0; j < sizeof states / sizeof *states; j++)
            for (life.birth = 1; life.birth <= 3; life.birth++)
                for (at.soft = 1; at.soft <= 4; at.soft++)
                    for (at.hard = 0; at.hard <= at.soft; at.hard++) {
                        life.state = states[j];
                        check_orders(&life, &at, ticks[i], 9);
                    }
    CHECK(n_cases > 1000000);
}

static void without_an_entry_it_is_loaded_or_waited_for_or_in_the_buffer(void)
{
    struct cache_moment at = { 7, 1, 1 };

    CHECK_EQ(cache_decide(NULL, &at, false, false), CACHE_CLAIM_MISS_YOU_LOAD);
    CHECK_EQ(cache_decide(NULL, &at, false, true), CACHE_CLAIM_MISS_WAIT);
    CHECK_EQ(cache_decide(NULL, &at, true, false), CACHE_CLAIM_HIT);
    CHECK_EQ(cache_decide(NULL, &at, true, true), CACHE_CLAIM_HIT);
}

/* --- lives --------------------------------------------------------------- */

static uint64_t now_ms;

static uint64_t read_now(void *user)
{
    (void)user;
    return now_ms;
}

static struct cache_clock clock_of(uint64_t start_ms, uint32_t tick_ms)
{
    struct cache_clock clock;

    memset(&clock, 0, sizeof clock);
    clock.now = read_now;
    clock.start_ms = now_ms = start_ms;
    clock.tick_ms = tick_ms;
    clock.tick = 1;
    return clock;
}

__extension__ typedef unsigned __int128 wide;

/* The tick that a time since start falls into; the last one stands still. */
static wide tick_of(wide since_ms, uint32_t tick_ms)
{
    return since_ms / tick_ms + 1;
}

/* A moment `ms` from now: past in the tick in which they end, not before the
 * tick before it. */
static void check_moment(const struct cache_clock *clock, uint32_t moment,
                         wide ms)
{
    wide since = now_ms - clock->start_ms;
    wide tick = tick_of(since + ms, clock->tick_ms);

    if (ms >= CACHE_NEVER) {
        CHECK_EQ(moment, CACHE_LIFE_FOREVER);
        return;
    }
    if (tick >= UINT32_MAX - 1) { /* time stands still before */
        CHECK_EQ(moment, UINT32_MAX - 1);
        return;
    }
    CHECK(moment <= tick); /* never late */
    if (ms >= clock->tick_ms)
        CHECK(moment > tick_of(since + ms - clock->tick_ms, clock->tick_ms));
    CHECK(moment >= clock->tick);
}

static void check_order(const struct cache_life *life)
{
    CHECK(life->refresh_at <= life->fresh_until);
    CHECK(life->fresh_until <= life->stale_until);
    CHECK(life->stale_until <= life->dead_at);
}

static wide percent(wide ms, uint32_t pct)
{
    return ms * pct / 100;
}

static uint32_t earlier(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* One life without jitter, against what each member says of it. */
static void check_life(const struct cache_freshness *f,
                       struct cache_clock *clock, uint64_t ttl_ms,
                       uint64_t lifetime_ms, uint64_t random)
{
    struct cache_life life =
        cache_life_of(f, clock, ttl_ms, lifetime_ms, 5, random);
    uint64_t ttl = ttl_ms ? ttl_ms : f->ttl_ms ? f->ttl_ms : CACHE_NEVER;
    uint32_t end = CACHE_LIFE_FOREVER;
    wide spare =
        f->stale_ms > f->stale_if_error_ms ? f->stale_ms : f->stale_if_error_ms;

    CHECK_EQ(life.birth, 5);
    CHECK_EQ(life.state, CACHE_LIFE_VALUE);
    check_order(&life);
    if (lifetime_ms != 0 && lifetime_ms != CACHE_NEVER) {
        end = cache__clock_after(clock, lifetime_ms);
        check_moment(clock, end, lifetime_ms);
        CHECK(life.dead_at <= end); /* whatever freshness says */
    }
    if (ttl == CACHE_NEVER) {
        CHECK_EQ(life.refresh_at, end);
        CHECK_EQ(life.dead_at, end);
        return;
    }
    if (f->jitter_pct == 0) {
        if (life.fresh_until < end)
            check_moment(clock, life.fresh_until, ttl);
        else
            CHECK(end < CACHE_LIFE_FOREVER ||
                  tick_of((wide)ttl + now_ms - clock->start_ms,
                          clock->tick_ms) >= UINT32_MAX - 1);
        if (f->refresh_pct == 0)
            CHECK_EQ(life.refresh_at, life.fresh_until);
        else if (life.refresh_at < life.fresh_until)
            check_moment(clock, life.refresh_at, percent(ttl, f->refresh_pct));
        if (life.stale_until < end)
            check_moment(clock, life.stale_until, (wide)ttl + f->stale_ms);
        if (life.dead_at < end)
            check_moment(clock, life.dead_at, (wide)ttl + spare);
        return;
    }
    { /* jitter: between the whole time and what the percentage leaves */
        uint64_t least = ttl - (uint64_t)percent(ttl, f->jitter_pct);

        CHECK(life.fresh_until <= cache__clock_after(clock, ttl));
        CHECK(life.fresh_until >=
              earlier(end, cache__clock_after(clock, least)));
    }
}

static void lives_are_as_each_member_says_in_all_combinations(void)
{
    static const uint32_t tick_mss[] = { 1, 7, 50 };
    static const uint64_t times[] = { 0,
                                      50,
                                      51,
                                      99,
                                      12345,
                                      UINT32_MAX,
                                      (uint64_t)UINT32_MAX * 50,
                                      UINT64_MAX - 1,
                                      CACHE_NEVER };
    static const uint64_t spares[] = { 0,          1, 50, 777, UINT64_MAX - 60,
                                       CACHE_NEVER };
    static const uint64_t lifetimes[] = { 0,          1,     50,
                                          400,        13000, UINT64_MAX - 1,
                                          CACHE_NEVER };
    static const uint32_t pcts[] = { 0, 1, 50, 99, 100 };
    static const uint64_t since[] = { 0, 1, 49, 1000003 };
    uint64_t random = test_seed;
    size_t t, a, b, c, d, e, g, h, i;

    for (t = 0; t < 3; t++)
        for (i = 0; i < 4; i++) {
            struct cache_clock clock = clock_of(1u << 20, tick_mss[t]);

            now_ms += since[i];
            (void)cache__clock_tick(&clock);
            for (a = 0; a < 9; a++)
                for (b = 0; b < 6; b++)
                    for (c = 0; c < 6; c++)
                        for (d = 0; d < 7; d++)
                            for (e = 0; e < 5; e++)
                                for (g = 0; g < 5; g++)
                                    for (h = 0; h < 9; h += 4) {
                                        struct cache_freshness f;

                                        memset(&f, 0, sizeof f);
                                        f.ttl_ms = times[a];
                                        f.stale_ms = spares[b];
                                        f.stale_if_error_ms = spares[c];
                                        f.refresh_pct = pcts[e];
                                        f.jitter_pct = pcts[g];
                                        check_life(&f, &clock, times[h],
                                                   lifetimes[d],
                                                   test_random(&random));
                                    }
        }
}

static void a_value_is_past_its_time_in_the_tick_in_which_it_ends(void)
{
    struct cache_freshness f;
    uint64_t offset;

    memset(&f, 0, sizeof f);
    f.ttl_ms = 130;
    f.stale_ms = 60;
    f.stale_if_error_ms = 200;
    f.refresh_pct = 50;
    for (offset = 0; offset < 100; offset++) {
        struct cache_clock clock = clock_of(77, 50);
        struct cache_moment at = { 0, 1, 1 };
        struct cache_life life;
        uint64_t put_ms = now_ms += offset, past;

        life = cache_life_of(&f, &clock, 0, 0, 1, 0);
        for (past = 0; past < 500; past++) {
            enum cache_verdict v;

            now_ms = put_ms + past;
            at.tick = cache__clock_tick(&clock);
            v = cache_life_verdict(&life, &at);
            if (past >= 65)
                CHECK(v != CACHE_VERDICT_FRESH);
            if (past >= 130)
                CHECK(v != CACHE_VERDICT_REFRESH);
            if (past >= 190)
                CHECK(v != CACHE_VERDICT_STALE);
            if (past >= 330)
                CHECK_EQ(v, CACHE_VERDICT_GONE);
            if (past + 50 < 65)
                CHECK_EQ(v, CACHE_VERDICT_FRESH);
            if (past >= 65 && past + 50 < 130)
                CHECK_EQ(v, CACHE_VERDICT_REFRESH);
            if (past >= 130 && past + 50 < 190)
                CHECK_EQ(v, CACHE_VERDICT_STALE);
            if (past >= 190 && past + 50 < 330)
                CHECK_EQ(v, CACHE_VERDICT_FALLBACK);
        }
    }
}

static void jitter_shortens_by_its_percentage_at_most_and_spreads(void)
{
    struct cache_clock clock = clock_of(0, 1);
    struct cache_freshness f;
    uint64_t random = test_seed;
    uint32_t first = UINT32_MAX, last = 0, i, buckets[10] = { 0 };

    memset(&f, 0, sizeof f);
    f.ttl_ms = 10000;
    f.jitter_pct = 10;
    for (i = 0; i < 10000; i++) {
        struct cache_life life =
            cache_life_of(&f, &clock, 0, 0, 1, test_random(&random));

        CHECK(life.fresh_until >= 9001 && life.fresh_until <= 10001);
        first = earlier(first, life.fresh_until);
        last = life.fresh_until > last ? life.fresh_until : last;
        buckets[(life.fresh_until - 9001) / 101]++;
    }
    CHECK(first < 9010 && last > 9991);
    for (i = 0; i < 10; i++)
        CHECK(buckets[i] > 700 && buckets[i] < 1300); /* of 1000: 10 sigma */
}

static void
what_refreshes_ahead_does_so_after_its_part_of_the_jittered_time(void)
{
    struct cache_clock clock = clock_of(0, 1);
    struct cache_freshness f;
    uint64_t random = test_seed, i;

    memset(&f, 0, sizeof f);
    f.ttl_ms = 1000;
    f.jitter_pct = 50;
    f.refresh_pct = 80;
    for (i = 0; i < 1000; i++) {
        struct cache_life life =
            cache_life_of(&f, &clock, 0, 0, 1, test_random(&random));

        CHECK_EQ(life.refresh_at - 1, (life.fresh_until - 1) * 80 / 100);
    }
}

static void what_is_known_to_be_absent_is_known_for_its_time(void)
{
    struct cache_clock clock = clock_of(1000, 50);
    struct cache_moment at = { 1, 1, 1 };
    struct cache_life life;

    now_ms += 20;
    life = cache_life_of_none(&clock, 100, 1, CACHE_EKEY);
    check_order(&life);
    check_moment(&clock, life.dead_at, 100);
    CHECK_EQ(life.birth, 1);
    CHECK_EQ(cache_decide(&life, &at, false, false), CACHE_EKEY);
    now_ms += 100;
    at.tick = cache__clock_tick(&clock);
    CHECK_EQ(cache_decide(&life, &at, false, false), CACHE_CLAIM_MISS_YOU_LOAD);
    life = cache_life_of_none(&clock, UINT64_MAX - 1, 1, CACHE_EIO);
    CHECK_EQ(life.dead_at, UINT32_MAX - 1);
    CHECK_EQ(cache_decide(&life, &at, false, false), CACHE_EIO);
}

static void a_config_is_checked_member_by_member(void)
{
    struct cache_freshness none, f;
    uint64_t *times[] = { &f.ttl_ms, &f.idle_ms, &f.negative_ttl_ms,
                          &f.error_ttl_ms };
    uint32_t *pcts[] = { &f.refresh_pct, &f.jitter_pct };
    size_t i;

    memset(&none, 0, sizeof none);
    f = none;
    CHECK_EQ(cache_freshness_check(&f, 50), 0);
    for (i = 0; i < 4; i++) {
        f = none;
        *times[i] = 49;
        CHECK_EQ(cache_freshness_check(&f, 50), CACHE_ETTL);
        *times[i] = 1;
        CHECK_EQ(cache_freshness_check(&f, 50), CACHE_ETTL);
        CHECK_EQ(cache_freshness_check(&f, 1), 0);
        *times[i] = 50;
        CHECK_EQ(cache_freshness_check(&f, 50), 0);
        *times[i] = CACHE_NEVER;
        CHECK_EQ(cache_freshness_check(&f, 50), 0);
    }
    for (i = 0; i < 2; i++) {
        f = none;
        *pcts[i] = 100;
        CHECK_EQ(cache_freshness_check(&f, 50), 0);
        *pcts[i] = 101;
        CHECK_EQ(cache_freshness_check(&f, 50), CACHE_EFRESHNESS);
        *pcts[i] = UINT32_MAX;
        CHECK_EQ(cache_freshness_check(&f, 50), CACHE_EFRESHNESS);
    }
    f = none; /* stale times may be as short as they like */
    f.stale_ms = f.stale_if_error_ms = 1;
    CHECK_EQ(cache_freshness_check(&f, 50), 0);
}

/* --- the clock ----------------------------------------------------------- */

static void ticks_are_counted_from_one(void)
{
    struct cache_clock clock = clock_of(12345, 50);
    uint64_t ms;

    for (ms = 0; ms < 1000; ms++) {
        now_ms = 12345 + ms;
        CHECK_EQ(cache__clock_tick(&clock), ms / 50 + 1);
    }
}

static void a_clock_that_goes_back_revives_nothing(void)
{
    struct cache_clock clock = clock_of(1000, 10);
    struct cache_freshness f;
    struct cache_life life;
    uint32_t tick;

    memset(&f, 0, sizeof f);
    f.ttl_ms = 100;
    now_ms = 2000;
    tick = cache__clock_tick(&clock);
    CHECK_EQ(tick, 101);
    now_ms = 1500;
    CHECK_EQ(cache__clock_tick(&clock), tick);
    /* What comes now lives from the latest time that was seen. */
    life = cache_life_of(&f, &clock, 0, 0, 1, 0);
    CHECK_EQ(life.fresh_until, tick + 10);
    now_ms = 0; /* before its start */
    CHECK_EQ(cache__clock_tick(&clock), tick);
    life = cache_life_of(&f, &clock, 0, 0, 1, 0);
    CHECK_EQ(life.fresh_until, tick + 10);
    now_ms = 2095;
    CHECK_EQ(cache__clock_tick(&clock), 110);
    now_ms = 2100;
    CHECK_EQ(cache__clock_tick(&clock), 111);
}

static void a_clock_that_jumps_is_followed(void)
{
    struct cache_clock clock = clock_of(0, 50);

    now_ms = 50ull * 1000000;
    CHECK_EQ(cache__clock_tick(&clock), 1000001);
    now_ms = 50ull * 3000000000u + 49;
    CHECK_EQ(cache__clock_tick(&clock), 3000000001u);
}

static void a_time_that_the_program_keeps_is_read_where_it_is(void)
{
    struct cache_clock clock = clock_of(0, 50);
    uint64_t kept_ms = 500;

    clock.now_ms = &kept_ms;
    clock.now = NULL;
    CHECK_EQ(cache__clock_tick(&clock), 11);
    kept_ms = 1000;
    CHECK_EQ(cache__clock_tick(&clock), 21);
}

static void time_stands_still_at_the_end_of_the_ticks(void)
{
    static const uint64_t last[] = { UINT32_MAX - 4ull, UINT32_MAX - 3ull,
                                     UINT32_MAX - 2ull, UINT32_MAX - 1ull,
                                     UINT32_MAX,        UINT32_MAX + 1ull,
                                     UINT64_MAX / 100 };
    struct cache_clock clock = clock_of(5, 10);
    uint32_t before = 0, tick = 0;
    size_t i;

    for (i = 0; i < sizeof last / sizeof *last; i++) {
        now_ms = 5 + last[i] * 10;
        tick = cache__clock_tick(&clock);
        CHECK(tick >= before && tick < CACHE_LIFE_FOREVER);
        before = tick;
    }
    CHECK_EQ(tick, UINT32_MAX - 1);
    now_ms = UINT64_MAX;
    CHECK_EQ(cache__clock_tick(&clock), UINT32_MAX - 1);
}

/* A moment that time does not get to: it would be for ever. */
static void nothing_begins_to_live_for_ever_at_the_end_of_the_ticks(void)
{
    struct cache_clock clock = clock_of(0, 10);
    struct cache_moment at = { 0, 1, 1 };
    struct cache_freshness f;
    struct cache_life life, none;
    uint64_t back;

    memset(&f, 0, sizeof f);
    f.ttl_ms = 100;
    memset(&life, 0, sizeof life);
    memset(&none, 0, sizeof none);
    for (back = 30; back-- > 0;) {
        now_ms = (UINT32_MAX - 2ull - back) * 10;
        life = cache_life_of(&f, &clock, 0, 0, 1, 0);
        none = cache_life_of_none(&clock, 100, 1, CACHE_EKEY);
        check_order(&life);
        CHECK(life.dead_at < CACHE_LIFE_FOREVER);
    }
    at.tick = cache__clock_tick(&clock);
    CHECK_EQ(cache_life_verdict(&life, &at), CACHE_VERDICT_GONE);
    CHECK_EQ(cache_life_verdict(&none, &at), CACHE_VERDICT_GONE);
    f.ttl_ms = 0; /* but what has no end has none */
    life = cache_life_of(&f, &clock, 0, CACHE_NEVER, 1, 0);
    CHECK_EQ(cache_life_verdict(&life, &at), CACHE_VERDICT_FRESH);
}

/* --- the table ----------------------------------------------------------- */

static const struct test tests[] = {
    TEST(every_case_of_the_table_is_as_it_says),
    TEST(without_an_entry_it_is_loaded_or_waited_for_or_in_the_buffer),
    TEST(lives_are_as_each_member_says_in_all_combinations),
    TEST(a_value_is_past_its_time_in_the_tick_in_which_it_ends),
    TEST(jitter_shortens_by_its_percentage_at_most_and_spreads),
    TEST(what_refreshes_ahead_does_so_after_its_part_of_the_jittered_time),
    TEST(what_is_known_to_be_absent_is_known_for_its_time),
    TEST(a_config_is_checked_member_by_member),
    TEST(ticks_are_counted_from_one),
    TEST(a_clock_that_goes_back_revives_nothing),
    TEST(a_clock_that_jumps_is_followed),
    TEST(a_time_that_the_program_keeps_is_read_where_it_is),
    TEST(time_stands_still_at_the_end_of_the_ticks),
    TEST(nothing_begins_to_live_for_ever_at_the_end_of_the_ticks),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
