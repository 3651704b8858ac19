# deq: `make` builds build/deq, `make help` lists the rest.
#
# Layout: src/ is the library, cmd/ the program, tests/<folder>/test_*.c are test programs
# (cmocka), tests/tools/*.c small programs that tests use, tests/bench/bench_*.c programs that
# measure, tests/fuzz/fuzz_*.c fuzz targets, tests/*/*.bats tests of the binary and the scripts.
# cuda/*.cu are kernels, compiled where the CUDA Toolkit is. A new file is found by itself.

# ---- What a user may set ------------------------------------------------------------------------
ifeq ($(origin CC),default)
CC = gcc
endif
ifeq ($(origin CXX),default)
CXX = g++
endif
BUILD ?= build
ARCH ?= native
MPI ?= auto
EDIT ?= auto
CFLAGS ?= -O2 -g
LDFLAGS ?=
# auto: with the CUDA backend if the toolkit is found; 1: it must be; 0: without.
CUDA ?= auto
CUDA_HOME ?=
# auto: with subwords if SentencePiece is found; 1: it must be; 0: without.
SENTENCEPIECE ?= auto
# auto: deq report with the chart library that Debian calls libjs-chart.js; 1: it must be; 0: without.
REPORT ?= auto
CHART_JS ?=
# Devices to make code for, and the last one's PTX for those that come later; native: those here.
CUDA_ARCH ?= sm_80 sm_90
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
V ?= 0
SANITIZE = -O2 -g -fno-omit-frame-pointer -fsanitize=address,undefined

comma := ,

# All cores, unless -j was given or a make above us shares its own.
ifeq ($(MAKELEVEL)$(filter -j% --jobs%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

# ---- What is built in ---------------------------------------------------------------------------
# MPI=auto takes Open MPI where mpicc finds it, 1 insists, 0 leaves it out. For another MPI, or one
# without mpicc, set MPI_CFLAGS and MPI_LIBS. What is left out is a file, not an #ifdef.
ifneq ($(MPI),0)
ifndef MPI_LIBS
MPI_CFLAGS := $(patsubst -I%,-isystem %,$(shell mpicc --showme:compile 2>/dev/null))
MPI_LIBS := $(shell mpicc --showme:link 2>/dev/null)
endif
endif
DIST := $(if $(strip $(MPI_LIBS)),mpi,none)
# EDIT=auto takes libedit, the line editor of `deq sample --interactive`, where it is; 1 insists.
ifneq ($(EDIT),0)
EDIT_LIBS := $(shell echo '\#include <histedit.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo -ledit)
ifeq ($(EDIT)$(EDIT_LIBS),1)
$(error EDIT=1: no libedit: as root, apt-get install libedit-dev)
endif
endif
LINE_EDITOR := $(if $(EDIT_LIBS),libedit,none)

# SentencePiece, a library in C++: its headers and g++ have to be there. Without it no C++ is linked.
ifeq ($(filter auto 0 1,$(SENTENCEPIECE)),)
$(error SENTENCEPIECE=$(SENTENCEPIECE): want auto, 0 or 1)
endif
ifneq ($(SENTENCEPIECE),0)
SPM_HEADER := $(firstword $(wildcard $(addsuffix /include/sentencepiece_trainer.h,/usr /usr/local)))
SPM_FOUND := $(and $(SPM_HEADER),$(filter /%,$(shell \
    $(CXX) -print-file-name=libsentencepiece_train.so 2>/dev/null)))
endif
ifeq ($(SENTENCEPIECE)$(SPM_FOUND),1)
$(error SENTENCEPIECE=1: no SentencePiece: apt-get install g++ libsentencepiece-dev)
endif
# Chart.js draws the curves of deq report. It goes into the program as it is, and so do the page's files.
ifeq ($(filter auto 0 1,$(REPORT)),)
$(error REPORT=$(REPORT): want auto, 0 or 1)
endif
ifneq ($(REPORT),0)
CHART_FOUND := $(wildcard $(or $(CHART_JS),/usr/share/javascript/chart.js/chart.min.js))
endif
ifeq ($(REPORT)$(CHART_FOUND),1)
$(error REPORT=1: no $(or $(CHART_JS),chart library): apt-get install libjs-chart.js)
endif
CHART_FILE := $(or $(CHART_FOUND),$(BUILD)/no_chart.js)
CHART_VERSION = $(shell sed -n '1,5s/.*Chart.js v//p' '$(CHART_FOUND)')
SPM_LIBS = $(if $(SPM_FOUND),-lsentencepiece -lsentencepiece_train -lstdc++)

# ---- Files --------------------------------------------------------------------------------------
LIB_SRC := $(filter-out $(if $(SPM_FOUND),src/data/sentencepiece_none.c) $(filter-out src/dist/dist_$(DIST)%,$(wildcard src/dist/dist_none*.c \
    src/dist/dist_mpi*.c)),$(wildcard src/*/*.c src/*/*/*.c))
CMD_SRC := $(filter-out $(filter-out %_$(LINE_EDITOR).c,$(wildcard cmd/sample/editor_*.c)), \
    $(wildcard cmd/*.c cmd/*/*.c))
TEST_SRC := $(filter-out %_emu.c %_tsan.c,$(wildcard tests/*/test_*.c))
PROPERTY_SRC := $(filter %_property.c,$(TEST_SRC))
TOOL_SRC := $(wildcard tests/tools/*.c tests/bench/bench_*.c)
TORTURE_SRC := $(wildcard tests/torture/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
# What deq export writes for Hugging Face.
# What deq report puts into its page.
PAGE_SRC := $(wildcard src/report/page/*)
PYTHON_SRC := $(wildcard scripts/huggingface/*_deq.py)
SPM_SRC := $(if $(SPM_FOUND),$(wildcard src/data/sentencepiece_shim.cc))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o) $(SPM_SRC:%.cc=$(BUILD)/obj/%.o) \
    $(if $(PYTHON_SRC),$(BUILD)/obj/huggingface_files.o) \
    $(if $(PAGE_SRC),$(BUILD)/obj/src/report/embedded.o)
CMD_OBJ := $(CMD_SRC:%.c=$(BUILD)/obj/%.o)
TESTS := $(TEST_SRC:%.c=$(BUILD)/%)
CMD_TESTS := $(filter $(BUILD)/tests/cmd/%,$(TESTS))
CMD_PARTS := $(filter-out %/cmd/main.o,$(CMD_OBJ)) $(BUILD)/obj/deq_main.o $(BUILD)/obj/cuda/no_cuda.o
PROPERTY_TESTS := $(PROPERTY_SRC:%.c=$(BUILD)/%)
PROPERTY_OBJ := $(BUILD)/obj/tests/property/rapidcheck_shim.o
TOOLS := $(TOOL_SRC:%.c=$(BUILD)/%)
FUZZ := $(FUZZ_SRC:%.c=$(BUILD)/%)
TORTURE := $(BUILD)/tests/torture/torture
FORMATTED = $(wildcard src/*/*.[ch] src/*/*.cc src/*/*/*.[ch] cmd/*.[ch] cmd/*/*.[ch] tests/*/*.[ch] cuda/*.c cuda/*.h cuda/*.cu tests/*/*.cpp tests/*/*.cc)

# ---- Flags --------------------------------------------------------------------------------------
# Cut messages are meant to be cut, and whether gcc sees one depends on the optimisation level.
WERROR ?= -Werror
WARN = -Wall -Wextra $(WERROR) -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
    -Wno-format-truncation
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -Isrc -I. -march=$(ARCH) -fopenmp $(WARN) $(CFLAGS)
# Never -ffast-math: it deletes the tests for NaN.
KERNEL_CFLAGS = -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
# Debian keeps several builds of OpenBLAS and an administrator may have chosen any: the OpenMP one
# is asked for by its folder where it exists.
OPENBLAS_DIR := $(firstword $(wildcard \
    /usr/lib/$(shell $(CC) -print-multiarch 2>/dev/null)/openblas-openmp))
ALL_LDFLAGS = $(LDFLAGS) $(if $(OPENBLAS_DIR),-L$(OPENBLAS_DIR) -Wl$(comma)-rpath$(comma)$(OPENBLAS_DIR))
LDLIBS = $(if $(filter mpi,$(DIST)),$(MPI_LIBS)) $(LIBS)
LIBS = $(SPM_LIBS) -ldnnl -lcjson -lz -lxxhash -lutf8proc -lm -lpthread
# ---- CUDA ---------------------------------------------------------------------------------------
# The toolkit: nvcc on the PATH, in CUDA_HOME or in /usr/local/cuda, and its runtime to link with.
# cuBLAS is opened by the program itself.
ifeq ($(filter auto 0 1,$(CUDA)),)
$(error CUDA=$(CUDA): want auto, 0 or 1)
endif
CUDA_PLACES = $(if $(CUDA_HOME),in CUDA_HOME ($(CUDA_HOME)),on the PATH and in /usr/local/cuda)
ifneq ($(CUDA),0)
NVCC := $(realpath $(firstword $(wildcard $(if $(CUDA_HOME),$(CUDA_HOME)/bin/nvcc, \
    $(shell command -v nvcc 2>/dev/null) /usr/local/cuda/bin/nvcc))))
CUDA_ROOT := $(patsubst %/bin/nvcc,%,$(NVCC))
CUDA_LIB := $(patsubst %/,%,$(dir $(firstword $(wildcard \
    $(addsuffix /libcudart_static.a,$(CUDA_ROOT)/lib64 $(CUDA_ROOT)/targets/*/lib $(CUDA_ROOT)/lib)))))
endif
ifeq ($(and $(NVCC),$(CUDA_LIB)),)
ifeq ($(CUDA),1)
$(error CUDA=1: no CUDA Toolkit: looked $(CUDA_PLACES) for bin/nvcc and for \
    libcudart_static.a in lib64, targets/*/lib or lib. Install version 12 or 13, or name its folder: \
    make CUDA=1 CUDA_HOME=/path)
endif
DEVICE_OBJ := $(BUILD)/obj/cuda/no_cuda.o
CUDA_FOUND = $(if $(filter 0,$(CUDA)),left out (CUDA=0),none (looked $(CUDA_PLACES) for nvcc and libcudart_static.a): CPU only)
else
CUDA_SRC := $(wildcard cuda/*.cu)
DEVICE_OBJ := $(CUDA_SRC:%.cu=$(BUILD)/obj/%.o) $(BUILD)/obj/cuda/cublas_load.o \
    $(BUILD)/obj/cuda/nccl_load.o
DEVICE_LIBS = -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB) -lcudart_static -ldl -lrt -lstdc++
$(BUILD)/obj/cuda/cublas_load.o: DEFINES = -isystem $(CUDA_ROOT)/include
CUDA_FOUND = $(shell $(NVCC) --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') in $(CUDA_ROOT), \
    for $(CUDA_ARCH)$(if $(filter native,$(CUDA_ARCH)),, and later)
endif
gencode = -gencode arch=$(1:sm_%=compute_%),code=$(1)
CUDA_CODE = $(if $(filter native,$(CUDA_ARCH)),-arch=native,$(foreach a,$(CUDA_ARCH), \
    $(call gencode,$(a))) $(call gencode,$(patsubst sm_%,compute_%,$(lastword $(CUDA_ARCH)))))
# Never --use_fast_math: it deletes the tests for NaN.
NVCC_FLAGS = -std=c++17 -O3 -lineinfo -Isrc -I. -Icuda $(CUDA_CODE) -Xcompiler -fPIC$(comma)-Wall$(comma)-Wextra \
    $(if $(WERROR),-Werror all-warnings -Xcompiler -Werror)

# git's answer in a checkout, the file VERSION in an unpacked archive.
VERSION := $(shell cat VERSION)
ifneq ($(wildcard .git),)
VERSION := $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || \
    { hash=$$(git describe --always --dirty 2>/dev/null) && echo $(VERSION)+g$$hash; } || \
    echo $(VERSION))
DATE := $(shell git log -1 --format=%cs 2>/dev/null)
endif
# The day of the sources, for the manual.
DATE := $(or $(DATE),$(shell date -u -r VERSION +%Y-%m-%d 2>/dev/null),unknown)
# The version goes to the file that prints it, the folder of installed configs to cmd/ only.
$(BUILD)/obj/cmd/%.o: DEFINES = -DDEQ_CONFIG_DIR='"$(PREFIX)/share/deq/configs"'
$(BUILD)/obj/src/lib/version.o: DEFINES = -DDEQ_VERSION='"$(VERSION)"'
$(BUILD)/obj/cmd/main.o: DEFINES += -DDEQ_VERSION='"$(VERSION)"' -DDEQ_DATE='"$(DATE)"'
$(BUILD)/obj/src/backend/cpu/%.o: KERNEL = $(KERNEL_CFLAGS)
# Changes when a program that was linked with the shared library would no longer work with it.
LIB_ABI = 0
# The objects serve the program and the shared library, which exports what deq.h declares.
SHARED_CFLAGS = -fPIC -fvisibility=hidden
$(BUILD)/obj/src/%.o $(BUILD)/obj/cuda/%.o: SHARED = $(SHARED_CFLAGS)
$(BUILD)/obj/src/dist/dist_mpi.o $(BUILD)/obj/src/dist/dist_mpi_transport.o \
    $(BUILD)/obj/src/dist/dist_mpi_watch.o: DEFINES = $(MPI_CFLAGS)

# Pretty lines, or with V=1 the commands.
ifeq ($(V),0)
Q = @
say = @printf '  %-9s %s\n' $(1) '$(2)'
endif

# ---- Build --------------------------------------------------------------------------------------
all: $(BUILD)/deq $(BUILD)/lib/libdeq.a $(BUILD)/lib/libdeq.so

$(BUILD)/deq: $(CMD_OBJ) $(DEVICE_OBJ) $(BUILD)/libdeq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(DEVICE_LIBS) $(EDIT_LIBS) $(LDLIBS)

$(BUILD)/libdeq.a: $(LIB_OBJ) $(BUILD)/lib.list
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

# What deq.h declares, for other programs: one object with all that it needs of our own, in which no
# other name is left to be linked with. It knows one process only, so needs no MPI.
$(BUILD)/lib/deq.o: $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard src/lib/*.c)) $(DEVICE_OBJ) \
    $(BUILD)/obj/src/dist/dist_none.o $(BUILD)/libdeq.a src/lib/deq.map
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && sed -n 's/^ *\(deq_[a-z_]*\);/\1/p' src/lib/deq.map >$@.names && \
	    $(CC) -r -nostdlib -Wl,--force-group-allocation -o $@ $(filter %.o %.a,$^) && \
	    objcopy --keep-global-symbols=$@.names $@
$(BUILD)/lib/libdeq.a: $(BUILD)/lib/deq.o
	$(Q)rm -f $@ && ar rcs $@ $<
$(BUILD)/lib/libdeq.so: $(BUILD)/lib/deq.o
	$(Q)$(CC) -shared $(ALL_CFLAGS) $(ALL_LDFLAGS) -Wl,-soname,libdeq.so.$(LIB_ABI) -Wl,--as-needed \
	    -Wl,--version-script,src/lib/deq.map -o $@.$(LIB_ABI) $< $(DEVICE_LIBS) $(LIBS) && \
	    ln -sf libdeq.so.$(LIB_ABI) $@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags $(BUILD)/features
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(SHARED) $(KERNEL) $(DEFINES) -MMD -MP -c -o $@ $<

$(BUILD)/obj/src/data/sentencepiece_shim.o: src/data/sentencepiece_shim.cc $(BUILD)/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) -std=c++17 -Isrc $(SHARED) -Wall -Wextra $(WERROR) $(CFLAGS) -MMD -MP -c -o $@ $<

# The page of deq report. Where there is no chart library, an empty file stands for it.
$(BUILD)/no_chart.js:
	$(Q)mkdir -p $(@D) && : >$@
$(BUILD)/obj/src/report/embedded.o: src/report/embedded.S $(PAGE_SRC) $(CHART_FILE) $(BUILD)/flags.report
	$(call say,AS,$<)
	$(Q)mkdir -p $(@D) && $(CC) -DCHART_JS='"$(CHART_FILE)"' -c -o $@ $<

# The Python files that deq export writes, as a table of C strings.
$(BUILD)/huggingface_files.c: $(PYTHON_SRC) $(BUILD)/lib.list
	$(Q)mkdir -p $(@D) && { echo '#include "store/huggingface_files.h"'; \
	    echo 'const struct huggingface_file huggingface_files[] = {'; \
	    for file in $(PYTHON_SRC); do echo "{\"$${file##*/}\","; \
	        sed -e 's/[\"?]/\\&/g' -e 's/^/"/' -e 's/$$/\\n"/' $$file; echo '},'; done; \
	    echo '{0}};'; } >$@
$(BUILD)/obj/huggingface_files.o: $(BUILD)/huggingface_files.c $(BUILD)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/cuda/%.o: cuda/%.cu $(BUILD)/flags.cuda $(BUILD)/features
	$(call say,NVCC,$<)
	$(Q)mkdir -p $(@D) && $(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/deq: $(BUILD)/flags.cuda
$(CMD_OBJ): $(BUILD)/flags.cmd
$(BUILD)/obj/cmd/main.o $(BUILD)/obj/src/lib/version.o: $(BUILD)/flags.main

$(TESTS): $(BUILD)/tests/%: tests/%.c $(BUILD)/libdeq.a $(BUILD)/flags $(BUILD)/features.test
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Itests -MMD -MP -o $@ $< \
	    $(PROPERTY) $(PEER) $(PARTS) $(BUILD)/libdeq.a -lcmocka $(LDLIBS)

# Tests of the program's own parts.
$(CMD_TESTS): PARTS = $(CMD_PARTS) $(EDIT_LIBS)
$(CMD_TESTS): $(CMD_PARTS)
# Tests of the library do without a GPU.
$(filter $(BUILD)/tests/lib/%,$(TESTS)): PARTS = $(BUILD)/obj/cuda/no_cuda.o
$(filter $(BUILD)/tests/lib/%,$(TESTS)): $(BUILD)/obj/cuda/no_cuda.o

# Property tests use RapidCheck, a C++ library, through a shim.
$(PROPERTY_TESTS): PROPERTY = $(PROPERTY_OBJ) -lrapidcheck -lstdc++
$(PROPERTY_TESTS): $(PROPERTY_OBJ)
$(PROPERTY_OBJ): tests/property/rapidcheck_shim.cpp tests/property/property.h $(BUILD)/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) -std=c++17 -Itests -Wall -Wextra $(WERROR) $(CFLAGS) -c -o $@ $<

# Tests of subwords compare with SentencePiece itself.
SUBWORD_TESTS := $(filter $(BUILD)/tests/data/test_subwords% %/bench_subwords,$(TESTS) $(TOOLS))
SPM_PEER := $(if $(SPM_FOUND),$(BUILD)/obj/tests/data/spm_peer.o)
$(SUBWORD_TESTS): PEER = $(SPM_PEER)
$(SUBWORD_TESTS): $(SPM_PEER)
$(BUILD)/obj/tests/data/spm_peer.o: tests/data/spm_peer.cc tests/data/spm_peer.h $(BUILD)/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) -std=c++17 -Itests -Wall -Wextra $(WERROR) $(CFLAGS) -c -o $@ $<

$(TOOLS): $(BUILD)/tests/%: tests/%.c $(BUILD)/libdeq.a $(BUILD)/flags
	$(call say,TOOL,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Itests -MMD -MP -o $@ $< \
	    $(PEER) $(BUILD)/libdeq.a $(LDLIBS)

# With libFuzzer (FUZZER=1, see make fuzz), or with a driver that replays and changes a corpus.
$(FUZZ): $(BUILD)/tests/fuzz/%: tests/fuzz/%.c tests/fuzz/replay.c $(BUILD)/libdeq.a $(BUILD)/flags
	$(call say,FUZZ,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Itests -MMD -MP -o $@ $< \
	    $(if $(FUZZER),-fsanitize=fuzzer,tests/fuzz/replay.c) $(BUILD)/libdeq.a $(LDLIBS)

# The program itself as a function of another one, which makes calls of the C library fail.
$(BUILD)/obj/deq_main.o: $(BUILD)/obj/cmd/main.o
	$(Q)objcopy --redefine-sym main=deq_main $< $@
$(TORTURE): $(TORTURE_SRC) $(wildcard tests/torture/*.h) $(BUILD)/obj/deq_main.o $(CMD_OBJ) \
    $(BUILD)/obj/cuda/no_cuda.o $(BUILD)/libdeq.a $(BUILD)/flags
	$(call say,TORTURE,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Itests -o $@ $(TORTURE_SRC) \
	    $(BUILD)/obj/deq_main.o $(filter-out %/cmd/main.o,$(CMD_OBJ)) $(BUILD)/obj/cuda/no_cuda.o \
	    $(BUILD)/libdeq.a $(EDIT_LIBS) $(LDLIBS)

# The CUDA backend by g++, on the host emulator, and its tests.
include tests/emu/emu.mk

# Stamps: rewritten only when their text changes, so that changed flags rebuild what they touch.
# -march=native is resolved to what it means here: a folder shared between machines is not reused.
MACHINE := $(shell $(CC) --version 2>/dev/null | head -n 1; \
    $(CC) -march=$(ARCH) -Q --help=target 2>/dev/null | cksum)
stamp = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || \
    printf '%s\n' '$(subst ','\'',$(1))' >$@
$(BUILD)/flags: FORCE
	$(call stamp,$(MACHINE) $(CC) $(ALL_CFLAGS) $(SHARED_CFLAGS) $(KERNEL_CFLAGS) $(ALL_LDFLAGS) $(LDLIBS) $(MPI) $(MPI_CFLAGS))
$(BUILD)/flags.cmd: FORCE
	$(call stamp,$(PREFIX) $(LINE_EDITOR))
$(BUILD)/flags.cuda: FORCE
	$(call stamp,$(NVCC) $(NVCC_FLAGS) $(DEVICE_OBJ))
$(BUILD)/flags.report: FORCE
	$(call stamp,$(CHART_FILE))
$(BUILD)/flags.main: FORCE
	$(call stamp,$(VERSION) $(DATE))
# A removed source file leaves the library.
$(BUILD)/lib.list: FORCE
	$(call stamp,$(LIB_SRC) $(SPM_SRC) $(PYTHON_SRC))

# What this machine has, told once per set of flags.
$(BUILD)/features: scripts/probe.sh $(BUILD)/flags $(BUILD)/flags.cuda
	@echo "Looking for libraries (compiler $(CC), -march=$(ARCH)):"
	@SENTENCEPIECE='$(SENTENCEPIECE)' SPM_LIBS='$(SPM_LIBS)' CXX='$(CXX)' MPI='$(MPI)' MPI_CFLAGS='$(MPI_CFLAGS)' MPI_LIBS='$(MPI_LIBS)' \
	    scripts/probe.sh '$(CC) $(ALL_CFLAGS)' '$(ALL_LDFLAGS)'
	@echo '  libedit   $(if $(EDIT_LIBS),yes,none: no line editor in deq sample --interactive)'
	@echo '  Chart.js  $(if $(CHART_FOUND),$(CHART_VERSION),$(if $(filter 0,$(REPORT)),left out (REPORT=0),no (no $(or $(CHART_JS),chart library)): deq report wants: apt-get install libjs-chart.js))'
	@echo '  CUDA      $(strip $(CUDA_FOUND))'
	@touch $@
$(BUILD)/features.test: $(BUILD)/features
	@scripts/probe.sh '$(CC) $(ALL_CFLAGS)' '$(ALL_LDFLAGS)' tests
	@touch $@

FORCE:
.PHONY: FORCE

# ---- Tests --------------------------------------------------------------------------------------
# Programs for tests, here and with sanitizers; tests/run.sh runs them all. The optimizer makes the
# sanitizers see phantoms now and then: warnings are for the plain build.
tests: $(TESTS) $(TOOLS) $(FUZZ) $(TORTURE) emu
asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-asan CFLAGS='$(SANITIZE)' WERROR= CUDA=0 tests all
# The thread sanitizer wants clang and its OpenMP library; valgrind a processor it knows. Each is
# built only where its tool is, and the tests say what is missing.
tsan:
	@if command -v clang >/dev/null && ls /usr/lib/llvm-*/lib/libarcher.so >/dev/null 2>&1; then \
	    $(MAKE) --no-print-directory BUILD=$(BUILD)-tsan CC=clang CXX=clang++ WARN=-w \
	        CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=thread' CUDA=0 all thread-tests; \
	else echo "no clang with libomp: no thread sanitizer (scripts/deps.sh sanitize)"; fi
thread-tests: $(BUILD)/tests/data/test_stream $(BUILD)/tests/data/test_tokenize \
    $(BUILD)/tests/lib/test_threads
valgrind-build:
	@if command -v valgrind >/dev/null; then \
	    $(MAKE) --no-print-directory BUILD=$(BUILD)-valgrind ARCH=x86-64-v3 CFLAGS='-O1 -g' WERROR= CUDA=0 all; \
	else echo "no valgrind (scripts/deps.sh sanitize)"; fi
test: all tests asan tsan valgrind-build
	@tests/run.sh -b $(BUILD)
# The suite of the operations on the GPU that is here; skipped, with the reason, where there is none.
$(BUILD)/tests/cuda/ops_on_cuda: tests/cuda/ops_on_cuda.c $(DEVICE_OBJ) $(BUILD)/libdeq.a \
    $(BUILD)/features.test
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Itests -MMD -MP -o $@ $< \
	    $(DEVICE_OBJ) $(BUILD)/libdeq.a -lcmocka $(DEVICE_LIBS) $(LDLIBS)
test-cuda: $(BUILD)/tests/cuda/ops_on_cuda
	@$< || { rc=$$?; [ $$rc = 77 ] || exit $$rc; }
# What deq export writes for transformers, in PyTorch. An environment in build-python, made by pip at
# the first time, outlives make clean.
test-python: $(BUILD)/deq $(BUILD)/tests/tools/segments $(BUILD)/tests/tools/encode
	@DEQ=$(BUILD)/deq TOOLS=$(BUILD)/tests/tools scripts/test-python.sh
# Which lines and branches the unit tests pass through, on a build that counts. With MORE, a list of
# .bats files, these run too: MORE="$(echo tests/cli/*.bats)". gcovr prints the figures, and writes a
# page for each file.
MORE ?=
# Three tests are left out, which take as long as all others. Two run the suite of the reference, and
# one takes differences of every parameter.
COVERED = $(filter-out %/test_suite_catches %/test_gradient %/test_ops_ref,$(TESTS:$(BUILD)/%=$(BUILD)-coverage/%))
coverage:
	@scripts/deps.sh build test coverage
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-coverage CFLAGS='-O2 -g --coverage' WERROR= CUDA=0 \
	    all $(COVERED) $(TOOLS:$(BUILD)/%=$(BUILD)-coverage/%) >$(BUILD)-coverage.log
	@find $(BUILD)-coverage -name '*.gcda' -delete
	@tests/run.sh -b $(BUILD)-coverage $(COVERED) $(MORE) >>$(BUILD)-coverage.log 2>&1 || \
	    { tail -n 40 $(BUILD)-coverage.log; exit 1; }
	@gcovr --root . --object-directory $(BUILD)-coverage --filter src/ $(if $(MORE),--filter cmd/) \
	    --exclude-unreachable-branches --exclude-throw-branches --gcov-ignore-parse-errors \
	    --txt $(BUILD)-coverage/files.txt --html-details $(BUILD)-coverage/index.html \
	    --print-summary | sed 's/^/coverage: /'
	@echo 'coverage: each file in $(BUILD)-coverage/files.txt, its lines in $(BUILD)-coverage/index.html'

# What clang-tidy (.clang-tidy) and shellcheck find.
LINT_FLAGS = -std=c17 -D_GNU_SOURCE -DDEQ_VERSION='"lint"' -Isrc -I. -fopenmp $(MPI_CFLAGS)
lint:
	@scripts/deps.sh build lint
	@clang-tidy --quiet $(LIB_SRC) $(CMD_SRC) -- $(LINT_FLAGS) 2>/dev/null
	@shellcheck -o check-set-e-suppressed,deprecate-which,avoid-nullary-conditions $(SCRIPTS)
SCRIPTS = .ci/run $(wildcard scripts/*.sh scripts/completion/*.bash scripts/slurm/* scripts/sweep/*.sbatch scripts/sweep/*.sh tests/*.sh \
    tests/*/*.sh)
# For editors and language servers.
compile_commands.json: FORCE
	@scripts/deps.sh build lint
	@bear --output $@ -- $(MAKE) --no-print-directory BUILD=$(BUILD)-commands CUDA=0 all tests
demo:
	@scripts/demo.sh

# Hours of what `make test` does for seconds. TARGETS, RUNS, SECONDS: see scripts/fuzz.sh.
RUNS ?= 10000000
SECONDS ?= 0
fuzz:
	@scripts/deps.sh build fuzz
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-fuzz CC=clang CXX=clang++ FUZZER=1 WARN= \
	    CFLAGS='-O2 -g -fsanitize=fuzzer-no-link,address,undefined' fuzzers
	@scripts/fuzz.sh -b $(BUILD)-fuzz -r $(RUNS) -t $(SECONDS) $(TARGETS)
fuzzers: $(FUZZ)
# kill -9, N times.
N ?= 1000
kill9: all
	@DEQ=$(abspath $(BUILD))/deq tests/tools/kill9.sh -n $(N)
torture: $(TORTURE)
	@folder=$$(mktemp -d /dev/shm/deq-torture-XXXXXX) && OMP_NUM_THREADS=1 $(TORTURE) $$folder; \
	    code=$$?; rm -rf $$folder; exit $$code

# ---- Install ------------------------------------------------------------------------------------
# A page for each subcommand, by the program itself: deq-train.1 is what `deq help train --man` prints.
PAGES := $(addprefix $(BUILD)/man/,deq.1 deq-config.5 \
    $(shell sed -n 's/^    X(\([a-z]*\)).*/deq-\1.1/p' cmd/commands.h))
man: $(PAGES)
$(PAGES): $(BUILD)/deq
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D) && $(BUILD)/deq help $(patsubst deq-%,%,$(filter-out deq,$(basename $(@F)))) --man >$@
install: all man $(BUILD)/deq.pc
	LIBDIR='$(LIBDIR)' scripts/install.sh $(BUILD) '$(PREFIX)' '$(DESTDIR)'
# The library alone, as it was built.
install-library: $(BUILD)/deq.pc
	LIBDIR='$(LIBDIR)' scripts/install.sh -l $(BUILD) '$(PREFIX)' '$(DESTDIR)'
uninstall:
	scripts/install.sh -u '$(PREFIX)' '$(DESTDIR)'
# What pkg-config tells depends on the place.
$(BUILD)/deq.pc: src/lib/deq.pc.in FORCE
	$(Q)mkdir -p $(@D) && sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	    -e 's|@VERSION@|$(VERSION:v%=%)|' -e 's|@LIBS@|$(strip -fopenmp $(DEVICE_LIBS) $(LIBS))|' $< >$@

# A package for every machine of the kind, unless ARCH names another one.
DEB_ARCH := $(or $(filter-out native,$(ARCH)),$(if $(filter x86_64,$(shell uname -m)),x86-64-v3,native))
deb:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-deb ARCH=$(DEB_ARCH) PREFIX=/usr all man $(BUILD)-deb/deq.pc
	@scripts/deb.sh $(BUILD)-deb '$(VERSION)'

# ---- Housekeeping -------------------------------------------------------------------------------
clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-valgrind $(BUILD)-fuzz $(BUILD)-coverage \
	    $(BUILD)-commands $(BUILD)-deb
format:
	@clang-format -i $(FORMATTED)
check-format:
	@clang-format --dry-run -Werror $(FORMATTED)

help:
	@echo 'make [TARGET] [VARIABLE=VALUE]...'
	@echo '  all           build/deq (default)'
	@echo '  test          builds and runs every test, also under sanitizers'
	@echo '  demo          data, training, evaluation and a sample, in minutes (scripts/demo.sh)'
	@echo '  test-cuda     the operations on the GPU of this machine, against the reference'
	@echo '  test-python   exported models in PyTorch, under two versions of transformers that pip installs'
	@echo '  asan          program and tests with address and undefined sanitizers, in build-asan'
	@echo '  tsan          the same with the thread sanitizer, valgrind-build for valgrind: build-tsan, ...'
	@echo '  tests         the test programs only'
	@echo '  fuzz          looks for files that break the readers, for hours: RUNS=N SECONDS=N TARGETS="config ..."'
	@echo '  torture       every single call of the C library fails once: half an hour'
	@echo '  kill9         a training killed at N=1000 random moments, and what came of it'
	@echo '  man           the manual pages, in build/man'
	@echo '  install       program, presets, manual, completion and libdeq with deq.h, below PREFIX; uninstall takes them away'
	@echo '  deb           a Debian package, in build-deb'
	@echo '  coverage      lines and branches that the tests pass through, file by file'
	@echo '  lint          clang-tidy and shellcheck'
	@echo '  compile_commands.json   for editors'
	@echo '  format        clang-format on all sources; check-format only looks'
	@echo '  clean         removes the build folders'
	@echo 'Variables:'
	@echo '  PREFIX=$(PREFIX)  DESTDIR=$(DESTDIR)  BUILD=$(BUILD)  CC=$(CC)  CFLAGS=$(CFLAGS)  LDFLAGS=$(LDFLAGS)'
	@echo '  EDIT=$(EDIT)     line editor of deq sample --interactive: auto, 1 (must be there), 0 (left out)'
	@echo '  MPI=$(MPI)      training on several processes: auto, 1 (must be there), 0 (left out)'
	@echo '  ARCH=$(ARCH)   the processor to build for; x86-64-v3 for a binary that runs elsewhere'
	@echo '  CUDA=$(CUDA)      auto, 0, 1: with the CUDA backend if the toolkit is found, never, always'
	@echo '  SENTENCEPIECE=$(SENTENCEPIECE)  auto, 0, 1: with subwords if the library is found, never, always'
	@echo '  REPORT=$(REPORT)     auto, 0, 1: deq report with the chart library if it is found, never, always'
	@echo '  CHART_JS=$(CHART_JS)     its file chart.min.js; empty: that of the package libjs-chart.js'
	@echo '  CUDA_HOME=$(CUDA_HOME)     folder of the toolkit; empty: the PATH, then /usr/local/cuda'
	@echo '  CUDA_ARCH="$(CUDA_ARCH)"  devices to make code for; native for those of this machine'
	@echo '  V=1           prints the full commands'

.PHONY: coverage lint all tests asan tsan thread-tests valgrind-build test test-cuda test-python demo fuzz fuzzers torture kill9 man install install-library uninstall deb clean format check-format help
-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(DEVICE_OBJ:.o=.d) $(TESTS:=.d) $(TOOLS:=.d) $(FUZZ:=.d)
