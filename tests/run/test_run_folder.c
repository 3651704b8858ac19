/* The folder of a run with damaged files, a full disk, two processes and leftovers, and the
 * deadline. */
#include "watched_run.h"

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
    assert_ok(go(&w, &c, &err), &err);
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
    config_change(&c, SET("train.steps=100000", "train.checkpoint_every=50", "train.eval_every=0",
                          "train.keep_every=0", "train.log_every=1000"));
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
    assert_ok(go(&w, &c, &err), &err);
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

/* --- the deadline: moved while the run goes on, so that no speed decides -----------------------
 */

static void bring_the_deadline_near(struct watch *w, int64_t step)
{
    w->options.deadline = clock_seconds() + (step < 3 ? 1000 : 0.9);
}

static void a_second_is_kept_in_hand(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    watch_init(&w, "cut");
    w.options.deadline = clock_seconds() + 1000;
    w.on_step = bring_the_deadline_near;
    assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
    assert_non_null(strstr(err.text, "time limit reached: saved at step 3 of 17"));
    assert_int_equal(w.steps, 3);
    (void)state;
}

static void put_the_deadline_off(void *ctx, const struct trainer *t, size_t bytes)
{
    struct watch *w = ctx;
    (void)t;
    (void)bytes;
    w->options.deadline = clock_seconds() + 0.9;
}

/* A second in hand would leave none for a step. A busy machine may lose the time once, not always.
 */
static void less_is_kept_of_a_short_limit(void **state)
{
    struct config c = make_config(plain);
    struct watch w;
    struct error err;
    prepare();
    for (int i = 0; i < 100; i++) {
        watch_init(&w, "cut");
        w.options.deadline = clock_seconds() + 0.01;
        w.observer.begin = put_the_deadline_off;
        w.stop_at = 1;
        assert_int_equal(go(&w, &c, &err), STATUS_STOPPED);
        if (w.steps > 0)
            return;
    }
    fail_msg("no step");
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(a_damaged_checkpoint_is_named_and_skipped),
        IN_SCRATCH(without_a_whole_checkpoint_nothing_is_begun),
        IN_SCRATCH(a_full_disk_ends_the_run_with_one_message),
        IN_SCRATCH(one_process_trains_in_a_folder),
        IN_SCRATCH(leftovers_of_a_killed_process_go),
        IN_SCRATCH(a_second_is_kept_in_hand),
        IN_SCRATCH(less_is_kept_of_a_short_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
