/* Token files of other programs: those of llm.c, the raw numbers of nanoGPT, and NumPy arrays. They
 * are read where they lie, as the shards of a split are.
 *
 *   llm.c   256 numbers of 32 bits, of which the first three are 20240520, 1 and the count of
 *           tokens, then tokens of 16 bits; or 20240801, 7 and the count, then tokens of 32 bits
 *   NumPy   an array of one dimension, little endian, of type uint16 or uint32 (.npy)
 *   raw     nothing but tokens, of 16 bits if nothing else is said
 *
 * All numbers are little endian. */
#ifndef DEQ_DATA_TOKEN_FILE_H
#define DEQ_DATA_TOKEN_FILE_H

#include "base/status.h"
#include <stdint.h>

/* How the tokens of a file are stored. AUTO tells by the first bytes of the file, and takes what
 * has none of the known beginnings for U16. */
enum token_format { TOKENS_AUTO, TOKENS_LLMC, TOKENS_NPY, TOKENS_U16, TOKENS_U32 };

enum { TOKEN_LLMC_HEADER = 1024 /* bytes before the first token of llm.c */ };

/* Fills the header of a file of llm.c, with `count` tokens of `width` bytes, 2 or 4. */
void token_llmc_header(int32_t head[TOKEN_LLMC_HEADER / 4], int32_t width, int32_t count);

struct token_file {
    char *path;     /* owns */
    int fd;         /* owns, -1 if closed */
    int32_t width;  /* bytes of one token, 2 or 4 */
    int64_t offset; /* of the first token */
    int64_t tokens; /* at least 1 */
};

struct token_files {
    struct token_file *list; /* owns [count] */
    int64_t count;
};

/* Opens the token files of `split` ("train", "valid" or "test") in folder `dir`, in the order of
 * their names. They are those called *.bin or *.npy with the split as a part of the name, as
 * train.bin, val.bin or fineweb_train_000001.bin. "val" and "validation" stand for valid, too.
 * Shards of deq tokenize are not among them. On success the caller frees *out with
 * token_files_close. On error *out is empty. Returns STATUS_NOINPUT if there is none, STATUS_DATA
 * for a file that is not as its beginning says, STATUS_IO or STATUS_NOMEM. */
enum status token_files_open(struct token_files *out, const char *dir, const char *split,
                             enum token_format format, struct error *err);

void token_files_close(struct token_files *files); /* closed or zeroed ones are allowed */

/* Opens the one file `path`, which the caller closes with token_file_close. Returns STATUS_NOINPUT
 * if it cannot be opened, and otherwise as token_files_open. *out is closed on error. */
enum status token_file_open(struct token_file *out, const char *path, enum token_format format,
                            struct error *err);
void token_file_close(struct token_file *f); /* a closed one is allowed */

#endif
