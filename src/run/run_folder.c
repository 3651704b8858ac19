/* The folder of a run, its files and its lock. */
#include "run/run_impl.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* The step of a file named step-NNNNNNNN.bin, or -1. */
static int64_t step_of_name(const char *name)
{
    long long step;
    int end = 0;
    if (sscanf(name, "step-%lld.bin%n", &step, &end) != 1 || end == 0 || name[end] != '\0')
        return -1;
    return step;
}

/* Whether the run would overwrite a file of that name, or continue from it. Other people's files,
 * such as the log of a batch system, are left alone and do not matter. */
static bool is_of_a_run(const char *name)
{
    return step_of_name(name) >= 0 || strcmp(name, "last.bin") == 0 ||
           strcmp(name, "best.bin") == 0 || strcmp(name, "log.jsonl") == 0;
}

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
    char found[RUN_PATH] = "";
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (is_of_a_run(entry->d_name))
            snprintf(found, sizeof found, "%s", entry->d_name);
    closedir(dir);
    if (found[0] != '\0' && !run_is_file(config))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: holds %.256s but no config.json, so that it is no run of this "
                         "program: choose another --out",
                         run->options->dir, found);
    return STATUS_OK;
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

/* --- numbered checkpoints --------------------------------------------------------------------- */

void run_step_name(char out[64], int64_t step)
{
    snprintf(out, 64, "step-%08lld.bin", (long long)step);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

enum status run_list_steps(const struct run *run, int64_t **steps, size_t *count, struct error *err)
{
    enum status status = STATUS_OK;
    void *list = NULL;
    size_t capacity = 0;
    *steps = NULL;
    *count = 0;
    DIR *dir = opendir(run->options->dir);
    if (dir == NULL && errno == ENOENT)
        return STATUS_OK;
    if (dir == NULL)
        return error_set(err, STATUS_IO, "%s: cannot read the folder: %s", run->options->dir,
                         strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL && status == STATUS_OK;) {
        int64_t step = step_of_name(entry->d_name);
        if (step < 0)
            continue;
        if (*count == capacity) {
            status = mem_grow(&list, capacity, 2 * capacity + 16, sizeof **steps, err);
            capacity = 2 * capacity + 16;
        }
        if (status == STATUS_OK)
            ((int64_t *)list)[(*count)++] = step;
    }
    closedir(dir);
    if (status != STATUS_OK) {
        mem_free(list);
        return status;
    }
    if (*count > 0)
        qsort(list, *count, sizeof **steps, newest_first);
    *steps = list;
    return STATUS_OK;
}

/* --- the lock --------------------------------------------------------------------------------- */

void run_unlock_folder(struct run *run)
{
    if (run->lock >= 0)
        close(run->lock);
    run->lock = -1;
}

/* Removes files that a killed process had not finished. This is safe because nobody else writes
 * here while this process holds the lock. */
static void remove_leftovers(const struct run *run)
{
    char path[RUN_PATH];
    struct error ignored;
    DIR *dir = run->lock >= 0 ? opendir(run->options->dir) : NULL;
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strstr(entry->d_name, ATOMIC_FILE_MARK) != NULL &&
            run_path(run, path, entry->d_name, &ignored) == STATUS_OK)
            (void)unlink(path);
    closedir(dir);
}

/* Tries to lock for three seconds. Processes of a job can outlive the launcher's return for a
 * moment, and a script that starts the next job at once must not be refused. */
static int lock_with_retries(int fd)
{
    enum { TRIES = 60 };
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EWOULDBLOCK || i == TRIES)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* The kernel drops the lock with the process, however it ends. On a file system without locks the
 * run goes on unlocked. */
enum status run_lock_folder(struct run *run, struct error *err)
{
    char path[RUN_PATH];
    if (run->lock >= 0)
        return STATUS_OK;
    TRY(run_path(run, path, ".lock", err));
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (run->lock < 0 && errno == ENOENT)
        return STATUS_OK;
    if (run->lock < 0)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot create: %s", path, strerror(errno));
    if (lock_with_retries(run->lock) == 0) {
        remove_leftovers(run);
        return STATUS_OK;
    }
    bool taken = errno == EWOULDBLOCK;
    run_unlock_folder(run);
    if (taken)
        return error_set(err, STATUS_CANTCREATE,
                         "%s: another process is training in it: wait for its end, or choose "
                         "another --out",
                         run->options->dir);
    return STATUS_OK;
}
