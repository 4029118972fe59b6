// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The work is done by a child, so that what must be undone is undone even when
 * that is killed or crashes. Everything the child starts has the supervisor for
 * its parent when its own is gone (PR_SET_CHILD_SUBREAPER), which is how those
 * are found that are left. A process that has ended holds no mapping and no
 * open file any more, so the module can be unloaded then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"
#include "options.h"
#include "supervise.h"

/* Written by the child, in memory of both. */
static struct {
	bool loaded;
	bool mounted_debugfs;
	bool changed_printk;
	char printk[64];
} *changed;

static volatile sig_atomic_t worker;

void supervise_loaded(void)
{
	if (changed)
		changed->loaded = true;
}

void supervise_mounted_debugfs(void)
{
	if (changed)
		changed->mounted_debugfs = true;
}

void supervise_changed_printk(const char *before)
{
	if (!changed)
		return;
	snprintf(changed->printk, sizeof(changed->printk), "%s", before);
	changed->changed_printk = true;
}

static void supervise_on_signal(int signal)
{
	int before = errno;

	if (worker)
		kill(worker, SIGKILL);
	errno = before;
}

static bool supervise_complain(const char *what, int error)
{
	fprintf(stderr, "memtype agent: %s: %s\n", what, strerror(-error));
	return false;
}

/* proc(5): the fourth field, behind a name that may hold anything. */
static pid_t supervise_parent_of(const char *process)
{
	char path[300], text[512], *name_end;
	size_t length;
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/stat", process);
	file = fopen(path, "re");
	if (!file)
		return 0;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = 0;
	name_end = strrchr(text, ')');
	return name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* A child keeps its number until it is waited for, which nobody does meanwhile. */
static void supervise_kill_children(void)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		if (atoi(entry->d_name) > 0 && supervise_parent_of(entry->d_name) == getpid())
			kill(atoi(entry->d_name), SIGKILL);
	if (directory)
		closedir(directory);
}

static void supervise_end_all(void)
{
	/* One that is killed leaves its own children to us: until there are none. */
	do {
		supervise_kill_children();
	} while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

static bool supervise_unload(void)
{
	return !syscall(SYS_delete_module, MEMTYPE_DEVICE, O_NONBLOCK) || errno == ENOENT ||
	       supervise_complain("can't unload the module", -errno);
}

static bool supervise_restore_printk(void)
{
	int error = file_write("/proc/sys/kernel/printk", changed->printk);

	return !error || supervise_complain("can't put the console's log level back", error);
}

static bool supervise_remove_folder(void)
{
	DIR *directory = opendir(options.folder);
	struct dirent *entry;
	bool all = true;

	while (directory && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    unlinkat(dirfd(directory), entry->d_name, 0))
			all = supervise_complain(entry->d_name, -errno);
	if (directory)
		closedir(directory);
	return (!rmdir(options.folder) || supervise_complain(options.folder, -errno)) && all;
}

static bool supervise_restore_mtrrs(void)
{
	int error;

	/* Which memory may be changed is for the module to say. */
	device_fd = open("/dev/" MEMTYPE_DEVICE, O_RDWR | O_CLOEXEC);
	if (device_fd < 0)
		return supervise_complain("/dev/" MEMTYPE_DEVICE, -errno);
	error = process_mtrr_restore();
	close(device_fd);
	return !error || supervise_complain("can't take an MTRR back", error);
}

static bool supervise_undo(void)
{
	bool all = true;

	if (changed->loaded && !options_own_machine())
		all = supervise_restore_mtrrs();
	if (changed->loaded)
		all = supervise_unload() && all;
	if (changed->changed_printk)
		all = supervise_restore_printk() && all;
	if (changed->mounted_debugfs && umount(DEBUGFS))
		all = supervise_complain("can't unmount " DEBUGFS, -errno);
	if (options.folder)
		all = supervise_remove_folder() && all;
	return all;
}

/* They wait until there is a worker to be ended, or it is known that there is none. */
static void supervise_catch_signals(sigset_t *caught)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction action = { .sa_handler = supervise_on_signal };
	unsigned int n;

	sigemptyset(caught);
	for (n = 0; n < ARRAY_SIZE(signals); n++)
		sigaddset(caught, signals[n]);
	sigprocmask(SIG_BLOCK, caught, NULL);
	for (n = 0; n < ARRAY_SIZE(signals); n++)
		sigaction(signals[n], &action, NULL);
}

/* What is started begins as if nothing had been caught. */
static void supervise_catch_none(const sigset_t *caught)
{
	int number;

	for (number = 1; number < NSIG; number++)
		if (sigismember(caught, number) == 1)
			signal(number, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, caught, NULL);
}

int supervise(void (*work)(void))
{
	siginfo_t ended;
	sigset_t caught;
	pid_t child;

	supervise_catch_signals(&caught);
	/* Ignored, children would not be kept until they are waited for, and numbers become others'. */
	signal(SIGCHLD, SIG_DFL);
	changed = mmap(NULL, sizeof(*changed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (changed == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) || chdir("/"))
		return !supervise_complain("start", -errno);
	process_mtrr_remember();
	child = fork();
	if (!child) {
		/* Alone it would leave all behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		supervise_catch_none(&caught);
		work();
		_exit(0);
	}
	if (child > 0)
		worker = child;
	sigprocmask(SIG_UNBLOCK, &caught, NULL);
	if (child < 0)
		supervise_complain("fork", -errno);
	/* Left as it ended, so that until nobody kills it any more its number is no other's. */
	while (child > 0 && waitid(P_PID, child, &ended, WEXITED | WNOWAIT) && errno == EINTR)
		;
	worker = 0;
	supervise_end_all();
	return !supervise_undo();
}
