#!/bin/sh
# bench.sh: the benchmarks still build, run and verify their values, and the
# compiler still makes of a get what it should.  Nothing here is timed.
set -u
passed=0 failed=0
check() {
    if "$@" >build/bench.out 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $*"
        tail -n 20 build/bench.out
    fi
}
check bench/codegen.sh
check build/bench-some --quick --tsv=build/bench-some.tsv
check bench/ratios.sh build/bench-some.tsv
check bench/table.sh build/bench-some.tsv
check build/bench-async --quick
gzip -dc bench/workload.filelog.gz >build/bench.filelog
check build/replay build/bench.filelog 1000
rm -f build/bench.filelog
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
