"""WavTokenizer's training: the recipes. avbench/train/waveform/ does the rest."""
