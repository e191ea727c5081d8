"""The generators' recipes. `avbench train ar-mini --tokenizer avtok --tasks a2v,v2a,av`."""

from dataclasses import replace

from avbench.generate import model as sizes
from avbench.generate.trainee import GeneratorTraining
from avbench.train.config import OptimConfig, StageConfig

# Published (LARP): AdamW 6e-4 (0.9, 0.95), weight decay 0.05 on linear weights, cosine to a hundredth.
OPTIM = OptimConfig(adam=6e-4, betas=(0.9, 0.95), weight_decay=0.05, final=0.01, warmup_clips=2_000)


def ar_mini() -> GeneratorTraining:
    """A generator of about 7 M parameters over a tokenizer's tokens; trains on CPU cores in hours.

    Small batches, a high rate, and Muon: avtok's tokens, loss after 2,400 clips 4.4 with AdamW alone, 3.3 with Muon for the blocks.
    """
    stages = (StageConfig(name="tokens", clips=48_000, optim=replace(OPTIM, adam=1.5e-3, warmup_clips=800)),)
    return GeneratorTraining(
        name="ar-mini", model=sizes.mini(), stages=stages, batch_size=4, muon=3e-3, log_steps=60, export_dtype="bfloat16"
    )


def ar_small() -> GeneratorTraining:
    """A generator of about 47 M parameters over a tokenizer's tokens; trains on one GPU."""
    stages = (StageConfig(name="tokens", clips=768_000, optim=replace(OPTIM, warmup_clips=20_000)),)
    return GeneratorTraining(
        name="ar-small", model=sizes.small(), stages=stages, batch_size=64, compile=True, log_steps=60, eval_minutes=2.0, save_minutes=3.0
    )


def ar_base() -> GeneratorTraining:
    """The published generator (632 M with AVTok's tokens), its optimiser and its dropout; for several GPUs."""
    optim = replace(OPTIM, warmup_clips=256_000, ema_decay=0.9999)
    stages = (StageConfig(name="tokens", clips=25_600_000, optim=optim),)
    return GeneratorTraining(
        name="ar-base", model=sizes.base(), stages=stages, batch_size=256, accumulate=4, compile=True, log_steps=60,
        eval_minutes=30.0, save_minutes=15.0,
    )  # fmt: skip
