/* Files appear whole or not at all. Content, replacement, abort and failures are tested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic_file.h"

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

/* What is held back for whole blocks arrives, in order, on this file system and in memory, which
 * may not know writes past the cache. */
static void test_stream(void **state)
{
    static const char *const names[] = {"a", "/dev/shm/deq-test-stream"};
    static unsigned char want[3 * 1048576 + 4097], got[sizeof want + 1];
    static const size_t steps[] = {1, 4096, 7777, 1048576, 1500001, sizeof want};
    (void)state;
    for (size_t i = 0; i < sizeof want; i++)
        want[i] = (unsigned char)(i * 2654435761u >> 13);
    for (int k = 0; k < 12; k++) {
        const char *path = names[k % 2];
        size_t step = steps[k / 2], at = 0;
        struct atomic_file *f = NULL;
        if (step == 1)
            at = sizeof want - 1000; /* the rest of it, byte by byte */
        size_t size = sizeof want - at, n;
        if (atomic_file_create(&f, path, &err) != STATUS_OK)
            continue; /* no /dev/shm */
        assert_int_equal(atomic_file_stream(f, &err), STATUS_OK);
        for (; at < sizeof want; at += n) {
            n = sizeof want - at < step ? sizeof want - at : step;
            assert_int_equal(atomic_file_write(f, want + at, n, &err), STATUS_OK);
        }
        assert_int_equal(atomic_file_size(f), size);
        /* the stream's end; then as ever */
        assert_int_equal(atomic_file_rewrite(f, "head", 4, 0, &err), STATUS_OK);
        assert_int_equal(atomic_file_write(f, "tail", 4, &err), STATUS_OK);
        assert_int_equal(atomic_file_commit(&f, &err), STATUS_OK);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        assert_int_equal(fread(got, 1, sizeof got, file),
                         size + 4 < sizeof got ? size + 4 : sizeof got);
        fclose(file);
        unlink(path);
        assert_memory_equal(got, "head", 4);
        assert_memory_equal(got + 4, want + sizeof want - size + 4, size - 4);
        assert_int_equal(got[size], 't');
    }
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
        CASE(test_put_and_replace),          CASE(test_absolute_path),
        CASE(test_old_content_until_commit), CASE(test_stream),
        CASE(test_abort_leaves_nothing),     CASE(test_two_writers_do_not_meet),
        CASE(test_errors_name_the_file),     CASE(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
