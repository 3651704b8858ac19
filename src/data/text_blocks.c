#include "data/text_blocks.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/word.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
    const struct text_pass *pass;
    int fd;
    int64_t total; /* bytes of the file, 0 if not known */

    pthread_mutex_t reading; /* over what follows */
    char *carry;             /* owns; [block_bytes], the word cut off at the last block's end */
    size_t carried;
    int64_t offset, line; /* of the carried bytes */
    int64_t next;         /* number of the next block */
    bool line_open;       /* the last byte read was not a newline */
    bool ended;           /* nothing more to read, or reading failed */

    pthread_mutex_t finishing; /* over what follows */
    pthread_cond_t advanced;
    int64_t finished; /* number of the first block not finished */
    bool failed;
    enum status status;
    struct error err;
};

/* One thread's share. */
struct hand {
    struct run *run;
    void *worker;
    char *buffer; /* owns; [block_bytes + 1 + WORD_PADDING] */
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

/* Reads until the buffer holds `room` bytes or the file ends. */
static enum status read_full(const struct run *run, char *buffer, size_t room, size_t *size,
                             bool *end, struct error *err)
{
    *end = false;
    while (*size < room && !*end) {
        ssize_t n = read(run->fd, buffer + *size, room - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, STATUS_IO, "%s: cannot read at byte %lld: %s", run->pass->path,
                             (long long)(run->offset + (int64_t)*size), strerror(errno));
        *size += (size_t)n;
        *end = n == 0;
    }
    return STATUS_OK;
}

/* Reads the next block; size 0 at the end. Wants run->reading. */
static enum status next_block(struct run *run, char *buffer, struct text_block *block,
                              struct error *err)
{
    const struct text_pass *pass = run->pass;
    size_t size = run->carried;
    bool end = false;
    memcpy(buffer, run->carry, size);
    run->carried = 0;
    TRY(read_full(run, buffer, pass->block_bytes, &size, &end, err));
    size_t cut = size;
    if (pass->words && !end) {
        while (cut > 0 && !word_is_space(buffer[cut - 1]))
            cut--;
        if (cut == 0)
            return error_set(err, STATUS_DATA,
                             "%s:%lld: a word of more than %zu bytes (at byte %lld): is this text?",
                             pass->path, (long long)run->line, size, (long long)run->offset);
        run->carried = size - cut;
        memcpy(run->carry, buffer + cut, run->carried);
    }
    *block = (struct text_block){
        .path = pass->path, .text = buffer, .size = cut, .offset = run->offset, .line = run->line};
    run->offset += (int64_t)cut;
    run->line += count_lines(buffer, cut);
    if (cut > 0)
        run->line_open = buffer[cut - 1] != '\n';
    if (pass->words && end && run->line_open) {
        buffer[block->size++] = '\n';
        run->line_open = false;
    }
    run->ended = end;
    return STATUS_OK;
}

/* What word mode asks of the bytes. */
static enum status check_block(const struct text_pass *pass, const struct text_block *block,
                               struct error *err)
{
    if (!pass->words)
        return STATUS_OK;
    size_t bad = utf8_check(block->text, block->size);
    if (bad == block->size)
        return STATUS_OK;
    return error_set(err, STATUS_DATA, "%s:%lld: %s 0x%02X (byte %lld of the file); %s", pass->path,
                     (long long)text_block_line(block, bad),
                     block->text[bad] == '\0' ? "NUL byte" : "invalid UTF-8 byte",
                     (unsigned char)block->text[bad], (long long)(block->offset + (int64_t)bad),
                     "convert the text to UTF-8 (iconv) or read it with --bytes");
}

/* A byte order mark would be an invisible part of the first word. */
static void blank_mark(const struct text_block *block)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t n = sizeof mark - 1;
    if (block->size >= n && memcmp(block->text, mark, n) == 0)
        memset(block->text, ' ', n);
}

static enum status work_on(const struct hand *hand, const struct text_block *block,
                           struct error *err)
{
    const struct text_pass *pass = hand->run->pass;
    TRY(check_block(pass, block, err));
    if (pass->words && block->offset == 0)
        blank_mark(block);
    if (pass->lower)
        for (size_t i = 0; i < block->size; i++)
            block->text[i] |= (char)((block->text[i] >= 'A' && block->text[i] <= 'Z') << 5);
    return pass->work(hand->worker, block, err);
}

/* Waits for the block's turn, finishes it and lets the next one go. False: stop. */
static bool finish_block(const struct hand *hand, const struct text_block *block, int64_t number,
                         enum status status, struct error *err)
{
    struct run *run = hand->run;
    const struct text_pass *pass = run->pass;
    pthread_mutex_lock(&run->finishing);
    while (run->finished < number && !run->failed)
        pthread_cond_wait(&run->advanced, &run->finishing);
    if (!run->failed) {
        if (status == STATUS_OK && pass->finish != NULL && block->size > 0)
            status = pass->finish(hand->worker, block, err);
        if (status != STATUS_OK) {
            run->failed = true;
            run->status = status;
            run->err = *err;
        } else if (pass->progress != NULL && block->size > 0) {
            pass->progress(pass->progress_context, pass->what, block->offset + (int64_t)block->size,
                           run->total);
        }
        run->finished++;
        pthread_cond_broadcast(&run->advanced);
    }
    bool go_on = !run->failed;
    pthread_mutex_unlock(&run->finishing);
    return go_on;
}

static void *hand_main(void *arg)
{
    struct hand *hand = arg;
    struct run *run = hand->run;
    for (bool go_on = true; go_on;) {
        struct text_block block = {0};
        struct error err = {0};
        enum status status = STATUS_OK;
        pthread_mutex_lock(&run->reading);
        if (run->ended) {
            pthread_mutex_unlock(&run->reading);
            break;
        }
        int64_t number = run->next++;
        status = next_block(run, hand->buffer, &block, &err);
        run->ended |= status != STATUS_OK;
        pthread_mutex_unlock(&run->reading);
        if (status == STATUS_OK && block.size > 0)
            status = work_on(hand, &block, &err);
        go_on = finish_block(hand, &block, number, status, &err);
    }
    return NULL;
}

static enum status open_text(struct run *run, struct error *err)
{
    const struct text_pass *pass = run->pass;
    struct stat st;
    run->fd = open(pass->path, O_RDONLY | O_CLOEXEC);
    if (run->fd < 0 || fstat(run->fd, &st) != 0)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", pass->path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: a folder, not a text", pass->path);
    if (!S_ISREG(st.st_mode) && pass->seekable)
        return error_set(err, STATUS_NOINPUT,
                         "%s: not a plain file, but it has to be read twice: write it to a file "
                         "first",
                         pass->path);
    run->total = S_ISREG(st.st_mode) ? st.st_size : 0;
    (void)posix_fadvise(run->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return STATUS_OK;
}

/* The calling thread is hand 0; a thread that cannot be started is done without. */
static void run_hands(struct hand *hands, int count)
{
    for (int i = 1; i < count; i++)
        hands[i].started = pthread_create(&hands[i].thread, NULL, hand_main, &hands[i]) == 0;
    hand_main(&hands[0]);
    for (int i = 1; i < count; i++)
        if (hands[i].started)
            pthread_join(hands[i].thread, NULL);
}

enum status text_pass_run(const struct text_pass *pass, int64_t *bytes, struct error *err)
{
    assert(pass->threads >= 1 && pass->block_bytes >= 1);
    struct run run = {.pass = pass, .fd = -1, .line = 1};
    struct hand *hands = NULL;
    void *p = NULL;
    enum status status;
    pthread_mutex_init(&run.reading, NULL);
    pthread_mutex_init(&run.finishing, NULL);
    pthread_cond_init(&run.advanced, NULL);
    TRY_OUT(open_text(&run, err));
    TRY_OUT(mem_alloc(&p, pass->block_bytes, 1, err));
    run.carry = p;
    TRY_OUT(mem_alloc(&p, (size_t)pass->threads, sizeof *hands, err));
    hands = p;
    for (int i = 0; i < pass->threads; i++) {
        hands[i].run = &run;
        hands[i].worker = pass->workers[i];
        TRY_OUT(mem_alloc(&p, pass->block_bytes + 1 + WORD_PADDING, 1, err));
        hands[i].buffer = p;
    }
    run_hands(hands, pass->threads);
    *bytes = run.offset;
    status = run.status;
    if (run.failed)
        *err = run.err;
    else if (run.offset == 0)
        status = error_set(err, STATUS_DATA, "%s: empty: a text is needed", pass->path);
out:
    for (int i = 0; hands != NULL && i < pass->threads; i++)
        mem_free(hands[i].buffer);
    mem_free(hands);
    mem_free(run.carry);
    if (run.fd >= 0)
        close(run.fd);
    pthread_cond_destroy(&run.advanced);
    pthread_mutex_destroy(&run.finishing);
    pthread_mutex_destroy(&run.reading);
    return status;
}
