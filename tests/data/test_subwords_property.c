/* Any text of UTF-8 comes back from its subwords, whatever it was cut into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/subword_text.h"
#include "property/property.h"

static struct vocab *vocabs[2];

/* What the model treats in a way of its own, and any characters. */
static size_t draw_part(char *to)
{
    static const char *const parts[] = {"king",
                                        "dom",
                                        "said",
                                        "well",
                                        " ",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "<0x0A>",
                                        "<unk>",
                                        "</s>",
                                        "<",
                                        "\xE2\x96\x81",
                                        "\xE2\x96\x85",
                                        "\xE2\x81\x87",
                                        "\xC3\xA9",
                                        "\xE4\xB8\xAD",
                                        "\xC2\xA0",
                                        "\xF0\x9F\x98\x80",
                                        "12",
                                        "...",
                                        "-"};
    const int64_t count = sizeof parts / sizeof *parts;
    int64_t kind = property_int("part", 0, count + 1);
    if (kind < count) {
        memcpy(to, parts[kind], strlen(parts[kind]));
        return strlen(parts[kind]);
    }
    int64_t c = property_int("character", 1, 0xD7FF);
    if (c < 0x80)
        return to[0] = (char)c, 1;
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    to[0] = (char)(0xE0 | c >> 12);
    to[1] = (char)(0x80 | (c >> 6 & 0x3F));
    to[2] = (char)(0x80 | (c & 0x3F));
    return 3;
}

/* Encodes the text in parts of at most `most` bytes and decodes it. */
static bool parts_come_back(const struct vocab *v, const char *text, size_t size, size_t most)
{
    struct text_decoder d = text_decoder_begin(v, TEXT_DECODE_RAW);
    struct subword_tokens t = {.remember = true};
    struct error err;
    bool same = true;
    size_t at = 0;
    for (size_t from = 0, n; from < size && same; from += n) {
        n = size - from > most ? subwords_cut(text + from, most) : size - from;
        bool inside = from > 0 && text[from - 1] != '\n';
        if (subwords_encode(vocab_subwords(v), &t, text + from, n, inside, &err) != STATUS_OK)
            abort();
        for (int64_t i = 0; i < t.count && same; i++) {
            struct text_bytes b = text_decode(&d, t.ids[i]);
            same = at + b.len <= size && memcmp(text + at, b.text, b.len) == 0;
            at += b.len;
        }
    }
    subword_tokens_free(&t);
    return same && at == size;
}

static bool comes_back(void *context, char *why)
{
    (void)context;
    char text[40 * 8 * 6];
    size_t size = 0;
    int64_t parts = property_int("parts", 0, 40);
    const struct vocab *v = vocabs[property_int("model", 0, 1)];
    for (int64_t i = 0; i < parts; i++) {
        char part[8];
        size_t n = draw_part(part);
        for (int64_t times = property_int("times", 1, 5); times > 0; times--) {
            memcpy(text + size, part, n);
            size += n;
        }
    }
    if (subword_round_trip(v, text, size) &&
        parts_come_back(v, text, size, (size_t)property_int("most", 4, 60)))
        return true;
    snprintf(why, PROPERTY_WHY, "does not come back: \"%.*s\"", (int)size, text);
    return false;
}

static void test_round_trip(void **state)
{
    (void)state;
    assert_true(property_check("decode(encode(text)) is the text", 2000, comes_back, NULL));
}

/* One model as deq trains them, and one with a blank in front of lines. */
static void make_models(void)
{
    static const char *const options[] = {
        "--vocab_size=420 --byte_fallback --normalization_rule_name=identity "
        "--add_dummy_prefix=false --remove_extra_whitespaces=false "
        "--allow_whitespace_only_pieces=true",
        "--vocab_size=420 --model_type=bpe --byte_fallback --normalization_rule_name=identity "
        "--remove_extra_whitespaces=false --allow_whitespace_only_pieces=true"};
    size_t size = 0;
    char *text = subword_text(300, &size);
    struct error err;
    for (int i = 0; i < 2; i++) {
        size_t bytes;
        char *model = spm_peer_train(options[i], text, &bytes);
        if (model == NULL || vocab_from_model(&vocabs[i], model, bytes, "model", &err) != STATUS_OK)
            abort();
        free(model);
    }
    free(text);
}

int main(void)
{
    if (spm_peer_open == NULL) {
        printf("built without SentencePiece (scripts/deps.sh subwords)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip)};
    make_models();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    vocab_free(vocabs[0]);
    vocab_free(vocabs[1]);
    return failed;
}
