/* A sum by two threads of OpenMP, and one by two of our own: right, or with RACE racing. The thread
 * sanitizer must complain about the wrong ones, and only about those. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 10000 };

static long total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int racing;

static void *add(void *argument)
{
    for (int i = 0; i < COUNT; i++) {
        if (!racing)
            pthread_mutex_lock(&lock);
        total++;
        if (!racing)
            pthread_mutex_unlock(&lock);
    }
    return argument;
}

static void by_threads(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, add, NULL) != 0)
        abort();
    add(NULL);
    pthread_join(other, NULL);
}

static void by_openmp(void)
{
    static long part[COUNT];
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < COUNT; i++)
        part[i] = i;
        /* the barrier between is what an OpenMP library without annotations hides */
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < COUNT; i++) {
        if (racing)
            total += part[COUNT - 1 - i];
        else
#pragma omp atomic
            total += part[COUNT - 1 - i];
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 64;
    racing = argv[2][0] == 'r';
    if (argv[1][0] == 'o')
        by_openmp();
    else
        by_threads();
    printf("%ld\n", total);
    return 0;
}
