/*
 * uv.h - as much of libuv as the loop half needs, with a clock that is a
 * number and threads that are events: for simulations.  Found before the real
 * one with -Itests/fake_uv.
 *
 * WHAT IT DOES
 *   The order of uv_run is libuv's: timers by time and by start, prepare
 *   handles that were active when their turn came, poll, what was closed, the
 *   last first.  Where libuv's versions differ - whether a timer that is started
 *   by a timer for now runs in the same pass, and whether timers run at the
 *   beginning or at the end of an iteration - fake_uv.newer says which.
 *   What libuv takes badly, or as an undefined thing, ends the test.
 *
 *   A thread is run in slices: its function is called from the beginning, and
 *   left by longjmp where it waits for work, or asks for its lock once more.
 *   That is sound for a function that keeps nothing in its locals there, which
 *   is the case of cache_worker.h.
 *
 *   The test has
 *     fake_uv_broken(rule)   a rule was broken
 *     fake_uv_wait(loop, ms) the loop waits: something of the world happens, up
 *                            to that time; false = nothing is left to happen
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef FAKE_UV_H
#define FAKE_UV_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    UV_EBUSY = -16,
    UV_EINVAL = -22,
    UV_EALREADY = -114,
    UV_ENOBUFS = -105,
    UV_ETIMEDOUT = -110,
    UV_ECANCELED = -125,
    UV_EAGAIN = -11
};

typedef enum { UV_RUN_DEFAULT, UV_RUN_ONCE, UV_RUN_NOWAIT } uv_run_mode;

typedef struct uv_loop_s uv_loop_t;
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_handle_s uv_timer_t;
typedef struct uv_handle_s uv_prepare_t;
typedef struct uv_handle_s uv_async_t;
typedef void (*uv_handle_cb)(uv_handle_t *handle);
typedef uv_handle_cb uv_close_cb;
typedef uv_handle_cb uv_timer_cb;
typedef uv_handle_cb uv_prepare_cb;
typedef uv_handle_cb uv_async_cb;

enum fake_uv_kind { FAKE_UV_TIMER = 1, FAKE_UV_PREPARE, FAKE_UV_ASYNC };

struct uv_handle_s {
    void *data;
    uv_loop_t *loop;
    enum fake_uv_kind kind;
    bool active, unreferenced, closing, closed, sent;
    uv_handle_cb cb, close_cb;
    uint64_t due_ms, order; /* a timer */
    bool waits;             /* a prepare handle: for its turn */
    uv_handle_t *next;      /* of the loop's, the newest first */
    uv_handle_t *next_closing;
};

struct uv_loop_s {
    uint64_t time;
    uv_handle_t *handles, *closing;
    uint64_t n_started;
};

typedef struct {
    bool alive;
    int n_held;
} uv_mutex_t;

typedef struct {
    bool alive;
} uv_cond_t;

typedef struct fake_uv_thread {
    void (*run)(void *arg);
    void *arg;
    uv_mutex_t *home; /* the lock that it begins with */
    bool alive, sleeps;
} uv_thread_t;

static struct {
    uint64_t now_ms; /* the time that it is */
    uint64_t n_looks;
    bool newer;          /* libuv 1.45 and 1.49 */
    uint32_t fail_in;    /* so many calls until one that may fail does; 0 = no */
    bool in_loop;        /* uv_run is on the stack */
    uv_thread_t *thread; /* that is being run */
    bool may_sleep;
    jmp_buf leave;
} fake_uv;

static void fake_uv_broken(const char *rule);
static bool fake_uv_wait(uv_loop_t *loop, uint64_t until_ms);

static inline void fake_uv_check(bool holds, const char *rule)
{
    if (!holds)
        fake_uv_broken(rule);
}

static inline bool fake_uv_fails(void)
{
    return fake_uv.fail_in > 0 && --fake_uv.fail_in == 0;
}

/* --- the loop ------------------------------------------------------------ */

static inline void uv_update_time(uv_loop_t *loop)
{
    loop->time = fake_uv.now_ms;
}

static inline uint64_t uv_now(const uv_loop_t *loop)
{
    return loop->time;
}

static inline uint64_t uv_hrtime(void)
{
    return fake_uv.now_ms * 1000000u + 1000u * fake_uv.n_looks++;
}

static inline void uv_loop_init(uv_loop_t *loop)
{
    memset(loop, 0, sizeof *loop);
    uv_update_time(loop);
}

/* Returns UV_EBUSY if something was left open. */
static inline int uv_loop_close(uv_loop_t *loop)
{
    return loop->handles || loop->closing ? UV_EBUSY : 0;
}

static inline bool uv_loop_alive(const uv_loop_t *loop)
{
    const uv_handle_t *h;

    for (h = loop->handles; h != NULL; h = h->next)
        if (h->active && !h->unreferenced)
            return true;
    return loop->closing != NULL;
}

/* --- handles ------------------------------------------------------------- */

/* It is open, and of this kind. */
static inline void fake_uv_open(const uv_handle_t *h, enum fake_uv_kind kind)
{
    fake_uv_check(h->kind == kind, "a handle is used as what it is");
    fake_uv_check(!h->closing, "a handle is not used after uv_close");
    fake_uv_check(fake_uv.thread == NULL, "a thread uses no handle");
}

static inline int fake_uv_init(uv_loop_t *loop, uv_handle_t *h,
                               enum fake_uv_kind kind)
{
    fake_uv_check(fake_uv.thread == NULL, "a thread makes no handle");
    memset(h, 0, sizeof *h); /* data is its owner's, but nobody has set it */
    h->loop = loop;
    h->kind = kind;
    h->next = loop->handles;
    loop->handles = h;
    return 0;
}

static inline int uv_is_active(const uv_handle_t *h)
{
    return h->active;
}

static inline int uv_is_closing(const uv_handle_t *h)
{
    return h->closing;
}

static inline void uv_ref(uv_handle_t *h)
{
    fake_uv_open(h, h->kind);
    h->unreferenced = false;
}

static inline void uv_unref(uv_handle_t *h)
{
    fake_uv_open(h, h->kind);
    h->unreferenced = true;
}

static inline void uv_close(uv_handle_t *h, uv_close_cb cb)
{
    fake_uv_open(h, h->kind);
    h->closing = true;
    h->active = h->waits = false;
    h->close_cb = cb;
    h->next_closing = h->loop->closing;
    h->loop->closing = h;
}

static inline int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    return fake_uv_init(loop, timer, FAKE_UV_TIMER);
}

static inline int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t ms,
                                 uint64_t repeat)
{
    fake_uv_open(timer, FAKE_UV_TIMER);
    fake_uv_check(repeat == 0 && cb != NULL, "(timers here do not repeat)");
    timer->active = true;
    timer->cb = cb;
    timer->due_ms = ms > UINT64_MAX - timer->loop->time
                        ? UINT64_MAX
                        : timer->loop->time + ms;
    timer->order = timer->loop->n_started++;
    return 0;
}

static inline int uv_timer_stop(uv_timer_t *timer)
{
    fake_uv_open(timer, FAKE_UV_TIMER);
    timer->active = false;
    return 0;
}

static inline int uv_prepare_init(uv_loop_t *loop, uv_prepare_t *prepare)
{
    return fake_uv_init(loop, prepare, FAKE_UV_PREPARE);
}

static inline int uv_prepare_start(uv_prepare_t *prepare, uv_prepare_cb cb)
{
    fake_uv_open(prepare, FAKE_UV_PREPARE);
    if (prepare->active)
        return 0;
    prepare->active = true;
    prepare->cb = cb;
    prepare->order = prepare->loop->n_started++;
    return 0;
}

static inline int uv_prepare_stop(uv_prepare_t *prepare)
{
    fake_uv_open(prepare, FAKE_UV_PREPARE);
    prepare->active = prepare->waits = false;
    return 0;
}

static inline int uv_async_init(uv_loop_t *loop, uv_async_t *async,
                                uv_async_cb cb)
{
    if (fake_uv_fails())
        return UV_EAGAIN;
    (void)fake_uv_init(loop, async, FAKE_UV_ASYNC);
    async->active = true;
    async->cb = cb;
    return 0;
}

/* From any thread. */
static inline int uv_async_send(uv_async_t *async)
{
    fake_uv_check(async->kind == FAKE_UV_ASYNC && !async->closing,
                  "a bell is not rung after uv_close");
    async->sent = true;
    return 0;
}

/* --- uv_run -------------------------------------------------------------- */

/* The timer that is due first, of those started before `order`. */
static inline uv_handle_t *fake_uv_first_timer(const uv_loop_t *loop,
                                               uint64_t order)
{
    uv_handle_t *h, *first = NULL;

    for (h = loop->handles; h != NULL; h = h->next)
        if (h->kind == FAKE_UV_TIMER && h->active && h->order < order &&
            (first == NULL || h->due_ms < first->due_ms ||
             (h->due_ms == first->due_ms && h->order < first->order)))
            first = h;
    return first;
}

static inline void fake_uv_run_timers(uv_loop_t *loop)
{
    uint64_t order = fake_uv.newer ? loop->n_started : UINT64_MAX;
    uv_handle_t *h;
    uint32_t n = 0;

    while ((h = fake_uv_first_timer(loop, order)) && h->due_ms <= loop->time) {
        fake_uv_check(++n < 1000, "timers that start timers for now come to "
                                  "an end");
        h->active = false;
        h->cb(h);
    }
}

/* What is started meanwhile has its turn in the next iteration. */
static inline void fake_uv_run_prepare(uv_loop_t *loop)
{
    uv_handle_t *h, *first;

    for (h = loop->handles; h != NULL; h = h->next)
        h->waits = h->kind == FAKE_UV_PREPARE && h->active;
    for (;;) {
        for (first = NULL, h = loop->handles; h != NULL; h = h->next)
            if (h->waits && (first == NULL || h->order > first->order))
                first = h; /* libuv puts the newest in front */
        if (first == NULL)
            return;
        first->waits = false;
        first->cb(first);
    }
}

static inline bool fake_uv_run_bells(uv_loop_t *loop)
{
    uv_handle_t *h, *next;
    bool any = false;

    for (h = loop->handles; h != NULL; h = next) {
        next = h->next;
        if (h->kind != FAKE_UV_ASYNC || !h->sent || h->closing)
            continue;
        h->sent = false;
        any = true;
        h->cb(h);
    }
    return any;
}

/* How long poll may wait; UINT64_MAX = for ever. */
static inline uint64_t fake_uv_timeout(const uv_loop_t *loop)
{
    const uv_handle_t *h, *first = fake_uv_first_timer(loop, UINT64_MAX);
    bool alive = false;

    for (h = loop->handles; h != NULL; h = h->next)
        alive = alive || (h->active && !h->unreferenced);
    if (!alive || loop->closing)
        return 0;
    if (first == NULL)
        return UINT64_MAX;
    return first->due_ms > loop->time ? first->due_ms - loop->time : 0;
}

static inline void fake_uv_poll(uv_loop_t *loop, uint64_t timeout_ms)
{
    uint64_t until_ms = timeout_ms > UINT64_MAX - fake_uv.now_ms
                            ? UINT64_MAX
                            : fake_uv.now_ms + timeout_ms;
    bool more = fake_uv_wait(loop, until_ms);

    fake_uv_check(more || until_ms != UINT64_MAX,
                  "the loop waits for something that can happen");
    uv_update_time(loop);
    (void)fake_uv_run_bells(loop);
}

static inline void fake_uv_run_closed(uv_loop_t *loop)
{
    uv_handle_t *h = loop->closing, *next, **at;

    loop->closing = NULL;
    for (; h != NULL; h = next) {
        next = h->next_closing;
        for (at = &loop->handles; *at != h;)
            at = &(*at)->next;
        *at = h->next;
        fake_uv_check(!h->active && !h->closed, "a handle is closed once");
        h->closed = true;
        if (h->close_cb)
            h->close_cb(h); /* the handle may be gone then */
    }
}

static inline int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
    bool alive = uv_loop_alive(loop);

    fake_uv_check(!fake_uv.in_loop, "a loop is not run inside itself");
    fake_uv.in_loop = true;
    if (!alive || (fake_uv.newer && mode == UV_RUN_DEFAULT))
        uv_update_time(loop);
    if (alive && fake_uv.newer && mode == UV_RUN_DEFAULT)
        fake_uv_run_timers(loop);
    while (alive) {
        if (!fake_uv.newer) {
            uv_update_time(loop);
            fake_uv_run_timers(loop);
        }
        fake_uv_run_prepare(loop);
        fake_uv_poll(loop, mode == UV_RUN_NOWAIT ? 0 : fake_uv_timeout(loop));
        fake_uv_run_closed(loop);
        if (fake_uv.newer || mode == UV_RUN_ONCE) {
            uv_update_time(loop);
            fake_uv_run_timers(loop);
        }
        alive = uv_loop_alive(loop);
        if (mode != UV_RUN_DEFAULT)
            break;
    }
    fake_uv.in_loop = false;
    return alive;
}

/* --- threads ------------------------------------------------------------- */

static inline int uv_mutex_init(uv_mutex_t *mutex)
{
    if (fake_uv_fails())
        return UV_EAGAIN;
    mutex->alive = true;
    mutex->n_held = 0;
    return 0;
}

static inline void uv_mutex_destroy(uv_mutex_t *mutex)
{
    fake_uv_check(mutex->alive && mutex->n_held == 0, "a lock is free at last");
    mutex->alive = false;
}

static inline void uv_mutex_lock(uv_mutex_t *mutex)
{
    uv_thread_t *t = fake_uv.thread;

    fake_uv_check(mutex->alive && mutex->n_held == 0, "a lock is free");
    if (t && t->home == mutex && fake_uv.may_sleep)
        longjmp(fake_uv.leave, 1); /* a job is done */
    if (t && t->home == NULL)
        t->home = mutex;
    mutex->n_held++;
    fake_uv.may_sleep = true;
}

static inline void uv_mutex_unlock(uv_mutex_t *mutex)
{
    fake_uv_check(mutex->alive && mutex->n_held == 1, "a lock is held");
    mutex->n_held--;
}

static inline int uv_cond_init(uv_cond_t *cond)
{
    if (fake_uv_fails())
        return UV_EAGAIN;
    cond->alive = true;
    return 0;
}

static inline void uv_cond_destroy(uv_cond_t *cond)
{
    fake_uv_check(cond->alive, "a condition is destroyed once");
    cond->alive = false;
}

static inline void uv_cond_wait(uv_cond_t *cond, uv_mutex_t *mutex)
{
    fake_uv_check(cond->alive && fake_uv.thread, "only threads wait");
    uv_mutex_unlock(mutex);
    fake_uv.thread->sleeps = true;
    longjmp(fake_uv.leave, 1);
}

#define FAKE_UV_THREADS 8

static uv_thread_t *fake_uv_threads[FAKE_UV_THREADS];

static inline void uv_cond_signal(uv_cond_t *cond)
{
    size_t i;

    fake_uv_check(cond->alive, "a condition is used while it is there");
    for (i = 0; i < FAKE_UV_THREADS; i++)
        if (fake_uv_threads[i] && fake_uv_threads[i]->sleeps) {
            fake_uv_threads[i]->sleeps = false;
            return;
        }
}

static inline void uv_cond_broadcast(uv_cond_t *cond)
{
    size_t i;

    for (i = 0; i < FAKE_UV_THREADS; i++)
        uv_cond_signal(cond);
}

static inline int uv_thread_create(uv_thread_t *thread, void (*run)(void *arg),
                                   void *arg)
{
    size_t i = 0;

    if (fake_uv_fails())
        return UV_EAGAIN;
    while (i < FAKE_UV_THREADS - 1 && fake_uv_threads[i])
        i++;
    fake_uv_check(fake_uv_threads[i] == NULL, "(there is room for threads)");
    memset(thread, 0, sizeof *thread);
    thread->run = run;
    thread->arg = arg;
    thread->alive = true;
    fake_uv_threads[i] = thread;
    return 0;
}

/* One slice: up to a job's end. */
static inline void fake_uv_run_thread(uv_thread_t *thread)
{
    fake_uv_check(fake_uv.thread == NULL, "(one thread at a time)");
    fake_uv.thread = thread;
    fake_uv.may_sleep = false;
    thread->home = NULL;
    if (setjmp(fake_uv.leave) == 0) {
        thread->run(thread->arg);
        fake_uv.thread->alive = false;
    }
    fake_uv.thread = NULL;
}

/* Some thread that has something to do; NULL = none. */
static inline uv_thread_t *fake_uv_busy_thread(uint32_t random)
{
    size_t i;

    for (i = 0; i < FAKE_UV_THREADS; i++) {
        uv_thread_t *t = fake_uv_threads[(i + random) % FAKE_UV_THREADS];

        if (t && !t->sleeps)
            return t;
    }
    return NULL;
}

static inline int uv_thread_join(uv_thread_t *thread)
{
    size_t i;

    while (thread->alive) {
        fake_uv_check(!thread->sleeps, "a thread that is joined ends");
        fake_uv_run_thread(thread);
    }
    for (i = 0; i < FAKE_UV_THREADS; i++)
        if (fake_uv_threads[i] == thread)
            fake_uv_threads[i] = NULL;
    return 0;
}

/* A new world. */
static inline void fake_uv_reset(void)
{
    memset(&fake_uv, 0, sizeof fake_uv);
    memset(fake_uv_threads, 0, sizeof fake_uv_threads);
}

#endif /* FAKE_UV_H */
