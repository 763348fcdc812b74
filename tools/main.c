/* main: `zoetrope COMMAND`: which command, under which rank, and how its status ends the process.
 */
#include "core/base/log.h"
#include "core/base/nearest.h"
#include "core/base/status.h"
#include "core/device.h"
#include "data/ingest.h"
#include "infer/infer.h"
#include "tools/bench.h"
#include "tools/convert.h"
#include "tools/evaluate.h"
#include "tools/inspect.h"
#include "tools/plan.h"
#include "tools/verify.h"
#include "tools/version.h"
#include "train/train.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

typedef struct Verb {
    const char *name;
    Status (*run)(int argc, char **argv); /* argv[0] is the command's name */
    const char *help;
} Verb;

static const Verb verbs[] = {
    { "ingest", ingest_main, "turn videos with captions into a dataset" },
    { "train", train_main, "train a model, alone or under mpirun or srun" },
    { "plan", plan_main, "say what a training run would take: memory, traffic, legal meshes" },
    { "infer", infer_main, "render prompts to videos" },
    { "bench", bench_main, "time training and denoise steps on this machine" },
    { "evaluate", evaluate_main,
      "measure the loss by timestep, and whether captions get their videos" },
    { "inspect", inspect_main, "show what a dataset, a run, a checkpoint or its tensors hold" },
    { "convert", convert_main,
      "turn the original Wan models' tensor names into diffusers' and back" },
    { "verify", verify_main, "compare a checkpoint, a run or a dataset with its checksums" },
};
enum { VERB_COUNT = sizeof verbs / sizeof verbs[0] };

static void print_usage(FILE *stream)
{
    fprintf(stream, "usage: zoetrope COMMAND [...]\n\n"
                    "Trains and runs text-to-video diffusion transformers on MPI ranks.\n\n");
    for (int i = 0; i < VERB_COUNT; i++)
        fprintf(stream, "    %-10s %s\n", verbs[i].name, verbs[i].help);
    fprintf(stream, "\nzoetrope COMMAND --help tells more; zoetrope --version what was built.\n");
}

static Status print_version(void)
{
    Device device;
    printf("zoetrope %s (commit %s)\n", version_number, version_commit);
    printf("compiler   %s\n", version_compiler);
    printf("libraries  %s\n", version_libraries);
    printf("backends   cpu (x86-64, avx2, avx512), mpi\n");
    TRY(device_open(&device, "cpu", NULL, 0, false));
    printf("here       %s, %d threads\n", device.name, device.threads);
    return OK;
}

static Status run_verb(int argc, char **argv)
{
    const char *names[VERB_COUNT + 1] = { NULL };
    for (int i = 0; i < VERB_COUNT; i++) {
        if (strcmp(verbs[i].name, argv[0]) == 0) return verbs[i].run(argc, argv);
        names[i] = verbs[i].name;
    }
    const char *near = nearest_name(argv[0], names);
    CHECK(near == NULL, ERR_USAGE, "unknown command '%.40s'; did you mean %s?", argv[0], near);
    return status_fail(ERR_USAGE, "unknown command '%.40s'; see zoetrope --help", argv[0]);
}

static Status run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return status_fail(ERR_USAGE, "no command");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return OK;
    }
    if (strcmp(argv[1], "--version") == 0) return print_version();
    return run_verb(argc - 1, argv + 1);
}

/* The rank that the launcher gave this process, before MPI starts; 0 when it was started alone. */
static int launched_rank(void)
{
    static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);
        if (text != NULL) return atoi(text);
    }
    return 0;
}

int main(int argc, char **argv)
{
    /* models and clips are private until their owner says otherwise; a dump would hold them all */
    (void)umask(077);
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    /* a limit on file sizes is a failed write that names its file, not the end of the process */
    (void)signal(SIGXFSZ, SIG_IGN);

    /* an error that all ranks find alike is told by one */
    const int rank = launched_rank();
    log_set_rank(rank, rank + 1);
    Status status = run(argc, argv);
    if (fflush(stdout) != 0 && status == OK)
        status = status_fail(ERR_IO, "standard output: %s", strerror(errno));
    log_failure(status);
    return status_exit_code(status);
}
