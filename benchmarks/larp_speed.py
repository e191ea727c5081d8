"""Encode and decode of LARP at its published size beside the official code, in one run on one machine.

    python benchmarks/larp_speed.py CHECKOUT [--rounds 3] [--device cpu]

CHECKOUT: a clone of https://github.com/hywang66/LARP with its requirements (timm, einops, easydict) installed. Both models hold the same
random weights and take one clip at a time, the official one without sampling, both without gradients. Rounds alternate between the
models; a ratio is the median over rounds of official over ours. CPU seconds tell what a busy machine hides. The bfloat16 line is what
`AVTokModel` does in that dtype: another rounding, so other codes.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from avbench.run.manifest import hardware
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.larp.inference import optimise
from avbench.tokenizers.larp.official import load_official

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from official_larp import official_args, tensor, video

Step = Callable[[], Any]


def main() -> None:
    """Print seconds, ratios and how far results agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.checkout))
    device = torch.device(arguments.device)
    official = official_model(device)
    ours = our_model(official, device)
    low = in_bfloat16(ours)
    optimise(ours)
    clip = video("large", clips=1).to(device)
    with torch.inference_mode():
        codes = official.encode(clip.transpose(1, 2))["bottleneck_rep"]
        steps = {"encode": encode_steps(official, ours, low, clip), "decode": decode_steps(official, ours, low, codes)}
        rows = [row for name, contestants in steps.items() for row in timed(name, contestants, arguments.rounds, device)]
        agreement(official, ours, low, clip, codes)
    print(tabulate(rows, headers=("step", "model", "wall s", "CPU s", "wall ratio", "CPU ratio"), floatfmt=".2f"))
    print(f"one clip a call, best of {arguments.rounds} rounds, {torch.get_num_threads()} threads, {hardware(device)}")


def official_model(device: torch.device) -> Any:
    from models.larp_tokenizer import LARPTokenizer

    model = LARPTokenizer(**official_args("large")).eval()
    model.load_state_dict({name: tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()})
    model.set_vq_eval_deterministic(True)
    return model.to(device)


def our_model(official: Any, device: torch.device) -> AVTokModel:
    """The same weights, through the published form."""
    with tempfile.TemporaryDirectory() as folder:
        official.save_pretrained(folder)
        return load_official(Path(folder)).model.to(device)


def in_bfloat16(model: AVTokModel) -> AVTokModel:
    """A copy that computes in bfloat16; the codebook stays as it is."""
    low = copy.deepcopy(model)
    book = low.bottleneck.quantizer.embedding.weight.data
    low = low.to(torch.bfloat16)
    low.bottleneck.quantizer.embedding.weight.data = book
    low.compute_dtype = torch.bfloat16
    return low


def encode_steps(official: Any, ours: AVTokModel, low: AVTokModel, clip: Tensor) -> dict[str, Step]:
    return {
        "official": lambda: official.encode(clip.transpose(1, 2))["bottleneck_rep"],
        "ours": lambda: ours.tokenize("video", clip),
        "ours, bfloat16": lambda: low.tokenize("video", clip),
    }


def decode_steps(official: Any, ours: AVTokModel, low: AVTokModel, codes: Tensor) -> dict[str, Step]:
    return {
        "official": lambda: official.decode_from_bottleneck(codes).clamp(0, 1),
        "ours": lambda: ours.detokenize("video", codes),
        "ours, bfloat16": lambda: low.detokenize("video", codes),
    }


def timed(name: str, contestants: dict[str, Step], rounds: int, device: torch.device) -> list[tuple[str | float, ...]]:
    """One row a model: the best wall and CPU seconds, and the median ratios of the first model to it."""
    seconds: dict[str, list[tuple[float, float]]] = {model: [] for model in contestants}
    for number in range(-1, rounds):  # one round to warm up
        for model, step in contestants.items():
            found = clock(step, device)
            if number >= 0:
                seconds[model].append(found)
    first = next(iter(seconds.values()))
    rows: list[tuple[str | float, ...]] = []
    for model, pairs in seconds.items():
        ratios = [median(a[i] / b[i] for a, b in zip(first, pairs, strict=True)) for i in (0, 1)]
        rows.append((name, model, *(min(pair[i] for pair in pairs) for i in (0, 1)), *ratios))
    return rows


def clock(step: Step, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def agreement(official: Any, ours: AVTokModel, low: AVTokModel, clip: Tensor, codes: Tensor) -> None:
    reference = official.decode_from_bottleneck(codes).transpose(1, 2).clamp(0, 1)
    for name, model in (("ours", ours), ("ours, bfloat16", low)):
        other = int((model.tokenize("video", clip) != codes).sum())
        worst = float((model.detokenize("video", codes) - reference).abs().max())
        print(f"{name}: {other} of {codes.numel()} codes differ from the official ones; the same codes decode to within {worst:.2g}")


if __name__ == "__main__":
    main()
