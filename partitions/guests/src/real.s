// From 64-bit mode down to real mode: `guest_real_mode` never returns. The code is copied to 0x8000 first, since real mode
// reaches only the first 64 KiB with segments of base 0. It prints a line from real mode and powers the machine off.

    .section .text
    .code64
    .global guest_real_mode
    .type guest_real_mode, @function
guest_real_mode:
    cli
    mov esi, offset real_code
    mov edi, 0x8000
    .byte 0xb9                      // mov ecx, the length (the assembler takes no difference as an immediate)
    .long real_code_end - real_code
    rep movsb
    lgdt [real_gdt_pointer]
    push 0x18                       // 16-bit code: compatibility mode until paging is off
    push 0x8000
    retfq
    .size guest_real_mode, . - guest_real_mode

    .section .boot16, "a", @progbits
    .code16
real_code:
    mov eax, cr0
    and eax, 0x7fffffff             // PG
    mov cr0, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    and eax, 0xfffffeff             // LME
    wrmsr
    mov ax, 0x20
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, cr0
    and al, 0xfe                    // PE
    mov cr0, eax
    .byte 0xea                      // far jump: loads CS as real mode does
    .word 0x8000 + real_segments - real_code
    .word 0
real_segments:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    .byte 0xbe                      // mov si
    .word 0x8000 + real_text - real_code
1:  mov dx, 0x3fd
2:  in al, dx
    test al, 0x20
    jz 2b
    lodsb
    test al, al
    jz 3f
    mov dx, 0x3f8
    out dx, al
    jmp 1b
3:  mov dx, 0x604                   // PM1a control: sleep type 5, sleep enable
    mov ax, 0x3400
    out dx, ax
    mov dx, 0xf4                    // the exit port, where that did nothing
    xor eax, eax
    out dx, eax
4:  hlt
    jmp 4b
real_text:
    .asciz "guest: real mode\nguest: off\n"
real_code_end:

    .section .rodata
    .align 8
real_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00009b000000ffff        // 0x18: 16-bit code
    .quad 0x000093000000ffff        // 0x20: 16-bit data
real_gdt_pointer:
    .word real_gdt_pointer - real_gdt - 1
    .quad real_gdt
