# hitratio.gp - curves of the table that hitratio made: hit ratio over size, one
# line for each policy, the default's the thick black one.
#
#   gnuplot -e "tsv='build/hitratio.tsv'" bench/hitratio.gp >build/hitratio.svg
#
# One colour and point for each of eight policies, then the same ones dashed.
#
# SPDX-License-Identifier: MIT
set terminal svg size 900,540 dynamic background rgb "white" font "sans,13"
rows = "< awk -F'\\t' 'NR > 1 && $3 == \"%s\" { print $2, 100 * $4 }' '%s'"
policies = system(sprintf( \
    "awk -F'\\t' 'NR > 1 && !n[$3]++ { print $3 }' '%s'", tsv))
trace = system(sprintf("awk -F'\\t' 'NR == 2 { print $1 }' '%s'", tsv))
colours = "#0072b2 #e69f00 #009e73 #cc79a7 #d55e00 #56b4e9 #8c564b #999999"
colour(i) = word(colours, (i - 1) % 8 + 1)
is_default(p) = word(policies, p) eq "adaptive"

set title sprintf("Hit ratio on %s", trace) noenhanced
set xlabel "cache size, entries"
set ylabel "hit ratio, %"
set logscale x
set autoscale xfix
set format x "%.0f"
set yrange [0:*]
set offsets graph 0.02, graph 0.02, 0, 0
set grid xtics ytics linecolor rgb "#dddddd" linetype 1
set key outside right top Left reverse noenhanced
plot for [i = 1:words(policies)] sprintf(rows, word(policies, i), tsv) \
    with linespoints linewidth is_default(i) ? 3 : 1.3 \
    linecolor rgb is_default(i) ? "black" : colour(i) \
    dashtype i > 8 && !is_default(i) ? 2 : 1 \
    pointtype (i - 1) % 8 + 4 pointsize 0.6 title word(policies, i)
