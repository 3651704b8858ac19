#include "cmd/bench/bench_step.h"
#include "cmd/output.h"

#include "base/mem.h"
#include "cmd/machine.h"

#include <math.h>
#include <stdio.h>

struct figures {
    double tokens_per_s, gemm_rate, limit; /* limit: seconds of a step at the machine's rates */
    double steps;
    enum op_id order[OP_COUNT]; /* operations by falling time */
};

/* Seconds that all calls of an operation would take at the machine's rates: of products or of
 * memory, whichever is longer. Data in caches can be had faster. */
static double limit_of(const struct bench_report *r, const struct op_stat *s)
{
    return fmax(s->flops / r->sgemm, s->bytes / r->bandwidth) / 1e9;
}

static void derive(const struct bench_report *r, struct figures *f)
{
    static const enum op_id products[] = {OP_gemm, OP_ffn_up, OP_ffn_up_vjp};
    const struct op_stat *stat = r->result->stat;
    double flops = 0, seconds = 0;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        flops += stat[products[i]].flops;
        seconds += stat[products[i]].seconds;
    }
    f->tokens_per_s = (double)r->result->tokens / r->result->seconds;
    f->gemm_rate = seconds > 0 ? flops / seconds / 1e9 : 0;
    f->steps = (double)r->result->steps;
    f->limit = 0;
    for (int i = 0; i < OP_COUNT; i++)
        f->limit += limit_of(r, &stat[i]) / f->steps;
    bench_order(stat, f->order);
}

static void write_op(struct json_writer *w, const struct bench_report *r, enum op_id id)
{
    const struct op_stat *s = &r->result->stat[id];
    json_write_object(w, NULL);
    json_write_string(w, "name", op_name(id));
    json_write_int(w, "calls", s->calls);
    json_write_real(w, "seconds", s->seconds);
    json_write_real(w, "share", s->seconds / r->result->total_seconds);
    json_write_real(w, "flops", s->flops);
    json_write_real(w, "bytes", s->bytes);
    json_write_real(w, "gflops", s->flops / s->seconds / 1e9);
    json_write_real(w, "gbytes_per_s", s->bytes / s->seconds / 1e9);
    json_write_real(w, "sgemm_fraction", s->flops / s->seconds / 1e9 / r->sgemm);
    json_write_real(w, "bandwidth_fraction", s->bytes / s->seconds / 1e9 / r->bandwidth);
    json_write_real(w, "limit_seconds", limit_of(r, s));
    json_write_end(w);
}

static enum status print_json(const struct bench_report *r, const struct figures *f,
                              struct error *err)
{
    struct json_writer w;
    char *setting = NULL;
    const struct bench_step_result *b = r->result;
    TRY(config_to_json(r->config, false, &setting, err));
    report_json_begin(&w);
    json_write_string(&w, "bench", r->what);
    json_write_real(&w, "tokens_per_s", f->tokens_per_s);
    json_write_real(&w, "sgemm_gflops", r->sgemm);
    json_write_real(&w, "bandwidth_gbytes_per_s", r->bandwidth);
    json_write_real(&w, "tokens_per_s_per_gflops", f->tokens_per_s / r->sgemm);
    json_write_real(&w, "gemm_gflops", f->gemm_rate);
    json_write_real(&w, "gemm_fraction", f->gemm_rate / r->sgemm);
    json_write_real(&w, "peak_bytes", r->peak);
    json_write_real(&w, "step_seconds", b->seconds);
    json_write_real(&w, "step_seconds_fastest", b->fastest);
    json_write_real(&w, "limit_step_seconds", f->limit);
    json_write_int(&w, "parameters", b->parameters);
    json_write_real(&w, "forward_evaluations", b->forward_evals);
    json_write_real(&w, "backward_evaluations", b->backward_evals);
    json_write_array(&w, "ops");
    for (int i = 0; i < OP_COUNT; i++)
        if (b->stat[f->order[i]].calls > 0)
            write_op(&w, r, f->order[i]);
    json_write_end(&w);
    json_write_raw(&w, "setting", setting);
    mem_free(setting);
    return report_json_print(&w, err);
}

static void print_op(const struct bench_report *r, const struct figures *f, enum op_id id)
{
    const struct op_stat *s = &r->result->stat[id];
    double rate = s->flops / s->seconds / 1e9, bytes = s->bytes / s->seconds / 1e9;
    printf("%-18s %8.1f %9.3f %6.1f%% %9.3f %8.2f %9.1f %6.2f %8.1f %6.2f %9.3f\n", op_name(id),
           (double)s->calls / f->steps, 1e3 * s->seconds / f->steps,
           100 * s->seconds / r->result->total_seconds, s->flops / f->steps / 1e9,
           s->bytes / f->steps / 1e6, rate, rate / r->sgemm, bytes, bytes / r->bandwidth,
           1e3 * limit_of(r, s) / f->steps);
}

static void print_table(const struct bench_report *r, const struct figures *f)
{
    const struct bench_step_result *b = r->result;
    double known = 0;
    printf("%lld parameters, %lld tokens a step, %.0f evaluations of f and %.0f products with its "
           "Jacobian in the solves\n",
           (long long)b->parameters, (long long)b->tokens, b->forward_evals, b->backward_evals);
    printf("%.0f tokens/s (step %.1f ms, fastest %.1f ms)\n", f->tokens_per_s, 1e3 * b->seconds,
           1e3 * b->fastest);
    printf("OpenBLAS sgemm %.1f GFLOP/s (%s): %.2f tokens/s per GFLOP/s; copy %.1f GB/s\n",
           r->sgemm, machine_core(), f->tokens_per_s / r->sgemm, r->bandwidth);
    printf("products %.1f GFLOP/s, %.2f of sgemm; peak memory %.1f MiB above the start\n",
           f->gemm_rate, f->gemm_rate / r->sgemm, r->peak / (1 << 20));
    printf("every operation at those rates, data from memory: %.1f ms a step, %.0f tokens/s (%.2f "
           "per GFLOP/s)\n",
           1e3 * f->limit, (double)b->tokens / f->limit, (double)b->tokens / f->limit / r->sgemm);
    printf("%-18s %8s %9s %7s %9s %8s %9s %6s %8s %6s %9s\n", "a step: operation", "calls", "ms",
           "share", "GFLOP", "MB", "GFLOP/s", "of it", "GB/s", "of it", "limit ms");
    for (int i = 0; i < OP_COUNT; i++) {
        if (b->stat[f->order[i]].calls == 0)
            continue;
        known += b->stat[f->order[i]].seconds;
        print_op(r, f, f->order[i]);
    }
    printf("%-18s %8s %9.3f %6.1f%%\n", "(outside)", "",
           1e3 * (b->total_seconds - known) / f->steps, 100 * (1 - known / b->total_seconds));
}

enum status bench_report_print(const struct bench_report *r, bool json, struct error *err)
{
    struct figures f;
    derive(r, &f);
    if (json)
        return print_json(r, &f, err);
    print_table(r, &f);
    return STATUS_OK;
}
