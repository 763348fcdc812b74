#include "train/checkpoint_progress.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_VERSION = 1 };

Status checkpoint_write_progress(const char *folder, const CheckpointProgress *progress)
{
    char path[FILE_PATH_BYTES], seed[32];
    JsonWriter w = json_writer(2);
    TRY(file_join(path, folder, "state.json"));
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", "zoetrope-state");
    json_write_int(&w, "version", STATE_VERSION);
    json_write_int(&w, "step", progress->step);
    json_write_int(&w, "samples", progress->samples);
    /* text: many readers keep numbers as doubles, which end at 2^53 */
    (void)snprintf(seed, sizeof seed, "%" PRIu64, progress->seed);
    json_write_string(&w, "seed", seed);
    json_write_string(&w, "config_sha256", progress->config_digest);
    json_end_object(&w);
    return json_writer_save(&w, path);
}

static Status parse_seed(const char *text, const char *path, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long seed = strtoull(text, &end, 10);
    CHECK(errno == 0 && end != text && *end == 0 && text[0] >= '0' && text[0] <= '9', ERR_FORMAT,
          "%s: \"seed\" is \"%.40s\", expected digits of a 64-bit number", path, text);
    *out = seed;
    return OK;
}

static Status parse(const Json *root, const char *path, CheckpointProgress *out)
{
    CheckpointProgress p = { 0 };
    const char *format, *seed, *digest;
    int64_t version;
    TRY(json_get_string(root, path, "format", &format));
    CHECK(strcmp(format, "zoetrope-state") == 0, ERR_FORMAT,
          "%s: \"format\" is \"%.40s\", expected \"zoetrope-state\"", path, format);
    TRY(json_get_int(root, path, "version", STATE_VERSION, STATE_VERSION, &version));
    TRY(json_get_int(root, path, "step", 0, INT64_MAX, &p.step));
    TRY(json_get_int(root, path, "samples", 0, INT64_MAX, &p.samples));
    TRY(json_get_string(root, path, "seed", &seed));
    TRY(parse_seed(seed, path, &p.seed));
    TRY(json_get_string(root, path, "config_sha256", &digest));
    CHECK(strlen(digest) < sizeof p.config_digest, ERR_FORMAT,
          "%s: \"config_sha256\" is longer than 64 characters", path);
    memcpy(p.config_digest, digest, strlen(digest) + 1);
    *out = p;
    return OK;
}

Status checkpoint_parse_progress(const char *text, size_t length, const char *path,
                                 CheckpointProgress *out)
{
    const JsonLimits limits = json_limits();
    Json *root = NULL;
    TRY(json_parse(text, length, path, &limits, &root));
    const Status s = parse(root, path, out);
    json_free(root);
    return s;
}

Status checkpoint_read_progress(const char *path, CheckpointProgress *out)
{
    char file[FILE_PATH_BYTES];
    char *text = NULL;
    size_t length = 0;
    TRY(file_join(file, path, "state.json"));
    TRY(file_read(file, json_limits().bytes, &text, &length));
    const Status s = checkpoint_parse_progress(text, length, file, out);
    free(text);
    return s;
}

bool checkpoint_same_progress(const CheckpointProgress *a, const CheckpointProgress *b)
{
    return a->step == b->step && a->samples == b->samples && a->seed == b->seed &&
           strcmp(a->config_digest, b->config_digest) == 0;
}
