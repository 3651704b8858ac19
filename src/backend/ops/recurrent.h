/* The LSTM cell of a trellis network and its vector-Jacobian product. */
#ifndef DEQ_BACKEND_OPS_RECURRENT_H
#define DEQ_BACKEND_OPS_RECURRENT_H

#include "backend/tensor.h"

#define RECURRENT_OPS(OP)                             \
    OP(lstm_cell, (be, p), const struct lstm_cell *p) \
    OP(lstm_cell_vjp, (be, p), const struct lstm_cell_vjp *p)

/* The gates of an LSTM whose input is the state before, position by position (TrellisNet, Bai,
 * Kolter, Koltun 2019). A state is 2H numbers, h and then c. `pre` and u have R >= L rows a
 * sequence. With s the logistic function and H numbers to each gate,
 *   (i, o, g, f) = (s, s, tanh, s)(pre + u + bias)
 *   c'_t = f c_{t-1} + i g, where c_{-1} is c0
 *   h'_t = o tanh(c'_t)
 * The first L rows of `pre` become the gates. Its other rows are unspecified afterwards. */
struct lstm_cell {
    struct tensor pre;  /* [B,R,4H] in place */
    struct tensor u;    /* [B,R,4H] */
    struct tensor bias; /* [4H] */
    struct tensor z;    /* [B,L,2H], of which c is read */
    struct tensor c0;   /* [B,H], or NULL for 0 */
    struct tensor out;  /* [B,L,2H] out, h' and c' */
};

/* The vector-Jacobian product of lstm_cell. With dc' = dout_c + dout_h o (1 - tanh(c')^2), dpre
 * follows from the four products above, dz_c at t - 1 is dc'_t f_t (0 at the last position), and
 * dc0 is dc'_0 f_0. Rows of dpre beyond L become 0. The h part of dz is not touched. */
struct lstm_cell_vjp {
    struct tensor gates; /* [B,R,4H] as lstm_cell left them */
    struct tensor z, c0; /* as given to lstm_cell */
    struct tensor out;   /* [B,L,2H] as lstm_cell gave */
    struct tensor dout;  /* [B,L,2H] */
    struct tensor dpre;  /* [B,R,4H] out */
    struct tensor dz;    /* [B,L,2H] out, c part */
    struct tensor dc0;   /* [B,H] out or NULL */
};

#endif
