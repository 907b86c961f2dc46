"""Training: the Megatron model, batching, algorithms, the optimizer step, and checkpoints."""
