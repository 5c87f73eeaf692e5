/*
 * Looking through directories that have just come under watch: what was made in them before that is told as created, and
 * directories among it come under watch in turn. What the kernel says of the same entries once more is left out.
 */
#define _GNU_SOURCE
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names beyond that are told twice when they are made while they are looked for. */
enum { TOLD_MAX = 64 * 1024, TOLD_FIRST = 32 };

/* FNV-1a. */
static uint64_t hash_of(const char *name) {
    uint64_t hash = 0xcbf29ce484222325;
    for (; *name != 0; name++) hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
    return hash;
}

static void remember(struct watch *watch, struct place *place, const char *name) {
    if (watch->told >= TOLD_MAX) return;
    if (place->told_count == place->told_room) {
        place->told_room = place->told_room == 0 ? TOLD_FIRST : place->told_room * 2;
        place->told = must_grow(place->told, place->told_room * sizeof *place->told);
    }
    place->told[place->told_count++] = hash_of(name);
    watch->told++;
}

void scan_forget(struct watch *watch, struct place *place) {
    watch->told -= place->told_count;
    free(place->told);
    place->told = NULL;
    place->told_count = place->told_room = 0;
}

static uint64_t *find(struct watch *watch, struct place *place, const char *name) {
    if (place->told_count == 0) return NULL;
    if (watch->position >= place->told_until) {
        scan_forget(watch, place);
        return NULL;
    }
    uint64_t hash = hash_of(name);
    for (uint32_t i = 0; i < place->told_count; i++) {
        if (place->told[i] == hash) return &place->told[i];
    }
    return NULL;
}

bool scan_told(struct watch *watch, struct place *place, const char *name) { return find(watch, place, name) != NULL; }

void scan_untell(struct watch *watch, struct place *place, const char *name) {
    uint64_t *told = find(watch, place, name);
    if (told == NULL) return;
    *told = place->told[--place->told_count];
    watch->told--;
}

void scan_queue(struct watch *watch, struct place *place) {
    if (place->scans) return;
    place->scans = true;
    place->next_scan = NULL;
    *watch->last_scan = place;
    watch->last_scan = &place->next_scan;
}

void scan_drop(struct watch *watch, struct place *place) {
    if (!place->scans) return;
    struct place **at = &watch->scans;
    while (*at != place) at = &(*at)->next_scan;
    if (at == &watch->scans && watch->dir != NULL) {
        closedir(watch->dir);
        watch->dir = NULL;
    }
    *at = place->next_scan;
    if (*at == NULL) watch->last_scan = at;
    place->scans = false;
}

static bool open_dir(struct watch *watch, struct place *place) {
    char path[PATH_BYTES];
    if (!place_path(watch, place, "", path)) return false;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return false; /* gone again, which is told by its own event */
    watch->dir = fdopendir(fd);
    if (watch->dir == NULL) close(fd);
    return watch->dir != NULL;
}

static bool is_directory(int dir_fd, const struct dirent *entry) {
    struct stat facts;
    if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_DIR;
    return fstatat(dir_fd, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(facts.st_mode);
}

/* Events that are in the queue now may say again what this scan has told; later ones do not. */
static void end(struct watch *watch, struct place *place) {
    int queued = 0;
    ioctl(watch->source.fd, FIONREAD, &queued);
    place->told_until = watch->position + (watch->fill - watch->at) + (uint64_t)(queued > 0 ? queued : 0);
    scan_drop(watch, place);
}

void scan_step(struct watch *watch) {
    struct place *place = watch->scans;
    if (watch->dir == NULL && !open_dir(watch, place)) {
        scan_drop(watch, place);
        return;
    }
    const struct dirent *entry = readdir(watch->dir);
    if (entry == NULL) {
        end(watch, place);
        return;
    }
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return;
    bool directory = is_directory(dirfd(watch->dir), entry), tells = place->tells;
    if (tells && !is_temporary(name)) {
        remember(watch, place, name);
        watch_tell(watch, CHANGE_CREATED, directory, place, name);
    }
    if (directory) place_enter(watch, place, name, tells);
}
