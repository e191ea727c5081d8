"""Codecs of waveforms as trainees, whatever the codec: the smallest example of a trainee. A codec brings its network and its recipes.

config.py         what a recipe decides: losses, crops, the codec; what is asked of its network
trainee.py        everything below, as the loop sees it: step 0 rescaled to training crops, held-out clips, pictures
data.py           crops of waveforms
objective.py      reconstruction, spectral, commitment and adversarial losses, with EnCodec's discriminators
losses.py         the spectral losses
"""
