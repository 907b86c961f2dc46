"""Inference: the local vLLM shard, and its client."""
