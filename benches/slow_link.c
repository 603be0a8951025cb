// A link between two network namespaces that is slow and loses packets, where the kernel has no `tc netem`: a TUN device named
// `line` in each of them. A packet that the kernel sends into one comes out of the other after a delay, in its order, or never.
//
//   slow_link NAMESPACE NAMESPACE SEED
//
// Each line of its standard input sets the delay of one direction in microseconds and the lost packets of a million:
// `10000 5000` makes a round trip of 20 ms and loses 0.5 %. It ends with its input, and the devices with it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

// The devices' MTU is 1500. In 20 ms so many packets are 400,000 a second.
enum { PACKET = 1500, QUEUE = 8192 };

struct packet {
    int64_t due;
    ssize_t length;
    unsigned char bytes[PACKET];
};
struct direction {
    int from, to;
    uint64_t random;
    uint32_t first, count;
    struct packet *queue;
};
static int64_t delay;
static uint64_t lost_of_million;

static void fail(const char *what) {
    fprintf(stderr, "slow_link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int device_in(const char *namespace) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET)) fail(path);
    close(fd);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "line", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (device < 0 || ioctl(device, TUNSETIFF, &request)) fail("/dev/net/tun");
    return device;
}

// The generator xorshift64*: whether this packet is lost.
static int is_lost(struct direction *d) {
    d->random ^= d->random >> 12;
    d->random ^= d->random << 25;
    d->random ^= d->random >> 27;
    return (d->random * UINT64_C(2685821657736338717) >> 32) % 1000000 < lost_of_million;
}

// What came, but not more at a time than the other direction can wait for. While the queue is full, packets wait in the device.
static void receive(struct direction *d) {
    for (int n = 0; n < 64 && d->count < QUEUE; n++) {
        struct packet *p = &d->queue[(d->first + d->count) % QUEUE];
        p->length = read(d->from, p->bytes, PACKET);
        if (p->length < 0) return;
        if (is_lost(d)) continue;
        p->due = now() + delay;
        d->count++;
    }
}

static void send_due(struct direction *d) {
    int64_t time = now();
    for (; d->count && d->queue[d->first].due <= time; d->count--, d->first = (d->first + 1) % QUEUE) {
        struct packet *p = &d->queue[d->first];
        // The devices are up by the time that there is traffic: what is not taken shows.
        if (write(d->to, p->bytes, p->length) < 0) perror("slow_link: write");
    }
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: slow_link NAMESPACE NAMESPACE SEED\n");
        return 2;
    }
    int a = device_in(arguments[1]), b = device_in(arguments[2]);
    uint64_t seed = strtoull(arguments[3], NULL, 10);
    struct direction ways[2] = {
        {.from = a, .to = b, .random = 2 * seed + 1, .queue = calloc(QUEUE, sizeof(struct packet))},
        {.from = b, .to = a, .random = 2 * seed + 2, .queue = calloc(QUEUE, sizeof(struct packet))},
    };
    if (!ways[0].queue || !ways[1].queue) fail("queue");
    // Waits are otherwise up to 50 us too long.
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        int64_t due = INT64_MAX;
        struct pollfd ready[3] = {{.fd = STDIN_FILENO, .events = POLLIN}};
        for (int i = 0; i < 2; i++) {
            struct direction *d = &ways[i];
            ready[i + 1] = (struct pollfd){.fd = d->from, .events = d->count < QUEUE ? POLLIN : 0};
            if (d->count && d->queue[d->first].due < due) due = d->queue[d->first].due;
        }
        int64_t wait = due - now();
        if (wait < 0) wait = 0;
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(ready, 3, due == INT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR) fail("poll");
        if (ready[0].revents) {
            char line[64];
            ssize_t length = read(STDIN_FILENO, line, sizeof line - 1);
            if (length <= 0) return 0;
            line[length] = 0;
            long long one_way, lost;
            if (sscanf(line, "%lld %lld", &one_way, &lost) != 2) return 2;
            delay = one_way * 1000;
            lost_of_million = lost;
        }
        for (int i = 0; i < 2; i++) {
            receive(&ways[i]);
            send_due(&ways[i]);
        }
    }
}
