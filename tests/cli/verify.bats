# deq verify: dumps of the published implementation, damaged ones, and unknown ones.

setup()
{
    SHARED=${DEQ_SHARED:-../shared}/reference
    GOLDEN=$BATS_TEST_DIRNAME/../golden
}

dumps()
{
    [ -d "$SHARED" ] || skip "no reference dumps ($SHARED; set DEQ_SHARED)"
}

@test "the committed dumps pass, in float32 and float64" {
    "$DEQ" verify -q "$GOLDEN"/*.safetensors
    "$DEQ" verify -q --device ref "$GOLDEN/solver_tanh.safetensors" # the others are cut to float32
}

@test "the modern cell agrees with PyTorch's in float64" {
    "$DEQ" verify -q --device ref "$GOLDEN"/modern_*.safetensors
}

@test "every dump passes in float32" {
    dumps
    "$DEQ" verify -q "$SHARED"/*.safetensors
}

@test "every dump passes in float64, with tight tolerances" {
    dumps
    "$DEQ" verify -q --device ref "$SHARED"/*.safetensors
}

@test "second derivatives and the Jacobian's penalty are compared, nothing is left out" {
    dumps
    run "$DEQ" verify "$SHARED/A_div1_f_mem16.safetensors" "$SHARED/A_jacreg.safetensors"
    [ "$status" -eq 0 ]
    [[ "$output" == *"jac_dz"*"ok"*"jg:func.dec_attn.r_r_bias"*"ok"* ]]
    [[ "$output" == *"jac_loss"*"ok"* ]]
    [[ "$output" != *"not computed:"* ]]
}

@test "a model that cannot be run is named and fails" {
    dumps
    sed 's/"cell": "trellis"/"cell": "trollis"/; s/\\"trellis\\"/\\"trollis\\"/' \
        "$SHARED/trellis_k2d1_f.safetensors" >"$BATS_TEST_TMPDIR/other.safetensors"
    run "$DEQ" verify "$BATS_TEST_TMPDIR/other.safetensors"
    [ "$status" -eq 1 ]
    [[ "$output" == *"trollis"* ]]
}

@test "--json: one object with pass and tensors" {
    line=$("$DEQ" verify --json "$GOLDEN"/*.safetensors | tail -1)
    [[ "$line" == '{"pass":true,'* ]]
    for key in tensors name max_abs max_rel tol; do
        [[ "$line" == *"\"$key\":"* ]]
    done
}

@test "a changed number fails and the tensor is named" {
    file=$(ls "$GOLDEN"/*.safetensors | head -1)
    cp "$file" "$BATS_TEST_TMPDIR/bad.safetensors"
    # the last tensor in the file: make its last number another one
    size=$(stat -c %s "$file")
    printf '\100\100' | dd of="$BATS_TEST_TMPDIR/bad.safetensors" bs=1 seek=$((size - 2)) \
        conv=notrunc status=none
    run "$DEQ" verify "$BATS_TEST_TMPDIR/bad.safetensors"
    [ "$status" -eq 1 ]
    [[ "$output" == *"FAIL"* ]]
}

@test "--tol 0.5 lets nearly all pass, --tol 1e-30 nothing" {
    file=$(ls "$GOLDEN"/*.safetensors | head -1)
    "$DEQ" verify -q --tol 0.5 "$file"
    run "$DEQ" verify -q --tol 1e-30 "$file"
    [ "$status" -eq 1 ]
}

@test "damaged and foreign files are refused" {
    file=$(ls "$GOLDEN"/*.safetensors | head -1)
    head -c 500 "$file" > "$BATS_TEST_TMPDIR/short.safetensors"
    run "$DEQ" verify "$BATS_TEST_TMPDIR/short.safetensors"
    [ "$status" -eq 65 ]
    run "$DEQ" verify /nonexistent
    [ "$status" -eq 66 ]
    run "$DEQ" verify
    [ "$status" -eq 64 ]
}
