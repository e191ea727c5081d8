"""A metric's value anew from what a run keeps of its clips: over all of them to check it, over some to stand beside a run of those.

The same code as in a run's summary (`stats.estimate`). A mean over clips needs neither the metric nor torch; a distribution metric's own
`compute` is loaded, with the network it belongs to.
"""

from functools import cache

import numpy as np

from avbench import sparse, stats
from avbench.board.clips import RunClips
from avbench.errors import AvbenchError
from avbench.metric import Metric, MetricOptions, MetricUnavailable
from avbench.registry import load_metric, plugins
from avbench.types import MetricValue

# Ours whose value is no mean over clips; tests/board/test_recompute.py compares with what each metric declares.
DISTRIBUTIONS = frozenset(
    {"fvd", "gfvd", "fad_aisfx", "fad_vggish", "gfad_aisfx", "gfad_vggish", "codebook_use", "codebook_perplexity", "coded_bits_per_s"}
    | {"kvd", "kad_aisfx", "kad_vggish", "fvd_inf", "fad_aisfx_inf", "fad_vggish_inf"}
    | {"density_i3d", "coverage_i3d", "density_aisfx", "coverage_aisfx", "fmd", "gfmd"}
    | {"si_sdr_median"}
)
NO_FEATURES = "cannot be recomputed: no features"


@cache
def own_metrics() -> frozenset[str]:
    """Names of the metrics that come with avbench; a plugin's code is never run to check a file."""
    return frozenset(name for name, plugin in plugins("metric").items() if plugin.distribution == "avbench")


def recompute(name: str, clips: RunClips, ids: list[str], *, seed: int, protocol: str = "") -> MetricValue:
    """Value and interval of the metric called `name` over the clips `ids`; without a value, `reason` says why."""
    blank = MetricValue(name=name, value=None, protocol=protocol)
    if name not in DISTRIBUTIONS and clips.has_values(name):
        rows = clips.values(name, ids)
        rows = rows[np.isfinite(rows)]
        if not len(rows):
            return _without(blank, "no clip has a value")
        return _filled(blank, len(rows), *stats.estimate(_mean, rows, per_clip=True, seed=seed))
    if not clips.has_features(name):
        return _without(blank, NO_FEATURES)
    if name not in own_metrics():
        return _without(blank, "cannot be recomputed: a plugin's metric")
    try:
        metric = _load(name)
        features = clips.features(name, ids)
        features = features[np.flatnonzero(sparse.present(features))]
        count = features.shape[0]
        if count < metric.info.min_clips:
            return _without(blank, f"needs {metric.info.min_clips} clips, has {count}")
        info = metric.info
        found = stats.estimate(
            metric.compute, features, per_clip=info.per_clip, resampled=info.resampled, additive=info.additive, seed=seed
        )
    except (AvbenchError, MetricUnavailable, ValueError, IndexError) as error:
        return _without(blank, f"cannot be recomputed: {error}")
    return _filled(blank, count, *found)


@cache
def _load(name: str) -> Metric:
    return load_metric(name, MetricOptions())


def _mean(rows: np.ndarray) -> float:
    return float(np.mean(rows))


def _filled(blank: MetricValue, count: int, value: float, low: float | None, high: float | None) -> MetricValue:
    return MetricValue(name=blank.name, value=value, ci_low=low, ci_high=high, num_clips=count, protocol=blank.protocol)


def _without(blank: MetricValue, reason: str) -> MetricValue:
    return MetricValue(name=blank.name, value=None, protocol=blank.protocol, reason=reason)
