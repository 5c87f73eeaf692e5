/*
 * The guest agent: PID 1 of a microVM, or (`agent --fd N [--root DIR] [--warm FILE] [--freeze MOUNT]`) an ordinary process that serves one
 * connection on an inherited socket, for tests. Either way one event loop does everything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "freeze/freeze.h"
#include "process/process.h"
#include "warm/warm.h"

enum { OPEN_FILES = 65536, PORT_TRIES = 3000, PORT_WAIT_US = 10000, LATE_SCANS = 50 };

struct agent agent = {.null_fd = -1};

/* 0, 1 and 2 must be taken, or a descriptor of ours would become some command's output. */
static void fill_standard_fds(void) {
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= 2);
    if (fd > 2) close(fd);
    agent.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* Ahead of all user code, so that no fork bomb keeps it from answering; children start as ordinary processes. */
static void take_precedence(void) {
    struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first) != 0) note("scheduling: %s", strerror(errno));
    struct rlimit files = {OPEN_FILES, OPEN_FILES}, core = {0, 0};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) note("open files: %s", strerror(errno));
    if (setrlimit(RLIMIT_CORE, &core) != 0) note("core files: %s", strerror(errno));
}

static struct timer scan_timer;
static int late_scans;

/* Ports are announced one by one; the first is enough to begin with. */
static void scan_again(struct timer *timer) {
    if (ports_scan() < PORTS_MAX && ++late_scans < LATE_SCANS) timer_set(timer, now_ns() + PORT_WAIT_US * 10000u);
}

static void open_ports(void) {
    int tries = 0;
    while (ports_scan() == 0) {
        if (++tries == PORT_TRIES) give_up("no virtio port named agent0");
        usleep(PORT_WAIT_US);
    }
    scan_timer.fire = scan_again;
    scan_again(&scan_timer);
}

static void run_as_init(void) {
    agent.is_init = true;
    umask(022);
    boot();
    disks_open();
    fill_standard_fds();
    take_precedence();
    identity_open();
    identity_mount();
    cgroups_open();
    loop_open();
    reaper_open();
    open_ports();
}

static int usage(void) {
    fputs("usage: agent --fd N [--root DIR] [--warm FILE] [--freeze MOUNT]\n", stderr);
    return 2;
}

static int run_as_process(int argc, char **argv) {
    int fd = -1;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) return usage();
        if (strcmp(argv[i], "--fd") == 0) {
            fd = atoi(argv[i + 1]);
        } else if (strcmp(argv[i], "--warm") == 0) {
            warm_script(argv[i + 1]);
        } else if (strcmp(argv[i], "--freeze") == 0) {
            disks_only(argv[i + 1]);
        } else if (strcmp(argv[i], "--root") == 0) {
            if (chroot(argv[i + 1]) != 0 || chdir("/") != 0) give_up("chroot: %s", strerror(errno));
        } else {
            return usage();
        }
    }
    if (fd < 0) return usage();
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* as PID 1 is: orphans come here */
    signal(SIGPIPE, SIG_DFL); /* a parent may have ignored it, and commands would inherit that */
    fill_standard_fds();
    loop_open();
    reaper_open();
    port_adopt(fd);
    return 0;
}

int main(int argc, char **argv) {
    /* The kernel hands words of its command line that it does not know to init as arguments: only ours mean a test. */
    bool is_init = getpid() == 1 && (argc == 1 || strncmp(argv[1], "--", 2) != 0);
    /* Not random enough for a secret so early in a boot, and it is none: it tells one boot from another. */
    if (getrandom(agent.nonce, sizeof agent.nonce, GRND_INSECURE) < 0) return 1;
    if (is_init) {
        run_as_init();
    } else {
        int code = run_as_process(argc, argv);
        if (code != 0) return code;
    }
    loop_run(ports_flush);
    processes_end();
    return 0;
}
