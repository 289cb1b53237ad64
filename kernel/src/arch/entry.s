# Ways into the kernel from a partition, and the one way back.
#
# Offsets in `Cpu`: 8 current thread, 16 stack top, 24 scratch. Offsets in `Thread`: T_* below; thread.rs asserts them.

.set T_RAX, 64
.set T_RCX, 72
.set T_RDX, 80
.set T_RBX, 88
.set T_RSP, 96
.set T_RBP, 104
.set T_RSI, 112
.set T_RDI, 120
.set T_R8, 128
.set T_R9, 136
.set T_R10, 144
.set T_R11, 152
.set T_R12, 160
.set T_R13, 168
.set T_R14, 176
.set T_R15, 184
.set T_RIP, 192
.set T_RFLAGS, 200
.set T_RESUME, 208

.section .text.entry, "ax"
.balign 64
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[24], rsp
    mov rsp, gs:[8]
    mov [rsp + T_RIP], rcx
    mov [rsp + T_RFLAGS], r11
    mov [rsp + T_RBX], rbx
    mov [rsp + T_RBP], rbp
    mov [rsp + T_R12], r12
    mov [rsp + T_R13], r13
    mov [rsp + T_R14], r14
    mov [rsp + T_R15], r15
    mov rbx, gs:[24]
    mov [rsp + T_RSP], rbx
    mov rsp, gs:[16]
    mov rcx, r10
    cmp rax, 6
    ja 1f
    call [syscall_handlers + rax * 8]
    # rax = thread to resume.
resume_thread:
    cmp dword ptr [rax + T_RESUME], 0
    jne 2f
    mov rcx, [rax + T_RIP]
    mov r11, [rax + T_RFLAGS]
    mov rbx, [rax + T_RBX]
    mov rbp, [rax + T_RBP]
    mov r12, [rax + T_R12]
    mov r13, [rax + T_R13]
    mov r14, [rax + T_R14]
    mov r15, [rax + T_R15]
    mov rdi, [rax + T_RDI]
    mov rsi, [rax + T_RSI]
    mov rdx, [rax + T_RDX]
    mov r10, [rax + T_R10]
    mov r8, [rax + T_R8]
    mov r9, [rax + T_R9]
    mov rsp, [rax + T_RSP]
    mov rax, [rax + T_RAX]
    swapgs
    sysretq
1:  call syscall_unknown
    jmp resume_thread

2:  cmp dword ptr [rax + T_RESUME], 1
    jne 3f
    # All registers, by an interrupt return.
    push {user_data}
    push [rax + T_RSP]
    push [rax + T_RFLAGS]
    push {user_code}
    push [rax + T_RIP]
    mov rcx, [rax + T_RCX]
    mov rdx, [rax + T_RDX]
    mov rbx, [rax + T_RBX]
    mov rbp, [rax + T_RBP]
    mov rsi, [rax + T_RSI]
    mov rdi, [rax + T_RDI]
    mov r8, [rax + T_R8]
    mov r9, [rax + T_R9]
    mov r10, [rax + T_R10]
    mov r11, [rax + T_R11]
    mov r12, [rax + T_R12]
    mov r13, [rax + T_R13]
    mov r14, [rax + T_R14]
    mov r15, [rax + T_R15]
    mov rax, [rax + T_RAX]
    swapgs
    iretq

    # The thread was in the middle of running a guest processor.
3:  mov rsp, gs:[16]
    mov rdi, rax
    call resume_guest
    jmp resume_thread

# Starts the scheduler on a processor; rdi = stack top. Does not return.
.global start_scheduling
start_scheduling:
    mov rsp, rdi
    call first_thread
    jmp resume_thread

# Every interrupt and exception: the stub has pushed an error code (or 0) and the vector.
.balign 64
trap_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    test byte ptr [rsp + 18 * 8], 3
    jz 4f
    swapgs
    call trap_from_user
    # Leave the stack of the exception for good; the frame has been copied.
    mov rsp, gs:[16]
    jmp resume_thread
4:  mov rbx, rsp
    and rsp, -16
    call trap_from_kernel
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# 256 stubs of 16 bytes. Vectors 8, 10 to 14, 17, 21, 29 and 30 come with an error code (SDM vol. 3, table 6-1).
.balign 16
.global trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector != 8) && (vector != 10) && (vector != 11) && (vector != 12) && (vector != 13) && (vector != 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr
