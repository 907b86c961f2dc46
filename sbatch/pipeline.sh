#!/bin/bash
# Submit a whole run with plain sbatch: rollout → gather → train, round after round, and the evaluations.
#
#   aworld prepare recipe=demo site=YOURS name=mine      # makes runs/mine
#   sbatch/pipeline.sh runs/mine 3                       # rounds 1 to 3; 0 as well where there is a cold start
#
# Returns at once. Options for every job, such as another account, go into SBATCH_ACCOUNT and its like.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 RUN ROUNDS" >&2; exit 2; }
run=$1 rounds=$2 here=$(dirname "$0")
[ -f "$run/run.yaml" ] || { echo "error: $run/run.yaml is not there; make the run with aworld prepare" >&2; exit 2; }

# submit STAGE KEY=NUMBER [DEPENDENCY] → the job's id
submit() {
    sbatch --parsable --kill-on-invalid-dep=yes ${3:+--dependency="$3"} \
        --output="$run/logs/%x-%A_%a.out" --export="ALL,RUN=$run,$2" "$here/$1.sbatch"
}

mkdir -p "$run/logs"
after=""
first=1
[ -e "$run/policies/0000" ] || first=0 # policy 0 comes from the cold start
[ "$first" = 0 ] || submit evaluate POLICY=0
for ((round = first; round <= rounds; round++)); do
    rollout=$(submit rollout ROUND=$round "$after")
    gather=$(submit gather ROUND=$round "afterany:$rollout")
    train=$(submit train ROUND=$round "afterok:$gather")
    echo "round $round: $rollout $gather $train"
    after=afterok:$train
    [ "$round" != 0 ] || submit evaluate POLICY=0 "$after"
done
submit evaluate POLICY="$rounds" "$after"
echo "aworld status $run tells how far it is; aworld report $run writes the report"
