"""AVTok's recipes: three sizes under VFAL, and the schedules that VFAL is compared with."""

from collections.abc import Callable
from dataclasses import replace

from avbench.tokenizers.avtok import config as models
from avbench.tokenizers.avtok.losses import LossWeights, StreamWeights
from avbench.tokenizers.avtok.teacher import teacher_dims
from avbench.tokenizers.avtok.train.config import AVTokOptim, AVTokStage
from avbench.tokenizers.avtok.train.trainee import AVTokTraining

Recipe = Callable[[], AVTokTraining]

# Modality weights (video, audio) of the weighted schedule: audio favoured, strongly favoured, and held back.
MODALITY_WEIGHTS = {"a": (1.0, 3.0), "b": (1.0, 10.0), "c": (1.0, 0.3)}

# The quantizer's weight: from the linear start, a latent's error costs about 4 in pixels; at 0.1 latents leave their entries behind.
MINI_STREAM = StreamWeights(l1=1.0, log_mse=0.2, quantizer=4.0)
MINI_LOSS = LossWeights(video=MINI_STREAM, audio=MINI_STREAM, prior=0.0)
MINI_OPTIM = AVTokOptim(warmup_clips=160)
SCENE_OPTIM = AVTokOptim(warmup_clips=160, muon=2e-3, adam=1e-4)
MINI_CLIPS = {"video": 9_600, "audio": 4_800, "decode": 6_400}  # an hour and a half of one Zen 5 core

SMALL_LOSS = LossWeights(
    video=StreamWeights(l1=1.0, log_mse=0.2, perceptual=0.5, quantizer=4.0, alignment=0.1),
    audio=StreamWeights(l1=1.0, log_mse=0.2, quantizer=4.0, alignment=0.1),
    prior=0.06,
)
SMALL_DECODE = LossWeights(
    video=StreamWeights(l1=1.0, log_mse=0.1, perceptual=0.5, adversarial=0.05),
    audio=StreamWeights(l1=1.0, log_mse=0.1, adversarial=0.05),
    prior=0.0,
)
SMALL_OPTIM = AVTokOptim(muon=1e-2, adam=4e-4, warmup_clips=10_000)
SMALL_CLIPS = {"video": 600_000, "audio": 200_000, "decode": 200_000}


def avtok_mini() -> AVTokTraining:
    """AVTok under 10 M parameters, VFAL; trains on two CPU cores in hours."""
    stages = vfal(MINI_CLIPS, MINI_LOSS, MINI_LOSS, MINI_OPTIM)
    return AVTokTraining(name="avtok-mini", schedule="vfal", model=models.avtok_mini(), stages=stages)


def avtok_scene_mini() -> AVTokTraining:
    """AVTok with scene tokens, under 10 M parameters, VFAL; starts above the clip's own mean frame, trains on a CPU core in hours."""
    video = replace(MINI_STREAM, motion=0.1)
    audio = replace(MINI_STREAM, l1=10.0, log_mse=0.0)  # MR-STFT's logs are an L1 too; 10: about the gradient of 0.2 log_mse
    loss = LossWeights(video=video, audio=audio, prior=0.0)
    # Lengths: 65, 15 and 20 % of the operations. Only stage decode lets the blocks learn about sound.
    return AVTokTraining(
        name="avtok-scene-mini",
        schedule="vfal",
        model=models.avtok_scene_mini(),
        stages=vfal({"video": 124_800, "audio": 118_560, "decode": 34_800}, loss, loss, SCENE_OPTIM),
        export_dtype="bfloat16",
    )


def avtok_small() -> AVTokTraining:
    """AVTok of about 30 M parameters, VFAL; trains on one GPU in half an hour."""
    model = replace(models.avtok_small(), teacher_dims=teacher_dims())
    stages = vfal(SMALL_CLIPS, SMALL_LOSS, SMALL_DECODE, SMALL_OPTIM)
    return AVTokTraining(
        name="avtok-small",
        schedule="vfal",
        model=model,
        stages=stages,
        batch_size=80,
        compile=True,
        export_dtype="bfloat16",
        log_steps=50,
        eval_minutes=1.5,
        save_minutes=2.0,
    )


def avtok_base() -> AVTokTraining:
    """AVTok at the paper's size (172 M, 8192 x 16 codebook), LARP's losses and rates; for several GPUs and days."""
    larp = StreamWeights(l1=1.0, perceptual=1.0, adversarial=0.3, quantizer=0.1, alignment=0.5)
    first = LossWeights(video=larp, audio=replace(larp, perceptual=0.0), prior=0.06)
    last = LossWeights(video=replace(larp, alignment=0.0), audio=replace(larp, perceptual=0.0, alignment=0.0), prior=0.0)
    optim = AVTokOptim(
        muon=0.0, adam=1e-4, raw=1.0, encoder=1.0, auxiliary=5e-3, discriminator=3e-5, betas=(0.5, 0.9), warmup_clips=153_600, clip_norm=0.0
    )
    model = replace(models.avtok_base(), teacher_dims=teacher_dims())
    clips = {"video": 9_600_000, "audio": 3_200_000, "decode": 3_200_000}
    return AVTokTraining(
        name="avtok-base",
        schedule="vfal",
        model=model,
        stages=vfal(clips, first, last, optim),
        batch_size=128,
        accumulate=2,
        compile=True,
        linear_start=False,  # 16-dimensional cosine codes and 12 heads of 64: initialised at random, as LARP
        export_dtype="bfloat16",
    )


def vfal(clips: dict[str, int], loss: LossWeights, decode_loss: LossWeights, optim: AVTokOptim) -> tuple[AVTokStage, ...]:
    """Video-First-Audio-Later (paper, section 3.3): the video stream alone, then what is audio's own, then both decoders."""
    return (
        AVTokStage(name="video", trains="video", streams=("video",), clips=clips["video"], loss=loss, optim=optim),
        AVTokStage(name="audio", trains="audio", streams=("audio",), clips=clips["audio"], loss=loss, optim=optim),
        AVTokStage(name="decode", trains="decode", clips=clips["decode"], loss=decode_loss, optim=optim),
    )


def vanilla(recipe: Recipe) -> Recipe:
    """The same model, losses, clips and seed, trained jointly from the start: one stage."""

    def build() -> AVTokTraining:
        base = recipe()
        return replace(base, schedule="vanilla", stages=(_joint(base),)).renamed(f"{base.name}-vanilla")

    return _described(build, recipe, "the same model, clips and seed, both streams at once from the start")


def weighted(recipe: Recipe, setting: str) -> Recipe:
    """`vanilla` with modality weights, scaled to a mean of 1 so that the learning rate means the same."""
    weights = MODALITY_WEIGHTS[setting]
    video, audio = (2 * weight / sum(weights) for weight in weights)

    def build() -> AVTokTraining:
        base = recipe()
        joint = _joint(base)
        loss = replace(joint.loss, video=replace(joint.loss.video, overall=video), audio=replace(joint.loss.audio, overall=audio))
        return replace(base, schedule="weighted", stages=(replace(joint, loss=loss),)).renamed(f"{base.name}-weighted-{setting}")

    return _described(build, recipe, f"both streams at once, loss weights video : audio = {weights[0]:g} : {weights[1]:g}")


def dual(recipe: Recipe, video_layers: tuple[int, int]) -> Recipe:
    """Two tokenizers, one a stream, each with its own codebook of the same size: the same tokens and bits a clip.

    video_layers: how many of the unified model's encoder and decoder layers the video model gets; the audio model gets the rest,
    so the layers are as many as before. The second codebook is on top (3 % of avtok-mini).
    """

    def build() -> AVTokTraining:
        base = recipe()
        encoder, decoder = video_layers
        model = base.model
        video = replace(model, encoder_layers=encoder, decoder_layers=decoder)
        audio = replace(model, encoder_layers=model.encoder_layers - encoder, decoder_layers=model.decoder_layers - decoder)
        return replace(base, schedule="dual", model=video, audio_model=audio, stages=(_joint(base),)).renamed(f"{base.name}-dual")

    return _described(build, recipe, "two tokenizers with a codebook each, the same tokens and layers in all")


def _joint(base: AVTokTraining) -> AVTokStage:
    return AVTokStage(name="joint", trains="joint", clips=base.clips, loss=base.stages[0].loss, optim=base.stages[0].optim)


def _described(build: Recipe, recipe: Recipe, what: str) -> Recipe:
    build.__doc__ = f"{recipe().name}: {what}."
    return build


# What pyproject.toml names.
avtok_mini_vanilla, avtok_small_vanilla = vanilla(avtok_mini), vanilla(avtok_small)
avtok_mini_dual, avtok_small_dual = dual(avtok_mini, (2, 3)), dual(avtok_small, (4, 4))
avtok_mini_weighted_a, avtok_mini_weighted_b, avtok_mini_weighted_c = (weighted(avtok_mini, setting) for setting in MODALITY_WEIGHTS)
avtok_small_weighted_a, avtok_small_weighted_b, avtok_small_weighted_c = (weighted(avtok_small, setting) for setting in MODALITY_WEIGHTS)
