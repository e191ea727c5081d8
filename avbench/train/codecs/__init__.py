"""Audio codecs as trainees: EnCodec and WavTokenizer at sizes that train here. The smallest example of a trainee.

config.py         what a recipe decides: losses, crops, the codec
recipes.py        the recipes
trainee.py        everything below, as the loop sees it
data.py           crops of waveforms
start.py          the convolutions at step 0, rescaled to training crops
objective.py      reconstruction, spectral, commitment and adversarial losses
discriminator.py  EnCodec's discriminators of spectra, for the larger recipes
evaluate.py       held-out clips: MR-STFT, mel L1, codebook use, pictures
encodec.py        EnCodec's layers (transformers') around a codebook that learns
"""
