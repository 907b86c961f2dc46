"""What the pages of long runs and large evaluations weigh."""

import html
import re
import tracemalloc
from dataclasses import replace

import pytest
from evaluation_cases import NAME, episode

from aworld.evaluation import evaluation_page, pages, plots
from aworld.rundir import RunDir
from aworld.trajectories.episode import Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit
MB = 1 << 20


def test_texts_lie_within_the_page_or_in_few_files_in_their_order() -> None:
    assert pages.divided({}) == {"": []}
    assert pages.divided({"a": MB, "b": MB}) == {"": ["a", "b"]}
    for count, size in ((660, MB // 2), (32_000, MB // 2), (3, 40 * MB)):
        found = pages.divided({str(n): size for n in range(count)})
        assert [key for keys in found.values() for key in keys] == [str(n) for n in range(count)]
        assert "" not in found and len(found) <= min(count, pages.PIECES + 1)
    assert max(len(keys) for keys in pages.divided({str(n): MB // 2 for n in range(660)}).values()) == 16


def a_round(number: int) -> dict[str, object]:
    parts = {f"part {n}": 0.5 for n in range(12)}
    named = dict.fromkeys(("entropy", "kl", "mismatch_mean", "clip_fraction"), 0.25)
    counted = {"n_groups": 8, "n_zero_variance": 2, "n_episodes": 64, "tool_errors": 1, "tool_calls": 7}
    seconds = {"load": 1.0, "rollout": 5.0 + number % 7, "gather": 1.0, "train": 3.0}
    lengths = {"length_mean": 100.0 + number % 13, "length_max": 900}
    reward = {"reward": number % 11 / 11, "reward_ci95": [0.1, 0.9], "reward_parts": parts, "reward_by_source": parts}
    return {"round": number, "statuses": {"answered": 60}, "seconds": seconds, "episode_time": {"generate": 0.9}} | {
        **named,
        **counted,
        **lengths,
        **reward,
    }


def test_the_pictures_of_a_long_run_are_no_larger_than_those_of_a_short_one() -> None:
    def drawn(count: int) -> dict[str, str]:
        return plots.draw({"rounds": [a_round(n) for n in range(1, count + 1)], "evaluation": {}, "evaluations": {}})

    short, long = drawn(200), drawn(2000)
    assert list(short) == list(long) and len(long) == 9
    assert sum(map(len, long.values())) < 1.2 * sum(map(len, short.values())) < 0.6 * MB
    assert not any(color in svg for svg in long.values() for color in plots.OF_THE_PAGE)


def test_parts_of_a_reward_have_their_names_whatever_these_are() -> None:
    names = ["$\\frac{", "_hidden", "</svg><script>", "a $5 bill"]
    rounds = [a_round(n) | {"reward_parts": dict.fromkeys(names, 0.5)} for n in (1, 2)]
    svg = plots.draw({"rounds": rounds, "evaluation": {}, "evaluations": {}})["Parts of the reward"]
    written = [html.unescape(text).strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert set(names) <= set(written) and "<script" not in svg


def test_places_are_rounded_and_labels_are_not() -> None:
    svg = plots.for_page('<svg><path d="M1.23456 2"/><text x="3.45678">0.0005</text></svg>', "Mismatch")
    assert 'd="M1.23 2"' in svg and 'x="3.45"' in svg and ">0.0005<" in svg


def test_a_thinned_curve_keeps_its_mean() -> None:
    found = plots.thinned(list(range(1000)))
    assert len(found) == plots.MOST and found.mean() == pytest.approx(499.5)
    assert plots.thinned([3.0, 5.0]).tolist() == [3.0, 5.0]


def test_one_text_is_held_at_a_time(run: RunDir) -> None:
    """Twelve texts of a megabyte each are packed in the memory of a few."""
    with Journal(run.evaluation(NAME, 5) / "journals" / "worker-0.journal") as log:
        for task in "abc":
            for attempt in range(4):
                text = f"{task}{attempt} some text " * (MB // 14)
                one = replace(episode("a", 0), round=5, task_id=task, attempt=attempt, turns=[Turn("assistant", text)])
                log.append(one)
    evaluation_page.publish(run, NAME, 4)  # what is loaded once is loaded
    tracemalloc.start()
    evaluation_page.publish(run, NAME, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    page = run.evaluation(NAME, 5) / "report.html"
    assert peak < 10 * MB and page.stat().st_size < 100_000
    assert [path.name for path in sorted(page.with_name("report").iterdir())] == ["000.js", "001.js"]
