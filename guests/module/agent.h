/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the files of the module share: one verifier, one lock, one policy. */
#ifndef AGENT_H
#define AGENT_H

#include <linux/mm.h>
#include <linux/mutex.h>

#include "memtype_uapi.h"
#include "verifier.h"

struct file;

/*
 * Guards the verifier and the handles. Taken inside the mmap lock, which
 * vm_operations hold when they call: never touch user memory under it.
 */
extern struct mutex memtype_lock;
extern struct verifier memtype_verifier;
extern bool memtype_enforce;

void memtype_fill_record(struct memtype_record *to, const struct verifier_record *from);
void memtype_fill_verdict(struct memtype_verdict *to, const struct verifier_verdict *from);

/* driver_operations.c: kernel mappings, each with a handle. */
int driver_map(struct memtype_request *request);
int driver_release(u64 handle);
int driver_read(u64 handle, struct memtype_page_table *table);
int driver_allocate_ram(struct memtype_ram *ram);
/* RAM that can't be given back as it came is kept. */
void driver_release_all(void);
int driver_statistics(struct memtype_statistics *statistics);

/* user_mmap.c: the device as one whose memory processes map. */
int user_mapping_open(struct file *file);
int user_mapping_close(struct file *file);
int user_mapping_prepare(struct file *file, const struct memtype_prepare *next);
int user_mapping_result(struct file *file, struct memtype_request *request);
int user_mapping_mmap(struct file *file, struct vm_area_struct *vma);
int user_mapping_zap(struct file *file, const struct memtype_range *range);
void user_mapping_kill_at(u32 moment);

/* user_mapping.c: mappings of processes, which live and die with their VMAs. */
bool user_mapping_any(void);
/* May a process have some of these pages mapped through us? memtype_lock is held. */
bool user_mapping_of(u64 first, u64 last);
int user_mapping_adopt(struct file *file, const struct memtype_address *range);
int user_mapping_read(struct memtype_address *range);
int user_mapping_set_owner(const char *name);

#endif
