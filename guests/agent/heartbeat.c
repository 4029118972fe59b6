// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A sign of life while a request takes long, so that the host can tell an
 * operation that is slow from a guest that hangs. A thread and not a signal's
 * handler: no signal reaches a request that sleeps uninterruptibly in the
 * kernel, and that is a request that doesn't end, not a guest that does.
 *
 * The same thread sees to it that nobody's machine is kept busy for a host that
 * has gone: it may have closed its side, or be silent for longer than agreed,
 * as when its network is cut, which no end of file tells.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "heartbeat.h"
#include "init.h"
#include "options.h"
#include "protocol.h"

#define INTERVAL 1

/* Seconds since boot, 0 while there is nothing to do. */
static atomic_long busy_since;

static long heartbeat_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + 1;
}

static void __attribute__((noreturn)) heartbeat_end(const char *why)
{
	fprintf(stderr, "memtype agent: %s\n", why);
	/* Of all threads: what the other one is in the middle of ends too. */
	_exit(1);
}

static void heartbeat_watch_host(void)
{
	static unsigned long received;
	static long heard;
	unsigned long now_received = protocol_received();

	if (!heard || now_received != received)
		heard = heartbeat_now();
	received = now_received;
	if (protocol_closed())
		heartbeat_end("the host has gone");
	if (options.lease && heartbeat_now() - heard > options.lease)
		heartbeat_end("the host has been silent for too long");
}

static void heartbeat_tell_busy(void)
{
	long since = atomic_load(&busy_since);
	struct buffer line = { 0 };

	if (!since || heartbeat_now() - since < INTERVAL)
		return;
	buffer_print(&line, "{\"busy\": %ld}", heartbeat_now() - since);
	protocol_announce(&line);
	buffer_free(&line);
}

static void *heartbeat_run(void *data)
{
	for (;;) {
		struct timespec interval = { .tv_sec = INTERVAL };

		nanosleep(&interval, NULL);
		if (!init_is_us())
			heartbeat_watch_host();
		heartbeat_tell_busy();
	}
	return NULL;
}

int heartbeat_start(void)
{
	pthread_t thread;

	return -pthread_create(&thread, NULL, heartbeat_run, NULL);
}

void heartbeat_busy(void)
{
	atomic_store(&busy_since, heartbeat_now());
}

void heartbeat_idle(void)
{
	atomic_store(&busy_since, 0);
}
