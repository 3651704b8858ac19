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
 * of before is gone; and the same command without a fault then succeeds, with the same result. A
 * run that is killed may leave temporary files and, in place of a set of files it was replacing,
 * one that is seen to be unfinished. Prints a line a scenario and kind; exit 1 if a run broke a
 * rule. */
#include "faults.h"
#include "rules.h"
#include "scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct torture {
    struct program program;
    int64_t most, only;
    bool verbose;
    int broken;
};

static void torture(const struct torture *t, struct job *j, int64_t at)
{
    struct outcome o;
    j->at = at;
    program_begin(j->s);
    program_run(&t->program, j->s, j->kind, at, &o);
    if (t->verbose)
        printf("  %lld: %d%s %s%s", (long long)at, o.code, o.reached ? "" : " (not reached)",
               o.text, o.text[0] != '\0' ? "" : "\n");
    rules_check(j, &o);
    if (j->kind != FAULT_ALLOC_ON)
        rules_check_recovery(j, &o);
}

static void torture_kind(const struct torture *t, struct job *j)
{
    int64_t calls = t->program.state->count[j->kind];
    int64_t most = t->most > 0 && t->most < calls ? t->most : calls;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    j->refused = j->absorbed = 0;
    if (t->only > 0)
        torture(t, j, t->only);
    else /* at even distances, the first and the last among them */
        for (int64_t i = 0; i < most; i++)
            torture(t, j, most == 1 ? 1 : 1 + i * (calls - 1) / (most - 1));
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%-14s %-11s %5lld calls, %5lld failed on purpose: %5lld refused, %5lld survived, %6.1f "
           "s\n",
           j->s->name, fault_name(j->kind), (long long)calls, (long long)(j->refused + j->absorbed),
           (long long)j->refused, (long long)j->absorbed,
           (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec));
}

static void torture_scenario(struct torture *t, const struct scenario *s, int only_kind)
{
    struct job j = {.program = &t->program, .s = s};
    program_begin(s);
    if (s->out != NULL)
        listing_read(s->out, &j.before);
    for (int kind = 0; kind < FAULT_COUNT; kind++) {
        if (only_kind >= 0 && kind != only_kind)
            continue;
        j.kind = (enum fault)kind;
        j.at = 0;
        program_begin(s);
        program_run(&t->program, s, j.kind, 0, &j.good);
        rules_check_good(&j);
        torture_kind(t, &j);
    }
    t->broken += j.broken;
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
    program_open(&t.program);
    scenarios_prepare(&t.program);
    for (int i = 0; i < scenario_count; i++)
        if (only == NULL || strcmp(only, scenarios[i].name) == 0) {
            torture_scenario(&t, &scenarios[i], kind);
            done++;
        }
    if (done == 0)
        fprintf(stderr, "torture: no scenario %s\n", only);
    printf("%d rules broken\n", t.broken);
    return done == 0 ? 64 : t.broken > 0;
}
