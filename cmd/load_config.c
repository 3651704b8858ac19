/* Finds, reads and changes the configuration that a command line names. */
#include "cmd/load_config.h"

#include "config/preset.h"
#include "data/folder_vocab.h"
#include "data/shard.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Pipes and devices count, so that --config /dev/stdin works. */
static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

static bool try_path(char out[PATHS_MAX], const char *folder, const char *name, const char *suffix)
{
    int n = snprintf(out, PATHS_MAX, "%s/%s%s", folder, name, suffix);
    return n > 0 && n < PATHS_MAX && is_file(out);
}

/* The folder of the program's file, or "." if it is not known. */
static void program_folder(char out[PATHS_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATHS_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL)
        *slash = '\0';
    else
        strcpy(out, ".");
}

/* The folders of presets, the first of which is searched first: here, beside a program that was
 * built or installed anywhere, and where it was to be installed. */
enum { PRESET_FOLDERS = 4, FOLDER_MAX = PATHS_MAX + 32 };
static void preset_folder(int i, char out[FOLDER_MAX])
{
    static const char *const beside[] = {"../configs", "../share/deq/configs"};
    char program[PATHS_MAX];
    if (i == 0 || i == PRESET_FOLDERS - 1) {
        snprintf(out, FOLDER_MAX, "%s", i == 0 ? "configs" : DEQ_CONFIG_DIR);
        return;
    }
    program_folder(program);
    snprintf(out, FOLDER_MAX, "%s/%s", program, beside[i - 1]);
}

/* Looks for a preset in the first `count` of these folders. */
static bool try_first(int count, char out[PATHS_MAX], const char *name, const char *suffix)
{
    char folder[FOLDER_MAX];
    for (int i = 0; i < count; i++) {
        preset_folder(i, folder);
        if (try_path(out, folder, name, suffix))
            return true;
    }
    return false;
}

static bool try_folders(char out[PATHS_MAX], const char *name, const char *suffix)
{
    return try_first(PRESET_FOLDERS, out, name, suffix);
}

void load_config_presets(void (*each)(void *ctx, const char *name), void *ctx)
{
    char folder[FOLDER_MAX], name[256], found[PATHS_MAX];
    for (int i = 0; i < PRESET_FOLDERS; i++) {
        struct dirent **files;
        preset_folder(i, folder);
        int count = scandir(folder, &files, NULL, alphasort);
        for (int k = 0; k < count; k++) {
            const char *end = strrchr(files[k]->d_name, '.');
            load_config_name(files[k]->d_name, name, sizeof name);
            if (end != NULL && strcmp(end, ".json") == 0 && !try_first(i, found, name, ".json"))
                each(ctx, name);
            free(files[k]);
        }
        if (count >= 0)
            free(files);
    }
}

static enum status find_file(const char *name, char out[PATHS_MAX], struct error *err)
{
    if (strlen(name) >= PATHS_MAX)
        return error_set(err, STATUS_NOINPUT, "%.100s...: name too long", name);
    strcpy(out, name);
    if (is_file(name))
        return STATUS_OK;
    if (strchr(name, '/') != NULL)
        return error_set(err, STATUS_NOINPUT,
                         is_folder(name) ? "%s: a folder; give a configuration in it"
                                         : "%s: no such configuration file",
                         name);
    if (try_path(out, ".", name, ".json"))
        return STATUS_OK;
    if (try_folders(out, name, "") || try_folders(out, name, ".json"))
        return STATUS_OK;
    return error_set(err, STATUS_NOINPUT,
                     "%s: no such configuration file, here, in ./configs or among the installed "
                     "presets (nor with .json)",
                     name);
}

void load_config_name(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".json") == 0)
        n -= 5;
    snprintf(out, size, "%.*s", (int)n, base);
}

/* Reads the header of a split's first shard. False if there is no usable one yet. */
static bool read_header(const char *dir, const char *split, struct shard_header *h)
{
    char path[PATHS_MAX], name[SHARD_NAME_MAX];
    unsigned char bytes[SHARD_HEADER_BYTES];
    struct error ignored;
    shard_name(name, split, 0);
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = n > 0 && n < PATHS_MAX ? fopen(path, "rb") : NULL;
    if (file == NULL)
        return false;
    bool good = fread(bytes, 1, sizeof bytes, file) == sizeof bytes &&
                shard_header_decode(h, bytes, path, &ignored) == STATUS_OK;
    fclose(file);
    return good;
}

/* The size of the vocabulary of the data's first shard, or of what lies beside the token files of
 * another program, or 0 if there is none yet. */
static int64_t vocabulary_of(const struct config *c)
{
    struct shard_header h;
    struct vocab *vocab = NULL;
    struct error ignored;
    const struct folder_tokens tokens = {c->data.dir, c->data.format, 0, c->data.end_of_text};
    if (read_header(c->data.dir, "train", &h))
        return h.vocab_size;
    int64_t size =
        folder_vocab_load(&vocab, &tokens, &ignored) == STATUS_OK ? vocab_size(vocab) : 0;
    vocab_free(vocab);
    return size;
}

enum status load_config_set(struct config *config, const struct option_list *set, struct error *err)
{
    for (int i = 0; i < set->count; i++)
        TRY(config_set(config, set->text[i], err));
    return STATUS_OK;
}

enum status load_config(const char *name, const struct option_list *set, char path[PATHS_MAX],
                        struct config *config, struct error *err)
{
    config_defaults(config);
    TRY(find_file(name, path, err));
    TRY(config_load(config, path, err));
    return load_config_set(config, set, err);
}

/* --- presets ---------------------------------------------------------------------------------- */

/* Counts a split. *header stays as it is if there is none. */
static enum status read_split(const struct shard_source *source, struct shard_header *header,
                              bool *foreign, struct error *err)
{
    struct shard_set *set = NULL;
    TRY(shard_set_open(&set, source, err));
    *header = *shard_set_header(set);
    *foreign = shard_set_is_foreign(set);
    shard_set_close(set);
    return STATUS_OK;
}

/* About the bytes of text that a token of another program has. Rare pieces of words are long, so
 * that the mean of a vocabulary is too much for a text. */
static int64_t bytes_of_token(const struct vocab *v)
{
    const int64_t usual = 4;
    int64_t bytes = 0, n = vocab_size(v);
    if (vocab_rule(v).split != TEXT_SPLIT_SUBWORDS)
        return usual;
    for (int64_t id = 0; id < n; id++) {
        size_t len;
        vocab_surface(v, id, &len);
        bytes += (int64_t)len;
    }
    return bytes < n ? 1 : bytes < usual * n ? bytes / n : usual;
}

/* What token files of another program do not say. */
static enum status guess_facts(const struct config *c, const char *dir, struct preset_facts *facts,
                               struct error *err)
{
    struct vocab *vocab = NULL;
    const struct folder_tokens tokens = {dir, c->data.format, c->model.vocab_size,
                                         c->data.end_of_text};
    TRY(folder_vocab_load(&vocab, &tokens, err));
    facts->vocab = vocab_size(vocab);
    facts->text_bytes = bytes_of_token(vocab) * facts->tokens;
    vocab_free(vocab);
    return STATUS_OK;
}

static enum status read_facts(const struct config_source *from, struct preset_facts *facts,
                              struct error *err)
{
    struct config c;
    struct shard_header h, valid = {0};
    struct error ignored;
    char remedy[SHARD_REMEDY_MAX];
    bool foreign;
    config_defaults(&c);
    TRY(load_config_set(&c, from->set, err));
    struct shard_source source = {from->data, "train", c.data.format};
    enum status status = read_split(&source, &h, &foreign, err);
    if (status == STATUS_NOINPUT) {
        shard_remedy(from->data, remedy);
        return error_set(err, STATUS_NOINPUT, "%s: has no training text: %s", from->data, remedy);
    }
    TRY(status);
    source.split = "valid";
    (void)read_split(&source, &valid, &(bool){false}, &ignored); /* training finds what is wrong */
    *facts = (struct preset_facts){.tokens = h.split_tokens,
                                   .valid_tokens = valid.split_tokens,
                                   .text_bytes = h.text_bytes,
                                   .vocab = h.vocab_size,
                                   .bytes = h.bytes};
    if (h.sequence > 0)
        return error_set(err, STATUS_CONFIG,
                         "%s: holds a task and no text, for which there is no preset: --config "
                         "copy-transformer or copy-trellis",
                         from->data);
    return foreign ? guess_facts(&c, from->data, facts, err) : STATUS_OK;
}

/* Finds the file of a preset, which is none that lies here by chance. */
static enum status find_preset(const char *name, char out[PATHS_MAX], struct error *err)
{
    if (try_folders(out, name, ".json"))
        return STATUS_OK;
    return error_set(
        err, STATUS_NOINPUT,
        "%s.json: the preset is neither in ./configs nor beside the program nor in %s: "
        "run deq where its configs are, or name one of your own with --config",
        name, DEQ_CONFIG_DIR);
}

static enum status choose_preset(const char *name, const struct preset_facts *facts,
                                 enum preset *preset, char why[CONFIG_WHY], struct error *err)
{
    bool automatic = name == NULL || strcmp(name, "auto") == 0;
    if (automatic)
        *preset = preset_choose(facts);
    else if (!preset_find(name, preset))
        return error_set(err, STATUS_USAGE,
                         "--preset: want auto, small, medium or large, got \"%s\"", name);
    snprintf(why, CONFIG_WHY, "preset %s (%s on 2 cores)%s", preset_name(*preset),
             preset_budget(*preset), automatic ? "" : ", as asked");
    size_t n = strlen(why);
    if (automatic)
        snprintf(
            why + n, CONFIG_WHY - n,
            ", for a training text of %.*f MB; --preset small, medium or large chooses another",
            facts->text_bytes < 100000 ? 3 : 1, (double)facts->text_bytes / 1e6);
    return STATUS_OK;
}

static enum status load_preset(const struct config_source *source, char path[PATHS_MAX],
                               char why[CONFIG_WHY], struct config *config, struct error *err)
{
    struct preset_facts facts;
    struct config base;
    enum preset preset;
    if (source->data == NULL)
        return error_set(err, STATUS_USAGE,
                         "--preset: want --data DIR too, the folder of a text: deq tokenize makes "
                         "one of your own, and scripts/kjv.sh makes data/kjv");
    TRY(read_facts(source, &facts, err));
    TRY(choose_preset(source->preset, &facts, &preset, why, err));
    config_defaults(&base);
    TRY(find_preset(preset_name(preset), path, err));
    TRY(config_load(&base, path, err));
    *config = base;
    TRY(load_config_set(config, source->set, err));
    preset_fit(config, &base, &facts);
    return load_config_set(config, source->set, err);
}

enum status load_config_source(const struct config_source *source, char path[PATHS_MAX],
                               char why[CONFIG_WHY], struct config *config, struct error *err)
{
    why[0] = '\0';
    if (source->config != NULL && source->preset != NULL)
        return error_set(err, STATUS_USAGE,
                         "--preset and --config both choose a configuration: "
                         "leave out one of them");
    if (source->config != NULL)
        TRY(load_config(source->config, source->set, path, config, err));
    else
        TRY(load_preset(source, path, why, config, err));
    return load_config_data(config, source->data, err);
}

/* --- the rest --------------------------------------------------------------------------------- */

enum status load_config_or(const char *name,
                           enum status (*otherwise)(struct config *config, struct error *err),
                           struct config *config, struct error *err)
{
    static const struct option_list none;
    char path[PATHS_MAX];
    return name != NULL ? load_config(name, &none, path, config, err) : otherwise(config, err);
}

enum status load_config_data(struct config *config, const char *dir, struct error *err)
{
    if (dir == NULL)
        return STATUS_OK;
    if (strlen(dir) >= sizeof config->data.dir)
        return error_set(err, STATUS_USAGE, "--data: path too long");
    strcpy(config->data.dir, dir);
    return STATUS_OK;
}

enum status load_config_resolve(struct config *config, int64_t words, struct error *err)
{
    const struct config_list *cutoffs = &config->model.cutoffs;
    int64_t named = config->model.vocab_size;
    if (named == 0 && cutoffs->count > 0 && cutoffs->value[cutoffs->count - 1] >= words)
        return error_set(err, STATUS_CONFIG,
                         "model.vocab_size: no data is read here, and the %lld words that stand in "
                         "for it are fewer than model.cutoffs has: --set model.vocab_size=N",
                         (long long)words);
    return config_resolve(config, named > 0 ? named : words, err);
}

enum status load_config_resolved(const char *name, const struct option_list *set,
                                 char path[PATHS_MAX], struct config *config, struct error *err)
{
    TRY(load_config(name, set, path, config, err));
    return load_config_from_data(config, path, err);
}

enum status load_config_from_data(struct config *config, const char *path, struct error *err)
{
    int64_t vocab = config->model.vocab_size == 0 ? vocabulary_of(config) : 0;
    enum status status = config_resolve(config, vocab, err);
    if (status != STATUS_OK)
        error_prefix(err, "%s", path);
    return status;
}
