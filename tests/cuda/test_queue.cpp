/* The queue of calls in front of the emulated device. What it takes for the same run and what not,
 * what happens to what a recording refuses, and when there is no space left. */
#include "cuda/queue.h"

extern "C" {
#include "cuda/cuda.h"
#include "emu/emu.h"
}

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

extern "C" {
#include <cmocka.h>
}

enum { NUMBERS = 64 };

struct fixture {
    struct backend be;
    struct tensor x, y;
    int64_t graphs; /* launched before */
};

static void start(struct fixture *f)
{
    struct error err;
    setenv("DEQ_EMU_QUIET", "1", 1);
    assert_int_equal(cuda_open(&f->be, &err), STATUS_OK);
    assert_int_equal(op_alloc(&f->be, &f->x, DTYPE_F32, 1, NUMBERS, 1, 1, 1, &err), STATUS_OK);
    assert_int_equal(op_alloc(&f->be, &f->y, DTYPE_F32, 1, NUMBERS, 1, 1, 1, &err), STATUS_OK);
    op_graph_break(&f->be);
    f->graphs = emu_count().graphs;
}

static void end(struct fixture *f)
{
    op_release(&f->be, &f->x);
    op_release(&f->be, &f->y);
    backend_close(&f->be);
}

/* Ends the run and returns the first number of t. */
static float first(struct fixture *f, const struct tensor *t)
{
    float all[NUMBERS];
    op_download(&f->be, all, DTYPE_F32, t);
    return all[0];
}

static int64_t graphs(const struct fixture *f)
{
    return emu_count().graphs - f->graphs;
}

static void nothing_starts_before_it_must(void **)
{
    struct fixture f;
    start(&f);
    int64_t before = emu_count().launches;
    op_fill(&f.be, &f.x, 3);
    op_axpby(&f.be, &f.y, 2, &f.x, 0);
    assert_int_equal(emu_count().launches, before);
    assert_true(first(&f, &f.y) == 6);
    assert_int_equal(emu_count().launches, before + 2);
    end(&f);
}

/* The second time it is recorded. With another number it is another run. */
static void only_equal_runs_are_graphs(void **)
{
    struct fixture f;
    start(&f);
    for (int k = 0; k < 4; k++) {
        op_fill(&f.be, &f.x, 3);
        op_axpby(&f.be, &f.y, 2, &f.x, 0);
        assert_true(first(&f, &f.y) == 6);
        assert_int_equal(graphs(&f), k == 0 ? 0 : k);
    }
    op_fill(&f.be, &f.x, 3);
    op_axpby(&f.be, &f.y, 4, &f.x, 0);
    assert_true(first(&f, &f.y) == 12);
    op_fill(&f.be, &f.x, 3);
    assert_true(first(&f, &f.x) == 3);
    assert_int_equal(graphs(&f), 3);
    end(&f);
}

/* Products are made in another way, so it is not the same run. */
static void precision_belongs_to_a_run(void **)
{
    struct fixture f;
    struct error err;
    start(&f);
    float a[NUMBERS] = {1.0f + 0x1p-20f}, one[NUMBERS] = {1.0f};
    struct tensor x = tensor_shape(&f.x, 2, 8, 8, 1, 1), y = tensor_shape(&f.y, 2, 8, 8, 1, 1), c;
    assert_int_equal(op_alloc(&f.be, &c, DTYPE_F32, 2, 8, 8, 1, 1, &err), STATUS_OK);
    op_graph_break(&f.be);
    for (int k = 0; k < 6; k++) {
        enum precision precision = k % 2 == 0 ? PRECISION_FP32 : PRECISION_BF16;
        assert_int_equal(backend_set_precision(&f.be, precision, &err), STATUS_OK);
        op_upload(&f.be, &f.x, a, DTYPE_F32);
        op_upload(&f.be, &f.y, one, DTYPE_F32);
        struct gemm p = {};
        p.alpha = 1, p.a = x, p.b = y, p.c = c;
        op_gemm(&f.be, &p);
        assert_true(first(&f, &c) == (precision == PRECISION_FP32 ? a[0] : 1.0f));
    }
    assert_int_equal(graphs(&f), 4);
    op_release(&f.be, &c);
    end(&f);
}

/* Keys, small uploads and rates are other numbers in the same graph. */
static void changing_numbers_reach_a_graph(void **)
{
    struct fixture f;
    start(&f);
    for (int k = 0; k < 5; k++) {
        float all[NUMBERS], drawn[NUMBERS];
        struct rng_key key = {7, (uint64_t)k};
        all[0] = (float)k;
        op_upload(&f.be, &f.x, all, DTYPE_F32);
        op_dropout_mask(&f.be, &f.y, 0.5, key, (uint64_t)k);
        op_download(&f.be, drawn, DTYPE_F32, &f.y);
        assert_true(first(&f, &f.x) == (float)k);
        for (int i = 0; i < NUMBERS; i++)
            assert_true((drawn[i] != 0) == (rng_unit(rng_word(key, (uint64_t)(k + i))) >= 0.5f));
    }
    assert_int_equal(graphs(&f), 4);
    end(&f);
}

/* What lies between the members of an argument says nothing. */
static void padding_is_not_compared(void **)
{
    struct fixture f;
    start(&f);
    for (int k = 0; k < 4; k++) {
        struct gemm p = {};
        size_t flags = offsetof(struct gemm, b_padded) + sizeof p.b_padded;
        memset(reinterpret_cast<char *>(&p) + flags, 0x11 * (k + 1),
               offsetof(struct gemm, alpha) - flags);
        p.alpha = 1;
        p.a = p.b = tensor_make(f.x.data, DTYPE_F32, 2, 8, 8, 1, 1);
        p.c = tensor_make(f.y.data, DTYPE_F32, 2, 8, 8, 1, 1);
        op_gemm(&f.be, &p);
        op_graph_break(&f.be);
    }
    first(&f, &f.y);
    assert_int_equal(graphs(&f), 3);
    end(&f);
}

/* A planted operation that reads the device's numbers back while it is started. */
static void reads_back(struct backend *be, const struct tensor *t)
{
    float x;
    cuda_note(be, OP_copy, cudaStreamSynchronize(cuda_of(be)->stream));
    cuda_note(be, OP_copy, cudaMemcpy(&x, t->data, sizeof x, cudaMemcpyDeviceToHost));
}

static void allocates(struct backend *be, const struct tensor *t)
{
    (void)cuda_work(be, tensor_bytes(t) << 20, OP_copy);
}

static int warnings;
static char warned[512];

static void on_warning(const char *text)
{
    warnings++;
    snprintf(warned, sizeof warned, "%s", text);
}

/* The run starts directly, and a warning says why. */
static void a_recording_refuses(void (*plant)(struct backend *, const struct tensor *),
                                const char *text)
{
    struct fixture f;
    struct error err;
    start(&f);
    warnings = 0;
    cuda_on_refusal(&f.be, on_warning);
    for (int k = 0; k < 6; k++) {
        op_fill(&f.be, &f.x, 3);
        plant(&f.be, &f.x);
        op_axpby(&f.be, &f.y, 2, &f.x, 0);
        op_graph_break(&f.be);
    }
    assert_true(first(&f, &f.y) == 6);
    assert_int_equal(backend_check(&f.be, &err), STATUS_OK);
    assert_int_equal(warnings, 1);
    if (strstr(warned, text) == NULL || strstr(warned, "DEQ_CUDA_GRAPHS=0") == NULL)
        fail_msg("%s", warned);
    assert_int_equal(graphs(&f), 0);
    end(&f);
}

/* Scratch grows before anything is recorded, as long as it grows with what the operations are. */
static void fickle(struct backend *be, const struct tensor *t)
{
    static size_t wanted = 1 << 10;
    (void)cuda_work(be, wanted *= 2, OP_copy);
    (void)t;
}

static void host_reads_are_refused(void **)
{
    a_recording_refuses(queued<reads_back>::note, "capturing");
    a_recording_refuses(queued<fickle>::note, "scratch memory was asked for while");
}

/* Every n-th call that has to do with graphs is refused, whichever it is. */
static void refusals_leave_results(void **)
{
    struct error err;
    for (int n = 1; n <= 12; n++) {
        struct fixture f;
        start(&f);
        warnings = 0;
        cuda_on_refusal(&f.be, on_warning);
        emu_fail_capture(n);
        for (int k = 0; k < 20; k++) {
            float all[NUMBERS] = {(float)k};
            op_upload(&f.be, &f.x, all, DTYPE_F32);
            op_fill(&f.be, &f.y, 3);
            op_axpby(&f.be, &f.y, 2, &f.x, 1);
            assert_true(first(&f, &f.y) == (float)(2 * k + 3));
        }
        assert_int_equal(backend_check(&f.be, &err), STATUS_OK);
        assert_int_equal(warnings, 1);
        assert_true(n > 7 ? graphs(&f) > 0 : n > 1 || graphs(&f) == 0);
        emu_fail_capture(0);
        end(&f);
    }
}

/* A lost device is no refusal. */
static void a_lost_device_is_a_fault(void **)
{
    struct fixture f;
    struct error err;
    start(&f);
    warnings = 0;
    cuda_on_refusal(&f.be, on_warning);
    for (int k = 0; k < 3; k++) {
        op_fill(&f.be, &f.x, 3);
        if (k == 2)
            emu_lose_device(1);
        first(&f, &f.x);
    }
    op_fill(&f.be, &f.x, 3);
    op_graph_break(&f.be);
    assert_int_equal(backend_check(&f.be, &err), STATUS_DEVICE);
    assert_int_equal(warnings, 0);
    end(&f);
    emu_restart();
}

/* As many graphs as a step with tolerances has, and some more. Each is recorded once. */
static void many_graphs_are_kept(void **)
{
    enum { RUNS = 200 };
    struct fixture f;
    start(&f);
    int64_t before = emu_count().instantiated;
    for (int k = 0; k < 4 * RUNS; k++) {
        op_fill(&f.be, &f.x, k % RUNS + 1);
        op_graph_break(&f.be);
    }
    assert_true(first(&f, &f.x) == static_cast<float>(RUNS));
    assert_int_equal(emu_count().instantiated - before, RUNS);
    assert_int_equal(graphs(&f), 3 * RUNS);
    end(&f);
}

/* An address in a graph that is no longer the scratch's. */
static void moved_scratch_is_recorded_again(void **)
{
    struct fixture f;
    start(&f);
    float one[NUMBERS];
    double sum = 0;
    struct tensor acc;
    struct error err;
    for (int i = 0; i < NUMBERS; i++)
        one[i] = 1;
    assert_int_equal(op_alloc(&f.be, &acc, DTYPE_F64, 1, 1, 1, 1, 1, &err), STATUS_OK);
    for (int k = 0; k < 6; k++) {
        op_upload(&f.be, &f.x, one, DTYPE_F32);
        op_fill(&f.be, &acc, 0);
        op_sum_squares(&f.be, &acc, &f.x);
        op_download(&f.be, &sum, DTYPE_F64, &acc);
        assert_true(sum == (double)NUMBERS);
        if (k == 3) {
            queued<allocates>::note(&f.be, &f.y);
            op_graph_break(&f.be);
        }
    }
    assert_int_equal(backend_check(&f.be, &err), STATUS_OK);
    op_release(&f.be, &acc);
    end(&f);
}

/* More notes, more changing numbers and more runs than there is room for. */
static void room_runs_out(void **)
{
    struct fixture f;
    struct error err;
    start(&f);
    for (int k = 0; k < 2; k++) {
        op_fill(&f.be, &f.y, 0);
        op_fill(&f.be, &f.x, 1);
        for (int i = 0; i < 30000; i++)
            op_axpby(&f.be, &f.y, 1, &f.x, 1);
        assert_true(first(&f, &f.y) == 30000);
    }
    struct tensor wide;
    enum { WIDE = 60000 };
    static float all[WIDE];
    assert_int_equal(op_alloc(&f.be, &wide, DTYPE_F32, 1, WIDE, 1, 1, 1, &err), STATUS_OK);
    for (int k = 0; k < 40; k++) {
        all[0] = (float)k;
        op_upload(&f.be, &wide, all, DTYPE_F32);
        struct tensor part = tensor_slice(&wide, 0, NUMBERS);
        op_axpby(&f.be, &f.y, 1, &part, k > 0);
    }
    assert_true(first(&f, &f.y) == 39 * 40 / 2);
    for (int k = 0; k < 1200; k++) { /* more than 256 graphs */
        op_fill(&f.be, &f.y, k % 400 + 1);
        op_axpby(&f.be, &f.x, 1, &f.y, 0);
        assert_true(first(&f, &f.x) == (float)(k % 400 + 1));
    }
    assert_int_equal(backend_check(&f.be, &err), STATUS_OK);
    op_release(&f.be, &wide);
    end(&f);
}

/* Memory that is given back while a call that uses it waits. */
static void memory_outlives_its_calls(void **)
{
    struct fixture f;
    struct tensor t;
    struct error err;
    start(&f);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(op_alloc(&f.be, &t, DTYPE_F32, 1, NUMBERS, 1, 1, 1, &err), STATUS_OK);
        op_fill(&f.be, &t, 2);
        op_copy(&f.be, &f.x, &t);
        op_release(&f.be, &t);
        assert_true(first(&f, &f.x) == 2);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_starts_before_it_must),
        cmocka_unit_test(only_equal_runs_are_graphs),
        cmocka_unit_test(precision_belongs_to_a_run),
        cmocka_unit_test(changing_numbers_reach_a_graph),
        cmocka_unit_test(padding_is_not_compared),
        cmocka_unit_test(host_reads_are_refused),
        cmocka_unit_test(refusals_leave_results),
        cmocka_unit_test(a_lost_device_is_a_fault),
        cmocka_unit_test(many_graphs_are_kept),
        cmocka_unit_test(moved_scratch_is_recorded_again),
        cmocka_unit_test(room_runs_out),
        cmocka_unit_test(memory_outlives_its_calls),
    };
    return cmocka_run_group_tests_name("queue of calls", tests, nullptr, nullptr);
}
