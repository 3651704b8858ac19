load long

@test "the long dumps pass: a transformer of several tables" {
    verify_long B_div2_tied_deq B_div2_tied_eval
}
