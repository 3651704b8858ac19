/* Presets by budget, and how they are fitted to a text.
 *
 * configs/small.json, medium.json and large.json are for minutes, an hour and a night on two cores.
 * What in them depends on the text is changed here. */
#ifndef DEQ_CONFIG_PRESET_H
#define DEQ_CONFIG_PRESET_H

#include "config/config.h"

enum preset { PRESET_SMALL, PRESET_MEDIUM, PRESET_LARGE };

/* What is known of a text before any of it is read. */
struct preset_facts {
    int64_t tokens, valid_tokens; /* of the training and validation text, 0 for none */
    int64_t text_bytes;           /* of the training text */
    int64_t vocab;                /* tokens of the vocabulary */
    bool bytes;                   /* tokens are bytes */
};

/* "small", "medium" or "large", which is also the name of the file. */
const char *preset_name(enum preset preset);
/* How long a training takes on two cores, in words. */
const char *preset_budget(enum preset preset);
/* Finds the preset of that name. False if there is none. */
bool preset_find(const char *name, enum preset *out);
/* The preset for a text of that size. A short text teaches a large model nothing more. */
enum preset preset_choose(const struct preset_facts *facts);

/* Fits *c to a text. *c is `preset` with what the user has changed in it, which the caller must
 * apply again afterwards.
 *   - batches that a short text can fill, for training and evaluation
 *   - steps that take as long whatever the vocabulary, but at most PRESET_EPOCHS passes over the
 * text
 *   - warm-up, unrolled steps, evaluations and checkpoints in proportion to the steps
 *   - more dropout the more often the text is seen
 *   - an adaptive softmax for a large vocabulary */
enum { PRESET_EPOCHS = 30 };
void preset_fit(struct config *c, const struct config *preset, const struct preset_facts *facts);

#endif
