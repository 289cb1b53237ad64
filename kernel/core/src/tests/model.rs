//! The reference model: capabilities, objects and pages as plain collections, every operation in one go.

use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec::Vec;

/// A slot: the partition's generation, and the index in its table.
pub type Place = (u64, u64);

/// What a capability names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A range of numbers.
    Range { first: u64, count: u64 },
    /// The object with this generation.
    Object(u64),
}

/// What a capability is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    None,
    Mapped { space: u64, address: u64, rights: Rights },
    Donated { space: u64 },
}

#[derive(Clone, Debug)]
pub struct Capability {
    pub object_type: ObjectType,
    pub rights: Rights,
    pub badge: u64,
    pub target: Target,
    pub parent: Option<Place>,
    pub children: BTreeSet<Place>,
    pub usage: Use,
}

#[derive(Clone, Debug)]
pub struct Object {
    pub object_type: ObjectType,
    pub base: u64,
    pub pages: u64,
    /// Slots, for a partition.
    pub slots: u64,
    pub live: bool,
    pub references: u64,
    /// Ranges donated to it.
    pub donations: Vec<(u64, u64)>,
}

/// What is expected of the engine.
pub struct Model {
    pub capabilities: BTreeMap<Place, Capability>,
    pub objects: BTreeMap<u64, Object>,
    /// RAM: its first address; for each page whether it is the kernel's, and how often it is mapped.
    pub ram: u64,
    pub kernel: Vec<bool>,
    pub mapped: Vec<u32>,
    pub sealed: bool,
    pub generation: u64,
    /// Pages that stopped being the kernel's, to be checked for zeros.
    pub freed: Vec<u64>,
    ending: VecDeque<u64>,
}

/// Arguments of a creation.
#[derive(Clone, Copy, Debug)]
pub struct Creating {
    pub object_type: ObjectType,
    pub offset: u64,
    pub pages: u64,
    pub slots: u64,
}

impl Model {
    pub fn new(ram: u64, pages: u64) -> Self {
        Self {
            capabilities: BTreeMap::new(),
            objects: BTreeMap::new(),
            ram,
            kernel: std::vec![false; pages as usize],
            mapped: std::vec![0; pages as usize],
            sealed: false,
            generation: 0,
            freed: Vec::new(),
            ending: VecDeque::new(),
        }
    }

    /// Pages of RAM in a range of addresses.
    fn pages(&self, first: u64, count: u64) -> impl Iterator<Item = usize> + use<> {
        let (ram, total) = (self.ram, self.kernel.len() as u64);
        (0..count / PAGE_SIZE).filter_map(move |page| {
            let index = (first / PAGE_SIZE + page).checked_sub(ram / PAGE_SIZE)?;
            (index < total).then_some(index as usize)
        })
    }

    fn free(&self, first: u64, count: u64) -> bool {
        self.pages(first, count).count() as u64 == count / PAGE_SIZE
            && self.pages(first, count).all(|page| !self.kernel[page] && self.mapped[page] == 0)
    }

    fn claim(&mut self, first: u64, count: u64) {
        for page in self.pages(first, count) {
            self.kernel[page] = true;
        }
    }

    fn release(&mut self, first: u64, count: u64) {
        for page in self.pages(first, count) {
            self.kernel[page] = false;
            self.freed.push(page as u64);
        }
    }

    fn expect(&self, place: Place, object_type: ObjectType, rights: Rights) -> Result<&Capability, Error> {
        let capability = self.capabilities.get(&place).ok_or(Error::SlotEmpty)?;
        if capability.object_type != object_type {
            Err(Error::WrongType)
        } else if !capability.rights.contains(rights) {
            Err(Error::MissingRight)
        } else {
            Ok(capability)
        }
    }

    fn expect_rights(&self, place: Place, rights: Rights) -> Result<&Capability, Error> {
        let capability = self.capabilities.get(&place).ok_or(Error::SlotEmpty)?;
        if capability.rights.contains(rights) { Ok(capability) } else { Err(Error::MissingRight) }
    }

    /// The destination of a new capability.
    fn vacant(&self, place: Place) -> Result<(), Error> {
        let owner = self.objects.get(&place.0).ok_or(Error::Gone)?;
        if place.1 >= owner.slots {
            Err(Error::SlotOutOfRange)
        } else if !owner.live {
            Err(Error::Gone)
        } else if self.capabilities.contains_key(&place) {
            Err(Error::SlotOccupied)
        } else {
            Ok(())
        }
    }

    /// A capability without a parent.
    pub fn install(&mut self, place: Place, object_type: ObjectType, rights: Rights, target: Target) {
        if let Target::Object(object) = target {
            self.objects.get_mut(&object).expect("an object").references += 1;
        }
        self.capabilities.insert(
            place,
            Capability {
                object_type,
                rights,
                badge: 0,
                target,
                parent: None,
                children: BTreeSet::new(),
                usage: Use::None,
            },
        );
    }

    fn add_child(&mut self, source: Place, place: Place, mut child: Capability) {
        if let Target::Object(object) = child.target {
            self.objects.get_mut(&object).expect("an object").references += 1;
        }
        child.parent = Some(source);
        child.children = BTreeSet::new();
        child.usage = Use::None;
        self.capabilities.insert(place, child);
        self.capabilities.get_mut(&source).expect("a source").children.insert(place);
    }

    pub fn derive(&mut self, source: Place, rights: Rights, badge: u64, place: Place) -> Result<(), Error> {
        let mut child = self.expect_rights(source, Rights::GRANT)?.clone();
        if self.sealed && matches!(child.object_type, ObjectType::IoPorts | ObjectType::Interrupt | ObjectType::Window)
        {
            return Err(Error::Sealed);
        }
        self.vacant(place)?;
        child.rights &= rights;
        if child.badge == 0 {
            child.badge = badge;
        }
        self.add_child(source, place, child);
        Ok(())
    }

    pub fn bind(&mut self, source: Place, rights: Rights, badge: u64, place: Place) -> Result<(), Error> {
        if self.capabilities.contains_key(&place) {
            return Err(Error::SlotOccupied);
        }
        let mut child = self.expect_rights(source, Rights::empty())?.clone();
        child.rights &= rights;
        if child.badge == 0 {
            child.badge = badge;
        }
        self.add_child(source, place, child);
        Ok(())
    }

    pub fn derive_range(
        &mut self,
        source: Place,
        rights: Rights,
        first: u64,
        count: u64,
        place: Place,
    ) -> Result<(), Error> {
        let mut child = self.expect_rights(source, Rights::GRANT)?.clone();
        let Target::Range { first: whole_first, count: whole_count } = child.target else {
            return Err(Error::WrongType);
        };
        let memory = child.object_type == ObjectType::Memory;
        if memory && (!first.is_multiple_of(PAGE_SIZE) || !count.is_multiple_of(PAGE_SIZE)) {
            return Err(Error::Misaligned);
        }
        if !memory && self.sealed {
            return Err(Error::Sealed);
        }
        if count == 0 {
            return Err(Error::Misaligned);
        }
        if first.checked_add(count).is_none_or(|end| end > whole_count) {
            return Err(Error::OutOfRange);
        }
        self.vacant(place)?;
        child.rights &= rights;
        child.target = Target::Range { first: whole_first + first, count };
        self.add_child(source, place, child);
        Ok(())
    }

    /// Answers the new object's generation.
    pub fn create(&mut self, source: Place, creating: Creating, rights: Rights, place: Place) -> Result<u64, Error> {
        if self.sealed {
            return Err(Error::Sealed);
        }
        let memory = self.expect(source, ObjectType::Memory, Rights::CREATE)?;
        let Target::Range { first, count } = memory.target else {
            return Err(Error::WrongType);
        };
        if matches!(
            creating.object_type,
            ObjectType::None | ObjectType::Memory | ObjectType::IoPorts | ObjectType::Interrupt
        ) {
            return Err(Error::BadArgument);
        }
        if !creating.offset.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misaligned);
        }
        if creating.pages == 0 {
            return Err(Error::BadArgument);
        }
        if creating.offset + creating.pages * PAGE_SIZE > count {
            return Err(Error::OutOfRange);
        }
        self.vacant(place)?;
        let base = first + creating.offset;
        if !self.free(base, creating.pages * PAGE_SIZE) {
            return Err(Error::MemoryInUse);
        }
        self.claim(base, creating.pages * PAGE_SIZE);
        self.generation += 1;
        self.objects.insert(
            self.generation,
            Object {
                object_type: creating.object_type,
                base,
                pages: creating.pages,
                slots: creating.slots,
                live: true,
                references: 0,
                donations: Vec::new(),
            },
        );
        let child = Capability {
            object_type: creating.object_type,
            rights,
            badge: 0,
            target: Target::Object(self.generation),
            parent: None,
            children: BTreeSet::new(),
            usage: Use::None,
        };
        self.add_child(source, place, child);
        Ok(self.generation)
    }

    /// What refuses a mapping, apart from the page tables.
    pub fn check_map(&self, source: Place, space: u64) -> Result<(), Error> {
        let capability = self.capabilities.get(&source).ok_or(Error::SlotEmpty)?;
        if capability.usage != Use::None {
            return Err(Error::AlreadyMapped);
        }
        if !self.objects.get(&space).is_some_and(|space| space.live) {
            return Err(Error::Gone);
        }
        if let (ObjectType::Memory, Target::Range { first, count }) = (capability.object_type, capability.target)
            && self.pages(first, count).any(|page| self.kernel[page])
        {
            return Err(Error::MemoryInUse);
        }
        Ok(())
    }

    pub fn map(&mut self, source: Place, space: u64, address: u64, rights: Rights) {
        self.change_mapping(source, |count| count + 1);
        self.capabilities.get_mut(&source).expect("checked").usage = Use::Mapped { space, address, rights };
    }

    fn change_mapping(&mut self, place: Place, change: impl Fn(u32) -> u32) {
        let capability = &self.capabilities[&place];
        if let (ObjectType::Memory, Target::Range { first, count }) = (capability.object_type, capability.target) {
            for page in self.pages(first, count) {
                self.mapped[page] = change(self.mapped[page]);
            }
        }
    }

    /// The capabilities that are mapped in a space, with addresses and bytes.
    pub fn mappings(&self, space: u64) -> impl Iterator<Item = (u64, u64)> {
        self.capabilities.values().filter_map(move |capability| match (capability.usage, capability.target) {
            (Use::Mapped { space: there, address, .. }, Target::Range { count, .. })
                if there == space && capability.object_type == ObjectType::Memory =>
            {
                Some((address, count))
            }
            _ => None,
        })
    }

    pub fn unmap(&mut self, place: Place) -> Result<(), Error> {
        match self.capabilities.get(&place).map(|capability| capability.usage) {
            Some(Use::Mapped { .. }) => {
                self.end_use(place);
                Ok(())
            }
            _ => Err(Error::NotMapped),
        }
    }

    fn end_use(&mut self, place: Place) {
        if matches!(self.capabilities[&place].usage, Use::Mapped { .. }) {
            self.change_mapping(place, |count| count - 1);
        }
        self.capabilities.get_mut(&place).expect("there").usage = Use::None;
    }

    pub fn donate(&mut self, source: Place, space: u64) -> Result<(), Error> {
        let capability = self.expect(source, ObjectType::Memory, Rights::CREATE)?.clone();
        if !self.objects.get(&space).is_some_and(|space| space.live) {
            return Err(Error::Gone);
        }
        let Target::Range { first, count } = capability.target else {
            return Err(Error::WrongType);
        };
        if capability.usage != Use::None || !self.free(first, count) {
            return Err(Error::MemoryInUse);
        }
        self.claim(first, count);
        self.capabilities.get_mut(&source).expect("checked").usage = Use::Donated { space };
        self.objects.get_mut(&space).expect("checked").donations.push((first, count));
        Ok(())
    }

    /// What refuses to zero a range of pages.
    pub fn check_zero(&self, source: Place, offset: u64, length: u64) -> Result<u64, Error> {
        let capability = self.expect(source, ObjectType::Memory, Rights::WRITE)?;
        let Target::Range { first, count } = capability.target else {
            return Err(Error::WrongType);
        };
        if offset + length > count {
            return Err(Error::OutOfRange);
        }
        let all = self.pages(first + offset, length).count() as u64 == length / PAGE_SIZE;
        if !all || self.pages(first + offset, length).any(|page| self.kernel[page]) {
            return Err(Error::MemoryInUse);
        }
        Ok(first + offset)
    }

    pub fn revoke(&mut self, place: Place) -> Result<(), Error> {
        self.expect_rights(place, Rights::REVOKE)?;
        while let Some(&child) = self.capabilities[&place].children.first() {
            self.remove(child);
        }
        self.end_objects();
        Ok(())
    }

    pub fn delete(&mut self, place: Place) -> Result<(), Error> {
        if !self.capabilities.contains_key(&place) {
            return Err(Error::SlotEmpty);
        }
        self.remove(place);
        self.end_objects();
        Ok(())
    }

    fn remove(&mut self, place: Place) {
        if let Use::Donated { space } = self.capabilities[&place].usage {
            self.ending.push_back(space);
        }
        self.end_use(place);
        let capability = self.capabilities.remove(&place).expect("there");
        for child in &capability.children {
            self.capabilities.get_mut(child).expect("a child").parent = capability.parent;
        }
        if let Some(parent) = capability.parent {
            let parent = self.capabilities.get_mut(&parent).expect("a parent");
            parent.children.remove(&place);
            parent.children.extend(capability.children);
        }
        if let Target::Object(id) = capability.target {
            let object = self.objects.get_mut(&id).expect("an object");
            object.references -= 1;
            if object.references == 0 {
                self.ending.push_back(id);
            }
        }
    }

    fn end_objects(&mut self) {
        while let Some(id) = self.ending.pop_front() {
            let Some(object) = self.objects.get_mut(&id) else {
                continue;
            };
            if object.live {
                object.live = false;
                let donations = std::mem::take(&mut object.donations);
                let table: Vec<Place> =
                    self.capabilities.range((id, 0)..=(id, u64::MAX)).map(|(&place, _)| place).collect();
                for place in table {
                    self.remove(place);
                }
                let used: Vec<Place> = self
                    .capabilities
                    .iter()
                    .filter(|(_, capability)| match capability.usage {
                        Use::None => false,
                        Use::Mapped { space, .. } | Use::Donated { space } => space == id,
                    })
                    .map(|(&place, _)| place)
                    .collect();
                for place in used {
                    self.end_use(place);
                }
                for (first, count) in donations {
                    self.release(first, count);
                }
            }
            if self.objects[&id].references == 0 {
                let object = self.objects.remove(&id).expect("there");
                self.release(object.base, object.pages * PAGE_SIZE);
            }
        }
    }
}
