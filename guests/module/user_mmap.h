/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The device as one whose memory processes map. */
#ifndef USER_MMAP_H
#define USER_MMAP_H

#include <linux/mm_types.h>

#include "memtype_uapi.h"

struct file;
struct vm_area_struct;

int user_mmap_open(struct file *file);
int user_mmap_close(struct file *file);
int user_mmap_prepare(struct file *file, const struct memtype_prepare *next);
int user_mmap_result(struct file *file, struct memtype_request *request);
int user_mmap_map(struct file *file, struct vm_area_struct *vma);
int user_mmap_zap(struct file *file, const struct memtype_range *range);

#endif
