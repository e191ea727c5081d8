"""EnCodec's training: the network around codebooks that learn, and the recipes. avbench/train/waveform/ does the rest."""
