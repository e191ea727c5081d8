"""Training AVTok: recipes (functions that return a config), the stages of VFAL, and a loop that any kill leaves resumable.

config.py      what a recipe decides
recipes.py     the recipes by name
clips.py       training and held-out clips
data.py        random access to prepared clips; mels computed once; batches in an order that (seed, step) fixes
start.py       the models at step 0, from the linear start or drawn at random
objective.py   one stage's forward pass and its losses
adversary.py   discriminators and their own optimiser
optimizers.py  Muon and AdamW, learning rates from clips seen
stages.py      what one stage trains: freezes, optimisers, moving average
evaluate.py    held-out clips: PSNR, mel L1, codebook use
checkpoint.py  everything that a resumed run needs, written atomically
log.py         JSONL, TensorBoard, progress bar
picture.py     held-out reconstructions as PNG
export.py      the published files: weights in shards and a manifest
flops.py       what utilisation is measured with
loop.py        train(): the straight line
command.py     `avbench train`
dual.py        the two tokenizers of a dual run as one
"""
