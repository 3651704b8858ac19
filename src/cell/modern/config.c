/* What a modern cell wants of a configuration. */
#include "config/config.h"

static enum status check_heads(struct config_model *m, struct error *err)
{
    if (m->d_head == 0 && m->d_model % m->n_head != 0)
        return error_set(err, STATUS_CONFIG,
                         "model.n_head: %lld does not divide model.d_model %lld; or set "
                         "model.d_head",
                         (long long)m->n_head, (long long)m->d_model);
    if (m->d_head == 0)
        m->d_head = m->d_model / m->n_head;
    if (m->n_kv_head == 0)
        m->n_kv_head = m->n_head;
    if (m->n_head % m->n_kv_head != 0)
        return error_set(err, STATUS_CONFIG,
                         "model.n_kv_head: %lld does not divide model.n_head %lld",
                         (long long)m->n_kv_head, (long long)m->n_head);
    if (m->rope_base > 0 && m->d_head % 2 != 0)
        return error_set(err, STATUS_CONFIG,
                         "model.rope_base: heads of %lld numbers have none to pair the last with; "
                         "set model.d_head to an even number, or model.rope_base to 0",
                         (long long)m->d_head);
    return STATUS_OK;
}

/* Keys of the other cells that would do nothing here. */
static enum status refuse_others(const struct config_model *m, struct error *err)
{
    if (m->pre_lnorm)
        return error_set(err, STATUS_CONFIG,
                         "model.pre_lnorm: a modern cell takes model.norm_place; set it to false");
    if (m->compat)
        return error_set(err, STATUS_CONFIG,
                         "model.compat: there is no published code of a modern cell; set it to "
                         "false");
    return STATUS_OK;
}

enum status modern_cell_resolve(struct config *config, struct error *err)
{
    struct config_model *m = &config->model;
    TRY(check_heads(m, err));
    TRY(refuse_others(m, err));
    if (m->outer_norm && m->norm_place != NORM_PLACE_PRE)
        return error_set(
            err, STATUS_CONFIG,
            "model.outer_norm: with model.norm_place post or sandwich the last block's "
            "output is normalised; set it to false");
    if (m->layers > 0 && !m->tie_layers && m->prelude + m->coda > 0)
        return error_set(err, STATUS_CONFIG,
                         "model.%s: untied layers are all there is; set it to 0 and count its "
                         "blocks in model.layers",
                         m->prelude > 0 ? "prelude" : "coda");
    if (m->coda > 0 && config->correction.weight > 0)
        return error_set(err, STATUS_CONFIG,
                         "correction.weight: the coda remembers the output alone and cannot run at "
                         "earlier iterates; set one of it and model.coda to 0");
    if (m->d_embed == 0)
        m->d_embed = m->d_model;
    return STATUS_OK;
}
