/* A causal convolution along time, computed as one product a tap on shifted rows, without copies.
 *
 *   y_t = sum_j W_j x_{t - (taps - 1 - j) dilation},  j = 0 the oldest tap
 *
 * Rows lie in padded buffers of `pitch` rows a sequence. x has (taps - 1) * dilation rows of
 * history in front of its L positions; y starts with its L positions. pitch is at least the sum,
 * so a shift by any tap stays inside the buffer, and the rows between two sequences, where the
 * products mix both, are nobody's. */
#ifndef DEQ_CELL_TRELLIS_CAUSAL_CONV_H
#define DEQ_CELL_TRELLIS_CAUSAL_CONV_H

#include "nn/weight.h"

struct causal_conv {
    int64_t taps, dilation;
    struct weight weight; /* [out, taps * in], tap by tap */
};

/* Rows of history in front of a sequence. */
static inline int64_t causal_conv_history(const struct causal_conv *c)
{
    return (c->taps - 1) * c->dilation;
}

/* y [B,pitch,out] <- conv(x [B,pitch,in]). The last pitch - L rows of a sequence of y are
 * unspecified. All of x must be finite numbers, history included. */
void causal_conv_eval(const struct causal_conv *c, struct backend *be, const struct tensor *x,
                      const struct tensor *y, int64_t length);
/* dx [B,pitch,in] <- gradient of the L positions (not of the history), in the first L rows of each
 * sequence. dy's rows beyond L must be 0. */
void causal_conv_vjp(const struct causal_conv *c, struct backend *be, const struct tensor *dy,
                     const struct tensor *dx, int64_t length);
/* weight.dw += dy x. The rows of dy beyond L must be 0. */
void causal_conv_gradient(const struct causal_conv *c, struct backend *be, const struct tensor *dy,
                          const struct tensor *x, int64_t length);

#endif
