/*
 * status: how every function of zoetrope reports failure.
 *
 * A function that can fail returns a Status. The one that decides what went wrong sets the message,
 * once, with the exact cause and the values; callers above only pass the code on. The message
 * belongs to the calling thread and stays until the next failure in that thread.
 */
#ifndef ZT_CORE_BASE_STATUS_H
#define ZT_CORE_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum Status {
    OK = 0,
    ERR_USAGE,    /* the command line or a request; exit code 2 */
    ERR_CONFIG,   /* the configuration, or a mesh that cannot be; exit code 2 */
    ERR_FORMAT,   /* an input file is not what it should be; exit code 3 */
    ERR_IO,       /* the file system refused; exit code 3 */
    ERR_MEMORY,   /* memory could not be had; exit code 4 */
    ERR_DEVICE,   /* a device or a library under it failed; exit code 4 */
    ERR_COMM,     /* a rank or a message was lost; exit code 4 */
    ERR_DIVERGED, /* a run's numbers are not finite and do not recover; exit code 4 */
    ERR_STOPPED,  /* a signal or the time limit; what is committed is whole; exit code 75 */
} Status;

/* The last message of this thread, one line, never NULL. */
const char *status_message(void);

/* Sets this thread's message and returns `code`: for `return status_fail(...)`. */
Status status_fail(Status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A failure that is told later, or on another thread, than it happened. */
typedef struct KeptStatus {
    Status status;
    char message[1024];
} KeptStatus;

/* Keeps a failure with this thread's message; the first one stays. Zero is a good start. */
void status_keep(KeptStatus *kept, Status status);
/* The failure again, its message this thread's; OK when there was none. */
Status status_kept(const KeptStatus *kept);

/* The process exit code that belongs to a status: 0, 2, 3, 4 or 75. */
int status_exit_code(Status status);

/* Pass an error on to the caller. */
#define TRY(expression)                            \
    do {                                           \
        const Status try_status_ = (expression);   \
        if (try_status_ != OK) return try_status_; \
    } while (0)

/* Pass an error on by way of the function's one exit. */
#define TRY_TO(label, status, expression) \
    do {                                  \
        (status) = (expression);          \
        if ((status) != OK) goto label;   \
    } while (0)

/* Check what the world (not a bug) can break: CHECK(fd >= 0, ERR_IO, "%s: %s", path, why). */
#define CHECK(condition, code, ...)                                                  \
    do {                                                                             \
        if (!(condition)) {                                                          \
            (void)status_fail((code), __VA_ARGS__);                                  \
            return (code); /* not the call: the compiler sees that this is not OK */ \
        }                                                                            \
    } while (0)

#define CHECK_TO(label, status, condition, code, ...)    \
    do {                                                 \
        if (!(condition)) {                              \
            (status) = status_fail((code), __VA_ARGS__); \
            goto label;                                  \
        }                                                \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
