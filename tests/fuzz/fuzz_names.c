/* Names of weights, as wrappers of a training leave them: the input is a name. What is left is no
 * longer than the name, the last part of it stays, and no wrapper is left between parts. */
#include "fuzz.h"

#include "store/weight_name.h"

/* The part of `plain` at offset `at`, if that many bytes of it are `word`. */
static bool is_part(const char *plain, size_t at, const char *word)
{
    size_t n = strlen(word);
    return strncmp(plain + at, word, n) == 0 && plain[at + n] == '.';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *name = malloc(size + 1), *plain = malloc(size + 1), cut[8];
    if (name == NULL || plain == NULL)
        abort();
    memcpy(name, data, size);
    name[size] = '\0';
    size_t whole = strlen(name), len = weight_name_plain(name, plain, size + 1);
    FUZZ_ASSERT(len <= whole && plain[len] == '\0' && strlen(plain) == len);
    FUZZ_ASSERT(weight_name_plain(name, cut, sizeof cut) == len);
    FUZZ_ASSERT(strncmp(cut, plain, sizeof cut - 1) == 0 && strlen(cut) < sizeof cut);
    const char *point = strrchr(plain, '.'), *tail = point != NULL ? point + 1 : plain;
    size_t n = strlen(tail);
    if (strcmp(tail, "weight_g") != 0 && strcmp(tail, "weight_v") != 0)
        FUZZ_ASSERT(n <= whole && strcmp(name + whole - n, tail) == 0);
    for (size_t i = 0; i < len; i++)
        if (i == 0 || plain[i - 1] == '.') {
            FUZZ_ASSERT(!is_part(plain, i, "_orig_mod"));
            FUZZ_ASSERT(!is_part(plain, i, "_fsdp_wrapped_module"));
            FUZZ_ASSERT(i > 0 || !is_part(plain, i, "module"));
        }
    free(plain);
    free(name);
    return 0;
}
