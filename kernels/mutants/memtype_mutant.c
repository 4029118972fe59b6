// SPDX-License-Identifier: GPL-2.0
/*
 * Planted by "memtype mutate": switches on one of the faults in this kernel, or
 * none. Its name is written to memtype_mutant in debugfs; for a fault that acts
 * before user space, it is the parameter memtype_mutant= of the command line.
 */
#include <linux/cache.h>
#include <linux/debugfs.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/memtype_mutant.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define LONGEST 64

static const char *const memtype_mutant_names[] = {
#include "memtype_mutant_names.h"
};

/* Its number is the place of its name in the list, 0 for none. */
unsigned int memtype_mutant __read_mostly;

static int memtype_mutant_switch(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(memtype_mutant_names); i++) {
		if (strcmp(name, memtype_mutant_names[i]) == 0) {
			WRITE_ONCE(memtype_mutant, i);
			return 0;
		}
	}
	return -EINVAL;
}

static int __init memtype_mutant_parameter(char *name)
{
	return name ? memtype_mutant_switch(name) : -EINVAL;
}
early_param("memtype_mutant", memtype_mutant_parameter);

static ssize_t memtype_mutant_write(struct file *file, const char __user *text,
				    size_t length, loff_t *position)
{
	char name[LONGEST];
	int error;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, length))
		return -EFAULT;
	name[length] = '\0';
	error = memtype_mutant_switch(strim(name));
	return error ? error : length;
}

static ssize_t memtype_mutant_read(struct file *file, char __user *text,
				   size_t length, loff_t *position)
{
	const char *name = memtype_mutant_names[READ_ONCE(memtype_mutant)];

	return simple_read_from_buffer(text, length, position, name,
				       strlen(name));
}

static const struct file_operations memtype_mutant_file = {
	.open = simple_open,
	.read = memtype_mutant_read,
	.write = memtype_mutant_write,
	.llseek = default_llseek,
};

static int __init memtype_mutant_init(void)
{
	debugfs_create_file("memtype_mutant", 0600, NULL, NULL,
			    &memtype_mutant_file);
	return 0;
}
late_initcall(memtype_mutant_init);
