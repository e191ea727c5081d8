"""VGGSound's and TAVGBench's lists: which file is which row, and what is wrong with a row."""

from pathlib import Path

import pytest

from avbench.data import splits, vggsound
from avbench.errors import AvbenchError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "vggsound").mkdir(parents=True)
    return tmp_path / "data" / "vggsound"


def test_every_way_to_name_a_vggsound_file_is_found(vgg: Path) -> None:
    names = ["-a_b-c_d_e1_30.mp4", "deep/er/_Betmm6FaWo_000096.webm", "0_ixmalQrig_100000_110000.mkv", "train_me_0_5.mp4", "other_1.mp4"]
    for name in names:
        (vgg / name).parent.mkdir(parents=True, exist_ok=True)
        (vgg / name).touch()
    rows = ['-a_b-c_d_e1,30,"pigeon, dove cooing",test', "_Betmm6FaWo,96,,test", "0_ixmalQrig,100,flute,test", "gone4567890,5,x,test"]
    (vgg / "vggsound.csv").write_text("\n".join([*rows, "train_me_0,5,y,train"]))
    source = vggsound.vggsound_test()
    assert [(clip.id, clip.label) for clip in source.clips] == [
        ("-a_b-c_d_e1_000030", "pigeon, dove cooing"), ("_Betmm6FaWo_000096", None), ("0_ixmalQrig_000100", "flute"),
    ]  # fmt: skip
    assert [path.relative_to(vgg).as_posix() for path in source.paths] == names[:1] + names[1:2] + names[2:3]
    assert source.num_official == 4
    assert source.note == "3 of 4 official clips found; 1 missing, e.g. gone4567890_000005"
    assert [clip.id for clip in vggsound.vggsound_train().clips] == ["train_me_0_000005"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("abc,30,label", "line 2: 3 columns, not 4"),
        ("abc,30,a,label,test", "line 2: 5 columns"),
        ("abc,3.5,label,test", "line 2: start '3.5'"),
        ("abc,30,label,val", "line 2: split 'val'"),
        ("../abc,30,label,test", "line 2: '../abc' is no YouTube id"),
        ("good,1,other,test", "line 2: good_000001 is there before"),
        ('abc,30,"label,test', "begins in line 2"),
    ],
)
def test_a_malformed_row_is_named_by_line(vgg: Path, row: str, complaint: str) -> None:
    (vgg / "vggsound.csv").write_text(f"good,1,label,test\n{row}\n")
    with pytest.raises(AvbenchError, match=complaint):
        vggsound.vggsound_test()


def test_many_malformed_rows_are_counted(vgg: Path) -> None:
    (vgg / "vggsound.csv").write_text("a,b\n" * 10)
    with pytest.raises(AvbenchError, match="and 7 more"):
        vggsound.vggsound_test()


def test_a_repeated_row_is_kept_once_and_noted(vgg: Path) -> None:
    (vgg / "vggsound.csv").write_text("good,1,label,test\n\ngood,1,label,test\n")
    (vgg / "good_1.mp4").touch()
    source = vggsound.vggsound_test()
    assert len(source.clips) == 1
    assert source.note == "1 repeated rows of the list kept once"


def test_without_a_list_the_error_says_what_to_put_where(vgg: Path) -> None:
    with pytest.raises(AvbenchError, match=r"vggsound\.csv.*official list.*AVBENCH_DATA"):
        vggsound.vggsound_test()
    with pytest.raises(AvbenchError, match=r"tavgbench\.csv.*caption"):
        vggsound.tavgbench_test()


def test_tavgbench_rows_have_captions(vgg: Path) -> None:
    folder = vgg.parent / "tavgbench"
    folder.mkdir()
    (folder / "tavgbench.csv").write_text('abc,30,"A dog, barking."\nxyz,0,Rain\n')
    (folder / "abc_30000_40000.mp4").touch()
    source = vggsound.tavgbench_test()
    assert [(clip.id, clip.label) for clip in source.clips] == [("abc_000030", "A dog, barking.")]
    assert source.num_official == 2


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_shared_clip_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the real clips (shared/data) are not beside the repository")
    monkeypatch.setenv("AVBENCH_DATA", str(data))
    for name, count in ((f"folder:{data}", 58), ("vggsound-test", 16), ("vggsound-train", 14)):
        split = splits.load(name, progress=False)
        assert [entry.failure for entry in split.entries] == [None] * count
        for batch in splits.batches(split, 8):
            assert batch.clips is not None
            assert batch.clips.video is not None
            assert batch.clips.audio is not None
            assert (batch.clips.video.std(dim=(1, 2, 3, 4)) > 0.02).all()
            assert (batch.clips.audio.std(dim=2) > 0).all()
