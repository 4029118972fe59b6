// SPDX-License-Identifier: GPL-2.0 OR MIT
/* See test_device.h. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "allowed.h"
#include "test_device.h"

/* include/linux/ioport.h */
#define RESOURCE_MEMORY 0x200
#define RESOURCE_PREFETCH 0x2000

struct test_device test_device;

/* Whose memory is the console's, from the firmware on: nothing for tests that nobody named it for. */
static bool test_device_is_vga(const char *address)
{
	char path[300];
	unsigned int class = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", address);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%x", &class) != 1)
			class = 0;
		fclose(file);
	}
	return class >> 8 == 0x0300;
}

/* The largest prefetchable BAR so far; or the one that this address is in. */
static void test_device_find_bar(const char *address, const uint64_t *wanted,
				 struct test_device *found)
{
	unsigned long long start, end, flags;
	char path[300];
	unsigned int bar;
	FILE *file;

	if (!wanted && test_device_is_vga(address))
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", address);
	file = fopen(path, "re");
	if (!file)
		return;
	for (bar = 0; bar < 6 && fscanf(file, "%llx %llx %llx", &start, &end, &flags) == 3; bar++)
		if (flags & RESOURCE_MEMORY &&
		    (wanted ? *wanted >= start && *wanted <= end :
			      flags & RESOURCE_PREFETCH && end - start + 1 > found->size)) {
			snprintf(found->address, sizeof(found->address), "%.31s", address);
			found->bar = bar;
			found->start = start;
			found->size = end - start + 1;
		}
	fclose(file);
}

/*
 * The device that every guest of ours has for tests: QEMU's bochs-display (1234:1111), which is no
 * VGA. A test may give its guest others whose BARs are larger.
 */
static bool test_device_is_ours(const char *address)
{
	unsigned int vendor = 0, device = 0;
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/modalias", address);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "pci:v%8xd%8x", &vendor, &device) != 2)
		vendor = 0;
	fclose(file);
	return vendor == 0x1234 && device == 0x1111 && !test_device_is_vga(address);
}

/* By address, so that of two such devices it is the first. */
static void test_device_find_ours(struct test_device *found)
{
	struct dirent **entries;
	int count = scandir("/sys/bus/pci/devices", &entries, NULL, alphasort), n;

	for (n = 0; n < count; n++) {
		if (!found->size && test_device_is_ours(entries[n]->d_name))
			test_device_find_bar(entries[n]->d_name, NULL, found);
		free(entries[n]);
	}
	if (count >= 0)
		free(entries);
}

bool test_device_find(struct test_device *found)
{
	uint64_t start = 0;
	bool restricted = allowed_start(&start);
	struct dirent *entry;
	DIR *directory;

	memset(found, 0, sizeof(*found));
	if (!restricted)
		test_device_find_ours(found);
	if (found->size)
		return true;
	directory = opendir("/sys/bus/pci/devices");
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			test_device_find_bar(entry->d_name, restricted ? &start : NULL, found);
	if (directory)
		closedir(directory);
	return found->size;
}

bool test_device_holding(uint64_t start, struct test_device *found)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	struct dirent *entry;

	memset(found, 0, sizeof(*found));
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			test_device_find_bar(entry->d_name, &start, found);
	if (directory)
		closedir(directory);
	return found->size;
}
