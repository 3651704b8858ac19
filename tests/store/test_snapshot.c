/* What the state of a training in a checkpoint may say. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "store/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A state of step 7 as the program writes it, before what a test adds. */
#define STATE                                                                           \
    "{\"format\": 1, \"step\": 7, \"tokens\": 70, \"skipped\": 0, \"updates\": 7, "     \
    "\"epoch\": 0, \"segment\": 7, \"micro\": 7, \"best_step\": 5, \"best_nll\": 2.5, " \
    "\"seconds\": 1.5"

/* Writes a checkpoint without parameters whose state ends with `more`, and opens it. */
static enum status open_state(const char *more, struct train_state *out, struct error *err)
{
    char path[] = "/tmp/deq-snapshot-XXXXXX", state[1024];
    struct checkpoint_writer *w = NULL;
    struct snapshot s;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(state, sizeof state, STATE "%s}", more);
    assert_int_equal(checkpoint_write_open(&w, path, err), STATUS_OK);
    checkpoint_write_text(w, "config", "{\"model\": {\"vocab_size\": 2}}", err);
    checkpoint_write_text(w, "vocab", "<eos>\na\n", err);
    checkpoint_write_text(w, "state", state, err);
    assert_int_equal(checkpoint_write_close(&w, err), STATUS_OK);
    enum status status = snapshot_open(&s, path, err);
    if (status == STATUS_OK) {
        *out = s.state;
        snapshot_close(&s);
    }
    unlink(path);
    return status;
}

static void test_a_state_of_an_older_program(void **state)
{
    (void)state;
    struct train_state t;
    struct error err;
    assert_int_equal(open_state("", &t, &err), STATUS_OK);
    assert_int_equal(t.step, 7);
    assert_int_equal(t.evaluated, 7);
    assert_int_equal(t.position, -1);
    assert_int_equal(t.schedule_start, 0);
    assert_int_equal(t.ranks, 1);
    assert_true(t.best_nll == 2.5 && t.train_text == 0 && t.origin[0] == '\0');
}

static void test_where_a_schedule_may_begin(void **state)
{
    (void)state;
    struct train_state t;
    struct error err;
    assert_int_equal(open_state(", \"schedule_start\": 7", &t, &err), STATUS_OK);
    assert_int_equal(t.schedule_start, 7);
    /* A later one, or one before the run, would give rates of no schedule. */
    static const char *const bad[] = {", \"schedule_start\": 8", ", \"schedule_start\": -1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(open_state(bad[i], &t, &err), STATUS_DATA);
        assert_non_null(strstr(err.text, "schedule_start: want 0..7"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_state_of_an_older_program),
        cmocka_unit_test(test_where_a_schedule_may_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
