// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See kill_point.h. */
#include <linux/pid.h>
#include <linux/sched/signal.h>

#include "kill_point.h"
#include "state.h"

/*
 * The process that is to be killed, and when. One at a time is enough for tests. Held, because
 * another may get the number of one that ends before its moment.
 */
static struct {
	struct pid *pid;
	u32 point;
} killed;

void kill_point_reached(enum memtype_kill_point point)
{
	if (!killed.pid || killed.pid != task_tgid(current) || killed.point != point)
		return;
	put_pid(killed.pid);
	killed.pid = NULL;
	send_sig(SIGKILL, current, 1);
}

void kill_point_set(u32 point)
{
	mutex_lock(&state_lock);
	put_pid(killed.pid);
	killed.pid = point == MEMTYPE_KILL_POINT_NEVER ? NULL : get_pid(task_tgid(current));
	killed.point = point;
	mutex_unlock(&state_lock);
}
