/* Well-formed UTF-8 (table 3-7 of the Unicode standard) without NUL. */
#ifndef DEQ_BASE_UTF8_H
#define DEQ_BASE_UTF8_H

#include <stddef.h>

/* Bytes of the character that begins at text[0], of which `size` bytes may be read. Returns 0 if
 * there is none, which includes NUL, overlong forms, surrogates, code points above U+10FFFF and a
 * sequence that is cut off. */
size_t utf8_length(const char *text, size_t size);

/* Offset of the first byte of text[size] that begins no character, or `size` if all is text. */
size_t utf8_check(const char *text, size_t size);

#endif
