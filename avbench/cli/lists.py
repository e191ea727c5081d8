"""`avbench data export-list, import-list, audit`: which clips a split has, and what is odd about them."""

import csv
import sys
from collections import Counter
from pathlib import Path

import click


@click.command(name="export-list")
@click.argument("split")
@click.option("--limit", type=click.IntRange(min=1))
def export_list(split: str, limit: int | None) -> None:
    """Print a split's clips as a CSV: id, label, sha256, seconds, start, and why one failed."""
    from avbench.data import lists, splits

    click.echo(lists.export(splits.load(split, limit=limit)), nl=False)


@click.command(name="import-list")
@click.argument("split")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The clips are then the split SPLIT@NAME.")
@click.option("--exclude", is_flag=True, help="All clips but these.")
def import_list(split: str, file: Path, name: str, exclude: bool) -> None:
    """Take the clips of a list as a split of their own, SPLIT@NAME. A listed clip that is not here, or another file, fails there."""
    from avbench.data import lists, splits

    listed = lists.read(file)
    if exclude:
        ids = {clip.id for clip in listed}
        listed = [lists.Listed(id=clip.id) for clip in splits.find(split).clips if clip.id not in ids]
    path = lists.keep(split, name, listed)
    click.echo(f"{split}@{name}: {len(listed)} clips ({path})")


@click.command()
@click.argument("split_a")
@click.argument("split_b")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N clips of each.")
def overlap(split_a: str, split_b: str, limit: int | None) -> None:
    """List clips of SPLIT_A that SPLIT_B has too, encoded again, scaled or cut a little later; with their shares of differing bits."""
    from avbench.data import overlap as finding
    from avbench.data import splits

    a, b = (splits.load(name, limit=limit) for name in (split_a, split_b))
    pairs = list(finding.overlap(a, b))
    for pair in pairs:
        click.echo(str(pair))
    click.echo(finding.summary(pairs, a, b), err=True)


@click.command()
@click.argument("split")
@click.option("--against", metavar="SPLIT", help="Training clips that should not be among these.")
@click.option("--limit", type=click.IntRange(min=1))
@click.option("--out", type=click.Path(path_type=Path), help="Write the clips that were found as a list, for import-list --exclude.")
def audit(split: str, against: str | None, limit: int | None, out: Path | None) -> None:
    """List still, black, barred and mute clips, and those that are there twice, in the training split too."""
    from avbench.data import audit as auditing
    from avbench.data import splits
    from avbench.files import atomic

    clips = splits.load(split, limit=limit)
    findings = list(auditing.audit(clips, splits.load(against) if against else None))
    for finding in findings:
        click.echo(f"{finding.clip}  {finding.kind}: {finding.detail}")
    counts = Counter(finding.kind for finding in findings)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "nothing odd"
    click.echo(f"{split}: {len(clips.clips)} clips, {told}", err=True)
    if out is not None:
        with atomic(out, "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", "reason"))
            writer.writerows({finding.clip: (finding.clip, finding.kind) for finding in findings}.values())
    sys.exit(0)
