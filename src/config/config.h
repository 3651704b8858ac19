/* The configuration of a run, as JSON files, --set and checkpoints give it.
 *
 * config_table.c defines every key once. The defaults, the parser's checks, the resolved JSON and
 * the printed reference come from that table. The struct holds no pointers and may be copied by
 * assignment. */
#ifndef DEQ_CONFIG_CONFIG_H
#define DEQ_CONFIG_CONFIG_H

#include "backend/ops/activation.h"
#include "base/status.h"
#include "data/token_file.h"
#include "solver/solver_config.h"
#include <stdbool.h>
#include <stdint.h>

enum { CONFIG_MAX_CUTOFFS = 16, CONFIG_MAX_PATH = 512, CONFIG_SHOWN = 80 };

/* Every cell. X(NAME, name) stands for CELL_NAME, the object name_cell_kind and the function
 * name_cell_resolve in the cell's folder, and the name that a configuration gives. A new cell is a
 * folder of src/cell and a line here. */
#define CELLS(X)                \
    X(TRANSFORMER, transformer) \
    X(TRELLIS, trellis)         \
    X(MODERN, modern)

enum config_cell {
#define CELL_ID(NAME, name) CELL_##NAME,
    CELLS(CELL_ID)
#undef CELL_ID
};
enum config_rows { CONFIG_ROWS_AUTO, CONFIG_ROWS_ACTIVE, CONFIG_ROWS_ALL };
enum config_gradient_method {
    GRADIENT_IMPLICIT,
    GRADIENT_PHANTOM,
    GRADIENT_ONE_STEP,
    GRADIENT_UNROLL,
    GRADIENT_REVERSIBLE,
    GRADIENT_TRUNCATED
};
enum config_draw { DRAW_FIXED, DRAW_STEP, DRAW_SEQUENCE };
enum config_start { START_ZERO, START_LINEAR };
enum config_norm_place { NORM_PLACE_PRE, NORM_PLACE_POST, NORM_PLACE_SANDWICH };
enum config_gate { GATE_NONE, GATE_SCALAR, GATE_CHANNEL };
enum config_injection { INJECT_ADD, INJECT_V, INJECT_QKV, INJECT_LINEAR, INJECT_DECAY };
enum config_penalty { PENALTY_EXACT, PENALTY_DIFFERENCE };
enum config_muon_scale { MUON_SCALE_SHAPE, MUON_SCALE_RMS };
enum config_schedule { SCHEDULE_COSINE, SCHEDULE_INV_SQRT, SCHEDULE_CONSTANT, SCHEDULE_WSD };

/* The optimizers as X(NAME, name). train.optimizer takes the name, and src/optimizer defines the
 * struct optimizer_kind optimizer_name. A new optimizer is a line here and a file there. */
#define OPTIMIZER_LIST(X) \
    X(ADAM, adam)         \
    X(ADAMW, adamw)       \
    X(MUON, muon)

enum config_optimizer {
#define X(NAME, name) OPTIMIZER_##NAME,
    OPTIMIZER_LIST(X)
#undef X
};

struct config_list {
    int64_t count;
    int64_t value[CONFIG_MAX_CUTOFFS + 1];
};

struct config_model {
    enum config_cell cell;
    int64_t d_model, n_head, d_head, d_inner, d_embed, blocks;
    int64_t nhid, nout, ksize, dilation;
    int64_t layers;      /* > 0 makes an explicit network, see deq/unrolled.h */
    enum norm_kind norm; /* NORM_LAYER or NORM_RMS */
    /* Of the modern cell. */
    int64_t n_kv_head, prelude, coda;
    enum config_norm_place norm_place;
    enum activation ffn;
    enum config_gate gate;
    enum config_injection inject;
    double rope_base, gate_init;
    bool qk_norm, outer_norm;
    bool pre_lnorm, wnorm, tie_layers;
    struct config_list cutoffs;
    int64_t div_val;
    bool tie_weights;
    struct config_list tie_projs; /* 0 or 1 each */
    double dropout, dropatt, dropouti, dropouth, wdrop, emb_dropout;
    int64_t local_size;
    double init_std, proj_init_std;
    int64_t vocab_size;
    bool compat;
    enum config_start start;
};

/* How the limits of a training's solves change (schedule_limits). */
struct config_limits {
    int64_t rand_delta, iter_start;
    double tol_start;
};

struct config_gradient {
    enum config_gradient_method method;
    int64_t steps;
    double damping;
    int64_t recompute;
    /* truncated */
    double mean, spread;
    enum config_draw draw;
};

struct config_jacobian {
    double weight, probability;
    enum config_penalty form;
    double step;
    int64_t ramp_every;
    double ramp_add;
};

struct config_correction {
    double weight;
    struct config_list at;
};

struct config_train {
    int64_t steps, batch, tgt_len, mem_len, accumulate;
    enum config_optimizer optimizer;
    double lr, lr_min, lr_embedding, lr_matrices;
    double beta1, beta2, beta2_embedding, eps, momentum, weight_decay;
    enum config_muon_scale muon_scale;
    bool cautious_decay;
    enum config_schedule schedule;
    int64_t warmup_steps;
    double cooldown_share;
    double clip;
    int64_t pretrain_steps, pretrain_layers, seed;
    enum precision precision;
    double ema, start_noise;
    int64_t patience;
    int64_t eval_every, checkpoint_every, keep_last, keep_every, log_every;
    bool zero, compress;
};

struct config_eval {
    int64_t batch, tgt_len, mem_len, max_iter;
};

struct config {
    struct {
        char dir[CONFIG_MAX_PATH];
        /* Of token files of other programs. */
        enum token_format format;
        int64_t end_of_text; /* an id, or -1 */
    } data;
    struct config_model model;
    struct {
        struct solver_config forward, backward;
        struct config_limits forward_limits, backward_limits; /* in training only */
        enum config_rows forward_rows;
    } solver;
    struct config_gradient gradient;
    struct config_jacobian jacobian;
    struct config_correction correction;
    struct config_train train;
    struct config_eval eval;
};

/* Sets every key to its default. */
void config_defaults(struct config *config);

/* Reads JSON text and changes the keys of *config that it names. Messages have the form "name:line:
 * key: what is wrong". On failure *config is unspecified.
 * STATUS_CONFIG for anything but valid JSON, for an unknown key (with the nearest known one), for a
 * key given twice, for a wrong type and for a value out of range. STATUS_NOMEM. */
enum status config_parse(struct config *config, const char *text, const char *name,
                         struct error *err);
/* Reads a file. STATUS_NOINPUT if it cannot be opened or read. Else as config_parse. */
enum status config_load(struct config *config, const char *path, struct error *err);
/* Changes one key by "key.path=value", as from --set. Strings need no quotes. STATUS_CONFIG,
 * STATUS_NOMEM. */
enum status config_set(struct config *config, const char *assignment, struct error *err);

/* Fills the keys that are derived from others when they are 0 or empty, and checks that all keys
 * fit each other. `vocab_size` is that of the data, or 0 if it is not known yet. STATUS_CONFIG. */
enum status config_resolve(struct config *config, int64_t vocab_size, struct error *err);

/* An explicit network whose layers have their own weights and no injection. */
static inline bool config_is_layered(const struct config_model *m)
{
    return m->layers > 0 && !m->tie_layers;
}

/* Whether any step has a penalty on the Jacobian. */
static inline bool config_has_penalty(const struct config *c)
{
    return c->jacobian.weight > 0 || c->jacobian.ramp_every > 0;
}

/* name_cell_resolve fills what the cell derives (model.d_head, model.d_embed) and checks what it
 * wants of the configuration. config_resolve calls it. STATUS_CONFIG. */
#define CELL_RESOLVE(NAME, name) \
    enum status name##_cell_resolve(struct config *config, struct error *err);
CELLS(CELL_RESOLVE)
#undef CELL_RESOLVE

/* Writes all keys as JSON that config_parse reads back to the same struct. `pretty` indents by two
 * spaces, otherwise it is one line. The caller frees *out with mem_free. STATUS_NOMEM. */
enum status config_to_json(const struct config *config, bool pretty, char **out, struct error *err);
/* The first key in which two configurations differ, in the order of the table. */
struct config_difference {
    const char *path;                      /* NULL if there is none */
    char a[CONFIG_SHOWN], b[CONFIG_SHOWN]; /* its values as JSON, cut if longer */
};
/* Compares the keys that `counts` accepts. STATUS_NOMEM. */
enum status config_compare(const struct config *a, const struct config *b,
                           bool (*counts)(const char *path), struct config_difference *out,
                           struct error *err);
/* Whether a key says what the network is, and must stay the same during a run. How it is trained
 * and where its data lie may change. */
bool config_is_model_key(const char *path);

/* Writes the reference of keys as plain text or as a Markdown table. `wanted` is NULL for all, or
 * the path of a key, the end of one, or a section. The caller frees *out with mem_free.
 * STATUS_USAGE, naming the nearest key, if it is none of these. STATUS_NOMEM. */
enum status config_reference(bool markdown, const char *wanted, char **out, struct error *err);

#endif
