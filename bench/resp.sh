#!/bin/sh
# resp.sh SERVER: what SET and GET cost the example server, resp_server, beside
# redis-server, in CPU time of the server per operation.  They take turns; of all
# rounds the median counts.  REQUESTS and ROUNDS may be set.
# Ends with lines "figure<TAB>value<TAB>unit".
set -u
requests=${REQUESTS:-2000000} rounds=${ROUNDS:-5}
. tests/redis.sh
directory=$(mktemp -d) ours='' redis_pid=''
stop() {
    [ -z "$ours" ] || kill "$ours"
    [ -z "$redis_pid" ] || kill "$redis_pid"
    wait
    rm -rf "$directory"
}
trap stop EXIT
trap 'exit 1' INT TERM

if ! start_redis "$directory" || ! command -v redis-benchmark >/dev/null; then
    echo "skipped: the benchmark of resp_server, for want of redis-tools"
    exit 0
fi
"$1" >"$directory/port" &
ours=$!
sleep 0.2
ours_port=$(sed 's/port //' "$directory/port")

hertz=$(getconf CLK_TCK)
ticks() { # pid: of user and system time
    awk '{ sub(".*\\) ", ""); print $12 + $13 }' "/proc/$1/stat"
}
measure() { # name pid port operation: adds ns of CPU time per request to a file
    before=$(ticks "$2")
    redis-benchmark -p "$3" -t "$4" -P 16 -r 100000 -n "$requests" -d 64 -c 50 \
        -q >/dev/null
    awk "BEGIN { print ($(ticks "$2") - $before) * 1e9 / $hertz / $requests }" \
        >>"$directory/$1.$4"
}
median() { sort -n "$directory/$1" | sed -n "$(((rounds + 1) / 2))p"; }

for round in $(seq "$rounds"); do
    for operation in set get; do
        measure resp "$ours" "$ours_port" $operation
        measure redis "$redis_pid" "$redis_port" $operation
    done
done
for operation in set get; do
    a=$(median resp.$operation) b=$(median redis.$operation)
    printf 'resp_%s_cpu\t%.0f\tns\n' $operation "$a"
    printf 'redis_%s_cpu\t%.0f\tns\n' $operation "$b"
    awk "BEGIN { printf \"resp_${operation}_cpu_ratio\t%.3f\tx\n\", $a / $b }"
done
