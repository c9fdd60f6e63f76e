#!/usr/bin/env python3
"""resp_redis.py PORT: resp_server as redis-py sees it."""
import sys
import time

import redis

passed = 0


def check(condition):
    global passed
    if not condition:
        line = sys._getframe(1).f_lineno
        print("FAILED: resp_redis.py:%d\n%d passed, 1 failed" % (line, passed))
        sys.exit(1)
    passed += 1


r = redis.Redis(port=int(sys.argv[1]), client_name="tester")
check(r.ping() and r.client_getname() == "tester" and r.flushall())
check(r.set("a", b"\0\r\n") and r.get("a") == b"\0\r\n")
check(r.set("a", 1, nx=True) is None and r.set("a", 2, xx=True, get=True) == b"\0\r\n")
check(r.set("b", "x", px=500000) and 499000 < r.pttl("b") <= 500000)
check(r.set("b", "y", keepttl=True) and r.ttl("b") == 500)
check(r.expire("a", 100) and r.ttl("a") == 100 and r.persist("a") and r.ttl("a") == -1)
check(r.ttl("none") == -2 and r.type("a") == b"string" and r.type("none") == b"none")
check(r.incr("n") == 1 and r.incrby("n", 9) == 10 and r.decr("n", 3) == 7)
check(r.append("n", "0") == 2 and r.strlen("n") == 2)
check(r.mset({"x": 1, "y": 2}) and r.mget("x", "y", "z") == [b"1", b"2", None])
check(r.getset("x", 3) == b"1" and r.getdel("x") == b"3" and r.exists("x", "y") == 1)
check(r.delete("y", "n", "none") == 2 and r.unlink("a") == 1 and r.dbsize() == 1)
check(r.echo("hi") == b"hi" and r.config_get("save") == {"save": ""})
for i in range(1000):
    r.set("scan:%d" % i, i)
check(sorted(r.scan_iter("scan:*", 50)) == sorted(b"scan:%d" % i for i in range(1000)))
with r.pipeline(transaction=False) as p:
    for i in range(2000):
        p.set("p%d" % i, i).get("p%d" % i)
    check(p.execute() == [x for i in range(2000) for x in (True, b"%d" % i)])
info = r.info()
check(info["keyspace_hits"] > 0 and info["keyspace_misses"] > 0)
check(info["used_memory"] > 0 and info["evicted_keys"] == 0 and info["db0"]["keys"] > 0)
r.set("soon", 1, px=60)
time.sleep(0.3)  # the timer has reclaimed it by then
check(r.info()["expired_keys"] == 1 and r.get("soon") is None)
try:
    r.execute_command("INCRBY", "n")
    check(False)
except redis.ResponseError as e:
    check("wrong number of arguments" in str(e))
check(r.flushall() and r.dbsize() == 0)
print("%d passed, 0 failed" % passed)
