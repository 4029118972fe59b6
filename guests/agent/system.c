// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What the agent asks of the system it runs on: the module, PCI, logs, a shell. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"
#include "options.h"
#include "supervise.h"

/* Of a command: a byte takes up to six in JSON, and TCG's serial line 0.2 MB a second (QEMU 7.2). */
#define LARGEST_SHELL (256 << 10)

/* Holds x86/pat_memtype_list, which doesn't exist when PAT is off. */
int system_mount_debugfs(void)
{
	struct statfs there;

	if (!statfs(DEBUGFS, &there) && there.f_type == DEBUGFS_MAGIC)
		return 0;
	if (mount("debugfs", DEBUGFS, "debugfs", 0, NULL))
		return -errno;
	supervise_mounted_debugfs();
	return 0;
}

static int system_load(const char *parameters)
{
	int file = open(options.module, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (file < 0 || syscall(SYS_finit_module, file, parameters, 0))
		error = -errno;
	if (file >= 0)
		close(file);
	return error;
}

/*
 * The last line that the kernel has logged since this file was at its end: of the
 * module, or if there is none of whatever it is. Others log when they like.
 */
static void system_kernel_says(int log, struct buffer *reply)
{
	static const char ours[] = MEMTYPE_DEVICE ": ";
	char record[8192], last[8192] = "", *text;
	bool found = false;
	ssize_t length;

	while (log >= 0 && (length = read(log, record, sizeof(record) - 1)) > 0) {
		record[length] = 0;
		text = strchr(record, ';');
		if (!text || (found && strncmp(text + 1, ours, strlen(ours))))
			continue;
		found = !strncmp(text + 1, ours, strlen(ours));
		strcpy(last, text + 1);
	}
	if (!*last)
		return;
	buffer_print(reply, ", \"kernel_says\": ");
	buffer_json(reply, last, strchrnul(last, '\n') - last);
}

bool system_load_module(struct buffer *reply)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char parameters[4096];
	int error = -ENAMETOOLONG;
	const char *why;

	lseek(log, 0, SEEK_END);
	if (snprintf(parameters, sizeof(parameters), "allowed=%s", options.allow) < (int)sizeof(parameters))
		error = system_load(parameters);
	/* Left behind by an agent that was killed with its supervisor: nobody has it open then. */
	if (error == -EEXIST && !syscall(SYS_delete_module, MEMTYPE_DEVICE, O_NONBLOCK))
		error = system_load(parameters);
	if (error) {
		why = strerror(-error);
		if (error == -EEXIST)
			why = "it is loaded already, and in use: another run uses this machine";
		buffer_error(reply, "can't load the module %s: %s", options.module, why);
		reply->length--;
		buffer_print(reply, ", \"module_errno\": %d", -error);
		system_kernel_says(log, reply);
		buffer_print(reply, "}");
	} else {
		supervise_loaded();
	}
	if (log >= 0)
		close(log);
	return !error;
}

void system_log(struct buffer *json)
{
	static int kmsg = -1;
	const char *separator = "";
	char record[8192];
	ssize_t length;

	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	buffer_print(json, "[");
	for (;;) {
		char *text, *end;

		length = read(kmsg, record, sizeof(record) - 1);
		/* EPIPE: the ring wrapped and lines are gone; the next read has the oldest left. */
		if (length < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (length <= 0)
			break;
		record[length] = 0;
		text = strchr(record, ';');
		if (!text)
			continue;
		end = strchrnul(++text, '\n');
		buffer_print(json, "%s", separator);
		buffer_json(json, text, end - text);
		separator = ", ";
	}
	buffer_print(json, "]");
}

void system_memtype_list(struct buffer *reply)
{
	struct buffer text = { 0 };
	int error = file_read(DEBUGFS "/x86/pat_memtype_list", &text);

	if (error == -ENOENT) {
		buffer_error(reply, "the kernel has no pat_memtype_list (PAT is off?)");
	} else if (error) {
		buffer_error(reply, "pat_memtype_list can't be read: %s", strerror(-error));
	} else {
		buffer_print(reply, "{\"text\": ");
		buffer_json(reply, text.data, text.length);
		buffer_print(reply, "}");
	}
	buffer_free(&text);
}

/*
 * Reads what a child writes until it ends, and returns its status. Not until
 * the end of the pipe: something it left running in the background may hold that.
 */
static int system_read_until_exit(pid_t child, int pipe, struct buffer *text)
{
	struct pollfd wait[] = {
		{ .fd = pipe, .events = POLLIN },
		{ .fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN },
	};
	bool ended = false, cut = false;
	/* The rest of a long output goes unread faster in large pieces: 100 MB are 1,500 of these. */
	static char part[65536];
	int status = 0;

	buffer_clear(text);
	fcntl(pipe, F_SETFL, O_NONBLOCK);
	while (!ended) {
		/* All that the child wrote is in the pipe when it has ended; others may write for ever. */
		long left = fcntl(pipe, F_GETPIPE_SZ);
		ssize_t got = -1;

		if (poll(wait, 2, -1) > 0)
			ended = wait[1].revents;
		while (left > 0 && (got = read(pipe, part, sizeof(part))) > 0) {
			size_t room = LARGEST_SHELL - text->length;

			left -= got;
			cut |= (size_t)got > room;
			buffer_bytes(text, part, (size_t)got > room ? room : (size_t)got);
		}
		/* End of file makes the pipe readable for ever; only the child's end is of interest then. */
		if (!got)
			wait[0].fd = -1;
	}
	close(wait[1].fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (cut)
		buffer_print(text, "\n[more than %d bytes: the rest is left out]\n", LARGEST_SHELL);
	return status;
}

void system_shell(const struct request *request, struct buffer *reply)
{
	const char *command = request_text(request, "command");
	struct buffer text = { 0 };
	int ends[2], status = 0;
	pid_t child;

	if (!command) {
		buffer_error(reply, "shell: command= is missing");
		return;
	}
	if (pipe2(ends, O_CLOEXEC)) {
		buffer_error(reply, "shell: %s", strerror(errno));
		return;
	}
	child = fork();
	if (!child) {
		int nothing = open("/dev/null", O_RDONLY);

		dup2(nothing, STDIN_FILENO);
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	if (child < 0) {
		buffer_error(reply, "shell: %s", strerror(errno));
		close(ends[0]);
		return;
	}
	status = system_read_until_exit(child, ends[0], &text);
	close(ends[0]);
	buffer_print(reply, "{\"status\": %d, \"output\": ",
		     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	buffer_json(reply, text.data, text.length);
	buffer_print(reply, "}");
	buffer_free(&text);
}

/* Not by sscanf(): translating the C library's costs TCG 1 ms in each clone (QEMU 7.2). */
static bool system_decode_hex(const char *text, unsigned char *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	size_t n;

	if (!text || strlen(text) != 2 * length)
		return false;
	for (n = 0; n < 2 * length; n++) {
		const char *digit = strchr(digits, text[n]);

		if (!digit)
			return false;
		bytes[n / 2] = bytes[n / 2] << 4 | (digit - digits);
	}
	return true;
}

static struct {
	bool wanted;
	struct rand_pool_info info;
	/* With half of them the template's generator isn't ready, and RNDRESEEDCRNG says ENODATA (6.1). */
	unsigned char bytes[32];
	struct timespec now;
} refresh;

/*
 * What a clone needs that its template can't have given it: the time of day,
 * and random numbers of its own. Reseeding takes half as long as all else a
 * fresh clone does until its first answer, so it is done behind that answer,
 * and before the next request is read.
 */
void system_refresh(const struct request *request, struct buffer *reply)
{
	uint64_t nanoseconds;

	if (!request_number(request, "clock", &nanoseconds, reply))
		return;
	if (!system_decode_hex(request_text(request, "seed"), refresh.bytes,
			       sizeof(refresh.bytes))) {
		buffer_error(reply, "refresh: seed= wants 64 hexadecimal digits");
		return;
	}
	refresh.now.tv_sec = nanoseconds / 1000000000;
	refresh.now.tv_nsec = nanoseconds % 1000000000;
	refresh.wanted = true;
	buffer_print(reply, "{}");
}

int system_finish_refresh(void)
{
	/* Kept open: a clone finds what its template has opened already. */
	static int random = -1;

	if (!refresh.wanted)
		return 0;
	refresh.wanted = false;
	refresh.info.entropy_count = 8 * sizeof(refresh.bytes);
	refresh.info.buf_size = sizeof(refresh.bytes);
	if (random < 0)
		random = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	/* Added entropy changes nothing until RNDRESEEDCRNG makes the kernel reseed (4.14 and later). */
	if (random < 0 || ioctl(random, RNDADDENTROPY, &refresh.info) ||
	    ioctl(random, RNDRESEEDCRNG) || clock_settime(CLOCK_REALTIME, &refresh.now))
		return -errno;
	return 0;
}

void system_describe(struct buffer *reply)
{
	struct utsname name;

	uname(&name);
	buffer_print(reply, "{\"protocol\": 1, \"release\": ");
	buffer_json(reply, name.release, strlen(name.release));
	buffer_print(reply, ", \"module\": %s", device_fd < 0 ? "false" : "true");
	buffer_print(reply, ", \"allowed\": ");
	buffer_json(reply, options.allow, strlen(options.allow));
	buffer_print(reply, ", \"cpus\": %ld, \"device\": {\"address\": ", sysconf(_SC_NPROCESSORS_ONLN));
	buffer_json(reply, test_device.address, strlen(test_device.address));
	buffer_print(reply, ", \"bar\": %u, \"start\": %llu, \"size\": %llu}, \"observation\": ",
		     test_device.bar, (unsigned long long)test_device.start,
		     (unsigned long long)test_device.size);
	observe_describe(reply);
	buffer_print(reply, "}");
}
