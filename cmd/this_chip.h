/* This machine's processor as a chip to plan for. */
#ifndef DEQ_CMD_THIS_CHIP_H
#define DEQ_CMD_THIS_CHIP_H

#include "bench/chip.h"

/* Measures the peaks (bench/roof.h), and what a large product and a copy from memory to memory
 * reach of them, with the threads of `be`, a processor's backend. Takes about a second.
 * STATUS_NOMEM, and STATUS_DEVICE if the processor lacks the precision. */
enum status this_chip(struct chip *chip, struct backend *be, enum precision precision,
                      struct error *err);

#endif
