#include "comm/launch.h"

#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

/* The variable's number, or 0; of a list such as Slurm's "4(x2),3" the first. */
static int read_number(const char *name)
{
    const char *text = getenv(name);
    const long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value < 1000000 ? (int)value : 0;
}

Launch launch_detect(void)
{
    /* mpirun of Open MPI; srun --mpi=pmix; mpirun of other libraries and srun --mpi=pmi2 */
    static const char *const signs[] = { "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK" };
    Launch launch = { .by_mpi = false };
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (getenv(signs[i])) launch.by_mpi = true;

    /* mpirun says its own size: inside an allocation it may be smaller on purpose */
    if (getenv("OMPI_COMM_WORLD_SIZE")) return launch;
    launch.slurm_tasks = read_number("SLURM_STEP_NUM_TASKS");
    /* a batch script that forgot srun; an interactive salloc shell has no SLURM_PROCID */
    if (launch.slurm_tasks == 0 && getenv("SLURM_PROCID"))
        launch.slurm_tasks = read_number("SLURM_NTASKS");
    return launch;
}

void launch_set_defaults(void)
{
    /* Ranks that wait spin. With fewer cores than ranks a spinning rank keeps the one it waits for
     * from running: an all-reduce of 8 ranks on 2 cores takes 27 ms instead of 0.02. */
    int local = read_number("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (local == 0) local = read_number("SLURM_STEP_TASKS_PER_NODE");
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
    if (local > CPU_COUNT(&cores)) (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
}

Status launch_check_size(const Launch *launch, int world_size)
{
    CHECK(world_size > 1 || launch->slurm_tasks <= 1, ERR_USAGE,
          "Slurm has %d tasks here but this rank is alone: start with `srun --mpi=pmix` or "
          "`mpirun` (one rank on purpose: `srun -n 1`)",
          launch->slurm_tasks);
    return OK;
}
