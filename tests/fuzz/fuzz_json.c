/* fuzz_json: the strict reader of JSON, and every getter on all that it read. */
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "tests/fuzz/fuzz.h"

enum { DEPTH = 8, VALUES = 1000 };

static void ask_member(const Json *object, const char *key)
{
    int64_t i;
    double d;
    bool b;
    const char *text;
    const Json *child;
    if (json_get_int(object, "fuzz", key, -5, 5, &i) == OK) MUST(i >= -5 && i <= 5);
    if (json_get_real(object, "fuzz", key, -5, 5, &d) == OK) MUST(d >= -5 && d <= 5);
    (void)json_get_bool(object, "fuzz", key, &b);
    (void)json_get_object(object, "fuzz", key, &child);
    (void)json_get_array(object, "fuzz", key, &child);
    if (json_get_string(object, "fuzz", key, &text) == OK)
        MUST(json_utf8_valid(text, strlen(text)));
}

/* Visits everything; returns how many values there are. */
static int64_t walk(const Json *json, int depth)
{
    int64_t values = 1, i;
    double d;
    MUST(depth <= DEPTH + 1);
    const char *text = json_as_string(json);
    if (text) MUST(json_utf8_valid(text, strlen(text)));
    if (json_as_int(json, &i)) MUST(json_as_real(json, &d));
    if (json_as_array(json))
        for (int64_t k = 0; k < json_count(json); k++) values += walk(json_at(json, k), depth + 1);
    if (!json_as_object(json)) return values;
    for (void *m = json_first(json); m; m = json_next(json, m)) {
        MUST(json_utf8_valid(json_key(m), strlen(json_key(m))));
        ask_member(json, json_key(m));
        values += walk(json_value(m), depth + 1);
    }
    ask_member(json, "absent");
    return values;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const JsonLimits limits = { .bytes = 1 << 16, .depth = DEPTH, .values = VALUES };
    Json *root = NULL;
    char *text = fuzz_copy(bytes, size);
    const Status s = json_parse(text, size, "fuzz", &limits, &root);
    if (s == OK)
        MUST(walk(root, 0) <= VALUES);
    else
        fuzz_refused(s, ERR_FORMAT);
    json_free(root);
    free(text);
    return 0;
}
