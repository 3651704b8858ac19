/* Puts the files of a report's page into the program. */
    .macro file name, paths:vararg
    .globl report_\name, report_\name\()_size
report_\name:
    .irp path, \paths
    .incbin "\path"
    .endr
1:
    .byte 0
    .balign 8
report_\name\()_size:
    .quad 1b - report_\name
    .endm

    .section .rodata
    file page_html, "src/report/page/page.html"
    file page_css, "src/report/page/page.css"
    file notice, "src/report/page/notice.txt"
    file chart_js, CHART_JS
    file page_js, "src/report/page/basics.js", "src/report/page/figures.js", \
        "src/report/page/curves.js", "src/report/page/text.js", "src/report/page/settings.js", \
        "src/report/page/memory.js", "src/report/page/main.js"
    .section .note.GNU-stack, "", @progbits
