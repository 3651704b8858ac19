#include "cmd/plan_report.h"
#include "cmd/plan_memory.h"
#include "cmd/report_json.h"

#include "base/mem.h"

#include <stdio.h>

static const char *precision_text(const struct config *c)
{
    return precision_name(c->train.precision);
}

static void write_ops(struct json_writer *w, const struct plan *p)
{
    enum op_id order[OP_COUNT];
    bench_order(p->counts.stat, order);
    json_write_array(w, "ops");
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &p->counts.stat[order[i]];
        if (s->calls == 0)
            continue;
        json_write_object(w, NULL);
        json_write_string(w, "name", op_name(order[i]));
        json_write_int(w, "calls", s->calls);
        json_write_real(w, "flops", s->flops);
        json_write_real(w, "bytes", s->bytes);
        json_write_real(w, "bound_seconds", p->bound[order[i]].seconds);
        json_write_real(w, "seconds", s->seconds);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_phases(struct json_writer *w, const struct plan_report *r)
{
    const struct plan *p = r->plan;
    json_write_array(w, "phases");
    for (int i = 0; i < BENCH_COUNT; i++) {
        json_write_object(w, NULL);
        json_write_string(w, "name", bench_phase_text((enum bench_phase)i));
        json_write_real(w, "product_flops", plan_products(p->counts.phase[i]));
        json_write_real(w, "bound_seconds", p->phase_bound[i]);
        json_write_real(w, "seconds", p->phase_seconds[i]);
        json_write_real(w, "bound_peak_share", plan_share(p, r->config, r->chip, i, true));
        json_write_real(w, "peak_share", plan_share(p, r->config, r->chip, i, false));
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_memory(struct json_writer *w, const struct plan_report *r)
{
    const struct plan_memory *m = &r->plan->memory;
    json_write_object(w, "memory");
    for (int i = 0; i < PART_COUNT; i++)
        json_write_int(w, memory_part_text((enum memory_part)i), (int64_t)m->part[i]);
    json_write_int(w, "scratch", (int64_t)m->scratch);
    json_write_int(w, "evaluation", (int64_t)m->evaluation);
    json_write_int(w, "total", (int64_t)m->total);
    json_write_real(w, "reserved", r->chip->reserved);
    json_write_real(w, "device", r->chip->memory);
    json_write_end(w);
    json_write_bool(w, "fits", !(r->over > 0));
    if (!(r->over > 0))
        return;
    json_write_real(w, "over_bytes", r->over);
    json_write_int(w, "fits_with_accumulate", r->accumulate);
    json_write_int(w, "fits_with_bytes", (int64_t)r->needed);
}

static enum status print_json(const struct plan_report *r, struct error *err)
{
    struct json_writer w;
    char *setting = NULL;
    const struct plan *p = r->plan;
    const struct chip *c = r->chip;
    TRY(config_to_json(r->config, false, &setting, err));
    report_json_begin(&w);
    json_write_string(&w, "device", c->name);
    json_write_string(&w, "device_text", c->text);
    json_write_string(&w, "precision", precision_text(r->config));
    json_write_int(&w, "parameters", p->counts.parameters);
    json_write_int(&w, "tokens", p->counts.tokens);
    json_write_real(&w, "tokens_per_s", (double)p->counts.tokens / p->seconds);
    json_write_real(&w, "tokens_per_s_bound", (double)p->counts.tokens / p->bound_seconds);
    json_write_real(&w, "step_seconds", p->seconds);
    json_write_real(&w, "step_seconds_bound", p->bound_seconds);
    json_write_real(&w, "forward_evaluations", p->counts.forward_evals);
    json_write_real(&w, "backward_evaluations", p->counts.backward_evals);
    json_write_real(&w, "peak_flops", c->peak[r->config->train.precision]);
    json_write_real(&w, "bandwidth", c->bandwidth);
    json_write_real(&w, "product_share", c->product_share);
    json_write_real(&w, "bandwidth_share", c->bandwidth_share);
    json_write_real(&w, "call_seconds", c->call_seconds);
    json_write_real(&w, "sync_seconds", c->sync_seconds);
    write_phases(&w, r);
    write_ops(&w, p);
    write_memory(&w, r);
    if (r->map)
        TRY(plan_memory_write(&w, r->config, r->chip, err));
    json_write_raw(&w, "setting", setting);
    mem_free(setting);
    return report_json_print(&w, err);
}

static void print_head(const struct plan_report *r)
{
    const struct bench_step_result *b = &r->plan->counts;
    const struct chip *c = r->chip;
    printf("%lld parameters, %lld tokens a step (train.accumulate %lld), %.0f evaluations of f and "
           "%.0f "
           "products with its Jacobian in the solves\n",
           (long long)b->parameters, (long long)b->tokens, (long long)r->config->train.accumulate,
           b->forward_evals, b->backward_evals);
    printf("%s: %.5g TFLOP/s of products in %s, %.5g GB/s (%s)\n", c->text,
           c->peak[r->config->train.precision] / 1e12, precision_text(r->config),
           c->bandwidth / 1e9, c->source);
    printf("bound: each call by these peaks, the longer of both. expected: %.2f and %.2f of them, "
           "%.0f us a launch, %.0f us more a wait\n  (%s)\n",
           c->product_share, c->bandwidth_share, 1e6 * c->call_seconds, 1e6 * c->sync_seconds,
           c->share_source);
}

static void print_ops(const struct plan *p)
{
    enum op_id order[OP_COUNT];
    bench_order(p->counts.stat, order);
    printf("\n%-24s %8s %11s %11s %10s %12s %7s\n", "operation, a step", "calls", "GFLOP", "MB",
           "bound ms", "expected ms", "share");
    for (int i = 0; i < OP_COUNT; i++) {
        const struct op_stat *s = &p->counts.stat[order[i]];
        if (s->calls > 0)
            printf("%-24s %8lld %11.3f %11.2f %10.3f %12.3f %6.1f%%\n", op_name(order[i]),
                   (long long)s->calls, s->flops / 1e9, s->bytes / 1e6,
                   1e3 * p->bound[order[i]].seconds, 1e3 * s->seconds,
                   100 * s->seconds / p->seconds);
    }
}

static void print_phases(const struct plan_report *r)
{
    const struct plan *p = r->plan;
    printf("\n%-24s %20s %10s %12s   %s\n", "phase", "products, GFLOP", "bound ms", "expected ms",
           "share of the peak: bound, expected");
    for (int i = 0; i <= BENCH_COUNT; i++) {
        bool all = i == BENCH_COUNT;
        const struct op_stat *stat = all ? p->counts.stat : p->counts.phase[i];
        printf("%-24s %20.3f %10.3f %12.3f   %6.3f %6.3f\n",
               all ? "the step" : bench_phase_text((enum bench_phase)i), plan_products(stat) / 1e9,
               1e3 * (all ? p->bound_seconds : p->phase_bound[i]),
               1e3 * (all ? p->seconds : p->phase_seconds[i]),
               plan_share(p, r->config, r->chip, i, true),
               plan_share(p, r->config, r->chip, i, false));
    }
    printf("tokens/s: %.0f by the bound, %.0f expected\n",
           (double)p->counts.tokens / p->bound_seconds, (double)p->counts.tokens / p->seconds);
}

static void print_bytes(const char *text, double bytes)
{
    printf("%-36s %12.2f MB\n", text, bytes / 1e6);
}

static void print_memory(const struct plan_report *r)
{
    const struct plan_memory *m = &r->plan->memory;
    double left = r->chip->memory - r->chip->reserved;
    printf("\nmemory\n");
    for (int i = PART_COUNT - 1; i >= 0; i--)
        if (m->part[i] > 0)
            print_bytes(memory_part_text((enum memory_part)i), (double)m->part[i]);
    if (m->scratch > 0)
        print_bytes("operands rounded for products", (double)m->scratch);
    print_bytes("evaluation beside the training", (double)m->evaluation);
    print_bytes("all", (double)m->total);
    printf("%-36s %12.2f MB of %.2f, %.2f taken by driver and libraries\n", "the device leaves",
           left / 1e6, r->chip->memory / 1e6, r->chip->reserved / 1e6);
}

enum status plan_report_print(const struct plan_report *r, bool json, struct error *err)
{
    if (json)
        return print_json(r, err);
    print_head(r);
    print_ops(r->plan);
    print_phases(r);
    print_memory(r);
    return r->map ? plan_memory_print(r->config, r->chip, err) : STATUS_OK;
}
