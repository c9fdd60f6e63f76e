"""http.py [--filter=TEXT] [--seed=N] [--server=FILE]: clients of the example
static_http, which is built with ASan and UBSan and has to end without a word.

Each function that is named test_ is a test; TEST_SCALE=10 runs more of each, and
those named slow_.  The last line is "N passed, N failed"."""
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

SCALE = int(os.environ.get("TEST_SCALE", "1"))
SECRET = b"what nobody may have"
LIMIT_S = 10  # of anything that a client waits for


class Failed(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failed(*what)


def check_eq(a, b, *what):
    check(a == b, "%.200r is not %.200r" % (a, b), *what)


class Server:
    """A process that serves a directory of its own."""

    def __init__(self, program):
        self.top = tempfile.mkdtemp()
        self.root = os.path.join(self.top, "root")
        os.makedirs(os.path.join(self.root, "sub"))
        self.put("../secret", SECRET)
        self.put(".hidden", SECRET)
        self.put("sub/.hidden", SECRET)
        self.put("index.html", b"<p>index")
        self.put("sub/index.html", b"<p>sub")
        self.put("a.txt", b"a")
        self.process = subprocess.Popen([program, self.root],
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        self.port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", line).group(1))

    def put(self, name, content):
        with open(os.path.join(self.root, name), "wb") as file:
            file.write(content)

    def end(self, number=signal.SIGTERM):
        """It ends at once, with everything freed."""
        begun = time.monotonic()
        self.process.send_signal(number)
        try:
            _, err = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, err = self.process.communicate()
        shutil.rmtree(self.top)
        check_eq((self.process.returncode, err), (0, b""))
        return time.monotonic() - begun


class Client:
    """A connection."""

    def __init__(self, server, buffer=None):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(("127.0.0.1", server.port))
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, target, method="GET", *fields):
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: x", *fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def more(self):
        data = self.socket.recv(1 << 20)
        self.rest += data
        return data

    def answer(self, method="GET"):
        """(status, fields, body) of the next answer."""
        while b"\r\n\r\n" not in self.rest:
            check(self.more(), "no answer", self.rest)
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        check(re.match(r"HTTP/1\.1 \d\d\d [A-Z]", lines[0]), lines[0])
        fields = dict(line.split(": ", 1) for line in lines[1:])
        check_eq(len(fields), len(lines) - 1, "a field twice", lines)
        check(re.match(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT$",
                       fields["Date"]), fields["Date"])
        status = int(lines[0].split()[1])
        n = int(fields["Content-Length"])
        if method == "HEAD" or status == 304:
            n = 0
        while len(self.rest) < n:
            check(self.more(), "a short body", len(self.rest), n)
        body, self.rest = self.rest[:n], self.rest[n:]
        return status, fields, body

    def get(self, target, method="GET", *fields):
        self.ask(target, method, *fields)
        return self.answer(method)

    def is_closed(self):
        return self.rest == b"" and self.more() == b""

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.socket.close()


def raw(server, data):
    """All that is answered to these bytes."""
    client = Client(server)
    try:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        while client.more():
            pass
    except ConnectionError:
        pass
    client.socket.close()
    return client.rest


def statuses(answers):
    return [int(s) for s in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answers)]


def until(condition, what, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while not condition():
        check(time.monotonic() < end, what)
        time.sleep(0.02)


# --- tests -------------------------------------------------------------------


def test_bytes(server, rng):
    """Files of all sizes, once read and once from the cache."""
    client = Client(server)
    for n in (0, 1, 2, 4095, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1,
              5 << 20):
        name, content = "/bytes%d.png" % n, rng.randbytes(n)
        server.put(name[1:], content)
        for _ in range(2):
            status, fields, body = client.get(name)
            check_eq(status, 200)
            check(body == content, "other bytes", n)
            check_eq(fields["Content-Type"], "image/png")
            status, fields, body = client.get(name, "HEAD")
            check_eq((status, fields["Content-Length"], body),
                     (200, str(n), b""))


def test_names(server, rng):
    client = Client(server)
    server.put("a b%.html", b"blank")
    server.put("\u00e4.css", b"umlaut")
    for target, content, kind in (
            ("/", b"<p>index", "text/html; charset=utf-8"),
            ("/sub/", b"<p>sub", "text/html; charset=utf-8"),
            ("//a.txt", b"a", "text/plain; charset=utf-8"),
            ("/a.txt?x=/../y", b"a", "text/plain; charset=utf-8"),
            ("/%61%2E%74xt", b"a", "text/plain; charset=utf-8"),
            ("/a%20b%25.html", b"blank", "text/html; charset=utf-8"),
            ("/%C3%a4.css", b"umlaut", "text/css; charset=utf-8")):
        status, fields, body = client.get(target)
        check_eq((status, body, fields["Content-Type"]), (200, content, kind),
                 target)


def test_absent(server, rng):
    """What is not there, and then is."""
    client = Client(server)
    os.mkfifo(os.path.join(server.root, "fifo"))
    with open(os.path.join(server.root, "huge"), "wb") as file:
        file.truncate((32 << 20) + 1)
    for target in ("/none", "/later", "/sub", "/sub/none/", "/a.txt/", "/fifo",
                   "/" + "n" * 300, "/" + "n/" * 3000):
        for _ in range(2):
            check_eq(client.get(target)[0], 404, target)
    check_eq(client.get("/huge")[0], 501)
    server.put("later", b"now")
    until(lambda: client.get("/later")[0] == 200, "a new file is not seen", 3)


def test_large(server, rng):
    """What is read and not kept takes no room afterwards."""
    with open(os.path.join(server.root, "large.png"), "wb") as file:
        file.truncate(32 << 20)
    client = Client(server)
    for _ in range(9): # together more than what may be held at once
        check_eq(client.get("/large.png", "HEAD")[0], 200)


def test_cut_off(server, rng):
    """A file that is shorter than it says, as one that is cut meanwhile."""
    path = "/sys/class/net/lo/mtu"
    if not os.path.exists(path) or os.stat(path).st_size < 100:
        print("skipped: a file that is shorter than it says: none in /sys")
        return
    os.symlink(path, os.path.join(server.root, "short"))
    check_eq(Client(server).get("/short")[0], 503)


def test_changed(server, rng):
    """Changed and removed files are noticed."""
    client = Client(server)
    server.put("changed", b"old")
    first = client.get("/changed")
    server.put("changed", b"new")
    until(lambda: client.get("/changed")[2] == b"new", "no change is seen", 3)
    second = client.get("/changed")
    check(first[1]["ETag"] != second[1]["ETag"])
    if SCALE == 1:
        return
    os.remove(os.path.join(server.root, "changed"))
    until(lambda: client.get("/changed")[0] == 404, "it is not gone", 3)


def test_traversal(server, rng):
    ups = ["..", "%2e%2e", "%2E.", ".%2e", "..;", "%252e%252e", "..%00",
           "%c0%ae%c0%ae", "..\\"]
    slashes = ["/", "%2f", "%2F", "//", "/./", "\\", "%5c", "/sub/../"]
    names = ["/%s%ssecret" % (up, slash) for up in ups for slash in slashes]
    names += ["/sub%s" % name for name in names]
    names += ["/sub%s%s" % (slash, name[1:]) for name in names
              for slash in ("%2f", "/../")]
    names += ["/.hidden", "/%2ehidden", "/sub/.hidden", "/sub%2f.hidden",
              "/a.txt/../.hidden", "/.", "/..", "/.%2f.hidden", "/%00",
              "/a.txt%00.html", "/%", "/%2", "/%zz", "/%+1", "/% 1", "a.txt",
              "../secret", "", "*", "http://x/../secret"]
    client, n = None, 0
    for name in names:
        client = client or Client(server)
        status, fields, body = client.get(name)
        check(status in (400, 404) and SECRET not in body, name, status)
        n += 1
        if fields.get("Connection") == "close":
            check(client.is_closed(), name)
            client = None
    check(n > 100)


def test_pipeline(server, rng):
    """Many requests at once, and requests in pieces."""
    client = Client(server)
    kinds = [("/a.txt", "GET", 200), ("/none", "GET", 404),
             ("/", "HEAD", 200), ("/.x", "HEAD", 404), ("/%", "GET", 400)]
    chosen = [rng.choice(kinds) for _ in range(200)]
    text = b"".join(b"%s %s HTTP/1.1\r\nhost:\tx\r\n\r\n" %
                    (method.encode(), target.encode())
                    for target, method, _ in chosen)

    def feed():
        at = 0
        while at < len(text):
            n = rng.choice((1, 2, 30, 3000))
            client.send(text[at:at + n])
            at += n

    thread = threading.Thread(target=feed)
    thread.start()
    for target, method, expected in chosen:
        check_eq(client.answer(method)[0], expected, target)
    thread.join()
    check_eq(client.rest, b"")
    client.ask("/a.txt", "GET", "Connection: Close")
    check_eq(client.answer()[1]["Connection"], "close")
    check(client.is_closed())


def test_refused(server, rng):
    """What is no request, or none that is served."""
    host = b"Host: x\r\n"
    for data, expected in (
            (b"GET /a.txt HTTP/1.1\r\n" + host + b"\r\n", [200]),
            (b"GET /a.txt HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", [200]),
            (b"GET /a.txt HTTP/1.1\r\n\r\n", [400]),
            (b"GET /a.txt HTTP/2.0\r\n" + host + b"\r\n", [400]),
            (b"GET /a.txt HTTP/1.10\r\n" + host + b"\r\n", [400]),
            (b"GET /a.txt\r\n\r\n", [400]),
            (b"GET  /a.txt HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET /a.txt HTTP/1.1 \r\n" + host + b"\r\n", [400]),
            (b"\r\n\r\n", [400]),
            (b"\0", [400]),
            (b"GET /a\0.txt HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", [400]),
            (b"GET / HTTP/1.1\r\n" + host + b" folded: x\r\n\r\n", [400]),
            (b"GET / HTTP/1.1\r\n" + host + b"no colon\r\n\r\n", [400]),
            (b"GET / HTTP/1.1\r\n" + host + b": none\r\n\r\n", [400]),
            (b"GET / HTTP/1.1\r\n" + host + b"x: a\nb: c\r\n\r\n", [400]),
            (b"GET / HTTP/1.1\r\n" + host + b"x: a\rb: c\r\n\r\n", [400]),
            (b"GET /\nX HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET /% HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET /%2 HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET /%2z HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"GET /%z2 HTTP/1.1\r\n" + host + b"\r\n", [400]),
            (b"POST / HTTP/1.1\r\n" + host + b"\r\n", [405]),
            (b"get / HTTP/1.1\r\n" + host + b"\r\n", [405]),
            (b"GET / HTTP/1.1\r\n" + host + b"content-length: 5\r\n\r\n12345"
             b"GET / HTTP/1.1\r\n\r\n", [413]),
            (b"PUT / HTTP/1.1\r\n" + host + b"TRANSFER-ENCODING: chunked\r\n"
             b"\r\n0\r\n\r\n", [413]),
            (b"GET / HTTP/1.1\r\n" + host + b"x: " + b"y" * 8192, [431]),
            (b"GET / HTTP/1.1\r\n" + host + b"x: " +
             b"y" * (8192 - 28 - 4) + b"\r\n\r\n", [200]),
            (b"GET / HTTP/1.1\r\n" + host + b"x: " +
             b"y" * (8192 - 28 - 3) + b"\r\n\r\n", [431]),
            (b"GET /a.txt HTTP/1.1\r\n" + host, []),
            (b"", [])):
        check_eq(statuses(raw(server, data)), expected, data[:80])
    check(b"\r\nAllow: GET, HEAD\r\n" in raw(
        server, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"))
    # Its answer comes although it goes on to send what nobody reads.
    client = Client(server)
    client.ask("/", "POST", "Content-Length: 9000000")
    for _ in range(20):
        client.send(b"x" * 10000)
        time.sleep(0.001)
    check_eq(client.answer()[0], 413)


def test_conditions(server, rng):
    client = Client(server)
    _, fields, _ = client.get("/a.txt")
    etag, modified = fields["ETag"], fields["Last-Modified"]
    for field, expected in (
            ("If-None-Match: %s" % etag, 304),
            ('If-None-Match: "x", W/%s' % etag, 304),
            ("If-None-Match: *", 304),
            ('If-None-Match: "x"', 200),
            ("If-Modified-Since: %s" % modified, 304),
            ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", 200),
            ('If-Modified-Since: %s\r\nIf-None-Match: "x"' % modified, 200)):
        for method in ("GET", "HEAD"):
            status, fields, _ = client.get("/a.txt", method, field)
            check_eq((status, fields["ETag"]), (expected, etag), field)
    check_eq(client.get("/none", "GET", "If-None-Match: *")[0], 404)


def test_slow_reader(server, rng):
    """A client that is slow gets all of a file that has left meanwhile."""
    old, new = rng.randbytes(1 << 20), rng.randbytes(1 << 20)
    other = Client(server)
    for name in ("slow", "slow2"):
        server.put(name, old)
    slow = [Client(server, 4096) for _ in range(4)]
    for i, client in enumerate(slow):
        client.ask("/slow" if i % 2 else "/slow2")
        client.socket.recv(1, socket.MSG_PEEK)
    server.put("slow", new)
    os.remove(os.path.join(server.root, "slow2"))
    until(lambda: other.get("/slow")[2] == new, "no change is seen", 3)
    until(lambda: other.get("/slow2")[0] == 404, "it is not gone", 3)
    slow.pop().reset()
    slow.pop().socket.close()
    for client in slow:
        check(client.answer()[2] == old, "other bytes")


def test_many(server, rng):
    """Many clients at once, on few files, of which some are new."""
    contents = {"/many%d" % i: rng.randbytes(rng.choice((10, 5000, 300000)))
                for i in range(20)}
    for name, content in contents.items():
        server.put(name[1:], content)
    wrong = []

    def work(seed):
        own = random.Random(seed)
        try:
            client = Client(server)
            for _ in range(10 * SCALE):
                name = own.choice(list(contents))
                if own.random() < 0.1:
                    client.ask(name)
                    client.reset()
                    client = Client(server)
                elif client.get(name)[2] != contents[name]:
                    wrong.append(name)
        except Exception as e:
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(rng.random(),))
               for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not wrong, wrong[:3])


def test_fuzz(server, rng):
    seeds = [b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
             b"HEAD /sub/ HTTP/1.0\r\nConnection: close\r\n\r\n",
             b"GET /%61.txt?q HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
             b"GET / HTTP/1.1\r\nHost: x\r\nIf-Modified-Since: Thu\r\n\r\n",
             b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"]
    pieces = [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b"%", b"%00",
              b"%2e", b"..", b"/", b"/../secret", b"?", b"HTTP/1.1", b"GET ",
              b"\xff", b"x" * 9000, b"Host: x\r\n", b"Content-Length: 1\r\n"]
    for n in range(200 * SCALE):
        text = bytearray(b"".join(rng.choice(seeds)
                                  for _ in range(rng.randint(1, 3))))
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            at = rng.randint(0, len(text))
            kind = rng.randrange(4)
            if kind == 0 and at < len(text):
                text[at] = rng.randrange(256)
            elif kind == 1:
                del text[at:at + rng.randint(1, 10)]
            elif kind == 2:
                text[at:at] = rng.choice(pieces)
            else:
                text[at:at] = text[at:at + rng.randint(1, 50)]
        answers = raw(server, bytes(text))
        check(SECRET not in answers, bytes(text))
        check(answers == b"" or answers.startswith(b"HTTP/1.1 "), bytes(text))
    check_eq(Client(server).get("/a.txt")[2], b"a")


def test_gone(server, rng):
    """Clients that leave before their answers come."""
    text = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    for n in range(50):
        client = Client(server)
        client.send(text)
        if n % 2:
            client.socket.shutdown(socket.SHUT_WR)
        client.socket.close()
    check_eq(Client(server).get("/a.txt")[2], b"a")


def test_curl(server, rng):
    if not shutil.which("curl"):
        print("skipped: curl as a client of the HTTP example: there is none")
        return
    url = "http://127.0.0.1:%d" % server.port
    out = subprocess.run(
        ["curl", "-sS", "--path-as-is", url + "/a.txt", url + "/sub/",
         url + "/../secret", "-w", "%{http_code}"],
        stdout=subprocess.PIPE, timeout=LIMIT_S, check=True).stdout
    check_eq(out, b"a200<p>sub200404 Not Found404")


def test_end(server, rng):
    """Whatever clients are doing, and with either signal, it ends."""
    own = Server(server.process.args[0])
    own.put("big", rng.randbytes(20 << 20))
    clients = [Client(own) for _ in range(8)]
    clients[1].send(b"GET / HT")
    clients[2].ask("/big")
    clients[2].socket.recv(1, socket.MSG_PEEK)
    clients[3].get("/a.txt")
    clients[4].send(b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    clients[5].ask("/", "POST", "Content-Length: 1")
    clients[6].ask("/big")
    clients[7].ask("/big")
    clients[7].reset()
    check(own.end(signal.SIGINT) < 2 * LIMIT_S / 3)


def slow_crowd(server, rng):
    """More clients than there is room for: they wait."""
    clients = [Client(server) for _ in range(520)]
    for client in clients[:490]:
        check_eq(client.get("/a.txt")[2], b"a")
    for client in clients[490:]:
        client.ask("/a.txt")
    for client in clients[:60]:
        client.socket.close()
    for client in clients[490:]:
        check_eq(client.answer()[2], b"a")
    for client in clients[60:]:
        client.socket.close()


def slow_idle(server, rng):
    """Who does nothing for half a minute leaves; who is slow stays."""
    server.put("large", bytes(30 << 20))
    idle, drip, stuck, slow, drains = (Client(server, 4096) for _ in range(5))
    stuck.ask("/large")
    slow.ask("/large")
    drains.send(b"\0")
    begun = time.monotonic()
    ended = {}
    while time.monotonic() - begun < 36:
        time.sleep(0.5)
        now = time.monotonic() - begun
        for name, client in (("idle", idle), ("drip", drip)):
            client.socket.settimeout(0.01)
            try:
                if name not in ended and name == "drip":
                    client.send(b"G")
                if name not in ended and client.socket.recv(1) == b"":
                    ended[name] = now
            except ConnectionError:
                ended[name] = now
            except socket.timeout:
                pass
        slow.rest += slow.socket.recv(100000)
    check(29 < ended.get("idle", 0) < 34 and 29 < ended.get("drip", 0) < 34,
          ended)
    check_eq(len(slow.answer()[2]), 30 << 20)
    try:
        n = 1
        while n:
            n = len(stuck.socket.recv(1 << 20))
            stuck.rest += b"x" * n
    except ConnectionError:
        pass
    check(len(stuck.rest) < 30 << 20, "who is stuck was not cut off")


def main():
    options = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
    seed = int(options.get("seed", int(time.time())))
    kinds = "test_" if SCALE == 1 else ("test_", "slow_")
    server = Server(options.get("server", "build/examples/static_http"))
    lines, n_failed = [], 0

    def work(name, run):
        begun = time.monotonic()
        verdict = "ok"
        try:
            run(server, random.Random(seed))
        except Exception as e:
            verdict = "FAILED: %s %s" % (type(e).__name__,
                                         " ".join(str(a) for a in e.args))
        lines.append("%s: %.0f ms: %s" % (
            name, 1000 * (time.monotonic() - begun), verdict))

    threads = [threading.Thread(target=work, args=item)
               for item in globals().items() if item[0].startswith(kinds)
               and options.get("filter", "") in item[0]]
    for thread in threads: # at once: most of them wait most of the time
        thread.start()
    for thread in threads:
        thread.join()
    work("the end", lambda server, rng: server.end())
    print("--seed=%d" % seed, *lines, sep="\n")
    n_failed = sum("FAILED" in line for line in lines)
    print("%d passed, %d failed" % (len(lines) - n_failed, n_failed))
    return n_failed != 0


sys.exit(main())
