# Emulated CUDA, a part of the Makefile.
#
# The .cu files by g++ for the host emulator in tests/emu, which needs neither a GPU nor the toolkit
# (whose headers are used where they are). tests/*/test_*.cpp and test_*_emu.c are its test
# programs; those called test_*_tsan have ThreadSanitizer on the kernels, and no other sanitizer.
EMU_SRC := $(filter-out tests/emu/test_%,$(wildcard tests/emu/*.cpp))
EMU_CU := $(wildcard cuda/*.cu)
EMU_OBJ := $(EMU_SRC:%.cpp=$(BUILD)/emu/%.o)
EMU_BACKEND := $(EMU_CU:%.cu=$(BUILD)/emu/%.o)
EMU_TESTS := $(patsubst %.cpp,$(BUILD)/%,$(filter-out %_tsan.cpp,$(wildcard tests/*/test_*.cpp))) \
    $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*_emu.c))
TSAN_OBJ := $(EMU_SRC:%.cpp=$(BUILD)/tsan/%.o)
TSAN_BACKEND := $(EMU_CU:%.cu=$(BUILD)/tsan/%.o)
TSAN_TESTS := $(basename $(patsubst %,$(BUILD)/%,$(wildcard tests/*/test_*_tsan.c*)))
EMU_DEQ := $(BUILD)/emu/deq $(BUILD)/emu/dist_sums
# Two sanitizers do not go together; the program is tried without any.
ifneq ($(findstring -fsanitize,$(CFLAGS)),)
TSAN_TESTS :=
EMU_DEQ :=
ifneq ($(CI),true) # two minutes more
EMU_TESTS :=
endif
endif
TSAN = -O1 -g -fsanitize=thread
EMU_TOOLKIT := $(firstword $(wildcard $(CUDA_HOME)/include /usr/local/cuda/include))
EMU_WARN = -Wall -Wextra $(WERROR) -Wshadow -Wno-unknown-pragmas
EMU_FLAGS = -D_GNU_SOURCE -DDEQ_EMULATE -I. -Isrc -Icuda -Itests \
    $(EMU_TOOLKIT:%=-isystem %) -march=$(ARCH) -fopenmp $(EMU_WARN) -ffp-contract=fast
EMU_CXXFLAGS = -std=c++20 $(EMU_FLAGS)
# The emulated cuBLAS computes by OpenBLAS.
EMU_LDLIBS = $(LDLIBS) -lopenblas

# The emulator itself is not watched by ThreadSanitizer: its books are not the kernels'.
$(EMU_OBJ): $(BUILD)/emu/%.o: %.cpp $(BUILD)/flags.emu
	$(call say,EMU,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(EMU_CXXFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(EMU_BACKEND): $(BUILD)/emu/%.o: %.cu $(BUILD)/flags.emu
	$(call say,EMU,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(EMU_CXXFLAGS) $(CFLAGS) -MMD -MP -x c++ -c -o $@ $<
$(TSAN_OBJ): $(BUILD)/tsan/%.o: %.cpp $(BUILD)/flags.emu
	$(call say,TSAN,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(EMU_CXXFLAGS) -DEMU_TSAN -O2 -g -MMD -MP -c -o $@ $<
$(TSAN_BACKEND): $(BUILD)/tsan/%.o: %.cu $(BUILD)/flags.emu
	$(call say,TSAN,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(EMU_CXXFLAGS) $(TSAN) -MMD -MP -x c++ -c -o $@ $<
$(BUILD)/emu/tests/%.o: tests/%.c $(BUILD)/flags.emu
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -DDEQ_EMULATE -I. -Itests -MMD -MP -c -o $@ $<
$(BUILD)/emu/tests/%.o: tests/%.cpp $(BUILD)/flags.emu
	$(Q)mkdir -p $(@D) && $(CXX) $(EMU_CXXFLAGS) $(if $(findstring _tsan,$<),$(TSAN),$(CFLAGS)) \
	    -MMD -MP -c -o $@ $<

# Tests of the emulator itself do without the backend.
$(filter-out $(BUILD)/tests/emu/%,$(EMU_TESTS)): $(EMU_BACKEND) $(BUILD)/libdeq.a
$(filter-out $(BUILD)/tests/emu/%,$(TSAN_TESTS)): $(TSAN_BACKEND) $(BUILD)/libdeq.a
$(EMU_TESTS): $(BUILD)/%: $(BUILD)/emu/%.o $(EMU_OBJ)
	$(call say,TEST,$@)
	$(Q)mkdir -p $(@D) && $(CXX) $(CFLAGS) -fopenmp $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(EMU_LDLIBS)
$(TSAN_TESTS): $(BUILD)/%: $(BUILD)/emu/%.o $(TSAN_OBJ)
	$(call say,TEST,$@)
	$(Q)mkdir -p $(@D) && $(CXX) $(TSAN) -fopenmp $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(EMU_LDLIBS)
# The program with the emulated device behind --device cuda.
$(BUILD)/emu/deq: $(CMD_OBJ) $(EMU_OBJ) $(EMU_BACKEND) $(BUILD)/libdeq.a
	$(call say,LINK,$@)
	$(Q)$(CXX) $(CFLAGS) -fopenmp $(ALL_LDFLAGS) -o $@ $^ $(EDIT_LIBS) $(EMU_LDLIBS)
# Sums over processes that have an emulated device each.
$(BUILD)/emu/dist_sums: $(BUILD)/emu/tests/tools/dist_sums.o $(EMU_OBJ) $(EMU_BACKEND) \
    $(BUILD)/libdeq.a
	$(call say,LINK,$@)
	$(Q)$(CXX) $(CFLAGS) -fopenmp $(ALL_LDFLAGS) -o $@ $^ $(EMU_LDLIBS)
$(BUILD)/flags.emu: $(BUILD)/flags FORCE
	$(call stamp,$(shell $(CXX) --version 2>/dev/null | head -n 1) $(EMU_CXXFLAGS))
emu: $(EMU_TESTS) $(TSAN_TESTS) $(EMU_DEQ)
.PHONY: emu
.SECONDARY:
-include $(EMU_OBJ:.o=.d) $(EMU_BACKEND:.o=.d) $(TSAN_OBJ:.o=.d) $(TSAN_BACKEND:.o=.d)
-include $(patsubst $(BUILD)/%,$(BUILD)/emu/%.d,$(EMU_TESTS) $(TSAN_TESTS)) $(BUILD)/emu/tests/tools/dist_sums.d
