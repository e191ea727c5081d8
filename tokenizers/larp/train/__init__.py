"""LARP's training: the recipes. LARP and AVTok share a network, so tokenizers/avtok/train/ does the rest."""
