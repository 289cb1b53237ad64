#!/bin/sh
# The parallel workload of guests that run programs of 32 bits. Its lines are those of the program that the other guests
# have; the exit status is 0 if all parts went well.
processors=$(nproc)
all=$(seq 0 $((processors - 1)))
status=0

# A chain of processes on all processors: each line goes from one to the next and changes on its way. What arrives is known.
chain() {
    first=$1
    second=$((($1 + 1) % processors))
    taskset -c "$first" seq 1 2000 |
        taskset -c "$second" sed 's/^/line /' |
        taskset -c "$first" tr 0123456789 9876543210 |
        taskset -c "$second" sort -r |
        taskset -c "$first" sha256sum
}
CHAIN="64b036c4686fd7b8d26fabac026b6d3ccaa90129bf5390c57f4fe09b0f79513f  -"

# A chain begins on each processor, all of them at once.
check_pipes() {
    rounds=2
    for round in $(seq $rounds); do
        for processor in $all; do
            chain "$processor" > "/chain$processor" &
        done
        wait
        for processor in $all; do
            echo "$CHAIN" | cmp - "/chain$processor" || return
        done
    done
    rm /chain*
    operations=$((rounds * processors * 2000))
}

# A copy of this shell changes its copy of the text, and ends with a status that tells what is in it.
child() {
    text="$text $1"
    echo "$text" > "/text$1"
    exec taskset -c "$2" sh -c "exit \$(wc -w < /text$1)"
}

# Processes, one on each processor at a time, find their parent's memory as it was; the parent's stays as it was.
check_forks() {
    operations=0
    text=$(seq 1 100)
    before=$text
    for round in 1 2 3 4 5 6; do
        started=
        for processor in $all; do
            (child "$((round * 100 + processor))" "$processor") &
            started="$started $!"
        done
        for process in $started; do
            wait "$process"
            result=$?
            if [ $result != 101 ]; then
                echo "check: a process counted $result words"
                return 1
            fi
            operations=$((operations + 1))
        done
        [ "$text" = "$before" ] || return
        for processor in $all; do
            echo "$text $((round * 100 + processor))" | cmp - "/text$((round * 100 + processor))" || return
        done
    done
    rm /text*
}

for part in pipes forks; do
    if check_$part; then
        echo "check: $part ok processors=$processors operations=$operations"
    else
        echo "check: $part FAILED"
        status=1
    fi
done
exit $status
