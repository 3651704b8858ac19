/* A checkpoint of a small untrained model of bytes, for tests of the library. */
#ifndef DEQ_TESTS_LIB_TINY_CHECKPOINT_H
#define DEQ_TESTS_LIB_TINY_CHECKPOINT_H

#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "deq/settings.h"
#include "store/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Writes it to a new file, whose name goes to path[64]. The caller removes the file. */
static inline void tiny_checkpoint(char path[64])
{
    static const char *const settings[] = {"model.d_model=16",
                                           "model.n_head=2",
                                           "model.d_inner=24",
                                           "model.init_std=0.15",
                                           "solver.forward.scope=sequence",
                                           "solver.forward.history=12",
                                           "solver.forward.ridge=1e-14",
                                           "solver.forward.stall=1000",
                                           "eval.tgt_len=16",
                                           "eval.mem_len=8",
                                           "eval.max_iter=100",
                                           NULL};
    struct error err;
    struct backend be;
    struct vocab *vocab;
    struct params params;
    struct snapshot_image image;
    struct config config = config_of(256, settings, SET(NULL));
    strcpy(path, "/tmp/deq-library-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_ok(cpu_open(&be, 1, &err), &err);
    assert_ok(vocab_make_bytes(&vocab, &err), &err);
    params_init(&params, &be);
    assert_ok(model_declare(&params, &config.model, &err), &err);
    assert_ok(params_commit(&params, false, &err), &err);
    assert_ok(params_initialize(&params, 23, &err), &err);
    assert_ok(snapshot_image_of_weights(&image, &config, vocab, &params, &err), &err);
    op_download(&be, image.w, DTYPE_F32, &params.w);
    assert_ok(snapshot_write(path, &image, &err), &err);
    snapshot_image_free(&image);
    params_free(&params);
    vocab_free(vocab);
    backend_close(&be);
}

#endif
