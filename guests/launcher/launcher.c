// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Preloaded into QEMU, it makes a process that has QEMU loaded and linked, which
 * is a third of what a start takes (QEMU 7.2, 90 libraries), and that is forked
 * for each QEMU that is asked for. framework/pytest_memtype/machine/launcher.py
 * is the other side.
 *
 * A request is a message on a SOCK_SEQPACKET socket: struct request and the
 * strings of argv and of the environment, with the files to hand over. The
 * answer is the new process' number, which it gives itself when it has all
 * that it was handed, or the negative of an error's. Who doesn't wait for an
 * answer any more shuts the socket down: then nothing is started.
 *
 * It waits in __libc_start_main(), after all libraries are ready and before
 * the first constructor of QEMU itself, which starts a thread (QEMU 7.2,
 * util/rcu.c, rcu_init): a forked process has one thread only.
 *
 * No libc is linked, so that one build fits whatever libc QEMU has with it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * It is set for the process that is to wait for requests, on its standard
 * input, and says which file to close: this library's.
 */
#define VARIABLE "MEMTYPE_LAUNCHER"
/* Linux, include/net/scm.h, SCM_MAX_FD. */
#define MAX_FILES 253
#define MAX_STRINGS (256 * 1024)

struct request {
	int parent;	/* who asks, and becomes the parent */
	int arguments;
	int variables;
	int mask;
	int files;
	/* The first file is the working directory; what number each of the others is to have. */
	int wanted[MAX_FILES];
};

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *program, int argc, char **argv, void (*init)(void),
			   void (*fini)(void), void (*rtld_fini)(void), void *stack_end);

/* The C library's, which a program's first instructions call. */
start_function __libc_start_main;

static int channel;
static struct request request;
static char strings[MAX_STRINGS];
static int files[MAX_FILES];

/* Returns the length of the request's strings, or less than 0: then nobody is there any more. */
static ssize_t launcher_receive(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(files))];
	} control;
	struct iovec parts[] = { { &request, sizeof(request) }, { strings, sizeof(strings) } };
	struct msghdr header = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *part;
	ssize_t length;
	size_t bytes;

	do
		length = recvmsg(channel, &header, MSG_CMSG_CLOEXEC);
	while (length < 0 && errno == EINTR);
	if (length < (ssize_t)sizeof(request) || header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -1;
	part = CMSG_FIRSTHDR(&header);
	bytes = part ? part->cmsg_len - CMSG_LEN(0) : 0;
	if (!bytes || bytes != request.files * sizeof(int))
		return -1;
	memcpy(files, CMSG_DATA(part), bytes);
	return length - sizeof(request);
}

/* Like fork(), but the parent of the new process is this one's: it waits for it, and dies with it. */
static int launcher_fork_beside(void)
{
	int *thread = NULL;
	long child;

	/* Where glibc keeps the thread's number, which its own fork() changes, too; musl has a lock there. */
	if (prctl(PR_GET_TID_ADDRESS, &thread) || !thread || *thread != syscall(SYS_gettid))
		return -ENOSYS;
	child = syscall(SYS_clone, CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD,
			NULL, NULL, thread, 0L);
	return child < 0 ? -errno : child;
}

static void launcher_close_files(void)
{
	int n;

	for (n = 0; n < request.files; n++)
		close(files[n]);
}

static bool launcher_move(int *file, int away)
{
	int moved = fcntl(*file, F_DUPFD_CLOEXEC, away);

	close(*file);
	*file = moved;
	return moved >= 0;
}

static bool launcher_take_files(void)
{
	struct rlimit limit;
	int away = 0;
	int n;

	/* Where a file is may be above what is the limit now. */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (fchdir(files[0]))
		return false;
	for (n = 1; n < request.files; n++)
		if (request.wanted[n] >= away)
			away = request.wanted[n] + 1;
	/* One may have the number that another wants. */
	for (n = 0; n < request.files; n++)
		if (!launcher_move(&files[n], away))
			return false;
	if (!launcher_move(&channel, away))
		return false;
	for (n = 1; n < request.files; n++)
		if (dup2(files[n], request.wanted[n]) < 0)
			return false;
	launcher_close_files();
	return true;
}

/* A child has its parent's limits, and they may be others than when this process was started. */
static void launcher_take_limits(void)
{
	struct rlimit limit;
	int n;

	for (n = 0; n < RLIM_NLIMITS; n++)
		if (!prlimit(request.parent, n, NULL, &limit))
			setrlimit(n, &limit);
}

static bool launcher_answer(int number)
{
	return send(channel, &number, sizeof(number), MSG_NOSIGNAL) == sizeof(number);
}

/* What a new process does first: who asked may be gone already, or have given up. */
static void launcher_settle(void)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != request.parent)
		_exit(127);
	setsid();
	umask(request.mask);
	if (!launcher_take_files()) {
		launcher_answer(-errno);
		_exit(127);
	}
	launcher_take_limits();
	if (!launcher_answer(getpid()))
		_exit(127);
	close(channel);
}

static size_t launcher_size(char **argv, int argc)
{
	return argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0];
}

/* What ps shows is the memory of the arguments that this process was started with: there is room. */
static void launcher_show(char **place, size_t room, char **argv, int argc)
{
	size_t size = launcher_size(argv, argc);

	memset(place[0], 0, room);
	memcpy(place[0], argv[0], size < room ? size : room - 1);
}

static char **launcher_strings(size_t length)
{
	int count = request.arguments + request.variables;
	char **all = calloc(count + 2, sizeof(*all));
	char *text = strings;
	int n;

	if (!all)
		_exit(127);
	for (n = 0; n < count && text < strings + length; n++) {
		/* The variables are behind the arguments and their end, as the kernel has it. */
		all[n + (n >= request.arguments)] = text;
		text += strlen(text) + 1;
	}
	return all;
}

/* Returns in a new process, with the length of its request's strings. */
static size_t launcher_wait_for_request(void)
{
	for (;;) {
		ssize_t length = launcher_receive();
		int child;

		if (length < 0)
			_exit(0);
		child = launcher_fork_beside();
		if (!child)
			return length;
		launcher_close_files();
		if (child < 0 && !launcher_answer(child))
			_exit(0);
	}
}

/* A library's constructor may have made some, which a forked process would be without. */
static bool launcher_has_other_threads(void)
{
	struct statx tasks;

	/* Besides "." and "..". */
	return statx(AT_FDCWD, "/proc/self/task", 0, STATX_NLINK, &tasks) || tasks.stx_nlink != 3;
}

static int launcher_number_of(const char *text)
{
	int number = 0;

	/* atoi() has another name with newer headers. */
	while (*text >= '0' && *text <= '9')
		number = 10 * number + *text++ - '0';
	return number;
}

int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
	start_function *start = (start_function *)dlsym(RTLD_NEXT, "__libc_start_main");

	if (getenv(VARIABLE)) {
		size_t length;
		char **all;

		close(launcher_number_of(getenv(VARIABLE)));
		channel = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		if (channel < 0 || launcher_has_other_threads())
			_exit(0);
		length = launcher_wait_for_request();
		launcher_settle();
		all = launcher_strings(length);
		launcher_show(argv, launcher_size(argv, argc), all, request.arguments);
		argc = request.arguments;
		argv = all;
		environ = all + argc + 1;
	}
	return start(program, argc, argv, init, fini, rtld_fini, stack_end);
}
