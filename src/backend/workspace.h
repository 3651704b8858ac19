/* The memory of a model, planned before its first step and allocated at once.
 *
 * Every buffer is declared with the phases of a step in which it lives. workspace_commit gives each
 * a place in one allocation. Two buffers may share memory if they never live at the same time. The
 * larger ones are placed first, each at the lowest offset that is free in all its phases.
 *
 * A phase may be left out of a step, but their order never changes. Parts of a batch go through the
 * phases one after the other, and what has to last from one step to the next lives always.
 */
#ifndef DEQ_BACKEND_WORKSPACE_H
#define DEQ_BACKEND_WORKSPACE_H

#include "backend/backend.h"

enum phase {
    PHASE_ALWAYS = -1, /* as a first phase: the contents last from step to step */
    PHASE_EMBED,       /* dropout masks are drawn and tokens embedded */
    PHASE_BEGIN,       /* the cell computes what stays constant during the solve */
    PHASE_FORWARD,     /* the forward solve, or layers in its place */
    PHASE_OUTPUT,      /* f at the fixed point, and what the softmax sees of it */
    PHASE_LOSS,
    PHASE_BACKWARD,  /* the backward solve */
    PHASE_GRADIENTS, /* everything else that is differentiated, added losses included */
    PHASE_REMEMBER,  /* the segment's states become memory */
    PHASE_UPDATE,    /* the optimizer's step, after which figures are read back */
    PHASE_COUNT
};

/* A step goes one of these ways. */
enum { PATH_SOLVE = 1, PATH_LAYERS = 2, PATH_ANY = 3 };

/* From `first` to `last`, both included, in steps that go one of `paths`. */
struct lifetime {
    enum phase first, last;
    unsigned paths;
};

static inline struct lifetime lives_on(unsigned paths, enum phase first, enum phase last)
{
    return (struct lifetime){first, last, paths};
}

static inline struct lifetime lives(enum phase first, enum phase last)
{
    return lives_on(PATH_ANY, first, last);
}

static inline struct lifetime lives_always(void)
{
    return lives(PHASE_ALWAYS, PHASE_UPDATE);
}

/* Whether two lifetimes have a moment in common. */
bool lifetimes_meet(const struct lifetime *a, const struct lifetime *b);

enum { BUFFER_NAME_MAX = 48 };

struct buffer {
    const char *name; /* copied, at most BUFFER_NAME_MAX - 1 characters */
    enum dtype dtype;
    int ndim;
    int64_t dim[TENSOR_MAX_DIMS]; /* those beyond ndim are taken as 1 */
    struct lifetime life;
    enum memory_part part;
};

/* A buffer as it was placed. */
struct placed_buffer {
    char name[BUFFER_NAME_MAX];
    struct tensor shape;   /* its data is the buffer's address once committed */
    struct tensor *tensor; /* borrows: what receives the place */
    struct lifetime life;
    enum memory_part part;
    size_t bytes, offset;
};

enum { WORKSPACE_ALIGN = 64 };

/* Chooses offsets, multiples of WORKSPACE_ALIGN, for `count` buffers whose bytes and lives are set.
 * Buffers that meet do not overlap. `order` [count] and `near` [count] are scratch. Returns the
 * bytes of the whole. */
size_t workspace_place(struct placed_buffer *list, int *order, int *near, int count);

struct workspace {
    struct backend *be;         /* borrows */
    struct placed_buffer *list; /* owns */
    int count, capacity;
    struct tensor memory; /* owns: U8 [bytes] */
    enum phase phase;     /* of the step now */
    enum status failed;   /* of a declaration */
    bool committed;
};

/* A workspace without buffers, freed with workspace_free. The backend is borrowed. STATUS_NOMEM. */
enum status workspace_create(struct workspace **out, struct backend *be, struct error *err);
/* Gives all memory back. The tensors that pointed into it are not cleared. */
void workspace_free(struct workspace *ws);

/* Declares a buffer before workspace_commit. *t gets type and shape now and its data at the commit,
 * so it has to stay where it is until then. A failure is kept for workspace_commit. */
void workspace_declare(struct workspace *ws, struct tensor *t, const struct buffer *buffer);
/* Plans and allocates, cleared to zero. Books the bytes by part as they are at the peak. Nothing
 * can be declared afterwards. STATUS_NOMEM, also for a declaration that failed. */
enum status workspace_commit(struct workspace *ws, struct error *err);

/* The step enters a phase. On a backend that poisons (struct backend), all bytes are then set to
 * 0xFF, a NaN in every real type, but those of buffers that already lived before. */
void workspace_enter(struct workspace *ws, enum phase phase);

/* Bytes of all buffers that live in a phase of a path, of one part or, with PART_COUNT, of all. */
size_t workspace_live(const struct workspace *ws, enum phase phase, unsigned path,
                      enum memory_part part);
/* The most that buffers of `parts`, bits 1 << part, take together in any phase. bytes[PART_COUNT],
 * unless NULL, receives what each part takes there. */
size_t workspace_peak(const struct workspace *ws, unsigned parts, size_t *bytes);
/* Bytes allocated: the peak, and what is lost between buffers. */
size_t workspace_bytes(const struct workspace *ws);
/* Whether two buffers have bytes in common. */
bool workspace_shares(const struct placed_buffer *a, const struct placed_buffer *b);

const char *phase_text(enum phase phase);

#endif
