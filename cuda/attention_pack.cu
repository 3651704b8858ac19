/* The pass in front of the attention kernels on tensor cores, which rounds their operands to bf16
 * and pads the heads (attention_mma.h). It is bound by memory: 4 bytes read and 2 written a number.
 */
#include "cuda_impl.h"

#include "attention_mma.h"

enum { PACK_THREADS = 128, PACK_JOBS = 8 };

/* Rows of one source. Row r of sequence b lies at from + b * sequence + r * row, and head n of it
 * goes to row (b * heads + n) * to_rows + r of `to`, with `add` [D] added unless it is NULL. */
struct pack_job {
    const float *from, *add;
    bf16 *to;
    int64_t sequence, row;
    int64_t batch, rows, to_rows;
};

struct pack_jobs {
    pack_job job[PACK_JOBS];
    int count;
};

/* A block for a row. */
template <int HEAD>
__global__ void __launch_bounds__(PACK_THREADS)
    k_attention_pack(pack_jobs jobs, int heads, int head)
{
    const pack_job &job = jobs.job[blockIdx.y];
    int64_t b = blockIdx.x / job.rows, r = blockIdx.x % job.rows;
    if (b >= job.batch)
        return;
    const float *from = job.from + b * job.sequence + r * job.row;
    for (int x = (int)threadIdx.x; x < heads * (HEAD / 2); x += PACK_THREADS) {
        int n = x / (HEAD / 2), e = x % (HEAD / 2) * 2, column = n * head + e;
        float pair[2] = {0, 0};
#pragma unroll
        for (int k = 0; k < 2; k++)
            if (e + k < head)
                pair[k] = from[column + k] + (job.add != NULL ? job.add[column + k] : 0);
        store_vec(job.to + ((b * heads + n) * job.to_rows + r) * HEAD + e,
                  pack_bf16(pair[0], pair[1]));
    }
}

static void add_job(pack_jobs *jobs, pack_job job)
{
    if (job.batch * job.rows > 0)
        jobs->job[jobs->count++] = job;
}

/* Jobs for a part of the key rows, those of the memory first. */
static void add_keys(pack_jobs *jobs, const att &p, int head, bf16 *to, att_part part)
{
    const float *mem = p.mem == NULL ? NULL : p.mem + part * p.width;
    int64_t row = 3 * p.width;
    add_job(jobs, {mem, NULL, to, p.mem_len * row, row, p.batch, p.mem_len, p.keys});
    add_job(jobs, {p.qkv + part * p.width, NULL, to + p.mem_len * head, p.length * row, row,
                   p.batch, p.length, p.keys});
}

static void add_queries(pack_jobs *jobs, const att &p, const float *bias, bf16 *to)
{
    int64_t row = 3 * p.width;
    if (to != NULL)
        add_job(jobs, {p.qkv, bias, to, p.length * row, row, p.batch, p.length, p.length});
}

static void start_pack(struct cuda *cuda, const att &p, const pack_jobs &jobs)
{
    int64_t most = 0;
    for (int k = 0; k < jobs.count; k++) {
        int64_t rows = jobs.job[k].batch * jobs.job[k].rows;
        most = rows > most ? rows : most;
    }
    dim3 grid((unsigned)most, (unsigned)jobs.count, 1);
    MMA_BY_HEAD(p, LAUNCH((k_attention_pack<HEAD>), grid, PACK_THREADS, 0, cuda->stream, jobs,
                          (int)p.heads, (int)p.head));
}

att_packed attention_pack(struct cuda *cuda, const att &p, const float *dout, bf16 *scratch)
{
    int head = attention_padded_head(p.head);
    int64_t pairs = p.batch * p.heads;
    att_packed to = {};
    pack_jobs jobs = {};
    auto take = [&](int64_t rows) {
        bf16 *at = scratch;
        scratch += attention_operand(rows, p.head);
        return at;
    };
    to.k = take(pairs * p.keys);
    to.v = take(pairs * p.keys);
    to.rk = p.rk == NULL ? NULL : take(p.heads * p.span);
    add_keys(&jobs, p, head, to.k, PART_K);
    add_keys(&jobs, p, head, to.v, PART_V);
    if (p.rk != NULL)
        add_job(&jobs, {p.rk, NULL, to.rk, 0, p.width, 1, p.span, p.span});
    if (dout != NULL) {
        to.qw = take(pairs * p.length);
        to.qr = p.rk == NULL ? NULL : take(pairs * p.length);
        to.dout = take(pairs * p.length);
        add_queries(&jobs, p, p.r_w, to.qw);
        add_queries(&jobs, p, p.r_r, to.qr);
        add_job(&jobs,
                {dout, NULL, to.dout, p.length * p.width, p.width, p.batch, p.length, p.length});
    }
    start_pack(cuda, p, jobs);
    return to;
}
