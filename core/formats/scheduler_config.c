#include "core/formats/scheduler_config.h"

#include <stdio.h>
#include <string.h>

/* Bits of a row: the classes it holds for. */
enum {
    EULER = 1 << SOLVER_EULER,
    UNIPC = 1 << SOLVER_UNIPC,
    DPM = 1 << SOLVER_DPM,
    HEUN = 1 << SOLVER_HEUN,
    MULTISTEP = UNIPC | DPM,
    ALL = EULER | MULTISTEP | HEUN,
};

static const struct {
    const char *name;
    SolverKind kind;
} classes[] = {
    { "FlowMatchEulerDiscreteScheduler", SOLVER_EULER },
    { "UniPCMultistepScheduler", SOLVER_UNIPC },
    { "DPMSolverMultistepScheduler", SOLVER_DPM },
    { "FlowMatchHeunDiscreteScheduler", SOLVER_HEUN },
};

enum { CLASSES = sizeof classes / sizeof classes[0] };

/*
 * What the arithmetic of core/solver is, key by key: the values, as JSON spells them, that mean it.
 * A missing key means diffusers' default, which is the first value unless `needed`. What has no row
 * (betas, spacing, steps_offset, clipping of lambda, ...) is not used with flow sigmas.
 */
static const struct {
    int classes;
    const char *key, *values;
    bool needed;
} rules[] = {
    // clang-format off
    { ALL,           "num_train_timesteps",     "1000",           false },
    { MULTISTEP,     "prediction_type",         "flow_prediction", true },
    { MULTISTEP,     "use_flow_sigmas",         "true",            true },
    { MULTISTEP,     "solver_order",            "2",              false },
    { MULTISTEP,     "thresholding",            "false",          false },
    { MULTISTEP,     "final_sigmas_type",       "zero",           false },
    { UNIPC,         "predict_x0",              "true",           false },
    /* diffusers reads the names of the other class as these */
    { UNIPC,         "solver_type",             "bh2|midpoint|heun|logrho", false },
    { UNIPC,         "lower_order_final",       "true",           false },
    { UNIPC,         "disable_corrector",       "[]",             false },
    { UNIPC,         "solver_p",                "null",           false },
    { DPM,           "algorithm_type",          "dpmsolver++",    false },
    { DPM,           "solver_type",             "midpoint|bh1|bh2|logrho", false },
    { DPM,           "use_lu_lambdas",          "false",          false },
    { EULER,         "invert_sigmas",           "false",          false },
    { EULER,         "stochastic_sampling",     "false",          false },
    { EULER | UNIPC, "shift_terminal",          "null",           false },
    { ALL & ~HEUN,   "use_dynamic_shifting",    "false",          false },
    { ALL & ~HEUN,   "use_karras_sigmas",       "false|null",     false },
    { ALL & ~HEUN,   "use_exponential_sigmas",  "false|null",     false },
    { ALL & ~HEUN,   "use_beta_sigmas",         "false|null",     false },
    // clang-format on
};

enum { RULES = sizeof rules / sizeof rules[0], VALUE_BYTES = 64 };

/* "1000", "true", "null", "[]", "flow_prediction"; other arrays and objects as "[...]", "{...}". */
static void describe(const Json *value, char out[VALUE_BYTES])
{
    const char *string = json_as_string(value);
    const Json *array = json_as_array(value);
    double number;
    bool flag;

    if (string)
        (void)snprintf(out, VALUE_BYTES, "%.60s", string);
    else if (json_as_real(value, &number))
        (void)snprintf(out, VALUE_BYTES, "%.12g", number);
    else if (json_as_bool(value, &flag))
        strcpy(out, flag ? "true" : "false");
    else if (array)
        strcpy(out, json_count(array) > 0 ? "[...]" : "[]");
    else
        strcpy(out, json_as_object(value) ? "{...}" : "null");
}

/* Whether `value` is one of "a|b|c". */
static bool is_one_of(const char *values, const char *value)
{
    const size_t length = strlen(value);

    for (const char *v = values; v; v = strchr(v, '|')) {
        if (*v == '|') v++;
        if (strncmp(v, value, length) == 0 && (v[length] == 0 || v[length] == '|')) return true;
    }
    return false;
}

static const Json *member(const Json *object, const char *key)
{
    for (void *i = json_first(object); i; i = json_next(object, i))
        if (strcmp(json_key(i), key) == 0) return json_value(i);
    return NULL;
}

static Status check_rules(const Json *root, const char *what, int kind)
{
    for (int i = 0; i < RULES; i++) {
        const Json *value = member(root, rules[i].key);
        char found[VALUE_BYTES] = "missing";

        if (!(rules[i].classes & 1 << kind) || (!value && !rules[i].needed)) continue;
        if (value) describe(value, found);
        CHECK(value && is_one_of(rules[i].values, found), ERR_FORMAT,
              "%s: \"%s\" is %s, only %s is known for %s", what, rules[i].key, found,
              rules[i].values, classes[kind].name);
    }
    return OK;
}

static Status find_class(const Json *root, const char *what, int *out)
{
    const char *name;

    TRY(json_get_string(root, what, "_class_name", &name));
    for (*out = 0; *out < CLASSES; ++*out)
        if (strcmp(name, classes[*out].name) == 0) return OK;
    return status_fail(ERR_FORMAT,
                       "%s: \"_class_name\" is %.60s, known are UniPCMultistepScheduler, "
                       "FlowMatchEulerDiscreteScheduler, DPMSolverMultistepScheduler and "
                       "FlowMatchHeunDiscreteScheduler",
                       what, name);
}

Status scheduler_config_parse(const Json *root, const char *what, SchedulerConfig *out)
{
    SchedulerConfig config = { .sigmas = SIGMAS_DIFFUSERS, .shift = 1 };
    int kind;

    CHECK(json_as_object(root), ERR_FORMAT, "%s: is not a JSON object", what);
    TRY(find_class(root, what, &kind));
    TRY(check_rules(root, what, kind));
    config.solver = classes[kind].kind;
    /* a file that diffusers saves has every parameter of the class; ours has three */
    if (config.solver == SOLVER_EULER && !json_has(root, "base_shift")) config.sigmas = SIGMAS_OWN;
    const bool multistep = config.solver == SOLVER_UNIPC || config.solver == SOLVER_DPM;
    const char *key = multistep ? "flow_shift" : "shift";
    if (json_has(root, key)) TRY(json_get_real(root, what, key, 0.01, 100.0, &config.shift));
    *out = config;
    return OK;
}
