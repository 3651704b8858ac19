/* Puts the files of a report's page into the program. */
    .macro file name, path
    .globl report_\name, report_\name\()_size
report_\name:
    .incbin "\path"
1:
    .byte 0
    .balign 8
report_\name\()_size:
    .quad 1b - report_\name
    .endm

    .section .rodata
    file page_html, "src/report/page.html"
    file page_css, "src/report/page.css"
    file page_js, "src/report/page.js"
    file notice, "src/report/notice.txt"
    file chart_js, CHART_JS
    .section .note.GNU-stack, "", @progbits
