/* What a run logs, one JSON object for each start, step and evaluation. */
#include "run/run_impl.h"

#include "base/cpu_name.h"
#include "base/json.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static void write_solve(struct json_writer *w, const char *key, const struct solve_summary *s)
{
    json_write_object(w, key);
    json_write_real(w, "evals_mean", s->evals_mean);
    json_write_int(w, "evals_max", s->evals_max);
    json_write_real(w, "evals_paid", s->evals_paid);
    json_write_real(w, "rel_mean", s->rel_mean);
    json_write_real(w, "rel_max", s->rel_max);
    json_write_int(w, "restarts", s->restarts);
    json_write_int(w, "unconverged", s->unconverged);
    json_write_end(w);
}

/* The wall-clock time as ISO 8601 has it, in UTC and with milliseconds. */
static void write_time(struct json_writer *w)
{
    struct timespec now;
    struct tm utc;
    char day[32], text[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, sizeof text, "%s.%03ldZ", day, now.tv_nsec / 1000000);
    json_write_string(w, "time", text);
}

static enum status log_line(struct run *run, struct json_writer *w, struct error *err)
{
    char *text = NULL;
    write_time(w);
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    enum status status = metrics_write(run->log, text, err);
    mem_free(text);
    return status;
}

static enum status log_counted(struct run *run, struct json_writer *w, struct error *err)
{
    TRY(log_line(run, w, err));
    run->trainer.state.logged++;
    return STATUS_OK;
}

static void write_digest(struct json_writer *w, const char *key, uint64_t digest)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)digest);
    json_write_string(w, key, text);
}

enum status run_log_start(struct run *run, struct error *err)
{
    const struct trainer *t = &run->trainer;
    const struct run_options *o = run->options;
    struct json_writer w;
    char name[CPU_NAME_MAX], *config = NULL;
    if (run->log == NULL)
        return STATUS_OK;
    TRY(config_to_json(&t->config, false, &config, err));
    uint64_t digest = XXH3_64bits(config, strlen(config));
    mem_free(config);
    cpu_name(name);
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "event", "start");
    json_write_int(&w, "after_step", t->state.step);
    if (o->version != NULL)
        json_write_string(&w, "version", o->version);
    if (o->command != NULL)
        json_write_string(&w, "command", o->command);
    json_write_string(&w, "processor", name);
    json_write_string(&w, "device", t->be->ops->name);
    json_write_int(&w, "threads", t->be->threads);
    json_write_int(&w, "ranks", dist_size(o->dist));
    write_digest(&w, "config_digest", digest);
    write_digest(&w, "data_digest", stream_digest(t->stream));
    json_write_int(&w, "data_tokens", stream_tokens(t->stream));
    json_write_real(&w, "unknown", stream_unknown(t->stream));
    json_write_int(&w, "memory_bytes", (int64_t)run->bytes);
    return log_line(run, &w, err);
}

enum status run_log_step(struct run *run, const struct step_report *r, struct error *err)
{
    struct json_writer w;
    if (run->log == NULL)
        return STATUS_OK;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "event", "step");
    json_write_int(&w, "step", r->step);
    json_write_real(&w, "loss", r->loss);
    json_write_real(&w, "ppl", exp(r->loss));
    json_write_real(&w, "lr", r->lr);
    json_write_real(&w, "grad_norm", r->grad_norm);
    json_write_bool(&w, "skipped", r->skipped);
    json_write_int(&w, "layers", r->layers);
    write_solve(&w, "forward", &r->forward);
    write_solve(&w, "backward", &r->backward);
    if (r->penalty_weight > 0) {
        json_write_real(&w, "penalty_weight", r->penalty_weight);
        json_write_real(&w, "penalty", r->penalty); /* null in a step that did not compute it */
    }
    json_write_int(&w, "tokens", run->trainer.state.tokens);
    json_write_real(&w, "seconds", r->seconds);
    json_write_real(&w, "tokens_per_s", (double)r->tokens / r->seconds);
    return log_counted(run, &w, err);
}

enum status run_log_evaluation(struct run *run, const struct evaluation_result *r, bool best,
                               struct error *err)
{
    struct json_writer w;
    if (run->log == NULL)
        return STATUS_OK;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "event", "evaluation");
    json_write_int(&w, "step", run->trainer.state.step);
    json_write_real(&w, "nll", r->nll);
    json_write_real(&w, "ppl", r->ppl);
    if (isfinite(r->nll_recall)) {
        json_write_real(&w, "nll_recall", r->nll_recall);
        json_write_real(&w, "recalled", r->recalled);
    }
    json_write_real(&w, "bits_per_byte", r->bits_per_byte); /* null where a token is <unk> */
    if (r->unknown > 0)
        json_write_real(&w, "bits_per_byte_known", r->bits_per_byte_known);
    json_write_real(&w, "unknown", r->unknown);
    json_write_int(&w, "tokens", r->tokens);
    json_write_real(&w, "nfe_mean", r->nfe_mean);
    json_write_int(&w, "nfe_max", r->nfe_max);
    json_write_real(&w, "rel_mean", r->rel_mean);
    json_write_real(&w, "rel_max", r->rel_max);
    json_write_real(&w, "leak", r->leak_max);
    json_write_real(&w, "seconds", r->seconds);
    json_write_bool(&w, "best", best);
    return log_counted(run, &w, err);
}
