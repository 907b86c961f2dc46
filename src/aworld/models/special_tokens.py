"""The special tokens of a tokenizer of our own, which are Qwen3's. A launcher imports this: nothing heavy here."""

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
LEAST_VOCABULARY = 256 + len(SPECIAL_TOKENS)  # a byte-level tokenizer has a token for each byte
