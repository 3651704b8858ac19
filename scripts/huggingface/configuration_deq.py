"""The configuration of a deep equilibrium language model that deq has exported.

`deq` is the resolved configuration of the program, as `deq help config` explains it. `deq import`
reads it again, so that a folder that transformers has saved goes back as it came.
"""
from transformers import PretrainedConfig


class DEQConfig(PretrainedConfig):
    """deq            the resolved configuration of deq, by sections
    eval_tol       relative residual at which a position has converged outside of training
    eval_max_iter  the most evaluations of f for that
    """

    model_type = "deq"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, deq=None, eval_tol=1e-5, eval_max_iter=100, **kwargs):
        self.deq = deq or {}
        self.eval_tol = eval_tol
        self.eval_max_iter = eval_max_iter
        model = self.deq.get("model", {})
        trellis = model.get("cell") == "trellis"
        # What tools ask every configuration for.
        kwargs.setdefault("vocab_size", model.get("vocab_size", 0))
        kwargs.setdefault("hidden_size", model.get("nout" if trellis else "d_model", 0))
        kwargs.setdefault("num_attention_heads", 1 if trellis else model.get("n_head", 1))
        kwargs.setdefault("num_hidden_layers", model.get("layers") or model.get("blocks", 1))
        kwargs.setdefault("tie_word_embeddings", False)  # the model shares its tables itself
        kwargs.setdefault("is_decoder", True)
        names = ("vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers")
        for name in names:
            setattr(self, name, kwargs.pop(name))
        super().__init__(**kwargs)
