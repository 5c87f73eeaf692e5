/* FREEZE and THAW, and the life of the freezer; see freeze.h. */
#define _GNU_SOURCE
#include "freeze.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Between two tries to thaw after a freezer that something has killed. */
#define AGAIN_NS 100000000u

enum { THAW_KEPT = 1 };

static struct {
    pid_t pid; /* 0: none. Until it has gone the disks may be frozen */
    bool frozen; /* it has said so, and FREEZE is answered; the channel stays, to learn that its host has gone */
    struct source talk;
    struct channel asked, thawing; /* of FREEZE, and of the THAW that waits for the freezer's end */
    struct timer again;
    bool kept; /* when THAW came all was still frozen */
} freezer = {.talk = {.fd = -1}};

bool freeze_active(void) { return freezer.pid != 0 || freezer.again.at_ns != 0; }

static void thaw_again(struct timer *timer) {
    pid_t pid = fork();
    if (pid == 0) disks_thaw();
    if (pid < 0) {
        timer_set(timer, now_ns() + AGAIN_NS);
        return;
    }
    freezer.pid = pid;
    process_score(pid, "-1000");
}

void freeze_end(void) {
    loop_close(&freezer.talk); /* which is all that the freezer waits for */
    freezer.frozen = false;
    channel_close(&freezer.asked);
}

static void refuse(int code, const char *text) {
    if (freezer.asked.port != NULL && !freezer.frozen) say_error(freezer.asked.port, freezer.asked.id, code, "%s", text);
    freeze_end();
}

static void asked_cancel(struct channel *channel) {
    (void)channel;
    refuse(ECANCELED, "cancelled");
}

static void asked_gone(struct channel *channel) {
    (void)channel;
    freeze_end();
}

static const struct channel_ops asked_channel = {.cancel = asked_cancel, .gone = asked_gone};

static void freezer_speaks(struct source *source, uint32_t events) {
    (void)events;
    struct freeze_word word;
    ssize_t length = recv(source->fd, &word, sizeof word, MSG_DONTWAIT);
    if (length < 0 && errno == EAGAIN) return;
    if (length != (ssize_t)sizeof word) {
        refuse(EIO, "the freezer ended"); /* too early; what it had frozen is seen to when it is reaped */
    } else if (word.code != 0) {
        word.text[sizeof word.text - 1] = 0;
        refuse(word.code, word.text);
    } else if (freezer.asked.port != NULL) {
        say(freezer.asked.port, freezer.asked.id, SAY_DONE);
        freezer.frozen = true;
    }
}

void handle_freeze(struct port *port, const struct frame *frame, const struct fields *fields) {
    (void)fields;
    int pair[2];
    if (freeze_active()) {
        say_error(port, frame->channel, EALREADY, "the file systems are being frozen or thawed already");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        say_error(port, frame->channel, errno, "freezing: %s", strerror(errno));
        return;
    }
    pid_t pid = fork();
    if (pid == 0) disks_freeze(pair[1]);
    int code = errno;
    close(pair[1]);
    freezer.talk = (struct source){.fd = pair[0], .ready = freezer_speaks};
    if (pid < 0 || loop_watch(&freezer.talk, EPOLLIN) != 0 ||
        !channel_open(port, &freezer.asked, frame->channel, &asked_channel)) {
        say_error(port, frame->channel, pid < 0 ? code : EBUSY, "freezing: no process or channel for it");
        loop_close(&freezer.talk);
    }
    if (pid < 0) return;
    freezer.pid = pid;
    process_score(pid, "-1000");
}

static void thawing_cancel(struct channel *channel) {
    say_error(channel->port, channel->id, ECANCELED, "cancelled");
    channel_close(channel);
}

static void thawing_gone(struct channel *channel) { (void)channel; }

static const struct channel_ops thawing_channel = {.cancel = thawing_cancel, .gone = thawing_gone};

void handle_thaw(struct port *port, const struct frame *frame, const struct fields *fields) {
    (void)fields;
    if (!freeze_active()) {
        say_u64(port, frame->channel, SAY_DONE, TAG_FLAGS, 0);
    } else if (freezer.thawing.port != NULL || !channel_open(port, &freezer.thawing, frame->channel, &thawing_channel)) {
        say_error(port, frame->channel, EALREADY, "the file systems are being thawed already");
    } else {
        freezer.kept = freezer.frozen;
        refuse(ECANCELED, "thawed meanwhile");
    }
}

void freeze_reaped(pid_t pid, int status) {
    if (pid != freezer.pid) return;
    if (freezer.talk.fd >= 0) freezer_speaks(&freezer.talk, EPOLLIN);
    freeze_end();
    freezer.pid = 0;
    bool known = WIFEXITED(status) && (WEXITSTATUS(status) == FREEZER_DONE || WEXITSTATUS(status) == FREEZER_LATE);
    if (!known || WEXITSTATUS(status) == FREEZER_LATE) freezer.kept = false;
    if (!known) {
        freezer.again.fire = thaw_again;
        timer_set(&freezer.again, now_ns() + AGAIN_NS);
        return;
    }
    if (freezer.thawing.port != NULL) {
        say_u64(freezer.thawing.port, freezer.thawing.id, SAY_DONE, TAG_FLAGS, freezer.kept ? THAW_KEPT : 0);
        channel_close(&freezer.thawing);
    }
    held_release();
}
