"""Synchformer (Iashin et al., ICASSP 2024, arXiv 2401.16423): by how much does the sound of 4.8 s lead or trail its picture?

Each of 14 half-overlapping segments of 0.64 s becomes 8 tokens of video and 6 of sound; a transformer over all of them chooses among 21
offsets. Read from the plain state dict of the authors' model 24-01-04T16-39-21 that MMAudio publishes. At the published size, with keyed
random weights and the same pictures and sound, av-benchmark's copy of the authors' code gives the same tokens to 3e-6 (largest 3.9) and the
same logits to 1e-7 (standard deviation 0.18), in float32 on a CPU.

Video: a MotionFormer (Patrick et al. 2021, arXiv 2106.05392), whose attention is divided into time and space. Sound: the Audio Spectrogram
Transformer (Gong et al. 2021, arXiv 2104.01778).

It sees and hears half-overlapping segments of 16 frames at 25 fps, and of the same 0.64 s of sound at 16 kHz. A clip is shown at 25 fps by
time: frame k from k / fps on. One that is shorter than 4.8 s starts again at its end, picture and sound alike.

B sequences, S segments, T = 8 steps of two frames, P patches of a picture, L tokens (1 + T P of video, 2 + 12 x 6 of sound), D width,
H heads, K width of a head, C channels, N samples.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from avbench import weights
from avbench.artifact import fill
from avbench.weights.load import tensors


@dataclass(frozen=True, kw_only=True)
class SynchformerConfig:
    """Sizes; the defaults are the published file's (24-01-04T16-39-21)."""

    width: int = 768
    layers: int = 12  # of each encoder
    heads: int = 12
    head_layers: int = 3  # of the transformer over both streams
    head_heads: int = 8
    patch: int = 16  # pixels a side of a picture's patch


def attend(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """Softmax attention of projected tokens: (B, L, D)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Summary(nn.TransformerEncoderLayer):
    """One pre-LN layer over a sequence and a token of its own; what becomes of that token is the output: (B, L, D) -> (B, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, 4 * width, 0.0, nn.GELU(), layer_norm_eps=1e-6, batch_first=True, norm_first=True)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x_BLD: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([self.cls_token.expand(len(x_BLD), -1, -1), x_BLD], dim=1))[:, 0]


BANDS, MEL_FRAMES = 128, 66  # of a log-mel picture
AST_PATCH, AST_STRIDE = 16, 10
ROWS, AUDIO_STEPS = (BANDS - AST_PATCH) // AST_STRIDE + 1, (MEL_FRAMES - AST_PATCH) // AST_STRIDE + 1  # 12, 6
AST_EPS = 1e-12


class Ast(nn.Module):
    """Normalised log-mel pictures (S, 128, 66) -> a token for each 0.1 s (S, 6, D). Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        layers = nn.ModuleList(_AudioLayer(config.width, config.heads) for _ in range(config.layers))
        self.ast = nn.ModuleDict(
            {
                "embeddings": _Embeddings(config.width),
                "encoder": nn.ModuleDict({"layer": layers}),
                "layernorm": nn.LayerNorm(config.width, AST_EPS),
            }
        )
        self.freq_attn_agg = Summary(config.width, config.heads)

    def forward(self, mel_SMF: Tensor) -> Tensor:
        x_SLD = self.ast["embeddings"](mel_SMF)
        for layer in self.ast.get_submodule("encoder.layer").children():
            x_SLD = layer(x_SLD)
        patches = self.ast["layernorm"](x_SLD[:, 2:]).unflatten(1, (ROWS, AUDIO_STEPS))
        steps = patches.transpose(1, 2).flatten(0, 1)
        return self.freq_attn_agg(steps).unflatten(0, (-1, AUDIO_STEPS))  # type: ignore[no-any-return]


class _Embeddings(nn.Module):
    """CLS and distillation token, then overlapping patches row by row from the lowest band, all with their positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls_token, self.distillation_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, width, AST_PATCH, AST_STRIDE)})
        self.position_embeddings = nn.Parameter(torch.zeros(1, 2 + ROWS * AUDIO_STEPS, width))

    def forward(self, mel_SMF: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](mel_SMF[:, None]).flatten(2).transpose(1, 2)
        first = [token.expand(len(patches), -1, -1) for token in (self.cls_token, self.distillation_token)]
        return torch.cat([*first, patches], dim=1) + self.position_embeddings


class _AudioLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width, AST_EPS), nn.LayerNorm(width, AST_EPS)
        projections = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"attention": projections, "output": nn.ModuleDict({"dense": nn.Linear(width, width)})})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width)})

    def forward(self, x_SLD: Tensor) -> Tensor:
        normed = self.layernorm_before(x_SLD)
        q, k, v = (self.attention.get_submodule(f"attention.{name}")(normed) for name in ("query", "key", "value"))
        x_SLD = x_SLD + self.attention.get_submodule("output.dense")(attend(q, k, v, self.heads))
        return x_SLD + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x_SLD))))  # type: ignore[no-any-return]


SEGMENT_FRAMES = 16  # of a segment
VIDEO_STEPS = 8
RESOLUTION = 224  # pixels
MOTIONFORMER_EPS = 1e-6


class MotionFormer(nn.Module):
    """Segments (S, 16, 3, 224, 224) in [-1, 1] -> a token for each step (S, 8, D). Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        width, patches = config.width, (RESOLUTION // config.patch) ** 2
        cube = (SEGMENT_FRAMES // VIDEO_STEPS, config.patch, config.patch)
        self.patch_embed_3d = nn.ModuleDict({"proj": nn.Conv3d(3, width, cube, cube)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, VIDEO_STEPS, width))
        self.blocks = nn.ModuleList(_VideoBlock(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, MOTIONFORMER_EPS)
        self.spatial_attn_agg = Summary(width, config.heads)

    def forward(self, segments: Tensor) -> Tensor:
        x_SLD = self._embed(segments)
        for block in self.blocks:
            x_SLD = block(x_SLD)
        steps_STPD = self.norm(x_SLD[:, 1:]).unflatten(1, (VIDEO_STEPS, -1))
        return self.spatial_attn_agg(steps_STPD.flatten(0, 1)).unflatten(0, (-1, VIDEO_STEPS))  # type: ignore[no-any-return]

    def _embed(self, segments: Tensor) -> Tensor:
        """CLS token, then patches step by step and row by row, all with their positions."""
        patches = self.patch_embed_3d["proj"](segments.transpose(1, 2)).flatten(2).transpose(1, 2)
        positions = (self.temp_embed[:, :, None] + self.pos_embed[:, None, 1:]).flatten(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        return torch.cat([first, patches + positions], dim=1)


class _VideoBlock(nn.Module):
    """Pre-LN: attention over time, over space, MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, MOTIONFORMER_EPS) for _ in range(3))
        self.attn, self.timeattn = _DividedAttention(width, heads, "space"), _DividedAttention(width, heads, "time")
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x_SLD: Tensor) -> Tensor:
        x_SLD = x_SLD + self.timeattn(self.norm3(x_SLD))
        x_SLD = x_SLD + self.attn(self.norm1(x_SLD))
        return x_SLD + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x_SLD))))  # type: ignore[no-any-return]


class _DividedAttention(nn.Module):
    """The CLS token attends to all tokens; a patch to the CLS token and its own at all steps ("time") or its own step ("space")."""

    def __init__(self, width: int, heads: int, along: Literal["time", "space"]) -> None:
        super().__init__()
        self.heads, self.along = heads, along
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_SLD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_SLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (S, H, L, K) each
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        # S and H as one dimension: SDPA's fast kernels take four.
        queries, keys, values = (x.flatten(0, 1) for x in (self._grouped(q), self._with_first(k), self._with_first(v)))
        rest = F.scaled_dot_product_attention(queries, keys, values).unflatten(0, (-1, self.heads))
        rest = (rest.transpose(2, 3) if self.along == "time" else rest).flatten(2, 3)
        return self.proj(torch.cat([first, rest], dim=2).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _grouped(self, x_SHLK: Tensor) -> Tensor:
        """Patches as (S, H, P, T, K) along time, (S, H, T, P, K) along space."""
        steps = x_SHLK[:, :, 1:].unflatten(2, (VIDEO_STEPS, -1))
        return steps.transpose(2, 3) if self.along == "time" else steps

    def _with_first(self, x_SHLK: Tensor) -> Tensor:
        """The same, each group led by the CLS token."""
        groups = self._grouped(x_SHLK)
        first = x_SHLK[:, :, None, :1].expand(-1, -1, groups.shape[2], -1, -1)
        return torch.cat([first, groups], dim=3)


WEIGHTS = "synchformer"
SEGMENTS = 14  # that are compared at a time: 4.8 s
OFFSETS = 21  # -2 s to 2 s in steps of 0.2 s
TOKENS = 2 + SEGMENTS * (VIDEO_STEPS + AUDIO_STEPS)  # 198
SEGMENTS_PER_CHUNK = {"cpu": 2, "cuda": 28}  # that pass the video encoder together; bounds the memory
NOT_USED = "vfeat_extractor.patch_embed."  # for single pictures: in the file, never called


class Synchformer(nn.Module):
    """Names of parameters are the published file's."""

    def __init__(self, config: SynchformerConfig | None = None) -> None:
        super().__init__()
        c = config or SynchformerConfig()
        self.vfeat_extractor, self.afeat_extractor = MotionFormer(c), Ast(c)
        self.vproj, self.aproj = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.transformer = _Head(c)

    def forward(self, video: Tensor, mel: Tensor) -> Tensor:
        """Logits (2, 21) of a clip's offsets: in its first and in its last 14 segments, which may be the same ones.

        Args:
            video: (S, 16, 3, 224, 224) in [-1, 1], S >= 14.
            mel: (S, 128, 66), normalised: the sound of the same segments.
        """
        chunks = video.split(SEGMENTS_PER_CHUNK.get(video.device.type, 2))
        seen_SLD = self.vproj(torch.cat([self.vfeat_extractor(chunk) for chunk in chunks]))
        heard_SLD = self.aproj(self.afeat_extractor(mel))
        return self.transformer(_ends(seen_SLD), _ends(heard_SLD))  # type: ignore[no-any-return]


def _ends(tokens_SLD: Tensor) -> Tensor:
    """(2, 14 L, D): tokens of the first and of the last 14 segments."""
    return torch.stack([tokens_SLD[:SEGMENTS], tokens_SLD[-SEGMENTS:]]).flatten(1, 2)


class _Head(nn.Module):
    """Tokens of video (B, 112, D) and sound (B, 84, D) -> logits of the offsets (B, 21)."""

    def __init__(self, config: SynchformerConfig) -> None:
        super().__init__()
        width = config.width
        self.vis_in_lnorm, self.aud_in_lnorm, self.ln_f = (nn.LayerNorm(width) for _ in range(3))
        self.OFF_tok, self.MOD_tok = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": nn.Parameter(torch.zeros(1, TOKENS, width))})
        self.blocks = nn.Sequential(*(_Block(width, config.head_heads) for _ in range(config.head_layers)))
        self.off_head = nn.Linear(width, OFFSETS)

    def forward(self, seen_BLD: Tensor, heard_BLD: Tensor) -> Tensor:
        offset, modality = (token.expand(len(seen_BLD), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x_BLD = torch.cat([offset, self.vis_in_lnorm(seen_BLD), modality, self.aud_in_lnorm(heard_BLD)], dim=1)
        x_BLD = self.blocks(x_BLD + self.pos_emb_cfg["pos_emb"])
        return self.off_head(self.ln_f(x_BLD[:, 0]))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value", "proj")})
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BLD: Tensor) -> Tensor:
        normed = self.ln1(x_BLD)
        q, k, v = (self.attn[name](normed) for name in ("query", "key", "value"))
        x_BLD = x_BLD + self.attn["proj"](attend(q, k, v, self.heads))
        return x_BLD + self.mlp(self.ln2(x_BLD))  # type: ignore[no-any-return]


def load(path: Path, config: SynchformerConfig | None = None) -> Synchformer:
    """The model of a published file (a state dict), frozen, float32, on the CPU. Raises AvbenchError where it does not fit."""
    content = tensors(weights.load_torch(path), path)
    with torch.device("meta"):
        model = Synchformer(config)
    fill(model, {key: value for key, value in content.items() if not key.startswith(NOT_USED)}, path, "a Synchformer")
    return model.eval().requires_grad_(False)


FPS, SAMPLE_RATE = 25, 16_000
STRIDE = SEGMENT_FRAMES // 2  # of segments, in frames
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
LEAST_FRAMES = SEGMENT_FRAMES + (SEGMENTS - 1) * STRIDE  # 120: 4.8 s
LOG_OFFSET = 1e-6
LOG_MEAN, LOG_STD = -4.2677393, 4.5689974  # of AudioSet; AST divides by twice the deviation
ROUNDING = 1e-6  # 2.9999999 frames are 3


def video_segments(video_T3HW: Tensor, fps: float) -> Tensor:
    """(S, 16, 3, 224, 224) in [-1, 1] of frames in [0, 1]: short side to 224, bicubic, centre square.

    av-benchmark resizes 8-bit pictures on a CPU, cut to 0..255 between the two passes too: up to 0.04 apart on noise, 2e-5 in the logits.
    """
    pictures = resize(video_T3HW.float(), [RESOLUTION], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    pictures = center_crop(pictures, [RESOLUTION]) * 2 - 1
    shown = frame_indices(len(video_T3HW), fps)
    return torch.stack([pictures[shown[start : start + SEGMENT_FRAMES]] for start in segment_starts(len(shown))])


def audio_segments(audio_CN: Tensor, sample_rate: int, duration_s: float) -> Tensor:
    """Normalised log-mel pictures (S, 128, 66) of sound in [-1, 1] of a clip of `duration_s`; channels are averaged."""
    num_frames = frames_shown(duration_s)
    samples = looped(audio_CN, sample_rate, duration_s, num_frames * SAMPLES_PER_FRAME)
    starts = [start * SAMPLES_PER_FRAME for start in segment_starts(num_frames)]
    return log_mel(torch.stack([samples[start : start + SEGMENT_FRAMES * SAMPLES_PER_FRAME] for start in starts]))


def frames_shown(duration_s: float) -> int:
    """How many frames at 25 fps a clip of `duration_s` is made into: at least 4.8 s of them."""
    return max(LEAST_FRAMES, int(duration_s * FPS + ROUNDING))


def frame_indices(num_frames: int, fps: float) -> Tensor:
    """Which of a clip's frames is shown at 0, 1/25, 2/25 s ...: of 16 frames in 4.096 s each 6 or 7 times, then from the first again."""
    time = torch.arange(frames_shown(num_frames / fps), dtype=torch.float64) * fps / FPS  # in the clip's own frames
    return (time + ROUNDING).floor().long() % num_frames


def segment_starts(num_shown: int) -> list[int]:
    """First frames of the first 14 and of the last 14 segments, each once, in order."""
    count = (num_shown - SEGMENT_FRAMES) // STRIDE + 1
    return [STRIDE * number for number in sorted({*range(SEGMENTS), *range(count - SEGMENTS, count)})]


def looped(audio_CN: Tensor, sample_rate: int, duration_s: float, num_samples: int) -> Tensor:
    """(num_samples,) at 16 kHz: the first `duration_s` of the sound, silence where it lacks some, over and over."""
    mono = torchaudio.functional.resample(audio_CN.float().mean(0), sample_rate, SAMPLE_RATE)
    cycle = round(duration_s * SAMPLE_RATE)
    mono = F.pad(mono, (0, cycle - len(mono)))
    return mono[torch.arange(num_samples, device=mono.device) % cycle]


def log_mel(segments_SN: Tensor) -> Tensor:
    """(S, 128, 66) of segments of 10,240 samples: 65 frames of 10 ms, and one of 0 before normalisation."""
    with warnings.catch_warnings():  # the lowest bands are narrower than an FFT bin, and were so in training
        warnings.simplefilter("ignore", UserWarning)
        mel = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, n_fft=1024, win_length=400, hop_length=160, n_mels=BANDS)
    frames = (mel.to(segments_SN.device)(segments_SN) + LOG_OFFSET).log()
    return (F.pad(frames, (0, MEL_FRAMES - frames.shape[-1])) - LOG_MEAN) / (2 * LOG_STD)
