#include "core/base/config_keys.h"

#include "core/base/nearest.h"

#include <string.h>

bool config_is_section(const ConfigKey *keys, const char *path, int *row, int *depth)
{
    const size_t length = strlen(path);
    *depth = length > 0;
    for (const char *c = path; *c != 0; c++) *depth += *c == '.';
    for (*row = 0; keys[*row].name != NULL; (*row)++) {
        const char *name = keys[*row].name;
        if (length == 0 || (strncmp(name, path, length) == 0 && name[length] == '.')) return true;
    }
    return false;
}

int config_find(const ConfigKey *keys, const char *path)
{
    for (int row = 0; keys[row].name != NULL; row++)
        if (strcmp(keys[row].name, path) == 0) return row;
    return -1;
}

const char *config_nearest(const ConfigKey *keys, const char *path)
{
    const char *names[CONFIG_KEYS_MAX + 1];
    const char *last = strrchr(path, '.');
    const size_t section = last != NULL ? (size_t)(last - path) + 1 : 0;
    int count = 0;
    last = last != NULL ? last + 1 : path;
    for (const ConfigKey *key = keys; key->name != NULL; key++) {
        const char *other = strrchr(key->name, '.');
        if (strcmp(other != NULL ? other + 1 : key->name, last) == 0) return key->name;
        if (strncmp(key->name, path, section) == 0) names[count++] = key->name + section;
    }
    names[count] = NULL;
    const char *near = nearest_name(last, names);
    if (near != NULL) return near - section;
    /* a known section keeps the guess inside it: most of the path is right, which proves nothing */
    if (section > 0 && count > 0) return NULL;
    count = 0;
    for (const ConfigKey *key = keys; key->name != NULL; key++) names[count++] = key->name;
    names[count] = NULL;
    return nearest_name(path, names);
}

bool config_nearest_section(const ConfigKey *keys, const char *path, char out[CONFIG_NAME_MAX])
{
    char sections[CONFIG_KEYS_MAX][CONFIG_NAME_MAX];
    const char *names[CONFIG_KEYS_MAX + 1];
    int count = 0;
    for (const ConfigKey *key = keys; key->name != NULL; key++) {
        const char *last = strrchr(key->name, '.');
        const size_t length = last != NULL ? (size_t)(last - key->name) : 0;
        if (length == 0 || length >= CONFIG_NAME_MAX) continue;
        memcpy(sections[count], key->name, length);
        sections[count][length] = 0;
        names[count] = sections[count];
        count++;
    }
    names[count] = NULL;
    const char *near = nearest_name(path, names);
    if (near != NULL) memcpy(out, near, strlen(near) + 1);
    return near != NULL;
}
