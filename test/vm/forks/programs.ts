/** What runs in guests while they are forked, and what then says whether all of it is whole. Python of the base template. */

/**
 * A world in one process on port 7000: a table of strings, a buffer whose pages it changes when told to, each with its checksum, and
 * one connection to itself that never stops talking. Lines in, lines out: `set K V`, `get K`, `renew` (change all
 * pages), `stir` (change pages from now on, without pause), `check` (pages that do not fit their checksum), `echoes` (of the old connection).
 */
export const WORLD = `
import os, random, select, socket, sys, threading, time, zlib
PAGE = 4096
table, sums, stirring = {}, [], False
buffer = bytearray()
def grow(mib):
    for _ in range(mib * 256):
        page = os.urandom(PAGE)
        buffer.extend(page)
        sums.append(zlib.crc32(page))
def renew(i):
    page = os.urandom(64) * 64
    buffer[i * PAGE:(i + 1) * PAGE] = page
    sums[i] = zlib.crc32(page)
def bad():
    return sum(zlib.crc32(buffer[i * PAGE:(i + 1) * PAGE]) != s for i, s in enumerate(sums))
def answer(line):
    global stirring
    word, *rest = line.split()
    if word == "set": table[rest[0]] = rest[1]
    elif word == "get": return table.get(rest[0], "-")
    elif word == "stir": stirring = True
    elif word == "renew": [renew(i) for i in range(len(sums))]
    elif word == "check": return str(bad())
    elif word == "echoes": return str(echoes[0])
    elif word == "echo": return rest[0]
    return "ok"
listener = socket.create_server(("127.0.0.1", 7000), backlog=16)
echoes = [0]
def talk():
    c = socket.create_connection(("127.0.0.1", 7000)).makefile("rw")
    while True:
        c.write(f"echo {echoes[0]}\\n"); c.flush()
        assert c.readline() == f"{echoes[0]}\\n"
        echoes[0] += 1
        time.sleep(.05)
grow(int(sys.argv[1]))
clients = {}
threading.Thread(target=talk, daemon=True).start()
open("/run/world.pid", "w").write(str(os.getpid()))
while True:
    ready, _, _ = select.select([listener, *clients], [], [], 0 if stirring else None)
    if stirring: renew(random.randrange(len(sums)))
    for s in ready:
        if s is listener:
            c, _ = s.accept()
            clients[c] = c.makefile("rw")
            continue
        line = clients[s].readline()
        if not line:
            clients.pop(s).close(); s.close()
            continue
        clients[s].write(answer(line) + "\\n"); clients[s].flush()
`;

/** Asks the world all the lines that it is given and says its answers; a new interpreter would take an emulated guest a second. */
export const ASK = `
exec 3<>/dev/tcp/127.0.0.1/7000 || exit 1
for line; do echo "$line" >&3; read -r answer <&3; echo "$answer"; done
`;

/**
 * Writes without pause: a log of 128 records, each with checksum and number, over and over and through to the disk; a database
 * that waits for its disk at every commit; and files that come and go. It counts in memory what is on disk for certain.
 */
export const LOAD = `
import os, random, sqlite3, threading, zlib
open("/run/load.pid", "w").write(str(os.getpid()))
def told(name, n):
    with open(f"/run/{name}.new", "w") as f: f.write(str(n))
    os.rename(f"/run/{name}.new", f"/run/{name}")
def log():
    f = os.open("/root/log", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_SYNC)
    for i in range(1 << 40):
        b = os.urandom(16384)
        os.pwrite(f, b + zlib.crc32(b).to_bytes(4, "little") + i.to_bytes(4, "little"), i % 128 * 16392)
        if i >= 127: told("log", i)
def rows():
    db = sqlite3.connect("/root/db", timeout=60)
    db.execute("pragma synchronous=full")
    db.execute("create table t(a integer primary key, b blob, c integer)")
    for i in range(1 << 40):
        b = os.urandom(300)
        with db: db.execute("insert or replace into t values(?, ?, ?)", (i % 2000, b, zlib.crc32(b)))
        told("rows", i)
def files():
    for i in range(1 << 40):
        folder = f"/root/files/{i % 50}/"
        os.makedirs(folder, exist_ok=True)
        with open(folder + str(random.randrange(20)), "wb") as f: f.write(os.urandom(random.randrange(60000)))
        if i % 3 == 0:
            try:
                os.rename(folder + str(random.randrange(20)), folder + "x")
                os.unlink(folder + "x")
            except FileNotFoundError: pass
for job in [log, rows, files]: threading.Thread(target=job).start()
`;

/**
 * Waits until the load goes on, kills it in the middle (between its system calls: a kill ends a write after any page of it, and
 * the record would be torn by that alone), forgets what is cached of the disk and reads all of it. One line of
 * JSON: records and rows that are damaged, how far the disk is behind or ahead of what was counted, what the kernel complained of.
 */
export const CHECK = `
import json, os, signal, sqlite3, time, zlib
def told(name): return int(open(f"/run/{name}").read())
at = {name: told(name) for name in ("log", "rows")}
end = time.monotonic() + 30
while any(told(name) <= n for name, n in at.items()) and time.monotonic() < end: time.sleep(.05)
went = all(told(name) > n for name, n in at.items())
pid = int(open("/run/load.pid").read())
os.kill(pid, signal.SIGSTOP)
while any(open(f"/proc/{pid}/task/{t}/stat").read().split(") ")[1][0] != "T" for t in os.listdir(f"/proc/{pid}/task")): time.sleep(.02)
os.kill(pid, signal.SIGKILL)
while os.path.exists(f"/proc/{pid}/exe"): time.sleep(.02)
open("/proc/sys/vm/drop_caches", "w").write("3")
f = os.open("/root/log", os.O_RDONLY)
damaged, newest = 0, []
for k in range(128):
    r = os.pread(f, 16392, k * 16392)
    n = int.from_bytes(r[16388:], "little")
    damaged += len(r) != 16392 or zlib.crc32(r[:16384]) != int.from_bytes(r[16384:16388], "little") or n % 128 != k
    newest.append(n)
db = sqlite3.connect("/root/db")
whole = db.execute("pragma integrity_check").fetchall() == [("ok",)]
rows = db.execute("select b, c from t").fetchall()
damaged += sum(zlib.crc32(b) != c for b, c in rows)
lost = max(0, told("log") - max(newest)) + max(0, min(told("rows") + 1, 2000) - len(rows))
ahead = max(0, max(newest) - told("log") - 1)
gap = max(newest) - min(newest) - 127
kernel = os.popen("dmesg | grep -ciE 'error|corrupt|hung|blocked|bug:'").read().strip()
print(json.dumps(dict(went=went, damaged=damaged, whole=whole, lost=lost, ahead=ahead, gap=min(gap, 99) if gap > 1 else 0, kernel=kernel)))
`;
