/* inspect_model: a model directory or a checkpoint. */
#include "core/formats/model_dir.h"
#include "tools/folder_check.h"
#include "tools/inspect_parts.h"
#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PARTS = 64 };

/* One set of tensors of the directory. */
typedef struct Part {
    char name[600]; /* "transformer", "optimizer/exp_avg" */
    TensorTable table;
    char problem[512]; /* why it could not be opened; empty: it could */
    Digest digest;
} Part;

typedef struct Parts {
    Part items[MAX_PARTS]; /* sorted by name */
    int64_t count, bytes;
} Parts;

/* ---- sizes ---------------------------------------------------------------------------------- */

static void show_transformer(Report *report, const DitConfig *dit)
{
    report_section(report, "transformer");
    report_int(report, "layers", dit->num_layers);
    report_int(report, "width", dit_width(dit));
    report_int(report, "heads", dit->num_attention_heads);
    report_int(report, "head_dim", dit->attention_head_dim);
    report_int(report, "ffn_dim", dit->ffn_dim);
    report_int(report, "text_dim", dit->text_dim);
    report_int(report, "latent_channels", dit->in_channels);
    report_shape(report, "patch", dit->patch_size, 3);
    report_section_end(report);
}

static void show_text_encoder(Report *report, const TextConfig *text)
{
    report_section(report, "text_encoder");
    report_int(report, "layers", text->num_layers);
    report_int(report, "width", text->d_model);
    report_int(report, "heads", text->num_heads);
    report_int(report, "head_dim", text->d_kv);
    report_int(report, "ffn_dim", text->d_ff);
    report_int(report, "vocabulary", text->vocab_size);
    report_int(report, "text_rows", text->max_length);
    report_section_end(report);
}

/* A model that this program cannot run still has tensors to show. */
static void show_config(Report *report, const char *path)
{
    ModelDir model;
    if (model_dir_read(path, &model) != OK) {
        report_string(report, "problem", status_message());
        return;
    }
    report_real(report, "flow_shift", model.shift);
    report_string(report, "solver", solver_name(model.solver));
    report_string(report, "schedule", sigmas_name(model.sigmas));
    show_transformer(report, &model.config.dit);
    if (model.config.text.num_layers > 0) show_text_encoder(report, &model.config.text);
}

/* ---- components ----------------------------------------------------------------------------- */

static Status add_part(Parts *parts, const char *folder, const char *subfolder, const char *base,
                       bool only)
{
    CHECK(parts->count < MAX_PARTS, ERR_FORMAT, "%s: holds more than %d sets of tensors", folder,
          MAX_PARTS);
    Part *part = &parts->items[parts->count++];
    (void)snprintf(part->name, sizeof part->name, "%s%s%s", subfolder, only ? "" : "/",
                   only ? "" : base);
    if (tensor_table_open(folder, base, &part->table) != OK)
        (void)snprintf(part->problem, sizeof part->problem, "%s", status_message());
    parts->bytes += part->table.bytes;
    return OK;
}

static Status add_folder(Parts *parts, const char *path, const char *subfolder)
{
    Status s = OK;
    char folder[FILE_PATH_BYTES];
    FileList bases = { 0 };
    TRY(file_join(folder, path, subfolder));
    if (file_kind(folder) != FILE_FOLDER) return OK;
    TRY(tensor_sets(folder, &bases));
    for (int64_t i = 0; i < bases.count && s == OK; i++)
        s = add_part(parts, folder, subfolder, bases.names[i], bases.count == 1);
    file_list_destroy(&bases);
    return s;
}

static void close_parts(Parts *parts)
{
    for (int64_t i = 0; i < parts->count; i++) tensor_table_close(&parts->items[i].table);
}

static Status open_parts(const char *path, Parts *parts)
{
    Status s = OK;
    FileList list = { 0 };
    TRY(file_list(path, &list));
    for (int64_t i = 0; i < list.count && s == OK; i++) s = add_folder(parts, path, list.names[i]);
    file_list_destroy(&list);
    return s;
}

/* What a model is: not its averages, not its optimizer's moments, not its codec. */
static bool is_weights(const Part *part)
{
    for (int c = 0; c < COMPONENT_COUNT; c++)
        if (strcmp(part->name, component_folder((Component)c)) == 0) return true;
    return false;
}

static Status digest_parts(Parts *parts)
{
    Status s = OK;
    ByteProgress progress;
    byte_progress_begin(&progress, "read", parts->bytes);
    for (int64_t i = 0; i < parts->count && s == OK; i++) {
        Part *part = &parts->items[i];
        if (part->problem[0])
            s = status_fail(ERR_FORMAT, "%s", part->problem);
        else
            s = tensor_table_digest(&part->table, &progress, NULL, &part->digest);
    }
    byte_progress_end(&progress);
    return s;
}

/* SHA-256 of "name 0 digest 0" of the parts. */
static Status show_digest(Report *report, const char *key, const Parts *parts, bool weights_only)
{
    DigestStream *stream = NULL;
    Digest digest;
    char hex[DIGEST_HEX];
    TRY(digest_stream_create(&stream));
    for (int64_t i = 0; i < parts->count; i++) {
        const Part *part = &parts->items[i];
        if (weights_only && !is_weights(part)) continue;
        digest_hex(&part->digest, hex);
        digest_stream_update(stream, part->name, strlen(part->name) + 1);
        digest_stream_update(stream, hex, DIGEST_HEX);
    }
    digest_stream_finish(stream, &digest);
    digest_stream_destroy(stream);
    digest_hex(&digest, hex);
    report_string(report, key, hex);
    return OK;
}

static void show_parts(Report *report, const Parts *parts, bool digest)
{
    char hex[DIGEST_HEX];
    report_table(report, "components", 0);
    for (int64_t i = 0; i < parts->count; i++) {
        const Part *part = &parts->items[i];
        report_row(report, part->name);
        report_int(report, "tensors", part->table.count);
        report_int(report, "parameters", part->table.elements);
        report_string(report, "dtype", tensor_table_dtype(&part->table));
        report_int(report, "files", part->table.set.count);
        report_bytes(report, "size_bytes", part->table.bytes);
        digest_hex(&part->digest, hex);
        if (digest) report_string(report, "digest", hex);
        report_row_end(report);
    }
    report_table_end(report);
}

static void show_unreadable(Report *report, const Parts *parts)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < parts->count; i++) bad += parts->items[i].problem[0] != 0;
    if (bad == 0) return;
    report_table(report, "unreadable", 0);
    for (int64_t i = 0; i < parts->count; i++) {
        if (!parts->items[i].problem[0]) continue;
        report_row(report, parts->items[i].name);
        report_string(report, "problem", parts->items[i].problem);
        report_row_end(report);
    }
    report_table_end(report);
}

static Status show_components(Report *report, const char *path, const Parts *parts, bool digest)
{
    int64_t parameters = 0;
    bool ema = false;
    for (int64_t i = 0; i < parts->count; i++) {
        if (is_weights(&parts->items[i])) parameters += parts->items[i].table.elements;
        ema |= strcmp(parts->items[i].name, "transformer_ema") == 0;
    }
    report_int(report, "parameters", parameters);
    report_bool(report, "ema", ema);
    if (digest) {
        TRY(show_digest(report, "weights_digest", parts, true));
        TRY(show_digest(report, "digest", parts, false));
    }
    show_config(report, path);
    show_parts(report, parts, digest);
    show_unreadable(report, parts);
    return OK;
}

Status inspect_components(Report *report, const char *path, bool digest)
{
    Parts parts = { 0 };
    Status s = open_parts(path, &parts);
    if (s == OK && digest) s = digest_parts(&parts);
    if (s == OK) s = show_components(report, path, &parts, digest);
    close_parts(&parts);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------ */

void inspect_progress(Report *report, const char *path)
{
    CheckpointProgress progress;
    char seed[32], file[FILE_PATH_BYTES];
    if (file_join(file, path, "state.json") != OK || file_kind(file) == FILE_ABSENT) return;
    if (checkpoint_read_progress(path, &progress) != OK) {
        report_string(report, "state_problem", status_message());
        return;
    }
    report_int(report, "step", progress.step);
    report_int(report, "samples", progress.samples);
    /* text: JSON readers keep numbers as doubles */
    (void)snprintf(seed, sizeof seed, "%" PRIu64, progress.seed);
    report_string(report, "seed", seed);
    report_string(report, "config_sha256", progress.config_digest);
}

/* Against manifest.json; a model from elsewhere has none. */
static Status show_check(Report *report, const char *path, bool quick)
{
    FolderCheck check;
    ByteProgress progress;
    char file[FILE_PATH_BYTES], root[DIGEST_HEX];
    TRY(file_join(file, path, "manifest.json"));
    if (file_kind(file) == FILE_ABSENT) return OK;
    byte_progress_begin(&progress, "verify", folder_check_bytes(path));
    const Status s =
        folder_check(path, (FolderCheckOptions){ .quick = quick, .progress = &progress }, &check);
    byte_progress_end(&progress);
    TRY(s);
    digest_hex(&check.root, root);
    report_string(report, "manifest_root", root);
    report_bool(report, quick ? "sizes_fit" : "verifies", check.problems == 0);
    if (check.problems > 0) {
        report_int(report, "damages", check.problems);
        report_string(report, "first_damage", check.first);
    }
    return OK;
}

static void show_files(Report *report, const DiskFiles *files)
{
    report_table(report, "files", 40);
    for (int64_t i = 0; i < files->count; i++) {
        report_row(report, files->items[i].name);
        report_bytes(report, "size_bytes", files->items[i].bytes);
        report_row_end(report);
    }
    report_table_end(report);
}

Status inspect_model(Report *report, const char *path, const InspectOptions *options)
{
    DiskFiles files = { 0 };
    inspect_progress(report, path);
    TRY(show_check(report, path, options->quick));
    TRY(disk_list(path, &files));
    report_bytes(report, "size_bytes", files.bytes);
    const Status s = inspect_components(report, path, options->digest);
    if (s == OK) show_files(report, &files);
    disk_destroy(&files);
    return s;
}
