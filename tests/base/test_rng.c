#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include <math.h>

/* The published test vectors of Philox4x32-10. The counter's upper half is the stream and its lower
 * half the block, and the key is the seed. */
static void philox_known_answers(void **state)
{
    static const struct {
        struct rng_key key;
        uint64_t block;
        uint32_t want[4];
    } known[] = {
        {{0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{UINT64_MAX, UINT64_MAX}, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x299f31d0a4093822, 0x0370734413198a2e},
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        uint32_t got[4];
        rng_block(known[k].key, known[k].block, got);
        for (int i = 0; i < 4; i++)
            assert_int_equal(got[i], known[k].want[i]);
    }
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(rng_word((struct rng_key){0, 0}, i), known[0].want[i]);
    (void)state;
}

/* Word i is word i % 4 of block i / 4, however far out. */
static void words_are_blocks(void **state)
{
    struct rng_key key = {42, 7};
    const uint64_t starts[] = {0, 5, UINT32_MAX - 1ull, 1ull << 40};
    for (size_t k = 0; k < sizeof starts / sizeof *starts; k++)
        for (uint64_t i = starts[k]; i < starts[k] + 6; i++) {
            uint32_t block[4];
            rng_block(key, i / 4, block);
            assert_int_equal(rng_word(key, i), block[i % 4]);
        }
    (void)state;
}

static void streams_are_distinct(void **state)
{
    const uint64_t purposes[] = {0, 1, 0xffff}, steps[] = {0, 1, 0xffffffff};
    const uint64_t subs[] = {0, 1, 0xffff};
    uint64_t seen[27];
    int count = 0;
    for (int p = 0; p < 3; p++)
        for (int t = 0; t < 3; t++)
            for (int s = 0; s < 3; s++) {
                uint64_t stream = rng_stream(purposes[p], steps[t], subs[s]);
                for (int k = 0; k < count; k++)
                    assert_true(seen[k] != stream);
                seen[count++] = stream;
            }
    (void)state;
}

/* rng_unit is (24 bits + 1/2) / 2^24 in float32, which is never 0. The half is lost to rounding
 * above 1/2, and the largest word gives exactly 1. */
static void units_at_the_ends(void **state)
{
    assert_true(rng_unit(0) == 0x1p-25f);
    assert_true(rng_unit(0xffu) == 0x1p-25f);
    assert_true(rng_unit(0x80000000u) >= 0.5f);
    assert_true(rng_unit(0x7fffffffu) < 0.5f);
    assert_true(rng_unit(UINT32_MAX) > 0.9999999f && rng_unit(UINT32_MAX) <= 1.0f);
    (void)state;
}

/* Of n words, the share below p is p within five standard deviations. */
static void dropout_rate(void **state)
{
    enum { N = 200000 };
    const float rates[] = {0.05f, 0.1f, 0.5f, 0.9f};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        struct rng_key key = {2026, rng_stream(1, r, 0)};
        double p = rates[r], dropped = 0;
        for (uint64_t i = 0; i < N; i++)
            dropped += rng_unit(rng_word(key, i)) < rates[r];
        assert_true(fabs(dropped / N - p) <= 5 * sqrt(p * (1 - p) / N));
    }
    (void)state;
}

static void uniform_moments(void **state)
{
    enum { N = 200000 };
    struct rng_key key = {2026, 2};
    double mean = 0, square = 0, least = 1, most = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = rng_uniform(key, i);
        assert_true(u >= 0 && u < 1);
        mean += u / N;
        square += u * u / N;
        least = fmin(least, u);
        most = fmax(most, u);
    }
    assert_true(fabs(mean - 0.5) <= 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(square - 1.0 / 3) <= 5 * sqrt(4.0 / 45 / N));
    assert_true(least < 1e-3 && most > 1 - 1e-3);
    (void)state;
}

/* Moments of n normals within five standard deviations of theirs, the two numbers of one pair of
 * Box and Muller uncorrelated, and the tails as heavy as they should be. */
static void normal_moments(void **state)
{
    enum { N = 400000 };
    struct rng_key key = {2026, 3};
    double mean = 0, var = 0, cube = 0, fourth = 0, pair = 0, beyond = 0;
    for (uint64_t i = 0; i < N; i += 2) {
        double x[2] = {rng_normal(key, i), rng_normal(key, i + 1)};
        pair += x[0] * x[1] / (N / 2);
        for (int k = 0; k < 2; k++) {
            assert_true(isfinite(x[k]));
            mean += x[k] / N;
            var += x[k] * x[k] / N;
            cube += x[k] * x[k] * x[k] / N;
            fourth += x[k] * x[k] * x[k] * x[k] / N;
            beyond += fabs(x[k]) > 3;
        }
    }
    const double n = N, tail = 0.0026998; /* P(|x| > 3) */
    assert_true(fabs(mean) <= 5 / sqrt(n));
    assert_true(fabs(var - 1) <= 5 * sqrt(2 / n));
    assert_true(fabs(cube) <= 5 * sqrt(15 / n));
    assert_true(fabs(fourth - 3) <= 5 * sqrt(96 / n));
    assert_true(fabs(pair) <= 5 / sqrt(n / 2));
    assert_true(fabs(beyond / n - tail) <= 5 * sqrt(tail / n));
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers), cmocka_unit_test(words_are_blocks),
        cmocka_unit_test(streams_are_distinct), cmocka_unit_test(units_at_the_ends),
        cmocka_unit_test(dropout_rate),         cmocka_unit_test(uniform_moments),
        cmocka_unit_test(normal_moments),
    };
    return cmocka_run_group_tests_name("random numbers", tests, NULL, NULL);
}
