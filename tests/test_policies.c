/*
 * test_policies.c - the policies driven alone, over slot numbers.
 *
 * Each policy is compared, victim for victim, with a model that is an array
 * in the order of the policy and nothing else.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdbool.h>

#include "cache_policies.h"
#include "tests/test.h"

/* --- the verbs of each policy -------------------------------------------- */

struct verbs {
    const char *name;
    size_t (*layout)(uint32_t capacity);
    void (*init)(struct cache_policy *p, void *memory, uint32_t capacity);
    void (*add)(struct cache_policy *p, uint32_t slot);
    void (*hit)(struct cache_policy *p, uint32_t slot);
    void (*remove)(struct cache_policy *p, uint32_t slot);
    uint32_t (*victim)(struct cache_policy *p);
    const char *(*check)(const struct cache_policy *p, uint32_t capacity,
                         uint32_t len);
    bool moves_on_hit; /* of the model: LRU */
    bool marks;        /* of the model: SIEVE */
};

#define VERBS(name, moves, marks)                                              \
    { #name,             cache_##name##_layout, cache_##name##_init,           \
      cache_##name##_add, cache_##name##_hit,   cache_##name##_remove,         \
      cache_##name##_victim, cache_##name##_check, moves, marks }

enum { FIFO, LRU, SIEVE, N_POLICIES };

static const struct verbs policies[N_POLICIES] = {
    VERBS(fifo, false, false),
    VERBS(lru, true, false),
    VERBS(sieve, false, true),
};

/* --- the model ----------------------------------------------------------- */

#define MAX_ENTRIES 64

/* SIEVE as in the paper: a queue, one bit per object, and a hand that walks
 * from the tail to the head.  FIFO and LRU need the queue only. */
struct model {
    int key[MAX_ENTRIES];      /* [0] is the tail: the oldest */
    bool visited[MAX_ENTRIES];
    int len;
    int hand; /* index; -1 = at the tail */
};

static int model_index(const struct model *m, int key)
{
    int i;

    for (i = 0; i < m->len; i++)
        if (m->key[i] == key)
            return i;
    return -1;
}

static void model_push(struct model *m, int key)
{
    m->key[m->len] = key;
    m->visited[m->len] = false;
    m->len++;
}

static void model_take(struct model *m, int at)
{
    int i;

    for (i = at; i + 1 < m->len; i++) {
        m->key[i] = m->key[i + 1];
        m->visited[i] = m->visited[i + 1];
    }
    m->len--;
    if (m->hand > at)
        m->hand--;
    if (m->hand == m->len) /* it stood on the head: back to the tail */
        m->hand = -1;
}

static void model_hit(struct model *m, const struct verbs *v, int key)
{
    int at = model_index(m, key);

    if (v->marks)
        m->visited[at] = true;
    if (v->moves_on_hit) {
        model_take(m, at);
        model_push(m, key);
    }
}

/* The index of who leaves. */
static int model_victim(struct model *m, const struct verbs *v)
{
    int at = m->hand < 0 ? 0 : m->hand;

    if (!v->marks)
        return 0;
    while (m->visited[at]) {
        m->visited[at] = false;
        at = at + 1 < m->len ? at + 1 : 0;
    }
    m->hand = at;
    return at;
}

/* --- both side by side --------------------------------------------------- */

struct pair {
    const struct verbs *verbs;
    struct cache_policy policy;
    unsigned char *memory;
    uint32_t capacity;
    struct model model;
    int key_in[MAX_ENTRIES + 1]; /* by slot; -1 = free */
    int last_victim;             /* key; -1 = nobody had to leave */
};

static void pair_init(struct pair *p, const struct verbs *verbs,
                      uint32_t capacity, void *memory)
{
    uint32_t slot;

    memset(p, 0, sizeof *p);
    p->verbs = verbs;
    p->capacity = capacity;
    p->memory = (unsigned char *)memory;
    p->model.hand = -1;
    memset(memory, 0xa5, verbs->layout(capacity)); /* any content will do */
    memset(&p->policy, 0xa5, sizeof p->policy);
    verbs->init(&p->policy, memory, capacity);
    for (slot = 0; slot <= capacity; slot++)
        p->key_in[slot] = -1;
}

static uint32_t pair_slot(const struct pair *p, int key)
{
    uint32_t slot;

    for (slot = 1; slot <= p->capacity; slot++)
        if (p->key_in[slot] == key)
            return slot;
    return 0;
}

static void pair_check(const struct pair *p)
{
    CHECK_SOUND(p->verbs->check(&p->policy, p->capacity,
                                (uint32_t)p->model.len));
}

static void pair_remove(struct pair *p, int key)
{
    uint32_t slot = pair_slot(p, key);

    p->verbs->remove(&p->policy, slot);
    p->key_in[slot] = -1;
    model_take(&p->model, model_index(&p->model, key));
    pair_check(p);
}

/* Gets the key, or inserts it over a victim that both must name. */
static void pair_use(struct pair *p, int key)
{
    uint32_t slot = pair_slot(p, key);

    p->last_victim = -1;
    if (slot != 0) {
        p->verbs->hit(&p->policy, slot);
        model_hit(&p->model, p->verbs, key);
        pair_check(p);
        return;
    }
    if (p->model.len == (int)p->capacity) {
        uint32_t victim = p->verbs->victim(&p->policy);
        CHECK(victim >= 1 && victim <= p->capacity);
        p->last_victim = p->model.key[model_victim(&p->model, p->verbs)];
        CHECK_EQ(p->key_in[victim], p->last_victim);
        pair_check(p);
        pair_remove(p, p->last_victim);
    }
    slot = pair_slot(p, -1);
    p->verbs->add(&p->policy, slot);
    p->key_in[slot] = key;
    model_push(&p->model, key);
    pair_check(p);
}

/* --- sequences checked by hand ------------------------------------------- */

/* A capital letter gets or inserts; a small one removes.  `victims` has one
 * character for each of `keys`: who had to leave, '.' = nobody. */
static const struct {
    int policy;
    uint32_t capacity;
    const char *keys, *victims;
} by_hand[] = {
    /* at capacity 1 every policy is the same */
    { FIFO, 1, "AABCCA", "..AB.C" },
    { LRU, 1, "AABCCA", "..AB.C" },
    { SIEVE, 1, "AABCCA", "..AB.C" },

    /* hits change nothing, order of arrival decides */
    { FIFO, 3, "ABCADBEA", "....A.BC" },
    /* the hit on A saves it */
    { LRU, 3, "ABCADBE", "....BCA" },
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
    /* a removal leaves room, so nobody has to leave */
    { FIFO, 2, "ABaCD", "....B" },
    { LRU, 2, "ABAbCD", ".....A" },
    /* an entry that comes back is new: not marked, not used */
    { SIEVE, 2, "AAaABC", ".....A" },
    { LRU, 2, "ABaAC", "....B" },
};

static void sequences_checked_by_hand(void)
{
    size_t i, k;

    for (i = 0; i < sizeof by_hand / sizeof *by_hand; i++) {
        const struct verbs *v = &policies[by_hand[i].policy];
        void *memory = malloc(v->layout(by_hand[i].capacity));
        struct pair p;

        CHECK_EQ(strlen(by_hand[i].keys), strlen(by_hand[i].victims));
        pair_init(&p, v, by_hand[i].capacity, memory);
        for (k = 0; by_hand[i].keys[k]; k++) {
            char key = by_hand[i].keys[k], victim = '.';

            if (key >= 'a') {
                pair_remove(&p, key - 'a' + 'A');
            } else {
                pair_use(&p, key);
                if (p.last_victim >= 0)
                    victim = (char)p.last_victim;
            }
            if (victim != by_hand[i].victims[k])
                printf("%s at capacity %u: %s, step %zu: %c leaves\n", v->name,
                       (unsigned)by_hand[i].capacity, by_hand[i].keys, k + 1,
                       victim);
            CHECK_EQ(victim, by_hand[i].victims[k]);
        }
        free(memory);
    }
}

/* --- every short sequence ------------------------------------------------ */

/*
 * A policy sees slots, never keys, so two sequences that differ in the names
 * of their keys only are one.  It is enough to walk those in which each key
 * that is new is the next one.
 */
struct walk {
    int keys;      /* in all */
    bool removals; /* also remove each key that is present */
    long sequences;
};

static void pair_copy(struct pair *to, const struct pair *from, void *memory)
{
    size_t bytes = from->verbs->layout(from->capacity);

    *to = *from;
    to->memory = (unsigned char *)memory;
    memcpy(memory, from->memory, bytes);
    to->policy.links = (struct cache_link *)memory;
    if (from->verbs->marks)
        to->policy.visited =
            (uint32_t *)(void *)(to->memory +
                                 ((unsigned char *)from->policy.visited -
                                  from->memory));
}

static void walk_all(struct walk *w, const struct pair *from, int steps,
                     int keys_known)
{
    uint64_t memory[16];
    struct pair p;
    int key;

    if (steps == 0) {
        w->sequences++;
        return;
    }
    CHECK(from->verbs->layout(from->capacity) <= sizeof memory);
    for (key = 0; key <= keys_known && key < w->keys; key++) {
        pair_copy(&p, from, memory);
        pair_use(&p, key);
        walk_all(w, &p, steps - 1, keys_known + (key == keys_known));
        if (w->removals && pair_slot(from, key) != 0) {
            pair_copy(&p, from, memory);
            pair_remove(&p, key);
            walk_all(w, &p, steps - 1, keys_known);
        }
    }
}

static void walk_each_policy(struct walk w, int steps)
{
    long sequences = 0;
    uint32_t capacity;
    int policy;

    for (policy = 0; policy < N_POLICIES; policy++)
        for (capacity = 1; capacity <= 4; capacity++) {
            uint64_t memory[16];
            struct pair p;

            w.sequences = 0;
            pair_init(&p, &policies[policy], capacity, memory);
            walk_all(&w, &p, steps, 0);
            CHECK(w.sequences > 1000);
            if (!w.removals) /* the number depends on nothing else */
                CHECK(sequences == 0 || sequences == w.sequences);
            sequences = w.sequences;
        }
}

static void every_sequence_of_8_over_6_keys(void)
{
    struct walk w = { 6, false, 0 };

    walk_each_policy(w, 8);
}

static void every_sequence_with_removals(void)
{
    struct walk w = { 5, true, 0 };

    walk_each_policy(w, 7);
}

/* --- long random sequences ----------------------------------------------- */

static void random_sequences(void)
{
    static const uint32_t capacities[] = { 1, 2, 3, 10, 31, 32, 33, 63 };
    uint64_t random = test_seed;
    size_t i;
    int policy, step;

    for (policy = 0; policy < N_POLICIES; policy++)
        for (i = 0; i < sizeof capacities / sizeof *capacities; i++) {
            const struct verbs *v = &policies[policy];
            void *memory = malloc(v->layout(capacities[i]));
            struct pair p;

            pair_init(&p, v, capacities[i], memory);
            for (step = 0; step < 3000; step++) {
                uint64_t r = test_random(&random);
                int key = (int)((r >> 8) % (2 * capacities[i]));

                if (r % 8 == 0 && pair_slot(&p, key) != 0)
                    pair_remove(&p, key);
                else
                    pair_use(&p, key);
            }
            while (p.model.len > 0) /* and every one can leave */
                pair_remove(&p, p.model.key[p.model.len / 2]);
            free(memory);
        }
}

/* --- check --------------------------------------------------------------- */

/* A checker that finds nothing is worth nothing: break what it looks at. */
static void check_finds_what_is_broken(void)
{
    int policy;

    for (policy = 0; policy < N_POLICIES; policy++) {
        const struct verbs *v = &policies[policy];
        uint64_t memory[16];
        struct pair p;

        pair_init(&p, v, 3, memory);
        pair_use(&p, 'A');
        pair_use(&p, 'B');
        CHECK(v->check(&p.policy, 3, 1) != NULL);
        CHECK(v->check(&p.policy, 3, 3) != NULL);
        p.policy.links[1].newer = 0;
        CHECK(v->check(&p.policy, 3, 2) != NULL);
        p.policy.links[1].newer = 2;
        CHECK_SOUND(v->check(&p.policy, 3, 2));
        p.policy.links[1].older = 4;
        CHECK(v->check(&p.policy, 3, 2) != NULL);
        p.policy.links[1].older = 0;
        if (v->marks) {
            p.policy.hand = 3;
            CHECK(v->check(&p.policy, 3, 2) != NULL);
            p.policy.hand = 1;
            CHECK_SOUND(v->check(&p.policy, 3, 2));
        }
    }
}

static const struct test tests[] = {
    TEST(sequences_checked_by_hand),
    TEST(every_sequence_of_8_over_6_keys),
    TEST(every_sequence_with_removals),
    TEST(random_sequences),
    TEST(check_finds_what_is_broken),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
