#include "program.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int deq_main(int argc, char **argv); /* main of cmd/main.c */

void program_open(struct program *p)
{
    p->state =
        mmap(NULL, sizeof *p->state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p->output = memfd_create("stderr", MFD_CLOEXEC);
    p->printed = memfd_create("stdout", MFD_CLOEXEC);
    if (p->state == MAP_FAILED || p->output < 0 || p->printed < 0)
        die("torture");
    faults_use(p->state);
}

static int open_descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* In the child: the program, and what it still holds when it is done. */
static _Noreturn void run_program(const struct program *p, const struct scenario *s)
{
    char *argv[WORDS + 1] = {NULL};
    int argc = 0;
    for (; s->words[argc] != NULL; argc++)
        argv[argc] = (char *)s->words[argc];
    dup2(p->output, STDERR_FILENO);
    dup2(p->printed, STDOUT_FILENO);
    int before = open_descriptors();
    p->state->blocks = 0;
    p->state->armed = true;
    int code = deq_main(argc, argv);
    p->state->armed = false;
    fflush(stdout);
    if (open_descriptors() != before)
        code = 101;
    exit(code);
}

static void read_output(int fd, char *text, size_t room, size_t *size)
{
    ssize_t n = pread(fd, text, room - 1, 0);
    *size = n > 0 ? (size_t)n : 0;
    text[*size] = '\0';
}

/* One run in the folder as it is. */
void program_run(const struct program *p, const struct scenario *s, enum fault kind, int64_t at,
                 struct outcome *o)
{
    static char text[1 << 16];
    size_t size;
    int status = 0;
    memset(o, 0, sizeof *o);
    *p->state = (struct fault_state){.kind = kind, .at = at};
    if (ftruncate(p->output, 0) != 0 || ftruncate(p->printed, 0) != 0)
        die("ftruncate");
    lseek(p->output, 0, SEEK_SET);
    lseek(p->printed, 0, SEEK_SET);
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        run_program(p, s);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    o->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    o->reached = p->state->reached;
    o->blocks = p->state->blocks;
    read_output(p->output, o->text, sizeof o->text, &size);
    read_output(p->printed, text, sizeof text, &size);
    o->printed = XXH3_64bits(text, size);
    if (s->out != NULL)
        listing_read(s->out, &o->files);
}

static void run_shell(const char *format, const char *a, const char *b)
{
    char line[512];
    snprintf(line, sizeof line, format, a, b);
    if (system(line) != 0)
        die(line);
}

void program_begin(const struct scenario *s)
{
    if (s->out == NULL)
        return;
    run_shell("rm -rf %s%s", s->out, "");
    if (s->prepared != NULL)
        run_shell("cp -r %s %s", s->prepared, s->out);
}
