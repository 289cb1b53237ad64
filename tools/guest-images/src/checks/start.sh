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

# Exits are counted meanwhile, and nothing else is to be done.
if grep -q -w bulkhead.fork-exec /proc/cmdline; then
    /bin/workload programs && poweroff -f
    reboot -f
fi

for module in @MODULES@; do
    insmod "/lib/$module.ko" || fail "module $module"
done

uname -a
if grep -q -w hypervisor /proc/cpuinfo; then
    echo "check: cpuinfo has flag hypervisor"
else
    echo "check: cpuinfo has no flag hypervisor"
fi
echo "check: nproc $(nproc)"
cd /sys/devices/system/cpu
cmp present online || fail "processors $(cat present), of which only $(cat online) run"
cd /
/bin/workload || fail workload

# Sectors that differ from one another and from those of every other run.
sectors() {
    awk -v run="$(cat /proc/sys/kernel/random/uuid)" 'BEGIN {
        for (n = 0; n < 47; n++) text = text sprintf("%010d", rand() * 1e9)
        for (n = 0; n < 2048; n++) print run, sprintf("%08d", n), substr(text, n % 5 + 1, 465)
    }'
}

# The hash of $3 blocks of the file on the disk from block $2 on, read past the cache and computed by processor $1.
hash_on() {
    taskset -c "$1" dd if=/mnt/file iflag=direct bs=4096 skip="$2" count="$3" 2> /dev/null | taskset -c "$1" sha256sum
}

# The same of what was written to it.
hash_written() {
    dd if=/written bs=4096 skip="$1" count="$2" 2> /dev/null | sha256sum
}

# All processors at once: each reads and hashes a part of its own, then the whole.
check_hashes() {
    whole=$(hash_written 0 256)
    part=$((256 / $(nproc)))
    all=$(seq 0 $(($(nproc) - 1)))
    hashing=
    for processor in $all; do
        { hash_on "$processor" $((processor * part)) $part; hash_on "$processor" 0 256; } > "/hashes$processor" &
        hashing="$hashing $!"
    done
    # Nobody else.
    wait $hashing
    for processor in $all; do
        { hash_written $((processor * part)) $part; echo "$whole"; } | cmp - "/hashes$processor" || return
    done
}

# What the disk shows of itself.
show_disk() {
    cd /sys/block/vda
    echo "check: vda sectors=$(cat size) serial=$(cat serial) queues=$(ls mq | wc -l)"
    cd queue
    echo "check: vda blocks=$(cat logical_block_size),$(cat physical_block_size) cache=$(cat write_cache)"
    echo "check: vda discard=$(cat discard_max_bytes) zeroes=$(cat write_zeroes_max_bytes) segments=$(cat max_segments)"
    cd /
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
    cp /mnt/file /read && cmp /written /read || return
    check_hashes || return
    umount /mnt || return
    echo "check: disk ok sha256=${whole%% *} bytes=$size processors=$(nproc)"
    rm /written /read /hashes*
}

# The value of a word of the kernel's command line.
word() {
    sed -n "s/.*\\<$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline
}
for feature in $(word bulkhead.features | tr , ' '); do
    if grep -q "^flags.* $feature " /proc/cpuinfo; then
        echo "check: cpuinfo has flag $feature"
    else
        echo "check: cpuinfo has no flag $feature"
    fi
done
address=$(word bulkhead.address)
peer=$(word bulkhead.peer)
silent=$(word bulkhead.silent)
gateway=$(word bulkhead.gateway)
via=$(word bulkhead.via)
inner=$(word bulkhead.inner)
large=$(word bulkhead.disk)
channels=$(word bulkhead.channel)
ending=$(word bulkhead.ends)
gone=$(word bulkhead.gone)
control=$(word bulkhead.control)

# What the card shows of itself.
show_card() {
    ifconfig lo 127.0.0.1 up
    ifconfig eth0 "$address" netmask 255.255.255.0 up || return
    if [ -n "$via" ]; then
        route add default gw "$via" || return
    fi
    (
        cd /sys/class/net/eth0
        echo "check: card address=$(cat address) mtu=$(cat mtu) carrier=$(cat carrier) features=$(cat device/features)"
    )
}

# What comes in by either card goes out by the other.
forward() {
    ifconfig eth1 "$inner" netmask 255.255.255.0 up || return
    echo 1 > /proc/sys/net/ipv4/ip_forward || return
    echo "check: forwards between $address and $inner"
}

# Pings, and a stream each way at the same time.
check_network() {
    waited=0
    until ping -c 1 -W 1 "$peer" > /dev/null; do
        waited=$((waited + 1))
        [ $waited -lt 90 ] || return
    done
    ping -c 5 -s 1400 "$peer" | grep -q ' 0% packet loss' || return
    /bin/workload receive 5001 &
    receiver=$!
    /bin/workload send "$peer" 5001 || return
    wait $receiver || return
    echo "check: network ok peer=$peer"
}

# Somebody outside answers.
check_gateway() {
    ping -c 5 -s 1400 "$gateway" | grep -q ' 0% packet loss' || return
    echo "check: gateway ok gateway=$gateway"
}

# Nobody answers, and nothing arrives.
check_silence() {
    ping -c 5 -W 1 "$silent" > /dev/null && return 1
    frames=$(cat /sys/class/net/eth0/statistics/rx_packets)
    [ "$frames" = 0 ] || return
    echo "check: silence ok frames=$frames"
}

# The port that has a channel's name.
port_of() {
    for port in /sys/class/virtio-ports/*; do
        if [ "$(cat "$port/name" 2> /dev/null)" = "$1" ]; then
            echo "/dev/${port##*/}"
        fi
    done
}

# Waits until that port is there.
wait_for_port() {
    waited=0
    until port=$(port_of "$1") && [ -c "$port" ]; do
        waited=$((waited + 1))
        [ $waited -lt 50 ] || return
        sleep 0.1
    done
}

# Asks the control port of the disk; what it answers goes into a file.
ask() {
    echo "$1" >&4
    read -r outcome size <&4
    [ "$outcome" = ok ] && dd bs="$size" count=1 iflag=fullblock <&4 > "$2" 2> /dev/null
}

# Asks for information once more, which is to be the same, by the shell alone.
ask_again() {
    echo information >&4
    read -r outcome size <&4
    [ "$outcome" = ok ] || return
    while read -r line; do
        read -r answer <&4
        [ "$answer" = "$line" ] || return
    done < /information
    asked=$((asked + 1))
}

# What the disk says of itself under a key.
said() {
    sed -n "s/^$1=//p" /information
}

# The control port answers the same while the disk works, and what it answers fits the disk and the device's own words. ATA devices swap
# the bytes of their texts.
check_control() {
    exec 4<> "$port"
    asked=1
    ask identify /identify && ask information /information || return
    while [ -e /disk-works ]; do
        sleep 1
        ask_again || return
    done
    ask identify /again && cmp /identify /again || return
    echo nonsense >&4
    read -r outcome <&4
    [ "$outcome" = "error unknown request" ] || return
    exec 4>&-
    cd /sys/block/vda
    [ "$(said name) $(said sectors)" = "$(cat serial) $(cat size)" ] || return
    cd /
    { cat /identify; dd conv=swab < /identify 2> /dev/null; } | tr '\000' '\n' > /words
    grep -q -F "$(said serial)" /words && grep -q -F "$(said model)" /words || return
    identify=$(sha256sum < /identify)
    echo "check: control ok asked=$asked model=$(said model) serial=$(said serial) identify=${identify%% *}"
    rm -f /identify /information /again /words
}

# 1 MiB each way at the same time, each with its hash behind it; then both ends say that they have got all.
check_channel() {
    wait_for_port "$channel" || return
    echo "check: channel $channel is $port"
    dd if=/dev/urandom of=/sent bs=4096 count=256 2> /dev/null
    sent=$(sha256sum < /sent)
    echo "$sent" >> /sent
    # A port is opened once.
    exec 3<> "$port"
    cat /sent >&3 &
    dd bs=$(stat -c %s /sent) count=1 iflag=fullblock <&3 > /received 2> /dev/null || return
    received=$(head -c 1048576 /received | sha256sum)
    [ "$received" = "$(tail -c +1048577 /received)" ] || return
    wait $!
    echo done >&3
    [ "$(dd bs=5 count=1 iflag=fullblock <&3 2> /dev/null)" = done ] || return
    exec 3>&-
    echo "check: channel ok name=$channel bytes=1048576 sent=${sent%% *} received=${received%% *}"
    rm /sent /received
}

# Nobody is at the other end any more: there is nothing to wait for.
check_gone() {
    wait_for_port "$1" || return
    exec 3<> "$port"
    if read -r line <&3; then
        return 1
    fi
    exec 3>&-
    echo "check: channel $1 leads to nobody"
}

# Whoever is at the other end goes twice, and comes back: a read ends, and the next write waits. One that answers does so in each life.
check_ends() {
    wait_for_port "$1" || return
    exec 3<> "$port"
    ends=0
    answers=0
    while [ $ends -lt 2 ]; do
        echo "line $ends" >&3 || return
        while read -r line <&3; do
            [ "$line" != "line $ends" ] || answers=$((answers + 1))
        done
        ends=$((ends + 1))
        echo "check: channel $1 has ended"
    done
    echo "line $ends" >&3 || return
    if [ $answers != 0 ]; then
        until read -r line <&3 && [ "$line" = "line $ends" ]; do
            echo "line $ends" >&3 || return
        done
        answers=$((answers + 1))
    fi
    exec 3>&-
    echo "check: ends ok name=$1 ends=$ends answers=$answers"
}

if grep -q 0x1042 /sys/bus/pci/devices/*/device; then
    waited=0
    while [ ! -b /dev/vda ] && [ $waited -lt 50 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    show_disk
    if [ -n "$control" ]; then
        touch /disk-works
        { wait_for_port "$control" && check_control || fail control; } > /control 2>&1 &
        asking=$!
    fi
    check_disk || fail disk
    if [ -n "$control" ]; then
        rm /disk-works
        wait $asking
        cat /control
        ! grep -q FAILED /control || failed=yes
    fi
    if [ -n "$large" ]; then
        { /bin/workload disk /dev/vda "$large" || echo "check: disk FAILED" > /disk-failed; } &
    fi
else
    echo "check: no disk"
fi
if [ -n "$address" ]; then
    show_card || fail card
fi
if [ -n "$inner" ]; then
    forward || fail forwarding
fi
if [ -n "$gateway" ]; then
    check_gateway || fail gateway
fi
if [ -n "$peer" ]; then
    check_network || fail network
fi
if [ -n "$silent" ]; then
    check_silence || fail silence
fi
for channel in $(echo "$channels" | tr , ' '); do
    check_channel || fail "channel $channel"
done
if [ -n "$gone" ]; then
    check_gone "$gone" || fail "channel $gone"
fi
for channel in $(echo "$ending" | tr , ' '); do
    check_ends "$channel" || fail "ends of channel $channel"
done
wait
if [ -e /disk-failed ]; then
    fail disk
fi

if [ -z "$failed" ]; then
    echo "check: all ok"
fi

if grep -q -w bulkhead.interactive /proc/cmdline; then
    echo "Linux's own shell; \`poweroff\` ends the run."
    ENV=/etc/shell setsid cttyhack sh
    poweroff -f
fi
# The others may need it until the end.
while [ -n "$inner" ] && [ -z "$failed" ]; do
    sleep 60
done
# Waits until the serial port has sent everything.
stty echo
# A reset instead of a power-off is how a guest tells that it failed.
[ -z "$failed" ] && poweroff -f
reboot -f
