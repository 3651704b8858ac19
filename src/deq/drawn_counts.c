/* Poisson numbers by inversion of the distribution's sums. */
#include "deq/drawn_counts.h"

#include "base/rng.h"
#include <math.h>

enum { DRAW_POISSON, DRAW_MEAN };
/* exp(-mean) is no number of double precision far beyond, and nobody applies f so often. */
static const double LARGEST_MEAN = 600;

/* The smallest k whose probability, added to those of all smaller ones, exceeds u. */
static int64_t poisson(double mean, double u)
{
    double p = exp(-mean), sum = p;
    int64_t k = 0, most = (int64_t)(mean + 12 * sqrt(mean) + 12); /* rounding must not go on */
    while (sum <= u && k < most) {
        k++;
        p *= mean / (double)k;
        sum += p;
    }
    return k;
}

static int64_t draw(const struct config_gradient *c, const struct masks *masks, uint64_t which)
{
    struct rng_key number = {masks->seed, rng_stream(RNG_COUNT, masks->draw, DRAW_POISSON)};
    struct rng_key mean = {masks->seed, rng_stream(RNG_COUNT, masks->draw, DRAW_MEAN)};
    double rate = c->mean;
    if (c->spread > 0)
        rate *= exp(c->spread * rng_normal(mean, which) - c->spread * c->spread / 2);
    return poisson(fmin(rate, LARGEST_MEAN), rng_uniform(number, which));
}

int64_t drawn_counts(const struct config_gradient *config, const struct masks *masks, int64_t batch,
                     int64_t *before)
{
    int64_t largest = 0;
    for (int64_t b = 0; b < batch; b++) {
        int64_t all = llround(config->mean);
        if (config->draw == DRAW_SEQUENCE && masks->source == MASKS_DRAWN)
            all = draw(config, masks, (uint64_t)(masks->first + b));
        if (config->draw == DRAW_STEP && masks->source == MASKS_DRAWN)
            all = draw(config, masks, 0);
        before[b] = all > config->steps ? all - config->steps : 0;
        largest = before[b] > largest ? before[b] : largest;
    }
    return largest;
}
