"""Models: what is known of a Hugging Face folder before it is loaded, and the demo's own small Qwen3."""
