"""The world of an episode: its tools and its limits."""

from dataclasses import dataclass

from aworld.config.fields import choice, number, setting


@dataclass
class McpServer:
    """A tool server of your own: a command that speaks MCP over stdio, or a URL that speaks it over streamable HTTP."""

    command: list[str] = setting(list)  # started for each episode, inside its sandbox
    outside: bool = False  # the command is started beside the sandbox instead, where the network is
    variables: list[str] = setting(list)  # of the job's environment, for a command outside
    url: str = ""
    key_variable: str = ""  # the environment variable that holds the key of the URL; empty: none is needed
    tools: list[str] | None = None  # those that agents get, by name; null: all


@dataclass
class Environment:
    """The world of an episode."""

    servers: list[str] = setting(lambda: ["python", "files", "search"])
    corpus: str | None = None  # index that search answers from, made by aworld corpus; null: that of the tasks
    mcp: dict[str, McpServer] = setting(dict)  # more tool servers, by name
    web: list[str] = setting(list)  # servers that reach the web, outside the sandbox
    web_cache: str = ""  # folder on the shared file system where their answers are kept; empty: nowhere
    # a kept answer is not asked for again; else record: ask and keep | replay: ask | strict: an error
    web_mode: str = choice("record", "record", "replay", "strict")
    # sandboxes per worker = episodes that run at once; null: half as many again as model.shard.max_num_seqs, so
    # that vLLM has its fill while some of them wait for a tool, and at most a worker's share of a round; with
    # evaluation.endpoint 8
    slots: int | None = number(None, at_least=1, changes="any time")
    # never: a new sandbox per episode | reset: same server, an empty scratch
    reuse: str = choice("never", "never", "reset")
    call_seconds: float = number(10.0, above=0)  # limit of one tool call
    tool_seconds: dict[str, float] = number(dict, above=0)  # the same for single tools, by name
    start_seconds: float = number(60.0, above=0, changes="any time")  # limit of a sandbox's start
    # largest file that a tool writes, and size of all files that an episode makes
    scratch_mb: int = number(64, at_least=1)
    # address space of a tool's process, and resident memory of all processes of an episode
    memory_mb: int = number(2048, at_least=1)
    processes: int = number(64, at_least=1)  # most of an episode, its sandbox's own included
    result_chars: int = number(2000, at_least=1)  # longer results are cut, and say so
