/* Reads a text in blocks and threads them to the threads of a pass. */
#include "data/text_blocks.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/pieces.h"
#include "data/subwords.h"
#include "data/word.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

/* What the threads of a pass have in common. */
struct shared {
    const struct text_pass *pass;
    int fd;
    int64_t total; /* bytes of the file, 0 if not known */

    pthread_mutex_t reading; /* protects the fields down to `ended` */
    char *carry;             /* owns [block_bytes], the word cut off at the last block's end */
    size_t carried;
    int64_t offset, line; /* of the carried bytes */
    int64_t next;         /* number of the next block */
    bool line_open;       /* the last byte read was not a newline */
    bool ended;           /* nothing more to read, or reading failed */

    pthread_mutex_t finishing; /* protects the fields below */
    pthread_cond_t advanced;
    int64_t finished; /* number of the first block not finished */
    bool failed;
    enum status status;
    struct error err;
};

/* One thread of a pass. */
struct pass_thread {
    struct shared *shared;
    void *worker;
    char *buffer; /* owns [block_bytes + 1 + WORD_PADDING] */
    pthread_t thread;
    bool started;
};

static int64_t count_lines(const char *text, size_t size)
{
    int64_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += text[i] == '\n';
    return n;
}

int64_t text_block_line(const struct text_block *block, size_t at)
{
    return block->line + count_lines(block->text, at);
}

static bool word_mode(const struct text_pass *pass)
{
    return pass->rule.split != TEXT_SPLIT_BYTES;
}

/* Reads the next block, of size 0 at the end. The caller holds shared->reading. */
static enum status next_block(struct shared *shared, char *buffer, struct text_block *block,
                              struct error *err)
{
    const struct text_pass *pass = shared->pass;
    size_t size = shared->carried;
    bool end = false;
    memcpy(buffer, shared->carry, size);
    shared->carried = 0;
    TRY(text_source_read(pass->source, shared->fd, shared->offset, buffer, pass->block_bytes, &size,
                         &end, err));
    size_t cut = size;
    if (pass->rule.split == TEXT_SPLIT_SUBWORDS && !end)
        cut = subwords_cut(buffer, size);
    else if (word_mode(pass) && !end) {
        cut = pieces_cut(pass->rule.split, buffer, size);
        if (cut == 0)
            return error_set(err, STATUS_DATA,
                             "%s:%lld: %s of more than %zu bytes (at byte %lld): is this text? "
                             "--bytes reads any file",
                             pass->source->name, (long long)shared->line,
                             pass->rule.split == TEXT_SPLIT_BLANKS ? "a word"
                                                                   : "a line without a blank",
                             size, (long long)shared->offset);
    }
    shared->carried = size - cut;
    memcpy(shared->carry, buffer + cut, shared->carried);
    *block = (struct text_block){.name = pass->source->name,
                                 .text = buffer,
                                 .size = cut,
                                 .offset = shared->offset,
                                 .line = shared->line,
                                 .inside = shared->line_open};
    shared->offset += (int64_t)cut;
    shared->line += count_lines(buffer, cut);
    if (cut > 0)
        shared->line_open = buffer[cut - 1] != '\n';
    if (word_mode(pass) && pass->rule.split != TEXT_SPLIT_SUBWORDS && end && shared->line_open) {
        buffer[block->size++] = '\n';
        shared->line_open = false;
    }
    shared->ended = end;
    return STATUS_OK;
}

/* Checks that a block of word mode is UTF-8. */
static enum status check_block(const struct text_pass *pass, const struct text_block *block,
                               struct error *err)
{
    if (!word_mode(pass))
        return STATUS_OK;
    size_t bad = utf8_check(block->text, block->size);
    if (bad == block->size)
        return STATUS_OK;
    return text_bad_byte(block->name, text_block_line(block, bad), (unsigned char)block->text[bad],
                         block->offset + (int64_t)bad, err);
}

/* Leaves out a byte order mark, which would be an invisible part of the first word. More than the
 * mark is in a block, which ends with white space. */
static void skip_mark(struct text_block *block)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t n = sizeof mark - 1;
    if (block->size < n || memcmp(block->text, mark, n) != 0)
        return;
    block->text += n;
    block->size -= n;
    block->offset += (int64_t)n;
}

static enum status work_on(const struct pass_thread *thread, struct text_block *block,
                           struct error *err)
{
    const struct text_pass *pass = thread->shared->pass;
    TRY(check_block(pass, block, err));
    if (word_mode(pass) && block->offset == 0)
        skip_mark(block);
    if (pass->rule.lower)
        for (size_t i = 0; i < block->size; i++)
            block->text[i] |= (char)((block->text[i] >= 'A' && block->text[i] <= 'Z') << 5);
    return pass->work(thread->worker, block, err);
}

/* Waits for the block's turn, finishes it and lets the next one go. Returns false if the pass has
 * failed. */
static bool finish_block(const struct pass_thread *thread, const struct text_block *block,
                         int64_t number, enum status status, struct error *err)
{
    struct shared *shared = thread->shared;
    const struct text_pass *pass = shared->pass;
    pthread_mutex_lock(&shared->finishing);
    while (shared->finished < number && !shared->failed)
        pthread_cond_wait(&shared->advanced, &shared->finishing);
    if (!shared->failed) {
        if (status == STATUS_OK && pass->finish != NULL && block->size > 0)
            status = pass->finish(thread->worker, block, err);
        if (status != STATUS_OK) {
            shared->failed = true;
            shared->status = status;
            shared->err = *err;
        } else if (pass->progress != NULL && block->size > 0) {
            pass->progress(pass->progress_context, pass->what, block->offset + (int64_t)block->size,
                           shared->total);
        }
        shared->finished++;
        pthread_cond_broadcast(&shared->advanced);
    }
    bool go_on = !shared->failed;
    pthread_mutex_unlock(&shared->finishing);
    return go_on;
}

static void *thread_main(void *arg)
{
    struct pass_thread *thread = arg;
    struct shared *shared = thread->shared;
    for (bool go_on = true; go_on;) {
        struct text_block block = {0};
        struct error err = {0};
        enum status status = STATUS_OK;
        pthread_mutex_lock(&shared->reading);
        if (shared->ended) {
            pthread_mutex_unlock(&shared->reading);
            break;
        }
        int64_t number = shared->next++;
        status = next_block(shared, thread->buffer, &block, &err);
        shared->ended |= status != STATUS_OK;
        pthread_mutex_unlock(&shared->reading);
        if (status == STATUS_OK && block.size > 0)
            status = work_on(thread, &block, &err);
        go_on = finish_block(thread, &block, number, status, &err);
    }
    return NULL;
}

/* The calling thread is thread 0. The pass goes on without a thread that cannot be started. */
static void run_threads(struct pass_thread *threads, int count)
{
    for (int i = 1; i < count; i++)
        threads[i].started =
            pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]) == 0;
    thread_main(&threads[0]);
    for (int i = 1; i < count; i++)
        if (threads[i].started)
            pthread_join(threads[i].thread, NULL);
}

enum status text_pass_run(const struct text_pass *pass, int64_t *bytes, struct error *err)
{
    assert(pass->threads >= 1 && pass->block_bytes >= 1);
    struct shared shared = {.pass = pass, .fd = -1, .line = 1};
    struct pass_thread *threads = NULL;
    void *p = NULL;
    enum status status;
    pthread_mutex_init(&shared.reading, NULL);
    pthread_mutex_init(&shared.finishing, NULL);
    pthread_cond_init(&shared.advanced, NULL);
    TRY_OUT(text_source_begin(pass->source, pass->seekable, &shared.fd, &shared.total, err));
    TRY_OUT(mem_alloc(&p, pass->block_bytes, 1, err));
    shared.carry = p;
    TRY_OUT(mem_alloc(&p, (size_t)pass->threads, sizeof *threads, err));
    threads = p;
    for (int i = 0; i < pass->threads; i++) {
        threads[i].shared = &shared;
        threads[i].worker = pass->workers[i];
        TRY_OUT(mem_alloc(&p, pass->block_bytes + 1 + WORD_PADDING, 1, err));
        threads[i].buffer = p;
    }
    run_threads(threads, pass->threads);
    *bytes = shared.offset;
    status = shared.status;
    if (shared.failed)
        *err = shared.err;
    else if (shared.offset == 0)
        status = error_set(err, STATUS_DATA, "%s: empty: a text is needed", pass->source->name);
out:
    for (int i = 0; threads != NULL && i < pass->threads; i++)
        mem_free(threads[i].buffer);
    mem_free(threads);
    mem_free(shared.carry);
    text_source_end(pass->source, shared.fd);
    pthread_cond_destroy(&shared.advanced);
    pthread_mutex_destroy(&shared.finishing);
    pthread_mutex_destroy(&shared.reading);
    return status;
}
