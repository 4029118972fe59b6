// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What the agent asks of the system it runs on: mounts, the module, PCI, logs, a shell. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define MODULE "/memtype.ko"
#define LARGEST_OUTPUT (1 << 20)
/* include/linux/ioport.h */
#define RESOURCE_MEMORY 0x200
#define RESOURCE_PREFETCH 0x2000

bool system_mount(void)
{
	static const struct {
		const char *type, *where;
		bool needed;
	} mounts[] = {
		{ "proc", "/proc", true },
		{ "sysfs", "/sys", true },
		{ "devtmpfs", "/dev", true },
		{ "tmpfs", "/tmp", true },
		/* Holds x86/pat_memtype_list, which doesn't exist when PAT is off. */
		{ "debugfs", "/sys/kernel/debug", false },
	};
	unsigned int n;

	for (n = 0; n < sizeof(mounts) / sizeof(mounts[0]); n++) {
		mkdir(mounts[n].where, 0755);
		if (mount(mounts[n].type, mounts[n].where, mounts[n].type, 0, NULL) &&
		    errno != EBUSY && mounts[n].needed)
			return false;
	}
	return true;
}

bool system_has_module(void)
{
	return !access(MODULE, F_OK);
}

bool system_load_module(struct buffer *reply)
{
	int file = open(MODULE, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (file < 0 || (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST))
		error = errno;
	if (error)
		buffer_error(reply, "can't load " MODULE ": %s", strerror(error));
	if (file >= 0)
		close(file);
	return !error;
}

static bool find_bar(const char *address, struct test_device *found)
{
	unsigned long long start, end, flags;
	char path[300];
	unsigned int bar;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", address);
	file = fopen(path, "re");
	if (!file)
		return false;
	for (bar = 0; bar < 6 && fscanf(file, "%llx %llx %llx", &start, &end, &flags) == 3; bar++)
		if (flags & RESOURCE_MEMORY && flags & RESOURCE_PREFETCH &&
		    end - start + 1 > found->size) {
			snprintf(found->address, sizeof(found->address), "%.31s", address);
			found->bar = bar;
			found->start = start;
			found->size = end - start + 1;
		}
	fclose(file);
	return true;
}

/* The largest prefetchable BAR there is. */
bool system_find_device(struct test_device *found)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	memset(found, 0, sizeof(*found));
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			find_bar(entry->d_name, found);
	if (directory)
		closedir(directory);
	return found->size;
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

static void read_all(int file, struct buffer *text)
{
	char part[4096];
	ssize_t got;

	buffer_clear(text);
	while ((got = read(file, part, sizeof(part))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0 && text->length < LARGEST_OUTPUT)
			buffer_bytes(text, part, got);
}

int system_read_file(const char *path, struct buffer *text)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return errno;
	read_all(file, text);
	close(file);
	return 0;
}

void system_memtype_list(struct buffer *reply)
{
	struct buffer text = { 0 };
	int error = system_read_file("/sys/kernel/debug/x86/pat_memtype_list", &text);

	if (error) {
		buffer_error(reply, "the kernel has no pat_memtype_list (PAT is off?): %s",
			     strerror(error));
		return;
	}
	buffer_print(reply, "{\"text\": ");
	buffer_json(reply, text.data, text.length);
	buffer_print(reply, "}");
	buffer_free(&text);
}

/*
 * Reads what a child writes until it ends, and returns its status. Not until
 * the end of the pipe: something it left running in the background may hold that.
 */
static int read_until_exit(pid_t child, int pipe, struct buffer *text)
{
	struct pollfd wait[] = {
		{ .fd = pipe, .events = POLLIN },
		{ .fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN },
	};
	bool ended = false;
	char part[4096];
	int status = 0;

	buffer_clear(text);
	fcntl(pipe, F_SETFL, O_NONBLOCK);
	for (;;) {
		ssize_t got = read(pipe, part, sizeof(part));

		if (got > 0 && text->length < LARGEST_OUTPUT)
			buffer_bytes(text, part, got);
		if (got > 0)
			continue;
		if (ended)
			break;
		/* End of file makes the pipe readable for ever; only the child's end is of interest then. */
		if (!got)
			wait[0].fd = -1;
		if (poll(wait, 2, -1) > 0)
			ended = wait[1].revents;
	}
	close(wait[1].fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (text->length >= LARGEST_OUTPUT)
		buffer_print(text, "\n[more than %d bytes: the rest is left out]\n", LARGEST_OUTPUT);
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
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	if (child < 0) {
		buffer_error(reply, "shell: %s", strerror(errno));
		close(ends[0]);
		return;
	}
	status = read_until_exit(child, ends[0], &text);
	close(ends[0]);
	buffer_print(reply, "{\"status\": %d, \"output\": ",
		     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	buffer_json(reply, text.data, text.length);
	buffer_print(reply, "}");
	buffer_free(&text);
}

static bool decode_hex(const char *text, unsigned char *bytes, size_t length)
{
	size_t n;

	if (!text || strlen(text) != 2 * length)
		return false;
	for (n = 0; n < length; n++)
		if (sscanf(text + 2 * n, "%2hhx", &bytes[n]) != 1)
			return false;
	return true;
}

static struct {
	bool wanted;
	struct rand_pool_info info;
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
	if (!decode_hex(request_text(request, "seed"), refresh.bytes, sizeof(refresh.bytes))) {
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
		return errno;
	return 0;
}

void system_describe(struct buffer *reply)
{
	struct utsname name;

	uname(&name);
	buffer_print(reply, "{\"protocol\": 1, \"release\": ");
	buffer_json(reply, name.release, strlen(name.release));
	buffer_print(reply, ", \"module\": %s", device < 0 ? "false" : "true");
	buffer_print(reply, ", \"cpus\": %ld, \"device\": {\"address\": ", sysconf(_SC_NPROCESSORS_ONLN));
	buffer_json(reply, test_device.address, strlen(test_device.address));
	buffer_print(reply, ", \"bar\": %u, \"start\": %llu, \"size\": %llu}, \"observation\": ",
		     test_device.bar, (unsigned long long)test_device.start,
		     (unsigned long long)test_device.size);
	observe_describe(reply);
	buffer_print(reply, "}");
}
