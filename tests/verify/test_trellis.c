/* Dumps of trellis cells that no published file covers (weight normalisation, kernel 3, dilation
 * 2).
 *
 * They are made here by a plain evaluation in double precision that shares nothing with the
 * program. It applies the formulas of f position by position and takes gradients by central
 * differences. `verify` must pass on the dumps, and must fail when one number is moved.
 *
 * Differences with step 1e-5 of a smooth f of order 1 err by about 1e-10 (truncation) and 1e-11
 * (rounding). The tolerance is 1e-7 of the largest gradient. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/ref/ref.h"
#include "base/rng.h"
#include "base/scratch.h"
#include "verify/verify.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { B = 2, L = 7, EMBED = 3, NHID = 2, H = 5, NOUT = 3, VOCAB = 9, MAX_TAPS = 3 };
enum { OUT = 4 * H, LONGEST = OUT * H * MAX_TAPS };

static const double STEP = 1e-5, TOLERANCE = 1e-7;

/* A dump in the published layouts [B,channel,time] and [out,in,taps]. */
struct dump {
    int taps, dilation;
    bool wnorm;
    double v[OUT * H * MAX_TAPS], g[OUT], bias[OUT]; /* without wnorm v is the weight */
    double inject_v[OUT * EMBED * MAX_TAPS], inject_g[OUT], inject_bias[OUT];
    double encoder[VOCAB * NOUT], decoder_bias[VOCAB];
    double z[B * 2 * H * L], z0[B * 2 * H], u[B * OUT * L], cotangent[B * 2 * H * L];
    double out[B * 2 * H * L];
    double dz[B * 2 * H * L], dz0[B * 2 * H], du[B * OUT * L];
    double dv[OUT * H * MAX_TAPS], dg[OUT], dbias[OUT];
};

static double weight_at(const struct dump *d, int row, int in, int tap)
{
    int per_row = H * d->taps;
    double norm = 0;
    if (!d->wnorm)
        return d->v[row * per_row + in * d->taps + tap];
    for (int k = 0; k < per_row; k++)
        norm += d->v[row * per_row + k] * d->v[row * per_row + k];
    return d->g[row] * d->v[row * per_row + in * d->taps + tap] / sqrt(norm);
}

/* h of position t, or of the one state before the segment, which every earlier position has. */
static double hidden(const struct dump *d, int b, int in, int t)
{
    return t < 0 ? d->z0[b * 2 * H + in] : d->z[(b * 2 * H + in) * L + t];
}

static double activation(const struct dump *d, int b, int row, int t)
{
    double a = d->u[(b * OUT + row) * L + t] + d->bias[row];
    for (int tap = 0; tap < d->taps; tap++)
        for (int in = 0; in < H; in++)
            a += weight_at(d, row, in, tap) *
                 hidden(d, b, in, t - (d->taps - 1 - tap) * d->dilation);
    return a;
}

/* Fills out and returns its product with the cotangent. */
static double evaluate(struct dump *d)
{
    double loss = 0;
    for (int b = 0; b < B; b++)
        for (int t = 0; t < L; t++)
            for (int k = 0; k < H; k++) {
                double i = 1 / (1 + exp(-activation(d, b, k, t)));
                double o = 1 / (1 + exp(-activation(d, b, H + k, t)));
                double g = tanh(activation(d, b, 2 * H + k, t));
                double f = 1 / (1 + exp(-activation(d, b, 3 * H + k, t)));
                double before =
                    t == 0 ? d->z0[b * 2 * H + H + k] : d->z[(b * 2 * H + H + k) * L + t - 1];
                double c = f * before + i * g;
                d->out[(b * 2 * H + k) * L + t] = o * tanh(c);
                d->out[(b * 2 * H + H + k) * L + t] = c;
            }
    for (int i = 0; i < B * 2 * H * L; i++)
        loss += d->out[i] * d->cotangent[i];
    return loss;
}

static void differentiate(struct dump *d, double *x, double *dx, int count)
{
    for (int i = 0; i < count; i++) {
        double at = x[i], side[2];
        for (int s = 0; s < 2; s++) {
            x[i] = at + (s == 0 ? -STEP : STEP);
            side[s] = evaluate(d);
        }
        x[i] = at;
        dx[i] = (side[1] - side[0]) / (2 * STEP);
    }
}

static void draw(struct dump *d, int taps, int dilation, bool wnorm)
{
    double *const all[] = {d->v, d->g,  d->bias, d->inject_v,  d->inject_g,     d->encoder,
                           d->z, d->z0, d->u,    d->cotangent, d->decoder_bias, d->inject_bias};
    const int count[] = {LONGEST,     OUT,           OUT,           OUT * EMBED * MAX_TAPS,
                         OUT,         VOCAB * NOUT,  B * 2 * H * L, B * 2 * H,
                         B * OUT * L, B * 2 * H * L, VOCAB,         OUT};
    memset(d, 0, sizeof *d);
    d->taps = taps;
    d->dilation = dilation;
    d->wnorm = wnorm;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        for (int i = 0; i < count[k]; i++)
            all[k][i] = 2 * rng_uniform((struct rng_key){17, k}, (uint64_t)i) - 1;
    differentiate(d, d->z, d->dz, B * 2 * H * L);
    differentiate(d, d->z0, d->dz0, B * 2 * H);
    differentiate(d, d->u, d->du, B * OUT * L);
    differentiate(d, d->v, d->dv, OUT * H * taps);
    differentiate(d, d->g, d->dg, OUT);
    differentiate(d, d->bias, d->dbias, OUT);
    (void)evaluate(d);
}

static struct st_tensor entry(const char *name, const double *data, int ndim, int64_t d0,
                              int64_t d1, int64_t d2)
{
    return (struct st_tensor){
        .name = name, .type = ST_F64, .ndim = ndim, .dim = {d0, d1, d2}, .data = data};
}

static void write_dump(const struct dump *d, const char *path)
{
    char config[512];
    struct error err;
    bool n = d->wnorm;
    const char *const func =
        n ? "w:trellisnet.func.full_conv.weight_v" : "w:trellisnet.func.full_conv.weight";
    const char *const inject =
        n ? "w:trellisnet.inject_conv.weight_v" : "w:trellisnet.inject_conv.weight";
    const char *const grad =
        n ? "g:trellisnet.func.full_conv.weight_v" : "g:trellisnet.func.full_conv.weight";
    struct st_tensor list[] = {
        entry("z", d->z, 3, B, 2 * H, L),
        entry("z0", d->z0, 3, B, 2 * H, 1),
        entry("u", d->u, 3, B, OUT, L),
        entry("cotangent", d->cotangent, 3, B, 2 * H, L),
        entry("out", d->out, 3, B, 2 * H, L),
        entry("dz", d->dz, 3, B, 2 * H, L),
        entry("dz0", d->dz0, 3, B, 2 * H, 1),
        entry("du", d->du, 3, B, OUT, L),
        entry(func, d->v, 3, OUT, H, d->taps),
        entry(grad, d->dv, 3, OUT, H, d->taps),
        entry("w:trellisnet.func.full_conv.bias", d->bias, 1, OUT, 1, 1),
        entry("g:trellisnet.func.full_conv.bias", d->dbias, 1, OUT, 1, 1),
        entry(inject, d->inject_v, 3, OUT, EMBED, d->taps),
        entry("w:trellisnet.inject_conv.bias", d->inject_bias, 1, OUT, 1, 1),
        entry("w:encoder.weight", d->encoder, 2, VOCAB, EMBED, 1),
        entry("w:decoder.bias", d->decoder_bias, 1, VOCAB, 1, 1),
        /* with weight normalisation only */
        entry("w:trellisnet.func.full_conv.weight_g", d->g, 3, OUT, 1, 1),
        entry("g:trellisnet.func.full_conv.weight_g", d->dg, 3, OUT, 1, 1),
        entry("w:trellisnet.inject_conv.weight_g", d->inject_g, 3, OUT, 1, 1),
    };
    snprintf(config, sizeof config,
             "{\"cell\": \"trellis\", \"vocab_size\": %d, \"d_embed\": %d, \"wnorm\": %s, "
             "\"tie_weights\": true, \"ksize\": %d, \"dilation\": %d, \"nhid\": %d, \"nout\": %d, "
             "\"hsize\": %d, \"tgt_len\": %d}",
             VOCAB, EMBED, n ? "true" : "false", d->taps, d->dilation, NHID, NOUT, H, L);
    const struct st_meta meta[] = {{"deq_dump", "1"}, {"kind", "f"}, {"config", config}};
    int64_t count = (int64_t)(sizeof list / sizeof *list) - (n ? 0 : 3);
    if (st_write(path, list, count, meta, 3, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

/* Whether `verify` passes. name[128] receives the first row that fails. */
static bool passes(const char *path, char *name)
{
    struct backend be;
    struct error err;
    struct st_file *file;
    struct verify_report report;
    assert_int_equal(ref_open(&be, &err), STATUS_OK);
    assert_int_equal(st_open(&file, path, &err), STATUS_OK);
    if (verify_file(&report, &be, file, path, TOLERANCE, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    int64_t compared = 0;
    name[0] = '\0';
    for (int64_t i = 0; i < report.count; i++) {
        compared += report.rows[i].compared;
        if (!report.rows[i].pass && name[0] == '\0')
            snprintf(name, 128, "%s", report.rows[i].name);
    }
    assert_true(compared >= 6);
    bool pass = report.pass;
    verify_report_free(&report);
    st_close(file);
    backend_close(&be);
    return pass;
}

static void check(int taps, int dilation, bool wnorm)
{
    static struct dump d;
    const char *const path = "trellis.safetensors";
    char name[128];
    draw(&d, taps, dilation, wnorm);
    write_dump(&d, path);
    if (!passes(path, name))
        fail_msg("kernel %d, dilation %d, wnorm %d: %s", taps, dilation, wnorm, name);
    d.dv[OUT * H * taps - 1] += 1e-4;
    write_dump(&d, path);
    assert_false(passes(path, name));
    assert_non_null(strstr(name, "full_conv.weight"));
}

static void plain(void **state)
{
    (void)state;
    check(2, 1, false);
}

static void one_tap(void **state)
{
    (void)state;
    check(1, 1, false);
}

static void weight_norm(void **state)
{
    (void)state;
    check(2, 1, true);
}

static void kernel_three(void **state)
{
    (void)state;
    check(3, 1, true);
}

static void dilated(void **state)
{
    (void)state;
    check(2, 2, false);
    check(3, 2, true);
    check(3, 4, true); /* reaches back further than the segment is long */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),        cmocka_unit_test(one_tap), cmocka_unit_test(weight_norm),
        cmocka_unit_test(kernel_three), cmocka_unit_test(dilated),
    };
    return cmocka_run_group_tests_name("trellis dumps", tests, scratch_enter, scratch_leave);
}
