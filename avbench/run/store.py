"""runs/<run_id>/: what a run leaves on disk, written so that a kill at any moment loses at most the batch in hand.

manifest.json   spec, versions, git commit, hardware, tokenizer, split, protocols
parts/00012.npz one finished batch: its rows and features; appears whole (rename) or not at all
tokens/         the bytes that the decoder got, a file a batch; whoever asks for another metric later decodes them and encodes nothing;
                format: what they say of their streams, the same for every clip
clips.jsonl     one line a clip, appended as batches finish, rewritten in the split's order from the parts in the end
features.npz    rows of the distribution metrics (FVD, FAD, ...), ok clips in the split's order; of those that are nearly all zeros
                (histograms of large codebooks) the numbers and their positions, as avbench/sparse.py says
result.json     the values, with intervals; there only when the run is complete
"""

import contextlib
import hashlib
import itertools
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from avbench import sparse
from avbench.errors import AvbenchError
from avbench.files import atomic, disk_errors, is_disk_error, open_regular, read_json
from avbench.locks import alone
from avbench.sparse import Rows

MAX_RESULT_BYTES = 1 << 23  # a real result.json has about 20 kB
MAX_PART_BYTES = 1 << 30  # unpacked: of a batch of 64 clips it has 10 MB
# What reading a damaged .npz raises: a flipped bit may look like another format's feature, or like an endless name.
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, MemoryError, RuntimeError, NotImplementedError),
    *(SyntaxError, OverflowError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """One line of clips.jsonl. `metrics` holds the per-clip metrics; None: no value for this clip, `errors` may say why."""

    id: str
    label: str | None
    status: str  # "ok" or "failed"
    reason: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Everything that is kept of one batch. features: metric name -> (number of ok clips, ...) float32, NaN rows where it failed.

    measured: metric name -> the key (`identity.metric_key`) that its rows were made by.
    """

    index: int
    rows: tuple[ClipRow, ...]
    features: Mapping[str, Rows]
    seconds: dict[str, float]  # stage -> wall time: "read", "encode", "decode", "metric psnr", ...
    peak_memory_mb: float
    measured: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """True if a clip of it failed: such a batch is tried again on resume."""
        return any(row.status == "failed" for row in self.rows)

    def with_earlier(self, earlier: "BatchResult | None") -> "BatchResult":
        """Beside this, what `earlier` holds of other metrics; nothing, where another clip failed then."""
        if earlier is None or [(row.id, row.status) for row in earlier.rows] != [(row.id, row.status) for row in self.rows]:
            return self
        pairs = list(zip(earlier.rows, self.rows, strict=True))
        rows = tuple(
            replace(new, metrics=_others(old.metrics, self.measured) | new.metrics, errors=_others(old.errors, self.measured) | new.errors)
            for old, new in pairs
        )
        return replace(
            self,
            rows=rows,
            features={**_others(earlier.features, self.measured), **self.features},
            seconds=earlier.seconds | {stage: value for stage, value in self.seconds.items() if stage.startswith("metric ")},
            measured=earlier.measured | self.measured,
            peak_memory_mb=max(earlier.peak_memory_mb, self.peak_memory_mb),
        )


class RunStore:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "parts"
        self.tokens = folder / "tokens"
        with _disk_errors(folder):
            self.parts.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lock(self, on_wait: str = "another process works on this run; waiting for it") -> Iterator[None]:
        """Exclusive use of the folder among processes of this machine; the kernel frees it when a process dies.

        A finished run in a folder that cannot be written needs no lock to be shown.
        """
        with contextlib.ExitStack() as held:
            with _disk_errors(self.folder):
                try:
                    held.enter_context(alone(self.folder / ".lock", on_wait))
                except OSError as error:
                    if not is_disk_error(error) or self.read_result() is None:
                        raise
            yield

    def clear(self) -> None:
        """Forget everything (--fresh)."""
        shutil.rmtree(self.parts)
        shutil.rmtree(self.tokens, ignore_errors=True)
        for name in ("clips.jsonl", "result.json", "features.npz"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "samples", ignore_errors=True)
        self.parts.mkdir()

    def save(self, batch: BatchResult) -> None:
        """Keep a finished batch, beside what is there of other metrics: its part file first, then its lines at the end of clips.jsonl."""
        batch = batch.with_earlier(_read_part(self._part(batch.index)))
        header = json.dumps({key: value for key, value in asdict(batch).items() if key != "features"})
        with _disk_errors(self.folder), atomic(self._part(batch.index)) as file:
            np.savez_compressed(file, header=np.frombuffer(header.encode(), np.uint8), **_prefixed(batch.features))
        with _disk_errors(self.folder), (self.folder / "clips.jsonl").open("a") as lines:
            lines.write("".join(_line(row) for row in batch.rows))

    def save_tokens(self, index: int, payloads: Mapping[str, bytes]) -> None:
        """Keep what batch number `index` was encoded to, clip by clip: a line of JSON (ids, sizes, sha256), then the bytes."""
        body = b"".join(payloads.values())
        facts = {"ids": list(payloads), "sizes": [len(data) for data in payloads.values()], "sha256": hashlib.sha256(body).hexdigest()}
        with _disk_errors(self.folder):
            self.tokens.mkdir(exist_ok=True)
            with atomic(self._tokens(index)) as file:
                file.write(json.dumps(facts).encode() + b"\n" + body)

    def agreed_format(self, format: bytes) -> bytes:
        """What the clips of this run say of their streams (`payload.format_of`): `format`, if this is the first clip of all."""
        path = self.tokens / "format"
        with _disk_errors(self.folder):
            self.tokens.mkdir(exist_ok=True)
            with alone(self.tokens / ".lock", "another process writes here too; waiting for it"):
                if not path.exists():
                    with atomic(path) as file:
                        file.write(format)
            return path.read_bytes()

    def load_tokens(self, index: int) -> dict[str, bytes]:
        """What `save_tokens` kept; nothing where a file is missing or damaged: those clips are then encoded again."""
        try:
            return read_tokens(self._tokens(index))
        except AvbenchError:
            return {}

    def load(self) -> Iterator[BatchResult]:
        """The batches on disk in the split's order; a part that cannot be read counts as absent and is done again."""
        for path in sorted(self.parts.glob("*.npz")):
            part = _read_part(path)
            if part is not None:
                yield part

    def write_clips(self) -> None:
        """clips.jsonl anew, in the split's order, one line a clip."""
        with _disk_errors(self.folder), atomic(self.folder / "clips.jsonl", "w") as file:
            for part in self.load():
                file.writelines(_line(row) for row in part.rows)

    def write_features(self, features: dict[str, Rows]) -> None:
        """features.npz: the rows that `avbench compare` resamples."""
        with _disk_errors(self.folder), atomic(self.folder / "features.npz") as file:
            np.savez_compressed(file, **sparse.arrays_of(features))  # type: ignore[arg-type]

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """`name` (manifest.json, result.json) with `content`, at once or not at all."""
        with _disk_errors(self.folder), atomic(self.folder / name, "w") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")

    def read_result(self) -> dict[str, Any] | None:
        """result.json, None where there is none that can be read."""
        try:
            content = read_json(self.folder / "result.json", MAX_RESULT_BYTES)
        except AvbenchError:
            return None
        return content if isinstance(content.get("values"), list) else None

    def _tokens(self, index: int) -> Path:
        return self.tokens / f"{index:06d}.avt"

    def _part(self, index: int) -> Path:
        return self.parts / f"{index:06d}.npz"


def read_tokens(path: Path) -> dict[str, bytes]:
    """Clip id -> its bytes, of a file that `RunStore.save_tokens` wrote. Raises AvbenchError where it is missing or damaged."""
    try:
        with open_regular(path) as file:
            head, _, body = file.read().partition(b"\n")
        facts = json.loads(head)
        ends = list(itertools.accumulate(facts["sizes"], initial=0))
        found = {clip_id: body[start:end] for clip_id, (start, end) in zip(facts["ids"], itertools.pairwise(ends), strict=True)}
        intact = hashlib.sha256(body).hexdigest() == facts["sha256"] and ends[-1] == len(body) and min(facts["sizes"], default=0) >= 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AvbenchError(f"{path} cannot be read: {error}") from error
    if not intact:
        raise AvbenchError(f"{path} is damaged: its bytes are not those of its sha256")
    return found


def _disk_errors(folder: Path) -> contextlib.AbstractContextManager[None]:
    return disk_errors(folder, "run the same command again: what is finished stands")


def _others(kept: Mapping[str, Any], measured: Mapping[str, str]) -> dict[str, Any]:
    """What is kept of metrics that are not among `measured`."""
    return {name: value for name, value in kept.items() if name not in measured}


def _prefixed(features: Mapping[str, Rows]) -> dict[str, Any]:
    return {f"feature {name}": sparse.dense(rows).astype(np.float32) for name, rows in features.items()}


def _read_part(path: Path) -> BatchResult | None:
    """A part; None where there is none, or where it is damaged or claims more than any part holds."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_PART_BYTES:
                return None
            with np.load(file, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                features = {name.removeprefix("feature "): arrays[name] for name in arrays.files if name != "header"}
        rows = tuple(ClipRow(**row) for row in header.pop("rows"))
        return BatchResult(rows=rows, features=features, **header)
    except _DAMAGE:
        return None


def _line(row: ClipRow) -> str:
    content = asdict(row)
    if not row.errors:
        del content["errors"]
    return json.dumps(content, allow_nan=False) + "\n"
