// SPDX-License-Identifier: MIT
/*
 * guests/agent/process.c with a process whose one answer has as many bytes as is asked for, on this
 * host. What the agent makes of it is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../agent/agent.h"
#include "../agent/file.h"

static size_t answer_bytes;

int file_read(const char *path, struct buffer *text)
{
	return 0;
}

void process_serve(const char *name, int to_agent)
{
	char *answer = malloc(answer_bytes), request[REQUEST_LENGTH];

	send(to_agent, "here", 4, MSG_NOSIGNAL);
	if (!answer || recv(to_agent, request, sizeof(request), 0) <= 0)
		_exit(1);
	memset(answer, '.', answer_bytes);
	send(to_agent, answer, answer_bytes, MSG_NOSIGNAL);
	_exit(0);
}

int main(int count, char **arguments)
{
	char start[] = "process name=X", ask[] = "munmap process=X";
	struct buffer reply = { 0 };
	struct request request;

	if (count != 2)
		return 2;
	answer_bytes = strtoul(arguments[1], NULL, 10);
	if (!request_parse(&request, start))
		return 2;
	process_start(&request, &reply);
	if (!request_parse(&request, ask))
		return 2;
	buffer_clear(&reply);
	process_relay(&request, ask, &reply);
	fwrite(reply.data, 1, reply.length, stdout);
	process_end_all();
	buffer_free(&reply);
	return 0;
}
