# Ways into the kernel from a partition, and the one way back.
#
# Offsets in `Cpu`: 8 current thread, 16 stack top, 24 scratch, 32 direct system calls. Offsets in `Thread`: T_* below; thread.rs asserts them.

.set offset, 64
.irp name, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, resume
.set T_\name, offset
.set offset, offset + 8
.endr

# Loads registers of the thread at rax.
.macro load_registers names:vararg
.irp name, \names
    mov \name, [rax + T_\name]
.endr
.endm

.section .text.entry, "ax"
.balign 64
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[24], rsp
    mov rsp, gs:[8]
    mov [rsp + T_rip], rcx
    mov [rsp + T_rflags], r11
.irp name, rbx, rbp, r12, r13, r14, r15
    mov [rsp + T_\name], \name
.endr
    mov rbx, gs:[24]
    mov [rsp + T_rsp], rbx
    mov rsp, gs:[16]
    mov rcx, r10
    cmp rax, gs:[32]
    jae 1f
    call [syscall_handlers + rax * 8]
# With a size, for backtraces: the linker script has a name for the same place.
.size syscall_entry, . - syscall_entry
    # rax = thread to resume.
resume_thread:
    cmp dword ptr [rax + T_resume], 0
    jne 2f
    mov rcx, [rax + T_rip]
    mov r11, [rax + T_rflags]
    load_registers rbx, rbp, r12, r13, r14, r15, rdi, rsi, rdx, r10, r8, r9, rsp, rax
    swapgs
    sysretq
    # The number is the seventh argument; twice, since stacks are aligned.
1:  push rax
    push rax
    call syscall_slow
    jmp resume_thread

2:  cmp dword ptr [rax + T_resume], 1
    jne 3f
    # All registers, by an interrupt return.
    push {user_data}
    push [rax + T_rsp]
    push [rax + T_rflags]
    push {user_code}
    push [rax + T_rip]
    load_registers rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rax
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

# Every interrupt and exception: the stub has pushed an error code (or 0) and the vector. The general registers come below them,
# in encoding order; the stack pointer is the one that the processor has pushed.
.balign 64
trap_common:
.irp name, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp
    push \name
.endr
    push [rsp + 16 * 8]
.irp name, rbx, rdx, rcx, rax
    push \name
.endr
    cld
    mov rdi, rsp
    and rsp, -16
    test byte ptr [rdi + 19 * 8], 3
    jz 4f
    swapgs
    call trap_from_user
    # Leave the stack of the exception for good; the frame has been copied.
    mov rsp, gs:[16]
    jmp resume_thread
4:  mov rbx, rdi
    call trap_from_kernel
    mov rsp, rbx
    # rbp first gets the stack pointer, which IRET restores.
.irp name, rax, rcx, rdx, rbx, rbp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pop \name
.endr
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
