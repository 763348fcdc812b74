# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # slurm/job.sh reads these; the batch scripts say where `here` is
# What a site changes; the batch scripts source it on the first node of the job. What is exported here
# reaches every rank. A variable given to sbatch's environment wins over its line here.

# ---- modules: what the program was built with ----
# module purge
# module load gcc openmpi hdf5

# ---- the program ----
zoetrope=${ZOETROPE:-$here/build/zoetrope}

# ---- how ranks are started ----
launch=${ZOETROPE_LAUNCH:-auto}  # srun, mpirun, or auto: the first of the two that works
mpi_plugin=${ZOETROPE_MPI:-pmix} # of `srun --mpi=list`; Open MPI wants one of the pmix family

node_timeout=${ZOETROPE_NODE_TIMEOUT:-30} # seconds: a node that is well starts `true`; the last rank ends after the first

# ---- ranks and threads ----
# empty: as sbatch --ntasks-per-node or --ntasks says; else one a GPU, or one a node without GPUs
ranks_per_node=${ZOETROPE_RANKS_PER_NODE:-}
# empty: as sbatch --cpus-per-task says; else the job's cores of a node, shared out to its ranks
threads=${ZOETROPE_THREADS:-}

# ---- MPI's transport: only when its own choice is wrong ----
# export UCX_NET_DEVICES=mlx5_0:1           # InfiniBand through UCX
# export OMPI_MCA_btl_tcp_if_include=ib0    # TCP over this interface alone
# export OMPI_MCA_oob_tcp_if_include=ib0
