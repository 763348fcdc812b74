#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>

/* One message a thread: errors travel up one call stack, and stacks belong to threads. */
static _Thread_local char message[1024];

const char *status_message(void)
{
    return message;
}

Status status_fail(Status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    /* a message is one line, whatever a file name or a caption inside it holds */
    for (char *c = message; *c; c++) {
        /* U+0080 to U+009F, which some terminals obey too: 0xc2 and the number itself */
        const unsigned char first = (unsigned char)c[0], second = (unsigned char)c[1];
        if (first == 0xc2 && second >= 0x80 && second < 0xa0) c[0] = c[1] = '?';
        if (first < 0x20 || first == 0x7f) *c = '?';
    }
    return code;
}

void status_keep(KeptStatus *kept, Status status)
{
    if (kept->status != OK || status == OK) return;
    kept->status = status;
    (void)snprintf(kept->message, sizeof kept->message, "%s", message);
}

Status status_kept(const KeptStatus *kept)
{
    return kept->status == OK ? OK : status_fail(kept->status, "%s", kept->message);
}

int status_exit_code(Status status)
{
    switch (status) {
    case OK: return 0;
    case ERR_USAGE:
    case ERR_CONFIG: return 2;
    case ERR_FORMAT:
    case ERR_IO: return 3;
    case ERR_MEMORY:
    case ERR_DEVICE:
    case ERR_COMM:
    case ERR_DIVERGED: return 4;
    case ERR_STOPPED: return 75;
    }
    return 4;
}
