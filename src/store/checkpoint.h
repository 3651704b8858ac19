/* Checkpoints: named sections of numbers or text in one file, which appears whole or not at all.
 *
 * Sections in use: "config" (JSON), "vocab" (the text of vocab.txt), "state" (JSON: step, seed,
 * best loss, ...), "w:NAME", "m:NAME", "v:NAME" (a parameter and its two moments, f32, dims of the
 * parameter), "mem:..." (segment memory). The container knows none of them but "w:", which the
 * weights digest is over.
 *
 * Every byte of a file is under a checksum (XXH3, 64 bits), sizes are checked against each other
 * and against the file before anything is allocated or decoded, and reading needs 1.5 MB of scratch
 * besides the directory, whatever a file says. A file is only read, never mapped: one that shrinks
 * meanwhile is an error, not a crash. The layout is in checkpoint_format.h.
 *
 * Errors: STATUS_NOINPUT when a file cannot be opened; STATUS_DATA when its content is not what it
 * should be; STATUS_IO when reading or writing fails; STATUS_CANTCREATE; STATUS_NOMEM. Messages
 * name the file, and the section where there is one. An object serves one thread at a time.
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
/* "u8", "f32", "f64", "i64" */
const char *checkpoint_type_name(enum checkpoint_type type);

/* --- writing ---------------------------------------------------------------------------------- */

struct checkpoint_writer;

/* Starts a file that becomes `path` in checkpoint_write_close; an older file of that name stays
 * until then. *out is owned by the caller until _close or _abort; NULL on error. */
enum status checkpoint_write_open(struct checkpoint_writer **out, const char *path,
                                  struct error *err);

/* From here on numbers of several bytes are stored as they are. Compressing floats takes 18 times
 * the processor time of writing them, and gains a sixth of their size: their low bytes are noise.
 */
void checkpoint_write_plain(struct checkpoint_writer *w);

/* Adds a section: `data` holds dims[0] * ... * dims[ndim - 1] elements (one if ndim is 0), densely,
 * and is only read during the call. The name must be new, not empty and fit CHECKPOINT_NAME_MAX;
 * a dim may be 0. */
enum status checkpoint_write_section(struct checkpoint_writer *w, const char *name,
                                     enum checkpoint_type type, int ndim, const int64_t *dims,
                                     const void *data, struct error *err);
/* A u8 section [strlen(text)]. */
enum status checkpoint_write_text(struct checkpoint_writer *w, const char *name, const char *text,
                                  struct error *err);

/* Writes directory and header, forces the file to disk and gives it its name. On success *w is
 * freed and NULL. On error, and always after the error of an earlier call (which it repeats), the
 * old file is untouched and *w is left for checkpoint_write_abort. */
enum status checkpoint_write_close(struct checkpoint_writer **w, struct error *err);
/* Removes what was written; *w becomes NULL. A NULL *w is allowed. */
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

/* Opens a file and checks its header and directory, not yet the sections. The caller frees *out
 * with checkpoint_close; NULL on error. */
enum status checkpoint_open(struct checkpoint **out, const char *path, struct error *err);
void checkpoint_close(struct checkpoint *c); /* NULL is allowed */

const char *checkpoint_path(const struct checkpoint *c);
/* Bytes of the file. */
int64_t checkpoint_bytes(const struct checkpoint *c);
/* Sections in the order they were written; valid until checkpoint_close. */
int64_t checkpoint_count(const struct checkpoint *c);
const struct checkpoint_section *checkpoint_section(const struct checkpoint *c, int64_t index);
/* The section of that name, or NULL. */
const struct checkpoint_section *checkpoint_find(const struct checkpoint *c, const char *name);

/* Reads a section into buf[size], `size` being exactly the section's. Decodes in place, without a
 * copy of the whole. A missing section or another size is STATUS_DATA; on error the buffer's
 * content is undefined. */
enum status checkpoint_read_section(struct checkpoint *c, const char *name, void *buf, size_t size,
                                    struct error *err);
/* Reads a u8 section of at most `max` bytes as text: *out is NUL-terminated and freed by the caller
 * with mem_free; *len, if not NULL, is its length without the NUL. */
enum status checkpoint_read_text(struct checkpoint *c, const char *name, size_t max, char **out,
                                 size_t *len, struct error *err);

/* Takes `size` bytes of a section, those from `offset` on. */
typedef enum status checkpoint_piece_fn(void *context, const void *data, size_t size, size_t offset,
                                        struct error *err);
/* Reads a section in pieces of at most 512 KiB, in order; a piece is valid during the call and
 * holds whole elements. An error of `fn` stops the reading and is passed on. The checksum's verdict
 * is known only at the end: what came before STATUS_DATA must not be used. */
enum status checkpoint_read_pieces(struct checkpoint *c, const char *name, checkpoint_piece_fn *fn,
                                   void *context, struct error *err);

/* Reads and checks every section. */
enum status checkpoint_verify(struct checkpoint *c, struct error *err);

/* --- digest of the weights -------------------------------------------------------------------- */

enum { WEIGHTS_DIGEST_TEXT = 17 }; /* 16 hex digits and a NUL */

/* One number for names and values of all parameters (sections "w:", which are read and checked for
 * it), whatever their order in a file and whatever else the file holds: two runs agree in it
 * exactly when they agree in every bit of every weight (up to a chance of 2^-64). STATUS_DATA for a
 * file without weights. */
enum status checkpoint_weights_digest(struct checkpoint *c, char out[WEIGHTS_DIGEST_TEXT],
                                      struct error *err);

#endif
