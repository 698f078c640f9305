/* Slices of Linux processes: what a server in C links to make its connections outlive its machine.
 *
 * Generated from guest-agent/ffi/src/lib.rs; do not edit. The example is guest-agent/ffi/examples/echo.c.
 *
 * A service registers its ports, adopts each connection that it accepts, and works on it in turns. Everything that must go on on another
 * machine lies in the slice: unconsumed input, unacknowledged output, and ESCAPE_STATE_BYTES of state, zeros at the beginning, in which
 * there must be no pointers. A call that fails returns NULL or a negative number, and escape_error() says why. Nothing here is for two
 * threads at once. */

#ifndef ESCAPE_SLICES_H
#define ESCAPE_SLICES_H

#include <stddef.h>
#include <stdint.h>

// Bytes of state that each slice has for its program.
#define ESCAPE_STATE_BYTES 4096

// The program worked on the slice.
#define ESCAPE_DONE 0

// The host held the slice, or the turn left something to do: work again soon, without waiting for an event.
#define ESCAPE_AGAIN 1

// The connection is over: forget it with escape_drop().
#define ESCAPE_OVER 2

// A connection that is a slice.
typedef struct EscapeConnection EscapeConnection;

// A process that serves slices.
typedef struct EscapeService EscapeService;

// A slice in a turn. Valid until the program's function returns.
typedef struct EscapeSession EscapeSession;

// What the program does with a slice in one turn.
typedef void (*EscapeProgram)(EscapeSession *session, void *argument);

// Why the last call of this thread failed. Valid until the next call that fails.
const char *escape_error(void);

// Registers this process for its ports, at most four. NULL: there is no agent, or this is no guest of a cell.
//
// # Safety
// `ports` has `count` ports.
EscapeService *escape_register(const uint16_t *ports, uintptr_t count);

// A descriptor that is readable when escape_upcall() has something.
//
// # Safety
// `service` is of escape_register().
int escape_upcall_fd(const EscapeService *service);

// A connection that was accepted on one of the ports becomes a slice. The descriptor belongs to the slice from now on, also if that fails.
//
// # Safety
// `service` is of escape_register(); `socket` is a connection's descriptor that nobody else uses.
EscapeConnection *escape_adopt(EscapeService *service,
                               int socket);

// What the agent asks. 1: `*plugged` goes on here; work on it once now. 2: the slice in the slot `*discarded` is not this process's any more:
// escape_forget() its connection. 0: nothing now. Negative: the agent is gone.
//
// # Safety
// `service` is of escape_register(); the other two point to a place each.
int escape_upcall(EscapeService *service,
                  EscapeConnection **plugged,
                  uint32_t *discarded);

// The connection's descriptor, for poll() and its like: edge-triggered, for input, output and the peer's end. Nothing else may be done with it.
//
// # Safety
// `connection` is of escape_adopt() or escape_upcall().
int escape_fd(const EscapeConnection *connection);

// The slot that the slice is in: its name in this guest.
//
// # Safety
// `connection` is of escape_adopt() or escape_upcall().
uint32_t escape_slot(const EscapeConnection *connection);

// One turn: what has come in is read, `program` works on the slice, and what it wrote is sent. Returns ESCAPE_DONE, ESCAPE_AGAIN, ESCAPE_OVER, or a
// negative number if the agent is gone. `program` must return: it may neither longjmp() nor throw.
//
// # Safety
// `connection` is of escape_adopt() or escape_upcall().
int escape_work(EscapeConnection *connection,
                EscapeProgram program,
                void *argument);

// Frees a connection. One that is not over ends behind what was written.
//
// # Safety
// `connection` is of escape_adopt() or escape_upcall(), and is not used any more.
void escape_drop(EscapeConnection *connection);

// Frees the connection of a slice that was discarded, in silence.
//
// # Safety
// As for escape_drop().
void escape_forget(EscapeConnection *connection);

// What has come in and was not consumed; `*len` is its length. Valid until the next call with this session.
//
// # Safety
// `session` is that of a turn; `len` points to a place.
const uint8_t *escape_input(const EscapeSession *session, uintptr_t *len);

// Takes the first bytes off the input.
//
// # Safety
// `session` is that of a turn.
void escape_consume(EscapeSession *session, uintptr_t bytes);

// Whether the client has sent its last byte and it was consumed: 1 or 0.
//
// # Safety
// `session` is that of a turn.
int escape_at_end(const EscapeSession *session);

// Bytes that can be written in this turn.
//
// # Safety
// `session` is that of a turn.
uintptr_t escape_room(const EscapeSession *session);

// Writes as much as there is room for; returns how many bytes.
//
// # Safety
// `session` is that of a turn; `bytes` has `len` bytes.
uintptr_t escape_write(EscapeSession *session, const uint8_t *bytes, uintptr_t len);

// Nothing more will be written: the client sees the end behind what was.
//
// # Safety
// `session` is that of a turn.
void escape_close(EscapeSession *session);

// The slice's state, ESCAPE_STATE_BYTES bytes aligned to 64, zeros in a new slice. Valid until the turn ends.
//
// # Safety
// `session` is that of a turn.
void *escape_state(EscapeSession *session);

#endif  /* ESCAPE_SLICES_H */
