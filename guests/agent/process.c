// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * User processes of the tests. Each is a real process that connects to the
 * agent over a sequenced-packet socket and says its name; the agent passes it
 * the requests that name it, and passes its answers on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

socklen_t agent_address(struct sockaddr_un *address)
{
	static const char name[] = "memtype-agent";

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	/* The leading zero makes it abstract: no file, gone with the agent. */
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
		process_serve(name);
	}
	if (child < 0)
		buffer_error(reply, "fork: %s", strerror(errno));
	else
		admit(name, reply);
}

/* Its socket goes after its memory, exit_files() after exit_mm(): its mappings are gone by now. */
static void died(struct process *process, const char *verb, struct buffer *reply)
{
	buffer_error(reply, "process %s (pid %d) died in the middle of %s", process->name,
		     process->pid, verb);
	/* Not the request was wrong: into the error's object. */
	reply->length--;
	buffer_print(reply, ", \"died\": true}");
	forget(process);
}

/* Kills it and returns when its mappings are gone. */
static void end(struct process *process)
{
	char rest[64];

	kill(process->pid, SIGKILL);
	while (recv(process->socket, rest, sizeof(rest), 0) > 0)
		;
	forget(process);
}

static struct process *named(const struct request *request, struct buffer *reply)
{
	const char *name = request_text(request, "process");
	struct process *process = name ? find(name) : NULL;

	if (!name)
		buffer_error(reply, "%s: there is no such verb without a process", request->verb);
	else if (!process)
		buffer_error(reply, "%s: there is no process %s", request->verb, name);
	return process;
}

void process_kill(const struct request *request, struct buffer *reply)
{
	struct process *process = named(request, reply);

	if (!process)
		return;
	end(process);
	buffer_print(reply, "{}");
}

/* Its areas of memory, as the kernel lists them. */
void process_maps(const struct request *request, struct buffer *reply)
{
	struct process *process = named(request, reply);
	struct buffer text = { 0 };
	char path[32];
	int error;

	if (!process)
		return;
	snprintf(path, sizeof(path), "/proc/%d/maps", process->pid);
	error = system_read_file(path, &text);
	if (error) {
		buffer_error(reply, "maps of process %s: %s", process->name, strerror(error));
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
			end(&processes[n]);
}

void process_relay(const struct request *request, const char *text, struct buffer *reply)
{
	static char answer[LARGEST_ANSWER];
	bool leaves = !strcmp(request->verb, "exit"), forks = !strcmp(request->verb, "fork");
	struct process *process = named(request, reply);
	const char *child = request_text(request, "name");
	ssize_t got;

	if (!process || (forks && !name_is_free(child, reply)))
		return;
	send(process->socket, text, strlen(text), MSG_NOSIGNAL);
	got = recv(process->socket, answer, sizeof(answer), 0);
	if (got <= 0 && leaves) {
		forget(process);
		buffer_print(reply, "{}");
		return;
	}
	if (got <= 0) {
		died(process, request->verb, reply);
		return;
	}
	buffer_bytes(reply, answer, got);
	if (forks && strstr(reply->data, "\"forked\": true"))
		admit(child, reply);
}
