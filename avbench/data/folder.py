"""folder:PATH, any folder of videos: every video below it is a clip, the sub-folder that it lies in is its label."""

import hashlib
import os
from pathlib import Path

from avbench.data.files import EXTENSIONS, Files, find_videos
from avbench.errors import AvbenchError
from avbench.paths import cache_root
from avbench.types import ClipRef


def folder_source(name: str) -> Files:
    """The split `folder:PATH`. Ids are paths relative to PATH; the label of PATH/a/b/x.mp4 is "a/b", of PATH/x.mp4 None.

    Links are followed, a folder is read once. Raises AvbenchError where there is no such folder or no video in it.
    """
    given = Path(name.removeprefix("folder:")).expanduser()
    if not given.is_dir():
        raise AvbenchError(f"{given} is not a folder; a split is a name (avbench list splits) or folder:PATH of a folder of videos")
    folder = given.resolve()
    paths, note = find_videos(folder)
    if not paths:
        raise AvbenchError(f"no videos below {given}; looked for {', '.join(sorted(EXTENSIONS))}" + (f"; {note}" if note else ""))
    clips = tuple(_clip(path.relative_to(folder)) for path in paths)
    root = cache_root() / "prepared" / f"folder-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    return Files(name=name, clips=clips, paths=tuple(paths), num_official=len(clips), note=note, train_split=None, root=root)


def _clip(relative: Path) -> ClipRef:
    # A name that is not UTF-8 must not end the run in whatever prints it. A backslash of the name's own is doubled, so that no two
    # files share an id: byte 0xff becomes \xff, a name that spells "\xff" becomes "\\xff".
    text = os.fsencode(relative.as_posix().replace("\\", "\\\\")).decode(errors="backslashreplace")
    label = text.rpartition("/")[0]
    return ClipRef(id=text, label=label or None)
