/* Each preset in configs/ is accepted, and those of published models have the published number of
 * parameters, in millions, total and without vocabulary layers (f and injection).
 *
 * Bai, Kolter, Koltun 2019 give two counts for each model and few sizes, so that our sizes are
 * chosen to give both counts. A printed "180" or "110" is taken as within 1.0. Known sizes (PTB,
 * the 2021 script, Transformer-XL) must agree to the last digit given. */
#include "base/assert_ok.h"
#include "deq/model.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { WT103 = 267735, PTB = 10000, SOME = 300000 };

static void folder(char *out, size_t size)
{
    snprintf(out, size, "%s", __FILE__);
    char *end = strstr(out, "tests/config/test_presets.c");
    assert_non_null(end);
    snprintf(end, size - (size_t)(end - out), "configs");
}

static void count(const char *name, int64_t vocab, struct params *p)
{
    char path[1024];
    struct config c;
    struct error err;
    folder(path, sizeof path);
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/%s.json", name);
    config_defaults(&c);
    assert_ok(config_load(&c, path, &err), &err);
    assert_ok(config_resolve(&c, vocab, &err), &err);
    params_init(p, NULL);
    assert_ok(model_declare(p, &c.model, &err), &err);
}

static double millions(int64_t n)
{
    return (double)n * 1e-6;
}

static void check(const char *name, int64_t vocab, double total, double total_tol, double inner,
                  double inner_tol)
{
    struct params p;
    count(name, vocab, &p);
    double all = millions(params_distinct(&p, NULL));
    double own = millions(params_distinct(&p, "f") + params_distinct(&p, "injection"));
    if (!(fabs(all - total) <= total_tol) || !(fabs(own - inner) <= inner_tol))
        fail_msg("%s: %.3f M, %.3f M without the vocabulary's; published %g and %g", name, all, own,
                 total, inner);
    params_free(&p);
}

/* Tables 2 and 3 of the paper. Its "138M" and "4.5M" leave 133.5 M for the embedding, which is a
 * table of 500 numbers a word (133.9 M) less rounding. */
static void paper(void **state)
{
    (void)state;
    check("wt103-deq-transformer-small", WT103, 138, 1, 4.5, 0.05);
    check("wt103-deq-transformer-medium", WT103, 172, 0.5, 43, 0.5);
    check("wt103-deq-transformer-medium-adaptive", WT103, 110, 0.5, 70, 0.5);
    check("wt103-deq-trellis", WT103, 180, 1, 45, 0.5);
    check("ptb-deq-trellis", PTB, 24, 0.5, 20, 0.5);
    check("wt103-transformer-xl-medium-16", WT103, 165, 0.5, 44, 0.5);
    check("wt103-transformer-xl-medium-18-adaptive", WT103, 110, 0.5, 72, 0.5);
    check("wt103-transformer-xl-small-4", WT103, 139, 0.5, 4.9, 0.05);
    check("wt103-transformer-xl-small-tied-16", WT103, 138, 1, 4.5, 0.05);
    check("wt103-trellis-70", WT103, 180, 1, 45, 0.5);
    check("ptb-trellis-60", PTB, 24, 0.5, 20, 0.5);
}

/* Dai et al. 2019, "Transformer-XL standard". Theirs has a gain and a bias in each norm and one
 * pair of position biases for all layers. Ours has neither gain nor bias, and a pair for each
 * layer, which makes a difference of 0.05 M. */
static void transformer_xl(void **state)
{
    (void)state;
    check("wt103-transformer-xl", WT103, 151, 0.5, 41, 0.5);
}

static int64_t size_of(const struct params *p, const char *name)
{
    int i = params_find(p, name);
    assert_true(i >= 0);
    return param_count(&p->list[i]);
}

/* The log of the 2021 scripts reports 97.85 M, with the projections of the softmax as parameters of
 * their own, and 97.20 M without these. Of the four projections the code ties all but the first,
 * whose values differ in the reference dumps too, so that 97.69 M are distinct. */
static void scripts_2021(void **state)
{
    (void)state;
    const char *const name[] = {"wt103-deq-2021", "wt103-deq-2021-reg", "wt103-deq-2021-preln-reg"};
    for (int i = 0; i < 3; i++) {
        struct params p;
        int64_t projections = 0;
        count(name[i], WT103, &p);
        for (int k = 0; k < 4; k++) {
            char projection[64];
            snprintf(projection, sizeof projection, "crit.out_projs.%d.weight", k);
            projections += size_of(&p, projection);
        }
        assert_int_equal(params_reported(&p), 97851488);
        assert_int_equal(params_reported(&p) - projections, 97201888);
        assert_int_equal(params_distinct(&p, NULL), 97201888 + 700 * 700);
        assert_int_equal(params_distinct(&p, "injection"), 3 * 700 * 700 + 3 * 700);
        params_free(&p);
    }
}

/* The 2023 setting has 98 M with one injection. Our three stacked blocks have one each. */
static void setting_2023(void **state)
{
    (void)state;
    struct params p;
    count("wt103-deq-2023", WT103, &p);
    int64_t extra = params_distinct(&p, "injection") / 3 * 2;
    if (!(fabs(millions(params_distinct(&p, NULL) - extra) - 98) <= 0.5))
        fail_msg("%.3f M", millions(params_distinct(&p, NULL) - extra));
    params_free(&p);
}

/* Models for copy memory have at most the 14,000 parameters of the paper's Table 1. */
static void copy_memory(void **state)
{
    (void)state;
    const char *const name[] = {"copy-transformer", "copy-trellis", "copy-transformer-layers",
                                "copy-trellis-layers"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        struct params p;
        count(name[i], 10, &p);
        assert_in_range(params_distinct(&p, NULL), 10000, 14000);
        params_free(&p);
    }
}

/* A preset with an unknown key or sizes that do not fit is refused here. */
static void all_are_accepted(void **state)
{
    (void)state;
    char path[1024];
    int found = 0;
    folder(path, sizeof path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char *dot = strstr(e->d_name, ".json");
        if (dot == NULL)
            continue;
        struct params p;
        *dot = '\0';
        count(e->d_name, strncmp(e->d_name, "copy", 4) == 0 ? 10 : SOME, &p);
        assert_true(params_distinct(&p, NULL) > 1000);
        params_free(&p);
        found++;
    }
    closedir(dir);
    assert_true(found >= 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paper),        cmocka_unit_test(transformer_xl),
        cmocka_unit_test(scripts_2021), cmocka_unit_test(setting_2023),
        cmocka_unit_test(copy_memory),  cmocka_unit_test(all_are_accepted),
    };
    return cmocka_run_group_tests_name("presets", tests, NULL, NULL);
}
