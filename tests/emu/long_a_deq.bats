load long

@test "the long dumps pass: a transformer's solves and gradients" {
    verify_long A_div1_deq
}
