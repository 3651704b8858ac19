/* Vectors of floats, as wide as the processor's registers, by the compiler's vector extension.
 * Where the compiler makes more of an expression than one instruction, that instruction is named.
 * Wider vectors than there are registers would cost far more than they hold, since gcc 12 makes
 * single numbers of them. */
#ifndef DEQ_BACKEND_CPU_VECMATH_H
#define DEQ_BACKEND_CPU_VECMATH_H

#include <stdint.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* VEC_EACH(F, s) lists F(s, k) of every lane k. VEC_HARDWARE is the name of an instruction. */
#define VEC_EACH_4(F, s, k) F(s, k), F(s, (k) + 1), F(s, (k) + 2), F(s, (k) + 3)
#define VEC_EACH_8(F, s, k) VEC_EACH_4(F, s, k), VEC_EACH_4(F, s, (k) + 4)
#if defined(__AVX512F__)
enum { VEC = 16 };
#define VEC_EACH(F, s) VEC_EACH_8(F, s, 0), VEC_EACH_8(F, s, 8)
#define VEC_HARDWARE(name) _mm512_##name##_ps
#elif defined(__AVX2__)
enum { VEC = 8 };
#define VEC_EACH(F, s) VEC_EACH_8(F, s, 0)
#define VEC_HARDWARE(name) _mm256_##name##_ps
#else
enum { VEC = 4 };
#define VEC_EACH(F, s) VEC_EACH_4(F, s, 0)
#ifdef __SSE2__
#define VEC_HARDWARE(name) _mm_##name##_ps
#endif
#endif

typedef float vec __attribute__((vector_size(4 * VEC)));
typedef int32_t vec_int __attribute__((vector_size(4 * VEC)));
/* the same at any address */
typedef float vec_any __attribute__((vector_size(4 * VEC), aligned(4), may_alias));

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

/* VEC_PARTNER has lane k ^ s of v in every lane k, or is v itself where no lane has such a
 * partner. */
#define VEC_XOR(s, k) (((k) ^ (s)) % VEC)
#define VEC_PARTNER(s, v) __builtin_shufflevector(v, v, VEC_EACH(VEC_XOR, s))

static inline float vec_sum(vec v)
{
    if (VEC > 8)
        v += VEC_PARTNER(8, v);
    if (VEC > 4)
        v += VEC_PARTNER(4, v);
    v += VEC_PARTNER(1, v);
    v += VEC_PARTNER(2, v);
    return v[0];
}

/* Returns yes where the mask is all ones, and no where it is 0. */
static inline vec vec_select(vec_int mask, vec yes, vec no)
{
    return (vec)((mask & (vec_int)yes) | (~mask & (vec_int)no));
}

/* Returns a b + c, rounded once on every processor that can. For the plain expression gcc makes one
 * instruction or two, depending on the code around it, since it avoids chains of the former on some
 * Zens. The same sum would then have other bits in a tile of another size. */
static inline vec vec_fma(vec a, vec b, vec c)
{
#if defined(__FMA__) || defined(__AVX512F__)
    return VEC_HARDWARE(fmadd)(a, b, c);
#else
    return a * b + c;
#endif
}

/* Returns the mask of lanes start .. end - 1, some of which may not exist. */
static inline vec_int vec_lanes(int64_t start, int64_t end)
{
    const vec_int lane = {VEC_EACH(VEC_XOR, 0)};
    return (lane >= (int32_t)start) & (lane < (int32_t)end);
}

/* Returns the larger of each pair, and `a` where `b` is a NaN. */
static inline vec vec_max(vec a, vec b)
{
#ifdef VEC_HARDWARE
    return VEC_HARDWARE(max)(b, a);
#else
    return vec_select(b > a, b, a);
#endif
}

/* Returns the smaller of each pair, and `a` where `b` is a NaN. */
static inline vec vec_min(vec a, vec b)
{
#ifdef VEC_HARDWARE
    return VEC_HARDWARE(min)(b, a);
#else
    return vec_select(b < a, b, a);
#endif
}

/* Returns the largest number, if none is a NaN. */
static inline float vec_max_of(vec v)
{
    v = vec_max(v, VEC_PARTNER(8, v)); /* or with itself */
    v = vec_max(v, VEC_PARTNER(4, v));
    v = vec_max(v, VEC_PARTNER(2, v));
    v = vec_max(v, VEC_PARTNER(1, v));
    return v[0];
}

/* Swaps the off-diagonal blocks of size s of all 2s x 2s blocks in rows that are s apart. */
#define VEC_LOW(s, k) (((k) & (s)) != 0 ? VEC + (k) - (s) : (k))
#define VEC_HIGH(s, k) (((k) & (s)) != 0 ? VEC + (k) : (k) + (s))
#define VEC_MIX(which, s, a, b) __builtin_shufflevector(a, b, VEC_EACH(which, s))
#define VEC_SWAP(s)                                  \
    for (int i = 0; i < VEC; i++)                    \
        if ((i & (s)) == 0) {                        \
            vec a = x[i], b = x[i + (s)];            \
            x[i] = VEC_MIX(VEC_LOW, s, a, b);        \
            x[i + (s)] = VEC_MIX(VEC_HIGH, s, a, b); \
        }

/* Transposes the VEC x VEC numbers in x. */
static inline void vec_transpose(vec x[VEC])
{
#pragma GCC unroll 16
    VEC_SWAP(1)
#pragma GCC unroll 16
    VEC_SWAP(2)
#ifdef __AVX2__
#pragma GCC unroll 16
    VEC_SWAP(4)
#endif
#ifdef __AVX512F__
#pragma GCC unroll 16
    VEC_SWAP(8)
#endif
}

/* Returns p * 2^n, rounded once, for a whole number n in [-151, 129]. */
static inline vec vec_scale(vec p, vec n)
{
#ifdef __AVX512F__
    return _mm512_scalef_ps(p, n);
#else
    vec_int k = __builtin_convertvector(n, vec_int);
    vec_int half =
        k >> 1; /* in two steps, since 2^n itself may be no number, and the first is exact */
    vec_int first = (half + 127) << 23, second = (k - half + 127) << 23;
    return p * (vec)first * (vec)second;
#endif
}

/* Returns e^x to about 1 unit in the last place. With x = n ln 2 + r and |r| <= ln 2 / 2, a
 * polynomial gives e^r (coefficients as in Cephes). Scaling comes last, so that results may be
 * subnormal or infinite. -inf gives 0, and a NaN stays one. */
static inline vec vec_exp(vec x)
{
    const vec magic = vec_set(12582912.0f); /* adding 1.5 * 2^23 rounds to an integer */
    x = vec_min(vec_max(x, vec_set(-105.0f)), vec_set(89.5f));
    vec t = x * 1.44269504088896341f + magic;
    vec n = t - magic;
    vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = vec_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return vec_scale(p * (r * r) + r + 1.0f, n);
}

/* Returns 1 / (1 + e^-x). */
static inline vec vec_logistic(vec x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

/* Returns tanh to about 2 units in the last place. Below 0.625 it is an odd polynomial
 * (coefficients as in Cephes), which keeps small numbers exact. Above, it is (1 - e^-2|x|) / (1 +
 * e^-2|x|). */
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
