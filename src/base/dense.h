/* Small dense systems of linear equations. This is a header so that each backend compiles it with
 * its own flags. */
#ifndef DEQ_BASE_DENSE_H
#define DEQ_BASE_DENSE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* Solves A x = b by elimination with row exchanges. a is [n,n], row-major, and is overwritten. b is
 * [n] and becomes x. Returns false if a pivot is zero or not a number. */
static inline bool dense_solve(double *a, double *b, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; r++)
            if (fabs(a[r * n + c]) > fabs(a[pivot * n + c]))
                pivot = r;
        if (!(fabs(a[pivot * n + c]) > 0))
            return false;
        if (pivot != c) {
            for (int64_t k = c; k < n; k++) {
                double swap = a[c * n + k];
                a[c * n + k] = a[pivot * n + k];
                a[pivot * n + k] = swap;
            }
            double swap = b[c];
            b[c] = b[pivot];
            b[pivot] = swap;
        }
        for (int64_t r = c + 1; r < n; r++) {
            double factor = a[r * n + c] / a[c * n + c];
            for (int64_t k = c; k < n; k++)
                a[r * n + k] -= factor * a[c * n + k];
            b[r] -= factor * b[c];
        }
    }
    for (int64_t r = n - 1; r >= 0; r--) {
        for (int64_t k = r + 1; k < n; k++)
            b[r] -= a[r * n + k] * b[k];
        b[r] /= a[r * n + r];
    }
    return true;
}

#endif
