/* Slots of the table that record and repeat runs of operations. */
#ifndef DEQ_CUDA_RECORD_H
#define DEQ_CUDA_RECORD_H

#include "cuda_impl.h"

bool cuda_replay(struct backend *be, struct op_record *record, uint64_t key);
void cuda_record_end(struct backend *be, struct op_record *record);
void cuda_record_free(struct backend *be, struct op_record *record);

#endif
