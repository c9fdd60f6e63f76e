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
 * The environment variable TEST_SCALE multiplies the work; it is 1.  With SAY,
 * the streams say which share was taken when.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdbool.h>
#include <unistd.h>

#include "cache.h"
#include "tests/policy_driver.h"
#include "tests/test.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
    SHARES = 4,
    MAX_CAPACITY = 600,
    MAX_KEYS = DRIVER_KEYS,
    LARGEST = 50000, /* where there is no model */
    MAX_ARENA = 4 << 20,
    MAX_STEPS = 64 /* remembered, to be told when a test fails */
};

static const int percents[SHARES] = { 1, 5, 20, 100 };
/* So many times as soon a ghost has to come back. */
static const int proofs[SHARES] = { 1, 3, 1, 1 };

static uint32_t below(uint64_t *random, uint32_t limit)
{
    return (uint32_t)((test_random(random) >> 32) * limit >> 32);
}

/* --- keys ---------------------------------------------------------------- */

static uint32_t hash_seed;
static uint32_t hash_noise; /* for lower bits that nobody may look at */

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

    item.hash = (uint64_t)upper_of(key) << 32 | (uint32_t)~key;
    item.weight = item.cost = 1;
    item.deadline = 0;
    return item;
}

/* For hit and evict. */
static uint64_t upper_half_of(int key)
{
    hash_noise = hash_noise * 1664525u + 1013904223u;
    return (uint64_t)upper_of(key) << 32 | hash_noise;
}

/* Which keys the mini-caches see, if those are one in `ratio` as large. */
static bool in_sample(int key, uint32_t ratio)
{
    uint64_t number = (uint64_t)upper_of(key) * 0x85ebca6bu % 0x100000000u;

    return number <= UINT32_MAX / ratio;
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
    int window_share, proof;
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
        minis.mini[i].proof = proofs[i];
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
        age * m->proof < minis.time - minis.last[mini_main_victim(m)])
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
    int coming;   /* key of a newcomer, or -1 */
    bool to_main; /* it goes there */
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
    int forgone[SHARES]; /* hits that another share would have had more */
} model;

static uint64_t entry_age(int key)
{
    return (model.now - model.used_at[key]) % (1u << 30);
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
    memset(model.forgone, 0, sizeof model.forgone);
    minis_reset(model.full / (int)model.ratio, model.n_keys);
}

static void model_init(int capacity, int n_keys)
{
    model.capacity = model.full = capacity;
    model.n_keys = n_keys;
    model.share = model.n_remade = 0;
    model.coming = -1;
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

/* What main would lose by the next larger window: each a quarter of a hit. */
static int model_price(int share)
{
    if (share < model.share)
        return 0;
    return (window_of(minis.capacity, model.share + 1) -
            window_of(minis.capacity, model.share)) /
           4;
}

static void model_judge(void)
{
    int best = model.share, share, mask;

    for (share = SHARES - 1; share >= 0; share--) {
        if (model.forgone[share] < 0)
            model.forgone[share] = 0;
        if (share != model.share && model_gain(share) > 0 &&
            model.forgone[share] > model_price(share) &&
            model_gain(share) >= model_gain(best))
            best = share;
    }
    if (best != model.share)
        memset(model.forgone, 0, sizeof model.forgone);
    model.share = best > model.share ? model.share + 1 : best;
    for (mask = 0; mask < 16; mask++)
        model.history[mask] -= model.history[mask] / 32;
}

static void model_sample(int key)
{
    int enough = minis.capacity / 4 < 16 ? 16 : minis.capacity / 4, share;
    unsigned mask;

    if (!in_sample(key, model.ratio))
        return;
    mask = minis_access(key);
    model.history[mask] += 256;
    for (share = 0; share < SHARES; share++) {
        if (mask >> share & 1)
            model.forgone[share]++;
        if (mask >> model.share & 1)
            model.forgone[share]--;
    }
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
    return model.ghosts[(uint64_t)upper_of(key) * (uint64_t)model.n_sets >> 32];
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
    for (n = 0;
         n < 16 && model.window.n > 0 && model.uses[model.window.key[0]] > 0;
         n++) {
        model.uses[model.window.key[0]] = 0;
        queue_push(&model.window, queue_take(&model.window, 0));
    }
    model.coming = key;
    model.to_main = found != NULL && model.main.n > 0 &&
                    window_of(model.full, model.share) < model.full &&
                    ghost_age(found) * (uint64_t)proofs[model.share] <
                        entry_age(model_main_victim());
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
    model_enter(key, model.coming == key && model.to_main);
    model.coming = -1;
    for (n = 0; n < 4 && model.window.n > window_of(model.full, model.share);
         n++)
        model_enter(queue_take(&model.window, 0), true);
}

static int model_victim(void)
{
    int window = window_of(model.full, model.share), n, key;
    int newcomer = model.coming >= 0 && !model.to_main;

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
    int n_keys;
    int compare_every;  /* steps; 0 = never look into the policy */
    int check_every;    /* steps */
    struct slots slots; /* which key is where */
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
           (unsigned)it.policy.choice, (unsigned)it.slots.len, n_steps);
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
    CHECK(capacity <= MAX_CAPACITY && n_keys <= MAX_KEYS);
    slots_clear(&it.slots);
    it.n_keys = n_keys;
    it.compare_every = it.check_every = 1;
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
        key = it.slots.key[slot];
        same(key, q->key[i]);
        word = it.policy.marks[slot];
        same(word & 3, model.uses[key]);
        same(word >> 2, (long long)(model.used_at[key] % (1u << 30)));
    }
}

static void verify(void)
{
    const struct cache_adaptive *s = state();
    const struct queue *likely =
        model.window.n >= window_of(model.full, model.share) ? &model.window
                                                             : &model.main;
    uint32_t slot;

    if (it.compare_every == 0)
        return;
    if (n_steps % (unsigned)it.check_every == 0)
        sound(verbs->check(&it.policy, it.slots.len));
    same(s->n_window, model.window.n);
    same(s->n_main, model.main.n);
    same(it.policy.choice, model.share);
    same(s->chooser->choice, model.share);
    same(s->chooser->minis.time, minis.time);
    same(s->chooser->sized_for, model.sized_for);
    slot = verbs->ahead(&it.policy);
    same(slot > 0 ? it.slots.key[slot] : -1,
         likely->n > 1 ? likely->key[1] : -1);
    if (n_steps % (unsigned)it.compare_every != 0)
        return;
    same_queue(0, &model.window, s->n_window);
    same_queue(it.policy.capacity + 1, &model.main, s->n_main);
    guard_is_whole();
}

/* Both name the same one.  Returns its slot. */
static uint32_t ask_victim(void)
{
    uint32_t slot = verbs->victim(&it.policy);
    int expected = model_victim();

    CHECK(slot >= 1 && slot <= it.policy.capacity);
    same(it.slots.key[slot], expected);
    return slot;
}

static void remove_key(int key)
{
    verbs->remove(&it.policy, (uint32_t)it.slots.of[key]);
    model_remove(key);
    slots_free(&it.slots, (uint32_t)it.slots.of[key]);
}

static void insert(int key)
{
    struct cache_item item = item_of(key);
    uint32_t slot;

    verbs->admit(&it.policy, &item);
    model_admit(key);
    while (it.slots.len >= it.policy.full) {
        slot = ask_victim();
        model_evict(it.slots.key[slot]);
        verbs->evict(&it.policy, slot, upper_half_of(it.slots.key[slot]));
        slots_free(&it.slots, slot);
        verify();
    }
    verbs->add(&it.policy, slots_take(&it.slots, it.policy.capacity, key),
               &item);
    model_add(key);
}

/* Does one operation, if it can be done in this state. */
static bool step(enum operation operation, int argument)
{
    uint32_t slot = operation <= ADMIT ? (uint32_t)it.slots.of[argument] : 0;
    struct cache_item item;

    if (operation <= ADMIT && operation != USE &&
        (operation == ADMIT) == (slot != 0))
        return false;
    if ((operation == EXPIRE || operation == VICTIM) && it.slots.len == 0)
        return false;
    steps[n_steps % MAX_STEPS].operation = operation;
    steps[n_steps++ % MAX_STEPS].argument = argument;
    switch (operation) {
    case USE:
        if (slot == 0) {
            insert(argument);
        } else {
            verbs->hit(&it.policy, slot, upper_half_of(argument));
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
    case EXPIRE: remove_key(it.slots.key[ask_victim()]); break;
    case VICTIM: ask_victim(); break;
    case FULL:
        it.policy.full = (uint32_t)argument;
        model.full = argument;
        break;
    case SHARE:
        it.policy.choice = state()->chooser->choice = (uint32_t)argument;
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

/* With 1 % and with 100 %, and with a switch from one to the other at every
 * step.  Up to four entries, the other shares are the window of 1 %. */
static void every_sequence(struct every e)
{
    int changed = 0, from;
    uint32_t capacity;

    hash_seed = (uint32_t)test_seed;
    do
        for (capacity = 1; capacity <= 4; capacity++) {
            run_sequence(&e, capacity, changed, 0, 0, 0);
            run_sequence(&e, capacity, changed, 3, 3, 0);
            for (from = 3; capacity > 1 && from < e.length - 1; from++) {
                run_sequence(&e, capacity, from, 0, 3, from);
                run_sequence(&e, capacity, from, 3, 0, from);
            }
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

enum pattern { SLOW, RANDOM, ZIPF, LOOP, SCAN, MIXED, N_PATTERNS };

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
        return (int)(n % 3 ? below(random, hot) : hot + n / 3 % (keys - hot));
    case SLOW: return (int)(n / 3 % keys); /* thrice in a row */
    default: return key_of((enum pattern)(n / (4 * keys) % 5), keys, n, random);
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
            length = (uint64_t)test_scale() * (2000 + 10 * capacity);
            start(capacity, (int)keys);
            it.compare_every = capacity > 63 ? 97 : 1;
            it.check_every = capacity > 200 ? 5 : 1;
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
        for (n = 0; n < 6000 * (uint64_t)test_scale(); n++) {
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
        while (it.slots.len > 0)
            step(EXPIRE, 0);
    }
}

/* Stamps of ghosts have 16 bits, those of entries 30, the clock has 32. */
static void clocks_go_round(void)
{
    static const int bits[] = { 16, 30, 32 };
    uint64_t random = test_seed, n;
    uint32_t keys;
    size_t i, k;

    for (i = 0; i < COUNT_OF(bits); i++)
        for (k = 3; k < COUNT_OF(capacities); k++) {
            keys = 4 * capacities[k];
            start(capacities[k], (int)keys);
            it.compare_every = capacities[k] > 63 ? 97 : 1;
            it.check_every = capacities[k] > 63 ? 5 : 1;
            model.misses =
                ((uint64_t)1 << bits[i] << model.shift) - 3 * capacities[k];
            state()->misses = model.misses;
            for (n = 0; n < 12 * capacities[k]; n++)
                step(USE, key_of(n % 2 ? ZIPF : RANDOM, keys, n, &random));
            CHECK(model.now >> bits[i] == 1);
        }
}

/* --- mini-caches --------------------------------------------------------- */

static struct cache_mini_node nodes[CACHE__MINI_POOL * CACHE__MINI_MAX + 1];
static uint16_t heads[CACHE__MINI_HEADS];

static struct cache_minis real_minis;

static void new_minis(uint32_t capacity, uint32_t keys)
{
    uint32_t mini;

    memset(&real_minis, 0xa5, sizeof real_minis);
    memset(nodes, 0xa5, sizeof nodes);
    memset(heads, 0xa5, sizeof heads);
    real_minis.nodes = nodes;
    real_minis.heads = heads;
    cache__minis_reset(&real_minis, capacity);
    for (mini = 0; mini < SHARES; mini++) {
        real_minis.window[mini] = (uint16_t)window_of((int)capacity, (int)mini);
        real_minis.proof[mini] = (uint16_t)proofs[mini];
    }
    minis_reset((int)capacity, (int)keys);
    CHECK_SOUND(cache__minis_check(&real_minis));
}

/* Returns who had it. */
static uint32_t ask_minis(int key, bool check)
{
    uint32_t hits = cache__minis_access(&real_minis, upper_of(key));

    CHECK_EQ(hits, minis_access(key));
    if (check) {
        CHECK_SOUND(cache__minis_check(&real_minis));
        CHECK_EQ(real_minis.n_used, minis.n_known);
        CHECK_EQ(real_minis.n_ghosts, minis.ghosts.n);
    }
    return hits;
}

static void mini_caches(void)
{
    static const uint32_t of[] = { 1, 2, 3, 10, 64, 255, 511 };
    uint64_t random = test_seed, n, length;
    uint32_t i, capacity, keys, all;
    int pattern;

    for (i = 0; i < COUNT_OF(of); i++)
        for (pattern = 0; pattern < N_PATTERNS; pattern++) {
            capacity = of[i];
            keys = 4 * capacity + 3;
            length = (uint64_t)test_scale() * (2000 + 24 * capacity);
            hash_seed = (uint32_t)test_random(&random);
            new_minis(capacity, keys);
            for (all = 0, n = 0; n < length; n++)
                all |=
                    ask_minis(key_of((enum pattern)pattern, keys, n, &random),
                              capacity < 20 || n % 61 == 0);
            CHECK(all == 15 || pattern == LOOP);
        }
}

/* Windows that change at random keep what is most unlike, so that all nodes
 * are in use, and each of the four has let a newcomer go at once. */
static void mini_caches_of_any_window(void)
{
    static const uint32_t of[] = { 1, 2, 3, 10, 16, 30 };
    uint64_t random = test_seed, n;
    uint32_t i, k, capacity, keys, most;
    int key;

    for (i = 0; i < COUNT_OF(of); i++) {
        capacity = of[i];
        keys = 8 * capacity;
        hash_seed = (uint32_t)test_random(&random);
        new_minis(capacity, keys);
        for (most = 0, n = 0; n < 20000 * (uint64_t)test_scale(); n++) {
            if (below(&random, 8 * capacity) == 0)
                for (k = 0; k < SHARES; k++) {
                    int window = (int)below(&random, capacity) + 1;
                    window = below(&random, 2) ? window : 1;
                    real_minis.window[k] = (uint16_t)window;
                    minis.mini[k].window_share = window;
                }
            key = key_of(n / 1000 % 2 ? RANDOM : ZIPF, keys, n, &random);
            ask_minis((int)((uint64_t)key + n / 1000 * 3) % (int)keys, true);
            if (real_minis.n_used > most)
                most = real_minis.n_used;
        }
        CHECK(most > 3 * capacity || capacity < 3);
    }
}

/* Main is swept twice for a newcomer: if all of it was used often, nobody but
 * the newcomer is left to go. */
static void a_mini_cache_that_lets_nobody_in(void)
{
    enum { X = 10, Y, Z };
    int key, n;

    hash_seed = 1;
    new_minis(10, 20);
    for (n = 0; n < SHARES; n++)
        minis.mini[n].proof = real_minis.proof[n] = 1;
    for (n = 0; n < 4; n++)
        for (key = 1; key <= 9; key++)
            CHECK_EQ(ask_minis(key, true), n ? 15 : 0);
    CHECK_EQ(ask_minis(X, true), 0);
    for (n = 0; n < 2; n++) { /* 8 alone was used before X */
        for (key = 1; key <= 9; key++)
            CHECK(key == 8 || ask_minis(key, true) == 15);
        CHECK_EQ(ask_minis(n ? Z : Y, true), 0);
    }
    CHECK_EQ(ask_minis(X, true), 0);  /* nobody has kept it, */
    CHECK_EQ(ask_minis(X, true), 12); /* and half let it in again */
    CHECK_EQ(ask_minis(8, true), 3);

    new_minis(10, 20);
    for (n = 0; n < SHARES; n++) {
        minis.mini[n].proof = real_minis.proof[n] = 1;
        minis.mini[n].window_share = real_minis.window[n] = 1;
    }
    for (n = 0; n < 4; n++)
        for (key = 1; key <= 9; key++)
            ask_minis(key, true);
    CHECK_EQ(ask_minis(X, true), 0);
    for (n = 0; n < 3; n++)
        for (key = 1; key <= 9; key++)
            CHECK(key == 8 || ask_minis(key, true) == 15);
    CHECK_EQ(ask_minis(Y, true), 0);
    CHECK_EQ(ask_minis(X, true), 0);
    CHECK_EQ(ask_minis(X, true), 0); /* nobody has, this time */
}

/* A search of the window ends after 16: then it may be one with uses that goes
 * to main, and there they still count.  In a window of 20, it is 17, which is
 * the second to go, and stays when three that came before 100 come back. */
static void uses_go_along_to_main(void)
{
    int n, key, back = 0;

    hash_seed = 1;
    new_minis(100, 130);
    for (n = 0; n < 3 * 100; n++)
        ask_minis(n / 3, true);
    CHECK_EQ(minis.mini[2].main.n, 80);
    CHECK_EQ(minis.mini[2].main.key[1], 17);
    CHECK_EQ(minis.mini[2].uses[17], 2);
    for (key = 100; key < 105; key++)
        ask_minis(key, true);
    for (key = 0; key < 100 && back < 3; key++)
        if (!minis.mini[2].in[key]) {
            CHECK_EQ(ask_minis(key, true) & 4, 0);
            CHECK_EQ(minis.mini[2].in[key], 'm');
            back++;
        }
    CHECK_EQ(back, 3);
    CHECK_EQ(ask_minis(17, true) & 4, 4);

    start(100, 130);
    step(SHARE, 2);
    for (n = 0; n < 3 * 100; n++)
        step(USE, n / 3);
    CHECK_EQ(it.slots.key[it.policy.links[it.policy.links[101].newer].newer],
             17);
    CHECK(cache__bit(state()->in_main, (uint32_t)it.slots.of[17]));
    CHECK_EQ(it.policy.marks[it.slots.of[17]] & 3, 2);
}

/* --- the choice: gains and judgements ------------------------------------ */

/* Samples of one mask of hits, in 256ths. */
struct seen {
    unsigned mask;
    uint32_t count;
};

static uint64_t gain_of(uint32_t present, uint32_t share,
                        const struct seen *seen, size_t n)
{
    static struct cache_chooser s;
    size_t i;

    memset(&s, 0, sizeof s);
    s.choice = present;
    for (i = 0; i < n; i++)
        s.history[seen[i].mask] = seen[i].count;
    return cache__chooser_gain(&s, share);
}

/* D > 2 sqrt(n): of n samples that only one of both had hit, D more. */
static void gains_by_hand(void)
{
    static const struct {
        uint32_t present, share;
        struct seen seen[4];
        uint64_t gain;
    } cases[] = {
        /* nothing seen, nothing gained */
        { 0, 1, { { 0, 0 } }, 0 },
        /* 4 of 4: 4 > 2 * 2 is false; 5 of 5 is more than 4.47 */
        { 0, 1, { { 2, 4 * 256 } }, 0 },
        { 0, 1, { { 2, 4 * 256 + 1 } }, 4 * 256 + 1 },
        { 0, 1, { { 2, 5 * 256 } }, 5 * 256 },
        /* 12 to 4: 8 > 2 * 4 is false */
        { 0, 1, { { 2, 12 * 256 }, { 1, 4 * 256 } }, 0 },
        { 0, 1, { { 2, 12 * 256 + 1 }, { 1, 4 * 256 } }, 8 * 256 + 1 },
        { 0, 1, { { 2, 12 * 256 }, { 1, 4 * 256 - 1 } }, 8 * 256 + 1 },
        { 0, 1, { { 2, 12 * 256 }, { 1, 4 * 256 + 1 } }, 0 },
        /* the same from the other side is a loss */
        { 1, 0, { { 2, 12 * 256 + 1 }, { 1, 4 * 256 } }, 0 },
        { 1, 0, { { 1, 99 * 256 } }, 99 * 256 },
        /* 10 000 to 9 716: 284 > 2 * sqrt(19 716) = 280.8; 280 is not */
        { 3, 2, { { 4, 10000 * 256 }, { 8, 9716 * 256 } }, 284 * 256 },
        { 3, 2, { { 4, 10000 * 256 }, { 8, 9720 * 256 } }, 0 },
        /* what both have, or none, counts for nothing */
        { 0, 1, { { 3, 1 << 20 }, { 0, 1 << 20 }, { 2, 1280 } }, 1280 },
        { 0, 1, { { 15, 1 << 20 }, { 12, 1 << 20 }, { 2, 1280 } }, 1280 },
        /* what the two others had, does not matter */
        { 1, 2, { { 4, 600 }, { 5, 600 }, { 12, 600 }, { 13, 600 } }, 2400 },
        { 1, 2, { { 2, 600 }, { 3, 600 }, { 10, 600 }, { 11, 600 } }, 0 },
        { 2, 1, { { 2, 600 }, { 3, 600 }, { 10, 600 }, { 11, 600 } }, 2400 },
        { 0, 3, { { 8, 600 }, { 10, 600 }, { 12, 600 }, { 14, 600 } }, 2400 },
        { 3, 0, { { 1, 600 }, { 3, 600 }, { 5, 600 }, { 7, 600 } }, 2400 },
        /* nobody gains on itself */
        { 2, 2, { { 4, 1 << 20 } }, 0 },
    };
    size_t i;

    for (i = 0; i < COUNT_OF(cases); i++) {
        uint64_t gain = gain_of(cases[i].present, cases[i].share, cases[i].seen,
                                COUNT_OF(cases[i].seen));
        if (gain != cases[i].gain)
            printf("case %d\n", (int)i);
        CHECK_EQ(gain, cases[i].gain);
    }
}

/* Which share is taken by whom, for what was seen. */
static void judgements_by_hand(void)
{
    static const struct {
        uint32_t before;
        struct seen seen[3];
        uint32_t after;
    } cases[] = {
        { 0, { { 0, 0 } }, 0 }, /* nothing speaks for another */
        { 2, { { 15, 9999 } }, 2 },
        { 0, { { 2, 1024 } }, 0 }, /* not enough does */
        { 0, { { 2, 1025 } }, 1 }, /* enough does */
        { 0, { { 8, 9999 } }, 1 }, /* up, but not all the way */
        { 1, { { 8, 9999 } }, 2 }, /* .. */
        { 2, { { 8, 9999 } }, 3 }, /* .. */
        { 3, { { 1, 9999 } }, 0 }, /* down, all the way */
        { 3, { { 2, 9999 } }, 1 }, /* down to the best, */
        { 3, { { 2, 9999 }, { 1, 9998 } }, 1 },
        { 3, { { 2, 9999 }, { 1, 10000 } }, 0 },
        { 3, { { 3, 9999 } }, 0 }, /* of two, to the smaller one */
        { 2, { { 11, 9999 }, { 1, 1 } }, 0 },
        { 1, { { 8, 9999 }, { 1, 10000 } }, 0 }, /* up or down, the best */
        { 1, { { 8, 10000 }, { 1, 9999 } }, 2 },
        { 1, { { 9, 9999 } }, 0 },
        { 0, { { 14, 9999 } }, 1 },
    };
    static struct cache_chooser s;
    size_t i, k;
    uint32_t mask;

    for (i = 0; i < COUNT_OF(cases); i++) {
        memset(&s, 0, sizeof s);
        s.choice = cases[i].before;
        for (k = 0; k < COUNT_OF(cases[i].seen); k++)
            s.history[cases[i].seen[k].mask] = cases[i].seen[k].count;
        for (k = 0; k < SHARES; k++) /* more than the price, as windows are 0 */
            s.forgone[k] = 1;
        cache__chooser_judge(&s);
        if (s.choice != cases[i].after)
            printf("case %d\n", (int)i);
        CHECK_EQ(s.choice, cases[i].after);
    }
    /* 1/32 is forgotten, of every mask; the last 31 of it never. */
    for (mask = 0; mask < 16; mask++)
        s.history[mask] = 1000 * mask;
    cache__chooser_judge(&s);
    for (mask = 0; mask < 16; mask++)
        CHECK_EQ(s.history[mask], 1000 * mask - 1000 * mask / 32);
    s.history[3] = 31;
    cache__chooser_judge(&s);
    CHECK_EQ(s.history[3], 31);
    /* Half is forgotten after 22 judgements: 5.5 capacities of samples. */
    s.history[3] = 1 << 20;
    for (i = 0; i < 22; i++)
        cache__chooser_judge(&s);
    CHECK(s.history[3] < (1 << 19) && s.history[3] > (1 << 19) * 97 / 100);
}

/* Going over has a price: 4, 15 and 80 hits for the three steps up in a mini-
 * cache of 400 entries, none for any down; it is paid once. */
static void prices_by_hand(void)
{
    static const struct {
        uint32_t before;
        struct seen seen;
        int32_t forgone[SHARES];
        uint32_t after;
        int32_t left[SHARES];
    } cases[] = {
        { 0, { 2, 9999 }, { 0, 4, 0, 0 }, 0, { 0, 4, 0, 0 } },
        { 0, { 2, 9999 }, { 0, 5, 9, 9 }, 1, { 0, 0, 0, 0 } },
        { 1, { 4, 9999 }, { 0, 0, 15, 0 }, 1, { 0, 0, 15, 0 } },
        { 1, { 4, 9999 }, { 0, 0, 16, 0 }, 2, { 0, 0, 0, 0 } },
        { 2, { 8, 9999 }, { 0, 0, 0, 80 }, 2, { 0, 0, 0, 80 } },
        { 2, { 8, 9999 }, { 0, 0, 0, 81 }, 3, { 0, 0, 0, 0 } },
        /* to the last by the first step, at the price of that */
        { 0, { 8, 9999 }, { 0, 0, 0, 5 }, 1, { 0, 0, 0, 0 } },
        /* down: nothing but a gain */
        { 3, { 2, 9999 }, { 9, 0, 9, 0 }, 3, { 9, 0, 9, 0 } },
        { 3, { 2, 9999 }, { 9, 1, 9, 0 }, 1, { 0, 0, 0, 0 } },
        /* who may be taken, is; who gains most, may not be */
        { 0, { 14, 9999 }, { 0, 4, 4, 5 }, 1, { 0, 0, 0, 0 } },
        /* a loss is not carried on, and there is an end to what is */
        { 1, { 1, 10 }, { -7, -1, 3, 0 }, 1, { 0, 0, 3, 0 } },
        { 1, { 1, 10 }, { INT32_MAX, 0, 0, 0 }, 1, { 1 << 20, 0, 0, 0 } },
    };
    static struct cache_chooser s;
    size_t i, k;

    for (i = 0; i < COUNT_OF(cases); i++) {
        memset(&s, 0, sizeof s);
        s.choice = cases[i].before;
        s.history[cases[i].seen.mask] = cases[i].seen.count;
        for (k = 0; k < SHARES; k++) {
            s.forgone[k] = cases[i].forgone[k];
            s.minis.window[k] = (uint16_t)window_of(400, (int)k);
        }
        cache__chooser_judge(&s);
        if (s.choice != cases[i].after)
            printf("case %d\n", (int)i);
        CHECK_EQ(s.choice, cases[i].after);
        for (k = 0; k < SHARES; k++)
            CHECK_EQ(s.forgone[k], cases[i].left[k]);
    }
}

/* Between judgements there are at most 511 / 4 samples, 256 for each, and what
 * is there grows only while 1/32 of it is less than that: it stays below
 * 33 * 127 * 256, about 2^20.  Squares of eight such are far from 64 bits. */
static void history_has_a_bound(void)
{
    const uint32_t per_round = CACHE__MINI_MAX / 4 * 256;
    static struct cache_chooser s;
    uint32_t mask, most = 0;
    double gain, n;
    int round;

    memset(&s, 0, sizeof s);
    for (round = 0; round < 2000; round++) {
        s.history[8] += per_round;
        most = s.history[8] > most ? s.history[8] : most;
        s.choice = 3;
        cache__chooser_judge(&s);
        CHECK_EQ(s.choice, 3);
    }
    CHECK_EQ(per_round, 127 * 256);
    CHECK(most <= 33 * per_round && most >= 32 * per_round);
    s.history[8] = most;
    s.choice = 0;
    CHECK_EQ(cache__chooser_gain(&s, 3), most);
    s.choice = 3;
    CHECK_EQ(cache__chooser_gain(&s, 0), 0);
    for (mask = 0; mask < 16; mask++) /* more than there can be */
        s.history[mask] = mask & 8 && !(mask & 1) ? most : most / 2;
    s.choice = 0;
    gain = 4.0 * most - 4.0 * (most / 2);
    n = 4.0 * most + 4.0 * (most / 2);
    CHECK(gain / 256 > 2 * sqrt(n / 256));
    CHECK_EQ(cache__chooser_gain(&s, 3), gain);
    for (mask = 0; mask < 16; mask++) /* a lead that is not enough */
        s.history[mask] = mask == 8 ? most + 256 * 300 : most;
    gain = 256 * 300;
    n = 8.0 * most + 256 * 300;
    CHECK(gain / 256 < 2 * sqrt(n / 256));
    CHECK_EQ(cache__chooser_gain(&s, 3), 0);
}

/* --- sizes --------------------------------------------------------------- */

static const struct {
    uint32_t full, ratio, capacity, check_samples;
} sizes[] = {
    { 1, 1, 1, 16 },         { 2, 1, 2, 16 },
    { 63, 1, 63, 16 },       { 64, 1, 64, 16 },
    { 67, 1, 67, 16 },       { 68, 1, 68, 17 },
    { 127, 1, 127, 31 },     { 128, 2, 64, 16 },
    { 255, 2, 127, 31 },     { 256, 4, 64, 16 },
    { 400, 4, 100, 25 },     { 511, 4, 127, 31 },
    { 512, 4, 128, 32 },     { 1023, 4, 255, 63 },
    { 1024, 4, 256, 64 },    { 2047, 4, 511, 127 },
    { 2048, 8, 256, 64 },    { 4095, 8, 511, 127 },
    { 50000, 128, 390, 97 }, { 2147483646, 4194304, 511, 127 },
};

/* Computed only: nothing of this size is laid out. */
static void sizes_of_mini_caches(void)
{
    static const uint32_t windows[][SHARES] = {
        /* of 1, 2, 100, 390, 511 entries */
        { 1, 1, 1, 1 },     { 1, 1, 1, 2 },      { 1, 5, 20, 100 },
        { 4, 20, 78, 390 }, { 5, 26, 102, 511 },
    };
    static const uint32_t of[] = { 1, 2, 100, 390, 511 };
    static struct cache_chooser s;
    uint32_t share, heads_used;
    size_t i, k;

    for (i = 0; i < COUNT_OF(sizes); i++) {
        memset(&s, 0xa5, sizeof s);
        memset(heads, 0xa5, sizeof heads);
        s.choice = 2;
        s.minis.nodes = nodes;
        s.minis.heads = heads;
        cache__chooser_scale(&s, sizes[i].full);
        CHECK_EQ(s.minis.capacity, sizes[i].capacity);
        CHECK_EQ(s.check_samples, sizes[i].check_samples);
        CHECK_EQ(s.sample_limit, 0xffffffffu / sizes[i].ratio);
        CHECK_EQ(s.sized_for, sizes[i].full);
        CHECK_EQ(s.n_samples, 0);
        CHECK_EQ(s.choice, 2);
        CHECK_EQ(ratio_for(sizes[i].full), sizes[i].ratio);
        for (k = 0; k < 16; k++)
            CHECK_EQ(s.history[k], 0);
        for (share = 0; share < SHARES; share++) {
            CHECK_EQ(s.minis.window[share],
                     window_of((int)sizes[i].capacity, (int)share));
            CHECK_EQ(cache__adaptive_window(sizes[i].full, share),
                     window_of((int)sizes[i].full, (int)share));
            for (k = 0; k < COUNT_OF(of); k++)
                if (of[k] == s.minis.capacity)
                    CHECK_EQ(s.minis.window[share], windows[k][share]);
        }
        CHECK_SOUND(cache__minis_check(&s.minis));
        heads_used = s.minis.head_mask + 1u;
        CHECK(heads_used <= CACHE__MINI_HEADS);
        CHECK((heads_used & (heads_used - 1)) == 0 && heads_used >= 64);
        CHECK(heads_used == CACHE__MINI_HEADS ||
              heads_used >= 2u * s.minis.capacity);
    }
    CHECK_EQ(cache__adaptive_window(2147483646, 0), 21474836);
    CHECK_EQ(cache__adaptive_window(2147483646, 1), 107374182);
    CHECK_EQ(cache__adaptive_window(2147483646, 2), 429496729);
    CHECK_EQ(cache__adaptive_window(2147483646, 3), 2147483646);
    CHECK_EQ(cache__adaptive_window(149, 0), 1);
    CHECK_EQ(cache__adaptive_window(150, 0), 2);
}

/* One key in `ratio` is seen by the mini-caches. */
static void samples_are_a_fair_part(void)
{
    uint32_t ratio, inverse = 1; /* of the factor, modulo 2^32 */
    int key, n;

    for (n = 0; n < 5; n++)
        inverse *= 2 - 0x85ebca6bu * inverse;
    CHECK_EQ(0x85ebca6bu * inverse, 1);
    hash_seed = (uint32_t)test_seed;
    for (ratio = 1; ratio <= 128; ratio *= 2) {
        const uint32_t limit = 0xffffffffu / ratio;
        double expected = 200000.0 / ratio;

        for (n = 0, key = 0; key < 200000; key++) {
            bool sampled = cache__in_sample(upper_half_of(key), limit);
            CHECK_EQ(sampled, in_sample(key, ratio));
            n += sampled;
        }
        CHECK(fabs(n - expected) <= 6 * sqrt(expected));
        CHECK(ratio > 1 || n == 200000);
        CHECK(cache__in_sample((uint64_t)(limit * inverse) << 32, limit));
        CHECK(
            ratio == 1 ||
            !cache__in_sample((uint64_t)((limit + 1) * inverse) << 32, limit));
    }
}

/* Admits a key that does not enter: all that looks at `full`. */
static bool remade_at(uint32_t full)
{
    uint32_t before = state()->chooser->sized_for;

    step(FULL, (int)full);
    step(ADMIT, (int)(n_steps / 2 % 2000));
    if (state()->chooser->sized_for == before)
        return false;
    CHECK_EQ(state()->chooser->sized_for, full);
    CHECK(state()->chooser->minis.time <=
          1); /* they have seen this key at most */
    return true;
}

/* A limit in bytes moves `full` about.  Only at twice and at half of what they
 * were made for, mini-caches are made anew, and the share stays. */
static void mini_caches_are_made_anew(void)
{
    static const uint32_t up[] = { 3, 7, 15, 31, 63, 127, 255, 511 };
    static const uint32_t down[] = { 254, 126, 62, 30, 14, 6, 2 };
    uint32_t full;
    size_t at;

    start(600, 2000);
    step(SHARE, 2);
    CHECK(!remade_at(600));
    while (state()->chooser->minis.time == 0)
        CHECK(!remade_at(300));
    CHECK(!remade_at(300));
    CHECK(remade_at(299));
    CHECK(!remade_at(598));
    while (state()->chooser->minis.time == 0)
        CHECK(!remade_at(598));
    CHECK(remade_at(599));
    while (state()->chooser->minis.time == 0)
        CHECK(!remade_at(599));
    CHECK(remade_at(1));
    for (at = 0, full = 1; full <= 600; full++)
        if (remade_at(full))
            CHECK(at < COUNT_OF(up) && full == up[at++]);
        else
            CHECK(at == COUNT_OF(up) || full < up[at]);
    CHECK_EQ(at, COUNT_OF(up));
    for (at = 0, full = 600; full >= 1; full--)
        if (remade_at(full))
            CHECK(at < COUNT_OF(down) && full == down[at++]);
        else
            CHECK(at == COUNT_OF(down) || full > down[at]);
    CHECK_EQ(at, COUNT_OF(down));
    CHECK_EQ(it.policy.choice, model.share);
}

static void layout_keeps_its_promise(void)
{
    size_t i, bytes, before = 0;

    for (i = 0; i < COUNT_OF(sizes); i++, before = bytes) {
        size_t n = sizes[i].full;
        bytes = verbs->layout(sizes[i].full);
        CHECK(bytes > before);
        CHECK(bytes <= 64 * n + 65536);
        if (n >= CACHE__MINI_MAX) /* 8 links, 4 marks, 8 ghosts */
            CHECK(bytes <= 20 * n + n / 8 + 56000);
    }
    for (i = 0; i < COUNT_OF(sizes) && sizes[i].full <= LARGEST; i++) {
        const struct cache_minis *m;
        struct cache_policy p;

        lay_out(&p, sizes[i].full, 0);
        m = &((struct cache_adaptive *)p.memory)->chooser->minis;
        CHECK(m->nodes + CACHE__MINI_POOL * m->capacity + 1 <=
              (struct cache_mini_node *)(void *)m->heads);
    }
}

/* --- init ---------------------------------------------------------------- */

/* Victims and hits of a stream that needs most of the policy, as one number. */
static uint64_t decisions_of(uint32_t capacity, int fill, uint64_t seed)
{
    uint64_t random = 77, sum = 0, n;
    uint32_t keys = 4 * capacity + 3;

    hash_seed = 5;
    start(capacity, (int)keys);
    lay_out(&it.policy, capacity, fill);
    it.policy.memory = arena;
    if (seed != 1)
        verbs->init(&it.policy, seed);
    it.compare_every = 53;
    it.check_every = 53;
    for (n = 0; n < 2000 + 10 * capacity; n++) {
        int key = key_of(MIXED, keys, n, &random);
        sum = (sum ^ (uint64_t)it.slots.of[key]) * 1000003u;
        step(USE, key);
        if (n % 16 == 15)
            step(REMOVE, key);
        sum ^= sum >> 31;
    }
    return sum;
}

/* Neither what the memory held nor that it is said to be zeroed counts. */
static void init_works_on_any_memory(void)
{
    static const int fills[] = { 0, 0xa5, 0xff, 1 };
    static unsigned char first[sizeof(struct cache_adaptive)];
    struct cache_policy p, of_zeroes;
    size_t i, k;

    for (i = 0; i < COUNT_OF(capacities); i++) {
        for (k = 0; k < COUNT_OF(fills); k++) {
            const struct cache_adaptive *s =
                (const struct cache_adaptive *)(void *)arena;
            uint32_t n;

            lay_out(&p, capacities[i], fills[k]);
            if (k == 0) {
                memcpy(first, arena, sizeof first);
                of_zeroes = p;
            }
            CHECK(memcmp(first, arena, sizeof first) == 0);
            CHECK(p.links == of_zeroes.links && p.marks == of_zeroes.marks);
            CHECK(p.now == 0 && p.sample_limit == of_zeroes.sample_limit);
            CHECK(p.capacity == capacities[i] && p.full == capacities[i]);
            CHECK_SOUND(verbs->check(&p, 0));
            CHECK_EQ(verbs->ahead(&p), 0);
            CHECK_EQ(s->ghosts.n_sets, (2 * capacities[i] + 3) / 4);
            for (n = 0; n < 4 * s->ghosts.n_sets; n++)
                CHECK_EQ(s->ghosts.slots[n], 0);
        }
        CHECK_EQ(decisions_of(capacities[i], 0, 1),
                 decisions_of(capacities[i], 0xa5, 1));
        CHECK_EQ(decisions_of(capacities[i], 0xff, 1),
                 decisions_of(capacities[i], 0xff, 2));
    }
}

static void one_entry(void)
{
    const struct cache_adaptive *s;

    start(1, 3);
    s = state();
    CHECK_EQ(it.policy.choice, 0);
    CHECK_EQ(s->shift, 0);
    CHECK_EQ(s->chooser->sized_for, 1);
    CHECK_EQ(s->chooser->check_samples, 16);
    CHECK_EQ(s->ghosts.n_sets, 1);
    CHECK_EQ(s->chooser->minis.capacity, 1);
    CHECK_EQ(it.policy.sample_limit, 0xffffffffu);
    CHECK(!s->coming && !s->to_main);
    step(USE, 0);
    CHECK_EQ(verbs->victim(&it.policy), 1);
    step(USE, 0);
    CHECK_EQ(verbs->ahead(&it.policy), 0);
    step(USE, 1); /* hits do not protect the only one */
    CHECK(it.slots.of[0] == 0 && it.slots.of[1] == 1);
    step(USE, 0);
    CHECK(it.slots.of[0] == 1 && it.slots.of[1] == 0);
}

/* The clock has at most 256 ticks for a capacity of misses. */
static void ticks(void)
{
    static const struct {
        uint32_t capacity, shift;
    } cases[] = { { 1, 0 },   { 255, 0 }, { 256, 0 },  { 257, 1 },
                  { 513, 1 }, { 514, 2 }, { 4096, 4 }, { 50000, 8 } };
    struct cache_item item = item_of(1);
    struct cache_adaptive *s;
    struct cache_policy p;
    size_t i;

    for (i = 0; i < COUNT_OF(cases); i++) {
        lay_out(&p, cases[i].capacity, 0);
        s = (struct cache_adaptive *)p.memory;
        CHECK_EQ(s->shift, cases[i].shift);
        s->misses = UINT32_MAX;
        verbs->admit(&p, &item);
        CHECK_EQ(p.now, (uint32_t)(((uint64_t)1 << 32) >> s->shift));
    }
}

/* --- a hit --------------------------------------------------------------- */

/* Of a key that is not in the sample, it writes the word of its slot, and not
 * a byte more. */
static void an_unsampled_hit_writes_one_word(void)
{
    static unsigned char before[1 << 17];
    uint64_t random = test_seed, n;
    struct cache_policy policy;
    size_t bytes, byte, at;
    int key, looked_at = 0;

    hash_seed = (uint32_t)test_seed;
    start(600, 2403);
    it.check_every = it.compare_every = 97;
    for (n = 0; n < 6000; n++)
        step(USE, key_of(ZIPF, 2403, n, &random));
    bytes = verbs->layout(600);
    CHECK(bytes <= sizeof before);
    for (key = 0; key < 2403; key++) {
        uint32_t slot = (uint32_t)it.slots.of[key], uses;
        if (slot == 0 || in_sample(key, 4))
            continue;
        uses = it.policy.marks[slot] & 3;
        at = (size_t)((unsigned char *)&it.policy.marks[slot] - arena);
        memcpy(before, arena, bytes);
        memcpy(&policy, &it.policy, sizeof policy);
        verbs->hit(&it.policy, slot, upper_half_of(key));
        CHECK(memcmp(&policy, &it.policy, sizeof policy) == 0);
        for (byte = 0; byte < bytes; byte++)
            if (arena[byte] != before[byte])
                CHECK(byte >= at && byte < at + 4);
        CHECK_EQ(it.policy.marks[slot] & 3, uses < 3 ? uses + 1 : 3);
        CHECK_EQ(it.policy.marks[slot] >> 2, it.policy.now);
        looked_at++;
    }
    CHECK(looked_at > 300);
    CHECK_SOUND(verbs->check(&it.policy, it.slots.len));
}

/* --- check --------------------------------------------------------------- */

/* Changes bits, one by one; check() has to complain of each. */
static size_t found(void *what, size_t bytes, uint64_t bits)
{
    unsigned char *at = (unsigned char *)what;
    size_t bit;

    for (bit = 0; bit < 8 * bytes; bit++) {
        if ((bits >> bit & 1) == 0)
            continue;
        at[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (verbs->check(&it.policy, it.slots.len) == NULL) {
            printf("byte %zu of the memory, bit %zu\n", (size_t)(at - arena),
                   bit);
            CHECK(verbs->check(&it.policy, it.slots.len) != NULL);
        }
        at[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK_SOUND(verbs->check(&it.policy, it.slots.len));
    return bit;
}

#define FOUND(field) found(&(field), sizeof(field), UINT64_MAX)

static void check_finds_what_is_broken(void)
{
    uint64_t random = 5, n;
    struct cache_adaptive *s;
    struct cache_minis *m;
    uint32_t slot, mini, queue, id, i;

    hash_seed = 3;
    start(20, 83);
    for (n = 0; n < 400; n++)
        step(USE, key_of(n % 100 < 50 ? ZIPF : RANDOM, 83, n, &random));
    for (i = 0; it.slots.len > 18; i++)
        step(REMOVE, (int)i);
    s = state();
    m = &s->chooser->minis;
    CHECK(s->n_window > 0 && s->n_main > 0 && m->n_ghosts > 2);
    CHECK(verbs->check(&it.policy, it.slots.len - 1) != NULL);
    CHECK(verbs->check(&it.policy, it.slots.len + 1) != NULL);
    FOUND(s->n_window);
    FOUND(s->n_main);
    found(&it.policy.choice, 4, 0xfffffffcu);
    s->n_window++, s->n_main--; /* their sum is right */
    CHECK(verbs->check(&it.policy, it.slots.len) != NULL);
    s->n_window--, s->n_main++;
    FOUND(it.policy.links[0]);
    FOUND(it.policy.links[21]);
    for (slot = 1; slot <= 20; slot++)
        if (it.slots.key[slot] >= 0) {
            FOUND(it.policy.links[slot]);
            found(&s->in_main[slot / 32], 4, 1u << slot % 32);
        }
    for (mini = 0; mini < SHARES; mini++)
        for (queue = 1; queue <= 2; queue++) {
            struct cache_mini_queue *q = &m->queues[mini][queue];
            FOUND(q->len);
            if (q->len > 0) {
                FOUND(q->oldest);
                FOUND(q->newest);
            }
        }
    for (id = 1; id <= m->n_used; id++) {
        struct cache_mini_node *node = &m->nodes[id];
        found(&node->lanes, 2, 0x3333);
        found(&node->hash, 4, m->head_mask);
        FOUND(node->next);
        if (node->lanes == 0) {
            found(node->link, 4, UINT64_MAX);
            continue;
        }
        for (mini = 0; mini < SHARES; mini++) {
            queue = node->lanes >> 4 * mini & 3;
            if (queue != 0 && id != m->queues[mini][queue].newest)
                FOUND(node->link[mini]);
        }
    }
    FOUND(m->n_ghosts);
    FOUND(m->newest_ghost);
    FOUND(m->oldest_ghost);
    FOUND(m->n_used);
    for (i = 0; i <= m->head_mask; i++)
        FOUND(m->heads[i]);
    m->capacity = 19; /* less than they hold */
    CHECK(verbs->check(&it.policy, it.slots.len) != NULL);
}

/* --- the choice ---------------------------------------------------------- */

enum {
    MAX_EPOCHS = 80, /* one is as many accesses as the cache has entries */
    MAX_STREAM = 40 * LARGEST
};

static uint32_t stream[MAX_STREAM];
static uint32_t stream_len, stream_keys;

/* An epoch of uses each; keys of one call and of another are different. */
typedef uint32_t pattern_fn(uint32_t capacity, uint32_t n, uint64_t *random);

/* Again and again over half as much again as there is room for. */
static uint32_t loop(uint32_t capacity, uint32_t n, uint64_t *random)
{
    (void)random;
    return n % (capacity * 3 / 2);
}

/* A working set of 70 % of the cache; one use in four brings a new key. */
static uint32_t working_set(uint32_t capacity, uint32_t n, uint64_t *random)
{
    return n / 4 + below(random, capacity * 7 / 10);
}

/* Recency alone: a key is used again soon or never. */
static uint32_t recent(uint32_t capacity, uint32_t n, uint64_t *random)
{
    uint32_t newest = capacity + n / 3;
    double u = (double)(test_random(random) >> 11) / 9007199254740992.0;

    return newest - (uint32_t)(capacity * pow(u, 3));
}

/* Zipf over ten caches full; at times a scan of one cache full, of new keys. */
static uint32_t zipf_and_scans(uint32_t capacity, uint32_t n, uint64_t *random)
{
    if (n % (4 * capacity) < capacity)
        return 10 * capacity + n / 4 + n % capacity;
    return (uint32_t)key_of(ZIPF, 10 * capacity, n, random);
}

static void append(pattern_fn *pattern, uint32_t capacity, uint32_t epochs,
                   uint64_t seed)
{
    uint64_t random = seed * 2 + 1;
    uint32_t n, key, base = stream_keys;

    CHECK(stream_len + epochs * capacity <= MAX_STREAM);
    for (n = 0; n < epochs * capacity; n++) {
        key = base + pattern(capacity, n, &random);
        stream[stream_len++] = key;
        if (key >= stream_keys)
            stream_keys = key + 1;
    }
}

/* What became of a stream, epoch by epoch. */
struct outcome {
    uint32_t n_epochs;
    uint32_t hits[MAX_EPOCHS];
    uint32_t share[MAX_EPOCHS]; /* ADAPTIVE's, at the end of it */
};

static struct outcome run(const struct cache_policy_verbs *v, uint32_t capacity,
                          uint32_t first_share)
{
    static uint32_t slot_of[4 * MAX_STREAM], key_in[LARGEST + 1];
    struct cache_policy p;
    struct outcome o;
    uint32_t i, slot, len = 0;

    CHECK(v->layout(capacity) <= sizeof arena && capacity <= LARGEST);
    CHECK(stream_keys <= COUNT_OF(slot_of));
    memset(&p, 0, sizeof p);
    memset(&o, 0, sizeof o);
    p.memory = arena;
    p.capacity = p.full = capacity;
    v->init(&p, 1);
    if (v == &cache_adaptive)
        p.choice = ((struct cache_adaptive *)p.memory)->chooser->choice =
            first_share;
    memset(slot_of, 0, stream_keys * sizeof slot_of[0]);
    for (i = 0; i < stream_len; i++) {
        struct cache_item item = item_of((int)stream[i]);
        slot = slot_of[stream[i]];
        if (slot != 0) {
            v->hit(&p, slot, item.hash);
            o.hits[i / capacity]++;
        } else {
            v->admit(&p, &item);
            slot = len + 1;
            if (len == capacity) {
                slot = v->victim(&p);
                v->evict(&p, slot, item_of((int)key_in[slot]).hash);
                slot_of[key_in[slot]] = 0;
            } else {
                len++;
            }
            slot_of[stream[i]] = slot;
            key_in[slot] = stream[i];
            v->add(&p, slot, &item);
        }
        if (v == &cache_adaptive)
            o.share[i / capacity] = p.choice;
    }
    o.n_epochs = stream_len / capacity;
    CHECK_SOUND(v->check(&p, len));
    return o;
}

static const uint32_t stream_capacities[] = { 100, 400, 1000, 5000, LARGEST };

static void new_stream(uint64_t seed)
{
    stream_len = stream_keys = 0;
    hash_seed = (uint32_t)seed;
}

/* The part of the accesses that were hits, in the last four epochs. */
static double late_ratio(const struct outcome *o, uint32_t capacity)
{
    uint32_t epoch, hits = 0;

    for (epoch = o->n_epochs - 4; epoch < o->n_epochs; epoch++)
        hits += o->hits[epoch];
    return hits / (4.0 * capacity);
}

static void say(const char *name, uint32_t capacity, const struct outcome *o)
{
    uint32_t epoch;

    printf("%s, %u entries, hash %u; shares:", name, (unsigned)capacity,
           (unsigned)hash_seed);
    for (epoch = 0; epoch < o->n_epochs; epoch++)
        printf(" %u", (unsigned)o->share[epoch]);
    printf("\n hits in %%:");
    for (epoch = 0; epoch < o->n_epochs; epoch++)
        printf(" %u", (unsigned)(o->hits[epoch] * 100 / capacity));
    printf("\n");
}

/* Whatever share it begins with: after 16 epochs it has the right one, and
 * keeps it; its hits are as many as the best of others has, or nearly. */
static void streams_of_one_kind(void)
{
    static const struct {
        const char *name;
        pattern_fn *pattern;
        uint32_t least, most; /* share */
        double below_fifo, below_lru, below_others, at_least;
    } kinds[] = {
        { "loop", loop, 0, 0, 0, 0, 0, 0.6 },
        { "working set", working_set, 2, 3, 0.03, 0.03, 0, 0.7 },
        { "recent", recent, 2, 3, 0.06, 0.03, 0, 0.6 },
        { "Zipf and scans", zipf_and_scans, 0, 2, 0, 0, 0.06, 0.35 },
    };
    uint64_t seed;
    size_t i, k;

    for (seed = 1; seed <= (uint64_t)test_scale(); seed++)
        for (i = 0; i < COUNT_OF(kinds); i++)
            for (k = 0; k < COUNT_OF(stream_capacities); k++) {
                uint32_t capacity = stream_capacities[k], first, epoch;
                double fifo, lru, sieve, s3fifo, ratio;
                struct outcome o;

                new_stream(seed);
                append(kinds[i].pattern, capacity, capacity < LARGEST ? 28 : 20,
                       seed);
                o = run(&cache_fifo, capacity, 0);
                fifo = late_ratio(&o, capacity);
                o = run(&cache_lru, capacity, 0);
                lru = late_ratio(&o, capacity);
                o = run(&cache_sieve, capacity, 0);
                sieve = late_ratio(&o, capacity);
                o = run(&cache_s3fifo, capacity, 0);
                s3fifo = late_ratio(&o, capacity);
                for (first = 0; first < SHARES; first += 3) {
                    o = run(&cache_adaptive, capacity, first);
                    ratio = late_ratio(&o, capacity);
                    if (getenv("SAY")) {
                        say(kinds[i].name, capacity, &o);
                        printf("fifo %.3f lru %.3f sieve %.3f s3fifo %.3f "
                               "adaptive %.3f\n",
                               fifo, lru, sieve, s3fifo, ratio);
                    }
                    CHECK(ratio >= fifo - kinds[i].below_fifo);
                    CHECK(ratio >= lru - kinds[i].below_lru);
                    CHECK(ratio >= sieve - kinds[i].below_others);
                    CHECK(ratio >= s3fifo - kinds[i].below_others);
                    CHECK(ratio >= kinds[i].at_least);
                    for (epoch = 16; epoch < o.n_epochs; epoch++)
                        CHECK(o.share[epoch] >= kinds[i].least &&
                              o.share[epoch] <= kinds[i].most);
                }
            }
}

/* One kind of use, then another: 14 epochs later it has gone over to another
 * share, and for the next 6 at least half are hits; LRU has none of a loop. */
static void streams_that_change(void)
{
    enum { PHASE = 20, SETTLED = 14 };
    uint64_t seed;
    uint32_t i;
    size_t k;

    for (seed = 1; seed <= (uint64_t)test_scale(); seed++)
        for (k = 0; k < COUNT_OF(stream_capacities); k++) {
            uint32_t capacity = stream_capacities[k], epoch, hits;
            uint32_t n_phases = capacity < LARGEST ? 4 : 2;
            struct outcome o;

            new_stream(seed);
            for (i = 0; i < n_phases; i++)
                append(i % 2 ? loop : working_set, capacity, PHASE, seed + i);
            o = run(&cache_adaptive, capacity, 0);
            if (getenv("SAY"))
                say("changes", capacity, &o);
            for (i = 0; i < n_phases; i++) {
                epoch = i * PHASE + SETTLED;
                for (hits = 0; epoch < (i + 1) * PHASE; epoch++) {
                    CHECK(i % 2 ? o.share[epoch] <= 1 : o.share[epoch] >= 2);
                    hits += o.hits[epoch];
                }
                CHECK(hits >= capacity * (PHASE - SETTLED) / 2);
            }
        }
}

/* --- through CACHE_DEFINE ------------------------------------------------ */

CACHE_DEFINE(bare, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64, 0);
CACHE_DEFINE(expiring, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_EXPIRY);
CACHE_DEFINE(named, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_ADAPTIVE);
CACHE_DEFINE(many, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
             CACHE_EXPIRY | CACHE_STATS | CACHE_PINS | CACHE_KEEP_HASH);

/* Of 500 entries there is room for some 400 light ones, or 40 heavy ones. */
static uint64_t weight_of(const uint64_t *key, const uint64_t *value,
                          void *user)
{
    (void)user;
    return *key % 32 + (*value / 3000 % 2 ? 20 : 1000);
}

CACHE_DEFINE_WITH(weighed, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,
                  CACHE_WEIGHED, .weigh = weight_of);

/* Which keys of a stream are hits, as one number; *n_hits of them. */
#define HITS_OF(name, seed_, limit_bytes, n_hits)                              \
    static uint64_t name##_hits(uint64_t seed_, uint32_t *n_hits)              \
    {                                                                          \
        struct cache_config config;                                            \
        struct name c;                                                         \
        uint64_t random = 9, sum = 0, n;                                       \
                                                                               \
        memset(&config, 0, sizeof config);                                     \
        config.capacity = 500;                                                 \
        config.max_bytes = limit_bytes;                                        \
        config.seed = seed_;                                                   \
        CHECK_EQ(name##_init(&c, &config), 0);                                 \
        CHECK(c.base.verbs == &cache_adaptive);                                \
        for (*n_hits = 0, n = 0; n < 12000; n++) {                             \
            uint64_t key = (uint64_t)key_of(MIXED, 2000, n, &random);          \
            bool hit = name##_get(&c, key) != NULL;                            \
            sum = (sum ^ hit) * 1000003u ^ sum >> 31;                          \
            *n_hits += hit;                                                    \
            if (!hit)                                                          \
                CHECK_EQ(name##_put(&c, key, n), 0);                           \
        }                                                                      \
        CHECK_SOUND(name##_check(&c));                                         \
        name##_destroy(&c);                                                    \
        return sum;                                                            \
    }

HITS_OF(bare, seed, 0, n_hits)
HITS_OF(expiring, seed, 0, n_hits)
HITS_OF(named, seed, 0, n_hits)
HITS_OF(many, seed, 0, n_hits)
HITS_OF(weighed, seed, 40000, n_hits)

/* Options that name no policy are ADAPTIVE, and what else they name changes no
 * decision; the same seed gives the same hits. */
static void the_default(void)
{
    uint32_t n_hits, others;
    uint64_t seed, hits;

    for (seed = 1; seed <= 5; seed++) {
        hits = bare_hits(seed, &n_hits);
        CHECK(n_hits > 3000 && n_hits < 9000);
        CHECK_EQ(bare_hits(seed, &others), hits);
        CHECK_EQ(expiring_hits(seed, &others), hits);
        CHECK_EQ(named_hits(seed, &others), hits);
        CHECK_EQ(many_hits(seed, &others), hits);
        CHECK_EQ(others, n_hits);
        CHECK(bare_hits(seed + 5, &others) != hits);
        hits = weighed_hits(seed, &others);
        CHECK(others < n_hits);
        CHECK_EQ(weighed_hits(seed, &others), hits);
    }
}

static const struct test tests[] = {
    TEST(every_sequence_of_8_over_6_keys),
    TEST(every_sequence_of_6_with_removals),
    TEST(long_streams),
    TEST(unruly_streams),
    TEST(clocks_go_round),
    TEST(mini_caches),
    TEST(mini_caches_of_any_window),
    TEST(a_mini_cache_that_lets_nobody_in),
    TEST(uses_go_along_to_main),
    TEST(gains_by_hand),
    TEST(judgements_by_hand),
    TEST(prices_by_hand),
    TEST(history_has_a_bound),
    TEST(sizes_of_mini_caches),
    TEST(samples_are_a_fair_part),
    TEST(mini_caches_are_made_anew),
    TEST(layout_keeps_its_promise),
    TEST(init_works_on_any_memory),
    TEST(one_entry),
    TEST(ticks),
    TEST(an_unsampled_hit_writes_one_word),
    TEST(check_finds_what_is_broken),
    TEST(streams_of_one_kind),
    TEST(streams_that_change),
    TEST(the_default),
};

int main(int argc, char **argv)
{
    alarm(600 * (unsigned)test_scale()); /* a policy that hangs fails */
    return TEST_MAIN(argc, argv, tests);
}
