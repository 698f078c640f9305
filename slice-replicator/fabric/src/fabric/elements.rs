//! Flows and buckets as elements of the kernel's maps.

use std::collections::BTreeMap;

use super::flow::KEY_LEN;
use super::placement::{group_of, mark_of};
use super::{BUCKETS, FLOWS_MAX, FabricError, Flow, PlaceBy};
use crate::GroupId;
use crate::nft::SetElement;

/// Bucket number and mark, both in host order.
pub(super) type BucketElement = ([u8; 4], [u8; 4]);

/// A flow's key and its mark in host order.
pub(super) type FlowElement = ([u8; KEY_LEN], [u8; 4]);

/// Elements of the map `bucket`; if a bucket is named twice, the last counts.
pub(super) fn bucket_elements(buckets: &[(u16, GroupId)]) -> Result<Vec<BucketElement>, FabricError> {
    let mut marks = BTreeMap::new();
    for (bucket, group) in buckets {
        if *bucket >= BUCKETS {
            return Err(FabricError::BadBucket { bucket: *bucket });
        }
        marks.insert(*bucket, mark_of(*group)?);
    }
    Ok(marks.into_iter().map(|(bucket, mark)| (u32::from(bucket).to_ne_bytes(), mark.to_ne_bytes())).collect())
}

/// Elements of the map `pair`; if a flow is named twice, the last counts. What stands in it may be sent, so it takes
/// flows of the protected `ports` only (of a client as a whole the rules look at the ports).
pub(super) fn flow_elements(
    flows: &[(Flow, GroupId)],
    ports: &[u16],
    by: PlaceBy,
) -> Result<Vec<FlowElement>, FabricError> {
    if flows.len() > FLOWS_MAX as usize {
        return Err(FabricError::FlowsFull { flows: flows.len() });
    }
    let mut marks = BTreeMap::new();
    for (flow, group) in flows {
        if by == PlaceBy::Flow && !ports.contains(&flow.service_port) {
            return Err(FabricError::UnprotectedPort { port: flow.service_port });
        }
        marks.insert(flow.steered(by).key(), mark_of(*group)?.to_ne_bytes());
    }
    Ok(marks.into_iter().collect())
}

/// An element of the map `pair`; `None` if it is none of ours.
pub(super) fn read_flow(element: &SetElement) -> Option<(Flow, GroupId)> {
    Some((Flow::from_key(&element.key)?, group_of(&element.value)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_last_of_two_counts_and_the_impossible_is_refused() {
        let buckets = bucket_elements(&[(5, 1), (4, 0), (5, 2)]).unwrap();
        let wanted = [(4u32.to_ne_bytes(), 1u32.to_ne_bytes()), (5u32.to_ne_bytes(), 3u32.to_ne_bytes())];
        assert_eq!(buckets, wanted);
        assert!(matches!(bucket_elements(&[(4_096, 0)]), Err(FabricError::BadBucket { bucket: 4_096 })));
        assert!(matches!(bucket_elements(&[(0, u32::MAX)]), Err(FabricError::BadGroup { .. })));
        let flow = Flow::new(Ipv4Addr::LOCALHOST, 1, 2);
        assert!(matches!(
            flow_elements(&vec![(flow, 0); 65_537], &[2], PlaceBy::Flow),
            Err(FabricError::FlowsFull { flows: 65_537 })
        ));
        let [(key, value)] = flow_elements(&[(flow, 7), (flow, 9)], &[2], PlaceBy::Flow).unwrap()[..] else {
            panic!("one flow")
        };
        let of_other_port = flow_elements(&[(flow, 7)], &[3, 4], PlaceBy::Flow);
        assert!(matches!(of_other_port, Err(FabricError::UnprotectedPort { port: 2 })));
        let of_client = flow_elements(&[(flow, 7), (Flow::new(Ipv4Addr::LOCALHOST, 0, 0), 8)], &[3], PlaceBy::Client);
        assert_eq!(of_client.unwrap().len(), 1, "one entry for all flows of a client");
        let element = SetElement { key: key.to_vec(), value: value.to_vec() };
        assert_eq!(read_flow(&element).unwrap(), (flow, 9));
    }
}
