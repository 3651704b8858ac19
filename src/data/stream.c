/* Reads the segments of a split ahead of their use, in a thread of its own. */
#include "data/stream.h"

#include "base/mem.h"
#include "data/shard.h"
#include "data/vocab.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SCRATCH_BYTES = 256 << 10 };

enum half_state { HALF_IDLE, HALF_WANTED, HALF_FILLING, HALF_READY };

/* One of the two read-ahead buffers. It holds segments [first, first + count) of every stream. */
struct half {
    enum half_state state;
    int64_t first, count;
    int32_t *tokens; /* borrows from `buffers`, [B][row] */
    enum status status;
    struct error err;
};

struct stream {
    struct shard_set *set; /* owns */
    int64_t B, L;          /* streams read here, and inputs of a segment */
    int64_t whole;         /* streams of the whole batch */
    int64_t unk, unknown;  /* the id of <unk>, -1 for none, and how many there are in the split */
    struct stream_partition partition;
    bool records;
    int64_t n_step;   /* tokens of a stream */
    int64_t segments; /* in an epoch */
    int64_t step;     /* tokens from one segment to the next */
    int64_t span;     /* segments a half can hold */
    int64_t row;      /* tokens of a stream in a half, span * step, and in a text one more */
    int32_t *buffers; /* owns, both halves */
    int32_t *batch;   /* owns [2][B][L], inputs and targets */
    struct shard_buffer buffer; /* owns, of the reading thread */

    int64_t epoch, segment; /* what stream_next returns next */
    int current;            /* the half it lies in */

    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t changed;
    struct half half[2];
    int turn; /* the half the thread fills next */
    bool quit;
    bool running; /* the thread exists */
    pthread_t thread;
};

/* Inputs of segment k. */
static int64_t segment_length(const struct stream *s, int64_t k)
{
    int64_t left = s->n_step - 1 - k * s->L;
    return s->records || left >= s->L ? s->L : left;
}

/* The number in the whole batch of the b-th stream read here. */
static int64_t number_of(const struct stream *s, int64_t b)
{
    int64_t group = s->whole / s->partition.groups, slice = group / s->partition.ranks;
    return b / slice * group + s->partition.rank * slice + b % slice;
}

static enum status fill_half(const struct stream *s, struct half *h, struct error *err)
{
    int64_t from = h->first * s->step;
    int64_t last = h->first + h->count - 1;
    int64_t end = s->records ? (last + 1) * s->step : last * s->L + segment_length(s, last) + 1;
    for (int64_t b = 0; b < s->B; b++)
        TRY(shard_set_read(s->set, number_of(s, b) * s->n_step + from, end - from,
                           h->tokens + b * s->row, &s->buffer, err));
    return STATUS_OK;
}

static void *read_ahead(void *arg)
{
    struct stream *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        struct half *h = &s->half[s->turn];
        if (h->state != HALF_WANTED) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        h->state = HALF_FILLING;
        pthread_mutex_unlock(&s->lock);
        enum status status = fill_half(s, h, &h->err);
        pthread_mutex_lock(&s->lock);
        h->status = status;
        h->state = HALF_READY;
        s->turn = 1 - s->turn;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Asks for the segments from `first` on. The caller holds the lock. */
static void want_half(struct stream *s, struct half *h, int64_t first)
{
    int64_t left = s->segments - first;
    h->first = first;
    h->count = left < s->span ? left : s->span;
    h->state = HALF_WANTED;
    pthread_cond_broadcast(&s->changed);
}

/* The first segment after those of `h`. After the last one comes the first of the next epoch. */
static int64_t next_after(const struct stream *s, const struct half *h)
{
    return (h->first + h->count) % s->segments;
}

static void wait_for_state(struct stream *s, const struct half *h, enum half_state state)
{
    while (h->state != state)
        pthread_cond_wait(&s->changed, &s->lock);
}

/* Starts reading at s->segment. */
static void restart(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < 2; i++) {
        if (s->half[i].state == HALF_FILLING)
            wait_for_state(s, &s->half[i], HALF_READY);
        s->half[i].state = HALF_IDLE;
    }
    s->turn = s->current = 0;
    want_half(s, &s->half[0], s->segment);
    want_half(s, &s->half[1], next_after(s, &s->half[0]));
    pthread_mutex_unlock(&s->lock);
}

enum status stream_next(struct stream *s, struct batch *out, struct error *err)
{
    struct half *h = &s->half[s->current];
    pthread_mutex_lock(&s->lock);
    wait_for_state(s, h, HALF_READY);
    pthread_mutex_unlock(&s->lock);
    if (h->status != STATUS_OK) {
        *err = h->err;
        return h->status;
    }
    assert(s->segment >= h->first && s->segment < h->first + h->count);
    int64_t length = segment_length(s, s->segment);
    int64_t offset = (s->segment - h->first) * s->step, targets = s->records ? length : 1;
    int32_t *input = s->batch, *target = s->batch + s->B * s->L;
    for (int64_t b = 0; b < s->B; b++) {
        const int32_t *from = h->tokens + b * s->row + offset;
        memcpy(input + b * length, from, (size_t)length * sizeof *from);
        memcpy(target + b * length, from + targets, (size_t)length * sizeof *from);
    }
    *out = (struct batch){.B = s->B,
                          .L = length,
                          .input = input,
                          .target = target,
                          .epoch = s->epoch,
                          .segment = s->segment,
                          .first = s->records || s->segment == 0};
    if (++s->segment == h->first + h->count) {
        pthread_mutex_lock(&s->lock);
        /* The other half has what comes next, or will have it. This one takes what follows that. */
        want_half(s, h, next_after(s, &s->half[1 - s->current]));
        pthread_mutex_unlock(&s->lock);
        s->current = 1 - s->current;
    }
    if (s->segment == s->segments) {
        s->segment = 0;
        s->epoch++;
    }
    return STATUS_OK;
}

enum status stream_seek(struct stream *s, int64_t epoch, int64_t segment, struct error *err)
{
    if (epoch < 0 || segment < 0 || segment >= s->segments)
        return error_set(err, STATUS_DATA,
                         "no segment %lld of epoch %lld: an epoch has %lld segments here; was the "
                         "position saved with another batch, length or data folder?",
                         (long long)segment, (long long)epoch, (long long)s->segments);
    s->epoch = epoch;
    s->segment = segment;
    restart(s);
    return STATUS_OK;
}

/* Loads DIR/vocab.txt. */
static enum status load_vocabulary(struct vocab **out, const char *dir, struct error *err)
{
    void *p = NULL;
    size_t size = strlen(dir) + sizeof "/vocab.txt";
    *out = NULL;
    TRY(mem_alloc(&p, size, 1, err));
    char *path = p;
    snprintf(path, size, "%s/vocab.txt", dir);
    enum status status = vocab_load(out, path, err);
    if (status == STATUS_NOINPUT)
        error_set(err, status, "%s: missing: run deq tokenize (again, with --force)", path);
    mem_free(path);
    return status;
}

/* Checks that the shards were made with the folder's vocabulary, and finds its <unk>. */
static enum status check_vocabulary(const char *dir, const char *split,
                                    const struct shard_header *h, int64_t *unk, struct error *err)
{
    struct vocab *vocab = NULL;
    enum status status = STATUS_OK;
    TRY(load_vocabulary(&vocab, dir, err));
    if (vocab_hash(vocab) != h->vocab_hash || vocab_size(vocab) != h->vocab_size ||
        vocab_is_bytes(vocab) != h->bytes)
        status = error_set(err, STATUS_DATA,
                           "%s/%s-00000.bin: made with another vocabulary (of %lld words) than "
                           "vocab.txt beside it (%lld words); run deq tokenize again with --force",
                           dir, split, (long long)h->vocab_size, (long long)vocab_size(vocab));
    *unk = vocab_unk(vocab);
    vocab_free(vocab);
    return status;
}

/* Gives token files of another program the vocabulary that the caller or the folder has. */
static enum status adopt_vocabulary(struct stream *s, const struct stream_config *c,
                                    struct error *err)
{
    struct vocab *loaded = NULL;
    const struct vocab *vocab = c->vocab;
    if (vocab == NULL) {
        enum status status = load_vocabulary(&loaded, c->dir, err);
        if (status == STATUS_NOINPUT)
            return error_set(err, STATUS_CONFIG,
                             "%s: token files without a vocabulary: set model.vocab_size to the "
                             "size that their tokenizer has",
                             c->dir);
        TRY(status);
        vocab = loaded;
    }
    shard_set_take_vocabulary(s->set, vocab_size(vocab), vocab_hash(vocab));
    s->unk = vocab_unk(vocab);
    vocab_free(loaded);
    return STATUS_OK;
}

static enum status plan_partition(struct stream *s, const struct stream_config *c,
                                  struct error *err)
{
    struct stream_partition *p = &s->partition;
    *p = c->partition;
    if (p->ranks == 0)
        *p = (struct stream_partition){.groups = 1, .ranks = 1};
    if (p->groups < 1 || p->rank < 0 || p->rank >= p->ranks ||
        c->batch % (p->groups * p->ranks) != 0)
        return error_set(err, STATUS_CONFIG,
                         "batch %lld: cannot be cut into %lld parts with %lld equal shares each",
                         (long long)c->batch, (long long)p->groups, (long long)p->ranks);
    s->whole = c->batch;
    s->B = c->batch / p->ranks;
    return STATUS_OK;
}

/* Cuts B contiguous streams of text into segments. */
static enum status plan_text(struct stream *s, const struct stream_config *c, int64_t tokens,
                             struct error *err)
{
    if (tokens < 2)
        return error_set(err, STATUS_DATA,
                         "%s: the split %s has %lld tokens: at least 2 are needed", c->dir,
                         c->split, (long long)tokens);
    if (c->batch > tokens / 2)
        return error_set(err, STATUS_DATA,
                         "%s: the split %s has %lld tokens, too few for a batch of %lld: at most "
                         "%lld",
                         c->dir, c->split, (long long)tokens, (long long)c->batch,
                         (long long)(tokens / 2));
    s->n_step = tokens / s->whole;
    /* L is at most the length of the stream, which saves memory and changes no batch. */
    s->L = s->step = c->length < s->n_step - 1 ? c->length : s->n_step - 1;
    s->segments = (s->n_step - 1 + s->L - 1) / s->L;
    return STATUS_OK;
}

/* Makes each segment one record of every stream. */
static enum status plan_records(struct stream *s, const struct stream_config *c, int64_t tokens,
                                struct error *err)
{
    int64_t length = shard_set_header(s->set)->sequence, records = tokens / (2 * length);
    if (c->length < length)
        return error_set(err, STATUS_CONFIG,
                         "%s: the split %s has sequences of %lld positions, which are not cut: set "
                         "train.tgt_len and eval.tgt_len to %lld, not %lld",
                         c->dir, c->split, (long long)length, (long long)length,
                         (long long)c->length);
    if (records < s->whole)
        return error_set(err, STATUS_DATA,
                         "%s: the split %s has %lld sequences, too few for a batch of %lld", c->dir,
                         c->split, (long long)records, (long long)s->whole);
    s->records = true;
    s->L = length;
    s->step = 2 * length;
    s->segments = records / s->whole;
    s->n_step = s->segments * s->step;
    return STATUS_OK;
}

static enum status plan(struct stream *s, const struct stream_config *c, struct error *err)
{
    const struct shard_header *h = shard_set_header(s->set);
    if (c->batch < 1 || c->length < 1 || c->buffer_tokens < 0 || c->length > INT32_MAX)
        return error_set(err, STATUS_CONFIG,
                         "batch %lld, length %lld, buffer_tokens %lld: want at least 1, 1 and 0",
                         (long long)c->batch, (long long)c->length, (long long)c->buffer_tokens);
    TRY(plan_partition(s, c, err));
    if (h->sequence > 0)
        TRY(plan_records(s, c, h->split_tokens, err));
    else
        TRY(plan_text(s, c, h->split_tokens, err));
    int64_t tokens = c->buffer_tokens == 0 ? STREAM_BUFFER_TOKENS : c->buffer_tokens;
    int64_t row = tokens / 2 / s->B;
    s->span = row > s->step ? (row - 1) / s->step : 1;
    s->span = s->span < s->segments ? s->span : s->segments;
    s->row = s->span * s->step + !s->records;
    return STATUS_OK;
}

static enum status start(struct stream *s, struct error *err)
{
    void *p = NULL;
    int64_t half = s->B * s->row;
    TRY(mem_alloc(&p, 2 * (size_t)half, sizeof *s->buffers, err));
    s->buffers = p;
    s->half[0].tokens = s->buffers;
    s->half[1].tokens = s->buffers + half;
    TRY(mem_alloc(&p, 2 * (size_t)(s->B * s->L), sizeof *s->batch, err));
    s->batch = p;
    if (pthread_create(&s->thread, NULL, read_ahead, s) != 0)
        return error_set(err, STATUS_IO, "cannot start the thread that reads shards ahead");
    s->running = true;
    restart(s);
    return STATUS_OK;
}

enum status stream_open(struct stream **out, const struct stream_config *c, struct error *err)
{
    void *p = NULL;
    enum status status;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof **out, err));
    struct stream *s = p;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    const struct shard_source source = {c->dir, c->split, c->format};
    TRY_OUT(shard_set_open(&s->set, &source, err));
    if (shard_set_is_foreign(s->set))
        TRY_OUT(adopt_vocabulary(s, c, err));
    else
        TRY_OUT(check_vocabulary(c->dir, c->split, shard_set_header(s->set), &s->unk, err));
    TRY_OUT(plan(s, c, err));
    TRY_OUT(mem_alloc(&p, 1, SCRATCH_BYTES, err));
    s->buffer = (struct shard_buffer){p, SCRATCH_BYTES};
    TRY_OUT(shard_set_verify(s->set, &s->buffer, s->unk, &s->unknown, err));
    TRY_OUT(start(s, err));
    *out = s;
    return STATUS_OK;
out:
    stream_close(s);
    return status;
}

void stream_close(struct stream *s)
{
    if (s == NULL)
        return;
    if (s->running) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    shard_set_close(s->set);
    mem_free(s->buffers);
    mem_free(s->batch);
    mem_free(s->buffer.data);
    mem_free(s);
}

int64_t stream_tokens(const struct stream *s)
{
    return shard_set_header(s->set)->split_tokens / (s->records ? 2 : 1);
}

double stream_unknown(const struct stream *s)
{
    return (double)s->unknown / (double)shard_set_header(s->set)->split_tokens;
}

int64_t stream_segments(const struct stream *s)
{
    return s->segments;
}

int64_t stream_tokens_per_epoch(const struct stream *s)
{
    return s->whole * (s->records ? s->segments * s->L : s->n_step - 1);
}

int64_t stream_tokens_per_segment(const struct stream *s)
{
    return s->whole * s->L;
}

uint64_t stream_digest(const struct stream *s)
{
    return shard_set_digest(s->set);
}

uint64_t stream_vocab_hash(const struct stream *s)
{
    return shard_set_header(s->set)->vocab_hash;
}

int64_t stream_text_bytes(const struct stream *s)
{
    return shard_set_header(s->set)->text_bytes;
}

int64_t stream_words(const struct stream *s)
{
    const struct shard_header *h = shard_set_header(s->set);
    bool counted = !h->bytes || h->words < h->split_tokens; /* older programs stored the bytes */
    return counted ? h->words : 0;
}

bool stream_is_bytes(const struct stream *s)
{
    return shard_set_header(s->set)->bytes;
}

int64_t stream_recall(const struct stream *s)
{
    return shard_set_header(s->set)->recall;
}

size_t stream_memory(const struct stream *s)
{
    size_t buffers = 2 * (size_t)(s->B * s->row) * sizeof *s->buffers;
    size_t batch = 2 * (size_t)(s->B * s->L) * sizeof *s->batch;
    return sizeof *s + shard_set_memory(s->set) + buffers + batch + SCRATCH_BYTES;
}
