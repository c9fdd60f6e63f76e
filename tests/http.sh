#!/bin/sh
# http.sh: examples/static_http.c as its clients see it: tests/http.py has the
# clients.  TEST_SCALE > 1: more fuzzing.
set -u
if ! command -v python3 >/dev/null 2>&1; then
    echo "skipped: clients of the HTTP example: there is no python3"
    echo "0 passed, 0 failed"
    exit 0
fi
exec python3 tests/http.py "$@"
