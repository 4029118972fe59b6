// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Reading the MTRRs, and what they say about a range. */
#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/special_insns.h>

#include "mtrr.h"

/* Named here and not taken from asm/mtrr.h: 6.x moved some of them about. */
#define MTRR_CAPABILITY 0xfe
#define MTRR_DEFAULT_TYPE 0x2ff
#define MTRR_PHYSICAL_BASE(n) (0x200 + 2 * (n))
#define IA32_PAT 0x277
#define DEFAULT_FIXED_ENABLED BIT(10)
#define DEFAULT_ENABLED BIT(11)
#define MASK_VALID BIT(11)
#define TYPE_UNDEFINED 0x100u
#define CAPABILITY_SMRR BIT(11)
#define SMRR_PHYSBASE 0x1f2
#define SMRR_PHYSMASK 0x1f3
#define SMRR_ADDRESS 0xfffff000ULL
/* AMD APM vol. 2, "System Configuration Register (SYSCFG)" and "Top-of-Memory Registers". */
#define AMD_SYSCFG 0xc0010010
#define AMD_TOP_MEM 0xc001001a
#define AMD_TOP_MEM2 0xc001001d
#define SYSCFG_FIX_DRAM_MODIFY BIT(19)
#define SYSCFG_TOM2_ENABLE BIT(21)
#define SYSCFG_TOM2_FORCE_WB BIT(22)
#define TOP_ADDRESS GENMASK_ULL(51, 23)
#define FIXED_DRAM 0x18

/* As firmware left them to the CPU on which the module was loaded. */
static struct memtype_registers of_firmware;

static const u32 fixed_msr[MEMTYPE_FIXED_REGISTERS] = {
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
};

/* 6.16 renamed rdmsrl_safe() to rdmsrq_safe(); the form with two halves stayed. */
static u64 mtrr_read_msr(u32 msr)
{
	u32 low, high;

	if (rdmsr_safe(msr, &low, &high))
		return 0;
	return (u64)high << 32 | low;
}

/* False where the CPU has none. Then it reads as 0. */
static bool mtrr_find_msr(u32 msr, u64 *value)
{
	u32 low = 0, high = 0;
	bool found = !rdmsr_safe(msr, &low, &high);

	*value = found ? (u64)high << 32 | low : 0;
	return found;
}

static void mtrr_read_firmware(struct memtype_registers *registers)
{
	bool amd = boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
		   boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;

	registers->has_smrr = registers->mtrr_capability & CAPABILITY_SMRR &&
			      mtrr_find_msr(SMRR_PHYSBASE, &registers->smrr[0]) &&
			      mtrr_find_msr(SMRR_PHYSMASK, &registers->smrr[1]);
	registers->has_amd = amd && mtrr_find_msr(AMD_SYSCFG, &registers->amd_syscfg) &&
			     mtrr_find_msr(AMD_TOP_MEM, &registers->amd_top_mem) &&
			     mtrr_find_msr(AMD_TOP_MEM2, &registers->amd_top_mem2);
}

static u64 mtrr_read_cr4(void)
{
	unsigned long value;

	asm volatile("mov %%cr4, %0" : "=r" (value));
	return value;
}

static unsigned int mtrr_variable_count(const struct memtype_registers *registers)
{
	return min_t(unsigned int, registers->mtrr_capability & 0xff, MEMTYPE_VARIABLE_REGISTERS);
}

static void mtrr_read_own(void *data)
{
	struct memtype_registers *registers = data;
	unsigned int n;

	registers->cr0 = read_cr0();
	registers->cr3 = __read_cr3();
	registers->cr4 = mtrr_read_cr4();
	registers->pat = registers->has_pat ? mtrr_read_msr(IA32_PAT) : 0;
	if (!registers->has_mtrr)
		return;
	registers->mtrr_capability = mtrr_read_msr(MTRR_CAPABILITY);
	registers->mtrr_default_type = mtrr_read_msr(MTRR_DEFAULT_TYPE);
	for (n = 0; n < MEMTYPE_FIXED_REGISTERS; n++)
		registers->mtrr_fixed[n] = mtrr_read_msr(fixed_msr[n]);
	for (n = 0; n < mtrr_variable_count(registers); n++) {
		registers->mtrr_variable[n][0] = mtrr_read_msr(MTRR_PHYSICAL_BASE(n));
		registers->mtrr_variable[n][1] = mtrr_read_msr(MTRR_PHYSICAL_BASE(n) + 1);
	}
}

static void mtrr_read_features(struct memtype_registers *registers, unsigned int cpu)
{
	memset(registers, 0, sizeof(*registers));
	registers->cpu = cpu;
	registers->physical_bits = boot_cpu_data.x86_phys_bits;
	registers->has_mtrr = boot_cpu_has(X86_FEATURE_MTRR);
	registers->has_pat = boot_cpu_has(X86_FEATURE_PAT);
	strscpy(registers->vendor, boot_cpu_data.x86_vendor_id, sizeof(registers->vendor));
}

static void mtrr_read_all_own(void *data)
{
	mtrr_read_own(data);
	mtrr_read_firmware(data);
}

void mtrr_init(void)
{
	mtrr_read_features(&of_firmware, get_cpu());
	mtrr_read_all_own(&of_firmware);
	put_cpu();
}

void mtrr_read_here(struct memtype_registers *registers)
{
	mtrr_read_features(registers, get_cpu());
	mtrr_read_own(registers);
	put_cpu();
	/* Where a host has to be asked for each, they would take longer than a verdict. */
	registers->has_smrr = of_firmware.has_smrr;
	registers->smrr[0] = of_firmware.smrr[0];
	registers->smrr[1] = of_firmware.smrr[1];
	registers->has_amd = of_firmware.has_amd;
	registers->amd_syscfg = of_firmware.amd_syscfg;
	registers->amd_top_mem = of_firmware.amd_top_mem;
	registers->amd_top_mem2 = of_firmware.amd_top_mem2;
}

int mtrr_read(struct memtype_registers *registers)
{
	unsigned int cpu = registers->cpu;

	mtrr_read_features(registers, cpu);
	return smp_call_function_single(cpu, mtrr_read_all_own, registers, 1);
}

/* The fixed ranges: 8 of 64K, 16 of 16K, 64 of 4K. Returns the type and where its range ends. */
static unsigned int mtrr_fixed_type(const struct memtype_registers *registers, u64 address,
				    u64 *end)
{
	unsigned int index, shift;

	if (address < 0x80000) {
		shift = 16;
		index = address >> shift;
	} else if (address < 0xc0000) {
		shift = 14;
		index = 8 + ((address - 0x80000) >> shift);
	} else {
		shift = 12;
		index = 24 + ((address - 0xc0000) >> shift);
	}
	*end = address | ((1u << shift) - 1);
	/* Two bits of each byte may say where an access goes. */
	return registers->mtrr_fixed[index / 8] >> (8 * (index % 8)) & 0xff &
	       ~(registers->amd_syscfg & SYSCFG_FIX_DRAM_MODIFY ? FIXED_DRAM : 0);
}

/*
 * Where the answer of one mask changes next: the last address that has the same as this one.
 * Each step of a walk is a change then, of which a mask without holes has two at most. A step
 * of the mask's own granule would make 2^28 of them for a range of 4 KiB and 40 address bits.
 */
static u64 mtrr_same_until(u64 address, u64 base, u64 mask)
{
	u64 differs = (address ^ base) & mask, low, carry;

	if (!mask)
		return U64_MAX;
	if (!differs)
		/* The lowest bit that counts is the next to differ. */
		return address | ((mask & -mask) - 1);
	/*
	 * The next address in the range has these bits as the base has them, 0 where the mask
	 * ignores them.
	 */
	low = BIT_ULL(fls64(differs)) - 1;
	if ((address & differs) <= low >> 1)
		return ((address & ~low) | (base & mask & low)) - 1;
	/* This one is beyond it: a bit above that the mask ignores has to become 1 first. */
	carry = ~mask & ~address & ~low;
	carry &= -carry;
	if (!carry)
		return U64_MAX;
	return ((address & ~(carry - 1)) | carry | (base & mask & (carry - 1))) - 1;
}

static unsigned int mtrr_combine(unsigned int seen)
{
	/* "MTRR Precedences": UC wins, WT wins over WB, the rest is undefined. */
	if (hweight32(seen) == 1)
		return __ffs(seen);
	if (seen & BIT(MEMTYPE_UC))
		return MEMTYPE_UC;
	if (seen == (BIT(MEMTYPE_WT) | BIT(MEMTYPE_WB)))
		return MEMTYPE_WT;
	return TYPE_UNDEFINED;
}

/* No further than to where something else begins. */
static void mtrr_end_before(u64 border, u64 address, u64 *end)
{
	if (address < border)
		*end = min(*end, border - 1);
}

/* What no MTRR covers: AMD's firmware may have all RAM above 4 GiB write-back. */
static unsigned int mtrr_default_type(const struct memtype_registers *registers, u64 address,
				      u64 *end)
{
	u64 top = registers->amd_syscfg & SYSCFG_TOM2_ENABLE ? registers->amd_top_mem2 & TOP_ADDRESS : 0;

	if (top > BIT_ULL(32) && registers->amd_syscfg & SYSCFG_TOM2_FORCE_WB) {
		mtrr_end_before(BIT_ULL(32), address, end);
		mtrr_end_before(top, address, end);
		if (address >= BIT_ULL(32) && address < top)
			return MEMTYPE_WB;
	}
	return registers->mtrr_default_type & 0xff;
}

static unsigned int mtrr_type_by_mtrrs(const struct memtype_registers *registers, u64 address,
				       u64 *end)
{
	u64 width = GENMASK_ULL(registers->physical_bits - 1, PAGE_SHIFT);
	unsigned int n, seen = 0;

	*end = U64_MAX;
	if (!(registers->mtrr_default_type & DEFAULT_ENABLED))
		return MEMTYPE_UC;
	if (address < 0x100000 && registers->mtrr_default_type & DEFAULT_FIXED_ENABLED)
		return mtrr_fixed_type(registers, address, end);
	if (address < 0x100000)
		*end = 0xfffff;
	for (n = 0; n < mtrr_variable_count(registers); n++) {
		u64 base = registers->mtrr_variable[n][0] & width;
		u64 mask = registers->mtrr_variable[n][1] & width;

		if (!(registers->mtrr_variable[n][1] & MASK_VALID))
			continue;
		if ((address & mask) == (base & mask))
			seen |= BIT(registers->mtrr_variable[n][0] & 7);
		*end = min(*end, mtrr_same_until(address, base, mask));
	}
	return seen ? mtrr_combine(seen) : mtrr_default_type(registers, address, end);
}

/* Outside of SMM its memory is UC, whatever the MTRRs say and whether they are in force. */
static unsigned int mtrr_type_at(const struct memtype_registers *registers, u64 address, u64 *end)
{
	u64 mask = registers->smrr[1] & SMRR_ADDRESS, first, last;
	unsigned int type;

	if (!(registers->smrr[1] & MASK_VALID))
		return mtrr_type_by_mtrrs(registers, address, end);
	first = registers->smrr[0] & mask;
	last = first | (~mask & U32_MAX);
	if (address >= first && address <= last) {
		*end = last;
		return MEMTYPE_UC;
	}
	type = mtrr_type_by_mtrrs(registers, address, end);
	mtrr_end_before(first, address, end);
	return type;
}

/*
 * Is this address, where the type changes, inside an aligned page of a size that
 * lies wholly in the range? Only such a page may be mapped as a large one.
 */
static bool mtrr_in_large_page(u64 address, u64 size, u64 first, u64 last)
{
	u64 start = ALIGN_DOWN(address, size);

	return start != address && start >= first && start + size - 1 <= last;
}

struct mtrr_summary mtrr_summarise(const struct memtype_registers *registers, u64 first, u64 last)
{
	struct mtrr_summary summary = { 0 };
	unsigned int type, before = TYPE_UNDEFINED;
	u64 address = first, end;

	for (;;) {
		type = mtrr_type_at(registers, address, &end);
		if (type == TYPE_UNDEFINED)
			summary.undefined = true;
		else
			summary.types |= BIT(type & 31);
		/* Intel SDM vol. 3, "Large Page Size Considerations". */
		if (address != first && type != before &&
		    (mtrr_in_large_page(address, PMD_SIZE, first, last) ||
		     (boot_cpu_has(X86_FEATURE_GBPAGES) &&
		      mtrr_in_large_page(address, PUD_SIZE, first, last))))
			summary.splits_large_page = true;
		/*
		 * A discontinuous mask may change its answer every 4 KiB. Nobody reads it once the
		 * asker is killed.
		 */
		if (end >= last || fatal_signal_pending(current))
			return summary;
		before = type;
		address = end + 1;
		cond_resched();
	}
}
