/* What is opened for reading is a regular file, and reads are whole. */
#include "base/assert_ok.h"
#include "base/read_file.h"

#include "scratch.h"

#include <sys/stat.h>

static struct error err;

static void expect_refusal(const char *path, const char *message)
{
    int fd = 0;
    int64_t bytes;
    assert_int_equal(read_file_open(&fd, &bytes, path, "a checkpoint", &err), STATUS_NOINPUT);
    assert_int_equal(fd, -1);
    assert_string_equal(err.text, message);
}

static void only_files(void **state)
{
    (void)state;
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(mkfifo("pipe", 0666), 0);
    expect_refusal("folder", "folder: not a file but a folder; name a checkpoint in it");
    expect_refusal("pipe", "pipe: not a file"); /* and nobody waits for a writer */
    expect_refusal("nothing", "nothing: cannot open: No such file or directory");
}

static void exactly_what_is_asked_for(void **state)
{
    int fd;
    int64_t bytes;
    char got[8] = "--------";
    (void)state;
    scratch_write("file", "0123456789", 10);
    ASSERT_OK(read_file_open(&fd, &bytes, "file", "a checkpoint", &err));
    assert_int_equal(bytes, 10);
    ASSERT_OK(read_file_at(fd, "file", got, 4, 6, &err));
    assert_memory_equal(got, "6789----", 8);
    ASSERT_OK(read_file_at(fd, "file", got, 0, 99, &err));
    assert_int_equal(read_file_at(fd, "file", got, 5, 6, &err), STATUS_DATA);
    assert_string_equal(err.text, "file: ends at byte 10, cut short while it was read");
    close(fd);
    assert_int_equal(read_file_at(fd, "file", got, 1, 0, &err), STATUS_IO);
    assert_non_null(strstr(err.text, "file: cannot read at byte 0: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_files, scratch_enter, scratch_leave),
        cmocka_unit_test_setup_teardown(exactly_what_is_asked_for, scratch_enter, scratch_leave),
    };
    return cmocka_run_group_tests_name("files that are read", tests, NULL, NULL);
}
