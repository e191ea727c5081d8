"""CUDA paths beside the CPU's numbers, and the speeds that only a GPU can show, in under 90 s. Without a GPU: the same at a tiny size.

    python benchmarks/gpu_smoke.py [--device auto] [--out smoke.json] [--larp CHECKOUT] [--wavtokenizer CHECKOUT]

Each check is one line: what was done, in how many seconds, and how far the device is from the CPU. A check that fails says why and the
others go on; the exit code is the number of failures. Networks are read from AVBENCH_HALF_WEIGHTS where that is set. CHECKOUT: the
official code, as benchmarks/larp_speed.py and wavtokenizer_speed.py take it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from avbench.generate import model as sizes
from avbench.generate.checkpoint import build
from avbench.generate.model import Generator
from avbench.generate.sampling import prepare, sample, uniforms
from avbench.generate.space import token_space
from avbench.generate.tasks import Layout
from avbench.metrics.frechet import frechet_from_features
from avbench.nn.pretrained import aisfx, i3d, lpips
from avbench.run.evaluate import evaluate
from avbench.run.manifest import hardware
from avbench.tokenizers.avtok.checkpoint import save_checkpoint
from avbench.tokenizers.avtok.config import AVTokConfig, avtok_mini, avtok_small
from avbench.tokenizers.avtok.model import AVTokModel
from avbench.tokenizers.larp.model import larp_large
from avbench.tokenizers.wavtokenizer.config import wavtokenizer_40
from avbench.tokenizers.wavtokenizer.model import WavTokenizerModel
from avbench.types import RunSpec, Sampling, Tokens

CPU = torch.device("cpu")
LAST = "4f"  # the block of I3D that AVTok's teacher reads
Report = dict[str, object]


def main() -> None:
    """Run all checks, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--larp", type=Path)
    parser.add_argument("--wavtokenizer", type=Path)
    arguments = parser.parse_args()
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if arguments.device == "auto" else arguments.device)
    report: Report = {"machine": hardware(device), "device": str(device)}
    failures = 0
    for name, check in checks(device, arguments.larp, arguments.wavtokenizer).items():
        begin = time.perf_counter()
        try:
            values: Report = check()
        except Exception as error:  # one path that fails must not hide the others
            failures += 1
            values = {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-3)}
        report[name] = {"seconds": round(time.perf_counter() - begin, 2), **values}
        print(json.dumps({name: report[name]}), flush=True)
        if arguments.out is not None:  # after each: what is there when the time is over
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(failures)


def checks(device: torch.device, larp: Path | None, wavtokenizer: Path | None) -> dict[str, Callable[[], Report]]:
    """Name -> check; the quick ones first."""
    return {
        "lpips": lambda: beside_cpu(device, frames_distance),
        "i3d": lambda: beside_cpu(device, video_features),
        "fvd": lambda: beside_cpu(device, frechet),
        "aisfx": lambda: beside_cpu(device, sound_features),
        "avtok codes": lambda: beside_cpu(device, codes),
        "sampling": lambda: sampled(device),
        "evaluation": lambda: evaluated(device),
        "larp": lambda: larp_speed(device) if larp is None else script("larp_speed.py", str(larp), "--device", str(device)),
        "wavtokenizer": lambda: (
            wavtokenizer_speed(device)
            if wavtokenizer is None
            else script("wavtokenizer_speed.py", str(wavtokenizer), "--device", str(device))
        ),
        "transformers.generate": lambda: script(
            "ar_sampling.py",
            "--device",
            str(device),
            "--batches",
            "8" if large(device) else "1",
            "--positions",
            "376" if large(device) else "128",
        ),
    }


def large(device: torch.device) -> bool:
    """Whether sizes are those that are worth measuring."""
    return device.type == "cuda"


def beside_cpu(device: torch.device, compute: Callable[[torch.device], Tensor]) -> Report:
    """Largest difference between the device's and the CPU's numbers, as a share of the CPU's largest. Raises where it is over 1 %."""
    theirs, ours = compute(CPU).double().cpu(), compute(device).double().cpu()
    difference = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
    if not difference < 0.01:
        raise ValueError(f"{difference:.3g} of the largest value apart from the CPU")
    return {"difference": difference}


def clips(count: int, resolution: int = 128) -> Tensor:
    """(B, 16, 3, R, R) in [0, 1]: shaded grounds, each shifted from frame to frame."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 9, 9, generator=generator)
    ground = torch.nn.functional.interpolate(small, size=(resolution, resolution), mode="bicubic").clamp(0, 1)
    return torch.stack([ground.roll(3 * step, dims=-1) for step in range(16)], dim=1)


def frames_distance(device: torch.device) -> Tensor:
    """LPIPS (VGG16) of frames and the same with noise."""
    frames = clips(1, 64)[0].to(device)
    other = (frames + 0.1 * torch.linspace(-1, 1, 64, device=device)).clamp(0, 1)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        return lpips.load_for_training(device)(frames, other, normalize=True).flatten()  # type: ignore[no-any-return]


def video_features(device: torch.device) -> Tensor:
    """I3D's features up to the block that training reads."""
    video = (2 * clips(1) - 1).transpose(1, 2).contiguous(memory_format=i3d.LAYOUT).to(device)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        return i3d.load_trunk(device, LAST).feature_map(video).mean((2, 3, 4))  # type: ignore[no-any-return]


def frechet(device: torch.device) -> Tensor:
    """Fréchet distance of those features between clips and darker ones: FVD's arithmetic."""
    trunk, video = i3d.load_trunk(device, LAST), clips(6, 64)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        sets = [
            trunk.feature_map((2 * x - 1).transpose(1, 2).contiguous(memory_format=i3d.LAYOUT).to(device)).mean((2, 3, 4)).cpu().numpy()
            for x in (video, 0.6 * video)
        ]
    return torch.tensor([frechet_from_features(*(features[:, :64] for features in sets))])


def sound_features(device: torch.device) -> Tensor:
    """aisfx's embedding of a rising tone."""
    moments = torch.arange(98_304) / 24_000
    tone = 0.3 * torch.sin(2 * torch.pi * (200 + 300 * moments) * moments)
    return aisfx.embed(aisfx.load_for_training(device), tone[None, None].to(device), 24_000).flatten()


def tokenizer_model(config: AVTokConfig) -> AVTokModel:
    """Random weights, the same each time."""
    torch.manual_seed(0)
    return AVTokModel(config).eval()


def codes(device: torch.device) -> Tensor:
    """Share of AVTok's codes that are the CPU's: 1 on both sides where all are."""
    config = avtok_small() if large(device) else avtok_mini()
    video = (255 * clips(1)).byte()
    there = tokenizer_model(config).to(device).tokenize("video", video.to(device)).cpu()
    here = tokenizer_model(config).tokenize("video", video)
    return torch.ones(1) if device == CPU else 0.995 + 0.005 * (there == here).float().mean()[None]


def sampled(device: torch.device) -> Report:
    """One clip's tokens a row, in float32 as on the CPU and in bfloat16: under a CUDA graph on a GPU. Raises where few ids agree."""
    positions = 376 if large(device) else 64
    stream = Tokens(codes={"joint": torch.zeros(1, 1, positions, dtype=torch.int64)}, vocab_sizes={"joint": 4096}, duration_s=4.096)
    layout = Layout(space=token_space(stream, {"video": positions - 16, "audio": 16}), tasks=("av",), classes=("any",))
    torch.manual_seed(0)
    model: Generator = build(sizes.mini(), layout).eval()
    torch.nn.init.normal_(model.head.weight, std=0.2)
    rows = 8 if large(device) else 2
    prompt, plan = torch.full((rows, 1), 4096), layout.plan("av")
    uniform = uniforms(0, [str(row) for row in range(rows)], positions)

    def ids(on: torch.device, dtype: torch.dtype) -> Tensor:
        ready = prepare(model.to(on), rows, dtype)
        return sample(ready, plan, prompt.to(on), uniform.to(on), Sampling()).cpu()

    same = float((ids(device, torch.float32) == ids(CPU, torch.float32)).float().mean())
    begin = time.perf_counter()
    ids(device, torch.bfloat16 if large(device) else torch.float32)
    speed = rows * positions / (time.perf_counter() - begin)
    if same < 0.5:  # a draw that falls the other way changes all that follow in its row
        raise ValueError(f"{same:.1%} of the ids are the CPU's")
    return {"ids as on the CPU": same, "tokens/s": round(speed, 1)}


def evaluated(device: torch.device) -> Report:
    """`avbench run` of an AVTok with random weights on synthetic clips."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "avtok", tokenizer_model(replace(avtok_mini(), name="smoke")), {})
        spec = RunSpec(
            tokenizer="avtok",
            checkpoint=str(Path(folder) / "avtok"),
            split="synthetic-val",
            limit=16 if large(device) else 2,
            metrics=("psnr", "ssim", "si_sdr"),
            device=str(device),
        )
        run = evaluate(spec, runs_dir=Path(folder) / "runs")
        values = {value["name"]: value["value"] for value in run.result["values"]}
        if run.num_failed:
            raise ValueError(f"{run.num_failed} clips failed")
    return values


def per_second(step: Callable[[], object], device: torch.device) -> float:
    """Calls a second, after two that warm up, for about two seconds."""
    for _ in range(2):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < 2:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        count += 1
    return count / (time.perf_counter() - begin)


def larp_speed(device: torch.device) -> Report:
    """Clips a second of our LARP alone, encode and decode, at its published size on a GPU."""
    model = tokenizer_model(larp_large() if large(device) else replace(avtok_mini(), audio=None)).to(device)
    clip = clips(1).to(device)
    codes = model.tokenize("video", clip)
    speeds = {"encode": per_second(lambda: model.tokenize("video", clip), device)}
    return speeds | {"decode": per_second(lambda: model.detokenize("video", codes), device), "official": "no checkout given"}


def wavtokenizer_speed(device: torch.device) -> Report:
    """Clips a second of our WavTokenizer alone, published size."""
    torch.manual_seed(0)
    model = WavTokenizerModel(wavtokenizer_40()).eval().to(device)
    audio = torch.randn(1, 98_304, device=device)
    with torch.inference_mode():
        codes = model.tokenize(audio)
        speeds = {"encode": per_second(lambda: model.tokenize(audio), device)}
        return speeds | {"decode": per_second(lambda: model.detokenize(codes), device), "official": "no checkout given"}


def script(name: str, *arguments: str) -> Report:
    """What another benchmark prints. Raises where it fails."""
    command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return {"printed": done.stdout.splitlines()}


if __name__ == "__main__":
    main()
