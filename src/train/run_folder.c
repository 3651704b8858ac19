/* The folder of a run. */
#include "train/run_impl.h"

#include "base/mem.h"
#include "io/atomic_file.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum status run_path(const struct run *run, char out[RUN_PATH], const char *name, struct error *err)
{
    int n = snprintf(out, RUN_PATH, "%s/%s", run->options->dir, name);
    if (n < 0 || n >= RUN_PATH)
        return error_set(err, STATUS_CANTCREATE, "%s: path too long", run->options->dir);
    return STATUS_OK;
}

bool run_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

enum status run_make_folder(const struct run *run, struct error *err)
{
    const char *dir = run->options->dir;
    char path[RUN_PATH];
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path)
        return error_set(err, STATUS_CANTCREATE, "%s: path too long", dir);
    for (char *p = path + 1;; p++) {
        char was = *p;
        if (was != '/' && was != '\0')
            continue;
        *p = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return error_set(err, STATUS_CANTCREATE, "%s: cannot make the folder: %s", path,
                             strerror(errno));
        *p = was;
        if (was == '\0')
            break;
    }
    struct stat info;
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(err, STATUS_CANTCREATE, "%s: is not a folder", dir);
    return STATUS_OK;
}

/* A folder that holds something that is no run of ours is not touched; hidden files do not count,
 * scripts keep their marks in them. */
enum status run_check_folder(const struct run *run, struct error *err)
{
    char config[RUN_PATH], last[RUN_PATH];
    TRY(run_path(run, config, "config.json", err));
    TRY(run_path(run, last, "last.bin", err));
    if (run->options->resume == RESUME_NEVER && (run_is_file(last) || run_is_file(config)))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: holds a run already: choose another --out, remove the folder, or "
                         "continue it with --resume auto",
                         run->options->dir);
    DIR *dir = opendir(run->options->dir);
    if (dir == NULL && errno == ENOENT)
        return STATUS_OK;
    if (dir == NULL)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot read the folder: %s",
                         run->options->dir, strerror(errno));
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        empty = empty && entry->d_name[0] == '.';
    closedir(dir);
    if (!empty && !run_is_file(config))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: is not empty and holds no run: choose another --out",
                         run->options->dir);
    return STATUS_OK;
}

enum status run_check_same(const struct config *now, const struct config *then, const char *path,
                           struct error *err)
{
    struct config a = *now, b = *then;
    char *left = NULL, *right = NULL;
    a.train = b.train;
    a.eval = b.eval;
    a.model.vocab_size = b.model.vocab_size;
    memcpy(a.data.dir, b.data.dir, sizeof a.data.dir);
    a.solver.forward = b.solver.forward;
    a.solver.backward = b.solver.backward;
    a.gradient = b.gradient;
    a.model.dropout = b.model.dropout;
    a.model.dropatt = b.model.dropatt;
    a.model.dropouti = b.model.dropouti;
    a.model.dropouth = b.model.dropouth;
    a.model.wdrop = b.model.wdrop;
    a.model.emb_dropout = b.model.emb_dropout;
    enum status status = config_to_json(&a, false, &left, err);
    if (status == STATUS_OK)
        status = config_to_json(&b, false, &right, err);
    if (status == STATUS_OK && strcmp(left, right) != 0)
        status = error_set(err, STATUS_CONFIG,
                           "%s: its model section differs from the configuration given: choose "
                           "another --out, or the configuration it was made with (deq info %s)",
                           path, path);
    mem_free(left);
    mem_free(right);
    return status;
}

enum status run_write_config(const struct run *run, struct error *err)
{
    char path[RUN_PATH], *text = NULL;
    TRY(run_path(run, path, "config.json", err));
    TRY(config_to_json(&run->trainer.config, true, &text, err));
    enum status status = atomic_file_put(path, text, strlen(text), err);
    mem_free(text);
    return status;
}
