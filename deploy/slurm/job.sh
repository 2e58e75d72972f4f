#!/bin/bash
# One takestream job on a Slurm allocation: a head and a worker on each node, then the job.
#
#   sbatch --nodes=4 deploy/slurm/job.sh --dataset s3://… --output s3://… [flags of `takestream extract`]
#
# Submit it again to go on where it ended. TAKESTREAM_VENV names the environment, the same on all nodes.
#SBATCH --job-name=takestream
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

export PATH="${TAKESTREAM_VENV:?set TAKESTREAM_VENV to the environment with takestream}/bin:$PATH"
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
# A token for this allocation alone, readable by its user alone, on a disk that the nodes share.
RAY_AUTH_TOKEN_PATH="$PWD/.takestream-$SLURM_JOB_ID.token"
export RAY_AUTH_TOKEN_PATH
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Jobs of one user may share a node: each has its own ports.
port=$((20000 + SLURM_JOB_ID % 20000))
address="$head_node:$port"
children=()
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    kill "${children[@]}" 2>/dev/null || true
    wait || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap clean_up EXIT

gpus=()
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then gpus=("--num-gpus=$SLURM_GPUS_ON_NODE"); fi

srun --nodes=1 --ntasks=1 -w "$head_node" --overlap \
    ray start --head --block --port="$port" --include-dashboard=false \
    --num-cpus="$SLURM_CPUS_PER_TASK" "${gpus[@]}" &
children+=($!)
for _ in $(seq 60); do
    if (exec 3<>"/dev/tcp/$head_node/$port") 2>/dev/null; then break; fi
    sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head_node" --overlap \
        ray start --block --address="$address" --num-cpus="$SLURM_CPUS_PER_TASK" "${gpus[@]}" &
    children+=($!)
fi

# In the background, so that the signal before the time is up reaches it: it stops cleanly.
takestream extract --address "$address" "$@" &
job=$!
trap 'kill -TERM "$job" 2>/dev/null' TERM INT
code=0
wait "$job" || code=$?
# A signal ends the first wait before the job has ended.
if kill -0 "$job" 2>/dev/null; then
    code=0
    wait "$job" || code=$?
fi
exit "$code"
