//! Connections of unmodified servers as slices between requests.
//!
//! `ESCAPE_PORTS=80 LD_PRELOAD=libescape_preload.so SERVER …`, in a guest of a cell. The library stands between a server and the C library. Each
//! connection that the server accepts on one of the ports becomes a slice; a slice that comes from another machine comes out of
//! `accept`, as a client that has just called.
//!
//! For servers of one process and one thread that poll non-blocking sockets (select, poll, epoll) and keep nothing of a connection between two
//! requests. A request is answered whole or not at all: what the server reads stays in the slice until the answer is written, and both
//! change in one step when the server waits again. So a request that was at work when its machine died is given to the next server anew. An answer
//! that is longer than the slice's room (64 KiB) cannot be told in one step: a connection whose machine dies within it is reset. Requests
//! that come before the answer to the last one (pipelining) are answered, but may be lost with the machine.

mod connections;
mod hooks;
mod server;
