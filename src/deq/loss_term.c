/* The list of loss terms, and their way through a segment. */
#include "deq/loss_term.h"

static const struct loss_term_kind *const kinds[] = {
#define ADDRESS(NAME, name) &name##_term,
    LOSS_TERMS(ADDRESS)};

void loss_term_declare_state(const struct loss_term_plan *plan, struct tensor *t, const char *name,
                             struct lifetime life)
{
    workspace_declare(plan->ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = plan->ws->be->ops->real,
                                       .ndim = 3,
                                       .dim = {plan->batch, plan->length, plan->cell->width},
                                       .life = life});
}

struct loss_term_needs loss_terms_needs(const struct config *config)
{
    struct loss_term_needs all = {0};
    for (int i = 0; i < TERM_COUNT; i++) {
        if (!kinds[i]->wanted(config))
            continue;
        struct loss_term_needs one = kinds[i]->needs(config);
        all.spare_slot |= one.spare_slot;
        all.losses |= one.losses;
        all.tangents |= one.tangents;
    }
    return all;
}

enum status loss_terms_create(struct loss_terms *terms, const struct loss_term_plan *plan,
                              struct error *err)
{
    *terms = (struct loss_terms){0};
    for (int i = 0; i < TERM_COUNT; i++) {
        if (!kinds[i]->wanted(plan->config))
            continue;
        struct loss_term *t = &terms->term[i];
        t->kind = kinds[i];
        t->be = plan->cell->be;
        TRY(t->kind->create(t, plan, err));
    }
    return STATUS_OK;
}

void loss_terms_free(struct loss_terms *terms)
{
    for (int i = 0; i < TERM_COUNT; i++)
        if (terms->term[i].kind != NULL)
            terms->term[i].kind->free(&terms->term[i]);
    *terms = (struct loss_terms){0};
}

void loss_terms_begin(struct loss_terms *terms, const struct config *config)
{
    for (int i = 0; i < TERM_COUNT; i++) {
        struct loss_term *t = &terms->term[i];
        t->applied = false;
        if (t->kind != NULL)
            t->weight = t->kind->weight(config);
    }
}

void loss_terms_weigh(struct loss_terms *terms, enum loss_term_id id, double weight,
                      const struct rng_key *key)
{
    struct loss_term *t = &terms->term[id];
    assert(t->kind != NULL);
    t->weight = weight;
    t->draws = key != NULL;
    if (key != NULL)
        t->key = *key;
}

void loss_terms_observe(void *ctx, int64_t evaluation, const struct tensor *z)
{
    struct loss_terms *terms = ctx;
    for (int i = 0; i < TERM_COUNT; i++) {
        struct loss_term *t = &terms->term[i];
        if (t->kind != NULL && t->kind->observe != NULL)
            t->kind->observe(t, evaluation, z);
    }
}

void loss_terms_apply(struct loss_terms *terms, const struct loss_segment *segment)
{
    for (int i = 0; i < TERM_COUNT; i++) {
        struct loss_term *t = &terms->term[i];
        if (t->kind == NULL || t->weight == 0)
            continue;
        t->kind->apply(t, segment);
        t->applied = true;
    }
}

bool loss_terms_read(struct loss_terms *terms, enum loss_term_id id, double *value)
{
    struct loss_term *t = &terms->term[id];
    if (t->kind == NULL || !t->applied || t->kind->read == NULL)
        return false;
    *value = t->kind->read(t);
    return true;
}
