/* Scores a line and continues it.
 *
 *   cc line.c $(pkg-config --cflags --libs deq) -o line && ./line CHECKPOINT "And God said" */
#include <deq.h>
#include <stdio.h>
#include <string.h>

static int print_text(void *ctx, int32_t token, const char *text, size_t len)
{
    (void)token;
    fwrite(text, 1, len, ctx);
    return ferror(ctx);
}

int main(int argc, char **argv)
{
    struct deq_options options = {.size = sizeof options, .device = "cpu", .threads = 1};
    struct deq_sampling how;
    struct deq_token token[1000];
    struct deq_error error;
    struct deq *d = NULL;
    const char *line = argc > 2 ? argv[2] : "";
    int64_t count = -1;
    double sum = 0;

    if (argc < 2 || deq_load(&d, argv[1], &options, &error) != DEQ_OK)
        goto out;
    count = deq_score_text(d, line, strlen(line), token, 1000, &error);
    for (int64_t i = 0; i < count && count <= 1000; i++)
        sum += token[i].logprob;
    if (count < 0)
        goto out;
    printf("%.4f in %lld tokens\n%s", sum, (long long)count, line);

    deq_sampling_init(&how, sizeof how);
    how.tokens = 20;
    how.top_p = 0.9;
    how.on_text = print_text;
    how.ctx = stdout;
    count = deq_generate(d, line, strlen(line), &how, &error);
    putchar('\n');
out:
    if (count < 0)
        fprintf(stderr, "%s\n", argc < 2 ? "usage: line CHECKPOINT [LINE]" : error.text);
    deq_free(d);
    return count < 0;
}
