# The multiboot2 header, and the way from 32-bit protected mode to the high half in long mode.
# On entry: eax = multiboot2 magic, ebx = physical address of the boot information (multiboot2 spec. 3.3).

.section .multiboot2, "a"
.balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    # Modules on page boundaries.
    .short 6, 0
    .long 8
    # End tag.
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .boot.text, "ax"
.code32
.global boot_entry
boot_entry:
    cli
    cld
    mov edi, eax
    mov ebp, ebx
    rdtsc
    mov dword ptr [boot_tsc], eax
    mov dword ptr [boot_tsc + 4], edx
    mov esp, offset boot_stack_end
    # First sign of life, before anything that can fail: the UART as the firmware left it, at 115200 baud, 8N1.
    mov esi, offset boot_uart
    mov ecx, 5
    mov edx, 0x300
1:  lodsw
    mov dl, al
    mov al, ah
    out dx, al
    loop 1b
    mov esi, offset boot_banner
    call boot_print

    mov esi, offset boot_text_not_multiboot2
    cmp edi, 0x36d76289
    jne boot_fail
    # Long mode is there (CPUID 0x80000001, edx bit 29)?
    mov esi, offset boot_text_no_long_mode
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb boot_fail
    mov eax, 0x80000001
    cpuid
    test edx, 1 << 29
    jz boot_fail
    mov esi, offset boot_text_no_nx
    test edx, 1 << 20
    jz boot_fail

boot_enter_long:
    # ebp = address of the boot information; 0: this is one of the other processors.
    mov eax, cr4
    or eax, (1 << 5) | (1 << 7)
    mov cr4, eax
    mov eax, offset boot_root
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, (1 << 8) | (1 << 11) | 1
    wrmsr
    mov eax, cr0
    or eax, (1 << 31) | (1 << 16) | (1 << 5) | 1
    and eax, ~((1 << 30) | (1 << 29))
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea
    .long boot_long
    .short 8

boot_fail:
    call boot_print
3:  hlt
    jmp 3b

# Prints the NUL-terminated text at esi on COM1.
boot_print:
    lodsb
    test al, al
    jz 5f
    mov ah, al
    mov ecx, 100000
4:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jnz 6f
    loop 4b
6:  mov al, ah
    mov dx, 0x3f8
    out dx, al
    jmp boot_print
5:  ret

.code64
boot_long:
    # The other segment registers mean nothing here, and are loaded with the kernel's descriptors.
    xor eax, eax
    mov fs, ax
    mov gs, ax
    movabs rax, offset boot_high
    jmp rax

.section .text.boot, "ax"
.code64
boot_high:
    mov edi, ebp
    xor ebp, ebp
    test edi, edi
    jz 7f
    lea rsp, [rip + first_stack_end]
    mov rsi, qword ptr [boot_tsc]
    call kernel_start
7:  mov rax, [rip + KERNEL_SPACE]
    mov cr3, rax
    mov rsp, [rip + STARTING_STACK]
    call processor_start

# Start-up code of the other processors: real mode, copied to a page below 1 MiB (SDM vol. 3, 9.4.4).
.section .rodata.trampoline, "a"
.balign 16
.global trampoline_start, trampoline_end
.code16
trampoline_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    lgdt [trampoline_gdt_offset]
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long boot_processor_32
    .short 24
trampoline_gdt_pointer:
    .short 31
    .long boot_gdt
trampoline_end:
.set trampoline_gdt_offset, trampoline_gdt_pointer - trampoline_start

.section .boot.text, "ax"
.code32
boot_processor_32:
    mov ax, 16
    mov ds, ax
    mov ss, ax
    xor ebp, ebp
    jmp boot_enter_long

.section .boot.data, "aw"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00cf9b000000ffff
boot_gdt_pointer:
    .short 31
    .quad boot_gdt
boot_tsc: .quad 0
# Low byte of the port, and value.
boot_uart: .byte 0xfb, 0x80, 0xf8, 1, 0xf9, 0, 0xfb, 3, 0xfa, 7
boot_banner: .asciz "Bulkhead kernel: first light\r\n"
boot_text_not_multiboot2: .asciz "Refused: the boot loader does not speak multiboot2.\r\n"
boot_text_no_long_mode: .asciz "Refused: this processor has no 64-bit mode.\r\n"
boot_text_no_nx: .asciz "Refused: this processor has no execute-disable bit.\r\n"

# Identity, direct map and kernel half share four page directories of 2 MiB pages: the first 4 GiB. Of the kernel half the last
# two pointer entries map the first 2 GiB.
.section .boot.tables, "aw"
.balign 4096
boot_root:
    .quad boot_pointers + 3
    .skip 255 * 8
    .quad boot_pointers + 3
    .skip 254 * 8
    .quad boot_pointers_high + 3
boot_pointers:
    .quad boot_directories + 0x3, boot_directories + 0x1003, boot_directories + 0x2003, boot_directories + 0x3003
    .skip 508 * 8
boot_pointers_high:
    .skip 510 * 8
    .quad boot_directories + 0x3, boot_directories + 0x1003
boot_directories:
.set page, 0x83
.rept 2048
    .quad page
    .set page, page + 0x200000
.endr
boot_stack: .skip 4096
boot_stack_end:

.section .bss.first_stack, "aw", @nobits
.balign 4096
.skip 65536
first_stack_end:
