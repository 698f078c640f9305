//! Questions of people over a link.

use super::node_link::Who;
use super::process::OrchestratorProcess;
use crate::link_table::PlaceNo;
use escape_link::LinkError;
use escape_proto::{OperatorReply, OperatorRequest};

/// Operators linked at once. Full: the oldest is dropped, so that none can keep others out or take nodes' places.
const OPERATORS_MAX: usize = 4;

impl OrchestratorProcess {
    /// Makes room for one more operator.
    pub(super) fn limit_operators(&mut self) {
        let operators: Vec<(u64, PlaceNo)> = self
            .links
            .iter_mut()
            .filter(|(_, named)| named.name.who == Who::Operator)
            .map(|(place, named)| (named.name.id.0, place))
            .collect();
        if operators.len() >= OPERATORS_MAX
            && let Some((_, oldest)) = operators.into_iter().min_by_key(|(id, _)| *id)
        {
            self.drop_link(oldest, None);
        }
    }

    /// Answers one question of an operator, if it has asked; further ones have their turns later.
    pub(super) fn answer_operator(&mut self, place: PlaceNo) {
        let Some(named) = self.links.get_mut(place) else { return };
        let answered = match named.link.next_message::<OperatorRequest>() {
            Ok(None) => return,
            Ok(Some(OperatorRequest::Status)) => self.reply(place, &OperatorReply::Status(self.cell_status())),
            Ok(Some(OperatorRequest::Move { what, to })) => {
                let operator = named.name.id;
                self.wish(operator, what, to);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match answered {
            Ok(()) => self.more = true,
            Err(error) => self.drop_link(place, Some(&error)),
        }
    }

    pub(super) fn reply(&mut self, place: PlaceNo, reply: &OperatorReply) -> Result<(), LinkError> {
        self.links.get_mut(place).map_or(Ok(()), |named| named.link.send(reply))
    }
}
