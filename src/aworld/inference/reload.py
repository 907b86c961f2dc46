"""An extension of vLLM's worker that loads new weights in place."""

from typing import Any


class ReloadExtension:
    """A vLLM worker extension (`--worker-extension-cls`); its methods are reached by `collective_rpc`."""

    model_runner: Any

    def load_policy(self, path: str) -> None:
        """Replace the weights by those in the HF folder `path`."""
        self.model_runner.reload_weights(weights_path=path)
        # The CPU backend keeps a packed private copy of the output layer. With tied embeddings a reload refreshes only
        # the embedding, and the logits would silently come from the old weights: pack again.
        head = self.model_runner.model.lm_head
        if hasattr(head, "weight"):  # else another pipeline stage has it
            head.quant_method.process_weights_after_loading(head)
