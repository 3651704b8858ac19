/* A solve starts at 0, or at a linear map of the embeddings of the position's token and of the one
 * before it, z_0 = A e_t + B e_{t-1} + c. The map is fitted to the equilibria as training goes. Its
 * three parameters follow the gradient of |z_0 - z*|^2 in the same optimizer step as all others,
 * and take part in nothing else. A position's start depends on its own and earlier tokens only, so
 * that f stays causal at every iterate. */
#ifndef DEQ_DEQ_INITIAL_GUESS_H
#define DEQ_DEQ_INITIAL_GUESS_H

#include "config/config.h"
#include "nn/params.h"

struct initial_guess {
    bool linear;
    struct weight current, previous, bias; /* borrows [W,E], [W,E], [W] */
    /* In the workspace. */
    struct tensor before; /* [B,L,E] embeddings, a position later */
    struct tensor z0;     /* [B,L,W] */
    struct tensor last;   /* [B,1,E] e_{-1}, unless training */
    bool have_last;
};

/* Declares the parameters, of which model.start zero has none. A state has w numbers and an
 * embedding e. STATUS_NOMEM. */
enum status initial_guess_declare(struct params *params, const struct config_model *model,
                                  int64_t w, int64_t e, struct error *err);
/* What to declare buffers for. */
struct initial_guess_plan {
    struct workspace *ws;  /* borrows */
    int64_t batch, length; /* the largest B and L */
    bool train;
};

/* Binds declared and committed parameters, which are borrowed, and declares buffers. */
void initial_guess_bind(struct initial_guess *s, const struct params *params,
                        const struct config_model *model, const struct initial_guess_plan *plan);

/* z_0 [B,L,W] of the embeddings e [B,L,E], a view that is valid until the next call. Its data is
 * NULL if solves start at zero. */
struct tensor initial_guess_eval(struct initial_guess *s, struct backend *be,
                                 const struct tensor *e);
/* After initial_guess_eval of the same e [B,L,E], once, adds the gradients of
 * weight * |z_0 - z|^2 / 2, mean over positions, to those of the three parameters, with z [B,L,W]
 * held constant. Overwrites z_0. Does nothing if every solve starts at zero. */
void initial_guess_fit(struct initial_guess *s, struct backend *be, const struct tensor *e,
                       const struct tensor *z, double weight);

/* Ends the segment with embeddings e. */
void initial_guess_remember(struct initial_guess *s, struct backend *be, const struct tensor *e);
/* Every stream of `to` goes on from where the only stream of `from` stands. */
void initial_guess_spread(struct initial_guess *to, struct backend *be,
                          const struct initial_guess *from);
/* There is no segment before the next one. */
void initial_guess_forget(struct initial_guess *s);

#endif
