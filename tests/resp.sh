#!/bin/sh
# resp.sh: examples/resp_server, built with sanitizers, as its clients see it.
set -u
passed=0 failed=0
. tests/redis.sh
directory=$(mktemp -d) server='' redis_pid=''
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    [ -z "$redis_pid" ] || kill "$redis_pid"
    rm -rf "$directory"
}
trap stop EXIT
trap 'exit 1' INT TERM

check() { # what command...
    what=$1
    shift
    if "$@" >"$directory/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -n 20 "$directory/out" "$directory/errors"
    fi
}
start_server() {
    build/examples/resp_server "$@" >"$directory/port" 2>"$directory/errors" &
    server=$!
    for _ in $(seq 100); do
        [ ! -s "$directory/port" ] || break
        sleep 0.05
    done
    port=$(sed 's/port //' "$directory/port")
}
ends() { # within ten seconds; has closed all that it had, and lost nothing
    for _ in $(seq 200); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$server" 2>/dev/null
    wait "$server" && [ ! -s "$directory/errors" ]
}
fails_with() { # status command...
    status=$1
    shift
    "$@"
    [ $? = "$status" ]
}
cli() { # expected argument...
    expected=$1
    shift
    [ "$(redis-cli -p "$port" "$@")" = "$expected" ]
}

start_server
check "an address in use" fails_with 1 build/examples/resp_server "$port"
for options in 65536 "0 0" "0 x" "0 1 1"; do
    check "options $options" fails_with 2 build/examples/resp_server $options
done

if [ -x /usr/bin/python3 ]; then
    start_redis "$directory" ||
        echo "skipped: resp_server beside redis-server: redis-tools are missing"
    check "clients on sockets" timeout 300 /usr/bin/python3 \
        tests/resp_sockets.py "$port" ${redis_port:+"$redis_port"}
    grep -E ' ms$|SEED' "$directory/out"
    if /usr/bin/python3 -c 'import redis' 2>/dev/null; then
        check "redis-py" timeout 60 /usr/bin/python3 tests/resp_redis.py "$port"
    else
        echo "skipped: resp_server with redis-py: python3-redis is missing"
    fi
else
    echo "skipped: resp_server on sockets: /usr/bin/python3 is missing"
fi
if command -v redis-benchmark >/dev/null; then
    check "redis-cli" cli PONG ping
    check "redis-cli -3" cli 1 -3 incr counter
    check "redis-cli, none" cli '' get none
    check "redis-benchmark" timeout 60 redis-benchmark -p "$port" -P 16 -q \
        -r 1000 -n 5000 -d 64 -t set,get,mset
else
    echo "skipped: resp_server with redis-cli: redis-tools are missing"
fi
kill -TERM "$server"
check "the end by SIGTERM" ends

start_server 0 16
if [ -x /usr/bin/python3 ]; then
    check "clients at the end" timeout 60 /usr/bin/python3 \
        tests/resp_sockets.py "$port" --end "$server"
else
    kill -INT "$server"
fi
check "the end by SIGINT" ends
server=
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
