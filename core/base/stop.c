#include "core/base/stop.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* A signal handler reaches nothing but a file-level variable. */
static volatile sig_atomic_t requested;

static void on_signal(int number)
{
    (void)number;
    requested = 1;
}

static sigset_t stop_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGUSR1);
    return set;
}

/* The kernel lays a handler's frame below the stack pointer of the thread that it interrupts.
 * Generated matrix kernels (oneDNN) keep numbers further below it than the 128 bytes that are
 * promised, and come back with other ones: so a thread that computes nothing takes the signals. */
static void *take_signals(void *unused)
{
    const sigset_t set = stop_signals();
    (void)unused;
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;) (void)pause();
    return NULL;
}

void stop_install(void)
{
    const sigset_t set = stop_signals();
    struct sigaction action;
    pthread_t thread;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    (void)sigemptyset(&action.sa_mask);
    const int signals[] = { SIGTERM, SIGINT, SIGUSR1 };
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaction(signals[i], &action, NULL);
    /* threads made from here on inherit the mask */
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(&thread, NULL, take_signals, NULL) == 0)
        (void)pthread_detach(thread);
    else
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* a rare fault is better than no stop */
}

bool stop_requested(void)
{
    return requested != 0;
}

Status stop_check(const char *doing)
{
    CHECK(!stop_requested(), ERR_STOPPED,
          "stopped by a signal while %s; run the same command to go on", doing);
    return OK;
}
