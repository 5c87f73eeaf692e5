/* Which file systems there are, and freezing and thawing them; all of it runs in a child of the agent. See freeze.h. */
#define _GNU_SOURCE
#include "freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { DISKS_MAX = 64, FROZEN_MS = 30000, MOUNTS_MAX = 1024 * 1024 };

struct disk {
    dev_t device;
    int fd; /* its root, or another directory of it; -1: none can be reached */
    bool frozen;
};

/* In the order of their first mounts: what lies on another file system comes after it. */
static struct disk disks[DISKS_MAX];
static int disk_count;
static int mounts_fd = -1;
static const char *only;

void disks_open(void) { mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC); }

void disks_only(const char *path) {
    only = path;
    disks_open();
}

/* Blanks and backslashes in a path of mountinfo are written as three octal digits. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from != 0; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != 0 && from[3] != 0) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

/* A directory of this device at `path`; -1 when something else is there, for instance a mount on top of it. */
static int open_disk(const char *path, dev_t device) {
    struct stat facts;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &facts) != 0 || facts.st_dev != device)) close(fd), fd = -1;
    return fd;
}

static bool is_read_only(const char *options) {
    return strncmp(options, "ro", 2) == 0 && (options[2] == 0 || options[2] == ',');
}

/* One line of mountinfo (proc(5)): id parent major:minor root path options… - type source options-of-the-file-system. */
static bool take_line(char *line) {
    unsigned first, second;
    char path[PATH_BYTES], options[4] = "";
    if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &first, &second, path) != 3) return true;
    char *rest = strstr(line, " - ");
    if (rest == NULL || sscanf(rest, " - %*s %*s %3s", options) != 1) return true;
    unescape(path);
    if (agent.is_init ? first == 0 : only == NULL || strcmp(path, only) != 0) return true; /* 0: on no block device */
    if (is_read_only(options)) return true;
    dev_t device = makedev(first, second);
    struct disk *disk = disks;
    while (disk < disks + disk_count && disk->device != device) disk++;
    if (disk == disks + disk_count) {
        if (disk_count == DISKS_MAX) return errno = E2BIG, false;
        *disk = (struct disk){.device = device, .fd = -1};
        disk_count++;
    }
    if (disk->fd < 0) disk->fd = open_disk(path, device);
    return true;
}

/* Fills `disks`; false with errno. */
static bool find_disks(void) {
    if (!agent.is_init && only == NULL) return true;
    char *text = must_alloc(MOUNTS_MAX + 1);
    size_t length = 0;
    ssize_t got;
    if (lseek(mounts_fd, 0, SEEK_SET) < 0) return false;
    while ((got = read(mounts_fd, text + length, MOUNTS_MAX - length)) > 0) length += (size_t)got;
    if (got < 0 || length == MOUNTS_MAX) return errno = got < 0 ? errno : E2BIG, false;
    text[length] = 0;
    bool good = true;
    char *rest = text;
    for (char *line; good && (line = strsep(&rest, "\n")) != NULL;) good = take_line(line);
    free(text);
    return good;
}

/* In the opposite order of freezing, for a file system in a file needs the one below it to write. */
static bool thaw_all(bool everything) {
    bool good = true;
    for (int i = 0; i < disk_count; i++) {
        struct disk *disk = &disks[i];
        if (disk->fd < 0 || (!disk->frozen && !everything)) continue;
        disk->frozen = false;
        /* EINVAL: it is not frozen. The others: a file system that cannot be, so that it never was. */
        bool thawed = ioctl(disk->fd, FITHAW, 0) == 0 || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOTTY;
        if (!thawed) note("thawing %u:%u: %s", major(disk->device), minor(disk->device), strerror(errno));
        good &= thawed;
    }
    return good;
}

__attribute__((format(printf, 3, 4))) static void failed(struct freeze_word *word, int code, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(word->text, sizeof word->text, format, rest);
    va_end(rest);
    word->code = code;
}

static void freeze_one(struct disk *disk, struct freeze_word *word) {
    unsigned first = major(disk->device), second = minor(disk->device);
    if (disk->fd < 0) {
        failed(word, EBUSY, "file system %u:%u is hidden below another mount", first, second);
    } else if (ioctl(disk->fd, FIFREEZE, 0) == 0) {
        disk->frozen = true;
    } else if (errno != EBUSY && errno != EOPNOTSUPP && errno != ENOTTY) { /* EBUSY: by a program of the guest, which thaws it */
        failed(word, errno, "freezing file system %u:%u: %s", first, second, strerror(errno));
    }
}

/* Of the agent's descriptors a child keeps these: one end of a command's pipe too many, and its output has no end. */
static void keep_only(int talk_fd) {
    if (talk_fd >= 0) dup2(talk_fd, STDIN_FILENO);
    if (mounts_fd >= 0) mounts_fd = dup2(mounts_fd, STDOUT_FILENO);
    close_range(STDERR_FILENO + 1, ~0u, 0);
}

void disks_freeze(int fd) {
    struct freeze_word word = {0};
    keep_only(fd);
    if (!find_disks()) failed(&word, errno, "the list of mounts: %s", strerror(errno));
    if (agent.is_init && word.code == 0) sync(); /* most of it, while everybody can still write */
    for (int i = disk_count - 1; i >= 0 && word.code == 0; i--) freeze_one(&disks[i], &word);
    if (word.code != 0) thaw_all(false);
    bool told = send(STDIN_FILENO, &word, sizeof word, MSG_NOSIGNAL) == (ssize_t)sizeof word;
    struct pollfd other = {.fd = STDIN_FILENO, .events = POLLIN};
    bool late = told && word.code == 0 && poll(&other, 1, FROZEN_MS) == 0;
    _exit(!thaw_all(false) ? EXIT_FAILURE : late ? FREEZER_LATE : FREEZER_DONE);
}

void disks_thaw(void) {
    keep_only(-1);
    bool good = find_disks();
    _exit(thaw_all(true) && good ? FREEZER_DONE : EXIT_FAILURE);
}
