# Runs in a guest, as root: writes frames of its own making to its link ("forge"), or listens to what comes in ("listen").
import json, socket, struct, sys, time

LINK = "eth0"
OWN_MAC, GATEWAY_MAC, EVERYBODY = b"\x02WR\0\0\x02", b"\x02WR\0\0\x01", b"\xff" * 6
OWN4, OWN6 = "10.99.0.2", "fd57:5752::2"
PORT = 7


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def udp(source, target, body, family, port=PORT):
    pack = lambda text: socket.inet_pton(family, text)
    length = 8 + len(body)
    head = struct.pack("!4H", 40000, port, length, 0)
    pseudo = pack(source) + pack(target) + struct.pack("!IHBB", length, 0, 0, 17)
    if family == socket.AF_INET:
        pseudo = pack(source) + pack(target) + struct.pack("!BBH", 0, 17, length)
    return struct.pack("!4H", 40000, port, length, checksum(pseudo + head + body)) + body


def ip4(source, target, protocol, body):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head + ends)) + ends + body


def ip6(source, target, following, body, hops=255):
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return struct.pack("!IHBB", 6 << 28, len(body), following, hops) + ends + body


def icmp6(source, target, body):
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    pseudo += struct.pack("!II", len(body), 58)
    return ip6(source, target, 58, body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:])


def frame(payload, kind, target=GATEWAY_MAC, source=OWN_MAC):
    return target + source + struct.pack("!H", kind) + payload


def arp(operation, sender_mac, sender, target):
    ends = sender_mac + socket.inet_aton(sender) + b"\0" * 6 + socket.inet_aton(target)
    return frame(struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends, 0x0806, EVERYBODY)


def neighbour_advertisement(address, mac):
    body = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + socket.inet_pton(socket.AF_INET6, address) + b"\2\1" + mac
    return icmp6(address, "ff02::1", body)


def router_advertisement():
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8:1::")
    return icmp6("fe80::2", "ff02::1", struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix)


def forged(sources4, sources6, target4, target6):
    """Under other names than its own, and to others than its gateway; the body says as whom."""
    frames = []
    for source in sources4:
        body = f"forged {source}".encode()
        packet = ip4(source, target4, 17, udp(source, target4, body, socket.AF_INET))
        frames += [frame(packet, 0x0800), frame(packet, 0x0800, EVERYBODY), arp(2, OWN_MAC, source, "10.99.0.1")]
        frames.append(frame(ip4(source, target4, 1, struct.pack("!BBHHH", 5, 1, 0xFA00 - 1, 0, 0)), 0x0800))  # a redirect
    for source in sources6:
        body = f"forged {source}".encode()
        packet = ip6(source, target6, 17, udp(source, target6, body, socket.AF_INET6))
        frames += [frame(packet, 0x86DD), frame(packet, 0x86DD, b"\x33\x33\0\0\0\1")]
        frames.append(frame(neighbour_advertisement(source, OWN_MAC), 0x86DD, b"\x33\x33\0\0\0\1"))
    frames.append(frame(router_advertisement(), 0x86DD, b"\x33\x33\0\0\0\1"))
    other_mac = b"\x02WR\0\0\x09"
    own = ip4(OWN4, target4, 17, udp(OWN4, target4, b"forged mac", socket.AF_INET))
    frames.append(frame(own, 0x0800, GATEWAY_MAC, other_mac))
    frames.append(frame(own, 0x0800, other_mac))
    return frames


def tagged(frames):
    """The same within a VLAN: whoever looks past the tag would let it through."""
    return [one[:12] + b"\x81\0\0\x05" + one[12:] for one in frames]


def link():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((LINK, 0))
    return s


def forge(asked):
    frames = forged(asked["sources4"], asked["sources6"], asked["target4"], asked["target6"])
    s = link()
    for one in frames + tagged(frames):
        s.send(one)
    own = ip4(OWN4, asked["target4"], 17, udp(OWN4, asked["target4"], b"own", socket.AF_INET))
    s.send(frame(own, 0x0800))
    print(len(frames) * 2 + 1)


def listen(asked):
    """What comes in that this guest has not sent, for some seconds."""
    s = link()
    print("listening", flush=True)
    seen, until = [], time.monotonic() + asked["seconds"]
    while (left := until - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            data, about = s.recvfrom(200)
        except TimeoutError:
            break
        if about[2] != socket.PACKET_OUTGOING:
            seen.append(data[:60].hex())
    print(json.dumps(seen))


def syns(target):
    ports = 0
    while True:
        for port in range(1, 60000, 7):
            ports += 1
            head = struct.pack("!HHIIBBHHH", 1024 + ports % 60000, port, 1, 0, 0x50, 2, 1024, 0, 0)
            pseudo = socket.inet_aton(OWN4) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, 20)
            head = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
            yield frame(ip4(OWN4, target, 6, head), 0x0800)


def flood(asked):
    """As many frames of a kind as it can, for some seconds; prints how many."""
    target = asked["target4"]
    body = b"\x57\x57\1\0\0\1\0\0\0\0\0\0\1x\7example\3com\0\0\1\0\1"
    gateway = "10.99.0.1"
    once = {
        "udp": [frame(ip4(OWN4, target, 17, udp(OWN4, target, b"x" * 1400, socket.AF_INET)), 0x0800)],
        "forbidden": [frame(ip4(OWN4, "10.1.2.3", 17, udp(OWN4, "10.1.2.3", b"x", socket.AF_INET)), 0x0800)],
        "arp": [arp(1, OWN_MAC, OWN4, gateway)],
        "dns": [frame(ip4(OWN4, gateway, 17, udp(OWN4, gateway, body, socket.AF_INET, 53)), 0x0800)],
    }
    kind, s, sent, until = asked["flood"], link(), 0, time.monotonic() + asked["seconds"]
    more = syns(target) if kind == "syn" else iter(lambda: once[kind][0], None)
    print("flooding", flush=True)
    for one in more:
        try:
            s.send(one)
        except OSError:  # the queue is full
            continue
        sent += 1
        if sent % 64 == 0 and time.monotonic() > until:
            break
    print(sent)


def echo_times(asked):
    """Round trips of one byte over one connection, in milliseconds."""
    times, until = [], time.monotonic() + asked["seconds"]
    with socket.create_connection((asked["target4"], PORT), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.recv(200)
        while time.monotonic() < until:
            begun = time.monotonic()
            s.send(b"x")
            s.recv(1)
            times.append(round((time.monotonic() - begun) * 1000, 3))
    print(json.dumps(times))


asked = json.loads(sys.argv[1])
{"forge": forge, "listen": listen, "flood": flood, "echo": echo_times}[asked["do"]](asked)
