/* launch: how this process was started, read from the environment. Inside comm/ only. */
#ifndef ZT_COMM_LAUNCH_H
#define ZT_COMM_LAUNCH_H

#include "core/base/status.h"

#include <stdbool.h>

typedef struct Launch {
    bool by_mpi;     /* mpirun, or srun with PMIx: MPI must be started */
    int slurm_tasks; /* ranks that Slurm started or was asked for; 0: not known, or mpirun decided
                      */
} Launch;

/* Not collective. */
Launch launch_detect(void);
/* Settings of Open MPI that are safe and help, where the user has set nothing: call before
 * MPI_Init. */
void launch_set_defaults(void);
/* ERR_USAGE when Slurm started several ranks that do not know of each other; says what to type. */
Status launch_check_size(const Launch *launch, int world_size);

#endif
