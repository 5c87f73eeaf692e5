/*
 * The C half of the golden frames. `golden say` prints, as "name hex" lines, frames made by the agent's own encoders from
 * fixed values; `golden read` reads frames as hex lines and prints what the agent's decoder makes of each:
 * "type channel tag=hex…" or, for a raw payload, "type channel payload". Linked with the agent's sources but for main.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../images/agent/file/file.h"
#include "../../images/agent/process/process.h"
#include "../../images/agent/watch/watch.h"

struct agent agent = {.null_fd = -1, .nonce = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

static void print_hex(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) printf("%02x", bytes[i]);
}

/* Prints what a port would send, and forgets it. */
static void print_sent(const char *name, struct port *port) {
    printf("%s ", name);
    print_hex(port->out.data + port->out.start, buf_used(&port->out));
    putchar('\n');
    buf_free(&port->out);
}

static struct process *registered(bool background) {
    struct process *process = process_allocate();
    process_register(process, background);
    return process;
}

static void say_processes(struct port *port) {
    struct process *running = registered(true), *ended = registered(true), *killed = registered(false);
    running->pid = 4321;
    ended->pid = 70000;
    killed->pid = 5;
    memcpy(running->command, "sleep 9", running->command_length = 7);
    memcpy(ended->command, "\xff", ended->command_length = 1);
    ended->exited = killed->exited = true;
    ended->status = 3 << 8;
    killed->status = 9;
    const struct frame frame = {.type = ASK_PROCESSES, .channel = 6};
    const struct fields none = {0};
    handle_processes(port, &frame, &none);
    print_sent("PROCESSES", port);
    ended->status = 255 << 8;
    ended->timed_out = ended->streams[1].cut = true;
    ended->streams[0].counted = 5000000000;
    ended->started_ns = 1000;
    ended->ended_ns = 1501000;
    say_exit(port, 0xfffffffe, ended);
    print_sent("EXIT", port);
    killed->streams[0].cut = true;
    say_exit(port, 1, killed);
    print_sent("EXIT by a signal", port);
    struct process *typed = registered(false);
    typed->pid = 77;
    typed->terminal = true;
    say_started(port, 20, typed);
    print_sent("STARTED in a terminal", port);
    processes_end();
}

static void say_changes(struct port *port) {
    struct frame_mark mark = frame_begin(&port->out, SAY_CHUNK, 22);
    put_change_record(&port->out, CHANGE_CREATED, true, "a/b", 3);
    put_change_record(&port->out, CHANGE_REMOVED, false, "n\xffm", 3);
    put_change_record(&port->out, CHANGE_ATTRIBUTES, true, "", 0);
    put_change_record(&port->out, CHANGE_OVERFLOW, false, "", 0);
    frame_end(&port->out, mark);
    print_sent("CHUNK of changes", port);
}

static void say_frames(void) {
    struct port port = {.source = {.fd = -1}};
    uint8_t hello[] = {TAG_VERSION, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    const struct frame greeting = {.type = ASK_HELLO, .channel = 0x89abcdef, .length = sizeof hello, .payload = hello};
    handle_frame(&port, &greeting);
    print_sent("HELLO", &port);
    say(&port, 3, SAY_DONE);
    print_sent("DONE", &port);
    say_u64(&port, 3, SAY_DONE, TAG_SIZE, UINT64_MAX);
    print_sent("DONE of a size", &port);
    say_u64(&port, 9, SAY_CREDIT, TAG_BYTES, WINDOW_BYTES);
    print_sent("CREDIT", &port);
    say(&port, 19, SAY_SHUT);
    print_sent("SHUT", &port);
    say_error(&port, 4, ENOENT, "/x: %s", strerror(ENOENT));
    print_sent("ERROR", &port);
    const struct stat facts = {.st_mode = S_IFLNK | 0777,
                               .st_uid = 1000,
                               .st_gid = 65534,
                               .st_size = 2,
                               .st_mtim = {.tv_sec = -1, .tv_nsec = 5}};
    struct frame_mark mark = frame_begin(&port.out, SAY_CHUNK, 5);
    put_file_record(&port.out, &facts, "n\xffm", "to");
    frame_end(&port.out, mark);
    print_sent("CHUNK of a file", &port);
    say_processes(&port);
    say_changes(&port);
}

static bool is_raw(uint8_t type) {
    return type == ASK_DATA || type == ASK_PING || type == SAY_PONG || type == SAY_OUT || type == SAY_ERR || type == SAY_CHUNK;
}

static void read_frame(const uint8_t *bytes, size_t length) {
    struct frame frame;
    struct fields fields;
    if (length < HEADER_BYTES || frame_header(bytes, &frame) != 0 || frame.length != length - HEADER_BYTES) {
        puts("refused");
        return;
    }
    const uint8_t *payload = bytes + HEADER_BYTES;
    if (!is_raw(frame.type) && fields_parse(payload, frame.length, &fields) != 0) {
        puts("refused");
        return;
    }
    printf("%u %u", frame.type, frame.channel);
    if (is_raw(frame.type)) {
        putchar(' ');
        print_hex(payload, frame.length);
    } else {
        for (unsigned tag = 0; tag < 256; tag++) {
            struct field field;
            for (uint32_t at = 0; fields_next(&fields, (uint8_t)tag, &at, &field);) {
                printf(" %u=", tag);
                print_hex(field.bytes, field.length);
            }
        }
    }
    putchar('\n');
}

static void read_frames(void) {
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&line, &capacity, stdin)) > 0;) {
        size_t count = (size_t)length / 2;
        uint8_t *bytes = malloc(count + 1);
        for (size_t i = 0; i < count; i++) sscanf(line + 2 * i, "%2hhx", &bytes[i]);
        read_frame(bytes, count);
        free(bytes);
    }
    free(line);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    if (strcmp(argv[1], "say") == 0) say_frames();
    else read_frames();
    return 0;
}
