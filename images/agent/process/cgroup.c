/*
 * Cgroups of commands: /sys/fs/cgroup/x/NUMBER below limits on memory and processes, so that neither a fork bomb nor an
 * allocation to death leaves the agent without room. Descriptors are kept open: user code may unmount what it likes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../agent.h"

enum { PENDING_MAX = 4096, MIB = 1024 * 1024, RESERVE_MIB = 32, SIGNAL_ROUNDS = 3, MAKE_TRIES = 4 };

static int root_fd = -1, commands_fd = -1;
static uint32_t last_number;
static uint64_t memory_bytes;
/* Cgroups that still held a process when their command had ended. */
static uint32_t pending[PENDING_MAX];
static int pending_count;

static int write_at(int dir_fd, const char *name, const char *text) {
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t written = write(fd, text, strlen(text));
    int code = errno;
    close(fd);
    errno = code;
    return written < 0 ? -1 : 0;
}

static uint64_t memory_total(void) {
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "MemTotal: %llu kB", &kib) != 1) kib = 0;
    fclose(file);
    return kib * 1024;
}

static void set_limits(uint64_t reserved) {
    char text[32];
    uint64_t reserve = memory_bytes / 16 > RESERVE_MIB * (uint64_t)MIB ? memory_bytes / 16 : RESERVE_MIB * (uint64_t)MIB;
    reserve += reserved;
    uint64_t bytes = memory_bytes > 2 * reserve ? memory_bytes - reserve : memory_bytes / 2;
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    if (write_at(commands_fd, "memory.max", text) != 0) note("memory.max: %s", strerror(errno));
    /* A process costs about 30 KiB of kernel memory: one per MiB leaves that far below the limit above. */
    uint64_t mib = memory_bytes / MIB;
    snprintf(text, sizeof text, "%llu", (unsigned long long)(mib < 256 ? 256 : mib > 8192 ? 8192 : mib));
    if (write_at(commands_fd, "pids.max", text) != 0) note("pids.max: %s", strerror(errno));
}

static uint64_t reserved_bytes;

/* Makes and opens the parent of all commands' cgroups, again if user code has removed it. */
static void open_commands(void) {
    if (commands_fd >= 0) close(commands_fd);
    if (mkdirat(root_fd, "x", 0755) != 0 && errno != EEXIST) note("cgroup x: %s", strerror(errno));
    commands_fd = openat(root_fd, "x", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (commands_fd < 0) return;
    /* Commands share the processor fairly only when each one's cgroup is scheduled as one. */
    if (write_at(commands_fd, "cgroup.subtree_control", "+cpu") != 0) note("cgroup x cpu: %s", strerror(errno));
    set_limits(reserved_bytes);
}

void cgroups_open(void) {
    root_fd = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) return;
    const char *controllers[] = {"+memory", "+pids", "+cpu"};
    for (int i = 0; i < 3; i++) {
        if (write_at(root_fd, "cgroup.subtree_control", controllers[i]) != 0) {
            note("cgroup controller %s: %s", controllers[i] + 1, strerror(errno));
        }
    }
    memory_bytes = memory_total();
    open_commands();
}

void cgroups_reserve(uint64_t bytes) {
    reserved_bytes = bytes;
    if (commands_fd >= 0) set_limits(bytes);
}

struct cgroup cgroup_make(void) {
    struct cgroup made = {.fd = -1};
    char name[16];
    for (int i = 0; i < MAKE_TRIES && commands_fd >= 0; i++) {
        made.number = ++last_number;
        snprintf(name, sizeof name, "%u", made.number);
        if (mkdirat(commands_fd, name, 0755) == 0) {
            made.fd = openat(commands_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            return made;
        }
        if (errno == ENOENT || errno == ENODEV) open_commands();
    }
    return made;
}

int cgroup_join(const struct cgroup *cgroup, pid_t pid) {
    char text[16];
    if (cgroup->fd < 0) return 0;
    snprintf(text, sizeof text, "%d", pid);
    return write_at(cgroup->fd, "cgroup.procs", text);
}

/* One pass over the members; returns how many were signalled. */
static int signal_members(const struct cgroup *cgroup, int signal) {
    int count = 0, fd = openat(cgroup->fd, "cgroup.procs", O_RDONLY | O_CLOEXEC), pid;
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    while (file != NULL && fscanf(file, "%d", &pid) == 1) count += pid > 1 && kill(pid, signal) == 0;
    if (file != NULL) fclose(file);
    return count;
}

void cgroup_signal(const struct cgroup *cgroup, pid_t leader, int signal) {
    if (cgroup->fd < 0) {
        /* Just forked, it may not lead a group yet. */
        if (leader > 1 && kill(-leader, signal) != 0) kill(leader, signal);
        return;
    }
    if (signal == SIGKILL && write_at(cgroup->fd, "cgroup.kill", "1") == 0) return;
    /* Without cgroup.kill a process may fork while we look: SIGKILL goes round again. */
    for (int round = 0; round < (signal == SIGKILL ? SIGNAL_ROUNDS : 1); round++) {
        if (signal_members(cgroup, signal) == 0) break;
    }
}

static bool remove_number(uint32_t number) {
    char name[16];
    snprintf(name, sizeof name, "%u", number);
    return unlinkat(commands_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

void cgroup_release(struct cgroup *cgroup) {
    if (cgroup->fd < 0) return;
    close(cgroup->fd);
    cgroup->fd = -1;
    if (remove_number(cgroup->number)) return;
    if (pending_count < PENDING_MAX) pending[pending_count++] = cgroup->number;
}

void cgroups_sweep(void) {
    int kept = 0;
    for (int i = 0; i < pending_count; i++) {
        if (!remove_number(pending[i])) pending[kept++] = pending[i];
    }
    pending_count = kept;
}

void process_score(pid_t pid, const char *score) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    int fd = agent.is_init ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    if (write(fd, score, strlen(score)) < 0) note("%s: %s", path, strerror(errno));
    close(fd);
}
