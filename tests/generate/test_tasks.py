"""avbench.generate.space and avbench.generate.tasks: ids, sequences, and what a condition may hold."""

from dataclasses import asdict

import pytest
import torch

from avbench.errors import AvbenchError, UsageError
from avbench.generate.space import space_from_dict, token_space
from avbench.generate.tasks import TASKS, Layout
from avbench.types import Tokens


def tokens(codes: dict[str, list], vocab_sizes: dict[str, int]) -> Tokens:
    return Tokens(codes={name: torch.tensor(values) for name, values in codes.items()}, vocab_sizes=vocab_sizes, duration_s=1.0)


UNIFIED = tokens({"joint": [[[3, 1, 4, 0, 2]], [[0, 0, 1, 4, 4]]]}, {"joint": 5})  # three of video, two of audio
DUAL = tokens({"video": [[[3, 1, 4]]], "audio": [[[1, 0], [6, 5]]]}, {"video": 5, "audio": 7})  # two audio codebooks
CUT = {"video": 3, "audio": 2}


def test_a_unified_tokenizer_shares_its_ids_between_modalities() -> None:
    space = token_space(UNIFIED, CUT)
    ids = space.to_ids(UNIFIED.codes)
    assert space.num_codes == 5
    assert ids["video"].tolist() == [[3, 1, 4], [0, 0, 1]]
    assert ids["audio"].tolist() == [[0, 2], [4, 4]]


def test_two_streams_and_their_codebooks_have_disjoint_ids_position_by_position() -> None:
    space = token_space(DUAL, None)
    ids = space.to_ids(DUAL.codes)
    assert space.num_codes == 5 + 2 * 7
    assert ids["video"].tolist() == [[3, 1, 4]]
    assert ids["audio"].tolist() == [[5 + 1, 12 + 6, 5 + 0, 12 + 5]]


@pytest.mark.parametrize(("given", "cut"), [(UNIFIED, CUT), (DUAL, None)])
def test_ids_go_back_to_the_tokens_that_they_came_from(given: Tokens, cut: dict[str, int] | None) -> None:
    space = token_space(given, cut)
    back = space.to_tokens(space.to_ids(given.codes))
    assert back.vocab_sizes == given.vocab_sizes
    assert back.duration_s == given.duration_s
    assert {name: codes.tolist() for name, codes in back.codes.items()} == {name: codes.tolist() for name, codes in given.codes.items()}
    assert space_from_dict(asdict(space)) == space


@pytest.mark.parametrize(
    ("given", "cut", "says"),
    [
        (UNIFIED, None, "stream_lengths"),
        (UNIFIED, {"video": 3, "audio": 3}, "stream_lengths"),
        (tokens({"video": [[[1, 2]]]}, {"video": 5}), None, "gives video"),
        (
            Tokens(codes=DUAL.codes, vocab_sizes=DUAL.vocab_sizes, duration_s=1.0, lengths={"video": torch.tensor([2])}),
            None,
            "fixed number",
        ),
        (tokens({"video": [[[0]]], "audio": [[[0]]]}, {"video": 2**32, "audio": 2}), None, "vocabulary"),
    ],
)
def test_tokens_that_no_generator_can_learn_are_refused(given: Tokens, cut: dict[str, int] | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        token_space(given, cut)


@pytest.mark.parametrize(
    "codes",
    [
        {"joint": torch.zeros(1, 1, 4, dtype=torch.int64)},
        {"joint": torch.full((1, 1, 5), 5)},
        {"joint": torch.full((1, 1, 5), -1)},
        {"video": torch.zeros(1, 1, 3, dtype=torch.int64)},
        {"video": torch.zeros(1, 2, 3, dtype=torch.int64), "audio": torch.zeros(1, 1, 2, dtype=torch.int64)},
    ],
)
def test_codes_of_another_space_are_refused(codes: dict[str, torch.Tensor]) -> None:
    with pytest.raises(AvbenchError):
        token_space(UNIFIED, CUT).to_ids(codes)


@pytest.mark.parametrize("values", [{}, {"video": 3}, None, {"video": {}, "audio": {}, "unified": True, "duration_s": 1.0}])
def test_a_damaged_space_of_a_checkpoint_is_refused(values: object) -> None:
    with pytest.raises(AvbenchError):
        space_from_dict(values)


def layout(given: Tokens = UNIFIED, tasks: tuple = TASKS) -> Layout:
    return Layout(space=token_space(given, CUT), tasks=tasks, classes=("cat", "dog"))


def test_one_task_alone_has_the_published_sequence() -> None:
    ids = token_space(UNIFIED, CUT).to_ids(UNIFIED.codes)
    a2v, v2a, av = (layout(tasks=(task,)) for task in TASKS)
    sep = 5
    assert a2v.sequence("a2v", ids, None).tolist() == [[0, 2, sep, 3, 1, 4], [4, 4, sep, 0, 0, 1]]
    assert v2a.sequence("v2a", ids, None).tolist() == [[3, 1, 4, sep, 0, 2], [0, 0, 1, sep, 4, 4]]
    assert av.sequence("av", ids, av.class_ids(["dog", "cat"])).tolist() == [[8, 3, 1, 4, 0, 2], [7, 0, 0, 1, 4, 4]]
    assert [one.num_slots for one in (a2v, v2a, av)] == [6, 6, 6]
    assert [one.num_ids for one in (a2v, v2a, av)] == [7, 7, 9]


def test_a_model_of_three_tasks_is_told_which_one() -> None:
    all_three = layout()
    ids = all_three.space.to_ids(UNIFIED.codes)
    firsts = [all_three.sequence("a2v", ids, None)[0, 0], all_three.sequence("v2a", ids, None)[0, 0]]
    firsts += [*all_three.class_ids(["cat", "dog"])]
    assert len({int(first) for first in firsts}) == 4
    assert all(all_three.null < int(first) < all_three.num_ids for first in firsts)


def test_a_token_has_one_slot_whatever_the_task() -> None:
    a2v, v2a, av = (layout().plan(task) for task in TASKS)
    assert a2v.slots == (0, 5, 6, 1, 2, 3, 4)
    assert v2a.slots == (0, 2, 3, 4, 1, 5, 6)
    assert av.slots == (0, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("tasks", [TASKS, ("a2v",), ("v2a",), ("av",), ("v2a", "av")])
@pytest.mark.parametrize("given", [UNIFIED, DUAL])
def test_each_target_place_has_one_legal_range_and_its_token_lies_in_it(given: Tokens, tasks: tuple) -> None:
    made = layout(given, tasks)
    ids = made.space.to_ids(given.codes)
    for task in tasks:
        plan = made.plan(task)
        sequence = made.sequence(task, ids, made.class_ids(["cat"] * len(given)))
        assert sequence.shape[1] == plan.length
        assert sorted(position for segment in plan.segments for position in segment.positions) == [*range(plan.prompt, plan.length)]
        for position, (low, high) in zip(range(plan.prompt, plan.length), plan.legal(), strict=True):
            assert 0 <= low <= int(sequence[:, position].min()) <= int(sequence[:, position].max()) < high <= made.space.num_codes
        assert max(plan.slots) < made.num_slots
        assert len(set(plan.slots)) == plan.length
        assert int(sequence.max()) < made.num_ids


def test_a_codebook_is_legal_at_its_own_places_only() -> None:
    legal = layout(DUAL, ("v2a",)).plan("v2a").legal()
    assert legal == [(5, 12), (12, 19), (5, 12), (12, 19)]


def test_a_prompt_is_made_of_its_condition_and_refuses_anything_more() -> None:
    made = layout()
    ids = made.space.to_ids(UNIFIED.codes)
    prompt = made.prompt("v2a", {"video": ids["video"]})
    assert prompt[:, 1:-1].tolist() == ids["video"].tolist()
    for task in ("a2v", "v2a"):
        with pytest.raises(ValueError, match="alone"):
            made.prompt(task, ids)
        with pytest.raises(ValueError, match="alone"):
            made.prompt(task, made.class_ids(["cat", "cat"]))
    with pytest.raises(ValueError, match="alone"):
        made.prompt("v2a", {"audio": ids["audio"]})
    with pytest.raises(ValueError, match="alone"):
        made.prompt("av", {"video": ids["video"]})


def test_audio_of_another_clip_changes_nothing_of_a_video_prompt() -> None:
    made = layout()
    one, other = made.space.to_ids(UNIFIED.codes), made.space.to_ids(UNIFIED.codes)
    other["audio"] = (other["audio"] + 1) % 5
    prompt = made.plan("v2a").prompt
    assert torch.equal(made.sequence("v2a", one, None)[:, :prompt], made.sequence("v2a", other, None)[:, :prompt])
    assert not torch.equal(made.sequence("v2a", one, None), made.sequence("v2a", other, None))


def test_a_dropped_condition_leaves_the_task_and_nothing_of_the_clip() -> None:
    made = layout()
    ids = made.space.to_ids(UNIFIED.codes)
    dropped = made.dropped("v2a", made.prompt("v2a", {"video": ids["video"]}))
    assert dropped.tolist() == [[made.null + 2, made.null, made.null, made.null, made.sep]] * 2
    assert made.dropped("av", made.prompt("av", made.class_ids(["cat", "dog"]))).tolist() == [[made.null]] * 2


def test_wrong_classes_and_tasks_are_usage_errors() -> None:
    with pytest.raises(UsageError, match='unknown class "cta"; did you mean "cat"'):
        layout().class_ids(["cta"])
    with pytest.raises(UsageError, match="without a label"):
        layout().class_ids([None])
    with pytest.raises(UsageError, match="learned a2v, not av"):
        layout(tasks=("a2v",)).plan("av")
    with pytest.raises(UsageError, match="labels"):
        Layout(space=token_space(UNIFIED, CUT), tasks=("av",))
    for tasks in ((), ("a2v", "a2v"), ("reconstruct",)):
        with pytest.raises(UsageError):
            layout(tasks=tasks)
