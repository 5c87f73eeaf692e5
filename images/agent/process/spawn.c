/*
 * From the agent to a user's program: one clone straight into its cgroup, then only what makes the child a clean one.
 * The child shares no descriptor with the agent but its own stdin, stdout and stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../agent.h"

/* As a shell says it; the exit code is a shell's too. */
static _Noreturn void child_fails(const char *what, int code) {
    const char *why = code == ENOENT ? "not found" : strerror(code);
    dprintf(STDERR_FILENO, "%s: %s\n", what, why);
    _exit(code == ENOENT ? 127 : 126);
}

static void place_fds(const int fds[4]) {
    int count = fds[3] < 0 ? 3 : 4;
    int safe[4];
    /* First out of the way of 0..3, so that no dup2 overwrites one that is still needed. */
    for (int i = 0; i < count; i++) safe[i] = fcntl(fds[i], F_DUPFD, 10);
    for (int i = 0; i < count; i++) dup2(safe[i], i);
    close_range((unsigned)count, ~0u, 0);
}

static void become(const struct user *user) {
    if (user->uid == 0 && user->gid == 0 && user->group_count <= 1 && getuid() == 0) return;
    /* Raw calls: glibc's signal every thread of a process, and here is only this one. */
    if (syscall(SYS_setgroups, (size_t)user->group_count, user->groups) != 0 ||
        syscall(SYS_setresgid, user->gid, user->gid, user->gid) != 0 ||
        syscall(SYS_setresuid, user->uid, user->uid, user->uid) != 0) {
        if (agent.is_init || user->uid != getuid()) child_fails(user->name, errno);
    }
}

static void execute(const char *path, const struct launch *launch) {
    execve(path, launch->argv, launch->envp);
    if (errno != ENOEXEC) return;
    /* A script without its first line: a shell's, as every shell has it. */
    size_t count = 0;
    while (launch->argv[count] != NULL) count++;
    char **argv = calloc(count + 2, sizeof *argv);
    if (argv == NULL) return;
    argv[0] = "sh";
    memcpy(argv + 1, launch->argv, (count + 1) * sizeof *argv);
    argv[1] = (char *)path;
    execve("/bin/sh", argv, launch->envp);
}

static const char *path_of(char *const *envp) {
    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0) return *envp + 5;
    }
    return DEFAULT_PATH;
}

static _Noreturn void search(const struct launch *launch) {
    const char *name = launch->argv[0];
    if (launch->file != NULL || strchr(name, '/') != NULL) {
        execute(launch->file != NULL ? launch->file : name, launch);
        child_fails(name, errno);
    }
    int worst = ENOENT;
    for (const char *at = path_of(launch->envp); name[0] != 0;) {
        size_t length = strcspn(at, ":");
        char path[PATH_BYTES];
        int written = snprintf(path, sizeof path, "%.*s/%s", (int)length, length == 0 ? "." : at, name);
        if (written > 0 && written < PATH_BYTES) {
            execute(path, launch);
            if (errno == EACCES) worst = EACCES; /* something of that name is there: remember it, look on */
            else if (errno != ENOENT && errno != ENOTDIR) child_fails(name, errno);
        }
        if (at[length] == 0) break;
        at += length + 1;
    }
    child_fails(name, worst);
}

static _Noreturn void child(const struct launch *launch) {
    sigset_t none;
    place_fds(launch->fds);
    setsid();
    if (launch->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0) child_fails("terminal", errno);
    become(launch->user);
    if (chdir(launch->cwd) != 0) child_fails(launch->cwd, errno);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    search(launch);
}

pid_t launch(const struct launch *launch) {
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    if (launch->cgroup->fd >= 0) {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)launch->cgroup->fd;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) child(launch);
    return pid;
}
