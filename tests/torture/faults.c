#include "faults.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef __SANITIZE_ADDRESS__
#define __SANITIZE_ADDRESS__ 0
#endif

static struct fault_state *state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

const char *fault_name(enum fault kind)
{
    static const char *const names[] = {
#define X(name, text, what) text,
        FAULT_LIST(X)
#undef X
    };
    return names[kind];
}

const char *fault_what(enum fault kind)
{
    static const char *const whats[] = {
#define X(name, text, what) what,
        FAULT_LIST(X)
#undef X
    };
    return whats[kind];
}

/* Counts a call of this kind and says whether it is the one, or, for kinds that go on, one after.
 */
static bool due(enum fault kind, bool on)
{
    bool hit = false;
    if (state == NULL || !state->armed)
        return false;
    pthread_mutex_lock(&lock);
    int64_t n = ++state->count[kind];
    if (state->kind == kind && state->at > 0 && (on ? n >= state->at : n == state->at)) {
        hit = true;
        state->reached = true;
    }
    pthread_mutex_unlock(&lock);
    return hit;
}

/* The next definition of a function: the C library's, or a sanitizer's. */
#define REAL(result, name, ...)         \
    static result (*real)(__VA_ARGS__); \
    if (real == NULL)                   \
        *(void **)&real = dlsym(RTLD_NEXT, #name);

/* In front of every call of the program that changes files. */
static void before_change(void)
{
    if (due(FAULT_KILL, false))
        kill(getpid(), SIGKILL);
}

/* Whether an address is code of this executable. */
static bool is_ours(const void *address)
{
    extern const char __executable_start, etext;
    const char *at = address;
    return at >= &__executable_start && at < &etext;
}

/* --- memory ----------------------------------------------------------------------------------- */

#if __SANITIZE_ADDRESS__
static void hold(void *block)
{
    (void)block; /* the sanitizer looks for leaks itself */
}
#else
/* The blocks the program holds: a table of their addresses. */
enum { SLOTS = 1 << 20 };
static void *held[SLOTS];

static size_t slot_of(const void *block)
{
    return (size_t)(((uintptr_t)block >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 44) % SLOTS;
}

static void hold(void *block)
{
    if (state == NULL || !state->armed)
        return;
    pthread_mutex_lock(&lock);
    size_t i = slot_of(block);
    while (held[i] != NULL && held[i] != (void *)1)
        i = (i + 1) % SLOTS;
    held[i] = block;
    state->blocks++;
    pthread_mutex_unlock(&lock);
}

static void let_go(const void *block)
{
    if (state == NULL || state->blocks == 0 || block == NULL)
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = slot_of(block); held[i] != NULL; i = (i + 1) % SLOTS)
        if (held[i] == block) {
            held[i] = (void *)1;
            state->blocks--;
            break;
        }
    pthread_mutex_unlock(&lock);
}

extern void __libc_free(void *block);
void free(void *block)
{
    let_go(block);
    __libc_free(block);
}
#endif

int posix_memalign(void **out, size_t align, size_t size)
{
    REAL(int, posix_memalign, void **, size_t, size_t)
    bool ours = is_ours(__builtin_return_address(0));
    if (ours ? due(FAULT_ALLOC, false) | due(FAULT_ALLOC_ON, true) : due(FAULT_LIBRARY, false))
        return ENOMEM;
    int code = real(out, align, size);
    if (code == 0 && ours)
        hold(*out);
    return code;
}

static void *cjson_alloc(size_t size)
{
    if (due(FAULT_ALLOC, false) | due(FAULT_ALLOC_ON, true))
        return NULL;
    void *block = malloc(size);
    if (block != NULL)
        hold(block);
    return block;
}

void faults_use(struct fault_state *shared)
{
    /* through our free, which libcjson would not call where that is not the C library's name */
    cJSON_Hooks hooks = {.malloc_fn = cjson_alloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
    state = shared;
}

/* --- files ------------------------------------------------------------------------------------ */

int open(const char *path, int flags, ...)
{
    REAL(int, open, const char *, int, ...)
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if ((flags & O_CREAT) != 0 && is_ours(__builtin_return_address(0)))
        before_change();
    if (is_ours(__builtin_return_address(0)) && due(FAULT_OPEN, false)) {
        errno = EMFILE;
        return -1;
    }
    return real(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(FILE *, fopen, const char *, const char *)
    if (is_ours(__builtin_return_address(0)) && due(FAULT_OPEN, false)) {
        errno = EMFILE;
        return NULL;
    }
    return real(path, mode);
}

DIR *opendir(const char *path)
{
    REAL(DIR *, opendir, const char *)
    if (is_ours(__builtin_return_address(0)) && due(FAULT_OPEN, false)) {
        errno = EMFILE;
        return NULL;
    }
    return real(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t)
    if (is_ours(__builtin_return_address(0)))
        before_change();
    if (is_ours(__builtin_return_address(0)) && due(FAULT_OPEN, false)) {
        errno = EACCES;
        return -1;
    }
    return real(path, mode);
}

/* What becomes of a read of `size` bytes: -1 with errno, or the bytes to ask for. */
static ssize_t read_fault(size_t size)
{
    if (due(FAULT_READ, false)) {
        errno = EIO;
        return -1;
    }
    if (due(FAULT_INTERRUPT, false)) {
        errno = EINTR;
        return -1;
    }
    if (due(FAULT_READ_END, false))
        return 0;
    return due(FAULT_READ_SHORT, false) && size > 1 ? 1 : (ssize_t)size;
}

ssize_t read(int fd, void *to, size_t size)
{
    REAL(ssize_t, read, int, void *, size_t)
    ssize_t n = is_ours(__builtin_return_address(0)) ? read_fault(size) : (ssize_t)size;
    return n <= 0 ? n : real(fd, to, (size_t)n);
}

ssize_t pread(int fd, void *to, size_t size, off_t offset)
{
    REAL(ssize_t, pread, int, void *, size_t, off_t)
    ssize_t n = is_ours(__builtin_return_address(0)) ? read_fault(size) : (ssize_t)size;
    return n <= 0 ? n : real(fd, to, (size_t)n, offset);
}

/* A stream reads inside the C library, where nothing can stand in front: instead its descriptor
 * becomes one that cannot be read, a folder's. */
static void spoil(FILE *file)
{
    if (!due(FAULT_READ, false))
        return;
    int fd = openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        dup2(fd, fileno(file));
        close(fd);
    }
}

size_t fread(void *to, size_t size, size_t count, FILE *file)
{
    REAL(size_t, fread, void *, size_t, size_t, FILE *)
    if (is_ours(__builtin_return_address(0)))
        spoil(file);
    return real(to, size, count, file);
}

/* Behind getc_unlocked, when the buffer is empty. */
int __uflow(FILE *file);
int __uflow(FILE *file)
{
    REAL(int, __uflow, FILE *)
    if (is_ours(__builtin_return_address(0)))
        spoil(file);
    return real(file);
}

/* The same for a write. */
static ssize_t write_fault(size_t size)
{
    before_change();
    if (due(FAULT_WRITE, false)) {
        errno = EIO;
        return -1;
    }
    if (due(FAULT_INTERRUPT, false)) {
        errno = EINTR;
        return -1;
    }
    if (due(FAULT_WRITE_FULL, true)) {
        if (state->count[FAULT_WRITE_FULL] == state->at && size > 1)
            return (ssize_t)(size / 2);
        errno = ENOSPC;
        return -1;
    }
    return due(FAULT_WRITE_SHORT, false) && size > 1 ? 1 : (ssize_t)size;
}

ssize_t write(int fd, const void *from, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t)
    ssize_t n = is_ours(__builtin_return_address(0)) ? write_fault(size) : (ssize_t)size;
    return n <= 0 && size > 0 ? n : real(fd, from, (size_t)n);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t offset)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
    ssize_t n = is_ours(__builtin_return_address(0)) ? write_fault(size) : (ssize_t)size;
    return n <= 0 && size > 0 ? n : real(fd, from, (size_t)n, offset);
}

int fsync(int fd)
{
    REAL(int, fsync, int)
    (void)real; /* nothing here outlives a power cut, and the real one is slow */
    (void)fd;
    before_change();
    if (due(FAULT_SYNC, false)) {
        errno = EIO;
        return -1;
    }
    return 0;
}

int close(int fd)
{
    REAL(int, close, int)
    int code = real(fd);
    if (is_ours(__builtin_return_address(0)) && due(FAULT_CLOSE, false)) {
        errno = EIO;
        return -1;
    }
    return code;
}

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *)
    before_change();
    if (due(FAULT_RENAME, false)) {
        errno = EACCES;
        return -1;
    }
    return real(from, to);
}

int link(const char *from, const char *to)
{
    REAL(int, link, const char *, const char *)
    before_change();
    if (due(FAULT_RENAME, false)) {
        errno = EACCES;
        return -1;
    }
    return real(from, to);
}

int unlink(const char *path)
{
    REAL(int, unlink, const char *)
    before_change();
    return real(path);
}

int ftruncate(int fd, off_t size)
{
    REAL(int, ftruncate, int, off_t)
    if (is_ours(__builtin_return_address(0)))
        before_change();
    return real(fd, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
    if (is_ours(__builtin_return_address(0)) && due(FAULT_THREAD, false))
        return EAGAIN;
    return real(thread, attr, run, arg);
}
