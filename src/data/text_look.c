/* Counts the punctuation at the beginning of a text that stands apart from words. */
#include "data/text_look.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/pieces.h"
#include "data/vocab.h"

#include <string.h>

enum text_split text_look_split(enum text_look look)
{
    return look == LOOK_PROSE ? TEXT_SPLIT_PUNCTUATION : TEXT_SPLIT_BLANKS;
}

const char *text_look_reason(enum text_look look)
{
    static const char *const reasons[] = {
        [LOOK_MADE] = "since words " VOCAB_UNK " or " VOCAB_EOS " say that it was divided before",
        [LOOK_APART] = "since blanks set off the punctuation of the text",
        [LOOK_PLAIN] = "since no punctuation of the text ends a word",
        [LOOK_PROSE] = "since punctuation of the text is attached to words",
    };
    return reasons[look];
}

/* Whether the text has the word, between white space. */
static bool has_word(const char *text, size_t size, const char *word)
{
    const size_t n = strlen(word);
    const char *end = text + size;
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), word, n)) != NULL; at++)
        if ((at == text || word_is_space(at[-1])) && word_is_space(at[n]))
            return true;
    return false;
}

/* Looks at text[size], which a newline and padding follow. A piece of punctuation ends a word, or
 * is one, if white space follows. The marks of @-@ are not counted. */
static enum text_look look_at(const char *text, size_t size)
{
    struct pieces p;
    int64_t apart = 0, attached = 0;
    if (has_word(text, size, VOCAB_UNK) || has_word(text, size, VOCAB_EOS))
        return LOOK_MADE;
    for (pieces_begin(&p, TEXT_SPLIT_PUNCTUATION, text, size + 1); pieces_next(&p);)
        for (int i = 0; i < p.count; i++) {
            const char *from = p.from[i];
            if (p.word[i].text == from || p.word[i].len == 0 || word_is_space(*from) ||
                *from == PIECE_MARK || !word_is_space(*p.until[i]))
                continue;
            if (from == text || word_is_space(from[-1]))
                apart++;
            else
                attached++;
        }
    return apart + attached == 0 ? LOOK_PLAIN : apart >= attached ? LOOK_APART : LOOK_PROSE;
}

enum status text_look(const struct text_source *text, enum text_look *found, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    int fd = -1;
    int64_t bytes;
    size_t size = 0;
    bool end;
    char *buffer = NULL;
    enum status status;
    TRY_OUT(mem_alloc((void **)&buffer, TEXT_LOOK_BYTES + 1 + WORD_PADDING, 1, err));
    TRY_OUT(text_source_begin(text, true, &fd, &bytes, err));
    TRY_OUT(text_source_read(text, fd, 0, buffer, TEXT_LOOK_BYTES, &size, &end, err));
    size = utf8_check(buffer, size);
    while (!end && size > 0 && !word_is_space(buffer[size - 1]))
        size--;
    buffer[size] = '\n';
    bool marked = size >= sizeof mark - 1 && memcmp(buffer, mark, sizeof mark - 1) == 0;
    size_t skip = marked ? sizeof mark - 1 : 0;
    *found = look_at(buffer + skip, size - skip);
out:
    text_source_end(text, fd);
    mem_free(buffer);
    return status;
}
