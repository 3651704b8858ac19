/* Checkpoints of random sections come back as they were written. */
#include "base/assert_ok.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/scratch.h"
#include "property/property.h"
#include "store/checkpoint.h"

#include <stdio.h>
#include <string.h>

enum { MOST_SECTIONS = 6, MOST_DIM = 200, MOST_BYTES = 1 << 22 };

struct drawn {
    char name[CHECKPOINT_NAME_MAX];
    enum checkpoint_type type;
    int ndim;
    int64_t dim[CHECKPOINT_MAX_DIMS];
    unsigned char *data; /* owns */
    size_t size;
};

/* Of some kinds of data: noise, few different values (which compress), floats of one size. */
static void fill(struct drawn *d, int kind, struct rng_key key)
{
    for (size_t i = 0; i < d->size; i++) {
        uint64_t r = (uint64_t)(rng_uniform(key, i) * 256);
        d->data[i] = (unsigned char)(kind == 0 ? r : kind == 1 ? r & 1 : i % 4 == 3 ? 0x3f : r);
    }
}

static void draw(struct drawn *d, int index)
{
    struct error err;
    *d = (struct drawn){
        .type = (enum checkpoint_type)property_int("type", CHECKPOINT_U8, CHECKPOINT_I64),
        .ndim = (int)property_int("ndim", 0, CHECKPOINT_MAX_DIMS)};
    (void)snprintf(d->name, sizeof d->name, "section-%d", index);
    size_t count = 1;
    for (int i = 0; i < d->ndim; i++) {
        int64_t most = MOST_BYTES / (int64_t)(8 * count + 1);
        d->dim[i] = property_int("dim", 0, most < MOST_DIM ? most : MOST_DIM);
        count *= (size_t)d->dim[i];
    }
    d->size = count * checkpoint_type_size(d->type);
    ASSERT_OK(mem_alloc((void **)&d->data, d->size + 1, 1, &err));
    int kind = (int)property_int("kind of data", 0, 2);
    struct rng_key key = {property_seed("seed"), 0};
    fill(d, kind, key);
}

static void write_all(const struct drawn *list, int count, bool plain)
{
    struct checkpoint_writer *w;
    struct error err;
    ASSERT_OK(checkpoint_write_open(&w, "drawn.bin", &err));
    if (plain)
        checkpoint_write_plain(w);
    for (int i = 0; i < count; i++) {
        const struct checkpoint_array array = {list[i].name, list[i].type, list[i].ndim,
                                               list[i].dim, list[i].data};
        ASSERT_OK(checkpoint_write_section(w, &array, &err));
    }
    ASSERT_OK(checkpoint_write_close(&w, &err));
}

static bool same(struct checkpoint *c, const struct drawn *d, char *why)
{
    const struct checkpoint_section *s = checkpoint_find(c, d->name);
    struct error err;
    unsigned char *got = NULL;
    bool equal = s != NULL && s->type == d->type && s->ndim == d->ndim && s->size == d->size;
    for (int i = 0; equal && i < d->ndim; i++)
        equal = s->dim[i] == d->dim[i];
    if (equal) {
        ASSERT_OK(mem_alloc((void **)&got, d->size + 1, 1, &err));
        ASSERT_OK(checkpoint_read_section(c, d->name, got, d->size, &err));
        equal = memcmp(got, d->data, d->size) == 0;
        mem_free(got);
    }
    if (!equal)
        (void)snprintf(why, PROPERTY_WHY, "%s came back changed", d->name);
    return equal;
}

static bool comes_back(void *context, char *why)
{
    (void)context;
    struct drawn list[MOST_SECTIONS];
    struct checkpoint *c;
    struct error err;
    int count = (int)property_int("sections", 0, MOST_SECTIONS);
    bool plain = property_int("plain", 0, 1) == 1;
    for (int i = 0; i < count; i++)
        draw(&list[i], i);
    write_all(list, count, plain);
    ASSERT_OK(checkpoint_open(&c, "drawn.bin", &err));
    ASSERT_OK(checkpoint_verify(c, &err));
    bool equal = checkpoint_count(c) == count;
    for (int i = 0; i < count && equal; i++)
        equal = same(c, &list[i], why);
    checkpoint_close(c);
    for (int i = 0; i < count; i++)
        mem_free(list[i].data);
    return equal;
}

static void test_comes_back(void **state)
{
    (void)state;
    assert_true(property_check("a checkpoint is read as it was written", 60, comes_back, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_comes_back)};
    return cmocka_run_group_tests_name("checkpoint properties", tests, scratch_enter,
                                       scratch_leave);
}
