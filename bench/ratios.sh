#!/bin/sh
# ratios.sh [bench.tsv]: the figures that are wanted of this library, from a table
# that bench made.  Each is one time (or bytes, or hit ratio) divided by another,
# of the same process; "noise" is what a cache reached against itself there.
# A line below: figure | wanted | cell | cell.  A cell is
#     column workload keys entries threads subject
# and a number alone stands for itself; "hits" is in percent.
set -u
tsv=${1:-bench/results/bench.tsv}
[ -f "$tsv" ] || { echo "ratios.sh: $tsv: no such file; make bench" >&2; exit 2; }
figures() {
    cat <<'END'
== hit, uniform, 1M: time against a bare boost::unordered_flat_map
sieve | <= 2.2 | ns hit uniform 1000000 1 sieve | ns hit uniform 1000000 1 boost_raw
clock | <= 2.2 | ns hit uniform 1000000 1 clock | ns hit uniform 1000000 1 boost_raw
adaptive | <= 2.2 | ns hit uniform 1000000 1 adaptive | ns hit uniform 1000000 1 boost_raw
== hit, uniform, 1M: time against boost + list
lru | <= 1.1 | ns hit uniform 1000000 1 lru | ns hit uniform 1000000 1 boost
== get-or-insert, Zipf 0.99 over 2N, 1M: times as fast as uthash + list
sieve | >= 4.5 | ns get_or_insert zipf0.99/2N 1000000 1 uthash | ns get_or_insert zipf0.99/2N 1000000 1 sieve
clock | >= 4.5 | ns get_or_insert zipf0.99/2N 1000000 1 uthash | ns get_or_insert zipf0.99/2N 1000000 1 clock
adaptive | >= 2.5 | ns get_or_insert zipf0.99/2N 1000000 1 uthash | ns get_or_insert zipf0.99/2N 1000000 1 adaptive
lru | - | ns get_or_insert zipf0.99/2N 1000000 1 uthash | ns get_or_insert zipf0.99/2N 1000000 1 lru
== the same: times as fast as GLib
sieve | >= 3.5 | ns get_or_insert zipf0.99/2N 1000000 1 glib | ns get_or_insert zipf0.99/2N 1000000 1 sieve
clock | >= 3.5 | ns get_or_insert zipf0.99/2N 1000000 1 glib | ns get_or_insert zipf0.99/2N 1000000 1 clock
adaptive | - | ns get_or_insert zipf0.99/2N 1000000 1 glib | ns get_or_insert zipf0.99/2N 1000000 1 adaptive
lru | - | ns get_or_insert zipf0.99/2N 1000000 1 glib | ns get_or_insert zipf0.99/2N 1000000 1 lru
== the same: times as fast as boost + list
sieve | >= 1.0 | ns get_or_insert zipf0.99/2N 1000000 1 boost | ns get_or_insert zipf0.99/2N 1000000 1 sieve
clock | >= 1.0 | ns get_or_insert zipf0.99/2N 1000000 1 boost | ns get_or_insert zipf0.99/2N 1000000 1 clock
adaptive | - | ns get_or_insert zipf0.99/2N 1000000 1 boost | ns get_or_insert zipf0.99/2N 1000000 1 adaptive
lru | - | ns get_or_insert zipf0.99/2N 1000000 1 boost | ns get_or_insert zipf0.99/2N 1000000 1 lru
== get-or-insert, Zipf 0.99 over 2N, 10 thousand: times as fast as boost + list
sieve | >= 0.83 | ns get_or_insert zipf0.99/2N 10000 1 boost | ns get_or_insert zipf0.99/2N 10000 1 sieve
clock | >= 0.83 | ns get_or_insert zipf0.99/2N 10000 1 boost | ns get_or_insert zipf0.99/2N 10000 1 clock
lru | >= 0.83 | ns get_or_insert zipf0.99/2N 10000 1 boost | ns get_or_insert zipf0.99/2N 10000 1 lru
adaptive | - | ns get_or_insert zipf0.99/2N 10000 1 boost | ns get_or_insert zipf0.99/2N 10000 1 adaptive
== a put that evicts, 1M: times as fast as uthash + list
sieve | >= 5 | ns churn new 1000000 1 uthash | ns churn new 1000000 1 sieve
clock | >= 5 | ns churn new 1000000 1 uthash | ns churn new 1000000 1 clock
lru | - | ns churn new 1000000 1 uthash | ns churn new 1000000 1 lru
adaptive | - | ns churn new 1000000 1 uthash | ns churn new 1000000 1 adaptive
== the same: times as fast as boost + list
sieve | >= 1.2 | ns churn new 1000000 1 boost | ns churn new 1000000 1 sieve
clock | >= 1.2 | ns churn new 1000000 1 boost | ns churn new 1000000 1 clock
lru | - | ns churn new 1000000 1 boost | ns churn new 1000000 1 lru
== miss, 1M: times as fast
sieve, uthash + list | >= 4 | ns miss absent 1000000 1 uthash | ns miss absent 1000000 1 sieve
sieve, GLib | >= 0.9 | ns miss absent 1000000 1 glib | ns miss absent 1000000 1 sieve
== bookkeeping, bytes per entry, 1M
clock | <= 12.5 | bytes memory - 1000000 1 clock | 1
fifo | <= 20.5 | bytes memory - 1000000 1 fifo | 1
lru | <= 20.5 | bytes memory - 1000000 1 lru | 1
sieve | <= 20.5 | bytes memory - 1000000 1 sieve | 1
s3fifo | <= 28 | bytes memory - 1000000 1 s3fifo | 1
clock, CACHE_EXPIRY | <= 16.5 | bytes memory - 1000000 1 clock+ttl | 1
sieve, CACHE_EXPIRY | <= 24.5 | bytes memory - 1000000 1 sieve+ttl | 1
uthash + list / sieve | - | bytes memory - 1000000 1 uthash | bytes memory - 1000000 1 sieve
== expiry on, time against off: hit, uniform
sieve, 1M | <= 1.12 | ns ttl_hit uniform 1000000 1 sieve+ttl | ns ttl_hit uniform 1000000 1 sieve
sieve, 1M, config.now_ms | <= 1.12 | ns ttl_hit uniform 1000000 1 sieve+ttl+now_ms | ns ttl_hit uniform 1000000 1 sieve
clock, 1M | <= 1.12 | ns ttl_hit uniform 1000000 1 clock+ttl | ns ttl_hit uniform 1000000 1 clock
lru, 1M | <= 1.12 | ns ttl_hit uniform 1000000 1 lru+ttl | ns ttl_hit uniform 1000000 1 lru
adaptive, 1M | <= 1.12 | ns ttl_hit uniform 1000000 1 adaptive+ttl | ns ttl_hit uniform 1000000 1 adaptive
sieve, 10 thousand | <= 1.12 | ns ttl_hit uniform 10000 1 sieve+ttl | ns ttl_hit uniform 10000 1 sieve
== after 50 million evictions, time against fresh, 1M
sieve, hit | <= 1.25 | ns aged_hit uniform 1000000 1 sieve_aged | ns aged_hit uniform 1000000 1 sieve
sieve, miss | <= 1.25 | ns aged_miss absent 1000000 1 sieve_aged | ns aged_miss absent 1000000 1 sieve
sieve, churn | <= 1.25 | ns aged_churn new 1000000 1 sieve_aged | ns aged_churn new 1000000 1 sieve
lru, hit | <= 1.25 | ns aged_hit uniform 1000000 1 lru_aged | ns aged_hit uniform 1000000 1 lru
lru, miss | <= 1.25 | ns aged_miss absent 1000000 1 lru_aged | ns aged_miss absent 1000000 1 lru
lru, churn | <= 1.25 | ns aged_churn new 1000000 1 lru_aged | ns aged_churn new 1000000 1 lru
adaptive, hit | <= 1.25 | ns aged_hit uniform 1000000 1 adaptive_aged | ns aged_hit uniform 1000000 1 adaptive
adaptive, miss | <= 1.25 | ns aged_miss absent 1000000 1 adaptive_aged | ns aged_miss absent 1000000 1 adaptive
adaptive, churn | <= 1.25 | ns aged_churn new 1000000 1 adaptive_aged | ns aged_churn new 1000000 1 adaptive
== get_many of 32: times as fast as one by one, sieve
1M | >= 1.25 | ns batch uniform 1000000 1 sieve | ns batch uniform 1000000 1 sieve_many
10M | >= 1.25 | ns batch uniform 10000000 1 sieve | ns batch uniform 10000000 1 sieve_many
1M, huge pages | >= 1.25 | ns batch uniform 1000000 1 sieve_huge | ns batch uniform 1000000 1 sieve_many_huge
10M, huge pages | >= 1.25 | ns batch uniform 10000000 1 sieve_huge | ns batch uniform 10000000 1 sieve_many_huge
== strings, 1M: times as fast as uthash + list
hit, sieve | >= 3.5 | ns string_hit uniform 1000000 1 uthash | ns string_hit uniform 1000000 1 sieve
hit, sieve, keys of any length | - | ns string_hit uniform 1000000 1 uthash | ns string_hit uniform 1000000 1 sieve_bytes
hit, lru | - | ns string_hit uniform 1000000 1 uthash | ns string_hit uniform 1000000 1 lru
get-or-insert, sieve | >= 2.5 | ns string_get_or_insert zipf0.99/2N 1000000 1 uthash | ns string_get_or_insert zipf0.99/2N 1000000 1 sieve
get-or-insert, lru | - | ns string_get_or_insert zipf0.99/2N 1000000 1 uthash | ns string_get_or_insert zipf0.99/2N 1000000 1 lru
churn, sieve | >= 4 | ns string_churn new 1000000 1 uthash | ns string_churn new 1000000 1 sieve
churn, lru | - | ns string_churn new 1000000 1 uthash | ns string_churn new 1000000 1 lru
== shared, one thread, hits: time against unshared
sieve, 10 thousand | <= 1.15 | ns shared_hit uniform 10000 1 shared_sieve | ns shared_hit uniform 10000 1 sieve
sieve, 1M | <= 1.10 | ns shared_hit uniform 1000000 1 shared_sieve | ns shared_hit uniform 1000000 1 sieve
adaptive, 10 thousand | <= 1.15 | ns shared_hit uniform 10000 1 shared_adaptive | ns shared_hit uniform 10000 1 adaptive
adaptive, 1M | <= 1.10 | ns shared_hit uniform 1000000 1 shared_adaptive | ns shared_hit uniform 1000000 1 adaptive
== shared, two threads: times as fast as one
hit, sieve, 10 thousand | >= 1.9 | ns shared_hit uniform 10000 1 shared_sieve | ns shared_hit uniform 10000 2 shared_sieve
hit, sieve, 1M | >= 1.9 | ns shared_hit uniform 1000000 1 shared_sieve | ns shared_hit uniform 1000000 2 shared_sieve
hit, adaptive, 1M | >= 1.9 | ns shared_hit uniform 1000000 1 shared_adaptive | ns shared_hit uniform 1000000 2 shared_adaptive
hit, lru, 1M | - | ns shared_hit uniform 1000000 1 shared_lru | ns shared_hit uniform 1000000 2 shared_lru
95/5, sieve, 10 thousand | >= 1.75 | ns shared_95_5 zipf0.99 10000 1 shared_sieve | ns shared_95_5 zipf0.99 10000 2 shared_sieve
95/5, sieve, 1M | >= 1.75 | ns shared_95_5 zipf0.99 1000000 1 shared_sieve | ns shared_95_5 zipf0.99 1000000 2 shared_sieve
95/5, adaptive, 1M | >= 1.75 | ns shared_95_5 zipf0.99 1000000 1 shared_adaptive | ns shared_95_5 zipf0.99 1000000 2 shared_adaptive
a fifth misses, sieve, 1M | >= 1.0 | ns shared_get_or_insert zipf0.99/10N 1000000 1 shared_sieve | ns shared_get_or_insert zipf0.99/10N 1000000 2 shared_sieve
a fifth misses, clock, 1M | >= 1.0 | ns shared_get_or_insert zipf0.99/10N 1000000 1 shared_clock | ns shared_get_or_insert zipf0.99/10N 1000000 2 shared_clock
== shared, two threads, hits: times as fast as uthash + list behind a mutex
sieve, 10 thousand | >= 10 | ns shared_hit uniform 10000 2 uthash_mutex | ns shared_hit uniform 10000 2 shared_sieve
sieve, 1M | >= 10 | ns shared_hit uniform 1000000 2 uthash_mutex | ns shared_hit uniform 1000000 2 shared_sieve
== shared, 8 threads, 95/5: an operation, ns (the clock's reading included)
sieve, 1M, p99.9 | <= 1000 | ns shared_latency_p99.9 zipf0.99 1000000 8 shared_sieve | 1
sieve, 1M, p99.99 | <= 20000 | ns shared_latency_p99.99 zipf0.99 1000000 8 shared_sieve | 1
adaptive, 1M, p99.9 | <= 1000 | ns shared_latency_p99.9 zipf0.99 1000000 8 shared_adaptive | 1
adaptive, 1M, p99.99 | <= 20000 | ns shared_latency_p99.99 zipf0.99 1000000 8 shared_adaptive | 1
uthash + mutex, 1M, p99.9 | - | ns shared_latency_p99.9 zipf0.99 1000000 8 uthash_mutex | 1
uthash + mutex, 1M, p99.99 | - | ns shared_latency_p99.99 zipf0.99 1000000 8 uthash_mutex | 1
END
}
figures | awk -F '\t' '
    function cell(text,  part) {
        split(text, part, " ")
        if (text ~ /^[0-9.]+$/) return text
        return value[part[1], part[2], part[3], part[4], part[5], part[6]]
    }
    function noise(text,  part, one, two) {
        split(text, part, " ")
        one = part[2] ~ /^shared/ ? "shared_sieve" : "sieve"
        two = value[part[1], part[2], part[3], part[4], part[5], one "_again"]
        one = value[part[1], part[2], part[3], part[4], part[5], one]
        return one > 0 && two > 0 ? sprintf("%.2f", two / one) : ""
    }
    function verdict(wanted, reached,  part) {
        if (split(wanted, part, " ") != 2) return ""
        if (part[1] == "<=") return reached <= part[2] ? "yes" : "NO"
        return reached >= part[2] ? "yes" : "NO"
    }
    FNR == NR {
        if ($0 !~ /^#/) {
            value["ns", $1, $2, $3, $4, $5] = $6
            value["bytes", $1, $2, $3, $4, $5] = $7
            value["hits", $1, $2, $3, $4, $5] = 100 * $8
        }
        next
    }
    FNR == 1 { printf "%-52s%10s%10s%7s\n", "", "wanted", "reached", "noise" }
    /^==/ { print substr($0, 4); next }
    {
        split($0, field, / \| /)
        a = cell(field[3]); b = cell(field[4])
        if (a == "" || b == "" || b == 0) {
            printf "  %-50s%10s%10s\n", field[1], field[2], "-"
            next
        }
        printf "  %-50s%10s%10.2f%7s  %s\n", field[1], field[2], a / b, \
            noise(field[3]), verdict(field[2], a / b)
    }' "$tsv" -
