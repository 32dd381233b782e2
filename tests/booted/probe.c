/* SPDX-License-Identifier: MIT */
/* What a hijacked service would try: started in the service's place by a unit that is the same but for
 * that. Its arguments are pairs of an attempt and a path, its output a line for each: the two, and "yes"
 * or the error. */

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each returns 0, or what errno is to be. */

static int try_connect(const char *path) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
        return fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
}

/* A directory is read if it has something in it. */
static int try_read(const char *path) {
        char buffer[1024];
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return errno;
        if (read(fd, buffer, 1) == 1)
                return 0;
        if (errno == EISDIR && syscall(SYS_getdents64, fd, buffer, sizeof(buffer)) > 2 * 24)
                return 0;
        return errno == EISDIR ? ENOENT : errno;
}

static int try_open(const char *path, int flags) {
        return open(path, flags | O_CLOEXEC, 0644) < 0 ? errno : 0;
}

static int try_write(const char *path) {
        return try_open(path, O_WRONLY | O_CREAT);
}

static int try_device(const char *path) {
        return try_open(path, O_RDWR | O_NOCTTY);
}

/* In a child, whose error comes through a pipe that a success closes. */
static int try_execute(char *const command[]) {
        int fds[2], error = 0, status;
        pid_t child;

        if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0)
                return errno;
        if (child == 0) {
                (void)close(STDOUT_FILENO);
                (void)close(STDERR_FILENO);
                (void)execv(command[0], command);
                error = errno;
                (void)!write(fds[1], &error, sizeof(error));
                _exit(127);
        }
        (void)close(fds[1]);
        (void)!read(fds[0], &error, sizeof(error));
        (void)close(fds[0]);
        if (waitpid(child, &status, 0) < 0)
                return errno;
        /* the loader can be executed; that it cannot map the program is its status */
        return error ?: (WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOEXEC : 0);
}

static int try_exec(const char *path) {
        return try_execute((char *[]){(char *)path, (char *)"--version", NULL});
}

static int try_loader(const char *path) {
        glob_t found;

        if (glob("/lib*/ld-linux*.so.*", 0, NULL, &found) != 0)
                return ENOENT;
        return try_execute((char *[]){found.gl_pathv[0], (char *)path, (char *)"--version", NULL});
}

static int try_map(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED
                       ? errno
                       : 0;
}

static int try_memory(const char *path) {
        return memfd_create(path, MFD_CLOEXEC) < 0 ? errno : 0;
}

static int try_family(const char *path) {
        return socket(strcmp(path, "inet") == 0 ? AF_INET : AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC,
                      0) < 0
                       ? errno
                       : 0;
}

static const struct {
        const char *name;
        int (*attempt)(const char *path);
} attempts[] = {
        {"connect", try_connect}, {"read", try_read},     {"write", try_write},
        {"device", try_device},   {"exec", try_exec},     {"loader", try_loader},
        {"map", try_map},         {"memory", try_memory}, {"family", try_family},
};

int main(int argc, char *argv[]) {
        for (int i = 1; i + 1 < argc; i += 2) {
                for (size_t k = 0; k < sizeof(attempts) / sizeof(attempts[0]); k++)
                        if (strcmp(argv[i], attempts[k].name) == 0) {
                                int error = attempts[k].attempt(argv[i + 1]);

                                (void)printf("%s %s %s\n", argv[i], argv[i + 1],
                                             error ? strerrorname_np(error) : "yes");
                        }
        }
        return 0;
}
