// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Where SMRAM is, from the registers that say so: those of the host bridge of
 * Intel's 3 Series chipsets (QEMU's q35; "Intel 3 Series Express Chipset
 * Family Datasheet", device 0: TSEGMB, SMRAM, ESMRAMC), and the SMRR of the CPU.
 *
 * Which type SMM uses: it begins without paging, so that no page table and no
 * PAT has a say (Intel SDM vol. 3, "SMM Execution Environment"), only the MTRRs
 * have; or the SMRR where it covers the memory ("System-Management Range Register
 * Interface"). What counts of a mapping is the type that comes of the page table
 * and the MTRRs together: UC- over UC MTRRs is UC, as SMM's accesses are.
 */
#include <linux/bits.h>
#include <linux/ioport.h>
#include <linux/minmax.h>
#include <linux/pci.h>
#include <linux/smp.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>

#include "mtrr.h"
#include "smram.h"

#define HOST_BRIDGE 0x29c0
#define BGSM 0xa8
#define TSEGMB 0xac
#define MEGABYTES GENMASK(31, 20)
#define SMRAM 0x9d
#define SMRAM_D_OPEN BIT(6)
#define SMRAM_G_SMRAME BIT(3)
#define ESMRAMC 0x9e
#define ESMRAMC_H_SMRAME BIT(7)
#define ESMRAMC_TSEG_SIZE GENMASK(2, 1)
#define ESMRAMC_T_EN BIT(0)

#define LEGACY_WINDOW 0xa0000ULL
/* Where H_SMRAME moves it, to be cacheable. */
#define HIGH_WINDOW 0xfeda0000ULL
#define WINDOW_SIZE 0x20000

#define SMRR_VALID BIT(11)
#define SMRR_ADDRESS GENMASK(31, 12)

static struct pci_dev *host_bridge;
/* From here to 4 GiB addresses are the PCI bus's, and no RAM of any kind. */
static u64 bus_start = U64_MAX;
static u32 smrr_base, smrr_mask;

static void smram_find_bus_start(void)
{
	struct pci_bus *bus = host_bridge->bus;
	struct resource *resource;
	unsigned int n;

	pci_bus_for_each_resource(bus, resource, n)
		if (resource && resource_type(resource) == IORESOURCE_MEM &&
		    resource->start >= 0x100000)
			bus_start = min_t(u64, bus_start, resource->start);
}

void smram_init(void)
{
	struct memtype_registers registers;

	host_bridge = pci_get_domain_bus_and_slot(0, 0, PCI_DEVFN(0, 0));
	if (host_bridge &&
	    (host_bridge->vendor != PCI_VENDOR_ID_INTEL || host_bridge->device != HOST_BRIDGE))
		smram_exit();
	if (host_bridge)
		smram_find_bus_start();
	/* Only SMM can write it, and firmware does before there is a kernel. */
	mtrr_read_here(&registers);
	smrr_base = registers.smrr[0];
	smrr_mask = registers.smrr[1];
}

void smram_exit(void)
{
	pci_dev_put(host_bridge);
	host_bridge = NULL;
}

/*
 * The page attributes that leave an MTRR's type as it is: "Effective Page-Level Memory Types" of the
 * Intel SDM, and "Combined Effect of MTRRs and PAT" of AMD's APM, whose CD is uncached too. They
 * say the same here.
 */
static u32 smram_keeping(unsigned int mtrr)
{
	switch (mtrr) {
	case MEMTYPE_UC:
		return BIT(MEMTYPE_UC) | BIT(MEMTYPE_UC_MINUS) | BIT(MEMTYPE_WT) |
		       BIT(MEMTYPE_WP) | BIT(MEMTYPE_WB);
	case MEMTYPE_WC:
		return BIT(MEMTYPE_WC) | BIT(MEMTYPE_UC_MINUS) | BIT(MEMTYPE_WB);
	case MEMTYPE_WT:
		return BIT(MEMTYPE_WT) | BIT(MEMTYPE_WB);
	case MEMTYPE_WP:
		return BIT(MEMTYPE_WP) | BIT(MEMTYPE_WB);
	case MEMTYPE_WB:
		return BIT(MEMTYPE_WB);
	default:
		return 0;
	}
}

static u64 smram_smrr_start(void)
{
	return smrr_base & smrr_mask & SMRR_ADDRESS;
}

/* Of a SMRR that isn't valid the same as where it starts. */
static u64 smram_smrr_end(void)
{
	u64 size = (~(smrr_mask & SMRR_ADDRESS) & U32_MAX) + 1ULL;

	return smram_smrr_start() + (smrr_mask & SMRR_VALID ? size : 0);
}

/* Outside SMM it is UC, as if by an MTRR, where SMM has the register's type. */
static u32 smram_smrr_memtypes(u64 start, u64 end)
{
	if (start >= smram_smrr_end() || end <= smram_smrr_start())
		return SMRAM_NONE;
	switch (smrr_base & 0xff) {
	case MEMTYPE_UC:
		return smram_keeping(MEMTYPE_UC);
	case MEMTYPE_WC:
		return BIT(MEMTYPE_WC);
	default:
		return 0;
	}
}

/* By what the MTRRs say about [start, end), all of which is SMRAM. */
static u32 smram_mtrr_memtypes(u64 start, u64 end)
{
	struct memtype_registers registers;
	u32 found = SMRAM_NONE, n;
	struct mtrr_summary mtrr;

	if (start >= end)
		return SMRAM_NONE;
	/* Without MTRRs memory is write-back, but for what a page table says. */
	if (!boot_cpu_has(X86_FEATURE_MTRR))
		return BIT(MEMTYPE_WB);
	mtrr_read_here(&registers);
	mtrr = mtrr_summarise(&registers, start, end - 1);
	for (n = 0; n < 32; n++)
		if (mtrr.types & BIT(n))
			found &= smram_keeping(n);
	/* No type is the one of an overlap without a defined type. */
	return mtrr.undefined ? 0 : found;
}

/* Of the part of [start, end) that lies in a window; where the SMRR is, the MTRRs have no say. */
static u32 smram_window_memtypes(u64 start, u64 end, u64 window, u64 size)
{
	start = max(start, window);
	end = min(end, window + size);
	return smram_mtrr_memtypes(start, min(end, smram_smrr_start())) &
	       smram_mtrr_memtypes(max(start, smram_smrr_end()), end);
}

/* [TSEGMB, BGSM): a size of its own is known for three of the four codes, the fourth is QEMU's. */
static u64 smram_tseg_size(u8 esmramc, u32 tsegmb)
{
	u32 bgsm;

	switch (esmramc & ESMRAMC_TSEG_SIZE) {
	case 0 << 1:
		return 1 << 20;
	case 1 << 1:
		return 2 << 20;
	case 2 << 1:
		return 8 << 20;
	default:
		pci_read_config_dword(host_bridge, BGSM, &bgsm);
		return (bgsm & MEGABYTES) > (tsegmb & MEGABYTES) ?
		       (bgsm & MEGABYTES) - (tsegmb & MEGABYTES) : 0;
	}
}

/* Read each time: as long as firmware doesn't lock them (D_LCK; SeaBIOS 1.16 doesn't), they may change. */
static u32 smram_chipset_memtypes(u64 start, u64 end)
{
	u8 smram, esmramc;
	u32 tsegmb, found;

	pci_read_config_byte(host_bridge, SMRAM, &smram);
	pci_read_config_byte(host_bridge, ESMRAMC, &esmramc);
	if (!(smram & SMRAM_G_SMRAME))
		return SMRAM_NONE;
	if (esmramc & ESMRAMC_H_SMRAME)
		found = smram_window_memtypes(start, end, HIGH_WINDOW, WINDOW_SIZE);
	else
		found = smram_window_memtypes(start, end, LEGACY_WINDOW, WINDOW_SIZE);
	/* Open, the window is everybody's memory. */
	if (smram & SMRAM_D_OPEN)
		found = SMRAM_NONE;
	if (!(esmramc & ESMRAMC_T_EN))
		return found;
	pci_read_config_dword(host_bridge, TSEGMB, &tsegmb);
	return found & smram_window_memtypes(start, end, tsegmb & MEGABYTES,
					     smram_tseg_size(esmramc, tsegmb));
}

u32 smram_memtypes(u64 first, u64 last)
{
	u64 start = first << PAGE_SHIFT, end = (last + 1) << PAGE_SHIFT;
	bool high = start < HIGH_WINDOW + WINDOW_SIZE && end > HIGH_WINDOW;
	u32 found = smram_smrr_memtypes(start, end);

	/* Reading a register of the chipset costs more than all the rest of a verdict. */
	if (host_bridge && (start < bus_start || high))
		found &= smram_chipset_memtypes(start, end);
	return found;
}
