/*
 * scheduler_config: scheduler/scheduler_config.json, as diffusers writes it and as we do (spec 2).
 *
 * Four classes are known. A key that would make the arithmetic another than ours is refused with
 * its value; all other keys are ignored, known or not. Ours is a FlowMatchEulerDiscreteScheduler
 * without the keys that diffusers adds when it saves one, and is sampled with our own schedule.
 */
#ifndef ZT_CORE_FORMATS_SCHEDULER_CONFIG_H
#define ZT_CORE_FORMATS_SCHEDULER_CONFIG_H

#include "core/base/json.h"
#include "core/solver/sigmas.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SchedulerConfig {
    SolverKind solver;
    SigmaSchedule sigmas;
    double shift;
} SchedulerConfig;

/* `what` names the file in errors: ERR_FORMAT with key and value. */
Status scheduler_config_parse(const Json *root, const char *what, SchedulerConfig *out);

#ifdef __cplusplus
}
#endif
#endif
