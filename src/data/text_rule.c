/* Reads and writes the header of a vocabulary, which names its rule. */
#include "data/text_rule.h"

#include <stdio.h>
#include <string.h>

#define HEAD "# split: "

const char *text_split_name(enum text_split split)
{
    static const char *const names[] = {
        [TEXT_SPLIT_BLANKS] = "blanks",
        [TEXT_SPLIT_PUNCTUATION] = "punctuation",
        [TEXT_SPLIT_BYTES] = "bytes",
        [TEXT_SPLIT_IDS] = "ids",
    };
    return names[split];
}

static size_t header(const struct text_rule *rule, char out[TEXT_RULE_LINE])
{
    char end[32] = "";
    if (rule->split == TEXT_SPLIT_IDS && rule->end >= 0)
        snprintf(end, sizeof end, ", end %lld", (long long)rule->end);
    return (size_t)snprintf(out, TEXT_RULE_LINE, HEAD "%s%s%s", text_split_name(rule->split),
                            rule->lower ? ", lower" : "", end);
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
    static const char ids[] = HEAD "ids, end ";
    static const struct text_rule known[] = {{TEXT_SPLIT_BLANKS, false, 0},
                                             {TEXT_SPLIT_BLANKS, true, 0},
                                             {TEXT_SPLIT_PUNCTUATION, false, 0},
                                             {TEXT_SPLIT_PUNCTUATION, true, 0},
                                             {TEXT_SPLIT_IDS, false, -1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *rule = known[i];
        if (is_header_of(rule, line, len))
            return STATUS_OK;
    }
    if (len > sizeof ids - 1 && memcmp(line, ids, sizeof ids - 1) == 0) {
        for (size_t i = sizeof ids - 1; i < len && rule->end <= INT32_MAX; i++)
            rule->end = 10 * (rule->end < 0 ? 0 : rule->end) + (line[i] - '0');
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
