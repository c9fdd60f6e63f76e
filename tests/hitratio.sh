#!/bin/sh
# hitratio.sh: hits of the deterministic policies, one for one: on the
# repository's own workload, and on the traces in TRACES that EXACT_HITS names
# where the environment has both, the small ones unless TEST_SCALE asks for
# more; and what hitratio says to files that are not traces.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
exact() { # what the arguments say
    build/hitratio "$@" >"$dir/out" 2>&1
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$dir/out" | tail -n 1)
    [ -n "$counts" ] || counts='0 passed, 1 failed'
    p=${counts%% *} f=${counts#*, } f=${f%% *}
    passed=$((passed + p)) failed=$((failed + f))
    [ "$f" = 0 ] || cat "$dir/out"
}
refuses() { # file, part of the message
    build/hitratio --sizes=10 "$dir/$1" >"$dir/out" 2>&1
    if [ $? = 2 ] && grep -qF "$dir/$1: $2" "$dir/out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1: not refused with: $2"
        cat "$dir/out"
    fi
}
exact --exact=bench/workload.hits.tsv --traces=build
small=--small
[ "${TEST_SCALE:-1}" = 1 ] || small=
if [ -f "${EXACT_HITS:-}" ]; then
    exact --exact="$EXACT_HITS" --traces="$TRACES" $small
else
    echo "skipped: exact hits of more traces: EXACT_HITS is no file"
fi
: >"$dir/empty.txt"
printf '0123456789' >"$dir/cut.K8"
printf '0123456789' >"$dir/cut.K8S4"
printf '0123456789' >"$dir/plain.K8.zst"
printf '1\n2\0003\n' >"$dir/binary"
refuses empty.txt 'at byte 0: is empty'
refuses cut.K8 'at byte 10: ends inside a request'
refuses cut.K8S4 'at byte 10: ends inside a request'
refuses plain.K8.zst 'at byte 0: '
refuses binary 'at byte 3: a zero byte'
refuses absent 'No such file'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
