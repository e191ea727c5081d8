"""folder:PATH, any folder of videos: every video below it is a clip, the sub-folder that it lies in is its label."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from avbench.data.files import EXTENSIONS, Files, unreadable
from avbench.errors import AvbenchError
from avbench.paths import cache_root
from avbench.types import ClipRef


def folder_source(name: str) -> Files:
    """The split `folder:PATH`. Ids are paths relative to PATH; the label of PATH/a/b/x.mp4 is "a/b", of PATH/x.mp4 None.

    Links to folders are not followed, links to files only to those within PATH.
    Raises AvbenchError where there is no such folder or no video in it.
    """
    given = Path(name.removeprefix("folder:")).expanduser()
    if not given.is_dir():
        raise AvbenchError(f"{given} is not a folder; a split is a name (avbench list splits) or folder:PATH of a folder of videos")
    folder = given.resolve()
    paths = tuple(sorted(_videos(folder), key=lambda path: path.relative_to(folder).as_posix()))
    if not paths:
        raise AvbenchError(f"no videos below {given}; looked for {', '.join(sorted(EXTENSIONS))}")
    clips = tuple(_clip(path.relative_to(folder)) for path in paths)
    root = cache_root() / "prepared" / f"folder-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    return Files(name=name, clips=clips, paths=paths, num_official=len(clips), note="", train_split=None, root=root)


def _clip(relative: Path) -> ClipRef:
    # A name that is not UTF-8 must not end the run in whatever prints it.
    text = os.fsencode(relative.as_posix()).decode(errors="backslashreplace")
    label = text.rpartition("/")[0]
    return ClipRef(id=text, label=label or None)


def _videos(folder: Path) -> Iterator[Path]:
    """Regular files with a video's extension; hidden files and folders are not looked at."""
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith(".") and _is_inside(path, folder):
                yield path


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return False  # a link to nowhere, or to itself
    return real.is_file() and real.is_relative_to(folder)
