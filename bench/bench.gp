# bench.gp - pictures of the table that bench made.
#
#   gnuplot -e "tsv='bench/results/bench.tsv'; dir='bench/results'" bench/bench.gp
#
# speed.svg     integers: each operation at each size
# strings.svg   the same for strings
# memory.svg    bytes per entry that are neither key nor value
# threads.svg   one thread and two, at the largest size
# latency.svg   percentiles of an operation, 8 threads on two cores
#
# SPDX-License-Identifier: MIT
set datafile separator "\t"
set style data histogram
set style histogram clustered gap 1.5
set style fill solid noborder
set grid ytics linecolor rgb "#dddddd" linetype 1
set key outside right top Left reverse noenhanced
set xtics nomirror noenhanced
set boxwidth 0.9

# What a column has, once each, in order of appearance, where a row matches.
distinct(column, condition) = system(sprintf( \
    "awk -F'\\t' '!/^#/ && $1 != \"workload\" && (%s) && !seen[$%d]++ { print $%d }' '%s'", \
    condition, column, column, tsv))
# The name of an operation, on several lines, and its time.
operation = '(sub(/^string_/, "", $1) sub(/_or_/, "-or-\\n", $1) ' . \
    'sub(/zipf/, "Zipf ", $2) sub("/", "\\nover ", $2) ? "" : "") $1 "\\n" $2 "\t" $6'
rows(condition, what) = sprintf( \
    "< awk -F'\\t' '!/^#/ && (%s) { print %s }' '%s'", condition, what, tsv)

peers = "uthash glib boost absl boost_raw uthash_mutex"
greys = "#4d4d4d #7f7f7f #a6a6a6 #c8c8c8 #e0e0e0 #4d4d4d"
ours = "fifo clock sieve lru s3fifo adaptive sieve_bytes"
hues = "#b2df8a #56b4e9 #0072b2 #e69f00 #009e73 #d55e00 #cc79a7"
place(s, list) = int(sum [i = 1:words(list)] (word(list, i) eq s ? i : 0))
plain(s) = s[1:7] eq "shared_" ? s[8:*] : s
colour(s) = place(s, peers) > 0 ? word(greys, place(s, peers)) \
    : place(plain(s), ours) > 0 ? word(hues, place(plain(s), ours)) : "#999999"
sizes = distinct(3, '$1 == "hit"')
largest = word(sizes, words(sizes))
grown(n) = n >= 1000000 ? sprintf("%g million", n / 1000000.0) \
    : sprintf("%g thousand", n / 1000.0)

set bmargin 5
set terminal svg size 1100,760 dynamic background rgb "white" font "sans,12"
set output dir . "/speed.svg"
set multiplot layout 2,1
set ylabel "ns per operation"
do for [n in sizes] {
    where = sprintf('$3 == %s && $1 ~ /^(hit|miss|get_or_insert|churn)$/', n)
    set title sprintf("uint64_t to uint64_t, %s entries", grown(n)) noenhanced
    set yrange [0:*]
    plot for [s in distinct(5, where . ' && $5 !~ /again|raw/')] \
        rows(sprintf('%s && $5 == "%s"', where, s), operation) \
        using 2:xtic(1) title s linecolor rgb colour(s)
}
unset multiplot

set output dir . "/strings.svg"
set multiplot layout 2,1
do for [n in sizes] {
    where = sprintf('$3 == %s && $1 ~ /^string_/', n)
    set title sprintf("Strings of 16 to 32 bytes to 100 bytes, %s entries", grown(n))
    plot for [s in distinct(5, where . ' && $5 !~ /again/')] \
        rows(sprintf('%s && $5 == "%s"', where, s), operation) \
        using 2:xtic(1) title s linecolor rgb colour(s)
}
unset multiplot

unset bmargin
set terminal svg size 1000,360 dynamic background rgb "white" font "sans,12"
set output dir . "/memory.svg"
set title sprintf("Bytes per entry that are neither key nor value, %s entries", \
    grown(largest))
set ylabel "bytes"
unset key
set xtics rotate by -20
set offsets 0, 0, graph 0.1, 0
set rmargin 6
plot rows(sprintf('$1 == "memory" && $3 == %s && $5 !~ /again/', largest), \
        '$5 "\t" $7') using 2:xtic(1) linecolor rgb "#0072b2", \
    "" using 0:2:(sprintf("%.1f", $2)) with labels offset 0,0.6

set offsets 0, 0, 0, 0
unset rmargin
set output dir . "/threads.svg"
set title sprintf("Wall time over all operations, %s entries", grown(largest))
set ylabel "ns per operation"
set key outside right top Left reverse noenhanced
where = sprintf('$3 == %s && $1 ~ /^shared_(hit|95_5|get)/ && $5 ~ /^(shared|uthash_m)/ && $5 !~ /again/', largest)
plot for [w in distinct(1, where)] for [t = 1:2] \
    rows(sprintf('%s && $1 == "%s" && $4 == %d', where, w, t), '$5 "\t" $6') \
    using 2:xtic(1) title sprintf("%s, %d thread%s", w[8:*], t, t > 1 ? "s" : "") \
    linecolor rgb word("#9ecae1 #08519c #fdd0a2 #d94801 #c7e9c0 #238b45", \
        2 * place(w, distinct(1, where)) - 2 + t)

set output dir . "/latency.svg"
set title sprintf("One operation, 19 gets and 1 put, 8 threads on two cores, %s entries", \
    grown(largest))
set ylabel "microseconds"
set logscale y
set yrange [*:*]
set xtics norotate
set style data linespoints
where = sprintf('$3 == %s && $1 ~ /^shared_latency/ && $5 !~ /again/', largest)
plot for [s in distinct(5, where)] \
    rows(sprintf('%s && $5 == "%s"', where, s), \
        'substr($1, 16) "\t" $6 / 1000') using 2:xtic(1) title s linewidth 2 \
    linecolor rgb colour(s)
