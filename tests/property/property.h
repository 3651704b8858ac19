/* Property tests: a property holds for values that are drawn, or RapidCheck shrinks them to a small
 * example in which it does not.
 *
 * A property is a function that draws its values with the property_* functions below, and says what
 * is wrong. RapidCheck calls it many times, with larger and larger values. After a failure it calls
 * it with smaller ones, for as long as it still fails, and prints the last failing draws. */
#ifndef DEQ_TESTS_PROPERTY_PROPERTY_H
#define DEQ_TESTS_PROPERTY_PROPERTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PROPERTY_WHY = 512 };

/* Returns whether the property holds for what it draws. `why`, of PROPERTY_WHY bytes, says what
 * does not hold. */
typedef bool (*property_fn)(void *context, char *why);

/* Draws an integer of [low, high]. It shrinks towards low. */
int64_t property_int(const char *name, int64_t low, int64_t high);
/* Draws a real number of [low, high], in steps of a 2^20th of the range. It shrinks towards low. */
double property_real(const char *name, double low, double high);
/* Draws 64 bits that do not shrink: the seed of bulk data, whose size shrinks instead. */
uint64_t property_seed(const char *name);

/* Checks the property for `runs` examples, which are the same in every run. RC_PARAMS="seed=N" in
 * the environment draws others. Returns false after a failure, which RapidCheck has then described
 * on stderr. */
bool property_check(const char *description, int runs, property_fn property, void *context);

#ifdef __cplusplus
}
#endif

#endif
