#include "core/base/ring.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct Ring {
    char *memory; /* view */
    size_t size;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    /* below: guarded by lock */
    uint64_t written, read; /* bytes since the start: written - read are in it */
    bool closed;
};

Status ring_create(void *memory, size_t size, Ring **out)
{
    Ring *ring = calloc(1, sizeof *ring);
    CHECK(ring, ERR_MEMORY, "no memory for a buffer's state");
    ring->memory = memory;
    ring->size = size;
    pthread_mutex_init(&ring->lock, NULL);
    pthread_cond_init(&ring->moved, NULL);
    *out = ring;
    return OK;
}

void ring_destroy(Ring *ring)
{
    if (!ring) return;
    pthread_cond_destroy(&ring->moved);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A place where `wanted` bytes or fewer can go in one piece; 0: closed. */
static size_t wait_for_room(Ring *ring, size_t wanted, char **out)
{
    pthread_mutex_lock(&ring->lock);
    while (!ring->closed && ring->written - ring->read == ring->size)
        pthread_cond_wait(&ring->moved, &ring->lock);
    const size_t place = (size_t)(ring->written % ring->size);
    const size_t room = ring->size - (size_t)(ring->written - ring->read);
    const size_t length = ring->closed ? 0 : smaller(smaller(wanted, room), ring->size - place);
    pthread_mutex_unlock(&ring->lock);
    *out = ring->memory + place;
    return length;
}

static void move(Ring *ring, uint64_t *counter, size_t length)
{
    pthread_mutex_lock(&ring->lock);
    *counter += length;
    pthread_cond_signal(&ring->moved);
    pthread_mutex_unlock(&ring->lock);
}

void ring_write(Ring *ring, const void *bytes, size_t length)
{
    /* in steps, so that the reader begins before the last byte is in */
    enum { STEP = 4 << 20 };
    const char *from = bytes;
    while (length > 0) {
        char *to;
        const size_t n = wait_for_room(ring, smaller(length, STEP), &to);
        if (n == 0) return;
        memcpy(to, from, n);
        move(ring, &ring->written, n);
        from += n;
        length -= n;
    }
}

size_t ring_read(Ring *ring, size_t wanted, const void **bytes)
{
    pthread_mutex_lock(&ring->lock);
    const size_t place = (size_t)(ring->read % ring->size);
    const size_t length = smaller(wanted, ring->size - place);
    while (!ring->closed && ring->written - ring->read < length)
        pthread_cond_wait(&ring->moved, &ring->lock);
    const bool closed = ring->closed;
    pthread_mutex_unlock(&ring->lock);
    *bytes = ring->memory + place;
    return closed ? 0 : length;
}

void ring_release(Ring *ring, size_t length)
{
    move(ring, &ring->read, length);
}

void ring_close(Ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->closed = true;
    pthread_cond_broadcast(&ring->moved);
    pthread_mutex_unlock(&ring->lock);
}
