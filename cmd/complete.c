/* Completes a command line by the descriptions of commands and by the table of keys. */
#include "cmd/complete.h"

#include "cmd/commands.h"
#include "cmd/load_config.h"
#include "config/config_table.h"

#include <ctype.h>
#include <string.h>

enum { CANDIDATE_BYTES = 256, GIVEN_MAX = 64 };

/* The word that is completed. `kept` is a part in front of it that stays, as in "--split=va". */
struct current {
    FILE *out;
    const char *kept;
    int kept_length;
    const char *word;
};

/* Offers head + word, if the current word begins like it. The first sentence of `help` is shown. */
static void offer_after(const struct current *c, const char *head, int head_length,
                        const char *word, const char *help)
{
    char candidate[CANDIDATE_BYTES];
    snprintf(candidate, sizeof candidate, "%.*s%s", head_length, head, word);
    if (strncmp(candidate, c->word, strlen(c->word)) != 0)
        return;
    const char *end = help;
    while (*end != '\0' && *end != '\n' && !(end[0] == '.' && (end[1] == ' ' || end[1] == '\0')))
        end++;
    fprintf(c->out, "%.*s%s\t%.*s\n", c->kept_length, c->kept, candidate, (int)(end - help), help);
}

static void offer(const struct current *c, const char *word, const char *help)
{
    offer_after(c, "", 0, word, help);
}

static void offer_commands(const struct current *c, const struct command *const *table)
{
    for (; *table != NULL; table++)
        offer(c, (*table)->name, (*table)->summary);
}

/* --- keys and presets ------------------------------------------------------------------------- */

static void offer_keys(const struct current *c, const char *ending)
{
    char word[CANDIDATE_BYTES];
    for (size_t i = 0; i < config_key_count; i++) {
        snprintf(word, sizeof word, "%s%s", config_keys[i].path, ending);
        offer(c, word, config_keys[i].meaning);
    }
}

/* Offers KEY=, and behind it the values of a key that has a list of them. */
static void offer_assignments(const struct current *c)
{
    const char *equals = strchr(c->word, '=');
    char path[CANDIDATE_BYTES], choice[64];
    if (equals == NULL) {
        offer_keys(c, "=");
        return;
    }
    int head = (int)(equals - c->word);
    snprintf(path, sizeof path, "%.*s", head, c->word);
    const struct config_key *key = config_find_key(path);
    if (key == NULL)
        return;
    const char *choices = key->type == CONFIG_BOOL ? "true|false" : key->choices;
    for (int i = 0; choices != NULL && config_choice(choices, i, choice, sizeof choice); i++)
        offer_after(c, c->word, head + 1, choice, "");
}

static void offer_preset(void *ctx, const char *name)
{
    offer(ctx, name, "preset");
}

/* --- values ----------------------------------------------------------------------------------- */

/* Offers the words of "a, b or c". Those of a list follow others after commas. */
static void offer_choices(const struct current *c, const char *choices, bool list)
{
    const char *comma = list ? strrchr(c->word, ',') : NULL;
    int head = comma != NULL ? (int)(comma - c->word) + 1 : 0;
    size_t n;
    for (const char *p = choices; (p = options_choice(p, &n)) != NULL; p += n) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        offer_after(c, c->word, head, word, "");
    }
}

/* Offers what "auto|never|FILE" allows. Words in capitals are names of files or free texts. */
static void offer_kinds(const struct current *c, const char *value, bool words)
{
    static const char *const files[] = {"FILE", "CHECKPOINT", "PATH"};
    static const char *const folders[] = {"DIR", "RUN", "DATA"};
    bool file = false, folder = false;
    for (const char *p = value; *p != '\0';) {
        char word[64];
        size_t n = strcspn(p, "|[]");
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        for (size_t i = 0; i < 3; i++) {
            file |= strcmp(word, files[i]) == 0;
            folder |= strcmp(word, folders[i]) == 0;
        }
        if (words && islower((unsigned char)word[0]))
            offer(c, word, "");
        p += n + (p[n] != '\0');
    }
    if (file || folder)
        fputs(file ? ":files\n" : ":folders\n", c->out);
}

static void offer_value(const struct current *c, const struct option_rule *rule)
{
    if (rule->value == NULL)
        return;
    if (strcmp(rule->value, "KEY=VALUE") == 0) {
        offer_assignments(c);
        return;
    }
    if (strcmp(rule->name, "config") == 0)
        load_config_presets(offer_preset, (void *)c);
    if (rule->choices != NULL)
        offer_choices(c, rule->choices, strcmp(rule->value, "LIST") == 0);
    offer_kinds(c, rule->value, rule->choices == NULL);
}

/* --- a command line --------------------------------------------------------------------------- */

/* The words of a command line behind the names of subcommand and tool. */
struct line {
    const struct option_rule *rules;
    bool given[GIVEN_MAX];             /* by the number of the rule */
    const struct option_rule *pending; /* wants the current word as its value */
    bool closed;                       /* "--" stood there, and only operands follow */
    int operands;
};

/* The rule of "--name", "--name=value" or "-x", or NULL. */
static const struct option_rule *find_rule(const struct option_rule *rules, const char *word)
{
    const char *name = word + 2;
    size_t n = strncmp(word, "--", 2) == 0 ? strcspn(name, "=") : 0;
    for (const struct option_rule *r = rules; r != NULL && r->name != NULL; r++)
        if (n > 0 ? strlen(r->name) == n && strncmp(r->name, name, n) == 0
                  : r->letter != 0 && word[1] == r->letter && word[2] == '\0')
            return r;
    return NULL;
}

/* Reads a word that stands before the current one. */
static void read_word(struct line *line, const char *word)
{
    const struct option_rule *rule = line->pending;
    bool option = word[0] == '-' && word[1] != '\0' && !line->closed;
    line->pending = NULL;
    if (rule != NULL && !(rule->bare && option))
        return; /* it was a value */
    if (!option) {
        line->operands++;
        return;
    }
    line->closed = strcmp(word, "--") == 0;
    rule = find_rule(line->rules, word);
    if (rule == NULL)
        return;
    if (rule - line->rules < GIVEN_MAX)
        line->given[rule - line->rules] = true;
    if (rule->kind != OPTION_FLAG && strchr(word, '=') == NULL)
        line->pending = rule;
}

static void offer_options(const struct current *c, const struct line *line)
{
    char word[CANDIDATE_BYTES];
    for (const struct option_rule *r = line->rules; r != NULL && r->name != NULL; r++) {
        bool again = r->kind == OPTION_LIST || r - line->rules >= GIVEN_MAX;
        snprintf(word, sizeof word, "--%s", r->name);
        if (again || !line->given[r - line->rules])
            offer(c, word, r->help);
    }
    offer(c, "--help", "Prints the help");
}

/* Offers what stands behind deq help. */
static void offer_topics(const struct current *c, int operand, const char *topic)
{
    const struct command *command = command_find(commands, topic);
    if (operand == 0) {
        offer_commands(c, commands);
        offer(c, "config", "the keys of a configuration");
    } else if (operand == 1 && strcmp(topic, "config") == 0) {
        offer_keys(c, "");
    } else if (operand == 1 && command != NULL && command->tools != NULL) {
        offer_commands(c, command->tools);
    }
}

/* Offers an operand. "FILE..." stands for all that follow. */
static void offer_operand(const struct current *c, const char *operands, int number)
{
    char kind[64];
    for (const char *p = operands; *p != '\0';) {
        size_t n = strcspn(p, " ");
        bool many = n > 3 && strncmp(p + n - 3, "...", 3) == 0;
        snprintf(kind, sizeof kind, "%.*s", (int)(many ? n - 3 : n), p);
        if (number-- == 0 || many) {
            offer_kinds(c, kind, false);
            return;
        }
        p += n + strspn(p + n, " ");
    }
}

/* Completes words[count - 1] of a command, whose words begin at `first`. */
static void complete(struct current *c, const struct command *command, int first, int count,
                     char **words)
{
    struct line line = {.rules = command->options};
    for (int i = first; i < count - 1; i++)
        read_word(&line, words[i]);
    const char *equals = strncmp(c->word, "--", 2) == 0 ? strchr(c->word, '=') : NULL;
    const struct option_rule *rule = equals != NULL ? find_rule(line.rules, c->word) : NULL;
    bool option = c->word[0] == '-' && !line.closed;
    if (line.pending != NULL && !(line.pending->bare && option)) {
        offer_value(c, line.pending);
    } else if (option && rule != NULL) {
        c->kept = c->word;
        c->kept_length = (int)(equals + 1 - c->word);
        c->word = equals + 1;
        offer_value(c, rule);
    } else if (option || command->operands == NULL) {
        offer_options(c, &line);
    } else if (command == &command_help) {
        offer_topics(c, line.operands, words[count - 2]);
    } else {
        offer_operand(c, command->operands, line.operands);
    }
}

void complete_print(int count, char **words, FILE *out)
{
    struct current c = {.out = out, .kept = "", .word = count > 0 ? words[count - 1] : ""};
    if (count <= 1) {
        offer_commands(&c, commands);
        offer(&c, "--help", "Prints the list of subcommands");
        offer(&c, "--version", "Prints the version");
        return;
    }
    const struct command *command = command_find(commands, words[0]);
    int first = 1;
    if (command != NULL && command->tools != NULL && count == 2) {
        offer_commands(&c, command->tools);
        return;
    }
    if (command != NULL && command->tools != NULL) {
        command = command_find(command->tools, words[1]);
        first = 2;
    }
    if (command != NULL)
        complete(&c, command, first, count, words);
}
