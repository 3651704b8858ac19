/* A text of UTF-8, divided at punctuation. It comes back from its tokens, under the vocabulary of
 * its own pieces, and in both styles. */
#include "fuzz.h"

#include "base/utf8.h"
#include "data/round_trip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    bool lower = size > 0 && data[size - 1] == '!';
    size = utf8_check(text, size);
    FUZZ_ASSERT(round_trip(text, size, lower));
    return 0;
}
