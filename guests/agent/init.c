// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The user half of the agent: the guest's init. Loads the kernel half, then
 * carries out what the host asks for on the second serial port, one request at
 * a time. The first serial port belongs to the kernel's console, so printk can
 * never damage an answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "heartbeat.h"

#define PORT "/dev/ttyS1"

int device = -1;
struct test_device test_device;

/* Without an agent the guest is of no use, and the host watches for its end. */
static void give_up(const char *what)
{
	fprintf(stderr, "memtype agent: %s: %s\n", what, strerror(errno));
	sync();
	reboot(RB_POWER_OFF);
	_exit(1);
}

/* Every printk on the console from now on: booting was quiet because it is faster. */
static void speak_up(void)
{
	int file = open("/proc/sys/kernel/printk", O_WRONLY | O_CLOEXEC);

	if (file < 0)
		return;
	if (write(file, "8\n", 2) != 2)
		fprintf(stderr, "memtype agent: can't raise the console's log level\n");
	close(file);
}

/*
 * For a person: "memtype=shell" on the kernel's command line, which the kernel
 * hands to init as an environment variable, gives a shell on the console. The
 * guest is powered off when it ends.
 */
static void offer_shell(void)
{
	const char *wanted = getenv("memtype");
	pid_t child;
	int console;

	if (!wanted || strcmp(wanted, "shell"))
		return;
	child = fork();
	if (child)
		return;
	setsid();
	console = open("/dev/ttyS0", O_RDWR);
	if (console < 0)
		_exit(1);
	ioctl(console, TIOCSCTTY, 1);
	dup2(console, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	printf("\nThe verifier is loaded. Device memory for tests: %#llx, %llu MiB. exit powers off.\n",
	       (unsigned long long)test_device.start, (unsigned long long)test_device.size >> 20);
	fflush(stdout);
	child = fork();
	if (!child) {
		execl("/bin/sh", "sh", NULL);
		_exit(127);
	}
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	reboot(RB_POWER_OFF);
	_exit(0);
}

static int refresh_error;

void agent_carry_out(char *text, struct buffer *whole)
{
	/* Not static: a batch is a request that carries out others. */
	char original[REQUEST_LENGTH];
	struct buffer reply = { 0 };
	struct request request;

	strcpy(original, text);
	buffer_clear(&reply);
	if (refresh_error)
		buffer_error(&reply, "this clone has its template's random numbers or time: %s",
			     strerror(refresh_error));
	else if (!request_parse(&request, text))
		buffer_error(&reply, "not a request: %.40s", original);
	else if (!operations_run(&request, &reply))
		process_relay(&request, original, &reply);
	/* Every reply carries what the kernel had to say meanwhile. */
	buffer_print(whole, "{\"log\": ");
	system_log(whole);
	buffer_print(whole, ", \"reply\": ");
	buffer_bytes(whole, reply.data, reply.length);
	buffer_print(whole, "}");
	buffer_free(&reply);
}

static void answer(int port, char *text)
{
	struct buffer whole = { 0 };

	agent_carry_out(text, &whole);
	protocol_reply(port, &whole);
	if (!refresh_error)
		refresh_error = system_finish_refresh();
	buffer_free(&whole);
}

int main(int count, char **arguments)
{
	static char text[REQUEST_LENGTH];
	struct buffer greeting = { 0 };
	bool with_module;
	int port, error;

	if (process_is_after_exec(count, arguments))
		process_go_on(arguments);
	if (!system_mount())
		give_up("mount");
	port = protocol_open(PORT);
	if (port < 0)
		give_up(PORT);
	buffer_clear(&greeting);
	/* A kernel whose headers are gone has no module; user mappings can be tested all the same. */
	with_module = system_has_module();
	if (!with_module || system_load_module(&greeting)) {
		if (with_module)
			device = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);
		if (with_module && device < 0)
			buffer_error(&greeting, "/dev/" MEMTYPE_DEVICE ": %s", strerror(errno));
		else if (!with_module && !kcore_open())
			buffer_error(&greeting, "there is no module, and page tables can't be read without");
		else if (with_module && (error = observe_seed()))
			buffer_error(&greeting, "can't count what is mapped already: %s",
				     strerror(error));
		else if (process_listen())
			buffer_error(&greeting, "can't listen for processes: %s", strerror(errno));
		else if (!system_find_device(&test_device))
			buffer_error(&greeting, "there is no PCI device with prefetchable memory");
		else
			system_describe(&greeting);
	}
	speak_up();
	protocol_announce(port, &greeting);
	offer_shell();
	buffer_free(&greeting);
	errno = heartbeat_start(port);
	if (errno)
		give_up("heartbeat");
	while (protocol_read(port, text)) {
		heartbeat_busy();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		answer(port, text);
		heartbeat_idle();
	}
	give_up("the serial port is gone");
}
