/* See fits.h. The announcement: "ready", user site suffix, search path…, empty, names of modules (sorted), each ended by NUL. */
#define _GNU_SOURCE
#include "fits.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { PATHS_MAX = 16, ENTRIES_MAX = 4096, JOB_HEADER_BYTES = 8 };

/* A directory of the search path as it was when the modules were imported. */
struct place {
    const char *path;
    bool exists;
    struct stat facts;
};

static char *announced;
static const char *site_suffix;
static struct place places[PATHS_MAX];
static int place_count;
static const char **names;
static size_t name_count;

/* A directory that was looked through and shadows nothing, as it was then. */
static struct place clean;
static char clean_path[PATH_BYTES];

/* Variables that change how an interpreter, its libraries or these modules start. */
static const char *const telling[] = {"PYTHON", "LD_",   "LC_",  "LANG", "GLIBC_", "MALLOC_", "OMP_",  "OPENBLAS",
                                      "GOTO",   "BLIS_", "MKL_", "MPL",  "TZ",     "NUMEXPR", "SSL_",  "OPENSSL_",
                                      "DISPLAY", "WAYLAND"};

static void look(const char *path, struct place *out) {
    out->path = path;
    out->exists = stat(path, &out->facts) == 0;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

void fits_forget(void) {
    free(announced);
    free(names);
    announced = NULL;
    names = NULL;
    place_count = 0;
    name_count = 0;
    clean_path[0] = 0;
}

bool fits_learn(const char *announcement, size_t length) {
    if (length < 7 || memcmp(announcement, "ready", 6) != 0) return false;
    fits_forget();
    announced = must_alloc(length + 1);
    memcpy(announced, announcement, length);
    const char *end = announced + length, *at = announced + 6;
    site_suffix = at;
    at += strlen(at) + 1;
    for (place_count = 0; at < end && *at != 0; at += strlen(at) + 1) {
        if (place_count == PATHS_MAX) return false;
        look(at, &places[place_count++]);
    }
    names = must_alloc((length + 1) * sizeof *names);
    for (name_count = 0, at++; at < end; at += strlen(at) + 1) names[name_count++] = at;
    qsort(names, name_count, sizeof *names, by_text);
    return true;
}

static bool same_place(const struct place *then) {
    struct place now;
    look(then->path, &now);
    if (now.exists != then->exists) return false;
    return !now.exists ||
           (now.facts.st_ino == then->facts.st_ino && now.facts.st_dev == then->facts.st_dev &&
            memcmp(&now.facts.st_mtim, &then->facts.st_mtim, sizeof now.facts.st_mtim) == 0);
}

static const char *home_of(const struct order *order) {
    for (char **at = order->envp; *at != NULL; at++) {
        if (strncmp(*at, "HOME=", 5) == 0) return *at + 5;
    }
    return "/";
}

/* True when the user has packages of their own: a fresh interpreter would search there. */
static bool has_user_site(const struct order *order) {
    char path[PATH_BYTES];
    struct stat facts;
    int length = snprintf(path, sizeof path, "%s/%s", home_of(order), site_suffix);
    return length < 0 || length >= PATH_BYTES || stat(path, &facts) == 0;
}

static bool is_telling(const char *variable) {
    /* The default, which the interpreter has itself been started with. */
    if (strcmp(variable, "LANG=C.UTF-8") == 0) return false;
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++) {
        if (strncmp(variable, telling[i], strlen(telling[i])) == 0) return true;
    }
    return false;
}

/* True when importing some module of the interpreter's would find this entry of the program's directory first. */
static bool shadows(const struct dirent *entry) {
    char stem[256];
    size_t length = strcspn(entry->d_name, ".");
    const char *suffix = strrchr(entry->d_name, '.');
    if (suffix == NULL && entry->d_type == DT_REG) return false;
    if (suffix != NULL && strcmp(suffix, ".py") != 0 && strcmp(suffix, ".so") != 0 && strcmp(suffix, ".pyc") != 0) {
        return false;
    }
    snprintf(stem, sizeof stem, "%.*s", (int)length, entry->d_name);
    const char *key = stem;
    return bsearch(&key, names, name_count, sizeof *names, by_text) != NULL;
}

/* True when a change of the directory from now on cannot leave its time of modification, which counts in ticks, as it is. */
static bool long_ago(const struct timespec *changed) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t ns = (int64_t)(now.tv_sec - changed->tv_sec) * 1000000000 + now.tv_nsec - changed->tv_nsec;
    return ns > 100000000;
}

static bool directory_shadows(const char *directory) {
    if (strcmp(directory, clean_path) == 0 && same_place(&clean)) return false;
    struct place now;
    look(directory, &now);
    DIR *dir = opendir(directory);
    if (dir == NULL) return true;
    bool found = false;
    int seen = 0;
    for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;) {
        found = ++seen > ENTRIES_MAX || shadows(entry);
    }
    closedir(dir);
    if (found || !now.exists || !long_ago(&now.facts.st_mtim)) return found;
    snprintf(clean_path, sizeof clean_path, "%s", directory);
    clean = now;
    clean.path = clean_path;
    return false;
}

void fits_remember(void) {
    if (name_count > 0) directory_shadows(WORK_DIR);
}

/* The directory that a fresh interpreter would put first in sys.path; false when there is none. */
static bool find_directory(struct order *order) {
    if (realpath(order->argv[1], order->directory) == NULL) return false;
    char *slash = strrchr(order->directory, '/');
    slash[slash == order->directory ? 1 : 0] = 0;
    return true;
}

bool fits(struct order *order) {
    const char *path = order->argv[1];
    size_t length = strlen(path);
    struct stat facts;
    /* Another suffix, a directory or an archive is not simply a source file to Python. */
    if (path[0] != '/' || length < 4 || strcmp(path + length - 3, ".py") != 0) return false;
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) return false;
    if (order->own_env) {
        for (char **at = order->envp; *at != NULL; at++) {
            if (is_telling(*at)) return false;
        }
    }
    for (int i = 0; i < place_count; i++) {
        if (!same_place(&places[i])) return false;
    }
    return !has_user_site(order) && find_directory(order) && !directory_shadows(order->directory);
}

/* Appends a string and its NUL; false when there is no room. */
static bool append(char **at, const char *end, const char *text) {
    size_t length = strlen(text) + 1;
    if ((size_t)(end - *at) < length) return false;
    memcpy(*at, text, length);
    *at += length;
    return true;
}

static void user_text(const struct user *user, char *out, size_t size) {
    out[0] = 0;
    if (user->uid == 0 && user->gid == 0) return;
    size_t at = (size_t)snprintf(out, size, "%u,%u", user->uid, user->gid);
    for (int i = 0; i < user->group_count; i++) at += (size_t)snprintf(out + at, size - at, ",%u", user->groups[i]);
}

size_t fits_job(const struct order *order, bool reseed, bool there, char *out, size_t max) {
    char user[(GROUPS_MAX + 2) * 11 + 1];
    char *at = out + JOB_HEADER_BYTES;
    const char *end = out + max;
    user_text(&order->user, user, sizeof user);
    bool good = append(&at, end, order->argv[1]) && append(&at, end, order->directory) &&
                append(&at, end, there ? "" : order->cwd) && append(&at, end, user) && append(&at, end, reseed ? "1" : "0");
    for (char **argument = order->argv + 2; good && *argument != NULL; argument++) good = append(&at, end, *argument);
    const char *environment = at;
    /* Without variables of its own, root's program has exactly the interpreter's. */
    bool same = !order->own_env && order->user.uid == 0;
    for (char **variable = order->envp; good && !same && *variable != NULL; variable++) good = append(&at, end, *variable);
    store_u32((uint8_t *)out, (uint32_t)(at - out));
    store_u32((uint8_t *)out + 4, (uint32_t)(at - environment));
    return good ? (size_t)(at - out) : 0;
}
