#include "infer/request.h"

#include "core/base/log.h"
#include "core/solver/guidance.h"
#include "core/text/byte_tokens.h"
#include "infer/names.h"
#include "infer/references.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PROMPTS_BYTES_MAX = 16 << 20,
    PROMPTS_MAX = 9999, /* four digits in the files' names */
};

/* ---- prompts --------------------------------------------------------------------------------- */

/* Rank 0's bytes on every rank: *text is allocated on the others. */
static Status share_bytes(Comm *comm, char **text, size_t *length)
{
    Group *world = comm_world(comm);
    int64_t size = (int64_t)*length;

    TRY(group_broadcast(world, tensor_of(&size, U8, SHAPE(sizeof(size))), 0));
    *length = (size_t)size;
    if (comm_rank(comm) != 0) *text = calloc(*length + 1, 1);
    TRY(comm_agree(comm, *text ? OK : status_fail(ERR_MEMORY, "no memory for %zu bytes", *length)));
    return *length > 0 ? group_broadcast(world, tensor_of(*text, U8, SHAPE(size)), 0) : OK;
}

static Status share_file(Comm *comm, const char *path, char **text, size_t *length)
{
    const Status s = comm_rank(comm) == 0 ? file_read(path, PROMPTS_BYTES_MAX, text, length) : OK;

    TRY(comm_agree(comm, s));
    return share_bytes(comm, text, length);
}

static Status add_prompt(Request *r, const char *what, const char *text, size_t bytes)
{
    TRY(byte_tokens_check(what, text, bytes));
    CHECK(r->count < PROMPTS_MAX, ERR_USAGE, "%s: more than %d prompts", what, PROMPTS_MAX);
    r->numbers[r->count] = (uint64_t)r->count;
    r->prompts[r->count++] = text;
    return OK;
}

/* Cuts `text` into its lines; empty ones are left out. */
static Status split_lines(Request *r, const char *path, char *text, size_t length)
{
    int64_t number = 0;

    for (char *line = text; line < text + length;) {
        char *end = memchr(line, '\n', (size_t)(text + length - line));
        char *next, what[FILE_PATH_BYTES + 32];
        size_t bytes;

        if (!end) end = text + length;
        next = end + 1;
        if (end > line && end[-1] == '\r') end--;
        bytes = (size_t)(end - line);
        number++;
        snprintf(what, sizeof(what), "%s:%lld", path, (long long)number);
        if (bytes > 0) TRY(add_prompt(r, what, line, bytes));
        *end = 0;
        line = next;
    }
    CHECK(r->count > 0, ERR_USAGE, "%s: has no prompt", path);
    return OK;
}

static Status load_prompts(Comm *comm, Request *r)
{
    const InferOptions *o = r->options;
    size_t length = 0;

    CHECK(!o->prompt != !o->prompts, ERR_USAGE, "give --prompt TEXT or --prompts FILE%s",
          o->prompt ? ", not both" : "");
    if (o->negative) TRY(byte_tokens_check("--negative", o->negative, strlen(o->negative)));
    r->prompts = calloc(PROMPTS_MAX, sizeof(*r->prompts));
    r->numbers = calloc(PROMPTS_MAX, sizeof(*r->numbers));
    TRY(comm_agree(comm, r->prompts && r->numbers
                             ? OK
                             : status_fail(ERR_MEMORY, "no memory for the prompts")));
    if (o->prompt) return add_prompt(r, "--prompt", o->prompt, strlen(o->prompt));

    TRY(share_file(comm, o->prompts, &r->text, &length));
    return split_lines(r, o->prompts, r->text, length);
}

/* ---- which of them --------------------------------------------------------------------------- */

/* Prompt `from` becomes prompt `to`, from >= to. */
static void move_prompt(Request *r, int64_t from, int64_t to)
{
    r->prompts[to] = r->prompts[from];
    r->numbers[to] = r->numbers[from];
}

/* "2/4": part 2 of 4, parts of like size in the order of the file. */
static Status take_share(Request *r)
{
    const char *share = r->options->share;
    char *slash = NULL, *end = NULL;

    if (!share) return OK;
    CHECK(r->options->prompts, ERR_USAGE, "--share %s: goes with --prompts", share);
    const long long part = strtoll(share, &slash, 10);
    const long long parts = *slash == '/' ? strtoll(slash + 1, &end, 10) : 0;
    CHECK(end && end != slash + 1 && *end == 0 && part >= 1 && part <= parts && parts <= INT_MAX,
          ERR_USAGE, "--share %s: want I/N with I from 1 to N, as in 2/4", share);
    const int64_t first = r->count * (part - 1) / parts, last = r->count * part / parts;
    for (int64_t i = first; i < last; i++) move_prompt(r, i, i - first);
    r->count = last - first;
    return OK;
}

/* Whether the whole video is there: nothing else ever has its name. */
static bool is_there(const char *path, VideoFormat format)
{
    const FileKind kind = file_kind(path);
    FileList list = { 0 };

    if (format != VIDEO_FRAMES || kind != FILE_FOLDER) return kind == FILE_REGULAR;
    const bool full = file_list(path, &list) == OK && list.count > 0;
    file_list_destroy(&list);
    return full;
}

/* Rank 0 looks; every rank leaves out the same. */
static Status leave_out_existing(Comm *comm, Request *r)
{
    uint8_t there[PROMPTS_MAX] = { 0 };
    Status s = OK;
    int64_t left = 0;

    if (!r->options->skip_existing || r->count == 0) return OK;
    for (int64_t i = 0; i < r->count && s == OK && comm_rank(comm) == 0; i++) {
        char path[FILE_PATH_BYTES];
        s = request_path(r, i, path);
        if (s == OK) there[i] = is_there(path, r->format);
    }
    TRY(comm_agree(comm, s));
    TRY(group_broadcast(comm_world(comm), tensor_of(there, U8, SHAPE(r->count)), 0));
    for (int64_t i = 0; i < r->count; i++)
        if (!there[i]) move_prompt(r, i, left++);
    if (left < r->count)
        log_info("%s: %lld of %lld videos are there", r->options->out, (long long)(r->count - left),
                 (long long)r->count);
    r->count = left;
    return OK;
}

/* ---- sizes and places ------------------------------------------------------------------------ */

static Status check_frames(const InferOptions *o)
{
    CHECK(o->frames == 0 || o->frames % 4 == 1, ERR_USAGE,
          "--frames %lld: must be 4 k + 1, as %lld or %lld", (long long)o->frames,
          (long long)((o->frames - 1) / 4 * 4 + 1), (long long)((o->frames - 1) / 4 * 4 + 5));
    return OK;
}

static Status check_keys(const InferOptions *o)
{
    CHECK(!o->require_signature || o->keys.count > 0, ERR_USAGE,
          "--require-signature: say whose with --key PUB.pem");
    CHECK(o->require_signature || o->keys.count == 0, ERR_USAGE,
          "--key %s: is used with --require-signature only", o->keys.items[0]);
    return OK;
}

static Status check_guidance(const InferOptions *o)
{
    CHECK(o->guidance_ranks <= 1 || isnan(o->guidance) || guidance_is_on(o->guidance), ERR_USAGE,
          "--guidance-ranks %lld: at --guidance 1 there is one half only",
          (long long)o->guidance_ranks);
    return OK;
}

static Status check_skipping(const InferOptions *o)
{
    CHECK(!o->skip_existing || !(o->sheet || o->latents), ERR_USAGE,
          "--skip-existing: what is left out would be missing from %s",
          o->sheet ? "--sheet" : "--save-latents");
    return OK;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n > m && strcasecmp(text + n - m, end) == 0;
}

/* The format is what --format says, else what the name of --out says, else MP4. A picture is an
 * animated PNG of one frame, which is a PNG. */
static Status choose_format(Request *r)
{
    const InferOptions *o = r->options;
    const bool mp4 = ends_with(o->out, ".mp4"), picture = ends_with(o->out, ".png");
    const bool apng = picture || ends_with(o->out, ".apng"), file = mp4 || apng;
    const char *of_name = apng ? "apng" : "mp4";

    TRY(video_format_parse(o->format ? o->format : of_name, &r->format));
    if (picture && r->format == VIDEO_FRAMES) r->format = VIDEO_APNG;
    CHECK(!picture || o->frames == 1, ERR_USAGE,
          "--out %s: is one picture: give --frames 1, or a name ending in .mp4 or .apng", o->out);
    CHECK(!(file && o->prompts), ERR_USAGE, "--out %s: several prompts need a folder", o->out);
    CHECK(!file || r->format == (mp4 ? VIDEO_MP4 : VIDEO_APNG), ERR_USAGE,
          "--out %s and --format %s do not go together", o->out, o->format);
    r->single = file || (o->prompt && r->format == VIDEO_FRAMES);
    return OK;
}

/* The folder that `path` is to be made in must be there before hours are spent. */
static Status check_parent(const char *option, const char *path)
{
    char parent[FILE_PATH_BYTES];
    const char *name = file_name(path);
    const int n = (int)(name - path);

    CHECK(n < FILE_PATH_BYTES, ERR_IO, "%s: the path is too long", option);
    snprintf(parent, sizeof(parent), "%.*s", n > 1 ? n - 1 : n, path);
    if (n == 0) strcpy(parent, ".");
    CHECK(*name, ERR_USAGE, "%s %s: names no file", option, path);
    CHECK(file_kind(parent) == FILE_FOLDER, ERR_IO, "%s %s: there is no folder %s", option, path,
          parent);
    CHECK(access(parent, W_OK) == 0, ERR_IO, "%s: %s", parent, strerror(errno));
    return OK;
}

static Status check_folders(const Request *r)
{
    const InferOptions *o = r->options;
    char trimmed[FILE_PATH_BYTES];

    snprintf(trimmed, sizeof(trimmed), "%s", o->out);
    for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--) trimmed[n - 1] = 0;
    if (file_kind(trimmed) != FILE_FOLDER) TRY(check_parent("--out", trimmed));
    if (!r->single) {
        CHECK(file_kind(trimmed) != FILE_REGULAR, ERR_USAGE,
              "--out %s: is a file; name a folder, or a file ending in .mp4 or .apng", o->out);
        TRY(file_make_folders(trimmed));
    }
    if (o->sheet) TRY(check_parent("--sheet", o->sheet));
    return o->latents ? check_parent("--save-latents", o->latents) : OK;
}

static Status check_paths(const Request *r)
{
    for (int64_t i = 0; i < r->count; i++) {
        char path[FILE_PATH_BYTES];
        TRY(request_path(r, i, path));
        TRY(video_out_check_path(path, r->format));
    }
    return OK;
}

Status request_load(Comm *comm, const InferOptions *options, Request *out)
{
    Request r = { .options = options };
    Status s = check_frames(options);

    /* the same on every rank: the command line alone decides up to here */
    if (s == OK) s = check_keys(options);
    if (s == OK) s = check_guidance(options);
    if (s == OK) s = references_check(options);
    if (s == OK) s = check_skipping(options);
    if (s == OK) s = choose_format(&r);
    if (s == OK) s = load_prompts(comm, &r);
    if (s == OK) s = take_share(&r);
    s = comm_agree(comm, s);
    if (s == OK) s = comm_agree(comm, comm_rank(comm) == 0 ? check_folders(&r) : OK);
    if (s == OK) s = leave_out_existing(comm, &r);
    if (s == OK) s = comm_agree(comm, comm_rank(comm) == 0 ? check_paths(&r) : OK);
    if (s != OK) {
        request_destroy(&r);
        return s;
    }
    *out = r;
    return OK;
}

void request_destroy(Request *request)
{
    free(request->numbers);
    free(request->prompts);
    free(request->text);
    *request = (Request){ 0 };
}

Status request_path(const Request *request, int64_t index, char out[FILE_PATH_BYTES])
{
    const char *given = request->options->out;

    if (!request->single) {
        return video_name(given, (int64_t)request->numbers[index], request->prompts[index],
                          request->format, out);
    }
    CHECK(strlen(given) < FILE_PATH_BYTES, ERR_IO, "--out: the path is too long");
    strcpy(out, given);
    return OK;
}
