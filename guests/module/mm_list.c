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

#include "mm_list.h"

#define MOST_MMS 65536

/* The leader may have ended before its threads, so the first that still has its memory is asked. */
static bool mm_list_describe(struct task_struct *process, struct memtype_mm *mm)
{
	struct task_struct *thread;
	bool found = false;

	for_each_thread(process, thread) {
		task_lock(thread);
		/* A kernel thread only borrows its memory. */
		if (thread->mm && !(thread->flags & PF_KTHREAD)) {
			mm->root = __pa(thread->mm->pgd);
			mm->pid = task_tgid_nr(thread);
			strscpy(mm->name, thread->comm, sizeof(mm->name));
			found = true;
		}
		task_unlock(thread);
		if (found)
			break;
	}
	return found;
}

int mm_list_read(struct memtype_mm_list *list)
{
	struct memtype_mm *found, one;
	struct task_struct *process;
	int error = 0;
	u32 count = 0;

	if (list->capacity > MOST_MMS)
		return -EINVAL;
	found = kvcalloc(list->capacity ?: 1, sizeof(*found), GFP_KERNEL);
	if (!found)
		return -ENOMEM;
	rcu_read_lock();
	for_each_process(process) {
		memset(&one, 0, sizeof(one));
		if (!mm_list_describe(process, &one))
			continue;
		if (count < list->capacity)
			found[count] = one;
		count++;
	}
	rcu_read_unlock();
	list->count = count;
	if (copy_to_user(u64_to_user_ptr(list->buffer), found,
			 min(count, list->capacity) * sizeof(*found)))
		error = -EFAULT;
	kvfree(found);
	return error;
}
