/* The parameters of a model are named tensors laid end to end in one flat array, their gradients in
 * another of the same layout, so that clipping and the optimizer are single passes. The matrices of
 * blocks lie behind all others there, whatever the order of declaration.
 *
 * Names are those of the published code (word_emb.emb_layers.0.weight, ...), which its users
 * know and the reference dumps use. */
#ifndef DEQ_NN_PARAMS_H
#define DEQ_NN_PARAMS_H

#include "nn/weight.h"

enum { PARAM_NAME_MAX = 80 };

enum param_init { INIT_ZERO, INIT_ONE, INIT_CONSTANT, INIT_NORMAL, INIT_UNIFORM, INIT_ROW_NORM };

struct param {
    char name[PARAM_NAME_MAX];
    char part[16]; /* embedding, softmax, injection or f, for counts */
    int ndim;
    int64_t dim[2];
    int64_t offset; /* first number in the flat arrays, final once all are declared */
    enum param_init init;
    double scale; /* the constant, standard deviation, or half width of the uniform interval */
    int64_t taps; /* above 0 where the published code has a convolution [out, in, taps]. Our columns
                     lie tap by tap, the oldest first. */
    /* Matrices that lie in it row after row, if it is a matrix of a block that an optimizer may
     * take as a linear map, else 0. Of a weight-normalised one these are of v. The first has
     * first_rows rows, and all others share the rest. With first_rows 0 all are of one size. */
    int64_t matrices, first_rows;
    int norm_of;  /* index of the parameter whose row norms it takes, INIT_ROW_NORM */
    int alias_of; /* the parameter whose storage it shares (a quirk of the published code), or -1.
                     It has its own gradient and moments and is kept equal by params_join_aliases.
                   */
};

struct params {
    struct backend *be; /* borrows */
    struct param *list; /* owns */
    int count, capacity;
    int64_t total;    /* numbers in the flat arrays, padding included */
    int64_t matrices; /* the first number of matrices of blocks, behind which lies nothing else */
    struct workspace *ws; /* owns what params_commit allocates */
    struct tensor w, g;   /* [total] values and gradients */
};

void params_init(struct params *p, struct backend *be);
void params_free(struct params *p);

/* What a parameter is declared by, as in struct param. */
struct param_spec {
    const char *name, *part; /* copied */
    int64_t rows, cols;      /* a vector of `rows` numbers has 0 columns */
    enum param_init init;
    double scale;
    int64_t taps, matrices, first_rows; /* as in struct param */
};

/* Declares a parameter before params_commit. *index, unless NULL, receives its index. STATUS_NOMEM.
 */
enum status params_add(struct params *p, const struct param_spec *spec, int *index,
                       struct error *err);
/* Allocates the flat arrays, with gradients only if `train`. No params_add may follow.
 * STATUS_NOMEM. */
enum status params_commit(struct params *p, bool train, struct error *err);
/* Draws initial values, parameter i from stream i of the seed. STATUS_NOMEM. */
enum status params_initialize(struct params *p, uint64_t seed, struct error *err);

/* Value and gradient (data NULL without `train`) of parameter `index` as a `weight`. */
struct weight params_weight(const struct params *p, int index);
/* Index by name, or -1. */
int params_find(const struct params *p, const char *name);
int64_t param_count(const struct param *q);
/* The rows of matrix number i of q->matrices, of which *first receives the first. */
int64_t param_matrix_rows(const struct param *q, int64_t i, int64_t *first);
/* The sizes of parameter `index` in the published code, into dim[3]. Returns how many. */
int params_published_dims(const struct params *p, int index, int64_t dim[3]);
/* Where number i of a parameter, as it lies here, lies there. Only convolutions differ. */
int64_t param_published_index(const struct param *q, int64_t i);

/* Sum of distinct numbers (aliases not counted), of one part or of all (part NULL). */
int64_t params_distinct(const struct params *p, const char *part);
/* The same with aliases counted again, as the published code reports. */
int64_t params_reported(const struct params *p);

/* Around an optimizer step of aliased parameters. The step must start with the alias at zero
 * (split) and its change is then added to the shared value (join). */
void params_split_aliases(struct params *p);
void params_join_aliases(struct params *p);

#endif
