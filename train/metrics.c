#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { METRICS_BYTES_MAX = 1 << 30 };

/* Every line starts {"step":N, : that is how metrics_write writes it. */
static int64_t line_step(const char *line)
{
    static const char start[] = "{\"step\":";
    if (strncmp(line, start, sizeof start - 1) != 0) return -1;
    return strtoll(line + sizeof start - 1, NULL, 10);
}

/* Rewrites the file without the lines of steps beyond `done`, and without a torn last line. */
static Status keep_lines(const char *path, int64_t done)
{
    char *text = NULL;
    size_t length = 0, kept = 0;
    TRY(file_read(path, METRICS_BYTES_MAX, &text, &length));
    for (size_t at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        if (!end) break;
        const size_t n = (size_t)(end - (text + at)) + 1;
        const int64_t step = line_step(text + at);
        if (step >= 0 && step <= done) {
            memmove(text + kept, text + at, n);
            kept += n;
        }
        at += n;
    }
    const Status s = kept == length ? OK : file_write(path, text, kept);
    free(text);
    return s;
}

Status metrics_open(Metrics *metrics, const char *run_dir, int64_t done, int64_t steps)
{
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, run_dir, "metrics.jsonl"));
    if (file_kind(path) == FILE_REGULAR) TRY(keep_lines(path, done));
    const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0, ERR_IO, "%s: %s", path, strerror(errno));
    *metrics = (Metrics){ .fd = fd, .steps = steps, .line = json_writer(0) };
    memcpy(metrics->path, path, sizeof path);
    progress_begin(&metrics->progress, "train", "steps", steps);
    return OK;
}

/* The line, and its end, behind those that wait. */
static Status append(Metrics *metrics, const char *text, size_t length)
{
    const size_t needed = metrics->waiting_bytes + length + 1;
    if (needed > metrics->capacity) {
        char *longer = realloc(metrics->waiting, 2 * needed);
        CHECK(longer, ERR_MEMORY, "%s: no memory for a line", metrics->path);
        metrics->waiting = longer;
        metrics->capacity = 2 * needed;
    }
    memcpy(metrics->waiting + metrics->waiting_bytes, text, length);
    metrics->waiting[needed - 1] = '\n';
    metrics->waiting_bytes = needed;
    return OK;
}

static Status write_waiting(Metrics *metrics)
{
    while (metrics->waiting_bytes > 0) {
        const ssize_t n = write(metrics->fd, metrics->waiting, metrics->waiting_bytes);
        if (n < 0 && errno == EINTR) continue;
        CHECK(n > 0, ERR_IO, "%s: %s", metrics->path, n < 0 ? strerror(errno) : "wrote nothing");
        metrics->waiting_bytes -= (size_t)n;
        memmove(metrics->waiting, metrics->waiting + n, metrics->waiting_bytes);
    }
    return OK;
}

Status metrics_flush(Metrics *metrics)
{
    TRY(write_waiting(metrics));
    CHECK(fdatasync(metrics->fd) == 0, ERR_IO, "%s: %s", metrics->path, strerror(errno));
    return OK;
}

Status metrics_write(Metrics *metrics, const StepMetrics *m)
{
    char hex[40];
    (void)snprintf(hex, sizeof hex, "%a", m->loss);
    JsonWriter *w = &metrics->line;
    json_begin_object(w, NULL);
    json_write_int(w, "step", m->step);
    /* JSON has no infinities: a loss that is none is null, its hexadecimal form says which */
    if (isfinite(m->loss))
        json_write_real(w, "loss", m->loss);
    else
        json_write_null(w, "loss");
    json_write_string(w, "loss_hex", hex);
    if (isfinite(m->grad_norm))
        json_write_real(w, "grad_norm", m->grad_norm);
    else
        json_write_null(w, "grad_norm");
    json_write_real(w, "lr", m->lr);
    json_write_int(w, "clips", m->clips);
    if (m->bad_clips > 0) json_write_int(w, "bad_clips", m->bad_clips);
    json_write_int(w, "tokens", m->tokens);
    json_write_real(w, "step_s", m->step_s);
    json_write_real(w, "wait_s", m->wait_s);
    json_write_real(w, "save_s", m->save_s);
    json_write_real(w, "tokens_per_s", m->tokens_per_s);
    json_write_real(w, "mfu", m->mfu);
    if (isfinite(m->heldout)) json_write_real(w, "heldout_loss", m->heldout);
    if (m->ranks > 1) {
        json_write_int(w, "slowest_rank", m->slowest_rank);
        json_write_real(w, "slowest_s", m->slowest_s);
    }
    json_write_bool(w, "skipped", m->skipped);
    json_end_object(w);
    const char *text = NULL;
    size_t length = 0;
    TRY(json_writer_view(w, &text, &length));
    TRY(append(metrics, text, length));
    return write_waiting(metrics);
}

static const char *why_skipped(const StepMetrics *m)
{
    if (!m->skipped) return "";
    return m->clips == 0 ? ", skipped: every clip is damaged" : ", skipped: gradient not finite";
}

void metrics_show(Metrics *metrics, const StepMetrics *m)
{
    char line[192];
    (void)snprintf(line, sizeof line,
                   "loss %.4f grad_norm %.3f lr %.2e, %.0f tokens/s, mfu %.0f%%%s", m->loss,
                   m->grad_norm, m->lr, m->tokens_per_s, 100.0 * m->mfu, why_skipped(m));
    if (isfinite(m->heldout))
        log_info("step %lld: held-out loss %.4f", (long long)m->step, m->heldout);
    if (metrics->progress.terminal)
        progress_update(&metrics->progress, m->step, line);
    else
        log_info("step %lld/%lld %s, %.3f s", (long long)m->step, (long long)metrics->steps, line,
                 m->step_s);
}

void metrics_close(Metrics *metrics)
{
    if (!metrics) return;
    progress_end(&metrics->progress);
    if (metrics->path[0] && close(metrics->fd) != 0)
        log_warn("%s: %s", metrics->path, strerror(errno));
    metrics->path[0] = 0;
    free(metrics->waiting);
    metrics->waiting = NULL;
    json_writer_destroy(&metrics->line);
}
