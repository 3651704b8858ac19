/* A text on disk, as the passes over it read it.
 *
 * It is a file, or a spool: a file without a name that holds a text made of several files, of
 * standard input, of a compressed file, or of a part of another text. A spool vanishes with the
 * process, however that ends.
 */
#ifndef DEQ_DATA_TEXT_SOURCE_H
#define DEQ_DATA_TEXT_SOURCE_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEXT_NAME_MAX = 512 };

struct text_source {
    const char *path;         /* borrows, opened for each reading, or NULL for a spool */
    int spool;                /* owns, the descriptor of a spool, or -1 */
    char name[TEXT_NAME_MAX]; /* what messages call the text */
};

/* The text of a file. */
struct text_source text_source_file(const char *path);

/* Begins a reading at the start. *bytes is the length, or 0 if it is not known (a pipe). With
 * `again` what cannot be read a second time is refused. The caller ends it with text_source_end.
 * Readings of one spool follow each other. Returns STATUS_NOINPUT if the file cannot be opened or
 * used, or STATUS_IO. */
enum status text_source_begin(const struct text_source *s, bool again, int *fd, int64_t *bytes,
                              struct error *err);
void text_source_end(const struct text_source *s, int fd); /* -1 is allowed */

/* Reads until the buffer holds `capacity` bytes or the text ends. *size grows by what was read.
 * `offset` is where buffer[0] lies in the text, for the message. STATUS_IO. */
enum status text_source_read(const struct text_source *s, int fd, int64_t offset, char *buffer,
                             size_t capacity, size_t *size, bool *end, struct error *err);

/* Closes a spool. One that holds nothing may be closed. */
void text_source_close(struct text_source *s);

/* The message for a byte that is no part of UTF-8: STATUS_DATA. */
enum status text_bad_byte(const char *name, int64_t line, unsigned char byte, int64_t at,
                          struct error *err);

/* --- Writing a spool ------------------------------------------------------------------------- */

struct text_spool {
    int fd;          /* owns, until it goes to a source */
    const char *dir; /* borrows, for messages */
    char *buffer;    /* owns [SPOOL_BUFFER] */
    size_t held;     /* bytes in the buffer */
    int64_t bytes;   /* of the text so far */
};

/* Makes a spool in the folder. The caller ends it with text_spool_finish or text_spool_abandon,
 * also after an error. Returns STATUS_CANTCREATE or STATUS_NOMEM. */
enum status text_spool_begin(struct text_spool *t, const char *dir, struct error *err);
/* Appends bytes. STATUS_IO, with the folder in the message, for a full disk. */
enum status text_spool_write(struct text_spool *t, const char *data, size_t size,
                             struct error *err);
/* Makes the spool a source of that name, which owns it. STATUS_IO. */
enum status text_spool_finish(struct text_spool *t, const char *name, struct text_source *out,
                              struct error *err);
void text_spool_abandon(struct text_spool *t); /* also after text_spool_finish */

#endif
