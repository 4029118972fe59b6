// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A kernel in the place of this one, without a reset of the machine: kexec_file_load(2), with this kernel's
 * command line. It begins with an agent of its own, which greets.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "file.h"
#include "init.h"
#include "protocol.h"

static bool kexec_loaded;

static int kexec_load_files(int kernel, int initrd)
{
	struct buffer cmdline = { 0 };
	int error = file_read("/proc/cmdline", &cmdline);

	if (error)
		return error;
	cmdline.data[strcspn(cmdline.data, "\n")] = 0;
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(cmdline.data) + 1, cmdline.data, 0UL))
		error = -errno;
	buffer_free(&cmdline);
	return error;
}

static bool kexec_open(const struct request *request, const char *key, int *file, struct buffer *reply)
{
	const char *path = request_text(request, key);

	if (!path) {
		buffer_error(reply, "kexec: %s= is missing", key);
		return false;
	}
	*file = open(path, O_RDONLY | O_CLOEXEC);
	if (*file < 0) {
		buffer_error(reply, "kexec: %s: %s", path, strerror(errno));
		return false;
	}
	/* A kernel that refuses it would keep it in its RAM. */
	unlink(path);
	return true;
}

void kexec_load(const struct request *request, struct buffer *reply)
{
	int kernel, initrd, error;

	/* Nobody would start an agent in the new kernel. */
	if (!init_is_us()) {
		answer_not_allowed(reply);
		return;
	}
	if (!kexec_open(request, "kernel", &kernel, reply))
		return;
	if (kexec_open(request, "initrd", &initrd, reply)) {
		error = kexec_load_files(kernel, initrd);
		kexec_loaded = !error;
		buffer_print(reply, "{\"errno\": %d}", -error);
		close(initrd);
	}
	close(kernel);
}

void kexec_run(void)
{
	struct buffer complaint = { 0 };

	if (!kexec_loaded)
		return;
	kexec_loaded = false;
	protocol_drain();
	reboot(RB_KEXEC);
	/* In the place of a greeting, for which the host waits. */
	buffer_error(&complaint, "kexec: %s", strerror(errno));
	protocol_announce(&complaint);
	buffer_free(&complaint);
}
