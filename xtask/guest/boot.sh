# Starts user-mode Linux. Runs in namespaces of its own (mounts, network, processes), which go with it.
#
# boot.sh TREE RUN KERNEL CPUS MEMORY SHARE... : TREE is Debian testing, whose libc the kernel needs; RUN the folder
# of this boot; each SHARE a folder of the host that the guest mounts, as hostfs from /mnt/share/NUMBER.
set -eu
tree=$1 run=$2 kernel=$3 cpus=$4 memory=$5
shift 5

mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount -t tmpfs -o mode=755,size=64k dev dev
mkdir dev/net dev/shm
mknod dev/net/tun c 10 200
mknod dev/null c 1 3
mknod dev/random c 1 8
mknod dev/urandom c 1 9
# The guest's memory is a file here, as large as what it uses.
mount -t tmpfs -o "exec,size=$((memory + 64))m" shm dev/shm
mount -t tmpfs -o mode=755,size=64k boot mnt
mkdir mnt/run mnt/image mnt/share
touch mnt/kernel
mount --bind "$run" mnt/run
mount --bind "$(dirname "$tree")" mnt/image
mount --bind "$kernel" mnt/kernel
number=0
for share; do
    mkdir "mnt/share/$number"
    mount --bind "$share" "mnt/share/$number"
    number=$((number + 1))
done

chroot . ip link set lo up
chroot . ip tuntap add dev tap0 mode tap
chroot . ip addr add 10.77.0.1/24 dev tap0
chroot . ip link set tap0 up

# noreboot: it would execute itself again, without its network.
exec env -i PATH="$PATH" TMPDIR=/dev/shm nice -n 5 chroot . /mnt/kernel \
    mem="${memory}M" ncpus="$cpus" umid=guest uml_dir=/mnt/run/ \
    ubd0=/mnt/run/disk,/mnt/image/root.ext4 root=/dev/ubda rw rootflags=nobarrier net.ifnames=0 \
    vec0:transport=tap,ifname=tap0 con=null con0=null,fd:1 ssl=null seccomp=on noreboot panic=1
