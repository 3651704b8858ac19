load long

@test "the long dumps pass: a trellis" {
    verify_long trellis_k2d1_deq
}
