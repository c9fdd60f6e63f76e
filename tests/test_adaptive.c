/*
 * test_adaptive.c - the default policy: its rule, its mini-caches, its choice.
 *
 * WHAT IT DOES
 *   A driver does what cache.h does, and a model of the whole policy does it
 *   too: window, main, ghosts, the four mini-caches and the judgement over
 *   them, in plain arrays of keys that are searched from end to end.  After
 *   each operation both hold the same entries in the same order.
 *
 *   Then streams of keys for which it is plain which share of window is the
 *   right one: ADAPTIVE has to find it, and to keep up with other policies.
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdbool.h>
#include <unistd.h>

#include "cache.h"
#include "tests/test.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
    SHARES = 4,
    MAX_CAPACITY = 600,
    MAX_KEYS = 2600,
    MAX_ARENA = 4 << 20,
    MAX_STEPS = 64 /* remembered, to be told when a test fails */
};

static const int percents[SHARES] = { 1, 5, 20, 100 };

static long scale(void)
{
    const char *text = getenv("TEST_SCALE");
    long value = text ? strtol(text, NULL, 10) : 1;

    return value > 0 ? value : 1;
}

static uint32_t below(uint64_t *random, uint32_t limit)
{
    return (uint32_t)((test_random(random) >> 32) * limit >> 32);
}

/* --- keys ---------------------------------------------------------------- */

static uint32_t hash_seed;
static uint32_t hash_noise; /* for the lower bits, which nobody looks at */

/* Mixes one to one: mini-caches know a key by these 32 bits. */
static uint32_t upper_of(int key)
{
    uint32_t h = (uint32_t)key + hash_seed * 0x9e3779b9u;

    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}

static struct cache_item item_of(int key)
{
    struct cache_item item;

    item.hash = (uint64_t)upper_of(key) << 32 | hash_noise;
    item.weight = item.cost = 1;
    item.deadline = 0;
    hash_noise = hash_noise * 1664525u + 1013904223u;
    return item;
}

/* Which keys the mini-caches see, if those are one in `ratio` as large. */
static bool in_sample(int key, uint32_t ratio)
{
    uint64_t number = (uint64_t)upper_of(key) * 0x85ebca6bu % 0x100000000u;

    return number <= UINT32_MAX / ratio;
}

/* --- queues: [0] is the oldest key --------------------------------------- */

struct queue {
    int n;
    short key[MAX_KEYS];
};

static void queue_push(struct queue *q, int key)
{
    q->key[q->n++] = (short)key;
}

static int queue_take(struct queue *q, int at)
{
    int key = q->key[at];

    q->n--;
    memmove(&q->key[at], &q->key[at + 1],
            (size_t)(q->n - at) * sizeof q->key[0]);
    return key;
}

static bool queue_drop(struct queue *q, int key)
{
    int i;

    for (i = 0; i < q->n; i++)
        if (q->key[i] == key) {
            queue_take(q, i);
            return true;
        }
    return false;
}

/* The window's part of so many entries: rounded, at least one. */
static int window_of(int entries, int share)
{
    int window = (int)((entries * (long long)percents[share] + 50) / 100);

    return window < 1 ? 1 : window;
}

/* --- the model of the mini-caches ----------------------------------------
 * Four caches that have nothing in common but what is known of keys: when they
 * were last asked for, and in which order the last of the four has let go. */

struct mini {
    int window_share;
    struct queue window, main;
    signed char in[MAX_KEYS]; /* by key: 0, 'w', 'm' */
    unsigned char uses[MAX_KEYS];
};

static struct {
    int capacity, n_known;
    long long time;
    bool known[MAX_KEYS];
    long long last[MAX_KEYS];
    struct queue ghosts; /* who are known, and in none of the four */
    struct mini mini[SHARES];
} minis;

static void minis_reset(int capacity, int n_keys)
{
    int i;

    minis.capacity = capacity;
    minis.n_known = 0;
    minis.time = 0;
    minis.ghosts.n = 0;
    memset(minis.known, 0, (size_t)n_keys * sizeof minis.known[0]);
    for (i = 0; i < SHARES; i++) {
        minis.mini[i].window_share = window_of(capacity, i);
        minis.mini[i].window.n = minis.mini[i].main.n = 0;
        memset(minis.mini[i].in, 0, (size_t)n_keys);
    }
}

static void mini_enter(struct mini *m, int key, char queue)
{
    m->in[key] = queue;
    queue_push(queue == 'w' ? &m->window : &m->main, key);
}

/* At most 16 that were used go round, with one use less. */
static int mini_main_victim(struct mini *m)
{
    int n;

    for (n = 0; n < 16 && m->uses[m->main.key[0]] > 0; n++) {
        m->uses[m->main.key[0]]--;
        queue_push(&m->main, queue_take(&m->main, 0));
    }
    return m->main.key[0];
}

/* Returns who has to leave, or -1. */
static int mini_miss(struct mini *m, int key, bool known, long long age)
{
    int n, out = -1;
    char to = 'w';

    for (n = 0; n < 16 && m->window.n > 0 && m->uses[m->window.key[0]] > 0;
         n++) {
        m->uses[m->window.key[0]] = 0;
        queue_push(&m->window, queue_take(&m->window, 0));
    }
    if (known && m->main.n > 0 &&
        age < minis.time - minis.last[mini_main_victim(m)])
        to = 'm';
    m->uses[key] = 0;
    mini_enter(m, key, to);
    if (m->window.n + m->main.n <= minis.capacity) {
        if (m->window.n > m->window_share)
            mini_enter(m, queue_take(&m->window, 0), 'm');
        return -1;
    }
    if (m->window.n > m->window_share) {
        out = queue_take(&m->window, 0);
    } else {
        mini_main_victim(m);
        out = queue_take(&m->main, 0);
    }
    m->in[out] = 0;
    return out;
}

static bool in_no_mini(int key)
{
    int i;

    for (i = 0; i < SHARES; i++)
        if (minis.mini[i].in[key])
            return false;
    return true;
}

/* Returns who had the key, one bit each. */
static unsigned minis_access(int key)
{
    long long age = ++minis.time - minis.last[key];
    bool known = minis.known[key];
    unsigned hits = 0;
    int i, out;

    if (known) {
        queue_drop(&minis.ghosts, key);
    } else {
        /* A pool of five times the capacity; of them ghosts, where there is
         * any choice, twice. */
        if (minis.n_known == 5 * minis.capacity ||
            minis.ghosts.n >= 2 * minis.capacity) {
            minis.known[queue_take(&minis.ghosts, 0)] = false;
            minis.n_known--;
        }
        minis.n_known++;
        minis.known[key] = true;
    }
    minis.last[key] = minis.time;
    for (i = 0; i < SHARES; i++) {
        struct mini *m = &minis.mini[i];
        if (m->in[key]) {
            hits |= 1u << i;
            if (m->uses[key] < 3)
                m->uses[key]++;
            continue;
        }
        out = mini_miss(m, key, known, age);
        if (out >= 0 && out != key && in_no_mini(out))
            queue_push(&minis.ghosts, out);
    }
    if (in_no_mini(key))
        queue_push(&minis.ghosts, key);
    return hits;
}

/* --- the model of the policy --------------------------------------------- */

struct ghost {
    bool here;
    uint32_t print;
    uint64_t used_at;
};

static struct {
    int capacity, full, share, n_keys;
    bool coming, to_main; /* a newcomer, and it goes there */
    uint64_t misses, now;
    int shift;
    struct queue window, main;
    bool in_main[MAX_KEYS];
    unsigned char uses[MAX_KEYS];
    uint64_t used_at[MAX_KEYS];
    int n_sets;
    struct ghost ghosts[MAX_CAPACITY / 2 + 1][4];
    /* the choice */
    int sized_for, n_samples, n_remade;
    uint32_t ratio;
    uint64_t history[16];
} model;

static uint64_t entry_age(int key)
{
    return (model.now - model.used_at[key]) % (1u << 29);
}

static uint64_t ghost_age(const struct ghost *ghost)
{
    return (model.now - ghost->used_at) % (1u << 16);
}

/* The largest power of two that leaves mini-caches of 256 entries and more; up
 * to four, 64 are enough. */
static uint32_t ratio_for(uint32_t full)
{
    uint32_t best = 1, ratio;

    for (ratio = 2; ratio <= 1u << 30; ratio *= 2)
        if (full / ratio >= 256 || (ratio <= 4 && full / ratio >= 64))
            best = ratio;
    return best;
}

static void model_remake(void)
{
    model.sized_for = model.full;
    model.ratio = ratio_for((uint32_t)model.full);
    model.n_samples = 0;
    model.n_remade++;
    memset(model.history, 0, sizeof model.history);
    minis_reset(model.full / (int)model.ratio, model.n_keys);
}

static void model_init(int capacity, int n_keys)
{
    model.capacity = model.full = capacity;
    model.n_keys = n_keys;
    model.share = model.n_remade = 0;
    model.coming = model.to_main = false;
    model.misses = model.now = 0;
    for (model.shift = 0; capacity >> model.shift > 256; model.shift++)
        ;
    model.window.n = model.main.n = 0;
    model.n_sets = (2 * capacity + 3) / 4;
    memset(model.ghosts, 0, (size_t)model.n_sets * sizeof model.ghosts[0]);
    model_remake();
}

/* D > 2 sqrt(n), where both are counted in samples; all of it is exact. */
static double model_gain(int share)
{
    double more = 0, less = 0;
    int mask;

    for (mask = 0; mask < 16; mask++) {
        bool here = mask >> share & 1, there = mask >> model.share & 1;
        if (here && !there)
            more += (double)model.history[mask] / 256;
        if (!here && there)
            less += (double)model.history[mask] / 256;
    }
    return more - less > 2 * sqrt(more + less) ? more - less : 0;
}

static void model_judge(void)
{
    int best = model.share, share, mask;

    for (share = SHARES - 1; share >= 0; share--)
        if (model_gain(share) > 0 && model_gain(share) >= model_gain(best))
            best = share;
    model.share = best > model.share ? model.share + 1 : best;
    for (mask = 0; mask < 16; mask++)
        model.history[mask] -= model.history[mask] / 32;
}

static void model_sample(int key)
{
    int enough = minis.capacity / 4 < 16 ? 16 : minis.capacity / 4;

    if (!in_sample(key, model.ratio))
        return;
    model.history[minis_access(key)] += 256;
    if (++model.n_samples == enough) {
        model.n_samples = 0;
        model_judge();
    }
}

static void model_hit(int key)
{
    if (model.uses[key] < 3)
        model.uses[key]++;
    model.used_at[key] = model.now;
    model_sample(key);
}

static struct ghost *ghost_set(int key)
{
    return model
        .ghosts[(uint64_t)upper_of(key) * (uint64_t)model.n_sets >> 32];
}

/* 16 bits of the hash; the lowest is taken for "there is one". */
static uint32_t print_of(int key)
{
    return (upper_of(key) & 0xffff) | 1;
}

static int model_main_victim(void)
{
    int n;

    for (n = 0; n < 16 && model.uses[model.main.key[0]] > 0; n++) {
        model.uses[model.main.key[0]]--;
        queue_push(&model.main, queue_take(&model.main, 0));
    }
    return model.main.key[0];
}

static void model_admit(int key)
{
    struct ghost *set = ghost_set(key), *found = NULL;
    int n;

    if (model.full > 2 * model.sized_for || model.full < model.sized_for / 2)
        model_remake();
    model.now = ++model.misses >> model.shift;
    for (n = 3; n >= 0; n--)
        if (set[n].here && set[n].print == print_of(key))
            found = &set[n];
    if (found != NULL)
        found->here = false;
    model_sample(key);
    for (n = 0; n < 16 && model.window.n > 0 &&
                model.uses[model.window.key[0]] > 0;
         n++) {
        model.uses[model.window.key[0]] = 0;
        queue_push(&model.window, queue_take(&model.window, 0));
    }
    model.coming = true;
    model.to_main = found != NULL && model.main.n > 0 &&
                    window_of(model.full, model.share) < model.full &&
                    ghost_age(found) < entry_age(model_main_victim());
}

static void model_enter(int key, bool main)
{
    model.in_main[key] = main;
    queue_push(main ? &model.main : &model.window, key);
}

static void model_add(int key)
{
    int n;

    model.uses[key] = 0;
    model.used_at[key] = model.now;
    model_enter(key, model.to_main);
    model.coming = model.to_main = false;
    for (n = 0;
         n < 4 && model.window.n > window_of(model.full, model.share); n++)
        model_enter(queue_take(&model.window, 0), true);
}

static int model_victim(void)
{
    int window = window_of(model.full, model.share), n, key;
    int newcomer = model.coming && !model.to_main;

    for (n = 0;
         n < 16 && model.main.n > 0 && model.window.n + newcomer < window;
         n++) {
        if (model.uses[model.main.key[0]] == 0)
            return model.main.key[0];
        key = queue_take(&model.main, 0);
        model.uses[key] = 0;
        model_enter(key, false);
    }
    if (model.main.n == 0)
        return model.window.key[0];
    if (model.window.n > 0 && model.window.n + newcomer > window)
        return model.window.key[0];
    return model_main_victim();
}

static void model_remove(int key)
{
    queue_drop(model.in_main[key] ? &model.main : &model.window, key);
}

/* It leaves, and is a ghost where there is room, or where the one that was used
 * longest ago stands; of two, the later. */
static void model_evict(int key)
{
    struct ghost *set = ghost_set(key), *at = &set[0];
    int n;

    for (n = 1; n < 4 && at->here; n++)
        if (!set[n].here || ghost_age(&set[n]) >= ghost_age(at))
            at = &set[n];
    at->here = true;
    at->print = print_of(key);
    at->used_at = model.used_at[key];
    model_remove(key);
}

/* --- the driver ---------------------------------------------------------- */

enum operation {
    USE,    /* get the key, or insert it */
    REMOVE, /* a key that is present */
    READD,  /* remove it and add it in its slot: pinned and unpinned */
    ADMIT,  /* an absent key, that does not enter after all */
    EXPIRE, /* remove the victim */
    VICTIM, /* ask for it and do nothing */
    FULL,   /* so many entries are a full cache now */
    SHARE,  /* the window has this share now */
    CLOCK,  /* so many misses happen elsewhere */
    N_OPERATIONS
};

static struct {
    struct cache_policy policy;
    uint32_t len, fresh, n_free;
    int n_keys;
    int compare_every; /* steps; 0 = never look into the policy */
    short slot_of[MAX_KEYS];         /* by key; 0 = absent */
    short key_in[MAX_CAPACITY + 1];  /* by slot; -1 = free */
    short free_slots[MAX_CAPACITY];  /* the last one is used next */
} it;

static unsigned char arena[MAX_ARENA] __attribute__((aligned(64)));

static const struct cache_policy_verbs *const verbs = &cache_adaptive;

static struct cache_adaptive *state(void)
{
    return (struct cache_adaptive *)it.policy.memory;
}

/* What was done, for whoever has to find out why it failed. */
static struct {
    enum operation operation;
    int argument;
} steps[MAX_STEPS];
static unsigned n_steps;

static void tell(void)
{
    static const char *const names[N_OPERATIONS] = {
        "use",    "remove", "readd", "admit", "expire",
        "victim", "full",   "share", "clock"
    };
    unsigned i = n_steps > MAX_STEPS ? n_steps - MAX_STEPS : 0;

    printf("capacity %u, full %u, share %u, %u entries, step %u:\n",
           (unsigned)it.policy.capacity, (unsigned)it.policy.full,
           (unsigned)state()->share, (unsigned)it.len, n_steps);
    for (; i < n_steps; i++)
        printf(" %s %d,", names[steps[i % MAX_STEPS].operation],
               steps[i % MAX_STEPS].argument);
    printf("\n");
}

static void same(long long a, long long b)
{
    if (a != b)
        tell();
    CHECK_EQ(a, b);
}

static void sound(const char *sentence)
{
    if (sentence != NULL)
        tell();
    CHECK_SOUND(sentence);
}

/* Behind what layout() asked for stands what nobody may overwrite. */
enum { GUARD = 64, GUARD_BYTE = 0x5b };

static void lay_out(struct cache_policy *p, uint32_t capacity, int fill)
{
    size_t bytes = verbs->layout(capacity);

    CHECK(bytes + GUARD <= sizeof arena);
    memset(p, fill, sizeof *p);
    p->memory = arena;
    p->capacity = p->full = capacity;
    p->zeroed = fill == 0;
    memset(arena, fill, bytes);
    memset(arena + bytes, GUARD_BYTE, GUARD);
    verbs->init(p, 1);
}

static void guard_is_whole(void)
{
    const unsigned char *guard = arena + verbs->layout(it.policy.capacity);
    int i;

    for (i = 0; i < GUARD; i++)
        CHECK_EQ(guard[i], GUARD_BYTE);
}

static void start(uint32_t capacity, int n_keys)
{
    size_t slot;

    CHECK(capacity <= MAX_CAPACITY && n_keys <= MAX_KEYS);
    it.len = it.fresh = it.n_free = 0;
    it.n_keys = n_keys;
    it.compare_every = 1;
    memset(it.slot_of, 0, (size_t)n_keys * sizeof it.slot_of[0]);
    for (slot = 0; slot <= capacity; slot++)
        it.key_in[slot] = -1;
    n_steps = 0;
    lay_out(&it.policy, capacity, 0xa5);
    model_init((int)capacity, n_keys);
}

/* The same keys in the same order, with the same uses and times. */
static void same_queue(uint32_t ring, const struct queue *q, uint32_t len)
{
    uint32_t slot = ring, word;
    int i, key;

    same(len, q->n);
    for (i = 0; i < q->n; i++) {
        slot = it.policy.links[slot].newer;
        CHECK(slot >= 1 && slot <= it.policy.capacity);
        key = it.key_in[slot];
        same(key, q->key[i]);
        word = it.policy.marks[slot];
        same(word & 3, model.uses[key]);
        same(word >> 3, (long long)(model.used_at[key] % (1u << 29)));
    }
}

static void verify(void)
{
    const struct cache_adaptive *s = state();

    if (it.compare_every == 0)
        return;
    sound(verbs->check(&it.policy, it.len));
    same(s->n_window, model.window.n);
    same(s->n_main, model.main.n);
    same(s->share, model.share);
    same(s->minis.time, minis.time);
    same(s->sized_for, model.sized_for);
    if (n_steps % (unsigned)it.compare_every != 0)
        return;
    same_queue(0, &model.window, s->n_window);
    same_queue(it.policy.capacity + 1, &model.main, s->n_main);
    guard_is_whole();
}

static uint32_t take_slot(int key)
{
    uint32_t slot =
        it.n_free > 0 ? (uint32_t)it.free_slots[--it.n_free] : ++it.fresh;

    CHECK(slot >= 1 && slot <= it.policy.capacity && it.key_in[slot] < 0);
    it.key_in[slot] = (short)key;
    it.slot_of[key] = (short)slot;
    it.len++;
    return slot;
}

static void free_slot(uint32_t slot)
{
    it.slot_of[it.key_in[slot]] = 0;
    it.key_in[slot] = -1;
    it.free_slots[it.n_free++] = (short)slot;
    it.len--;
}

/* Both name the same one.  Returns its slot. */
static uint32_t ask_victim(void)
{
    uint32_t slot = verbs->victim(&it.policy);
    int expected = model_victim();

    CHECK(slot >= 1 && slot <= it.policy.capacity);
    same(it.key_in[slot], expected);
    return slot;
}

static void remove_key(int key)
{
    verbs->remove(&it.policy, (uint32_t)it.slot_of[key]);
    model_remove(key);
    free_slot((uint32_t)it.slot_of[key]);
}

static void insert(int key)
{
    struct cache_item item = item_of(key);
    uint32_t slot;

    verbs->admit(&it.policy, &item);
    model_admit(key);
    while (it.len >= it.policy.full) {
        slot = ask_victim();
        item = item_of(it.key_in[slot]);
        model_evict(it.key_in[slot]);
        verbs->evict(&it.policy, slot, item.hash);
        free_slot(slot);
        verify();
    }
    item = item_of(key);
    verbs->add(&it.policy, take_slot(key), &item);
    model_add(key);
}

/* Does one operation, if it can be done in this state. */
static bool step(enum operation operation, int argument)
{
    uint32_t slot = operation <= ADMIT ? (uint32_t)it.slot_of[argument] : 0;
    struct cache_item item;

    if (operation <= ADMIT && operation != USE &&
        (operation == ADMIT) == (slot != 0))
        return false;
    if ((operation == EXPIRE || operation == VICTIM) && it.len == 0)
        return false;
    steps[n_steps % MAX_STEPS].operation = operation;
    steps[n_steps++ % MAX_STEPS].argument = argument;
    switch (operation) {
    case USE:
        if (slot == 0) {
            insert(argument);
        } else {
            verbs->hit(&it.policy, slot, item_of(argument).hash);
            model_hit(argument);
        }
        break;
    case REMOVE: remove_key(argument); break;
    case READD:
        item = item_of(argument);
        verbs->remove(&it.policy, slot);
        model_remove(argument);
        verbs->add(&it.policy, slot, &item);
        model_add(argument);
        break;
    case ADMIT:
        item = item_of(argument);
        verbs->admit(&it.policy, &item);
        model_admit(argument);
        break;
    case EXPIRE: remove_key(it.key_in[ask_victim()]); break;
    case VICTIM: ask_victim(); break;
    case FULL:
        it.policy.full = (uint32_t)argument;
        model.full = argument;
        break;
    case SHARE:
        state()->share = (uint32_t)argument;
        model.share = argument;
        break;
    case CLOCK:
        state()->misses += (uint64_t)argument;
        model.misses += (uint64_t)argument;
        break;
    case N_OPERATIONS: break;
    }
    verify();
    return true;
}

/* --- every short sequence ------------------------------------------------ */

/* All sequences of `length` steps, each of them "use the key" or, if it may be
 * so, "remove the key"; keys appear in the order of their numbers.  Only what
 * is not the same as in the sequence before is looked at. */
struct every {
    int length, n_keys;
    bool removals;
    int step[8]; /* key, or n_keys + key that is removed */
};

static bool next_sequence(struct every *e, int *changed)
{
    int at, i, seen, most;

    for (at = e->length - 1; at >= 0; at--) {
        for (seen = 0, i = 0; i < at; i++)
            if (e->step[i] == seen)
                seen++;
        most = e->removals ? e->n_keys + seen - 1 : e->n_keys - 1;
        e->step[at]++;
        if (e->step[at] > seen && e->step[at] < e->n_keys)
            e->step[at] = e->n_keys; /* not one after the next new one */
        if (e->step[at] <= most && (e->step[at] < e->n_keys || e->removals)) {
            for (i = at + 1; i < e->length; i++)
                e->step[i] = 0;
            *changed = at;
            return true;
        }
    }
    return false;
}

/* With share `first`, and `second` from a step on. */
static void run_sequence(const struct every *e, uint32_t capacity, int changed,
                         int first, int second, int from)
{
    int i;

    start(capacity, e->n_keys);
    for (i = 0; i < e->length; i++) {
        it.compare_every = i >= changed;
        if (i == 0 || i == from)
            step(SHARE, i == from ? second : first);
        if (e->step[i] < e->n_keys)
            step(USE, e->step[i]);
        else if (!step(REMOVE, e->step[i] - e->n_keys))
            return;
    }
}

/* Up to four entries, only 1 % and 100 % are not the same window. */
static void every_sequence(struct every e)
{
    int changed = 0, from;
    uint32_t capacity;

    hash_seed = (uint32_t)test_seed;
    do
        for (capacity = 1; capacity <= 4; capacity++)
            for (from = 0; from < e.length; from++) {
                /* from 0: no switch */
                run_sequence(&e, capacity, from ? from : changed, 0,
                             from ? 3 : 0, from);
                run_sequence(&e, capacity, from ? from : changed, 3,
                             from ? 0 : 3, from);
            }
    while (next_sequence(&e, &changed));
}

static void every_sequence_of_8_over_6_keys(void)
{
    struct every e = { 8, 6, false, { 0 } };

    every_sequence(e);
}

static void every_sequence_of_6_with_removals(void)
{
    struct every e = { 6, 5, true, { 0 } };

    every_sequence(e);
}

/* --- long streams -------------------------------------------------------- */

enum pattern { RANDOM, ZIPF, LOOP, SCAN, MIXED, N_PATTERNS };

/* The n-th key of a pattern, over `keys` of them. */
static int key_of(enum pattern pattern, uint32_t keys, uint64_t n,
                  uint64_t *random)
{
    uint32_t hot = keys / 8 + 1;
    double u;

    switch (pattern) {
    case RANDOM: return (int)below(random, keys);
    case ZIPF: /* the k-th key about once in k */
        u = (double)(test_random(random) >> 11) / 9007199254740992.0;
        return (int)pow(keys, u) - 1;
    case LOOP: return (int)(n % (keys * 2 / 5 + 1));
    case SCAN: /* one in three is new; the others are old friends */
        return (int)(n % 3 ? below(random, hot)
                           : hot + n / 3 % (keys - hot));
    default:
        return key_of((enum pattern)(n / (4 * keys) % 4), keys, n, random);
    }
}

static const uint32_t capacities[] = { 1, 2, 3, 10, 33, 63, 200, 600 };

/* The share that is present is now and then another, by force. */
static void long_streams(void)
{
    uint64_t random = test_seed, n;
    uint32_t i, capacity, keys;
    int pattern;

    hash_seed = (uint32_t)(test_seed >> 32);
    for (i = 0; i < COUNT_OF(capacities); i++)
        for (pattern = 0; pattern < N_PATTERNS; pattern++) {
            uint64_t length;

            capacity = capacities[i];
            keys = 4 * capacity + 3;
            length = (uint64_t)scale() * (2000 + 12 * capacity);
            start(capacity, (int)keys);
            it.compare_every = capacity > 63 ? 97 : 1;
            for (n = 0; n < length; n++) {
                if (below(&random, capacity + 50) == 0)
                    step(SHARE, (int)below(&random, SHARES));
                step(USE, key_of((enum pattern)pattern, keys, n, &random));
            }
        }
}

/* Whatever the engine may do, in any order. */
static void unruly_streams(void)
{
    uint64_t random = test_seed, n;
    uint32_t i, capacity, keys, r;

    for (i = 0; i < COUNT_OF(capacities); i++) {
        capacity = capacities[i];
        keys = 3 * capacity + 3;
        hash_seed = (uint32_t)test_random(&random);
        start(capacity, (int)keys);
        it.compare_every = capacity > 63 ? 13 : 1;
        for (n = 0; n < 6000 * (uint64_t)scale(); n++) {
            r = below(&random, 80);
            if (r <= ADMIT)
                step((enum operation)r, (int)below(&random, keys));
            else if (r == FULL)
                step(FULL, (int)below(&random, capacity) + 1);
            else if (r == SHARE)
                step(SHARE, (int)below(&random, SHARES));
            else if (r == CLOCK)
                step(CLOCK, 1 << below(&random, 31));
            else if (r < N_OPERATIONS)
                step((enum operation)r, 0);
            else
                step(USE, key_of(MIXED, keys, n, &random));
        }
        while (it.len > 0)
            step(EXPIRE, 0);
    }
}

/* Stamps of ghosts have 16 bits, those of entries 29, the clock has 32. */
static void clocks_go_round(void)
{
    static const int bits[] = { 16, 29, 32 };
    uint64_t random = test_seed, n;
    uint32_t keys;
    size_t i, k;

    for (i = 0; i < COUNT_OF(bits); i++)
        for (k = 3; k < COUNT_OF(capacities); k++) {
            keys = 4 * capacities[k];
            start(capacities[k], (int)keys);
            it.compare_every = capacities[k] > 63 ? 97 : 1;
            model.misses = ((uint64_t)1 << bits[i] << model.shift) -
                           4 * capacities[k];
            state()->misses = model.misses;
            for (n = 0; n < 16 * capacities[k]; n++)
                step(USE, key_of(ZIPF, keys, n, &random));
            CHECK(model.now >> bits[i] == 1);
        }
}

/* --- mini-caches --------------------------------------------------------- */

static struct cache_mini_node nodes[CACHE__MINI_POOL * CACHE__MINI_MAX + 1];
static uint16_t heads[CACHE__MINI_HEADS];

static void minis_hit_what_their_model_hits(uint32_t capacity,
                                            enum pattern pattern,
                                            uint64_t length)
{
    uint64_t random = test_seed, n;
    uint32_t keys = 4 * capacity + 3, mini, hits, all = 0, key;
    struct cache_minis m;

    hash_seed = (uint32_t)test_random(&random);
    keys = keys < MAX_KEYS ? keys : MAX_KEYS;
    memset(&m, 0xa5, sizeof m);
    memset(nodes, 0xa5, sizeof nodes);
    memset(heads, 0xa5, sizeof heads);
    m.nodes = nodes;
    m.heads = heads;
    cache__minis_reset(&m, capacity);
    for (mini = 0; mini < SHARES; mini++)
        m.window[mini] = (uint16_t)window_of((int)capacity, (int)mini);
    minis_reset((int)capacity, (int)keys);
    CHECK_SOUND(cache__minis_check(&m));
    for (n = 0; n < length; n++) {
        key = (uint32_t)key_of(pattern, keys, n, &random);
        hits = cache__minis_access(&m, upper_of((int)key));
        CHECK_EQ(hits, minis_access((int)key));
        all |= hits;
        if (capacity < 20 || n % 61 == 0) {
            CHECK_SOUND(cache__minis_check(&m));
            CHECK_EQ(m.n_used, minis.n_known);
            CHECK_EQ(m.n_ghosts, minis.ghosts.n);
        }
    }
    CHECK(all == 15 || pattern == LOOP);
}

static void mini_caches(void)
{
    static const uint32_t sizes[] = { 1, 2, 3, 10, 64, 255, 511 };
    int pattern;
    size_t i;

    for (i = 0; i < COUNT_OF(sizes); i++)
        for (pattern = 0; pattern < N_PATTERNS; pattern++)
            minis_hit_what_their_model_hits(sizes[i], (enum pattern)pattern,
                                            (uint64_t)scale() *
                                                (2000 + 30 * sizes[i]));
}
