#include "train/train.h"

#include "core/base/log.h"
#include "core/base/options.h"
#include "core/base/stop.h"
#include "train/trainer.h"

typedef struct TrainOptions {
    const char *config;
    OptionStrings overrides;
    bool print_config, quiet;
} TrainOptions;

static const Option table[] = {
    { .name = "CONFIG.yaml",
      .type = OPTION_STRING,
      .positional = true,
      .required = true,
      .offset = offsetof(TrainOptions, config),
      .help = "what to train; configs/ holds examples" },
    { .name = "key=value",
      .type = OPTION_STRINGS,
      .positional = true,
      .offset = offsetof(TrainOptions, overrides),
      .help = "replaces a key of the file, as in parallel.tensor=2" },
    { .name = "print-config",
      .type = OPTION_FLAG,
      .offset = offsetof(TrainOptions, print_config),
      .help = "print the resolved configuration and stop" },
    { .name = "quiet",
      .type = OPTION_FLAG,
      .offset = offsetof(TrainOptions, quiet),
      .help = "say nothing but warnings and errors" },
    { .name = NULL },
};

static const Command command = {
    "train", "CONFIG.yaml [key=value ...] [options]",
    "Trains the video transformer, alone or under mpirun or srun. A run whose folder holds a\n"
    "checkpoint resumes from it, on the same or on another mesh.",
    table
};

static Status run(Comm *comm, const TrainOptions *options)
{
    TrainConfig config;
    log_set_quiet(options->quiet);
    TRY(comm_agree(comm, train_config_load(options->config, options->overrides.count,
                                           options->overrides.items, &config)));
    comm_set_timeout(comm, config.comm.timeout_s);
    comm_set_check(comm, config.comm.check);
    if (!options->print_config) return trainer_run(comm, &config);
    return comm_rank(comm) == 0 ? train_config_print(&config, stdout) : OK;
}

Status train_main(int argc, char **argv)
{
    TrainOptions options = { 0 };
    Comm *comm = NULL;
    bool helped = false;
    stop_install();
    TRY(comm_start(&comm));
    Status status = comm_agree(comm, options_parse(&command, argc, argv, &options, &helped));
    if (status == OK && !helped) status = run(comm, &options);
    log_failure(status);
    comm_finish(comm);
    return status;
}
