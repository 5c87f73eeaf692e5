/* What the parts of the agent share: how it runs, diagnostics, and the entry points between them. */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "link/port.h"

#ifndef AGENT_VERSION
#define AGENT_VERSION "unversioned"
#endif

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define WORK_DIR "/work"

enum { NONCE_BYTES = 16, PATH_BYTES = 4096 };

/* How this agent runs. */
extern struct agent {
    bool is_init; /* PID 1 of a guest; else an ordinary process, for tests */
    int null_fd;  /* /dev/null, opened before any user code could remove it; read-write */
    uint8_t nonce[NONCE_BYTES];
} agent;

/* log.c: one line to the kernel log, or to stderr of an ordinary process. */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
/* Says why and ends the guest: booting cannot go on. */
__attribute__((format(printf, 1, 2), noreturn)) void give_up(const char *format, ...);

/* boot.c: from initramfs to a mounted system with "/" on the root disk. */
void boot(void);

/* net.c: the loopback, and eth0 as it is in every guest. What fails is noted only: a guest without a network still runs. */
void network_up(void);

/* identity.c */
void identity_open(void);
/* Puts files of ours over boot_id and machine-id, so that rewriting them later is all it takes. */
void identity_mount(void);
void handle_identity(struct port *port, const struct frame *frame, const struct fields *fields);

/* cgroup.c: one cgroup per command, under limits that keep the agent alive. */
struct cgroup {
    int fd; /* -1: none, the process group stands in */
    uint32_t number;
};
void cgroups_open(void);
/* The warm interpreter's own memory is not for commands to have. */
void cgroups_reserve(uint64_t bytes);
struct cgroup cgroup_make(void);
/* Moves a process in; -1 with errno. */
int cgroup_join(const struct cgroup *cgroup, pid_t pid);
/* Signals everything in it, or the process group of `leader` where there is no cgroup. */
void cgroup_signal(const struct cgroup *cgroup, pid_t leader, int signal);
/* Removes it, now or once the last process in it has gone. */
void cgroup_release(struct cgroup *cgroup);
/* Tries again what could not be removed yet; called when processes have been reaped. */
void cgroups_sweep(void);

/* users.c */
enum { GROUPS_MAX = 64 };
struct user {
    uid_t uid;
    gid_t gid;
    int group_count;
    gid_t groups[GROUPS_MAX];
    char name[64];
    char home[256];
};
/* By name or number from /etc/passwd and /etc/group; -1 when there is no such name. */
int user_find(const char *spec, struct user *out);

/* spawn.c */
struct launch {
    const char *file; /* NULL: argv[0] is looked up in PATH of envp */
    char *const *argv;
    char *const *envp;
    const char *cwd;
    const struct user *user;
    int fds[4]; /* become 0, 1, 2, 3; the last may be -1 */
    bool terminal; /* the first is one, and becomes the controlling one */
    const struct cgroup *cgroup;
};
/* The pid, or -1 with errno. Failing to execute is reported by the child as a shell does: a line on stderr and 126 or 127. */
pid_t launch(const struct launch *launch);

/* cgroup.c: how soon the kernel ends it when memory runs out, -1000 to 1000. */
void process_score(pid_t pid, const char *score);

/* file.c, transfer.c: file requests. */
void handle_stat(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_mkdir(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_rename(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_chmod(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_remove(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_get(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_list(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_put(struct port *port, const struct frame *frame, const struct fields *fields);

#endif
