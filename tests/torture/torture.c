/* torture: the real program, with the n-th allocation, read, write, sync, rename, ... failing.
 *
 *   torture [-s SCENARIO] [-k KIND] [-m MOST] [-n N] [-v] FOLDER
 *
 * For each scenario (a command line in a prepared folder) and kind of fault (faults.h) it counts
 * the calls of a run without faults, and then forks one run for each n in which call n fails; at
 * most MOST of them, at even distances (default: all). -n: that one alone. FOLDER is an empty one
 * for the work, best in memory. -v: a line a run.
 *
 * A run must end with exit code 0 and the result of the run without faults, or with the exit code
 * of an error and one line on stderr that begins with the command's name. No memory and no
 * descriptor is held at the end, no temporary file is left, every file in the folder is whole, none
 * of before is gone; and the same command without a fault then succeeds, with the same result.
 * Prints a line a scenario and kind; exit 1 if a run broke a rule. */
#include "faults.h"

#include "io/checkpoint.h"
#include "io/shard.h"
#include "io/vocab.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int deq_main(int argc, char **argv); /* main of cmd/main.c */

enum { PATH = 4096, FILES = 32, WORDS = 24, TEXT = 4096 };

/* --- files ------------------------------------------------------------------------------------ */

/* A file of the work folder and a digest of what it means. */
struct file {
    char name[128];
    char digest[WEIGHTS_DIGEST_TEXT];
    bool whole;
};

struct listing {
    struct file file[FILES];
    int count;
    bool leftover; /* a temporary file */
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(70);
}

static void run_shell(const char *format, const char *a, const char *b)
{
    char line[2 * PATH];
    snprintf(line, sizeof line, format, a, b);
    if (system(line) != 0)
        die(line);
}

static char *read_whole(const char *path, size_t *size)
{
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        die(path);
    char *text = malloc((size_t)st.st_size + 1);
    if (text == NULL || read(fd, text, (size_t)st.st_size) != st.st_size)
        die(path);
    *size = (size_t)st.st_size;
    text[*size] = '\0';
    close(fd);
    return text;
}

static bool ends(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

static void digest_bytes(const char *path, struct file *f)
{
    size_t size;
    char *text = read_whole(path, &size);
    snprintf(f->digest, sizeof f->digest, "%016llx", (unsigned long long)XXH3_64bits(text, size));
    free(text);
}

/* A log is whole if every line ends; the times in it differ from run to run. */
static void digest_log(const char *path, struct file *f)
{
    size_t size;
    char *text = read_whole(path, &size);
    int lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    f->whole = size == 0 || text[size - 1] == '\n';
    snprintf(f->digest, sizeof f->digest, "%d lines", lines);
    free(text);
}

static void digest_checkpoint(const char *path, struct file *f)
{
    struct checkpoint *c = NULL;
    struct error err;
    f->whole = checkpoint_open(&c, path, &err) == STATUS_OK &&
               checkpoint_verify(c, &err) == STATUS_OK &&
               checkpoint_weights_digest(c, f->digest, &err) == STATUS_OK;
    checkpoint_close(c);
}

static void digest_shard(const char *folder, const char *name, const char *path, struct file *f)
{
    static char buffer[4096] __attribute__((aligned(8)));
    struct shard_set *s = NULL;
    struct error err;
    char split[16];
    snprintf(split, sizeof split, "%.*s", (int)strcspn(name, "-"), name);
    f->whole = shard_set_open(&s, folder, split, &err) == STATUS_OK &&
               shard_set_verify(s, buffer, sizeof buffer, &err) == STATUS_OK;
    shard_set_close(s);
    digest_bytes(path, f);
}

static void list_folder(const char *folder, struct listing *out)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return; /* not made */
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[PATH];
        if (e->d_name[0] == '.')
            continue;
        if (out->count == FILES)
            die("too many files");
        struct file *f = &out->file[out->count++];
        *f = (struct file){.whole = true};
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        snprintf(f->name, sizeof f->name, "%.126s", path);
        if (strstr(e->d_name, ".tmp-") != NULL)
            out->leftover = true;
        else if (strcmp(e->d_name, "log.jsonl") == 0)
            digest_log(path, f);
        else if (ends(e->d_name, "-00000.bin"))
            digest_shard(folder, e->d_name, path, f);
        else if (ends(e->d_name, ".bin"))
            digest_checkpoint(path, f);
        else
            digest_bytes(path, f);
    }
    closedir(dir);
}

static const struct file *find(const struct listing *in, const char *name)
{
    for (int i = 0; i < in->count; i++)
        if (strcmp(in->file[i].name, name) == 0)
            return &in->file[i];
    return NULL;
}

/* Old numbered checkpoints do not count: a run that failed just before removing one leaves it to
 * the next save. */
static int counted_files(const struct listing *in)
{
    int n = 0;
    for (int i = 0; i < in->count; i++)
        n += strstr(in->file[i].name, "/step-") == NULL;
    return n;
}

static bool same(const struct listing *a, const struct listing *b)
{
    bool equal = counted_files(a) == counted_files(b);
    for (int i = 0; i < a->count && equal; i++) {
        const struct file *f = find(b, a->file[i].name);
        if (strstr(a->file[i].name, "/step-") == NULL)
            equal = f != NULL && strcmp(f->digest, a->file[i].digest) == 0;
    }
    return equal;
}

/* --- scenarios -------------------------------------------------------------------------------- */

struct scenario {
    const char *name;
    const char *prepared; /* a folder to begin with, copied to `out`; NULL: none */
    const char *out;      /* the folder the command writes; NULL: it writes none */
    const char *words[WORDS];
};

/* In folders made by prepare(): text, data, tiny.json, run1 (one step done), run (all three). */
static const struct scenario scenarios[] = {
    {"tokenize",
     NULL,
     "out",
     {"deq", "tokenize", "--train", "text", "--valid", "text", "--out", "out"}},
    {"tokenize-again",
     "data",
     "out",
     {"deq", "tokenize", "--train", "text", "--valid", "text", "--out", "out", "--force"}},
    {"train",
     NULL,
     "out",
     {"deq", "train", "-q", "--threads", "1", "--config", "tiny.json", "--out", "out"}},
    {"train-on",
     "run1",
     "out",
     {"deq", "train", "-q", "--threads", "1", "--config", "tiny.json", "--out", "out"}},
    {"eval", NULL, NULL, {"deq", "eval", "run/last.bin", "--threads", "1", "--json"}},
    {"sample",
     NULL,
     NULL,
     {"deq", "sample", "--checkpoint", "run/last.bin", "--prompt", "the king", "--tokens", "4",
      "--threads", "1"}},
    {"info", NULL, NULL, {"deq", "info", "--check", "run/last.bin"}},
    {"info-shard", NULL, NULL, {"deq", "info", "--check", "data/train-00000.bin"}},
};

static const char tiny[] =
    "{ \"data\": { \"dir\": \"data\" },\n"
    "  \"model\": { \"d_model\": 4, \"n_head\": 1, \"d_inner\": 4, \"init_std\": 0.1 },\n"
    "  \"solver\": { \"forward\": { \"max_iter\": 4 }, \"backward\": { \"max_iter\": 3 } },\n"
    "  \"train\": { \"steps\": 3, \"batch\": 2, \"tgt_len\": 6, \"mem_len\": 4, \"eval_every\": "
    "2,\n"
    "             \"checkpoint_every\": 1, \"keep_last\": 1, \"pretrain_steps\": 1 },\n"
    "  \"eval\": { \"batch\": 2, \"tgt_len\": 8, \"mem_len\": 4, \"max_iter\": 3 } }\n";

struct torture {
    struct fault_state *state; /* shared with the child */
    int output;                /* file in memory: what the child wrote to stderr */
    int printed;               /* the same for stdout */
    int64_t most, only;
    bool verbose;
    int broken;
};

/* What a run left behind. */
struct outcome {
    int code; /* exit code, or 128 + signal */
    bool reached;
    int64_t blocks, descriptors; /* held at the end beyond those of the beginning */
    char text[TEXT];             /* on stderr */
    uint64_t printed;            /* digest of stdout */
    struct listing files;
};

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
static _Noreturn void run_program(const struct torture *t, const struct scenario *s)
{
    char *argv[WORDS + 1] = {NULL};
    int argc = 0;
    for (; s->words[argc] != NULL; argc++)
        argv[argc] = (char *)s->words[argc];
    dup2(t->output, STDERR_FILENO);
    dup2(t->printed, STDOUT_FILENO);
    int before = open_descriptors();
    t->state->blocks = 0;
    t->state->armed = true;
    int code = deq_main(argc, argv);
    t->state->armed = false;
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
static void run(struct torture *t, const struct scenario *s, enum fault kind, int64_t at,
                struct outcome *o)
{
    static char text[1 << 16];
    size_t size;
    int status = 0;
    memset(o, 0, sizeof *o);
    *t->state = (struct fault_state){.kind = kind, .at = at};
    if (ftruncate(t->output, 0) != 0 || ftruncate(t->printed, 0) != 0)
        die("ftruncate");
    lseek(t->output, 0, SEEK_SET);
    lseek(t->printed, 0, SEEK_SET);
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        run_program(t, s);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    o->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    o->reached = t->state->reached;
    o->blocks = t->state->blocks;
    read_output(t->output, o->text, sizeof o->text, &size);
    read_output(t->printed, text, sizeof text, &size);
    o->printed = XXH3_64bits(text, size);
    if (s->out != NULL)
        list_folder(s->out, &o->files);
}

static void begin(const struct scenario *s)
{
    if (s->out == NULL)
        return;
    run_shell("rm -rf %s%s", s->out, "");
    if (s->prepared != NULL)
        run_shell("cp -r %s %s", s->prepared, s->out);
}

/* --- rules ------------------------------------------------------------------------------------ */

struct job {
    struct torture *t;
    const struct scenario *s;
    enum fault kind;
    int64_t at;
    struct listing before;
    struct outcome good; /* without a fault */
    int64_t refused, absorbed;
};

static void complain(struct job *j, const struct outcome *o, const char *rule)
{
    printf("BROKEN %s %s %lld: %s; exit code %d, it said: %s%s", j->s->name, fault_name(j->kind),
           (long long)j->at, rule, o->code, o->text,
           o->text[0] != '\0' && ends(o->text, "\n") ? "" : "\n");
    for (int i = 0; i < o->files.count; i++)
        printf("    %s %s%s\n", o->files.file[i].name, o->files.file[i].digest,
               o->files.file[i].whole ? "" : " DAMAGED");
    j->t->broken++;
}

/* Kinds whose fault a program must get over. The variable is for the test of this program. */
static bool is_harmless(enum fault kind)
{
    return getenv("DEQ_TORTURE_STRICT") != NULL || kind == FAULT_READ_SHORT ||
           kind == FAULT_WRITE_SHORT || kind == FAULT_INTERRUPT;
}

/* The exit codes that speak of this kind. */
static bool code_fits(enum fault kind, int code)
{
    switch (kind) {
    case FAULT_ALLOC:
    case FAULT_ALLOC_ON:
    case FAULT_LIBRARY:
        return code == 71;
    case FAULT_OPEN: /* an input, an output or a folder */
        return code == 66 || code == 73 || code == 74;
    case FAULT_READ:
        return code == 74 || code == 66;
    case FAULT_READ_END: /* the file became shorter */
        return code == 65 || code == 74 || code == 1;
    case FAULT_RENAME:
        return code == 73 || code == 74;
    default:
        return code == 74;
    }
}

static bool one_line(const struct scenario *s, const char *text)
{
    char begin[64];
    snprintf(begin, sizeof begin, "deq %s: ", s->words[1]);
    const char *end = strchr(text, '\n');
    return strncmp(text, begin, strlen(begin)) == 0 && end != NULL && end[1] == '\0';
}

/* Rules that hold for the folder after any run. */
static void check_files(struct job *j, const struct outcome *o)
{
    if (o->files.leftover)
        complain(j, o, "a temporary file is left");
    for (int i = 0; i < o->files.count; i++)
        if (!o->files.file[i].whole)
            complain(j, o, "a file is damaged");
}

/* What was there is there, as it was or as it should become. */
static void check_kept(struct job *j, const struct outcome *o)
{
    for (int i = 0; i < j->before.count; i++) {
        const struct file *old = &j->before.file[i];
        bool goes = find(&j->good.files, old->name) == NULL; /* an old numbered checkpoint */
        if (!goes && find(&o->files, old->name) == NULL)
            complain(j, o, "a file is lost");
    }
}

/* oneDNN fills buffers it was refused: its own crash is no fault of ours, and like kill -9. */
static bool crashed_inside(const struct job *j, const struct outcome *o)
{
    bool signal = o->code > 128 || strstr(o->text, "AddressSanitizer: SEGV") != NULL;
    return j->kind == FAULT_LIBRARY && signal;
}

static void check(struct job *j, const struct outcome *o)
{
    if (crashed_inside(j, o)) {
        j->refused++;
        return;
    }
    if (o->blocks != 0)
        complain(j, o, "memory is held at the end");
    if (o->code == 101) {
        complain(j, o, "a descriptor is open at the end");
    } else if (o->code == 0) {
        j->absorbed++;
        if (!same(&o->files, &j->good.files))
            complain(j, o, "success with another result");
        if (j->s->out == NULL && strcmp(j->s->name, "eval") != 0 && o->printed != j->good.printed)
            complain(j, o, "success with another output");
    } else {
        j->refused++;
        if (is_harmless(j->kind))
            complain(j, o, "not to be noticed, but it failed");
        else if (!code_fits(j->kind, o->code))
            complain(j, o, "wrong exit code");
        if (!one_line(j->s, o->text))
            complain(j, o, "not one line of the command");
    }
    check_files(j, o);
    check_kept(j, o);
}

/* The same command, without a fault: it must succeed from whatever is there. */
static void check_recovery(struct job *j, const struct outcome *failed)
{
    struct outcome o;
    struct scenario again = *j->s;
    if (j->s->out == NULL || failed->code == 0 || same(&failed->files, &j->good.files))
        return;
    run(j->t, &again, j->kind, 0, &o);
    if (o.code != 0 || !same(&o.files, &j->good.files))
        complain(j, &o, "the same command afterwards does not give the same result");
}

static void torture(struct job *j, int64_t at)
{
    struct outcome o;
    j->at = at;
    begin(j->s);
    run(j->t, j->s, j->kind, at, &o);
    if (j->t->verbose)
        printf("  %lld: %d%s %s%s", (long long)at, o.code, o.reached ? "" : " (not reached)",
               o.text, o.text[0] != '\0' ? "" : "\n");
    check(j, &o);
    if (j->kind != FAULT_ALLOC_ON)
        check_recovery(j, &o);
}

static void torture_kind(struct job *j)
{
    int64_t calls = j->t->state->count[j->kind];
    int64_t most = j->t->most > 0 && j->t->most < calls ? j->t->most : calls;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    j->refused = j->absorbed = 0;
    if (j->t->only > 0)
        torture(j, j->t->only);
    else /* at even distances, the first and the last among them */
        for (int64_t i = 0; i < most; i++)
            torture(j, most == 1 ? 1 : 1 + i * (calls - 1) / (most - 1));
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%-14s %-11s %5lld calls, %5lld failed on purpose: %5lld refused, %5lld survived, %6.1f "
           "s\n",
           j->s->name, fault_name(j->kind), (long long)calls, (long long)(j->refused + j->absorbed),
           (long long)j->refused, (long long)j->absorbed,
           (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec));
}

static void torture_scenario(struct torture *t, const struct scenario *s, int only_kind)
{
    struct job j = {.t = t, .s = s};
    begin(s);
    if (s->out != NULL)
        list_folder(s->out, &j.before);
    for (int kind = 0; kind < FAULT_COUNT; kind++) {
        if (only_kind >= 0 && kind != only_kind)
            continue;
        j.kind = (enum fault)kind;
        j.at = 0;
        begin(s);
        run(t, s, j.kind, 0, &j.good);
        if (j.good.code != 0 || j.good.blocks != 0)
            complain(&j, &j.good, "the run without a fault fails");
        check_files(&j, &j.good);
        torture_kind(&j);
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

static void prepared(struct torture *t, const char *const *words)
{
    struct scenario s = {.name = "prepare"};
    struct outcome o;
    for (int i = 0; words[i] != NULL; i++)
        s.words[i] = words[i];
    run(t, &s, FAULT_ALLOC, 0, &o);
    if (o.code != 0) {
        fprintf(stderr, "torture: cannot prepare: %s", o.text);
        exit(70);
    }
}

static void prepare(struct torture *t)
{
    FILE *f = fopen("tiny.json", "w");
    if (f == NULL || fputs(tiny, f) < 0 || fclose(f) != 0)
        die("tiny.json");
    f = fopen("text", "w");
    if (f == NULL)
        die("text");
    for (int i = 0; i < 12; i++)
        fprintf(f, "the king said to the son of the king %d\n", i % 5);
    if (fclose(f) != 0)
        die("text");
    prepared(t, (const char *[]){"deq", "tokenize", "--train", "text", "--valid", "text", "--out",
                                 "data", NULL});
    prepared(t, (const char *[]){"deq", "train", "-q", "--threads", "1", "--config", "tiny.json",
                                 "--set", "train.steps=1", "--out", "run1", NULL});
    prepared(t, (const char *[]){"deq", "train", "-q", "--threads", "1", "--config", "tiny.json",
                                 "--out", "run", NULL});
}

static int kind_of(const char *name)
{
    for (int i = 0; i < FAULT_COUNT; i++)
        if (strcmp(name, fault_name((enum fault)i)) == 0)
            return i;
    fprintf(stderr, "torture: no kind %s; there are:\n", name);
    for (int i = 0; i < FAULT_COUNT; i++)
        fprintf(stderr, "  %-12s %s\n", fault_name((enum fault)i), fault_what((enum fault)i));
    exit(64);
}

int main(int argc, char **argv)
{
    struct torture t = {0};
    const char *only = NULL;
    int kind = -1, option, done = 0;
    while ((option = getopt(argc, argv, "s:k:m:n:v")) != -1) {
        if (option == 's')
            only = optarg;
        else if (option == 'k')
            kind = kind_of(optarg);
        else if (option == 'm')
            t.most = atoll(optarg);
        else if (option == 'n')
            t.only = atoll(optarg);
        else
            t.verbose = true;
    }
    if (optind != argc - 1 || chdir(argv[optind]) != 0) {
        fprintf(stderr, "usage: torture [-s SCENARIO] [-k KIND] [-m MOST] [-n N] [-v] FOLDER\n");
        return 64;
    }
    optind = 1;
    t.state =
        mmap(NULL, sizeof *t.state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    t.output = memfd_create("stderr", MFD_CLOEXEC);
    t.printed = memfd_create("stdout", MFD_CLOEXEC);
    if (t.state == MAP_FAILED || t.output < 0 || t.printed < 0)
        die("torture");
    faults_use(t.state);
    prepare(&t);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (only == NULL || strcmp(only, scenarios[i].name) == 0) {
            torture_scenario(&t, &scenarios[i], kind);
            done++;
        }
    if (done == 0)
        fprintf(stderr, "torture: no scenario %s\n", only);
    printf("%d rules broken\n", t.broken);
    return done == 0 ? 64 : t.broken > 0;
}
