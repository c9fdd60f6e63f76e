# redis.sh, to be sourced: start_redis DIRECTORY starts a redis-server without
# disk on a free port of 127.0.0.1 and sets redis_pid and redis_port.  It fails
# where redis-tools are not installed: what checks a database file there is the
# server when it is called by that name, so no package with a service is needed.
start_redis() {
    redis_pid='' redis_port=''
    redis_binary=$(command -v redis-server || command -v redis-check-rdb) ||
        return 1
    command -v redis-cli >/dev/null || return 1
    ln -s "$redis_binary" "$1/redis-server"
    for redis_try in 1 2 3 4 5; do
        redis_port=$((20000 + ($$ * 7 + redis_try * 1009) % 10000))
        "$1/redis-server" --port $redis_port --bind 127.0.0.1 --save '' \
            --appendonly no --dir "$1" >"$1/redis.log" &
        redis_pid=$!
        for redis_wait in 1 2 3 4 5 6 7 8 9 10; do
            sleep 0.05
            kill -0 $redis_pid 2>/dev/null || break
            redis-cli -p $redis_port info server 2>/dev/null |
                grep -q "process_id:$redis_pid" && return 0
        done
        kill $redis_pid 2>/dev/null
    done
    redis_pid=
    return 1
}
