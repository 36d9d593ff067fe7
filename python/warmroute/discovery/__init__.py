"""Where endpoints come from: each source feeds whole sets to the same small sink."""
