/* Reads all of a report of scripts/gpu-check.sh with the strict JSON reader. Prints one line about
 * the machine and a line "NAME RESULT" for each step. Exits with 1 if a field is missing or of
 * another type, or if "passed" contradicts the steps.
 *
 *   gpu_report REPORT.json */
#include "base/json.h"

#include <stdio.h>
#include <string.h>

static enum status read_step(const struct json *doc, const struct cJSON *step, bool *failed,
                             struct error *err)
{
    const char *name, *result, *note;
    double seconds;
    TRY(json_get_string(doc, step, "name", &name, err));
    TRY(json_get_string(doc, step, "result", &result, err));
    TRY(json_get_string(doc, step, "note", &note, err));
    TRY(json_get_real(doc, step, "seconds", &seconds, err));
    if (strcmp(result, "passed") != 0 && strcmp(result, "failed") != 0 &&
        strcmp(result, "skipped") != 0)
        return json_complain(doc, step, err, "result: unknown \"%s\"", result);
    if (strcmp(result, "passed") != 0 && note[0] == '\0')
        return json_complain(doc, step, err, "%s without a reason", result);
    *failed |= strcmp(result, "failed") == 0;
    printf("%s %s\n", name, result);
    return STATUS_OK;
}

static enum status read_report(const struct json *doc, struct error *err)
{
    const struct cJSON *root = json_root(doc);
    const struct cJSON *steps = json_get(root, "steps");
    static const char *const texts[] = {"gpu", "driver", "memory", "toolkit", "version"};
    bool passed, complete, failed = false;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text;
        TRY(json_get_string(doc, root, texts[i], &text, err));
        printf("%s%s", text, i + 1 < sizeof texts / sizeof *texts ? " | " : "\n");
    }
    TRY(json_get_bool(doc, root, "passed", &passed, err));
    TRY(json_get_bool(doc, root, "complete", &complete, err));
    if (steps == NULL || json_kind(steps) != JSON_ARRAY || json_size(steps) == 0)
        return json_complain(doc, root, err, "steps: want an array that is not empty");
    for (const struct cJSON *step = json_first(steps); step != NULL; step = json_next(step))
        TRY(read_step(doc, step, &failed, err));
    if (passed == failed)
        return json_complain(doc, root, err, "passed: does not follow from the steps");
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct json *doc;
    struct error err;
    if (argc != 2)
        return 64;
    enum status status = json_load(&doc, argv[1], 1 << 20, STATUS_DATA, &err);
    if (status == STATUS_OK)
        status = read_report(doc, &err);
    json_free(doc);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", err.text);
    return status != STATUS_OK;
}
