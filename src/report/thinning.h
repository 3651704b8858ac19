/* Series of any length cut down to some hundred points, in memory of that size.
 *
 * Rows come one after the other. Neighbours are put into buckets of equally many rows, and of each
 * column a bucket keeps the mean, the least and the greatest value. No extreme is lost. When all
 * buckets are full, each takes its neighbour in, so that at least half of them are in use. */
#ifndef DEQ_REPORT_THINNING_H
#define DEQ_REPORT_THINNING_H

#include "base/status.h"
#include <stdint.h>

/* The most columns, and what a row lies over: steps, tokens, seconds. */
enum { THINNING_COLUMNS = 8, THINNING_AXES = 3 };

/* The finite values of one column in one bucket. */
struct thinned {
    int64_t count; /* the other fields say nothing where it is 0 */
    double sum, least, most;
};

struct bucket {
    int64_t rows;
    double axis[THINNING_AXES]; /* of its last row */
    struct thinned column[THINNING_COLUMNS];
};

struct thinning {
    struct bucket *bucket; /* owns [capacity] */
    int columns, capacity;
    int count;     /* buckets in use, of which the last may hold fewer rows */
    int64_t width; /* rows of a bucket */
};

/* Prepares for rows of `columns` <= THINNING_COLUMNS values. `capacity` is even and at least 2. The
 * caller frees *t with thinning_free. STATUS_NOMEM. */
enum status thinning_create(struct thinning *t, int columns, int capacity, struct error *err);
void thinning_free(struct thinning *t);

/* Takes a row. A value that is not finite counts as missing. */
void thinning_add(struct thinning *t, const double axis[THINNING_AXES], const double *value);

/* The mean of a column, NaN without values. */
double thinned_mean(const struct thinned *c);

#endif
