# make run        the main job: a recorded workload through cache and SQLite
# make test       every test, under two minutes on two cores
# make check-all  the same with more seeds, ThreadSanitizer and clang
# make micro      speed beside uthash; TSV in build/micro.tsv
# make hitratio   TRACE=file SIZES=100,1000,10% POLICIES=lru,arc SEED=1: which
#                 policy and size serve a trace; TSV and curves in build
# make hitratio-table  TRACES=dir CELLS=cells.tsv POLICIES=all OUT=out.tsv
# make codegen    what the compiler makes of a get
# make icount     instructions of an operation against bench/icount.tsv, which
#                 UPDATE=1 writes anew
# make install    headers and cache.pc, to PREFIX=/usr/local
# make format     clang-format over all sources

CC = cc
PREFIX = /usr/local
TRACE =
SIZES =
POLICIES = all
SEED = 1
TRACES = ../shared/traces
CELLS = $(TRACES)/../reference/hitratio.tsv
EXACT_HITS = $(wildcard $(TRACES)/../reference/exact_hits.tsv)
export TRACES EXACT_HITS
OUT = build/hitratio-table.tsv
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
scripts = tests/headers.sh tests/readme.sh tests/examples.sh tests/bench.sh \
    tests/hitratio.sh

.PHONY: run test check-all micro hitratio hitratio-table codegen icount install \
    format clean setup-run setup-test setup-hitratio setup-hitratio-table \
    setup-icount

run: setup-run
	@$(MAKE) -s build/replay build/workload.filelog
	@build/replay build/workload.filelog

test: setup-test
	@$(MAKE) -s -j2 $(plain) $(asan) $(examples) build/micro build/replay \
	    build/hitratio build/workload.filelog
	@tests/run.sh $(plain) $(asan) $(scripts)

check-all: setup-test
	@$(MAKE) -s -j2 $(plain) $(asan) $(tsan) $(clang) $(examples) \
	    build/micro build/replay build/hitratio build/workload.filelog
	@build/replay build/workload.filelog
	@$(MAKE) -s micro
	@$(MAKE) -s hitratio SIZES=100,10%
	@TEST_SCALE=10 tests/run.sh $(plain) $(asan) $(tsan) $(clang) $(scripts)

micro: setup-test
	@$(MAKE) -s build/micro
	@build/micro --tsv=build/micro.tsv

hitratio: setup-hitratio
	@$(MAKE) -s build/hitratio $(if $(TRACE),,build/workload.filelog)
	@build/hitratio '--policies=$(POLICIES)' $(if $(SIZES),'--sizes=$(SIZES)') \
	    --seed=$(SEED) --tsv=build/hitratio.tsv '$(or $(TRACE),build/workload.filelog)'
	@gnuplot -e "tsv='build/hitratio.tsv'" bench/hitratio.gp \
	    >build/hitratio.svg
	@echo 'Its curves: build/hitratio.svg'
	@[ -n '$(TRACE)' ] || [ ! -d '$(TRACES)' ] || \
	    echo 'More traces, for TRACE=: $(TRACES)'

hitratio-table: setup-hitratio-table
	@$(MAKE) -s build/hitratio
	@build/hitratio --seed=$(SEED) '--traces=$(TRACES)' '--cells=$(CELLS)' \
	    '--policies=$(POLICIES)' '--tsv=$(OUT)'

codegen: setup-test
	@bench/codegen.sh

icount: setup-icount
	@UPDATE='$(UPDATE)' bench/icount.sh

setup-run setup-test setup-hitratio setup-hitratio-table setup-icount: setup-%:
	@./setup.sh $*

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

build/hitratio: bench/hitratio.c bench/trace.h bench/filelog.h $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PLAIN) $< -o $@ -lzstd -lpthread -lm

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
