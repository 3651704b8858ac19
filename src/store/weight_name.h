/* Names of weights as training programs save them, without what their wrappers add. */
#ifndef DEQ_STORE_WEIGHT_NAME_H
#define DEQ_STORE_WEIGHT_NAME_H

#include <stddef.h>

/* Writes the name that a weight has in the published code into plain[size], NUL-terminated and cut
 * if it is longer. These parts between points are left out:
 *   - anywhere _orig_mod (torch.compile), _fsdp_wrapped_module (FSDP), _checkpoint_wrapped_module
 *     (activation checkpoints), _forward_module (Lightning Fabric) and _module (Opacus)
 *   - at the front also module (DistributedDataParallel, DeepSpeed, AveragedModel), model and net
 *     (Lightning), and state_dict
 * A leading "w:" of deq's own dumps is left out too. PyTorch's newer form of weight normalisation,
 * X.parametrizations.weight.original0 and original1, becomes X.weight_g and X.weight_v. Returns the
 * length of the whole plain name, which is at most that of `name`. */
size_t weight_name_plain(const char *name, char *plain, size_t size);

/* Writes the name in PyTorch's newer form of weight normalisation for one in the older form, or
 * else `plain` as it is, into name[size], cut if it is longer. Returns the length of the whole. */
size_t weight_name_torch(const char *plain, char *name, size_t size);

#endif
