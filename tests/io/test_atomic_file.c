/* Files appear whole or not at all: content, replacement, abort, failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/atomic_file.h"

#include "scratch.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct error err;

static void assert_content(const char *path, const char *want)
{
    char got[256] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(got, 1, sizeof got - 1, f);
    fclose(f);
    assert_int_equal(n, strlen(want));
    assert_string_equal(got, want);
}

static void test_put_and_replace(void **state)
{
    (void)state;
    assert_int_equal(atomic_file_put("a", "one", 3, &err), STATUS_OK);
    assert_content("a", "one");
    assert_int_equal(atomic_file_put("./a", "second", 6, &err), STATUS_OK);
    assert_content("a", "second");
    assert_int_equal(scratch_entries("."), 1);
    assert_int_equal(atomic_file_put("empty", NULL, 0, &err), STATUS_OK);
    assert_content("empty", "");
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat("a", &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void test_absolute_path(void **state)
{
    char path[256];
    snprintf(path, sizeof path, "%s/b", (char *)*state);
    assert_int_equal(atomic_file_put(path, "x", 1, &err), STATUS_OK);
    assert_content("b", "x");
}

static void test_old_content_until_commit(void **state)
{
    (void)state;
    struct atomic_file *f = NULL;
    assert_int_equal(atomic_file_put("a", "old", 3, &err), STATUS_OK);
    assert_int_equal(atomic_file_create(&f, "a", &err), STATUS_OK);
    assert_int_equal(atomic_file_write(f, "????", 4, &err), STATUS_OK);
    assert_int_equal(atomic_file_write(f, "tail", 4, &err), STATUS_OK);
    assert_int_equal(atomic_file_suspend(f, &err), STATUS_OK);
    assert_int_equal(atomic_file_rewrite(f, "head", 4, 0, &err), STATUS_OK);
    assert_int_equal(atomic_file_write(f, "!", 1, &err), STATUS_OK);
    assert_int_equal(atomic_file_suspend(f, &err), STATUS_OK);
    assert_int_equal(atomic_file_sync(f, &err), STATUS_OK);
    assert_int_equal(atomic_file_size(f), 9);
    assert_string_equal(atomic_file_path(f), "a");
    assert_content("a", "old");
    assert_int_equal(atomic_file_commit(&f, &err), STATUS_OK);
    assert_null(f);
    assert_content("a", "headtail!");
}

static void test_abort_leaves_nothing(void **state)
{
    (void)state;
    struct atomic_file *f = NULL;
    assert_int_equal(atomic_file_put("a", "old", 3, &err), STATUS_OK);
    assert_int_equal(atomic_file_create(&f, "a", &err), STATUS_OK);
    assert_int_equal(atomic_file_write(f, "new", 3, &err), STATUS_OK);
    atomic_file_abort(&f);
    assert_null(f);
    atomic_file_abort(&f);
    assert_content("a", "old");
    assert_int_equal(scratch_entries("."), 1);
}

static void test_two_writers_do_not_meet(void **state)
{
    (void)state;
    struct atomic_file *f = NULL, *g = NULL;
    assert_int_equal(atomic_file_create(&f, "a", &err), STATUS_OK);
    assert_int_equal(atomic_file_create(&g, "a", &err), STATUS_OK);
    assert_int_equal(atomic_file_write(f, "first", 5, &err), STATUS_OK);
    assert_int_equal(atomic_file_write(g, "last", 4, &err), STATUS_OK);
    assert_int_equal(atomic_file_commit(&f, &err), STATUS_OK);
    assert_content("a", "first");
    assert_int_equal(atomic_file_commit(&g, &err), STATUS_OK);
    assert_content("a", "last");
}

static void test_errors_name_the_file(void **state)
{
    (void)state;
    assert_int_equal(atomic_file_put("no/such/a", "x", 1, &err), STATUS_CANTCREATE);
    assert_non_null(strstr(err.text, "no/such/a: "));
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(atomic_file_put("folder", "x", 1, &err), STATUS_CANTCREATE);
    assert_non_null(strstr(err.text, "folder: cannot replace"));
    assert_int_equal(scratch_entries("."), 1);
    assert_int_equal(atomic_folder_sync("none", &err), STATUS_IO);
    assert_non_null(strstr(err.text, "none"));
}

static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit old, low;
    static char block[8192];
    assert_int_equal(atomic_file_put("a", "old", 3, &err), STATUS_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    enum status status = atomic_file_put("a", block, sizeof block, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(err.text, "a: "));
    assert_non_null(strstr(err.text, "after 4096 bytes"));
    assert_non_null(strstr(err.text, "free space"));
    assert_content("a", "old");
    assert_int_equal(scratch_entries("."), 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_put_and_replace),
        CASE(test_absolute_path),
        CASE(test_old_content_until_commit),
        CASE(test_abort_leaves_nothing),
        CASE(test_two_writers_do_not_meet),
        CASE(test_errors_name_the_file),
        CASE(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
