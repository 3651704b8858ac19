/* The lines of deq info about a checkpoint. A file of another version may lack any of its keys, or
 * have others, so that each line takes what is there. */
#include "cmd/info/content.h"

#include "cmd/estimate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_MAX = 64 };

/* The value at a path such as "solver.forward.tol", or NULL. */
static const struct cJSON *look_up(const struct json *doc, const char *path)
{
    const struct cJSON *at = doc != NULL ? json_root(doc) : NULL;
    while (at != NULL && *path != '\0') {
        char key[KEY_MAX];
        int n = (int)strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", n, path);
        at = json_get(at, key);
        path += n + (path[n] == '.');
    }
    return at;
}

/* A number, or NaN. */
static double number(const struct json *doc, const char *path)
{
    const struct cJSON *value = look_up(doc, path);
    struct error err;
    double x;
    if (json_kind(value) != JSON_NUMBER || json_real(doc, value, &x, &err) != STATUS_OK)
        return NAN;
    return x;
}

/* A text, or "". */
static const char *text(const struct json *doc, const char *path)
{
    const struct cJSON *value = look_up(doc, path);
    struct error err;
    const char *s;
    if (json_kind(value) != JSON_STRING || json_string(doc, value, &s, &err) != STATUS_OK)
        return "";
    return s;
}

static void title(const char *name)
{
    printf("%-12s", name);
}

static void print_count(const char *before, double count, const char *after)
{
    char digits[ESTIMATE_COUNT_MAX];
    if (!isfinite(count))
        return;
    estimate_count((int64_t)count, digits);
    printf("%s%s%s", before, digits, after);
}

static void print_head(const struct content *c)
{
    double step = number(c->state, "step"), steps = number(c->config, "train.steps");
    printf("%s: checkpoint", c->path);
    print_count(", step ", step, "");
    if (isfinite(step))
        print_count(" of ", steps, "");
    putchar('\n');
}

static void print_validation(const struct content *c)
{
    double nll = number(c->state, "best_nll"), bits = number(c->state, "best_bits_per_byte");
    double known = number(c->state, "best_bits_per_byte_known");
    double unknown = number(c->state, "best_unknown"), step = number(c->state, "best_step");
    if (!isfinite(nll))
        return;
    title("validation");
    printf("perplexity %.2f a token (loss %.4f)", exp(nll), nll);
    if (!isfinite(bits) && c->vocab != NULL && vocab_is_bytes(c->vocab))
        bits = nll / log(2);
    if (isfinite(bits))
        printf(", %.3f bits per byte", bits);
    else if (isfinite(known))
        printf(", %.3f bits per byte of known words", known);
    if (unknown > 0)
        printf(", %.1f %% <unk>", 100 * unknown);
    print_count("; the best, at step ", step, "");
    putchar('\n');
}

/* A number of blocks beyond what goes without saying. */
static void print_some(double count, double unsaid, const char *where)
{
    if (isfinite(count) && count > unsaid)
        printf(", %.0f block%s%s", count, count > 1 ? "s" : "", where);
}

static void print_model(const struct content *c)
{
    const struct json *m = c->config;
    const char *cell = text(m, "model.cell");
    double layers = number(m, "model.layers");
    if (json_kind(look_up(m, "model")) != JSON_OBJECT)
        return;
    title("model");
    if (layers > 0)
        print_count("", layers, " layers of ");
    printf("%s%s", cell[0] != '\0' ? cell : "of another version", layers > 0 ? "" : " equilibrium");
    print_count(", width ", number(m, "model.d_model"), "");
    if (strcmp(cell, "trellis") == 0) {
        print_count(", hidden ", number(m, "model.nhid"), "");
        print_count(", output ", number(m, "model.nout"), "");
        print_count(", kernel ", number(m, "model.ksize"), "");
    } else {
        print_count(", ", number(m, "model.n_head"), " heads");
        print_count(", inner width ", number(m, "model.d_inner"), "");
        print_some(number(m, "model.prelude"), 0, " in the prelude");
        print_some(number(m, "model.blocks"), 1, "");
        print_some(number(m, "model.coda"), 0, " in the coda");
    }
    putchar('\n');
}

static void print_solver(const struct content *c, const char *direction)
{
    char path[KEY_MAX];
    snprintf(path, sizeof path, "solver.%s.method", direction);
    printf("%s", text(c->config, path));
    snprintf(path, sizeof path, "solver.%s.scope", direction);
    printf(" (%s)", text(c->config, path));
    snprintf(path, sizeof path, "solver.%s.max_iter", direction);
    print_count(", ", number(c->config, path), "");
    snprintf(path, sizeof path, "solver.%s.stop", direction);
    bool fixed = strcmp(text(c->config, path), "fixed") == 0;
    snprintf(path, sizeof path, "solver.%s.tol", direction);
    if (!fixed)
        printf(" or to %g", number(c->config, path));
}

static void print_solvers(const struct content *c)
{
    if (text(c->config, "solver.forward.method")[0] == '\0' ||
        number(c->config, "model.layers") > 0)
        return;
    title("solver");
    print_solver(c, "forward");
    printf(" evaluations; ");
    if (strcmp(text(c->config, "gradient.method"), "implicit") == 0) {
        printf("backward ");
        print_solver(c, "backward");
    } else {
        printf("gradient %s", text(c->config, "gradient.method"));
    }
    putchar('\n');
}

static void print_parameters(const struct content *c)
{
    title("parameters");
    print_count("", (double)c->parameters, "");
    print_count(" in ", (double)c->tensors, " tensors\n");
    title("");
    for (int i = 0, any = 0; content_part(i) != NULL; i++) {
        if (c->part[i] == 0)
            continue;
        printf("%s%s ", any++ > 0 ? " + " : "= ", content_part(i));
        print_count("", (double)c->part[i], "");
    }
    putchar('\n');
}

void info_vocabulary(const struct vocab *v)
{
    struct text_rule rule = vocab_rule(v);
    char count[ESTIMATE_COUNT_MAX];
    estimate_count(vocab_size(v), count);
    switch (rule.split) {
    case TEXT_SPLIT_BYTES:
        printf("the 256 bytes\n");
        return;
    case TEXT_SPLIT_IDS:
        printf("%s ids of another program\n", count);
        return;
    case TEXT_SPLIT_SUBWORDS:
        printf(rule.numbers ? "%s tokens of a tokenizer.json, for writing texts\n"
                            : "%s subwords\n",
               count);
        return;
    case TEXT_SPLIT_BLANKS:
    case TEXT_SPLIT_PUNCTUATION:
        printf("%s words, divided at %s%s", count, text_split_name(rule.split),
               rule.lower ? ", lower case" : "");
        break;
    }
    printf("%s%s\n", vocab_eos(v) < 0 ? ", without " VOCAB_EOS : "",
           vocab_unk(v) < 0 ? ", without " VOCAB_UNK : ", with " VOCAB_UNK);
}

static void print_training(const struct content *c)
{
    char time[ESTIMATE_COUNT_MAX];
    double tokens = number(c->state, "tokens"), seconds = number(c->state, "seconds");
    double batch = number(c->config, "train.batch") * number(c->config, "train.tgt_len");
    const char *dir = text(c->config, "data.dir"), *origin = text(c->state, "origin");
    if (dir[0] != '\0') {
        title("data");
        printf("%s", dir);
        if (tokens > 0)
            print_count(", epoch ", number(c->state, "epoch") + 1, "");
        putchar('\n');
    }
    title("training");
    if (!(tokens > 0)) {
        printf("none\n");
        return;
    }
    print_count("", tokens, " tokens");
    print_count(", ", batch, " a step");
    estimate_duration(seconds, time);
    printf(", in %s", isfinite(seconds) ? time : "unknown time");
    printf("; %s, %s, lr %g", text(c->config, "train.optimizer"), text(c->config, "train.schedule"),
           number(c->config, "train.lr"));
    if (number(c->state, "skipped") > 0)
        print_count("; ", number(c->state, "skipped"), " steps skipped");
    putchar('\n');
    if (origin[0] != '\0') {
        title("");
        printf("begun from %s\n", origin);
    }
}

void info_summary(const struct content *c)
{
    char packed[ESTIMATE_COUNT_MAX], unpacked[ESTIMATE_COUNT_MAX];
    print_head(c);
    print_validation(c);
    print_model(c);
    print_solvers(c);
    print_parameters(c);
    if (c->vocab != NULL) {
        title("vocabulary");
        info_vocabulary(c->vocab);
    }
    if (c->state != NULL && c->config != NULL)
        print_training(c);
    estimate_bytes((double)checkpoint_bytes(c->file), packed);
    estimate_bytes((double)c->unpacked, unpacked);
    title("file");
    printf("%s, %s unpacked, %lld sections\n", packed, unpacked,
           (long long)checkpoint_count(c->file));
    title("weights");
    printf("digest %s\n", c->digest);
}
