#!/bin/sh
# resp.sh SERVER: what SET and GET cost the example server, resp_server, beside
# redis-server, in CPU time of the server per operation.  They take turns, and of
# all rounds the median counts.  REQUESTS and ROUNDS may be set.
# Ends with lines "figure<TAB>value<TAB>unit".
set -u
server=$1
requests=${REQUESTS:-2000000} rounds=${ROUNDS:-5}
for tool in redis-server redis-benchmark redis-cli; do
    command -v $tool >/dev/null || {
        echo "skipped: the RESP benchmark, for want of $tool"
        exit 0
    }
done
directory=$(mktemp -d)
ours= redis=
stop() {
    [ -z "$ours" ] || kill "$ours"
    [ -z "$redis" ] || kill "$redis"
    rm -rf "$directory"
}
trap stop EXIT
trap 'exit 1' INT TERM

"$server" >"$directory/port" &
ours=$!
for try in 1 2 3 4 5; do
    # Between those that the system gives to others.
    redis_port=$((20000 + ($$ * 7 + try * 1009) % 10000))
    redis-server --port $redis_port --bind 127.0.0.1 --save '' --appendonly no \
        --dir "$directory" >"$directory/redis.log" &
    redis=$!
    sleep 0.5
    kill -0 $redis 2>/dev/null && break
    redis=
done
[ -n "$redis" ] || { cat "$directory/redis.log" >&2; exit 1; }
ours_port=$(sed 's/port //' "$directory/port")

hertz=$(getconf CLK_TCK)
cpu() { # pid: ticks of user and system time
    sed 's/.*) //' "/proc/$1/stat" | { read -r _ _ _ _ _ _ _ _ _ _ _ user system _
        echo $((user + system)); }
}
measure() { # name pid port test: ns of CPU time per request, to a file
    before=$(cpu "$2")
    redis-benchmark -p "$3" -t "$4" -P 16 -r 100000 -n "$requests" -d 64 -c 50 \
        -q >/dev/null
    echo $((($(cpu "$2") - before) * (1000000000 / hertz) / requests)) \
        >>"$directory/$1.$4"
}
median() { sort -n "$directory/$1" | sed -n "$(((rounds + 1) / 2))p"; }

for round in $(seq "$rounds"); do
    for operation in set get; do
        measure ours $ours "$ours_port" $operation
        measure redis $redis $redis_port $operation
    done
done
for operation in set get; do
    a=$(median ours.$operation) b=$(median redis.$operation)
    printf 'resp_%s_cpu\t%d\tns\n' $operation "$a"
    printf 'redis_%s_cpu\t%d\tns\n' $operation "$b"
    awk "BEGIN { printf \"resp_${operation}_cpu_ratio\t%.3f\tx\n\", $a / $b }"
done
