/* Whether the steps of a run fit each other, and what more steps do to the learning rate. */
#include "run/run_impl.h"

#include <string.h>

enum status run_check_steps(const struct config *config, struct error *err)
{
    const struct config_train *c = &config->train;
    long long steps = (long long)c->steps, pretraining = (long long)c->pretrain_steps;
    if (config->model.layers > 0 || pretraining == 0 || pretraining < steps)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "train.pretrain_steps: with %lld unrolled steps of train.steps %lld the "
                     "equilibrium would never be trained: --set train.pretrain_steps=%lld leaves "
                     "it most of the run, and --set model.layers=%lld trains the unrolled network",
                     pretraining, steps, steps * 15 / 100, (long long)c->pretrain_layers);
}

void run_warn_steps(const struct config *config, int64_t done, const struct run_observer *observer)
{
    const struct config_train *c = &config->train;
    char text[512];
    if (c->warmup_steps <= c->steps || done >= c->steps || observer->message == NULL)
        return;
    snprintf(text, sizeof text,
             "warning: train.warmup_steps: after %lld steps of a warm-up of %lld the learning rate "
             "is %g and never %g: --set train.warmup_steps=%lld would reach it",
             (long long)c->steps, (long long)c->warmup_steps,
             schedule_rate(c, c->steps, config->model.compat), c->lr, (long long)(c->steps / 10));
    observer->message(observer->ctx, text);
}

int64_t run_stable_step(const struct config_train *c, int64_t start)
{
    const struct config_train own = schedule_from(c, start);
    int64_t cooldown = schedule_cooldown(&own);
    return c->schedule == SCHEDULE_WSD && cooldown <= own.steps ? start + cooldown - 1 : -1;
}

static bool is_schedule(const char *path)
{
    static const char *const keys[] = {"train.steps",        "train.lr",
                                       "train.lr_min",       "train.schedule",
                                       "train.warmup_steps", "train.cooldown_share"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(path, keys[i]) == 0)
            return true;
    return false;
}

/* Whether the rate of `c` depends on how many steps there are. */
static bool ends(const struct config_train *c)
{
    return c->schedule == SCHEDULE_COSINE || c->schedule == SCHEDULE_WSD;
}

/* Begins the schedule anew over the steps that a finished run was given. At the end of a schedule
 * the rate is too low to learn anything, and one that only jumped back would harm the weights. It
 * is what Ibrahim et al. 2024 (continual pre-training) do for a cosine, and Wen et al. 2024 (WSD-S)
 * for a cool-down, whose result they go on from. */
static void prolong(struct run *run, const struct snapshot *from)
{
    struct trainer *t = &run->trainer;
    char text[SCHEDULE_TEXT], name[64], path[RUN_PATH];
    int64_t stable = run_stable_step(&from->config.train, from->state.schedule_start);
    struct error ignored;
    t->state.schedule_start = t->state.step;
    schedule_text(&t->config.train, t->state.schedule_start, text);
    run_log_message(run, "%lld more steps with a schedule of their own: the learning rate %s",
                    (long long)(t->config.train.steps - t->state.step), text);
    run_step_name(name, stable);
    if (stable > 0 && run_path(run, path, name, &ignored) == STATUS_OK && run_is_file(path))
        run_log_message(run,
                        "before the last cool-down it was %s: --resume with that file and another "
                        "--out goes on from there",
                        path);
}

enum status run_carry_schedule(struct run *run, const struct snapshot *from, struct error *err)
{
    const struct trainer *t = &run->trainer;
    const struct config_train *c = &t->config.train;
    struct config_difference d;
    bool finished = from->state.step >= from->config.train.steps && c->steps > from->state.step;
    if (run->options->reset & TRAINER_RESET_SCHEDULE)
        return STATUS_OK;
    if (finished && ends(&from->config.train) && ends(c)) {
        prolong(run, from);
        return STATUS_OK;
    }
    TRY(config_compare(&from->config, &t->config, is_schedule, &d, err));
    bool same = d.path == NULL || (strcmp(d.path, "train.steps") == 0 && !ends(c) &&
                                   from->config.train.schedule == c->schedule);
    if (!same && from->state.step < c->steps)
        run_log_message(run,
                        "%s was %s, now %s: the learning rate goes on along the new curve, from %g "
                        "(--reset schedule begins it anew)",
                        d.path, d.a, d.b, trainer_rate(t, t->state.step + 1));
    return STATUS_OK;
}
