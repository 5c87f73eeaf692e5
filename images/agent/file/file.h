/* What file.c and transfer.c share. */
#ifndef FILE_H
#define FILE_H

#include <sys/stat.h>

#include "../agent.h"

enum {
    FILE_RECORD_FIXED_BYTES = 1 + 4 + 4 + 4 + 8 + 8 + 2 + 2,
    NAME_BYTES = 256,
    FILE_RECORD_MAX_BYTES = 4 + FILE_RECORD_FIXED_BYTES + NAME_BYTES + PATH_BYTES,
};

/* The request's path; when it has none that can be one, answers and returns false. */
bool take_path(struct port *port, const struct frame *frame, const struct fields *fields, uint8_t tag, char *out);
void fail(struct port *port, uint32_t channel, int code, const char *path);
/* mkdir -p of everything above the last component; -1 with errno. */
int make_parents(const char *path, mode_t mode);
/* Whether it is a PUT's. */
bool is_writing(const struct channel *channel);
void put_file_record(struct buf *out, const struct stat *facts, const char *name, const char *target);
/* The symlink's target; empty for anything else. */
void read_target(int dir_fd, const char *name, mode_t mode, char target[PATH_BYTES]);

#endif
