/* Averages the weights of checkpoints. */
#include "store/weight_average.h"

#include "base/mem.h"

struct average {
    struct snapshot first; /* owns */
    struct params params;  /* owns names and sizes */
    struct snapshot_image image;
    float *one;  /* owns [params.total], the weights of one checkpoint */
    double *sum; /* owns [params.total] */
};

/* Checks that the checkpoint may be averaged with the first one. */
static enum status check_same(const struct average *a, const struct snapshot *s, struct error *err)
{
    struct config_difference d;
    const char *path = checkpoint_path(s->file), *first = checkpoint_path(a->first.file);
    TRY(config_compare(&s->config, &a->first.config, config_is_model_key, &d, err));
    if (d.path != NULL)
        return error_set(err, STATUS_CONFIG,
                         "%s: was made with %s %s, and %s with %s: only checkpoints of the same "
                         "model have a mean",
                         path, d.path, d.a, first, d.b);
    if (vocab_hash(s->vocab) != vocab_hash(a->first.vocab))
        return error_set(err, STATUS_DATA,
                         "%s: has another vocabulary than %s: only checkpoints of the same "
                         "vocabulary have a mean",
                         path, first);
    return STATUS_OK;
}

static enum status add(struct average *a, struct snapshot *s, struct error *err)
{
    TRY(check_same(a, s, err));
    TRY(snapshot_read_weights(s, &a->params, a->one, err));
    for (int64_t i = 0; i < a->params.total; i++)
        a->sum[i] += a->one[i];
    return STATUS_OK;
}

static enum status open_average(struct average *a, const char *path, struct error *err)
{
    TRY(snapshot_open(&a->first, path, err));
    TRY(model_declare(&a->params, &a->first.config.model, err));
    TRY(snapshot_image_of_weights(&a->image, &a->first.config, a->first.vocab, &a->params, err));
    size_t total = (size_t)a->params.total;
    TRY(mem_alloc((void **)&a->one, total, sizeof *a->one, err));
    return mem_alloc((void **)&a->sum, total, sizeof *a->sum, err);
}

enum status weight_average(const char *const *paths, int count, const char *out, int64_t *steps,
                           int64_t *parameters, struct error *err)
{
    enum status status = STATUS_OK;
    struct average a = {0};
    params_init(&a.params, NULL);
    TRY_OUT(open_average(&a, paths[0], err));
    *parameters = params_distinct(&a.params, NULL);
    for (int i = 0; i < count; i++) {
        struct snapshot s;
        TRY_OUT(snapshot_open(&s, paths[i], err));
        status = add(&a, &s, err);
        steps[i] = s.state.step;
        snapshot_close(&s);
        if (status != STATUS_OK)
            goto out;
    }
    for (int64_t i = 0; i < a.params.total; i++)
        a.image.w[i] = (float)(a.sum[i] / count);
    TRY_OUT(snapshot_write(out, &a.image, err));
out:
    mem_free(a.one);
    mem_free(a.sum);
    snapshot_image_free(&a.image);
    params_free(&a.params);
    snapshot_close(&a.first);
    return status;
}
