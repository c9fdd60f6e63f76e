#!/bin/sh
# run.sh TEST...: runs tests two at a time and adds up what they count.  A test
# is a program whose last line is "N passed, N failed".  One that ends without
# it, or with an error but no failure, counts as one failure.  The output of
# each is in build/log; that of a failed one is shown.
set -u
mkdir -p build/log
log_of() { echo "build/log/$(echo "$1" | tr / _).log"; }

if [ "${1-}" = --one ]; then
    log=$(log_of "$2")
    start=$(date +%s%N)
    "$2" >"$log" 2>&1 </dev/null
    echo "exit $? after $(( ($(date +%s%N) - start) / 1000000 )) ms" >>"$log"
    exit 0
fi

printf '%s\n' "$@" | xargs -n 1 -P 2 "$0" --one
passed=0 failed=0
for test in "$@"; do
    log=$(log_of "$test")
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    p=${counts%% *} f=${counts#*, } f=${f%% *}
    [ -n "$counts" ] || p=0 f=1
    grep -q '^exit 0 ' "$log" || [ "$f" -gt 0 ] || f=1
    [ "$f" = 0 ] || { echo "--- $test"; tail -n 60 "$log"; }
    printf '%-32s %6d passed %4d failed  (%s)\n' "$test" "$p" "$f" \
        "$(tail -n 1 "$log" | sed 's/exit [0-9]* after //')"
    passed=$((passed + p)) failed=$((failed + f))
done
grep -h '^skipped: ' build/log/*.log | sort -u
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
