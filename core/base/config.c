#include "core/base/config.h"

#include "core/base/config_keys.h"
#include "core/base/config_values.h"
#include "core/base/config_yaml.h"
#include "core/base/file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

/* A value that stands alone: lists are YAML, anything else is taken as it was typed. */
static Status apply(ConfigYaml *yaml, const ConfigKey *key, const char *text)
{
    if (config_is_list(key)) return config_yaml_read(yaml, text, strlen(text), key);
    const ConfigText typed = { .bytes = text,
                               .length = strlen(text),
                               .quoted = key->type == CONFIG_STRING };
    return config_value_store(key, typed, 0, yaml->name, yaml->out);
}

static Status apply_defaults(const ConfigKey *keys, void *out)
{
    ConfigYaml yaml = { .keys = keys, .out = out };
    for (const ConfigKey *key = keys; key->name != NULL; key++) {
        assert(key - keys < CONFIG_KEYS_MAX);
        yaml.name = key->name;
        if (key->fallback != NULL) TRY(apply(&yaml, key, key->fallback));
    }
    return OK;
}

/* "key.sub=value" */
static Status apply_override(const ConfigKey *keys, const char *text, void *out, size_t *key_line)
{
    char path[CONFIG_NAME_MAX], where[128], shown[64];
    const ConfigText whole = { .bytes = text, .length = strlen(text) };
    const size_t length = strcspn(text, "=");
    (void)snprintf(where, sizeof where, "argument '%s'", config_shown(whole, shown));
    CHECK(text[length] == '=' && length > 0, ERR_CONFIG, "%s: not of the form key=value", where);
    (void)config_shown((ConfigText){ .bytes = text, .length = length }, path);

    const int row = config_find(keys, path);
    int section_row = 0, depth = 0;
    if (row < 0) {
        CHECK(!config_is_section(keys, path, &section_row, &depth), ERR_CONFIG,
              "%s: %s is a section; give one of its keys, such as %s", where, path,
              keys[section_row].name);
        return config_refuse_unknown(keys, path, where);
    }
    key_line[row] = 1;
    ConfigYaml yaml = { .keys = keys, .out = out, .name = where };
    return apply(&yaml, &keys[row], text + length + 1);
}

static Status read_all(ConfigYaml *yaml, const char *text, size_t length, int override_count,
                       const char *const *overrides)
{
    const ConfigKey *keys = yaml->keys;
    TRY(apply_defaults(keys, yaml->out));
    TRY(config_yaml_read(yaml, text, length, NULL));
    for (int i = 0; i < override_count; i++)
        TRY(apply_override(keys, overrides[i], yaml->out, yaml->key_line));
    for (int row = 0; keys[row].name != NULL; row++)
        CHECK(keys[row].fallback != NULL || yaml->key_line[row] != 0, ERR_CONFIG,
              "%s: %s is missing", yaml->name, keys[row].name);
    return OK;
}

Status config_parse(const ConfigKey *keys, const char *name, const char *text, size_t length,
                    int override_count, const char *const *overrides, void *out, size_t out_size)
{
    CHECK(length <= FILE_BYTES_MAX, ERR_CONFIG, "%s: %zu bytes; at most 1 MiB is read", name,
          length);
    /* into a copy, so that nothing half-read is left in *out */
    void *copy = calloc(1, out_size);
    CHECK(copy != NULL, ERR_MEMORY, "%s: no memory", name);
    ConfigYaml yaml = { .keys = keys, .out = copy, .name = name, .positions = true };
    const Status s = read_all(&yaml, text, length, override_count, overrides);
    if (s == OK) memcpy(out, copy, out_size);
    free(copy);
    return s;
}

Status config_load(const ConfigKey *keys, const char *path, int override_count,
                   const char *const *overrides, void *out, size_t out_size)
{
    char *text = NULL;
    size_t length = 0;
    Status s = file_read(path, FILE_BYTES_MAX, &text, &length);
    CHECK(s != ERR_FORMAT, ERR_CONFIG, "%s: larger than 1 MiB; is it a configuration?", path);
    TRY(s);
    s = config_parse(keys, path, text, length, override_count, overrides, out, out_size);
    free(text);
    return s;
}
