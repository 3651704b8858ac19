#include "rules.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(struct job *j, const struct outcome *o, const char *rule)
{
    printf("BROKEN %s %s %lld: %s; exit code %d, it said: %s%s", j->s->name, fault_name(j->kind),
           (long long)j->at, rule, o->code, o->text,
           o->text[0] != '\0' && ends(o->text, "\n") ? "" : "\n");
    for (int i = 0; i < o->files.count; i++)
        printf("    %s %s%s\n", o->files.file[i].name, o->files.file[i].digest,
               o->files.file[i].whole ? "" : " DAMAGED");
    j->broken++;
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

/* A process that was killed could not do anything about it. */
static bool was_killed(const struct job *j, const struct outcome *o)
{
    return j->kind == FAULT_KILL && o->code == 128 + SIGKILL;
}

/* Rules that hold for the folder after any run. */
static void check_files(struct job *j, const struct outcome *o)
{
    if (o->files.temporary > 0 && !was_killed(j, o))
        complain(j, o, "a temporary file is left");
    for (int i = 0; i < o->files.count; i++)
        if (!o->files.file[i].whole)
            complain(j, o, "a file is damaged");
}

/* What was there is there, as it was or as it should become. Killed while it replaces a set of
 * files, a program leaves one that is seen to be unfinished. */
static void check_kept(struct job *j, const struct outcome *o)
{
    if (was_killed(j, o) && j->s->mark != NULL && listing_find(&o->files, j->s->mark) == NULL)
        return;
    for (int i = 0; i < j->before.count; i++) {
        const struct file *old = &j->before.file[i];
        bool goes =
            listing_find(&j->good.files, old->name) == NULL; /* an old numbered checkpoint */
        if (!goes && listing_find(&o->files, old->name) == NULL)
            complain(j, o, "a file is lost");
    }
}

/* oneDNN fills buffers it was refused: its own crash is no fault of ours, and like kill -9. */
static bool crashed_inside(const struct job *j, const struct outcome *o)
{
    bool signal = o->code > 128 || strstr(o->text, "AddressSanitizer: SEGV") != NULL;
    return j->kind == FAULT_LIBRARY && signal;
}

void rules_check(struct job *j, const struct outcome *o)
{
    if (crashed_inside(j, o)) {
        j->refused++;
        return;
    }
    if (was_killed(j, o)) {
        j->refused++;
        check_files(j, o);
        check_kept(j, o);
        return;
    }
    if (o->blocks != 0)
        complain(j, o, "memory is held at the end");
    if (o->code == 101) {
        complain(j, o, "a descriptor is open at the end");
    } else if (o->code == 0) {
        j->absorbed++;
        if (!listing_same(&o->files, &j->good.files))
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
void rules_check_recovery(struct job *j, const struct outcome *failed)
{
    struct outcome o;
    struct scenario again = *j->s;
    int count = 0;
    if (j->s->out == NULL || failed->code == 0 || listing_same(&failed->files, &j->good.files))
        return;
    while (again.words[count] != NULL)
        count++;
    again.words[count] = was_killed(j, failed) ? j->s->insist : NULL;
    program_run(j->program, &again, j->kind, 0, &o);
    bool stale = o.files.temporary > 0 && !j->s->single;
    if (o.code != 0 || stale || !listing_same(&o.files, &j->good.files))
        complain(j, &o, "the same command afterwards does not give the same result");
}

void rules_check_good(struct job *j)
{
    if (j->good.code != 0 || j->good.blocks != 0)
        complain(j, &j->good, "the run without a fault fails");
    check_files(j, &j->good);
}
