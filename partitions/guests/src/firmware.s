// Firmware: 16-bit code that the reset vector jumps to, and 32-bit code. Linked to end at 4 GiB, where it cannot be
// written; the processor also finds it below 1 MiB, where real mode reaches it.

    .section .firmware16, "ax", @progbits
    .code16
real_start:                         // F000:xxxx, from the copy below 1 MiB
    cli
    cld
    mov esi, offset real_text       // the lower half is the offset in segment F000
    mov dx, 0x3f8
1:  mov al, cs:[si]
    inc si
    test al, al
    jz 2f
    out dx, al
    jmp 1b

2:  mov ebx, offset gdt_pointer
    .byte 0x66, 0x2e, 0x0f, 0x01, 0x17  // lgdt cs:[bx], with a base of 32 bits
    mov eax, cr0
    and eax, 0x9fffffff             // CD, NW: caches on
    or al, 1                        // PE
    mov cr0, eax
    .byte 0x66, 0xea                // far jump to 32-bit code, below 4 GiB
    .long protected_start
    .word 0x08

    .section .firmware32, "ax", @progbits
    .code32
protected_start:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, 0x7000
    mov esi, offset protected_text
    call print

    // What is written to the firmware is lost, and its copy below 1 MiB is the same.
    mov al, [protected_text]
    mov ah, al
    not al
    mov [protected_text], al
    cmp [protected_text], ah
    jne failed
    mov esi, 0xffff0
    mov edi, 0xfffffff0
    mov ecx, 4
    repe cmpsd
    jne failed

    // Firmware configuration: signature, then the number of processors.
    mov dx, 0x510
    xor eax, eax
    out dx, ax
    inc edx
    mov edi, 0x8000
    mov ecx, 4
    rep insb
    cmp dword ptr [0x8000], 0x554d4551  // "QEMU"
    jne failed
    dec edx
    mov eax, 5
    out dx, ax
    inc edx
    in al, dx
    mov cl, al
    in al, dx
    mov ch, al
    mov esi, offset processors_text
    call print_number

    // The machine's facilities in memory: PCI configuration space and event timer.
    mov ecx, [0xfef00000]
    mov esi, offset bridge_text
    call print_number
    mov ecx, [0xfed00000]
    mov esi, offset timer_text
    call print_number

    mov esi, offset off_text
    call print
    mov dx, 0x604                   // PM1a control: sleep type 5, sleep enable
    mov eax, 0x3400
    out dx, ax
    xor eax, eax
end:
    mov dx, 0xf4                    // the exit port, where that did nothing
    out dx, eax
3:  hlt
    jmp 3b

failed:
    mov esi, offset failed_text
    call print
    mov eax, 1
    jmp end

print_number:                       // the text at esi, ecx in hexadecimal, and the end of the line
    call print
    mov ebx, 8
4:  rol ecx, 4
    mov eax, ecx
    and eax, 0xf
    add eax, offset digits
    mov al, [eax]
    mov [0x8000], al
    mov byte ptr [0x8001], 0
    mov esi, 0x8000
    call print
    dec ebx
    jnz 4b
    mov esi, offset line_end

print:                              // the text at esi, to COM1
    cmp byte ptr [esi], 0
    je 7f
    mov dx, 0x3fd                   // line status: is there room for a byte?
6:  in al, dx
    test al, 0x20
    jz 6b
    mov dx, 0x3f8
    outsb
    jmp print
7:  ret

    .section .firmwaretext, "a", @progbits
real_text:
    .asciz "firmware: real mode\n"
protected_text:
    .asciz "firmware: protected mode\n"
processors_text:
    .asciz "firmware: processors "
bridge_text:
    .asciz "firmware: host bridge "
timer_text:
    .asciz "firmware: event timer "
off_text:
    .asciz "firmware: off\n"
failed_text:
    .asciz "firmware: FAILED\n"
line_end:
    .asciz "\n"
digits:
    .ascii "0123456789abcdef"
    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: 32-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .section .reset16, "ax", @progbits
    .code16
    .global reset
reset:                              // FFFFFFF0
    .byte 0xea                      // far jump: CS becomes F000 with base F0000
    .word real_start_offset         // from the linker script
    .word 0xf000
    .fill 11, 1, 0x90
