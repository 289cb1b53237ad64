//! Random arguments.

use super::World;
use crate::tests::model::{Place, Target};
use crate::tests::random::Random;
use bulkhead_abi::{ObjectType, Rights};
use std::vec::Vec;

impl World {
    pub(super) fn random_partition(&self, random: &mut Random) -> u64 {
        if random.one_in(3) {
            return self.init;
        }
        let partitions: Vec<u64> = self
            .model
            .objects
            .iter()
            .filter(|(_, object)| object.object_type == ObjectType::Partition && object.live)
            .map(|(&id, _)| id)
            .collect();
        random.choose(&partitions).unwrap_or(self.init)
    }

    /// A slot of the partition, most often one with a capability.
    pub(super) fn random_place(&self, random: &mut Random, partition: u64) -> Place {
        let slots = self.model.objects[&partition].slots;
        let index = random.below(slots + 1);
        if random.one_in(12) {
            return (partition, index);
        }
        let occupied = self.model.capabilities.range((partition, index)..=(partition, u64::MAX)).next();
        occupied.map_or((partition, index), |(&place, _)| place)
    }

    /// A slot with a capability of this type, if the partition has one.
    pub(super) fn random_typed(&self, random: &mut Random, partition: u64, types: &[ObjectType]) -> Option<Place> {
        let places: Vec<Place> = self
            .model
            .capabilities
            .range((partition, 0)..=(partition, u64::MAX))
            .filter(|(_, capability)| types.contains(&capability.object_type))
            .map(|(&place, _)| place)
            .collect();
        random.choose(&places)
    }

    /// A slot for a new capability, most often an empty one.
    pub(super) fn random_destination(&self, random: &mut Random, caller: u64) -> Place {
        let owner = if random.one_in(2) {
            caller
        } else {
            // Another partition: as the receiver of a message, or by a capability to it (which can be dead).
            match self.random_typed(random, caller, &[ObjectType::Partition]) {
                Some(place) if random.one_in(2) => match self.model.capabilities[&place].target {
                    Target::Object(object) => object,
                    Target::Range { .. } => caller,
                },
                _ => self.random_partition(random),
            }
        };
        let slots = self.model.objects[&owner].slots;
        for _ in 0..8 {
            let place = (owner, random.below(slots));
            if !self.model.capabilities.contains_key(&place) {
                return place;
            }
        }
        (owner, random.below(slots + 1))
    }

    pub(super) fn random_rights(&self, random: &mut Random) -> Rights {
        if random.one_in(5) { Rights::from_bits_truncate(random.next() as u16) } else { Rights::all() }
    }
}
