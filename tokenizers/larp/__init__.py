"""LARP, the video-only baseline: sizes (model), the official checkpoints (official), the adapter (tokenizer)."""
