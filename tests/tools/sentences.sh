#!/bin/sh
# A text to learn from: LINES sentences of 3 to 10 words, of which there are fifteen, some frequent
# and some rare. The same in every call.
#
#   tests/tools/sentences.sh LINES
set -eu
awk -v lines="$1" 'BEGIN {
    srand(7)
    split("the a king son of said and went to city house then he she light", w, " ")
    for (i = 0; i < lines; i++) {
        n = 3 + int(rand() * 8)
        line = ""
        for (j = 0; j < n; j++)
            line = line " " w[1 + int(rand() * rand() * 15)]
        print line
    }
}'
