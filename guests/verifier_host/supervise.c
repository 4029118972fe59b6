// SPDX-License-Identifier: MIT
/*
 * guests/agent/supervise.c with a worker that does nothing, on this host: what it would undo is the
 * folder that is given. SIGHUP comes as soon as there is a worker, before anything else is done.
 */
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#include "../agent/agent.h"
#include "../agent/file.h"
#include "../agent/options.h"
#include "../agent/supervise.h"

struct options options;
int device_fd = -1;

bool options_own_machine(void)
{
	return true;
}

void process_mtrr_remember(void)
{
}

int process_mtrr_restore(void)
{
	return 0;
}

int file_write(const char *path, const char *text)
{
	return 0;
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);

/* The linker's --wrap gives the supervisor this one. */
pid_t __wrap_fork(void)
{
	pid_t child = __real_fork();

	if (child > 0)
		raise(SIGHUP);
	return child;
}

static void supervise_work(void)
{
	for (;;)
		pause();
}

int main(int count, char **arguments)
{
	if (count != 2)
		return 2;
	options.folder = arguments[1];
	return supervise(supervise_work);
}
