// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The verifier's questions, answered for x86. */
#include <linux/ioport.h>
#include <linux/smp.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/pgtable_types.h>
#include <asm/processor.h>

#include "arch_x86.h"
#include "mtrr.h"
#include "smram.h"

/* What the PCD and PWT bits mean on a CPU without PAT: WB WT UC- UC. */
#define PAT_AT_RESET 0x0007040600070406ULL

/* As of the last refresh. */
static struct memtype_registers registers;

/*
 * Linux, too, keeps a copy of its registers and asks that (arch/x86/kernel/cpu/mtrr/generic.c,
 * mtrr_state). Ours is read anew for each request, because a host may change them in between.
 */
void arch_x86_refresh(void)
{
	mtrr_read_here(&registers);
}

static u64 arch_x86_last_pfn(void)
{
	return (1ULL << (boot_cpu_data.x86_phys_bits - PAGE_SHIFT)) - 1;
}

static bool arch_x86_possible(unsigned int memtype)
{
	u64 pat = registers.has_pat ? registers.pat : PAT_AT_RESET;
	unsigned int slot;

	for (slot = 0; slot < 8; slot++)
		if ((pat >> (8 * slot) & 0xff) == memtype)
			return true;
	return false;
}

static bool arch_x86_any_ram(u64 first, u64 last)
{
	return region_intersects(first << PAGE_SHIFT, (last - first + 1) << PAGE_SHIFT,
				 IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) != REGION_DISJOINT;
}

/*
 * The MTRR types that make UC- write-combining. Write-protected does so by Intel's table and not
 * by AMD's (SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent
 * Processor Families"; APM vol. 2, "Combined Effect of MTRRs and PAT").
 */
static u32 arch_x86_combining(void)
{
	bool amd = boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
		   boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;

	return BIT(MEMTYPE_WC) | (amd ? 0 : BIT(MEMTYPE_WP));
}

static unsigned int arch_x86_hazards(u64 first, u64 last, unsigned int memtype)
{
	bool uncached = memtype == MEMTYPE_UC || memtype == MEMTYPE_UC_MINUS;
	struct mtrr_summary mtrr;
	unsigned int found = 0;

	/* Without MTRRs the page table has the only word. */
	if (!registers.has_mtrr)
		return 0;
	mtrr = mtrr_summarise(&registers, first << PAGE_SHIFT, (last << PAGE_SHIFT) + PAGE_SIZE - 1);
	/* The thread's painful case: somebody else, SMM say, may use the same memory write-back. */
	if (uncached && mtrr.types & BIT(MEMTYPE_WB))
		found |= MEMTYPE_HAZARD_MTRR_WB_UNCACHED;
	if (memtype == MEMTYPE_UC_MINUS && mtrr.types & arch_x86_combining())
		found |= MEMTYPE_HAZARD_MTRR_UNCACHED_COMBINES;
	if (mtrr.splits_large_page)
		found |= MEMTYPE_HAZARD_MTRR_MIXED;
	if (mtrr.undefined)
		found |= MEMTYPE_HAZARD_MTRR_UNDEFINED;
	return found;
}

/*
 * Linux: what remap_pfn_range() gives untracked device memory, arch/x86/mm/pat/memtype.c,
 * lookup_memtype().
 */
static unsigned int arch_x86_default_memtype(u64 first, u64 last)
{
	u32 firmware = smram_memtypes(first, last);

	/* Others would be refused. The lowest is the very type that SMM uses. */
	if (firmware != SMRAM_NONE && firmware)
		return __ffs(firmware);
	return arch_x86_any_ram(first, last) ? MEMTYPE_WB : MEMTYPE_UC_MINUS;
}

const struct verifier_arch arch_x86 = {
	.last_pfn = arch_x86_last_pfn,
	.possible = arch_x86_possible,
	.any_ram = arch_x86_any_ram,
	.firmware_memtypes = smram_memtypes,
	.hazards = arch_x86_hazards,
	.ram_memtype = MEMTYPE_WB,
	.default_memtype = arch_x86_default_memtype,
};

bool arch_x86_protection(unsigned int memtype, pgprot_t *prot)
{
	enum page_cache_mode mode;

	switch (memtype) {
	case MEMTYPE_WB:
		mode = _PAGE_CACHE_MODE_WB;
		break;
	case MEMTYPE_WC:
		mode = _PAGE_CACHE_MODE_WC;
		break;
	case MEMTYPE_UC_MINUS:
		mode = _PAGE_CACHE_MODE_UC_MINUS;
		break;
	case MEMTYPE_UC:
		mode = _PAGE_CACHE_MODE_UC;
		break;
	case MEMTYPE_WT:
		mode = _PAGE_CACHE_MODE_WT;
		break;
	case MEMTYPE_WP:
		mode = _PAGE_CACHE_MODE_WP;
		break;
	default:
		return false;
	}
	*prot = __pgprot((pgprot_val(*prot) & ~(unsigned long)_PAGE_CACHE_MASK) |
			 cachemode2protval(mode));
	return true;
}
