/* Prints results as JSON and refuses to overwrite files. */
#include "cmd/output.h"

#include "base/mem.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

void output_warn_unknown(const char *command, double share, const char *which, const char *dir)
{
    if (share > OUTPUT_UNKNOWN_MAX)
        fprintf(stderr,
                "deq %s: warning: %.1f %% of the %s tokens are <unk>, so that the perplexity "
                "says little of the text in %s: a model with a larger vocabulary, or of bytes "
                "(deq tokenize --bytes), reads more of it\n",
                command, 100 * share, which, dir);
}

void output_json_begin(struct json_writer *w)
{
    json_write_begin(w, false);
    json_write_object(w, NULL);
}

enum status output_json_print(struct json_writer *w, struct error *err)
{
    char *text = NULL;
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    puts(text);
    mem_free(text);
    return STATUS_OK;
}

bool output_reader_gone(int fd)
{
    struct pollfd wait = {.fd = fd};
    return poll(&wait, 1, 0) > 0 && (wait.revents & POLLERR) && !(wait.revents & POLLHUP);
}

enum status output_check_new(const char *path, bool force, struct error *err)
{
    struct stat info;
    if (force || lstat(path, &info) != 0)
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE, "%s: is there already; --force replaces it", path);
}

/* Endings that promise another format than ours, and what writes it. */
static const struct {
    const char *ending, *format;
} foreign[] = {{".pt", "PyTorch"},     {".pth", "PyTorch"},   {".ckpt", "PyTorch"},
               {".pkl", "Python"},     {".pickle", "Python"}, {".npz", "numpy"},
               {".npy", "numpy"},      {".h5", "HDF5"},       {".hdf5", "HDF5"},
               {".msgpack", "Flax"},   {".onnx", "ONNX"},     {".gguf", "llama.cpp"},
               {".ggml", "llama.cpp"}, {".pb", "TensorFlow"}, {".tflite", "TensorFlow"},
               {".safetensors", NULL}};

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), len = strlen(ending);
    return n >= len && strcasecmp(path + n - len, ending) == 0;
}

enum status output_check_ending(const char *path, const char *ours, struct error *err)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        size_t stem = strlen(path) - strlen(foreign[i].ending);
        if (!ends_with(path, foreign[i].ending) || strcmp(foreign[i].ending, ours) == 0)
            continue;
        if (foreign[i].format == NULL)
            return error_set(err, STATUS_USAGE,
                             "--out %s: this writes a checkpoint, as --out %.*s%s; deq export "
                             "writes safetensors",
                             path, (int)stem, path, ours);
        return error_set(err, STATUS_USAGE,
                         "--out %s: files of %s are not written here; name it %.*s%s, which %s",
                         path, foreign[i].format, (int)stem, path, ours,
                         strcmp(ours, ".safetensors") == 0
                             ? "safetensors.torch.load_file reads in Python"
                             : "deq eval, deq sample and deq train read");
    }
    return STATUS_OK;
}
