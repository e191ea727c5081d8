"""Does `avbench check` refuse every plugin that breaks a rule, and pass the others? A table of a file of plugins, each by its class.

    OMP_NUM_THREADS=1 python benchmarks/check_plugins.py path/to/plugins.py [CLASS ...]

EXPECTED names the rule that each breaks, in words; a class of the file that it does not know is an error. Exits 1 where a verdict is
wrong.
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from avbench.errors import AvbenchError
from avbench.run.check import check

# Class -> the rule of avbench/tokenizer.py that it breaks; "" where it breaks none, and then why it does not.
EXPECTED = {
    "Base": ("", ""),
    "Good": ("", ""),
    "FloatCodes": ("codes are int64", ""),
    "Int32": ("codes are int64", ""),
    "NumpyCodes": ("codes are tensors", ""),
    "ListCodes": ("codes are tensors", ""),
    "WrongBatch": ("codes of every clip", ""),
    "NumpyVocab": ("vocab sizes are ints", ""),
    "FloatVocab": ("vocab sizes are ints", ""),
    "OutOfRange": ("codes below the vocab size", ""),
    "MinusOne": ("codes of 0 or more", ""),
    "TensorDuration": ("duration_s is a float", ""),
    "PerClipDuration": ("duration_s is a float", ""),
    "IntDuration": ("duration_s is the clip's", ""),
    "TinyDuration": ("duration_s is the clip's", ""),
    "Stateful": ("decode uses nothing but tokens", ""),
    "Random": ("encode is deterministic", ""),
    "BatchDependent": ("a clip does not depend on its batch", ""),
    "Nan": ("decode gives no NaN", ""),
    "Half": ("", "floats of any width are measured as float32"),
    "Uint8": ("decode gives floats", ""),
    "MinusOneToOne": ("video in [0, 1]", ""),
    "ChannelsFirst": ("video (B, T, 3, H, W)", ""),
    "Grad": ("", "tensors that require gradients are detached"),
    "DefaultDtype": ("switches as it found them", ""),
    "DefaultBf16": ("switches as it found them", ""),
    "Autocast": ("switches as it found them", ""),
    "MatmulMedium": ("switches as it found them", ""),
    "Deterministic": ("", "a run seeds before each step, so nobody's numbers hang on it"),
    "Exits": ("decode returns", ""),
    "Prints": ("", "what a plugin prints goes to stderr"),
    "VariableLengths": ("a clip does not depend on its batch", ""),
    "Meta": ("codes have data", ""),
    "NoRevision": ("info is complete", ""),
    "NoModalities": ("info is complete", ""),
    "ModalitiesSet": ("", "a set says the same as a frozenset"),
    "ModalitiesStr": ("info is complete", ""),
    "PipeName": ("", "names are escaped wherever they are shown"),
    "SlashName": ("", "names are made safe where they become folders"),
    "AudioBase": ("", ""),
    "AudioMono2D": ("audio (B, 1, N)", ""),
    "Audio16k": ("the split's sample rate", ""),
    "AudioShort": ("audio as long as the clip", ""),
    "AudioInt16": ("decode gives floats", ""),
    "AudioLoud": ("audio in [-1, 1]", ""),
    "AudioStereo": ("audio (B, 1, N)", ""),
}


def verdict(plugin: str) -> str:
    """What `avbench check` says: "" or the first broken rule and its detail."""
    try:
        return next((f"{finding.rule}: {finding.detail}" for finding in check(plugin) if not finding.passed), "")
    except AvbenchError as error:
        return f"cannot be loaded: {error}"


def main() -> None:
    """One line a class, in the file's order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("classes", nargs="*", help="default: every class of the file")
    options = parser.parse_args()
    lines = options.file.read_text().splitlines()
    classes = [line.removeprefix("class ").partition("(")[0].partition(":")[0] for line in lines if line.startswith("class ")]
    wrong, rows = 0, []
    for name in options.classes or classes:
        if name not in EXPECTED:
            sys.exit(f"{name} is not in EXPECTED: say which rule it breaks")
        (rule, why), said = EXPECTED[name], verdict(f"{options.file}:{name}")
        right = bool(rule) == bool(said)
        wrong += not right
        rows.append((name, rule or f"none{f': {why}' if why else ''}", said or "passes", "right" if right else "WRONG"))
        print(*rows[-1], sep=" | ", flush=True)
    print()
    print(tabulate(rows, headers=("plugin", "breaks", "check says", ""), tablefmt="github", maxcolwidths=[None, None, 90, None]))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
