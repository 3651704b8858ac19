/* Search for stop texts across the borders of tokens. */
#include "generate/stop_text.h"

#include <string.h>

int stop_text_find(const struct stop_text *s, const char *text, size_t len, size_t from,
                   size_t known, size_t *at)
{
    int found = -1;
    for (int i = 0; i < s->count; i++) {
        size_t n = strlen(s->text[i]), start = from;
        if (known >= n && known - n + 1 > start)
            start = known - n + 1;
        const char *hit = start < len ? memmem(text + start, len - start, s->text[i], n) : NULL;
        if (hit == NULL || (found >= 0 && (size_t)(hit - text) >= *at))
            continue;
        *at = (size_t)(hit - text);
        found = i;
    }
    return found;
}

size_t stop_text_pending(const struct stop_text *s, const char *text, size_t len, size_t from)
{
    size_t most = 0;
    for (int i = 0; i < s->count; i++) {
        size_t n = strlen(s->text[i]) - 1;
        if (n > len - from)
            n = len - from;
        while (n > most && memcmp(text + len - n, s->text[i], n) != 0)
            n--;
        most = n > most ? n : most;
    }
    return most;
}
