"""Configuration files of one's own: where they lie, which one counts, and the refusal of a name that is nowhere."""

from pathlib import Path

import pytest

from aworld.config import CONFIGS, changed, load
from aworld.errors import InputError

pytestmark = pytest.mark.unit
LOCAL = (CONFIGS / "site" / "local.yaml").read_text()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `aworld` of a user's configuration."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "aworld"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_given_folder_goes_before_the_users_own_and_that_before_the_shipped_one(home: Path, tmp_path: Path) -> None:
    words = ["recipe=demo", "site=local"]
    assert load(words).site.name == "local"
    write(home, "site/local", LOCAL.replace("name: local", "name: of-the-user"))
    assert load(words).site.name == "of-the-user"
    write(tmp_path / "given", "site/local", LOCAL.replace("name: local", "name: given"))
    assert load(words, tmp_path / "given").site.name == "given"
    assert changed(load(words), ["site=local"], tmp_path / "given").site.name == "given"
    assert load(words).model == load(words, tmp_path / "given").model  # of the shipped ones, in each case


def test_a_path_is_a_file_and_one_in_a_recipe_lies_beside_the_recipe(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = (CONFIGS / "recipe" / "demo.yaml").read_text()
    recipe = write(tmp_path / "mine", "first", demo.replace("site: local", "site: ./machine.yaml"))
    assert recipe.read_text() != demo
    write(tmp_path / "mine", "machine", LOCAL.replace("name: local", "name: machine"))
    config = load([f"recipe={recipe}"])
    assert (config.name, config.site.name) == ("first", "machine")
    monkeypatch.chdir(tmp_path)
    assert load(["recipe=demo", "site=./mine/machine.yaml"]).site.name == "machine"
    with pytest.raises(InputError, match=f"no site './machine.yaml': {tmp_path}/machine.yaml is not there; mend"):
        load(["recipe=demo", "site=./machine.yaml"])


def test_a_name_that_is_nowhere_lists_the_places_and_what_is_there(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "given", "site/mine", LOCAL)
    (home / "model").mkdir(parents=True)
    with pytest.raises(InputError) as refusal:
        load(["recipe=demo", "site=mein"], tmp_path / "given")
    given, users, ships = f"{tmp_path}/given/site has mine", f"{home}/site is not there", f"{CONFIGS}/site has example"
    assert str(refusal.value).startswith(f"no site 'mein'; {given}; {users}; {ships}, ")
    with pytest.raises(InputError, match=f"; {home}/model has none; "):
        load(["recipe=demo", "model=tinny"])


@pytest.mark.parametrize(("make", "fault"), [(False, "is not there"), (True, "has none of the folders recipe, site")])
def test_a_given_folder_without_any_configuration_is_refused(make: bool, fault: str, tmp_path: Path) -> None:
    if make:
        (tmp_path / "given").mkdir()
    with pytest.raises(InputError, match=f"--configs {tmp_path}/given {fault}"):
        load(["recipe=demo"], tmp_path / "given")


def test_what_a_run_reads_later_is_kept_by_its_path(home: Path, tmp_path: Path) -> None:
    """A resume gets no --configs."""
    hardware = write(tmp_path / "given", "hardware/mi300", (CONFIGS / "hardware" / "h100.yaml").read_text())
    tasks = write(home, "tasks/ours", "source: gaia\nsplit: validation\n")
    words = ["recipe=demo", "site.hardware=mi300"]
    evaluations = "pipeline.evaluations=[held-out, ours tasks.path=/data, gaia-test]"
    config = load([*words, evaluations], tmp_path / "given")
    assert config.site.hardware == str(hardware)
    assert config.pipeline.evaluations == ["held-out", f"{tasks} tasks.path=/data", "gaia-test"]
    assert config.pipeline.evaluation_overrides == {"held-out": [], "ours": ["tasks.path=/data"], "gaia-test": []}
    assert changed(config, []) == config
