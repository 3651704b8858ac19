/* Checks that bytes are text. */
#ifndef DEQ_BASE_UTF8_H
#define DEQ_BASE_UTF8_H

#include <stddef.h>

/* Offset of the first byte of [text, text + size) that is NUL or does not belong to a well-formed
 * UTF-8 sequence (overlong forms, surrogates and code points above U+10FFFF are not); `size` if
 * there is none. A sequence cut off by the end is reported at its first byte. */
size_t utf8_check(const char *text, size_t size);

#endif
