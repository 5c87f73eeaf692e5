/*
 * The floor: the least that a microVM restored from a template can cost on this machine, against which the product is
 * measured. Bare QEMU with the product's own argument list (test/golden/qemu-restore.argv), the same agent and snapshot, but
 * no jail, no reseed, no meter, no Bun.
 *
 *   floor ARGV_FILE TEMPLATE_DIR QEMU_DATA_DIR WORK_DIR
 *
 * Reads one word a line from stdin and answers each with one line of JSON (milliseconds):
 *   restore    reflink the disk, start QEMU, load the state, resume, python `print(6*7)` from the warm interpreter, verify "42"
 *   prepared   the same, but timed from the moment a waiting QEMU (greeted, no state) is told to load
 *   pair N     restore, then N further execs in the same guest (first is "ms", the rest "more")
 * WORK_DIR must be on the file system of TEMPLATE_DIR (FICLONE). Exits non-zero with a sentence on any failure.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 4, MAX_ARGS = 128, FIRST_FD = 100, FRAME_MAX = 65536 };

static char *args[MAX_ARGS], args_text[32768];
static const char *template_dir, *data_dir, *work_dir;
static int memory_fd;

struct vm {
  pid_t pid;
  int qmp, agent, state;
};

static void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("floor: ", stderr);
  vfprintf(stderr, format, list);
  fprintf(stderr, " (%s)\n", strerror(errno));
  va_end(list);
  exit(1);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int open_in(const char *dir, const char *name, int flags) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  int fd = open(path, flags | O_CLOEXEC, 0600);
  if (fd < 0) die("cannot open %s", path);
  return fd;
}

/* The template's RAM, only its data extents, in a sealed memfd: what the product does once per process. */
static void load_memory(void) {
  int from = open_in(template_dir, "memory", O_RDONLY);
  struct stat st;
  fstat(from, &st);
  memory_fd = memfd_create("floor", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  if (memory_fd < 0 || ftruncate(memory_fd, st.st_size)) die("memfd");
  static char piece[1 << 20];
  for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
    off_t end = lseek(from, at, SEEK_HOLE);
    while (at < end) {
      ssize_t n = pread(from, piece, (size_t)(end - at) < sizeof piece ? (size_t)(end - at) : sizeof piece, at);
      if (n <= 0 || pwrite(memory_fd, piece, n, at) != n) die("copying memory");
      at += n;
    }
  }
  if (fcntl(memory_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)) die("seal");
  close(from);
}

static void load_args(const char *file) {
  int fd = open(file, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, args_text, sizeof args_text - 1);
  if (n <= 0) die("cannot read %s", file);
  int count = 0;
  for (char *line = strtok(args_text, "\n"); line; line = strtok(NULL, "\n")) {
    if (count == MAX_ARGS - 1) die("too many arguments in %s", file);
    args[count++] = strcmp(line, "{data}") ? line : (char *)data_dir;
  }
}

static int listener(const char *name) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", work_dir, name);
  unlink(a.sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1)) die("cannot listen on %s", a.sun_path);
  return fd;
}

static int connected(const char *name) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", work_dir, name);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&a, sizeof a)) die("cannot connect to %s", a.sun_path);
  return fd;
}

static int tap(void) {
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  struct ifreq r = {0};
  r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (fd < 0 || ioctl(fd, TUNSETIFF, &r)) die("tap");
  return fd;
}

/* Order of descriptors from FIRST_FD on: the golden argument list is written with the same. */
static struct vm start(void) {
  struct vm vm;
  int base = open_in(template_dir, "disk", O_RDONLY);
  int rw = open_in(work_dir, "disk", O_RDWR | O_CREAT | O_TRUNC), ro = open_in(work_dir, "disk", O_RDONLY);
  if (ioctl(rw, FICLONE, base)) die("FICLONE");
  close(base);
  vm.state = open_in(template_dir, "state", O_RDONLY);
  int fds[] = {listener("q"), listener("a0"), listener("a1"), listener("a2"), listener("a3"), memory_fd, rw, ro, vm.state, tap(),
               /* where a state would be saved to and volumes attached: five times nothing */
               open("/dev/null", O_RDWR), open("/dev/null", O_RDWR), open("/dev/null", O_RDWR), open("/dev/null", O_RDWR), open("/dev/null", O_RDWR)};
  int count = sizeof fds / sizeof *fds;
  vm.pid = vfork();
  if (vm.pid == 0) {
    for (int i = 0; i < count; i++) dup2(fds[i], FIRST_FD + i);
    execvp(args[0], args);
    _exit(127);
  }
  vm.qmp = connected("q");
  vm.agent = connected("a0");
  for (int i = 0; i < count; i++)
    if (fds[i] != memory_fd) close(fds[i]);
  return vm;
}

static void send_all(int fd, const void *bytes, size_t length) {
  if (write(fd, bytes, length) != (ssize_t)length) die("short write");
}

/* Reads one QMP line; answers are small and come one at a time here. */
static void qmp_line(int fd, char *line, size_t size) {
  size_t n = 0;
  while (n < size - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n') n++;
  line[n] = 0;
  if (n == 0) die("QEMU closed its monitor");
}

static void qmp(int fd, const char *command, char *answer, size_t size) {
  send_all(fd, command, strlen(command));
  do qmp_line(fd, answer, size);
  while (strstr(answer, "\"event\""));
  if (strstr(answer, "\"error\"")) die("QEMU refused %s: %s", command, answer);
}

static void greet(struct vm *vm) {
  char answer[4096];
  qmp_line(vm->qmp, answer, sizeof answer);
  qmp(vm->qmp, "{\"execute\":\"qmp_capabilities\"}\n", answer, sizeof answer);
}

static void load_and_resume(struct vm *vm) {
  char command[128], answer[4096];
  snprintf(command, sizeof command, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:%d\"}}\n", FIRST_FD + 8);
  qmp(vm->qmp, command, answer, sizeof answer);
  do qmp(vm->qmp, "{\"execute\":\"query-status\"}\n", answer, sizeof answer);
  while (strstr(answer, "inmigrate"));
  qmp(vm->qmp, "{\"execute\":\"cont\"}\n", answer, sizeof answer);
}

static uint8_t *field(uint8_t *at, uint8_t tag, const void *bytes, uint32_t length) {
  *at++ = tag;
  memcpy(at, &length, 4);
  memcpy(at + 4, bytes, length);
  return at + 4 + length;
}

static void read_all(int fd, void *to, size_t length) {
  for (size_t n = 0; n < length;) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 60000) != 1) die("the guest did not answer within 60 s");
    ssize_t r = read(fd, (char *)to + n, length - n);
    if (r <= 0) die("the guest's channel closed");
    n += r;
  }
}

/* EXEC (0x10) of python code on its own channel; done at EXIT (0x94) after OUT (0x91) said 42. */
static void exec42(struct vm *vm, uint32_t channel) {
  uint8_t frame[512], *at = frame + 12;
  uint64_t flags = 1, timeout = 60000, limit = 1 << 20;
  at = field(at, 10, "/work/item.py", 13);
  at = field(at, 17, "print(6*7)\n", 11);
  at = field(at, 16, &flags, 8);
  at = field(at, 14, &timeout, 8);
  at = field(at, 15, &limit, 8);
  uint32_t length = at - frame - 12;
  memset(frame, 0, 12);
  memcpy(frame, &length, 4);
  frame[4] = 0x10;
  memcpy(frame + 8, &channel, 4);
  send_all(vm->agent, frame, 12 + length);
  static uint8_t payload[FRAME_MAX];
  for (int seen = 0;;) {
    uint8_t header[12];
    read_all(vm->agent, header, 12);
    memcpy(&length, header, 4);
    if (length > FRAME_MAX) die("frame too long");
    read_all(vm->agent, payload, length);
    if (header[4] == 0x91) seen = length == 3 && !memcmp(payload, "42\n", 3);
    if (header[4] == 0x84) die("the guest refused: %.*s", (int)length, payload);
    if (header[4] == 0x94) {
      if (!seen) die("the result was not 42");
      return;
    }
  }
}

static void end(struct vm *vm) {
  kill(vm->pid, SIGKILL);
  waitpid(vm->pid, NULL, 0);
  close(vm->qmp);
  close(vm->agent);
}

static void run(const char *word, int more) {
  int prepared = !strcmp(word, "prepared");
  double t = now_ms();
  struct vm vm = start();
  greet(&vm);
  if (prepared) {
    /* Its start-up threads settle first, as they have when a pool's process is taken. */
    struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    nanosleep(&pause, NULL);
    t = now_ms();
  }
  load_and_resume(&vm);
  exec42(&vm, 1);
  printf("{\"ms\":%.3f,\"more\":[", now_ms() - t);
  for (int i = 0; i < more; i++) {
    double s = now_ms();
    exec42(&vm, i + 2);
    printf("%s%.3f", i ? "," : "", now_ms() - s);
  }
  puts("]}");
  fflush(stdout);
  end(&vm);
}

int main(int argc, char **argv) {
  if (argc != 5) die("usage: floor ARGV_FILE TEMPLATE_DIR QEMU_DATA_DIR WORK_DIR");
  template_dir = argv[2];
  data_dir = argv[3];
  work_dir = argv[4];
  load_args(argv[1]);
  load_memory();
  signal(SIGPIPE, SIG_IGN);
  char line[64], word[64];
  while (fgets(line, sizeof line, stdin)) {
    int more = 0;
    if (sscanf(line, "%63s %d", word, &more) < 1) continue;
    run(word, !strcmp(word, "pair") ? more : 0);
  }
  return 0;
}
