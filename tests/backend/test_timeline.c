/* The file of a timeline, and what operations, phases and steps leave there. */
#include "backend/timeline.h"
#include "backend/workspace.h"
#include "base/assert_ok.h"
#include "base/clock.h"
#include "base/scratch.h"

#include "backend/cpu/cpu.h"
#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The parsed file. */
static cJSON *read_back(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    cJSON *all = cJSON_Parse(text);
    assert_true(cJSON_IsArray(all));
    return all;
}

static double number(const cJSON *span, const char *key)
{
    const cJSON *x = cJSON_GetObjectItem(span, key);
    assert_true(cJSON_IsNumber(x));
    return x->valuedouble;
}

/* The nth span of a lane with that name, or NULL. */
static const cJSON *find(const cJSON *all, enum timeline_lane lane, const char *name, int nth)
{
    const cJSON *span;
    cJSON_ArrayForEach(span, all)
    {
        const cJSON *kind = cJSON_GetObjectItem(span, "ph");
        if (strcmp(kind->valuestring, "X") == 0 && (int)number(span, "tid") == (int)lane &&
            strcmp(cJSON_GetObjectItem(span, "name")->valuestring, name) == 0 && nth-- == 0)
            return span;
    }
    return NULL;
}

static bool is_inside(const cJSON *inner, const cJSON *outer)
{
    double unit = 0.002; /* of the numbers in the file, in microseconds */
    return number(inner, "ts") >= number(outer, "ts") - unit &&
           number(inner, "ts") + number(inner, "dur") <=
               number(outer, "ts") + number(outer, "dur") + unit;
}

static void test_operations(void **state)
{
    struct backend be;
    struct error err;
    struct timeline *t;
    struct workspace *ws;
    struct tensor x;
    (void)state;
    assert_ok(cpu_open(&be, 1, &err), &err);
    assert_ok(workspace_create(&ws, &be, &err), &err);
    workspace_declare(ws, &x,
                      &(struct buffer){.name = "x",
                                       .dtype = DTYPE_F32,
                                       .ndim = 2,
                                       .dim = {4, 4},
                                       .life = lives_always(),
                                       .part = PART_WORK});
    assert_ok(workspace_commit(ws, &err), &err);
    assert_ok(timeline_open(&t, "trace.json", &err), &err);
    be.timeline = t;
    workspace_enter(ws, PHASE_EMBED);
    op_fill(&be, &x, 1);
    workspace_enter(ws, PHASE_FORWARD);
    op_col_sum(&be, &(struct tensor){x.data, DTYPE_F32, 1, {4, 1, 1, 1}},
               &(struct tensor){(float *)x.data + 4, DTYPE_F32, 2, {3, 4, 1, 1}});
    be.timeline = NULL;
    op_fill(&be, &x, 1);
    assert_ok(timeline_close(t, &err), &err);
    cJSON *all = read_back("trace.json");
    const cJSON *embed = find(all, LANE_PHASES, phase_text(PHASE_EMBED), 0);
    const cJSON *solve = find(all, LANE_PHASES, phase_text(PHASE_FORWARD), 0);
    const cJSON *fill = find(all, LANE_CALLS, "fill", 0);
    const cJSON *sum = find(all, LANE_CALLS, "col_sum", 0);
    assert_true(embed != NULL && solve != NULL && fill != NULL && sum != NULL);
    assert_true(is_inside(fill, embed) && is_inside(sum, solve));
    assert_null(find(all, LANE_CALLS, "fill", 1));
    assert_true(number(cJSON_GetObjectItem(fill, "args"), "bytes") == 64);
    cJSON_Delete(all);
    workspace_free(ws);
    backend_close(&be);
}

static void test_spans(void **state)
{
    struct timeline *t;
    struct error err;
    (void)state;
    assert_ok(timeline_open(&t, "spans.json", &err), &err);
    double now = clock_seconds();
    timeline_add(t, LANE_DEVICE, "gemm", now + 1, 0.25, 12, 34);
    assert_false(timeline_is_full(t));
    assert_ok(timeline_close(t, &err), &err);
    cJSON *all = read_back("spans.json");
    const cJSON *span = find(all, LANE_DEVICE, "gemm", 0);
    assert_true(number(span, "dur") == 250000 && number(span, "ts") >= 1e6);
    assert_true(number(cJSON_GetObjectItem(span, "args"), "flops") == 12);
    cJSON_Delete(all);
    assert_ok(timeline_close(NULL, &err), &err);
}

static void test_files_that_fail(void **state)
{
    struct timeline *t;
    struct error err;
    (void)state;
    assert_int_equal(timeline_open(&t, "none/trace.json", &err), STATUS_CANTCREATE);
    assert_non_null(strstr(err.text, "none/trace.json"));
    assert_ok(timeline_open(&t, "/dev/full", &err), &err);
    assert_int_equal(timeline_close(t, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "/dev/full"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_files_that_fail),
    };
    return cmocka_run_group_tests_name("timeline", tests, scratch_enter, scratch_leave);
}
