#!/usr/bin/env bats
# deq sample: several texts, where they end, what is drawn, and talking with a model.

load tiny_run

setup_file()
{
    tiny_run
    "$DEQ" tokenize --train text --valid text --bytes --out bytes >/dev/null
    "$DEQ" train -q --config tiny.json --set data.dir="$home/bytes" --out run-bytes
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    run_file=$home/run/last.bin
}

# texts FIELD: the texts of the JSON object on stdin, one a line, as FIELD says.
texts()
{
    python3 -c '
import json, sys
for s in json.loads(sys.stdin.read().splitlines()[-1])["samples"]: print(json.dumps(s["'"$1"'"]))'
}

@test "a checkpoint is an operand, and without a prompt a line begins" {
    "$DEQ" sample "$home/run" --tokens 5 >a 2>err
    grep -q "using $home/run/best.bin" err
    "$DEQ" sample --checkpoint "$home/run/best.bin" --prompt '' --tokens 5 | cmp - a
    run "$DEQ" sample "$home/none.bin" --prompt the
    [ "$status" -eq 66 ]
    [[ "$output" == *"none.bin: no such checkpoint; a prompt is one argument, so quote it" ]]
}

@test "-n: the same texts one after the other, whatever their number, through several batches" {
    for data in run run-bytes; do
        "$DEQ" sample "$home/$data/last.bin" --device cpu --prompt "the king" --tokens 12 -n 11 --json |
            texts text >eleven
        [ "$(wc -l <eleven)" -eq 11 ]
        [ "$(sort -u eleven | wc -l)" -gt 8 ]
        for n in 1 3 10; do
            "$DEQ" sample "$home/$data/last.bin" --device cpu --prompt "the king" --tokens 12 -n $n \
                --json | texts text >few
            head -n $n eleven | cmp - few
        done
    done
    "$DEQ" sample "$run_file" --prompt "the king" --tokens 3 -n2 >two
    [ "$(sed -n 1p two)" = "--- sample 1 of 2 ---" ]
    [ "$(grep -c '^--- sample 2 of 2 ---$' two)" -eq 1 ]
    [ "$(grep -c '^the king' two)" -eq 2 ]
    [ "$(tail -c 1 two | od -An -tx1)" = " 0a" ]
    run "$DEQ" sample "$run_file" -n
    [ "$output" = "deq sample: -n: wants a value" ]
    [ "$status" -eq 64 ]
}

@test "--stop ends before its text, which may lie in several tokens and is not in the prompt" {
    sample() { "$DEQ" sample "$run_file" --device cpu --prompt "the king" --seed 5 "$@"; }
    whole=$(sample --tokens 60; echo .)
    rest=${whole#the king}
    stop=${rest:20:9} # several words, and parts of words
    want=${rest%%"$stop"*}
    [ "$(sample --tokens 60 --stop none --stop "$stop" --json | texts text)" = \
        "$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "the king$want")" ]
    [ "$(sample --tokens 60 --stop "$stop" --json | texts stop)" = \
        "$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$stop")" ]
    # as it is shown, too
    [ "$(sample --tokens 60 --stop "$stop"; echo .)" = "the king$want"$'\n.' ]
    [ "$(sample --tokens 60 --stop "he king " --json | texts tokens)" -gt 0 ]
    # a line end, in a model of words
    "$DEQ" sample "$run_file" --tokens 500 -n 3 --prompt "the king" --stop '\n' --seed 2 >out
    [ "$(wc -l <out)" -eq 6 ]
}

@test "--min-p 1 and --top-k 1 are --temperature 0, and a penalty of what was said makes another text" {
    sample() { "$DEQ" sample "$run_file" --device cpu --prompt "the king" --tokens 6 "$@"; }
    want=$(sample --temperature 0)
    [ "$(sample --min-p 1)" = "$want" ]
    [ "$(sample --top-k 1)" = "$want" ]
    [ "$(sample --min-p 1 --repeat-penalty 1 --repeat-last 9)" = "$want" ]
    [ "$(sample --temperature 0 --repeat-penalty 50)" != "$want" ]
    [ "$(sample --temperature 0 --repeat-penalty 50 --repeat-last 0)" = "$want" ]
}

@test "--interactive: lines from a pipe, /clear, what the vocabulary cannot spell, and no prompt" {
    printf 'the king\n\n/clear\nthe king\nthe bird\nof\n/exit\nof\n' |
        "$DEQ" sample "$run_file" --interactive --tokens 4 --temperature 0 >out 2>err
    grep -q 'deq sample: the line: "bird" is not in the vocabulary' err
    [ "$(wc -l <out)" -ge 4 ]
    [[ "$(cat out)" != *'>'* ]]
    # an empty line lets the text go on as if it had not been interrupted
    printf 'the king\n\n' | "$DEQ" sample "$run_file" --interactive --tokens 4 >two
    "$DEQ" sample "$run_file" --prompt "the king" --tokens 8 >eight
    [ "the king $(tr '\n' ' ' <two | tr -s ' ')" = "$(tr '\n' ' ' <eight)" ]
    # a line that is open is ended before the next one
    "$DEQ" sample "$run_file" --prompt $'the king\nof' --tokens 4 --temperature 0 | tail -n 1 >a
    printf 'the king\nof\n' | "$DEQ" sample "$run_file" --interactive --tokens 0 >b
    [ ! -s b ]
    run "$DEQ" sample "$run_file" --interactive --json
    [ "$status" -eq 64 ]
    run "$DEQ" sample "$run_file" --interactive -n 2
    [ "$status" -eq 64 ]
    run "$DEQ" sample "$run_file" --interactive --prompt -
    [ "$status" -eq 64 ]
}

@test "--interactive on a terminal: Ctrl-C ends the text and not the program, Ctrl-D ends" {
    command -v python3 >/dev/null || skip "no python3"
    cat >talk.py <<'PY'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def until(text):
    global seen
    while text not in seen:
        seen += os.read(fd, 65536)
    seen = seen[seen.index(text) + len(text):]
until(b"> ")
os.write(fd, b"the king\r")
until(b"the king")
while len(seen) < 2000:  # a long text is under way
    seen += os.read(fd, 65536)
os.write(fd, b"\x03")
until(b"\n> ")
os.write(fd, b"not this\x03")
until(b"> ")
os.write(fd, b"\x04")
rest = b""
try:
    while True:
        data = os.read(fd, 65536)
        if not data:
            break
        rest += data
except OSError:
    pass
assert b"tokens/s" in rest, rest
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
    python3 talk.py "$DEQ" sample "$run_file" --device cpu --interactive --tokens 1000000000
}
