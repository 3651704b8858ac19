"""lm-evaluation-harness with the model `deq` (deq_lm.py): the same command line as lm_eval's."""
import deq_lm  # noqa: F401, which registers the model

from lm_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    cli_evaluate()
