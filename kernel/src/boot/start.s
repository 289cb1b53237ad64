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

.macro write_port port, value
    mov dx, \port
    mov al, \value
    out dx, al
.endm

.section .boot.text, "ax"
.code32
.global boot_entry
boot_entry:
    cli
    cld
    mov esi, eax
    rdtsc
    mov dword ptr [boot_tsc], eax
    mov dword ptr [boot_tsc + 4], edx
    mov dword ptr [boot_magic], esi
    mov dword ptr [boot_information], ebx
    mov esp, offset boot_stack_end
    # First sign of life, before anything that can fail: the UART as the firmware left it, at 115200 baud, 8N1.
    write_port 0x3fb, 0x80
    write_port 0x3f8, 1
    write_port 0x3f9, 0
    write_port 0x3fb, 3
    write_port 0x3fa, 7
    mov esi, offset boot_banner
    call boot_print

    # What is refused next, if something is.
    mov esi, offset boot_text_not_multiboot2
    cmp dword ptr [boot_magic], 0x36d76289
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

    # Identity, direct map and kernel half share four page directories of 2 MiB pages: the first 4 GiB.
    mov edi, offset boot_directories
    mov eax, 0x83
    xor ecx, ecx
1:  mov [edi + ecx * 8], eax
    mov dword ptr [edi + ecx * 8 + 4], 0
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 1b
    mov eax, offset boot_directories + 3
    mov edi, offset boot_pointers
    mov ecx, 4
2:  mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 2b
    # Kernel half: its last two pointer entries map the first 2 GiB.
    mov eax, offset boot_directories + 3
    mov [boot_pointers_high + 510 * 8], eax
    add eax, 4096
    mov [boot_pointers_high + 511 * 8], eax
    mov eax, offset boot_pointers + 3
    mov [boot_root], eax
    mov [boot_root + 256 * 8], eax
    mov eax, offset boot_pointers_high + 3
    mov [boot_root + 511 * 8], eax

    mov edi, offset boot_root
.global boot_enter_long
boot_enter_long:
    # edi = root table. Shared with the other processors.
    mov eax, cr4
    or eax, (1 << 5) | (1 << 7)
    mov cr4, eax
    mov cr3, edi
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
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    movabs rax, offset boot_high
    jmp rax

.section .text.boot, "ax"
.code64
boot_high:
    # The stack to use is in boot_next_stack; 0: this is the first processor.
    movabs rax, offset boot_next_stack
    mov rax, [rax]
    test rax, rax
    jnz 7f
    lea rsp, [rip + first_stack_end]
    mov edi, dword ptr [boot_magic]
    mov esi, dword ptr [boot_information]
    mov rdx, qword ptr [boot_tsc]
    xor ebp, ebp
    call kernel_start
    ud2
7:  movabs rcx, offset boot_next_root
    mov rcx, [rcx]
    mov cr3, rcx
    mov rsp, rax
    xor ebp, ebp
    call processor_start
    ud2

# Start-up code of the other processors: real mode, copied to a page below 1 MiB (SDM vol. 3, 9.4.4).
.section .rodata.trampoline, "a"
.balign 16
.global trampoline_start, trampoline_end
.code16
trampoline_start:
    jmp 1f
.balign 8
.global trampoline_root
trampoline_root: .long 0
trampoline_gdt_pointer:
    .short 31
    .long boot_gdt
.balign 8
1:  cli
    cld
    mov ax, cs
    mov ds, ax
    mov edi, dword ptr [8]
    lgdt [12]
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long boot_processor_32
    .short 24
trampoline_end:

.section .boot.text, "ax"
.code32
boot_processor_32:
    mov ax, 16
    mov ds, ax
    mov ss, ax
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
.balign 8
.global boot_next_stack, boot_next_root
boot_next_stack: .quad 0
boot_next_root: .quad 0
boot_tsc: .quad 0
boot_magic: .long 0
boot_information: .long 0
boot_banner: .asciz "Bulkhead kernel: first light\r\n"
boot_text_not_multiboot2: .asciz "Refused: the boot loader does not speak multiboot2.\r\n"
boot_text_no_long_mode: .asciz "Refused: this processor has no 64-bit mode.\r\n"
boot_text_no_nx: .asciz "Refused: this processor has no execute-disable bit.\r\n"

.section .boot.tables, "aw"
.balign 4096
.global boot_root
boot_root: .skip 4096
boot_pointers: .skip 4096
boot_pointers_high: .skip 4096
boot_directories: .skip 4 * 4096
boot_stack: .skip 4096
boot_stack_end:

.section .bss.first_stack, "aw", @nobits
.balign 4096
.skip 65536
first_stack_end:
