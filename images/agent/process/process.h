/*
 * Commands: a table of processes that the host has started, each with its cgroup, its pipes and its end. Foreground ones
 * belong to a channel and end with it; background ones write into a ring that any number of channels may read.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include "../agent.h"
#include "ring.h"

enum {
    PROCESSES_MAX = 1024, /* background ones remembered, and again as many in the foreground */
    STDIN_QUEUE_BYTES = 1024 * 1024,
    COMMAND_BYTES = 1024, /* of the command line that PROCESSES shows */
};

enum { SYNC_LIGHT = 1 };
enum { EXEC_PYTHON = 1, EXEC_STDIN_OPEN = 2, EXEC_BACKGROUND = 4 };
enum { STARTED_TERMINAL = 1 };
enum { EXIT_TIMED_OUT = 1, EXIT_STDOUT_CUT = 2, EXIT_STDERR_CUT = 4 };

struct process;

/* One output pipe. */
struct stream {
    struct source source;
    struct process *owner;
    uint8_t type; /* SAY_OUT or SAY_ERR */
    bool readable;
    bool hung_up; /* nobody holds the other end: what the pipe holds is all */
    bool cut;
    uint64_t counted; /* bytes it has produced */
    uint64_t left;    /* bytes that may still be sent before the rest is dropped */
    uint64_t drain;   /* once the process has exited: bytes that the pipe held then */
};

/* Bytes on their way to stdin: from DATA on the command's channel, or a STDIN request that waits for its DONE. */
struct chunk {
    struct chunk *next;
    struct process *owner;
    bool request;
    struct channel channel; /* of a request */
    bool closes;
    uint32_t length, written;
    uint8_t bytes[];
};

struct input {
    struct source source;
    struct chunk *head, **tail;
    uint32_t queued;
    bool closing; /* closes once the queue is empty */
    bool line_open;      /* of a terminal: what has been typed since the last end of a line */
    struct timer retry; /* of a terminal that takes nothing for now */
};

struct order;

struct process {
    struct process *next;
    struct order *order; /* until it runs */
    uint64_t id;
    pid_t pid; /* 0 until it runs */
    struct channel channel;
    struct cgroup cgroup;
    struct stream streams[2];
    struct input input;
    struct task pump;
    struct timer timeout;
    bool background, python;
    bool terminal; /* streams[0] and input are the master of its own */
    bool exited;   /* the main process has been reaped */
    bool finished; /* EXIT is known; only background ones stay after it */
    bool discard;  /* nobody wants its output any more */
    bool timed_out;
    int status; /* as from waitpid */
    uint64_t started_ns, ended_ns;
    struct ring ring;
    struct attach *attachers;
    uint16_t command_length;
    char command[COMMAND_BYTES];
};

/* One ATTACH. */
struct attach {
    struct attach *next;
    struct process *process;
    struct channel channel;
    struct task pump;
    struct ring_cursor cursor;
};

extern struct process *processes;

struct winsize;

/* process.c: life and death. */
/* One that is in no table yet. */
struct process *process_allocate(void);
/* Makes room in the table; false when it is full of commands that still run. */
bool process_room(bool background);
/* Gives it a number and its place. */
void process_register(struct process *process, bool background);
/* Gives it the pipes, the cgroup and the pid of another one, which ends. */
void process_adopt(struct process *process, struct process *other);
/* Closes and frees one that is in no table. */
void process_discard(struct process *process);
struct process *process_find(uint64_t id);
/* It runs as `pid`: tells the host, and begins to read its pipes. */
void process_started(struct process *process, pid_t pid);
/* It could not be started: the last answer, and nothing of it stays. */
__attribute__((format(printf, 3, 4))) void process_failed(struct process *process, int code, const char *format, ...);
void process_kill(struct process *process);
/* Kills and forgets every command; for the end of a test's agent. */
void processes_end(void);
/* Reaps every child that has ended. */
void reaper_open(void);
/* STARTED on this channel. */
void say_started(struct port *port, uint32_t channel, const struct process *process);
/* Everything that the pipes held has been passed on: sends EXIT. */
void process_finish(struct process *process);
extern const struct channel_ops process_channel;
/* The fields of EXIT. */
void say_exit(struct port *port, uint32_t channel, const struct process *process);

/* stream.c: output. */
/* Takes over the reading end of an output pipe. */
void stream_open(struct stream *stream, int fd);
void stream_ready(struct source *source, uint32_t events);
bool streams_pump(struct task *task);
/* The main process has ended: what the pipes hold now is the rest of the output. */
void streams_measure(struct process *process);
void streams_close(struct process *process);
/* Closes the pipes that commands have left behind. */
void leftovers_end(void);

/* terminal.c: commands in terminals. */
/* The size that a request gives; false when it is none. */
bool terminal_size(const struct fields *fields, struct winsize *out);
/* Opens a terminal for the process's order; -1 with errno. */
int terminal_open(struct process *process);
/* Says that nothing more will be typed, as a keyboard would. False: it takes nothing now, so once more later. */
bool terminal_end_input(struct process *process);
void handle_resize(struct port *port, const struct frame *frame, const struct fields *fields);

/* input.c: stdin. */
void input_data(struct process *process, const uint8_t *bytes, uint32_t length);
void input_open(struct process *process, int fd);
void input_close(struct process *process);
void handle_stdin(struct port *port, const struct frame *frame, const struct fields *fields);

/* exec.c */
void handle_exec(struct port *port, const struct frame *frame, const struct fields *fields);

/* attach.c */
void handle_attach(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_processes(struct port *port, const struct frame *frame, const struct fields *fields);
void handle_signal(struct port *port, const struct frame *frame, const struct fields *fields);
void attachers_wake(struct process *process);
void attachers_end(struct process *process);

#endif
