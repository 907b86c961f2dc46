"""The layouts of ranks that the trainer is run in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How the trainer's ranks share the work, and what else must not change what is learned."""

    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    data: int = 1
    recompute: str = "none"
    tokens: int = 1  # of a micro-batch; 1: each context has one of its own
    chunk: int = 1024  # tokens whose logits are computed at once

    @property
    def name(self) -> str:
        ranks = f"tp{self.tensor}-pp{self.pipeline}-cp{self.context}-dp{self.data}"
        return f"{ranks}-{self.recompute}-{self.tokens}-{self.chunk}"


ONE_PROCESS = Layout()
