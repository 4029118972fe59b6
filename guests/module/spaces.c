// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Where each process's page tables begin: who looks at memory from outside can
 * guess that, but not whose they are.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "spaces.h"

#define MOST_SPACES 65536

/* The leader may have ended before its threads, so the first that still has its memory is asked. */
static bool describe(struct task_struct *process, struct memtype_space *space)
{
	struct task_struct *thread;
	bool found = false;

	for_each_thread(process, thread) {
		task_lock(thread);
		/* A kernel thread only borrows its memory. */
		if (thread->mm && !(thread->flags & PF_KTHREAD)) {
			space->root = __pa(thread->mm->pgd);
			space->pid = task_tgid_nr(thread);
			strscpy(space->name, thread->comm, sizeof(space->name));
			found = true;
		}
		task_unlock(thread);
		if (found)
			break;
	}
	return found;
}

int spaces_list(struct memtype_spaces *spaces)
{
	struct memtype_space *found, one;
	struct task_struct *process;
	int error = 0;
	u32 count = 0;

	if (spaces->capacity > MOST_SPACES)
		return -EINVAL;
	found = kvcalloc(spaces->capacity ?: 1, sizeof(*found), GFP_KERNEL);
	if (!found)
		return -ENOMEM;
	rcu_read_lock();
	for_each_process(process) {
		memset(&one, 0, sizeof(one));
		if (!describe(process, &one))
			continue;
		if (count < spaces->capacity)
			found[count] = one;
		count++;
	}
	rcu_read_unlock();
	spaces->count = count;
	if (copy_to_user(u64_to_user_ptr(spaces->buffer), found,
			 min(count, spaces->capacity) * sizeof(*found)))
		error = -EFAULT;
	kvfree(found);
	return error;
}
