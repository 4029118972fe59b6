/* SPDX-License-Identifier: GPL-2.0 */
/* Planted by "memtype mutate": which of the faults in this kernel is switched on. */
#ifndef _LINUX_MEMTYPE_MUTANT_H
#define _LINUX_MEMTYPE_MUTANT_H

#ifndef __ASSEMBLY__
extern unsigned int memtype_mutant;
#endif

#define MEMTYPE_MUTANT(number) __builtin_expect(memtype_mutant == (number), 0)

#endif
