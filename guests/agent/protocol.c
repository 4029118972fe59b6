// SPDX-License-Identifier: GPL-2.0 OR MIT
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "protocol.h"

static int input = -1, output = -1;
/* Read by the heartbeat's thread. */
static atomic_ulong received;
static unsigned long long sequence;
static char token[TOKEN_LENGTH];
static struct buffer last_reply;
static unsigned long long last_sequence;

uint32_t protocol_crc(const char *bytes, size_t length)
{
	static uint32_t table[256];
	uint32_t crc = ~0u;
	size_t n;

	if (!table[1])
		for (n = 0; n < 256; n++) {
			uint32_t entry = n;
			int bit;

			for (bit = 0; bit < 8; bit++)
				entry = entry >> 1 ^ (entry & 1 ? 0xedb88320u : 0);
			table[n] = entry;
		}
	for (n = 0; n < length; n++)
		crc = crc >> 8 ^ table[(crc ^ (unsigned char)bytes[n]) & 0xff];
	return ~crc;
}

static int protocol_open_serial(const char *device)
{
	struct termios settings;

	input = open(device, O_RDWR | O_NOCTTY | O_CLOEXEC);
	output = input;
	if (input < 0 || tcgetattr(input, &settings))
		return -errno;
	cfmakeraw(&settings);
	cfsetspeed(&settings, B115200);
	settings.c_cflag |= CLOCAL;
	return tcsetattr(input, TCSANOW, &settings) ? -errno : 0;
}

/* Taken away from standard input and output, which everything that is started has too. */
static int protocol_take_standard(void)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	int error = 0;

	input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (input < 0 || output < 0 || nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 ||
	    dup2(nothing, STDOUT_FILENO) < 0)
		error = -errno;
	if (nothing > STDERR_FILENO)
		close(nothing);
	return error;
}

int protocol_open(const char *device)
{
	return strcmp(device, "-") ? protocol_open_serial(device) : protocol_take_standard();
}

bool protocol_closed(void)
{
	struct pollfd watched = { .fd = input };

	return poll(&watched, 1, 0) > 0 && watched.revents & (POLLHUP | POLLERR | POLLNVAL);
}

unsigned long protocol_received(void)
{
	int waiting = 0;

	ioctl(input, FIONREAD, &waiting);
	return atomic_load(&received) + waiting;
}

/* A line at a time: the heartbeat has a thread of its own. */
static void protocol_write_all(const char *bytes, size_t length)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&one);
	while (length) {
		ssize_t written = write(output, bytes, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			break;
		bytes += written;
		length -= written;
	}
	pthread_mutex_unlock(&one);
}

static void protocol_write_line(unsigned long long number, const struct buffer *json)
{
	struct buffer line = { 0 };

	if (number)
		buffer_print(&line, "@%llu:%s ", number, token);
	else
		buffer_print(&line, "@0 ");
	buffer_bytes(&line, json->data, json->length);
	buffer_print(&line, " *%08x\n", protocol_crc(line.data, line.length));
	protocol_write_all(line.data, line.length);
	if (number) {
		buffer_free(&last_reply);
		last_reply = line;
		last_sequence = number;
	} else {
		buffer_free(&line);
	}
}

void protocol_reply(const struct buffer *json)
{
	protocol_write_line(sequence, json);
}

void protocol_announce(const struct buffer *json)
{
	protocol_write_line(0, json);
}

void protocol_drain(void)
{
	tcdrain(output);
}

/* Reads up to a newline. Of a line that is too long nothing comes back that would check. */
static bool protocol_read_line(char text[REQUEST_LENGTH])
{
	static char pending[REQUEST_LENGTH];
	static size_t available, position;
	size_t length = 0;
	bool too_long = false;

	for (;;) {
		char byte;

		if (position == available) {
			ssize_t got = read(input, pending, sizeof(pending));

			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				return false;
			atomic_fetch_add(&received, got);
			available = got;
			position = 0;
		}
		byte = pending[position++];
		if (byte == '\n') {
			text[length] = 0;
			if (too_long)
				strcpy(text, "too long");
			return true;
		}
		if (length == REQUEST_LENGTH - 1)
			too_long = true;
		else
			text[length++] = byte;
	}
}

/* Checks a line and cuts it down to its payload; said_by is the token in front of that. */
static char *protocol_check_line(char *text, unsigned long long *number, char said_by[TOKEN_LENGTH])
{
	size_t length;
	char *star = strrchr(text, '*'), *end;
	char checksum[9];

	if (text[0] != '@' || !star || star < text + 2 || star[-1] != ' ')
		return NULL;
	/* As text: the line may be damaged in what strtoul() doesn't mind. */
	snprintf(checksum, sizeof(checksum), "%08x", protocol_crc(text, star - 1 - text));
	if (strcmp(star + 1, checksum))
		return NULL;
	star[-1] = 0;
	*number = strtoull(text + 1, &end, 10);
	if (!*number || *end != ':')
		return NULL;
	length = strspn(++end, "0123456789abcdefghijklmnopqrstuvwxyz");
	if (!length || length >= TOKEN_LENGTH || end[length] != ' ' || !end[length + 1])
		return NULL;
	memcpy(said_by, end, length);
	said_by[length] = 0;
	return end + length + 1;
}

bool protocol_read(char text[REQUEST_LENGTH])
{
	static char line[REQUEST_LENGTH];
	struct buffer complaint = { 0 };

	while (protocol_read_line(line)) {
		char said_by[TOKEN_LENGTH];
		unsigned long long number;
		char *payload;

		if (!strcmp(line, "alive"))
			continue;
		payload = protocol_check_line(line, &number, said_by);
		if (!payload) {
			buffer_error(&complaint, "damaged line");
			protocol_announce(&complaint);
			buffer_free(&complaint);
			continue;
		}
		if (number == last_sequence && !strcmp(said_by, token)) {
			protocol_write_all(last_reply.data, last_reply.length);
			continue;
		}
		sequence = number;
		strcpy(token, said_by);
		strcpy(text, payload);
		return true;
	}
	return false;
}
