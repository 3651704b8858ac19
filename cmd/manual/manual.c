/* Pages of commands: deq(1), deq-train(1) and so on. */
#include "cmd/manual/manual.h"

#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/load_config.h"
#include "cmd/manual/page.h"
#include "cmd/manual/roff.h"

#include <string.h>

enum { VALUES_BYTES = 512, TEXT_BYTES = 1024 };

/* What the environment changes. A variable belongs to the commands that have the option, or to the
 * command of that name. */
static const struct variable {
    const char *name, *option, *command;
    const char *help;
} variables[] = {
    {"OMP_NUM_THREADS", "threads", NULL, "The number of processor threads, without --threads."},
    {"OMP_WAIT_POLICY", "threads", NULL,
     "With passive, a thread that waits for others sleeps. It helps where several programs want "
     "the same processors, and takes some speed of one that is alone."},
    {"GOMP_SPINCOUNT", "threads", NULL,
     "How long a thread waits awake. 1000 lies between both, and is as good for programs side by "
     "side."},
    {"DEQ_CUDA_GRAPHS", "device", NULL, "0 does without CUDA graphs on a GPU."},
    {"NO_COLOR", NULL, "train", "If it is set, lines of progress are printed one below the other."},
    {"SLURM_JOB_END_TIME", NULL, "train",
     "When the batch job ends. The training saves before, as with --time-limit."},
    {"SLURM_JOB_ID", NULL, "train", "The job, whose end squeue is asked for otherwise."},
    {"NCCL_NVLS_ENABLE", NULL, "train",
     "1 lets switches add gradients of several GPUs. Such runs do not repeat bit for bit."},
    {"TMPDIR", NULL, "eval",
     "Where standard input is kept if several checkpoints are to read it. The default is /tmp."},
};
enum { VARIABLES = sizeof variables / sizeof *variables };

static bool has_option(const struct command *c, const char *name)
{
    for (const struct option_rule *r = c->options; r != NULL && r->name != NULL; r++)
        if (strcmp(r->name, name) == 0)
            return true;
    for (int i = 0; c->tools != NULL && c->tools[i] != NULL; i++)
        if (has_option(c->tools[i], name))
            return true;
    return false;
}

static bool reads_variable(const struct command *c, const struct variable *v)
{
    return v->option != NULL ? has_option(c, v->option) : strcmp(v->command, c->name) == 0;
}

/* Collects the words in capitals that stand for values: "FILE DIR N". */
static void collect_values(const struct command *c, char out[VALUES_BYTES])
{
    size_t used = 0;
    const struct option_rule operands = {.name = "", .value = c->operands};
    const struct option_rule *const lists[] = {&operands, c->options};
    out[0] = '\0';
    for (int k = 0; k < 2; k++)
        for (const struct option_rule *r = lists[k]; r != NULL && r->name != NULL; r++) {
            for (const char *p = r->value; p != NULL && *p != '\0' && used + 1 < VALUES_BYTES;) {
                size_t n = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
                if (n > 0)
                    used += (size_t)snprintf(out + used, VALUES_BYTES - used, "%.*s ", (int)n, p);
                p += n > 0 ? n : 1;
            }
            if (k == 0)
                break; /* it is no table */
        }
}

/* --- sections --------------------------------------------------------------------------------- */

static void put_synopsis(FILE *out, const struct command *c)
{
    char form[TEXT_BYTES], name[64];
    int words = c->parent != NULL ? 3 : 2;
    for (int i = 0; help_form(c, i, form, sizeof form); i++) {
        const char *rest = form;
        for (int k = 0; k < words; k++)
            rest += strcspn(rest, " ") + (k + 1 < words && rest[strcspn(rest, " ")] == ' ');
        snprintf(name, sizeof name, "%.*s", (int)(rest - form), form);
        fprintf(out, ".SY \"%s\"\n", name);
        if (*rest != '\0') {
            roff_usage(out, rest + 1);
            fputc('\n', out);
        }
        fputs(".YS\n", out);
    }
}

static void put_option(FILE *out, const struct option_rule *rule, const char *values)
{
    char text[TEXT_BYTES];
    fputs(".TP\n", out);
    if (rule->letter != 0)
        fprintf(out, "\\fB\\-%c\\fR, ", rule->letter);
    fputs("\\fB\\-\\-", out);
    roff_literal(out, rule->name);
    fputs("\\fR", out);
    if (rule->value != NULL) {
        fputc(' ', out);
        roff_usage(out, rule->value);
    }
    fputc('\n', out);
    help_option_text(rule, text, sizeof text);
    roff_prose(out, text, values);
}

static void put_options(FILE *out, const struct command *c, const char *heading, const char *values)
{
    static const struct option_rule help = {
        .name = "help", .letter = 'h', .help = "Prints the help."};
    page_section(out, heading, "Options");
    for (const struct option_rule *r = c->options; r != NULL && r->name != NULL; r++) {
        if (r->group != NULL)
            page_section(out, ".SS", r->group);
        put_option(out, r, values);
    }
    put_option(out, &help, values);
}

static void put_fields(FILE *out, const struct command *c, const char *heading)
{
    if (c->json == NULL)
        return;
    page_section(out, heading, "JSON fields");
    roff_prose(out, "With --json the last line of standard output is an object with these fields.",
               NULL);
    for (const struct json_field *f = c->json; f->name != NULL; f++) {
        fputs(".TP\n\\fB", out);
        roff_literal(out, f->name);
        fputs("\\fR\n", out);
        roff_prose(out, f->help, NULL);
    }
}

static void put_environment(FILE *out, const struct command *c)
{
    bool any = false;
    for (int i = 0; i < VARIABLES; i++) {
        if (c != NULL && !reads_variable(c, &variables[i]))
            continue;
        if (!any)
            page_section(out, ".SH", "Environment");
        any = true;
        fprintf(out, ".TP\n\\fB%s\\fR\n", variables[i].name);
        roff_prose(out, variables[i].help, NULL);
    }
}

static void put_files(FILE *out, const struct command_file *files)
{
    if (files == NULL)
        return;
    page_section(out, ".SH", "Files");
    for (; files->name != NULL; files++)
        page_file(out, files->name, files->help);
}

/* Whether any text of a command speaks of "deq NAME". */
static bool mentions(const struct command *c, const char *name)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "deq %s", name);
    if ((c->description != NULL && strstr(c->description, wanted) != NULL) ||
        (c->notes != NULL && strstr(c->notes, wanted) != NULL))
        return true;
    for (const struct option_rule *r = c->options; r != NULL && r->name != NULL; r++)
        if (strstr(r->help, wanted) != NULL)
            return true;
    return false;
}

static void put_see_also(FILE *out, const struct command *c)
{
    page_section(out, ".SH", "See also");
    fputs(".BR deq (1)", out);
    for (int i = 0; commands[i] != NULL; i++)
        if (commands[i] != c && mentions(c, commands[i]->name))
            fprintf(out, ",\n.BR deq\\-%s (1)", commands[i]->name);
    if (has_option(c, "set") || has_option(c, "config") || mentions(c, "help config"))
        fputs(",\n.BR deq\\-config (5)", out);
    fputc('\n', out);
}

static void put_body(FILE *out, const struct command *c, const char *heading)
{
    char values[VALUES_BYTES];
    collect_values(c, values);
    page_section(out, heading, "Synopsis");
    put_synopsis(out, c);
    page_section(out, heading, "Description");
    page_paragraphs(out, c->description, values);
    if (c->notes != NULL) {
        fputs(".PP\n", out);
        page_paragraphs(out, c->notes, values);
    }
    if (c->tools == NULL)
        put_options(out, c, heading, values);
    put_fields(out, c, heading);
}

static void put_examples(FILE *out, const struct command *c, const char *heading)
{
    if (c->examples == NULL)
        return;
    page_section(out, heading, c->examples[1] != NULL ? "Examples" : "Example");
    page_examples(out, c->examples);
}

/* A tool is a chapter of its subcommand's page. */
static void put_tool(FILE *out, const struct command *tool)
{
    char title[64];
    snprintf(title, sizeof title, "deq %s %s", tool->parent, tool->name);
    page_section(out, ".SH", title);
    put_body(out, tool, ".SS");
    put_examples(out, tool, ".SS");
}

/* --- pages ------------------------------------------------------------------------------------ */

void manual_command(const struct command *c, FILE *out)
{
    char name[64];
    snprintf(name, sizeof name, "deq-%s", c->name);
    page_begin(out, name, 1, c->summary);
    put_body(out, c, ".SH");
    for (int i = 0; c->tools != NULL && c->tools[i] != NULL; i++) {
        fprintf(out, ".TP\n\\fB%s\\fR\n", c->tools[i]->name);
        roff_prose(out, c->tools[i]->summary, NULL);
    }
    for (int i = 0; c->tools != NULL && c->tools[i] != NULL; i++)
        put_tool(out, c->tools[i]);
    page_section(out, ".SH", "Exit status");
    fputs("0 if all went well, and 64 for a command line that was refused.\n.BR deq (1)\nlists "
          "all.\n",
          out);
    put_environment(out, c);
    put_files(out, c->files);
    put_examples(out, c, ".SH");
    put_see_also(out, c);
}

static void put_exit_status(FILE *out)
{
    page_section(out, ".SH", "Exit status");
#define X(name, code, text) fprintf(out, ".TP\n\\fB%d\\fR\n%s\n", code, text);
    STATUS_LIST(X)
#undef X
}

void manual_overview(FILE *out)
{
    static const char *const examples[] = {"deq tokenize --train my.txt --valid-share 5% "
                                           "--out data/my",
                                           "deq train --data data/my",
                                           "deq sample --prompt \"The\"", NULL};
    static const struct command_file files[] = {
        {"data/NAME", "A text as tokens, made by deq tokenize."},
        {"runs/NAME", "A training: its configuration, log and checkpoints."},
        {"configs/NAME.json", "Configurations and presets, looked for in the working folder."},
        {"../share/deq/configs/NAME.json",
         "The same, seen from the folder that the program lies in."},
        {DEQ_CONFIG_DIR "/NAME.json", "The same, where the program was to be installed."},
        {0}};
    page_begin(out, "deq", 1, "train, evaluate and sample deep equilibrium language models");
    fputs(".SH SYNOPSIS\n.SY deq\n", out);
    roff_usage(out, "SUBCOMMAND [OPTION]...");
    fputs("\n.YS\n.SH DESCRIPTION\n", out);
    page_paragraphs(
        out,
        "A deep equilibrium model has one layer f. Its output is the fixed point of f, which a "
        "solver looks for. The gradient comes from the implicit function theorem, so that training "
        "needs no more memory the deeper the model is. deq trains such models on texts, or "
        "networks of layers to compare them with, from a laptop without a GPU to a cluster.\n"
        "Results go to standard output, everything else to standard error. With --json the last "
        "line of standard output is one object.",
        NULL);
    page_section(out, ".SH", "Subcommands");
    for (int i = 0; commands[i] != NULL; i++) {
        fprintf(out, ".TP\n.BR deq\\-%s (1)\n", commands[i]->name);
        roff_prose(out, commands[i]->summary, NULL);
    }
    fputs(".SH OPTIONS\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrints the list of subcommands.\n"
          ".TP\n\\fB\\-V\\fR, \\fB\\-\\-version\\fR\nPrints the version.\n",
          out);
    put_exit_status(out);
    put_environment(out, NULL);
    put_files(out, files);
    page_section(out, ".SH", "Examples");
    page_examples(out, examples);
    page_section(out, ".SH", "See also");
    for (int i = 0; commands[i] != NULL; i++)
        fprintf(out, ".BR deq\\-%s (1),\n", commands[i]->name);
    fputs(".BR deq\\-config (5)\n.PP\nShaojie Bai, J. Zico Kolter, Vladlen Koltun,\n"
          "\\fIDeep Equilibrium Models\\fR,\nNeurIPS 2019, arXiv 1909.01377.\n",
          out);
}
