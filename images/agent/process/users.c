/* Users by /etc/passwd and /etc/group, read by hand: a static libc cannot load NSS modules. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../agent.h"

enum { LINE_BYTES = 8192 };

/* Splits a line at colons in place; missing fields are empty. */
static void split(char *line, char *fields[], int count) {
    static char empty[] = "";
    line[strcspn(line, "\n")] = 0;
    for (int i = 0; i < count; i++) {
        fields[i] = line == NULL ? empty : line;
        if (line == NULL) continue;
        line = strchr(line, ':');
        if (line != NULL) *line++ = 0;
    }
}

static bool number(const char *text, uint32_t *out) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || value >= UINT32_MAX) return false;
    *out = (uint32_t)value;
    return true;
}

/* The whole line into `line`; what does not fit is skipped. */
static bool next_line(FILE *file, char line[LINE_BYTES]) {
    if (fgets(line, LINE_BYTES, file) == NULL) return false;
    if (strchr(line, '\n') != NULL) return true;
    for (int c = getc(file); c != EOF && c != '\n';) c = getc(file);
    return true;
}

static bool find_in_passwd(const char *spec, bool numeric, uint32_t wanted, struct user *out) {
    static char line[LINE_BYTES];
    FILE *file = fopen("/etc/passwd", "re");
    bool found = false;
    while (file != NULL && !found && next_line(file, line)) {
        char *fields[7];
        uint32_t uid, gid;
        split(line, fields, 7);
        if (!number(fields[2], &uid) || !number(fields[3], &gid)) continue;
        if (strcmp(fields[0], spec) != 0 && !(numeric && uid == wanted)) continue;
        found = true;
        out->uid = uid;
        out->gid = gid;
        snprintf(out->name, sizeof out->name, "%s", fields[0]);
        snprintf(out->home, sizeof out->home, "%s", fields[5][0] == '/' ? fields[5] : "/");
    }
    if (file != NULL) fclose(file);
    return found;
}

static bool is_member(char *members, const char *name) {
    for (char *member = strtok(members, ","); member != NULL; member = strtok(NULL, ",")) {
        if (strcmp(member, name) == 0) return true;
    }
    return false;
}

static void add_groups(struct user *user) {
    static char line[LINE_BYTES];
    FILE *file = fopen("/etc/group", "re");
    while (file != NULL && user->group_count < GROUPS_MAX && next_line(file, line)) {
        char *fields[4];
        uint32_t gid;
        split(line, fields, 4);
        if (!number(fields[2], &gid) || gid == user->gid || !is_member(fields[3], user->name)) continue;
        user->groups[user->group_count++] = gid;
    }
    if (file != NULL) fclose(file);
}

int user_find(const char *spec, struct user *out) {
    uint32_t wanted = 0;
    bool numeric = number(spec, &wanted);
    memset(out, 0, sizeof *out);
    if (find_in_passwd(spec, numeric, wanted, out)) {
        out->groups[out->group_count++] = out->gid;
        add_groups(out);
        return 0;
    }
    if (!numeric) return -1;
    out->uid = wanted;
    out->gid = wanted;
    out->groups[out->group_count++] = wanted;
    snprintf(out->name, sizeof out->name, "%u", wanted);
    snprintf(out->home, sizeof out->home, "/");
    return 0;
}
