/* A text of any size, block by block, on several threads in bounded memory.
 *
 * Each thread in turn reads the next block of the file into its own buffer, works on it beside the
 * others and then waits until all blocks before it are finished to finish its own: so results
 * leave in the order of the text, whatever the number of threads. Memory: threads + 1 buffers.
 */
#ifndef DEQ_DATA_TEXT_BLOCKS_H
#define DEQ_DATA_TEXT_BLOCKS_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Part of a text. In word mode it ends with white space and begins where a word or a line may
 * begin; WORD_PADDING (word.h) readable bytes follow. */
struct text_block {
    const char *path; /* of the file, for messages */
    char *text;
    size_t size;    /* at least 1 */
    int64_t offset; /* in the file */
    int64_t line;   /* of the first byte, from 1 */
};

/* Tells a user how far a pass over a file is; `total` is 0 if not known (a pipe). */
typedef void text_progress_fn(void *context, const char *what, int64_t done, int64_t total);

struct text_pass {
    const char *path;
    const char *what; /* for `progress`: "count train" */
    bool words;       /* word mode, else bytes are taken as they come */
    bool lower;       /* turn A..Z to a..z; other letters are left */
    bool seekable;    /* refuse what cannot be read a second time */
    size_t block_bytes;
    int threads;
    void **workers; /* borrows; [threads], the first argument of `work` and `finish` */
    enum status (*work)(void *worker, const struct text_block *block, struct error *err);
    enum status (*finish)(void *worker, const struct text_block *block, struct error *err);
    text_progress_fn *progress; /* may be NULL */
    void *progress_context;
};

/* Runs the pass. `work` is called for different blocks at the same time, `finish` (may be NULL) for
 * one after the other in order; both with the worker that read the block. *bytes: the size of the
 * file. In word mode
 *   - a last line without a newline gets one;
 *   - a byte order mark at the start is taken for white space;
 *   - NUL and invalid UTF-8 are STATUS_DATA errors that name line and byte;
 *   - a word that fills a block alone is a STATUS_DATA error.
 * Of several errors the one nearest the start of the text is reported. STATUS_NOINPUT if the file
 * cannot be opened, STATUS_DATA if it is empty. */
enum status text_pass_run(const struct text_pass *pass, int64_t *bytes, struct error *err);

/* The line of byte `at` of the block. */
int64_t text_block_line(const struct text_block *block, size_t at);

#endif
