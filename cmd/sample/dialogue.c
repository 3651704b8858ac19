/* deq sample --interactive: a person types a line, the model goes on, and so forth. */
#include "cmd/sample/sample.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/sample/editor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char PROMPT[] = "> ";

struct dialogue {
    const struct sample_job *job;
    struct generator g;
    struct editor *editor; /* owns, or NULL */
    char *line;            /* owns, of getline */
    size_t capacity;
    int interrupts;          /* signalfd of SIGINT, or -1 where it ends the program as ever */
    bool terminal;           /* a person types */
    struct sample_text text; /* all that was said since it began */
    bool begun;              /* there is a text, of which */
    bool line_open;          /* the last line has no end yet */
    int64_t tokens;          /* made */
    double seconds;
};

static void interrupt_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
}

void sample_dialogue_begin(void)
{
    sigset_t set;
    interrupt_set(&set);
    if (isatty(STDIN_FILENO) == 1) /* else nobody could end a dialogue with a file */
        pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Whether Ctrl-C has been typed since the last call. */
static bool interrupted(const struct dialogue *d)
{
    struct signalfd_siginfo what;
    return d->interrupts >= 0 && read(d->interrupts, &what, sizeof what) > 0;
}

/* Waits until a line has been typed. Ctrl-C empties it, as terminals do, and asks again. */
static void wait_for_line(const struct dialogue *d)
{
    struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = d->interrupts, .events = POLLIN}};
    fputs(PROMPT, stdout);
    fflush(stdout);
    while (poll(wait, 2, -1) >= 0 || errno == EINTR) {
        if (interrupted(d)) {
            printf("\n%s", PROMPT);
            fflush(stdout);
        } else if (wait[0].revents != 0) {
            return;
        }
    }
}

/* The next line, or NULL at the end of input. */
static enum status read_line(struct dialogue *d, const char **line, size_t *size, struct error *err)
{
    if (d->editor != NULL)
        return editor_read(d->editor, PROMPT, line, size, err);
    if (d->terminal)
        wait_for_line(d);
    *line = NULL;
    errno = 0;
    ssize_t got = getline(&d->line, &d->capacity, stdin);
    if (got < 0 && ferror(stdin) != 0)
        return error_set(err, STATUS_IO, "standard input: cannot read: %s", strerror(errno));
    if (got < 0)
        return STATUS_OK;
    *size = (size_t)got;
    if (d->line[*size - 1] == '\n')
        d->line[--*size] = '\0';
    *line = d->line;
    return STATUS_OK;
}

static bool ends_line(const struct dialogue *d, int32_t token)
{
    const struct vocab *v = d->job->vocab;
    size_t len;
    return vocab_is_bytes(v) ? vocab_word(v, token, &len)[0] == '\n' : token == vocab_eos(v);
}

/* Lets the model go on until the text ends or Ctrl-C is typed. Even its last token is fed, so that
 * the text can go on. */
static enum status answer(struct dialogue *d, struct error *err)
{
    struct sample_text *t = &d->text;
    double start = clock_seconds();
    TRY(sample_text_add_prompt(t, NULL, 0, err));
    while (t->tokens < d->job->tokens && !t->ended && !interrupted(d)) {
        int32_t token;
        TRY(generator_draw(&d->g, &token, err));
        TRY(sample_text_add(t, token, err));
        TRY(generator_step(&d->g, &token, err));
        d->line_open = !ends_line(d, token);
        if (!sample_show(t))
            break;
    }
    t->ended = true;
    (void)sample_show(t);
    d->tokens += t->tokens;
    d->seconds += clock_seconds() - start;
    if (t->len > t->made && t->text[t->len - 1] != '\n')
        putchar('\n');
    fflush(stdout);
    return STATUS_OK;
}

/* Feeds what a person said, behind a line end if a line is open, and shows it if it was not typed
 * here. What the vocabulary cannot spell is told. */
static enum status take(struct dialogue *d, const struct sample_prompt *said, bool show,
                        struct error *err)
{
    enum status status = STATUS_OK;
    const struct vocab *v = d->job->vocab;
    struct sample_prompt p = *said;
    struct text_encoding tokens = {0};
    char *joined = NULL;
    if (d->begun && d->line_open && (vocab_is_bytes(v) || vocab_eos(v) >= 0)) {
        TRY(mem_alloc((void **)&joined, said->size + 1, 1, err));
        joined[0] = '\n';
        memcpy(joined + 1, said->text, said->size);
        p.text = joined;
        p.size++;
    }
    TRY_OUT(sample_encode(&p, v, &tokens, err));
    TRY_OUT(generator_feed(&d->g, tokens.ids, tokens.count, err));
    d->begun = true;
    d->line_open = !ends_line(d, tokens.ids[tokens.count - 1]);
    if (said->size > 0)
        TRY_OUT(sample_text_add_prompt(&d->text, tokens.ids, tokens.count, err));
    if (!show)
        sample_text_skip(&d->text);
out:
    text_encoding_free(&tokens);
    mem_free(joined);
    return status;
}

static enum status turn(struct dialogue *d, const struct sample_prompt *said, bool show,
                        struct error *err)
{
    if (d->begun && said->size == 0) {
        sample_text_skip(&d->text);
        return answer(d, err);
    }
    enum status status = take(d, said, show, err);
    if (status != STATUS_DATA)
        return status == STATUS_OK ? answer(d, err) : status;
    fprintf(stderr, "deq sample: %s\n", err->text);
    return STATUS_OK;
}

static void forget(struct dialogue *d)
{
    const struct sample_job *job = d->job;
    generator_forget(&d->g);
    sample_text_free(&d->text);
    sample_text_begin(&d->text, job->vocab, &job->stops, job->raw);
    d->begun = d->line_open = false;
}

static bool is(const char *line, size_t size, const char *command)
{
    return size == strlen(command) && memcmp(line, command, size) == 0;
}

static enum status talk(struct dialogue *d, const struct sample_prompt *prompt, struct error *err)
{
    if (d->terminal)
        fputs("Type the beginning of a line. An empty line lets the text go on.\n"
              "Ctrl-C ends the text under way, /clear forgets all, Ctrl-D or /exit ends.\n",
              stderr);
    if (prompt->text != NULL)
        TRY(turn(d, prompt, true, err));
    for (;;) {
        struct sample_prompt said = {.name = "the line"};
        TRY(read_line(d, &said.text, &said.size, err));
        (void)interrupted(d); /* what was meant for the line */
        if (said.text == NULL && d->terminal)
            putchar('\n'); /* behind the prompt */
        if (said.text == NULL || is(said.text, said.size, "/exit") ||
            is(said.text, said.size, "/quit"))
            break;
        if (is(said.text, said.size, "/clear"))
            forget(d);
        else
            TRY(turn(d, &said, false, err));
    }
    fflush(stdout);
    if (d->job->tell && d->tokens > 0)
        sample_tell_speed(d->tokens, d->seconds, d->g.evals / (double)d->g.solved);
    return STATUS_OK;
}

enum status sample_dialogue(const struct sample_job *job, const struct sample_prompt *prompt,
                            struct error *err)
{
    enum status status = STATUS_OK;
    struct dialogue d = {.job = job, .interrupts = -1, .terminal = isatty(STDIN_FILENO) == 1};
    const struct generator_plan plan = {.model = job->model, .how = job->how, .seed = job->seed};
    sigset_t set;
    interrupt_set(&set);
    TRY_OUT(generator_create(&d.g, &plan, err));
    forget(&d);
    if (d.terminal) {
        d.interrupts = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        TRY_OUT(editor_open(&d.editor, d.interrupts, err));
    }
    TRY_OUT(talk(&d, prompt, err));
out:
    editor_close(d.editor);
    if (d.interrupts >= 0)
        close(d.interrupts);
    free(d.line); /* getline allocates */
    sample_text_free(&d.text);
    generator_free(&d.g);
    return status;
}
