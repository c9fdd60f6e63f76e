#!/bin/sh
# shared_controls.sh: the stress test of shared caches has to fail where it
# should: when nobody looks whether a writer came between, values must be found
# torn; when what threads without a lock see is plain data, ThreadSanitizer must
# find races.
set -u
passed=0 failed=0
flags="-std=gnu11 -g -I. -Wall -Wextra"
mkdir -p build/controls

# control compiler option expected-text
control() {
    name=build/controls/$2_$1
    if ! "$2" $flags "$3" "-DCONTROL=$1" tests/test_shared_stress.c -o "$name" \
        -lpthread >"$name.log" 2>&1; then
        why="it does not compile"
    elif TSAN_OPTIONS=halt_on_error=1 "$name" >"$name.log" 2>&1; then
        why="it passes"
    elif ! grep -q "$4" "$name.log"; then
        why="it fails for another reason"
    else
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "FAILED: control $1 with $2: $why"
    tail -n 12 "$name.log"
}

control 1 gcc -O2 "FAILED: sum.torn"
control 2 gcc -fsanitize=thread "ThreadSanitizer: data race"
control 2 clang -fsanitize=thread "ThreadSanitizer: data race"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
