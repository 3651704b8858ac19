#include "scenarios.h"

#include <stdio.h>
#include <stdlib.h>

/* In folders made by scenarios_prepare: text, data, tiny.json, run1 (one step done), run (all
 * three), weights.safetensors of that. */
const struct scenario scenarios[] = {
    {.name = "tokenize",
     .out = "out",
     .words = {"deq", "tokenize", "--train", "text", "--valid", "text", "--out", "out"},
     .insist = "--force",
     .mark = "out/vocab.txt"},
    {.name = "tokenize-again",
     .prepared = "data",
     .out = "out",
     .words = {"deq", "tokenize", "--train", "text", "--valid", "text", "--out", "out", "--force"},
     .mark = "out/vocab.txt"},
    {.name = "tokenize-share",
     .out = "out",
     .words = {"deq", "tokenize", "--train", "text", "--train", "text", "--valid-share", "20%",
               "--out", "out"},
     .insist = "--force",
     .mark = "out/vocab.txt"},
    {.name = "train",
     .out = "out",
     .words = {"deq", "train", "-q", "--threads", "1", "--config", "tiny.json", "--out", "out"}},
    {.name = "train-on",
     .prepared = "run1",
     .out = "out",
     .words = {"deq", "train", "-q", "--threads", "1", "--config", "tiny.json", "--out", "out"}},
    {.name = "eval", .words = {"deq", "eval", "run/last.bin", "--threads", "1", "--json"}},
    {.name = "sample",
     .words = {"deq", "sample", "--checkpoint", "run/last.bin", "--prompt", "the king", "--tokens",
               "4", "--threads", "1"}},
    {.name = "info", .words = {"deq", "info", "--check", "run/last.bin"}},
    {.name = "info-shard", .words = {"deq", "info", "--check", "data/train-00000.bin"}},
    {.name = "export",
     .prepared = "run",
     .out = "out",
     .words = {"deq", "export", "out/last.bin", "--out", "out/weights.safetensors", "--force"},
     .single = true},
    {.name = "import",
     .prepared = "run",
     .out = "out",
     .words = {"deq", "import", "weights.safetensors", "--out", "out/imported.bin", "--force"},
     .single = true},
};
const int scenario_count = sizeof scenarios / sizeof *scenarios;

static const char tiny[] =
    "{ \"data\": { \"dir\": \"data\" },\n"
    "  \"model\": { \"d_model\": 4, \"n_head\": 1, \"d_inner\": 4, \"init_std\": 0.1 },\n"
    "  \"solver\": { \"forward\": { \"max_iter\": 4 }, \"backward\": { \"max_iter\": 3 } },\n"
    "  \"train\": { \"steps\": 3, \"batch\": 2, \"tgt_len\": 6, \"mem_len\": 4, \"eval_every\": "
    "2,\n"
    "             \"checkpoint_every\": 1, \"keep_last\": 1, \"pretrain_steps\": 1 },\n"
    "  \"eval\": { \"batch\": 2, \"tgt_len\": 8, \"mem_len\": 4, \"max_iter\": 3 } }\n";

static void prepared(const struct program *p, const char *const *words)
{
    struct scenario s = {.name = "prepare"};
    struct outcome o;
    for (int i = 0; words[i] != NULL; i++)
        s.words[i] = words[i];
    program_run(p, &s, FAULT_ALLOC, 0, &o);
    if (o.code != 0) {
        fprintf(stderr, "torture: cannot prepare: %s", o.text);
        exit(70);
    }
}

void scenarios_prepare(const struct program *p)
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
    prepared(p, (const char *[]){"deq", "tokenize", "--train", "text", "--valid", "text", "--out",
                                 "data", NULL});
    prepared(p, (const char *[]){"deq", "train", "-q", "--threads", "1", "--config", "tiny.json",
                                 "--set", "train.steps=1", "--set", "train.pretrain_steps=0",
                                 "--out", "run1", NULL});
    prepared(p, (const char *[]){"deq", "train", "-q", "--threads", "1", "--config", "tiny.json",
                                 "--out", "run", NULL});
    prepared(
        p, (const char *[]){"deq", "export", "run/last.bin", "--out", "weights.safetensors", NULL});
}
