/*
 * The guest's network, said to the kernel over rtnetlink before the snapshot is taken: the same addresses in every guest, as
 * each has a host side of its own. Nothing is asked of the link: no ARP, no discovery, no solicitation, so that an idle guest
 * sends nothing. The host's half of these constants is in src/driver/qemu/argv.ts and src/host/net.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define LINK "eth0"
#define ADDRESS4 "10.99.0.2"
#define BROADCAST4 "10.99.0.3"
#define GATEWAY4 "10.99.0.1"
#define ADDRESS6 "fd57:5752::2"
#define GATEWAY6 "fd57:5752::1"

enum { PREFIX4 = 30, PREFIX6 = 64, MAC_BYTES = 6, ADDRESS6_BYTES = 16, ROOM = 256, ANSWER_BYTES = 4096 };

static const uint8_t gateway_mac[MAC_BYTES] = {0x02, 0x57, 0x52, 0x00, 0x00, 0x01};

/* One request: the head, what its type has behind it, attributes. */
union request {
    struct nlmsghdr head;
    uint8_t bytes[ROOM];
};

static union request *begin(union request *request, uint16_t type, const void *fixed, size_t length) {
    *request = (union request){
        .head = {.nlmsg_len = (uint32_t)NLMSG_SPACE(length),
                 .nlmsg_type = type,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (type == RTM_NEWLINK ? 0 : NLM_F_CREATE | NLM_F_REPLACE)}};
    memcpy(NLMSG_DATA(&request->head), fixed, length);
    return request;
}

/* All that is ever added fits the room: the longest request has an IPv6 address twice, and a number. */
static void add(union request *request, uint16_t type, const void *value, size_t length) {
    struct rtattr *attribute = (struct rtattr *)(request->bytes + request->head.nlmsg_len);
    *attribute = (struct rtattr){.rta_len = (uint16_t)RTA_LENGTH(length), .rta_type = type};
    memcpy(RTA_DATA(attribute), value, length);
    request->head.nlmsg_len += (uint32_t)RTA_SPACE(length);
}

static void add_u32(union request *request, uint16_t type, uint32_t value) { add(request, type, &value, sizeof value); }

static void add_address(union request *request, uint16_t type, int family, const char *text) {
    uint8_t bytes[ADDRESS6_BYTES];
    inet_pton(family, text, bytes);
    add(request, type, bytes, family == AF_INET ? 4 : ADDRESS6_BYTES);
}

/* Sends it and reads the kernel's verdict; what fails is noted, and the guest goes on without. */
static void tell(int fd, const union request *request, const char *what) {
    union {
        struct nlmsghdr head;
        uint8_t bytes[ANSWER_BYTES];
    } answer;
    ssize_t length = send(fd, request, request->head.nlmsg_len, 0);
    if (length >= 0) length = recv(fd, &answer, sizeof answer, 0);
    if (length >= 0) errno = EPROTO;
    if (length >= (ssize_t)NLMSG_SPACE(sizeof(struct nlmsgerr)) && answer.head.nlmsg_type == NLMSG_ERROR) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
        if (errno == 0) return;
    }
    note("network: %s: %s", what, strerror(errno));
}

/* The loopback's addresses come by themselves when it goes up. */
static void link_up(int fd, unsigned index, unsigned flags) {
    union request request;
    struct ifinfomsg info = {.ifi_index = (int)index, .ifi_flags = IFF_UP | flags, .ifi_change = IFF_UP | flags};
    tell(fd, begin(&request, RTM_NEWLINK, &info, sizeof info), "link");
}

static void address4(int fd, unsigned index) {
    union request request;
    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = PREFIX4, .ifa_index = index};
    begin(&request, RTM_NEWADDR, &info, sizeof info);
    add_address(&request, IFA_LOCAL, AF_INET, ADDRESS4);
    add_address(&request, IFA_ADDRESS, AF_INET, ADDRESS4);
    add_address(&request, IFA_BROADCAST, AF_INET, BROADCAST4);
    tell(fd, &request, ADDRESS4);
}

/* Without a route to its prefix: only the gateway is there, and whatever else is tried is for it to refuse. */
static void address6(int fd, unsigned index) {
    union request request;
    struct ifaddrmsg info = {.ifa_family = AF_INET6, .ifa_prefixlen = PREFIX6, .ifa_index = index};
    begin(&request, RTM_NEWADDR, &info, sizeof info);
    add_address(&request, IFA_LOCAL, AF_INET6, ADDRESS6);
    add_address(&request, IFA_ADDRESS, AF_INET6, ADDRESS6);
    add_u32(&request, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE | IFA_F_PERMANENT);
    tell(fd, &request, ADDRESS6);
}

static void neighbour(int fd, unsigned index, int family, const char *address) {
    union request request;
    struct ndmsg info = {.ndm_family = (uint8_t)family, .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT};
    begin(&request, RTM_NEWNEIGH, &info, sizeof info);
    add_address(&request, NDA_DST, family, address);
    add(&request, NDA_LLADDR, gateway_mac, MAC_BYTES);
    tell(fd, &request, "neighbour");
}

/* To `to` alone, or by way of `gateway` to everything. */
static void route(int fd, unsigned index, int family, const char *to, const char *gateway) {
    union request request;
    struct rtmsg info = {.rtm_family = (uint8_t)family,
                         .rtm_dst_len = to == NULL ? 0 : family == AF_INET ? 32 : 128,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT,
                         .rtm_scope = to == NULL ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
                         .rtm_type = RTN_UNICAST};
    begin(&request, RTM_NEWROUTE, &info, sizeof info);
    if (to != NULL) add_address(&request, RTA_DST, family, to);
    if (gateway != NULL) add_address(&request, RTA_GATEWAY, family, gateway);
    add_u32(&request, RTA_OIF, index);
    tell(fd, &request, to == NULL ? "default route" : "route to the gateway");
}

/* Before the link goes up: IPv6 would otherwise make an address of its own, ask whether it is taken, and ask for routers. */
static void calm_link(void) {
    const char *settings[][2] = {{"addr_gen_mode", "1"}, {"accept_dad", "0"}, {"accept_ra", "0"},
                                 {"autoconf", "0"},      {"router_solicitations", "0"}};
    for (int i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/" LINK "/%s", settings[i][0]);
        int setting = open(path, O_WRONLY | O_CLOEXEC);
        if (setting < 0 || write(setting, settings[i][1], 1) < 0) note("%s: %s", path, strerror(errno));
        if (setting >= 0) close(setting);
    }
}

void network_up(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) {
        note("network: %s", strerror(errno));
        return;
    }
    link_up(fd, if_nametoindex("lo"), 0);
    unsigned index = if_nametoindex(LINK);
    if (index == 0) {
        note("network: there is no " LINK);
        close(fd);
        return;
    }
    calm_link();
    link_up(fd, index, IFF_NOARP);
    address4(fd, index);
    address6(fd, index);
    neighbour(fd, index, AF_INET, GATEWAY4);
    neighbour(fd, index, AF_INET6, GATEWAY6);
    route(fd, index, AF_INET6, GATEWAY6, NULL);
    route(fd, index, AF_INET, NULL, GATEWAY4);
    route(fd, index, AF_INET6, NULL, GATEWAY6);
    close(fd);
}
