/* Prints the ids that a text becomes, on one line, and then the text that they become again.
 *
 *   encode VOCAB open|closed TEXT */
#include "base/mem.h"
#include "data/text_decode.h"
#include "data/text_encode.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20 };

static enum status print(const struct vocab *v, const char *text, size_t size, enum text_end end,
                         struct error *err)
{
    struct text_encoding e;
    struct text_decoder d = text_decoder_begin(v, TEXT_DECODE_RAW);
    TRY(text_encode(&e, v, text, size, end, false, err));
    for (int64_t i = 0; i < e.count; i++)
        printf("%d ", e.ids[i]);
    printf("\n");
    for (int64_t i = 0; i < e.count; i++) {
        struct text_bytes word = text_decode(&d, e.ids[i]);
        printf("%s", word.blank ? " " : "");
        fwrite(word.text, 1, word.len, stdout);
    }
    text_encoding_free(&e);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    static char text[TEXT_MAX];
    struct error err;
    struct vocab *v = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: encode VOCAB open|closed TEXT\n");
        return 64;
    }
    FILE *in = fopen(argv[3], "rb");
    size_t size = in != NULL ? fread(text, 1, sizeof text, in) : 0;
    if (in != NULL)
        fclose(in);
    enum text_end end = strcmp(argv[2], "open") == 0 ? TEXT_OPEN : TEXT_CLOSED;
    enum status status = vocab_load(&v, argv[1], &err);
    if (status == STATUS_OK)
        status = print(v, text, size, end, &err);
    vocab_free(v);
    if (status != STATUS_OK)
        fprintf(stderr, "encode: %s\n", err.text);
    return (int)status;
}
