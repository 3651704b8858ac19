/* The known chips. */
#include "bench/chip.h"

#include <stdio.h>
#include <string.h>

/* cuBLAS in bf16 has been measured on an H100 SXM at 741 TFLOP/s (6144^3) and 798 TFLOP/s (8192^3),
 * which are 0.75 and 0.81 of the peak (github.com/pranjalssh/fast.cu). With less power or an older
 * library others measured 519, or 0.52 (issue 13 there). Device copies reached 2903 of 3350 GB/s,
 * or 0.87, on Voltage Park's cluster, measured with AI @ Georgia Tech. */
#define SHARE_SOURCE                                                                        \
    "cuBLAS bf16 measured by others at 0.52-0.81 of peak (fast.cu), device copies at 0.87 " \
    "(Voltage Park); not measured with deq"

/* The device's front end takes some microseconds for a launch that follows others. A wait adds the
 * time until the host goes on. */
#define LAUNCH_SECONDS 3e-6
#define SYNC_SECONDS 15e-6

/* Must be that of cuda/cuda_open.cu. */
enum { CUDA_CHUNK_NUMBERS = 32 << 20 };
/* A CUDA context with its kernels usually takes about 0.5 GB. The rest is cuBLAS's workspace. */
static const double CUDA_RESERVED = 600e6;

/* What a FlashAttention-2 kernel of mma.sync reaches of the bfloat16 peak by its authors. It is 35
 * % on an H100 (FlashAttention-3, 2024), and 50 to 73 % on an A100 (FlashAttention-2, 2023). */
#define HOPPER_ATTENTION 0.35
#define AMPERE_ATTENTION 0.5

/* NVLink 4 has 900 GB/s in both directions, NVLink 3 has 600 (data sheets). To other machines a GPU
 * has a network card of its own in NVIDIA's DGX H100 and H200, of 400 Gb/s, and in the DGX A100, of
 * 200 Gb/s. */
#define HOPPER_LINKS .link = 450e9, .network = 50e9
#define AMPERE_LINKS .link = 300e9, .network = 25e9

#define CUDA_COMMON                                                                             \
    .reserved = CUDA_RESERVED, .product_share = 0.7, .bandwidth_share = 0.87,                   \
    .share_source = SHARE_SOURCE, .call_seconds = LAUNCH_SECONDS, .sync_seconds = SYNC_SECONDS, \
    .chunk_numbers = CUDA_CHUNK_NUMBERS, .cuda = true

static const struct chip chips[] = {
    {.name = "h100",
     .text = "NVIDIA H100 SXM5 80 GB",
     .source = "NVIDIA H100 data sheet, dense",
     .peak = {67e12, 494.7e12, 989.4e12},
     .bandwidth = 3.35e12,
     .memory = 80e9,
     .attention_share = HOPPER_ATTENTION,
     HOPPER_LINKS,
     CUDA_COMMON},
    {.name = "h200",
     .text = "NVIDIA H200 SXM 141 GB",
     .source = "NVIDIA H200 data sheet, dense",
     .peak = {67e12, 494.7e12, 989.4e12},
     .bandwidth = 4.8e12,
     .memory = 141e9,
     .attention_share = HOPPER_ATTENTION,
     HOPPER_LINKS,
     CUDA_COMMON},
    {.name = "a100",
     .text = "NVIDIA A100 SXM 80 GB",
     .source = "NVIDIA A100 data sheet, dense",
     .peak = {19.5e12, 156e12, 312e12},
     .bandwidth = 2.039e12,
     .memory = 80e9,
     .attention_share = AMPERE_ATTENTION,
     AMPERE_LINKS,
     CUDA_COMMON},
    {.name = "a100-40",
     .text = "NVIDIA A100 SXM 40 GB",
     .source = "NVIDIA A100 data sheet, dense",
     .peak = {19.5e12, 156e12, 312e12},
     .bandwidth = 1.555e12,
     .memory = 40e9,
     .attention_share = AMPERE_ATTENTION,
     AMPERE_LINKS,
     CUDA_COMMON},
};

enum { CHIPS = sizeof chips / sizeof *chips };

const struct chip *chip_find(const char *name)
{
    for (int i = 0; i < CHIPS; i++)
        if (strcmp(chips[i].name, name) == 0)
            return &chips[i];
    return NULL;
}

void chip_names(char *out, size_t size)
{
    size_t len = 0;
    for (int i = 0; i < CHIPS && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s", i > 0 ? ", " : "", chips[i].name);
}

struct count_device chip_device(const struct chip *c, enum precision precision, bool achievable)
{
    double products = achievable ? c->product_share : 1;
    double memory = achievable ? c->bandwidth_share : 1;
    double attention = achievable ? c->attention_share : 1;
    return (struct count_device){
        .product_rate = c->peak[precision] * products,
        .plain_rate = c->peak[PRECISION_FP32] * products,
        .attention_rate =
            c->cuda && precision == PRECISION_BF16 ? c->peak[PRECISION_BF16] * attention : 0,
        .bandwidth = c->bandwidth * memory,
        .call_seconds = achievable ? c->call_seconds : 0,
        .sync_seconds = achievable ? c->sync_seconds : 0,
        .rounds = c->cuda && precision == PRECISION_BF16,
        .rectifier_passes = c->cuda,
        .kernel_scratch = c->cuda,
        .chunk_numbers = c->chunk_numbers,
        .ffn_rows = c->ffn_rows,
    };
}
