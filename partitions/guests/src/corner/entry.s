// Into a piece of code with all registers set, and out of it by whatever exception or interrupt ends it.
//
// Every vector has a stub that pushes its number (and 0 where the processor pushes no error code), so that all events look
// alike: a `Frame`. `corner_event` decides whether the interrupted code goes on.

    .section .text
    .code64
    .global corner_enter
    .type corner_enter, @function
corner_enter:                           // rdi = the frame to start from
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + CORNER_STACK], rsp
    mov rsp, rdi
    jmp corner_load
    .size corner_enter, . - corner_enter

    .type corner_common, @function
corner_common:
    push r15
    push r14
    push r13
    push r12
    push r11
    push r10
    push r9
    push r8
    push rdi
    push rsi
    push rbp
    push rsp                            // keeps the order of instruction encoding; not used
    push rbx
    push rdx
    push rcx
    push rax
    cld
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call corner_event
    mov rsp, rbx
    test eax, eax
    jz corner_leave
corner_load:
    pop rax
    pop rcx
    pop rdx
    pop rbx
    add rsp, 8
    pop rbp
    pop rsi
    pop rdi
    pop r8
    pop r9
    pop r10
    pop r11
    pop r12
    pop r13
    pop r14
    pop r15
    add rsp, 16
    iretq
    // Back to the caller of corner_enter. By IRET, since that ends the blocking of NMIs.
corner_leave:
    mov rcx, [rip + CORNER_STACK]
    push 0x10
    push rcx
    push 2
    push 0x08
    lea rax, [rip + 2f]
    push rax
    iretq
2:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .size corner_common, . - corner_common

    // 16 bytes a stub, so that the table of handlers can be computed.
    .balign 16
    .global corner_stubs
    .type corner_stubs, @function
corner_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    push 0
    .endif
    push vector
    jmp corner_common
    .set vector, vector + 1
    .endr
    .size corner_stubs, . - corner_stubs

    // What a piece of code returns to: the event that means it has come to its end.
    .section .corner, "a", @progbits
    .global corner_end
corner_end:
    int 0x80
