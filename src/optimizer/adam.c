/* Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019). */
#include "optimizer/optimizer.h"

static void update(const struct optimizer *o, const struct optimizer_piece *piece, double lr)
{
    struct adam adam = {.w = piece->w,
                        .g = piece->g,
                        .m = piece->state[0],
                        .v = piece->state[1],
                        .norm2 = o->norm2,
                        .beta1 = o->train.beta1,
                        .eps = o->train.eps,
                        .clip = o->train.clip,
                        .step = o->updates + 1,
                        .groups = piece->groups,
                        .coupled = o->kind->coupled_decay,
                        .cautious = o->train.cautious_decay};
    for (int i = 0; i < ADAM_GROUPS; i++) {
        adam.group[i] = o->group[i];
        adam.group[i].lr *= lr;
    }
    op_adam(o->params->be, &adam);
}

const struct optimizer_kind optimizer_adam = {
    .states = 2, .state_name = {"m", "v"}, .coupled_decay = true, .update = update};

const struct optimizer_kind optimizer_adamw = {
    .states = 2, .state_name = {"m", "v"}, .coupled_decay = false, .update = update};
