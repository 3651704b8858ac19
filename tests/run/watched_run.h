/* Runs of a tiny model that are stopped or killed where a test wants it, and what they leave. */
#ifndef DEQ_TESTS_RUN_WATCHED_RUN_H
#define DEQ_TESTS_RUN_WATCHED_RUN_H

#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/shards.h"
#include "deq/settings.h"
#include "run/run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* The run has 17 steps of an epoch of 6 segments, of which the last is short. Evaluations and
 * checkpoints meet at step 12 and nowhere else. */
enum { VOCAB = 40, BATCH = 4, LENGTH = 6, STEPS = 17, TOKENS = BATCH * (5 * LENGTH + 4) };

static const char *const common[] = {"data.dir=d",
                                     "model.d_model=8",
                                     "model.n_head=2",
                                     "model.d_inner=12",
                                     "model.init_std=0.2",
                                     "train.steps=17",
                                     "train.batch=4",
                                     "train.tgt_len=6",
                                     "train.mem_len=5",
                                     "train.lr=0.01",
                                     "train.warmup_steps=3",
                                     "train.pretrain_steps=2",
                                     "train.eval_every=4",
                                     "train.keep_last=2",
                                     "train.checkpoint_every=3",
                                     "train.keep_every=6",
                                     "eval.batch=2",
                                     "eval.tgt_len=6",
                                     "eval.mem_len=5",
                                     "eval.max_iter=4",
                                     "model.dropout=0.1",
                                     "train.accumulate=2",
                                     "solver.forward.max_iter=4",
                                     NULL};
static const char *const plain[] = {"model.dropatt=0.1", "train.optimizer=adamw",
                                    "train.weight_decay=0.1", NULL};

struct watch {
    struct run_options options;
    struct run_observer observer;
    atomic_bool stop;
    int64_t stop_at, stop_evaluation_at; /* step at which to ask for a stop, or 0 */
    int64_t exit_at, exit_evaluation_at; /* step at which to die */
    int64_t steps;                       /* seen */
    void (*on_step)(struct watch *w, int64_t step);
    char said[4096];
};

static inline void saw_step(void *ctx, const struct trainer *t, const struct step_report *r)
{
    struct watch *w = ctx;
    (void)t;
    w->steps++;
    w->stop = w->stop || r->step == w->stop_at;
    if (r->step == w->exit_at)
        _exit(9);
    if (w->on_step != NULL)
        w->on_step(w, r->step);
}

static int64_t step_seen; /* of the trainer, for the observer of evaluations */

static inline void saw_begin(void *ctx, const struct trainer *t, size_t bytes)
{
    assert_true(bytes > 0);
    (void)ctx;
    step_seen = t->state.step;
}

static inline void saw_step_too(void *ctx, const struct trainer *t, const struct step_report *r)
{
    step_seen = r->step;
    saw_step(ctx, t, r);
}

static inline void saw_evaluating(void *ctx, int64_t tokens, int64_t of)
{
    struct watch *w = ctx;
    (void)tokens;
    (void)of;
    w->stop = w->stop || step_seen == w->stop_evaluation_at;
    if (step_seen == w->exit_evaluation_at)
        _exit(9);
}

static inline void heard(void *ctx, const char *text)
{
    struct watch *w = ctx;
    size_t used = strlen(w->said);
    snprintf(w->said + used, sizeof w->said - used, "%s\n", text);
}

static inline void watch_init(struct watch *w, const char *dir)
{
    *w = (struct watch){.options = {.dir = dir, .resume = RESUME_AUTO, .stop = &w->stop},
                        .observer = {.ctx = w,
                                     .begin = saw_begin,
                                     .step = saw_step_too,
                                     .evaluating = saw_evaluating,
                                     .message = heard}};
}

static inline struct config make_config(const char *const *settings)
{
    return config_unresolved(common, settings);
}

static inline enum status go(struct watch *w, const struct config *c, struct error *err)
{
    struct backend be;
    *err = (struct error){.status = STATUS_OK};
    assert_ok(cpu_open(&be, 1, err), err);
    be.poison = true;
    enum status status = run_train(&be, c, &w->options, &w->observer, err);
    backend_close(&be);
    return status;
}

/* Runs in a process of its own, which may die in `w->exit_at`. */
static inline void go_and_die(struct watch *w, const struct config *c)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct error err;
        _exit(go(w, c, &err) == STATUS_OK ? 0 : 1);
    }
    int result = 0;
    assert_true(child > 0 && waitpid(child, &result, 0) == child);
    assert_true(WIFEXITED(result) && (WEXITSTATUS(result) == 9 || WEXITSTATUS(result) == 0));
}

static inline void finish(const char *dir, const struct config *c)
{
    struct watch w;
    struct error err;
    watch_init(&w, dir);
    assert_ok(go(&w, c, &err), &err);
}

/* --- comparing -------------------------------------------------------------------------------- */

/* The JSON object's text without the members that are times. */
static inline char *timeless(const char *text, size_t len)
{
    struct json *doc;
    struct error err;
    char *out;
    struct json_writer w;
    assert_ok(json_parse(&doc, text, len, "test", STATUS_DATA, &err), &err);
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    for (const struct cJSON *v = json_first(json_root(doc)); v != NULL; v = json_next(v))
        if (strcmp(json_key(v), "seconds") != 0 && strcmp(json_key(v), "tokens_per_s") != 0 &&
            strcmp(json_key(v), "time") != 0 && strcmp(json_key(v), "check") != 0)
            json_write_copy(&w, json_key(v), v);
    json_write_end(&w);
    assert_ok(json_write_finish(&w, &out, &err), &err);
    json_free(doc);
    return out;
}

static inline void same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    char *x = timeless(a, a_len), *y = timeless(b, b_len);
    assert_string_equal(x, y);
    mem_free(x);
    mem_free(y);
}

static inline void same_checkpoint(const char *left, const char *right)
{
    struct checkpoint *a, *b;
    struct error err;
    assert_ok(checkpoint_open(&a, left, &err), &err);
    assert_ok(checkpoint_open(&b, right, &err), &err);
    assert_int_equal(checkpoint_count(a), checkpoint_count(b));
    for (int64_t i = 0; i < checkpoint_count(a); i++) {
        const struct checkpoint_section *s = checkpoint_section(a, i);
        const struct checkpoint_section *t = checkpoint_find(b, s->name);
        assert_non_null(t);
        char *x = malloc(s->size + 1), *y = malloc(t->size + 1);
        assert_ok(checkpoint_read_section(a, s->name, x, s->size, &err), &err);
        if (strcmp(s->name, "state") == 0) {
            assert_ok(checkpoint_read_section(b, s->name, y, t->size, &err), &err);
            same_text(x, s->size, y, t->size);
        } else {
            assert_int_equal(t->size, s->size);
            assert_ok(checkpoint_read_section(b, s->name, y, s->size, &err), &err);
            if (memcmp(x, y, s->size) != 0)
                fail_msg("%s and %s differ in section %s", left, right, s->name);
        }
        free(x);
        free(y);
    }
    checkpoint_close(a);
    checkpoint_close(b);
}

/* The next line of a log that tells of no start, or the end. A run that was stopped starts more
 * often. */
static inline char *skip_starts(char *line)
{
    while (strncmp(line, "{\"event\":\"start\"", 16) == 0)
        line += strcspn(line, "\n") + 1;
    return line;
}

static inline void same_log(const char *left, const char *right)
{
    size_t a_len, b_len;
    char *a = scratch_read(left, &a_len), *b = scratch_read(right, &b_len);
    char *p = skip_starts(a), *q = skip_starts(b);
    while (*p != '\0') {
        size_t m = strcspn(p, "\n"), n = strcspn(q, "\n");
        assert_true(*q != '\0');
        same_text(p, m, q, n);
        p = skip_starts(p + m + 1);
        q = skip_starts(q + n + 1);
    }
    assert_true(*q == '\0');
    free(a);
    free(b);
}

/* All that a finished run leaves. */
static inline void same_run(const char *left, const char *right)
{
    const char *const files[] = {"last.bin",          "best.bin",          "step-00000006.bin",
                                 "step-00000012.bin", "step-00000015.bin", "step-00000017.bin"};
    char a[256], b[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(a, sizeof a, "%s/%s", left, files[i]);
        snprintf(b, sizeof b, "%s/%s", right, files[i]);
        same_checkpoint(a, b);
    }
    snprintf(a, sizeof a, "%s/log.jsonl", left);
    snprintf(b, sizeof b, "%s/log.jsonl", right);
    same_log(a, b);
    assert_int_equal(scratch_entries(left), scratch_entries(right));
    assert_int_equal(scratch_entries(left), 9); /* those, log, config, lock */
}

static inline void remove_run(const char *dir)
{
    char line[300];
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    assert_int_equal(system(line), 0);
}

static inline void prepare(void)
{
    shards_make("d", TOKENS, TOKENS, VOCAB);
    const struct shard_writer_config valid = {.dir = "d",
                                              .split = "valid",
                                              .shard_tokens = 60,
                                              .vocab_size = VOCAB,
                                              .vocab_hash = shards_vocab("d", VOCAB)};
    shards_split(&valid, 60, VOCAB);
}

/* --- the folder of a test ----------------------------------------------------------------------
 */

/* In memory where that is possible: hundreds of checkpoints are forced to disk here. */
static inline int enter(void **state)
{
    char *name = strdup("/dev/shm/deq-test-XXXXXX");
    if (name != NULL && mkdtemp(name) != NULL && chdir(name) == 0) {
        *state = name;
        return 0;
    }
    free(name);
    return scratch_enter(state);
}

#define IN_SCRATCH(f) cmocka_unit_test_setup_teardown(f, enter, scratch_leave)

#endif
