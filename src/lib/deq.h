/* libdeq: a trained deep equilibrium language model inside another program.
 *
 *   deq_load ; deq_info, deq_tokenize, deq_score_text, deq_generate, ... in any order ; deq_free
 *
 * Contexts. A struct deq is a loaded model. Any number may exist side by side. One thread at a time
 * may use a context, and different threads may use different contexts at the same time without a
 * lock. On a GPU a context stays with the thread that loaded it. A child made by fork must not use
 * its parent's contexts, since their threads are not there.
 *
 * Threads. A call computes with the threads that deq_options.threads asked for, the caller's among
 * them. They are OpenMP's, so OMP_NUM_THREADS, OMP_THREAD_LIMIT, OMP_PROC_BIND and OMP_WAIT_POLICY
 * in the environment mean what they do elsewhere. OpenMP keeps waiting threads for each thread of
 * the program that has called. Two contexts that work at once want half of the cores each, and
 * OMP_WAIT_POLICY=passive if the program has other work. The OpenMP settings of the calling thread
 * are as before when a call returns.
 *
 * Texts are UTF-8 with a length in bytes, and need no NUL at their end. A model of bytes takes any
 * bytes. Paths and names end with a NUL.
 *
 * Errors. Functions that can fail return 0, or a number that is at least 0, and otherwise minus a
 * status of enum deq_status. `error` then holds the status and one line that names the cause and a
 * remedy. It may be NULL. After DEQ_DEVICE or DEQ_NOMEM a context may refuse further work, and
 * after any other error it can be used as before. The library never prints and never ends the
 * process. It installs no signal handler and changes no setting of the process, as locale or
 * directory.
 *
 * Growth. Structs that may get more fields begin with `size`, which the caller sets to sizeof. A
 * field that the caller does not know counts as 0, which means the default. A field that the
 * library does not know must be 0. */
#ifndef DEQ_H
#define DEQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DEQ_API __attribute__((visibility("default")))

/* How a call ended. The numbers are exit codes of the program deq. */
enum deq_status {
    DEQ_OK = 0,
    DEQ_CHECK = 1,    /* a number of the model is not finite */
    DEQ_USAGE = 64,   /* a wrong argument */
    DEQ_DATA = 65,    /* bad data in the file or the text */
    DEQ_NOINPUT = 66, /* no such file */
    DEQ_DEVICE = 69,  /* the device is not there, or failed */
    DEQ_INTERNAL = 70,
    DEQ_NOMEM = 71,
    DEQ_IO = 74,
    DEQ_CONFIG = 78 /* settings that do not fit the model */
};

/* Why a call failed. */
struct deq_error {
    int32_t status;
    char text[1024]; /* one line, ends with a NUL */
};

/* A loaded model. */
struct deq;

/* How a model is loaded. */
struct deq_options {
    size_t size;           /* sizeof (struct deq_options) */
    const char *device;    /* "cpu", "cuda", or "auto" for a GPU if there is one. NULL: "auto" */
    const char *precision; /* of products, "fp32", "tf32" or "bf16". NULL: "fp32" */
    int32_t threads;       /* on the processor. 0: OMP_NUM_THREADS, or the cores of the process */
    int32_t ranks;         /* not 0: scored tokens get their rank, which costs all logits */
    /* Scores and next tokens are solved to a relative residual of tol, with at most max_iter
     * evaluations of f a position. 0: 1e-6, or what the precision allows, and 500. */
    double tol;
    int64_t max_iter;
};

/* What a model is. Its strings live as long as it. */
struct deq_info {
    size_t size;        /* sizeof (struct deq_info), set by the caller */
    int64_t vocab_size; /* tokens are 0 .. vocab_size - 1 */
    int64_t context;    /* tokens that a prediction sees at most, 0 for all before it */
    int64_t parameters; /* numbers that were trained */
    int64_t layers;     /* layers of a model that has no equilibrium, 0 for one that has */
    int64_t step;       /* of the training that wrote it */
    int32_t line_start; /* the token in front of a line's first one, -1 if there is none */
    int32_t unknown;    /* the token for unknown words, -1 if there is none */
    int32_t threads;    /* that compute, 0 on a GPU */
    const char *cell;   /* "transformer", "trellis" or "modern" */
    const char *tokens; /* "words", "bytes", "subwords" or "ids" */
    const char *device; /* "cpu" or "cuda" */
};

enum { DEQ_TOKEN_UNKNOWN = 1, DEQ_TOKEN_LINE_END = 2, DEQ_TOKEN_UNCONVERGED = 4 };

/* A scored token. */
struct deq_token {
    double logprob;       /* natural logarithm of its probability */
    uint64_t from, until; /* the bytes of the text that it stands for, of blanks before it none */
    int32_t id;
    int32_t rank;   /* 1 for the most probable token, 0 without deq_options.ranks */
    int32_t nfe;    /* evaluations of f until its position had converged */
    uint32_t flags; /* DEQ_TOKEN_... */
};

/* Takes a text as it grows. `token` has just been drawn, and text[len] can now be said. It is the
 * text of that token, or less where a stop text may have begun, or more where it had not. The text
 * is the library's and valid during the call. Bytes of a model of bytes may end inside a character.
 * A result other than 0 ends the text. The function must not use this context. */
typedef int (*deq_text_fn)(void *ctx, int32_t token, const char *text, size_t len);

/* How tokens are chosen. The filters apply in this order, as in `deq sample`. */
struct deq_sampling {
    size_t size;             /* sizeof (struct deq_sampling) */
    uint64_t seed;           /* the same seed gives the same text on the same device */
    int64_t tokens;          /* to add at most */
    double repeat_penalty;   /* above 0. 1: none */
    int64_t repeat_last;     /* tokens that it looks back */
    int64_t top_k;           /* 0: all */
    double top_p;            /* above 0, at most 1. 1: all */
    double min_p;            /* 0 .. 1. 0: all */
    double temperature;      /* 0: the most probable token */
    double tol;              /* relative residual of a solve. 0: as the checkpoint is configured */
    int32_t unknown;         /* not 0: the token for unknown words may be drawn */
    int32_t raw;             /* not 0: words of a vocabulary divided at blanks stay as they are */
    const char *const *stop; /* [stops], each ends the text before itself, none is empty */
    size_t stops;
    deq_text_fn on_text; /* may be NULL */
    void *ctx;           /* for on_text */
};

/* The version of the library, as `deq --version` prints it. */
DEQ_API const char *deq_version(void);
/* What a status means, in words. It may be negative, as functions return it. */
DEQ_API const char *deq_status_text(int64_t status);

/* Loads a checkpoint of deq. `options` may be NULL. The caller frees *out with deq_free, and *out
 * is NULL after an error. DEQ_USAGE, DEQ_NOINPUT, DEQ_DATA, DEQ_IO, DEQ_DEVICE, DEQ_NOMEM,
 * DEQ_CONFIG. */
DEQ_API int deq_load(struct deq **out, const char *path, const struct deq_options *options,
                     struct deq_error *error);
DEQ_API void deq_free(struct deq *d); /* NULL is allowed */

/* Fills info->size bytes of *info. DEQ_USAGE. */
DEQ_API int deq_info(const struct deq *d, struct deq_info *info, struct deq_error *error);

/* Makes tokens of a text that is to be continued, as of a prompt. Its last line stays open unless
 * it ends with a newline. A blank at the very end is left out where the next token brings it, and
 * an empty text becomes the token in front of a line. Returns how many tokens there are. If they
 * are more than `capacity`, none is written, and `tokens` may then be NULL. DEQ_DATA, for words
 * that the model cannot spell, or DEQ_NOMEM. */
DEQ_API int64_t deq_tokenize(struct deq *d, const char *text, size_t len, int32_t *tokens,
                             size_t capacity, struct deq_error *error);
/* Makes the text of tokens that begin a line. Returns how many bytes there are. If they
 * are more than `capacity`, none is written, and `text` may then be NULL. No NUL is added.
 * DEQ_USAGE for a token that the model does not have, DEQ_NOMEM. */
DEQ_API int64_t deq_detokenize(struct deq *d, const int32_t *tokens, size_t count, char *text,
                               size_t capacity, struct deq_error *error);

/* Scores a text as `deq score --tokens` does. Each line is a text of its own, its first token is
 * predicted from a line's beginning, and its end is scored too. Returns how many tokens are scored.
 * If they are more than `capacity`, nothing is computed, and `out` may then be NULL. DEQ_DATA,
 * DEQ_NOMEM, DEQ_DEVICE, DEQ_CONFIG. */
DEQ_API int64_t deq_score_text(struct deq *d, const char *text, size_t len, struct deq_token *out,
                               size_t capacity, struct deq_error *error);
/* Scores tokens that follow each other. tokens[0] is context alone, and logprob[i] becomes the
 * natural logarithm of the probability of tokens[i + 1] behind those before it. `count` is at least
 * 1, and logprob has room for count - 1. DEQ_USAGE, DEQ_NOMEM, DEQ_DEVICE, DEQ_CONFIG. */
DEQ_API int deq_score_tokens(struct deq *d, const int32_t *tokens, size_t count, double *logprob,
                             struct deq_error *error);
/* The same for the token that follows tokens[count], count >= 1, for each token there is, into
 * logprob[vocab_size]. What a call shares with the call before it, from the first token on, is not
 * computed again, so that a text may grow token by token. DEQ_USAGE, DEQ_NOMEM, DEQ_DEVICE,
 * DEQ_CONFIG. */
DEQ_API int deq_next(struct deq *d, const int32_t *tokens, size_t count, double *logprob,
                     struct deq_error *error);

/* Sets the defaults of `deq sample`: seed 1, 100 tokens, temperature 1, and no filter. `size` is
 * sizeof (struct deq_sampling). */
DEQ_API void deq_sampling_init(struct deq_sampling *how, size_t size);
/* Continues a text as `deq sample` does, and hands what is added to how->on_text. Returns how many
 * tokens were added. DEQ_USAGE, DEQ_DATA, DEQ_NOMEM, DEQ_DEVICE, DEQ_CONFIG, and DEQ_CHECK for a
 * model whose numbers are not finite. */
DEQ_API int64_t deq_generate(struct deq *d, const char *prompt, size_t len,
                             const struct deq_sampling *how, struct deq_error *error);

#ifdef __cplusplus
}
#endif

#endif
