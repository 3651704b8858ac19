/* What accelerators can do by their makers' data sheets, and how much of it programs reach. */
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
    double memory;                /* bytes */
    double reserved;              /* bytes of it that the driver and libraries take */
    /* Programs are assumed to reach these fractions of the peaks in large products and in long
     * streams of memory, and to need these seconds for a kernel launch and for a wait. */
    double product_share, bandwidth_share;
    double attention_share;   /* the same for the bfloat16 products inside attention */
    const char *share_source; /* of the two fractions */
    double call_seconds, sync_seconds;
    int64_t chunk_numbers, ffn_rows; /* as in struct ops of its backend */
    bool cuda;
    /* Several of them train together, `ranks` in number (0 means 1), each on its share of a batch.
     * Rates are bytes/s a direction of each: to others in its machine, and to other machines. */
    int ranks;
    double link, network;
};

/* The chip of that name, or NULL. */
const struct chip *chip_find(const char *name);
/* Writes the known names, "a100, h100, ...", into out[size]. */
void chip_names(char *out, size_t size);

/* The chip as a device that counts, with products in `precision`. `achievable` includes the
 * fractions, launches and waits that are assumed. Otherwise its times are a lower bound, made of
 * the peaks alone. */
struct count_device chip_device(const struct chip *chip, enum precision precision, bool achievable);

#endif
