/* The planner of a model's memory: buffers that live at the same time never share a byte, those
 * that do not may, and what is used outside its lifetime is NaN. */
#include "backend/workspace.h"

#include "backend/count/count.h"
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 96, ROUNDS = 400 };

static uint64_t draw(struct rng_key key, uint64_t *at, uint64_t below)
{
    return (uint64_t)(rng_uniform(key, (*at)++) * (double)below);
}

static struct lifetime some_life(struct rng_key key, uint64_t *at)
{
    int first = (int)draw(key, at, PHASE_COUNT + 1) - 1;
    int from = first < 0 ? 0 : first;
    int last = first < 0 ? PHASE_UPDATE : from + (int)draw(key, at, (uint64_t)(PHASE_COUNT - from));
    return lives_on(1 + (unsigned)draw(key, at, 3), (enum phase)first, (enum phase)last);
}

/* Phase by phase and path by path, so that the rule is not the planner's own. */
static bool alive(const struct placed_buffer *b, int phase, unsigned path)
{
    return b->life.first <= phase && phase <= b->life.last && (b->life.paths & path) != 0;
}

static void check_no_byte_twice(const struct placed_buffer *list, int count, size_t bytes)
{
    static unsigned char used[1 << 17];
    assert_true(bytes <= sizeof used);
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        for (unsigned path = PATH_SOLVE; path <= PATH_LAYERS; path++) {
            memset(used, 0, bytes);
            for (int i = 0; i < count; i++) {
                if (!alive(&list[i], phase, path))
                    continue;
                assert_int_equal(list[i].offset % WORKSPACE_ALIGN, 0);
                assert_true(list[i].offset + list[i].bytes <= bytes);
                for (size_t k = 0; k < list[i].bytes; k++)
                    assert_int_equal(used[list[i].offset + k]++, 0);
            }
        }
}

static void no_two_live_buffers_overlap(void **state)
{
    (void)state;
    struct placed_buffer list[MOST];
    int order[MOST], near[MOST];
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct rng_key key = {11, round};
        uint64_t at = 0;
        int count = 1 + (int)draw(key, &at, MOST);
        memset(list, 0, sizeof list);
        for (int i = 0; i < count; i++) {
            list[i].bytes = draw(key, &at, draw(key, &at, 4) == 0 ? 1000 : 90);
            list[i].life = some_life(key, &at);
        }
        check_no_byte_twice(list, count, workspace_place(list, order, near, count));
    }
}

static void declare(struct workspace *ws, struct tensor *t, const char *name, int64_t numbers,
                    struct lifetime life)
{
    workspace_declare(ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = ws->be->ops->real,
                                       .ndim = 1,
                                       .dim = {numbers},
                                       .life = life,
                                       .part = PART_SOLVER});
}

static void shares_what_never_meets(void **state)
{
    (void)state;
    struct backend be;
    struct workspace *ws;
    struct error err;
    struct tensor history, logits, layers, kept, zero;
    assert_ok(ref_open(&be, &err), &err);
    assert_ok(workspace_create(&ws, &be, &err), &err);
    declare(ws, &kept, "kept", 8, lives_always());
    declare(ws, &history, "history", 1000, lives_on(PATH_SOLVE, PHASE_FORWARD, PHASE_FORWARD));
    declare(ws, &logits, "logits", 900, lives(PHASE_LOSS, PHASE_LOSS));
    declare(ws, &layers, "layers", 800, lives_on(PATH_LAYERS, PHASE_FORWARD, PHASE_OUTPUT));
    declare(ws, &zero, "nothing", 0, lives(PHASE_LOSS, PHASE_LOSS));
    assert_ok(workspace_commit(ws, &err), &err);
    assert_ptr_equal(history.data, logits.data);
    assert_ptr_equal(history.data, layers.data);
    assert_non_null(zero.data);
    assert_true(workspace_shares(&ws->list[1], &ws->list[2]));
    assert_false(workspace_shares(&ws->list[0], &ws->list[1]));
    assert_int_equal(workspace_bytes(ws), 8000 + 8 * 8);
    assert_int_equal(be.bytes, workspace_bytes(ws));
    assert_int_equal(workspace_live(ws, PHASE_LOSS, PATH_ANY, PART_COUNT), 900 * 8 + 64);
    assert_int_equal(workspace_peak(ws, ~0u, NULL), 1000 * 8 + 64);
    assert_int_equal(be.planned[PART_SOLVER], 1000 * 8 + 64);
    assert_int_equal(be.planned[PART_WORK], 0);
    workspace_free(ws);
    assert_int_equal(be.bytes, 0);
    backend_close(&be);
}

/* What a planner must give is no more than the buffers one beside the other, and no less than those
 * of one moment. */
static void is_no_larger_than_all_together(void **state)
{
    (void)state;
    struct backend be;
    struct workspace *ws;
    struct error err;
    static struct tensor t[MOST];
    struct count_device device = {.product_rate = 1, .plain_rate = 1, .bandwidth = 1};
    uint64_t at = 0;
    size_t sum = 0;
    struct rng_key key = {12, 0};
    assert_ok(count_open(&be, &device, &err), &err);
    assert_ok(workspace_create(&ws, &be, &err), &err);
    for (int i = 0; i < MOST; i++)
        declare(ws, &t[i], "some", (int64_t)draw(key, &at, 1 << 20), some_life(key, &at));
    assert_ok(workspace_commit(ws, &err), &err);
    for (int i = 0; i < MOST; i++)
        sum += ws->list[i].bytes + WORKSPACE_ALIGN;
    assert_true(workspace_bytes(ws) < sum);
    assert_true(workspace_bytes(ws) >= workspace_peak(ws, ~0u, NULL));
    workspace_free(ws);
    backend_close(&be);
}

static double number(struct backend *be, const struct tensor *t)
{
    double all[64];
    op_download(be, all, DTYPE_F64, t);
    return all[tensor_count(t) - 1];
}

static void poisons_what_does_not_live(void **state)
{
    (void)state;
    struct backend be;
    struct workspace *ws;
    struct error err;
    struct tensor kept, through, loss, list;
    assert_ok(ref_open(&be, &err), &err);
    be.poison = true;
    assert_ok(workspace_create(&ws, &be, &err), &err);
    declare(ws, &kept, "kept", 3, lives_always());
    declare(ws, &through, "through", 5, lives(PHASE_BEGIN, PHASE_LOSS));
    declare(ws, &loss, "loss", 7, lives(PHASE_LOSS, PHASE_LOSS));
    workspace_declare(ws, &list,
                      &(struct buffer){.name = "list",
                                       .dtype = DTYPE_I32,
                                       .ndim = 1,
                                       .dim = {4},
                                       .life = lives(PHASE_BEGIN, PHASE_BEGIN)});
    assert_ok(workspace_commit(ws, &err), &err);
    assert_true(number(&be, &through) == 0);
    op_fill(&be, &kept, 1);
    workspace_enter(ws, PHASE_BEGIN);
    assert_true(isnan(number(&be, &through))); /* it has to be written first */
    op_fill(&be, &through, 2);
    op_fill(&be, &list, 3);
    workspace_enter(ws, PHASE_BEGIN); /* no new phase */
    assert_true(number(&be, &through) == 2);
    workspace_enter(ws, PHASE_LOSS);
    assert_true(number(&be, &through) == 2 && number(&be, &kept) == 1);
    int32_t ids[4];
    op_download(&be, ids, DTYPE_I32, &list);
    assert_int_equal(ids[3], -1);
    op_fill(&be, &loss, 4);
    workspace_enter(ws, PHASE_UPDATE);
    assert_true(isnan(number(&be, &through)) && isnan(number(&be, &loss)));
    assert_true(number(&be, &kept) == 1);
    workspace_free(ws);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_two_live_buffers_overlap),
        cmocka_unit_test(shares_what_never_meets),
        cmocka_unit_test(is_no_larger_than_all_together),
        cmocka_unit_test(poisons_what_does_not_live),
    };
    return cmocka_run_group_tests_name("workspace", tests, NULL, NULL);
}
