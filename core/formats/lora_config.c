/* What an adapter's configuration (PEFT's LoraConfig as JSON) says about scales. */
#include "core/formats/lora_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Keys that make another method of it unless they are absent, null, false, 0 or empty. */
static const char *const other_methods[] = {
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "arrow_config",
    "layer_replication",
    "modules_to_save",
    "target_parameters",
    "velora_config",
    "monteclora_config",
    "alora_invocation_tokens",
};

static const char *full_key(const LoraConfig *c, const char *key, char out[96])
{
    (void)snprintf(out, 96, "%s%s", c->prefix, key);
    return out;
}

static const Json *member(const LoraConfig *c, const char *key)
{
    char name[96];

    full_key(c, key, name);
    for (void *i = json_first(c->root); i; i = json_next(c->root, i))
        if (strcmp(json_key(i), name) == 0) return json_value(i);
    return NULL;
}

static bool is_nothing(const Json *value)
{
    bool flag;
    double number;

    if (json_as_bool(value, &flag)) return !flag;
    if (json_as_real(value, &number)) return number == 0;
    return json_as_string(value) ? false : json_count(value) == 0;
}

static Status check_method(const LoraConfig *c)
{
    const Json *type = member(c, "peft_type"), *bias = member(c, "bias");
    const char *name = type ? json_as_string(type) : NULL;
    const char *kind = bias ? json_as_string(bias) : NULL;

    CHECK(!name || strcmp(name, "LORA") == 0, ERR_FORMAT,
          "%s: \"peft_type\" is %.40s, only LORA is known", c->what, name);
    CHECK(!kind || strcmp(kind, "none") == 0, ERR_FORMAT,
          "%s: \"bias\" is %.40s: biases that were trained beside the adapter are not read",
          c->what, kind);
    for (size_t i = 0; i < sizeof other_methods / sizeof other_methods[0]; i++) {
        const Json *value = member(c, other_methods[i]);
        CHECK(!value || is_nothing(value), ERR_FORMAT,
              "%s: \"%s\" is set: that is another method than plain LoRA", c->what,
              other_methods[i]);
    }
    return OK;
}

Status lora_config_open(Json *root, const char *what, LoraConfig *out)
{
    LoraConfig c = { .root = root,
                     .prefix = json_has(root, "transformer.r") ? "transformer." : "" };
    Status s = OK;

    (void)snprintf(c.what, sizeof c.what, "%s", what);
    CHECK_TO(failed, s, json_as_object(root), ERR_FORMAT, "%s: is not a JSON object", what);
    TRY_TO(failed, s, check_method(&c));
    *out = c;
    return OK;
failed:
    lora_config_close(&c);
    return s;
}

void lora_config_close(LoraConfig *config)
{
    json_free(config->root);
    config->root = NULL;
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* PEFT takes a pattern's key as a regular expression for the end of a module's name, from a dot on;
 * keys that are names are that, "^name" is the whole. */
static Status matches(const LoraConfig *c, const char *key, const char *module, bool *out)
{
    const bool whole = key[0] == '^';
    const char *name = whole ? key + 1 : key;
    const size_t n = strlen(name), m = strlen(module);

    CHECK(strcspn(name, "*+?()[]{}|\\^$") == n, ERR_FORMAT,
          "%s: the pattern \"%.80s\" is a regular expression; names of modules are read", c->what,
          key);
    *out =
        whole ? strcmp(name, module) == 0
              : n <= m && strcmp(module + m - n, name) == 0 && (n == m || module[m - n - 1] == '.');
    return OK;
}

/* The number of the first key that matches, or of `key` itself. */
static Status find_number(const LoraConfig *c, const char *key, const char *patterns,
                          const char *module, double *out)
{
    const Json *table = member(c, patterns);
    char name[96];

    for (void *i = json_first(table); i; i = json_next(table, i)) {
        bool found = false;
        TRY(matches(c, json_key(i), module, &found));
        if (!found) continue;
        CHECK(json_as_real(json_value(i), out), ERR_FORMAT, "%s: \"%s\" of \"%.80s\" is no number",
              c->what, patterns, json_key(i));
        return OK;
    }
    return json_get_real(c->root, c->what, full_key(c, key, name), -1e6, 1e6, out);
}

Status lora_config_scale(const LoraConfig *c, const char *module, int64_t rank, double *out)
{
    const Json *value;
    double alpha, r;
    bool root = false;

    *out = 1;
    if (!c->root) return OK;
    TRY(find_number(c, "r", "rank_pattern", module, &r));
    TRY(find_number(c, "lora_alpha", "alpha_pattern", module, &alpha));
    CHECK(r == (double)rank, ERR_FORMAT, "%s: gives %s rank %g, the tensors have %lld", c->what,
          module, r, (long long)rank);
    value = member(c, "use_rslora");
    if (value) (void)json_as_bool(value, &root);
    *out = alpha / (root ? sqrt(r) : r);
    return OK;
}
