#include "train/stop.h"

#include <signal.h>
#include <string.h>

/* A signal handler reaches nothing but a file-level variable. */
static volatile sig_atomic_t requested;

static void on_signal(int number)
{
    (void)number;
    requested = 1;
}

void stop_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    (void)sigemptyset(&action.sa_mask);
    const int signals[] = { SIGTERM, SIGINT, SIGUSR1 };
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaction(signals[i], &action, NULL);
}

bool stop_requested(void)
{
    return requested != 0;
}
