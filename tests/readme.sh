#!/bin/sh
# readme.sh: every C block of the README compiles without a warning; one with a
# main is run and must return 0.
set -u
passed=0 failed=0
rm -rf build/readme
mkdir -p build/readme
awk '/^```c$/ { n++; on = 1; next } /^```/ { on = 0 }
     on { print > ("build/readme/" n ".c") }' README.md

for block in build/readme/*.c; do
    program=${block%.c}
    out="-c -o $program.o"
    grep -q 'int main(' "$block" &&
        out="-o $program -luv -lsqlite3 -lpthread -fsanitize=address,undefined"
    if cc -std=gnu11 -Wall -Wextra -Werror -Wno-unused -I. "$block" $out &&
        { [ ! -x "$program" ] || (cd build/readme && "../../$program"); }; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $block"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
