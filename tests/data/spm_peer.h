/* SentencePiece by itself, with which the program's use of it is compared. In a build without the
 * library there are none of these functions, which a test sees by the address of spm_peer_open. */
#ifndef DEQ_TESTS_DATA_SPM_PEER_H
#define DEQ_TESTS_DATA_SPM_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define PEER_WEAK
#else
#define PEER_WEAK __attribute__((weak))
#endif

/* Trains on the lines of a text with the options of spm_train, "--vocab_size=300 ...". The caller
 * frees the model with free. NULL after a failure, which is printed. */
char *spm_peer_train(const char *options, const char *text, size_t *size) PEER_WEAK;

/* Opens a model. NULL if the library refuses it. */
void *spm_peer_open(const void *model, size_t size) PEER_WEAK;
void spm_peer_close(void *peer) PEER_WEAK;

/* The ids of one line. The caller frees them with free. */
int32_t *spm_peer_encode(void *peer, const char *line, size_t size, int64_t *count) PEER_WEAK;

/* The text of the ids. The caller frees it with free. */
char *spm_peer_decode(void *peer, const int32_t *ids, int64_t count, size_t *size) PEER_WEAK;

int64_t spm_peer_pieces(void *peer) PEER_WEAK;
/* The name of a piece, valid until the peer is closed. */
const char *spm_peer_piece(void *peer, int64_t id) PEER_WEAK;

#ifdef __cplusplus
}
#endif

#endif
