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


r = redis.Redis(port=int(sys.argv[1]))
check(r.ping() and r.set("a", b"\0\r\n") and r.get("a") == b"\0\r\n")
check(r.set("a", 1, nx=True) is None and r.set("a", 2, xx=True) and r.get("a") == b"2")
check(r.set("b", "x", px=500000) and 499000 < r.pttl("b") <= 500000)
check(r.set("b", "y", ex=500) and r.ttl("b") == 500 and r.ttl("a") == -1)
check(r.expire("a", 100) and r.ttl("a") == 100 and r.ttl("none") == -2)
r.delete("n")
check(r.incr("n") == 1 and r.incrby("n", 9) == 10 and r.decr("n", 3) == 7)
check(r.mset({"x": 1, "y": 2}) and r.mget("x", "y", "z") == [b"1", b"2", None])
check(r.exists("x", "y", "z") == 2 and r.delete("y", "n", "none") == 2)
for i in range(1000):
    r.set("scan:%d" % i, i)
check(sorted(r.scan_iter("scan:*", 50)) == sorted(b"scan:%d" % i for i in range(1000)))
with r.pipeline(transaction=False) as p:
    for i in range(2000):
        p.set("p%d" % i, i).get("p%d" % i)
    check(p.execute() == [x for i in range(2000) for x in (True, b"%d" % i)])
info = r.info()
check(info["keyspace_hits"] > 0 and info["keyspace_misses"] > 0)
check(info["evicted_keys"] == 0 and info["db0"].startswith("keys="))
r.set("soon", 1, px=60)
time.sleep(0.1)
check(r.get("soon") is None)
for _ in range(2000):  # it is taken out by and by
    if r.info()["expired_keys"] > info["expired_keys"]:
        break
check(r.info()["expired_keys"] > info["expired_keys"])
try:
    r.execute_command("INCR")
    check(False)
except redis.ResponseError as e:
    check("wrong number of arguments" in str(e))
print("%d passed, 0 failed" % passed)
