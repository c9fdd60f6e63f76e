#!/usr/bin/env python3
"""resp_sockets.py PORT [REDIS_PORT | --end PID]: tests of resp_server over sockets.

Reads in pieces, long pipelines, clients that do not read, broken streams on many
connections and, beside a redis-server, whether both give the same replies.
--end: the server is interrupted while it has clients in every state.
SEED and TEST_SCALE are of the environment.  Ends with "N passed, N failed".
"""
import os
import random
import re
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
              b"get x\r\n" + request("echo", "") + request("quit"))
    answer = b"+OK\r\n" + b"$4\r\na\r\nb\r\n" * 2 + b"$-1\r\n$0\r\n\r\n+OK\r\n"
    for cut in range(1, len(stream)):
        with connect() as s:
            s.sendall(stream[:cut])
            if cut % 4 == 0:
                ask(connect(), b"ping\r\n", b"+PONG\r\n")  # so it was read
            s.sendall(stream[cut:])
            equal(rest(s), answer)


def pipelines():
    n = 20000
    value = b"v" * 100
    with connect() as s:
        ask(s, request("set", "k", value) * n, b"+OK\r\n" * n)
        ask(s, request("get", "k") * n, b"$100\r\n%s\r\n" % value * n)
        ask(s, request("incrby", "n%d" % seed, 3) * 100,
            b"".join(b":%d\r\n" % (3 * i) for i in range(1, 101)))
        ask(s, request("mset", *(x for i in range(9000) for x in (i, i))),
            b"+OK\r\n")
        ask(s, request("mget", *range(9000)), b"*9000\r\n" + b"".join(
            b"$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(9000)))


def large():
    value = random.randbytes(5000000)
    with connect() as s:
        ask(s, request("set", "large", value), b"+OK\r\n")
        ask(s, request("get", "large") * 3,
            b"$%d\r\n%s\r\n" % (len(value), value) * 3)
        ask(s, request("del", "large"), b":1\r\n")
        s.sendall(b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$16777217\r\n")
        equal(rest(s), b"-ERR Protocol error: invalid bulk length\r\n")


def half_closed():
    """What was sent before the end is answered before the end."""
    with connect() as s:
        s.sendall(b"ping\r\nping\r\n")
        s.shutdown(socket.SHUT_WR)
        equal(rest(s), b"+PONG\r\n+PONG\r\n")


def n_clients(s):
    s.sendall(b"info\r\n")
    text = take(s, int(s.makefile("rb", 0).readline()[1:]) + 2)
    return int(re.search(rb"connected_clients:(\d+)", text).group(1))


def slow_reader():
    """Who does not read is disconnected."""
    value = b"x" * 1000000
    with connect() as s, connect() as other:
        ask(s, request("set", "big", value), b"+OK\r\n")
        before = n_clients(other)
        s.sendall(request("get", "big") * 500)
        until = time.time() + 20
        while n_clients(other) == before:
            equal(time.time() < until, True)
        equal(len(rest(s)) < 500 * len(value), True)
    with connect() as s:
        # One that is slow, but reads, is not.
        s.sendall(request("get", "big") * 20)
        time.sleep(0.1)
        equal(take(s, 20 * 1000012), b"$1000000\r\n%s\r\n" % value * 20)
        # And one that leaves is given all that it asked for.
        s.sendall(request("get", "big") * 20 + b"quit\r\n")
        time.sleep(0.1)
        equal(rest(s), b"$1000000\r\n%s\r\n" % value * 20 + b"+OK\r\n")


def hang_up():
    """A client that is gone before its replies come."""
    with connect() as s:
        ask(s, request("set", "big", b"x" * 100000), b"+OK\r\n")
    for _ in range(20):
        with connect() as s:
            s.sendall(request("get", "big") * 50)
    with connect() as s:
        ask(s, request("del", "big"), b":1\r\n")


def names():
    with connect() as s:
        ask(s, b"client getname\r\n", b"$-1\r\n")
        ask(s, b"client setname me\r\nclient getname\r\n", b"+OK\r\n$2\r\nme\r\n")
        ask(s, b"client setinfo lib-name x\r\n", b"+OK\r\n")
        ask(s, b"select 0\r\nselect 1\r\n",
            b"+OK\r\n-ERR DB index is out of range\r\n")
        ask(s, b"hello 4\r\n", b"-NOPROTO unsupported protocol version\r\n")
        s.sendall(b"hello 3 setname you\r\nget none\r\nclient getname\r\n")
        data = b""
        while not data.endswith(b"_\r\n$3\r\nyou\r\n"):
            data += take(s, 1)
        equal(data[:4], b"%5\r\n")
        ask(s, b"config get s*e\r\n", b"%1\r\n$4\r\nsave\r\n$0\r\n\r\n")
        ask(s, b"client setname " + b"x" * 64 + b"\r\n",
            b"-ERR the name is too long\r\n")
        ask(s, b"config set save 1\r\n", b"-ERR nothing can be set\r\n")
        ask(s, b"auth me\r\n", b"-ERR there is no password to be given\r\n")
        ask(s, b"command docs get\r\n", b"%0\r\n")
        ask(s, b"ping x\r\necho\r\n", b"$1\r\nx\r\n"
            b"-ERR wrong number of arguments for 'echo' command\r\n")


def broken_streams():
    """Mutated streams on connections that end in every way."""
    commands = [
        request("set", "a", "xx"), request("set", "a", "xx", "px", 100),
        request("get", "a"), request("get", "b"), b"PING\r\n", b"INFO\r\n",
        request("hello", 3), request("config", "get", "*"),
        request("client", "setname", "n"), request("client", "id"),
        request("incrby", "n"), request("incrby", "n", 5), request("mget", "a"),
        request("mset", "a", 1, "b", 2), request("del", "a"), request("quit"),
        request("scan", 0, "match", "*[a-z", "count", 5), request("ttl", "a"),
        request("append", "a", "z" * 300), request("getdel", "a"),
        request("expire", "a", 1), request("flushall"), request("command"),
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
    number = random.choice([0, 1, -1, 7, 2**63 - 1, -2**63, 2**63, "x", "01", ""])
    value = random.choice([number, random.randbytes(random.randrange(20))])
    ttl = random.choice([100, 1000, 0, -1, "x", 2**62])
    options = random.sample(
        [["nx"], ["xx"], ["get"], ["keepttl"], ["ex", 1000], ["px", 500000],
         ["exat", int(time.time()) + 5000], ["pxat", 1], ["what"]],
        k=random.choice([0, 0, 1, 1, 2, 3]))
    if random.random() < 0.2:
        options = [["ex", ttl], ["nx", "ex"]][:random.randint(1, 2)]
    args = random.choice([
        ["set", key, value] + sum(options, []), ["get", key], ["getdel", key],
        ["getset", key, value], ["mget", key, "k1", "none"], ["mset", key, value, "k1", 5],
        ["del", key, "k1"], ["unlink", key], ["exists", key, key, "k2"],
        ["type", key], ["strlen", key], ["append", key, value], ["incr", key],
        ["decr", key], ["incrby", key, number],
        # Redis refuses to take -2^63 away even where that does not overflow.
        ["decrby", key, number if number != -2**63 else 3],
        ["expire", key, ttl], ["pexpire", key, random.choice([500000, -1, "x"])],
        ["persist", key], ["ttl", key], ["echo", value], ["ping"],
        ["flushall"] if random.random() < 0.05 else ["get", key]])
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
        ask(s, b"flushall\r\n", b"+OK\r\n")
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
    tests = [pieces, pipelines, large, half_closed, slow_reader, hang_up,
             names, broken_streams]
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
