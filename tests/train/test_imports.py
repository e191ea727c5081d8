"""What a training imports: nothing that a GPU machine's image may lack and nobody carries there (scripts/gpu_day.sh)."""

import subprocess
import sys

LACKING = "av,soundfile,lpips,auraloss,ale_py,snac,selenium,hypothesis,torchmetrics"  # the first cannot be carried: 36 MB
PROGRAM = """
import importlib.abc, sys

LACKING = sys.argv[1].split(",")

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}, which the machine lacks", name=name)

sys.meta_path.insert(0, Blocked())
import avbench.cli.train, avbench.data.arcade, avbench.data.splits, avbench.train.loop
from avbench.registry import plugins
from avbench.train import recipes

for name in plugins("recipe"):
    recipes.config(name).trainee()
"""


def test_the_training_path_imports_no_package_that_a_gpu_machine_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, LACKING], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
