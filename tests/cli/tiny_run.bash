# A small run for tests that need some checkpoint: text, data, tiny.json and run in the folder $home.
tiny_run()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 7 }' >text
    "$DEQ" tokenize --train text --valid text --out data >/dev/null
    cat >tiny.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 2, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "eval_every": 0, "checkpoint_every": 0 },
  "eval": { "batch": 8, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    "$DEQ" train -q --config tiny.json --out run
}
