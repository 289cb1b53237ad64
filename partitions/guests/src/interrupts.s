// One entry for each of 256 vectors. Each calls the common part, which knows the vector by the return address.
//
// The interrupted code may use the 128 bytes below its stack pointer (System V ABI, "red zone"), so every vector has a stack
// of its own, and the common part moves the frame from there to the interrupted stack, below those bytes: a handler may then
// be interrupted itself.

    .section .text
    .code64
    .balign 16
    .global guest_interrupt_entries
guest_interrupt_entries:
    .rept 256
    call guest_interrupt_common
    .balign 16
    .endr

    .type guest_interrupt_common, @function
guest_interrupt_common:
    push rax
    push rcx
    // rcx, rax, the vector's return address, then RIP, CS, RFLAGS, RSP and SS: eight words.
    mov rax, [rsp + 48]
    sub rax, 128
    and rax, -16
    sub rax, 64
    .irp place, 0, 8, 16, 24, 32, 40, 48, 56
    mov rcx, [rsp + \place]
    mov [rax + \place], rcx
    .endr
    mov rsp, rax
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rdi, [rsp + 72]
    lea rax, [rip + guest_interrupt_entries]
    sub rdi, rax
    shr rdi, 4
    mov rsi, [rsp + 80]
    mov rdx, [rsp + 88]
    cld
    sub rsp, 8
    call guest_interrupt
    add rsp, 8
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq
    .size guest_interrupt_common, . - guest_interrupt_common

// The vector that is measured: the time is taken before anything else. Only `guest_wait_*` may be interrupted by it, since
// rax and rdx are not kept.
    .global guest_measured_entry
    .type guest_measured_entry, @function
guest_measured_entry:
    rdtsc
    mov [rip + GUEST_ENTERED], eax
    jmp guest_interrupt_entries + 16 * 0xf1
    .size guest_measured_entry, . - guest_measured_entry

// Executes a loop until an interrupt changes the word at rdi from esi.
    .global guest_wait_busy
    .type guest_wait_busy, @function
guest_wait_busy:
    sti
1:  cmp [rdi], esi
    je 1b
    cli
    ret
    .size guest_wait_busy, . - guest_wait_busy

// Halts until an interrupt comes.
    .global guest_wait_halted
    .global guest_wait_halted_end
    .type guest_wait_halted, @function
guest_wait_halted:
    sti
    hlt
guest_wait_halted_end:
    cli
    ret
    .size guest_wait_halted, . - guest_wait_halted
