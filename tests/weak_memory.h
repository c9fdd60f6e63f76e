/*
 * weak_memory.h - runs small programs of two or three threads in every order,
 * and with every value that a load may return under the C11 memory model.
 *
 * WHAT IT DOES
 *   Threads are fibers on one processor.  Code under test calls the macros
 *   CACHE_ATOMIC_*, CACHE_FENCE_* and CACHE_LOCK*, which are defined here, so
 *   include this file before cache_shared.h: what runs is the header's own
 *   code.  Before every such access another thread may go on, and a load may
 *   return any value that C11 allows, old ones included.  A CPU shows few of
 *   these executions, and x86 can not show most of them.
 *
 *   EXAMPLE
 *     static uint64_t data, ready;
 *     static void start(void) { data = ready = 0; }
 *     static void writer(void)
 *     {
 *         CACHE_ATOMIC_STORE(&data, 1);
 *         CACHE_ATOMIC_STORE(&ready, 1); // a bug: not a release
 *     }
 *     static void reader(void)
 *     {
 *         if (CACHE_ATOMIC_LOAD_ACQUIRE(&ready) && !CACHE_ATOMIC_LOAD(&data))
 *             wm_violation("ready, but no data");
 *     }
 *     static const struct wm_program program = {
 *         "example", start, { writer, reader }, NULL
 *     };
 *     struct wm_result r = wm_search(&program, &limits); // r.why != NULL
 *
 * THE MACHINE
 *   Of every location all values that were ever stored are kept, in the order
 *   of the stores: messages, numbered from 0, the value before the threads
 *   began.  A view is a number for each location.  A thread has three:
 *
 *     seen      it cannot read a message before this one
 *     acquired  what the messages that it read bring; an acquire fence adds it
 *               to `seen`, an acquire load does so at once
 *     released  `seen` as of the last release fence
 *
 *   A message has one: what its storer had `released`, or for a release store
 *   all that it had `seen`.  A lock has one too: what its last holder had seen.
 *
 *   Stores write to memory as well, so plain reads of whoever holds the lock
 *   see the latest value.  Plain writes to a location that is accessed
 *   atomically are found and are a violation.  So are two stores under one lock
 *   of which the second does not know the first: that is not a lock.
 *
 * HOW IT SEARCHES
 *   Depth first, all executions with at most `preemptions` switches away from a
 *   thread that could go on and at most `stale` loads of an old value.  (There
 *   is no switch before a load of what nobody stores to meanwhile.)  Or at
 *   random, from a seed: then every execution has a seed of its own, which a
 *   violation reports, and which alone brings it about again.
 *   With EXPLORE_TRACE=1 in the environment a violation is run once more and
 *   every access of it is printed.
 *
 * BUGS ON PURPOSE
 *   wm_bug makes the macros weaker, one way at a time.  A search that does not
 *   find what is then wrong is not worth much.
 *
 * LIMITS
 *   - Stores enter the order of a location as they are executed, and no load
 *     is delayed past a later store (load buffering).
 *   - A location is always accessed with the same address and size.
 *   - Plain reads outside of the lock are not noticed: ThreadSanitizer's work.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WEAK_MEMORY_H
#define WEAK_MEMORY_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define WM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WM_ASAN 1
#endif
#endif
#ifdef WM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    WM_THREADS = 3,
    WM_LOCATIONS = 512,
    WM_MESSAGES = 120,  /* of one location in one execution */
    WM_CHOICES = 8192,  /* of one execution */
    WM_STEPS = 20000,   /* of one execution: then it does not end */
    WM_VIEWS = 4096,    /* release stores and fences of one execution */
    WM_STACK = 1 << 18, /* bytes */
    WM_NOBODY = -1
};

/* --- what is explored ---------------------------------------------------- */

struct wm_program {
    const char *name;
    void (*start)(void);              /* before the threads: plain accesses */
    void (*thread[WM_THREADS])(void); /* NULL = there are no more */
    void (*end)(void);                /* behind them; NULL = nothing */
};

struct wm_limits {
    unsigned preemptions;     /* of one execution, if not at random */
    unsigned stale;           /* loads of old values, if not at random */
    unsigned long executions; /* then the search gives up */
    uint64_t seed;            /* 0 = depth first, else at random */
};

struct wm_result {
    const char *why;          /* the violation; NULL = there was none */
    uint64_t seed;            /* of the execution that had it, if at random */
    unsigned long executions; /* that were run */
    bool complete;            /* these were all that the limits allow */
};

enum wm_bug {
    WM_NO_BUG,
    WM_NO_ACQUIRE_FENCE,
    WM_NO_RELEASE_FENCE,
    WM_ACQUIRE_LOAD_IS_RELAXED,
    WM_RELEASE_STORE_IS_RELAXED,
    WM_LOCK_WITHOUT_ACQUIRE,
    WM_UNLOCK_WITHOUT_RELEASE,
    WM_WINDOW_NOT_SHOWN, /* what makes a sequence odd is not stored */
    WM_VALIDATION_BLIND, /* the second load of a sequence repeats the first */
    WM_NO_HIDDEN_FENCE,  /* release fences that follow no odd sequence */
    WM_BUGS
};

static const char *const wm_bug_name[WM_BUGS] = {
    "none",
    "acquire fences are dropped",
    "release fences are dropped",
    "acquire loads are relaxed",
    "release stores are relaxed",
    "the lock does not acquire",
    "the unlock does not release",
    "odd sequences are not stored",
    "a sequence is not looked at again",
    "fences outside of windows are dropped",
};

static enum wm_bug wm_bug;

/* --- the machine --------------------------------------------------------- */

struct wm_view {
    uint8_t at[WM_LOCATIONS]; /* message, by location */
};

struct wm_message {
    uint64_t value;
    const struct wm_view *view; /* NULL = all zeroes */
    const void *lock;           /* that its storer held; NULL = none */
};

struct wm_location {
    void *address;
    unsigned size;
    unsigned n; /* messages */
    struct wm_message message[WM_MESSAGES];
    /* as a lock: */
    int holder;
    struct wm_view view;
    bool is_sequence; /* what is loaded with acquire */
    /* There is an execution that stores; and without a lock. */
    bool stored, stored_unlocked;
};

struct wm_thread {
    struct wm_view seen, acquired;
    const struct wm_view *released;
    const void *holds;     /* a lock; one at a time */
    const void *waits_for; /* a lock */
    uint64_t sequence;     /* that it saw last with acquire */
    const void *sequence_at;
    bool in_window;    /* an odd sequence was its last store */
    const void *local; /* of wm.thread_local, while others run */
    bool done;

    ucontext_t context; /* of its first entry */
    bool entered;
    jmp_buf at;
    void *fake_stack; /* AddressSanitizer's */
};

static struct {
    const struct wm_program *program;
    const struct wm_limits *limits;
    struct wm_location location[WM_LOCATIONS];
    unsigned n_locations;
    uint16_t table[4 * WM_LOCATIONS]; /* address to location + 1 */

    struct wm_thread thread[WM_THREADS + 1];
    int n_threads, current; /* WM_NOBODY = no thread runs */
    struct wm_view clock;   /* of wm_tick */
    uint64_t tick;

    struct wm_view view[WM_VIEWS]; /* of messages */
    unsigned n_views, n_steps, preemptions, stale;

    struct {
        uint16_t taken, of;
    } choice[WM_CHOICES]; /* of this execution; depth first */
    unsigned n_choices, at_choice;
    uint64_t random;

    const char *why; /* the violation */
    bool trace;
    bool learns; /* which locations are sequences */
    bool news;   /* a location was stored to for the first time */
    jmp_buf scheduler;
    const void **thread_local; /* a variable that each thread has its own of */
    const void *stack_bottom;  /* of the scheduler, for AddressSanitizer */
    size_t stack_size;
} wm;

static char wm_stack[WM_THREADS][WM_STACK] __attribute__((aligned(64)));

/* One of n.  0 is what would be without threads and with no old values. */
static inline unsigned wm_choose(unsigned n)
{
    if (wm.at_choice == wm.n_choices) {
        if (wm.n_choices == WM_CHOICES)
            abort();
        wm.choice[wm.at_choice].taken = 0;
        wm.choice[wm.at_choice].of = (uint16_t)n;
        wm.n_choices++;
    }
    if (wm.choice[wm.at_choice].of != n) {
        printf("%s does not do the same thing twice\n", wm.program->name);
        abort();
    }
    return wm.choice[wm.at_choice++].taken;
}

static inline unsigned wm_random(unsigned below)
{
    wm.random ^= wm.random >> 12;
    wm.random ^= wm.random << 25;
    wm.random ^= wm.random >> 27;
    return (unsigned)((wm.random * 0x2545f4914f6cdd1du >> 32) * below >> 32);
}

static inline bool wm_at_random(void)
{
    return wm.limits->seed != 0;
}

static inline void wm_join(struct wm_view *to, const struct wm_view *from)
{
    unsigned i;

    if (from == NULL)
        return;
    for (i = 0; i < wm.n_locations; i++)
        to->at[i] = from->at[i] > to->at[i] ? from->at[i] : to->at[i];
}

/* A copy that stays as it is. */
static inline const struct wm_view *wm_keep(const struct wm_view *view)
{
    if (wm.n_views == WM_VIEWS)
        abort();
    wm.view[wm.n_views] = *view;
    return &wm.view[wm.n_views++];
}

/* The thread that runs; when none does, one that does not exist. */
static inline struct wm_thread *wm_me(void)
{
    return &wm.thread[wm.current == WM_NOBODY ? WM_THREADS : wm.current];
}

static inline uint64_t wm_memory(const void *address, unsigned size)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (size) {
    case 1: memcpy(&one, address, 1); return one;
    case 2: memcpy(&two, address, 2); return two;
    case 4: memcpy(&four, address, 4); return four;
    default: memcpy(&eight, address, 8); return eight;
    }
}

static inline void wm_set_memory(void *address, unsigned size, uint64_t value)
{
    const uint8_t one = (uint8_t)value;
    const uint16_t two = (uint16_t)value;
    const uint32_t four = (uint32_t)value;

    switch (size) {
    case 1: memcpy(address, &one, 1); break;
    case 2: memcpy(address, &two, 2); break;
    case 4: memcpy(address, &four, 4); break;
    default: memcpy(address, &value, 8); break;
    }
}

static inline void wm_first_message(struct wm_location *l)
{
    l->n = 1;
    l->message[0].value = l->size ? wm_memory(l->address, l->size) : 0;
    l->message[0].view = NULL;
    l->message[0].lock = NULL;
    l->holder = WM_NOBODY;
    if (l->size == 0)
        memset(&l->view, 0, sizeof l->view);
}

/* --- switching ----------------------------------------------------------- */

static inline void wm_leave_for(jmp_buf to, void **fake_stack,
                                const void *bottom, size_t size)
{
#ifdef WM_ASAN
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#else
    (void)fake_stack, (void)bottom, (void)size;
#endif
    _longjmp(to, 1);
}

static inline void wm_arrived(struct wm_thread *t)
{
#ifdef WM_ASAN
    __sanitizer_finish_switch_fiber(t ? t->fake_stack : NULL,
                                    t ? &wm.stack_bottom : NULL,
                                    t ? &wm.stack_size : NULL);
#else
    (void)t;
#endif
}

/* From a thread to the scheduler, and back when it is its turn. */
static inline void wm_suspend(void)
{
    struct wm_thread *t = wm_me();

    if (wm.thread_local != NULL) {
        t->local = *wm.thread_local;
        *wm.thread_local = NULL;
    }
    if (_setjmp(t->at) == 0)
        wm_leave_for(wm.scheduler, &t->fake_stack, wm.stack_bottom,
                     wm.stack_size);
    wm_arrived(t);
    if (wm.thread_local != NULL)
        *wm.thread_local = t->local;
}

/* A fiber runs its thread once in every execution. */
static void wm_fiber(void)
{
    wm_arrived(&wm.thread[wm.current]);
    for (;;) {
        wm.program->thread[wm.current]();
        wm.thread[wm.current].done = true;
        wm_suspend();
    }
}

/* From the scheduler to a thread. */
static inline void wm_resume(int thread)
{
    struct wm_thread *t = &wm.thread[thread];
    static void *fake_stack; /* the scheduler's */

    wm.current = thread;
    if (_setjmp(wm.scheduler) == 0) {
        if (t->entered)
            wm_leave_for(t->at, &fake_stack, wm_stack[thread], WM_STACK);
        t->entered = true;
        if (getcontext(&t->context) != 0)
            abort();
        t->context.uc_stack.ss_sp = wm_stack[thread];
        t->context.uc_stack.ss_size = WM_STACK;
        t->context.uc_link = NULL;
        t->fake_stack = NULL;
        makecontext(&t->context, wm_fiber, 0);
#ifdef WM_ASAN
        __sanitizer_start_switch_fiber(&fake_stack, wm_stack[thread], WM_STACK);
#endif
        setcontext(&t->context);
    }
#ifdef WM_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    wm.current = WM_NOBODY;
}

/* Something is wrong with this execution; it is not continued.  Called from a
 * thread or from the program's end. */
static inline void wm_violation(const char *why)
{
    if (wm.why == NULL)
        wm.why = why;
    if (wm.trace)
        printf("  %d  VIOLATION: %s\n", wm.current, why);
    if (wm.current != WM_NOBODY)
        wm_suspend();
}

static inline bool wm_may_run(int thread)
{
    const struct wm_thread *t = &wm.thread[thread];

    return !t->done && t->waits_for == NULL;
}

/* Who goes on, `last` if it can and nothing else is chosen.  WM_NOBODY = none
 * can. */
static inline int wm_next(int last)
{
    int can[WM_THREADS], n = 0, i;
    bool goes_on = last != WM_NOBODY && wm_may_run(last);

    if (goes_on)
        can[n++] = last;
    if (wm_at_random()) {
        if (goes_on && wm_random(8) != 0)
            return last;
    } else if (goes_on && wm.preemptions >= wm.limits->preemptions) {
        return last;
    }
    for (i = 0; i < wm.n_threads; i++)
        if (i != last && wm_may_run(i))
            can[n++] = i;
    if (n == 0)
        return WM_NOBODY;
    i = n == 1           ? 0
        : wm_at_random() ? (int)wm_random((unsigned)n)
                         : (int)wm_choose((unsigned)n);
    if (goes_on && i != 0)
        wm.preemptions++;
    return can[i];
}

static int wm_chosen; /* by the thread that was suspended */

/* Before an access: perhaps others go first. */
static inline void wm_step(void)
{
    int next;

    if (++wm.n_steps > WM_STEPS)
        wm_violation("it does not end");
    next = wm_next(wm.current);
    if (next == wm.current)
        return;
    wm_chosen = next;
    wm_suspend();
}

/* --- accesses ------------------------------------------------------------ */

static inline struct wm_location *wm_locate(const void *address, unsigned size)
{
    size_t i = ((uintptr_t)address * 0x9e3779b97f4a7c15u) >> 20;
    struct wm_location *l;

    for (;; i++) {
        uint16_t *entry = &wm.table[i % (4 * WM_LOCATIONS)];

        if (*entry == 0) {
            if (wm.n_locations == WM_LOCATIONS)
                abort();
            l = &wm.location[wm.n_locations++];
            *entry = (uint16_t)wm.n_locations;
            l->address = (void *)(uintptr_t)address;
            l->size = size;
            l->is_sequence = l->stored = l->stored_unlocked = false;
            wm_first_message(l);
            return l;
        }
        l = &wm.location[*entry - 1];
        if (l->address != address)
            continue;
        if (l->size != size)
            wm_violation("a location is accessed with two sizes");
        return l;
    }
}

/* All stores went through the macros. */
static inline void wm_verify(const struct wm_location *l)
{
    if (l->size != 0 &&
        wm_memory(l->address, l->size) != l->message[l->n - 1].value) {
        if (wm.trace)
            printf("     %p is written plainly\n", l->address);
        wm_violation("what is loaded atomically is written plainly");
    }
}

static inline void wm_tell(const char *what, const char *where, int line,
                           const struct wm_location *l, unsigned message)
{
    if (wm.trace)
        printf("  %d  %-14s %-44s %p = %#llx%s  (line %d)\n", wm.current, what,
               where, l->address, (unsigned long long)l->message[message].value,
               message + 1 < l->n ? "  OLD" : "", line);
}

static inline unsigned wm_which(const struct wm_location *l, unsigned oldest)
{
    unsigned n = l->n - oldest, age;

    if (n <= 1)
        return l->n - 1;
    if (wm_at_random()) {
        age = wm_random(2) ? wm_random(n) : 0;
    } else {
        if (wm.stale >= wm.limits->stale)
            return l->n - 1;
        age = wm_choose(n);
    }
    wm.stale += age != 0;
    return l->n - 1 - age;
}

static inline uint64_t wm_load(const void *address, unsigned size, bool acquire,
                               const char *where, int line)
{
    struct wm_thread *t = wm_me();
    struct wm_location *l;
    const struct wm_message *m;
    unsigned at, index;

    if (wm.current == WM_NOBODY)
        return wm_memory(address, size);
    l = wm_locate(address, size);
    if (wm_at_random() || (t->holds ? l->stored_unlocked : l->stored))
        wm_step();
    wm_verify(l);
    index = (unsigned)(l - wm.location);
    l->is_sequence |= acquire && wm.learns;
    if (wm_bug == WM_VALIDATION_BLIND && !acquire && t->sequence_at == address)
        return t->sequence;
    at = wm_which(l, t->seen.at[index]);
    m = &l->message[at];
    wm_tell(acquire ? "load acquire" : "load", where, line, l, at);
    t->seen.at[index] = (uint8_t)at;
    wm_join(&t->acquired, m->view);
    if (acquire) {
        t->sequence = m->value;
        t->sequence_at = address;
        if (wm_bug != WM_ACQUIRE_LOAD_IS_RELAXED)
            wm_join(&t->seen, m->view);
    }
    return m->value;
}

static inline void wm_append(struct wm_location *l, uint64_t value,
                             const struct wm_view *view)
{
    struct wm_thread *t = wm_me();
    const unsigned index = (unsigned)(l - wm.location);
    struct wm_message *m = &l->message[l->n];

    if (l->n == WM_MESSAGES)
        abort();
    if (t->holds != NULL && m[-1].lock == t->holds &&
        t->seen.at[index] != l->n - 1)
        wm_violation("two stores under one lock do not know of each other");
    if (!l->stored || (!l->stored_unlocked && t->holds == NULL)) {
        l->stored = true;
        l->stored_unlocked |= t->holds == NULL;
        wm.news = true;
    }
    m->value = value;
    m->view = view;
    m->lock = t->holds;
    t->seen.at[index] = (uint8_t)l->n++;
    wm_set_memory(l->address, l->size, value);
}

static inline void wm_store(void *address, unsigned size, uint64_t value,
                            bool release, const char *where, int line)
{
    struct wm_thread *t = wm_me();
    struct wm_location *l;

    if (wm.current == WM_NOBODY) {
        wm_set_memory(address, size, value);
        return;
    }
    wm_step();
    l = wm_locate(address, size);
    wm_verify(l);
    if (wm_bug == WM_WINDOW_NOT_SHOWN && l->is_sequence && value % 2 == 1)
        return;
    t->in_window = l->is_sequence && value % 2 == 1;
    wm_append(l, value,
              release && wm_bug != WM_RELEASE_STORE_IS_RELAXED
                  ? wm_keep(&t->seen)
                  : t->released);
    wm_tell(release ? "store release" : "store", where, line, l, l->n - 1);
}

/* Relaxed; returns the value before. */
static inline uint64_t wm_add(void *address, unsigned size, uint64_t value,
                              const char *where, int line)
{
    struct wm_thread *t = wm_me();
    const struct wm_message *last;
    struct wm_location *l;
    struct wm_view view;
    uint64_t old;

    if (wm.current == WM_NOBODY) {
        old = wm_memory(address, size);
        wm_set_memory(address, size, old + value);
        return old;
    }
    wm_step();
    l = wm_locate(address, size);
    wm_verify(l);
    last = &l->message[l->n - 1];
    old = last->value;
    wm_join(&t->acquired, last->view);
    memset(&view, 0, sizeof view);
    wm_join(&view, last->view); /* it continues a release sequence */
    wm_join(&view, t->released);
    t->seen.at[l - wm.location] = (uint8_t)(l->n - 1);
    wm_append(l, (old + value) & (UINT64_MAX >> (64 - 8 * size)),
              wm_keep(&view));
    wm_tell("add", where, line, l, l->n - 1);
    return old;
}

static inline void wm_fence(bool acquire)
{
    struct wm_thread *t = wm_me();

    if (wm.current == WM_NOBODY)
        return;
    if (acquire && wm_bug != WM_NO_ACQUIRE_FENCE)
        wm_join(&t->seen, &t->acquired);
    if (acquire || wm_bug == WM_NO_RELEASE_FENCE ||
        (wm_bug == WM_NO_HIDDEN_FENCE && !t->in_window))
        return;
    t->released = wm_keep(&t->seen);
}

/* --- locks --------------------------------------------------------------- */

typedef struct {
    uint32_t unused;
} wm_lock_t;

static inline void wm_take(struct wm_location *l)
{
    struct wm_thread *t = wm_me();

    l->holder = wm.current;
    t->holds = l->address;
    t->sequence_at = NULL;
    if (wm_bug == WM_LOCK_WITHOUT_ACQUIRE)
        return;
    wm_join(&t->seen, &l->view);
    wm_join(&t->acquired, &l->view);
}

static inline void wm_lock(const void *lock)
{
    struct wm_thread *t = wm_me();
    struct wm_location *l;

    if (wm.current == WM_NOBODY)
        return;
    wm_step();
    l = wm_locate(lock, 0);
    if (t->holds != NULL)
        wm_violation("who holds a lock waits for one");
    while (l->holder != WM_NOBODY) {
        t->waits_for = lock;
        wm_chosen = wm_next(wm.current);
        wm_suspend();
    }
    if (wm.trace)
        printf("  %d  lock\n", wm.current);
    wm_take(l);
}

static inline bool wm_trylock(const void *lock)
{
    struct wm_location *l;

    if (wm.current == WM_NOBODY)
        return true;
    wm_step();
    l = wm_locate(lock, 0);
    if (l->holder != WM_NOBODY)
        return false;
    wm_take(l);
    return true;
}

static inline void wm_unlock(const void *lock)
{
    struct wm_thread *t = wm_me();
    struct wm_location *l;
    int i;

    if (wm.current == WM_NOBODY)
        return;
    l = wm_locate(lock, 0);
    if (t->holds != lock)
        wm_violation("a lock is given back that was not taken");
    if (wm.trace)
        printf("  %d  unlock\n", wm.current);
    t->holds = NULL;
    l->holder = WM_NOBODY;
    if (wm_bug != WM_UNLOCK_WITHOUT_RELEASE)
        wm_join(&l->view, &t->seen);
    for (i = 0; i < wm.n_threads; i++)
        if (wm.thread[i].waits_for == lock)
            wm.thread[i].waits_for = NULL;
}

/* --- what programs call -------------------------------------------------- */

/* The number of an event: an event with a greater number, of whichever thread,
 * knows of all that was before this one. */
static inline uint64_t wm_tick(void)
{
    if (wm.current != WM_NOBODY) {
        wm_step();
        wm_join(&wm.thread[wm.current].seen, &wm.clock);
        wm_join(&wm.clock, &wm.thread[wm.current].seen);
    }
    return ++wm.tick;
}

/* What a thread knows that has seen the time: all that was before the last
 * event. */
static inline void wm_see_time(void)
{
    if (wm.current != WM_NOBODY)
        wm_join(&wm.thread[wm.current].seen, &wm.clock);
}

/* --- executions ---------------------------------------------------------- */

static inline void wm_execute(void)
{
    int thread;
    unsigned i;

    wm.current = WM_NOBODY;
    wm.n_views = wm.n_steps = wm.preemptions = wm.stale = wm.at_choice = 0;
    wm.why = NULL;
    wm.tick = 0;
    memset(&wm.clock, 0, sizeof wm.clock);
    wm.program->start();
    for (i = 0; i < wm.n_locations; i++)
        wm_first_message(&wm.location[i]);
    for (thread = 0; thread < wm.n_threads; thread++) {
        struct wm_thread *t = &wm.thread[thread];

        memset(&t->seen, 0, sizeof t->seen);
        memset(&t->acquired, 0, sizeof t->acquired);
        t->released = NULL;
        t->holds = t->waits_for = t->sequence_at = NULL;
        t->entered &= t->done; /* one that was left in its midst begins anew */
        t->done = false;
    }
    wm_chosen = wm_next(WM_NOBODY);
    while (wm_chosen != WM_NOBODY && wm.why == NULL) {
        thread = wm_chosen;
        wm_resume(thread);
        if (wm.thread[thread].done)
            wm_chosen = wm_next(WM_NOBODY);
    }
    for (thread = 0; thread < wm.n_threads; thread++)
        if (!wm.thread[thread].done)
            wm_violation("nobody can go on");
    for (i = 0; i < wm.n_locations && wm.why == NULL; i++)
        wm_verify(&wm.location[i]);
    if (wm.why == NULL && wm.program->end != NULL)
        wm.program->end();
}

/* The next execution of a search depth first; false = there is none. */
static inline bool wm_backtrack(void)
{
    while (wm.n_choices > 0) {
        unsigned last = wm.n_choices - 1;

        if (++wm.choice[last].taken < wm.choice[last].of)
            return true;
        wm.n_choices--;
    }
    return false;
}

static inline void wm_show(uint64_t seed)
{
    if (getenv("EXPLORE_TRACE") == NULL)
        return;
    printf("%s, %s:\n", wm.program->name, wm_bug_name[wm_bug]);
    wm.trace = true;
    wm.random = seed;
    wm_execute();
    wm.trace = false;
}

/* Which locations are sequences must not change from one execution to another,
 * or they could not be repeated. */
static inline void wm_learn(void)
{
    const enum wm_bug bug = wm_bug;

    wm_bug = WM_NO_BUG;
    wm.learns = true;
    wm_execute();
    wm.learns = wm.news = false;
    wm_bug = bug;
    wm.n_choices = 0;
}

/* Runs the program until something is wrong or the limits are reached. */
static inline struct wm_result wm_search(const struct wm_program *program,
                                         const struct wm_limits *limits)
{
    struct wm_result r = { NULL, 0, 0, false };
    uint64_t seed = limits->seed;

    wm.program = program;
    wm.limits = limits;
    wm.n_choices = 0;
    wm.n_threads = 0;
    wm.n_locations = 0;
    memset(wm.table, 0, sizeof wm.table);
    memset(wm.thread, 0, sizeof wm.thread);
    while (wm.n_threads < WM_THREADS && program->thread[wm.n_threads] != NULL)
        wm.n_threads++;
    wm.random = 1;
    wm_learn();
    for (r.executions = 1; r.executions <= limits->executions; r.executions++) {
        wm.random = seed;
        wm_execute();
        if (wm.news && !wm_at_random()) {
            wm.news = false; /* from the start: more loads matter */
            wm.n_choices = 0;
            continue;
        }
        if (wm.why != NULL) {
            r.why = wm.why;
            r.seed = seed;
            wm_show(seed);
            return r;
        }
        if (wm_at_random()) {
            seed = (seed + 0x9e3779b97f4a7c15u) | 1;
        } else if (!wm_backtrack()) {
            r.complete = true;
            return r;
        }
    }
    r.executions--;
    return r;
}

/* --- the macros of cache_shared.h ---------------------------------------- */

#define WM__LOAD(p, acquire)                                                   \
    ((__typeof__(*(p)))wm_load((p), sizeof *(p), acquire, #p, __LINE__))

#define CACHE_ATOMIC_LOAD(p) WM__LOAD(p, false)
#define CACHE_ATOMIC_LOAD_ACQUIRE(p) WM__LOAD(p, true)
#define CACHE_ATOMIC_STORE(p, v)                                               \
    wm_store((p), sizeof *(p), (uint64_t)(v), false, #p, __LINE__)
#define CACHE_ATOMIC_STORE_RELEASE(p, v)                                       \
    wm_store((p), sizeof *(p), (uint64_t)(v), true, #p, __LINE__)
#define CACHE_ATOMIC_ADD(p, v)                                                 \
    ((__typeof__(*(p)))wm_add((p), sizeof *(p), (uint64_t)(v), #p, __LINE__))
#define CACHE_FENCE_ACQUIRE() wm_fence(true)
#define CACHE_FENCE_RELEASE() wm_fence(false)

#define CACHE_LOCK_T wm_lock_t
#define CACHE_LOCK_INIT(l) ((l)->unused = 0)
#define CACHE_LOCK_DESTROY(l) ((void)(l))
#define CACHE_LOCK(l) wm_lock(l)
#define CACHE_UNLOCK(l) wm_unlock(l)
#define CACHE_TRYLOCK(l) wm_trylock(l)

#endif /* WEAK_MEMORY_H */
