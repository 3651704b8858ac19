/* Copies tokens between shards and token files of other programs, and says what was made. */
#include "cmd/tokenize_from.h"

#include "cmd/output.h"
#include "data/convert.h"

#include <stdio.h>

static enum status print_json(const struct tokenize_result *x, struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_int(&w, "vocab", x->vocab);
    json_write_int(&w, "train_tokens", x->tokens[SPLIT_TRAIN]);
    json_write_int(&w, "valid_tokens", x->tokens[SPLIT_VALID]);
    json_write_int(&w, "test_tokens", x->tokens[SPLIT_TEST]);
    json_write_int(&w, "shards", x->shards);
    return output_json_print(&w, err);
}

static void print_text(const struct tokens_from *r, const struct tokenize_result *x)
{
    printf("vocabulary  %lld ids\n", (long long)x->vocab);
    for (int i = 0; i < SPLITS; i++)
        if (x->tokens[i] > 0)
            printf("%-11s %lld tokens\n", split_name(i), (long long)x->tokens[i]);
    printf("written     %lld %s in %s\n", (long long)x->shards, r->llmc ? "files" : "shards",
           r->out);
    printf("next        deq train --data %s\n", r->out);
}

enum status tokenize_from(const struct tokens_from *r,
                          enum status (*load)(struct vocab **out, const char *path,
                                              struct error *err),
                          struct error *err)
{
    struct vocab *vocab = NULL;
    struct tokenize_result result;
    if (r->vocab != NULL)
        TRY(load(&vocab, r->vocab, err));
    const struct convert_config c = {
        .from = {.dir = r->from, .vocab_size = r->vocab_size, .end = -1},
        .to = r->llmc ? CONVERT_LLMC : CONVERT_SHARDS,
        .out = r->out,
        .force = r->force,
        .vocab = vocab,
        .file_tokens = r->file_tokens};
    enum status status = convert_run(&c, &result, err);
    vocab_free(vocab);
    if (status ==
        STATUS_CONFIG) /* the vocabulary is not known, and here no configuration is read */
        return error_set(
            err, status,
            "%s: its token files do not name their vocabulary: --vocab-size N says how "
            "many ids there are (50257 for GPT-2), and --vocab FILE which words",
            r->from);
    if (status != STATUS_OK)
        return status;
    if (r->json)
        return print_json(&result, err);
    print_text(r, &result);
    return STATUS_OK;
}
