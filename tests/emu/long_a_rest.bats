load long

@test "the long dumps pass: a transformer's evaluation and training" {
    verify_long A_div1_eval A_div1_train6 A_dropout A_jacreg A_solver
}
