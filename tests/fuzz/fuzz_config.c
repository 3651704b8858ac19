/* A configuration: as a file, as text and as an assignment of --set. What is accepted is written
 * and read again without a change. */
#include "fuzz.h"

#include "base/mem.h"
#include "config/config.h"

enum { KEY_LONGEST = 40 }; /* bytes; the longest known key has 30 */

/* One input in 16, for what takes a hundred times as long as all else: printing the shortest
 * decimals, and finding the key nearest to a long text that is none. */
static bool chosen(const uint8_t *data, size_t size)
{
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += data[i];
    return sum % 16 == 0;
}

static void round_trip(const struct config *c)
{
    struct config again;
    struct error err;
    char *text = NULL;
    config_defaults(&again);
    if (config_to_json(c, false, &text, &err) != STATUS_OK)
        return; /* no memory */
    FUZZ_ASSERT(config_parse(&again, text, "again", &err) == STATUS_OK);
    FUZZ_ASSERT(memcmp(c, &again, sizeof again) == 0);
    mem_free(text);
}

/* As the text of --set. */
static void assign(const uint8_t *data, size_t size)
{
    struct config c;
    struct error err;
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (strcspn(text, "=") <= KEY_LONGEST || chosen(data, size)) {
        config_defaults(&c);
        enum status status = config_set(&c, text, &err);
        if (status != STATUS_OK)
            fuzz_refused(&err, status, STATUS_CONFIG, "");
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config c;
    struct error err;
    const char *path = fuzz_file(data, size);
    config_defaults(&c);
    enum status status = config_load(&c, path, &err);
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_CONFIG, path);
    } else {
        status = config_resolve(&c, 0, &err);
        if (status != STATUS_OK)
            fuzz_refused(&err, status, STATUS_CONFIG, "");
        if (chosen(data, size)) /* also one that does not fit together */
            round_trip(&c);
    }
    assign(data, size);
    return 0;
}
