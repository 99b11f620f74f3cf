"""What a node is and can hold, from its sysfs and procfs; and what is wrong with it."""
