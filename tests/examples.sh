#!/bin/sh
# examples.sh: every example runs, and prints what its last comment says.
# An example ends with a block "/* prints:" .. "*/", one line for each line; but
# resp_server, which tests/resp.sh runs.
set -u
passed=0 failed=0
directory=$(mktemp -d)

for source in examples/*.c; do
    name=$(basename "$source" .c)
    [ $name != resp_server ] || continue
    sed -n '/^\/\* prints:$/,/^\*\/$/p' "$source" | sed '1d;$d' >"$directory/expected"
    if [ -s "$directory/expected" ] &&
        (cd "$directory" && "$OLDPWD/build/examples/$name") >"$directory/printed" &&
        diff "$directory/expected" "$directory/printed"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $source"
    fi
done
rm -rf "$directory"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
