/* What accelerators can do, by their makers' data sheets, and how much of it programs get. */
#ifndef DEQ_BENCH_CHIP_H
#define DEQ_BENCH_CHIP_H

#include "backend/count/count.h"
#include "config/config.h"

enum { CHIP_PRECISIONS = 3 };

struct chip {
    const char *name;             /* as on the command line */
    const char *text;             /* in full */
    const char *source;           /* of the peaks */
    double peak[CHIP_PRECISIONS]; /* FLOP/s of dense products, by enum precision */
    double bandwidth;             /* bytes/s */
    double memory, reserved;      /* bytes; what the driver and libraries take of them */
    /* What is assumed of it: shares of the peaks that large products and streams reach, and from
     * where; seconds of a launch and of a wait. */
    double product_share, bandwidth_share;
    const char *share_source;
    double call_seconds, sync_seconds;
    int64_t chunk_numbers, ffn_rows; /* as its backend's struct ops has them */
    bool cuda;
};

/* The chip of that name, or NULL; the names, "a100, h100, ...", into out[size]. */
const struct chip *chip_find(const char *name);
void chip_names(char *out, size_t size);

/* It as a counted device, at a format of products. `achievable`: with the shares; else the bound
 * that nothing passes, without them and without launches. */
struct count_device chip_device(const struct chip *chip, enum precision precision, bool achievable);

#endif
