/* Two contexts in two threads give what each gives alone, bit for bit. `make tsan` builds this with
 * the thread sanitizer. */
#include "lib/deq.h"
#include "lib/tiny_checkpoint.h"

#include <pthread.h>
#include <string.h>

enum { VOCAB = 256, MOST = 120, ROUNDS = 3, TOGETHER = 2 };

static const char text[] = "In the beginning\nwas the word, and the word was\nwith two threads\n";

struct results {
    struct deq_token token[MOST];
    double next[VOCAB];
    char said[MOST];
    size_t len;
    int64_t scored, made;
};

struct job {
    const char *path;
    uint64_t seed;
    struct results out;
    struct deq_error error;
    bool failed;
};

static int take(void *ctx, int32_t token, const char *said, size_t len)
{
    struct results *r = ctx;
    (void)token;
    memcpy(r->said + r->len, said, len);
    r->len += len;
    return 0;
}

/* Loads, scores, continues and frees, which all have to go side by side. */
static void *work(void *ctx)
{
    struct job *j = ctx;
    struct results *r = &j->out;
    struct deq_options options = {
        .size = sizeof options, .device = "cpu", .threads = 2, .ranks = 1};
    struct deq_sampling how;
    struct deq *d = NULL;
    int32_t token[] = {'\n', 'a', 'b'};
    memset(r, 0, sizeof *r);
    deq_sampling_init(&how, sizeof how);
    how.seed = j->seed;
    how.tokens = 20;
    how.on_text = take;
    how.ctx = r;
    j->failed = deq_load(&d, j->path, &options, &j->error) != DEQ_OK;
    if (!j->failed) {
        r->scored = deq_score_text(d, text, sizeof text - 1, r->token, MOST, &j->error);
        r->made = deq_generate(d, text, 9, &how, &j->error);
        j->failed = r->scored < 0 || r->made < 0 || deq_next(d, token, 3, r->next, &j->error) != 0;
    }
    deq_free(d);
    return NULL;
}

static void contexts_do_not_see_each_other(void **state)
{
    (void)state;
    char path[64];
    struct job alone[TOGETHER], together[TOGETHER];
    pthread_t thread[TOGETHER];
    tiny_checkpoint(path);
    for (int i = 0; i < TOGETHER; i++) {
        alone[i] = together[i] = (struct job){.path = path, .seed = (uint64_t)i + 1};
        work(&alone[i]);
        if (alone[i].failed)
            fail_msg("%s", alone[i].error.text);
    }
    assert_memory_not_equal(alone[0].out.said, alone[1].out.said, 20);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < TOGETHER; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, work, &together[i]), 0);
        for (int i = 0; i < TOGETHER; i++)
            assert_int_equal(pthread_join(thread[i], NULL), 0);
        for (int i = 0; i < TOGETHER; i++) {
            assert_false(together[i].failed);
            assert_memory_equal(&together[i].out, &alone[i].out, sizeof alone[i].out);
        }
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(contexts_do_not_see_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
