"""AVTok (arXiv 2606.30811): one audio-video pair -> one sequence of discrete tokens over one codebook, and back."""
