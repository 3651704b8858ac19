/* deq help prints the help of every command from its description. */
#include "cmd/help.h"

#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/manual/manual.h"
#include "config/config.h"

#include <stdarg.h>
#include <string.h>

/* Columns of a line, and the widest left column whose text still stands beside it. */
enum { WIDTH = 80, LEFT_MAX = 27, NAME_MAX_BYTES = 64, FORM_BYTES = 256 };

/* Prints words from column `at` on. A line that would pass column WIDTH goes on in the next one, at
 * column `indent`. */
static void wrap(FILE *out, const char *text, int at, int indent)
{
    for (bool first = true; *text != '\0'; first = false) {
        int n = (int)strcspn(text, " ");
        if (!first && at + 1 + n > WIDTH)
            at = fprintf(out, "\n%*s", indent, "") - 1;
        else if (!first)
            at += fprintf(out, " ");
        at += fprintf(out, "%.*s", n, text);
        text += n + (text[n] == ' ');
    }
}

/* Paragraphs, each with an empty line above it. */
static void print_paragraphs(FILE *out, const char *text)
{
    while (text != NULL && *text != '\0') {
        char paragraph[2048];
        int n = (int)strcspn(text, "\n");
        snprintf(paragraph, sizeof paragraph, "%.*s", n, text);
        fputc('\n', out);
        wrap(out, paragraph, 0, 0);
        fputc('\n', out);
        text += n + (text[n] == '\n');
    }
}

/* Prints one row of a list, which is what stands at the left and its text from `column` on. */
static void print_row(FILE *out, const char *left, int column, const char *text)
{
    int at = fprintf(out, "%s", left);
    if (at + 2 > column) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", column - at, "");
    wrap(out, text, column, column);
    fputc('\n', out);
}

/* "  -q, --quiet" or "      --config FILE" */
static int option_left(const struct option_rule *rule, char out[NAME_MAX_BYTES])
{
    char letter[8] = "    ";
    if (rule->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", rule->letter);
    return snprintf(out, NAME_MAX_BYTES, "  %s--%s%s%s", letter, rule->name,
                    rule->value != NULL ? " " : "", rule->value != NULL ? rule->value : "");
}

static int wider(int column, int width)
{
    return width + 2 <= column ? column : width + 2 <= LEFT_MAX ? width + 2 : column;
}

void help_option_text(const struct option_rule *rule, char *out, size_t size)
{
    const char *standard = rule->initial != NULL ? rule->initial : rule->unset;
    snprintf(out, size, "%s%s%s%s%s", rule->help, rule->required ? " Required." : "",
             standard != NULL ? " Default: " : "", standard != NULL ? standard : "",
             standard != NULL ? "." : "");
}

static void print_option(FILE *out, const struct option_rule *rule, int column)
{
    char left[NAME_MAX_BYTES], text[1024];
    option_left(rule, left);
    help_option_text(rule, text, sizeof text);
    print_row(out, left, column, text);
}

static void print_options(FILE *out, const struct option_rule *rules)
{
    static const struct option_rule help = {
        .name = "help", .letter = 'h', .help = "Prints this help."};
    char left[NAME_MAX_BYTES];
    int column = 0;
    for (const struct option_rule *r = rules; r != NULL && r->name != NULL; r++)
        column = wider(column, option_left(r, left));
    column = wider(column, option_left(&help, left));
    if (rules == NULL || rules->group == NULL)
        fputs("\nOptions:\n", out);
    for (const struct option_rule *r = rules; r != NULL && r->name != NULL; r++) {
        if (r->group != NULL)
            fprintf(out, "\n%s:\n", r->group);
        print_option(out, r, column);
    }
    print_option(out, &help, column);
}

static void print_json_fields(FILE *out, const struct json_field *fields)
{
    char left[NAME_MAX_BYTES];
    int column = 0;
    if (fields == NULL)
        return;
    for (const struct json_field *f = fields; f->name != NULL; f++)
        column = wider(column, 2 + (int)strlen(f->name));
    fputs("\nFields of the JSON object:\n", out);
    for (const struct json_field *f = fields; f->name != NULL; f++) {
        snprintf(left, sizeof left, "  %s", f->name);
        print_row(out, left, column, f->help);
    }
}

/* The names of a table and what they do. */
static void print_list(FILE *out, const struct command *const *table)
{
    char left[NAME_MAX_BYTES];
    for (; *table != NULL; table++) {
        snprintf(left, sizeof left, "  %s", (*table)->name);
        print_row(out, left, 13, (*table)->summary);
    }
}

/* Appends to text[size], of which *used bytes are there. */
static void append(char *text, size_t size, size_t *used, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void append(char *text, size_t size, size_t *used, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + *used, size - *used, format, args);
    va_end(args);
    if (n > 0)
        *used += (size_t)n < size - *used ? (size_t)n : size - *used - 1;
}

bool help_form(const struct command *c, int index, char *out, size_t size)
{
    size_t used = 0;
    bool one = c->forms == NULL;
    if (one ? index > 0 : c->forms[index] == NULL)
        return false;
    append(out, size, &used, "deq %s%s%s", c->parent != NULL ? c->parent : "",
           c->parent != NULL ? " " : "", c->name);
    if (!one && c->forms[index][0] != '\0')
        append(out, size, &used, " %s", c->forms[index]);
    if (one && c->operands != NULL)
        append(out, size, &used, " %s", c->operands);
    for (const struct option_rule *r = c->options; one && r != NULL && r->name != NULL; r++)
        if (r->required)
            append(out, size, &used, " --%s %s", r->name, r->value);
    if (one && c->options != NULL)
        append(out, size, &used, " [OPTION]...");
    return true;
}

static void print_usage(FILE *out, const struct command *c)
{
    char form[FORM_BYTES];
    for (int i = 0; help_form(c, i, form, sizeof form); i++)
        fprintf(out, "%s%s\n", i == 0 ? "usage: " : "       ", form);
}

void help_print(const struct command *command, FILE *out)
{
    print_usage(out, command);
    print_paragraphs(out, command->description);
    if (command->tools != NULL) {
        fputc('\n', out);
        print_list(out, command->tools);
    }
    print_options(out, command->options);
    print_paragraphs(out, command->notes);
    print_json_fields(out, command->json);
    if (command->examples != NULL)
        fprintf(out, "\nExample%s:\n", command->examples[1] != NULL ? "s" : "");
    for (int i = 0; command->examples != NULL && command->examples[i] != NULL; i++)
        fprintf(out, "  %s\n", command->examples[i]);
}

void help_overview(FILE *out)
{
    fputs("deq trains, evaluates and samples deep equilibrium language models.\n\n"
          "usage: deq SUBCOMMAND [OPTION]...\n\n",
          out);
    print_list(out, commands);
    fputs("\nOptions:\n"
          "  -h, --help     Prints this help.\n"
          "  -V, --version  Prints the version.\n"
          "\n`deq help SUBCOMMAND` prints all that a subcommand can do.\n\n"
          "Exit codes:\n",
          out);
#define X(name, code, text) fprintf(out, "  %3d  %s\n", code, text);
    STATUS_LIST(X)
#undef X
}

/* --- the command ------------------------------------------------------------------------------ */

struct request {
    bool man, markdown;
};

static const struct option_rule options[] = {
    OPTION("man", FLAG, man,
           .help = "Prints the same as the source of a manual page, for man -l. Without an operand "
                   "it is the page of deq as a whole."),
    OPTION("markdown", FLAG, markdown,
           .help =
               "Prints the table of configuration keys in Markdown, as configs/README.md has it."),
    {0},
};

/* Prints the keys of a configuration, all of them or those that `wanted` names. */
static enum status help_config(const struct request *r, const char *wanted, struct error *err)
{
    char *text = NULL;
    if (wanted != NULL && (r->man || r->markdown))
        return error_set(err, STATUS_USAGE, "%.100s: unexpected; want deq help config --%s", wanted,
                         r->man ? "man" : "markdown");
    if (r->man) {
        manual_config(stdout);
        return STATUS_OK;
    }
    TRY(config_reference(r->markdown, wanted, &text, err));
    fputs(text, stdout);
    mem_free(text);
    return STATUS_OK;
}

static enum status help_command(const struct request *r, const struct operands *topic,
                                struct error *err)
{
    const struct command *command = command_find(commands, topic->text[0]);
    int depth = 1;
    if (command == NULL || topic->count > 1)
        TRY(command_choose(&command, &depth, topic->count, topic->text, err));
    if (depth < topic->count)
        return error_set(err, STATUS_USAGE, "%.100s: unexpected; deq %s has no tools",
                         topic->text[depth], command->name);
    if (r->man && command->parent != NULL)
        return error_set(err, STATUS_USAGE, "%s: its page is in deq help %s --man", command->name,
                         command->parent);
    (r->man ? manual_command : help_print)(command, stdout);
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct operands topic;
    TRY(command_read(&command_help, &r, argc, argv, &topic, err));
    bool config = topic.count > 0 && strcmp(topic.text[0], "config") == 0;
    if (r.man && r.markdown)
        return error_set(err, STATUS_USAGE, "--man and --markdown: leave one out");
    if (config)
        return help_config(&r, topic.count > 1 ? topic.text[1] : NULL, err);
    if (r.markdown)
        return error_set(err, STATUS_USAGE, "--markdown: only for deq help config");
    if (topic.count > 0)
        return help_command(&r, &topic, err);
    (r.man ? manual_overview : help_overview)(stdout);
    return STATUS_OK;
}

const struct command command_help = {
    .name = "help",
    .summary = "print the help of a subcommand or of the configuration",
    .operands = "[SUBCOMMAND] [TOOL|KEY]",
    .stray = "want at most a subcommand and a tool of it",
    .forms = (const char *const[]){"", "SUBCOMMAND [TOOL]", "config [KEY]", "config --markdown",
                                   "[SUBCOMMAND|config] --man", NULL},
    .description =
        "Without an operand, lists the subcommands and the exit codes. With a subcommand, or a "
        "tool of it such as `deq help bench memory`, prints all its options.\n"
        "`deq help config` describes every key of a configuration file, with its default, its "
        "range and its unit. With a KEY it describes that one, or all of a section such as solver.",
    .options = options,
    .examples = (const char *const[]){"deq help bench memory", "deq help config train.lr",
                                      "deq help train --man | man -l -", NULL},
    .run = run_command,
};
