/* Queries, keys and values of heads, in one pass over memory with the rows shared out among the
 * threads. */
#include "backend/cpu/cpu_impl.h"

#include <math.h>
#include <string.h>

/* What all heads of a call have in common. */
struct head_plan {
    int64_t h, skip;   /* width of a head, and heads of q that x lacks */
    int64_t wide, qkv; /* numbers in a row of x, and of qkv */
    int64_t each;      /* heads that share k and v */
};

/* One head of a row: where it lies in x, where its copies begin in qkv, and how it is turned. */
struct head_place {
    int64_t x, to, copies;
    const float *cosine, *sine; /* NULL if it is not turned */
    bool norm;
};

static struct head_plan plan_of(const struct heads *p, int64_t qkv)
{
    struct head_plan s = {.h = qkv / (3 * p->heads), .wide = p->x.dim[1], .qkv = qkv};
    s.skip = s.wide == 2 * p->groups * s.h ? p->heads : 0;
    s.each = p->heads / p->groups;
    return s;
}

static struct head_place place_of(const struct heads *p, const struct head_plan *s, int64_t n,
                                  int64_t k)
{
    struct head_place at = {.x = n * s->wide + (k - s->skip) * s->h, .copies = 1};
    bool queries = k < p->heads, turned = k < p->heads + p->groups;
    int64_t group = (k - p->heads) % p->groups, part = turned ? 1 : 2;
    at.to = n * s->qkv + (queries ? k : part * p->heads + group * s->each) * s->h;
    if (!queries)
        at.copies = s->each;
    at.norm = p->norm && turned;
    if (p->turn.data != NULL && turned) {
        int64_t row = p->rows.data != NULL ? cpu_i32(&p->rows)[n] : n;
        at.cosine = cpu_f32(&p->turn) + (p->first + row % p->length) * s->h;
        at.sine = at.cosine + s->h / 2;
    }
    return at;
}

static float dot(const float *a, const float *b, int64_t count)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t e = 0; e < count; e++)
        sum += a[e] * b[e];
    return sum;
}

/* 1 / root mean square, or 1 for a head that is not normalised. */
static float scale_of(const struct heads *p, const struct head_place *at, const float *x, int64_t h)
{
    return at->norm ? 1.0f / sqrtf(dot(x, x, h) / (float)h + (float)p->eps) : 1.0f;
}

/* y = r x, turned. */
static void turn(const struct head_place *at, const float *x, float r, float *y, int64_t h)
{
    int64_t half = h / 2;
    if (at->cosine == NULL) {
#pragma omp simd
        for (int64_t e = 0; e < h; e++)
            y[e] = r * x[e];
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = r * x[i], b = r * x[i + half];
        y[i] = at->cosine[i] * a - at->sine[i] * b;
        y[i + half] = at->sine[i] * a + at->cosine[i] * b;
    }
}

static void head_forward(const struct heads *p, const struct head_plan *s, int64_t n, int64_t k)
{
    struct head_place at = place_of(p, s, n, k);
    const float *x = cpu_f32(&p->x) + at.x;
    float *to = cpu_f32(&p->qkv) + at.to;
    turn(&at, x, scale_of(p, &at, x, s->h), to, s->h);
    for (int64_t copy = 1; copy < at.copies; copy++)
        memcpy(to + copy * s->h, to, (size_t)s->h * sizeof *to);
}

void cpu_heads(struct backend *be, const struct heads *p)
{
    struct head_plan s = plan_of(p, p->qkv.dim[1]);
    int64_t rows = p->x.dim[0], all = p->heads + 2 * p->groups;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * s.qkv))
    for (int64_t n = 0; n < rows; n++) {
        if (s.skip > 0)
            memset(cpu_f32(&p->qkv) + n * s.qkv, 0, (size_t)(p->heads * s.h) * sizeof(float));
        for (int64_t k = s.skip; k < all; k++)
            head_forward(p, &s, n, k);
    }
}

/* dx = the sum of what reaches the head's copies, turned back. */
static void gather(const struct head_place *at, const float *dqkv, float *dx, int64_t h)
{
    int64_t half = h / 2;
    memcpy(dx, dqkv + at->to, (size_t)h * sizeof *dx);
    for (int64_t copy = 1; copy < at->copies; copy++) {
        const float *more = dqkv + at->to + copy * h;
#pragma omp simd
        for (int64_t e = 0; e < h; e++)
            dx[e] += more[e];
    }
    if (at->cosine == NULL)
        return;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = dx[i], b = dx[i + half];
        dx[i] = at->cosine[i] * a + at->sine[i] * b;
        dx[i + half] = at->cosine[i] * b - at->sine[i] * a;
    }
}

void cpu_heads_vjp(struct backend *be, const struct heads_vjp *p)
{
    struct head_plan s = plan_of(&p->fwd, p->dqkv.dim[1]);
    int64_t rows = p->fwd.x.dim[0], all = p->fwd.heads + 2 * p->fwd.groups;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * s.qkv))
    for (int64_t n = 0; n < rows; n++)
        for (int64_t k = 0; k < all; k++) {
            struct head_place at = place_of(&p->fwd, &s, n, k);
            const float *x = cpu_f32(&p->fwd.x) + at.x;
            float *dx = cpu_f32(&p->dx) + at.x, r = scale_of(&p->fwd, &at, x, s.h);
            gather(&at, cpu_f32(&p->dqkv), dx, s.h);
            if (!at.norm)
                continue;
            float along = r * r * dot(x, dx, s.h) / (float)s.h;
#pragma omp simd
            for (int64_t e = 0; e < s.h; e++)
                dx[e] = r * (dx[e] - x[e] * along);
        }
}

/* One head of heads_tangent. `room` has space for a head. A name ending in _t is a derivative. */
static void head_tangent(const struct heads_tangent *p, const struct head_plan *s, int64_t n,
                         int64_t k, float *room)
{
    struct head_place at = place_of(&p->fwd, s, n, k);
    int64_t h = s->h;
    const float *x = cpu_f32(&p->fwd.x) + at.x, *x_t = cpu_f32(&p->x_t) + at.x;
    float r = scale_of(&p->fwd, &at, x, h), width = (float)h;
    float along = at.norm ? r * r * dot(x, x_t, h) / width : 0;
#pragma omp simd
    for (int64_t e = 0; e < h; e++)
        room[e] = r * (x_t[e] - x[e] * along); /* the derivative of r x */
    if (p->qkv_t.data != NULL) {
        float *to = cpu_f32(&p->qkv_t) + at.to;
        turn(&at, room, 1, to, h);
        for (int64_t copy = 1; copy < at.copies; copy++)
            memcpy(to + copy * h, to, (size_t)h * sizeof *to);
    }
    if (p->dqkv.data == NULL)
        return;
    float *dx = cpu_f32(&p->dx) + at.x, *dx_t = cpu_f32(&p->dx_t) + at.x;
    gather(&at, cpu_f32(&p->dqkv), dx, h);
    gather(&at, cpu_f32(&p->dqkv_t), dx_t, h);
    if (!at.norm)
        return;
    float mean = r * dot(x, dx, h) / width;
    float mean_t = (dot(room, dx, h) + r * dot(x, dx_t, h)) / width;
#pragma omp simd
    for (int64_t e = 0; e < h; e++) {
        float u = r * x[e], d = r * (dx[e] - u * mean);
        dx_t[e] = r * (dx_t[e] - room[e] * mean - u * mean_t) - along * d;
        dx[e] = d;
    }
}

void cpu_heads_tangent(struct backend *be, const struct heads_tangent *p)
{
    int64_t qkv = p->dqkv.data != NULL ? p->dqkv.dim[1] : p->qkv_t.dim[1];
    struct head_plan s = plan_of(&p->fwd, qkv);
    int64_t rows = p->fwd.x.dim[0], all = p->fwd.heads + 2 * p->fwd.groups;
#pragma omp parallel num_threads(be->threads) if (cpu_worth(rows * s.qkv))
    {
        float *room = cpu_scratch(be, (size_t)s.h, false, OP_heads_tangent);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < rows; n++)
            for (int64_t k = 0; k < all && room != NULL; k++)
                head_tangent(p, &s, n, k, room);
    }
}
