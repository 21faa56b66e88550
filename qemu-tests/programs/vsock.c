/* vsock load FILE: loads a kernel module. vsock connect CID PORT: joins standard input and output to a vsock connection, as
 * `socat - VSOCK-CONNECT:CID:PORT` does, which no initramfs has. Static; runs in the guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct address { /* struct sockaddr_vm, linux/vm_sockets.h */
    unsigned short family, reserved;
    unsigned int port, cid;
    unsigned char flags, zero[3];
};

static int fail(const char *what) {
    fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
    return 1;
}

/* What can be read at one end is written to the other; 0 at the end. */
static int pass(int from, int to) {
    char buffer[65536];
    ssize_t length = read(from, buffer, sizeof buffer);
    for (ssize_t done = 0; done < length;) {
        ssize_t written = write(to, buffer + done, length - done);
        if (written < 0) return 0;
        done += written;
    }
    return length > 0;
}

static int connect_to(unsigned int cid, unsigned int port) {
    struct address address = {.family = AF_VSOCK, .port = port, .cid = cid};
    int stream = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (stream < 0 || connect(stream, (struct sockaddr *)&address, sizeof address) < 0) return fail("connect");
    struct pollfd ends[2] = {{.fd = 0, .events = POLLIN}, {.fd = stream, .events = POLLIN}};
    while (poll(ends, 2, -1) > 0) {
        if (ends[0].revents && !pass(0, stream)) {
            shutdown(stream, SHUT_WR);
            ends[0].fd = -1;
        }
        if (ends[1].revents && !pass(stream, 1)) return 0;
    }
    return fail("poll");
}

int main(int count, char **words) {
    if (count == 3 && strcmp(words[1], "load") == 0) {
        int file = open(words[2], O_RDONLY);
        return file < 0 || (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST) ? fail(words[2]) : 0;
    }
    if (count == 4 && strcmp(words[1], "connect") == 0) return connect_to(atoi(words[2]), atoi(words[3]));
    fprintf(stderr, "usage: vsock load FILE | vsock connect CID PORT\n");
    return 2;
}
