/* The loss term that fits the map of the initial guess to the equilibria. */
#include "deq/loss_term.h"

static bool wanted(const struct config *config)
{
    return config->model.start == START_LINEAR;
}

/* Adam divides by a gradient's size, so that this factor does not change how fast the map is
 * learned. It keeps the map's gradient out of the norm that is clipped, and it is far above Adam's
 * eps. */
static double weight(const struct config *config)
{
    (void)config;
    return 1e-5;
}

static struct loss_term_needs needs(const struct config *config)
{
    (void)config;
    return (struct loss_term_needs){0};
}

/* The guess itself is borrowed, as evaluations use it too. */
static enum status create(struct loss_term *t, const struct loss_term_plan *plan, struct error *err)
{
    (void)err;
    t->own = plan->guess;
    return STATUS_OK;
}

static void apply(struct loss_term *t, const struct loss_segment *s)
{
    if (!equilibrium_is_started(s->eq))
        return;
    struct tensor e = s->embedded(s->model), z = equilibrium_state(s->eq);
    initial_guess_fit(t->own, t->be, &e, &z, t->weight);
}

static void release(struct loss_term *t)
{
    t->own = NULL;
}

const struct loss_term_kind initial_guess_term = {
    .wanted = wanted,
    .weight = weight,
    .needs = needs,
    .create = create,
    .apply = apply,
    .free = release,
};
