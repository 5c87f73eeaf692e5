/* File requests that stream: GET and LIST as credit allows, PUT as content comes. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "../freeze/freeze.h"

/* A GET or LIST under way. */
struct reading {
    struct channel channel;
    struct task pump;
    int fd;
    DIR *dir; /* LIST */
    uint64_t left, sent;
};

/* A PUT under way: into a file beside the target, renamed over it at the end. */
struct writing {
    struct channel channel;
    int fd;
    uint64_t received;
    mode_t mode;
    char path[PATH_BYTES], temporary[PATH_BYTES];
};

static void reading_free(struct reading *reading) {
    task_drop(&reading->pump);
    if (reading->dir != NULL) closedir(reading->dir);
    else close(reading->fd);
    free(reading);
}

static void reading_resume(struct channel *channel) { task_queue(&owner_of(channel, struct reading, channel)->pump); }

static void reading_gone(struct channel *channel) { reading_free(owner_of(channel, struct reading, channel)); }

static void reading_cancel(struct channel *channel) {
    say_error(channel->port, channel->id, ECANCELED, "cancelled");
    channel_close(channel);
    reading_gone(channel);
}

static const struct channel_ops reading_channel = {
    .resume = reading_resume, .cancel = reading_cancel, .gone = reading_gone};

/* The last answer: DONE, or ERROR with `code`. */
static bool reading_end(struct reading *reading, int code) {
    struct channel *channel = &reading->channel;
    if (code == 0) say_u64(channel->port, channel->id, SAY_DONE, TAG_SIZE, reading->sent);
    else say_error(channel->port, channel->id, code, "reading: %s", strerror(code));
    channel_close(channel);
    reading_free(reading);
    return false;
}

static bool get_pump(struct task *task) {
    struct reading *reading = owner_of(task, struct reading, pump);
    if (reading->left == 0) return reading_end(reading, 0);
    uint32_t allowed = channel_allowance(&reading->channel, reading->left);
    if (allowed == 0) return false;
    struct buf *out = &reading->channel.port->out;
    struct frame_mark mark = frame_begin(out, SAY_CHUNK, reading->channel.id);
    ssize_t got = read(reading->fd, buf_room(out, allowed), allowed);
    if (got <= 0) {
        int code = got < 0 ? errno : 0;
        frame_undo(out, mark);
        return code == EINTR ? true : reading_end(reading, code);
    }
    out->end += (size_t)got;
    frame_end(out, mark);
    reading->channel.credit -= (uint64_t)got;
    reading->left -= (uint64_t)got;
    reading->sent += (uint64_t)got;
    return true;
}

static void put_entry(struct buf *out, int dir_fd, const char *name) {
    struct stat facts;
    char target[PATH_BYTES];
    if (fstatat(dir_fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0) return; /* gone since it was listed */
    read_target(dir_fd, name, facts.st_mode, target);
    put_file_record(out, &facts, name, target);
}

static bool list_pump(struct task *task) {
    struct reading *reading = owner_of(task, struct reading, pump);
    /* A chunk is begun only when the largest record fits what the host takes: records are never split. */
    uint32_t allowed = channel_allowance(&reading->channel, FRAME_BYTES);
    if (allowed < FILE_RECORD_MAX_BYTES) return false;
    struct buf *out = &reading->channel.port->out;
    struct frame_mark mark = frame_begin(out, SAY_CHUNK, reading->channel.id);
    size_t begin = buf_used(out);
    struct dirent *entry = NULL;
    int code = 0;
    while (allowed - (buf_used(out) - begin) >= FILE_RECORD_MAX_BYTES) {
        errno = 0;
        entry = readdir(reading->dir);
        code = errno;
        if (entry == NULL) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        put_entry(out, dirfd(reading->dir), entry->d_name);
    }
    size_t length = buf_used(out) - begin;
    if (length == 0) frame_undo(out, mark);
    else frame_end(out, mark);
    reading->channel.credit -= length;
    reading->sent += length;
    return entry == NULL ? reading_end(reading, code) : true;
}

/* Takes over the descriptor, or the directory when there is one. */
static struct reading *reading_new(struct port *port, uint32_t id, int fd, DIR *dir, bool (*pump)(struct task *)) {
    struct reading *reading = must_alloc(sizeof *reading);
    reading->fd = fd;
    reading->dir = dir;
    if (!channel_open(port, &reading->channel, id, &reading_channel)) {
        say_error(port, id, EBUSY, "too many requests at once");
        reading_free(reading);
        return NULL;
    }
    reading->left = UINT64_MAX;
    reading->pump.run = pump;
    task_queue(&reading->pump);
    return reading;
}

/* Opens a regular file for reading; -1 with errno. Nothing else: a fifo or a device could block, or act. */
static int open_regular(const char *path) {
    struct stat facts;
    /* Opening a device may have effects of its own, so it is not opened to find out. */
    if (stat(path, &facts) != 0) return -1;
    if (!S_ISREG(facts.st_mode)) return errno = S_ISDIR(facts.st_mode) ? EISDIR : EINVAL, -1;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode))) return fd;
    close(fd);
    return errno = EINVAL, -1;
}

void handle_get(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    uint64_t offset = 0, length = UINT64_MAX;
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    if (!fields_optional_u64(fields, TAG_OFFSET, &offset) || !fields_optional_u64(fields, TAG_LENGTH, &length) ||
        offset > INT64_MAX) {
        fail(port, frame->channel, EINVAL, path);
        return;
    }
    int fd = open_regular(path);
    if (fd < 0) {
        if (errno == EINVAL) say_error(port, frame->channel, EINVAL, "%s: not a regular file", path);
        else fail(port, frame->channel, errno, path);
        return;
    }
    if (offset > 0 && lseek(fd, (off_t)offset, SEEK_SET) < 0) {
        fail(port, frame->channel, errno, path);
        close(fd);
        return;
    }
    struct reading *reading = reading_new(port, frame->channel, fd, NULL, get_pump);
    if (reading != NULL) reading->left = length;
}

void handle_list(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        fail(port, frame->channel, errno, path);
        if (fd >= 0) close(fd);
        return;
    }
    reading_new(port, frame->channel, fd, dir, list_pump);
}

static void writing_free(struct writing *writing) {
    if (writing->fd >= 0) {
        freeze_end(); /* this cannot be put off */
        close(writing->fd);
        unlink(writing->temporary);
    }
    free(writing);
}

static void writing_gone(struct channel *channel) { writing_free(owner_of(channel, struct writing, channel)); }

static void writing_fails(struct channel *channel, int code) {
    struct writing *writing = owner_of(channel, struct writing, channel);
    say_error(channel->port, channel->id, code, "%s: %s", writing->path, strerror(code));
    channel_close(channel);
    writing_free(writing);
}

static void writing_cancel(struct channel *channel) { writing_fails(channel, ECANCELED); }

static int write_all(int fd, const uint8_t *bytes, uint32_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        bytes += written;
        length -= (uint32_t)written;
    }
    return 0;
}

static void writing_finish(struct writing *writing) {
    struct channel *channel = &writing->channel;
    if (fchmod(writing->fd, writing->mode) != 0 || rename(writing->temporary, writing->path) != 0) {
        writing_fails(channel, errno);
        return;
    }
    close(writing->fd);
    writing->fd = -1;
    say_u64(channel->port, channel->id, SAY_DONE, TAG_SIZE, writing->received);
    channel_close(channel);
    writing_free(writing);
}

static void writing_data(struct channel *channel, const uint8_t *bytes, uint32_t length) {
    struct writing *writing = owner_of(channel, struct writing, channel);
    if (length == 0) {
        writing_finish(writing);
    } else if (write_all(writing->fd, bytes, length) != 0) {
        writing_fails(channel, errno);
    } else {
        writing->received += length;
        say_u64(channel->port, channel->id, SAY_CREDIT, TAG_BYTES, length);
    }
}

static const struct channel_ops writing_channel = {.data = writing_data, .cancel = writing_cancel, .gone = writing_gone};

bool is_writing(const struct channel *channel) { return channel != NULL && channel->ops == &writing_channel; }

/* What a replaced file hands down: its mode and owner. Follows a symlink to what it names, as writing to it would. */
static int inspect_target(struct writing *writing, bool mode_given, struct stat *facts) {
    char *resolved = realpath(writing->path, NULL);
    if (resolved != NULL) {
        snprintf(writing->path, sizeof writing->path, "%s", resolved);
        free(resolved);
    }
    if (stat(writing->path, facts) != 0) {
        facts->st_mode = 0;
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    }
    if (!S_ISREG(facts->st_mode)) return errno = S_ISDIR(facts->st_mode) ? EISDIR : EINVAL, -1;
    if (!mode_given) writing->mode = facts->st_mode & 07777;
    return 0;
}

static int open_temporary(struct writing *writing, bool mode_given) {
    struct stat facts;
    if (inspect_target(writing, mode_given, &facts) != 0 || make_parents(writing->path, 0755) != 0) return -1;
    int directory = (int)(strrchr(writing->path, '/') - writing->path) + 1;
    int length = snprintf(writing->temporary, PATH_BYTES, "%.*s.warren-XXXXXX", directory, writing->path);
    if (length >= PATH_BYTES) return errno = ENAMETOOLONG, -1;
    writing->fd = mkostemp(writing->temporary, O_CLOEXEC);
    if (writing->fd < 0) return -1;
    if (facts.st_mode != 0 && fchown(writing->fd, facts.st_uid, facts.st_gid) != 0 && agent.is_init) return -1;
    return 0;
}

void handle_put(struct port *port, const struct frame *frame, const struct fields *fields) {
    struct writing *writing = must_alloc(sizeof *writing);
    uint64_t mode = 0644;
    writing->fd = -1;
    if (!take_path(port, frame, fields, TAG_PATH, writing->path)) {
        free(writing);
        return;
    }
    bool sound = fields_optional_u64(fields, TAG_MODE, &mode) && mode <= 07777;
    writing->mode = (mode_t)mode;
    if (!channel_open(port, &writing->channel, frame->channel, &writing_channel)) {
        say_error(port, frame->channel, EBUSY, "too many requests at once");
        free(writing);
        return;
    }
    if (!sound || open_temporary(writing, fields_has(fields, TAG_MODE)) != 0) {
        writing_fails(&writing->channel, sound ? errno : EINVAL);
        return;
    }
    const struct field *content = &fields->known[TAG_CODE];
    if (content->bytes == NULL) {
        say_u64(port, frame->channel, SAY_CREDIT, TAG_BYTES, WINDOW_BYTES);
    } else if (write_all(writing->fd, content->bytes, content->length) != 0) {
        writing_fails(&writing->channel, errno);
    } else {
        writing->received = content->length;
        writing_finish(writing);
    }
}
