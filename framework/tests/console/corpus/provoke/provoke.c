// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes the kernel report something: insmod provoke.ko what=NAME.
 *
 * Only for guests that are thrown away: it breaks the kernel it is loaded into.
 */
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/msr.h>

#ifdef CONFIG_KFENCE
#include <linux/kfence.h>
#else
/* 5.10 has no such header yet. */
static inline bool is_kfence_address(const void *address)
{
	return false;
}
#endif

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "Name of what is to be reported");

static int seconds = 5;
module_param(seconds, int, 0);
MODULE_PARM_DESC(seconds, "How long the lockups last");

/* Where the compiler can't see what is in them. */
static long *volatile null_pointer;
static void (*volatile null_function)(void);
static volatile long zero;
static volatile size_t too_long = 4096;
static volatile bool forever = true;

static noinline void provoke_bug(void)
{
	BUG();
}

static noinline void provoke_warn(void)
{
	WARN(1, "provoked with %d", 42);
}

static noinline void provoke_warn_on(void)
{
	WARN_ON(forever);
}

static noinline void provoke_warn_once(void)
{
	WARN_ONCE(forever, "provoked once\n");
}

static noinline void provoke_warn_once_twice(void)
{
	provoke_warn_once();
	provoke_warn_once();
}

static noinline void provoke_two_warnings(void)
{
	provoke_warn();
	provoke_warn_on();
}

static void warn_here(void *unused)
{
	WARN(1, "on CPU %d\n", smp_processor_id());
}

static noinline void provoke_warn_on_each_cpu(void)
{
	on_each_cpu(warn_here, NULL, 1);
}

static noinline void provoke_null_read(void)
{
	pr_info("%ld\n", *null_pointer);
}

static noinline void provoke_null_write(void)
{
	null_pointer[2] = 1;
}

static noinline void provoke_null_exec(void)
{
	null_function();
	/* Not a tail call, so that it is in the trace. */
	barrier();
}

static noinline void provoke_page_fault_read(void)
{
	long *unmapped = (long *)0xffffeb0000000000;

	pr_info("%ld\n", READ_ONCE(*unmapped));
}

static noinline void provoke_page_fault_write(void)
{
	/* Code is read-only. */
	WRITE_ONCE(*(long *)provoke_page_fault_write, 0);
}

static noinline void provoke_page_fault_exec(void)
{
	static u8 data[] = { 0xc3 };

	/* The heap is not executable. */
	null_function = kmemdup(data, sizeof(data), GFP_KERNEL);
	null_function();
	barrier();
}

static noinline void provoke_divide(void)
{
	pr_info("%ld\n", 42 / zero);
}

static noinline void provoke_invalid_opcode(void)
{
	/* The same instruction as BUG(), but not in the kernel's table of them. */
	asm volatile("ud2");
}

static noinline void provoke_breakpoint(void)
{
	asm volatile("int3");
}

static noinline void provoke_general_protection(void)
{
	long *not_canonical = (long *)0xdead000000000000;

	pr_info("%ld\n", READ_ONCE(*not_canonical));
}

static noinline int recurse(int depth)
{
	volatile char frame[512];

	frame[0] = depth;
	if (forever)
		recurse(depth + 1);
	return frame[0];
}

static noinline void provoke_stack_overflow(void)
{
	recurse(0);
}

static noinline void provoke_stack_protector(void)
{
	char frame[16];

	char *end = frame + sizeof(frame);

	/* Past the canary and the return address. */
	OPTIMIZER_HIDE_VAR(end);
	memset(end, 0x55, 32);
	barrier_data(frame);
}

static noinline void provoke_list_del(void)
{
	LIST_HEAD(head);
	struct list_head *entry = kzalloc(sizeof(*entry), GFP_KERNEL);

	list_add(entry, &head);
	list_del(entry);
	list_del(entry);
}

static noinline void provoke_list_add(void)
{
	LIST_HEAD(head);
	struct list_head entry;

	head.next = &entry;
	list_add(&entry, &head);
}

static noinline void provoke_panic(void)
{
	panic("provoked with %d", 42);
}

static void grace_period_ended(struct rcu_head *unused)
{
}

static noinline void spin(void)
{
	static struct rcu_head head;
	unsigned long end = jiffies + seconds * HZ;

	/* Begins the grace period that is held up. */
	call_rcu(&head, grace_period_ended);
	while (time_before(jiffies, end))
		cpu_relax();
}

static noinline void provoke_lockup(void)
{
	preempt_disable();
	spin();
	preempt_enable();
}

static noinline void provoke_rcu_reader(void)
{
	rcu_read_lock();
	spin();
	rcu_read_unlock();
}

static int sleep_for_ever(void *unused)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule();
	return 0;
}

static noinline void provoke_hung_task(void)
{
	kthread_run(sleep_for_ever, NULL, "provoked");
}

static noinline void provoke_page_allocation(void)
{
	/* Until none is left; such an order is not worth killing for. */
	while (alloc_pages(GFP_KERNEL, 9))
		;
}

static noinline void provoke_atomic_allocation(void)
{
	while (alloc_pages(GFP_ATOMIC, 0))
		;
}

static noinline void provoke_scheduling_while_atomic(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

static noinline void provoke_usercopy_exposure(void)
{
	char *from = kzalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(from);
	if (copy_to_user((void __user *)PAGE_SIZE, from, too_long))
		pr_info("copy_to_user() failed\n");
}

static noinline void provoke_usercopy_overwrite(void)
{
	char *to = kzalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(to);
	if (copy_from_user(to, (void __user *)PAGE_SIZE, too_long))
		pr_info("copy_from_user() failed\n");
}

static struct fortified {
	char first[8], second[8];
} fortified;

static noinline void provoke_fortify(void)
{
	memset(fortified.first, 0x55, too_long);
}

static noinline void provoke_refcount_underflow(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	if (refcount_dec_and_test(&count))
		pr_info("zero\n");
}

static noinline void provoke_refcount_increment(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static noinline void provoke_slab_overflow(void)
{
	char *object = kzalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(object);
	object[64] = 1;
	kfree(object);
}

static noinline void provoke_slab_use_after_free(void)
{
	char *object = kzalloc(64, GFP_KERNEL);
	int n;

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	object[20] = 1;
	/* Found when it is handed out again. */
	for (n = 0; n < 128; n++) {
		object = kmalloc(64, GFP_KERNEL);
		OPTIMIZER_HIDE_VAR(object);
	}
}

static noinline void provoke_slab_double_free(void)
{
	char *object = kzalloc(64, GFP_KERNEL);

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	kfree(object);
}

static noinline void provoke_bad_page(void)
{
	/* Larger than what the lists of each CPU hold, where pages aren't looked at. */
	struct page *page = alloc_pages(GFP_KERNEL, 5);

	page->mapping = (void *)0x55aa0;
	__free_pages(page, 5);
}

static void work_that_leaks(struct work_struct *work)
{
	preempt_disable();
}

static DECLARE_WORK(leaking, work_that_leaks);

static noinline void provoke_workqueue_leak(void)
{
	schedule_work(&leaking);
	flush_work(&leaking);
}

static void write_null(struct timer_list *unused)
{
	*null_pointer = 1;
}

static DEFINE_TIMER(timer, write_null);

static noinline void provoke_null_in_interrupt(void)
{
	mod_timer(&timer, jiffies + 1);
	msleep(200);
}

static int thread_of_null(void *unused)
{
	*null_pointer = 1;
	return 0;
}

static noinline void provoke_null_in_thread(void)
{
	kthread_run(thread_of_null, NULL, "provoked");
	msleep(200);
}

static noinline void provoke_three_oopses(void)
{
	int n;

	for (n = 0; n < 3; n++)
		provoke_null_in_thread();
}

static noinline void provoke_msr(void)
{
	/* IA32_PKRS, upper half reserved. QEMU 7.2's TCG ignores MSRs that it doesn't know. */
	wrmsr(0x6e1, 0, 1);
}

static noinline void provoke_kfence(void)
{
	unsigned long end = jiffies + seconds * HZ;
	char *object;

	/* Every so often (kfence.sample_interval=) an object is a guarded one. */
	do {
		object = kmalloc(64, GFP_KERNEL);
		kfree(object);
		OPTIMIZER_HIDE_VAR(object);
		if (is_kfence_address(object)) {
			WRITE_ONCE(*object, 1);
			return;
		}
	} while (time_before(jiffies, end));
	pr_err("provoke: no guarded object in %d s\n", seconds);
}

static noinline void provoke_ubsan(void)
{
	pr_info("%d\n", 1 << too_long);
}

static noinline void provoke_dump_stack(void)
{
	dump_stack();
}

static noinline void provoke_words(void)
{
	pr_warn("WARNING: provoked words, not a report\n");
	pr_err("BUG: provoked words, not a report\n");
	pr_err("Oops: provoked words, not a report\n");
	pr_err("kernel BUG at nowhere\n");
	pr_err("general protection fault: provoked words\n");
	pr_err("RIP: 0010:provoked words\n");
	pr_err("provoked INFO: rcu words about a stall\n");
	pr_err("provoked Kernel panic - not syncing\n");
	pr_err("Call Trace:\n");
	pr_err("ODEBUG: KASAN: provoked words\n");
}

static const struct {
	const char *name;
	void (*provoke)(void);
} provocations[] = {
	{ "bug", provoke_bug },
	{ "warn", provoke_warn },
	{ "warn-on", provoke_warn_on },
	{ "warn-once", provoke_warn_once_twice },
	{ "two-warnings", provoke_two_warnings },
	{ "warn-on-each-cpu", provoke_warn_on_each_cpu },
	{ "null-read", provoke_null_read },
	{ "null-write", provoke_null_write },
	{ "null-exec", provoke_null_exec },
	{ "null-in-interrupt", provoke_null_in_interrupt },
	{ "null-in-thread", provoke_null_in_thread },
	{ "three-oopses", provoke_three_oopses },
	{ "page-fault-read", provoke_page_fault_read },
	{ "page-fault-write", provoke_page_fault_write },
	{ "page-fault-exec", provoke_page_fault_exec },
	{ "divide", provoke_divide },
	{ "invalid-opcode", provoke_invalid_opcode },
	{ "breakpoint", provoke_breakpoint },
	{ "general-protection", provoke_general_protection },
	{ "stack-overflow", provoke_stack_overflow },
	{ "stack-protector", provoke_stack_protector },
	{ "list-del", provoke_list_del },
	{ "list-add", provoke_list_add },
	{ "panic", provoke_panic },
	{ "lockup", provoke_lockup },
	{ "rcu-reader", provoke_rcu_reader },
	{ "hung-task", provoke_hung_task },
	{ "page-allocation", provoke_page_allocation },
	{ "atomic-allocation", provoke_atomic_allocation },
	{ "scheduling-while-atomic", provoke_scheduling_while_atomic },
	{ "usercopy-exposure", provoke_usercopy_exposure },
	{ "usercopy-overwrite", provoke_usercopy_overwrite },
	{ "fortify", provoke_fortify },
	{ "refcount-underflow", provoke_refcount_underflow },
	{ "refcount-increment", provoke_refcount_increment },
	{ "slab-overflow", provoke_slab_overflow },
	{ "slab-use-after-free", provoke_slab_use_after_free },
	{ "slab-double-free", provoke_slab_double_free },
	{ "bad-page", provoke_bad_page },
	{ "workqueue-leak", provoke_workqueue_leak },
	{ "msr", provoke_msr },
	{ "kfence", provoke_kfence },
	{ "ubsan", provoke_ubsan },
	{ "dump-stack", provoke_dump_stack },
	{ "words", provoke_words },
};

static int __init provoke_start(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(provocations); n++)
		if (!strcmp(what, provocations[n].name)) {
			provocations[n].provoke();
			return 0;
		}
	pr_err("provoke: there is no %s\n", what);
	return -EINVAL;
}
module_init(provoke_start);

static void __exit provoke_stop(void)
{
}
module_exit(provoke_stop);

MODULE_DESCRIPTION("Makes the kernel report something, for the corpus of the console classifier");
MODULE_LICENSE("Dual MIT/GPL");
