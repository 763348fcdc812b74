#include "core/base/config_yaml.h"

#include "core/base/config_values.h"

#include <string.h>
#include <yaml.h>

enum { SCALAR_MAX = 1 << 16, PATH_LETTERS = 256 };

/* ---- events --------------------------------------------------------------------------------- */

typedef struct Reader {
    ConfigYaml *yaml;
    yaml_parser_t parser;
    yaml_event_t event;               /* the current one; deleted when the next is read */
    char where[CONFIG_PATH_MAX + 64]; /* of the current event */
    size_t section_line[CONFIG_KEYS_MAX][CONFIG_DEPTH_MAX]; /* where it was given, or 0 */
} Reader;

static void set_where(Reader *reader, yaml_mark_t mark)
{
    if (reader->yaml->positions)
        (void)snprintf(reader->where, sizeof reader->where, "%s:%zu:%zu", reader->yaml->name,
                       mark.line + 1, mark.column + 1);
    else
        (void)snprintf(reader->where, sizeof reader->where, "%s", reader->yaml->name);
}

static Status refuse_yaml(Reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    CHECK(parser->error != YAML_MEMORY_ERROR, ERR_MEMORY, "%s: no memory", reader->yaml->name);
    if (parser->error == YAML_READER_ERROR)
        return status_fail(ERR_CONFIG, "%s: not a text file: %s (byte %zu)", reader->yaml->name,
                           parser->problem, parser->problem_offset);
    set_where(reader, parser->problem_mark);
    return status_fail(ERR_CONFIG, "%s: not valid YAML: %s%s%s", reader->where, parser->problem,
                       parser->context != NULL ? " " : "",
                       parser->context != NULL ? parser->context : "");
}

/* Anchors and tags are refused wherever they stand. */
static Status check_plain(Reader *reader)
{
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT: anchor = event->data.alias.anchor; break;
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        CHECK(event->data.scalar.length <= SCALAR_MAX, ERR_CONFIG,
              "%s: a value of %zu bytes; at most 64 KiB fit", reader->where,
              event->data.scalar.length);
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default: break;
    }
    CHECK(anchor == NULL, ERR_CONFIG, "%s: anchors and aliases (& and *) are not used here",
          reader->where);
    CHECK(tag == NULL, ERR_CONFIG, "%s: tags (!) are not used here", reader->where);
    return OK;
}

static Status next_event(Reader *reader)
{
    yaml_event_delete(&reader->event);
    if (yaml_parser_parse(&reader->parser, &reader->event) == 0) {
        memset(&reader->event, 0, sizeof reader->event);
        return refuse_yaml(reader);
    }
    set_where(reader, reader->event.start_mark);
    return check_plain(reader);
}

/* ---- the document --------------------------------------------------------------------------- */

static ConfigText event_text(const Reader *reader)
{
    return (ConfigText){ .bytes = (const char *)reader->event.data.scalar.value,
                         .length = reader->event.data.scalar.length,
                         .quoted = reader->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE };
}

static Status read_list(Reader *reader, const ConfigKey *key)
{
    int count = 0;
    TRY(next_event(reader));
    for (; reader->event.type != YAML_SEQUENCE_END_EVENT; count++) {
        CHECK(reader->event.type == YAML_SCALAR_EVENT, ERR_CONFIG,
              "%s: %s: expected %s, not lists within it", reader->where, key->name,
              config_expects(key));
        TRY(config_value_store(key, event_text(reader), count, reader->where, reader->yaml->out));
        TRY(next_event(reader));
    }
    return config_list_end(key, count, reader->where, reader->yaml->out);
}

Status config_refuse_unknown(const ConfigKey *keys, const char *path, const char *where)
{
    const char *near = config_nearest(keys, path);
    char section[CONFIG_NAME_MAX];
    if (near == NULL && config_nearest_section(keys, path, section)) near = section;
    CHECK(near == NULL, ERR_CONFIG, "%s: unknown key %s; did you mean %s?", where, path, near);
    return status_fail(ERR_CONFIG, "%s: unknown key %s", where, path);
}

/* The value of a key; the current event is its first. */
static Status read_value(Reader *reader, const ConfigKey *key)
{
    const yaml_event_type_t type = reader->event.type;
    if (type == YAML_SEQUENCE_START_EVENT && config_is_list(key)) return read_list(reader, key);
    const char *found = type == YAML_SEQUENCE_START_EVENT  ? "a list"
                        : type == YAML_MAPPING_START_EVENT ? "a mapping"
                                                           : "one value";
    CHECK(type == YAML_SCALAR_EVENT && !config_is_list(key), ERR_CONFIG,
          "%s: %s: expected %s, not %s", reader->where, key->name, config_expects(key), found);
    return config_value_store(key, event_text(reader), 0, reader->where, reader->yaml->out);
}

static Status check_once(const Reader *reader, const char *path, size_t *line)
{
    CHECK(*line == 0, ERR_CONFIG, "%s: %s is given twice; first on line %zu", reader->where, path,
          *line);
    *line = reader->event.start_mark.line + 1;
    return OK;
}

static Status read_section(Reader *reader, const char *path);

/* The value of a key, or the mapping of a section, whose dotted name is `path`. */
static Status read_path(Reader *reader, const char *path)
{
    ConfigYaml *yaml = reader->yaml;
    const int row = config_find(yaml->keys, path);
    int first = 0, depth = 0;
    if (row >= 0) {
        TRY(check_once(reader, path, &yaml->key_line[row]));
        TRY(next_event(reader));
        return read_value(reader, &yaml->keys[row]);
    }
    if (!config_is_section(yaml->keys, path, &first, &depth))
        return config_refuse_unknown(yaml->keys, path, reader->where);
    TRY(check_once(reader, path, &reader->section_line[first][depth]));
    TRY(next_event(reader));
    return read_section(reader, path);
}

/* A key of the section `path` and what follows it. */
static Status read_entry(Reader *reader, const char *path)
{
    char shown[64], full[PATH_LETTERS];
    const ConfigText text = event_text(reader);
    CHECK(reader->event.type == YAML_SCALAR_EVENT && text.length > 0, ERR_CONFIG,
          "%s: a key must be one word", reader->where);
    (void)config_shown(text, shown);
    CHECK(memchr(text.bytes, '.', text.length) == NULL, ERR_CONFIG,
          "%s: key '%s': in a file keys are nested, not dotted", reader->where, shown);
    /* nothing is cut: `path` is part of a known name */
    (void)snprintf(full, sizeof full, "%s%s%s", path, path[0] != 0 ? "." : "", shown);
    return read_path(reader, full);
}

/* The current event begins the section's mapping. */
static Status read_section(Reader *reader, const char *path)
{
    CHECK(reader->event.type == YAML_MAPPING_START_EVENT, ERR_CONFIG,
          "%s: %s: expected a section with keys", reader->where,
          path[0] != 0 ? path : "the configuration");
    TRY(next_event(reader));
    while (reader->event.type != YAML_MAPPING_END_EVENT) {
        TRY(read_entry(reader, path));
        TRY(next_event(reader));
    }
    return OK;
}

static Status check_directives(const Reader *reader)
{
    const yaml_event_t *event = &reader->event;
    const bool none = event->data.document_start.version_directive == NULL &&
                      event->data.document_start.tag_directives.start ==
                          event->data.document_start.tag_directives.end;
    CHECK(none, ERR_CONFIG, "%s: directives (%%) are not used here", reader->where);
    return OK;
}

/* `key` NULL: a document of keys, which may be empty. Otherwise the value of that key. */
static Status read_document(Reader *reader, const ConfigKey *key)
{
    TRY(next_event(reader)); /* start of the stream */
    TRY(next_event(reader));
    if (reader->event.type == YAML_STREAM_END_EVENT) {
        CHECK(key == NULL, ERR_CONFIG, "%s: expected %s", reader->where, config_expects(key));
        return OK;
    }
    TRY(check_directives(reader));
    TRY(next_event(reader));
    TRY(key != NULL ? read_value(reader, key) : read_section(reader, ""));
    TRY(next_event(reader)); /* end of the document */
    TRY(next_event(reader));
    CHECK(reader->event.type == YAML_STREAM_END_EVENT, ERR_CONFIG,
          "%s: a second document; one is expected", reader->where);
    return OK;
}

Status config_yaml_read(ConfigYaml *yaml, const char *text, size_t length, const ConfigKey *key)
{
    Reader reader = { .yaml = yaml };
    CHECK(yaml_parser_initialize(&reader.parser) == 1, ERR_MEMORY, "%s: no memory", yaml->name);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, length);
    const Status s = read_document(&reader, key);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    return s;
}
