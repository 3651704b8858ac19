/* The files of a report's page, as they lie in report/page, and the chart library of this system.
 * The Makefile puts them into the program, so that it needs none of them where it runs. */
#ifndef DEQ_REPORT_EMBEDDED_H
#define DEQ_REPORT_EMBEDDED_H

#include <stddef.h>

/* Each is followed by a NUL that its size does not count. Without a chart library the size of
 * report_chart_js is 0. */
extern const char report_page_html[], report_page_css[], report_page_js[], report_notice[],
    report_chart_js[];
extern const size_t report_page_html_size, report_page_css_size, report_page_js_size,
    report_notice_size, report_chart_js_size;

#endif
