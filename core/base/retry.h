/*
 * retry: a system call that a signal interrupted is made again.
 *
 * But not for ever: a file system that answers EINTR to everything is an error like any other.
 */
#ifndef ZT_CORE_BASE_RETRY_H
#define ZT_CORE_BASE_RETRY_H

#include <errno.h>

enum { RETRY_LIMIT = 100 };

/* result = call, again while it is -1 with EINTR. */
#define RETRY(result, call)                                                 \
    do {                                                                    \
        int tries_ = 0;                                                     \
        do {                                                                \
            (result) = (call);                                              \
        } while ((result) < 0 && errno == EINTR && ++tries_ < RETRY_LIMIT); \
    } while (0)

#endif
