/* Flips bits of a file and truncates it, each COUNT times at random places, and checks what its
 * reader says. The file is restored at the end.
 *
 *   damage [-n COUNT] [-s SEED] KIND FILE
 *
 * A checkpoint or a shard must be refused.
 *
 * A vocab (beside shards) must be refused, unless only its last newline is missing.
 *
 * A log loses its damaged lines, which must be counted. A missing line must be noticed, unless only
 * the last newline is missing.
 *
 * A safetensors file must be refused if it is cut. The format has no checksum, so that a flipped
 * number or letter of a name makes another valid file. This program writes none but in tests, and
 * deq verify compares every number that it reads with what it computes.
 *
 * A config must be refused or mean the same if it is cut. A flip may make another valid text.
 * People write this file, and a checkpoint holds its own copy under a checksum.
 *
 * A refusal is STATUS_DATA or STATUS_CONFIG with a message that names the file. Prints one line for
 * flips and one for truncations. Exits with 1 if something else happened. By default COUNT is 200
 * and SEED is 1. */
#include "base/rng.h"
#include "config/config.h"
#include "data/stream.h"
#include "run/metrics.h"
#include "store/checkpoint.h"
#include "store/safetensors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct damage {
    const char *kind, *path;
    char *data; /* owns the undamaged file */
    size_t size;
    struct rng_key key;
    uint64_t drawn;
    int64_t lines; /* of a log */
    struct config before;
};

enum verdict { REFUSED, SAME, OTHER, BROKEN };

static void die(const char *what)
{
    perror(what);
    exit(74);
}

static void put(const char *path, const char *data, size_t size)
{
    unlink(path); /* a rewritten file is forced to disk by some file systems, which is slow */
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        die(path);
}

static void get(struct damage *d)
{
    FILE *f = fopen(d->path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0)
        die(d->path);
    d->size = (size_t)ftell(f);
    d->data = malloc(d->size + 1);
    rewind(f);
    if (d->data == NULL || fread(d->data, 1, d->size, f) != d->size)
        die(d->path);
    fclose(f);
    for (size_t i = 0; i < d->size; i++)
        d->lines += d->data[i] == '\n';
}

static enum status read_checkpoint(const char *path, struct error *err)
{
    struct checkpoint *c = NULL;
    enum status status = checkpoint_open(&c, path, err);
    if (status == STATUS_OK)
        status = checkpoint_verify(c, err);
    checkpoint_close(c);
    return status;
}

/* Opens the folder of `path` as training does, with headers, checksums, ids and vocabulary. */
static enum status read_folder(const char *path, struct error *err)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash == NULL ? 1 : (int)(slash - path),
             slash == NULL ? "." : path);
    struct stream *s = NULL;
    struct stream_config c = {.dir = dir, .split = "train", .batch = 1, .length = 8};
    enum status status = stream_open(&s, &c, err);
    stream_close(s);
    return status;
}

static enum verdict judge_config(const struct damage *d, struct error *err)
{
    struct config now;
    config_defaults(&now);
    enum status status = config_load(&now, d->path, err);
    if (status == STATUS_OK)
        status = config_resolve(&now, 0, err);
    if (status != STATUS_OK)
        return status == STATUS_CONFIG ? REFUSED : BROKEN;
    return memcmp(&now, &d->before, sizeof now) == 0 ? SAME : OTHER;
}

static enum verdict judge_log(const struct damage *d, struct error *err)
{
    struct metrics *m = NULL;
    const struct metrics_position end = {INT64_MAX, INT64_MAX, d->lines};
    if (metrics_open_append(&m, d->path, &end, err) != STATUS_OK)
        return BROKEN;
    struct metrics_found found = metrics_found(m);
    metrics_close(m);
    return found.unreadable > 0 || found.missing > 0 ? REFUSED
           : found.kept == d->lines                  ? SAME
                                                     : OTHER;
}

static enum verdict judge(const struct damage *d, bool only_newline, struct error *err)
{
    enum status status = STATUS_OK;
    *err = (struct error){0};
    if (strcmp(d->kind, "config") == 0)
        return judge_config(d, err);
    if (strcmp(d->kind, "log") == 0)
        return judge_log(d, err);
    if (strcmp(d->kind, "checkpoint") == 0) {
        status = read_checkpoint(d->path, err);
    } else if (strcmp(d->kind, "safetensors") == 0) {
        struct st_file *f = NULL;
        status = st_open(&f, d->path, err);
        st_close(f);
    } else {
        status = read_folder(d->path, err);
    }
    if (status == STATUS_OK)
        return only_newline ? SAME : OTHER;
    const char *name = strcmp(d->kind, "vocab") == 0 ? "" : d->path;
    bool clear = status == STATUS_DATA && strstr(err->text, name) != NULL;
    return clear ? REFUSED : BROKEN;
}

/* The bytes before the tensors' numbers, where a flip would make another valid file. */
static size_t protected_bytes(const struct damage *d)
{
    uint64_t header = 0;
    if (strcmp(d->kind, "safetensors") != 0)
        return d->size;
    memcpy(&header, d->data, sizeof header);
    return sizeof header + (size_t)header;
}

/* Whether the verdict is as the comment at the top says. */
static bool allowed(const struct damage *d, enum verdict v, bool cut, size_t at)
{
    bool plain = strcmp(d->kind, "config") == 0 || strcmp(d->kind, "log") == 0;
    if (v == BROKEN || (v == SAME && !plain && strcmp(d->kind, "vocab") != 0))
        return false;
    if (v != OTHER)
        return true;
    if (strcmp(d->kind, "safetensors") == 0)
        return !cut && (at >= protected_bytes(d) || (d->data[at] != '"' && at >= sizeof(uint64_t)));
    return strcmp(d->kind, "config") == 0 && !cut;
}

static int try_all(struct damage *d, int64_t count, bool cut)
{
    int64_t seen[BROKEN + 1] = {0};
    int broken = 0;
    struct error err;
    char *copy = malloc(d->size);
    if (copy == NULL)
        die("malloc");
    for (int64_t i = 0; i < count; i++) {
        size_t at = rng_word(d->key, d->drawn++) % d->size;
        uint32_t bit = rng_word(d->key, d->drawn++) % 8;
        memcpy(copy, d->data, d->size);
        copy[at] = cut ? copy[at] : (char)(copy[at] ^ (1 << bit));
        put(d->path, copy, cut ? at : d->size);
        bool only_newline = cut && at + 1 == d->size && d->data[at] == '\n';
        enum verdict v = judge(d, only_newline, &err);
        seen[v]++;
        if (!allowed(d, v, cut, at)) {
            printf("%s %s at byte %zu bit %u: %s: %s\n", d->kind, cut ? "cut" : "flipped", at, bit,
                   v == OTHER ? "accepted" : "no clear refusal", err.text);
            broken++;
        }
    }
    free(copy);
    put(d->path, d->data, d->size);
    printf("%s: %lld %s: %lld refused, %lld another valid one, %lld the same\n", d->kind,
           (long long)count, cut ? "truncations" : "bit flips", (long long)seen[REFUSED],
           (long long)seen[OTHER], (long long)seen[SAME]);
    return broken;
}

int main(int argc, char **argv)
{
    struct damage d = {.key = {.seed = 1}};
    struct error err;
    int64_t count = 200;
    int option;
    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n')
            count = atoll(optarg);
        else if (option == 's')
            d.key.seed = strtoull(optarg, NULL, 10);
        else
            return 64;
    }
    if (argc != optind + 2) {
        fprintf(stderr, "usage: damage [-n COUNT] [-s SEED] KIND FILE\n");
        return 64;
    }
    d.kind = argv[optind];
    d.path = argv[optind + 1];
    get(&d);
    config_defaults(&d.before);
    if (strcmp(d.kind, "config") == 0 && (config_load(&d.before, d.path, &err) != STATUS_OK ||
                                          config_resolve(&d.before, 0, &err) != STATUS_OK)) {
        fprintf(stderr, "damage: %s\n", err.text);
        free(d.data);
        return 65;
    }
    int broken = try_all(&d, count, false) + try_all(&d, count, true);
    free(d.data);
    return broken > 0;
}
