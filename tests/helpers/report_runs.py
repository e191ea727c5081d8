"""Runs with clips and media, for the tests of the report: synthetic pictures and tones through the project's own sample writer."""

import json
import os
import shutil

import torch
from synthetic_runs import content, metric

from avbench.generate.panels import panels
from avbench.run.samples import sample_name, write_pair, write_sample
from avbench.types import ClipBatch

RATE, FRAMES, SAMPLES = 24_000, 16, 98_304
SECONDS = SAMPLES / RATE
HOSTILE = '"><img src=x onerror=pwned=1></script><script>pwned=1</script>'  # 62 characters: survives the names' limit
CLIPS = ("clips/a", f"clips/{HOSTILE}", "clips/c", "clips/d")
TARGETS = {"a2v": ("video",), "v2a": ("audio",), "av": ("video", "audio")}


def tone_clip(clip_id, *, hertz=440.0, shade=0.5, video=True, audio=True):
    time = torch.arange(SAMPLES) / RATE
    sound = 0.3 * torch.sin(2 * torch.pi * hertz * time) * (0.5 + 0.5 * torch.sin(4 * time))
    frames = torch.full((1, FRAMES, 3, 64, 64), shade)
    for k in range(FRAMES):
        frames[0, k, :, 20:40, 3 * k : 3 * k + 16] = 1 - shade
    return ClipBatch(
        ids=(clip_id,),
        labels=("label",),
        fps=FRAMES / SECONDS,
        sample_rate=RATE,
        video=frames if video else None,
        audio=sound[None, None] if audio else None,
    )


def clip_row(clip_id, psnr, *, label="tones", bits=1000.0):
    metrics = {"psnr": psnr, "lpips": psnr / 100, "si_sdr": 0.1 * psnr, "bits_per_s": bits}
    return {"id": clip_id, "label": label, "status": "ok", "reason": None, "metrics": metrics}


def failed_row(clip_id, reason):
    return {"id": clip_id, "label": None, "status": "failed", "reason": reason, "metrics": {}}


def save_run(runs_dir, number, name, rows, *, modalities=("audio", "video"), bits=1000.0, kind="learned", manifest=None, **changes):
    """A finished run with its three files; its values are the means of its rows."""
    ok = [row["metrics"] for row in rows if row["status"] == "ok"]
    mean = {key: sum(values[key] for values in ok) / len(ok) for key in ok[0] if key != "bits_per_s"}
    values = [metric(HOSTILE, 1.0, protocol=HOSTILE, reason=HOSTILE)] if name == HOSTILE else []
    values += [metric(key, mean[key], half=abs(mean[key]) / 20 + 0.1, clips=len(ok)) for key in mean] + [
        metric("bits_per_s", bits, clips=len(ok))
    ]
    result = content(name, values, kind=kind, clips=len(rows), failed=len(rows) - len(ok), run_id=f"run-{number}", **changes)
    result["tokenizer"]["modalities"] = list(modalities)
    result["failures"] = {row["reason"]: 1 for row in rows if row["status"] == "failed"}
    folder = runs_dir / f"run-{number}"
    folder.mkdir(parents=True)
    facts = {"versions": {"torch": "2.11.0"}, "hardware": {"processor": "abacus", "cores": 2}, "git_commit": "c0ffee", "spec": {"seed": 7}}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({**facts, **(manifest or {})}), encoding="utf-8")
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def gallery_runs(runs_dir):
    """Three tokenizers (one of sound alone, one with a failed clip and a hostile name) and two controls; media of three of four clips."""
    rows = [clip_row(clip, 20.0 + k, label=HOSTILE) for k, clip in enumerate(CLIPS)]
    both = save_run(runs_dir, 0, "both@5k", rows, bits=5000.0, kind="classical")
    save_run(runs_dir, 1, "both@9k", [clip_row(clip, 30.0 - k) for k, clip in enumerate(CLIPS)], bits=9000.0, kind="classical")
    sound = save_run(runs_dir, 2, "sound", rows, modalities=("audio",), bits=800.0)
    some = [*rows[:3], failed_row(CLIPS[3], f"it broke: {HOSTILE}")]
    hostile = save_run(runs_dir, 3, HOSTILE, some, bits=2000.0, manifest={"versions": {HOSTILE: HOSTILE}}, spec__checkpoint=HOSTILE)
    save_run(runs_dir, 4, "static-frame+silence", rows, kind="control", bits=96_000.0)
    for clip in CLIPS[:3]:
        write_sample(both / "samples", tone_clip(clip), tone_clip(clip, hertz=450, shade=0.4), write_pair)
        write_sample(sound / "samples", tone_clip(clip), tone_clip(clip, hertz=300, video=False), write_pair)
        write_sample(hostile / "samples", tone_clip(clip), tone_clip(clip, hertz=300, audio=False), write_pair)
    return runs_dir


def generation_runs(runs_dir):
    """For each task a generator of hostile class labels, with media of two of three clips, and the control of whole real clips."""
    samples = runs_dir.parent / "samples"
    for clip in CLIPS[:2]:
        write_sample(samples, tone_clip(clip), tone_clip(clip, hertz=300, shade=0.3), panels("av"))
    for task, made in TARGETS.items():
        rows = [{**clip_row(clip, 0.0, label=HOSTILE), "metrics": {"ib_score": 0.2 + k / 10}} for k, clip in enumerate(CLIPS[:3])]
        spec = {"task": task, "generator": f"out/{HOSTILE}", "temperature": 0.9, "top_k": 50, "top_p": 0.95, "guidance": 1.5, "seed": 3}
        changes = {f"spec__{key}": value for key, value in spec.items()}
        generator = save_run(runs_dir, f"{task}-0", "codec/ar-mini", rows, modalities=made, **changes)
        control = save_run(runs_dir, f"{task}-1", "real", rows, kind="control", spec__task=task)
        for folder in (generator, control):
            shutil.copytree(samples, folder / "samples")
    return runs_dir


def many_clips(runs_dir, *, runs=4, clips=1000):
    """Runs of many clips, all with media: one sample's files under every name."""
    source = runs_dir.parent / "one"
    write_sample(source, tone_clip("x"), tone_clip("x", shade=0.3), write_pair)
    files = sorted((source / sample_name("x")).iterdir())
    for number in range(runs):
        rows = [clip_row(f"clips/{k:05d}", 20.0 + k * 0.01 + number) for k in range(clips)]
        folder = save_run(runs_dir, number, f"tokenizer@{number}", rows, bits=1000.0 * (number + 1)) / "samples"
        folder.mkdir()
        for row in rows:
            name = sample_name(row["id"])
            (folder / f"{name}.mp4").touch()
            (folder / name).mkdir()
            for file in files:
                os.link(file, folder / name / file.name)
    return runs_dir


def training_run(folder, *, name="avtok-mini", stage="video", held_out="psnr", **config):
    """A training run of two stages with a picture: log.jsonl, manifest.json, pictures/. config: other things of its recipe."""
    from PIL import Image

    (folder / "pictures").mkdir(parents=True)
    lines = []
    for step in range(0, 400, 20):
        part = stage if step < 200 else "decode"
        lines.append({"kind": "train", "step": step, "stage": part, "clips_seen": 8 * step, "losses": {"total": 5 - step / 100, "l1": 1.0}})
        if step % 100 == 0:
            lines.append({"kind": "eval", "step": step, "stage": part, "clips_seen": 8 * step, "held_out": {held_out: 20 + step / 100}})
            Image.new("RGB", (64, 32), (step // 2, 80, 120)).save(folder / "pictures" / f"{step:08d}.png")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "train", "step"')
    provenance = {"recipe": name, "minutes": 3.5, "config": {"schedule": "vfal", **config}}
    (folder / "manifest.json").write_text(json.dumps({"provenance": provenance}))
    return folder
