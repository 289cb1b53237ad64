#!/bin/sh
# The guest's first script: proves that processors, interrupts, console and disk work, and says so in lines that begin
# with `check:`. Then a shell, if the kernel's command line has `bulkhead.interactive`; else the power goes off.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin || exit
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2> /dev/null
exec < /dev/console > /dev/console 2>&1
failed=
# The kernel's information would stand in the middle of our lines.
dmesg -n 4

fail() {
    echo "check: $1 FAILED"
    failed=yes
}

for module in @MODULES@; do
    insmod "/lib/$module.ko" || fail "module $module"
done

uname -a
if grep -q -w hypervisor /proc/cpuinfo; then
    echo "check: cpuinfo has flag hypervisor"
else
    echo "check: cpuinfo has no flag hypervisor"
fi
echo "check: processors $(nproc)"

# Sectors that differ from one another and from those of every other run.
sectors() {
    awk -v run="$(cat /proc/sys/kernel/random/uuid)" 'BEGIN {
        for (n = 0; n < 47; n++) text = text sprintf("%010d", rand() * 1e9)
        for (n = 0; n < 2048; n++) print run, sprintf("%08d", n), substr(text, n % 5 + 1, 465)
    }'
}

# A file is written, leaves the cache, and is read back.
check_disk() {
    mke2fs /dev/vda > /dev/null && mount -t ext2 /dev/vda /mnt || return
    sectors > /written
    size=$(stat -c %s /written)
    if [ "$size" != 1048576 ]; then
        echo "check: $size bytes instead of 1048576"
        return 1
    fi
    cp /written /mnt/file && sync || return
    umount /mnt && mount -t ext2 /dev/vda /mnt || return
    echo 3 > /proc/sys/vm/drop_caches
    # One reading of the disk; what differs is told by offset.
    cp /mnt/file /read && umount /mnt || return
    cmp /written /read || return
    sum=$(sha256sum < /read)
    echo "check: disk ok sha256=${sum%% *} bytes=$size"
    rm /written /read
}

if grep -q 0x1af4 /sys/bus/pci/devices/*/vendor; then
    waited=0
    while [ ! -b /dev/vda ] && [ $waited -lt 50 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    check_disk || fail disk
else
    echo "check: no disk"
fi

if [ -z "$failed" ]; then
    echo "check: all ok"
fi

if grep -q -w bulkhead.interactive /proc/cmdline; then
    echo "Linux's own shell; \`poweroff\` ends the run."
    ENV=/etc/shell setsid cttyhack sh
    poweroff -f
fi
# Waits until the serial port has sent everything.
stty echo
# A reset instead of a power-off is how a guest tells that it failed.
[ -z "$failed" ] && poweroff -f
reboot -f
