/* The log of a run as curves and figures, whatever state its file is in. */
#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "report/log_read.h"
#include "run/metrics.h"

#include <math.h>

static struct error err;

enum { POINTS = 100 };

static FILE *begin_log(void)
{
    FILE *f = fopen("log.jsonl", "w");
    assert_non_null(f);
    return f;
}

/* Writes a line with its check. */
static void put(FILE *f, const char *object)
{
    char line[1024];
    snprintf(line, sizeof line, "%s", object);
    size_t len = line_check_add(line, strlen(line));
    fprintf(f, "%.*s\n", (int)len, line);
}

static void put_step(FILE *f, int step, double loss)
{
    char line[512];
    snprintf(line, sizeof line,
             "{\"event\":\"step\",\"step\":%d,\"loss\":%g,\"lr\":0.5,\"skipped\":%s,\"forward\":{"
             "\"evals_mean\":6,\"rel_mean\":null},\"tokens\":%d,\"seconds\":0.5,"
             "\"tokens_per_s\":200}",
             step, loss, step == 2 ? "true" : "false", 100 * step);
    put(f, line);
}

static void test_a_log_is_read(void **state)
{
    (void)state;
    struct log_history h;
    FILE *f = begin_log();
    put(f, "{\"event\":\"start\",\"threads\":3}");
    put_step(f, 1, 5);
    put_step(f, 2, 4);
    put(f, "{\"event\":\"evaluation\",\"step\":2,\"nll\":3,\"nfe_mean\":7}");
    put_step(f, 3, 3);
    put(f, "{\"event\":\"evaluation\",\"step\":3,\"nll\":3.5,\"nfe_mean\":8}");
    fclose(f);
    ASSERT_OK(log_history_read(&h, "log.jsonl", POINTS, &err));
    assert_int_equal(h.steps, 3);
    assert_int_equal(h.skipped, 1);
    assert_int_equal(h.starts, 1);
    assert_int_equal(h.unreadable, 0);
    assert_true(h.last_step == 3 && h.tokens == 300 && h.seconds == 1.5 && h.least_nll == 3);
    assert_int_equal(h.step.count, 3);
    assert_int_equal(h.step.bucket[0].column[5].count, 0); /* residuals are null */
    assert_int_equal(h.evaluation.count, 2);
    assert_true(h.evaluation.bucket[0].axis[1] == 200 && h.evaluation.bucket[0].axis[2] == 1);
    assert_true(h.evaluation.bucket[1].column[0].sum == 3.5);
    log_history_free(&h);
}

/* Damage costs the lines it is in, and a line that is being written is no damage. */
static void test_damage_is_counted(void **state)
{
    (void)state;
    struct log_history h;
    FILE *f = begin_log();
    put_step(f, 1, 5);
    fputs("{\"event\":\"step\",\"step\":2,\"loss\":9,\"check\":\"00000000\"}\n", f);
    fputs("no JSON\n[1,2]\n\n", f);
    fputs("{\"event\":\"step\",\"step\":3,\"loss\":4}\n", f); /* of an older program */
    fputs("{\"event\":\"step\",\"st", f);
    fclose(f);
    ASSERT_OK(log_history_read(&h, "log.jsonl", POINTS, &err));
    assert_int_equal(h.steps, 2);
    assert_int_equal(h.unreadable, 4);
    log_history_free(&h);
    assert_int_equal(log_history_read(&h, "none.jsonl", POINTS, &err), STATUS_NOINPUT);
    log_history_free(&h);
}

static void test_the_written_object_is_json(void **state)
{
    (void)state;
    struct log_history h;
    struct json_writer w;
    struct json *doc;
    char *text;
    double loss;
    FILE *f = begin_log();
    for (int step = 1; step <= 1000; step++)
        put_step(f, step, step > 900 ? 2 : 7);
    fclose(f);
    ASSERT_OK(log_history_read(&h, "log.jsonl", POINTS, &err));
    assert_int_equal(h.step.width, 16);
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    log_history_write(&h, &w, "log");
    json_write_end(&w);
    ASSERT_OK(json_write_finish(&w, &text, &err));
    ASSERT_OK(json_parse(&doc, text, strlen(text), "report", STATUS_DATA, &err));
    const struct cJSON *log = json_get(json_root(doc), "log"), *step = json_get(log, "step");
    ASSERT_OK(json_get_real(doc, log, "loss", &loss, &err));
    assert_true(loss == 2); /* of the last hundred steps */
    assert_int_equal(json_size(json_get(step, "tokens")), h.step.count);
    assert_int_equal(json_size(json_get(json_get(step, "loss"), "most")), h.step.count);
    assert_null(json_get(step, "residual")); /* nothing but null */
    assert_null(json_get(log, "best"));
    json_free(doc);
    mem_free(text);
    log_history_free(&h);
}

/* A line may be as deep as JSON may be. The report is deeper than the line would be alone. */
static void test_a_deep_line_does_no_harm(void **state)
{
    (void)state;
    enum { DEEP = JSON_MAX_DEPTH - 1 };
    struct log_history h;
    struct json_writer w;
    char line[512] = "{\"event\":\"start\",\"threads\":3,\"a\":", *text;
    size_t len = strlen(line);
    memset(line + len, '[', DEEP);
    memset(line + len + DEEP, ']', DEEP);
    snprintf(line + len + 2 * DEEP, 2, "}");
    FILE *f = begin_log();
    put(f, line);
    fclose(f);
    ASSERT_OK(log_history_read(&h, "log.jsonl", POINTS, &err));
    assert_int_equal(h.starts, 1);
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    log_history_write(&h, &w, "log");
    json_write_end(&w);
    ASSERT_OK(json_write_finish(&w, &text, &err));
    assert_non_null(strstr(text, "\"threads\":3"));
    mem_free(text);
    log_history_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_log_is_read, scratch_enter, scratch_leave),
        cmocka_unit_test_setup_teardown(test_damage_is_counted, scratch_enter, scratch_leave),
        cmocka_unit_test_setup_teardown(test_a_deep_line_does_no_harm, scratch_enter,
                                        scratch_leave),
        cmocka_unit_test_setup_teardown(test_the_written_object_is_json, scratch_enter,
                                        scratch_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
