//! Which processor features, model-specific registers and control-register values a guest is given.
