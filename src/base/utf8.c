/* Checks UTF-8, in blocks of 32 bytes where the text is ASCII. */
#include "base/utf8.h"

#include <string.h>

size_t utf8_length(const char *text, size_t size)
{
    if (size == 0)
        return 0;
    const unsigned char *s = (const unsigned char *)text;
    /* Only the range of the second byte depends on the first. */
    unsigned char first = s[0], low = 0x80, high = 0xBF;
    size_t n;
    if (first >= 0x01 && first <= 0x7F)
        return 1;
    if (first >= 0xC2 && first <= 0xDF) {
        n = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        n = 3;
        if (first == 0xE0)
            low = 0xA0;
        if (first == 0xED)
            high = 0x9F;
    } else if (first >= 0xF0 && first <= 0xF4) {
        n = 4;
        if (first == 0xF0)
            low = 0x90;
        if (first == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (n > size || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* Whether all 32 bytes are in 0x01..0x7F. The loop has no exit, so that it becomes vector code. */
static int plain_block(const char *s)
{
    unsigned char bad = 0;
    for (int i = 0; i < 32; i++)
        bad |= (signed char)s[i] <= 0;
    return bad == 0;
}

size_t utf8_check(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size) {
        if (size - i >= 32 && plain_block(text + i)) {
            i += 32;
            continue;
        }
        /* These 32 bytes are not plain ASCII and are checked character by character. */
        size_t stop = size - i >= 32 ? i + 32 : size;
        while (i < stop) {
            size_t n = utf8_length(text + i, size - i);
            if (n == 0)
                return i;
            i += n;
        }
    }
    return size;
}
