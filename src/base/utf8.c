#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* Length of the sequence at s (at most `left` bytes), 0 if it is not well-formed: table 3-7 of the
 * Unicode standard. Only the second byte has a range that depends on the first. */
static size_t sequence_length(const unsigned char *s, size_t left)
{
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
    if (n > left || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* Whether all 32 bytes are in 0x01..0x7F; the compiler makes vector code of it. */
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
        /* One sequence at a time, until past the 32 bytes that were not plain. */
        size_t stop = size - i >= 32 ? i + 32 : size;
        while (i < stop) {
            size_t n = sequence_length((const unsigned char *)text + i, size - i);
            if (n == 0)
                return i;
            i += n;
        }
    }
    return size;
}
