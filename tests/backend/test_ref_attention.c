/* The reference's relative attention against its matrix form: all positional scores, shifted as a
 * matrix (Transformer-XL, appendix B). */
#include "backend/by_hand.h"

enum { B = 2, L = 4, P = 3, K = L + P, H = 2, HEAD = 3, D = H * HEAD };

struct attention_arrays {
    double qkv[B * L * 3 * D], mem[B * P * 3 * D], rk[K * D], r_w[D], r_r[D], out[B * L * D],
        lse[B * H * L];
    uint8_t mask[B * H * L * K];
};

/* Number e of head n in part 0..2 of key j. */
static double key_part(const struct attention_arrays *x, int b, int n, int part, int j, int e)
{
    int column = part * D + n * HEAD + e;
    return j < P ? x->mem[(b * P + j) * 3 * D + column] : x->qkv[(b * L + j - P) * 3 * D + column];
}

/* (q + r_r) Rk^T for all columns, shifted: a zero column is put in front of the [L,K] matrix, the
 * numbers are read as [K+1,L], the first row is dropped and the rest read as [L,K]. Column c of
 * Rk^T stands for the distance K - 1 - c. */
static void shifted_positions(const struct attention_arrays *x, int b, int n, double *bd)
{
    double padded[L * (K + 1)];
    for (int i = 0; i < L; i++) {
        padded[i * (K + 1)] = 0;
        for (int c = 0; c < K; c++) {
            double dot = 0;
            for (int e = 0; e < HEAD; e++)
                dot += (key_part(x, b, n, 0, P + i, e) + x->r_r[n * HEAD + e]) *
                       x->rk[(K - 1 - c) * D + n * HEAD + e];
            padded[i * (K + 1) + 1 + c] = dot;
        }
    }
    memcpy(bd, padded + L, sizeof(double) * L * K);
}

static void check_attention(const struct attention_arrays *x, int span, double scale)
{
    for (int b = 0; b < B; b++)
        for (int n = 0; n < H; n++) {
            double bd[L * K];
            shifted_positions(x, b, n, bd);
            for (int i = 0; i < L; i++) {
                double weight[K], sum = 0;
                for (int j = 0; j < K; j++) {
                    double ac = 0;
                    for (int e = 0; e < HEAD; e++)
                        ac += (key_part(x, b, n, 0, P + i, e) + x->r_w[n * HEAD + e]) *
                              key_part(x, b, n, 1, j, e);
                    bool seen = j <= P + i && (span == 0 || P + i - j < span);
                    weight[j] = seen ? exp((ac + bd[i * K + j]) / sqrt((double)HEAD)) : 0;
                    sum += weight[j];
                }
                near(x->lse[(b * H + n) * L + i], log(sum), 1e-13);
                for (int e = 0; e < HEAD; e++) {
                    double want = 0;
                    for (int j = 0; j < K; j++) {
                        int keep = x->mask[((b * H + n) * L + i) * K + j];
                        want += weight[j] / sum * keep * scale * key_part(x, b, n, 2, j, e);
                    }
                    near(x->out[(b * L + i) * D + n * HEAD + e], want, 1e-13);
                }
            }
        }
}

static void attention_by_shift(void **state)
{
    struct backend be;
    open_ref(&be);
    struct attention_arrays x;
    randomise(x.qkv, B * L * 3 * D, 1);
    randomise(x.mem, B * P * 3 * D, 2);
    randomise(x.rk, K * D, 3);
    randomise(x.r_w, D, 4);
    randomise(x.r_r, D, 5);
    for (int span = 0; span <= K; span++)
        for (int masked = 0; masked < 2; masked++) {
            for (int e = 0; e < B * H * L * K; e++)
                x.mask[e] = masked == 0 || e % 5 != 0;
            struct attention p = {.qkv = reals(x.qkv, 3, B, L, 3 * D),
                                  .mem = reals(x.mem, 3, B, P, 3 * D),
                                  .rk = reals(x.rk, 2, K, D, 1),
                                  .r_w = reals(x.r_w, 2, H, HEAD, 1),
                                  .r_r = reals(x.r_r, 2, H, HEAD, 1),
                                  .out = reals(x.out, 3, B, L, D),
                                  .lse = reals(x.lse, 3, B, H, L),
                                  .mask_scale = masked ? 1.25 : 1,
                                  .heads = H,
                                  .span = span};
            if (masked)
                p.mask = tensor_make(x.mask, DTYPE_U8, 4, B, H, L, K);
            op_attention(&be, &p);
            check_attention(&x, span, p.mask_scale);
        }
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(attention_by_shift)};
    return cmocka_run_group_tests_name("attention of ref", tests, NULL, NULL);
}
