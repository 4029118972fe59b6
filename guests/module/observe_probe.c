// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * kretprobes on memtype_reserve() and memtype_free(), which have these names
 * since 5.6. Every mapping whose type the kernel keeps passes through them:
 * ioremap, memremap, set_memory and set_pages_array (RAM as well: the page
 * flags are set inside), arch_io_reserve_memtype_wc, remap_pfn_range of a
 * whole VMA, and until 6.12 fork, which reserves a second time.
 *
 * What the kernel keeps no type of can't be seen here: remap_pfn_range of a
 * part of a VMA or of RAM, vmf_insert_pfn, and mappings of the direct map.
 */
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/major.h>
#include <linux/mman.h>
#include <linux/mm_types.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <asm/pgtable_types.h>
#include <asm/processor.h>
#include <asm/unistd.h>

#include "compat.h"
#include "observe_probe.h"

#define RING_SIZE 512
#define DEEPEST_TRACE 32
/* Calls under way at once: one per CPU and nested ones, with room. */
#define MOST_CALLS 64

/* "Video RAM": in the range that memtype_reserve() answers without keeping anything. */
#define UNTRACKED_PAGE 0xa0000

static DEFINE_RAW_SPINLOCK(ring_lock);
static struct probe_event ring[RING_SIZE];
static u64 ring_written, ring_read, ring_lost;
/*
 * When each call under way was entered; 0 where there is none. Each of the two probes has room
 * for so many.
 */
static u64 under_way[2 * MOST_CALLS];
/* Counts what is entered and what returns. */
static u64 ring_clock;
static void (*event_arrived)(void);

/* The program of the agent's user half: what it asks for is asked, not observed. */
static const struct inode *agent_program;
static u64 agent_exec_id;

static struct task_struct *tested_by;
static unsigned int tests_passed;	/* a bit for each probe */
/* Of one probe without the other nothing is recorded: what nobody sees go would stay for ever. */
static bool both_work;

static bool probe_is_agent(void)
{
	const struct file *program;

	if (current->flags & PF_KTHREAD)
		return false;
	/*
	 * Exiting: the address space, whose mappings are going, is no longer known. Until a task
	 * calls exec() it counts as many of them as the task it was forked from.
	 */
	if (!current->mm)
		return current->self_exec_id == agent_exec_id &&
		       (is_global_init(current) || current->parent_exec_id == agent_exec_id);
	program = rcu_dereference_raw(current->mm->exe_file);
	return program && file_inode(program) == agent_program;
}

/*
 * The file that the current task is mapping, if it is in mmap(): the system call's argument says
 * which. What reserves a type may not be called by the driver (from 6.16 on), or be what it ends
 * with, so that the stack doesn't name it.
 */
static const struct file *probe_mapped_file(void)
{
	const struct pt_regs *regs;
	const struct fdtable *table;
	unsigned int number;

	if (current->flags & PF_KTHREAD || !current->mm || !current->files)
		return NULL;
	regs = task_pt_regs(current);
	if (regs->orig_ax != __NR_mmap || regs->r10 & MAP_ANONYMOUS)
		return NULL;
	/* Preemption is off, which holds up RCU. */
	table = rcu_dereference_raw(current->files->fdt);
	number = regs->r8;
	return number < table->max_fds ? rcu_dereference_raw(table->fd[number]) : NULL;
}

/* A driver's node: neither our own, which asks the verifier itself, nor /dev/mem, for which the agent has. */
static bool probe_is_others_device(const struct file *file)
{
	const struct inode *inode = file ? file_inode(file) : NULL;

	return inode && S_ISCHR(inode->i_mode) && imajor(inode) != MEM_MAJOR &&
	       file->f_op->owner != THIS_MODULE;
}

static void probe_find_handler(struct probe_event *event)
{
	const struct file *file = probe_mapped_file();
	const void *handler = file ? compat_mmap_handler(file->f_op) : NULL;

	if (handler)
		snprintf(event->handler, sizeof(event->handler), "%ps", handler);
}

/*
 * True when the call isn't one to be recorded. What a process of the agent maps of another driver is,
 * but the agent counts it.
 */
static bool probe_not_observed(enum probe_operation operation)
{
	if (current == tested_by)
		tests_passed |= BIT(operation);
	if (!READ_ONCE(both_work))
		return true;
	return probe_is_agent() &&
	       (operation != PROBE_RESERVE || !probe_is_others_device(probe_mapped_file()));
}

static bool probe_begins_with_any(const char *name, const char *const *prefixes, size_t count)
{
	size_t n;

	for (n = 0; n < count; n++)
		if (!strncmp(name, prefixes[n], strlen(prefixes[n])))
			return true;
	return false;
}

/* Functions that map on behalf of somebody: it is their caller that is of interest. */
static bool probe_is_plumbing(const char *name)
{
	/* By their beginnings, since the compiler adds endings of its own (.isra.0, .part.0). */
	static const char *const prefixes[] = {
		"memtype_", "reserve_pfn_range", "track_pfn", "untrack_pfn", "pfnmap_",
		"remap_pfn_range", "vm_iomap_memory", "io_remap_pfn",
		"ioremap", "__ioremap", "generic_ioremap", "iounmap", "memremap", "memunmap",
		"arch_memremap", "pagemap_range", "arch_io_", "io_mapping_", "iomap_create",
		"devm_ioremap", "__devm_ioremap", "devm_memremap", "devm_of_iomap", "of_iomap",
		"pci_iomap", "pcim_iomap", "__pcim_", "pci_ioremap",
		"set_memory_", "_set_memory_", "set_pages_", "_set_pages_", "xlate_dev_mem",
	};

	return probe_begins_with_any(name, prefixes, ARRAY_SIZE(prefixes));
}

static bool probe_maps_for_user(const char *name)
{
	static const char *const prefixes[] = { "remap_pfn_range", "track_pfn_copy" };

	return probe_begins_with_any(name, prefixes, ARRAY_SIZE(prefixes));
}

/* "e1000_probe [e1000]" gives e1000, "hpet_enable" itself. */
static void probe_name_caller(struct probe_event *event, const char *function)
{
	const char *module = strchr(function, '[');

	strscpy(event->name, module ? module + 1 : function, sizeof(event->name));
	event->name[strcspn(event->name, "] ")] = 0;
}

/*
 * Names are looked up at once: of a module that has been unloaded nothing
 * could be said any more.
 */
static void probe_find_caller(struct probe_event *event, const struct pt_regs *regs)
{
	/* In atomic context, but the ring's event under construction is on a small stack already. */
	unsigned long trace[DEEPEST_TRACE];
	char function[MEMTYPE_CALLER_LENGTH];
	unsigned int count = stack_trace_save(trace, ARRAY_SIZE(trace), 0), n;
	bool entered = false;

	for (n = 0; n < count; n++) {
		snprintf(function, sizeof(function), "%ps", (void *)trace[n]);
		/* The trace begins in the probe's own machinery. */
		if (!entered) {
			entered = !strncmp(function, "memtype_", 8) && !strchr(function, '[');
			continue;
		}
		event->user |= probe_maps_for_user(function);
		if (!probe_is_plumbing(function))
			break;
	}
	if (n == count) {
		/* The unwinder gave up: the return address is where the call put it. */
		trace[0] = *(unsigned long *)regs->sp;
		n = 0;
		snprintf(function, sizeof(function), "%ps", (void *)trace[0]);
	}
	/* %pB: of a return address, which may be the first one of the next function. */
	snprintf(event->caller, sizeof(event->caller), "%pB", (void *)trace[n]);
	probe_name_caller(event, function);
}

static u8 probe_encoding(unsigned long mode)
{
	static const u8 encodings[] = {
		[_PAGE_CACHE_MODE_WB] = MEMTYPE_WB,
		[_PAGE_CACHE_MODE_WC] = MEMTYPE_WC,
		[_PAGE_CACHE_MODE_UC_MINUS] = MEMTYPE_UC_MINUS,
		[_PAGE_CACHE_MODE_UC] = MEMTYPE_UC,
		[_PAGE_CACHE_MODE_WT] = MEMTYPE_WT,
		[_PAGE_CACHE_MODE_WP] = MEMTYPE_WP,
	};

	return mode < ARRAY_SIZE(encodings) ? encodings[mode] : MEMTYPE_UC;
}

struct call {
	struct probe_event event;
	unsigned int place;	/* in under_way */
	const enum page_cache_mode *granted;
};

static void probe_event_begin(struct call *call, struct pt_regs *regs,
			      enum probe_operation operation)
{
	call->event = (struct probe_event){
		.operation = operation,
		/* memtype_reserve() takes off what isn't address: set_mce_nospec() passes a decoy. */
		.start = regs_get_kernel_argument(regs, 0) & __PHYSICAL_MASK,
		.end = (regs_get_kernel_argument(regs, 1) - 1) & __PHYSICAL_MASK,
		.pid = task_tgid_nr(current),
	};
	call->event.end++;
	strscpy(call->event.task, current->comm, sizeof(call->event.task));
}

/*
 * Last of all before the function itself runs. Returns what the probe's entry handler does: not 0
 * when the call isn't to be followed, here because there are more than room is for (since 6.7 the
 * kernel rounds maxactive up to a multiple of the CPUs, lib/objpool.c).
 */
static int probe_event_enter(struct call *call)
{
	unsigned long flags;
	bool room;

	raw_spin_lock_irqsave(&ring_lock, flags);
	for (call->place = 0; call->place < ARRAY_SIZE(under_way); call->place++)
		if (!under_way[call->place])
			break;
	room = call->place < ARRAY_SIZE(under_way);
	if (room) {
		call->event.entered = ++ring_clock;
		under_way[call->place] = call->event.entered;
	} else {
		ring_lost++;
	}
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	return !room;
}

static void probe_event_end(struct call *call, struct pt_regs *regs)
{
	struct probe_event *event = &call->event;
	unsigned long flags;

	event->error = (int)regs_return_value(regs);
	raw_spin_lock_irqsave(&ring_lock, flags);
	event->returned = ++ring_clock;
	if (ring_written - ring_read < RING_SIZE)
		ring[ring_written++ % RING_SIZE] = *event;
	else
		ring_lost++;
	under_way[call->place] = 0;
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	event_arrived();
}

static int probe_reserve_entered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	if (probe_not_observed(PROBE_RESERVE))
		return 1;
	probe_event_begin(call, regs, PROBE_RESERVE);
	/* The upper half of an enum's register is anything (System V ABI, "Parameter Passing"). */
	call->event.requested = probe_encoding((u32)regs_get_kernel_argument(regs, 2));
	/* The caller's variable, or NULL when it wants the type it asked for and no other. */
	call->granted = (const enum page_cache_mode *)regs_get_kernel_argument(regs, 3);
	call->event.counted = probe_is_agent();
	probe_find_caller(&call->event, regs);
	probe_find_handler(&call->event);
	return probe_event_enter(call);
}

static int probe_reserve_returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	call->event.granted = call->event.requested;
	if (call->granted && !(int)regs_return_value(regs))
		call->event.granted = probe_encoding(*call->granted);
	probe_event_end(call, regs);
	return 0;
}

static int probe_free_entered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	if (probe_not_observed(PROBE_FREE))
		return 1;
	probe_event_begin(call, regs, PROBE_FREE);
	return probe_event_enter(call);
}

static int probe_free_returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	probe_event_end((struct call *)instance->data, regs);
	return 0;
}

static struct {
	const char *names[2];
	struct kretprobe probe;
	int error;
} probes[MEMTYPE_PROBES] = {
	[PROBE_RESERVE] = {
		.names = { "memtype_reserve" },
		.probe = {
			.entry_handler = probe_reserve_entered,
			.handler = probe_reserve_returned,
			.data_size = sizeof(struct call),
			.maxactive = MOST_CALLS,
		},
	},
	[PROBE_FREE] = {
		/*
		 * gcc 10 makes two functions of 5.10's: the look at pat_enabled(), which it inlines
		 * where memtype.c itself calls, and the rest.
		 */
		.names = { "memtype_free.part.0", "memtype_free" },
		.probe = {
			.entry_handler = probe_free_entered,
			.handler = probe_free_returned,
			.data_size = sizeof(struct call),
			.maxactive = MOST_CALLS,
		},
	},
};

static int probe_attach(struct kretprobe *probe, const char *const names[2])
{
	int error = -ENOENT;
	unsigned int n;

	for (n = 0; n < 2 && names[n] && error; n++) {
		/* A failed registration leaves the address it found. */
		probe->kp.addr = NULL;
		probe->kp.flags = 0;
		probe->kp.symbol_name = names[n];
		error = register_kretprobe(probe);
	}
	return error;
}

/*
 * A registered probe may be dead: /sys/kernel/debug/kprobes/enabled and the
 * sysctl kernel.ftrace_enabled stop all of them without a word. So both
 * functions are called, on a page for which they keep nothing.
 */
static void probe_test_all(void)
{
	tests_passed = 0;
	tested_by = current;
	if (!arch_io_reserve_memtype_wc(UNTRACKED_PAGE, PAGE_SIZE))
		arch_io_free_memtype_wc(UNTRACKED_PAGE, PAGE_SIZE);
	tested_by = NULL;
	WRITE_ONCE(both_work, tests_passed == BIT(MEMTYPE_PROBES) - 1);
}

void probe_start(void (*arrived)(void))
{
	unsigned int n;

	event_arrived = arrived;
	/* Whoever loads the module is the agent's user half. */
	if (current->mm)
		agent_program = file_inode(rcu_dereference_raw(current->mm->exe_file));
	agent_exec_id = current->self_exec_id;
	for (n = 0; n < ARRAY_SIZE(probes); n++)
		probes[n].error = probe_attach(&probes[n].probe, probes[n].names);
	probe_test_all();
	for (n = 0; n < ARRAY_SIZE(probes); n++)
		if (!(tests_passed & BIT(n)))
			pr_notice("memtype: the probe on %s doesn't work (error %d): what others map from now on is not observed\n",
				  probes[n].probe.kp.symbol_name, probes[n].error);
}

void probe_stop(void)
{
	unsigned int n;

	/* Unregistering one whose registration failed oopses on 6.1 and 7.3. */
	for (n = 0; n < ARRAY_SIZE(probes); n++)
		if (!probes[n].error)
			unregister_kretprobe(&probes[n].probe);
}

bool probe_take(struct probe_event *event)
{
	unsigned long flags;
	bool taken = false;

	raw_spin_lock_irqsave(&ring_lock, flags);
	if (ring_read != ring_written) {
		*event = ring[ring_read++ % RING_SIZE];
		taken = true;
	}
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	return taken;
}

/* ring_lock is held. */
static u64 probe_earliest_under_way(void)
{
	u64 earliest = ring_clock + 1;
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(under_way); n++)
		if (under_way[n])
			earliest = min(earliest, under_way[n]);
	return earliest;
}

u64 probe_now(void)
{
	unsigned long flags;
	u64 now;

	raw_spin_lock_irqsave(&ring_lock, flags);
	now = ring_clock + 1;
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	return now;
}

u64 probe_under_way(void)
{
	unsigned long flags;
	u64 earliest;

	raw_spin_lock_irqsave(&ring_lock, flags);
	earliest = probe_earliest_under_way();
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	return earliest;
}

int probe_sequence(u64 *sequence)
{
	unsigned long flags;
	bool busy;

	raw_spin_lock_irqsave(&ring_lock, flags);
	*sequence = ring_written + ring_lost;
	busy = probe_earliest_under_way() <= ring_clock;
	raw_spin_unlock_irqrestore(&ring_lock, flags);
	return busy ? -EAGAIN : 0;
}

u64 probe_missed(void)
{
	u64 missed = READ_ONCE(ring_lost);
	unsigned int n;

	/* More calls at once than MOST_CALLS, and calls made inside another probe's handler. */
	for (n = 0; n < ARRAY_SIZE(probes); n++)
		missed += probes[n].probe.nmissed + probes[n].probe.kp.nmissed;
	return missed;
}

void probe_status(struct memtype_probe status[MEMTYPE_PROBES])
{
	unsigned int n;

	probe_test_all();
	for (n = 0; n < ARRAY_SIZE(probes); n++) {
		strscpy(status[n].function, probes[n].probe.kp.symbol_name,
			sizeof(status[n].function));
		status[n].error = -probes[n].error;
		status[n].armed = !!(tests_passed & BIT(n));
	}
}

static int probe_arm_one(struct kretprobe *probe, bool armed)
{
	return armed ? enable_kretprobe(probe) : disable_kretprobe(probe);
}

int probe_set_armed(bool armed)
{
	unsigned int n, changed = 0;
	int error = 0;

	for (n = 0; n < ARRAY_SIZE(probes) && !error; n++) {
		if (probes[n].error || armed == !kprobe_disabled(&probes[n].probe.kp))
			continue;
		error = probe_arm_one(&probes[n].probe, armed);
		if (!error)
			changed |= BIT(n);
	}
	for (n = 0; n < ARRAY_SIZE(probes) && error; n++)
		if (changed & BIT(n) && probe_arm_one(&probes[n].probe, !armed))
			pr_err("memtype: %s can't be put back: what others map is not observed\n",
			       probes[n].probe.kp.symbol_name);
	/* Where one of them is off, nothing may be recorded. */
	probe_test_all();
	return error;
}
