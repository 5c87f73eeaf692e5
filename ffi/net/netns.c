/*
 * Network namespaces. A thread that has changed its namespace must not be seen by anything else, threads that are started
 * meanwhile included, so each function goes there, opens what can only be opened there, and comes back, in one call. When
 * the way back fails the process ends: going on in a foreign namespace is the one thing it may not do.
 */
enum { NR_socket_ = 41, NR_unshare_ = 272, NR_setns_ = 308 };
enum { CLONE_NEWNET_ = 0x40000000, AF_NETLINK_ = 16, SOCK_RAW_ = 3, NETLINK_ROUTE_ = 0, NETLINK_NETFILTER_ = 12 };

/* Opens the netlink sockets of the thread's present namespace: out[1] rtnetlink, out[2] nfnetlink. */
static long open_sockets(i32 *out) {
	long r = SC3(NR_socket_, AF_NETLINK_, SOCK_RAW_ | O_CLOEXEC_, NETLINK_ROUTE_);
	if (r < 0) return r;
	out[1] = (i32)r;
	r = SC3(NR_socket_, AF_NETLINK_, SOCK_RAW_ | O_CLOEXEC_, NETLINK_NETFILTER_);
	if (r < 0) return r;
	out[2] = (i32)r;
	return 0;
}

/*
 * A tap that stays when its descriptor is closed, under this interface number; link down when it is new. One that is there
 * loses all that a VMM may have set on it through its own descriptor. -EBUSY while somebody has it open.
 */
static long add_tap(const char *name, int index, const u8 *mac) {
	struct { char name[16]; union { u16 flags; struct { u16 family; u8 data[14]; } address; u8 pad[24]; } u; } request;
	long fd = SC2(NR_open, "/dev/net/tun", O_RDWR_ | O_CLOEXEC_), r;
	u8 no_filter[16];
	i32 none = -1, header = 10, zero_value = 0, carrier = 1;
	int i;
	if (fd < 0) return fd;
	zero(&request, sizeof request);
	zero(no_filter, sizeof no_filter);
	for (i = 0; i < 15 && name[i] != 0; i++) request.name[i] = name[i];
	request.u.flags = 0x5002; /* IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, as spawn.c attaches to it */
	r = SC3(NR_ioctl, fd, 0x400454da, &index); /* TUNSETIFINDEX */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x400454ca, &request); /* TUNSETIFF */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x400454cb, 1); /* TUNSETPERSIST */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x400454d0, 0); /* TUNSETOFFLOAD */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x400454d8, &header); /* TUNSETVNETHDRSZ */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x400454dc, &zero_value); /* TUNSETVNETLE */
	if (r >= 0) r = SC3(NR_ioctl, fd, 0x401054d6, no_filter); /* TUNDETACHFILTER */
	if (r >= 0) SC3(NR_ioctl, fd, 0x800454e0, &none); /* TUNSETSTEERINGEBPF; not in every kernel, and then it has none */
	if (r >= 0) SC3(NR_ioctl, fd, 0x800454e1, &none); /* TUNSETFILTEREBPF */
	if (r >= 0) SC3(NR_ioctl, fd, 0x400454e2, &carrier); /* TUNSETCARRIER */
	if (r >= 0) {
		zero(&request.u, sizeof request.u);
		request.u.address.family = 1; /* ARPHRD_ETHER */
		for (i = 0; i < 6; i++) request.u.address.data[i] = mac[i];
		r = SC3(NR_ioctl, fd, 0x8924, &request); /* SIOCSIFHWADDR */
	}
	SC1(NR_close, fd);
	return r < 0 ? r : 0;
}

/* Writes one byte to a file below the directory `proc_sys`, seen from the thread's present namespace. */
static long set_switch(i32 proc_sys, const char *path, const char *value) {
	long fd = SC4(257, proc_sys, path, O_WRONLY_ | O_CLOEXEC_, 0), r; /* openat */
	if (fd < 0) return fd;
	r = SC3(NR_write, fd, value, 1);
	SC1(NR_close, fd);
	return r < 0 ? r : 0;
}

static long leave(i32 home, long r, i32 *out) {
	int i;
	if (SC2(NR_setns_, home, CLONE_NEWNET_) < 0) SC1(NR_exit_group, 99);
	if (r >= 0) return 0;
	for (i = 0; i < 3; i++) if (out[i] >= 0) SC1(NR_close, out[i]);
	return r;
}

/*
 * A new namespace: out[0] it, out[1] and out[2] its netlink sockets. With a tap in it, and with switches that netlink cannot set,
 * below `proc_sys`, the root of a procfs: refusals are as many as the rules say, not one in a second (the rest would look like
 * silence, and programs wait for that); with `ipv6`, that it is forwarded. 0, or -errno with nothing left.
 */
int warren_netns_make(int home, const char *tap, int index, const void *mac, int proc_sys, int ipv6, int *out) {
	long r;
	out[0] = out[1] = out[2] = -1;
	r = SC1(NR_unshare_, CLONE_NEWNET_);
	if (r < 0) return (int)r;
	r = SC2(NR_open, "/proc/thread-self/ns/net", O_CLOEXEC_);
	if (r >= 0) {
		out[0] = (i32)r;
		r = open_sockets(out);
	}
	if (r >= 0) r = add_tap(tap, index, (const u8 *)mac);
	if (r >= 0) r = set_switch(proc_sys, "sys/net/ipv4/icmp_ratelimit", "0");
	if (r >= 0 && ipv6 != 0) r = set_switch(proc_sys, "sys/net/ipv6/icmp/ratelimit", "0");
	if (r >= 0 && ipv6 != 0) r = set_switch(proc_sys, "sys/net/ipv6/conf/all/forwarding", "1");
	return (int)leave(home, r, out);
}

/* The netlink sockets of an existing namespace, out[1] and out[2]. With a name, that tap is made as if it were new. */
int warren_netns_enter(int home, int ns, const char *tap, int index, const void *mac, int *out) {
	long r;
	out[0] = out[1] = out[2] = -1;
	r = SC2(NR_setns_, ns, CLONE_NEWNET_);
	if (r < 0) return (int)r;
	r = open_sockets(out);
	if (r >= 0 && tap != 0) r = add_tap(tap, index, (const u8 *)mac);
	return (int)leave(home, r, out);
}
