/* Writes Zipf text to stdout, the same for the same arguments.
 *
 *   zipf TOKENS TYPES SEED
 *
 * The text has TOKENS words of exactly TYPES distinct ones. All of them occur if TOKENS >= TYPES,
 * the one of rank r about as often as 1 / (r + 1). A line has 24 words on average. Words have one
 * to a dozen letters, the frequent ones fewer, which makes about 5.2 bytes a token with its space.
 */
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER = 1 << 20, WORD_MAX = 32 };

/* Writes the word of a rank, which is the rank in bijective base 21, so that all words differ. Rare
 * words get a tail, whose letter is no digit. */
static int make_word(int64_t rank, char *to)
{
    static const char letters[] = "etaoinshrdlucmfwypvbg";
    int n = 0;
    for (int64_t r = rank + 1; r > 0; r = (r - 1) / 21)
        to[n++] = letters[(r - 1) % 21];
    if (rank >= 500)
        for (int tail = (int)(rank % 5) + 1; tail > 0; tail--)
            to[n++] = 'x';
    to[n++] = ' ';
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: zipf TOKENS TYPES SEED\n");
        return 64;
    }
    int64_t tokens = atoll(argv[1]), types = atoll(argv[2]);
    struct rng_key key = {.seed = strtoull(argv[3], NULL, 10), .stream = 0};
    static char buffer[BUFFER + WORD_MAX + 2];
    size_t used = 0;
    double top = log((double)types + 1.0);
    uint32_t words[4];
    for (int64_t i = 0; i < tokens; i++) {
        if (i % 2 == 0)
            rng_block(key, (uint64_t)i / 2, words);
        uint32_t a = words[2 * (i % 2)], b = words[2 * (i % 2) + 1];
        /* The rank is the inverse of the distribution function of 1/(r+1), taken as continuous. At
         * even distances the ranks come in turn, so that none is missing. */
        int64_t rank = (int64_t)(exp(top * (((double)a + 0.5) / 4294967296.0))) - 1;
        int64_t every = tokens / types;
        if (every > 0 && i % every == 0 && i / every < types)
            rank = i / every;
        rank = rank < 0 ? 0 : rank >= types ? types - 1 : rank;
        used += (size_t)make_word(rank, buffer + used);
        if (b % 24 == 0)
            buffer[used++] = '\n';
        if (used >= BUFFER) {
            if (fwrite(buffer, 1, used, stdout) != used)
                return 74;
            used = 0;
        }
    }
    buffer[used++] = '\n';
    return fwrite(buffer, 1, used, stdout) == used && fflush(stdout) == 0 ? 0 : 74;
}
