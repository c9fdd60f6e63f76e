# make run        the main job: a recorded workload through cache and SQLite
# make test       every test, under two minutes on two cores
# make check-all  the same with more seeds, ThreadSanitizer and clang
# make micro      speed beside uthash; TSV in build/micro.tsv
# make codegen    what the compiler makes of a get
# make install    headers and cache.pc, to PREFIX=/usr/local
# make format     clang-format over all sources

CC = cc
PREFIX = /usr/local
WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
CFLAGS = -std=gnu11 -g $(WARN) -I.
LIBS = -luv -lsqlite3 -lpthread -lm

HEADERS = $(wildcard *.h stores/*.h codecs/*.h)
TESTS = $(patsubst tests/%.c,%,$(wildcard tests/test_*.c tests/sim_*.c))
EXAMPLES = $(patsubst examples/%.c,%,$(wildcard examples/*.c))

PLAIN = -O2
ASAN = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN = -O1 -fsanitize=thread
TSAN_TESTS = test_sqlite test_async

plain = $(TESTS:%=build/plain/%)
asan = $(TESTS:%=build/asan/%)
tsan = $(TSAN_TESTS:%=build/tsan/%)
clang = $(TESTS:%=build/clang/%)
examples = $(EXAMPLES:%=build/examples/%)
scripts = tests/headers.sh tests/readme.sh tests/examples.sh tests/bench.sh

.PHONY: run test check-all micro codegen install format clean setup-run setup-test

run: setup-run
	@$(MAKE) -s build/replay build/workload.filelog
	@build/replay build/workload.filelog

test: setup-test
	@$(MAKE) -s -j2 $(plain) $(asan) $(examples) build/micro build/replay
	@tests/run.sh $(plain) $(asan) $(scripts)

check-all: setup-test
	@$(MAKE) -s -j2 $(plain) $(asan) $(tsan) $(clang) $(examples) \
	    build/micro build/replay build/workload.filelog
	@build/replay build/workload.filelog
	@$(MAKE) -s micro
	@TEST_SCALE=10 tests/run.sh $(plain) $(asan) $(tsan) $(clang) $(scripts)

micro: setup-test
	@$(MAKE) -s build/micro
	@build/micro --tsv=build/micro.tsv

codegen: setup-test
	@bench/codegen.sh

setup-run:
	@./setup.sh run
setup-test:
	@./setup.sh test

build/plain/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PLAIN) $< -o $@ $(LIBS)

build/asan/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ASAN) $< -o $@ $(LIBS)

build/tsan/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(TSAN) $< -o $@ $(LIBS)

build/clang/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	clang $(CFLAGS) $(PLAIN) $< -o $@ $(LIBS)

build/examples/%: examples/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ASAN) $< -o $@ $(LIBS)

build/micro: bench/micro.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PLAIN) '-DBENCH_FLAGS="$(PLAIN)"' $< -o $@ $(LIBS)

build/replay: bench/replay.c bench/filelog.h $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PLAIN) $< -o $@ $(LIBS)

build/workload.filelog: bench/workload.filelog.gz
	@mkdir -p $(@D)
	gzip -dc $< > $@.tmp && mv $@.tmp $@

install:
	install -d $(DESTDIR)$(PREFIX)/include/cache/stores \
	    $(DESTDIR)$(PREFIX)/include/cache/codecs \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 cache.h cache_policies.h cache_store.h cache_async.h \
	    $(DESTDIR)$(PREFIX)/include/cache
	install -m 644 stores/*.h $(DESTDIR)$(PREFIX)/include/cache/stores
	install -m 644 codecs/*.h $(DESTDIR)$(PREFIX)/include/cache/codecs
	sed 's|@PREFIX@|$(PREFIX)|' cache.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/cache.pc

format:
	clang-format -i $(HEADERS) tests/*.[ch] bench/*.[ch] examples/*.c

clean:
	rm -rf build
