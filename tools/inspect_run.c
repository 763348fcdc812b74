/* inspect_run: a run's folder: where training stands, and which checkpoints there are. */
#include "core/base/json.h"
#include "core/formats/model_dir.h"
#include "tools/folder_check.h"
#include "tools/inspect_parts.h"
#include "train/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS_BYTES_MAX = 1 << 30, RECENT = 20 };

/* ---- metrics.jsonl -------------------------------------------------------------------------- */

/* What the lines say so far, read from the last to the first. */
typedef struct Training {
    int64_t lines, step;
    double loss, grad_norm, lr, step_s, tokens_per_s; /* of the last line */
    double recent_sum;
    int64_t recent; /* losses in the sum */
    double heldout;
    int64_t heldout_step;
} Training;

static double real_of(const Json *line, const char *key)
{
    double value;
    if (!json_has(line, key)) return NAN; /* null: not finite */
    return json_get_real(line, "metrics.jsonl", key, -INFINITY, INFINITY, &value) == OK ? value
                                                                                        : NAN;
}

/* A line that cannot be read, such as one torn by a crash, is passed over. */
static void add_line(Training *t, const char *text, size_t length)
{
    const JsonLimits limits = json_limits();
    Json *line = NULL;
    int64_t step;
    if (json_parse(text, length, "metrics.jsonl", &limits, &line) != OK) return;
    if (json_get_int(line, "metrics.jsonl", "step", 0, INT64_MAX, &step) == OK) {
        if (t->lines++ == 0) {
            t->step = step;
            t->loss = real_of(line, "loss");
            t->grad_norm = real_of(line, "grad_norm");
            t->lr = real_of(line, "lr");
            t->step_s = real_of(line, "step_s");
            t->tokens_per_s = real_of(line, "tokens_per_s");
        }
        const double loss = real_of(line, "loss"), heldout = real_of(line, "heldout_loss");
        if (t->lines <= RECENT && isfinite(loss)) {
            t->recent_sum += loss;
            t->recent++;
        }
        if (isfinite(heldout) && !isfinite(t->heldout)) {
            t->heldout = heldout;
            t->heldout_step = step;
        }
    }
    json_free(line);
}

/* From the end, until the last lines and a held-out loss are found. */
static void read_lines(Training *t, const char *text, size_t length)
{
    size_t end = length;
    while (end > 0 && (t->lines < RECENT || !isfinite(t->heldout))) {
        size_t start = end - 1;
        while (start > 0 && text[start - 1] != '\n') start--;
        add_line(t, text + start, end - start);
        end = start;
    }
}

static Status show_training(Report *report, const char *run)
{
    Training t = { .heldout = NAN };
    char path[FILE_PATH_BYTES], *text = NULL;
    size_t length = 0;
    TRY(file_join(path, run, "metrics.jsonl"));
    if (file_kind(path) == FILE_ABSENT) return OK;
    TRY(file_read(path, METRICS_BYTES_MAX, &text, &length));
    read_lines(&t, text, length);
    free(text);
    if (t.lines == 0) return OK;
    report_section(report, "training");
    report_int(report, "step", t.step);
    report_real(report, "loss", t.loss);
    report_real(report, "loss_of_last_20", t.recent > 0 ? t.recent_sum / (double)t.recent : NAN);
    report_real(report, "grad_norm", t.grad_norm);
    report_real(report, "lr", t.lr);
    report_real(report, "step_s", t.step_s);
    report_real(report, "tokens_per_s", t.tokens_per_s);
    if (isfinite(t.heldout)) {
        report_real(report, "heldout_loss", t.heldout);
        report_int(report, "heldout_step", t.heldout_step);
    }
    report_section_end(report);
    return OK;
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

typedef struct Steps {
    int64_t *steps;      /* owned; newest first */
    FolderCheck *checks; /* owned */
    int64_t count;
} Steps;

static Status check_steps(const char *run, bool quick, Steps *s)
{
    Status status = OK;
    ByteProgress progress;
    char path[FILE_PATH_BYTES];
    int64_t bytes = 0;
    TRY(model_dir_steps(run, &s->steps, &s->count));
    s->checks = calloc((size_t)s->count + 1, sizeof *s->checks);
    CHECK(s->checks, ERR_MEMORY, "%s: no memory for %lld checkpoints", run, (long long)s->count);
    for (int64_t i = 0; i < s->count; i++) {
        TRY(model_dir_step_path(run, s->steps[i], "", path));
        bytes += folder_check_bytes(path);
    }
    byte_progress_begin(&progress, "verify", bytes);
    const FolderCheckOptions options = { .quick = quick, .progress = &progress };
    for (int64_t i = 0; i < s->count && status == OK; i++) {
        status = model_dir_step_path(run, s->steps[i], "", path);
        if (status == OK) status = folder_check(path, options, &s->checks[i]);
    }
    byte_progress_end(&progress);
    return status;
}

static Status show_steps(Report *report, const char *run, const Steps *s, bool quick)
{
    char path[FILE_PATH_BYTES];
    report_table(report, "checkpoints", 0);
    for (int64_t i = 0; i < s->count; i++) {
        const FolderCheck *check = &s->checks[i];
        CheckpointProgress progress = { 0 };
        TRY(model_dir_step_path(run, s->steps[i], "", path));
        (void)checkpoint_read_progress(path, &progress); /* what is wrong with it is in the check */
        report_row(report, file_name(path));
        report_int(report, "samples", progress.samples);
        report_int(report, "files", check->files);
        report_bytes(report, "size_bytes", check->bytes);
        report_bool(report, quick ? "sizes_fit" : "verifies", check->problems == 0);
        report_string(report, "problem", check->problems > 0 ? check->first : NULL);
        report_row_end(report);
    }
    report_table_end(report);
    return OK;
}

/* The model of the newest checkpoint that can be used. */
static Status show_newest(Report *report, const char *run, const Steps *s, bool digest)
{
    char path[FILE_PATH_BYTES];
    int64_t i = 0;
    while (i < s->count && s->checks[i].problems > 0) i++;
    if (i == s->count) return OK;
    TRY(model_dir_step_path(run, s->steps[i], "", path));
    report_section(report, "newest");
    report_string(report, "path", path);
    inspect_progress(report, path);
    const Status status = inspect_components(report, path, digest);
    report_section_end(report);
    return status;
}

Status inspect_run(Report *report, const char *path, const InspectOptions *options)
{
    Status s = OK;
    Steps steps = { 0 };
    DiskFiles files = { 0 };
    TRY(disk_list(path, &files));
    report_bytes(report, "size_bytes", files.bytes);
    disk_destroy(&files);
    TRY_TO(done, s, check_steps(path, options->quick, &steps));
    report_int(report, "checkpoint_count", steps.count);
    TRY_TO(done, s, show_training(report, path));
    TRY_TO(done, s, show_steps(report, path, &steps, options->quick));
    s = show_newest(report, path, &steps, options->digest);
done:
    free(steps.checks);
    free(steps.steps);
    return s;
}
