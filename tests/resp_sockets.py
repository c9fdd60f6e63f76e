#!/usr/bin/env python3
"""resp_sockets.py PORT [REDIS_PORT | --end PID]: tests of resp_server over sockets.

Reads in pieces, long pipelines, clients that do not read, broken streams on many
connections and, beside a redis-server, whether both give the same replies.
--end: the server is interrupted while it has clients in every state.
SEED and TEST_SCALE are of the environment.  Ends with "N passed, N failed".
"""
import os
import random
import signal
import socket
import sys
import time

port = int(sys.argv[1])
redis_port = int(sys.argv[2]) if len(sys.argv) == 3 else None
server_pid = int(sys.argv[3]) if len(sys.argv) == 4 else None
scale = int(os.environ.get("TEST_SCALE", "1"))
seed = int(os.environ.get("SEED", str(time.time_ns() % 2**32)))


def connect(to=None):
    s = socket.create_connection(("127.0.0.1", to or port))
    s.settimeout(20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def request(*args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(
        b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def take(s, n):
    data = bytearray()
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return bytes(data)


def rest(s):
    """All until the end of the connection."""
    data = bytearray()
    try:
        while more := s.recv(65536):
            data += more
    except ConnectionError:
        pass
    return bytes(data)


def equal(a, b):
    if a != b:
        raise AssertionError("%.300r is not %.300r" % (a, b))


def ask(s, text, answer):
    s.sendall(text)
    equal(take(s, len(answer)), answer)


def pieces():
    """A connection per place where the stream is cut in two."""
    stream = (request("set", b"p\0q", "a\r\nb") + request("get", b"p\0q") * 2 +
              b"get x\r\n" + request("mget", "", "x") + request("ttl", "x"))
    answer = (b"+OK\r\n" + b"$4\r\na\r\nb\r\n" * 2 + b"$-1\r\n" +
              b"*2\r\n$-1\r\n$-1\r\n" + b":-2\r\n")
    for cut in range(1, len(stream)):
        with connect() as s:
            s.sendall(stream[:cut])
            if cut % 4 == 0:
                ask(connect(), b"ping\r\n", b"+PONG\r\n")  # so it was read
            s.sendall(stream[cut:])
            s.shutdown(socket.SHUT_WR)
            equal(rest(s), answer)


def pipelines():
    n = 20000
    value = b"v" * 100
    with connect() as s:
        ask(s, request("set", "k", value) * n, b"+OK\r\n" * n)
        ask(s, request("get", "k") * n, b"$100\r\n%s\r\n" % value * n)
        ask(s, request("incr", "n%d" % seed) * 100,
            b"".join(b":%d\r\n" % i for i in range(1, 101)))
        ask(s, request("mset", *(x for i in range(2000) for x in (i, i))),
            b"+OK\r\n")
        ask(s, request("mget", *range(2000)), b"*2000\r\n" + b"".join(
            b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(2000)))
        # GETs that are looked up together, and what ends such a group.
        ask(s, (request("get", "1") * 40 + request("set", "1", 2) + b"get 1\r\n" +
                request("GET", "2") * 33 + request("set", "1", 1)) * 50,
            (b"$1\r\n1\r\n" * 40 + b"+OK\r\n" + b"$1\r\n2\r\n" * 34 +
             b"+OK\r\n") * 50)


def large():
    value = random.randbytes(5000000)
    with connect() as s:
        ask(s, request("set", "large", value), b"+OK\r\n")
        ask(s, request("get", "large") * 3,
            b"$%d\r\n%s\r\n" % (len(value), value) * 3)
        ask(s, request("del", "large"), b":1\r\n")
    for value in (b"", b"x" * (16 << 20)):
        with connect() as s:
            data = request("set", "large", value) + request("get", "large") * 3
            for at in range(0, len(data), 100000):
                s.sendall(data[at:at + 100000])
            equal(take(s, 5), b"+OK\r\n")
            for _ in range(3):
                answer = b"$%d\r\n%s\r\n" % (len(value), value)
                equal(take(s, len(answer)) == answer, True)
            ask(s, request("del", "large"), b":1\r\n")


def violations():
    """Each is answered, and ends the connection."""
    for data in (b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$16777217\r\n", b"*4097\r\n",
                 b"*-1\r\n", b"*x\r\n", b"*\r\n", b"*1\n\n", b"*1\r\n\r\n",
                 b"*1\r\n:1\r\n", b"*1\r\n$4\r\npingxx", b"*1\r\n$-1\r\n",
                 b"*1\r\n$99999999999999999999", b"*" + b"0" * 30, b"x" * 4096):
        with connect() as s:
            ask(s, b"ping\r\n", b"+PONG\r\n")
            s.sendall(b"*0\r\n\r\nping\r\n" + data)
            equal(rest(s), b"+PONG\r\n-ERR Protocol error\r\n")
    with connect() as s:  # the most arguments
        s.sendall(request("exists", *range(4095)))
        equal(take(s, 1), b":")
    with connect() as s:
        ask(s, b"EXISTS" + b" a" * 2000 + b"\r\n", b":0\r\n")
    with connect() as s:  # no end to a command
        try:
            for _ in range(20):
                s.sendall(b"*4096\r\n" if _ == 0 else
                          b"$8388608\r\n%s\r\n" % (b"x" * 8388608))
            equal(rest(s), b"")
        except OSError:
            pass


def half_closed():
    """What was sent before the end is answered before the end."""
    with connect() as s:
        s.sendall(b"ping\r\nping\r\n")
        s.shutdown(socket.SHUT_WR)
        equal(rest(s), b"+PONG\r\n+PONG\r\n")


def slow_reader():
    """Who does not read is not run or read for, and others are served."""
    value = b"x" * 1000000
    answer = b"$1000000\r\n%s\r\n" % value
    with connect() as s, connect() as other:
        ask(s, request("set", "big", value), b"+OK\r\n")
        s.sendall(request("get", "big") * 20 + request("set", "done%d" % seed, 1))
        s.shutdown(socket.SHUT_WR)
        for _ in range(20):
            ask(other, request("exists", "done%d" % seed), b":0\r\n")
            time.sleep(0.005)
        for _ in range(20):
            equal(take(s, len(answer)) == answer, True)
        equal(rest(s), b"+OK\r\n")
        # An error comes after the replies that wait.
        ask(other, request("del", "done%d" % seed), b":1\r\n")
    with connect() as s:
        s.sendall(request("get", "big") * 20 + b"*x\r\n")
        time.sleep(0.05)
        equal(rest(s) == answer * 20 + b"-ERR Protocol error\r\n", True)
    with connect() as s:  # more than there may be of replies
        s.sendall(request("mget", *["big"] * 200))
        equal(len(rest(s)) < 200 * len(value), True)


def hang_up():
    """A client that is gone before its replies come."""
    with connect() as s:
        ask(s, request("set", "big", b"x" * 100000), b"+OK\r\n")
    for _ in range(20):
        with connect() as s:
            s.sendall(request("get", "big") * 50)
    with connect() as s:
        ask(s, request("del", "big"), b":1\r\n")


def tolerated():
    """What clients send on their own."""
    with connect() as s:
        ask(s, b"client setinfo lib-name x\r\nselect 0\r\n", b"+OK\r\n" * 2)
        ask(s, b"config get save\r\ncommand docs get\r\n", b"*0\r\n" * 2)
        ask(s, b"hello 4\r\nhello x\r\n",
            b"-NOPROTO unsupported protocol version\r\n" * 2)
        ask(s, b"hello 3\r\nget none\r\n", b"%2\r\n$6\r\nserver\r\n$5\r\nredis"
            b"\r\n$5\r\nproto\r\n:3\r\n_\r\n")
        ask(s, b"hello 2\r\nget none\r\n", b"*4\r\n$6\r\nserver\r\n$5\r\nredis"
            b"\r\n$5\r\nproto\r\n:2\r\n$-1\r\n")
        ask(s, b" PING \t\r\nping\n", b"+PONG\r\n" * 2)
        ask(s, b"ping\0\r\npingx\r\nnone\r\n" + request("") + request(b"get\0x", 1),
            b"-ERR unknown command\r\n" * 5)
        ask(s, b"scan 4294967295\r\n", b"*2\r\n$1\r\n0\r\n*0\r\n")
        ask(s, b"get\r\nget a b\r\nset a\r\nttl\r\nmget\r\nselect\r\n",
            b"-ERR wrong number of arguments\r\n" * 6)


def lives():
    """Times to live, and what a full cache refuses."""
    with connect() as s:
        ask(s, request("set", "t", 1, "px", 100) + request("pexpire", "t", 300000) +
            request("ttl", "t") + request("incr", "t") + request("ttl", "t"),
            b"+OK\r\n:1\r\n:300\r\n:2\r\n:300\r\n")
        ask(s, request("set", "t", 1) + request("ttl", "t"), b"+OK\r\n:-1\r\n")
        ask(s, request("set", "t", 1, "px", 60) + request("get", "t"),
            b"+OK\r\n$1\r\n1\r\n")
        time.sleep(0.08)
        ask(s, request("get", "t") + request("ttl", "t") + request("incr", "t"),
            b"$-1\r\n:-2\r\n:1\r\n")
        ask(s, request("set", "t", 2**63 - 1) + request("incr", "t") +
            request("decr", "t"), b"+OK\r\n-ERR value is not an integer or out of "
            b"range\r\n:9223372036854775806\r\n")
        ask(s, request("set", "t", -2**63) + request("decr", "t") +
            request("incr", "t"), b"+OK\r\n-ERR value is not an integer or out of "
            b"range\r\n:-9223372036854775807\r\n")
        ask(s, request("set", "t", 1, "ex", 2**40) + request("get", "t")[:0],
            b"-OOM too large, or for too long\r\n")
        ask(s, request("expire", "t", -1) + request("exists", "t"), b":1\r\n:0\r\n")


def broken_streams():
    """Mutated streams on connections that end in every way."""
    commands = [
        request("set", "a", "xx"), request("set", "a", "xx", "px", 100),
        request("get", "a"), request("get", "b"), b"PING\r\n", b"INFO\r\n",
        request("hello", 3), request("config", "get", "*"), b"get a b  c\r\n",
        request("incr", "n"), request("decr", "n"), request("mget", "a", "n"),
        request("mset", "a", 1, "b", 2), request("del", "a"), request("ttl", "n"),
        request("scan", 0, "match", "*[a-z", "count", 5), request("command"),
        request("set", "a", "z" * 300, "xx"), request("expire", "a", 1),
        request("get", "a") * 50]
    kept = []
    for i in range(300 * scale):
        data = bytearray(b"".join(random.choices(commands, k=random.randint(1, 8))))
        for _ in range(random.randint(0, 5)):
            data[random.randrange(len(data))] = random.choice(
                b"*$0123456789-\r\nAZ\x00\xff")
        s = connect()
        s.settimeout(0.002)
        try:
            for at in range(0, len(data), step := random.randint(1, 1000) + 50):
                s.sendall(data[at:at + step])
            if random.random() < 0.5:
                s.shutdown(socket.SHUT_WR)
            if random.random() < 0.5:
                s.recv(4096)
        except OSError:
            pass
        kept.append(s)
        if len(kept) > 20:
            kept.pop(random.randrange(len(kept))).close()
    for s in kept:
        s.close()
    ask(connect(), b"ping\r\n", b"+PONG\r\n")


def random_command():
    key = "k%d" % random.randrange(8)
    number = random.choice([0, 1, -1, 7, 2**63 - 1, -2**63, 2**63, "x", ""])
    value = random.choice([number, random.randbytes(random.randrange(20))])
    ttl = random.choice([100, 1000, 0, -1, "x", 2**62])
    options = random.sample([["nx"], ["xx"], ["ex", 1000], ["px", 500000], ["what"]],
                            k=random.choice([0, 0, 1, 1, 2, 3]))
    if random.random() < 0.2:
        options = [["ex", ttl if ttl != 2**62 else -3], ["nx", "ex"]][:random.randint(1, 2)]
    args = random.choice([
        ["set", key, value] + sum(options, []), ["get", key],
        ["mget", key, "k1", "none"], ["mset", key, value, "k1", 5],
        ["del", key, "k1"], ["exists", key, key, "k2"], ["incr", key],
        ["decr", key], ["expire", key, ttl], ["ttl", key],
        ["incrby", key, number],
        # Redis refuses to take -2^63 away even where that does not overflow.
        ["decrby", key, number if number != -2**63 else 3],
        ["pexpire", key, random.choice([500000, -1, "x"])]])
    if random.random() < 0.03:
        args = args[:random.randint(1, len(args))] + random.choice([[], [key]])
    return request(*args)


def reply_of(f):
    line = f.readline()
    if line[:1] == b"-":
        return b"-" + line[1:].split(b" ")[0]
    if line[:1] == b"$" and int(line[1:]) >= 0:
        return line + f.read(int(line[1:]) + 2)
    if line[:1] == b"*":
        return line + b"".join(reply_of(f) for _ in range(int(line[1:])))
    return line


def same_as_redis():
    """The same replies as redis-server's, but for the words of an error."""
    ours, theirs = connect(), connect(redis_port)
    files = [s.makefile("rb") for s in (ours, theirs)]
    for s in (ours, theirs):
        s.sendall(request("del", *("k%d" % i for i in range(8))))
    for f in files:
        f.readline()
    for _ in range(100 * scale):
        commands = [random_command() for _ in range(50)]
        for s in (ours, theirs):
            s.sendall(b"".join(commands))
        for i, command in enumerate(commands):
            a, b = (reply_of(f) for f in files)
            if command.startswith(b"*2\r\n$3\r\nttl\r\n") and a != b:
                # They round at different moments.
                equal(abs(int(a[1:]) - int(b[1:])) <= 1, True)
            elif a != b:
                raise AssertionError("%r says %r, not %r, after %r" % (
                    command, a, b, commands[max(0, i - 5):i]))


def end():
    """All connections end with the server, whatever is under way on them."""
    idle, half, full = connect(), connect(), connect()
    ask(full, request("set", "big", b"x" * 1000000), b"+OK\r\n")
    full.sendall(request("get", "big") * 40)
    half.sendall(b"*2\r\n$3\r\nget")
    ask(idle, b"ping\r\n", b"+PONG\r\n")
    os.kill(server_pid, signal.SIGINT)
    for s in (idle, half, full):
        rest(s)


def main():
    print("resp_sockets.py: SEED=%d" % seed)
    random.seed(seed)
    tests = [pieces, pipelines, large, violations, half_closed, slow_reader,
             hang_up, tolerated, lives, broken_streams]
    if redis_port:
        tests.append(same_as_redis)
    if server_pid:
        tests = [end]
    failed = 0
    for test in tests:
        start = time.time()
        try:
            test()
            print("%s: %d ms" % (test.__name__, (time.time() - start) * 1000))
        except Exception as e:  # a test that fails in whatever way
            print("FAILED: %s: %s %s" % (test.__name__, type(e).__name__, e))
            failed += 1
    print("%d passed, %d failed" % (len(tests) - failed, failed))
    return failed != 0


sys.exit(main())
