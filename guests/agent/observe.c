// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What other drivers have mapped: handing in the kernel's list, and telling what was seen since. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent.h"

#define LIST DEBUGFS "/x86/pat_memtype_list"
/* Each try is spoilt only by somebody who maps while the list is read. */
#define SEED_TRIES 100

/* cattr_name() of arch/x86/mm/pat/memtype.c, 5.10 to 7.3. */
static bool observe_type_of(const char *name, __u32 *memtype)
{
	static const struct {
		const char *name;
		__u32 memtype;
	} types[] = {
		{ "write-back", MEMTYPE_WB },
		{ "write-combining", MEMTYPE_WC },
		{ "uncached-minus", MEMTYPE_UC_MINUS },
		{ "uncached", MEMTYPE_UC },
		{ "write-through", MEMTYPE_WT },
		{ "write-protected", MEMTYPE_WP },
	};
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(types); n++)
		if (!strcmp(name, types[n].name)) {
			*memtype = types[n].memtype;
			return true;
		}
	return false;
}

/* Returns the entries, to be freed, or NULL when there is no list (PAT is off). */
static struct memtype_listed *observe_read_list(__u32 *count)
{
	struct memtype_listed *ranges = NULL;
	unsigned long long start, end;
	FILE *file = fopen(LIST, "re");
	char line[256], type[32];
	unsigned int room = 0;

	*count = 0;
	if (!file)
		return NULL;
	while (fgets(line, sizeof(line), file)) {
		struct memtype_listed range = { 0 };

		/* The end is exclusive. */
		if (sscanf(line, "PAT: [mem %llx-%llx] %31s", &start, &end, type) != 3 ||
		    !observe_type_of(type, &range.memtype))
			continue;
		range.start = start;
		range.pages = (end - start) / PAGE_BYTES;
		if (*count == room) {
			room = room ? 2 * room : 64;
			ranges = realloc(ranges, room * sizeof(*ranges));
			if (!ranges)
				abort();
		}
		ranges[(*count)++] = range;
	}
	fclose(file);
	return ranges;
}

int observe_seed(void)
{
	struct memtype_observation_status status;
	int tries, error = 0;

	for (tries = 0; tries < SEED_TRIES; tries++) {
		struct memtype_seed seed = { 0 };
		struct memtype_listed *ranges;

		if (ioctl(device_fd, MEMTYPE_OBSERVATION, &status))
			return -errno;
		seed.sequence = status.sequence;
		ranges = observe_read_list(&seed.count);
		seed.buffer = (uintptr_t)ranges;
		error = ioctl(device_fd, MEMTYPE_SEED, &seed) ? -errno : 0;
		free(ranges);
		if (error != -EAGAIN)
			break;
	}
	return error;
}

void observe_describe(struct buffer *reply)
{
	struct memtype_observation_status status = { 0 };
	unsigned int n;

	if (ioctl(device_fd, MEMTYPE_OBSERVATION, &status)) {
		buffer_print(reply, "null");
		return;
	}
	buffer_print(reply, "{\"missed\": %llu, \"dropped\": %llu, \"probes\": [", status.missed,
		     status.dropped);
	for (n = 0; n < MEMTYPE_PROBES; n++)
		buffer_print(reply, "%s{\"function\": \"%s\", \"errno\": %d, \"armed\": %s}",
			     n ? ", " : "", status.probes[n].function, status.probes[n].error,
			     status.probes[n].armed ? "true" : "false");
	buffer_print(reply, "]}");
}

void observe_run_observation(const struct request *request, struct buffer *reply)
{
	observe_describe(reply);
}

void observe_run_observe(const struct request *request, struct buffer *reply)
{
	struct memtype_observe observe = { 0 };
	uint64_t armed;

	if (!request_number(request, "armed", &armed, reply))
		return;
	observe.armed = armed != 0;
	if (ioctl(device_fd, MEMTYPE_OBSERVE, &observe))
		buffer_error(reply, "observe: the module says %s", strerror(errno));
	else
		buffer_print(reply, "{}");
}

static void observe_write_observation(struct buffer *reply, const struct memtype_observation *what)
{
	buffer_print(reply, "{\"start\": %llu, \"pages\": %llu, \"requested\": %u, \"granted\": %u, ",
		     what->start, what->pages, what->requested, what->granted);
	buffer_print(reply, "\"errno\": %d, \"kind\": \"%s\", \"pid\": %d, \"seeded\": %s, \"task\": ",
		     what->error, what->kind == MEMTYPE_USER ? "user" : "kernel", what->pid,
		     what->seeded ? "true" : "false");
	buffer_json(reply, what->task, strnlen(what->task, sizeof(what->task)));
	buffer_print(reply, ", \"caller\": ");
	buffer_json(reply, what->caller, strnlen(what->caller, sizeof(what->caller)));
	buffer_print(reply, ", \"handler\": ");
	buffer_json(reply, what->handler, strnlen(what->handler, sizeof(what->handler)));
	buffer_print(reply, ", \"verdict\": ");
	answer_verdict(reply, &what->verdict);
	buffer_print(reply, "}");
}

void observe_run_observed(const struct request *request, struct buffer *reply)
{
	struct memtype_observation *observations = NULL;
	struct memtype_observed observed = { 0 };
	unsigned int n;

	do {
		/* Asked again when there are more than were room for. */
		observed.capacity = observed.count;
		free(observations);
		observations = calloc(observed.capacity + 1, sizeof(*observations));
		observed.buffer = (uintptr_t)observations;
		if (!observations || ioctl(device_fd, MEMTYPE_OBSERVED, &observed)) {
			buffer_error(reply, "observed: %s", strerror(errno));
			free(observations);
			return;
		}
	} while (observed.count > observed.capacity);
	buffer_print(reply, "{\"observations\": [");
	for (n = 0; n < observed.count; n++) {
		if (n)
			buffer_print(reply, ", ");
		observe_write_observation(reply, &observations[n]);
	}
	buffer_print(reply, "]}");
	free(observations);
}
