/* Takes apart names of weights. */
#include "store/weight_name.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Parts that wrappers of a module add wherever the wrapped module stands. */
static const char *const wrappers[] = {"_orig_mod", "_fsdp_wrapped_module",
                                       "_checkpoint_wrapped_module", "_forward_module", "_module"};
/* Names of attributes that hold the whole model. */
static const char *const holders[] = {"module", "model", "net", "state_dict"};

/* What PyTorch's weight normalisation was called before it became a parametrization. */
static const struct {
    const char *since, *before;
} renamed[] = {{"parametrizations.weight.original0", "weight_g"},
               {"parametrizations.weight.original1", "weight_v"}};

static bool is_one_of(const char *part, size_t len, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == len && memcmp(part, list[i], len) == 0)
            return true;
    return false;
}

static bool is_wrapper(const char *part, size_t len)
{
    return is_one_of(part, len, wrappers, sizeof wrappers / sizeof *wrappers);
}

static bool is_holder(const char *part, size_t len)
{
    return is_one_of(part, len, holders, sizeof holders / sizeof *holders);
}

/* A name that grows from parts. Bytes beyond `size` are counted only. */
struct plain_name {
    char *text;
    size_t size, len;
};

static void add(struct plain_name *n, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++, n->len++)
        if (n->len + 1 < n->size)
            n->text[n->len] = bytes[i];
}

size_t weight_name_plain(const char *name, char *plain, size_t size)
{
    struct plain_name n = {.text = plain, .size = size};
    bool front = true;
    if (strncmp(name, "w:", 2) == 0)
        name += 2;
    for (const char *p = name;;) {
        for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
            if (strcmp(p, renamed[i].since) == 0)
                p = renamed[i].before;
        size_t len = strcspn(p, ".");
        bool last = p[len] == '\0';
        /* The last part is the weight's own name, whatever it is. */
        if (last || !(is_wrapper(p, len) || (front && is_holder(p, len)))) {
            add(&n, ".", front ? 0 : 1);
            add(&n, p, len);
            front = false;
        }
        if (last)
            break;
        p += len + 1;
    }
    if (size > 0)
        plain[n.len < size ? n.len : size - 1] = '\0';
    return n.len;
}

size_t weight_name_torch(const char *plain, char *name, size_t size)
{
    const char *dot = strrchr(plain, '.'), *last = dot != NULL ? dot + 1 : plain, *end = last;
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
        if (strcmp(last, renamed[i].before) == 0)
            end = renamed[i].since;
    return (size_t)snprintf(name, size, "%.*s%s", (int)(last - plain), plain, end);
}
