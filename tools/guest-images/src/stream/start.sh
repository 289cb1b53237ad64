#!/bin/sh
# Sends a stream by the network card, whichever there is, and switches the machine off.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin || exit
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2> /dev/null
exec < /dev/console > /dev/console 2>&1
dmesg -n 4

for module in @MODULES@; do
    insmod "/lib/$module.ko" || echo "stream: module $module FAILED"
done

# The value of a word of the kernel's command line.
word() {
    sed -n "s/.*\\<$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline
}

waited=0
while [ ! -e /sys/class/net/eth0 ] && [ $waited -lt 50 ]; do
    sleep 0.1
    waited=$((waited + 1))
done
ifconfig lo 127.0.0.1 up
ifconfig eth0 "$(word bulkhead.address)" netmask 255.255.255.0 up || echo "stream: card FAILED"
driver=$(readlink /sys/class/net/eth0/device/driver)
echo "stream: card of ${driver##*/}"
/bin/workload stream "$(word bulkhead.gateway)" "$(word bulkhead.port)" || echo "stream: FAILED"
# Waits until the serial port has sent everything.
stty echo
poweroff -f
