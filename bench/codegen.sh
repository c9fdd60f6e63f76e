#!/bin/sh
# codegen.sh - what the compilers make of cache.h, and what its macros hold.
# Run from the root of the repository.  CC_LIST: compilers, CFLAGS: -O2.
# Fails if a get, or what it calls, has an indirect call or calls anything
# (strlen and strcmp are allowed for a string key), so no callback, no memcpy
# of constant size and no clock; if any probe calls memcpy, memmove, memcmp or
# bcmp; or if a macro of a public header has more than 80 lines, or a loop that
# is not the probe or over the keys of get_many; or if a cache of one thread, or
# a get of a shared one before it goes to its slow path, has a locked instruction.
# A get with expiry is only shown: it calls config.now.
set -u; CC_LIST=${CC_LIST:-gcc clang} CFLAGS=${CFLAGS:--O2}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failed=0
# One line for each function: name bytes instructions called,called,...
functions() {
    { nm -S "$1"; objdump -dr --no-show-raw-insn "$1"; } | awk '
    function hex(s,  i, v) {
        for (i = v = 0; i++ < length(s);) v = v * 16 + index("123456789abcdef", substr(s, i, 1))
        return v
    }
    function flush() { if (name != "") print name, size[name], n, calls == "" ? "-" : substr(calls, 2) }
    NF == 4 && $3 ~ /^[tT]$/ { size[$4] = hex($2); next }
    /^[0-9a-f]+ <.*>:$/ { flush(); name = substr($2, 2, length($2) - 3); n = 0; calls = ""; next }
    /R_X86_64_/ && callee { sub(/[-+]0x[0-9a-f]+$/, "", $3); sub(/,[^,]*$/, "", calls); calls = calls "," $3 }
    { callee = 0 }
    /^ +[0-9a-f]+:\t/ && !/\t(cs )?(nop|data16|xchg +%ax,%ax)/ {
        n++
        if (/\tlock / || /\txchg .*\(/) calls = calls ",LOCKED"
        if (/\t(bnd |notrack )*(call|jmp)q? +\*/) calls = calls ",INDIRECT"
        else if (/\tcallq? / || (/\tjmpq? / && !/\+0x/)) {
            callee = 1; gsub(/[<>]/, "", $NF); calls = calls "," $NF }
    }
    END { flush() }'
}
judge() {
    awk -v cc="$1" '
    function bad(why) { printf "codegen: FAILED: %s: %s: %s\n", cc, probe, why; failed = 1 }
    function walk(f,  list, k, m, to) { # all that f can reach
        if (seen[f]++) return
        m = split(calls[f], list, ",")
        for (k = 1; k <= m; k++) {
            to = list[k]
            if (to == "LOCKED") { bad("has a locked instruction"); continue }
            if (to ~ /^(memcpy|memmove|memcmp|bcmp)/) bad("calls " to)
            else if (probe !~ /_get/ || probe ~ /^probe_clock/ || to == "-") continue
            else if (to ~ /clock_gettime|cache__(system_now|advance)/) bad("reads the clock: " to)
            else if (to == "INDIRECT") bad("has an indirect call")
            else if (to ~ /__get_slowly/ && probe ~ /^probe_shared/) continue
            else if (!(to in calls) && !(probe ~ /^probe_str/ && to ~ /^str(len|cmp)$/)) bad("calls " to)
        }
        for (k = 1; k <= m; k++)
            if (list[k] in calls && list[k] !~ /__get_slowly/) walk(list[k])
    }
    { order[NR] = $1; calls[$1] = $4; bytes[$1] = $2; n[$1] = $3 }
    END {
        for (i = 1; i <= NR; i++) if ((probe = order[i]) ~ /^probe_/) {
            printf "%-8s %-24s %5d bytes %4d instructions  %s\n", cc, probe, bytes[probe], n[probe], calls[probe]
            split("", seen); walk(probe); n_probes++
        }
        if (n_probes < 10) { probe = "codegen_probe.c"; bad("only " n_probes + 0 " probes were found") }
        exit failed
    }' "$2"
}
if [ "$(uname -m)" = x86_64 ]; then
    for cc in $CC_LIST; do
        command -v "$cc" >/dev/null || { echo "codegen: $cc is not installed: skipped"; continue; }
        "$cc" $CFLAGS -std=gnu11 -I. -c bench/codegen_probe.c -o "$work/probe.o" || exit 1
        functions "$work/probe.o" >"$work/functions" || exit 1
        judge "$cc" "$work/functions" || failed=1
    done
else
    echo "codegen: the disassembly is read on x86_64 only: skipped"
fi
for header in *.h stores/*.h codecs/*.h; do
    [ -f "$header" ] && cat "$header"
done | awk '
    function bad(why) { printf "codegen: FAILED: macro %s %s\n", name, why; failed = 1 }
    !inside && /^[ \t]*#[ \t]*define/ { inside = 1; lines = loops = 0; probe = 0
        name = $0; sub(/^[ \t]*#[ \t]*define[ \t]+/, "", name); sub(/[^A-Za-z0-9_].*/, "", name) }
    inside {
        lines++
        text = $0; gsub(/"([^"\\]|\\.)*"|\/\*[^*]*\*\/|\} *while/, "", text) # its "do" counts
        if (text ~ /##__(pick|look)\(/ && !probe) probe = 1
        if (text ~ /##__get_block\(/) probe = 5 # get_many: over keys
        loops += gsub(/(^|[^A-Za-z0-9_])(for|while|do)[ \t({\\]/, "", text)
        if ($0 !~ /\\$/) {
            inside = 0
            if (lines > longest) { longest = lines; where = name }
            if (lines > 80) bad("has " lines " lines")
            if (loops > probe) bad("holds a loop that is not the probe")
        } }
    END { printf "longest macro: %s, %d lines\n", where, longest; exit failed }' || failed=1

[ "$failed" = 0 ] && echo "codegen: ok"; exit "$failed"
