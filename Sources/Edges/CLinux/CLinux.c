/* See CLinux.h. The define must stand before every header: it has no effect on headers that Swift's Glibc module owns. */
#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/if_packet.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/* Namespaces, mounts, processes */

int cl_setns(int descriptor, int type) { return setns(descriptor, type); }
int cl_is_network_namespace(int descriptor) { return ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET; }
int cl_unshare(int flags) { return unshare(flags); }
int cl_bind_mount(const char *source, const char *target, int recursive) {
  return mount(source, target, "none", MS_BIND | (recursive ? MS_REC : 0), NULL);
}
int cl_mount_shared(const char *target) { return mount("", target, "none", MS_SHARED | MS_REC, NULL); }
int cl_mount_private_recursive(const char *target) { return mount("", target, "none", MS_PRIVATE | MS_REC, NULL); }
int cl_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  return mount(source, target, type, flags, data);
}
int cl_unmount_detached(const char *target) { return umount2(target, MNT_DETACH); }
int cl_wait_for_packets(void) { return (int)syscall(SYS_membarrier, 1 /* MEMBARRIER_CMD_GLOBAL */, 0, 0); }
pid_t cl_gettid(void) { return (pid_t)syscall(SYS_gettid); }
int cl_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal); }
int cl_set_process_name(const char *name) { return prctl(PR_SET_NAME, name); }
int cl_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int cl_pidfd_send_signal(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }

int cl_keep_capabilities(uint64_t set) {
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* no such call before Linux 4.3: no such set either */
  for (int capability = 0; capability < 64; capability++) {
    int present = prctl(PR_CAPBSET_READ, capability);
    if (present < 0) break;
    if (present && !(set >> capability & 1) && prctl(PR_CAPBSET_DROP, capability) < 0) return -1;
  }
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  for (int i = 0; i < 2; i++) {
    uint32_t word = (uint32_t)(set >> (32 * i));
    data[i].effective = data[i].permitted = data[i].inheritable = word;
  }
  return (int)syscall(SYS_capset, &header, data);
}

struct run {
  int descriptor;
  void (*body)(void *);
  void *context;
  int error;
};

static void *run_thread(void *argument) {
  struct run *run = argument;
  if (run->descriptor >= 0 && setns(run->descriptor, CLONE_NEWNET) < 0) {
    run->error = errno;
    return NULL;
  }
  run->body(run->context);
  return NULL;
}

static int start_blocked(pthread_t *thread, void *(*body)(void *), void *context) {
  /* The thread must not become the receiver of the process's signals. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 2 << 20);
  int error = pthread_create(thread, &attributes, body, context);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error) {
    errno = error;
    return -1;
  }
  return 0;
}

int cl_run_in_namespace(int descriptor, void (*body)(void *), void *context) {
  struct run run = {descriptor, body, context, 0};
  pthread_t thread;
  if (start_blocked(&thread, run_thread, &run) < 0) return -1;
  pthread_join(thread, NULL);
  if (run.error) {
    errno = run.error;
    return -1;
  }
  return 0;
}

struct creation { int descriptor; int error; };

static void *create_thread(void *argument) {
  struct creation *creation = argument;
  creation->descriptor = -1;
  if (unshare(CLONE_NEWNET) == 0) creation->descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  creation->error = creation->descriptor < 0 ? errno : 0;
  return NULL;
}

int cl_new_network_namespace(void) {
  struct creation creation;
  pthread_t thread;
  if (start_blocked(&thread, create_thread, &creation) < 0) return -1;
  pthread_join(thread, NULL);
  if (creation.descriptor < 0) errno = creation.error;
  return creation.descriptor;
}

struct start { void (*body)(void *); void *context; };

static void *start_thread(void *argument) {
  struct start start = *(struct start *)argument;
  free(argument);
  start.body(start.context);
  return NULL;
}

int cl_start_thread(void (*body)(void *), void *context) {
  struct start *start = malloc(sizeof *start);
  if (!start) return -1;
  *start = (struct start){body, context};
  pthread_t thread;
  if (start_blocked(&thread, start_thread, start) < 0) {
    free(start);
    return -1;
  }
  pthread_detach(thread);
  return 0;
}

/* Moves a descriptor above the standard three, so that dup2 onto those never destroys one that is still needed. */
static int raised(int descriptor) { return descriptor > 2 ? descriptor : fcntl(descriptor, F_DUPFD, 3); }

pid_t cl_spawn(const char *path, char *const arguments[], char *const environment[], int input, int output, int error,
               int namespace_descriptor, int death_signal, int new_group, const char *directory,
               const int *inherited, int inherited_count, int confined, uint64_t capabilities) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) < 0) return -1;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    /* Only async-signal-safe calls from here on: other threads may have held locks at the moment of fork. */
    int failure;
    if (report[1] <= 2) {
      int moved = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
      if (moved < 0) goto failed;
      report[1] = moved;
    }
    for (int signal = 1; signal < 65; signal++) {
      struct sigaction action;
      memset(&action, 0, sizeof action);
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, NULL); /* refused for SIGKILL, SIGSTOP and the C library's own: as wished */
    }
    if (death_signal) {
      if (prctl(PR_SET_PDEATHSIG, death_signal) < 0) goto failed;
      if (getppid() != parent) _exit(127); /* the parent went before the request took hold */
    }
    if (new_group && setpgid(0, 0) < 0) goto failed;
    if (namespace_descriptor >= 0 && setns(namespace_descriptor, CLONE_NEWNET) < 0) goto failed;
    int null = -1;
    if (input < 0 || output < 0 || error < 0) {
      null = open("/dev/null", O_RDWR);
      if (null < 0) goto failed;
    }
    int wanted[3] = {input < 0 ? null : input, output < 0 ? null : output, error < 0 ? null : error};
    for (int i = 0; i < 3; i++)
      if ((wanted[i] = raised(wanted[i])) < 0) goto failed;
    for (int i = 0; i < 3; i++)
      if (dup2(wanted[i], i) < 0) goto failed;
    for (int i = 0; i < 3; i++)
      fcntl(wanted[i], F_SETFD, FD_CLOEXEC);
    if (null > 2) fcntl(null, F_SETFD, FD_CLOEXEC);
    for (int i = 0; i < inherited_count; i++)
      if (fcntl(inherited[i], F_SETFD, 0) < 0) goto failed;
    if (directory && chdir(directory) < 0) goto failed;
    /* A program that root executes gets what the bounding set leaves. */
    if (confined && (cl_keep_capabilities(capabilities) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)) goto failed;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (environment) execvpe(path, arguments, environment);
    else execvp(path, arguments);
  failed:
    failure = errno;
    (void)!write(report[1], &failure, sizeof failure);
    _exit(127);
  }
  int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(report[1]);
  if (pid < 0) {
    close(report[0]);
    errno = fork_error;
    return -1;
  }
  int failure = 0;
  ssize_t count;
  do count = read(report[0], &failure, sizeof failure);
  while (count < 0 && errno == EINTR);
  close(report[0]);
  if (count == sizeof failure) {
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    errno = failure;
    return -1;
  }
  return pid;
}

pid_t cl_reap(pid_t pid, int block, int *code) {
  int status = 0;
  pid_t result;
  do result = waitpid(pid, &status, block ? 0 : WNOHANG);
  while (result < 0 && errno == EINTR);
  if (result > 0) *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

/* Waiting */

int cl_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
int cl_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return epoll_ctl(epoll, operation, descriptor, &event);
}
int cl_epoll_wait(int epoll, struct cl_event *events, int capacity, int timeout_milliseconds) {
  struct epoll_event buffer[64];
  if (capacity > 64) capacity = 64;
  int count = epoll_wait(epoll, buffer, capacity, timeout_milliseconds);
  for (int i = 0; i < count; i++) events[i] = (struct cl_event){buffer[i].data.u64, buffer[i].events};
  return count;
}
int cl_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
int cl_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); }
int cl_timerfd_set(int descriptor, int64_t nanoseconds) {
  struct itimerspec value = {{0, 0}, {nanoseconds / 1000000000, nanoseconds % 1000000000}};
  return timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &value, NULL);
}
/* Where the handler sends a signal's number. Written before its handler is installed. A socket, because the reader may be closed one day. */
static volatile int signal_sockets[65];
static void tell_signal(int number) {
  int kept = errno;
  unsigned char octet = (unsigned char)number;
  send(signal_sockets[number], &octet, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  errno = kept;
}
int cl_watch_signals(const int *signals, int count) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) return -1;
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < count; i++) {
    struct sigaction action, before;
    if (signals[i] < 1 || signals[i] > 64 || sigaction(signals[i], NULL, &before) < 0) continue;
    if (before.sa_handler == SIG_IGN) continue; /* as who started us wished: nohup, a background job */
    signal_sockets[signals[i]] = ends[1];
    memset(&action, 0, sizeof action);
    action.sa_handler = tell_signal;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    sigaction(signals[i], &action, NULL);
    sigaddset(&set, signals[i]);
  }
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  return ends[0];
}
int cl_watched_signal(int descriptor) {
  unsigned char octet;
  return read(descriptor, &octet, 1) == 1 ? octet : -1;
}
int cl_ignore_sigpipe(void) { return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0; }
static int64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
int64_t cl_monotonic_nanoseconds(void) { return nanoseconds(CLOCK_MONOTONIC); }
int64_t cl_boottime_nanoseconds(void) { return nanoseconds(CLOCK_BOOTTIME); }
int64_t cl_realtime_nanoseconds(void) { return nanoseconds(CLOCK_REALTIME); }
int cl_inotify_create(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }
int cl_inotify_add(int descriptor, const char *path, uint32_t mask) { return inotify_add_watch(descriptor, path, mask); }
int cl_set_nonblocking(int descriptor, int on) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0) return -1;
  return fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}
int cl_set_close_on_exec(int descriptor, int on) { return fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0); }
int cl_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

/* Sockets */

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
  struct sockaddr_storage storage;
};

static socklen_t encode(const struct cl_address *from, union address *to) {
  memset(to, 0, sizeof *to);
  if (from->family == 4) {
    to->v4.sin_family = AF_INET;
    to->v4.sin_port = htons(from->port);
    to->v4.sin_addr.s_addr = htonl(from->v4);
    return sizeof to->v4;
  }
  to->v6.sin6_family = AF_INET6;
  to->v6.sin6_port = htons(from->port);
  to->v6.sin6_scope_id = from->scope;
  for (int i = 0; i < 8; i++) {
    to->v6.sin6_addr.s6_addr[i] = (uint8_t)(from->high >> (56 - 8 * i));
    to->v6.sin6_addr.s6_addr[8 + i] = (uint8_t)(from->low >> (56 - 8 * i));
  }
  return sizeof to->v6;
}

/* An IPv4-mapped peer of a dual-stack socket is told as IPv4. A unix peer has family 0. */
static void decode(const union address *from, struct cl_address *to) {
  memset(to, 0, sizeof *to);
  if (from->any.sa_family == AF_INET) {
    to->family = 4;
    to->port = ntohs(from->v4.sin_port);
    to->v4 = ntohl(from->v4.sin_addr.s_addr);
  } else if (from->any.sa_family == AF_INET6) {
    to->port = ntohs(from->v6.sin6_port);
    for (int i = 0; i < 8; i++) {
      to->high = to->high << 8 | from->v6.sin6_addr.s6_addr[i];
      to->low = to->low << 8 | from->v6.sin6_addr.s6_addr[8 + i];
    }
    if (to->high == 0 && to->low >> 32 == 0xffff) {
      to->family = 4;
      to->v4 = (uint32_t)to->low;
      to->low = 0;
    } else {
      to->family = 6;
      to->scope = from->v6.sin6_scope_id;
    }
  }
}

int cl_socket(int domain, int type, int protocol, int nonblocking) {
  return socket(domain, type | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), protocol);
}
int cl_inet_socket(int family, int datagram, int nonblocking) {
  return cl_socket(family == 4 ? AF_INET : AF_INET6, datagram ? SOCK_DGRAM : SOCK_STREAM, 0, nonblocking);
}
int cl_bind(int descriptor, const struct cl_address *address) {
  union address raw;
  socklen_t length = encode(address, &raw);
  return bind(descriptor, &raw.any, length);
}
int cl_connect(int descriptor, const struct cl_address *address) {
  union address raw;
  socklen_t length = encode(address, &raw);
  return connect(descriptor, &raw.any, length);
}
int cl_accept(int descriptor, int nonblocking, struct cl_address *peer) {
  union address raw;
  memset(&raw, 0, sizeof raw);
  socklen_t length = sizeof raw;
  int result;
  do result = accept4(descriptor, &raw.any, &length, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
  while (result < 0 && errno == EINTR);
  if (result >= 0) decode(&raw, peer);
  return result;
}
int cl_local_address(int descriptor, struct cl_address *address) {
  union address raw;
  memset(&raw, 0, sizeof raw);
  socklen_t length = sizeof raw;
  int result = getsockname(descriptor, &raw.any, &length);
  if (result == 0) decode(&raw, address);
  return result;
}
int cl_peer_address(int descriptor, struct cl_address *address) {
  union address raw;
  memset(&raw, 0, sizeof raw);
  socklen_t length = sizeof raw;
  int result = getpeername(descriptor, &raw.any, &length);
  if (result == 0) decode(&raw, address);
  return result;
}
ssize_t cl_send_to(int descriptor, const void *bytes, size_t count, const struct cl_address *to) {
  union address raw;
  socklen_t length = encode(to, &raw);
  ssize_t result;
  do result = sendto(descriptor, bytes, count, MSG_NOSIGNAL, &raw.any, length);
  while (result < 0 && errno == EINTR);
  return result;
}
ssize_t cl_receive_from(int descriptor, void *bytes, size_t capacity, struct cl_address *from) {
  union address raw;
  memset(&raw, 0, sizeof raw);
  socklen_t length = sizeof raw;
  ssize_t result;
  do result = recvfrom(descriptor, bytes, capacity, 0, &raw.any, &length);
  while (result < 0 && errno == EINTR);
  if (result >= 0) decode(&raw, from);
  return result;
}
ssize_t cl_send(int descriptor, const void *bytes, size_t count) {
  ssize_t result;
  do result = send(descriptor, bytes, count, MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}
ssize_t cl_receive(int descriptor, void *bytes, size_t capacity) {
  ssize_t result;
  do result = recv(descriptor, bytes, capacity, 0);
  while (result < 0 && errno == EINTR);
  return result;
}
int cl_set_option(int descriptor, int level, int option, int value) {
  return setsockopt(descriptor, level, option, &value, sizeof value);
}
int cl_get_option(int descriptor, int level, int option, int *value) {
  socklen_t length = sizeof *value;
  return getsockopt(descriptor, level, option, value, &length);
}
int cl_socket_error(int descriptor) {
  int value = 0;
  return cl_get_option(descriptor, SOL_SOCKET, SO_ERROR, &value) < 0 ? errno : value;
}
int cl_bind_to_device(int descriptor, const char *device) {
  return setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
}
int cl_reuse_address(int descriptor) { return cl_set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1); }
int cl_tcp_no_delay(int descriptor) { return cl_set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1); }
int cl_v6_only(int descriptor) { return cl_set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1); }
int cl_set_ttl(int descriptor, int family, int ttl) {
  return family == 4 ? cl_set_option(descriptor, IPPROTO_IP, IP_TTL, ttl)
                     : cl_set_option(descriptor, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl);
}
int cl_set_min_ttl(int descriptor, int family, int ttl) {
  /* 73 is IPV6_MINHOPCOUNT, 21 IP_MINTTL; the C library's headers do not always have them. */
  return family == 4 ? cl_set_option(descriptor, IPPROTO_IP, 21, ttl) : cl_set_option(descriptor, IPPROTO_IPV6, 73, ttl);
}
int cl_set_traffic_class(int descriptor, int family, int value) {
  return family == 4 ? cl_set_option(descriptor, IPPROTO_IP, IP_TOS, value)
                     : cl_set_option(descriptor, IPPROTO_IPV6, IPV6_TCLASS, value);
}
int cl_set_md5(int descriptor, const struct cl_address *peer, const void *key, int length, int prefix_length) {
  struct tcp_md5sig request;
  memset(&request, 0, sizeof request);
  union address raw;
  encode(peer, &raw);
  raw.v4.sin_port = 0;
  if (length < 0 || length > TCP_MD5SIG_MAXKEYLEN) {
    errno = EINVAL;
    return -1;
  }
  memcpy(&request.tcpm_addr, &raw.storage, sizeof raw.storage);
  request.tcpm_keylen = (uint16_t)length;
  if (length) memcpy(request.tcpm_key, key, (size_t)length);
  int option = TCP_MD5SIG;
  if (prefix_length >= 0) {
    request.tcpm_flags = TCP_MD5SIG_FLAG_PREFIX;
    request.tcpm_prefixlen = (uint8_t)prefix_length;
    option = TCP_MD5SIG_EXT;
  }
  return setsockopt(descriptor, IPPROTO_TCP, option, &request, sizeof request);
}
int cl_unix_socket(int nonblocking, int sequenced) {
  return cl_socket(AF_UNIX, sequenced ? SOCK_SEQPACKET : SOCK_STREAM, 0, nonblocking);
}
static int unix_address(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  size_t length = strlen(path);
  if (length >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address->sun_path, path, length);
  return 0;
}
int cl_unix_bind(int descriptor, const char *path) {
  struct sockaddr_un address;
  if (unix_address(path, &address) < 0) return -1;
  return bind(descriptor, (struct sockaddr *)&address, sizeof address);
}
int cl_unix_connect(int descriptor, const char *path) {
  struct sockaddr_un address;
  if (unix_address(path, &address) < 0) return -1;
  return connect(descriptor, (struct sockaddr *)&address, sizeof address);
}
ssize_t cl_unix_datagram(const char *path, const void *bytes, size_t count) {
  struct sockaddr_un address;
  if (unix_address(path, &address) < 0) return -1;
  int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  ssize_t sent = sendto(descriptor, bytes, count, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
  int error = errno;
  close(descriptor);
  errno = error;
  return sent;
}
int cl_unix_pair(int descriptors[2], int sequenced) {
  return socketpair(AF_UNIX, (sequenced ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, descriptors);
}
int cl_peer_credentials(int descriptor, pid_t *pid, uid_t *uid, gid_t *gid) {
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -1;
  *pid = credentials.pid;
  *uid = credentials.uid;
  *gid = credentials.gid;
  return 0;
}

enum { PASSED_MAX = 16 };
union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(int) * PASSED_MAX)];
};

ssize_t cl_send_with_fd(int descriptor, const void *bytes, size_t count, const int *passed, int passed_count) {
  if (passed_count < 0 || passed_count > PASSED_MAX) {
    errno = EINVAL;
    return -1;
  }
  struct iovec vector = {(void *)bytes, count};
  union control control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (passed_count > 0) {
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)passed_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)passed_count);
    memcpy(CMSG_DATA(header), passed, sizeof(int) * (size_t)passed_count);
  }
  ssize_t result;
  do result = sendmsg(descriptor, &message, MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}

ssize_t cl_recv_with_fd(int descriptor, void *bytes, size_t capacity, int *received, int *received_count) {
  struct iovec vector = {bytes, capacity};
  union control control;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  *received_count = 0;
  ssize_t result;
  do result = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
  while (result < 0 && errno == EINTR);
  if (result < 0) return result;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; i++) {
      int value;
      memcpy(&value, CMSG_DATA(header) + sizeof(int) * (size_t)i, sizeof value);
      if (*received_count < PASSED_MAX) received[(*received_count)++] = value;
      else close(value);
    }
  }
  return result;
}

int cl_packet_socket(int protocol, int interface_index) {
  int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons((uint16_t)protocol));
  if (descriptor < 0) return -1;
  struct sockaddr_ll address;
  memset(&address, 0, sizeof address);
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons((uint16_t)protocol);
  address.sll_ifindex = interface_index;
  if (bind(descriptor, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
  }
  return descriptor;
}

enum { MANY_MAX = 256 };

int cl_send_many(int descriptor, const void *bytes, size_t each, int count, const struct cl_address *to) {
  struct mmsghdr messages[MANY_MAX];
  struct iovec vectors[MANY_MAX];
  union address raw;
  socklen_t length = to ? encode(to, &raw) : 0;
  if (count > MANY_MAX) count = MANY_MAX;
  memset(messages, 0, sizeof messages[0] * (size_t)count);
  for (int i = 0; i < count; i++) {
    vectors[i] = (struct iovec){(char *)bytes + each * (size_t)i, each};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    if (to) {
      messages[i].msg_hdr.msg_name = &raw;
      messages[i].msg_hdr.msg_namelen = length;
    }
  }
  int result;
  do result = sendmmsg(descriptor, messages, (unsigned)count, MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}

int cl_receive_many(int descriptor, void *bytes, size_t each, int count, uint32_t *lengths, struct cl_address *from) {
  struct mmsghdr messages[MANY_MAX];
  struct iovec vectors[MANY_MAX];
  static __thread union address names[MANY_MAX];
  if (count > MANY_MAX) count = MANY_MAX;
  memset(messages, 0, sizeof messages[0] * (size_t)count);
  for (int i = 0; i < count; i++) {
    vectors[i] = (struct iovec){(char *)bytes + each * (size_t)i, each};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    if (from) {
      messages[i].msg_hdr.msg_name = &names[i];
      messages[i].msg_hdr.msg_namelen = sizeof names[i];
    }
  }
  int result;
  do result = recvmmsg(descriptor, messages, (unsigned)count, MSG_WAITFORONE, NULL);
  while (result < 0 && errno == EINTR);
  for (int i = 0; i < result; i++) {
    lengths[i] = messages[i].msg_len;
    if (from) decode(&names[i], &from[i]);
  }
  return result;
}

/* Netlink */

int cl_netlink_open(int protocol, int buffer_octets, uint32_t *port) {
  int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (descriptor < 0) return -1;
  int one = 1;
  /* Forced sizes need CAP_NET_ADMIN; without it the plain option gives what the limits allow. */
  if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_octets, sizeof buffer_octets) < 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer_octets, sizeof buffer_octets);
  cl_netlink_send_buffer(descriptor, buffer_octets);
  setsockopt(descriptor, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(descriptor, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  struct sockaddr_nl address;
  memset(&address, 0, sizeof address);
  address.nl_family = AF_NETLINK;
  socklen_t length = sizeof address;
  if (bind(descriptor, (struct sockaddr *)&address, sizeof address) < 0 ||
      getsockname(descriptor, (struct sockaddr *)&address, &length) < 0) {
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
  }
  *port = address.nl_pid;
  return descriptor;
}
int cl_netlink_join(int descriptor, uint32_t group) {
  return cl_set_option(descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)group);
}
int cl_netlink_leave(int descriptor, uint32_t group) {
  return cl_set_option(descriptor, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, (int)group);
}
int cl_netlink_strict(int descriptor) { return cl_set_option(descriptor, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1); }
int cl_netlink_send_buffer(int descriptor, int octets) {
  if (cl_set_option(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, octets) == 0) return 0;
  return cl_set_option(descriptor, SOL_SOCKET, SO_SNDBUF, octets);
}
ssize_t cl_netlink_send(int descriptor, const void *bytes, size_t count) {
  struct sockaddr_nl kernel;
  memset(&kernel, 0, sizeof kernel);
  kernel.nl_family = AF_NETLINK;
  ssize_t result;
  do result = sendto(descriptor, bytes, count, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (result < 0 && errno == EINTR);
  return result;
}
ssize_t cl_netlink_receive(int descriptor, void *bytes, size_t capacity, int wait, uint32_t *sender, int *truncated) {
  struct sockaddr_nl address;
  memset(&address, 0, sizeof address);
  struct iovec vector = {bytes, capacity};
  struct msghdr message = {
      .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &vector, .msg_iovlen = 1};
  ssize_t result;
  do result = recvmsg(descriptor, &message, wait ? 0 : MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  *sender = address.nl_pid;
  *truncated = result >= 0 && (message.msg_flags & MSG_TRUNC) != 0;
  return result;
}
int cl_netlink_receive_timeout(int descriptor, int milliseconds) {
  struct timeval time = {milliseconds / 1000, milliseconds % 1000 * 1000};
  return setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

const char *cl_error_text(int code, char *buffer, size_t capacity) { return strerror_r(code, buffer, capacity); }

int cl_is_mount_point(const char *path) {
  struct stat here, above;
  char parent[4200];
  size_t length = strlen(path);
  if (length + 4 > sizeof parent) return 0;
  memcpy(parent, path, length);
  memcpy(parent + length, "/..", 4);
  if (stat(path, &here) < 0 || stat(parent, &above) < 0) return 0;
  return here.st_dev != above.st_dev;
}
ssize_t cl_random(void *bytes, size_t count) { return getrandom(bytes, count, 0); }
int cl_set_affinity(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}
int cl_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }
