// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Many requests in one message. Their texts and their answers don't travel over
 * the serial port, where a byte costs an emulated interrupt, but lie in the
 * mailbox: memory of ours that the host reads and writes from outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"
#include "protocol.h"

#define MAILBOX_PAGES 256
#define MAILBOX_BYTES (MAILBOX_PAGES * PAGE_BYTES)
/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_FRAME ((1ULL << 55) - 1)
#define PAGEMAP_PRESENT (1ULL << 63)

static char *mailbox;
/* What the requests of the present batch have mapped, for those that follow; 0 for nothing. */
static uint64_t *handles;
static uint64_t handle_count, handle_capacity;
/* The answers, of which the mailbox holds a part. */
static struct buffer answers;
static bool running;
static void (*batch_carry_out)(char *text, struct buffer *whole);

void batch_start(void (*carry_out)(char *text, struct buffer *whole))
{
	batch_carry_out = carry_out;
}

/* Locked pages are moved by compaction unless told not to, and the host goes by their frames. */
static int batch_pin(void)
{
	int file = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY | O_CLOEXEC);
	int error = 0;

	/* Without compaction in the kernel there is no such file. */
	if (file < 0)
		return errno == ENOENT ? 0 : -errno;
	if (write(file, "0\n", 2) != 2)
		error = -errno;
	close(file);
	return error;
}

static int batch_open_mailbox(void)
{
	int error;

	if (mailbox)
		return 0;
	error = batch_pin();
	if (error)
		return error;
	mailbox = mmap(NULL, MAILBOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mailbox == MAP_FAILED || mlock(mailbox, MAILBOX_BYTES)) {
		error = -errno;
		if (mailbox != MAP_FAILED)
			munmap(mailbox, MAILBOX_BYTES);
		mailbox = NULL;
	}
	return error;
}

int batch_memory(char **memory, size_t *size)
{
	*memory = mailbox;
	*size = MAILBOX_BYTES;
	return mailbox ? 0 : -ENXIO;
}

static int batch_read_frames(uint64_t frames[MAILBOX_PAGES])
{
	int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t offset = (uintptr_t)mailbox / PAGE_BYTES * sizeof(*frames);
	size_t length = MAILBOX_PAGES * sizeof(*frames);
	ssize_t got;
	int error = 0;

	if (file < 0)
		return -errno;
	got = pread(file, frames, length, offset);
	if (got != (ssize_t)length)
		error = got < 0 ? -errno : -EIO;
	close(file);
	return error;
}

/* Where the mailbox lies in guest-physical memory, as runs of pages. */
void batch_mailbox(const struct request *request, struct buffer *reply)
{
	uint64_t frames[MAILBOX_PAGES];
	unsigned int n, run;
	int error;

	error = batch_open_mailbox() ?: batch_read_frames(frames);
	if (error) {
		buffer_error(reply, "mailbox: %s", strerror(-error));
		return;
	}
	for (n = 0; n < MAILBOX_PAGES; n++) {
		if (!(frames[n] & PAGEMAP_PRESENT)) {
			buffer_error(reply, "mailbox: page %u is not in memory", n);
			return;
		}
		frames[n] &= PAGEMAP_FRAME;
	}
	buffer_print(reply, "{\"runs\": [");
	for (n = 0; n < MAILBOX_PAGES; n += run) {
		for (run = 1; n + run < MAILBOX_PAGES && frames[n + run] == frames[n] + run; run++)
			;
		buffer_print(reply, "%s[%llu, %u]", n ? ", " : "",
			     (unsigned long long)frames[n] * PAGE_BYTES, run);
	}
	buffer_print(reply, "]}");
}

/* Puts the answers from offset on into the mailbox, as far as they fit, and says what is there. */
static void batch_deliver(size_t offset, struct buffer *reply)
{
	size_t length = answers.length - offset;

	if (length > MAILBOX_BYTES)
		length = MAILBOX_BYTES;
	memcpy(mailbox, answers.data + offset, length);
	buffer_print(reply, "{\"length\": %zu, \"crc\": %u, \"total\": %zu}", length,
		     protocol_crc(mailbox, length), answers.length);
}

static void batch_remember_handle(const char *answer)
{
	/* Inside of a JSON string its quotation marks would have backslashes. */
	static const char key[] = "\"handle\": ";
	const char *found = strstr(answer, key);

	if (handle_count == handle_capacity) {
		handle_capacity = handle_capacity ? 2 * handle_capacity : 1024;
		handles = realloc(handles, handle_capacity * sizeof(*handles));
		if (!handles)
			abort();
	}
	/* "null" makes it 0, which no mapping has. */
	handles[handle_count++] = found ? strtoull(found + sizeof(key) - 1, NULL, 10) : 0;
}

/*
 * Writes a request with "handle=#N", the mapping that the batch's request N
 * has made, as one with the handle. Returns NULL, or what is wrong.
 */
static const char *batch_resolve(const char *text, char resolved[REQUEST_LENGTH])
{
	static const char key[] = " handle=#";
	const char *promise = strstr(text, key);
	unsigned long long number;
	char *rest;
	int length;

	if (!promise) {
		strcpy(resolved, text);
		return NULL;
	}
	number = strtoull(promise + sizeof(key) - 1, &rest, 10);
	if (!number || number > handle_count)
		return "names a request that is not before it";
	if (!handles[number - 1])
		return "names a request that has made no mapping";
	length = snprintf(resolved, REQUEST_LENGTH, "%.*s handle=%llu%s", (int)(promise - text), text,
			  (unsigned long long)handles[number - 1], rest);
	return length < REQUEST_LENGTH ? NULL : "is too long";
}

static void batch_run_line(const char *line)
{
	struct buffer whole = { 0 };
	char text[REQUEST_LENGTH];
	const char *wrong;

	wrong = strlen(line) < REQUEST_LENGTH ? batch_resolve(line, text) : "is too long";
	if (wrong) {
		buffer_print(&whole, "{\"log\": [], \"reply\": {\"error\": \"request %llu of the batch %s\"}}",
			     (unsigned long long)handle_count + 1, wrong);
	} else {
		batch_carry_out(text, &whole);
	}
	batch_remember_handle(whole.data);
	buffer_bytes(&answers, whole.data, whole.length);
	buffer_bytes(&answers, "\n", 1);
	buffer_free(&whole);
}

/* Carries out the requests in the mailbox, which go on from request first of the batch. */
void batch_run(const struct request *request, struct buffer *reply)
{
	uint64_t length, crc, first;
	char *requests, *rest, *line;

	if (!request_number(request, "length", &length, reply) ||
	    !request_number(request, "crc", &crc, reply) ||
	    !request_number(request, "first", &first, reply))
		return;
	if (running || !mailbox || length > MAILBOX_BYTES || protocol_crc(mailbox, length) != crc) {
		buffer_error(reply, "batch: the mailbox does not hold what the host has written");
		return;
	}
	if (first == 1)
		handle_count = 0;
	if (first != handle_count + 1) {
		buffer_error(reply, "batch: request %llu can't be the next, %llu are done",
			     (unsigned long long)first, (unsigned long long)handle_count);
		return;
	}
	requests = strndup(mailbox, length);
	if (!requests)
		abort();
	running = true;
	buffer_clear(&answers);
	for (rest = requests; (line = strsep(&rest, "\n")) && *line;)
		batch_run_line(line);
	running = false;
	free(requests);
	batch_deliver(0, reply);
}

/* Further answers of the last batch, which didn't fit into the mailbox with those before them. */
void batch_rest(const struct request *request, struct buffer *reply)
{
	uint64_t offset;

	if (!request_number(request, "offset", &offset, reply))
		return;
	if (running || !mailbox || offset > answers.length)
		buffer_error(reply, "batch_rest: there are no answers from %llu on",
			     (unsigned long long)offset);
	else
		batch_deliver(offset, reply);
}
