// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * User processes of the tests. Each is a real process that connects to the
 * agent over a sequenced-packet socket and says its name; the agent passes it
 * the requests that name it, and passes its answers on.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

#define MOST_PROCESSES 256
#define LARGEST_ANSWER (128 << 10)
#define CONNECT_MILLISECONDS 10000

struct process {
	char name[MEMTYPE_NAME_LENGTH];
	int socket;
	int pid;
};

static struct process processes[MOST_PROCESSES];
static int listener = -1;
static int connection = -1;	/* of a process, to the agent */

static socklen_t agent_address(struct sockaddr_un *address)
{
	static const char name[] = "memtype-agent";

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	/* The leading zero makes it abstract: no file, gone with the guest. */
	memcpy(address->sun_path + 1, name, sizeof(name) - 1);
	return offsetof(struct sockaddr_un, sun_path) + sizeof(name);
}

int process_listen(void)
{
	struct sockaddr_un address;
	socklen_t length = agent_address(&address);

	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, length))
		return -1;
	return listen(listener, 16);
}

static struct process *find(const char *name)
{
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (processes[n].socket && !strcmp(processes[n].name, name))
			return &processes[n];
	return NULL;
}

static struct process *vacant(void)
{
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (!processes[n].socket)
			return &processes[n];
	return NULL;
}

static void forget(struct process *process)
{
	close(process->socket);
	memset(process, 0, sizeof(*process));
}

/* In the new process: introduce itself, then do as told until the agent goes. */
static void serve(const char *name)
{
	static char text[REQUEST_LENGTH];
	struct memtype_owner owner = { 0 };
	struct buffer reply = { 0 };
	struct sockaddr_un address;
	socklen_t length = agent_address(&address);
	ssize_t got;

	prctl(PR_SET_NAME, name);
	/* A file of its own: what it prepares must not mix with its parent's. */
	close(device);
	device = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);
	strncpy(owner.owner, name, sizeof(owner.owner) - 1);
	if (device < 0 || ioctl(device, MEMTYPE_SET_OWNER, &owner))
		_exit(1);
	connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connection < 0 || connect(connection, (struct sockaddr *)&address, length))
		_exit(1);
	buffer_clear(&reply);
	buffer_print(&reply, "%d %s", getpid(), name);
	send(connection, reply.data, reply.length, MSG_NOSIGNAL);
	while ((got = recv(connection, text, sizeof(text) - 1, 0)) > 0) {
		struct request request;

		text[got] = 0;
		buffer_clear(&reply);
		if (!request_parse(&request, text))
			buffer_error(&reply, "not a request");
		else if (!strcmp(request.verb, "exit"))
			_exit(0);
		else
			process_call(&request, &reply);
		send(connection, reply.data, reply.length, MSG_NOSIGNAL);
	}
	_exit(0);
}

/* Called by process_call() for fork: the child serves under its new name. */
static void become(const char *name)
{
	close(connection);
	serve(name);
}

/* Waits for the process that was just started to introduce itself. */
static void admit(const char *name, struct buffer *reply)
{
	struct process *process = vacant();
	char text[64] = "";
	int socket;

	for (;;) {
		struct pollfd wait = { .fd = listener, .events = POLLIN };
		struct pollfd said;
		ssize_t got = 0;
		char *space;

		if (poll(&wait, 1, CONNECT_MILLISECONDS) != 1) {
			buffer_error(reply, "process %s did not start", name);
			return;
		}
		socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		said = (struct pollfd){ .fd = socket, .events = POLLIN };
		if (poll(&said, 1, CONNECT_MILLISECONDS) == 1)
			got = recv(socket, text, sizeof(text) - 1, 0);
		text[got > 0 ? got : 0] = 0;
		space = strchr(text, ' ');
		if (space && !strcmp(space + 1, name))
			break;
		/* One that was given up for being late, or that died as it started. */
		close(socket);
		if (!space) {
			buffer_error(reply, "process %s ended as it started", name);
			return;
		}
	}
	process->socket = socket;
	process->pid = atoi(text);
	strncpy(process->name, name, sizeof(process->name) - 1);
	buffer_clear(reply);
	buffer_print(reply, "{\"pid\": %d}", process->pid);
}

void process_end_all(void)
{
	char rest[64];
	unsigned int n;

	for (n = 0; n < MOST_PROCESSES; n++)
		if (processes[n].socket) {
			kill(processes[n].pid, SIGKILL);
			while (recv(processes[n].socket, rest, sizeof(rest), 0) > 0)
				;
			forget(&processes[n]);
		}
}

static bool name_is_free(const char *name, struct buffer *reply)
{
	if (!name || !*name || strlen(name) >= MEMTYPE_NAME_LENGTH)
		buffer_error(reply, "a process needs a name of at most %d characters",
			     MEMTYPE_NAME_LENGTH - 1);
	else if (find(name))
		buffer_error(reply, "there is a process %s already", name);
	else if (!vacant())
		buffer_error(reply, "there are %d processes already", MOST_PROCESSES);
	else
		return true;
	return false;
}

void process_start(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "name");
	unsigned int n;
	uint64_t uid;
	pid_t child;

	if (!name_is_free(name, reply) || !request_number_or(request, "uid", 0, &uid, reply))
		return;
	/* (uid_t)-1 would mean: leave it as it is, and it is root's. */
	if (uid >= UINT32_MAX) {
		buffer_error(reply, "process: uid=%llu is no user id", (unsigned long long)uid);
		return;
	}
	child = fork();
	if (!child) {
		signal(SIGCHLD, SIG_IGN);
		close(listener);
		for (n = 0; n < MOST_PROCESSES; n++)
			if (processes[n].socket)
				close(processes[n].socket);
		if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(1);
		serve(name);
	}
	if (child < 0)
		buffer_error(reply, "fork: %s", strerror(errno));
	else
		admit(name, reply);
}

static void died(struct process *process, struct buffer *reply)
{
	buffer_error(reply, "process %s (pid %d) died", process->name, process->pid);
	forget(process);
}

void process_relay(const struct request *request, const char *text, struct buffer *reply)
{
	static char answer[LARGEST_ANSWER];
	const char *name = request_text(request, "process"), *child = request_text(request, "name");
	bool leaves = !strcmp(request->verb, "exit"), forks = !strcmp(request->verb, "fork");
	struct process *process = name ? find(name) : NULL;
	ssize_t got;

	if (!process) {
		buffer_error(reply, "%s: there is no such verb, or no process %s", request->verb,
			     name ? name : "named");
		return;
	}
	if (forks && !name_is_free(child, reply))
		return;
	send(process->socket, text, strlen(text), MSG_NOSIGNAL);
	got = recv(process->socket, answer, sizeof(answer), 0);
	if (got <= 0 && leaves) {
		/* exit_files() comes after exit_mm(): its mappings are gone by now. */
		forget(process);
		buffer_print(reply, "{}");
		return;
	}
	if (got <= 0) {
		died(process, reply);
		return;
	}
	buffer_bytes(reply, answer, got);
	if (forks && strstr(reply->data, "\"forked\": true"))
		admit(child, reply);
}

void process_fork(const struct request *request, struct buffer *reply)
{
	char name[MEMTYPE_NAME_LENGTH] = { 0 };
	pid_t child;

	strncpy(name, request_text(request, "name"), sizeof(name) - 1);
	child = fork();
	if (!child)
		become(name);
	if (child < 0)
		buffer_print(reply, "{\"forked\": false, \"errno\": %d}", errno);
	else
		buffer_print(reply, "{\"forked\": true}");
}
