/* A check value at the end of a line of JSON: {"a":1} becomes {"a":1,"check":"0123abcd"}. A line
 * that was damaged on a disk is often still JSON, with another digit in it. */
#ifndef DEQ_RUN_LINE_CHECK_H
#define DEQ_RUN_LINE_CHECK_H

#include <stddef.h>

enum { LINE_CHECK_BYTES = 19 }; /* that line_check_add adds */

enum line_check { LINE_CHECK_NONE, LINE_CHECK_RIGHT, LINE_CHECK_WRONG };

/* Adds the check to line[len], the text of an object with members that ends with its brace; the
 * buffer has room for LINE_CHECK_BYTES more. Returns the new length. */
size_t line_check_add(char *line, size_t len);

/* What the end of line[len], without its newline, says about the rest: 32 bits of XXH3. */
enum line_check line_check(const char *line, size_t len);

#endif
