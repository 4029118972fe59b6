/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Pages of RAM in a process, by their struct pages instead of their numbers. */
#ifndef USER_PAGES_H
#define USER_PAGES_H

#include "memtype_uapi.h"

struct user_piece;
struct vm_area_struct;

/* Is it one of the methods that take struct pages? */
bool user_pages_method(u32 map_method);
/* Maps a piece with the protection of the VMA. Negative errno: EINVAL for memory without struct pages. */
int user_pages_map(struct vm_area_struct *vma, const struct user_piece *piece, u32 map_method);

#endif
