#include "train/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

static double cosine(const struct config_train *c, double progress)
{
    double p = progress > 1 ? 1 : progress;
    return c->lr_min + (c->lr - c->lr_min) * (1 + cos(PI * p)) / 2;
}

static double published_rate(const struct config_train *c, int64_t n)
{
    int64_t s = n - 1;
    if (n == 1)
        return c->lr;
    if (s < c->warmup_steps)
        return c->lr * (double)s / (double)c->warmup_steps;
    switch ((enum config_schedule)c->schedule) {
    case SCHEDULE_COSINE:
        return cosine(c, (double)s / (double)c->steps);
    case SCHEDULE_INV_SQRT:
        return c->warmup_steps > 0 ? c->lr * sqrt((double)c->warmup_steps / (double)s)
                                   : c->lr / sqrt((double)s);
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
    switch ((enum config_schedule)c->schedule) {
    case SCHEDULE_COSINE:
        if (c->steps <= c->warmup_steps)
            return c->lr;
        return cosine(c, (double)(n - c->warmup_steps) / (double)(c->steps - c->warmup_steps));
    case SCHEDULE_INV_SQRT:
        return c->lr * sqrt((double)(c->warmup_steps > 0 ? c->warmup_steps : 1) / (double)n);
    case SCHEDULE_CONSTANT:
        break;
    }
    return c->lr;
}
