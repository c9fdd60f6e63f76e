/*
 * hitratio.c - how many requests of a trace a cache of this library would hit.
 *
 *   hitratio [--sizes=LIST] [--policies=LIST] [--tsv=FILE] TRACE
 *     Tries sizes (entries, or percent of the trace's keys: 100,1000,10%) and
 *     policies on a trace (trace.h has the formats), prints a table and what
 *     follows from it, and writes the table as TSV.
 *   hitratio --cells=FILE --traces=DIR [--policies=LIST] --tsv=FILE
 *     Runs the cells that FILE names in its columns trace and size_entries.
 *     Exit code 1 if any of them could not be run.
 *   hitratio --exact=FILE --traces=DIR [--small]
 *     Compares hits with those in FILE (trace, size_entries, policy, requests,
 *     hits), one for one; ends with "N passed, N failed".  --small leaves out
 *     files of 300 KB and more.
 *
 * Each run is a cache of its own, uint64_t to char, asked get_or_insert for
 * each request in turn; it begins empty, and the first request of a key counts
 * as a miss.  Runs are spread over --jobs=N threads (all processors), the
 * longest first.  The same --seed=N (1) makes the same random decisions.
 * Exit code 2: the arguments or a file are wrong.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache.h"
#include "trace.h"

#define DEFAULT_POLICY "adaptive"
#define DEFAULT_SIZES "0.1%,0.3%,1%,3%,10%,30%"
#define MIN_DEFAULT_SIZE 10    /* entries: below, few policies are themselves */
#define SMALL_BYTES 300000     /* of a file: what --small leaves in */
#define TABLE_COLUMNS 7        /* sizes beside each other in 80 columns */
#define ENOUGH 0.9             /* of the possible hits: a good size */
#define CLOSE_ENOUGH 1.02      /* a size is searched for down to this factor */
#define PROGRESS_MS 250        /* between two updates on a terminal */
#define PROGRESS_QUIET_MS 5000 /* between two lines elsewhere */

static struct {
    /* As given; NULL = not given. */
    const char *sizes, *policies, *tsv, *cells, *traces, *exact, *trace;
    uint64_t seed; /* of every cache */
    uint64_t jobs; /* threads */
    bool small;    /* leave large files out */
} options = { .policies = "all", .seed = 1 };

/* A mistake in the arguments or in a file. */
static void die(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("hitratio: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static void *must(void *pointer)
{
    if (pointer == NULL)
        die("out of memory");
    return pointer;
}

/* Room for one element more in an array that has n of them. */
static void *grown(void *array, size_t n, size_t bytes)
{
    if ((n & (n - 1)) == 0) /* full at every power of two */
        array = must(realloc(array, (n ? 2 * n : 1) * bytes));
    return array;
}

/* --- policies ------------------------------------------------------------ */

#define MAX_POLICIES 64 /* codes of policies have six bits */

struct policy {
    const char *name; /* in lower case */
    uint32_t code;    /* CACHE_LRU, ... */
};

/* All that the library has, in the order of their codes. */
static struct policy policies[MAX_POLICIES];
static size_t n_policies;

static void find_policies(void)
{
    uint32_t code;

    for (code = 1; code < MAX_POLICIES; code++) {
        const char *name = cache_policy_name(code);

        if (name != NULL)
            policies[n_policies++] = (struct policy) { name, code };
    }
}

static const struct policy *policy_find(const char *name)
{
    size_t i;

    for (i = 0; i < n_policies; i++)
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    return NULL;
}

CACHE_DEFINE(sim, uint64_t, char, cache_hash_u64, cache_equal_u64,
             CACHE_POLICY_DYNAMIC);

/* Asks a cache for all keys of a trace.  Returns 0 or why it cannot be made. */
static int simulate(const struct trace *trace, const struct policy *policy,
                    size_t size, uint64_t *hits)
{
    struct cache_config config = { .capacity = size,
                                   .policy = policy->code,
                                   .seed = options.seed };
    struct sim cache;
    int rc = sim_init(&cache, &config);
    size_t i;

    if (rc != 0)
        return rc;
    for (*hits = 0, i = 0; i < trace->n_requests; i++) {
        bool inserted = false;

        if (sim_get_or_insert(&cache, trace->keys[i], 0, &inserted) != NULL)
            *hits += !inserted;
    }
    sim_destroy(&cache);
    return 0;
}

/* The policies that were asked for. */
struct choice {
    const struct policy *list[MAX_POLICIES]; /* each once, as asked for */
    size_t n;                                /* of them */
};

static void choose(struct choice *choice, const char *name)
{
    const struct policy *policy = policy_find(name);
    size_t i;

    if (policy == NULL) {
        fprintf(stderr, "hitratio: there is no policy %s; there are:", name);
        for (i = 0; i < n_policies; i++)
            fprintf(stderr, " %s", policies[i].name);
        fputc('\n', stderr);
        exit(2);
    }
    for (i = 0; i < choice->n; i++)
        if (choice->list[i] == policy)
            return;
    choice->list[choice->n++] = policy;
}

/* The next word of a list that commas or blanks divide; NULL at its end. */
static char *next_word(char **list)
{
    char *word = *list + strspn(*list, ", \t");

    *list = word + strcspn(word, ", \t");
    if (**list != '\0')
        *(*list)++ = '\0';
    return *word ? word : NULL;
}

static struct choice parse_policies(const char *text)
{
    char *copy = (char *)must(strdup(text)), *rest = copy, *word;
    struct choice choice = { .n = 0 };
    size_t i;

    while ((word = next_word(&rest)) != NULL) {
        for (i = 0; word[i] != '\0'; i++)
            word[i] = (char)tolower((unsigned char)word[i]);
        for (i = 0; i < n_policies && strcmp(word, "all") == 0; i++)
            choose(&choice, policies[i].name);
        if (strcmp(word, "all") != 0)
            choose(&choice, word);
    }
    if (choice.n == 0)
        die("no policies are named");
    free(copy);
    return choice;
}

/* --- running cells ------------------------------------------------------- */

/* One policy at one size on one trace. */
struct cell {
    const struct trace *trace;   /* what is asked for */
    const struct policy *policy; /* who is evicted */
    size_t size;                 /* entries */
    uint64_t hits;               /* the result */
    uint64_t expected;           /* --exact: what it must be */
    int rc;                      /* 0, or why there is no result */
};

/* Cells that the threads take from, the longest first. */
struct work {
    struct cell **order;     /* all cells in the order of their turn */
    size_t n;                /* of them */
    size_t n_taken;          /* how many were taken */
    size_t n_done;           /* how many have a result */
    uint64_t requests;       /* of all cells together */
    uint64_t requests_done;  /* of those that have a result */
    pthread_mutex_t mutex;   /* over n_taken and what is done */
    pthread_cond_t one_done; /* signalled at each result */
};

static int by_work(const void *a, const void *b)
{
    const struct cell *x = *(struct cell *const *)a;
    const struct cell *y = *(struct cell *const *)b;

    if (x->trace->n_requests != y->trace->n_requests)
        return x->trace->n_requests < y->trace->n_requests ? 1 : -1;
    if (x->trace != y->trace) /* one trace at a time stays in the processor */
        return strcmp(x->trace->name, y->trace->name);
    return (x->size < y->size) - (x->size > y->size);
}

static void *worker(void *argument)
{
    struct work *work = (struct work *)argument;

    pthread_mutex_lock(&work->mutex);
    while (work->n_taken < work->n) {
        struct cell *cell = work->order[work->n_taken++];

        pthread_mutex_unlock(&work->mutex);
        cell->rc = simulate(cell->trace, cell->policy, cell->size, &cell->hits);
        pthread_mutex_lock(&work->mutex);
        work->n_done++;
        work->requests_done += cell->trace->n_requests;
        pthread_cond_signal(&work->one_done);
    }
    pthread_mutex_unlock(&work->mutex);
    return NULL;
}

static uint64_t now_ms(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void show_progress(const struct work *work, uint64_t began_ms, bool tty)
{
    double elapsed = (double)(now_ms(CLOCK_MONOTONIC) - began_ms) / 1e3;
    double share = (double)work->requests_done / (double)work->requests;

    fprintf(stderr, "%s%zu of %zu runs, %.0f %%", tty ? "\r" : "", work->n_done,
            work->n, 100 * share);
    if (share > 0)
        fprintf(stderr, ", %.0f s left", ceil(elapsed / share - elapsed));
    fputs(tty ? "   " : "\n", stderr);
}

/* Waits until all is done, and says meanwhile how far it is. */
static void wait_for(struct work *work)
{
    const bool tty = isatty(STDERR_FILENO);
    const uint64_t interval = tty ? PROGRESS_MS : PROGRESS_QUIET_MS;
    const uint64_t began = now_ms(CLOCK_MONOTONIC);
    uint64_t shown = began;

    pthread_mutex_lock(&work->mutex);
    while (work->n_done < work->n) {
        uint64_t until = now_ms(CLOCK_REALTIME) + PROGRESS_MS;
        struct timespec t = { (time_t)(until / 1000),
                              (long)(until % 1000) * 1000000 };

        (void)pthread_cond_timedwait(&work->one_done, &work->mutex, &t);
        if (now_ms(CLOCK_MONOTONIC) - shown < interval)
            continue;
        shown = now_ms(CLOCK_MONOTONIC);
        show_progress(work, began, tty);
    }
    pthread_mutex_unlock(&work->mutex);
    if (tty && shown != began)
        fprintf(stderr, "\r%60s\r", "");
}

/* Runs all cells. */
static void run(struct cell *cells, size_t n)
{
    struct work work = { .n = n,
                         .mutex = PTHREAD_MUTEX_INITIALIZER,
                         .one_done = PTHREAD_COND_INITIALIZER };
    size_t n_threads = options.jobs < n ? options.jobs : n, i;
    pthread_t *threads =
        (pthread_t *)must(calloc(n_threads + 1, sizeof *threads));

    work.order = (struct cell **)must(calloc(n + 1, sizeof *work.order));
    for (i = 0; i < n; i++) {
        work.order[i] = &cells[i];
        work.requests += cells[i].trace->n_requests;
    }
    qsort(work.order, n, sizeof *work.order, by_work);
    for (i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, worker, &work) != 0)
            die("a thread could not be started");
    wait_for(&work);
    for (i = 0; i < n_threads; i++)
        (void)pthread_join(threads[i], NULL);
    free(threads);
    free(work.order);
}

/* False, and a message, if a cell has no result. */
static bool succeeded(const struct cell *cell)
{
    if (cell->rc != 0)
        fprintf(stderr, "hitratio: %s, %zu entries, %s: %s\n",
                cell->trace->name, cell->size, cell->policy->name,
                cache_strerror(cell->rc));
    return cell->rc == 0;
}

static double ratio(const struct cell *cell)
{
    return (double)cell->hits / (double)cell->trace->n_requests;
}

/* --- tables of tab-separated values -------------------------------------- */

#define MAX_COLUMNS 5

/* A TSV file with a header row that is being read. */
struct tsv {
    const char *path;               /* for messages */
    FILE *file;                     /* open until the last row was read */
    char *line;                     /* the current one; cut at its tabs */
    size_t line_bytes;              /* allocated */
    size_t n_lines;                 /* read so far */
    const char *const *names;       /* of the columns asked for */
    size_t n_columns;               /* of them */
    size_t at[MAX_COLUMNS];         /* where each column asked for stands */
    const char *field[MAX_COLUMNS]; /* what it has in the current line */
};

/* Reads a line that is not empty, without its end. */
static bool tsv_line(struct tsv *tsv)
{
    do {
        if (getline(&tsv->line, &tsv->line_bytes, tsv->file) < 0) {
            if (ferror(tsv->file))
                die("%s: %s", tsv->path, strerror(errno));
            return false;
        }
        tsv->n_lines++;
        tsv->line[strcspn(tsv->line, "\r\n")] = '\0';
    } while (tsv->line[0] == '\0');
    return true;
}

static char *next_field(char **rest)
{
    char *field = *rest, *tab = strchr(field, '\t');

    *rest = tab ? tab + 1 : field + strlen(field);
    if (tab != NULL)
        *tab = '\0';
    return field;
}

/* Opens a table; `names` are the columns to read, in the order of field[]. */
static void tsv_open(struct tsv *tsv, const char *path,
                     const char *const *names, size_t n_names)
{
    size_t i, column;
    char *rest;

    memset(tsv, 0, sizeof *tsv);
    tsv->path = path;
    tsv->names = names;
    tsv->n_columns = n_names;
    tsv->file = fopen(path, "r");
    if (tsv->file == NULL)
        die("%s: %s", path, strerror(errno));
    if (!tsv_line(tsv))
        die("%s: line 1: is empty, where a header row must be", path);
    for (i = 0; i < n_names; i++)
        tsv->at[i] = SIZE_MAX;
    for (rest = tsv->line, column = 0; *rest != '\0'; column++) {
        const char *name = next_field(&rest);

        for (i = 0; i < n_names; i++)
            if (strcmp(name, names[i]) == 0)
                tsv->at[i] = column;
    }
    for (i = 0; i < n_names; i++)
        if (tsv->at[i] == SIZE_MAX)
            die("%s: line 1: has no column %s", path, names[i]);
}

/* Reads the next row; false at the end, where the file is closed. */
static bool tsv_next(struct tsv *tsv)
{
    size_t i, column;
    char *rest;

    if (!tsv_line(tsv)) {
        (void)fclose(tsv->file);
        free(tsv->line);
        return false;
    }
    memset(tsv->field, 0, sizeof tsv->field);
    for (rest = tsv->line, column = 0; *rest != '\0'; column++) {
        const char *field = next_field(&rest);

        for (i = 0; i < tsv->n_columns; i++)
            if (tsv->at[i] == column)
                tsv->field[i] = field;
    }
    for (i = 0; i < tsv->n_columns; i++)
        if (tsv->field[i] == NULL || tsv->field[i][0] == '\0')
            die("%s: line %zu: has no %s", tsv->path, tsv->n_lines,
                tsv->names[i]);
    return true;
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    return isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0;
}

static uint64_t tsv_number(const struct tsv *tsv, size_t column, uint64_t min,
                           uint64_t max)
{
    uint64_t number;

    if (!parse_number(tsv->field[column], &number) || number < min ||
        number > max)
        die("%s: line %zu: %s is not a number from %" PRIu64 " to %" PRIu64,
            tsv->path, tsv->n_lines, tsv->field[column], min, max);
    return number;
}

/* --- traces by name ------------------------------------------------------ */

/* A trace of a directory; read once. */
struct found_trace {
    struct trace trace; /* name only, if it was left out or not found */
    bool left_out;      /* too large for --small */
};

struct traces {
    struct found_trace **list; /* each stays where it is */
    size_t n;                  /* of them */
};

/* The file of this name, whatever its format; false if there is none. */
static bool find_file(const char *name, char *path, size_t path_bytes,
                      struct stat *status)
{
    static const char *const endings[] = { ".K8", ".K8.zst", ".K8S4",
                                           ".K8S4.zst", ".filelog" };
    size_t i;

    for (i = 0; i < sizeof endings / sizeof *endings; i++) {
        (void)snprintf(path, path_bytes, "%s/%s%s", options.traces, name,
                       endings[i]);
        if (stat(path, status) == 0)
            return true;
    }
    return false;
}

/* The trace of this name.  A message, once, if it cannot be had. */
static const struct found_trace *traces_get(struct traces *traces,
                                            const char *name)
{
    struct found_trace *found;
    char path[4096], error[4352];
    struct stat status;
    size_t i;

    for (i = 0; i < traces->n; i++)
        if (strcmp(traces->list[i]->trace.name, name) == 0)
            return traces->list[i];
    found = (struct found_trace *)must(calloc(1, sizeof *found));
    traces->list = (struct found_trace **)grown(traces->list, traces->n,
                                                sizeof *traces->list);
    traces->list[traces->n++] = found;
    if (!find_file(name, path, sizeof path, &status))
        fprintf(stderr,
                "hitratio: trace %s is missing: no %s/%s.K8, .K8S4 or these "
                "with .zst\n",
                name, options.traces, name);
    else if (options.small && status.st_size >= SMALL_BYTES)
        found->left_out = true;
    else if (!trace_read(&found->trace, path, error, sizeof error))
        fprintf(stderr, "hitratio: trace %s: %s\n", name, error);
    (void)snprintf(found->trace.name, sizeof found->trace.name, "%s", name);
    return found;
}

static void traces_free(struct traces *traces)
{
    size_t i;

    for (i = 0; i < traces->n; i++) {
        trace_free(&traces->list[i]->trace);
        free(traces->list[i]);
    }
    free(traces->list);
}

/* --- writing TSV --------------------------------------------------------- */

static FILE *create(const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        die("%s: %s", path, strerror(errno));
    return file;
}

/* Writes the cells that have a result, and closes the file. */
static void write_tsv(FILE *file, const char *path, const struct cell *cells,
                      size_t n)
{
    size_t i;

    fputs("trace\tsize_entries\tpolicy\thit_ratio\n", file);
    for (i = 0; i < n; i++)
        if (cells[i].rc == 0)
            fprintf(file, "%s\t%zu\t%s\t%.10f\n", cells[i].trace->name,
                    cells[i].size, cells[i].policy->name, ratio(&cells[i]));
    if (ferror(file) | (fclose(file) != 0))
        die("%s: %s", path, strerror(errno));
}

/* --- one trace: table and advice ----------------------------------------- */

/* What was asked for and what came out. */
struct report {
    const struct trace *trace; /* that was asked about */
    size_t n_keys;             /* distinct */
    size_t *sizes;             /* ascending */
    size_t n_sizes;            /* of them */
    struct choice choice;      /* of policies */
    struct cell *cells;        /* by size, then policy */
    size_t default_policy;     /* its place in choice; choice.n = not chosen */
};

static struct cell *cell_at(const struct report *r, size_t size, size_t policy)
{
    return &r->cells[size * r->choice.n + policy];
}

static int by_number(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

/* Entries, or percent of the keys. */
static size_t parse_size(const char *word, size_t n_keys)
{
    uint64_t entries;
    char *end;

    if (!parse_number(word, &entries)) {
        double share = strtod(word, &end) / 100;

        if (end == word || strcmp(end, "%") != 0 || !(share > 0 && share <= 1))
            die("%s is not a size: entries, or up to 100%% of the keys", word);
        entries = (uint64_t)(share * (double)n_keys + 0.5);
        entries = entries ? entries : 1;
    }
    if (entries == 0 || entries > CACHE_MAX_CAPACITY)
        die("%s entries: a cache has 1 to %u", word, CACHE_MAX_CAPACITY);
    return (size_t)entries;
}

static void parse_sizes(struct report *r, const char *text)
{
    const size_t min = text == options.sizes ? 1 : MIN_DEFAULT_SIZE;
    char *copy = (char *)must(strdup(text)), *rest = copy, *word;
    size_t i, n = 0;

    while ((word = next_word(&rest)) != NULL) {
        size_t size = parse_size(word, r->n_keys);

        r->sizes = (size_t *)grown(r->sizes, n, sizeof *r->sizes);
        r->sizes[n++] = size < min ? min : size;
    }
    free(copy);
    if (n == 0)
        die("no sizes are named");
    qsort(r->sizes, n, sizeof *r->sizes, by_number);
    for (r->n_sizes = i = 1; i < n; i++)
        if (r->sizes[i] != r->sizes[i - 1])
            r->sizes[r->n_sizes++] = r->sizes[i];
}

static void run_report(struct report *r)
{
    size_t n = r->n_sizes * r->choice.n, i;

    r->cells = (struct cell *)must(calloc(n, sizeof *r->cells));
    for (i = 0; i < n; i++) {
        r->cells[i].trace = r->trace;
        r->cells[i].size = r->sizes[i / r->choice.n];
        r->cells[i].policy = r->choice.list[i % r->choice.n];
    }
    run(r->cells, n);
    for (i = 0; i < n; i++)
        if (!succeeded(&r->cells[i]))
            exit(2);
}

/* A number with commas; one of eight buffers. */
static const char *grouped(uint64_t number)
{
    static char buffers[8][32];
    static unsigned next;
    char *at = buffers[next++ % 8] + 31;
    int digits = 0;

    *at = '\0';
    do {
        if (digits > 0 && digits % 3 == 0)
            *--at = ',';
        *--at = (char)('0' + number % 10);
        digits++;
    } while ((number /= 10) != 0);
    return at;
}

/* The policy with the most hits at a size; of equals the default, or else the
 * first. */
static size_t best_at(const struct report *r, size_t size)
{
    size_t best = r->default_policy < r->choice.n ? r->default_policy : 0, i;

    for (i = 0; i < r->choice.n; i++)
        if (cell_at(r, size, i)->hits > cell_at(r, size, best)->hits)
            best = i;
    return best;
}

static bool is_best(const struct report *r, size_t size, size_t policy)
{
    return cell_at(r, size, policy)->hits ==
           cell_at(r, size, best_at(r, size))->hits;
}

/* How much a policy is below the best of a size, in points of hit ratio. */
static double loss(const struct report *r, size_t size, size_t policy)
{
    return 100 * (ratio(cell_at(r, size, best_at(r, size))) -
                  ratio(cell_at(r, size, policy)));
}

/* Prints the table for sizes from `first` up to `end`. */
static void print_block(const struct report *r, size_t first, size_t end)
{
    size_t size, i;

    printf("\n%-10s", "entries");
    for (size = first; size < end; size++)
        printf("%10s", grouped(r->sizes[size]));
    printf("\n%-10s", "of keys");
    for (size = first; size < end; size++)
        printf("%8.3g %%", 100.0 * (double)r->sizes[size] / (double)r->n_keys);
    putchar('\n');
    for (i = 0; i < r->choice.n; i++) {
        printf("%-10s", r->choice.list[i]->name);
        for (size = first; size < end; size++) {
            char percent[16];

            (void)snprintf(percent, sizeof percent, "%s%.2f",
                           is_best(r, size, i) ? "*" : "",
                           100 * ratio(cell_at(r, size, i)));
            printf("%10s", percent);
        }
        putchar('\n');
    }
}

static void print_table(const struct report *r)
{
    size_t first, end;

    printf("%s: %s requests for %s keys\n", r->trace->name,
           grouped(r->trace->n_requests), grouped(r->n_keys));
    printf("hit ratio in %%, * = the best of its size\n");
    for (first = 0; first < r->n_sizes; first = end) {
        end = first + TABLE_COLUMNS < r->n_sizes ? first + TABLE_COLUMNS
                                                 : r->n_sizes;
        print_block(r, first, end);
    }
    putchar('\n');
}

/* Which policy is best at each size, and what the default loses. */
static void print_best(const struct report *r)
{
    size_t size, i;

    printf("The best at each size%s:\n",
           r->default_policy < r->choice.n ? "; the default is " DEFAULT_POLICY
                                           : "");
    for (size = 0; size < r->n_sizes; size++) {
        size_t best = best_at(r, size), n_best = 0;

        for (i = 0; i < r->choice.n; i++)
            n_best += is_best(r, size, i);
        printf("%9s entries: ", grouped(r->sizes[size]));
        if (n_best == r->choice.n)
            printf("every policy, ");
        else
            printf("%s, ", r->choice.list[best]->name);
        printf("%.2f %%", 100 * ratio(cell_at(r, size, best)));
        if (r->default_policy < r->choice.n && best != r->default_policy)
            printf("; the default has %.2f points less",
                   loss(r, size, r->default_policy));
        putchar('\n');
    }
}

/* The policy that is never far from the best: its place, and how far. */
static size_t safest(const struct report *r, double *worst)
{
    size_t found = 0, i, size;

    for (*worst = 101, i = 0; i < r->choice.n; i++) {
        double most = 0;

        for (size = 0; size < r->n_sizes; size++)
            most = fmax(most, loss(r, size, i));
        if (most < *worst || (most <= *worst && i == r->default_policy)) {
            *worst = most;
            found = i;
        }
    }
    return found;
}

/* Whether the default has ENOUGH hits at this size. */
static bool is_enough(const struct report *r, size_t size)
{
    double possible = (double)(r->trace->n_requests - r->n_keys);
    struct cell cell = { .trace = r->trace,
                         .policy = r->choice.list[r->default_policy],
                         .size = size };

    run(&cell, 1);
    if (!succeeded(&cell))
        exit(2);
    return (double)cell.hits >= ENOUGH * possible;
}

/* About the smallest size at which the default has ENOUGH hits. */
static size_t enough_size(const struct report *r)
{
    double possible = (double)(r->trace->n_requests - r->n_keys);
    size_t low = 0, high = r->n_keys, size; /* too few; enough */

    for (size = 0; size < r->n_sizes && r->sizes[size] < r->n_keys; size++) {
        high = r->sizes[size];
        if ((double)cell_at(r, size, r->default_policy)->hits >=
            ENOUGH * possible)
            break;
        low = high;
        high = r->n_keys;
    }
    while (high - low > 1 && (double)high > CLOSE_ENOUGH * (double)low) {
        size_t middle =
            low ? (size_t)sqrt((double)low * (double)high) : high / 2;

        middle = middle > low ? middle : low + 1;
        if (is_enough(r, middle))
            high = middle;
        else
            low = middle;
    }
    return high;
}

static void print_advice(const struct report *r)
{
    const uint64_t n = r->trace->n_requests;
    double worst;
    size_t safe, size;

    putchar('\n');
    if (r->n_keys == n) {
        printf("No key comes twice: no cache helps here.\n");
        return;
    }
    safe = safest(r, &worst);
    if (r->n_sizes > 1 && r->choice.n > 1)
        printf("Over these sizes %s is the safest choice: at most %.2f points "
               "below the best.\n",
               r->choice.list[safe]->name, worst);
    printf("A cache of any size hits at most %.2f %%: each key misses once.\n",
           100 * (double)(n - r->n_keys) / (double)n);
    if (r->default_policy == r->choice.n)
        return;
    size = enough_size(r);
    printf("The default, " DEFAULT_POLICY
           ", reaches %.0f %% of that (%.2f %%) with about %s entries,\n"
           "%.3g %% of the keys.\n",
           100 * ENOUGH, 100 * ENOUGH * (double)(n - r->n_keys) / (double)n,
           grouped(size), 100 * (double)size / (double)r->n_keys);
}

static int report_main(void)
{
    struct trace trace;
    struct report r = { .trace = &trace };
    char error[4352];
    FILE *tsv = NULL;

    r.choice = parse_policies(options.policies);
    while (r.default_policy < r.choice.n &&
           strcmp(r.choice.list[r.default_policy]->name, DEFAULT_POLICY) != 0)
        r.default_policy++;
    if (!trace_read(&trace, options.trace, error, sizeof error))
        die("%s", error);
    r.n_keys = trace_distinct(&trace);
    if (r.n_keys == 0)
        die("out of memory");
    parse_sizes(&r, options.sizes ? options.sizes : DEFAULT_SIZES);
    if (options.tsv != NULL)
        tsv = create(options.tsv);
    run_report(&r);
    print_table(&r);
    print_best(&r);
    print_advice(&r);
    if (tsv != NULL) {
        write_tsv(tsv, options.tsv, r.cells, r.n_sizes * r.choice.n);
        printf("The table as TSV: %s\n", options.tsv);
    }
    free(r.cells);
    free(r.sizes);
    trace_free(&trace);
    return 0;
}

/* --- cells that a file names --------------------------------------------- */

/* A list of cells that grows. */
struct cells {
    struct cell *list; /* may move when one is added */
    size_t n;          /* of them */
};

static struct cell *cells_add(struct cells *cells)
{
    struct cell *cell;

    cells->list =
        (struct cell *)grown(cells->list, cells->n, sizeof *cells->list);
    cell = &cells->list[cells->n++];
    memset(cell, 0, sizeof *cell);
    return cell;
}

static bool cells_have(const struct cells *cells, const struct trace *trace,
                       size_t size)
{
    size_t i;

    for (i = 0; i < cells->n; i++)
        if (cells->list[i].trace == trace && cells->list[i].size == size)
            return true;
    return false;
}

/* Reads the cells; false if a trace cannot be had. */
static bool read_cells(struct cells *cells, struct traces *traces,
                       const struct choice *choice)
{
    static const char *const names[] = { "trace", "size_entries" };
    bool all = true;
    struct tsv tsv;
    size_t i;

    tsv_open(&tsv, options.cells, names, 2);
    while (tsv_next(&tsv)) {
        const struct trace *trace = &traces_get(traces, tsv.field[0])->trace;
        size_t size = (size_t)tsv_number(&tsv, 1, 1, CACHE_MAX_CAPACITY);

        if (trace->n_requests == 0)
            all = false;
        if (trace->n_requests == 0 || cells_have(cells, trace, size))
            continue;
        for (i = 0; i < choice->n; i++) {
            struct cell *cell = cells_add(cells);

            cell->trace = trace;
            cell->policy = choice->list[i];
            cell->size = size;
        }
    }
    return all;
}

static int cells_main(void)
{
    struct choice choice = parse_policies(options.policies);
    struct traces traces = { NULL, 0 };
    struct cells cells = { NULL, 0 };
    FILE *tsv = create(options.tsv);
    bool all = read_cells(&cells, &traces, &choice);
    size_t n = 0, i;

    run(cells.list, cells.n);
    for (i = 0; i < cells.n; i++) {
        if (succeeded(&cells.list[i]))
            n++;
        else
            all = false;
    }
    write_tsv(tsv, options.tsv, cells.list, cells.n);
    printf("%s: %s rows (cells: %s, policies: %zu)\n", options.tsv, grouped(n),
           grouped(cells.n / choice.n), choice.n);
    if (!all)
        fprintf(stderr, "hitratio: not all cells of %s could be run\n",
                options.cells);
    free(cells.list);
    traces_free(&traces);
    return all ? 0 : 1;
}

/* --- exact hits ---------------------------------------------------------- */

/* What --exact counts. */
struct verdict {
    size_t n_passed, n_failed; /* rows */
    size_t
        n_left_out; /* large traces, and policies that only the tables have */
};

/* Reads what is expected; what cannot be run has failed already. */
static void read_exact(struct cells *cells, struct traces *traces,
                       struct verdict *verdict)
{
    static const char *const names[] = { "trace", "size_entries", "policy",
                                         "requests", "hits" };
    struct tsv tsv;

    tsv_open(&tsv, options.exact, names, 5);
    while (tsv_next(&tsv)) {
        const struct found_trace *found = traces_get(traces, tsv.field[0]);
        const struct policy *policy = policy_find(tsv.field[2]);
        uint64_t size = tsv_number(&tsv, 1, 1, CACHE_MAX_CAPACITY);
        uint64_t n_requests = tsv_number(&tsv, 3, 1, UINT64_MAX);
        struct cell *cell;

        if (found->left_out || strcmp(tsv.field[2], "belady") == 0) {
            verdict->n_left_out++;
            continue;
        }
        if (policy == NULL || n_requests != found->trace.n_requests) {
            printf("FAILED: %s: line %zu: %s\n", options.exact, tsv.n_lines,
                   policy == NULL ? "there is no such policy"
                   : found->trace.n_requests == 0
                       ? "the trace cannot be had"
                       : "the trace has another number of requests");
            verdict->n_failed++;
            continue;
        }
        cell = cells_add(cells);
        cell->trace = &found->trace;
        cell->policy = policy;
        cell->size = (size_t)size;
        cell->expected = tsv_number(&tsv, 4, 0, n_requests);
    }
}

static int exact_main(void)
{
    struct verdict verdict = { 0, 0, 0 };
    struct traces traces = { NULL, 0 };
    struct cells cells = { NULL, 0 };
    size_t i;

    read_exact(&cells, &traces, &verdict);
    run(cells.list, cells.n);
    for (i = 0; i < cells.n; i++) {
        const struct cell *cell = &cells.list[i];
        bool ok = succeeded(cell) && cell->hits == cell->expected;

        if (!ok)
            printf("FAILED: %s, %zu entries, %s: %" PRIu64
                   " hits, expected %" PRIu64 "\n",
                   cell->trace->name, cell->size, cell->policy->name,
                   cell->hits, cell->expected);
        if (ok)
            verdict.n_passed++;
        else
            verdict.n_failed++;
    }
    if (verdict.n_left_out > 0)
        printf("%zu rows left out: belady%s\n", verdict.n_left_out,
               options.small ? ", large traces" : "");
    if (cells.n == 0 && verdict.n_failed++ == 0)
        printf("FAILED: %s: nothing to compare\n", options.exact);
    printf("%zu passed, %zu failed\n", verdict.n_passed, verdict.n_failed);
    free(cells.list);
    traces_free(&traces);
    return verdict.n_failed != 0;
}

/* --- arguments ----------------------------------------------------------- */

static int usage(void)
{
    fputs("usage: hitratio [--sizes=LIST] [--policies=LIST] [--tsv=FILE] "
          "TRACE\n"
          "       hitratio --cells=FILE --traces=DIR [--policies=LIST] "
          "--tsv=FILE\n"
          "       hitratio --exact=FILE --traces=DIR [--small]\n"
          "all take --seed=N and --jobs=N\n",
          stderr);
    return 2;
}

/* Reads one argument; false if it is none. */
static bool parse_argument(const char *argument)
{
    static const struct {
        const char *name;
        const char **value;
    } texts[] = {
        { "--sizes=", &options.sizes },   { "--policies=", &options.policies },
        { "--tsv=", &options.tsv },       { "--cells=", &options.cells },
        { "--traces=", &options.traces }, { "--exact=", &options.exact }
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n = strlen(texts[i].name);

        if (strncmp(argument, texts[i].name, n) == 0) {
            *texts[i].value = argument + n;
            return argument[n] != '\0';
        }
    }
    if (strncmp(argument, "--seed=", 7) == 0)
        return parse_number(argument + 7, &options.seed);
    if (strncmp(argument, "--jobs=", 7) == 0)
        return parse_number(argument + 7, &options.jobs) && options.jobs > 0;
    if (strcmp(argument, "--small") == 0)
        return options.small = true;
    if (strncmp(argument, "--", 2) == 0 || options.trace != NULL)
        return false;
    options.trace = argument;
    return true;
}

int main(int argc, char **argv)
{
    long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
    int i;

    find_policies();
    options.jobs = n_processors > 0 ? (uint64_t)n_processors : 1;
    for (i = 1; i < argc; i++)
        if (!parse_argument(argv[i]))
            return usage();
    if (options.exact != NULL && options.traces != NULL)
        return exact_main();
    if (options.cells != NULL && options.traces != NULL && options.tsv != NULL)
        return cells_main();
    if (options.trace == NULL || options.traces != NULL)
        return usage();
    return report_main();
}
