/* The vocabulary: token ids 0 .. V-1 and the words they stand for.
 *
 * Its text form (vocab.txt, and the copy inside a checkpoint) is a plain list, one word a line in
 * the order of ids, every line ended by a newline. A word is UTF-8 without white space or NUL. A
 * byte vocabulary is the list of exactly these 256 lines: <0x00>, <0x01>, ..., <0xFF>.
 */
#ifndef DEQ_DATA_VOCAB_H
#define DEQ_DATA_VOCAB_H

#include "base/status.h"
#include "data/word.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB_EOS "<eos>" /* ends every line of a word-level text */
#define VOCAB_UNK "<unk>" /* stands for words outside the vocabulary */

struct vocab;

/* Reads a text form of `size` bytes; `name` (a file name) stands in messages. STATUS_DATA, naming
 * the line, for an empty list, an empty or repeated word, white space inside a line, NUL or
 * invalid UTF-8. A missing newline at the very end is allowed. *out is owned by the caller and
 * copies the text. */
enum status vocab_from_text(struct vocab **out, const char *text, size_t size, const char *name,
                            struct error *err);

/* The same from a file. STATUS_NOINPUT if it cannot be opened. */
enum status vocab_load(struct vocab **out, const char *path, struct error *err);

/* The byte vocabulary. */
enum status vocab_make_bytes(struct vocab **out, struct error *err);

void vocab_free(struct vocab *v);

/* The text form and its length; borrowed, lives as long as `v`. Not NUL-terminated. */
const char *vocab_text(const struct vocab *v, size_t *size);

/* The id of the word, or -1. In a byte vocabulary the words are single raw bytes. */
int64_t vocab_find(const struct vocab *v, const char *word, size_t len);

/* The same for `count` <= WORD_BATCH words with their keys at hand, several times faster for each
 * (word vocabularies only). */
void vocab_find_words(const struct vocab *v, const struct word *words, int count,
                      int32_t ids[WORD_BATCH]);

/* The bytes of token `id` (0 <= id < V) and their number: the word, or the one raw byte. Borrowed;
 * not NUL-terminated. */
const char *vocab_word(const struct vocab *v, int64_t id, size_t *len);

int64_t vocab_size(const struct vocab *v);
bool vocab_is_bytes(const struct vocab *v);

/* The ids of VOCAB_EOS and VOCAB_UNK, -1 where the vocabulary has none (as in a byte one). */
int64_t vocab_eos(const struct vocab *v);
int64_t vocab_unk(const struct vocab *v);

/* XXH3 (64 bits) of the text form: shards and checkpoints of the same vocabulary agree in it. */
uint64_t vocab_hash(const struct vocab *v);

#endif
