/* The parts of deq sample. */
#ifndef DEQ_CMD_SAMPLE_SAMPLE_H
#define DEQ_CMD_SAMPLE_SAMPLE_H

#include "data/text_encode.h"
#include "generate/generation.h"
#include "generate/sample_text.h"

/* A model that is ready to make texts, and how. */
struct sample_job {
    const char *checkpoint; /* its file */
    struct backend *be;
    const struct config *config;
    const struct vocab *vocab;
    struct model *model; /* of one stream, refreshed */
    struct sampling how;
    uint64_t seed;
    int64_t tokens; /* to add at most */
    struct stop_text stops;
    bool raw;
    bool tell; /* prints the speed on stderr in the end */
};

/* The bytes of a prompt, and where they came from. */
struct sample_prompt {
    const char *name; /* borrows, for messages */
    const char *text; /* borrows from the command line, or is `read` */
    char *read;       /* owns */
    size_t size;
};

/* Makes ids of a prompt, and warns on stderr of words that become <unk>. The caller frees *out with
 * text_encoding_free, also after an error. Fails as text_encode. */
enum status sample_encode(const struct sample_prompt *p, const struct vocab *vocab,
                          struct text_encoding *out, struct error *err);

/* Prints on stdout what may be shown of a text and has not been. Returns false if nobody reads any
 * more. */
bool sample_show(struct sample_text *t);

/* Prints on stderr how fast tokens were made. */
void sample_tell_speed(int64_t tokens, double seconds, double evals);

/* Keeps Ctrl-C for the dialogue. It must be called before any other thread starts. */
void sample_dialogue_begin(void);
/* Talks with a person: reads lines from stdin, each of which the model continues. `prompt` may be
 * NULL. STATUS_IO if stdin cannot be read, and what generator_feed returns. */
enum status sample_dialogue(const struct sample_job *job, const struct sample_prompt *prompt,
                            struct error *err);

#endif
