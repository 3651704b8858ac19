# Long dumps by the emulated device, for long_*.bats.

# verify_long NAME...: dumps of ../shared/reference
verify_long()
{
    [ "${CI:-}" = true ] || skip "minutes: CI=true"
    export OMP_NUM_THREADS=1
    local emu="${DEQ%/*}/emu/deq" name folder=${DEQ_SHARED:-../shared}/reference
    [ -x "$emu" ] || skip "no emulated program ($emu): make emu"
    [ -d "$folder" ] || skip "no reference dumps ($folder; set DEQ_SHARED)"
    for name; do
        "$emu" verify -q --device cuda "$folder/$name.safetensors"
    done
}
