/* The life of a run: stopped, killed or damaged anywhere, it ends as one that was left alone. */
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "io/shards.h"
#include "train/run.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

/* 17 steps of an epoch of 6 segments, the last of them short; evaluations and checkpoints meet at
 * step 12 and nowhere else. */
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
                                     "solver.forward.max_iter=4"};
static const char *const plain[] = {"model.dropatt=0.1", "train.optimizer=adamw",
                                    "train.weight_decay=0.1", NULL};
static const char *const other[] = {"model.blocks=2",          "model.pre_lnorm=true",
                                    "model.norm=rms",          "solver.forward.method=broyden",
                                    "gradient.method=phantom", "train.accumulate=1",
                                    "model.cutoffs=[10,20]",   "model.div_val=2",
                                    "train.schedule=inv_sqrt", NULL};

struct watch {
    struct run_options options;
    struct run_observer observer;
    volatile sig_atomic_t stop;
    int64_t stop_at, stop_evaluation_at; /* step at which to ask for a stop; 0: never */
    int64_t exit_at, exit_evaluation_at; /* step at which to die */
    int64_t steps;                       /* seen */
    void (*on_step)(struct watch *w, int64_t step);
    char said[4096];
};

static void must(enum status status, const struct error *err)
{
    if (status != STATUS_OK)
        fail_msg("%s", err->text);
}

static void saw_step(void *ctx, const struct trainer *t, const struct step_report *r)
{
    struct watch *w = ctx;
    (void)t;
    w->steps++;
    w->stop |= r->step == w->stop_at;
    if (r->step == w->exit_at)
        _exit(9);
    if (w->on_step != NULL)
        w->on_step(w, r->step);
}

static int64_t step_seen; /* of the trainer, for the observer of evaluations */

static void saw_begin(void *ctx, const struct trainer *t)
{
    (void)ctx;
    step_seen = t->state.step;
}

static void saw_step_too(void *ctx, const struct trainer *t, const struct step_report *r)
{
    step_seen = r->step;
    saw_step(ctx, t, r);
}

static void saw_evaluating(void *ctx, int64_t tokens, int64_t of)
{
    struct watch *w = ctx;
    (void)tokens;
    (void)of;
    w->stop |= step_seen == w->stop_evaluation_at;
    if (step_seen == w->exit_evaluation_at)
        _exit(9);
}

static void heard(void *ctx, const char *text)
{
    struct watch *w = ctx;
    size_t used = strlen(w->said);
    snprintf(w->said + used, sizeof w->said - used, "%s\n", text);
}

static void watch_init(struct watch *w, const char *dir)
{
    *w = (struct watch){.options = {.dir = dir, .resume = RESUME_AUTO, .stop = &w->stop},
                        .observer = {.ctx = w,
                                     .begin = saw_begin,
                                     .step = saw_step_too,
                                     .evaluating = saw_evaluating,
                                     .message = heard}};
}

static void set_all(struct config *c, const char *const *settings, size_t count)
{
    struct error err;
    for (size_t i = 0; i < count && settings[i] != NULL; i++)
        must(config_set(c, settings[i], &err), &err);
}

static struct config make_config(const char *const *settings)
{
    struct config c;
    config_defaults(&c);
    set_all(&c, common, sizeof common / sizeof *common);
    set_all(&c, settings, SIZE_MAX);
    return c;
}

static enum status go(struct watch *w, const struct config *c, struct error *err)
{
    struct backend be;
    *err = (struct error){.status = STATUS_OK};
    must(cpu_open(&be, 1, err), err);
    enum status status = run_train(&be, c, &w->options, &w->observer, err);
    backend_close(&be);
    return status;
}

/* Runs in a process of its own, which may die in `w->exit_at`. */
static void go_and_die(struct watch *w, const struct config *c)
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

static void finish(const char *dir, const struct config *c)
{
    struct watch w;
    struct error err;
    watch_init(&w, dir);
    must(go(&w, c, &err), &err);
}

/* --- comparing -------------------------------------------------------------------------------- */

/* The JSON object's text without the members that are times. */
static char *timeless(const char *text, size_t len)
{
    struct json *doc;
    struct error err;
    char *out;
    struct json_writer w;
    must(json_parse(&doc, text, len, "test", STATUS_DATA, &err), &err);
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    for (const struct cJSON *v = json_first(json_root(doc)); v != NULL; v = json_next(v))
        if (strcmp(json_key(v), "seconds") != 0 && strcmp(json_key(v), "tokens_per_s") != 0 &&
            strcmp(json_key(v), "check") != 0)
            json_write_copy(&w, json_key(v), v);
    json_write_end(&w);
    must(json_write_finish(&w, &out, &err), &err);
    json_free(doc);
    return out;
}

static void same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    char *x = timeless(a, a_len), *y = timeless(b, b_len);
    assert_string_equal(x, y);
    mem_free(x);
    mem_free(y);
}

static void same_checkpoint(const char *left, const char *right)
{
    struct checkpoint *a, *b;
    struct error err;
    must(checkpoint_open(&a, left, &err), &err);
    must(checkpoint_open(&b, right, &err), &err);
    assert_int_equal(checkpoint_count(a), checkpoint_count(b));
    for (int64_t i = 0; i < checkpoint_count(a); i++) {
        const struct checkpoint_section *s = checkpoint_section(a, i);
        const struct checkpoint_section *t = checkpoint_find(b, s->name);
        assert_non_null(t);
        char *x = malloc(s->size + 1), *y = malloc(t->size + 1);
        must(checkpoint_read_section(a, s->name, x, s->size, &err), &err);
        if (strcmp(s->name, "state") == 0) {
            must(checkpoint_read_section(b, s->name, y, t->size, &err), &err);
            same_text(x, s->size, y, t->size);
        } else {
            assert_int_equal(t->size, s->size);
            must(checkpoint_read_section(b, s->name, y, s->size, &err), &err);
            if (memcmp(x, y, s->size) != 0)
                fail_msg("%s and %s differ in section %s", left, right, s->name);
        }
        free(x);
        free(y);
    }
    checkpoint_close(a);
    checkpoint_close(b);
}

static void same_log(const char *left, const char *right)
{
    size_t a_len, b_len;
    char *a = scratch_read(left, &a_len), *b = scratch_read(right, &b_len);
    char *p = a, *q = b;
    while (*p != '\0') {
        size_t m = strcspn(p, "\n"), n = strcspn(q, "\n");
        assert_true(*q != '\0');
        same_text(p, m, q, n);
        p += m + 1;
        q += n + 1;
    }
    assert_true(*q == '\0');
    free(a);
    free(b);
}

/* All that a finished run leaves. */
static void same_run(const char *left, const char *right)
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

static void remove_run(const char *dir)
{
    char line[300];
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    assert_int_equal(system(line), 0);
}

static void prepare(void)
{
    shards_make("d", TOKENS, TOKENS, VOCAB);
    shards_split("d", "valid", 60, 60, VOCAB, shards_vocab("d", VOCAB), VOCAB);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void stopped_at_every_step(const char *const *settings)
{
    struct config c = make_config(settings);
    struct watch w;
    struct error err;
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.stop_at = at;
        enum status status = go(&w, &c, &err);
        assert_int_equal(status, STATUS_STOPPED);
        assert_int_equal(w.steps, at);
        finish("cut", &c);
        same_run("whole", "cut");
        remove_run("cut");
    }
    remove_run("whole");
}

static void a_stop_at_any_step_changes_nothing(void **state)
{
    prepare();
    stopped_at_every_step(plain);
    stopped_at_every_step(other);
    (void)state;
}

static void a_stop_after_every_step_changes_nothing(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.stop_at = at;
        assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
        assert_int_equal(w.steps, 1);
    }
    finish("cut", &c);
    same_run("whole", "cut");
    (void)state;
}

static void a_stop_in_an_evaluation_leaves_it_due(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    const int64_t at[] = {4, 12, 16, 17};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        watch_init(&w, "cut");
        w.stop_evaluation_at = at[i];
        assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
        assert_int_equal(step_seen, at[i]);
        /* killed in it, and just after it was logged */
        watch_init(&w, "cut");
        w.exit_evaluation_at = at[i];
        go_and_die(&w, &c);
        watch_init(&w, "cut");
        w.exit_at = at[i] + 1;
        go_and_die(&w, &c);
    }
    finish("cut", &c);
    same_run("whole", "cut");
    (void)state;
}

static void a_death_at_any_step_changes_nothing(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    prepare();
    finish("whole", &c);
    for (int64_t at = 1; at <= STEPS; at++) {
        watch_init(&w, "cut");
        w.exit_at = at;
        go_and_die(&w, &c);
        finish("cut", &c);
        same_run("whole", "cut");
        remove_run("cut");
    }
    (void)state;
}

static void a_finished_run_says_so(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    watch_init(&w, "whole");
    must(go(&w, &c, &err), &err);
    assert_int_equal(w.steps, 0);
    assert_non_null(strstr(w.said, "nothing left to do"));
    (void)state;
}

static void flip_a_byte(const char *path)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 700, SEEK_SET); /* in the first sections */
    int c = fgetc(f);
    fseek(f, 700, SEEK_SET);
    fputc(c ^ 16, f);
    fclose(f);
}

static void a_damaged_checkpoint_is_named_and_skipped(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    finish("whole", &c);
    watch_init(&w, "cut");
    w.stop_at = 10; /* last.bin: 10, others: 9, 6 */
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    flip_a_byte("cut/last.bin");
    watch_init(&w, "cut");
    w.stop_at = 14; /* 14; 12 (the same file as best.bin or not), 9, 6 */
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    assert_non_null(strstr(w.said, "skipped, damaged: cut/last.bin"));
    assert_non_null(strstr(w.said, "continuing from cut/step-00000009.bin at step 9"));
    assert_int_equal(w.steps, 5);
    unlink("cut/last.bin");
    flip_a_byte("cut/step-00000012.bin");
    watch_init(&w, "cut");
    must(go(&w, &c, &err), &err);
    assert_non_null(strstr(w.said, "skipped, damaged: cut/step-00000012.bin"));
    assert_non_null(strstr(w.said, "continuing from cut/step-00000009.bin"));
    same_run("whole", "cut");
    (void)state;
}

static void without_a_whole_checkpoint_nothing_is_begun(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    watch_init(&w, "cut");
    w.stop_at = 3;
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    flip_a_byte("cut/last.bin"); /* step-00000003.bin is the same file */
    size_t before, after;
    free(scratch_read("cut/log.jsonl", &before));
    watch_init(&w, "cut");
    assert_int_equal(go(&w, &c, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "none of its checkpoints is whole"));
    assert_int_equal(w.steps, 0);
    free(scratch_read("cut/log.jsonl", &after));
    assert_int_equal(before, after);
    (void)state;
}

static void a_full_disk_ends_the_run_with_one_message(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    struct rlimit was, less;
    prepare();
    watch_init(&w, "cut");
    w.stop_at = 4;
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    set_all(&c,
            (const char *const[]){"train.steps=100000", "train.checkpoint_every=50",
                                  "train.eval_every=0", "train.keep_every=0",
                                  "train.log_every=1000", NULL},
            SIZE_MAX);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    less = was;
    less.rlim_cur = 8000; /* room for the log, not for a checkpoint */
    setrlimit(RLIMIT_FSIZE, &less);
    watch_init(&w, "cut");
    enum status status = go(&w, &c, &err);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(err.text, "step-00000050.bin: file size limit reached"));
    assert_true(w.steps < 100000);
    assert_null(strstr(w.said, "limit"));
    assert_int_equal(scratch_entries("cut"), 5); /* config, last, lock, log, step 3 */
    watch_init(&w, "cut");
    w.stop_at = 5;
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    assert_non_null(strstr(w.said, "continuing from cut/last.bin at step 4"));
    (void)state;
}

static void start_another(struct watch *w, int64_t step)
{
    struct config c = make_config(plain);
    struct watch second;
    struct error err;
    (void)w;
    if (step != 2)
        return;
    watch_init(&second, "cut");
    assert_int_equal(go(&second, &c, &err), STATUS_CANTCREATE);
    assert_non_null(strstr(err.text, "another process is training in it"));
    assert_int_equal(second.steps, 0);
}

static void one_process_trains_in_a_folder(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    watch_init(&w, "cut");
    w.on_step = start_another;
    must(go(&w, &c, &err), &err);
    assert_int_equal(w.steps, STEPS);
    (void)state;
}

static void leftovers_of_a_killed_process_go(void **state)
{
    struct config c = make_config(plain);
    prepare();
    mkdir("cut", 0777);
    scratch_write("cut/config.json.tmp-1-0", "{", 1); /* died before it had begun */
    finish("cut", &c);
    scratch_write("cut/last.bin.tmp-1-0", "x", 1);
    /* died between its last save and the removal of an older one */
    assert_int_equal(link("cut/step-00000006.bin", "cut/step-00000009.bin"), 0);
    finish("cut", &c);
    finish("whole", &c);
    same_run("whole", "cut");
    (void)state;
}

static void the_deadline_is_kept(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    set_all(&c, (const char *const[]){"train.steps=100000000", NULL}, SIZE_MAX);
    watch_init(&w, "cut");
    w.options.deadline = clock_seconds() + 1.2; /* a second is kept in hand */
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    assert_non_null(strstr(err.text, "time limit reached"));
    assert_true(w.steps > 0 && clock_seconds() < w.options.deadline);
    (void)state;
}

/* In memory where that is possible: hundreds of checkpoints are forced to disk here. */
static int enter(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_stop_at_any_step_changes_nothing),
        IN_SCRATCH(a_stop_after_every_step_changes_nothing),
        IN_SCRATCH(a_stop_in_an_evaluation_leaves_it_due),
        IN_SCRATCH(a_death_at_any_step_changes_nothing),
        IN_SCRATCH(a_finished_run_says_so),
        IN_SCRATCH(a_damaged_checkpoint_is_named_and_skipped),
        IN_SCRATCH(without_a_whole_checkpoint_nothing_is_begun),
        IN_SCRATCH(a_full_disk_ends_the_run_with_one_message),
        IN_SCRATCH(one_process_trains_in_a_folder),
        IN_SCRATCH(leftovers_of_a_killed_process_go),
        IN_SCRATCH(the_deadline_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
