/* scheduler_config.json: what public folders hold is read, and what would be other arithmetic than
 * ours is refused by key and value. */
#include "core/formats/scheduler_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every key as diffusers 0.42 saves it; a row adds the closing brace. */
#define COMMON                                                                                    \
    "\"_diffusers_version\":\"0.42.1\",\"num_train_timesteps\":1000,\"use_karras_sigmas\":false," \
    "\"use_exponential_sigmas\":false,\"use_beta_sigmas\":false,\"use_dynamic_shifting\":false,"
#define BETAS                                                                                      \
    "\"beta_start\":0.0001,\"beta_end\":0.02,\"beta_schedule\":\"linear\",\"trained_betas\":null," \
    "\"rescale_betas_zero_snr\":false,\"timestep_spacing\":\"linspace\",\"steps_offset\":0,"
#define FLOW                                                                                \
    "\"prediction_type\":\"flow_prediction\",\"use_flow_sigmas\":true,\"solver_order\":2,"  \
    "\"thresholding\":false,\"dynamic_thresholding_ratio\":0.995,\"sample_max_value\":1.0," \
    "\"lower_order_final\":true,\"final_sigmas_type\":\"zero\",\"time_shift_type\":"        \
    "\"exponential\""
#define UNIPC                                                                                 \
    "{\"_class_name\":\"UniPCMultistepScheduler\"," COMMON BETAS                              \
    "\"predict_x0\":true,\"solver_type\":\"bh2\",\"disable_corrector\":[],\"solver_p\":null," \
    "\"sigma_min\":null,\"sigma_max\":null,\"shift_terminal\":null," FLOW
#define DPM                                                                                     \
    "{\"_class_name\":\"DPMSolverMultistepScheduler\"," COMMON BETAS                            \
    "\"algorithm_type\":\"dpmsolver++\",\"solver_type\":\"midpoint\",\"euler_at_final\":false," \
    "\"use_lu_lambdas\":false,\"lambda_min_clipped\":-5.1,\"variance_type\":null," FLOW
#define EULER                                                                                   \
    "{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\"," COMMON                              \
    "\"base_shift\":0.5,\"max_shift\":1.15,\"base_image_seq_len\":256,\"invert_sigmas\":false," \
    "\"max_image_seq_len\":4096,\"shift_terminal\":null,\"stochastic_sampling\":false,"         \
    "\"time_shift_type\":\"exponential\""
#define HEUN "{\"_class_name\":\"FlowMatchHeunDiscreteScheduler\",\"num_train_timesteps\":1000"
#define OURS                                                                                  \
    "{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\",\"_diffusers_version\":\"0.35.0\"," \
    "\"num_train_timesteps\":1000,\"use_dynamic_shifting\":false"

static Status parse(const char *text, SchedulerConfig *out)
{
    const JsonLimits limits = json_limits();
    Json *root = NULL;

    assert_int_equal(json_parse(text, strlen(text), "s.json", &limits, &root), OK);
    const Status s = scheduler_config_parse(root, "s.json", out);
    json_free(root);
    return s;
}

static void public_folders_say_how_they_are_sampled(void **state)
{
    static const struct {
        const char *text;
        SchedulerConfig expected;
    } rows[] = {
        { UNIPC ",\"flow_shift\":5.0}", { SOLVER_UNIPC, SIGMAS_DIFFUSERS, 5 } },
        { UNIPC "}", { SOLVER_UNIPC, SIGMAS_DIFFUSERS, 1 } },
        { DPM ",\"flow_shift\":3}", { SOLVER_DPM, SIGMAS_DIFFUSERS, 3 } },
        { EULER ",\"shift\":12.0}", { SOLVER_EULER, SIGMAS_DIFFUSERS, 12 } },
        { HEUN ",\"shift\":2.5}", { SOLVER_HEUN, SIGMAS_DIFFUSERS, 2.5 } },
        { OURS ",\"shift\":3.0}", { SOLVER_EULER, SIGMAS_OWN, 3 } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        SchedulerConfig config = { 0 };
        if (parse(rows[i].text, &config) != OK) fail_msg("%s", status_message());
        assert_int_equal(config.solver, rows[i].expected.solver);
        assert_int_equal(config.sigmas, rows[i].expected.sigmas);
        assert_true(config.shift == rows[i].expected.shift);
    }
}

/* The text with the value of one key replaced. */
static char *with(const char *text, const char *key, const char *value)
{
    static char out[4096];
    char quoted[80];
    (void)snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(text, quoted);
    if (!at) {
        (void)snprintf(out, sizeof out, "%s,%s%s}", text, quoted, value);
        return out;
    }
    const char *rest = at + strlen(quoted);
    rest += strcspn(rest, *rest == '[' ? "]" : ",") + (*rest == '[');
    (void)snprintf(out, sizeof out, "%.*s%s%s}", (int)(at - text) + (int)strlen(quoted), text,
                   value, rest);
    return out;
}

static void other_arithmetic_is_refused_by_key_and_value(void **state)
{
    static const struct {
        const char *text, *key, *value, *found;
    } rows[] = {
        { UNIPC, "num_train_timesteps", "500", "500" },
        { UNIPC, "prediction_type", "\"epsilon\"", "epsilon" },
        { UNIPC, "use_flow_sigmas", "false", "false" },
        { UNIPC, "solver_order", "3", "3" },
        { UNIPC, "solver_type", "\"bh1\"", "bh1" },
        { UNIPC, "predict_x0", "false", "false" },
        { UNIPC, "lower_order_final", "false", "false" },
        { UNIPC, "disable_corrector", "[0]", "[...]" },
        { UNIPC, "thresholding", "true", "true" },
        { UNIPC, "final_sigmas_type", "\"sigma_min\"", "sigma_min" },
        { UNIPC, "use_karras_sigmas", "true", "true" },
        { UNIPC, "shift_terminal", "0.1", "0.1" },
        { DPM, "algorithm_type", "\"sde-dpmsolver++\"", "sde-dpmsolver++" },
        { DPM, "solver_type", "\"heun\"", "heun" },
        { DPM, "use_lu_lambdas", "true", "true" },
        { EULER, "use_dynamic_shifting", "true", "true" },
        { EULER, "invert_sigmas", "true", "true" },
        { EULER, "stochastic_sampling", "true", "true" },
        { EULER, "use_beta_sigmas", "true", "true" },
        { HEUN, "num_train_timesteps", "100", "100" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        SchedulerConfig config;
        char expected[160];
        (void)snprintf(expected, sizeof expected, "s.json: \"%s\" is %s, only ", rows[i].key,
                       rows[i].found);
        assert_int_equal(parse(with(rows[i].text, rows[i].key, rows[i].value), &config),
                         ERR_FORMAT);
        if (!strstr(status_message(), expected)) fail_msg("%s", status_message());
    }
}

static void what_diffusers_would_take_for_another_kind_is_refused(void **state)
{
    SchedulerConfig config;

    (void)state;
    /* its default is epsilon */
    assert_int_equal(parse("{\"_class_name\":\"UniPCMultistepScheduler\"}", &config), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "\"prediction_type\" is missing"));
    assert_int_equal(parse("{\"_class_name\":\"DDIMScheduler\"}", &config), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "\"_class_name\" is DDIMScheduler"));
    assert_int_equal(parse("{\"shift\":1}", &config), ERR_FORMAT);
    assert_int_equal(parse("[]", &config), ERR_FORMAT);
    assert_int_equal(parse(HEUN ",\"shift\":0}", &config), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "\"shift\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_folders_say_how_they_are_sampled),
        cmocka_unit_test(other_arithmetic_is_refused_by_key_and_value),
        cmocka_unit_test(what_diffusers_would_take_for_another_kind_is_refused),
    };
    return cmocka_run_group_tests_name("scheduler_config", tests, NULL, NULL);
}
