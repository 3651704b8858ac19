/* What the parts of deq eval share. */
#ifndef DEQ_CMD_EVAL_EVAL_H
#define DEQ_CMD_EVAL_EVAL_H

#include "base/json.h"
#include "cmd/load_config.h"
#include "data/text_source.h"
#include "store/snapshot.h"
#include "train/evaluation.h"

enum { EVAL_MAX_NFE = 64 };

/* What the command line asks for. */
struct request {
    const char *data, *text, *split, *device, *nfe_list;
    int64_t batch, tgt_len, mem_len, threads;
    int64_t nfe[EVAL_MAX_NFE];
    int nfe_count;
    struct option_list set;
    double tol; /* 0: as configured, or for a text as deq score has it */
    bool decode, check_causality, spectrum, json;
};

/* What was found of one checkpoint. */
struct eval_report {
    const char *checkpoint; /* borrows */
    int64_t step;
    const char *token;    /* what a token is, as --json has it */
    struct config config; /* as changed for the evaluation */
    int64_t tokens;       /* of the text, scored or not */
    int64_t nfe[EVAL_MAX_NFE];
    struct evaluation_result
        rows[EVAL_MAX_NFE]; /* [row_count] of --nfe, each at so many evaluations */
    int row_count;
    struct evaluation_result whole;
};

/* Changes the checkpoint's configuration by --set. STATUS_USAGE for a key that cannot be changed
 * here. */
enum status eval_set(const struct request *r, struct config *config, struct error *err);

/* Evaluates a checkpoint over shards, and prints the rows of --nfe as they come. */
enum status eval_shards(const struct request *r, struct backend *be, struct snapshot *from,
                        struct eval_report *report, struct error *err);
/* What a token of the vocabulary is. In a text of words <eos> is one too. */
const char *eval_token_name(const struct vocab *vocab);
/* Evaluates a checkpoint over a text. */
enum status eval_text(const struct request *r, struct backend *be, struct snapshot *from,
                      const struct text_source *text, struct eval_report *report,
                      struct error *err);

/* Prints a report of its own, as text. */
void eval_print(const struct request *r, const struct eval_report *a);
/* The table of --nfe. */
void eval_print_nfe_head(void);
void eval_print_nfe_row(int64_t nfe, const struct evaluation_result *m);
/* A row for each of several checkpoints. */
void eval_print_table_head(void);
void eval_print_table_row(const struct eval_report *a);
void eval_print_table_failure(const char *checkpoint);
/* Writes the members of a report. */
void eval_write(struct json_writer *w, const struct request *r, const struct eval_report *a);
/* Says where figures are of another text than the one that was given. */
void eval_warn(const struct request *r, const struct eval_report *a);

#endif
