/* The vocabulary, which maps token ids 0 .. V-1 to words.
 *
 * Its text form (vocab.txt, and the copy inside a checkpoint) is a plain list, one word a line in
 * the order of ids, every line ended by a newline. A word is UTF-8 without white space or NUL. A
 * byte vocabulary is the list of exactly these 256 lines: <0x00>, <0x01>, ..., <0xFF>.
 *
 * A header line (text_rule.h) may stand before the words. It says how a text is divided into them,
 * has no id, and belongs to the text form and to the hash.
 *
 * A vocabulary of subwords has the text form that subword_model.h describes, in which a tab and a
 * word may stand behind a piece. It can be decoded as it is. Only to encode a text it needs the
 * model of SentencePiece that it was made from, which lies beside vocab.txt as tokenizer.model.
 * A rule with `numbers` has none, and texts are numbers.
 */
#ifndef DEQ_DATA_VOCAB_H
#define DEQ_DATA_VOCAB_H

#include "base/status.h"
#include "data/subword_model.h"
#include "data/subwords.h"
#include "data/text_rule.h"
#include "data/word.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB_EOS "<eos>" /* ends every line of a word-level text */
#define VOCAB_UNK "<unk>" /* stands for words outside the vocabulary */

/* The file beside vocab.txt with the model of subwords. */
#define VOCAB_TOKENIZER "tokenizer.model"

struct vocab;

/* Reads the text form text[size], which is copied. `name` (a file name) stands in messages. A
 * missing newline at the very end is allowed, and so are a byte order mark at the start and lines
 * that end with CR LF, of which the vocabulary keeps nothing. The caller frees *out with
 * vocab_free. *out is NULL on error. Returns STATUS_DATA, naming the line, for an empty list, an
 * empty or repeated word, white space inside a line, a header that is not known, NUL or invalid
 * UTF-8 and for more than 2^31 - 1 words, or STATUS_NOMEM. A header that says what no header says
 * is left out. */
enum status vocab_from_text(struct vocab **out, const char *text, size_t size, const char *name,
                            struct error *err);

/* The same from a file, which may also be a .model file or a tokenizer.json (tokenizer_json.h). A
 * vocabulary of subwords gets the tokenizer.model that lies in the same folder, if there is one.
 * Returns STATUS_NOINPUT if there is no such file that can be opened, STATUS_IO if too many files
 * are open or reading fails, STATUS_DATA or STATUS_NOMEM. */
enum status vocab_load(struct vocab **out, const char *path, struct error *err);

/* Makes the vocabulary of a model of SentencePiece from the bytes of its .model file, which it
 * keeps a copy of. `name` stands in messages. *out is NULL on error. Returns STATUS_DATA or
 * STATUS_NOMEM. */
enum status vocab_from_model(struct vocab **out, const void *model, size_t size, const char *name,
                             struct error *err);

/* The same from a file of any name. Returns what subwords_read_file and vocab_from_model return. */
enum status vocab_load_model(struct vocab **out, const char *path, struct error *err);

/* Gives a vocabulary of subwords the bytes of its .model file, which are copied. Returns
 * STATUS_DATA if they are not those that it was made from, or STATUS_NOMEM. */
enum status vocab_attach_tokenizer(struct vocab *v, const void *model, size_t size,
                                   const char *name, struct error *err);

/* What encodes the subwords, which may be used from any number of threads. NULL for a vocabulary of
 * words or bytes, and for one that has no tokenizer. */
struct subwords *vocab_subwords(const struct vocab *v);

/* Makes the byte vocabulary. Returns STATUS_NOMEM, with *out NULL, on failure. */
enum status vocab_make_bytes(struct vocab **out, struct error *err);

/* Makes the vocabulary of the ids 0 .. size - 1, each of which is a word, for tokens of another
 * program. `end` is the id that ends a text, or -1. Returns STATUS_CONFIG if the two do not fit
 * each other, or STATUS_NOMEM. */
enum status vocab_make_ids(struct vocab **out, int64_t size, int64_t end, struct error *err);

void vocab_free(struct vocab *v); /* NULL is allowed */

/* The text form and its length. It is borrowed from `v` and not NUL-terminated. */
const char *vocab_text(const struct vocab *v, size_t *size);

/* The id of word[len], or -1. In a byte vocabulary the words are single raw bytes. */
int64_t vocab_find(const struct vocab *v, const char *word, size_t len);

/* Looks up `count` <= WORD_BATCH words of a word vocabulary, several times faster for each than
 * vocab_find. The words come with their keys. */
void vocab_find_words(const struct vocab *v, const struct word *words, int count,
                      int32_t ids[WORD_BATCH]);

/* The bytes of token `id` (0 <= id < V), which are the word or the one raw byte, and their number.
 * They are borrowed and not NUL-terminated. */
const char *vocab_word(const struct vocab *v, int64_t id, size_t *len);

/* The text that token `id` of a vocabulary of subwords stands for, in which blanks are blanks. It
 * is borrowed and not NUL-terminated. */
const char *vocab_surface(const struct vocab *v, int64_t id, size_t *len);

/* What token `id` of a vocabulary of subwords is. */
enum subword_kind vocab_kind(const struct vocab *v, int64_t id);

int64_t vocab_size(const struct vocab *v);

/* How a text is divided into the words, TEXT_SPLIT_BYTES for a byte vocabulary. */
struct text_rule vocab_rule(const struct vocab *v);
bool vocab_is_bytes(const struct vocab *v);

/* The ids of VOCAB_EOS and VOCAB_UNK, -1 where the vocabulary has none (as in a byte one). Of
 * subwords they are those of a line end, which is a newline, its byte or </s>, and of the piece for
 * what is unknown. */
int64_t vocab_eos(const struct vocab *v);
int64_t vocab_unk(const struct vocab *v);

/* XXH3 (64 bits) of the text form. Shards and checkpoints of the same vocabulary agree in it. */
uint64_t vocab_hash(const struct vocab *v);

#endif
