"""LARP (Wang et al., ICLR 2025, arXiv 2410.21264) is AVTok's video stream alone: `AVTokModel` with a config whose `audio` is None.

There is no second model class. AVTok took its video stream from LARP: patches and learned queries through a pre-LN encoder, a
bottleneck, one codebook, [codes ; patch queries] through a decoder, a normed head. The published weights are those tensors under other
names (`official.KEYS`), so that they load into `AVTokModel` and give the official codes and reconstructions
(tests/tokenizers/test_larp_official.py).
What differs is settings: SVQ is `QuantizerConfig(kind="cosine", temperature=0.03)`, positions are buffers that a checkpoint brings,
and the official blocks' LayerNorms have eps 1e-5 (`official.BLOCK_EPS`). Evaluation takes the nearest entry and never samples.

Training is AVTok's too: `AVTokLosses` on the one stream (L1, LPIPS, adversarial, quantizer, prior), `linear_init`, `save_checkpoint`.

`larp_mini`, `larp_scene_mini` and `larp_small` are the baselines of equals for avtok-mini, avtok-scene-mini and avtok-small: the same
video patches, tokens, codebook, layers and width, and the same help at the start (Euclidean codes, PCA and k-means in the weights; scenes),
less the audio stream. A LARP at random, as published, stays on a plateau at these budgets (19.2 dB after 20,000 arcade clips; the linear
start begins at 24): against that, avtok-mini would win by its start alone. What is left between the two rows is what sharing weights,
codebook and clips with audio costs or brings. LARP as published (cosine codes sampled at 0.03, random start) is `larp_large`.
"""

from dataclasses import replace

from avbench.tokenizers.avtok.config import AVTokConfig, QuantizerConfig, StreamConfig, avtok_mini, avtok_scene_mini, avtok_small


def larp_large() -> AVTokConfig:
    """LARP-L-long as published: 172.18 M, 1024 tokens of 13 bits; its prior (gptc-S, 21.70 M) serves training only."""
    return AVTokConfig(
        name="larp",
        video=StreamConfig(channels=3, size=(16, 128, 128), patch=(4, 8, 8), tokens=1024),
        audio=None,
        width=768,
        encoder_layers=12,
        decoder_layers=12,
        heads=12,
        quantizer=QuantizerConfig(kind="cosine", entries=8192, dim=16, temperature=0.03),
    )


def larp_small() -> AVTokConfig:
    """avtok-small's video stream: 1024 tokens of 13 bits, half LARP's width and depth, 64-dimensional Euclidean codes."""
    return replace(avtok_small(), name="larp-small", audio=None)


def larp_mini() -> AVTokConfig:
    """avtok-mini's video stream: 256 tokens of 12 bits, 8.25 M parameters (avtok-mini: 8.42 M), Euclidean codes for the linear start."""
    return replace(avtok_mini(), name="larp-mini", audio=None)


def larp_scene_mini() -> AVTokConfig:
    """avtok-scene-mini's video stream: a scene and 256 tokens of 12 bits, under 10 M parameters."""
    return replace(avtok_scene_mini(), name="larp-scene-mini", audio=None)
