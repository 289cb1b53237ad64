// Start by GRUB, to run the guests on a machine without a monitor: a multiboot2 header, and an entry that makes a PVH start
// information with the command line out of GRUB's list of tags (Multiboot2 specification 2.0, 3.1 and 3.6).

    .section .multiboot2, "a", @progbits
    .align 8
multiboot2_header:
    .long 0xe85250d6
    .long 0                         // i386, protected mode
    .long 40
    .long 0x100000000 - (0xe85250d6 + 40)
    .word 3                         // entry address
    .word 0
    .long 12
    .long multiboot2_start
    .long 0                         // tags are aligned to 8 bytes
    .word 0                         // end
    .word 0
    .long 8

    .section .boot32, "ax", @progbits
    .code32
    .type multiboot2_start, @function
multiboot2_start:
    mov dx, 0x3fb                   // COM1's line control: eight bits, where no monitor has set it
    mov al, 3
    out dx, al
    lea esi, [ebx + 8]
1:  mov eax, [esi]                  // type of the tag
    test eax, eax
    jz 3f
    cmp eax, 1                      // command line
    je 2f
    mov eax, [esi + 4]
    add eax, 7
    and eax, -8
    add esi, eax
    jmp 1b
2:  add esi, 8
    mov [multiboot2_information + 24], esi
3:  mov ebx, offset multiboot2_information
    jmp guest_start
    .size multiboot2_start, . - multiboot2_start

    .section .data
    .align 8
multiboot2_information:
    .long 0x336ec578                // magic number of PVH
    .skip 52

    .section .text
    .code64
