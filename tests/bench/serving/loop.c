/* The limit: what one core can answer at all. One thread, level-triggered epoll, answers that are ready in memory.
 *
 *     loop PORT ANSWERS
 *
 * ANSWERS holds records: two little-endian 32-bit lengths, then the key "host path", then the whole answer. Every
 * request's head is read to its end; path and Host are found in it and looked up. Nothing else is done. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM 16384
#define SLOTS 65536
#define EVENTS 512

struct answer { const char *key, *bytes; uint32_t key_length, length; };
struct connection { int fd; uint32_t held; const char *rest; uint32_t rest_length; char head[ROOM]; };

static struct answer table[SLOTS];
static const char NOT_FOUND[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

static void die(const char *what) { perror(what); exit(1); }

static uint32_t mix(uint32_t hash, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

static uint32_t slot_of(const char *host, size_t host_length, const char *path, size_t path_length) {
    return mix(mix(mix(2166136261u, host, host_length), " ", 1), path, path_length) % SLOTS;
}

static void load(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) die(name);
    uint32_t lengths[2];
    while (fread(lengths, sizeof lengths, 1, file) == 1) {
        char *data = malloc((size_t)lengths[0] + lengths[1]);
        if (!data || fread(data, (size_t)lengths[0] + lengths[1], 1, file) != 1) die("answers");
        const char *space = memchr(data, ' ', lengths[0]);
        if (!space) { fprintf(stderr, "answers: a key without a path\n"); exit(1); }
        uint32_t slot = slot_of(data, space - data, space + 1, lengths[0] - (space - data) - 1);
        while (table[slot].key) slot = (slot + 1) % SLOTS;
        table[slot] = (struct answer){data, data + lengths[0], lengths[0], lengths[1]};
    }
    fclose(file);
}

static const struct answer *find(const char *host, size_t host_length, const char *path, size_t path_length) {
    uint32_t slot = slot_of(host, host_length, path, path_length);
    for (; table[slot].key; slot = (slot + 1) % SLOTS) {
        const struct answer *found = &table[slot];
        if (found->key_length == host_length + 1 + path_length && !memcmp(found->key, host, host_length) &&
            !memcmp(found->key + host_length + 1, path, path_length))
            return found;
    }
    return NULL;
}

/* The answer to one complete head. */
static const struct answer *look(const char *head, const char *end) {
    if (end - head < 5 || memcmp(head, "GET ", 4)) return NULL;
    const char *path = head + 4, *space = memchr(path, ' ', end - path);
    if (!space) return NULL;
    for (const char *line = memchr(space, '\n', end - space); line && line + 1 < end;
         line = memchr(line, '\n', end - line)) {
        line++;
        if (end - line > 6 && !strncasecmp(line, "host: ", 6)) {
            const char *host = line + 6, *stop = memchr(host, '\r', end - host);
            return stop ? find(host, stop - host, path, space - path) : NULL;
        }
    }
    return NULL;
}

static void leave(struct connection *one) { close(one->fd); free(one); }

/* 1: all is written; 0: the rest waits for room; -1: the visitor has gone. */
static int put(int epoll, struct connection *one, const char *bytes, uint32_t length) {
    int waited = one->rest != NULL;
    ssize_t done = send(one->fd, bytes, length, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN) return -1;
    if (done < 0) done = 0;
    one->rest = done < length ? bytes + done : NULL;
    one->rest_length = length - done;
    if (waited != (one->rest != NULL)) {
        struct epoll_event event = {.events = one->rest ? EPOLLOUT : EPOLLIN, .data.ptr = one};
        epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd, &event);
    }
    return one->rest == NULL;
}

/* Answer every complete head that is held. 0: the visitor has gone. */
static int answer_all(int epoll, struct connection *one) {
    char *head = one->head, *stop = one->head + one->held, *end;
    while (!one->rest && (end = memmem(head, stop - head, "\r\n\r\n", 4))) {
        const struct answer *found = look(head, end + 2);
        int done = found ? put(epoll, one, found->bytes, found->length)
                         : put(epoll, one, NOT_FOUND, sizeof NOT_FOUND - 1);
        if (done < 0) return 0;
        head = end + 4;
    }
    one->held = stop - head;
    if (head != one->head) memmove(one->head, head, one->held);
    return one->held < ROOM;
}

static int ready(int epoll, struct connection *one, uint32_t events) {
    if (one->rest) {
        int done = events & (EPOLLERR | EPOLLHUP) ? -1 : put(epoll, one, one->rest, one->rest_length);
        return done < 0 ? 0 : done ? answer_all(epoll, one) : 1;
    }
    ssize_t got = recv(one->fd, one->head + one->held, ROOM - one->held, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    one->held += got;
    return answer_all(epoll, one);
}

static void welcome(int epoll, int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct connection *one = malloc(sizeof *one);
        if (!one) die("malloc");
        one->fd = fd, one->held = 0, one->rest = NULL;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

int main(int count, char **words) {
    if (count != 3) { fprintf(stderr, "usage: loop PORT ANSWERS\n"); return 2; }
    load(words[2]);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    for (;;) {
        int found = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < found; i++) {
            struct connection *one = events[i].data.ptr;
            if (!one) welcome(epoll, listener);
            else if (!ready(epoll, one, events[i].events)) leave(one);
        }
    }
}
