// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The user half of the agent. Loads the kernel half, then carries out what the
 * host asks for, one request at a time: as init of a guest of our own on its
 * second serial port (the first belongs to the kernel's console, so printk can
 * never damage an answer), or as a program on a system that somebody has, see
 * options.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"
#include "heartbeat.h"
#include "init.h"
#include "options.h"
#include "protocol.h"
#include "supervise.h"

/* Mode 0400: mm/vmalloc.c, proc_vmalloc_init(), 5.10 to 7.3. */
#define LOCK "/proc/vmallocinfo"

/* The host watches for the end. */
static void main_give_up(const char *what, int error)
{
	fprintf(stderr, "memtype agent: %s: %s\n", what, strerror(-error));
	init_power_off();
	_exit(1);
}

/* Booting was quiet because it is faster, and a distribution's console is by itself. */
static void main_speak_up(void)
{
	struct buffer before = { 0 };

	if (!options.printk)
		return;
	if (file_read("/proc/sys/kernel/printk", &before) ||
	    file_write("/proc/sys/kernel/printk", options.printk))
		fprintf(stderr, "memtype agent: can't change the console's log level\n");
	else
		supervise_changed_printk(before.data);
	buffer_free(&before);
}

static int refresh_error;

/* The greeting where that was an error: its line may be damaged, and the host asks for it once more. */
static struct buffer main_failure;

/* Carries out the request in text, which is taken apart, and writes the answer. */
static void main_carry_out(char *text, struct buffer *whole)
{
	/* Not static: a batch is a request that carries out others. */
	char original[REQUEST_LENGTH];
	struct buffer reply = { 0 };
	struct request request;

	strcpy(original, text);
	buffer_clear(&reply);
	if (refresh_error)
		buffer_error(&reply, "this clone has its template's random numbers or time: %s",
			     strerror(-refresh_error));
	else if (!request_parse(&request, text))
		buffer_error(&reply, "not a request: %.40s", original);
	else if (main_failure.length && !strcmp(request.verb, "hello"))
		buffer_bytes(&reply, main_failure.data, main_failure.length);
	else if (!operation_run(&request, &reply))
		process_relay(&request, original, &reply);
	/* Every reply carries what the kernel had to say meanwhile. */
	buffer_print(whole, "{\"log\": ");
	system_log(whole);
	buffer_print(whole, ", \"reply\": ");
	buffer_bytes(whole, reply.data, reply.length);
	buffer_print(whole, "}");
	buffer_free(&reply);
}

static void main_answer(char *text)
{
	struct buffer whole = { 0 };

	main_carry_out(text, &whole);
	protocol_reply(&whole);
	if (!refresh_error)
		refresh_error = system_finish_refresh();
	buffer_free(&whole);
}

/*
 * One agent at a time: the next may unload a module that this one hasn't opened yet. The file is
 * there anyway, and root's alone, so that no other user can hold the lock; it goes with the agent.
 */
static int main_take_machine(void)
{
	int lock = open(LOCK, O_RDONLY | O_CLOEXEC);

	return lock < 0 || flock(lock, LOCK_EX | LOCK_NB) ? -errno : 0;
}

/* Gets everything ready. What it says is the greeting: an error when that failed. */
static bool main_prepare(struct buffer *greeting)
{
	/* A kernel whose headers are gone has no module; user mappings can be tested all the same. */
	bool with_module = !init_is_us() || !access(options.module, F_OK);
	int error;

	/* First, because nobody who has the lock has the module. */
	error = main_take_machine();
	if (error) {
		buffer_error(greeting, "another agent runs here, or " LOCK " can't be locked: %s",
			     strerror(-error));
		return false;
	}
	if (with_module && !system_load_module(greeting))
		return false;
	if (with_module) {
		device_fd = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);
		if (device_fd < 0) {
			buffer_error(greeting, "/dev/" MEMTYPE_DEVICE ": %s", strerror(errno));
			return false;
		}
		error = observe_seed();
		if (error) {
			buffer_error(greeting, "can't count what is mapped already: %s",
				     strerror(-error));
			return false;
		}
	} else if (!kcore_open()) {
		buffer_error(greeting, "there is no module, and page tables can't be read without");
		return false;
	}
	if (!test_device_find(&test_device) && options_own_machine()) {
		buffer_error(greeting, "there is no PCI device with prefetchable memory");
		return false;
	}
	system_describe(greeting);
	return true;
}

static void main_work(void)
{
	static char text[REQUEST_LENGTH];
	struct buffer greeting = { 0 };
	int error;

	/* The host going away is the end of the port, which is read. */
	signal(SIGPIPE, SIG_IGN);
	error = protocol_open(options.port);
	if (error)
		main_give_up(options.port, error);
	batch_start(main_carry_out);
	error = system_mount_debugfs();
	if (error)
		fprintf(stderr, "memtype agent: " DEBUGFS ": %s\n", strerror(-error));
	buffer_clear(&greeting);
	if (!main_prepare(&greeting))
		buffer_bytes(&main_failure, greeting.data, greeting.length);
	main_speak_up();
	protocol_announce(&greeting);
	init_offer_shell();
	buffer_free(&greeting);
	error = heartbeat_start();
	if (error)
		main_give_up("heartbeat", error);
	while (protocol_read(text)) {
		heartbeat_busy();
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		main_answer(text);
		heartbeat_idle();
		kexec_run();
	}
}

int main(int count, char **arguments)
{
	const char *wrong;
	int error;

	if (process_serve_is_after_exec(count, arguments))
		process_serve_go_on(arguments);
	if (init_is_us()) {
		error = init_mount();
		if (error)
			main_give_up("mount", error);
		process_mtrr_remember();
		main_work();
		main_give_up("the serial port is gone", -EIO);
	}
	wrong = options_parse(count, arguments);
	if (wrong) {
		options_usage(wrong);
		return 2;
	}
	return supervise(main_work);
}
