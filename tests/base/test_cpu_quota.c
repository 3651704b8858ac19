/* Quotas of processor time, in the files of both versions of control groups. */
#include "base/assert_ok.h"
#include "base/cpu_quota.h"

#include "scratch.h"

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_version_2(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p v2/job/step"), 0);
    put("groups", "0::/job/step\n");
    assert_true(cpu_quota("groups", "v2") == 0);
    put("v2/job/step/cpu.max", "max 100000\n");
    assert_true(cpu_quota("groups", "v2") == 0);
    put("v2/job/cpu.max", "150000 100000\n"); /* of the group above */
    assert_true(cpu_quota("groups", "v2") == 1.5);
    put("v2/job/step/cpu.max", "20000 40000\n");
    assert_true(cpu_quota("groups", "v2") == 0.5);
}

static void test_version_1(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p v1/cpu,cpuacct/job v1/memory/job"), 0);
    put("groups", "5:memory:/job\n4:cpuset:/job\n3:cpu,cpuacct:/job\n0::/\n");
    put("v1/memory/job/cpu.cfs_quota_us", "1\n"); /* not of this controller */
    put("v1/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    put("v1/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    assert_true(cpu_quota("groups", "v1") == 0);
    put("v1/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
    assert_true(cpu_quota("groups", "v1") == 3);
}

/* A container sees the path that the host knows, but its own files lie at the root. */
static void test_container(void **state)
{
    (void)state;
    assert_int_equal(system("mkdir -p c"), 0);
    put("groups", "0::/../../kubepods/pod7\n");
    put("c/cpu.max", "250000 100000\n");
    assert_true(cpu_quota("groups", "c") == 2.5);
    assert_true(cpu_quota("missing", "c") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_container),
    };
    return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
