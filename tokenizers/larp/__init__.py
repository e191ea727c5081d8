"""LARP, the video-only baseline: sizes (model), the official checkpoints (official), CPU speed (inference), the adapter (tokenizer)."""
