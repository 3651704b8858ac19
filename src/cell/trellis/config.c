/* What a trellis wants of a configuration. */
#include "config/config.h"

enum status trellis_cell_resolve(struct config *config, struct error *err)
{
    struct config_model *m = &config->model;
    if (m->blocks != 1)
        return error_set(err, STATUS_CONFIG, "model.blocks: a trellis has no blocks; set it to 1");
    if (m->wdrop > 0 && m->ksize == 1)
        return error_set(err, STATUS_CONFIG,
                         "model.wdrop: drops all taps but the newest, and with model.ksize 1 there "
                         "is no other; set it to 0");
    if (config_is_layered(m))
        return error_set(err, STATUS_CONFIG,
                         "model.tie_layers: the layers of a trellis share their weights; set it to "
                         "true");
    if (m->layers == 0 && config_has_penalty(config) && config->jacobian.form == PENALTY_EXACT)
        return error_set(
            err, STATUS_CONFIG,
            "jacobian.form: a trellis has no second derivatives; set it to difference");
    if (m->d_embed == 0)
        m->d_embed = m->nout;
    return STATUS_OK;
}
