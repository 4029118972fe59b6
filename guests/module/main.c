// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The kernel half of the agent: /dev/memtype and its calls.
 *
 * Errors: in all files of the module a function that can fail returns 0 or a negative errno, and a
 * field named error holds one. Only in memtype_uapi.h they are positive, as user space has errno;
 * who fills in one of its structs turns the sign.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "allowed.h"
#include "arch_x86.h"
#include "benchmark.h"
#include "driver_operations.h"
#include "fault.h"
#include "kernel_function.h"
#include "kill_point.h"
#include "mm_list.h"
#include "mtrr.h"
#include "observe.h"
#include "observe_seed.h"
#include "smram.h"
#include "state.h"
#include "user_device.h"
#include "user_mapping.h"
#include "user_mmap.h"

static int main_verify(struct memtype_request *request)
{
	struct verifier_request asked = {
		.first = request->start >> PAGE_SHIFT,
		.pages = request->pages,
		.memtype = request->memtype,
		/* Only whether there is an address space matters to a check. */
		.space = request->kind == MEMTYPE_USER ? current->mm : NULL,
	};
	struct verifier_verdict verdict;

	mutex_lock(&state_lock);
	arch_x86_refresh();
	verifier_check(&state_verifier, &asked, &verdict);
	state_fill_verdict(&request->verdict, &verdict);
	request->asked_kernel = !verdict.error || !state_enforce;
	mutex_unlock(&state_lock);
	return 0;
}

static int main_lookup(struct memtype_lookup *lookup)
{
	unsigned int memtype = 0;
	bool in_use = false;

	mutex_lock(&state_lock);
	lookup->error = -verifier_lookup(&state_verifier, lookup->start >> PAGE_SHIFT,
					 lookup->pages, &memtype, &in_use);
	mutex_unlock(&state_lock);
	lookup->memtype = memtype;
	lookup->in_use = in_use;
	return 0;
}

struct listing {
	struct memtype_record *records;
	u32 capacity;
	u32 count;
};

static bool main_list_record(struct verifier_record *record, void *data)
{
	struct listing *listing = data;

	if (listing->count < listing->capacity)
		state_fill_record(&listing->records[listing->count], record);
	listing->count++;
	return true;
}

static int main_tracked(struct memtype_tracked *tracked)
{
	struct listing listing = { .capacity = tracked->capacity };
	u64 first = tracked->start >> PAGE_SHIFT;
	u64 last = tracked->pages ? first + tracked->pages - 1 : U64_MAX;
	int error = 0;

	if (tracked->capacity > 65536)
		return -EINVAL;
	listing.records = kvcalloc(tracked->capacity ?: 1, sizeof(*listing.records), GFP_KERNEL);
	if (!listing.records)
		return -ENOMEM;
	mutex_lock(&state_lock);
	verifier_each(&state_verifier, tracked->pages ? first : 0, last, main_list_record,
		      &listing);
	mutex_unlock(&state_lock);
	tracked->count = listing.count;
	/* Copied without the lock: a page fault may need the mmap lock. */
	if (copy_to_user(u64_to_user_ptr(tracked->buffer), listing.records,
			 min(listing.count, listing.capacity) * sizeof(*listing.records)))
		error = -EFAULT;
	kvfree(listing.records);
	return error;
}

static int main_set_policy(const struct memtype_policy *policy)
{
	mutex_lock(&state_lock);
	state_enforce = policy->enforce;
	state_verifier.one_ioremap = policy->one_ioremap;
	mutex_unlock(&state_lock);
	return 0;
}

/* Whoever makes up names must not fill the memory with them. */
static void main_forget_owners(void)
{
	mutex_lock(&state_lock);
	if (!user_mapping_any())
		verifier_forget_owners(&state_verifier);
	mutex_unlock(&state_lock);
}

/* Nothing that user space wrote where answers go may count as one. */
static void main_forget_answer(struct memtype_request *request)
{
	size_t answer = offsetof(struct memtype_request, verdict);

	memset((char *)request + answer, 0, sizeof(*request) - answer);
}

static int main_dispatch(struct file *file, unsigned int command, void *argument)
{
	struct memtype_request *request = argument;
	struct memtype_handle *handle = argument;
	struct memtype_address *range = argument;
	struct memtype_owner *owner = argument;
	struct memtype_prepare *next = argument;
	struct memtype_kill *kill = argument;

	if (!allowed_command(command, argument))
		return -EPERM;
	switch (command) {
	case MEMTYPE_MAY_USE:
		/* Answered above. */
		return 0;
	case MEMTYPE_VERIFY:
		return main_verify(request);
	case MEMTYPE_MAP:
		/* One page less would be counted than the kernel maps. */
		if (offset_in_page(request->start))
			return -EINVAL;
		main_forget_answer(request);
		request->owner[MEMTYPE_NAME_LENGTH - 1] = 0;
		return driver_map(request);
	case MEMTYPE_RELEASE:
		return driver_release(handle->handle);
	case MEMTYPE_READ_MAPPING:
		return driver_read(handle->handle, &handle->page_table);
	case MEMTYPE_PREPARE:
		if (offset_in_page(next->request.start))
			return -EINVAL;
		main_forget_answer(&next->request);
		next->request.owner[MEMTYPE_NAME_LENGTH - 1] = 0;
		return user_mmap_prepare(file, next);
	case MEMTYPE_RESULT:
		return user_mmap_result(file, request);
	case MEMTYPE_ADOPT:
		range->owner[MEMTYPE_NAME_LENGTH - 1] = 0;
		return user_mapping_adopt(file, range);
	case MEMTYPE_READ_PAGE_TABLE:
		return user_mapping_read(range);
	case MEMTYPE_MAPPED:
		return user_device_mapped(range);
	case MEMTYPE_ZAP:
		return user_mmap_zap(file, argument);
	case MEMTYPE_KILL_AT:
		kill_point_set(kill->kill_point);
		return 0;
	case MEMTYPE_ALLOCATE_RAM:
		return driver_allocate_ram(argument);
	case MEMTYPE_FREE_RAM:
		main_forget_answer(request);
		return driver_free_ram(request);
	case MEMTYPE_TRACKED:
		return main_tracked(argument);
	case MEMTYPE_LOOKUP:
		return main_lookup(argument);
	case MEMTYPE_SET_OWNER:
		owner->owner[MEMTYPE_NAME_LENGTH - 1] = 0;
		return user_mapping_set_owner(owner->owner);
	case MEMTYPE_SET_POLICY:
		return main_set_policy(argument);
	case MEMTYPE_READ_REGISTERS:
		return mtrr_read(argument);
	case MEMTYPE_STATISTICS:
		return driver_statistics(argument);
	case MEMTYPE_SEED:
		return observe_seed(argument);
	case MEMTYPE_OBSERVATION:
		return observe_status(argument);
	case MEMTYPE_OBSERVED:
		return observe_list(argument);
	case MEMTYPE_OBSERVE:
		return observe_set_armed(argument);
	case MEMTYPE_MM_LIST:
		return mm_list_read(argument);
	case MEMTYPE_BENCHMARK:
		/* It keeps a CPU busy for as long as it is told to. */
		return capable(CAP_SYS_ADMIN) ? benchmark_run(argument) : -EPERM;
	case MEMTYPE_FAULT:
		return capable(CAP_SYS_ADMIN) ? fault_arm(argument) : -EPERM;
	case MEMTYPE_FAULT_CALLS:
		return fault_read(argument);
	case MEMTYPE_FAULT_END:
		return capable(CAP_SYS_ADMIN) ?
			fault_disarm(((struct memtype_fault *)argument)->handle) : -EPERM;
	case MEMTYPE_KERNEL_CALL:
		return capable(CAP_SYS_ADMIN) ? kernel_function_call(argument) : -EPERM;
	case MEMTYPE_KERNEL_PAGES:
		return capable(CAP_SYS_ADMIN) ? kernel_function_read_page_table(argument) : -EPERM;
	default:
		return -ENOTTY;
	}
}

static long main_ioctl(struct file *file, unsigned int command, unsigned long pointer)
{
	size_t size = _IOC_SIZE(command);
	void __user *user = (void __user *)pointer;
	void *argument;
	long error;

	/* No answer may be older than what others have mapped. mmap() comes behind MEMTYPE_PREPARE. */
	error = observe_update();
	if (error && command != MEMTYPE_RESET)
		return error;
	if (command == MEMTYPE_RESET) {
		fault_disarm_all();
		driver_release_all();
		kill_point_set(MEMTYPE_KILL_POINT_NEVER);
		observe_forget();
		main_forget_owners();
		return main_set_policy(&(struct memtype_policy){ 0 });
	}
	if (_IOC_TYPE(command) != MEMTYPE_IOC || !size || size > PAGE_SIZE)
		return -ENOTTY;
	argument = kzalloc(size, GFP_KERNEL);
	if (!argument)
		return -ENOMEM;
	error = -EFAULT;
	if (_IOC_DIR(command) & _IOC_WRITE && copy_from_user(argument, user, size))
		goto free;
	error = main_dispatch(file, command, argument);
	if (!error && _IOC_DIR(command) & _IOC_READ && copy_to_user(user, argument, size))
		error = -EFAULT;
free:
	kfree(argument);
	return error;
}

static int main_open(struct inode *inode, struct file *file)
{
	return user_mmap_open(file);
}

static int main_release(struct inode *inode, struct file *file)
{
	return user_mmap_close(file);
}

static const struct file_operations agent_operations = {
	.owner = THIS_MODULE,
	.open = main_open,
	.release = main_release,
	.unlocked_ioctl = main_ioctl,
	.mmap = user_mmap_map,
};

static struct miscdevice agent_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = MEMTYPE_DEVICE,
	.fops = &agent_operations,
};

static int __init main_init(void)
{
	int error = allowed_init();

	if (error)
		return error;
	mtrr_init();
	smram_init();
	arch_x86_refresh();
	verifier_init(&state_verifier, &arch_x86);
	/*
	 * Processes of any user id are part of the tests, but other users of somebody's
	 * machine must not come to its devices through us.
	 */
	agent_device.mode = allowed_everything() ? 0666 : 0600;
	/* Before anybody can ask what it has seen. */
	observe_start();
	error = misc_register(&agent_device);
	if (error) {
		observe_stop();
		verifier_destroy(&state_verifier);
		smram_exit();
	}
	return error;
}

static void __exit main_exit(void)
{
	misc_deregister(&agent_device);
	fault_disarm_all();
	kill_point_set(MEMTYPE_KILL_POINT_NEVER);
	observe_stop();
	driver_release_all();
	verifier_destroy(&state_verifier);
	smram_exit();
}

module_init(main_init);
module_exit(main_exit);

MODULE_DESCRIPTION("Memory type verifier and test agent");
/* kprobes, which observe what other drivers map, are for GPL modules. */
MODULE_LICENSE("Dual MIT/GPL");
