"""Codecs of waveforms as trainees, whatever the codec: the smallest example of a trainee. A codec brings its network and its recipes.

codec.py          what is asked of a codec's network
config.py         what a recipe decides: losses, crops, the codec
trainee.py        everything below, as the loop sees it
data.py           crops of waveforms
start.py          the convolutions at step 0, rescaled to training crops
objective.py      reconstruction, spectral, commitment and adversarial losses
losses.py         the spectral losses
discriminator.py  EnCodec's discriminators of spectra, for the larger recipes
evaluate.py       held-out clips: MR-STFT, mel L1, codebook use, pictures
"""
