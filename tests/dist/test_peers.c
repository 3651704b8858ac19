/* Who is taken to be lost, from beats that arrive or do not. */
#include "dist/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct peers open_peers(int size, int self)
{
    struct peers p;
    struct error err;
    assert_int_equal(peers_init(&p, size, self, 60, 1800, &err), STATUS_OK);
    for (int r = 0; r < size; r++)
        memcpy(p.list[r].host, "node0", 6);
    for (int r = 0; r < size; r++)
        p.list[r].host[4] = (char)('0' + r);
    return p;
}

static bool lost(const struct peers *p, const char *words)
{
    char text[512] = "";
    bool is = peers_lost(p, text, sizeof text);
    return is && strstr(text, words) != NULL;
}

static bool none_lost(const struct peers *p)
{
    char text[512];
    return !peers_lost(p, text, sizeof text);
}

/* Lets time pass in which all but `silent` send the beats beats[size] every 5 s. */
static void pass(struct peers *p, int seconds, int silent, const struct beat *beats)
{
    for (int t = 0; t < seconds; t += 5) {
        peers_pass(p, 5);
        for (int r = 0; r < p->size; r++)
            if (r != silent)
                peers_hear(p, r, &beats[r]);
    }
}

static void the_silent_one_is_named(void **state)
{
    (void)state;
    struct peers p = open_peers(4, 0);
    const struct beat beats[4] = {{.begun = 3}, {.begun = 3}, {.begun = 3}, {.begun = 3}};
    pass(&p, 100, -1, beats);
    assert_true(none_lost(&p));
    pass(&p, 60, 2, beats);
    assert_true(none_lost(&p));
    pass(&p, 5, 2, beats);
    assert_true(lost(&p, "process 2 of 4 (node2) has not been heard of for 65 s"));
    pass(&p, 5, -1, beats);
    assert_true(none_lost(&p));
    peers_free(&p);
}

static void others_know_rank_0_alone_and_speak_after_rank_1(void **state)
{
    (void)state;
    const struct beat beats[3] = {{.begun = 1}, {.begun = 1}, {.begun = 1}};
    for (int self = 1; self < 3; self++) {
        struct peers p = open_peers(3, self);
        pass(&p, 60 * self, 0, beats);
        assert_true(none_lost(&p));
        peers_pass(&p, 5);
        assert_true(lost(&p, "process 0 of 3 (node0)"));
        peers_free(&p);
    }
}

static void who_has_said_farewell_is_not_awaited(void **state)
{
    (void)state;
    struct peers p = open_peers(2, 0);
    peers_hear(&p, 1, &(struct beat){.begun = 9, .waits = 1, .last = 1});
    peers_pass(&p, 1000);
    assert_true(none_lost(&p));
    peers_free(&p);
}

static void who_lives_and_keeps_others_waiting_is_named_later(void **state)
{
    (void)state;
    struct peers p = open_peers(3, 0);
    const struct beat beats[3] = {{.begun = 8, .waits = 1}, {.begun = 7}, {.begun = 8, .waits = 1}};
    pass(&p, 1800, -1, beats);
    assert_true(none_lost(&p));
    pass(&p, 10, -1, beats);
    assert_true(lost(&p, "process 1 of 3 (node1) lives, but others have waited for it"));
    /* who catches up is forgiven, although the others still wait */
    const struct beat later[3] = {
        {.begun = 8, .waits = 1}, {.begun = 7, .waits = 1}, {.begun = 8, .waits = 1}};
    pass(&p, 5, -1, later);
    assert_true(none_lost(&p));
    peers_free(&p);
}

static void all_may_compute_for_long(void **state)
{
    (void)state;
    struct peers p = open_peers(2, 0);
    const struct beat beats[2] = {{.begun = 8}, {.begun = 7}};
    pass(&p, 10000, -1, beats);
    assert_true(none_lost(&p));
    peers_free(&p);
}

static void all_that_wait_in_one_call_have_lost_the_network(void **state)
{
    (void)state;
    struct peers p = open_peers(2, 0);
    const struct beat beats[2] = {{.begun = 8, .waits = 1}, {.begun = 8, .waits = 1}};
    pass(&p, 1800, -1, beats);
    assert_true(none_lost(&p));
    pass(&p, 10, -1, beats);
    assert_true(lost(&p, "all 2 processes have waited in the same exchange"));
    peers_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_silent_one_is_named),
        cmocka_unit_test(others_know_rank_0_alone_and_speak_after_rank_1),
        cmocka_unit_test(who_has_said_farewell_is_not_awaited),
        cmocka_unit_test(who_lives_and_keeps_others_waiting_is_named_later),
        cmocka_unit_test(all_may_compute_for_long),
        cmocka_unit_test(all_that_wait_in_one_call_have_lost_the_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
