/* Operations on their way to the device.
 *
 * A call of an operation is noted with its arguments and starts later together with its neighbours,
 * as a run. A run starts when the host reads something back (download), gives memory back, uploads
 * something large, or says that a run ends (op_graph_break). It also starts when the space for
 * notes is used up. A run that comes again, with the same operations and arguments, is launched as
 * a CUDA graph. It is recorded when it comes the second time, since the first lets scratch memory
 * grow. It is compared byte by byte with what was recorded, so no caller has to promise anything,
 * and no graph is ever launched in place of other operations. What no longer comes is forgotten. If
 * CUDA refuses to record or to launch, the calls start one by one.
 *
 * A graph holds everything between two such points. A training step with a fixed number of
 * iterations forward and backward has them at its end only, where its figures are read, so it is
 * one graph, optimizer included. With adaptive clusters, whose sizes change from batch to batch,
 * there is one graph up to the clusters of the loss and one behind them. The clusters themselves
 * run call by call, those of the embedding too if its widths differ. With a tolerance in place of a
 * fixed number, each iteration is a graph of its own between two read-backs.
 *
 * What changes from step to step without changing the operations is not compared. It travels to the
 * device in front of every run, in one copy, and kernels find it there. These are keys of random
 * numbers, the rates and bias corrections of the optimizer, and the contents of small uploads
 * (tokens, targets, lists of clusters). */
#ifndef DEQ_CUDA_QUEUE_H
#define DEQ_CUDA_QUEUE_H

#include "cuda_impl.h"

#include <string.h>
#include <tuple>

/* Starts one noted call. */
typedef void (*queue_fn)(struct backend *be, const uint64_t *args);

/* STATUS_NOMEM without host memory, STATUS_DEVICE without memory of the device. */
enum status queue_open(struct cuda *cuda, struct error *err);
void queue_close(struct cuda *cuda);

/* Tells the user, if anybody listens (cuda_on_refusal). */
void queue_tell(struct backend *be, const char *text);

/* Starts what is noted, and ends the run. */
void queue_run(struct backend *be);

/* Notes a call that `start` will start, and returns the place for `words` of its arguments. With
 * `bytes` > 0 the call also has so many bytes of changing numbers. The host leaves them at *host
 * before the next call, and *at is what queue_changing takes to find them on the device. */
uint64_t *queue_note(struct backend *be, queue_fn start, size_t words, size_t bytes, void **host,
                     size_t *at);
const void *queue_changing(struct backend *be, size_t at);
/* The most bytes of changing numbers in one call. */
enum { QUEUE_CHANGING_MOST = 256 << 10 };

/* How an argument is noted. A number fills a word. Of a pointer the notes hold that it is NULL, or
 * what it leads to as it is now. Padding is cleared, or equal arguments would not look equal. */
template <class T> struct queue_arg {
    static_assert(sizeof(T) <= sizeof(uint64_t), "larger arguments go by pointer");
    static constexpr size_t words = 1;
    static void put(uint64_t *to, T x)
    {
        *to = 0;
        memcpy(to, &x, sizeof x);
    }
    static T get(const uint64_t *from)
    {
        T x;
        memcpy(&x, from, sizeof x);
        return x;
    }
};

template <class T> struct queue_arg<const T *> {
    static constexpr size_t words = 1 + (sizeof(T) + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    static void put(uint64_t *to, const T *x)
    {
        memset(to, 0, words * sizeof *to);
        if (x == NULL)
            return;
        to[0] = 1;
        memcpy(to + 1, x, sizeof *x);
#if __has_builtin(__builtin_clear_padding) /* g++ 11, and without it some graphs are recorded in \
                                              vain */
        __builtin_clear_padding(reinterpret_cast<T *>(to + 1));
#endif
    }
    static const T *get(const uint64_t *from)
    {
        return from[0] != 0 ? reinterpret_cast<const T *>(from + 1) : NULL;
    }
};

/* Notes calls of `op`, a function of a backend and arguments as above. */
template <auto op> struct queued;
template <class... A, void (*op)(struct backend *, A...)> struct queued<op> {
    static constexpr size_t words = (queue_arg<A>::words + ... + 0);

    template <class T> static T take(const uint64_t **at)
    {
        const uint64_t *from = *at;
        *at += queue_arg<T>::words;
        return queue_arg<T>::get(from);
    }
    static void start(struct backend *be, const uint64_t *args)
    {
        std::tuple<A...> all{take<A>(&args)...}; /* braces evaluate from left to right */
        std::apply([be](A... a) { op(be, a...); }, all);
    }
    static void put(uint64_t *to, A... a)
    {
        ((queue_arg<A>::put(to, a), to += queue_arg<A>::words), ...);
    }
    static void note(struct backend *be, A... a)
    {
        put(queue_note(be, start, words, 0, NULL, NULL), a...);
    }
};

/* The same for an operation with `bytes` of changing numbers, whose place is its first argument.
 * Returns where the host leaves them. */
template <auto op> struct queued_changing;
template <class... A, void (*op)(struct backend *, size_t, A...)> struct queued_changing<op> {
    static void *note(struct backend *be, size_t bytes, A... a)
    {
        void *host;
        size_t at;
        uint64_t *to = queue_note(be, queued<op>::start, queued<op>::words, bytes, &host, &at);
        queued<op>::put(to, at, a...);
        return host;
    }
};

#endif
