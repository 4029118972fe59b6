// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Debian's kernels have no fault injection (CONFIG_FUNCTION_ERROR_INJECTION is
 * of no use without its list of functions), so this does what
 * kernel/fail_function.c does, for any function that can be probed: a kprobe at
 * its first instruction sends the caller back with another return value. The
 * function's body doesn't run, as if it had failed before it did anything.
 *
 * Which failures a function may return is for the caller to know: NULL where
 * an error is expected as a number is a bug that no kernel has.
 */
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "fault.h"

struct fault {
	struct list_head node;
	struct kprobe probe;
	char function[MEMTYPE_FUNCTION_LENGTH];
	u64 handle;
	unsigned long returns;
	struct pid *pid;	/* held: its number may become another process's */
	int after;
	int times;
	atomic_t calls;		/* by that task */
	atomic_t failed;
};

static DEFINE_MUTEX(fault_lock);
static LIST_HEAD(faults);
static u64 last_handle;

/* What the probed function is left to: it must not touch the return value, nor be traced itself. */
static notrace noinline void fault_just_return(void)
{
	barrier();
}

static int fault_probe_hit(struct kprobe *probe, struct pt_regs *regs)
{
	struct fault *fault = container_of(probe, struct fault, probe);
	int call;

	if (task_tgid(current) != fault->pid)
		return 0;
	call = atomic_inc_return(&fault->calls) - 1;
	if (call < fault->after || call - fault->after >= fault->times)
		return 0;
	atomic_inc(&fault->failed);
	regs_set_return_value(regs, fault->returns);
	regs->ip = (unsigned long)fault_just_return;
	return 1;
}

/*
 * That it is there keeps the probe from being turned into a jump, which could
 * not change where the function returns (Documentation/trace/kprobes.rst,
 * "Changing Execution Path"), 5.10 to 7.3.
 */
static void fault_after_nothing(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

int fault_arm(struct memtype_fault *asked)
{
	struct fault *fault;
	int error;

	asked->function[MEMTYPE_FUNCTION_LENGTH - 1] = 0;
	if (!asked->function[0] || asked->times < 1 || asked->after < 0)
		return -EINVAL;
	fault = kzalloc(sizeof(*fault), GFP_KERNEL);
	if (!fault)
		return -ENOMEM;
	strscpy(fault->function, asked->function, sizeof(fault->function));
	fault->probe.symbol_name = fault->function;
	fault->probe.pre_handler = fault_probe_hit;
	fault->probe.post_handler = fault_after_nothing;
	fault->returns = asked->returns;
	fault->pid = find_get_pid(asked->pid);
	fault->after = asked->after;
	fault->times = asked->times;
	if (!fault->pid) {
		kfree(fault);
		return -ESRCH;
	}
	mutex_lock(&fault_lock);
	/* One that could not be registered must never be unregistered: that oopses on 6.1 and 7.3. */
	error = register_kprobe(&fault->probe);
	if (error) {
		put_pid(fault->pid);
		kfree(fault);
	} else {
		fault->handle = ++last_handle;
		asked->handle = fault->handle;
		list_add_tail(&fault->node, &faults);
	}
	mutex_unlock(&fault_lock);
	/* Why it can't be probed is an answer, not a failure of the call. */
	asked->error = -error;
	return 0;
}

static struct fault *fault_find(u64 handle)
{
	struct fault *fault;

	list_for_each_entry(fault, &faults, node)
		if (fault->handle == handle)
			return fault;
	return NULL;
}

int fault_read(struct memtype_fault *asked)
{
	struct fault *fault;

	mutex_lock(&fault_lock);
	fault = fault_find(asked->handle);
	if (fault) {
		asked->calls = atomic_read(&fault->calls);
		asked->failed = atomic_read(&fault->failed);
	}
	mutex_unlock(&fault_lock);
	return fault ? 0 : -ENOENT;
}

static void fault_end(struct fault *fault)
{
	/* It waits for handlers that run. */
	unregister_kprobe(&fault->probe);
	list_del(&fault->node);
	put_pid(fault->pid);
	kfree(fault);
}

int fault_disarm(u64 handle)
{
	struct fault *fault;

	mutex_lock(&fault_lock);
	fault = fault_find(handle);
	if (fault)
		fault_end(fault);
	mutex_unlock(&fault_lock);
	return fault ? 0 : -ENOENT;
}

void fault_disarm_all(void)
{
	struct fault *fault, *next;

	mutex_lock(&fault_lock);
	list_for_each_entry_safe(fault, next, &faults, node)
		fault_end(fault);
	mutex_unlock(&fault_lock);
}
