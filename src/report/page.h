/* The page of a report: one HTML file with everything in it. */
#ifndef DEQ_REPORT_PAGE_H
#define DEQ_REPORT_PAGE_H

#include "base/status.h"
#include <stddef.h>

/* STATUS_DEVICE, with the package to install, if this program was built without a chart library. */
enum status page_check_library(struct error *err);

/* Copies JSON so that it may stand inside a script element. There every < is \u003c, without which
 * a text could end the element or begin a comment. The caller frees *out with mem_free.
 * STATUS_NOMEM. */
enum status page_escape(const char *json, char **out, struct error *err);

/* Writes the page around `json`, the data that its script reads. *bytes becomes the size of the
 * file. STATUS_CANTCREATE, STATUS_IO, STATUS_NOMEM. */
enum status page_write(const char *path, const char *json, size_t *bytes, struct error *err);

#endif
