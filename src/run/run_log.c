/* What a run logs, one JSON object for a step and for an evaluation. */
#include "run/run_impl.h"

#include "base/json.h"
#include "base/mem.h"
#include <math.h>

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

static enum status log_line(struct run *run, struct json_writer *w, struct error *err)
{
    char *text = NULL;
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    enum status status = metrics_write(run->log, text, err);
    mem_free(text);
    run->trainer.state.logged += status == STATUS_OK;
    return status;
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
    return log_line(run, &w, err);
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
    json_write_int(&w, "tokens", r->tokens);
    json_write_real(&w, "nfe_mean", r->nfe_mean);
    json_write_int(&w, "nfe_max", r->nfe_max);
    json_write_real(&w, "rel_mean", r->rel_mean);
    json_write_real(&w, "rel_max", r->rel_max);
    json_write_real(&w, "leak", r->leak_max);
    json_write_real(&w, "seconds", r->seconds);
    json_write_bool(&w, "best", best);
    return log_line(run, &w, err);
}
