//! Open links and what they are called here.

use escape_link::{Link, LinkError};
use mio::event::Event;
use mio::{Registry, Token};
use std::ops::Range;

/// Links of one process, each with a name of type `N` and one of the tokens from `first` on. Bounded: a full table
/// refuses the new link, its peer tries again.
#[derive(Debug)]
pub(crate) struct LinkTable<N> {
    first: usize,
    places: Vec<Option<Named<N>>>,
}

/// A link and its name.
#[derive(Debug)]
pub(crate) struct Named<N> {
    pub(crate) name: N,
    pub(crate) link: Link,
}

/// Place of a link in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceNo(usize);

impl<N> LinkTable<N> {
    pub(crate) fn new(first: usize, links_max: usize) -> Self {
        Self { first, places: (0..links_max).map(|_| None).collect() }
    }

    /// The tokens whose events belong to [`Self::on_event`].
    pub(crate) fn tokens(&self) -> Range<usize> {
        self.first..self.first + self.places.len()
    }

    /// Takes a link in and registers it.
    pub(crate) fn insert(&mut self, registry: &Registry, mut link: Link, name: N) -> Option<PlaceNo> {
        let place = self.places.iter().position(Option::is_none)?;
        link.register(registry, Token(self.first + place)).ok()?;
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(Named { name, link });
        }
        Some(PlaceNo(place))
    }

    /// The poll has news of a link.
    pub(crate) fn on_event(&mut self, event: &Event) -> Option<(PlaceNo, Result<(), LinkError>)> {
        let place = PlaceNo(event.token().0.checked_sub(self.first)?);
        let result = self.get_mut(place)?.link.on_event(event);
        Some((place, result))
    }

    pub(crate) fn get_mut(&mut self, place: PlaceNo) -> Option<&mut Named<N>> {
        self.places.get_mut(place.0)?.as_mut()
    }

    /// Takes a link out; dropping it says farewell to the peer.
    pub(crate) fn remove(&mut self, registry: &Registry, place: PlaceNo) -> Option<Named<N>> {
        let mut gone = self.places.get_mut(place.0)?.take()?;
        // The socket is closed with the link; a failure here changes nothing.
        let _ = gone.link.deregister(registry);
        Some(gone)
    }

    /// The place of the first link whose name fits.
    pub(crate) fn find(&self, fits: impl Fn(&N) -> bool) -> Option<PlaceNo> {
        self.places.iter().position(|place| place.as_ref().is_some_and(|named| fits(&named.name))).map(PlaceNo)
    }

    /// All places that are taken.
    pub(crate) fn taken(&self) -> impl Iterator<Item = PlaceNo> + use<N> {
        let taken: Vec<_> = self.places.iter().enumerate().filter(|(_, place)| place.is_some()).collect();
        taken.into_iter().map(|(place, _)| PlaceNo(place)).collect::<Vec<_>>().into_iter()
    }

    /// All links.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PlaceNo, &mut Named<N>)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(place, named)| Some((PlaceNo(place), named.as_mut()?)))
    }

    /// All links.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Named<N>> {
        self.places.iter().flatten()
    }
}
