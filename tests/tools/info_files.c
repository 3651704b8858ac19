/* Writes one small file of each kind that `deq info` knows into DIR, always with the same bytes.
 * They are small.bin (a checkpoint), newer.bin (a checkpoint with an unknown key in its
 * configuration), small.safetensors and train-00000.bin (a shard).
 *
 *   info_files DIR */
#include "data/shard.h"
#include "store/checkpoint.h"
#include "store/safetensors.h"

#include <stdio.h>
#include <string.h>

static enum status write_checkpoint(const char *path, const char *config, struct error *err)
{
    struct checkpoint_writer *w = NULL;
    static const float weight[6] = {0.0f, 1.5f, -2.0f, 3.25f, 1e-3f, 7.0f}, bias[3] = {1, 2, 3};
    const struct checkpoint_array tensors[] = {
        {"w:word_emb.emb_layers.0.weight", CHECKPOINT_F32, 2, (int64_t[]){2, 3}, weight},
        {"w:func.pos_ff.ff2_net.bias", CHECKPOINT_F32, 1, (int64_t[]){3}, bias},
        {"w:crit.out_layers.0.bias", CHECKPOINT_F32, 1, (int64_t[]){2}, bias},
        {"m:func.pos_ff.ff2_net.bias", CHECKPOINT_F32, 1, (int64_t[]){3}, bias}};
    enum status status = STATUS_OK;
    TRY_OUT(checkpoint_write_open(&w, path, err));
    TRY_OUT(checkpoint_write_text(w, "state", "{\"step\": 120, \"best_valid_nll\": 5.25}", err));
    TRY_OUT(checkpoint_write_text(w, "config", config, err));
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        TRY_OUT(checkpoint_write_section(w, &tensors[i], err));
    TRY_OUT(checkpoint_write_close(&w, err));
out:
    checkpoint_write_abort(&w);
    return status;
}

static enum status write_tensors(const char *path, struct error *err)
{
    static const double values[4] = {1, 2, 3, 4};
    static const int32_t one = 7;
    const struct st_tensor list[] = {
        {.name = "a", .type = ST_F64, .ndim = 2, .dim = {2, 2}, .data = values},
        {.name = "b", .type = ST_I32, .ndim = 0, .data = &one},
    };
    const struct st_meta meta = {"made", "for a test"};
    return st_write(path, list, 2, &meta, 1, err);
}

static enum status write_shard(const char *dir, struct error *err)
{
    static const uint16_t ids[10] = {0, 1, 2, 3, 4, 4, 3, 2, 1, 0};
    struct shard_writer *w = NULL;
    enum status status = STATUS_OK;
    const struct shard_writer_config config = {
        .dir = dir, .split = "train", .shard_tokens = 100, .vocab_size = 5, .vocab_hash = 0x1234};
    TRY_OUT(shard_writer_open(&w, &config, err));
    TRY_OUT(shard_writer_append(w, ids, 10, err));
    TRY_OUT(shard_writer_finish(w, 40, 8, err));
    TRY_OUT(shard_writer_commit(w, err));
out:
    shard_writer_close(w);
    return status;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    char path[4096];
    enum status status = STATUS_USAGE;
    if (argc != 2)
        goto out;
    snprintf(path, sizeof path, "%s/small.bin", argv[1]);
    TRY_OUT(write_checkpoint(path, "{\"model\": {\"d_model\": 3}}", &err));
    snprintf(path, sizeof path, "%s/newer.bin", argv[1]);
    TRY_OUT(write_checkpoint(path, "{\"model\": {\"d_new\": 3}}", &err));
    snprintf(path, sizeof path, "%s/small.safetensors", argv[1]);
    TRY_OUT(write_tensors(path, &err));
    TRY_OUT(write_shard(argv[1], &err));
out:
    if (status != STATUS_OK)
        fprintf(stderr, "info_files: %s\n", argc != 2 ? "usage: info_files DIR" : err.text);
    return (int)status;
}
