/* The page of the configuration, deq-config(5). */
#include "cmd/manual/manual.h"

#include "cmd/load_config.h"
#include "cmd/manual/page.h"
#include "cmd/manual/roff.h"
#include "config/config_table.h"

#include <string.h>

static const char description[] =
    "A configuration is a file of JSON. Every key has a default, so that a file names only what "
    "differs. Keys are nested by section or written with dots, as they are here. --set KEY=VALUE "
    "changes a key on the command line, where lists are divided by commas and strings need no "
    "quotes.\n"
    "A key that is unknown or given twice, a wrong type and a value out of range are refused with "
    "file and line. `deq info --config FILE` prints every key with its value, and `deq help config "
    "KEY` explains one.\n"
    "A bare NAME also stands for NAME.json in the working folder, in ./configs, or among the "
    "presets that are installed.";

/* The length of "solver.forward" in "solver.forward.tol". */
static size_t section_length(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? (size_t)(dot - path) : 0;
}

static void put_key(FILE *out, const struct config_key *key)
{
    char range[256], initial[80], facts[512];
    config_range_text(key, range, sizeof range);
    config_initial_text(key, initial, sizeof initial);
    bool says_range = key->type != CONFIG_BOOL;
    snprintf(facts, sizeof facts, "(%s%s%s%s%s; default %s)", config_type_text(key->type),
             says_range ? ": " : "", says_range ? range : "", key->unit[0] != '\0' ? " " : "",
             key->unit, initial);
    fprintf(out, ".TP\n\\fB%s\\fR\n", key->path);
    roff_prose(out, key->meaning, NULL);
    fputs(".br\n", out);
    roff_literal_line(out, facts);
}

static void put_keys(FILE *out)
{
    size_t before = 0;
    const char *section = "";
    page_section(out, ".SH", "Keys");
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        size_t n = section_length(key->path);
        if (n != before || strncmp(section, key->path, n) != 0) {
            char title[CONFIG_SECTION_MAX];
            snprintf(title, sizeof title, "%.*s", (int)n, key->path);
            page_section(out, ".SS", title);
        }
        before = n;
        section = key->path;
        put_key(out, key);
    }
}

void manual_config(FILE *out)
{
    page_begin(out, "deq-config", 5, "configuration of a deep equilibrium model and its training");
    page_section(out, ".SH", "Description");
    page_paragraphs(out, description, "KEY VALUE FILE NAME");
    put_keys(out);
    page_section(out, ".SH", "Files");
    page_file(out, DEQ_CONFIG_DIR "/NAME.json", "Presets.");
    page_file(out, "RUN/config.json", "The configuration of a training, with every key.");
    page_section(out, ".SH", "Example");
    fputs(".EX\n{\n"
          "  \"data\": {\"dir\": \"data/my\"},\n"
          "  \"model\": {\"d_model\": 128, \"n_head\": 4, \"d_inner\": 512},\n"
          "  \"solver\": {\"forward\": {\"max_iter\": 8}},\n"
          "  \"train\": {\"steps\": 5000, \"lr\": 2e\\-3}\n}\n.EE\n"
          ".SH SEE ALSO\n.BR deq (1),\n.BR deq\\-train (1),\n.BR deq\\-info (1)\n",
          out);
}
