/* SPDX-License-Identifier: MIT */
/* The guest that the tests boot in a real Firecracker: it sends back what comes on its serial port, and sleeps until Ctrl-Alt-Del,
 * when it resets the machine, which ends the VMM with status 0. As small as can be, so that it also runs where KVM itself is emulated and a Linux guest would not boot, and
 * so that a thousand of them fit beside each other: asleep it takes no processor time. */

/* Firecracker starts a kernel with this note the PVH way: at the address in it, in 32-bit protected mode, without paging. */
        .section .note.Xen, "a", @note
        .align  4
        .long   4                               /* size of the name */
        .long   4                               /* size of the value */
        .long   18                              /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   start

        .set    CODE, 8                         /* selectors in our table of segments */
        .set    DATA, 16
        .set    MASTER, 0x20                    /* the two interrupt controllers; their data ports are one up */
        .set    SLAVE, 0xa0
        .set    KEYBOARD_DATA, 0x60
        .set    KEYBOARD_STATUS, 0x64
        .set    SERIAL, 0x3f8                   /* data; interrupts are enabled one up, the line's status is five up */
        .set    VECTORS, 0x20                   /* where IRQ 0 goes; the keyboard is IRQ 1, the serial port IRQ 4 */

        .macro  write port, value
        mov     $\value, %al
        out     %al, $\port
        .endm

        .macro  gate irq, handler
        mov     $\handler, %eax
        mov     $idt + (VECTORS + \irq) * 8, %edi
        mov     %ax, (%edi)
        movw    $CODE, 2(%edi)
        movw    $0x8e00, 4(%edi)
        shr     $16, %eax
        mov     %ax, 6(%edi)
        .endm

        .text
        .code32
        .globl  start
start:
        lgdt    gdt_pointer
        ljmp    $CODE, $1f
1:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack, %esp

        gate    1, keys
        gate    4, serial
        lidt    idt_pointer

        /* Both controllers: initialisation, vectors, how they are chained, 8086 mode; then all masked but IRQ 1 and 4. */
        write   MASTER, 0x11
        write   SLAVE, 0x11
        write   MASTER + 1, VECTORS
        write   SLAVE + 1, VECTORS + 8
        write   MASTER + 1, 4
        write   SLAVE + 1, 2
        write   MASTER + 1, 1
        write   SLAVE + 1, 1
        write   MASTER + 1, 0xed
        write   SLAVE + 1, 0xff

        /* "u" and a newline on the serial port: it is up. */
        mov     $SERIAL, %edx
        mov     $'u', %al
        out     %al, %dx
        mov     $'\n', %al
        out     %al, %dx
        mov     $SERIAL + 1, %edx
        mov     $1, %al                         /* an interrupt for what is received */
        out     %al, %dx

        /* The interrupt comes here again and never returns: an emulated processor may not know iret. */
sleep:
        mov     $stack, %esp
        sti
2:
        hlt
        jmp     2b

keys:
        in      $KEYBOARD_STATUS, %al
        test    $1, %al
        jz      3f
        in      $KEYBOARD_DATA, %al
        cmp     $0x71, %al                      /* the last of the bytes that Ctrl-Alt-Del sends */
        jne     keys
        write   KEYBOARD_STATUS, 0xfe           /* pulse the reset line */
3:
        write   MASTER, 0x20                    /* end of interrupt */
        jmp     sleep

serial:
        mov     $SERIAL + 5, %edx
        in      %dx, %al
        test    $1, %al
        jz      3b
        mov     $SERIAL, %edx
        in      %dx, %al
        out     %al, %dx
        jmp     serial

        .align  8
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff              /* all memory, code */
        .quad   0x00cf93000000ffff              /* all memory, data */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt_pointer:
        .word   (VECTORS + 5) * 8 - 1
        .long   idt

        .bss
        .align  16
idt:
        .skip   (VECTORS + 5) * 8
        .skip   1024
stack:
