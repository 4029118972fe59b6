// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * User processes of the tests. Each is a real process that was born with one end
 * of a socket whose other end the agent has; the agent passes it the requests
 * that name it, and passes its answers on. There is nothing to connect to: on
 * somebody's machine others could.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"

#define MOST_PROCESSES 256
#define LARGEST_ANSWER (128 << 10)

struct process {
	char name[MEMTYPE_NAME_LENGTH];
	int socket;
	/* What others call it by. Once it is gone and reaped, another process may have the number. */
	int pid;
	/* Readable when it is gone, and never another's. */
	int pidfd;
};

static struct process processes[MOST_PROCESSES];

static struct process *process_find(const char *name)
{
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (processes[n].socket && !strcmp(processes[n].name, name))
			return &processes[n];
	return NULL;
}

static struct process *process_vacant(void)
{
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (!processes[n].socket)
			return &processes[n];
	return NULL;
}

/*
 * Returns when a process that ends is gone. Its socket is closed before that: of
 * its other files, such as an MTRR it holds, some are released later.
 */
static void process_wait_for_end(const struct process *process)
{
	struct pollfd wait = { .fd = process->pidfd, .events = POLLIN };

	/* How long is for the host to say, which knows how slow the machine is. */
	while (poll(&wait, 1, -1) < 0 && errno == EINTR)
		;
}

static bool process_is_gone(const struct process *process)
{
	struct pollfd now = { .fd = process->pidfd, .events = POLLIN };

	return poll(&now, 1, 0) > 0;
}

static void process_forget(struct process *process)
{
	close(process->socket);
	close(process->pidfd);
	memset(process, 0, sizeof(*process));
}

/* The agent's end, and one for the process to be. */
static int process_make_socket(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	/* What comes says who sent it. */
	setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int));
	return 0;
}

/* Whoever sends the one message that comes, as the kernel knows it; a negative errno where none does. */
static int process_sender(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control = { 0 };
	char text[8];
	struct iovec part = { .iov_base = text, .iov_len = sizeof(text) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct ucred who = { 0 };

	if (recvmsg(socket, &message, 0) <= 0)
		return -ESRCH;
	if (control.header.cmsg_type == SCM_CREDENTIALS)
		memcpy(&who, CMSG_DATA(&control.header), sizeof(who));
	return who.pid ?: -ESRCH;
}

/*
 * A hold on the process, which has the socket's other end for itself. As long as that isn't closed
 * it has not ended, so that what the number names is that process. Else a negative errno.
 */
static int process_hold(int socket, int pid)
{
	struct pollfd now = { .fd = socket };
	int pidfd = syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		return -errno;
	if (poll(&now, 1, 0) >= 0 && !(now.revents & POLLHUP))
		return pidfd;
	close(pidfd);
	return -ESRCH;
}

/* Waits for the process that was just started, whose socket this is, to say that it is there. */
static void process_admit(const char *name, int socket, struct buffer *reply)
{
	struct process *process = process_vacant();
	int pid = process_sender(socket);
	int pidfd = pid > 0 ? process_hold(socket, pid) : pid;

	if (pidfd < 0) {
		if (pidfd == -ESRCH)
			buffer_error(reply, "process %s ended as it started", name);
		else
			buffer_error(reply, "process %s can't be held: %s", name, strerror(-pidfd));
		/* One that is there takes that for the agent's end. */
		close(socket);
		return;
	}
	/* One that passes credentials is given an address of its own when it sends: unix(7). */
	setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &(int){ 0 }, sizeof(int));
	process->socket = socket;
	process->pid = pid;
	process->pidfd = pidfd;
	strncpy(process->name, name, sizeof(process->name) - 1);
	buffer_clear(reply);
	buffer_print(reply, "{\"pid\": %d}", process->pid);
}

static bool process_name_is_free(const char *name, struct buffer *reply)
{
	if (!name || !*name || strlen(name) >= MEMTYPE_NAME_LENGTH)
		buffer_error(reply, "a process needs a name of at most %d characters",
			     MEMTYPE_NAME_LENGTH - 1);
	else if (process_find(name))
		buffer_error(reply, "there is a process %s already", name);
	else if (!process_vacant())
		buffer_error(reply, "there are %d processes already", MOST_PROCESSES);
	else
		return true;
	return false;
}

void process_start(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "name");
	unsigned int n;
	int ends[2], error;
	uint64_t uid;
	pid_t child;

	if (!process_name_is_free(name, reply) ||
	    !request_number_or(request, "uid", 0, &uid, reply))
		return;
	/* (uid_t)-1 would mean: leave it as it is, and it is root's. */
	if (uid >= UINT32_MAX) {
		buffer_error(reply, "process: uid=%llu is no user id", (unsigned long long)uid);
		return;
	}
	error = process_make_socket(ends);
	if (error) {
		buffer_error(reply, "socketpair: %s", strerror(-error));
		return;
	}
	child = fork();
	if (!child) {
		signal(SIGCHLD, SIG_IGN);
		close(ends[0]);
		for (n = 0; n < MOST_PROCESSES; n++)
			if (processes[n].socket)
				close(processes[n].socket);
		if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(1);
		process_serve(name, ends[1]);
	}
	close(ends[1]);
	if (child < 0) {
		buffer_error(reply, "fork: %s", strerror(errno));
		close(ends[0]);
	} else {
		process_admit(name, ends[0], reply);
	}
}

static void process_died(struct process *process, const char *verb, struct buffer *reply)
{
	process_wait_for_end(process);
	buffer_error(reply, "process %s (pid %d) died in the middle of %s", process->name,
		     process->pid, verb);
	/* Not the request was wrong: into the error's object. */
	reply->length--;
	buffer_print(reply, ", \"died\": true}");
	process_forget(process);
}

/* Kills it and returns when it is gone, and all it had. */
static void process_end(struct process *process)
{
	char rest[64];

	syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
	while (recv(process->socket, rest, sizeof(rest), 0) > 0)
		;
	process_wait_for_end(process);
	process_forget(process);
}

static struct process *process_named(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "process");
	struct process *process = name ? process_find(name) : NULL;

	if (!name)
		buffer_error(reply, "%s: there is no such verb without a process", request->verb);
	else if (!process)
		buffer_error(reply, "%s: there is no process %s", request->verb, name);
	return process;
}

void process_kill(const struct request *request, struct buffer *reply)
{
	struct process *process = process_named(request, reply);

	if (!process)
		return;
	process_end(process);
	buffer_print(reply, "{}");
}

/* Its areas of memory, as the kernel lists them. */
void process_maps(const struct request *request, struct buffer *reply)
{
	struct process *process = process_named(request, reply);
	struct buffer text = { 0 };
	char path[32];
	int error;

	if (!process)
		return;
	snprintf(path, sizeof(path), "/proc/%d/maps", process->pid);
	error = file_read(path, &text);
	/* If it is there now, it was all the time: the file was its. */
	if (process_is_gone(process)) {
		process_died(process, request->verb, reply);
	} else if (error) {
		buffer_error(reply, "maps of process %s: %s", process->name, strerror(-error));
	} else {
		buffer_print(reply, "{\"text\": ");
		buffer_json(reply, text.data, text.length);
		buffer_print(reply, "}");
	}
	buffer_free(&text);
}

void process_end_all(void)
{
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (processes[n].socket)
			process_end(&processes[n]);
}

/* Sends a request, and with it the socket for the child it shall fork, unless that is -1. */
static void process_tell(const struct process *process, const char *text, int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(socket))];
	} control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(socket)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	struct iovec part = { .iov_base = (char *)text, .iov_len = strlen(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (socket >= 0) {
		memcpy(CMSG_DATA(&control.header), &socket, sizeof(socket));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	sendmsg(process->socket, &message, MSG_NOSIGNAL);
}

/* Returns whether there is an answer, which is in the reply then. */
static bool process_ask(struct process *process, const struct request *request, const char *text,
			int socket, struct buffer *reply)
{
	static char answer[LARGEST_ANSWER];
	ssize_t got;

	process_tell(process, text, socket);
	/* How long it was, not how much of it there was room for. */
	got = recv(process->socket, answer, sizeof(answer), MSG_TRUNC);
	if (got > (ssize_t)sizeof(answer)) {
		buffer_error(reply, "%s: the answer of process %s has %zd bytes, more than %d",
			     request->verb, process->name, got, LARGEST_ANSWER);
	} else if (got > 0) {
		buffer_bytes(reply, answer, got);
	} else if (!strcmp(request->verb, "exit")) {
		process_wait_for_end(process);
		process_forget(process);
		buffer_print(reply, "{}");
	} else {
		process_died(process, request->verb, reply);
	}
	return got > 0;
}

static void process_relay_fork(struct process *process, const struct request *request,
			       const char *text, struct buffer *reply)
{
	const char *name = request_text(request, "name");
	int ends[2], error;
	bool forked;

	if (!process_name_is_free(name, reply))
		return;
	error = process_make_socket(ends);
	if (error) {
		buffer_error(reply, "socketpair: %s", strerror(-error));
		return;
	}
	forked = process_ask(process, request, text, ends[1], reply) &&
		 strstr(reply->data, "\"forked\": true");
	close(ends[1]);
	if (forked)
		process_admit(name, ends[0], reply);
	else
		close(ends[0]);
}

void process_relay(const struct request *request, const char *text, struct buffer *reply)
{
	struct process *process = process_named(request, reply);

	if (!process)
		return;
	if (!strcmp(request->verb, "fork"))
		process_relay_fork(process, request, text, reply);
	else
		process_ask(process, request, text, -1, reply);
}
