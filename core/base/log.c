#include "core/base/log.h"

#include "core/base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One process writes one log: its rank, whether a bar stands on the terminal's last line, whether
 * its failure was told. */
static struct {
    int rank, size;
    bool quiet, failure_told;
    atomic_bool bar_shown; /* threads log too */
} state = { .size = 1 };

void log_set_rank(int rank, int size)
{
    state.rank = rank;
    state.size = size;
}

void log_set_quiet(bool quiet)
{
    state.quiet = quiet;
}

/* One write a line, so that lines of several ranks do not interleave. */
__attribute__((format(printf, 2, 0))) static void write_line(const char *prefix, const char *format,
                                                             va_list args)
{
    char line[2048];
    const char *clear = state.bar_shown ? "\r\033[K" : "";
    int n = snprintf(line, sizeof line - 1, "%s%s", clear, prefix);
    if (n < 0) return;
    const int m = vsnprintf(line + n, sizeof line - 1 - (size_t)n, format, args);
    if (m < 0) return;
    n = (int)strlen(line);
    line[n++] = '\n';
    state.bar_shown = false;
    (void)!write(STDERR_FILENO, line, (size_t)n);
}

void log_info(const char *format, ...)
{
    if (state.rank != 0 || state.quiet) return;
    va_list args;
    va_start(args, format);
    write_line("", format, args);
    va_end(args);
}

void log_warn(const char *format, ...)
{
    if (state.rank != 0) return;
    va_list args;
    va_start(args, format);
    write_line("warning: ", format, args);
    va_end(args);
}

void log_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line("zoetrope: ", format, args);
    va_end(args);
}

void log_failure(Status status)
{
    if (status == OK || state.rank != 0 || state.failure_told) return;
    state.failure_told = true;
    log_error("%s", status_message());
}

void progress_begin(Progress *progress, const char *what, const char *unit, int64_t total)
{
    *progress = (Progress){ .what = what,
                            .unit = unit,
                            .total = total,
                            .start_s = clock_seconds(),
                            .terminal = isatty(STDERR_FILENO) == 1 };
    progress->shown_s = progress->start_s;
}

static void format_duration(char out[32], double seconds)
{
    const long s = (long)(seconds + 0.5);
    if (s >= 3600)
        (void)snprintf(out, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        (void)snprintf(out, 32, "%ldm%02lds", s / 60, s % 60);
}

void progress_update(Progress *progress, int64_t done, const char *note)
{
    progress->done = done;
    if (state.rank != 0 || state.quiet) return;
    /* ten pictures a second on a terminal, a line every ten seconds in a file */
    const double now = clock_seconds();
    const double interval = progress->terminal ? 0.1 : 10.0;
    if (now - progress->shown_s < interval && done < progress->total) return;
    if (!progress->terminal && now - progress->start_s < 2.0) return;
    progress->shown_s = now;

    const double elapsed = now - progress->start_s;
    const double share = progress->total > 0 ? (double)done / (double)progress->total : 1.0;
    char eta[32] = "?", line[512], bar[25];
    if (done > 0) format_duration(eta, elapsed * (1.0 - share) / share);
    for (int i = 0; i < 24; i++) bar[i] = (double)i < share * 24.0 ? '#' : '.';
    bar[24] = 0;
    const int n = snprintf(line, sizeof line, "%s%s [%s] %lld/%lld %s, %.1f/s, eta %s%s%s%s",
                           progress->terminal ? "\r\033[K" : "", progress->what, bar,
                           (long long)done, (long long)progress->total, progress->unit,
                           elapsed > 0 ? (double)done / elapsed : 0.0, eta, note ? ", " : "",
                           note ? note : "", progress->terminal ? "" : "\n");
    if (n <= 0) return;
    state.bar_shown = progress->terminal;
    const size_t length = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    (void)!write(STDERR_FILENO, line, length);
}

void progress_end(Progress *progress)
{
    (void)progress;
    if (!state.bar_shown) return;
    state.bar_shown = false;
    (void)!write(STDERR_FILENO, "\n", 1);
}
