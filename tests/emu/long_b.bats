# Long dumps by the emulated device, a minute or two: a transformer of several tables.

@test "the dumps pass: a transformer of several tables" {
    [ "${CI:-}" = true ] || skip "minutes: CI=true"
    export OMP_NUM_THREADS=1
    SHARED=${DEQ_SHARED:-../shared}/reference
    EMU="${DEQ%/*}/emu/deq"
    [ -x "$EMU" ] || skip "no emulated program ($EMU): make emu"
    [ -d "$SHARED" ] || skip "no reference dumps ($SHARED; set DEQ_SHARED)"
    "$EMU" verify -q --device cuda "$SHARED"/B_*_deq.safetensors "$SHARED"/B_*_eval.safetensors
}
