# make run        the main job: a recorded workload through cache and SQLite
# make test       every test, under two minutes on two cores
# make check-all  the same with more seeds, ThreadSanitizer and clang
# make bench      speed and memory beside uthash, GLib, boost and absl: table,
#                 TSV and plots in bench/results; BENCH_ONLY=hit for a part of it
# make bench-journal  acknowledged writes per second, with files in BENCH_DIR=build
# make bench-resp  CPU time of the example server beside redis-server's; REQUESTS=
#                 and ROUNDS=
# make bench-loading  what a loading cache costs beside a plain one; TSV in
#                 bench/results
# make bench-async    what the loop half costs, hits to write-behind; TSV in
#                 bench/results, SQLite's file in BENCH_DIR=build
# make hitratio   TRACE=file SIZES=100,1000,10% POLICIES=lru,arc SEED=1: which
#                 policy and size serve a trace; TSV and curves in build
# make hitratio-table  TRACES=dir CELLS=cells.tsv POLICIES=all OUT=out.tsv
# make codegen    what the compiler makes of a get
# make icount     instructions of an operation against bench/icount.tsv, which
#                 UPDATE=1 writes anew
# make install    headers and cache.pc, to PREFIX=/usr/local
# make format     clang-format over all sources

CC = cc
CXX = g++
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
BENCH_ONLY =
BENCH_DIR = build
BENCH_RESULTS = $(if $(BENCH_ONLY),build,bench/results)
WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
CFLAGS = -std=gnu11 -g $(WARN) -I.
LIBS = -luv -lsqlite3 -lpthread -lm

HEADERS = $(wildcard *.h stores/*.h codecs/*.h util/*.h)
TESTS = $(patsubst tests/%.c,%,$(wildcard tests/test_*.c tests/sim_*.c))
EXAMPLES = $(patsubst examples/%.c,%,$(wildcard examples/*.c))

# What compiles soonest: a build of all tests at -O2, by clang, is in check-all.
# -g1 has the lines for a backtrace.
PLAIN = -O1 -g1
BENCH = -O2
# Unoptimised, which compiles in a fifth of the time, but for tests that run long.
ASAN = -O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN = -O1 -fsanitize=thread
# The others have their memory in one block.
ASAN_TESTS = $(filter-out test_explore test_history test_shared_locks,$(TESTS))
TSAN_TESTS = test_sqlite test_async test_async_load test_async_write \
    test_async_crash test_async_files test_async_faults test_async_remote \
    test_journal test_shared test_shared_stress test_shared_locks test_history \
    test_histogram test_loading_crash test_loading_shared
CLANG_TSAN_TESTS = test_shared_stress test_history test_loading_shared

# `make test` has each test once: under ASan, but for those that run long there,
# crash processes, or are about other things.  `make check-all` has everything.
PLAIN_FIRST = test_explore test_history test_shared_locks test_adaptive \
    test_async_crash test_async_faults test_async_files test_async_load \
    test_async_write test_headers test_journal test_loading_crash \
    test_loading_model test_loading_shared test_model test_policies \
    test_shared test_shared_model test_shared_stress test_sqlite \
    test_strategies sim_async sim_loading

plain = $(TESTS:%=build/plain/%)
asan = $(ASAN_TESTS:%=build/asan/%)
first = $(PLAIN_FIRST:%=build/plain/%) \
    $(filter-out $(PLAIN_FIRST:%=build/asan/%),$(asan))
tsan = $(TSAN_TESTS:%=build/tsan/%) $(CLANG_TSAN_TESTS:%=build/clang-tsan/%)
clang = $(TESTS:%=build/clang/%)
examples = $(EXAMPLES:%=build/examples/%)
scripts = tests/headers.sh tests/readme.sh tests/examples.sh \
    tests/hitratio.sh tests/http.sh tests/resp.sh
slow_scripts = tests/bench.sh tests/shared_controls.sh

# A list of these, of which none may be empty.
all_of = $(foreach list,$(1),$(or $($(list)),$(error the list $(list) is empty)))

.PHONY: run test check-all bench bench-async bench-journal bench-resp \
    bench-loading hitratio hitratio-table codegen icount install format clean \
    setup-run setup-test setup-bench setup-hitratio setup-hitratio-table \
    setup-icount

run: setup-run
	@$(MAKE) -s build/replay build/workload.filelog
	@build/replay build/workload.filelog

test: setup-test
	@$(MAKE) -s -j2 $(call all_of,first examples) build/hitratio \
	    build/workload.filelog
	@tests/run.sh $(call all_of,first scripts)

check-all: setup-test setup-bench
	@$(MAKE) -s -j2 $(call all_of,plain asan tsan clang examples) \
	    build/bench build/bench-some build/bench-async build/replay \
	    build/hitratio build/workload.filelog
	@build/replay build/workload.filelog
	@build/bench --quick
	@$(MAKE) -s hitratio SIZES=100,10%
	@$(MAKE) -s icount
	@TEST_SCALE=10 tests/run.sh \
	    $(call all_of,plain asan tsan clang scripts slow_scripts)

bench: setup-bench
	@$(MAKE) -s -j2 build/bench
	@mkdir -p $(BENCH_RESULTS)
	@build/bench '--only=$(BENCH_ONLY)' --tsv=$(BENCH_RESULTS)/bench.tsv
ifeq ($(BENCH_ONLY),)
	@bench/ratios.sh $(BENCH_RESULTS)/bench.tsv
	@gnuplot -e "tsv='$(BENCH_RESULTS)/bench.tsv'; dir='$(BENCH_RESULTS)'" \
	    bench/bench.gp
endif
	@echo 'The table: $(BENCH_RESULTS)/bench.tsv'

bench-journal: setup-test
	@$(MAKE) -s build/bench-journal
	@build/bench-journal '$(BENCH_DIR)'

bench-async: setup-test
	@$(MAKE) -s build/bench-async build/resp_server
	@mkdir -p bench/results
	@build/bench-async '--dir=$(BENCH_DIR)' --tsv=bench/results/async.tsv
	@bench/resp.sh build/resp_server | tee build/resp.tsv
	@grep '	' build/resp.tsv >>bench/results/async.tsv

bench-resp: setup-test
	@$(MAKE) -s build/resp_server
	@bench/resp.sh build/resp_server

bench-loading:
	@$(MAKE) -s build/bench-loading
	@mkdir -p bench/results
	@build/bench-loading --tsv=bench/results/loading.tsv

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

setup-run setup-test setup-bench setup-hitratio setup-hitratio-table \
setup-icount: setup-%:
	@./setup.sh $*

build/plain/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PLAIN) $< -o $@ $(LIBS)

build/asan/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ASAN) $< -o $@ $(LIBS)

# Every policy of every kind: its time is the compiler's.
build/plain/test_model: PLAIN = -O0 -g1

build/asan/test_policies build/asan/test_adaptive build/asan/sim_%: ASAN += -O1

$(foreach dir,plain asan clang,build/$(dir)/test_dns): examples/dns.c

# Its libuv is a simulation, too.
build/%/sim_async: CFLAGS += -Itests/fake_uv
$(patsubst %,build/%/sim_async,plain asan clang): tests/fake_uv/uv.h

build/tsan/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(TSAN) $< -o $@ $(LIBS)

build/clang-tsan/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	clang $(CFLAGS) $(TSAN) $< -o $@ $(LIBS)

build/clang/%: tests/%.c $(HEADERS) $(wildcard tests/*.h)
	@mkdir -p $(@D)
	clang $(CFLAGS) -O2 $< -o $@ $(LIBS)

build/examples/%: examples/%.c $(HEADERS) $(wildcard examples/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ASAN) $< -o $@ $(LIBS)

# What is in them has ASan in tests of its own.
build/examples/dns build/examples/loops build/examples/nested: ASAN = -O0 -g1

build/resp_server: examples/resp_server.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ -luv

# The benchmark with all peers, and with those that the tests' packages have.
bench_files = bench contest measure threads ours ours_shared peer_uthash
bench_headers = $(addprefix bench/,bench.h contest.h glib_lru.h loops.h ours.h \
    stream.h uthash_lru.h)
bench_all = $(bench_files:%=build/bench-all/%.o) build/bench-all/peer_glib.o \
    build/bench-all/peers_cxx.o
bench_some = $(bench_files:%=build/bench-some.d/%.o)
bench_packages = glib-2.0 absl_flat_hash_map

build/bench-all/%.o: bench/%.c $(bench_headers) $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) '-DBENCH_FLAGS="$(BENCH)"' -DBENCH_ALL_PEERS \
	    $$(pkg-config --cflags glib-2.0) -c $< -o $@

build/bench-all/%.o: bench/%.cc $(bench_headers)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -g -Wall -Wextra -Wpedantic -Wshadow -Werror -I. $(BENCH) \
	    -c $< -o $@

build/bench: $(bench_all)
	$(CXX) $^ -o $@ $$(pkg-config --libs $(bench_packages)) -lpthread -lm

build/bench-loading: bench/loading.c bench/bench.h bench/sides.h bench/stream.h $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ -lpthread -lm

build/bench-async: bench/async.c bench/bench.h bench/sides.h bench/stream.h \
    $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ $(LIBS)

build/bench-some.d/%.o: bench/%.c $(bench_headers) $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -O1 '-DBENCH_FLAGS="-O1"' -c $< -o $@

build/bench-some: $(bench_some)
	$(CC) $^ -o $@ -lpthread -lm

build/replay: bench/replay.c bench/filelog.h $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ $(LIBS)

build/bench-journal: bench/journal.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ -lpthread

build/hitratio: bench/hitratio.c bench/trace.h bench/filelog.h $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(BENCH) $< -o $@ -lzstd -lpthread -lm

build/workload.filelog: bench/workload.filelog.gz
	@mkdir -p $(@D)
	gzip -dc $< > $@.tmp && mv $@.tmp $@

install:
	install -d $(DESTDIR)$(PREFIX)/include/cache/stores \
	    $(DESTDIR)$(PREFIX)/include/cache/codecs \
	    $(DESTDIR)$(PREFIX)/include/cache/util \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 $(wildcard *.h) \
	    $(DESTDIR)$(PREFIX)/include/cache
	install -m 644 stores/*.h $(DESTDIR)$(PREFIX)/include/cache/stores
	install -m 644 codecs/*.h $(DESTDIR)$(PREFIX)/include/cache/codecs
	install -m 644 util/*.h $(DESTDIR)$(PREFIX)/include/cache/util
	sed 's|@PREFIX@|$(PREFIX)|' cache.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/cache.pc

format:
	clang-format -i $(HEADERS) tests/*.[ch] tests/*/*.h bench/*.[ch] bench/*.cc examples/*.c

clean:
	rm -rf build
