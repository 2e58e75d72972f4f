#!/bin/bash
# A job as an array of shards, each on one node with a Ray of its own; nothing is shared but the output.
#
#   takestream takes s3://… --json | jq -r '.[].uid' > uids.txt
#   sbatch --array=0-15 deploy/slurm/array.sh uids.txt --dataset s3://… --output s3://… [flags]
#
# Submit it again to go on: what is written is not done again.
#SBATCH --job-name=takestream
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

list=${1:?the first argument is a file with the uid of one take a line}
shift
export PATH="${TAKESTREAM_VENV:?set TAKESTREAM_VENV to the environment with takestream}/bin:$PATH"
count=${SLURM_ARRAY_TASK_COUNT:-1} shard=$((${SLURM_ARRAY_TASK_ID:-0} - ${SLURM_ARRAY_TASK_MIN:-0}))
mapfile -t uids < <(awk -v n="$count" -v k="$shard" 'NF && (row++ % n == k) {print}' "$list")
if [ "${#uids[@]}" -eq 0 ]; then
    echo "shard $shard of $count has no take"
    exit 0
fi
exec takestream extract --uids "${uids[@]}" "$@"
