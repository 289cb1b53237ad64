// Where a processor begins after INIT and SIPI: real mode, CS = vector << 8, IP = 0 (SDM vol. 3, 9.4.4). The 16-bit part is
// copied to a page below 1 MiB; offset 0xf00 of that page holds the pointer to the table of segments. From there to
// protected mode, and to 64-bit mode with the boot processor's page tables.
//
// The registers' values at the start are kept for the tests, in registers that the way up does not need:
// esp = everything that must be 0, esi = CR0, edi = EDX (the processor's signature), ebp = CS << 16 | the other segments.

    .section .boot16, "a", @progbits
    .code16
    .global guest_trampoline
guest_trampoline:
    or eax, ebx                     // all general registers but EDX are 0 after INIT (SDM vol. 3, table 10-1)
    or eax, ecx
    or eax, esi
    or eax, edi
    or eax, ebp
    or esp, eax
    mov edi, edx
    mov eax, cr2
    or esp, eax
    mov eax, cr3
    or esp, eax
    mov eax, cr4
    or esp, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or esp, eax
    mov esi, cr0
    xor ebp, ebp
    mov ax, ds
    or bp, ax
    mov ax, es
    or bp, ax
    mov ax, ss
    or bp, ax
    mov ax, fs
    or bp, ax
    mov ax, gs
    or bp, ax
    mov ax, cs
    shl eax, 16
    or ebp, eax

    lgdt cs:[0xf00]                 // the base has 24 bits here; the table lies below 16 MiB
    mov eax, cr0
    or al, 1                        // PE
    mov cr0, eax
    .byte 0x66, 0xea                // far jump with a 32-bit offset
    .long guest_processor_protected
    .word 0x18
    .global guest_trampoline_end
guest_trampoline_end:

    .section .boot32, "ax", @progbits
    .code32
    .type guest_processor_protected, @function
guest_processor_protected:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov eax, [GUEST_CR3]
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5                  // PAE
    mov cr4, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, 1 << 8                  // LME
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff             // CD and NW are set after INIT
    or eax, 0x80000001              // PG, PE
    mov cr0, eax
    .byte 0xea                      // far jump
    .long guest_processor_long
    .word 0x08
    .size guest_processor_protected, . - guest_processor_protected

    .section .text
    .code64
    .type guest_processor_long, @function
guest_processor_long:
    mov r8d, esp
    mov r9d, edi
    mov eax, 1
    cpuid
    shr ebx, 24                     // the initial APIC identifier
    movzx edi, byte ptr [GUEST_INDEX_OF_IDENTIFIER + rbx]
    lea eax, [rdi + 1]
    shl eax, 15                     // each stack has 32 KiB
    lea rsp, [GUEST_STACKS + rax]
    mov ecx, r8d
    mov edx, r9d
    mov r8d, ebp
    xor ebp, ebp
    call guest_processor_main       // (index, CR0, signature, what must be 0, segments)
1:  hlt
    jmp 1b
    .size guest_processor_long, . - guest_processor_long

    .section .rodata
    .align 8
    .global guest_trampoline_gdt
guest_trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00cf9b000000ffff        // 0x18: 32-bit code
