/* Visits one page over and over on many connections while it moves the production alias between two deployments, and
 * holds every answer against what it may be.
 *
 *     watcher PORT CONNECTIONS SOCKET SWAPS FOLDER (DEPLOYMENT MARK) twice
 *
 * FOLDER has whole requests: `visit`; `swap-0` and `swap-1` for the API on the unix socket SOCKET, which make the first or
 * the second deployment live (the second one is at the start). After QUIET_MS of visits alone come SWAPS swaps,
 * PAUSE_MS apart. An answer is well when it is a 200 whose body is as long as it says and holds the MARK of one
 * of the two; it is mixed when its X-Scalemesh-Deployment names the other one; it is stale when it began after a swap had
 * been acknowledged, ended before the next one began, and is not what that swap made live.
 * Begin and end of each visit and of each swap (CLOCK_MONOTONIC, nanoseconds, two 64-bit integers each) go to
 * `visits` and `swaps` in FOLDER; one line of JSON is printed. */
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
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ROOM 65536
#define EVENTS 512
#define MOST_SAMPLES (64u << 20)
#define MOST_FAILED 100000
#define QUIET_MS 3000
#define PAUSE_MS 10

struct request { char bytes[ROOM]; size_t length; };
struct connection { int fd; uint32_t held; int64_t began; long swap; char answer[ROOM + 1]; };
struct sample { int64_t began, ended; };
struct samples { struct sample *all; size_t kept, room; };

static volatile sig_atomic_t over;
static int port, epoll;
static struct request visit, swap[2];
static struct connection api;
static long failed, mixed, stale, well[2], swaps_begun, swaps_ended, swaps_wanted;
static int64_t next_swap;
static char first_failure[200];
static struct samples visits, swaps;
static const char *deployments[2], *marks[2];

static void die(const char *what) { perror(what); exit(1); }
static void stop(int number) { (void)number; over = 1; }

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void fail(const char *why) {
    if (!failed++) snprintf(first_failure, sizeof first_failure, "%.150s", why);
    if (failed > MOST_FAILED) over = 1;
}

static void ask(struct connection *one, const struct request *what) {
    one->held = 0, one->began = now(), one->swap = swaps_begun == swaps_ended ? swaps_ended : -1;
    if (send(one->fd, what->bytes, what->length, MSG_NOSIGNAL) != (ssize_t)what->length) fail("a request was not taken");
}

static void open_to(struct connection *one, struct sockaddr *there, socklen_t size) {
    one->fd = socket(there->sa_family, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, there, size)) die("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event)) die("epoll_ctl");
}

/* Connect and send the first request. */
static void begin(struct connection *one) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    open_to(one, (struct sockaddr *)&there, sizeof there);
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    ask(one, &visit);
}

static void keep(struct samples *of, int64_t began, int64_t ended) {
    if (of->kept == MOST_SAMPLES) return;
    if (of->kept == of->room) {
        of->room = of->room ? of->room * 2 : 1 << 16;
        of->all = realloc(of->all, of->room * sizeof *of->all);
        if (!of->all) die("realloc");
    }
    of->all[of->kept++] = (struct sample){began, ended};
}

static void write_down(const char *folder, const char *name, const struct samples *of) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(of->all, sizeof *of->all, of->kept, file) != of->kept || fclose(file)) die(path);
}

static void read_request(const char *folder, const char *name, struct request *into) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    into->length = fread(into->bytes, 1, sizeof into->bytes, file);
    fclose(file);
}

/* Count a whole answer: which deployment its body is of, and whether its header and the last swap agree. */
static void judge(const struct connection *one, char *answer, char *body, size_t length) {
    if (strncmp(answer, "HTTP/1.1 200 ", 13)) { answer[60] = 0; fail(answer); return; }
    char *named = strcasestr(answer, "\r\nx-scalemesh-deployment: ");
    for (int i = 0; i < 2; i++) {
        if (!memmem(body, length, marks[i], strlen(marks[i]))) continue;
        size_t size = strlen(deployments[i]);
        if (named && named < body && !strncmp(named + 26, deployments[i], size) && named[26 + size] == '\r') well[i]++;
        else mixed++;
        int is_settled = one->swap >= 0 && one->swap == swaps_begun;
        if (is_settled && i != (one->swap + 1) % 2) stale++;
        return;
    }
    fail("a body without a mark");
}

/* 1: the answer is whole, *body* and *length* are set; 0: more must come; -1: it cannot be read. */
static int read_answer(struct connection *one, char **body, size_t *length) {
    one->answer[one->held] = 0;
    char *end = memmem(one->answer, one->held, "\r\n\r\n", 4);
    if (!end) return one->held < ROOM ? 0 : -1;
    char *told = strcasestr(one->answer, "\r\ncontent-length: ");
    *body = end + 4, *length = told && told < end ? strtoul(told + 18, NULL, 10) : 0;
    int is_bare = !strncmp(one->answer, "HTTP/1.1 204", 12);
    if ((!told || told > end) && !is_bare) return -1;
    size_t got = one->answer + one->held - *body;
    if (*length > ROOM - (size_t)(*body - one->answer) || got > *length) return -1;
    return got == *length;
}

static int receive(struct connection *one, char **body, size_t *length) {
    ssize_t got = recv(one->fd, one->answer + one->held, ROOM - one->held, 0);
    if (got <= 0) return -2;
    one->held += got;
    return read_answer(one, body, length);
}

static void visited(struct connection *one) {
    char *body;
    size_t length;
    int found = receive(one, &body, &length);
    if (!found) return;
    if (found < 0) {
        fail(found == -2 ? "a connection was lost" : "an answer that cannot be read");
        close(one->fd);
        begin(one);
        return;
    }
    judge(one, one->answer, body, length);
    keep(&visits, one->began, now());
    ask(one, &visit);
}

static void swapped(void) {
    char *body;
    size_t length;
    int found = receive(&api, &body, &length);
    if (!found) return;
    if (found < 0 || strncmp(api.answer, "HTTP/1.1 20", 11)) {
        fprintf(stderr, "the API refused a swap: %.500s\n", found == -2 ? "connection lost" : api.answer);
        exit(1);
    }
    int64_t ended = now();
    keep(&swaps, api.began, ended);
    swaps_ended++, next_swap = ended + PAUSE_MS * 1000000ll;
    over = swaps_ended == swaps_wanted;
}

int main(int count, char **words) {
    if (count != 10) { fprintf(stderr, "usage: watcher PORT CONNECTIONS SOCKET SWAPS FOLDER (DEPLOYMENT MARK) twice\n"); return 2; }
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    port = atoi(words[1]), swaps_wanted = atol(words[4]), epoll = epoll_create1(0);
    read_request(words[5], "visit", &visit);
    read_request(words[5], "swap-0", &swap[0]);
    read_request(words[5], "swap-1", &swap[1]);
    for (int i = 0; i < 2; i++) deployments[i] = words[6 + 2 * i], marks[i] = words[7 + 2 * i];
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    snprintf(there.sun_path, sizeof there.sun_path, "%s", words[3]);
    open_to(&api, (struct sockaddr *)&there, sizeof there);
    int connections = atoi(words[2]);
    for (int i = 0; i < connections; i++) {
        struct connection *one = malloc(sizeof *one);
        if (!one) die("malloc");
        begin(one);
    }
    next_swap = now() + QUIET_MS * 1000000ll;
    struct epoll_event events[EVENTS];
    while (!over) {
        int found = epoll_wait(epoll, events, EVENTS, 1);
        for (int i = 0; i < found && !over; i++) {
            if (events[i].data.ptr == &api) swapped();
            else visited(events[i].data.ptr);
        }
        if (!over && swaps_begun == swaps_ended && now() >= next_swap) ask(&api, &swap[swaps_begun++ % 2]);
    }
    write_down(words[5], "visits", &visits);
    write_down(words[5], "swaps", &swaps);
    printf("{\"failed\": %ld, \"mixed\": %ld, \"stale\": %ld, \"first\": %ld, \"second\": %ld, \"why\": \"", failed, mixed,
           stale, well[0], well[1]);
    for (char *text = first_failure; *text; text++) putchar(*text < 32 || *text == '"' || *text == '\\' ? ' ' : *text);
    printf("\"}\n");
    return 0;
}
