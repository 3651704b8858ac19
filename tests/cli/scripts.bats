#!/usr/bin/env bats
# The scripts in scripts/ and the Makefile, as a user meets them. The program itself is replaced by a
# fake one that writes down how it was called, so that its own tests can be elsewhere.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    tmp=$BATS_TEST_TMPDIR
    cd "$tmp"
    real_deq=${DEQ:-$root/build/deq}
    unset DEQ OUT CONFIG RUN DEQ_BIBLE
}

# A fake deq that logs its calls to $tmp/calls and leaves the files a real one would.
fake_deq() {
    mkdir -p "$tmp/bin"
    cat >"$tmp/bin/deq" <<END
#!/bin/sh
echo "\$*" >>"$tmp/calls"
command=\$1
while [ \$# -gt 0 ]; do
    [ "\$1" != --out ] || out=\$2
    shift
done
case \$command in
tokenize)
    mkdir -p "\$out"
    for f in vocab.txt train-00000.bin valid-00000.bin test-00000.bin; do echo x >"\$out/\$f"; done
    ;;
train)
    [ ! -e "$tmp/stop" ] || exit 75
    echo model >"\$out/best.bin"
    ;;
eval) echo "reading"; echo '{"split": "test", "ppl": 41.25, "nll": 3.72, "ppl_word": 41.25}' ;;
sample) echo "And God said , Let there be tests ." ;;
esac
END
    chmod +x "$tmp/bin/deq"
    : >"$tmp/calls"
    DEQ=$tmp/bin/deq
    export DEQ
}

# A copy of the scripts and configs, so that data/ and runs/ of this tree stay untouched. deps.sh is
# left out: tests install nothing.
copy_tree() {
    mkdir -p "$tmp/tree/data"
    cp -r "$root/scripts" "$root/configs" "$tmp/tree/"
    printf '#!/bin/sh\nexit 0\n' >"$tmp/tree/scripts/deps.sh"
}

need_bible() {
    command -v bible >/dev/null || [ -x /usr/games/bible ] || skip "needs Debian's bible-kjv"
}

@test "kjv.sh makes exactly the reference files" {
    need_bible
    shared=${DEQ_SHARED:-$root/../shared}
    [ -d "$shared/corpus/kjv" ] || skip "no reference files ($shared/corpus/kjv)"
    "$root/scripts/kjv.sh" --tokens-only "$tmp/kjv"
    for part in train valid test; do
        cmp "$tmp/kjv/$part.tokens" "$shared/corpus/kjv/$part.tokens"
    done
}

@test "kjv.sh: counts of tokens and words are the documented ones" {
    need_bible
    "$root/scripts/kjv.sh" --tokens-only "$tmp/kjv"
    count='{ n += NF + 1; for (i = 1; i <= NF; i++) seen[$i] } END { for (w in seen) types++; print n, types + 1 }'
    [ "$(awk "$count" "$tmp/kjv/train.tokens")" = "862666 7070" ]
    [ "$(awk "$count" "$tmp/kjv/valid.tokens" | cut -d' ' -f1)" = 45587 ]
    [ "$(awk "$count" "$tmp/kjv/test.tokens" | cut -d' ' -f1)" = 46644 ]
}

@test "kjv.sh redoes only what changed and leaves no temporary files" {
    need_bible
    fake_deq
    "$root/scripts/kjv.sh" "$tmp/kjv"
    [ "$(wc -l <calls)" -eq 1 ]
    grep -q -- "^tokenize --train $tmp/kjv/train.tokens .*--out $tmp/kjv --force" calls
    before=$(stat -c %Y.%i "$tmp/kjv/train.tokens")
    "$root/scripts/kjv.sh" "$tmp/kjv"
    [ "$(wc -l <calls)" -eq 1 ]
    [ "$(stat -c %Y.%i "$tmp/kjv/train.tokens")" = "$before" ]
    # A damaged text is mended, and the shards are cut again.
    echo x >>"$tmp/kjv/test.tokens"
    "$root/scripts/kjv.sh" "$tmp/kjv"
    [ "$(wc -l <calls)" -eq 1 ]
    rm "$tmp/kjv/vocab.txt"
    "$root/scripts/kjv.sh" "$tmp/kjv"
    [ "$(wc -l <calls)" -eq 2 ]
    # Another program may cut them differently.
    echo '# new' >>"$DEQ"
    "$root/scripts/kjv.sh" "$tmp/kjv"
    [ "$(wc -l <calls)" -eq 3 ]
    ! ls -d "$tmp"/kjv.tmp* 2>/dev/null
}

@test "kjv.sh refuses a cut text and a missing one" {
    echo "Ge1:1 In the beginning" >verses
    DEQ_BIBLE=$tmp/verses run "$root/scripts/kjv.sh" --tokens-only "$tmp/kjv"
    [ "$status" -eq 65 ]
    [[ "$output" == *"31102 verses, got 1"* ]]
    DEQ_BIBLE=$tmp/none run "$root/scripts/kjv.sh" --tokens-only "$tmp/kjv"
    [ "$status" -eq 66 ]
    run "$root/scripts/kjv.sh" --nonsense
    [ "$status" -eq 64 ]
}

@test "kjv.sh splits words as documented" {
    # Verse 20 times over, in 31102 verses of few chapters.
    awk 'BEGIN { for (i = 1; i <= 31102; i++)
        print "Ge1:" i " O Lord'"'"'s sons'"'"' wives, (a-b-c well-beloved)! sin--; once" (i == 7 ? "only" : "") "." }' >verses
    DEQ_BIBLE=$tmp/verses "$root/scripts/kjv.sh" --tokens-only "$tmp/kjv"
    [ "$(sed -n 4p kjv/train.tokens)" = " O Lord 's sons ' wives , ( a @-@ b @-@ c well @-@ beloved ) ! sin-- ; once . " ]
    # One chapter: all of its heading is rare.
    [ "$(sed -n 2p kjv/train.tokens)" = " <unk> <unk> <unk> <unk> " ]
    [ "$(sed -n 1p kjv/train.tokens)" = " " ]
    [ "$(sed -n 10p kjv/train.tokens | grep -c '; <unk> . $')" -eq 1 ]
    [ ! -s kjv/valid.tokens ]
}

@test "deps.sh is silent when all is there, and names what is missing without root" {
    command -v dpkg-query >/dev/null || skip "no Debian"
    # A dpkg-query that knows all packages, or all but bats; an id that is no root.
    mkdir path
    printf '#!/bin/sh\necho "install ok installed"\n' >path/dpkg-query
    printf '#!/bin/sh\necho 1000\n' >path/id
    printf '#!/bin/sh\necho "$*" >>%s/apt\n' "$tmp" >path/apt-get
    chmod +x path/*
    PATH=$tmp/path:$PATH run "$root/scripts/deps.sh" build test demo
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    printf '#!/bin/sh\n[ "$4" != bats ] && echo "install ok installed"\n' >path/dpkg-query
    PATH=$tmp/path:$PATH run "$root/scripts/deps.sh" build test
    [ "$status" -eq 69 ]
    [[ "$output" == *"apt-get install -y --no-install-recommends bats"* ]]
    [ ! -e apt ]
}

@test "deps.sh installs only what is missing, and fetches the lists once if that fails" {
    mkdir path
    printf '#!/bin/sh\n[ "$4" != bats ] && echo "install ok installed"\n' >path/dpkg-query
    printf '#!/bin/sh\necho 0\n' >path/id
    # Fails until an update was asked for.
    cat >path/apt-get <<END
#!/bin/sh
echo "\$*" >>$tmp/apt
case "\$*" in *update) touch $tmp/updated ;; *) [ -e $tmp/updated ] || exit 100 ;; esac
END
    chmod +x path/*
    PATH=$tmp/path:$PATH run "$root/scripts/deps.sh" build test
    [ "$status" -eq 0 ]
    [ "$(grep -c 'install -y --no-install-recommends bats$' apt)" -eq 2 ]
    [ "$(grep -c update apt)" -eq 1 ]
    PATH=$tmp/path:$PATH run "$root/scripts/deps.sh" build test
    [ "$(grep -c update apt)" -eq 1 ]
}

@test "deps.sh does not know any group" {
    run "$root/scripts/deps.sh" nonsense
    [ "$status" -eq 64 ]
}

# A tiny WikiText-103: one line of 5 words for each part.
tiny_wikitext() {
    mkdir -p wikitext-103
    for part in train valid test; do
        printf ' a b c a <unk> \n' >wikitext-103/wiki.$part.tokens
    done
}

@test "wikitext103.sh takes a folder and tokenizes it" {
    fake_deq
    tiny_wikitext
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" --any-size "$tmp/wikitext-103"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"wiki.train.tokens has 6 tokens, want 103227021"* ]]
    [[ "$output" == *"has 5 different words, want 267735"* ]]
    [ -f out/vocab.txt ]
    [ "$(wc -l <calls)" -eq 1 ]
    # The folder above will do, too.
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" --any-size "$tmp"
    [ "$status" -eq 0 ]
}

@test "wikitext103.sh takes a zip archive" {
    command -v unzip >/dev/null && command -v zip >/dev/null || skip "needs zip and unzip"
    fake_deq
    tiny_wikitext
    zip -q -r w.zip wikitext-103
    rm -r wikitext-103
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" --any-size w.zip
    [ "$status" -eq 0 ]
    [ -f out/vocab.txt ]
}

@test "wikitext103.sh refuses another text, a missing one and a broken archive" {
    fake_deq
    tiny_wikitext
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" "$tmp/wikitext-103"
    [ "$status" -eq 65 ]
    [ ! -e out ]
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" "$tmp/nowhere"
    [ "$status" -eq 66 ]
    rm wikitext-103/wiki.test.tokens
    OUT=$tmp/out run "$root/scripts/wikitext103.sh" --any-size "$tmp/wikitext-103"
    [ "$status" -eq 66 ]
    [[ "$output" == *"wiki.test.tokens"* ]]
    [ ! -s calls ]
    ! ls -d "$root"/data/wikitext-103.tmp* 2>/dev/null
}

@test "demo.sh trains once, keeps a finished run, and trains anew when the config changes" {
    need_bible
    fake_deq
    copy_tree
    run tree/scripts/demo.sh
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"41.2  this run"* ]]
    [[ "$output" == *"Let there be tests"* ]]
    [ "$(grep -c '^train --config configs/demo.json --out runs/demo --resume auto$' calls)" -eq 1 ]
    grep -q '^eval runs/demo/best.bin --split test --json$' calls
    grep -q '^sample --checkpoint runs/demo/best.bin --prompt And God said --tokens 60$' calls
    run tree/scripts/demo.sh
    [ "$status" -eq 0 ]
    [ "$(grep -c '^train' calls)" -eq 1 ]
    [ "$(grep -c '^tokenize' calls)" -eq 1 ]
    echo >>tree/configs/demo.json
    run tree/scripts/demo.sh
    [ "$(grep -c '^train' calls)" -eq 2 ]
    # The earlier run was put aside, not lost.
    ls tree/runs/demo.*/best.bin
}

@test "demo.sh goes on with an interrupted run" {
    need_bible
    fake_deq
    copy_tree
    touch stop
    run tree/scripts/demo.sh
    [ "$status" -eq 75 ]
    [[ "$output" == *"call again"* ]]
    rm stop
    run tree/scripts/demo.sh
    [ "$status" -eq 0 ]
    [ "$(grep -c '^train' calls)" -eq 2 ]
    [ ! -d tree/runs/demo.* ]
}

@test "configs are valid and follow the same setting" {
    [ -x "$real_deq" ] || skip "no $real_deq"
    for config in "$root"/configs/*.json; do
        "$real_deq" info --config "$config" >/dev/null
    done
    # What must agree between the two, since their results are compared.
    for key in '"d_model": 128' '"n_head": 4' '"d_inner": 512' '"tgt_len": 64' '"mem_len": 64' \
        '"lr": 1e-3' '"clip": 0.25' '"decay": 0.5' '"dir": "data/kjv"'; do
        grep -q "$key" "$root/configs/kjv.json"
        grep -q "$key" "$root/configs/demo.json"
    done
    grep -q '"steps": 3600' "$root/configs/kjv.json"
}

# The libraries were looked for when this tree was built.
fake_probe() {
    printf '#!/bin/sh\nexit 0\n' >t/scripts/probe.sh
    chmod +x t/scripts/probe.sh
}

@test "make help lists the targets; a missing library names its package" {
    run make -C "$root" help
    [ "$status" -eq 0 ]
    for target in all test demo install uninstall clean format check-format asan; do
        [[ "$output" == *"$target"* ]]
    done
    # A compiler that knows no cJSON.
    cat >cc <<'END'
#!/bin/sh
case "$*" in *-lcjson*) echo "cannot find -lcjson" >&2; exit 1 ;; esac
exec gcc "$@"
END
    chmod +x cc
    run "$root/scripts/probe.sh" ./cc ""
    [ "$status" -eq 69 ]
    [[ "$output" == *"apt-get install libcjson-dev"* ]]
    [[ "$output" != *"libxxhash-dev"* ]]
    sed -i s/cjson/cmocka/ cc
    run "$root/scripts/probe.sh" "./cc -fopenmp" "" tests
    [ "$status" -eq 69 ]
    [[ "$output" == *"apt-get install libcmocka-dev"* ]]
}

@test "changed flags rebuild, the same flags do not" {
    mkdir -p t/src/base t/scripts t/tests/emu
    cp "$root/Makefile" "$root/VERSION" t/
    cp "$root/tests/emu/emu.mk" t/tests/emu/
    fake_probe
    printf 'int one(void);\nint one(void)\n{\n    return 1;\n}\n' >t/src/base/one.c
    cd t
    run make build/libdeq.a
    [ "$status" -eq 0 ]
    [[ "$output" == *"CC        src/base/one.c"* ]]
    run make build/libdeq.a
    [[ "$output" != *"CC  "* ]]
    run make build/libdeq.a CFLAGS=-O0
    [[ "$output" == *"CC        src/base/one.c"* ]]
    # A removed source leaves the library.
    printf 'int two(void);\nint two(void)\n{\n    return 2;\n}\n' >src/base/two.c
    make build/libdeq.a CFLAGS=-O0
    ar t build/libdeq.a | grep -q two.o
    rm src/base/two.c
    make build/libdeq.a CFLAGS=-O0
    ! ar t build/libdeq.a | grep -q two.o
}

@test "make install keeps to DESTDIR and PREFIX, and make uninstall leaves what was there" {
    mkdir -p t/cmd t/src/base t/scripts t/tests/emu t/cuda
    echo 'extern int no_cuda;' >t/cuda/no_cuda.c
    cp "$root/Makefile" "$root/README.md" "$root/CHANGELOG.md" "$root/LICENSE" t/
    cp "$root/tests/emu/emu.mk" t/tests/emu/
    cp -r "$root/configs" t/
    fake_probe
    cp -r "$root/scripts/install.sh" "$root/scripts/completion" t/scripts/
    echo 1.2.3 >t/VERSION
    printf 'int one(void);\nint one(void)\n{\n    return 1;\n}\n' >t/src/base/one.c
    printf '#define X(n)\n#define LIST \\\n    X(train)\n' >t/cmd/commands.h
    printf '#include <stdio.h>\nint main(void)\n{\n    puts(DEQ_VERSION " " DEQ_CONFIG_DIR);\n}\n' >t/cmd/main.c
    mkdir -p t/src/lib t/src/dist
    cp "$root"/src/lib/{version.c,deq.h,deq.map,deq.pc.in} t/src/lib
    echo 'extern int no_ranks;' >t/src/dist/dist_none.c
    # Some of the folders are there, and one holds something of others.
    mkdir -p "stage/opt/a deq/share/man/man1" "stage/opt/a deq/bin"
    echo theirs >"stage/opt/a deq/share/man/man1/other.1"
    find stage | sort >before
    make -C t install CUDA=0 PREFIX='/opt/a deq' DESTDIR="$tmp/stage"
    share="stage/opt/a deq/share"
    [ "$("stage/opt/a deq/bin/deq")" = "1.2.3 /opt/a deq/share/deq/configs" ]
    [ "$(zcat "$share/man/man1/deq-train.1.gz")" = "1.2.3 /opt/a deq/share/deq/configs" ]
    for file in deq/configs/kjv.json man/man1/deq.1.gz man/man5/deq-config.5.gz doc/deq/README.md \
        bash-completion/completions/deq zsh/site-functions/_deq fish/vendor_completions.d/deq.fish; do
        [ -f "$share/$file" ] || { echo "no $file"; false; }
    done
    grep -q '^libdir=/opt/a deq/lib$' "stage/opt/a deq/lib/pkgconfig/deq.pc"
    grep -q '^Version: 1.2.3$' "stage/opt/a deq/lib/pkgconfig/deq.pc"
    [ "$(readlink "stage/opt/a deq/lib/libdeq.so")" = libdeq.so.0 ]
    # Installed again, it still knows the folders that the first time made. What others put into one of
    # them since stays, and so does the folder.
    rm t/configs/demo.json
    make -C t install CUDA=0 PREFIX='/opt/a deq' DESTDIR="$tmp/stage"
    echo theirs >"$share/doc/theirs"
    make -C t uninstall CUDA=0 PREFIX='/opt/a deq' DESTDIR="$tmp/stage"
    { cat before; printf '%s\n' "$share/doc" "$share/doc/theirs"; } | sort >after
    find stage | sort | diff after -
    run make -C t uninstall CUDA=0 PREFIX='/opt/a deq' DESTDIR="$tmp/stage"
    [ "$status" -eq 0 ]
    [[ "$output" == *"nothing to take away"* ]]
    make -C t install CUDA=0 PREFIX= DESTDIR="$tmp/bare"
    [ -x bare/bin/deq ]
    make -C t uninstall CUDA=0 PREFIX= DESTDIR="$tmp/bare"
    [ "$(find bare)" = bare ]
}

@test "plot.sh draws runs from their logs, and says what it lacks" {
    mkdir run out "it's_another"
    run "$root/scripts/plot.sh"
    [ "$status" -eq 64 ]
    run "$root/scripts/plot.sh" run
    [ "$status" -eq 66 ]
    : >run/log.jsonl
    run "$root/scripts/plot.sh" run
    [ "$status" -eq 65 ]
    for step in 1 2 3 4 5 6; do
        echo '{"event":"step","step":'$step',"loss":'$((7 - step))'.5,"ppl":9,"layers":0,"forward":{"evals_mean":6.5,"evals_max":8,"rel_mean":0.0'$step'},"backward":{"evals_mean":4,"evals_max":6,"rel_mean":0.001},"tokens":'$((step * 100))',"seconds":1}'
    done >run/log.jsonl
    echo '{"event":"evaluation","step":6,"nll":1.25,"ppl":3.5,"tokens":77,"nfe_mean":12,"rel_mean":0.001}' >>run/log.jsonl
    run "$root/scripts/plot.sh" run -o none
    [ "$status" -eq 66 ]
    command -v gnuplot >/dev/null || skip "no gnuplot (scripts/deps.sh plot)"
    run "$root/scripts/plot.sh" run -o out
    [ "$status" -eq 0 ]
    [ "$output" = "$(printf 'out/%s.png\n' loss perplexity evaluations residual)" ]
    for picture in loss perplexity evaluations residual; do
        [ "$(head -c 4 "out/$picture.png" | tail -c 3)" = PNG ]
    done
    # a second run adds a curve, and one without residuals draws those it has
    sed 's/"rel_mean":[0-9.]*/"rel_mean":null/g; s/"loss":/&1/' run/log.jsonl >"it's_another/log.jsonl"
    mkdir both
    run "$root/scripts/plot.sh" run "it's_another" -o both
    [ "$status" -eq 0 ]
    [ "$output" = "$(printf 'both/%s.png\n' loss perplexity evaluations residual)" ]
    ! cmp -s out/loss.png both/loss.png || false
    # an explicit network: no residuals
    "$root/scripts/plot.sh" "it's_another"
    [ "$(cd "it's_another" && echo *)" = "evaluations.png log.jsonl loss.png perplexity.png" ]
}

@test "picture.sh draws what deq bench memory measured" {
    printf '#!/bin/sh\nexit 3\n' >deq
    chmod +x deq
    command -v gnuplot >/dev/null || skip "no gnuplot (scripts/deps.sh plot)"
    command -v jq >/dev/null || skip "no jq (scripts/deps.sh plot)"
    DEQ=$PWD/deq run "$root/scripts/picture.sh" -o "$PWD/picture.svg"
    [ "$status" -ne 0 ]
    row() { printf '{"method":"%s","depth":%d,"activations":%d,"solver":0}' "$@"; }
    rows="$(row 'deq-transformer anderson' 1 7000000),$(row 'deq-transformer anderson' 50 7000000)"
    rows="$rows,$(row 'transformer untied' 1 7000000),$(row 'transformer untied' 16 60000000)"
    printf '#!/bin/sh\necho %s\n' "'{\"rows\":[$rows]}'" >deq
    DEQ=$PWD/deq run "$root/scripts/picture.sh" -o "$PWD/picture.svg"
    [ "$status" -eq 70 ]
    [[ "$output" == *'no rows for the curve "recomputed"' ]]
    rows="$rows,$(row 'transformer tied, recompute 4' 16 17000000)"
    printf '#!/bin/sh\necho %s\n' "'{\"rows\":[$rows]}'" >deq
    DEQ=$PWD/deq run "$root/scripts/picture.sh" -o "$PWD/picture.svg"
    [ "$status" -eq 0 ]
    grep -q 'explicit layers, all kept' picture.svg
}
