/* Fills page/page.html, in which comments name what belongs in their places. */
#include "report/page.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "report/embedded.h"

#include <assert.h>
#include <string.h>

enum status page_check_library(struct error *err)
{
    if (report_chart_js_size > 0)
        return STATUS_OK;
    return error_set(err, STATUS_DEVICE,
                     "this program was built without a chart library: as root, apt-get install "
                     "libjs-chart.js, then make again (or make CHART_JS=/path/of/chart.min.js)");
}

enum status page_escape(const char *json, char **out, struct error *err)
{
    static const char escape[] = "\\u003c";
    size_t len = strlen(json), more = 0;
    for (const char *p = json; (p = strchr(p, '<')) != NULL; p++)
        more += sizeof escape - 2;
    TRY(mem_alloc((void **)out, len + more + 1, 1, err));
    char *to = *out;
    for (const char *p = json; *p != '\0'; p++) {
        if (*p != '<') {
            *to++ = *p;
            continue;
        }
        memcpy(to, escape, sizeof escape - 1);
        to += sizeof escape - 1;
    }
    return STATUS_OK;
}

struct part {
    const char *mark, *text;
    size_t len;
};

/* Writes the template, whose marks stand in the order of the parts. */
static enum status fill(struct atomic_file *f, const struct part *part, int count,
                        struct error *err)
{
    const char *at = report_page_html;
    for (int i = 0; i < count; i++) {
        const char *mark = strstr(at, part[i].mark);
        assert(mark != NULL);
        TRY(atomic_file_write(f, at, (size_t)(mark - at), err));
        TRY(atomic_file_write(f, part[i].text, part[i].len, err));
        at = mark + strlen(part[i].mark);
    }
    return atomic_file_write(f, at, strlen(at), err);
}

enum status page_write(const char *path, const char *json, size_t *bytes, struct error *err)
{
    enum status status = STATUS_OK;
    struct atomic_file *f = NULL;
    char *data = NULL;
    TRY(page_escape(json, &data, err));
    const struct part parts[] = {
        {"@NOTICE@", report_notice, report_notice_size},
        {"@STYLE@", report_page_css, report_page_css_size},
        {"@DATA@", data, strlen(data)},
        {"@CHART@", report_chart_js, report_chart_js_size},
        {"@SCRIPT@", report_page_js, report_page_js_size},
    };
    TRY_OUT(atomic_file_create(&f, path, err));
    TRY_OUT(fill(f, parts, (int)(sizeof parts / sizeof *parts), err));
    *bytes = (size_t)atomic_file_size(f);
    TRY_OUT(atomic_file_commit(&f, err));
out:
    atomic_file_abort(&f);
    mem_free(data);
    return status;
}
