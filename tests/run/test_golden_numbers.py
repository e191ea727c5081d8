"""No number moves unless a version says so: metrics, and the bytes of tokenizers without weights, on synthetic clips.

tests/golden/numbers.json holds the numbers beside the versions that they were made by. Where a number was meant to move, raise
`MetricInfo.version` (the metric), `TokenizerInfo.revision` (the tokenizer) or `LINE_VERSION` (avbench/run/identity.py: everything between),
and write the file anew: `python tests/run/test_golden_numbers.py`.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench import registry, stats
from avbench.metric import MetricOptions, MetricUnavailable
from avbench.run import payload
from avbench.run.check import synthetic_clips
from avbench.run.identity import LINE_VERSION
from avbench.types import ClipBatch, Tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "numbers.json"
ON_REQUEST = (
    "si_sdr_median",
    "mel_distance",
    "stft_distance",
    "loudness_difference",
    "av_onset_corr",
    "av_onset_lag",
    "coded_bits_per_s",
    "psnr_frames",
    "flicker",
    "ms_ssim",
    "dists",
    "vmaf",
    "vmaf_neg",
    "fmd",
    "kvd",
    "kad_aisfx",
    "fvd_inf",
    "fad_aisfx_inf",
)
METRICS = (*registry.default_metrics(), *ON_REQUEST)
NOT_WRITTEN = {"fad_vggish"}  # its weights need the open web
TOKENIZERS = ("identity", "static-frame", "silence", "static-frame+silence", "h264@20k", "h264@1k-opus@6k", "opus@12k")
# Networks: another processor's matrix products differ in the last digits, and a Fréchet distance of three clips makes more of it.
TOLERANCE = {
    **dict.fromkeys(("fvd", "fad_aisfx", "fad_vggish", "kvd", "kad_aisfx"), 2e-3),
    **dict.fromkeys(("fvd_inf", "fad_aisfx_inf"), 1e-2),
    **dict.fromkeys(("lpips", "lpips_motion", "dists"), 1e-4),
}


@cache
def clips() -> ClipBatch:
    return synthetic_clips()


@cache
def worse() -> ClipBatch:
    """The same clips darker, shifted by two pixels and 13 samples, with a tone on top."""
    reference = clips()
    assert reference.video is not None
    assert reference.audio is not None
    tone = 0.05 * torch.sin(torch.arange(reference.audio.shape[-1]) * 0.31)
    video = (0.85 * reference.video.roll(2, dims=4) + 0.05).clamp(0, 1)
    return ClipBatch(video=video, audio=0.7 * reference.audio.roll(13, dims=2) + tone, fps=reference.fps, sample_rate=reference.sample_rate)


@cache
def tokens() -> Tokens:
    codes = {"video": (torch.arange(3 * 2 * 50).reshape(3, 2, 50) * 7) % 30, "audio": (torch.arange(3 * 40).reshape(3, 1, 40) * 5) % 17}
    return Tokens(codes=codes, vocab_sizes={"video": 32, "audio": 20}, duration_s=4.096)


def measured(name: str) -> dict[str, Any]:
    """Version and value of a metric. Raises MetricUnavailable where it cannot run here."""
    metric = registry.load_metric(name, MetricOptions())
    with torch.inference_mode():
        rows = metric.update(clips(), worse(), tokens()).double().cpu().numpy()
    return {"version": metric.info.version, "protocol": metric.info.protocol, "value": float(metric.compute(rows))}


def encoded(name: str) -> dict[str, Any]:
    """Revision of a tokenizer, and what its decoder would get."""
    tokenizer = registry.load_tokenizer(name)
    with torch.inference_mode():
        made = tokenizer.encode(clips().copy())
    bytes_of = [payload.to_bytes(made, clip) for clip in range(len(clips()))]
    return {"revision": tokenizer.info.revision, "bits": [8 * len(part) for part in bytes_of], "sha256": _sha256(b"".join(bytes_of))}


def line() -> dict[str, Any]:
    """What lies between: bytes of tokens, and intervals of rows."""
    rows = np.sin(np.arange(60, dtype=np.float64))
    return {
        "version": LINE_VERSION,
        "payload": _sha256(b"".join(payload.to_bytes(tokens(), clip) for clip in range(3))),
        "mean interval": stats.mean_interval(rows),
        "jackknife interval": stats.jackknife_interval(lambda kept: float(np.std(kept)), rows),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text())
    return content


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_keeps_its_number_or_has_another_version(name: str, golden: dict[str, Any]) -> None:
    try:
        found = measured(name)
    except MetricUnavailable as missing:
        pytest.skip(str(missing))
    kept = golden["metrics"].get(name)
    if kept is None and name in NOT_WRITTEN:
        pytest.skip(f"{GOLDEN.name} was written on a machine without its weights; write it anew here")
    assert kept, f"{name} is not in {GOLDEN.name}: {__doc__}"
    value = found.pop("value")
    if name.startswith("vmaf") and found["protocol"] != kept["protocol"]:
        pytest.skip(f"another FFmpeg than {GOLDEN.name} tells of: {found['protocol'].rpartition('; ')[2]}")
    if found == {key: kept[key] for key in found}:
        assert value == pytest.approx(kept["value"], rel=TOLERANCE.get(name, 1e-5)), f"{name} moved and its version did not"
    else:
        pytest.fail(f"{name} has another version or protocol than {GOLDEN.name} tells of; write it anew")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_keeps_its_bytes_or_has_another_revision(name: str, golden: dict[str, Any]) -> None:
    kept, found = golden["tokenizers"][name], encoded(name)
    if "lib" in found["revision"] and found["revision"] != kept["revision"]:
        pytest.skip(f"{found['revision']} here, the kept bytes are of {kept['revision']}")
    assert found == kept, f"{name}: other bytes at the same revision, or another revision than {GOLDEN.name} tells of"


def test_the_line_between_keeps_its_bytes_and_intervals_or_has_another_version(golden: dict[str, Any]) -> None:
    found = line()
    assert found.pop("payload") == golden["line"]["payload"]
    assert found.pop("version") == golden["line"]["version"], f"write {GOLDEN.name} anew"
    for name, interval in found.items():
        assert interval == pytest.approx(golden["line"][name], rel=1e-9)


def test_the_golden_file_notices_a_change_of_a_hundred_thousandth(golden: dict[str, Any]) -> None:
    assert measured("psnr")["value"] * (1 + 2e-5) != pytest.approx(golden["metrics"]["psnr"]["value"], rel=1e-5)


def write() -> None:
    """Numbers of this checkout; of metrics that cannot run here, those that are there."""
    kept = json.loads(GOLDEN.read_text())["metrics"] if GOLDEN.exists() else {}
    for name in METRICS:
        try:
            kept[name] = measured(name)
        except MetricUnavailable as missing:
            print(f"{name} left as it was: {missing}")
    content = {"line": line(), "metrics": dict(sorted(kept.items())), "tokenizers": {name: encoded(name) for name in TOKENIZERS}}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    write()
