/* Choosing a token compared with a slow reference that sorts, cuts and divides as the definitions
 * of the filters say. */
#include "base/assert_ok.h"
#include "base/rng.h"
#include "generate/sampling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 23, DRAWS = 4000 };

struct candidate {
    int32_t token;
    double logit, prob;
};

static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : x->token - y->token;
}

/* prob <- softmax(logit / temperature) of what is left. */
static void normalise(struct candidate *c, int count, double temperature)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += c[i].prob = exp((c[i].logit - c[0].logit) / temperature);
    for (int i = 0; i < count; i++)
        c[i].prob /= sum;
}

/* The probability of every token, one filter after the other (llama.cpp, llama-sampling.cpp). */
static void reference(const struct sampling *how, const struct sampler_input *in,
                      double prob[VOCAB])
{
    struct candidate c[VOCAB];
    int count = 0, kept;
    for (int32_t i = 0; i < VOCAB; i++) {
        bool recent = false;
        double logit = in->logp[i] + in->log_sum;
        for (int64_t k = 0; k < how->repeat_last && k < in->recent_count; k++)
            recent |= in->recent[in->recent_count - 1 - k] == i;
        if (recent)
            logit = logit <= 0 ? logit * how->repeat_penalty : logit / how->repeat_penalty;
        if (i != how->excluded)
            c[count++] = (struct candidate){i, logit, 0};
    }
    qsort(c, (size_t)count, sizeof *c, by_logit);
    if (how->top_k > 0 && count > how->top_k)
        count = (int)how->top_k;
    normalise(c, count, 1);
    double sum = 0;
    for (kept = 0; kept < count && sum < how->top_p; kept++)
        sum += c[kept].prob;
    count = kept;
    for (kept = 0; kept < count && c[kept].prob >= how->min_p * c[0].prob; kept++)
        ;
    count = kept;
    normalise(c, count, how->temperature);
    memset(prob, 0, VOCAB * sizeof *prob);
    for (int i = 0; i < count; i++)
        prob[c[i].token] = c[i].prob;
}

/* Log-probabilities that differ by seed, and the log of the sum that made them. */
static double make_logp(uint64_t seed, double logp[VOCAB])
{
    struct rng_key key = {seed, 1};
    double sum = 0;
    for (uint64_t i = 0; i < VOCAB; i++)
        sum += exp(logp[i] = 2 * rng_normal(key, i));
    for (int i = 0; i < VOCAB; i++)
        logp[i] -= log(sum);
    return log(sum);
}

/* Evenly spaced draws hit every token as often as its probability says, up to one draw at each
 * end of its piece of [0, 1). */
static void check(const struct sampling *how, uint64_t seed)
{
    static const int32_t recent[] = {3, 7, 7, 1, 20, 3};
    double logp[VOCAB], prob[VOCAB];
    struct sampler_input in = {.logp = logp, .recent = recent, .recent_count = 6};
    struct sampler s;
    struct error err;
    int hits[VOCAB] = {0};
    in.log_sum = make_logp(seed, logp);
    reference(how, &in, prob);
    assert_ok(sampler_create(&s, how, VOCAB, &err), &err);
    for (int i = 0; i < DRAWS; i++) {
        int32_t token;
        in.u = (i + 0.5) / DRAWS;
        assert_ok(sampler_pick(&s, &in, &token, &err), &err);
        hits[token]++;
    }
    for (int i = 0; i < VOCAB; i++)
        if (!(fabs(hits[i] - DRAWS * prob[i]) <= 1.001))
            fail_msg("seed %d, token %d: %d draws, want %g", (int)seed, i, hits[i],
                     DRAWS * prob[i]);
    sampler_free(&s);
}

static void test_filters(void **state)
{
    (void)state;
    static const struct sampling all[] = {
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 0.6, .top_p = 1, .repeat_penalty = 1, .excluded = 4},
        {.temperature = 1, .top_k = 5, .top_p = 1, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 1, .top_p = 0.8, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 1, .top_p = 1, .min_p = 0.1, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 1, .top_p = 1, .min_p = 1, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1.5, .repeat_last = 64, .excluded = -1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 0.5, .repeat_last = 2, .excluded = -1},
        {.temperature = 2, .top_p = 0.7, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 2, .top_p = 1, .min_p = 0.2, .repeat_penalty = 1, .excluded = -1},
        {.temperature = 0.7,
         .top_k = 9,
         .top_p = 0.9,
         .min_p = 0.05,
         .repeat_penalty = 1.2,
         .repeat_last = 3,
         .excluded = 2},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (uint64_t seed = 1; seed <= 20; seed++)
            check(&all[i], seed);
}

static int32_t pick(const struct sampling *how, const double *logp, int64_t vocab)
{
    struct sampler s;
    struct error err;
    int32_t token;
    assert_ok(sampler_create(&s, how, vocab, &err), &err);
    assert_ok(sampler_pick(&s, &(struct sampler_input){.logp = logp, .u = 0.999}, &token, &err),
              &err);
    sampler_free(&s);
    return token;
}

static void test_temperature_zero(void **state)
{
    (void)state;
    const double logp[4] = {log(0.1), log(0.4), log(0.3), log(0.2)};
    struct sampling how = SAMPLING_PLAIN;
    how.temperature = 0;
    assert_int_equal(pick(&how, logp, 4), 1);
    how.excluded = 1;
    assert_int_equal(pick(&how, logp, 4), 2);
    assert_int_equal(pick(&how, logp + 1, 1), 0);
}

static void test_bad_numbers(void **state)
{
    (void)state;
    const double bad[2][2] = {{NAN, 0}, {0, 0.1}};
    struct sampling how = SAMPLING_PLAIN;
    struct sampler s;
    struct error err;
    int32_t token;
    assert_ok(sampler_create(&s, &how, 2, &err), &err);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            sampler_pick(&s, &(struct sampler_input){.logp = bad[i], .u = 0.5}, &token, &err),
            STATUS_CHECK);
    sampler_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_temperature_zero),
        cmocka_unit_test(test_bad_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
