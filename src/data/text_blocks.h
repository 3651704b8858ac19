/* A text of any size, processed block by block on several threads in bounded memory.
 *
 * Each thread in turn reads the next block of the file into its own buffer and works on it beside
 * the others. It then waits until all blocks before it are finished and finishes its own. Results
 * therefore leave in the order of the text, whatever the number of threads. The memory is
 * threads + 1 buffers.
 */
#ifndef DEQ_DATA_TEXT_BLOCKS_H
#define DEQ_DATA_TEXT_BLOCKS_H

#include "base/status.h"
#include "data/text_rule.h"
#include "data/text_source.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Part of a text. In word mode it ends where pieces_begin (pieces.h) lets a text end, so that no
 * word is cut, and WORD_PADDING readable bytes follow it. */
struct text_block {
    const char *name; /* of the text, for messages */
    char *text;
    size_t size;    /* at least 1 */
    int64_t offset; /* in the file */
    int64_t line;   /* of the first byte, from 1 */
    bool inside;    /* the first byte is not at the start of a line */
};

/* Shows how far a pass over a file has come. `total` is 0 if it is not known (a pipe). */
typedef void text_progress_fn(void *context, const char *what, int64_t done, int64_t total);

struct text_pass {
    const struct text_source *source;
    const char *what; /* shown with the progress, "count train" */
    /* TEXT_SPLIT_BYTES takes bytes as they come, any other split is word mode. */
    struct text_rule rule;
    bool seekable; /* refuse what cannot be read a second time */
    size_t block_bytes;
    int threads;
    void **workers; /* borrows [threads], the first argument of `work` and `finish` */
    /* Called for different blocks at the same time, with the worker that read the block. */
    enum status (*work)(void *worker, const struct text_block *block, struct error *err);
    /* Called for one block after the other in order, with the same worker. May be NULL. */
    enum status (*finish)(void *worker, const struct text_block *block, struct error *err);
    text_progress_fn *progress; /* may be NULL */
    void *progress_context;
};

/* Runs the pass and sets *bytes to the size of the text. In word mode
 *   - a last line without a newline gets one, unless the text is divided into subwords
 *   - a byte order mark at the start is left out
 *   - NUL and invalid UTF-8 are refused with STATUS_DATA, naming line and byte
 *   - a block without a place to end it is refused with STATUS_DATA
 * Returns STATUS_NOINPUT if the file cannot be opened or used, STATUS_DATA if it is empty,
 * STATUS_IO, STATUS_NOMEM, and what `work` and `finish` return. Of several errors the one nearest
 * the start of the text is reported. */
enum status text_pass_run(const struct text_pass *pass, int64_t *bytes, struct error *err);

/* The line of byte `at` of the block. */
int64_t text_block_line(const struct text_block *block, size_t at);

#endif
