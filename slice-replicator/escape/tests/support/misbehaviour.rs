//! The ways in which the fake service can be wrong; each must make the verdict "fail".

/// What one connection does wrong, once, after the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Nothing.
    #[default]
    None,
    /// A request is neither executed nor answered.
    DropRequest,
    /// A request is executed, its reply never comes.
    SwallowReply,
    /// A reply is sent twice.
    RepeatReply,
    /// A request is executed twice, answered once.
    ExecuteTwice,
    /// One byte of a body is wrong.
    WrongByte,
    /// One digit of the chain is wrong.
    WrongChain,
    /// The connection is reset.
    Reset,
    /// The connection is closed in an orderly way, but too early.
    Close,
    /// The latest three requests are forgotten.
    RollBack,
    /// A stream byte to the client is wrong.
    StreamWrongByte,
    /// The stream's trailer says that a byte is missing.
    StreamShortTrailer,
}
