// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Mappings of processes. The verifier's records follow the VMAs through
 * open() and close() of vm_operations_struct, which every kernel from 5.10 to
 * 7.3 calls alike:
 *
 *   fork    open(new VMA), in the child's mm, at the same address. Before 6.10
 *           after its page tables were copied, since then before. A fork that
 *           fails on its way closes what it opened when the child's mm goes
 *   split   open(new VMA) while the old one still covers the same addresses;
 *           the old one is trimmed afterwards without another call
 *   mremap  open(new VMA) at the new address, then close(old VMA), split off
 *           first when only a part moves; since 6.17 for each VMA in the range
 *   munmap  a split first where only a part goes, then close(VMA)
 *   exit    close(VMA) for each
 *   exec    likewise, of the old mm
 *
 * so a new VMA takes its addresses away from whatever record of the same mm
 * held them, and a closed one takes its own. The other calls tell nothing more:
 * may_split() (split() before 5.11) is asked whether a split is allowed, not
 * told that it happened, and mremap() comes after the open() of the new VMA,
 * and not at all for a part that stays.
 *
 * VM_PFNMAP or VM_MIXEDMAP, and VM_DONTEXPAND, which every way to map sets here, see
 * to it that a VMA never merges and never grows, and that MREMAP_DONTUNMAP is refused.
 *
 * vm_pgoff is the page frame where our own device is mapped, /dev/mem likewise,
 * sysfs adds the BAR's start (drivers/pci/mmap.c, pci_mmap_resource_range()), and
 * remap_pfn_range() sets it for private mappings. To other drivers it is an offset
 * of their own. What is split or moved keeps it, so that pieces are found by it.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "compat.h"
#include "kill_point.h"
#include "page_table.h"
#include "state.h"
#include "user_mapping.h"

/* How many there are. Each holds a name. */
static atomic_t user_mappings;
/* Under state_lock. */
static LIST_HEAD(all_mappings);

bool user_mapping_any(void)
{
	return atomic_read(&user_mappings);
}

bool user_mapping_of(u64 first, u64 last)
{
	const struct user_piece *piece;
	struct user_mapping *mapping;
	u32 n;

	list_for_each_entry(mapping, &all_mappings, node)
		for (n = 0; n < mapping->piece_count; n++) {
			piece = &mapping->pieces[n];
			if (piece->frame <= last && piece->frame + piece->pages - 1 >= first)
				return true;
		}
	return false;
}

static struct user_mapping *user_mapping_of_vma(struct vm_area_struct *vma)
{
	return container_of(vma->vm_ops, struct user_mapping, operations);
}

bool user_mapping_request(struct vm_area_struct *vma, const struct user_mapping *mapping, u32 number,
			  struct verifier_request *request)
{
	const struct user_piece *piece = &mapping->pieces[number];
	u64 first = max_t(u64, vma->vm_pgoff, piece->offset);
	u64 end = min_t(u64, vma->vm_pgoff + vma_pages(vma), piece->offset + piece->pages);

	if (end <= first)
		return false;
	*request = (struct verifier_request){
		.first = piece->frame + first - piece->offset,
		.pages = end - first,
		.memtype = mapping->memtype,
		.owner = mapping->owner,
		.space = vma->vm_mm,
		.address = vma->vm_start + ((first - vma->vm_pgoff) << PAGE_SHIFT),
		.pid = task_tgid_nr(current),
	};
	return true;
}

/* Returns how many of its pages were counted. */
static u64 user_mapping_forget(const struct verifier_request *request)
{
	return verifier_cut(&state_verifier, request->space, request->address, request->first,
			    request->pages);
}

/* A copy keeps the name its process goes by, which after fork() isn't the one that mapped. */
static bool user_mapping_inherit_owner(struct verifier_record *record, void *data)
{
	struct verifier_request *request = data;

	/* fork() opens the child's VMAs in the parent; all else happens in the VMA's own mm. */
	if (record->space != current->mm)
		return true;
	request->owner = record->owner;
	return false;
}

/* The records of a VMA that has come, of what it shares no address with. */
static void user_mapping_count_vma(struct vm_area_struct *vma, const struct user_mapping *mapping)
{
	struct verifier_request request;
	u32 n;

	for (n = 0; mapping->counted && n < mapping->piece_count; n++) {
		if (!user_mapping_request(vma, mapping, n, &request))
			continue;
		verifier_each(&state_verifier, request.first, request.first + request.pages - 1,
			      user_mapping_inherit_owner, &request);
		user_mapping_forget(&request);
		if (!verifier_adopt(&state_verifier, &request))
			pr_err("memtype: no memory to track a user mapping\n");
	}
}

static void user_mapping_forget_vma(struct vm_area_struct *vma, const struct user_mapping *mapping)
{
	struct verifier_request request;
	u32 n;

	for (n = 0; mapping->counted && n < mapping->piece_count; n++)
		if (user_mapping_request(vma, mapping, n, &request) &&
		    user_mapping_forget(&request) != request.pages)
			pr_err("memtype: a user mapping ended that was not counted in full\n");
}

static void user_mapping_vma_open(struct vm_area_struct *vma)
{
	struct user_mapping *mapping = user_mapping_of_vma(vma);

	kref_get(&mapping->references);
	if (mapping->original && mapping->original->open)
		mapping->original->open(vma);
	mutex_lock(&state_lock);
	user_mapping_count_vma(vma, mapping);
	kill_point_reached(MEMTYPE_KILL_POINT_OPEN);
	mutex_unlock(&state_lock);
}

/*
 * The file holds the module, and is let go of by the kernel's own text, after this has returned:
 * fput() leaves that to the task's way back to user space or out (task_work_add(), 5.10 to 7.3).
 */
void user_mapping_free(struct user_mapping *mapping)
{
	struct file *file = mapping->file;

	mutex_lock(&state_lock);
	list_del(&mapping->node);
	mutex_unlock(&state_lock);
	atomic_dec(&user_mappings);
	kfree(mapping);
	fput(file);
}

static void user_mapping_free_last(struct kref *references)
{
	user_mapping_free(container_of(references, struct user_mapping, references));
}

static void user_mapping_vma_close(struct vm_area_struct *vma)
{
	struct user_mapping *mapping = user_mapping_of_vma(vma);

	mutex_lock(&state_lock);
	user_mapping_forget_vma(vma, mapping);
	kill_point_reached(MEMTYPE_KILL_POINT_CLOSE);
	mutex_unlock(&state_lock);
	if (mapping->original && mapping->original->close)
		mapping->original->close(vma);
	/* Nobody looks at vm_ops after close(); 6.13 on even points them elsewhere. */
	kref_put(&mapping->references, user_mapping_free_last);
}

struct user_mapping *user_mapping_new(struct file *file, struct vm_area_struct *vma,
				      u32 memtype, const struct vm_operations_struct *original,
				      const char *owner)
{
	struct user_mapping *mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);

	if (!mapping)
		return NULL;
	atomic_inc(&user_mappings);
	kref_init(&mapping->references);
	mapping->memtype = memtype;
	mapping->original = original;
	if (original)
		mapping->operations = *original;
	mapping->operations.open = user_mapping_vma_open;
	mapping->operations.close = user_mapping_vma_close;
	mapping->file = get_file(file);
	mutex_lock(&state_lock);
	list_add(&mapping->node, &all_mappings);
	mapping->owner = verifier_owner(&state_verifier, owner);
	mutex_unlock(&state_lock);
	if (!mapping->owner) {
		user_mapping_free(mapping);
		return NULL;
	}
	return mapping;
}

void user_mapping_add_piece(struct user_mapping *mapping, u64 offset, u64 frame, u64 pages)
{
	mutex_lock(&state_lock);
	mapping->pieces[mapping->piece_count++] = (struct user_piece){ offset, frame, pages };
	mutex_unlock(&state_lock);
}

void user_mapping_follow(struct user_mapping *mapping, struct vm_area_struct *vma)
{
	vma->vm_ops = &mapping->operations;
}

int user_mapping_adopt(struct file *file, const struct memtype_address *range)
{
	struct mm_struct *mm = current->mm;
	u64 frame = range->start >> PAGE_SHIFT;
	struct user_mapping *mapping;
	struct verifier_request asked;
	struct verifier_record *record;
	struct vm_area_struct *vma;
	int error = -EFAULT;

	if (range->memtype >= VERIFIER_MEMTYPES)
		return -EINVAL;
	mmap_write_lock(mm);
	vma = find_vma(mm, range->address);
	if (!vma || vma->vm_start != range->address || vma_pages(vma) != range->pages ||
	    !(vma->vm_flags & VM_PFNMAP))
		goto unlock;
	/* Ours already: its close() would call itself. */
	error = -EBUSY;
	if (vma->vm_ops && vma->vm_ops->open == user_mapping_vma_open)
		goto unlock;
	error = -ENOMEM;
	mapping = user_mapping_new(file, vma, range->memtype, vma->vm_ops, range->owner);
	if (!mapping)
		goto unlock;
	user_mapping_add_piece(mapping, vma->vm_pgoff, frame, range->pages);
	mapping->counted = true;
	user_mapping_request(vma, mapping, 0, &asked);
	mutex_lock(&state_lock);
	record = verifier_adopt(&state_verifier, &asked);
	mutex_unlock(&state_lock);
	if (!record) {
		user_mapping_free(mapping);
		goto unlock;
	}
	/* Faults look at vm_ops with the VMA's own lock alone. */
	compat_vma_start_write(vma);
	user_mapping_follow(mapping, vma);
	error = 0;
unlock:
	mmap_write_unlock(mm);
	return error;
}

int user_mapping_read(struct memtype_address *range)
{
	struct mm_struct *mm = current->mm;
	u64 end = range->address + range->pages * PAGE_SIZE;

	if (offset_in_page(range->address) || range->pages > U32_MAX ||
	    range->address >= TASK_SIZE || end > TASK_SIZE)
		return -EINVAL;
	mmap_write_lock(mm);
	page_table_read(range->address, range->pages, &range->page_table);
	mmap_write_unlock(mm);
	return 0;
}

static bool user_mapping_rename_record(struct verifier_record *record, void *data)
{
	const struct verifier_owner *owner = data;

	if (record->space == current->mm) {
		record->owner = owner;
		record->pid = task_tgid_nr(current);
	}
	return true;
}

/* After fork() the child's records still carry its parent's name and pid. */
int user_mapping_set_owner(const char *name)
{
	const struct verifier_owner *owner;

	mutex_lock(&state_lock);
	owner = verifier_owner(&state_verifier, name);
	if (owner)
		verifier_each(&state_verifier, 0, U64_MAX, user_mapping_rename_record,
			      (void *)owner);
	mutex_unlock(&state_lock);
	return owner ? 0 : -ENOMEM;
}
