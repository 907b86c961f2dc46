"""How YAML files and overrides fill the schema.

`load(["recipe=demo", "site=local", "training.lr=1e-3"])` starts from the schema's own defaults. It merges one file per
group, which an override or the recipe's `defaults` name, then the recipe itself, then the other overrides in order.
`places.py` says where these files lie.
"""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from aworld.config import places
from aworld.config.schema import Config
from aworld.config.verbatim import as_written, with_verbatim
from aworld.errors import InputError

GROUPS = ("site", "model", "tasks", "agent")
OPTIONAL = ("agent",)
PROVENANCE = "provenance"  # beside the sections of the schema, in the files that a run keeps
# Settings that runs of an older aworld keep in their files; no result depended on them.
GONE = (("training", "micro_batch_size"),)
T = TypeVar("T")


def load(overrides: list[str], configs: Path | None = None) -> Config:
    """The configuration that the overrides `recipe=NAME`, `group=NAME` and `key=value` compose.

    Args:
        configs: a folder of the user's own files, which go before all others.

    Raises:
        InputError: naming the file or override, the key, and the valid keys.
    """
    groups: dict[str, str] = {}
    others: list[str] = []
    for override in overrides:
        key, value = _split(override)
        if key in (*GROUPS, "recipe"):
            groups[key] = value
        else:
            others.append(override)
    if "recipe" not in groups:
        raise InputError(f"no recipe given; add recipe=NAME, one of: {places.names('recipe', configs)}")
    recipe_file, recipe = _read_group("recipe", groups["recipe"], configs)
    defaults = recipe.pop("defaults", {})
    config = OmegaConf.structured(Config)
    for group in GROUPS:
        if group in groups:
            file, values = _read_group(group, groups[group], configs)
        elif group in defaults:
            file, values = _read_group(group, defaults[group], configs, base=recipe_file.parent)
        elif group in OPTIONAL:
            continue
        else:
            raise InputError(f"no {group} given; add {group}=NAME, one of: {places.names(group, configs)}")
        config = _merge(config, {group: values}, str(file), prefix=f"{group}.")
    config = _merge(config, {"name": places.short(groups["recipe"]), **recipe}, str(recipe_file))
    return _located(_finish(_override(config, others, configs), "the composed configuration"), configs)


def changed(config: Config, overrides: list[str], configs: Path | None = None) -> Config:
    """The configuration with the overrides `key=value` and `group=NAME` applied, in order.

    Args:
        configs: a folder of the user's own files, which go before all others.

    Raises:
        InputError: naming the override, the key, and the valid keys.
    """
    found = _override(OmegaConf.structured(config), overrides, configs)
    return _located(_finish(found, "the changed configuration"), configs)


def read(path: Path) -> Config:
    """The configuration in a `run.yaml`, or in the `config.yaml` of a benchmark; of an older aworld, too.

    Raises:
        InputError: there is no such file, or it does not fit the schema.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; is this a run directory? make one with aworld pipeline")
    values = _read_yaml(path)
    values.pop(PROVENANCE, None)
    for section, name in GONE:
        values.get(section, {}).pop(name, None)
    site = values.get("site", {})
    if "poll_seconds" in site and "queue_seconds" not in site:  # an older aworld had one setting for both
        site["queue_seconds"] = site.pop("poll_seconds")
    return _finish(_merge(OmegaConf.structured(Config), values, str(path)), str(path))


def fill(section: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass of settings outside the schema, filled with `values`. Other fields keep their defaults.

    Args:
        values: by the names of its fields.
        where: the full name of `values` in the configuration.

    Raises:
        InputError: a value has the wrong type or is outside its limits; or what `section` itself raises.
    """
    config = OmegaConf.structured(section)
    OmegaConf.set_readonly(config, False)  # a frozen dataclass makes a read-only one
    found: dict[str, Any] = OmegaConf.to_container(_merge(config, values, where))  # type: ignore[assignment]
    for one in fields(section):  # type: ignore[arg-type]
        value, limits = found[one.name], one.metadata.get("limits")
        if limits and value is not None and (fault := limits.fault(value)):
            raise InputError(f"{where}.{one.name}={value} {fault}")
    return section(**found)


def read_provenance(path: Path) -> dict[str, str]:
    """The provenance in such a file: commit and versions, and for a benchmark the name of its tasks."""
    values = OmegaConf.to_container(OmegaConf.load(path))
    return values.get(PROVENANCE, {}) if isinstance(values, dict) else {}


def read_trackers(path: Path) -> list[str]:
    """The trackers in a `run.yaml`, which may change while a stage runs. To read all of it takes 0.1 s."""
    found: list[str] = OmegaConf.to_container(OmegaConf.load(path)).get("trackers", [])  # type: ignore[union-attr]
    return found


def to_yaml(config: Config, provenance: dict[str, str] | None = None) -> str:
    """The text of such a file."""
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    return text if provenance is None else f"{text}\n{OmegaConf.to_yaml({PROVENANCE: provenance})}"


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals:
        raise InputError(f"'{override}' on the command line is not key=value")
    return key, value


def _override(config: Any, overrides: list[str], configs: Path | None) -> Any:
    for override in overrides:
        key, value = _split(override)
        if key in GROUPS:
            file, values = _read_group(key, value, configs)
            config[key] = _merge(OmegaConf.structured(Config), {key: values}, str(file), prefix=f"{key}.")[key]
            continue
        try:
            typed: Any = OmegaConf.to_container(OmegaConf.create(f"x: {value}"))
            written = as_written(f"x: {value}")
        except Exception:
            raise InputError(f"'{override}' on the command line: the value is not valid YAML; quote it") from None
        values = _nested(key, typed["x"])
        if "site" in values:
            values["site"] = with_verbatim(values["site"], _nested(key, written["x"])["site"])
        config = _merge(config, values, f"'{override}' on the command line")
    return config


def _nested(key: str, value: Any) -> dict[str, Any]:
    """{a: {b: value}} of the key a.b, or a[b]."""
    patch = OmegaConf.create({})
    OmegaConf.update(patch, key, value)
    return OmegaConf.to_container(patch)  # type: ignore[return-value]


def _read_group(group: str, name: str, configs: Path | None, base: Path = Path()) -> tuple[Path, dict[str, Any]]:
    file = places.find(group, name, configs, base)
    return file, _read_yaml(file, is_site=group == "site")


def _located(config: Config, configs: Path | None) -> Config:
    """The configuration with the full paths of the user's own files that are read later: of hardware, and of tasks to
    evaluate on. So a run finds them wherever it goes on."""
    if config.site.hardware:
        config.site.hardware = places.own_file("hardware", config.site.hardware, configs)
    entries = config.pipeline.evaluations
    for at, (name, space, rest) in enumerate(str(entry).partition(" ") for entry in entries):
        if (file := places.own_file("tasks", name, configs)) != name:
            entries[at] = f"{shlex.quote(file)}{space}{rest}"
    return config


def _read_yaml(file: Path, is_site: bool = False) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(file))
        written = as_written(file.read_text())
    except Exception as error:  # PyYAML's own errors carry line and column over several lines
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no keys")
    if is_site:
        values = with_verbatim(values, written)
    elif "site" in values:
        values["site"] = with_verbatim(values["site"], written["site"])
    return {str(k): v for k, v in values.items()}


def _merge(config: Any, values: Any, where: str, prefix: str = "") -> Any:
    try:
        return OmegaConf.merge(config, values)
    except ConfigKeyError as error:
        key = error.full_key or ""
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        valid = ", ".join(str(k) for k in parent) if parent is not None else ""
        raise InputError(f"{where}: no key '{key.removeprefix(prefix)}'; valid: {valid}") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        if "Incompatible value 'None' for field of type 'str'" in reason:
            reason = f"no value; to empty it: {error.full_key}=\"''\""
        raise InputError(f"{where}: '{(error.full_key or '').removeprefix(prefix)}': {reason}") from None
    except TypeError as error:  # an item of a list by its number
        raise InputError(f"{where}: {error}; give the whole list") from None


def _finish(config: Any, where: str) -> Config:
    try:
        finished: Config = OmegaConf.to_object(config)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        raise InputError(f"{where}: no value for '{error.full_key}'; add {error.full_key}=…") from None
    except OmegaConfBaseException as error:  # ${…} that leads nowhere
        raise InputError(f"{where}: '{error.full_key}': {str(error).splitlines()[0]}") from None
    return finished
