# zoetrope: one binary, build/zoetrope.   make help lists what this file can do.
#
# Sources are found by folder, headers' dependencies by the compiler, libraries by
# tools/find_libraries.sh. Everything that is made lies under $(BUILD).

ifeq ($(origin CC),default)
CC := gcc
endif
BUILD  ?= build
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g
JOBS   ?= $(shell nproc)
Q      := $(if $(V),,@)
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:

# ---- what there is to build ----------------------------------------------------------------------

# core/cpu is compiled once for each instruction set; core/device.c chooses at run time
CPU_SOURCES  := $(wildcard core/cpu/*.c)
BF16_SOURCES := $(wildcard core/cpu/bf16/*.c)
LIB_SOURCES  := $(filter-out tools/main.c $(CPU_SOURCES),\
                  $(wildcard core/*.c core/*/*.c comm/*.c data/*.c train/*.c infer/*.c tools/*.c))
# a library without an interface for C has an owner that gives it one
CXX_SOURCES  := $(wildcard core/*/*.cc)
TEST_SOURCES := $(wildcard tests/*/test_*.c)
BENCH_SOURCES := $(wildcard tests/bench/bench_*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
# what several tests share
TEST_SHARED  := $(filter-out $(TEST_SOURCES) $(BENCH_SOURCES) tests/fault/% tests/fuzz/%\
                  tests/sanitize/%,$(wildcard tests/*/*.c))
TEST_SCRIPTS := $(filter-out %_support.sh,$(wildcard tests/e2e/*.sh tests/fault/*.sh))
SLURM_TESTS  := $(filter-out %_support.sh,$(wildcard tests/slurm/*.sh))
# programs fault_*, the library shim*.c that is loaded before them, and what they share
FAULT_SOURCES := $(wildcard tests/fault/fault_*.c)
FAULT_SHIM    := $(wildcard tests/fault/shim*.c)
FAULT_SHARED  := $(filter-out $(FAULT_SOURCES) $(FAULT_SHIM),$(wildcard tests/fault/*.c))
PLANTED      := $(patsubst tests/%.sed,$(BUILD)/%,$(wildcard tests/planted/*.sed))
PLANTED_SILENT := $(patsubst tests/%.sed,$(BUILD)/%,$(wildcard tests/planted/silent/*.sed))
ISAS         := x86_64 avx2 avx512
BF16_ISAS    := avx512_bf16 amx
SCRIPTS      := $(wildcard tools/*.sh tests/*.sh tests/*/*.sh slurm/*.sh slurm/*.sbatch .ci/run)

OBJ      := $(BUILD)/obj
LIBRARY  := $(BUILD)/libzoetrope.a
PROGRAM  := $(BUILD)/zoetrope
LIB_OBJS := $(LIB_SOURCES:%.c=$(OBJ)/%.o) $(CXX_SOURCES:%.cc=$(OBJ)/%.o) $(OBJ)/version.o \
            $(foreach isa,$(ISAS),$(CPU_SOURCES:%.c=$(OBJ)/%.$(isa).o)) \
            $(foreach isa,$(BF16_ISAS),$(BF16_SOURCES:%.c=$(OBJ)/%.$(isa).o))

# ---- flags ---------------------------------------------------------------------------------------

WARNINGS_CXX := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
WARNINGS := $(WARNINGS_CXX) -Werror=implicit-function-declaration \
            -Werror=int-conversion -Werror=incompatible-pointer-types
# ISO C for every compiler: no fused multiply-add outside core/cpu, the same bits from each
COMMON   := -D_GNU_SOURCE -I. -ffp-contract=off -pthread -fPIE
LANGUAGE := -std=c11 $(COMMON)
LANGUAGE_CXX := -x c++ -std=c++17 $(COMMON)
HARDEN   := -fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
LINK     := -pie -pthread -Wl,-z,relro,-z,now
# address,undefined or thread
ifdef SANITIZE
HARDEN   := -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer -U_FORTIFY_SOURCE
LINK     += -fsanitize=$(SANITIZE) -rdynamic
SHIM     := $(OBJ)/tests/sanitize/keep_plugins.o
endif
COMPILE   = $(CC) $(LANGUAGE) $(WARNINGS) $(CFLAGS) $(HARDEN) $(OPENMP) $(LIB_CFLAGS) $(CPPFLAGS)
# what asks after types at run time links with the C++ compiler only
COMPILE_CXX = $(CC) $(LANGUAGE_CXX) $(WARNINGS_CXX) $(CFLAGS) $(HARDEN) $(if $(SANITIZE),-fno-sanitize=vptr) \
              $(LIB_CFLAGS) $(CPPFLAGS)

# sums keep their order (no -ffast-math); only errno and traps are given up
CPU_FLAGS    := -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
FLAGS_x86_64 := -march=x86-64
FLAGS_avx2   := -march=x86-64-v3
FLAGS_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
# beside CPU_ISA avx512, whose vectors they use
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16
FLAGS_amx    := $(FLAGS_avx512_bf16) -mamx-tile -mamx-bf16

# ---- targets for people --------------------------------------------------------------------------

all: $(PROGRAM)  ## build build/zoetrope (default)

help:  ## this list
	@echo "usage: make [TARGET] [CC=gcc|clang] [BUILD=DIR] [CFLAGS=...] [V=1]"
	@sed -n 's/^\([a-z_-]*\):[^#]*## \(.*\)/    \1\t\2/p' Makefile | expand -t 24

# a fine first command on a machine with only git and make: the libraries come first
test:  ## run every test; T=name runs those whose file name contains it
	@CC=$(CC) tools/bootstrap.sh
	@$(MAKE) $(PARALLEL) run_tests

test-slurm:  ## jobs that come back, on a cluster of Slurm inside this machine; needs root
	@why=$$(bash -c '. tests/slurm/cluster_support.sh && cluster_able'); \
	if [ -n "$$why" ]; then echo "tests of slurm/ left out: $$why"; echo "0 passed, 0 failed"; \
	else CC=$(CC) tools/bootstrap.sh slurm && $(MAKE) $(PARALLEL) run_tests AREAS=slurm FILES="$(SLURM_TESTS)"; fi

quickstart:  ## clips, training and videos in minutes; CLIPS=folder takes your own
	@CC=$(CC) tools/bootstrap.sh
	@$(MAKE) $(PARALLEL) all
	@BUILD=$(BUILD) tools/quickstart.sh

bench: $(PROGRAM) $(BENCH_SOURCES:%.c=$(BUILD)/%)  ## measure training and sampling steps on this machine
	@BUILD=$(BUILD) tools/bench.sh

bench-peers: $(PROGRAM) $(BENCH_SOURCES:%.c=$(BUILD)/%)  ## the same work in PyTorch, in turns: ROUNDS=3; needs PyPI once
	@BUILD=$(BUILD) tests/peers/peers.sh

chaos:  ## KILLS=500 kills at random moments, SOAK_MINUTES=30 of faults of every kind, a table: 1.5 hours
	@CC=$(CC) tools/bootstrap.sh
	@$(MAKE) $(PARALLEL) all
	@BUILD=$(BUILD) tests/chaos/run.sh

chaos_calls:  ## every fault at every call of a save and a load, and 10,000 losses of power: an hour
	@LONG=1 $(MAKE) test AREAS=fault

sanitize:  ## address, undefined behaviour and threads: unit, ops, model and two-rank tests
	@CC=$(CC) tools/bootstrap.sh
	@failed=0; \
	$(MAKE) $(PARALLEL) run_tests $(SANITIZE_MEMORY) || failed=1; \
	$(MAKE) $(PARALLEL) run_tests $(SANITIZE_THREADS) || failed=1; \
	exit $$failed

fuzz:  ## libFuzzer on every reader of files, FUZZ_SECONDS=60 each; FUZZ=name takes some
	@WITH_FUZZER=1 CC=clang tools/bootstrap.sh
	@$(MAKE) $(PARALLEL) run_fuzz BUILD=$(BUILD)/fuzz CC=clang SANITIZE=address,undefined \
	    CFLAGS="-O1 -g -fsanitize=fuzzer-no-link"

lint:  ## include arrows, owners of libraries, formatting, shell scripts
	@tools/check_layers.sh
	@if command -v clang-format > /dev/null; then \
	    clang-format --dry-run -Werror $(C_FILES) && echo "formatting ok"; \
	else echo "clang-format is not installed: formatting not checked"; fi
	@if command -v shellcheck > /dev/null; then \
	    shellcheck -x -S warning $(SCRIPTS) && echo "scripts ok"; \
	else echo "shellcheck is not installed: scripts not checked"; fi

format:  ## rewrite the sources in the project's layout
	clang-format -i $(C_FILES)

install: $(PROGRAM)  ## copy the program to PREFIX/bin (default /usr/local)
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/zoetrope

compile_commands: compile_commands.json  ## what editors and clang-tidy read

clean:  ## remove the build folder
	rm -rf $(BUILD)

.PHONY: all help test test-slurm quickstart bench bench-peers chaos chaos_calls sanitize fuzz lint format install \
        compile_commands clean run_tests run_fuzz FORCE

C_FILES   = $(wildcard core/*.[ch] $(addsuffix /*.[ch],core/* core/*/* comm data train infer tools tests/*)) $(CXX_SOURCES)
PARALLEL  = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

# ---- tests ---------------------------------------------------------------------------------------

T     ?=
AREAS ?= unit fuzz ops model mpi e2e fault
# of the sizes in a test's `ranks:` line, these only; all when empty
RANKS ?=
# in the order of areas; by name, so that T=name links only what it runs
FILES  ?= $(TEST_SOURCES) $(FUZZ_SOURCES) $(TEST_SCRIPTS)
CHOSEN := $(foreach area,$(AREAS),$(foreach t,$(filter tests/$(area)/%,$(FILES)),\
            $(if $(T),$(if $(findstring $(T),$(notdir $(t))),$(t)),$(t))))

# what `make sanitize` passes on
SANITIZE_MEMORY  = BUILD=$(BUILD)/sanitize SANITIZE=address,undefined CFLAGS="-O1 -g" \
                   RANKS=2 FILES="$(SANITIZED)"
# tests that count allocations or refuse them put a malloc of their own where a sanitizer puts its
SANITIZED = $(filter-out tests/mpi/test_allocations.c tests/unit/test_alloc_failures.c, \
                $(filter tests/unit/% tests/ops/% tests/model/% tests/mpi/%,$(TEST_SOURCES))) \
            $(FUZZ_SOURCES)
# TSan does not see libgomp wait, and every parallel loop would look like a race: here loops run in
# the thread that comes to them, and the threads left are ours (loader, reducer, watchdog, ingest,
# ranks of tests). libgomp stays for omp_set_num_threads.
SANITIZE_THREADS = BUILD=$(BUILD)/tsan SANITIZE=thread CFLAGS="-O1 -g" RANKS=2 \
                   OPENMP="-fopenmp-simd -lgomp -Wno-unknown-pragmas -Wno-unused-parameter" \
                   FILES="$(THREADED)"
THREADED = $(patsubst %,tests/unit/test_%.c,base hang ordered model_dir loader pipeline) \
           $(patsubst %,tests/model/test_%.c,model sequence train_step velocity zero) \
           $(filter tests/mpi/%,$(SANITIZED))

run_tests: $(patsubst %.c,$(BUILD)/%,$(filter %.c,$(CHOSEN))) $(PROGRAM) \
           $(if $(filter tests/e2e/mesh_exact_planted.sh,$(CHOSEN)),$(PLANTED)) \
           $(if $(filter tests/e2e/silent_planted.sh,$(CHOSEN)),$(PLANTED_SILENT)) \
           $(if $(filter tests/e2e/convert.sh,$(CHOSEN)),$(BUILD)/tests/bench/bench_make_model) \
           $(if $(filter tests/fault/%,$(CHOSEN)),$(FAULT_SOURCES:%.c=$(BUILD)/%) $(BUILD)/tests/fault/shim.so)
	@BUILD=$(BUILD) SANITIZE=$(SANITIZE) RANKS="$(RANKS)" tests/run.sh $(CHOSEN)

# fuzz targets with libFuzzer; with an ordinary main() they are tests
FUZZ ?=
FUZZ_CHOSEN := $(foreach t,$(FUZZ_SOURCES),$(if $(FUZZ),$(if $(findstring $(FUZZ),$(t)),$(t)),$(t)))

run_fuzz: $(FUZZ_CHOSEN:tests/fuzz/%.c=$(BUILD)/libfuzzer/%)
	@BUILD=$(BUILD) tests/fuzz/run.sh $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_CHOSEN))

# ---- rules ---------------------------------------------------------------------------------------

# only what compiles or links needs the libraries
NO_LIBRARIES := help test test-slurm quickstart chaos chaos_calls sanitize fuzz lint format clean
ifneq ($(filter-out $(NO_LIBRARIES),$(or $(MAKECMDGOALS),all)),)
PROBLEM := $(shell tools/find_libraries.sh --make $(CC) $(BUILD)/libraries.mk)
ifneq ($(PROBLEM),)
$(error $(PROBLEM))
endif
include $(BUILD)/libraries.mk
endif

# objects are made again when the compiler or its flags change
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE) $(CPU_FLAGS) $(COMPILE_CXX)' | cmp -s - $@ || echo '$(COMPILE) $(CPU_FLAGS) $(COMPILE_CXX)' > $@

$(OBJ)/version.c: FORCE
	@tools/write_version.sh $@ $(CC) "$(LIB_VERSIONS)"
FORCE:

$(OBJ)/version.o: $(OBJ)/version.c $(BUILD)/flags
	$(Q)$(COMPILE) -MMD -MP -c $< -o $@

$(OBJ)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(COMPILE) -MMD -MP -c $< -o $@

$(OBJ)/%.o: %.cc $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  C++  $<"
	$(Q)$(COMPILE_CXX) -MMD -MP -c $< -o $@

define compile_for_isa
$(OBJ)/core/cpu/%.$(1).o: core/cpu/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo "  CC   $$< $(1)"
	$$(Q)$$(COMPILE) $$(CPU_FLAGS) $$(FLAGS_$(1)) -DCPU_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call compile_for_isa,$(isa))))

define compile_for_bf16
$(OBJ)/core/cpu/bf16/%.$(1).o: core/cpu/bf16/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	@echo "  CC   $$< $(1)"
	$$(Q)$$(COMPILE) $$(CPU_FLAGS) $$(FLAGS_$(1)) -DCPU_ISA=avx512 -DBF16_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(BF16_ISAS),$(eval $(call compile_for_bf16,$(isa))))

$(LIBRARY): $(LIB_OBJS)
	@echo "  AR   $@"
	$(Q)rm -f $@ && $(AR) qcs $@ $^

$(PROGRAM): $(OBJ)/tools/main.o $(LIBRARY) $(SHIM)
	@echo "  LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LINK) $(OPENMP) -o $@ $^ $(LDFLAGS) $(LIBS) -lm

# a program with one mistake in it, for the test that must notice: tests/planted/NAME.sed edits the
# file that it names, whose object then stands before the library's
$(BUILD)/planted/%: tests/planted/%.sed $(OBJ)/tools/main.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  PLANT $*"
	$(Q)file=$$(sed -n 's/^# file: //p' $<) && sed -f $< $$file > $@.c && ! cmp -s $$file $@.c
	$(Q)$(COMPILE) -c $@.c -o $@.o
	$(Q)$(CC) $(CFLAGS) $(LINK) $(OPENMP) -o $@ $(OBJ)/tools/main.o $@.o $(LIBRARY) $(LDFLAGS) $(LIBS) -lm

$(BUILD)/tests/libshared.a: $(TEST_SHARED:%.c=$(OBJ)/%.o)
	$(Q)rm -f $@ && mkdir -p $(@D) && $(AR) qcs $@ $^

$(BUILD)/tests/%: $(OBJ)/tests/%.o $(BUILD)/tests/libshared.a $(LIBRARY) $(SHIM)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LINK) $(OPENMP) -o $@ $^ $(LDFLAGS) $(TEST_LIBS) $(LIBS) -lm

# their comm.h is tests/fault/process_ranks.c: before the library, whose own is then not taken
$(FAULT_SOURCES:%.c=$(BUILD)/%): $(BUILD)/%: $(OBJ)/%.o $(FAULT_SHARED:%.c=$(OBJ)/%.o) $(LIBRARY) $(SHIM)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LINK) $(OPENMP) -o $@ $^ $(LDFLAGS) $(LIBS) -lm

# not fortified: it defines what fortified calls are made of
$(BUILD)/tests/fault/shim.so: $(FAULT_SHIM) $(wildcard tests/fault/*.h)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -I. $(WARNINGS) -O2 -g -fPIC -shared -o $@ $(FAULT_SHIM) -ldl

$(BUILD)/tests/fuzz/%: $(OBJ)/tests/fuzz/%.o $(OBJ)/tests/fuzz/replay.o $(BUILD)/tests/libshared.a \
                       $(LIBRARY) $(SHIM)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LINK) $(OPENMP) -o $@ $^ $(LDFLAGS) $(TEST_LIBS) $(LIBS) -lm

$(BUILD)/libfuzzer/%: $(OBJ)/tests/fuzz/%.o $(BUILD)/tests/libshared.a $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CFLAGS) $(LINK) -fsanitize=fuzzer $(OPENMP) -o $@ $^ $(LDFLAGS) $(TEST_LIBS) $(LIBS) -lm

compile_commands.json: Makefile FORCE
	@{ echo '['; for file in $(LIB_SOURCES) $(CPU_SOURCES) tools/main.c $(TEST_SOURCES) $(FUZZ_SOURCES) $(TEST_SHARED) $(wildcard tests/fault/*.c); do \
	    printf '%s{"directory": "%s", "file": "%s", "command": "%s -DCPU_ISA=x86_64 -c %s"}' \
	        "$$comma" "$(CURDIR)" "$$file" '$(strip $(COMPILE))' "$$file"; comma=$$(printf ',\n.'); comma=$${comma%.}; \
	done; echo; echo ']'; } > $@

-include $(LIB_OBJS:.o=.d) $(OBJ)/tools/main.d \
         $(patsubst %.c,$(OBJ)/%.d,$(TEST_SOURCES) $(TEST_SHARED) $(BENCH_SOURCES) $(FUZZ_SOURCES) \
           tests/fuzz/replay.c $(FAULT_SOURCES) $(FAULT_SHARED))
