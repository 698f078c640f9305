//! The table: every metric of every process, once.
//!
//! Names begin with the part that tells them and end with their unit; counters end with `_total`.

use crate::definition::{Definition, Kind, Part};

/// Makes [`Metric`] and [`TABLE`] of one line per metric.
macro_rules! table {
    ($($metric:ident $kind:ident $name:literal [$($part:ident)+] $({$label:literal})? $help:literal)+) => {
        /// A metric; the [`TABLE`] says what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $metric,)+
        }

        /// Every metric, in the order in which they are told.
        pub const TABLE: &[Definition] = &[$(Definition {
            metric: Metric::$metric,
            parts: &[$(Part::$part),+],
            kind: Kind::$kind,
            name: $name,
            label: table!(@label $($label)?),
            help: $help,
        }),+];
    };
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
}

table! {
    ProcessCpu Counter "process_cpu_seconds_total" [Orchestrator Edge Node]
        "Processor time of the process, user and system."
    ProcessResident Gauge "process_resident_memory_bytes" [Orchestrator Edge Node]
        "Memory of the process that is present."
    LinkHandshakes Counter "escape_link_handshakes_total" [Orchestrator Edge Node] {"outcome"}
        "Connections that others made to this process, by how their handshake ended."

    OrchestratorNodes Gauge "escape_orchestrator_nodes" [Orchestrator] {"state"}
        "Nodes: up, dead, linked (of those up), suspected."
    OrchestratorGroups Gauge "escape_orchestrator_groups" [Orchestrator] {"mode"}
        "Groups by mode; lost: at any time since the store was made."
    OrchestratorSlices Gauge "escape_orchestrator_slices" [Orchestrator] {"state"}
        "Slices as nodes report them: protected, solo (one copy), standby (images)."
    OrchestratorSlicesLost Counter "escape_orchestrator_slices_lost_total" [Orchestrator]
        "Slices of groups that were lost, by their owners' last reports."
    OrchestratorSlicesQuarantined Counter "escape_orchestrator_slices_quarantined_total" [Orchestrator]
        "Slices that were quarantined."
    OrchestratorUnprotected Gauge "escape_orchestrator_unprotected_seconds" [Orchestrator]
        "How long the group that has rested on one copy for longest has done so."
    OrchestratorHeldFrames Gauge "escape_orchestrator_held_frames" [Orchestrator]
        "Frames that the nodes' valves hold."
    OrchestratorHeldAge Gauge "escape_orchestrator_held_age_seconds" [Orchestrator]
        "Age of the oldest of them."
    OrchestratorFailovers Counter "escape_orchestrator_failovers_total" [Orchestrator]
        "Failovers."
    OrchestratorFailoverPlugged Gauge "escape_orchestrator_last_failover_plugged_seconds" [Orchestrator]
        "Last failover: from the decision to the last group plugged; missing until then."
    OrchestratorFailoverProtected Gauge "escape_orchestrator_last_failover_protected_seconds" [Orchestrator]
        "Last failover: from the decision to the last group protected again; missing until then."
    OrchestratorRevision Gauge "escape_orchestrator_store_revision" [Orchestrator]
        "Revision of the store."
    OrchestratorTransactions Gauge "escape_orchestrator_transactions_waiting" [Orchestrator]
        "Transactions that wait for the store."
    OrchestratorEdgeLinked Gauge "escape_orchestrator_edge_linked" [Orchestrator]
        "1 while the edge has a link, else 0."
    HeartbeatsRefused Counter "escape_heartbeats_refused_total" [Orchestrator Node] {"cause"}
        "Datagrams that were no heartbeat of this cell; a node does not tell malformed from forged ones."
    EventsDropped Counter "escape_events_dropped_total" [Orchestrator Edge]
        "Events that were not written because their reader was too slow."

    EdgeFramesSent Counter "escape_edge_frames_sent_total" [Edge] {"node"}
        "Frames of a node that went on to clients."
    EdgeFramesDropped Counter "escape_edge_frames_dropped_total" [Edge] {"node"}
        "Frames of a node that were dropped: it is not the flow's owner."
    EdgeGroups Gauge "escape_edge_groups" [Edge] {"node"}
        "Groups whose flows are steered to a node."
    EdgePassedAfterDeposed Counter "escape_edge_passed_after_deposed_frames_total" [Edge] {"node"}
        "Frames let through for a node after its last group was flipped away. Must stay 0."
    EdgeSteered Counter "escape_edge_frames_steered_total" [Edge]
        "Frames of clients that were sent to their owner."
    EdgeMirrored Counter "escape_edge_frames_mirrored_total" [Edge]
        "Copies of these that were sent to a standby."
    EdgePlaced Counter "escape_edge_flows_placed_total" [Edge]
        "SYNs of new flows that were given a group."
    EdgeRefused Counter "escape_edge_frames_refused_total" [Edge] {"cause"}
        "Frames that were dropped, other than those of nodes."
    EdgeFlowChanges Gauge "escape_edge_flow_changes_waiting" [Edge]
        "Changes of single flows that wait to be made."
    EdgeFlowChangesDropped Counter "escape_edge_flow_changes_dropped_total" [Edge]
        "Changes of single flows that were given up because too many waited."
    EdgeArp Counter "escape_edge_arp_frames_total" [Edge] {"fate"}
        "ARP frames on the uplink."

    NodeSlices Gauge "escape_node_slices" [Node] {"state"}
        "Slices: protected, solo (one copy), standby (images for others)."
    NodeGroups Gauge "escape_node_groups" [Node] {"state"}
        "Groups: owned; of these unpaired (without standby, or gate not open)."
    NodeGuestRunning Gauge "escape_node_guest_running" [Node]
        "1 while the guest runs, else 0."
    NodeHeldFrames Gauge "escape_node_held_frames" [Node]
        "Frames that the valve holds."
    NodeHeldAge Gauge "escape_node_held_age_seconds" [Node]
        "Age of the oldest of them."
    NodeTurns Counter "escape_node_turns_total" [Node]
        "Turns of the data thread."
    NodeCheckpoints Counter "escape_node_checkpoints_total" [Node]
        "Checkpoints sent."
    NodeCheckpointBytes Counter "escape_node_checkpoint_bytes_total" [Node]
        "Bytes of their bodies."
    NodeFullCopies Counter "escape_node_full_copies_total" [Node]
        "Full copies sent for new standbys."
    NodeFullCopyBytes Counter "escape_node_full_copy_bytes_total" [Node]
        "Bytes of their bodies."
    NodeBulkPauses Counter "escape_node_bulk_pauses_total" [Node]
        "Full copies after which the next ones waited for their share of the link."
    NodeApplied Counter "escape_node_checkpoints_applied_total" [Node]
        "Checkpoints applied for others."
    NodeRefused Counter "escape_node_checkpoints_refused_total" [Node]
        "Checkpoints of others refused."
    NodeReleased Counter "escape_node_frames_released_total" [Node]
        "Frames released after an acknowledgement."
    NodeTapWriteFailed Counter "escape_node_tap_write_failures_total" [Node]
        "Frames that the tap did not take; TCP repeats them."
    NodeQuarantined Counter "escape_node_slices_quarantined_total" [Node]
        "Slices given up, as owner or as standby."
    NodeGuestDown Counter "escape_node_guest_failures_total" [Node]
        "Times that the guest was found dead or hung."
    NodeBindingsRefused Counter "escape_node_bindings_refused_total" [Node]
        "Bindings of the guest that were refused."
    NodeInbound Counter "escape_node_inbound_frames_total" [Node] {"fate"}
        "Inbound frames that did not go to the guest at once: gated (kept), syn_not_owned and rx_backlog_full (dropped)."
    NodeBeforeGate Counter "escape_node_frames_before_gate_total" [Node]
        "Frames of owned groups that came before their gate was closed. Must stay 0."
    LinkMessages Counter "escape_node_link_messages_total" [Node] {"direction"}
        "Messages over commit links to other nodes."
    LinkBytes Counter "escape_node_link_bytes_total" [Node] {"direction"}
        "Their bytes, before encryption."
    ValveFrames Counter "escape_valve_frames_total" [Node] {"fate"}
        "Frames of the guest: held, or let out at once and why."
    ValveHeldFrames Counter "escape_valve_held_frames_total" [Node] {"end"}
        "How held frames ended: released, discarded (with their slice), expired."
    ValveReleasedBytes Counter "escape_valve_released_bytes_total" [Node]
        "Bytes of released frames."
    ValveDropped Counter "escape_valve_dropped_frames_total" [Node] {"cause"}
        "Frames of the guest that were dropped."
    ValveBreaches Counter "escape_valve_breaches_total" [Node]
        "Frames whose numbers contradicted the committed state. Must stay 0."
    ValveQuarantined Counter "escape_valve_slices_quarantined_total" [Node]
        "Slices of this owner that were quarantined."
    Captures Counter "escape_capture_captures_total" [Node] {"outcome"}
        "Captures: checkpoint (of these full), unchanged, referenced (put off)."
    CaptureRetries Counter "escape_capture_retries_total" [Node]
        "Tries lost because the guest took a reference meanwhile."
    CaptureHolds Counter "escape_capture_holds_total" [Node]
        "Slots that the guest was asked to leave alone for a capture."
    CaptureHanging Counter "escape_capture_hanging_references_total" [Node]
        "References that were held too long."
    CaptureLies Counter "escape_capture_metadata_refused_total" [Node]
        "Metadata of the guest that made no sense."
    CaptureCopiedBytes Counter "escape_capture_copied_bytes_total" [Node]
        "Bytes of live ranges that were copied."
    CaptureLines Counter "escape_capture_changed_lines_total" [Node]
        "Changed lines of 64 bytes that were sent."
    CaptureBodyBytes Counter "escape_capture_body_bytes_total" [Node]
        "Bytes of the bodies that carried them."
    Images Counter "escape_images_total" [Node] {"event"}
        "Images kept for others: created, freed, installed (into the arena)."
    ImageCheckpoints Counter "escape_image_checkpoints_total" [Node] {"outcome"}
        "Checkpoints for images: applied, gap (one before is missing), refused."
    ImageBytes Counter "escape_image_bytes_total" [Node] {"event"}
        "Bytes applied to images and installed into the arena."
    Ingress Counter "escape_ingress_frames_total" [Node] {"fate"}
        "Frames from mirror and gate: what became of them."
    IngressFlowsExpired Counter "escape_ingress_flows_expired_total" [Node]
        "Flows without a slice that were forgotten."
    Tombstones Counter "escape_tombstones_total" [Node] {"event"}
        "Closed connections that are remembered, and what was done with late segments of theirs."
    VmFrames Counter "escape_vm_frames_total" [Node] {"direction"}
        "Frames out of the guest (tx; tx_segmented: those of them that the tap makes many packets of) and into it (rx)."
    VmBytes Counter "escape_vm_frame_bytes_total" [Node] {"direction"}
        "Their bytes, virtio-net header included."
    VmFramesRefused Counter "escape_vm_frames_refused_total" [Node] {"cause"}
        "Frames and buffers that made no sense, or for which there was no buffer."
    VmInterrupts Counter "escape_vm_interrupts_total" [Node]
        "Interrupts of virtio-net."
    VmExits Counter "escape_vm_exits_total" [Node] {"kind"}
        "Exits of the vCPU to this process."
    VmLeases Gauge "escape_vm_leases" [Node]
        "Leases mapped into the guest."
    VmBoots Counter "escape_vm_boots_total" [Node]
        "Times that the guest was started."
    VmConsoleDropped Counter "escape_vm_console_dropped_bytes_total" [Node]
        "Bytes of console output that were dropped."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let mut names = BTreeSet::new();
        for line in TABLE {
            assert!(names.insert(line.name), "{} is there twice", line.name);
            let legal = line.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(legal, "{}", line.name);
            assert_eq!(line.name.ends_with("_total"), line.kind == Kind::Counter, "{}", line.name);
            assert!(line.help.ends_with('.') && !line.help.contains(['\n', '|', '\\']), "{}", line.help);
            assert!(!line.name.contains("_us") && !line.name.contains("_ms"), "{}: seconds", line.name);
        }
    }
}
