//! What a local APIC leaves to a processor that virtualizes it (SDM vol. 3, chapter 30): the delivery of vectors, or the task
//! priority alone.

use super::LocalApic;

impl LocalApic {
    /// Leaves the vectors to hardware that delivers them, or takes them back. Nothing must be in service.
    pub fn delegate_vectors(&mut self, delegated: bool) {
        self.delegated = delegated;
        self.update();
    }

    /// Whether the guest sets the task priority without an exit, from where the caller fetches it.
    pub fn share_priority(&mut self, shared: bool) {
        self.shared_priority = shared;
        self.update();
    }

    /// Task priority.
    pub const fn task_priority(&self) -> u8 {
        self.task_priority
    }

    /// Sets the task priority.
    pub fn set_task_priority(&mut self, value: u8) {
        if value != self.task_priority {
            self.task_priority = value;
            self.update();
        }
    }

    /// The priority class of the vector that the task priority alone holds back, at most the priority's own; 0 if there is none.
    /// Once the priority falls below it, there is something to deliver.
    pub fn held_back(&self) -> u8 {
        let (class, served) = (self.requests.highest() >> 4, self.in_service.highest() >> 4);
        if class > served && class <= self.task_priority >> 4 { class } else { 0 }
    }

    /// Whether hardware delivers the vectors.
    pub const fn delegates_vectors(&self) -> bool {
        self.delegated
    }

    /// Takes all requested vectors out, each with whether it is level-triggered: for hardware that delivers them.
    pub fn take_requests(&mut self, mut take: impl FnMut(u8, bool)) {
        loop {
            let vector = self.requests.highest();
            if vector == 0 {
                break;
            }
            self.requests.remove(vector);
            take(vector, self.level_triggered.contains(vector));
        }
        self.update();
    }
}
