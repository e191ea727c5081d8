"""AVTok (and LARP) as a trainee: VFAL, the schedules that it is compared with, and dual runs.

config.py      what a recipe decides
recipes.py     the recipes; LARP's, of the video stream alone, lie in tokenizers/larp/train/
trainee.py     everything below, as the loop sees it; held-out clips (PSNR, mel L1, codebook use, pictures); the published files
data.py        batches: frames, mels, and samples where a teacher listens
start.py       the models at step 0, from the linear start or initialised at random
objective.py   one stage's forward pass and its losses; freezes
optimizers.py  Muon and AdamW
"""
