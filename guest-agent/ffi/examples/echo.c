/* An echo server whose connections outlive their machine: each line comes back with its number in the connection.
 *
 *   cc -O2 -I include examples/echo.c libescape_slices.a -o echo        (or -lescape_slices)
 *   ./echo 7000                                                         (in a guest of a cell, port 7000 a protected one)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "escape_slices.h"

#define SLOTS 65536
#define LINE_MAX_BYTES 1000

/* Lies in the slice: no pointers. */
struct state {
    uint64_t lines;
};

static EscapeConnection *connections[SLOTS];

/* One turn: answers every whole line. */
static void answer(EscapeSession *session, void *argument) {
    (void)argument;
    struct state *state = escape_state(session);
    for (;;) {
        uintptr_t len = 0;
        const uint8_t *input = escape_input(session, &len);
        const uint8_t *end = len ? memchr(input, '\n', len) : NULL;
        if (end == NULL || escape_room(session) < LINE_MAX_BYTES + 32)
            break;
        uintptr_t line = (uintptr_t)(end - input) + 1;
        char reply[LINE_MAX_BYTES + 32];
        int head = snprintf(reply, sizeof reply, "%llu ", (unsigned long long)++state->lines);
        uintptr_t taken = line < LINE_MAX_BYTES ? line : LINE_MAX_BYTES;
        memcpy(reply + head, input, taken);
        reply[head + taken - 1] = '\n';
        escape_consume(session, line);
        escape_write(session, (const uint8_t *)reply, (uintptr_t)head + taken);
    }
    if (escape_at_end(session))
        escape_close(session);
}

static void work(EscapeConnection *connection) {
    int turn;
    while ((turn = escape_work(connection, answer, NULL)) == ESCAPE_AGAIN)
        usleep(200);
    if (turn < 0) {
        fprintf(stderr, "echo: %s\n", escape_error());
        exit(1);
    }
    if (turn == ESCAPE_OVER) {
        connections[escape_slot(connection) % SLOTS] = NULL;
        escape_drop(connection);
    }
}

static void watch(int poll, EscapeConnection *connection) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = escape_slot(connection)};
    epoll_ctl(poll, EPOLL_CTL_ADD, escape_fd(connection), &event);
    connections[escape_slot(connection) % SLOTS] = connection;
    work(connection);
}

int main(int argc, char **argv) {
    uint16_t port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 7000);
    EscapeService *service = escape_register(&port, 1);
    if (service == NULL) {
        fprintf(stderr, "echo: %s\n", escape_error());
        return 1;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 128) < 0) {
        perror("echo");
        return 1;
    }
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event of_listener = {.events = EPOLLIN, .data.u32 = SLOTS};
    struct epoll_event of_agent = {.events = EPOLLIN, .data.u32 = SLOTS + 1};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &of_listener);
    epoll_ctl(poll, EPOLL_CTL_ADD, escape_upcall_fd(service), &of_agent);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(poll, &event, 1, -1) != 1)
            continue;
        if (event.data.u32 < SLOTS) {
            if (connections[event.data.u32] != NULL)
                work(connections[event.data.u32]);
        } else if (event.data.u32 == SLOTS) {
            EscapeConnection *connection = escape_adopt(service, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
            if (connection != NULL)
                watch(poll, connection);
            else
                fprintf(stderr, "echo: %s\n", escape_error());
        } else {
            EscapeConnection *plugged;
            uint32_t discarded;
            int what;
            while ((what = escape_upcall(service, &plugged, &discarded)) > 0) {
                if (what == 1) {
                    watch(poll, plugged);
                } else {
                    escape_forget(connections[discarded % SLOTS]);
                    connections[discarded % SLOTS] = NULL;
                }
            }
            if (what < 0) {
                fprintf(stderr, "echo: %s\n", escape_error());
                return 1;
            }
        }
    }
}
