/* What is written to a checkpoint is read in whole, in pieces and as a digest. A failed write
 * leaves the old file. Damaged files are in test_checkpoint_damage.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/scratch.h"
#include "store/checkpoint.h"

#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 65536, MOST = 3 * CHUNK + 7 };

static struct error err;

static void *make(size_t bytes)
{
    void *p = NULL;
    ASSERT_OK(mem_alloc(&p, bytes, 1, &err));
    return p;
}

/* Writes a section of one dimension. */
static void write_array(struct checkpoint_writer *w, const char *name, enum checkpoint_type type,
                        int64_t count, const void *data)
{
    const struct checkpoint_array a = {name, type, 1, &count, data};
    ASSERT_OK(checkpoint_write_section(w, &a, &err));
}

enum content { ZEROS, NOISE, GAUSS, RAMP, CONTENTS };

/* `count` elements of that type and kind of content. */
static void *fill(enum checkpoint_type type, enum content content, int64_t count)
{
    size_t size = checkpoint_type_size(type);
    const struct rng_key key = {7, (uint64_t)content};
    uint8_t *p = make((size_t)count * size);
    for (int64_t i = 0; i < count; i++) {
        double real = content == GAUSS  ? 0.02 * rng_normal(key, (uint64_t)i)
                      : content == RAMP ? (double)i
                                        : 0.0;
        float single = (float)real;
        int64_t whole = (int64_t)(1000.0 * real);
        uint64_t noise =
            (uint64_t)rng_word(key, (uint64_t)(2 * i)) << 32 | rng_word(key, (uint64_t)(2 * i + 1));
        uint8_t byte = (uint8_t)whole;
        const void *from = content == NOISE         ? (void *)&noise
                           : type == CHECKPOINT_U8  ? (void *)&byte
                           : type == CHECKPOINT_F32 ? (void *)&single
                           : type == CHECKPOINT_F64 ? (void *)&real
                                                    : (void *)&whole;
        memcpy(p + (size_t)i * size, from, size);
    }
    return p;
}

static void round_trip(bool plain)
{
    static const int64_t counts[] = {0, 1, 2, 255, CHUNK - 1, CHUNK, CHUNK + 1, MOST};
    struct checkpoint_writer *w = NULL;
    struct checkpoint *c = NULL;
    char name[64];
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    if (plain)
        checkpoint_write_plain(w);
    for (enum checkpoint_type t = CHECKPOINT_U8; t <= CHECKPOINT_I64; t++)
        for (enum content k = ZEROS; k < CONTENTS; k++)
            for (int i = 0; i < 8; i++) {
                void *data = fill(t, k, counts[i]);
                snprintf(name, sizeof name, "%d/%d/%d", (int)t, (int)k, i);
                write_array(w, name, t, counts[i], data);
                mem_free(data);
            }
    ASSERT_OK(checkpoint_write_close(&w, &err));
    assert_null(w);
    ASSERT_OK(checkpoint_open(&c, "a.bin", &err));
    assert_int_equal(checkpoint_count(c), 4 * CONTENTS * 8);
    ASSERT_OK(checkpoint_verify(c, &err));
    for (enum checkpoint_type t = CHECKPOINT_U8; t <= CHECKPOINT_I64; t++)
        for (enum content k = ZEROS; k < CONTENTS; k++)
            for (int i = 0; i < 8; i++) {
                size_t size = (size_t)counts[i] * checkpoint_type_size(t);
                uint8_t *want = fill(t, k, counts[i]), *got = make(size + 1);
                snprintf(name, sizeof name, "%d/%d/%d", (int)t, (int)k, i);
                got[size] = 0x5a;
                ASSERT_OK(checkpoint_read_section(c, name, got, size, &err));
                assert_true(memcmp(got, want, size) == 0);
                assert_int_equal(got[size], 0x5a);
                const struct checkpoint_section *s = checkpoint_find(c, name);
                assert_true(s->type == t && s->ndim == 1 && s->dim[0] == counts[i]);
                mem_free(got);
                mem_free(want);
            }
    checkpoint_close(c);
}

static void test_round_trip(void **state)
{
    (void)state;
    round_trip(false);
}

static void test_round_trip_plain(void **state)
{
    (void)state;
    round_trip(true);
}

static void test_directory(void **state)
{
    (void)state;
    static const int64_t dims[] = {2, 3, 4, 5};
    static const float data[120] = {1.0f, NAN, -0.0f};
    struct checkpoint_writer *w = NULL;
    struct checkpoint *c = NULL;
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    ASSERT_OK(checkpoint_write_section(
        w, &(struct checkpoint_array){"zeta", CHECKPOINT_F32, 4, dims, data}, &err));
    ASSERT_OK(checkpoint_write_section(
        w, &(struct checkpoint_array){"alpha", CHECKPOINT_I64, 0, NULL, &(int64_t){-5}}, &err));
    ASSERT_OK(checkpoint_write_text(w, "config", "{\"a\": 1}", &err));
    ASSERT_OK(checkpoint_write_text(w, "empty", "", &err));
    ASSERT_OK(checkpoint_write_close(&w, &err));
    ASSERT_OK(checkpoint_open(&c, "a.bin", &err));
    const struct checkpoint_section *s = checkpoint_section(c, 0);
    assert_string_equal(s->name, "zeta");
    assert_int_equal(s->type, CHECKPOINT_F32);
    assert_int_equal(s->ndim, 4);
    assert_memory_equal(s->dim, dims, sizeof dims);
    assert_int_equal(s->size, sizeof data);
    assert_ptr_equal(checkpoint_find(c, "zeta"), s);
    assert_ptr_equal(checkpoint_find(c, "alpha"), checkpoint_section(c, 1));
    assert_null(checkpoint_find(c, "alph"));
    assert_null(checkpoint_find(c, ""));
    assert_string_equal(checkpoint_path(c), "a.bin");
    struct stat st;
    assert_int_equal(stat("a.bin", &st), 0);
    assert_int_equal(checkpoint_bytes(c), st.st_size);
    int64_t number = 0;
    ASSERT_OK(checkpoint_read_section(c, "alpha", &number, sizeof number, &err));
    assert_int_equal(number, -5);
    char *text = NULL;
    size_t len = 0;
    ASSERT_OK(checkpoint_read_text(c, "config", 8, &text, &len, &err));
    assert_string_equal(text, "{\"a\": 1}");
    assert_int_equal(len, 8);
    mem_free(text);
    ASSERT_OK(checkpoint_read_text(c, "empty", 0, &text, NULL, &err));
    assert_string_equal(text, "");
    mem_free(text);
    /* what does not fit is said */
    float buf[120];
    assert_int_equal(checkpoint_read_text(c, "config", 7, &text, NULL, &err), STATUS_DATA);
    assert_null(text);
    assert_int_equal(checkpoint_read_text(c, "zeta", 1000, &text, NULL, &err), STATUS_DATA);
    assert_int_equal(checkpoint_read_section(c, "zeta", buf, 479, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "a.bin: section \"zeta\" holds 480 bytes, want 479"));
    assert_int_equal(checkpoint_read_section(c, "beta", buf, 480, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "no section \"beta\""));
    checkpoint_close(c);
}

struct pieces {
    uint8_t *to;
    size_t next, most;
    int calls, stop_at;
};

static enum status take_piece(void *context, const void *data, size_t size, size_t offset,
                              struct error *e)
{
    struct pieces *p = context;
    assert_int_equal(offset, p->next);
    memcpy(p->to + offset, data, size);
    p->next += size;
    p->most = size > p->most ? size : p->most;
    if (++p->calls == p->stop_at)
        return error_set(e, STATUS_DEVICE, "stop");
    return STATUS_OK;
}

static void test_read_pieces(void **state)
{
    (void)state;
    const int64_t count = MOST;
    size_t bytes = 8 * (size_t)count;
    double *data = fill(CHECKPOINT_F64, GAUSS, count);
    struct pieces p = {.to = make(bytes)};
    struct checkpoint_writer *w = NULL;
    struct checkpoint *c = NULL;
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    write_array(w, "x", CHECKPOINT_F64, count, data);
    ASSERT_OK(checkpoint_write_close(&w, &err));
    ASSERT_OK(checkpoint_open(&c, "a.bin", &err));
    ASSERT_OK(checkpoint_read_pieces(c, "x", take_piece, &p, &err));
    assert_int_equal(p.next, bytes);
    assert_int_equal(p.calls, 4);
    assert_true(p.most <= 512 << 10);
    assert_memory_equal(p.to, data, bytes);
    p = (struct pieces){.to = p.to, .stop_at = 2};
    assert_int_equal(checkpoint_read_pieces(c, "x", take_piece, &p, &err), STATUS_DEVICE);
    assert_int_equal(p.calls, 2);
    /* a reading that was stopped spoils none after it */
    ASSERT_OK(checkpoint_read_section(c, "x", p.to, bytes, &err));
    assert_memory_equal(p.to, data, bytes);
    checkpoint_close(c);
    mem_free(p.to);
    mem_free(data);
}

static size_t stored_size(enum checkpoint_type type, enum content content)
{
    const int64_t count = 4 * CHUNK;
    void *data = fill(type, content, count);
    struct checkpoint_writer *w = NULL;
    struct checkpoint *c = NULL;
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    write_array(w, "x", type, count, data);
    ASSERT_OK(checkpoint_write_close(&w, &err));
    ASSERT_OK(checkpoint_open(&c, "a.bin", &err));
    size_t stored = checkpoint_section(c, 0)->stored;
    checkpoint_close(c);
    mem_free(data);
    return stored;
}

static void test_size(void **state)
{
    (void)state;
    const size_t raw = (size_t)4 * CHUNK * 4;
    assert_true(stored_size(CHECKPOINT_F32, ZEROS) < raw / 100);
    assert_true(stored_size(CHECKPOINT_F32, NOISE) == raw + 4 * 4 * 4);
    assert_true(stored_size(CHECKPOINT_F32, GAUSS) < raw * 95 / 100);
    assert_true(stored_size(CHECKPOINT_I64, RAMP) < raw);
}

static void write_weights(const char *path, bool swapped, float change, const char *extra)
{
    float a[] = {1.0f, 2.0f, change}, b[] = {4.0f, 5.0f};
    struct checkpoint_writer *w = NULL;
    ASSERT_OK(checkpoint_write_open(&w, path, &err));
    ASSERT_OK(checkpoint_write_text(w, "state", extra, &err));
    if (!swapped)
        write_array(w, "w:a", CHECKPOINT_F32, 3, a);
    write_array(w, "w:b", CHECKPOINT_F32, 2, b);
    if (swapped)
        write_array(w, "w:a", CHECKPOINT_F32, 3, a);
    write_array(w, "m:b", CHECKPOINT_F32, 1, &change);
    ASSERT_OK(checkpoint_write_close(&w, &err));
}

static void file_digest(const char *path, char out[WEIGHTS_DIGEST_TEXT])
{
    struct checkpoint *c = NULL;
    ASSERT_OK(checkpoint_open(&c, path, &err));
    ASSERT_OK(checkpoint_weights_digest(c, out, &err));
    checkpoint_close(c);
}

static void test_weights_digest(void **state)
{
    (void)state;
    /* of a version before this one: runs of different versions are compared too */
    const char one[] = "3a0d4f8fe5e7c1e5";
    char two[WEIGHTS_DIGEST_TEXT];
    struct checkpoint_writer *w = NULL;
    write_weights("a.bin", false, 3.0f, "one");
    file_digest("a.bin", two);
    assert_string_equal(one, two);
    write_weights("a.bin", true, 3.0f, "another");
    file_digest("a.bin", two);
    assert_string_equal(one, two);
    write_weights("a.bin", false, nextafterf(3.0f, 4.0f), "one");
    file_digest("a.bin", two);
    assert_string_not_equal(one, two);
    /* the same values under each other's names */
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    write_array(w, "w:b", CHECKPOINT_F32, 3, (float[]){1, 2, 3});
    write_array(w, "w:a", CHECKPOINT_F32, 2, (float[]){4, 5});
    ASSERT_OK(checkpoint_write_close(&w, &err));
    file_digest("a.bin", two);
    assert_string_not_equal(one, two);
    /* no weights at all */
    struct checkpoint *c = NULL;
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    ASSERT_OK(checkpoint_write_close(&w, &err));
    ASSERT_OK(checkpoint_open(&c, "a.bin", &err));
    ASSERT_OK(checkpoint_verify(c, &err));
    assert_int_equal(checkpoint_weights_digest(c, two, &err), STATUS_DATA);
    checkpoint_close(c);
}

static void test_abort_keeps_the_old_file(void **state)
{
    (void)state;
    char before[WEIGHTS_DIGEST_TEXT], after[WEIGHTS_DIGEST_TEXT];
    struct checkpoint_writer *w = NULL;
    write_weights("a.bin", false, 3.0f, "old");
    file_digest("a.bin", before);
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    write_array(w, "w:a", CHECKPOINT_F32, 1, "1234");
    checkpoint_write_abort(&w);
    assert_null(w);
    checkpoint_write_abort(&w);
    file_digest("a.bin", after);
    assert_string_equal(before, after);
    assert_int_equal(scratch_entries("."), 1);
    assert_int_equal(checkpoint_write_open(&w, "none/a.bin", &err), STATUS_CANTCREATE);
    assert_null(w);
}

/* The error of a full disk is repeated until the writer is given up, so that no call after it can
 * turn the rest into a checkpoint. */
static void test_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    const int64_t count = 8 * CHUNK; /* more than what the writer holds back */
    char before[WEIGHTS_DIGEST_TEXT], after[WEIGHTS_DIGEST_TEXT], first[sizeof err.text];
    float *noise = fill(CHECKPOINT_F32, NOISE, count);
    struct checkpoint_writer *w = NULL;
    struct rlimit old, low;
    write_weights("a.bin", false, 3.0f, "old");
    file_digest("a.bin", before);
    ASSERT_OK(checkpoint_write_open(&w, "a.bin", &err));
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 300000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    enum status status = checkpoint_write_section(
        w, &(struct checkpoint_array){"w:a", CHECKPOINT_F32, 1, &count, noise}, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_IO);
    strcpy(first, err.text);
    assert_int_equal(checkpoint_write_text(w, "more", "text", &err), STATUS_IO);
    assert_string_equal(err.text, first);
    assert_int_equal(checkpoint_write_close(&w, &err), STATUS_IO);
    assert_string_equal(err.text, first);
    assert_non_null(w);
    checkpoint_write_abort(&w);
    file_digest("a.bin", after);
    assert_string_equal(before, after);
    assert_int_equal(scratch_entries("."), 1);
    mem_free(noise);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_round_trip),
        CASE(test_round_trip_plain),
        CASE(test_directory),
        CASE(test_read_pieces),
        CASE(test_size),
        CASE(test_weights_digest),
        CASE(test_abort_keeps_the_old_file),
        CASE(test_full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
