/* The schedules of a training. */
#include "train/schedule.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>

static const double PI = 3.14159265358979323846;

static double cosine(const struct config_train *c, double progress)
{
    double p = progress > 1 ? 1 : progress;
    return c->lr_min + (c->lr - c->lr_min) * (1 + cos(PI * p)) / 2;
}

int64_t schedule_cooldown(const struct config_train *c)
{
    int64_t after = c->steps - llround(c->cooldown_share * (double)c->steps);
    return (after > c->warmup_steps ? after : c->warmup_steps) + 1;
}

/* The rate after `done` of the steps, beyond the warm-up. */
static double wsd(const struct config_train *c, int64_t done)
{
    int64_t stable = schedule_cooldown(c) - 1;
    if (done <= stable)
        return c->lr;
    double left = fmax(0, (double)(c->steps - done) / (double)(c->steps - stable));
    return c->lr_min + (c->lr - c->lr_min) * left;
}

static double published_rate(const struct config_train *c, int64_t n)
{
    int64_t s = n - 1;
    if (n == 1)
        return c->lr;
    if (s < c->warmup_steps)
        return c->lr * (double)s / (double)c->warmup_steps;
    switch (c->schedule) {
    case SCHEDULE_COSINE:
        return cosine(c, (double)s / (double)c->steps);
    case SCHEDULE_INV_SQRT:
        return c->warmup_steps > 0 ? c->lr * sqrt((double)c->warmup_steps / (double)s)
                                   : c->lr / sqrt((double)s);
    case SCHEDULE_WSD:
        return wsd(c, s);
    case SCHEDULE_CONSTANT:
        break;
    }
    return c->lr;
}

double schedule_rate(const struct config_train *c, int64_t n, bool published)
{
    if (published)
        return published_rate(c, n);
    if (n < c->warmup_steps)
        return c->lr * (double)n / (double)c->warmup_steps;
    switch (c->schedule) {
    case SCHEDULE_COSINE:
        if (c->steps <= c->warmup_steps)
            return c->lr;
        return cosine(c, (double)(n - c->warmup_steps) / (double)(c->steps - c->warmup_steps));
    case SCHEDULE_INV_SQRT:
        return c->lr * sqrt((double)(c->warmup_steps > 0 ? c->warmup_steps : 1) / (double)n);
    case SCHEDULE_WSD:
        return wsd(c, n);
    case SCHEDULE_CONSTANT:
        break;
    }
    return c->lr;
}

struct config_train schedule_from(const struct config_train *c, int64_t start)
{
    struct config_train own = *c;
    if (start == 0)
        return own;
    own.steps -= start;
    if (own.warmup_steps > own.steps / 5)
        own.warmup_steps = own.steps / 5;
    return own;
}

void schedule_text(const struct config_train *c, int64_t start, char out[SCHEDULE_TEXT])
{
    const struct config_train own = schedule_from(c, start);
    long long end = (long long)c->steps,
              cooled = (long long)(own.steps - schedule_cooldown(&own) + 1);
    int n;
    if (own.warmup_steps > 0)
        n = snprintf(out, SCHEDULE_TEXT, "rises over %lld steps to %g", (long long)own.warmup_steps,
                     c->lr);
    else
        n = snprintf(out, SCHEDULE_TEXT, "begins at %g", c->lr);
    char *rest = out + n;
    size_t size = SCHEDULE_TEXT - (size_t)n;
    switch (c->schedule) {
    case SCHEDULE_COSINE:
        snprintf(rest, size, " and falls by a cosine to %g at step %lld", c->lr_min, end);
        break;
    case SCHEDULE_WSD:
        snprintf(rest, size, ", stays there and falls to %g over the last %lld steps, up to %lld",
                 c->lr_min, cooled, end);
        break;
    case SCHEDULE_INV_SQRT:
        snprintf(rest, size, " and falls with the root of the steps");
        break;
    case SCHEDULE_CONSTANT:
        snprintf(rest, size, " and stays there");
        break;
    }
}

bool schedule_limits_vary(const struct config_limits *s)
{
    return s->rand_delta > 0 || s->iter_start > 0 || s->tol_start > 0;
}

struct solve_limits schedule_limits(const struct solver_config *s, const struct config_limits *c,
                                    const struct config_train *t, int64_t n, int64_t micro,
                                    int which)
{
    struct solve_limits limits = {s->max_iter, s->tol};
    double span = (double)(t->steps - t->pretrain_steps);
    double done = span > 1 ? (double)(n - 1 - t->pretrain_steps) / (span - 1) : 1;
    done = fmin(fmax(done, 0), 1);
    if (c->tol_start > 0)
        limits.tol = c->tol_start * pow(s->tol / c->tol_start, done);
    if (c->iter_start > 0)
        limits.max_iter =
            llround((double)c->iter_start + done * (double)(s->max_iter - c->iter_start));
    if (c->rand_delta > 0) {
        struct rng_key key = {(uint64_t)t->seed,
                              rng_stream(RNG_LIMIT, (uint64_t)micro, (uint64_t)which)};
        limits.max_iter -= (int64_t)(rng_uniform(key, 0) * (double)(c->rand_delta + 1));
    }
    if (limits.max_iter < s->min_iter)
        limits.max_iter = s->min_iter;
    if (limits.max_iter < 1)
        limits.max_iter = 1;
    return limits;
}

double schedule_penalty(const struct config_jacobian *j, const struct config_train *t, int64_t n)
{
    if (n <= t->pretrain_steps)
        return 0;
    if (j->ramp_every == 0)
        return j->weight;
    int64_t rises = n / j->ramp_every - t->pretrain_steps / j->ramp_every;
    return j->weight + j->ramp_add * (double)rises;
}
