/* What the functions of deq.h share. */
#ifndef DEQ_LIB_CONTEXT_H
#define DEQ_LIB_CONTEXT_H

#include "generate/generation.h"
#include "lib/deq.h"
#include "score/scorer.h"
#include "store/snapshot.h"

#include <locale.h>
#include <pthread.h>

struct deq {
    struct backend be;     /* owns */
    bool open;             /* the backend is */
    bool bound;            /* to the thread that loaded it */
    pthread_t owner;       /* that thread */
    locale_t plain;        /* owns, in which numbers have a point */
    struct snapshot from;  /* owns, without its file */
    struct scorer *scorer; /* owns, and with it the parameters */
    struct model *writer;  /* owns, makes texts, NULL until it is wanted */
    struct generator next; /* owns, of deq_next, zero until it is wanted */
    int32_t *fed;          /* owns [fed_capacity], the tokens that `next` has been fed */
    int64_t fed_count, fed_capacity;
    double tol; /* of scores and next tokens */
    int64_t max_iter;
};

/* The settings of the calling thread while the library works. */
struct lib_call {
    int threads, dynamic; /* OpenMP's */
    locale_t locale;
};

/* Begins the work of a call, and ends it by giving the thread its settings back. STATUS_USAGE in a
 * thread that may not use the context. Then nothing has begun. */
enum status lib_begin(const struct deq *d, struct lib_call *call, struct error *err);
void lib_end(const struct lib_call *call);

/* Hands an error to the caller, who may not want it. Returns what a function of deq.h returns. */
int lib_fail(const struct error *err, struct deq_error *out);

/* Copies a struct that begins with its size into to[known]. Fields that the caller does not know
 * become 0. STATUS_USAGE for a field that is not known here, naming the struct. */
enum status lib_read_struct(void *to, size_t known, const void *from, const char *name,
                            struct error *err);

/* Checks that all tokens are some of the model. STATUS_USAGE. */
enum status lib_check_tokens(const struct deq *d, const int32_t *tokens, size_t count,
                             struct error *err);

/* Makes d->writer unless it is there. STATUS_NOMEM, STATUS_DEVICE, STATUS_CONFIG. */
enum status lib_need_writer(struct deq *d, struct error *err);

#endif
