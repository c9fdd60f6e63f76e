#!/bin/sh
# table.sh [bench.tsv]: the README's table: ns per operation, and how many times as
# fast as uthash + list in the same process.
set -u
tsv=${1:-bench/results/bench.tsv}
[ -f "$tsv" ] || { echo "table.sh: $tsv: no such file; make bench" >&2; exit 2; }
awk -F '\t' '
    function number(x) { return x < 99.95 ? sprintf("%.1f", x) : sprintf("%.0f", x) }
    function line(n, title, workload, keys, column,  i, key, base, text) {
        text = sprintf("| %s | %s |", n == last_n ? "" : names[n], title)
        last_n = n
        base = value[column, workload, keys, n, subjects[1]]
        for (i = 1; i <= n_subjects; i++) {
            key = value[column, workload, keys, n, subjects[i]]
            if (key != "")
                text = text " " number(key)
            if (key > 0 && i > 1)
                text = text sprintf(" (%.1fx)", base / key)
            text = text " |"
        }
        print text
    }
    BEGIN {
        n_subjects = split("uthash glib boost absl fifo lru clock sieve s3fifo adaptive", subjects, " ")
        n_sizes = split("10000 1000000", sizes, " ")
        names[10000] = "10 thousand"; names[1000000] = "1 million"
    }
    !/^#/ && $4 == 1 { value["ns", $1, $2, $3, $5] = $6; value["bytes", $1, $2, $3, $5] = $7 }
    END {
        print "| entries | operation | uthash + list | GLib | boost + list | absl + list | FIFO | LRU | CLOCK | SIEVE | S3FIFO | ADAPTIVE |"
        print "|---|---|---|---|---|---|---|---|---|---|---|---|"
        for (i = 1; i <= n_sizes; i++) {
            line(sizes[i], "hit", "hit", "uniform", "ns")
            line(sizes[i], "hit, Zipf 0.99", "hit", "zipf0.99", "ns")
            line(sizes[i], "hit, each after the other", "hit", "dependent", "ns")
            line(sizes[i], "miss", "miss", "absent", "ns")
            line(sizes[i], "get-or-insert", "get_or_insert", "zipf0.99/2N", "ns")
            line(sizes[i], "get-or-insert, half misses", "get_or_insert", "zipf0.8/10N", "ns")
            line(sizes[i], "put that evicts", "churn", "new", "ns")
            line(sizes[i], "string: hit", "string_hit", "uniform", "ns")
            line(sizes[i], "string: get-or-insert", "string_get_or_insert", "zipf0.99/2N", "ns")
            line(sizes[i], "string: put that evicts", "string_churn", "new", "ns")
            line(sizes[i], "bookkeeping, bytes per entry", "memory", "-", "bytes")
        }
    }' "$tsv"
