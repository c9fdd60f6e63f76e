#!/bin/sh
# unchanged.sh [COMMIT]: is a plain cache as fast and as small as it was?
# Run from the root of the repository.  Builds bench/icount.c and a small driver
# with the headers of COMMIT (729f67b, the last one before loading caches) and
# with those of the work tree, and prints side by side
#   instructions of an operation (cachegrind: exact, whatever the machine does),
#   ns of an operation (median of 9 rounds that take turns), with the older one
#   against itself to show the noise,
#   bytes of an entry, beside key and value, and of the struct.
# ONLY=sieve for one policy; NO_TIMES=1 leaves the times out.  It fails if an
# operation takes over 3 % and one instruction more, or an entry more bytes;
# never for a time.
set -u; CC=${CC:-gcc} ONLY=${ONLY:-} NO_TIMES=${NO_TIMES:-} then=${1:-729f67b} n=4000
work=$(mktemp -d) || exit 2
trap 'git worktree remove --force "$work/then" 2>/dev/null; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/then" "$then" || exit 2
driver() { # the sizes of $policy, and its time
    cat <<'END'
#include <stdio.h>
#include <stdlib.h>
#include "cache.h"
#define N 100000u
#define KIND(kind, options, ttl)                                               \
    CACHE_DEFINE(kind, uint64_t, uint64_t, cache_hash_u64, cache_equal_u64,    \
                 options);                                                     \
    static void kind##_run(char what)                                          \
    {                                                                          \
        struct cache_config config = { .capacity = N, .ttl_ms = ttl,           \
                                       .seed = 1 };                            \
        struct timespec a, b;                                                  \
        const uint64_t *v;                                                     \
        uint64_t sum = 0, x = 1, i;                                            \
        struct kind c;                                                         \
        if (kind##_init(&c, &config) != 0)                                     \
            exit(2);                                                           \
        if (what == 's') {                                                     \
            printf("%.1f %zu\n",                                               \
                   (double)kind##_memory(&c).total_bytes / N - 16, sizeof c);  \
            exit(0);                                                           \
        }                                                                      \
        for (i = 0; i < 4 * N; i++)                                            \
            kind##_put(&c, i % (2 * N) * 0x9e3779b97f4a7c15u, i);              \
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);                            \
        for (i = 0; i < 4 * N; i++) {                                          \
            x = x * 6364136223846793005u + 1442695040888963407u;               \
            if (what == 'h') {                                                 \
                v = kind##_get(&c, (N + (x >> 40) % N) * 0x9e3779b97f4a7c15u); \
                sum += v ? *v : 0;                                             \
            } else {                                                           \
                kind##_put(&c, x, i);                                          \
            }                                                                  \
        }                                                                      \
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);                            \
        kind##_destroy(&c);                                                    \
        if (sum != 1)                                                          \
            printf("%.2f\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 +            \
                              (double)(b.tv_nsec - a.tv_nsec)) / (4 * N));     \
    }
KIND(fifo, CACHE_FIFO, 0)
KIND(lru, CACHE_LRU, 0)
KIND(clock_, CACHE_CLOCK, 0)
KIND(sieve, CACHE_SIEVE, 0)
KIND(s3fifo, CACHE_S3FIFO, 0)
KIND(adaptive, CACHE_ADAPTIVE, 0)
KIND(expiring, CACHE_SIEVE | CACHE_EXPIRY, 60000)
#include <string.h>
#include <time.h>
int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(char); } kinds[] = {
        { "fifo", fifo_run }, { "lru", lru_run }, { "clock", clock__run },
        { "sieve", sieve_run }, { "s3fifo", s3fifo_run },
        { "adaptive", adaptive_run }, { "sieve+ttl", expiring_run } };
    for (size_t i = 0; argc == 3 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, argv[1]) == 0)
            kinds[i].run(argv[2][0]);
    return 0;
}
END
}
driver >"$work/driver.c"
cp bench/icount.c "$work/icount.c" # not beside the headers of today
for side in then now; do
    from=$([ $side = then ] && echo "$work/then" || echo .)
    "$CC" -std=gnu11 -O2 -I"$from" "$work/icount.c" -o "$work/icount-$side" || exit 2
    "$CC" -std=gnu11 -O2 -w -I"$from" "$work/driver.c" -o "$work/driver-$side" || exit 2
done
count() { # side policy workload n
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
        "$work/icount-$1" "$2" "$3" "$4" 2>&1 |
        awk '/I +refs:/ { gsub(",", "", $NF); print $NF; n++ } END { exit n != 1 }'
}
middle() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
policies=${ONLY:-fifo lru clock sieve s3fifo adaptive sieve+ttl}

echo "instructions of an operation: $then, now"
for policy in $policies; do
    for side in then now; do
        none=$(count $side "$policy" hit 0) || exit 2
        for workload in hit absent evict put remove many; do
            all=$(count $side "$policy" $workload $n) || exit 2
            echo "$side $policy $workload $(((all - none) * 10 / n))"
        done
    done
done | awk '
    $1 == "then" { was[$2, $3] = $4 / 10; next }
    { now = $4 / 10; old = was[$2, $3]; more = now > old * 1.03 + 1
      printf "%-10s %-8s %8.1f %8.1f%s\n", $2, $3, old, now, more ? "  MORE" : ""
      failed += more; n++ }
    END { exit failed != 0 || n == 0 }' && bad=0 || bad=1

echo "bytes of an entry beside key and value, and of the struct: $then, now"
for policy in $policies; do
    old=$("$work/driver-then" "$policy" s) new=$("$work/driver-now" "$policy" s)
    echo "$policy $old $new"
done >"$work/sizes"
awk '{ more = $4 > $2 + 0.05
       printf "%-10s %8.1f %8.1f %8d %8d%s\n", $1, $2, $4, $3, $5, more ? "  MORE" : ""
       failed += more } END { exit failed != 0 }' "$work/sizes" || bad=1

if [ -z "$NO_TIMES" ]; then
    echo "ns of an operation, 100,000 entries: $then, now; again / $then, now / $then"
    cp "$work/driver-then" "$work/driver-again"
    for policy in $policies; do
        for workload in hit evict; do
            for round in 1 2 3 4 5 6 7 8 9; do
                for side in then now again; do
                    "$work/driver-$side" "$policy" $workload >>"$work/$side.ns"
                done
            done
            a=$(middle <"$work/then.ns") b=$(middle <"$work/now.ns")
            again=$(middle <"$work/again.ns")
            echo "$policy $workload $a $b $again" |
                awk '{ printf "%-10s %-8s %8.1f %8.1f %8.2f %8.2f\n", $1, $2, $3, $4, $5 / $3, $4 / $3 }'
            rm -f "$work"/*.ns
        done
    done
fi
[ $bad = 0 ] && echo "unchanged: ok" || echo "unchanged: FAILED"
exit $bad
