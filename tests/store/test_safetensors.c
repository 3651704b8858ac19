/* Round trips of safetensors files, what a header may not say, damage in every byte, and the
 * reference files in $DEQ_SHARED/reference where they are present. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "store/safetensors.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error err;

/* A file with that header and `size` data bytes 0, 1, 2, ... */
static void put_file(const char *path, const char *header, size_t size)
{
    static uint8_t file[4096];
    uint64_t length = strlen(header);
    assert_true(8 + length + size <= sizeof file);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < size; i++)
        file[8 + length + i] = (uint8_t)i;
    scratch_write(path, file, 8 + length + size);
}

static void assert_refused(const char *path, const char *message)
{
    struct st_file *f = (void *)&err; /* must become NULL */
    enum status status = st_open(&f, path, &err);
    if (status != STATUS_DATA)
        fail_msg("%s: status %d (want: %s)", path, (int)status, message);
    assert_null(f);
    assert_int_equal(strncmp(err.text, path, strlen(path)), 0);
    if (strstr(err.text, message) == NULL)
        fail_msg("says \"%s\", want \"%s\"", err.text, message);
}

static void write_sample(void)
{
    static const uint8_t flags[3] = {1, 0, 7};
    static const float f32[6] = {1.5f, -2.0f, 0.0f, 3.0f, 1e30f, -0.5f};
    static const double f64[2] = {1e300, 0.1};
    static const int64_t i64[1] = {-(1LL << 53)};
    static const int32_t i32[4] = {1, -2, INT32_MIN, 4};
    const struct st_tensor list[] = {
        {.name = "flags", .type = ST_BOOL, .ndim = 1, .dim = {3}, .data = flags},
        {.name = "bytes", .type = ST_U8, .ndim = 1, .dim = {3}, .data = flags},
        {.name = "w:\"a\" \xc3\xa9", .type = ST_F32, .ndim = 3, .dim = {1, 2, 3}, .data = f32},
        {.name = "none", .type = ST_F64, .ndim = 2, .dim = {0, 5}, .data = f64},
        {.name = "d", .type = ST_F64, .ndim = 1, .dim = {2}, .data = f64},
        {.name = "scalar", .type = ST_I64, .ndim = 0, .data = i64},
        {.name = "ids", .type = ST_I32, .ndim = 1, .dim = {4}, .data = i32},
    };
    const struct st_meta meta[] = {{"kind", "deq"}, {"config", "{\"a\": [1]}"}};
    ASSERT_OK(st_write("a.st", list, 7, meta, 2, &err));
}

static void test_round_trip(void **state)
{
    (void)state;
    struct st_file *f = NULL;
    write_sample();
    ASSERT_OK(st_open(&f, "a.st", &err));
    assert_int_equal(st_count(f), 7);
    /* larger elements first, otherwise as given */
    static const char *const order[] = {"none", "d",     "scalar", "w:\"a\" \xc3\xa9",
                                        "ids",  "flags", "bytes"};
    for (int i = 0; i < 7; i++) {
        assert_string_equal(st_tensor(f, i)->name, order[i]);
        assert_ptr_equal(st_find(f, order[i]), st_tensor(f, i));
        assert_int_equal((uintptr_t)st_tensor(f, i)->data % 64, 0);
    }
    assert_null(st_find(f, "nothing"));
    const struct st_tensor *t = st_find(f, order[3]);
    assert_int_equal(t->type, ST_F32);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->dim[0], 1);
    assert_int_equal(t->dim[2], 3);
    assert_int_equal(t->count, 6);
    assert_int_equal(t->bytes, 24);
    assert_true(st_value(t, 5) == -0.5);
    assert_int_equal(st_find(f, "none")->count, 0);
    assert_int_equal(st_find(f, "scalar")->ndim, 0);
    assert_int_equal(st_find(f, "scalar")->count, 1);
    assert_true(st_value(st_find(f, "scalar"), 0) == -9007199254740992.0);
    assert_true(st_value(st_find(f, "d"), 0) == 1e300);
    assert_true(st_value(st_find(f, "ids"), 2) == -2147483648.0);
    assert_true(st_value(st_find(f, "flags"), 2) == 1.0);
    assert_true(st_value(st_find(f, "bytes"), 2) == 7.0);
    assert_string_equal(st_meta(f, "config"), "{\"a\": [1]}");
    assert_string_equal(st_meta(f, "kind"), "deq");
    assert_null(st_meta(f, "Kind"));
    st_close(f);
}

static void test_halves(void **state)
{
    static const uint16_t f16[8] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x3555, 0x7c00, 0x7e00};
    static const double values[6] = {1, -2, 0x1p-24, -1023 * 0x1p-24, 65504, 0.333251953125};
    static const uint16_t bf16[3] = {0x3f80, 0xc2f7, 0x7f7f};
    const struct st_tensor list[] = {
        {.name = "byte", .type = ST_U8, .ndim = 0, .data = "x"},
        {.name = "half", .type = ST_F16, .ndim = 1, .dim = {8}, .data = f16},
        {.name = "brain", .type = ST_BF16, .ndim = 1, .dim = {3}, .data = bf16},
    };
    struct st_file *f = NULL;
    (void)state;
    ASSERT_OK(st_write("h.st", list, 3, NULL, 0, &err));
    ASSERT_OK(st_open(&f, "h.st", &err));
    assert_string_equal(st_tensor(f, 2)->name, "byte");
    const struct st_tensor *half = st_find(f, "half"), *brain = st_find(f, "brain");
    assert_int_equal(half->bytes, 16);
    assert_string_equal(st_type_name(brain->type), "BF16");
    for (int i = 0; i < 6; i++)
        assert_true(st_value(half, i) == values[i]);
    assert_true(st_value(half, 6) == INFINITY);
    assert_true(isnan(st_value(half, 7)));
    assert_true(st_value(brain, 0) == 1);
    assert_true(st_value(brain, 1) == -123.5);
    assert_true(st_value(brain, 2) == 0x1.fep127);
    st_close(f);
}

static void test_writer_refuses_names(void **state)
{
    (void)state;
    struct st_tensor list[] = {{.name = "a", .type = ST_U8, .data = "x"},
                               {.name = "a", .type = ST_U8, .data = "y"}};
    const struct st_meta meta[] = {{"k", "1"}, {"k", "2"}};
    assert_int_equal(st_write("b.st", list, 2, NULL, 0, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "b.st: the name \"a\" is given twice"));
    list[1].name = "";
    assert_int_equal(st_write("b.st", list, 2, NULL, 0, &err), STATUS_DATA);
    list[1].name = "__metadata__";
    assert_int_equal(st_write("b.st", list, 2, NULL, 0, &err), STATUS_DATA);
    list[1].name = "b";
    assert_int_equal(st_write("b.st", list, 2, meta, 2, &err), STATUS_DATA);
    assert_int_not_equal(access("b.st", F_OK), 0);
    ASSERT_OK(st_write("b.st", list, 2, NULL, 0, &err));
    struct st_file *f = NULL;
    ASSERT_OK(st_open(&f, "b.st", &err));
    assert_null(st_meta(f, "k"));
    st_close(f);
}

static void test_empty_and_misaligned(void **state)
{
    (void)state;
    struct st_file *f = NULL;
    put_file("e.st", "{}", 0);
    ASSERT_OK(st_open(&f, "e.st", &err));
    assert_int_equal(st_count(f), 0);
    st_close(f);
    /* the format allows odd places; the reader gives aligned numbers all the same */
    put_file("m.st",
             "{\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[1,9]},"
             "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}} ",
             9);
    ASSERT_OK(st_open(&f, "m.st", &err));
    const struct st_tensor *t = st_find(f, "b");
    assert_int_equal((uintptr_t)t->data % 64, 0);
    assert_memory_equal(t->data, "\1\2\3\4\5\6\7\10", 8);
    st_close(f);
}

#define ENTRY(type, shape, offsets) \
    "{\"t\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_headers_that_lie(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t size;
        const char *message;
    } bad[] = {
        {"[]", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"{", 0, "bad:1:"},
        {"{} x", 0, "bad:1:"},
        {"{}", 1, "1 bytes after the last tensor"},
        {ENTRY("I16", "[1]", "[0,2]"), 2,
         "want F64, F32, F16, BF16, I64, I32, U8 or BOOL, got I16"},
        {ENTRY("f32", "[1]", "[0,4]"), 4, "got f32"},
        {ENTRY("F32", "[1.5]", "[0,6]"), 6, "bad:1:"},
        {ENTRY("F32", "[\"1\"]", "[0,4]"), 4, "bad:1:"},
        {ENTRY("F32", "[-1]", "[0,4]"), 4, "want sizes >= 0, got -1"},
        {ENTRY("F32", "{}", "[0,4]"), 4, "shape: want an array"},
        {ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions"},
        {ENTRY("F32", "[4294967296,4294967296]", "[0,4]"), 4, "more bytes than any file"},
        {ENTRY("F32", "[0,4294967296,4294967296]", "[0,0]"), 0, "more bytes than any file"},
        {ENTRY("F32", "[2]", "[0,4]"), 4, "4 bytes, dtype and shape need 8"},
        {ENTRY("F32", "[1]", "[4,0]"), 4, "[4, 0) is not within the 4 data bytes"},
        {ENTRY("F32", "[1]", "[-4,0]"), 4, "not within"},
        {ENTRY("F32", "[2]", "[0,8]"), 7, "[0, 8) is not within the 7 data bytes"},
        {ENTRY("F32", "[1]", "[0,4,4]"), 4, "want 2 numbers, got 3"},
        {ENTRY("F32", "[1]", "[0,4.5]"), 4, "bad:1:"},
        {ENTRY("F32", "[1]", "[0,9007199254740993]"), 4, "bad:1:"},
        {ENTRY("F32", "[1]", "[1,5]"), 5, "leaves a hole after 0"},
        {ENTRY("F32", "[1]", "[0,4]"), 5, "1 bytes after the last tensor"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"u\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "inside the tensor that ends at 2"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         4, "t: given twice"},
        {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
         "given twice"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, "data_offsets is missing"},
        {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,2]}}", 2, "shape is missing"},
        {"{\"t\":{\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "dtype"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"x\":1}}", 2, "got x"},
        {"{\"t\":[]}", 0, "want an object, got an array"},
        {"{\"__metadata__\":[]}", 0, "__metadata__: want an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "bad:1:"},
    };
    put_file("bad", ENTRY("F32", "[1]", "[0,4]"), 4);
    struct st_file *f = NULL;
    ASSERT_OK(st_open(&f, "bad", &err));
    st_close(f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file("bad", bad[i].header, bad[i].size);
        assert_refused("bad", bad[i].message);
    }
}

static void test_not_a_file(void **state)
{
    (void)state;
    struct st_file *f = NULL;
    assert_int_equal(st_open(&f, "none", &err), STATUS_NOINPUT);
    assert_non_null(strstr(err.text, "none: cannot open"));
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(st_open(&f, "folder", &err), STATUS_NOINPUT);
    scratch_write("empty", "", 0);
    assert_refused("empty", "0 bytes");
    scratch_write("foreign", "#!/bin/sh\necho hello world\n", 27);
    assert_refused("foreign", "not a safetensors file");
    scratch_write("huge", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_refused("huge", "its header would be");
    scratch_write("zero", "\0\0\0\0\0\0\0\0", 8);
    assert_refused("zero", "does not begin with '{'");
}

/* Every prefix is refused. A flipped byte is refused or, as the format has no checksum, gives a
 * file whose tensors can all be read. */
static void test_every_length_and_byte(void **state)
{
    (void)state;
    static uint8_t file[4096];
    write_sample();
    FILE *in = fopen("a.st", "rb");
    assert_non_null(in);
    size_t size = fread(file, 1, sizeof file, in);
    fclose(in);
    assert_true(size > 200 && size < sizeof file);
    for (size_t n = 0; n < size; n++) {
        scratch_write("cut", file, n);
        assert_refused("cut", "");
    }
    double sum = 0.0;
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            struct st_file *f = NULL;
            file[i] ^= (uint8_t)(1u << bit);
            scratch_write("flipped", file, size);
            if (st_open(&f, "flipped", &err) == STATUS_OK)
                for (int64_t k = 0; k < st_count(f); k++)
                    for (int64_t j = 0; j < st_tensor(f, k)->count; j++)
                        sum += st_value(st_tensor(f, k), j);
            else
                assert_int_equal(err.status, STATUS_DATA);
            st_close(f);
            file[i] ^= (uint8_t)(1u << bit);
        }
    assert_true(sum != 0.0);
}

static void test_reference_files(void **state)
{
    (void)state;
    char folder[1024];
    const char *shared = getenv("DEQ_SHARED");
    const char *top = getenv("DEQ_TEST_TOP");
    snprintf(folder, sizeof folder, "%s%s%s/reference",
             shared != NULL && shared[0] == '/' ? "" : top,
             shared != NULL && shared[0] == '/' ? "" : "/", shared != NULL ? shared : "../shared");
    DIR *d = opendir(folder);
    if (d == NULL) {
        print_message("skipped: no folder %s; set DEQ_SHARED\n", folder);
        skip();
    }
    int files = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[2048];
        struct st_file *f = NULL;
        if (strstr(e->d_name, ".safetensors") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        ASSERT_OK(st_open(&f, path, &err));
        assert_string_equal(st_meta(f, "deq_dump"), "1");
        assert_non_null(st_meta(f, "kind"));
        assert_true(st_count(f) > 0);
        for (int64_t i = 0; i < st_count(f); i++)
            for (int64_t k = 0; k < st_tensor(f, i)->count; k++)
                assert_true(isfinite(st_value(st_tensor(f, i), k)));
        st_close(f);
        files++;
    }
    closedir(d);
    assert_true(files > 0);
}

int main(void)
{
    /* the tests change folder; a relative DEQ_SHARED is meant from here */
    char top[1024];
    if (getcwd(top, sizeof top) == NULL || setenv("DEQ_TEST_TOP", top, 1) != 0)
        return 1;
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_round_trip),
        CASE(test_halves),
        CASE(test_writer_refuses_names),
        CASE(test_empty_and_misaligned),
        CASE(test_headers_that_lie),
        CASE(test_not_a_file),
        CASE(test_every_length_and_byte),
        CASE(test_reference_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
