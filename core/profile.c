#include "core/profile.h"

#include "core/base/clock.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

Status profile_create(int64_t events, Profile *out)
{
    Profile p = { .event_most = events, .thread = pthread_self() };
    if (events > 0) {
        p.events = calloc((size_t)events, sizeof *p.events);
        CHECK(p.events, ERR_MEMORY, "no memory for a timeline of %lld events", (long long)events);
    }
    *out = p;
    profile_restart(out);
    return OK;
}

void profile_destroy(Profile *profile)
{
    if (!profile) return;
    free(profile->events);
    *profile = (Profile){ 0 };
}

void profile_restart(Profile *profile)
{
    profile->count = 0;
    profile->event_count = 0;
    profile->since = clock_seconds();
}

static bool is_ours(const Profile *profile)
{
    return profile && !profile->paused && pthread_equal(profile->thread, pthread_self());
}

void profile_begin(Profile *profile)
{
    if (is_ours(profile)) profile->start = clock_seconds();
}

/* Names are literals: the same one is the same pointer within a file, and another row costs little
 */
static ProfileRow *row_of(Profile *p, const char *name)
{
    for (int i = 0; i < p->count; i++)
        if (p->rows[i].name == name || strcmp(p->rows[i].name, name) == 0) return &p->rows[i];
    if (p->count == PROFILE_ROWS) return NULL;
    p->rows[p->count] = (ProfileRow){ .name = name };
    return &p->rows[p->count++];
}

void profile_add(Profile *p, const char *lane, const char *name, double start, double end)
{
    if (!p || p->paused || p->event_count >= p->event_most) return;
    p->events[p->event_count++] = (ProfileEvent){ name, lane, start, end };
}

void profile_end(Profile *p, const char *lane, const char *name, double flops, double bytes)
{
    if (!is_ours(p)) return;
    const double end = clock_seconds();
    ProfileRow *row = row_of(p, name);
    profile_add(p, lane, name, p->start, end);
    if (!row) return;
    row->calls++;
    row->seconds += end - p->start;
    row->flops += flops;
    row->bytes += bytes;
}

static int slower_first(const void *a, const void *b)
{
    const ProfileRow *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

/* A rate and its share of the limit, or dashes. */
static void print_rate(double amount, double seconds, double limit, const char *unit, FILE *stream)
{
    const double rate = seconds > 0 ? amount / seconds * 1e-9 : 0;
    if (amount > 0 && limit > 0)
        (void)fprintf(stream, " %9.1f %-7s %5.0f%%", rate, unit, 100 * rate / limit);
    else
        (void)fprintf(stream, " %9s %-7s %6s", "-", "", "-");
}

void profile_print(const Profile *profile, int64_t steps, double seconds, ProfileLimits limits,
                   FILE *stream)
{
    ProfileRow rows[PROFILE_ROWS];
    double counted = 0;
    if (steps <= 0) return;
    memcpy(rows, profile->rows, sizeof rows);
    qsort(rows, (size_t)profile->count, sizeof *rows, slower_first);
    (void)fprintf(stream, "%-28s %8s %10s %6s %9s %7s %6s\n", "of a step", "calls", "ms", "share",
                  "rate", "", "limit");
    for (int i = 0; i < profile->count; i++) {
        const ProfileRow *r = &rows[i];
        counted += r->seconds;
        (void)fprintf(stream, "%-28s %8.1f %10.3f %5.1f%%", r->name,
                      (double)r->calls / (double)steps, 1e3 * r->seconds / (double)steps,
                      100 * r->seconds / seconds);
        if (r->flops > 0)
            print_rate(r->flops, r->seconds, limits.gflops, "GFLOP/s", stream);
        else
            print_rate(r->bytes, r->seconds, limits.gbytes, "GB/s", stream);
        (void)fputc('\n', stream);
    }
    (void)fprintf(stream, "%-28s %8s %10.3f %5.1f%%\n", "everything else", "",
                  1e3 * (seconds - counted) / (double)steps, 100 * (seconds - counted) / seconds);
    (void)fprintf(stream, "%-28s %8lld %10.3f        limits: %.0f GFLOP/s, %.1f GB/s\n", "steps",
                  (long long)steps, 1e3 * seconds / (double)steps, limits.gflops, limits.gbytes);
}

static const char *const lanes[] = { "ops", "messages", "pipeline" };
enum { LANES = sizeof lanes / sizeof lanes[0] };

static int lane_of(const ProfileEvent *e)
{
    for (int i = 0; i < LANES; i++)
        if (strcmp(lanes[i], e->lane) == 0) return i;
    return LANES;
}

Status profile_events(const Profile *profile, int rank, char **out, size_t *length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, length);
    CHECK(stream, ERR_MEMORY, "no memory for a timeline");
    for (int i = 0; i < LANES; i++)
        (void)fprintf(stream,
                      "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,"
                      "\"args\":{\"name\":\"%s\"}},\n",
                      rank, i, lanes[i]);
    for (int64_t i = 0; i < profile->event_count; i++) {
        const ProfileEvent *e = &profile->events[i];
        (void)fprintf(stream,
                      "{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,"
                      "\"ts\":%.3f,\"dur\":%.3f},\n",
                      e->name, e->lane, rank, lane_of(e), 1e6 * (e->start - profile->since),
                      1e6 * (e->end - e->start));
    }
    const bool whole = fflush(stream) == 0 && !ferror(stream);
    (void)fclose(stream);
    if (!whole) free(text);
    CHECK(whole, ERR_MEMORY, "no memory for a timeline");
    *out = text;
    return OK;
}
