"""AVTok (arXiv 2606.30811): one audio-video pair -> one sequence of discrete tokens over one codebook, and back.

LARP and AVTok share a network: AVTok's video stream is LARP (tokenizers/larp/ holds LARP's sizes, checkpoints and recipes).
"""
