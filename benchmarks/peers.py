"""The same pairs of files through `avbench score` and through the code of two peers, values and seconds side by side.

    python benchmarks/peers.py --common PATH --tokenbench PATH [--clips 101] [--work DIR]

--common: a clone of github.com/JunyaoHu/common_metrics_on_video_quality (its needs: einops, tqdm).
--tokenbench: a clone of github.com/NVlabs/TokenBench (its needs: mediapy with an ffmpeg on the PATH, scikit-image).
Either may be left out. Neither ships weights or can fetch them everywhere: both get the weights that avbench has, converted; TokenBench's
FVD is another network file (StyleGAN-V's TorchScript) and n/a.

The pairs: the clips of arcade-mini in files without loss (FFV1, RGB, PCM), and H.264 at CRF 38 of them, stored without loss, too, so that
every reader sees the same pixels and what differs is the metrics' own code.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tabulate import tabulate

from avbench.data import splits
from avbench.tokenizers import video_codec
from avbench.tokenizers.ycbcr import to_planes

METRICS = ("psnr", "ssim", "lpips", "fvd", "lpips_vgg")

COMMON = """
import json, sys, time, torch
sys.path.insert(0, sys.argv[1])
from avbench.data import splits
def videos(folder):
    split = splits.load(f"folder:{folder}?only=video", progress=False)
    return torch.cat([batch.clips.video for batch in splits.batches(split, 8)])
reference, recon = videos(sys.argv[2]), videos(sys.argv[3])
from calculate_psnr import calculate_psnr
from calculate_ssim import calculate_ssim
from calculate_lpips import calculate_lpips
from calculate_fvd import calculate_fvd
found, device = {}, torch.device("cpu")
with torch.inference_mode():
    for name, run in {
        "psnr": lambda: calculate_psnr(reference, recon, only_final=True),
        "ssim": lambda: calculate_ssim(reference, recon, only_final=True),
        "lpips": lambda: calculate_lpips(reference, recon, device, only_final=True),
        "fvd": lambda: calculate_fvd(reference, recon, device, method="videogpt", only_final=True),
    }.items():
        started = time.perf_counter()
        found[name] = [float(run()["value"][0]), time.perf_counter() - started]
print("FOUND " + json.dumps(found))
"""

TOKENBENCH = """
import json, sys, time
folder, reference, recon, vgg = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = ["metrics_cli.py", "--gtpath", reference, "--targetpath", recon, "--device", "cpu", "--ext", "mkv"]
import types
sys.modules["token_bench.fvd"] = types.SimpleNamespace(FVD=None)  # needs weights that cannot be had
import numpy as np, lpips, token_bench.metrics_cli as cli
from glob import glob
files = [sorted(glob(f"{side}/*.mkv")) for side in (reference, recon)]
pairs = [[cli.read_video(file) for file in pair] for pair in zip(*files)]
found = {}
loss = lpips.LPIPS(net="vgg").eval() if vgg == "vgg" else None
for name, run in {
    "psnr": lambda a, b: cli.PSNR(a.astype(np.float32), b.astype(np.float32)),
    "ssim": lambda a, b: cli.SSIM(a.astype(np.float32), b.astype(np.float32)),
    **({"lpips_vgg": lambda a, b: cli.LPIPS(a, b, loss)} if loss else {}),
}.items():
    started = time.perf_counter()
    found[name] = [float(np.mean([run(a, b) for a, b in pairs])), time.perf_counter() - started]
print("FOUND " + json.dumps(found))
"""

AVBENCH = """
import json, sys
import avbench
reference, outputs, metrics, runs = sys.argv[1:]
run = avbench.score(reference + "?only=video", outputs, metrics=metrics.split(","), device="cpu", runs_dir=runs, fresh=True)
seconds = run.result["seconds"]
print("FOUND " + json.dumps({name: [run[name], seconds[f"metric {name}"]] for name in metrics.split(",")}))
"""


def write_video(path: Path, frames: np.ndarray, seconds: float) -> None:
    """uint8 (T, H, W, 3) as FFV1 in RGB: every reader gets these pixels."""
    with av.open(str(path), "w") as container:
        rate = Fraction(len(frames) / seconds).limit_denominator(1000)
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_pairs(work: Path, count: int) -> tuple[Path, Path]:
    """Folders of references and outputs."""
    folders = work / "reference", work / "outputs"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    split = splits.load("arcade-mini", limit=count)
    for batch in splits.batches(split, 8):
        assert batch.clips is not None
        assert batch.clips.video is not None
        for name, video in zip(batch.clips.ids, batch.clips.video, strict=True):
            pixels = (video * 255).round().to(torch.uint8)
            stream = video_codec.encode(video_codec.H264, to_planes(pixels.numpy()), batch.clips.fps, 38.0)
            assert stream is not None
            coded = video_codec.decode(video_codec.H264, stream)
            for folder, x in zip(folders, (pixels, coded), strict=True):
                write_video(folder / f"{name.replace('/', '_')}.mkv", x.permute(0, 2, 3, 1).numpy(), split.protocol.duration_s)
    return folders


def give_weights(common: Path | None, hub: Path) -> None:
    """The weights that avbench has, where the peers look for theirs."""
    from torchvision import models

    from avbench.nn.pretrained import lpips as ours

    hub.mkdir(parents=True, exist_ok=True)

    for net, make, file in (("alex", models.alexnet, "alexnet-owt-7be5be79.pth"), ("vgg", models.vgg16, "vgg16-397923af.pth")):
        network = make()
        trunk = [part for part in ours.load(net, "cpu").modules() if isinstance(part, torch.nn.Conv2d) and part.out_channels > 1]
        for part, given in zip((layer for layer in network.features if isinstance(layer, torch.nn.Conv2d)), trunk, strict=False):
            part.load_state_dict(given.state_dict())
        torch.save(network.state_dict(), hub / file)
    if common is not None:
        torch.save(_i3d_state(common), common / "fvd" / "videogpt" / "i3d_pretrained_400.pt")


def _i3d_state(common: Path) -> dict[str, torch.Tensor]:
    """avbench's I3D under the names of the peer's port."""
    from avbench.nn.pretrained import i3d

    sys.path.insert(0, str(common))
    from fvd.videogpt.pytorch_i3d import InceptionI3d  # type: ignore[import-not-found]  # the peer's

    variables: dict[str, Any] = i3d._variables()
    network = InceptionI3d(400, in_channels=3)
    state = network.state_dict()
    for key in state:
        name, part, leaf = key.rsplit(".", 2)
        place = network.get_submodule(name).name.removeprefix("inception_i3d")
        place = "Logits/Conv3d_0c_1x1" if place == "logits" else place
        params, stats = variables["params"], variables["batch_stats"]
        for step in place.split("/", 1) if place.startswith("Mixed") else [place]:
            params, stats = params[step], stats.get(step, {})
        conv, norm = params["Conv_0"], params.get("BatchNorm_0", {})
        moments = stats.get("BatchNorm_0", {})
        values = {
            "conv3d.weight": lambda conv=conv: conv["kernel"].transpose(4, 3, 0, 1, 2),
            "conv3d.bias": lambda conv=conv: conv["bias"],
            "bn.weight": lambda norm=norm: np.ones_like(norm["bias"]),
            "bn.bias": lambda norm=norm: norm["bias"],
            "bn.running_mean": lambda moments=moments: moments["mean"],
            "bn.running_var": lambda moments=moments: moments["var"],
            "bn.num_batches_tracked": lambda: np.zeros(1, np.int64),
        }
        state[key] = torch.as_tensor(np.array(values[f"{part}.{leaf}"]())).reshape(state[key].shape)
    return state


def ask(code: str, *arguments: object, python: str = sys.executable, **environment: str) -> tuple[dict[str, list[float]], float]:
    """What a process of its own found, and its seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.rsplit("FOUND ", 1)[1]), time.perf_counter() - started


def main() -> None:
    """A row a metric, a column a program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--common", type=Path)
    parser.add_argument("--tokenbench", type=Path)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has what the peers need")
    parser.add_argument("--clips", type=int, default=101)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--vgg", action="store_true", help="LPIPS of VGG16, too, TokenBench's: ten minutes of a core")
    options = parser.parse_args()
    metrics = METRICS if options.vgg else METRICS[:-1]
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        reference, outputs = write_pairs(work, options.clips)
        hub = work / "torch" / "hub" / "checkpoints"
        give_weights(options.common, hub)
        home = {"TORCH_HOME": str(hub.parents[1])}
        found = {"avbench score": ask(AVBENCH, reference, outputs, ",".join(metrics), work / "runs")}
        if options.common:
            found["common_metrics"] = ask(COMMON, options.common.resolve(), reference, outputs, python=options.python, **home)
        if options.tokenbench:
            found["TokenBench"] = ask(
                TOKENBENCH, options.tokenbench.resolve(), reference, outputs, "vgg" if options.vgg else "no", python=options.python, **home
            )
    ours = found["avbench score"][0]
    rows = []
    for metric in metrics:
        row = [metric]
        for values, _ in found.values():
            value = values.get(metric)
            row += ["n/a", "n/a", "n/a"] if value is None else [f"{value[0]:.6g}", f"{value[0] - ours[metric][0]:+.1e}", f"{value[1]:.1f}"]
        rows.append(row)
    headers = ["metric", *(f"{name} {part}".strip() for name in found for part in ("", "less avbench's", "s"))]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    print("whole processes, reading included: " + ", ".join(f"{name} {seconds:.0f} s" for name, (_, seconds) in found.items()))


if __name__ == "__main__":
    main()
