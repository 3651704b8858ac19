/* Makes one text of several files, of standard input and of compressed files. */
#ifndef DEQ_DATA_TEXT_GATHER_H
#define DEQ_DATA_TEXT_GATHER_H

#include "data/text_source.h"

/* The files of a text, in order. "-" is standard input, and a name that ends with ".gz" is a file
 * that zlib unpacks. */
struct text_files {
    const char *const *path; /* borrows [count] */
    int count;
};

/* Whether the files have to be gathered: they are several, or one that cannot be read as it is. A
 * pipe counts if the text is read again. */
bool text_gather_needed(const struct text_files *files, bool again);

/* Writes the text of the files to a spool in folder `dir`, which the caller closes with
 * text_source_close. With `words` a file that does not end with a newline gets one before the next,
 * a byte order mark at the start of a later file is left out, and what is no UTF-8 is refused. A
 * file without a byte is allowed among others. Returns
 *   - STATUS_NOINPUT if a file cannot be opened, or is a folder
 *   - STATUS_DATA for a compressed file that is damaged or cut short, and for NUL and invalid
 * UTF-8, naming file, line and byte
 *   - STATUS_IO, STATUS_CANTCREATE or STATUS_NOMEM. */
enum status text_gather(const struct text_files *files, bool words, const char *dir,
                        struct text_source *out, struct error *err);

#endif
