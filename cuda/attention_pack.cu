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

static int64_t aligned(int64_t numbers)
{
    return div_up(numbers, 64) * 64;
}

/* Numbers of rounded queries, of keys, and of rows of rk. */
static int64_t query_numbers(const att &p)
{
    return aligned(p.batch * p.heads * p.length * mma_head(p.head));
}

static int64_t key_numbers(const att &p)
{
    return aligned(p.batch * p.heads * p.keys * mma_head(p.head));
}

static int64_t position_numbers(const att &p)
{
    return p.rk == NULL ? 0 : aligned(p.heads * p.span * mma_head(p.head));
}

int64_t attention_pack_numbers(const att &p, bool vjp)
{
    int64_t queries = vjp ? (p.rk == NULL ? 2 : 3) * query_numbers(p) : 0;
    return queries + 2 * key_numbers(p) + position_numbers(p);
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
    int head = mma_head(p.head);
    att_packed to = {};
    pack_jobs jobs = {};
    auto take = [&](int64_t numbers) {
        bf16 *at = numbers == 0 ? NULL : scratch;
        scratch += numbers;
        return at;
    };
    to.k = take(key_numbers(p));
    to.v = take(key_numbers(p));
    to.rk = take(position_numbers(p));
    add_keys(&jobs, p, head, to.k, PART_K);
    add_keys(&jobs, p, head, to.v, PART_V);
    if (p.rk != NULL)
        add_job(&jobs, {p.rk, NULL, to.rk, 0, p.width, 1, p.span, p.span});
    if (dout != NULL) {
        to.qw = take(query_numbers(p));
        to.qr = take(p.rk == NULL ? 0 : query_numbers(p));
        to.dout = take(query_numbers(p));
        add_queries(&jobs, p, p.r_w, to.qw);
        add_queries(&jobs, p, p.r_r, to.qr);
        add_job(&jobs,
                {dout, NULL, to.dout, p.length * p.width, p.width, p.batch, p.length, p.length});
    }
    start_pack(cuda, p, jobs);
    return to;
}
