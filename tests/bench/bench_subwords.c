/* Measures the encoding of subwords on one core: SentencePiece alone, line by line, and this
 * program, with and without its memory of words, in turns.
 *
 *   bench_subwords TEXT MODEL.model [ROUNDS]
 */
#include "base/mem.h"
#include "data/spm_peer.h"
#include "data/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAYS = 3, BLOCK = 1 << 20 };

struct job {
    struct vocab *vocab;
    void *peer;
    char *text;
    size_t size;
};

/* Processor time, which other programs disturb less. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t by_peer(const struct job *job)
{
    int64_t tokens = 0;
    for (const char *at = job->text, *end = at + job->size; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int64_t count;
        stop = stop != NULL ? stop : end;
        free(spm_peer_encode(job->peer, at, (size_t)(stop - at), &count));
        tokens += count + (stop < end);
        at = stop + 1;
    }
    return tokens;
}

static int64_t by_deq(const struct job *job, bool remember)
{
    struct subword_tokens t = {.remember = remember};
    struct error err;
    int64_t tokens = 0;
    for (size_t at = 0, n; at < job->size; at += n) {
        n = job->size - at > BLOCK ? subwords_cut(job->text + at, BLOCK) : job->size - at;
        if (subwords_encode(vocab_subwords(job->vocab), &t, job->text + at, n, false, &err) !=
            STATUS_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        tokens += t.count;
    }
    subword_tokens_free(&t);
    return tokens;
}

static void open_job(struct job *job, const char *text, const char *path)
{
    struct error err;
    void *model = NULL, *bytes = NULL;
    size_t size;
    if (subwords_read_file(path, &model, &size, &err) != STATUS_OK ||
        vocab_from_model(&job->vocab, model, size, path, &err) != STATUS_OK ||
        subwords_read_file(text, &bytes, &job->size, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    job->text = bytes;
    job->peer = spm_peer_open(model, size);
    mem_free(model);
}

int main(int argc, char **argv)
{
    static const char *const names[WAYS] = {"SentencePiece alone", "deq, no word remembered",
                                            "deq tokenize"};
    double best[WAYS] = {0};
    int64_t tokens[WAYS];
    struct job job = {0};
    int rounds = argc > 3 ? atoi(argv[3]) : 3;
    if (argc < 3 || spm_peer_open == NULL) {
        fprintf(stderr,
                "bench_subwords TEXT MODEL.model [ROUNDS], in a build with SentencePiece\n");
        return 64;
    }
    open_job(&job, argv[1], argv[2]);
    for (int round = 0; round < rounds; round++)
        for (int way = 0; way < WAYS; way++) {
            double start = cpu_seconds();
            tokens[way] = way == 0 ? by_peer(&job) : by_deq(&job, way == 2);
            double rate = (double)job.size * 1e-6 / (cpu_seconds() - start);
            best[way] = rate > best[way] ? rate : best[way];
        }
    for (int way = 0; way < WAYS; way++)
        printf("%-24s %8.2f MB/s a core, %.2f of SentencePiece, %lld tokens\n", names[way],
               best[way], best[way] / best[0], (long long)tokens[way]);
    spm_peer_close(job.peer);
    vocab_free(job.vocab);
    mem_free(job.text);
    return 0;
}
