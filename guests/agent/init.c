// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What the agent does as the init of a guest of our own, and nowhere else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "init.h"
#include "options.h"

bool init_is_us(void)
{
	return getpid() == 1;
}

int init_mount(void)
{
	static const struct {
		const char *type, *where;
	} mounts[] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
	};
	const char *allowed = getenv("memtype_allowed");
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(mounts); n++) {
		mkdir(mounts[n].where, 0755);
		if (mount(mounts[n].type, mounts[n].where, mounts[n].type, 0, NULL) && errno != EBUSY)
			return -errno;
	}
	/* From the kernel's command line, whose unknown "name=value" become init's environment. */
	if (allowed)
		options.allow = allowed;
	return 0;
}

void init_power_off(void)
{
	if (!init_is_us())
		return;
	sync();
	reboot(RB_POWER_OFF);
}

/*
 * For a person: "memtype=shell" on the kernel's command line, which the kernel
 * hands to init as an environment variable, gives a shell on the console. The
 * guest is powered off when it ends.
 */
void init_offer_shell(void)
{
	const char *wanted = getenv("memtype");
	pid_t child;
	int console;

	if (!init_is_us() || !wanted || strcmp(wanted, "shell"))
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
