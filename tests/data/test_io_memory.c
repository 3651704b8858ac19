/* Memory that runs out at every single allocation. Each call returns STATUS_NOMEM, leaves no file
 * and no leak (which AddressSanitizer sees), and an old file stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/scratch.h"
#include "run/metrics.h"
#include "store/checkpoint.h"
#include "store/safetensors.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A run that stands at this step, evaluated there too. */
#define AT(n) ((const struct metrics_position){.step = (n), .evaluation = (n)})

static struct error err;
static int64_t countdown; /* allocations that still succeed, or negative for all */

/* Stands in front of the C library's, through which all of mem_alloc goes. */
int posix_memalign(void **out, size_t align, size_t size)
{
    int (*real)(void **, size_t, size_t) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "posix_memalign");
    if (countdown == 0)
        return ENOMEM;
    if (countdown > 0)
        countdown--;
    return real(out, align, size);
}

static int enter_folder(void **state)
{
    countdown = -1;
    return scratch_enter(state);
}

static enum status write_checkpoint(void)
{
    static const float x[3] = {1.0f, 2.0f, 3.0f};
    struct checkpoint_writer *w = NULL;
    char name[16];
    enum status status;
    TRY_OUT(checkpoint_write_open(&w, "a.bin", &err));
    for (int i = 0; i < 70; i++) { /* the directory grows once */
        snprintf(name, sizeof name, "w:%d", i);
        TRY_OUT(checkpoint_write_section(
            w, &(struct checkpoint_array){name, CHECKPOINT_F32, 1, (int64_t[]){3}, x}, &err));
    }
    TRY_OUT(checkpoint_write_text(w, "config", "{}", &err));
    TRY_OUT(checkpoint_write_close(&w, &err));
out:
    checkpoint_write_abort(&w);
    return status;
}

static enum status read_checkpoint(void)
{
    struct checkpoint *c = NULL;
    char *text = NULL, digest[WEIGHTS_DIGEST_TEXT];
    enum status status;
    TRY_OUT(checkpoint_open(&c, "a.bin", &err));
    TRY_OUT(checkpoint_read_text(c, "config", 10, &text, NULL, &err));
    TRY_OUT(checkpoint_weights_digest(c, digest, &err));
    TRY_OUT(checkpoint_verify(c, &err));
out:
    mem_free(text);
    checkpoint_close(c);
    return status;
}

static enum status write_tensors(void)
{
    const struct st_tensor list[] = {{.name = "a", .type = ST_F32, .data = "1234"},
                                     {.name = "b", .type = ST_U8, .data = "1"}};
    const struct st_meta meta = {"k", "v"};
    return st_write("a.st", list, 2, &meta, 1, &err);
}

static enum status read_tensors(void)
{
    struct st_file *f = NULL;
    enum status status = st_open(&f, "a.st", &err);
    st_close(f);
    return status;
}

/* Cuts a log of three lines back to one. */
static enum status resume_log(void)
{
    struct metrics *m = NULL;
    enum status status;
    FILE *f = fopen("log", "wb");
    assert_non_null(f);
    fputs("{\"step\":1}\n{\"step\":2}\n{\"st", f);
    fclose(f);
    TRY_OUT(metrics_open_append(&m, "log", &AT(1), &err));
    TRY_OUT(metrics_write(m, "{\"step\":2}", &err));
out:
    metrics_close(m);
    return status;
}

/* Runs `call` with 0, 1, 2, ... allocations until it works. After each failure there are `entries`
 * files. */
static void starve(enum status (*call)(void), int entries)
{
    for (int64_t n = 0; n < 10000; n++) {
        countdown = n;
        enum status status = call();
        countdown = -1;
        if (status == STATUS_OK) {
            assert_true(n > 0);
            return;
        }
        assert_int_equal(status, STATUS_NOMEM);
        assert_int_equal(scratch_entries("."), entries);
    }
    fail_msg("never works");
}

static void test_checkpoint(void **state)
{
    (void)state;
    starve(write_checkpoint, 0);
    starve(write_checkpoint, 1);
    starve(read_checkpoint, 1);
}

static void test_safetensors(void **state)
{
    (void)state;
    starve(write_tensors, 0);
    starve(write_tensors, 1);
    starve(read_tensors, 1);
}

static void test_metrics(void **state)
{
    (void)state;
    starve(resume_log, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, enter_folder, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_checkpoint),
        CASE(test_safetensors),
        CASE(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
