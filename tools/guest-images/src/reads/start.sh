#!/bin/sh
# Reads the disk, whichever there is, and switches the machine off.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin || exit
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2> /dev/null
exec < /dev/console > /dev/console 2>&1
dmesg -n 4

for module in @MODULES@; do
    insmod "/lib/$module.ko" || echo "reads: module $module FAILED"
done

waited=0
while [ $waited -lt 50 ]; do
    for disk in vda sda; do
        [ -b /dev/$disk ] && break 2
    done
    sleep 0.1
    waited=$((waited + 1))
done
echo "reads: $disk, requests of $(cat /sys/block/$disk/queue/max_sectors_kb) KiB"
/bin/workload reads "/dev/$disk" || echo "reads: FAILED"
# Waits until the serial port has sent everything.
stty echo
poweroff -f
