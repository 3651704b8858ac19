/* The table of all keys, and the search in it. */
#include "config/config_table.h"

#include "backend/ops.h"
#include "base/strdist.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define AT(field) offsetof(struct config, field)
#define NO_LIMIT INFINITY

/* "|adam|adamw|muon", whose first bar is skipped where it is used. */
#define X(NAME, name) "|" #name
static const char optimizer_names[] = OPTIMIZER_LIST(X);
#undef X

/* clang-format off */
#define INT(path, field, initial, min, max, unit, meaning) \
    {path, CONFIG_INT, AT(field), initial, NULL, min, max, CONFIG_CLOSED, NULL, unit, meaning}
#define REAL(path, field, initial, min, max, open, unit, meaning) \
    {path, CONFIG_REAL, AT(field), initial, NULL, min, max, open, NULL, unit, meaning}
#define BOOL(path, field, initial, meaning) \
    {path, CONFIG_BOOL, AT(field), initial, NULL, 0, 1, CONFIG_CLOSED, NULL, "", meaning}
/* The parser writes enums as int, so that every field must have its size. */
#define AT_ENUM(field) \
    (AT(field) + 0 * sizeof(char[sizeof(((struct config *)NULL)->field) == sizeof(int) ? 1 : -1]))
#define ENUM_FROM(path, field, first, initial, choices, meaning)                              \
    {path, CONFIG_ENUM, AT_ENUM(field), initial, NULL, first, 0, CONFIG_CLOSED, choices, "", \
     meaning}
#define ENUM(path, field, initial, choices, meaning) \
    ENUM_FROM(path, field, 0, initial, choices, meaning)
/* The choices "a|b" of a list X(NAME, name). */
#define CHOICE(NAME, name) "|" #name
#define CHOICES(LIST) (LIST(CHOICE) + 1)

#define SOLVER(which, m_method, m_scope, m_max_iter, m_tol, m_stop, m_history)                     \
    ENUM("solver." #which ".method", solver.which.method, m_method, CHOICES(SOLVE_METHODS),        \
         "method that looks for the fixed point"),                                                     \
    ENUM("solver." #which ".scope", solver.which.scope, m_scope, "token|prefix|sequence|batch",    \
         "numbers that share mixing weights and a stop; with sequence and batch, predictions "     \
         "depend on later tokens until the solve has converged"),                                  \
    REAL("solver." #which ".decay", solver.which.decay, 0.5, 0, 1, CONFIG_CLOSED, "per position",  \
         "scope prefix: factor by which a position's sums count less at the next position"),       \
    INT("solver." #which ".max_iter", solver.which.max_iter, m_max_iter, 1, 10000, "evaluations",  \
        "evaluations of f at most"),                                                               \
    INT("solver." #which ".min_iter", solver.which.min_iter, 0, 0, 10000, "evaluations",           \
        "evaluations of f at least"),                                                              \
    REAL("solver." #which ".tol", solver.which.tol, m_tol, 0, NO_LIMIT, CONFIG_OPEN_MIN, "",       \
         "residual at which a solve has converged"),                                               \
    ENUM("solver." #which ".stop", solver.which.stop, m_stop, "rel|abs|fixed",                     \
         "residual that is compared with tol, or fixed to make max_iter evaluations always"),      \
    INT("solver." #which ".history", solver.which.history, m_history, 1, 64, "iterates",           \
        "iterates that Anderson mixes, or rank-one terms that Broyden keeps; at most max_iter are "\
        "used"),                                                                                   \
    REAL("solver." #which ".damping", solver.which.damping, 1, 0, 1, CONFIG_OPEN_MIN, "",          \
         "Picard and Anderson: weight of the new value in an iterate"),                            \
    REAL("solver." #which ".ridge", solver.which.ridge, 1e-6, 0, NO_LIMIT, CONFIG_CLOSED, "",      \
         "Anderson: number added to the diagonal of the Gram matrix"),                             \
    ENUM("solver." #which ".ridge_mode", solver.which.ridge_mode, RIDGE_REL, "rel|abs",            \
         "Anderson: ridge as a fraction of the Gram matrix's trace, or absolute as published"),    \
    BOOL("solver." #which ".line_search", solver.which.line_search, false,                         \
         "Broyden: Armijo line search over the batch"),                                            \
    INT("solver." #which ".stall", solver.which.stall, 30, 1, 10000, "evaluations",                \
        "a solve gives up after so many evaluations without a lower residual"),                                         \
    INT("solver." #which ".rand_delta", solver.which##_limits.rand_delta, 0, 0, 9999,              \
        "evaluations",                                                                             \
        "training: each step lowers max_iter by a random number up to this one"),              \
    INT("solver." #which ".iter_start", solver.which##_limits.iter_start, 0, 0, 10000,             \
        "evaluations",                                                                             \
        "training: max_iter of the first solve, from which it changes linearly to max_iter; 0 to " \
         "use max_iter throughout"),                                                                                  \
    REAL("solver." #which ".tol_start", solver.which##_limits.tol_start, 0, 0, NO_LIMIT,           \
         CONFIG_CLOSED, "",                                                                        \
         "training: tol of the first solve, from which it changes geometrically to tol; 0 to use " \
         "tol throughout")

const struct config_key config_keys[] = {
    {"data.dir", CONFIG_STRING, AT(data.dir), 0, "data/kjv", 0, 0, CONFIG_CLOSED, NULL, "",
     "folder of the tokenized shards, or of token files of llm.c, nanoGPT or NumPy"},
    ENUM("data.format", data.format, TOKENS_AUTO, "auto|llmc|npy|u16|u32",
         "token files of other programs; auto tells llm.c and NumPy by their beginning, and takes "
         "others for u16, which is tokens of 16 bits and nothing else"),
    INT("data.end_of_text", data.end_of_text, -1, -1, 2147483646, "token id",
        "token files of other programs: the id that ends a text, 50256 for GPT-2; -1 for none"),

    ENUM("model.cell", model.cell, CELL_TRANSFORMER, CHOICES(CELLS),
         "the function f whose fixed point is the output"),
    INT("model.d_model", model.d_model, 256, 1, 65536, "numbers", "width of a token's state"),
    INT("model.n_head", model.n_head, 8, 1, 1024, "heads", "attention heads"),
    INT("model.d_head", model.d_head, 0, 0, 65536, "numbers",
        "width of a head; 0 for d_model / n_head"),
    INT("model.d_inner", model.d_inner, 1024, 1, 1048576, "numbers",
        "width inside the feed-forward network"),
    INT("model.d_embed", model.d_embed, 0, 0, 65536, "numbers",
        "width of the first cluster's embedding; 0 for d_model, or for nout of a trellis"),
    INT("model.blocks", model.blocks, 1, 1, 64, "blocks", "blocks inside f (3 in TorchDEQ's DEQ-LM, 4 in Huginn, 2 in Parcae); 1 for a trellis"),
    INT("model.layers", model.layers, 0, 0, 1024, "layers",
        "0 for an equilibrium, else the number of layers of an explicit network, "
        "differentiated layer by layer"),
    BOOL("model.tie_layers", model.tie_layers, true,
         "all layers are the same f; if false, each has its own weights, and the first sees "
         "the embedding in place of an injection"),
    INT("model.n_kv_head", model.n_kv_head, 0, 0, 1024, "heads",
        "modern: heads of keys and values, which neighbouring heads of queries share "
        "(grouped-query attention, as Llama 2 and 3); 0 for n_head"),
    BOOL("model.qk_norm", model.qk_norm, true,
         "modern: divide each head's queries and keys by their root mean square, as Parcae"),
    REAL("model.rope_base", model.rope_base, 10000, 0, NO_LIMIT, CONFIG_CLOSED, "",
         "modern: base of the angles by which queries and keys are turned with their positions "
         "(RoPE, as Huginn and Parcae); 0 to give no positions"),
    ENUM("model.ffn", model.ffn, ACTIVATION_SWIGLU, "relu|relu2|swiglu",
         "modern: what lies between the products of the feed-forward network: a rectifier, its "
         "square (Parcae), or a gate of d_inner more numbers (Huginn)"),
    ENUM("model.norm_place", model.norm_place, NORM_PLACE_PRE, "pre|post|sandwich",
         "modern: normalise what each half of a block sees (Parcae, RevDEQ, TorchDEQ's DEQ-LM), "
         "the sum behind it (the paper's DEQ-Transformer), or both (Huginn, Ouro)"),
    ENUM("model.gate", model.gate, GATE_CHANNEL, "none|scalar|channel",
         "modern: learned factor between 0 and 1 of what each half of a block adds, one of all or "
         "one a number (Attractor)"),
    REAL("model.gate_init", model.gate_init, 0.5, 0, 1, CONFIG_OPEN_MIN | CONFIG_OPEN_MAX, "",
         "modern: the factor at the beginning"),
    INT("model.prelude", model.prelude, 0, 0, 64, "blocks",
        "modern: blocks with their own weights that make the injection, run once a segment (7 in "
        "Attractor, 2 in Huginn)"),
    INT("model.coda", model.coda, 0, 0, 64, "blocks",
        "modern: blocks with their own weights behind the fixed point, run once a segment (2 in "
        "Huginn)"),
    ENUM("model.inject", model.inject, INJECT_ADD, "add|v|qkv|linear|decay",
         "modern: where the embedding e enters f: z + e (Attractor, RevDEQ), a map of e in the "
         "values, a map of e in queries, keys and values (the paper, TorchDEQ's DEQ-LM), a map of "
         "[z, e] (Huginn), or a z + a map of e with learned 0 < a < 1 (Parcae)"),
    BOOL("model.outer_norm", model.outer_norm, false,
         "modern: normalise the output of f, as Microsoft's implicit language models"),
    INT("model.nhid", model.nhid, 1000, 0, 65536, "numbers",
        "trellis: width of the hidden part of h"),
    INT("model.nout", model.nout, 400, 1, 65536, "numbers",
        "trellis: width of the part of h that the softmax sees"),
    INT("model.ksize", model.ksize, 2, 1, 64, "positions", "trellis: taps of the convolution"),
    INT("model.dilation", model.dilation, 1, 1, 65536, "positions",
        "trellis: distance between the taps"),
    ENUM_FROM("model.norm", model.norm, NORM_LAYER, NORM_LAYER, "layer|rms", "normalisation"),
    BOOL("model.pre_lnorm", model.pre_lnorm, false,
         "normalise before each half of a block, not after it"),
    BOOL("model.wnorm", model.wnorm, true, "weight normalisation of the matrices in f"),
    {"model.cutoffs", CONFIG_INT_LIST, AT(model.cutoffs), 0, NULL, 1, 2147483647, CONFIG_CLOSED,
     NULL, "tokens",
     "first token id of each frequency cluster after the first; empty for one cluster"},
    INT("model.div_val", model.div_val, 1, 1, 64, "",
        "each cluster's embedding is narrower by this factor than the one before"),
    BOOL("model.tie_weights", model.tie_weights, true,
         "the output layer uses the embedding tables"),
    {"model.tie_projs", CONFIG_BOOL_LIST, AT(model.tie_projs), 0, NULL, 0, 1, CONFIG_CLOSED, NULL,
     "",
     "one flag for each cluster, whether it shares its projection with the embedding; empty for "
     "all but the first"},
    REAL("model.dropout", model.dropout, 0.1, 0, 1, CONFIG_OPEN_MAX, "probability",
         "dropout of embeddings and activations"),
    REAL("model.dropatt", model.dropatt, 0, 0, 1, CONFIG_OPEN_MAX, "probability",
         "dropout of attention weights"),
    REAL("model.dropouti", model.dropouti, 0, 0, 1, CONFIG_OPEN_MAX, "probability",
         "trellis: dropout of embeddings, where model.dropout is that of the output"),
    REAL("model.dropouth", model.dropouth, 0, 0, 1, CONFIG_OPEN_MAX, "probability",
         "trellis: dropout of h where the convolution reads it"),
    REAL("model.wdrop", model.wdrop, 0, 0, 1, CONFIG_OPEN_MAX, "probability",
         "trellis: dropout of the convolution's weights for all taps but the newest"),
    REAL("model.emb_dropout", model.emb_dropout, 0, 0, 1, CONFIG_OPEN_MAX, "probability",
         "dropout of whole words of the vocabulary"),
    INT("model.local_size", model.local_size, 0, 0, 1048576, "positions",
        "positions that a token attends to, itself included; 0 for all"),
    REAL("model.init_std", model.init_std, 0.01, 0, 100, CONFIG_OPEN_MIN, "",
         "standard deviation of initial weights"),
    REAL("model.proj_init_std", model.proj_init_std, 0.01, 0, 100, CONFIG_OPEN_MIN, "",
         "standard deviation of the embedding's initial projections"),
    INT("model.vocab_size", model.vocab_size, 0, 0, 2147483647, "tokens",
        "size of the vocabulary; 0 to take it from the data"),
    ENUM("model.start", model.start, START_ZERO, "zero|linear",
         "initial guess of a solve: zero, or a learned linear map of the embeddings of a token "
         "and of the one before it; always zero with model.layers"),
    BOOL("model.compat", model.compat, false, "repeat the published code's quirks exactly"),

    SOLVER(forward, SOLVE_ANDERSON, SCOPE_PREFIX, 10, 1e-3, STOP_FIXED, 5),
    ENUM("solver.forward.rows", solver.forward_rows, CONFIG_ROWS_AUTO, "auto|active|all",
         "positions at which f is evaluated under a stop rule: those that have not stopped, or "
         "all; auto takes the former where rounding does not depend on their number"),
    SOLVER(backward, SOLVE_ANDERSON, SCOPE_TOKEN, 6, 1e-3, STOP_REL, 3),

    ENUM("gradient.method", gradient.method, GRADIENT_IMPLICIT,
         "implicit|phantom|one-step|unroll|reversible|truncated",
         "method of differentiating through the fixed point"),
    INT("gradient.steps", gradient.steps, 4, 1, 1024, "evaluations",
        "phantom: damped applications of f; unroll: plain applications of f; reversible: steps of "
        "two evaluations each; truncated: plain applications that are differentiated, the last"),
    REAL("gradient.damping", gradient.damping, 0.8, 0, 1, CONFIG_OPEN_MIN, "",
         "phantom and reversible: weight of the new value in an application; reversible is "
         "published with 0.5 (RevDEQ) and loses digits by 1 - damping a step"),
    REAL("gradient.mean", gradient.mean, 8, 0, 500, CONFIG_OPEN_MIN, "evaluations",
         "truncated: applications of f in a training step on average, of which the last are "
         "differentiated (Huginn 32, Parcae 8); at least gradient.steps are made"),
    ENUM("gradient.draw", gradient.draw, DRAW_SEQUENCE, "fixed|step|sequence",
         "truncated: the number of applications is the mean, or drawn by Poisson's law for each "
         "step (Huginn) or for each sequence of a batch (Parcae), which costs as much as the "
         "largest"),
    REAL("gradient.spread", gradient.spread, 0, 0, 3, CONFIG_CLOSED, "",
         "truncated: standard deviation of the logarithm of Poisson's mean (Huginn 0.5)"),
    INT("gradient.recompute", gradient.recompute, 0, 0, 1024, "layers",
        "explicit layers and unrolled applications: keep only the input of so many at a time "
        "and compute them again backwards; 0 to keep all"),

    REAL("jacobian.weight", jacobian.weight, 0, 0, NO_LIMIT, CONFIG_CLOSED, "",
         "weight in the loss of the squared norm of J per number of z, a penalty that keeps "
         "solves short; 0 for none"),
    REAL("jacobian.probability", jacobian.probability, 0.35, 0, 1, CONFIG_OPEN_MIN, "",
         "probability that a step computes the penalty"),
    ENUM("jacobian.form", jacobian.form, PENALTY_EXACT, "exact|difference",
         "squared norm of v^T J with its exact gradient, or of (f(z + h v) - f(z)) / h at half "
         "the cost"),
    REAL("jacobian.step", jacobian.step, 0.05, 0, 1, CONFIG_OPEN_MIN, "",
         "form difference: the step h, whose gradient gets noisier the shorter it is where "
         "units are rectified"),
    INT("jacobian.ramp_every", jacobian.ramp_every, 0, 0, NO_LIMIT, "updates",
        "the penalty's weight rises whenever so many updates have passed; 0 for never"),
    REAL("jacobian.ramp_add", jacobian.ramp_add, 0.1, 0, NO_LIMIT, CONFIG_CLOSED, "",
         "what each rise adds to the weight"),
    REAL("correction.weight", correction.weight, 0, 0, NO_LIMIT, CONFIG_CLOSED, "",
         "weight of the loss at earlier iterates, whose gradient passes through f once"),
    {"correction.at", CONFIG_INT_LIST, AT(correction.at), 0, NULL, 1, 10000, CONFIG_CLOSED, NULL,
     "evaluations",
     "iterates to correct, each given by the number of evaluations of f that led to it; empty for "
     "none"},

    INT("train.steps", train.steps, 20000, 1, NO_LIMIT, "updates", "length of the training"),
    INT("train.batch", train.batch, 16, 1, 1048576, "sequences", "streams of text side by side"),
    INT("train.tgt_len", train.tgt_len, 64, 1, 1048576, "tokens", "length of a segment"),
    INT("train.mem_len", train.mem_len, 64, 0, 1048576, "tokens",
        "states remembered from earlier segments; a trellis remembers the states that it "
        "needs, or none with 0"),
    INT("train.accumulate", train.accumulate, 1, 1, 65536, "parts",
        "parts into which a batch is divided and that are computed one after the other"),
    BOOL("train.zero", train.zero, false,
         "with several processes, each keeps only its part of the optimizer's state (ZeRO "
         "stage 1)"),
    ENUM("train.optimizer", train.optimizer, OPTIMIZER_ADAM, &optimizer_names[1],
         "update rule; muon makes updates of blocks' matrices orthogonal and is adamw for all "
         "else"),
    REAL("train.lr", train.lr, 1e-3, 0, 100, CONFIG_OPEN_MIN, "", "highest learning rate"),
    REAL("train.lr_min", train.lr_min, 0, 0, 100, CONFIG_CLOSED, "",
         "learning rate at the end of the cosine or of the cool-down"),
    REAL("train.lr_embedding", train.lr_embedding, 0, 0, 100, CONFIG_CLOSED, "",
         "highest learning rate of the embedding, in proportion to train.lr throughout; 0 for "
         "train.lr"),
    REAL("train.lr_matrices", train.lr_matrices, 0, 0, 100, CONFIG_CLOSED, "",
         "highest learning rate of the matrices of blocks, in proportion to train.lr throughout; 0 "
         "for train.lr, or for 0.02 with muon and train.muon_scale shape"),
    REAL("train.beta1", train.beta1, 0.9, 0, 1, CONFIG_OPEN_MAX, "",
         "Adam: decay of the running mean of the gradient"),
    REAL("train.beta2", train.beta2, 0.999, 0, 1, CONFIG_OPEN_MAX, "",
         "Adam: decay of the running mean of its square"),
    REAL("train.beta2_embedding", train.beta2_embedding, 0, 0, 1, CONFIG_OPEN_MAX, "",
         "Adam: decay of the mean of squares for the embedding, whose rare words want a long one; 0 "
         "for beta2"),
    REAL("train.eps", train.eps, 1e-8, 0, 1, CONFIG_OPEN_MIN, "",
         "Adam: number added to the root of that mean"),
    REAL("train.momentum", train.momentum, 0.95, 0, 1, CONFIG_OPEN_MAX, "",
         "muon: decay of the running mean of the gradient, which looks one step ahead (Nesterov)"),
    ENUM("train.muon_scale", train.muon_scale, MUON_SCALE_SHAPE, "shape|rms",
         "muon: factor of an orthogonal update, sqrt(max(1, rows / columns)) as published, or 0.2 "
         "sqrt(max(rows, columns)) to be as long as Adam's (Moonlight), so that train.lr fits"),
    REAL("train.weight_decay", train.weight_decay, 0, 0, 100, CONFIG_CLOSED, "",
         "weight decay, a term of the gradient with adam (L2) and of the update with adamw and "
         "muon"),
    BOOL("train.cautious_decay", train.cautious_decay, false,
         "adamw and muon: a weight decays only in updates that do not pull it away from zero"),
    ENUM("train.schedule", train.schedule, SCHEDULE_COSINE, "cosine|inv_sqrt|constant|wsd",
         "course of the learning rate after the warm-up; wsd (warm-up, stable, decay) stays at lr "
         "and falls linearly in a cool-down at the end"),
    INT("train.warmup_steps", train.warmup_steps, 400, 0, NO_LIMIT, "updates",
        "updates in which the learning rate rises linearly"),
    REAL("train.cooldown_share", train.cooldown_share, 0.2, 0, 1, CONFIG_CLOSED, "of the steps",
         "wsd: the last part of the steps, in which the learning rate falls"),
    REAL("train.clip", train.clip, 0.25, 0, NO_LIMIT, CONFIG_CLOSED, "",
         "largest norm of the whole gradient, to which a longer one is scaled; 0 for no limit"),
    REAL("train.ema", train.ema, 0, 0, 1, CONFIG_OPEN_MAX, "per update",
         "decay of a running mean of the weights, which evaluations, samples and exports take in "
         "place of the weights; at most n / (n + 9) after n updates; 0 for none"),
    REAL("train.start_noise", train.start_noise, 0, 0, 100, CONFIG_CLOSED, "",
         "standard deviation of normal numbers that are added to the start of every solve of a "
         "training step (Huginn), so that equilibria depend less on where a solve begins; 0 for "
         "none"),
    INT("train.pretrain_steps", train.pretrain_steps, 1000, 0, NO_LIMIT, "updates",
        "updates at the beginning in which f is unrolled in place of a solve"),
    INT("train.pretrain_layers", train.pretrain_layers, 2, 1, 1024, "evaluations",
        "applications of f in each of these updates"),
    INT("train.seed", train.seed, 1111, 0, NO_LIMIT, "", "seed of all random numbers"),
    ENUM("train.precision", train.precision, PRECISION_FP32, "fp32|tf32|bf16",
         "rounding of the operands of matrix products, which the device must have; residuals "
         "below about 1e-6, 5e-5 and 4e-4 are out of reach, in this order"),
    INT("train.eval_every", train.eval_every, 1000, 0, NO_LIMIT, "updates",
        "updates between evaluations on the validation set; 0 for one at the end"),
    INT("train.patience", train.patience, 0, 0, NO_LIMIT, "evaluations",
        "evaluations in a row without a lower validation loss after which the training ends; 0 "
        "for no such end"),
    INT("train.checkpoint_every", train.checkpoint_every, 500, 0, NO_LIMIT, "updates",
        "updates between checkpoints; 0 for one at the end"),
    INT("train.keep_last", train.keep_last, 2, 0, NO_LIMIT, "files",
        "numbered checkpoints that are kept"),
    INT("train.keep_every", train.keep_every, 0, 0, NO_LIMIT, "updates",
        "updates between numbered checkpoints that are never deleted; 0 for none, and wsd keeps "
        "that before its cool-down"),
    BOOL("train.compress", train.compress, true,
         "compress the numbers of checkpoints, which makes files a sixth smaller and takes 18 "
         "times the work of writing"),
    INT("train.log_every", train.log_every, 1, 1, NO_LIMIT, "updates",
        "updates between lines of the log"),

    INT("eval.batch", eval.batch, 8, 1, 1048576, "sequences", "streams of text side by side"),
    INT("eval.tgt_len", eval.tgt_len, 64, 1, 1048576, "tokens", "length of a segment"),
    INT("eval.mem_len", eval.mem_len, 64, 0, 1048576, "tokens",
        "states remembered from earlier segments"),
    INT("eval.max_iter", eval.max_iter, 30, 1, 10000, "evaluations",
        "evaluations of f at most, in place of solver.forward.max_iter"),
};
/* clang-format on */

const size_t config_key_count = sizeof config_keys / sizeof *config_keys;

const struct config_key *config_find_key(const char *path)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].path, path) == 0)
            return &config_keys[i];
    return NULL;
}

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? dot + 1 : path;
}

const char *config_nearest_key(const char *path)
{
    const char *best = NULL;
    int least = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        const char *known = config_keys[i].path;
        int name = strdist(last_part(path), last_part(known));
        /* 256 exceeds every distance, so that sections decide only between equal names */
        if (best != NULL && 256 * name > least)
            continue;
        int distance = 256 * name + strdist(path, known);
        if (best == NULL || distance < least) {
            best = known;
            least = distance;
        }
    }
    return best;
}

void config_nearest_section(const char *path, char out[CONFIG_SECTION_MAX])
{
    int least = INT_MAX;
    for (size_t i = 0; i < config_key_count; i++) {
        char section[CONFIG_SECTION_MAX];
        const char *known = config_keys[i].path;
        snprintf(section, sizeof section, "%.*s", (int)(strrchr(known, '.') - known), known);
        int distance = strdist(path, section);
        if (distance < least) {
            least = distance;
            memcpy(out, section, sizeof section);
        }
    }
}

bool config_is_section(const char *path)
{
    size_t n = strlen(path);
    for (size_t i = 0; i < config_key_count; i++)
        if (strncmp(config_keys[i].path, path, n) == 0 && config_keys[i].path[n] == '.')
            return true;
    return false;
}

bool config_choice(const char *choices, int64_t index, char *out, size_t size)
{
    const char *p = choices;
    for (int64_t i = 0; i < index; i++) {
        p = strchr(p, '|');
        if (p == NULL)
            return false;
        p++;
    }
    size_t n = strcspn(p, "|");
    assert(index >= 0 && n < size);
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

int64_t config_choice_index(const char *choices, const char *name)
{
    char choice[64];
    for (int64_t i = 0; config_choice(choices, i, choice, sizeof choice); i++)
        if (strcmp(choice, name) == 0)
            return i;
    return -1;
}

static void choices_text(const char *choices, char *out, size_t size)
{
    size_t used = 0;
    char name[64], next[64];
    out[0] = '\0';
    for (int64_t i = 0; config_choice(choices, i, name, sizeof name); i++) {
        bool last = !config_choice(choices, i + 1, next, sizeof next);
        int n = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : last ? " or " : ", ", name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

void config_range_text(const struct config_key *key, char *out, size_t size)
{
    const char *less = (key->open & CONFIG_OPEN_MAX) != 0 ? "<" : "<=";
    const char *more = (key->open & CONFIG_OPEN_MIN) != 0 ? "<" : "<=";
    const char *each = key->type == CONFIG_INT_LIST ? " each" : "";
    if (key->type == CONFIG_ENUM)
        choices_text(key->choices, out, size);
    else if (key->type == CONFIG_BOOL)
        snprintf(out, size, "true or false");
    else if (key->type == CONFIG_BOOL_LIST)
        snprintf(out, size, "true or false each");
    else if (key->type == CONFIG_STRING)
        snprintf(out, size, "1 to %d bytes", CONFIG_MAX_PATH - 1);
    else if (isinf(key->max) && key->open == CONFIG_CLOSED)
        snprintf(out, size, "at least %.15g", key->min);
    else if (isinf(key->max))
        snprintf(out, size, "x > %.15g", key->min);
    else if (key->open == CONFIG_CLOSED)
        snprintf(out, size, "%.15g..%.15g%s", key->min, key->max, each);
    else
        snprintf(out, size, "%.15g %s x %s %.15g", key->min, more, less, key->max);
}
