/* Vectors of 16 floats by the compiler's vector extension: AVX-512 registers where there are any,
 * pairs of AVX2 registers otherwise. */
#ifndef DEQ_CPU_VECMATH_H
#define DEQ_CPU_VECMATH_H

#include <stdint.h>

enum { VEC = 16 };

typedef float vec __attribute__((vector_size(64)));
typedef int32_t vec_int __attribute__((vector_size(64)));
/* the same at any address */
typedef float vec_any __attribute__((vector_size(64), aligned(4), may_alias));

static inline vec vec_load(const float *p)
{
    return *(const vec_any *)p;
}

static inline void vec_store(float *p, vec v)
{
    *(vec_any *)p = v;
}

static inline vec vec_set(float x)
{
    return x - (vec){0};
}

static inline float vec_sum(vec v)
{
    float s[8];
    for (int i = 0; i < 8; i++)
        s[i] = v[i] + v[i + 8];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* yes where the mask is all ones, no where it is 0. */
static inline vec vec_select(vec_int mask, vec yes, vec no)
{
    return (vec)((mask & (vec_int)yes) | (~mask & (vec_int)no));
}

/* Larger of each pair; where `b` is a NaN, `a`. */
static inline vec vec_max(vec a, vec b)
{
    return vec_select(b > a, b, a);
}

static inline float vec_max_of(vec v)
{
    float m = v[0];
    for (int i = 1; i < VEC; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* Swaps the off-diagonal blocks of size s of all 2s x 2s blocks in rows that are s apart. */
#define VEC_LOW(s, k) (((k) & (s)) != 0 ? VEC + (k) - (s) : (k))
#define VEC_HIGH(s, k) (((k) & (s)) != 0 ? VEC + (k) : (k) + (s))
#define VEC_MIX(which, s, a, b)                                                                    \
    __builtin_shufflevector(a, b, which(s, 0), which(s, 1), which(s, 2), which(s, 3), which(s, 4), \
                            which(s, 5), which(s, 6), which(s, 7), which(s, 8), which(s, 9),       \
                            which(s, 10), which(s, 11), which(s, 12), which(s, 13), which(s, 14),  \
                            which(s, 15))
#define VEC_SWAP(s)                                  \
    for (int i = 0; i < VEC; i++)                    \
        if ((i & (s)) == 0) {                        \
            vec a = x[i], b = x[i + (s)];            \
            x[i] = VEC_MIX(VEC_LOW, s, a, b);        \
            x[i + (s)] = VEC_MIX(VEC_HIGH, s, a, b); \
        }

/* The 16 x 16 numbers in x, transposed. */
static inline void vec_transpose(vec x[VEC])
{
#pragma GCC unroll 16
    VEC_SWAP(1)
#pragma GCC unroll 16
    VEC_SWAP(2)
#pragma GCC unroll 16
    VEC_SWAP(4)
#pragma GCC unroll 16
    VEC_SWAP(8)
}

/* e^x to about 1 unit in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial for e^r
 * (coefficients as in Cephes), and two exact steps of scaling, so that results may be subnormal
 * or infinite. -inf gives 0; a NaN stays one. */
static inline vec vec_exp(vec x)
{
    const vec low = vec_set(-105.0f), high = vec_set(89.5f);
    const vec magic = vec_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = vec_select(x < low, low, x);
    x = vec_select(x > high, high, x);
    vec t = x * 1.44269504088896341f + magic;
    vec n = t - magic;
    vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = vec_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vec_int k = __builtin_convertvector(n, vec_int);
    vec_int half = k >> 1;
    vec_int first = (half + 127) << 23, second = (k - half + 127) << 23;
    return p * (vec)first * (vec)second;
}

/* 1 / (1 + e^-x). */
static inline vec vec_logistic(vec x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

/* tanh to about 2 units in the last place: below 0.625 an odd polynomial (coefficients as in
 * Cephes), which keeps small numbers exact; above (1 - e^-2|x|) / (1 + e^-2|x|). */
static inline vec vec_tanh(vec x)
{
    vec_int sign = (vec_int)x & (int32_t)0x80000000;
    vec size = (vec)((vec_int)x & 0x7fffffff), e = vec_exp(-2.0f * size), z = x * x;
    vec far = (vec)((vec_int)((1.0f - e) / (1.0f + e)) | sign);
    vec p = vec_set(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return vec_select(size < 0.625f, p * z * x + x, far);
}

#endif
