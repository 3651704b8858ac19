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
    };
    return names[split];
}

static size_t header(const struct text_rule *rule, char out[TEXT_RULE_LINE])
{
    return (size_t)snprintf(out, TEXT_RULE_LINE, HEAD "%s%s", text_split_name(rule->split),
                            rule->lower ? ", lower" : "");
}

bool text_rule_is_header(const char *line, size_t len)
{
    return len >= 2 && line[0] == '#' && line[1] == ' ';
}

enum status text_rule_read(struct text_rule *rule, const char *line, size_t len, const char *name,
                           struct error *err)
{
    static const enum text_split known[] = {TEXT_SPLIT_BLANKS, TEXT_SPLIT_PUNCTUATION};
    for (int i = 0; i < 4; i++) {
        char want[TEXT_RULE_LINE];
        *rule = (struct text_rule){.split = known[i / 2], .lower = i % 2 == 1};
        if (header(rule, want) == len && memcmp(want, line, len) == 0)
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
