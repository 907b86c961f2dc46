#!/bin/bash
# Submit a whole run with plain sbatch: rollout → gather → train, round after round, and the first and the last evaluation
# on the held-out tasks. `aworld resume RUN` submits the other ones of pipeline.evaluate_every and pipeline.evaluations.
#
#   aworld prepare recipe=demo site=YOURS name=mine      # makes runs/mine
#   sbatch/pipeline.sh runs/mine 3                       # rounds 1 to 3; 0 as well where there is a cold start
#
# Returns at once. Options for every job, such as another account, go into SBATCH_ACCOUNT and its like. `aworld status`,
# logs, cancel and resume know the jobs: each is noted in jobs.jsonl.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 RUN ROUNDS" >&2; exit 2; }
run=$1 rounds=$2 here=$(dirname "$0")
[ -f "$run/run.yaml" ] || { echo "error: $run/run.yaml is not there; make the run with aworld prepare" >&2; exit 2; }

case $(realpath "$run") in *[,%\"\\]*) echo "error: $run: sbatch takes no path with one of , % \" \\" >&2; exit 2 ;; esac
for name in "${!SLURM_@}"; do # of an allocation that this shell is in: its jobs' srun would take them for their own
    [ "$name" = SLURM_CONF ] || unset "$name"
done

# submit STAGE NUMBER KEY [DEPENDENCY] → the job's id
submit() {
    local stage last name log job
    stage=$1-$(printf %04d "$2") last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$here/$1.sbatch")
    name=$(basename "$(realpath "$run")").$stage
    [ -n "$last" ] && log=%A_%a_0_log.out || log=%j_0_log.out
    job=$(sbatch --parsable --kill-on-invalid-dep=yes ${4:+--dependency="$4"} --job-name="$name" \
        --output="$run/logs/$log" --export="ALL,RUN=$run,$3=$2" "$here/$1.sbatch") || return
    job=${job%%;*} # of several clusters, sbatch names its own as well
    printf '{"run": "%s", "stage": "%s", "elements": [%s], "name": "%s", "job": "%s", "time": %s}\n' \
        "$(realpath "$run")" "$stage" "$(seq -s, 0 "${last:-0}")" "$name" "$job" "$(date +%s)" >>"$run/jobs.jsonl"
    echo "$job"
}

mkdir -p "$run/logs"
after=""
first=1
[ -e "$run/policies/0000" ] || first=0 # policy 0 comes from the cold start
[ "$first" = 0 ] || submit evaluate 0 POLICY
for ((round = first; round <= rounds; round++)); do
    rollout=$(submit rollout "$round" ROUND "$after")
    gather=$(submit gather "$round" ROUND "afterany:$rollout")
    train=$(submit train "$round" ROUND "afterok:$gather")
    echo "round $round: $rollout $gather $train"
    after=afterok:$train
    [ "$round" != 0 ] || submit evaluate 0 POLICY "$after"
done
submit evaluate "$rounds" POLICY "$after"
echo "aworld status $run tells how far it is; aworld report $run writes the report"
