/* clock: monotonic seconds for measuring, and wall time for records. */
#ifndef ZT_CORE_BASE_CLOCK_H
#define ZT_CORE_BASE_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

/* Monotonic seconds since an arbitrary start. */
double clock_seconds(void);
/* Seconds since this process began, by the system's own clock of 10 ms; 0 where it does not say. */
double clock_process_age(void);
/* Wall time as "2026-11-24T02:40:59Z". */
void clock_utc(char out[24]);

#ifdef __cplusplus
}
#endif
#endif
