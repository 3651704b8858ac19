/* Title, headings, paragraphs and examples of manual pages. */
#include "cmd/manual/page.h"

#include "cmd/commands.h"
#include "cmd/manual/roff.h"

#include <ctype.h>
#include <string.h>

enum { PARAGRAPH_BYTES = 2048 };

static void put_capitals(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

void page_begin(FILE *out, const char *name, int section, const char *summary)
{
    /* Names of files and programs are not hyphenated, nor are lines stretched. */
    fputs(".\\\" Made by deq help --man.\n.nr HY 0\n.TH ", out);
    put_capitals(out, name);
    fprintf(out, " %d %s \"deq %s\" \"%s\"\n.ad l\n.SH NAME\n", section, deq_date(), deq_version(),
            section == 1 ? "User Commands" : "File Formats");
    roff_literal(out, name);
    fputs(" \\-\n", out);
    roff_prose(out, summary, NULL);
}

void page_section(FILE *out, const char *macro, const char *title)
{
    fprintf(out, "%s ", macro);
    if (strcmp(macro, ".SH") == 0)
        put_capitals(out, title);
    else
        fputs(title, out);
    fputc('\n', out);
}

void page_paragraphs(FILE *out, const char *text, const char *values)
{
    for (const char *p = text; *p != '\0';) {
        char paragraph[PARAGRAPH_BYTES];
        int n = (int)strcspn(p, "\n");
        snprintf(paragraph, sizeof paragraph, "%.*s", n, p);
        if (p != text)
            fputs(".PP\n", out);
        roff_prose(out, paragraph, values);
        p += n + (p[n] == '\n');
    }
}

void page_file(FILE *out, const char *name, const char *help)
{
    fputs(".TP\n", out);
    roff_usage(out, name);
    fputc('\n', out);
    roff_prose(out, help, NULL);
}

void page_examples(FILE *out, const char *const *lines)
{
    fputs(".EX\n", out);
    for (; *lines != NULL; lines++)
        roff_example(out, *lines);
    fputs(".EE\n", out);
}
