"""avbench: a benchmark of audio-video tokenizers."""

__version__ = "0.1.0"
