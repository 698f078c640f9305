//! How far a configuration goes: which faults may happen how often, and what is a step of its own.

/// What is left of each kind of happening. All of it is part of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Sessions that clients may still open, per group.
    pub opens: [u8; 2],
    /// Requests per session, its close not counted.
    pub requests: u8,
    /// Clients may close.
    pub closes: u8,
    /// Packets that clients send again although they were served.
    pub repeats: u8,
    /// Processes of nodes that die, their memory with them.
    pub crashes: u8,
    /// Dead processes that start again.
    pub starts: u8,
    /// Nodes declared dead although they run (a pause, a partition).
    pub false_deaths: u8,
    /// Connections between nodes that break.
    pub resets: u8,
    /// Connections to the orchestrator that break.
    pub control_resets: u8,
    /// Orchestrators that die (another one starts at once).
    pub orchestrator_crashes: u8,
    /// Edge daemons that die (another one starts at once).
    pub edge_crashes: u8,
    /// Guests that die under a VMM that goes on.
    pub guest_crashes: u8,
    /// Times that a node's timers run out: what had no answer is sent again.
    pub ticks: u8,
    /// Times that a node notices that its loop has paused.
    pub pauses: u8,
    /// Times that a node says which leases it uses.
    pub reports: u8,
    /// Times that the orchestrator gives up waiting for lost copies.
    pub hopes: u8,
    /// Messages lost, the connection staying.
    pub losses: u8,
    /// Messages that come twice.
    pub doubles: u8,
    /// Sessions that an operator moves to their standby.
    pub moves: u8,
}

/// A configuration.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What may happen.
    pub budget: Budget,
    /// Sessions opened in each group before the exploration begins.
    pub opened: [u8; 2],
    /// Requests that a client may have sent beyond the replies that it has seen.
    pub window: u8,
    /// Applying a checkpoint takes a step of its own (else it is done with the arrival).
    pub slow_apply: bool,
    /// Closing a gate and plugging a slice take steps of their own.
    pub slow_gate: bool,
    /// Messages from and to the edge take steps of their own.
    pub slow_edge: bool,
    /// An owner replaces a standby that is up but has lost its link.
    pub replaces: bool,
    /// A process that learns of its death starts over with nothing (else it keeps its images and claims its groups).
    pub starts_over: bool,
    /// Slots per lease: few, so that slots are used again.
    pub slots: u32,
}

const NOTHING: Budget = Budget {
    opens: [0; 2],
    requests: 0,
    closes: 0,
    repeats: 0,
    crashes: 0,
    starts: 0,
    false_deaths: 0,
    resets: 0,
    control_resets: 0,
    orchestrator_crashes: 0,
    edge_crashes: 0,
    guest_crashes: 0,
    ticks: 0,
    pauses: 0,
    reports: 0,
    hopes: 0,
    losses: 0,
    doubles: 0,
    moves: 0,
};

const BASE: Bounds = Bounds {
    name: "",
    about: "",
    budget: NOTHING,
    opened: [1, 0],
    window: 1,
    slow_apply: false,
    slow_gate: false,
    slow_edge: false,
    replaces: false,
    starts_over: false,
    slots: 2,
};

impl Bounds {
    /// All configurations.
    pub const ALL: [Self; 22] = [
        Self {
            name: "kill",
            about: "nodes die, one after the other or at once",
            budget: Budget { requests: 1, crashes: 2, ..NOTHING },
            ..BASE
        },
        Self {
            name: "join",
            about: "a node dies and another life of it joins; no slices",
            budget: Budget { crashes: 1, starts: 1, ..NOTHING },
            opened: [0, 0],
            ..BASE
        },
        Self {
            name: "restart",
            about: "a node dies and starts again, perhaps before anybody noticed",
            budget: Budget { requests: 1, crashes: 1, starts: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "amnesia",
            about: "a session is opened while a node dies and starts again, or is declared dead and starts over",
            budget: Budget { opens: [1, 0], crashes: 1, starts: 1, false_deaths: 1, ..NOTHING },
            opened: [0, 0],
            slow_apply: true,
            starts_over: true,
            ..BASE
        },
        Self {
            name: "zombie",
            about: "a node is declared dead, or pauses, and goes on",
            budget: Budget { requests: 2, false_deaths: 1, pauses: 1, ..NOTHING },
            window: 2,
            slow_apply: true,
            ..BASE
        },
        Self {
            name: "claim",
            about: "nodes are declared dead, join anew with their memory, and claim their groups, or come too late",
            budget: Budget { requests: 1, false_deaths: 2, hopes: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "forgotten",
            about: "owner and standby are declared dead; one of them has started over and remembers nothing",
            budget: Budget { crashes: 1, starts: 1, false_deaths: 1, hopes: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "leases",
            about: "a lease drains while its slices live elsewhere, is given again, and its slots are used again",
            budget: Budget { opens: [1, 1], closes: 1, crashes: 1, starts: 1, reports: 3, ..NOTHING },
            slots: 1,
            opened: [1, 0],
            ..BASE
        },
        Self {
            name: "cut",
            about: "a link breaks while a node is declared dead",
            budget: Budget { requests: 1, false_deaths: 1, resets: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "slots",
            about: "sessions end, and their slots are used again",
            budget: Budget { opens: [2, 0], closes: 1, crashes: 1, ..NOTHING },
            opened: [0, 0],
            slots: 1,
            ..BASE
        },
        Self {
            name: "slots-cut",
            about: "the same while a link breaks",
            budget: Budget { opens: [2, 0], closes: 1, repeats: 1, resets: 2, false_deaths: 1, ..NOTHING },
            opened: [0, 0],
            slots: 1,
            ..BASE
        },
        Self {
            name: "gate",
            about: "slow gates, plugs and edge; the edge daemon dies",
            budget: Budget { requests: 1, crashes: 1, edge_crashes: 1, ..NOTHING },
            slow_gate: true,
            slow_edge: true,
            ..BASE
        },
        Self {
            name: "guest",
            about: "guests die under VMMs that go on",
            budget: Budget { requests: 1, guest_crashes: 1, crashes: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "replace",
            about: "a standby that has lost its link is replaced while requests go on",
            budget: Budget { requests: 1, resets: 1, crashes: 1, ticks: 1, ..NOTHING },
            replaces: true,
            ..BASE
        },
        Self {
            name: "orchestrator",
            about: "orchestrators die with a transaction on its way",
            budget: Budget { requests: 1, crashes: 1, orchestrator_crashes: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "unknown",
            about: "outcomes are lost, and what had no answer is asked again",
            budget: Budget { requests: 1, crashes: 1, control_resets: 1, ticks: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "moves",
            about: "a session is moved, and perhaps back, while nodes die or are declared dead",
            budget: Budget { requests: 1, moves: 2, crashes: 1, false_deaths: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "moves-cut",
            about: "a session is moved while links break, to the standby and to the orchestrator",
            budget: Budget { requests: 1, moves: 1, crashes: 1, resets: 1, control_resets: 1, ticks: 1, ..NOTHING },
            slow_apply: true,
            ..BASE
        },
        Self {
            name: "moves-back",
            about: "a session is moved, and perhaps back, while its last checkpoint is under way, its link breaks and its client repeats itself",
            budget: Budget { requests: 1, repeats: 1, moves: 2, resets: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "moves-claim",
            about: "owner and standby of a moved session are declared dead, and one of them brings it back",
            budget: Budget { moves: 1, false_deaths: 2, hopes: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "loss",
            about: "single messages are lost or come twice",
            budget: Budget { requests: 1, crashes: 1, losses: 1, doubles: 1, ..NOTHING },
            ..BASE
        },
        Self {
            name: "pair",
            about: "both groups at work",
            budget: Budget { requests: 1, crashes: 1, ..NOTHING },
            opened: [1, 1],
            ..BASE
        },
    ];

    /// The configuration of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name == name)
    }
}
