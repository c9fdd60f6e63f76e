/*
 * sim_loading.c - whole loading caches in a simulated world.
 *
 * Thousands of short lives of a program, each from one seed: strategies, times,
 * sizes and store are drawn, then some hundred operations on a real cache.  The
 * clock is a number, the store does what the seed says: it refuses, fails, is
 * slow, answers out of order, times out and applies the write all the same - at
 * times after a newer one.  Loaders and writers use other keys meanwhile.  A
 * life ends in a crash, and the next begins with what the store has, or with an
 * orderly close.  There is no thread: where the cache would wait for one, the
 * store's next event happens.
 *
 * Beside the cache goes an oracle that was written from the comments at the
 * heads of the headers: for each key all writes, what the store has, who may
 * load it, and which of the states of cache_freshness.h its entry may be in.
 * Which entry is evicted is the policy's to choose; the oracle is told by the
 * events, and knows which of them there may be.
 *
 * A failure prints its seed; --seed=N runs just that one, and with --trace it
 * says what happens.  The environment
 * variable TEST_SCALE multiplies the number of seeds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdbool.h>

static int sim_wait(pthread_cond_t *changed, pthread_mutex_t *lock,
                    const struct timespec *until);
#define pthread_cond_timedwait sim_wait

#include "cache_loading.h"
#include "codecs/cache_raw.h"
#include "tests/test.h"

#ifdef __SANITIZE_ADDRESS__
#define N_SEEDS 1000
#else
#define N_SEEDS 5000
#endif
#define MAX_KEYS 24
#define MAX_STAMPS 4096
#define MAX_FLIGHTS 16
#define MAX_ITEMS 24
#define MAX_LATE 64
#define MAX_HELD 12
#define MAX_LICENCES 32
#define MANY 6
#define WALL 1700000000000u

/* A value is named by a stamp, its place in the order of all writes of a seed;
 * 0 is "none". */
typedef uint32_t stamp;

struct value {
    uint32_t key;
    stamp stamp;
    uint64_t sum;
};

static uint64_t sum_of(uint32_t key, stamp number)
{
    return (uint64_t)key * 1000003u + (uint64_t)number * 0x9e3779b97f4a7c15u;
}

/* --- the world ----------------------------------------------------------- */

#define NOT_SAID 1 /* by the store, of a write */

struct write {
    uint32_t key, life;
    bool remove, behind, accepted, confirmed, buried;
    uint64_t expires_ms; /* unix; 0 = never */
    uint64_t version;    /* 0 = the store has not seen it */
    int said;            /* the store's answer to a write that goes through */
};

/* A moment is known up to the time that a call took, and to a jitter. */
struct span {
    uint64_t lo, hi;
};

struct times {
    struct span refresh, fresh, stale, dead;
};

enum tri { NO, YES, MAYBE };

/* What the cells have of a key. */
struct entry {
    bool value; /* the events say so */
    stamp stamp;
    struct times times;
    uint64_t began;        /* the step in which its put or load began */
    uint64_t unsure;       /* invalidations up to this one may be older */
    struct span read;      /* when it was read last */
    enum tri failed;       /* its last load has */
    struct span retry;     /* then: when it may be loaded again */
    enum tri negative;     /* there is none, and that is known */
    int error, older;      /* then: why, or why before that */
    struct span forgotten; /* then: until when */
};

struct key {
    struct entry entry;

    stamp stored; /* what the store has */
    uint32_t life;
    uint64_t version;

    stamp newest;  /* accepted for the store, and not given up */
    stamp acked;   /* known to be stored */
    stamp pending; /* in the call under way */
    enum tri dirty;
    uint32_t at_store; /* writes */
    uint32_t busy;     /* a call that writes it, or a callback for it */
    bool loading;      /* a loader */
    uint64_t touched;  /* the step in which it was written or invalidated */
    bool removed;      /* in this call: as if by remove */
    bool evicted;      /* in this call: or expired */
    uint32_t loads;    /* in this call */
    int load_said;
    stamp load_stamp;
};

enum fate { STORES, FAILS, STORES_AND_FAILS, FAILS_AND_STORES_LATER };

struct parcel {
    uint32_t key;
    stamp stamp; /* of a write */
    uint32_t life;
    uint64_t version, at_ms;
    enum fate fate;
    int status;
};

struct flight {
    struct cache_store_batch *batch; /* NULL = not in use */
    struct parcel parcels[MAX_ITEMS];
    uint64_t apply_ms, reply_ms;
    bool applied;
};

/* A claim that was given to the program. */
struct held {
    bool open;
    uint32_t key;
    struct cache_claim claim;
    uint64_t began, lapse_ms;
    enum tri overtaken; /* what is committed is not kept */
    bool skip_write;
    stamp stamp; /* what the program has loaded; 0 = there is nothing */
};

/* A value that may come into the cells. */
struct licence {
    uint32_t key;
    stamp stamp;
    bool loaded, sure; /* began is no earlier than it says */
    const struct cache_freshness *freshness;
    uint64_t ttl_ms, lifetime_ms, expires_ms; /* unix */
    uint64_t from_ms, began;
    bool used;
};

struct ops;

static struct {
    uint64_t seed, random, now, step, hard, soft;
    uint32_t life, depth, n_keys, capacity, tick;
    stamp n_stamps, began; /* of these: before this step */
    uint64_t begun_ms, begun_soft;
    struct key keys[MAX_KEYS];
    struct write writes[MAX_STAMPS];
    struct flight flights[MAX_FLIGHTS];
    struct parcel late[MAX_LATE];
    struct held held[MAX_HELD];
    struct licence licences[MAX_LICENCES];
    uint32_t n_late, n_flights, n_licences;
    struct cache_loading_config config;
    struct cache_loading_stats want;
    uint64_t n_letters, n_lost, n_closed, n_nested;
    uint64_t values_in, values_out;
    bool evicts; /* an event has said so, and on_left has not */
    bool closing, crashed, byte_store;
    struct cache_store store;
    struct cache_codec key_codec, value_codec;
    const struct ops *ops;

    /* How this world is. */
    bool versions, filters, nests;
    uint32_t latency, fail, time_out, refuse, faults;
    const char *doing;
} s;

/* Over all seeds: a simulation in which nothing happens proves nothing. */
static struct {
    uint64_t steps, crashes, faults, late, conflicts, letters, lost, loads,
        stale, negative, fallback, overtaken, lapsed, buffer, evicted, full,
        waits, nested, clean, invalidated, unstored, acks, busy;
} total;

static void broken(const char *rule)
{
    printf("seed %llu, life %u, step %llu (%s), at %llu ms: broken: %s\n"
           "run it alone with --seed=%llu\n",
           (unsigned long long)s.seed, s.life, (unsigned long long)s.step,
           s.doing ? s.doing : "", (unsigned long long)s.now, rule,
           (unsigned long long)s.seed);
    test__fail(__FILE__, __LINE__, rule);
}

#define RULE(condition, rule) ((condition) ? (void)0 : broken(rule))

static bool tracing; /* --trace */

static void trace(const char *what, uint32_t key, stamp number, int rc)
{
    if (tracing)
        printf("%7llu ms, step %3llu, %.*s%s: key %u, stamp %u: %d\n",
               (unsigned long long)s.now, (unsigned long long)s.step,
               2 * (int)s.depth, "        ", what, key, number, rc);
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(test_random(&s.random) >> 33) % n;
}

static bool percent(uint32_t n)
{
    return below(100) < n;
}

static uint64_t now_ms(void *user)
{
    (void)user;
    return s.now;
}

static uint64_t wall_now(void *user)
{
    (void)user;
    return WALL + s.now;
}

static uint64_t sum_ms(uint64_t a, uint64_t b)
{
    return a > CACHE_NEVER - b ? CACHE_NEVER : a + b;
}

static bool is_behind(void)
{
    return s.config.writes == CACHE_WRITE_BEHIND;
}

static bool may_evict(void)
{
    return s.capacity < s.n_keys;
}

/* --- the oracle: time ---------------------------------------------------- */

static struct span earlier(struct span a, struct span b)
{
    struct span c = { a.lo < b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi };

    return c;
}

static struct span after(struct span from, struct span ms)
{
    struct span c = { sum_ms(from.lo, ms.lo), sum_ms(from.hi, ms.hi) };

    return c;
}

static struct span times(struct span ms, uint32_t pct)
{
    struct span c = { ms.lo * pct / 100, ms.hi * pct / 100 };

    return c;
}

/* "Up to a tick early, never late." */
static enum tri passed(struct span moment)
{
    if (s.now >= moment.hi)
        return YES;
    if (moment.lo == CACHE_NEVER)
        return NO;
    return s.now + s.tick > moment.lo ? MAYBE : NO;
}

/* The life of a value that came between from_ms and now. */
static struct times times_of(const struct licence *l)
{
    const struct cache_freshness *f =
        l->freshness ? l->freshness : &s.config.freshness;
    const struct span from = { l->from_ms, s.now };
    const struct span never = { CACHE_NEVER, CACHE_NEVER };
    struct span end = never, ttl, more = { 0, 0 }, spare = { 0, 0 };
    uint64_t ttl_ms = l->ttl_ms ? l->ttl_ms : f->ttl_ms;
    struct times t;

    if (l->lifetime_ms != 0 && l->lifetime_ms != CACHE_NEVER) {
        struct span ms = { l->lifetime_ms, l->lifetime_ms };

        end = after(from, ms);
    }
    if (l->expires_ms != 0) {
        struct span at = { l->expires_ms - WALL, l->expires_ms - WALL };

        end = earlier(end, at);
    }
    t.refresh = t.fresh = t.stale = t.dead = end;
    if (ttl_ms == 0 || ttl_ms == CACHE_NEVER)
        return t;
    ttl.hi = ttl_ms;
    ttl.lo = ttl_ms - ttl_ms * f->jitter_pct / 100;
    more.lo = more.hi = f->stale_ms;
    spare.lo = spare.hi =
        f->stale_ms > f->stale_if_error_ms ? f->stale_ms : f->stale_if_error_ms;
    t.fresh = earlier(after(from, ttl), end);
    t.refresh =
        f->refresh_pct ? after(from, times(ttl, f->refresh_pct)) : t.fresh;
    t.refresh = earlier(t.refresh, t.fresh);
    t.stale = earlier(after(after(from, ttl), more), end);
    t.dead = earlier(after(after(from, ttl), spare), end);
    return t;
}

/* --- the oracle: what an entry may be ------------------------------------ */

#define BIT(verdict) (1u << (verdict))
#define SERVED                                                                 \
    (BIT(CACHE_VERDICT_FRESH) | BIT(CACHE_VERDICT_REFRESH) |                   \
     BIT(CACHE_VERDICT_STALE) | BIT(CACHE_VERDICT_FALLBACK) |                  \
     BIT(CACHE_VERDICT_FAILED))

static bool may_be(enum tri what, uint32_t yes)
{
    return what == MAYBE || (what == YES) == (yes != 0);
}

static enum cache_verdict verdict_of(uint32_t refresh, uint32_t past,
                                     uint32_t stale, uint32_t failed,
                                     uint32_t waits)
{
    if (!past)
        return (failed ? waits : !refresh) ? CACHE_VERDICT_FRESH
                                           : CACHE_VERDICT_REFRESH;
    if (failed && waits)
        return CACHE_VERDICT_FAILED;
    return stale ? CACHE_VERDICT_FALLBACK : CACHE_VERDICT_STALE;
}

/* All verdicts that are possible now, a bit each. */
static uint32_t verdicts(const struct entry *e)
{
    uint32_t mask = 0, i;
    enum tri dead = passed(e->times.dead), past = passed(e->times.fresh);

    if (!e->value && e->negative != NO) {
        enum tri over = passed(e->forgotten);

        if (e->began < s.soft || over == YES)
            return BIT(CACHE_VERDICT_GONE);
        return BIT(CACHE_VERDICT_NEGATIVE) |
               (over == NO && e->negative == YES ? 0 : BIT(CACHE_VERDICT_GONE));
    }
    if (!e->value || (e->began < s.hard && e->unsure < s.hard) || dead == YES)
        return BIT(CACHE_VERDICT_GONE);
    if (e->began < s.hard)
        dead = MAYBE;
    if (s.config.freshness.idle_ms) {
        struct span ms = { s.config.freshness.idle_ms,
                           s.config.freshness.idle_ms };
        enum tri idle = passed(after(e->read, ms));

        if (idle == YES)
            return BIT(CACHE_VERDICT_GONE);
        dead = idle == MAYBE ? MAYBE : dead;
    }
    if (dead == MAYBE)
        mask |= BIT(CACHE_VERDICT_GONE);
    if (e->began < s.soft && past == NO)
        past = e->unsure < s.soft ? YES : MAYBE;
    for (i = 0; i < 32; i++)
        if (may_be(passed(e->times.refresh), i & 1) && may_be(past, i & 2) &&
            may_be(passed(e->times.stale), i & 4) && may_be(e->failed, i & 8) &&
            may_be(passed(e->retry), !(i & 16)))
            mask |= BIT(verdict_of(i & 1, i & 2, i & 4, i & 8, i & 16));
    return mask;
}

/* --- the oracle: who loads ----------------------------------------------- */

static enum tri is_claimed(uint32_t key)
{
    enum tri claimed = NO;
    uint32_t i;

    for (i = 0; i < MAX_HELD; i++) {
        const struct held *h = &s.held[i];

        if (!h->open || h->key != key || s.now >= h->lapse_ms ||
            h->overtaken == YES)
            continue;
        if (h->overtaken == NO)
            return YES;
        claimed = MAYBE;
    }
    return claimed;
}

static uint32_t n_claims(void)
{
    uint32_t n = 0, i;

    for (i = 0; i < MAX_HELD; i++)
        n += s.held[i].open && s.now < s.held[i].lapse_ms;
    return n;
}

static void overtake(uint32_t key, enum tri how)
{
    uint32_t i;

    for (i = 0; i < MAX_HELD; i++)
        if (s.held[i].open && s.held[i].key == key &&
            s.held[i].overtaken != YES)
            s.held[i].overtaken = how;
    if (how == YES)
        s.keys[key].touched = ++s.step;
}

/* --- licences ------------------------------------------------------------ */

static struct licence *license(uint32_t key, stamp number)
{
    struct licence *l = &s.licences[s.n_licences++];

    RULE(s.n_licences <= MAX_LICENCES, "(the test has room)");
    memset(l, 0, sizeof *l);
    l->key = key;
    l->stamp = number;
    l->from_ms = s.now;
    l->began = s.step;
    return l;
}

static struct licence *licence_of(uint32_t key, stamp number)
{
    uint32_t i;

    for (i = s.n_licences; i > 0; i--)
        if (s.licences[i - 1].key == key && s.licences[i - 1].stamp == number)
            return &s.licences[i - 1];
    return NULL;
}

static stamp stamp_of(uint64_t key, const struct value *value)
{
    RULE(key < s.n_keys, "a key is one of ours");
    RULE(value->key == key && value->stamp > 0 && value->stamp <= s.n_stamps &&
             value->sum == sum_of(value->key, value->stamp) &&
             s.writes[value->stamp].key == key &&
             !s.writes[value->stamp].remove,
         "a value is one that was written or loaded for its key");
    return value->stamp;
}

/* --- what the cache tells ------------------------------------------------ */

static void value_came(uint32_t key, stamp number, bool update)
{
    struct key *k = &s.keys[key];
    struct licence *l = licence_of(key, number), buffer;
    struct entry *e = &k->entry;

    RULE(update == e->value, "INSERT: a value came; UPDATE: took the place of "
                             "another");
    if (l == NULL) {
        RULE(is_behind() && k->dirty != NO && number == k->newest,
             "a value comes that was put, loaded, or is dirty");
        memset(&buffer, 0, sizeof buffer);
        l = &buffer;
        l->from_ms = s.now;
        l->began = s.step;
        l->expires_ms = s.writes[number].expires_ms;
        total.buffer++;
    } else if (l->loaded) {
        RULE(l->began >= k->touched && l->began >= s.soft,
             "a load that began before a write or an invalidation is not "
             "stored");
        RULE(k->dirty != YES, "a load does not replace what is dirty");
    }
    trace("  came", key, number, update);
    RULE(!l->sure || l->began >= s.hard,
         "what was invalidated meanwhile does not come back");
    s.values_in++;
    l->used = true;
    memset(e, 0, sizeof *e);
    e->value = true;
    e->stamp = number;
    e->times = times_of(l);
    e->began = l->began;
    e->unsure = l->loaded || l->sure ? 0 : s.soft;
    e->read.lo = l->from_ms;
    e->read.hi = s.now;
}

static void value_left(uint32_t key, stamp number, enum cache_cause cause)
{
    struct key *k = &s.keys[key];
    struct entry *e = &k->entry;
    uint32_t mask = verdicts(e);

    trace("  left", key, number, (int)cause);
    RULE(e->value && e->stamp == number, "a value leaves that is there");
    switch (cause) {
    case CACHE_CAUSE_EVICTED:
        RULE(may_evict(), "nothing is evicted while there is room");
        total.evicted++;
        k->evicted = true;
        break;
    case CACHE_CAUSE_EXPIRED:
        RULE(mask & BIT(CACHE_VERDICT_GONE), "what expires is gone by time");
        k->evicted = true;
        break;
    case CACHE_CAUSE_INVALIDATED:
        RULE(e->began < s.hard, "what is invalidated is older than that");
        break;
    case CACHE_CAUSE_REMOVED:
        RULE(k->pending || k->loads || k->removed || k->touched == s.step,
             "what is removed was to be");
        k->removed = true;
        break;
    default:
        RULE(cause == CACHE_CAUSE_REPLACED || s.crashed || s.closing,
             "nobody has cleared it");
        break;
    }
    e->value = false;
    e->negative = NO;
}

/* --- the store ----------------------------------------------------------- */

static void row_write(struct key *k, stamp number, uint32_t life,
                      uint64_t version)
{
    k->stored = number;
    k->life = life;
    k->version = version;
}

/* Returns the status that the store would give. */
static int store_apply(const struct parcel *p)
{
    struct key *k = &s.keys[p->key];

    if (s.versions && (p->life < k->life ||
                       (p->life == k->life && p->version < k->version))) {
        RULE(p->stamp < k->stored, "a newer write has a higher version");
        total.conflicts++;
        return CACHE_ECONFLICT;
    }
    RULE(p->stamp >= k->stored, "an old write never replaces a newer one");
    row_write(k, p->stamp, p->life, p->version);
    return 0;
}

static void store_apply_late(uint32_t i)
{
    struct parcel p = s.late[i];

    s.late[i] = s.late[--s.n_late];
    total.late++;
    (void)store_apply(&p);
}

static enum fate draw_fate(void)
{
    uint32_t dice = below(100);

    if (!s.faults || dice >= s.fail + s.time_out)
        return STORES;
    total.faults++;
    if (dice < s.fail)
        return FAILS;
    return (enum fate)(STORES_AND_FAILS +
                       below(s.versions && s.n_late < MAX_LATE ? 2 : 1));
}

/* One write, as its fate is; returns what the store says. */
static int store_write(struct parcel *p)
{
    if (p->fate == STORES)
        return store_apply(p);
    if (p->fate == STORES_AND_FAILS)
        (void)store_apply(p);
    else if (p->fate == FAILS_AND_STORES_LATER && s.n_late < MAX_LATE) {
        p->at_ms = s.now + 1 + below(percent(50) ? 50 : 500);
        s.late[s.n_late++] = *p;
    }
    return percent(50) ? CACHE_ESTORE : CACHE_EIO;
}

/* What a reader of the store finds. */
static stamp store_find(uint32_t key)
{
    const struct write *w = &s.writes[s.keys[key].stored];
    stamp number = s.keys[key].stored;

    if (number == 0 || w->remove ||
        (w->expires_ms != 0 && w->expires_ms <= WALL + s.now))
        return 0;
    return number;
}

/* A load of a key begins or ends at the store. */
static void load_check(uint32_t key)
{
    struct key *k = &s.keys[key];

    RULE(k->dirty != YES, "a dirty key is not loaded");
    RULE(k->stored >= k->acked, "what was confirmed is in the store");
    RULE(k->dirty != NO || k->stored >= k->newest,
         "what was accepted is in the store when it is not dirty");
}

static void load_ended(uint32_t key, int status, stamp number)
{
    struct key *k = &s.keys[key];

    trace("  loaded", key, number, status);
    k->loads++;
    k->load_said = status;
    k->load_stamp = number;
    total.loads++;
}

/* Which write this is, that comes to the store. */
static stamp store_stamp(uint32_t key, const struct value *value,
                         uint64_t version)
{
    struct key *k = &s.keys[key];
    stamp number;
    uint32_t i;

    if (value != NULL)
        number = stamp_of(key, value);
    else if (k->pending && s.writes[k->pending].remove &&
             (!is_behind() || version != s.writes[k->newest].version ||
              !s.writes[k->newest].remove))
        number = k->pending;
    else
        number = k->newest;
    /* What was sent before a callback wrote the key anew. */
    for (i = number; value == NULL && number > s.began && i > 1 &&
                     !s.writes[number].remove;)
        if (s.writes[--i].key == key && s.writes[i].remove &&
            s.writes[i].behind && s.writes[i].life == s.life)
            number = i;
    RULE(number != 0 && s.writes[number].remove == (value == NULL),
         "what comes to the store was written");
    if (is_behind()) {
        RULE(number == k->newest || number == k->pending || k->newest > s.began,
             "the newest write is sent");
        if (number == k->pending && number > k->newest) {
            k->newest = number; /* so it has been accepted */
            k->dirty = YES;
        }
    } else {
        RULE(number == k->pending || licence_of(key, number),
             "what goes through is what is written now");
    }
    RULE(k->at_store == 0, "one write of a key is at the store at a time");
    RULE(s.writes[number].version == 0 || s.writes[number].version == version,
         "a write keeps its version");
    trace("  to the store", key, number, (int)version);
    s.writes[number].version = version;
    for (i = 1; i < number; i++)
        RULE(s.writes[i].key != key || s.writes[i].life != s.life ||
                 s.writes[i].version < version,
             "versions of a key increase");
    return number;
}

/* The store has said how a write went, and the cache will know. */
static void store_said(const struct parcel *p, int status)
{
    struct key *k = &s.keys[p->key];
    struct write *w = &s.writes[p->stamp];

    trace("  stored", p->key, p->stamp, status);
    k->at_store--;
    w->said = status;
    if (status != 0 && (!is_behind() || status != CACHE_ECONFLICT))
        return;
    w->confirmed = true;
    if (p->stamp > k->acked && status == 0)
        k->acked = p->stamp;
    if (p->stamp == k->newest && k->dirty == YES)
        k->dirty = MAYBE;
}

/* --- the store of bytes -------------------------------------------------- */

static void flight_apply(struct flight *f)
{
    size_t i;

    for (i = 0; i < f->batch->n_items; i++) {
        struct cache_store_item *item = &f->batch->items[i];
        struct parcel *p = &f->parcels[i];
        stamp number;

        if (item->op != CACHE_STORE_GET) {
            p->status = store_write(p);
            continue;
        }
        load_check(p->key);
        number = s.keys[p->key].stored;
        if (number == 0 || s.writes[number].remove ||
            (s.filters && store_find(p->key) == 0)) {
            p->status = CACHE_EKEY;
        } else if (p->fate != STORES) {
            p->status = CACHE_ESTORE;
        } else {
            struct value v = { p->key, number, sum_of(p->key, number) };

            RULE(item->buffer_bytes >= sizeof v, "there is room for a value");
            memcpy(item->buffer, &v, sizeof v);
            item->value.data = item->buffer;
            item->value.len = sizeof v;
            item->expires_ms = s.writes[number].expires_ms;
            p->status = 0;
        }
        p->stamp = p->status == 0 ? number : 0;
    }
    f->applied = true;
}

static void flight_reply(struct flight *f)
{
    struct cache_store_batch *batch = f->batch;
    size_t i;

    f->batch = NULL;
    s.n_flights--;
    for (i = 0; i < batch->n_items; i++) {
        struct parcel *p = &f->parcels[i];
        struct licence *l;
        uint64_t expires_ms;
        int status = p->status;

        batch->items[i].status = status;
        if (batch->items[i].op != CACHE_STORE_GET) {
            store_said(p, status);
            continue;
        }
        expires_ms = p->stamp ? s.writes[p->stamp].expires_ms : 0;
        if (status == 0 && expires_ms != 0 && expires_ms <= WALL + s.now)
            status = CACHE_EKEY;
        load_ended(p->key, status, p->stamp);
        if (status != 0)
            continue;
        l = license(p->key, p->stamp);
        l->loaded = true;
        l->began = p->version; /* see submit */
        l->expires_ms = expires_ms;
    }
    batch->done(batch);
}

/* The next event of the store, if one is until then. */
static bool store_step(uint64_t until)
{
    struct flight *next = NULL;
    uint64_t at = until + 1, t;
    uint32_t i, late = MAX_LATE;

    for (i = 0; i < MAX_FLIGHTS; i++) {
        struct flight *f = &s.flights[i];

        t = f->applied ? f->reply_ms : f->apply_ms;
        if (f->batch && t < at) {
            at = t;
            next = f;
        }
    }
    for (i = 0; i < s.n_late; i++)
        if (s.late[i].at_ms < at) {
            at = s.late[i].at_ms;
            late = i;
        }
    if (at > until)
        return false;
    s.now = at > s.now ? at : s.now;
    if (late < MAX_LATE)
        store_apply_late(late);
    else if (next->applied)
        flight_reply(next);
    else
        flight_apply(next);
    return true;
}

static void pass(uint64_t ms)
{
    uint64_t until = s.now + ms;

    while (store_step(until))
        ;
    s.now = until;
}

/* Instead of waiting for a thread. */
static int sim_wait(pthread_cond_t *changed, pthread_mutex_t *lock,
                    const struct timespec *until)
{
    (void)changed;
    (void)until;
    total.waits++;
    pthread_mutex_unlock(lock);
    if (!store_step(s.now + CACHE__POLL_MS))
        s.now += CACHE__POLL_MS;
    pthread_mutex_lock(lock);
    return 0;
}

static uint64_t number_of(struct cache_bytes bytes)
{
    uint64_t number = 0;

    RULE(bytes.len == sizeof number, "a key is encoded");
    memcpy(&number, bytes.data, sizeof number);
    RULE(number < s.n_keys, "a key is one of ours");
    return number;
}

static int sim_submit(struct cache_store *store,
                      struct cache_store_batch *batch)
{
    struct flight *f = s.flights;
    enum fate all = draw_fate();
    size_t i;
    bool refuse = s.crashed || (s.faults && percent(s.refuse));

    RULE(store == &s.store && batch->n_items >= 1 &&
             batch->n_items <= MAX_ITEMS,
         "a batch has items");
    while (f->batch)
        f++;
    memset(f, 0, sizeof *f);
    f->apply_ms = s.now + below(s.latency);
    f->reply_ms = f->apply_ms + below(s.latency);
    for (i = 0; i < batch->n_items; i++) {
        const struct cache_store_item *item = &batch->items[i];
        struct parcel *p = &f->parcels[i];
        struct value v;

        p->key = (uint32_t)number_of(item->key);
        p->life = s.life;
        p->fate = percent(50) ? all : draw_fate();
        if (item->op == CACHE_STORE_GET) {
            p->version = s.step;
            load_check(p->key);
            if (refuse)
                load_ended(p->key, CACHE_ELOCKED, 0);
            continue;
        }
        if (item->op == CACHE_STORE_PUT) {
            RULE(item->value.len == sizeof v, "a value is encoded");
            memcpy(&v, item->value.data, sizeof v);
        }
        p->stamp = store_stamp(p->key, item->op == CACHE_STORE_PUT ? &v : NULL,
                               item->version);
        p->version = item->version;
        RULE(item->op != CACHE_STORE_PUT ||
                 item->expires_ms == s.writes[p->stamp].expires_ms,
             "the store hears when data is over");
        s.keys[p->key].at_store++;
        if (refuse)
            store_said(p, CACHE_ELOCKED);
    }
    if (refuse)
        return CACHE_ELOCKED;
    f->batch = batch;
    s.n_flights++;
    if (percent(20)) { /* at once */
        flight_apply(f);
        flight_reply(f);
    }
    return 0;
}

/* What a type is able to do. */
struct ops {
    bool bytes;
    int (*init)(const struct cache_loading_config *config);
    void (*destroy)(void);
    int (*close)(uint64_t ms, uint64_t *lost);
    const char *(*check)(void);
    uint32_t (*len)(void);
    int (*stats)(struct cache_loading_stats *out);
    int (*get)(uint64_t key, struct value *out);
    int (*get_with)(uint64_t key, struct value *out,
                    const struct cache_reading *how);
    size_t (*get_many)(const uint64_t *keys, size_t n, struct value *out,
                       size_t *missing);
    bool (*peek)(uint64_t key, struct value *out);
    int (*load)(uint64_t key, struct value *out,
                const struct cache_reading *how);
    size_t (*load_many)(const uint64_t *keys, size_t n, struct value *out,
                        int *found, bool own);
    int (*claim)(uint64_t key, struct value *out, struct cache_claim *claim,
                 const struct cache_reading *how);
    int (*commit)(struct cache_claim *claim, const struct value *value,
                  const struct cache_loaded *loaded);
    int (*abandon)(struct cache_claim *claim, int error, struct value *out);
    int (*write)(uint64_t key, const struct value *value,
                 const struct cache_writing *how);
    int (*write_many)(const uint64_t *keys, const struct value *values,
                      size_t n, int *status);
    void (*invalidate)(enum cache_invalidation how);
    void (*invalidate_key)(uint64_t key, enum cache_invalidation how);
    int (*flush)(uint32_t budget);
    uint32_t (*tick)(uint32_t max);
};

/* --- the store of callbacks ---------------------------------------------- */

static void nest(void);

/* The time that a callback takes, and what the program does meanwhile. */
static void dawdle(uint32_t key)
{
    s.keys[key].busy++;
    if (percent(30))
        pass(below(s.latency));
    if (!s.crashed)
        nest();
    s.keys[key].busy--;
}

static int call_load(const uint64_t *key, struct value *value,
                     struct cache_loaded *loaded, uint64_t began)
{
    uint32_t i = (uint32_t)*key;
    struct licence *l;
    stamp number;
    enum fate fate = draw_fate();
    int rc;

    RULE(i < s.n_keys, "a key is one of ours");
    RULE(!s.keys[i].loading, "a key is loaded by one at a time");
    load_check(i);
    number = store_find(i);
    s.keys[i].loading = true;
    if (s.depth == 0 && s.now == s.begun_ms && s.soft == s.begun_soft &&
        percent(10)) {
        struct value out;

        rc = s.ops->load(*key, &out, NULL);
        RULE(rc == CACHE_EBUSY || s.keys[i].dirty == MAYBE ||
                 (rc >= 0 && s.keys[i].entry.value) ||
                 (rc < 0 && s.keys[i].entry.negative != NO),
             "a load of a key inside its own loader is CACHE_EBUSY");
        if (rc >= 0)
            s.keys[i].entry.read.hi = s.now;
    }
    dawdle(i);
    s.keys[i].loading = false;
    rc = fate != STORES ? CACHE_ESTORE : number == 0 ? CACHE_EKEY : 0;
    load_ended(i, rc, number);
    if (rc != 0)
        return rc;
    value->key = i;
    value->stamp = number;
    value->sum = sum_of(i, number);
    l = license(i, number);
    l->loaded = true;
    l->began = began;
    if (percent(20))
        l->ttl_ms = loaded->ttl_ms = s.tick + below(300);
    if (s.writes[number].expires_ms) {
        uint64_t until = s.writes[number].expires_ms - WALL;

        l->lifetime_ms = loaded->lifetime_ms =
            until > s.now + s.tick ? until - s.now : s.tick;
    }
    return 0;
}

static int call_store(const uint64_t *key, const struct value *value,
                      const struct cache_storing *storing)
{
    struct parcel p;
    int rc;

    memset(&p, 0, sizeof p);
    RULE(*key < s.n_keys, "a key is one of ours");
    p.key = (uint32_t)*key;
    p.life = s.life;
    p.version = storing->version;
    p.stamp = store_stamp(p.key, value, p.version);
    RULE(value == NULL || storing->expires_ms == s.writes[p.stamp].expires_ms,
         "the store hears when data is over");
    s.keys[p.key].at_store++;
    p.fate = s.crashed ? FAILS : draw_fate();
    dawdle(p.key);
    rc = store_write(&p);
    store_said(&p, rc);
    return rc;
}

static int on_load(const uint64_t *key, struct value *value,
                   struct cache_loaded *loaded, void *user)
{
    RULE(user == &s, "a callback is given its user");
    return call_load(key, value, loaded, s.step);
}

static void on_load_many(const uint64_t *keys, struct value *values,
                         struct cache_loaded *loaded, size_t n, void *user)
{
    uint64_t began = s.step;
    size_t i;

    RULE(user == &s, "a callback is given its user");
    for (i = 0; i < n; i++)
        loaded[i].status = call_load(&keys[i], &values[i], &loaded[i], began);
}

static int on_store(const uint64_t *key, const struct value *value,
                    const struct cache_storing *storing, void *user)
{
    RULE(user == &s && value != NULL, "a callback is given its user");
    return call_store(key, value, storing);
}

static int on_remove_there(const uint64_t *key,
                           const struct cache_storing *storing, void *user)
{
    RULE(user == &s, "a callback is given its user");
    return call_store(key, NULL, storing);
}

static void on_left(const uint64_t *key, struct value *value,
                    enum cache_cause cause, void *user)
{
    RULE(user == &s, "a callback is given its user");
    (void)stamp_of(*key, value);
    /* What is not kept comes and leaves at once, which is no event. */
    if (cause == CACHE_CAUSE_EVICTED && !s.evicts)
        s.values_in++;
    s.evicts = false;
    s.values_out++;
}

static uint64_t hash_key(const uint64_t *key, uint64_t seed)
{
    return cache_hash_u64(key, seed);
}

#define ON_EVENT(name)                                                         \
    static void name##_on_event(const struct name##_event *event, void *user)  \
    {                                                                          \
        RULE(user == &s, "a callback is given its user");                      \
        happened(event->kind, event->key, event->value, event->cause,          \
                 event->status);                                               \
    }                                                                          \
    struct name##_swallow

static void happened(enum cache_event_kind kind, const uint64_t *key,
                     const struct value *value, enum cache_cause cause,
                     int status)
{
    switch (kind) {
    case CACHE_EVENT_INSERT:
    case CACHE_EVENT_UPDATE:
        value_came((uint32_t)*key, stamp_of(*key, value),
                   kind == CACHE_EVENT_UPDATE);
        break;
    case CACHE_EVENT_REMOVE:
        s.evicts = cause == CACHE_CAUSE_EVICTED;
        value_left((uint32_t)*key, stamp_of(*key, value), cause);
        break;
    case CACHE_EVENT_LOAD_START: s.want.claims++; break;
    case CACHE_EVENT_LOAD_END:
        s.want.loads++;
        RULE(value != NULL ? status == 0 : status == CACHE_EKEY,
             "LOAD_END: value, or none and CACHE_EKEY");
        break;
    case CACHE_EVENT_LOAD_ERROR:
        s.want.loads++;
        s.want.load_errors++;
        RULE(status < 0 && status != CACHE_EKEY, "LOAD_ERROR: status");
        break;
    default: break;
    }
}

/* --- the types ----------------------------------------------------------- */

#define OPS(n, is_bytes)                                                       \
    static struct n n##_cache;                                                 \
    static int n##_o_init(const struct cache_loading_config *config)           \
    {                                                                          \
        memset(&n##_cache, 0, sizeof n##_cache);                               \
        return n##_init(&n##_cache, config);                                   \
    }                                                                          \
    static void n##_o_destroy(void)                                            \
    {                                                                          \
        n##_destroy(&n##_cache);                                               \
    }                                                                          \
    static int n##_o_close(uint64_t ms, uint64_t *lost)                        \
    {                                                                          \
        return n##_close(&n##_cache, ms, lost);                                \
    }                                                                          \
    static const char *n##_o_check(void)                                       \
    {                                                                          \
        return n##_check(&n##_cache);                                          \
    }                                                                          \
    static uint32_t n##_o_len(void)                                            \
    {                                                                          \
        return n##_len(&n##_cache);                                            \
    }                                                                          \
    static int n##_o_stats(struct cache_loading_stats *out)                    \
    {                                                                          \
        return n##_loading_stats(&n##_cache, out);                             \
    }                                                                          \
    static int n##_o_get(uint64_t key, struct value *out)                      \
    {                                                                          \
        return n##_get(&n##_cache, key, out);                                  \
    }                                                                          \
    static int n##_o_get_with(uint64_t key, struct value *out,                 \
                              const struct cache_reading *how)                 \
    {                                                                          \
        return n##_get_with(&n##_cache, key, out, how);                        \
    }                                                                          \
    static size_t n##_o_get_many(const uint64_t *keys, size_t count,           \
                                 struct value *out, size_t *missing)           \
    {                                                                          \
        return n##_get_many(&n##_cache, keys, count, out, missing);            \
    }                                                                          \
    static bool n##_o_peek(uint64_t key, struct value *out)                    \
    {                                                                          \
        return n##_peek(&n##_cache, key, out);                                 \
    }                                                                          \
    static int n##_o_load(uint64_t key, struct value *out,                     \
                          const struct cache_reading *how)                     \
    {                                                                          \
        return how ? n##_load_with(&n##_cache, key, out, how, on_load, &s)     \
                   : n##_load(&n##_cache, key, out, on_load, &s);              \
    }                                                                          \
    static size_t n##_o_load_many(const uint64_t *keys, size_t count,          \
                                  struct value *out, int *found, bool own)     \
    {                                                                          \
        return n##_load_many(&n##_cache, keys, count, out, found,              \
                             own ? on_load_many : NULL, &s);                   \
    }                                                                          \
    static int n##_o_claim(uint64_t key, struct value *out,                    \
                           struct cache_claim *claim,                          \
                           const struct cache_reading *how)                    \
    {                                                                          \
        return how ? n##_claim_with(&n##_cache, key, out, claim, how)          \
                   : n##_claim(&n##_cache, key, out, claim);                   \
    }                                                                          \
    static int n##_o_commit(struct cache_claim *claim,                         \
                            const struct value *value,                         \
                            const struct cache_loaded *loaded)                 \
    {                                                                          \
        return value == NULL ? n##_commit_negative(&n##_cache, claim)          \
               : loaded ? n##_commit_with(&n##_cache, claim, *value, loaded)   \
                        : n##_commit(&n##_cache, claim, *value);               \
    }                                                                          \
    static int n##_o_abandon(struct cache_claim *claim, int error,             \
                             struct value *out)                                \
    {                                                                          \
        return n##_abandon(&n##_cache, claim, error, out);                     \
    }                                                                          \
    static int n##_o_write(uint64_t key, const struct value *value,            \
                           const struct cache_writing *how)                    \
    {                                                                          \
        if (value == NULL)                                                     \
            return how ? n##_remove_with(&n##_cache, key, how)                 \
                       : n##_remove(&n##_cache, key);                          \
        return how ? n##_put_with(&n##_cache, key, *value, how)                \
                   : n##_put(&n##_cache, key, *value);                         \
    }                                                                          \
    static int n##_o_write_many(const uint64_t *keys,                          \
                                const struct value *values, size_t count,      \
                                int *status)                                   \
    {                                                                          \
        return values ? n##_put_many(&n##_cache, keys, values, count, status)  \
                      : n##_remove_many(&n##_cache, keys, count, status);      \
    }                                                                          \
    static void n##_o_invalidate(enum cache_invalidation how)                  \
    {                                                                          \
        n##_invalidate(&n##_cache, how);                                       \
    }                                                                          \
    static void n##_o_invalidate_key(uint64_t key,                             \
                                     enum cache_invalidation how)              \
    {                                                                          \
        n##_invalidate_key(&n##_cache, key, how);                              \
    }                                                                          \
    static int n##_o_flush(uint32_t budget)                                    \
    {                                                                          \
        return n##_flush(&n##_cache, budget);                                  \
    }                                                                          \
    static uint32_t n##_o_tick(uint32_t max)                                   \
    {                                                                          \
        return n##_tick(&n##_cache, max);                                      \
    }                                                                          \
    static const struct ops n##_ops = {                                        \
        is_bytes,         n##_o_init,                                          \
        n##_o_destroy,    n##_o_close,                                         \
        n##_o_check,      n##_o_len,                                           \
        n##_o_stats,      n##_o_get,                                           \
        n##_o_get_with,   n##_o_get_many,                                      \
        n##_o_peek,       n##_o_load,                                          \
        n##_o_load_many,  n##_o_claim,                                         \
        n##_o_commit,     n##_o_abandon,                                       \
        n##_o_write,      n##_o_write_many,                                    \
        n##_o_invalidate, n##_o_invalidate_key,                                \
        n##_o_flush,      n##_o_tick                                           \
    }

struct one_event;
struct bulk_event;
struct plain_event;
struct bulk_write;
static void one_on_event(const struct one_event *event, void *user);
static void bulk_on_event(const struct bulk_event *event, void *user);
static void plain_on_event(const struct plain_event *event, void *user);
static void bulk_on_store_many(struct bulk_write *writes, size_t n, void *user);

CACHE_DEFINE_LOADING_WITH(one, uint64_t, struct value, hash_key,
                          cache_equal_u64, CACHE_STATS | CACHE_LRU,
                          .load = on_load, .store = on_store,
                          .remove = on_remove_there, .on_remove = on_left,
                          .on_event = one_on_event);
CACHE_DEFINE_LOADING_WITH(bulk, uint64_t, struct value, hash_key,
                          cache_equal_u64, CACHE_STATS | CACHE_SIEVE,
                          .load = on_load, .load_many = on_load_many,
                          .store_many = bulk_on_store_many,
                          .on_remove = on_left, .on_event = bulk_on_event);
CACHE_DEFINE_LOADING_WITH(plain, uint64_t, struct value, hash_key,
                          cache_equal_u64, CACHE_STATS, .on_remove = on_left,
                          .on_event = plain_on_event);

ON_EVENT(one);
ON_EVENT(bulk);
ON_EVENT(plain);

static void bulk_on_store_many(struct bulk_write *writes, size_t n, void *user)
{
    size_t i;

    RULE(user == &s, "a callback is given its user");
    for (i = 0; i < n; i++)
        writes[i].status =
            call_store(writes[i].key, writes[i].value, &writes[i].storing);
}

OPS(one, false);
OPS(bulk, false);
OPS(plain, true);

/* --- reading ------------------------------------------------------------- */

/* A key as it is when a call begins. */
struct view {
    uint32_t key;
    struct entry entry;
    uint32_t verdicts;
    enum tri dirty, claimed;
    stamp newest;
    bool full;  /* no claim can be given */
    bool later; /* it may be asked some time after the call has begun */
    uint64_t step, now;
};

static struct view view_of(uint32_t key)
{
    struct key *k = &s.keys[key];
    struct view v;

    memset(&v, 0, sizeof v);
    v.key = key;
    v.entry = k->entry;
    v.verdicts = verdicts(&k->entry);
    v.dirty = k->dirty;
    v.claimed = is_claimed(key);
    v.newest = k->newest;
    v.full = s.depth > 0 || n_claims() >= s.config.max_claims;
    v.step = s.step;
    v.now = s.now;
    k->loads = 0;
    k->removed = k->evicted = false;
    return v;
}

/* The table at the head of cache_freshness.h, with the options of a read. */
static int expected(enum cache_verdict verdict, bool claimed,
                    const struct cache_reading *how, int error)
{
    const int load =
        claimed ? CACHE_CLAIM_MISS_WAIT : CACHE_CLAIM_MISS_YOU_LOAD;
    const int anew =
        claimed ? CACHE_CLAIM_STALE : CACHE_CLAIM_STALE_YOU_REFRESH;

    if (how->skip_read)
        return load;
    switch (verdict) {
    case CACHE_VERDICT_FRESH: return CACHE_CLAIM_HIT;
    case CACHE_VERDICT_REFRESH:
        return claimed ? CACHE_CLAIM_HIT : CACHE_CLAIM_STALE_YOU_REFRESH;
    case CACHE_VERDICT_STALE:
        return how->stale == CACHE_STALE_NEVER ? load : anew;
    case CACHE_VERDICT_FALLBACK:
        return how->stale == CACHE_STALE_ALWAYS ? anew : load;
    case CACHE_VERDICT_FAILED:
        return how->stale == CACHE_STALE_NEVER ? load : CACHE_CLAIM_STALE;
    case CACHE_VERDICT_NEGATIVE: return error;
    default: return load;
    }
}

enum way { CLAIMS, LOOKS, LOADS };

/* Whether this is a possible outcome of a read: `answer` is a claim's, or a
 * look-up's; number is the value that was given, 0 = none. */
static bool is_outcome(const struct view *v, enum cache_verdict verdict,
                       bool dirty, bool claimed, enum way way,
                       const struct cache_reading *how, int answer,
                       stamp number)
{
    const struct key *k = &s.keys[v->key];
    const struct write *newest = &s.writes[v->newest];
    const bool there = (BIT(verdict) & SERVED) != 0;
    const bool fresh =
        verdict == CACHE_VERDICT_FRESH || verdict == CACHE_VERDICT_REFRESH;
    const int found = fresh ? CACHE_FOUND : CACHE_FOUND_STALE;
    int want;

    if (dirty && there)
        return k->loads == 0 && number == v->entry.stamp &&
               (way == CLAIMS ? answer == CACHE_CLAIM_HIT
                              : answer == CACHE_FOUND || answer == found);
    if (dirty) {
        if (k->loads == 0 && answer == CACHE_EKEY)
            return newest->remove ||
                   (newest->expires_ms &&
                    newest->expires_ms <= WALL + (v->later ? s.now : v->now));
        if (newest->remove ||
            (newest->expires_ms && newest->expires_ms <= WALL + v->now))
            return false;
        return k->loads == 0 && number == v->newest &&
               (answer == CACHE_CLAIM_HIT || answer == CACHE_FOUND ||
                (way != CLAIMS && answer == CACHE_FOUND_UNSTORED));
    }
    want = expected(verdict, claimed, how, v->entry.error);
    if (want < 0 && verdict == CACHE_VERDICT_NEGATIVE)
        return k->loads == 0 && (answer == want || answer == v->entry.older);
    if (want == CACHE_CLAIM_MISS_YOU_LOAD && way != LOOKS && v->full &&
        answer == CACHE_EFULL && k->loads == 0)
        return true;
    if (want == CACHE_CLAIM_STALE_YOU_REFRESH && v->full && way != LOOKS &&
        is_outcome(v, verdict, false, true, way, how, answer, number))
        return true; /* nobody can load it now: as if somebody did */
    if (way == CLAIMS)
        return k->loads == 0 && answer == want &&
               number == (want == CACHE_CLAIM_MISS_YOU_LOAD ||
                                  want == CACHE_CLAIM_MISS_WAIT
                              ? 0
                              : v->entry.stamp);
    if (want == CACHE_CLAIM_HIT || want == CACHE_CLAIM_STALE ||
        (way == LOOKS && want == CACHE_CLAIM_STALE_YOU_REFRESH))
        return k->loads == 0 && answer == found && number == v->entry.stamp;
    if (way == LOOKS)
        return k->loads == 0 && answer == CACHE_EKEY;
    if (want == CACHE_CLAIM_MISS_WAIT)
        return k->loads == 0 && answer == CACHE_EBUSY;
    if (k->loads != 1)
        return false;
    if (k->load_said == 0)
        return number == k->load_stamp &&
               (answer == CACHE_FOUND || answer == CACHE_FOUND_UNSTORED);
    if (k->load_said == CACHE_EKEY)
        return answer == CACHE_EKEY;
    if (answer == k->load_said)
        return (verdicts(&k->entry) & ~SERVED) != 0 ||
               how->stale == CACHE_STALE_NEVER || how->skip_read ||
               s.now >= v->now + s.config.claim_ms;
    return ((verdicts(&k->entry) & SERVED) != 0 || k->evicted || v->later) &&
           number == (k->evicted || v->later ? v->entry : k->entry).stamp &&
           (answer == CACHE_FOUND ||
            (answer == CACHE_FOUND_STALE && how->stale != CACHE_STALE_NEVER));
}

static void check_read(const struct view *v, enum way way,
                       const struct cache_reading *how, int answer,
                       stamp number)
{
    uint32_t verdict, mask = v->verdicts, i;
    enum tri claimed = v->claimed, dirty = v->dirty;

    if (s.keys[v->key].evicted)
        mask |= BIT(CACHE_VERDICT_GONE);
    if (v->later && (s.now != v->now || s.step != v->step)) {
        mask |= ~BIT(CACHE_VERDICT_FRESH);
        claimed = claimed == YES ? MAYBE : claimed;
        dirty = dirty == YES ? MAYBE : dirty;
    }
    for (verdict = 0; verdict <= CACHE_VERDICT_GONE; verdict++)
        for (i = 0; i < 4 && (mask & BIT(verdict)); i++)
            if (may_be(dirty, i & 1) && may_be(claimed, i & 2) &&
                is_outcome(v, (enum cache_verdict)verdict, i & 1, i & 2, way,
                           how, answer, number))
                return;
    printf("key %u: verdicts %x, entry %u, dirty %d, claimed %d, newest %u: "
           "answer %d, value %u; loads %u said %d\n",
           v->key, mask, v->entry.stamp, v->dirty, v->claimed, v->newest,
           answer, number, s.keys[v->key].loads, s.keys[v->key].load_said);
    broken("a read is answered by the table of cache_freshness.h");
}

/* It was read, if it still is there: at from_ms, or some time in this call. */
static void was_read(uint32_t key, stamp number, uint64_t from_ms)
{
    struct entry *e = &s.keys[key].entry;

    if (!e->value || e->stamp != number)
        return;
    e->read.lo = from_ms > e->read.lo ? from_ms : e->read.lo;
    e->read.hi = s.now;
}

/* A load of this key has failed, or there is none: what the cells know now. */
static void model_none(uint32_t key, int error, enum tri kept)
{
    struct entry *e = &s.keys[key].entry;
    uint64_t ms = error == CACHE_EKEY ? s.config.freshness.negative_ttl_ms
                                      : s.config.freshness.error_ttl_ms;
    struct span wait = { ms, ms }, from = { s.now, s.now };
    uint32_t mask = verdicts(e);
    bool was;

    if (ms == 0 && error == CACHE_EKEY && kept != NO && e->negative != NO)
        e->negative = kept == YES ? NO : MAYBE;
    if (ms == 0 || kept == NO)
        return;
    if (error != CACHE_EKEY && e->value && (mask & SERVED)) {
        if (kept == MAYBE && e->failed != NO) { /* then or now */
            e->retry.hi = after(from, wait).hi;
            return;
        }
        e->failed = mask & ~SERVED ? MAYBE : kept;
        e->retry = after(from, wait);
        return;
    }
    was = e->negative != NO;
    if (e->value)
        return; /* the events would have said that it left */
    e->negative = may_evict() || s.config.freshness.idle_ms ? MAYBE : kept;
    e->older = kept == MAYBE && was ? e->error : 0;
    e->error = error;
    if (e->older != 0 && e->forgotten.hi > from.hi + ms)
        from.hi = e->forgotten.hi - ms;
    e->forgotten = after(from, wait);
    e->began = s.step;
}

/* Whether what a load of this call brought may be kept. */
static bool is_kept(const struct view *v)
{
    return v->step >= s.keys[v->key].touched && v->step >= s.soft &&
           s.now < v->now + s.config.claim_ms;
}

static stamp given(uint64_t key, const struct value *out)
{
    return out->key == UINT32_MAX ? 0 : stamp_of(key, out);
}

static const struct value nothing = { UINT32_MAX, 0, 0 };
static const struct cache_reading plainly;

static struct cache_reading draw_reading(void)
{
    struct cache_reading how;

    memset(&how, 0, sizeof how);
    if (percent(50))
        return how;
    how.stale = (enum cache_stale)below(3);
    how.skip_read = percent(15);
    how.skip_write = percent(15);
    how.skip_store = percent(15);
    return how;
}

static void read_ended(const struct view *v, const struct cache_reading *how,
                       enum way way, int answer, stamp number)
{
    struct key *k = &s.keys[v->key];
    bool kept = is_kept(v) && !how->skip_write;

    trace(s.doing, v->key, number, answer);
    check_read(v, way, how, answer, number);
    was_read(v->key, number, k->loads == 0 ? v->now : 0);
    total.stale += answer == CACHE_FOUND_STALE;
    total.negative += answer < 0 && k->loads == 0;
    total.busy += answer == CACHE_EBUSY;
    if (k->loads == 0)
        return;
    if (k->load_said != 0) {
        model_none(v->key, k->load_said,
                   v->later && !how->skip_write ? MAYBE
                   : kept                       ? YES
                                                : NO);
        total.fallback += answer >= 0;
    } else {
        const struct licence *l = licence_of(v->key, number);

        RULE(l != NULL && (l->used == (answer == CACHE_FOUND)),
             "FOUND: it is in the cache; UNSTORED: it is not");
        RULE(kept || v->later || answer == CACHE_FOUND_UNSTORED,
             "what may not be kept is not");
        RULE(!kept || answer == CACHE_FOUND || s.byte_store,
             "what may be kept is");
        total.unstored += answer == CACHE_FOUND_UNSTORED;
    }
}

static bool has_loader(void)
{
    return s.config.reads == CACHE_READ_THROUGH;
}

static uint32_t draw_key(void)
{
    uint32_t i = percent(30) ? below((s.n_keys + 3) / 4) : below(s.n_keys), n;

    for (n = 0; n < s.n_keys && s.keys[i].busy; n++)
        i = (i + 1) % s.n_keys;
    return i;
}

static void do_get(void)
{
    uint32_t key = draw_key();
    struct view v = view_of(key);
    struct value out = nothing;
    struct cache_reading how = draw_reading();
    enum way way = has_loader() && !how.skip_store ? LOADS : LOOKS;
    int rc;

    s.doing = "get";
    if (percent(40)) {
        how = plainly;
        way = has_loader() ? LOADS : LOOKS;
        rc = s.ops->get(key, &out);
    } else {
        rc = s.ops->get_with(key, &out, &how);
    }
    read_ended(&v, &how, way, rc, rc < 0 ? 0 : given(key, &out));
}

static void do_load(void)
{
    uint32_t key = draw_key();
    struct view v = view_of(key);
    struct value out = nothing;
    struct cache_reading how = draw_reading();
    int rc;

    s.doing = "load";
    how.skip_store = false;
    if (percent(50)) {
        how = plainly;
        rc = s.ops->load(key, &out, NULL);
    } else {
        rc = s.ops->load(key, &out, &how);
    }
    read_ended(&v, &how, LOADS, rc, rc < 0 ? 0 : given(key, &out));
}

static void do_peek(void)
{
    uint32_t key = draw_key();
    struct view v = view_of(key);
    struct value out = nothing;

    s.doing = "peek";
    if (s.ops->peek(key, &out))
        RULE((v.verdicts & SERVED) && given(key, &out) == v.entry.stamp,
             "peek shows what is there");
    else
        RULE(v.verdicts & ~SERVED, "peek shows what is there");
}

/* Different keys, none of them in use. */
static size_t draw_keys(uint64_t *keys)
{
    size_t n = 1 + below(MANY), have = 0, i;

    while (n-- > 0) {
        uint32_t key = draw_key();

        for (i = 0; i < have && keys[i] != key; i++)
            ;
        if (i == have && s.keys[key].busy == 0)
            keys[have++] = key;
    }
    return have;
}

static void do_get_many(void)
{
    uint64_t keys[MANY];
    struct value out[MANY];
    size_t missing[MANY], n = draw_keys(keys), n_missing, i, at = 0;
    struct view v[MANY];

    s.doing = "get_many";
    for (i = 0; i < n; i++) {
        v[i] = view_of((uint32_t)keys[i]);
        out[i] = nothing;
    }
    n_missing = s.ops->get_many(keys, n, out, missing);
    for (i = 0; i < n; i++) {
        bool miss = at < n_missing && missing[at] == i;
        stamp number = miss ? 0 : given(keys[i], &out[i]);

        at += miss;
        if (!miss) {
            RULE(number == v[i].entry.stamp || number == v[i].newest,
                 "get_many gives what is there");
            was_read((uint32_t)keys[i], number, v[i].now);
        }
        RULE(!miss || (v[i].verdicts & ~BIT(CACHE_VERDICT_FRESH)) ||
                 s.keys[keys[i]].evicted,
             "get_many misses what is not there");
        RULE(miss || v[i].dirty != NO ||
                 ((v[i].verdicts & SERVED) && number == v[i].entry.stamp),
             "get_many gives what is there");
    }
    RULE(at == n_missing, "get_many says which are missing");
}

static void do_load_many(void)
{
    uint64_t keys[MANY];
    struct value out[MANY];
    int found[MANY];
    size_t n = draw_keys(keys), n_missing, i, none = 0;
    struct view v[MANY];
    bool own = !has_loader() || percent(30);

    s.doing = "load_many";
    for (i = 0; i < n; i++) {
        v[i] = view_of((uint32_t)keys[i]);
        v[i].full = v[i].full || n_claims() + n > s.config.max_claims;
        v[i].later = n > 1;
        out[i] = nothing;
    }
    for (i = 0; i < n; i++)
        s.keys[keys[i]].busy++;
    n_missing = s.ops->load_many(keys, n, out, found, own);
    for (i = 0; i < n; i++)
        s.keys[keys[i]].busy--;
    for (i = 0; i < n; i++) {
        none += found[i] < 0;
        read_ended(&v[i], &plainly, LOADS, found[i],
                   found[i] < 0 ? 0 : given(keys[i], &out[i]));
    }
    RULE(none == n_missing, "load_many returns how many have no value");
}

/* There is no entry of this key any more; one that was gone by time may still
 * take up room. */
static void has_left(uint32_t key)
{
    struct entry *e = &s.keys[key].entry;

    RULE(!e->value || verdicts(e) & BIT(CACHE_VERDICT_GONE),
         "what is removed, written around or invalidated leaves");
    e->times.dead.lo = e->times.dead.hi = 0;
    e->negative = NO;
}

/* --- claims -------------------------------------------------------------- */

static void do_claim(void)
{
    uint32_t key = draw_key(), i;
    struct view v = view_of(key);
    struct value out = nothing;
    struct cache_reading how = draw_reading();
    struct cache_claim claim;
    struct held *h = NULL;
    int rc;

    s.doing = "claim";
    for (i = 0; i < MAX_HELD; i++)
        if (!s.held[i].open)
            h = &s.held[i];
    if (h == NULL)
        return;
    if (percent(50)) {
        how = plainly;
        rc = s.ops->claim(key, &out, &claim, NULL);
    } else {
        rc = s.ops->claim(key, &out, &claim, &how);
    }
    read_ended(&v, &how, CLAIMS, rc, given(key, &out));
    if (rc != CACHE_CLAIM_MISS_YOU_LOAD && rc != CACHE_CLAIM_STALE_YOU_REFRESH)
        return;
    RULE(v.claimed != YES, "one holder of a claim until it lapses");
    overtake(key, MAYBE); /* if not, it has lapsed */
    for (i = 0; i < MAX_HELD; i++)
        if (s.held[i].open && s.held[i].key == key)
            s.held[i].overtaken = YES;
    load_check(key);
    h->open = true;
    h->key = key;
    h->claim = claim;
    h->began = s.step;
    h->lapse_ms = s.now + s.config.claim_ms;
    h->overtaken = NO;
    h->skip_write = how.skip_write;
    h->stamp = store_find(key);
}

static void do_end_claim(void)
{
    uint32_t i = below(MAX_HELD), n;
    struct held *h;
    struct view v;
    struct licence *l = NULL;
    struct cache_loaded loaded = { 0, 0, 0, 0 };
    struct value value = nothing;
    bool lapsed, kept;
    int rc, error;

    for (n = 0; n < MAX_HELD && (!s.held[i].open || s.keys[s.held[i].key].busy);
         n++)
        i = (i + 1) % MAX_HELD;
    h = &s.held[i];
    if (!h->open || s.keys[h->key].busy)
        return;
    v = view_of(h->key);
    lapsed = s.now >= h->lapse_ms;
    trace("end of claim", h->key, h->stamp, lapsed);
    kept =
        !lapsed && h->overtaken != YES && !h->skip_write && h->began >= s.soft;
    total.lapsed += lapsed;
    total.overtaken += h->overtaken == YES;
    h->open = false;
    s.keys[h->key].loads = 1; /* so that a value may leave */
    if (percent(30)) {
        s.doing = "abandon";
        error = percent(60) ? CACHE_ESTORE : 0;
        rc = s.ops->abandon(&h->claim, error, percent(80) ? &value : NULL);
        if (rc >= 0)
            RULE((v.verdicts & SERVED) &&
                     given(h->key, &value) == v.entry.stamp &&
                     (rc == CACHE_FOUND || rc == CACHE_FOUND_STALE),
                 "abandon serves what may be served");
        else
            RULE(rc == (error ? error : CACHE_EKEY), "abandon says why");
        if (rc >= 0)
            was_read(h->key, v.entry.stamp, s.now);
        if (error)
            model_none(h->key, error,
                       !kept                   ? NO
                       : h->overtaken == MAYBE ? MAYBE
                                               : YES);
        return;
    }
    if (h->stamp == 0 ||
        (s.writes[h->stamp].expires_ms &&
         s.writes[h->stamp].expires_ms < WALL + s.now + s.tick)) {
        s.doing = "commit_negative";
        rc = s.ops->commit(&h->claim, NULL, NULL);
        RULE(rc == 0 || rc == CACHE_ECONFLICT, "commit_negative is 0, or late");
        RULE(kept || rc != 0, "what may not be kept is not");
        RULE(!kept || h->overtaken == MAYBE || rc == 0, "what may be kept is");
        if (rc == 0) {
            has_left(h->key);
            model_none(h->key, CACHE_EKEY, YES);
        }
        return;
    }
    s.doing = "commit";
    value.key = h->key;
    value.stamp = h->stamp;
    value.sum = sum_of(h->key, h->stamp);
    l = license(h->key, h->stamp);
    l->loaded = true;
    l->began = h->began;
    if (percent(30))
        l->ttl_ms = loaded.ttl_ms = s.tick + below(300);
    if (s.writes[h->stamp].expires_ms)
        l->lifetime_ms = loaded.lifetime_ms =
            s.writes[h->stamp].expires_ms - WALL - s.now;
    rc = s.ops->commit(&h->claim, &value, &loaded);
    RULE(rc == 0 ? l->used : !l->used, "commit: 0 = it is in the cache");
    RULE(kept || rc == CACHE_ECONFLICT, "a late commit is a conflict");
    RULE(!kept || h->overtaken == MAYBE || rc == 0, "what may be kept is");
    RULE(s.ops->commit(&h->claim, &value, NULL) == CACHE_ECONFLICT,
         "a claim is committed once");
}

/* --- writing ------------------------------------------------------------- */

/* A write of the program that is under way. */
struct writing {
    uint32_t key;
    stamp number;
    struct licence *licence;
    bool keep, through, behind, was_dirty, full_claims;
    uint32_t n_dirty;
    uint64_t n_nested;
};

static uint32_t n_dirty(bool maybe)
{
    uint32_t n = 0, i;

    for (i = 0; i < s.n_keys; i++)
        n += s.keys[i].dirty == YES || (maybe && s.keys[i].dirty == MAYBE);
    return n;
}

static struct writing begin_write(uint32_t key, bool remove,
                                  const struct cache_writing *how)
{
    struct writing w;
    struct key *k = &s.keys[key];
    struct write *write;

    memset(&w, 0, sizeof w);
    (void)view_of(key);
    w.key = key;
    w.number = ++s.n_stamps;
    write = &s.writes[w.number];
    write->key = key;
    write->life = s.life;
    write->remove = remove;
    write->said = NOT_SAID;
    if (how->lifetime_ms && how->lifetime_ms != CACHE_NEVER)
        write->expires_ms = WALL + s.now + how->lifetime_ms;
    w.through = !how->skip_store && (s.config.writes == CACHE_WRITE_THROUGH ||
                                     s.config.writes == CACHE_WRITE_AROUND);
    w.behind = write->behind = !how->skip_store && is_behind();
    w.keep = !remove && !how->skip_write &&
             (s.config.writes != CACHE_WRITE_AROUND || how->skip_store);
    w.was_dirty = k->dirty == YES;
    w.n_dirty = n_dirty(true);
    w.n_nested = s.n_nested;
    w.full_claims = s.depth > 0 || n_claims() >= s.config.max_claims;
    k->pending = w.number;
    if (remove)
        return w;
    w.licence = license(key, w.number);
    w.licence->freshness = how->freshness;
    w.licence->ttl_ms = how->ttl_ms;
    w.licence->lifetime_ms = how->lifetime_ms;
    return w;
}

static void check_error(const struct writing *w, int rc)
{
    const struct write *write = &s.writes[w->number];

    if (w->through && write->said != NOT_SAID) {
        RULE(rc == write->said, "a write says what the store said");
        return;
    }
    if (rc == CACHE_EFULL) {
        total.full++;
        RULE(w->through ? w->full_claims
                        : w->behind && !w->was_dirty &&
                              (w->n_dirty >= s.config.write_behind.max_dirty ||
                               s.depth > 0 || s.n_nested > w->n_nested),
             "a write is refused when there is no room");
        return;
    }
    RULE(rc == 0 && !w->through, "a write is accepted, or says why not");
}

static void end_write(const struct writing *w, int rc, bool ack)
{
    struct key *k = &s.keys[w->key];
    struct write *write = &s.writes[w->number];
    bool late =
        w->behind && ack && (rc == CACHE_ETIMEOUT || rc == CACHE_EDEADLETTER);

    k->pending = 0;
    trace(s.doing, w->key, w->number, rc);
    if (!late)
        check_error(w, rc);
    if (rc != 0 && !late) {
        RULE(w->licence == NULL || !w->licence->used,
             "a writer that fails leaves the cache as it was");
        RULE(!k->removed, "a writer that fails leaves the cache as it was");
        if (w->through)
            overtake(w->key, MAYBE);
        return;
    }
    write->accepted = true;
    overtake(w->key, YES);
    if (w->behind) {
        s.want.writes.n_accepted++;
        k->newest = write->buried ? k->acked : w->number;
        k->dirty = write->buried ? NO : write->confirmed ? MAYBE : YES;
        if (ack && rc == 0) {
            total.acks++;
            RULE(k->stored >= w->number && k->acked >= w->number,
                 "what is acknowledged is in the store");
        }
        RULE(rc != CACHE_EDEADLETTER || s.n_letters > 0, "there was a letter");
    } else if (w->through) {
        k->newest = w->number;
        RULE(k->stored >= w->number && k->acked >= w->number,
             "what went through is in the store");
    }
    if (w->keep) {
        RULE(w->licence->used || w->licence->began < s.hard,
             "what is put is in the cache");
        return;
    }
    has_left(w->key);
}

static struct cache_freshness other_freshness;

static struct cache_writing draw_writing(void)
{
    struct cache_writing how;

    memset(&how, 0, sizeof how);
    if (percent(30))
        how.ttl_ms = percent(10) ? CACHE_NEVER : s.tick + below(400);
    if (percent(25))
        how.lifetime_ms = s.tick + below(400);
    if (percent(10))
        how.freshness = &other_freshness;
    how.skip_write = percent(10);
    how.skip_store = percent(8);
    if (percent(25))
        how.ack =
            is_behind() && percent(50) ? CACHE_ACK_STORE : CACHE_ACK_DEFAULT;
    return how;
}

static void do_write(bool remove)
{
    static const struct cache_writing none;
    uint32_t key = draw_key();
    struct cache_writing how = percent(40) ? none : draw_writing();
    struct value value = { key, s.n_stamps + 1, sum_of(key, s.n_stamps + 1) };
    struct writing w;
    int rc;

    if (s.keys[key].busy || /* and which of two removes would be sent? */
        (remove && s.depth > 0 && s.keys[key].dirty != NO))
        return;
    s.doing = remove ? "remove" : "put";
    if (remove)
        how.lifetime_ms = how.ttl_ms = 0;
    w = begin_write(key, remove, &how);
    if (w.licence)
        w.licence->sure = w.through;
    s.keys[key].busy++;
    rc = s.ops->write(key, remove ? NULL : &value, &how);
    s.keys[key].busy--;
    end_write(&w, rc, (how.ack ? how.ack : s.config.ack) == CACHE_ACK_STORE);
}

static void do_write_many(bool remove)
{
    static const struct cache_writing none;
    uint64_t keys[MANY];
    struct value values[MANY];
    struct writing w[MANY];
    int status[MANY], rc, first = 0;
    size_t n = draw_keys(keys), i;
    uint32_t claims = n_claims();

    for (i = 0; remove && i < n; i++)
        if (s.keys[keys[i]].dirty != NO &&
            s.writes[s.keys[keys[i]].newest].remove)
            return; /* which one would be sent? */
    s.doing = remove ? "remove_many" : "put_many";
    for (i = 0; i < n; i++) {
        w[i] = begin_write((uint32_t)keys[i], remove, &none);
        w[i].full_claims = w[i].full_claims || claims + n > s.config.max_claims;
        w[i].n_dirty += (uint32_t)i;
        w[i].was_dirty = w[i].was_dirty && i == 0;
        values[i].key = (uint32_t)keys[i];
        values[i].stamp = w[i].number;
        values[i].sum = sum_of(values[i].key, values[i].stamp);
        status[i] = NOT_SAID;
    }
    for (i = 0; i < n; i++)
        s.keys[keys[i]].busy++;
    rc = s.ops->write_many(keys, remove ? NULL : values, n, status);
    for (i = 0; i < n; i++) {
        s.keys[keys[i]].busy--;
        end_write(&w[i], status[i], s.config.ack == CACHE_ACK_STORE);
        if (first == 0)
            first = status[i];
    }
    RULE(rc == first, "a bulk write returns the first status that is not 0");
}

/* --- everything else ----------------------------------------------------- */

static void do_invalidate(void)
{
    enum cache_invalidation how =
        percent(50) ? CACHE_INVALIDATE_HARD : CACHE_INVALIDATE_SOFT;
    uint32_t i;

    s.doing = "invalidate";
    trace(s.doing, 0, 0, (int)how);
    s.ops->invalidate(how);
    s.want.invalidations++;
    total.invalidated++;
    s.soft = ++s.step;
    if (how == CACHE_INVALIDATE_HARD)
        s.hard = s.step;
    for (i = 0; i < MAX_HELD; i++)
        s.held[i].overtaken = YES;
}

static void do_invalidate_key(void)
{
    uint32_t key = draw_key();
    struct entry *e = &s.keys[key].entry;
    bool hard = percent(50);
    struct span now = { s.now, s.now };

    if (s.keys[key].busy)
        return;
    s.doing = "invalidate_key";
    (void)view_of(key);
    trace(s.doing, key, 0, hard);
    overtake(key, YES);
    s.ops->invalidate_key(key,
                          hard ? CACHE_INVALIDATE_HARD : CACHE_INVALIDATE_SOFT);
    if (hard)
        has_left(key);
    if (hard || !e->value) {
        e->negative = NO;
        return;
    }
    e->times.fresh = earlier(e->times.fresh, now);
    e->times.refresh = earlier(e->times.refresh, now);
    if (e->failed == YES)
        e->failed = MAYBE;
}

static void do_flush(void)
{
    uint32_t budget = percent(50) ? UINT32_MAX : 1 + below(4), i;
    int rc;

    s.doing = "flush";
    rc = s.ops->flush(budget);
    trace(s.doing, budget, 0, rc);
    for (i = 0; i < s.n_keys; i++)
        if (s.keys[i].dirty == MAYBE && s.depth == 0)
            s.keys[i].dirty = NO;
    if (s.depth == 0)
        RULE(rc == (int)n_dirty(false), "flush returns how many are dirty");
}

static void do_tick(void)
{
    uint32_t i, left;

    s.doing = "tick";
    left = s.ops->tick(percent(50) ? UINT32_MAX : 1 + below(20));
    for (i = 0; i < s.n_keys && left == 0; i++) {
        const struct entry *e = &s.keys[i].entry;

        RULE(!e->value || e->began >= s.hard || e->unsure >= s.hard,
             "what was invalidated has been reclaimed");
        RULE(!e->value || passed(e->times.dead) != YES ||
                 s.now - e->times.dead.hi < s.tick,
             "what is gone by time has been reclaimed");
    }
}

/* The data at the source changes, by another program's hand. */
static void do_foreign_write(void)
{
    uint32_t key = below(s.n_keys), i;
    struct key *k = &s.keys[key];
    struct write *w;

    if (k->busy || k->at_store || k->dirty == YES || s.depth > 0)
        return;
    for (i = 0; i < s.n_late; i++)
        if (s.late[i].key == key)
            return;
    w = &s.writes[++s.n_stamps];
    w->key = key;
    w->life = UINT32_MAX;
    w->remove = percent(20);
    w->expires_ms = percent(20) ? WALL + s.now + 50 + below(400) : 0;
    k->stored = s.n_stamps;
}

static void check_all(void)
{
    struct cache_loading_stats have;
    const char *wrong = s.ops->check();
    uint32_t n = 0, i;

    total.steps++;
    if (wrong)
        broken(wrong);
    for (i = 0; i < s.n_keys; i++) {
        n += s.keys[i].entry.value;
        RULE(s.keys[i].stored >= s.keys[i].acked,
             "a confirmed write is in the store");
    }
    RULE(s.ops->len() >= n && s.ops->len() <= s.capacity,
         "len counts what is there");
    RULE(s.ops->stats(&have) == 0, "there are counters");
    RULE(have.claims == s.want.claims, "claims counts those given out");
    RULE(have.loads == s.want.loads, "loads counts those that have ended");
    RULE(have.load_errors == s.want.load_errors, "load_errors counts errors");
    RULE(have.invalidations == s.want.invalidations, "invalidations count");
    if (!is_behind())
        return;
    RULE(have.n_dirty >= n_dirty(false) && have.n_dirty <= n_dirty(true),
         "n_dirty counts dirty keys");
    RULE(have.writes.n_accepted == s.want.writes.n_accepted,
         "n_accepted counts what was accepted");
    RULE(have.writes.n_dead + have.writes.n_lost == s.n_letters,
         "each letter is counted");
    RULE(have.n_dirty > 0 || have.writes.n_accepted ==
                                 have.writes.n_stored +
                                     have.writes.n_coalesced +
                                     have.writes.n_dead + have.writes.n_lost,
         "when nothing is dirty, every accepted write is accounted for");
}

/* --- lives --------------------------------------------------------------- */

static void begin_step(void)
{
    s.step++;
    if (s.depth == 0) {
        s.began = s.n_stamps;
        s.begun_ms = s.now;
        s.begun_soft = s.soft;
    }
}

static void act(void)
{
    uint32_t dice = below(100);
    uint32_t n_licences = s.n_licences;
    const char *doing = s.doing;

    if (s.n_stamps + MANY + 1 >= MAX_STAMPS)
        return;
    begin_step();
    if (dice < 24)
        do_get();
    else if (dice < 30 && !s.byte_store)
        do_load();
    else if (dice < 33)
        do_peek();
    else if (dice < 36)
        do_get_many();
    else if (dice < 40 && s.depth == 0)
        do_load_many();
    else if (dice < 50)
        do_claim();
    else if (dice < 59)
        do_end_claim();
    else if (dice < 74)
        do_write(false);
    else if (dice < 79)
        do_write(true);
    else if (dice < 82 && s.depth == 0)
        do_write_many(percent(30));
    else if (dice < 84)
        do_invalidate();
    else if (dice < 87)
        do_invalidate_key();
    else if (dice < 93 && s.depth == 0)
        do_flush();
    else if (dice < 95)
        do_tick();
    else
        do_foreign_write();
    s.n_licences = n_licences;
    s.doing = doing;
}

/* What the program does while one of its callbacks is under way. */
static void nest(void)
{
    uint32_t i, free_keys = 0;

    if (!s.nests || s.depth >= 2 || s.closing || !percent(25))
        return;
    for (i = 0; i < s.n_keys; i++)
        free_keys += s.keys[i].busy == 0;
    if (free_keys == 0)
        return;
    total.nested++;
    s.n_nested++;
    s.depth++;
    act();
    s.depth--;
}

static uint64_t draw_time(uint32_t zero)
{
    return percent(zero) ? 0 : s.tick + below(percent(50) ? 60 : 600);
}

static void draw_freshness(struct cache_freshness *f)
{
    memset(f, 0, sizeof *f);
    f->ttl_ms = draw_time(25);
    f->refresh_pct = percent(50) ? 0 : below(101);
    f->jitter_pct = percent(70) ? 0 : below(50);
    f->stale_ms = draw_time(40);
    f->stale_if_error_ms = draw_time(40);
    f->idle_ms = draw_time(80);
    f->negative_ttl_ms = draw_time(40);
    f->error_ttl_ms = draw_time(50);
}

static void on_letter(const struct cache_store_item *item, void *user);

static void configure(void)
{
    static const enum cache_strategy pairs[][2] = {
        { CACHE_ASIDE, CACHE_ASIDE },
        { CACHE_ASIDE, CACHE_WRITE_THROUGH },
        { CACHE_ASIDE, CACHE_WRITE_AROUND },
        { CACHE_READ_THROUGH, CACHE_ASIDE },
        { CACHE_READ_THROUGH, CACHE_WRITE_THROUGH },
        { CACHE_READ_THROUGH, CACHE_WRITE_AROUND },
        { CACHE_READ_THROUGH, CACHE_WRITE_BEHIND },
        { CACHE_READ_THROUGH, CACHE_WRITE_BEHIND },
        { CACHE_READ_THROUGH, CACHE_WRITE_BEHIND },
    };
    static const struct ops *const kinds[] = { &one_ops, &bulk_ops,
                                               &plain_ops };
    struct cache_loading_config *c = &s.config;
    uint32_t pair = below(sizeof pairs / sizeof *pairs);

    s.ops = kinds[below(3)];
    c->reads = pairs[pair][0];
    c->writes = pairs[pair][1];
    s.n_keys = 1 + below(percent(50) ? 6 : MAX_KEYS);
    s.capacity = 1 + below(20);
    s.tick = percent(40) ? 1 : 1 + below(20);
    s.versions = percent(70);
    s.filters = percent(50);
    s.nests = percent(60);
    s.latency = 1 + below(percent(60) ? 10 : 80);
    s.fail = percent(60) ? below(40) : 0;
    s.time_out = percent(60) ? below(50) : 0;
    s.refuse = percent(30) ? below(30) : 0;
    c->cache.capacity = s.capacity;
    c->cache.tick_ms = s.tick;
    c->cache.seed = test_random(&s.random) | 1;
    c->cache.now = now_ms;
    c->cache.user = &s;
    c->wall_now = wall_now;
    draw_freshness(&c->freshness);
    draw_freshness(&other_freshness);
    other_freshness.idle_ms = c->freshness.idle_ms;
    c->max_claims = 1 + below(percent(50) ? 3 : 20);
    c->claim_ms = 20 + below(300);
    c->wait_ms = 20 + below(300);
    s.key_codec = cache_raw_object(sizeof(uint64_t));
    s.value_codec = cache_raw_object(sizeof(struct value));
    s.byte_store = s.ops->bytes && pair != 0;
    if (s.byte_store) {
        s.store.name = "simulated";
        s.store.capabilities = CACHE_STORE_EXPIRES | CACHE_STORE_BLOCKS;
        s.store.submit = sim_submit;
        c->store = &s.store;
        c->key_codec = &s.key_codec;
        c->value_codec = &s.value_codec;
    }
    if (c->writes == CACHE_WRITE_BEHIND) {
        struct cache_wb_config *wb = &c->write_behind;

        c->key_codec = &s.key_codec;
        c->value_codec = &s.value_codec;
        wb->max_dirty = 1 + below(8);
        wb->max_batch = 1 + below(wb->max_dirty);
        wb->max_in_flight = 1 + below(3);
        wb->retry_base_ms = 1 + below(20);
        wb->retry_cap_ms = wb->retry_base_ms + below(200);
        wb->max_attempts = percent(50) ? 0 : 1 + below(3);
        wb->seed = test_random(&s.random) | 1;
        wb->on_dead_letter = on_letter;
        c->when_full =
            percent(50) ? CACHE_FULL_REFUSE : CACHE_FULL_WRITE_THROUGH;
        c->ack = percent(20) ? CACHE_ACK_STORE : CACHE_ACK_DEFAULT;
    }
}

/* A write that is given up. */
static void on_letter(const struct cache_store_item *item, void *user)
{
    uint32_t key = (uint32_t)number_of(item->key);
    struct key *k = &s.keys[key];
    stamp number = 0, i;
    struct value v;

    RULE(user == &s, "a hook is given its user");
    trace("  letter", key, (stamp)item->version, item->status);
    s.n_letters++;
    s.n_lost += s.closing;
    s.n_closed += item->status == CACHE_ECLOSED;
    if (s.crashed)
        return;
    if (item->op == CACHE_STORE_PUT) {
        memcpy(&v, item->value.data, sizeof v);
        number = stamp_of(key, &v);
    } else {
        for (i = s.n_stamps; i > 0 && number == 0; i--)
            if (s.writes[i].key == key && s.writes[i].remove &&
                s.writes[i].behind && s.writes[i].life == s.life &&
                (s.writes[i].version == item->version ||
                 (s.writes[i].version == 0 && i == k->newest)))
                number = i;
    }
    RULE(number != 0 && !s.writes[number].buried && !s.writes[number].confirmed,
         "a letter is a write that was not stored, once");
    s.writes[number].buried = true;
    if (number == k->newest || number == k->pending) {
        k->newest = k->acked;
        k->dirty = NO;
    }
}

static void birth(void)
{
    uint32_t i;

    s.life++;
    s.hard = s.soft = 0;
    s.closing = s.crashed = false;
    s.n_letters = s.n_lost = 0;
    s.values_in = s.values_out = 0;
    memset(&s.want, 0, sizeof s.want);
    memset(s.held, 0, sizeof s.held);
    s.n_licences = 0;
    for (i = 0; i < s.n_keys; i++) {
        struct key *k = &s.keys[i];

        memset(&k->entry, 0, sizeof k->entry);
        k->newest = k->acked = k->pending = 0;
        k->dirty = NO;
        k->at_store = k->busy = 0;
        k->touched = 0;
    }
    RULE(s.ops->init(&s.config) == 0, "init succeeds");
}

static void died(void)
{
    uint32_t i;

    for (i = 0; i < s.n_keys; i++)
        RULE(!s.keys[i].entry.value, "every value leaves in the end");
    RULE(s.values_in == s.values_out, "what comes leaves once");
}

/* Some of what is under way is stored, and the rest is not; the cache forgets
 * everything. */
static void crash(void)
{
    uint32_t i, n;

    s.doing = "crash";
    total.crashes++;
    while (s.n_late > 0 && percent(50))
        store_apply_late(below(s.n_late));
    s.n_late = 0;
    for (n = 0; n < MAX_FLIGHTS; n++) {
        struct flight *f = &s.flights[n];
        struct cache_store_batch *batch = f->batch;

        if (batch == NULL)
            continue;
        for (i = 0; i < batch->n_items; i++) {
            if (!f->applied && percent(50))
                (void)store_apply(&f->parcels[i]);
            batch->items[i].status = CACHE_ECLOSED;
        }
        f->batch = NULL;
        batch->done(batch);
    }
    s.n_flights = 0;
    for (i = 0; i < s.n_keys; i++)
        RULE(
            s.keys[i].stored >= s.keys[i].acked &&
                (s.keys[i].dirty != NO || s.keys[i].stored >= s.keys[i].newest),
            "what was acknowledged survives, unless it was dirty");
    s.crashed = true;
    s.ops->destroy();
    died();
}

static void orderly_close(void)
{
    uint64_t lost = 77, until;
    uint32_t i, turns = 0;
    struct value v = { 0, 1, 0 };
    bool in_time = percent(30);
    int rc;

    if (in_time && is_behind()) { /* flush and time are enough */
        s.faults = 0;
        s.doing = "drain";
        while (s.ops->flush(UINT32_MAX) > 0) {
            RULE(++turns < 500, "with flush and time everything is stored");
            pass(10);
        }
        for (i = 0; i < s.n_keys; i++)
            s.keys[i].dirty = NO;
        check_all();
    }
    for (i = below(6); i > 0 && s.n_stamps + 1 < MAX_STAMPS; i--) {
        begin_step();
        do_write(false);
        s.n_licences = 0;
        check_all();
    }
    s.doing = "close";
    s.closing = true;
    in_time = percent(40);
    until = s.now + (in_time ? 100000 : below(50));
    s.n_lost = s.n_closed = 0;
    if (in_time)
        s.faults = 0;
    else if (percent(50))
        s.faults = 1;
    rc = s.ops->close(until - s.now, &lost);
    total.letters += s.n_letters;
    total.lost += s.n_lost;
    total.clean += s.n_letters == 0;
    RULE(lost <= s.n_lost && lost >= s.n_closed &&
             (lost == s.n_lost || s.config.write_behind.max_attempts),
         "n_lost is what was given up by close");
    RULE(rc == (s.n_letters ? CACHE_EDEADLETTER : 0),
         "close says whether a write was given up");
    RULE(!in_time || lost == 0 || s.config.write_behind.max_attempts,
         "with time nothing is lost");
    for (i = 1; i <= s.n_stamps; i++) {
        const struct write *w = &s.writes[i];
        bool newer = false;
        stamp j;

        if (!w->behind || !w->accepted || w->life != s.life)
            continue;
        for (j = i + 1; j <= s.n_stamps && !newer; j++)
            newer = s.writes[j].key == w->key && s.writes[j].behind &&
                    s.writes[j].accepted && s.writes[j].life == s.life;
        RULE(w->confirmed + w->buried == 1 ||
                 (newer && w->confirmed + w->buried == 0),
             "each accepted write is stored, superseded, or a letter");
    }
    if (s.config.writes != CACHE_ASIDE)
        RULE(s.ops->write(0, &v, NULL) == CACHE_ECLOSED,
             "after close nothing is written");
    RULE(s.n_flights == 0, "after close nothing is at the store");
    s.ops->destroy();
    died();
}

static void life(bool last)
{
    uint32_t n = 20 + below(200);

    birth();
    while (n-- > 0) {
        if (percent(5))
            s.faults = percent(75);
        if (percent(60))
            pass(below(percent(90) ? 20 : 400));
        act();
        s.step++;
        s.doing = "check";
        check_all();
    }
    if (last)
        orderly_close();
    else
        crash();
}

static void run(uint64_t seed)
{
    uint32_t n;

    memset(&s, 0, sizeof s);
    s.seed = seed;
    s.random = seed * 0x9e3779b97f4a7c15u | 1;
    for (n = 0; n < 8; n++)
        (void)below(2); /* seeds that are close become strangers */
    s.now = 1000 + below(100000);
    s.faults = 1;
    configure();
    for (n = below(3); n > 0; n--)
        life(false);
    life(true);
}

static bool just_one; /* --seed=N */

static void worlds(void)
{
    uint64_t n = just_one ? 1 : N_SEEDS * (uint64_t)test_scale(), i;

    for (i = 0; i < n; i++)
        run(test_seed + 2 * i); /* odd, as the harness makes a seed */
    printf(
        "%llu seeds: %llu steps, %llu faults, %llu late, %llu conflicts, "
        "%llu crashes, %llu clean; %llu loads, %llu stale, %llu negative, "
        "%llu fallbacks, %llu overtaken, %llu lapsed, %llu from the buffer, "
        "%llu evicted, %llu refused, %llu letters, %llu lost, %llu waits, "
        "%llu nested, %llu unstored, %llu acks, %llu busy\n",
        (unsigned long long)n, (unsigned long long)total.steps,
        (unsigned long long)total.faults, (unsigned long long)total.late,
        (unsigned long long)total.conflicts, (unsigned long long)total.crashes,
        (unsigned long long)total.clean, (unsigned long long)total.loads,
        (unsigned long long)total.stale, (unsigned long long)total.negative,
        (unsigned long long)total.fallback, (unsigned long long)total.overtaken,
        (unsigned long long)total.lapsed, (unsigned long long)total.buffer,
        (unsigned long long)total.evicted, (unsigned long long)total.full,
        (unsigned long long)total.letters, (unsigned long long)total.lost,
        (unsigned long long)total.waits, (unsigned long long)total.nested,
        (unsigned long long)total.unstored, (unsigned long long)total.acks,
        (unsigned long long)total.busy);
    if (n >= 2000) /* most of these happen in one seed out of ten */
        CHECK(total.faults > n && total.late > n / 10 &&
              total.conflicts > n / 10 && total.crashes > n / 10 &&
              total.clean > n / 10 && total.clean < n && total.loads > n &&
              total.stale > n && total.negative > n &&
              total.fallback > n / 10 && total.overtaken > n &&
              total.lapsed > n && total.buffer > n && total.evicted > n &&
              total.full > n && total.letters > n / 10 && total.lost > n / 40 &&
              total.nested > n && total.unstored > n / 10 && total.acks > n &&
              total.busy > n);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { TEST(worlds) };
    int i;

    for (i = 1; i < argc; i++) {
        just_one |= strncmp(argv[i], "--seed=", 7) == 0;
        tracing |= strcmp(argv[i], "--trace") == 0;
    }
    return TEST_MAIN(argc, argv, tests);
}
