#!/bin/sh
# icount.sh - instructions of one operation, and whether they crept up.
# Run from the root of the repository.  Counts bench/icount.c under valgrind's
# cachegrind, with n operations and with none, and compares the difference with
# bench/icount.tsv.  Fails if an operation takes over 3 % and one instruction
# more than the table says; less is only told.  UPDATE=1 writes the table anew.
# Then the bytes of code that one more type costs: get, put and remove, -O2.
# The table says which compiler and machine it is for: elsewhere the counts are
# only shown.
set -u; CC=${CC:-gcc} UPDATE=${UPDATE:-} n=4000
table=bench/icount.tsv
work=$(mktemp -d) || exit 2
here="# $("$CC" --version | head -n 1), $(uname -m)"
trap 'rm -rf "$work"' EXIT
"$CC" -std=gnu11 -O2 -I. bench/icount.c -o "$work/icount" || exit 2
count() { # policy workload n
    valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null \
        "$work/icount" "$1" "$2" "$3" 2>&1 |
        awk '/I +refs:/ { gsub(",", "", $NF); print $NF; n++ } END { exit n != 1 }'
}
for policy in fifo lru clock sieve s3fifo adaptive sieve+ttl; do
    none=$(count $policy hit 0) || exit 2
    for workload in hit absent evict put remove many; do
        all=$(count $policy $workload $n) || exit 2
        echo "$policy $workload $(((all - none) * 10 / n))"
    done
done | awk '{ printf "%s\t%s\t%.1f\n", $1, $2, $3 / 10 }' >"$work/now" || exit 2
[ -s "$work/now" ] || { echo "icount: nothing was counted" >&2; exit 2; }

# One more type: two types against one, all of its code.
cat >"$work/one.c" <<'END'
#include "cache.h"
#define TYPE(name, V)                                                          \
    CACHE_DEFINE(name, uint64_t, V, cache_hash_u64, cache_equal_u64,           \
                 CACHE_SIEVE);                                                 \
    const V *name##_1(struct name *c, uint64_t k) { return name##_get(c, k); } \
    int name##_2(struct name *c, uint64_t k, V v) { return name##_put(c, k, v); } \
    int name##_3(struct name *c, uint64_t k) { return name##_remove(c, k); }   \
    int name##_4(struct name *c, struct cache_config *f) { return name##_init(c, f); }
TYPE(a, uint64_t)
TYPE(b, uint64_t)
#ifdef MORE
TYPE(d, uint64_t)
#endif
END
code() { "$CC" -std=gnu11 -O2 -DNDEBUG -I. "$@" -c "$work/one.c" -o "$work/one.o" && size -A "$work/one.o" |
    awk '$1 ~ /^\.(text|rodata|data\.rel\.ro)/ { n += $2 } END { print n }'; }
bytes=$(($(code -DMORE) - $(code)))
printf 'code\tbytes\t%s.0\n' "$bytes" >>"$work/now"

if [ -n "$UPDATE" ]; then
    { echo "$here"; cat "$work/now"; } >$table
    echo "icount: $table is new"
    exit 0
fi
awk -v here="$here" -F '\t' '
    /^#/ { there = $0; next }
    FNR == NR { was[$1, $2] = $3; next }
    {
        old = was[$1, $2]; note = ""
        if (old == "") note = "not in the table"
        else if ($3 > old * 1.03 + 1) note = "MORE than " old
        else if ($3 < old * 0.97 - 1) note = "less than " old ": make icount UPDATE=1"
        failed += note ~ /^(MORE|not)/
        printf "%-10s %-8s %8.1f  %s\n", $1, $2, $3, note
    }
    END {
        if (here != there) { print "icount: the table is for " substr(there, 3); exit 0 }
        print failed ? "icount: FAILED" : "icount: ok"
        exit failed != 0
    }' $table "$work/now"
