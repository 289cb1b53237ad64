// Start of the guests: 32-bit protected mode without paging, as PVH (Xen's "x86/HVM direct boot ABI") demands of a loader;
// ebx = address of the start information. Says so on COM1, then goes on to 64-bit mode with the first 4 GiB mapped one to one.

    .section .note.pvh, "a", @note
    .align 4
    .long 4                         // bytes of the name
    .long 4                         // bytes of the descriptor
    .long 18                        // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long guest_start

    .section .boot32, "ax", @progbits
    .code32
    .global guest_start
    .type guest_start, @function
guest_start:
    cli
    cld
    mov esp, offset boot_stack_end
    mov ebp, ebx

    mov esi, offset greeting
1:  mov dx, 0x3fd                   // line status: is there room for a byte?
2:  in al, dx
    test al, 0x20
    jz 2b
    mov al, [esi]
    test al, al
    jz 3f
    mov dx, 0x3f8
    out dx, al
    inc esi
    jmp 1b

3:  // Page tables: one entry in the top table, four in the next, 2048 pages of 2 MiB.
    mov eax, offset page_tables + 0x1000 + 3
    mov [page_tables], eax
    mov ecx, 4
    mov edi, offset page_tables + 0x1000
    mov eax, offset page_tables + 0x2000 + 3
4:  mov [edi], eax
    add edi, 8
    add eax, 0x1000
    loop 4b
    mov ecx, 2048
    mov edi, offset page_tables + 0x2000
    mov eax, 0x83                   // present, writable, large
5:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 5b

    mov eax, offset page_tables
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5                  // PAE
    mov cr4, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, 1 << 8                  // LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000001              // PG, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    push 0x08
    mov eax, offset long_start
    push eax
    retf
    .size guest_start, . - guest_start

    .section .text
    .code64
    .type long_start, @function
long_start:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset boot_stack_end
    mov edi, ebp
    xor ebp, ebp
    call guest_main
1:  hlt
    jmp 1b
    .size long_start, . - long_start

    .section .rodata
greeting:
    .asciz "guest: protected mode\n"
    .align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .long 0

    .section .bss
    .align 4096
page_tables:
    .skip 6 * 4096
boot_stack:
    .skip 64 * 1024
boot_stack_end:
