#!/usr/bin/env bats
# libdeq as other programs find it: installed, by pkg-config, from C and from Python. Its figures are
# those of the program.

load ../cli/tiny_run

setup_file() {
    tiny_run
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    build=$(cd "$(dirname "${DEQ:-build/deq}")" && pwd)
    # The .pc file names the libraries of the build that is there.
    grep -q no_cuda "$build/flags.cuda" && cuda=CUDA=0
    make -C "$root" --no-print-directory install-library BUILD="$build" $cuda PREFIX="$home/prefix" >install.log
    export root build
    export PKG_CONFIG_PATH=$home/prefix/lib/pkgconfig
    export LD_LIBRARY_PATH=$home/prefix/lib
}

setup() {
    cd "$home"
}

# The functions that deq.h declares.
declared() {
    sed -n 's/^DEQ_API .*\b\(deq_[a-z_]*\)(.*/\1/p' "$root/src/lib/deq.h" | sort
}

# The total that deq score prints for a line.
score() {
    printf %s "$1" | "$DEQ" score run/last.bin 2>/dev/null | awk '$1 == "total" { print $2 " in " $3 " tokens" }'
}

@test "nothing but the functions of deq.h is exported" {
    [ "$(declared | wc -l)" -gt 9 ]
    nm -D --defined-only prefix/lib/libdeq.so | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >shared
    diff <(declared) shared
    # Names that clash are those in sections. Common and unique names are merged by the linker.
    nm -g --defined-only prefix/lib/libdeq.a | awk '$2 ~ /^[TDBRGSWV]$/ { print $3 }' | sort >static
    diff <(declared) static
    diff <(declared) <(sed -n 's/^ *\(deq_[a-z_]*\);/\1/p' "$root/src/lib/deq.map" | sort)
    [ "$(readelf -d prefix/lib/libdeq.so | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" = libdeq.so.0 ]
}

@test "the header stands alone, in C and in C++" {
    echo '#include <deq.h>' >alone.c
    cc -std=c99 -pedantic -Wall -Wextra -Werror $(pkg-config --cflags deq) -fsyntax-only alone.c
    c++ -std=c++98 -Wall -Wextra -Werror $(pkg-config --cflags deq) -x c++ -Wno-long-long -fsyntax-only alone.c
}

@test "the example in C says what deq score and deq sample say" {
    cc -Wall -Wextra -Werror "$root/scripts/examples/line.c" $(pkg-config --cflags --libs deq) -o line
    run ./line run/last.bin "the king said"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$(score 'the king said')" ]
    [ "$(printf '%s\n' "${lines[@]:1}")" = "$("$DEQ" sample run/last.bin --prompt 'the king said' \
        --tokens 20 --top-p 0.9 2>/dev/null)" ]
    run ./line nowhere.bin
    [ "$status" -eq 1 ]
    [ "$output" = "nowhere.bin: cannot open: No such file or directory" ]
}

@test "the static library needs no other" {
    cc "$root/scripts/examples/line.c" $(pkg-config --cflags deq) prefix/lib/libdeq.a \
        $(pkg-config --static --libs deq | sed 's/-ldeq//') -o line_static
    [[ "$(ldd line_static)" != *libdeq* ]]
    [ "$(./line_static run/last.bin "the king said" | head -n 1)" = "$(score 'the king said')" ]
}

@test "the example in Python says the same" {
    DEQ_LIBRARY=prefix/lib/libdeq.so.0 run python3 "$root/scripts/examples/line.py" run/last.bin "the king said"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$(score 'the king said')" ]
    [ "$(printf '%s\n' "${lines[@]:1}")" = "$("$DEQ" sample run/last.bin --prompt 'the king said' \
        --tokens 20 --top-p 0.9 2>/dev/null)" ]
    DEQ_LIBRARY=prefix/lib/libdeq.so.0 run python3 "$root/scripts/examples/line.py" nowhere.bin x
    [ "$status" -eq 1 ]
    [ "$output" = "nowhere.bin: cannot open: No such file or directory" ]
}

# same_tokens CHECKPOINT TEXT: the figures of each token, of the library and of the program.
same_tokens() {
    cat >tokens.c <<'C'
#include <deq.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    static char text[1 << 16];
    static struct deq_token token[1 << 16];
    struct deq_options options = {.size = sizeof options, .device = "cpu", .ranks = 1};
    struct deq_error error;
    struct deq *d;
    size_t len = fread(text, 1, sizeof text, stdin);
    int64_t count = -1;
    if (argc > 1 && deq_load(&d, argv[1], &options, &error) == DEQ_OK)
        count = deq_score_text(d, text, len, token, 1 << 16, &error);
    for (int64_t i = 0; i < count; i++)
        printf("%.4f %d %d\n", token[i].logprob, token[i].rank, token[i].nfe);
    if (count < 0)
        puts(error.text);
    return count < 0;
}
C
    cc tokens.c $(pkg-config --cflags --libs deq) -o tokens
    ./tokens "$1" <"$2" >ours
    "$DEQ" score "$1" "$2" --tokens --json 2>/dev/null |
        python3 -c '
import json, sys
for line in sys.stdin:
    for p in json.loads(line).get("pieces", []):
        print("%.4f %d %d" % (p["logprob"], p["rank"], p["nfe"]))' >theirs
    [ -s ours ]
    diff ours theirs
}

@test "every token gets the figures of deq score --tokens" {
    printf 'the king said to\n\nthe son\r\nof the king' >lines
    same_tokens run/last.bin lines
}

@test "the same where the vocabulary has no token for a line's end" {
    mkdir -p noeos
    sed 's/^<eos>$/xeos/' data/vocab.txt >noeos/vocab.txt
    "$DEQ" export run/last.bin --out w.safetensors --force >/dev/null
    "$DEQ" import w.safetensors --data noeos --out noeos.bin --force >/dev/null
    printf 'the king said to\n\nthe son\r\n the\nof the king' >lines
    same_tokens noeos.bin lines
}

@test "the same for bytes" {
    printf 'the king said to\n\n  the unknown  son \r\nof the king' >lines
    "$DEQ" tokenize --bytes --train text --valid text --out bytes >/dev/null
    "$DEQ" train -q --config tiny.json --data bytes --out run-bytes
    same_tokens run-bytes/last.bin lines
}

@test "the same for subwords" {
    "$DEQ" tokenize --subwords 278 --train text --valid text --out sub >/dev/null 2>why ||
        skip "$(head -n 1 why)"
    "$DEQ" train -q --config tiny.json --data sub --out run-sub
    printf 'the king said to\n\n  the unknown  son\nof the king' >lines
    same_tokens run-sub/last.bin lines
}

@test "a comma as decimal point in the program around it does no harm" {
    command -v localedef >/dev/null && [ -d /usr/share/i18n/locales ] || skip "no localedef"
    mkdir -p locales
    localedef -i de_DE -f UTF-8 locales/de_DE.UTF-8 || skip "localedef made no locale"
    sed 's/    struct deq_options/    setlocale(LC_ALL, "de_DE.UTF-8");\n&/; 1i #include <locale.h>' \
        "$root/scripts/examples/line.c" >comma.c
    cc comma.c $(pkg-config --cflags --libs deq) -o comma
    LOCPATH=$PWD/locales run ./comma run/last.bin "the king said"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$(score 'the king said' | sed 's/\./,/')" ]
}
