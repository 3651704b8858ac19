/* How a call ended, and the one message that explains a failure.
 *
 * Every function that can fail returns `enum status` and takes a `struct error *` as its last
 * argument. The message is written once, where the fault is known, and names file, place and
 * remedy. Callers pass it up unchanged, and only cmd/ prints it and exits.
 */
#ifndef DEQ_BASE_STATUS_H
#define DEQ_BASE_STATUS_H

/* X(name, exit code of sysexits.h, what it means to the user) */
#define STATUS_LIST(X)                                                    \
    X(OK, 0, "success")                                                   \
    X(CHECK, 1, "a check failed")                                         \
    X(USAGE, 64, "wrong command line")                                    \
    X(DATA, 65, "bad data in an input file")                              \
    X(NOINPUT, 66, "no such input")                                       \
    X(DEVICE, 69, "device unavailable")                                   \
    X(INTERNAL, 70, "a bug in deq")                                       \
    X(NOMEM, 71, "out of memory")                                         \
    X(CANTCREATE, 73, "cannot create an output")                          \
    X(IO, 74, "input or output error")                                    \
    X(STOPPED, 75, "stopped early and saved: run the same command again") \
    X(CONFIG, 78, "bad configuration")

enum status {
#define X(name, code, text) STATUS_##name = code,
    STATUS_LIST(X)
#undef X
};

struct error {
    enum status status;
    char text[1024]; /* one line, no trailing newline */
};

/* The meaning of `status` in words. Never NULL. */
const char *status_text(enum status status);

/* Records `status` and a printf-formatted message in `err` and returns `status`. A message longer
 * than the buffer is cut. Control characters in it become '?'. */
enum status error_set(struct error *err, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the message already in `err` (a file name, a config key). */
void error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Returns from the calling function if `call` did not end with STATUS_OK. */
#define TRY(call)                         \
    do {                                  \
        enum status try_status_ = (call); \
        if (try_status_ != STATUS_OK)     \
            return try_status_;           \
    } while (0)

/* Jumps to the label `out` if `call` did not end with STATUS_OK. A variable `enum status status`
 * must be in scope and receives what `call` returned. */
#define TRY_OUT(call)            \
    do {                         \
        status = (call);         \
        if (status != STATUS_OK) \
            goto out;            \
    } while (0)

#endif
