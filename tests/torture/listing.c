#include "listing.h"

#include "base/atomic_file.h"
#include "data/shard.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PATH = 4096 };

_Noreturn void die(const char *what)
{
    perror(what);
    exit(70);
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

bool ends(const char *name, const char *tail)
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

/* A log is whole if every line ends; the times in it differ from run to run, and so does how often
 * the run was started. */
static void digest_log(const char *path, struct file *f)
{
    static const char start[] = "{\"event\":\"start\"";
    size_t size, n = sizeof start - 1;
    char *text = read_whole(path, &size);
    int lines = 0;
    for (size_t i = 0, begin = 0; i < size; i++) {
        if (text[i] != '\n')
            continue;
        lines += i - begin < n || memcmp(text + begin, start, n) != 0;
        begin = i + 1;
    }
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
    static uint32_t words[1024];
    const struct shard_buffer buffer = {words, sizeof words};
    struct shard_set *s = NULL;
    int64_t found;
    struct error err;
    char split[16];
    snprintf(split, sizeof split, "%.*s", (int)strcspn(name, "-"), name);
    f->whole = shard_set_open(&s, &(struct shard_source){.dir = folder, .split = split}, &err) ==
                   STATUS_OK &&
               shard_set_verify(s, &buffer, -1, &found, &err) == STATUS_OK;
    shard_set_close(s);
    digest_bytes(path, f);
}

void listing_read(const char *folder, struct listing *out)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return; /* not made */
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[PATH];
        if (e->d_name[0] == '.')
            continue;
        if (strstr(e->d_name, ATOMIC_FILE_MARK) != NULL) {
            out->temporary++;
            continue;
        }
        if (out->count == FILES)
            die("too many files");
        struct file *f = &out->file[out->count++];
        *f = (struct file){.whole = true};
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        snprintf(f->name, sizeof f->name, "%.126s", path);
        if (strcmp(e->d_name, "log.jsonl") == 0)
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

const struct file *listing_find(const struct listing *in, const char *name)
{
    for (int i = 0; i < in->count; i++)
        if (strcmp(in->file[i].name, name) == 0)
            return &in->file[i];
    return NULL;
}

bool listing_same(const struct listing *a, const struct listing *b)
{
    bool equal = a->count == b->count;
    for (int i = 0; i < a->count && equal; i++) {
        const struct file *f = listing_find(b, a->file[i].name);
        equal = f != NULL && strcmp(f->digest, a->file[i].digest) == 0;
    }
    return equal;
}
