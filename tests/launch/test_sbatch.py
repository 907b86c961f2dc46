"""The batch scripts of `sbatch/` and those that `jobs/` submits ask for the same, and run the same."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.errors import InputError
from aworld.launch import preview
from aworld.launch.plain import FOLDER, WORDS, plain
from aworld.launch.plan import plan
from aworld.launch.script import command, scripts, shape
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.stages import EVALUATE, GATHER, KINDS, ROLLOUT, TRAIN, Kind, Stage
from aworld.tasks import make_source

pytestmark = pytest.mark.unit

OWN = {"job-name", "output"}  # a plain script is named after its stage alone, and logs where it was submitted


@pytest.fixture(scope="module")
def config() -> configuration.Config:
    words = ["recipe=demo", "site=example", "model=qwen3-32b", "model.path=/project/model", "pipeline.rounds=2"]
    return configuration.load([*words, "tasks.train=100", "tasks.held_out=10"])


def options(text: str) -> dict[str, str]:
    """The options of a batch script, memory in MiB."""
    found = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))
    memory = re.fullmatch(r"(\d+)([MG])", found["mem"])
    assert memory
    found["mem"] = str(int(memory[1]) * (1024 if memory[2] == "G" else 1))
    return {key: value for key, value in found.items() if key not in OWN}


def step(text: str, tasks: str = "") -> list[str]:
    """srun's command line with this run's values in place of the variables, without where submitit logs."""
    line = text.replace("\\\n", " ").rpartition("\n    srun ")[2].partition("\n")[0].strip()
    values = {"RUN": "runs/x", "ROUND": "1", "POLICY": "1"}
    line = line.replace('${TASKS:+--tasks "$TASKS"}', f"--tasks {tasks}" if tasks else "")
    line = re.sub(r'"\$\{?(\w+)(?::\?\})?"', lambda m: values[m[1]], line)
    line = re.sub(r"\$\(\( ?\(?(SLURM_ARRAY_TASK_ID)(?: \+ 0\))? \* (\d+) ?\)\)", r"element*\2", line)
    words = shlex.split(re.sub(r"--unbuffered --output \S+ ", "", line))
    python = next(at for at, word in enumerate(words) if "python" in word)
    return [*words[:python], *words[python + 1 :]]


def around(text: str) -> list[str]:
    """The commands of a batch script before and after its step."""
    before, _, after = text.replace("\\\n", " ").partition("\n    srun ")
    lines = [*before.splitlines(), *after.splitlines()[1:]]
    return [line for line in lines if line and not line.strip().startswith(("#", "RUN="))]


@pytest.mark.parametrize(("kind", "tasks"), [*((kind, "") for kind in KINDS), (EVALUATE, "gaia-validation")])
def test_both_ways_ask_for_the_same_and_run_the_same(kind: Kind, tasks: str, config: configuration.Config) -> None:
    text = (FOLDER / f"{kind.name}.sbatch").read_text()
    run = RunDir(Path("runs/x"))
    (ours,) = scripts(config.site, Stage.of(kind, config, run, 1, tasks), [])
    assert options(text) == options(ours)
    assert step(text, tasks) == step(ours)
    assert around(text) == around(ours)
    assert set(config.site.setup) < set(around(text))


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_scripts_are_those_of_the_template(kind: Kind) -> None:
    """If this fails: python -m aworld.launch.plain writes them anew."""
    assert (FOLDER / f"{kind.name}.sbatch").read_text() == plain(kind, configuration.load(list(WORDS)))


def test_every_script_passes_shellcheck() -> None:
    batch = [*FOLDER.glob("*.sbatch"), *FOLDER.glob("*.sh")]
    assert len(batch) == len(KINDS) + 1
    words = [Path(sys.executable).with_name("shellcheck"), *batch, *(FOLDER.parent / "scripts").glob("*.sh")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_site_may_ask_by_qos_gres_and_constraint(config: configuration.Config) -> None:
    words = ["site.gres=gpu:h100", "site.train.qos=long", "site.train.constraint=ib", "site.rollout.constraint=''"]
    site = configuration.changed(config, words).site
    run = RunDir(Path("runs/x"))
    found = options(scripts(site, Stage.of(TRAIN, config, run, 1), [])[0])  # the stage is as it was before
    assert found["gres"] == "gpu:h100:8" and "gpus-per-node" not in found and "qos" not in found
    train, rollout = (Stage.of(kind, configuration.changed(config, words), run, 1) for kind in (TRAIN, ROLLOUT))
    found = options(scripts(site, train, [])[0])
    assert (found["qos"], found["constraint"]) == ("long", "ib")
    assert "constraint" not in options(scripts(site, rollout, [])[0])


def test_the_report_goes_where_gathering_does(config: configuration.Config, tmp_path: Path) -> None:
    words = ["site.gather.partition=cpu", "site.gather.qos=small", "site.gather.nodes=4", "pipeline.rounds=0"]
    stages, changed = edges(config, tmp_path, *words), configuration.changed(config, words)
    found = options(scripts(changed.site, stages["report"], [])[0])
    assert (found["partition"], found["qos"], found["nodes"]) == ("cpu", "small", "1")


def test_memory_is_asked_for_where_it_is_given(config: configuration.Config, tmp_path: Path) -> None:
    words = [f"site.{stage}.mem_gb=0" for stage in ("rollout", "gather", "train", "evaluate")]
    words = [*words, "site.sbatch={mem-per-cpu: 4G}", "pipeline.rounds=1"]
    changed = configuration.changed(config, words)
    stages = edges(config, tmp_path, *words).values()
    texts = [scripts(changed.site, stage, [])[0] for stage in stages]
    assert {stage.kind.name for stage in stages} == {"rollout", "gather", "train", "evaluate", "report"}
    assert all("--mem-per-cpu=4G" in text and "--mem=" not in text for text in texts)
    run = RunDir(Path("runs/x"))
    assert "--mem=" in scripts(config.site, Stage.of(GATHER, config, run, 1), [])[0]


def test_an_option_of_the_site_may_have_no_value(config: configuration.Config) -> None:
    words = ["site.sbatch={exclusive: true, time_min: 4:00:00, requeue: false}", "site.environment={A: FALSE, B: 010}"]
    changed, run = configuration.changed(config, words), RunDir(Path("runs/x"))
    lines = scripts(changed.site, Stage.of(TRAIN, changed, run, 1), [])[0].splitlines()
    assert {"#SBATCH --exclusive", "#SBATCH --time-min=4:00:00", "export A=FALSE", "export B=010"} <= set(lines)
    assert not [line for line in lines if line.startswith("#SBATCH --requeue")]


def arrays(config: configuration.Config, *words: str) -> list[tuple[str, str]]:
    """`--array` and the number of an element's first worker, of every script of a rollout."""
    changed = configuration.changed(config, list(words))
    run = RunDir(Path("runs/x"))
    texts = scripts(changed.site, Stage.of(ROLLOUT, changed, run, 1), [])
    return [(options(text).get("array", ""), text.partition("--worker ")[2].splitlines()[0]) for text in texts]


def test_all_arrays_of_a_stage_together_run_no_more_than_array_parallel(config: configuration.Config) -> None:
    words = ["site.rollout.elements=25", "site.array_limit=10"]
    first = [f"$(( (SLURM_ARRAY_TASK_ID + {start}) * 2 ))" for start in (0, 9, 17)]
    shared = arrays(config, *words, "site.array_parallel=8")
    assert shared == list(zip(["0-8%3", "0-7%3", "0-7%2"], first, strict=True))
    assert [array for array, _ in arrays(config, *words, "site.array_parallel=0")] == ["0-8%9", "0-7%8", "0-7%8"]
    with pytest.raises(InputError, match="array_parallel=2 is less than the 3 arrays that 25 elements need"):
        arrays(config, *words, "site.array_parallel=2")
    with pytest.raises(InputError, match=r"site\.array_limit=0 allows no element of an array; set it to 1 or more"):
        arrays(config, "site.array_limit=0")


def test_a_dry_run_writes_every_script(config: configuration.Config, tmp_path: Path) -> None:
    words = ["site.rollout.elements=25", "site.array_limit=10", "pipeline.rounds=1"]
    stages = edges(config, tmp_path, *words)
    changed = configuration.changed(config, words)
    folder = tmp_path / "dry-run"
    folder.mkdir()
    (folder / "gather-0009.sbatch").write_text("of an earlier one")
    paths = preview.write(changed, list(stages.values()), folder)
    rollouts = [f"rollout-000{round_}.{part}.sbatch" for round_ in (0, 1) for part in (1, 2, 3)]
    others = [f"{stage}-000{round_}.sbatch" for stage in ("evaluate", "gather", "train") for round_ in (0, 1)]
    assert {path.name for path in paths} == {*rollouts, *others, "report.sbatch"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths} | {"run.yaml"}
    assert "aworld gather" in (folder / "gather-0001.sbatch").read_text()
    texts = [(folder / name).read_text() for name in rollouts]
    assert [options(text)["array"] for text in texts] == ["0-8%6", "0-7%5", "0-7%5"] * 2
    assert options(texts[3])["dependency"] == "afterok:train-0000" and "dependency" not in options(texts[0])
    assert len({shape(text) for text in texts[3:]}) == 2  # two of three are checked as one
    cold, later = options(texts[0]), options(texts[3])
    assert "gpus-per-node" not in cold and later["gpus-per-node"] == "8"  # no vLLM plays the cold start
    assert (cold["partition"], cold["cpus-per-task"]) == (later["partition"], later["cpus-per-task"])
    assert configuration.read(folder / "run.yaml").site.rollout.elements == 25


def test_the_script_of_a_stage(config: configuration.Config, tmp_path: Path) -> None:
    """Golden: what a person reads, and Slurm gets."""
    run = RunDir(Path("runs/x"))
    text = scripts(config.site, Stage.of(TRAIN, config, run, 2), ["12", "13"])[0]
    text = re.sub(r"\S*python\S*", "python", text).replace(str(Path.cwd()), "/here")
    assert (
        text
        == """\
#!/bin/bash
#SBATCH --account=my-project
#SBATCH --constraint=h100
#SBATCH --cpus-per-task=12
#SBATCH --dependency=afterok:12:13
#SBATCH --gpus-per-node=8
#SBATCH --hint=nomultithread
#SBATCH --job-name=x.train-0002
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=921600M
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/here/runs/x/logs/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@300
#SBATCH --time=240

RUN=/here/runs/x
# Slurm's signals are for the tasks of the step. Without this line bash would die of them, and the job with it.
trap : TERM USR1 USR2
# This job's id. An element of an array needs both numbers: the last to start has the number of the whole array.
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
# The job's own files: its tasks find them by this variable. A task that must not run again leaves its exit code.
export AWORLD_JOB=${RUN:?}/starts/$job
mkdir -p "$RUN/starts"
: >"$AWORLD_JOB.code"

# What the site needs: its modules and variables.
module load apptainer
export NCCL_SOCKET_IFNAME=ib0
export HDF5_USE_FILE_LOCKING=FALSE

again=0
while true; do
    # Each start adds a line; a task that begins removes the file. So the lines count the starts without any task,
    # as where srun refuses the step. After too many of them the job gives up; a resume counts anew.
    echo "$SLURMD_NODENAME" >>"$AWORLD_JOB.tries"
    if [ "$(wc -l <"$AWORLD_JOB.tries")" -gt 2 ]; then
        echo "error: job $job began 3 times, its tasks never; mend the cause above: aworld resume $RUN"
        rm "$AWORLD_JOB.tries"
        exit 3
    fi
    # Every task of the step runs the stage.
    srun --unbuffered --output /here/runs/x/logs/%j_%t_log.out --mpi=none --cpus-per-task=12 --kill-on-bad-exit=1 \\
        python -u -m aworld train runs/x --round 2
    code=$?
    # srun returns the highest code. That may be of a task that was ended because another had failed: the file knows
    # better.
    read -r reason <"$AWORLD_JOB.code" && code=$reason
    # Where a task was killed, as for its memory, the step starts again at once, 2 times: in the queue the job
    # would wait. Near the time limit it does not, as Slurm's notice may be over.
    case $code in 137 | 247) ;; *) break ;; esac
    [ $((again += 1)) -le 2 ] || break
    shown=$(scontrol show job "$job")
    [[ $shown == *JobState=RUNNING* && $shown =~ EndTime=([^ ]+) ]] || break
    [ $(($(date -d "${BASH_REMATCH[1]}" +%s) - $(date +%s))) -gt 600 ] || break
done
rm -f "$AWORLD_JOB.code"
# Done, bad input and bad outcomes stay so.
case $code in 0 | 2 | 3) exit "$code" ;; esac
# Told to end, killed, or its machine lost: the job goes back into the queue, unless it was cancelled. Slurm itself does
# that after some kinds of preemption only, and never at a time limit.
scontrol show job "$job" | grep -q JobState=RUNNING && scontrol requeue "$job"
exit "$code"
"""
    )


def edges(config: configuration.Config, tmp_path: Path, *words: str) -> dict[str, Stage]:
    changed = configuration.changed(config, list(words))
    run = RunDir(tmp_path / "run")
    workloads = schedule(changed, run, make_source(changed.tasks, tmp_path / "tasks"))
    return {stage.name: stage for stage in plan(changed, run, workloads)}


def test_a_batch_run_is_a_graph_of_dependencies(config: configuration.Config, tmp_path: Path) -> None:
    stages = edges(config, tmp_path)
    after = {name: set(stage.after) for name, stage in stages.items() if name != "report"}
    assert after == {
        "rollout-0000": set(),
        "gather-0000": {"rollout-0000"},
        "train-0000": {"gather-0000"},
        "evaluate-0000": {"train-0000"},
        "rollout-0001": {"train-0000"},
        "gather-0001": {"rollout-0001"},
        "train-0001": {"gather-0001", "train-0000"},
        "rollout-0002": {"train-0001"},
        "gather-0002": {"rollout-0002"},
        "train-0002": {"gather-0002", "train-0001"},
        "evaluate-0002": {"train-0002"},
    }
    assert {name for name, stage in stages.items() if stage.kind.after_any} == {
        "gather-0000",
        "gather-0001",
        "gather-0002",
        "report",
    }


def test_max_lag_is_an_edge(config: configuration.Config, tmp_path: Path) -> None:
    stages = edges(config, tmp_path, "pipeline.max_lag=1", "pipeline.rounds=3")
    assert stages["rollout-0002"].after == ("train-0000",)
    assert stages["rollout-0003"].after == ("train-0001",)
    assert set(stages["train-0003"].after) == {"gather-0003", "train-0002"}


def test_a_resident_run_is_two_jobs_and_the_report(config: configuration.Config, tmp_path: Path) -> None:
    stages = edges(config, tmp_path, "pipeline.mode=resident")
    assert {name: stage.after for name, stage in stages.items()} == {
        "rollout": (),
        "train": (),
        "report": ("rollout", "train"),
    }


def test_an_array_longer_than_the_site_allows_counts_on(config: configuration.Config) -> None:
    run = RunDir(Path("runs/x"))
    stage = Stage.of(ROLLOUT, config, run, 1)
    for part, index in ((list(range(10)), 3), (list(range(10, 16)), 5), ([7], 0), ([2, 5, 11], 2)):
        line = command(stage, part).rpartition("--worker ")[2]
        done = subprocess.run(
            ["bash", "-c", f"echo {line}"],
            env={"SLURM_ARRAY_TASK_ID": str(index), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == part[index] * 2  # two workers in each element
