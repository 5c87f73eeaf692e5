/*
 * What makes a clone of a snapshot a machine of its own: fresh kernel randomness, the right time, a name, new ids.
 * Confirmed only when all of it has succeeded; the host starts no user code before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "warm/warm.h"

#define STATE_DIR "/run/warren"
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define MACHINE_ID_PATH "/etc/machine-id"

enum { ENTROPY_BYTES = 64, BOOT_ID_TEXT = 36, MACHINE_ID_TEXT = 32 };

static int random_fd = -1, boot_id_fd = -1, machine_id_fd = -1;

struct identity {
    const uint8_t *entropy;
    uint64_t wall_ns, reseed;
    char hostname[65], boot_id[BOOT_ID_TEXT + 2], machine_id[MACHINE_ID_TEXT + 2];
};

void identity_open(void) { random_fd = open("/dev/urandom", O_RDWR | O_CLOEXEC); }

/* A file of ours over `path`; its descriptor, or -1. */
static int cover(const char *path, const char *ours, const char *first) {
    int fd = open(ours, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0 || write(fd, first, strlen(first)) < 0 || mount(ours, path, NULL, MS_BIND, NULL) != 0) {
        note("%s over %s: %s", ours, path, strerror(errno));
        return -1;
    }
    return fd;
}

void identity_mount(void) {
    char id[64] = "", plain[64] = "";
    int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, id, sizeof id - 1);
    if (fd >= 0) close(fd);
    for (ssize_t i = 0, at = 0; i < length; i++) {
        if (id[i] != '-') plain[at++] = id[i];
    }
    mkdir(STATE_DIR, 0755);
    boot_id_fd = cover(BOOT_ID_PATH, STATE_DIR "/boot-id", id);
    fd = open(MACHINE_ID_PATH, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd >= 0) close(fd);
    machine_id_fd = cover(MACHINE_ID_PATH, STATE_DIR "/machine-id", plain);
}

/* These texts are always of the same length, so nothing of the old one stays. */
static int rewrite(int fd, const char *text) {
    if (fd < 0) return errno = ENOENT, -1;
    size_t length = strlen(text);
    return pwrite(fd, text, length, 0) == (ssize_t)length ? 0 : -1;
}

static int reseed(const uint8_t *entropy) {
    struct {
        struct rand_pool_info head;
        uint8_t bytes[ENTROPY_BYTES];
    } pool;
    pool.head.entropy_count = ENTROPY_BYTES * 8;
    pool.head.buf_size = ENTROPY_BYTES;
    memcpy(pool.head.buf, entropy, ENTROPY_BYTES);
    int result = ioctl(random_fd, RNDADDENTROPY, &pool);
    if (result == 0) result = ioctl(random_fd, RNDRESEEDCRNG, 0);
    explicit_bzero(&pool, sizeof pool);
    return result;
}

/* NULL, or the step that failed, with errno. An ordinary process has no right to any of it, and only checks the request. */
static const char *take(const struct identity *identity) {
    if (!agent.is_init) return NULL;
    struct timespec wall = {.tv_sec = (time_t)(identity->wall_ns / 1000000000u),
                            .tv_nsec = (long)(identity->wall_ns % 1000000000u)};
    if (identity->reseed && reseed(identity->entropy) != 0) return "randomness";
    if (clock_settime(CLOCK_REALTIME, &wall) != 0) return "clock";
    if (sethostname(identity->hostname, strlen(identity->hostname)) != 0) return "hostname";
    if (!identity->reseed) return NULL;
    if (rewrite(boot_id_fd, identity->boot_id) != 0) return "boot id";
    if (rewrite(machine_id_fd, identity->machine_id) != 0) return "machine id";
    return NULL;
}

static bool parse(const struct fields *fields, struct identity *out) {
    *out = (struct identity){.reseed = 1};
    const struct field *entropy = &fields->known[TAG_ENTROPY];
    out->entropy = entropy->bytes;
    if (entropy->length != ENTROPY_BYTES || !fields_u64(fields, TAG_WALL_NS, &out->wall_ns) ||
        !fields_optional_u64(fields, TAG_RESEED, &out->reseed) ||
        !fields_text(fields, TAG_HOSTNAME, out->hostname, sizeof out->hostname) ||
        !fields_text(fields, TAG_BOOT_ID, out->boot_id, BOOT_ID_TEXT + 1) ||
        !fields_text(fields, TAG_MACHINE_ID, out->machine_id, MACHINE_ID_TEXT + 1)) {
        return false;
    }
    if (strlen(out->boot_id) != BOOT_ID_TEXT || strlen(out->machine_id) != MACHINE_ID_TEXT) return false;
    strcat(out->boot_id, "\n");
    strcat(out->machine_id, "\n");
    return true;
}

void handle_identity(struct port *port, const struct frame *frame, const struct fields *fields) {
    struct identity identity;
    if (!parse(fields, &identity)) {
        say_error(port, frame->channel, EINVAL, "identity: malformed request");
        return;
    }
    warm_reseed(identity.reseed != 0);
    const char *failed = take(&identity);
    if (failed != NULL) {
        say_error(port, frame->channel, errno, "identity: %s: %s", failed, strerror(errno));
        return;
    }
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t now = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
    say_u64(port, frame->channel, SAY_DONE, TAG_WALL_NS, now);
}
