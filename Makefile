# Minimal build: every .c under src is the library, cmd the program, tests/*/test_*.c the tests.
CC ?= gcc
BUILD ?= build
ARCH ?= native
CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Werror -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -Isrc -march=$(ARCH) -fopenmp $(WARN) $(CFLAGS)
KERNEL_CFLAGS = -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
LDLIBS = -ldnnl -lopenblas -lcjson -lz -lxxhash -lm -lpthread
LIB_SRC = $(wildcard src/*/*.c)
CMD_SRC = $(wildcard cmd/*.c)
TEST_SRC = $(wildcard tests/*/test_*.c)
LIB_OBJ = $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
CMD_OBJ = $(CMD_SRC:%.c=$(BUILD)/obj/%.o)
TESTS = $(TEST_SRC:%.c=$(BUILD)/%)

all: $(BUILD)/deq
$(BUILD)/deq: $(CMD_OBJ) $(BUILD)/libdeq.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/libdeq.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/obj/src/cpu/%.o: ALL_CFLAGS += $(KERNEL_CFLAGS)
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/%: tests/%.c $(BUILD)/libdeq.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests -MMD -MP -o $@ $< $(BUILD)/libdeq.a -lcmocka $(LDLIBS)
tests: $(TESTS)
clean:
	rm -rf $(BUILD)
.PHONY: all tests clean
-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(TESTS:=.d)
