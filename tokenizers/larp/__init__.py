"""LARP, the video-only baseline: sizes (model), the official checkpoints (official), CPU speed (inference), the adapter (tokenizer).

LARP and AVTok share a network, and its training: tokenizers/avtok/, with a config whose `audio` is None.
"""
