#include "core/formats/statement.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/formats/manifest.h"

#include <stdlib.h>
#include <string.h>

#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE "https://model_signing/signature/v1.0"

enum { MAX_FILES = 100000, MAX_LEFT_OUT = 1000 };

/* The spec's own, and the signature's file; as top-level paths. */
static const char *const excluded[] = { ".git", ".gitattributes", ".github", ".gitignore",
                                        SIGNATURE_NAME };
enum { EXCLUDED = sizeof excluded / sizeof excluded[0] };

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const StatementFile *)a)->name, ((const StatementFile *)b)->name);
}

static void sort_files(StatementFile *files, int64_t count)
{
    qsort(files, (size_t)count, sizeof *files, compare_files);
}

/* "a/b" lies under "a" and under "a/b". */
static bool is_under(const char *name, const char *path)
{
    const size_t n = strlen(path);
    return strncmp(name, path, n) == 0 && (name[n] == 0 || name[n] == '/');
}

bool statement_excludes(const char *name)
{
    for (int i = 0; i < EXCLUDED; i++)
        if (is_under(name, excluded[i])) return true;
    return false;
}

bool statement_left_out(const Statement *statement, const char *name)
{
    for (int64_t i = 0; i < statement->left_out_count; i++)
        if (is_under(name, statement->left_out[i])) return true;
    return false;
}

/* --- writing --- */

/* SHA-256 of the files' digests, 32 bytes each, one after the other. */
static Status compute_root(const StatementFile *files, int64_t count, Digest *root)
{
    DigestStream *stream = NULL;
    TRY(digest_stream_create(&stream));
    for (int64_t i = 0; i < count; i++)
        digest_stream_update(stream, files[i].digest.bytes, DIGEST_BYTES);
    digest_stream_finish(stream, root);
    digest_stream_destroy(stream);
    return OK;
}

static void write_subject(JsonWriter *w, const char *name, const Digest *root)
{
    char hex[DIGEST_HEX];
    digest_hex(root, hex);
    json_begin_array(w, "subject");
    json_begin_object(w, NULL);
    json_write_string(w, "name", name);
    json_begin_object(w, "digest");
    json_write_string(w, "sha256", hex);
    json_end_object(w);
    json_end_object(w);
    json_end_array(w);
}

static void write_serialization(JsonWriter *w)
{
    json_begin_object(w, "serialization");
    json_write_string(w, "method", "files");
    json_write_string(w, "hash_type", "sha256");
    json_write_bool(w, "allow_symlinks", false);
    json_begin_array(w, "ignore_paths");
    for (int i = 0; i < EXCLUDED; i++) json_write_string(w, NULL, excluded[i]);
    json_end_array(w);
    json_end_object(w);
}

static void write_resources(JsonWriter *w, const StatementFile *files, int64_t count)
{
    char hex[DIGEST_HEX];
    json_begin_array(w, "resources");
    for (int64_t i = 0; i < count; i++) {
        digest_hex(&files[i].digest, hex);
        json_begin_object(w, NULL);
        json_write_string(w, "name", files[i].name);
        json_write_string(w, "algorithm", "sha256");
        json_write_string(w, "digest", hex);
        json_end_object(w);
    }
    json_end_array(w);
}

Status statement_write(const char *name, StatementFile *files, int64_t count, char **text,
                       size_t *length)
{
    Digest root;
    JsonWriter w = json_writer(0);
    CHECK(count > 0, ERR_FORMAT, "%s: holds no file, so there is nothing to sign", name);
    sort_files(files, count);
    TRY(compute_root(files, count, &root));
    json_begin_object(&w, NULL);
    json_write_string(&w, "_type", STATEMENT_TYPE);
    write_subject(&w, name, &root);
    json_write_string(&w, "predicateType", PREDICATE_TYPE);
    json_begin_object(&w, "predicate");
    write_serialization(&w);
    write_resources(&w, files, count);
    json_end_object(&w);
    json_end_object(&w);
    return json_writer_finish(&w, text, length);
}

/* --- reading --- */

static Status get_digest(const Json *object, const char *what, const char *key, Digest *out)
{
    const char *hex;
    TRY(json_get_string(object, what, key, &hex));
    CHECK(digest_parse(hex, out) == OK, ERR_FORMAT,
          "%s: \"%s\" is \"%.80s\", expected a SHA-256 in hexadecimal", what, key, hex);
    return OK;
}

static Status parse_subject(const Json *root, const char *what, Digest *out)
{
    const Json *subject, *digest;
    const char *name;
    TRY(json_get_array(root, what, "subject", &subject));
    CHECK(json_count(subject) == 1, ERR_FORMAT, "%s: has %lld subjects, expected one", what,
          (long long)json_count(subject));
    /* whatever the model was called where it was signed */
    TRY(json_get_string(json_at(subject, 0), what, "name", &name));
    CHECK(name[0], ERR_FORMAT, "%s: its subject has no name", what);
    TRY(json_get_object(json_at(subject, 0), what, "digest", &digest));
    return get_digest(digest, what, "sha256", out);
}

static Status parse_left_out(const Json *serialization, const char *what, Statement *out)
{
    const Json *paths;
    if (!json_has(serialization, "ignore_paths")) return OK;
    TRY(json_get_array(serialization, what, "ignore_paths", &paths));
    CHECK(json_count(paths) <= MAX_LEFT_OUT, ERR_FORMAT, "%s: leaves out %lld paths, at most %d",
          what, (long long)json_count(paths), MAX_LEFT_OUT);
    out->left_out = calloc((size_t)json_count(paths) + 1, sizeof *out->left_out);
    CHECK(out->left_out, ERR_MEMORY, "%s: no memory for the paths it leaves out", what);
    for (int64_t i = 0; i < json_count(paths); i++) {
        const char *path = json_as_string(json_at(paths, i));
        CHECK(path && file_is_below(path), ERR_FORMAT,
              "%s: \"ignore_paths\" holds \"%.80s\", which is no path below the folder", what,
              path ? path : "something that is no text");
        if (statement_excludes(path)) continue;
        char *copy = strdup(path);
        CHECK(copy, ERR_MEMORY, "%s: no memory for the paths it leaves out", what);
        out->left_out[out->left_out_count++] = copy;
    }
    return OK;
}

static Status parse_serialization(const Json *predicate, const char *what, Statement *out)
{
    const Json *serialization;
    bool symlinks;
    TRY(json_get_object(predicate, what, "serialization", &serialization));
    TRY(json_check_string(serialization, what, "method", "files"));
    TRY(json_check_string(serialization, what, "hash_type", "sha256"));
    CHECK(!json_has(serialization, "shard_size"), ERR_FORMAT,
          "%s: \"shard_size\" does not go with the method \"files\"", what);
    TRY(json_get_bool(serialization, what, "allow_symlinks", &symlinks));
    CHECK(!symlinks, ERR_FORMAT,
          "%s: was signed with symbolic links followed; sign the files themselves", what);
    return parse_left_out(serialization, what, out);
}

/* Members that we do not know are for others (spec 5.2.1). */
static Status parse_file(const Json *entry, const char *what, StatementFile *out)
{
    const char *name;
    TRY(json_get_string(entry, what, "name", &name));
    CHECK(file_is_below(name), ERR_FORMAT, "%s: lists \"%.80s\", which is no path below the folder",
          what, name);
    CHECK(!statement_excludes(name), ERR_FORMAT, "%s: lists %.80s, which no signature is over",
          what, name);
    TRY(json_check_string(entry, what, "algorithm", "sha256"));
    TRY(get_digest(entry, what, "digest", &out->digest));
    out->name = strdup(name);
    CHECK(out->name, ERR_MEMORY, "%s: no memory for its list of files", what);
    return OK;
}

static Status parse_resources(const Json *predicate, const char *what, Statement *out)
{
    const Json *resources;
    TRY(json_get_array(predicate, what, "resources", &resources));
    const int64_t count = json_count(resources);
    CHECK(count > 0 && count <= MAX_FILES, ERR_FORMAT, "%s: lists %lld files, expected 1 to %d",
          what, (long long)count, MAX_FILES);
    out->files = calloc((size_t)count, sizeof *out->files);
    CHECK(out->files, ERR_MEMORY, "%s: no memory for its list of files", what);
    for (int64_t i = 0; i < count; i++) {
        TRY(parse_file(json_at(resources, i), what, &out->files[i]));
        out->count++;
    }
    return OK;
}

/* In the list's own order first: other tools sort by the parts of a path. */
static Status check_root_and_sort(const char *what, const Digest *wanted, Statement *out)
{
    Digest root;
    TRY(compute_root(out->files, out->count, &root));
    CHECK(memcmp(&root, wanted, sizeof root) == 0, ERR_FORMAT,
          "%s: its subject's digest is not that of its list of files", what);
    sort_files(out->files, out->count);
    for (int64_t i = 1; i < out->count; i++)
        CHECK(strcmp(out->files[i - 1].name, out->files[i].name) != 0, ERR_FORMAT,
              "%s: lists %.80s twice", what, out->files[i].name);
    return OK;
}

static Status parse(const Json *root, const char *what, Statement *out)
{
    const Json *predicate;
    Digest subject;
    TRY(json_check_string(root, what, "_type", STATEMENT_TYPE));
    TRY(json_check_string(root, what, "predicateType", PREDICATE_TYPE));
    TRY(parse_subject(root, what, &subject));
    TRY(json_get_object(root, what, "predicate", &predicate));
    TRY(parse_serialization(predicate, what, out));
    TRY(parse_resources(predicate, what, out));
    return check_root_and_sort(what, &subject, out);
}

Status statement_parse(const char *text, size_t length, const char *what, Statement *out)
{
    /* a file is four values; others may write more about each */
    const JsonLimits limits = { .bytes = 64 << 20, .depth = 12, .values = 12 * MAX_FILES };
    Statement statement = { 0 };
    Json *root = NULL;
    TRY(json_parse(text, length, what, &limits, &root));
    const Status s = parse(root, what, &statement);
    json_free(root);
    if (s == OK)
        *out = statement;
    else
        statement_destroy(&statement);
    return s;
}

void statement_destroy(Statement *statement)
{
    if (!statement) return;
    for (int64_t i = 0; i < statement->count; i++) free(statement->files[i].name);
    for (int64_t i = 0; i < statement->left_out_count; i++) free(statement->left_out[i]);
    free(statement->files);
    free(statement->left_out);
    *statement = (Statement){ 0 };
}

const StatementFile *statement_find(const Statement *statement, const char *name)
{
    const union {
        const char *in;
        char *out;
    } u = { .in = name };
    const StatementFile key = { .name = u.out };
    if (statement->count == 0) return NULL;
    return bsearch(&key, statement->files, (size_t)statement->count, sizeof key, compare_files);
}
