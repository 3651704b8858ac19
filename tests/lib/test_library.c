/* The functions of deq.h: what they give agrees among themselves, and what is wrong is refused.
 * That the figures are those of the program is tested in library.bats. */
#include "lib/deq.h"
#include "lib/tiny_checkpoint.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { VOCAB = 256, MOST = 200 };

static const char text[] = "In the beginning\nwas the word\n";
enum { LEN = sizeof text - 1 };

struct fixture {
    char path[64];
    struct deq *d;
    struct deq_error error;
};

static void load(struct fixture *f)
{
    struct deq_options options = {
        .size = sizeof options, .device = "cpu", .threads = 1, .ranks = 1};
    tiny_checkpoint(f->path);
    if (deq_load(&f->d, f->path, &options, &f->error) != DEQ_OK)
        fail_msg("%s", f->error.text);
}

static void unload(struct fixture *f)
{
    deq_free(f->d);
    unlink(f->path);
}

static void the_model_is_described(void **state)
{
    (void)state;
    struct fixture f;
    struct deq_info info = {.size = sizeof info};
    load(&f);
    assert_int_equal(deq_info(f.d, &info, &f.error), DEQ_OK);
    assert_int_equal(info.vocab_size, VOCAB);
    assert_int_equal(info.context, 24);
    assert_int_equal(info.line_start, '\n');
    assert_int_equal(info.unknown, -1);
    assert_int_equal(info.threads, 1);
    assert_int_equal(info.layers, 0);
    assert_true(info.parameters > VOCAB * 16);
    assert_string_equal(info.cell, "transformer");
    assert_string_equal(info.tokens, "bytes");
    assert_string_equal(info.device, "cpu");
    unload(&f);
}

static void tokens_and_texts_turn_into_each_other(void **state)
{
    (void)state;
    struct fixture f;
    int32_t token[MOST];
    char back[MOST];
    load(&f);
    assert_int_equal(deq_tokenize(f.d, text, LEN, NULL, 0, &f.error), LEN);
    assert_int_equal(deq_tokenize(f.d, text, LEN, token, MOST, &f.error), LEN);
    assert_int_equal(token[1], 'n');
    assert_int_equal(deq_detokenize(f.d, token, LEN, NULL, 0, &f.error), LEN);
    assert_int_equal(deq_detokenize(f.d, token, LEN, back, MOST, &f.error), LEN);
    assert_memory_equal(back, text, LEN);
    assert_int_equal(deq_detokenize(f.d, token, 0, NULL, 0, &f.error), 0);
    token[0] = -7;
    assert_int_equal(deq_tokenize(f.d, text, LEN, token, LEN - 1, &f.error), LEN);
    assert_int_equal(token[0], -7); /* too little room: nothing is written */
    assert_int_equal(deq_tokenize(f.d, NULL, 0, token, MOST, &f.error), 1);
    unload(&f);
}

/* Scores of a text, of its tokens line by line, and of each next token are the same figures. Solves
 * stop at a relative residual of 1e-6, which moves log-probabilities by about as much. */
static void scores_agree(void **state)
{
    (void)state;
    struct fixture f;
    struct deq_token token[MOST];
    int32_t line[MOST] = {'\n'};
    double logp[MOST], next[VOCAB];
    int64_t from = 0;
    load(&f);
    assert_int_equal(deq_score_text(f.d, text, LEN, NULL, 0, &f.error), LEN);
    assert_int_equal(deq_score_text(f.d, text, LEN, token, MOST, &f.error), LEN);
    for (int64_t i = 0; i < LEN; i++) {
        assert_int_equal(token[i].id, text[i]);
        assert_int_equal(token[i].from, i);
        assert_int_equal(token[i].until, i + 1);
        assert_int_equal((token[i].flags & DEQ_TOKEN_LINE_END) != 0, text[i] == '\n');
        line[i - from + 1] = token[i].id;
        assert_int_equal(deq_next(f.d, line, (size_t)(i - from + 1), next, &f.error), DEQ_OK);
        double sum = 0;
        int rank = 1;
        for (int k = 0; k < VOCAB; k++) {
            sum += exp(next[k]);
            rank += next[k] > next[token[i].id] + 1e-4;
        }
        assert_true(fabs(sum - 1) < 1e-5);
        assert_true(fabs(next[token[i].id] - token[i].logprob) < 2e-5);
        assert_true(rank <= token[i].rank && token[i].rank <= VOCAB);
        if (text[i] != '\n')
            continue;
        assert_int_equal(deq_score_tokens(f.d, line, (size_t)(i - from + 2), logp, &f.error), 0);
        for (int64_t k = from; k <= i; k++)
            assert_true(fabs(logp[k - from] - token[k].logprob) < 2e-5);
        from = i + 1;
    }
    unload(&f);
}

static void a_growing_text_is_the_same_as_a_whole_one(void **state)
{
    (void)state;
    struct fixture f;
    int32_t token[] = {'\n', 'a', 'b', 'c', 'd', 'a', 'b'}, other[] = {'\n', 'b'};
    double grown[VOCAB], whole[VOCAB];
    struct deq_sampling how;
    load(&f);
    deq_sampling_init(&how, sizeof how);
    how.tokens = 3;
    for (size_t i = 1; i <= 7; i++)
        assert_int_equal(deq_next(f.d, token, i, grown, &f.error), 0);
    for (int again = 0; again < 3; again++) {
        if (again == 1)
            assert_int_equal(deq_next(f.d, other, 2, whole, &f.error), 0);
        if (again == 2) /* works with the same model */
            assert_int_equal(deq_generate(f.d, "x", 1, &how, &f.error), 3);
        assert_int_equal(deq_next(f.d, token, 7, whole, &f.error), 0);
        for (int i = 0; i < VOCAB; i++)
            assert_true(fabs(grown[i] - whole[i]) < 2e-5);
    }
    unload(&f);
}

/* What a callback was given. */
struct taken {
    char text[MOST];
    size_t len;
    int calls, most;
    int threads; /* OpenMP's setting inside */
};

static int take(void *ctx, int32_t token, const char *said, size_t len)
{
    struct taken *t = ctx;
    assert_in_range(token, 0, VOCAB - 1);
    memcpy(t->text + t->len, said, len);
    t->len += len;
    t->threads = omp_get_max_threads();
    return ++t->calls == t->most;
}

static void texts_are_told_as_they_grow(void **state)
{
    (void)state;
    struct fixture f;
    struct taken all = {0}, again = {0}, few = {.most = 5}, stopped = {0};
    struct deq_sampling how;
    char stop[3] = {0};
    load(&f);
    omp_set_num_threads(7);
    deq_sampling_init(&how, sizeof how);
    how.tokens = 40;
    how.on_text = take;
    how.ctx = &all;
    assert_int_equal(deq_generate(f.d, text, 16, &how, &f.error), 40);
    assert_int_equal(all.calls, 40);
    assert_int_equal(all.len, 40);
    assert_int_equal(all.threads, 7);
    how.ctx = &again;
    assert_int_equal(deq_generate(f.d, text, 16, &how, &f.error), 40);
    assert_memory_equal(all.text, again.text, 40);
    how.ctx = &few;
    assert_int_equal(deq_generate(f.d, text, 16, &how, &f.error), 5);
    assert_memory_equal(all.text, few.text, 5);
    memcpy(stop, all.text + 20, 2); /* the text ends where these two bytes first stand */
    const char *const stops[] = {"no such text anywhere", stop};
    how.ctx = &stopped;
    how.stop = stops;
    how.stops = 2;
    assert_true(deq_generate(f.d, text, 16, &how, &f.error) <= 22);
    size_t at = (size_t)((char *)memmem(all.text, 40, stop, strlen(stop)) - all.text);
    assert_int_equal(stopped.len, at);
    how.tokens = 0;
    assert_int_equal(deq_generate(f.d, text, 16, &how, &f.error), 0);
    unload(&f);
}

/* At temperature 0 each token is the likeliest of deq_next, if both are solved as well. */
static void the_likeliest_token_is_drawn(void **state)
{
    (void)state;
    struct fixture f;
    struct taken t = {0};
    struct deq_sampling how;
    int32_t token[MOST] = {'I', 'n'};
    double logp[VOCAB];
    load(&f);
    deq_sampling_init(&how, sizeof how);
    how.tokens = 12;
    how.temperature = 0;
    how.tol = 1e-6;
    how.on_text = take;
    how.ctx = &t;
    assert_int_equal(deq_generate(f.d, "In", 2, &how, &f.error), 12);
    for (size_t i = 0; i < 12; i++) {
        assert_int_equal(deq_next(f.d, token, i + 2, logp, &f.error), 0);
        token[i + 2] = (unsigned char)t.text[i];
        for (int k = 0; k < VOCAB; k++)
            assert_true(logp[k] <= logp[token[i + 2]] + 1e-3);
    }
    unload(&f);
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    struct fixture f;
    struct deq_sampling how;
    struct deq *none = NULL;
    int32_t token[] = {1, 256, -1};
    double logp[VOCAB];
    struct {
        struct deq_options known;
        char newer[8];
    } o = {.known = {.size = sizeof o}};
    load(&f);
    assert_int_equal(deq_next(f.d, token, 0, logp, &f.error), -DEQ_USAGE);
    assert_int_equal(deq_next(f.d, token, 2, logp, &f.error), -DEQ_USAGE);
    assert_string_equal(f.error.text, "token 1: want 0..255, got 256");
    assert_int_equal(f.error.status, DEQ_USAGE);
    assert_int_equal(deq_score_tokens(f.d, token, 3, logp, NULL), -DEQ_USAGE);
    assert_int_equal(deq_detokenize(f.d, token + 2, 1, NULL, 0, &f.error), -DEQ_USAGE);
    deq_sampling_init(&how, sizeof how);
    how.top_p = 0;
    assert_int_equal(deq_generate(f.d, "", 0, &how, &f.error), -DEQ_USAGE);
    assert_string_equal(f.error.text, "deq_sampling.top_p: want 1e-09 to 1, got 0");
    deq_sampling_init(&how, sizeof how);
    how.temperature = NAN;
    assert_int_equal(deq_generate(f.d, "", 0, &how, &f.error), -DEQ_USAGE);
    deq_sampling_init(&how, sizeof how);
    how.stop = (const char *const[]){""};
    how.stops = 1;
    assert_int_equal(deq_generate(f.d, "", 0, &how, &f.error), -DEQ_USAGE);

    assert_int_equal(deq_load(&none, "/nowhere", NULL, &f.error), -DEQ_NOINPUT);
    assert_null(none);
    assert_non_null(strstr(f.error.text, "/nowhere"));
    assert_string_equal(deq_status_text(-DEQ_NOINPUT), "no such input");
    assert_int_equal(deq_load(&none, f.path, &o.known, &f.error), DEQ_OK); /* of a newer caller */
    deq_free(none);
    o.newer[3] = 1; /* which wants what is not known here */
    assert_int_equal(deq_load(&none, f.path, &o.known, &f.error), -DEQ_USAGE);
    o.known = (struct deq_options){.size = sizeof o.known, .device = "gpu"};
    assert_int_equal(deq_load(&none, f.path, &o.known, &f.error), -DEQ_USAGE);
    o.known = (struct deq_options){.size = sizeof o.known, .device = "cpu", .precision = "fp16"};
    assert_int_equal(deq_load(&none, f.path, &o.known, &f.error), -DEQ_USAGE);
    o.known = (struct deq_options){.size = sizeof o.known, .device = "cpu", .threads = -1};
    assert_int_equal(deq_load(&none, f.path, &o.known, &f.error), -DEQ_USAGE);
    assert_int_equal(deq_load(&none, f.path, &(struct deq_options){0}, &f.error), -DEQ_USAGE);
    unload(&f);
}

/* An older caller knows fewer fields. */
static void a_shorter_struct_is_filled_as_far_as_it_goes(void **state)
{
    (void)state;
    struct fixture f;
    struct deq_info info = {.size = offsetof(struct deq_info, step), .step = 77};
    load(&f);
    assert_int_equal(deq_info(f.d, &info, &f.error), DEQ_OK);
    assert_int_equal(info.vocab_size, VOCAB);
    assert_int_equal(info.step, 77);
    unload(&f);
}

static void settings_of_the_thread_stay(void **state)
{
    (void)state;
    struct fixture f;
    struct deq *second;
    double logp[VOCAB];
    int32_t token = 'a';
    load(&f);
    locale_t other = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
    omp_set_num_threads(3);
    omp_set_dynamic(1);
    (void)uselocale(other);
    assert_int_equal(deq_load(&second, f.path, NULL, &f.error), DEQ_OK);
    deq_free(second);
    assert_int_equal(deq_load(&second, "/nowhere", NULL, &f.error), -DEQ_NOINPUT);
    assert_int_equal(deq_next(f.d, &token, 1, logp, &f.error), 0);
    assert_int_equal(omp_get_max_threads(), 3);
    assert_int_equal(omp_get_dynamic(), 1);
    assert_ptr_equal(uselocale((locale_t)0), other);
    unload(&f);
    (void)uselocale(LC_GLOBAL_LOCALE);
    freelocale(other);
    omp_set_dynamic(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_described),
        cmocka_unit_test(tokens_and_texts_turn_into_each_other),
        cmocka_unit_test(scores_agree),
        cmocka_unit_test(a_growing_text_is_the_same_as_a_whole_one),
        cmocka_unit_test(texts_are_told_as_they_grow),
        cmocka_unit_test(the_likeliest_token_is_drawn),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(a_shorter_struct_is_filled_as_far_as_it_goes),
        cmocka_unit_test(settings_of_the_thread_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
