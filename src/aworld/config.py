"""The schema of a run's configuration, and how YAML files and the command line fill it.

`load(["recipe=demo", "site=local", "training.lr=1e-3"])` starts from `configs/recipe/demo.yaml`, adds the files that
its `defaults` name (one per group), then the `key=value` words in order. The result is a plain dataclass.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from aworld.bounds import POSITIVE, choice, number
from aworld.errors import InputError
from aworld.site import Site
from aworld.words import as_written, keep_words

CONFIGS = Path(__file__).parents[2] / "configs"
GROUPS = ("site", "model", "tasks", "agent")
OPTIONAL = ("agent",)
LARGEST_SEED = 2**32 - 1  # of numpy's generators; torch's take more


@dataclass
class Architecture:
    """Qwen3, dense; the names of its HF config.json."""

    vocab_size: int = number(MISSING, at_least=1)
    hidden_size: int = number(MISSING, at_least=1)
    intermediate_size: int = number(MISSING, at_least=1)
    num_hidden_layers: int = number(MISSING, at_least=1)
    num_attention_heads: int = number(MISSING, at_least=1)
    num_key_value_heads: int = number(MISSING, at_least=1)
    head_dim: int = number(MISSING, at_least=1)
    max_position_embeddings: int = number(MISSING, at_least=1)
    tie_word_embeddings: bool = False
    rope_theta: float = number(1e6, above=0)
    rms_norm_eps: float = number(1e-6, above=0)
    initializer_range: float = number(0.02, above=0)


@dataclass
class Parallel:
    """Megatron's layout of the trainer; data parallelism takes what is left of the processes."""

    tensor_model_parallel_size: int = number(1, at_least=1)
    pipeline_model_parallel_size: int = number(1, at_least=1)


@dataclass
class Shard:
    """One vLLM server."""

    tensor_parallel_size: int = number(1, at_least=1)
    max_model_len: int = number(2048, at_least=1)  # tokens, prompt and response
    max_num_seqs: int = number(32, at_least=1)
    kv_cache_gb: float = number(0.25, above=0)  # CPU only; on a GPU vLLM takes what is free
    startup_seconds: float = number(600.0, above=0)


@dataclass
class Model:
    """The policy's architecture and how it is laid out. `configs/model/`."""

    name: str = MISSING
    path: str | None = MISSING  # HF checkpoint folder; null: made from the architecture with random weights
    dtype: str = choice("float32", "float32", "bfloat16")
    architecture: Architecture = field(default_factory=Architecture)
    parallel: Parallel = field(default_factory=Parallel)
    shard: Shard = field(default_factory=Shard)


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible endpoint; no model: none is asked."""

    model: str = ""
    base_url: str = ""
    context: int = number(0, at_least=0)  # tokens it can hold; 0: not known
    key_variable: str = ""  # the environment variable that holds the key; empty: none is needed
    seconds: float = number(120.0, above=0)  # limit of one reply
    extra: dict[str, Any] = field(default_factory=dict)  # more of each request, such as return_token_ids of vLLM's


@dataclass
class Tasks:
    """What is asked. `configs/tasks/`; each source uses some of it."""

    source: str = MISSING
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)  # of a generator
    train: int = number(512, at_least=0)  # tasks per split that a generator makes
    held_out: int = number(200, at_least=0)
    path: str | None = None  # of a benchmark's local copy
    split: str = "validation"  # of a benchmark
    datasets: list[str] = field(default_factory=list)  # of reasoning-gym
    judge: Endpoint = field(default_factory=Endpoint)  # decides about answers
    score_seconds: float = number(900.0, above=0)  # limit of scoring one answer, a judge's tries included


@dataclass
class McpServer:
    """A tool server of your own: a command that speaks MCP over stdio, or an address that does over streamable HTTP."""

    command: list[str] = field(default_factory=list)  # started for each episode, inside its sandbox
    outside: bool = False  # the command is started beside the sandbox instead, where the network is
    variables: list[str] = field(default_factory=list)  # of the job's environment, for a command outside
    url: str = ""
    key_variable: str = ""  # the environment variable that holds the key of the address; empty: none is needed
    tools: list[str] | None = None  # of its, by name; null: all


@dataclass
class Environment:
    """The world of an episode."""

    servers: list[str] = field(default_factory=lambda: ["python", "files", "search"])
    corpus: str | None = None  # index that search answers from, made by aworld corpus; null: what the tasks bring
    mcp: dict[str, McpServer] = field(default_factory=dict)  # more tool servers, by name
    web: list[str] = field(default_factory=list)  # servers that reach the web, outside the sandbox
    web_cache: str = ""  # folder on the shared file system where their answers are kept; empty: nowhere
    # what is kept is not asked again; else record: ask, keep | replay: ask | strict: an error
    web_mode: str = choice("record", "record", "replay", "strict")
    slots: int = number(8, at_least=1)  # warm sandboxes per worker = episodes that run at once
    # never: a new sandbox per episode | reset: same server, fresh scratch and interpreter
    reuse: str = choice("never", "never", "reset")
    call_seconds: float = number(10.0, above=0)  # limit of one tool call
    tool_seconds: dict[str, float] = field(default_factory=dict, metadata=POSITIVE)  # the same of single tools, by name
    start_seconds: float = number(60.0, above=0)  # limit of a sandbox's start
    scratch_mb: int = number(64, at_least=1)  # of a file that a tool writes, and of all files that an episode makes
    # address space of a tool process, and resident memory of all of an episode's
    memory_mb: int = number(2048, at_least=1)
    processes: int = number(64, at_least=1)  # of an episode, its sandbox's own included
    result_chars: int = number(2000, at_least=1)  # longer results are cut, and say so


@dataclass
class Member:
    """One of several agents."""

    system_prompt: str = ""  # after agent.system_prompt, which is common to all
    does: str = ""  # what the others read of it
    tools: list[str] | None = None  # of the environment's, by name; null: all
    asks: list[str] = field(default_factory=list)  # agents it may ask, each a tool of its
    hands_to: list[str] = field(default_factory=list)  # agents that it may leave the question to
    guard: str = ""  # agent that sees its answer before it is given
    seconds: float = number(0.0, at_least=0)  # limit of what another asks of it; 0: the episode's
    endpoint: Endpoint = field(default_factory=Endpoint)  # its model; none: the policy


@dataclass
class Agent:
    """The loop around the policy. `configs/agent/`. All limits are of all agents together."""

    system_prompt: str = MISSING
    max_turns: int = number(8, at_least=1)
    max_tokens: int = number(1024, at_least=1)  # sampled tokens per episode
    episode_seconds: float = number(300.0, above=0)
    temperature: float = number(1.0, at_least=0)
    top_p: float = number(1.0, above=0, at_most=1)
    top_k: int = number(-1, at_least=-1)
    turn_tokens: int = number(512, at_least=1)  # sampled tokens per turn
    max_repeats: int = number(4, at_least=1)  # the same call so often in a row is played; one more ends the episode
    # tag: <answer>…</answer>, the paper's | final: FINAL ANSWER: …, GAIA's own
    answer_form: str = choice("tag", "tag", "final")
    # at a limit: answer: one turn more, for the answer alone | none: the episode ends
    last_turn: str = choice("none", "answer", "none")
    enable_thinking: bool = True  # of the policy's chat template, where it has such a switch
    context: str = "append"  # when it is full: append: the episode ends | drop: old turns go | summarise: … in words
    members: dict[str, Member] = field(default_factory=dict)  # several agents, by name
    order: list[str] = field(default_factory=list)  # of a workflow; empty: the first member alone


@dataclass
class Rollout:
    tasks_per_round: int = number(32, at_least=1)
    group_size: int = number(8, at_least=1)  # attempts per task
    lease_seconds: float = number(120.0, above=0)  # a claim not renewed for so long is free again
    infra_retries: int = number(2, at_least=0)  # per episode


@dataclass
class ColdStart:
    """Round 0: supervised training on episodes a scripted expert solved. tasks = 0 leaves it out."""

    tasks: int = number(0, at_least=0)
    epochs: int = number(1, at_least=1)
    batch_size: int = number(64, at_least=1)  # episodes per optimizer step
    lr: float = number(1e-3, above=0)
    warmup_steps: int = number(0, at_least=0)  # the learning rate rises linearly over them
    stop_at: float = number(1.0, above=0)  # ends once the policy repeats an expert's whole episode with this chance


@dataclass
class Training:
    algorithm: str = "grpo"
    lr: float = number(6e-6, above=0)
    weight_decay: float = number(0.0, at_least=0)
    adam_beta1: float = number(0.9, at_least=0, below=1)
    adam_beta2: float = number(0.95, at_least=0, below=1)
    adam_eps: float = number(1e-8, above=0)
    clip_grad: float = number(1.0, at_least=0)  # 0: gradients are not clipped
    # null: the algorithm's own, as its file in training/algorithms/ says
    clip_low: float | None = number(None, at_least=0)
    clip_high: float | None = number(None, at_least=0)
    # the ratio to the sampling policy never exceeds it; cispo has 1 + clip_high in its place
    ratio_cap: float = number(2.0, above=0)
    batch_size: int = number(128, at_least=1)  # episodes per optimizer step
    micro_batch_size: int = number(8, at_least=1)  # episodes per forward pass
    epochs: int = number(1, at_least=1)  # passes over a round's trajectories
    # an episode that ran out of time counts, unless more of it was lost to engine or tools
    stalled_share: float = number(0.1, at_least=0, at_most=1)
    save_seconds: float = number(600.0, at_least=0)  # between two checkpoints within a round; 0: after each step
    made_for: str = ""  # the model.name whose size these settings suit; "": any
    cold_start: ColdStart = field(default_factory=ColdStart)


@dataclass
class Evaluation:
    attempts: int = number(2, at_least=1)  # per held-out task
    temperature: float | None = number(None, at_least=0)  # null: agent.temperature
    endpoint: Endpoint = field(default_factory=Endpoint)  # who is evaluated, instead of a policy of the run


@dataclass
class Pipeline:
    rounds: int = number(5, at_least=0)
    mode: str = ""  # batch: a job per stage and round | resident: jobs that live through all rounds | "": as suits
    max_lag: int = number(0, at_least=0)  # rollout of round r may use policy r-1-max_lag
    max_restarts: int = number(2, at_least=0)  # of one job in a row while its stage does not get on
    max_requeues: int = number(100, at_least=0)  # of one job in all


@dataclass
class Config:
    name: str = MISSING
    runs: str = "runs"  # the folder of run directories
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    site: Site = field(default_factory=Site)
    model: Model = field(default_factory=Model)
    tasks: Tasks = field(default_factory=Tasks)
    environment: Environment = field(default_factory=Environment)
    agent: Agent = field(default_factory=Agent)
    rollout: Rollout = field(default_factory=Rollout)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    pipeline: Pipeline = field(default_factory=Pipeline)


def load(words: list[str], configs: Path = CONFIGS) -> Config:
    """Compose a configuration from `group=name` and `key=value` words.

    Raises:
        InputError: naming the file or word, the key, and the valid keys.
    """
    groups: dict[str, str] = {}
    overrides: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"'{word}' on the command line is not key=value")
        if key in (*GROUPS, "recipe"):
            groups[key] = value
        else:
            overrides.append(word)
    if "recipe" not in groups:
        raise InputError(f"no recipe given; add recipe=NAME, one of: {_names(configs, 'recipe')}")
    recipe_file, recipe = _read(configs, "recipe", groups["recipe"])
    chosen = {**recipe.pop("defaults", {}), **{g: n for g, n in groups.items() if g != "recipe"}}
    config = OmegaConf.structured(Config)
    for group in GROUPS:
        if group not in chosen:
            if group in OPTIONAL:
                continue
            raise InputError(f"no {group} given; add {group}=NAME, one of: {_names(configs, group)}")
        file, values = _read(configs, group, chosen[group])
        config = _merge(config, {group: values}, str(file), prefix=f"{group}.")
    config = _merge(config, {"name": groups["recipe"], **recipe}, str(recipe_file))
    return _finish(_applied(config, overrides), "the composed configuration")


def changed(config: Config, words: list[str]) -> Config:
    """The configuration with `key=value` and `group=name` words applied, in order.

    Raises:
        InputError: naming the word, the key, and the valid keys.
    """
    return _finish(_applied(OmegaConf.structured(config), words), "the changed configuration")


def _applied(config: Any, words: list[str]) -> Any:
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"'{word}' on the command line is not key=value")
        if key in GROUPS:
            file, values = _read(CONFIGS, key, value)
            config[key] = _merge(OmegaConf.structured(Config), {key: values}, str(file), prefix=f"{key}.")[key]
            continue
        try:
            typed: Any = OmegaConf.to_container(OmegaConf.create(f"x: {value}"))
            written = as_written(f"x: {value}")
        except Exception:
            raise InputError(f"'{word}' on the command line: the value is not valid YAML; quote it") from None
        values = _nested(key, typed["x"])
        if "site" in values:
            values["site"] = keep_words(values["site"], _nested(key, written["x"])["site"])
        config = _merge(config, values, f"'{word}' on the command line")
    return config


def _nested(key: str, value: Any) -> dict[str, Any]:
    """{a: {b: value}} of the key a.b, or a[b]."""
    patch = OmegaConf.create({})
    OmegaConf.update(patch, key, value)
    return OmegaConf.to_container(patch)  # type: ignore[return-value]


def read(path: Path) -> Config:
    """Load a resolved configuration that `save` wrote (a `run.yaml`)."""
    if not path.is_file():
        raise InputError(f"{path} is not there; is this a run directory? make one with jobs/pipeline.py")
    values = _values(path)
    values.pop("provenance", None)
    return _finish(_merge(OmegaConf.structured(Config), values, str(path)), str(path))


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _finish(config: Any, where: str) -> Config:
    try:
        finished: Config = OmegaConf.to_object(config)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        raise InputError(f"{where}: no value for '{error.full_key}'; add {error.full_key}=…") from None
    except OmegaConfBaseException as error:  # ${…} that leads nowhere
        raise InputError(f"{where}: '{error.full_key}': {str(error).splitlines()[0]}") from None
    return finished


def _names(configs: Path, group: str) -> str:
    return ", ".join(sorted(p.stem for p in (configs / group).glob("*.yaml")))


def _read(configs: Path, group: str, name: str) -> tuple[Path, dict[str, Any]]:
    file = configs / group / f"{name}.yaml"
    if not file.is_file():
        raise InputError(f"no {group} '{name}': {file} is not there; valid: {_names(configs, group)}")
    return file, _values(file, is_site=group == "site")


def _values(file: Path, is_site: bool = False) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(file))
        words = as_written(file.read_text())
    except Exception as error:  # PyYAML's own errors carry line and column over several lines
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no keys")
    if is_site:
        values = keep_words(values, words)
    elif "site" in values:
        values["site"] = keep_words(values["site"], words["site"])
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
