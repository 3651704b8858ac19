# Long dumps by the emulated device, a minute or two: a transformer's evaluation and training.

@test "the dumps pass: a transformer's evaluation and training" {
    [ "${CI:-}" = true ] || skip "minutes: CI=true"
    export OMP_NUM_THREADS=1
    SHARED=${DEQ_SHARED:-../shared}/reference
    EMU="${DEQ%/*}/emu/deq"
    [ -x "$EMU" ] || skip "no emulated program ($EMU): make emu"
    [ -d "$SHARED" ] || skip "no reference dumps ($SHARED; set DEQ_SHARED)"
    "$EMU" verify -q --device cuda "$SHARED"/A_*_eval.safetensors "$SHARED"/A_*_train6.safetensors "$SHARED"/A_dropout.safetensors "$SHARED"/A_jacreg.safetensors "$SHARED"/A_solver.safetensors
}
