// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The life of a user process of the tests: it starts, does as told, forks, execs, and ends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "process_mappings.h"

#define AFTER_EXEC "memtype-process"

static char own_name[MEMTYPE_NAME_LENGTH];
static int connection = -1;	/* to the agent */
static int for_child = -1;	/* what the agent has sent for the child that is to be forked */

/* The name goes to the kernel and to the module. */
static void process_serve_take_name(const char *name)
{
	struct memtype_owner owner = { 0 };

	strncpy(own_name, name, sizeof(own_name) - 1);
	memcpy(owner.owner, own_name, sizeof(owner.owner));
	prctl(PR_SET_NAME, own_name);
	if (device_fd >= 0 && ioctl(device_fd, MEMTYPE_SET_OWNER, &owner))
		_exit(1);
}

/* A file of its own: what it prepares must not mix with its parent's. */
static void process_serve_open_device(void)
{
	int own = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);

	if (own >= 0) {
		close(device_fd);
		device_fd = own;
	} else if (errno != EACCES || device_fd < 0) {
		_exit(1);
	}
	/* Where only root may open it, the parent's will do, as only one request is carried out at a time. */
}

static void process_serve_answer(struct buffer *reply)
{
	size_t length = reply->length;

	if (send(connection, reply->data, length, MSG_NOSIGNAL) >= 0)
		return;
	/* The agent waits for one, and one that is too long for the socket it would never get. */
	buffer_clear(reply);
	buffer_error(reply, "an answer of %zu bytes: %s", length, strerror(errno));
	send(connection, reply->data, reply->length, MSG_NOSIGNAL);
}

/* The next request, and the socket that comes with it. Returns 0 when the agent has gone. */
static ssize_t process_serve_hear(char *text, size_t room)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(for_child))];
	} control;
	struct iovec part = { .iov_base = text, .iov_len = room };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);

	if (got > 0 && message.msg_controllen && control.header.cmsg_type == SCM_RIGHTS)
		memcpy(&for_child, CMSG_DATA(&control.header), sizeof(for_child));
	return got > 0 ? got : 0;
}

static void process_serve_fork(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "name");
	pid_t child = fork();

	if (!child) {
		close(connection);
		process_serve(name, for_child);
	}
	close(for_child);
	if (child < 0)
		buffer_print(reply, "{\"forked\": false, \"errno\": %d}", errno);
	else
		buffer_print(reply, "{\"forked\": true}");
}

/* The connection and the name outlive it; mappings and the open device don't. */
static void process_serve_exec(const struct request *request, struct buffer *reply)
{
	char file[16], made[24];

	if (device_fd < 0) {
		/* What reads page tables in its place doesn't outlive an exec. */
		answer_no_module(reply);
		return;
	}
	/* The new image would have to open it, which on somebody's machine is root's. */
	if (access("/dev/" MEMTYPE_DEVICE, R_OK | W_OK)) {
		buffer_print(reply, "{\"errno\": %d}", errno);
		return;
	}
	snprintf(file, sizeof(file), "%d", connection);
	snprintf(made, sizeof(made), "%llu", (unsigned long long)mappings_made);
	fcntl(connection, F_SETFD, 0);
	execl("/proc/self/exe", AFTER_EXEC, own_name, file, made, NULL);
	buffer_print(reply, "{\"errno\": %d}", errno);
	fcntl(connection, F_SETFD, FD_CLOEXEC);
}

/* Does as told until the agent goes. */
static void __attribute__((noreturn)) process_serve_obey(void)
{
	static char text[REQUEST_LENGTH];
	struct buffer reply = { 0 };
	ssize_t got;

	while ((got = process_serve_hear(text, sizeof(text) - 1))) {
		struct request request;

		text[got] = 0;
		buffer_clear(&reply);
		if (!request_parse(&request, text))
			buffer_error(&reply, "not a request");
		else if (!strcmp(request.verb, "exit"))
			_exit(0);
		else if (!strcmp(request.verb, "fork"))
			process_serve_fork(&request, &reply);
		else if (!strcmp(request.verb, "exec"))
			process_serve_exec(&request, &reply);
		else
			process_call(&request, &reply);
		process_serve_answer(&reply);
	}
	_exit(0);
}

void process_serve(const char *name, int to_agent)
{
	connection = to_agent;
	if (device_fd >= 0)
		process_serve_open_device();
	process_serve_take_name(name);
	/* Nothing of it is read: who is there the kernel tells the agent. */
	send(connection, "here", 4, MSG_NOSIGNAL);
	process_serve_obey();
}

bool process_serve_is_after_exec(int count, char **arguments)
{
	return count == 4 && !strcmp(arguments[0], AFTER_EXEC);
}

/* The new image answers for the old one, whose mappings are gone by now. */
void process_serve_go_on(char **arguments)
{
	struct buffer reply = { 0 };

	connection = atoi(arguments[2]);
	fcntl(connection, F_SETFD, FD_CLOEXEC);
	mappings_made = strtoull(arguments[3], NULL, 10);
	/* There is a module, else exec() would have been refused. */
	process_serve_open_device();
	process_serve_take_name(arguments[1]);
	buffer_clear(&reply);
	if (!test_device_find(&test_device))
		buffer_error(&reply, "exec: the test device is gone");
	else
		buffer_print(&reply, "{\"errno\": 0}");
	process_serve_answer(&reply);
	buffer_free(&reply);
	process_serve_obey();
}
