"""Writes synchformer.json with the authors' code: PYTHONPATH=FOLDER python tests/golden/make_synchformer.py AV_BENCHMARK

AV_BENCHMARK: a checkout of github.com/hkchengrex/av-benchmark, which carries the authors' network; FOLDER: transformers 4.44, omegaconf and
timm, with whatever they need. Keys and shapes of a small model, weights that follow from the keys (tests/helpers/keyed_weights.py), and its
logits for three clips that av-benchmark's own pre-processing made: a square one, a wide one, both looped, and one of 10 s.
"""

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
import torchaudio
from torch import Tensor, nn
from torchvision.transforms import v2

HERE = Path(__file__).parent
sys.path[:0] = [sys.argv[1], str(HERE.parent / "helpers")]
sys.modules["colorlog"] = MagicMock(ColoredFormatter=lambda *given: logging.Formatter())
for gone in ("imagebind", "imagebind.models", "imagebind.models.imagebind_model", "pytorchvideo", "pytorchvideo.data", "torio", "torio.io"):
    sys.modules[gone] = MagicMock()
for gone in ("pytorchvideo.data.clip_sampling", "av_bench.extraction_models", "av_bench.data.video_dataset"):
    sys.modules[gone] = MagicMock()

from av_bench.extract import encode_audio_with_sync  # noqa: E402
from av_bench.synchformer import ast, motionformer  # noqa: E402
from av_bench.synchformer.synchformer import Synchformer  # noqa: E402
from av_bench.synchformer.transformer import GlobalTransformer, RandInitPositionalEncoding  # noqa: E402
from clip_with_sound import chord, moving_colours  # noqa: E402
from extract_video import encode_video_with_sync  # noqa: E402
from keyed_weights import keyed_state  # noqa: E402

WIDTH, LAYERS, HEADS, PATCH = 24, 2, 4, 112
CLIPS = {"square": (128, 128, 4.096), "wide": (96, 131, 4.096), "long": (32, 32, 10.0)}  # height, width, seconds
PICTURES = v2.Compose(  # of av_bench/data/video_dataset.py
    [
        v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC),
        v2.CenterCrop(224),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
    ]
)
MEL = torchaudio.transforms.MelSpectrogram(sample_rate=16_000, win_length=400, hop_length=160, n_fft=1024, n_mels=128)


def small() -> Synchformer:
    """The authors' class with the sizes that it hard-codes replaced."""
    ast.ASTConfig = partial(
        ast.ASTConfig, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH
    )
    config = motionformer.OmegaConf.load(Path(motionformer.__file__).with_name("divided_224_16x4.yaml"))
    config.VIT.update({"EMBED_DIM": WIDTH, "DEPTH": LAYERS, "NUM_HEADS": HEADS, "PATCH_SIZE": PATCH})
    motionformer.OmegaConf = MagicMock(load=lambda path: config)
    model = Synchformer()
    model.vproj, model.aproj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    model.transformer = GlobalTransformer(0.0, 0.1, 0.1, 0.1, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    model.transformer.pos_emb_cfg = RandInitPositionalEncoding([198], WIDTH)
    model.transformer.off_head = nn.Linear(WIDTH, 21)
    return model.eval()


def logits(model: Synchformer, height: int, width: int, seconds: float) -> Tensor:
    """(2, 21) of a clip whose contrast is low enough for a bicubic filter to stay in [0, 1]; its sound is at 16 kHz already."""
    video, audio = 0.25 + 0.5 * moving_colours(height, width)[0], chord(16_000, seconds)[0]
    frames = max(120, round(25 * seconds))
    shown = [int(16 * number / (25 * seconds)) % 16 for number in range(frames)]
    seen = encode_video_with_sync(model, PICTURES(video[shown])[None])
    heard = encode_audio_with_sync(model, torch.cat([audio, audio], 1)[:, : 640 * frames], MEL)
    ends = (slice(None, 14), slice(-14, None))
    return torch.cat([model.compare_v_a(seen[:, end], heard[:, end]) for end in ends])


def main() -> None:
    """Keys, shapes and logits."""
    model = small()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(keyed_state(shapes))
    outputs: dict[str, Any] = {}
    with torch.inference_mode():
        for name, (height, width, seconds) in CLIPS.items():
            outputs[name] = [[round(value, 7) for value in row] for row in logits(model, height, width, seconds).tolist()]
    (HERE / "synchformer.json").write_text(json.dumps({"shapes": shapes, "outputs": outputs}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
