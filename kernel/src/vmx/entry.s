# The way into a guest and back: general registers only, everything else is the hardware's part. Their order in the state page
# is that of `Thread`, so T_* of arch/entry.s less T_rax are the offsets.

.section .text.entry, "ax"
# rdi = state page, rsi = `EntryState`. The stack pointer that an exit finds points to the state page's address.
.global enter_guest, guest_exited
.balign 16
enter_guest:
    push rbx
    push rbp
    push rdi
    cmp rsp, [rsi]
    jne 3f
2:  cmp qword ptr [rsi + 8], 0
.irp name, rax, rcx, rdx, rbx, rbp, rsi, r8, r9, r10, r11, r12, r13, r14, r15, rdi
    mov \name, [rdi + T_\name - T_rax]
.endr
    je 4f
    vmresume
    jmp 5f
4:  vmlaunch
    # Refused: the registers hold the guest's values still.
5:  pop rdi
    pop rbp
    pop rbx
    xor eax, eax
    ret
3:  mov eax, {host_stack}
    vmwrite rax, rsp
    mov [rsi], rsp
    jmp 2b

# Where exits arrive, with the guest's registers.
.balign 16
guest_exited:
    push rdi
    mov rdi, [rsp + 8]
.irp name, rax, rcx, rdx, rbx, rbp, rsi, r8, r9, r10, r11, r12, r13, r14, r15
    mov [rdi + T_\name - T_rax], \name
.endr
    pop [rdi + T_rdi - T_rax]
    pop rdi
    pop rbp
    pop rbx
    mov eax, 1
    ret
