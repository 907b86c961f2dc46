"""Tasks made from a seed, in GAIA's shape: questions, levels, attachments, a small corpus to search.

Level 1 takes one tool call, level 2 two, level 3 three. Every answer follows from the tools' results alone: numbers
in an attached file, facts in the corpus, arithmetic. Train and held-out never share a question: the hash of what is
asked decides the side. Each task's metadata holds the `plan` by which a scripted expert solves it.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.errors import InputError
from aworld.publish import publish_folder
from aworld.tasks.scoring import gaia_correct
from aworld.tasks.task import Task

USES = ("seed", "train", "held_out")  # of the settings below `tasks`
PLACES = [
    "Arden",
    "Belmor",
    "Corvane",
    "Dunmere",
    "Elvast",
    "Farrow",
    "Galdin",
    "Harrow",
    "Istrin",
    "Jorvale",
    "Keldan",
    "Lumera",
    "Morvane",
    "Nestor",
    "Orlin",
    "Pellan",
    "Quarrel",
    "Rosmere",
    "Selwick",
    "Tarrow",
    "Ulmar",
    "Vesper",
    "Wexley",
    "Yarrow",
]
ATTRIBUTES = ("population", "height", "area")
ITEMS = [
    "apples",
    "bread",
    "cheese",
    "coffee",
    "eggs",
    "flour",
    "honey",
    "lemons",
    "melons",
    "olives",
    "pears",
    "rice",
    "salt",
    "sugar",
    "tea",
    "wine",
]
FILES = ("prices.csv", "stock.csv", "prices.json", "stock.txt")
COLUMN = {"prices": "price", "stock": "stock"}

Facts = dict[tuple[str, str], int]
Draft = tuple[str, str, int, dict[str, str], list[str], str]  # key, question, level, files, plan, answer


class SyntheticTasks:
    """A TaskSource generated into `folder` (once; later uses read it)."""

    def __init__(self, config: schema.Source, folder: Path):
        self.folder = folder
        self.corpus: Path | None = folder / "corpus.jsonl"
        publish_folder(folder, lambda where: _generate(config, where))

    def tasks(self, split: str) -> Iterable[Task]:
        for line in (self.folder / split / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            yield Task(
                task_id=row["task_id"],
                question=row["Question"],
                answer=row["Final answer"],
                level=int(row["Level"]),
                files=(self.folder / split / row["file_path"],) if row["file_path"] else (),
                source="synthetic",
                metadata={"plan": row["plan"]},
            )

    def score(self, answer: str | None, task: Task) -> float:
        return float(task.answer is not None and gaia_correct(answer, task.answer))


def source(config: schema.Source, folder: Path) -> SyntheticTasks:
    return SyntheticTasks(config, folder)


def held_out(key: str) -> bool:
    """Whether the question of this key belongs to the held-out side (one in five does)."""
    return hashlib.sha256(key.encode()).digest()[0] % 5 == 0


def _generate(config: schema.Source, folder: Path) -> None:
    rng = random.Random(config.seed)
    facts = {(place, attribute): rng.randint(11, 999) for place in PLACES for attribute in ATTRIBUTES}
    corpus = [{"title": f"{p} {a}", "text": f"The {a} of {p} is {value}."} for (p, a), value in facts.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    for split, count in (("train", config.train), ("held_out", int(config.held_out))):
        _write_split(folder / split, split, count, rng, facts)


def _write_split(folder: Path, split: str, count: int, rng: random.Random, facts: Facts) -> None:
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for _ in range(200 * count):  # draws; most kinds hardly ever repeat, the facts are few
        if len(rows) == count:
            break
        key, question, level, files, plan, answer = rng.choice(KINDS)(rng, facts)
        if key in seen or held_out(key) != (split == "held_out"):
            continue
        seen.add(key)
        task_id = f"{split}-{len(rows):05d}"
        file_name, text = next(iter(files.items()), ("", ""))
        if file_name:
            (folder / task_id).mkdir()
            (folder / task_id / file_name).write_text(text)
        rows.append(
            {
                "task_id": task_id,
                "Question": question,
                "Level": level,
                "Final answer": answer,
                "file_name": file_name,
                "file_path": f"{task_id}/{file_name}" if file_name else "",
                "plan": plan,
            }
        )
    if len(rows) < count:
        raise InputError(f"tasks.{split}={count}: there are only about {len(rows)} distinct questions; ask for fewer")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def call(name: str, **arguments: str) -> str:
    """A tool call as Qwen3 writes it (Hermes format)."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def final(value: int) -> str:
    return f"<answer>{value}</answer>"


def _file(rng: random.Random) -> tuple[str, str, dict[str, int]]:
    """A file's name, its text, and its table of items."""
    name = rng.choice(FILES)
    table = {item: rng.randint(11, 99) for item in rng.sample(ITEMS, 2)}
    column = COLUMN[name.split(".")[0]]
    match name.split(".")[-1]:
        case "csv":
            text = f"item,{column}\n" + "".join(f"{item}, {value}\n" for item, value in table.items())
        case "json":
            text = json.dumps(table) + "\n"
        case _:
            text = "".join(f"{item}: {value}\n" for item, value in table.items())
    return name, text, table


def _fact(rng: random.Random, facts: Facts) -> tuple[str, int]:
    (place, attribute), value = rng.choice(list(facts.items()))
    return f"{attribute} of {place}", value


def _arithmetic(rng: random.Random, facts: Facts) -> Draft:
    code = f"{rng.randint(11, 99)}{rng.choice('+-*')}{rng.randint(11, 99)}{rng.choice('+-')}{rng.randint(2, 9)}"
    value = eval(code)  # of digits and operators made in the line above
    return f"arithmetic {code}", f"What is {code}?", 1, {}, [call("python", code=code), final(value)], str(value)


def _lookup_file(rng: random.Random, facts: Facts) -> Draft:
    name, text, table = _file(rng)
    item = rng.choice(list(table))
    question = f"What is the {COLUMN[name.split('.')[0]]} of {item} in {name}?"
    plan = [call("read_file", path=name), final(table[item])]
    return f"file {text} {item}", question, 1, {name: text}, plan, str(table[item])


def _lookup_fact(rng: random.Random, facts: Facts) -> Draft:
    what, value = _fact(rng, facts)
    verb = rng.choice(("What is", "Find", "Look up", "Tell me"))
    return f"fact {verb} {what}", f"{verb} the {what}.", 1, {}, [call("search", query=what), final(value)], str(value)


def _sum_file(rng: random.Random, facts: Facts) -> Draft:
    name, text, table = _file(rng)
    code, value = "+".join(map(str, table.values())), sum(table.values())
    plan = [call("read_file", path=name), call("python", code=code), final(value)]
    question = f"What is the total {COLUMN[name.split('.')[0]]} in {name}?"
    return f"sum {text}", question, 2, {name: text}, plan, str(value)


def _multiply_fact(rng: random.Random, facts: Facts) -> Draft:
    what, fact = _fact(rng, facts)
    factor = rng.randint(2, 19)
    plan = [call("search", query=what), call("python", code=f"{fact}*{factor}"), final(fact * factor)]
    return f"multiply {what} {factor}", f"What is {factor} times the {what}?", 2, {}, plan, str(fact * factor)


def _add_file_and_fact(rng: random.Random, facts: Facts) -> Draft:
    name, text, table = _file(rng)
    item = rng.choice(list(table))
    what, fact = _fact(rng, facts)
    value = table[item] + fact
    code = f"{table[item]}+{fact}"
    plan = [call("read_file", path=name), call("search", query=what), call("python", code=code), final(value)]
    question = f"Add the {COLUMN[name.split('.')[0]]} of {item} in {name} to the {what}."
    return f"file+fact {text} {item} {what}", question, 3, {name: text}, plan, str(value)


def _subtract_facts(rng: random.Random, facts: Facts) -> Draft:
    (one, a), (other, b) = _fact(rng, facts), _fact(rng, facts)
    plan = [call("search", query=one), call("search", query=other), call("python", code=f"{a}-{b}"), final(a - b)]
    return f"subtract {one} {other}", f"Subtract the {other} from the {one}.", 3, {}, plan, str(a - b)


Kind = Callable[[random.Random, Facts], Draft]
KINDS: tuple[Kind, ...] = (
    _arithmetic,
    _lookup_file,
    _sum_file,
    _lookup_fact,
    _add_file_and_fact,
    _multiply_fact,
    _subtract_facts,
)
