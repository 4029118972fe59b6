/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the verifier asks of x86, and what the driver operations need of it. */
#ifndef ARCH_X86_H
#define ARCH_X86_H

#include <linux/mm.h>

#include "memtype_uapi.h"
#include "verifier.h"

extern const struct verifier_arch arch_x86;

/*
 * Reads the registers that arch_x86 answers from. For each request from outside, with the lock
 * that serialises the verifier held.
 */
void arch_x86_refresh(void);

/* prot with the cache bits of a type. False when Linux has no name for the type. */
bool arch_x86_protection(unsigned int memtype, pgprot_t *prot);

#endif
