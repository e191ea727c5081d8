"""folder:PATH, any folder of videos (or of sound files, where only sound is asked for): every file below it is a clip, the sub-folder
that it lies in is its label."""

import hashlib
import os
from pathlib import Path

from avbench.data.files import PROTOCOL, Files, extensions, find_videos
from avbench.errors import AvbenchError
from avbench.paths import cache_root
from avbench.protocol import Protocol
from avbench.types import ClipRef


def folder_source(name: str, protocol: Protocol = PROTOCOL) -> Files:
    """The split `folder:PATH` at `protocol`. Ids are paths relative to PATH; the label of PATH/a/b/x.mp4 is "a/b", of PATH/x.mp4 None.

    Links are followed, a folder is read once. Raises AvbenchError where there is no such folder or no video in it.
    """
    given = Path(name.removeprefix("folder:")).expanduser()
    if not given.is_dir():
        raise AvbenchError(f"{given} is not a folder; a split is a name (avbench list splits) or folder:PATH of a folder of videos")
    folder = given.resolve()
    suffixes = extensions(protocol)
    paths, note = find_videos(folder, suffixes)
    if not paths:
        kind = "videos" if protocol.num_frames else "sound files"
        raise AvbenchError(f"no {kind} below {given}; looked for {', '.join(sorted(suffixes))}" + (f"; {note}" if note else ""))
    clips = tuple(clip_of(path.relative_to(folder)) for path in paths)
    root = cache_root() / "prepared" / f"folder-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    found = Files(name=name, clips=clips, paths=tuple(paths), num_official=len(clips), note=note, train_split=None, root=root)
    return found.at(protocol)


def clip_of(relative: Path) -> ClipRef:
    """The clip of a file: its path below the split's folder is its id."""
    # A name that is not UTF-8 must not end the run in whatever prints it. A backslash of the name's own is doubled, so that no two
    # files share an id: byte 0xff becomes \xff, a name that spells "\xff" becomes "\\xff".
    text = os.fsencode(relative.as_posix().replace("\\", "\\\\")).decode(errors="backslashreplace")
    label = text.rpartition("/")[0]
    return ClipRef(id=text, label=label or None)
