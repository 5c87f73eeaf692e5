/* File requests that are done at once: stat, mkdir, rename, chmod, remove. Paths are the guest's own business, NUL aside. */
#define _GNU_SOURCE
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool take_path(struct port *port, const struct frame *frame, const struct fields *fields, uint8_t tag, char *out) {
    if (fields_text(fields, tag, out, PATH_BYTES) && out[0] == '/') return true;
    say_error(port, frame->channel, EINVAL, "a path is absolute, without NUL, and shorter than %d bytes", PATH_BYTES);
    return false;
}

void fail(struct port *port, uint32_t channel, int code, const char *path) {
    say_error(port, channel, code, "%s: %s", path, strerror(code));
}

/* Parents first, from the deepest one that is there. */
int make_parents(const char *path, mode_t mode) {
    char part[PATH_BYTES];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, mode) != 0 && errno != EEXIST) return -1;
        *slash = '/';
    }
    return 0;
}

static uint8_t type_of(mode_t mode) { return S_ISREG(mode) ? 1 : S_ISDIR(mode) ? 2 : S_ISLNK(mode) ? 3 : 4; }

void put_file_record(struct buf *out, const struct stat *facts, const char *name, const char *target) {
    size_t name_length = strlen(name), target_length = strlen(target);
    uint32_t length = (uint32_t)(FILE_RECORD_FIXED_BYTES + name_length + target_length);
    uint8_t *at = buf_room(out, 4 + length);
    store_u32(at, length);
    at[4] = type_of(facts->st_mode);
    store_u32(at + 5, facts->st_mode & 07777);
    store_u32(at + 9, facts->st_uid);
    store_u32(at + 13, facts->st_gid);
    store_u64(at + 17, (uint64_t)facts->st_size);
    store_u64(at + 25, (uint64_t)((int64_t)facts->st_mtim.tv_sec * 1000000000 + facts->st_mtim.tv_nsec));
    store_u16(at + 33, (uint16_t)name_length);
    memcpy(at + 35, name, name_length);
    store_u16(at + 35 + name_length, (uint16_t)target_length);
    memcpy(at + 37 + name_length, target, target_length);
    out->end += 4 + length;
}

void read_target(int dir_fd, const char *name, mode_t mode, char target[PATH_BYTES]) {
    ssize_t length = S_ISLNK(mode) ? readlinkat(dir_fd, name, target, PATH_BYTES - 1) : 0;
    target[length < 0 ? 0 : length] = 0;
}

/* The last component, slashes after it aside. */
static void last_name(const char *path, char *out) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    snprintf(out, NAME_BYTES, "%.*s", (int)(end - start), path + start);
}

void handle_stat(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES], target[PATH_BYTES], name[NAME_BYTES];
    struct stat facts;
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    if (lstat(path, &facts) != 0) {
        fail(port, frame->channel, errno, path);
        return;
    }
    read_target(AT_FDCWD, path, facts.st_mode, target);
    last_name(path, name);
    struct frame_mark mark = frame_begin(&port->out, SAY_CHUNK, frame->channel);
    put_file_record(&port->out, &facts, name, target);
    frame_end(&port->out, mark);
    say(port, frame->channel, SAY_DONE);
}

static void answer(struct port *port, const struct frame *frame, int result, const char *path) {
    if (result == 0) say(port, frame->channel, SAY_DONE);
    else fail(port, frame->channel, errno, path);
}

void handle_mkdir(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    uint64_t mode = 0755;
    struct stat facts;
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    fields_optional_u64(fields, TAG_MODE, &mode);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') path[--length] = 0;
    int result = make_parents(path, 0755);
    if (result == 0) result = mkdir(path, 0700);
    if (result == 0) {
        result = chmod(path, (mode_t)(mode & 07777));
    } else if (errno == EEXIST) {
        errno = EEXIST;
        result = stat(path, &facts) == 0 && S_ISDIR(facts.st_mode) ? 0 : (errno = EEXIST, -1);
    }
    answer(port, frame, result, path);
}

void handle_rename(struct port *port, const struct frame *frame, const struct fields *fields) {
    char from[PATH_BYTES], to[PATH_BYTES];
    if (!take_path(port, frame, fields, TAG_PATH, from) || !take_path(port, frame, fields, TAG_PATH2, to)) return;
    answer(port, frame, rename(from, to), from);
}

void handle_chmod(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    uint64_t mode = 0;
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    if (!fields_u64(fields, TAG_MODE, &mode) || mode > 07777) {
        fail(port, frame->channel, EINVAL, path);
        return;
    }
    answer(port, frame, chmod(path, (mode_t)mode), path);
}

void handle_remove(struct port *port, const struct frame *frame, const struct fields *fields) {
    char path[PATH_BYTES];
    if (!take_path(port, frame, fields, TAG_PATH, path)) return;
    int result = unlink(path);
    if (result != 0 && (errno == EISDIR || errno == EPERM)) result = rmdir(path);
    answer(port, frame, result, path);
}
