#!/bin/sh
# headers.sh: every public header alone, in every language and compiler that we
# promise, with all warnings as errors.
set -u
passed=0 failed=0
mkdir -p build/headers
warn="-Itests -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"

compile() { # compiler standard file
    if "$1" "-std=$2" $warn -I. -fsyntax-only "$3" 2>build/headers/err; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1 -std=$2 $3"
        head -n 12 build/headers/err
    fi
}

for header in *.h stores/*.h codecs/*.h util/*.h; do
    [ -f "$header" ] || continue
    # libuv's and POSIX' own headers do not go with a strict standard.
    standards="c11 c17 gnu2x"
    grep -q -E '#include (<(uv|pthread)\.h>|"(\.\./)?cache_(async|front|journal|loading|worker)[a-z_]*\.h")' \
        "$header" && standards="gnu11 gnu17 gnu2x"
    file=build/headers/$(echo "$header" | tr / _)
    printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' \
        "$header" "$header" | tee "$file.c" >"$file.cpp"
    for std in $standards; do
        compile gcc $std "$file.c"
        compile clang $std "$file.c"
    done
    for std in c++17 c++20; do
        compile g++ $std "$file.cpp"
        compile clang++ $std "$file.cpp"
    done
done
# And with types made: in C and, as it is, in C++.
cp tests/test_headers.c build/headers/test_headers.cpp
for cc in gcc clang; do
    for std in c11 c17 gnu2x; do compile $cc $std tests/test_headers.c; done
done
for cxx in g++ clang++; do
    for std in c++17 c++20; do
        compile $cxx $std build/headers/test_headers.cpp
    done
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
