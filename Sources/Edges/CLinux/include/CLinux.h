/* The kernel's headers, and plain functions around the GNU and Linux calls that Swift's Glibc module does not offer.
 *
 * Every function returns what the system call returns, and leaves errno alone; pointers are borrowed for the call.
 * Macros with casts or parentheses are not imported by Swift: where we need one, it is an enumerator CL_... here. */
#ifndef MARGAY_CLINUX_H
#define MARGAY_CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/socket.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/if_link.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <linux/if_arp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_log.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  CL_EPOLLIN = 0x001, CL_EPOLLOUT = 0x004, CL_EPOLLERR = 0x008, CL_EPOLLHUP = 0x010, CL_EPOLLRDHUP = 0x2000,
};
enum { CL_EPOLL_ADD = 1, CL_EPOLL_DEL = 2, CL_EPOLL_MOD = 3 };
/* A namespace of the network for cl_setns, cl_unshare. */
enum { CL_CLONE_NEWNET = 0x40000000, CL_CLONE_NEWNS = 0x00020000 };

/* Namespaces, mounts, processes */
int cl_setns(int descriptor, int type);
int cl_unshare(int flags);
/* 1 if the descriptor is of a network namespace, else 0. */
int cl_is_network_namespace(int descriptor);
/* Binds `source` over `target`. */
int cl_bind_mount(const char *source, const char *target, int recursive);
int cl_mount_shared(const char *target);
int cl_mount_private_recursive(const char *target);
int cl_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int cl_unmount_detached(const char *target);
/// Returns when every processor has left what it was doing inside of the kernel's RCU sections, as a packet under way is.
int cl_wait_for_packets(void);
pid_t cl_gettid(void);
int cl_set_parent_death_signal(int signal);
int cl_set_process_name(const char *name);
int cl_pidfd_open(pid_t pid);
int cl_pidfd_send_signal(int pidfd, int signal);
/* Drops the capabilities whose bits are not set from the bounding, permitted, effective, inheritable and ambient sets of this thread. */
int cl_keep_capabilities(uint64_t kept);

/* Runs `body(context)` on a fresh thread that has joined the network namespace `descriptor` (or stays, if negative) and ends after it.
 * Returns 0, or -1 with errno when the thread or the namespace could not be had: then `body` did not run. */
int cl_run_in_namespace(int descriptor, void (*body)(void *), void *context);
/* Makes a new network namespace on a thread of its own and returns a descriptor of it; loopback in it is down. */
int cl_new_network_namespace(void);
/* Starts a detached thread with all signals blocked. */
int cl_start_thread(void (*body)(void *), void *context);

/* A child process. The arrays end with NULL. Descriptors -1 mean /dev/null. `namespace_descriptor` -1 stays in ours.
 * `death_signal` 0 none; it is sent when the *thread* that started the child ends. Signals are reset and unblocked in the child.
 * `confined`: of its capabilities the child keeps only those of `capabilities` (bits), and can never get others.
 * Returns the pid, or -1 with the errno of the step that failed, exec included. */
pid_t cl_spawn(const char *path, char *const arguments[], char *const environment[], int input, int output, int error,
               int namespace_descriptor, int death_signal, int new_group, const char *directory,
               const int *inherited, int inherited_count, int confined, uint64_t capabilities);
/* Returns the pid, 0 if it still runs, -1 error. *code is the exit code, or 128 + signal. */
pid_t cl_reap(pid_t pid, int block, int *code);

/* Waiting */
int cl_epoll_create(void);
int cl_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token);
struct cl_event { uint64_t token; uint32_t events; };
int cl_epoll_wait(int epoll, struct cl_event *events, int capacity, int timeout_milliseconds);
int cl_eventfd(void);
int cl_timerfd(void);
/* Absolute CLOCK_MONOTONIC nanoseconds; 0 disarms. */
int cl_timerfd_set(int descriptor, int64_t nanoseconds);
/* A descriptor from which `cl_watched_signal` reads the numbers of the signals that came, whichever thread the kernel chose to interrupt:
 * blocking them for a signalfd would need every thread to block them, and a Swift program's main thread is out of reach. A signal that was
 * ignored when the program was started stays ignored. The last call for a signal gets it. */
int cl_watch_signals(const int *signals, int count);
/* The next number, -1 if there is none. */
int cl_watched_signal(int descriptor);
int cl_ignore_sigpipe(void);
int64_t cl_monotonic_nanoseconds(void);
int64_t cl_boottime_nanoseconds(void);
int64_t cl_realtime_nanoseconds(void);
int cl_inotify_create(void);
int cl_inotify_add(int descriptor, const char *path, uint32_t mask);
int cl_set_nonblocking(int descriptor, int on);
int cl_set_close_on_exec(int descriptor, int on);
int cl_memfd(const char *name);
/* Both ends close-on-exec. */
int cl_pipe(int ends[2]);

/* Sockets. Families are 4 and 6; all descriptors are close-on-exec. Addresses are host-order integers. */
struct cl_address { int family; uint16_t port; uint32_t scope; uint32_t v4; uint64_t high; uint64_t low; };
int cl_socket(int domain, int type, int protocol, int nonblocking);
int cl_inet_socket(int family, int datagram, int nonblocking);
int cl_bind(int descriptor, const struct cl_address *address);
int cl_connect(int descriptor, const struct cl_address *address);
int cl_accept(int descriptor, int nonblocking, struct cl_address *peer);
int cl_local_address(int descriptor, struct cl_address *address);
int cl_peer_address(int descriptor, struct cl_address *address);
ssize_t cl_send_to(int descriptor, const void *bytes, size_t count, const struct cl_address *to);
ssize_t cl_receive_from(int descriptor, void *bytes, size_t capacity, struct cl_address *from);
ssize_t cl_send(int descriptor, const void *bytes, size_t count);
ssize_t cl_receive(int descriptor, void *bytes, size_t capacity);
int cl_socket_error(int descriptor);
int cl_set_option(int descriptor, int level, int option, int value);
int cl_get_option(int descriptor, int level, int option, int *value);
int cl_bind_to_device(int descriptor, const char *device);
int cl_reuse_address(int descriptor);
int cl_tcp_no_delay(int descriptor);
int cl_v6_only(int descriptor);
/* Time to live of what we send; `family` 4 or 6. */
int cl_set_ttl(int descriptor, int family, int ttl);
/* RFC 5082: packets with a lower time to live are dropped before the connection sees them. */
int cl_set_min_ttl(int descriptor, int family, int ttl);
int cl_set_traffic_class(int descriptor, int family, int value);
/* TCP_MD5SIG (RFC 2385) with the peer's address as the selector; length 0 removes the key. `prefix_length` below 0: exact. */
int cl_set_md5(int descriptor, const struct cl_address *peer, const void *key, int length, int prefix_length);
int cl_unix_socket(int nonblocking, int sequenced);
int cl_unix_bind(int descriptor, const char *path);
int cl_unix_connect(int descriptor, const char *path);
/* One datagram to the socket at `path`, without waiting. */
ssize_t cl_unix_datagram(const char *path, const void *bytes, size_t count);
int cl_unix_pair(int descriptors[2], int sequenced);
int cl_peer_credentials(int descriptor, pid_t *pid, uid_t *uid, gid_t *gid);
/* Sends bytes together with descriptors (SCM_RIGHTS), at most 16. */
ssize_t cl_send_with_fd(int descriptor, const void *bytes, size_t count, const int *passed, int passed_count);
/* Receives bytes and up to 16 descriptors; *received_count says how many. They are close-on-exec. */
ssize_t cl_recv_with_fd(int descriptor, void *bytes, size_t capacity, int *received, int *received_count);
/* A raw packet socket of one protocol (host order, 3 for all) bound to an interface index, for tests and probes. */
int cl_packet_socket(int protocol, int interface_index);
/* Many equal-sized datagrams in one call; returns how many were sent or received. lengths[] is filled when receiving. */
int cl_send_many(int descriptor, const void *bytes, size_t each, int count, const struct cl_address *to);
int cl_receive_many(int descriptor, void *bytes, size_t each, int count, uint32_t *lengths, struct cl_address *from);

/* Netlink */
int cl_netlink_open(int protocol, int buffer_octets, uint32_t *port);
int cl_netlink_join(int descriptor, uint32_t group);
int cl_netlink_leave(int descriptor, uint32_t group);
int cl_netlink_strict(int descriptor);
int cl_netlink_send_buffer(int descriptor, int octets);
ssize_t cl_netlink_send(int descriptor, const void *bytes, size_t count);
/* *sender is the port that sent it (0 kernel); *truncated is set when the datagram was larger than the buffer. */
ssize_t cl_netlink_receive(int descriptor, void *bytes, size_t capacity, int wait, uint32_t *sender, int *truncated);
int cl_netlink_receive_timeout(int descriptor, int milliseconds);

const char *cl_error_text(int code, char *buffer, size_t capacity);
int cl_is_mount_point(const char *path);
ssize_t cl_random(void *bytes, size_t count);
int cl_set_affinity(int cpu);

#ifdef __cplusplus
}
#endif
#endif
