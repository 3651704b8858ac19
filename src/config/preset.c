/* Fits presets to a text. */
#include "config/preset.h"

#include <string.h>

enum {
    SMALL_BYTES = 8000000,    /* a longer text is worth an hour */
    MEDIUM_BYTES = 100000000, /* and a longer one a night */
    SEGMENTS_LEAST = 4,       /* of a stream, else the batch is smaller */
    STEPS_LEAST = 100,
    ADAPTIVE_VOCAB = 12000, /* above it a plain softmax costs more than f */
    FILE_VOCAB = 8000,      /* for which the steps in the files are meant */
    SOFTMAX_WORDS = 86,     /* a softmax of so many words a unit of d_model costs as much as f */
    BYTE_EPOCHS = 4,        /* passes over bytes that teach a text by heart as one over words */
};

static const struct {
    const char *name, *budget;
} presets[] = {{"small", "minutes"}, {"medium", "an hour"}, {"large", "a night"}};

const char *preset_name(enum preset preset)
{
    return presets[preset].name;
}

const char *preset_budget(enum preset preset)
{
    return presets[preset].budget;
}

bool preset_find(const char *name, enum preset *out)
{
    for (int i = PRESET_SMALL; i <= PRESET_LARGE; i++) {
        *out = (enum preset)i;
        if (strcmp(name, presets[i].name) == 0)
            return true;
    }
    return false;
}

enum preset preset_choose(const struct preset_facts *facts)
{
    if (facts->text_bytes <= SMALL_BYTES)
        return PRESET_SMALL;
    return facts->text_bytes <= MEDIUM_BYTES ? PRESET_MEDIUM : PRESET_LARGE;
}

static int64_t clamp(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

/* The streams of a split, each of which should have some segments of that length. */
static int64_t streams(int64_t batch, int64_t tokens, int64_t length)
{
    return clamp(tokens / (SEGMENTS_LEAST * length), 1, batch);
}

static double dropout_of(double epochs)
{
    return epochs <= 2 ? 0 : epochs <= 6 ? 0.1 : epochs <= 15 ? 0.2 : 0.3;
}

static int64_t scale(int64_t number, const struct config_train *from, int64_t steps)
{
    return number * steps / from->steps;
}

/* The cost of a token in units of what f costs, by measurements of the preset small. */
static double cost_of(int64_t d_model, int64_t vocab)
{
    return 1 + (double)(vocab < ADAPTIVE_VOCAB ? vocab : ADAPTIVE_VOCAB) /
                   (double)(SOFTMAX_WORDS * d_model);
}

static void fit_steps(struct config *config, const struct config_train *from,
                      const struct preset_facts *facts)
{
    struct config_train *c = &config->train;
    int64_t d = config->model.d_model;
    int64_t all = PRESET_EPOCHS * facts->tokens / (c->batch * c->tgt_len);
    double longer = cost_of(d, FILE_VOCAB) / cost_of(d, facts->vocab);
    if (c->steps == from->steps)
        c->steps = clamp((int64_t)((double)c->steps * longer) / 100 * 100, STEPS_LEAST,
                         all > STEPS_LEAST ? all : STEPS_LEAST);
    c->warmup_steps = scale(from->warmup_steps, from, c->steps);
    c->pretrain_steps = scale(from->pretrain_steps, from, c->steps);
    c->eval_every = clamp(scale(from->eval_every, from, c->steps), 1, c->steps);
    c->checkpoint_every = clamp(scale(from->checkpoint_every, from, c->steps), 1, c->steps);
}

/* Clusters for the words that come often, less often and seldom, each narrower than the one before
 * (Grave et al. 2017; the sizes are those of WikiText-103 in smaller). */
static void fit_vocabulary(struct config_model *m, int64_t vocab)
{
    if (vocab <= ADAPTIVE_VOCAB)
        return;
    m->cutoffs.count = 2;
    m->cutoffs.value[0] = vocab > 5 * ADAPTIVE_VOCAB ? 20000 : 4000;
    m->cutoffs.value[1] = vocab > 5 * ADAPTIVE_VOCAB ? 60000 : ADAPTIVE_VOCAB;
    m->div_val = 2;
}

void preset_fit(struct config *c, const struct config *preset, const struct preset_facts *facts)
{
    struct config_train *t = &c->train;
    t->batch = streams(t->batch, facts->tokens, t->tgt_len);
    fit_steps(c, &preset->train, facts);
    if (facts->valid_tokens > 0)
        c->eval.batch = streams(c->eval.batch, facts->valid_tokens, c->eval.tgt_len);
    double seen = (double)t->steps * (double)(t->batch * t->tgt_len);
    double epochs = seen / (double)(facts->tokens > 0 ? facts->tokens : 1);
    c->model.dropout = dropout_of(facts->bytes ? epochs / BYTE_EPOCHS : epochs);
    fit_vocabulary(&c->model, facts->vocab);
}
