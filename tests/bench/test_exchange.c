/* The model of an exchange against numbers computed by hand. */
#include "bench/exchange.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MI = 1 << 20 };

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * want))
        fail_msg("%.12g, want %.12g", got, want);
}

/* A ring of 16 takes 14 steps in machines and one between them: 14 + 14 * 1.9 + 4 = 44.6 us a call.
 * The cards of a machine carry 8 * 10 GB/s together, less than a link of 100, of which 0.8 are 64.
 * A rank sends 15/16 of 4 bytes a number: of 1 Mi 3,932,160 bytes in 61.44 us. */
static void two_machines(void **state)
{
    (void)state;
    const struct chip chip = {.ranks = 16, .link = 100e9, .network = 10e9};
    struct exchange_load load = {
        .numbers = 4 * MI, .early = MI, .gathered = 4 * MI, .beside = 50e-6};
    struct exchange x = exchange_plan(&load, &chip);
    assert_int_equal(x.machines, 2);
    near(x.sent, 31457280);
    near(x.sum_seconds, 4 * (44.6e-6 + 61.44e-6));
    near(x.gather_seconds, 4 * (44.6e-6 + 61.44e-6));
    near(x.hidden_seconds, 50e-6);
    near(x.shown_seconds, 798.32e-6);
    load.beside = 1; /* what is not early cannot hide */
    near(exchange_plan(&load, &chip).hidden_seconds, 44.6e-6 + 61.44e-6);
    load.early = 0;
    assert_true(exchange_plan(&load, &chip).hidden_seconds == 0);
}

/* One step: 14 + 1.9 us. Half of 4 MiB at 0.8 of 100 GB/s takes 26.2144 us. */
static void two_in_a_machine(void **state)
{
    (void)state;
    const struct chip chip = {.ranks = 2, .link = 100e9, .network = 1};
    const struct exchange_load load = {.numbers = MI, .gathered = MI};
    struct exchange x = exchange_plan(&load, &chip);
    assert_int_equal(x.machines, 1);
    near(x.sent, 4 * MI);
    near(x.shown_seconds, 2 * (15.9e-6 + 26.2144e-6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_machines),
        cmocka_unit_test(two_in_a_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
