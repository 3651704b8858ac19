/* Files that are no whole checkpoint. They are absent, foreign, cut, flipped in any byte, or forged
 * with right checksums and wrong sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "store/checkpoint.h"
#include "store/checkpoint_format.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static struct error err;

/* A file of several sections, small enough to damage in every byte. *size is its length. */
static uint8_t *small_file(size_t *size)
{
    static const float w[] = {0.5f, -1.0f, 2.0f, 8.0f, 0.25f, 1.0f};
    int64_t zeros[40] = {0};
    struct checkpoint_writer *out = NULL;
    ASSERT_OK(checkpoint_write_open(&out, "good", &err));
    ASSERT_OK(checkpoint_write_text(out, "state", "{\"step\": 12, \"seed\": 1111}", &err));
    ASSERT_OK(checkpoint_write_section(
        out, &(struct checkpoint_array){"w:a", CHECKPOINT_F32, 2, (int64_t[]){2, 3}, w}, &err));
    ASSERT_OK(checkpoint_write_section(
        out, &(struct checkpoint_array){"n", CHECKPOINT_I64, 1, (int64_t[]){40}, zeros}, &err));
    ASSERT_OK(checkpoint_write_text(out, "empty", "", &err));
    ASSERT_OK(checkpoint_write_close(&out, &err));
    struct stat st;
    assert_int_equal(stat("good", &st), 0);
    *size = (size_t)st.st_size;
    void *p = NULL;
    ASSERT_OK(mem_alloc(&p, *size, 1, &err));
    FILE *f = fopen("good", "rb");
    assert_non_null(f);
    assert_int_equal(fread(p, 1, *size, f), *size);
    fclose(f);
    return p;
}

/* What opening and verifying a file says. */
static enum status judge(const char *path)
{
    struct checkpoint *c = NULL;
    enum status status = checkpoint_open(&c, path, &err);
    assert_true((status == STATUS_OK) == (c != NULL));
    if (status == STATUS_OK)
        status = checkpoint_verify(c, &err);
    checkpoint_close(c);
    return status;
}

static void assert_bad(const char *path, const char *message)
{
    if (judge(path) != STATUS_DATA)
        fail_msg("%s: not refused (want: %s)", path, message);
    assert_int_equal(strncmp(err.text, path, strlen(path)), 0);
    if (strstr(err.text, message) == NULL)
        fail_msg("says \"%s\", want \"%s\"", err.text, message);
}

static void test_not_a_checkpoint(void **state)
{
    (void)state;
    struct checkpoint *c = NULL;
    assert_int_equal(checkpoint_open(&c, "none", &err), STATUS_NOINPUT);
    assert_non_null(strstr(err.text, "none: cannot open: No such file"));
    assert_int_equal(mkdir("folder", 0777), 0);
    assert_int_equal(checkpoint_open(&c, "folder", &err), STATUS_NOINPUT);
    assert_non_null(strstr(err.text, "a folder"));
    assert_int_equal(mkfifo("pipe", 0666), 0);
    assert_int_equal(checkpoint_open(&c, "pipe", &err), STATUS_NOINPUT);
    scratch_write("empty", "", 0);
    assert_bad("empty", "the file is empty");
    char text[100];
    memset(text, 'x', sizeof text);
    scratch_write("foreign", text, sizeof text);
    assert_bad("foreign", "not a deq checkpoint");
    scratch_write("foreign", text, 3);
    assert_bad("foreign", "not a deq checkpoint");
}

static void test_every_length(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *file = small_file(&size);
    ASSERT_OK(judge("good"));
    for (size_t n = 1; n < size; n++) {
        scratch_write("cut", file, n);
        assert_bad("cut", "truncated");
    }
    uint8_t *longer = NULL;
    void *p = NULL;
    ASSERT_OK(mem_alloc(&p, size + 1, 1, &err));
    longer = p;
    memcpy(longer, file, size);
    scratch_write("longer", longer, size + 1);
    assert_bad("longer", "too long");
    mem_free(longer);
    mem_free(file);
}

static void test_every_byte(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *file = small_file(&size);
    for (size_t i = 0; i < size; i++)
        for (int flip = 0; flip < 2; flip++) {
            uint8_t mask = flip ? 0xff : (uint8_t)(1u << i % 8);
            file[i] ^= mask;
            scratch_write("flipped", file, size);
            assert_bad("flipped", "");
            file[i] ^= mask;
        }
    mem_free(file);
}

static void test_version_and_order(void **state)
{
    (void)state;
    size_t size = 0;
    uint8_t *file = small_file(&size);
    struct checkpoint_header h;
    memcpy(&h, file, sizeof h);
    h.version = 2;
    memcpy(file, &h, sizeof h);
    scratch_write("other", file, size);
    assert_bad("other", "version 2 of the format, this program reads version 1");
    h.order = CHECKPOINT_ORDER_OTHER;
    memcpy(file, &h, sizeof h);
    scratch_write("other", file, size);
    assert_bad("other", "other byte order");
    mem_free(file);
}

static void test_file_shrinks_while_open(void **state)
{
    (void)state;
    size_t size = 0;
    mem_free(small_file(&size));
    struct checkpoint *c = NULL;
    float w[6];
    ASSERT_OK(checkpoint_open(&c, "good", &err));
    assert_int_equal(truncate("good", 80), 0);
    assert_int_equal(checkpoint_read_section(c, "w:a", w, sizeof w, &err), STATUS_DATA);
    assert_non_null(strstr(err.text, "good: ends at byte"));
    checkpoint_close(c);
}

/* --- forged files ----------------------------------------------------------------------------- */

enum { ROOM = 4096 };

struct forged {
    struct checkpoint_header header;
    struct checkpoint_entry entry[2];
    uint64_t count;
    uint8_t content[ROOM]; /* of both sections, one after the other */
    size_t size;
};

static void add_block(struct forged *f, uint32_t head, const void *data, size_t size)
{
    memcpy(f->content + f->size, &head, sizeof head);
    memcpy(f->content + f->size + sizeof head, data, size);
    f->size += sizeof head + size;
}

/* A correct file: "a", 3 bytes; "b", one i64 0, in eight blocks of one byte. */
static struct forged forge(void)
{
    struct forged f = {.count = 2};
    add_block(&f, 3, "abc", 3);
    for (int i = 0; i < 8; i++)
        add_block(&f, 1, "", 1);
    f.entry[0] = (struct checkpoint_entry){.name = "a",
                                           .dim = {3, 1, 1, 1},
                                           .offset = 64,
                                           .stored = 7,
                                           .size = 3,
                                           .type = 1,
                                           .ndim = 1};
    f.entry[1] = (struct checkpoint_entry){
        .name = "b", .dim = {1, 1, 1, 1}, .offset = 71, .stored = 40, .size = 8, .type = 4};
    return f;
}

/* Writes it with the checksums and header numbers it needs, except where they are set. */
static void put_forged(struct forged *f)
{
    static uint8_t file[3 * ROOM];
    struct checkpoint_header *h = &f->header;
    size_t at = 0;
    for (int i = 0; i < 2; i++)
        if (f->entry[i].stored <= ROOM && at + f->entry[i].stored <= f->size) {
            f->entry[i].sum = XXH3_64bits(f->content + at, f->entry[i].stored);
            at += f->entry[i].stored;
        }
    size_t directory = 2 * sizeof f->entry[0];
    memcpy(h->magic, CHECKPOINT_MAGIC, 8);
    h->version = CHECKPOINT_VERSION;
    h->order = CHECKPOINT_ORDER;
    h->file_size = sizeof *h + f->size + directory;
    h->directory_offset += sizeof *h + f->size;
    h->directory_size += directory;
    h->count = f->count;
    h->directory_sum = XXH3_64bits(f->entry, directory);
    h->header_sum = XXH3_64bits(h, offsetof(struct checkpoint_header, header_sum));
    memcpy(file, h, sizeof *h);
    memcpy(file + sizeof *h, f->content, f->size);
    memcpy(file + sizeof *h + f->size, f->entry, directory);
    scratch_write("forged", file, (size_t)h->file_size);
}

#define REFUSED(change, message)       \
    do {                               \
        struct forged f = forge();     \
        change;                        \
        put_forged(&f);                \
        assert_bad("forged", message); \
    } while (0)

static void test_forged_directory(void **state)
{
    (void)state;
    struct forged good = forge();
    put_forged(&good);
    ASSERT_OK(judge("forged"));
    REFUSED(f.count = 1, "directory of 1 sections");
    REFUSED(f.count = UINT64_MAX / 200, "does not lie at the end of the file");
    REFUSED(f.header.directory_offset = 8, "does not lie at the end of the file");
    REFUSED(f.header.directory_size = 200, "does not lie at the end of the file");
    REFUSED((f.count = 65537, f.header.directory_size = 65535 * 200),
            "does not lie at the end of the file");
    REFUSED(strcpy(f.entry[1].name, "a"), "two sections are named \"a\"");
    REFUSED(memset(f.entry[0].name, 'x', sizeof f.entry[0].name), "bad name");
    REFUSED(f.entry[0].name[0] = '\0', "bad name");
    REFUSED(f.entry[0].name[0] = '\n', "bad name");
    REFUSED(f.entry[0].name[9] = 'x', "bad name");
    REFUSED(f.entry[0].type = 0, "unknown type");
    REFUSED(f.entry[0].type = 5, "unknown type");
    REFUSED(f.entry[0].encoding = 2, "unknown encoding");
    REFUSED(f.entry[1].encoding = 1, "another number of bytes than its size"); /* stored: 40 */
    REFUSED((f.entry[1].encoding = 1, f.entry[1].size = 40), "not that of its dimensions");
    REFUSED(f.entry[0].ndim = 5, "impossible dimensions");
    REFUSED(f.entry[0].ndim = UINT32_MAX, "impossible dimensions");
    REFUSED(f.entry[0].dim[0] = -3, "impossible dimensions");
    REFUSED(f.entry[0].dim[1] = 2, "impossible dimensions");
    REFUSED((f.entry[0].ndim = 2, f.entry[0].dim[0] = 1LL << 40, f.entry[0].dim[1] = 1LL << 40),
            "impossible dimensions");
    REFUSED((f.entry[0].ndim = 3, f.entry[0].dim[0] = 0, f.entry[0].dim[1] = INT64_MAX,
             f.entry[0].dim[2] = INT64_MAX),
            "impossible dimensions");
    REFUSED((f.entry[1].ndim = 1, f.entry[1].dim[0] = INT64_MAX / 4), "impossible dimensions");
    REFUSED(f.entry[0].dim[0] = 4, "not that of its dimensions");
    REFUSED(f.entry[0].size = 4, "not that of its dimensions");
    REFUSED(f.entry[0].offset = 63, "its place");
    REFUSED(f.entry[1].offset = UINT64_MAX, "its place");
    REFUSED(f.entry[0].stored = UINT64_MAX, "its place");
    REFUSED((f.entry[0].dim[0] = f.entry[0].size = 9000), "more than its stored bytes can hold");
    REFUSED(f.entry[0].stored = 8, "it stores more than its size needs");
    REFUSED((f.entry[1].ndim = 1, f.entry[1].dim[0] = 0, f.entry[1].size = 0), "stores more");
    REFUSED(f.entry[1].stored = 39, "sections end at byte");
}

static void test_forged_blocks(void **state)
{
    (void)state;
    uint32_t head;
    REFUSED((head = 2, memcpy(f.content, &head, 4)), "section \"a\" at byte 64 is damaged (wrong");
    REFUSED((head = 4, memcpy(f.content, &head, 4)), "wrong block size");
    REFUSED((head = UINT32_MAX, memcpy(f.content, &head, 4)), "wrong block size");
    REFUSED((head = BLOCK_DEFLATED, memcpy(f.content, &head, 4)), "wrong compressed data");
    REFUSED((head = 2 | BLOCK_DEFLATED, memcpy(f.content, &head, 4)), "wrong compressed data");
    REFUSED((f.entry[0].stored = 6, f.entry[1].offset = 70, f.entry[1].stored = 41), "more than");
    REFUSED((f.entry[0].stored = 6, f.entry[1].offset = 70, f.size--, f.entry[1].stored = 40),
            "it ends too early");
}

/* A section of `size` bytes whose only block is the deflated form of `real` zeros. */
static void forge_deflated(struct forged *f, int64_t size, size_t real)
{
    static uint8_t zeros[1 << 20], packed[ROOM];
    uLongf n = sizeof packed;
    assert_int_equal(compress2(packed, &n, zeros, real, 9), Z_OK);
    f->size = 0;
    add_block(f, (uint32_t)n | BLOCK_DEFLATED, packed, n);
    f->entry[0].dim[0] = size;
    f->entry[0].size = (uint64_t)size;
    f->entry[0].stored = f->size;
    f->entry[1].offset = 64 + f->size;
    for (int i = 0; i < 8; i++)
        add_block(f, 1, "", 1);
}

static void test_forged_streams(void **state)
{
    (void)state;
    struct forged good = forge();
    forge_deflated(&good, 60000, 60000);
    put_forged(&good);
    ASSERT_OK(judge("forged"));
    REFUSED(forge_deflated(&f, 60000, 60001), "wrong compressed data");
    REFUSED(forge_deflated(&f, 60000, 1 << 20), "wrong compressed data");
    REFUSED(forge_deflated(&f, 60000, 59999), "wrong compressed data");
    REFUSED(forge_deflated(&f, 70000, 70000), "wrong compressed data");
    /* bytes behind the last block */
    REFUSED((forge_deflated(&f, 60000, 60000), f.entry[0].stored += 40, f.entry[1].offset += 40,
             add_block(&f, 36, f.content, 36)),
            "bytes are left over");
    /* bytes behind the end of the stream */
    REFUSED((forge_deflated(&f, 60000, 60000), f.content[0]--), "wrong compressed data");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, scratch_enter, scratch_leave)
    const struct CMUnitTest tests[] = {
        CASE(test_not_a_checkpoint), CASE(test_every_length),
        CASE(test_every_byte),       CASE(test_version_and_order),
        CASE(test_forged_directory), CASE(test_file_shrinks_while_open),
        CASE(test_forged_blocks),    CASE(test_forged_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
