#!/bin/bash
# Training on several machines of a Slurm cluster:  sbatch configs/slurm.sh configs/jetclass.yaml
#
# The run folder is fixed, so that a job that is requeued or submitted again resumes after its last complete epoch.
# A minute before its time limit, the job requeues itself. Adapt the #SBATCH lines to your cluster: one task per GPU.
#SBATCH --job-name=iagraph
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60

config=${1:?give the recipe: sbatch configs/slurm.sh configs/jetclass.yaml [key=value ...]}
run=runs/$(basename "$config" .yaml)-$SLURM_JOB_ID
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

srun --kill-on-bad-exit=1 python scripts/train.py "$config" "${@:2}" \
    train.devices="$SLURM_NTASKS_PER_NODE" train.machines="$SLURM_NNODES" --into "$run" &
wait
