/* A worker runs jobs one at a time beside its owner, and hands over each result once. */
#include "base/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The job waits for its gate, so that tests decide when it is done. */
struct job {
    pthread_mutex_t gate;
    atomic_int runs;
    bool fails;
    pthread_t thread;
};

static enum status run(void *ctx, struct error *err)
{
    struct job *j = ctx;
    j->thread = pthread_self();
    pthread_mutex_lock(&j->gate);
    pthread_mutex_unlock(&j->gate);
    atomic_fetch_add(&j->runs, 1);
    if (j->fails)
        return error_set(err, STATUS_IO, "run %d failed", atomic_load(&j->runs));
    return STATUS_OK;
}

static int set_up(void **state)
{
    struct job *j = calloc(1, sizeof *j);
    pthread_mutex_init(&j->gate, NULL);
    *state = j;
    return 0;
}

static int tear_down(void **state)
{
    struct job *j = *state;
    pthread_mutex_destroy(&j->gate);
    free(j);
    return 0;
}

static struct worker *open_worker(struct job *j)
{
    struct worker *w;
    struct error err;
    assert_int_equal(worker_open(&w, run, j, 10, &err), STATUS_OK);
    return w;
}

static void jobs_run_beside_their_owner(void **state)
{
    struct job *j = *state;
    struct error err;
    struct worker *w = open_worker(j);
    for (int i = 1; i <= 3; i++) {
        pthread_mutex_lock(&j->gate);
        worker_start(w);
        assert_true(worker_busy(w));
        assert_int_equal(atomic_load(&j->runs), i - 1);
        pthread_mutex_unlock(&j->gate);
        assert_int_equal(worker_wait(w, &err), STATUS_OK);
        assert_false(worker_busy(w));
        assert_int_equal(atomic_load(&j->runs), i);
        assert_false(pthread_equal(j->thread, pthread_self()));
    }
    worker_close(w);
}

static void a_result_is_handed_over_once(void **state)
{
    struct job *j = *state;
    struct error err = {.text = ""};
    struct worker *w = open_worker(j);
    assert_int_equal(worker_wait(w, &err), STATUS_OK); /* nothing was started */
    j->fails = true;
    worker_start(w);
    assert_int_equal(worker_wait(w, &err), STATUS_IO);
    assert_string_equal(err.text, "run 1 failed");
    assert_int_equal(worker_wait(w, &err), STATUS_OK);
    j->fails = false;
    worker_start(w);
    assert_int_equal(worker_wait(w, &err), STATUS_OK);
    worker_close(w);
}

static void closing_waits_for_the_job(void **state)
{
    struct job *j = *state;
    struct worker *w = open_worker(j);
    worker_start(w);
    worker_close(w);
    assert_int_equal(atomic_load(&j->runs), 1);
    worker_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(jobs_run_beside_their_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_result_is_handed_over_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_waits_for_the_job, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
