/* The division of texts into pieces, and texts from pieces: by example, and WikiText for the eye.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/round_trip.h"

#include "data/pieces.h"
#include <stdio.h>

/* The pieces of a line of text, joined by blanks, with a line end as |. */
static const char *divided(enum text_split split, const char *text, bool open)
{
    static char out[4096], copy[4096];
    static struct pieces p;
    size_t used = 0;
    snprintf(copy, sizeof copy, "%s\n", text);
    out[0] = '\0';
    if (open)
        pieces_begin_open(&p, split, copy, strlen(text));
    else
        pieces_begin(&p, split, copy, strlen(text) + 1);
    while (pieces_next(&p))
        for (int i = 0; i < p.count; i++) {
            const struct word *w = &p.word[i];
            assert_true(w->key == word_key(w->text, w->len));
            assert_true(p.from[i] >= copy && p.until[i] > p.from[i]);
            used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", used > 0 ? " " : "",
                                     w->len > 0 ? (int)w->len : 1, w->len > 0 ? w->text : "|");
        }
    return out;
}

static void test_examples(void **state)
{
    (void)state;
    static const char *const examples[][2] = {
        {"\"Hello,\" he said: well-known", "\"@ Hello @, @\" he said @: well @-@ known |"},
        {"", "|"},
        {"the king", "the king |"},
        {"don't rock'n'roll 'tis dogs' ''s", "don't rock'n'roll '@ tis dogs @' ''@ s |"},
        {"don\xE2\x80\x99t", "don\xE2\x80\x99t |"},
        {"\xE2\x80\x99tis", "\xE2\x80\x99@ tis |"},
        {"1,000.5 (a) [b]; x_1", "1 @,@ 000 @.@ 5 (@ a @) [@ b @] @; x_1 |"},
        {"end... -- a--b a - b", "end @... -- a @--@ b a - b |"},
        {"?! .,;", "? @! . @, @; |"},
        {" a", "<sp> a |"},
        {"a ", "a <sp> |"},
        {" ", "<sp> |"},
        {"a  b\tc \td\v\f", "a <sp2> b <tab> c <sp> <tab> d <vt> <ff> |"},
        {"a ,  \"b", "a , <sp2> \"@ b |"},
        {"a\rb\r", "a <cr> b |"},
        {"a\r\r", "a <cr> |"},
        {"a \r", "a <sp> |"},
        {"a\nb\r\n\r\nc", "a | b | | c |"},
        {"x@y @ @@ @@@a", "x @<at>@ y <at> <at2> <at3>@ a |"},
        {"<sp2> <unk> <eos> <at>", "<@ sp2 @> <@ unk @> <@ eos @> <@ at @> |"},
        {"\xC3\xA9t\xC3\xA9, \xC3\x89", "\xC3\xA9t\xC3\xA9 @, \xC3\x89 |"},
        {"e\xCC\x81 \xCC\x81x", "e\xCC\x81 \xCC\x81x |"}, /* a combining mark */
        {"\xE2\x80\x94\xE2\x80\x94"
         "a\xE2\x80\xA6",
         "\xE2\x80\x94\xE2\x80\x94@ a @\xE2\x80\xA6 |"},
        {"a\xC2\xA0"
         "b",
         "a @\xC2\xA0@ b |"}, /* a no-break space */
        {"\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82", "\xE4\xBD\xA0\xE5\xA5\xBD @\xE3\x80\x82 |"},
        {"-----------------------------------", "---------------- @---------------- @--- |"},
        {"                  x", "<sp16> <sp2> x |"},
        {"@@@@@@@@@@@@@@@@@", "<at16> @<at> |"},
        {"\x01\x7f", "\x01 @\x7f |"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        const char *text = examples[i][0];
        assert_string_equal(divided(TEXT_SPLIT_PUNCTUATION, text, false), examples[i][1]);
        assert_true(round_trip(text, strlen(text), false));
    }
    assert_string_equal(divided(TEXT_SPLIT_BLANKS, " a,  b\t<eos>\r\n", false), "a, b <eos> | |");
}

/* Every ASCII character at every place of a word of several lengths: where a word ends does not
 * depend on how many bytes are looked at together. */
static void test_every_place(void **state)
{
    (void)state;
    for (int c = 0x21; c < 0x7F; c++) {
        bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                    c == '_' || c == '\'';
        for (size_t place = 1; place < 20 && c != '@'; place++) {
            char text[32], want[64];
            memset(text, 'x', 24);
            text[24] = '\0';
            text[place] = (char)c;
            if (word)
                snprintf(want, sizeof want, "%s |", text);
            else
                snprintf(want, sizeof want, "%.*s @%c@ %s |", (int)place, text, c,
                         text + place + 1);
            assert_string_equal(divided(TEXT_SPLIT_PUNCTUATION, text, false), want);
        }
    }
}

/* Appends the pieces of text[size], each with a blank behind it. */
static char *append(char *to, enum text_split split, const char *text, size_t size)
{
    static struct pieces p;
    for (pieces_begin(&p, split, text, size); pieces_next(&p);)
        for (int i = 0; i < p.count; i++)
            to += sprintf(to, "%.*s ", p.word[i].len > 0 ? (int)p.word[i].len : 1,
                          p.word[i].len > 0 ? p.word[i].text : "|");
    return to;
}

/* The two parts of a text that is cut give the pieces of the whole. */
static void test_cuts(void **state)
{
    (void)state;
    /* With the readable bytes behind it that pieces_begin wants. */
    static const char text[80 + WORD_PADDING] =
        "a  b\t c, \"d\" \n e\r\nf  \n\n g.  (h) \t\t i\n  j ,\r k \v l-m \n";
    const size_t size = strlen(text);
    char whole[512], parts[512];
    for (int split = TEXT_SPLIT_BLANKS; split <= TEXT_SPLIT_PUNCTUATION; split++) {
        size_t before = 0;
        append(whole, (enum text_split)split, text, size);
        for (size_t seen = 1; seen <= size; seen++) {
            size_t cut = pieces_cut((enum text_split)split, text, seen);
            assert_true(cut <= seen && cut >= before);
            before = cut;
            char *end = append(parts, (enum text_split)split, text, cut);
            append(end, (enum text_split)split, text + cut, size - cut);
            assert_string_equal(parts, whole);
        }
        assert_int_equal(before, size);
    }
}

static void test_open_end(void **state)
{
    (void)state;
    static const char *const examples[][2] = {
        {"a", "a"},         {"a ", "a"},
        {"a  ", "a <sp2>"}, {"a,", "a @,"},
        {"a (", "a (@"},    {"(", "(@"},
        {"a(", "a @("},     {"a \"", "a \"@"},
        {"a\"", "a @\""},   {"a -", "a -"},
        {"a '", "a '@"},    {"a\n", "a |"},
        {"a\n(", "a | (@"}, {"a \xE2\x80\x9C", "a \xE2\x80\x9C@"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        assert_string_equal(divided(TEXT_SPLIT_PUNCTUATION, examples[i][0], true), examples[i][1]);
}

/* Words, and what of them is counted, whatever the split. */
static void test_counts(void **state)
{
    (void)state;
    static const char text[] = "a, b's  (c)\n\n- d\xE2\x80\x94"
                               "e \n\tf";
    static struct pieces p;
    for (int split = TEXT_SPLIT_BLANKS; split <= TEXT_SPLIT_PUNCTUATION; split++) {
        char copy[64] = {0};
        snprintf(copy, sizeof copy, "%s\n", text);
        for (pieces_begin(&p, (enum text_split)split, copy, sizeof text); pieces_next(&p);)
            ;
        assert_int_equal(p.words, 6);
        assert_int_equal(p.lines, 4);
    }
}

/* What the words of a line of WikiText or of the Penn Treebank become. */
static void test_pretty(void **state)
{
    (void)state;
    static const char *const examples[][2] = {
        {"Hello , world ! Is it ( so ) ?", "Hello, world! Is it (so)?\n"},
        {"a well @-@ known 1 @,@ 000 @.@ 5", "a well-known 1,000.5\n"},
        {"he said , \" it 's n't \" , and \" x \"", "he said, \"it'sn't\", and \"x\"\n"},
        {"\" open\n\" next \"", "\"open\n\"next\"\n"},
        {"dogs ' tails", "dogs' tails\n"},
        {"`` yes '' [ x ]", "``yes'' [x]\n"},
        {"the <unk> .", "the <unk>.\n"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        char list[512] = "<eos>\n<unk>\n";
        char words[256];
        snprintf(words, sizeof words, "%s", examples[i][0]);
        for (char *rest = words, *w; (w = strtok_r(rest, " \n", &rest)) != NULL;) {
            char line[64];
            snprintf(line, sizeof line, "\n%s\n", w);
            if (strstr(list, line) == NULL)
                strcat(list, line + 1);
        }
        struct vocab *v = NULL;
        struct text_encoding e;
        struct error err;
        size_t size;
        assert_int_equal(vocab_from_text(&v, list, strlen(list), "list", &err), STATUS_OK);
        const char *text = examples[i][0];
        assert_int_equal(text_encode(&e, v, text, strlen(text), TEXT_CLOSED, false, &err), 0);
        char *pretty = round_trip_decode(v, &e, TEXT_DECODE_PRETTY, &size);
        assert_int_equal(size, strlen(examples[i][1]));
        assert_memory_equal(pretty, examples[i][1], size);
        char *raw = round_trip_decode(v, &e, TEXT_DECODE_RAW, &size);
        assert_int_equal(size, strlen(text) + 1);
        assert_memory_equal(raw, text, size - 1);
        free(pretty);
        free(raw);
        text_encoding_free(&e);
        vocab_free(v);
    }
}

/* Words that no text has are decoded all the same. */
static void test_odd_words(void **state)
{
    (void)state;
    static const char list[] = "# split: punctuation\n<eos>\n@\n@@\n@@@\n<sp1>\n<sp17>\n<sp02>\n"
                               "<sp\n<>\n<unk>\n<sp999999999999999999999>\n@<sp>\n<at>\n@<at2>@\n";
    static const char want[] = "@@@<sp1> <sp17> <sp02> <sp <> <unk> <sp999999999999999999999><sp>"
                               " @@@";
    struct vocab *v = NULL;
    struct error err;
    size_t size;
    int32_t ids[13];
    assert_int_equal(vocab_from_text(&v, list, sizeof list - 1, "list", &err), STATUS_OK);
    for (int i = 0; i < 13; i++)
        ids[i] = i + 1;
    struct text_encoding e = {.ids = ids, .count = 13};
    char *text = round_trip_decode(v, &e, TEXT_DECODE_RAW, &size);
    assert_int_equal(size, sizeof want - 1);
    assert_memory_equal(text, want, size);
    free(text);
    vocab_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),  cmocka_unit_test(test_every_place),
        cmocka_unit_test(test_cuts),      cmocka_unit_test(test_open_end),
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_pretty),
        cmocka_unit_test(test_odd_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
