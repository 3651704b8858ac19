/* In place of SentencePiece, where the program was built without it. */
#include "data/sentencepiece_shim.h"

enum status spm_check(struct error *err)
{
    return error_set(err, STATUS_DEVICE,
                     "this deq was built without SentencePiece, which divides texts into subwords: "
                     "apt-get install libsentencepiece-dev g++, then make again");
}

enum status spm_open(struct spm **out, const void *model, size_t size, struct error *err)
{
    (void)model;
    (void)size;
    *out = NULL;
    return spm_check(err);
}

void spm_close(struct spm *s)
{
    (void)s;
}

void spm_pieces_free(struct spm_pieces *p)
{
    *p = (struct spm_pieces){0};
}

enum status spm_encode(const struct spm *s, struct spm_pieces *p, const char *text, size_t size,
                       bool ends, struct error *err)
{
    (void)s;
    (void)p;
    (void)text;
    (void)size;
    (void)ends;
    return spm_check(err);
}

enum status spm_train(const struct spm_training *t, char **model, size_t *size, struct error *err)
{
    (void)t;
    *model = NULL;
    *size = 0;
    return spm_check(err);
}
