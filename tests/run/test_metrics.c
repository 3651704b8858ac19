/* In the log of a run lines arrive whole, and a resumed run logs each step once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/scratch.h"
#include "run/metrics.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A run that stands at this step, evaluated there too. */
#define AT(n) ((const struct metrics_position){.step = (n), .evaluation = (n)})

static struct error err;

#define ASSERT_OK(call) assert_ok((call), #call)
static void assert_ok(enum status status, const char *call)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", call, err.text);
}

static void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

/* Takes the checks, which must be right, out of the lines of a log. */
static void strip_checks(char *text)
{
    char *to = text;
    for (char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        char *next = line + len + (line[len] != '\0');
        assert_int_equal(line_check(line, len), LINE_CHECK_RIGHT);
        memmove(to, line, len - LINE_CHECK_BYTES - 1);
        to += len - LINE_CHECK_BYTES - 1;
        *to++ = '}';
        if (next != line + len)
            *to++ = '\n';
        line = next;
    }
    *to = '\0';
}

static void assert_text(const char *path, const char *want)
{
    char got[4096] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    fclose(f);
    assert_int_equal(strlen(got), n);
    strip_checks(got);
    assert_string_equal(got, want);
}

#define LINE(step) "{\"step\": " #step ", \"loss\": 1.5}\n"

/* Opens `before` at `last_step` and expects `after` and the three counts. */
static void check(const char *before, int64_t last_step, const char *after, int64_t kept,
                  int64_t later, int64_t unreadable)
{
    struct metrics *m = NULL;
    put_text("log", before);
    ASSERT_OK(metrics_open_append(&m, "log", &AT(last_step), &err));
    assert_text("log", after);
    assert_int_equal(metrics_found(m).kept, kept);
    assert_int_equal(metrics_found(m).later, later);
    assert_int_equal(metrics_found(m).unreadable, unreadable);
    metrics_close(m);
}

/* Starts have no step. They stay, and are not taken for lines that are missing. */
static void test_lines_without_a_step_are_no_missing_ones(void **state)
{
    const struct metrics_position at = {.step = 3, .evaluation = 3, .lines = 3};
    struct metrics *m = NULL;
    (void)state;
    put_text("log", "{\"event\":\"start\"}\n" LINE(1) "{\"event\":\"start\"}\n" LINE(3) LINE(4));
    ASSERT_OK(metrics_open_append(&m, "log", &at, &err));
    assert_int_equal(metrics_found(m).kept, 4);
    assert_int_equal(metrics_found(m).with_step, 2);
    assert_int_equal(metrics_found(m).missing, 1);
    assert_int_equal(metrics_found(m).later, 1);
    metrics_close(m);
}

static void test_append(void **state)
{
    (void)state;
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open_append(&m, "log", &AT(0), &err));
    ASSERT_OK(metrics_write(m, "{\"step\":1}", &err));
    assert_text("log", "{\"step\":1}\n"); /* at once, without a flush */
    ASSERT_OK(metrics_write(m, "{\"step\":2,\"a\":\"\\n\"}", &err));
    ASSERT_OK(metrics_sync(m, &err));
    metrics_close(m);
    ASSERT_OK(metrics_open_append(&m, "log", &AT(2), &err));
    ASSERT_OK(metrics_write(m, "{\"step\":3}", &err));
    metrics_close(m);
    metrics_close(NULL);
    assert_text("log", "{\"step\":1}\n{\"step\":2,\"a\":\"\\n\"}\n{\"step\":3}\n");
}

static void test_resume_drops_later_steps(void **state)
{
    (void)state;
    check("", 5, "", 0, 0, 0);
    check(LINE(1) LINE(2) LINE(3), 3, LINE(1) LINE(2) LINE(3), 3, 0, 0);
    check(LINE(1) LINE(2) LINE(3), 2, LINE(1) LINE(2), 2, 1, 0);
    check(LINE(1) LINE(2) LINE(3), 0, "", 0, 3, 0);
    /* an evaluation at the step of the checkpoint stays; order does not matter */
    check(LINE(2) "{\"step\": 2, \"valid\": 3}\n" LINE(9) LINE(1), 2,
          LINE(2) "{\"step\": 2, \"valid\": 3}\n" LINE(1), 3, 1, 0);
    check("{\"event\": \"start\"}\n" LINE(4), 2, "{\"event\": \"start\"}\n", 1, 1, 0);
}

static void test_torn_and_foreign_lines(void **state)
{
    (void)state;
    const char *last = LINE(2);
    char text[256], want[256];
    /* torn at every length; whole but for its newline, it counts */
    for (size_t n = 0; n < strlen(last); n++) {
        bool whole = n == strlen(last) - 1;
        snprintf(text, sizeof text, "%s%.*s", LINE(1), (int)n, last);
        snprintf(want, sizeof want, "%s%s", LINE(1), whole ? last : "");
        check(text, 2, want, whole ? 2 : 1, 0, !whole && n > 0);
    }
    check(LINE(1) "\n" LINE(2), 2, LINE(1) LINE(2), 2, 0, 1);
    check(LINE(1) "{\"step\": 2\n{\"step\": 1.5}\n{\"step\": \"2\"}\n[2]\n7\n" LINE(2), 2,
          LINE(1) LINE(2), 2, 0, 5);
    check("{\"step\": 1} {\"step\": 2}\n", 2, "", 0, 0, 1);
}

/* Any changed bit in any line of a log of two takes that line out, and no other. */
static void test_a_changed_bit_is_noticed(void **state)
{
    (void)state;
    struct metrics *m = NULL;
    char text[256] = {0};
    ASSERT_OK(metrics_open_append(&m, "log", &AT(0), &err));
    ASSERT_OK(metrics_write(m, "{\"step\":1,\"loss\":2.5}", &err));
    ASSERT_OK(metrics_write(m, "{\"step\":2,\"loss\":3.5}", &err));
    metrics_close(m);
    FILE *f = fopen("log", "rb");
    assert_non_null(f);
    size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    size_t first = strcspn(text, "\n");
    for (size_t bit = 0; bit < 8 * size; bit++) {
        char byte = text[bit / 8];
        if (byte == '\n' && bit / 8 == size - 1)
            continue; /* the last line's end is no part of it */
        text[bit / 8] = (char)(byte ^ 1 << bit % 8);
        f = fopen("log", "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, size, f), size);
        fclose(f);
        ASSERT_OK(metrics_open_append(&m, "log", &AT(2), &err));
        struct metrics_found found = metrics_found(m);
        metrics_close(m);
        assert_true(found.unreadable >= 1);
        assert_int_equal(found.kept, byte == '\n' ? 0 : 1); /* two lines in one: both are lost */
        const char *left =
            bit / 8 < first ? "{\"step\":2,\"loss\":3.5}\n" : "{\"step\":1,\"loss\":2.5}\n";
        assert_text("log", byte == '\n' ? "" : left);
        text[bit / 8] = byte;
    }
}

static void test_lines_without_a_check_in_a_checked_log(void **state)
{
    (void)state;
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open_append(&m, "log", &AT(0), &err));
    ASSERT_OK(metrics_write(m, "{\"step\":1}", &err));
    metrics_close(m);
    FILE *f = fopen("log", "ab");
    assert_non_null(f);
    fputs("{\"step\":2}\n", f);
    fclose(f);
    ASSERT_OK(metrics_open_append(&m, "log", &AT(2), &err));
    assert_int_equal(metrics_found(m).unreadable, 1);
    metrics_close(m);
    assert_text("log", "{\"step\":1}\n");
    /* what an older program cannot have written */
    check("{\"step\":1,\"check\":\"x\"}\n{}\n" LINE(2) "{\"a\":1} \n", 2, LINE(2) "{\"a\":1}\n", 2,
          0, 2);
}

static void test_zero_bytes_of_a_crash(void **state)
{
    (void)state;
    FILE *f = fopen("log", "wb");
    assert_non_null(f);
    fputs(LINE(1), f);
    for (int i = 0; i < 5000; i++)
        fputc(0, f);
    fclose(f);
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open_append(&m, "log", &AT(7), &err));
    ASSERT_OK(metrics_write(m, "{\"step\":8}", &err));
    metrics_close(m);
    assert_text("log", LINE(1) "{\"step\":8}\n");
}

static void test_endless_line(void **state)
{
    (void)state;
    FILE *f = fopen("log", "wb");
    assert_non_null(f);
    fputs(LINE(1), f);
    /* its first bytes alone would be an object */
    fputs("{}", f);
    for (int i = 0; i < METRICS_LINE_MAX + 10; i++)
        fputc(' ', f);
    fputs("\n" LINE(2), f);
    fclose(f);
    struct metrics *m = NULL;
    ASSERT_OK(metrics_open_append(&m, "log", &AT(2), &err));
    assert_int_equal(metrics_found(m).unreadable, 1);
    metrics_close(m);
    assert_text("log", LINE(1) LINE(2));
}

static void test_unchanged_log_is_not_rewritten(void **state)
{
    (void)state;
    struct stat before, after;
    struct metrics *m = NULL;
    put_text("log", LINE(1));
    ASSERT_OK(metrics_open_append(&m, "log", &AT(1), &err)); /* adds the check */
    metrics_close(m);
    assert_int_equal(stat("log", &before), 0);
    ASSERT_OK(metrics_open_append(&m, "log", &AT(1), &err));
    metrics_close(m);
    assert_int_equal(stat("log", &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
}

static void test_errors(void **state)
{
    (void)state;
    struct metrics *m = NULL;
    assert_int_equal(metrics_open_append(&m, "no/log", &AT(0), &err), STATUS_CANTCREATE);
    assert_null(m);
    assert_non_null(strstr(err.text, "no/log: cannot open: "));
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_not_equal(metrics_open_append(&m, "folder", &AT(0), &err), STATUS_OK);
    assert_null(m);
}

static void test_full_disk_leaves_whole_lines(void **state)
{
    (void)state;
    static char line[6000];
    struct rlimit old, low;
    struct metrics *m = NULL;
    memset(line, ' ', sizeof line - 1);
    memcpy(line, "{\"a\":1", 6);
    line[sizeof line - 2] = '}';
    put_text("log", LINE(1));
    ASSERT_OK(metrics_open_append(&m, "log", &AT(1), &err));
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    enum status status = metrics_write(m, line, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(err.text, "log: cannot write"));
    assert_text("log", LINE(1));
    ASSERT_OK(metrics_write(m, "{\"step\": 2, \"loss\": 1.5}", &err));
    metrics_close(m);
    assert_text("log", LINE(1) LINE(2));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_lines_without_a_step_are_no_missing_ones),
        CASE(test_append),
        CASE(test_resume_drops_later_steps),
        CASE(test_torn_and_foreign_lines),
        CASE(test_a_changed_bit_is_noticed),
        CASE(test_lines_without_a_check_in_a_checked_log),
        CASE(test_zero_bytes_of_a_crash),
        CASE(test_endless_line),
        CASE(test_unchanged_log_is_not_rewritten),
        CASE(test_errors),
        CASE(test_full_disk_leaves_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
