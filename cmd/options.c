/* Reads command lines by tables of rules, with the C library's getopt_long. */
#include "cmd/options.h"

#include "base/strdist.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 32, OPTION_NAME_MAX = 64, FIRST = 256 };

/* The complaint about an unknown letter. To getopt "-json" is a row of letters that begins with
 * 'j'. The scan still stands at that argument, unless the letter was its last. */
static enum status refuse_letter(char **argv, const struct option *known, struct error *err)
{
    const char *arg = argv[optind] != NULL ? argv[optind] : "";
    for (; arg[0] == '-' && known->name != NULL; known++)
        if (strncmp(arg + 1, known->name, strlen(known->name)) == 0)
            return error_set(err, STATUS_USAGE, "%s: unknown option; did you mean --%s?", arg,
                             known->name);
    return error_set(err, STATUS_USAGE, "-%c: unknown option; see --help", optopt);
}

/* The complaint about what getopt_long just returned, which is '?' or ':'. */
static enum status refuse(int returned, char **argv, const struct option *known, struct error *err)
{
    const char *arg = argv[optind - 1];
    if (returned == ':' && optopt < FIRST)
        return error_set(err, STATUS_USAGE, "-%c: wants a value", optopt);
    /* optopt is the letter, or the value of a long option, of which --help has '?' */
    if ((optopt != 0 && optopt < FIRST && optopt != '?') || strncmp(arg, "--", 2) != 0)
        return refuse_letter(argv, known, err);
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg, "="), arg);
    if (returned == ':')
        return error_set(err, STATUS_USAGE, "%s: wants a value", name);
    const char *names[OPTIONS_MAX];
    size_t count = 0, same = 0;
    for (; known[count].name != NULL && count < OPTIONS_MAX; count++) {
        names[count] = known[count].name;
        same += strncmp(name + 2, names[count], strlen(name + 2)) == 0;
        if (strcmp(name + 2, names[count]) == 0)
            return error_set(err, STATUS_USAGE, "%s: takes no value", name);
    }
    if (same > 1)
        return error_set(err, STATUS_USAGE, "%s: more than one option begins so; see --help", name);
    const char *nearest = strdist_nearest(name + 2, names, count);
    if (nearest == NULL)
        return error_set(err, STATUS_USAGE, "%s: unknown option; see --help", name);
    return error_set(err, STATUS_USAGE, "%s: unknown option; did you mean --%s?", name, nearest);
}

static enum status read_int(const char *option, const char *text, int64_t min, int64_t max,
                            int64_t *out, struct error *err)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool digits = strspn(text, "-0123456789") == strlen(text);
    if (!digits || end == text || *end != '\0' || errno != 0 || value < min || value > max)
        return error_set(err, STATUS_USAGE, "%s: want an integer in %lld..%lld, got \"%.100s\"",
                         option, (long long)min, (long long)max, text);
    *out = value;
    return STATUS_OK;
}

static enum status read_real(const char *option, const char *text, double min, double max,
                             double *out, struct error *err)
{
    char *end = NULL;
    double value = strtod(text, &end);
    bool digits = strspn(text, "+-.eE0123456789") == strlen(text);
    const char *first = text + strspn(text, "+-.0");
    if (digits && (float)value == 0 && *first >= '1' && *first <= '9')
        return error_set(err, STATUS_USAGE,
                         "%s: \"%.100s\" is 0 in float32: want a larger number%s", option, text,
                         min == 0 ? ", or 0" : "");
    if (!digits || end == text || *end != '\0' || !(value >= min && value <= max) ||
        !isfinite(value))
        return error_set(err, STATUS_USAGE, "%s: want a number in %g..%g, got \"%.100s\"", option,
                         min, max, text);
    *out = value;
    return STATUS_OK;
}

const char *options_choice(const char *at, size_t *length)
{
    do {
        at += strspn(at, ", ");
        *length = strcspn(at, ", ");
        if (*length != 2 || strncmp(at, "or", 2) != 0)
            break;
        at += 2;
    } while (true);
    return *length > 0 ? at : NULL;
}

/* Whether `text` is one of "a, b or c". */
static bool is_choice(const char *text, const char *choices)
{
    size_t n;
    for (const char *at = choices; (at = options_choice(at, &n)) != NULL; at += n)
        if (n == strlen(text) && strncmp(at, text, n) == 0)
            return true;
    return false;
}

/* Seconds of "90s", "45m", "3h30m", or of a plain number. */
static enum status read_time(const char *option, const char *text, double *out, struct error *err)
{
    double total = 0;
    const char *p = text;
    while (*p != '\0') {
        char *end;
        double value = strtod(p, &end);
        double unit = *end == 'h' ? 3600 : *end == 'm' ? 60 : *end == 's' || *end == '\0' ? 1 : 0;
        if (end == p || unit == 0 || !(value >= 0) || !isdigit((unsigned char)*p))
            return error_set(err, STATUS_USAGE, "%s: want a time as 3h30m, got \"%s\"", option,
                             text);
        total += value * unit;
        p = *end == '\0' ? end : end + 1;
    }
    if (!(total > 0))
        return error_set(err, STATUS_USAGE, "%s: want more than no time", option);
    *out = total;
    return STATUS_OK;
}

/* Puts the value `text` of an option where its rule says. */
static enum status take(const struct option_rule *rule, void *request, const char *text,
                        struct error *err)
{
    char name[OPTION_NAME_MAX];
    void *to = (char *)request + rule->offset;
    struct option_list *list = to;
    snprintf(name, sizeof name, "--%s", rule->name);
    switch (rule->kind) {
    case OPTION_FLAG:
        *(bool *)to = true;
        return STATUS_OK;
    case OPTION_LIST:
        if (text[0] == '\0' && !rule->empty)
            return error_set(err, STATUS_USAGE, "%s: the value is empty", name);
        if (list->count == OPTION_LIST_MAX)
            return error_set(err, STATUS_USAGE, "%s: at most %d times", name, OPTION_LIST_MAX);
        list->text[list->count++] = text;
        return STATUS_OK;
    case OPTION_INT:
        return read_int(name, text, rule->min, rule->max, to, err);
    case OPTION_REAL:
        return read_real(name, text, rule->low, rule->high, to, err);
    case OPTION_TIME:
        return read_time(name, text, to, err);
    case OPTION_CHOICE:
        if (!is_choice(text, rule->choices))
            return error_set(err, STATUS_USAGE, "%s: want %s, got \"%s\"", name, rule->choices,
                             text);
        break;
    case OPTION_TEXT:
        if (text[0] == '\0' && !rule->empty)
            return error_set(err, STATUS_USAGE, "%s: the value is empty", name);
        break;
    }
    *(const char **)to = text;
    return STATUS_OK;
}

/* The rules in getopt_long's terms. A letter stands for itself and a long option for its rule's
 * index after FIRST. "help" is among them only so that its abbreviations are not taken for another
 * option. */
static void for_getopt(const struct option_rule *rules, struct option known[OPTIONS_MAX + 2],
                       char letters[2 * OPTIONS_MAX + 2])
{
    size_t count = 0, n = 0;
    letters[n++] = ':';
    for (; rules[count].name != NULL; count++) {
        assert(count < OPTIONS_MAX);
        const struct option_rule *rule = &rules[count];
        known[count] = (struct option){rule->name,
                                       rule->kind == OPTION_FLAG ? no_argument
                                       : rule->bare              ? optional_argument
                                                                 : required_argument,
                                       NULL, FIRST + (int)count};
        if (rule->letter != 0)
            letters[n++] = rule->letter;
        if (rule->letter != 0 && rule->kind != OPTION_FLAG)
            letters[n++] = ':';
    }
    letters[n] = '\0';
    known[count] = (struct option){"help", no_argument, NULL, '?'};
    known[count + 1] = (struct option){0};
}

/* The index of the rule that getopt_long returned. */
static size_t find(const struct option_rule *rules, int returned)
{
    size_t i = 0;
    if (returned >= FIRST)
        return (size_t)(returned - FIRST);
    while (rules[i].letter != returned)
        i++;
    return i;
}

static enum status take_defaults(const struct option_rule *rules, void *request, struct error *err)
{
    for (; rules->name != NULL; rules++)
        if (rules->initial != NULL)
            TRY(take(rules, request, rules->initial, err));
    return STATUS_OK;
}

static const struct option_rule *find_missing(const struct option_rule *rules, const bool *given)
{
    for (size_t i = 0; rules[i].name != NULL; i++)
        if (rules[i].required && !given[i])
            return &rules[i];
    return NULL;
}

enum status options_read(const struct option_rule *rules, void *request, int argc, char **argv,
                         struct options_found *found, struct error *err)
{
    struct option known[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 2];
    bool given[OPTIONS_MAX] = {0};
    int returned;
    for_getopt(rules, known, letters);
    TRY(take_defaults(rules, request, err));
    optind = 0; /* makes glibc forget the state of an earlier scan */
    opterr = 0;
    while ((returned = getopt_long(argc, argv, letters, known, NULL)) != -1) {
        if (returned == '?' || returned == ':')
            return refuse(returned, argv, known, err);
        size_t i = find(rules, returned);
        if (given[i] && rules[i].kind != OPTION_LIST)
            return error_set(err, STATUS_USAGE, "--%s: given twice; it can stand only once",
                             rules[i].name);
        given[i] = true;
        /* getopt_long sees a value that may be missing only behind "=" */
        if (rules[i].bare && optarg == NULL && optind < argc && argv[optind][0] != '-')
            optarg = argv[optind++];
        TRY(take(&rules[i], request, optarg == NULL && rules[i].bare ? "" : optarg, err));
    }
    *found = (struct options_found){.operand = optind, .missing = find_missing(rules, given)};
    return STATUS_OK;
}
