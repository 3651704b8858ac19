/* Any text of UTF-8 that is encoded under TEXT_SPLIT_PUNCTUATION comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/round_trip.h"
#include "property/property.h"

#include <stdio.h>

/* What divides texts, and any characters. */
static size_t draw_part(char *to)
{
    static const char *const parts[] = {"a",
                                        "b",
                                        " ",
                                        " ",
                                        "\n",
                                        "\r",
                                        "\t",
                                        "@",
                                        "<",
                                        ">",
                                        "'",
                                        "\xE2\x80\x99",
                                        ",",
                                        "-",
                                        "\"",
                                        "\v",
                                        "1",
                                        "Q",
                                        "_",
                                        "sp",
                                        "unk",
                                        "\xC3\xA9",
                                        "\xCC\x81",
                                        "\xC2\xA0",
                                        "\xE2\x80\x94",
                                        "\xEF\xBB\xBF",
                                        "<eos>",
                                        "@@",
                                        "  ",
                                        "\xF0\x9F\x98\x80"};
    int64_t kind = property_int("part", 0, (int64_t)(sizeof parts / sizeof *parts) + 1);
    if (kind < (int64_t)(sizeof parts / sizeof *parts)) {
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

static bool comes_back(void *context, char *why)
{
    (void)context;
    char text[40 * 8 * 20];
    size_t size = 0;
    int64_t parts = property_int("parts", 0, 40);
    bool lower = property_int("lower", 0, 1) == 1;
    for (int64_t i = 0; i < parts; i++) {
        char part[8];
        size_t n = draw_part(part);
        for (int64_t times = property_int("more", -10, 18); times >= 0 || n > 0; times--) {
            memcpy(text + size, part, n);
            size += n;
            if (times <= 0)
                break;
        }
    }
    if (round_trip(text, size, lower))
        return true;
    snprintf(why, PROPERTY_WHY, "does not come back: \"%.*s\"", (int)size, text);
    return false;
}

static void test_round_trip(void **state)
{
    (void)state;
    assert_true(property_check("decode(encode(text)) is the text", 3000, comes_back, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
