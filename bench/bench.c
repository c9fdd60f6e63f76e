/*
 * bench.c - what one operation costs: our caches beside what a C or C++ user
 * would take instead.
 *
 * One process for each kind of workload and size, with all subjects side by
 * side in it (contest.h); here are the list of workloads, the table, the TSV.
 *
 *   build/bench [--quick] [--only=TEXT] [--sizes=400,50000] [--tsv=FILE]
 *
 * Exit code 1: a value was not the one of its key, a resident key was not
 * found, name_memory() is not what was allocated, or something was allocated
 * after init.  No time is ever a reason to fail.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contest.h"

struct options options = { .sizes = { 10000, 1000000 },
                           .batch_sizes = { 1000000, 10000000 },
                           .n_ops = 1000000,
                           .n_evictions = 50000000,
                           .n_rounds = 5 };

#define ONE measure_one_thread
#define SHARED G_SHARED | G_ALONE
static const struct workload workloads[] = {
    { "hit", "uniform", ONE, G_HIT, LOOK, RESIDENT, 0, 1 },
    { "hit", "zipf0.99", ONE, G_HIT, LOOK, RESIDENT, 0.99, 1 },
    { "hit", "dependent", ONE, G_HIT, DEPEND, RESIDENT, 0, 1 },
    { "miss", "absent", ONE, G_HIT, LOOK, ABSENT, 0, 0 },
    { "get_or_insert", "zipf0.99/2N", ONE, G_EVICT, ADD, POPULAR, 0.99, 2 },
    { "get_or_insert", "zipf0.99/10N", ONE, G_EVICT, ADD, POPULAR, 0.99, 10 },
    { "get_or_insert", "zipf0.8/2N", ONE, G_EVICT, ADD, POPULAR, 0.8, 2 },
    { "get_or_insert", "zipf0.8/10N", ONE, G_EVICT, ADD, POPULAR, 0.8, 10 },
    { "churn", "new", ONE, G_EVICT, STORE, FRESH, 0, 0 },
    { "memory", "-", measure_memory, G_MEMORY, STORE, RESIDENT, 0, 1 },
    { "ttl_hit", "uniform", ONE, G_TTL, LOOK, RESIDENT, 0, 1 },
    { "ttl_get_or_insert", "zipf0.99/2N", ONE, G_TTL, ADD, POPULAR, 0.99, 2 },
    { "aged", "-", measure_aged, G_AGED, LOOK, RESIDENT, 0, 1 },
    { "batch", "uniform", ONE, G_BATCH, LOOK, RESIDENT, 0, 1 },
    { "string_hit", "uniform", ONE, G_TEXT, LOOK, RESIDENT, 0, 1 },
    { "string_get_or_insert", "zipf0.99/2N", ONE, G_TEXT, ADD, POPULAR, 0.99,
      2 },
    { "string_churn", "new", ONE, G_TEXT, STORE, FRESH, 0, 0 },
    { "shared_hit", "uniform", measure_threads, SHARED, LOOK, RESIDENT, 0, 1 },
    { "shared_95_5", "zipf0.99", measure_threads, SHARED, MIXED, RESIDENT, 0.99,
      1 },
    { "shared_latency", "zipf0.99", measure_latency, SHARED, MIXED, RESIDENT,
      0.99, 1 },
    { "shared_get_or_insert", "zipf0.99/10N", measure_threads, SHARED, ADD,
      POPULAR, 0.99, 10 },
};
#define N_WORKLOADS (sizeof workloads / sizeof *workloads)

static const char *only = "";
static FILE *tsv;
static bool failed;
static int pipe_to_parent; /* in the process of a workload */

void fail(const struct workload *w, const char *subject, const char *what)
{
    fprintf(stderr, "bench: FAILED: %s %s: %s: %s\n", w->name, w->keys, subject,
            what);
    failed = true;
}

/* A row's workload is in static memory, so it is at the same place in the
 * process that reads the pipe. */
void report(const struct row *row)
{
    if (write(pipe_to_parent, row, sizeof *row) != (ssize_t)sizeof *row)
        must(NULL);
}

/* --- the table ------------------------------------------------------------ */

#define MAX_ROWS MAX_CONTESTANTS /* of a line */

/* The columns of the heading that was printed last. */
static struct {
    char names[MAX_ROWS][sizeof(((struct row *)NULL)->subject)];
    size_t n;
    int group; /* of the workloads below it */
} heading;

static int width(size_t column)
{
    int n = (int)strlen(heading.names[column]);

    return n < 7 ? 9 : n + 2;
}

static bool same_line(const struct row *a, const struct row *b)
{
    return a->workload == b->workload && a->threads == b->threads &&
           strcmp(a->variant, b->variant) == 0;
}

static const struct row *row_of(const struct row *rows, size_t n,
                                const char *subject)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (strcmp(rows[i].subject, subject) == 0)
            return &rows[i];
    return NULL;
}

/* A line may have fewer columns than the heading, but no others. */
static void print_heading(const struct row *rows, size_t n)
{
    size_t i, n_found = 0;

    for (i = 0; i < heading.n; i++)
        n_found += row_of(rows, n, heading.names[i]) != NULL;
    if (n_found == n && heading.group == rows->workload->group)
        return;
    heading.n = n;
    heading.group = rows->workload->group;
    printf("\n%-22s%-13s%9s%3s", "workload", "keys", "entries", "th");
    for (i = 0; i < n; i++) {
        memcpy(heading.names[i], rows[i].subject, sizeof rows[i].subject);
        printf("%*s", width(i), rows[i].subject);
    }
    printf("\n");
}

static double value_of(const struct row *row)
{
    return row->ns != 0 ? row->ns : row->bytes;
}

/* Times and how many times as fast as the first, or bytes and how many times as
 * little. */
static void print_line(const struct row *rows, size_t n)
{
    const struct row *row;
    char label[64];
    size_t i;

    snprintf(label, sizeof label, "%s%s", rows->workload->name, rows->variant);
    printf("%-22s%-13s%9zu%3u", label, rows->workload->keys, rows->entries,
           rows->threads);
    for (i = 0; i < heading.n; i++)
        if ((row = row_of(rows, n, heading.names[i])) == NULL)
            printf("%*s", width(i), "");
        else
            printf("%*.*f", width(i), value_of(row) < 99.95 ? 1 : 0,
                   value_of(row));
    printf("\n%-47s", rows->ns != 0 ? "" : "  bytes per entry");
    for (i = 0; i < heading.n; i++)
        if ((row = row_of(rows, n, heading.names[i])) == NULL)
            printf("%*s", width(i), "");
        else
            printf("%*.2fx", width(i) - 1, value_of(rows) / value_of(row));
    printf("\n");
}

/* A number, or "-": there is no time of memory, and no bytes of a cache whose
 * memory is not malloc's. */
static void write_number(double x, bool there)
{
    if (there)
        fprintf(tsv, "\t%.2f", x);
    else
        fputs("\t-", tsv);
}

static void write_tsv(const struct row *row)
{
    fprintf(tsv, "%s%s\t%s\t%zu\t%u\t%s", row->workload->name, row->variant,
            row->workload->keys, row->entries, row->threads, row->subject);
    write_number(row->ns, row->ns != 0);
    write_number(row->bytes, row->bytes > 0);
    fprintf(tsv, "\t%.5f\n", row->hit_ratio);
}

static void print_rows(const struct row *rows, size_t n)
{
    size_t i;

    if (n == 0)
        return;
    print_heading(rows, n);
    print_line(rows, n);
    fflush(stdout);
    for (i = 0; i < n && tsv != NULL; i++)
        write_tsv(&rows[i]);
}

/* --- processes ------------------------------------------------------------ */

static bool wanted(const struct workload *w)
{
    return strstr(w->name, only) != NULL;
}

/* In a process of its own: n workloads, whose caches are the same. */
static void measure(const struct workload *w, size_t n, size_t entries)
{
    struct contest c;
    size_t i;

    contest_begin(&c, w, entries);
    for (i = 0; i < n; i++)
        if (wanted(&w[i])) {
            c.workload = &w[i];
            w[i].measure(&c);
        }
    contest_end(&c);
}

/* Prints a line of the table when it is complete.  A row is shorter than
 * PIPE_BUF: it comes as a whole. */
static void print_from(int from)
{
    struct row rows[MAX_ROWS], row;
    size_t n = 0;

    while (read(from, &row, sizeof row) == (ssize_t)sizeof row) {
        if (n == MAX_ROWS || (n > 0 && !same_line(&rows[0], &row))) {
            print_rows(rows, n);
            n = 0;
        }
        rows[n++] = row;
    }
    print_rows(rows, n);
}

static void run(const struct workload *w, size_t n, size_t entries)
{
    int ends[2], status;
    pid_t child;

    fflush(NULL);
    if (pipe(ends) != 0)
        must(NULL);
    child = fork();
    if (child < 0)
        must(NULL);
    if (child == 0) {
        close(ends[0]);
        pipe_to_parent = ends[1];
        failed = false;
        measure(w, n, entries);
        _exit(failed);
    }
    close(ends[1]);
    print_from(ends[0]);
    close(ends[0]);
    if (waitpid(child, &status, 0) != child || status != 0)
        failed = true;
}

/* All sizes of n workloads of one group. */
static void run_group(const struct workload *w, size_t n)
{
    const size_t *sizes =
        w->group == G_BATCH ? options.batch_sizes : options.sizes;
    bool any = false;
    size_t i;

    for (i = 0; i < n; i++)
        any |= wanted(&w[i]);
    for (i = 0; any && sizes[i] != 0; i++)
        if (w->group != G_AGED || sizes[i + 1] == 0) /* the largest only */
            run(w, n, sizes[i]);
}

/* --- the header ----------------------------------------------------------- */

static void first_line_with(const char *file, const char *key, char *out)
{
    FILE *f = fopen(file, "r");
    char line[256];

    strcpy(out, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) {
            const char *colon = strchr(line, ':');

            sscanf(colon != NULL ? colon + 1 : line, " %200[^\n]", out);
            break;
        }
    if (f != NULL)
        fclose(f);
}

static void print_header(FILE *out)
{
    char cpu[256], l2[256], l3[256], thp[256];
    struct utsname system;

    first_line_with("/proc/cpuinfo", "model name", cpu);
    first_line_with("/sys/devices/system/cpu/cpu0/cache/index2/size", "", l2);
    first_line_with("/sys/devices/system/cpu/cpu0/cache/index3/size", "", l3);
    first_line_with("/sys/kernel/mm/transparent_hugepage/enabled", "", thp);
    uname(&system);
    fprintf(out,
            "# %s, %ld processors, caches %s and %s; %s %s, huge pages %s\n",
            cpu, sysconf(_SC_NPROCESSORS_ONLN), l2, l3, system.sysname,
            system.release, thp);
#ifdef __OPTIMIZE__
    fprintf(out, "# compiler %s, %s\n", __VERSION__, BENCH_FLAGS);
#else
    fprintf(out, "# NOT OPTIMISED: the times mean nothing\n");
#endif
    fprintf(out,
            "# ns per operation, median of %u rounds of %zu operations: CPU "
            "time, with threads (th > 1) wall time\n",
            options.n_rounds, options.n_ops);
}

static void describe(const struct subject *subject)
{
    for (; subject->name != NULL; subject++)
        if (subject->what != NULL)
            printf("# %-13s%s\n", subject->name, subject->what);
}

static void usage(void)
{
    fputs("usage: bench [--quick] [--only=TEXT] [--sizes=N,...] [--tsv=FILE]\n",
          stderr);
    exit(2);
}

/* Numbers of entries, for all workloads. */
static void parse_sizes(const char *text)
{
    char *end;
    size_t i;

    memset(options.sizes, 0, sizeof options.sizes);
    for (i = 0; i < MAX_SIZES; i++, text = end + 1) {
        options.sizes[i] = strtoul(text, &end, 10);
        if (options.sizes[i] == 0 || *end != ',')
            break;
    }
    if (options.sizes[0] == 0 || i == MAX_SIZES || *end != '\0')
        usage();
    memcpy(options.batch_sizes, options.sizes, sizeof options.sizes);
}

static void parse(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            options = (struct options) { .sizes = { 2000, 20000 },
                                         .batch_sizes = { 20000 },
                                         .n_ops = 19200,
                                         .n_evictions = 100000,
                                         .n_rounds = 3 };
        } else if (strncmp(argv[i], "--only=", 7) == 0) {
            only = argv[i] + 7;
        } else if (strncmp(argv[i], "--tsv=", 6) == 0) {
            tsv = (FILE *)must(fopen(argv[i] + 6, "w"));
        } else if (strncmp(argv[i], "--sizes=", 8) == 0) {
            parse_sizes(argv[i] + 8);
        } else {
            usage();
        }
    }
}

int main(int argc, char **argv)
{
    size_t i, end;

    parse(argc, argv);
    print_header(stdout);
    describe(subjects_uthash);
#ifdef BENCH_ALL_PEERS
    describe(subjects_glib);
    describe(subjects_cxx);
#else
    printf("# GLib, boost and absl: not built\n");
#endif
    describe(subjects_ours);
    describe(subjects_shared);
    if (tsv != NULL) {
        print_header(tsv);
        fputs("workload\tkeys\tentries\tthreads\tsubject\tns_per_op\t"
              "bytes_per_entry\thit_ratio\n",
              tsv);
    }
    for (i = 0; i < N_WORKLOADS; i = end) {
        for (end = i;
             end < N_WORKLOADS && workloads[end].group == workloads[i].group;)
            end++;
        run_group(&workloads[i], end - i);
    }
    if (tsv != NULL && fclose(tsv) != 0) {
        perror("bench: --tsv");
        return 2;
    }
    return failed;
}
