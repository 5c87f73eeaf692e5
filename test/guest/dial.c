/*
 * Connects to a unix socket, makes the connection descriptor 3 and becomes the given command: how a test that can only
 * listen hands an inherited socket to the agent. usage: dial SOCKET COMMAND [ARGUMENT…]
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 3 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
    strcpy(address.sun_path, argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("dial");
        return 1;
    }
    if (fd != 3) {
        dup2(fd, 3);
        close(fd);
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
