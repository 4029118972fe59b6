#!/bin/sh
# Starts a machine to try --target on: a Debian in QEMU that memtype knows nothing of, and reaches as it would
# any other. Ctrl-C ends it.
#
# usage: target-in-qemu.sh FOLDER SSH_PORT CONSOLE_PORT [KERNEL ARGUMENT...]
#
# FOLDER takes the keys, made at the first start: "identity", which the machine lets in, and "host_key.pub".
set -eu
folder=$1 ssh_port=$2 console_port=$3
shift 3

# A path to it may be relative to where we are.
python=$(command -v "${PYTHON:-python3}") || { echo "there is no ${PYTHON:-python3}" >&2; exit 1; }
case $python in
    /*) ;;
    *) python=$PWD/$python ;;
esac
mkdir -p "$folder"
cd "$folder"
for key in identity host_key; do
    [ -e $key ] || ssh-keygen -q -t ed25519 -N '' -C memtype -f $key
done

# The image of --guest debian:bookworm, with the kernel that its users have. It is built if need be.
paths=$("$python" - << 'END'
from pytest_memtype.distribution.system import distribution, own_kernel
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.host.progress import silent

kernel = bundle(own_kernel("debian:bookworm", progress=silent))
system = distribution("debian:bookworm", kernel, progress=silent)
print(kernel.image, system.initramfs, *system.drives, sep="\n")
END
)
{ read -r kernel; read -r initramfs; read -r image; read -r modules; } << END
$paths
END

# The disks are read-only, and what the machine changes is gone with it. Its network ends at this host's
# loopback. The memory that tests may use is ivshmem's: RAM on a PCI device that no driver of Debian's wants.
# CMPXCHG16B spoils flags under TCG (QEMU 7.2).
exec qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
    -machine q35 -accel tcg -cpu qemu64,cx16=off -m 512M \
    -kernel "$kernel" -initrd "$initramfs" \
    -append "console=ttyS0 panic=-1 tsc=reliable $*" \
    -blockdev driver=raw,node-name=image,read-only=on,file.driver=file,file.filename="$image" \
    -device virtio-blk-pci,drive=image,disable-modern=on \
    -blockdev driver=raw,node-name=modules,read-only=on,file.driver=file,file.filename="$modules" \
    -device virtio-blk-pci,drive=modules,disable-modern=on \
    -netdev user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:"$ssh_port"-:22 \
    -device virtio-net-pci,netdev=network,disable-modern=on,romfile= \
    -object memory-backend-ram,id=shared,size=16M,share=on -device ivshmem-plain,memdev=shared \
    -fw_cfg name=opt/memtype/host_key,file=host_key \
    -fw_cfg name=opt/memtype/authorized_key,file=identity.pub \
    -chardev socket,id=console,host=127.0.0.1,port="$console_port",server=on,wait=off,logfile=console.log \
    -serial chardev:console
