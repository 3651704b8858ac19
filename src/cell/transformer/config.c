/* What a transformer cell wants of a configuration. */
#include "config/config.h"

enum status transformer_cell_resolve(struct config *config, struct error *err)
{
    struct config_model *m = &config->model;
    if (m->d_head == 0 && m->d_model % m->n_head != 0)
        return error_set(err, STATUS_CONFIG,
                         "model.n_head: %lld does not divide model.d_model %lld",
                         (long long)m->n_head, (long long)m->d_model);
    if (m->d_head == 0)
        m->d_head = m->d_model / m->n_head;
    if (m->n_head * m->d_head != m->d_model)
        return error_set(err, STATUS_CONFIG,
                         "model.d_head: n_head %lld x d_head %lld must be d_model %lld; set d_head "
                         "to 0 to have it derived",
                         (long long)m->n_head, (long long)m->d_head, (long long)m->d_model);
    if (m->d_embed == 0)
        m->d_embed = m->d_model;
    return STATUS_OK;
}
