#include "core/base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double clock_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* proc(5): field 22 of /proc/self/stat, in ticks since the machine began. The name before it stands
 * in brackets and may have any of its own. */
static double process_start(void)
{
    char line[1024] = "";
    unsigned long long ticks = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) return -1.0;
    const bool read = fgets(line, sizeof line, file) != NULL;
    (void)fclose(file);
    const char *field = read ? strrchr(line, ')') : NULL;
    for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
    if (!field || sscanf(field, "%llu", &ticks) != 1) return -1.0;
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

double clock_process_age(void)
{
    const double start = process_start();
    struct timespec t;
    if (start < 0 || clock_gettime(CLOCK_BOOTTIME, &t) != 0) return 0.0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - start;
}

void clock_utc(char out[24])
{
    const time_t now = time(NULL);
    struct tm tm;
    (void)gmtime_r(&now, &tm);
    (void)strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
