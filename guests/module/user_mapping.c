// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Mappings of processes. The verifier's records follow the VMAs through
 * open() and close() of vm_operations_struct, which every kernel from 5.10 to
 * 7.3 calls alike:
 *
 *   fork    open(new VMA), in the child's mm, at the same address
 *   split   open(new VMA) while the old one still covers the same addresses;
 *           the old one is trimmed afterwards without another call
 *   mremap  open(new VMA) at the new address, then close(old VMA)
 *   munmap  a split first where only a part goes, then close(VMA)
 *   exit    close(VMA) for each
 *
 * so a new VMA takes its addresses away from whatever record of the same mm
 * held them, and a closed one takes its own. remap_pfn_range() makes the VMA
 * VM_PFNMAP | VM_DONTEXPAND: it never merges and never grows.
 *
 * vm_pgoff is the page frame in all of them: our own device is mapped at the
 * physical address, /dev/mem likewise, sysfs adds the BAR's start
 * (drivers/pci/mmap.c, pci_mmap_resource_range()), and remap_pfn_range() sets
 * it for private mappings.
 */
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "agent.h"
#include "arch_x86.h"
#include "page_table.h"

/* One mmap() and all that became of it. */
struct user_mapping {
	struct kref references;
	struct vm_operations_struct operations;
	const struct vm_operations_struct *original;
	const struct verifier_owner *owner;
	u32 memtype;
};

/* One open of /dev/memtype: what the next mmap() shall ask for, and what came of the last. */
struct user_file {
	struct memtype_request request;
	bool prepared;
};

static struct user_mapping *mapping_of(struct vm_area_struct *vma)
{
	return container_of(vma->vm_ops, struct user_mapping, operations);
}

static struct verifier_request request_for(struct vm_area_struct *vma,
					   const struct user_mapping *mapping)
{
	return (struct verifier_request){
		.first = vma->vm_pgoff,
		.pages = vma_pages(vma),
		.memtype = mapping->memtype,
		.owner = mapping->owner,
		.space = vma->vm_mm,
		.address = vma->vm_start,
		.pid = task_tgid_nr(current),
	};
}

/* Returns how many of its pages were counted. */
static u64 forget(struct vm_area_struct *vma)
{
	return verifier_cut(&memtype_verifier, vma->vm_mm, vma->vm_start, vma->vm_pgoff,
			    vma_pages(vma));
}

/* A split keeps the name its process goes by, which after fork() isn't the one that mapped. */
static bool inherit_owner(struct verifier_record *record, void *data)
{
	struct verifier_request *request = data;

	if (record->space != request->space)
		return true;
	request->owner = record->owner;
	return false;
}

static void vma_open(struct vm_area_struct *vma)
{
	struct user_mapping *mapping = mapping_of(vma);
	struct verifier_request request = request_for(vma, mapping);

	kref_get(&mapping->references);
	__module_get(THIS_MODULE);
	if (mapping->original && mapping->original->open)
		mapping->original->open(vma);
	mutex_lock(&memtype_lock);
	verifier_each(&memtype_verifier, request.first, request.first + request.pages - 1,
		      inherit_owner, &request);
	forget(vma);
	if (!verifier_adopt(&memtype_verifier, &request))
		pr_err("memtype: no memory to track a user mapping\n");
	mutex_unlock(&memtype_lock);
}

static void mapping_free(struct kref *references)
{
	kfree(container_of(references, struct user_mapping, references));
}

static void vma_close(struct vm_area_struct *vma)
{
	struct user_mapping *mapping = mapping_of(vma);

	mutex_lock(&memtype_lock);
	if (forget(vma) != vma_pages(vma))
		pr_err("memtype: a user mapping ended that was not counted in full\n");
	mutex_unlock(&memtype_lock);
	if (mapping->original && mapping->original->close)
		mapping->original->close(vma);
	/* Nobody looks at vm_ops after close(); 6.13 on even points them elsewhere. */
	kref_put(&mapping->references, mapping_free);
	module_put(THIS_MODULE);
}

static struct user_mapping *mapping_new(u32 memtype, const struct vm_operations_struct *original,
					const char *owner)
{
	struct user_mapping *mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);

	if (!mapping)
		return NULL;
	kref_init(&mapping->references);
	mapping->memtype = memtype;
	mapping->original = original;
	if (original)
		mapping->operations = *original;
	mapping->operations.open = vma_open;
	mapping->operations.close = vma_close;
	mutex_lock(&memtype_lock);
	mapping->owner = verifier_owner(&memtype_verifier, owner);
	mutex_unlock(&memtype_lock);
	if (!mapping->owner) {
		kfree(mapping);
		return NULL;
	}
	return mapping;
}

int user_mapping_open(struct file *file)
{
	file->private_data = kzalloc(sizeof(struct user_file), GFP_KERNEL);
	return file->private_data ? 0 : -ENOMEM;
}

int user_mapping_close(struct file *file)
{
	kfree(file->private_data);
	return 0;
}

int user_mapping_prepare(struct file *file, const struct memtype_request *request)
{
	struct user_file *user = file->private_data;

	user->request = *request;
	user->prepared = true;
	return 0;
}

int user_mapping_result(struct file *file, struct memtype_request *request)
{
	struct user_file *user = file->private_data;

	*request = user->request;
	return 0;
}

int user_mapping_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct user_file *user = file->private_data;
	struct memtype_request *request = &user->request;
	struct verifier_verdict verdict;
	struct verifier_request asked;
	struct verifier_record *record;
	struct user_mapping *mapping;
	pgprot_t prot = vma->vm_page_prot;

	if (!user->prepared || request->start >> PAGE_SHIFT != vma->vm_pgoff ||
	    request->pages != vma_pages(vma))
		return -EINVAL;
	user->prepared = false;
	mapping = mapping_new(request->memtype, NULL, request->owner);
	if (!mapping)
		return -ENOMEM;
	asked = request_for(vma, mapping);
	mutex_lock(&memtype_lock);
	record = verifier_track(&memtype_verifier, &asked, &verdict);
	memtype_fill_verdict(&request->verdict, &verdict);
	if (!verdict.error && !record)
		request->kernel_error = ENOMEM;
	else if (verdict.error && memtype_enforce)
		request->kernel_error = verdict.error;
	else if (!arch_x86_protection(request->memtype, &prot))
		request->kernel_error = EINVAL;
	else
		request->asked_kernel = 1;
	if (request->asked_kernel)
		request->kernel_error = -remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff,
							 vma->vm_end - vma->vm_start, prot);
	if (request->kernel_error && record)
		verifier_release(&memtype_verifier, record);
	mutex_unlock(&memtype_lock);
	/* A mapping the verifier refused isn't counted, so nothing has to follow it. */
	if (request->kernel_error || !record) {
		kfree(mapping);
		return -request->kernel_error;
	}
	__module_get(THIS_MODULE);
	vma->vm_ops = &mapping->operations;
	return 0;
}

int user_mapping_adopt(const struct memtype_address *range)
{
	struct mm_struct *mm = current->mm;
	struct user_mapping *mapping;
	struct verifier_request asked;
	struct verifier_record *record;
	struct vm_area_struct *vma;
	int error = -EFAULT;

	mmap_write_lock(mm);
	vma = find_vma(mm, range->address);
	if (!vma || vma->vm_start != range->address || vma_pages(vma) != range->pages ||
	    !(vma->vm_flags & VM_PFNMAP))
		goto unlock;
	/* Ours already: its close() would call itself. */
	error = -EBUSY;
	if (vma->vm_ops && vma->vm_ops->open == vma_open)
		goto unlock;
	error = -ENOMEM;
	mapping = mapping_new(range->memtype, vma->vm_ops, range->owner);
	if (!mapping)
		goto unlock;
	asked = request_for(vma, mapping);
	mutex_lock(&memtype_lock);
	record = verifier_adopt(&memtype_verifier, &asked);
	mutex_unlock(&memtype_lock);
	if (!record) {
		kfree(mapping);
		goto unlock;
	}
	__module_get(THIS_MODULE);
	vma->vm_ops = &mapping->operations;
	error = 0;
unlock:
	mmap_write_unlock(mm);
	return error;
}

int user_mapping_read(struct memtype_address *range)
{
	struct mm_struct *mm = current->mm;
	u64 end = range->address + range->pages * PAGE_SIZE;

	if (offset_in_page(range->address) || range->pages > TASK_SIZE >> PAGE_SHIFT ||
	    range->address >= TASK_SIZE || end > TASK_SIZE)
		return -EINVAL;
	mmap_read_lock(mm);
	page_table_read(range->address, range->pages, &range->page_table);
	mmap_read_unlock(mm);
	return 0;
}

static bool rename_record(struct verifier_record *record, void *data)
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

	mutex_lock(&memtype_lock);
	owner = verifier_owner(&memtype_verifier, name);
	if (owner)
		verifier_each(&memtype_verifier, 0, U64_MAX, rename_record, (void *)owner);
	mutex_unlock(&memtype_lock);
	return owner ? 0 : -ENOMEM;
}
