/* A line editor by libedit, with the lines of this dialogue as its history. */
#include "cmd/sample/editor.h"

#include "base/mem.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 1000, CTRL_C = 3 };

struct editor {
    EditLine *edit;
    History *history;
    const char *prompt; /* borrows */
    int interrupts;
    mbstate_t partial; /* of a character whose bytes have not all come */
};

static struct editor *editor_of(EditLine *edit)
{
    void *e = NULL;
    el_get(edit, EL_CLIENTDATA, &e);
    return e;
}

static char *get_prompt(EditLine *edit)
{
    return (char *)(uintptr_t)editor_of(edit)->prompt;
}

/* Waits for a byte. Returns 1, 0 at the end of input, and -1 on failure. An interrupt is the byte
 * that Ctrl-C would be if the terminal did not make a signal of it. */
static int get_byte(struct editor *e, char *byte)
{
    struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = e->interrupts, .events = POLLIN}};
    struct signalfd_siginfo what;
    while (poll(wait, 2, -1) < 0)
        if (errno != EINTR)
            return -1;
    if ((wait[1].revents & POLLIN) != 0 && read(e->interrupts, &what, sizeof what) > 0) {
        *byte = CTRL_C;
        return 1;
    }
    return (int)read(STDIN_FILENO, byte, 1);
}

static int get_character(EditLine *edit, wchar_t *out)
{
    struct editor *e = editor_of(edit);
    for (;;) {
        char byte;
        int got = get_byte(e, &byte);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got;
        size_t n = mbrtowc(out, &byte, 1, &e->partial);
        if (n == 0 || n == 1)
            return 1;
        if (n == (size_t)-1) /* no UTF-8: left out */
            memset(&e->partial, 0, sizeof e->partial);
    }
}

enum status editor_open(struct editor **out, int interrupts, struct error *err)
{
    struct editor *e = NULL;
    HistEvent event;
    *out = NULL;
    TRY(mem_alloc((void **)&e, 1, sizeof *e, err));
    e->interrupts = interrupts;
    setlocale(LC_CTYPE, "C.UTF-8"); /* texts are UTF-8 whatever the terminal's language */
    e->edit = el_init("deq", stdin, stdout, stderr);
    e->history = history_init();
    if (e->edit == NULL || e->history == NULL) {
        editor_close(e);
        return error_set(err, STATUS_IO, "the line editor does not start; TERM=dumb may help");
    }
    history(e->history, &event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->edit, EL_CLIENTDATA, e);
    el_set(e->edit, EL_PROMPT, get_prompt);
    el_set(e->edit, EL_EDITOR, "emacs");
    el_set(e->edit, EL_HIST, history, e->history);
    el_set(e->edit, EL_SIGNAL, 1); /* a window that changes its size, and Ctrl-Z */
    el_set(e->edit, EL_GETCFN, get_character);
    el_set(e->edit, EL_BIND, "^C", "em-kill-line", NULL);
    el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(e->edit, NULL); /* ~/.editrc */
    *out = e;
    return STATUS_OK;
}

void editor_close(struct editor *e)
{
    if (e == NULL)
        return;
    if (e->edit != NULL)
        el_end(e->edit);
    if (e->history != NULL)
        history_end(e->history);
    mem_free(e);
}

enum status editor_read(struct editor *e, const char *prompt, const char **line, size_t *size,
                        struct error *err)
{
    HistEvent event;
    int count = 0;
    e->prompt = prompt;
    *line = el_gets(e->edit, &count);
    if (*line == NULL && count < 0)
        return error_set(err, STATUS_IO, "cannot read the terminal: %s", strerror(errno));
    *size = count > 0 ? (size_t)count : 0;
    if (*line == NULL || *size == 0) {
        *line = NULL;
        return STATUS_OK;
    }
    if (*size > 1)
        history(e->history, &event, H_ENTER, *line);
    if ((*line)[*size - 1] == '\n')
        --*size;
    return STATUS_OK;
}
