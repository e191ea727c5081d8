"""Training: recipes (functions that return a config), what they train, and a loop that any kill leaves resumable.

trainee.py     what somebody who adds a trainee reads: models, data, objective, evaluation, export behind one interface
config.py      what every recipe decides
recipes.py     the recipes by name: entry points; each tokenizer's lie in its own folder (tokenizers/NAME/train/)
waveform/      codecs of waveforms, whatever the codec; the smallest example
data.py        training and held-out clips: random access, mels computed once, batches in an order that (seed, step) fixes
held.py        the same, all in the device's memory
optimizers.py  AdamW, learning rates from clips seen
stages.py      one stage at work: optimisers, moving average, one step
checkpoint.py  everything that a resumed run needs, written atomically; how published weights came to be
log.py         JSONL, TensorBoard, progress bar, held-out reconstructions as PNG
budget.py      seconds instead of clips, and what utilisation is measured with
loop.py        train(): the straight line
"""
