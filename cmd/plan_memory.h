/* The map of a training's memory, as deq plan --memory prints it. */
#ifndef DEQ_CMD_PLAN_MEMORY_H
#define DEQ_CMD_PLAN_MEMORY_H

#include "base/json.h"
#include "bench/plan.h"

/* Prints every buffer: name, shape, phases, bytes, offset and what it shares memory with; then the
 * bytes in use phase by phase. STATUS_NOMEM. */
enum status plan_memory_print(const struct config *config, const struct chip *chip,
                              struct error *err);
/* The same as the array "allocations" of a JSON object. STATUS_NOMEM. */
enum status plan_memory_write(struct json_writer *w, const struct config *config,
                              const struct chip *chip, struct error *err);

#endif
