/* The model of an exchange by rings. */
#include "bench/exchange.h"

#include "dist/dist.h"

#include <math.h>

struct exchange_rates exchange_rates(void)
{
    return (struct exchange_rates){
        .share = 0.8, .call_seconds = 14e-6, .hop_seconds = 1.9e-6, .network_hop_seconds = 4e-6};
}

static int count_machines(int ranks)
{
    return (ranks + EXCHANGE_MACHINE - 1) / EXCHANGE_MACHINE;
}

/* Bytes/s at which a long ring runs. */
static double ring_rate(const struct chip *c)
{
    double rate = c->link;
    if (count_machines(c->ranks) > 1)
        rate = fmin(rate, EXCHANGE_MACHINE * c->network);
    return rate * exchange_rates().share;
}

/* Seconds of one call, whatever its size. */
static double call_seconds(const struct chip *c)
{
    const struct exchange_rates r = exchange_rates();
    int between = count_machines(c->ranks) - 1, inside = c->ranks - 1 - between;
    return r.call_seconds + inside * r.hop_seconds + between * r.network_hop_seconds;
}

/* Bytes that each rank sends to sum or to gather so many numbers. */
static double bytes(const struct chip *c, int64_t numbers)
{
    return (double)numbers * sizeof(float) * (c->ranks - 1) / c->ranks;
}

static double seconds(const struct chip *c, int64_t numbers, int64_t bucket)
{
    double calls = ceil((double)numbers / (double)bucket);
    return calls * call_seconds(c) + bytes(c, numbers) / ring_rate(c);
}

struct exchange exchange_plan(const struct exchange_load *load, const struct chip *chip)
{
    int64_t bucket = dist_bucket_size(load->numbers);
    double early = seconds(chip, load->early, bucket);
    struct exchange x = {
        .machines = count_machines(chip->ranks),
        .sent = bytes(chip, load->numbers) + bytes(chip, load->gathered),
        .sum_seconds = early + seconds(chip, load->numbers - load->early, bucket),
        .gather_seconds = seconds(chip, load->gathered, bucket),
        .hidden_seconds = fmin(early, load->beside),
    };
    x.shown_seconds = x.sum_seconds + x.gather_seconds - x.hidden_seconds;
    return x;
}
