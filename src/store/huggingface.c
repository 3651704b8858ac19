/* Writes and reads folders of transformers. */
#include "store/huggingface.h"

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/out_folder.h"
#include "data/text_decode.h"
#include "store/huggingface_files.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_BYTES_MAX = 1 << 24, TEXT_TOKENS = 256 };

bool huggingface_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum status path_of(const char *folder, const char *name, char path[HUGGINGFACE_PATH_MAX],
                           struct error *err)
{
    int n = snprintf(path, HUGGINGFACE_PATH_MAX, "%s/%s", folder, name);
    return n >= 0 && n < HUGGINGFACE_PATH_MAX
               ? STATUS_OK
               : error_set(err, STATUS_USAGE, "%.80s...: path too long", folder);
}

/* --- export ----------------------------------------------------------------------------------- */

static enum status put(const char *folder, const char *name, const char *text, size_t size,
                       struct error *err)
{
    char path[HUGGINGFACE_PATH_MAX];
    TRY(path_of(folder, name, path, err));
    return atomic_file_put(path, text, size, err);
}

/* Finishes `w` and writes it. */
static enum status put_json(const char *folder, const char *name, struct json_writer *w,
                            struct error *err)
{
    char *text;
    TRY(json_write_finish(w, &text, err));
    enum status status = put(folder, name, text, strlen(text), err);
    mem_free(text);
    return status;
}

/* The token that stands for the beginning of a text and for what is not there. It is the line end,
 * behind which a text begins. */
static int64_t line_end(const struct vocab *v)
{
    return vocab_is_bytes(v) ? '\n' : vocab_eos(v);
}

/* The configuration as an object of its own under "deq". */
static enum status write_own_config(struct json_writer *w, const struct config *config,
                                    struct error *err)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    struct json *doc = NULL;
    TRY_OUT(config_to_json(config, false, &text, err));
    TRY_OUT(json_parse(&doc, text, strlen(text), "config", STATUS_INTERNAL, err));
    json_write_copy(w, "deq", json_root(doc));
out:
    json_free(doc);
    mem_free(text);
    return status;
}

static enum status put_config(const struct snapshot *s, const char *folder, struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, true);
    json_write_object(&w, NULL);
    json_write_array(&w, "architectures");
    json_write_string(&w, NULL, "DEQForCausalLM");
    json_write_end(&w);
    json_write_object(&w, "auto_map");
    json_write_string(&w, "AutoConfig", "configuration_deq.DEQConfig");
    json_write_string(&w, "AutoModelForCausalLM", "modeling_deq.DEQForCausalLM");
    json_write_end(&w);
    json_write_string(&w, "model_type", "deq");
    json_write_string(&w, "torch_dtype", "float32");
    json_write_int(&w, "vocab_size", vocab_size(s->vocab));
    enum status status = write_own_config(&w, &s->config, err);
    json_write_end(&w);
    if (status == STATUS_OK)
        return put_json(folder, "config.json", &w, err);
    mem_free(w.text);
    return status;
}

/* <unk> is no answer, as in deq sample. */
static enum status put_generation(const struct vocab *v, const char *folder, struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, true);
    json_write_object(&w, NULL);
    if (line_end(v) >= 0) {
        json_write_int(&w, "bos_token_id", line_end(v));
        json_write_int(&w, "pad_token_id", line_end(v));
    }
    /* max_new_tokens would go before the max_length that programs give */
    json_write_int(&w, "max_length", TEXT_TOKENS);
    if (vocab_unk(v) >= 0) {
        json_write_array(&w, "suppress_tokens");
        json_write_int(&w, NULL, vocab_unk(v));
        json_write_end(&w);
    }
    json_write_end(&w);
    return put_json(folder, "generation_config.json", &w, err);
}

/* Writes token `id` as a special one, unless there is none. */
static void write_special(struct json_writer *w, const char *key, const struct vocab *v, int64_t id)
{
    char name[256];
    size_t len;
    if (id < 0)
        return;
    const char *word = vocab_word(v, id, &len);
    snprintf(name, sizeof name, "%.*s", (int)len, word);
    json_write_string(w, key, vocab_is_bytes(v) ? "<0x0A>" : name);
}

static enum status put_tokenizer(const struct vocab *v, const char *folder, struct error *err)
{
    static const char *const ends[] = {"bos_token", "eos_token", "pad_token"};
    struct json_writer w;
    size_t size;
    const char *text = vocab_text(v, &size);
    TRY(put(folder, "vocab.txt", text, size, err));
    if (vocab_subwords(v) != NULL) {
        const void *model = subwords_model(vocab_subwords(v), &size);
        TRY(put(folder, VOCAB_TOKENIZER, model, size, err));
    }
    json_write_begin(&w, true);
    json_write_object(&w, NULL);
    json_write_object(&w, "auto_map");
    json_write_array(&w, "AutoTokenizer");
    json_write_string(&w, NULL, "tokenization_deq.DEQTokenizer");
    json_write_string(&w, NULL, NULL);
    json_write_end(&w);
    json_write_end(&w);
    json_write_string(&w, "tokenizer_class", "DEQTokenizer");
    json_write_bool(&w, "clean_up_tokenization_spaces", false);
    if (vocab_subwords(v) != NULL)
        json_write_bool(&w, "lossless", subwords_lossless(vocab_subwords(v)));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        write_special(&w, ends[i], v, line_end(v));
    write_special(&w, "unk_token", v, vocab_unk(v));
    json_write_end(&w);
    return put_json(folder, "tokenizer_config.json", &w, err);
}

/* A text that grows. */
struct card {
    char *text; /* owns */
    size_t len, capacity;
    enum status status;
    struct error *err;
};

__attribute__((format(printf, 2, 3))) static void say(struct card *c, const char *format, ...)
{
    char line[2048];
    va_list args;
    if (c->status != STATUS_OK)
        return;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof line)
        n = (int)sizeof line - 1;
    if (c->len + (size_t)n > c->capacity) {
        size_t grown = 2 * (c->len + (size_t)n);
        c->status = mem_grow((void **)&c->text, c->len, grown, 1, c->err);
        if (c->status != STATUS_OK)
            return;
        c->capacity = grown;
    }
    memcpy(c->text + c->len, line, (size_t)n);
    c->len += (size_t)n;
}

static void say_model(struct card *c, const struct snapshot *s, int64_t parameters)
{
    const struct config_model *m = &s->config.model;
    bool trellis = m->cell == CELL_TRELLIS;
    if (m->layers > 0)
        say(c, "| model | explicit network of %lld layers |\n", (long long)m->layers);
    else
        say(c, "| model | deep equilibrium |\n");
    say(c, "| cell | %s |\n",
        trellis                  ? "trellis"
        : m->cell == CELL_MODERN ? "modern"
                                 : "transformer");
    if (trellis)
        say(c, "| width | %lld, of which the softmax sees %lld |\n", (long long)(m->nhid + m->nout),
            (long long)m->nout);
    else
        say(c, "| width, heads, inner width, blocks | %lld, %lld, %lld, %lld |\n",
            (long long)m->d_model, (long long)m->n_head, (long long)m->d_inner,
            (long long)m->blocks);
    say(c, "| parameters | %lld |\n", (long long)parameters);
    struct text_rule rule = vocab_rule(s->vocab);
    if (vocab_is_bytes(s->vocab))
        say(c, "| vocabulary | 256 bytes |\n");
    else if (rule.numbers)
        say(c, "| vocabulary | %lld tokens of another program's tokenizer.json |\n",
            (long long)vocab_size(s->vocab));
    else if (rule.split == TEXT_SPLIT_SUBWORDS)
        say(c, "| vocabulary | %lld subwords of SentencePiece |\n",
            (long long)vocab_size(s->vocab));
    else if (rule.split == TEXT_SPLIT_IDS)
        say(c, "| vocabulary | %lld ids of another program |\n", (long long)vocab_size(s->vocab));
    else
        say(c, "| vocabulary | %lld words, divided at %s%s |\n", (long long)vocab_size(s->vocab),
            rule.split == TEXT_SPLIT_PUNCTUATION ? "blanks and punctuation" : "blanks",
            rule.lower ? ", in lower case" : "");
}

static void say_training(struct card *c, const struct snapshot *s)
{
    const struct train_state *t = &s->state;
    const struct config *config = &s->config;
    if (t->step == 0)
        return;
    say(c, "| training | %lld updates, %lld tokens, %.0f seconds |\n", (long long)t->step,
        (long long)t->tokens, t->seconds);
    say(c, "| segments | %lld sequences of %lld tokens, memory of %lld |\n",
        (long long)config->train.batch, (long long)config->train.tgt_len,
        (long long)config->train.mem_len);
    if (isfinite(t->best_nll))
        say(c, "| best validation loss | %.4f nats a token, perplexity %.3f, at update %lld |\n",
            t->best_nll, exp(t->best_nll), (long long)t->best_step);
}

static const char card_head[] = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
                                "tags:\n- deep-equilibrium-model\n- deq\n---\n\n"
                                "# A language model made with deq\n\n";

/* Whether a text is given to the tokenizer as numbers. */
static bool gives_numbers(const struct vocab *v)
{
    struct text_rule rule = vocab_rule(v);
    return rule.split == TEXT_SPLIT_IDS || rule.numbers;
}

static const char numbers_note[] =
    "The tokens are those of another program, which divides texts into them. This tokenizer takes "
    "a "
    "text as their numbers%s. To give text, load the tokenizer that made the training data.\n\n";
static const char subwords_note[] =
    "The tokenizer divides texts by the package `sentencepiece`, into the same tokens as deq.\n\n";

static void say_tokenizer(struct card *c, const struct vocab *v)
{
    if (gives_numbers(v))
        say(c, numbers_note, vocab_rule(v).numbers ? ", and writes text" : ", and writes numbers");
    else if (vocab_rule(v).split == TEXT_SPLIT_SUBWORDS)
        say(c, "%s", subwords_note);
}

/* A word of the vocabulary to begin a text with. */
static struct text_bytes prompt_word(const struct vocab *v)
{
    struct text_bytes word = {.text = "the", .len = 3};
    enum text_split split = vocab_rule(v).split;
    if (gives_numbers(v))
        return (struct text_bytes){.text = "0 1 2", .len = 5};
    bool words = split == TEXT_SPLIT_BLANKS || split == TEXT_SPLIT_PUNCTUATION;
    for (int64_t i = 0; i < vocab_size(v) && words; i++) {
        word.text = vocab_word(v, i, &word.len);
        bool plain = word.len < 64;
        for (size_t k = 0; k < word.len && plain; k++)
            plain = isalnum((unsigned char)word.text[k]) != 0;
        if (plain)
            break;
    }
    return word;
}

static const char card_use[] =
    "\n## Use\n\n```python\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "folder = \".\"\n"
    "tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n"
    "model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)\n"
    "prompt = tokenizer(\"%.*s\", return_tensors=\"pt\")\n"
    "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=50)[0]))\n```\n\n";
static const char card_end[] =
    "Positions are solved to a relative residual of `model.config.eval_tol`. A larger one is "
    "faster. `deq import . --out model.bin` makes a checkpoint of deq from the folder, also after "
    "`model.save_pretrained`.\n\n"
    "The bias, the errors and the licence of the training text are those of the model too. This "
    "card knows neither.\n";

static enum status put_card(const struct snapshot *s, const char *folder, int64_t parameters,
                            struct error *err)
{
    struct card c = {.err = err};
    struct text_bytes word = prompt_word(s->vocab);
    say(&c, "%s| | |\n|---|---|\n", card_head);
    say_model(&c, s, parameters);
    say_training(&c, s);
    say(&c, card_use, (int)word.len, word.text);
    say_tokenizer(&c, s->vocab);
    say(&c, "%s", card_end);
    if (c.status == STATUS_OK)
        c.status = put(folder, "README.md", c.text, c.len, err);
    mem_free(c.text);
    return c.status;
}

static enum status put_all(struct snapshot *from, const char *folder,
                           struct weight_export_report *report, struct error *err)
{
    char path[HUGGINGFACE_PATH_MAX];
    TRY(path_of(folder, "model.safetensors", path, err));
    TRY(weight_export(from, path, WEIGHT_NAMES_TORCH, report, err));
    for (const struct huggingface_file *f = huggingface_files; f->name != NULL; f++)
        TRY(put(folder, f->name, f->text, strlen(f->text), err));
    TRY(put_tokenizer(from->vocab, folder, err));
    TRY(put_generation(from->vocab, folder, err));
    TRY(put_card(from, folder, report->numbers, err));
    return put_config(from, folder, err);
}

/* Whether there is such a folder with something in it. */
static bool has_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int count = 0;
    while (d != NULL && count < 3 && readdir(d) != NULL)
        count++; /* . and .. are entries too */
    if (d != NULL)
        closedir(d);
    return count == 3;
}

enum status huggingface_export(struct snapshot *from, const char *folder, bool force,
                               struct weight_export_report *report, struct error *err)
{
    struct out_folder out;
    if (!force && has_entries(folder))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: not empty; choose another folder, or --force to replace the files of "
                         "an export in it",
                         folder);
    enum status status = out_folder_prepare(&out, folder, true, err);
    if (status == STATUS_OK)
        status = put_all(from, folder, report, err);
    out_folder_close(&out, status != STATUS_OK);
    return status;
}

/* --- import ----------------------------------------------------------------------------------- */

/* Forms of weights that other programs write, and what to do about them. */
static const struct {
    const char *name, *remedy;
} others[] = {
    {"model.safetensors.index.json", "its weights are in several files; save them in one, as "
                                     "model.save_pretrained(DIR, max_shard_size=\"1000GB\") does"},
    {"pytorch_model.bin", "its weights are a pickle, which is not read; save them with "
                          "model.save_pretrained(DIR, safe_serialization=True)"},
};

enum status huggingface_weights(const char *folder, char path[HUGGINGFACE_PATH_MAX],
                                struct error *err)
{
    struct stat st;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        TRY(path_of(folder, "model.safetensors", path, err));
        if (stat(path, &st) == 0)
            return STATUS_OK;
        TRY(path_of(folder, others[i].name, path, err));
        if (stat(path, &st) == 0)
            return error_set(err, STATUS_NOINPUT, "%s: %s", path, others[i].remedy);
    }
    return error_set(err, STATUS_NOINPUT,
                     "%s: no model.safetensors in this folder; name a file, or a folder of deq "
                     "export --format hf",
                     folder);
}

static enum status read_config(const struct json *doc, struct config *config, struct error *err)
{
    const struct cJSON *own = json_get(json_root(doc), "deq");
    struct json_writer w;
    char *text, name[HUGGINGFACE_PATH_MAX];
    if (own == NULL || json_kind(own) != JSON_OBJECT)
        return json_complain(doc, json_root(doc), err,
                             "no object \"deq\" with a configuration, which deq export writes");
    json_write_begin(&w, true);
    json_write_copy(&w, NULL, own);
    TRY(json_write_finish(&w, &text, err));
    snprintf(name, sizeof name, "%s (deq)", json_name(doc));
    config_defaults(config);
    enum status status = config_parse(config, text, name, err);
    mem_free(text);
    if (status == STATUS_OK &&
        (status = config_resolve(config, config->model.vocab_size, err)) != STATUS_OK)
        error_prefix(err, "%s", name);
    if (status == STATUS_CONFIG) /* the fault is in the folder, as of any file of data */
        status = err->status = STATUS_DATA;
    return status;
}

enum status huggingface_config(const char *folder, struct config *config, struct error *err)
{
    char path[HUGGINGFACE_PATH_MAX];
    struct json *doc;
    TRY(path_of(folder, "config.json", path, err));
    TRY(json_load(&doc, path, CONFIG_BYTES_MAX, STATUS_DATA, err));
    enum status status = read_config(doc, config, err);
    json_free(doc);
    return status;
}
