/*
 * sim_write_behind.c - the write-behind machine in a simulated world.
 *
 * Thousands of short lives of an application, each from one seed: it writes to
 * the real machine; the clock is a number; the store refuses, fails, is slow,
 * answers out of order, times out and applies the write all the same - at
 * times after a newer one; it has outages and a poisoned row.  A life ends in
 * a crash, and the next begins with what the store has, or with an orderly
 * close.
 *
 * Beside the machine goes a model that knows, for each key, which write is
 * where, so that after every event all of this is known and compared: what
 * cache_wb_find says, all counters, which barriers are satisfied, what is due,
 * who may travel with whom, and that nothing confirmed is missing.
 *
 * A failure prints its seed; --seed=N runs just that one.  The environment
 * variable TEST_SCALE multiplies the number of seeds.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "cache_store.h"
#include "tests/test.h"

#define N_SEEDS 2000
#define MAX_KEYS 48
#define MAX_DIRTY 24
#define MAX_FLIGHTS 4
#define MAX_WRITES 1024
#define MAX_LATE 256
#define MAX_BARRIERS 8
#define KEY_BYTES 8
#define VALUE_BYTES 24

/* A write gets a stamp, its place in the order of all writes of a seed.  All
 * that follows is said in stamps; 0 is "none". */
typedef uint32_t stamp;

struct write {
    enum cache_store_op op;
    uint64_t expires_ms, version;
};

enum state { CLEAN, WAITING, RETRYING, SENT, BLOCKED };

struct key {
    stamp newest; /* what the application wants to be stored */

    /* The machine. */
    enum state state;
    stamp held;       /* newest that the machine has, if it is not CLEAN */
    stamp first;      /* oldest that `held` stands for */
    stamp sent;       /* SENT, BLOCKED: what is at the store */
    stamp sent_first; /* oldest that `sent` stands for */
    uint32_t fails;   /* how often the record failed since its last write */
    uint64_t since;   /* WAITING: when it began; RETRYING: when it failed */
    uint64_t latest;  /* WAITING, RETRYING: when it must be sent */

    /* What the application was told. */
    stamp confirmed; /* stored, by a completion or by a barrier */
    stamp buried;    /* newest that on_dead_letter was given */

    /* The store. */
    stamp stored;
    uint64_t epoch, version; /* of `stored` */
    bool foreign;            /* another writer's, newer than any of ours */
};

/* What a store will make of an item, and what it will say. */
enum fate { STORES, FAILS, STORES_AND_FAILS, FAILS_AND_STORES_LATER };

struct parcel { /* one item, as it was when it was submitted */
    uint32_t key;
    stamp stamp;
    uint64_t epoch, version;
    uint64_t at_ms; /* of a late one: when it is stored */
    enum fate fate;
    int status;
};

struct flight {
    struct cache_store_batch *batch; /* NULL = not in use */
    struct parcel parcels[MAX_DIRTY];
    uint64_t apply_ms, reply_ms;
    bool applied;
};

struct barrier {
    uint64_t barrier;     /* the machine's name for it */
    stamp to;             /* the newest write before it */
    stamp keys[MAX_KEYS]; /* newest write of each key before it */
    bool open;
};

/* One seed's world. */
static struct {
    uint64_t seed, random, now;
    struct cache_wb w;
    struct cache_wb_stats want; /* what the counters must be */
    struct cache_wb_config config;
    struct key keys[MAX_KEYS];
    struct write writes[MAX_WRITES];
    struct flight flights[MAX_FLIGHTS];
    struct parcel late[MAX_LATE];
    struct barrier barriers[MAX_BARRIERS];
    uint32_t n_keys, n_late, n_flights;
    stamp n_writes, flush_to;
    uint64_t epoch;        /* lives so far */
    uint64_t last_version; /* of this life */
    bool closed;
    uint32_t n_letters; /* in this call of the machine */

    /* How this world is. */
    bool versions;          /* the store keeps them */
    uint32_t hot;           /* percent of the writes that go to key 0 */
    uint32_t pace, latency; /* ms */
    uint32_t refuse, fail, time_out, fail_items; /* percent of batches */
    uint32_t poison; /* this key's batches fail; n_keys = none */
    bool lazy;       /* the machine is asked every 64 ms only */
    uint64_t outage_from, outage_to;
} s;

/* Over all seeds: a simulation in which nothing happens proves nothing. */
static struct {
    uint64_t events, crashes, faults, late, conflicts, dead, lost, barriers,
        clean_closes, full;
} total;

static void broken(const char *rule)
{
    printf("seed %llu, life %llu, at %llu ms: broken: %s\n"
           "run it alone with --seed=%llu\n",
           (unsigned long long)s.seed, (unsigned long long)s.epoch,
           (unsigned long long)s.now, rule, (unsigned long long)s.seed);
    test__fail(__FILE__, __LINE__, rule);
}

#define RULE(condition, rule) ((condition) ? (void)0 : broken(rule))

static uint32_t below(uint32_t n)
{
    return (uint32_t)(test_random(&s.random) >> 33) % n;
}

static bool percent(uint32_t n)
{
    return below(100) < n;
}

/* --- keys, contents ------------------------------------------------------ */

/* Keys of different lengths, of which some are the beginnings of others. */
static size_t key_make(uint32_t key, char *out)
{
    size_t len = 1 + key % KEY_BYTES;

    memset(out, 'k', len);
    out[len - 1] = (char)('0' + key / KEY_BYTES);
    return len;
}

static uint32_t key_of(struct cache_bytes bytes)
{
    const char *text = (const char *)bytes.data;
    char again[KEY_BYTES];
    uint32_t key;

    RULE(bytes.len >= 1 && bytes.len <= KEY_BYTES, "a key's length is right");
    key = (uint32_t)(text[bytes.len - 1] - '0') * KEY_BYTES +
          (uint32_t)bytes.len - 1;
    RULE(key < s.n_keys && key_make(key, again) == bytes.len &&
             memcmp(again, text, bytes.len) == 0,
         "a key's bytes are right");
    return key;
}

/* Every byte of a value says whose it is. */
static size_t value_make(stamp number, unsigned char *out)
{
    size_t len = number % (VALUE_BYTES + 1), i;

    if (s.writes[number].op == CACHE_STORE_REMOVE)
        return 0;
    for (i = 0; i < len; i++)
        out[i] = (unsigned char)(number * 31 + i);
    return len;
}

static bool is_write(const struct cache_store_item *item, stamp number)
{
    const struct write *write = &s.writes[number];
    unsigned char value[VALUE_BYTES];
    size_t len = value_make(number, value);

    return item->op == write->op && item->version == write->version &&
           item->expires_ms == write->expires_ms && item->value.len == len &&
           memcmp(item->value.data, value, len) == 0;
}

/* --- the store ----------------------------------------------------------- */

/* Returns the status that the store would give. */
static int store_apply(const struct parcel *p)
{
    struct key *k = &s.keys[p->key];

    if (k->foreign)
        return CACHE_ECONFLICT;
    if (s.versions && (p->epoch < k->epoch ||
                       (p->epoch == k->epoch && p->version < k->version))) {
        RULE(p->stamp < k->stored, "a newer write has a higher version");
        total.conflicts++;
        return CACHE_ECONFLICT;
    }
    RULE(p->stamp >= k->stored, "an old write never replaces a newer one");
    k->stored = p->stamp;
    k->epoch = p->epoch;
    k->version = p->version;
    return 0;
}

static void store_apply_late(uint32_t i)
{
    struct parcel p = s.late[i];

    s.late[i] = s.late[--s.n_late];
    total.late++;
    (void)store_apply(&p);
}

static void flight_apply(struct flight *f)
{
    size_t i;

    for (i = 0; i < f->batch->n_items; i++) {
        struct parcel *p = &f->parcels[i];

        RULE(is_write(&f->batch->items[i], p->stamp) &&
                 key_of(f->batch->items[i].key) == p->key,
             "what is at the store does not change");
        if (p->fate == STORES)
            p->status = store_apply(p);
        else if (p->fate == STORES_AND_FAILS)
            (void)store_apply(p);
        else if (p->fate == FAILS_AND_STORES_LATER && s.n_late < MAX_LATE) {
            p->at_ms = s.now + 1 + below(1000);
            s.late[s.n_late++] = *p;
        }
    }
    f->applied = true;
}

/* --- the model of the machine -------------------------------------------- */

static bool is_covered(const struct key *k)
{
    return k->first <= s.flush_to;
}

static uint32_t n_in(enum state state)
{
    uint32_t n = 0, i;

    for (i = 0; i < s.n_keys; i++)
        n += s.keys[i].state == state;
    return n;
}

static uint32_t n_dirty(void)
{
    return s.n_keys - n_in(CLEAN);
}

static void begin_waiting(struct key *k)
{
    k->state = WAITING;
    k->fails = 0;
    k->since = s.now;
    k->latest = s.now + s.config.interval_ms;
}

static void model_write(struct key *k, stamp number)
{
    k->newest = number;
    s.want.n_accepted++;
    if (k->state == CLEAN) {
        k->first = number;
        begin_waiting(k);
    } else if (k->state == SENT) {
        k->state = BLOCKED;
        k->first = number;
    } else {
        s.want.n_coalesced++;
        if (k->state != BLOCKED) /* there they are those of the sent one */
            k->fails = 0;
    }
    k->held = number;
}

static void model_stored(struct key *k)
{
    s.want.n_stored++;
    k->confirmed = k->sent > k->confirmed ? k->sent : k->confirmed;
    k->sent = 0;
    if (k->state == BLOCKED)
        begin_waiting(k);
    else
        k->state = CLEAN;
}

static void model_failed(struct key *k)
{
    uint64_t limit = s.config.retry_base_ms;
    uint32_t n = ++k->fails;

    s.want.n_failed++;
    while (n-- > 0)
        limit = limit * 2 < s.config.retry_cap_ms ? limit * 2
                                                  : s.config.retry_cap_ms;
    if (k->state == BLOCKED) { /* the newer one stands for both */
        s.want.n_coalesced++;
        k->fails = 0;
    } else if (s.closed) {
        s.want.n_lost++;
        k->state = CLEAN;
        return;
    } else if (s.config.max_attempts && k->fails >= s.config.max_attempts) {
        s.want.n_dead++;
        k->state = CLEAN;
        return;
    }
    k->first = k->sent_first;
    k->sent = 0;
    k->state = RETRYING;
    k->since = s.now;
    k->latest = s.now + limit;
}

/* The machine's hook.  When it is called by complete, the model has foreseen
 * it: the key is CLEAN and `sent` still says what was there. */
static void on_dead_letter(const struct cache_store_item *item, void *user)
{
    struct key *k = &s.keys[key_of(item->key)];
    stamp number = k->state == CLEAN ? k->sent : k->held;

    RULE(user == &s, "a hook is given its user");
    RULE(number != 0 && is_write(item, number),
         "a dead letter is the write that will not be stored");
    RULE(k->state == CLEAN ? item->status != 0 : item->status == CACHE_ECLOSED,
         "a dead letter says why");
    s.n_letters++;
    k->buried = number > k->buried ? number : k->buried;
    if (k->state == CLEAN || k->state == WAITING || k->state == RETRYING) {
        k->sent = 0;
        k->state = CLEAN;
    } else { /* of what is at the store nothing is known yet */
        RULE(k->state == BLOCKED, "a sent write is not given up");
        k->state = SENT;
        k->held = k->sent;
        k->first = k->sent_first;
    }
}

/* --- what must hold at all times ----------------------------------------- */

static bool is_settled(const struct barrier *b)
{
    uint32_t i;

    for (i = 0; i < s.n_keys; i++) {
        const struct key *k = &s.keys[i];

        if (k->state != CLEAN &&
            (k->first <= b->to || ((k->state == SENT || k->state == BLOCKED) &&
                                   k->sent_first <= b->to)))
            return false;
    }
    return true;
}

static void check_barriers(void)
{
    uint32_t i, n;

    for (n = 0; n < MAX_BARRIERS; n++) {
        struct barrier *b = &s.barriers[n];

        if (!b->open)
            continue;
        RULE(cache_wb_is_stored(&s.w, b->barrier) == is_settled(b),
             "a barrier is satisfied when its writes are, and not before");
        if (!is_settled(b))
            continue;
        b->open = false;
        total.barriers++;
        for (i = 0; i < s.n_keys; i++) /* now it is a promise */
            if (s.keys[i].buried < b->keys[i] &&
                s.keys[i].confirmed < b->keys[i])
                s.keys[i].confirmed = b->keys[i];
    }
}

static void check_all(void)
{
    const char *wrong = cache_wb_check(&s.w);
    uint32_t i, in_use = 0;

    total.events++;
    if (wrong)
        broken(wrong);
    check_barriers();
    for (i = 0; i < s.n_keys; i++) {
        const struct key *k = &s.keys[i];
        const struct cache_store_item *item;
        char text[KEY_BYTES];
        struct cache_bytes bytes;

        in_use += k->state == CLEAN ? 0 : k->state == BLOCKED ? 2 : 1;
        RULE(k->foreign || k->stored >= k->confirmed,
             "a confirmed write is in the store");
        bytes.data = text;
        bytes.len = key_make(i, text);
        item = cache_wb_find(&s.w, bytes);
        if (k->state == CLEAN)
            RULE(item == NULL, "find has nothing that is not dirty");
        else
            RULE(item != NULL && key_of(item->key) == i &&
                     is_write(item, k->held),
                 "find has the newest write of a dirty key");
    }
    RULE(cache_wb_n_dirty(&s.w) == n_dirty(), "n_dirty counts dirty keys");
    RULE(memcmp(&s.w.stats, &s.want, sizeof s.want) == 0,
         "the counters count what happened");
    RULE(s.want.n_accepted == s.want.n_stored + s.want.n_coalesced +
                                  s.want.n_dead + s.want.n_lost + in_use,
         "every write is accounted for");
}

/* --- events -------------------------------------------------------------- */

static void write_something(void)
{
    struct cache_store_item item;
    uint32_t i = percent(s.hot) ? 0 : below(s.n_keys);
    struct key *k = &s.keys[i];
    stamp number = s.n_writes + 1;
    struct write *write = &s.writes[number];
    unsigned char value[VALUE_BYTES];
    char text[KEY_BYTES];
    int rc;

    if (number == MAX_WRITES)
        return;
    memset(&item, 0, sizeof item);
    write->op = percent(25) ? CACHE_STORE_REMOVE : CACHE_STORE_PUT;
    write->expires_ms = percent(30) ? s.now + number : 0;
    item.op = write->op;
    item.key.data = text;
    item.key.len = key_make(i, text);
    item.value.data = value;
    item.value.len = value_make(number, value);
    item.expires_ms = write->expires_ms;
    rc = cache_wb_write(&s.w, &item, s.now);
    memset(value, 0xee, sizeof value);
    if (k->state == CLEAN && n_dirty() == s.config.max_dirty) {
        RULE(rc == CACHE_EFULL, "no more than max_dirty keys are dirty");
        s.want.n_refused++;
        total.full++;
        return;
    }
    RULE(rc == 0, "a write is accepted unless the buffer is full");
    s.n_writes = number;
    item.key.data = text;
    write->version = cache_wb_find(&s.w, item.key)->version;
    RULE(write->version > s.last_version, "versions increase");
    s.last_version = write->version;
    model_write(k, number);
}

static void flush(void)
{
    uint32_t i, n;

    s.flush_to = s.n_writes;
    for (n = 0; n < MAX_BARRIERS - 1 && s.barriers[n].open; n++)
        ;
    s.barriers[n].barrier = cache_wb_flush(&s.w);
    s.barriers[n].to = s.n_writes;
    s.barriers[n].open = true;
    for (i = 0; i < s.n_keys; i++)
        s.barriers[n].keys[i] = s.keys[i].newest;
}

/* Another program writes a key, so that our writes of it are in conflict. */
static void foreign_write(void)
{
    struct key *k = &s.keys[below(s.n_keys)];

    if (!s.versions || s.n_writes + 1 == MAX_WRITES)
        return;
    s.n_writes++;
    memset(&s.writes[s.n_writes], 0, sizeof s.writes[0]);
    k->stored = s.n_writes;
    k->foreign = true;
}

static void complete(struct flight *f)
{
    struct cache_store_batch *batch = f->batch;
    uint32_t n = (uint32_t)(s.want.n_dead + s.want.n_lost);
    size_t i;

    f->batch = NULL;
    s.n_flights--;
    for (i = 0; i < batch->n_items; i++) {
        int status = f->parcels[i].status;
        struct key *k = &s.keys[f->parcels[i].key];

        batch->items[i].status = status;
        if (status == 0 || status == CACHE_ECONFLICT)
            model_stored(k);
        else
            model_failed(k);
    }
    n = (uint32_t)(s.want.n_dead + s.want.n_lost) - n;
    s.n_letters = 0;
    cache_wb_complete(&s.w, batch, s.now);
    RULE(s.n_letters == n, "each dead letter is given once");
}

static bool has_poison(const struct cache_store_batch *batch)
{
    size_t i;

    for (i = 0; i < batch->n_items; i++)
        if (key_of(batch->items[i].key) == s.poison)
            return true;
    return false;
}

/* The largest batch that may hold a write which has failed. */
static uint64_t company(const struct key *k)
{
    uint64_t n = k->fails < 31 ? s.config.max_batch >> k->fails : 0;

    return (n > 0 ? n : 1) << s.w.n_recovered;
}

/* Whether this batch may be sent, with these items, now. */
static void check_batch(const struct cache_store_batch *batch)
{
    bool retry = s.keys[key_of(batch->items[0].key)].state == RETRYING;
    bool due = n_in(WAITING) >= s.config.max_batch;
    uint32_t i;

    RULE(batch->n_items >= 1 && batch->n_items <= s.config.max_batch,
         "a batch has one write or more, up to max_batch");
    for (i = 0; i < s.n_keys && !retry; i++)
        due |= s.keys[i].state == WAITING &&
               (s.keys[i].latest <= s.now || is_covered(&s.keys[i]));
    RULE(retry || due, "a batch waits for count, interval or flush");
    for (i = 0; i < batch->n_items; i++) {
        const struct key *k = &s.keys[key_of(batch->items[i].key)];

        RULE(k->state == (retry ? RETRYING : WAITING),
             "one write of a key is at the store, and retries go apart");
        RULE(is_write(&batch->items[i], k->held), "the newest write is sent");
        RULE(batch->items[i].status == 0, "a status is the store's to give");
        RULE(!retry || s.now > k->since, "a retry is later than the failure");
        RULE(batch->n_items <= s.config.max_batch, "max_batch");
        RULE(k->fails == 0 || batch->n_items <= company(k),
             "what failed n times comes with at most max_batch >> n others,"
             " twice as many with each batch of retries stored since");
    }
}

static void submit(struct cache_store_batch *batch)
{
    struct flight *f = s.flights;
    bool out = s.now >= s.outage_from && s.now < s.outage_to;
    bool poisoned = has_poison(batch);
    uint32_t dice = below(100);
    uint32_t i;

    check_batch(batch);
    while (f->batch)
        f++;
    RULE(++s.n_flights <= s.config.max_in_flight,
         "max_in_flight batches are at the store");
    f->batch = batch;
    f->applied = false;
    f->apply_ms = s.now + below(s.latency);
    f->reply_ms = f->apply_ms + below(s.latency);
    s.want.n_batches++;
    s.want.n_sent += batch->n_items;
    for (i = 0; i < batch->n_items; i++) {
        struct parcel *p = &f->parcels[i];
        struct key *k;

        p->key = key_of(batch->items[i].key);
        k = &s.keys[p->key];
        k->state = SENT;
        k->sent = k->held;
        k->sent_first = k->first;
        p->stamp = k->held;
        p->epoch = s.epoch;
        p->version = batch->items[i].version;
        p->status = CACHE_ESTORE;
        p->fate = STORES;
        if (out || poisoned || dice < s.fail)
            p->fate = FAILS;
        else if (dice < s.fail + s.time_out) /* a store without versions may
                                                not be that late */
            p->fate = (enum fate)(FAILS + below(s.versions ? 3 : 2));
        else if (dice < s.fail + s.time_out + s.fail_items && percent(30))
            p->fate = FAILS;
        total.faults += p->fate != STORES;
    }
    if (percent(out ? 50 : s.refuse)) { /* the submit itself is refused */
        for (i = 0; i < batch->n_items; i++)
            f->parcels[i].status = CACHE_ELOCKED;
        complete(f);
    }
}

/* Sends what is due; then nothing may be left that should have been. */
static void turn(void)
{
    struct cache_store_batch *batch;
    uint32_t i;

    while (cache_wb_due_ms(&s.w) <= s.now) {
        batch = cache_wb_next_batch(&s.w, s.now);
        RULE(batch != NULL, "what is due is sent");
        submit(batch);
        check_all();
    }
    RULE(cache_wb_next_batch(&s.w, s.now) == NULL, "nothing else is sent");
    if (s.n_flights == s.config.max_in_flight) {
        RULE(cache_wb_due_ms(&s.w) == UINT64_MAX,
             "with max_in_flight batches at the store nothing is due");
        return;
    }
    RULE(n_in(WAITING) < s.config.max_batch, "a full batch does not wait");
    for (i = 0; i < s.n_keys; i++) {
        const struct key *k = &s.keys[i];

        if (k->state == WAITING)
            RULE(k->latest > s.now && !is_covered(k),
                 "a write waits an interval at most, or until a flush");
        if (k->state == RETRYING)
            RULE(k->latest > s.now, "a backoff is within its limit");
    }
}

/* The next event of the store, if one is before `until`. */
static bool store_step(uint64_t until)
{
    struct flight *next = NULL;
    uint64_t at = until, t;
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
    if (at == until)
        return false;
    s.now = at > s.now ? at : s.now;
    if (late < MAX_LATE)
        store_apply_late(late);
    else if (next->applied)
        complete(next);
    else
        flight_apply(next);
    return true;
}

/* Lets the world go on until then. */
static void pass(uint64_t until)
{
    for (;;) {
        uint64_t due_ms = cache_wb_due_ms(&s.w);

        RULE(due_ms == UINT64_MAX ||
                 due_ms <= s.now + s.config.interval_ms + s.config.retry_cap_ms,
             "what is due is due soon");
        if (s.lazy && due_ms != UINT64_MAX)
            due_ms = (due_ms | 63) + 1;
        due_ms = due_ms < s.now ? s.now : due_ms;
        if (store_step(due_ms < until ? due_ms : until)) {
            check_all();
            if (!s.lazy)
                turn();
            continue;
        }
        if (due_ms >= until)
            break;
        s.now = due_ms;
        turn();
    }
    s.now = until;
}

/* --- lives --------------------------------------------------------------- */

static void configure(void)
{
    struct cache_wb_config *c = &s.config;

    s.n_keys = 1 + below(percent(30) ? MAX_KEYS : 8);
    s.versions = percent(70);
    s.hot = percent(50) ? below(90) : 0;
    s.pace = 1 + below(percent(50) ? 10 : 60);
    s.latency = 1 + below(percent(50) ? 10 : 100);
    s.lazy = percent(30);
    s.refuse = percent(30) ? below(30) : 0;
    s.fail = percent(50) ? below(30) : 0;
    s.time_out = percent(50) ? below(40) : 0;
    s.fail_items = percent(50) ? below(30) : 0;
    s.poison = percent(20) ? below(s.n_keys) : s.n_keys;

    memset(c, 0, sizeof *c);
    c->max_key_bytes = KEY_BYTES;
    c->max_value_bytes = VALUE_BYTES;
    c->max_dirty = 1 + below(MAX_DIRTY);
    c->max_batch = percent(20) ? 0 : 1 + below(c->max_dirty);
    c->max_in_flight = 1 + below(MAX_FLIGHTS);
    c->interval_ms = 1 + below(100);
    c->retry_base_ms = 1 + below(50);
    c->retry_cap_ms = c->retry_base_ms + below(percent(50) ? 50 : 2000);
    c->max_attempts = percent(50) ? 0 : 1 + below(6);
    c->on_dead_letter = on_dead_letter;
    c->user = &s;
}

static void birth(void)
{
    uint32_t i;

    s.config.seed = test_random(&s.random) | 1;
    RULE(cache_wb_init(&s.w, &s.config) == 0, "init succeeds");
    if (s.config.max_batch == 0)
        s.config.max_batch = s.config.max_dirty;
    memset(&s.want, 0, sizeof s.want);
    memset(s.barriers, 0, sizeof s.barriers);
    s.epoch++;
    s.last_version = 0;
    s.flush_to = 0;
    s.closed = false;
    for (i = 0; i < s.n_keys; i++) { /* the application reads the store */
        struct key *k = &s.keys[i];

        k->newest = k->stored;
        if (k->foreign) /* our writes that were in conflict are older */
            k->confirmed = k->stored;
        k->state = CLEAN;
        k->held = k->sent = k->buried = 0;
        k->foreign = false;
    }
    if (percent(40)) {
        s.outage_from = s.now + below(1000);
        s.outage_to = s.outage_from + below(3000);
    }
    check_all();
}

/* Some of what is under way is stored, in the order in which it was sent, and
 * the rest is not; the machine forgets everything. */
static void crash(void)
{
    uint32_t i, n;

    total.crashes++;
    while (s.n_late > 0 && percent(50))
        store_apply_late(below(s.n_late));
    s.n_late = 0;
    for (n = 0; n < MAX_FLIGHTS; n++) {
        struct flight *f = &s.flights[n];

        for (i = 0; f->batch && !f->applied && i < f->batch->n_items; i++)
            if (percent(50))
                (void)store_apply(&f->parcels[i]);
        f->batch = NULL;
    }
    s.n_flights = 0;
    for (i = 0; i < s.n_keys; i++)
        RULE(s.keys[i].foreign || s.keys[i].stored >= s.keys[i].confirmed,
             "a confirmed write survives a crash");
    s.w.n_in_flight = 0; /* a crash does not wait for it */
    cache_wb_destroy(&s.w);
}

/* Gives up what is dirty; its keys are the missing ones. */
static void give_up(void)
{
    uint32_t n = n_in(WAITING) + n_in(RETRYING) + n_in(BLOCKED);

    s.closed = true;
    s.want.n_lost += n;
    s.n_letters = 0;
    RULE(cache_wb_give_up(&s.w) == n, "n_lost is what is given up");
    RULE(s.n_letters == n, "each of them is a dead letter");
    RULE(n_dirty() == n_in(SENT), "what is at the store is waited for");
    check_all();
}

static void orderly_close(void)
{
    uint64_t deadline = s.now + below(percent(50) ? 500 : 60000);
    uint32_t i;

    flush();
    check_all();
    turn();
    while (n_dirty() > 0 && s.now < deadline) {
        RULE(s.n_flights > 0 || cache_wb_due_ms(&s.w) != UINT64_MAX,
             "something is dirty, so something will happen");
        pass(s.now + 64 < deadline ? s.now + 64 : deadline);
    }
    total.clean_closes += n_dirty() == 0;
    give_up();
    while (s.n_flights > 0 || s.n_late > 0) {
        RULE(cache_wb_next_batch(&s.w, s.now) == NULL,
             "a closed machine sends nothing");
        RULE(store_step(UINT64_MAX), "the store answers");
        check_all();
    }
    RULE(n_dirty() == 0, "in the end nothing is dirty");
    RULE(cache_wb_give_up(&s.w) == s.want.n_lost, "n_lost is told again");
    for (i = 0; i < MAX_BARRIERS; i++)
        RULE(!s.barriers[i].open, "in the end every barrier is satisfied");
    for (i = 0; i < s.n_keys; i++) {
        const struct key *k = &s.keys[i];

        /* Nobody knows of a write that failed, so a dead letter may be in
         * the store; but not the other way round. */
        RULE(k->foreign || k->stored == k->newest || k->buried == k->newest,
             "what is not in the store is a dead letter");
        RULE(k->buried != k->newest || k->newest == 0 ||
                 k->confirmed < k->newest,
             "a confirmed write is no dead letter");
        RULE(k->foreign || s.time_out > 0 || s.epoch > 1 ||
                 k->buried != k->newest || k->stored < k->newest ||
                 k->newest == 0,
             "where an error means not stored, a dead letter is not");
    }
    total.dead += s.want.n_dead;
    total.lost += s.want.n_lost;
    cache_wb_destroy(&s.w);
}

static void life(bool last)
{
    uint32_t n = 10 + below(120);

    birth();
    while (n-- > 0) {
        pass(s.now + below(s.pace));
        if (percent(4))
            flush();
        else if (percent(1))
            foreign_write();
        else
            write_something();
        check_all();
        if (!s.lazy)
            turn();
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
    configure();
    for (n = below(4); n > 0; n--)
        life(false);
    life(true);
}

static bool just_one; /* --seed=N */

static void worlds(void)
{
    uint64_t n = just_one ? 1 : N_SEEDS * (uint64_t)test_scale(), i;

    for (i = 0; i < n; i++)
        run(test_seed + 2 * i); /* odd, as the harness makes a seed */
    printf("%llu seeds: %llu events, %llu faults, %llu late writes, "
           "%llu conflicts, %llu crashes, %llu of them closed clean; "
           "%llu refused, %llu dead, %llu lost, %llu barriers\n",
           (unsigned long long)n, (unsigned long long)total.events,
           (unsigned long long)total.faults, (unsigned long long)total.late,
           (unsigned long long)total.conflicts,
           (unsigned long long)total.crashes,
           (unsigned long long)total.clean_closes,
           (unsigned long long)total.full, (unsigned long long)total.dead,
           (unsigned long long)total.lost, (unsigned long long)total.barriers);
    if (n >= N_SEEDS) /* each of these happens in one seed out of ten */
        CHECK(total.faults > n && total.late > n / 10 &&
              total.conflicts > n / 10 && total.crashes > n / 10 &&
              total.dead > n / 10 && total.lost > n / 10 &&
              total.full > n / 10 && total.barriers > n &&
              total.clean_closes > n / 10 && total.clean_closes < n);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = { TEST(worlds) };
    int i;

    for (i = 1; i < argc; i++)
        just_one |= strncmp(argv[i], "--seed=", 7) == 0;
    return TEST_MAIN(argc, argv, tests);
}
