/* The map of a training's memory: buffers, and what is in use in each phase. */
#include "cmd/plan_memory.h"

#include <stdio.h>
#include <string.h>

static const char *type_text(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return "f32";
    case DTYPE_F64:
        return "f64";
    case DTYPE_I32:
        return "i32";
    case DTYPE_U8:
        return "u8";
    case DTYPE_BF16:
        return "bf16";
    }
    return "unknown";
}

static const char *path_text(unsigned paths)
{
    return paths == PATH_SOLVE ? "solve" : paths == PATH_LAYERS ? "layers" : "any";
}

static void print_shape(char *out, size_t size, const struct tensor *t)
{
    size_t at = 0;
    for (int i = 0; i < t->ndim && at < size; i++)
        at +=
            (size_t)snprintf(out + at, size - at, "%s%lld", i > 0 ? "x" : "", (long long)t->dim[i]);
    snprintf(out + at, size - at, " %s", type_text(t->dtype));
}

static void print_phases(char *out, size_t size, const struct lifetime *life)
{
    if (life->first == PHASE_ALWAYS)
        snprintf(out, size, "always");
    else if (life->first == life->last)
        snprintf(out, size, "%s", phase_text(life->first));
    else
        snprintf(out, size, "%s to %s", phase_text(life->first), phase_text(life->last));
    if (life->paths == PATH_ANY)
        return;
    size_t at = strlen(out);
    snprintf(out + at, size - at, ", %s", path_text(life->paths));
}

/* The numbers of the buffers that have bytes in common with number i, as in 3, 7-9. */
static void print_shares(const struct workspace *ws, int i)
{
    bool any = false;
    for (int j = 0; j < ws->count; j++) {
        int first = j;
        while (j < ws->count && j != i && workspace_shares(&ws->list[i], &ws->list[j]))
            j++;
        if (j == first)
            continue;
        printf(j - first == 1 ? "%s%d" : "%s%d-%d", any ? ", " : "", first + 1, j);
        any = true;
        j--;
    }
}

static void print_buffers(const struct workspace *ws)
{
    printf("%4s  %-46s %-20s %-30s %10s %10s  %s\n", "", "buffer", "shape", "phases", "bytes",
           "offset", "shares with");
    for (int i = 0; i < ws->count; i++) {
        const struct placed_buffer *b = &ws->list[i];
        char shape[64], phases[64];
        print_shape(shape, sizeof shape, &b->shape);
        print_phases(phases, sizeof phases, &b->life);
        printf("%4d  %-46s %-20s %-30s %10zu %10zu  ", i + 1, b->name, shape, phases, b->bytes,
               b->offset);
        print_shares(ws, i);
        printf("\n");
    }
}

static void print_workspace(void *ctx, const char *owner, const struct workspace *ws)
{
    (void)ctx;
    printf("\n%s: %zu bytes in one allocation\n", owner, workspace_bytes(ws));
    print_buffers(ws);
    if (workspace_live(ws, PHASE_EMBED, PATH_ANY, PART_COUNT) ==
        workspace_peak(ws, ~0u, NULL)) /* all of it lasts */
        return;
    printf("%4s  %-46s %10s %10s\n", "", "in use", "solve", "layers");
    for (int p = 0; p < PHASE_COUNT; p++)
        printf("%4s  %-46s %10zu %10zu\n", "", phase_text((enum phase)p),
               workspace_live(ws, (enum phase)p, PATH_SOLVE, PART_COUNT),
               workspace_live(ws, (enum phase)p, PATH_LAYERS, PART_COUNT));
    printf("%4s  %-46s %10zu\n", "", "the most", workspace_peak(ws, ~0u, NULL));
}

enum status plan_memory_print(const struct config *config, const struct chip *chip,
                              struct error *err)
{
    return plan_visit(config, chip, print_workspace, NULL, err);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void write_buffer(struct json_writer *w, const struct workspace *ws, int i)
{
    const struct placed_buffer *b = &ws->list[i];
    json_write_object(w, NULL);
    json_write_string(w, "name", b->name);
    json_write_string(w, "type", type_text(b->shape.dtype));
    json_write_array(w, "shape");
    for (int k = 0; k < b->shape.ndim; k++)
        json_write_int(w, NULL, b->shape.dim[k]);
    json_write_end(w);
    json_write_string(w, "first", phase_text(b->life.first));
    json_write_string(w, "last", phase_text(b->life.last));
    json_write_string(w, "path", path_text(b->life.paths));
    json_write_string(w, "part", memory_part_text(b->part));
    json_write_int(w, "bytes", (int64_t)b->bytes);
    json_write_int(w, "offset", (int64_t)b->offset);
    json_write_array(w, "shares");
    for (int j = 0; j < ws->count; j++)
        if (j != i && workspace_shares(b, &ws->list[j]))
            json_write_int(w, NULL, j);
    json_write_end(w);
    json_write_end(w);
}

static void write_workspace(void *ctx, const char *owner, const struct workspace *ws)
{
    struct json_writer *w = ctx;
    json_write_object(w, NULL);
    json_write_string(w, "owner", owner);
    json_write_int(w, "bytes", (int64_t)workspace_bytes(ws));
    json_write_int(w, "peak", (int64_t)workspace_peak(ws, ~0u, NULL));
    json_write_array(w, "buffers");
    for (int i = 0; i < ws->count; i++)
        write_buffer(w, ws, i);
    json_write_end(w);
    json_write_array(w, "phases");
    for (int p = 0; p < PHASE_COUNT; p++) {
        json_write_object(w, NULL);
        json_write_string(w, "name", phase_text((enum phase)p));
        json_write_int(w, "solve",
                       (int64_t)workspace_live(ws, (enum phase)p, PATH_SOLVE, PART_COUNT));
        json_write_int(w, "layers",
                       (int64_t)workspace_live(ws, (enum phase)p, PATH_LAYERS, PART_COUNT));
        json_write_end(w);
    }
    json_write_end(w);
    json_write_end(w);
}

enum status plan_memory_write(struct json_writer *w, const struct config *config,
                              const struct chip *chip, struct error *err)
{
    json_write_array(w, "allocations");
    enum status status = plan_visit(config, chip, write_workspace, w, err);
    json_write_end(w);
    return status;
}
