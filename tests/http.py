"""http.py [--filter=TEXT] [--seed=N] [--server=FILE]: clients of the example
static_http, which is built with ASan and UBSan and has to end without a word.

Each function that is named test_ is a test; TEST_SCALE=10 runs more of each.  The last line is "N passed, N failed"."""
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
        self.put("a.txt", b"a")
        self.put("sub/b.txt", b"b")
        self.process = subprocess.Popen([program, self.root],
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        self.port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", line).group(1))

    def put(self, name, content):
        with open(os.path.join(self.root, name), "wb") as file:
            file.write(content)

    def n_open_files(self):
        fds = "/proc/%d/fd" % self.process.pid
        return sum(os.readlink(os.path.join(fds, fd)).startswith(self.root + "/")
                   for fd in os.listdir(fds) if fd.isdigit() and
                   os.path.lexists(os.path.join(fds, fd)))

    def end(self, number=signal.SIGTERM):
        """It ends at once, with everything freed."""
        until(lambda: self.n_open_files() == 0, "files are left open", 3)
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

    def answer(self):
        """(status, body), after which the connection has to be closed."""
        while self.more():
            pass
        self.socket.close()
        head, body = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        check(re.match(r"HTTP/1\.1 \d\d\d [A-Z]", lines[0]), lines[0])
        check_eq(sorted(lines[1:]), ["Connection: close",
                                     "Content-Length: %d" % len(body)])
        return int(lines[0].split()[1]), body

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.socket.close()


def get(server, target, *fields):
    client = Client(server)
    client.ask(target, "GET", *fields)
    return client.answer()


def raw(server, data):
    """All that is answered to these bytes."""
    client = Client(server)
    try:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        while client.more():
            pass
    except OSError: # it was closed with bytes unread
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
    for n in (0, 1, 2, 4095, 65536, (1 << 20) + 1, 8 << 20):
        name, content = "/bytes%d" % n, rng.randbytes(n)
        server.put(name[1:], content)
        for _ in range(2):
            status, body = get(server, name)
            check_eq(status, 200)
            check(body == content, "other bytes", n)


def test_names(server, rng):
    server.put("a b%20", b"blank")
    server.put("n" * 252, b"long")
    for target, content in (
            ("//a.txt", b"a"), ("/sub/b.txt", b"b"), ("/sub//b.txt", b"b"),
            ("/a.txt?x=/../y", b"a"), ("/a.txt?" + "y" * 7000, b"a"),
            ("/" + "n" * 252, b"long")):
        check_eq(get(server, target), (200, content), target)
    for target in ("/%61.txt", "/a%20b%20", "/" + "n" * 251):
        check_eq(get(server, target)[0], 404, target)
    for target in ("/" + "n" * 254, "/" + "n" * 255, "/" + "n/" * 3000):
        check_eq(get(server, target)[0], 400, target)


def test_absent(server, rng):
    """What is not there, and then is."""
    os.mkfifo(os.path.join(server.root, "fifo"))
    with open(os.path.join(server.root, "huge"), "wb") as file:
        file.truncate((8 << 20) + 1)
    for target in ("/", "/none", "/later", "/sub", "/sub/", "/sub/none/",
                   "/a.txt/", "/fifo"):
        for _ in range(2):
            check_eq(get(server, target)[0], 404, target)
    check_eq(get(server, "/huge")[0], 503)
    server.put("later", b"now")
    until(lambda: get(server, "/later")[0] == 200, "a new file is not seen", 3)


def test_evicted(server, rng):
    """More files than the cache has bytes for."""
    for n in range(10):
        with open(os.path.join(server.root, "large%d" % n), "wb") as file:
            file.truncate(8 << 20)
    for n in range(10):
        check_eq(len(get(server, "/large%d" % n)[1]), 8 << 20)


def test_cut_off(server, rng):
    """A file that is shorter than it says, as one that is cut meanwhile."""
    path = "/sys/class/net/lo/mtu"
    if not os.path.exists(path) or os.stat(path).st_size < 100:
        print("skipped: a file that is shorter than it says: none in /sys")
        return
    os.symlink(path, os.path.join(server.root, "short"))
    check_eq(get(server, "/short")[0], 503)


def test_changed(server, rng):
    """Changed and removed files are noticed."""
    server.put("changed", b"old")
    check_eq(get(server, "/changed"), (200, b"old"))
    server.put("changed", b"new")
    until(lambda: get(server, "/changed")[1] == b"new", "no change is seen", 3)
    if SCALE == 1:
        return
    os.remove(os.path.join(server.root, "changed"))
    until(lambda: get(server, "/changed")[0] == 404, "it is not gone", 3)


def test_traversal(server, rng):
    ups = ["..", "%2e%2e", ".%2e", "..;", "..%00", "..\\"]
    slashes = ["/", "%2f", "//", "/./", "\\", "/sub/../"]
    names = ["/%s%ssecret" % (up, slash) for up in ups for slash in slashes]
    names += ["/sub%s" % name for name in names]
    names += ["/.hidden", "/%2ehidden", "/sub/.hidden", "/sub%2f.hidden",
              "/a.txt/../.hidden", "/.", "/..", "/%00", "/a.txt%00.html", "/%",
              "a.txt", "../secret", "", "*", "http://x/../secret",
              "/\r../secret", "/?/../../secret", "/ ../secret",
              server.top + "/secret", "/" + server.top + "/secret"]
    for name in names:
        status, body = get(server, name)
        check(status in (400, 404) and SECRET not in body, name, status)


def test_pieces(server, rng):
    """Requests in pieces, and with more behind them."""
    for cut in (1, 4, 5, 12, 25, 34, 36):
        text = b"GET /a.txt HTTP/1.1\r\nhost:\tx\r\nx: y\r\n\r\n"
        client = Client(server)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(text[:cut])
        time.sleep(0.002)
        client.send(text[cut:])
        check_eq(client.answer(), (200, b"a"))
    check_eq(statuses(raw(server, text * 2)), [200])


def test_refused(server, rng):
    """What is no request, or none that is served."""
    host = b"Host: x\r\n"
    head = b"GET /a.txt HTTP/1.1\r\nx: "
    for data, expected in (
            (b"GET /a.txt HTTP/1.0\r\n\r\n", 200),
            (b"GET /a.txt\r\n\r\n", 200),
            (b"GET  /a.txt HTTP/1.1\r\n" + host + b"\r\n", 400),
            (b"\r\n\r\n", 400), (b"G\r\n\r\n", 400),
            (b"GET\r\n\r\n", 400), (b"GET \r\n\r\n", 400),
            (b"\0", 400), (b"GET /a\0.txt HTTP/1.1\r\n\r\n", 400),
            (b"HEAD /a.txt HTTP/1.1\r\n" + host + b"\r\n", 400),
            (b"POST /a.txt HTTP/1.1\r\n" + host + b"\r\n", 400),
            (b"get /a.txt HTTP/1.1\r\n" + host + b"\r\n", 400),
            (head + b"y" * (8191 - len(head) - 4) + b"\r\n\r\n", 200),
            (head + b"y" * (8191 - len(head) - 3), 400),
            (head, 400), (b"", 400)):
        check_eq(statuses(raw(server, data)), [expected], data[:80])


def test_slow_reader(server, rng):
    """A client that is slow gets all of a file that has left meanwhile."""
    old, new = rng.randbytes(1 << 20), rng.randbytes(1 << 20)
    for name in ("slow", "slow2"):
        server.put(name, old)
    slow = [Client(server, 4096) for _ in range(4)]
    for i, client in enumerate(slow):
        client.ask("/slow" if i % 2 else "/slow2")
        client.socket.recv(1, socket.MSG_PEEK)
    server.put("slow", new)
    os.remove(os.path.join(server.root, "slow2"))
    until(lambda: get(server, "/slow")[1] == new, "no change is seen", 3)
    until(lambda: get(server, "/slow2")[0] == 404, "it is not gone", 3)
    slow.pop().reset()
    slow.pop().socket.close()
    for client in slow:
        check(client.answer()[1] == old, "other bytes")


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
            for _ in range(5 * SCALE):
                name = own.choice(list(contents))
                if own.random() < 0.1:
                    client = Client(server)
                    client.ask(name)
                    client.reset()
                elif get(server, name)[1] != contents[name]:
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
             b"GET /sub/b.txt HTTP/1.0\r\nConnection: close\r\n\r\n",
             b"GET /a.txt?q HTTP/1.1\r\nHost: x\r\n\r\n",
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
    check_eq(get(server, "/a.txt"), (200, b"a"))


def test_gone(server, rng):
    """Clients that leave before their answers come."""
    text = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    for n in range(50):
        client = Client(server)
        client.send(text)
        if n % 2:
            client.socket.shutdown(socket.SHUT_WR)
        client.socket.close()
    check_eq(get(server, "/a.txt"), (200, b"a"))


def test_curl(server, rng):
    if not shutil.which("curl"):
        print("skipped: curl as a client of the HTTP example: there is none")
        return
    url = "http://127.0.0.1:%d" % server.port
    out = subprocess.run(
        ["curl", "-sS", "--path-as-is", url + "/a.txt", url + "/sub/b.txt",
         url + "/../secret", "-w", "%{http_code}"],
        stdout=subprocess.PIPE, timeout=LIMIT_S, check=True).stdout
    check_eq(out, b"a200b200404")


def test_end(server, rng):
    """Whatever clients are doing, and with either signal, it ends."""
    own = Server(server.process.args[0])
    own.put("big", rng.randbytes(8 << 20))
    clients = [Client(own) for _ in range(8)]
    clients[1].send(b"GET / HT")
    clients[2].ask("/big")
    clients[2].socket.recv(1, socket.MSG_PEEK)
    clients[4].send(b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    clients[5].ask("/", "POST", "Content-Length: 1")
    clients[6].ask("/big")
    clients[7].ask("/big")
    clients[7].reset()
    check(own.end(signal.SIGINT) < 2 * LIMIT_S / 3)


def main():
    options = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
    seed = int(options.get("seed", int(time.time())))
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
               for item in globals().items() if item[0].startswith("test_")
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
