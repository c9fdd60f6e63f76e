#!/usr/bin/env python3
"""Turn an strace log of a build into a FILELOG1 recording: file look-ups with metadata.

    record.py strace.log /path/of/source/tree workload.filelog.gz

How the repository's recording was made (in Debian 12's linux-source-6.1 after `make
tinyconfig`; workload.md shows ../build.sh and describes the format):

    env -i PATH=/usr/bin:/bin LC_ALL=C \\
    strace -f -q -ttt -y -s 8 --seccomp-bpf -e abbrev=execve,execveat -e trace=%file,close,\\
dup2,dup3,fchdir,fchmod,ftruncate,write,writev,pwrite64,copy_file_range,sendfile,\\
fork,vfork,clone,clone3 -o ../strace.log sh ../build.sh
    record.py ../strace.log . workload.filelog.gz

The log needs -f, -ttt (time stamps), -y (paths of descriptors, of AT_FDCWD too: strace 6),
an `abbrev` without the stat family (nanoseconds of mtime), and the exits (not -qq).
A file whose metadata is nowhere in the log is looked at now: convert on the same machine.
"""
import argparse
import collections
import gzip
import hashlib
import os
import re
import stat
import struct

LOOKUP, PUT, REMOVE = 0, 1, 2
Meta = collections.namedtuple("Meta", "size mtime_ns mode links")
NEW_FILE = Meta(0, 0, stat.S_IFREG | 0o644, 1)

STATS = {"stat", "lstat", "newfstatat", "fstatat64", "statx"}
OPENS = {"open", "openat", "openat2"}
LOOKUPS = STATS | OPENS | {"access", "faccessat", "faccessat2", "readlink", "readlinkat",
                           "execve", "execveat"}

LINE = re.compile(r"(\d+) +(\d+)\.(\d+) (.*)")
CALL = re.compile(r"(\w+)\((.*)\) += -?\d+(?:<(.*)>)?(?: (E[A-Z0-9]+) )?")
CHILD = re.compile(r"(\d+) .*\b(?:clone3?|v?fork)(?:\(| resumed).* = (\d+)$")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)(?:<(/[^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"\b\d+<(/[^>]*)>")
FIELD = re.compile(r"stx?_(mode|nlink|size|mtime_nsec|mtime)="
                   r"(?:\{tv_sec=(-?\d+), tv_nsec=(\d+)|([\w|]+))")


def calls(log):
    """Yield (pid, time in ns, name, arguments, result's path, error)."""
    started = {}
    for match in filter(None, map(LINE.match, log)):
        pid, seconds, fraction, text = match.groups()
        when = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
        if text.startswith("<... "):
            text = started.pop(pid, "") + text[text.index(" resumed>") + len(" resumed>"):]
        if text.endswith(" <unfinished ...>"):
            started[pid] = text[:-len(" <unfinished ...>")]
        elif text.startswith("+++ "):
            yield pid, when, "exit", "", None, None
        elif match := CALL.match(text):
            yield pid, when, *match.groups()


def absolute(base, text):
    if "\\" in text:
        text = text.encode("latin-1").decode("unicode_escape")
    return "/" + os.path.normpath(os.path.join(base, text)).lstrip("/")


def metadata(arguments):
    """The Meta in the printed struct of a call of the stat family, None if not all of it."""
    found = {"mtime_nsec": "0"}
    for name, seconds, fraction, value in FIELD.findall(arguments):
        found[name] = value or seconds
        found["mtime_nsec"] = fraction or found["mtime_nsec"]
    if len(found) < 5:
        return None
    mode = sum(int(part, 8) if part.isdigit() else getattr(stat, part)
               for part in found["mode"].split("|"))
    time = int(found["mtime"]) * 10**9 + int(found["mtime_nsec"])
    return Meta(int(found["size"]), time % 2**64, mode, int(found["nlink"]))


class Operations:
    """The relevant part of the log as a list of (what, path, detail):
    look    detail is a Meta, True (exists), False (absent) or "create" (open with O_CREAT)
    seen    detail is a Meta (fstat); no look-up, but tells what a change has led to
    set     changed; detail is (path, guess): guess(old Meta of that path) is the new Meta
    remove"""

    def __init__(self, log, parents, root):
        self.list, self.parents, self.root = [], parents, root
        self.cwd = {}                   # pid -> directory
        self.dirty = {}                 # path, once opened for writing -> is a PUT due?
        self.writing = collections.defaultdict(dict)    # pid -> paths, in order
        for call in calls(log):
            self.call(*call)

    def add(self, what, path, detail=None):
        if path.split("/")[1] not in ("proc", "sys", "dev") and " (deleted)" not in path:
            self.list.append((what, path, detail))

    def flush(self, when, paths):
        for path in paths:
            if self.dirty.get(path):
                self.dirty[path] = False
                self.add("set", path, (path, lambda old: old._replace(mtime_ns=when)))

    def call(self, pid, when, name, arguments, opened, error):
        if pid not in self.cwd:
            self.cwd[pid] = self.cwd.get((self.parents[pid] or [None]).pop(0), self.root)
        if arguments.startswith("AT_FDCWD<"):
            self.cwd[pid] = arguments[len("AT_FDCWD<"):arguments.index(">")]
        shown = DESCRIPTOR.findall(arguments)
        if name in LOOKUPS:
            if match := PATH.match(arguments):
                base, text = match[1] or self.cwd[pid], match[2]
                if text:
                    self.look(pid, name, arguments, opened, error, absolute(base, text))
                elif match[1] and name in STATS and not error:      # fstat()
                    self.add("seen", base, metadata(arguments))
        elif name == "exit":
            self.flush(when, self.writing.pop(pid, ()))
            del self.cwd[pid]
        elif name in ("close", "dup2", "dup3"):     # dup2() closes its second descriptor
            self.flush(when, shown[-1:])
        elif name in ("write", "writev", "pwrite64"):
            if shown and shown[0] in self.dirty:
                self.dirty[shown[0]] = self.writing[pid][shown[0]] = True
        elif not error:
            paths = [absolute(base or self.cwd[pid], text)
                     for base, text in PATH.findall(arguments)] or shown
            if paths:
                self.change(pid, when, name, arguments, paths)

    def look(self, pid, name, arguments, opened, error, path):
        if error:                       # "not a link" does tell that the path exists
            missing = error in ("ENOENT", "ENOTDIR")
            if missing or error == "EINVAL" and name.startswith("readlink"):
                self.add("look", path, not missing)
        elif name in STATS:             # metadata of a link's path is what stat() gives
            link = name == "lstat" or "AT_SYMLINK_NOFOLLOW" in arguments
            meta = metadata(arguments)
            self.add("look", path, True if not meta or link and stat.S_ISLNK(meta.mode) else meta)
        else:
            flags = arguments.rpartition('"')[2] if name in OPENS else ""
            self.add("look", path, "create" if "O_CREAT" in flags else True)
            if "O_WRONLY" in flags or "O_RDWR" in flags:
                self.dirty[opened or path] = "O_CREAT" in flags or "O_TRUNC" in flags
                self.writing[pid][opened or path] = True

    def change(self, pid, when, name, arguments, paths):
        path = paths[0]
        if name in ("chdir", "fchdir"):
            self.cwd[pid] = path
        elif name in ("mkdir", "mkdirat"):
            self.add("set", path, (path, lambda old: Meta(4096, when, stat.S_IFDIR | 0o755, 2)))
        elif name in ("unlink", "unlinkat", "rmdir"):
            self.dirty.pop(path, None)
            self.add("remove", path)
        elif name in ("rename", "renameat", "renameat2"):
            self.dirty[paths[1]] = self.dirty.pop(path, False)
            self.add("set", paths[1], (path, lambda old: old))
            self.add("remove", path)
        elif "chmod" in name:
            bits = int(re.search(r", ([0-7]+)$", arguments)[1], 8) & 0o777
            self.add("set", path, (path, lambda old: old._replace(mode=old.mode & ~0o777 | bits)))
        elif "utime" in name or "truncate" in name:
            self.add("set", path, (path, lambda old: old._replace(mtime_ns=when)))


def metas_after(operations):
    """For each operation the metadata of its path that the log shows before the next change
    (None: does not show it), and the set of all paths that change."""
    later, known, changing = {}, [], set()
    for what, path, detail in reversed(operations):
        if type(detail) is Meta:
            later[path] = detail
        known.append(later.get(path))
        if what in ("set", "remove") or detail is False:
            later.pop(path, None)
            changing.add(path)
    return known[::-1], changing


def record(operations):
    """Return ({path: initial Meta}, events) with events a list of (kind, path, Meta or None).
    A look-up not explained by what is before it gets a PUT or REMOVE inserted before it."""
    (known, changing), model, initial, events = metas_after(operations), {}, {}, []

    def become(path, meta):
        if model.get(path) != meta:
            model[path] = meta
            events.append((PUT if meta else REMOVE, path, meta))

    for (what, path, detail), later in zip(operations, known):
        if detail in (False, "create"):
            model.setdefault(path, None)
        elif what in ("look", "remove") and path not in model:
            if not later and path not in changing and os.path.exists(path):
                now = os.stat(path)
                later = Meta(now.st_size, now.st_mtime_ns, now.st_mode, now.st_nlink)
            model[path] = initial[path] = later or NEW_FILE
        if what == "set":
            source, guess = detail
            become(path, later or guess(model.get(source) or NEW_FILE))
        elif what == "remove" or detail is False:
            become(path, None)
        elif type(detail) is Meta and what == "look" or detail is True and not model[path]:
            become(path, later or NEW_FILE)
        if what == "look":
            events.append((LOOKUP, path, model[path]))
    return initial, events


def pack(root, initial, events):
    """The recording as bytes; keys and metadata are numbered in the order of their use."""
    keys = collections.defaultdict(lambda: len(keys))
    metas = collections.defaultdict(lambda: len(metas))
    start = [number for path, meta in initial.items() for number in (keys[path], metas[meta])]
    event_keys = [kind << 30 | keys[path] for kind, path, _ in events]
    event_metas = [metas[meta] if meta else 0xFFFFFFFF for _, _, meta in events]
    names = [os.path.relpath(path, root) if (path + "/").startswith(root + "/") else path
             for path in keys]
    hashes = [hashlib.sha256(name.encode()).digest()[:8] for name in names]
    if len(set(hashes)) < len(hashes) or bytes(8) in hashes:
        raise SystemExit("two paths have the same hash, or one has the hash 0")
    return b"".join([
        b"FILELOG1", struct.pack("<4I", len(keys), len(metas), len(initial), len(events)),
        *hashes, *(struct.pack("<QQII", *meta) for meta in metas),
        *(struct.pack(f"<{len(part)}I", *part) for part in (start, event_keys, event_metas))])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log", help="log of strace, see the head of this file")
    parser.add_argument("root", type=os.path.abspath, help="directory of the source tree")
    parser.add_argument("recording", help="file to write, compressed with gzip")
    options = parser.parse_args()
    parents = collections.defaultdict(list)     # a pid may be used more than once
    with open(options.log, encoding="latin-1") as log:
        for match in filter(None, map(CHILD.match, log)):
            parents[match[2]].append(match[1])
        log.seek(0)
        initial, events = record(Operations(log, parents, options.root).list)
    with open(options.recording, "wb") as out, gzip.GzipFile("", "wb", 9, out, 0) as packed:
        packed.write(pack(options.root, initial, events))
    print("look-ups, puts, removes:", sorted(collections.Counter(e[0] for e in events).items()))


if __name__ == "__main__":
    main()
