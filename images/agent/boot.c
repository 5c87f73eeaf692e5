/* From an initramfs to a system: modules, the root disk, mounts. Whatever is indispensable and fails ends the guest. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

/*
 * What this disk holds outlives nothing: a file that is emptied and written anew need not be on it when it is closed, and
 * inode tables that nobody has used need no zeroes, in each clone again.
 */
#define ROOT_OPTIONS "noauto_da_alloc,noinit_itable"

enum { ROOT_TRIES = 3000, ROOT_WAIT_US = 10000, MODULES_MAX = 64 };

static void mount_at(const char *type, const char *path, unsigned long flags, const char *data) {
    mkdir(path, 0755);
    if (mount(type, path, type, flags, data) != 0) note("mount %s: %s", path, strerror(errno));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The modules in /m, in the order of their names. */
static void load_modules(void) {
    char *names[MODULES_MAX];
    int count = 0;
    DIR *dir = opendir("/m");
    if (dir == NULL) return;
    for (struct dirent *entry; count < MODULES_MAX && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.') names[count++] = strdup(entry->d_name);
    }
    closedir(dir);
    qsort(names, (size_t)count, sizeof *names, by_name);
    for (int i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/m/%s", names[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
            note("module %s: %s", names[i], strerror(errno));
        }
        if (fd >= 0) close(fd);
        free(names[i]);
    }
}

/* True when the virtio disk `name` has the serial "root". */
static bool is_root_disk(const char *name) {
    char path[300], serial[32] = "";
    snprintf(path, sizeof path, "/sys/block/%s/serial", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, serial, sizeof serial - 1);
    close(fd);
    if (length > 0 && serial[length - 1] == '\n') serial[length - 1] = 0;
    return length > 0 && strcmp(serial, "root") == 0;
}

static bool find_root(char *device, size_t size) {
    DIR *dir = opendir("/sys/block");
    bool found = false;
    for (struct dirent *entry; dir != NULL && !found && (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "vd", 2) != 0 || !is_root_disk(entry->d_name)) continue;
        snprintf(device, size, "/dev/%s", entry->d_name);
        found = true;
    }
    if (dir != NULL) closedir(dir);
    return found;
}

/* Whether the kernel command line has this word. */
static bool told(const char *word) {
    char line[4096] = " ";
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, line + 1, sizeof line - 3);
    if (fd >= 0) close(fd);
    for (ssize_t i = 1; i <= length; i++) {
        if (line[i] == '\n') line[i] = ' ';
    }
    strcat(line, " ");
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s ", word);
    return strstr(line, wanted) != NULL;
}

/* Mounts the root disk at /r; false when there is to be none. */
static bool mount_root(void) {
    char device[300];
    if (told("warren.diskless")) return false;
    for (int i = 0; i < ROOT_TRIES; i++) {
        if (find_root(device, sizeof device)) {
            if (mount(device, "/r", "ext4", MS_NOATIME, ROOT_OPTIONS) == 0) return true;
            if (errno != ENOENT && errno != ENXIO) give_up("mounting %s: %s", device, strerror(errno));
        }
        usleep(ROOT_WAIT_US);
    }
    give_up("no virtio disk with the serial \"root\"");
}

static void carry_over(const char *from) {
    char to[64];
    snprintf(to, sizeof to, "/r%s", from);
    mkdir(to, 0755);
    if (mount(from, to, NULL, MS_MOVE, NULL) != 0) note("moving %s: %s", from, strerror(errno));
}

/* Deletes what the initramfs holds, to give its memory back; never crosses into another file system. */
static void empty(int dir_fd, dev_t device) {
    DIR *dir = fdopendir(dir_fd);
    if (dir == NULL) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat facts;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (fstatat(dir_fd, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0 || facts.st_dev != device) continue;
        if (S_ISDIR(facts.st_mode)) {
            int inner = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (inner >= 0) empty(inner, device);
            unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR);
        } else {
            unlinkat(dir_fd, entry->d_name, 0);
        }
    }
    closedir(dir);
}

static void switch_root(void) {
    struct stat facts;
    int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (chdir("/r") != 0) give_up("/r: %s", strerror(errno));
    if (old >= 0 && fstat(old, &facts) == 0) empty(old, facts.st_dev);
    if (mount(".", "/", NULL, MS_MOVE, NULL) != 0) give_up("moving the root: %s", strerror(errno));
    if (chroot(".") != 0 || chdir("/") != 0) give_up("chroot: %s", strerror(errno));
}

static void mount_system(void) {
    mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755,size=20%");
    mkdir("/run/lock", 01777);
    chmod("/run/lock", 01777);
    mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    /* Each exec makes a cgroup: without favordynmods moving a process into one waits for a grace period of RCU. */
    if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "favordynmods") != 0) {
        mount_at("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    }
    const char *links[][2] = {{"/proc/self/fd", "/dev/fd"},
                              {"/proc/self/fd/0", "/dev/stdin"},
                              {"/proc/self/fd/1", "/dev/stdout"},
                              {"/proc/self/fd/2", "/dev/stderr"}};
    for (int i = 0; i < 4; i++) {
        if (symlink(links[i][0], links[i][1]) != 0 && errno != EEXIST) note("%s: %s", links[i][1], strerror(errno));
    }
}

/* Work that the kernel would do now and then without being asked; an idle guest is to cost its host nothing. */
static void calm_kernel(void) {
    const char *settings[][2] = {{"/proc/sys/vm/dirty_writeback_centisecs", "360000"}, /* memory pressure still writes back */
                                 {"/proc/sys/vm/compaction_proactiveness", "0"},
                                 {"/proc/sys/vm/stat_interval", "120"}};
    for (int i = 0; i < 3; i++) {
        int fd = open(settings[i][0], O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, settings[i][1], strlen(settings[i][1])) < 0) {
            note("%s: %s", settings[i][0], strerror(errno));
        }
        if (fd >= 0) close(fd);
    }
}

void boot(void) {
    mkdir("/dev", 0755);
    if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") != 0 && errno != EBUSY) {
        note("mount /dev: %s", strerror(errno));
    }
    mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    load_modules();
    mkdir("/r", 0755);
    if (mount_root()) {
        carry_over("/dev");
        carry_over("/proc");
        carry_over("/sys");
        switch_root();
    }
    mount_system();
    calm_kernel();
    network_up();
}
