"""`avbench list metrics`: each metric's lines say what it is, what it needs, and what gets what is not here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avbench import registry, weights
from avbench.cli.doctor import EXTRAS
from avbench.cli.metrics import WIDTH, lacks, listing
from avbench.metric import SETS

OURS = sorted(name for name, plugin in registry.plugins("metric").items() if plugin.distribution == "avbench")
CONSTRUCT_ALL = """
import sys
from avbench import registry
from avbench.metric import MetricOptions, MetricUnavailable
for name in sys.argv[1:]:
    try:
        registry.load_metric(name, MetricOptions())
    except MetricUnavailable as missing:
        print(name, str(missing).replace("\\n", " "), sep="\\t")
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without weights and without network."""
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AVBENCH_OFFLINE", "1")
    monkeypatch.delenv("AVBENCH_WEIGHTS", raising=False)


def test_every_line_fits_a_terminal_and_every_metric_and_set_is_there(bare: None) -> None:
    text = listing()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert set(OURS) <= set(re.findall(r"^(?:ok|--)  (\w+)", text, re.M))
    assert all(f"  {name:<14}{meaning}" in text for name, meaning in SETS.items())


def test_what_a_metric_is_stands_on_one_line() -> None:
    text = listing()
    for name in OURS:
        what, when = text.partition(f"  {name}\n")[2].splitlines()[:2]
        assert what.strip().endswith("."), name
        assert "`" not in what, name
        assert when.strip().startswith(("default of ", "on request, for ")), name


def test_what_a_metric_declares_is_what_its_constructor_asks_for(bare: None) -> None:
    """Where nothing is here, those that cannot be made are those that say so, and the command is in their reason."""
    done = subprocess.run([sys.executable, "-c", CONSTRUCT_ALL, *OURS], capture_output=True, text=True, env=dict(os.environ), check=True)
    told = dict(line.split("\t") for line in done.stdout.splitlines())
    declared = {name: lacks(registry.metric_info(name)) for name in OURS}
    assert told.keys() == {name for name, cures in declared.items() if cures}
    for name, reason in told.items():
        wanted = {*registry.metric_info(name).weights, registry.metric_info(name).extra or "no extra"}
        assert any(word in reason for word in wanted), reason


def test_the_command_names_only_what_is_missing_and_what_there_is(bare: None, tmp_path: Path) -> None:
    clap = registry.metric_info("clap_score")
    assert lacks(clap)[-1] == "avbench weights pull clap roberta-base-vocabulary"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "clap.pt").write_bytes(b"")
    assert lacks(clap)[-1] == "avbench weights pull roberta-base-vocabulary"
    for name in OURS:
        info = registry.metric_info(name)
        assert set(info.weights) <= weights.CATALOG.keys()
        assert not info.extra or info.extra in EXTRAS


def test_with_a_network_what_is_small_is_fetched_when_first_used(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVBENCH_OFFLINE")
    assert lacks(registry.metric_info("fvd")) == []
    assert re.search(r"ok  fvd\n(?:  .*\n){1,3}.*fetched", listing())
    assert "--  desync" in listing()
