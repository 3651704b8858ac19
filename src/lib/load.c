/* Loads a model, says what it is, and frees it. */
#include "lib/context.h"

#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "cuda/cuda.h"
#include "data/text_reader.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { THREADS_MAX = 1024, ITERATIONS_MAX = 10000 };

/* Solves of rounded products end at about precision_floor. Most positions get this close to it. */
enum { ABOVE_FLOOR = 4 };

static enum status read_precision(const char *name, enum precision *out, struct error *err)
{
    *out = PRECISION_FP32;
    if (name == NULL)
        return STATUS_OK;
    while (*out < PRECISION_COUNT && strcmp(precision_name(*out), name) != 0)
        (*out)++;
    if (*out < PRECISION_COUNT)
        return STATUS_OK;
    return error_set(err, STATUS_USAGE,
                     "deq_options.precision: want fp32, tf32 or bf16, got \"%.40s\"", name);
}

/* Opens the GPU that is wanted, or for "auto" the one there is, and otherwise the processor. */
static enum status open_device(struct deq *d, const struct deq_options *o, struct error *err)
{
    const char *name = o->device == NULL ? "auto" : o->device;
    bool automatic = strcmp(name, "auto") == 0;
    if (!automatic && strcmp(name, "cpu") != 0 && strcmp(name, "cuda") != 0)
        return error_set(err, STATUS_USAGE,
                         "deq_options.device: want auto, cpu or cuda, got \"%.40s\"", name);
    if (strcmp(name, "cuda") == 0 || (automatic && cuda_built())) {
        enum status status = cuda_open(&d->be, err);
        d->open = d->bound = status == STATUS_OK;
        d->owner = pthread_self();
        if (status == STATUS_OK || !automatic)
            return status;
    }
    TRY(cpu_open(&d->be, o->threads, err));
    d->open = true;
    return STATUS_OK;
}

static enum status check_options(const struct deq_options *o, struct error *err)
{
    int threads = o->threads == 0 ? omp_get_max_threads() : o->threads;
    if (threads < 1 || threads > THREADS_MAX)
        return error_set(err, STATUS_USAGE, "deq_options.threads: want 0..%d, got %d", THREADS_MAX,
                         threads);
    if (!(o->tol == 0 || (o->tol >= 1e-12 && o->tol <= 1)))
        return error_set(err, STATUS_USAGE, "deq_options.tol: want 0, or 1e-12 to 1, got %g",
                         o->tol);
    if (o->max_iter < 0 || o->max_iter > ITERATIONS_MAX)
        return error_set(err, STATUS_USAGE, "deq_options.max_iter: want 0..%d, got %lld",
                         ITERATIONS_MAX, (long long)o->max_iter);
    return STATUS_OK;
}

static enum status load(struct deq *d, const char *path, const struct deq_options *o,
                        struct error *err)
{
    struct score_plan plan;
    enum precision precision;
    TRY(check_options(o, err));
    TRY(read_precision(o->precision, &precision, err));
    TRY(open_device(d, o, err));
    TRY(backend_set_precision(&d->be, precision, err));
    TRY(snapshot_open(&d->from, path, err));
    TRY(generation_check_memory(&d->be, &d->from.config, 1, err));
    d->tol = o->tol;
    if (d->tol == 0)
        d->tol = precision == PRECISION_FP32 ? SCORE_TOL : ABOVE_FLOOR * precision_floor(precision);
    d->max_iter = o->max_iter == 0 ? SCORE_MAX_ITER : o->max_iter;
    score_prepare(&plan, &d->from.config, d->tol, d->max_iter);
    plan.unk = vocab_unk(d->from.vocab);
    plan.ranks = o->ranks != 0;
    TRY(scorer_create(&d->scorer, &d->be, &plan, err));
    TRY(snapshot_read_params(&d->from, &d->scorer->params, err));
    checkpoint_close(d->from.file);
    d->from.file = NULL;
    return STATUS_OK;
}

/* Makes a context without a model, and begins to work in it. */
static enum status create(struct deq **out, struct lib_call *call, struct error *err)
{
    struct deq *d = NULL;
    TRY(mem_alloc((void **)&d, 1, sizeof *d, err));
    d->plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (d->plain == (locale_t)0) {
        mem_free(d);
        return error_set(err, STATUS_NOMEM, "no memory for a locale");
    }
    *out = d;
    return lib_begin(d, call, err);
}

int deq_load(struct deq **out, const char *path, const struct deq_options *options,
             struct deq_error *error)
{
    enum status status;
    struct deq_options o = {0};
    struct lib_call call;
    struct deq *d = NULL;
    struct error err = {0};
    *out = NULL;
    if (options != NULL && lib_read_struct(&o, sizeof o, options, "deq_options", &err) != STATUS_OK)
        return lib_fail(&err, error);
    if (create(&d, &call, &err) != STATUS_OK)
        return lib_fail(&err, error);
    status = load(d, path, &o, &err);
    lib_end(&call);
    if (status == STATUS_OK) {
        *out = d;
        return DEQ_OK;
    }
    deq_free(d);
    return lib_fail(&err, error);
}

void deq_free(struct deq *d)
{
    if (d == NULL)
        return;
    generator_free(&d->next);
    model_free(d->writer);
    scorer_free(d->scorer);
    snapshot_close(&d->from);
    mem_free(d->fed);
    if (d->open)
        backend_close(&d->be);
    freelocale(d->plain);
    mem_free(d);
}

enum status lib_need_writer(struct deq *d, struct error *err)
{
    if (d->writer != NULL)
        return STATUS_OK;
    TRY(generation_model(&d->writer, &d->be, &d->from.config, &d->scorer->params, err));
    model_refresh(d->writer);
    return STATUS_OK;
}

static const char *cell_name(enum config_cell cell)
{
    static const char *const names[] = {
#define NAME(id, name) [CELL_##id] = #name,
        CELLS(NAME)
#undef NAME
    };
    return names[cell];
}

static const char *token_kind(const struct vocab *v)
{
    enum text_split split = vocab_rule(v).split;
    return split == TEXT_SPLIT_BLANKS || split == TEXT_SPLIT_PUNCTUATION ? "words"
                                                                         : text_split_name(split);
}

int deq_info(const struct deq *d, struct deq_info *info, struct deq_error *error)
{
    struct error err;
    const struct vocab *v = d->from.vocab;
    struct deq_info known = {.size = info->size,
                             .vocab_size = vocab_size(v),
                             .context = d->scorer->plan.window,
                             .parameters = params_distinct(&d->scorer->params, NULL),
                             .layers = d->from.config.model.layers,
                             .step = d->from.state.step,
                             .line_start = text_line_start(v),
                             .unknown = (int32_t)vocab_unk(v),
                             .threads = d->bound ? 0 : d->be.threads,
                             .cell = cell_name(d->from.config.model.cell),
                             .tokens = token_kind(v),
                             .device = d->bound ? "cuda" : "cpu"};
    if (info->size < sizeof info->size) {
        error_set(&err, STATUS_USAGE, "deq_info.size: want sizeof (struct deq_info), got %zu",
                  info->size);
        return lib_fail(&err, error);
    }
    size_t size = info->size;
    if (size > sizeof known) {
        memset((char *)info + sizeof known, 0, size - sizeof known);
        size = sizeof known;
    }
    memcpy(info, &known, size);
    return DEQ_OK;
}
