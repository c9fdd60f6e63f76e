/*
 * test_policies.c - the policies driven alone, over slot numbers.
 *
 * WHAT IT DOES
 *   A driver does what cache.h does: hands out slots, says who comes, who is
 *   used and who leaves, and evicts while there is no room.  Beside each
 *   policy runs its model (policy_models.h), and both have to name the same
 *   victims.  After every operation check() walks the policy.
 *
 *   Policy, driver and model stand at fixed addresses, so that a state is
 *   saved and put back by copying bytes: that is how every short sequence and
 *   every reachable state can be visited.
 *
 * The environment variable TEST_SCALE multiplies the work; it is 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>
#include <unistd.h>

#include "cache_policies.h"
#include "tests/policy_models.h"
#include "tests/test.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
    MAX_CAPACITY = DRIVER_SLOTS,
    ARENA = 64 * MAX_CAPACITY + 65536, /* what layout() may ask for */
    MAX_SNAPSHOT = 1 << 16,
    MAX_STEPS = 64 /* remembered, to be told when a test fails */
};

/* --- the policies -------------------------------------------------------- */

enum trait {
    /* check sees every byte on which a decision depends: what it does not
     * complain of, changes nothing */
    SEES_ALL = 1,
    /* it has a clock, so its states are without end: a part of them will do */
    HAS_CLOCK = 2,
    /* a bit of `marks` says in which list an entry is */
    MARKS_A_LIST = 4
};

struct subject {
    const struct cache_policy_verbs *verbs;
    struct policy_model model; /* NULLs: it has none */
    unsigned traits;
};

#define NO_MODEL                                                               \
    {                                                                          \
        NULL, NULL, NULL, NULL, NULL                                           \
    }

enum {
    FIFO,
    LRU,
    RANDOM,
    CLOCK,
    SIEVE,
    LFU,
    TTL,
    GDSF,
    SLRU,
    TWO_Q,
    ARC,
    LIRS,
    S3FIFO,
    WTINYLFU,
    ADAPTIVE,
    N_SUBJECTS
};

/* init, hit, miss, remove, change of the models */
static const struct subject subjects[N_SUBJECTS] = {
    { &cache_fifo,
      { m_no_init, m_no_hit, m_fifo_miss, m_fifo_remove, m_no_change },
      SEES_ALL },
    { &cache_lru,
      { m_no_init, m_lru_hit, m_fifo_miss, m_fifo_remove, m_no_change },
      SEES_ALL },
    { &cache_random, NO_MODEL, HAS_CLOCK },
    { &cache_clock,
      { m_no_init, m_mark, m_clock_miss, m_clock_remove, m_no_change },
      0 },
    { &cache_sieve,
      { m_no_init, m_mark, m_sieve_miss, m_sieve_remove, m_no_change },
      0 },
    { &cache_lfu,
      { m_no_init, m_lfu_hit, m_lfu_miss, m_fifo_remove, m_no_change },
      HAS_CLOCK },
    { &cache_ttl,
      { m_no_init, m_no_hit, m_ttl_miss, m_fifo_remove, m_ttl_change },
      HAS_CLOCK },
    { &cache_gdsf,
      { m_no_init, m_gdsf_hit, m_gdsf_miss, m_fifo_remove, m_gdsf_change },
      HAS_CLOCK },
    { &cache_slru,
      { m_no_init, m_slru_hit, m_slru_miss, m_slru_remove, m_no_change },
      SEES_ALL },
    { &cache_2q,
      { m_2q_init, m_2q_hit, m_2q_miss, m_2q_remove, m_no_change },
      MARKS_A_LIST },
    { &cache_arc,
      { m_arc_init, m_arc_hit, m_arc_miss, m_arc_remove, m_no_change },
      MARKS_A_LIST },
    { &cache_lirs,
      { m_lirs_init, m_lirs_hit, m_lirs_miss, m_lirs_remove, m_no_change },
      MARKS_A_LIST },
    { &cache_s3fifo,
      { m_no_init, m_s3fifo_hit, m_s3fifo_miss, m_s3fifo_remove, m_no_change },
      HAS_CLOCK },
    { &cache_wtinylfu,
      { m_wtinylfu_init, m_wtinylfu_hit, m_wtinylfu_miss, m_wtinylfu_remove,
        m_no_change },
      HAS_CLOCK },
    { &cache_adaptive, NO_MODEL, HAS_CLOCK },
};

/* --- the driver ---------------------------------------------------------- */

enum operation {
    USE,    /* get the key, or insert it */
    REMOVE, /* a key that is present */
    READD,  /* remove it and add it in its slot: pinned and unpinned */
    CHANGE, /* its weight, cost and deadline */
    ADMIT,  /* an absent key, that does not enter after all */
    EXPIRE, /* remove the victim */
    VICTIM, /* ask for it and do nothing */
    FULL    /* so many entries are a full cache now */
};

/* What cache.h knows, and the model. */
static struct {
    const struct subject *subject;
    bool modelled;
    struct cache_policy policy;
    int n_keys;
    int last_victim;    /* key; -1 = nobody had to leave */
    const char *broken; /* what check() said, if it may complain */
    struct slots slots; /* which key is where */
    struct model model;
} it;

static unsigned char arena[ARENA] __attribute__((aligned(64)));

static bool may_complain; /* the policy's memory was damaged on purpose */

/* What was done, for whoever has to find out why it failed. */
static struct {
    enum operation operation;
    int argument;
} steps[MAX_STEPS];
static unsigned n_steps;

static void tell(void)
{
    static const char *const names[] = { "use",   "remove", "readd",  "change",
                                         "admit", "expire", "victim", "full" };
    unsigned i = n_steps > MAX_STEPS ? n_steps - MAX_STEPS : 0;

    printf("%s, capacity %u, full %u, %u entries, step %u:\n",
           it.subject->verbs->name, (unsigned)it.policy.capacity,
           (unsigned)it.policy.full, (unsigned)it.slots.len, n_steps);
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

static const struct cache_policy_verbs *verbs(void)
{
    return it.subject->verbs;
}

/* Lays the policy out over memory full of `fill`.  Zeroes are said to be so. */
static void start(const struct subject *subject, uint32_t capacity, int n_keys,
                  uint64_t seed, int fill)
{
    size_t bytes = subject->verbs->layout(capacity);

    CHECK(capacity <= MAX_CAPACITY && n_keys <= MODEL_KEYS);
    CHECK(bytes <= sizeof arena);
    model_seed = test_seed;
    model_mask = UINT64_MAX;
    memset(&it, 0, sizeof it);
    it.subject = subject;
    it.modelled = subject->model.init != NULL;
    it.n_keys = n_keys;
    slots_clear(&it.slots);
    memset(&it.policy, fill, sizeof it.policy); /* all that init sets */
    it.policy.memory = arena;
    it.policy.capacity = it.policy.full = capacity;
    it.policy.zeroed = fill == 0;
    it.model.capacity = it.model.room = (int)capacity;
    n_steps = 0;
    may_complain = false;
    ASAN_UNPOISON_MEMORY_REGION(arena, sizeof arena);
    memset(arena, fill, bytes);
    ASAN_POISON_MEMORY_REGION(arena + bytes, sizeof arena - bytes);
    subject->verbs->init(&it.policy, seed);
    if (it.modelled)
        subject->model.init(&it.model);
    sound(verbs()->check(&it.policy, 0));
}

/* Walks the policy.  Returns false if it is broken, and may be. */
static bool verify(void)
{
    uint32_t ahead;

    it.broken = verbs()->check(&it.policy, it.slots.len);
    if (!may_complain)
        sound(it.broken);
    if (it.broken != NULL)
        return false;
    if (it.slots.len > 0) {
        ahead = verbs()->ahead(&it.policy);
        if (ahead > it.policy.capacity)
            same(ahead, 0);
    }
    return true;
}

/* Returns the slot that the policy names, or 0 if it is found broken. */
static uint32_t ask_victim(void)
{
    uint32_t slot = verbs()->victim(&it.policy);

    if (!verify())
        return 0;
    if (slot < 1 || slot > it.policy.capacity || it.slots.key[slot] < 0) {
        tell();
        printf("the victim is slot %u, and not here\n", (unsigned)slot);
        CHECK(it.slots.key[slot <= MAX_CAPACITY ? slot : 0] >= 0);
    }
    return slot;
}

static void evict(uint32_t slot)
{
    struct cache_item item = model_item(&it.model, it.slots.key[slot]);

    if (!verbs()->needs_whole_hash)
        item.hash = item.hash >> 32 << 32;
    verbs()->evict(&it.policy, slot, item.hash);
    slots_free(&it.slots, slot);
    verify();
}

static void insert(int key)
{
    struct cache_item item = model_item(&it.model, key);
    int expected = -1;
    uint32_t slot;

    verbs()->admit(&it.policy, &item);
    if (!verify())
        return;
    if (it.modelled)
        expected = it.subject->model.miss(&it.model, key);
    while (it.slots.len >= it.policy.full) {
        if ((slot = ask_victim()) == 0)
            return;
        it.last_victim = it.slots.key[slot];
        if (it.modelled)
            same(it.last_victim, expected);
        evict(slot);
        if (it.broken != NULL)
            return;
    }
    if (it.modelled)
        same(it.last_victim, expected);
    verbs()->add(&it.policy, slots_take(&it.slots, it.policy.capacity, key),
                 &item);
}

static void remove_key(int key)
{
    verbs()->remove(&it.policy, (uint32_t)it.slots.of[key]);
    slots_free(&it.slots, (uint32_t)it.slots.of[key]);
    if (it.modelled)
        it.subject->model.remove(&it.model, key);
}

/* Does one operation, if it can be done in this state.  Returns false if not,
 * or if the policy is found broken, and may be. */
static bool step(enum operation operation, int argument)
{
    bool has_key = operation <= ADMIT;
    uint32_t slot = has_key ? (uint32_t)it.slots.of[argument] : 0;
    struct cache_item item;

    if (has_key && (operation == ADMIT) == (slot != 0) && operation != USE)
        return false;
    if ((operation == EXPIRE || operation == VICTIM) && it.slots.len == 0)
        return false;
    steps[n_steps % MAX_STEPS].operation = operation;
    steps[n_steps++ % MAX_STEPS].argument = argument;
    it.broken = NULL;
    it.last_victim = -1;
    if (has_key)
        item = model_item(&it.model, argument);
    switch (operation) {
    case USE:
        if (slot == 0) {
            insert(argument);
            break;
        }
        verbs()->hit(&it.policy, slot, item.hash);
        if (it.modelled)
            it.subject->model.hit(&it.model, argument);
        break;
    case REMOVE: remove_key(argument); break;
    case READD:
        verbs()->remove(&it.policy, slot);
        it.slots.len--;
        if (!verify())
            return false;
        it.slots.len++;
        verbs()->add(&it.policy, slot, &item);
        if (it.modelled) {
            it.subject->model.remove(&it.model, argument);
            it.model.again = true;
            same(it.subject->model.miss(&it.model, argument), -1);
            it.model.again = false;
        }
        break;
    case CHANGE:
        if (verbs()->change == cache__no_change)
            return false;
        it.model.changes[argument] =
            (unsigned char)((it.model.changes[argument] + 1) % 8);
        item = model_item(&it.model, argument);
        verbs()->change(&it.policy, slot, &item);
        if (it.modelled)
            it.subject->model.change(&it.model, argument);
        break;
    case ADMIT: verbs()->admit(&it.policy, &item); break;
    case EXPIRE:
        if ((slot = ask_victim()) != 0)
            remove_key(it.slots.key[slot]);
        break;
    case VICTIM: ask_victim(); break;
    case FULL: it.policy.full = (uint32_t)argument; break;
    }
    return it.broken == NULL && verify();
}

/* --- a state as bytes ---------------------------------------------------- */

static unsigned char *copy_at;
static bool copy_saves;

static void copy(void *what, size_t bytes)
{
    if (copy_saves)
        memcpy(copy_at, what, bytes);
    else
        memcpy(what, copy_at, bytes);
    copy_at += bytes;
}

/* Saves the state, or puts it back.  Returns its size. */
static size_t snapshot(unsigned char *bytes, bool save)
{
    struct model *m = &it.model;
    size_t keys = (size_t)it.n_keys, i;

    copy_at = bytes;
    copy_saves = save;
    copy(&it.policy, sizeof it.policy);
    copy(arena, verbs()->layout(it.policy.capacity));
    copy(&it.slots.len, sizeof it.slots.len);
    copy(&it.slots.fresh, sizeof it.slots.fresh);
    copy(&it.slots.n_free, sizeof it.slots.n_free);
    copy(it.slots.of, keys * sizeof *it.slots.of);
    copy(it.slots.key, (it.policy.capacity + 1) * sizeof *it.slots.key);
    copy(it.slots.free, it.slots.n_free * sizeof *it.slots.free);
    if (it.subject->model.init != NULL) {
        copy(m, offsetof(struct model, q));
        for (i = 0; i < COUNT_OF(m->q); i++) {
            copy(&m->q[i].n, sizeof m->q[i].n);
            copy(m->q[i].key, (size_t)m->q[i].n * sizeof *m->q[i].key);
        }
        copy(m->count, keys * sizeof *m->count);
        copy(m->when, keys * sizeof *m->when);
        if (it.subject->model.init == m_wtinylfu_init)
            copy(m->counter, (size_t)m_tiny_blocks(m) * sizeof *m->counter);
    }
    copy(m->changes, keys);
    return (size_t)(copy_at - bytes);
}

/* --- sequences checked by hand ------------------------------------------- */

/* A capital letter gets or inserts; a small one removes.  `victims` has one
 * character for each of `keys`: who had to leave, '.' = nobody. */
static const struct {
    int policy;
    uint32_t capacity;
    const char *keys, *victims;
} by_hand[] = {
    /* hits change nothing, order of arrival decides */
    { FIFO, 3, "ABCADBEA", "....A.BC" },
    /* a removal leaves room, so nobody has to leave */
    { FIFO, 2, "ABaCD", "....B" },

    /* the hit on A saves it */
    { LRU, 3, "ABCADBE", "....BCA" },
    { LRU, 2, "ABAbCD", ".....A" },
    /* an entry that comes back is new: not used */
    { LRU, 2, "ABaAC", "....B" },

    /* marked A is passed over and stands behind D then */
    { CLOCK, 3, "ABCADEFG", "....BCAD" },
    /* all marked: one full round, then the oldest leaves */
    { CLOCK, 3, "ABCABCDE", "......AB" },
    /* the newcomer is behind the hand, and its mark is looked at last */
    { CLOCK, 3, "ABCDDEFG", "...A.BCE" },
    /* D stands in the hole that B left, before C */
    { CLOCK, 3, "ABCbDEFG", ".....ADC" },
    /* the hole made last is filled first: D stands where B was */
    { CLOCK, 3, "ABCabDEFGH", ".......EDC" },

    /* marked A is passed over; the hand then goes on from C, not from A */
    { SIEVE, 3, "ABCADBE", "....BCD" },
    /* all marked: one full round, then the oldest leaves */
    { SIEVE, 3, "ABCABCDE", "......AB" },
    /* the hand stands on C when C is removed: it moves to the newer D */
    { SIEVE, 3, "ABCADcEF", "....B..D" },
    /* the newest leaves with the hand on it: back to the oldest */
    { SIEVE, 3, "ABCABDEF", ".....CAB" },
    /* the same by removals: F, then E, on which the hand stands */
    { SIEVE, 3, "ABCADBEFfeGHI", "....BCDB....A" },
    /* an entry that comes back is new: not marked */
    { SIEVE, 2, "AAaABC", ".....A" },

    /* C was used least, although it is the newest */
    { LFU, 3, "ABCBAD", ".....C" },
    /* equal uses: the least recently used leaves, not the first to come */
    { LFU, 2, "ABBAC", "....B" },
    /* three uses do not keep A for ever: each victim makes newcomers worth one
       more than the last, and D has as much as A */
    { LFU, 2, "AAABCDE", "....BCA" },
    /* the same, but A is used once more, on top of the age that is now 2 */
    { LFU, 2, "AAABCDAE", "....BC.D" },
    /* a removal is no victim: B's makes the cache no older, or A would leave
       for D */
    { LFU, 2, "AABbCDE", ".....CA" },
    /* what comes back begins with one use */
    { LFU, 2, "AAAaABBC", ".......A" },

    /* deadlines: F 5, B and D 10, A 20, H 30, G 40, C and E never */
    /* the soonest leaves, wherever it stands */
    { TTL, 3, "ABGFD", "...BF" },
    /* use saves nobody */
    { TTL, 2, "ABBBC", "....B" },
    /* what never expires leaves last ... */
    { TTL, 2, "CAGH", "..AG" },
    /* ... and in order of arrival, if there is nothing else */
    { TTL, 2, "CECGA", "...CG" },
    /* equal deadlines leave in order of arrival */
    { TTL, 2, "DBDAC", "...DB" },
    /* a newcomer may be the next to leave */
    { TTL, 2, "GAFBC", "..AFB" },
    /* what comes back has arrived anew: behind D */
    { TTL, 2, "BDbBA", "....D" },

    /* cost / weight: C 2, G 1 1/2, A, F and H 1, B 1/2, D 1/4, E 0 */
    /* the heaviest for its cost leaves, however new */
    { GDSF, 3, "ABDCF", "...DB" },
    /* uses multiply: B has 3/2 */
    { GDSF, 2, "BBBAC", "....A" },
    /* what costs nothing stays worth nothing, however much it is used */
    { GDSF, 2, "BEEEA", "....E" },
    /* equal keys: the least recently used leaves (F weighs 0: as if 1) */
    { GDSF, 2, "AFFAC", "....F" },
    /* C with its 2 is overtaken: B comes back at age 3/2, and has 2 as well */
    { GDSF, 2, "CBABA", "..BAC" },
    /* the same, but C is used once more: 3/2 + 2 x 2 */
    { GDSF, 2, "CBABCA", "..BA.B" },
    /* a removal makes the cache no older: B's would give A 3/2 as well, and G,
       used less recently, would leave */
    { GDSF, 2, "GBbAC", "....A" },

    /* the first four fill a segment each; who is new then leaves first */
    { SLRU, 4, "ABCDEFG", "....AEF" },
    /* a hit lifts A to where B is, and B falls to where A was */
    { SLRU, 4, "ABCDAEF", ".....BE" },
    /* a hit in the highest segment moves nobody else */
    { SLRU, 4, "ABCDDE", ".....A" },
    /* three hits lift A to the top, everybody else falls by one */
    { SLRU, 4, "ABCDAAAEEF", ".......B.C" },
    /* quarters of 2 are 1, 1, 0, 0: B cannot rise, A can */
    { SLRU, 2, "ABBC", "...A" },
    { SLRU, 2, "ABAC", "...B" },
    /* a newcomer takes the room that D left at the top, and stays */
    { SLRU, 4, "ABCDdEFG", "......AF" },
    /* two places each: who falls is the oldest, and is the newest below */
    { SLRU, 8, "ABCDEFGHCIJDIKL", ".........AB..JE" },
    /* the place that is left over of 5 is segment 0's: A and B start there */
    { SLRU, 5, "ABCDEBFG", "......AC" },

    /* a hit in A1in saves nobody */
    { TWO_Q, 4, "ABCDAE", ".....A" },
    /* A is remembered, goes to Am and outlives the newcomers */
    { TWO_Q, 4, "ABCDEAFGHA", "....ABCDE." },
    /* with one entry left A1in does not give: A and B leave Am; with two, E */
    { TWO_Q, 4, "ABCDEABCDFG", "....ABCDABE" },
    /* who leaves Am is forgotten: A begins anew in A1in and leaves that */
    { TWO_Q, 4, "ABCDEABCDAFG", "....ABCDABEA" },
    /* the hit in Am saves A, so B leaves it */
    { TWO_Q, 4, "ABCDEABCAD", "....ABCD.B" },
    /* A1out remembers two: B and C, so that A is new, and leaves with them */
    { TWO_Q, 4, "ABCDEFGAHIJK", "....ABCDEFGA" },
    /* a removed key is not remembered: A is new */
    { TWO_Q, 4, "ABCDaAEFGH", "......BCDA" },

    /* A and B were used twice: T1's newcomers push each other out */
    { ARC, 3, "AABBCDEFA", ".....CDE." },
    /* the hit saves A: T2 is an LRU */
    { ARC, 2, "AABBAC", ".....B" },
    /* B comes back from B1, so T1 may have one: T2 gives A, and B for D. Then
     * T1 is all there is: C leaves it unremembered, and comes back to T1 */
    { ARC, 2, "AABCBDECFG", "...BABCDEC" },
    /* the same, but B comes back from B2, so T1 gives: C, then D */
    { ARC, 2, "AABCBDBE", "...BABCD" },
    /* D comes back from B1: 1 + 2/1 for T1, which has two, so T2 gives C. A
     * comes back from B2: 2 for T1, a tie, and T1 gives E */
    { ARC, 3, "AABBCDCEFDA", ".....CABDCE" },
    /* with G there would be seven keys: A, the oldest of B2, is forgotten, is
     * new in T1, and leaves in its turn */
    { ARC, 3, "AABBCDCEFDGAHIJ", ".....CABDCDEFGA" },
    /* a removed key is not remembered: A is new */
    { ARC, 2, "ABaACD", "....BA" },

    /* a loop of four: A and B are LIR and stay, C and D take turns */
    { LIRS, 3, "ABCDABCDAB", "...C..DC.." },
    /* C comes back while it is in S: it becomes LIR for A, which leaves next,
     * and is not remembered because S ends above it: it leaves again for F */
    { LIRS, 3, "ABCDCEAF", "...CDAEA" },
    /* C is in S and used again: LIR, for A */
    { LIRS, 3, "ABCCD", "....A" },
    /* A, B, C are used after D and E: these are pruned from S. The hit on D
     * makes it the newest of Q and of S: E leaves, then D. D comes back while
     * it is in S, and is LIR for A: F, G, A leave */
    { LIRS, 5, "ABCDEABCDFGDHI", ".........EDFGA" },
    /* four ghosts for three entries: D to G, so that C is new, and leaves */
    { LIRS, 3, "ABCDEFGHCI", "...CDEFGHC" },
    /* but D is LIR, for A */
    { LIRS, 3, "ABCDEFGHDI", "...CDEFGHA" },
    /* half of the LIR are gone: the newcomer D is LIR */
    { LIRS, 3, "ABCaDEF", ".....CE" },
    /* one of three is gone: the newcomer F is not LIR, and leaves in turn */
    { LIRS, 5, "ABCDEaFGHI", ".......DEF" },
    /* but D, used while it is in S, is LIR without anybody losing the place */
    { LIRS, 5, "ABCDEaDFGH", "........EF" },

    /* one hit does not keep A, two lead it to main, and B leaves */
    { S3FIFO, 4, "ABCDAE", ".....A" },
    { S3FIFO, 4, "ABCDAAE", "......B" },
    /* the ghost of A leads it to main at once: who came later leaves first */
    { S3FIFO, 4, "ABCDEAFGHI", "....ABCDEF" },
    /* the ghost of A is as old as main is long, and it is one older */
    { S3FIFO, 4, "ABCDEFAGHIJ", "....ABCDEFG" },
    { S3FIFO, 4, "ABCDEFGAHIJK", "....ABCDEFGA" },
    /* all four in main, then three and E; E comes back to main and makes it
     * too long: main gives the victim B */
    { S3FIFO, 4, "ABCDAABBCCDDEFEG", "............AEFB" },
    /* the same, but the mark of B is one more round, and C leaves */
    { S3FIFO, 4, "ABCDAABBCCDDEBFEG", "............A.EFC" },
    /* the mark that E had when it left is forgotten: no second round in main */
    { S3FIFO, 4, "ABCDAABBCCDDEEFEGHIHJIKLKM", "............A.EFBGHICJDKLE" },
    /* who was removed has no ghost: A starts in small again */
    { S3FIFO, 4, "ABCDaEAFGHI", "......BCDEA" },

    /* D in the window is used as often as A in main: A stays */
    { WTINYLFU, 4, "ABCDEF", "....DE" },
    /* D is used once more: A leaves */
    { WTINYLFU, 4, "ABCDDE", ".....A" },
    /* the hit on A protects it, the contest is with B */
    { WTINYLFU, 4, "ABCDDAE", "......B" },
    /* B and C are protected: E takes the place of D, which is newer */
    { WTINYLFU, 4, "ABCDDBCEEEF", ".......A..D" },
    /* the sketch still knows D when it comes back */
    { WTINYLFU, 4, "ABCDEDF", "....DEA" },
    /* two of main are protected: C makes A fall, and D meets it with 2 to 2 */
    { WTINYLFU, 4, "ABCDDABCE", "........D" },
    /* where A was there is room: D enters main without a contest */
    { WTINYLFU, 4, "ABCDaEF", "......E" },
    /* a window of two is an LRU: P is older than O, which was used */
    { WTINYLFU, 16, "ABCDEFGHIJKLMNOPOQ", ".................P" },
};

static void by_hand_row(int policy, uint32_t capacity, const char *keys,
                        const char *victims)
{
    size_t k;

    CHECK_EQ(strlen(keys), strlen(victims));
    start(&subjects[policy], capacity, 128, 1, 0xa5);
    model_seed = 0;
    for (k = 0; keys[k]; k++) {
        bool small = keys[k] >= 'a';
        char victim = '.';

        CHECK(
            step(small ? REMOVE : USE, small ? keys[k] - 'a' + 'A' : keys[k]));
        if (it.last_victim >= 0)
            victim = (char)it.last_victim;
        if (victim != victims[k])
            printf("%s at capacity %u: %s, step %zu: %c leaves\n",
                   verbs()->name, (unsigned)capacity, keys, k + 1, victim);
        CHECK_EQ(victim, victims[k]);
    }
}

static void sequences_checked_by_hand(void)
{
    size_t i;
    int policy;

    for (i = 0; i < COUNT_OF(by_hand); i++)
        by_hand_row(by_hand[i].policy, by_hand[i].capacity, by_hand[i].keys,
                    by_hand[i].victims);
    /* at capacity 1 every policy is the same */
    for (policy = 0; policy < N_SUBJECTS; policy++) {
        by_hand_row(policy, 1, "AABCCA", "..AB.C");
        by_hand_row(policy, 1, "AaBBbAC", "......A");
    }
}

/* --- every short sequence ------------------------------------------------ */

/*
 * A key's item is a fixed function of its number, and policy and model are
 * given the same.  So the names of the keys matter little, and it is enough to
 * walk the sequences in which each key that is new is the next one.
 */
struct walk {
    bool removals; /* also remove each key that is present */
    long sequences;
};

static unsigned char walk_states[9][MAX_SNAPSHOT];

static void walk_all(struct walk *w, int steps_left, int keys_known)
{
    unsigned char *state = walk_states[steps_left];
    unsigned n = n_steps;
    int key;

    if (steps_left == 0) {
        w->sequences++;
        return;
    }
    CHECK(snapshot(state, true) <= MAX_SNAPSHOT);
    for (key = 0; key <= keys_known && key < it.n_keys; key++) {
        step(USE, key);
        walk_all(w, steps_left - 1, keys_known + (key == keys_known));
        snapshot(state, false);
        n_steps = n;
        if (w->removals && step(REMOVE, key)) {
            walk_all(w, steps_left - 1, keys_known);
            snapshot(state, false);
            n_steps = n;
        }
    }
}

static void walk_each_policy(int keys, int n, bool removals)
{
    uint32_t capacity;
    int policy;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (capacity = 1; capacity <= 4; capacity++) {
            struct walk w = { removals, 0 };

            start(&subjects[policy], capacity, keys, 1, 0xa5);
            walk_all(&w, n, 0);
            CHECK(w.sequences > 1000);
            if (!removals) /* the number depends on nothing else */
                CHECK_EQ(w.sequences, 4111);
        }
}

static void every_sequence_of_8_over_6_keys(void)
{
    walk_each_policy(6, 8, false);
}

static void every_sequence_of_7_with_removals(void)
{
    walk_each_policy(5, 7, true);
}

/* --- every reachable state ----------------------------------------------- */

static struct {
    unsigned char *bytes; /* of all states, one after the other */
    size_t used, room;
    struct closure_state {
        size_t at;
        uint64_t hash;
        uint32_t from;    /* the state before */
        unsigned char by; /* the step that led here */
        unsigned char argument;
    } * states;
    uint32_t n, max;
    uint32_t *table; /* by hash: 1 + a state, 0 = none */
    uint32_t mask;
} closure;

static uint64_t hash_bytes(const unsigned char *bytes, size_t n)
{
    uint64_t hash = n, word;

    for (; n >= 8; bytes += 8, n -= 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    for (; n > 0; n--)
        hash = (hash ^ *bytes++) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* Keeps the state that is, if it has not been seen. */
static bool closure_add(uint32_t from, int by, int argument)
{
    struct closure_state *new_state;
    uint32_t at;

    if (closure.room - closure.used < MAX_SNAPSHOT) {
        closure.room = 2 * closure.room + MAX_SNAPSHOT;
        closure.bytes = (unsigned char *)realloc(closure.bytes, closure.room);
        CHECK(closure.bytes != NULL);
    }
    new_state = &closure.states[closure.n];
    new_state->at = closure.used;
    closure.used += snapshot(closure.bytes + new_state->at, true);
    new_state->hash =
        hash_bytes(closure.bytes + new_state->at, closure.used - new_state->at);
    for (at = (uint32_t)new_state->hash & closure.mask; closure.table[at] != 0;
         at = (at + 1) & closure.mask)
        if (closure.states[closure.table[at] - 1].hash == new_state->hash) {
            closure.used = new_state->at;
            return false;
        }
    closure.table[at] = ++closure.n;
    new_state->from = from;
    new_state->by = (unsigned char)by;
    new_state->argument = (unsigned char)argument;
    return true;
}

/* So that tell() knows how this state came about. */
static void closure_tell_path(uint32_t state)
{
    if (state == 0) {
        n_steps = 0;
        return;
    }
    closure_tell_path(closure.states[state].from);
    steps[n_steps % MAX_STEPS].operation =
        (enum operation)closure.states[state].by;
    steps[n_steps++ % MAX_STEPS].argument = closure.states[state].argument;
}

/* However it came about: all can be evicted, each once. */
static void closure_drain(void)
{
    while (it.slots.len > 0)
        evict(ask_victim());
}

/* Visits every state that these operations lead to, breadth first, but not
 * more than `max`. Returns whether these were all. */
static bool closure_visit(const struct subject *subject, uint32_t capacity,
                          int keys, bool loose, uint32_t max)
{
    uint32_t state;
    int operation, argument, n;

    start(subject, capacity, keys, 1, 0);
    it.modelled = it.modelled && !loose;
    closure.n = 0;
    closure.used = 0;
    memset(closure.table, 0, (closure.mask + 1) * sizeof *closure.table);
    closure_add(0, USE, 0);
    for (state = 0; state < closure.n; state++) {
        const struct closure_state *s = &closure.states[state];
        closure_tell_path(state);
        for (operation = USE; operation <= (loose ? FULL : REMOVE);
             operation++) {
            n = operation <= ADMIT  ? keys
                : operation == FULL ? (int)capacity
                                    : 1;
            for (argument = 0; argument < n; argument++) {
                unsigned n_before = n_steps;
                snapshot(closure.bytes + s->at, false);
                if (step((enum operation)operation,
                         argument + (operation == FULL)) &&
                    closure_add(state, operation,
                                argument + (operation == FULL)) &&
                    loose)
                    closure_drain();
                n_steps = n_before;
                if (closure.n == max)
                    return false;
            }
        }
    }
    return true;
}

static void closure_of_each_policy(bool loose)
{
    static const struct {
        uint32_t capacity;
        int keys;
    } sizes[] = { { 1, 3 }, { 2, 4 }, { 3, 5 } };
    uint32_t max = 20000 * (uint32_t)test_scale();
    int policy;
    size_t i;

    closure.max = max;
    for (closure.mask = 1; closure.mask < 2 * max;)
        closure.mask = 2 * closure.mask + 1;
    closure.states =
        (struct closure_state *)malloc((max + 1) * sizeof *closure.states);
    closure.table =
        (uint32_t *)malloc((closure.mask + 1) * sizeof *closure.table);
    CHECK(closure.states != NULL && closure.table != NULL);
    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (i = 0; i < COUNT_OF(sizes); i++) {
            bool part = subjects[policy].traits & HAS_CLOCK;
            bool all =
                closure_visit(&subjects[policy], sizes[i].capacity,
                              sizes[i].keys, loose, part ? max / 10 : max);
            printf("%s%s%u%s", i == 0 ? verbs()->name : "",
                   all ? ": all " : ": the first ", (unsigned)closure.n,
                   i + 1 < COUNT_OF(sizes) ? "" : " states\n");
        }
    free(closure.states);
    free(closure.table);
    free(closure.bytes);
    memset(&closure, 0, sizeof closure);
}

static void every_reachable_state(void)
{
    closure_of_each_policy(false);
}

static void every_state_of_an_unruly_cache(void)
{
    closure_of_each_policy(true);
}

/* --- long random sequences ----------------------------------------------- */

static uint32_t below(uint64_t *random, uint32_t n)
{
    return (uint32_t)((test_random(random) >> 32) % n);
}

/* A few keys are used often, as in life. */
static int some_key(uint64_t *random)
{
    uint32_t n = below(random, (uint32_t)it.n_keys) + 1;

    return (int)(below(random, 2) ? below(random, n) : n - 1);
}

static void random_sequences(void)
{
    static const enum operation rare[] = { REMOVE, REMOVE, CHANGE, READD };
    static const uint32_t capacities[] = { 1,  2,  3,  4,  5,  7,
                                           10, 31, 32, 33, 63, 200 };
    uint64_t random = test_seed;
    long n, n_steps_each = 3000 * test_scale();
    size_t i;
    int policy, key;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (i = 0; i < COUNT_OF(capacities); i++) {
            uint32_t removals = 4u << below(&random, 6), r;

            start(&subjects[policy], capacities[i],
                  (int)(2 * capacities[i] + below(&random, 3)), 1, 0xa5);
            for (n = 0; n < n_steps_each; n++) {
                key = some_key(&random);
                if (below(&random, removals) == 0)
                    step(rare[below(&random, COUNT_OF(rare))], key);
                else
                    for (r = below(&random, 128) ? 1 : 70; r > 0; r--)
                        step(USE, key); /* seldom so often that counters end */
            }
            for (key = 0; key < it.n_keys; key++) /* and all can leave */
                step(REMOVE, key);
            same(it.slots.len, 0);
        }
}

/* Clocks, ages and turns that have gone far already: they go round, and nothing
 * is seen of it. */
static void clocks_go_round(void)
{
    static const int policies[] = { TTL, GDSF, GDSF, S3FIFO };
    uint64_t random = test_seed;
    uint32_t capacity;
    size_t i;
    int n;

    for (i = 0; i < COUNT_OF(policies); i++)
        for (capacity = 1; capacity <= 20; capacity++) {
            start(&subjects[policies[i]], capacity, (int)(2 * capacity + 1), 1,
                  0xa5);
            switch (i) {
            case 0:
                ((struct cache_ttl *)it.policy.memory)->heap.turn =
                    UINT32_MAX - 100;
                break;
            case 1:
                ((struct cache_gdsf *)it.policy.memory)->heap.turn =
                    UINT32_MAX - 100;
                break;
            case 2: /* the age in the middle of all keys is the last one */
                ((struct cache_gdsf *)it.policy.memory)->age =
                    ((uint64_t)1 << 63) - ((uint64_t)1 << 31);
                break;
            case 3:
                ((struct cache_s3fifo *)it.policy.memory)->n_left = 65500;
                break;
            }
            for (n = 0; n < 1000; n++) {
                int key = some_key(&random);
                if (below(&random, 16) == 0)
                    step(below(&random, 2) ? REMOVE : CHANGE, key);
                else
                    step(USE, key);
            }
        }
}

/* W-TinyLFU's window near both of its ends, on its way there and away. */
static void the_window_climbs(void)
{
    static const int shares[] = { CACHE__TINY_STEP - 1, 61000 };
    struct cache_wtinylfu *s = (struct cache_wtinylfu *)(void *)arena;
    uint64_t random = test_seed;
    int i, n;

    for (i = 0; i < 4; i++) {
        start(&subjects[WTINYLFU], 150, 301, 1, 0xa5);
        s->share = shares[i / 2];
        s->step = i % 2 ? -CACHE__TINY_STEP : CACHE__TINY_STEP;
        it.model.tiny.share = s->share;
        it.model.tiny.step = s->step;
        for (n = 0; n < 6000; n++) { /* a loop, and then from it a little */
            step(USE, n / 2000 % 2 ? some_key(&random) : n % 301);
            same(s->share, it.model.tiny.share);
            same(s->step, it.model.tiny.step);
        }
    }
}

/* Ghosts that are found by the whole hash are not found by half of it. */
static void halves_of_a_hash(void)
{
    uint64_t random = test_seed;
    int policy, half, n, key;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (half = 0; half < 2; half++) {
            start(&subjects[policy], 10, 30, 1, 0xa5);
            if (!verbs()->needs_whole_hash)
                continue;
            model_mask = (uint64_t)UINT32_MAX << 32 * half;
            for (n = 0; n < 2000; n++) {
                key = some_key(&random);
                if (below(&random, 16) != 0 || !step(REMOVE, key))
                    step(USE, key);
            }
        }
}

/* A policy that is laid out for more entries than the cache is to have. */
static void full_is_what_counts(void)
{
    uint64_t random = test_seed;
    int policy, n, key;
    uint32_t full;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (full = 1; full <= 12; full++) {
            /* also so small a part that W-TinyLFU halves a block each time */
            start(&subjects[policy], full < 3 ? 200 : 12, 30, 1, 0xa5);
            it.policy.full = full;
            it.model.capacity = (int)full;
            if (it.modelled)
                it.subject->model.init(&it.model);
            for (n = 0; n < 1000; n++) {
                key = some_key(&random);
                if (below(&random, 16) != 0 || !step(REMOVE, key))
                    step(USE, key);
            }
        }
}

/* Entries that grow, pins, limits in bytes, expiry: no model says who has to
 * leave, but somebody can, all are found once, and check() has nothing to say.
 */
static void unruly_sequences(void)
{
    static const uint32_t capacities[] = { 1, 2, 3, 10, 33, 100 };
    uint64_t random = test_seed;
    long n, n_steps_each = 4000 * test_scale();
    uint32_t r;
    size_t i;
    int policy;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (i = 0; i < COUNT_OF(capacities); i++) {
            start(&subjects[policy], capacities[i], (int)(3 * capacities[i]), 1,
                  0xa5);
            it.modelled = false;
            for (n = 0; n < n_steps_each; n++) {
                r = below(&random, 64);
                if (r <= FULL && r != FULL)
                    step((enum operation)r, some_key(&random));
                else if (r == FULL)
                    step(FULL, (int)below(&random, capacities[i]) + 1);
                else
                    step(USE, some_key(&random));
            }
            while (it.slots.len > 0)
                evict(ask_victim());
        }
}

/* A key that is remembered was to come, but it does not: who comes in its place
 * is not taken for it. */
static void an_admit_without_add_does_no_harm(void)
{
    static const int policies[] = { TWO_Q, ARC, LIRS };
    size_t i;
    int key;

    for (i = 0; i < COUNT_OF(policies); i++) {
        start(&subjects[policies[i]], 4, 6, 1, 0xa5);
        it.modelled = false;
        step(USE, 0); /* and again: the others remain alone in ARC's T1 */
        for (key = 0; key < 5; key++)
            step(USE, key);
        for (key = 0; it.slots.of[key] != 0; key++)
            ;
        step(ADMIT, key); /* the one that left */
        step(READD, 4);
        CHECK(!cache__bit(it.policy.marks, (uint32_t)it.slots.of[4]));
        step(ADMIT, key);
        step(USE, 5);
        CHECK(!cache__bit(it.policy.marks, (uint32_t)it.slots.of[5]));
    }
}

/* ADAPTIVE has decided that the key of an admit goes to main; another comes. */
static void what_was_admitted_is_known_by_its_hash(void)
{
    struct cache_adaptive *s = (struct cache_adaptive *)(void *)arena;
    int key;

    start(&subjects[ADAPTIVE], 4, 6, 1, 0xa5);
    for (key = 0; key < 4; key++)
        step(USE, key);
    s->coming = s->to_main = true;
    s->coming_hash = 1; /* of nobody here */
    step(READD, 3);
    CHECK(!cache__bit(s->in_main, (uint32_t)it.slots.of[3]));
    CHECK(!s->coming && !s->to_main);
}

static void segments_are_short(int policy, uint32_t full)
{
    const void *memory = arena;
    uint32_t i;

    if (policy == SLRU) {
        const struct cache_slru *s = (const struct cache_slru *)memory;
        for (i = 1; i < CACHE__SLRU_SEGMENTS; i++)
            CHECK(s->n[i] <= cache__slru_limit(full, i));
    } else if (policy == TWO_Q) {
        const struct cache_2q *s = (const struct cache_2q *)memory;
        CHECK(cache__dir_len(&s->gone) <= cache__2q_share_out(full));
    } else if (policy == ARC) {
        const struct cache_arc *s = (const struct cache_arc *)memory;
        CHECK(s->here.len[0] + s->gone.lists.len[0] <= full);
        CHECK(cache__dir_len(&s->gone) + it.slots.len <= 2 * full);
    } else if (policy == LIRS) {
        const struct cache_lirs *s = (const struct cache_lirs *)memory;
        CHECK(s->n_lir <= cache__lirs_share(full));
        CHECK(cache__dir_len(&s->gone) <= cache__lirs_ghosts(full));
    } else if (policy == S3FIFO) {
        const struct cache_s3fifo *s = (const struct cache_s3fifo *)memory;
        CHECK(s->n_main <= full - cache__s3fifo_small_share(&it.policy) + 1);
    } else if (policy == WTINYLFU) {
        const struct cache_wtinylfu *s = (const struct cache_wtinylfu *)memory;
        uint32_t window = cache__tiny_window(&it.policy);
        CHECK(s->n[CACHE__TINY_WINDOW] <= window);
        CHECK(cache__tiny_main(s) <= full - window);
        CHECK(s->n[CACHE__TINY_PROTECTED] <= cache__tiny_protected(&it.policy));
    }
}

/* What is too long when `full` falls, gets shorter as others leave; what is
 * remembered, as others are. */
static void segments_follow_full(void)
{
    uint64_t random = test_seed;
    uint32_t full, i;
    int policy, n;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (full = 1; full <= 30; full++) {
            start(&subjects[policy], 30, 70, 1, 0xa5);
            it.modelled = false;
            for (n = 0; n < 600; n++) {
                if (n == 300)
                    step(FULL, (int)full);
                step(USE, n / 150 % 2 ? n % 70 : some_key(&random));
                if (n == 150) /* all are used: what can be long, is */
                    for (i = 0; i < 5u * 70; i++)
                        if (it.slots.of[i % 70] != 0)
                            step(USE, (int)(i % 70));
            }
            for (n = 0; it.slots.of[n] != 0; n++)
                ;
            step(USE, n); /* who comes brings what climbed in order */
            same(it.slots.len, full);
            segments_are_short(policy, full);
        }
}

/* Of a key that comes many have to leave, and more ghosts than one have to be
 * forgotten. */
static void lirs_forgets_several_at_once(void)
{
    const struct cache_lirs *s = (const struct cache_lirs *)(void *)arena;
    uint32_t full;
    int key;

    for (full = 1; full < 30; full++) {
        start(&subjects[LIRS], 30, 100, 1, 0xa5);
        it.modelled = false;
        for (key = 0; key < 80; key++)
            step(USE, key);
        CHECK_EQ(cache__dir_len(&s->gone), cache__lirs_ghosts(30));
        step(FULL, (int)full);
        step(USE, key);
        same(it.slots.len, full);
        CHECK(cache__dir_len(&s->gone) <= cache__lirs_ghosts(full));
    }
}

/* T1 has had the whole cache as its target, and the cache gets smaller: T1
 * gives all the same while it is longer than that, and learns no more. */
static void the_target_of_arc_follows_full(void)
{
    struct cache_arc *s = (struct cache_arc *)(void *)arena;
    int key;

    start(&subjects[ARC], 8, 10, 1, 0xa5);
    it.modelled = false;
    for (key = 0; key < 8; key++)
        step(USE, key);
    step(USE, 0); /* T2 has this one alone */
    s->target = 8;
    step(FULL, 6);
    CHECK_EQ(it.slots.key[ask_victim()], 1);
    step(EXPIRE, 0);
    CHECK_EQ(it.slots.key[ask_victim()], 0); /* T1 has six */

    start(&subjects[ARC], 8, 10, 1, 0xa5);
    it.modelled = false;
    for (key = 0; key < 8; key++)
        step(USE, key);
    step(USE, 0);
    step(USE, 8); /* 1 is in B1 */
    CHECK_EQ(it.last_victim, 1);
    s->target = 8;
    step(FULL, 6);
    step(ADMIT, 1);
    CHECK(s->from == CACHE__ARC_B1 && s->target <= 6);
}

/* --- S3-FIFO in a large cache --------------------------------------------
 * Its clock ticks once for several ghosts there.  The hashes fill the sets
 * evenly, so that age alone forgets a ghost. */

enum {
    LARGE = 4 * CACHE__S3FIFO_TICKS, /* a capacity has as many as it may */
    LARGE_TICK = LARGE / CACHE__S3FIFO_TICKS,
    LARGE_SETS = LARGE / CACHE__GHOST_WAYS,
    LARGE_YOUNG = LARGE - LARGE / 10, /* so old a ghost still counts */
    LARGE_IDLE = 16, /* the first keys: they have four sets for themselves */
    LARGE_KEYS = LARGE_IDLE * LARGE + LARGE / 8
};

static struct {
    struct cache_policy policy;
    uint32_t n_slots, free;            /* that there were so far; 0 = none */
    uint32_t key_in[LARGE + 1];        /* by slot */
    uint32_t n_left, left[LARGE_KEYS]; /* keys, in the order they left */
    uint32_t returned[LARGE_KEYS / 32 + 1]; /* bits, by key */
} large;

static uint64_t large_hash(uint32_t key)
{
    uint32_t first = LARGE_IDLE / 4, others = LARGE_SETS - first;
    uint32_t set = key < LARGE_IDLE ? key / 4 : first + key % others;
    uint32_t nth = key < LARGE_IDLE ? key % 4 : key / others;

    /* the lowest bit of a fingerprint does not count */
    return ((uint64_t)set * (UINT32_MAX / LARGE_SETS + 1) + 2 * nth) << 32;
}

/* A key that is absent comes.  Returns its slot. */
static uint32_t large_use(uint32_t key)
{
    struct cache_item item = { large_hash(key), 1, 1, 0 };
    uint32_t slot = large.free, gone;

    cache_s3fifo.admit(&large.policy, &item);
    if (slot == 0 && large.n_slots == LARGE) {
        slot = cache_s3fifo.victim(&large.policy);
        gone = large.key_in[slot];
        large.left[large.n_left++] = gone;
        cache_s3fifo.evict(&large.policy, slot, large_hash(gone));
    } else if (slot == 0) {
        slot = ++large.n_slots;
    }
    large.free = 0;
    large.key_in[slot] = key;
    cache_s3fifo.add(&large.policy, slot, &item);
    return slot;
}

/* The key that was the nth to leave comes back: to main, if its ghost is young
 * enough.  Then it is removed, so that main is empty again. */
static void large_return(uint32_t nth)
{
    const struct cache_s3fifo *s =
        (const struct cache_s3fifo *)large.policy.memory;
    uint32_t slot = large_use(large.left[nth]), age = large.n_left - nth;
    bool in_main = cache__bit(s->in_main, slot);

    cache_s3fifo.remove(&large.policy, slot);
    large.free = slot;
    if (age > LARGE_YOUNG - LARGE_TICK && age < LARGE_YOUNG + LARGE_TICK)
        return;
    if (in_main != (age <= LARGE_YOUNG))
        printf("who left %u ago comes back to %s\n", (unsigned)age,
               in_main ? "main" : "small");
    CHECK(in_main == (age <= LARGE_YOUNG));
}

/* And the idle keys come back after up to 15 capacities: none is taken for a
 * younger one, although the clock has 16 bits only. */
static void ghosts_of_a_large_cache(void)
{
    uint64_t random = test_seed;
    uint32_t key, nth, n_left, age;

    memset(&large, 0, sizeof large);
    large.policy.capacity = large.policy.full = LARGE;
    large.policy.memory = calloc(1, cache_s3fifo.layout(LARGE));
    CHECK(large.policy.memory != NULL);
    large.policy.zeroed = true;
    cache_s3fifo.init(&large.policy, 1);
    for (key = LARGE_IDLE; key < LARGE_KEYS; key++) {
        large_use(key);
        if (key % LARGE == LARGE / 4)
            large_use(key / LARGE);
        if (key % 32 != 0 || large.n_left <= LARGE)
            continue;
        age = key % 128 ? below(&random, LARGE)
                        : LARGE_YOUNG - 16 + below(&random, 32);
        nth = large.n_left - 1 - age;
        if (large.left[nth] < LARGE_IDLE ||
            cache__bit(large.returned, large.left[nth]))
            continue;
        cache__bit_set(large.returned, large.left[nth]);
        large_return(nth);
    }
    n_left = large.n_left;
    for (nth = 0; nth < n_left; nth++)
        if (large.left[nth] < LARGE_IDLE)
            large_return(nth);
    CHECK_SOUND(cache_s3fifo.check(&large.policy, LARGE - 1));
    free(large.policy.memory);
}

/* --- the same again ------------------------------------------------------ */

/* The victims of a fixed sequence, as one number. */
static uint64_t victims_of(const struct subject *subject, uint64_t seed,
                           int fill)
{
    uint64_t random = 77, victims = 0;
    int n;

    start(subject, 10, 25, seed, fill);
    for (n = 0; n < 2000; n++) {
        int key = some_key(&random);
        if (below(&random, 16) != 0 || !step(REMOVE, key))
            step(USE, key);
        victims = (victims ^ (uint64_t)(it.last_victim + 1)) * 1000003u;
        victims ^= victims >> 31;
    }
    return victims;
}

/* Neither what the memory held nor that it is said to be zeroed counts. */
static void the_same_seed_gives_the_same_victims(void)
{
    int policy;

    for (policy = 0; policy < N_SUBJECTS; policy++) {
        const struct subject *s = &subjects[policy];
        uint64_t seed, victims;

        for (seed = 0; seed < 10; seed++) {
            victims = victims_of(s, seed, 0xa5);
            CHECK_EQ(victims_of(s, seed, 0xa5), victims);
            CHECK_EQ(victims_of(s, seed, seed % 2 ? 0xff : 0x5a), victims);
            CHECK_EQ(victims_of(s, seed, 0), victims);
        }
    }
}

/* Chi-square of the victims of one seed; about as much as there are entries. */
static double random_uniformity(uint64_t seed, uint32_t capacity, uint32_t len)
{
    static int evicted[MAX_CAPACITY + 1];
    const int rounds = 400;
    double expected, sum = 0;
    uint32_t slot;
    int key, n;

    memset(evicted, 0, sizeof evicted);
    start(&subjects[RANDOM], capacity, MODEL_KEYS, seed, 0xa5);
    for (key = 0; key < (int)capacity; key++)
        step(USE, key);
    for (key = 0; it.slots.len > len; key += 3) /* holes, some large ones */
        step(REMOVE, key % (int)capacity);
    for (n = 0; n < rounds * (int)len; n++) {
        slot = ask_victim();
        key = it.slots.key[slot];
        evicted[slot]++;
        evict(slot);
        step(USE, key);
    }
    expected = rounds;
    for (slot = 1; slot <= capacity; slot++)
        if (it.slots.key[slot] >= 0)
            sum += (evicted[slot] - expected) * (evicted[slot] - expected);
        else
            CHECK_EQ(evicted[slot], 0);
    return sum / expected;
}

/* Any entry is as likely as any other, in a full cache or among holes. */
static void random_is_uniform(void)
{
    static const struct {
        uint32_t capacity, len;
    } sizes[] = { { 2, 2 },     { 10, 10 },  { 10, 3 },
                  { 100, 100 }, { 200, 12 }, { 1300, 40 } };
    double sum, all = 0, freedom = 0;
    uint64_t seed;
    size_t i;

    for (i = 0; i < COUNT_OF(sizes); i++)
        for (seed = 0; seed < 4; seed++) {
            sum = random_uniformity(seed, sizes[i].capacity, sizes[i].len);
            if (sum > 3 * sizes[i].len + 10)
                printf("seed %d, %u of %u: chi-square %.1f\n", (int)seed,
                       (unsigned)sizes[i].len, (unsigned)sizes[i].capacity,
                       sum);
            CHECK(sum < 3 * sizes[i].len + 10);
            all += sum;
            freedom += sizes[i].len - 1;
        }
    CHECK(all > freedom * 0.7 && all < freedom * 1.3);
    CHECK(victims_of(&subjects[RANDOM], 1, 0) !=
          victims_of(&subjects[RANDOM], 2, 0));
}

static void layout_keeps_its_promise(void)
{
    static const uint32_t capacities[] = {
        1,  2,  3,  4,   5,    7,     10,    31,      32,      33,
        63, 64, 65, 100, 1000, 65535, 65536, 1000000, 1 << 24, 1 << 28
    };
    size_t i, bytes, before;
    int policy;

    for (policy = 0; policy < N_SUBJECTS; policy++)
        for (i = 0, before = 1; i < COUNT_OF(capacities); i++, before = bytes) {
            it.subject = &subjects[policy];
            bytes = verbs()->layout(capacities[i]);
            if (bytes < before || bytes > (size_t)64 * capacities[i] + 65536)
                printf("%s: %zu bytes for %u\n", verbs()->name, bytes,
                       (unsigned)capacities[i]);
            CHECK(bytes >= before);
            CHECK(bytes <= (size_t)64 * capacities[i] + 65536);
        }
}

static void names_are_given_once(void)
{
    int a, b;
    const char *at;

    for (a = 0; a < N_SUBJECTS; a++) {
        for (at = subjects[a].verbs->name; *at; at++)
            CHECK((*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9'));
        for (b = 0; b < a; b++)
            CHECK(strcmp(subjects[a].verbs->name, subjects[b].verbs->name));
    }
}

/* --- check --------------------------------------------------------------- */

/* The policy holds some entries, some of them used, and has evicted others. */
static void populate(const struct subject *subject)
{
    uint64_t random = 5;
    int n;

    start(subject, 6, 15, 1, 0);
    for (n = 0; n < 60; n++)
        step(USE, some_key(&random));
    for (n = 0; it.slots.len > 5; n++)
        step(REMOVE, n);
}

/* It goes on as if nothing had happened. Returns false if check() has found
 * out; a victim that is not here has failed by then. */
static bool goes_on(int n, uint64_t seed)
{
    uint64_t random = seed;

    while (n-- > 0) {
        int key = some_key(&random);
        enum operation operation = below(&random, 8) == 0 ? REMOVE : USE;
        if (!step(operation, key) && it.broken != NULL)
            return false;
    }
    return true;
}

/* What init alone sets and check() takes as given; and a bool, which holds
 * nothing but 0 and 1 for the compiler. */
static const struct {
    int policy;
    size_t at, bytes;
} fixed[] = {
    { TWO_Q, offsetof(struct cache_2q, here.n), 4 },
    { TWO_Q, offsetof(struct cache_2q, gone.lists.n), 4 },
    { TWO_Q, offsetof(struct cache_2q, back), 1 },
    { ARC, offsetof(struct cache_arc, here.n), 4 },
    { ARC, offsetof(struct cache_arc, gone.lists.n), 4 },
    { LIRS, offsetof(struct cache_lirs, gone.lists.n), 4 },
    { LIRS, offsetof(struct cache_lirs, back), 1 },
    { LIRS, offsetof(struct cache_lirs, settled), 1 },
    { S3FIFO, offsetof(struct cache_s3fifo, shift), 4 },
    { S3FIFO, offsetof(struct cache_s3fifo, ghosts.n_sets), 4 },
    { WTINYLFU, offsetof(struct cache_wtinylfu, n_blocks), 4 },
    { ADAPTIVE, offsetof(struct cache_adaptive, shift), 4 },
    { ADAPTIVE, offsetof(struct cache_adaptive, ghosts.n_sets), 4 },
    { ADAPTIVE, offsetof(struct cache_adaptive, coming), 1 },
    { ADAPTIVE, offsetof(struct cache_adaptive, to_main), 1 },
};

/* The byte belongs to a pointer into the policy's memory, or is fixed. */
static bool is_fixed(int policy, size_t byte, size_t bytes)
{
    uintptr_t word, memory = (uintptr_t)arena;
    size_t at = byte - byte % sizeof word, i;

    for (i = 0; i < COUNT_OF(fixed); i++)
        if (fixed[i].policy == policy && byte >= fixed[i].at &&
            byte < fixed[i].at + fixed[i].bytes)
            return true;
    if (at + sizeof word > bytes)
        return false;
    memcpy(&word, arena + at, sizeof word);
    return word - memory < bytes;
}

/* Memory that a program overwrote: what check() does not find, must be
 * harmless. */
static void check_finds_what_is_broken(void)
{
    static const unsigned char masks[] = { 0x01, 0x02, 0x08, 0x80, 0xff };
    static unsigned char state[MAX_SNAPSHOT];
    int policy;

    for (policy = 0; policy < N_SUBJECTS; policy++) {
        const struct subject *s = &subjects[policy];
        size_t byte, bytes, i, found = 0, tried = 0;
        uint32_t hand, slot;

        populate(s);
        CHECK(verbs()->check(&it.policy, it.slots.len - 1) != NULL);
        CHECK(verbs()->check(&it.policy, it.slots.len + 1) != NULL);
        bytes = verbs()->layout(it.policy.capacity);
        snapshot(state, true);
        may_complain = true;
        it.modelled = it.modelled && (s->traits & SEES_ALL);
        for (byte = 0; byte < bytes; byte++) {
            if (is_fixed(policy, byte, bytes))
                continue;
            for (i = 0; i < COUNT_OF(masks); i++) {
                arena[byte] ^= masks[i];
                tried++;
                if (!verify()) {
                    found++;
                } else if (!goes_on(40, byte + 1)) {
                    CHECK(!(s->traits & SEES_ALL)); /* at once or never */
                    found++;
                }
                snapshot(state, false);
            }
        }
        it.modelled = false;
        for (slot = 1; slot <= it.policy.capacity; slot++)
            if (it.slots.key[slot] >= 0 && (s->traits & MARKS_A_LIST)) {
                it.policy.marks[slot / 32] ^= (uint32_t)1 << slot % 32;
                CHECK(!verify());
                snapshot(state, false);
            }
        for (hand = 0; hand < 10; hand++) {
            it.policy.hand = hand < 9 ? hand : UINT32_MAX;
            if (verify())
                goes_on(40, hand + 1);
            snapshot(state, false);
        }
        printf("%s: %zu of %zu found\n", verbs()->name, found, tried);
        CHECK(found > 0);
    }
    may_complain = false;
}

static const struct test tests[] = {
    TEST(sequences_checked_by_hand),
    TEST(every_sequence_of_8_over_6_keys),
    TEST(every_sequence_of_7_with_removals),
    TEST(random_sequences),
    TEST(clocks_go_round),
    TEST(the_window_climbs),
    TEST(halves_of_a_hash),
    TEST(full_is_what_counts),
    TEST(every_reachable_state),
    TEST(an_admit_without_add_does_no_harm),
    TEST(what_was_admitted_is_known_by_its_hash),
    TEST(segments_follow_full),
    TEST(lirs_forgets_several_at_once),
    TEST(the_target_of_arc_follows_full),
    TEST(ghosts_of_a_large_cache),
    TEST(unruly_sequences),
    TEST(every_state_of_an_unruly_cache),
    TEST(the_same_seed_gives_the_same_victims),
    TEST(random_is_uniform),
    TEST(layout_keeps_its_promise),
    TEST(names_are_given_once),
    TEST(check_finds_what_is_broken),
};

int main(int argc, char **argv)
{
    alarm(600 * (unsigned)test_scale()); /* a policy that hangs fails */
    return TEST_MAIN(argc, argv, tests);
}
