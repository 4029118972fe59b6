/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The mappings a process has, and where it puts them. */
#ifndef PROCESS_MAPPINGS_H
#define PROCESS_MAPPINGS_H

#include "agent.h"

#define MOST_MAPPINGS 1024

struct mapping {
	uint64_t handle;
	char *address;
	uint64_t pages;
};

/* Handles count them, those of the image before exec() included. */
extern uint64_t mappings_made;

/* PROT_ bits of a request, both when it names none. */
int process_mapping_protection(const struct request *request);
/*
 * Where the next mapping shall go. No address is used twice, so that what is left of an old
 * mapping can't come to mean pages of a new one that the kernel put into its hole.
 */
void *process_mapping_fresh_address(void);
/*
 * Maps what is asked for of a file, which is closed then; less than 0 for none. Returns MAP_FAILED, and
 * the kernel's error in what was asked, when the kernel refuses.
 */
void *process_mapping_of_file(const struct request *request, struct memtype_request *asked, int file,
			      off_t offset, int flags);
/* Returns the handle, 0 when there is no room. */
uint64_t process_mapping_add(void *address, uint64_t pages);
void process_mapping_drop(struct mapping *mapping);
/* A part of a mapping: [offset, offset + pages), all of it when neither is given. */
struct mapping *process_mapping_find_part(const struct request *request, char **address,
					  uint64_t *pages, struct buffer *reply);
void process_mapping_page_table(const void *address, uint64_t pages,
				struct memtype_page_table *table);

/* process_map.c */
void process_map_run(const struct request *request, struct buffer *reply);

/* process_map_device.c */
void process_map_device_run(const struct request *request, struct buffer *reply);

#endif
