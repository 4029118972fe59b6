// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A sign of life while a request takes long, so that the host can tell an
 * operation that is slow from a guest that hangs. A thread and not a signal's
 * handler: no signal reaches a request that sleeps uninterruptibly in the
 * kernel, and that is a request that doesn't end, not a guest that does.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "heartbeat.h"
#include "protocol.h"

#define INTERVAL 1

/* Seconds since boot, 0 while there is nothing to do. */
static atomic_long busy_since;

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + 1;
}

static void *beat(void *data)
{
	int port = *(int *)data;

	for (;;) {
		struct timespec interval = { .tv_sec = INTERVAL };
		struct buffer line = { 0 };
		long since;

		nanosleep(&interval, NULL);
		since = atomic_load(&busy_since);
		if (!since || now() - since < INTERVAL)
			continue;
		buffer_print(&line, "{\"busy\": %ld}", now() - since);
		protocol_announce(port, &line);
		buffer_free(&line);
	}
	return NULL;
}

int heartbeat_start(int port)
{
	static int where;
	pthread_t thread;

	where = port;
	return pthread_create(&thread, NULL, beat, &where);
}

void heartbeat_busy(void)
{
	atomic_store(&busy_since, now());
}

void heartbeat_idle(void)
{
	atomic_store(&busy_since, 0);
}
