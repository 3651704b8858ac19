/* The one line of JSON that --json prints. */
#ifndef DEQ_CMD_OUTPUT_H
#define DEQ_CMD_OUTPUT_H

#include "base/json.h"

/* Begins an object, to be filled by json_write_*. */
void report_json_begin(struct json_writer *w);
/* Ends it, prints it on standard output, frees it. */
enum status report_json_print(struct json_writer *w, struct error *err);

#endif
