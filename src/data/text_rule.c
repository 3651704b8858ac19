/* Reads and writes the header of a vocabulary, which names its rule. */
#include "data/text_rule.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "# split: "
#define SUBWORDS_HEAD HEAD "subwords, "

const char *text_split_name(enum text_split split)
{
    static const char *const names[] = {
        [TEXT_SPLIT_BLANKS] = "blanks",     [TEXT_SPLIT_PUNCTUATION] = "punctuation",
        [TEXT_SPLIT_SUBWORDS] = "subwords", [TEXT_SPLIT_BYTES] = "bytes",
        [TEXT_SPLIT_IDS] = "ids",
    };
    return names[split];
}

static size_t header(const struct text_rule *rule, char out[TEXT_RULE_LINE])
{
    char end[32] = "";
    if (rule->split == TEXT_SPLIT_SUBWORDS)
        return (size_t)snprintf(out, TEXT_RULE_LINE, SUBWORDS_HEAD "%016" PRIx64 "%s%s%s",
                                rule->model, rule->prefix ? ", prefix" : "",
                                rule->trim ? ", trim" : "", rule->numbers ? ", numbers" : "");
    if (rule->split == TEXT_SPLIT_IDS && rule->end >= 0)
        snprintf(end, sizeof end, ", end %lld", (long long)rule->end);
    return (size_t)snprintf(out, TEXT_RULE_LINE, HEAD "%s%s%s", text_split_name(rule->split),
                            rule->lower ? ", lower" : "", end);
}

/* Reads the rule of a line that may be the header of subwords. What it says is written again and
 * compared by the caller. */
static bool read_subwords(struct text_rule *rule, const char *line, size_t len)
{
    char text[TEXT_RULE_LINE];
    const size_t head = sizeof SUBWORDS_HEAD - 1;
    if (len >= sizeof text || len < head || memcmp(line, SUBWORDS_HEAD, head) != 0)
        return false;
    memcpy(text, line, len);
    text[len] = '\0';
    *rule = (struct text_rule){.split = TEXT_SPLIT_SUBWORDS,
                               .model = strtoull(text + head, NULL, 16),
                               .prefix = strstr(text, ", prefix") != NULL,
                               .trim = strstr(text, ", trim") != NULL,
                               .numbers = strstr(text, ", numbers") != NULL};
    return true;
}

/* The same for the header of ids that names the one which ends a text. */
static bool read_ids(struct text_rule *rule, const char *line, size_t len)
{
    static const char head[] = HEAD "ids, end ";
    if (len < sizeof head || memcmp(line, head, sizeof head - 1) != 0)
        return false;
    *rule = (struct text_rule){.split = TEXT_SPLIT_IDS};
    for (size_t i = sizeof head - 1; i < len && rule->end <= INT32_MAX; i++)
        rule->end = 10 * rule->end + (line[i] - '0');
    return true;
}

bool text_rule_is_header(const char *line, size_t len)
{
    return len >= 2 && line[0] == '#' && line[1] == ' ';
}

/* Whether the rule has this header. */
static bool is_header_of(const struct text_rule *rule, const char *line, size_t len)
{
    char want[TEXT_RULE_LINE];
    return header(rule, want) == len && memcmp(want, line, len) == 0;
}

enum status text_rule_read(struct text_rule *rule, const char *line, size_t len, const char *name,
                           struct error *err)
{
    static const struct text_rule known[] = {{.split = TEXT_SPLIT_BLANKS},
                                             {.split = TEXT_SPLIT_BLANKS, .lower = true},
                                             {.split = TEXT_SPLIT_PUNCTUATION},
                                             {.split = TEXT_SPLIT_PUNCTUATION, .lower = true},
                                             {.split = TEXT_SPLIT_IDS, .end = -1}};
    if (read_subwords(rule, line, len) && is_header_of(rule, line, len))
        return STATUS_OK;
    if (read_ids(rule, line, len) && is_header_of(rule, line, len))
        return STATUS_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *rule = known[i];
        if (is_header_of(rule, line, len))
            return STATUS_OK;
    }
    return error_set(
        err, STATUS_DATA,
        "%s:1: \"%.*s\" is no rule that this program knows: a vocabulary begins with a "
        "word, or with \"" HEAD "punctuation\" or \"" HEAD "punctuation, lower\"",
        name, len < 80 ? (int)len : 80, line);
}

size_t text_rule_write(const struct text_rule *rule, char out[TEXT_RULE_LINE])
{
    out[0] = '\0';
    if (rule->split == TEXT_SPLIT_BYTES || (rule->split == TEXT_SPLIT_BLANKS && !rule->lower))
        return 0;
    size_t len = header(rule, out);
    out[len] = '\n';
    out[len + 1] = '\0';
    return len + 1;
}
