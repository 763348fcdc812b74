/* fuzz_scheduler: scheduler_config.json, which decides how a model is sampled. */
#include "core/formats/scheduler_config.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const JsonLimits limits = json_limits();
    char *text = fuzz_copy(bytes, size);
    SchedulerConfig config;
    float sigmas[5], timesteps[4];
    Json *root = NULL;

    Status s = json_parse(text, size, "fuzz", &limits, &root);
    if (s == OK) s = scheduler_config_parse(root, "fuzz", &config);
    if (s == OK) {
        /* what is taken can be sampled with */
        MUST(sigmas_make(config.solver, config.sigmas, 4, config.shift, sigmas, timesteps) == OK);
        for (int i = 0; i < 4; i++) MUST(isfinite(sigmas[i]) && isfinite(timesteps[i]));
    } else {
        fuzz_refused(s, ERR_FORMAT);
    }
    json_free(root);
    free(text);
    return 0;
}
