"""Parts that know no model.

transformer.py   linear layers and norms in their input's dtype, attention, pre-LN blocks
residual_vq.py   codebooks that follow their inputs by moving averages, one or several in series
linear_vq.py     PCA and a codebook: the linear vector quantizer
kmeans.py  patches.py  scenes.py
mel.py           the log-mel of AVTok and the 80-band vocoders;  filter_bank.py: Kaldi's
weight_norm.py   folded into plain weights, for inference;  packed.py: matrices reordered for oneDNN
pretrained/      I3D, aisfx and LPIPS: networks that metrics and trainings look through
"""
