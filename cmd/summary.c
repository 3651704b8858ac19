/* The last lines of a training. */
#include "cmd/summary.h"

#include "cmd/estimate.h"
#include "cmd/machine.h"
#include "data/shard.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 + 64, WORD_SIZE = 64 };

void summary_quote(const char *text, char *out, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+:,=@%";
    size_t n = strlen(text), at = 0;
    if (n > 0 && strspn(text, plain) == n) {
        snprintf(out, size, "%s", text);
        return;
    }
    at += (size_t)snprintf(out, size, "'");
    for (; *text != '\0' && at < size; text++)
        at += (size_t)snprintf(out + at, size - at, *text == '\'' ? "'\\''" : "%c", *text);
    if (at < size)
        snprintf(out + at, size - at, "'");
}

static bool was_evaluated(const struct trainer *t)
{
    return isfinite(t->state.best_nll);
}

static void print_result(const struct trainer *t)
{
    const struct train_state *s = &t->state;
    if (!was_evaluated(t))
        return;
    if (stream_recall(t->stream) > 0)
        fprintf(stderr, "  best validation loss %.3g at step %lld\n", s->best_nll,
                (long long)s->best_step);
    else
        fprintf(stderr, "  best validation perplexity %.2f at step %lld", exp(s->best_nll),
                (long long)s->best_step);
    if (stream_recall(t->stream) > 0)
        return;
    if (s->best.known && isfinite(s->best.bits_per_byte))
        fprintf(stderr, ", %.3f bits per byte", s->best.bits_per_byte);
    if (s->best.known && s->best.unknown > 0)
        fprintf(stderr, ", with %.2f %% of the tokens <unk>", 100 * s->best.unknown);
    fputc('\n', stderr);
}

static void print_cost(double seconds, const struct trainer *t)
{
    char time[ESTIMATE_COUNT_MAX], host[ESTIMATE_COUNT_MAX], device[ESTIMATE_COUNT_MAX];
    estimate_duration(seconds, time);
    estimate_bytes(machine_memory_line("VmHWM:"), host);
    estimate_bytes((double)t->be->peak_bytes, device);
    if (t->be->device_free > 0)
        fprintf(stderr, "  %s, peak memory %s of the device and %s of the machine\n", time, device,
                host);
    else
        fprintf(stderr, "  %s, peak memory %s\n", time, host);
}

/* A frequent word to begin a text with, as the vocabulary lists them by their count. Of subwords it
 * is a piece that begins a word, and a number where texts are given as numbers. */
static void find_prompt(const struct vocab *v, char out[WORD_SIZE])
{
    struct text_rule rule = vocab_rule(v);
    bool subwords = rule.split == TEXT_SPLIT_SUBWORDS;
    bool numbers = rule.numbers || rule.split == TEXT_SPLIT_IDS; /* any will do */
    snprintf(out, WORD_SIZE, numbers ? "0" : "The");
    if (numbers)
        return;
    for (int64_t id = 0; id < vocab_size(v) && !vocab_is_bytes(v); id++) {
        size_t len;
        const char *word = subwords ? vocab_surface(v, id, &len) : vocab_word(v, id, &len);
        if (subwords && (len < 3 || *word++ != ' '))
            continue;
        len -= subwords;
        if (!isalpha((unsigned char)word[0]) || len >= WORD_SIZE)
            continue;
        snprintf(out, WORD_SIZE, "%.*s", (int)len, word);
        return;
    }
}

static bool has_test(const char *data)
{
    char name[SHARD_NAME_MAX], path[PATH_SIZE];
    shard_name(name, "test", 0);
    snprintf(path, sizeof path, "%s/%s", data, name);
    return access(path, F_OK) == 0;
}

static void print_next(const char *dir, const struct trainer *t)
{
    char path[PATH_SIZE], file[PATH_SIZE], word[WORD_SIZE], prompt[2 * WORD_SIZE];
    snprintf(path, sizeof path, "%s/%s.bin", dir, was_evaluated(t) ? "best" : "last");
    summary_quote(path, file, sizeof file);
    bool test = has_test(t->config.data.dir);
    fputs("next:\n", stderr);
    if (test || was_evaluated(t))
        fprintf(stderr, "  deq eval %s%s\n", file, test ? " --split test" : "");
    else
        fprintf(stderr, "  deq eval %s --split train\n", file);
    if (stream_recall(t->stream) > 0)
        return;
    find_prompt(t->vocab, word);
    summary_quote(word, prompt, sizeof prompt);
    fprintf(stderr, "  deq sample %s --prompt %s\n", file, prompt);
}

void summary_print(const char *dir, double seconds, const struct trainer *t)
{
    fprintf(stderr, "done: %s\n", dir);
    print_result(t);
    print_cost(seconds, t);
    print_next(dir, t);
}
