/* Checkpoints, which are named sections of numbers or text in one file. The file appears whole or
 * not at all.
 *
 * A run writes the sections "config" (JSON), "vocab" (the text of vocab.txt), "tokenizer" (the
 * model of subwords, in bytes), "state" (JSON with step, seed, best loss, ...), "w:NAME", "m:NAME",
 * "v:NAME" (a parameter and its two moments, f32, with the dims of the parameter), "raw:NAME" (with
 * train.ema, the weights under training, whose average "w:" then is) and "mem:NUMBER" (segment
 * memory). This container knows none of them but "w:", of which it can make a digest.
 *
 * Every byte of a file is under a checksum (XXH3, 64 bits). Sizes are checked against each other
 * and against the file before anything is allocated or decoded. Reading needs 1.5 MB of scratch
 * besides the directory, whatever a file says. A file is read and never mapped, so that one that
 * shrinks meanwhile gives an error and not a crash. The layout is in checkpoint_format.h.
 *
 * Messages name the file, and the section where there is one. An object serves one thread at a
 * time.
 */
#ifndef DEQ_STORE_CHECKPOINT_H
#define DEQ_STORE_CHECKPOINT_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum checkpoint_type { CHECKPOINT_U8 = 1, CHECKPOINT_F32, CHECKPOINT_F64, CHECKPOINT_I64 };

enum {
    CHECKPOINT_NAME_MAX = 128, /* bytes of a section's name, its NUL included */
    CHECKPOINT_MAX_DIMS = 4,
    CHECKPOINT_MAX_SECTIONS = 65536
};

/* Bytes of one element. */
size_t checkpoint_type_size(enum checkpoint_type type);
/* The type's name ("u8", "f32", "f64" or "i64"). */
const char *checkpoint_type_name(enum checkpoint_type type);

/* --- writing ---------------------------------------------------------------------------------- */

struct checkpoint_writer;

/* Starts a file that becomes `path` in checkpoint_write_close. An older file of that name stays
 * until then. The caller owns *out until checkpoint_write_close or checkpoint_write_abort. *out is
 * NULL on error. Returns STATUS_CANTCREATE, STATUS_IO, STATUS_NOMEM, or STATUS_INTERNAL if zlib
 * does not start. */
enum status checkpoint_write_open(struct checkpoint_writer **out, const char *path,
                                  struct error *err);

/* Stores numbers of several bytes uncompressed from here on. Compressing floats takes 18 times the
 * processor time of writing them and gains only a sixth of their size, as their low bytes are
 * noise. */
void checkpoint_write_plain(struct checkpoint_writer *w);

/* The content of a section to write. All pointers are borrowed during the call. */
struct checkpoint_array {
    const char *name; /* new, not empty, and it fits CHECKPOINT_NAME_MAX */
    enum checkpoint_type type;
    int ndim;            /* 0 for a single element */
    const int64_t *dims; /* [ndim], each at least 0 */
    const void *data;    /* dims[0] * ... * dims[ndim - 1] elements, row-major without gaps */
};

/* Adds a section. Returns STATUS_CANTCREATE if there are CHECKPOINT_MAX_SECTIONS already, STATUS_IO
 * or STATUS_NOMEM. After an error every later call, checkpoint_write_close included, repeats it. */
enum status checkpoint_write_section(struct checkpoint_writer *w, const struct checkpoint_array *a,
                                     struct error *err);
/* Adds a u8 section of strlen(text) elements. Returns what checkpoint_write_section returns. */
enum status checkpoint_write_text(struct checkpoint_writer *w, const char *name, const char *text,
                                  struct error *err);

/* Writes directory and header, forces the file to disk and gives it its name. On success *w is
 * freed and set to NULL. On error *w is left for checkpoint_write_abort, and an older file is
 * untouched unless only forcing the folder to disk failed. Returns STATUS_IO, STATUS_CANTCREATE,
 * STATUS_NOMEM or the error of an earlier call. */
enum status checkpoint_write_close(struct checkpoint_writer **w, struct error *err);
/* Removes what was written and sets *w to NULL. A NULL *w is allowed. */
void checkpoint_write_abort(struct checkpoint_writer **w);

/* --- reading ---------------------------------------------------------------------------------- */

struct checkpoint;

struct checkpoint_section {
    char name[CHECKPOINT_NAME_MAX];
    enum checkpoint_type type;
    int ndim;
    int64_t dim[CHECKPOINT_MAX_DIMS]; /* unused trailing dimensions are 1 */
    size_t size;                      /* bytes of the content */
    size_t stored;                    /* bytes it takes in the file */
};

/* Opens a file and checks its header and directory, but not yet the sections. The caller frees *out
 * with checkpoint_close. *out is NULL on error. Returns STATUS_NOINPUT if the file cannot be
 * opened, STATUS_DATA if it is no checkpoint or damaged, STATUS_IO, STATUS_NOMEM, or
 * STATUS_INTERNAL if zlib does not start. */
enum status checkpoint_open(struct checkpoint **out, const char *path, struct error *err);
void checkpoint_close(struct checkpoint *c); /* NULL is allowed */

const char *checkpoint_path(const struct checkpoint *c);
/* Bytes of the file. */
int64_t checkpoint_bytes(const struct checkpoint *c);
/* Sections in the order they were written, valid until checkpoint_close. */
int64_t checkpoint_count(const struct checkpoint *c);
const struct checkpoint_section *checkpoint_section(const struct checkpoint *c, int64_t index);
/* The section of that name, or NULL. */
const struct checkpoint_section *checkpoint_find(const struct checkpoint *c, const char *name);

/* Reads a section into buf[size], without a second copy of the whole. On error the buffer's content
 * is undefined. Returns STATUS_DATA if the section is missing, damaged or not of exactly `size`
 * bytes, STATUS_IO or STATUS_NOMEM. */
enum status checkpoint_read_section(struct checkpoint *c, const char *name, void *buf, size_t size,
                                    struct error *err);
/* Reads a u8 section of at most `max` bytes as text. *out is NUL-terminated, and the caller frees
 * it with mem_free. *len, unless `len` is NULL, is its length without the NUL. Returns STATUS_DATA
 * if the section is missing, damaged, longer or no text, STATUS_IO or STATUS_NOMEM. *out is then
 * NULL.
 */
enum status checkpoint_read_text(struct checkpoint *c, const char *name, size_t max, char **out,
                                 size_t *len, struct error *err);

/* Takes data[size], which are the bytes of a section from `offset` on. */
typedef enum status checkpoint_piece_fn(void *context, const void *data, size_t size, size_t offset,
                                        struct error *err);
/* Reads a section in pieces of at most 512 KiB, in order. A piece is valid during the call of `fn`
 * and holds whole elements. The checksum is compared at the end, so that pieces must not be used
 * before the call has succeeded. Returns STATUS_DATA, STATUS_IO, STATUS_NOMEM, or the error of
 * `fn`, which stops the reading. */
enum status checkpoint_read_pieces(struct checkpoint *c, const char *name, checkpoint_piece_fn *fn,
                                   void *context, struct error *err);

/* Reads and checks every section. Returns STATUS_DATA, STATUS_IO or STATUS_NOMEM. */
enum status checkpoint_verify(struct checkpoint *c, struct error *err);

/* --- digest of the weights -------------------------------------------------------------------- */

enum { WEIGHTS_DIGEST_TEXT = 17 }; /* 16 hex digits and a NUL */

/* A hash of the names and values of all parameters (sections "w:", which are read and checked for
 * it). It depends neither on their order in the file nor on other sections. Two checkpoints have
 * the same digest if and only if they agree in every bit of every weight, up to a chance of 2^-64.
 * Returns STATUS_DATA for a damaged file and for one without weights, STATUS_IO or STATUS_NOMEM. */
enum status checkpoint_weights_digest(struct checkpoint *c, char out[WEIGHTS_DIGEST_TEXT],
                                      struct error *err);

#endif
