#!/bin/sh
# A cluster in a job of SLURM: sbatch slurm.sh. Not run by this project's tests.
# The certificates and their settings are those of docs/cluster.md, in a folder that all nodes see.
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=48G
#SBATCH --time=02:00:00
set -eu
cd "$SLURM_SUBMIT_DIR"
. ./settings.sh # the exports of docs/cluster.md
# Templates fit the CPU that made them: a cache for each node.
export MEMTYPE_CACHE="${TMPDIR:-/tmp}/memtype-$USER"
rm -f scheduler.json
dask scheduler --protocol tls --port 0 --no-dashboard --scheduler-file scheduler.json &
srun dask worker --scheduler-file scheduler.json --nworkers "$SLURM_CPUS_PER_TASK" --nthreads 1 \
	--resources "qemu=1 memory=2e9" --no-dashboard --death-timeout 60 &
memtype run --scheduler scheduler.json "$@"
